/* A frame is a fixed head followed by tagged fields (tag 1 byte, length 4 bytes little endian, bytes). A
 * reader takes the fields it knows and skips the rest; numbers that are zero are left out. Lists and the
 * stanza index are checked in full before a frame is accepted, so that later walks need no error paths. */
#include "common/wire/wire.h"

enum {
    HEAD_BYTES = 8,
    FIELD_BYTES = 5,
    NUMBERS_MAX = 10,
};

enum tag {
    TAG_NONE,
    TAG_TRACE,
    TAG_AT,
    TAG_SID,
    TAG_SESSION,
    TAG_N,
    TAG_NUM,
    TAG_TOKEN,
    TAG_FLAGS,
    TAG_FROM,
    TAG_TO,
    TAG_NAME,
    TAG_TEXT,
    TAG_RAW,
    TAG_TARGETS,
    TAG_PAIRS,
    TAG_STANZA_INDEX,
    TAG_STANZA_RAW,
    TAG_CONNECTIONS,
    TAG_AGE,
    TAG_QUESTION,
};

static void put_u16(char **at, uint16_t v)
{
    memcpy(*at, &v, sizeof v);
    *at += sizeof v;
}

static void put_u32(char **at, uint32_t v)
{
    memcpy(*at, &v, sizeof v);
    *at += sizeof v;
}

static void put_bytes(char **at, struct span s)
{
    if (s.n > 0)
        memcpy(*at, s.p, s.n);
    *at += s.n;
}

static void put_u64_field(char **at, enum tag tag, uint64_t v)
{
    if (v == 0)
        return;
    *(*at)++ = (char)tag;
    put_u32(at, sizeof v);
    memcpy(*at, &v, sizeof v);
    *at += sizeof v;
}

static void put_span_field(char **at, enum tag tag, struct span s)
{
    if (s.p == NULL)
        return;
    *(*at)++ = (char)tag;
    put_u32(at, (uint32_t)s.n);
    put_bytes(at, s);
}

/* A cursor that never leaves its input: after a short read `bad` stays set and everything reads as zero. */
struct cursor {
    struct span in;
    bool bad;
};

static struct span take(struct cursor *c, size_t n)
{
    if (c->bad || n > c->in.n) {
        c->bad = true;
        return (struct span){NULL, 0};
    }
    struct span s = {c->in.p, n};
    c->in.p += n;
    c->in.n -= n;
    return s;
}

static uint8_t take_u8(struct cursor *c)
{
    struct span s = take(c, 1);
    return c->bad ? 0 : (uint8_t)s.p[0];
}

static uint16_t take_u16(struct cursor *c)
{
    uint16_t v = 0;
    struct span s = take(c, sizeof v);
    if (!c->bad)
        memcpy(&v, s.p, sizeof v);
    return v;
}

static uint32_t take_u32(struct cursor *c)
{
    uint32_t v = 0;
    struct span s = take(c, sizeof v);
    if (!c->bad)
        memcpy(&v, s.p, sizeof v);
    return v;
}

static uint64_t take_u64(struct cursor *c)
{
    uint64_t v = 0;
    struct span s = take(c, sizeof v);
    if (!c->bad)
        memcpy(&v, s.p, sizeof v);
    return v;
}

/* Lists: a target is sid, n, length of to, to; a pair is two numbers. */

void wire_target_add(struct buf *list, const struct wire_target *target)
{
    char *at = buf_reserve(list, 18 + target->to.n);
    char *start = at;
    memcpy(at, &target->sid, 8);
    memcpy(at + 8, &target->n, 8);
    at += 16;
    put_u16(&at, (uint16_t)target->to.n);
    put_bytes(&at, target->to);
    list->n += (size_t)(at - start);
}

void wire_pair_add(struct buf *list, uint64_t a, uint64_t b)
{
    char *at = buf_reserve(list, 16);
    memcpy(at, &a, 8);
    memcpy(at + 8, &b, 8);
    list->n += 16;
}

void wire_connection_add(struct buf *list, uint64_t connection)
{
    buf_add(list, &connection, sizeof connection);
}

bool wire_target_next(struct span *list, struct wire_target *out)
{
    if (list->n == 0)
        return false;
    struct cursor c = {*list, false};
    out->sid = take_u64(&c);
    out->n = take_u64(&c);
    out->to = take(&c, take_u16(&c));
    *list = c.in;
    return !c.bad;
}

