/* Stanzas from a JID that is owned here to any other JID: the one way, whether the other is owned by this
 * router, another router or another server. What is not confirmed by DONE is kept and sent again when its
 * slot moves. */
#ifndef JACKDAW_ROUTER_ROUTE_H
#define JACKDAW_ROUTER_ROUTE_H

#include "router/core.h"

/* Where a routed stanza comes from, for de-duplication and HANDLED. Zero = a server's own stanza. */
struct origin {
    uint64_t sid;
    uint64_t n;
    uint64_t at_ms;
    uint64_t trace[2];
};

/* Routes s to its `to` (prepared, domain not empty). When origin has a sid, that session's work n stays open
 * until the stanza is DONE. */
void route_stanza(struct core *c, const struct stanza *s, const struct origin *origin);

/* The same from raw bytes that our code has built (indexed here). Returns false (and logs) when raw is no
 * stanza. */
bool route_raw(struct core *c, struct span raw, const struct origin *origin);

/* Answers a stanza with an error, when one may be sent (RFC 6120 §8.3.1). own_bare: see stanza_add_error. */
void route_error(struct core *c, const struct stanza *s, struct span own_bare, enum stanza_error error,
                 const char *text);

/* Sends one stanza without a `to` to many bare JIDs (count of them): one frame per shard or gateway. */
void route_fanout(struct core *c, const struct stanza *s, const struct span *targets, size_t count,
                  const struct origin *origin, unsigned wire_flags);

/* Confirms a ROUTE that came from a node, at the end of the turn. */
void route_done(struct core *c, const char *node, uint64_t token, enum wire_done result);

/* The same with RETRY for a stanza of a slot: nothing more is taken from that node for the slot until it
 * sends the stanza again (order). */
void route_refuse(struct core *c, const char *node, uint16_t slot, uint64_t token);

/* The same for a message that the store has no room for (FULL when that has lasted for a while): other
 * stanzas go on. */
void route_refuse_message(struct core *c, const char *node, uint16_t slot, uint64_t token);

/* True when single stanzas for that slot are being refused to that node: what it sent before a fan-out may
 * come behind it. */
bool route_is_refused(const struct core *c, const char *node, uint16_t slot);

/* True when a frame was refused because one before it was; waited: it has come before and waited for its
 * user, and what was before it may have been refused meanwhile. */
bool route_refused_too(struct core *c, const char *node, const struct wire_frame *f, bool waited);

/* Forgets stanzas of a session whose user is lost (the list is session.routed): its new owner gets them
 * again. */
void route_abandon(struct core *c, struct list *routed);

/* DONE pairs have come. */
void route_on_done(struct core *c, struct span pairs);

/* Sends again what is pending towards slots whose owner changed and nodes that are gone. */
void route_reroute(struct core *c);

/* An incarnation of a node ended: what is pending there is sent again. */
void route_node_gone(struct core *c, const char *node);

/* Enters this room's counters. */
void route_register_stats(void);

/* Forgets what is pending. */
void route_forget(struct core *c);

#endif
