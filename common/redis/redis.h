/* Redis (>= 7) without waiting: commands go out pipelined once per turn, replies come back as callbacks. Owns
 * hiredis. Redis Cluster and Sentinel fit behind this header: every command names the key that decides where
 * it goes. */
#ifndef JACKDAW_REDIS_REDIS_H
#define JACKDAW_REDIS_REDIS_H

#include "common/base/buf.h"

struct ring;
struct redis;

enum redis_kind { REDIS_KIND_NIL, REDIS_KIND_TEXT, REDIS_KIND_NUMBER, REDIS_KIND_LIST, REDIS_KIND_ERROR };

/* A reply, borrowed for the callback. Status and bulk replies are TEXT. Items of a LIST follow as an array.
 */
struct redis_reply {
    enum redis_kind kind;
    struct span text; /* TEXT, ERROR */
    int64_t number;   /* NUMBER */
    const struct redis_reply *items;
    size_t count;
};

/* Called exactly once per command. reply NULL: no answer (connection lost, deadline, never connected): the
 * command may or may not have been done. */
typedef void redis_fn(void *ctx, const struct redis_reply *reply);

struct redis_config {
    /* redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], unix://[[USER]:PASSWORD@]/PATH[?db=DB],
     * redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...] (some nodes of a Redis Cluster) or
     * redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER[/DB] (Sentinels, which have no
     * password themselves); %XX in USER and PASSWORD */
    const char *url;
    unsigned timeout_ms;
    unsigned wait_replicas; /* see redis_write */
};

/* Connects, and again with back-off for ever; loads the functions of functions.lua at every connect. state is
 * called when Redis begins (after the functions are loaded) or ceases to answer; the first call says true.
 * With a cluster true may come again while it is up: a part was away, what got no answer may be asked again.
 * NULL with *error set (caller frees) when the URL is not one. */
struct redis *redis_new(struct ring *ring, const struct redis_config *config,
                        void (*state)(void *ctx, bool up), void *ctx, char **error);

/* True when text is a URL that redis_new would take; else false with *error (caller frees) saying what is
 * wrong. */
bool redis_url_check(const char *text, char **error);

/* Ends the connections; commands without an answer are forgotten (fn is not called). Allowed inside a
 * callback. The memory goes when the loop has given the operations back, so let it turn before ring_free.
 * NULL is allowed. */
void redis_free(struct redis *r);

/* True while commands can be expected to be answered. */
bool redis_is_up(const struct redis *r);

/* Why Redis is away, for the operator ("Connection refused"); "" while it is up or before the first try.
 * Valid until the next turn. */
const char *redis_reason(const struct redis *r);

/* Sends a command of argc arguments (copied). key decides the node in a cluster; empty = any. fn may be NULL.
 * A deadline that passes ends the connection, as nothing behind it can be answered any more. While Redis is
 * away fn is called with NULL in the next turn, never from inside this call.
 * Commands whose keys share a hash tag are done in the order in which they were given. In a cluster they are
 * sent again, within the deadline, when their keys have moved or their node is away; after a lost connection
 * only such as may be done twice. */
void redis_command(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                   void *ctx);

/* The same from literals and spans: redis_send(r, key, fn, ctx, SPAN("GET"), key). */
#define redis_send(r, key, fn, ctx, ...)                                                  \
    redis_command((r), (key), sizeof((struct span[]){__VA_ARGS__}) / sizeof(struct span), \
                  (struct span[]){__VA_ARGS__}, (fn), (ctx))

/* The same for what must not get lost: an answer that is no error counts only when wait_replicas replicas
 * have the write too (one WAIT a turn); otherwise it is NULL, Redis counts as away until there are enough
 * replicas, and the write has probably been done. The answer must not be a LIST. */
void redis_write(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                 void *ctx);

/* The nodes that hold keys, for SCAN: the first after `after` (0 = the first of all), 0 = there are no more.
 */
unsigned redis_node_next(const struct redis *r, unsigned after);

/* Sends a command to one of them; fn is called with NULL when it is one no more. */
void redis_node_command(struct redis *r, unsigned node, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx);

/* Makes callbacks for ctx silent: fn is not called any more for commands in flight. For owners that die
 * early. */
void redis_forget(struct redis *r, void *ctx);

/* A message of a channel, borrowed for the call. Empty after every (re)connect of the subscription: messages
 * may have been missed, look yourself. */
typedef void redis_message_fn(void *ctx, struct span message);

/* Listens to a channel (on a second connection, made at the first call), for the life of r. Delivery is at
 * most once, as PUBLISH is. */
void redis_subscribe(struct redis *r, struct span channel, redis_message_fn *fn, void *ctx);

/* True for an ERROR whose first word is code: redis_error_is(reply, "FENCED"). False for NULL. */
bool redis_error_is(const struct redis_reply *reply, const char *code);

/* The value behind field in a flat LIST of field, value, ... (HGETALL); the empty span when absent. */
struct span redis_pair(const struct redis_reply *list, const char *field);

#endif
