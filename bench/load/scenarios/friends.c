/* Every client asks those of its group with higher numbers, who agree and ask back. Once made, the rosters
 * tell in a second run that nothing is missing. */
#include "bench/load/scenarios/friends.h"

#include "common/stanza/ns.h"

static unsigned *mutual; /* per client: contacts with a subscription both ways */

unsigned friends_multiple(const struct args *a)
{
    return a->contacts + 1;
}

void friends_online(struct client *c)
{
    if (mutual == NULL)
        mutual = xcalloc(c->bench->args.clients, sizeof mutual[0]);
    buf_add_lit(client_out(c), "<iq type='get' id='friends'><query xmlns='" NS_ROSTER "'/></iq><presence/>");
    client_send(c);
}

static void subscription(struct client *c, unsigned to, const char *type)
{
    buf_addf(client_out(c), "<presence type='%s' to='", type);
    client_add_bare(client_out(c), c->bench, to);
    buf_add_lit(client_out(c), "'/>");
    client_send(c);
}

unsigned text_count(struct span text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text.p; (p = memmem(p, (size_t)(text.p + text.n - p), what, strlen(what))) != NULL;
         p++)
        n++;
    return n;
}

/* Looks at all rosters again until they are complete. */
bool friends_ready(struct bench *b)
{
    unsigned missing = 0, group = b->args.contacts + 1;
    static unsigned turns;
    turns++;
    for (unsigned i = 0; i < b->args.clients; i++) {
        struct client *c = &b->clients[i];
        if (c->state != CLIENT_ONLINE || mutual[i] >= b->args.contacts)
            continue;
        missing++;
        if (turns == 1)
            for (unsigned other = i + 1; other < (i / group + 1) * group; other++)
                subscription(c, other, "subscribe");
        else if (turns % 10 == 0)
            buf_add_lit(client_out(c), "<iq type='get' id='friends'><query xmlns='" NS_ROSTER "'/></iq>");
        client_send(c);
    }
    return missing == 0 || turns > 600;
}

bool friends_stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    unsigned from;
    if (span_is(e->name, "iq") && span_is(xml_element_attr(e, "id"), "friends")) {
        mutual[c->number] = text_count(raw, "subscription='both'") + text_count(raw, "subscription=\"both\"");
        return true;
    }
    if (!span_is(e->name, "presence") || !span_is(xml_element_attr(e, "type"), "subscribe") ||
        !client_parse_jid(c->bench, xml_element_attr(e, "from"), &from))
        return false;
    subscription(c, from, "subscribed");
    if (from < c->number)
        subscription(c, from, "subscribe");
    return true;
}
