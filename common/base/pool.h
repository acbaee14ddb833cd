/* A pool of objects of one kind: freed ones are kept on a list for the next of the kind. */
#ifndef JACKDAW_BASE_POOL_H
#define JACKDAW_BASE_POOL_H

#include "common/base/base.h"

struct pool {
    const char *name;   /* for the statistics */
    size_t object_size; /* bytes, at least sizeof(void *) */
    size_t used;        /* handed out now */
    size_t spare;       /* on the free list */
    void *free_list;
};

#define POOL_INIT(pool_name, type)                                                                        \
    (struct pool)                                                                                         \
    {                                                                                                     \
        .name = (pool_name), .object_size = sizeof(type) < sizeof(void *) ? sizeof(void *) : sizeof(type) \
    }

/* A zeroed object. */
void *pool_get(struct pool *p);

/* Gives an object back; it must come from this pool and not be touched after. NULL is allowed. */
void pool_put(struct pool *p, void *object);

/* Frees all spare objects. */
void pool_trim(struct pool *p);

#endif
