/* SASL server exchanges (RFC 4422, RFC 5802, RFC 7677, RFC 4616), no I/O. Owns libgsasl and libnettle. Stored
 * keys only.
 *
 * An exchange: sasl_begin, then sasl_step for each client message. When a step answers SASL_NEED_USER the
 * caller fetches that user's record (from Redis) and calls sasl_user with it, or with NULL when there is
 * none: the exchange goes on the same way, with made-up keys, so that an unknown user costs and looks the
 * same. */
#ifndef JACKDAW_SASL_SASL_H
#define JACKDAW_SASL_SASL_H

#include "common/base/buf.h"

struct verified; /* verified.h */

enum sasl_mech {
    SASL_PLAIN,
    SASL_EXTERNAL,
    SASL_SCRAM_SHA_1,
    SASL_SCRAM_SHA_1_PLUS,
    SASL_SCRAM_SHA_256,
    SASL_SCRAM_SHA_256_PLUS,
    SASL_SCRAM_SHA_512,
    SASL_SCRAM_SHA_512_PLUS,
    SASL_MECH_COUNT
};

/* RFC 6120 §6.5. */
enum sasl_error {
    SASL_E_NONE,
    SASL_E_ABORTED,
    SASL_E_ACCOUNT_DISABLED,
    SASL_E_CREDENTIALS_EXPIRED,
    SASL_E_ENCRYPTION_REQUIRED,
    SASL_E_INCORRECT_ENCODING,
    SASL_E_INVALID_AUTHZID,
    SASL_E_INVALID_MECHANISM,
    SASL_E_MALFORMED_REQUEST,
    SASL_E_MECHANISM_TOO_WEAK,
    SASL_E_NOT_AUTHORIZED,
    SASL_E_TEMPORARY_AUTH_FAILURE
};

/* PBKDF2 iterations of new accounts, which unknown users pretend to have too, and the most that is accepted.
 */
#define SASL_ITERATIONS_DEFAULT 10000
#define SASL_ITERATIONS_MAX     1000000

enum sasl_status { SASL_CONTINUE, SASL_NEED_USER, SASL_DONE, SASL_FAILED };

/* Longest salt taken: other servers' are up to 36 bytes long, our own are 16. */
#define SASL_SALT_MAX 64
#define SASL_SALT_OWN 16

/* The keys of one account, as kept in Redis: for each hash salt, iterations, StoredKey, ServerKey (RFC 5803).
 * An account brought along from another server may have some of the hashes only; the others are zero. */
struct sasl_keys {
    uint32_t iterations;
    uint8_t salt_n;
    bool has_sha1, has_sha256, has_sha512;
    uint8_t salt[SASL_SALT_MAX];
    uint8_t stored_sha1[20], server_sha1[20];
    uint8_t stored_sha256[32], server_sha256[32];
    uint8_t stored_sha512[64], server_sha512[64];
};

/* What the exchange is told. Give the binding data, or binding_offered, if and only if -PLUS mechanisms are
 * advertised: a client that says "y" (I could bind, but you can't) is refused then (RFC 5802 §6). */
struct sasl_server_config {
    const char *domain;           /* the realm: the stream's `to` */
    struct span exporter;         /* tls-exporter data, empty = none */
    struct span server_end_point; /* tls-server-end-point data, empty = none */
    bool binding_offered;         /* there is data that this mechanism does not need */
    bool tls;                     /* the stream is encrypted (PLAIN needs it unless plain_in_clear) */
    bool plain_in_clear;          /* c2s.require_tls = false */
    struct span external_jid; /* prepared bare JID or domain proven by the client certificate, empty = none */
    struct span mechanisms_hash; /* XEP-0474 §5.1 string S, not hashed: sorted mechanisms joined by 0x1E, then
                                    0x1F and the binding types; empty = off */
    struct verified *verified;   /* what PLAIN has proven lately (verified.h), NULL = not kept */
};

struct sasl; /* one exchange */

/* Mechanism names as registered, and back (false: unknown). */
const char *sasl_mech_name(enum sasl_mech mech);
bool sasl_mech_parse(struct span name, enum sasl_mech *out);

/* Name of an error's XMPP element, "not-authorized". */
const char *sasl_error_name(enum sasl_error error);

/* Starts an exchange; config's spans are copied. Never NULL. Free with sasl_free at any moment. */
struct sasl *sasl_begin(enum sasl_mech mech, const struct sasl_server_config *config);
void sasl_free(struct sasl *s);

/* SASL_DONE means: the proof holds, and an authorisation identity, if given, prepares to the user's own bare
 * JID (or, for EXTERNAL, to external_jid); another one fails as invalid-authzid. EXTERNAL never asks for the
 * user: the caller checks that the account exists. A second sasl_step while the user is awaited fails.
 *
 * Takes the client's decoded message (has_message false = none was sent, which asks for an empty challenge),
 * appends the decoded answer to *out: a challenge on SASL_CONTINUE, the data with success on SASL_DONE. */
enum sasl_status sasl_step(struct sasl *s, bool has_message, struct span message, struct buf *out);

/* After SASL_NEED_USER: the account's keys, or NULL for an unknown user (fake_seed, a cluster-wide secret of
 * any length, makes the same unknown user always get the same salt). Continues the step. */
enum sasl_status sasl_user(struct sasl *s, const struct sasl_keys *keys, struct span fake_seed,
                           struct buf *out);

/* After SASL_FAILED. */
enum sasl_error sasl_get_error(const struct sasl *s);

/* After sasl_user: the account exists, but without the hash that this mechanism needs, so that no proof can
 * hold. For the log; the client is not told. */
bool sasl_lacks_hash(const struct sasl *s);

/* The authentication identity as the client gave it (not prepared; for EXTERNAL external_jid), from
 * SASL_NEED_USER on; authorisation identity (empty = none given). Borrowed from the exchange. */
struct span sasl_username(const struct sasl *s);
struct span sasl_authzid(const struct sasl *s);

/* Derives all keys from a password (prepared with SASLprep; false when it can't be, or iterations are 0 or
 * above the maximum) with a random salt. Costs some milliseconds: 3 × iterations HMACs. */
bool sasl_keys_derive(struct span password, uint32_t iterations, struct sasl_keys *out);

/* The same for n accounts at once, several times cheaper each (many lanes of one CPU); good[i] false where
 * password i can't be prepared. iterations from 1 to SASL_ITERATIONS_MAX. For tools. */
void sasl_keys_derive_many(const struct span *passwords, unsigned n, uint32_t iterations,
                           struct sasl_keys *out, bool *good);

/* The text form kept in Redis, and back. Appends to *out. The parse is strict (one entry at least, in the
 * order of the hashes, all with one salt and count) and survives any input. */
void sasl_keys_write(const struct sasl_keys *keys, struct buf *out);
bool sasl_keys_parse(struct span text, struct sasl_keys *out);

#endif
