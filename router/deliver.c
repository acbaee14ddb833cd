/* RFC 6121 §8.5 as code, and the two ways to a session: at once (volatile), or after the mailbox has it
 * (messages).
 *
 * A message: it gets an entry with the next id; every session that shall have it and has room gets its next
 * outbound number now; entry and numbers go to the store in this turn's batch; when that is committed the
 * bytes leave for the sessions and DONE for the origin. Volatile stanzas of the same user wait behind an open
 * commit, so that nothing overtakes. */
#include "router/deliver.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "router/contacts.h"
#include "router/feature.h"
#include "router/mailbox.h"
#include "router/session_internal.h"

#define NS_CHATSTATES "http://jabber.org/protocol/chatstates"
#define TARGETS_MAX   1024  /* limits.sessions_per_account goes up to 1000 */
#define LATE_MS       60000 /* how long after a full store a stanza may come that was refused then */

static struct stat_counter duplicates = STAT_COUNTER(
    "jackdaw_router_duplicates_total", "Stanzas that had been taken before, acknowledged again", NULL);
static struct stat_counter mailbox_full =
    STAT_COUNTER("jackdaw_router_mailbox_full_total", "Messages refused because the mailbox is full", NULL);
static struct stat_counter no_room = STAT_COUNTER("jackdaw_router_dropped_total", "Stanzas dropped, by rule",
                                                  "rule=\"no-room-for-a-slow-reader\"");
static struct stat_counter store_refused =
    STAT_COUNTER("jackdaw_router_store_refused_total",
                 "Messages not taken because Redis is full, once for every time", NULL);

void deliver_register_stats(void)
{
    stat_register(&duplicates.meta);
    stat_register(&mailbox_full.meta);
    stat_register(&store_refused.meta);
    stat_register(&no_room.meta);
    mailbox_register_stats();
}

/* ---- volatile delivery, in order behind open commits ---- */

struct later {
    struct core *core;
    struct reserved place;
    struct rcbuf *raw;
    struct span to; /* behind the raw bytes in the same buffer */
};

static void send_later(void *ctx, enum store_result result)
{
    struct later *l = ctx;
    if (result != STORE_FENCED)
        session_send_reserved(l->core, &l->place, span_make(l->raw->data, l->raw->n - l->to.n), l->to, false);
    rcbuf_unref(l->raw);
    free(l);
}

/* For what no mailbox keeps and nobody has asked for. False: it has no room and is left out; presence is
 * asked for again when there is. */
static bool has_place(struct session *s, struct span raw)
{
    if (session_may_take(s, raw.n))
        return true;
    if (raw.n > 1 && raw.p[1] == 'p')
        session_missed_presence(s);
    stat_add(&no_room, 1);
    return false;
}

static void send_volatile(struct session *s, struct span raw, struct span to)
{
    if (!user_commit_pending(s->user)) {
        session_send(s, raw, to, NULL);
        return;
    }
    struct later *l = xcalloc(1, sizeof *l);
    l->core = s->user->core;
    l->place = session_reserve(s, raw, to, NULL);
    l->raw = xmalloc(sizeof *l->raw + raw.n + to.n);
    l->raw->refs = 1;
    l->raw->n = raw.n + to.n;
    memcpy(l->raw->data, raw.p, raw.n);
    if (to.n > 0)
        memcpy(l->raw->data + raw.n, to.p, to.n);
    l->to = span_make(l->raw->data + raw.n, to.n);
    user_after_commit(s->user, send_later, l);
}

void deliver_to_session(struct session *s, struct span raw)
{
    send_volatile(s, raw, (struct span){NULL, 0});
}

void deliver_if_room(struct session *s, struct span raw)
{
    if (has_place(s, raw))
        send_volatile(s, raw, (struct span){NULL, 0});
}

void deliver_to_available(struct user *u, struct span raw, struct span to)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->available && has_place(s, raw))
            send_volatile(s, raw, to);
    }
}

