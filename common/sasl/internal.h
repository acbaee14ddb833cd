/* Inside the sasl room: one exchange and what its files share. */
#ifndef JACKDAW_SASL_INTERNAL_H
#define JACKDAW_SASL_INTERNAL_H

#include "common/sasl/sasl.h"

#define DIGEST_MAX_BYTES 64
/* No honest message comes near; it bounds what a login may cost. */
#define MESSAGE_MAX_BYTES 4096

/* digest.c: the hashes of SCRAM, on libnettle. */
enum digest { DIGEST_SHA1, DIGEST_SHA256, DIGEST_SHA512 };

/* Output size in bytes. */
size_t digest_size(enum digest d);

/* out = hash(text), digest_size bytes. */
void digest_hash(enum digest d, struct span text, uint8_t *out);

/* out = HMAC(key, text). */
void digest_hmac(enum digest d, struct span key, struct span text, uint8_t *out);

/* SaltedPassword, RFC 5802 §2.2 Hi(). */
void digest_stretch(enum digest d, struct span password, struct span salt, uint32_t iterations, uint8_t *out);

/* lanes.c: the same for n passwords with salts of their own, side by side. */
void digest_stretch_many(enum digest d, unsigned n, const struct span *passwords, const uint8_t (*salts)[16],
                         uint32_t iterations, uint8_t (*out)[DIGEST_MAX_BYTES]);

/* StoredKey and ServerKey of a SaltedPassword, RFC 5802 §3. */
void digest_keys(enum digest d, const uint8_t *salted, uint8_t *stored, uint8_t *server);

/* Equality in a time that depends on n alone. */
bool digest_equal(const void *a, const void *b, size_t n);

/* Overwrites secrets, also where the compiler sees no later use. */
void digest_wipe(void *p, size_t n);

/* Whether there is a stored pair for a hash, and the pair. */
bool keys_has(const struct sasl_keys *keys, enum digest d);
void keys_set_has(struct sasl_keys *keys, enum digest d);
const uint8_t *keys_stored(const struct sasl_keys *keys, enum digest d);
const uint8_t *keys_server(const struct sasl_keys *keys, enum digest d);

enum state {
    STATE_FIRST, /* waits for the client's first message */
    STATE_USER,  /* waits for sasl_user */
    STATE_FINAL, /* SCRAM: waits for the client's final message */
    STATE_OVER
};

struct sasl {
    enum sasl_mech mech;
    enum state state;
    enum sasl_error error;
    bool tls, plain_in_clear, binding_offered;
    char *domain;
    struct buf exporter, server_end_point, external_jid, mechanisms;
    struct buf username, authzid;
    struct buf password; /* PLAIN */
    struct verified *verified;

    /* SCRAM: the messages that are signed, and what the final one must say. */
    struct buf first_bare, server_first, nonce, binding;
    uint8_t stored[DIGEST_MAX_BYTES], server[DIGEST_MAX_BYTES];
    bool known; /* the user exists and has the hash */
    bool lacks; /* the user exists, without the hash */
};

/* Ends the exchange with an error. */
enum sasl_status sasl_fail(struct sasl *s, enum sasl_error error);

/* Ends it well when the authorisation identity, if one was given, is the user's own bare JID. */
enum sasl_status sasl_succeed(struct sasl *s);

/* scram.c: the three steps. */
enum sasl_status scram_first(struct sasl *s, struct span message);
enum digest scram_digest(enum sasl_mech mech);
enum sasl_status scram_user(struct sasl *s, const struct sasl_keys *keys, struct buf *out);
enum sasl_status scram_final(struct sasl *s, struct span message, struct buf *out);

/* simple.c: PLAIN and EXTERNAL on libgsasl. simple_first reads the client's message; EXTERNAL is over with
 * it. */
enum sasl_status simple_first(struct sasl *s, struct span message);
enum digest plain_digest(const struct sasl_keys *keys);
enum sasl_status plain_user(struct sasl *s, const struct sasl_keys *keys);

/* SASLprep (RFC 4013) for a password to be stored; NULL when it has none. The caller wipes and frees it. */
char *simple_saslprep(struct span password);

#endif
