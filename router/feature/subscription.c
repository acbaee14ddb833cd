/* Presence subscriptions (RFC 6121 §3): the stanzas subscribe, subscribed, unsubscribe, unsubscribed. The
 * rules are contacts_outbound and contacts_inbound (appendix A); this file writes the new state, waits for
 * the commit and then tells everybody.
 *
 * A router may die between the commit and the telling. The stanza then comes again (task.again) to a state
 * that has changed already, and appendix A alone would stay silent. So a stanza that comes again is also told
 * when the state is what it would have led to; receivers ignore what changes nothing for them. */
#include "router/commit.h"
#include "router/contacts.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/readdress.h"

/* Requests are kept whole until they are answered (§3.1.3), so there is a limit to how many and how long. */
#define REQUESTS_MAX      1000
#define REQUEST_MAX_BYTES 16384

struct change_note {
    struct commit_note commit;
    struct contact_change change;
    struct span before; /* the contact's record before the change */
    struct span push;   /* raw, in the arena; p NULL = none */
};

static bool is_subscription(enum stanza_type type)
{
    return type == STANZA_SUBSCRIBE || type == STANZA_SUBSCRIBED || type == STANZA_UNSUBSCRIBE ||
           type == STANZA_UNSUBSCRIBED;
}

/* Writes the new state of a contact; contact may be NULL when there is none yet. Returns the note for the
 * telling, with the push if there is one. */
static struct change_note *write_change(struct task *t, struct contact *contact, struct span bare,
                                        struct contact_change change)
{
    struct user *u = t->user;
    struct change_note *note = commit_note(t, sizeof *note);
    uint8_t before = contact != NULL ? contact->state : 0;
    note->change = change;
    note->before = contacts_remember(u, bare, task_arena(t));
    if (change.state == before && !change.push)
        return note;
    if (contact == NULL)
        contact = contacts_get(u, bare);
    contact->state = change.state;
    if (!(change.state & CONTACT_PENDING_IN)) {
        rcbuf_unref(contact->request);
        contact->request = NULL;
    } else if (contact->request == NULL && !t->sent && t->stanza.type == STANZA_SUBSCRIBE) {
        contact->request = rcbuf_new(t->stanza.raw.p, t->stanza.raw.n);
    }
    if (!change.push) {
        if (contact->state == 0 && !contact->in_roster)
            contacts_remove(u, contact);
        else
            contacts_save_hidden(u, contact);
        return note;
    }
    contact->in_roster = true;
    contacts_save(u, contact);
    struct buf push = {0};
    contacts_add_push(&push, u, contact);
    note->push = arena_dup(task_arena(t), buf_span(&push));
    buf_free(&push);
    return note;
}

/* ---- from our user ---- */

/* Whether a stanza that comes again has to be told although the state does not change any more. */
static bool sent_before(enum stanza_type type, uint8_t state)
{
    if (type == STANZA_SUBSCRIBED)
        return (state & CONTACT_FROM) != 0;
    return type == STANZA_UNSUBSCRIBED && !(state & (CONTACT_FROM | CONTACT_PENDING_IN));
}

static enum verdict tell_sent(struct task *t)
{
    const struct change_note *note = t->reply;
    struct user *u = t->user;
    if (note->commit.result == STORE_FENCED)
        return commit_lost(t);
    struct span contact = jid_bare(&t->stanza.to);
    if (note->commit.result != STORE_OK) {
        contacts_restore(u, contact, note->before);
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the server cannot store it now");
    }
    if (note->change.send_unavailable) /* §3.2.2: while the contact still sees us */
        presence_route_unavailable(u, contact, &t->origin);
    if (note->change.route) {
        struct buf raw = {0};
        if (readdress(&raw, t->stanza.raw, span_of(u->bare), contact))
            route_raw(t->core, buf_span(&raw), &t->origin);
        buf_free(&raw);
    }
    if (note->push.p != NULL)
        deliver_to_interested(u, note->push);
    if (note->change.send_presence) /* §3.1.5 */
        presence_route_current(u, contact, &t->origin);
    return DONE;
}

