/* Whom a user has blocked (XEP-0191): the list of an account, part of its home, and who matches it. Rules
 * only: feature/blocking.c talks with clients; presence.c and mailbox.c ask before they tell or hand out
 * something. */
#ifndef JACKDAW_ROUTER_BLOCKLIST_H
#define JACKDAW_ROUTER_BLOCKLIST_H

#include "common/base/buf.h"
#include "common/jid/jid.h"
#include "router/user.h"

/* The list as it is kept in STORE_META: prepared JIDs, one a line (empty text = an empty list); and when it
 * was changed. */
void blocklist_load(struct user *u, struct span text);
void blocklist_load_changed(struct user *u, struct span wall_ms);
void blocklist_free(struct user *u);

/* True when a JID is blocked: itself, its bare JID, its domain with that resource, or its domain (XEP-0191
 * §6). Never for the user's own JIDs. Costs nothing while the list is empty. */
bool blocklist_has(const struct user *u, const struct jid *jid);

/* True when `jid` falls under the one entry `item` (both prepared). */
bool blocklist_covers(struct span item, const struct jid *jid);

/* True when a stanza that waited for the user (raw, as stored) is from somebody who is blocked. */
bool blocklist_withholds(const struct user *u, struct span raw);

/* Changes the list in memory (prepared JIDs); false when nothing changed. */
bool blocklist_add(struct user *u, struct span jid);
bool blocklist_remove(struct user *u, struct span jid);

/* How many there are; each in turn, in no order (at starts with 0, NULL at the end). */
size_t blocklist_count(const struct user *u);
const char *blocklist_next(const struct user *u, size_t *at);

/* True when the list was changed so shortly ago, by this owner or the one before. */
bool blocklist_changed_within(const struct user *u, unsigned ms);

/* Appends the list as blocklist_load reads it; writes it with this turn's batch. */
void blocklist_write(const struct user *u, struct buf *out);
void blocklist_save(struct user *u);

#endif