bool wire_pair_next(struct span *list, uint64_t *a, uint64_t *b)
{
    if (list->n == 0)
        return false;
    struct cursor c = {*list, false};
    *a = take_u64(&c);
    *b = take_u64(&c);
    *list = c.in;
    return !c.bad;
}

uint64_t wire_connection_next(struct span *list)
{
    if (list->n == 0)
        return 0;
    struct cursor c = {*list, false};
    uint64_t connection = take_u64(&c);
    *list = c.in;
    return connection;
}

static bool targets_are_whole(struct span list)
{
    struct wire_target target;
    while (list.n > 0)
        if (!wire_target_next(&list, &target))
            return false;
    return true;
}

/* The stanza index: kind, type, children, lengths of the addresses, then the addresses, id, lang, and each
 * child: place, lengths, name, namespace. A long namespace that an earlier child has is not written again,
 * but named by that child's number: sixteen children may share one of megabytes. */

#define NS_SHARED_FROM 64          /* bytes; a shorter one is written as it is */
#define NS_OF_CHILD    0x80000000u /* in place of a length: the number of the child is in the low bits */

static uint32_t ns_length(const struct stanza *s, unsigned i)
{
    struct span ns = s->children[i].ns;
    for (unsigned k = 0; ns.n >= NS_SHARED_FROM && k < i; k++)
        if (span_eq(s->children[k].ns, ns))
            return NS_OF_CHILD | k;
    return (uint32_t)ns.n;
}

static size_t stanza_index_size(const struct stanza *s)
{
    size_t n = 3 + 2 * 6 + 2 * 4 + s->id.n + s->lang.n;
    n += jid_full(&s->from).n + jid_full(&s->to).n;
    for (unsigned i = 0; i < s->child_count; i++) {
        uint32_t ns_n = ns_length(s, i);
        n += 16 + s->children[i].name.n + ((ns_n & NS_OF_CHILD) != 0 ? 0 : ns_n);
    }
    return n;
}

static void put_jid_lengths(char **at, const struct jid *j)
{
    put_u16(at, j->local_n);
    put_u16(at, j->domain_n);
    put_u16(at, j->resource_n);
}

static void put_stanza_index(char **at, const struct stanza *s)
{
    *(*at)++ = (char)s->kind;
    *(*at)++ = (char)s->type;
    *(*at)++ = (char)s->child_count;
    put_jid_lengths(at, &s->from);
    put_jid_lengths(at, &s->to);
    put_u32(at, s->id.p == NULL ? UINT32_MAX : (uint32_t)s->id.n);
    put_u32(at, s->lang.p == NULL ? UINT32_MAX : (uint32_t)s->lang.n);
    put_bytes(at, jid_full(&s->from));
    put_bytes(at, jid_full(&s->to));
    put_bytes(at, s->id);
    put_bytes(at, s->lang);
    for (unsigned i = 0; i < s->child_count; i++) {
        const struct xml_child *child = &s->children[i];
        put_u32(at, child->start);
        put_u32(at, child->end);
        uint32_t ns_n = ns_length(s, i);
        put_u32(at, (uint32_t)child->name.n);
        put_u32(at, ns_n);
        put_bytes(at, child->name);
        if ((ns_n & NS_OF_CHILD) == 0)
            put_bytes(at, child->ns);
    }
}

static void take_jid(struct cursor *c, struct jid *j)
{
    size_t n = (size_t)j->local_n + (j->local_n > 0) + j->domain_n + (j->resource_n > 0) + j->resource_n;
    struct span s = take(c, n);
    j->p = s.p;
    if (j->domain_n == 0) {
        c->bad |= n > 0;
        return;
    }
    if (c->bad)
        return;
    /* The separators must be where the lengths say. */
    c->bad |= j->local_n > 0 && s.p[j->local_n] != '@';
    c->bad |= j->resource_n > 0 && s.p[n - j->resource_n - 1] != '/';
}

static void take_jid_lengths(struct cursor *c, struct jid *j)
{
    j->local_n = take_u16(c);
    j->domain_n = take_u16(c);
    j->resource_n = take_u16(c);
    c->bad |= j->local_n > JID_PART_MAX_BYTES || j->domain_n > JID_PART_MAX_BYTES ||
              j->resource_n > JID_PART_MAX_BYTES;
}

