/* An incoming stream: header → STARTTLS → header → SASL EXTERNAL (offered when the certificate proves the
 * domain of the header) or dialback for any number of domain pairs. A stanza counts only if its pair has been
 * proven on this very stream. Keys that other servers ask us about (db:verify) are answered at once: the
 * cluster's secret makes them. */
#include "s2s/in.h"

#include <stdlib.h>

#include "common/base/text.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/tls/tls.h"
#include "s2s/dialback.h"
#include "s2s/domain.h"
#include "s2s/listener.h"
#include "s2s/metrics.h"
#include "s2s/names.h"
#include "s2s/posh.h"
#include "s2s/s2s.h"

#define SASL_ATTEMPTS 3
#define COUNTING_MS   2000 /* for the peer to enable stream management or to resume a stream */
#define HOLD_POSH     16   /* reason of conn_hold, beside the leg's */

/* A pair that was asked for by dialback. */
struct proof {
    struct list node;
    char *from, *to;
    bool proven;
};

struct in {
    struct leg leg;
    struct list proofs;
    unsigned proof_count, open_count; /* open: not answered yet */
    char *header_from;                /* prepared, NULL = the header had none */
    char *external;                   /* the domain that SASL has proven */
    unsigned sasl_failures;
    struct remote *domain;  /* whose stream it is; NULL = not proven yet */
    struct posh_call *posh; /* asking header_from about the peer's certificate */
    bool certified;         /* the certificate is good for header_from */
    bool bidi;
    struct limits_address *address;
    struct timer timer; /* then it is used both ways although the peer has not enabled stream management */
};

static const struct leg_role role;
static void use_both_ways(struct in *in, struct span from, struct span to);
static void on_late(struct timer *t, uint64_t now_ms);
static void await(struct in *in, bool on);

static struct in *in_of(struct leg *l)
{
    return CONTAINER_OF(l, struct in, leg);
}

void in_accept(struct s2s *s, int fd, bool tls)
{
    struct in *in = xcalloc(1, sizeof *in);
    list_init(&in->proofs);
    in->timer.fire = on_late;
    leg_init(&in->leg, s, &role, &s->server_kind, STREAM_RECEIVING);
    metric_add(S2S_CONN_IN);
    conn_take(&s->hub, &in->leg.conn, &leg_conn_handler, fd);
    if (!listener_admit(s, &in->leg.conn, &in->address)) {
        conn_drop(&in->leg.conn, "too many connections");
        return;
    }
    if (tls)
        conn_tls_accept(&in->leg.conn, s->tls, NULL);
    leg_step(&in->leg);
}

/* ---- the header ---- */

static bool authenticated(const struct in *in)
{
    if (in->external != NULL)
        return true;
    LIST_EACH (it, &in->proofs)
        if (LIST_ENTRY(it, struct proof, node)->proven)
            return true;
    return false;
}

static void write_features(struct in *in)
{
    struct leg *l = &in->leg;
    const struct conf *conf = l->s2s->conf;
    bool tls = l->conn.tls != NULL;
    leg_write(l, "<stream:features>");
    if (!tls && l->s2s->tls != NULL)
        leg_write(l, "<starttls xmlns='" NS_TLS "'>%s</starttls>",
                  conf->s2s_require_tls ? "<required/>" : "");
    if (tls || !conf->s2s_require_tls) {
        if (in->certified && in->external == NULL)
            leg_write(l, "<mechanisms xmlns='" NS_SASL "'><mechanism>EXTERNAL</mechanism></mechanisms>");
        leg_write(l, "<dialback xmlns='" NS_DIALBACK_FEATURE "'><errors/></dialback>");
        if (!authenticated(in))
            leg_write(l, "<bidi xmlns='" NS_BIDI_FEATURE "'/>");
        else
            leg_write(l, "<sm xmlns='" NS_SM "'><optional/></sm>");
        leg_write(l,
                  "<limits xmlns='" NS_LIMITS
                  "'><max-bytes>%lld</max-bytes><idle-seconds>%lld</idle-seconds></limits>",
                  (long long)conf->s2s_stanza_max_bytes, (long long)conf->s2s_idle_timeout_s);
    }
    leg_write(l, "</stream:features>");
}

