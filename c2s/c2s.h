/* The connection manager: everything of one process. It does what needs the socket (TLS, framing, limits,
 * SASL, features, counting) and knows no roster and no routing rule. */
#ifndef JACKDAW_C2S_C2S_H
#define JACKDAW_C2S_C2S_H

#include "c2s/conn.h"
#include "c2s/secrets.h"
#include "common/config/conf.h"
#include "common/limits/quota.h"
#include "common/proc/proc.h"

struct listener;

struct c2s {
    struct proc *proc;
    const struct conf *conf;
    struct ring *ring;
    struct bus *bus;
    struct redis *redis;
    struct member *member;
    struct ring_buffers *buffers;
    struct tls_ctx *tls;         /* NULL = no certificate */
    struct tls_directory *certs; /* then NULL, too */
    struct session_env env;
    struct buf domains_text; /* holds env.domains */
    struct list conns;       /* struct conn.node */
    struct list dirty;
    struct list dying;
    struct ring_hook flush_hook;
    struct uplink_hub hub;
    struct limits limits;
    struct quota signups; /* accounts made, by address */
    struct secrets secrets;
    struct list listeners;
    struct timer sweep;
    struct buf plain; /* decrypted bytes of one receive */
    uint64_t count;   /* of conns */
    bool draining;
};

/* listener.c: opens all listeners of the configuration; closes those that are open. False: none could be
 * opened.
 */
bool listeners_open(struct c2s *c);
void listeners_close(struct c2s *c);

/* A connection has gone; ends the drain with the last. */
void c2s_conn_gone(struct c2s *c);

#endif