static struct span take_optional(struct cursor *c, uint32_t n)
{
    return n == UINT32_MAX ? (struct span){NULL, 0} : take(c, n);
}

static void take_child(struct cursor *c, struct stanza *s, unsigned i)
{
    struct xml_child *child = &s->children[i];
    child->start = take_u32(c);
    child->end = take_u32(c);
    size_t name_n = take_u32(c), ns_n = take_u32(c), same = ns_n & ~(size_t)NS_OF_CHILD;
    child->name = take(c, name_n);
    if ((ns_n & NS_OF_CHILD) == 0)
        child->ns = take(c, ns_n);
    else if (same < i)
        child->ns = s->children[same].ns;
    else
        c->bad = true;
    c->bad |= child->start > child->end || child->end > s->raw.n;
}

static bool take_stanza_index(struct span in, struct stanza *s)
{
    struct cursor c = {in, s->raw.p == NULL}; /* an index of nothing */
    uint8_t kind = take_u8(&c), type = take_u8(&c);
    s->kind = kind;
    s->type = type;
    s->child_count = take_u8(&c);
    c.bad |= kind > STANZA_IQ || type >= STANZA_TYPE_COUNT || s->child_count > STANZA_CHILDREN_MAX;
    take_jid_lengths(&c, &s->from);
    take_jid_lengths(&c, &s->to);
    uint32_t id_n = take_u32(&c), lang_n = take_u32(&c);
    take_jid(&c, &s->from);
    take_jid(&c, &s->to);
    s->id = take_optional(&c, id_n);
    s->lang = take_optional(&c, lang_n);
    for (unsigned i = 0; !c.bad && i < s->child_count; i++)
        take_child(&c, s, i);
    return !c.bad;
}

size_t wire_size(const struct wire_frame *f)
{
    const struct span *spans[] = {&f->from, &f->to,      &f->name,  &f->text,
                                  &f->raw,  &f->targets, &f->pairs, &f->connections};
    size_t n = HEAD_BYTES + NUMBERS_MAX * (FIELD_BYTES + 8) + FIELD_BYTES + 16;
    for (size_t i = 0; i < ARRAY_LEN(spans); i++)
        n += FIELD_BYTES + spans[i]->n;
    if (f->has_stanza)
        n += FIELD_BYTES * 2 + f->stanza.raw.n + stanza_index_size(&f->stanza);
    return n;
}

size_t wire_encode(const struct wire_frame *f, char *out)
{
    char *at = out;
    *at++ = WIRE_VERSION;
    *at++ = (char)f->kind;
    put_u16(&at, f->slot);
    put_u32(&at, f->epoch);
    if (f->trace[0] != 0 || f->trace[1] != 0)
        put_span_field(&at, TAG_TRACE, span_make(f->trace, sizeof f->trace));
    put_u64_field(&at, TAG_FLAGS, f->flags);
    put_u64_field(&at, TAG_AT, f->at_ms);
    put_u64_field(&at, TAG_SID, f->sid);
    put_u64_field(&at, TAG_SESSION, f->session);
    put_u64_field(&at, TAG_N, f->n);
    put_u64_field(&at, TAG_NUM, f->num);
    put_u64_field(&at, TAG_TOKEN, f->token);
    put_u64_field(&at, TAG_AGE, f->age_ms);
    put_u64_field(&at, TAG_QUESTION, f->question);
    put_span_field(&at, TAG_FROM, f->from);
    put_span_field(&at, TAG_TO, f->to);
    put_span_field(&at, TAG_NAME, f->name);
    put_span_field(&at, TAG_TEXT, f->text);
    put_span_field(&at, TAG_RAW, f->raw);
    put_span_field(&at, TAG_TARGETS, f->targets);
    put_span_field(&at, TAG_PAIRS, f->pairs);
    put_span_field(&at, TAG_CONNECTIONS, f->connections);
    if (f->has_stanza) {
        put_span_field(&at, TAG_STANZA_RAW, f->stanza.raw);
        *at++ = TAG_STANZA_INDEX;
        put_u32(&at, (uint32_t)stanza_index_size(&f->stanza));
        put_stanza_index(&at, &f->stanza);
    }
    return (size_t)(at - out);
}

