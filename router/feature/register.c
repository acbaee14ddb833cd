/* In-band registration for people who are logged in (XEP-0077): what is on file, a new password, the end of
 * the account. (Making an account happens before a log-in, in c2s.)
 *
 * Deriving keys costs this process some milliseconds, so one session may change its password only every few
 * seconds. */
#include <stdlib.h>

#include "common/log/log.h"
#include "common/sasl/sasl.h"
#include "common/stream/stream.h"
#include "common/xml/tree.h"
#include "common/xml/writer.h"
#include "router/feature.h"

#define CHANGE_PAUSE_MS 10000

extern const struct feature feature_register;

struct slot {
    uint64_t changed_ms; /* monotonic; 0 = never */
};

struct note {
    enum store_result result;
    bool remove;
    uint64_t sid; /* of the session that asks */
};

static enum verdict on_get(struct task *t, enum wake wake)
{
    (void)wake;
    if (!t->sent) /* somebody of another server asks the domain */
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    struct buf out = {0};
    buf_add_lit(&out, "<query xmlns='" NS_REGISTER "'><registered/><username>");
    xml_add_text(&out, jid_local(&t->user->jid));
    buf_add_lit(&out, "</username><password/></query>");
    task_result(t, buf_span(&out));
    buf_free(&out);
    return DONE;
}

static void on_stored(void *ctx, enum store_result result)
{
    struct task *t = ctx;
    ((struct note *)t->reply)->result = result;
    task_resume(t);
}

static void delete_now(void *ctx, enum store_result result)
{
    struct task *t = ctx;
    struct store *store = t->core->store;
    if (result != STORE_OK) {
        on_stored(t, result); /* the user was lost while this waited */
        return;
    }
    user_delete_begin(t->user);
    store->face->account_delete(store, span_of(t->user->bare), on_stored, t);
}

static struct task *keep(struct task *t, bool remove)
{
    t = task_keep(t);
    struct note *note = arena_alloc(task_arena(t), sizeof *note);
    note->remove = remove;
    t->reply = note;
    return t;
}

static enum verdict change_password(struct task *t, struct session *s, const struct xml_node *query)
{
    const struct xml_node *username = xml_child(query, "username", NS_REGISTER);
    const struct xml_node *password = xml_child(query, "password", NS_REGISTER);
    struct slot *slot = session_slot(s, &feature_register);
    struct sasl_keys keys;
    if (!t->core->conf->register_allow_password_change)
        return task_refuse(t, STANZA_E_NOT_ALLOWED, "the password is not changed here");
    if (username == NULL || password == NULL)
        return task_refuse(t, STANZA_E_BAD_REQUEST, "username and password are needed");
    struct buf local = {0};
    bool own = jid_prepare_local(username->text, &local, NULL) &&
               span_eq(buf_span(&local), jid_local(&t->user->jid));
    buf_free(&local);
    if (!own)
        return task_refuse(t, STANZA_E_NOT_ALLOWED, "that is not your account");
    if (password->text.n == 0)
        return task_refuse(t, STANZA_E_NOT_ACCEPTABLE, "the password is empty");
    if (t->core->conf->limits_enabled && slot->changed_ms != 0 &&
        t->core->now_ms - slot->changed_ms < CHANGE_PAUSE_MS)
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "not so often, please");
    slot->changed_ms = t->core->now_ms;
    if (!sasl_keys_derive(password->text, SASL_ITERATIONS_DEFAULT, &keys))
        return task_refuse(t, STANZA_E_NOT_ACCEPTABLE, "the password has characters that are not allowed");
    t = keep(t, false);
    ((struct note *)t->reply)->sid = s->sid;
    t->core->store->face->account_set(t->core->store, span_of(t->user->bare), &keys, on_stored, t);
    memset(&keys, 0, sizeof keys);
    return WAIT;
}

static void end_sessions(void *ctx, enum store_result result)
{
    struct user *u = ctx;
    (void)result;
    LIST_EACH (it, &u->sessions)
        session_kill(LIST_ENTRY(it, struct session, of_user), STREAM_E_NOT_AUTHORIZED,
                     "the account was removed");
    user_release(u);
}

struct others {
    struct user *user;
    uint64_t but; /* this session stays */
};

static void end_others(void *ctx, enum store_result result)
{
    struct others *o = ctx;
    (void)result;
    LIST_EACH (it, &o->user->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->sid != o->but)
            session_kill(s, STREAM_E_NOT_AUTHORIZED, "the password was changed");
    }
    user_release(o->user);
    free(o);
}

/* Whoever knew the old password may be why there is a new one: the other sessions log in anew. */
static void password_changed(struct task *t, uint64_t sid)
{
    log_info("router", "password changed jid=%s", t->user->bare);
    task_result(t, (struct span){NULL, 0});
    if (!t->core->conf->register_end_other_sessions)
        return;
    struct others *o = xmalloc(sizeof(*o));
    *o = (struct others){t->user, sid};
    user_hold(t->user);
    user_after_commit(t->user, end_others, o);
}

/* The account is deleted in the store: everybody is told, every session ends (§3.2 there), behind what is on
 * its way to it. */
static void end_account(struct task *t)
{
    struct user *u = t->user;
    log_info("router", "account removed by its owner jid=%s", u->bare);
    task_result(t, (struct span){NULL, 0});
    feature_event(EV_USER_DELETED, u, NULL);
    user_hold(u);
    user_after_commit(u, end_sessions, u);
}

static enum verdict finish(struct task *t)
{
    const struct note *note = t->reply;
    if (note->remove)
        user_delete_end(t->user, note->result == STORE_OK);
    if (note->result != STORE_OK)
        return task_refuse(t, STANZA_E_INTERNAL_SERVER_ERROR, "the server's store does not answer");
    if (note->remove)
        end_account(t);
    else
        password_changed(t, note->sid);
    return DONE;
}

static enum verdict on_set(struct task *t, enum wake wake)
{
    if (wake == WAKE_REPLY)
        return finish(t);
    if (!t->sent)
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    struct session *s = task_session(t);
    struct xml_node *query = task_payload(t);
    if (s == NULL || query == NULL)
        return task_refuse(t, STANZA_E_BAD_REQUEST, NULL);
    const struct xml_node *remove = xml_child(query, "remove", NS_REGISTER);
    if (remove == NULL)
        return change_password(t, s, query);
    if (query->first_child != remove || remove->next != NULL)
        return task_refuse(t, STANZA_E_BAD_REQUEST, "remove must stand alone");
    if (!t->core->conf->register_allow_remove)
        return task_refuse(t, STANZA_E_NOT_ALLOWED, "accounts are not removed here");
    t = keep(t, true);
    user_after_commit(t->user, delete_now, t);
    return WAIT;
}

const struct feature feature_register = {
    .name = "register",
    .xeps = {"0077 2.4"},
    .disco_host = {NS_REGISTER},
    .session_size = sizeof(struct slot),
    .iqs = {{STANZA_GET, IQ_TO_ACCOUNT, NS_REGISTER, "query", on_get},
            {STANZA_SET, IQ_TO_ACCOUNT, NS_REGISTER, "query", on_set},
            {STANZA_GET, IQ_TO_HOST, NS_REGISTER, "query", on_get},
            {STANZA_SET, IQ_TO_HOST, NS_REGISTER, "query", on_set}},
};
