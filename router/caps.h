/* What the server says of itself (XEP-0030), and the hash that stands for it (Entity Capabilities, XEP-0115):
 * connection managers put it into their stream features (WIRE_CAPS). It is made of the features' tables, so
 * all routers with one configuration have the same. */
#ifndef JACKDAW_ROUTER_CAPS_H
#define JACKDAW_ROUTER_CAPS_H

#include "common/base/buf.h"

#define CAPS_NODE    "urn:jackdaw:server"
#define CAPS_VER_MAX 32

/* Appends the identity and the features of a domain. */
void caps_add_server(struct buf *out);

/* The verification string (§5.1) of a disco#info <query/>: base64 of SHA-1, 28 characters; empty when it
 * cannot be read. */
void caps_hash(struct span query, char ver[CAPS_VER_MAX]);

/* That of the server. */
void caps_server(char ver[CAPS_VER_MAX]);

/* True when a disco#info node is the server's own, "NODE#VER". */
bool caps_is_server_node(struct span node);

#endif
