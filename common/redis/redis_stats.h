/* What the room counts. Internal to common/redis. */
#ifndef JACKDAW_REDIS_REDIS_STATS_H
#define JACKDAW_REDIS_REDIS_STATS_H

#include "common/stats/stats.h"

extern struct stat_counter redis_stat_commands;   /* handed in by the process */
extern struct stat_counter redis_stat_errors;     /* answered with an error */
extern struct stat_counter redis_stat_lost;       /* never answered */
extern struct stat_counter redis_stat_timeouts;   /* connections ended by a deadline */
extern struct stat_counter redis_stat_reconnects; /* connections that ended, for whatever reason */
extern struct stat_counter redis_stat_again;      /* sent again to a cluster */
extern struct stat_counter redis_stat_moved;      /* answers MOVED and ASK */
extern struct stat_gauge redis_stat_in_flight;    /* commands waiting for their reply */
extern struct stat_histogram redis_stat_reply;    /* from the command to its reply */

/* Enters all in the process's list. */
void redis_stats_register(void);

#endif
