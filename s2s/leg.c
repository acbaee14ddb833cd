#include "s2s/leg.h"

#include <stdlib.h>

#include "common/base/random.h"
#include "common/log/log.h"
#include "common/tls/tls.h"
#include "s2s/malformed.h"
#include "s2s/metrics.h"
#include "s2s/names.h"
#include "s2s/relay.h"
#include "s2s/s2s.h"

#define HOLD_UNSAFE 1 /* reasons of conn_hold */
#define HOLD_RATE   2
#define HOLD_ESTATE 4
#define HOLD_CLOSED 8
#define LAST_ACK_MS 5000 /* our closing tag waits so long for what came before the peer's to be safe */
#define TICK_MS     1000
#define DRAIN_MS    100 /* between looks whether all is safe */
#define ASK_EVERY   32  /* stanzas after which an <r/> goes out although one is open */

static struct leg *leg_of(struct conn *c)
{
    return CONTAINER_OF(c, struct leg, conn);
}

static uint64_t now_ms_of(const struct leg *l)
{
    return ring_now_ms(l->s2s->ring);
}

static bool is_component(const struct leg *l)
{
    return l->stream.kind == &l->s2s->component_kind || l->stream.kind == &l->s2s->bind_kind;
}

static struct stream_header header_of(struct leg *l)
{
    return (struct stream_header){
        .from = buf_span(&l->from),
        .to = buf_span(&l->to),
        .id = l->stream.side == STREAM_RECEIVING ? span_of(l->id) : (struct span){0},
        .lang = l->stream.kind == &l->s2s->component_kind ? (struct span){0} : SPAN("en"),
        .version = l->stream.kind != &l->s2s->component_kind};
}

void leg_open(struct leg *l, bool version)
{
    if (l->stream.side == STREAM_RECEIVING)
        random_hex(l->id, 16);
    struct stream_header header = header_of(l);
    header.version = header.version && version;
    stream_open(&l->stream, &header, &l->conn.out);
    conn_dirty(&l->conn);
}

void leg_write(struct leg *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vaddf(&l->conn.out, format, args);
    va_end(args);
    conn_dirty(&l->conn);
}

/* ---- the end ---- */

static struct ledger *ledger_of(const struct leg *l)
{
    return l->witnessed ? witness_ledger(l->s2s->witness) : NULL;
}

/* From the first stanza on. */
static void witness(struct leg *l)
{
    if (l->witnessed || l->s2s->witness == NULL)
        return;
    l->witnessed = true;
    witness_add(l->s2s->witness, l->sid, l->conn.fd, l->stream.side == STREAM_INITIATING);
}

static void witness_over(struct leg *l)
{
    if (!l->witnessed)
        return;
    if (l->counts_in && l->taken > l->acked_n && l->peer != NULL)
        estate_leg_lost(l, span_of(l->peer));
    ledger_add(ledger_of(l), LEDGER_OVER, l->sid, 0, 0, 0, 0);
    witness_drop(l->s2s->witness, l->sid);
}

static void over(struct leg *l, const char *why)
{
    if (l->over)
        return;
    l->over = true;
    resume_over(l);
    witness_over(l);
    ring_timer_clear(l->s2s->ring, &l->timer);
    idmap_del(&l->s2s->sources, l->sid);
    log_debug("s2s", "stream over direction=%s peer=%s domain=%s: %s", l->role->name,
              conn_peer_name(&l->conn), l->peer != NULL ? l->peer : "?", why);
    l->role->lost(l, why);
}

void leg_fail(struct leg *l, enum stream_error error, const char *text)
{
    if (l->over)
        return;
    struct stream_header header = header_of(l);
    metric_stream_error(error, false);
    log_info("s2s", "stream error sent direction=%s peer=%s domain=%s error=%s: %s", l->role->name,
             conn_peer_name(&l->conn), l->peer != NULL ? l->peer : "?", stream_error_name(error),
             text != NULL ? text : "");
    if (!l->stream.header_sent && l->stream.side == STREAM_RECEIVING)
        random_hex(l->id, 16), header = header_of(l);
    stream_fail(&l->stream, &header, error, text, NULL, &l->conn.out);
    conn_dirty(&l->conn);
    over(l, stream_error_name(error));
    conn_finish(&l->conn);
}

