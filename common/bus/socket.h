/* The messages of a process to and from others: one ROUTER socket and its connections, on the loop. Inside
 * the room; nobody else includes it. Two carriers speak ZeroMQ's protocol: the loop itself (socket_ring.c),
 * and libzmq with its threads for what is encrypted (socket_zmq.c). */
#ifndef JACKDAW_BUS_SOCKET_H
#define JACKDAW_BUS_SOCKET_H

#include "common/bus/link.h"

struct ring;
struct bus_socket;

#define SOCKET_ROUTE_MAX    128
#define SOCKET_ENDPOINT_MAX 256

struct bus_socket_handler {
    /* A message came in by a route; both borrowed. */
    void (*message)(void *ctx, struct span route, struct span message);
    /* The connection dialed to that endpoint broke or could not be made. */
    void (*dialed_lost)(void *ctx, struct span endpoint);
    /* One of the connections that others made broke; libzmq doesn't say whose. */
    void (*accepted_lost)(void *ctx);
};

struct bus_socket_config {
    const char *name;
    const char *listen;
    const char *curve_secret_key;
    bool libzmq; /* also in clear */
    const struct bus_socket_handler *handler;
    void *ctx;
};

/* What a carrier is: the calls below. */
struct bus_socket_carrier {
    void (*close)(struct bus_socket *s);
    int (*dial)(struct bus_socket *s, const char *endpoint, struct span route);
    void (*hang_up)(struct bus_socket *s, const char *endpoint);
    int (*send)(struct bus_socket *s, struct span route, const struct link_out *out);
    bool (*drain)(struct bus_socket *s, unsigned max, unsigned *got);
    void (*arm)(struct bus_socket *s);
};

/* The part that all carriers share, first in theirs. */
struct bus_socket {
    const struct bus_socket_carrier *carrier;
    struct ring *ring;
    const struct bus_socket_handler *handler;
    void *ctx;
    char endpoint[SOCKET_ENDPOINT_MAX]; /* where it listens, the port filled in; "" when it doesn't */
};

/* Opens and binds (listen NULL or "": only dials). NULL with *error set (caller frees). */
struct bus_socket *bus_socket_open(struct ring *ring, const struct bus_socket_config *config, char **error);
struct bus_socket *bus_socket_open_ring(struct ring *ring, const struct bus_socket_config *config,
                                        char **error);
struct bus_socket *bus_socket_open_zmq(struct ring *ring, const struct bus_socket_config *config,
                                       char **error);

/* For *error: why a carrier does not listen there. */
char *bus_socket_no_listener(const char *endpoint, const char *why);

/* Closes at once; what is not yet sent is dropped. Its operations end in the next turns of the ring. */
static inline void bus_socket_close(struct bus_socket *s)
{
    s->carrier->close(s);
}

/* Connects in the background; messages sent to route meanwhile wait. route must be unused. 0 or -errno. */
static inline int bus_socket_dial(struct bus_socket *s, const char *endpoint, struct span route)
{
    CHECK(route.n > 0 && route.n <= SOCKET_ROUTE_MAX);
    return s->carrier->dial(s, endpoint, route);
}

/* Drops the connection dialed to that endpoint and what waits for it. */
static inline void bus_socket_hang_up(struct bus_socket *s, const char *endpoint)
{
    s->carrier->hang_up(s, endpoint);
}

/* Hands over a message. 0; -EHOSTUNREACH: that route is gone; -EAGAIN: full, try later. */
static inline int bus_socket_send(struct bus_socket *s, struct span route, const struct link_out *out)
{
    return s->carrier->send(s, route, out);
}

/* Reads at most max messages that wait for it (the loop's come by themselves). True when there are more.
 * *got (may be NULL) gets the number read. */
static inline bool bus_socket_drain(struct bus_socket *s, unsigned max, unsigned *got)
{
    return s->carrier->drain(s, max, got);
}

/* Sends what the turn has handed over, and waits for what comes; once per turn, after the last drain. */
static inline void bus_socket_arm(struct bus_socket *s)
{
    s->carrier->arm(s);
}

#endif
