/* Where the server of a domain is: SRV for direct TLS and STARTTLS, addresses of both families, the fallback
 * of RFC 6120 §3.2.2, DNSSEC validation where there is a trust anchor. Owns libunbound. */
#ifndef JACKDAW_S2S_RESOLVE_H
#define JACKDAW_S2S_RESOLVE_H

#include <sys/socket.h>

#include "s2s/srv.h"

struct conf;
struct resolver;
struct resolve_call;
struct ring;

#define TARGET_TLSA_MAX 4

struct target {
    struct sockaddr_storage address;
    bool tls; /* direct TLS */
    char host[256];
    struct tlsa tlsa[TARGET_TLSA_MAX]; /* proven by DNSSEC, as the SRV record was (RFC 7673) */
    uint8_t tlsa_count;
};

#define RESOLVE_TARGETS_MAX 32

enum resolve_result {
    RESOLVE_OK,
    RESOLVE_NONE,   /* the domain doesn't exist, has no address, or says that it has no such service */
    RESOLVE_FAILED, /* no answer; may be better later */
    RESOLVE_BOGUS   /* DNSSEC says that the answer is forged */
};

/* targets in the order in which to try them, borrowed for the call. */
typedef void resolve_fn(void *ctx, enum resolve_result result, const struct target *targets, unsigned count);

/* A resolver. NULL when libunbound refuses the configuration (logged). */
struct resolver *resolver_new(struct ring *ring, const struct conf *conf);
void resolver_free(struct resolver *r);

/* Looks a domain up (prepared, U-labels). fn is called once, later; never after resolve_cancel. */
struct resolve_call *resolve_start(struct resolver *r, struct span domain, resolve_fn *fn, void *ctx);
/* Only the addresses of a host (A-labels, or an address itself); the targets' ports are 0. */
struct resolve_call *resolve_host(struct resolver *r, struct span host, resolve_fn *fn, void *ctx);
void resolve_cancel(struct resolve_call *call);

#endif
