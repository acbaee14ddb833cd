/* The login is a ladder of states, climbed by what the server sends; everything else goes to the scenario.
 * The features are searched as bytes: what is looked for cannot stand in them by chance. */
#include "bench/load/client.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/load/scenario.h"
#include "common/base/clock.h"
#include "common/base/text.h"
#include "common/stanza/ns.h"
#include "common/tls/tls.h"
#include "common/xml/parser.h"

#define DIAL_TIMEOUT_MS    30000
#define CLIENTS_PER_SOURCE 20000 /* local ports of one 127.0.0.x */

/* ---- names ---- */

struct identity {
    unsigned account, resource;
};

static struct identity identity(const struct bench *b, unsigned number)
{
    struct identity who = {number, UINT_MAX};
    if (b->scenario->identity != NULL)
        b->scenario->identity(&b->args, number, &who.account, &who.resource);
    return who;
}

static bool elsewhere(const struct bench *b, unsigned number)
{
    return b->args.peer != NULL && number % 2 == 1;
}

/* The domain that a client's account belongs to. */
static const char *domain_of(const struct bench *b, unsigned number)
{
    return elsewhere(b, number) ? b->args.peer_domain : b->args.domain;
}

static void add_resource(struct buf *out, const struct bench *b, unsigned number)
{
    unsigned resource = identity(b, number).resource;
    buf_add_lit(out, "bench");
    if (resource != UINT_MAX)
        buf_add_u64(out, resource);
}

void client_add_bare(struct buf *out, const struct bench *b, unsigned number)
{
    buf_add_str(out, b->args.prefix);
    buf_add_u64(out, b->args.first + identity(b, number).account);
    buf_add_char(out, '@');
    buf_add_str(out, domain_of(b, number));
}

void client_add_jid(struct buf *out, const struct bench *b, unsigned number)
{
    client_add_bare(out, b, number);
    buf_add_char(out, '/');
    add_resource(out, b, number);
}

bool client_parse_jid(const struct bench *b, struct span jid, unsigned *number)
{
    size_t prefix = strlen(b->args.prefix), at = span_index(jid, '@');
    uint64_t value;
    if (at <= prefix || at == jid.n || memcmp(jid.p, b->args.prefix, prefix) != 0 ||
        !span_to_u64(span_sub(jid, prefix, at - prefix), UINT32_MAX, &value) || value < b->args.first ||
        value - b->args.first >= b->args.clients)
        return false;
    *number = (unsigned)(value - b->args.first);
    return true;
}

static void fail(struct client *c, const char *why)
{
    if (c->state == CLIENT_OFF)
        return;
    c->state = CLIENT_OFF;
    if (!c->leaving)
        c->events->lost(c, why);
    conn_drop(&c->conn, why);
}

void client_send(struct client *c)
{
    conn_dirty(&c->conn);
}

static void open_stream(struct client *c, enum client_state next)
{
    struct stream_header h = {.to = span_of(domain_of(c->bench, c->number)), .version = true};
    stream_restart(&c->stream);
    stream_open(&c->stream, &h, client_out(c));
    client_send(c);
    c->state = next;
}

/* ---- the ladder ---- */

static bool has(struct span raw, const char *what)
{
    return memmem(raw.p, raw.n, what, strlen(what)) != NULL;
}

static void authenticate(struct client *c, struct span features)
{
    const struct args *a = &c->bench->args;
    struct buf first = {0}, user = {0};
    char *offer = xasprintf(">%s<", sasl_mech_name(a->mech));
    bool offered = has(features, offer);
    free(offer);
    if (!offered) {
        fail(c, "the server does not offer that mechanism");
        return;
    }
    buf_addf(&user, "%s%u", a->prefix, a->first + identity(c->bench, c->number).account);
    sasl_client_free(c->sasl);
    c->sasl = sasl_client_begin(a->mech, buf_span(&user), span_of(a->password), &c->stretched, &first);
    buf_addf(client_out(c), "<auth xmlns='" NS_SASL "' mechanism='%s'>", sasl_mech_name(a->mech));
    base64_add(client_out(c), buf_span(&first));
    buf_add_lit(client_out(c), "</auth>");
    client_send(c);
    c->state = CLIENT_AUTH;
    buf_free(&first);
    buf_free(&user);
}

static void answer_challenge(struct client *c, struct span text, bool success)
{
    struct buf data = {0}, answer = {0};
    bool good = base64_decode(&data, span_is(text, "=") ? (struct span){0} : text);
    if (success)
        good = good && sasl_client_verify(c->sasl, buf_span(&data));
    else
        good = good && sasl_client_step(c->sasl, buf_span(&data), &answer);
    if (!good) {
        fail(c, "the server's part of SASL is wrong");
    } else if (success) {
        sasl_client_free(c->sasl);
        c->sasl = NULL;
        open_stream(c, CLIENT_BINDABLE);
    } else {
        buf_add_lit(client_out(c), "<response xmlns='" NS_SASL "'>");
        base64_add(client_out(c), buf_span(&answer));
        buf_add_lit(client_out(c), "</response>");
        client_send(c);
    }
    buf_free(&data);
    buf_free(&answer);
}

