/* A session is attached to the router that owns its slot when that router's link is up; then frames go
 * straight out. Attaching tells the router everything that it may lack: the open question (OPEN, RESUME), or
 * SYNC and all STANZAs that are not HANDLED, and the end when the session has ended. Whatever makes the owner
 * doubtful (a new epoch, a dead link, NOT_MINE) detaches; a session that cannot be attached waits in
 * hub.waiting, its client's socket is not read, and every epoch, every new link and a timer try again.
 *
 * What a router says counts only if it is the one that the session is attached to; but HANDLED counts from
 * anybody: what is safe stays safe. */
#include "c2s/uplink.h"

#include <stdio.h>
#include <stdlib.h>

#include "c2s/c2s.h"
#include "c2s/metrics.h"
#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/bus/bus.h"
#include "common/log/log.h"
#include "common/member/member.h"

#define RETRY_FIRST_MS        4 /* a slot changes hands within milliseconds … */
#define RETRY_MOST_MS         64
#define UNKNOWN_CLOSED_A_TURN 1000    /* CLOSED for unknown sessions, a second */
#define QUEUE_MAX_BYTES       4194304 /* of one session, whatever c2s.unacked_max says */
#define SLOT_NONE             0xffff

struct uplink_item {
    struct uplink_item *next;
    uint64_t n;
    uint64_t at_ms; /* monotonic, when it was taken in */
    size_t size;
    char frame[];
};

/* What waits for the end of a turn towards one peer. */
struct acks {
    struct list node;  /* in hub.acking: has pairs */
    struct list peers; /* in hub.peers: all of them */
    struct bus_peer *peer;
    struct buf pairs;
    struct buf connections;
};

static void hub_send(struct bus_peer *peer, const struct wire_frame *f)
{
    char *at = bus_reserve(peer, wire_size(f));
    if (at != NULL)
        bus_commit(peer, wire_encode(f, at));
}

static struct wire_frame frame_of(const struct conn *c, enum wire_kind kind)
{
    return (struct wire_frame){.kind = (uint8_t)kind,
                               .slot = c->up.slot,
                               .epoch = member_epoch(c->c2s->member),
                               .sid = c->session.sid,
                               .session = c->up.asked_as};
}

/* ---- waiting ---- */

static void wait_begin(struct conn *c)
{
    struct uplink_hub *hub = &c->c2s->hub;
    if (list_empty(&c->up.waiting)) {
        list_add(&hub->waiting, &c->up.waiting);
        stat_set(&metric_waiting, metric_waiting.value + 1);
        stat_add(&metric_holds[2], 1);
    }
    session_hold(&c->session, SESSION_HOLD_ROUTE);
    if (!timer_is_set(&hub->retry_timer)) {
        hub->retry_ms = RETRY_FIRST_MS;
        ring_timer_set(c->c2s->ring, &hub->retry_timer, hub->retry_ms);
    }
}

static void wait_end(struct conn *c)
{
    if (!list_empty(&c->up.waiting)) {
        list_del(&c->up.waiting);
        stat_set(&metric_waiting, metric_waiting.value - 1);
    }
    session_unhold(&c->session, SESSION_HOLD_ROUTE);
}

/* ---- attaching ---- */

/* The live link to the owner of a slot, or NULL. */
static struct bus_peer *route(struct c2s *c2s, uint16_t slot)
{
    const struct member_node *owner = member_owner(c2s->member, slot);
    if (owner == NULL)
        return NULL;
    struct bus_peer *peer = bus_peer(c2s->bus, owner->name);
    if (peer == NULL || !bus_peer_is_up(peer) || bus_peer_incarnation(peer) != owner->incarnation)
        return NULL;
    return peer;
}

static void tell_question(struct conn *c)
{
    struct wire_frame f = frame_of(c, c->up.asked);
    f.from = session_bare(&c->session);
    f.name = span_of(c->up.resource);
    f.num = c->up.asked == WIRE_RESUME ? c->session.out_acked_h : 0;
    f.flags = c->up.asked_once ? WIRE_AGAIN : 0;
    f.token = c->up.tries;
    f.age_ms = clock_mono_ms() - c->up.asked_ms;
    c->up.asked_once = true;
    hub_send(c->up.peer, &f);
}

