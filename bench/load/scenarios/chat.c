/* Pairs that talk. Closed loop: `window` messages are under way per pair, and who receives one answers with
 * one. Offered rate: the even client of each pair writes to the odd one, in turn, at fixed times; a message
 * that leaves late counts from when it was due, so that a stalled server cannot hide (coordinated omission).
 * With --peer the odd client of each pair lives on another server. */
#include <stdlib.h>

#include "bench/load/numbers.h"
#include "bench/load/pace.h"
#include "bench/load/scenarios/all.h"
#include "common/base/clock.h"

struct talk {
    uint64_t sent; /* by this client */
    struct numbers had;
};

static struct talk *talks;
static unsigned active; /* clients that talk, from 0 */
static bool stopped;

static void say(struct client *c, uint64_t due_ns)
{
    if (c->state != CLIENT_ONLINE)
        return;
    message_add(client_out(c), c->bench, c->number ^ 1, false, talks[c->number].sent++, due_ns);
    client_send(c);
}

static void offer(struct bench *b, uint64_t k, uint64_t due_ns)
{
    say(&b->clients[k * 2 % active], due_ns);
}

static unsigned multiple(const struct args *a)
{
    (void)a;
    return 2;
}

static void start(struct bench *b)
{
    talks = xcalloc(b->args.clients, sizeof talks[0]);
    active = b->args.clients;
    if (b->args.active > 0)
        active = MIN((b->args.active + 1) / 2 * 2, active);
    if (b->args.rate > 0) {
        pace_start(b, offer);
        return;
    }
    for (unsigned i = 0; i < active; i += 2)
        for (unsigned w = 0; w < b->args.window; w++)
            say(&b->clients[i], clock_mono_ns());
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    uint64_t number, due_ns;
    if (!span_is(e->name, "message"))
        return;
    if (span_is(xml_element_attr(e, "type"), "error")) {
        bench_trouble(c->bench, c->number, "a message was answered with an error");
        return;
    }
    if (talks == NULL || !message_read(raw, &number, &due_ns))
        return;
    numbers_take(c->bench, &talks[c->number].had, number);
    bench_done(c->bench, due_ns);
    if (!stopped && c->bench->args.rate <= 0)
        say(c, clock_mono_ns());
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
    pace_stop();
}

static bool quiet(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        if (numbers_lost(&talks[i].had, talks[i ^ 1].sent) > 0)
            return false;
    return true;
}

static void finish(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        b->lost += numbers_lost(&talks[i].had, talks[i ^ 1].sent);
    free(talks);
}

const struct scenario scenario_chat = {.name = "chat",
                                       .what = "pairs that talk, with a window each or at an offered rate",
                                       .unit = "messages",
                                       .multiple = multiple,
                                       .start = start,
                                       .stanza = stanza,
                                       .stop = stop,
                                       .quiet = quiet,
                                       .finish = finish};
