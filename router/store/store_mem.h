/* The store in memory (store.h), for unit tests and the simulation: one world, seen by several routers, each
 * through a view of its own. Claims, fences and ids behave as in Redis (common/redis/functions.lua).
 *
 * A call takes effect and is answered in store_mem_run, not before, so the test decides the order and the
 * time. The calls of one view are served in their order, as on one connection. Everything is deterministic.
 */
#ifndef JACKDAW_ROUTER_STORE_MEM_H
#define JACKDAW_ROUTER_STORE_MEM_H

#include "router/store/store.h"

struct store_world;

/* An empty world; the caller frees it. */
struct store_world *store_world_new(void);

/* Frees the world and its views; calls under way are forgotten. NULL is allowed. */
void store_world_free(struct store_world *w);

/* A router's view. The world frees it. */
struct store *store_mem_new(struct store_world *w);

/* Makes an account: from now on claims say `exists`. */
void store_mem_add_account(struct store_world *w, struct span bare);

/* Deletes an account with all its state and voids its claim: the owner's next write is STORE_FENCED. */
void store_mem_del_account(struct store_world *w, struct span bare);

/* Serves the oldest calls of all views, at most max (those asked meanwhile included; SIZE_MAX = until there
 * are none). Returns how many. */
size_t store_mem_run(struct store_world *w, size_t max);

/* The same for one view. */
size_t store_mem_run_view(struct store *s, size_t max);

/* Calls that wait in all views; in one view. */
size_t store_mem_pending(const struct store_world *w);
size_t store_mem_pending_view(const struct store *s);

/* How a view reaches the store, from the next call served on. */
enum store_mem_weather {
    STORE_MEM_FAIR,
    STORE_MEM_AWAY, /* nothing is done, STORE_AWAY is answered */
    STORE_MEM_MUTE  /* it is done, but STORE_AWAY is answered: the reply was lost */
};
void store_mem_set_weather(struct store *s, enum store_mem_weather weather);

/* Out of memory: a batch that adds something is refused with STORE_FULL, everything else goes on. */
void store_mem_set_full(struct store_world *w, bool full);

/* A router died: its calls are forgotten without an answer. The first `done` of them take effect first: they
 * had left the host. */
void store_mem_drop(struct store *s, size_t done);

/* Looking in, without a call. The field's value (p NULL = absent; borrowed until the next write); the number
 * of mailbox entries; the entry at a place, oldest first (NULL = none; borrowed likewise); "EPOCH:NAME:
 * INCARNATION" of the claim, "EPOCH:" after a release, "" when there was none. */
struct span store_mem_field(const struct store_world *w, struct span bare, enum store_hash hash,
                            struct span name);
size_t store_mem_mailbox_count(const struct store_world *w, struct span bare);
const struct store_entry *store_mem_mailbox_at(const struct store_world *w, struct span bare, size_t at);
struct span store_mem_owner(const struct store_world *w, struct span bare);

/* Batches that took effect and batches that were fenced, since the beginning. */
uint64_t store_mem_applied(const struct store_world *w);
uint64_t store_mem_fenced(const struct store_world *w);

#endif
