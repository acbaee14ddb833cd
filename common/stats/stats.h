/* Counters, gauges and histograms of one process. The main thread writes them plainly; the endpoint's thread
 * reads them with relaxed atomic loads, so a figure may be a moment old but never torn.
 *
 * A metric is a static object that registers itself once:
 *     static struct stat_counter in_messages = STAT_COUNTER("jackdaw_stanzas_in_total", "Stanzas taken in",
 * "kind=\"message\""); stat_register(&in_messages.meta);   // at start, once stat_add(&in_messages, 1);
 */
#ifndef JACKDAW_STATS_STATS_H
#define JACKDAW_STATS_STATS_H

#include "common/base/buf.h"
#include "common/base/list.h"

enum stat_kind { STAT_KIND_COUNTER, STAT_KIND_GAUGE, STAT_KIND_HISTOGRAM };

struct stat_meta {
    enum stat_kind kind;
    const char *name;   /* Prometheus name, units last: jackdaw_redis_reply_seconds */
    const char *help;   /* one sentence */
    const char *labels; /* `a="b",c="d"` or NULL */
    struct list node;
};

struct stat_counter {
    struct stat_meta meta;
    uint64_t value;
};

/* A gauge is set by its owner, or read through `read` (called on the main thread by stat_refresh only). */
struct stat_gauge {
    struct stat_meta meta;
    int64_t value;
    int64_t (*read)(void *ctx);
    void *ctx;
};

#define STAT_BUCKETS 64
/* Log-linear buckets from 1 µs up: bucket i covers up to 2^(i/2) µs, so a quantile is right within 1.42
 * times. */
struct stat_histogram {
    struct stat_meta meta;
    uint64_t count;
    uint64_t sum_us;
    uint64_t bucket[STAT_BUCKETS];
};

#define STAT_COUNTER(n, h, l)                                      \
    {                                                              \
        .meta = { STAT_KIND_COUNTER, (n), (h), (l), {NULL, NULL} } \
    }
#define STAT_GAUGE(n, h, l)                                      \
    {                                                            \
        .meta = { STAT_KIND_GAUGE, (n), (h), (l), {NULL, NULL} } \
    }
#define STAT_HISTOGRAM(n, h, l)                                      \
    {                                                                \
        .meta = { STAT_KIND_HISTOGRAM, (n), (h), (l), {NULL, NULL} } \
    }

/* Enters a metric in the process's list; harmless when done twice. Before the endpoint starts, on the main
 * thread. */
void stat_register(struct stat_meta *meta);

/* Adds to a counter. */
static inline void stat_add(struct stat_counter *c, uint64_t by)
{
    __atomic_store_n(&c->value, c->value + by, __ATOMIC_RELAXED);
}

/* Sets a gauge. */
static inline void stat_set(struct stat_gauge *g, int64_t to)
{
    __atomic_store_n(&g->value, to, __ATOMIC_RELAXED);
}

/* Adds one observation in microseconds. */
void stat_observe(struct stat_histogram *h, uint64_t us);

/* Calls every gauge's read(); the main thread does so once a second. */
void stat_refresh(void);

/* Appends everything as Prometheus text exposition format 0.0.4 (histograms in seconds), or as one JSON
 * object with one member per metric, `name{labels}`. Any thread. */
void stat_write_prometheus(struct buf *out);
void stat_write_json(struct buf *out);

/* The value below which share (0..1) of the observations lie, in microseconds; 0 when there are none. */
uint64_t stat_quantile_us(const struct stat_histogram *h, double share);

#endif
