#include "common/stanza/nested.h"

static bool is_wanted(struct span has, const char *ns)
{
    if (ns != NULL)
        return span_is(has, ns);
    return span_is(has, NS_CLIENT) || span_is(has, NS_COMPONENT) || span_is(has, NS_SERVER);
}

bool stanza_nested(struct xml_parser *parser, struct span element, const struct stanza_path *path,
                   unsigned path_n, const char *ns, struct buf *out, struct stanza *inner)
{
    struct xml_element e;
    for (unsigned k = 0; k < path_n; k++) {
        if (xml_parse(parser, element, &e) != XML_OK || !span_is(e.name, path[k].name) ||
            !span_is(e.ns, path[k].ns) || e.child_count > XML_CHILDREN_MAX)
            return false;
        const struct xml_child *next = NULL;
        for (uint32_t i = 0; i < e.child_count && next == NULL; i++)
            if (k + 1 < path_n ? span_is(e.children[i].name, path[k + 1].name) &&
                                     span_is(e.children[i].ns, path[k + 1].ns)
                               : is_wanted(e.children[i].ns, ns))
                next = &e.children[i];
        if (next == NULL)
            return false;
        element = span_sub(element, next->start, next->end - next->start);
    }
    return xml_parse(parser, element, &e) == XML_OK &&
           stanza_rewrite(&e, element, (struct span){NULL, 0}, (struct span){NULL, 0}, out, inner) ==
               STANZA_GOOD;
}
