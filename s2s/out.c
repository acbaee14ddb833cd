/* The steps of an outgoing stream:
 *
 *   RESOLVING → CONNECTING (one target after the other, until one answers with a header) → [direct TLS] →
 * HEADER → FEATURES → PROCEED → TLS → HEADER → FEATURES → either SASL (EXTERNAL; then HEADER, FEATURES once
 * more) or, when that is not offered or fails, OPEN with dialback → OPEN. A peer that refuses EXTERNAL and
 * ends the stream for it gets dialback on a new connection, at once, and for a while.
 *
 * In OPEN each pair that wants the stream is proven by dialback (several local domains share it, XEP-0220
 * §2.6), except the one that SASL has proven; keys of incoming streams are verified there too, which needs no
 * proof. */
#include "s2s/out.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/text.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/tls/tls.h"
#include "s2s/dialback.h"
#include "s2s/domain.h"
#include "s2s/metrics.h"
#include "s2s/names.h"
#include "s2s/posh.h"
#include "s2s/resolve.h"
#include "s2s/s2s.h"

#define EXTERNAL_AGAIN_MS 3600000 /* then a peer that has refused EXTERNAL is asked once more */

enum out_state {
    OUT_RESOLVING,
    OUT_CONNECTING,
    OUT_HEADER,
    OUT_FEATURES,
    OUT_PROCEED,
    OUT_TLS,
    OUT_SASL,
    OUT_OPEN
};

struct out {
    struct leg leg;
    struct remote *remote; /* NULL = has been told of the end */
    struct resolve_call *call;
    struct posh_call *posh; /* asking the domain about the peer's certificate */
    struct target *targets;
    unsigned target_count, target;
    struct local *first; /* whose name the header bears */
    char *stream_id;     /* the peer's, for dialback */
    uint8_t state;
    bool begun;         /* leg_init was done for the present target */
    bool external_done; /* SASL has proven `first` */
    bool external_tried;
    bool external_closed; /* the peer has ended a stream for it: this one goes without */
    bool answered;        /* some target has sent a header */
    bool proven;          /* a pair is up */
    bool certified;       /* the peer's certificate is good for the remote domain */
    bool offers_tls, offers_external, offers_dialback, offers_bidi, offers_sm;
    bool bidi;
    bool dane;          /* TLSA records say what its certificate must be */
    const char *reason; /* static, of the last failure */
};

static const struct leg_role role;

static struct out *out_of(struct leg *l)
{
    return CONTAINER_OF(l, struct out, leg);
}

/* ---- the end ---- */

static void out_free(struct out *o)
{
    resolve_cancel(o->call);
    posh_cancel(o->posh);
    if (o->begun)
        leg_fini(&o->leg);
    free(o->targets);
    free(o->stream_id);
    free(o);
}

static bool wanted(const struct remote *r)
{
    LIST_EACH (it, &r->pairs)
        if (pair_wants(LIST_ENTRY(it, struct pair, node)))
            return true;
    return false;
}

void out_forget(struct out *o)
{
    if (!o->begun)
        out_free(o);
}

static void tell_lost(struct out *o, enum stanza_error error, const char *reason)
{
    struct remote *r = o->remote;
    if (r == NULL)
        return;
    bool failed = !o->proven && (o->state != OUT_OPEN || wanted(r));
    o->remote = NULL;
    domain_out_lost(r, failed, error, reason);
}

/* ---- targets ---- */

/* Begins with the next target. False: there is none any more, and the end was told; o may then be freed by
 * the caller. */
static bool dial_next(struct out *o)
{
    struct s2s *s = o->remote->s2s;
    while (o->target < o->target_count) {
        struct target *t = &o->targets[o->target++];
        leg_init(&o->leg, s, &role, &s->server_kind, STREAM_INITIATING);
        o->begun = true;
        o->leg.peer = xstrdup(o->remote->domain);
        o->state = OUT_CONNECTING;
        metric_add(S2S_CONN_OUT);
        if (conn_dial(&s->hub, &o->leg.conn, &leg_conn_handler, &t->address, s->conf->s2s_outgoing_address,
                      (uint64_t)s->conf->s2s_connect_timeout_s * 1000))
            return true;
        metric_add(S2S_CONN_FAILED);
        log_debug("s2s", "cannot connect domain=%s host=%s: %s", o->remote->domain, t->host, strerror(errno));
        leg_fini(&o->leg);
        o->begun = false;
    }
    tell_lost(o, STANZA_E_REMOTE_SERVER_TIMEOUT,
              o->reason != NULL ? o->reason : "its server cannot be reached");
    return false;
}

