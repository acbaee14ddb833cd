/* A client's session at its home shard. It belongs here, not to a socket (DESIGN.md, promise 4). */
#ifndef JACKDAW_ROUTER_SESSION_H
#define JACKDAW_ROUTER_SESSION_H

#include "router/user.h"

enum session_state {
    SESSION_LIVE,     /* a connection manager holds its stream */
    SESSION_UNSYNCED, /* known from the store only; its connection manager has not said SYNC yet */
    SESSION_DETACHED, /* lost its stream; waits for a resumption */
    SESSION_CLOSED    /* on its way out */
};

/* Something sent and not yet acknowledged. */
struct unacked {
    uint64_t n;          /* outbound number */
    struct entry *entry; /* mailbox entry (deliver.h), or NULL */
    struct rcbuf *raw;   /* kept for a resumption (stream management), or NULL */
    uint64_t work;       /* inbound number of which one piece of work ends when this is acknowledged, or 0 */
};

struct session {
    struct user *user;
    struct list of_user; /* in user.sessions */
    struct list dirty;   /* in core.dirty_handled, or in core.later_handled */
    uint64_t sid;
    enum session_state state;
    char *resource; /* owned */
    char *full;     /* owned: "local@domain/resource" */
    struct jid jid; /* view of full */
    char node[64];  /* its connection manager */
    uint64_t node_incarnation;
    uint64_t attached; /* token of its last OPEN, RESUME or SYNC: older ones come too late */
    uint64_t asked_as; /* the sid of the OPEN or RESUME that brought it there: the connection that has it, the
                          only one that is believed; 0 = not known (a record of an older version) */
    int64_t asked_ms;  /* when its client asked that, by this router's monotonic clock … */
    bool asked_known;  /* … once that connection has said it here */
    struct list routed;   /* its stanzas on their way to others, not DONE yet (route.c) */
    bool sm;              /* stream management is on */
    bool held;            /* the client reads slowly: send nothing that can wait */
    bool presence_missed; /* presence was left out because it had no room: to be asked for again */
    bool available;       /* has sent initial presence */
    bool interested;      /* has asked for the roster */
    bool wants_blocklist; /* … for the list of who is blocked */
    bool carbons;         /* copies of messages that it is not sent (XEP-0280) */
    bool catching_up;     /* reads the mailbox from `cursor` on */
    bool reading;         /* a mailbox read is in flight … */
    bool reread;          /* … and its answer is void: the cursor has gone back meanwhile */
    int8_t priority;
    uint64_t available_since_ms; /* monotonic, of the last presence */
    uint64_t last_active_wall_ms;
    struct rcbuf *presence;      /* last available presence, raw with from; NULL when not available */
    struct map directed;         /* bare or full JIDs (char *, owned) that got directed presence */
    uint64_t in_taken;           /* highest inbound number seen */
    uint64_t in_handled;         /* everything up to it is safe */
    uint64_t in_saved;           /* in_handled as the store has it: what the client may be told */
    uint64_t handled_written_ms; /* when that was last written; 0 = never */
    uint64_t handled_due_ms;     /* in later_handled: when it is to be written; 0 = not waiting */
    uint32_t *in_open; /* ring: open work of numbers in_handled+1 …; allocated while some is open */
    uint32_t in_cap;
    uint64_t out_sent;  /* highest outbound number given */
    uint32_t numbering; /* grows when outbound numbers are given anew: what was reserved before is void */
    uint32_t voided_count;
    uint64_t *voided; /* tickets that were given back while others waited, sorted; owned */
    uint64_t out_acked;
    uint64_t delivery;       /* the last message that was meant for it: core.deliveries then */
    struct unacked *unacked; /* ring, oldest first */
    uint64_t kept_bytes;     /* of stanzas in it that are kept for a resumption */
    uint64_t answered_bytes; /* of answers since … */
    uint64_t answered_ms;    /* … then */
    uint64_t held_bytes;     /* sent since the client's connection manager asked to hold back */
    uint32_t unacked_at, unacked_count, unacked_cap;
    uint64_t sm_in_base, sm_out_base; /* numbers at which XEP-0198 counting began */
    uint32_t resume_s;                /* granted; 0 = none */
    bool restored;          /* from its record: what it had not acknowledged is in the mailbox only */
    struct store_id cursor; /* mailbox entries up to it need not be read for this session */
    struct store_id since; /* the mailbox's newest entry when it was opened: marks up to it are not its own */
    struct store_id known; /* restored: of entries up to it the record tells all, marks only of later ones */
    bool was_behind;       /* restored: of those, the ones behind `cursor` were still to be sent */
    struct session_range {
        struct store_id first, last;
    } * wanted; /* restored: all entries from first to last; owned */
    uint32_t wanted_count;
    bool wanted_known;    /* its record lists them (written by a version that does) */
    struct timer timeout; /* detached: ends the session */
    void *slots;          /* features' per-session data, zeroed */
};

