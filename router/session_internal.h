/* What the files of the session room share: session.c (life, numbers), session_sm.c (resumption, taking
 * over), session_record.c (the record in the store). */
#ifndef JACKDAW_ROUTER_SESSION_INTERNAL_H
#define JACKDAW_ROUTER_SESSION_INTERNAL_H

#include "router/session.h"

/* A session in memory, linked to its user; nothing is said or saved. */
struct session *session_make(struct user *u, uint64_t sid, struct span resource, const char *node,
                             uint64_t node_incarnation);

/* The one place where a session changes its state; traced. */
void session_enter_state(struct session *s, enum session_state state);

/* The unacknowledged one at place i, the oldest at 0. */
static inline struct unacked *unacked_at(const struct session *s, uint32_t i)
{
    return &s->unacked[(s->unacked_at + i) % s->unacked_cap];
}

/* A new place at the end of the unacknowledged row. */
struct unacked *session_unacked_push(struct session *s);

/* Lets go of what was kept for a resumption (NULL is allowed). */
void session_unkeep(struct session *s, struct rcbuf *raw);

/* Outbound numbers are given anew from here on: what was reserved before is void. */
void session_number_anew(struct session *s);

/* Sends raw as outbound number n, alone or in the bundle under way. */
void session_transmit(struct session *s, struct span raw, struct span to, uint64_t n, bool confirm);

/* Enters the counters of session_sm.c. */
void session_sm_register_stats(void);

#endif
