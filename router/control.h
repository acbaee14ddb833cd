/* What jackdawctl asks of a router: CONTROL frames, each answered by one REPLY. */
#ifndef JACKDAW_ROUTER_CONTROL_H
#define JACKDAW_ROUTER_CONTROL_H

#include "router/core.h"

/* Takes a CONTROL frame: name = verb ("kick": end the sessions of a JID, full or bare; "forget": the account
 * of a bare JID has been made, changed or deleted outside: drop what is in memory and end its sessions), text
 * = the JID. Answers node with REPLY: num 0 and JSON in text, or num 1 + enum stanza_error. */
void control_frame(struct core *c, const struct wire_frame *f, const char *node);

#endif