void leg_close(struct leg *l)
{
    if (l->over)
        return;
    /* What is not confirmed is asked for once more; the answer may still come before the peer's end. */
    stream_close(&l->stream, &l->conn.out);
    conn_dirty(&l->conn);
    over(l, "closed");
    conn_finish(&l->conn);
}

uint32_t leg_h(const struct leg *l)
{
    return l->handled > l->counted_from ? (uint32_t)(l->handled - l->counted_from) : 0;
}

static void write_ack(struct leg *l)
{
    leg_write(l, "<a xmlns='" NS_SM "' h='%u'/>", leg_h(l));
    l->acked_n = l->handled;
    ledger_add(ledger_of(l), LEDGER_ACK, l->sid, l->handled, conn_written(&l->conn), 0, 0);
}

/* The peer's </stream:stream>. It forgets only what it knows to be safe, and nothing can be said behind our
 * own closing tag. */
static void on_close(struct leg *l)
{
    if (!l->counts_in || l->taken == l->handled) {
        leg_close(l);
        return;
    }
    l->closing_ms = now_ms_of(l) + LAST_ACK_MS;
    conn_hold(&l->conn, HOLD_CLOSED); /* also for a peer that ends TCP with it */
}

static void finish_closing(struct leg *l)
{
    write_ack(l);
    leg_close(l);
}

/* ---- time ---- */

void leg_step(struct leg *l)
{
    l->step_ms = now_ms_of(l) + (uint64_t)l->s2s->conf->s2s_connect_timeout_s * 1000;
}

void leg_step_done(struct leg *l)
{
    l->step_ms = 0;
    l->used_ms = now_ms_of(l);
}

static void on_tick(struct timer *t, uint64_t now)
{
    struct leg *l = CONTAINER_OF(t, struct leg, timer);
    const struct conf *conf = l->s2s->conf;
    ring_timer_set(l->s2s->ring, t, l->s2s->draining ? DRAIN_MS : TICK_MS);
    conn_unhold(&l->conn, HOLD_RATE);
    if (l->over)
        return;
    if (l->counts_in && l->handled > l->acked_n && l->handled > l->counted_from)
        write_ack(l); /* a peer that asks seldom need not keep so much */
    if (l->closing_ms != 0 && now >= l->closing_ms) {
        finish_closing(l);
        return;
    }
    if (l->step_ms != 0 && now >= l->step_ms) {
        metric_add(S2S_TIMEOUT_STEP);
        l->role->timeout(l);
    } else if (names_expired(l)) {
        metric_add(S2S_REFUSED_EXPIRED);
        leg_fail(l, STREAM_E_RESET, "your certificate has run out");
    } else if (l->asked_ms != 0 && now >= l->asked_ms + (uint64_t)conf->s2s_ack_timeout_s * 1000) {
        metric_add(S2S_TIMEOUT_ACK);
        leg_fail(l, STREAM_E_CONNECTION_TIMEOUT, "stanzas were not acknowledged in time");
    } else if (queue_first(&l->unacked) != NULL && now >= queue_first(&l->unacked)->deadline_ms) {
        metric_add(S2S_TIMEOUT_ACK);
        leg_fail(l, STREAM_E_CONNECTION_TIMEOUT, "stanzas are not taken");
    } else if (l->s2s->draining && l->unacked.count == 0 && l->taken == l->handled) {
        leg_fail(l, STREAM_E_SYSTEM_SHUTDOWN, NULL);
    } else if (l->step_ms == 0 && l->unacked.count == 0 && l->taken == l->handled &&
               now >= l->used_ms + (uint64_t)conf->s2s_idle_timeout_s * 1000 && !is_component(l)) {
        metric_add(S2S_IDLE);
        leg_close(l);
    }
}

