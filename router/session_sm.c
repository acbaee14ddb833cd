/* Stream management (XEP-0198) at the home shard, and sessions that come from a dead router: ENABLE, RESUME,
 * SYNC. */
#include <stdio.h>
#include <stdlib.h>

#include "common/stats/stats.h"
#include "common/stream/stream.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/mailbox.h"
#include "router/session_internal.h"

#define FRESH_MS   1000 /* a question that has waited so long may be an old one */
#define RESEND_MAX 1024 /* more than a session can have unacknowledged with bytes (session.c) */

static struct stat_counter resumed =
    STAT_COUNTER("jackdaw_router_sessions_resumed_total", "Sessions resumed", NULL);
static struct stat_counter taken_over =
    STAT_COUNTER("jackdaw_router_sessions_taken_over_total", "Sessions taken over from another router", NULL);

static struct stat_counter former = STAT_COUNTER(
    "jackdaw_router_former_connections_total",
    "Connections that went on with a session after another one had resumed it, told to close", NULL);

static struct stat_counter old_questions = STAT_COUNTER(
    "jackdaw_router_old_resumptions_total",
    "Resumptions refused because they were asked long ago and another connection may have come since", NULL);

void session_sm_register_stats(void)
{
    stat_register(&old_questions.meta);
    stat_register(&former.meta);
    stat_register(&resumed.meta);
    stat_register(&taken_over.meta);
}

void session_enable(struct session *s, uint64_t n, unsigned wanted_s)
{
    s->sm = true;
    s->resume_s = (uint32_t)MIN((int64_t)wanted_s, s->user->core->conf->c2s_resume_timeout_s);
    s->sm_in_base = MIN(n, s->in_taken);
    s->sm_out_base = s->out_sent;
    session_save(s);
}

void session_enabled(struct session *s)
{
    char id[24];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)s->sid);
    struct wire_frame f = {.kind = WIRE_ENABLED,
                           .session = s->asked_as,
                           .name = span_of(id),
                           .num = s->resume_s,
                           .n = s->sm_out_base};
    session_frame(s, &f);
}

/* Something unacknowledged that comes from the mailbox now: its bytes are not here, or those of an older one
 * are not, which it must not overtake. */
static bool is_left_to_mailbox(const struct unacked *x, bool behind)
{
    return x->entry != NULL && (x->raw == NULL || (behind && x->entry->stored));
}

static void leave_to_mailbox(struct session *s, struct unacked *x)
{
    session_unkeep(s, x->raw);
    if (x->entry->stored)
        mailbox_want(x->entry, s->sid);
    deliver_entry_end(x->entry, false);
}

/* Numbers given anew are in the store before anybody sees them: a successor that knew only the old ones would
 * take what the client acknowledges for something else. */
struct again {
    struct core *core;
    struct reserved place;
    struct rcbuf *raw;
    bool confirm;
};

static void send_again(void *ctx, enum store_result result)
{
    struct again *a = ctx;
    if (result == STORE_OK)
        session_send_reserved(a->core, &a->place, rcbuf_span(a->raw), (struct span){NULL, 0}, a->confirm);
    rcbuf_unref(a->raw);
    free(a);
}

/* From the unacknowledged one at place `first` on; the batch with the session's record is open. */
static void send_again_from(struct session *s, uint32_t first)
{
    for (uint32_t i = first; i < s->unacked_count; i++) {
        const struct unacked *x = unacked_at(s, i);
        if (x->raw == NULL)
            continue;
        struct again *a = xcalloc(1, sizeof *a);
        *a = (struct again){s->user->core, session_place(s, x->n), rcbuf_ref(x->raw),
                            x->entry != NULL || x->work != 0};
        user_after_commit(s->user, send_again, a);
    }
}

/* Everything unacknowledged goes out again with fresh numbers behind what the client has: the numbers of
 * stanzas that cannot be repeated (dropped volatile ones) would be gaps in the client's count. */
static void resend_unacked(struct session *s)
{
    uint32_t count = s->unacked_count;
    struct unacked *old = s->unacked;
    uint32_t at = s->unacked_at, cap = s->unacked_cap;
    s->unacked = NULL;
    s->unacked_at = s->unacked_count = s->unacked_cap = 0;
    s->out_sent = s->out_acked;
    session_number_anew(s);
    bool from_mailbox = false;
    for (uint32_t i = 0; i < count; i++) {
        struct unacked x = old[(at + i) % cap];
        if (is_left_to_mailbox(&x, from_mailbox)) {
            leave_to_mailbox(s, &x);
            from_mailbox = true;
            continue;
        }
        if (x.raw == NULL)
            continue;
        x.n = ++s->out_sent;
        *session_unacked_push(s) = x;
    }
    free(old);
    session_save(s);
    send_again_from(s, 0);
    if (from_mailbox)
        deliver_catch_up_again(s);
}

