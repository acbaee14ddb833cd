/* Sessions: opening, closing, losing and finding again; the two number rows.
 *
 * Inbound: in_taken is the highest number seen, in_open counts the open pieces of work of each number above
 * in_handled; when the oldest has none left, in_handled moves and HANDLED goes out at the end of the turn.
 * Outbound: every stanza gets the next number; what has to be acknowledged (a mailbox entry, or anything
 * under stream management) stands in `unacked`. */
#include "router/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "common/stream/stream.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/parting.h"
#include "router/route.h"
#include "router/session_internal.h"

#define UNACKED_MAX        512  /* beyond it messages stay in the mailbox */
#define VOLATILE_MAX       1000 /* kept for a resumption, beyond it the oldest go */
#define VOLATILE_DROP      100
#define ANSWERS_BUDGETS    4 /* a large roster, a card and some more within … */
#define ANSWERS_MS         1000
#define SMALL_ANSWER_BYTES 512
#define OPEN_WORK_MAX      131072
#define SYNC_TIMEOUT_MS    10000
#define HANDLED_MS         100 /* a busy session's handled number is written that often, a quiet one's at once */
#define HANDLED_GRAIN_MS   10 /* those of many sessions together */
#define HANDLED_MOST       64 /* or when it has moved so far: its client must not be stopped by it */

static struct stat_counter opened =
    STAT_COUNTER("jackdaw_router_sessions_opened_total", "Sessions opened", NULL);
static struct stat_counter closed =
    STAT_COUNTER("jackdaw_router_sessions_closed_total", "Sessions ended", NULL);
static struct stat_counter detached =
    STAT_COUNTER("jackdaw_router_sessions_detached_total",
                 "Sessions that lost their stream and wait for a resumption", NULL);
static struct stat_counter sent =
    STAT_COUNTER("jackdaw_router_delivered_total", "Stanzas sent to sessions", NULL);
static struct stat_counter volatile_dropped = STAT_COUNTER(
    "jackdaw_router_dropped_total", "Stanzas dropped, by rule", "rule=\"unacknowledged-volatile\"");

void session_register_stats(void)
{
    stat_register(&opened.meta);
    stat_register(&closed.meta);
    stat_register(&detached.meta);
    session_sm_register_stats();
    stat_register(&sent.meta);
    stat_register(&volatile_dropped.meta);
}

static const char *state_name(enum session_state state)
{
    static const char *const names[] = {"live", "unsynced", "detached", "closed"};
    return names[state];
}

void session_enter_state(struct session *s, enum session_state state)
{
    log_debug("session", "%s: %s -> %s sid=%016llx", s->full, state_name(s->state), state_name(state),
              (unsigned long long)s->sid);
    s->state = state;
}

bool session_is_with(const struct session *s, uint64_t connection, uint64_t node_incarnation)
{
    return s->node_incarnation == node_incarnation &&
           (connection == 0 || s->asked_as == 0 || connection == s->asked_as);
}

struct session *session_find(struct core *c, uint64_t sid)
{
    return idmap_get(&c->sessions, sid);
}

struct session *session_by_resource(struct user *u, struct span resource)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (span_eq(resource, span_of(s->resource)))
            return s;
    }
    return NULL;
}

/* Making and freeing */

static void timeout_fire(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    struct session *s = CONTAINER_OF(t, struct session, timeout);
    if (s->state == SESSION_UNSYNCED) {
        session_lost(s);
        return;
    }
    session_note_timed_out(s);
    session_close(s);
}

struct session *session_make(struct user *u, uint64_t sid, struct span resource, const char *node,
                             uint64_t node_incarnation)
{
    struct session *s = xcalloc(1, sizeof *s);
    s->user = u;
    s->sid = s->asked_as = sid;
    s->resource = span_dup(resource);
    s->full = xasprintf("%s/%s", u->bare, s->resource);
    jid_split(span_of(s->full), &s->jid);
    snprintf(s->node, sizeof s->node, "%s", node);
    s->node_incarnation = node_incarnation;
    s->timeout.fire = timeout_fire;
    s->cursor = u->floor;
    if (feature_session_bytes() > 0)
        s->slots = xcalloc(1, feature_session_bytes());
    list_init(&s->of_user);
    list_init(&s->dirty);
    list_init(&s->routed);
    list_add(&u->sessions, &s->of_user);
    user_hold(u);
    idmap_put(&u->core->sessions, sid, s);
    return s;
}

