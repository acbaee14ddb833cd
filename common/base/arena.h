/* A bump arena: everything of one stanza, freed at once. */
#ifndef JACKDAW_BASE_ARENA_H
#define JACKDAW_BASE_ARENA_H

#include "common/base/span.h"

struct arena;

/* A new arena that grows in chunks of at least chunk_bytes. The caller frees it. */
struct arena *arena_new(size_t chunk_bytes);

/* Zeroed memory, aligned to 16 bytes, valid until arena_reset or arena_free. */
void *arena_alloc(struct arena *a, size_t size);

/* A NUL-terminated copy in the arena; the span excludes the NUL. */
struct span arena_dup(struct arena *a, struct span s);

/* Formatted text in the arena. */
struct span arena_printf(struct arena *a, const char *format, ...) PRINTF_LIKE(2, 3);

/* Forgets everything and keeps the first chunk for the next use. */
void arena_reset(struct arena *a);

/* Bytes handed out since the last reset. */
size_t arena_used(const struct arena *a);

/* Frees the arena and everything in it. NULL is allowed. */
void arena_free(struct arena *a);

#endif
