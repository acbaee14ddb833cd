/* The states of a client's stream.
 *
 * session_input asks the stream engine for the next event and hands it on: a header to session_header, an
 * element by name and state through the table `rules`, until the input is used up, a question is open or the
 * stream ends. A stanza is rewritten once (from stamped, namespaces made self-contained), gets the session's
 * next inbound number and goes to the host. */
#include "c2s/session.h"

#include <stdlib.h>

#include "c2s/login.h"
#include "c2s/metrics.h"
#include "common/base/arena.h"
#include "common/log/log.h"

static const char *const state_names[] = {"HEADER", "FEATURES", "TLS",      "AUTH",  "LOOKUP",  "REGISTER",
                                          "BIND",   "OPENING",  "RESUMING", "BOUND", "CLOSING", "ENDED"};

const char *session_state_name(unsigned state)
{
    return state < ARRAY_LEN(state_names) ? state_names[state] : "?";
}

void session_enter(struct session *s, enum session_state to)
{
    log_trace("session", "%s -> %s peer=%s jid=%s", state_names[s->state], state_names[to],
              s->env->host->peer(s), s->jid != NULL ? s->jid : "-");
    s->state = to;
}

void session_init(struct session *s, struct session_env *env, bool tls)
{
    s->env = env;
    s->tls = tls;
    s->state = SESSION_HEADER;
    stream_init(&s->stream, &env->before_login, STREAM_RECEIVING);
}

void login_free(struct session *s)
{
    struct login *l = s->login;
    if (l == NULL)
        return;
    auth_drop(s);
    buf_free(&l->answer);
    buf_free(&l->id);
    buf_free(&l->sm_id);
    free((void *)l->client_from.p);
    free(l->username);
    free(l);
    s->login = NULL;
}

void session_free(struct session *s)
{
    login_free(s);
    stream_free(&s->stream);
    buf_free(&s->out);
    free(s->jid);
    free(s->lang);
    s->jid = s->lang = NULL;
}

struct span session_bare(const struct session *s)
{
    return span_make(s->jid, s->bare_n);
}

void session_hold(struct session *s, enum session_hold why)
{
    s->holds |= (uint8_t)why;
}

void session_unhold(struct session *s, enum session_hold why)
{
    s->holds &= (uint8_t)~why;
}

/* ---- the end ---- */

/* Fills a header for an answer that was not sent yet. */
static struct stream_header own_header(struct session *s, char id[33])
{
    struct stream_header h = {.version = true};
    s->env->host->make_id(id);
    h.id = span_of(id);
    if (s->env->domain_count > 0)
        h.from = s->env->domains[s->domain];
    h.lang = SPAN("en");
    return h;
}

static void session_end(struct session *s, enum session_end how)
{
    session_enter(s, SESSION_ENDED);
    login_free(s);
    s->env->host->ended(s, how);
}

void session_fail(struct session *s, enum session_end how, enum stream_error error, const char *text,
                  const char *app)
{
    if (s->state == SESSION_ENDED)
        return;
    stat_add(&metric_stream_errors[error], 1);
    log_info("c2s", "stream error=%s state=%s peer=%s jid=%s: %s", stream_error_name(error),
             session_state_name(s->state), s->env->host->peer(s), s->jid != NULL ? s->jid : "-",
             text != NULL ? text : "see RFC 6120 4.9.3");
    if (s->state != SESSION_TLS) {
        char id[33];
        struct stream_header header = own_header(s, id);
        stream_fail(&s->stream, &header, error, text, app, &s->out);
    }
    session_end(s, how);
}

void session_lost(struct session *s)
{
    if (s->state == SESSION_ENDED)
        return;
    if (s->state == SESSION_CLOSING) {
        session_closed(s);
        return;
    }
    if (s->state != SESSION_TLS && s->stream.header_sent)
        stream_close(&s->stream, &s->out); /* for whoever has closed one direction only */
    session_end(s, SESSION_END_LOST);
}

