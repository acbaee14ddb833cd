/* Routing and the promise "called exactly once, never from inside the call". A key goes to the one node there
 * is, to the master that the Sentinels name, or through cluster.c.
 *
 * A command that finds no usable node, or whose connection ends, lands in `failed`; a timer without delay
 * hands the NULLs out in the next turn. */
#include "common/redis/redis.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "common/redis/cluster.h"
#include "common/redis/redis_stats.h"
#include "common/redis/scout.h"
#include "common/ring/ring.h"

enum { BUFFER_COUNT = 8, BUFFER_BYTES = 32 * 1024, TIMEOUT_DEFAULT_MS = 2000, SENTINEL_EVERY_MS = 1000 };

struct failed {
    redis_fn *fn;
    void *ctx;
    int slot; /* for cluster_told; -1 = none */
};

struct subscription {
    struct list node;
    char *channel;
    redis_message_fn *fn;
    void *ctx;
};

struct redis {
    struct ring *ring;
    struct redis_conn_setup setup;
    void (*state)(void *ctx, bool up);
    void *ctx;

    struct redis_conn *node;     /* NULL with a cluster */
    struct cluster *cluster;     /* NULL without */
    struct redis_conn *messages; /* NULL until the first subscription */
    struct list subscriptions;
    unsigned conns; /* not yet gone, and the scout and the cluster */

    /* Sentinel: who is the master, and the copies that the attempts of the connections use. */
    struct scout *scout;
    struct span question[3];
    struct redis_address master, node_at, messages_at;

    struct failed *failed; /* to be told NULL, in order */
    size_t failed_at, failed_n, failed_cap;
    struct timer failed_timer;
    bool telling; /* in failed_tell */
    bool dying;
};

/* ---- failing */

static void failed_add(struct redis *r, redis_fn *fn, void *ctx, int slot)
{
    stat_add(&redis_stat_lost, 1);
    if (fn == NULL && slot < 0)
        return;
    if (r->failed_n == r->failed_cap) {
        r->failed_cap = MAX(r->failed_cap * 2, 16);
        r->failed = xrealloc(r->failed, r->failed_cap * sizeof(*r->failed));
    }
    r->failed[r->failed_n++] = (struct failed){fn, ctx, slot};
    if (!timer_is_set(&r->failed_timer))
        ring_timer_set(r->ring, &r->failed_timer, 0);
}

static void redis_end(struct redis *r)
{
    if (!r->dying || r->conns > 0 || r->telling)
        return;
    LIST_EACH (it, &r->subscriptions) {
        struct subscription *s = LIST_ENTRY(it, struct subscription, node);
        free(s->channel);
        free(s);
    }
    ring_buffers_free(r->setup.buffers);
    redis_url_free(&r->setup.url);
    redis_address_free(&r->master);
    redis_address_free(&r->node_at);
    redis_address_free(&r->messages_at);
    free(r->failed);
    free(r);
}

static void failed_tell(struct timer *t, uint64_t now_ms)
{
    struct redis *r = CONTAINER_OF(t, struct redis, failed_timer);
    (void)now_ms;
    /* What fails meanwhile waits for the next turn, or two callers could keep each other busy for ever. */
    size_t until = r->failed_n;
    r->telling = true;
    for (; r->failed_at < until && !r->dying; r->failed_at++) {
        struct failed f = r->failed[r->failed_at];
        if (f.slot >= 0)
            cluster_told(r->cluster, f.slot);
        if (f.fn != NULL)
            f.fn(f.ctx, NULL);
    }
    r->telling = false;
    if (r->dying) {
        redis_end(r);
        return;
    }
    memmove(r->failed, r->failed + r->failed_at, (r->failed_n - r->failed_at) * sizeof(*r->failed));
    r->failed_n -= r->failed_at;
    r->failed_at = 0;
    if (r->failed_n > 0)
        ring_timer_set(r->ring, &r->failed_timer, 0);
}

/* ---- what the connections tell */

static void on_up(void *ctx)
{
    struct redis *r = ctx;
    if (r->state != NULL)
        r->state(r->ctx, true);
}

static void on_down(void *ctx)
{
    struct redis *r = ctx;
    if (r->state != NULL)
        r->state(r->ctx, false);
}

static void on_lost(void *ctx, redis_fn *fn, void *fn_ctx)
{
    failed_add(ctx, fn, fn_ctx, -1);
}

static void on_gone(void *ctx)
{
    struct redis *r = ctx;
    r->conns--;
    redis_end(r);
}

/* The one node, or the master of the Sentinels. */
static const struct redis_address *address_for(struct redis *r, struct redis_address *copy)
{
    if (r->setup.url.mode == REDIS_CLUSTER)
        return cluster_any(r->cluster);
    if (r->setup.url.mode == REDIS_SINGLE)
        return &r->setup.url.at;
    if (r->master.host == NULL)
        return NULL;
    redis_address_set(copy, span_of(r->master.host), span_of(r->master.port));
    return copy;
}