static enum verdict on_sent(struct task *t, enum wake wake)
{
    enum stanza_type type = t->stanza.type;
    if (!is_subscription(type))
        return PASS;
    if (wake == WAKE_REPLY)
        return tell_sent(t);
    struct user *u = t->user;
    if (t->stanza.to.domain_n == 0)
        return task_refuse(t, STANZA_E_BAD_REQUEST, "to whom?");
    struct span bare = jid_bare(&t->stanza.to);
    if (span_is(bare, u->bare))
        return task_drop(t, "subscription to oneself");
    struct contact *contact = contacts_find(u, bare);
    uint8_t before = contact != NULL ? contact->state : 0;
    struct contact_change change = contacts_outbound(before, type);
    if (change.push && (contact == NULL || !contact->in_roster) &&
        !contacts_have_room(u, bare, (struct span){NULL, 0}, NULL, 0))
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the roster is full");
    if (t->again && !change.route && sent_before(type, before)) {
        change.route = true;
        change.send_presence |= type == STANZA_SUBSCRIBED;
        change.send_unavailable |= type == STANZA_UNSUBSCRIBED;
    }
    struct change_note *note = write_change(t, contact, bare, change);
    contact = contacts_find(u, bare); /* it may be a new one, or gone */
    if (t->again && note->push.p == NULL && contact != NULL && contact->in_roster) {
        struct buf push = {0};
        contacts_add_push(&push, u, contact);
        note->push = arena_dup(task_arena(t), buf_span(&push));
        buf_free(&push);
    }
    return commit_wait(t) ? WAIT : tell_sent(t);
}

/* ---- from a contact ---- */

static bool received_before(enum stanza_type type, uint8_t state)
{
    switch (type) {
    case STANZA_SUBSCRIBED:
        return (state & CONTACT_TO) != 0;
    case STANZA_UNSUBSCRIBE:
        return !(state & (CONTACT_FROM | CONTACT_PENDING_IN));
    case STANZA_UNSUBSCRIBED:
        return !(state & (CONTACT_TO | CONTACT_PENDING_OUT));
    default:
        return false; /* a request that is kept is delivered again at the next login or take-over */
    }
}

/* A stanza that has its own `to`, so none is added (as deliver_to_interested does for pushes). */
static void deliver_whole(struct user *u, struct span raw)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->interested)
            deliver_to_session(s, raw);
    }
}

static enum verdict tell_received(struct task *t)
{
    const struct change_note *note = t->reply;
    struct user *u = t->user;
    if (note->commit.result == STORE_FENCED)
        return commit_lost(t);
    struct span contact = jid_bare(&t->stanza.from), own = span_of(u->bare);
    if (note->commit.result != STORE_OK) {
        contacts_restore(u, contact, note->before);
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, NULL);
    }
    /* The stanza before the push (§3.1.6, §3.2.3, §3.3.3). */
    if (note->change.route && t->stanza.type == STANZA_SUBSCRIBE)
        deliver_to_available(u, t->stanza.raw, (struct span){NULL, 0});
    else if (note->change.route)
        deliver_whole(u, t->stanza.raw);
    if (note->push.p != NULL)
        deliver_to_interested(u, note->push);
    if (note->change.auto_subscribed)
        presence_route(t->core, own, contact, t->stanza.id, "subscribed", NULL);
    if (note->change.send_presence)
        presence_route_current(u, contact, NULL);
    if (note->change.send_unavailable)
        presence_route_unavailable(u, contact, NULL);
    if (note->change.auto_unsubscribed)
        presence_route(t->core, own, contact, t->stanza.id, "unsubscribed", NULL);
    return DONE;
}

static enum verdict check_request(struct task *t)
{
    if (t->stanza.raw.n > REQUEST_MAX_BYTES)
        return task_refuse(t, STANZA_E_POLICY_VIOLATION, "a subscription request may have 16 KiB at most");
    if (contacts_request_count(t->user) >= REQUESTS_MAX)
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "too many requests wait for an answer");
    return PASS;
}

