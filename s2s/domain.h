/* The other servers: for each remote domain its outgoing stream, what went wrong last and when to try again;
 * for each pair of a local and a remote domain the queue of stanzas and the stream that may carry them (the
 * outgoing one, or an incoming one that goes both ways, XEP-0288). */
#ifndef JACKDAW_S2S_DOMAIN_H
#define JACKDAW_S2S_DOMAIN_H

#include "common/stanza/stanza.h"
#include "s2s/leg.h"

struct local;
struct out;

struct remote {
    struct s2s *s2s;
    char *domain;
    struct list pairs;       /* struct pair.node */
    struct list verifies;    /* struct verify.node */
    struct out *out;         /* NULL = none, nor being made */
    uint64_t retry_ms;       /* not before */
    unsigned failures;       /* in a row */
    enum stanza_error error; /* the last one's */
    char *reason;
    uint64_t used_ms;
};

struct pair {
    struct list node;
    struct remote *remote;
    struct local *local;
    struct queue queue;
    struct leg *leg; /* proven for this pair, NULL = none */
    bool asked;      /* dialback is under way on remote->out */
    bool was_up;     /* the remote server has worked: what waits is kept until its deadline */
};

/* A question to the authoritative server: has it sent this key? (XEP-0220 §2.2) */
struct verify {
    struct list node;
    uint64_t sid; /* of the incoming stream */
    char *local;
    char *stream_id;
    char *key;
    bool asked;
};

/* Sends a stanza from a local to a remote domain, or answers it with an error. */
void domain_send(struct s2s *s, struct span from, struct span to, struct item *i);

/* Asks the remote domain's server about a key; in_verified is told. */
void domain_verify(struct s2s *s, struct span local, struct span remote, uint64_t sid, struct span stream_id,
                   struct span key);

/* The verify of that stream id was answered. */
void domain_verified(struct remote *r, struct span local, struct span stream_id, bool valid);

/* A leg has been proven for a pair / for a pair found by names (an incoming stream that goes both ways) / is
 * no longer usable: its unacknowledged stanzas go back into their queues. */
void pair_up(struct pair *p, struct leg *l);
void domain_up(struct s2s *s, struct span local, struct span remote, struct leg *l);
void domain_leg_lost(struct leg *l);

/* Writes what waits while the leg has room. */
void domain_leg_ready(struct leg *l);

/* The outgoing stream has ended. error: what to tell those who wait; failed: it never worked, so wait before
 * the next try. */
void domain_out_lost(struct remote *r, bool failed, enum stanza_error error, const char *reason);

/* The remote server refuses this pair. */
void pair_refused(struct pair *p, enum stanza_error error, const char *reason);

/* The pair of a local domain, or NULL. */
struct pair *remote_pair(struct remote *r, struct span local);

/* True when a pair has stanzas and no stream. */
bool pair_wants(const struct pair *p);

/* Once a second: deadlines, forgotten domains, retries. Frees all at the end. */
void domain_sweep(struct s2s *s);
void domain_free_all(struct s2s *s);

#endif
