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
    SSL *ssl;                     /* NULL once tls_slim has done its work */
    struct slim_records *records; /* then */
    struct slim_notes *notes;     /* what tls_slim needs; NULL: it won't be called, or has been */
    const char *version;          /* of a slim session; OpenSSL's */
    const char *cipher;
    char *preferred; /* tls_prefer_domain; NULL once the handshake is over */
    char *error;     /* the failure, NULL while there is none */
    enum tls_status status;
    bool dane; /* tls_add_tlsa */
};

/* The session that is being fed right now, for callbacks that get only OpenSSL's objects. */
struct tls *tls_current(void);

/* The BIO method of session.c, made at the first call. */
BIO_METHOD *tls_slice_method(void);

/* Empties OpenSSL's error queue into one line, prefixed by what; the caller frees it. */
char *tls_take_error(const char *what);

/* The context that holds the certificate for a name (any case), the default's when there is none. */
SSL_CTX *tls_ctx_for(struct tls_ctx *ctx, const char *name);

/* The context of a domain (NULL = the default's), NULL when it has none of its own. */
SSL_CTX *tls_ctx_at(const struct tls_ctx *ctx, const char *domain);

/* cert.c: adds a certificate, its chain and key to a context. False with *error set (caller frees) when they
 * can't be read, don't fit, or there is one of the same key type already. */
bool tls_use_pair(SSL_CTX *to, const struct tls_cert_files *files, char **error);

/* peer.c: tls_peer_matches for any certificate. */
bool tls_cert_names(X509 *x, const char *domain, const char *service);

/* Milliseconds since 1970 of an X.509 time; 0 when it can't be read. */
uint64_t tls_time_ms(const ASN1_TIME *t);

#endif
