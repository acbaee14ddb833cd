/* The one ROUTER socket of a process and its monitor, on the loop. Inside the room; nobody else includes it.
 */
#ifndef JACKDAW_BUS_SOCKET_H
#define JACKDAW_BUS_SOCKET_H

#include "common/bus/link.h"

struct ring;
struct bus_socket;

#define SOCKET_ROUTE_MAX 128

struct bus_socket_handler {
    /* A message came in by a route; both borrowed. */
    void (*message)(void *ctx, struct span route, struct span message);
    /* The connection dialed to that endpoint broke or could not be made. */
    void (*dialed_lost)(void *ctx, struct span endpoint);
    /* One of the connections that others made broke; ZeroMQ doesn't say whose. */
    void (*accepted_lost)(void *ctx);
};

struct bus_socket_config {
    const char *name;
    const char *listen;
    const char *curve_secret_key;
    const struct bus_socket_handler *handler;
    void *ctx;
};

/* Opens and binds (listen NULL or "": only dials). NULL with *error set (caller frees). */
struct bus_socket *bus_socket_open(struct ring *ring, const struct bus_socket_config *config, char **error);

/* Closes at once; what ZeroMQ has not sent is dropped. Its polls end in the next turns of the ring. */
void bus_socket_close(struct bus_socket *s);

/* Where it listens, the port filled in; "" when it doesn't. */
const char *bus_socket_endpoint(const struct bus_socket *s);

/* Connects in the background; messages sent to route meanwhile wait. route must be unused. 0 or -errno. */
int bus_socket_dial(struct bus_socket *s, const char *endpoint, struct span route);

/* Drops the connection dialed to that endpoint and what waits for it. */
void bus_socket_hang_up(struct bus_socket *s, const char *endpoint);

/* Hands over a message (a batch is referenced, not copied). 0; -EHOSTUNREACH: that route is gone; -EAGAIN:
 * full, try later. */
int bus_socket_send(struct bus_socket *s, struct span route, const struct link_out *out);

/* Reads at most max messages. True when there are more. Without it before every sleep the socket goes deaf,
 * since sending clears the descriptor's readiness. *got (may be NULL) gets the number read. */
bool bus_socket_drain(struct bus_socket *s, unsigned max, unsigned *got);

/* Waits for the next readiness; once per turn, after the last drain. */
void bus_socket_arm(struct bus_socket *s);

#endif
