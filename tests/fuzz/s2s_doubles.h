/* A federation process without its surroundings: connections, loop, Redis, bus, membership, TLS and DNS are
 * doubles that a fuzz target moves by hand. */
#ifndef JACKDAW_TESTS_FUZZ_S2S_DOUBLES_H
#define JACKDAW_TESTS_FUZZ_S2S_DOUBLES_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>

#include "common/base/timers.h"
#include "common/bus/bus.h"
#include "common/config/conf.h"
#include "common/log/log.h"
#include "common/redis/redis.h"
#include "common/tls/tls.h"
#include "s2s/component.h"
#include "s2s/domain.h"
#include "s2s/leg.h"
#include "s2s/listener.h"
#include "s2s/metrics.h"
#include "s2s/resolve.h"
#include "s2s/s2s.h"

#define DOUBLE_CONNS 64
#define DOUBLE_ASKED 256

struct bus_peer {
    int unused;
};

static struct {
    struct s2s s2s;
    struct timers timers;
    uint64_t now_ms;
    struct conn *conns[DOUBLE_CONNS];
    unsigned conn_count;
    bool certified;
    struct {
        redis_fn *fn;
        void *ctx;
    } asked[DOUBLE_ASKED];
    unsigned asked_count;
    uint64_t tokens[4096]; /* of stanzas that the router has not answered */
    unsigned token_count;
    struct {
        void *mine;
        ub_callback_type fn;
    } dns[DOUBLE_ASKED];
    unsigned dns_count;
    struct ring_op *poll; /* the resolver's */
    ring_fn *poll_fn;
    struct bus_peer router;
    struct member_node node;
    char tls[1];
    struct buf frame;
} d = {.now_ms = 1000000};

/* ---- the loop ---- */

uint64_t ring_now_ms(const struct ring *r)
{
    (void)r;
    return d.now_ms;
}

void ring_timer_set(struct ring *r, struct timer *t, uint64_t delay_ms)
{
    (void)r;
    timer_set(&d.timers, t, d.now_ms + delay_ms);
}

void ring_timer_clear(struct ring *r, struct timer *t)
{
    (void)r;
    timer_clear(&d.timers, t);
}

void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events, ring_fn *fn)
{
    (void)r;
    (void)fd;
    (void)events;
    d.poll = op;
    d.poll_fn = fn;
}

void ring_cancel(struct ring *r, struct ring_op *op)
{
    (void)r;
    (void)op;
}

/* ---- connections ---- */

static void conn_begin(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler,
                       uint8_t phase)
{
    *c = (struct conn){.hub = hub, .handler = handler, .fd = -1, .phase = phase, .peer = c->peer};
    list_init(&c->dirty);
    list_init(&c->dying);
    CHECK(d.conn_count < DOUBLE_CONNS);
    d.conns[d.conn_count++] = c;
}

void conn_take(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler, int fd)
{
    (void)fd;
    conn_begin(hub, c, handler, CONN_OPEN);
}

bool conn_dial(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler,
               const struct sockaddr_storage *to, const char *source, uint64_t timeout_ms)
{
    (void)to;
    (void)source;
    (void)timeout_ms;
    if (d.conn_count == DOUBLE_CONNS)
        return false;
    conn_begin(hub, c, handler, CONN_DIALLING);
    return true;
}

static void conn_shake(struct conn *c)
{
    buf_clear(&c->held);
    c->tls = (struct tls *)d.tls;
    c->shaking = true;
}

void conn_tls_accept(struct conn *c, struct tls_ctx *ctx, const char *domain)
{
    (void)ctx;
    (void)domain;
    conn_shake(c);
}

void conn_tls_connect(struct conn *c, struct tls *session)
{
    (void)session;
    conn_shake(c);
}

void conn_dirty(struct conn *c)
{
    (void)c;
}

void conn_hold(struct conn *c, uint8_t reason)
{
    c->holds |= reason;
}

void conn_unhold(struct conn *c, uint8_t reason)
{
    c->holds &= (uint8_t)~reason;
}

void conn_finish(struct conn *c)
{
    if (c->phase < CONN_FINISHING)
        c->phase = CONN_FINISHING;
}

void conn_drop(struct conn *c, const char *why)
{
    if (c->phase == CONN_CLOSED)
        return;
    c->phase = CONN_CLOSED;
    c->handler->closed(c, why);
}

size_t conn_waiting(const struct conn *c)
{
    return c->out.n;
}

uint64_t conn_written(const struct conn *c)
{
    return c->sealed + c->out.n;
}

const char *conn_peer_name(const struct conn *c)
{
    (void)c;
    return "192.0.2.1:1";
}