/* The domain of an attribute as prepared text in *out (emptied first); false: there is none, or it is none.
 */
static bool prepare(struct span text, struct buf *out)
{
    buf_clear(out);
    return text.n > 0 && jid_prepare_domain(text, out, NULL);
}

/* What can be known of the certificate is known: answers the header. */
static void answer_header(struct in *in)
{
    struct leg *l = &in->leg;
    if (in->certified)
        names_rely(l);
    leg_open(l, l->stream.version > 0);
    if (l->stream.version > 0)
        write_features(in);
    if (in->external != NULL) { /* the stream after SASL is ready at once */
        leg_step_done(l);
        /* What goes out before it is counted could be lost unseen. */
        ring_timer_set(l->s2s->ring, &in->timer, COUNTING_MS);
        await(in, true);
    } else {
        leg_step(l);
    }
}

static void on_posh(void *ctx, enum posh_verdict verdict, const char *why)
{
    struct in *in = ctx;
    struct leg *l = &in->leg;
    in->posh = NULL;
    in->certified = verdict == POSH_VERIFIED;
    log_info("s2s", "certificate of domain=%s peer=%s is %s by POSH: %s", in->header_from,
             conn_peer_name(&l->conn), in->certified ? "good" : "not good", why);
    if (verdict == POSH_OTHER) {
        metric_add(S2S_REFUSED_POSH);
        leg_fail(l, STREAM_E_NOT_AUTHORIZED, "the domain names other certificates by POSH");
    } else {
        answer_header(in);
    }
    conn_unhold(&l->conn, HOLD_POSH);
}

static void check_certificate(struct in *in)
{
    const char *why = NULL;
    struct leg *l = &in->leg;
    in->certified = false;
    if (l->conn.tls == NULL || in->header_from == NULL) {
        answer_header(in);
        return;
    }
    struct span domain = span_of(in->header_from);
    enum names_verdict verdict = names_check(l->conn.tls, domain, &why);
    in->certified = verdict == NAMES_GOOD;
    if (!in->certified) {
        metric_add(names_metric(verdict));
        log_info("s2s", "certificate of domain=%s peer=%s is not good: %s", in->header_from,
                 conn_peer_name(&l->conn), why);
        in->posh = posh_start(l->s2s->posh, domain, l->conn.tls, on_posh, in);
    }
    if (in->posh != NULL)
        conn_hold(&l->conn, HOLD_POSH);
    else
        answer_header(in);
}

/* The pair of a stream that SASL has proven will soon go both ways / will not. */
static void await(struct in *in, bool on)
{
    struct leg *l = &in->leg;
    if (in->bidi && l->peer != NULL && l->from.n > 0)
        domain_await(l->s2s, buf_span(&l->from), span_of(l->peer), on);
}