void leg_drain(struct leg *l)
{
    if (l->conn.phase == CONN_DIALLING || !l->stream.header_sent)
        conn_drop(&l->conn, "this server is being shut down");
    else if (!l->over)
        ring_timer_set(l->s2s->ring, &l->timer, 0);
}

/* ---- stanzas out ---- */

bool leg_has_room(const struct leg *l)
{
    return !l->over && conn_waiting(&l->conn) < (size_t)l->s2s->conf->s2s_write_buffer_max_bytes &&
           !queue_is_full(&l->unacked, l->s2s->conf);
}

void leg_send(struct leg *l, struct item *i)
{
    CHECK(!l->over);
    item_write(i, &l->conn.out);
    i->end = conn_written(&l->conn);
    i->mark = l->counts_out || l->enabling ? ++l->out_n : i->end;
    witness(l);
    if (i->receipt != NULL && i->receipt->identity != 0)
        ledger_add(ledger_of(l), LEDGER_OUT, l->sid, i->receipt->identity, i->end, 0, 0);
    queue_add(&l->unacked, i);
    l->used_ms = now_ms_of(l);
    metric_add(S2S_OUT_STANZAS);
    conn_dirty(&l->conn);
}

/* The peer has everything up to a mark. */
static void release(struct leg *l, uint64_t upto)
{
    struct item *i;
    uint64_t end = 0;
    while ((i = queue_first(&l->unacked)) != NULL && i->mark <= upto) {
        queue_pop(&l->unacked);
        end = i->end;
        metric_add(S2S_SAFE);
        item_free(l->s2s, i);
    }
    if (end > 0)
        ledger_add(ledger_of(l), LEDGER_HAS, l->sid, end, 0, 0, 0);
}

static void on_sealed(struct conn *c, uint64_t plain, uint64_t wire)
{
    struct leg *l = leg_of(c);
    ledger_add(ledger_of(l), LEDGER_SEALED, l->sid, plain, wire, 0, 0);
}

static void on_sent(struct conn *c, uint64_t upto)
{
    struct leg *l = leg_of(c);
    /* Without stream management nothing better can be known than that the socket has it. */
    if (!l->counts_out && !l->enabling)
        release(l, upto);
    l->role->ready(l);
}

static void on_turn(struct conn *c)
{
    struct leg *l = leg_of(c);
    if (l->over || !(l->counts_out || l->enabling) || l->out_n == l->asked_n)
        return;
    if (l->asked_ms != 0 && l->out_n < l->asked_n + ASK_EVERY)
        return;
    buf_add_lit(&c->out, "<r xmlns='" NS_SM "'/>");
    l->asked_n = l->out_n;
    if (l->asked_ms == 0)
        l->asked_ms = now_ms_of(l);
}

/* From here on stanzas out / in are numbered. What was written before is all that can be known of it. */
static void count_out(struct leg *l)
{
    release(l, UINT64_MAX);
    l->out_n = l->out_acked = l->asked_n = 0;
}

static void count_in(struct leg *l)
{
    l->counts_in = true;
    l->counted_from = l->taken;
}

void leg_enable(struct leg *l)
{
    if (l->counts_out || l->enabling)
        return;
    l->enabling = true;
    count_out(l);
    bool resume = l->role->may_resume != NULL && l->role->may_resume(l);
    leg_write(l, "<enable xmlns='" NS_SM "'%s/>", resume ? " resume='true'" : "");
}

void leg_resume(struct leg *l, const char *id, uint32_t h)
{
    struct buf text = {0};
    l->resuming = true;
    buf_addf(&text, "<resume xmlns='" NS_SM "' h='%u'", h);
    xml_add_attr(&text, "previd", span_of(id));
    buf_add_lit(&text, "/>");
    buf_add_span(&l->conn.out, buf_span(&text));
    conn_dirty(&l->conn);
    buf_free(&text);
}

