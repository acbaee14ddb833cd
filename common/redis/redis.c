/* Routing and the promise "called exactly once, never from inside the call". Today every key goes to one
 * node; a slot map would choose among several struct redis_conn in route(), and a wrapper of fn would look at
 * MOVED and ASK before the caller does.
 *
 * A command that finds no usable node, or whose connection ends, lands in `failed`; a timer without delay
 * hands the NULLs out in the next turn. */
#include "common/redis/redis.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "common/redis/connection.h"
#include "common/redis/redis_stats.h"
#include "common/ring/ring.h"

enum { BUFFER_COUNT = 8, BUFFER_BYTES = 32 * 1024, TIMEOUT_DEFAULT_MS = 2000 };

struct failed {
    redis_fn *fn;
    void *ctx;
};

struct subscription {
    struct list node;
    char *channel;
    redis_message_fn *fn;
    void *ctx;
};

struct redis {
    struct ring *ring;
    struct ring_buffers *buffers;
    struct redis_url url;
    unsigned timeout_ms;
    void (*state)(void *ctx, bool up);
    void *ctx;

    struct redis_conn *node;
    struct redis_conn *messages; /* NULL until the first subscription */
    struct list subscriptions;
    unsigned conns; /* not yet gone */

    struct failed *failed; /* to be told NULL, in order */
    size_t failed_at, failed_n, failed_cap;
    struct timer failed_timer;
    bool telling; /* in failed_tell */
    bool dying;
};

/* ---- failing */

static void failed_add(struct redis *r, redis_fn *fn, void *ctx)
{
    stat_add(&redis_stat_lost, 1);
    if (fn == NULL)
        return;
    if (r->failed_n == r->failed_cap) {
        r->failed_cap = MAX(r->failed_cap * 2, 16);
        r->failed = xrealloc(r->failed, r->failed_cap * sizeof(*r->failed));
    }
    r->failed[r->failed_n++] = (struct failed){fn, ctx};
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
    ring_buffers_free(r->buffers);
    redis_url_free(&r->url);
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
    failed_add(ctx, fn, fn_ctx);
}

static void on_gone(void *ctx)
{
    struct redis *r = ctx;
    r->conns--;
    redis_end(r);
}

static const struct redis_conn_handler node_handler = {
    .up = on_up, .down = on_down, .lost = on_lost, .gone = on_gone};

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

static const struct redis_conn_handler messages_handler = {
    .up = on_messages_up, .down = on_messages_down, .push = on_push, .lost = on_lost, .gone = on_gone};

void redis_subscribe(struct redis *r, struct span channel, redis_message_fn *fn, void *ctx)
{
    struct subscription *s = xcalloc(1, sizeof(*s));
    s->channel = span_dup(channel);
    s->fn = fn;
    s->ctx = ctx;
    list_add(&r->subscriptions, &s->node);
    if (r->messages == NULL) {
        r->messages = redis_conn_new(r->ring, r->buffers, &r->url, r->timeout_ms, REDIS_CONN_MESSAGES,
                                     &messages_handler, r);
        r->conns++;
    } else if (redis_conn_is_up(r->messages)) {
        subscribe_send(r, s);
    }
}

/* ---- the face */

struct redis *redis_new(struct ring *ring, const struct redis_config *config,
                        void (*state)(void *ctx, bool up), void *ctx, char **error)
{
    struct redis *r = xcalloc(1, sizeof(*r));
    if (!redis_url_parse(config->url, &r->url, error)) {
        free(r);
        return NULL;
    }
    r->ring = ring;
    r->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : TIMEOUT_DEFAULT_MS;
    r->state = state;
    r->ctx = ctx;
    r->failed_timer.fire = failed_tell;
    list_init(&r->subscriptions);
    redis_stats_register();
    r->buffers = ring_buffers_new(ring, BUFFER_COUNT, BUFFER_BYTES);
    if (r->buffers == NULL) {
        *error =
            xstrdup("redis: no memory for receive buffers; raise the limit of locked memory (ulimit -l)");
        redis_url_free(&r->url);
        free(r);
        return NULL;
    }
    r->node = redis_conn_new(ring, r->buffers, &r->url, r->timeout_ms, REDIS_CONN_COMMANDS, &node_handler, r);
    r->conns = 1;
    return r;
}

void redis_free(struct redis *r)
{
    if (r == NULL || r->dying)
        return;
    r->dying = true;
    ring_timer_clear(r->ring, &r->failed_timer);
    r->conns++; /* ours, while both are being freed */
    redis_conn_free(r->node);
    if (r->messages != NULL)
        redis_conn_free(r->messages);
    on_gone(r);
}

bool redis_is_up(const struct redis *r)
{
    return !r->dying && redis_conn_is_up(r->node);
}

const char *redis_reason(const struct redis *r)
{
    return r->dying || redis_is_up(r) ? "" : redis_conn_reason(r->node);
}

/* The node that serves a key, NULL while none is usable. */
static struct redis_conn *route(const struct redis *r, struct span key)
{
    (void)key;
    return redis_is_up(r) ? r->node : NULL;
}

void redis_command(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                   void *ctx)
{
    CHECK(argc > 0);
    struct redis_conn *node = route(r, key);
    if (node != NULL)
        redis_conn_command(node, argc, argv, fn, ctx);
    else if (!r->dying)
        failed_add(r, fn, ctx);
}

void redis_forget(struct redis *r, void *ctx)
{
    if (r->dying)
        return;
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
