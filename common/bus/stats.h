/* The figures of the bus. Inside the room. */
#ifndef JACKDAW_BUS_STATS_H
#define JACKDAW_BUS_STATS_H

#include "common/stats/stats.h"

extern struct stat_counter bus_stat_frames_in, bus_stat_frames_out;
extern struct stat_counter bus_stat_batches_in, bus_stat_batches_out;
extern struct stat_counter bus_stat_bytes_in, bus_stat_bytes_out;
extern struct stat_counter bus_stat_resends, bus_stat_stalls, bus_stat_refused;
extern struct stat_gauge bus_stat_links;

/* Enters all of them; unacked reads the gauge of unacknowledged bytes. */
void bus_stats_register(int64_t (*unacked)(void *ctx), void *ctx);

/* Counts why messages were dropped: the LINK_ events. peer may be NULL. */
void bus_stats_dropped(unsigned events, const char *peer);

/* Counts and logs a frame that no link takes. */
void bus_stats_too_large(size_t bytes, const char *peer);

/* No more calls of unacked with ctx. */
void bus_stats_forget(void *ctx);

#endif
