/* Start, reload, drain and stop of a federation process. */
#include "s2s/role.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/member/member.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"
#include "common/tls/tls.h"
#include "s2s/component.h"
#include "s2s/domain.h"
#include "s2s/leg.h"
#include "s2s/metrics.h"
#include "s2s/posh.h"
#include "s2s/resolve.h"
#include "s2s/s2s.h"

#define BUFFER_COUNT 512
#define BUFFER_BYTES 4096
#define SWEEP_MS     1000
#define ADDRESSES_MS 60000 /* addresses without connections are forgotten that often */
#define REFRESH_MS   2000
#define DEPTH_MAX    64
#define SECRET_KEY   KEY_SECRET("dialback")

/* ---- domains ---- */

struct local *s2s_local(struct s2s *s, struct span domain)
{
    return map_get(&s->locals, domain);
}

static bool listed(const struct conf_list *list, struct span domain)
{
    for (unsigned i = 0; i < list->count; i++) {
        struct span entry = span_of(list->items[i]);
        if (span_eq(entry, domain))
            return true;
        if (entry.n > 1 && entry.p[0] == '.' && domain.n > entry.n &&
            span_eq(span_sub(domain, domain.n - entry.n, entry.n), entry))
            return true;
    }
    return false;
}

bool s2s_allows(const struct s2s *s, struct span domain)
{
    if (listed(&s->conf->s2s_block, domain))
        return false;
    return s->conf->s2s_allow.count == 0 || listed(&s->conf->s2s_allow, domain);
}

static bool start_domains(struct s2s *s)
{
    const struct conf_list *list = &s->conf->cluster_domains;
    for (unsigned i = 0; i < list->count; i++) {
        struct buf domain = {0};
        const char *why = NULL;
        if (!jid_prepare_domain(span_of(list->items[i]), &domain, &why)) {
            log_error("s2s", "cluster.domains: \"%s\" is no domain: %s", list->items[i], why);
            buf_free(&domain);
            return false;
        }
        struct local *l = xcalloc(1, sizeof *l);
        l->domain = span_dup(buf_span(&domain));
        buf_free(&domain);
        if (map_put(&s->locals, span_of(l->domain), l) != NULL)
            log_warn("s2s", "cluster.domains names %s twice", l->domain);
    }
    return components_init(s);
}

/* ---- certificates ---- */

static void load_certs(struct s2s *s)
{
    s->have_cert = tls_directory_load(s->certs, clock_wall_ms()) > 0 || s->have_cert;
}

static bool start_tls(struct s2s *s)
{
    char *error = NULL;
    const char *trust = s->conf->s2s_trust_file;
    struct tls_config config = {.alpn = "xmpp-server",
                                .request_client_cert = true,
                                .allow_tls12 = s->conf->tls_allow_tls12,
                                .trust_file = trust[0] != '\0' ? trust : NULL};
    s->tls = tls_ctx_new(&config, &error);
    if (s->tls == NULL) {
        log_error("s2s", "TLS cannot be set up (see s2s.trust_file): %s", error);
        free(error);
        return false;
    }
    size_t at = 0;
    s->certs = tls_directory_new(s->tls, s->conf->tls_directory, (unsigned)s->conf->tls_expiry_warn_days);
    for (struct local *l; (l = map_next(&s->locals, &at)) != NULL;)
        tls_directory_add(s->certs, l->domain);
    load_certs(s);
    if (s->have_cert)
        return true;
    if (s->conf->s2s_require_tls) {
        log_error("s2s",
                  "no certificate in %s: put DOMAIN.crt and DOMAIN.key or default.crt and default.key there, "
                  "or set "
                  "s2s.require_tls = false",
                  s->conf->tls_directory);
        return false;
    }
    log_warn("s2s", "no certificate in %s: servers cannot reach us by TLS", s->conf->tls_directory);
    tls_directory_free(s->certs);
    s->certs = NULL;
    tls_ctx_free(s->tls);
    s->tls = NULL;
    return true;
}

