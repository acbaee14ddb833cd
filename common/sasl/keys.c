/* Stored keys: made from a password, written to and read from the text of RFC 5803, one entry per hash:
 *
 *   SCRAM-SHA-1$10000:SALT$STOREDKEY:SERVERKEY SCRAM-SHA-256$... SCRAM-SHA-512$...
 *
 * with base64 inside. Entries may be missing, but not all; those there are have one salt and iteration count.
 */
#include <stdlib.h>

#include "common/base/random.h"
#include "common/base/text.h"
#include "common/sasl/internal.h"

static const char *const entry_names[] = {"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"};

static const size_t stored_at[] = {offsetof(struct sasl_keys, stored_sha1),
                                   offsetof(struct sasl_keys, stored_sha256),
                                   offsetof(struct sasl_keys, stored_sha512)};
static const size_t server_at[] = {offsetof(struct sasl_keys, server_sha1),
                                   offsetof(struct sasl_keys, server_sha256),
                                   offsetof(struct sasl_keys, server_sha512)};

const uint8_t *keys_stored(const struct sasl_keys *k, enum digest d)
{
    return (const uint8_t *)k + stored_at[d];
}

const uint8_t *keys_server(const struct sasl_keys *k, enum digest d)
{
    return (const uint8_t *)k + server_at[d];
}

bool keys_has(const struct sasl_keys *k, enum digest d)
{
    return d == DIGEST_SHA1 ? k->has_sha1 : d == DIGEST_SHA256 ? k->has_sha256 : k->has_sha512;
}

void keys_set_has(struct sasl_keys *k, enum digest d)
{
    *(d == DIGEST_SHA1 ? &k->has_sha1 : d == DIGEST_SHA256 ? &k->has_sha256 : &k->has_sha512) = true;
}

bool sasl_keys_derive(struct span password, uint32_t iterations, struct sasl_keys *out)
{
    char *prepared = simple_saslprep(password);
    if (prepared == NULL || iterations == 0 || iterations > SASL_ITERATIONS_MAX) {
        free(prepared);
        return false;
    }
    memset(out, 0, sizeof *out);
    out->iterations = iterations;
    out->salt_n = SASL_SALT_OWN;
    random_bytes(out->salt, SASL_SALT_OWN);
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        uint8_t salted[DIGEST_MAX_BYTES];
        keys_set_has(out, d);
        digest_stretch(d, span_of(prepared), span_make(out->salt, out->salt_n), iterations, salted);
        digest_keys(d, salted, (uint8_t *)out + stored_at[d], (uint8_t *)out + server_at[d]);
        digest_wipe(salted, sizeof salted);
    }
    digest_wipe(prepared, strlen(prepared));
    free(prepared);
    return true;
}

void sasl_keys_write(const struct sasl_keys *keys, struct buf *out)
{
    const char *gap = "";
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        size_t n = digest_size(d);
        if (!keys_has(keys, d))
            continue;
        buf_addf(out, "%s%s$%u:", gap, entry_names[d], keys->iterations);
        base64_add(out, span_make(keys->salt, keys->salt_n));
        buf_add_char(out, '$');
        base64_add(out, span_make(keys_stored(keys, d), n));
        buf_add_char(out, ':');
        base64_add(out, span_make(keys_server(keys, d), n));
        gap = " ";
    }
}

/* Cuts text up to the mark off the front of *rest. False when the mark is missing. */
static bool cut(struct span *rest, char mark, struct span *piece)
{
    size_t at = span_index(*rest, mark);
    if (at == rest->n)
        return false;
    *piece = span_sub(*rest, 0, at);
    *rest = span_sub(*rest, at + 1, rest->n);
    return true;
}

static bool decode_exactly(struct span text, uint8_t *out, size_t n)
{
    struct buf plain = {0};
    bool good = base64_decode(&plain, text) && plain.n == n;
    if (good)
        memcpy(out, plain.p, n);
    buf_free(&plain);
    return good;
}

/* The salt of an entry: the first one's, or the same again. */
static bool parse_salt(struct span text, bool first, struct sasl_keys *k)
{
    struct buf salt = {0};
    bool good = base64_decode(&salt, text) && salt.n > 0 && salt.n <= sizeof k->salt;
    if (good && first) {
        k->salt_n = (uint8_t)salt.n;
        memcpy(k->salt, salt.p, salt.n);
    }
    good = good && span_eq(buf_span(&salt), span_make(k->salt, k->salt_n));
    buf_free(&salt);
    return good;
}

/* One entry, whose hash must come behind *next; *next is the one to expect then. */
static bool parse_entry(struct span entry, bool first, enum digest *next, struct sasl_keys *k)
{
    struct span name, iterations, salt, stored;
    uint64_t count = 0;
    if (!cut(&entry, '$', &name) || !cut(&entry, ':', &iterations) || !cut(&entry, '$', &salt) ||
        !cut(&entry, ':', &stored))
        return false;
    enum digest d = *next;
    while (d <= DIGEST_SHA512 && !span_is(name, entry_names[d]))
        d++;
    if (d > DIGEST_SHA512 || !span_to_u64(iterations, SASL_ITERATIONS_MAX, &count) || count == 0 ||
        (!first && k->iterations != count) || !parse_salt(salt, first, k) ||
        !decode_exactly(stored, (uint8_t *)k + stored_at[d], digest_size(d)) ||
        !decode_exactly(entry, (uint8_t *)k + server_at[d], digest_size(d)))
        return false;
    k->iterations = (uint32_t)count;
    keys_set_has(k, d);
    *next = d + 1;
    return true;
}

bool sasl_keys_parse(struct span text, struct sasl_keys *out)
{
    struct sasl_keys k = {0};
    enum digest next = DIGEST_SHA1;
    struct span entry;
    bool first = true;
    for (; cut(&text, ' ', &entry); first = false)
        if (!parse_entry(entry, first, &next, &k))
            return false;
    if (!parse_entry(text, first, &next, &k))
        return false;
    *out = k;
    return true;
}
