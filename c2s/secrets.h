/* Secrets that all nodes share, kept in Redis: the seed for unknown users' salts and the TLS ticket keys,
 * which rotate daily. */
#ifndef JACKDAW_C2S_SECRETS_H
#define JACKDAW_C2S_SECRETS_H

#include "common/base/timers.h"
#include "common/redis/redis.h"
#include "common/tls/tls.h"

struct ring;

#define SECRETS_TICKET_KEYS 3

struct secrets {
    struct ring *ring;
    struct redis *redis;
    struct tls_ctx *tls;   /* NULL = tickets are of no use */
    struct buf *fake_seed; /* filled when it is known */
    struct timer timer;
};

/* Starts fetching (and making, when missing) the secrets; pointers are borrowed until secrets_stop. Call
 * secrets_refresh when Redis begins to answer. */
void secrets_start(struct secrets *s, struct ring *ring, struct redis *redis, struct tls_ctx *tls,
                   struct buf *fake_seed);
void secrets_refresh(struct secrets *s);
void secrets_stop(struct secrets *s);

/* The value to write when `old` (what Redis has; n 0 = nothing) is due for a rotation at wall_ms, appended to
 * *out; false: it is not. Layout: 8 bytes big-endian ms of the newest key, then SECRETS_TICKET_KEYS keys,
 * newest first. */
bool secrets_rotate(struct span old, uint64_t wall_ms, struct buf *out);

#endif
