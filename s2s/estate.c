/* Out: asks Redis for all processes that were ever entered and not taken out; those that are no members any
 * more are dead, and each is waited for until its witness has said "done" (or for the patience of one who
 * knows that its host may be dead as well). In: a list per remote domain, read at each proof. */
#include "s2s/estate.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/rcbuf.h"
#include "common/bus/bus.h"
#include "common/log/log.h"
#include "common/member/member.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"
#include "s2s/leg.h"
#include "s2s/metrics.h"
#include "s2s/s2s.h"

#define LOOK_MS      20
#define TAIL_KEEP_MS 120000
#define TAILS_MAX    65536
#define DONE_KEEP_MS 300000

/* A frame that waits. */
struct kept {
    struct list node;
    char from[MEMBER_NAME_MAX + 1];
    uint64_t incarnation;
    struct rcbuf *frame;
};

/* A dead process. */
struct other {
    char *process;
    uint64_t seen_ms;
    bool settled; /* its stanzas are known, or it was given up */
    bool asked;
};

/* A stanza that may come again. */
struct tail {
    struct tail *next; /* the same likeness */
    uint64_t sid, n;
    bool safe;
};

/* A leg that waits for what its domain may send again. */
struct ask {
    struct list node;
    struct s2s *s2s;
    uint64_t sid;
};

static uint64_t now_of(const struct s2s *s)
{
    return ring_now_ms(s->ring);
}

/* ---- this process ---- */

static void on_entered(void *ctx, const struct redis_reply *reply)
{
    struct s2s *s = ctx;
    s->estate.registered = reply != NULL && reply->kind != REDIS_KIND_ERROR;
}

void estate_enter(struct s2s *s)
{
    if (!s->estate.registered && redis_is_up(s->redis) && !s->draining)
        redis_send(s->redis, KEY_S2S, on_entered, s, SPAN("HSET"), KEY_S2S, span_of(s->estate.self),
                   SPAN("open"));
}

void estate_leave(struct s2s *s)
{
    redis_send(s->redis, KEY_S2S, NULL, NULL, SPAN("HDEL"), KEY_S2S, span_of(s->estate.self));
}

/* ---- dead processes ---- */

static void release(struct s2s *s)
{
    struct list now;
    list_init(&now);
    list_splice(&now, &s->estate.frames);
    while (!list_empty(&now)) {
        struct kept *k = LIST_ENTRY(list_pop(&now), struct kept, node);
        struct bus_peer *peer = bus_peer(s->bus, k->from);
        struct wire_frame f;
        /* Of a router that has died meanwhile: whoever took its work over sends again. */
        if (peer != NULL && bus_peer_incarnation(peer) == k->incarnation &&
            wire_decode(rcbuf_span(k->frame), &f))
            uplink_taken(s, &f, peer);
        rcbuf_unref(k->frame);
        free(k);
    }
}

static struct other *other_get(struct s2s *s, struct span process)
{
    struct other *o = map_get(&s->estate.others, process);
    if (o == NULL) {
        o = xcalloc(1, sizeof *o);
        o->process = span_dup(process);
        o->seen_ms = now_of(s);
        map_put(&s->estate.others, span_of(o->process), o);
    }
    return o;
}

static bool is_member(const struct s2s *s, struct span process)
{
    size_t colon = span_index(process, ':');
    char *name = span_dup(span_sub(process, 0, colon));
    const struct member_node *node = member_find(s->member, name);
    uint64_t incarnation = 0;
    span_to_u64(span_sub(process, colon + 1, process.n), UINT64_MAX, &incarnation);
    free(name);
    return node != NULL && node->incarnation == incarnation;
}

static void look(struct s2s *s);

static void on_handed(void *ctx, const struct redis_reply *reply)
{
    struct s2s *s = ctx;
    struct other *o = NULL, *it;
    size_t at = 0;
    while ((it = map_next(&s->estate.others, &at)) != NULL) /* one at a time */
        if (it->asked && !it->settled)
            o = it;
    s->estate.asking = false;
    if (o == NULL)
        return;
    o->asked = false;
    if (reply != NULL && reply->kind != REDIS_KIND_ERROR) {
        o->settled = true;
        for (size_t i = 0; reply->kind == REDIS_KIND_TEXT && i + 8 <= reply->text.n; i += 8) {
            uint64_t identity = 0;
            for (unsigned k = 0; k < 8; k++)
                identity |= (uint64_t)(unsigned char)reply->text.p[i + k] << (8 * k);
            uplink_had(s, identity);
        }
        log_info("s2s", "process=%s is dead and had handed over stanzas=%zu", o->process,
                 reply->kind == REDIS_KIND_TEXT ? reply->text.n / 8 : 0);
    }
    look(s);
}

static void forget(struct s2s *s, struct span process)
{
    redis_send(s->redis, KEY_S2S, NULL, NULL, SPAN("HDEL"), KEY_S2S, process);
}