/* ---- what Redis knows ---- */

static void on_secret(void *ctx, const struct redis_reply *reply)
{
    struct s2s *s = ctx;
    if (reply == NULL || reply->kind != REDIS_KIND_TEXT)
        return;
    buf_clear(&s->secret);
    buf_add_span(&s->secret, reply->text);
}

static void on_refresh(struct timer *t, uint64_t now_ms)
{
    struct s2s *s = CONTAINER_OF(t, struct s2s, refresh);
    (void)now_ms;
    ring_timer_set(s->ring, t, REFRESH_MS);
    if (!redis_is_up(s->redis))
        return;
    estate_enter(s);
    if (s->secret.n == 0) {
        char fresh[65];
        random_hex(fresh, 32);
        redis_send(s->redis, SECRET_KEY, NULL, NULL, SPAN("SET"), SECRET_KEY, span_of(fresh), SPAN("NX"));
        redis_send(s->redis, SECRET_KEY, on_secret, s, SPAN("GET"), SECRET_KEY);
    }
    components_refresh(s);
}

static void on_sweep(struct timer *t, uint64_t now_ms)
{
    struct s2s *s = CONTAINER_OF(t, struct s2s, sweep);
    if (now_ms >= s->swept_ms + ADDRESSES_MS) {
        s->swept_ms = now_ms;
        limits_sweep(&s->limits, now_ms);
    }
    ring_timer_set(s->ring, t, SWEEP_MS);
    domain_sweep(s);
    posh_sweep(s->posh);
    if (s->certs != NULL)
        tls_directory_check(s->certs, clock_wall_ms());
    components_sweep(s);
}

/* ---- start ---- */

static void start_streams(struct s2s *s)
{
    struct xml_limits limits = {.element_max_bytes = (uint32_t)s->conf->s2s_stanza_max_bytes,
                                .depth_max = DEPTH_MAX,
                                .attrs_max = XML_ATTRS_MAX};
    s->server_kind =
        (struct stream_kind){.content_ns = NS_SERVER, .limits = limits, .parser = xml_parser_new(NS_SERVER)};
    s->component_kind = (struct stream_kind){.content_ns = NS_COMPONENT,
                                             .limits = limits,
                                             .parser = xml_parser_new(NS_COMPONENT),
                                             .other = &s->bind_kind};
    s->bind_kind =
        (struct stream_kind){.content_ns = NS_CLIENT, .limits = limits, .parser = xml_parser_new(NS_CLIENT)};
    s->index_parser = xml_parser_new(NS_CLIENT);
    s->arena = arena_new(16384);
}

static void s2s_free(struct s2s *s)
{
    size_t at = 0;
    struct local *l;
    components_free(s);
    while ((l = map_next(&s->locals, &at)) != NULL) {
        free(l->domain);
        free(l);
    }
    map_free(&s->locals);
    limits_free(&s->limits);
    idmap_free(&s->sources);
    tls_directory_free(s->certs);
    tls_ctx_free(s->tls);
    xml_parser_free(s->server_kind.parser);
    xml_parser_free(s->component_kind.parser);
    xml_parser_free(s->bind_kind.parser);
    xml_parser_free(s->index_parser);
    arena_free(s->arena);
    buf_free(&s->scratch);
    buf_free(&s->secret);
    free(s);
}