/* Enters a new session for a client of `node` (user must be ready). A session of the same resource is
 * replaced: its stream ends with <conflict/> (RFC 6120 §7.7.2.2). token: of the OPEN, see attached. Returns
 * NULL with *error when refused. */
struct session *session_open(struct user *u, uint64_t sid, struct span resource, const char *node,
                             uint64_t node_incarnation, uint64_t token, enum stanza_error *error);

/* True when that connection of that process has the session: what others say of it comes too late. 0 as the
 * connection: it has not said which it is. */
bool session_is_with(const struct session *s, uint64_t connection, uint64_t node_incarnation);

/* The session of a sid / of a resource, or NULL. */
struct session *session_find(struct core *c, uint64_t sid);
struct session *session_by_resource(struct user *u, struct span resource);

/* A stanza's place in a session's outbound row: a ticket, which is its number plus how many places in front
 * of it have been given back. */
struct reserved {
    uint64_t sid;
    uint64_t ticket;
    uint32_t numbering;
};

/* Gives a stanza its outbound number (session.out_sent) now, to be sent by session_send_reserved when what it
 * waits for is committed. Numbers must be given in the order in which the stanzas will be sent. With stream
 * management the bytes are kept. */
struct reserved session_reserve(struct session *s, struct span raw, struct span to, struct entry *entry);

/* The same for an answer to inbound number n: one piece of that number's work ends when it is acknowledged.
 */
struct reserved session_reserve_answer(struct session *s, struct span raw, uint64_t n);

/* Sends it, unless the session is gone or has given its numbers anew (then what was kept has been sent with
 * them). */
void session_send_reserved(struct core *c, const struct reserved *r, struct span raw, struct span to,
                           bool confirm);

/* The place of what stands under outbound number n and waits to be sent. */
struct reserved session_place(const struct session *s, uint64_t n);

/* Gives the place of an entry that was not sent back, if the session has one: what waits behind it moves up
 * (the client counts, so there may be no hole). The session's record is saved. */
void session_give_back(struct session *s, struct entry *entry);

/* Ends a session for good: unavailable presence is told (EV_SESSION_CLOSED), unacknowledged messages go to
 * other sessions or stay in the mailbox. */
void session_close(struct session *s);

/* Drops a session from memory without a word: another router has its user. */
void session_forget(struct session *s);

/* Ends its stream with an error, and the session. */
void session_kill(struct session *s, unsigned stream_error, const char *text);

/* Its stream is lost: wait for a resumption if there can be one, else close. */
void session_lost(struct session *s);

/* Writes the session's record to the store with this turn's batch. */
void session_save(struct session *s);

/* Restores the sessions of a loaded user from their records. */
void session_restore(struct user *u, const struct store_field *records, size_t count);

/* After the load: sessions whose connection manager is dead are lost. */
void session_restore_check(struct user *u);

