/* Framed elements through the index and the tree: both agree whether it is sound, the index points where it
 * says, an innocent element is taken after each, and nothing that was bound before is bound then. */
#include <stdlib.h>

#include "common/xml/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(struct span part, struct span whole)
{
    return part.p >= whole.p && part.p + part.n <= whole.p + whole.n;
}

static void check_index(const struct xml_element *e, struct span raw)
{
    CHECK(within(e->name, raw) && e->name.n > 0);
    CHECK(e->inner_start <= e->inner_end && e->inner_end <= raw.n);
    CHECK(raw.p[raw.n - 1] == '>');
    CHECK(e->inner_end < raw.n && (raw.p[e->inner_end] == '/' || raw.p[e->inner_end] == '<'));
    for (size_t i = 0; i < e->attr_count; i++) {
        struct span part = e->attrs[i].raw;
        CHECK(within(part, raw) && part.n >= 5 &&
              part.p[part.n - 1] ==
                  part.p[span_index(part, '=') + 1 + strspn(part.p + span_index(part, '=') + 1, " \t\r\n")]);
    }
    uint32_t at = e->inner_start;
    for (size_t i = 0; i < MIN(e->child_count, XML_CHILDREN_MAX); i++) {
        const struct xml_child *child = &e->children[i];
        CHECK(child->start >= at && child->end > child->start && child->end <= e->inner_end);
        CHECK(raw.p[child->start] == '<' && raw.p[child->end - 1] == '>');
        CHECK(within(child->name, span_sub(raw, child->start, child->end - child->start)));
        at = child->end;
    }
}

static void check_tree(const struct xml_node *root, const struct xml_element *e)
{
    const struct xml_node *child = root->first_child;

    CHECK(span_eq(root->name, e->name) && span_eq(root->ns, e->ns));
    for (size_t i = 0; i < MIN(e->child_count, XML_CHILDREN_MAX); i++, child = child->next) {
        CHECK(child != NULL && span_eq(child->name, e->children[i].name));
        CHECK(span_eq(child->ns, e->children[i].ns));
        CHECK(child->start == e->children[i].start && child->end == e->children[i].end);
    }
    const struct xml_tree_attr *attr = root->attrs;
    for (size_t i = 0; i < e->attr_count; i++, attr = attr->next)
        CHECK(attr != NULL && span_eq(attr->name, e->attrs[i].name) &&
              span_eq(attr->value, e->attrs[i].value));
    CHECK(attr == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct xml_limits limits = {.element_max_bytes = 100000, .depth_max = 64, .attrs_max = 40};
    static struct xml_parser *parser;
    static struct arena *arena;
    static struct xml_element e;
    struct xml_framer f = {.root_open = true};
    char *copy = xmalloc(size + 1);
    struct span in = {copy, size};

    memcpy(copy, data, size);
    if (parser == NULL) {
        parser = xml_parser_new("jabber:server");
        arena = arena_new(4096);
    }
    xml_parse_header(in, &e);
    for (;;) {
        struct xml_frame frame = xml_framer_next(&f, &limits, in);
        if (frame.kind == XML_FRAME_MORE || frame.kind == XML_FRAME_ERROR || frame.kind == XML_FRAME_CLOSE)
            break;
        struct span raw = span_sub(in, 0, frame.n);
        in = span_sub(in, frame.n, SIZE_MAX);
        if (frame.kind != XML_FRAME_ELEMENT)
            continue;
        enum xml_error error = xml_parse(parser, raw, &e);
        arena_reset(arena);
        struct xml_node *root = xml_tree(arena, raw, "jabber:server");
        if (error == XML_OK) {
            CHECK(root != NULL);
            check_index(&e, raw);
            check_tree(root, &e);
        }
        CHECK(xml_parse(parser, SPAN("<a><p:b xmlns:p='u'/>t</a>"), &e) == XML_OK);
        CHECK(e.child_count == 1 && e.inner_end == 22 && span_is(e.ns, "jabber:server"));
        CHECK(xml_parse(parser, SPAN("<p:a/>"), &e) == XML_NOT_WELL_FORMED);
    }
    /* Unframed bytes, as they may come from another process. */
    if (xml_parse(parser, span_make(copy, size), &e) == XML_OK)
        check_index(&e, span_make(copy, size));
    free(copy);
    return 0;
}
