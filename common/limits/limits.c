#include "common/limits/limits.h"

#include <netinet/in.h>
#include <stdlib.h>

/* A full bucket holds that many seconds' worth. */
#define BURST_S 2

static void bucket_fill(struct bucket *b, uint64_t rate, uint64_t now_ms)
{
    uint64_t passed = now_ms - b->at_ms;
    b->at_ms = now_ms;
    if (b->milli < 0)
        b->milli = passed > 3600000 ? 0 : MIN(0, b->milli + (int64_t)(passed * rate));
}

uint64_t bucket_take(struct bucket *b, uint64_t rate, uint64_t cost, uint64_t now_ms)
{
    bucket_fill(b, rate, now_ms);
    b->milli -= (int64_t)(cost * 1000);
    int64_t low = -(int64_t)(rate * 1000 * BURST_S);
    return b->milli >= low ? 0 : (uint64_t)(low - b->milli) / rate + 1;
}

struct limits_key limits_key(const struct sockaddr_storage *address)
{
    struct limits_key k = {{0}};
    if (address->ss_family == AF_INET) {
        k.bytes[10] = k.bytes[11] = 0xff;
        memcpy(k.bytes + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        memcpy(k.bytes, in6, IN6_IS_ADDR_V4MAPPED(in6) ? 16 : 8);
    }
    return k;
}

enum limits_verdict limits_enter(struct limits *l, const struct sockaddr_storage *address, uint64_t now_ms,
                                 struct limits_address **out)
{
    *out = NULL;
    if (!l->enabled)
        return LIMITS_OK;
    struct limits_key key = limits_key(address);
    struct limits_address *a = map_get(&l->addresses, span_make(&key, sizeof(key)));
    if (a == NULL) {
        a = xcalloc(1, sizeof(*a));
        a->key = key;
        a->rate.at_ms = now_ms;
        map_put(&l->addresses, span_make(&a->key, sizeof(a->key)), a);
    }
    if (a->connections >= l->connections_per_address)
        return LIMITS_TOO_MANY;
    if (bucket_take(&a->rate, l->connection_rate_per_address, 1, now_ms) > 0) {
        a->rate.milli += 1000; /* a refused one does not count, or a storm would lock the address out */
        return LIMITS_TOO_FAST;
    }
    a->connections++;
    *out = a;
    return LIMITS_OK;
}

/* Removes an address that nothing speaks for any more. */
static void forget(struct limits *l, struct limits_address *a, uint64_t now_ms)
{
    bucket_fill(&a->rate, l->connection_rate_per_address, now_ms);
    if (a->connections > 0 || a->rate.milli < 0)
        return;
    map_del(&l->addresses, span_make(&a->key, sizeof(a->key)));
    free(a);
}

void limits_leave(struct limits *l, struct limits_address *address, uint64_t now_ms)
{
    if (address == NULL)
        return;
    address->connections--;
    forget(l, address, now_ms);
}

void limits_sweep(struct limits *l, uint64_t now_ms)
{
    size_t at = 0, n = 0, count = l->addresses.count;
    struct limits_address **all = xmalloc((count + 1) * sizeof(struct limits_address *));
    for (void *a; n < count && (a = map_next(&l->addresses, &at)) != NULL;)
        all[n++] = a;
    for (size_t i = 0; i < n; i++)
        forget(l, all[i], now_ms);
    free(all);
}

void limits_free(struct limits *l)
{
    size_t at = 0;
    for (void *a; (a = map_next(&l->addresses, &at)) != NULL;)
        free(a);
    map_free(&l->addresses);
}
