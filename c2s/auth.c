/* SASL (RFC 6120 §6): base64, the exchange's order, and which mechanisms are offered when. common/sasl does
 * the mechanisms. A step that needs the account holds the session until Redis has answered. */
#include <stdlib.h>

#include "c2s/login.h"
#include "c2s/metrics.h"
#include "common/base/text.h"
#include "common/log/log.h"

/* Strongest first (RFC 6120 §6.3.3). EXTERNAL is not offered: no client certificate is asked for. */
static const enum sasl_mech preference[] = {SASL_SCRAM_SHA_512_PLUS,
                                            SASL_SCRAM_SHA_256_PLUS,
                                            SASL_SCRAM_SHA_1_PLUS,
                                            SASL_SCRAM_SHA_512,
                                            SASL_SCRAM_SHA_256,
                                            SASL_SCRAM_SHA_1,
                                            SASL_PLAIN};

/* Some clients (slixmpp before 1.8.5, for one) know no binding but tls-unique, which TLS 1.3 does not have,
 * and work their way down the whole list of mechanisms: -PLUS with tls-unique, SCRAM with "y" (a lie that
 * must be refused, RFC 5802 §6, as it can't be told from a downgrade), PLAIN. Prosody and ejabberd lead them
 * the same way; c2s.channel_binding = false spares them PLAIN. Such a refusal happens before any account is
 * looked at and tells nothing about a password, so it is not counted with the failed log-ins. */
#define MISFITS_MAX 10

/* Which channel bindings there are. The data is worth as much as a signature: only for who wants it. */
struct bindings {
    bool exporter, server_end_point;
};

static struct bindings bindings_of(struct session *s)
{
    if (!s->tls || !s->env->channel_binding)
        return (struct bindings){0};
    return (struct bindings){s->env->host->binding(s, true, NULL), s->env->host->binding(s, false, NULL)};
}

static bool is_plus(enum sasl_mech mech)
{
    return mech == SASL_SCRAM_SHA_1_PLUS || mech == SASL_SCRAM_SHA_256_PLUS ||
           mech == SASL_SCRAM_SHA_512_PLUS;
}

static bool offers(const struct session *s, const struct bindings *b, enum sasl_mech mech)
{
    if (!s->tls && s->env->require_tls)
        return false;
    if (is_plus(mech))
        return b->exporter || b->server_end_point;
    for (unsigned i = 0; i < ARRAY_LEN(preference); i++) {
        if (preference[i] == mech)
            return true;
    }
    return false;
}

