/* Hashes: keyed per process (tables, safe against crafted keys) and stable (the same in every process). */
#ifndef JACKDAW_BASE_HASH_H
#define JACKDAW_BASE_HASH_H

#include "common/base/span.h"

/* SipHash-1-3 with a key drawn at the first call. For tables; differs between processes. */
uint64_t hash_bytes(struct span s);

/* A 64-bit mix of a number, keyed per process. */
uint64_t hash_u64(uint64_t value);

/* SipHash-2-4 with a fixed key, mixed with seed. The same in every process and every version: slots,
 * rendezvous. */
uint64_t hash_stable(struct span s, uint64_t seed);

#endif
