/* Presence (RFC 6121 §4): initial and later broadcasts, probes and their answers, unavailable presence (said
 * or found out), directed presence.
 *
 * A broadcast is one fan-out to everybody who sees us (CONTACT_FROM), plus our own available sessions. The
 * homes of the receivers check that their users still want it (WIRE_BROADCAST): a subscription that only one
 * side knows of is ended there with `unsubscribe`. Nothing is cached about contacts: a session that becomes
 * available probes them all, in one fan-out. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/xml/tree.h"
#include "common/xml/writer.h"
#include "router/blocklist.h"
#include "router/commit.h"
#include "router/contacts.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/readdress.h"

/* JIDs that one session may have sent directed presence to and not taken back. */
#define DIRECTED_MAX 1000

static const struct span none = {NULL, 0};

/* ---- sending to many ---- */

static bool is_blocked(const struct user *u, const struct contact *contact)
{
    struct jid jid;
    return u->blocked != NULL && jid_split(span_of(contact->jid), &jid) && blocklist_has(u, &jid);
}

/* The contacts with a bit in their state who are not blocked; the array is the caller's, the spans the
 * contacts'. */
static struct span *contacts_with(const struct user *u, uint8_t bit, size_t *count)
{
    struct span *list = xmalloc((u->contacts.count + 1) * sizeof *list);
    size_t at = 0;
    struct contact *contact;
    *count = 0;
    while ((contact = map_next(&u->contacts, &at)) != NULL)
        if ((contact->state & bit) && !is_blocked(u, contact))
            list[(*count)++] = span_of(contact->jid);
    return list;
}

static void fan_out(struct user *u, struct span raw, uint8_t bit, const struct origin *origin,
                    unsigned wire_flags)
{
    size_t count;
    struct span *targets = contacts_with(u, bit, &count);
    struct stanza s;
    if (count > 0 && stanza_index(u->core->parser, raw, &s))
        route_fanout(u->core, &s, targets, count, origin, wire_flags);
    free(targets);
}

/* To everybody who sees us and to our own available sessions. raw has a from and no to. */
static void broadcast(struct user *u, struct span raw, const struct origin *origin)
{
    fan_out(u, raw, CONTACT_FROM, origin, WIRE_BROADCAST);
    deliver_to_available(u, raw, span_of(u->bare));
}

static void probe_contacts(struct user *u)
{
    struct buf probe = {0};
    presence_add(&probe, span_of(u->bare), none, none, "probe");
    fan_out(u, buf_span(&probe), CONTACT_TO, NULL, 0);
    buf_free(&probe);
}

/* The presence of the user's other sessions, for one that has just come. */
static void tell_own_others(struct user *u, struct session *s)
{
    LIST_EACH (it, &u->sessions) {
        struct session *other = LIST_ENTRY(it, struct session, of_user);
        struct buf raw = {0};
        if (other != s && other->available && other->presence != NULL &&
            readdress(&raw, rcbuf_span(other->presence), span_of(other->full), span_of(s->full)))
            deliver_to_session(s, buf_span(&raw));
        buf_free(&raw);
    }
}

/* ---- directed presence (§4.6) ---- */

static void forget_directed(struct session *s, struct span jid)
{
    char *key = map_del(&s->directed, jid);
    if (key == NULL)
        return;
    free(key);
    session_save(s);
}

static void clear_directed(struct session *s)
{
    size_t at = 0;
    char *key;
    while ((key = map_next(&s->directed, &at)) != NULL)
        free(key);
    map_free(&s->directed);
}

/* Tells those who got directed presence while they were no subscribers that the session is unavailable. Also
 * those who have subscribed since: their own side may not know it yet and drop the broadcast, then the
 * directed one must come. */
static void end_directed(struct user *u, struct session *s, struct span raw, const struct origin *origin)
{
    size_t at = 0;
    char *key;
    while ((key = map_next(&s->directed, &at)) != NULL) {
        struct jid jid;
        struct buf out = {0};
        if (!jid_split(span_of(key), &jid))
            continue;
        if (readdress(&out, raw, span_of(s->full), span_of(key)))
            route_raw(u->core, buf_span(&out), origin);
        buf_free(&out);
    }
    clear_directed(s);
}

