/* Components by XEP-0225: header in jabber:client → [STARTTLS → header] → SASL as a domain of s2s.components
 * → header → <bind/> and <unbind/> for any number of host names, each of which must be in s2s.components with
 * the same secret (that is how the configuration says that they are one party's). */
#include <stdlib.h>

#include "common/base/text.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/tls/tls.h"
#include "s2s/component_internal.h"
#include "s2s/metrics.h"
#include "s2s/names.h"
#include "s2s/privilege.h"

#define NS_COMPONENT_BIND "urn:xmpp:component:0"
#define SASL_ATTEMPTS     3

static const enum sasl_mech offered[] = {SASL_EXTERNAL, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_1, SASL_PLAIN};

/* The component of a domain as the peer wrote it, or NULL. */
static struct component *find(struct s2s *s, struct span text)
{
    struct buf domain = {0};
    struct local *local =
        text.n > 0 && jid_prepare_domain(text, &domain, NULL) ? s2s_local(s, buf_span(&domain)) : NULL;
    buf_free(&domain);
    return local != NULL ? local->component : NULL;
}

/* ---- the header ---- */

/* conn->component is the domain of the header until the peer has logged in. */
static bool offers(const struct component_conn *conn, enum sasl_mech mech)
{
    struct tls *tls = conn->leg.conn.tls;
    const char *why;
    if (mech == SASL_EXTERNAL)
        return tls != NULL && conn->component != NULL &&
               names_check(tls, span_of(conn->component->local.domain), &why) == NAMES_GOOD;
    return mech != SASL_PLAIN || tls != NULL;
}

static void write_features(struct component_conn *conn)
{
    struct leg *l = &conn->leg;
    leg_write(l, "<stream:features>");
    if (conn->ready) {
        leg_write(l, "<bind xmlns='" NS_COMPONENT_BIND "'><required/></bind><sm xmlns='" NS_SM
                     "'><optional/></sm>");
    } else {
        if (l->conn.tls == NULL && l->s2s->tls != NULL)
            leg_write(l, "<starttls xmlns='" NS_TLS "'/>");
        leg_write(l, "<mechanisms xmlns='" NS_SASL "'>");
        for (size_t i = 0; i < ARRAY_LEN(offered); i++)
            if (offers(conn, offered[i]))
                leg_write(l, "<mechanism>%s</mechanism>", sasl_mech_name(offered[i]));
        leg_write(l, "</mechanisms>");
    }
    leg_write(l, "</stream:features>");
}

void component_bind_opened(struct component_conn *conn, const struct xml_element *header)
{
    struct leg *l = &conn->leg;
    struct local *local = component_header_to(l, header);
    if (local == NULL || l->stream.version == 0) {
        metric_add(S2S_REFUSED_HOST);
        leg_fail(l, local == NULL ? STREAM_E_HOST_UNKNOWN : STREAM_E_UNSUPPORTED_VERSION,
                 "the header's 'to' must be a domain of this server");
        return;
    }
    if (!conn->ready)
        conn->component = find(l->s2s, xml_element_attr(header, "from"));
    if (conn->component != NULL && l->peer == NULL)
        l->peer = xstrdup(conn->component->local.domain);
    leg_open(l, true);
    write_features(conn);
    leg_step(l);
    if (conn->ready)
        leg_step_done(l);
}

/* ---- SASL ---- */

static void auth_fail(struct component_conn *conn, enum sasl_error error)
{
    struct leg *l = &conn->leg;
    metric_add(S2S_REFUSED_SECRET);
    log_info("s2s", "component refused peer=%s domain=%s: %s", conn_peer_name(&l->conn),
             l->peer != NULL ? l->peer : "?", sasl_error_name(error));
    sasl_free(conn->sasl);
    conn->sasl = NULL;
    leg_write(l, "<failure xmlns='" NS_SASL "'><%s/></failure>", sasl_error_name(error));
    if (++conn->failures >= SASL_ATTEMPTS)
        leg_fail(l, STREAM_E_POLICY_VIOLATION, "too many failed attempts");
}