static void tell_sync(struct conn *c)
{
    const struct session *s = &c->session;
    struct wire_frame f = frame_of(c, WIRE_SYNC);
    f.from = span_make(s->jid, s->jid_n);
    f.n = s->in_handled;
    f.num = s->out_n;
    f.token = c->up.tries;
    f.age_ms = clock_mono_ms() - c->up.asked_ms;
    c->up.syncing = true;
    f.flags = (uint16_t)((s->sm ? WIRE_SM : 0) | (c->flow ? WIRE_HELD : 0));
    hub_send(c->up.peer, &f);
    if (s->out_acked > 0)
        uplink_acked(c, s->out_acked);
    for (struct uplink_item *i = c->up.first; i != NULL; i = i->next) {
        struct wire_frame again;
        if (!wire_decode(span_make(i->frame, i->size),
                         &again)) { /* the router answers as far as it can read */
            stat_add(&metric_frames_bad, 1);
            bus_send(c->up.peer, span_make(i->frame, i->size));
            continue;
        }
        again.flags |= WIRE_AGAIN;
        again.epoch = member_epoch(c->c2s->member);
        hub_send(c->up.peer, &again);
        stat_add(&metric_resent, 1);
    }
}

static void tell_enable(struct conn *c)
{
    struct wire_frame f = frame_of(c, WIRE_ENABLE);
    f.num = c->up.enable_s;
    f.n = c->session.in_base;
    hub_send(c->up.peer, &f);
}

static void tell_closed(struct conn *c)
{
    struct wire_frame f = frame_of(c, WIRE_CLOSED);
    f.from = span_make(c->session.jid, c->session.jid_n);
    f.num = c->up.close_how;
    hub_send(c->up.peer, &f);
    c->up.close_told = true;
}

/* Attaches when the owner can be reached, or lets the session wait. True when attached. */
static bool attach(struct conn *c)
{
    struct uplink *u = &c->up;
    if (u->peer == NULL) {
        u->peer = route(c->c2s, u->slot);
        if (u->peer == NULL) {
            wait_begin(c);
            return false;
        }
        u->tries = ++c->c2s->hub.attached;
        u->tried_n = c->session.in_n;
        u->syncing = false;
        if (u->asked != WIRE_NONE)
            tell_question(c);
        else if (u->known)
            tell_sync(c);
        if (c->session.sm_wanted && !c->session.sm && u->known)
            tell_enable(c);
        if (u->close_wanted)
            tell_closed(c);
    }
    if (!bus_ready(u->peer)) {
        wait_begin(c);
        return true;
    }
    wait_end(c);
    return true;
}

static void detach(struct conn *c)
{
    c->up.peer = NULL;
    c->up.close_told = false;
}

/* Tries all that wait. */
static void retry_waiting(struct c2s *c2s)
{
    struct list all;
    list_init(&all);
    list_splice(&all, &c2s->hub.waiting);
    while (!list_empty(&all)) {
        struct conn *c = LIST_ENTRY(all.next, struct conn, up.waiting);
        list_del(&c->up.waiting);
        list_add(&c2s->hub.waiting, &c->up.waiting);
        attach(c);
        conn_wake(c);
    }
}

static void on_retry(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    struct c2s *c2s = CONTAINER_OF(t, struct c2s, hub.retry_timer);
    retry_waiting(c2s);
    c2s->hub.retry_ms = MIN(c2s->hub.retry_ms * 2, RETRY_MOST_MS);
    if (!list_empty(&c2s->hub.waiting))
        ring_timer_set(c2s->ring, t, c2s->hub.retry_ms);
}

/* ---- ACKED, once per turn and peer ---- */

