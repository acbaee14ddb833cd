#include "s2s/malformed.h"

#include "common/log/log.h"
#include "s2s/metrics.h"
#include "s2s/relay.h"

/* RFC 7622 §3.2: the domain lies between the first "@" that is before any "/" and that "/". */
static struct span domain_text(struct span text)
{
    struct span bare = span_sub(text, 0, span_index(text, '/'));
    size_t at = span_index(bare, '@');
    return at < bare.n ? span_sub(bare, at + 1, SIZE_MAX) : bare;
}

/* Appends the domain of a malformed address to the store; n 0 = it has none. */
static size_t add_domain(struct span text, struct buf *store)
{
    size_t was = store->n;
    return jid_prepare_domain(domain_text(text), store, NULL) ? store->n - was : 0;
}

void malformed_claim(const struct stanza *s, const struct xml_element *e, struct buf *store,
                     struct stanza *claim)
{
    *claim = *s;
    size_t from_n = s->from.domain_n == 0 ? add_domain(xml_element_attr(e, "from"), store) : 0;
    size_t to_n = s->to.domain_n == 0 ? add_domain(xml_element_attr(e, "to"), store) : 0;
    if (from_n > 0)
        jid_split(span_make(store->p, from_n), &claim->from);
    if (to_n > 0)
        jid_split(span_make(store->p + from_n, to_n), &claim->to);
}

/* Whether a stanza whose `from` is malformed is answered: only who waits for something. An error to a room
 * for what one of its occupants has said would make the room throw the recipient out. */
static bool is_awaited(const struct stanza *s)
{
    switch (s->kind) {
    case STANZA_IQ:
        return s->type == STANZA_GET || s->type == STANZA_SET;
    case STANZA_MESSAGE:
        return s->type != STANZA_GROUPCHAT && s->type != STANZA_HEADLINE && stanza_may_error(s);
    case STANZA_PRESENCE:
        break;
    }
    return s->type == STANZA_SUBSCRIBE;
}

/* The sender's address as it came, but for the domain, which must be found again: its own server takes it.
 * False: nobody could. */
static bool add_sender(const struct jid *domain, struct span from, struct buf *out)
{
    struct jid jid;
    struct span text = domain_text(from);
    size_t at = (size_t)(text.p - from.p);
    buf_add_span(out, span_sub(from, 0, at));
    buf_add_span(out, jid_domain(domain));
    buf_add_span(out, span_sub(from, at + text.n, SIZE_MAX));
    return jid_split(buf_span(out), &jid) && span_eq(jid_domain(&jid), jid_domain(domain));
}

static void answer(struct s2s *s2s, const struct stanza *s, enum stanza_error error)
{
    struct buf out = {0};
    metric_bounced(error);
    stanza_add_error(&out, s, (struct span){0}, error, NULL);
    relay_raw(s2s, buf_span(&out));
    buf_free(&out);
}

void malformed_refuse(struct s2s *s2s, const struct stanza *claim, enum stanza_verdict verdict,
                      struct span from)
{
    struct buf sender = {0};
    struct stanza s = *claim;
    metric_add(verdict == STANZA_BAD_FROM ? S2S_REFUSED_BAD_FROM
               : verdict == STANZA_BAD_TO ? S2S_REFUSED_BAD_TO
                                          : S2S_REFUSED_STANZA);
    log_debug("s2s", "a malformed %s was refused domain=%.*s rule=%s", stanza_kind_name(s.kind),
              SPAN_FMT(jid_domain(&s.from)),
              verdict == STANZA_BAD_FROM ? "malformed-from"
              : verdict == STANZA_BAD_TO ? "malformed-to"
                                         : "malformed-stanza");
    if (verdict == STANZA_BAD_FROM) {
        if (is_awaited(&s) && s.from.domain_n > 0 && s.to.domain_n > 0 &&
            add_sender(&claim->from, from, &sender) && jid_split(buf_span(&sender), &s.from))
            answer(s2s, &s, STANZA_E_JID_MALFORMED);
    } else if (stanza_may_error(&s) && s.to.domain_n > 0) {
        answer(s2s, &s, verdict == STANZA_BAD_TO ? STANZA_E_JID_MALFORMED : STANZA_E_BAD_REQUEST);
    }
    buf_free(&sender);
}
