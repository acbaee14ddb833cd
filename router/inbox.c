/* Each kind of frame has one function. What concerns a user that is not ready waits in that user's lane as a
 * copy of the frame and is taken again from the start when its turn comes. */
#include "router/inbox.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "common/stream/stream.h"
#include "router/control.h"
#include "router/deliver.h"
#include "router/readdress.h"
#include "router/session_internal.h"
#include "router/task.h"

static struct stat_counter malformed =
    STAT_COUNTER("jackdaw_router_frames_malformed_total", "Frames dropped as malformed", NULL);
static struct stat_counter nameless =
    STAT_COUNTER("jackdaw_router_frames_nameless_total",
                 "Frames about a session dropped because they name none or one of another account", NULL);
static struct stat_counter not_mine = STAT_COUNTER(
    "jackdaw_router_not_mine_total", "Frames answered because another router owns the slot", NULL);
static struct stat_counter refused_open =
    STAT_COUNTER("jackdaw_router_sessions_refused_total", "Sessions refused", NULL);
static struct stat_counter in_stanzas =
    STAT_COUNTER("jackdaw_router_stanzas_in_total", "Stanzas from clients", NULL);
static struct stat_counter resent = STAT_COUNTER(
    "jackdaw_router_stanzas_resent_total", "Stanzas from clients that were in work or handled already", NULL);

static struct stat_counter misrouted =
    STAT_COUNTER("jackdaw_router_dropped_total", "Stanzas dropped, by rule", "rule=\"misrouted\"");

void inbox_register_stats(void)
{
    stat_register(&misrouted.meta);
    stat_register(&malformed.meta);
    stat_register(&nameless.meta);
    stat_register(&not_mine.meta);
    stat_register(&refused_open.meta);
    stat_register(&in_stanzas.meta);
    stat_register(&resent.meta);
}

/* Who sent the frame that is being taken. */
struct sender {
    const char *node;
    uint64_t incarnation;
};

/* ---- waiting for a user ---- */

struct replay {
    struct core *core;
    struct rcbuf *frame;
    uint64_t incarnation;
    uint64_t sid; /* in core.syncing, 0 = not */
    char node[64];
};

static void answer_not_mine(struct core *c, const struct wire_frame *f, const char *node)
{
    stat_add(&not_mine, 1);
    if (f->kind == WIRE_ROUTE) {
        route_refuse(c, node, f->slot, f->token);
        return;
    }
    struct wire_frame answer = {.kind = WIRE_NOT_MINE,
                                .slot = f->slot,
                                .epoch = c->epoch,
                                .num = f->kind,
                                .sid = f->sid,
                                .n = f->n,
                                .token = f->token};
    c->out.send(c->out.ctx, node, &answer);
}

static void pass_on_waiting(struct core *c, const struct wire_frame *f);

static void replay_frame(struct user *u, void *ctx, bool gone)
{
    struct replay *r = ctx;
    struct core *c = r->core;
    struct wire_frame f;
    if (r->sid != 0 && idmap_get(&c->syncing, r->sid) == u)
        idmap_del(&c->syncing, r->sid);
    if (gone && wire_decode(rcbuf_span(r->frame), &f)) {
        if (f.kind == WIRE_ROUTE && f.targets.p != NULL)
            pass_on_waiting(c, &f);
        else
            answer_not_mine(c, &f, r->node);
    } else if (!gone) {
        struct user *outer = c->replaying;
        c->replaying = u;
        inbox_frame(c, r->node, r->incarnation, rcbuf_span(r->frame));
        c->replaying = outer;
    }
    rcbuf_unref(r->frame);
    free(r);
}

