/* Groups of contacts + 1 people, each subscribed to all others of the group (made in a first run: every
 * client asks those with higher numbers, who ask back). Then `window` tokens go round in each group: who gets
 * a presence with a number from the one before sends the next. What counts is each presence delivered to a
 * contact.
 *
 * The status is "NUMBER TIME" with the sender's own numbers, and each client checks that each contact's
 * numbers come without gap. */
#include <stdlib.h>

#include "bench/load/scenarios/all.h"
#include "common/base/clock.h"
#include "common/stanza/ns.h"

struct friend
{
    uint64_t sent;
    uint64_t *expected; /* per member of the group */
    unsigned mutual;    /* contacts with a subscription both ways */
};

static struct friend *friends;
static unsigned group;
static bool stopped;

static unsigned multiple(const struct args *a)
{
    return a->contacts + 1;
}

static struct friend *friend_of(struct client *c)
{
    if (friends == NULL) {
        group = c->bench->args.contacts + 1;
        friends = xcalloc(c->bench->args.clients, sizeof friends[0]);
        for (unsigned i = 0; i < c->bench->args.clients; i++)
            friends[i].expected = xcalloc(group, sizeof(uint64_t));
    }
    return &friends[c->number];
}

static void online(struct client *c)
{
    friend_of(c);
    buf_add_lit(client_out(c), "<iq type='get' id='roster'><query xmlns='" NS_ROSTER "'/></iq><presence/>");
    client_send(c);
}

static void subscription(struct client *c, unsigned to, const char *type)
{
    buf_addf(client_out(c), "<presence type='%s' to='", type);
    client_add_bare(client_out(c), c->bench, to);
    buf_add_lit(client_out(c), "'/>");
    client_send(c);
}

static unsigned count(struct span text, const char *what)
{
    unsigned n = 0;
    for (const char *p = text.p; (p = memmem(p, (size_t)(text.p + text.n - p), what, strlen(what))) != NULL;
         p++)
        n++;
    return n;
}

static unsigned mutual_in(struct span raw)
{
    return count(raw, "subscription='both'") + count(raw, "subscription=\"both\"");
}

/* Looks at all rosters again until they are complete. */
static bool ready(struct bench *b)
{
    unsigned missing = 0;
    static unsigned turns;
    turns++;
    for (unsigned i = 0; i < b->args.clients; i++) {
        struct client *c = &b->clients[i];
        if (c->state != CLIENT_ONLINE || friends[i].mutual >= b->args.contacts)
            continue;
        missing++;
        if (turns == 1)
            for (unsigned other = i + 1; other < (i / group + 1) * group; other++)
                subscription(c, other, "subscribe");
        else if (turns % 10 == 0)
            buf_add_lit(client_out(c), "<iq type='get' id='roster'><query xmlns='" NS_ROSTER "'/></iq>");
        client_send(c);
    }
    return missing == 0 || turns > 600;
}

static void announce(struct client *c)
{
    struct friend *f = friend_of(c);
    if (c->state != CLIENT_ONLINE)
        return;
    buf_addf(client_out(c), "<presence><status>%llu %llu</status></presence>", (unsigned long long)f->sent++,
             (unsigned long long)clock_mono_ns());
    client_send(c);
}

static void start(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        if (i % group < b->args.window)
            announce(&b->clients[i]);
}

static void take(struct client *c, unsigned from, struct span raw)
{
    char *end;
    const char *status = memmem(raw.p, raw.n, "<status>", 8);
    if (status == NULL || from == c->number || from / group != c->number / group)
        return;
    uint64_t number = strtoull(status + 8, &end, 10);
    uint64_t sent_ns = strtoull(end, &end, 10);
    uint64_t *expected = &friend_of(c)->expected[from % group];
    if (number < *expected)
        c->bench->duplicated++;
    else
        c->bench->lost += number - *expected;
    *expected = MAX(*expected, number + 1);
    bench_done(c->bench, sent_ns);
    if (!stopped && (from + 1) % group == c->number % group)
        announce(c);
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    unsigned from;
    if (span_is(e->name, "iq")) {
        if (span_is(xml_element_attr(e, "id"), "roster"))
            friend_of(c)->mutual = mutual_in(raw);
        return;
    }
    if (!span_is(e->name, "presence") || !client_parse_jid(c->bench, xml_element_attr(e, "from"), &from))
        return;
    if (span_is(xml_element_attr(e, "type"), "subscribe")) {
        subscription(c, from, "subscribed");
        if (from < c->number)
            subscription(c, from, "subscribe");
    } else if (c->bench->phase > PHASE_READY) {
        take(c, from, raw);
    }
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
}

static void finish(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        for (unsigned k = 0; k < group; k++) {
            unsigned other = i / group * group + k;
            if (other != i)
                b->lost += friends[other].sent - friends[i].expected[k];
        }
    for (unsigned i = 0; i < b->args.clients; i++)
        free(friends[i].expected);
    free(friends);
}

const struct scenario scenario_presence = {.name = "presence",
                                           .what = "presence to contacts",
                                           .unit = "deliveries",
                                           .multiple = multiple,
                                           .online = online,
                                           .ready = ready,
                                           .start = start,
                                           .stanza = stanza,
                                           .stop = stop,
                                           .finish = finish};