static void on_opened(struct leg *l, const struct xml_element *header)
{
    struct in *in = in_of(l);
    struct s2s *s = l->s2s;
    struct buf from = {0}, to = {0};
    struct span lang = (struct span){0};
    bool has_from = prepare(xml_element_attr(header, "from"), &from);
    bool has_to = prepare(xml_element_attr(header, "to"), &to);
    bool wants_to = xml_element_attr(header, "to").n > 0;
    for (uint16_t i = 0; i < header->attr_count; i++)
        if (span_is(header->attrs[i].prefix, "xml") && span_is(header->attrs[i].name, "lang"))
            lang = header->attrs[i].value;
    buf_clear(&l->lang);
    buf_add_span(&l->lang, lang);
    if (in->external != NULL && (!has_from || !span_is(buf_span(&from), in->external))) {
        metric_add(S2S_REFUSED_HEADER);
        leg_fail(l, STREAM_E_INVALID_FROM, "another domain than was proven");
    } else if (has_from) {
        free(in->header_from);
        in->header_from = span_dup(buf_span(&from));
        free(l->peer);
        l->peer = span_dup(buf_span(&from));
    }
    struct local *local = has_to ? s2s_local(s, buf_span(&to)) : NULL;
    buf_clear(&l->from);
    buf_clear(&l->to);
    if (local != NULL)
        buf_add_str(&l->from, local->domain);
    buf_add_span(&l->to, buf_span(&from));
    buf_free(&from);
    buf_free(&to);
    if (l->over)
        return;
    if (wants_to && local == NULL) {
        metric_add(S2S_REFUSED_HOST);
        leg_fail(l, STREAM_E_HOST_UNKNOWN, NULL);
    } else if (in->header_from != NULL &&
               (s2s_local(s, span_of(in->header_from)) != NULL || !s2s_allows(s, span_of(in->header_from)))) {
        metric_add(S2S_REFUSED_BLOCKED);
        leg_fail(l, STREAM_E_POLICY_VIOLATION, "that domain may not connect here");
    } else {
        check_certificate(in);
    }
}

static void on_secured(struct leg *l)
{
    stream_restart(&l->stream);
    leg_step(l);
}

/* ---- proofs ---- */

static struct proof *proof_find(const struct in *in, struct span from, struct span to)
{
    LIST_EACH (it, &in->proofs) {
        struct proof *p = LIST_ENTRY(it, struct proof, node);
        if (span_is(from, p->from) && span_is(to, p->to))
            return p;
    }
    return NULL;
}

static void proof_free(struct proof *p)
{
    list_del(&p->node);
    free(p->from);
    free(p->to);
    free(p);
}

static void answer(struct in *in, const char *name, struct span from, struct span to, struct span id,
                   const char *type, const char *error)
{
    struct buf text = {0};
    buf_addf(&text, "<db:%s", name);
    xml_add_attr(&text, "from", from);
    xml_add_attr(&text, "to", to);
    if (id.n > 0)
        xml_add_attr(&text, "id", id);
    buf_addf(&text, " type='%s'", type);
    if (error != NULL)
        buf_addf(&text, "><error type='cancel'><%s xmlns='" NS_STANZA_ERRORS "'/></error></db:%s>", error,
                 name);
    else
        buf_add_lit(&text, "/>");
    leg_write(&in->leg, "%.*s", SPAN_FMT(buf_span(&text)));
    buf_free(&text);
}

/* Ours may go over it as well, when that was agreed (XEP-0288). */
static void use_both_ways(struct in *in, struct span from, struct span to)
{
    struct leg *l = &in->leg;
    if (!in->bidi || l->peer == NULL || !span_is(from, l->peer) || to.n == 0)
        return;
    if (!l->both_ways)
        metric_add(S2S_BIDI);
    l->both_ways = true;
    domain_up(l->s2s, to, from, l);
}

static void on_counting(struct leg *l)
{
    struct in *in = in_of(l);
    ring_timer_clear(l->s2s->ring, &in->timer);
    if (in->external != NULL && !l->over)
        use_both_ways(in, span_of(in->external), buf_span(&l->from));
}

static void on_late(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    on_counting(&CONTAINER_OF(t, struct in, timer)->leg);
}

/* The pair is proven: stanzas may come. */
static void prove(struct in *in, struct span from, struct span to, const char *by, enum s2s_metric metric)
{
    struct leg *l = &in->leg;
    metric_add(metric);
    log_info("s2s", "stream proven direction=in by=%s domain=%.*s local=%.*s peer=%s tls=%s", by,
             SPAN_FMT(from), SPAN_FMT(to), conn_peer_name(&l->conn), l->conn.tls != NULL ? "yes" : "no");
    if (in->open_count == 0)
        leg_step_done(l);
    if (in->domain == NULL) { /* the first domain answers for the stream */
        in->domain = domain_in_enter(l->s2s, from);
        if (in->domain == NULL) {
            metric_add(S2S_REFUSED_STREAMS);
            leg_fail(l, STREAM_E_POLICY_VIOLATION, "your domain has too many streams");
            return;
        }
        l->quota = &in->domain->quota;
    }
    leg_proven(l, from);
    if (in->external == NULL)
        use_both_ways(in, from, to);
}

