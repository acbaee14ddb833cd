/* What a connection manager counts. */
#ifndef JACKDAW_C2S_METRICS_H
#define JACKDAW_C2S_METRICS_H

#include "common/sasl/sasl.h"
#include "common/stanza/stanza.h"
#include "common/stats/stats.h"
#include "common/stream/stream.h"

#define METRIC_AUTH_REASONS  (SASL_E_TEMPORARY_AUTH_FAILURE + 1)
#define METRIC_REGISTRATIONS 6

extern struct stat_counter metric_connections, metric_refused_many, metric_refused_fast, metric_proxy_bad;
extern struct stat_counter metric_handshakes, metric_handshakes_resumed, metric_handshakes_failed;
extern struct stat_counter metric_auth_ok, metric_auth_failures[METRIC_AUTH_REASONS];
extern struct stat_counter
    metric_registrations[METRIC_REGISTRATIONS]; /* by enum session_created, then: of its connection */
extern struct stat_counter metric_stream_errors[STREAM_E_COUNT];
extern struct stat_counter metric_stanzas_in[3], metric_stanzas_out[3]; /* by enum stanza_kind */
extern struct stat_counter metric_bytes_in, metric_bytes_out, metric_sends;
/* Conservation: taken = handled + dropped at the end of their session + waiting (gauge). */
extern struct stat_counter metric_forwarded, metric_resent, metric_handled, metric_dropped_ended;
extern struct stat_counter metric_delivered, metric_delivered_twice, metric_delivered_unknown;
extern struct stat_counter metric_frames_bad, metric_not_mine, metric_holds[5];
extern struct stat_gauge metric_open, metric_sessions, metric_queued, metric_waiting;
extern struct stat_histogram metric_handled_us;

/* Registers them all. */
void metrics_init(void);

#endif
