/* The roster for its owner's clients (RFC 6121 §2): get with versions, set, remove, pushes.
 *
 * A change is made in memory at once; the result and the pushes are sent when it is committed. Commits of a
 * user come back in order, so pushes leave in the order of the changes. A roster version names one state of
 * the whole roster: a client that has the current one gets an empty result, any other the full roster. */
#include "common/base/clock.h"
#include "common/xml/tree.h"
#include "router/commit.h"
#include "router/contacts.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/readdress.h"

/* How far back a new router pushes again; more than a dead one takes to be replaced. */
#define PUSH_AGAIN_MS 30000

/* What is told when a set is committed. */
struct set_note {
    struct commit_note commit;
    struct span push;      /* raw, in the arena */
    struct span contact;   /* the bare JID */
    struct span before;    /* its record before the change */
    uint8_t removed_state; /* removed: what subscriptions there were */
    bool removed;
};

static enum verdict on_get(struct task *t, enum wake wake)
{
    (void)wake;
    struct session *s = task_session(t);
    struct xml_node *query = task_payload(t);
    /* An item has no place here (§2.1.3); what extensions put there is theirs. */
    if (query == NULL || xml_child(query, "item", NS_ROSTER) != NULL)
        return task_refuse(t, STANZA_E_BAD_REQUEST, NULL);
    if (s != NULL && !s->interested) {
        s->interested = true;
        session_save(s);
        commit_before_handled(t);
    }
    struct buf out = {0};
    struct span has = xml_attr(query, "ver");
    buf_addf(&out, "%llu", (unsigned long long)t->user->roster_version);
    if (has.p != NULL && span_eq(has, buf_span(&out))) {
        buf_free(&out);
        task_result(t, (struct span){NULL, 0});
        return DONE;
    }
    buf_clear(&out);
    /* Made when more was allowed: it would hold up everybody else for what no link takes. */
    if (contacts_roster_bytes(t->user) > TASK_ANSWER_MAX_BYTES) {
        buf_free(&out);
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the roster is too large");
    }
    buf_addf(&out, "<query xmlns='" NS_ROSTER "' ver='%llu'>", (unsigned long long)t->user->roster_version);
    size_t at = 0;
    struct contact *contact;
    while ((contact = map_next(&t->user->contacts, &at)) != NULL)
        if (contact->in_roster)
            contacts_add_item(&out, contact);
    buf_add_lit(&out, "</query>");
    task_result(t, buf_span(&out));
    buf_free(&out);
    return DONE;
}

/* ---- set ---- */

/* Collects the groups of an item. False with *error when a rule of §2.3.3 is broken. */
static bool read_groups(const struct xml_node *item, struct span *groups, size_t *count,
                        enum stanza_error *error)
{
    *count = 0;
    for (const struct xml_node *g = xml_child(item, "group", NS_ROSTER); g != NULL; g = xml_sibling(g)) {
        *error = STANZA_E_NOT_ACCEPTABLE;
        if (g->text.n == 0 || g->text.n > CONTACT_GROUP_MAX_BYTES || *count == CONTACT_GROUPS_MAX)
            return false;
        *error = STANZA_E_BAD_REQUEST;
        for (size_t i = 0; i < *count; i++)
            if (span_eq(groups[i], g->text))
                return false;
        groups[(*count)++] = g->text;
    }
    return true;
}

static struct span keep_push(struct task *t, const struct contact *contact, struct span removed)
{
    struct buf push = {0};
    if (contact != NULL)
        contacts_add_push(&push, t->user, contact);
    else
        contacts_add_push_removed(&push, t->user, removed);
    struct span kept = arena_dup(task_arena(t), buf_span(&push));
    buf_free(&push);
    return kept;
}

static struct set_note *begin_set(struct task *t, struct span bare)
{
    struct set_note *note = commit_note(t, sizeof *note);
    note->contact = arena_dup(task_arena(t), bare);
    note->before = contacts_remember(t->user, bare, task_arena(t));
    return note;
}

static enum verdict change_item(struct task *t, const struct xml_node *item, struct span bare)
{
    struct user *u = t->user;
    struct span name = xml_attr(item, "name"), groups[CONTACT_GROUPS_MAX];
    size_t group_count;
    enum stanza_error error;
    if (name.n > CONTACT_NAME_MAX_BYTES)
        return task_refuse(t, STANZA_E_NOT_ACCEPTABLE, "the name is too long");
    if (!read_groups(item, groups, &group_count, &error))
        return task_refuse(t, error, "a group is empty, too long or there twice, or there are too many");
    if (!contacts_have_room(u, bare, name, groups, group_count))
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the roster is full");
    struct set_note *note = begin_set(t, bare);
    struct contact *contact = contacts_get(u, bare);
    contact->in_roster = true;
    contacts_set_name(contact, name);
    contacts_set_groups(contact, groups, group_count);
    contacts_save(u, contact);
    note->push = keep_push(t, contact, bare);
    return PASS;
}

