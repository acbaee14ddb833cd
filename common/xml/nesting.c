/* Runs the framer's own steps, and keeps where the name of each open element stands in the bytes. */
#include "common/xml/nesting.h"

#include <stdlib.h>

#include "common/xml/framer_step.h"

struct xml_nesting {
    struct xml_framer f;
    uint32_t at;       /* bytes looked at */
    uint32_t end_name; /* where the name of the end tag at hand begins */
    uint32_t cap;
    uint32_t *names; /* by depth */
};

static void nesting_open(struct xml_nesting *n, uint32_t name)
{
    if (n->f.depth >= n->cap) {
        n->cap = MAX(2 * n->cap, 8);
        n->names = xrealloc(n->names, n->cap * sizeof(n->names[0]));
    }
    n->names[n->f.depth] = name;
}

static struct span name_at(struct span partial, size_t at)
{
    size_t end = at;

    while (end < partial.n && !framer_is_space((unsigned char)partial.p[end]) && partial.p[end] != '>' &&
           partial.p[end] != '/')
        end++;
    return span_sub(partial, at, end - at);
}

bool xml_nesting_follow(struct xml_nesting **nesting, const struct xml_limits *limits, struct span partial)
{
    struct xml_nesting *n = *nesting;
    size_t end = MIN(partial.n, limits->element_max_bytes);
    int step = STEP_GO;

    if (n == NULL) {
        n = *nesting = xcalloc(1, sizeof(*n));
        n->f.root_open = true;
    }
    while (n->at < end && step == STEP_GO) {
        uint8_t before = n->f.state;
        uint32_t at = n->at++;
        step = framer_step(&n->f, limits, (unsigned char)partial.p[at]);
        if (step >= STEP_ERROR)
            return true;
        if (before == FRAMER_LT && n->f.state == FRAMER_TAG)
            nesting_open(n, at);
        else if (before == FRAMER_LT && n->f.state == FRAMER_END)
            n->end_name = at + 1;
        else if (before == FRAMER_END && n->f.state == FRAMER_CONTENT && step != STEP_DONE_CLOSE &&
                 !span_eq(name_at(partial, n->end_name), name_at(partial, n->names[n->f.depth])))
            return false;
    }
    return true;
}

void xml_nesting_free(struct xml_nesting **n)
{
    if (*n == NULL)
        return;
    free((*n)->names);
    free(*n);
    *n = NULL;
}
