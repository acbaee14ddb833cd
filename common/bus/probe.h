/* A plain connect to an endpoint, only to see whether somebody listens there. Inside the room. */
#ifndef JACKDAW_BUS_PROBE_H
#define JACKDAW_BUS_PROBE_H

#include "common/base/base.h"

struct ring;
struct probe;

/* error: 0 somebody listens, else -errno. The probe is over; called from the loop. */
typedef void probe_fn(void *ctx, int error);

/* Begins. NULL when only ZeroMQ can resolve the endpoint (a host name) or no socket could be had. */
struct probe *probe_start(struct ring *ring, const char *endpoint, probe_fn *fn, void *ctx);

/* Gives up: fn is not called, the probe frees itself. */
void probe_abandon(struct ring *ring, struct probe *p);

/* True for an error that proves that no process listens there. */
bool probe_refused(int error);

#endif
