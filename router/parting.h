/* Sessions that have ended while stanzas of theirs were still in work: the connection manager keeps those
 * until it hears that they are safe, so it is told when the last one is. */
#ifndef JACKDAW_ROUTER_PARTING_H
#define JACKDAW_ROUTER_PARTING_H

#include "router/session.h"

/* Notes what a closing session has open, or has it told at once when nothing is. The session may be freed
 * after. */
void parting_begin(struct session *s);

/* A piece of work of a session that is gone has ended; harmless for sessions that are not known here. */
void parting_work_end(struct core *c, uint64_t sid);

/* Its session.routed, now that it is gone; NULL when it had nothing open. */
struct list *parting_routed(struct core *c, uint64_t sid);

/* Forgets those of a user who is lost (the new owner gets the stanzas again), or all of them (NULL). */
void parting_forget(struct core *c, const struct user *u);

#endif
