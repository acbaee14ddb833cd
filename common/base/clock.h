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

#endif