void leg_counts_from(struct leg *l, const struct leg_counts *counts)
{
    l->counts_in = l->counts_out = true;
    l->named = counts->named;
    l->counted_from = counts->counted_from;
    l->taken = l->handled = l->acked_n = counts->handled;
    l->out_n = l->out_acked = l->asked_n = counts->out_n;
    resume_handled(l);
}

/* ---- stanzas in ---- */

void leg_source_done(struct s2s *s, uint64_t sid, uint64_t n)
{
    struct leg *l = idmap_get(&s->sources, sid);
    if (l == NULL)
        return;
    if (n != l->handled + 1) {
        idmap_put(&l->early, n, l);
    } else {
        l->handled = n;
        while (l->early.count > 0 && idmap_del(&l->early, l->handled + 1) != NULL)
            l->handled++;
        ledger_add(ledger_of(l), LEDGER_SAFE, l->sid, l->handled, 0, 0, 0);
        resume_handled(l);
    }
    if (l->taken - l->handled <= (uint64_t)s->conf->s2s_unacked_max / 2 && (l->conn.holds & HOLD_UNSAFE) != 0)
        conn_unhold(&l->conn, HOLD_UNSAFE);
    if (l->closing_ms != 0 && l->taken == l->handled && !l->over)
        finish_closing(l);
}

void leg_own_done(struct leg *l)
{
    leg_source_done(l->s2s, l->sid, ++l->taken);
}

static void charge(struct leg *l)
{
    uint64_t rate = (uint64_t)l->s2s->conf->s2s_stanzas_per_second, now = now_ms_of(l);
    if (!l->s2s->conf->limits_enabled || is_component(l))
        return;
    struct quota *q = l->quota;
    uint64_t refill = (now - q->ms) * rate / 1000;
    if (refill > 0) {
        q->left = MIN(rate, q->left + refill);
        q->ms = now;
    }
    if (q->left > 0) {
        q->left--;
    } else {
        metric_add(S2S_HOLDS);
        conn_hold(&l->conn, HOLD_RATE); /* until the next tick */
    }
}

/* False: it may not come from this peer, and the stream has been ended for it. */
static bool may_send(struct leg *l, const struct stanza *s)
{
    switch (l->role->may(l, s)) {
    case LEG_GOOD:
        return true;
    case LEG_INVALID_FROM:
        metric_add(S2S_REFUSED_FROM);
        leg_fail(l, STREAM_E_INVALID_FROM, "this stream has not proven that domain");
        break;
    case LEG_HOST_UNKNOWN:
        metric_add(S2S_REFUSED_HOST);
        leg_fail(l, STREAM_E_HOST_UNKNOWN, "that domain is not served here");
        break;
    case LEG_NOT_AUTHORIZED:
        metric_add(S2S_REFUSED_UNAUTHORIZED);
        leg_fail(l, STREAM_E_NOT_AUTHORIZED, "no stanzas before authentication");
        break;
    }
    return false;
}

void leg_proven(struct leg *l, struct span domain)
{
    witness(l);
    if (l->witnessed)
        witness_domain(l->s2s->witness, l->sid, domain);
    estate_ask(l, domain);
}

void leg_ask(struct leg *l)
{
    l->asks++;
    conn_hold(&l->conn, HOLD_ESTATE);
}

void leg_asked(struct leg *l)
{
    if (--l->asks == 0)
        conn_unhold(&l->conn, HOLD_ESTATE);
}

/* What a stanza is called towards routers. */
struct identity {
    uint64_t sid, n;
    bool safe; /* a router has it already */
};

/* The n-th of this leg, unless it came before on a stream that broke. */
static struct identity identify(struct leg *l, const struct stanza *s, uint64_t n)
{
    struct identity i = {l->named, n, false};
    /* What Prosody sends again comes before it enables stream management anew. */
    if (!l->counts_in && l->s2s->estate.tails.count == 0)
        return i;
    bool delayed;
    uint64_t likeness = ledger_likeness(s->raw, &delayed);
    if (delayed || s->id.n > 0)
        estate_match(l->s2s, likeness, &i.sid, &i.n, &i.safe);
    if (!l->counts_in) /* it is never sent again */
        return i;
    witness(l);
    ledger_add(ledger_of(l), LEDGER_IN, l->sid, n, likeness, i.sid, i.n);
    return i;
}

