/* "SID COUNTED HANDLED FROM TO" under the id: whoever takes it (GETDEL) has the stream. When it is not there,
 * its process may not know yet that it broke: all are told to end it, and Redis is asked again for a while.
 */
#include "s2s/resume.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "common/base/timers.h"
#include "common/log/log.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"
#include "common/stanza/stanza.h"
#include "s2s/domain.h"
#include "s2s/leg.h"
#include "s2s/metrics.h"
#include "s2s/s2s.h"

#define LOOK_MS     30
#define PATIENCE_MS 4000

/* A leg that waits for the stream that it wants to take up. */
struct wait {
    struct list node;
    struct s2s *s2s;
    struct timer timer;
    uint64_t sid; /* of the leg */
    uint64_t until_ms;
    uint64_t h; /* stanzas of ours that the peer has */
    char *id;
};

static struct ledger_session *slot_of(const struct leg *l)
{
    struct ledger *ledger = witness_ledger(l->s2s->witness);
    return ledger != NULL && l->slot > 0 ? &ledger->sessions[l->slot - 1] : NULL;
}

static bool take_slot(struct leg *l)
{
    struct s2s *s = l->s2s;
    struct ledger *ledger = witness_ledger(s->witness);
    for (uint32_t i = 0; ledger != NULL && i < LEDGER_SESSIONS; i++) {
        uint32_t at = (s->resume.next_slot + i) % LEDGER_SESSIONS;
        if (ledger->sessions[at].used != 0)
            continue;
        s->resume.next_slot = at + 1;
        l->slot = at + 1;
        return true;
    }
    return false;
}

static bool begin(struct leg *l)
{
    int n = 0;
    if (l->peer == NULL || l->from.n == 0 || !take_slot(l))
        return false;
    struct ledger_session *e = slot_of(l);
    *e = (struct ledger_session){.sid = l->named, .counted_from = l->counted_from, .handled = l->handled};
    snprintf(e->id, sizeof e->id, "%s", l->session_id);
    n = snprintf(e->domains, sizeof e->domains, "%s %.*s", l->peer, SPAN_FMT(buf_span(&l->from)));
    if (n < 0 || (size_t)n >= sizeof e->domains) {
        l->slot = 0;
        return false;
    }
    __atomic_store_n(&e->used, 1, __ATOMIC_RELEASE);
    return true;
}

bool resume_offer(struct leg *l)
{
    char id[33];
    if (l->role->may_resume == NULL || !l->role->may_resume(l))
        return false;
    random_hex(id, 16);
    l->session_id = xstrdup(id);
    if (begin(l))
        return true;
    free(l->session_id);
    l->session_id = NULL;
    return false;
}

void resume_handled(struct leg *l)
{
    struct ledger_session *e = l->slot > 0 ? slot_of(l) : NULL;
    if (e != NULL)
        e->handled = l->handled;
}

void resume_over(struct leg *l)
{
    struct ledger_session *e = slot_of(l);
    struct buf key = {0}, text = {0};
    if (e == NULL || e->used == 0)
        return;
    if (l->broken) {
        ledger_session_write(e, &text);
        key_s2s_session(&key, span_of(e->id));
        redis_send(l->s2s->redis, buf_span(&key), NULL, NULL, SPAN("SET"), buf_span(&key), buf_span(&text),
                   SPAN("EX"), SPAN(RESUME_TTL));
    }
    e->used = 0;
    l->slot = 0;
    buf_free(&key);
    buf_free(&text);
}

/* ---- taking one up ---- */

static void ask(struct wait *w);

static void wait_free(struct wait *w)
{
    ring_timer_clear(w->s2s->ring, &w->timer);
    list_del(&w->node);
    free(w->id);
    free(w);
}

static void fail(struct leg *l)
{
    metric_add(S2S_RESUME_FAILED);
    leg_write(l, "<failed xmlns='" NS_SM "'><item-not-found xmlns='" NS_STANZA_ERRORS "'/></failed>");
}

/* See on_message. */
static void tell(struct s2s *s, const char *verb, const char *id, uint64_t number)
{
    struct buf said = {0};
    buf_addf(&said, "%s %s %llu", verb, id, (unsigned long long)number);
    redis_send(s->redis, (struct span){0}, NULL, NULL, SPAN("PUBLISH"), CHANNEL_S2S_RESUME, buf_span(&said));
    buf_free(&said);
}