static void session_free(struct session *s)
{
    struct user *u = s->user;
    struct core *c = u->core;
    if (idmap_get(&c->sessions, s->sid) == s)
        idmap_del(&c->sessions, s->sid);
    timer_clear(&c->timers, &s->timeout);
    list_del(&s->of_user);
    list_del(&s->dirty);
    list_del(&s->routed);
    for (uint32_t i = 0; i < s->unacked_count; i++)
        session_unkeep(s, unacked_at(s, i)->raw);
    free(s->unacked);
    free(s->voided);
    free(s->wanted);
    free(s->in_open);
    size_t at = 0;
    char *jid;
    while ((jid = map_next(&s->directed, &at)) != NULL)
        free(jid);
    map_free(&s->directed);
    rcbuf_unref(s->presence);
    free(s->slots);
    free(s->resource);
    free(s->full);
    free(s);
    user_release(u);
}

void *session_slot(struct session *s, const struct feature *feature)
{
    return (char *)s->slots + feature_session_offset(feature);
}

/* Makes room: a client that has lost twenty streams must not wait until the first of them times out. */
static bool end_oldest_detached(struct user *u)
{
    struct session *oldest = NULL;
    uint64_t since = 0;
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->state != SESSION_DETACHED)
            continue;
        uint64_t lasts = (uint64_t)s->resume_s * 1000;
        uint64_t detached_ms = s->timeout.deadline_ms - MIN(lasts, s->timeout.deadline_ms);
        if (oldest == NULL || detached_ms < since) {
            oldest = s;
            since = detached_ms;
        }
    }
    if (oldest == NULL)
        return false;
    log_info("session",
             "ended while it waited for its client: the account has no room for another one jid=%s",
             oldest->full);
    session_note_timed_out(oldest);
    session_close(oldest);
    return true;
}

struct session *session_open(struct user *u, uint64_t sid, struct span resource, const char *node,
                             uint64_t node_incarnation, uint64_t token, enum stanza_error *error)
{
    struct core *c = u->core;
    unsigned count = 0;
    LIST_EACH (it, &u->sessions)
        count++;
    char random[24];
    if (resource.n == 0) {
        snprintf(random, sizeof random, "%016llx", (unsigned long long)c->out.random(c->out.ctx));
        resource = span_of(random);
    }
    struct session *old = session_by_resource(u, resource);
    bool full =
        old == NULL && c->conf->limits_enabled && count >= (uint64_t)c->conf->limits_sessions_per_account;
    if (full && !end_oldest_detached(u)) {
        *error = STANZA_E_RESOURCE_CONSTRAINT;
        return NULL;
    }
    if (old != NULL)
        session_kill(old, STREAM_E_CONFLICT, "replaced by a new session of the same resource");
    user_enter(u);
    struct session *s = session_make(u, sid, resource, node, node_incarnation);
    s->attached = token;
    s->asked_ms = (int64_t)c->now_ms;
    s->asked_known = true;
    s->since = u->last_id;
    s->last_active_wall_ms = c->out.wall_ms(c->out.ctx);
    stat_add(&opened, 1);
    session_save(s);
    feature_event(EV_SESSION_OPENED, u, s);
    return s;
}

/* The field of a session in the user's meta hash. */
static struct span handled_field(uint64_t sid, char text[24])
{
    return span_make(text, (size_t)snprintf(text, 24, "h:%016llx", (unsigned long long)sid));
}

