/* The other servers: for each remote domain its outgoing stream, what went wrong last and when to try again;
 * for each pair of a local and a remote domain the queue of stanzas and the stream that may carry them (the
 * outgoing one, or an incoming one that goes both ways, XEP-0288). */
#ifndef JACKDAW_S2S_DOMAIN_H
#define JACKDAW_S2S_DOMAIN_H

#include "common/stanza/stanza.h"
#include "s2s/leg.h"

struct local;
struct out;

/* A stream whose connection broke: what the peer had not acknowledged waits until the stream is resumed
 * (XEP-0198 §5) and the peer says what it has. */
struct suspended {
    char *id;
    struct pair *pair;
    bool dials;           /* we began it, so we resume it; else the peer does, for a while */
    struct queue unacked; /* marks are numbers of that stream */
    struct leg_counts counts;
    uint32_t h; /* for the peer */
    uint64_t out_acked;
    uint64_t until_ms;
    uint64_t spare; /* sid of an incoming leg that could carry the pair as well, 0 = none */
};

struct remote {
    struct s2s *s2s;
    char *domain;
    struct list pairs;    /* struct pair.node */
    struct list verifies; /* struct verify.node */
    struct suspended *suspended;
    struct out *out;         /* NULL = none, nor being made */
    uint64_t retry_ms;       /* not before */
    unsigned failures;       /* in a row */
    enum stanza_error error; /* the last one's */
    char *reason;
    uint64_t used_ms;
    uint64_t external_ms; /* it has refused our SASL EXTERNAL: not before, dialback meanwhile */
    unsigned in_streams;  /* proven ones that it has opened */
    struct quota quota;   /* of the stanzas that come over them */
};

struct pair {
    struct list node;
    struct remote *remote;
    struct local *local;
    struct queue queue;
    struct leg *leg; /* proven for this pair, NULL = none */
    bool asked;      /* dialback is under way on remote->out */
    bool awaited;    /* an incoming stream that goes both ways will soon carry it */
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

/* The peer's answer on a leg that is proven for the pair of r->suspended: good and has h of its stanzas, or
 * not good (h -1: it does not say what it has). What it has not is sent (again). */
void domain_resumed(struct remote *r, struct leg *l, bool good, int64_t h);

/* The peer has taken a stream up on a leg and has h of our stanzas: true when it had been this process's. /
 * The same on a leg of another process. */
bool domain_took_up(struct leg *l, const char *id, int64_t h);
void domain_taken_up(struct s2s *s, struct span id, int64_t h);

/* A leg has been proven for a pair / for a pair found by names (an incoming stream that goes both ways) / is
 * no longer usable: its unacknowledged stanzas go back into their queues. */
void pair_up(struct pair *p, struct leg *l);
void domain_up(struct s2s *s, struct span local, struct span remote, struct leg *l);
void domain_leg_lost(struct leg *l);

/* An incoming stream will soon be up for a pair / will not. */
void domain_await(struct s2s *s, struct span local, struct span remote, bool on);

/* Writes what waits while the leg has room. */
void domain_leg_ready(struct leg *l);

/* The outgoing stream has ended. error: what to tell those who wait; failed: it never worked, so wait before
 * the next try. */
void domain_out_lost(struct remote *r, bool failed, enum stanza_error error, const char *reason);

/* The outgoing stream begins anew, on another connection: what was asked for on it is asked for again. */
void domain_out_again(struct remote *r);

/* The remote server refuses this pair. */
void pair_refused(struct pair *p, enum stanza_error error, const char *reason);

/* An incoming stream was proven to be that domain's: it shares the domain's quota until domain_in_leave.
 * NULL: the domain has too many streams (s2s.streams_per_domain). */
struct remote *domain_in_enter(struct s2s *s, struct span domain);
void domain_in_leave(struct remote *r);

/* The pair of a local domain, or NULL. */
struct pair *remote_pair(struct remote *r, struct span local);

/* True when a pair has stanzas and no stream. */
bool pair_wants(const struct pair *p);

/* Once a second: deadlines, forgotten domains, retries. Frees all at the end. */
void domain_sweep(struct s2s *s);
void domain_free_all(struct s2s *s);

#endif
