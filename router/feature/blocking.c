/* Blocking (XEP-0191): the user's list, changed and pushed; who is on it hears and is heard no more.
 *
 * A change holds in memory at once and is told when it is committed: the result, then a push to every session
 * that has asked for the list, then presence: unavailable to those who are blocked now and saw ours, the
 * current one to those who are not any more. To somebody who is blocked the account looks like one that does
 * not exist. */
#include <stdlib.h>

#include "common/xml/tree.h"
#include "common/xml/writer.h"
#include "router/blocklist.h"
#include "router/commit.h"
#include "router/contacts.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/readdress.h"

#define NS_BLOCKING        "urn:xmpp:blocking"
#define NS_BLOCKING_ERRORS "urn:xmpp:blocking:errors"
#define BLOCKED_ELEMENT    "<blocked xmlns='" NS_BLOCKING_ERRORS "'/>"
#define PUSH_AGAIN_MS \
    30000 /* what changed so shortly before a take-over may not have reached every session */

static const struct span none = {NULL, 0};

/* What one request changes, kept while it is written. */
struct change_note {
    struct commit_note commit;
    struct span *items; /* prepared JIDs, in the arena */
    size_t count;
    struct span before; /* the list as it was */
    bool all;           /* <unblock/> without items */
};

/* ---- the list for its owner ---- */

static void add_item(struct buf *out, struct span jid)
{
    buf_add_lit(out, "<item");
    xml_add_attr(out, "jid", jid);
    buf_add_lit(out, "/>");
}

static enum verdict on_get(struct task *t, enum wake wake)
{
    (void)wake;
    struct session *s = task_session(t);
    struct buf out = {0};
    size_t at = 0;
    const char *jid;
    if (s != NULL && !s->wants_blocklist) {
        s->wants_blocklist = true;
        session_save(s);
        commit_before_handled(t);
    }
    buf_add_lit(&out, "<blocklist xmlns='" NS_BLOCKING "'>");
    while ((jid = blocklist_next(t->user, &at)) != NULL)
        add_item(&out, span_of(jid));
    buf_add_lit(&out, "</blocklist>");
    task_result(t, buf_span(&out));
    buf_free(&out);
    return DONE;
}

/* To one session, or (only NULL) to all that have asked for the list. */
static void push(struct user *u, struct session *only, const char *name, const struct span *items,
                 size_t count)
{
    struct buf raw = {0};
    buf_addf(&raw, "<iq type='set' id='blocking-%llx'",
             (unsigned long long)u->core->out.random(u->core->out.ctx));
    xml_add_attr(&raw, "from", span_of(u->bare));
    buf_addf(&raw, "><%s xmlns='" NS_BLOCKING "'>", name);
    for (size_t i = 0; i < count; i++)
        add_item(&raw, items[i]);
    buf_addf(&raw, "</%s></iq>", name);
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        struct buf out = {0};
        if (s->wants_blocklist && (only == NULL || only == s) &&
            readdress(&out, buf_span(&raw), span_of(u->bare), span_of(s->full)))
            deliver_to_session(s, buf_span(&out));
        buf_free(&out);
    }
    buf_free(&raw);
}

/* ---- presence ---- */

/* Contacts under an entry who may see us get `tell` (a full JID that is blocked: that resource alone). */
static void each_contact(struct user *u, struct span item, uint8_t bit,
                         void (*tell)(struct user *u, struct span to))
{
    struct jid wanted, contact_jid;
    size_t at = 0;
    struct contact *contact;
    if (!jid_split(item, &wanted))
        return;
    while ((contact = map_next(&u->contacts, &at)) != NULL) {
        if (!(contact->state & bit) || !jid_split(span_of(contact->jid), &contact_jid))
            continue;
        if (span_eq(jid_bare(&wanted), jid_bare(&contact_jid)))
            tell(u, jid_full(&wanted));
        else if (wanted.local_n == 0 && wanted.resource_n == 0 && blocklist_covers(item, &contact_jid))
            tell(u, span_of(contact->jid));
    }
}

static void tell_unavailable(struct user *u, struct span to)
{
    presence_route_unavailable(u, to, NULL);
}

