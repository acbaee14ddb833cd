/* Privileged components (XEP-0356), the part that belongs to their streams: they are told what they may, and
 * send messages in users' names. The rest is at the users' homes (router/feature/privilege.c). */
#ifndef JACKDAW_S2S_PRIVILEGE_H
#define JACKDAW_S2S_PRIVILEGE_H

#include "common/stanza/stanza.h"
#include "s2s/receipt.h"

struct leg;

/* Tells a component what it may do; at once when it is bound. */
void privilege_advertise(struct leg *l, struct span component);

/* A stanza of a component. True: it was a message in a user's name, and is dealt with (sid, n:
 * its identity; the receipt is borrowed). */
bool privilege_take(struct leg *l, const struct stanza *s, struct receipt *receipt, uint64_t sid, uint64_t n);

#endif
