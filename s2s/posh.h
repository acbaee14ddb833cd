/* POSH (RFC 7711): when no authority vouches for the certificate of a domain's server, the domain itself may,
 * by a document at https://DOMAIN/.well-known/posh/xmpp-server.json. Documents are kept until they expire;
 * that there is none is remembered for a while, too. */
#ifndef JACKDAW_S2S_POSH_H
#define JACKDAW_S2S_POSH_H

#include "common/base/span.h"

struct posh;
struct posh_call;
struct s2s;
struct tls;

enum posh_verdict {
    POSH_VERIFIED, /* the document names the certificate */
    POSH_OTHER,    /* there is a document, and it names others: the peer is to be refused (§3.3) */
    POSH_NONE      /* there is no document, or it could not be had */
};

/* why: for the log, borrowed. */
typedef void posh_fn(void *ctx, enum posh_verdict verdict, const char *why);

/* Needs the resolver. NULL when it is switched off (s2s.posh) or libcurl refuses (logged). */
struct posh *posh_new(struct s2s *s);
void posh_free(struct posh *p);

/* Asks whether the domain vouches for the certificate that t's peer has shown. NULL: no, and that is certain
 * now (POSH is off, the certificate is out of date or there is none, too many ask). Else fn is called once,
 * later; never after posh_cancel, which must come before t goes. */
struct posh_call *posh_start(struct posh *p, struct span domain, struct tls *t, posh_fn *fn, void *ctx);
void posh_cancel(struct posh_call *call);

/* Forgets what has expired; now and then. */
void posh_sweep(struct posh *p);

#endif