static void on_resolved(void *ctx, enum resolve_result result, const struct target *targets, unsigned count)
{
    struct out *o = ctx;
    o->call = NULL;
    if (result != RESOLVE_OK) {
        static const char *const reasons[] = {[RESOLVE_NONE] = "there is no server for that domain",
                                              [RESOLVE_FAILED] = "DNS does not answer for that domain",
                                              [RESOLVE_BOGUS] = "DNS answers for that domain are forged"};
        tell_lost(o,
                  result == RESOLVE_NONE ? STANZA_E_REMOTE_SERVER_NOT_FOUND : STANZA_E_REMOTE_SERVER_TIMEOUT,
                  reasons[result]);
        out_free(o);
        return;
    }
    o->targets = xmalloc(count * sizeof *o->targets);
    memcpy(o->targets, targets, count * sizeof *o->targets);
    o->target_count = count;
    if (!dial_next(o))
        out_free(o);
}

struct out *out_start(struct remote *r)
{
    struct out *o = xcalloc(1, sizeof *o);
    o->remote = r;
    o->leg.s2s = r->s2s;
    o->first = r->suspended != NULL && r->suspended->dials ? r->suspended->pair->local : NULL;
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        if (o->first == NULL && pair_wants(p))
            o->first = p->local;
    }
    if (o->first == NULL && !list_empty(&r->verifies))
        o->first = s2s_local(r->s2s, span_of(LIST_ENTRY(r->verifies.next, struct verify, node)->local));
    if (o->first == NULL) { /* nobody wants it any more: the sweep asks again when somebody does */
        free(o);
        return NULL;
    }
    o->state = OUT_RESOLVING;
    o->call = resolve_start(r->s2s->resolver, span_of(r->domain), on_resolved, o);
    return o;
}

/* True when the peer has ended the stream because of our EXTERNAL, so that dialback may do better on a new
 * one. What ends a stream without it as well is no reason. */
static bool refused_external(struct out *o)
{
    struct remote *r = o->remote;
    bool refused = r != NULL && o->external_tried && !o->external_done && !o->proven && wanted(r) &&
                   !o->leg.s2s->draining;
    if (r != NULL && o->external_closed && !o->proven)
        r->external_ms = 0; /* dialback does no better */
    if (!refused)
        return false;
    log_info("s2s", "domain=%s has ended the stream for our SASL EXTERNAL: trying dialback", r->domain);
    o->external_closed = true;
    r->external_ms = ring_now_ms(r->s2s->ring) + EXTERNAL_AGAIN_MS;
    o->target--; /* on_gone dials the same once more */
    domain_out_again(r);
    return true;
}

static void on_lost(struct leg *l, const char *why)
{
    struct out *o = out_of(l);
    posh_cancel(o->posh);
    o->posh = NULL;
    domain_leg_lost(l);
    if (o->state == OUT_CONNECTING || o->state == OUT_HEADER)
        metric_add(S2S_CONN_FAILED);
    if (o->remote == NULL || refused_external(o))
        return;
    if (o->state >= OUT_SASL || o->target >= o->target_count) {
        char text[160];
        snprintf(text, sizeof text, "%s",
                 o->reason != NULL ? o->reason
                 : o->answered     ? "its server does not accept our stream"
                                   : "its server cannot be reached");
        log_debug("s2s", "outgoing stream over domain=%s: %s", o->remote->domain, why);
        if (o->answered && o->state < OUT_OPEN)
            metric_add(S2S_REFUSED_BY_PEER);
        tell_lost(o, STANZA_E_REMOTE_SERVER_TIMEOUT, text);
    }
}

static void on_gone(struct leg *l)
{
    struct out *o = out_of(l);
    struct s2s *s = l->s2s;
    leg_fini(l);
    o->begun = false;
    if (o->remote != NULL && !s->draining) { /* the next target */
        struct conn conn = o->leg.conn;
        memset(&o->leg, 0, sizeof o->leg);
        o->leg.conn = conn;
        o->certified = o->bidi = o->offers_external = o->external_tried = false;
        if (dial_next(o))
            return;
    }
    tell_lost(o, STANZA_E_REMOTE_SERVER_TIMEOUT, "this server is being shut down");
    out_free(o);
    s2s_leg_gone(s);
}

