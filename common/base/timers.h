/* A timer queue without a clock: the owner says what time it is. Used by the ring for real time and by the
 * simulation for virtual time. Timers are embedded in their owners; 4-ary heap, so setting and clearing is
 * O(log n). */
#ifndef JACKDAW_BASE_TIMERS_H
#define JACKDAW_BASE_TIMERS_H

#include "common/base/base.h"

struct timer {
    uint64_t deadline_ms; /* on the owner's monotonic clock */
    uint32_t at;          /* position in the heap plus 1; 0 = not set */
    void (*fire)(struct timer *t, uint64_t now_ms);
};

/* Zero-initialise. */
struct timers {
    struct timer **heap;
    struct timer **due; /* being fired by timers_run */
    uint32_t count;
    uint32_t cap;
    uint32_t due_count;
    uint32_t due_cap;
};

/* Sets (or moves) a timer; fire must be set before by the owner. */
void timer_set(struct timers *q, struct timer *t, uint64_t deadline_ms);

/* Clears a timer; harmless when not set. After it the owner may be freed. */
void timer_clear(struct timers *q, struct timer *t);

/* True while set. */
static inline bool timer_is_set(const struct timer *t)
{
    return t->at != 0;
}

/* The earliest deadline in ms, or UINT64_MAX. */
uint64_t timers_next(const struct timers *q);

/* Fires every timer due at now_ms, earliest first, each cleared before its fire() runs; timers set by a
 * fire() to a time already due wait for the next call. Returns how many fired. Not from inside a fire(). */
unsigned timers_run(struct timers *q, uint64_t now_ms);

/* Frees the queue's memory. Timers still set are forgotten and must not be cleared after. */
void timers_free(struct timers *q);

#endif
