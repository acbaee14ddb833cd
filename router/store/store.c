/* A batch is a byte string of operations, each a kind, a hash and four or five length-prefixed fields; only
 * this file knows the layout. */
#include "router/store/store.h"

static void put_span(struct buf *b, struct span s)
{
    uint32_t n = (uint32_t)s.n;
    buf_add(b, &n, sizeof n);
    buf_add_span(b, s);
}

static void begin(struct store_batch *b, enum store_op_kind kind, enum store_hash hash)
{
    buf_add_char(&b->ops, (char)kind);
    buf_add_char(&b->ops, (char)hash);
    b->count++;
}

static void put_id(struct buf *b, struct store_id id)
{
    buf_add(b, &id.ms, sizeof id.ms);
    buf_add(b, &id.seq, sizeof id.seq);
}

bool store_id_parse(struct span text, struct store_id *out)
{
    struct store_id id;
    if (!span_to_u64(span_cut(&text, '-'), UINT64_MAX, &id.ms) || !span_to_u64(text, UINT64_MAX, &id.seq))
        return false;
    *out = id;
    return true;
}

void store_put(struct store_batch *b, enum store_hash hash, struct span field, struct span value)
{
    begin(b, STORE_OP_PUT, hash);
    b->adds += hash == STORE_ROSTER;
    put_span(&b->ops, field);
    put_span(&b->ops, value);
}

void store_drop(struct store_batch *b, enum store_hash hash, struct span field)
{
    begin(b, STORE_OP_DROP, hash);
    put_span(&b->ops, field);
}

void store_append(struct store_batch *b, const struct store_entry *entry)
{
    begin(b, STORE_OP_APPEND, STORE_META);
    b->adds++;
    put_id(&b->ops, entry->id);
    put_span(&b->ops, entry->raw);
    put_span(&b->ops, entry->origin);
    put_span(&b->ops, entry->marks);
    buf_add(&b->ops, &entry->at_ms, sizeof entry->at_ms);
}

void store_remove(struct store_batch *b, struct store_id id)
{
    begin(b, STORE_OP_REMOVE, STORE_META);
    put_id(&b->ops, id);
}

void store_trim(struct store_batch *b, struct store_id below)
{
    begin(b, STORE_OP_TRIM, STORE_META);
    put_id(&b->ops, below);
}

void store_put_blob(struct store_batch *b, struct span name, struct span value)
{
    begin(b, STORE_OP_BLOB, STORE_META);
    b->adds += value.n > 0;
    put_span(&b->ops, name);
    put_span(&b->ops, value);
}

void store_present(struct store_batch *b, uint16_t slot, bool present)
{
    begin(b, STORE_OP_PRESENT, STORE_META);
    buf_add(&b->ops, &slot, sizeof slot);
    buf_add_char(&b->ops, (char)present);
}

void store_batch_free(struct store_batch *b)
{
    buf_free(&b->ops);
    b->count = b->adds = 0;
}

void store_batch_strip(struct store_batch *b)
{
    struct span ops = buf_span(&b->ops);
    struct store_op op;
    size_t kept = 0;
    if (b->adds == 0)
        return;
    b->count = b->adds = 0;
    for (const char *at = ops.p; store_op_next(&ops, &op); at = ops.p) {
        if (op.kind == STORE_OP_APPEND || op.kind == STORE_OP_BLOB || op.hash == STORE_ROSTER)
            continue;
        memmove(b->ops.p + kept, at, (size_t)(ops.p - at));
        kept += (size_t)(ops.p - at);
        b->count++;
    }
    b->ops.n = kept;
}

void store_batch_join(struct store_batch *b, struct store_batch *more)
{
    buf_add_span(&b->ops, buf_span(&more->ops));
    b->count += more->count;
    b->adds += more->adds;
    store_batch_free(more);
}

static void take(struct span *in, void *out, size_t n)
{
    CHECK(in->n >= n);
    memcpy(out, in->p, n);
    *in = span_sub(*in, n, in->n);
}

static struct span take_span(struct span *in)
{
    uint32_t n;
    take(in, &n, sizeof n);
    struct span s = span_sub(*in, 0, n);
    CHECK(s.n == n);
    *in = span_sub(*in, n, in->n);
    return s;
}

bool store_op_next(struct span *ops, struct store_op *out)
{
    if (ops->n == 0)
        return false;
    memset(out, 0, sizeof *out);
    uint8_t head[2];
    take(ops, head, sizeof head);
    out->kind = head[0];
    out->hash = head[1];
    switch (out->kind) {
    case STORE_OP_PUT:
    case STORE_OP_BLOB:
        out->field = take_span(ops);
        out->value = take_span(ops);
        break;
    case STORE_OP_DROP:
        out->field = take_span(ops);
        break;
    case STORE_OP_APPEND:
        take(ops, &out->entry.id, sizeof out->entry.id);
        out->entry.raw = take_span(ops);
        out->entry.origin = take_span(ops);
        out->entry.marks = take_span(ops);
        take(ops, &out->entry.at_ms, sizeof out->entry.at_ms);
        break;
    case STORE_OP_PRESENT:
        take(ops, &out->slot, sizeof out->slot);
        take(ops, head, 1);
        out->present = head[0] != 0;
        break;
    case STORE_OP_REMOVE:
    case STORE_OP_TRIM:
        take(ops, &out->entry.id, sizeof out->entry.id);
        break;
    }
    return true;
}
