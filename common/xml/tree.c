/* The tree: every string is copied into the arena, so a tree outlives its input and its parser. Parsers are
 * kept from call to call, a few by namespace, because a context costs more than most payloads. */
#include "common/xml/tree.h"

#include "common/xml/sax.h"

#define TREE_PARSERS_MAX 4

/* A node under construction; text grows by doubling, so that many small runs stay linear. */
struct tree_node {
    struct xml_node node;
    struct xml_node *last_child;
    size_t text_cap;
};

struct tree {
    struct arena *arena;
    struct xml_node *root;
    struct xml_node *open;
    const xmlChar *last_uri;
    struct span last_ns;
};

static struct tree_node *tree_node_of(struct xml_node *node)
{
    return CONTAINER_OF(node, struct tree_node, node);
}

static struct span tree_ns(struct tree *t, const xmlChar *uri)
{
    if (uri == NULL)
        return (struct span){NULL, 0};
    if (uri != t->last_uri) {
        t->last_uri = uri;
        t->last_ns = arena_dup(t->arena, span_of((const char *)uri));
    }
    return t->last_ns;
}

static void tree_start(struct xml_parser *p, unsigned level, const xmlChar *name, const xmlChar *prefix,
                       const xmlChar *uri, int attr_count, const xmlChar **attrs)
{
    struct tree *t = p->user;
    struct tree_node *made = arena_alloc(t->arena, sizeof(*made));
    struct xml_node *node = &made->node;
    struct xml_tree_attr **tail = &node->attrs;

    (void)prefix;
    node->name = arena_dup(t->arena, span_of((const char *)name));
    node->ns = tree_ns(t, uri);
    node->parent = t->open;
    node->start = level == 0 ? 0 : (uint32_t)sax_tag_start(p);
    for (int i = 0; i < attr_count; i++) {
        const xmlChar **from = attrs + 5 * i;
        struct xml_tree_attr *attr = arena_alloc(t->arena, sizeof(*attr));
        attr->name = arena_dup(t->arena, span_of((const char *)from[0]));
        attr->ns = tree_ns(t, from[2]);
        attr->value = arena_dup(t->arena, span_make(from[3], (size_t)(from[4] - from[3])));
        *tail = attr;
        tail = &attr->next;
    }
    if (t->open == NULL) {
        t->root = node;
    } else {
        struct tree_node *parent = tree_node_of(t->open);
        if (parent->last_child == NULL)
            parent->node.first_child = node;
        else
            parent->last_child->next = node;
        parent->last_child = node;
    }
    t->open = node;
}

static void tree_end(struct xml_parser *p, unsigned level)
{
    struct tree *t = p->user;

    (void)level;
    if (t->open == NULL)
        return;
    t->open->end = (uint32_t)sax_offset(p);
    t->open = t->open->parent;
}

static void tree_text(struct xml_parser *p, unsigned level, struct span text)
{
    struct tree *t = p->user;
    struct tree_node *made;
    char *bytes;

    (void)level;
    if (t->open == NULL || text.n == 0)
        return;
    made = tree_node_of(t->open);
    bytes = (char *)(uintptr_t)made->node.text.p;
    if (made->node.text.n + text.n + 1 > made->text_cap) {
        size_t used = made->node.text.n;
        made->text_cap = used == 0 ? text.n + 1 : 2 * (used + text.n) + 1;
        bytes = arena_alloc(t->arena, made->text_cap);
        if (used > 0)
            memcpy(bytes, made->node.text.p, used);
        made->node.text.p = bytes;
    }
    memcpy(bytes + made->node.text.n, text.p, text.n);
    made->node.text.n += text.n;
}

static const struct sax_visitor tree_visitor = {tree_start, tree_end, tree_text};

static struct xml_parser *tree_parser(const char *default_ns)
{
    static struct xml_parser parsers[TREE_PARSERS_MAX];
    static unsigned count, oldest;
    struct xml_parser *p;

    for (unsigned i = 0; i < count; i++)
        if (strcmp(parsers[i].default_ns, default_ns) == 0)
            return &parsers[i];
    if (count < TREE_PARSERS_MAX) {
        p = &parsers[count++];
    } else {
        p = &parsers[oldest++ % TREE_PARSERS_MAX];
        sax_free(p);
    }
    sax_init(p, default_ns);
    return p;
}

struct xml_node *xml_tree(struct arena *a, struct span element, const char *default_ns)
{
    struct tree t = {.arena = a};

    if (sax_run(tree_parser(default_ns), element, &tree_visitor, &t) != XML_OK)
        return NULL;
    return t.root;
}

static struct xml_node *tree_find(struct xml_node *node, struct span name, struct span ns, bool any_ns)
{
    for (; node != NULL; node = node->next)
        if (span_eq(node->name, name) && (any_ns || span_eq(node->ns, ns)))
            return node;
    return NULL;
}

struct xml_node *xml_child(const struct xml_node *parent, const char *name, const char *ns)
{
    return tree_find(parent->first_child, span_of(name), span_of(ns), ns == NULL);
}

struct xml_node *xml_sibling(const struct xml_node *node)
{
    return tree_find(node->next, node->name, node->ns, false);
}

struct span xml_attr(const struct xml_node *node, const char *name)
{
    for (const struct xml_tree_attr *attr = node->attrs; attr != NULL; attr = attr->next)
        if (attr->ns.n == 0 && span_is(attr->name, name))
            return attr->value;
    return (struct span){NULL, 0};
}