void deliver_to_interested(struct user *u, struct span raw)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->interested)
            send_volatile(s, raw, span_of(s->full));
    }
    u->core->pushed = raw;
    feature_event(EV_ROSTER_CHANGED, u, NULL);
    u->core->pushed = (struct span){NULL, 0};
}

/* ---- which sessions ---- */

struct targets {
    struct session *sessions[TARGETS_MAX];
    unsigned count;
};

static void add_target(struct targets *t, struct session *s)
{
    if (t->count < TARGETS_MAX)
        t->sessions[t->count++] = s;
}

/* A detached session holds back at most that much of what others of its account have already. */
#define DETACHED_KEEPS_MAX 512

static void only_target(struct targets *t, struct session *s)
{
    t->sessions[0] = s;
    t->count = 1;
}

static bool takes_mail(const struct session *s)
{
    return s->available && s->priority >= 0;
}

/* The highest priority among the attached or the detached ones; -1 when there is none. */
static int highest_priority(const struct user *u, bool detached)
{
    int best = -1;
    LIST_EACH (it, &u->sessions) {
        const struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (takes_mail(s) && (s->state == SESSION_DETACHED) == detached)
            best = MAX(best, s->priority);
    }
    return best;
}

/* All of the highest priority (RFC 6121 §8.5.2.1.1). Whose stream is there comes first: nobody who is online
 * waits for a stream that may never come back. What goes to the others by their priority is kept for their
 * resumption as well (each session has a place of its own in its row, so none can get it twice), but with
 * somebody else to read it not without bound. */
static void add_most_available(struct targets *t, struct user *u)
{
    int attached = highest_priority(u, false);
    int detached = attached >= 0 ? attached : highest_priority(u, true);
    bool keeps = attached < 0 || u->entry_count < DETACHED_KEEPS_MAX;
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (!takes_mail(s))
            continue;
        bool best = s->state == SESSION_DETACHED ? keeps && s->priority >= detached : s->priority == attached;
        if (best)
            add_target(t, s);
    }
}

static void add_non_negative(struct targets *t, struct user *u)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (takes_mail(s))
            add_target(t, s);
    }
}

/* ---- messages ---- */

static bool has_hint(const struct stanza *s, const char *name)
{
    return stanza_child(s, name, NS_HINTS) != NULL;
}

/* Worth keeping: anything but typing notifications and the like, unless the sender says otherwise (XEP-0334).
 */
static bool is_durable(const struct stanza *s)
{
    if (has_hint(s, "no-store") || has_hint(s, "no-permanent-store"))
        return false;
    if (has_hint(s, "store"))
        return true;
    for (unsigned i = 0; i < s->child_count; i++) {
        const struct xml_child *child = &s->children[i];
        if (!span_is(child->ns, NS_CHATSTATES) && !span_is(child->ns, NS_HINTS) &&
            !span_is(child->name, "thread"))
            return true;
    }
    return s->child_count == 0;
}

/* A message on its way into the mailbox. */
struct delivery {
    struct core *core;
    struct user *user;
    struct store_id id; /* 0-0: a resend of another one */
    uint64_t sid;       /* the session that the stanza comes from, 0 = none */
    struct taken before;
    uint64_t token;
    char node[64];
    struct rcbuf *frame; /* the stanza as a frame, for an error */
    struct span raw;     /* in frame */
    unsigned count;
    struct reserved to[];
};

static void delivery_free(struct delivery *d)
{
    user_release(d->user);
    rcbuf_unref(d->frame);
    free(d);
}

static void answer(struct delivery *d, enum stanza_error error, const char *text)
{
    struct wire_frame f;
    if (wire_decode(rcbuf_span(d->frame), &f) && f.has_stanza)
        route_error(d->core, &f.stanza, span_of(d->user->bare), error, text);
}

static void transmit_all(struct delivery *d)
{
    for (unsigned i = 0; i < d->count; i++)
        session_send_reserved(d->core, &d->to[i], d->raw, (struct span){NULL, 0}, true);
}

