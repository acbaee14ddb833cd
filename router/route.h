/* Stanzas from a JID that is owned here to any other JID: the one way, whether the other is owned by this
 * router, another router or another server. What is not confirmed by DONE is kept and sent again when its
 * slot moves. */
#ifndef JACKDAW_ROUTER_ROUTE_H
#define JACKDAW_ROUTER_ROUTE_H

#include "router/core.h"

/* A ROUTE that waits for its DONE. */
struct pending {
    uint64_t token;
    uint64_t sid; /* work to end when it is done; 0 = none */
    uint64_t n;
    uint16_t slot;
    char node[64];
    bool to_gateway;
    struct rcbuf *frame; /* encoded; NULL for a local one */
};

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

/* Sends one stanza without a `to` to many bare JIDs (count of them): one frame per shard or gateway. */
void route_fanout(struct core *c, const struct stanza *s, const struct span *targets, size_t count,
                  const struct origin *origin, unsigned wire_flags);

/* Confirms a ROUTE that came from a node, at the end of the turn. */
void route_done(struct core *c, const char *node, uint64_t token, enum wire_done result);

/* DONE pairs have come. */
void route_on_done(struct core *c, struct span pairs);

/* Sends again what is pending towards slots whose owner changed, or to a gateway that died. */
void route_reroute(struct core *c);

/* Writes the DONE lists (end of turn). */
void route_flush(struct core *c);

#endif
