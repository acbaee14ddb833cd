#include "s2s/domain.h"

#include <stdlib.h>

#include "common/base/random.h"
#include "common/log/log.h"
#include "s2s/in.h"
#include "s2s/metrics.h"
#include "s2s/out.h"
#include "s2s/relay.h"
#include "s2s/s2s.h"

#define BACKOFF_FIRST_MS 1000
#define RECONNECT_MS     2000  /* spread of the first try after a working stream was lost (RFC 6120 §3.3) */
#define AWAITED_MS       5000  /* for the peer to resume a stream that it has begun */
#define FORGET_MS        60000 /* after the last use */

static uint64_t now_of(const struct s2s *s)
{
    return ring_now_ms(s->ring);
}

static struct remote *remote_get(struct s2s *s, struct span domain)
{
    struct remote *r = map_get(&s->remotes, domain);
    if (r != NULL)
        return r;
    r = xcalloc(1, sizeof *r);
    r->s2s = s;
    r->domain = span_dup(domain);
    list_init(&r->pairs);
    list_init(&r->verifies);
    map_put(&s->remotes, span_of(r->domain), r);
    return r;
}

struct pair *remote_pair(struct remote *r, struct span local)
{
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        if (span_eq(span_of(p->local->domain), local))
            return p;
    }
    return NULL;
}

static struct pair *pair_get(struct remote *r, struct local *local)
{
    struct pair *p = remote_pair(r, span_of(local->domain));
    if (p != NULL)
        return p;
    p = xcalloc(1, sizeof *p);
    p->remote = r;
    p->local = local;
    queue_init(&p->queue);
    list_add(&r->pairs, &p->node);
    stat_set(&metric_domains, (int64_t)++r->s2s->pair_count);
    return p;
}

static void pair_free(struct pair *p)
{
    struct s2s *s = p->remote->s2s;
    struct item *i;
    while ((i = queue_pop(&p->queue)) != NULL)
        item_free(s, i);
    list_del(&p->node);
    stat_set(&metric_domains, (int64_t)--s->pair_count);
    free(p);
}

bool pair_wants(const struct pair *p)
{
    const struct suspended *u = p->remote->suspended;
    if (p->leg != NULL || p->awaited)
        return false;
    return u != NULL && u->pair == p ? u->dials : p->queue.count > 0;
}

static void bounce_all(struct pair *p, enum stanza_error error, const char *reason)
{
    struct queue all;
    struct item *i;
    /* Answers may come back here for other stanzas: what is there now is taken away first. */
    queue_init(&all);
    list_splice(&all.items, &p->queue.items);
    all.count = p->queue.count;
    all.bytes = p->queue.bytes;
    p->queue.count = p->queue.bytes = 0;
    while ((i = queue_pop(&all)) != NULL)
        relay_bounce(p->remote->s2s, i, error, reason);
}

static void want(struct remote *r)
{
    if (r->out != NULL)
        out_poke(r->out);
    else if (now_of(r->s2s) >= r->retry_ms && !r->s2s->draining)
        r->out = out_start(r);
}

static void pump(struct pair *p)
{
    struct item *i;
    while (p->leg != NULL && leg_has_room(p->leg) && (i = queue_pop(&p->queue)) != NULL)
        leg_send(p->leg, i);
}

static struct leg *spare_of(const struct remote *r)
{
    const struct suspended *u = r->suspended;
    struct leg *l = u != NULL && u->spare != 0 ? idmap_get(&r->s2s->sources, u->spare) : NULL;
    return l != NULL && !l->over ? l : NULL;
}

/* It will not be resumed, or has been: what is left goes before all that waits. */
static void unsuspend(struct remote *r)
{
    struct suspended *u = r->suspended;
    struct leg *spare = spare_of(r);
    struct pair *p = u->pair;
    struct item *i;
    r->suspended = NULL;
    while ((i = queue_pop_last(&u->unacked)) != NULL) {
        i->again = true;
        metric_add(S2S_OUT_AGAIN);
        queue_push(&p->queue, i);
    }
    free(u->id);
    free(u);
    if (spare != NULL && p->leg == NULL)
        pair_up(p, spare);
}

