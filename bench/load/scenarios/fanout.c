/* One writes to many, as a group chat's service does: in each group of 1 + `contacts` clients the first one
 * sends the same text to each of the others, and again when all have it (or at --rate texts a second in all).
 *
 * `resources` is the same with one account behind all receivers of a group, each with a resource of its own:
 * one headline to the bare JID must reach each of them (RFC 6121 §8.5.2.1.1). What counts is each message
 * received. */
#include <stdlib.h>

#include "bench/load/numbers.h"
#include "bench/load/pace.h"
#include "bench/load/scenarios/friends.h"
#include "common/base/clock.h"

struct group {
    uint64_t sent;
    unsigned waits; /* receivers who lack something that is under way, closed loop */
};

static struct group *groups;
static struct numbers *had; /* per client */
static unsigned size;
static bool stopped;

/* The first of each group has an account of its own, the others share the next. */
static void shared(const struct args *a, unsigned number, unsigned *account, unsigned *resource)
{
    unsigned member = number % (a->contacts + 1);
    *account = number / (a->contacts + 1) * 2 + (member > 0);
    *resource = member;
}

static void say(struct bench *b, unsigned g, uint64_t due_ns)
{
    struct client *c = &b->clients[g * size];
    if (c->state != CLIENT_ONLINE)
        return;
    if (b->scenario == &scenario_resources)
        message_add(client_out(c), b, c->number + 1, true, groups[g].sent, due_ns);
    else
        for (unsigned k = 1; k < size; k++)
            message_add(client_out(c), b, c->number + k, false, groups[g].sent, due_ns);
    groups[g].sent++;
    groups[g].waits += size - 1;
    client_send(c);
}

static void offer(struct bench *b, uint64_t k, uint64_t due_ns)
{
    say(b, (unsigned)(k % (b->args.clients / size)), due_ns);
}

static void start(struct bench *b)
{
    size = b->args.contacts + 1;
    groups = xcalloc(b->args.clients / size, sizeof groups[0]);
    had = xcalloc(b->args.clients, sizeof had[0]);
    if (b->args.rate > 0)
        pace_start(b, offer);
    else
        for (unsigned g = 0; g < b->args.clients / size; g++)
            for (unsigned w = 0; w < b->args.window; w++)
                say(b, g, clock_mono_ns());
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    struct bench *b = c->bench;
    uint64_t number, due_ns;
    if (had == NULL || !span_is(e->name, "message") || c->number % size == 0 ||
        !message_read(raw, &number, &due_ns))
        return;
    numbers_take(b, &had[c->number], number);
    bench_done(b, due_ns);
    struct group *g = &groups[c->number / size];
    if (g->waits > 0)
        g->waits--;
    if (!stopped && b->args.rate <= 0 && g->waits <= (b->args.window - 1) * (size - 1))
        say(b, c->number / size, clock_mono_ns());
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
    pace_stop();
}

static void finish(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        if (i % size > 0)
            b->lost += numbers_lost(&had[i], groups[i / size].sent);
    free(groups);
    free(had);
}

const struct scenario scenario_fanout = {.name = "fanout",
                                         .what = "one writes to --contacts others, as a group chat does",
                                         .unit = "deliveries",
                                         .multiple = friends_multiple,
                                         .start = start,
                                         .stanza = stanza,
                                         .stop = stop,
                                         .finish = finish};

const struct scenario scenario_resources = {.name = "resources",
                                            .what = "messages to users with --contacts resources each",
                                            .unit = "deliveries",
                                            .multiple = friends_multiple,
                                            .identity = shared,
                                            .start = start,
                                            .stanza = stanza,
                                            .stop = stop,
                                            .finish = finish};
