/* A leg: one stream with another server or a component, whoever began it. What all of them share: the
 * connection, the stream, stanzas in (checked, numbered, safe when their receipt comes back) and stanzas out
 * (kept until the other side has them), stream management (XEP-0198; resumption: resume.h), time limits, the
 * end. What differs (negotiation, who may speak for whom) is asked of struct leg_role. */
#ifndef JACKDAW_S2S_LEG_H
#define JACKDAW_S2S_LEG_H

#include "common/base/map.h"
#include "common/conn/conn.h"
#include "common/stanza/stanza.h"
#include "common/stream/stream.h"
#include "s2s/queue.h"

struct s2s;
struct leg;

/* A token bucket of one second's worth. */
struct quota {
    uint64_t ms; /* time of the last refill */
    uint64_t left;
};

/* What a stanza from this peer may be. */
enum leg_verdict { LEG_GOOD, LEG_INVALID_FROM, LEG_HOST_UNKNOWN, LEG_NOT_AUTHORIZED };

struct leg_role {
    const char *name; /* "in", "out", "component" */
    void (*connected)(struct leg *l);
    void (*secured)(struct leg *l);
    void (*opened)(struct leg *l, const struct xml_element *header);
    /* A stanza that is for the stream itself (XEP-0225); NULL = there are none. False: it is not. */
    bool (*own)(struct leg *l, const struct xml_element *e, struct span raw);
    /* Anything but stanzas and stream management; false: not expected here. */
    bool (*element)(struct leg *l, const struct xml_element *e, struct span raw);
    /* Of a malformed stanza `from` or `to` may be none: then nobody can be said to be wronged by it. */
    enum leg_verdict (*may)(struct leg *l, const struct stanza *s);
    /* A stanza that may come, before it is relayed with that identity; NULL = all are. True: it is dealt
     * with. */
    bool (*take)(struct leg *l, const struct stanza *s, struct receipt *receipt, uint64_t sid, uint64_t n);
    bool (*may_enable)(const struct leg *l); /* stream management: authenticated */
    bool (*may_resume)(const struct leg *l); /* its stream may be resumed; NULL = no */
    /* The answer to leg_resume: the peer has h of the stanzas of the stream before; -1: it does not say. */
    void (*resumed)(struct leg *l, bool good, int64_t h);
    /* Receiving: stanzas are counted from now on, on a new or a resumed stream. NULL = not wanted. */
    void (*counting)(struct leg *l);
    void (*timeout)(struct leg *l);               /* the step's time is over */
    void (*ready)(struct leg *l);                 /* the socket takes more */
    void (*lost)(struct leg *l, const char *why); /* once; unacknowledged stanzas are in l->unacked */
    void (*gone)(struct leg *l);                  /* free it */
};

struct leg {
    struct s2s *s2s;
    const struct leg_role *role;
    struct conn conn;
    struct stream stream;
    struct list node;          /* in s2s.legs */
    struct timer timer;        /* step, idle, unconfirmed */
    struct buf from, to, lang; /* of our header */
    char id[33];               /* of the receiving side's header */
    char *peer;                /* domain for the log, may be NULL */

    /* In: stanzas taken, and up to which all are safe. */
    uint64_t sid; /* their identity towards routers, key in s2s.sources */
    uint64_t taken;
    uint64_t handled;
    struct idmap early; /* safe before an earlier one */
    bool counts_in;     /* the peer has enabled stream management */
    uint64_t counted_from;

    /* Out: stanzas written, and which the peer has. */
    struct queue unacked;
    bool counts_out; /* we have enabled it, the peer has agreed */
    bool enabling;
    uint64_t out_n; /* stanzas written since */
    uint64_t out_acked;
    uint64_t asked_n;  /* out_n at the last <r/> */
    uint64_t asked_ms; /* oldest <r/> without an answer, 0 = none */

    uint64_t used_ms;        /* a stanza went either way */
    uint64_t step_ms;        /* deadline of the step, 0 = none */
    uint64_t certificate_ms; /* what it relies on runs out then (ms since 1970), 0 = it relies on none */
    struct quota own_quota;
    struct quota *quota; /* own_quota, or that of the domain whose stream it is */
    uint64_t closing_ms; /* the peer has ended; ours waits until then for what came to be safe, 0 = not */
    bool over;           /* lost() was called */

    bool witnessed;   /* the witness has a copy of the socket */
    bool both_ways;   /* XEP-0288 */
    bool broken;      /* the connection ended, the stream did not */
    bool resuming;    /* <resume/> is out */
    char *session_id; /* by which the stream may be resumed: ours (receiving) or the peer's, NULL = it may not
                       */
    uint32_t slot;    /* of resume.c in the ledger, 0 = none */
    uint64_t named;   /* the sid that routers know: this one, or that of the stream that was resumed */
    unsigned asks;    /* answers of estate_ask that are awaited */
    uint64_t acked_n; /* in: the number that the last <a/> stood for */
};

/* Prepares a zeroed leg. content_ns chooses the stream's kind. */
void leg_init(struct leg *l, struct s2s *s, const struct leg_role *role, const struct stream_kind *kind,
              enum stream_side side);

/* Frees what it holds; the connection must be gone (or never made). */
void leg_fini(struct leg *l);

/* The handler for conn_take and conn_dial. */
extern const struct conn_handler leg_conn_handler;

/* Draws an id and sends the receiving side's header / the initiating side's. */
void leg_open(struct leg *l, bool version);

/* Writes a few bytes of negotiation. */
void leg_write(struct leg *l, const char *format, ...) PRINTF_LIKE(2, 3);

/* Ends the stream with an error / in good order. */
void leg_fail(struct leg *l, enum stream_error error, const char *text);
void leg_close(struct leg *l);

/* The process goes down: ends the stream as soon as all that came and went over it is safe. */
void leg_drain(struct leg *l);

/* The step must be done within s2s.connect_timeout_s from now / there is no step any more. */
void leg_step(struct leg *l);
void leg_step_done(struct leg *l);

/* True while it may carry more stanzas. */
bool leg_has_room(const struct leg *l);

/* Writes a stanza; it is kept until the peer has it. */
void leg_send(struct leg *l, struct item *i);

/* A stanza that was for the stream itself was taken, counts as one, and is done. */
void leg_own_done(struct leg *l);

/* Asks the peer for stream management. */
void leg_enable(struct leg *l);

/* h for the peer: stanzas handled since it enabled stream management. */
uint32_t leg_h(const struct leg *l);

/* How far a stream is counted, in both directions. */
struct leg_counts {
    uint64_t named, counted_from, handled; /* as in struct leg */
    uint64_t out_n;
};

/* Asks the peer to resume the stream of that id, of which h were handled here, on this one; role->resumed is
 * called with the answer. */
void leg_resume(struct leg *l, const char *id, uint32_t h);

/* It goes on where another one stopped. */
void leg_counts_from(struct leg *l, const struct leg_counts *counts);

/* A remote domain is proven on it: the witness is told, and what that domain may send again is asked for. */
void leg_proven(struct leg *l, struct span domain);

/* estate.c: an answer is awaited, and nothing is read meanwhile / it is there. */
void leg_ask(struct leg *l);
void leg_asked(struct leg *l);

/* A stanza that came in is safe. */
void leg_source_done(struct s2s *s, uint64_t sid, uint64_t n);

#endif
