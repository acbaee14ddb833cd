/* Inside the stanza room: what stanza.c and rewrite.c share. */
#ifndef JACKDAW_STANZA_INTERNAL_H
#define JACKDAW_STANZA_INTERNAL_H

#include "common/stanza/stanza.h"

/* Equality with a literal, without measuring it at run time. */
#define SPAN_IS_LIT(s, lit) ((s).n == sizeof(lit) - 1 && memcmp((s).p, "" lit "", sizeof(lit) - 1) == 0)

/* The common attributes of RFC 6120 §8.1, decoded; p NULL = absent. */
struct stanza_attrs {
    struct span to, from, id, type, lang;
};

/* Picks them out of an element; they borrow from it. */
void stanza_read_attrs(const struct xml_element *e, struct stanza_attrs *out);

/* jabber:client, jabber:server or the component namespace: one and the same to a raw stanza. */
bool stanza_is_content_ns(struct span ns);

#endif
