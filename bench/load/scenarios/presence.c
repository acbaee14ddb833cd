/* `window` tokens go round in each group of friends: who gets a presence with a number from the one before
 * sends the next. What counts is each presence delivered to a contact. The status is "NUMBER TIME" with the
 * sender's own numbers, and each client checks that each contact's numbers come without gap. */
#include <stdlib.h>

#include "bench/load/scenarios/friends.h"
#include "common/base/clock.h"

static uint64_t *sent;     /* per client */
static uint64_t *expected; /* per client and member of its group */
static unsigned group;
static bool stopped;

static void announce(struct client *c)
{
    if (c->state != CLIENT_ONLINE)
        return;
    buf_addf(client_out(c), "<presence><status>%llu %llu</status></presence>",
             (unsigned long long)sent[c->number]++, (unsigned long long)clock_mono_ns());
    client_send(c);
}

static void start(struct bench *b)
{
    group = b->args.contacts + 1;
    sent = xcalloc(b->args.clients, sizeof sent[0]);
    expected = xcalloc((size_t)b->args.clients * group, sizeof expected[0]);
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
    uint64_t *next = &expected[c->number * group + from % group];
    if (number < *next)
        c->bench->duplicated++;
    else
        c->bench->lost += number - *next;
    *next = MAX(*next, number + 1);
    bench_done(c->bench, sent_ns);
    if (!stopped && (from + 1) % group == c->number % group)
        announce(c);
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    unsigned from;
    if (!friends_stanza(c, e, raw) && sent != NULL && span_is(e->name, "presence") &&
        client_parse_jid(c->bench, xml_element_attr(e, "from"), &from))
        take(c, from, raw);
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
                b->lost += sent[other] - expected[i * group + k];
        }
    free(expected);
    free(sent);
}

const struct scenario scenario_presence = {.name = "presence",
                                           .what = "presence to contacts",
                                           .unit = "deliveries",
                                           .multiple = friends_multiple,
                                           .online = friends_online,
                                           .ready = friends_ready,
                                           .start = start,
                                           .stanza = stanza,
                                           .stop = stop,
                                           .finish = finish};