static const struct redis_address *on_next(void *ctx)
{
    struct redis *r = ctx;
    if (r->scout != NULL)
        scout_ask(r->scout); /* perhaps it is another one by now */
    return address_for(r, &r->node_at);
}

static const struct redis_conn_handler node_handler = {
    .next = on_next, .up = on_up, .down = on_down, .lost = on_lost, .gone = on_gone};

static void on_cluster_state(void *ctx, bool up)
{
    struct redis *r = ctx;
    if (r->messages != NULL && up)
        redis_conn_poke(r->messages);
    if (r->state != NULL)
        r->state(r->ctx, up);
}

static void on_cluster_failed(void *ctx, redis_fn *fn, void *fn_ctx, int slot)
{
    failed_add(ctx, fn, fn_ctx, slot);
}

static const struct cluster_handler cluster_events = {
    .state = on_cluster_state, .failed = on_cluster_failed, .gone = on_gone};

/* ---- Sentinel */

/* [host, port] of the master, or NIL. */
static bool on_sentinel(void *ctx, const struct redis_reply *reply, struct span host)
{
    struct redis *r = ctx;
    (void)host;
    if (r->dying || reply->kind != REDIS_KIND_LIST || reply->count != 2)
        return false;
    struct span at = reply->items[0].text, port = reply->items[1].text;
    if (redis_address_is(&r->master, at, port))
        return true;
    log_info("redis", "the master of %s is %.*s:%.*s", r->setup.url.master, SPAN_FMT(at), SPAN_FMT(port));
    redis_address_set(&r->master, at, port);
    redis_conn_drop(r->node, "the Sentinels name another master");
    if (r->dying)
        return false;
    redis_conn_poke(r->node);
    if (r->messages != NULL) {
        redis_conn_drop(r->messages, "the Sentinels name another master");
        redis_conn_poke(r->messages);
    }
    return true;
}

static const struct scout_handler sentinel_events = {.answer = on_sentinel, .gone = on_gone};

/* ---- subscriptions */

static void subscribe_send(struct redis *r, const struct subscription *s)
{
    redis_conn_send(r->messages, 2, (struct span[]){SPAN("SUBSCRIBE"), span_of(s->channel)});
}

static void on_messages_up(void *ctx)
{
    struct redis *r = ctx;
    LIST_EACH (it, &r->subscriptions)
        subscribe_send(r, LIST_ENTRY(it, struct subscription, node));
}

static void on_messages_down(void *ctx)
{
    (void)ctx; /* the commands' connection tells */
}

/* ["message", channel, text], or ["subscribe", channel, count]: from here on nothing is missed. */
static void on_push(void *ctx, const struct redis_reply *reply)
{
    struct redis *r = ctx;
    if (reply->kind == REDIS_KIND_ERROR)
        log_warn("redis", "subscription: %.*s", SPAN_FMT(reply->text));
    if (reply->kind != REDIS_KIND_LIST || reply->count != 3 || reply->items[1].kind != REDIS_KIND_TEXT)
        return;
    struct span kind = reply->items[0].text, message = {0};
    if (span_is(kind, "message"))
        message = reply->items[2].text;
    else if (!span_is(kind, "subscribe"))
        return;
    LIST_EACH (it, &r->subscriptions) {
        struct subscription *s = LIST_ENTRY(it, struct subscription, node);
        if (!r->dying && span_is(reply->items[1].text, s->channel))
            s->fn(s->ctx, message);
    }
}

static const struct redis_address *on_messages_next(void *ctx)
{
    struct redis *r = ctx;
    return address_for(r, &r->messages_at);
}

static const struct redis_conn_handler messages_handler = {.next = on_messages_next,
                                                           .up = on_messages_up,
                                                           .down = on_messages_down,
                                                           .push = on_push,
                                                           .lost = on_lost,
                                                           .gone = on_gone};

void redis_subscribe(struct redis *r, struct span channel, redis_message_fn *fn, void *ctx)
{
    struct subscription *s = xcalloc(1, sizeof(*s));
    s->channel = span_dup(channel);
    s->fn = fn;
    s->ctx = ctx;
    list_add(&r->subscriptions, &s->node);
    if (r->messages == NULL) {
        r->messages = redis_conn_new(&r->setup, REDIS_CONN_MESSAGES, &messages_handler, r);
        r->conns++;
    } else if (redis_conn_is_up(r->messages)) {
        subscribe_send(r, s);
    }
}

/* ---- the face */

