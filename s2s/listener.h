/* Who may connect how often. */
#ifndef JACKDAW_S2S_LISTENER_H
#define JACKDAW_S2S_LISTENER_H

#include "common/base/base.h"

struct conn;
struct s2s;

/* Counts a connection of another server by its address (IPv6: /64). False: too many. Each is to be left, also
 * one that was refused. */
bool listener_admit(struct s2s *s, const struct conn *c);
void listener_leave(struct s2s *s, const struct conn *c);

#endif
