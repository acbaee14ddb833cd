/* Message carbons (XEP-0280): whoever has enabled them sees what the account's other sessions send and get.
 * Copies go through the mailbox (copies.h), so that they outlive what their originals outlive, in the same
 * order. */
#include <stdlib.h>

#include "common/xml/tree.h"
#include "common/xml/writer.h"
#include "router/commit.h"
#include "router/copies.h"
#include "router/feature.h"
#include "router/readdress.h"

#define NS_CARBONS       "urn:xmpp:carbons:2"
#define NS_CARBONS_RULES "urn:xmpp:carbons:rules:0"
#define NS_FORWARD       "urn:xmpp:forward:0"
#define NS_RECEIPTS      "urn:xmpp:receipts"
#define NS_MARKERS       "urn:xmpp:chat-markers:0"
#define NS_CHATSTATES    "http://jabber.org/protocol/chatstates"
#define NS_MUC_USER      "http://jabber.org/protocol/muc#user"
#define NS_INVITATION    "jabber:x:conference"
#define TARGETS_MAX      1000 /* limits.sessions_per_account */

static const struct span none = {NULL, 0};

/* ---- switching ---- */

static enum verdict switch_to(struct task *t, enum wake wake, bool on)
{
    struct session *s = task_session(t);
    if (wake == WAKE_FIRST && s != NULL && s->carbons != on) {
        s->carbons = on;
        session_save(s);
        commit_note(t, sizeof(struct commit_note));
        if (commit_wait(t))
            return WAIT;
    }
    const struct commit_note *note = wake == WAKE_REPLY ? t->reply : NULL;
    if (note != NULL && note->result == STORE_FENCED)
        return commit_lost(t);
    task_result(t, none);
    return DONE;
}

static enum verdict on_enable(struct task *t, enum wake wake)
{
    return switch_to(t, wake, true);
}

static enum verdict on_disable(struct task *t, enum wake wake)
{
    return switch_to(t, wake, false);
}

static enum verdict on_foreign(struct task *t, enum wake wake)
{
    (void)wake;
    return task_refuse(t, STANZA_E_NOT_ALLOWED, NULL);
}

/* ---- what is copied (§6.1) ---- */

static bool has(const struct stanza *s, const char *name, const char *ns)
{
    return stanza_child(s, name, ns) != NULL;
}

static bool has_any(const struct stanza *s, const char *ns)
{
    for (unsigned i = 0; i < s->child_count; i++)
        if (span_is(s->children[i].ns, ns))
            return true;
    return false;
}

static bool is_conversation(const struct stanza *s)
{
    return has(s, "body", NS_CLIENT) || has_any(s, NS_RECEIPTS) || has_any(s, NS_MARKERS) ||
           has_any(s, NS_CHATSTATES);
}

/* An invitation through a room carries the room's element, as a private message in one does. */
static bool is_invitation(struct task *t)
{
    if (has(&t->stanza, "x", NS_INVITATION))
        return true;
    const struct xml_child *x = stanza_child(&t->stanza, "x", NS_MUC_USER);
    const struct xml_node *node =
        x != NULL ? xml_tree(task_arena(t), stanza_child_raw(&t->stanza, x), NS_CLIENT) : NULL;
    return node != NULL && xml_child(node, "invite", NS_MUC_USER) != NULL;
}

static bool is_copied(struct task *t)
{
    const struct stanza *s = &t->stanza;
    if (has(s, "private", NS_CARBONS) || has(s, "no-copy", NS_HINTS))
        return false;
    if (has(s, "received", NS_CARBONS) || has(s, "sent", NS_CARBONS))
        return false; /* a copy, or what wants to look like one */
    if (!t->sent && has(s, "x", NS_MUC_USER) && !is_invitation(t))
        return false; /* a private message in a room goes to every session that is there */
    switch (s->type) {
    case STANZA_CHAT:
        return true;
    case STANZA_NONE:
    case STANZA_NORMAL:
        return is_conversation(s) || is_invitation(t);
    case STANZA_ERROR:
        return is_conversation(s) || s->child_count > 1;
    default:
        return false;
    }
}

/* ---- copies ---- */

