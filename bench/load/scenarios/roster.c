/* Roster storms. Before measuring, each client fills its roster with `contacts` items. Then `window` requests
 * a client are under way: `roster` asks for the whole roster, which must have all items; `roster-set` renames
 * one item, in turn, and the push that follows must have the new name. Requests are numbered, and answers and
 * pushes must come once each, in order. */
#include <stdlib.h>

#include "bench/load/numbers.h"
#include "bench/load/scenarios/friends.h"
#include "common/base/clock.h"
#include "common/stanza/ns.h"

struct keeper {
    unsigned filled, have;
    uint64_t asked;
    uint64_t *asked_ns; /* the last `window` of them, by number */
    struct numbers answers, pushes;
};

static struct keeper *keepers;
static bool running, stopped;

static void online(struct client *c)
{
    if (keepers == NULL)
        keepers = xcalloc(c->bench->args.clients, sizeof keepers[0]);
    buf_add_lit(client_out(c), "<iq type='get' id='have'><query xmlns='" NS_ROSTER "'/></iq><presence/>");
    client_send(c);
}

static void set(struct client *c, const char *id, uint64_t number, unsigned item)
{
    buf_addf(client_out(c),
             "<iq type='set' id='%s%llu'><query xmlns='" NS_ROSTER "'><item jid='contact%u@%s' name='n%llu'>"
             "<group>Friends</group></item></query></iq>",
             id, (unsigned long long)number, item, c->bench->args.domain, (unsigned long long)number);
    client_send(c);
}

/* Fills 32 items ahead of the answers; the roster of a run before may have them already. */
static bool ready(struct bench *b)
{
    unsigned missing = 0;
    for (unsigned i = 0; i < b->args.clients; i++) {
        struct keeper *k = &keepers[i];
        if (b->clients[i].state != CLIENT_ONLINE)
            continue;
        missing += k->have < b->args.contacts;
        for (; k->filled < b->args.contacts && k->filled < k->have + 32; k->filled++)
            set(&b->clients[i], "fill", k->filled, k->filled);
    }
    return missing == 0;
}

static void ask(struct client *c)
{
    struct keeper *k = &keepers[c->number];
    k->asked_ns[k->asked % c->bench->args.window] = clock_mono_ns();
    if (c->bench->scenario == &scenario_roster_set)
        set(c, "s", k->asked, (unsigned)(k->asked % c->bench->args.contacts));
    else
        buf_addf(client_out(c), "<iq type='get' id='s%llu'><query xmlns='" NS_ROSTER "'/></iq>",
                 (unsigned long long)k->asked);
    k->asked++;
    client_send(c);
}

static void start(struct bench *b)
{
    running = true;
    for (unsigned i = 0; i < b->args.clients; i++) {
        keepers[i].asked_ns = xcalloc(b->args.window, sizeof(uint64_t));
        for (unsigned w = 0; w < b->args.window && b->clients[i].state == CLIENT_ONLINE; w++)
            ask(&b->clients[i]);
    }
}

static void pushed(struct client *c, const struct xml_element *e, struct span raw)
{
    const char *name = memmem(raw.p, raw.n, "name='n", 7);
    if (name == NULL)
        name = memmem(raw.p, raw.n, "name=\"n", 7);
    if (running && name != NULL)
        numbers_take(c->bench, &keepers[c->number].pushes, strtoull(name + 7, NULL, 10));
    buf_addf(client_out(c), "<iq type='result' id='%.*s'/>", SPAN_FMT(xml_element_attr(e, "id")));
    client_send(c);
}

static void answered(struct client *c, uint64_t number, struct span raw)
{
    struct keeper *k = &keepers[c->number];
    struct bench *b = c->bench;
    if (b->scenario == &scenario_roster && text_count(raw, "<item ") < b->args.contacts) {
        b->failed++;
        bench_trouble(b, c->number, "a roster lacks items");
    }
    numbers_take(b, &k->answers, number);
    bench_done(b, k->asked_ns[number % b->args.window]);
    if (!stopped)
        ask(c);
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    struct keeper *k = &keepers[c->number];
    struct span id = xml_element_attr(e, "id"), type = xml_element_attr(e, "type");
    uint64_t number;
    if (!span_is(e->name, "iq"))
        return;
    if (span_is(type, "set")) {
        pushed(c, e, raw);
    } else if (span_is(id, "have")) {
        k->have = k->filled = text_count(raw, "<item ");
    } else if (!span_is(type, "result")) {
        c->bench->failed++;
        bench_trouble(c->bench, c->number, "a roster request was refused");
    } else if (id.n > 4 && memcmp(id.p, "fill", 4) == 0) {
        k->have++;
    } else if (id.n > 1 && span_to_u64(span_sub(id, 1, id.n), UINT64_MAX, &number)) {
        answered(c, number, raw);
    }
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
}

static void finish(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++) {
        struct keeper *k = &keepers[i];
        b->lost += numbers_lost(&k->answers, k->asked);
        if (b->scenario == &scenario_roster_set)
            b->lost += numbers_lost(&k->pushes, k->asked);
        free(k->asked_ns);
    }
    free(keepers);
}

const struct scenario scenario_roster = {.name = "roster",
                                         .what = "asks for rosters with --contacts items",
                                         .unit = "rosters",
                                         .online = online,
                                         .ready = ready,
                                         .start = start,
                                         .stanza = stanza,
                                         .stop = stop,
                                         .finish = finish};

const struct scenario scenario_roster_set = {.name = "roster-set",
                                             .what = "changes items of such rosters, and gets the pushes",
                                             .unit = "changes",
                                             .online = online,
                                             .ready = ready,
                                             .start = start,
                                             .stanza = stanza,
                                             .stop = stop,
                                             .finish = finish};
