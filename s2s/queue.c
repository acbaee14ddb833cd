#include "s2s/queue.h"

#include <stdlib.h>

#include "s2s/metrics.h"

struct item *item_new(struct rcbuf *raw, struct span to, struct receipt *receipt, uint64_t deadline_ms)
{
    struct item *i = xcalloc(1, sizeof *i + to.n);
    list_init(&i->node);
    i->raw = raw;
    i->receipt = receipt;
    i->deadline_ms = deadline_ms;
    i->to_n = (uint16_t)to.n;
    if (to.n > 0)
        memcpy(i->to, to.p, to.n);
    return i;
}

void item_free(struct s2s *s, struct item *i)
{
    receipt_unref(s, i->receipt);
    rcbuf_unref(i->raw);
    free(i);
}

/* ` to='…'` goes behind the name, as the raw form begins with the bare kind. */
void item_write(const struct item *i, struct buf *out)
{
    struct span raw = rcbuf_span(i->raw);
    size_t name = 1;
    if (i->to_n == 0) {
        buf_add_span(out, raw);
        return;
    }
    while (name < raw.n && raw.p[name] >= 'a' && raw.p[name] <= 'z')
        name++;
    buf_add(out, raw.p, name);
    buf_add_lit(out, " to='");
    for (uint16_t k = 0; k < i->to_n; k++) { /* a prepared address may hold & and ' in its resource */
        switch (i->to[k]) {
        case '&':
            buf_add_lit(out, "&amp;");
            break;
        case '<':
            buf_add_lit(out, "&lt;");
            break;
        case '\'':
            buf_add_lit(out, "&apos;");
            break;
        default:
            buf_add_char(out, i->to[k]);
        }
    }
    buf_add_char(out, '\'');
    buf_add(out, raw.p + name, raw.n - name);
}

void queue_init(struct queue *q)
{
    list_init(&q->items);
    q->count = q->bytes = 0;
}

bool queue_is_full(const struct queue *q, const struct conf *conf)
{
    return q->count >= (size_t)conf->s2s_queue_max || q->bytes >= (size_t)conf->s2s_queue_bytes_max;
}

void queue_add(struct queue *q, struct item *i)
{
    list_add(&q->items, &i->node);
    q->count++;
    q->bytes += i->raw->n;
    stat_set(&metric_queued, metric_queued.value + 1);
}

struct item *queue_first(const struct queue *q)
{
    return list_empty(&q->items) ? NULL : LIST_ENTRY(q->items.next, struct item, node);
}

static struct item *take(struct queue *q, struct list *node)
{
    if (node == &q->items)
        return NULL;
    struct item *i = LIST_ENTRY(node, struct item, node);
    list_del(node);
    q->count--;
    q->bytes -= i->raw->n;
    stat_set(&metric_queued, metric_queued.value - 1);
    return i;
}

struct item *queue_pop(struct queue *q)
{
    return take(q, q->items.next);
}

struct item *queue_pop_last(struct queue *q)
{
    return take(q, q->items.prev);
}

void queue_push(struct queue *q, struct item *i)
{
    queue_add(q, i);
    list_del(&i->node);
    list_push(&q->items, &i->node);
}
