/* Numbered messages: writes them, reads them, and knows which are lost, doubled or out of order. */
#ifndef JACKDAW_BENCH_NUMBERS_H
#define JACKDAW_BENCH_NUMBERS_H

#include "common/base/buf.h"

struct bench;

/* What one receiver has had of one sender, whose numbers run from 0. */
struct numbers {
    uint64_t high;    /* highest number received, plus 1 */
    uint64_t seen;    /* bit i: high - 1 - i has come */
    uint64_t missing; /* below high and not come */
};

/* Takes one number; counts it in b as duplicated or reordered when it is. */
void numbers_take(struct bench *b, struct numbers *n, uint64_t number);

/* How many of the `sent` first ones have not come. */
uint64_t numbers_lost(const struct numbers *n, uint64_t sent);

/* Appends a chat message to client `to` (to all: a headline to its bare JID, which reaches all of its
 * resources, RFC 6121 §8.5.2.1.1) with a body "NUMBER DUE padding". due_ns is when it should leave, on the
 * monotonic clock. */
void message_add(struct buf *out, const struct bench *b, unsigned to, bool all, uint64_t number,
                 uint64_t due_ns);

/* Reads such a body, false: not one. */
bool message_read(struct span raw, uint64_t *number, uint64_t *due_ns);

#endif
