/* External components (XEP-0114): any number of connections of one component, at any processes; a user's
 * stanzas keep to one connection while it lives. */
#ifndef JACKDAW_S2S_COMPONENT_H
#define JACKDAW_S2S_COMPONENT_H

#include "common/stanza/stanza.h"
#include "s2s/queue.h"

struct bus_peer;
struct component;
struct s2s;

/* Makes the components of the configuration, as local domains. False: a line of it is wrong (logged). */
bool components_init(struct s2s *s);
void components_free(struct s2s *s);

/* Tells Redis what connections are here and learns where others are. */
void components_refresh(struct s2s *s);

/* A message of CHANNEL_COMPONENTS (ctx: the struct s2s). */
void components_changed(void *ctx, struct span message);

/* Tells a router (NULL: all) which components have connections here. */
void components_tell(struct s2s *s, struct bus_peer *router);

/* Once a second: deadlines. */
void components_sweep(struct s2s *s);

/* Takes over an accepted socket. */
void component_accept(struct s2s *s, int fd);

/* Gives a stanza to the process that has the component's connections, when this one has none. False: it is
 * ours to deliver (or to answer). The receipt's reference is taken over when true. */
bool component_forward(struct s2s *s, struct component *c, const struct stanza *stanza,
                       struct receipt *receipt, uint64_t sid, uint64_t n);

/* Delivers to a connection, or keeps it for a few seconds until one comes. */
void component_send(struct s2s *s, struct component *c, struct span sender_bare, struct item *i);

#endif