/* Gives this target up for a reason of ours. */
static void give_up(struct out *o, enum stream_error error, const char *reason)
{
    o->reason = reason;
    leg_fail(&o->leg, error, reason);
}

/* ---- opening ---- */

static void send_header(struct out *o)
{
    struct leg *l = &o->leg;
    buf_clear(&l->from);
    buf_clear(&l->to);
    buf_add_str(&l->from, o->first->domain);
    buf_add_str(&l->to, o->remote->domain);
    leg_open(l, true);
    o->state = OUT_HEADER;
    leg_step(l);
}

/* Gives the session the TLSA records of the target; how many are of use. */
static unsigned add_tlsa(struct tls *t, const struct target *target)
{
    unsigned n = 0;
    for (unsigned i = 0; i < target->tlsa_count; i++) {
        const struct tlsa *r = &target->tlsa[i];
        n += tls_add_tlsa(t, target->host, r->usage, r->selector, r->matching, span_make(r->data, r->n));
    }
    return n;
}

static void start_tls(struct out *o)
{
    struct s2s *s = o->leg.s2s;
    struct buf name = {0}, own = {0};
    jid_domain_to_ascii(span_of(o->remote->domain), &name);
    jid_domain_to_ascii(span_of(o->first->domain), &own);
    struct tls *t = tls_connect(s->tls, name.n > 0 ? buf_cstr(&name) : NULL);
    if (own.n > 0)
        tls_prefer_domain(t, buf_cstr(&own));
    o->dane = add_tlsa(t, &o->targets[o->target - 1]) > 0;
    conn_tls_connect(&o->leg.conn, t);
    buf_free(&name);
    buf_free(&own);
    o->state = OUT_TLS;
    leg_step(&o->leg);
}

static void on_connected(struct leg *l)
{
    struct out *o = out_of(l);
    if (o->targets[o->target - 1].tls)
        start_tls(o);
    else
        send_header(o);
}

/* TLS is there, and what can be known of the peer's certificate is known. */
static void go_on(struct out *o)
{
    struct leg *l = &o->leg;
    if (o->certified)
        names_rely(l);
    if (o->dane)
        metric_add(S2S_DANE);
    stream_restart(&l->stream);
    send_header(o);
}

static void on_bad_certificate(struct out *o, enum s2s_metric metric, const char *why, bool refused)
{
    metric_add(metric);
    log_info("s2s", "certificate of domain=%s is not good: %s%s", o->remote->domain, why,
             refused ? "" : "; going on with dialback alone");
    if (refused) {
        o->reason = "its server's certificate is not valid";
        conn_drop(&o->leg.conn, o->reason);
    } else {
        go_on(o);
    }
}

static void on_posh(void *ctx, enum posh_verdict verdict, const char *why)
{
    struct out *o = ctx;
    o->posh = NULL;
    o->certified = verdict == POSH_VERIFIED;
    if (o->certified) {
        log_info("s2s", "certificate of domain=%s is good by POSH", o->remote->domain);
        go_on(o);
    } else {
        bool other = verdict == POSH_OTHER;
        on_bad_certificate(o, other ? S2S_REFUSED_POSH : S2S_REFUSED_CERT_CHAIN, why,
                           other || o->leg.s2s->conf->s2s_require_certificate);
    }
}

static void on_secured(struct leg *l)
{
    struct out *o = out_of(l);
    const char *why = NULL;
    struct span domain = span_of(o->remote->domain);
    enum names_verdict verdict = names_check(l->conn.tls, domain, &why);
    o->certified = verdict == NAMES_GOOD;
    if (!o->certified && !o->dane)
        o->posh = posh_start(l->s2s->posh, domain, l->conn.tls, on_posh, o);
    if (o->certified)
        go_on(o);
    else if (o->posh == NULL)
        on_bad_certificate(o, o->dane ? S2S_REFUSED_DANE : names_metric(verdict), why,
                           o->dane || l->s2s->conf->s2s_require_certificate);
}

static void dialback(struct out *o);

