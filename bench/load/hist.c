/* Below HIST_STEPS each value has a bucket. Range r = 1, 2, … covers the power of two from 64·2^(r-1) on, in
 * 64 steps of 2^(r-1). */
#include "bench/load/hist.h"

static unsigned place(uint64_t us)
{
    if (us < HIST_STEPS)
        return (unsigned)us;
    unsigned range = 63 - (unsigned)__builtin_clzll(us) - 5; /* 1 for 64..127 */
    if (range >= HIST_RANGES)
        return HIST_RANGES * HIST_STEPS - 1;
    return range * HIST_STEPS + (unsigned)((us >> (range - 1)) - HIST_STEPS);
}

static uint64_t value(unsigned at)
{
    unsigned range = at / HIST_STEPS;
    if (range == 0)
        return at;
    return ((uint64_t)(at % HIST_STEPS) + HIST_STEPS) << (range - 1);
}

void hist_add(struct hist *h, uint64_t us)
{
    h->bucket[place(us)]++;
    h->count++;
    h->sum_us += us;
    h->max_us = MAX(h->max_us, us);
}

uint64_t hist_quantile_us(const struct hist *h, double q)
{
    uint64_t wanted = (uint64_t)((double)h->count * q), seen = 0;
    for (unsigned i = 0; i < HIST_RANGES * HIST_STEPS; i++) {
        seen += h->bucket[i];
        if (seen > wanted)
            return value(i);
    }
    return h->max_us;
}