void wire_add(struct buf *out, const struct wire_frame *f)
{
    char *at = buf_reserve(out, wire_size(f));
    out->n += wire_encode(f, at);
}

static bool take_number(struct span value, uint64_t *out)
{
    if (value.n != sizeof *out)
        return false;
    memcpy(out, value.p, sizeof *out);
    return true;
}

static bool take_field(struct wire_frame *f, uint8_t tag, struct span value, struct span *index)
{
    uint64_t flags;
    switch (tag) {
    case TAG_TRACE:
        if (value.n != sizeof f->trace)
            return false;
        memcpy(f->trace, value.p, sizeof f->trace);
        return true;
    case TAG_FLAGS:
        if (!take_number(value, &flags))
            return false;
        f->flags = (uint16_t)flags;
        return true;
    case TAG_AT:
        return take_number(value, &f->at_ms);
    case TAG_SID:
        return take_number(value, &f->sid);
    case TAG_SESSION:
        return take_number(value, &f->session);
    case TAG_N:
        return take_number(value, &f->n);
    case TAG_NUM:
        return take_number(value, &f->num);
    case TAG_TOKEN:
        return take_number(value, &f->token);
    case TAG_AGE:
        return take_number(value, &f->age_ms);
    case TAG_QUESTION:
        return take_number(value, &f->question);
    case TAG_FROM:
        f->from = value;
        return true;
    case TAG_TO:
        f->to = value;
        return true;
    case TAG_NAME:
        f->name = value;
        return true;
    case TAG_TEXT:
        f->text = value;
        return true;
    case TAG_RAW:
        f->raw = value;
        return true;
    case TAG_TARGETS:
        f->targets = value;
        return targets_are_whole(value);
    case TAG_PAIRS:
        f->pairs = value;
        return value.n % 16 == 0;
    case TAG_CONNECTIONS:
        f->connections = value;
        return value.n % 8 == 0;
    case TAG_STANZA_RAW:
        f->stanza.raw = value;
        return true;
    case TAG_STANZA_INDEX:
        *index = value;
        return true;
    default:
        return true; /* a newer peer's field */
    }
}

/* Without the stanza's index, which is left in *index. */
static bool take_frame(struct span in, struct wire_frame *out, struct span *index)
{
    struct cursor c = {in, false};
    /* The children array is large and only valid up to child_count, so it is not cleared. */
    memset(out, 0, offsetof(struct wire_frame, stanza));
    memset(&out->stanza, 0, offsetof(struct stanza, children));
    out->stanza.child_count = 0;
    uint8_t version = take_u8(&c);
    out->kind = take_u8(&c);
    out->slot = take_u16(&c);
    out->epoch = take_u32(&c);
    if (c.bad || version != WIRE_VERSION)
        return false;
    while (c.in.n > 0) {
        uint8_t tag = take_u8(&c);
        struct span value = take(&c, take_u32(&c));
        if (c.bad || !take_field(out, tag, value, index))
            return false;
    }
    return true;
}

bool wire_decode(struct span in, struct wire_frame *out)
{
    struct span index = {NULL, 0};
    if (!take_frame(in, out, &index))
        return false;
    out->has_stanza = index.p != NULL;
    return !out->has_stanza || take_stanza_index(index, &out->stanza);
}

void wire_salvage(struct span in, struct wire_frame *out)
{
    struct span index = {NULL, 0}, raw;
    take_frame(in, out, &index);
    raw = out->stanza.raw;
    memset(&out->stanza, 0, offsetof(struct stanza, children));
    out->stanza.raw = raw;
    out->stanza.child_count = 0;
    out->has_stanza = false;
    out->targets = out->pairs = (struct span){NULL, 0};
}

const char *wire_kind_name(uint8_t kind)
{
    static const char *const names[WIRE_KIND_COUNT] = {
        "NONE",   "OPEN",    "OPENED", "REFUSED", "STANZA", "HANDLED", "DELIVER",       "ACKED", "FLOW",
        "ENABLE", "ENABLED", "CLOSED", "KILL",    "RESUME", "RESUMED", "RESUME_FAILED", "SYNC",  "NOT_MINE",
        "ROUTE",  "DONE",    "EPOCH",  "CONTROL", "REPLY",  "SYNCED",  "COMPONENTS",    "CAPS",
    };
    return kind < WIRE_KIND_COUNT ? names[kind] : "UNKNOWN";
}