static void *role_start(struct proc *p)
{
    struct s2s *s = xcalloc(1, sizeof *s);
    s->proc = p;
    s->conf = proc_conf(p);
    s->ring = proc_ring(p);
    s->bus = proc_bus(p);
    s->redis = proc_redis(p);
    s->member = proc_member(p);
    list_init(&s->legs);
    list_init(&s->listeners);
    list_init(&s->components);
    if (!start_domains(s) || !start_tls(s)) {
        s2s_free(s);
        return NULL;
    }
    s->resolver = resolver_new(s->ring, s->conf);
    if (s->resolver == NULL) {
        s2s_free(s);
        return NULL;
    }
    s->posh = posh_new(s);
    metrics_init();
    start_streams(s);
    estate_init(s);
    resume_init(s);
    s->witness = witness_start(s->estate.self, s->conf);
    uplink_init(s);
    s->limits.enabled = s->conf->limits_enabled;
    s->limits.connections_per_address = (uint64_t)s->conf->s2s_connections_per_address;
    s->limits.connection_rate_per_address = (uint64_t)s->conf->s2s_connection_rate_per_address;
    conn_hub_init(&s->hub, s->ring, BUFFER_COUNT, BUFFER_BYTES);
    s->sweep.fire = on_sweep;
    s->refresh.fire = on_refresh;
    ring_timer_set(s->ring, &s->sweep, SWEEP_MS);
    ring_timer_set(s->ring, &s->refresh, 0);
    return s;
}

static void role_ready(void *self)
{
    struct s2s *s = self;
    estate_enter(s);
    resume_listen(s);
    ring_timer_set(s->ring, &s->refresh, 0);
    if (s->conf->s2s_components.count > 0)
        redis_subscribe(s->redis, CHANNEL_COMPONENTS, components_changed, s);
    if (!listeners_open(s) && list_empty(&s->listeners))
        log_error("s2s", "no listener could be opened; no server can connect here");
}

static void role_frame(void *self, struct bus_peer *from, struct span frame)
{
    uplink_frame(self, from, frame);
}

static void role_peer_up(void *self, struct bus_peer *peer)
{
    uplink_peer_up(self);
    components_tell(self, peer);
}

static void role_peer_gone(void *self, struct bus_peer *peer)
{
    uplink_peer_gone(self, peer);
}

static void role_epoch(void *self)
{
    uplink_epoch(self);
    components_tell(self, NULL); /* a router may have come up before the membership named it */
}

static void role_redis_state(void *self, bool up)
{
    struct s2s *s = self;
    if (!up)
        return;
    ring_timer_set(s->ring, &s->refresh, 0);
    estate_enter(s);
}

static void role_reload(void *self)
{
    struct s2s *s = self;
    if (s->tls != NULL)
        load_certs(s);
    else
        log_warn("s2s", "reload: this process was started without a certificate; restart it to offer TLS");
}

/* ---- the end ---- */

static void drained(struct s2s *s)
{
    if (!s->draining || s->hub.count > 0)
        return;
    estate_leave(s);
    proc_drained(s->proc);
}

void s2s_leg_gone(struct s2s *s)
{
    drained(s);
}

static void role_drain(void *self)
{
    struct s2s *s = self;
    if (s->draining)
        return;
    s->draining = true;
    listeners_close(s);
    log_info("s2s", "draining %llu streams", (unsigned long long)s->hub.count);
    LIST_EACH (it, &s->legs)
        leg_drain(LIST_ENTRY(it, struct leg, node));
    drained(s);
}

static void role_stop(void *self)
{
    struct s2s *s = self;
    ring_timer_clear(s->ring, &s->sweep);
    ring_timer_clear(s->ring, &s->refresh);
    redis_forget(s->redis, s);
    listeners_close(s);
    witness_end(s->witness, s->draining && s->hub.count == 0);
    s->witness = NULL;
    estate_free(s);
    resume_free(s);
    if (s->hub.count > 0)
        return; /* what their operations still use goes with the process */
    domain_free_all(s);
    components_free(s); /* what they still hold tells the uplink */
    uplink_free(s);
    posh_free(s->posh);
    resolver_free(s->resolver);
    conn_hub_free(&s->hub);
    s2s_free(s);
}

const struct proc_role s2s_role = {.role = "s2s",
                                   .start = role_start,
                                   .ready = role_ready,
                                   .frame = role_frame,
                                   .peer_up = role_peer_up,
                                   .peer_gone = role_peer_gone,
                                   .epoch = role_epoch,
                                   .redis_state = role_redis_state,
                                   .reload = role_reload,
                                   .drain = role_drain,
                                   .stop = role_stop};