void domain_send(struct s2s *s, struct span from, struct span to, struct item *i)
{
    struct local *local = s2s_local(s, from);
    if (local == NULL) {
        log_warn("s2s",
                 "a stanza from a domain that is not ours was dropped domain=%.*s: do all processes have the "
                 "same cluster.domains?",
                 SPAN_FMT(from));
        metric_add(S2S_REFUSED_FROM);
        item_free(s, i);
        return;
    }
    if (!s2s_allows(s, to)) {
        metric_add(S2S_REFUSED_BLOCKED);
        relay_bounce(s, i, STANZA_E_NOT_ALLOWED, "this server does not federate with that domain");
        return;
    }
    struct remote *r = remote_get(s, to);
    struct pair *p = pair_get(r, local);
    r->used_ms = now_of(s);
    i->owner = p;
    if (p->leg != NULL && p->queue.count == 0 && leg_has_room(p->leg)) {
        leg_send(p->leg, i);
        return;
    }
    if (queue_is_full(&p->queue, s->conf)) {
        metric_add(S2S_QUEUE_FULL);
        relay_bounce(s, i, STANZA_E_RESOURCE_CONSTRAINT, "too many stanzas wait for that server");
        return;
    }
    if (p->leg == NULL && !p->awaited && r->out == NULL && r->failures > 0 && now_of(s) < r->retry_ms &&
        !p->was_up) {
        relay_bounce(s, i, r->error, r->reason);
        return;
    }
    queue_add(&p->queue, i);
    if (pair_wants(p))
        want(r);
}

/* ---- streams come and go ---- */

void pair_up(struct pair *p, struct leg *l)
{
    p->leg = l;
    p->asked = false;
    p->was_up = true;
    p->remote->failures = 0;
    p->remote->retry_ms = 0;
    p->remote->used_ms = now_of(l->s2s);
    pump(p);
}

void domain_up(struct s2s *s, struct span local, struct span remote, struct leg *l)
{
    struct local *mine = s2s_local(s, local);
    if (mine == NULL)
        return;
    struct pair *p = pair_get(remote_get(s, remote), mine);
    p->awaited = false;
    if (p->leg != NULL)
        return;
    struct remote *r = p->remote;
    struct suspended *u = r->suspended != NULL && r->suspended->pair == p ? r->suspended : NULL;
    if (u != NULL && u->dials && !s->draining) { /* what the peer has of ours only resuming can tell */
        u->spare = l->sid;
        r->retry_ms = 0; /* it is there again */
        want(r);
        return;
    }
    if (u != NULL)
        unsuspend(r); /* the peer has begun anew */
    pair_up(p, l);
}

void domain_await(struct s2s *s, struct span local, struct span remote, bool on)
{
    struct local *mine = s2s_local(s, local);
    if (mine != NULL)
        pair_get(remote_get(s, remote), mine)->awaited = on; /* the sweep looks for another way */
}

void domain_leg_ready(struct leg *l)
{
    struct s2s *s = l->s2s;
    struct remote *r = l->peer != NULL ? map_get(&s->remotes, span_of(l->peer)) : NULL;
    if (r == NULL)
        return;
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        if (p->leg == l && p->queue.count > 0)
            pump(p);
    }
}

/* ---- streams that may be resumed ---- */

/* Keeps what a broken stream had not acknowledged. False: it cannot be resumed, or need not be. */
static bool suspend(struct leg *l)
{
    struct s2s *s = l->s2s;
    struct remote *r = l->peer != NULL ? map_get(&s->remotes, span_of(l->peer)) : NULL;
    struct pair *p = r != NULL ? remote_pair(r, buf_span(&l->from)) : NULL;
    bool dials = l->stream.side == STREAM_INITIATING;
    if (!l->broken || l->session_id == NULL || p == NULL || p->leg != l || r->suspended != NULL ||
        s->draining || (l->unacked.count == 0 && !(dials && l->both_ways)))
        return false;
    LIST_EACH (it, &l->unacked.items)
        if (LIST_ENTRY(it, struct item, node)->owner != p)
            return false; /* each pair would have to be proven before its stanzas come again */
    struct suspended *u = xcalloc(1, sizeof *u);
    u->id = xstrdup(l->session_id);
    u->pair = p;
    u->dials = dials;
    u->counts = (struct leg_counts){l->named, l->counted_from, l->handled, l->out_n};
    u->h = leg_h(l);
    u->out_acked = l->out_acked;
    u->until_ms = now_of(s) + (dials ? RESUME_S * 1000 : AWAITED_MS);
    queue_init(&u->unacked);
    struct item *i;
    while ((i = queue_pop(&l->unacked)) != NULL) {
        u->until_ms = MIN(u->until_ms, i->deadline_ms);
        queue_add(&u->unacked, i);
    }
    r->suspended = u;
    return true;
}

/* The peer has h stanzas of the suspended stream. False: it cannot have. */
static bool release(struct suspended *u, int64_t h)
{
    struct s2s *s = u->pair->remote->s2s;
    uint32_t more = h >= 0 ? (uint32_t)h - (uint32_t)u->out_acked : 0;
    struct item *i;
    if (more > u->counts.out_n - u->out_acked)
        return false;
    u->out_acked += more;
    while ((i = queue_first(&u->unacked)) != NULL && i->mark <= u->out_acked) {
        queue_pop(&u->unacked);
        metric_add(S2S_SAFE);
        item_free(s, i);
    }
    return true;
}

