/* Stream management (XEP-0198): counting, asking, answering, resuming.
 *
 * Inbound: h tells the client what is safe, not what has arrived: only HANDLED of the home router moves it.
 * An <r/> is answered at once with what is safe now; when something was still under way, an <a/> follows
 * unasked as soon as it is safe, or before our closing tag at the latest. Outbound: the router's numbers go
 * on over all connections of the session; out_acked is the number that the client's last h stands for. Both
 * count modulo 2^32. */
#include <stdlib.h>

#include "c2s/login.h"
#include "c2s/metrics.h"
#include "common/log/log.h"

/* Deliveries without a wish for confirmation (presence …) after which the client is asked all the same. */
#define ASK_AFTER 32

static void write_ack(struct session *s)
{
    buf_addf(&s->out, "<a xmlns='" NS_SM "' h='%u'/>", (uint32_t)(s->in_handled - s->in_base));
    s->sm_owes_ack = s->in_handled != s->in_n;
    s->sm_owes_n = s->in_n;
    s->env->host->output(s);
}

static void write_failed(struct session *s, enum stanza_error error, bool has_h, uint32_t h)
{
    buf_add_lit(&s->out, "<failed xmlns='" NS_SM "'");
    if (has_h)
        buf_addf(&s->out, " h='%u'", h);
    buf_addf(&s->out, "><%s xmlns='" NS_STANZA_ERRORS "'/></failed>", stanza_error_name(error));
    s->env->host->output(s);
}

void sm_last_ack(struct session *s)
{
    if (s->sm && (s->sm_owes_ack || s->sm_owes_n != s->in_n))
        write_ack(s);
}

void sm_too_early(struct session *s, const struct xml_element *e, struct span raw)
{
    (void)raw;
    if (span_is(e->name, "enable") || span_is(e->name, "resume"))
        write_failed(s, STANZA_E_UNEXPECTED_REQUEST, false, 0); /* XEP-0198 §3, §5 */
    else
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNSUPPORTED_STANZA_TYPE, "log in first", NULL);
}

static void on_enable(struct session *s, const struct xml_element *e)
{
    if (s->state != SESSION_BOUND || s->sm_wanted || s->sm) {
        write_failed(s, STANZA_E_UNEXPECTED_REQUEST, false, 0);
        return;
    }
    struct span resume = xml_element_attr(e, "resume");
    struct span max = xml_element_attr(e, "max");
    uint64_t seconds = 0;
    if (span_is(resume, "true") || span_is(resume, "1")) {
        seconds = s->env->resume_s;
        uint64_t wanted;
        if (max.p != NULL && span_to_u64(max, UINT32_MAX, &wanted))
            seconds = MIN(seconds, wanted);
    }
    s->sm_wanted = true;
    s->in_base = s->in_n;
    s->env->host->enable(s, (unsigned)seconds);
}

void session_enabled(struct session *s, struct span sm_id, unsigned resume_s, uint64_t out_n)
{
    if ((s->state != SESSION_BOUND && s->state != SESSION_CLOSING) || !s->sm_wanted || s->sm)
        return;
    s->sm = true;
    s->resumable = sm_id.n > 0 && resume_s > 0;
    s->out_base = s->out_acked = s->sm_asked_n = out_n;
    s->out_acked_h = 0;
    buf_add_lit(&s->out, "<enabled xmlns='" NS_SM "'");
    if (s->resumable) {
        xml_add_attr(&s->out, "id", sm_id);
        buf_addf(&s->out, " resume='true' max='%u'", resume_s);
    }
    buf_add_lit(&s->out, "/>");
    s->env->host->output(s);
    if (s->state == SESSION_CLOSING && s->in_handled == s->in_n)
        session_closed(s);
    else if (s->sm_owes_ack)
        write_ack(s);
}

static void on_resume(struct session *s, const struct xml_element *e)
{
    struct span id = xml_element_attr(e, "previd");
    uint64_t h;
    if (s->state != SESSION_BIND) {
        write_failed(s, STANZA_E_UNEXPECTED_REQUEST, false, 0);
    } else if (id.n == 0 || id.n > 256 || !span_to_u64(xml_element_attr(e, "h"), UINT32_MAX, &h)) {
        write_failed(s, STANZA_E_BAD_REQUEST, false, 0);
    } else {
        buf_clear(&s->login->sm_id);
        buf_add_span(&s->login->sm_id, id);
        s->out_acked_h = (uint32_t)h;
        session_enter(s, SESSION_RESUMING);
        session_hold(s, SESSION_HOLD_ANSWER);
        s->env->host->resume(s, buf_span(&s->login->sm_id), (uint32_t)h);
    }
}