void in_verified(struct s2s *s, uint64_t sid, struct span local, struct span remote, enum in_verdict verdict)
{
    struct leg *l = idmap_get(&s->sources, sid);
    if (l == NULL || l->role != &role)
        return;
    struct in *in = in_of(l);
    struct proof *p = proof_find(in, remote, local);
    if (p == NULL || p->proven)
        return;
    in->open_count--;
    if (verdict == IN_VALID) {
        p->proven = true;
        answer(in, "result", local, remote, (struct span){0}, "valid", NULL);
        prove(in, remote, local, "dialback", S2S_AUTH_IN_DIALBACK);
        return;
    }
    proof_free(p);
    in->proof_count--;
    if (verdict == IN_UNVERIFIED) {
        metric_add(S2S_REFUSED_UNVERIFIED);
        answer(in, "result", local, remote, (struct span){0}, "error", "remote-server-not-found");
    } else {
        metric_add(S2S_REFUSED_KEY);
        log_warn("s2s", "a dialback key is false: peer=%s is not domain=%.*s", conn_peer_name(&l->conn),
                 SPAN_FMT(remote));
        answer(in, "result", local, remote, (struct span){0}, "invalid", NULL);
        leg_close(l);
    }
}

/* ---- dialback ---- */

static void on_result(struct in *in, struct span from, struct span to, struct span key)
{
    struct leg *l = &in->leg;
    struct s2s *s = l->s2s;
    const char *why = NULL;
    if (s2s_local(s, to) == NULL) {
        metric_add(S2S_REFUSED_HOST);
        answer(in, "result", to, from, (struct span){0}, "error", "item-not-found");
        return;
    }
    if (s2s_local(s, from) != NULL || !s2s_allows(s, from)) {
        metric_add(S2S_REFUSED_BLOCKED);
        answer(in, "result", to, from, (struct span){0}, "error", "policy-violation");
        return;
    }
    struct proof *p = proof_find(in, from, to);
    if (p != NULL) {
        if (p->proven)
            answer(in, "result", to, from, (struct span){0}, "valid", NULL);
        return;
    }
    if (in->proof_count >= (unsigned)s->conf->s2s_domains_per_stream) {
        metric_add(S2S_REFUSED_DOMAINS);
        answer(in, "result", to, from, (struct span){0}, "error", "resource-constraint");
        return;
    }
    bool certified = (in->certified && span_is(from, in->header_from)) ||
                     (l->conn.tls != NULL && names_check(l->conn.tls, from, &why) == NAMES_GOOD);
    if (!certified && s->conf->s2s_require_certificate) {
        metric_add(S2S_REFUSED_CERT_NAME);
        answer(in, "result", to, from, (struct span){0}, "error", "not-authorized");
        return;
    }
    p = xcalloc(1, sizeof *p);
    p->from = span_dup(from);
    p->to = span_dup(to);
    list_add(&in->proofs, &p->node);
    in->proof_count++;
    if (l->peer == NULL)
        l->peer = span_dup(from);
    if (certified) { /* the certificate says it already (XEP-0220 §2.3.1, "dialback without dialing back") */
        p->proven = true;
        answer(in, "result", to, from, (struct span){0}, "valid", NULL);
        prove(in, from, to, "dialback-with-certificate", S2S_AUTH_IN_CERT);
        return;
    }
    in->open_count++;
    domain_verify(s, to, from, l->sid, span_of(l->id), key);
}