static void on_opened(struct leg *l, const struct xml_element *header)
{
    struct out *o = out_of(l);
    struct span from = xml_element_attr(header, "from"), id = xml_element_attr(header, "id");
    if (from.n > 0 && !names_same(from, span_of(o->remote->domain))) {
        metric_add(S2S_REFUSED_HEADER);
        give_up(o, STREAM_E_INVALID_FROM, "its server answers as another domain");
        return;
    }
    free(o->stream_id);
    o->stream_id = span_dup(id);
    o->answered = true;
    o->state = OUT_FEATURES;
    leg_step(l);
    if (l->stream.version == 0) { /* no features will come (RFC 6120 §4.7.5) */
        if (l->conn.tls == NULL && l->s2s->conf->s2s_require_tls) {
            metric_add(S2S_REFUSED_NO_TLS);
            give_up(o, STREAM_E_POLICY_VIOLATION, "its server does not offer TLS");
        } else {
            dialback(o);
        }
    }
}

/* ---- features ---- */

static void read_features(struct out *o, struct span raw)
{
    struct arena *arena = o->leg.s2s->arena;
    struct xml_node *root = xml_tree(arena, raw, NS_SERVER);
    struct xml_node *mechanisms = root != NULL ? xml_child(root, "mechanisms", NS_SASL) : NULL;
    o->offers_external = false;
    for (struct xml_node *m = mechanisms != NULL ? xml_child(mechanisms, "mechanism", NS_SASL) : NULL;
         m != NULL; m = xml_sibling(m))
        o->offers_external = o->offers_external || span_is(m->text, "EXTERNAL");
    o->offers_tls = root != NULL && xml_child(root, "starttls", NS_TLS) != NULL;
    o->offers_dialback = root != NULL && xml_child(root, "dialback", NS_DIALBACK_FEATURE) != NULL;
    o->offers_bidi = root != NULL && xml_child(root, "bidi", NS_BIDI_FEATURE) != NULL;
    o->offers_sm = root != NULL && xml_child(root, "sm", NS_SM) != NULL;
    arena_reset(arena);
}

static void ask_bidi(struct out *o)
{
    if (!o->offers_bidi || o->bidi)
        return;
    o->bidi = true;
    metric_add(S2S_BIDI);
    leg_write(&o->leg, "<bidi xmlns='" NS_BIDI "'/>");
}

static void ask_pair(struct out *o, struct pair *p)
{
    struct s2s *s = o->leg.s2s;
    struct buf text = {0};
    char key[65];
    dialback_key(buf_span(&s->secret), span_of(o->remote->domain), span_of(p->local->domain),
                 span_of(o->stream_id), key);
    buf_add_lit(&text, "<db:result");
    xml_add_attr(&text, "from", span_of(p->local->domain));
    xml_add_attr(&text, "to", span_of(o->remote->domain));
    buf_addf(&text, ">%s</db:result>", key);
    leg_write(&o->leg, "%.*s", SPAN_FMT(buf_span(&text)));
    buf_free(&text);
    p->asked = true;
    leg_step(&o->leg);
}

static void ask_verify(struct out *o, struct verify *v)
{
    struct buf text = {0};
    buf_add_lit(&text, "<db:verify");
    xml_add_attr(&text, "from", span_of(v->local));
    xml_add_attr(&text, "to", span_of(o->remote->domain));
    xml_add_attr(&text, "id", span_of(v->stream_id));
    buf_add_char(&text, '>');
    xml_add_text(&text, span_of(v->key));
    buf_add_lit(&text, "</db:verify>");
    leg_write(&o->leg, "%.*s", SPAN_FMT(buf_span(&text)));
    buf_free(&text);
    v->asked = true;
    leg_step(&o->leg);
}

/* OPEN: proves and verifies what is wanted. */
static void work(struct out *o)
{
    struct remote *r = o->remote;
    LIST_EACH (it, &r->verifies) {
        struct verify *v = LIST_ENTRY(it, struct verify, node);
        if (!v->asked)
            ask_verify(o, v);
    }
    bool asking = wanted(r);
    if (asking && !o->external_done && !o->proven)
        ask_bidi(o);
    LIST_EACH (it, &r->pairs) {
        struct pair *p = LIST_ENTRY(it, struct pair, node);
        if (!pair_wants(p) || p->asked || o->leg.resuming)
            continue;
        if (o->external_done && p->local == o->first) {
            pair_up(p, &o->leg);
        } else if (o->leg.s2s->secret.n == 0) {
            log_warn("s2s", "dialback has to wait: Redis has not told the secret yet");
        } else {
            ask_pair(o, p);
        }
    }
}

static void open_up(struct out *o)
{
    o->state = OUT_OPEN;
    leg_step_done(&o->leg);
    work(o);
}

static void dialback(struct out *o)
{
    open_up(o);
}