static void ask_bind(struct client *c, struct span features)
{
    if (c->sm_id != NULL) {
        buf_addf(client_out(c), "<resume xmlns='" NS_SM "' previd='%s' h='%u'/>", c->sm_id, c->sm_handled);
        client_send(c);
        c->state = CLIENT_RESUME;
        return;
    }
    c->wants_session = has(features, NS_SESSION) && !has(features, "<optional");
    buf_add_lit(client_out(c), "<iq type='set' id='bind'><bind xmlns='" NS_BIND "'><resource>");
    add_resource(client_out(c), c->bench, c->number);
    buf_add_lit(client_out(c), "</resource></bind></iq>");
    client_send(c);
    c->state = CLIENT_BIND;
}

static void go_online(struct client *c)
{
    c->state = CLIENT_ONLINE;
    c->events->online(c);
}

static void after_session(struct client *c)
{
    if (!c->bench->args.sm) {
        go_online(c);
        return;
    }
    buf_add_lit(client_out(c), "<enable xmlns='" NS_SM "' resume='true'/>");
    client_send(c);
    c->state = CLIENT_ENABLE;
}

static void after_bind(struct client *c, struct span raw)
{
    if (has(raw, "type='error'") || has(raw, "type=\"error\"")) {
        fail(c, "binding was refused");
        return;
    }
    if (c->state == CLIENT_BIND && c->wants_session) { /* RFC 3921 §3, which older servers insist on */
        buf_add_lit(client_out(c), "<iq type='set' id='session'><session xmlns='" NS_SESSION "'/></iq>");
        client_send(c);
        c->state = CLIENT_SESSION;
        return;
    }
    after_session(c);
}

static void on_manage(struct client *c, const struct xml_element *e)
{
    if (span_is(e->name, "r")) {
        buf_addf(client_out(c), "<a xmlns='" NS_SM "' h='%u'/>", c->sm_handled);
        client_send(c);
    } else if (span_is(e->name, "enabled") && c->state == CLIENT_ENABLE) {
        c->sm_on = true;
        c->sm_handled = 0;
        if (c->bench->args.resume)
            c->sm_id = xasprintf("%.*s", SPAN_FMT(xml_element_attr(e, "id")));
        go_online(c);
    } else if (span_is(e->name, "resumed") && c->state == CLIENT_RESUME) {
        c->sm_on = c->resumed = true;
        go_online(c);
    } else if (span_is(e->name, "failed")) {
        fail(c, "stream management was refused");
    }
}

static void climb(struct client *c, const struct xml_element *e, struct span raw)
{
    struct span inner = span_sub(raw, e->inner_start, e->inner_end - e->inner_start);
    switch (c->state) {
    case CLIENT_CLEAR:
        if (!has(raw, NS_TLS)) {
            fail(c, "the server does not offer STARTTLS");
            return;
        }
        buf_add_lit(client_out(c), "<starttls xmlns='" NS_TLS "'/>");
        client_send(c);
        c->state = CLIENT_PROCEED;
        break;
    case CLIENT_FEATURES:
        authenticate(c, raw);
        break;
    case CLIENT_AUTH:
        if (span_is(e->name, "failure"))
            fail(c, "the login was refused");
        else
            answer_challenge(c, inner, span_is(e->name, "success"));
        break;
    case CLIENT_BINDABLE:
        ask_bind(c, raw);
        break;
    case CLIENT_BIND:
    case CLIENT_SESSION:
        after_bind(c, raw);
        break;
    default:
        break;
    }
}

static void on_element(struct client *c, const struct xml_element *e, struct span raw)
{
    if (span_is(e->ns, NS_STREAM) && span_is(e->name, "error")) {
        char *text = xasprintf("stream error %.*s", (int)MIN(raw.n, (size_t)200), raw.p);
        fail(c, text);
        free(text);
    } else if (span_is(e->ns, NS_SM)) {
        on_manage(c, e);
    } else if (c->state == CLIENT_PROCEED && span_is(e->name, "proceed")) {
        conn_tls_connect(&c->conn, tls_connect(c->bench->tls, domain_of(c->bench, c->number)));
    } else if (c->state == CLIENT_ONLINE) {
        c->sm_handled += c->sm_on;
        c->events->stanza(c, e, raw);
    } else {
        climb(c, e, raw);
    }
}

/* ---- the connection ---- */