static const struct sasl_keys *keys_of(struct component *c)
{
    if (c->keys == NULL) {
        c->keys = xcalloc(1, sizeof *c->keys);
        if (!sasl_keys_derive(span_of(c->secret), SASL_ITERATIONS_DEFAULT, c->keys)) {
            log_error("s2s", "s2s.components: the secret of %s cannot be used with SASL", c->local.domain);
            free(c->keys);
            c->keys = NULL;
        }
    }
    return c->keys;
}

static void auth_done(struct component_conn *conn, struct span answer)
{
    struct leg *l = &conn->leg;
    struct buf text = {0};
    conn->component = find(l->s2s, sasl_username(conn->sasl));
    CHECK(conn->component != NULL);
    free(l->peer);
    l->peer = xstrdup(conn->component->local.domain);
    sasl_free(conn->sasl);
    conn->sasl = NULL;
    base64_add(&text, answer);
    leg_write(l, "<success xmlns='" NS_SASL "'>%s</success>", buf_cstr(&text));
    buf_free(&text);
    component_logged_in(conn);
    if (conn->mech == SASL_EXTERNAL)
        names_rely(l);
    stream_restart(&l->stream);
    l->stream.header_sent = false;
    leg_step(l);
}

static void auth_status(struct component_conn *conn, enum sasl_status status, struct buf *answer)
{
    struct leg *l = &conn->leg;
    struct buf text = {0};
    if (status == SASL_NEED_USER) {
        struct component *c = find(l->s2s, sasl_username(conn->sasl));
        buf_clear(answer);
        status = sasl_user(conn->sasl, c != NULL ? keys_of(c) : NULL, buf_span(&l->s2s->secret), answer);
    }
    if (status == SASL_CONTINUE) {
        base64_add(&text, buf_span(answer));
        leg_write(l, "<challenge xmlns='" NS_SASL "'>%s</challenge>", buf_cstr(&text));
        buf_free(&text);
        leg_step(l);
    } else if (status == SASL_DONE) {
        auth_done(conn, buf_span(answer));
    } else {
        auth_fail(conn, sasl_get_error(conn->sasl));
    }
}

static void auth_step(struct component_conn *conn, const struct xml_element *e, struct span raw)
{
    struct span text = span_sub(raw, e->inner_start, e->inner_end - e->inner_start);
    struct buf message = {0}, answer = {0};
    if (!span_is(text, "=") && !base64_decode(&message, text))
        auth_fail(conn, SASL_E_INCORRECT_ENCODING);
    else
        auth_status(
            conn,
            sasl_step(conn->sasl, text.n > 0 || span_is(e->name, "response"), buf_span(&message), &answer),
            &answer);
    buf_free(&message);
    buf_free(&answer);
}

static void auth_begin(struct component_conn *conn, const struct xml_element *e, struct span raw)
{
    struct leg *l = &conn->leg;
    enum sasl_mech mech;
    sasl_free(conn->sasl);
    conn->sasl = NULL;
    bool known = sasl_mech_parse(xml_element_attr(e, "mechanism"), &mech), good = false;
    for (size_t i = 0; known && i < ARRAY_LEN(offered); i++)
        good = good || (offered[i] == mech && offers(conn, mech));
    if (!good) {
        auth_fail(conn, SASL_E_INVALID_MECHANISM);
        return;
    }
    struct sasl_server_config config = {.domain = buf_cstr(&l->from), .tls = l->conn.tls != NULL};
    if (mech == SASL_EXTERNAL)
        config.external_jid = span_of(conn->component->local.domain);
    conn->mech = (uint8_t)mech;
    conn->sasl = sasl_begin(mech, &config);
    auth_step(conn, e, raw);
}

static bool on_sasl(struct component_conn *conn, const struct xml_element *e, struct span raw)
{
    if (conn->ready)
        return false;
    if (span_is(e->name, "auth"))
        auth_begin(conn, e, raw);
    else if (span_is(e->name, "response") && conn->sasl != NULL)
        auth_step(conn, e, raw);
    else
        auth_fail(conn, span_is(e->name, "abort") ? SASL_E_ABORTED : SASL_E_MALFORMED_REQUEST);
    return true;
}

static bool on_tls(struct component_conn *conn, const struct xml_element *e)
{
    struct leg *l = &conn->leg;
    if (!span_is(e->name, "starttls") || l->conn.tls != NULL || l->s2s->tls == NULL || conn->ready)
        return false;
    struct buf name = {0};
    leg_write(l, "<proceed xmlns='" NS_TLS "'/>");
    bool named = jid_domain_to_ascii(buf_span(&l->from), &name);
    conn_tls_accept(&l->conn, l->s2s->tls, named ? buf_cstr(&name) : NULL);
    buf_free(&name);
    leg_step(l);
    return true;
}