/* The store has refused the entry: as if it had never come. Who sent it is told to try again, so that its
 * client's stanza stays unacknowledged; to whom nobody waits for, an error. */
static void take_back(struct delivery *d)
{
    mailbox_take_back(d->user, d->id, d->sid, d->before);
    stat_add(&store_refused, 1);
    if (d->token == 0)
        answer(d, STANZA_E_RESOURCE_CONSTRAINT, "the server's store is full");
}

static void refuse(struct delivery *d, enum store_result result)
{
    if (result == STORE_FULL)
        route_refuse_message(d->core, d->node, d->user->slot, d->token);
    else
        route_refuse(d->core, d->node, d->user->slot, d->token);
}

static void delivery_committed(void *ctx, enum store_result result)
{
    struct delivery *d = ctx;
    if (result == STORE_FULL)
        take_back(d);
    if (result == STORE_OK) {
        transmit_all(d);
        route_done(d->core, d->node, d->token, WIRE_DONE_TAKEN);
    } else {
        refuse(d, result);
    }
    delivery_free(d);
}

static void write_entry(struct task *t, struct entry *e, const struct buf *marks)
{
    char space[48];
    struct buf origin = {space, 0, sizeof space}; /* two numbers: never grows */
    if (t->origin.sid != 0) {
        buf_add_u64(&origin, t->origin.sid);
        buf_add_char(&origin, ':');
        buf_add_u64(&origin, t->origin.n);
    }
    struct store_entry record = {.id = e->id,
                                 .raw = t->stanza.raw,
                                 .origin = buf_span(&origin),
                                 .marks = buf_span(marks),
                                 .at_ms = t->origin.at_ms != 0 ? t->origin.at_ms : e->id.ms};
    store_append(user_batch(t->user), &record);
}

static struct rcbuf *keep_stanza(const struct task *t)
{
    struct wire_frame f;
    memset(&f, 0, offsetof(struct wire_frame, stanza));
    f.kind = WIRE_ROUTE;
    f.has_stanza = true;
    f.stanza = t->stanza;
    struct rcbuf *r = xmalloc(sizeof *r + wire_size(&f));
    r->refs = 1;
    r->n = wire_encode(&f, r->data);
    return r;
}

/* Puts the message into the mailbox for these sessions (none = offline). The task's DONE goes with it. */
static void enter_mailbox(struct task *t, const struct targets *targets)
{
    struct user *u = t->user;
    struct core *c = t->core;
    bool store = c->conf->delivery_durability != CONF_DURABILITY_MEMORY || targets->count == 0;
    for (unsigned i = 0; i < targets->count; i++)
        store |= !mailbox_takes_now(targets->sessions[i]) || targets->sessions[i]->state != SESSION_LIVE;
    struct entry *e = mailbox_append(u, store);
    struct delivery *d = xcalloc(1, sizeof *d + targets->count * sizeof d->to[0]);
    struct buf marks = {0};
    d->core = c;
    d->user = u;
    d->id = e->id;
    d->sid = t->origin.sid;
    d->token = t->token;
    core_copy_node(d->node, t->node);
    user_hold(u);
    for (unsigned i = 0; i < targets->count; i++) {
        struct session *s = targets->sessions[i];
        uint64_t n = 0;
        if (mailbox_takes_now(s)) {
            d->to[d->count++] = session_reserve(s, t->stanza.raw, (struct span){NULL, 0}, e);
            n = s->out_sent;
        } else {
            mailbox_want(e, s->sid);
        }
        mailbox_add_mark(&marks, s->sid, n);
    }
    if (t->origin.sid != 0)
        d->before = mailbox_take(u, t->origin.sid, t->origin.n);
    mailbox_size(e, t->stanza.raw.n);
    if (store)
        write_entry(t, e, &marks);
    buf_free(&marks);
    t->token = 0;
    if (!user_commit_pending(u)) { /* memory only: nothing to wait for, no copy */
        d->raw = t->stanza.raw;
        delivery_committed(d, STORE_OK);
        return;
    }
    d->frame = keep_stanza(t);
    struct wire_frame f;
    CHECK(wire_decode(rcbuf_span(d->frame), &f));
    d->raw = f.stanza.raw;
    for (unsigned i = 0; i < targets->count; i++)
        if (!mailbox_takes_now(targets->sessions[i]))
            deliver_catch_up(targets->sessions[i]);
    if (store)
        user_after_adding(u, delivery_committed, d);
    else
        user_after_commit(u, delivery_committed, d);
}

