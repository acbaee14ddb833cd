/* Refcounted bytes; the count is plain because a holder is always the one main thread. */
#include "common/base/rcbuf.h"

#include <stdlib.h>

struct rcbuf *rcbuf_new(const void *bytes, size_t n)
{
    struct rcbuf *r = xmalloc(sizeof(*r) + n);

    r->refs = 1;
    r->n = n;
    if (n > 0)
        memcpy(r->data, bytes, n);
    return r;
}

struct rcbuf *rcbuf_ref(struct rcbuf *r)
{
    CHECK(r->refs > 0 && r->refs < UINT32_MAX);
    r->refs++;
    return r;
}

void rcbuf_unref(struct rcbuf *r)
{
    if (r == NULL)
        return;
    CHECK(r->refs > 0);
    if (--r->refs == 0)
        free(r);
}
