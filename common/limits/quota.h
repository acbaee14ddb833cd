/* How often each address has done something that costs much: so many times an hour, counted from the first.
 * Bounded. No clock, no I/O. */
#ifndef JACKDAW_LIMITS_QUOTA_H
#define JACKDAW_LIMITS_QUOTA_H

#include "common/limits/limits.h"

/* Addresses remembered; with more in one hour new ones are refused, as nothing can be said of them. */
#define QUOTA_ADDRESSES_MAX 16384
#define QUOTA_PERIOD_MS     3600000

/* Zero-initialise. */
struct quota {
    struct map addresses;
};

/* Whether an address has less than max in its hour. */
bool quota_left(const struct quota *q, const struct limits_key *key, uint64_t max, uint64_t now_ms);

/* Counts one; only after quota_left has said yes in the same turn. */
void quota_take(struct quota *q, const struct limits_key *key, uint64_t now_ms);

/* Forgets addresses whose hour is over. */
void quota_sweep(struct quota *q, uint64_t now_ms);

/* Frees everything. */
void quota_free(struct quota *q);

#endif