static void begin(struct redis *r)
{
    r->conns = 1;
    switch (r->setup.url.mode) {
    case REDIS_SINGLE:
        r->node = redis_conn_new(&r->setup, REDIS_CONN_COMMANDS, &node_handler, r);
        break;
    case REDIS_CLUSTER:
        r->cluster = cluster_new(&r->setup, &cluster_events, r);
        break;
    case REDIS_SENTINEL:
        r->question[0] = SPAN("SENTINEL");
        r->question[1] = SPAN("GET-MASTER-ADDR-BY-NAME");
        r->question[2] = span_of(r->setup.url.master);
        r->node = redis_conn_new(&r->setup, REDIS_CONN_COMMANDS, &node_handler, r);
        r->scout =
            scout_new(&r->setup, ARRAY_LEN(r->question), r->question, SENTINEL_EVERY_MS, &sentinel_events, r);
        r->conns = 2;
        break;
    }
}

bool redis_url_check(const char *text, char **error)
{
    struct redis_url url = {0};
    if (!redis_url_parse(text, &url, error))
        return false;
    redis_url_free(&url);
    return true;
}

struct redis *redis_new(struct ring *ring, const struct redis_config *config,
                        void (*state)(void *ctx, bool up), void *ctx, char **error)
{
    struct redis *r = xcalloc(1, sizeof(*r));
    if (!redis_url_parse(config->url, &r->setup.url, error)) {
        free(r);
        return NULL;
    }
    r->ring = ring;
    r->setup.ring = ring;
    r->setup.timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
    r->setup.wait_replicas = config->wait_replicas;
    r->state = state;
    r->ctx = ctx;
    r->failed_timer.fire = failed_tell;
    list_init(&r->subscriptions);
    redis_stats_register();
    r->setup.buffers = ring_buffers_new(ring, BUFFER_COUNT, BUFFER_BYTES);
    if (r->setup.buffers == NULL) {
        *error =
            xstrdup("redis: no memory for receive buffers; raise the limit of locked memory (ulimit -l)");
        redis_url_free(&r->setup.url);
        free(r);
        return NULL;
    }
    begin(r);
    return r;
}

void redis_free(struct redis *r)
{
    if (r == NULL || r->dying)
        return;
    r->dying = true;
    ring_timer_clear(r->ring, &r->failed_timer);
    r->conns++; /* ours, while all are being freed */
    if (r->scout != NULL)
        scout_free(r->scout);
    if (r->cluster != NULL)
        cluster_free(r->cluster);
    if (r->node != NULL)
        redis_conn_free(r->node);
    if (r->messages != NULL)
        redis_conn_free(r->messages);
    on_gone(r);
}

bool redis_is_up(const struct redis *r)
{
    return !r->dying && (r->node != NULL ? redis_conn_is_up(r->node) : cluster_is_up(r->cluster));
}

const char *redis_reason(const struct redis *r)
{
    if (r->dying || redis_is_up(r))
        return "";
    if (r->cluster != NULL)
        return cluster_reason(r->cluster);
    if (r->scout != NULL && r->master.host == NULL)
        return scout_reason(r->scout);
    return redis_conn_reason(r->node);
}

static void command(struct redis *r, struct span key, bool kept, unsigned argc, const struct span *argv,
                    redis_fn *fn, void *ctx)
{
    CHECK(argc > 0);
    if (r->dying)
        return;
    if (r->cluster != NULL)
        cluster_command(r->cluster, key, kept, argc, argv, fn, ctx);
    else if (redis_conn_is_up(r->node))
        redis_conn_command(r->node, kept, argc, argv, fn, ctx);
    else
        failed_add(r, fn, ctx, -1);
}

void redis_command(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                   void *ctx)
{
    command(r, key, false, argc, argv, fn, ctx);
}

void redis_write(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                 void *ctx)
{
    command(r, key, true, argc, argv, fn, ctx);
}

unsigned redis_node_next(const struct redis *r, unsigned after)
{
    if (r->cluster != NULL)
        return cluster_node_next(r->cluster, after);
    return after == 0 ? 1 : 0;
}

void redis_node_command(struct redis *r, unsigned node, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx)
{
    if (r->cluster != NULL && !r->dying)
        cluster_node_command(r->cluster, node, argc, argv, fn, ctx);
    else
        redis_command(r, (struct span){0}, argc, argv, fn, ctx);
}

void redis_forget(struct redis *r, void *ctx)
{
    if (r->dying)
        return;
    if (r->cluster != NULL)
        cluster_forget(r->cluster, ctx);
    else
        redis_conn_forget(r->node, ctx);
    for (size_t i = r->failed_at; i < r->failed_n; i++) {
        if (r->failed[i].ctx == ctx)
            r->failed[i].fn = NULL;
    }
}

bool redis_error_is(const struct redis_reply *reply, const char *code)
{
    size_t n = strlen(code);
    return reply != NULL && reply->kind == REDIS_KIND_ERROR && reply->text.n >= n &&
           memcmp(reply->text.p, code, n) == 0 && (reply->text.n == n || reply->text.p[n] == ' ');
}

struct span redis_pair(const struct redis_reply *list, const char *field)
{
    for (size_t i = 0; list->kind == REDIS_KIND_LIST && i + 1 < list->count; i += 2) {
        if (span_is(list->items[i].text, field))
            return list->items[i + 1].text;
    }
    return (struct span){0};
}
