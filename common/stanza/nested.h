/* Stanzas inside stanzas (XEP-0297 and what is like it). */
#ifndef JACKDAW_STANZA_NESTED_H
#define JACKDAW_STANZA_NESTED_H

#include "common/stanza/stanza.h"

struct stanza_path {
    const char *name, *ns;
};

/* Finds the stanza in an element that has the name of path[0], and in it path[1] and so on, and appends it in
 * raw form to *out, with the addresses that it bears; *inner borrows from there (see stanza_rewrite). ns: the
 * namespace that it must be of, NULL = any that streams have (libraries for components write theirs). False:
 * there is none, it is malformed, or it needs a namespace of the elements around it. */
bool stanza_nested(struct xml_parser *parser, struct span element, const struct stanza_path *path,
                   unsigned path_n, const char *ns, struct buf *out, struct stanza *inner);

#endif
