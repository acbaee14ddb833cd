/* A stanza inside an element (XEP-0356, forwarded messages), rewritten: what is found is in the raw form,
 * whole, and survives the envelope's rules for indexes. The first byte chooses path and namespace. */
#include <stdlib.h>

#include "common/stanza/nested.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct stanza_path forwarded[] = {{"privilege", "urn:xmpp:privilege:2"},
                                                   {"forwarded", "urn:xmpp:forward:0"}};
    static const struct stanza_path request[] = {{"privileged_iq", "urn:xmpp:privilege:2"}};
    static struct xml_parser *parser;
    static struct xml_element e;
    static struct stanza inner, again;
    struct buf out = {0};
    if (size < 1)
        return 0;
    if (parser == NULL)
        parser = xml_parser_new(NS_CLIENT);
    bool deep = (data[0] & 1) != 0;
    const char *ns = (data[0] & 2) != 0 ? NS_CLIENT : NULL;
    if (stanza_nested(parser, span_make(data + 1, size - 1), deep ? forwarded : request, deep ? 2 : 1, ns,
                      &out, &inner)) {
        CHECK(xml_parse(parser, inner.raw, &e) == XML_OK);
        CHECK(inner.child_count <= STANZA_CHILDREN_MAX && inner.child_count <= e.child_count);
        for (unsigned i = 0; i < inner.child_count; i++) {
            const struct xml_child *child = &inner.children[i];
            CHECK(child->start <= child->end && child->end <= inner.raw.n);
            CHECK(child->start == e.children[i].start && child->end == e.children[i].end);
            CHECK(span_eq(child->name, e.children[i].name));
        }
        if (inner.from.domain_n > 0 && inner.to.domain_n > 0 && stanza_index(parser, inner.raw, &again))
            CHECK(again.kind == inner.kind && again.child_count == inner.child_count);
    }
    buf_free(&out);
    return 0;
}
