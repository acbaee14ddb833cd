#include "s2s/relay.h"

#include "common/log/log.h"
#include "common/wire/wire.h"
#include "s2s/component.h"
#include "s2s/domain.h"
#include "s2s/metrics.h"
#include "s2s/s2s.h"
#include "s2s/uplink.h"

static uint64_t deadline(const struct s2s *s)
{
    return ring_now_ms(s->ring) + (uint64_t)s->conf->s2s_queue_timeout_s * 1000;
}

void relay_stanza(struct s2s *s, const struct stanza *stanza, struct receipt *receipt, uint64_t sid,
                  uint64_t n)
{
    const struct local *to = s2s_local(s, jid_domain(&stanza->to));
    if (to != NULL && to->component == NULL) {
        uplink_route(s, stanza, receipt, sid, n);
        return;
    }
    if (to != NULL && component_forward(s, to->component, stanza, receipt, sid, n))
        return;
    struct item *i =
        item_new(rcbuf_new(stanza->raw.p, stanza->raw.n), (struct span){0}, receipt, deadline(s));
    if (to != NULL)
        component_send(s, to->component, jid_bare(&stanza->from), i);
    else
        domain_send(s, jid_domain(&stanza->from), jid_domain(&stanza->to), i);
}

void relay_raw(struct s2s *s, struct span raw)
{
    struct stanza stanza;
    if (!stanza_index(s->index_parser, raw, &stanza) || stanza.to.domain_n == 0) {
        log_error("s2s", "BUG: a stanza of our own is malformed, dropped: %.*s", (int)MIN(raw.n, 200), raw.p);
        return;
    }
    relay_stanza(s, &stanza, NULL, 0, 0);
}

void relay_fanout(struct s2s *s, const struct stanza *stanza, struct span targets, struct receipt *receipt)
{
    struct rcbuf *raw = rcbuf_new(stanza->raw.p, stanza->raw.n);
    struct wire_target t;
    while (wire_target_next(&targets, &t)) {
        struct jid jid;
        if (!jid_split(t.to, &jid))
            continue;
        struct local *to = s2s_local(s, jid_domain(&jid));
        struct item *i = item_new(rcbuf_ref(raw), t.to, receipt_ref(receipt), deadline(s));
        if (to == NULL) {
            domain_send(s, jid_domain(&stanza->from), jid_domain(&jid), i);
        } else { /* a component, perhaps of another process: by itself */
            struct buf one = {0};
            struct stanza single;
            item_write(i, &one);
            if (stanza_index(s->index_parser, buf_span(&one), &single))
                relay_stanza(s, &single, receipt_ref(receipt), 0, 0);
            item_free(s, i);
            buf_free(&one);
        }
    }
    rcbuf_unref(raw);
    receipt_unref(s, receipt);
}

void relay_bounce(struct s2s *s, struct item *i, enum stanza_error error, const char *text)
{
    struct buf one = {0}, answer = {0};
    struct stanza stanza;
    item_write(i, &one);
    if (stanza_index(s->index_parser, buf_span(&one), &stanza) && stanza_may_error(&stanza)) {
        metric_bounced(error);
        stanza_add_error(&answer, &stanza, (struct span){0}, error, text);
        relay_raw(s, buf_span(&answer));
    } else {
        metric_add(S2S_DROPPED);
    }
    item_free(s, i);
    buf_free(&one);
    buf_free(&answer);
}