/* It counts as the peer's next one. */
static uint64_t count(struct leg *l)
{
    l->used_ms = now_ms_of(l);
    metric_add(S2S_IN_STANZAS);
    charge(l);
    return ++l->taken;
}

/* Reads no more while too much of what came is not safe. */
static void check_room(struct leg *l)
{
    if (l->taken - l->handled < (uint64_t)l->s2s->conf->s2s_unacked_max)
        return;
    if ((l->conn.holds & HOLD_UNSAFE) == 0)
        metric_add(S2S_HOLDS);
    conn_hold(&l->conn, HOLD_UNSAFE);
}

static void take_stanza(struct leg *l, const struct stanza *s)
{
    struct s2s *s2s = l->s2s;
    if (!may_send(l, s))
        return;
    uint64_t n = count(l);
    struct receipt *receipt = receipt_for_source(l->sid, n);
    struct identity identity = identify(l, s, n);
    if (!identity.safe && (l->role->take == NULL || !l->role->take(l, s, receipt, identity.sid, identity.n)))
        relay_stanza(s2s, s, receipt_ref(receipt), identity.sid, identity.n);
    receipt_unref(s2s, receipt);
    check_room(l);
}

/* The stream goes on, and the stanza is acknowledged, unless it is a forgery too. */
static void take_malformed(struct leg *l, const struct stanza *s, enum stanza_verdict verdict,
                           const struct xml_element *e)
{
    struct s2s *s2s = l->s2s;
    struct buf store = {0};
    struct stanza claim;
    malformed_claim(s, e, &store, &claim);
    if (may_send(l, &claim)) {
        uint64_t n = count(l);
        struct receipt *receipt = receipt_for_source(l->sid, n);
        if (!identify(l, s, n).safe)
            malformed_refuse(s2s, &claim, verdict, xml_element_attr(e, "from"));
        receipt_unref(s2s, receipt);
        check_room(l);
    }
    buf_free(&store);
}

static void on_stanza(struct leg *l, const struct xml_element *e, struct span raw)
{
    struct s2s *s2s = l->s2s;
    struct stanza s;
    buf_clear(&s2s->scratch);
    enum stanza_verdict verdict =
        stanza_rewrite(e, raw, (struct span){0}, buf_span(&l->lang), &s2s->scratch, &s);
    if (verdict == STANZA_NOT_A_STANZA) {
        leg_fail(l, STREAM_E_UNSUPPORTED_STANZA_TYPE, NULL);
        return;
    }
    struct span from = xml_element_attr(e, "from");
    if (from.p == NULL || xml_element_attr(e, "to").p == NULL) { /* RFC 6120 §8.1.1.2, §8.1.2.2 */
        metric_add(S2S_REFUSED_ADDRESSING);
        leg_fail(l, l->role->may_enable(l) ? STREAM_E_IMPROPER_ADDRESSING : STREAM_E_NOT_AUTHORIZED,
                 "'from' and 'to' are needed");
        return;
    }
    if (verdict == STANZA_GOOD && s.to.domain_n == 0)
        verdict = STANZA_BAD_TO; /* it is empty: as good as malformed where it is needed */
    if (s.from.domain_n == 0)
        verdict = STANZA_BAD_FROM;
    if (verdict == STANZA_GOOD)
        take_stanza(l, &s);
    else
        take_malformed(l, &s, verdict, e);
}

static bool is_true(struct span value)
{
    return span_is(value, "true") || span_is(value, "1");
}