static enum verdict on_directed(struct task *t, struct session *s)
{
    struct span to = jid_full(&t->stanza.to), bare = jid_bare(&t->stanza.to);
    if (t->stanza.type == STANZA_UNAVAILABLE) {
        forget_directed(s, to);
    } else {
        const struct contact *contact = contacts_find(t->user, bare);
        bool subscribed = contact != NULL && (contact->state & CONTACT_FROM);
        bool in_broadcast = (s->available && subscribed) || span_is(bare, t->user->bare);
        if (!in_broadcast && map_get(&s->directed, to) == NULL) {
            if (s->directed.count >= DIRECTED_MAX)
                return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT,
                                   "directed presence to too many addresses");
            char *key = span_dup(to);
            map_put(&s->directed, span_of(key), key);
            session_save(s);
        }
    }
    commit_before_handled(t);
    return PASS; /* to be routed */
}

/* ---- broadcasts of our clients ---- */

/* The priority of a presence (§4.7.2.3): 0 when there is none. False when there are two or it is no number
 * from -128 to 127. */
static bool read_priority(struct task *t, int8_t *out)
{
    const struct xml_child *found = NULL;
    *out = 0;
    for (unsigned i = 0; i < t->stanza.child_count; i++) {
        const struct xml_child *child = &t->stanza.children[i];
        if (!span_is(child->name, "priority") || !span_is(child->ns, NS_CLIENT))
            continue;
        if (found != NULL)
            return false;
        found = child;
    }
    if (found == NULL)
        return true;
    struct xml_node *node = xml_tree(task_arena(t), stanza_child_raw(&t->stanza, found), NS_CLIENT);
    if (node == NULL)
        return false;
    for (const struct xml_node *inner = node->first_child; inner != NULL; inner = inner->next)
        if (span_is(inner->ns, NS_CLIENT)) /* what extensions put there is theirs */
            return false;
    struct span text = node->text;
    while (text.n > 0 && strchr(" \t\r\n", text.p[0]) != NULL)
        text = span_sub(text, 1, text.n);
    while (text.n > 0 && strchr(" \t\r\n", text.p[text.n - 1]) != NULL)
        text.n--;
    if (text.n > 1 && text.p[0] == '+' && text.p[1] != '-')
        text = span_sub(text, 1, text.n);
    int64_t value;
    if (!span_to_i64(text, -128, 127, &value))
        return false;
    *out = (int8_t)value;
    return true;
}

/* Broadcast presence is not answered with errors in general (stanza_may_error), but its own client must learn
 * that it was not sent. */
static enum verdict refuse_broadcast(struct task *t, struct session *s, const char *text)
{
    struct buf out = {0};
    stanza_add_error(&out, &t->stanza, span_of(t->user->bare), STANZA_E_BAD_REQUEST, text);
    deliver_to_session(s, buf_span(&out));
    buf_free(&out);
    return DONE;
}

static enum verdict on_available(struct task *t, struct session *s)
{
    struct user *u = t->user;
    int8_t priority;
    if (!read_priority(t, &priority))
        return refuse_broadcast(t, s, "one priority from -128 to 127 is allowed");
    bool initial = !s->available, takes_mail = priority >= 0 && (initial || s->priority < 0);
    s->available = true;
    s->priority = priority;
    s->available_since_ms = u->core->now_ms;
    rcbuf_unref(s->presence);
    s->presence = rcbuf_new(t->stanza.raw.p, t->stanza.raw.n);
    session_save(s);
    commit_before_handled(t);
    broadcast(u, t->stanza.raw, &t->origin);
    if (initial) {
        tell_own_others(u, s);
        probe_contacts(u);
        feature_event(EV_SESSION_AVAILABLE, u, s);
    }
    if (takes_mail)
        deliver_catch_up_again(s);
    return DONE;
}

static void note_last_seen(struct user *u)
{
    char text[24];
    u->last_seen_ms = u->core->out.wall_ms(u->core->out.ctx);
    int n = snprintf(text, sizeof text, "%" PRIu64, u->last_seen_ms);
    store_put(user_batch(u), STORE_META, SPAN("last"), span_make(text, (size_t)n));
}