/* True when that process need not be waited for (any more). */
static bool is_settled(struct s2s *s, struct span process, struct span word)
{
    uint64_t done_ms = 0, wall = clock_wall_ms();
    bool done = word.n > 5 && memcmp(word.p, "done:", 5) == 0;
    if (span_is(process, s->estate.self) || (span_is(word, "open") && is_member(s, process)))
        return true;
    if (done && span_to_u64(span_sub(word, 5, word.n), UINT64_MAX, &done_ms) &&
        clock_age_ms(wall, done_ms) > DONE_KEEP_MS) {
        forget(s, process);
        return true;
    }
    struct other *o = other_get(s, process);
    if (o->settled)
        return true;
    if (done && !s->estate.asking) {
        struct buf key = {0};
        o->asked = s->estate.asking = true;
        key_s2s_handed(&key, process);
        redis_send(s->redis, buf_span(&key), on_handed, s, SPAN("GET"), buf_span(&key));
        buf_free(&key);
    } else if (!done && now_of(s) > o->seen_ms + ESTATE_PATIENCE_MS) {
        log_warn("s2s",
                 "process=%s is dead and so is its witness (the host?): what it had under way to other "
                 "servers may "
                 "come there twice",
                 o->process);
        metric_add(S2S_ESTATE_LOST);
        forget(s, process);
        o->settled = true;
        return true;
    }
    return false;
}

static void on_processes(void *ctx, const struct redis_reply *reply)
{
    struct s2s *s = ctx;
    bool settled = true;
    s->estate.asking = false;
    if (reply != NULL && reply->kind == REDIS_KIND_LIST)
        for (size_t i = 0; i + 1 < reply->count; i += 2)
            settled = is_settled(s, reply->items[i].text, reply->items[i + 1].text) && settled;
    else
        settled = false;
    if (settled)
        release(s);
    else if (!s->estate.asking)
        ring_timer_set(s->ring, &s->estate.timer, LOOK_MS);
}

/* Those that wait have waited long enough whatever the reason. */
static bool is_late(struct s2s *s)
{
    return s->estate.timer_from_ms != 0 && now_of(s) > s->estate.timer_from_ms + 2 * ESTATE_PATIENCE_MS;
}

static void look(struct s2s *s)
{
    if (s->estate.asking || list_empty(&s->estate.frames))
        return;
    struct kept *first = LIST_ENTRY(s->estate.frames.next, struct kept, node);
    struct wire_frame f;
    bool behind = wire_decode(rcbuf_span(first->frame), &f) && f.epoch > member_epoch(s->member);
    if (is_late(s)) {
        log_warn("s2s",
                 "what dead processes leave behind cannot be learnt from Redis: stanzas may come twice");
        metric_add(S2S_ESTATE_LOST);
        release(s);
    } else if (behind || !s->estate.registered || !redis_is_up(s->redis)) {
        estate_enter(s);
        ring_timer_set(s->ring, &s->estate.timer, LOOK_MS);
    } else {
        s->estate.asking = true;
        redis_send(s->redis, KEY_S2S, on_processes, s, SPAN("HGETALL"), KEY_S2S);
    }
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    look(CONTAINER_OF(t, struct s2s, estate.timer));
}

bool estate_keeps(struct s2s *s, struct bus_peer *from, const struct wire_frame *f, struct span frame)
{
    const struct member_node *node = member_find(s->member, bus_peer_name(from));
    bool first = list_empty(&s->estate.frames);
    if (node != NULL && strcmp(node->role, "s2s") == 0)
        return false;
    if (first && ((f->flags & WIRE_AGAIN) == 0 || f->sid == 0 || f->stanza.kind == STANZA_PRESENCE))
        return false;
    struct kept *k = xcalloc(1, sizeof *k);
    snprintf(k->from, sizeof k->from, "%s", bus_peer_name(from));
    k->incarnation = bus_peer_incarnation(from);
    k->frame = rcbuf_new(frame.p, frame.n);
    list_add(&s->estate.frames, &k->node);
    metric_add(S2S_ESTATE_WAITED);
    if (first) {
        s->estate.timer_from_ms = now_of(s);
        look(s);
    }
    return true;
}

/* ---- what remote domains may send again ---- */

static void tails_free(struct s2s *s)
{
    size_t at = 0;
    struct tail *t;
    while ((t = idmap_next(&s->estate.tails, &at)) != NULL)
        while (t != NULL) {
            struct tail *next = t->next;
            free(t);
            t = next;
        }
    idmap_free(&s->estate.tails);
}

static void tail_add(struct s2s *s, uint64_t likeness, uint64_t sid, uint64_t n, bool safe)
{
    if (s->estate.tails.count >= TAILS_MAX)
        tails_free(s); /* a flood of breaking streams: what comes twice is the smaller evil */
    struct tail *first = idmap_get(&s->estate.tails, likeness), *last = NULL;
    for (struct tail *t = first; t != NULL; t = t->next) {
        if (t->sid == sid && t->n == n) {
            t->safe |= safe;
            return;
        }
        last = t;
    }
    struct tail *t = xcalloc(1, sizeof *t);
    *t = (struct tail){NULL, sid, n, safe};
    if (last != NULL)
        last->next = t;
    else
        idmap_put(&s->estate.tails, likeness, t);
    s->estate.tail_ms = now_of(s);
}