struct catching {
    struct core *core;
    struct user *user;
    struct reserved place;
    struct rcbuf *raw;
};

static void catching_committed(void *ctx, enum store_result result)
{
    struct catching *x = ctx;
    if (result != STORE_FENCED)
        session_send_reserved(x->core, &x->place, rcbuf_span(x->raw), (struct span){NULL, 0}, true);
    rcbuf_unref(x->raw);
    user_release(x->user);
    free(x);
}

void deliver_reserved(struct session *s, struct entry *e, struct span raw)
{
    struct catching *x = xcalloc(1, sizeof *x);
    x->core = s->user->core;
    x->user = s->user;
    x->place = session_reserve(s, raw, (struct span){NULL, 0}, e);
    x->raw = rcbuf_new(raw.p, raw.n);
    user_hold(s->user);
    user_after_commit(s->user, catching_committed, x);
}

static void redo_done(void *ctx, enum store_result result)
{
    struct delivery *d = ctx;
    if (result != STORE_OK)
        refuse(d, result);
    else
        route_done(d->core, d->node, d->token, WIRE_DONE_TAKEN);
    delivery_free(d);
}

/* A resend of what is here already: confirm it once the first one is committed. */
static enum verdict duplicate(struct task *t)
{
    stat_add(&duplicates, 1);
    struct delivery *d = xcalloc(1, sizeof *d);
    d->core = t->core;
    d->user = t->user;
    d->token = t->token;
    snprintf(d->node, sizeof d->node, "%s", t->node);
    user_hold(t->user);
    t->token = 0;
    user_after_adding(t->user, redo_done, d);
    return DONE;
}

static enum verdict deliver_volatile(struct task *t, const struct targets *targets)
{
    for (unsigned i = 0; i < targets->count; i++)
        deliver_if_room(targets->sessions[i], t->stanza.raw);
    t->delivered = targets->count > 0;
    return PASS;
}

/* Refused while the store was full and answered with an error, but its sender's router died before that had
 * come: those behind it have been taken since, so it is refused again. */
static bool comes_too_late(const struct task *t)
{
    const struct core *c = t->core;
    return c->full_last_ms != 0 && c->now_ms - c->full_last_ms < LATE_MS && t->token != 0 &&
           t->origin.sid != 0 && mailbox_taken_after(t->user, t->origin.sid, t->origin.n);
}

static enum verdict take_message(struct task *t, const struct targets *targets)
{
    t->core->deliveries++;
    for (unsigned i = 0; i < targets->count; i++)
        targets->sessions[i]->delivery = t->core->deliveries;
    if (t->stanza.type == STANZA_HEADLINE || !is_durable(&t->stanza))
        return targets->count > 0 ? deliver_volatile(t, targets) : task_drop(t, "volatile-offline");
    if (t->origin.sid != 0 && mailbox_taken(t->user, t->origin.sid, t->origin.n))
        return duplicate(t);
    if (comes_too_late(t)) {
        route_done(t->core, t->node, t->token, WIRE_DONE_FULL);
        t->token = 0;
        return DONE;
    }
    if (mailbox_is_full(t->user, t->stanza.raw.n)) {
        stat_add(&mailbox_full, 1);
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, "the recipient's mailbox is full");
    }
    if ((t->user->full || !user_may_try(t->core)) && t->token != 0) {
        stat_add(&store_refused, 1);
        route_refuse_message(t->core, t->node, t->user->slot, t->token);
        t->token = 0;
        return DONE;
    }
    t->delivered = targets->count > 0;
    enter_mailbox(t, targets);
    return PASS;
}