/* A session is no longer available: everybody who thought so is told, with raw. */
static void become_unavailable(struct user *u, struct session *s, struct span raw,
                               const struct origin *origin)
{
    bool was = s->available;
    if (was) {
        broadcast(u, raw, origin); /* itself too, so before the flag falls (§4.5.2) */
        s->available = false;
        s->priority = 0;
        rcbuf_unref(s->presence);
        s->presence = NULL;
        note_last_seen(u);
    }
    end_directed(u, s, raw, origin);
    if (was)
        feature_event(EV_SESSION_UNAVAILABLE, u, s);
}

static enum verdict on_unavailable(struct task *t, struct session *s)
{
    become_unavailable(t->user, s, t->stanza.raw, &t->origin);
    session_save(s);
    commit_before_handled(t);
    return DONE;
}

static enum verdict on_sent(struct task *t, enum wake wake)
{
    (void)wake;
    struct session *s = task_session(t);
    bool available = t->stanza.type == STANZA_NONE, unavailable = t->stanza.type == STANZA_UNAVAILABLE;
    if (!available && !unavailable)
        return PASS; /* a probe or an error is routed as it is (§4.3) */
    if (s == NULL)
        return task_drop(t, "session gone");
    if (t->stanza.to.domain_n > 0)
        return on_directed(t, s);
    return available ? on_available(t, s) : on_unavailable(t, s);
}

/* ---- from others ---- */

static bool got_directed(const struct session *s, const struct jid *prober)
{
    return map_get(&s->directed, jid_full(prober)) != NULL || map_get(&s->directed, jid_bare(prober)) != NULL;
}

/* §4.6.6: the prober has no subscription; a session that sent it directed presence answers for itself, else
 * the prober is told that it has none. */
static void answer_stranger(struct task *t)
{
    struct user *u = t->user;
    struct span prober = jid_full(&t->stanza.from);
    bool answered = false;
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        bool meant = t->stanza.to.resource_n == 0 || span_is(jid_resource(&t->stanza.to), s->resource);
        if (!meant || !got_directed(s, &t->stanza.from))
            continue;
        presence_route(t->core, span_of(s->full), prober, none, NULL, NULL);
        answered = true;
    }
    if (!answered)
        presence_route(t->core, t->target, prober, t->stanza.id, "unsubscribed", NULL);
}

/* §4.3.2, the last paragraphs: of one resource only that it is there. */
static void answer_for_resource(struct task *t)
{
    const struct session *s = session_by_resource(t->user, jid_resource(&t->stanza.to));
    struct span prober = jid_full(&t->stanza.from), full = jid_full(&t->stanza.to);
    if (s != NULL && s->available)
        presence_route(t->core, full, prober, none, NULL, NULL);
    else
        presence_route(t->core, full, prober, t->stanza.id, "unavailable", NULL);
}

static void answer_unavailable(struct task *t)
{
    struct buf raw = {0};
    buf_add_lit(&raw, "<presence");
    xml_add_attr(&raw, "from", span_of(t->user->bare));
    xml_add_attr(&raw, "to", jid_full(&t->stanza.from));
    xml_add_attr(&raw, "id", t->stanza.id);
    buf_add_lit(&raw, " type='unavailable'");
    if (t->user->last_seen_ms == 0) {
        buf_add_lit(&raw, "/>");
    } else {
        buf_add_char(&raw, '>');
        stanza_add_delay(&raw, span_of(t->user->bare), t->user->last_seen_ms);
        buf_add_lit(&raw, "</presence>");
    }
    route_raw(t->core, buf_span(&raw), NULL);
    buf_free(&raw);
}

static bool any_available(const struct user *u)
{
    LIST_EACH (it, &u->sessions) {
        if (LIST_ENTRY(it, struct session, of_user)->available)
            return true;
    }
    return false;
}

static enum verdict on_probe(struct task *t)
{
    struct user *u = t->user;
    if (t->stanza.from.domain_n == 0)
        return task_drop(t, "probe from nobody");
    if (t->stale && span_is(jid_bare(&t->stanza.from), u->bare)) { /* retell.h */
        if (any_available(u))
            probe_contacts(u);
        return DONE;
    }
    if (!u->exists || !contacts_may_see(u, jid_bare(&t->stanza.from)))
        answer_stranger(t);
    else if (t->stanza.to.resource_n > 0)
        answer_for_resource(t);
    else if (!any_available(u))
        answer_unavailable(t);
    else
        presence_route_current(u, jid_full(&t->stanza.from), NULL);
    return DONE;
}

