/* A histogram of durations in the manner of HdrHistogram: 64 linear steps per power of two, so any value is
 * kept within 1.6 %, from 1 µs to an hour, in 17 KiB. */
#ifndef JACKDAW_BENCH_HIST_H
#define JACKDAW_BENCH_HIST_H

#include "common/base/base.h"

#define HIST_STEPS  64
#define HIST_RANGES 34

struct hist {
    uint64_t count;
    uint64_t max_us;
    uint64_t sum_us;
    uint64_t bucket[HIST_RANGES * HIST_STEPS];
};

/* Adds one duration in microseconds. Zero-initialise before the first. */
void hist_add(struct hist *h, uint64_t us);

/* The value in microseconds below which a share of q (0..1) lies; 0 when empty. */
uint64_t hist_quantile_us(const struct hist *h, double q);

#endif
