/* Stream features (RFC 6120 §4.3.2), resource binding (§7) and the legacy session (RFC 3921 §3). */
#include <stdlib.h>

#include "c2s/login.h"
#include "c2s/metrics.h"
#include "common/base/arena.h"
#include "common/log/log.h"

/* RFC 6120 §7.7.2.2 recommends 5 to 10. */
#define BIND_TRIES_MAX 8

void features_write(struct session *s)
{
    struct session_env *env = s->env;
    struct buf *out = &s->out;
    buf_add_lit(out, "<stream:features>");
    if (!s->authenticated) {
        if (!s->tls && env->have_tls) {
            buf_add_lit(out, "<starttls xmlns='" NS_TLS "'>");
            if (env->require_tls)
                buf_add_lit(out, "<required/>");
            buf_add_lit(out, "</starttls>");
        }
        if (s->tls || !env->require_tls) {
            auth_write_features(s);
            if (env->registration)
                buf_add_lit(out, "<register xmlns='" NS_REGISTER_FEATURE "'/>");
        }
    } else {
        buf_add_lit(out, "<bind xmlns='" NS_BIND "'/><session xmlns='" NS_SESSION "'><optional/></session>"
                         "<sm xmlns='" NS_SM "'/><ver xmlns='" NS_ROSTERVER "'/><sub xmlns='" NS_PREAPPROVAL
                         "'/>");
        if (env->caps_ver[0] != '\0') {
            buf_add_lit(out, "<c xmlns='" NS_CAPS "' hash='sha-1'");
            xml_add_attr(out, "node", span_of(env->caps_node));
            xml_add_attr(out, "ver", span_of(env->caps_ver));
            buf_add_lit(out, "/>");
        }
    }
    const struct stream_kind *kind = s->authenticated ? &env->after_login : &env->before_login;
    buf_add_lit(out, "<limits xmlns='" NS_LIMITS "'><max-bytes>");
    buf_add_u64(out, kind->limits.element_max_bytes);
    buf_add_lit(out, "</max-bytes>");
    if (env->idle_s > 0) {
        buf_add_lit(out, "<idle-seconds>");
        buf_add_u64(out, env->idle_s);
        buf_add_lit(out, "</idle-seconds>");
    }
    buf_add_lit(out, "</limits></stream:features>");
    env->host->output(s);
}

static void write_iq_open(struct session *s, const char *type, struct span id)
{
    buf_add_lit(&s->out, "<iq type='");
    buf_add_str(&s->out, type);
    buf_add_char(&s->out, '\'');
    xml_add_attr(&s->out, "id", id);
    buf_add_char(&s->out, '>');
}

void bind_write_error(struct session *s, struct span id, enum stanza_error error, const char *text)
{
    write_iq_open(s, "error", id);
    buf_addf(&s->out, "<error type='%s'><%s xmlns='" NS_STANZA_ERRORS "'/>", stanza_error_type(error),
             stanza_error_name(error));
    if (text != NULL && *text != '\0') {
        buf_add_lit(&s->out, "<text xmlns='" NS_STANZA_ERRORS "' xml:lang='en'>");
        xml_add_text(&s->out, span_of(text));
        buf_add_lit(&s->out, "</text>");
    }
    buf_add_lit(&s->out, "</error></iq>");
    s->env->host->output(s);
}

/* Counts a bind that was refused; ends the stream after too many. */
static void bind_refuse(struct session *s, struct span id, enum stanza_error error, const char *text)
{
    bind_write_error(s, id, error, text);
    if (++s->login->bind_failures >= BIND_TRIES_MAX)
        session_fail(s, SESSION_END_CLEAN, STREAM_E_POLICY_VIOLATION, "too many attempts to bind", NULL);
}

/* <iq type='set'><bind><resource>…</resource></bind></iq> */
static void bind_request(struct session *s, struct span raw, struct span id)
{
    struct buf resource = {0};
    arena_reset(s->env->arena);
    const struct xml_node *iq = xml_tree(s->env->arena, raw, NS_CLIENT);
    const struct xml_node *bind = iq != NULL ? xml_child(iq, "bind", NS_BIND) : NULL;
    const struct xml_node *wanted = bind != NULL ? xml_child(bind, "resource", NS_BIND) : NULL;
    if (bind == NULL) {
        bind_refuse(s, id, STANZA_E_BAD_REQUEST, NULL);
        return;
    }
    const char *why = NULL;
    if (wanted != NULL && wanted->text.n > 0 && !jid_prepare_resource(wanted->text, &resource, &why)) {
        bind_refuse(s, id, STANZA_E_BAD_REQUEST, why);
        buf_free(&resource);
        return;
    }
    buf_clear(&s->login->id);
    buf_add_span(&s->login->id, id);
    session_enter(s, SESSION_OPENING);
    session_hold(s, SESSION_HOLD_ANSWER);
    s->env->host->open(s, buf_span(&resource));
    buf_free(&resource);
}

/* An iq before a resource is bound, or the legacy session iq at any time. */
void bind_element(struct session *s, const struct xml_element *e, struct span raw)
{
    struct span id = xml_element_attr(e, "id");
    bool set = span_is(xml_element_attr(e, "type"), "set");
    struct span ns = e->child_count == 1 ? e->children[0].ns : (struct span){0};
    if (span_is(ns, NS_SESSION)) {
        if (set) {
            write_iq_open(s, "result", id);
            buf_add_lit(&s->out, "</iq>");
            s->env->host->output(s);
        } else {
            bind_write_error(s, id, STANZA_E_BAD_REQUEST, NULL);
        }
    } else if (!span_is(ns, NS_BIND)) {
        session_fail(s, SESSION_END_CLEAN, STREAM_E_NOT_AUTHORIZED, "bind a resource first", NULL);
    } else if (!set || id.n == 0) {
        bind_refuse(s, id, STANZA_E_BAD_REQUEST, "a bind request is an iq of type set with an id");
    } else {
        bind_request(s, raw, id);
    }
}

void session_opened(struct session *s, struct span full_jid)
{
    if (s->state != SESSION_OPENING)
        return;
    free(s->jid);
    s->jid = span_dup(full_jid);
    s->jid_n = (uint16_t)full_jid.n;
    write_iq_open(s, "result", buf_span(&s->login->id));
    buf_add_lit(&s->out, "<bind xmlns='" NS_BIND "'><jid>");
    xml_add_text(&s->out, full_jid);
    buf_add_lit(&s->out, "</jid></bind></iq>");
    s->env->host->output(s);
    login_free(s);
    session_enter(s, SESSION_BOUND);
    session_unhold(s, SESSION_HOLD_ANSWER);
    s->env->host->bound(s);
}

void session_refused(struct session *s, enum stanza_error error, struct span text)
{
    if (s->state != SESSION_OPENING)
        return;
    char *reason = span_dup(text);
    log_info("c2s", "bind refused error=%s jid=%s peer=%s: %s", stanza_error_name(error), s->jid,
             s->env->host->peer(s), reason);
    session_enter(s, SESSION_BIND);
    session_unhold(s, SESSION_HOLD_ANSWER);
    bind_refuse(s, buf_span(&s->login->id), error, reason);
    free(reason);
}