/* A broadcast from somebody whose presence we do not want: our side has no subscription (any more). */
static bool unwanted(struct task *t)
{
    struct span from = jid_bare(&t->stanza.from);
    const struct contact *contact = contacts_find(t->user, from);
    uint8_t state = contact != NULL ? contact->state : 0;
    if (!t->broadcast || (state & CONTACT_TO) || span_is(from, t->user->bare))
        return false;
    /* While our request is under way the approval may just come behind. */
    if (!(state & CONTACT_PENDING_OUT) && t->user->exists)
        presence_route(t->core, span_of(t->user->bare), from, none, "unsubscribe", NULL);
    return true;
}

/* From a former home of the sender's: what it says may be overtaken. The present one is asked. */
static enum verdict on_stale(struct task *t)
{
    struct user *u = t->user;
    struct span from = jid_bare(&t->stanza.from);
    const struct contact *contact = contacts_find(u, from);
    if (t->stanza.type == STANZA_UNAVAILABLE) /* nobody else may know */
        deliver_to_available(u, t->stanza.raw, t->stanza.to.domain_n > 0 ? none : t->target);
    if (contact != NULL && (contact->state & CONTACT_TO))
        presence_route(t->core, span_of(u->bare), from, none, "probe", NULL);
    return DONE;
}

static enum verdict on_received(struct task *t, enum wake wake)
{
    (void)wake;
    struct user *u = t->user;
    enum stanza_type type = t->stanza.type;
    if (type == STANZA_PROBE)
        return on_probe(t);
    if (type == STANZA_UNAVAILABLE || type == STANZA_ERROR)
        LIST_EACH (it, &u->sessions)
            forget_directed(LIST_ENTRY(it, struct session, of_user), jid_full(&t->stanza.from));
    if (type != STANZA_NONE && type != STANZA_UNAVAILABLE)
        return PASS;
    if (!u->exists)
        return task_drop(t, "no such user");
    if (unwanted(t))
        return task_drop(t, "not subscribed");
    if (t->stale && any_available(u))
        return on_stale(t);
    if (t->stanza.to.resource_n > 0) {
        struct session *s = session_by_resource(u, jid_resource(&t->stanza.to));
        if (s == NULL)
            return task_drop(t, "no such resource");
        deliver_if_room(s, t->stanza.raw);
        return DONE;
    }
    if (!any_available(u))
        return task_drop(t, "nobody available");
    u->told_ms = u->core->now_ms;
    deliver_to_available(u, t->stanza.raw, t->stanza.to.domain_n > 0 ? none : t->target);
    return DONE;
}

/* ---- events ---- */

/* The session ended without a word, or was taken away (§4.5.2). */
static void on_closed(struct user *u, struct session *s)
{
    struct buf raw = {0};
    presence_add(&raw, span_of(s->full), none, none, "unavailable");
    become_unavailable(u, s, buf_span(&raw), NULL);
    buf_free(&raw);
}

/* A slow reader has caught up: what it missed is asked for, once, in place of everything that was said
 * meanwhile. */
static void on_room(struct user *u, struct session *s)
{
    if (!s->available)
        return;
    tell_own_others(u, s);
    probe_contacts(u);
}

/* Taken over from a dead router: presence that was under way to us or from us may be lost. */
static void on_synced(struct user *u, struct session *s)
{
    if (!s->available || s->presence == NULL)
        return;
    struct rcbuf *presence = rcbuf_ref(s->presence);
    broadcast(u, rcbuf_span(presence), NULL);
    rcbuf_unref(presence);
    tell_own_others(u, s);
    probe_contacts(u);
}

const struct feature feature_presence = {
    .name = "presence",
    .rfcs = {"6121 4"},
    .hooks = {{PHASE_ROUTE, ON_PRESENCE | ON_SENT, on_sent},
              {PHASE_DELIVER, ON_PRESENCE | ON_RECEIVED, on_received}},
    .events = {{EV_SESSION_CLOSED, on_closed}, {EV_SESSION_SYNCED, on_synced}, {EV_SESSION_ROOM, on_room}},
};
