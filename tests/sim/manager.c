/* A connection manager: a model of c2s/uplink.c (attach, detach, SYNC, HANDLED, NOT_MINE) and of the counting
 * in c2s/sm.c and c2s/session.c, function by function under the same names; sockets are struct stream_pipe.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/stream/stream.h"
#include "tests/sim/manager.h"

#define RETRY_MS    50
#define LINGER_MS   20000
#define END_MS      2000 /* how long an ended stream waits for the end of a client that does not read */
#define ASK_AFTER   32
#define UNACKED_MAX 200

static void pump(struct manager_conn *c);
static void flush_soon(struct node *n);

static void hub_send(struct manager_conn *c, struct endpoint *peer, const struct wire_frame *f)
{
    struct buf b = {0};
    wire_add(&b, f);
    link_send(c->c2s, w.nodes[peer->peer].name, buf_span(&b));
    buf_free(&b);
}

static struct wire_frame frame_of(const struct manager_conn *c, enum wire_kind kind)
{
    return (struct wire_frame){.kind = (uint8_t)kind,
                               .slot = c->slot,
                               .epoch = c->c2s->member.epoch,
                               .sid = c->sid,
                               .session = c->asked_as};
}

/* ---- waiting and attaching ---- */

static bool attach(struct manager_conn *c);

static void on_retry(void *a, uint64_t life)
{
    struct node *n = a;
    bool more = false;
    if (!n->up || life != n->life || node_frozen(n, on_retry, a, life))
        return;
    n->retry_set = false;
    LIST_EACH (it, &n->conns) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        if (c->waiting) {
            attach(c);
            pump(c);
            more |= c->waiting;
        }
    }
    if (more && !n->retry_set) {
        n->retry_set = true;
        sim_after(RETRY_MS * MS, on_retry, n, n->life);
    }
}

static void wait_begin(struct manager_conn *c)
{
    c->waiting = true;
    c->holds |= HOLD_ROUTE;
    if (!c->c2s->retry_set) {
        c->c2s->retry_set = true;
        sim_after(RETRY_MS * MS, on_retry, c->c2s, c->c2s->life);
    }
}

static struct endpoint *route(const struct manager_conn *c)
{
    const struct member_node *owner = node_owner(c->c2s, c->slot);
    if (owner == NULL)
        return NULL;
    struct endpoint *e = link_peer(c->c2s, owner->name);
    return e != NULL && e->up && e->incarnation == owner->incarnation ? e : NULL;
}

static void tell_question(struct manager_conn *c)
{
    struct wire_frame f = frame_of(c, c->asked);
    f.from = span_of(c->bare);
    f.name = span_of(c->text);
    f.num = c->asked == WIRE_RESUME ? c->out_acked_h : 0;
    f.flags = c->asked_once ? WIRE_AGAIN : 0;
    f.token = c->tries;
    f.age_ms = (w.now_us - c->asked_us) / MS;
    c->asked_once = true;
    hub_send(c, c->peer, &f);
}

static void acked(struct manager_conn *c, uint64_t n);

static void tell_sync(struct manager_conn *c)
{
    struct wire_frame f = frame_of(c, WIRE_SYNC);
    f.from = span_of(c->jid);
    f.n = c->in_handled;
    f.num = c->out_n;
    f.token = c->tries;
    f.age_ms = (w.now_us - c->asked_us) / MS;
    f.flags = (uint16_t)((c->sm ? WIRE_SM : 0) | (c->flow ? WIRE_HELD : 0));
    c->syncing = true;
    hub_send(c, c->peer, &f);
    if (c->out_acked > 0)
        acked(c, c->out_acked);
    for (struct item *i = c->first; i != NULL; i = i->next) {
        struct wire_frame again;
        CHECK(wire_decode(span_make(i->frame, i->size), &again));
        again.flags |= WIRE_AGAIN;
        again.epoch = c->c2s->member.epoch;
        hub_send(c, c->peer, &again);
    }
}

static void tell_enable(struct manager_conn *c)
{
    struct wire_frame f = frame_of(c, WIRE_ENABLE);
    f.num = c->enable_s;
    f.n = c->in_base;
    hub_send(c, c->peer, &f);
}

static void tell_closed(struct manager_conn *c)
{
    struct wire_frame f = frame_of(c, WIRE_CLOSED);
    f.from = span_of(c->jid);
    f.num = c->close_how;
    hub_send(c, c->peer, &f);
    c->close_told = true;
}

