/* cluster: who is there, and how Redis does. */
#include <stdlib.h>

#include "common/config/conf.h"
#include "common/jid/jid.h"
#include "deploy/ctl/ctl.h"
#include "deploy/ctl/nodes.h"

struct redis_facts {
    char version[32];
    uint64_t memory_bytes, clients;
    bool append_only;
};

/* The value behind "name:" in INFO's lines. */
static struct span info_field(struct span info, const char *name)
{
    size_t n = strlen(name);
    while (info.n > 0) {
        struct span line = span_cut(&info, '\n');
        if (line.n > 0 && line.p[line.n - 1] == '\r')
            line.n--;
        if (line.n > n && line.p[n] == ':' && memcmp(line.p, name, n) == 0)
            return span_sub(line, n + 1, line.n);
    }
    return (struct span){0};
}

static void on_info(void *ctx, const struct redis_reply *reply)
{
    struct redis_facts *f = ctx;
    struct span version = info_field(reply->text, "redis_version");
    memcpy(f->version, version.p, MIN(version.n, sizeof(f->version) - 1));
    /* Several nodes: the sum, the most, and whether all do. */
    uint64_t number;
    if (span_to_u64(info_field(reply->text, "used_memory"), UINT64_MAX, &number))
        f->memory_bytes += number;
    if (span_to_u64(info_field(reply->text, "connected_clients"), UINT64_MAX, &number))
        f->clients = MAX(f->clients, number);
    f->append_only &= span_is(info_field(reply->text, "aof_enabled"), "1");
}

/* The URL without its password. */
static void url_shown(const char *url, struct buf *out)
{
    const char *at = strrchr(url, '@'), *scheme = strstr(url, "://");
    if (at == NULL || scheme == NULL || at < scheme)
        buf_add_str(out, url);
    else
        buf_addf(out, "%.*s***%s", (int)(scheme + 3 - url), url, at);
}

static void print_json(const struct ctl_nodes *n, const struct redis_facts *f, const char *url)
{
    struct buf out = {0};
    struct json j = {.out = &out};
    json_open(&j, NULL, '{');
    json_u64(&j, "epoch", n->epoch);
    json_open(&j, "nodes", '[');
    for (unsigned i = 0; i < n->count; i++) {
        const struct ctl_node *x = &n->nodes[i];
        json_open(&j, NULL, '{');
        json_text(&j, "name", span_of(x->node.name));
        json_text(&j, "role", span_of(x->node.role));
        /* 64 bits do not fit a JSON number everywhere. */
        char incarnation[24];
        struct buf number = {0};
        buf_add_u64(&number, x->node.incarnation);
        memcpy(incarnation, buf_cstr(&number), number.n + 1);
        buf_free(&number);
        json_text(&j, "incarnation", span_of(incarnation));
        json_text(&j, "endpoint", span_of(x->node.endpoint));
        json_text(&j, "stats", span_of(x->node.stats));
        json_bool(&j, "draining", x->node.draining);
        json_bool(&j, "alive", x->lease_left_ms > 0);
        json_i64(&j, "lease_left_ms", x->lease_left_ms);
        json_u64(&j, "slots", x->slots);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_open(&j, "redis", '{');
    json_text(&j, "url", span_of(url));
    json_text(&j, "version", span_of(f->version));
    json_u64(&j, "memory_bytes", f->memory_bytes);
    json_u64(&j, "clients", f->clients);
    json_bool(&j, "append_only", f->append_only);
    json_close(&j, '}');
    json_close(&j, '}');
    buf_add_char(&out, '\n');
    ctl_print(&out);
}

static void print_text(const struct ctl_nodes *n, const struct redis_facts *f, const char *url)
{
    struct buf out = {0};
    buf_addf(&out, "epoch %u\n", n->epoch);
    buf_addf(&out, "redis %s, version %s, %.1f MB, %llu clients, append-only file %s\n", url, f->version,
             (double)f->memory_bytes / 1e6, (unsigned long long)f->clients, f->append_only ? "on" : "OFF");
    if (n->count == 0)
        buf_addf(&out, "no process is running\n");
    else
        buf_addf(&out, "%-16s %-8s %6s  %-10s %-24s %s\n", "NAME", "ROLE", "SLOTS", "STATE", "STATS",
                 "ENDPOINT");
    for (unsigned i = 0; i < n->count; i++) {
        const struct ctl_node *x = &n->nodes[i];
        const char *state = x->lease_left_ms <= 0 ? "expired" : x->node.draining ? "draining" : "alive";
        buf_addf(&out, "%-16s %-8s %6u  %-10s %-24s %s\n", x->node.name, x->node.role, x->slots, state,
                 x->node.stats, x->node.endpoint);
    }
    ctl_print(&out);
}

static bool ask_all(struct ctl *c, struct redis_facts *facts)
{
    bool good = true;
    for (unsigned node = redis_node_next(c->redis, 0); good && node != 0;
         node = redis_node_next(c->redis, node))
        good = ctl_ask_node(c, node, 1, (struct span[]){SPAN("INFO")}, on_info, facts);
    return good;
}

int ctl_cluster(struct ctl *c)
{
    struct ctl_nodes nodes;
    struct redis_facts facts = {.append_only = true};
    struct buf url = {0};
    int code = CTL_AWAY;
    if (!ctl_arguments(c, 0, 0))
        return CTL_USAGE;
    if (!ctl_connect(c))
        return CTL_AWAY;
    if (ctl_nodes_get(c, &nodes) && ask_all(c, &facts)) {
        url_shown(c->conf->redis_url, &url);
        (c->json ? print_json : print_text)(&nodes, &facts, buf_cstr(&url));
        code = CTL_OK;
    }
    ctl_nodes_free(&nodes);
    buf_free(&url);
    return code;
}

/* One line a JID: the prepared bare JID and its router's name. */
static int where_print(struct ctl *c, const struct ctl_nodes *nodes)
{
    struct buf out = {0};
    int code = CTL_OK;
    for (int i = 0; i < c->argc && code == CTL_OK; i++) {
        struct buf store = {0};
        struct jid jid;
        const char *why = NULL;
        if (!jid_prepare(span_of(c->argv[i]), &store, &jid, &why)) {
            code = ctl_fail(c, CTL_REFUSED, "%s is not a JID: %s", c->argv[i], why);
        } else {
            const struct ctl_node *router = ctl_nodes_owner(nodes, member_slot(jid_bare(&jid)));
            buf_addf(&out, "%.*s %s\n", SPAN_FMT(jid_bare(&jid)), router != NULL ? router->node.name : "-");
        }
        buf_free(&store);
    }
    ctl_print(&out);
    return code;
}

int ctl_where(struct ctl *c)
{
    struct ctl_nodes nodes;
    int code = CTL_AWAY;
    if (!ctl_arguments(c, 1, 100000))
        return CTL_USAGE;
    if (!ctl_connect(c))
        return CTL_AWAY;
    if (ctl_nodes_get(c, &nodes))
        code = where_print(c, &nodes);
    ctl_nodes_free(&nodes);
    return code;
}
