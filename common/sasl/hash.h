/* Hashes for protocols beside SASL, as text where they prove a shared secret (XEP-0114, XEP-0185). */
#ifndef JACKDAW_SASL_HASH_H
#define JACKDAW_SASL_HASH_H

#include "common/base/span.h"

/* SHA-1(text). */
void hash_sha1(struct span text, uint8_t out[20]);

/* Lower-case hex of SHA-1(text) / SHA-256(text) / HMAC-SHA-256(key, text), NUL-terminated. */
void hash_sha1_hex(struct span text, char out[41]);
void hash_sha256_hex(struct span text, char out[65]);
void hash_hmac_sha256_hex(struct span key, struct span text, char out[65]);

/* Equality in a time that depends on the lengths alone. */
bool hash_equal(struct span a, struct span b);

#endif