/* True when the user can be worked on now; else the frame waits (or is answered, u NULL). */
static bool ready(struct core *c, struct user *u, const struct wire_frame *f, struct span frame,
                  struct sender from)
{
    if (u == NULL) {
        answer_not_mine(c, f, from.node);
        return false;
    }
    if (u->state == USER_READY && (c->replaying == u || (u->blocks == 0 && list_empty(&u->lane))))
        return true;
    struct replay *r = xcalloc(1, sizeof *r);
    r->core = c;
    r->frame = rcbuf_new(frame.p, frame.n);
    r->incarnation = from.incarnation;
    snprintf(r->node, sizeof r->node, "%s", from.node);
    if (f->kind == WIRE_SYNC || f->kind == WIRE_OPEN || f->kind == WIRE_RESUME) {
        r->sid = f->sid;
        idmap_put(&c->syncing, f->sid, u);
    }
    user_when_ready(u, replay_frame, r);
    return false;
}

/* ---- frames of connection managers ---- */

struct opening {
    struct core *core;
    uint64_t sid;
    struct wire_frame question; /* of it only what answer_not_mine needs */
    char node[64];
};

static void opened(void *ctx, enum store_result result)
{
    struct opening *o = ctx;
    struct session *s = session_find(o->core, o->sid);
    if (s != NULL && result == STORE_OK) {
        struct wire_frame f = {.kind = WIRE_OPENED, .to = span_of(s->full), .question = o->question.token};
        session_frame(s, &f);
    } else if (result == STORE_FENCED) { /* another owner must be asked, or this one again */
        answer_not_mine(o->core, &o->question, o->node);
    }
    free(o);
}

static void on_open(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    struct user *u = user_get(c, f->from);
    enum stanza_error error = STANZA_E_NOT_AUTHORIZED;
    if (!ready(c, u, f, frame, from))
        return;
    struct session *s = session_find(c, f->sid);
    if (s != NULL && s->user != u) {
        stat_add(&nameless, 1);
        return;
    }
    /* Opened at a router that died before it could say so, or here, and the answer met a newer question: what
     * was delivered behind it has been dropped as well. */
    if (s != NULL && (s->restored || f->token > s->attached))
        session_sync(u, f, from.node, from.incarnation);
    if (s == NULL && u->exists)
        s = session_open(u, f->sid, f->name, from.node, from.incarnation, f->token, &error);
    if (s == NULL) {
        stat_add(&refused_open, 1);
        log_info("inbox", "session refused jid=%s error=%s", u->bare, stanza_error_name(error));
        struct wire_frame refused = {.kind = WIRE_REFUSED,
                                     .sid = f->sid,
                                     .question = f->token,
                                     .num = error,
                                     .slot = u->slot,
                                     .epoch = c->epoch};
        c->out.send(c->out.ctx, from.node, &refused);
        return;
    }
    struct opening *o = xcalloc(1, sizeof *o);
    *o = (struct opening){.core = c,
                          .sid = f->sid,
                          .question = {.kind = f->kind, .slot = f->slot, .sid = f->sid, .token = f->token}};
    snprintf(o->node, sizeof o->node, "%s", from.node);
    user_after_commit(u, opened, o);
}

static void refused_stanza(struct session *s, const struct wire_frame *f)
{
    struct buf out = {0};
    if (stanza_may_refuse(&f->stanza)) {
        stanza_add_error(&out, &f->stanza, span_of(s->user->bare), (enum stanza_error)(f->num - 1), NULL);
        deliver_to_session(s, buf_span(&out));
        buf_free(&out);
    }
    session_work_end(s->user->core, s->sid, f->n);
}

