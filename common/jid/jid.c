/* RFC 7622 addresses.
 *
 * Cut at the first '/', then at the first '@' before it (§3.2), then prepare each part. Most addresses are
 * ASCII: each part is first copied through a table that maps capitals and answers "not plain" for everything
 * that needs a closer look; only then the part goes to PRECIS (precis.c) or IDNA2008 (domain.c), which also
 * find the reason to refuse. So the fast path never refuses and the slow path never has to be fast. */
#include "common/jid/jid.h"

#include "common/jid/prep.h"

/* What may stand where in an ASCII part; a part with anything else is not plain. */
enum { LOCAL_OK = 1, RESOURCE_OK = 2, LABEL_OK = 4 };

/* clang-format off */
#define A4(c) c, c, c, c
#define A8(c) A4(c), A4(c)
static const uint8_t ascii_class[256] = {
    /* 0x00 */ A8(0), A8(0), A8(0), A8(0),
    /* 0x20 */ 2, 3, 2, 3, 3, 3, 2, 2, 3, 3, 3, 3, 3, 7, 7, 2,
    /* 0x30 */ A8(7), 7, 7, 2, 3, 2, 3, 2, 3,
    /* 0x40 */ 2, 7, 7, 7, 7, 7, 7, 7, A8(7),
    /* 0x50 */ A8(7), 7, 7, 7, 3, 3, 3, 3, 3,
    /* 0x60 */ 3, 7, 7, 7, 7, 7, 7, 7, A8(7),
    /* 0x70 */ A8(7), 7, 7, 7, 3, 3, 3, 3, 0,
    /* 0x80 and up stay 0 */
};
/* clang-format on */

static inline char ascii_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static void give(const char **why, const char *reason)
{
    if (why != NULL)
        *why = reason;
}

static bool plain_local(struct span text, char *out)
{
    for (size_t i = 0; i < text.n; i++) {
        if ((ascii_class[(uint8_t)text.p[i]] & LOCAL_OK) == 0)
            return false;
        out[i] = ascii_lower(text.p[i]);
    }
    return text.n > 0 && text.n <= JID_PART_MAX_BYTES;
}

/* A leading space is against RFC 7622 §3.5 example 18, so it goes the slow way to its refusal. */
static bool plain_resource(struct span text, char *out)
{
    if (text.n == 0 || text.n > JID_PART_MAX_BYTES || text.p[0] == ' ')
        return false;
    for (size_t i = 0; i < text.n; i++)
        if ((ascii_class[(uint8_t)text.p[i]] & RESOURCE_OK) == 0)
            return false;
    memcpy(out, text.p, text.n);
    return true;
}

/* Dotted labels of letters, digits and inner hyphens. "--" goes the slow way: it may be an A-label. */
static bool plain_domain(struct span text, char *out)
{
    if (text.n == 0 || text.n > JID_PART_MAX_BYTES)
        return false;
    size_t label_n = 0;
    char before = '.';
    for (size_t i = 0; i < text.n; i++) {
        char c = ascii_lower(text.p[i]);
        if ((ascii_class[(uint8_t)c] & LABEL_OK) == 0)
            return false;
        if (c == '.' || c == '-') {
            if (before == '.' || before == '-')
                return false;
            if (c == '.')
                label_n = 0;
            else if (++label_n > 63)
                return false;
        } else {
            if (++label_n > 63)
                return false;
        }
        if (c == '.' && i + 1 == text.n)
            return false; /* the final dot is stripped the slow way */
        out[i] = before = c;
    }
    return before != '-';
}

typedef bool (*plain_fn)(struct span text, char *out);
typedef bool (*full_fn)(struct span text, struct buf *out, const char **why);

struct part_kind {
    plain_fn plain;
    full_fn full;
    const char *empty;
    const char *too_long;
};

static const struct part_kind local_kind = {plain_local, precis_username, "the localpart is empty",
                                            "the localpart is longer than 1023 bytes"};
static const struct part_kind domain_kind = {plain_domain, domain_prepare, "the domainpart is empty",
                                             "the domainpart is longer than 1023 bytes"};
static const struct part_kind resource_kind = {plain_resource, precis_opaque, "the resourcepart is empty",
                                               "the resourcepart is longer than 1023 bytes"};

static bool prepare_part(const struct part_kind *kind, struct span text, struct buf *store, const char **why)
{
    char *room = buf_reserve(store, text.n + 1);
    if (LIKELY(kind->plain(text, room))) {
        store->n += text.n;
        return true;
    }
    size_t start = store->n;
    const char *reason = NULL;
    if (text.n == 0)
        reason = kind->empty;
    else if (text.n > PREP_INPUT_MAX_BYTES)
        reason = kind->too_long;
    else if (kind->full(text, store, &reason)) {
        if (store->n == start)
            reason = kind->empty;
        else if (store->n - start > JID_PART_MAX_BYTES)
            reason = kind->too_long;
        else
            return true;
    }
    store->n = start;
    give(why, reason);
    return false;
}

bool jid_prepare_local(struct span text, struct buf *store, const char **why)
{
    return prepare_part(&local_kind, text, store, why);
}

bool jid_prepare_domain(struct span text, struct buf *store, const char **why)
{
    return prepare_part(&domain_kind, text, store, why);
}

bool jid_prepare_resource(struct span text, struct buf *store, const char **why)
{
    return prepare_part(&resource_kind, text, store, why);
}

