/* Looking after users whom nobody mentions: whose router and whose connection manager died together, and
 * those that wait for a resumption. Their sessions' timers must run and their contacts must be told. A router
 * that gains slots reads from the store who has sessions there and loads whoever has not come by itself. */
#ifndef JACKDAW_ROUTER_SWEEP_H
#define JACKDAW_ROUTER_SWEEP_H

#include "common/base/timers.h"
#include "router/slots.h"

struct core;

struct sweep {
    struct slots done; /* owned, and looked after since */
    unsigned at;       /* slots below it need no look in this round */
    struct timer timer;
    char **names; /* users to be loaded; owned */
    size_t count, cap;
};

/* The owners of slots have changed, or the lease. */
void sweep_slots(struct core *c);

/* Enters the counter. */
void sweep_register_stats(void);

/* Frees what is kept. */
void sweep_free(struct core *c);

#endif
