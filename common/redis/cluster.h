/* Redis Cluster: finds the master of every key and keeps to the order of commands while slots move and
 * masters change. Internal to common/redis; redis.c is its only user. */
#ifndef JACKDAW_REDIS_CLUSTER_H
#define JACKDAW_REDIS_CLUSTER_H

#include "common/redis/connection.h"

struct cluster;

struct cluster_handler {
    void (*state)(void *ctx, bool up); /* up may come again, see redis_new */
    /* A command without answer; to be told from another turn, then cluster_told(slot). */
    void (*failed)(void *ctx, redis_fn *fn, void *fn_ctx, int slot);
    void (*gone)(void *ctx); /* after cluster_free: the memory is free */
};

/* handler and setup are borrowed for its life. */
struct cluster *cluster_new(const struct redis_conn_setup *setup, const struct cluster_handler *handler,
                            void *ctx);

/* Commands under way are forgotten. Ends with handler->gone, now or in a later turn. */
void cluster_free(struct cluster *c);

/* As redis_is_up and redis_reason. */
bool cluster_is_up(const struct cluster *c);
const char *cluster_reason(const struct cluster *c);

/* As redis_command; kept as redis_conn_command. */
void cluster_command(struct cluster *c, struct span key, bool kept, unsigned argc, const struct span *argv,
                     redis_fn *fn, void *ctx);

/* The owner of a failed command has been told. */
void cluster_told(struct cluster *c, int slot);

/* As redis_node_next, redis_node_command, redis_forget. */
unsigned cluster_node_next(const struct cluster *c, unsigned after);
void cluster_node_command(struct cluster *c, unsigned node, unsigned argc, const struct span *argv,
                          redis_fn *fn, void *ctx);
void cluster_forget(struct cluster *c, void *ctx);

/* The address of any node for subscriptions, another one with every call; NULL while none is known. */
const struct redis_address *cluster_any(struct cluster *c);

#endif
