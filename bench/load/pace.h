/* Fixed times for an offered rate: what is due is told late rather than not at all, with the time it was due.
 */
#ifndef JACKDAW_BENCH_PACE_H
#define JACKDAW_BENCH_PACE_H

#include "common/base/base.h"

struct bench;

/* Calls fire(b, k, due_ns) for k = 0, 1, 2 … at b->args.rate a second, until pace_stop. One at a time. */
void pace_start(struct bench *b, void (*fire)(struct bench *b, uint64_t k, uint64_t due_ns));
void pace_stop(void);

#endif
