#include "s2s/metrics.h"

static struct stat_counter counters[S2S_METRIC_COUNT] = {
#define METRIC(id, name, help, labels) [S2S_##id] = STAT_COUNTER("jackdaw_s2s_" name, help, labels),
    S2S_METRICS(METRIC)
#undef METRIC
};

static struct stat_counter bounced[STANZA_E_COUNT];
static struct stat_counter stream_errors[2][STREAM_E_COUNT];

struct stat_gauge metric_streams =
    STAT_GAUGE("jackdaw_s2s_streams", "Streams open, both ways and components", NULL);
struct stat_gauge metric_queued =
    STAT_GAUGE("jackdaw_s2s_queued", "Stanzas that wait for their stream", NULL);
struct stat_gauge metric_pending =
    STAT_GAUGE("jackdaw_s2s_pending", "Stanzas given to routers and not confirmed yet", NULL);
struct stat_gauge metric_domains = STAT_GAUGE("jackdaw_s2s_domain_pairs", "Domain pairs in memory", NULL);

void metric_add(enum s2s_metric what)
{
    stat_add(&counters[what], 1);
}

void metric_bounced(enum stanza_error error)
{
    stat_add(&bounced[error], 1);
}

void metric_stream_error(enum stream_error error, bool received)
{
    stat_add(&stream_errors[received][error], 1);
}

void metrics_init(void)
{
    for (unsigned i = 0; i < S2S_METRIC_COUNT; i++)
        stat_register(&counters[i].meta);
    /* The labels live as long as the process. */
    for (unsigned i = 0; i < STANZA_E_COUNT; i++) {
        struct stat_counter c =
            STAT_COUNTER("jackdaw_s2s_bounced_total", "Stanzas answered with an error", NULL);
        c.meta.labels = xasprintf("condition=\"%s\"", stanza_error_name((enum stanza_error)i));
        bounced[i] = c;
        stat_register(&bounced[i].meta);
    }
    for (unsigned i = 0; i < STREAM_E_COUNT; i++)
        for (unsigned received = 0; received < 2; received++) {
            struct stat_counter c = STAT_COUNTER("jackdaw_s2s_stream_errors_total", "Stream errors", NULL);
            c.meta.labels = xasprintf("direction=\"%s\",condition=\"%s\"", received ? "received" : "sent",
                                      stream_error_name((enum stream_error)i));
            stream_errors[received][i] = c;
            stat_register(&stream_errors[received][i].meta);
        }
    stat_register(&metric_streams.meta);
    stat_register(&metric_queued.meta);
    stat_register(&metric_pending.meta);
    stat_register(&metric_domains.meta);
}
