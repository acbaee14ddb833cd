/* Clocks. Only rooms that do I/O read them; protocol logic is told the time. */
#ifndef JACKDAW_BASE_CLOCK_H
#define JACKDAW_BASE_CLOCK_H

#include "common/base/base.h"

/* Monotonic nanoseconds since an arbitrary start. */
uint64_t clock_mono_ns(void);

/* Monotonic milliseconds since the same start. */
uint64_t clock_mono_ms(void);

/* Milliseconds since 1970-01-01 UTC. */
uint64_t clock_wall_ms(void);

/* Writes wall_ms as XEP-0082 UTC date-time, "2026-11-22T10:57:36.123Z" (25 bytes with the NUL), and returns
 * out. */
char *clock_format_utc(uint64_t wall_ms, char out[32]);

/* Parses a XEP-0082 date-time (fraction optional, "Z" or ±hh:mm). False when it isn't one. */
bool clock_parse_utc(const char *text, size_t n, uint64_t *wall_ms);

/* How long before `now` a wall clock showed `then`, in milliseconds. Negative when `then` lies in the future:
 * the clock of another host is ahead of ours, or ours was set back. Every comparison of wall clocks goes
 * through this: a plain difference of two unsigned times makes the near future look like the distant past. */
static inline int64_t clock_age_ms(uint64_t now, uint64_t then)
{
    return (int64_t)(now - then);
}

/* The same, where the future counts as now. */
static inline uint64_t clock_elapsed_ms(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

#endif