void session_close(struct session *s)
{
    struct user *u = s->user;
    if (s->state == SESSION_CLOSED)
        return;
    user_hold(u);
    session_enter_state(s, SESSION_CLOSED);
    stat_add(&closed, 1);
    timer_clear(&u->core->timers, &s->timeout);
    list_del(&s->of_user); /* rules that look for other sessions must not find it */
    feature_event(EV_SESSION_CLOSED, u, s);
    store_drop(user_batch(u), STORE_SESSIONS, span_of(s->resource));
    if (s->in_saved > 0) {
        char field[24];
        store_drop(user_batch(u), STORE_META, handled_field(s->sid, field));
    }
    for (uint32_t i = 0; i < s->unacked_count; i++) {
        struct unacked *x = unacked_at(s, i);
        if (x->entry != NULL)
            deliver_entry_end(x->entry, false);
        if (x->work != 0)
            session_work_end(u->core, s->sid, x->work); /* nobody is there to hear it */
    }
    deliver_reassign(u);
    parting_begin(s);
    session_free(s);
    user_release(u);
}

void session_forget(struct session *s)
{
    route_abandon(s->user->core, &s->routed);
    if (s->state == SESSION_LIVE) {
        /* It may be that nothing else ever tells its connection manager: ask it for a new SYNC. */
        struct wire_frame f = {.kind = WIRE_NOT_MINE, .num = WIRE_STANZA, .n = UINT64_MAX};
        session_frame(s, &f);
    }
    session_free(s);
}

void session_frame(struct session *s, struct wire_frame *f)
{
    struct core *c = s->user->core;
    if (f->sid == 0)
        f->sid = s->sid;
    f->slot = s->user->slot;
    f->epoch = c->epoch;
    if (c->bundle_raw.p != NULL)
        session_bundle_flush(c, s->node);
    c->out.send(c->out.ctx, s->node, f);
}

void session_kill(struct session *s, unsigned stream_error, const char *text)
{
    if (s->state == SESSION_LIVE || s->state == SESSION_UNSYNCED) {
        struct wire_frame f = {
            .kind = WIRE_KILL, .session = s->asked_as, .num = stream_error, .text = span_of(text)};
        session_frame(s, &f);
    }
    session_close(s);
}

void session_lost(struct session *s)
{
    if (s->state != SESSION_LIVE && s->state != SESSION_UNSYNCED)
        return;
    if (!s->sm || s->resume_s == 0) {
        session_close(s);
        return;
    }
    session_enter_state(s, SESSION_DETACHED);
    stat_add(&detached, 1);
    s->held = false;
    timer_set(&s->user->core->timers, &s->timeout, s->user->core->now_ms + (uint64_t)s->resume_s * 1000);
    session_save(s);
}

/* Outbound */

struct unacked *session_unacked_push(struct session *s)
{
    if (s->unacked_count == s->unacked_cap) {
        uint32_t cap = s->unacked_cap == 0 ? 4 : s->unacked_cap * 2;
        struct unacked *ring = xcalloc(cap, sizeof *ring);
        for (uint32_t i = 0; i < s->unacked_count; i++)
            ring[i] = *unacked_at(s, i);
        free(s->unacked);
        s->unacked = ring;
        s->unacked_cap = cap;
        s->unacked_at = 0;
    }
    return unacked_at(s, s->unacked_count++);
}

static uint64_t budget(const struct session *s)
{
    return (uint64_t)s->user->core->conf->limits_session_bytes;
}

bool session_has_room(const struct session *s)
{
    return !s->held && s->unacked_count < UNACKED_MAX && s->kept_bytes < budget(s) &&
           s->state != SESSION_CLOSED;
}

bool session_may_take(const struct session *s, size_t n)
{
    uint64_t held = s->kept_bytes + s->held_bytes;
    if (held == 0 || held + n <= budget(s) / 4)
        return true; /* the usual case, and one large stanza: no look at the account */
    return held + n <= budget(s) &&
           s->user->kept_bytes + n <= (uint64_t)s->user->core->conf->limits_account_bytes;
}

void session_answered(struct session *s, size_t n)
{
    uint64_t now = s->user->core->now_ms;
    if (now - s->answered_ms >= ANSWERS_MS) {
        s->answered_ms = now;
        s->answered_bytes = 0;
    }
    s->answered_bytes += n;
}

