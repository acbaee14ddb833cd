/* One connection of questions that goes round the addresses: the next attempt is at the next address. */
#include "common/redis/scout.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/ring/ring.h"

enum { ASK_EVERY_MS = 50, ADDRESSES_MAX = 64 };

struct scout {
    const struct redis_conn_setup *setup;
    const struct scout_handler *handler;
    void *ctx;
    struct redis_conn *conn;
    unsigned argc;
    const struct span *argv;
    unsigned period_ms;
    struct timer timer;
    uint64_t asked_ms;
    bool asking;
    struct redis_address at; /* being asked */
    struct redis_address addresses[ADDRESSES_MAX];
    size_t count, next;
};

static void on_answer(void *ctx, const struct redis_reply *reply)
{
    struct scout *s = ctx;
    s->asking = false;
    char why[128] = "it does not know where Redis is";
    if (reply->kind == REDIS_KIND_ERROR)
        snprintf(why, sizeof(why), "it says: %.*s", (int)MIN(reply->text.n, 100), reply->text.p);
    if (!s->handler->answer(s->ctx, reply, span_of(s->at.host)))
        redis_conn_drop(s->conn, why);
    else
        ring_timer_set(s->setup->ring, &s->timer, s->period_ms);
}

static void ask(struct scout *s)
{
    if (s->asking || !redis_conn_is_up(s->conn))
        return;
    s->asking = true;
    s->asked_ms = ring_now_ms(s->setup->ring);
    redis_conn_command(s->conn, false, s->argc, s->argv, on_answer, s);
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    ask(CONTAINER_OF(t, struct scout, timer));
}

static const struct redis_address *on_next(void *ctx)
{
    struct scout *s = ctx;
    const struct redis_address *a = &s->addresses[s->next++ % s->count];
    redis_address_set(&s->at, span_of(a->host), span_of(a->port));
    return &s->at;
}

static void on_up(void *ctx)
{
    ask(ctx);
}

static void on_down(void *ctx)
{
    struct scout *s = ctx;
    s->asking = false;
    ring_timer_clear(s->setup->ring, &s->timer);
}

static void on_lost(void *ctx, redis_fn *fn, void *fn_ctx)
{
    (void)ctx; /* asked again by the next connection */
    (void)fn;
    (void)fn_ctx;
}

static void on_gone(void *ctx)
{
    struct scout *s = ctx;
    const struct scout_handler *handler = s->handler;
    void *handler_ctx = s->ctx;
    ring_timer_clear(s->setup->ring, &s->timer);
    for (size_t i = 0; i < s->count; i++)
        redis_address_free(&s->addresses[i]);
    redis_address_free(&s->at);
    free(s);
    handler->gone(handler_ctx);
}

static const struct redis_conn_handler conn_handler = {
    .next = on_next, .up = on_up, .down = on_down, .lost = on_lost, .gone = on_gone};

struct scout *scout_new(const struct redis_conn_setup *setup, unsigned argc, const struct span *argv,
                        unsigned period_ms, const struct scout_handler *handler, void *ctx)
{
    struct scout *s = xcalloc(1, sizeof(*s));
    s->setup = setup;
    s->argc = argc;
    s->argv = argv;
    s->period_ms = period_ms;
    s->handler = handler;
    s->ctx = ctx;
    s->timer.fire = on_timer;
    for (size_t i = 0; i < setup->url.seed_count; i++)
        scout_learn(s, span_of(setup->url.seeds[i].host), span_of(setup->url.seeds[i].port));
    s->conn = redis_conn_new(setup, REDIS_CONN_QUESTIONS, &conn_handler, s);
    return s;
}

void scout_free(struct scout *s)
{
    redis_conn_free(s->conn);
}

void scout_ask(struct scout *s)
{
    uint64_t now = ring_now_ms(s->setup->ring), soonest = s->asked_ms + ASK_EVERY_MS;
    if (s->asking || !redis_conn_is_up(s->conn))
        return;
    if (now >= soonest)
        ask(s);
    else
        ring_timer_set(s->setup->ring, &s->timer, soonest - now);
}

void scout_ask_another(struct scout *s)
{
    redis_conn_drop(s->conn, "asking another one");
    redis_conn_poke(s->conn);
}

void scout_learn(struct scout *s, struct span host, struct span port)
{
    for (size_t i = 0; i < s->count; i++) {
        if (redis_address_is(&s->addresses[i], host, port))
            return;
    }
    /* When there is no room the oldest that was learnt goes; the seeds stay. */
    size_t seeds = MIN(s->setup->url.seed_count, (size_t)ADDRESSES_MAX / 2), at = s->count;
    if (s->count == ADDRESSES_MAX) {
        redis_address_free(&s->addresses[seeds]);
        memmove(s->addresses + seeds, s->addresses + seeds + 1,
                (ADDRESSES_MAX - seeds - 1) * sizeof(*s->addresses));
        at = ADDRESSES_MAX - 1;
        s->addresses[at] = (struct redis_address){0};
    } else {
        s->count++;
    }
    redis_address_set(&s->addresses[at], host, port);
}

const char *scout_reason(const struct scout *s)
{
    return redis_conn_reason(s->conn);
}
