/* Who may connect how often. */
#ifndef JACKDAW_S2S_LISTENER_H
#define JACKDAW_S2S_LISTENER_H

#include "common/base/base.h"

struct conn;
struct limits_address;
struct s2s;

/* Counts a connection by its address (common/limits) and sets *address. False: it is refused, and nothing is
 * to be left. */
bool listener_admit(struct s2s *s, const struct conn *c, struct limits_address **address);

/* It counts no more; *address may be NULL and is NULL then. */
void listener_leave(struct s2s *s, struct limits_address **address);

#endif
