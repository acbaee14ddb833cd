/* Hash tables with linear probing. Deleting shifts later entries of the run back instead of leaving
 * tombstones, so lookups never slow down with age. At most three quarters of the entries are taken. */
#include "common/base/map.h"

#include <stdlib.h>

#include "common/base/hash.h"

#define MAP_CAP_MIN 16

static bool is_full(size_t count, size_t cap)
{
    return count + 1 > cap / 4 * 3;
}

/* How far an entry at `at` sits from where its hash wants it. */
static inline size_t distance(uint64_t hash, size_t at, size_t cap)
{
    return (at - (size_t)hash) & (cap - 1);
}

/* The entry that holds key, or the free one where it belongs. */
static struct map_entry *map_find(const struct map *m, struct span key, uint64_t hash)
{
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_entry *e = &m->entries[i];
        if (e->value == NULL || (e->hash == hash && span_eq(e->key, key)))
            return e;
    }
}

static void map_grow(struct map *m)
{
    struct map bigger = {.cap = m->cap > 0 ? m->cap * 2 : MAP_CAP_MIN, .count = m->count};

    bigger.entries = xcalloc(bigger.cap, sizeof(*bigger.entries));
    for (size_t i = 0; i < m->cap; i++) {
        size_t at = m->entries[i].hash & (bigger.cap - 1);
        if (m->entries[i].value == NULL)
            continue;
        while (bigger.entries[at].value != NULL)
            at = (at + 1) & (bigger.cap - 1);
        bigger.entries[at] = m->entries[i];
    }
    free(m->entries);
    *m = bigger;
}

void *map_get(const struct map *m, struct span key)
{
    return m->count > 0 ? map_find(m, key, hash_bytes(key))->value : NULL;
}

void *map_put(struct map *m, struct span key, void *value)
{
    struct map_entry *e;
    uint64_t hash = hash_bytes(key);
    void *old;

    CHECK(value != NULL);
    if (is_full(m->count, m->cap))
        map_grow(m);
    e = map_find(m, key, hash);
    old = e->value;
    *e = (struct map_entry){key, hash, value};
    m->count += old == NULL;
    return old;
}

void *map_del(struct map *m, struct span key)
{
    struct map_entry *e;
    size_t hole, mask = m->cap - 1;
    void *old;

    if (m->count == 0)
        return NULL;
    e = map_find(m, key, hash_bytes(key));
    old = e->value;
    if (old == NULL)
        return NULL;
    hole = (size_t)(e - m->entries);
    for (size_t i = (hole + 1) & mask; m->entries[i].value != NULL; i = (i + 1) & mask) {
        if (distance(m->entries[i].hash, i, m->cap) < distance(hole, i, m->cap))
            continue;
        m->entries[hole] = m->entries[i];
        hole = i;
    }
    m->entries[hole] = (struct map_entry){0};
    m->count--;
    return old;
}

void *map_next(const struct map *m, size_t *at)
{
    while (*at < m->cap) {
        void *value = m->entries[(*at)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}

void map_free(struct map *m)
{
    free(m->entries);
    *m = (struct map){0};
}

static struct idmap_entry *idmap_find(const struct idmap *m, uint64_t key)
{
    for (size_t i = hash_u64(key) & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct idmap_entry *e = &m->entries[i];
        if (e->value == NULL || e->key == key)
            return e;
    }
}

static void idmap_grow(struct idmap *m)
{
    struct idmap bigger = {.cap = m->cap > 0 ? m->cap * 2 : MAP_CAP_MIN, .count = m->count};

    bigger.entries = xcalloc(bigger.cap, sizeof(*bigger.entries));
    for (size_t i = 0; i < m->cap; i++) {
        if (m->entries[i].value != NULL)
            *idmap_find(&bigger, m->entries[i].key) = m->entries[i];
    }
    free(m->entries);
    *m = bigger;
}

void *idmap_get(const struct idmap *m, uint64_t key)
{
    return m->count > 0 ? idmap_find(m, key)->value : NULL;
}

void *idmap_put(struct idmap *m, uint64_t key, void *value)
{
    struct idmap_entry *e;
    void *old;

    CHECK(value != NULL);
    if (is_full(m->count, m->cap))
        idmap_grow(m);
    e = idmap_find(m, key);
    old = e->value;
    *e = (struct idmap_entry){key, value};
    m->count += old == NULL;
    return old;
}

void *idmap_del(struct idmap *m, uint64_t key)
{
    struct idmap_entry *e;
    size_t hole, mask = m->cap - 1;
    void *old;

    if (m->count == 0)
        return NULL;
    e = idmap_find(m, key);
    old = e->value;
    if (old == NULL)
        return NULL;
    hole = (size_t)(e - m->entries);
    for (size_t i = (hole + 1) & mask; m->entries[i].value != NULL; i = (i + 1) & mask) {
        if (distance(hash_u64(m->entries[i].key), i, m->cap) < distance(hole, i, m->cap))
            continue;
        m->entries[hole] = m->entries[i];
        hole = i;
    }
    m->entries[hole] = (struct idmap_entry){0};
    m->count--;
    return old;
}

void *idmap_next(const struct idmap *m, size_t *at)
{
    while (*at < m->cap) {
        void *value = m->entries[(*at)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}

void idmap_free(struct idmap *m)
{
    free(m->entries);
    *m = (struct idmap){0};
}
