/* Reading goes over the lines twice: first how far each stream's bytes in clear have reached the other side,
 * from the pairs (bytes in clear, bytes on the wire) of each send; a send that got through in part is taken
 * apart into TLS records, which hold 16 KiB each and all cost the same. Then which <a/> that covers. */
#include "s2s/ledger.h"

#include <stdlib.h>

#include "common/base/hash.h"

#define RECORD_BYTES 16384u /* in clear, of a full TLS record */

void ledger_add(struct ledger *l, enum ledger_kind kind, uint64_t leg, uint64_t a, uint64_t b, uint64_t c,
                uint64_t d)
{
    if (l == NULL)
        return;
    uint64_t at = l->count;
    l->lines[at % LEDGER_LINES] = (struct ledger_line){leg, a, b, c, d, kind};
    __atomic_store_n(&l->count, at + 1, __ATOMIC_RELEASE);
}

static uint64_t first_of(const struct ledger *l)
{
    /* The oldest may be half overwritten. */
    return l->count < LEDGER_LINES ? 0 : l->count - LEDGER_LINES + 1;
}

static struct ledger_leg *leg_get(struct idmap *legs, uint64_t sid)
{
    struct ledger_leg *leg = idmap_get(legs, sid);
    if (leg == NULL) {
        leg = xcalloc(1, sizeof *leg);
        leg->sid = sid;
        idmap_put(legs, sid, leg);
    }
    return leg;
}

/* Bytes in clear of a send of `plain` as `wire` bytes, when only `got` of those arrived. */
static uint64_t part_of(uint64_t plain, uint64_t wire, uint64_t got)
{
    uint64_t records = (plain + RECORD_BYTES - 1) / RECORD_BYTES;
    if (wire == plain)
        return got; /* no TLS */
    if (records < 2 || (wire - plain) % records != 0)
        return 0;
    return got / (RECORD_BYTES + (wire - plain) / records) * RECORD_BYTES;
}

static void read_sealed(struct ledger_leg *leg, uint64_t plain, uint64_t wire)
{
    if (leg->stopped)
        return;
    if (wire <= leg->wire) {
        leg->plain = plain;
    } else {
        leg->stopped = true;
        if (leg->at_known && leg->wire > leg->at[1])
            leg->plain = leg->at[0] + part_of(plain - leg->at[0], wire - leg->at[1], leg->wire - leg->at[1]);
    }
    leg->at[0] = plain;
    leg->at[1] = wire;
    leg->at_known = true;
}

void ledger_read(const struct ledger *l, struct idmap *legs)
{
    for (uint64_t i = first_of(l); i < l->count; i++) {
        const struct ledger_line *line = &l->lines[i % LEDGER_LINES];
        struct ledger_leg *leg = leg_get(legs, line->leg);
        if (line->kind == LEDGER_SEALED)
            read_sealed(leg, line->a, line->b);
        else if (line->kind == LEDGER_HAS)
            leg->has = MAX(leg->has, line->a);
        else if (line->kind == LEDGER_SAFE)
            leg->safe = MAX(leg->safe, line->a);
        else if (line->kind == LEDGER_OVER)
            leg->over = true;
    }
    for (uint64_t i = first_of(l); i < l->count; i++) {
        const struct ledger_line *line = &l->lines[i % LEDGER_LINES];
        struct ledger_leg *leg = idmap_get(legs, line->leg);
        if (line->kind == LEDGER_ACK && line->b <= leg->plain)
            leg->acked = MAX(leg->acked, line->a);
    }
}

void ledger_handed(const struct ledger *l, const struct idmap *legs, struct buf *out)
{
    for (uint64_t i = first_of(l); i < l->count; i++) {
        const struct ledger_line *line = &l->lines[i % LEDGER_LINES];
        const struct ledger_leg *leg = idmap_get(legs, line->leg);
        if (line->kind != LEDGER_OUT || leg == NULL || line->b > MAX(leg->has, leg->over ? 0 : leg->plain))
            continue;
        for (unsigned k = 0; k < 8; k++)
            buf_add_char(out, (char)(line->a >> (8 * k) & 0xff));
    }
}

