/* A federation process: everything that it holds. Streams with other servers (in, out) and components end
 * here; it knows no roster and no session, only where a stanza goes next. */
#ifndef JACKDAW_S2S_S2S_H
#define JACKDAW_S2S_S2S_H

#include "common/base/arena.h"
#include "common/base/map.h"
#include "common/config/conf.h"
#include "common/conn/conn.h"
#include "common/limits/limits.h"
#include "common/proc/proc.h"
#include "common/stream/stream.h"
#include "s2s/estate.h"
#include "s2s/resume.h"
#include "s2s/uplink.h"
#include "s2s/witness.h"

struct component;
struct listener;
struct posh;
struct resolver;
struct tls_ctx;
struct tls_directory;

/* A domain of this cluster. */
struct local {
    char *domain;
    struct component *component; /* NULL = users live there */
};

struct s2s {
    struct proc *proc;
    const struct conf *conf;
    struct ring *ring;
    struct bus *bus;
    struct redis *redis;
    struct member *member;
    struct conn_hub hub;
    struct tls_ctx *tls;         /* NULL = no certificate */
    struct tls_directory *certs; /* then NULL, too */
    bool have_cert;
    struct stream_kind server_kind, component_kind;
    struct stream_kind bind_kind;    /* of components that speak XEP-0225 */
    struct xml_parser *index_parser; /* for stanzas of our own (jabber:client) */
    struct arena *arena;
    struct buf scratch; /* the stanza that is being taken */
    struct map locals;  /* domain → struct local */
    struct uplink_hub uplink;
    struct estate_hub estate;
    struct resume_hub resume;
    /* NULL = there is none. */
    struct witness *witness;
    struct idmap sources;   /* sid → struct leg */
    struct list legs;       /* struct leg.node */
    struct list listeners;  /* listener.c */
    struct map remotes;     /* domain.c: domain → struct remote */
    struct list components; /* component.c */
    struct limits limits;   /* listener.c: connections by address */
    uint64_t swept_ms;      /* of those, last time */
    struct resolver *resolver;
    struct posh *posh;    /* NULL = switched off */
    struct buf secret;    /* of dialback keys, empty until Redis has told it */
    struct timer sweep;   /* of domain queues */
    struct timer refresh; /* of what Redis knows */
    uint64_t pair_count;
    bool draining;
};

/* The local domain of that name, or NULL. */
struct local *s2s_local(struct s2s *s, struct span domain);

/* False when the configuration forbids federation with a domain. */
bool s2s_allows(const struct s2s *s, struct span domain);

/* listener.c: opens all listeners of the configuration; closes those that are open. */
bool listeners_open(struct s2s *s);
void listeners_close(struct s2s *s);

/* The last stream of a drain may have gone. */
void s2s_leg_gone(struct s2s *s);

#endif