bool listener_admit(struct s2s *s, const struct conn *c, struct limits_address **address)
{
    (void)s;
    (void)c;
    *address = NULL;
    return true;
}

void listener_leave(struct s2s *s, struct limits_address **address)
{
    (void)s;
    (void)address;
}

/* What a turn of the loop does for one connection. */
static void conn_step(struct conn *c)
{
    if (c->phase == CONN_DIALLING) {
        c->phase = CONN_OPEN;
        c->handler->open(c);
    }
    if (c->phase == CONN_OPEN && c->shaking) {
        c->shaking = false;
        c->handler->secured(c);
    }
    if (c->phase == CONN_OPEN && c->holds == 0 && !c->shaking && c->held.n > 0) {
        struct buf taken = c->held;
        c->held = (struct buf){0};
        struct span in = buf_span(&taken);
        c->handler->bytes(c, &in);
        CHECK(in.n <= taken.n);
        if (!c->shaking && c->phase == CONN_OPEN)
            buf_add_span(&c->held, in);
        buf_free(&taken);
    }
    if (c->out.n > 0 && c->phase < CONN_CLOSED) {
        c->handler->turn(c);
        c->sealed += c->out.n;
        buf_clear(&c->out);
        if (c->phase == CONN_OPEN)
            c->handler->sent(c, c->sealed);
    }
}

/* Those that have ended are given back; their owner may dial again from inside. */
static void conns_reap(void)
{
    for (unsigned i = 0; i < d.conn_count;) {
        struct conn *c = d.conns[i];
        if (c->phase < CONN_FINISHING) {
            i++;
            continue;
        }
        conn_drop(c, "over");
        d.conns[i] = d.conns[--d.conn_count];
        buf_free(&c->held);
        buf_free(&c->out);
        c->handler->gone(c);
    }
}

static void conns_turn(void)
{
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < d.conn_count; i++)
            conn_step(d.conns[i]);
        conns_reap();
    }
}

/* ---- TLS ---- */

struct tls *tls_connect(struct tls_ctx *ctx, const char *domain)
{
    (void)ctx;
    (void)domain;
    return (struct tls *)d.tls;
}

void tls_prefer_domain(struct tls *t, const char *domain)
{
    (void)t;
    (void)domain;
}

bool tls_add_tlsa(struct tls *t, const char *host, uint8_t usage, uint8_t selector, uint8_t matching,
                  struct span data)
{
    (void)t;
    (void)host;
    (void)usage;
    (void)selector;
    (void)matching;
    (void)data;
    return true;
}

bool tls_get_peer(struct tls *t, struct tls_peer *out)
{
    (void)t;
    *out = (struct tls_peer){
        .verified = d.certified, .why_not = "no", .in_date = true, .expires_ms = UINT64_MAX / 2};
    return true;
}

bool tls_peer_hash(struct tls *t, size_t n, uint8_t *out)
{
    (void)t;
    (void)n;
    (void)out;
    return false;
}

bool tls_peer_matches(struct tls *t, const char *domain, const char *service)
{
    (void)t;
    (void)domain;
    (void)service;
    return d.certified;
}

/* ---- Redis ---- */

bool redis_is_up(const struct redis *r)
{
    (void)r;
    return d.asked_count < DOUBLE_ASKED / 2;
}

void redis_command(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                   void *ctx)
{
    (void)r;
    (void)key;
    (void)argc;
    (void)argv;
    if (fn == NULL)
        return;
    CHECK(d.asked_count < DOUBLE_ASKED);
    d.asked[d.asked_count].fn = fn;
    d.asked[d.asked_count++].ctx = ctx;
}

/* The oldest question gets its answer. False: there is none. */
static bool redis_reply_next(const struct redis_reply *reply)
{
    if (d.asked_count == 0)
        return false;
    redis_fn *fn = d.asked[0].fn;
    void *ctx = d.asked[0].ctx;
    memmove(&d.asked[0], &d.asked[1], --d.asked_count * sizeof d.asked[0]);
    fn(ctx, reply);
    return true;
}

void redis_forget(struct redis *r, void *ctx)
{
    unsigned n = 0;
    (void)r;
    for (unsigned i = 0; i < d.asked_count; i++)
        if (d.asked[i].ctx != ctx)
            d.asked[n++] = d.asked[i];
    d.asked_count = n;
}

void redis_subscribe(struct redis *r, struct span channel, redis_message_fn *fn, void *ctx)
{
    (void)r;
    (void)channel;
    (void)fn;
    (void)ctx;
}

bool redis_error_is(const struct redis_reply *reply, const char *code)
{
    return reply != NULL && reply->kind == REDIS_KIND_ERROR &&
           span_is(span_sub(reply->text, 0, span_index(reply->text, ' ')), code);
}