void domain_resumed(struct remote *r, struct leg *l, bool good, int64_t h)
{
    struct suspended *u = r->suspended;
    struct pair *p = u->pair;
    if (!release(u, h)) {
        leg_fail(l, STREAM_E_UNDEFINED_CONDITION, "more acknowledged than was sent");
        return;
    }
    log_info("s2s", "stream %s direction=%s domain=%s peer=%s h=%lld again=%zu",
             good ? "resumed" : "not resumed", u->dials ? "out" : "in", r->domain, conn_peer_name(&l->conn),
             (long long)h, u->unacked.count);
    if (u->dials)
        metric_add(good ? S2S_RESUMED_OUT : S2S_RESUME_FAILED);
    if (good && u->dials) {
        u->counts.out_n = u->out_acked;
        l->session_id = xstrdup(u->id);
        leg_counts_from(l, &u->counts);
    } else if (u->dials) {
        leg_enable(l);
    }
    u->spare = 0;
    unsuspend(r);
    if (p->leg == NULL)
        pair_up(p, l);
}

bool domain_took_up(struct leg *l, const char *id, int64_t h)
{
    struct remote *r = map_get(&l->s2s->remotes, span_of(l->peer));
    if (r == NULL || r->suspended == NULL || strcmp(r->suspended->id, id) != 0)
        return false;
    domain_resumed(r, l, true, h);
    return true;
}

void domain_taken_up(struct s2s *s, struct span id, int64_t h)
{
    size_t at = 0;
    struct remote *r;
    while ((r = map_next(&s->remotes, &at)) != NULL)
        if (r->suspended != NULL && !r->suspended->dials && span_is(id, r->suspended->id)) {
            release(r->suspended, h);
            unsuspend(r); /* the sweep looks for a way */
            return;
        }
}

void domain_leg_lost(struct leg *l)
{
    struct s2s *s = l->s2s;
    struct item *i;
    bool wanted = suspend(l);
    while ((i = queue_pop_last(&l->unacked)) != NULL) {
        struct pair *p = i->owner;
        i->again = true;
        metric_add(S2S_OUT_AGAIN);
        queue_push(&p->queue, i);
    }
    struct remote *r = l->peer != NULL ? map_get(&s->remotes, span_of(l->peer)) : NULL;
    if (r == NULL)
        return;
    if (l->resuming && !l->broken && r->suspended != NULL) /* they do not understand each other */
        unsuspend(r);
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        if (p->leg != l)
            continue;
        p->leg = NULL;
        wanted = wanted || p->queue.count > 0;
    }
    if (wanted && r->retry_ms == 0)
        r->retry_ms = now_of(s) + random_u64() % RECONNECT_MS;
}

static void fail_verifies(struct remote *r)
{
    LIST_EACH (it, &r->verifies) {
        struct verify *v = LIST_ENTRY(it, struct verify, node);
        list_del(&v->node);
        in_verified(r->s2s, v->sid, span_of(v->local), span_of(r->domain), IN_UNVERIFIED);
        free(v->local);
        free(v->stream_id);
        free(v->key);
        free(v);
    }
}

static void back_off(struct remote *r)
{
    uint64_t most = (uint64_t)r->s2s->conf->s2s_backoff_max_s * 1000;
    uint64_t pause = MIN(most, (uint64_t)BACKOFF_FIRST_MS << MIN(r->failures, 20u));
    r->failures++;
    r->retry_ms = now_of(r->s2s) + pause / 2 + random_u64() % (pause / 2 + 1);
}

void domain_out_lost(struct remote *r, bool failed, enum stanza_error error, const char *reason)
{
    r->out = NULL;
    fail_verifies(r);
    LIST_EACH (it, &r->pairs)
        LIST_ENTRY(it, struct pair, node)->asked = false;
    if (!failed)
        return;
    back_off(r);
    r->error = error;
    free(r->reason);
    r->reason = xstrdup(reason);
    log_info("s2s", "no stream with domain=%s: %s; next try in %llu ms", r->domain, reason,
             (unsigned long long)(r->retry_ms - now_of(r->s2s)));
    if (spare_of(r) != NULL)
        unsuspend(r);
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        if (p->leg == NULL && !p->was_up)
            bounce_all(p, error, reason);
    }
}

void domain_out_again(struct remote *r)
{
    LIST_EACH (it, &r->pairs)
        LIST_ENTRY(it, struct pair, node)->asked = false;
    LIST_EACH (it, &r->verifies)
        LIST_ENTRY(it, struct verify, node)->asked = false;
}