void session_closed(struct session *s)
{
    if (s->state != SESSION_CLOSING)
        return;
    sm_last_ack(s);
    stream_close(&s->stream, &s->out);
    session_end(s, SESSION_END_CLEAN);
}

/* The client's </stream:stream>. It may forget what it has sent only when it knows it to be safe, and nothing
 * can be said behind our own closing tag: that waits for the router. */
static void on_close(struct session *s)
{
    if (s->state == SESSION_BOUND) {
        session_enter(s, SESSION_CLOSING);
        if (s->sm_wanted && (!s->sm || s->in_handled < s->in_n))
            s->env->host->closing(s);
        else
            session_closed(s);
        return;
    }
    stream_close(&s->stream, &s->out);
    session_end(s, SESSION_END_CLEAN);
}

/* ---- the header ---- */

/* The index of the domain that the client wants, or -1. */
static int find_domain(struct session_env *env, struct span to)
{
    if (to.p == NULL)
        return env->domain_count == 1 ? 0 : -1;
    struct buf prepared = {0};
    int found = -1;
    if (jid_prepare_domain(to, &prepared, NULL)) {
        for (unsigned i = 0; i < env->domain_count && found < 0; i++) {
            if (span_eq(env->domains[i], buf_span(&prepared)))
                found = (int)i;
        }
    }
    buf_free(&prepared);
    return found;
}

/* xml:lang of the header, or an empty span. */
static struct span header_lang(const struct xml_element *e)
{
    for (unsigned i = 0; i < e->attr_count; i++) {
        if (span_is(e->attrs[i].prefix, "xml") && span_is(e->attrs[i].name, "lang"))
            return e->attrs[i].value;
    }
    return (struct span){0};
}

/* Keeps the header's from, prepared, for the answer and for the check after SASL (RFC 6120 §6.4.1). */
static void keep_from(struct session *s, struct span from)
{
    struct login *l = s->login;
    free((void *)l->client_from.p);
    l->client_from = (struct span){0};
    struct buf store = {0};
    struct jid jid;
    if (from.p != NULL && jid_prepare(from, &store, &jid, NULL) && jid.local_n > 0) {
        struct span bare = jid_bare(&jid);
        l->client_from = span_make(xstrndup(bare.p, bare.n), bare.n);
    }
    buf_free(&store);
}

static void session_header(struct session *s, const struct xml_element *e)
{
    if (s->login == NULL)
        s->login = xcalloc(1, sizeof(*s->login));
    int domain = find_domain(s->env, xml_element_attr(e, "to"));
    bool moved = s->authenticated && domain >= 0 && domain != s->domain;
    if (domain >= 0 && !moved)
        s->domain = (uint8_t)domain;
    free(s->lang);
    s->lang = NULL;
    struct span lang = header_lang(e);
    if (lang.n > 0 && lang.n <= 64)
        s->lang = xstrndup(lang.p, lang.n);
    keep_from(s, xml_element_attr(e, "from"));
    char id[33];
    struct stream_header header = own_header(s, id);
    header.version = s->stream.version > 0;
    header.to = s->login->client_from;
    if (s->lang != NULL)
        header.lang = span_of(s->lang);
    stream_open(&s->stream, &header, &s->out);
    s->env->host->output(s);
    if (domain < 0 || moved) {
        session_fail(s, SESSION_END_CLEAN, STREAM_E_HOST_UNKNOWN,
                     moved ? "the domain may not change after the login"
                           : "this domain is not served here; see cluster.domains",
                     NULL);
    } else if (s->stream.version == 0) {
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNSUPPORTED_VERSION, "XMPP 1.0 is needed", NULL);
    } else if (s->authenticated && s->login->client_from.p != NULL &&
               !span_eq(s->login->client_from, session_bare(s))) {
        session_fail(s, SESSION_END_CLEAN, STREAM_E_INVALID_FROM, "from is not the account of the login",
                     NULL);
    } else {
        session_enter(s, s->authenticated ? SESSION_BIND : SESSION_FEATURES);
        features_write(s);
    }
}

