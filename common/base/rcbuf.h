/* A refcounted, immutable run of bytes, shared by several holders inside one process. */
#ifndef JACKDAW_BASE_RCBUF_H
#define JACKDAW_BASE_RCBUF_H

#include "common/base/span.h"

struct rcbuf {
    unsigned refs;
    size_t n;
    char data[];
};

/* A new buffer with one reference and a copy of n bytes. */
struct rcbuf *rcbuf_new(const void *bytes, size_t n);

/* Takes one more reference; returns r. */
struct rcbuf *rcbuf_ref(struct rcbuf *r);

/* Drops a reference; frees with the last. NULL is allowed. */
void rcbuf_unref(struct rcbuf *r);

/* The content as a span, valid while a reference is held. */
static inline struct span rcbuf_span(const struct rcbuf *r)
{
    return (struct span){r->data, r->n};
}

#endif