static void on_ack_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    struct c2s *c2s = CONTAINER_OF(t, struct c2s, hub.ack_timer);
    LIST_EACH (it, &c2s->hub.acking) {
        struct acks *a = LIST_ENTRY(it, struct acks, node);
        list_del(&a->node);
        struct wire_frame f = {.kind = WIRE_ACKED, .slot = SLOT_NONE, .epoch = member_epoch(c2s->member)};
        f.pairs = buf_span(&a->pairs);
        f.connections = buf_span(&a->connections);
        hub_send(a->peer, &f);
        buf_clear(&a->pairs);
        buf_clear(&a->connections);
    }
}

static void acks_free(struct acks *a)
{
    bus_peer_set_data(a->peer, NULL);
    list_del(&a->node);
    list_del(&a->peers);
    buf_free(&a->pairs);
    buf_free(&a->connections);
    free(a);
}

void uplink_acked(struct conn *c, uint64_t n)
{
    struct bus_peer *peer = c->up.peer;
    if (peer == NULL || !c->up.known)
        return; /* tell_sync says it */
    struct acks *a = bus_peer_data(peer);
    if (a == NULL) {
        a = xcalloc(1, sizeof(*a));
        a->peer = peer;
        list_init(&a->node);
        list_add(&c->c2s->hub.peers, &a->peers);
        bus_peer_set_data(peer, a);
    }
    wire_pair_add(&a->pairs, c->session.sid, n);
    wire_connection_add(&a->connections, c->up.asked_as);
    if (list_empty(&a->node))
        list_add(&c->c2s->hub.acking, &a->node);
    if (!timer_is_set(&c->c2s->hub.ack_timer))
        ring_timer_set(c->c2s->ring, &c->c2s->hub.ack_timer, 0);
}

/* ---- what sessions ask ---- */

static void enter(struct conn *c, uint64_t sid)
{
    struct uplink_hub *hub = &c->c2s->hub;
    if (c->session.sid != 0 && idmap_get(&hub->sessions, c->session.sid) == c)
        idmap_del(&hub->sessions, c->session.sid);
    c->session.sid = sid;
    idmap_put(&hub->sessions, sid, c);
}

static void set_asked(struct conn *c, enum wire_kind kind)
{
    struct uplink_hub *hub = &c->c2s->hub;
    hub->resuming += (kind == WIRE_RESUME) - (c->up.asked == WIRE_RESUME);
    c->up.asked = (uint8_t)kind;
}

static void ask(struct conn *c, enum wire_kind kind, struct span text)
{
    struct uplink *u = &c->up;
    enter(c, random_u64());
    u->asked_as = c->session.sid;
    u->asked_ms = clock_mono_ms();
    u->slot = member_slot(session_bare(&c->session));
    set_asked(c, kind);
    u->asked_once = false;
    free(u->resource);
    u->resource = span_dup(text);
    if (u->peer != NULL)
        tell_question(c);
    else
        attach(c);
}

void uplink_open(struct conn *c, struct span resource)
{
    ask(c, WIRE_OPEN, resource);
}

void uplink_resume(struct conn *c, struct span sm_id, uint32_t h)
{
    (void)h; /* the session keeps it as out_acked_h */
    ask(c, WIRE_RESUME, sm_id);
}

void uplink_enable(struct conn *c, unsigned resume_s)
{
    c->up.enable_s = resume_s;
    if (c->up.peer != NULL)
        tell_enable(c);
}

void uplink_flow(struct conn *c, bool hold)
{
    if (c->up.peer == NULL || !c->up.known)
        return; /* tell_sync says it */
    struct wire_frame f = frame_of(c, WIRE_FLOW);
    f.num = hold;
    hub_send(c->up.peer, &f);
}

/* Too large for a link, whatever the configuration promises: its router gets a stanza without content that is
 * answered with an error, so that the number is used and acknowledged as any other. */
static void shorten(struct wire_frame *f)
{
    static const char *const raws[] = {"<message/>", "<presence/>", "<iq/>"};
    stat_add(&metric_frames_bad, 1);
    f->num = 1 + STANZA_E_POLICY_VIOLATION;
    f->stanza.raw = span_of(raws[f->stanza.kind]);
    f->stanza.child_count = 0;
    f->stanza.lang = (struct span){NULL, 0};
    if (f->stanza.id.n > WIRE_ROOM)
        f->stanza.id = (struct span){NULL, 0};
}

