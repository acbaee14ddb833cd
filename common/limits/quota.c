#include "common/limits/quota.h"

#include <stdlib.h>

struct used {
    struct limits_key key;
    uint64_t since_ms;
    uint64_t count;
};

static struct span key_span(const struct limits_key *key)
{
    return span_make(key, sizeof(*key));
}

static bool is_over(const struct used *u, uint64_t now_ms)
{
    return now_ms - u->since_ms >= QUOTA_PERIOD_MS;
}

bool quota_left(const struct quota *q, const struct limits_key *key, uint64_t max, uint64_t now_ms)
{
    const struct used *u = map_get(&q->addresses, key_span(key));
    if (u == NULL)
        return max > 0 && q->addresses.count < QUOTA_ADDRESSES_MAX;
    return (is_over(u, now_ms) ? 0 : u->count) < max;
}

void quota_take(struct quota *q, const struct limits_key *key, uint64_t now_ms)
{
    struct used *u = map_get(&q->addresses, key_span(key));
    if (u == NULL) {
        u = xcalloc(1, sizeof(*u));
        u->key = *key;
        u->since_ms = now_ms;
        map_put(&q->addresses, key_span(&u->key), u);
    } else if (is_over(u, now_ms)) {
        u->since_ms = now_ms;
        u->count = 0;
    }
    u->count++;
}

void quota_sweep(struct quota *q, uint64_t now_ms)
{
    size_t at = 0, n = 0, count = q->addresses.count;
    struct used **over = xmalloc((count + 1) * sizeof(struct used *));
    for (struct used *u; n < count && (u = map_next(&q->addresses, &at)) != NULL;) {
        if (is_over(u, now_ms))
            over[n++] = u;
    }
    for (size_t i = 0; i < n; i++) {
        map_del(&q->addresses, key_span(&over[i]->key));
        free(over[i]);
    }
    free(over);
}

void quota_free(struct quota *q)
{
    size_t at = 0;
    for (void *u; (u = map_next(&q->addresses, &at)) != NULL;)
        free(u);
    map_free(&q->addresses);
}