struct span redis_pair(const struct redis_reply *list, const char *field)
{
    for (size_t i = 0; i + 1 < list->count; i += 2)
        if (span_is(list->items[i].text, field))
            return list->items[i + 1].text;
    return (struct span){0};
}

/* ---- bus and membership: one router, which answers when it is told to ---- */

struct bus_peer *bus_peer(struct bus *b, const char *name)
{
    (void)b;
    return strcmp(name, "router") == 0 ? &d.router : NULL;
}

bool bus_send(struct bus_peer *p, struct span frame)
{
    struct wire_frame f;
    (void)p;
    CHECK(wire_decode(frame, &f)); /* what we make ourselves can be read */
    if (f.kind == WIRE_ROUTE && d.token_count < ARRAY_LEN(d.tokens))
        d.tokens[d.token_count++] = f.token;
    return true;
}

char *bus_reserve(struct bus_peer *p, size_t n)
{
    (void)p;
    buf_clear(&d.frame);
    return buf_reserve(&d.frame, n);
}

void bus_commit(struct bus_peer *p, size_t n)
{
    bus_send(p, span_make(d.frame.p, n));
}

bool bus_ready(const struct bus_peer *p)
{
    (void)p;
    return true;
}

const char *bus_peer_name(const struct bus_peer *p)
{
    (void)p;
    return "router";
}

uint64_t bus_peer_incarnation(const struct bus_peer *p)
{
    (void)p;
    return 1;
}

bool bus_peer_is_up(const struct bus_peer *p)
{
    (void)p;
    return true;
}

uint32_t member_epoch(const struct member *m)
{
    (void)m;
    return 1;
}

void member_refresh(struct member *m)
{
    (void)m;
}

uint16_t member_slot(struct span bare)
{
    return bare.n > 0 ? (uint16_t)bare.p[0] : 0;
}

const struct member_node *member_owner(const struct member *m, uint16_t slot)
{
    (void)m;
    (void)slot;
    return &d.node;
}

const struct member_node *member_find(const struct member *m, const char *name)
{
    (void)m;
    return strcmp(name, "router") == 0 ? &d.node : NULL;
}

const struct member_node *member_nodes(const struct member *m, unsigned *count)
{
    (void)m;
    *count = 1;
    return &d.node;
}

/* All that waits is answered. Not every target does that. */
__attribute__((unused)) static void router_answers(enum wire_done result)
{
    struct buf pairs = {0}, frame = {0};
    if (d.token_count == 0)
        return;
    for (unsigned i = 0; i < d.token_count; i++)
        wire_pair_add(&pairs, d.tokens[i], result);
    d.token_count = 0;
    struct wire_frame f = {.kind = WIRE_DONE, .slot = 0xffff, .epoch = 1, .pairs = buf_span(&pairs)};
    wire_add(&frame, &f);
    uplink_frame(&d.s2s, &d.router, buf_span(&frame));
    buf_free(&pairs);
    buf_free(&frame);
}

/* ---- DNS ---- */

struct ub_ctx *ub_ctx_create(void)
{
    return (struct ub_ctx *)d.tls;
}

void ub_ctx_delete(struct ub_ctx *ctx)
{
    (void)ctx;
}

int ub_ctx_async(struct ub_ctx *ctx, int dothread)
{
    (void)ctx;
    return dothread - 1;
}

int ub_ctx_set_option(struct ub_ctx *ctx, const char *opt, const char *val)
{
    (void)ctx;
    return opt == val;
}

int ub_ctx_set_fwd(struct ub_ctx *ctx, const char *addr)
{
    (void)ctx;
    return addr == NULL;
}

int ub_ctx_resolvconf(struct ub_ctx *ctx, const char *fname)
{
    (void)ctx;
    return fname != NULL;
}

int ub_ctx_hosts(struct ub_ctx *ctx, const char *fname)
{
    (void)ctx;
    return fname != NULL;
}

int ub_ctx_add_ta_file(struct ub_ctx *ctx, const char *fname)
{
    (void)ctx;
    return fname == NULL;
}

const char *ub_strerror(int err)
{
    return err == 0 ? "none" : "some";
}

int ub_fd(struct ub_ctx *ctx)
{
    (void)ctx;
    return -1;
}

int ub_process(struct ub_ctx *ctx)
{
    (void)ctx;
    return 0;
}