void session_resumed(struct session *s, struct span full_jid, uint64_t in_n, uint32_t h, uint64_t out_n)
{
    if (s->state != SESSION_RESUMING)
        return;
    free(s->jid);
    s->jid = span_dup(full_jid);
    s->jid_n = (uint16_t)full_jid.n;
    s->in_n = s->in_handled = in_n;
    s->in_base = in_n - h;
    s->out_n = s->out_acked = s->sm_asked_n = out_n;
    s->out_n_unknown = out_n == 0;
    s->sm_wanted = s->sm = s->resumable = true;
    buf_add_lit(&s->out, "<resumed xmlns='" NS_SM "'");
    xml_add_attr(&s->out, "previd", buf_span(&s->login->sm_id));
    buf_addf(&s->out, " h='%u'/>", h);
    s->env->host->output(s);
    login_free(s);
    session_enter(s, SESSION_BOUND);
    session_unhold(s, SESSION_HOLD_ANSWER);
    s->env->host->bound(s);
}

void session_resume_failed(struct session *s, enum stanza_error error, bool has_h, uint32_t h)
{
    if (s->state != SESSION_RESUMING)
        return;
    session_enter(s, SESSION_BIND);
    session_unhold(s, SESSION_HOLD_ANSWER);
    write_failed(s, error, has_h, h);
}

static void on_ack(struct session *s, const struct xml_element *e)
{
    uint64_t h;
    if (!span_to_u64(xml_element_attr(e, "h"), UINT32_MAX, &h)) {
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNDEFINED_CONDITION, "an <a/> needs a number h", NULL);
        return;
    }
    uint32_t more = (uint32_t)h - s->out_acked_h;
    uint64_t sent = s->out_n_unknown ? 0 : s->out_n - s->out_acked;
    s->sm_asked = false;
    if (more > sent) {
        char *app = xasprintf("<handled-count-too-high xmlns='" NS_SM "' h='%u' send-count='%u'/>",
                              (uint32_t)h, (uint32_t)(s->out_acked_h + sent));
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNDEFINED_CONDITION,
                     "more stanzas acknowledged than were sent", app);
        free(app);
        return;
    }
    if (more > 0) {
        s->out_acked += more;
        s->out_acked_h = (uint32_t)h;
        s->env->host->acked(s, s->out_acked);
    }
    if (s->out_n > s->out_acked)
        s->env->host->output(s);
}

void sm_element(struct session *s, const struct xml_element *e, struct span raw)
{
    (void)raw;
    if (span_is(e->name, "enable"))
        on_enable(s, e);
    else if (span_is(e->name, "resume"))
        on_resume(s, e);
    else if (span_is(e->name, "r") && s->sm)
        write_ack(s);
    else if (span_is(e->name, "a") && s->sm)
        on_ack(s, e);
    else if (s->sm_wanted && span_is(e->name, "r"))
        s->sm_owes_ack = true; /* a client that does not wait for <enabled/>, which brings the answer */
    else
        session_fail(s, SESSION_END_CLEAN, STREAM_E_UNSUPPORTED_STANZA_TYPE, "stream management is not on",
                     NULL);
}

void session_handled(struct session *s, uint64_t n)
{
    if (n <= s->in_handled)
        return;
    s->in_handled = MIN(n, s->in_n);
    if (s->state == SESSION_CLOSING && s->sm && s->in_handled == s->in_n)
        session_closed(s);
    if (s->sm && s->sm_owes_ack && s->state == SESSION_BOUND && s->in_handled >= s->sm_owes_n)
        write_ack(s);
}

void session_turn_end(struct session *s)
{
    if (!s->sm || s->sm_asked || s->state != SESSION_BOUND || s->out_n_unknown)
        return;
    /* An answer covers what was written before the question: asking again without news would go round for
     * ever with a client that has lost count. */
    uint64_t known = MAX(s->out_acked, s->sm_asked_n);
    if (s->out_confirm > known || s->out_n - known >= ASK_AFTER) {
        buf_add_lit(&s->out, "<r xmlns='" NS_SM "'/>");
        s->sm_asked = true;
        s->sm_asked_n = s->out_n;
    }
}

bool session_nudge(struct session *s)
{
    if (s->state != SESSION_BOUND)
        return false;
    if (s->sm) {
        buf_add_lit(&s->out, "<r xmlns='" NS_SM "'/>");
        s->sm_asked = true;
        s->sm_asked_n = s->out_n;
    } else {
        buf_add_char(&s->out, ' ');
    }
    s->env->host->output(s);
    return s->sm;
}
