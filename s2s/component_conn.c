/* A connection of XEP-0114: header (to = the component's domain) → id → <handshake>SHA-1(id + secret)
 * </handshake> → stanzas. A header in jabber:client makes it one of XEP-0225 (component_bind.c); what is here
 * below the handshake serves both. */
#include <stdlib.h>

#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/sasl/hash.h"
#include "s2s/component_internal.h"
#include "s2s/listener.h"
#include "s2s/metrics.h"
#include "s2s/privilege.h"

static const struct leg_role role;

static struct component_conn *conn_of(struct leg *l)
{
    return CONTAINER_OF(l, struct component_conn, leg);
}

void component_accept(struct s2s *s, int fd)
{
    struct component_conn *conn = xcalloc(1, sizeof *conn);
    list_init(&conn->bindings);
    leg_init(&conn->leg, s, &role, &s->component_kind, STREAM_RECEIVING);
    metric_add(S2S_CONN_COMPONENT);
    conn_take(&s->hub, &conn->leg.conn, &leg_conn_handler, fd);
    if (listener_admit(s, &conn->leg.conn, &conn->address))
        leg_step(&conn->leg);
    else
        conn_drop(&conn->leg.conn, "too many connections");
}

/* Those who have the secret may have any number of connections. */
static void leave(struct component_conn *conn)
{
    listener_leave(conn->leg.s2s, &conn->address);
}

void component_logged_in(struct component_conn *conn)
{
    metric_add(S2S_AUTH_COMPONENT);
    conn->ready = true;
    leave(conn);
}

/* ---- who it speaks for ---- */

struct binding *component_binding(const struct component_conn *conn, const struct component *c)
{
    LIST_EACH (it, &conn->bindings) {
        struct binding *b = LIST_ENTRY(it, struct binding, of_conn);
        if (b->component == c)
            return b;
    }
    return NULL;
}

void component_bind(struct component_conn *conn, struct component *c)
{
    struct binding *b = xcalloc(1, sizeof *b);
    b->component = c;
    b->conn = conn;
    list_add(&conn->bindings, &b->of_conn);
    log_info("s2s", "component connected domain=%s peer=%s", c->local.domain,
             conn_peer_name(&conn->leg.conn));
    component_arrived(b);
}

void component_unbind(struct binding *b)
{
    log_info("s2s", "component disconnected domain=%s peer=%s", b->component->local.domain,
             conn_peer_name(&b->conn->leg.conn));
    component_left(b);
    list_del(&b->of_conn);
    component_settle(b->component);
    free(b);
}

/* ---- XEP-0114 ---- */

struct local *component_header_to(struct leg *l, const struct xml_element *header)
{
    struct span to = xml_element_attr(header, "to");
    buf_clear(&l->from);
    return to.n > 0 && jid_prepare_domain(to, &l->from, NULL) ? s2s_local(l->s2s, buf_span(&l->from)) : NULL;
}

static void on_opened(struct leg *l, const struct xml_element *header)
{
    struct component_conn *conn = conn_of(l);
    if (l->stream.kind == &l->s2s->bind_kind) {
        component_bind_opened(conn, header);
        return;
    }
    struct local *local = component_header_to(l, header);
    if (local == NULL || local->component == NULL) {
        metric_add(S2S_REFUSED_HOST);
        leg_fail(l, STREAM_E_HOST_UNKNOWN, "no such component in s2s.components");
        return;
    }
    conn->component = local->component;
    l->peer = xstrdup(local->domain);
    leg_open(l, false);
}

static void on_handshake(struct component_conn *conn, struct span raw)
{
    struct leg *l = &conn->leg;
    struct s2s *s = l->s2s;
    struct buf text = {0};
    char right[41];
    struct xml_node *root = xml_tree(s->arena, raw, NS_COMPONENT);
    buf_add_str(&text, l->id);
    buf_add_str(&text, conn->component->secret);
    hash_sha1_hex(buf_span(&text), right);
    buf_free(&text);
    bool good = root != NULL && hash_equal(root->text, span_of(right));
    arena_reset(s->arena);
    if (!good) {
        metric_add(S2S_REFUSED_SECRET);
        leg_fail(l, STREAM_E_NOT_AUTHORIZED, "wrong secret");
        return;
    }
    component_logged_in(conn);
    leg_write(l, "<handshake/>");
    leg_step_done(l);
    component_bind(conn, conn->component);
    privilege_advertise(l, span_of(conn->component->local.domain));
}

