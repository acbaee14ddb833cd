/* Hash tables. Values are pointers that the caller owns; keys are borrowed from the values, so a key must
 * live and stay unchanged as long as its entry. Open addressing, grows by doubling, never shrinks by itself.
 * Zero-initialise. */
#ifndef JACKDAW_BASE_MAP_H
#define JACKDAW_BASE_MAP_H

#include "common/base/span.h"

struct map_entry {
    struct span key;
    uint64_t hash;
    void *value; /* NULL = free entry */
};

/* Keys are byte strings. */
struct map {
    struct map_entry *entries;
    size_t count;
    size_t cap; /* 0 or a power of two */
};

/* The value under key, or NULL. */
void *map_get(const struct map *m, struct span key);

/* Stores value (not NULL) under key and returns the value that it replaced, or NULL. The new key is kept. */
void *map_put(struct map *m, struct span key, void *value);

/* Removes and returns the value under key, or NULL. */
void *map_del(struct map *m, struct span key);

/* Steps through all values in no order: start with *at = 0, NULL at the end. The map must not change
 * meanwhile. */
void *map_next(const struct map *m, size_t *at);

/* Frees the table, not the values. The map can be used again. */
void map_free(struct map *m);

struct idmap_entry {
    uint64_t key;
    void *value;
};

/* Keys are 64-bit numbers. The same rules as struct map. */
struct idmap {
    struct idmap_entry *entries;
    size_t count;
    size_t cap;
};

void *idmap_get(const struct idmap *m, uint64_t key);
void *idmap_put(struct idmap *m, uint64_t key, void *value);
void *idmap_del(struct idmap *m, uint64_t key);
void *idmap_next(const struct idmap *m, size_t *at);
void idmap_free(struct idmap *m);

#endif