/* ---- elements ---- */

static void on_starttls(struct session *s, const struct xml_element *e, struct span raw)
{
    (void)e;
    (void)raw;
    if (s->tls || !s->env->have_tls) {
        buf_add_lit(&s->out, "<failure xmlns='" NS_TLS "'/>");
        s->env->host->output(s);
        stream_close(&s->stream, &s->out);
        session_end(s, SESSION_END_CLEAN);
        return;
    }
    buf_add_lit(&s->out, "<proceed xmlns='" NS_TLS "'/>");
    s->env->host->output(s);
    auth_drop(s);
    session_enter(s, SESSION_TLS);
    s->env->host->start_tls(s);
}

/* The client has found a stream error and goes; it is not answered with another (RFC 6120 §4.9.1.1). */
static void on_error(struct session *s, const struct xml_element *e, struct span raw)
{
    (void)raw;
    struct span condition = e->child_count > 0 ? e->children[0].name : (struct span){0};
    log_info("c2s", "the client ends its stream with error=%s peer=%s jid=%s",
             stream_error_name(stream_error_parse(condition)), s->env->host->peer(s),
             s->jid != NULL ? s->jid : "-");
    stream_close(&s->stream, &s->out);
    session_end(s, SESSION_END_CLEAN);
}

void session_tls(struct session *s)
{
    if (s->state != SESSION_TLS)
        return;
    s->tls = true;
    free(s->lang);
    s->lang = NULL;
    stream_restart(&s->stream);
    session_enter(s, SESSION_HEADER);
}

static void on_stanza(struct session *s, const struct xml_element *e, struct span raw)
{
    struct stanza stanza = {0};
    struct buf *scratch = &s->env->scratch;
    buf_shrink(scratch, 64 << 10);
    buf_clear(scratch);
    enum stanza_verdict verdict =
        stanza_rewrite(e, raw, span_make(s->jid, s->jid_n), span_of(s->lang), scratch, &stanza);
    if (verdict == STANZA_NOT_A_STANZA) {
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNSUPPORTED_STANZA_TYPE, NULL, NULL);
        return;
    }
    s->in_n++;
    stat_add(&metric_stanzas_in[stanza.kind], 1);
    s->env->host->stanza(s, &stanza, verdict);
}

#define BIT(state)   (1u << (state))
#define BEFORE_LOGIN (BIT(SESSION_FEATURES) | BIT(SESSION_AUTH))

/* Which element goes where in which states. name NULL = any of that namespace. */
static const struct rule {
    const char *ns;
    const char *name;
    unsigned states;
    void (*run)(struct session *s, const struct xml_element *e, struct span raw);
} rules[] = {
    {NS_CLIENT, NULL, BIT(SESSION_BOUND), on_stanza},
    {NS_SM, NULL, BIT(SESSION_BIND) | BIT(SESSION_BOUND), sm_element},
    {NS_SM, NULL, BEFORE_LOGIN, sm_too_early},
    {NS_CLIENT, "iq", BIT(SESSION_BIND), bind_element},
    {NS_CLIENT, "iq", BIT(SESSION_FEATURES), register_element},
    {NS_TLS, "starttls", BEFORE_LOGIN, on_starttls},
    {NS_SASL, NULL, BEFORE_LOGIN, auth_element},
    {NS_STREAM, "error", BEFORE_LOGIN | BIT(SESSION_BIND) | BIT(SESSION_BOUND), on_error},
};

static bool is_for_server(const struct session *s, const struct xml_element *e)
{
    struct span to = xml_element_attr(e, "to");
    return to.n == 0 || span_eq(to, s->env->domains[s->domain]);
}