static void on_stanza(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    struct session *s = session_find(c, f->sid);
    struct user *u = s != NULL ? s->user : idmap_get(&c->syncing, f->sid);
    if (u == NULL) {
        answer_not_mine(c, f, from.node);
        return;
    }
    if (!ready(c, u, f, frame, from))
        return;
    s = session_find(c, f->sid);
    if (s == NULL || !session_is_with(s, f->session, from.incarnation) || f->n == 0 ||
        f->num > STANZA_E_COUNT || s->restored)
        return; /* the session has ended, or another connection has it now, or its SYNC was too old */
    stat_add(&in_stanzas, 1);
    if (f->n <= s->in_taken) {
        stat_add(&resent, 1);
        if (f->n <= s->in_handled && list_empty(&s->dirty))
            list_add(&c->dirty_handled, &s->dirty);
        return;
    }
    if (f->n != s->in_taken + 1) {
        log_warn("inbox", "gap in a session's numbers, ending it jid=%s n=%llu expected=%llu", s->full,
                 (unsigned long long)f->n, (unsigned long long)s->in_taken + 1);
        session_kill(s, STREAM_E_INTERNAL_SERVER_ERROR, "stanza numbers do not follow");
        return;
    }
    s->in_taken = f->n;
    s->last_active_wall_ms = MAX(s->last_active_wall_ms, f->at_ms);
    session_work_begin(s, f->n);
    if (f->num > 0) {
        refused_stanza(s, f);
        return;
    }
    struct task t = {.core = c,
                     .user = u,
                     .sid = s->sid,
                     .sent = true,
                     .again = (f->flags & WIRE_AGAIN) != 0,
                     .stanza = f->stanza,
                     .origin = {f->sid, f->n, f->at_ms, {f->trace[0], f->trace[1]}}};
    t.stanza.from = s->jid;
    task_run(&t);
}

static void on_acked(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    struct span pairs = f->pairs, connections = f->connections;
    uint64_t sid, n;
    (void)frame;
    while (wire_pair_next(&pairs, &sid, &n)) {
        uint64_t connection = wire_connection_next(&connections);
        struct session *s = session_find(c, sid);
        struct user *u = s != NULL ? s->user : idmap_get(&c->syncing, sid);
        if (s != NULL && u->blocks == 0 && !s->restored) {
            if (session_is_with(s, connection, from.incarnation))
                session_acked(s, n);
        } else if (u != NULL) { /* its session is being loaded: as a frame of its own behind the SYNC */
            struct buf one = {0}, list = {0};
            wire_pair_add(&list, sid, n);
            struct wire_frame single = {.kind = WIRE_ACKED,
                                        .pairs = buf_span(&list),
                                        .connections = span_make(&connection, sizeof connection)};
            wire_add(&one, &single);
            if (ready(c, u, &single, buf_span(&one), from) && s != NULL && !s->restored &&
                session_is_with(s, connection, from.incarnation))
                session_acked(s, n);
            buf_free(&one);
            buf_free(&list);
        }
    }
}

/* ENABLE, FLOW, CLOSED: about one session. The first two touch outbound numbers, so they wait for open
 * commits. */

struct session_op {
    struct core *core;
    struct user *user;
    uint64_t sid;
    uint64_t n;
    uint64_t num;
};

static void enable_done(void *ctx, enum store_result result)
{
    struct session_op *op = ctx;
    struct session *s = session_find(op->core, op->sid);
    if (s != NULL && result != STORE_FENCED)
        session_enabled(s);
    user_unblock(op->user);
    free(op);
}

/* Numbers that are given and wait for a commit belong before <enabled/>. A second ENABLE means that the
 * answer to the first was lost on its way: what was said since is not counted. */
static void enable_now(void *ctx, enum store_result result)
{
    struct session_op *op = ctx;
    struct session *s = session_find(op->core, op->sid);
    if (s != NULL && result != STORE_FENCED && user_commit_pending(op->user)) {
        user_after_commit(op->user, enable_now, op);
        return;
    }
    if (s != NULL && result != STORE_FENCED)
        session_enable(s, op->n, (unsigned)op->num);
    user_after_commit(op->user, enable_done, op);
}

