/* One connection to one Redis node: connects for ever, logs in, loads the functions, pipelines. Knows no
 * keys: routing is the business of redis.c and cluster.c. Internal to common/redis. */
#ifndef JACKDAW_REDIS_CONNECTION_H
#define JACKDAW_REDIS_CONNECTION_H

#include "common/redis/redis.h"
#include "common/redis/url.h"

struct ring_buffers;
struct redis_conn;

enum redis_conn_purpose {
    REDIS_CONN_COMMANDS, /* loads the functions; is up only while Redis takes writes */
    REDIS_CONN_MESSAGES, /* subscriptions: replies are pushes */
    REDIS_CONN_QUESTIONS /* asks a Sentinel or any node of a cluster about the others; loads nothing */
};

struct redis_conn_handler {
    /* Where to connect to, asked before every attempt; stays as it is until the next. NULL: nobody knows, ask
     * again later (redis_conn_poke: now). */
    const struct redis_address *(*next)(void *ctx); /* not for a unix socket */
    void (*up)(void *ctx);
    void (*down)(void *ctx);
    void (*push)(void *ctx, const struct redis_reply *reply); /* REDIS_CONN_MESSAGES only */
    void (*lost)(void *ctx, redis_fn *fn, void *fn_ctx);      /* a command that will get no reply */
    void (*gone)(void *ctx);                                  /* after redis_conn_free: the memory is free */
};

/* What all connections of one struct redis share. Borrowed for the life of every connection. */
struct redis_conn_setup {
    struct ring *ring;
    struct ring_buffers *buffers;
    struct redis_url url;
    unsigned timeout_ms;
    unsigned wait_replicas;
};

/* Starts to connect in the next turn. handler is borrowed for its life. */
struct redis_conn *redis_conn_new(const struct redis_conn_setup *setup, enum redis_conn_purpose purpose,
                                  const struct redis_conn_handler *handler, void *ctx);

/* Stops; ends with handler->gone, now or in a later turn. No other callback comes any more. */
void redis_conn_free(struct redis_conn *c);

/* True between up and down. */
bool redis_conn_is_up(const struct redis_conn *c);

/* The last reason for being away, "" when there was none. */
const char *redis_conn_reason(const struct redis_conn *c);

/* True while a command waits for its reply. */
bool redis_conn_is_busy(const struct redis_conn *c);

/* Ends the connection, as if the other side had, and connects again. */
void redis_conn_drop(struct redis_conn *c, const char *reason);

/* Ends the pause before the next attempt. */
void redis_conn_poke(struct redis_conn *c);

/* Sends a command with the rest of this turn; only while up. fn (may be NULL) is called once with the reply,
 * or handed to handler->lost. kept: a reply that is no error counts only when wait_replicas replicas have
 * what was written, and then holds no list's items. */
void redis_conn_command(struct redis_conn *c, bool kept, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx);

/* The same without expecting a reply of its own; REDIS_CONN_MESSAGES only. */
void redis_conn_send(struct redis_conn *c, unsigned argc, const struct span *argv);

/* Makes the commands of ctx silent. */
void redis_conn_forget(struct redis_conn *c, void *ctx);

#endif