void uplink_stanza(struct conn *c, const struct stanza *stanza, enum stanza_verdict verdict)
{
    static const enum stanza_error errors[] = {[STANZA_BAD_FROM] = STANZA_E_JID_MALFORMED,
                                               [STANZA_BAD_TO] = STANZA_E_JID_MALFORMED,
                                               [STANZA_BAD_IQ] = STANZA_E_BAD_REQUEST,
                                               [STANZA_BAD_TYPE] = STANZA_E_BAD_REQUEST};
    struct uplink *u = &c->up;
    struct wire_frame f = frame_of(c, WIRE_STANZA);
    f.n = c->session.in_n;
    f.num = verdict == STANZA_GOOD ? 0 : 1 + (uint64_t)errors[verdict];
    f.at_ms = clock_wall_ms();
    f.trace[0] = f.sid;
    f.trace[1] = f.n;
    f.has_stanza = true;
    f.stanza = *stanza;
    if (wire_size(&f) > WIRE_MAX_BYTES)
        shorten(&f);
    struct uplink_item *item = xmalloc(sizeof(*item) + wire_size(&f));
    item->next = NULL;
    item->n = f.n;
    item->at_ms = clock_mono_ms();
    item->size = wire_encode(&f, item->frame);
    if (u->last != NULL)
        u->last->next = item;
    else
        u->first = item;
    u->last = item;
    u->count++;
    u->bytes += (uint32_t)item->size;
    stat_set(&metric_queued, metric_queued.value + 1);
    stat_add(&metric_forwarded, 1);
    if (u->peer != NULL) {
        bus_send(u->peer, span_make(item->frame, item->size));
        if (!bus_ready(u->peer))
            wait_begin(c);
    }
    if (u->count >= (uint64_t)c->c2s->conf->c2s_unacked_max || u->bytes >= QUEUE_MAX_BYTES) {
        session_hold(&c->session, SESSION_HOLD_QUEUE);
        stat_add(&metric_holds[1], 1);
    }
}

/* Forgets the oldest item. */
static void pop(struct uplink *u)
{
    struct uplink_item *i = u->first;
    u->first = i->next;
    if (u->first == NULL)
        u->last = NULL;
    u->count--;
    u->bytes -= (uint32_t)i->size;
    stat_set(&metric_queued, metric_queued.value - 1);
    free(i);
}

static void handled(struct conn *c, uint64_t n)
{
    struct uplink *u = &c->up;
    uint64_t now = clock_mono_ms();
    n = MIN(n, c->session.in_n);
    while (u->first != NULL && u->first->n <= n) {
        stat_observe(&metric_handled_us, now > u->first->at_ms ? (now - u->first->at_ms) * 1000 : 500);
        stat_add(&metric_handled, 1);
        pop(u);
    }
    session_handled(&c->session, n);
    if ((c->session.holds & SESSION_HOLD_QUEUE) != 0 &&
        u->count <= (uint64_t)c->c2s->conf->c2s_unacked_max / 2 && u->bytes <= QUEUE_MAX_BYTES / 2) {
        session_unhold(&c->session, SESSION_HOLD_QUEUE);
        conn_wake(c);
    }
}

static void drop_items(struct uplink *u)
{
    while (u->first != NULL) {
        stat_add(&metric_dropped_ended, 1);
        pop(u);
    }
}

/* The session is no longer this connection's, whose socket may stay open for a while: it owes nothing, and
 * no router hears of its numbers again. */
static void let_go(struct conn *c)
{
    struct uplink *u = &c->up;
    struct uplink_hub *hub = &c->c2s->hub;
    drop_items(u);
    wait_end(c);
    detach(c);
    u->known = u->syncing = u->close_wanted = false;
    if (c->session.sid != 0 && idmap_get(&hub->sessions, c->session.sid) == c)
        idmap_del(&hub->sessions, c->session.sid);
    c->session.sid = 0;
}

