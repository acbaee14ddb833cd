/* A listening socket that accepts for as long as it is open, also after the process had run out of
 * descriptors for a while. */
#ifndef JACKDAW_RING_LISTENER_H
#define JACKDAW_RING_LISTENER_H

#include "common/ring/ring.h"

struct ring_listener;

/* A new connection (the descriptor is the callee's), or -errno: accepting goes on after a pause. */
typedef void ring_accepted_fn(void *ctx, int fd);

/* Accepts on a listening socket (see ring_listen), which is the listener's from now on. */
struct ring_listener *ring_listener_open(struct ring *r, int fd, ring_accepted_fn *fn, void *ctx);

/* Ends it: fn is not called any more. The memory goes in one of the next turns. NULL is fine. */
void ring_listener_close(struct ring_listener *l);

#endif