static bool attach(struct manager_conn *c)
{
    if (c->peer == NULL) {
        c->peer = route(c);
        if (c->peer == NULL) {
            wait_begin(c);
            return false;
        }
        c->tries = ++c->c2s->attached;
        c->tried_n = c->in_n;
        c->syncing = false;
        if (c->asked != WIRE_NONE)
            tell_question(c);
        else if (c->known)
            tell_sync(c);
        if (c->sm_wanted && !c->sm && c->known)
            tell_enable(c);
        if (c->close_wanted)
            tell_closed(c);
    }
    c->waiting = false;
    c->holds &= ~(unsigned)HOLD_ROUTE;
    return true;
}

static void detach(struct manager_conn *c)
{
    c->peer = NULL;
    c->close_told = false;
}

/* ---- the end of a turn: ACKED lists, questions to clients, what sockets have taken, burials ---- */

static void acked(struct manager_conn *c, uint64_t n)
{
    if (c->peer == NULL || !c->known)
        return;
    wire_pair_add(&c->c2s->acks[c->peer->peer], c->sid, n);
    wire_connection_add(&c->c2s->ack_names[c->peer->peer], c->asked_as);
    flush_soon(c->c2s);
}

static void say(struct manager_conn *c, enum said kind, uint64_t num, bool has_h, struct span text)
{
    if (c->pipe != NULL)
        pipe_say(c->pipe, true, kind, num, has_h, text);
}

static void turn_end(struct manager_conn *c)
{
    uint64_t sent = c->sm ? MIN(c->out_confirm, c->out_base) : c->out_confirm;
    if (c->state == STATE_BOUND && sent > c->confirmed && c->pipe != NULL) {
        c->confirmed = sent;
        if (!c->sm)
            c->out_acked = sent;
        acked(c, sent);
    }
    if (!c->sm || c->sm_asked || c->state != STATE_BOUND || c->out_n_unknown)
        return;
    uint64_t known = MAX(c->out_acked, c->sm_asked_n);
    if (c->out_confirm > known || c->out_n - known >= ASK_AFTER) {
        say(c, SAID_R, 0, false, SPAN(""));
        c->sm_asked = true;
        c->sm_asked_n = c->out_n;
    }
}

static bool is_done(const struct manager_conn *c)
{
    return c->first == NULL && (!c->close_wanted || c->close_told);
}

static void flush(void *a, uint64_t life)
{
    struct node *n = a;
    if (!n->up || life != n->life || node_frozen(n, flush, a, life))
        return;
    n->flush_set = false;
    LIST_EACH (it, &n->conns) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        turn_end(c);
        if (c->state == STATE_ENDED && w.now_us >= c->open_until_us &&
            (is_done(c) || w.now_us >= c->expires_us))
            list_del(&c->node);
    }
    for (int i = 0; i < NODES; i++) {
        if (n->acks[i].n == 0)
            continue;
        struct wire_frame f = {.kind = WIRE_ACKED, .slot = 0xffff, .epoch = n->member.epoch};
        struct buf b = {0};
        f.pairs = buf_span(&n->acks[i]);
        f.connections = buf_span(&n->ack_names[i]);
        wire_add(&b, &f);
        link_send(n, w.nodes[i].name, buf_span(&b));
        buf_free(&b);
        buf_clear(&n->acks[i]);
        buf_clear(&n->ack_names[i]);
    }
}

static void flush_soon(struct node *n)
{
    if (n->flush_set)
        return;
    n->flush_set = true;
    sim_after(sim_random(200), flush, n, n->life);
}

/* ---- what sessions ask ---- */

static struct manager_conn *find(const struct node *n, uint64_t sid)
{
    for (struct list *it = n->conns.next; it != &n->conns; it = it->next) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        if (c->in_map && c->sid == sid)
            return c;
    }
    return NULL;
}

static void ask(struct manager_conn *c, enum wire_kind kind, const struct line *l)
{
    c->sid = c->asked_as = random_u64();
    c->asked_us = w.now_us;
    c->in_map = true;
    c->slot = member_slot(span_of(c->bare));
    c->asked = kind;
    c->asked_once = false;
    snprintf(c->text, sizeof c->text, "%.*s", (int)l->n, l->text);
    c->holds |= HOLD_ANSWER;
    if (c->peer != NULL)
        tell_question(c);
    else
        attach(c);
}

