/* Service discovery (XEP-0030) for a domain and for accounts. The features come from the tables of all
 * features that are switched on; nothing is listed by hand. */
#include "common/xml/tree.h"
#include "common/xml/writer.h"
#include "router/caps.h"
#include "router/contacts.h"
#include "router/feature.h"

/* True when the request is for a node; accounts have none, a domain has no items of one. */
static bool has_node(struct task *t)
{
    struct xml_node *query = task_payload(t);
    return query == NULL || xml_attr(query, "node").n > 0;
}

static void add_account_features(struct buf *out)
{
    for (unsigned i = 0; features[i] != NULL; i++) {
        const char *const *list = features[i]->disco_account;
        for (unsigned k = 0; feature_enabled(features[i]) && k < FEATURE_LIST_MAX && list[k] != NULL; k++) {
            buf_add_lit(out, "<feature");
            xml_add_attr(out, "var", span_of(list[k]));
            buf_add_lit(out, "/>");
        }
    }
}

static enum verdict answer(struct task *t, struct buf *out)
{
    task_result(t, buf_span(out));
    buf_free(out);
    return DONE;
}

static enum verdict on_host_info(struct task *t, enum wake wake)
{
    (void)wake;
    struct xml_node *query = task_payload(t);
    struct span node = query != NULL ? xml_attr(query, "node") : (struct span){NULL, 0};
    if (query == NULL || (node.n > 0 && !caps_is_server_node(node)))
        return task_refuse(t, STANZA_E_ITEM_NOT_FOUND, NULL);
    struct buf out = {0};
    buf_add_lit(&out, "<query xmlns='" NS_DISCO_INFO "'");
    if (node.n > 0) /* by the hash in the stream features */
        xml_add_attr(&out, "node", node);
    buf_add_char(&out, '>');
    caps_add_server(&out);
    buf_add_lit(&out, "</query>");
    return answer(t, &out);
}

static enum verdict on_host_items(struct task *t, enum wake wake)
{
    (void)wake;
    if (has_node(t))
        return task_refuse(t, STANZA_E_ITEM_NOT_FOUND, NULL);
    /* The components of this cluster (s2s.components: DOMAIN=SECRET) that are connected, as subdomains of the
     * domain that is asked. */
    const struct conf_list *components = &t->core->conf->s2s_components;
    struct span host = jid_domain(&t->stanza.to);
    struct buf out = {0};
    buf_add_lit(&out, "<query xmlns='" NS_DISCO_ITEMS "'>");
    for (unsigned i = 0; i < components->count; i++) {
        struct span item = span_of(components->items[i]);
        struct span domain = span_sub(item, 0, span_index(item, '='));
        bool below = domain.n > host.n && domain.p[domain.n - host.n - 1] == '.' &&
                     span_eq(span_sub(domain, domain.n - host.n, host.n), host);
        if (!below || !components_here(t->core, domain))
            continue;
        buf_add_lit(&out, "<item");
        xml_add_attr(&out, "jid", domain);
        buf_add_lit(&out, "/>");
    }
    buf_add_lit(&out, "</query>");
    return answer(t, &out);
}

static enum verdict on_account_info(struct task *t, enum wake wake)
{
    (void)wake;
    if (has_node(t))
        return task_refuse(t, STANZA_E_ITEM_NOT_FOUND, NULL);
    struct buf out = {0};
    buf_add_lit(&out, "<query xmlns='" NS_DISCO_INFO "'><identity category='account' type='registered'/>");
    add_account_features(&out);
    buf_add_lit(&out, "</query>");
    return answer(t, &out);
}

/* §8: an empty list for who may not see the presence, and of an account that does not exist. */
static enum verdict on_account_items(struct task *t, enum wake wake)
{
    (void)wake;
    struct user *u = t->user;
    bool sees = u->exists && contacts_may_see(u, jid_bare(&t->stanza.from));
    if (has_node(t))
        return task_refuse(t, sees ? STANZA_E_ITEM_NOT_FOUND : STANZA_E_SERVICE_UNAVAILABLE, NULL);
    struct buf out = {0};
    buf_add_lit(&out, "<query xmlns='" NS_DISCO_ITEMS "'>");
    LIST_EACH (it, &u->sessions) {
        const struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (!sees || !s->available)
            continue;
        buf_add_lit(&out, "<item");
        xml_add_attr(&out, "jid", span_of(s->full));
        buf_add_lit(&out, "/>");
    }
    buf_add_lit(&out, "</query>");
    return answer(t, &out);
}

const struct feature feature_disco = {
    .name = "disco",
    .xeps = {"0030 2.5.0", "0115 1.6.0"},
    .disco_host = {NS_DISCO_INFO, NS_DISCO_ITEMS, NS_CAPS},
    .disco_account = {NS_DISCO_INFO, NS_DISCO_ITEMS},
    .iqs = {{STANZA_GET, IQ_TO_HOST, NS_DISCO_INFO, "query", on_host_info},
            {STANZA_GET, IQ_TO_HOST, NS_DISCO_ITEMS, "query", on_host_items},
            {STANZA_GET, IQ_TO_ACCOUNT, NS_DISCO_INFO, "query", on_account_info},
            {STANZA_GET, IQ_TO_ACCOUNT, NS_DISCO_ITEMS, "query", on_account_items},
            {STANZA_GET, IQ_TO_OTHER, NS_DISCO_INFO, "query", on_account_info},
            {STANZA_GET, IQ_TO_OTHER, NS_DISCO_ITEMS, "query", on_account_items, STRANGERS_ASK}},
};