/* Where the parts lie in an address, by RFC 7622 §3.2. A separator that is there makes its part required. */
struct cut {
    struct span local, domain, resource;
    bool has_local, has_resource;
};

static struct cut cut_parts(struct span text)
{
    struct cut c = {.domain = text};
    const char *slash = text.n > 0 ? memchr(text.p, '/', text.n) : NULL;
    if (slash != NULL) {
        size_t at = (size_t)(slash - text.p);
        c.has_resource = true;
        c.resource = (struct span){slash + 1, text.n - at - 1};
        c.domain.n = at;
    }
    const char *sign = c.domain.n > 0 ? memchr(text.p, '@', c.domain.n) : NULL;
    if (sign != NULL) {
        size_t at = (size_t)(sign - text.p);
        c.has_local = true;
        c.local = (struct span){text.p, at};
        c.domain = (struct span){sign + 1, c.domain.n - at - 1};
    }
    return c;
}

bool jid_prepare(struct span text, struct buf *store, struct jid *out, const char **why)
{
    struct cut c = cut_parts(text);
    size_t start = store->n;
    struct jid j = {0};
    if (c.has_local) {
        if (!prepare_part(&local_kind, c.local, store, why))
            goto refuse;
        j.local_n = (uint16_t)(store->n - start);
        buf_add_char(store, '@');
    }
    size_t from = store->n;
    if (!prepare_part(&domain_kind, c.domain, store, why))
        goto refuse;
    j.domain_n = (uint16_t)(store->n - from);
    if (c.has_resource) {
        buf_add_char(store, '/');
        from = store->n;
        if (!prepare_part(&resource_kind, c.resource, store, why))
            goto refuse;
        j.resource_n = (uint16_t)(store->n - from);
    }
    j.p = store->p + start;
    *out = j;
    return true;
refuse:
    store->n = start;
    return false;
}

/* True when a byte is a control character (< 0x20 or 0x7f). Eight at a time: bit 7 of each lane tells. */
static bool has_control(const char *p, size_t n)
{
    const uint64_t low = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t bad = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t w;
        memcpy(&w, p + i, 8);
        uint64_t seven = w & ~high;
        uint64_t big = seven + 0x60 * low; /* lane's bit 7: low seven bits ≥ 0x20 */
        uint64_t del = seven + low;        /* lane's bit 7: low seven bits = 0x7f */
        bad |= ~w & (~big | del) & high;
    }
    for (; i < n; i++)
        bad |= (uint64_t)((uint8_t)p[i] < 0x20 || p[i] == 0x7f);
    return bad != 0;
}

bool jid_split(struct span text, struct jid *out)
{
    if (text.n == 0 || text.n > JID_MAX_BYTES)
        return false;
    struct cut c = cut_parts(text);
    if (c.domain.n == 0 || c.domain.n > JID_PART_MAX_BYTES || c.local.n > JID_PART_MAX_BYTES ||
        c.resource.n > JID_PART_MAX_BYTES || (c.has_local && c.local.n == 0) ||
        (c.has_resource && c.resource.n == 0) || has_control(text.p, text.n))
        return false;
    *out = (struct jid){text.p, (uint16_t)c.local.n, (uint16_t)c.domain.n, (uint16_t)c.resource.n};
    return true;
}

static size_t domain_at(const struct jid *j)
{
    return j->local_n > 0 ? (size_t)j->local_n + 1 : 0;
}

struct span jid_full(const struct jid *j)
{
    return (struct span){j->p, domain_at(j) + j->domain_n + (j->resource_n > 0 ? j->resource_n + 1u : 0)};
}

struct span jid_bare(const struct jid *j)
{
    return (struct span){j->p, domain_at(j) + j->domain_n};
}

struct span jid_local(const struct jid *j)
{
    return (struct span){j->p, j->local_n};
}

struct span jid_domain(const struct jid *j)
{
    return j->p != NULL ? (struct span){j->p + domain_at(j), j->domain_n}
                        : (struct span){0}; /* an empty one */
}

struct span jid_resource(const struct jid *j)
{
    size_t at = domain_at(j) + j->domain_n + (j->resource_n > 0);
    return (struct span){j->p != NULL ? j->p + at : NULL, j->resource_n};
}

/* XEP-0106 §4.2: the ten characters and their codes. */
static const char escaped_chars[] = " \"&'/:<>@\\";
static const char escape_codes[][3] = {"20", "22", "26", "27", "2f", "3a", "3c", "3e", "40", "5c"};

/* The character for the code at p ("20" for ' '), or 0. */
static char escape_char(const char *p, size_t n)
{
    if (n < 2)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(escape_codes); i++)
        if (p[0] == escape_codes[i][0] && ascii_lower(p[1]) == escape_codes[i][1])
            return escaped_chars[i];
    return 0;
}

void jid_escape(struct span text, struct buf *out)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        const char *at = c != '\0' ? strchr(escaped_chars, c) : NULL;
        /* A backslash is escaped only where it would read as an escape (§4.2). */
        if (at != NULL && (c != '\\' || escape_char(text.p + i + 1, text.n - i - 1) != 0)) {
            buf_add_char(out, '\\');
            buf_add(out, escape_codes[at - escaped_chars], 2);
        } else {
            buf_add_char(out, c);
        }
    }
}

void jid_unescape(struct span text, struct buf *out)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i], meant = '\0';
        if (c == '\\')
            meant = escape_char(text.p + i + 1, text.n - i - 1);
        if (meant != '\0') {
            c = meant;
            i += 2;
        }
        buf_add_char(out, c);
    }
}