/* ---- sessions that were given up: a late <resume/> learns how much of what it sent was handled (XEP-0198
 * §5). STORE_META "timed_out" is "SID:H SID:H …" in hexadecimal, newest first. */

static uint32_t handled_h(const struct session *s)
{
    return (uint32_t)(s->in_handled - s->sm_in_base);
}

void session_note_timed_out(struct session *s)
{
    struct user *u = s->user;
    if (!s->sm || s->resume_s == 0)
        return;
    memmove(&u->timed_out[1], &u->timed_out[0], sizeof u->timed_out - sizeof u->timed_out[0]);
    u->timed_out[0] = (struct user_timed_out){.sid = s->sid, .h = handled_h(s)};
    struct buf out = {0};
    for (unsigned i = 0; i < USER_TIMED_OUT_MAX && u->timed_out[i].sid != 0; i++)
        buf_addf(&out, "%s%llx:%x", i > 0 ? " " : "", (unsigned long long)u->timed_out[i].sid,
                 u->timed_out[i].h);
    store_put(user_batch(u), STORE_META, SPAN("timed_out"), buf_span(&out));
    buf_free(&out);
}

void session_timed_out_load(struct user *u, struct span text)
{
    char line[USER_TIMED_OUT_MAX * 32];
    snprintf(line, sizeof line, "%.*s", SPAN_FMT(text));
    const char *at = line;
    for (unsigned i = 0; i < USER_TIMED_OUT_MAX; i++) {
        unsigned long long sid;
        unsigned h;
        int n = 0;
        if (sscanf(at, "%llx:%x%n", &sid, &h, &n) != 2)
            break;
        u->timed_out[i] = (struct user_timed_out){.sid = sid, .h = h};
        at += n;
    }
}

static const struct user_timed_out *find_timed_out(const struct user *u, struct span sm_id)
{
    for (unsigned i = 0; i < USER_TIMED_OUT_MAX && u->timed_out[i].sid != 0; i++) {
        char id[24];
        snprintf(id, sizeof id, "%016llx", (unsigned long long)u->timed_out[i].sid);
        if (span_is(sm_id, id))
            return &u->timed_out[i];
    }
    return NULL;
}

static void resume_failed(struct user *u, const struct wire_frame *asked, const char *node, const uint32_t *h)
{
    struct wire_frame f = {.kind = WIRE_RESUME_FAILED,
                           .sid = asked->sid,
                           .question = asked->token,
                           .num = STANZA_E_ITEM_NOT_FOUND,
                           .slot = u->slot,
                           .epoch = u->core->epoch};
    if (h != NULL) {
        f.flags = WIRE_HAS_H;
        f.n = *h;
    }
    u->core->out.send(u->core->out.ctx, node, &f);
}

/* A resumption whose numbers are on their way to the store. */
struct resuming {
    struct core *core;
    uint64_t sid;
    uint64_t fresh_sid;
    uint64_t handled;
    uint64_t acked;
    uint64_t token;
    uint32_t numbering;
    char node[64];
};

/* A connection that has not (or no longer) what it says. */
static void kill_connection(struct user *u, const char *node, uint64_t sid, uint64_t connection,
                            enum stream_error error, struct span text)
{
    struct wire_frame f = {.kind = WIRE_KILL,
                           .sid = sid,
                           .session = connection,
                           .num = error,
                           .text = text,
                           .slot = u->slot,
                           .epoch = u->core->epoch};
    u->core->out.send(u->core->out.ctx, node, &f);
}

static void tell_resumed(void *ctx, enum store_result result)
{
    struct resuming *r = ctx;
    struct core *c = r->core;
    struct session *s = session_find(c, r->sid);
    if (result == STORE_FENCED || s == NULL) {
        struct wire_frame f = {.kind = WIRE_NOT_MINE,
                               .slot = 0xffff,
                               .epoch = c->epoch,
                               .num = WIRE_RESUME,
                               .sid = r->fresh_sid,
                               .token = r->token};
        c->out.send(c->out.ctx, r->node, &f);
    } else if (s->asked_as != r->fresh_sid) {
        /* Another connection has asked behind it. This one must not ask the next router again. */
        kill_connection(s->user, r->node, r->fresh_sid, r->fresh_sid, STREAM_E_CONFLICT,
                        SPAN("resumed on another connection"));
    } else if (s->numbering == r->numbering) { /* else it has asked again meanwhile */
        struct wire_frame f = {.kind = WIRE_RESUMED,
                               .sid = r->fresh_sid,
                               .session = s->sid,
                               .to = span_of(s->full),
                               .n = r->handled,
                               .num = (uint32_t)(r->handled - s->sm_in_base),
                               .token = r->acked,
                               .question = r->token};
        session_frame(s, &f);
    }
    free(r);
}

