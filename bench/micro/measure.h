/* How the programs of this folder measure: a named piece of work over and over, nanoseconds of CPU time per
 * unit as the median of several rounds. With JD_BENCH_ONCE in the environment each runs once, so that
 * callgrind can count (check.py); an argument names the ones to run. */
#ifndef JACKDAW_BENCH_MICRO_MEASURE_H
#define JACKDAW_BENCH_MICRO_MEASURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEASURE_ROUNDS 15

static const char *measure_only; /* a part of the names to measure; NULL = all */
static uint64_t checksum
    __attribute__((unused)); /* what was computed, so that the compiler must compute it */

/* Processor time of this process, so that a busy machine disturbs less. */
static inline uint64_t measure_cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int measure_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* What check.py tells callgrind to count. */
__attribute__((noinline, noclone)) static void measure_once(void (*run)(void))
{
    run();
    __asm__ volatile("" ::: "memory"); /* no tail call: callgrind must see the return */
}

/* Runs `run`, which does `units` pieces of work; prints one line. Returns the median in ns, 0 when it printed
 * none. */
static inline double measure(const char *what, unsigned units, unsigned repeat, void (*run)(void))
{
    double ns[MEASURE_ROUNDS];

    if (measure_only != NULL && strstr(what, measure_only) == NULL)
        return 0;
    measure_once(run);
    if (getenv("JD_BENCH_ONCE") != NULL)
        return 0;
    for (unsigned round = 0; round < MEASURE_ROUNDS; round++) {
        uint64_t start = measure_cpu_ns();
        for (unsigned i = 0; i < repeat; i++)
            run();
        ns[round] = (double)(measure_cpu_ns() - start) / ((double)repeat * units);
    }
    qsort(ns, MEASURE_ROUNDS, sizeof(ns[0]), measure_by_value);
    printf("%-44s %7.1f ns  (best %.1f)\n", what, ns[MEASURE_ROUNDS / 2], ns[0]);
    return ns[MEASURE_ROUNDS / 2];
}

#endif
