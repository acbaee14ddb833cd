/* Start, reload, drain and stop of a connection manager, and the end of each turn. */
#include "c2s/role.h"

#include <stdlib.h>
#include <unistd.h>

#include "c2s/c2s.h"
#include "c2s/metrics.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/log/log.h"
#include "common/sasl/verified.h"

#define BUFFER_COUNT       1024
#define BUFFER_BYTES       4096
#define SWEEP_MS           5000  /* also the grain of conn.expires_ms … */
#define SWEEP_DRAINING_MS  100   /* … and while the process drains */
#define LOGIN_STANZA_BYTES 10000 /* before login (RFC 6120 §13.12: not below) */
#define DEPTH_MAX          64
#define LEAVE_JITTER_MS    2500 /* at most; else so that a thousand a second log in elsewhere */

/* ---- certificates ---- */

static unsigned load_certs(struct c2s *c)
{
    c->certs = tls_directory_new(c->tls, c->conf->tls_directory, (unsigned)c->conf->tls_expiry_warn_days);
    for (unsigned i = 0; i < c->env.domain_count; i++) {
        char *domain = span_dup(c->env.domains[i]);
        tls_directory_add(c->certs, domain);
        free(domain);
    }
    return tls_directory_load(c->certs, clock_wall_ms());
}

static bool start_tls_ctx(struct c2s *c)
{
    char *error = NULL;
    struct tls_config config = {.alpn = "xmpp-client",
                                .allow_tls12 = c->conf->tls_allow_tls12,
                                .slim = c->conf->tls_slim_after_ms > 0};
    c->tls = tls_ctx_new(&config, &error);
    if (c->tls == NULL) {
        log_error("c2s", "TLS cannot be set up: %s", error);
        free(error);
        return false;
    }
    if (load_certs(c) > 0)
        return true;
    tls_directory_free(c->certs);
    c->certs = NULL;
    tls_ctx_free(c->tls);
    c->tls = NULL;
    if (c->conf->c2s_require_tls) {
        log_error(
            "c2s",
            "no certificate in %s: put DOMAIN.crt and DOMAIN.key or default.crt and default.key there, or "
            "set c2s.require_tls = false",
            c->conf->tls_directory);
        return false;
    }
    log_warn("c2s", "no certificate in %s: TLS is not offered", c->conf->tls_directory);
    return true;
}

/* ---- start ---- */

static bool start_domains(struct c2s *c)
{
    const struct conf_list *list = &c->conf->cluster_domains;
    size_t *ends = xcalloc(list->count + 1, sizeof(*ends));
    bool good = list->count > 0;
    for (unsigned i = 0; i < list->count; i++) {
        const char *why = NULL;
        if (!jid_prepare_domain(span_of(list->items[i]), &c->domains_text, &why)) {
            log_error("c2s", "cluster.domains: \"%s\" is no domain: %s", list->items[i], why);
            good = false;
        }
        ends[i + 1] = c->domains_text.n;
    }
    c->env.domains = xcalloc(list->count + 1, sizeof(struct span));
    c->env.domain_count = MIN(list->count, 255);
    for (unsigned i = 0; i < c->env.domain_count; i++)
        c->env.domains[i] = span_make(c->domains_text.p + ends[i], ends[i + 1] - ends[i]);
    free(ends);
    return good;
}

static void start_env(struct c2s *c)
{
    struct session_env *env = &c->env;
    const struct conf *conf = c->conf;
    struct xml_limits limits = {
        .element_max_bytes = LOGIN_STANZA_BYTES, .depth_max = DEPTH_MAX, .attrs_max = XML_ATTRS_MAX};
    env->host = &conn_session_host;
    env->before_login =
        (struct stream_kind){.content_ns = NS_CLIENT, .limits = limits, .parser = xml_parser_new(NS_CLIENT)};
    env->after_login = env->before_login;
    env->after_login.limits.element_max_bytes = (uint32_t)conf->c2s_stanza_max_bytes;
    env->have_tls = c->tls != NULL;
    env->require_tls = conf->c2s_require_tls;
    env->channel_binding = conf->c2s_channel_binding;
    env->registration = conf->register_enabled;
    env->registrations = (unsigned)conf->register_per_connection;
    env->auth_attempts = (unsigned)conf->limits_auth_attempts;
    env->resume_s = (unsigned)conf->c2s_resume_timeout_s;
    env->idle_s = (unsigned)conf->c2s_idle_timeout_s;
    env->arena = arena_new(16384);
    env->verified = verified_new();
    verified_clock(env->verified, ring_now_ms(c->ring));
}

static void run_turn(struct ring_hook *hook)
{
    struct c2s *c = CONTAINER_OF(hook, struct c2s, flush_hook);
    struct list now;
    list_init(&now);
    list_splice(&now, &c->dirty);
    while (!list_empty(&now))
        conn_flush(LIST_ENTRY(list_pop(&now), struct conn, dirty));
    uint64_t now_ms = ring_now_ms(c->ring);
    LIST_EACH (it, &c->dying)
        conn_bury(LIST_ENTRY(it, struct conn, dying), now_ms);
}

