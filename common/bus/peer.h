/* What the bus knows of a peer. Inside the room. */
#ifndef JACKDAW_BUS_PEER_H
#define JACKDAW_BUS_PEER_H

#include "common/base/buf.h"
#include "common/base/timers.h"
#include "common/bus/bus.h"
#include "common/bus/link.h"

struct bus_peer {
    struct list node;  /* bus.peers, or bus.dead */
    struct list dirty; /* bus.dirty */
    struct bus *bus;
    struct link link;
    bool linked; /* somebody called bus_link; else it dialed in by itself */
    bool dial;
    bool dialed; /* there is a connection of ours, made or in the making */
    bool dead;
    char *endpoint;   /* may be NULL */
    struct buf route; /* empty: none; key in bus.routes */
    unsigned backoff_ms;
    uint64_t dialed_ms; /* when */
    struct timer redial;
    struct probe *probe;
    uint64_t probed_ms; /* when it began */
    void *data;
};

#endif
