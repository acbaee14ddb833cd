/* Frames of processes that are no members. A process that has just joined may be known to us a moment after
 * it speaks: what it says is held until the membership names it with this very incarnation, and dropped when
 * its link ends before. Nobody else is obeyed, but jackdawctl's requests (its name begins "ctl-" and no
 * member's does). */
#ifndef JACKDAW_PROC_GUESTS_H
#define JACKDAW_PROC_GUESTS_H

#include "common/base/list.h"
#include "common/bus/bus.h"

#define GUESTS_MAX_BYTES (4u << 20) /* held of all of them */

struct guests {
    struct bus *bus;
    struct list held; /* frames, oldest first */
    size_t bytes;
};

typedef void guests_take_fn(void *ctx, struct bus_peer *from, struct span frame);

/* Nothing held. bus is borrowed: links end there that hold too much. */
void guests_init(struct guests *g, struct bus *bus);

/* True when the frame may be taken now: from a member of whom nothing is held, or a request of jackdawctl.
 * Else it is held; when there is no room for it the link of its sender ends. */
bool guests_admit(struct guests *g, struct bus_peer *from, struct span frame);

/* The membership has changed: hands out what its new members have said, in order. */
void guests_joined(struct guests *g, guests_take_fn *take, void *ctx);

/* The peer's link has ended: forgets what it has said. Also part of freeing all: peer NULL. */
void guests_gone(struct guests *g, const struct bus_peer *peer);

/* Metrics. */
void guests_register_stats(void);

#endif
