/* The hand-over: from OpenSSL's session to its record layer alone (record.h). README.md is for reviewers. */
#ifndef JACKDAW_SLIM_SLIM_H
#define JACKDAW_SLIM_SLIM_H

#include "common/tls/slim/record.h"

struct ssl_st;     /* OpenSSL's SSL */
struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

/* What a session has told while OpenSSL worked: secrets and how often they were used. */
struct slim_notes;

/* Has the context tell its sessions' secrets. */
void slim_watch_ctx(struct ssl_ctx_st *ctx);

/* Takes notes of a session of such a context, from before its handshake on. They are freed after the session,
 * or after slim_unwatch. */
struct slim_notes *slim_watch(struct ssl_st *ssl);
void slim_unwatch(struct ssl_st *ssl);
void slim_notes_free(struct slim_notes *n);

enum slim_offer {
    SLIM_TAKEN, /* *out goes on; the session is good for nothing but SSL_free */
    SLIM_LATER, /* something is under way in the session; all is as before, ask again */
    SLIM_NEVER  /* this session stays with OpenSSL */
};

/* Takes a session over. The caller knows that its handshake is over and that it has given OpenSSL all that
 * was received and sent all that OpenSSL has written. */
enum slim_offer slim_take(struct slim_notes *n, struct ssl_st *ssl, struct slim_records **out);

#endif