static void on_session(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    struct session *s = session_find(c, f->sid);
    struct user *u = s != NULL ? s->user : idmap_get(&c->syncing, f->sid);
    if (u == NULL || !ready(c, u, f, frame, from))
        return;
    s = session_find(c, f->sid);
    if (s == NULL || !session_is_with(s, f->session, from.incarnation))
        return; /* of a connection before, or of an answer that met nobody: it has been resumed since */
    if (f->kind == WIRE_FLOW) {
        session_set_held(s, f->num != 0);
    } else if (f->kind == WIRE_CLOSED) {
        if (f->num == WIRE_CLOSE_LOST)
            session_lost(s);
        else
            session_close(s);
    } else {
        struct session_op *op = xcalloc(1, sizeof *op);
        *op = (struct session_op){c, u, f->sid, f->n, f->num};
        user_block(u); /* what the session sends behind it comes after it */
        user_after_commit(u, enable_now, op);
    }
}

/* RESUME and SYNC send again what is unacknowledged: what waits for a commit must have been sent before. */
struct kept_frame {
    struct core *core;
    struct user *user;
    struct rcbuf *frame;
    uint64_t incarnation;
    char node[64];
};

static void take_over_now(void *ctx, enum store_result result)
{
    struct kept_frame *k = ctx;
    struct wire_frame f;
    CHECK(wire_decode(rcbuf_span(k->frame), &f)); /* inbox_frame has, too */
    if (result == STORE_FENCED)
        answer_not_mine(k->core, &f, k->node);
    else if (f.kind == WIRE_RESUME)
        session_resume(k->user, &f, k->node, k->incarnation);
    else
        session_sync(k->user, &f, k->node, k->incarnation);
    rcbuf_unref(k->frame);
    user_unblock(k->user);
    free(k);
}

static void on_take_over(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    struct jid jid;
    if (!jid_split(f->from, &jid))
        return;
    struct user *u = user_get(c, jid_bare(&jid));
    if (!ready(c, u, f, frame, from))
        return;
    struct kept_frame *k = xcalloc(1, sizeof *k);
    k->core = c;
    k->user = u;
    k->frame = rcbuf_new(frame.p, frame.n);
    k->incarnation = from.incarnation;
    snprintf(k->node, sizeof k->node, "%s", from.node);
    user_block(u);
    user_after_commit(u, take_over_now, k);
}

/* ---- frames of routers and gateways ---- */

/* Sent, or kept for a link, by a router that has lost the stanza's sender to another one since: the new owner
 * may have said more. */
static bool is_stale(const struct core *c, const struct wire_frame *f, const char *node)
{
    const struct jid *from = &f->stanza.from;
    if ((f->flags & WIRE_PASSED_ON) != 0)
        return true;
    if (f->epoch > c->epoch || from->local_n == 0 || !core_is_local_domain(c, jid_domain(from)))
        return false;
    const char *owner = c->out.owner(c->out.ctx, c->out.slot(jid_bare(from)));
    return owner == NULL || strcmp(owner, node) != 0;
}

static void receive(struct core *c, struct user *u, const struct wire_frame *f, struct span target,
                    struct sender from, uint64_t token)
{
    struct task t = {.core = c,
                     .user = u,
                     .again = (f->flags & WIRE_AGAIN) != 0,
                     .broadcast = (f->flags & WIRE_BROADCAST) != 0,
                     .stale = f->stanza.kind == STANZA_PRESENCE && is_stale(c, f, from.node),
                     .stanza = f->stanza,
                     .target = target,
                     .token = token,
                     .origin = {f->sid, f->n, f->at_ms, {f->trace[0], f->trace[1]}}};
    core_copy_node(t.node, from.node);
    task_run(&t);
}

/* A target of a fan-out that has moved since the origin looked. Presence that was sent on could come behind
 * what the origin says next, straight to the new owner: the target asks for it instead. */
static void pass_on(struct core *c, const struct wire_frame *f, struct span target)
{
    bool available = f->stanza.kind == STANZA_PRESENCE && f->stanza.type == STANZA_NONE;
    if (!available)
        route_fanout(c, &f->stanza, &target, 1, NULL, f->flags | WIRE_PASSED_ON);
    else
        presence_route(c, target, jid_bare(&f->stanza.from), (struct span){NULL, 0}, "probe", NULL);
}

