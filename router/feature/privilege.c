/* Privileged components (XEP-0356), at the home of the user in whose name they act: they read and change the
 * roster as its owner does, learn its changes and the presence of the user (and of the contacts), and ask
 * others in the user's name. (Messages in a user's name: s2s/privilege.c.) */
#include <stdlib.h>

#include "common/config/privileges.h"
#include "common/log/log.h"
#include "common/stanza/nested.h"
#include "router/contacts.h"
#include "router/feature.h"
#include "router/readdress.h"

static struct privileges *all; /* of the configuration */
static unsigned count;

static const struct span none = {NULL, 0};

static bool enabled(const struct conf *conf)
{
    const struct conf_list *list = &conf->s2s_privileges;
    free(all);
    all = list->count > 0 ? xcalloc(list->count, sizeof *all) : NULL;
    count = 0;
    for (unsigned i = 0; i < list->count; i++) {
        const char *why;
        if (privileges_parse(span_of(list->items[i]), &all[count], &why))
            count++;
        else
            log_error("privilege", "s2s.privileges: item %u is not used: %s", i + 1, why);
    }
    return count > 0;
}

static const struct privileges *of(struct span domain)
{
    for (unsigned i = 0; i < count; i++)
        if (span_eq(all[i].domain, domain))
            return &all[i];
    return NULL;
}

static uint8_t bit_of(enum stanza_type type)
{
    return type == STANZA_GET ? PRIVILEGE_GET : PRIVILEGE_SET;
}

/* ---- the roster (§4) ---- */

static enum verdict on_roster(struct task *t, enum wake wake)
{
    const struct privileges *p = of(jid_domain(&t->stanza.from));
    if (p == NULL && t->stanza.type == STANZA_GET)
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    if (p == NULL || !(p->roster & bit_of(t->stanza.type)))
        return task_refuse(t, STANZA_E_FORBIDDEN, NULL);
    if (!t->user->exists)
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    const struct iq_route *own = feature_iq(t->stanza.type, IQ_TO_ACCOUNT, SPAN(NS_ROSTER), SPAN("query"));
    return own->fn(t, wake);
}

static void on_roster_changed(struct user *u, struct session *s)
{
    (void)s;
    for (unsigned i = 0; i < count; i++) {
        struct buf raw = {0};
        if (all[i].push && components_here(u->core, all[i].domain) &&
            readdress(&raw, u->core->pushed, span_of(u->bare), all[i].domain))
            route_raw(u->core, buf_span(&raw), NULL);
        buf_free(&raw);
    }
}

/* ---- presence (§7) ---- */

static void send_presence(struct core *c, const struct privileges *p, struct span raw, struct span from)
{
    struct buf out = {0};
    if (readdress(&out, raw, from, p->domain))
        route_raw(c, buf_span(&out), NULL);
    buf_free(&out);
}

static void send_session(struct session *s, const struct privileges *p)
{
    if (s->available && s->presence != NULL)
        send_presence(s->user->core, p, rcbuf_span(s->presence), span_of(s->full));
}

static void on_available(struct user *u, struct session *s)
{
    for (unsigned i = 0; i < count; i++)
        if (all[i].presence != PRIVILEGE_PRESENCE_NONE && components_here(u->core, all[i].domain))
            send_session(s, &all[i]);
}

static void on_unavailable(struct user *u, struct session *s)
{
    for (unsigned i = 0; i < count; i++)
        if (all[i].presence != PRIVILEGE_PRESENCE_NONE && components_here(u->core, all[i].domain))
            presence_route(u->core, span_of(s->full), all[i].domain, none, "unavailable", NULL);
}

static void on_component(struct user *u, struct session *s)
{
    const struct privileges *p = of(u->core->components.subject);
    (void)s;
    if (p == NULL || p->presence == PRIVILEGE_PRESENCE_NONE)
        return;
    LIST_EACH (it, &u->sessions)
        send_session(LIST_ENTRY(it, struct session, of_user), p);
}

/* A contact's presence has come to the user, who may be offline. Several users may have that contact: the
 * component's s2s process passes on one of the copies (§8). */
static enum verdict on_contact_presence(struct task *t, enum wake wake)
{
    (void)wake;
    const struct stanza *s = &t->stanza;
    if ((s->type != STANZA_NONE && s->type != STANZA_UNAVAILABLE) || !t->user->exists)
        return PASS;
    const struct contact *contact = contacts_find(t->user, jid_bare(&s->from));
    if (contact == NULL || !(contact->state & CONTACT_TO))
        return PASS;
    for (unsigned i = 0; i < count; i++) {
        struct buf out = {0};
        if (all[i].presence == PRIVILEGE_PRESENCE_ROSTER && components_here(t->core, all[i].domain) &&
            !span_eq(jid_domain(&s->from), all[i].domain) &&
            readdress(&out, s->raw, jid_full(&s->from), all[i].domain))
            route_raw(t->core, buf_span(&out), NULL);
        buf_free(&out);
    }
    return PASS;
}

