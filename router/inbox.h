/* Frames from other processes (and from this one): each becomes an operation on a session or a task. */
#ifndef JACKDAW_ROUTER_INBOX_H
#define JACKDAW_ROUTER_INBOX_H

#include "router/core.h"

/* Takes one frame. A malformed one is counted, logged and dropped. */
void inbox_frame(struct core *c, const char *node, uint64_t incarnation, struct span frame);

/* Enters this room's counters. */
void inbox_register_stats(void);

#endif
