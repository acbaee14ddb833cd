/* Mailbox entries that are finished while an older one is not: the floor cannot say it of them. Each stands
 * in STORE_META as a field "fMS-SEQ" and stays in the mailbox for a while, so that the next owner knows a
 * resend of it. */
#ifndef JACKDAW_ROUTER_FINISHED_H
#define JACKDAW_ROUTER_FINISHED_H

#include "router/user.h"

/* Notes one with this turn's batch. */
void finished_add(struct user *u, struct store_id id);

/* True when the entry was finished. */
bool finished_has(const struct user *u, struct store_id id);

/* Reads what an owner before has noted. */
void finished_load(struct user *u, const struct store_field *meta, size_t count);

/* Adds to the batch that those below the floor need no note any more, and that old ones leave the mailbox. */
void finished_sweep(struct user *u);

/* Frees the list. */
void finished_free(struct user *u);

#endif