bool session_may_ask(const struct session *s)
{
    bool spent = s->answered_bytes > ANSWERS_BUDGETS * budget(s) &&
                 s->user->core->now_ms - s->answered_ms < ANSWERS_MS;
    return !spent && session_may_take(s, SMALL_ANSWER_BYTES);
}

void session_missed_presence(struct session *s)
{
    s->presence_missed = true;
}

/* Half of the budget is free again. */
static void tell_room(struct session *s)
{
    if (!s->presence_missed || s->held || s->state != SESSION_LIVE || s->kept_bytes > budget(s) / 2)
        return;
    s->presence_missed = false;
    feature_event(EV_SESSION_ROOM, s->user, s);
}

/* "<presence" + " to='…'" + the rest. */
static void add_addressed(struct buf *out, struct span raw, struct span to)
{
    size_t name = 1;
    while (name < raw.n && raw.p[name] != ' ' && raw.p[name] != '>' && raw.p[name] != '/')
        name++;
    buf_add(out, raw.p, name);
    xml_add_attr(out, "to", to);
    buf_add(out, raw.p + name, raw.n - name);
}

static struct rcbuf *keep(struct span raw, struct span to)
{
    if (to.n == 0)
        return rcbuf_new(raw.p, raw.n);
    struct buf b = {0};
    add_addressed(&b, raw, to);
    struct rcbuf *r = rcbuf_new(b.p, b.n);
    buf_free(&b);
    return r;
}

/* What a session keeps counts against its own budget and against its account's. */
static struct rcbuf *session_keep(struct session *s, struct span raw, struct span to)
{
    struct rcbuf *r = keep(raw, to);
    s->kept_bytes += r->n;
    s->user->kept_bytes += r->n;
    return r;
}

void session_unkeep(struct session *s, struct rcbuf *raw)
{
    if (raw == NULL)
        return;
    s->kept_bytes -= raw->n;
    s->user->kept_bytes -= raw->n;
    rcbuf_unref(raw);
}

/* A client that never acknowledges must not grow the process: a hundred of its oldest volatile stanzas go
 * (their numbers stay). Messages are safe in the mailbox. */
static void drop_oldest_volatile(struct session *s)
{
    uint32_t kept = 0, dropped = 0;
    for (uint32_t i = 0; i < s->unacked_count; i++) {
        struct unacked x = *unacked_at(s, i);
        if (x.entry == NULL && x.work == 0 && dropped < VOLATILE_DROP) {
            session_unkeep(s, x.raw);
            dropped++;
            stat_add(&volatile_dropped, 1);
        } else {
            *unacked_at(s, kept++) = x;
        }
    }
    s->unacked_count = kept;
}

struct bundle_list {
    char node[64];
    struct buf targets;
};

void session_transmit(struct session *s, struct span raw, struct span to, uint64_t n, bool confirm)
{
    struct core *c = s->user->core;
    if (s->state != SESSION_LIVE)
        return; /* kept, or in the mailbox */
    struct wire_target t = {s->sid, n, to};
    stat_add(&sent, 1);
    if (s->held)
        s->held_bytes += raw.n;
    if (!confirm && c->bundle_raw.p != NULL && c->bundle_raw.p == raw.p && c->bundle_raw.n == raw.n) {
        struct bundle_list *b = map_get(&c->bundles, span_of(s->node));
        if (b == NULL) {
            b = xcalloc(1, sizeof *b);
            snprintf(b->node, sizeof b->node, "%s", s->node);
            map_put(&c->bundles, span_of(b->node), b);
        }
        wire_target_add(&b->targets, &t);
        if (b->targets.n >= WIRE_LIST_MAX)
            session_bundle_flush(c, s->node);
        return;
    }
    char space[64 + JID_MAX_BYTES];
    struct buf targets = {space, 0, sizeof space}; /* does not grow: a target is 18 bytes and an address */
    wire_target_add(&targets, &t);
    struct wire_frame f = {
        .kind = WIRE_DELIVER, .flags = confirm ? WIRE_CONFIRM : 0, .targets = buf_span(&targets), .raw = raw};
    session_frame(s, &f);
}

