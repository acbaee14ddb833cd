/* A call asks both SRV names at once, then A and AAAA of every target at once (of the domain itself when
 * there was no SRV record), and answers when all have answered or the time is over. libunbound works in a
 * thread of its own and announces results on a descriptor that the loop polls. */
#include "s2s/resolve.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unbound.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/random.h"
#include "common/config/conf.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/ring/ring.h"
#include "s2s/metrics.h"
#include "s2s/srv.h"

#define TYPE_A         1
#define TYPE_AAAA      28
#define TYPE_SRV       33
#define TYPE_TLSA      52
#define CLASS_IN       1
#define HOSTS_MAX      10 /* SRV targets that are looked at; a domain may list any number */
#define TIMEOUT_MS     10000
#define DEFAULT_PORT   5269
#define DEFAULT_ANCHOR "/usr/share/dns/root.key"

struct resolver {
    struct ring *ring;
    const struct conf *conf;
    struct ub_ctx *ub;
    struct ring_op poll;
    struct rng rng;
    struct list calls;
    bool stopping;
};

struct query {
    struct resolve_call *call;
    int id;
    unsigned host; /* for A and AAAA */
    bool tls;      /* for SRV */
    bool open;
    uint8_t type;
};

struct resolve_call {
    struct list node;
    struct resolver *resolver;
    resolve_fn *fn;
    void *ctx;
    struct timer timer;
    char domain[256]; /* A-labels */
    struct query queries[2 + 3 * HOSTS_MAX];
    unsigned query_count, open;
    struct srv hosts[HOSTS_MAX]; /* SRV records */
    unsigned host_count, left_out;
    unsigned dots; /* SRV answers that were "." */
    bool bogus, failed, addressing;
    struct found {
        uint8_t family, host;
        uint8_t address[16];
    } found[2 * HOSTS_MAX * 4];
    unsigned found_count;
    struct tlsa tlsa[HOSTS_MAX][TARGET_TLSA_MAX];
    uint8_t tlsa_count[HOSTS_MAX];
    bool unsafe[HOSTS_MAX];     /* its TLSA records could not be had: not to be used (RFC 7673 §3.2) */
    enum resolve_result result; /* of a call that needs no question */
    struct target fixed;
};

/* ---- the end of a call ---- */

static void call_free(struct resolve_call *c)
{
    for (unsigned i = 0; i < c->query_count; i++)
        if (c->queries[i].open)
            ub_cancel(c->resolver->ub, c->queries[i].id);
    ring_timer_clear(c->resolver->ring, &c->timer);
    list_del(&c->node);
    free(c);
}

static void finish(struct resolve_call *c, enum resolve_result result, const struct target *targets,
                   unsigned count)
{
    static const enum s2s_metric metrics[] = {S2S_DNS_OK, S2S_DNS_NONE, S2S_DNS_FAILED, S2S_DNS_BOGUS};
    resolve_fn *fn = c->fn;
    void *ctx = c->ctx;
    metric_add(metrics[result]);
    call_free(c);
    fn(ctx, result, targets, count);
}

static void make_target(const struct resolve_call *c, unsigned h, const struct found *found, struct target *t)
{
    const struct srv *host = &c->hosts[h];
    *t = (struct target){.tls = host->tls, .tlsa_count = c->tlsa_count[h]};
    memcpy(t->host, host->host, sizeof t->host);
    memcpy(t->tlsa, c->tlsa[h], sizeof t->tlsa);
    t->address.ss_family = found->family;
    if (found->family == AF_INET) {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&t->address;
        in4->sin_port = htons(host->port);
        memcpy(&in4->sin_addr, found->address, 4);
    } else {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&t->address;
        in6->sin6_port = htons(host->port);
        memcpy(&in6->sin6_addr, found->address, 16);
    }
}

static void finish_addresses(struct resolve_call *c)
{
    struct target targets[RESOLVE_TARGETS_MAX];
    unsigned count = 0;
    for (unsigned h = 0; h < c->host_count; h++)
        for (int family = AF_INET6;; family = AF_INET) {
            for (unsigned i = 0; i < c->found_count && count < RESOLVE_TARGETS_MAX; i++)
                if (c->found[i].host == h && c->found[i].family == family && !c->unsafe[h])
                    make_target(c, h, &c->found[i], &targets[count++]);
            if (family == AF_INET)
                break;
        }
    if (count > 0)
        finish(c, RESOLVE_OK, targets, count);
    else
        finish(c, c->bogus ? RESOLVE_BOGUS : c->failed ? RESOLVE_FAILED : RESOLVE_NONE, NULL, 0);
}

