/* Asks somebody who knows where Redis is, again and again: a Sentinel, or any node of a cluster. Whoever does
 * not answer is passed over for the next. Internal to common/redis. */
#ifndef JACKDAW_REDIS_SCOUT_H
#define JACKDAW_REDIS_SCOUT_H

#include "common/redis/connection.h"

struct scout;

struct scout_handler {
    /* An answer, borrowed for the call; host is the one that was asked. False: it does not know. */
    bool (*answer)(void *ctx, const struct redis_reply *reply, struct span host);
    void (*gone)(void *ctx); /* after scout_free: the memory is free */
};

/* Asks the seeds of setup->url the question of argc words (borrowed for its life) every period_ms. */
struct scout *scout_new(const struct redis_conn_setup *setup, unsigned argc, const struct span *argv,
                        unsigned period_ms, const struct scout_handler *handler, void *ctx);

/* Ends with handler->gone, now or in a later turn. */
void scout_free(struct scout *s);

/* Asks now; at most every 50 ms. */
void scout_ask(struct scout *s);

/* Asks somebody else. */
void scout_ask_another(struct scout *s);

/* Adds an address to ask, known from the answers. */
void scout_learn(struct scout *s, struct span host, struct span port);

/* Why there is no answer; "" when there was none to give. */
const char *scout_reason(const struct scout *s);

#endif
