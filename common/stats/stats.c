/* The registry is a list in order of registration, metrics of one name side by side (Prometheus wants HELP
 * and TYPE once per name). It is complete before the endpoint's thread starts and never changes after, so
 * reading it needs no lock; values are read with relaxed loads. */
#include "common/stats/stats.h"

#include "common/base/text.h"

static struct list registry = {&registry, &registry};

/* Largest whole number of µs in bucket i: 2^(i/2) rounded down. The last bucket takes everything above. */
static uint64_t bucket_bound_us(unsigned i)
{
    uint64_t whole = (uint64_t)1 << (i / 2);

    return i % 2 == 0 ? whole : (whole * 6074001000ULL) >> 32; /* sqrt(2) in 32.32 fixed point */
}

static unsigned bucket_of(uint64_t us)
{
    unsigned floor_log2, i;

    if (us <= 1)
        return 0;
    floor_log2 = 63 - (unsigned)__builtin_clzll(us);
    if (floor_log2 >= STAT_BUCKETS / 2)
        return STAT_BUCKETS - 1;
    for (i = floor_log2 * 2; i < STAT_BUCKETS - 1 && us > bucket_bound_us(i); i++)
        ;
    return i;
}

static uint64_t load_u64(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

void stat_register(struct stat_meta *meta)
{
    struct list *behind = &registry; /* before the head: the end */

    if (meta->node.next != NULL)
        return;
    LIST_EACH (it, &registry) {
        if (strcmp(LIST_ENTRY(it, struct stat_meta, node)->name, meta->name) == 0)
            behind = it->next;
    }
    list_add(behind, &meta->node);
}

void stat_observe(struct stat_histogram *h, uint64_t us)
{
    unsigned i = bucket_of(us);

    __atomic_store_n(&h->bucket[i], h->bucket[i] + 1, __ATOMIC_RELAXED);
    __atomic_store_n(&h->sum_us, h->sum_us + us, __ATOMIC_RELAXED);
    __atomic_store_n(&h->count, h->count + 1, __ATOMIC_RELAXED);
}

void stat_refresh(void)
{
    LIST_EACH (it, &registry) {
        struct stat_gauge *g = CONTAINER_OF(it, struct stat_gauge, meta.node);
        if (g->meta.kind == STAT_KIND_GAUGE && g->read != NULL)
            stat_set(g, g->read(g->ctx));
    }
}

uint64_t stat_quantile_us(const struct stat_histogram *h, double share)
{
    uint64_t total = 0, below = 0;
    double wanted;

    for (unsigned i = 0; i < STAT_BUCKETS; i++)
        total += load_u64(&h->bucket[i]);
    if (total == 0)
        return 0;
    wanted = MAX(share * (double)total, 1.0);
    for (unsigned i = 0; i < STAT_BUCKETS; i++) {
        below += load_u64(&h->bucket[i]);
        if ((double)below >= wanted)
            return bucket_bound_us(i);
    }
    return bucket_bound_us(STAT_BUCKETS - 1);
}

static void add_braced(struct buf *out, const char *labels)
{
    if (labels != NULL)
        buf_addf(out, "{%s}", labels);
}

/* Every second bucket, so that a bound is 2^k µs; the rest would only make the page longer. */
static void prometheus_histogram(struct buf *out, const struct stat_histogram *h)
{
    const char *labels = h->meta.labels != NULL ? h->meta.labels : "";
    const char *comma = h->meta.labels != NULL ? "," : "";
    uint64_t below = 0;

    for (unsigned i = 0; i < STAT_BUCKETS; i++) {
        below += load_u64(&h->bucket[i]);
        if (i % 2 == 0)
            buf_addf(out, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", h->meta.name, labels, comma,
                     (double)bucket_bound_us(i) / 1e6, (unsigned long long)below);
    }
    buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", h->meta.name, labels, comma,
             (unsigned long long)below);
    buf_addf(out, "%s_sum", h->meta.name);
    add_braced(out, h->meta.labels);
    buf_addf(out, " %.9g\n%s_count", (double)load_u64(&h->sum_us) / 1e6, h->meta.name);
    add_braced(out, h->meta.labels);
    /* The sum of the buckets and not h->count, which may be one step apart while the main thread writes. */
    buf_addf(out, " %llu\n", (unsigned long long)below);
}

void stat_write_prometheus(struct buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const char *last_name = "";

    LIST_EACH (it, &registry) {
        const struct stat_meta *meta = LIST_ENTRY(it, struct stat_meta, node);
        if (strcmp(meta->name, last_name) != 0)
            buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", meta->name, meta->help, meta->name,
                     types[meta->kind]);
        last_name = meta->name;
        if (meta->kind == STAT_KIND_HISTOGRAM) {
            prometheus_histogram(out, CONTAINER_OF(meta, const struct stat_histogram, meta));
            continue;
        }
        buf_add_str(out, meta->name);
        add_braced(out, meta->labels);
        if (meta->kind == STAT_KIND_COUNTER)
            buf_addf(
                out, " %llu\n",
                (unsigned long long)load_u64(&CONTAINER_OF(meta, const struct stat_counter, meta)->value));
        else
            buf_addf(out, " %lld\n",
                     (long long)__atomic_load_n(&CONTAINER_OF(meta, const struct stat_gauge, meta)->value,
                                                __ATOMIC_RELAXED));
    }
}

static void json_histogram(struct json *j, const char *key, const struct stat_histogram *h)
{
    json_open(j, key, '{');
    json_u64(j, "count", load_u64(&h->count));
    json_u64(j, "sum_us", load_u64(&h->sum_us));
    json_u64(j, "p50_us", stat_quantile_us(h, 0.5));
    json_u64(j, "p90_us", stat_quantile_us(h, 0.9));
    json_u64(j, "p99_us", stat_quantile_us(h, 0.99));
    json_u64(j, "max_us", stat_quantile_us(h, 1.0));
    json_close(j, '}');
}

void stat_write_json(struct buf *out)
{
    struct json j = {.out = out};
    struct buf key = {0};

    json_open(&j, NULL, '{');
    LIST_EACH (it, &registry) {
        const struct stat_meta *meta = LIST_ENTRY(it, struct stat_meta, node);
        buf_clear(&key);
        buf_add_str(&key, meta->name);
        add_braced(&key, meta->labels);
        if (meta->kind == STAT_KIND_COUNTER)
            json_u64(&j, buf_cstr(&key),
                     load_u64(&CONTAINER_OF(meta, const struct stat_counter, meta)->value));
        else if (meta->kind == STAT_KIND_GAUGE)
            json_i64(
                &j, buf_cstr(&key),
                __atomic_load_n(&CONTAINER_OF(meta, const struct stat_gauge, meta)->value, __ATOMIC_RELAXED));
        else
            json_histogram(&j, buf_cstr(&key), CONTAINER_OF(meta, const struct stat_histogram, meta));
    }
    json_close(&j, '}');
    buf_free(&key);
}