void ledger_tail(const struct ledger *l, const struct ledger_leg *leg,
                 void (*fn)(void *ctx, const struct ledger_tail *tail), void *ctx)
{
    uint64_t last = 0;
    for (uint64_t i = first_of(l); i < l->count; i++) {
        const struct ledger_line *line = &l->lines[i % LEDGER_LINES];
        if (line->kind == LEDGER_IN && line->leg == leg->sid)
            last = line->a;
    }
    uint64_t from = MAX(leg->acked, last > LEDGER_TAIL_MAX ? last - LEDGER_TAIL_MAX : 0);
    for (uint64_t i = first_of(l); i < l->count; i++) {
        const struct ledger_line *line = &l->lines[i % LEDGER_LINES];
        if (line->kind != LEDGER_IN || line->leg != leg->sid || line->a <= from)
            continue;
        struct ledger_tail tail = {line->b, line->c, line->d, line->a <= leg->safe};
        fn(ctx, &tail);
    }
}

void ledger_session_write(const struct ledger_session *e, struct buf *out)
{
    buf_addf(out, "%llu %llu %llu %s", (unsigned long long)e->sid, (unsigned long long)e->counted_from,
             (unsigned long long)e->handled, e->domains);
}

/* ---- likeness ---- */

/* Where the tag that begins at `at` ends (behind its '>'); '>' may stand in an attribute. */
static size_t tag_end(struct span raw, size_t at)
{
    char quote = '\0';
    for (; at < raw.n; at++) {
        char c = raw.p[at];
        if (quote != '\0')
            quote = c == quote ? '\0' : quote;
        else if (c == '\'' || c == '"')
            quote = c;
        else if (c == '>')
            return at + 1;
    }
    return raw.n;
}

static bool is_lang(struct span word)
{
    return word.n > 9 && memcmp(word.p, "xml:lang=", 9) == 0;
}

/* The hash of an opening tag: its words in any order, with or without the language. */
static uint64_t tag_hash(struct span tag, bool lang)
{
    uint64_t sum = 0;
    size_t from = 1;
    char quote = '\0';
    for (size_t at = 1; at < tag.n; at++) {
        char c = tag.p[at];
        if (quote != '\0') {
            quote = c == quote ? '\0' : quote;
        } else if (c == '\'' || c == '"') {
            quote = c;
        } else if (c == ' ' || c == '/' || c == '>') {
            struct span word = span_sub(tag, from, at - from);
            if (word.n > 0 && (lang || !is_lang(word)))
                sum += hash_stable(word, 1);
            from = at + 1;
        }
    }
    return sum;
}

static bool is_delay(struct span tag)
{
    static const char name[] = "<delay ", ns[] = "'urn:xmpp:delay'";
    return tag.n > sizeof name && memcmp(tag.p, name, sizeof name - 1) == 0 &&
           memmem(tag.p, tag.n, ns, sizeof ns - 1) != NULL;
}

static uint64_t mix(uint64_t sum, uint64_t part)
{
    return (sum ^ part) * UINT64_C(0x100000001b3) + 1;
}

/* An empty element counts as one with a start and an end tag, as a delay may have been put into it. */
uint64_t ledger_likeness(struct span raw, bool *delayed)
{
    uint64_t sum = 0;
    unsigned depth = 0, skip = 0; /* skip: depth of a delay element, 0 = none */
    *delayed = false;
    for (size_t at = 0, end; at < raw.n; at = end) {
        bool tag = raw.p[at] == '<';
        for (end = at + 1; !tag && end < raw.n && raw.p[end] != '<';)
            end++;
        if (tag)
            end = tag_end(raw, at);
        struct span part = span_sub(raw, at, end - at);
        bool closing = tag && part.n > 1 && part.p[1] == '/';
        bool empty = tag && part.n > 2 && part.p[part.n - 2] == '/';
        if (tag && !closing && ++depth == 2 && is_delay(part)) {
            skip = depth;
            *delayed = true;
        }
        if (skip == 0 && !closing)
            sum = mix(sum, tag ? tag_hash(part, depth > 1) : hash_stable(part, 2));
        if (!closing && !empty)
            continue;
        if (skip == 0)
            sum = mix(sum, 3);
        else if (skip == depth)
            skip = 0;
        depth -= depth > 0;
    }
    return sum;
}
