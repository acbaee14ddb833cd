#include "s2s/privilege.h"

#include "common/base/random.h"
#include "common/config/privileges.h"
#include "common/log/log.h"
#include "common/stanza/nested.h"
#include "s2s/leg.h"
#include "s2s/metrics.h"
#include "s2s/relay.h"
#include "s2s/s2s.h"

static void write_permissions(const struct privileges *p, struct buf *out)
{
    if (p->roster != 0)
        buf_addf(out, "<perm access='roster' type='%s' push='%s'/>", privileges_access(p->roster),
                 p->push ? "true" : "false");
    if (p->message)
        buf_add_lit(out, "<perm access='message' type='outgoing'/>");
    if (p->iq_count > 0)
        buf_add_lit(out, "<perm access='iq'>");
    for (unsigned i = 0; i < p->iq_count; i++) {
        buf_add_lit(out, "<namespace");
        xml_add_attr(out, "ns", p->iqs[i].ns);
        buf_addf(out, " type='%s'/>", privileges_access(p->iqs[i].types));
    }
    if (p->iq_count > 0)
        buf_add_lit(out, "</perm>");
    if (p->presence != PRIVILEGE_PRESENCE_NONE)
        buf_addf(out, "<perm access='presence' type='%s'/>",
                 p->presence == PRIVILEGE_PRESENCE_ROSTER ? "roster" : "managed_entity");
}

void privilege_advertise(struct leg *l, struct span component)
{
    const struct conf *conf = l->s2s->conf;
    struct privileges p;
    if (!privileges_of(conf, component, &p))
        return;
    for (unsigned i = 0; i < conf->cluster_domains.count && !l->over; i++) {
        struct buf raw = {0};
        char id[17];
        random_hex(id, 8);
        buf_add_lit(&raw, "<message");
        xml_add_attr(&raw, "from", span_of(conf->cluster_domains.items[i]));
        xml_add_attr(&raw, "to", component);
        buf_addf(&raw, " id='%s'><privilege xmlns='" NS_PRIVILEGE "'>", id);
        write_permissions(&p, &raw);
        buf_add_lit(&raw, "</privilege></message>");
        leg_send(l, item_new(rcbuf_new(raw.p, raw.n), (struct span){0}, NULL,
                             ring_now_ms(l->s2s->ring) + (uint64_t)conf->s2s_queue_timeout_s * 1000));
        buf_free(&raw);
    }
}

static void refuse(struct leg *l, const struct stanza *s, enum stanza_error error, const char *text)
{
    struct buf out = {0};
    metric_add(S2S_REFUSED_PRIVILEGE);
    log_info("s2s", "a message in another name was refused component=%s error=%s", l->peer,
             stanza_error_name(error));
    if (stanza_may_error(s)) {
        metric_bounced(error);
        stanza_add_error(&out, s, (struct span){0}, error, text);
        relay_raw(l->s2s, buf_span(&out));
    }
    buf_free(&out);
}

/* A bare JID of a user here, or one of the users' domains. */
static bool is_own(struct s2s *s, const struct jid *from)
{
    const struct local *local = from->resource_n == 0 ? s2s_local(s, jid_domain(from)) : NULL;
    return local != NULL && local->component == NULL;
}

bool privilege_take(struct leg *l, const struct stanza *s, struct receipt *receipt, uint64_t sid, uint64_t n)
{
    static const struct stanza_path path[] = {{"privilege", NS_PRIVILEGE}, {"forwarded", NS_FORWARD}};
    struct s2s *s2s = l->s2s;
    const struct xml_child *child = stanza_child(s, "privilege", NS_PRIVILEGE);
    const struct local *to = s2s_local(s2s, jid_domain(&s->to));
    if (s->kind != STANZA_MESSAGE || child == NULL || s->to.local_n > 0 || to == NULL ||
        to->component != NULL)
        return false;
    struct privileges p;
    struct stanza inner;
    struct buf raw = {0};
    if (!privileges_of(s2s->conf, jid_domain(&s->from), &p) || !p.message)
        refuse(l, s, STANZA_E_FORBIDDEN, "s2s.privileges does not grant message:outgoing");
    else if (!stanza_nested(s2s->index_parser, stanza_child_raw(s, child), path, ARRAY_LEN(path), NULL, &raw,
                            &inner) ||
             inner.kind != STANZA_MESSAGE || inner.to.domain_n == 0)
        refuse(l, s, STANZA_E_BAD_REQUEST, "there is no message to forward");
    else if (!is_own(s2s, &inner.from))
        refuse(l, s, STANZA_E_FORBIDDEN, "'from' must be a bare JID of this server");
    else
        relay_stanza(s2s, &inner, receipt_ref(receipt), sid, n);
    buf_free(&raw);
    return true;
}
