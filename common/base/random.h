/* Randomness: from the kernel for secrets and ids, from a seed for simulations. */
#ifndef JACKDAW_BASE_RANDOM_H
#define JACKDAW_BASE_RANDOM_H

#include "common/base/base.h"

/* Fills with unpredictable bytes (getrandom), small pieces from a stock of the thread. Aborts if the kernel
 * cannot. */
void random_bytes(void *out, size_t n);

/* An unpredictable number, never 0. */
uint64_t random_u64(void);

/* Writes 2 × n_bytes lower-case hex digits of unpredictable bytes and a NUL; out holds 2 × n_bytes + 1. */
void random_hex(char *out, size_t n_bytes);

/* A seeded generator (xoshiro256**), the same sequence for the same seed. Not for secrets. */
struct rng {
    uint64_t s[4];
};

/* Seeds; any seed is fine. */
void rng_seed(struct rng *r, uint64_t seed);

/* The next number. */
uint64_t rng_next(struct rng *r);

/* A number in [0, below), below > 0. */
uint64_t rng_below(struct rng *r, uint64_t below);

#endif