/* False: it is not this peer's, or no such text. */
static bool take_up(struct leg *l, const struct wait *w, struct span text)
{
    uint64_t v[3];
    for (unsigned i = 0; i < 3; i++)
        if (!span_to_u64(span_cut(&text, ' '), UINT64_MAX, &v[i]))
            return false;
    if (l->peer == NULL || !span_is(span_cut(&text, ' '), l->peer) || !span_eq(text, buf_span(&l->from)))
        return false;
    leg_counts_from(l, &(struct leg_counts){v[0], v[1], v[2], w->h});
    l->session_id = xstrdup(w->id);
    if (!begin(l)) { /* it goes on, but not a second time */
        free(l->session_id);
        l->session_id = NULL;
    }
    metric_add(S2S_RESUMED_IN);
    log_info("s2s", "stream resumed direction=in domain=%s peer=%s h=%u", l->peer, conn_peer_name(&l->conn),
             leg_h(l));
    leg_write(l, "<resumed xmlns='" NS_SM "' previd='%s' h='%u'/>", w->id, leg_h(l));
    if (!domain_took_up(l, w->id, (int64_t)w->h)) /* whoever wrote on it before must know */
        tell(l->s2s, "has", w->id, w->h);
    if (l->role->counting != NULL && !l->over)
        l->role->counting(l);
    return true;
}

static void on_answer(void *ctx, const struct redis_reply *reply)
{
    struct wait *w = ctx;
    struct s2s *s = w->s2s;
    struct leg *l = idmap_get(&s->sources, w->sid);
    struct buf key = {0};
    if (reply != NULL && reply->kind == REDIS_KIND_TEXT) {
        bool good = l != NULL && take_up(l, w, reply->text);
        if (!good) { /* whose it is may still come */
            key_s2s_session(&key, span_of(w->id));
            redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("SET"), buf_span(&key), reply->text,
                       SPAN("EX"), SPAN(RESUME_TTL));
            buf_free(&key);
        }
        if (l != NULL && !good)
            fail(l);
    } else if (l != NULL && ring_now_ms(s->ring) < w->until_ms) {
        ring_timer_set(s->ring, &w->timer, LOOK_MS);
        return;
    } else if (l != NULL) {
        fail(l);
    }
    wait_free(w);
    if (l != NULL)
        leg_asked(l);
}

static void ask(struct wait *w)
{
    struct buf key = {0};
    key_s2s_session(&key, span_of(w->id));
    redis_send(w->s2s->redis, buf_span(&key), on_answer, w, SPAN("GETDEL"), buf_span(&key));
    buf_free(&key);
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    ask(CONTAINER_OF(t, struct wait, timer));
}

static bool is_id(struct span id)
{
    for (size_t i = 0; i < id.n; i++)
        if (!((id.p[i] >= '0' && id.p[i] <= '9') || (id.p[i] >= 'a' && id.p[i] <= 'f')))
            return false;
    return id.n == 32;
}

void resume_ask(struct leg *l, struct span id, struct span h)
{
    struct s2s *s = l->s2s;
    uint64_t has;
    if (!is_id(id) || !span_to_u64(h, UINT32_MAX, &has)) {
        fail(l);
        return;
    }
    struct wait *w = xcalloc(1, sizeof *w);
    w->s2s = s;
    w->sid = l->sid;
    w->id = span_dup(id);
    w->h = has;
    w->timer.fire = on_timer;
    w->until_ms = ring_now_ms(s->ring) + PATIENCE_MS;
    list_add(&s->resume.waits, &w->node);
    leg_ask(l);
    tell(s, "ask", w->id, l->sid);
    ask(w);
}

/* "ask ID SID": somebody resumes a stream on that leg; when it is still open here, on another one, its peer
 * has lost it without our knowing. "has ID H": it is resumed, and the peer has H of our stanzas. */
static void on_message(void *ctx, struct span message)
{
    struct s2s *s = ctx;
    uint64_t number;
    struct span verb = span_cut(&message, ' '), id = span_cut(&message, ' ');
    if (!span_to_u64(message, UINT64_MAX, &number))
        return;
    if (span_is(verb, "has")) {
        domain_taken_up(s, id, (int64_t)number);
        return;
    }
    LIST_EACH (it, &s->legs) {
        struct leg *l = LIST_ENTRY(it, struct leg, node);
        if (l->slot == 0 || l->over || l->sid == number || !span_is(id, l->session_id))
            continue;
        l->broken = true;
        leg_fail(l, STREAM_E_CONFLICT, "this stream is being resumed on another one");
        return;
    }
}

void resume_init(struct s2s *s)
{
    list_init(&s->resume.waits);
}

void resume_listen(struct s2s *s)
{
    redis_subscribe(s->redis, CHANNEL_S2S_RESUME, on_message, s);
}

void resume_free(struct s2s *s)
{
    while (!list_empty(&s->resume.waits)) {
        struct wait *w = LIST_ENTRY(s->resume.waits.next, struct wait, node);
        redis_forget(s->redis, w);
        wait_free(w);
    }
}
