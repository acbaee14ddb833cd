/* The mailbox of a user behind deliver.h: see mailbox.c for how it works. */
#ifndef JACKDAW_ROUTER_MAILBOX_H
#define JACKDAW_ROUTER_MAILBOX_H

#include "router/deliver.h"
#include "router/session.h"

/* In front of a stored entry's origin when it is a copy (copies.h). */
#define COPY_MARK 'c'

/* True when stanza n of session sid was taken into this mailbox before (exactly known for the last 64 numbers
 * of a session; what is older counts as taken). */
bool mailbox_taken(struct user *u, uint64_t sid, uint64_t n);

/* True when one after n was. */
bool mailbox_taken_after(struct user *u, uint64_t sid, uint64_t n);

/* What is known of a session: nothing, when all is zero. */
struct taken {
    uint64_t n;    /* the highest that was taken */
    uint64_t last; /* bit i: n - i was; what is older was, too */
};

/* Remembers that it was; returns what was known before. */
struct taken mailbox_take(struct user *u, uint64_t sid, uint64_t n);

/* It was not, after all, nor what was taken of that session since. */
void mailbox_untake(struct user *u, uint64_t sid, struct taken before);

/* Forgets a generation. */
void mailbox_taken_free(struct idmap *taken);

/* A new entry with the next id. The caller writes it to the batch when store is true. */
struct entry *mailbox_append(struct user *u, bool store);

/* True when a message of so many bytes is over the account's quota (mailbox.messages_max, mailbox.bytes_max),
 * whoever is there: a session that is lost, or never acknowledges, keeps its messages in the mailbox, too. */
bool mailbox_is_full(const struct user *u, size_t bytes);

/* The store has refused an entry: as if it had never come. Its places in the sessions' rows are given back,
 * and what was taken of session sid (0 = none) is what it was `before`. */
void mailbox_take_back(struct user *u, struct store_id id, uint64_t sid, struct taken before);

/* Says how long the entry's stanza is, for the quota. */
void mailbox_size(struct entry *e, size_t bytes);

/* The unfinished entry of that id, or NULL. */
struct entry *mailbox_find(struct user *u, struct store_id id);

/* True when a message can be numbered for the session now; else it waits in the mailbox. */
bool mailbox_takes_now(const struct session *s);

/* Appends "SID=OUTNR" (0: it could not take it yet) to an entry's marks, behind a blank when there are some
 * already. */
void mailbox_add_mark(struct buf *marks, uint64_t sid, uint64_t n);

/* A session shall have the entry when it can take it. */
void mailbox_want(struct entry *e, uint64_t sid);

/* True when it shall and has not yet. */
bool mailbox_wanted_by(const struct entry *e, uint64_t sid);

/* Finishes (and frees) the entry when somebody has acknowledged it and nobody else is waiting for it. */
void mailbox_settle(struct entry *e);

/* Starts (or, after the store was away, starts again) the reading of a loaded user's mailbox. */
void mailbox_restore_read(struct user *u);

/* Goes on with what waited for the store: restores and sessions that are behind. */
void mailbox_store_back(struct core *c);

/* Enters this room's counters. */
void mailbox_register_stats(void);

#endif