/* Lines "LIKENESS SID N SAFE". */
static void tail_load(struct s2s *s, struct span text)
{
    while (text.n > 0) {
        struct span line = span_cut(&text, '\n');
        uint64_t v[4];
        unsigned i = 0;
        while (i < 4 && span_to_u64(span_cut(&line, ' '), UINT64_MAX, &v[i]))
            i++;
        if (i == 4)
            tail_add(s, v[0], v[1], v[2], v[3] != 0);
    }
}

static void ask_done(struct ask *a)
{
    struct leg *l = idmap_get(&a->s2s->sources, a->sid);
    list_del(&a->node);
    if (l != NULL)
        leg_asked(l);
    free(a);
}

static void on_tail(void *ctx, const struct redis_reply *reply)
{
    struct ask *a = ctx;
    if (reply != NULL && reply->kind == REDIS_KIND_LIST)
        for (size_t i = 0; i < reply->count; i++)
            tail_load(a->s2s, reply->items[i].text);
    log_debug("s2s", "known again likenesses=%zu lists=%zu", a->s2s->estate.tails.count,
              reply != NULL ? reply->count : 0);
    ask_done(a);
}

void estate_ask(struct leg *l, struct span domain)
{
    struct s2s *s = l->s2s;
    struct buf key = {0};
    if (!redis_is_up(s->redis))
        return;
    struct ask *a = xcalloc(1, sizeof *a);
    a->s2s = s;
    a->sid = l->sid;
    list_add(&s->estate.asks, &a->node);
    leg_ask(l);
    key_s2s_tail(&key, domain);
    redis_send(s->redis, buf_span(&key), on_tail, a, SPAN("LRANGE"), buf_span(&key), SPAN("0"), SPAN("-1"));
    buf_free(&key);
}

bool estate_match(struct s2s *s, uint64_t likeness, uint64_t *sid, uint64_t *n, bool *safe)
{
    if (s->estate.tails.count == 0)
        return false;
    if (now_of(s) > s->estate.tail_ms + TAIL_KEEP_MS) {
        tails_free(s);
        return false;
    }
    struct tail *t = idmap_del(&s->estate.tails, likeness);
    if (t == NULL)
        return false;
    if (t->next != NULL)
        idmap_put(&s->estate.tails, likeness, t->next);
    *sid = t->sid;
    *n = t->n;
    *safe = t->safe;
    free(t);
    metric_add(S2S_ESTATE_KNOWN);
    return true;
}

struct losing {
    struct s2s *s2s;
    struct buf text;
};

static void on_losing(void *ctx, const struct ledger_tail *t)
{
    struct losing *lost = ctx;
    tail_add(lost->s2s, t->likeness, t->sid, t->n, t->safe);
    buf_addf(&lost->text, "%llu %llu %llu %d\n", (unsigned long long)t->likeness, (unsigned long long)t->sid,
             (unsigned long long)t->n, t->safe);
}

void estate_leg_lost(struct leg *l, struct span domain)
{
    struct s2s *s = l->s2s;
    struct ledger *ledger = witness_ledger(s->witness);
    if (ledger == NULL)
        return;
    struct ledger_leg known = {.sid = l->sid, .acked = l->acked_n, .safe = l->handled};
    struct losing lost = {.s2s = s};
    struct buf key = {0};
    ledger_tail(ledger, &known, on_losing, &lost);
    if (lost.text.n > 0) {
        key_s2s_tail(&key, domain);
        redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("RPUSH"), buf_span(&key), buf_span(&lost.text));
        redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("LTRIM"), buf_span(&key), SPAN(ESTATE_TAILS),
                   SPAN("-1"));
        redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("EXPIRE"), buf_span(&key), SPAN(ESTATE_TAIL_S));
    }
    buf_free(&key);
    buf_free(&lost.text);
}

/* ---- the end ---- */

void estate_init(struct s2s *s)
{
    struct estate_hub *hub = &s->estate;
    list_init(&hub->frames);
    list_init(&hub->asks);
    hub->timer.fire = on_timer;
    snprintf(hub->self, sizeof hub->self, "%s:%llu", proc_name(s->proc),
             (unsigned long long)proc_incarnation(s->proc));
}

void estate_free(struct s2s *s)
{
    struct estate_hub *hub = &s->estate;
    size_t at = 0;
    struct other *o;
    ring_timer_clear(s->ring, &hub->timer);
    while (!list_empty(&hub->frames)) {
        struct kept *k = LIST_ENTRY(list_pop(&hub->frames), struct kept, node);
        rcbuf_unref(k->frame);
        free(k);
    }
    while (!list_empty(&hub->asks)) {
        struct ask *a = LIST_ENTRY(list_pop(&hub->asks), struct ask, node);
        redis_forget(s->redis, a);
        free(a);
    }
    while ((o = map_next(&hub->others, &at)) != NULL) {
        free(o->process);
        free(o);
    }
    map_free(&hub->others);
    tails_free(s);
}
