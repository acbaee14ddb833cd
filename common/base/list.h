/* Intrusive doubly linked list. The head is a node too; a node not in a list is initialised and points to
 * itself. */
#ifndef JACKDAW_BASE_LIST_H
#define JACKDAW_BASE_LIST_H

#include "common/base/base.h"

struct list {
    struct list *next;
    struct list *prev;
};

/* Makes a head or an unlinked node. */
static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

/* True when a head has no nodes, or a node is in no list. */
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Links an unlinked node before `at`; with a head that is the end of the list. */
static inline void list_add(struct list *at, struct list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

/* Links an unlinked node right behind a head: the front of the list. */
static inline void list_push(struct list *head, struct list *node)
{
    list_add(head->next, node);
}

/* Unlinks a node (harmless when unlinked). */
static inline void list_del(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* Unlinks and returns the first node, or NULL. */
static inline struct list *list_pop(struct list *head)
{
    struct list *first = head->next;
    if (first == head)
        return NULL;
    list_del(first);
    return first;
}

/* Moves all nodes of `from` to the end of `to`; from is empty after. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
/* Walks a list; the current node may be unlinked and freed in the body. */
/* NOLINTBEGIN(bugprone-macro-parentheses): `it` is the name of a variable */
#define LIST_EACH(it, head)                                                   \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head); \
         it = it##_next, it##_next = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