static void session_element(struct session *s, const struct xml_element *e, struct span raw)
{
    /* The legacy session iq (RFC 3921 §3) must not count as a stanza for the home router; with stream
     * management on, everything counts, so there it goes the common way. */
    if (s->state == SESSION_BOUND && !s->sm_wanted && !s->sm && span_is(e->name, "iq") &&
        e->child_count == 1 && span_is(e->children[0].ns, NS_SESSION) && is_for_server(s, e)) {
        bind_element(s, e, raw);
        return;
    }
    for (unsigned i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *r = &rules[i];
        if ((r->states & BIT(s->state)) != 0 && span_is(e->ns, r->ns) &&
            (r->name == NULL || span_is(e->name, r->name))) {
            r->run(s, e, raw);
            return;
        }
    }
    enum stanza_kind kind;
    if (span_is(e->ns, NS_CLIENT) && stanza_kind_parse(e->name, &kind))
        session_fail(s, SESSION_END_CLEAN, STREAM_E_NOT_AUTHORIZED,
                     s->authenticated ? "bind a resource first" : "log in first", NULL);
    else
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNSUPPORTED_STANZA_TYPE, NULL, NULL);
}

void session_input(struct session *s, struct span *in)
{
    bool tls = s->tls;
    while (s->holds == 0 && s->tls == tls && s->state != SESSION_TLS && s->state < SESSION_CLOSING) {
        struct stream_event ev = stream_next(&s->stream, in);
        switch (ev.kind) {
        case STREAM_MORE:
            return;
        case STREAM_OPENED:
            session_header(s, ev.element);
            break;
        case STREAM_ELEMENT:
            session_element(s, ev.element, ev.raw);
            break;
        case STREAM_CLOSED:
            on_close(s);
            break;
        case STREAM_FAILED:
            session_fail(s, SESSION_END_CLEAN, ev.error, NULL, NULL);
            break;
        }
    }
    /* The host may have begun with TLS at once: what came in clear is dropped all the same. */
    if (s->tls != tls || s->state == SESSION_TLS || s->state >= SESSION_CLOSING)
        *in = (struct span){0};
}

/* ---- outbound ---- */

bool session_deliver(struct session *s, uint64_t n, struct span raw, struct span to, bool confirm)
{
    static const char *const names[] = {"<message", "<presence", "<iq"};
    if (s->state != SESSION_BOUND)
        return false;
    if (s->out_n_unknown) {
        s->out_n_unknown = false;
        s->out_n = s->out_acked = s->sm_asked_n = n - 1;
    }
    if (n <= s->out_n)
        return false;
    if (n != s->out_n + 1)
        log_warn("c2s", "outbound numbers jump from %llu to %llu jid=%s: the home router has skipped some",
                 (unsigned long long)s->out_n, (unsigned long long)n, s->jid);
    unsigned kind = 0;
    size_t name_n = 0;
    for (; kind < ARRAY_LEN(names); kind++) {
        name_n = strlen(names[kind]);
        if (raw.n > name_n && memcmp(raw.p, names[kind], name_n) == 0 &&
            (raw.p[name_n] == ' ' || raw.p[name_n] == '>' || raw.p[name_n] == '/'))
            break;
    }
    if (kind == ARRAY_LEN(names)) {
        log_warn("c2s", "a router sent what is no stanza for jid=%s: %.*s", s->jid, (int)MIN(raw.n, 64),
                 raw.p);
        return false;
    }
    s->out_n = n;
    if (confirm)
        s->out_confirm = n;
    if (to.n > 0) {
        buf_reserve(&s->out, raw.n + to.n + 16);
        buf_add(&s->out, raw.p, name_n);
        xml_add_attr(&s->out, "to", to);
        buf_add(&s->out, raw.p + name_n, raw.n - name_n);
    } else {
        buf_add_span(&s->out, raw);
    }
    stat_add(&metric_stanzas_out[kind], 1);
    s->env->host->output(s);
    return true;
}