/* XEP-0198. True when it was one of its elements. */
static bool on_management(struct leg *l, const struct xml_element *e)
{
    uint64_t h;
    if (!span_is(e->ns, NS_SM))
        return false;
    if (span_is(e->name, "r") && l->counts_in) {
        write_ack(l);
    } else if (span_is(e->name, "a") && (l->counts_out || l->enabling)) {
        if (!span_to_u64(xml_element_attr(e, "h"), UINT32_MAX, &h) ||
            (uint32_t)(h - l->out_acked) > l->out_n - l->out_acked) {
            leg_fail(l, STREAM_E_UNDEFINED_CONDITION, "more acknowledged than was sent");
            return true;
        }
        l->out_acked += (uint32_t)((uint32_t)h - (uint32_t)l->out_acked);
        l->asked_ms = l->out_acked >= l->asked_n ? 0 : now_ms_of(l);
        release(l, l->out_acked);
        l->role->ready(l);
        if (l->out_n > l->asked_n) /* what was written while that answer was awaited is asked for now */
            conn_dirty(&l->conn);
    } else if (span_is(e->name, "enable")) {
        if (l->counts_in || !l->role->may_enable(l)) {
            leg_write(l, "<failed xmlns='" NS_SM "'><unexpected-request xmlns='" NS_STANZA_ERRORS
                         "'/></failed>");
        } else {
            count_in(l);
            count_out(l);
            l->counts_out = true;
            if (is_true(xml_element_attr(e, "resume")) && resume_offer(l))
                leg_write(l, "<enabled xmlns='" NS_SM "' id='%s' resume='true' max='%d'/>", l->session_id,
                          RESUME_S);
            else
                leg_write(l, "<enabled xmlns='" NS_SM "'/>");
            if (l->role->counting != NULL)
                l->role->counting(l);
        }
    } else if (span_is(e->name, "resume")) {
        if (l->counts_in || l->taken > 0 || l->asks > 0 || !l->role->may_enable(l))
            leg_write(l, "<failed xmlns='" NS_SM "'><unexpected-request xmlns='" NS_STANZA_ERRORS
                         "'/></failed>");
        else
            resume_ask(l, xml_element_attr(e, "previd"), xml_element_attr(e, "h"));
    } else if (span_is(e->name, "enabled") && l->enabling) {
        l->enabling = false;
        l->counts_out = true;
        count_in(l);
        if (is_true(xml_element_attr(e, "resume")) && xml_element_attr(e, "id").n > 0 &&
            l->role->may_resume != NULL && l->role->may_resume(l))
            l->session_id = span_dup(xml_element_attr(e, "id"));
    } else if ((span_is(e->name, "resumed") || span_is(e->name, "failed")) && l->resuming) {
        l->resuming = false;
        bool known = span_to_u64(xml_element_attr(e, "h"), UINT32_MAX, &h);
        l->role->resumed(l, span_is(e->name, "resumed") && known, known ? (int64_t)h : -1);
    } else if (span_is(e->name, "failed") && l->enabling) {
        /* It does not count: what is written is all that can be known. */
        l->enabling = false;
        l->asked_ms = 0;
        release(l, l->out_n);
    }
    return true;
}

static void on_element(struct leg *l, const struct xml_element *e, struct span raw)
{
    enum stanza_kind kind;
    if (span_is(e->ns, NS_STREAM) && span_is(e->name, "error")) {
        enum stream_error error = STREAM_E_UNDEFINED_CONDITION;
        struct xml_node *root = xml_tree(l->s2s->arena, raw, l->stream.kind->content_ns);
        struct xml_node *text = root != NULL ? xml_child(root, "text", NS_STREAM_ERRORS) : NULL;
        for (uint32_t i = 0; i < MIN(e->child_count, XML_CHILDREN_MAX); i++)
            if (span_is(e->children[i].ns, NS_STREAM_ERRORS) && !span_is(e->children[i].name, "text"))
                error = stream_error_parse(e->children[i].name);
        metric_stream_error(error, true);
        log_info("s2s", "stream error received direction=%s peer=%s domain=%s error=%s: %.*s", l->role->name,
                 conn_peer_name(&l->conn), l->peer != NULL ? l->peer : "?", stream_error_name(error),
                 text != NULL ? (int)text->text.n : 0, text != NULL ? text->text.p : "");
        arena_reset(l->s2s->arena);
        stream_close(&l->stream, &l->conn.out);
        conn_dirty(&l->conn);
        over(l, stream_error_name(error));
        conn_finish(&l->conn);
        return;
    }
    if (on_management(l, e))
        return;
    if (span_is(e->ns, l->stream.kind->content_ns) && stanza_kind_parse(e->name, &kind)) {
        if (l->role->own != NULL && l->role->own(l, e, raw))
            return;
        on_stanza(l, e, raw);
        return;
    }
    if (!l->role->element(l, e, raw) && !l->over)
        leg_fail(l, STREAM_E_UNSUPPORTED_STANZA_TYPE, NULL);
}

