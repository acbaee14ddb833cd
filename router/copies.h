/* Copies of messages in the mailbox of those who should see them: as durable and as ordered as what they are
 * copies of. A copy is for its sessions alone: it is finished when none of them needs it any more, and nobody
 * else ever gets it. */
#ifndef JACKDAW_ROUTER_COPIES_H
#define JACKDAW_ROUTER_COPIES_H

#include "router/deliver.h"

/* Puts a message into the user's mailbox for these sessions (at least one). raw: complete, from the user's
 * bare JID, without `to`, which is added for each. origin: whose message and which number it is a copy of, so
 * that a repetition makes no second one; NULL when that was found out before. at_ms: when that was taken in,
 * by the wall clock. What the mailbox or the store has no room for is counted and left out: the message
 * itself is not held up by it. */
void copies_add(struct user *u, struct span raw, struct session *const *to, unsigned count,
                const struct origin *origin, uint64_t at_ms);

/* Enters this room's counters. */
void copies_register_stats(void);

#endif