static void external(struct out *o)
{
    struct buf text = {0};
    ask_bidi(o);
    o->external_tried = true;
    o->state = OUT_SASL;
    base64_add(&text, span_of(o->first->domain));
    leg_write(&o->leg, "<auth xmlns='" NS_SASL "' mechanism='EXTERNAL'>%s</auth>", buf_cstr(&text));
    buf_free(&text);
    leg_step(&o->leg);
}

/* A pair (NULL: it is wanted no more) is proven. */
static void up(struct out *o, struct pair *p)
{
    struct leg *l = &o->leg;
    struct remote *r = o->remote;
    bool first = !o->proven, resumes = first && o->offers_sm && r->suspended != NULL && r->suspended->dials &&
                                       r->suspended->pair == p;
    o->proven = true;
    if (first && o->bidi)
        leg_proven(l, span_of(r->domain));
    l->both_ways = o->bidi;
    if (resumes) {
        const struct suspended *u = r->suspended;
        leg_resume(l, u->id, u->h);
        leg_step(l);
        return;
    }
    if (first && o->offers_sm)
        leg_enable(l);
    if (p != NULL && p->leg == NULL)
        pair_up(p, l);
}

static void on_resumed(struct leg *l, bool good, int64_t h)
{
    struct out *o = out_of(l);
    leg_step_done(l);
    if (o->remote == NULL)
        return;
    if (o->remote->suspended != NULL)
        domain_resumed(o->remote, l, good, h), out_poke(o);
    else /* it took too long */
        leg_fail(l, STREAM_E_UNDEFINED_CONDITION, "what was to be resumed has been given up");
}

static bool on_may_resume(const struct leg *l)
{
    (void)l;
    return true;
}

static bool may_external(struct out *o)
{
    struct s2s *s = o->leg.s2s;
    bool refused = ring_now_ms(s->ring) < o->remote->external_ms;
    o->external_closed = o->external_closed || refused;
    return !o->external_tried && !refused && s->have_cert && wanted(o->remote);
}

static void on_features(struct out *o, struct span raw)
{
    struct leg *l = &o->leg;
    read_features(o, raw);
    if (l->conn.tls == NULL && l->s2s->tls != NULL && (o->offers_tls || l->s2s->conf->s2s_require_tls)) {
        /* When it is required also if it is not advertised: its absence may be an attacker's work (RFC 7590
         * §3.1). */
        leg_write(l, "<starttls xmlns='" NS_TLS "'/>");
        o->state = OUT_PROCEED;
        leg_step(l);
    } else if (l->conn.tls == NULL && l->s2s->conf->s2s_require_tls) {
        metric_add(S2S_REFUSED_NO_TLS);
        give_up(o, STREAM_E_POLICY_VIOLATION, "this server has no certificate to speak TLS with");
    } else if (o->external_done) {
        struct pair *p = remote_pair(o->remote, span_of(o->first->domain));
        up(o, p);
        open_up(o);
    } else if (o->offers_external && may_external(o)) {
        external(o);
    } else {
        dialback(o);
    }
}

/* ---- other elements ---- */

static bool on_tls(struct out *o, const struct xml_element *e)
{
    if (span_is(e->name, "proceed") && o->state == OUT_PROCEED) {
        start_tls(o);
        return true;
    }
    if (span_is(e->name, "failure") && o->state == OUT_PROCEED) {
        metric_add(S2S_REFUSED_NO_TLS);
        give_up(o, STREAM_E_POLICY_VIOLATION, "its server refuses TLS");
        return true;
    }
    return false;
}

static bool on_sasl(struct out *o, const struct xml_element *e)
{
    struct leg *l = &o->leg;
    if (o->state != OUT_SASL)
        return false;
    if (span_is(e->name, "success")) {
        o->external_done = true;
        metric_add(S2S_AUTH_OUT_EXTERNAL);
        log_info("s2s", "stream proven direction=out by=external domain=%s peer=%s tls=yes",
                 o->remote->domain, conn_peer_name(&l->conn));
        stream_restart(&l->stream);
        send_header(o);
        return true;
    }
    if (span_is(e->name, "failure")) {
        log_info("s2s", "domain=%s refuses our certificate by SASL: trying dialback", o->remote->domain);
        dialback(o);
        return true;
    }
    return false;
}