/* A target of a fan-out that has waited here for its user, who turns out to be another router's. The origin
 * has forgotten it, and the new owner may have had the user all the time: nobody else would tell. */
static void pass_on_waiting(struct core *c, const struct wire_frame *f)
{
    struct span targets = f->targets;
    struct wire_target t;
    while (c->acting && wire_target_next(&targets, &t))
        pass_on(c, f, t.to);
}

/* A target of a fan-out whose user is not ready waits as a fan-out of its own. */
static void receive_target(struct core *c, const struct wire_frame *f, struct span target, struct sender from)
{
    struct user *u = user_get(c, target);
    if (u == NULL) {
        pass_on(c, f, target);
        return;
    }
    if (u->state == USER_READY && u->blocks == 0 && list_empty(&u->lane)) {
        receive(c, u, f, target, from, 0);
        return;
    }
    struct buf one = {0}, list = {0};
    struct wire_target t = {.to = target};
    struct wire_frame single = *f;
    wire_target_add(&list, &t);
    single.targets = buf_span(&list);
    single.token = 0;
    wire_add(&one, &single);
    ready(c, u, &single, buf_span(&one), from);
    buf_free(&one);
    buf_free(&list);
}

/* Another process has sent what no router can deliver: it must not keep it for ever. */
static void refuse_route(struct core *c, const struct wire_frame *f, struct sender from)
{
    stat_add(&misrouted, 1);
    log_warn("inbox",
             "a stanza without a sender or for no domain of ours was dropped node=%s to=%.*s: do all "
             "processes have the "
             "same cluster.domains?",
             from.node, SPAN_FMT(jid_full(&f->stanza.to)));
    route_done(c, from.node, f->token, WIRE_DONE_TAKEN);
}

static void on_route(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    if (!f->has_stanza || f->stanza.from.domain_n == 0) {
        refuse_route(c, f, from);
        return;
    }
    if (f->targets.p != NULL) {
        struct span targets = f->targets;
        struct wire_target t;
        bool bundle = c->bundle_raw.p == NULL;
        bool tells = f->stanza.kind == STANZA_PRESENCE &&
                     (f->stanza.type == STANZA_NONE || f->stanza.type == STANZA_UNAVAILABLE);
        if (bundle)
            session_bundle_begin(c, f->stanza.raw);
        while (wire_target_next(&targets, &t)) {
            struct jid jid;
            if (jid_split(t.to, &jid) && jid.resource_n == 0 && core_is_local_domain(c, jid_domain(&jid))) {
                if (c->replaying != NULL && span_eq(t.to, span_of(c->replaying->bare)))
                    receive(c, c->replaying, f, t.to, from, 0);
                else
                    receive_target(c, f, t.to, from);
                if (tells && route_is_refused(c, from.node, c->out.slot(t.to)))
                    presence_route(c, t.to, jid_bare(&f->stanza.from), (struct span){NULL, 0}, "probe", NULL);
            }
        }
        if (bundle)
            session_bundle_end(c);
        /* Fan-outs are presence: what waits in memory here is told again by a takeover, so the origin may
         * forget it. */
        route_done(c, from.node, f->token, WIRE_DONE_TAKEN);
        return;
    }
    if (f->stanza.to.domain_n == 0 || !core_is_local_domain(c, jid_domain(&f->stanza.to))) {
        refuse_route(c, f, from);
        return;
    }
    if (f->stanza.to.local_n == 0) {
        receive(c, NULL, f, jid_domain(&f->stanza.to), from, f->token);
        return;
    }
    if (route_refused_too(c, from.node, f, c->replaying != NULL))
        return;
    struct user *u = user_get(c, jid_bare(&f->stanza.to));
    if (ready(c, u, f, frame, from))
        receive(c, u, f, jid_bare(&f->stanza.to), from, f->token);
}

/* ---- the table ---- */

static void on_done(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    (void)frame;
    (void)from;
    route_on_done(c, f->pairs);
}