void auth_write_features(struct session *s)
{
    struct bindings b = bindings_of(s);
    struct buf *out = &s->out;
    buf_add_lit(out, "<mechanisms xmlns='" NS_SASL "'>");
    for (unsigned i = 0; i < ARRAY_LEN(preference); i++) {
        if (!offers(s, &b, preference[i]))
            continue;
        buf_add_lit(out, "<mechanism>");
        buf_add_str(out, sasl_mech_name(preference[i]));
        buf_add_lit(out, "</mechanism>");
    }
    buf_add_lit(out, "</mechanisms>");
    if (b.exporter || b.server_end_point) {
        buf_add_lit(out, "<sasl-channel-binding xmlns='" NS_BINDING_TYPES "'>");
        if (b.exporter)
            buf_add_lit(out, "<channel-binding type='tls-exporter'/>");
        if (b.server_end_point)
            buf_add_lit(out, "<channel-binding type='tls-server-end-point'/>");
        buf_add_lit(out, "</sasl-channel-binding>");
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The text whose hash guards the list of mechanisms against a downgrade (XEP-0474 §4.1). */
static void add_offer_text(struct session *s, const struct bindings *b, struct buf *out)
{
    const char *names[ARRAY_LEN(preference)];
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(preference); i++) {
        if (offers(s, b, preference[i]))
            names[n++] = sasl_mech_name(preference[i]);
    }
    qsort(names, n, sizeof(names[0]), by_text);
    for (unsigned i = 0; i < n; i++) {
        if (i > 0)
            buf_add_char(out, '\x1e');
        buf_add_str(out, names[i]);
    }
    if (b->exporter || b->server_end_point)
        buf_add_char(out, '\x1f');
    if (b->exporter)
        buf_add_lit(out, "tls-exporter");
    if (b->exporter && b->server_end_point)
        buf_add_char(out, '\x1e');
    if (b->server_end_point)
        buf_add_lit(out, "tls-server-end-point");
}

void auth_drop(struct session *s)
{
    if (s->login != NULL && s->login->sasl != NULL) {
        sasl_free(s->login->sasl);
        s->login->sasl = NULL;
    }
}

/* The username of the exchange under way, for the log. */
static struct span user_of(const struct session *s)
{
    struct span user = s->login->sasl != NULL ? sasl_username(s->login->sasl) : (struct span){0};
    return user.n > 0 ? user : SPAN("-");
}

static void auth_fail(struct session *s, enum sasl_error error, const char *text)
{
    struct login *l = s->login;
    stat_add(&metric_auth_failures[error], 1);
    bool misfit = error == SASL_E_NOT_AUTHORIZED && !l->looked_up && ++l->misfits <= MISFITS_MAX;
    const char *advice =
        l->sasl != NULL && sasl_lacks_hash(l->sasl)
            ? "the account has no hash for this mechanism; jackdawctl passwd makes all of them"
        : l->looked_up ? "wrong password or no such account; jackdawctl passwd sets a new one"
                       : "the client's channel binding does not fit what was offered";
    log_line(misfit ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "c2s",
             "login refused reason=%s user=%.*s domain=%.*s mechanism=%s peer=%s: %s", sasl_error_name(error),
             SPAN_FMT(user_of(s)), SPAN_FMT(s->env->domains[s->domain]),
             l->sasl != NULL ? sasl_mech_name(l->mech) : "-", s->env->host->peer(s),
             text != NULL ? text : advice);
    buf_addf(&s->out, "<failure xmlns='" NS_SASL "'><%s/>", sasl_error_name(error));
    if (text != NULL) {
        buf_add_lit(&s->out, "<text xml:lang='en'>");
        xml_add_text(&s->out, span_of(text));
        buf_add_lit(&s->out, "</text>");
    }
    buf_add_lit(&s->out, "</failure>");
    s->env->host->output(s);
    auth_drop(s);
    session_enter(s, SESSION_FEATURES);
    /* Redis being away is not the client's failure, and an abort costs as much as any attempt. */
    if (error != SASL_E_TEMPORARY_AUTH_FAILURE && !misfit && ++l->auth_failures >= s->env->auth_attempts)
        session_fail(s, SESSION_END_CLEAN, STREAM_E_POLICY_VIOLATION, "too many failed log-ins", NULL);
}

/* authzid, when given, must be the account itself (RFC 6120 §6.3.8). */
static bool authzid_good(struct session *s)
{
    struct span authzid = sasl_authzid(s->login->sasl);
    if (authzid.n == 0)
        return true;
    struct buf store = {0};
    struct jid jid;
    bool good = jid_prepare(authzid, &store, &jid, NULL) && jid.resource_n == 0 &&
                span_eq(jid_bare(&jid), session_bare(s));
    buf_free(&store);
    return good;
}

static void auth_success(struct session *s)
{
    struct login *l = s->login;
    if (l->disabled) {
        auth_fail(s, SASL_E_ACCOUNT_DISABLED, "the account is locked");
        return;
    }
    if (!authzid_good(s)) {
        auth_fail(s, SASL_E_INVALID_AUTHZID, "acting for another account is not possible");
        return;
    }
    buf_add_lit(&s->out, "<success xmlns='" NS_SASL "'>");
    base64_add(&s->out, buf_span(&l->answer));
    buf_add_lit(&s->out, "</success>");
    s->env->host->output(s);
    stat_add(&metric_auth_ok, 1);
    auth_drop(s);
    s->mech = l->mech;
    s->authenticated = true;
    stream_restart(&s->stream);
    s->stream.kind = &s->env->after_login;
    session_enter(s, SESSION_HEADER);
}

/* Asks for the account of the exchange's username. */
static void auth_lookup(struct session *s)
{
    struct buf bare = {0};
    s->login->looked_up = true;
    session_enter(s, SESSION_LOOKUP);
    session_hold(s, SESSION_HOLD_ANSWER);
    struct span user = sasl_username(s->login->sasl);
    if (user.n > JID_PART_MAX_BYTES || !jid_prepare_local(user, &bare, NULL)) {
        /* No such account can exist: as for any unknown one, but a made-up name costs the same round trip. */
        buf_clear(&bare);
        buf_add_lit(&bare, "=invalid=");
    }
    buf_add_char(&bare, '@');
    buf_add_span(&bare, s->env->domains[s->domain]);
    free(s->jid);
    s->jid = span_dup(buf_span(&bare));
    s->jid_n = s->bare_n = (uint16_t)bare.n;
    buf_free(&bare);
    s->env->host->lookup(s, session_bare(s));
}

static void auth_status(struct session *s, enum sasl_status status)
{
    struct login *l = s->login;
    switch (status) {
    case SASL_CONTINUE:
        buf_add_lit(&s->out, "<challenge xmlns='" NS_SASL "'>");
        base64_add(&s->out, buf_span(&l->answer));
        buf_add_lit(&s->out, "</challenge>");
        s->env->host->output(s);
        session_enter(s, SESSION_AUTH);
        break;
    case SASL_NEED_USER:
        auth_lookup(s);
        break;
    case SASL_DONE:
        auth_success(s);
        break;
    case SASL_FAILED:
        auth_fail(s, sasl_get_error(l->sasl), NULL);
        break;
    }
}

void session_account(struct session *s, enum session_account found, const struct sasl_keys *keys)
{
    struct login *l = s->login;
    if (s->state != SESSION_LOOKUP || l == NULL || l->sasl == NULL)
        return;
    session_unhold(s, SESSION_HOLD_ANSWER);
    if (found == SESSION_ACCOUNT_AWAY) {
        auth_fail(s, SASL_E_TEMPORARY_AUTH_FAILURE, "the account store does not answer; try again later");
        return;
    }
    /* A locked account is told apart only after the right password. */
    l->disabled = found == SESSION_ACCOUNT_DISABLED;
    buf_clear(&l->answer);
    auth_status(s, sasl_user(l->sasl, found == SESSION_ACCOUNT_NONE ? NULL : keys,
                             buf_span(&s->env->fake_seed), &l->answer));
}

/* The data of <auth/> or <response/>: has is false when there is none, "=" means an empty one. False: not
 * base64. */
static bool decode(const struct xml_element *e, struct span raw, struct buf *out, bool *has)
{
    struct span text = span_sub(raw, e->inner_start, e->inner_end - e->inner_start);
    *has = text.n > 0;
    if (span_is(text, "="))
        return true;
    return e->child_count == 0 && base64_decode(out, text);
}

static void auth_step(struct session *s, const struct xml_element *e, struct span raw)
{
    struct login *l = s->login;
    struct buf message = {0};
    bool has;
    if (!decode(e, raw, &message, &has)) {
        buf_free(&message);
        auth_fail(s, SASL_E_INCORRECT_ENCODING, "the data is not base64");
        return;
    }
    buf_clear(&l->answer);
    /* An empty <response/> is an empty message; only an empty <auth/> says that there is none. */
    enum sasl_status status =
        sasl_step(l->sasl, has || span_is(e->name, "response"), buf_span(&message), &l->answer);
    buf_free(&message);
    auth_status(s, status);
}

static void auth_begin(struct session *s, const struct xml_element *e, struct span raw)
{
    struct login *l = s->login;
    enum sasl_mech mech;
    l->looked_up = false;
    auth_drop(s); /* a new <auth/> ends the old exchange (RFC 6120 §6.4.2) */
    if (!s->tls && s->env->require_tls) {
        auth_fail(s, SASL_E_ENCRYPTION_REQUIRED, "TLS first");
        return;
    }
    struct bindings b = bindings_of(s);
    if (!sasl_mech_parse(xml_element_attr(e, "mechanism"), &mech) || !offers(s, &b, mech)) {
        auth_fail(s, SASL_E_INVALID_MECHANISM, "the mechanism is not offered");
        return;
    }
    struct buf guard = {0}, exporter = {0}, server_end_point = {0};
    add_offer_text(s, &b, &guard);
    if (is_plus(mech)) {
        s->env->host->binding(s, true, &exporter);
        s->env->host->binding(s, false, &server_end_point);
    }
    char *domain = span_dup(s->env->domains[s->domain]);
    struct sasl_server_config config = {.domain = domain,
                                        .exporter = buf_span(&exporter),
                                        .server_end_point = buf_span(&server_end_point),
                                        .binding_offered = b.exporter || b.server_end_point,
                                        .tls = s->tls,
                                        .plain_in_clear = !s->env->require_tls,
                                        .mechanisms_hash = buf_span(&guard),
                                        .verified = s->env->verified};
    l->mech = (uint8_t)mech;
    l->sasl = sasl_begin(mech, &config);
    free(domain);
    buf_free(&guard);
    buf_free(&exporter);
    buf_free(&server_end_point);
    auth_step(s, e, raw);
}

void auth_element(struct session *s, const struct xml_element *e, struct span raw)
{
    if (span_is(e->name, "auth"))
        auth_begin(s, e, raw);
    else if (span_is(e->name, "abort"))
        auth_fail(s, SASL_E_ABORTED, "the client has given up");
    else if (!span_is(e->name, "response") || s->state != SESSION_AUTH)
        auth_fail(s, SASL_E_MALFORMED_REQUEST, "no exchange is under way");
    else
        auth_step(s, e, raw);
}