static bool on_dialback(struct in *in, const struct xml_element *e, struct span raw)
{
    struct leg *l = &in->leg;
    struct s2s *s = l->s2s;
    struct buf from = {0}, to = {0};
    bool result = span_is(e->name, "result"), known = result || span_is(e->name, "verify");
    if (!known || xml_element_attr(e, "type").p != NULL)
        return known;
    if (l->conn.tls == NULL && s->conf->s2s_require_tls) {
        metric_add(S2S_REFUSED_NO_TLS);
        leg_fail(l, STREAM_E_POLICY_VIOLATION, "TLS is required");
        return true;
    }
    struct span id = xml_element_attr(e, "id"); /* e may go with the tree's parse */
    char *id_text = span_dup(id);
    if (!prepare(xml_element_attr(e, "from"), &from) || !prepare(xml_element_attr(e, "to"), &to)) {
        metric_add(S2S_REFUSED_ADDRESSING);
        leg_fail(l, STREAM_E_IMPROPER_ADDRESSING, NULL);
    } else {
        struct xml_node *root = xml_tree(s->arena, raw, NS_SERVER);
        struct span key = root != NULL ? root->text : (struct span){0};
        char *key_text = span_dup(key);
        arena_reset(s->arena);
        if (result) {
            on_result(in, buf_span(&from), buf_span(&to), span_of(key_text));
        } else if (s2s_local(s, buf_span(&to)) == NULL) {
            answer(in, "verify", buf_span(&to), buf_span(&from), span_of(id_text), "error", "item-not-found");
        } else {
            bool good = dialback_check(buf_span(&s->secret), buf_span(&from), buf_span(&to), span_of(id_text),
                                       span_of(key_text));
            if (!good)
                metric_add(S2S_REFUSED_KEY);
            answer(in, "verify", buf_span(&to), buf_span(&from), span_of(id_text), good ? "valid" : "invalid",
                   NULL);
        }
        free(key_text);
    }
    free(id_text);
    buf_free(&from);
    buf_free(&to);
    return true;
}

/* ---- SASL ---- */

static void sasl_fail(struct in *in, const char *error)
{
    metric_add(S2S_REFUSED_SASL);
    leg_write(&in->leg, "<failure xmlns='" NS_SASL "'><%s/></failure>", error);
    if (++in->sasl_failures >= SASL_ATTEMPTS)
        leg_fail(&in->leg, STREAM_E_POLICY_VIOLATION, "too many failed attempts");
}

static bool on_sasl(struct in *in, const struct xml_element *e, struct span raw)
{
    struct leg *l = &in->leg;
    struct s2s *s = l->s2s;
    struct buf id = {0}, prepared = {0};
    if (span_is(e->name, "abort")) {
        sasl_fail(in, "aborted");
        return true;
    }
    if (!span_is(e->name, "auth") || in->external != NULL)
        return false;
    if (!span_is(xml_element_attr(e, "mechanism"), "EXTERNAL")) {
        sasl_fail(in, l->conn.tls == NULL ? "encryption-required" : "invalid-mechanism");
        return true;
    }
    struct xml_node *root = xml_tree(s->arena, raw, NS_SERVER);
    struct span text = root != NULL ? root->text : (struct span){0};
    bool decoded = span_is(text, "=") || base64_decode(&id, text);
    arena_reset(s->arena);
    if (!decoded) {
        sasl_fail(in, "incorrect-encoding");
    } else if (!in->certified) {
        sasl_fail(in, l->conn.tls == NULL ? "encryption-required" : "not-authorized");
    } else if (id.n > 0 && (!jid_prepare_domain(buf_span(&id), &prepared, NULL) ||
                            !span_is(buf_span(&prepared), in->header_from))) {
        sasl_fail(in, "invalid-authzid");
    } else {
        in->external = xstrdup(in->header_from);
        leg_write(l, "<success xmlns='" NS_SASL "'/>");
        stream_restart(&l->stream);
        l->stream.header_sent = false;
        prove(in, span_of(in->external), buf_span(&l->from), "external", S2S_AUTH_IN_EXTERNAL);
        leg_step(l);
    }
    buf_free(&id);
    buf_free(&prepared);
    return true;
}

/* ---- elements ---- */

