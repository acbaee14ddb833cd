/* Between sessions and their home routers (wire.h has the protocol): numbers, what is not handled yet, which
 * router, and what happens when that changes. */
#ifndef JACKDAW_C2S_UPLINK_H
#define JACKDAW_C2S_UPLINK_H

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/timers.h"
#include "common/stanza/stanza.h"
#include "common/wire/wire.h"

struct c2s;
struct conn;
struct bus_peer;
struct uplink_item;

/* A session's side of it, embedded in its connection. */
struct uplink {
    struct list waiting;       /* in hub.waiting: no router, no link, or no room on it */
    struct bus_peer *peer;     /* the router that has the session, NULL = none now */
    struct uplink_item *first; /* STANZA frames not yet handled, oldest first */
    struct uplink_item *last;
    uint32_t count;
    uint32_t bytes;
    uint16_t slot;
    uint8_t asked;     /* enum wire_kind of the question that is open: OPEN or RESUME */
    uint64_t asked_as; /* sid of that question, or of the last one: the connection's name */
    uint64_t asked_ms; /* monotonic, when its client asked that */
    bool known;        /* OPENED or RESUMED: the router has the session */
    bool asked_once;   /* the question went out before */
    bool syncing;      /* SYNC is out and SYNCED has not come: deliveries do not count */
    uint64_t tries;    /* which attachment of this process it is: the token of what is said there */
    uint64_t tried_n;  /* the highest inbound number at the last one */
    bool close_wanted; /* CLOSED is to be told … */
    bool close_told;   /* … and was, to `peer` */
    uint8_t close_how;
    char *resource; /* OPEN: the wanted resource; RESUME: the SM id; owned */
    uint32_t enable_s;
};

struct uplink_hub {
    struct idmap sessions; /* sid → struct conn */
    struct list waiting;
    struct list acking; /* peers with ACKED pairs to tell */
    struct list peers;  /* all that ever had some */
    struct timer ack_timer;
    struct timer retry_timer;
    unsigned retry_ms;       /* how long it waits now */
    uint64_t unknown_second; /* limits CLOSED for unknown sessions … */
    uint64_t attached;       /* attachments so far, of all connections */
    unsigned resuming;       /* RESUMEs that are not answered */
    unsigned unknown_count;  /* … to so many a second */
};

/* Prepares the hub of a process / frees it (sessions must be gone). */
void uplink_init(struct c2s *c);
void uplink_free(struct c2s *c);

/* Asks for a session, for an old one; switches stream management on; a stanza (its number is the session's
 * in_n). */
void uplink_open(struct conn *c, struct span resource);
void uplink_resume(struct conn *c, struct span sm_id, uint32_t h);
void uplink_enable(struct conn *c, unsigned resume_s);
void uplink_stanza(struct conn *c, const struct stanza *stanza, enum stanza_verdict verdict);

/* Delivered up to outbound number n. */
void uplink_acked(struct conn *c, uint64_t n);

/* The client reads slowly / again. */
void uplink_flow(struct conn *c, bool hold);

/* The session is over. tell: the router is to know (not after its own KILL, nor when another connection has
 * the session: then nothing is said of it any more, to no router). keep: what is not handled is kept until it
 * is (a clean end), else dropped. */
void uplink_close(struct conn *c, enum wire_close how, bool tell, bool keep);

/* True when nothing of an ended session is owed to its router any more. */
bool uplink_is_done(const struct conn *c);

/* Takes the session out of everything; frees what is queued. */
void uplink_drop(struct conn *c);

/* A frame, a link that came up or has room again, one that died, a new epoch. */
void uplink_frame(struct c2s *c, struct bus_peer *from, struct span frame);
void uplink_peer_up(struct c2s *c, struct bus_peer *peer);
void uplink_peer_gone(struct c2s *c, struct bus_peer *peer);
void uplink_epoch(struct c2s *c);

#endif
