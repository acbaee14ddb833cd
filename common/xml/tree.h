/* A small read-only tree in an arena, for who needs the payload. */
#ifndef JACKDAW_XML_TREE_H
#define JACKDAW_XML_TREE_H

#include "common/base/arena.h"
#include "common/base/span.h"

struct xml_node {
    struct span name;
    struct span ns; /* resolved */
    struct xml_node *parent, *next, *first_child;
    struct xml_tree_attr {
        struct span name, ns, value;
        struct xml_tree_attr *next;
    } * attrs;
    struct span text;    /* all direct text joined, decoded; empty = none */
    uint32_t start, end; /* the element in the input */
};

/* Builds the tree of one element; everything lives in the arena (strings too). NULL when it is not
 * well-formed. */
struct xml_node *xml_tree(struct arena *a, struct span element, const char *default_ns);

/* The first child of that name and namespace (ns NULL = any), or NULL. */
struct xml_node *xml_child(const struct xml_node *parent, const char *name, const char *ns);

/* The next sibling of the same name and namespace, or NULL. */
struct xml_node *xml_sibling(const struct xml_node *node);

/* An attribute without namespace; NULL p when absent. */
struct span xml_attr(const struct xml_node *node, const char *name);

#endif