static void tell_current(struct user *u, struct span to)
{
    presence_route_current(u, to, NULL);
}

static void ask_presence(struct user *u, struct span to)
{
    presence_route(u->core, span_of(u->bare), to, none, "probe", NULL);
}

/* Directed presence to somebody who is blocked now is taken back. */
static void end_directed(struct session *s, struct span item)
{
    struct jid to;
    size_t at = 0;
    char *key;
    bool changed = false;
    while ((key = map_next(&s->directed, &at)) != NULL) {
        if (!jid_split(span_of(key), &to) || !blocklist_covers(item, &to))
            continue;
        presence_route(s->user->core, span_of(s->full), span_of(key), none, "unavailable", NULL);
        map_del(&s->directed, span_of(key));
        free(key);
        changed = true;
        at = 0; /* the map has changed */
    }
    if (changed)
        session_save(s);
}

static void tell_blocked(struct user *u, struct span item)
{
    each_contact(u, item, CONTACT_FROM, tell_unavailable);
    LIST_EACH (it, &u->sessions)
        end_directed(LIST_ENTRY(it, struct session, of_user), item);
}

static void tell_unblocked(struct user *u, struct span item)
{
    each_contact(u, item, CONTACT_FROM, tell_current);
    each_contact(u, item, CONTACT_TO, ask_presence);
}

/* ---- changes ---- */

/* The items of a request, prepared. False with *error when one is no JID. */
static bool read_items(struct task *t, struct change_note *note, enum stanza_error *error)
{
    const struct xml_node *payload = task_payload(t);
    size_t cap = 0;
    if (payload == NULL) {
        *error = STANZA_E_BAD_REQUEST;
        return false;
    }
    for (const struct xml_node *i = xml_child(payload, "item", NS_BLOCKING); i != NULL; i = xml_sibling(i))
        cap++;
    note->items = cap > 0 ? arena_alloc(task_arena(t), cap * sizeof *note->items) : NULL;
    for (const struct xml_node *i = xml_child(payload, "item", NS_BLOCKING); i != NULL; i = xml_sibling(i)) {
        struct span text = xml_attr(i, "jid");
        struct buf store = {0};
        struct jid jid;
        const char *why;
        bool good = text.n > 0 && jid_prepare(text, &store, &jid, &why);
        if (good)
            note->items[note->count++] = arena_dup(task_arena(t), jid_full(&jid));
        buf_free(&store);
        if (!good) {
            *error = text.n > 0 ? STANZA_E_JID_MALFORMED : STANZA_E_BAD_REQUEST;
            return false;
        }
    }
    return true;
}

static struct span remember(struct task *t)
{
    struct buf text = {0};
    blocklist_write(t->user, &text);
    struct span kept = arena_dup(task_arena(t), buf_span(&text));
    buf_free(&text);
    return kept;
}

/* Keeps of the items those that changed something: presence is told of these alone. */
static void apply(struct user *u, const struct change_note *note, bool block)
{
    for (size_t i = 0; i < note->count; i++) {
        if (block)
            blocklist_add(u, note->items[i]);
        else
            blocklist_remove(u, note->items[i]);
    }
    blocklist_save(u);
}

static enum verdict begin(struct task *t, bool block)
{
    struct change_note *note = commit_note(t, sizeof *note);
    enum stanza_error error;
    if (!read_items(t, note, &error))
        return task_refuse(t, error, NULL);
    if (block && note->count == 0)
        return task_refuse(t, STANZA_E_BAD_REQUEST, "whom?");
    if (block && blocklist_count(t->user) + note->count > (uint64_t)t->core->conf->limits_blocked_jids)
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the list is full");
    note->before = remember(t);
    if (!block && note->count == 0) {
        note->all = true;
        note->items = arena_alloc(task_arena(t), (blocklist_count(t->user) + 1) * sizeof *note->items);
        for (struct span rest = note->before; rest.n > 0;)
            note->items[note->count++] = span_cut(&rest, '\n');
    }
    apply(t->user, note, block);
    return PASS;
}