static void on_open(struct conn *conn)
{
    struct client *c = CONTAINER_OF(conn, struct client, conn);
    enum tls_mode mode = c->bench->args.tls;
    if (mode == TLS_MODE_DIRECT)
        conn_tls_connect(conn, tls_connect(c->bench->tls, domain_of(c->bench, c->number)));
    else
        open_stream(c, mode == TLS_MODE_STARTTLS ? CLIENT_CLEAR : CLIENT_FEATURES);
}

static void on_secured(struct conn *conn)
{
    open_stream(CONTAINER_OF(conn, struct client, conn), CLIENT_FEATURES);
}

/* Blanks what jabberd2 says of an early XEP-0198 by a prefix of its stream header, which common/stream does
 * not take.. */
static void blank_acks(struct buf *copy, struct span *in)
{
    static const char *const what[] = {" xmlns:ack='http://www.xmpp.org/extensions/xep-0198.html#ns'",
                                       "<ack:ack/>"};
    buf_clear(copy);
    buf_add_span(copy, *in);
    for (unsigned i = 0; i < ARRAY_LEN(what); i++) {
        char *at = memmem(copy->p, copy->n, what[i], strlen(what[i]));
        if (at != NULL)
            memset(at, ' ', strlen(what[i]));
    }
    *in = buf_span(copy);
}

static void on_bytes(struct conn *conn, struct span *in)
{
    static struct buf copy;
    struct client *c = CONTAINER_OF(conn, struct client, conn);
    if (c->state < CLIENT_ONLINE && (has(*in, "xmlns:ack") || has(*in, "<ack:ack")))
        blank_acks(&copy, in);
    while (c->state != CLIENT_OFF) {
        struct stream_event ev = stream_next(&c->stream, in);
        if (ev.kind == STREAM_MORE)
            return;
        if (ev.kind == STREAM_ELEMENT)
            on_element(c, ev.element, ev.raw);
        else if (ev.kind == STREAM_CLOSED)
            fail(c, "the server has closed the stream");
        else if (ev.kind == STREAM_FAILED)
            fail(c, stream_error_name(ev.error));
        if (conn->shaking)
            break;
    }
    *in = (struct span){0};
}

static void on_turn(struct conn *conn)
{
    (void)conn;
}

static void on_sent(struct conn *conn, uint64_t upto)
{
    (void)conn;
    (void)upto;
}

static void on_closed(struct conn *conn, const char *why)
{
    fail(CONTAINER_OF(conn, struct client, conn), why);
}

static void on_gone(struct conn *conn)
{
    struct client *c = CONTAINER_OF(conn, struct client, conn);
    stream_free(&c->stream);
    sasl_client_free(c->sasl);
    c->sasl = NULL;
    c->sm_on = c->resumed = c->leaving = false;
    c->events->gone(c);
}

static const struct conn_handler handler = {.open = on_open,
                                            .secured = on_secured,
                                            .bytes = on_bytes,
                                            .turn = on_turn,
                                            .sent = on_sent,
                                            .closed = on_closed,
                                            .gone = on_gone};

bool client_setup(struct bench *b, const char **why)
{
    struct tls_config config = {.allow_tls12 = true};
    char *error = NULL;
    *why = "not a numeric HOST:PORT";
    if (ring_address(b->args.address, &b->address) == 0)
        return false;
    if (b->args.peer != NULL && ring_address(b->args.peer, &b->peer) == 0)
        return false;
    *why = "no TLS";
    b->tls = tls_ctx_new(&config, &error);
    free(error);
    b->stream_kind = (struct stream_kind){NS_CLIENT,
                                          {.element_max_bytes = 16u << 20, .depth_max = 64, .attrs_max = 32},
                                          xml_parser_new(NS_CLIENT)};
    conn_hub_init(&b->hub, b->ring, 4096, 4096);
    return b->tls != NULL;
}

bool client_dial(struct client *c)
{
    struct bench *b = c->bench;
    char source[32];
    snprintf(source, sizeof source, "127.0.0.%u", 1 + c->number / CLIENTS_PER_SOURCE);
    stream_init(&c->stream, &b->stream_kind, STREAM_INITIATING);
    c->state = CLIENT_DIALLING;
    c->dialled_ns = clock_mono_ns();
    if (conn_dial(&b->hub, &c->conn, &handler, elsewhere(b, c->number) ? &b->peer : &b->address,
                  c->number < CLIENTS_PER_SOURCE ? NULL : source, DIAL_TIMEOUT_MS))
        return true;
    c->state = CLIENT_OFF;
    return false;
}

void client_leave(struct client *c)
{
    c->leaving = true;
    c->state = CLIENT_OFF;
    free(c->sm_id);
    c->sm_id = NULL;
    stream_close(&c->stream, client_out(c));
    conn_finish(&c->conn);
}

void client_cut(struct client *c)
{
    c->leaving = true;
    fail(c, "cut");
}
