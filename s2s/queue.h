/* Stanzas on their way out: the raw bytes (shared between the targets of a fan-out) and who waits for them.
 */
#ifndef JACKDAW_S2S_QUEUE_H
#define JACKDAW_S2S_QUEUE_H

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/rcbuf.h"
#include "common/config/conf.h"
#include "s2s/receipt.h"

struct item {
    struct list node;
    struct rcbuf *raw;
    struct receipt *receipt; /* NULL = nobody waits */
    void *owner;             /* whose queue it goes back to: a struct pair, or NULL for a component's */
    uint64_t deadline_ms;    /* then it is answered with an error */
    uint64_t mark;           /* of its carrier: number or place in the bytes */
    uint64_t end;            /* where it ends in its carrier's bytes in clear */
    uint16_t to_n;           /* 0 = raw has its own */
    bool again;              /* was on a stream that broke */
    char to[];               /* put in behind "<presence" */
};

struct queue {
    struct list items;
    size_t count;
    size_t bytes;
};

/* A new item; both references are taken over from the caller. */
struct item *item_new(struct rcbuf *raw, struct span to, struct receipt *receipt, uint64_t deadline_ms);

/* Frees it; its receipt tells. */
void item_free(struct s2s *s, struct item *i);

/* Appends the stanza's bytes. */
void item_write(const struct item *i, struct buf *out);

/* Prepares an empty queue. */
void queue_init(struct queue *q);

/* True when it holds as much as it may: s2s.queue_max stanzas or s2s.queue_bytes_max bytes. */
bool queue_is_full(const struct queue *q, const struct conf *conf);

/* Puts an item behind all others; the queue owns it. */
void queue_add(struct queue *q, struct item *i);

/* The first item, which stays the queue's, or NULL. */
struct item *queue_first(const struct queue *q);

/* Takes the first / the last item out, or NULL; it is the caller's. */
struct item *queue_pop(struct queue *q);
struct item *queue_pop_last(struct queue *q);

/* Puts an item before all others. */
void queue_push(struct queue *q, struct item *i);

#endif
