/* Presence that was taken here for a user whom another router had taken over already: neither that router nor
 * the client knows it. The new owner is told to ask the user's contacts once more. */
#ifndef JACKDAW_ROUTER_RETELL_H
#define JACKDAW_ROUTER_RETELL_H

#include "router/user.h"

/* The user is being lost; call before its sessions are forgotten. */
void retell_note(struct user *u);

/* Tells the owners of those noted, when there are any now. */
void retell_send(struct core *c);

/* Forgets what was noted. */
void retell_free(struct core *c);

#endif