void session_bundle_begin(struct core *c, struct span raw)
{
    c->bundle_raw = raw;
}

void session_bundle_flush(struct core *c, const char *node)
{
    struct bundle_list *b = map_get(&c->bundles, span_of(node));
    if (b == NULL || b->targets.n == 0)
        return;
    struct wire_frame f = {.kind = WIRE_DELIVER,
                           .slot = 0xffff,
                           .epoch = c->epoch,
                           .targets = buf_span(&b->targets),
                           .raw = c->bundle_raw};
    c->out.send(c->out.ctx, b->node, &f);
    buf_clear(&b->targets);
}

void session_bundle_end(struct core *c)
{
    size_t at = 0;
    struct bundle_list *b;
    while ((b = map_next(&c->bundles, &at)) != NULL)
        session_bundle_flush(c, b->node);
    c->bundle_raw = (struct span){NULL, 0};
}

void session_bundles_free(struct core *c)
{
    size_t at = 0;
    struct bundle_list *b;
    while ((b = map_next(&c->bundles, &at)) != NULL) {
        buf_free(&b->targets);
        free(b);
    }
    map_free(&c->bundles);
}

static uint64_t number(struct session *s, struct span raw, struct span to, struct entry *entry, uint64_t work)
{
    uint64_t n = ++s->out_sent;
    if (entry != NULL || work != 0 || s->sm) {
        bool kept = s->sm || work != 0;
        *session_unacked_push(s) = (struct unacked){n, entry, kept ? session_keep(s, raw, to) : NULL, work};
        if (s->unacked_count > VOLATILE_MAX)
            drop_oldest_volatile(s);
    }
    if (entry != NULL)
        entry->refs++;
    return n;
}

void session_send(struct session *s, struct span raw, struct span to, struct entry *entry)
{
    if (s->state == SESSION_CLOSED)
        return;
    uint64_t n = number(s, raw, to, entry, 0);
    session_transmit(s, raw, to, n, entry != NULL);
}

/* How many of the places in front of a ticket have been given back. */
static uint64_t given_back_before(const struct session *s, uint64_t ticket)
{
    uint64_t count = 0;
    while (count < s->voided_count && s->voided[count] < ticket)
        count++;
    return count;
}

static void forget_given_back(struct session *s)
{
    free(s->voided);
    s->voided = NULL;
    s->voided_count = 0;
}

struct reserved session_place(const struct session *s, uint64_t n)
{
    uint64_t ticket = n;
    for (uint32_t i = 0; i < s->voided_count && s->voided[i] <= ticket; i++)
        ticket++;
    return (struct reserved){s->sid, ticket, s->numbering};
}

struct reserved session_reserve(struct session *s, struct span raw, struct span to, struct entry *entry)
{
    if (s->voided_count > 0 && !user_commit_pending(s->user))
        forget_given_back(s); /* nobody waits who could have a ticket */
    return session_place(s, number(s, raw, to, entry, 0));
}

struct reserved session_reserve_answer(struct session *s, struct span raw, uint64_t n)
{
    return session_place(s, number(s, raw, (struct span){NULL, 0}, NULL, n));
}

void session_number_anew(struct session *s)
{
    s->numbering++;
    forget_given_back(s);
}

void session_give_back(struct session *s, struct entry *entry)
{
    uint32_t i = 0;
    while (i < s->unacked_count && unacked_at(s, i)->entry != entry)
        i++;
    if (i == s->unacked_count)
        return;
    uint64_t ticket = session_place(s, unacked_at(s, i)->n).ticket;
    session_unkeep(s, unacked_at(s, i)->raw);
    entry->refs--;
    for (s->unacked_count--; i < s->unacked_count; i++) {
        *unacked_at(s, i) = *unacked_at(s, i + 1);
        unacked_at(s, i)->n--;
    }
    s->out_sent--;
    s->voided = xrealloc(s->voided, (s->voided_count + 1) * sizeof *s->voided);
    uint64_t at = given_back_before(s, ticket);
    memmove(s->voided + at + 1, s->voided + at, (s->voided_count - at) * sizeof *s->voided);
    s->voided[at] = ticket;
    s->voided_count++;
    session_save(s);
}

