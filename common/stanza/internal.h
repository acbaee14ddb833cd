/* Inside the stanza room: what stanza.c and rewrite.c share. */
#ifndef JACKDAW_STANZA_INTERNAL_H
#define JACKDAW_STANZA_INTERNAL_H

#include "common/stanza/stanza.h"

/* The common attributes of RFC 6120 §8.1, decoded; p NULL = absent. */
struct stanza_attrs {
    struct span to, from, id, type, lang;
};

/* Picks them out of an element; they borrow from it. */
void stanza_read_attrs(const struct xml_element *e, struct stanza_attrs *out);

/* jabber:client, jabber:server or the component namespace: one and the same to a raw stanza. */
bool stanza_is_content_ns(struct span ns);

#endif
