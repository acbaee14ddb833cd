/* SASL client exchanges, PLAIN (RFC 4616) and SCRAM without channel binding (RFC 5802, 7677), no I/O: for
 * load generators and tests, which keep the stretched password of an account from one login to the next as
 * real clients do (RFC 5802 §5.1). */
#ifndef JACKDAW_SASL_CLIENT_H
#define JACKDAW_SASL_CLIENT_H

#include "common/sasl/sasl.h"

/* What an account's next login need not compute again. Zero-initialise; valid for one password. */
struct sasl_stretched {
    uint8_t password[64]; /* SaltedPassword */
    uint8_t salt[64];
    uint8_t salt_n;
    uint8_t mech;
    uint32_t iterations; /* 0 = nothing kept */
};

struct sasl_client; /* one exchange */

/* Starts an exchange as user and appends the initial response (not encoded) to *out. mech: SASL_PLAIN or a
 * SCRAM without -PLUS, else NULL. The texts are copied; kept is used and filled and must live as long. Free
 * with sasl_client_free. */
struct sasl_client *sasl_client_begin(enum sasl_mech mech, struct span user, struct span password,
                                      struct sasl_stretched *kept, struct buf *out);
void sasl_client_free(struct sasl_client *c);

/* Answers a decoded challenge, appending to *out. False when the server breaks the protocol. */
bool sasl_client_step(struct sasl_client *c, struct span challenge, struct buf *out);

/* Judges the decoded data that came with success: for SCRAM the server's signature (RFC 5802 §3). */
bool sasl_client_verify(struct sasl_client *c, struct span data);

#endif
