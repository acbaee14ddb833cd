/* The timer queue: a 4-ary heap of pointers, every timer knowing its place. A run first moves all due timers
 * to a side array, then fires them from there: what a fire() sets lands in the heap and waits for the next
 * run, what it clears is struck out of the side array. Places in the side array carry DUE_FLAG. */
#include "common/base/timers.h"

#include <stdlib.h>

#define ARITY    4
#define DUE_FLAG 0x80000000U

static void place(struct timers *q, uint32_t i, struct timer *t)
{
    q->heap[i] = t;
    t->at = i + 1;
}

static void sift_up(struct timers *q, uint32_t i, struct timer *t)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;
        if (q->heap[parent]->deadline_ms <= t->deadline_ms)
            break;
        place(q, i, q->heap[parent]);
        i = parent;
    }
    place(q, i, t);
}

static void sift_down(struct timers *q, uint32_t i, struct timer *t)
{
    for (;;) {
        uint32_t first = i * ARITY + 1, least = first;
        if (first >= q->count)
            break;
        for (uint32_t c = first + 1; c < MIN(first + ARITY, q->count); c++) {
            if (q->heap[c]->deadline_ms < q->heap[least]->deadline_ms)
                least = c;
        }
        if (q->heap[least]->deadline_ms >= t->deadline_ms)
            break;
        place(q, i, q->heap[least]);
        i = least;
    }
    place(q, i, t);
}

static void heap_remove(struct timers *q, uint32_t i)
{
    struct timer *last = q->heap[--q->count];

    q->heap[i]->at = 0;
    if (i == q->count)
        return;
    if (i > 0 && q->heap[(i - 1) / ARITY]->deadline_ms > last->deadline_ms)
        sift_up(q, i, last);
    else
        sift_down(q, i, last);
}

void timer_set(struct timers *q, struct timer *t, uint64_t deadline_ms)
{
    timer_clear(q, t);
    if (q->count == q->cap) {
        CHECK(q->cap < DUE_FLAG / 2);
        q->cap = q->cap > 0 ? q->cap * 2 : 32;
        q->heap = xrealloc(q->heap, q->cap * sizeof(struct timer *));
    }
    t->deadline_ms = deadline_ms;
    q->count++;
    sift_up(q, q->count - 1, t);
}

void timer_clear(struct timers *q, struct timer *t)
{
    if (t->at == 0)
        return;
    if (t->at & DUE_FLAG) {
        q->due[(t->at & ~DUE_FLAG) - 1] = NULL;
        t->at = 0;
        return;
    }
    CHECK(t->at <= q->count && q->heap[t->at - 1] == t);
    heap_remove(q, t->at - 1);
}

uint64_t timers_next(const struct timers *q)
{
    return q->count > 0 ? q->heap[0]->deadline_ms : UINT64_MAX;
}

unsigned timers_run(struct timers *q, uint64_t now_ms)
{
    unsigned fired = 0;

    CHECK(q->due_count == 0); /* not from inside a fire() */
    while (q->count > 0 && q->heap[0]->deadline_ms <= now_ms) {
        struct timer *t = q->heap[0];
        if (q->due_count == q->due_cap) {
            q->due_cap = q->due_cap > 0 ? q->due_cap * 2 : 32;
            q->due = xrealloc(q->due, q->due_cap * sizeof(struct timer *));
        }
        heap_remove(q, 0);
        q->due[q->due_count++] = t;
        t->at = q->due_count | DUE_FLAG;
    }
    for (uint32_t i = 0; i < q->due_count; i++) {
        struct timer *t = q->due[i];
        if (t == NULL)
            continue;
        t->at = 0;
        fired++;
        t->fire(t, now_ms);
    }
    q->due_count = 0;
    return fired;
}

void timers_free(struct timers *q)
{
    CHECK(q->due_count == 0);
    free(q->heap);
    free(q->due);
    *q = (struct timers){0};
}