static bool on_tls(struct in *in, const struct xml_element *e)
{
    struct leg *l = &in->leg;
    if (!span_is(e->name, "starttls") || l->conn.tls != NULL || authenticated(in))
        return false;
    if (l->s2s->tls == NULL) {
        leg_write(l, "<failure xmlns='" NS_TLS "'/>");
        leg_close(l);
        return true;
    }
    struct buf name = {0};
    leg_write(l, "<proceed xmlns='" NS_TLS "'/>");
    bool named = l->from.n > 0 && jid_domain_to_ascii(buf_span(&l->from), &name);
    conn_tls_accept(&l->conn, l->s2s->tls, named ? buf_cstr(&name) : NULL);
    buf_free(&name);
    leg_step(l);
    return true;
}

static bool on_element(struct leg *l, const struct xml_element *e, struct span raw)
{
    struct in *in = in_of(l);
    if (span_is(e->ns, NS_TLS))
        return on_tls(in, e);
    if (span_is(e->ns, NS_SASL))
        return on_sasl(in, e, raw);
    if (span_is(e->ns, NS_DIALBACK))
        return on_dialback(in, e, raw);
    if (span_is(e->ns, NS_BIDI) && span_is(e->name, "bidi")) {
        in->bidi = in->bidi || !authenticated(in);
        return true;
    }
    return false;
}

static enum leg_verdict on_may(struct leg *l, const struct stanza *s)
{
    struct in *in = in_of(l);
    struct span from = jid_domain(&s->from), to = jid_domain(&s->to);
    if (!authenticated(in))
        return LEG_NOT_AUTHORIZED;
    if (to.n > 0 && s2s_local(l->s2s, to) == NULL)
        return LEG_HOST_UNKNOWN;
    if (from.n == 0 || (in->external != NULL && span_is(from, in->external)))
        return LEG_GOOD;
    LIST_EACH (it, &in->proofs) {
        struct proof *p = LIST_ENTRY(it, struct proof, node);
        if (p->proven && span_is(from, p->from) && (to.n == 0 || span_is(to, p->to)))
            return LEG_GOOD;
    }
    return LEG_INVALID_FROM;
}

static bool on_may_enable(const struct leg *l)
{
    return authenticated(CONTAINER_OF(l, struct in, leg));
}

static bool on_may_resume(const struct leg *l)
{
    return CONTAINER_OF(l, struct in, leg)->external != NULL;
}

static void on_timeout(struct leg *l)
{
    leg_fail(l, STREAM_E_CONNECTION_TIMEOUT, "the stream was not proven in time");
}

static void on_lost(struct leg *l, const char *why)
{
    struct in *in = in_of(l);
    (void)why;
    if (timer_is_set(&in->timer))
        await(in, false);
    ring_timer_clear(l->s2s->ring, &in->timer);
    posh_cancel(in->posh);
    in->posh = NULL;
    if (in->domain != NULL)
        domain_in_leave(in->domain);
    in->domain = NULL;
    l->quota = &l->own_quota;
    domain_leg_lost(l);
}

static void on_gone(struct leg *l)
{
    struct in *in = in_of(l);
    struct s2s *s = l->s2s;
    listener_leave(s, &in->address);
    LIST_EACH (it, &in->proofs)
        proof_free(LIST_ENTRY(it, struct proof, node));
    leg_fini(l);
    free(in->header_from);
    free(in->external);
    free(in);
    s2s_leg_gone(s);
}

static void on_connected(struct leg *l)
{
    (void)l;
}

static void on_ready(struct leg *l)
{
    domain_leg_ready(l);
}

static const struct leg_role role = {.name = "in",
                                     .connected = on_connected,
                                     .secured = on_secured,
                                     .opened = on_opened,
                                     .element = on_element,
                                     .may = on_may,
                                     .may_enable = on_may_enable,
                                     .may_resume = on_may_resume,
                                     .counting = on_counting,
                                     .timeout = on_timeout,
                                     .ready = on_ready,
                                     .lost = on_lost,
                                     .gone = on_gone};