static void on_sweep(struct timer *t, uint64_t now_ms)
{
    struct c2s *c = CONTAINER_OF(t, struct c2s, sweep);
    limits_sweep(&c->limits, now_ms);
    quota_sweep(&c->signups, now_ms);
    verified_clock(c->env.verified, now_ms);
    if (c->certs != NULL)
        tls_directory_check(c->certs, clock_wall_ms());
    ring_timer_set(c->ring, t, c->draining ? SWEEP_DRAINING_MS : SWEEP_MS);
}

static void c2s_free(struct c2s *c)
{
    tls_directory_free(c->certs);
    tls_ctx_free(c->tls);
    xml_parser_free(c->env.before_login.parser);
    arena_free(c->env.arena);
    verified_free(c->env.verified);
    buf_free(&c->env.scratch);
    buf_free(&c->env.fake_seed);
    buf_free(&c->domains_text);
    buf_free(&c->plain);
    free(c->env.domains);
    limits_free(&c->limits);
    quota_free(&c->signups);
    free(c);
}

static void *role_start(struct proc *p)
{
    struct c2s *c = xcalloc(1, sizeof(*c));
    c->proc = p;
    c->conf = proc_conf(p);
    c->ring = proc_ring(p);
    c->bus = proc_bus(p);
    c->redis = proc_redis(p);
    c->member = proc_member(p);
    list_init(&c->conns);
    list_init(&c->dirty);
    list_init(&c->dying);
    list_init(&c->listeners);
    if (!start_domains(c) || !start_tls_ctx(c)) {
        c2s_free(c);
        return NULL;
    }
    metrics_init();
    start_env(c);
    uplink_init(c);
    c->limits.enabled = c->conf->limits_enabled;
    c->limits.connections_per_address = (uint64_t)c->conf->limits_connections_per_address;
    c->limits.connection_rate_per_address = (uint64_t)c->conf->limits_connection_rate_per_address;
    c->buffers = ring_buffers_new(c->ring, BUFFER_COUNT, BUFFER_BYTES);
    c->flush_hook.run = run_turn;
    ring_hook_add(c->ring, &c->flush_hook);
    c->sweep.fire = on_sweep;
    ring_timer_set(c->ring, &c->sweep, SWEEP_MS);
    secrets_start(&c->secrets, c->ring, c->redis, c->tls, &c->env.fake_seed);
    return c;
}

static void role_ready(void *self)
{
    struct c2s *c = self;
    secrets_refresh(&c->secrets);
    if (!listeners_open(c) && list_empty(&c->listeners))
        log_error("c2s", "no listener could be opened; nobody can connect here");
}

static void role_frame(void *self, struct bus_peer *from, struct span frame)
{
    uplink_frame(self, from, frame);
}

static void role_peer_up(void *self, struct bus_peer *peer)
{
    uplink_peer_up(self, peer);
}

static void role_peer_gone(void *self, struct bus_peer *peer)
{
    uplink_peer_gone(self, peer);
}

static void role_peer_room(void *self, struct bus_peer *peer)
{
    uplink_peer_up(self, peer);
}

static void role_epoch(void *self)
{
    uplink_epoch(self);
}

static void role_redis_state(void *self, bool up)
{
    struct c2s *c = self;
    if (up)
        secrets_refresh(&c->secrets);
}

static void role_reload(void *self)
{
    struct c2s *c = self;
    if (c->tls == NULL)
        log_warn("c2s", "reload: this process was started without a certificate; restart it to offer TLS");
    else if (tls_directory_load(c->certs, clock_wall_ms()) == 0)
        log_error("c2s", "reload: no certificate could be read from %s; the old ones stay in force",
                  c->conf->tls_directory);
}

/* ---- the end ---- */

void c2s_conn_gone(struct c2s *c)
{
    c->count--;
    if (c->draining && c->count == 0)
        proc_drained(c->proc);
}

static void role_drain(void *self)
{
    struct c2s *c = self;
    if (c->draining)
        return;
    c->draining = true;
    ring_timer_set(c->ring, &c->sweep, SWEEP_DRAINING_MS);
    listeners_close(c);
    log_info("c2s", "draining %llu connections", (unsigned long long)c->count);
    uint64_t spread_ms = MIN(c->count, (uint64_t)LEAVE_JITTER_MS);
    LIST_EACH (it, &c->conns)
        conn_leave(LIST_ENTRY(it, struct conn, node), random_u64() % spread_ms);
    if (c->count == 0)
        proc_drained(c->proc);
}

static void role_stop(void *self)
{
    struct c2s *c = self;
    ring_hook_del(c->ring, &c->flush_hook);
    ring_timer_clear(c->ring, &c->sweep);
    secrets_stop(&c->secrets);
    uplink_free(c);
    listeners_close(c);
    if (c->count > 0)
        return; /* what their operations still use goes with the process */
    ring_buffers_free(c->buffers);
    c2s_free(c);
}

const struct proc_role c2s_role = {.role = "c2s",
                                   .start = role_start,
                                   .ready = role_ready,
                                   .frame = role_frame,
                                   .peer_up = role_peer_up,
                                   .peer_gone = role_peer_gone,
                                   .peer_room = role_peer_room,
                                   .epoch = role_epoch,
                                   .redis_state = role_redis_state,
                                   .reload = role_reload,
                                   .drain = role_drain,
                                   .stop = role_stop};