static void add_copy(struct buf *out, const struct user *u, const struct stanza *s, const char *direction)
{
    buf_add_lit(out, "<message");
    xml_add_attr(out, "from", span_of(u->bare));
    if (s->type != STANZA_NONE)
        buf_addf(out, " type='%s'", stanza_type_name(s->type));
    buf_addf(out, "><%s xmlns='" NS_CARBONS "'><forwarded xmlns='" NS_FORWARD "'>", direction);
    /* The stanza stands in another default namespace here (XEP-0297 §3.2). */
    buf_add_lit(out, "<message xmlns='" NS_CLIENT "'");
    buf_add_span(out, span_sub(s->raw, sizeof "<message" - 1, s->raw.n));
    buf_addf(out, "</forwarded></%s></message>", direction);
}

static bool is_durable_copy(const struct stanza *s)
{
    return !has(s, "no-store", NS_HINTS) && !has(s, "no-permanent-store", NS_HINTS) &&
           (has(s, "body", NS_CLIENT) || has_any(s, NS_RECEIPTS) || has_any(s, NS_MARKERS) ||
            has(s, "store", NS_HINTS));
}

/* To every session that has asked for copies and that `wanted` names. */
static void copy_to(struct task *t, const char *direction, const struct origin *origin,
                    bool (*wanted)(const struct task *t, const struct session *s))
{
    struct session **to = NULL;
    unsigned count = 0;
    LIST_EACH (it, &t->user->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (!s->carbons || s->state == SESSION_CLOSED || !wanted(t, s) || count == TARGETS_MAX)
            continue;
        if (to == NULL)
            to = arena_alloc(task_arena(t), TARGETS_MAX * sizeof(struct session *));
        to[count++] = s;
    }
    if (count == 0)
        return;
    struct buf raw = {0};
    add_copy(&raw, t->user, &t->stanza, direction);
    if (is_durable_copy(&t->stanza)) {
        copies_add(t->user, buf_span(&raw), to, count, origin, t->origin.at_ms);
    } else {
        for (unsigned i = 0; i < count; i++) {
            struct buf whole = {0};
            if (readdress(&whole, buf_span(&raw), span_of(t->user->bare), span_of(to[i]->full)))
                deliver_if_room(to[i], buf_span(&whole));
            buf_free(&whole);
        }
    }
    buf_free(&raw);
}

static bool is_another(const struct task *t, const struct session *s)
{
    return s->sid != t->sid;
}

static enum verdict on_sent(struct task *t, enum wake wake)
{
    (void)wake;
    const struct jid *to = &t->stanza.to;
    /* What is for the own account reaches the other sessions as it is. */
    bool own = to->domain_n == 0 || span_eq(jid_bare(to), span_of(t->user->bare));
    if (own || t->stanza.type == STANZA_ERROR || !is_copied(t))
        return PASS;
    copy_to(t, "sent", &t->origin, is_another);
    commit_before_handled(t);
    return PASS;
}

static bool has_not_got_it(const struct task *t, const struct session *s)
{
    return s->delivery != t->core->deliveries;
}

static enum verdict on_received(struct task *t, enum wake wake)
{
    (void)wake;
    bool own = span_eq(jid_bare(&t->stanza.from), span_of(t->user->bare));
    if (t->user->exists && !own && is_copied(t))
        copy_to(t, "received", NULL, has_not_got_it);
    return PASS;
}

const struct feature feature_carbons = {
    .name = "carbons",
    .xeps = {"0280 1.0.1"},
    .disco_host = {NS_CARBONS, NS_CARBONS_RULES},
    .disco_account = {NS_CARBONS, NS_CARBONS_RULES},
    .iqs = {{STANZA_SET, IQ_TO_ACCOUNT, NS_CARBONS, "enable", on_enable},
            {STANZA_SET, IQ_TO_ACCOUNT, NS_CARBONS, "disable", on_disable},
            {STANZA_SET, IQ_TO_OTHER, NS_CARBONS, NULL, on_foreign}},
    .hooks = {{PHASE_COPY, ON_MESSAGE | ON_SENT, on_sent},
              {PHASE_NOTIFY, ON_MESSAGE | ON_RECEIVED, on_received}},
};
