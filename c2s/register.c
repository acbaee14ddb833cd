/* In-band registration before login (XEP-0077 §3.1), when register.enabled. */
#include <stdlib.h>

#include "c2s/login.h"
#include "c2s/metrics.h"
#include "common/base/arena.h"
#include "common/log/log.h"

/* Longest password taken, bytes. */
#define PASSWORD_MAX_BYTES 1023

static void write_form(struct session *s, struct span id)
{
    buf_add_lit(&s->out, "<iq type='result'");
    xml_add_attr(&s->out, "id", id);
    buf_add_lit(&s->out, "><query xmlns='" NS_REGISTER "'><instructions>Choose a user name and a password."
                         "</instructions><username/><password/></query></iq>");
    s->env->host->output(s);
}

static void register_set(struct session *s, struct span raw, struct span id)
{
    if (s->login->registered >= s->env->registrations) {
        stat_add(&metric_registrations[SESSION_CREATED_COUNT], 1);
        log_info("c2s", "registration refused peer=%s: %u on one connection; see register.per_connection",
                 s->env->host->peer(s), s->login->registered);
        bind_write_error(s, id, STANZA_E_NOT_ALLOWED, "no more accounts on this connection");
        return;
    }
    arena_reset(s->env->arena);
    const struct xml_node *iq = xml_tree(s->env->arena, raw, NS_CLIENT);
    const struct xml_node *query = iq != NULL ? xml_child(iq, "query", NS_REGISTER) : NULL;
    const struct xml_node *user = query != NULL ? xml_child(query, "username", NS_REGISTER) : NULL;
    const struct xml_node *password = query != NULL ? xml_child(query, "password", NS_REGISTER) : NULL;
    struct buf bare = {0};
    const char *why = "a user name and a password are needed";
    if (user == NULL || password == NULL || user->text.n == 0 || password->text.n == 0 ||
        password->text.n > PASSWORD_MAX_BYTES) {
        bind_write_error(s, id, STANZA_E_NOT_ACCEPTABLE, why);
        return;
    }
    if (!jid_prepare_local(user->text, &bare, &why)) {
        bind_write_error(s, id, STANZA_E_JID_MALFORMED, why);
        buf_free(&bare);
        return;
    }
    buf_add_char(&bare, '@');
    buf_add_span(&bare, s->env->domains[s->domain]);
    struct login *l = s->login;
    buf_clear(&l->id);
    buf_add_span(&l->id, id);
    free(l->username);
    l->username = span_dup(buf_span(&bare));
    session_enter(s, SESSION_REGISTER);
    session_hold(s, SESSION_HOLD_ANSWER);
    s->env->host->create(s, buf_span(&bare), password->text);
    buf_free(&bare);
}

void register_element(struct session *s, const struct xml_element *e, struct span raw)
{
    struct span id = xml_element_attr(e, "id");
    struct span type = xml_element_attr(e, "type");
    bool ours = e->child_count == 1 && span_is(e->children[0].ns, NS_REGISTER) && s->env->registration &&
                (s->tls || !s->env->require_tls);
    if (!ours)
        session_fail(s, SESSION_END_CLEAN, STREAM_E_NOT_AUTHORIZED, "log in first", NULL);
    else if (span_is(type, "get"))
        write_form(s, id);
    else if (span_is(type, "set"))
        register_set(s, raw, id);
    else
        bind_write_error(s, id, STANZA_E_BAD_REQUEST, NULL);
}

void session_created(struct session *s, enum session_created how)
{
    if (s->state != SESSION_REGISTER)
        return;
    struct login *l = s->login;
    session_enter(s, SESSION_FEATURES);
    session_unhold(s, SESSION_HOLD_ANSWER);
    stat_add(&metric_registrations[how], 1);
    log_info("c2s", "registration of jid=%s peer=%s: %s", l->username, s->env->host->peer(s),
             how == SESSION_CREATED          ? "done"
             : how == SESSION_CREATED_EXISTS ? "refused, the account exists"
             : how == SESSION_CREATED_BAD    ? "refused, the password cannot be used"
             : how == SESSION_CREATED_TOO_MANY
                 ? "refused, too many of its address in an hour; see register.per_address"
                 : "refused, the account store does not answer; see redis.url");
    switch (how) {
    case SESSION_CREATED:
        l->registered++;
        buf_add_lit(&s->out, "<iq type='result'");
        xml_add_attr(&s->out, "id", buf_span(&l->id));
        buf_add_lit(&s->out, "/>");
        s->env->host->output(s);
        break;
    case SESSION_CREATED_EXISTS:
        bind_write_error(s, buf_span(&l->id), STANZA_E_CONFLICT, "the user name is taken");
        break;
    case SESSION_CREATED_BAD:
        bind_write_error(s, buf_span(&l->id), STANZA_E_NOT_ACCEPTABLE, "the password cannot be used");
        break;
    case SESSION_CREATED_TOO_MANY:
        bind_write_error(s, buf_span(&l->id), STANZA_E_RESOURCE_CONSTRAINT,
                         "too many accounts from this address; try again later");
        break;
    case SESSION_CREATED_COUNT:
        break;
    case SESSION_CREATED_AWAY:
        bind_write_error(s, buf_span(&l->id), STANZA_E_RESOURCE_CONSTRAINT, "try again later");
        break;
    }
}
