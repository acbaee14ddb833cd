/* To which sessions of a user a stanza goes (RFC 6121 §8.5), and the mailbox that stands behind it
 * (DESIGN.md, promises 1 to 3): a message is in the mailbox before anybody counts it as taken. */
#ifndef JACKDAW_ROUTER_DELIVER_H
#define JACKDAW_ROUTER_DELIVER_H

#include "router/task.h"

/* A mailbox entry that is not finished: nobody has acknowledged it yet. Without refs and wants it is what the
 * RFC calls an offline message. */
struct entry {
    struct list node; /* in user.entries */
    struct user *user;
    struct store_id id;
    unsigned refs;  /* sessions that have it unacknowledged */
    bool acked;     /* one session has acknowledged it, or it is a copy: nobody but its sessions needs it */
    bool copy;      /* of what others were sent (copies.h) */
    uint32_t bytes; /* of the stanza */
    bool stored;    /* it is in the store (not with delivery.durability = memory) */
    uint64_t *want; /* sids of sessions that shall have it but could not take it yet; owned */
    unsigned want_count;
};

/* The last phase of a RECEIVED message, presence or iq: delivers by the rules. Presence and iq of features
 * are dealt with before (their hooks answer DONE). PASS when delivered or stored; REJECT, DROP by the table.
 */
enum verdict deliver_task(struct task *t);

/* Sends something volatile of somebody else's to one session if that may take it (session_may_take). */
void deliver_if_room(struct session *s, struct span raw);

/* Sends to one session / to all available sessions of a user / to all that asked for the roster, in order
 * behind what waits for a commit. */
void deliver_to_session(struct session *s, struct span raw);
void deliver_to_available(struct user *u, struct span raw, struct span to);
void deliver_to_interested(struct user *u, struct span raw);

/* Sends a mailbox entry to a session that is behind: it gets its number now and leaves when the session's
 * record, which is saved here, is committed. */
void deliver_reserved(struct session *s, struct entry *e, struct span raw);

/* A session can take mailbox entries now (first non-negative presence, no longer held, resumed): goes through
 * the mailbox from its cursor. */
void deliver_catch_up(struct session *s);

/* The same from the oldest unfinished entry on: it may take now what it has passed over before. */
void deliver_catch_up_again(struct session *s);

/* An entry is acknowledged by a session (acked) or that session is over (not acked). Frees it with the last.
 */
void deliver_entry_end(struct entry *e, bool acked);

/* Finds sessions for entries that no session has any more: the next available one catches up. */
void deliver_reassign(struct user *u);

/* A session's record says that it had entry id under outbound number n unacknowledged. */
void deliver_restore_assignment(struct session *s, uint64_t n, struct store_id id);

/* Adds the mailbox floor to the batch when it has moved (end of turn). */
void deliver_write_floor(struct user *u);

/* Frees an entry without any effect (the user leaves memory). */
void deliver_entry_free(struct entry *e);

/* Enters this room's counters. */
void deliver_register_stats(void);

/* Rebuilds de-duplication and unfinished entries of a freshly loaded user that has mailbox entries; calls
 * user_unblock when done. */
void deliver_restore(struct user *u);

#endif
