/* The bump arena: a list of chunks, newest first. Small requests are cut from the newest chunk; a request
 * that does not fit gets a chunk of its own size or of chunk_bytes, whichever is larger. Reset keeps the
 * oldest chunk, which has the ordinary size, so that an arena in steady use allocates nothing. */
#include "common/base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_ALIGN 16

struct chunk {
    struct chunk *older;
    size_t cap;
    size_t used;
    _Alignas(ARENA_ALIGN) char data[];
};

struct arena {
    struct chunk *newest;
    size_t chunk_bytes;
    size_t used;
};

static void chunk_add(struct arena *a, size_t cap)
{
    struct chunk *c = xmalloc(sizeof(*c) + cap);

    *c = (struct chunk){.older = a->newest, .cap = cap};
    a->newest = c;
}

struct arena *arena_new(size_t chunk_bytes)
{
    struct arena *a = xcalloc(1, sizeof(*a));

    a->chunk_bytes = MAX(chunk_bytes, 256);
    chunk_add(a, a->chunk_bytes);
    return a;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t rounded;
    char *p;

    CHECK(size <= SIZE_MAX / 2);
    rounded = (MAX(size, 1) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (a->newest->cap - a->newest->used < rounded)
        chunk_add(a, MAX(rounded, a->chunk_bytes));
    p = a->newest->data + a->newest->used;
    a->newest->used += rounded;
    a->used += rounded;
    memset(p, 0, rounded);
    return p;
}

struct span arena_dup(struct arena *a, struct span s)
{
    char *copy = arena_alloc(a, s.n + 1);

    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    return span_make(copy, s.n);
}

struct span arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    char *out;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    out = arena_alloc(a, (size_t)n + 1);
    vsnprintf(out, (size_t)n + 1, format, again);
    va_end(again);
    return span_make(out, (size_t)n);
}

void arena_reset(struct arena *a)
{
    while (a->newest->older != NULL) {
        struct chunk *c = a->newest;
        a->newest = c->older;
        free(c);
    }
    a->newest->used = 0;
    a->used = 0;
}

size_t arena_used(const struct arena *a)
{
    return a->used;
}

void arena_free(struct arena *a)
{
    if (a == NULL)
        return;
    arena_reset(a);
    free(a->newest);
    free(a);
}