static void on_answer(void *mine, int error, struct ub_result *result);

static void ask(struct resolve_call *c, const char *name, uint8_t type, unsigned host, bool tls)
{
    struct query *q = &c->queries[c->query_count++];
    *q = (struct query){.call = c, .type = type, .host = host, .tls = tls};
    if (ub_resolve_async(c->resolver->ub, name, type, CLASS_IN, q, on_answer, &q->id) != 0) {
        c->failed = true;
        return;
    }
    q->open = true;
    c->open++;
}

static void ask_addresses(struct resolve_call *c)
{
    c->addressing = true;
    c->query_count = 0;
    c->failed = false;
    if (c->host_count == 0) { /* RFC 6120 §3.2.2 */
        c->hosts[0] = (struct srv){.port = DEFAULT_PORT};
        memcpy(c->hosts[0].host, c->domain, sizeof c->domain);
        c->host_count = 1;
    }
    if (c->left_out > 0) {
        metric_add(S2S_REFUSED_TARGETS);
        log_info("s2s", "DNS names too many servers: %u of domain=%s are not tried", c->left_out, c->domain);
    }
    srv_order(c->hosts, c->host_count, &c->resolver->rng);
    for (unsigned h = 0; h < c->host_count; h++) {
        ask(c, c->hosts[h].host, TYPE_AAAA, h, false);
        ask(c, c->hosts[h].host, TYPE_A, h, false);
        if (c->hosts[h].secure) {
            char name[280];
            snprintf(name, sizeof name, "_%u._tcp.%s", c->hosts[h].port, c->hosts[h].host);
            ask(c, name, TYPE_TLSA, h, false);
        }
    }
}

static void next_step(struct resolve_call *c)
{
    if (c->open > 0)
        return;
    if (c->addressing)
        finish_addresses(c);
    else if (c->bogus)
        finish(c, RESOLVE_BOGUS, NULL, 0);
    else if (c->host_count == 0 && c->dots > 0)
        finish(c, RESOLVE_NONE, NULL, 0); /* "." says that there is no such service (RFC 6120 §3.2.1) */
    else
        ask_addresses(c);
}

/* Keeps a record; when there are too many, the best ones. */
static void keep_srv(struct resolve_call *c, const struct srv *s)
{
    if (c->host_count < HOSTS_MAX) {
        c->hosts[c->host_count++] = *s;
        return;
    }
    struct srv *worst = &c->hosts[0];
    for (unsigned i = 1; i < c->host_count; i++)
        if (c->hosts[i].priority > worst->priority)
            worst = &c->hosts[i];
    if (s->priority < worst->priority)
        *worst = *s;
    c->left_out++;
}

static void take_srv(struct resolve_call *c, const struct ub_result *r, bool tls)
{
    for (unsigned i = 0; r->data[i] != NULL; i++) {
        struct srv s;
        if (!srv_parse(span_make(r->data[i], (size_t)r->len[i]), tls, &s))
            continue;
        s.secure = r->secure != 0;
        if (s.host[0] == '\0')
            c->dots++;
        else
            keep_srv(c, &s);
    }
}

static void take_addresses(struct resolve_call *c, const struct ub_result *r, const struct query *q)
{
    for (unsigned i = 0; r->data[i] != NULL && i < 4 && c->found_count < ARRAY_LEN(c->found); i++) {
        struct found *f = &c->found[c->found_count];
        bool v4 = q->type == TYPE_A && r->len[i] == 4, v6 = q->type == TYPE_AAAA && r->len[i] == 16;
        if (!v4 && !v6)
            continue;
        *f = (struct found){.family = v4 ? AF_INET : AF_INET6, .host = (uint8_t)q->host};
        memcpy(f->address, r->data[i], (size_t)r->len[i]);
        c->found_count++;
    }
}