static void on_bytes(struct conn *c, struct span *in)
{
    struct leg *l = leg_of(c);
    while (!l->over && c->holds == 0) {
        struct stream_event event = stream_next(&l->stream, in);
        switch (event.kind) {
        case STREAM_MORE:
            return;
        case STREAM_OPENED:
            l->role->opened(l, event.element);
            break;
        case STREAM_ELEMENT:
            on_element(l, event.element, event.raw);
            break;
        case STREAM_CLOSED:
            on_close(l);
            break;
        case STREAM_FAILED:
            leg_fail(l, event.error, NULL);
            break;
        }
        if (c->shaking) /* whatever came in clear behind <starttls/> or <proceed/> is forgotten */
            *in = span_sub(*in, in->n, 0);
    }
    if (l->over)
        *in = span_sub(*in, in->n, 0);
}

/* ---- the connection ---- */

static void on_open(struct conn *c)
{
    struct leg *l = leg_of(c);
    l->role->connected(l);
}

static void on_secured(struct conn *c)
{
    struct leg *l = leg_of(c);
    metric_add(S2S_TLS_OK);
    l->role->secured(l);
}

static void on_closed(struct conn *c, const char *why)
{
    struct leg *l = leg_of(c);
    if (c->shaking && c->tls != NULL) {
        metric_add(S2S_TLS_FAILED);
        log_info("s2s", "TLS handshake failed direction=%s peer=%s domain=%s: %s", l->role->name,
                 conn_peer_name(c), l->peer != NULL ? l->peer : "?", why);
    }
    l->broken = l->broken || !l->over;
    over(l, why);
}

static void on_gone(struct conn *c)
{
    struct leg *l = leg_of(c);
    l->role->gone(l);
}

const struct conn_handler leg_conn_handler = {.xml = true,
                                              .open = on_open,
                                              .secured = on_secured,
                                              .bytes = on_bytes,
                                              .turn = on_turn,
                                              .sealed = on_sealed,
                                              .sent = on_sent,
                                              .closed = on_closed,
                                              .gone = on_gone};

void leg_init(struct leg *l, struct s2s *s, const struct leg_role *role, const struct stream_kind *kind,
              enum stream_side side)
{
    l->s2s = s;
    l->role = role;
    stream_init(&l->stream, kind, side);
    queue_init(&l->unacked);
    l->sid = l->named = random_u64();
    l->used_ms = l->own_quota.ms = now_ms_of(l);
    l->own_quota.left = (uint64_t)s->conf->s2s_stanzas_per_second;
    l->quota = &l->own_quota;
    l->timer.fire = on_tick;
    ring_timer_set(s->ring, &l->timer, TICK_MS);
    idmap_put(&s->sources, l->sid, l);
    list_add(&s->legs, &l->node);
    stat_set(&metric_streams, metric_streams.value + 1);
}

void leg_fini(struct leg *l)
{
    struct item *i;
    ring_timer_clear(l->s2s->ring, &l->timer);
    idmap_del(&l->s2s->sources, l->sid);
    while ((i = queue_pop(&l->unacked)) != NULL)
        item_free(l->s2s, i);
    list_del(&l->node);
    stream_free(&l->stream);
    buf_free(&l->from);
    buf_free(&l->to);
    buf_free(&l->lang);
    idmap_free(&l->early);
    free(l->peer);
    free(l->session_id);
    stat_set(&metric_streams, metric_streams.value - 1);
}