void uplink_close(struct conn *c, enum wire_close how, bool tell, bool keep)
{
    struct uplink *u = &c->up;
    if (!keep || !tell)
        drop_items(u);
    /* An open question is taken back with CLOSED as well: its answer may be on the way. */
    u->close_wanted = tell && c->session.sid != 0 && (u->known || u->asked_once);
    u->close_how = (uint8_t)how;
    if (u->close_wanted && u->peer != NULL)
        tell_closed(c);
    if (!u->known || !tell)
        set_asked(c, WIRE_NONE);
    if (!tell)
        let_go(c);
}

bool uplink_is_done(const struct conn *c)
{
    return c->up.first == NULL && (!c->up.close_wanted || c->up.close_told);
}

void uplink_drop(struct conn *c)
{
    set_asked(c, WIRE_NONE);
    let_go(c);
    free(c->up.resource);
    c->up.resource = NULL;
}

/* ---- what routers say ---- */

/* The question is answered. */
static void answered(struct conn *c, bool known)
{
    set_asked(c, WIRE_NONE);
    c->up.asked_once = false; /* nothing to take back */
    c->up.known = known;
    free(c->up.resource);
    c->up.resource = NULL;
    if (!known)
        c->up.peer = NULL;
}

static void on_opened(struct conn *c, const struct wire_frame *f)
{
    struct jid jid;
    if (c->up.asked != WIRE_OPEN)
        return;
    if (!jid_split(f->to, &jid) || jid.resource_n == 0) {
        stat_add(&metric_frames_bad, 1);
        return;
    }
    answered(c, true);
    session_opened(&c->session, f->to);
}

static void on_resumed(struct conn *c, const struct wire_frame *f)
{
    struct uplink_hub *hub = &c->c2s->hub;
    struct jid jid;
    if (c->up.asked != WIRE_RESUME)
        return;
    if (f->session == 0 || !jid_split(f->to, &jid) || jid.resource_n == 0) {
        stat_add(&metric_frames_bad, 1);
        return;
    }
    struct conn *old = idmap_get(&hub->sessions, f->session);
    if (old != NULL && old != c) {
        session_fail(&old->session, SESSION_END_TAKEN, STREAM_E_CONFLICT, "resumed by another connection",
                     NULL);
        let_go(old); /* it may have ended before, and wait to say so */
    }
    answered(c, true);
    enter(c, f->session);
    if (c->up.close_wanted)
        tell_closed(c); /* what it was told before named a session that it did not know yet */
    session_resumed(&c->session, f->to, f->n, (uint32_t)f->num, f->token);
}

static void on_kill(struct conn *c, const struct wire_frame *f)
{
    if (f->session != 0 && f->session != c->up.asked_as)
        return;                              /* another connection was meant, which is gone */
    if (c->session.state == SESSION_ENDED) { /* the router has no session for what is still owed */
        set_asked(c, WIRE_NONE);
        let_go(c);
        return;
    }
    char *text = f->text.n > 0 ? span_dup(f->text) : NULL;
    session_fail(&c->session, SESSION_END_KILLED,
                 f->num < STREAM_E_COUNT ? (enum stream_error)f->num : STREAM_E_UNDEFINED_CONDITION, text,
                 NULL);
    free(text);
}

static void on_not_mine(struct conn *c, const struct wire_frame *f)
{
    stat_add(&metric_not_mine, 1);
    /* An answer to what was said at an earlier attachment says nothing about this one. */
    bool question = f->num == WIRE_SYNC || f->num == WIRE_OPEN || f->num == WIRE_RESUME;
    if (question ? f->token != c->up.tries : f->n <= c->up.tried_n)
        return;
    detach(c);
    wait_begin(c); /* the timer tries again, or the new epoch does */
}

/* The answer to a question that has been asked again since. A router numbers anew for each, so what was sent
 * behind the earlier answer is not what the later one will go on from. */
static bool is_late_answer(const struct conn *c, const struct wire_frame *f)
{
    return f->question != 0 && f->question != c->up.tries;
}