static int64_t asked_at(const struct core *c, const struct wire_frame *f)
{
    return (int64_t)c->now_ms - (int64_t)MIN(f->age_ms, INT32_MAX);
}

/* A question may have waited while its client went elsewhere and was answered there; what it says of the
 * client is old then, and numbers that were given anew by it would stand for what the client has not seen.
 * True when it has been refused, or put off until that can be told: whoever is really there asks anew. */
static bool is_old_question(struct user *u, const struct session *s, const struct wire_frame *f,
                            const char *node)
{
    struct core *c = u->core;
    if (s->asked_as == f->sid && f->token < s->attached) {
        stat_add(&old_questions, 1); /* it has waited; asked again behind it, it was taken */
        return true;
    }
    if (s->asked_as == f->sid || s->asked_as == 0)
        return false;
    bool late = (f->flags & WIRE_AGAIN) != 0 || f->age_ms > FRESH_MS;
    if (s->asked_known ? asked_at(c, f) >= s->asked_ms : !late)
        return false;
    if (s->state == SESSION_UNSYNCED) {
        struct wire_frame later = {.kind = WIRE_NOT_MINE,
                                   .slot = u->slot,
                                   .epoch = c->epoch,
                                   .num = WIRE_RESUME,
                                   .sid = f->sid,
                                   .token = f->token};
        c->out.send(c->out.ctx, node, &later);
        return true;
    }
    stat_add(&old_questions, 1);
    kill_connection(u, node, f->sid, f->sid, STREAM_E_SYSTEM_SHUTDOWN,
                    SPAN("a router has changed, please connect and resume again"));
    return true;
}

void session_resume(struct user *u, const struct wire_frame *f, const char *node, uint64_t node_incarnation)
{
    uint64_t fresh_sid = f->sid, token = f->token;
    uint32_t h = (uint32_t)f->num;
    struct span sm_id = f->name;
    struct core *c = u->core;
    struct session *s = NULL;
    LIST_EACH (it, &u->sessions) {
        struct session *candidate = LIST_ENTRY(it, struct session, of_user);
        char id[24];
        snprintf(id, sizeof id, "%016llx", (unsigned long long)candidate->sid);
        if (candidate->sm && span_is(sm_id, id))
            s = candidate;
    }
    if (s == NULL || s->resume_s == 0) {
        const struct user_timed_out *old = find_timed_out(u, sm_id);
        uint32_t of_session = s != NULL ? handled_h(s) : 0;
        resume_failed(u, f, node, s != NULL ? &of_session : old != NULL ? &old->h : NULL);
        return;
    }
    if (is_old_question(u, s, f, node))
        return;
    uint32_t acked_h = (uint32_t)(s->out_acked - s->sm_out_base);
    uint64_t acked = s->out_acked + (uint32_t)(h - acked_h);
    if ((int32_t)(h - acked_h) < 0) {
        /* The client has acknowledged more since: an old question, of a connection that was left. */
        uint32_t of_session = handled_h(s);
        resume_failed(u, f, node, &of_session);
        return;
    }
    if (acked > s->out_sent && !s->restored) {
        kill_connection(u, node, fresh_sid, fresh_sid, STREAM_E_UNDEFINED_CONDITION,
                        SPAN("h is higher than what was sent"));
        return;
    }
    if (s->state == SESSION_LIVE && s->asked_as != fresh_sid)
        kill_connection(u, s->node, s->sid, s->asked_as, STREAM_E_CONFLICT,
                        SPAN("resumed on another connection"));
    timer_clear(&c->timers, &s->timeout);
    snprintf(s->node, sizeof s->node, "%s", node);
    s->node_incarnation = node_incarnation;
    s->asked_as = fresh_sid;
    s->asked_ms = asked_at(c, f);
    s->asked_known = true;
    s->attached = token;
    s->held = false;
    s->in_taken = s->restored ? s->in_handled : s->in_taken;
    if (s->restored)
        s->out_sent = MAX(s->out_sent, acked);
    session_enter_state(s, SESSION_LIVE);
    stat_add(&resumed, 1);
    session_acked(s, acked);
    bool restored = s->restored;
    s->restored = false;
    session_save(s);
    struct resuming *r = xcalloc(1, sizeof *r);
    *r = (struct resuming){c, s->sid, fresh_sid, s->in_handled, acked, token, s->numbering + 1};
    snprintf(r->node, sizeof r->node, "%s", node);
    user_after_commit(u, tell_resumed, r); /* before what is sent again */
    resend_unacked(s);
    if (restored) {
        s->cursor = u->floor;
        deliver_catch_up(s);
    }
    session_save(s);
    feature_event(restored ? EV_SESSION_SYNCED : EV_SESSION_RESUMED, u, s);
}

