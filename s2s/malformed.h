/* Stanzas of other servers and components that are malformed: a nick that PRECIS refuses, an unknown type.
 * Such a stanza is one user's doing, often of a domain behind the peer's; it costs itself, not the stream
 * that everybody's stanzas share (and on which the peer would send it again and again). */
#ifndef JACKDAW_S2S_MALFORMED_H
#define JACKDAW_S2S_MALFORMED_H

#include "common/stanza/stanza.h"

struct s2s;

/* What a stanza claims whose `from` or `to` is malformed: *claim is the stanza with the domain alone of such
 * an address, or none when that cannot be made out either. It is for leg_role.may: who speaks for a foreign
 * domain forges, whatever else the address is. Borrows from *store (empty; to be freed by the caller) and
 * from s. */
void malformed_claim(const struct stanza *s, const struct xml_element *e, struct buf *store,
                     struct stanza *claim);

/* Counts it by its rule and answers it, where an answer may go. verdict is not STANZA_GOOD; from is the
 * attribute as it came. */
void malformed_refuse(struct s2s *s2s, const struct stanza *claim, enum stanza_verdict verdict,
                      struct span from);

#endif
