/* Which external components are connected, as the federation processes tell it (WIRE_COMPONENTS). A component
 * that goes and does not come back within some seconds is gone: features learn it once per user. */
#ifndef JACKDAW_ROUTER_COMPONENTS_H
#define JACKDAW_ROUTER_COMPONENTS_H

#include "common/base/map.h"
#include "common/base/timers.h"

struct core;

/* Zero is empty. */
struct components {
    struct map nodes;    /* name → what that process has */
    struct map domains;  /* domain → what is known of it */
    struct timer timer;  /* of those that have gone */
    struct span subject; /* whom EV_COMPONENT_… is about */
};

/* A process has connections of these domains (separated by spaces), and of no others. */
void components_at(struct core *c, const char *node, uint64_t incarnation, struct span domains);

/* An incarnation of a process ended. */
void components_node_gone(struct core *c, const char *node, uint64_t incarnation);

/* True while some process has connections of it. */
bool components_here(const struct core *c, struct span domain);

/* Frees what is known. */
void components_free(struct core *c);

#endif