static enum verdict remove_item(struct task *t, struct span bare)
{
    struct contact *contact = contacts_find(t->user, bare);
    bool known = contact != NULL && contact->in_roster;
    /* Sent again after a router died: it may have removed the item and told nobody. */
    if (!known && !t->again)
        return task_refuse(t, STANZA_E_ITEM_NOT_FOUND, NULL);
    struct set_note *note = begin_set(t, bare);
    note->removed = true;
    note->removed_state = known ? contact->state : CONTACT_TO | CONTACT_FROM;
    if (known)
        contacts_remove(t->user, contact);
    note->push = keep_push(t, NULL, bare);
    return PASS;
}

/* §2.5.2: what a removal tells the contact. A request that waits for our answer is denied. */
static void end_subscriptions(struct task *t, const struct set_note *note)
{
    struct user *u = t->user;
    struct span no_id = {NULL, 0};
    if (note->removed_state & (CONTACT_TO | CONTACT_PENDING_OUT))
        presence_route(t->core, span_of(u->bare), note->contact, no_id, "unsubscribe", &t->origin);
    if (note->removed_state & CONTACT_FROM)
        presence_route_unavailable(u, note->contact, &t->origin);
    if (note->removed_state & (CONTACT_FROM | CONTACT_PENDING_IN))
        presence_route(t->core, span_of(u->bare), note->contact, no_id, "unsubscribed", &t->origin);
}

static enum verdict tell(struct task *t)
{
    const struct set_note *note = t->reply;
    if (note->commit.result == STORE_FENCED)
        return commit_lost(t);
    if (note->commit.result != STORE_OK) {
        contacts_restore(t->user, note->contact, note->before);
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the server cannot store it now");
    }
    deliver_to_interested(t->user, note->push);
    if (note->removed)
        end_subscriptions(t, note);
    task_result(t, (struct span){NULL, 0});
    return DONE;
}

static enum verdict on_set(struct task *t, enum wake wake)
{
    if (wake == WAKE_REPLY)
        return tell(t);
    struct xml_node *query = task_payload(t);
    struct xml_node *item = query != NULL ? xml_child(query, "item", NS_ROSTER) : NULL;
    if (item == NULL || xml_sibling(item) != NULL)
        return task_refuse(t, STANZA_E_BAD_REQUEST, "exactly one item is allowed");
    struct span text = xml_attr(item, "jid");
    struct buf store = {0};
    struct jid jid;
    if (text.p == NULL || !jid_prepare(text, &store, &jid, NULL)) {
        buf_free(&store);
        return task_refuse(t, STANZA_E_BAD_REQUEST, "the jid is missing or malformed");
    }
    struct span bare = arena_dup(task_arena(t), jid_bare(&jid));
    buf_free(&store);
    enum verdict verdict;
    if (span_is(xml_attr(item, "subscription"), "remove"))
        verdict = remove_item(t, bare);
    else if (span_is(bare, t->user->bare))
        verdict = task_refuse(t, STANZA_E_NOT_ALLOWED, "that is yourself");
    else
        verdict = change_item(t, item, bare);
    if (verdict != PASS)
        return verdict;
    return commit_wait(t) ? WAIT : tell(t);
}

/* Nobody changes another's roster (§2.3.3). */
static enum verdict on_foreign(struct task *t, enum wake wake)
{
    (void)wake;
    return task_refuse(t, STANZA_E_FORBIDDEN, NULL);
}

/* Taken over from a dead router: pushes of its last moments may be lost. What has changed lately is pushed
 * again; a client that has it already sees no difference. */
static void on_synced(struct user *u, struct session *s)
{
    if (!s->interested)
        return;
    uint64_t wall = u->core->out.wall_ms(u->core->out.ctx);
    size_t at = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL) {
        if (!contact->in_roster || clock_age_ms(wall, contact->version) > PUSH_AGAIN_MS)
            continue;
        struct buf push = {0}, whole = {0};
        contacts_add_push(&push, u, contact);
        if (readdress(&whole, buf_span(&push), span_of(u->bare), span_of(s->full)))
            deliver_to_session(s, buf_span(&whole));
        buf_free(&push);
        buf_free(&whole);
    }
}

const struct feature feature_roster = {
    .name = "roster",
    .rfcs = {"6121 2"},
    .xeps = {"0237 1.3"},
    .disco_account = {NS_ROSTER},
    .iqs = {{STANZA_GET, IQ_TO_ACCOUNT, NS_ROSTER, "query", on_get},
            {STANZA_SET, IQ_TO_ACCOUNT, NS_ROSTER, "query", on_set},
            {STANZA_SET, IQ_TO_OTHER, NS_ROSTER, NULL, on_foreign, STRANGERS_ASK}},
    .events = {{EV_SESSION_SYNCED, on_synced}},
};
