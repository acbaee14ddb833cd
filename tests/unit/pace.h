/* How much slower than a quiet machine this one is now: time limits of tests are multiplied by it, so that a
 * limit tells a fault from a busy machine. */
#ifndef JACKDAW_TESTS_UNIT_PACE_H
#define JACKDAW_TESTS_UNIT_PACE_H

#include <stdbool.h>
#include <time.h>

#include "common/base/clock.h"

#define PACE_SPIN_NS 5000000 /* of CPU that one look takes */
#define PACE_MAX     16

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PACE_SANITIZED true /* measurements say nothing then, and everything takes a few times as long */
#else
#define PACE_SANITIZED false
#endif

static inline uint64_t pace_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Wall time over CPU time of a few milliseconds of work, at least 1, at most PACE_MAX; four times that with a
 * sanitizer. */
static inline unsigned pace_factor(void)
{
    uint64_t wall = clock_mono_ns(), cpu = pace_cpu_ns();
    while (pace_cpu_ns() - cpu < PACE_SPIN_NS)
        ;
    wall = clock_mono_ns() - wall;
    unsigned slower = (unsigned)((wall + PACE_SPIN_NS / 2) / PACE_SPIN_NS);
    return MAX(1u, MIN(slower, (unsigned)PACE_MAX)) * (PACE_SANITIZED ? 4 : 1);
}

/* A limit for something that takes far less on a quiet machine. Measured when it is asked for the first time
 * and when a limit has passed: see pace_over. */
static inline uint64_t pace_limit_ms(uint64_t ms)
{
    static unsigned factor;
    if (factor == 0)
        factor = pace_factor();
    return ms * factor;
}

/* True when what began at `begun_ms` has had its time: the limit has passed, also as the machine is now. */
static inline bool pace_over(uint64_t begun_ms, uint64_t limit_ms)
{
    uint64_t passed = clock_mono_ms() - begun_ms;
    return passed > limit_ms && passed > pace_limit_ms(limit_ms) && passed > limit_ms * pace_factor();
}

#endif
