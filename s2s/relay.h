/* Where a stanza goes next: a home router, a component, another server. The one place that decides it. */
#ifndef JACKDAW_S2S_RELAY_H
#define JACKDAW_S2S_RELAY_H

#include "common/stanza/stanza.h"
#include "s2s/queue.h"

/* Sends a stanza (from and to prepared, not empty) on its way; whether it may go there was decided by who
 * took it. The receipt's reference is taken over. sid, n: its identity for routers, 0 = our own. */
void relay_stanza(struct s2s *s, const struct stanza *stanza, struct receipt *receipt, uint64_t sid,
                  uint64_t n);

/* The same from bytes that our own code has built. */
void relay_raw(struct s2s *s, struct span raw);

/* One stanza without a `to` to many bare JIDs (encoded targets of a frame). */
void relay_fanout(struct s2s *s, const struct stanza *stanza, struct span targets, struct receipt *receipt);

/* Answers a stanza that cannot go on with an error to its sender, when one may be sent, and forgets it. */
void relay_bounce(struct s2s *s, struct item *i, enum stanza_error error, const char *text);

#endif