static void stanza(struct manager_conn *c, const struct line *l)
{
    struct xml_element e;
    struct buf raw = {0};
    struct wire_frame f = frame_of(c, WIRE_STANZA);
    buf_reserve(&raw, l->n + 1024);
    CHECK(xml_parse(w.parser, span_make(l->text, l->n), &e) == XML_OK);
    CHECK(stanza_rewrite(&e, span_make(l->text, l->n), span_of(c->jid), (struct span){NULL, 0}, &raw,
                         &f.stanza) == STANZA_GOOD);
    f.n = ++c->in_n;
    f.at_ms = node_wall_ms(c->c2s);
    f.trace[0] = f.sid;
    f.trace[1] = f.n;
    f.has_stanza = true;
    struct item *i = sim_alloc(sizeof *i + wire_size(&f));
    i->n = f.n;
    i->size = wire_encode(&f, i->frame);
    if (c->last != NULL)
        c->last->next = i;
    else
        c->first = i;
    c->last = i;
    c->count++;
    if (c->peer != NULL)
        link_send(c->c2s, w.nodes[c->peer->peer].name, span_make(i->frame, i->size));
    if (c->count >= UNACKED_MAX)
        c->holds |= HOLD_QUEUE;
    buf_free(&raw);
}

static void write_ack(struct manager_conn *c)
{
    say(c, SAID_A, (uint32_t)(c->in_handled - c->in_base), false, SPAN(""));
    c->sm_owes_ack = c->in_handled != c->in_n;
    c->sm_owes_n = c->in_n;
}

static void handled(struct manager_conn *c, uint64_t n)
{
    n = MIN(n, c->in_n);
    while (c->first != NULL && c->first->n <= n) {
        c->first = c->first->next;
        if (c->first == NULL)
            c->last = NULL;
        c->count--;
    }
    if (n > c->in_handled) {
        c->in_handled = n;
        if (c->sm && c->sm_owes_ack && c->state == STATE_BOUND && c->in_handled >= c->sm_owes_n)
            write_ack(c);
    }
    if ((c->holds & HOLD_QUEUE) != 0 && c->count <= UNACKED_MAX / 2)
        c->holds &= ~(unsigned)HOLD_QUEUE;
}

static void flush_later(void *a, uint64_t life)
{
    struct node *n = a;
    if (n->up && life == n->life)
        flush_soon(n);
}

enum end_how { END_CLEAN, END_LOST, END_KILLED, END_TAKEN };

static void drop_items(struct manager_conn *c)
{
    c->first = c->last = NULL;
    c->count = 0;
}

static void let_go(struct manager_conn *c)
{
    drop_items(c);
    c->waiting = false;
    detach(c);
    c->known = c->syncing = c->close_wanted = c->in_map = false;
    c->sid = 0;
}

static void end(struct manager_conn *c, enum end_how how)
{
    if (c->state == STATE_ENDED)
        return;
    c->state = STATE_ENDED;
    c->expires_us = w.now_us + LINGER_MS * MS;
    bool lost = how == END_LOST, tell = how == END_CLEAN || lost, keep = !(lost && c->resumable);
    if (!keep || !tell)
        drop_items(c);
    c->close_wanted = tell && c->sid != 0 && (c->known || c->asked_once);
    c->close_how = lost ? WIRE_CLOSE_LOST : WIRE_CLOSE_CLEAN;
    if (c->close_wanted && c->peer != NULL)
        tell_closed(c);
    if (!c->known || !tell)
        c->asked = WIRE_NONE;
    if (!tell)
        let_go(c);
    if (c->pipe != NULL) {
        if (!lost) { /* its socket closes when the client's side does, or does not answer for long */
            uint64_t open_us = c->pipe->deaf ? END_MS * MS : sim_random(3 * MS);
            c->open_until_us = w.now_us + open_us;
            sim_after(open_us, flush_later, c->c2s, c->c2s->life);
        }
        c->pipe->conn = NULL;
        pipe_server_ends(c->pipe, false);
        c->pipe = NULL;
    }
    flush_soon(c->c2s);
}

/* ---- lines of clients ---- */

static void on_ack(struct manager_conn *c, uint32_t h)
{
    uint32_t more = h - c->out_acked_h;
    uint64_t sent = c->out_n_unknown ? 0 : c->out_n - c->out_acked;
    c->sm_asked = false;
    if (more > sent) {
        sim_fail("%s acknowledges more than its connection manager has sent: h=%u sent=%llu", c->jid, h,
                 (unsigned long long)(c->out_acked_h + sent));
        return;
    }
    if (more > 0) {
        c->out_acked += more;
        c->out_acked_h = h;
        acked(c, c->out_acked);
    }
}

