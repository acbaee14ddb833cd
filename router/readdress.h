/* A stanza with other addresses: the start tag is written anew, everything else stays byte for byte. */
#ifndef JACKDAW_ROUTER_READDRESS_H
#define JACKDAW_ROUTER_READDRESS_H

#include "router/route.h"

/* Appends raw (a stanza in raw form, stanza.h) with the addresses from and to in place of its own; an
 * address with p NULL is left out. Everything else of the start tag is kept. False (out unchanged) when raw
 * has no start tag that can be read. */
bool readdress(struct buf *out, struct span raw, struct span from, struct span to);

/* Appends "<presence from=… to=… [id=…] [type=…]/>": id.p NULL and type NULL leave theirs out. */
void presence_add(struct buf *out, struct span from, struct span to, struct span id, const char *type);

/* The same, routed. origin as in route_stanza. */
void presence_route(struct core *c, struct span from, struct span to, struct span id, const char *type,
                    const struct origin *origin);

/* Routes the available presence of every available session of a user / a generated unavailable presence for
 * each of them, to one JID. */
void presence_route_current(struct user *u, struct span to, const struct origin *origin);
void presence_route_unavailable(struct user *u, struct span to, const struct origin *origin);

#endif
