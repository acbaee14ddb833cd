/* Making an account for a client that has not logged in (XEP-0077): whether its address may have one more,
 * whether the name is free, and only then the keys, which cost milliseconds of this process. */
#ifndef JACKDAW_C2S_SIGNUP_H
#define JACKDAW_C2S_SIGNUP_H

#include "c2s/conn.h"

/* The session's question `create`; may answer (session_created) inside the call. c->account is its question
 * to Redis, from then on. */
void signup_begin(struct conn *c, struct span bare, struct span password);

#endif