static bool on_result(struct out *o, const struct xml_element *e)
{
    struct span type = xml_element_attr(e, "type");
    struct pair *p = remote_pair(o->remote, xml_element_attr(e, "to"));
    if (!names_same(xml_element_attr(e, "from"), span_of(o->remote->domain)) || p == NULL || !p->asked)
        return type.n > 0; /* late or about nobody */
    if (span_is(type, "valid")) {
        metric_add(S2S_AUTH_OUT_DIALBACK);
        log_info("s2s", "stream proven direction=out by=dialback domain=%s local=%s peer=%s tls=%s",
                 o->remote->domain, p->local->domain, conn_peer_name(&o->leg.conn),
                 o->leg.conn.tls != NULL ? "yes" : "no");
        up(o, p);
        leg_step_done(&o->leg);
    } else if (span_is(type, "error")) {
        pair_refused(p, STANZA_E_REMOTE_SERVER_TIMEOUT, "its server could not verify this one");
        leg_step_done(&o->leg);
    } else {
        /* RFC 6120 and XEP-0220 §2.1.2: an invalid key ends the stream. */
        metric_add(S2S_REFUSED_BY_PEER);
        pair_refused(p, STANZA_E_REMOTE_SERVER_TIMEOUT, "its server says that this one is not who it says");
        leg_close(&o->leg);
    }
    return true;
}

static bool on_verify(struct out *o, const struct xml_element *e)
{
    if (!names_same(xml_element_attr(e, "from"), span_of(o->remote->domain)))
        return true;
    bool waits = false;
    domain_verified(o->remote, xml_element_attr(e, "to"), xml_element_attr(e, "id"),
                    span_is(xml_element_attr(e, "type"), "valid"));
    LIST_EACH (it, &o->remote->verifies)
        waits = waits || LIST_ENTRY(it, struct verify, node)->asked;
    LIST_EACH (it, &o->remote->pairs)
        waits = waits || LIST_ENTRY(it, struct pair, node)->asked;
    if (!waits)
        leg_step_done(&o->leg);
    return true;
}

static bool on_element(struct leg *l, const struct xml_element *e, struct span raw)
{
    struct out *o = out_of(l);
    if (span_is(e->ns, NS_STREAM) && span_is(e->name, "features")) {
        if (o->state != OUT_FEATURES)
            return false;
        on_features(o, raw);
        return true;
    }
    if (span_is(e->ns, NS_TLS))
        return on_tls(o, e);
    if (span_is(e->ns, NS_SASL))
        return on_sasl(o, e);
    if (span_is(e->ns, NS_DIALBACK) && o->state == OUT_OPEN)
        return span_is(e->name, "result") ? on_result(o, e) : span_is(e->name, "verify") && on_verify(o, e);
    return false;
}

/* Stanzas come on it only when it goes both ways, and only from the domain that it goes to. */
static enum leg_verdict on_may(struct leg *l, const struct stanza *s)
{
    struct out *o = out_of(l);
    if (!o->bidi || o->remote == NULL)
        return LEG_NOT_AUTHORIZED;
    if (s->from.domain_n > 0 && !span_is(jid_domain(&s->from), o->remote->domain))
        return LEG_INVALID_FROM;
    if (s->to.domain_n == 0)
        return LEG_GOOD;
    struct pair *p = remote_pair(o->remote, jid_domain(&s->to));
    return p != NULL && p->leg == l ? LEG_GOOD : LEG_HOST_UNKNOWN;
}

static bool on_may_enable(const struct leg *l)
{
    (void)l;
    return false; /* the initiating side asks */
}

static void on_timeout(struct leg *l)
{
    struct out *o = out_of(l);
    o->reason = "its server does not answer in time";
    o->external_tried = false; /* silence is no refusal */
    leg_fail(l, STREAM_E_CONNECTION_TIMEOUT, o->state == OUT_OPEN ? "dialback takes too long" : NULL);
}

static void on_ready(struct leg *l)
{
    domain_leg_ready(l);
}

void out_poke(struct out *o)
{
    if (o->state == OUT_OPEN && o->remote != NULL && !o->leg.over)
        work(o);
}

static const struct leg_role role = {.name = "out",
                                     .connected = on_connected,
                                     .secured = on_secured,
                                     .opened = on_opened,
                                     .element = on_element,
                                     .may = on_may,
                                     .may_enable = on_may_enable,
                                     .may_resume = on_may_resume,
                                     .resumed = on_resumed,
                                     .timeout = on_timeout,
                                     .ready = on_ready,
                                     .lost = on_lost,
                                     .gone = on_gone};