static void take(struct manager_conn *c, const struct line *l)
{
    switch (l->kind) {
    case SAID_BIND:
        c->state = STATE_OPENING;
        ask(c, WIRE_OPEN, l);
        break;
    case SAID_RESUME:
        c->out_acked_h = (uint32_t)l->num;
        c->state = STATE_RESUMING;
        ask(c, WIRE_RESUME, l);
        break;
    case SAID_ENABLE:
        c->sm_wanted = true;
        c->in_base = c->in_n;
        c->enable_s = (uint32_t)l->num;
        if (c->peer != NULL)
            tell_enable(c);
        break;
    case SAID_R:
        if (c->sm)
            write_ack(c);
        else
            c->sm_owes_ack = true;
        break;
    case SAID_A:
        on_ack(c, (uint32_t)l->num);
        break;
    case SAID_STANZA:
        stanza(c, l);
        break;
    case SAID_CLOSE:
        end(c, END_CLEAN);
        break;
    default:
        break;
    }
}

static void pump(struct manager_conn *c)
{
    while (c->holds == 0 && c->state != STATE_ENDED && c->held_first != NULL) {
        struct line *l = c->held_first;
        c->held_first = l->next;
        if (c->held_first == NULL)
            c->held_last = NULL;
        take(c, l);
    }
    flush_soon(c->c2s);
}

void manager_line(struct manager_conn *c, const struct line *l)
{
    if (l->kind == SAID_LOST) {
        end(c, END_LOST);
        return;
    }
    struct line *kept = sim_alloc(sizeof *kept + l->n);
    memcpy(kept, l, sizeof *l + l->n);
    kept->next = NULL;
    if (c->held_last != NULL)
        c->held_last->next = kept;
    else
        c->held_first = kept;
    c->held_last = kept;
    pump(c);
}

void manager_accept(struct node *n, struct stream_pipe *p)
{
    struct manager_conn *c = sim_alloc(sizeof *c);
    c->c2s = n;
    c->pipe = p;
    p->conn = c;
    snprintf(c->bare, sizeof c->bare, "%s", sim_user(p->client->user));
    snprintf(c->jid, sizeof c->jid, "%s", c->bare);
    list_init(&c->node);
    list_add(&n->conns, &c->node);
}

/* ---- what routers say ---- */

static void answered(struct manager_conn *c, bool known)
{
    c->asked = WIRE_NONE;
    c->asked_once = false;
    c->known = known;
    if (!known)
        c->peer = NULL;
}

static void on_opened(struct manager_conn *c, const struct wire_frame *f)
{
    if (c->asked != WIRE_OPEN)
        return;
    answered(c, true);
    if (c->state != STATE_OPENING)
        return;
    snprintf(c->jid, sizeof c->jid, "%.*s", SPAN_FMT(f->to));
    c->state = STATE_BOUND;
    c->holds &= ~(unsigned)HOLD_ANSWER;
    say(c, SAID_BOUND, 0, false, f->to);
}

static void on_enabled(struct manager_conn *c, const struct wire_frame *f)
{
    if (c->syncing || c->state != STATE_BOUND || !c->sm_wanted || c->sm)
        return;
    c->sm = true;
    c->resumable = f->name.n > 0 && f->num > 0;
    c->out_base = c->out_acked = c->sm_asked_n = f->n;
    c->out_acked_h = 0;
    say(c, SAID_ENABLED, f->num, false, f->name);
    if (c->sm_owes_ack)
        write_ack(c);
}

static void on_resumed(struct manager_conn *c, const struct wire_frame *f)
{
    if (c->asked != WIRE_RESUME)
        return;
    struct manager_conn *old = find(c->c2s, f->session);
    if (old != NULL && old != c) {
        end(old, END_TAKEN);
        let_go(old);
    }
    answered(c, true);
    c->sid = f->session;
    if (c->close_wanted)
        tell_closed(c);
    if (c->state != STATE_RESUMING)
        return;
    snprintf(c->jid, sizeof c->jid, "%.*s", SPAN_FMT(f->to));
    c->in_n = c->in_handled = f->n;
    c->in_base = f->n - f->num;
    c->out_n = c->out_acked = c->sm_asked_n = f->token;
    c->out_n_unknown = f->token == 0;
    c->sm_wanted = c->sm = c->resumable = true;
    c->state = STATE_BOUND;
    c->holds &= ~(unsigned)HOLD_ANSWER;
    say(c, SAID_RESUMED, f->num, false, SPAN(""));
}