static void on_control(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    (void)frame;
    control_frame(c, f, from.node);
}

static void on_components(struct core *c, const struct wire_frame *f, struct span frame, struct sender from)
{
    (void)frame;
    components_at(c, from.node, from.incarnation, f->text);
}

typedef void frame_fn(struct core *c, const struct wire_frame *f, struct span frame, struct sender from);

static frame_fn *const handlers[WIRE_KIND_COUNT] = {
    [WIRE_OPEN] = on_open,        [WIRE_STANZA] = on_stanza,   [WIRE_ACKED] = on_acked,
    [WIRE_FLOW] = on_session,     [WIRE_ENABLE] = on_session,  [WIRE_CLOSED] = on_session,
    [WIRE_RESUME] = on_take_over, [WIRE_SYNC] = on_take_over,  [WIRE_ROUTE] = on_route,
    [WIRE_DONE] = on_done,        [WIRE_CONTROL] = on_control, [WIRE_COMPONENTS] = on_components,
};

/* ---- what cannot be read ---- */

/* Who sent it keeps it until it is answered, and behind it everything else: so its number is finished, and
 * whoever made the stanza hears of it as far as the stanza itself can be read. */
static void answer_malformed(struct core *c, struct wire_frame *f, struct span frame, struct sender from)
{
    struct stanza s;
    bool good = f->stanza.raw.p != NULL && stanza_index(c->parser, f->stanza.raw, &s);
    if (f->kind == WIRE_ROUTE) {
        if (good)
            route_error(c, &s, jid_bare(&s.to), STANZA_E_BAD_REQUEST, "it could not be forwarded");
        route_done(c, from.node, f->token, WIRE_DONE_TAKEN);
    } else if (f->kind == WIRE_STANZA && f->sid != 0) {
        if (good)
            f->stanza = s;
        else
            f->stanza.type = STANZA_ERROR; /* no answer can be made */
        f->has_stanza = true;
        f->num = 1 + STANZA_E_BAD_REQUEST;
        on_stanza(c, f, frame, from);
    }
}

static void take_malformed(struct core *c, struct wire_frame *f, struct span frame, struct sender from)
{
    stat_add(&malformed, 1);
    log_warn(
        "inbox",
        "a malformed frame was refused: do all processes run the same version? node=%s kind=%s bytes=%zu",
        from.node, wire_kind_name(f->kind), frame.n);
    wire_salvage(frame, f);
    answer_malformed(c, f, frame, from);
}

/* Frames that begin with a session's id. 0 is nobody's, and what is kept by id could not be found again. */
static bool lacks_session(const struct wire_frame *f)
{
    return f->sid == 0 && (f->kind == WIRE_OPEN || f->kind == WIRE_STANZA || f->kind == WIRE_FLOW ||
                           f->kind == WIRE_ENABLE || f->kind == WIRE_CLOSED || f->kind == WIRE_RESUME ||
                           f->kind == WIRE_SYNC);
}

void inbox_frame(struct core *c, const char *node, uint64_t incarnation, struct span frame)
{
    struct wire_frame f;
    if (!wire_decode(frame, &f)) {
        take_malformed(c, &f, frame, (struct sender){node, incarnation});
        return;
    }
    if (lacks_session(&f) || (f.kind == WIRE_STANZA && !f.has_stanza)) {
        stat_add(&nameless, 1);
        log_warn("inbox", "a frame without a session or stanza was dropped kind=%s node=%s",
                 wire_kind_name(f.kind), node);
        return;
    }
    if (f.epoch > c->epoch)
        c->out.newer_epoch(c->out.ctx, f.epoch);
    if (f.kind < WIRE_KIND_COUNT && handlers[f.kind] != NULL)
        handlers[f.kind](c, &f, frame, (struct sender){node, incarnation});
    else if (f.kind != WIRE_EPOCH)
        log_debug("inbox", "frame of a kind that is not for routers kind=%s node=%s", wire_kind_name(f.kind),
                  node);
}