static enum verdict finish(struct task *t, bool block)
{
    const struct change_note *note = t->reply;
    if (note->commit.result == STORE_FENCED)
        return commit_lost(t);
    if (note->commit.result != STORE_OK) {
        blocklist_load(t->user, note->before);
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the server cannot store it now");
    }
    task_result(t, none);
    push(t->user, NULL, block ? "block" : "unblock", note->items, note->all ? 0 : note->count);
    for (size_t i = 0; i < note->count; i++) {
        if (block)
            tell_blocked(t->user, note->items[i]);
        else
            tell_unblocked(t->user, note->items[i]);
    }
    return DONE;
}

static enum verdict change(struct task *t, enum wake wake, bool block)
{
    if (wake == WAKE_FIRST) {
        enum verdict v = begin(t, block);
        if (v != PASS)
            return v;
        if (commit_wait(t))
            return WAIT;
    }
    return finish(t, block);
}

static enum verdict on_block(struct task *t, enum wake wake)
{
    return change(t, wake, true);
}

static enum verdict on_unblock(struct task *t, enum wake wake)
{
    return change(t, wake, false);
}

/* ---- what passes ---- */

/* From somebody who is blocked (§3.2): the same as if there were no such account. */
static enum verdict on_received(struct task *t, enum wake wake)
{
    (void)wake;
    const struct stanza *s = &t->stanza;
    if (!blocklist_has(t->user, &s->from))
        return PASS;
    bool request = s->kind == STANZA_IQ && (s->type == STANZA_GET || s->type == STANZA_SET);
    bool message = s->kind == STANZA_MESSAGE &&
                   (s->type == STANZA_NONE || s->type == STANZA_NORMAL || s->type == STANZA_CHAT);
    /* An error to a room would throw the user out of it, so its messages go without one. */
    return request || message ? task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL) : task_drop(t, "blocked");
}

static enum verdict on_sent(struct task *t, enum wake wake)
{
    (void)wake;
    const struct stanza *s = &t->stanza;
    if (!blocklist_has(t->user, &s->to) ||
        (s->to.local_n == 0 && core_is_local_domain(t->core, jid_domain(&s->to))))
        return PASS;
    bool answer = s->type == STANZA_ERROR || (s->kind == STANZA_IQ && s->type == STANZA_RESULT);
    if (answer || (s->kind == STANZA_PRESENCE && s->type == STANZA_UNAVAILABLE))
        return task_drop(t, "to-blocked");
    t->error_extra = (struct stanza_error_extra){"cancel", BLOCKED_ELEMENT};
    return task_refuse(t, STANZA_E_NOT_ACCEPTABLE, NULL);
}

/* ---- events ---- */

/* Taken over from a dead router: its last pushes may be lost. The list as it is replaces what the client
 * believes. */
static void on_synced(struct user *u, struct session *s)
{
    if (!s->wants_blocklist || !blocklist_changed_within(u, PUSH_AGAIN_MS))
        return;
    size_t count = 0, at = 0;
    struct span *items = xcalloc(blocklist_count(u) + 1, sizeof *items);
    const char *jid;
    while ((jid = blocklist_next(u, &at)) != NULL)
        items[count++] = span_of(jid);
    push(u, s, "unblock", NULL, 0);
    if (count > 0)
        push(u, s, "block", items, count);
    free(items);
}

const struct feature feature_blocking = {
    .name = "blocking",
    .xeps = {"0191 1.3"},
    .disco_host = {NS_BLOCKING},
    .iqs = {{STANZA_GET, IQ_TO_ACCOUNT, NS_BLOCKING, "blocklist", on_get},
            {STANZA_SET, IQ_TO_ACCOUNT, NS_BLOCKING, "block", on_block},
            {STANZA_SET, IQ_TO_ACCOUNT, NS_BLOCKING, "unblock", on_unblock}},
    .hooks = {{PHASE_POLICY, ON_MESSAGE | ON_PRESENCE | ON_IQ | ON_RECEIVED, on_received},
              {PHASE_POLICY, ON_MESSAGE | ON_PRESENCE | ON_IQ | ON_SENT, on_sent}},
    .events = {{EV_SESSION_SYNCED, on_synced}},
};
