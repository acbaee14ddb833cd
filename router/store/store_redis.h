/* The store in Redis (store.h), through the functions of common/redis/functions.lua. */
#ifndef JACKDAW_ROUTER_STORE_REDIS_H
#define JACKDAW_ROUTER_STORE_REDIS_H

#include "router/store/store.h"

struct redis;

/* redis is borrowed for the store's life; its state callback says when what was answered STORE_AWAY may be
 * asked again. */
struct store *store_redis_new(struct redis *redis);

/* Frees the store. Only when nothing is under way any more: after redis_free. NULL is allowed. */
void store_redis_free(struct store *s);

#endif
