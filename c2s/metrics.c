#include "c2s/metrics.h"

#define REFUSED(labels) STAT_COUNTER("jackdaw_c2s_connections_refused_total", "Connections refused", labels)
#define SHAKES(labels)  STAT_COUNTER("jackdaw_c2s_tls_handshakes_total", "TLS handshakes", labels)
#define IN(labels)      STAT_COUNTER("jackdaw_c2s_stanzas_in_total", "Stanzas taken from clients", labels)
#define OUT(labels)     STAT_COUNTER("jackdaw_c2s_stanzas_out_total", "Stanzas written to clients", labels)
#define HOLDS(labels) \
    STAT_COUNTER("jackdaw_c2s_holds_total", "Times that a client's socket was no longer read", labels)
#define REGISTERS(result)                                                              \
    STAT_COUNTER("jackdaw_c2s_registrations_total", "Accounts asked for before login", \
                 "result=\"" result "\"")
#define DELIVERS(labels) STAT_COUNTER("jackdaw_c2s_deliver_dropped_total", "Deliveries dropped", labels)

struct stat_counter metric_connections =
    STAT_COUNTER("jackdaw_c2s_connections_total", "Connections accepted", NULL);
struct stat_counter metric_refused_many = REFUSED("reason=\"too-many\"");
struct stat_counter metric_refused_fast = REFUSED("reason=\"too-fast\"");
struct stat_counter metric_proxy_bad = REFUSED("reason=\"proxy-header\"");
struct stat_counter metric_handshakes = SHAKES("result=\"full\"");
struct stat_counter metric_handshakes_resumed = SHAKES("result=\"resumed\"");
struct stat_counter metric_handshakes_failed = SHAKES("result=\"failed\"");
struct stat_counter metric_auth_ok = STAT_COUNTER("jackdaw_c2s_logins_total", "Log-ins that succeeded", NULL);
struct stat_counter metric_auth_failures[METRIC_AUTH_REASONS];
struct stat_counter metric_registrations[METRIC_REGISTRATIONS] = {
    REGISTERS("done"),         REGISTERS("exists"),           REGISTERS("store-away"),
    REGISTERS("bad-password"), REGISTERS("too-many-address"), REGISTERS("too-many-connection")};
struct stat_counter metric_stream_errors[STREAM_E_COUNT];
struct stat_counter metric_stanzas_in[3] = {IN("kind=\"message\""), IN("kind=\"presence\""),
                                            IN("kind=\"iq\"")};
struct stat_counter metric_stanzas_out[3] = {OUT("kind=\"message\""), OUT("kind=\"presence\""),
                                             OUT("kind=\"iq\"")};
struct stat_counter metric_bytes_in = STAT_COUNTER("jackdaw_c2s_bytes_in_total", "Bytes received", NULL);
struct stat_counter metric_bytes_out = STAT_COUNTER("jackdaw_c2s_bytes_out_total", "Bytes sent", NULL);
struct stat_counter metric_sends =
    STAT_COUNTER("jackdaw_c2s_sends_total", "Sends, each with all of a turn", NULL);
struct stat_counter metric_forwarded =
    STAT_COUNTER("jackdaw_c2s_forwarded_total", "Stanzas given to a home router for the first time", NULL);
struct stat_counter metric_resent =
    STAT_COUNTER("jackdaw_c2s_resent_total", "Stanzas given to a router again", NULL);
struct stat_counter metric_handled =
    STAT_COUNTER("jackdaw_c2s_handled_total", "Stanzas that the home router has made safe", NULL);
struct stat_counter metric_dropped_ended = STAT_COUNTER(
    "jackdaw_c2s_dropped_total", "Stanzas forgotten before they were handled", "rule=\"session-ended\"");
struct stat_counter metric_delivered =
    STAT_COUNTER("jackdaw_c2s_delivered_total", "Deliveries of routers written to clients", NULL);
struct stat_counter metric_delivered_twice = DELIVERS("rule=\"had-before\"");
struct stat_counter metric_delivered_unknown = DELIVERS("rule=\"unknown-session\"");
struct stat_counter metric_frames_bad =
    STAT_COUNTER("jackdaw_c2s_frames_bad_total", "Frames of other processes that could not be read", NULL);
struct stat_counter metric_not_mine =
    STAT_COUNTER("jackdaw_c2s_not_mine_total", "Frames that a router sent back as not its own", NULL);
struct stat_counter metric_holds[5] = {HOLDS("reason=\"answer\""), HOLDS("reason=\"queue\""),
                                       HOLDS("reason=\"route\""), HOLDS("reason=\"rate\""),
                                       HOLDS("reason=\"output\"")};
struct stat_gauge metric_open = STAT_GAUGE("jackdaw_c2s_connections", "Connections open", NULL);
struct stat_gauge metric_sessions =
    STAT_GAUGE("jackdaw_c2s_sessions", "Sessions with a bound resource", NULL);
struct stat_gauge metric_queued =
    STAT_GAUGE("jackdaw_c2s_queued", "Stanzas not yet handled by a router", NULL);
struct stat_gauge metric_waiting =
    STAT_GAUGE("jackdaw_c2s_sessions_waiting", "Sessions that wait for a router or for its link", NULL);
struct stat_histogram metric_handled_us =
    STAT_HISTOGRAM("jackdaw_c2s_handled_seconds", "From taking a stanza in to its being safe", NULL);

static void register_counters(struct stat_counter *c, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        stat_register(&c[i].meta);
}

void metrics_init(void)
{
    /* The labels live as long as the process. */
    for (unsigned i = 0; i < METRIC_AUTH_REASONS; i++) {
        struct stat_counter c = STAT_COUNTER("jackdaw_c2s_login_failures_total", "Log-ins refused", NULL);
        c.meta.labels = xasprintf("reason=\"%s\"", sasl_error_name((enum sasl_error)i));
        metric_auth_failures[i] = c;
    }
    for (unsigned i = 0; i < STREAM_E_COUNT; i++) {
        struct stat_counter c = STAT_COUNTER("jackdaw_c2s_stream_errors_total", "Stream errors sent", NULL);
        c.meta.labels = xasprintf("condition=\"%s\"", stream_error_name((enum stream_error)i));
        metric_stream_errors[i] = c;
    }
    struct stat_counter *const singles[] = {
        &metric_connections,
        &metric_refused_many,
        &metric_refused_fast,
        &metric_proxy_bad,
        &metric_handshakes,
        &metric_handshakes_resumed,
        &metric_handshakes_failed,
        &metric_auth_ok,
        &metric_bytes_in,
        &metric_bytes_out,
        &metric_sends,
        &metric_forwarded,
        &metric_resent,
        &metric_handled,
        &metric_dropped_ended,
        &metric_delivered,
        &metric_delivered_twice,
        &metric_delivered_unknown,
        &metric_frames_bad,
        &metric_not_mine,
    };
    for (unsigned i = 0; i < ARRAY_LEN(singles); i++)
        stat_register(&singles[i]->meta);
    register_counters(metric_auth_failures + 1, METRIC_AUTH_REASONS - 1);
    register_counters(metric_registrations, METRIC_REGISTRATIONS);
    register_counters(metric_stream_errors, STREAM_E_COUNT);
    register_counters(metric_stanzas_in, 3);
    register_counters(metric_stanzas_out, 3);
    register_counters(metric_holds, 5);
    stat_register(&metric_open.meta);
    stat_register(&metric_sessions.meta);
    stat_register(&metric_queued.meta);
    stat_register(&metric_waiting.meta);
    stat_register(&metric_handled_us.meta);
}
