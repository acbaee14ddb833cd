/* One connection to one Redis node: connects for ever, logs in, loads the functions, pipelines. Knows no
 * keys: routing is redis.c's business. Internal to common/redis. */
#ifndef JACKDAW_REDIS_CONNECTION_H
#define JACKDAW_REDIS_CONNECTION_H

#include "common/redis/redis.h"
#include "common/redis/url.h"

struct ring_buffers;
struct redis_conn;

enum redis_conn_purpose {
    REDIS_CONN_COMMANDS, /* loads the functions; is up only while Redis takes writes */
    REDIS_CONN_MESSAGES  /* subscriptions: replies are pushes */
};

struct redis_conn_handler {
    void (*up)(void *ctx);
    void (*down)(void *ctx);
    void (*push)(void *ctx, const struct redis_reply *reply); /* REDIS_CONN_MESSAGES only */
    void (*lost)(void *ctx, redis_fn *fn, void *fn_ctx);      /* a command that will get no reply */
    void (*gone)(void *ctx);                                  /* after redis_conn_free: the memory is free */
};

/* Starts to connect in the next turn. url, handler and buffers are borrowed for its life. */
struct redis_conn *redis_conn_new(struct ring *ring, struct ring_buffers *buffers,
                                  const struct redis_url *url, unsigned timeout_ms,
                                  enum redis_conn_purpose purpose, const struct redis_conn_handler *handler,
                                  void *ctx);

/* Stops; ends with handler->gone, now or in a later turn. No other callback comes any more. */
void redis_conn_free(struct redis_conn *c);

/* True between up and down. */
bool redis_conn_is_up(const struct redis_conn *c);

/* The last reason for being away, "" when there was none. */
const char *redis_conn_reason(const struct redis_conn *c);

/* Sends a command with the rest of this turn; only while up. fn (may be NULL) is called once with the reply,
 * or handed to handler->lost. */
void redis_conn_command(struct redis_conn *c, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx);

/* The same without expecting a reply of its own; REDIS_CONN_MESSAGES only. */
void redis_conn_send(struct redis_conn *c, unsigned argc, const struct span *argv);

/* Makes the commands of ctx silent. */
void redis_conn_forget(struct redis_conn *c, void *ctx);

#endif