bool component_bind_element(struct component_conn *conn, const struct xml_element *e, struct span raw)
{
    if (span_is(e->ns, NS_TLS))
        return on_tls(conn, e);
    return span_is(e->ns, NS_SASL) && on_sasl(conn, e, raw);
}

/* ---- host names ---- */

/* One party's: in the configuration with the same secret. */
static bool same_party(const struct component *a, const struct component *b)
{
    return a == b || strcmp(a->secret, b->secret) == 0;
}

/* What a request is answered with; -1 = it is granted. */
static int take_request(struct component_conn *conn, struct component *c, bool bind, struct span name)
{
    struct binding *b = c != NULL ? component_binding(conn, c) : NULL;
    if (name.n == 0)
        return STANZA_E_BAD_REQUEST;
    if (c == NULL || !same_party(c, conn->component))
        return STANZA_E_NOT_ALLOWED;
    if (bind && b != NULL)
        return STANZA_E_CONFLICT;
    if (!bind && b == NULL)
        return STANZA_E_ITEM_NOT_FOUND;
    if (bind)
        component_bind(conn, c);
    else
        component_unbind(b);
    return -1;
}

static void answer(struct component_conn *conn, struct span id, struct span name, bool bind, int error)
{
    struct leg *l = &conn->leg;
    struct buf out = {0};
    buf_addf(&out, "<iq type='%s'", error < 0 ? "result" : "error");
    if (id.p != NULL)
        xml_add_attr(&out, "id", id);
    buf_add_char(&out, '>');
    if (error >= 0) {
        buf_addf(&out, "<error type='%s'><%s xmlns='" NS_STANZA_ERRORS "'/></error>",
                 stanza_error_type((enum stanza_error)error), stanza_error_name((enum stanza_error)error));
    } else if (bind) {
        buf_add_lit(&out, "<bind xmlns='" NS_COMPONENT_BIND "'><hostname>");
        xml_add_text(&out, name);
        buf_add_lit(&out, "</hostname></bind>");
    }
    buf_add_lit(&out, "</iq>");
    leg_send(l, item_new(rcbuf_new(buf_span(&out).p, out.n), (struct span){0}, NULL,
                         ring_now_ms(l->s2s->ring) + (uint64_t)l->s2s->conf->s2s_queue_timeout_s * 1000));
    buf_free(&out);
}

bool component_bind_stanza(struct component_conn *conn, const struct xml_element *e, struct span raw)
{
    if (!conn->ready || !span_is(e->name, "iq") || e->child_count != 1 ||
        !span_is(e->children[0].ns, NS_COMPONENT_BIND) || !span_is(xml_element_attr(e, "type"), "set"))
        return false;
    struct s2s *s = conn->leg.s2s;
    bool bind = span_is(e->children[0].name, "bind");
    struct xml_node *root = xml_tree(s->arena, raw, NS_CLIENT);
    struct xml_node *request =
        root != NULL ? xml_child(root, bind ? "bind" : "unbind", NS_COMPONENT_BIND) : NULL;
    struct xml_node *host = request != NULL ? xml_child(request, "hostname", NS_COMPONENT_BIND) : NULL;
    char *name = span_dup(host != NULL ? host->text : (struct span){0});
    char *id = root != NULL && xml_attr(root, "id").p != NULL ? span_dup(xml_attr(root, "id")) : NULL;
    arena_reset(s->arena);
    leg_own_done(&conn->leg);
    /* "domain/resource" is for the component's own bookkeeping (§4): the domain counts. */
    struct component *c = find(s, span_sub(span_of(name), 0, span_index(span_of(name), '/')));
    int error = take_request(conn, c, bind, span_of(name));
    if (error >= 0)
        metric_add(S2S_REFUSED_HOST);
    answer(conn, id != NULL ? span_of(id) : (struct span){0}, span_of(name), bind, error);
    if (bind && error < 0)
        privilege_advertise(&conn->leg, span_of(c->local.domain));
    free(name);
    free(id);
    return true;
}