int ub_resolve_async(struct ub_ctx *ctx, const char *name, int rrtype, int rrclass, void *mydata,
                     ub_callback_type callback, int *async_id)
{
    (void)ctx;
    (void)rrtype;
    (void)rrclass;
    if (strlen(name) > 255 || d.dns_count == DOUBLE_ASKED)
        return -1;
    *async_id = (int)d.dns_count;
    d.dns[d.dns_count].mine = mydata;
    d.dns[d.dns_count++].fn = callback;
    return 0;
}

int ub_cancel(struct ub_ctx *ctx, int async_id)
{
    (void)ctx;
    if (async_id >= 0 && (unsigned)async_id < d.dns_count)
        d.dns[async_id].fn = NULL;
    return 0;
}

void ub_resolve_free(struct ub_result *result)
{
    (void)result;
}

/* ---- the process ---- */

struct local *s2s_local(struct s2s *s, struct span domain)
{
    return map_get(&s->locals, domain);
}

bool s2s_allows(const struct s2s *s, struct span domain)
{
    (void)s;
    return !span_is(domain, "blocked.example");
}

void s2s_leg_gone(struct s2s *s)
{
    (void)s;
}

const char *proc_name(const struct proc *p)
{
    (void)p;
    return "s2s-1";
}

uint64_t proc_incarnation(const struct proc *p)
{
    (void)p;
    return 1;
}

static void doubles_begin(void)
{
    struct s2s *s = &d.s2s;
    struct buf errors = {0};
    struct conf *conf = conf_new();
    CHECK(conf_set(conf, "cluster.domains=a.example", &errors));
    CHECK(conf_set(conf, "s2s.components=c.a.example=secret", &errors));
    CHECK(conf_set(conf, "s2s.hosts=peer.example=192.0.2.1:5269", &errors));
    CHECK(conf_set(conf, "s2s.resolver=192.0.2.9", &errors));
    CHECK(conf_set(conf, "s2s.require_certificate=false", &errors));
    log_set_level(LOG_LEVEL_ERROR);
    memset(s, 0, sizeof *s);
    snprintf(d.node.name, sizeof d.node.name, "router");
    snprintf(d.node.role, sizeof d.node.role, "router");
    d.node.incarnation = 1;
    s->conf = conf;
    s->tls = (struct tls_ctx *)d.tls;
    s->have_cert = true;
    list_init(&s->legs);
    list_init(&s->listeners);
    list_init(&s->components);
    struct local *l = xcalloc(1, sizeof *l);
    l->domain = xstrdup("a.example");
    map_put(&s->locals, span_of(l->domain), l);
    CHECK(components_init(s));
    s->resolver = resolver_new(NULL, conf);
    struct xml_limits limits = {.element_max_bytes = 65536, .depth_max = 64, .attrs_max = XML_ATTRS_MAX};
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
    buf_add_lit(&s->secret, "s3cr3t");
    list_init(&s->estate.frames);
    list_init(&s->estate.asks);
    list_init(&s->resume.waits);
    snprintf(s->estate.self, sizeof s->estate.self, "s2s-1:1");
    uplink_init(s);
}

/* Time passes, in steps that let everything happen between. */
static void doubles_wait(uint64_t ms)
{
    for (uint64_t end = d.now_ms + ms; d.now_ms < end;) {
        d.now_ms += MIN(end - d.now_ms, 1000);
        timers_run(&d.timers, d.now_ms);
        conns_turn();
    }
}

static void doubles_end(void)
{
    struct s2s *s = &d.s2s;
    size_t at = 0;
    struct local *l;
    s->draining = true;
    for (unsigned i = 0; i < 8 && d.conn_count > 0; i++) {
        for (unsigned k = 0; k < d.conn_count; k++)
            conn_drop(d.conns[k], "the end");
        conns_reap();
    }
    CHECK(d.conn_count == 0);
    while (redis_reply_next(NULL))
        conns_turn();
    domain_free_all(s);
    components_free(s);
    uplink_free(s);
    estate_free(s);
    resume_free(s);
    resolver_free(s->resolver);
    d.poll_fn(d.poll, (struct ring_result){.res = -ECANCELED}); /* frees it */
    while ((l = map_next(&s->locals, &at)) != NULL) {
        if (l->component != NULL)
            continue;
        free(l->domain);
        free(l);
    }
    map_free(&s->locals);
    idmap_free(&s->sources);
    xml_parser_free(s->server_kind.parser);
    xml_parser_free(s->component_kind.parser);
    xml_parser_free(s->bind_kind.parser);
    xml_parser_free(s->index_parser);
    arena_free(s->arena);
    buf_free(&s->scratch);
    buf_free(&s->secret);
    conf_free((struct conf *)(uintptr_t)s->conf);
    timers_free(&d.timers);
    d.timers = (struct timers){0};
    d.asked_count = d.token_count = d.dns_count = 0;
}

#endif