/* Frames about one session, from the router that it is attached to. */
static void on_session_frame(struct conn *c, const struct wire_frame *f)
{
    struct session *s = &c->session;
    if (is_late_answer(c, f))
        return;
    switch (f->kind) {
    case WIRE_OPENED:
        on_opened(c, f);
        break;
    case WIRE_REFUSED:
        if (c->up.asked == WIRE_OPEN) {
            answered(c, false);
            session_refused(
                s, f->num < STANZA_E_COUNT ? (enum stanza_error)f->num : STANZA_E_UNDEFINED_CONDITION,
                f->text);
        }
        break;
    case WIRE_ENABLED:
        if (!c->up.syncing) /* else of an earlier attachment; another one comes behind SYNCED */
            session_enabled(s, f->name, (unsigned)f->num, f->n);
        break;
    case WIRE_RESUMED:
        on_resumed(c, f);
        break;
    case WIRE_RESUME_FAILED:
        if (c->up.asked == WIRE_RESUME) {
            answered(c, false);
            session_resume_failed(
                s, f->num < STANZA_E_COUNT ? (enum stanza_error)f->num : STANZA_E_ITEM_NOT_FOUND,
                (f->flags & WIRE_HAS_H) != 0, (uint32_t)f->n);
        }
        break;
    case WIRE_KILL:
        on_kill(c, f);
        break;
    case WIRE_NOT_MINE:
        on_not_mine(c, f);
        break;
    case WIRE_SYNCED:
        if (f->token == c->up.tries)
            c->up.syncing = false;
        break;
    default:
        break;
    }
    conn_wake(c);
}

/* A session that the router believes to be here is not. as: the sid of the question that it has answered, 0 =
 * none. */
static void tell_unknown(struct c2s *c2s, struct bus_peer *from, uint16_t slot, uint64_t sid, uint64_t as)
{
    struct uplink_hub *hub = &c2s->hub;
    uint64_t second = ring_now_ms(c2s->ring) / 1000;
    stat_add(&metric_delivered_unknown, 1);
    if (second != hub->unknown_second) {
        hub->unknown_second = second;
        hub->unknown_count = 0;
    }
    if (++hub->unknown_count > UNKNOWN_CLOSED_A_TURN)
        return;
    struct wire_frame f = {.kind = WIRE_CLOSED, .slot = slot, .epoch = member_epoch(c2s->member), .sid = sid};
    f.num = WIRE_CLOSE_LOST;
    f.session = as;
    hub_send(from, &f);
}

/* An answer to a question that no connection asks (any more): its session is not here, unless the answer to a
 * later sending of the same question has brought it. */
static void on_answer_to_nobody(struct c2s *c2s, struct bus_peer *from, const struct wire_frame *f)
{
    uint64_t sid = f->kind == WIRE_RESUMED ? f->session : f->sid;
    const struct conn *has = idmap_get(&c2s->hub.sessions, sid);
    if (has == NULL || has->up.asked_as != f->sid)
        tell_unknown(c2s, from, f->slot, sid, f->sid);
}

static void on_deliver(struct c2s *c2s, struct bus_peer *from, const struct wire_frame *f)
{
    struct span targets = f->targets;
    struct wire_target target;
    while (wire_target_next(&targets, &target)) {
        struct conn *c = idmap_get(&c2s->hub.sessions, target.sid);
        if (c == NULL && c2s->hub.resuming > 0)
            continue; /* it may just be coming back here; a later delivery tells */
        else if (c == NULL)
            tell_unknown(c2s, from, f->slot, target.sid, 0);
        else if (c->up.peer != from || c->up.syncing || c->session.state >= SESSION_CLOSING)
            continue; /* an owner of yesterday; sent again behind SYNCED; or CLOSED is on its way, or will be
                       */
        else if (session_deliver(&c->session, target.n, f->raw, target.to, (f->flags & WIRE_CONFIRM) != 0))
            stat_add(&metric_delivered, 1);
        else {
            stat_add(&metric_delivered_twice, 1);
            log_debug("c2s", "delivery n=%llu of %s dropped, had n=%llu jid=%s", (unsigned long long)target.n,
                      bus_peer_name(from), (unsigned long long)c->session.out_n, c->session.jid);
        }
    }
}

