/* Passwords that PLAIN has proven lately, so that a client that comes back does not cost a stretching each
 * time. Holds no password: a slot is an HMAC under a secret of this process, over the password and the
 * account's keys of now, so a changed password or another account misses. Only proven passwords are kept: a
 * wrong one always costs the full work, for unknown users too. Bounded; slots expire. No clock. */
#ifndef JACKDAW_SASL_VERIFIED_H
#define JACKDAW_SASL_VERIFIED_H

#include "common/base/span.h"
#include "common/sasl/sasl.h"

#define VERIFIED_MAX     4096
#define VERIFIED_KEEP_MS 600000

struct verified;

/* An empty one with a fresh secret; free wipes it. NULL may be freed. */
struct verified *verified_new(void);
void verified_free(struct verified *v);

/* Tells the time, every few seconds: slots age by it. */
void verified_clock(struct verified *v, uint64_t now_ms);

/* What a proof is kept as. */
struct verified_tag {
    uint8_t bytes[32];
};
void verified_tag(const struct verified *v, struct span username, struct span domain, struct span password,
                  const struct sasl_keys *keys, struct verified_tag *out);

/* Whether a proof is kept, and keeping one, in place of the oldest that shares its few slots. */
bool verified_has(const struct verified *v, const struct verified_tag *tag);
void verified_keep(struct verified *v, const struct verified_tag *tag);

#endif