/* Sends a raw stanza to the session: gives it a number, keeps it when stream management needs that. to: put
 * into the start tag as `to` when not empty. entry: the mailbox entry that it delivers, or NULL. */
void session_send(struct session *s, struct span raw, struct span to, struct entry *entry);

/* The client (or the socket, without stream management) has had everything up to outbound number n. */
void session_acked(struct session *s, uint64_t n);

/* Inbound number n is being worked on / one part of its work is done. When all parts of all numbers up to n
 * are done HANDLED goes out at the end of the turn. */
void session_work_begin(struct session *s, uint64_t n);
void session_work_end(struct core *c, uint64_t sid, uint64_t n);

/* One raw stanza goes to many sessions: between begin and end session_send of that very raw collects the
 * sessions of a connection manager and sends it there once, with a list of targets. */
void session_bundle_begin(struct core *c, struct span raw);
void session_bundle_end(struct core *c);
void session_bundle_flush(struct core *c, const char *node);
void session_bundles_free(struct core *c);

/* An entry stands unacknowledged under outbound number n (rebuilding after a load). */
void session_assign(struct session *s, struct entry *entry, uint64_t n);

/* Forgets an entry that is finished elsewhere, with its bytes. */
void session_unassign_entry(struct session *s, struct entry *entry);

/* True when a message may be sent now; else it stays in the mailbox until deliver_catch_up. */
bool session_has_room(const struct session *s);

/* Writes how far sessions are handled that have moved, those of busy sessions a little later together; their
 * connection managers are told by HANDLED when it is committed. (A client that resumes after router and
 * connection manager died together must not hear a lower h than before: it would count on from there, and
 * every number after that would be wrong.) */
void session_save_handled(struct core *c);

/* Of core.handled: those that have waited. */
void session_handled_fire(struct timer *t, uint64_t now_ms);

/* Takes numbers that were written so back in; drops those of sessions that are gone. */
void session_restore_handled(struct user *u, const struct store_field *meta, size_t count);

/* FLOW. */
void session_set_held(struct session *s, bool held);

/* True while n more bytes that no mailbox keeps may be sent to the session or kept for it: within its own
 * budget (limits.session_bytes), which counts what a slow reader or an absent one makes us hold, and within
 * its account's (limits.account_bytes). */
bool session_may_take(const struct session *s, size_t n);

/* Its own request was answered with so many bytes / another one may be: answers of a second stay within four
 * budgets of the session (one that is larger is given, then nothing for the rest of the second), and there is
 * room for a small one. */
void session_answered(struct session *s, size_t n);
bool session_may_ask(const struct session *s);

/* Presence found no room: the current one is asked for when there is room again (EV_SESSION_SYNCED's sibling
 * EV_SESSION_ROOM). */
void session_missed_presence(struct session *s);

/* Stream management: ENABLE (counting began behind inbound number n; session_enabled tells the client, once
 * the record is committed), RESUME (for the user's session with
 * that SM id, answered by frames), SYNC. */
void session_enable(struct session *s, uint64_t n, unsigned wanted_s);
void session_enabled(struct session *s);
void session_resume(struct user *u, const struct wire_frame *f, const char *node, uint64_t node_incarnation);
void session_sync(struct user *u, const struct wire_frame *f, const char *node, uint64_t node_incarnation);

/* Remembers how much a resumable session had handled, because it is given up; and reads that back (the value
 * of STORE_META "timed_out", empty when there is none). A late <resume/> is told (XEP-0198 §5). */
void session_note_timed_out(struct session *s);
void session_timed_out_load(struct user *u, struct span text);

/* Enters this room's counters. */
void session_register_stats(void);

/* Per-session data of a feature (its session_size bytes, zeroed at open). */
void *session_slot(struct session *s, const struct feature *feature);

/* Sends a frame to the session's connection manager. */
void session_frame(struct session *s, struct wire_frame *f);

#endif
