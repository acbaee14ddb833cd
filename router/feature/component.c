/* What the end of a component (XEP-0114, XEP-0225) means for users: whoever it has shown as available is so
 * no longer, and it cannot say so itself any more (RFC 2779 3.2.5; RFC 6121 §4.5.2 asks the same of a server
 * for its own users). Each contact that a user sees there is told as unavailable once; so is each address
 * there that one of the user's sessions has joined by directed presence (rooms of a gateway). */
#include <stdlib.h>

#include "router/contacts.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/readdress.h"

static const struct span none = {NULL, 0};

static bool at_domain(struct span address, struct span domain)
{
    struct jid jid;
    return jid_split(address, &jid) && span_eq(jid_domain(&jid), domain);
}

static void tell_contacts(struct user *u, struct span domain)
{
    struct contact *contact;
    size_t at = 0;
    while ((contact = map_next(&u->contacts, &at)) != NULL) {
        struct buf raw = {0};
        if (!(contact->state & CONTACT_TO) || !at_domain(span_of(contact->jid), domain))
            continue;
        presence_add(&raw, span_of(contact->jid), span_of(u->bare), none, "unavailable");
        deliver_to_available(u, buf_span(&raw), none);
        buf_free(&raw);
    }
}

/* The addresses at the domain that got directed presence of the session, taken out of its list. */
static size_t take_directed(struct session *s, struct span domain, char **taken)
{
    size_t count = 0, at = 0;
    char *key;
    while ((key = map_next(&s->directed, &at)) != NULL)
        if (at_domain(span_of(key), domain))
            taken[count++] = key;
    for (size_t i = 0; i < count; i++)
        map_del(&s->directed, span_of(taken[i]));
    if (count > 0)
        session_save(s);
    return count;
}

static void tell_directed(struct session *s, struct span domain)
{
    char **taken = xmalloc((s->directed.count + 1) * sizeof(char *));
    size_t count = take_directed(s, domain, taken);
    for (size_t i = 0; i < count; i++) {
        struct buf raw = {0};
        presence_add(&raw, span_of(taken[i]), span_of(s->full), none, "unavailable");
        deliver_to_session(s, buf_span(&raw));
        buf_free(&raw);
        free(taken[i]);
    }
    free(taken);
}

static void on_gone(struct user *u, struct session *none_given)
{
    struct span domain = u->core->components.subject;
    (void)none_given;
    tell_contacts(u, domain);
    LIST_EACH (it, &u->sessions)
        tell_directed(LIST_ENTRY(it, struct session, of_user), domain);
}

const struct feature feature_component = {
    .name = "component",
    .events = {{EV_COMPONENT_GONE, on_gone}},
};
