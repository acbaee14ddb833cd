/* An error that answers a client's message after the fact: when a message that was taken in cannot be stored.
 * The message counts as handled (XEP-0198) when the client has acknowledged the error (without stream
 * management: when the socket has taken it), not before: if the error is lost on its way, or its client does
 * not come back, the message stays unacknowledged. */
#ifndef JACKDAW_ROUTER_REFUSAL_H
#define JACKDAW_ROUTER_REFUSAL_H

#include "router/session.h"

/* Answers the session's stanza of inbound number n with <resource-constraint/>. One piece of work of n must
 * be open: it ends with the acknowledgement. False: there is nobody to answer, or too much waits already. */
bool refusal_send(struct session *s, const struct stanza *stanza, uint64_t n);

#endif