static void take_tlsa(struct resolve_call *c, const struct ub_result *r, unsigned host)
{
    for (unsigned i = 0; r->data[i] != NULL && c->tlsa_count[host] < TARGET_TLSA_MAX; i++)
        if (srv_parse_tlsa(span_make(r->data[i], (size_t)r->len[i]), &c->tlsa[host][c->tlsa_count[host]]))
            c->tlsa_count[host]++;
}

static void on_answer(void *mine, int error, struct ub_result *r)
{
    struct query *q = mine;
    struct resolve_call *c = q->call;
    q->open = false;
    c->open--;
    if (q->type == TYPE_TLSA && (error != 0 || r == NULL || r->bogus || (r->rcode != 0 && r->rcode != 3)))
        c->unsafe[q->host] = true;
    if (error != 0 || r == NULL) {
        c->failed = true;
    } else if (r->bogus) {
        c->bogus = true;
        log_warn("s2s", "DNS answer refused by DNSSEC name=%s: %s", r->qname, r->why_bogus);
    } else if (r->havedata && q->type == TYPE_SRV) {
        take_srv(c, r, q->tls);
    } else if (q->type == TYPE_TLSA) {
        if (r->havedata && r->secure)
            take_tlsa(c, r, q->host);
    } else if (r->havedata) {
        take_addresses(c, r, q);
    } else if (r->rcode != 0 && r->rcode != 3) {
        c->failed = true;
    }
    ub_resolve_free(r);
    next_step(c);
}

/* ---- starting ---- */

static void on_timer(struct timer *t, uint64_t now_ms)
{
    struct resolve_call *c = CONTAINER_OF(t, struct resolve_call, timer);
    struct target fixed = c->fixed; /* the call is gone when its owner looks at it */
    (void)now_ms;
    if (c->domain[0] == '\0')
        finish(c, c->result, &fixed, c->result == RESOLVE_OK);
    else if (c->addressing)
        c->failed = true, finish_addresses(c);
    else if (c->host_count > 0) { /* one SRV name has answered: go on with that */
        for (unsigned i = 0; i < c->query_count; i++)
            if (c->queries[i].open) {
                ub_cancel(c->resolver->ub, c->queries[i].id);
                c->queries[i].open = false;
            }
        c->open = 0;
        ring_timer_set(c->resolver->ring, t, TIMEOUT_MS);
        next_step(c);
    } else {
        finish(c, RESOLVE_FAILED, NULL, 0);
    }
}

/* A domain that the configuration places, or that is an address. */
static bool find_fixed(struct resolver *r, struct span domain, struct target *out)
{
    const struct conf_list *hosts = &r->conf->s2s_hosts;
    *out = (struct target){0};
    snprintf(out->host, sizeof out->host, "%.*s", SPAN_FMT(domain));
    for (unsigned i = 0; i < hosts->count; i++) {
        struct span line = span_of(hosts->items[i]);
        size_t at = span_index(line, '=');
        if (!span_eq(span_sub(line, 0, at), domain))
            continue;
        const char *where = hosts->items[i] + at + (at < line.n);
        out->tls = strncmp(where, "tls:", 4) == 0;
        if (ring_address(where + (out->tls ? 4 : 0), &out->address) > 0)
            return true;
        log_error("s2s", "s2s.hosts: \"%s\" is not DOMAIN=ADDRESS:PORT", hosts->items[i]);
    }
    char text[280];
    snprintf(text, sizeof text, "%.*s:%d", SPAN_FMT(domain), DEFAULT_PORT);
    return ring_address(text, &out->address) > 0;
}

static struct resolve_call *call_new(struct resolver *r, resolve_fn *fn, void *ctx)
{
    struct resolve_call *c = xcalloc(1, sizeof *c);
    c->resolver = r;
    c->fn = fn;
    c->ctx = ctx;
    c->timer.fire = on_timer;
    list_add(&r->calls, &c->node);
    return c;
}

struct resolve_call *resolve_host(struct resolver *r, struct span host, resolve_fn *fn, void *ctx)
{
    struct resolve_call *c = call_new(r, fn, ctx);
    char text[280];
    snprintf(text, sizeof text, "%.*s:0", SPAN_FMT(host));
    bool fixed = ring_address(text, &c->fixed.address) > 0;
    if (fixed || host.n == 0 || host.n > 240) {
        c->result = fixed ? RESOLVE_OK : RESOLVE_NONE;
        ring_timer_set(r->ring, &c->timer, 0);
        return c;
    }
    memcpy(c->domain, host.p, host.n);
    c->hosts[0] = (struct srv){.port = 0};
    memcpy(c->hosts[0].host, c->domain, sizeof c->domain);
    c->host_count = 1;
    ask_addresses(c);
    ring_timer_set(r->ring, &c->timer, c->open > 0 ? TIMEOUT_MS : 0);
    return c;
}