void pair_refused(struct pair *p, enum stanza_error error, const char *reason)
{
    p->asked = false;
    log_info("s2s", "domain=%s refuses local domain=%s: %s", p->remote->domain, p->local->domain, reason);
    bounce_all(p, error, reason);
}

struct remote *domain_in_enter(struct s2s *s, struct span domain)
{
    struct remote *r = remote_get(s, domain);
    if (r->in_streams >= (unsigned)s->conf->s2s_streams_per_domain && s->conf->limits_enabled)
        return NULL;
    if (r->in_streams++ == 0 && r->quota.ms == 0)
        r->quota = (struct quota){.ms = now_of(s), .left = (uint64_t)s->conf->s2s_stanzas_per_second};
    return r;
}

void domain_in_leave(struct remote *r)
{
    r->in_streams--;
    r->used_ms = now_of(r->s2s);
}

/* ---- verifying keys ---- */

void domain_verify(struct s2s *s, struct span local, struct span remote, uint64_t sid, struct span stream_id,
                   struct span key)
{
    struct remote *r = remote_get(s, remote);
    struct verify *v = xcalloc(1, sizeof *v);
    v->sid = sid;
    v->local = span_dup(local);
    v->stream_id = span_dup(stream_id);
    v->key = span_dup(key);
    list_add(&r->verifies, &v->node);
    r->used_ms = now_of(s);
    if (r->out == NULL) /* a peer that calls is alive, whatever failed before */
        r->out = out_start(r);
    else
        out_poke(r->out);
}

void domain_verified(struct remote *r, struct span local, struct span stream_id, bool valid)
{
    LIST_EACH (it, &r->verifies) {
        struct verify *v = LIST_ENTRY(it, struct verify, node);
        if (!v->asked || !span_eq(span_of(v->local), local) || !span_eq(span_of(v->stream_id), stream_id))
            continue;
        list_del(&v->node);
        in_verified(r->s2s, v->sid, local, span_of(r->domain), valid ? IN_VALID : IN_INVALID);
        free(v->local);
        free(v->stream_id);
        free(v->key);
        free(v);
        return;
    }
}

/* ---- time ---- */

static void sweep_pair(struct pair *p, uint64_t now)
{
    struct s2s *s = p->remote->s2s;
    struct item *i;
    while ((i = queue_first(&p->queue)) != NULL && now >= i->deadline_ms) {
        queue_pop(&p->queue);
        metric_add(S2S_TIMEOUT_QUEUE);
        relay_bounce(s, i, p->remote->failures > 0 ? p->remote->error : STANZA_E_REMOTE_SERVER_TIMEOUT,
                     p->remote->failures > 0 ? p->remote->reason : "that server does not take stanzas");
    }
    if (p->queue.count == 0 && p->leg == NULL && p->remote->out == NULL)
        p->was_up = p->was_up && p->remote->failures == 0;
}

/* True when it may be forgotten. */
static bool sweep_remote(struct remote *r, uint64_t now)
{
    if (r->suspended != NULL && now >= r->suspended->until_ms)
        unsuspend(r);
    bool wanted = false, busy = r->out != NULL || !list_empty(&r->verifies) || r->in_streams > 0;
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        sweep_pair(p, now);
        wanted = wanted || pair_wants(p);
        busy = busy || p->awaited || p->leg != NULL || p->queue.count > 0;
    }
    if (wanted)
        want(r);
    return !wanted && !busy && now >= r->retry_ms && now >= r->used_ms + FORGET_MS;
}

static void remote_free(struct remote *r)
{
    if (r->suspended != NULL) {
        r->suspended->spare = 0;
        unsuspend(r);
    }
    LIST_EACH (it, &r->pairs)
        pair_free(LIST_ENTRY(it, struct pair, node));
    fail_verifies(r);
    if (r->out != NULL)
        out_forget(r->out);
    free(r->domain);
    free(r->reason);
    free(r);
}

void domain_sweep(struct s2s *s)
{
    /* Sweeping may add remotes, so the table is not walked meanwhile. */
    struct remote **all = xmalloc((s->remotes.count + 1) * sizeof *all), *r;
    size_t count = 0, at = 0;
    uint64_t now = now_of(s);
    while ((r = map_next(&s->remotes, &at)) != NULL)
        all[count++] = r;
    for (size_t i = 0; i < count; i++)
        if (sweep_remote(all[i], now)) {
            map_del(&s->remotes, span_of(all[i]->domain));
            remote_free(all[i]);
        }
    free(all);
}

void domain_free_all(struct s2s *s)
{
    struct remote *r;
    size_t at = 0;
    while ((r = map_next(&s->remotes, &at)) != NULL)
        remote_free(r);
    map_free(&s->remotes);
}
