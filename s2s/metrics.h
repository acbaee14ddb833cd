/* What a federation process counts: every refusal by its reason. */
#ifndef JACKDAW_S2S_METRICS_H
#define JACKDAW_S2S_METRICS_H

#include "common/stanza/stanza.h"
#include "common/stats/stats.h"
#include "common/stream/stream.h"

/* METRIC(id, name, help, labels) */
#define S2S_METRICS(METRIC)                                                                                 \
    METRIC(IN_STANZAS, "stanzas_in_total", "Stanzas taken from servers and components", NULL)               \
    METRIC(OUT_STANZAS, "stanzas_out_total", "Stanzas written to servers and components", NULL)             \
    METRIC(OUT_AGAIN, "stanzas_out_again_total", "Stanzas put back because their stream broke", NULL)       \
    METRIC(SAFE, "stanzas_safe_total", "Stanzas that the other side has", NULL)                             \
    METRIC(ROUTED, "routed_total", "Stanzas given to routers", NULL)                                        \
    METRIC(ROUTED_AGAIN, "routed_again_total", "Stanzas given to routers again", NULL)                      \
    METRIC(ROUTED_DONE, "routed_done_total", "Stanzas that routers have taken", NULL)                       \
    METRIC(FORWARDED, "forwarded_total", "Stanzas for a component given to the process that has it", NULL)  \
    METRIC(TAKEN, "taken_total", "Stanzas taken from routers", NULL)                                        \
    METRIC(TAKEN_TWICE, "taken_twice_total", "Stanzas from routers that were here before", NULL)            \
    METRIC(ESTATE_WAITED, "estate_waited_total",                                                            \
           "Stanzas that waited for what a dead process had handed over", NULL)                             \
    METRIC(ESTATE_KNOWN, "estate_known_total",                                                              \
           "Stanzas of other servers that had come before on a broken stream", NULL)                        \
    METRIC(ESTATE_LOST, "estate_lost_total", "Dead processes of which nothing could be learnt", NULL)       \
    METRIC(RESUMED_IN, "resumed_total", "Streams resumed", "direction=\"in\"")                              \
    METRIC(RESUMED_OUT, "resumed_total", "Streams resumed", "direction=\"out\"")                            \
    METRIC(RESUME_FAILED, "resume_failures_total", "Streams that could not be resumed", NULL)               \
    METRIC(DROPPED, "dropped_total", "Stanzas that could not go and must not be answered", NULL)            \
    METRIC(HEARD_TWICE, "heard_twice_total", "Presence that a privileged component was told before", NULL)  \
    METRIC(FRAMES_BAD, "frames_bad_total", "Frames of other processes that could not be read", NULL)        \
    METRIC(CONN_IN, "connections_total", "Connections", "direction=\"in\"")                                 \
    METRIC(CONN_OUT, "connections_total", "Connections", "direction=\"out\"")                               \
    METRIC(CONN_COMPONENT, "connections_total", "Connections", "direction=\"component\"")                   \
    METRIC(CONN_FAILED, "connect_failures_total", "Outgoing connections that could not be made", NULL)      \
    METRIC(TLS_OK, "tls_handshakes_total", "TLS handshakes", "result=\"ok\"")                               \
    METRIC(TLS_FAILED, "tls_handshakes_total", "TLS handshakes", "result=\"failed\"")                       \
    METRIC(DNS_OK, "dns_total", "Domains looked up", "result=\"ok\"")                                       \
    METRIC(DNS_NONE, "dns_total", "Domains looked up", "result=\"no-service\"")                             \
    METRIC(DNS_FAILED, "dns_total", "Domains looked up", "result=\"failed\"")                               \
    METRIC(DNS_BOGUS, "dns_total", "Domains looked up", "result=\"bogus\"")                                 \
    METRIC(AUTH_OUT_EXTERNAL, "authentications_total", "Streams proven",                                    \
           "direction=\"out\",by=\"external\"")                                                             \
    METRIC(AUTH_OUT_DIALBACK, "authentications_total", "Streams proven",                                    \
           "direction=\"out\",by=\"dialback\"")                                                             \
    METRIC(AUTH_IN_EXTERNAL, "authentications_total", "Streams proven", "direction=\"in\",by=\"external\"") \
    METRIC(AUTH_IN_DIALBACK, "authentications_total", "Streams proven", "direction=\"in\",by=\"dialback\"") \
    METRIC(AUTH_IN_CERT, "authentications_total", "Streams proven",                                         \
           "direction=\"in\",by=\"dialback-with-certificate\"")                                             \
    METRIC(DANE, "dane_total", "Certificates verified by TLSA records", NULL)                               \
    METRIC(POSH_VERIFIED, "posh_total", "Certificates looked up by POSH", "result=\"verified\"")            \
    METRIC(POSH_OTHER, "posh_total", "Certificates looked up by POSH", "result=\"other-certificate\"")      \
    METRIC(POSH_NONE, "posh_total", "Certificates looked up by POSH", "result=\"no-document\"")             \
    METRIC(AUTH_COMPONENT, "authentications_total", "Streams proven",                                       \
           "direction=\"component\",by=\"secret\"")                                                         \
    METRIC(REFUSED_TOO_MANY, "refused_total", "Refused, by reason", "reason=\"too-many-connections\"")      \
    METRIC(REFUSED_TOO_FAST, "refused_total", "Refused, by reason", "reason=\"connects-too-often\"")        \
    METRIC(REFUSED_BLOCKED, "refused_total", "Refused, by reason", "reason=\"blocked-domain\"")             \
    METRIC(REFUSED_CERT_NAME, "refused_total", "Refused, by reason", "reason=\"certificate-name\"")         \
    METRIC(REFUSED_CERT_CHAIN, "refused_total", "Refused, by reason", "reason=\"certificate-chain\"")       \
    METRIC(REFUSED_NO_CERT, "refused_total", "Refused, by reason", "reason=\"no-certificate\"")             \
    METRIC(REFUSED_DANE, "refused_total", "Refused, by reason", "reason=\"dane\"")                          \
    METRIC(REFUSED_POSH, "refused_total", "Refused, by reason", "reason=\"posh\"")                          \
    METRIC(REFUSED_EXPIRED, "refused_total", "Refused, by reason", "reason=\"certificate-expired\"")        \
    METRIC(REFUSED_NO_TLS, "refused_total", "Refused, by reason", "reason=\"no-tls\"")                      \
    METRIC(REFUSED_HEADER, "refused_total", "Refused, by reason", "reason=\"other-domain-in-header\"")      \
    METRIC(REFUSED_HOST, "refused_total", "Refused, by reason", "reason=\"host-unknown\"")                  \
    METRIC(REFUSED_ADDRESSING, "refused_total", "Refused, by reason", "reason=\"improper-addressing\"")     \
    METRIC(REFUSED_FROM, "refused_total", "Refused, by reason", "reason=\"invalid-from\"")                  \
    METRIC(REFUSED_UNAUTHORIZED, "refused_total", "Refused, by reason", "reason=\"before-authentication\"") \
    METRIC(REFUSED_KEY, "refused_total", "Refused, by reason", "reason=\"dialback-key\"")                   \
    METRIC(REFUSED_UNVERIFIED, "refused_total", "Refused, by reason", "reason=\"dialback-unverified\"")     \
    METRIC(REFUSED_DOMAINS, "refused_total", "Refused, by reason", "reason=\"too-many-domains\"")           \
    METRIC(REFUSED_SECRET, "refused_total", "Refused, by reason", "reason=\"component-secret\"")            \
    METRIC(REFUSED_PRIVILEGE, "refused_total", "Refused, by reason", "reason=\"privilege\"")                \
    METRIC(REFUSED_STREAMS, "refused_total", "Refused, by reason", "reason=\"too-many-streams\"")           \
    METRIC(REFUSED_TARGETS, "refused_total", "Refused, by reason", "reason=\"too-many-targets\"")           \
    METRIC(REFUSED_SASL, "refused_total", "Refused, by reason", "reason=\"sasl\"")                          \
    METRIC(REFUSED_STANZA, "refused_total", "Refused, by reason", "reason=\"malformed-stanza\"")            \
    METRIC(REFUSED_BAD_FROM, "refused_total", "Refused, by reason", "reason=\"malformed-from\"")            \
    METRIC(REFUSED_BAD_TO, "refused_total", "Refused, by reason", "reason=\"malformed-to\"")                \
    METRIC(REFUSED_BY_PEER, "refused_by_peer_total", "Streams that the other server has refused", NULL)     \
    METRIC(TIMEOUT_STEP, "timeouts_total", "Waited in vain", "for=\"negotiation\"")                         \
    METRIC(TIMEOUT_ACK, "timeouts_total", "Waited in vain", "for=\"acknowledgement\"")                      \
    METRIC(TIMEOUT_QUEUE, "timeouts_total", "Waited in vain", "for=\"delivery\"")                           \
    METRIC(IDLE, "idle_closed_total", "Streams closed because nothing went over them", NULL)                \
    METRIC(QUEUE_FULL, "queue_full_total", "Stanzas refused because their domain's queue was full", NULL)   \
    METRIC(BIDI, "bidi_total", "Streams used in both directions", NULL)                                     \
    METRIC(HOLDS, "holds_total", "Times that a socket was no longer read", NULL)

enum s2s_metric {
#define METRIC(id, name, help, labels) S2S_##id,
    S2S_METRICS(METRIC)
#undef METRIC
        S2S_METRIC_COUNT
};

/* Counts one. */
void metric_add(enum s2s_metric what);

/* An error that answered a stanza; a stream error that was sent or received. */
void metric_bounced(enum stanza_error error);
void metric_stream_error(enum stream_error error, bool received);

extern struct stat_gauge metric_streams, metric_queued, metric_pending, metric_domains;

/* Registers them all. */
void metrics_init(void);

#endif