static void on_refused(struct manager_conn *c, const struct wire_frame *f)
{
    if (c->asked != (f->kind == WIRE_REFUSED ? WIRE_OPEN : WIRE_RESUME))
        return;
    answered(c, false);
    if (c->state == STATE_ENDED)
        return;
    c->state = STATE_BIND;
    c->holds &= ~(unsigned)HOLD_ANSWER;
    if (f->kind == WIRE_REFUSED)
        say(c, SAID_REFUSED, f->num, false, SPAN(""));
    else
        say(c, SAID_FAILED, f->n, (f->flags & WIRE_HAS_H) != 0, SPAN(""));
}

static void on_not_mine(struct manager_conn *c, const struct wire_frame *f)
{
    bool question = f->num == WIRE_SYNC || f->num == WIRE_OPEN || f->num == WIRE_RESUME;
    if (question ? f->token != c->tries : f->n <= c->tried_n)
        return;
    detach(c);
    wait_begin(c);
}

static void on_session_frame(struct manager_conn *c, const struct wire_frame *f)
{
    if (f->question != 0 && f->question != c->tries)
        return;
    switch (f->kind) {
    case WIRE_OPENED:
        on_opened(c, f);
        break;
    case WIRE_RESUMED:
        on_resumed(c, f);
        break;
    case WIRE_REFUSED:
    case WIRE_RESUME_FAILED:
        on_refused(c, f);
        break;
    case WIRE_ENABLED:
        on_enabled(c, f);
        break;
    case WIRE_KILL:
        if (f->session != 0 && f->session != c->asked_as)
            break;
        if (c->state == STATE_ENDED) {
            c->asked = WIRE_NONE;
            let_go(c);
            break;
        }
        sim_say("%s: %s is killed: %.*s", c->c2s->name, c->jid, SPAN_FMT(f->text));
        end(c, END_KILLED);
        break;
    case WIRE_NOT_MINE:
        on_not_mine(c, f);
        break;
    case WIRE_SYNCED:
        if (f->token == c->tries)
            c->syncing = false;
        break;
    default:
        break;
    }
    pump(c);
}

static void tell_unknown(struct node *n, struct endpoint *from, uint16_t slot, uint64_t sid, uint64_t as)
{
    struct wire_frame f = {.kind = WIRE_CLOSED,
                           .slot = slot,
                           .epoch = n->member.epoch,
                           .sid = sid,
                           .num = WIRE_CLOSE_LOST,
                           .session = as};
    struct buf b = {0};
    wire_add(&b, &f);
    link_send(n, w.nodes[from->peer].name, buf_span(&b));
    buf_free(&b);
}

static void on_answer_to_nobody(struct node *n, struct endpoint *from, const struct wire_frame *f)
{
    uint64_t sid = f->kind == WIRE_RESUMED ? f->session : f->sid;
    const struct manager_conn *has = find(n, sid);
    if (has == NULL || has->asked_as != f->sid)
        tell_unknown(n, from, f->slot, sid, f->sid);
}

static bool deliver(struct manager_conn *c, uint64_t n, struct span raw, struct span to, bool confirm)
{
    if (c->state != STATE_BOUND)
        return false;
    if (c->out_n_unknown) {
        c->out_n_unknown = false;
        c->out_n = c->out_acked = c->sm_asked_n = n - 1;
    }
    if (n <= c->out_n)
        return false;
    if (n != c->out_n + 1)
        sim_fail("outbound numbers of %s jump from %llu to %llu", c->jid, (unsigned long long)c->out_n,
                 (unsigned long long)n);
    c->out_n = n;
    if (confirm)
        c->out_confirm = n;
    check_readable(raw, to);
    if (!c->sm) {
        const char *id = memmem(raw.p, raw.n, " id='m", 6);
        if (id != NULL && memmem(raw.p, raw.n, "type='error'", 12) == NULL)
            check_written(atoi(id + 6));
    }
    say(c, SAID_STANZA, 0, false, raw);
    return true;
}