void session_send_reserved(struct core *c, const struct reserved *r, struct span raw, struct span to,
                           bool confirm)
{
    struct session *s = session_find(c, r->sid);
    if (s == NULL || s->numbering != r->numbering)
        return;
    uint64_t before = given_back_before(s, r->ticket);
    if (before == s->voided_count || s->voided[before] != r->ticket)
        session_transmit(s, raw, to, r->ticket - before, confirm);
}

void session_acked(struct session *s, uint64_t n)
{
    struct user *u = s->user;
    if (n > s->out_sent) {
        log_warn("session", "acknowledged more than was sent, ignored jid=%s n=%llu sent=%llu", s->full,
                 (unsigned long long)n, (unsigned long long)s->out_sent);
        return;
    }
    user_hold(u);
    while (s->unacked_count > 0 && s->unacked[s->unacked_at].n <= n) {
        struct unacked x = s->unacked[s->unacked_at];
        s->unacked_at = (s->unacked_at + 1) % s->unacked_cap;
        s->unacked_count--;
        session_unkeep(s, x.raw);
        if (x.entry != NULL)
            deliver_entry_end(x.entry, true);
        if (x.work != 0)
            session_work_end(u->core, s->sid, x.work);
    }
    s->out_acked = MAX(s->out_acked, n);
    if (s->catching_up && s->unacked_count < UNACKED_MAX / 2)
        deliver_catch_up(s);
    tell_room(s);
    user_release(u);
}

void session_set_held(struct session *s, bool held)
{
    s->held = held;
    s->held_bytes = 0;
    if (!held && s->catching_up)
        deliver_catch_up(s);
    tell_room(s);
}

/* Inbound */

void session_work_begin(struct session *s, uint64_t n)
{
    if (n <= s->in_handled || n - s->in_handled > OPEN_WORK_MAX)
        return;
    uint64_t at = n - s->in_handled - 1;
    if (at >= s->in_cap) {
        uint32_t cap = s->in_cap == 0 ? 8 : s->in_cap;
        while (cap <= at)
            cap *= 2;
        uint32_t *ring = xcalloc(cap, sizeof *ring);
        for (uint32_t i = 0; i < s->in_cap; i++)
            ring[(s->in_handled + 1 + i) & (cap - 1)] = s->in_open[(s->in_handled + 1 + i) & (s->in_cap - 1)];
        free(s->in_open);
        s->in_open = ring;
        s->in_cap = cap;
    }
    s->in_open[n & (s->in_cap - 1)]++;
}

void session_work_end(struct core *c, uint64_t sid, uint64_t n)
{
    struct session *s = session_find(c, sid);
    if (s == NULL)
        parting_work_end(c, sid);
    if (s == NULL || n <= s->in_handled || n - s->in_handled > s->in_cap)
        return;
    uint32_t *open = &s->in_open[n & (s->in_cap - 1)];
    if (*open > 0)
        (*open)--;
    bool moved = false;
    while (s->in_handled < s->in_taken && s->in_open[(s->in_handled + 1) & (s->in_cap - 1)] == 0) {
        s->in_handled++;
        moved = true;
    }
    if (moved && s->handled_due_ms != 0 && s->in_handled - s->in_saved >= HANDLED_MOST)
        list_del(&s->dirty); /* waits no longer */
    if (moved && list_empty(&s->dirty))
        list_add(&c->dirty_handled, &s->dirty);
}

struct saving {
    struct core *core;
    uint64_t sid;
    uint64_t n;
};

static void handled_saved(void *ctx, enum store_result result)
{
    struct saving *x = ctx;
    struct session *s = session_find(x->core, x->sid);
    if (s != NULL && result != STORE_FENCED) {
        s->in_saved = MAX(s->in_saved, x->n);
        if (s->state == SESSION_LIVE)
            core_pair(&x->core->handled_lists, s->node, s->sid, s->in_saved);
    }
    free(x);
}