static enum verdict message_to_bare(struct task *t)
{
    struct targets targets;
    targets.count = 0;
    switch (t->stanza.type) {
    case STANZA_GROUPCHAT:
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    case STANZA_ERROR:
        return task_drop(t, "error-without-session");
    case STANZA_HEADLINE:
        add_non_negative(&targets, t->user);
        break;
    default:
        add_most_available(&targets, t->user);
        break;
    }
    return take_message(t, &targets);
}

static enum verdict deliver_message(struct task *t)
{
    bool full = t->stanza.to.resource_n > 0;
    struct session *match = full ? session_by_resource(t->user, jid_resource(&t->stanza.to)) : NULL;
    if (!t->user->exists)
        return t->stanza.type == STANZA_HEADLINE ? task_drop(t, "no-such-user")
                                                 : task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    if (match != NULL) {
        struct targets targets;
        only_target(&targets, match);
        return t->stanza.type == STANZA_ERROR ? deliver_volatile(t, &targets) : take_message(t, &targets);
    }
    if (!full || t->stanza.type == STANZA_CHAT)
        return message_to_bare(t);
    if (t->stanza.type == STANZA_HEADLINE || t->stanza.type == STANZA_ERROR)
        return task_drop(t, "no-such-resource");
    return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
}

/* ---- iq and presence that no feature has dealt with ---- */

/* The account itself, who may see its presence, whom this session has told of it (a room: all who are in it),
 * the server and its components (RFC 6121 §8.5.3.1). */
static bool may_ask(const struct task *t, const struct session *s)
{
    const struct jid *from = &t->stanza.from;
    struct span bare = jid_bare(from), domain = jid_domain(from);
    bool service =
        from->local_n == 0 && (core_is_local_domain(t->core, domain) || components_here(t->core, domain));
    if (from->domain_n == 0 || service || contacts_may_see(t->user, bare))
        return true;
    size_t at = 0;
    const char *key;
    struct jid jid;
    while ((key = map_next(&s->directed, &at)) != NULL)
        if (jid_split(span_of(key), &jid) && span_eq(jid_bare(&jid), bare))
            return true;
    return false;
}

static enum verdict deliver_iq(struct task *t)
{
    bool request = t->stanza.type == STANZA_GET || t->stanza.type == STANZA_SET;
    struct session *match =
        t->stanza.to.resource_n > 0 ? session_by_resource(t->user, jid_resource(&t->stanza.to)) : NULL;
    if (match != NULL && request && may_ask(t, match) && !session_may_take(match, t->stanza.raw.n))
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the recipient reads too slowly");
    if (match != NULL && (!request || may_ask(t, match))) {
        struct targets targets;
        only_target(&targets, match);
        return deliver_volatile(t, &targets);
    }
    return request ? task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL)
                   : task_drop(t, "iq-reply-without-session");
}

static enum verdict deliver_presence(struct task *t)
{
    if (t->stanza.to.resource_n > 0) {
        struct session *match = session_by_resource(t->user, jid_resource(&t->stanza.to));
        if (match == NULL)
            return task_drop(t, "no-such-resource");
        struct targets targets;
        only_target(&targets, match);
        return deliver_volatile(t, &targets);
    }
    /* A fan-out has no `to` of its own: every session gets the bare JID that it was for (RFC 6121 §4.2.3). */
    struct span to = t->stanza.to.domain_n == 0 ? span_of(t->user->bare) : (struct span){NULL, 0};
    deliver_to_available(t->user, t->stanza.raw, to);
    return PASS;
}

enum verdict deliver_task(struct task *t)
{
    switch (t->stanza.kind) {
    case STANZA_MESSAGE:
        return deliver_message(t);
    case STANZA_PRESENCE:
        return deliver_presence(t);
    case STANZA_IQ:
        return deliver_iq(t);
    }
    return DROP;
}