static bool on_element(struct leg *l, const struct xml_element *e, struct span raw)
{
    struct component_conn *conn = conn_of(l);
    if (l->stream.kind == &l->s2s->bind_kind)
        return component_bind_element(conn, e, raw);
    if (!span_is(e->name, "handshake") || !span_is(e->ns, NS_COMPONENT) || conn->ready)
        return false;
    on_handshake(conn, raw);
    return true;
}

/* ---- stanzas and the end ---- */

static bool on_own(struct leg *l, const struct xml_element *e, struct span raw)
{
    return l->stream.kind == &l->s2s->bind_kind && component_bind_stanza(conn_of(l), e, raw);
}

/* XEP-0114 §3: `from` must be of the component's domain. */
static enum leg_verdict on_may(struct leg *l, const struct stanza *s)
{
    struct component_conn *conn = conn_of(l);
    if (!conn->ready)
        return LEG_NOT_AUTHORIZED;
    if (s->from.domain_n == 0)
        return LEG_GOOD;
    const struct local *local = s2s_local(l->s2s, jid_domain(&s->from));
    bool bound = local != NULL && local->component != NULL && component_binding(conn, local->component);
    return bound ? LEG_GOOD : LEG_INVALID_FROM;
}

static bool on_may_enable(const struct leg *l)
{
    return CONTAINER_OF(l, struct component_conn, leg)->ready;
}

static void on_timeout(struct leg *l)
{
    leg_fail(l, STREAM_E_CONNECTION_TIMEOUT, "not logged in in time");
}

static void on_ready(struct leg *l)
{
    LIST_EACH (it, &conn_of(l)->bindings) {
        struct component *c = LIST_ENTRY(it, struct binding, of_conn)->component;
        if (c->waiting.count > 0)
            component_pump(c);
    }
}

static void on_lost(struct leg *l, const char *why)
{
    struct component_conn *conn = conn_of(l);
    struct item *i;
    conn->ready = false;
    LIST_EACH (it, &conn->bindings)
        component_left(LIST_ENTRY(it, struct binding, of_conn));
    while ((i = queue_pop_last(&l->unacked)) != NULL) {
        if (i->owner != NULL)
            component_take_back(i->owner, i);
        else
            item_free(l->s2s, i); /* an answer about this stream */
    }
    LIST_EACH (it, &conn->bindings) {
        struct binding *b = LIST_ENTRY(it, struct binding, of_conn);
        log_info("s2s", "component disconnected domain=%s peer=%s: %s", b->component->local.domain,
                 conn_peer_name(&l->conn), why);
        list_del(&b->of_conn);
        component_settle(b->component);
        free(b);
    }
}

static void on_gone(struct leg *l)
{
    struct s2s *s = l->s2s;
    struct component_conn *conn = conn_of(l);
    leave(conn);
    sasl_free(conn->sasl);
    leg_fini(l);
    free(conn);
    s2s_leg_gone(s);
}

static void on_secured(struct leg *l)
{
    stream_restart(&l->stream);
    leg_step(l);
}

static void ignore(struct leg *l)
{
    (void)l;
}

static const struct leg_role role = {.name = "component",
                                     .connected = ignore,
                                     .secured = on_secured,
                                     .opened = on_opened,
                                     .own = on_own,
                                     .element = on_element,
                                     .may = on_may,
                                     .take = privilege_take,
                                     .may_enable = on_may_enable,
                                     .timeout = on_timeout,
                                     .ready = on_ready,
                                     .lost = on_lost,
                                     .gone = on_gone};
