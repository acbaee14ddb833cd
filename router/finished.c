/* A short list, oldest note first. It is long only while a session that waits for its client keeps an old
 * entry open; then the oldest notes go and their entries with them. */
#include "router/finished.h"

#include <stdio.h>
#include <stdlib.h>

#define KEEP_MS  60000
#define KEEP_MAX 1024

struct user_finished {
    struct store_id id;
    uint64_t at_ms;
};

static struct span field_of(struct store_id id, char text[48])
{
    return span_make(text, (size_t)snprintf(text, 48, "f%llu-%llu", (unsigned long long)id.ms,
                                            (unsigned long long)id.seq));
}

static void push(struct user *u, struct store_id id)
{
    if (u->finished_count == u->finished_cap) {
        u->finished_cap = MAX(u->finished_cap * 2, 8);
        u->finished = xrealloc(u->finished, u->finished_cap * sizeof *u->finished);
    }
    u->finished[u->finished_count++] = (struct user_finished){id, u->core->now_ms};
}

void finished_sweep(struct user *u)
{
    unsigned kept = 0, over = u->finished_count > KEEP_MAX ? u->finished_count - KEEP_MAX : 0;
    for (unsigned i = 0; i < u->finished_count; i++) {
        struct user_finished f = u->finished[i];
        bool below = store_id_cmp(f.id, u->floor) <= 0;
        char text[48];
        if (!below && i >= over && u->core->now_ms - f.at_ms < KEEP_MS) {
            u->finished[kept++] = f;
            continue;
        }
        store_drop(&u->batch, STORE_META, field_of(f.id, text));
        if (!below)
            store_remove(&u->batch, f.id);
    }
    u->finished_count = kept;
}

void finished_add(struct user *u, struct store_id id)
{
    char text[48];
    store_put(user_batch(u), STORE_META, field_of(id, text), SPAN("1"));
    push(u, id);
    if (u->finished_count > KEEP_MAX || u->core->now_ms - u->finished[0].at_ms >= KEEP_MS)
        finished_sweep(u);
}

bool finished_has(const struct user *u, struct store_id id)
{
    for (unsigned i = 0; i < u->finished_count; i++)
        if (store_id_cmp(u->finished[i].id, id) == 0)
            return true;
    return false;
}

void finished_load(struct user *u, const struct store_field *meta, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct span name = meta[i].name;
        struct store_id id;
        if (name.n > 0 && name.p[0] == 'f' && store_id_parse(span_sub(name, 1, name.n), &id))
            push(u, id);
    }
}

void finished_free(struct user *u)
{
    free(u->finished);
}
