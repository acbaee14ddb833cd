#include "common/redis/redis_stats.h"

struct stat_counter redis_stat_commands =
    STAT_COUNTER("jackdaw_redis_commands_total", "Commands given to Redis", NULL);
struct stat_counter redis_stat_errors =
    STAT_COUNTER("jackdaw_redis_errors_total", "Commands that Redis answered with an error", NULL);
struct stat_counter redis_stat_lost = STAT_COUNTER(
    "jackdaw_redis_lost_total", "Commands that got no answer: connection lost, deadline, away", NULL);
struct stat_counter redis_stat_timeouts = STAT_COUNTER(
    "jackdaw_redis_timeouts_total", "Connections given up because a command's deadline passed", NULL);
struct stat_counter redis_stat_reconnects =
    STAT_COUNTER("jackdaw_redis_reconnects_total", "Connections and attempts that ended", NULL);
struct stat_counter redis_stat_again =
    STAT_COUNTER("jackdaw_redis_again_total",
                 "Commands sent again to a Redis Cluster: moved, not now, connection lost", NULL);
struct stat_counter redis_stat_moved =
    STAT_COUNTER("jackdaw_redis_moved_total", "Answers MOVED and ASK of a Redis Cluster", NULL);
struct stat_gauge redis_stat_in_flight =
    STAT_GAUGE("jackdaw_redis_in_flight", "Commands that wait for their reply", NULL);
struct stat_histogram redis_stat_reply =
    STAT_HISTOGRAM("jackdaw_redis_reply_seconds", "Time from a command to its reply", NULL);

void redis_stats_register(void)
{
    stat_register(&redis_stat_commands.meta);
    stat_register(&redis_stat_errors.meta);
    stat_register(&redis_stat_lost.meta);
    stat_register(&redis_stat_timeouts.meta);
    stat_register(&redis_stat_reconnects.meta);
    stat_register(&redis_stat_again.meta);
    stat_register(&redis_stat_moved.meta);
    stat_register(&redis_stat_in_flight.meta);
    stat_register(&redis_stat_reply.meta);
}