struct resolve_call *resolve_start(struct resolver *r, struct span domain, resolve_fn *fn, void *ctx)
{
    struct resolve_call *c = call_new(r, fn, ctx);
    struct buf ascii = {0};
    bool fixed = find_fixed(r, domain, &c->fixed);
    if (fixed || !jid_domain_to_ascii(domain, &ascii) || ascii.n > 240 || r->ub == NULL) {
        c->result = fixed ? RESOLVE_OK : RESOLVE_NONE;
        ring_timer_set(r->ring, &c->timer, 0);
        buf_free(&ascii);
        return c;
    }
    memcpy(c->domain, buf_cstr(&ascii), ascii.n + 1);
    buf_free(&ascii);
    char name[280];
    snprintf(name, sizeof name, "_xmpps-server._tcp.%s", c->domain);
    ask(c, name, TYPE_SRV, 0, true);
    snprintf(name, sizeof name, "_xmpp-server._tcp.%s", c->domain);
    ask(c, name, TYPE_SRV, 0, false);
    ring_timer_set(r->ring, &c->timer, c->open > 0 ? TIMEOUT_MS : 0);
    return c;
}

void resolve_cancel(struct resolve_call *call)
{
    if (call != NULL)
        call_free(call);
}

/* ---- the resolver ---- */

static void on_poll(struct ring_op *op, struct ring_result result)
{
    struct resolver *r = CONTAINER_OF(op, struct resolver, poll);
    if (r->stopping) {
        free(r);
        return;
    }
    if (result.res >= 0)
        ub_process(r->ub);
    ring_poll(r->ring, &r->poll, ub_fd(r->ub), POLLIN, on_poll);
}

static bool configure(struct resolver *r)
{
    const char *server = r->conf->s2s_resolver, *anchor = r->conf->s2s_trust_anchor;
    int error = 0;
    ub_ctx_async(r->ub, 1);
    ub_ctx_set_option(r->ub, "do-not-query-localhost:", "no");
    ub_ctx_set_option(r->ub, "qname-minimisation:", "no");
    if (server[0] != '\0')
        error = ub_ctx_set_fwd(r->ub, server);
    else
        error = ub_ctx_resolvconf(r->ub, NULL);
    if (error != 0) {
        log_error("s2s", "s2s.resolver \"%s\" cannot be used: %s", server, ub_strerror(error));
        return false;
    }
    ub_ctx_hosts(r->ub, NULL);
    if (anchor[0] == '\0' && access(DEFAULT_ANCHOR, R_OK) == 0 && server[0] == '\0')
        anchor = DEFAULT_ANCHOR;
    if (anchor[0] != '\0' && (error = ub_ctx_add_ta_file(r->ub, anchor)) != 0) {
        log_error("s2s", "s2s.trust_anchor %s cannot be used: %s", anchor, ub_strerror(error));
        return false;
    }
    return true;
}

struct resolver *resolver_new(struct ring *ring, const struct conf *conf)
{
    struct resolver *r = xcalloc(1, sizeof *r);
    r->ring = ring;
    r->conf = conf;
    list_init(&r->calls);
    rng_seed(&r->rng, random_u64());
    r->ub = ub_ctx_create();
    if (r->ub == NULL || !configure(r)) {
        ub_ctx_delete(r->ub);
        free(r);
        return NULL;
    }
    ring_poll(ring, &r->poll, ub_fd(r->ub), POLLIN, on_poll);
    return r;
}

void resolver_free(struct resolver *r)
{
    if (r == NULL)
        return;
    LIST_EACH (it, &r->calls)
        call_free(LIST_ENTRY(it, struct resolve_call, node));
    r->stopping = true; /* the poll's last completion frees it */
    ring_cancel(r->ring, &r->poll);
    ub_ctx_delete(r->ub);
}
