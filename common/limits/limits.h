/* Limits: token buckets for whoever sends, counts and rates for the addresses that connect. No clock, no I/O.
 */
#ifndef JACKDAW_LIMITS_LIMITS_H
#define JACKDAW_LIMITS_LIMITS_H

#include <sys/socket.h>

#include "common/base/map.h"

/* A bucket that fills with `rate` tokens a second up to two seconds' worth. It may go into debt, so that one
 * large stanza passes and is paid for after. Zero-initialise. */
struct bucket {
    uint64_t at_ms;
    int64_t milli; /* tokens × 1000 below full; 0 = full, negative = used */
};

/* Takes cost tokens and returns for how many ms nothing more should be taken (0 = go on). */
uint64_t bucket_take(struct bucket *b, uint64_t rate, uint64_t cost, uint64_t now_ms);

/* An address as limits see it: IPv4 (also when a listener for both kinds says it as ::ffff:a.b.c.d), or the
 * /64 of IPv6. */
struct limits_key {
    uint8_t bytes[16];
};
struct limits_key limits_key(const struct sockaddr_storage *address);

/* One address with connections, or with a recent past. */
struct limits_address {
    struct limits_key key;
    uint32_t connections;
    struct bucket rate;
};

struct limits {
    struct map addresses;
    bool enabled;
    uint64_t connections_per_address;
    uint64_t connection_rate_per_address;
};

enum limits_verdict { LIMITS_OK, LIMITS_TOO_MANY, LIMITS_TOO_FAST };

/* A new connection. LIMITS_OK with its address in *out, to be given to limits_leave at its end. */
enum limits_verdict limits_enter(struct limits *l, const struct sockaddr_storage *address, uint64_t now_ms,
                                 struct limits_address **out);

/* A connection has ended; NULL is allowed. */
void limits_leave(struct limits *l, struct limits_address *address, uint64_t now_ms);

/* Forgets addresses without connections whose bucket is full; once a minute or so. */
void limits_sweep(struct limits *l, uint64_t now_ms);

/* Frees everything. */
void limits_free(struct limits *l);

#endif