static enum verdict on_received(struct task *t, enum wake wake)
{
    enum stanza_type type = t->stanza.type;
    if (!is_subscription(type))
        return PASS;
    if (wake == WAKE_REPLY)
        return tell_received(t);
    struct user *u = t->user;
    struct span bare = jid_bare(&t->stanza.from);
    if (!u->exists) /* §8.5.1: silently, but for what nobody's account would take */
        return type == STANZA_SUBSCRIBE && t->stanza.raw.n > REQUEST_MAX_BYTES ? check_request(t)
                                                                               : task_drop(t, "no such user");
    if (t->stanza.from.domain_n == 0 || span_is(bare, u->bare))
        return task_drop(t, "subscription to oneself");
    /* §8.5.3.2.2 */
    if (type != STANZA_SUBSCRIBE && t->stanza.to.resource_n > 0 &&
        session_by_resource(u, jid_resource(&t->stanza.to)) == NULL)
        return task_drop(t, "no such resource");
    struct contact *contact = contacts_find(u, bare);
    uint8_t before = contact != NULL ? contact->state : 0;
    struct contact_change change = contacts_inbound(before, type);
    if (change.state & ~before & CONTACT_PENDING_IN) {
        enum verdict verdict = check_request(t);
        if (verdict != PASS)
            return verdict;
    }
    if (t->again && !change.route && received_before(type, before)) {
        change.route = true;
        change.auto_unsubscribed = type == STANZA_UNSUBSCRIBE;
    }
    write_change(t, contact, bare, change);
    if (!change.route && !change.push && !change.auto_subscribed)
        return task_drop(t, "subscription without effect");
    return commit_wait(t) ? WAIT : tell_received(t);
}

/* ---- events ---- */

static void deliver_requests(struct user *u, struct session *s)
{
    size_t at = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL)
        if (contact->request != NULL)
            deliver_to_session(s, rcbuf_span(contact->request));
}

static bool is_first_available(const struct user *u, const struct session *s)
{
    LIST_EACH (it, &u->sessions) {
        const struct session *other = LIST_ENTRY(it, struct session, of_user);
        if (other != s && other->available)
            return false;
    }
    return true;
}

/* §3.1.3: requests are delivered at every login until they are answered; §3.1.2: our own unanswered ones to
 * other servers are sent again. */
static void on_available(struct user *u, struct session *s)
{
    deliver_requests(u, s);
    if (!is_first_available(u, s))
        return;
    size_t at = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL) {
        struct jid jid;
        if ((contact->state & CONTACT_PENDING_OUT) && jid_split(span_of(contact->jid), &jid) &&
            !core_is_local_domain(u->core, jid_domain(&jid)))
            presence_route(u->core, span_of(u->bare), span_of(contact->jid), (struct span){NULL, 0},
                           "subscribe", NULL);
    }
}

static void on_synced(struct user *u, struct session *s)
{
    if (s->available)
        deliver_requests(u, s);
}

static void on_deleted(struct user *u, struct session *s)
{
    (void)s;
    size_t at = 0;
    struct contact *contact;
    struct span own = span_of(u->bare), no_id = {NULL, 0};
    while ((contact = map_next(&u->contacts, &at)) != NULL) {
        struct span to = span_of(contact->jid);
        if (contact->state & (CONTACT_TO | CONTACT_PENDING_OUT))
            presence_route(u->core, own, to, no_id, "unsubscribe", NULL);
        if (contact->state & CONTACT_FROM)
            presence_route_unavailable(u, to, NULL);
        if (contact->state & (CONTACT_FROM | CONTACT_PENDING_IN))
            presence_route(u->core, own, to, no_id, "unsubscribed", NULL);
    }
}

const struct feature feature_subscription = {
    .name = "subscription",
    .rfcs = {"6121 3"},
    .hooks = {{PHASE_ROUTE, ON_PRESENCE | ON_SENT, on_sent},
              {PHASE_DELIVER, ON_PRESENCE | ON_RECEIVED, on_received}},
    .events = {{EV_SESSION_AVAILABLE, on_available},
               {EV_SESSION_SYNCED, on_synced},
               {EV_USER_DELETED, on_deleted}},
};
