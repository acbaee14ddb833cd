/* An outbox: what was sent to others and is not confirmed yet. It keeps each item until its answer, sends it
 * again in order, and counts how often. No I/O, no clock: its owner sends the bytes, hears the answers and
 * runs the timer. It knows nothing of what an item is: embed struct outbox_item.
 *
 * Order is kept within a lane (all that has one receiver: a slot, a node). A receiver that knows duplicates
 * by their numbers may never see an item overtake another one of its lane, so:
 *  - once an item of a lane waits, what is added behind it waits, too;
 *  - once an item was refused, nothing of its lane leaves until every other one that is under way has its
 *    answer; then all that were refused go again, oldest first, the first of them with the mark
 *    OUTBOX_FIRST. The receiver does its part: having refused one it refuses the others of that lane until it
 *    sees that mark;
 *  - the same holds for what is lost because its receiver is another one now.
 * Each sending has a token of its own, so a late answer to an earlier one means nothing. */
#ifndef JACKDAW_OUTBOX_OUTBOX_H
#define JACKDAW_OUTBOX_OUTBOX_H

#include "common/base/list.h"
#include "common/base/map.h"

struct outbox_lane;

struct outbox_item {
    struct list node; /* in its lane */
    struct outbox_lane *lane;
    uint64_t token; /* of its last sending; 0 = it waits */
    unsigned sent;  /* how often it has left */
};

/* Marks of a sending. */
#define OUTBOX_AGAIN 1u /* it has left before */
#define OUTBOX_FIRST 2u /* all that was refused or lost of its lane follows, in order */

/* Sends an item with i->token. False: its receiver cannot be reached now; it waits for the next round. */
typedef bool outbox_send_fn(void *ctx, struct outbox_item *i, unsigned marks);

/* True when the receiver to which an item was sent is no longer the one to answer it. */
typedef bool outbox_lost_fn(void *ctx, const struct outbox_item *i);

/* Zero-initialise, then set ctx and send. */
struct outbox {
    void *ctx;
    outbox_send_fn *send;
    uint64_t next_token;
    struct idmap under_way; /* token → struct outbox_item */
    struct idmap lanes;     /* number + 1 → struct outbox_lane */
    size_t count;           /* items */
    size_t waiting;         /* of them, those that are not under way */
    uint64_t pause_ms;      /* the last one between rounds … */
    uint64_t round_ms;      /* … and when it ends */
};

/* Takes an item (zeroed) behind all others of its lane and sends it when nothing of that lane waits. */
void outbox_add(struct outbox *o, struct outbox_item *i, uint64_t lane);

/* The answer to a token has come: the item, or NULL when that sending is not the last one of any. Taken: it
 * has left the outbox and is the caller's; else it waits, and all behind it does. */
struct outbox_item *outbox_answer(struct outbox *o, uint64_t token, bool taken);

/* Takes an item out, whatever state it is in. */
void outbox_remove(struct outbox *o, struct outbox_item *i);

/* What is under way and lost waits for the next round. */
void outbox_lost(struct outbox *o, outbox_lost_fn *lost);

/* Sends what waits and may leave. */
void outbox_round(struct outbox *o);

/* How long to wait for the next round: a few milliseconds, more when the last ones were in vain. */
uint64_t outbox_pause(struct outbox *o, uint64_t now_ms);

/* Takes an item out, any one; NULL when there is none. */
struct outbox_item *outbox_pop(struct outbox *o);

/* Frees what it holds; no item may be in it. */
void outbox_free(struct outbox *o);

#endif
