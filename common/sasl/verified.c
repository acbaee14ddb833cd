#include "common/sasl/verified.h"

#include <stdlib.h>

#include "common/base/random.h"
#include "common/sasl/internal.h"

#define WAYS 4
#define SETS (VERIFIED_MAX / WAYS)

struct slot {
    struct verified_tag tag;
    uint64_t until_ms; /* 0 = never used */
};

struct verified {
    uint8_t secret[32];
    uint64_t now_ms;
    struct slot slots[SETS][WAYS];
};

struct verified *verified_new(void)
{
    struct verified *v = xcalloc(1, sizeof(*v));
    random_bytes(v->secret, sizeof(v->secret));
    return v;
}

void verified_free(struct verified *v)
{
    if (v != NULL)
        digest_wipe(v, sizeof(*v));
    free(v);
}

void verified_clock(struct verified *v, uint64_t now_ms)
{
    v->now_ms = now_ms;
}

/* With its length before it, so that no two lists of texts read the same. */
static void add_text(struct buf *b, struct span text)
{
    uint64_t n = text.n;
    buf_add(b, (const char *)&n, sizeof(n));
    buf_add_span(b, text);
}

void verified_tag(const struct verified *v, struct span username, struct span domain, struct span password,
                  const struct sasl_keys *keys, struct verified_tag *out)
{
    struct buf b = {0};
    size_t n = username.n + domain.n + password.n + 256;
    (void)buf_reserve(&b, n); /* it never grows, so one place is to be wiped */
    add_text(&b, username);
    add_text(&b, domain);
    add_text(&b, password);
    add_text(&b, span_make(keys->salt, keys->salt_n));
    add_text(&b, span_make(&keys->iterations, sizeof(keys->iterations)));
    enum digest d = plain_digest(keys);
    add_text(&b, span_make(keys_stored(keys, d), digest_size(d)));
    digest_hmac(DIGEST_SHA256, span_make(v->secret, sizeof(v->secret)), buf_span(&b), out->bytes);
    digest_wipe(b.p, b.n);
    buf_free(&b);
}

/* Tags are as good as random, so their first bytes spread them. */
static unsigned set_of(const struct verified_tag *tag)
{
    return (tag->bytes[0] | (unsigned)tag->bytes[1] << 8) % SETS;
}

bool verified_has(const struct verified *v, const struct verified_tag *tag)
{
    const struct slot *set = v->slots[set_of(tag)];
    bool has = false;
    for (unsigned i = 0; i < WAYS; i++)
        has |= digest_equal(&set[i].tag, tag, sizeof(*tag)) && v->now_ms < set[i].until_ms;
    return has;
}

void verified_keep(struct verified *v, const struct verified_tag *tag)
{
    struct slot *set = v->slots[set_of(tag)], *oldest = set;
    for (unsigned i = 1; i < WAYS; i++) {
        if (set[i].until_ms < oldest->until_ms)
            oldest = &set[i];
    }
    oldest->tag = *tag;
    oldest->until_ms = v->now_ms + VERIFIED_KEEP_MS;
}
