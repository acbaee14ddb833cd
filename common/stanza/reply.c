/* Errors, results and delay stamps, built in the raw form. */
#include "common/base/clock.h"
#include "common/stanza/stanza.h"

/* RFC 6120 §8.3.3, with the error types that it recommends. */
static const struct {
    const char *name;
    const char *type;
} errors[STANZA_E_COUNT] = {
    [STANZA_E_BAD_REQUEST] = {"bad-request", "modify"},
    [STANZA_E_CONFLICT] = {"conflict", "cancel"},
    [STANZA_E_FEATURE_NOT_IMPLEMENTED] = {"feature-not-implemented", "cancel"},
    [STANZA_E_FORBIDDEN] = {"forbidden", "auth"},
    [STANZA_E_GONE] = {"gone", "cancel"},
    [STANZA_E_INTERNAL_SERVER_ERROR] = {"internal-server-error", "cancel"},
    [STANZA_E_ITEM_NOT_FOUND] = {"item-not-found", "cancel"},
    [STANZA_E_JID_MALFORMED] = {"jid-malformed", "modify"},
    [STANZA_E_NOT_ACCEPTABLE] = {"not-acceptable", "modify"},
    [STANZA_E_NOT_ALLOWED] = {"not-allowed", "cancel"},
    [STANZA_E_NOT_AUTHORIZED] = {"not-authorized", "auth"},
    [STANZA_E_POLICY_VIOLATION] = {"policy-violation", "modify"},
    [STANZA_E_RECIPIENT_UNAVAILABLE] = {"recipient-unavailable", "wait"},
    [STANZA_E_REDIRECT] = {"redirect", "modify"},
    [STANZA_E_REGISTRATION_REQUIRED] = {"registration-required", "auth"},
    [STANZA_E_REMOTE_SERVER_NOT_FOUND] = {"remote-server-not-found", "cancel"},
    [STANZA_E_REMOTE_SERVER_TIMEOUT] = {"remote-server-timeout", "wait"},
    [STANZA_E_RESOURCE_CONSTRAINT] = {"resource-constraint", "wait"},
    [STANZA_E_SERVICE_UNAVAILABLE] = {"service-unavailable", "cancel"},
    [STANZA_E_SUBSCRIPTION_REQUIRED] = {"subscription-required", "auth"},
    [STANZA_E_UNDEFINED_CONDITION] = {"undefined-condition", "cancel"},
    [STANZA_E_UNEXPECTED_REQUEST] = {"unexpected-request", "wait"},
};

const char *stanza_error_name(enum stanza_error error)
{
    return errors[error].name;
}

const char *stanza_error_type(enum stanza_error error)
{
    return errors[error].type;
}

bool stanza_may_error(const struct stanza *s)
{
    if (s->type == STANZA_ERROR)
        return false;
    switch (s->kind) {
    case STANZA_MESSAGE:
        return true;
    case STANZA_IQ:
        return s->type != STANZA_RESULT;
    case STANZA_PRESENCE:
        break;
    }
    return s->type == STANZA_SUBSCRIBE || (s->type == STANZA_NONE && s->to.domain_n > 0);
}

bool stanza_may_refuse(const struct stanza *s)
{
    return s->kind == STANZA_PRESENCE ? s->type != STANZA_ERROR : stanza_may_error(s);
}

/* "<KIND from=… to=… id=… type='TYPE'" with the addresses swapped. */
static void add_reply_tag(struct buf *out, const struct stanza *s, struct span own_bare, const char *type)
{
    buf_add_char(out, '<');
    buf_add_str(out, stanza_kind_name(s->kind));
    if (s->to.domain_n > 0)
        xml_add_attr(out, "from", jid_full(&s->to));
    else if (own_bare.n > 0)
        xml_add_attr(out, "from", own_bare);
    if (s->from.domain_n > 0)
        xml_add_attr(out, "to", jid_full(&s->from));
    xml_add_attr(out, "id", s->id);
    buf_addf(out, " type='%s'", type);
}

void stanza_add_error(struct buf *out, const struct stanza *s, struct span own_bare, enum stanza_error error,
                      const char *text)
{
    stanza_add_error_with(out, s, own_bare, error, text, (struct stanza_error_extra){NULL, NULL});
}

void stanza_add_error_with(struct buf *out, const struct stanza *s, struct span own_bare,
                           enum stanza_error error, const char *text, struct stanza_error_extra extra)
{
    add_reply_tag(out, s, own_bare, "error");
    buf_addf(out, "><error type='%s'><%s xmlns='" NS_STANZA_ERRORS "'/>",
             extra.type != NULL ? extra.type : errors[error].type, errors[error].name);
    if (text != NULL) {
        buf_add_lit(out, "<text xmlns='" NS_STANZA_ERRORS "' xml:lang='en'>");
        xml_add_text(out, span_of(text));
        buf_add_lit(out, "</text>");
    }
    if (extra.element != NULL)
        buf_add_str(out, extra.element);
    buf_addf(out, "</error></%s>", stanza_kind_name(s->kind));
}

void stanza_add_result_open(struct buf *out, const struct stanza *iq, struct span own_bare)
{
    add_reply_tag(out, iq, own_bare, "result");
    buf_add_char(out, '>');
}

void stanza_add_result(struct buf *out, const struct stanza *iq, struct span own_bare)
{
    add_reply_tag(out, iq, own_bare, "result");
    buf_add_lit(out, "/>");
}

void stanza_add_delay(struct buf *out, struct span from, uint64_t wall_ms)
{
    char stamp[32];

    buf_add_lit(out, "<delay xmlns='" NS_DELAY "'");
    if (from.n > 0)
        xml_add_attr(out, "from", from);
    buf_addf(out, " stamp='%s'/>", clock_format_utc(wall_ms, stamp));
}