/* What the client's connection manager does not have goes out again, numbered from there on. With stream
 * management the bytes are here; else messages come from the mailbox, and presence is told anew. */
static void send_again_after(struct session *s, uint64_t had)
{
    bool behind = s->out_sent > had;
    struct unacked kept[RESEND_MAX];
    unsigned count = 0;
    bool behind_mailbox = false;
    uint32_t first = 0;
    while (first < s->unacked_count && unacked_at(s, first)->n <= had)
        first++;
    for (uint32_t i = first; i < s->unacked_count; i++) {
        struct unacked *x = unacked_at(s, i);
        if (is_left_to_mailbox(x, behind_mailbox || count == RESEND_MAX)) {
            leave_to_mailbox(s, x);
            behind_mailbox = true;
        } else if (x->raw != NULL && count < RESEND_MAX) {
            kept[count++] = *x;
        } else {
            session_unkeep(s, x->raw);
        }
    }
    s->unacked_count = first;
    s->out_sent = had;
    session_number_anew(s);
    for (unsigned i = 0; i < count; i++)
        *session_unacked_push(s) = (struct unacked){++s->out_sent, kept[i].entry, kept[i].raw, kept[i].work};
    bool from_mailbox = s->restored || behind_mailbox;
    session_save(s);
    send_again_from(s, first);
    if (s->restored || (behind && !s->sm)) {
        s->restored = false;
        feature_event(EV_SESSION_SYNCED, s->user, s);
    }
    if (from_mailbox)
        deliver_catch_up_again(s);
}

/* An OPEN that another owner has stored already: its client has had nothing of what was numbered there. */
static void begin_anew(struct session *s)
{
    while (s->unacked_count > 0) {
        struct unacked x = s->unacked[s->unacked_at];
        s->unacked_at = (s->unacked_at + 1) % s->unacked_cap;
        s->unacked_count--;
        if (x.entry != NULL)
            leave_to_mailbox(s, &x);
        else
            session_unkeep(s, x.raw);
    }
    s->out_sent = s->out_acked = 0;
    session_number_anew(s);
    session_save(s);
    deliver_catch_up_again(s);
}

void session_sync(struct user *u, const struct wire_frame *f, const char *node, uint64_t node_incarnation)
{
    struct session *s = session_find(u->core, f->sid);
    /* A connection manager that was taken for dead may still hold the stream. But one that has not noticed
     * yet that its client has resumed elsewhere, or on another of its connections, knows only numbers of
     * before. */
    bool elsewhere =
        s != NULL && (!session_is_with(s, f->session, node_incarnation) || strcmp(s->node, node) != 0);
    if (elsewhere && s->user == u) {
        stat_add(&former, 1);
        kill_connection(u, node, f->sid, f->session, STREAM_E_CONFLICT,
                        SPAN("resumed on another connection"));
        return;
    }
    if (s == NULL || s->user != u) {
        kill_connection(u, node, f->sid, f->session, STREAM_E_RESET,
                        SPAN("the session is not known any more, please log in again"));
        return;
    }
    /* It was long on its way, and the stream has been attached to another owner since: that one's numbers are
     * not the ones that it tells. */
    if (f->token < s->attached)
        return;
    s->attached = f->token;
    s->asked_as = f->session != 0 ? f->session : s->asked_as;
    s->asked_ms = asked_at(u->core, f);
    s->asked_known = true;
    timer_clear(&u->core->timers, &s->timeout);
    snprintf(s->node, sizeof s->node, "%s", node);
    s->node_incarnation = node_incarnation;
    s->held = (f->flags & WIRE_HELD) != 0;
    if (s->restored) {
        s->in_taken = s->in_handled = MAX(s->in_handled, f->n);
        stat_add(&taken_over, 1);
    }
    session_enter_state(s, SESSION_LIVE);
    list_del(&s->dirty);
    list_add(&u->core->dirty_handled, &s->dirty); /* say again what is handled */
    if (f->kind == WIRE_SYNC) {
        struct wire_frame synced = {.kind = WIRE_SYNCED, .token = f->token};
        session_frame(s, &synced);
        send_again_after(s, f->num);
    } else {
        s->restored = false;
        begin_anew(s);
    }
}