/* What an earlier attachment has handled is safe, but whoever came behind it has been sent it again and may
 * have done half of it over: the other half must not be forgotten (an `unavailable` done over without the
 * presence behind it). Who has it all tells so itself. */
static void on_handled(struct c2s *c2s, const struct bus_peer *from, const struct wire_frame *f)
{
    struct span pairs = f->pairs;
    uint64_t sid, n;
    while (wire_pair_next(&pairs, &sid, &n)) {
        struct conn *c = idmap_get(&c2s->hub.sessions, sid);
        if (c != NULL && c->up.peer == from && !c->up.syncing)
            handled(c, n);
    }
}

/* All routers say the same, unless they are of two releases. */
static void on_caps(struct c2s *c2s, const struct wire_frame *f)
{
    struct session_env *env = &c2s->env;
    if (f->name.n >= sizeof env->caps_node || f->text.n >= sizeof env->caps_ver)
        return;
    snprintf(env->caps_node, sizeof env->caps_node, "%.*s", SPAN_FMT(f->name));
    snprintf(env->caps_ver, sizeof env->caps_ver, "%.*s", SPAN_FMT(f->text));
}

void uplink_frame(struct c2s *c2s, struct bus_peer *from, struct span frame)
{
    struct wire_frame f;
    if (!wire_decode(frame, &f)) {
        stat_add(&metric_frames_bad, 1);
        log_warn("c2s", "a frame of %s cannot be read (%zu bytes): are both of the same release?",
                 bus_peer_name(from), frame.n);
        return;
    }
    if (f.epoch > member_epoch(c2s->member))
        member_refresh(c2s->member);
    if (f.kind == WIRE_DELIVER) {
        on_deliver(c2s, from, &f);
    } else if (f.kind == WIRE_HANDLED) {
        on_handled(c2s, from, &f);
    } else if (f.kind == WIRE_CAPS) {
        on_caps(c2s, &f);
    } else if (f.sid != 0) {
        struct conn *c = idmap_get(&c2s->hub.sessions, f.sid);
        if (c != NULL && c->up.peer == from)
            on_session_frame(c, &f);
        else if (c == NULL && (f.kind == WIRE_OPENED || f.kind == WIRE_RESUMED))
            on_answer_to_nobody(c2s, from, &f);
    } else {
        log_debug("c2s", "frame %s of %s is not for a connection manager", wire_kind_name(f.kind),
                  bus_peer_name(from));
    }
}

/* ---- the cluster changes ---- */

void uplink_peer_up(struct c2s *c2s, struct bus_peer *peer)
{
    (void)peer;
    retry_waiting(c2s);
}

/* Detaches all sessions for which the owner is another one than they are attached to. */
static void reattach(struct c2s *c2s, struct bus_peer *gone)
{
    LIST_EACH (it, &c2s->conns) {
        struct conn *c = LIST_ENTRY(it, struct conn, node);
        if (c->session.sid == 0 || c->up.peer == NULL)
            continue;
        if (gone != NULL ? c->up.peer != gone : c->up.peer == route(c2s, c->up.slot))
            continue;
        detach(c);
        wait_begin(c);
    }
    retry_waiting(c2s);
}

void uplink_peer_gone(struct c2s *c2s, struct bus_peer *peer)
{
    struct acks *a = bus_peer_data(peer);
    reattach(c2s, peer);
    if (a != NULL)
        acks_free(a);
}

void uplink_epoch(struct c2s *c2s)
{
    reattach(c2s, NULL);
}

void uplink_init(struct c2s *c2s)
{
    list_init(&c2s->hub.waiting);
    list_init(&c2s->hub.acking);
    list_init(&c2s->hub.peers);
    c2s->hub.ack_timer.fire = on_ack_timer;
    c2s->hub.retry_timer.fire = on_retry;
}

void uplink_free(struct c2s *c2s)
{
    ring_timer_clear(c2s->ring, &c2s->hub.ack_timer);
    ring_timer_clear(c2s->ring, &c2s->hub.retry_timer);
    LIST_EACH (it, &c2s->hub.peers)
        acks_free(LIST_ENTRY(it, struct acks, peers));
    idmap_free(&c2s->hub.sessions);
}