/* ---- iq in the user's name (§6) ---- */

static bool may_ask(const struct privileges *p, const struct stanza *inner)
{
    const struct xml_child *payload = stanza_payload(inner);
    for (unsigned i = 0; payload != NULL && i < p->iq_count; i++)
        if (span_eq(p->iqs[i].ns, payload->ns) && (p->iqs[i].types & bit_of(inner->type)) &&
            !span_is(payload->ns, NS_PRIVILEGE))
            return true;
    return false;
}

static enum verdict ask(struct task *t, const struct stanza *inner)
{
    struct span bare = span_of(t->user->bare);
    struct span whom = inner->to.domain_n > 0 ? jid_full(&inner->to) : bare;
    struct buf raw = {0};
    if (!asked_add(t->core, bare, whom, inner->id, jid_full(&t->stanza.from), t->stanza.id))
        return task_refuse(t, STANZA_E_CONFLICT, "that request is under way already");
    bool good = readdress(&raw, inner->raw, bare, whom) && route_raw(t->core, buf_span(&raw), NULL);
    buf_free(&raw);
    return good ? DONE : task_refuse(t, STANZA_E_BAD_REQUEST, NULL);
}

static enum verdict on_request(struct task *t, enum wake wake)
{
    static const struct stanza_path path[] = {{"privileged_iq", NS_PRIVILEGE}};
    const struct privileges *p = of(jid_domain(&t->stanza.from));
    struct buf raw = {0};
    struct stanza inner;
    (void)wake;
    if (p == NULL)
        return task_refuse(t, STANZA_E_FORBIDDEN, NULL);
    if (!t->user->exists)
        return task_refuse(t, STANZA_E_SERVICE_UNAVAILABLE, NULL);
    struct span payload = stanza_child_raw(&t->stanza, stanza_payload(&t->stanza));
    bool good = stanza_nested(t->core->parser, payload, path, ARRAY_LEN(path), NS_CLIENT, &raw, &inner) &&
                inner.kind == STANZA_IQ && inner.type == t->stanza.type && may_ask(p, &inner) &&
                (inner.from.domain_n == 0 || span_is(jid_full(&inner.from), t->user->bare));
    enum verdict v = good ? ask(t, &inner) : task_refuse(t, STANZA_E_FORBIDDEN, NULL);
    buf_free(&raw);
    return v;
}

static enum verdict on_answer(struct task *t, enum wake wake)
{
    const struct stanza *s = &t->stanza;
    struct buf requester = {0}, id = {0}, out = {0};
    (void)wake;
    if ((s->type != STANZA_RESULT && s->type != STANZA_ERROR) || s->to.resource_n > 0 ||
        !asked_take(t->core, t->target, jid_full(&s->from), s->id, &requester, &id))
        return PASS;
    buf_add_lit(&out, "<iq type='result'");
    xml_add_attr(&out, "from", t->target);
    xml_add_attr(&out, "to", buf_span(&requester));
    xml_add_attr(&out, "id", buf_span(&id));
    buf_add_lit(&out, "><privilege xmlns='" NS_PRIVILEGE "'><forwarded xmlns='" NS_FORWARD
                      "'><iq xmlns='" NS_CLIENT "'");
    buf_add_span(&out, span_sub(s->raw, sizeof "<iq" - 1, SIZE_MAX));
    buf_add_lit(&out, "</forwarded></privilege></iq>");
    route_raw(t->core, buf_span(&out), NULL);
    buf_free(&requester);
    buf_free(&id);
    buf_free(&out);
    return DONE;
}

const struct feature feature_privilege = {
    .name = "privilege",
    .xeps = {"0356 0.4.1"},
    .enabled = enabled,
    .iqs = {{STANZA_GET, IQ_TO_OTHER, NS_ROSTER, "query", on_roster, STRANGERS_ASK},
            {STANZA_SET, IQ_TO_OTHER, NS_ROSTER, "query", on_roster, STRANGERS_ASK},
            {STANZA_GET, IQ_TO_OTHER, NS_PRIVILEGE, "privileged_iq", on_request, STRANGERS_ASK},
            {STANZA_SET, IQ_TO_OTHER, NS_PRIVILEGE, "privileged_iq", on_request, STRANGERS_ASK}},
    .hooks = {{PHASE_COPY, ON_PRESENCE | ON_RECEIVED, on_contact_presence},
              {PHASE_DELIVER, ON_IQ | ON_RECEIVED, on_answer}},
    .events = {{EV_SESSION_AVAILABLE, on_available},
               {EV_SESSION_UNAVAILABLE, on_unavailable},
               {EV_COMPONENT_HERE, on_component},
               {EV_ROSTER_CHANGED, on_roster_changed}},
};
