/* Inside the tls room: what its files share. */
#ifndef JACKDAW_TLS_INTERNAL_H
#define JACKDAW_TLS_INTERNAL_H

#include <openssl/ssl.h>

#include "common/base/map.h"
#include "common/tls/tls.h"

struct tls_ctx {
    SSL_CTX *base;      /* policy, tickets, the default certificate */
    struct map domains; /* lower-case name -> struct tls_domain */
    BIO *slice;         /* the one BIO of all sessions, see session.c */
    struct tls_config config;
    char *alpn;
    uint8_t *ticket_keys; /* ticket_keys_count × TLS_TICKET_KEY_BYTES */
    unsigned ticket_keys_count;
};

struct tls {
    struct tls_ctx *ctx;
    SSL *ssl;                    /* NULL once tls_slim has done its work */
    struct tls_records *records; /* then */
    struct tls_capture *capture; /* what tls_slim needs; NULL: it won't be called, or has been */
    const char *version;         /* of a slim session; OpenSSL's */
    const char *cipher;
    char *preferred; /* tls_prefer_domain; NULL once the handshake is over */
    char *error;     /* the failure, NULL while there is none */
    enum tls_status status;
    bool dane; /* tls_add_tlsa */
};

/* The session that is being fed right now, for callbacks that get only OpenSSL's objects. */
struct tls *tls_current(void);

/* Lets OpenSSL take its random numbers from common/base/random.h, for good. False when it refuses. */
bool tls_random_start(void);

/* Makes our own key schedule of TLS 1.3 known to OpenSSL, for good. The property query with which a context
 * takes it; NULL (OpenSSL's own will do) when it is refused. */
const char *tls_schedule_start(void);

/* The BIO method of session.c, made at the first call. */
BIO_METHOD *tls_slice_method(void);

/* Empties OpenSSL's error queue into one line, prefixed by what; the caller frees it. */
char *tls_take_error(const char *what);

/* The context that holds the certificate for a name (any case), the default's when there is none. */
SSL_CTX *tls_ctx_for(struct tls_ctx *ctx, const char *name);

/* slim.c: has the context tell of its sessions what tls_slim needs; where they keep it. */
void tls_capture_enable(SSL_CTX *ctx);
struct tls_capture *tls_capture_new(void);
/* schedule.c: the session that is being fed has derived the secret of its traffic in one direction. */
void tls_capture_secret(bool in, struct span secret);
void tls_capture_free(struct tls_capture *c);

/* Milliseconds since 1970 of an X.509 time; 0 when it can't be read. */
uint64_t tls_time_ms(const ASN1_TIME *t);

#endif