static void save_handled(struct session *s)
{
    struct core *c = s->user->core;
    char field[24], number[24];
    int n = snprintf(number, sizeof number, "%llu", (unsigned long long)s->in_handled);
    s->handled_due_ms = 0;
    s->handled_written_ms = c->now_ms;
    store_put(user_batch(s->user), STORE_META, handled_field(s->sid, field), span_make(number, (size_t)n));
    struct saving *x = xcalloc(1, sizeof *x);
    *x = (struct saving){c, s->sid, s->in_handled};
    user_after_commit(s->user, handled_saved, x);
}

/* True when it waits in later_handled now: writing the numbers of a busy session one by one would cost as
 * much as its messages. */
static bool save_handled_later(struct session *s)
{
    struct core *c = s->user->core;
    bool due = s->handled_due_ms != 0 && s->handled_due_ms <= c->now_ms;
    if (due || s->handled_written_ms == 0 || c->now_ms - s->handled_written_ms >= HANDLED_MS ||
        s->in_handled - s->in_saved >= HANDLED_MOST)
        return false;
    if (s->handled_due_ms == 0)
        s->handled_due_ms = (c->now_ms + HANDLED_MS) / HANDLED_GRAIN_MS * HANDLED_GRAIN_MS;
    list_add(&c->later_handled, &s->dirty);
    if (!timer_is_set(&c->handled))
        timer_set(&c->timers, &c->handled, s->handled_due_ms);
    return true;
}

void session_handled_fire(struct timer *t, uint64_t now_ms)
{
    struct core *c = CONTAINER_OF(t, struct core, handled);
    LIST_EACH (it, &c->later_handled) {
        struct session *s = LIST_ENTRY(it, struct session, dirty);
        if (s->handled_due_ms > now_ms) {
            timer_set(&c->timers, t, s->handled_due_ms);
            return;
        }
        list_del(&s->dirty);
        list_add(&c->dirty_handled, &s->dirty);
    }
}

void session_save_handled(struct core *c)
{
    struct list *it;
    while ((it = list_pop(&c->dirty_handled)) != NULL) {
        struct session *s = LIST_ENTRY(it, struct session, dirty);
        if (s->sm && s->resume_s > 0 && s->in_handled > s->in_saved &&
            c->conf->delivery_durability != CONF_DURABILITY_MEMORY) {
            if (!save_handled_later(s))
                save_handled(s);
        } else if (s->state == SESSION_LIVE) {
            core_pair(&c->handled_lists, s->node, s->sid, s->in_handled);
        }
    }
}

void session_restore_handled(struct user *u, const struct store_field *meta, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct span name = meta[i].name;
        uint64_t n;
        if (name.n != 18 || memcmp(name.p, "h:", 2) != 0)
            continue;
        char text[24];
        snprintf(text, sizeof text, "%.*s", SPAN_FMT(name));
        struct session *s = session_find(u->core, strtoull(text + 2, NULL, 16));
        if (s == NULL || s->user != u)
            store_drop(user_batch(u), STORE_META, name);
        else if (span_to_u64(meta[i].value, UINT64_MAX, &n) && n > s->in_handled)
            s->in_handled = s->in_taken = s->in_saved = n;
    }
}

void session_assign(struct session *s, struct entry *entry, uint64_t n)
{
    session_unacked_push(s);
    uint32_t i = s->unacked_count - 1;
    for (; i > 0; i--) { /* records and marks come mixed: keep the row in order */
        struct unacked *before = unacked_at(s, i - 1);
        if (before->n <= n)
            break;
        *unacked_at(s, i) = *before;
    }
    *unacked_at(s, i) = (struct unacked){n, entry, NULL, 0};
    entry->refs++;
    s->out_sent = MAX(s->out_sent, n);
}

void session_unassign_entry(struct session *s, struct entry *entry)
{
    for (uint32_t i = 0; i < s->unacked_count; i++) {
        struct unacked *x = unacked_at(s, i);
        if (x->entry == entry) {
            x->entry = NULL;
            session_unkeep(s, x->raw);
            x->raw = NULL;
            entry->refs--;
        }
    }
}