static bool is_resuming(const struct node *n)
{
    for (struct list *it = n->conns.next; it != &n->conns; it = it->next)
        if (LIST_ENTRY(it, struct manager_conn, node)->asked == WIRE_RESUME)
            return true;
    return false;
}

static void on_deliver(struct node *n, struct endpoint *from, const struct wire_frame *f)
{
    struct span targets = f->targets;
    struct wire_target target;
    while (wire_target_next(&targets, &target)) {
        struct manager_conn *c = find(n, target.sid);
        if (c == NULL && is_resuming(n))
            continue; /* it may just be coming back here */
        else if (c == NULL)
            tell_unknown(n, from, f->slot, target.sid, 0);
        else if (c->peer != from || c->syncing || c->state == STATE_ENDED)
            continue;
        else if (!deliver(c, target.n, f->raw, target.to, (f->flags & WIRE_CONFIRM) != 0))
            sim_say("%s: delivery %llu to %s dropped, had %llu", n->name, (unsigned long long)target.n,
                    c->jid, (unsigned long long)c->out_n);
    }
}

void manager_frame(struct node *n, struct endpoint *from, struct span frame)
{
    struct wire_frame f;
    CHECK(wire_decode(frame, &f));
    if (f.kind == WIRE_DELIVER) {
        on_deliver(n, from, &f);
    } else if (f.kind == WIRE_HANDLED) {
        struct span pairs = f.pairs;
        uint64_t sid, number;
        while (wire_pair_next(&pairs, &sid, &number)) {
            struct manager_conn *c = find(n, sid);
            if (c != NULL && c->peer == from && !c->syncing) {
                handled(c, number);
                pump(c);
            }
        }
    } else if (f.sid != 0) {
        struct manager_conn *c = find(n, f.sid);
        if (c != NULL && c->peer == from)
            on_session_frame(c, &f);
        else if (c == NULL && (f.kind == WIRE_OPENED || f.kind == WIRE_RESUMED))
            on_answer_to_nobody(n, from, &f);
    }
    flush_soon(n);
}

/* ---- the cluster changes ---- */

static void retry_waiting(struct node *n)
{
    LIST_EACH (it, &n->conns) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        if (c->waiting) {
            attach(c);
            pump(c);
        }
    }
}

static void reattach(struct node *n, const struct endpoint *gone)
{
    LIST_EACH (it, &n->conns) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        if (c->sid == 0 || c->peer == NULL || (gone != NULL ? c->peer != gone : c->peer == route(c)))
            continue;
        detach(c);
        wait_begin(c);
    }
    retry_waiting(n);
    flush_soon(n);
}

void manager_peer_up(struct node *n)
{
    retry_waiting(n);
}

void manager_peer_gone(struct node *n, struct endpoint *e)
{
    buf_clear(&n->acks[e->peer]);
    buf_clear(&n->ack_names[e->peer]);
    reattach(n, e);
}

void manager_epoch(struct node *n)
{
    reattach(n, NULL);
}

void manager_started(struct node *n)
{
    list_init(&n->conns);
    n->retry_set = n->flush_set = false;
    for (int i = 0; i < NODES; i++) {
        buf_clear(&n->acks[i]);
        buf_clear(&n->ack_names[i]);
    }
}

void manager_died(struct node *n)
{
    LIST_EACH (it, &n->conns) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        list_del(&c->node);
        c->state = STATE_ENDED;
        if (c->pipe != NULL) {
            c->pipe->conn = NULL;
            pipe_server_ends(c->pipe, true);
            c->pipe = NULL;
        }
    }
}

/* A session's client reads slowly, or again. */
void manager_flow(struct node *n, bool hold)
{
    LIST_EACH (it, &n->conns) {
        struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        if (c->flow == hold || (hold && !sim_chance(50)))
            continue;
        c->flow = hold;
        if (c->peer == NULL || !c->known || c->state == STATE_ENDED)
            continue;
        struct wire_frame f = frame_of(c, WIRE_FLOW);
        f.num = hold;
        hub_send(c, c->peer, &f);
    }
}

bool manager_is_clean(const struct node *n, int *left)
{
    for (struct list *it = n->conns.next; it != &n->conns; it = it->next) {
        const struct manager_conn *c = LIST_ENTRY(it, struct manager_conn, node);
        if (c->first != NULL || c->waiting || c->state == STATE_ENDED) {
            *left = (int)c->count;
            return false;
        }
    }
    return true;
}
