/* Reconnect storms. Clients are pairs; the odd one of each loses its connection without a word, all at once,
 * again and again. While they are away each gets `window` messages from its partner; then all of them come
 * back, `parallel` at a time: with --resume by resuming the session (XEP-0198), else by a new login. When all
 * are back and have all messages, the next storm begins. What counts is each return, its latency from connect
 * to online. */
#include <stdlib.h>

#include "bench/load/numbers.h"
#include "bench/load/scenarios/all.h"
#include "common/base/clock.h"
#include "common/ring/ring.h"

#define AWAY_MS   200   /* from the cut to the messages, and from there to the return */
#define CHECK_MS  20    /* how often to look whether a storm is over */
#define STORM_MAX 60000 /* ms until a storm counts as stuck */

enum stage { CUT, WRITE, RETURN, WAIT };

static struct numbers *had;
static uint64_t written; /* to each */
static struct timer timer;
static struct bench *bench;
static enum stage stage;
static unsigned next, dialling;
static uint64_t since_ms;
static bool stopped;

static unsigned multiple(const struct args *a)
{
    (void)a;
    return 2;
}

static void dial_more(void)
{
    for (; next < bench->args.clients && dialling < bench->args.parallel; next += 2) {
        dialling++;
        if (!client_dial(&bench->clients[next])) {
            dialling--;
            bench->failed++;
            bench_trouble(bench, next, "no socket");
        }
    }
}

static bool over(void)
{
    if (dialling > 0 || next < bench->args.clients)
        return false;
    for (unsigned i = 1; i < bench->args.clients; i += 2)
        if (had[i].high < written || had[i].missing > 0)
            return false;
    return true;
}

static void begin_return(void)
{
    stage = WAIT;
    next = 1;
    dialling = 0;
    since_ms = clock_mono_ns() / 1000000;
    dial_more();
    ring_timer_set(bench->ring, &timer, CHECK_MS);
}

static void fire(struct timer *t, uint64_t now_ms)
{
    struct bench *b = bench;
    (void)now_ms;
    switch (stage) {
    case CUT:
        if (stopped)
            return;
        for (unsigned i = 1; i < b->args.clients; i += 2)
            client_cut(&b->clients[i]);
        stage = WRITE;
        ring_timer_set(b->ring, t, AWAY_MS);
        break;
    case WRITE:
        for (unsigned w = 0; w < b->args.window; w++, written++)
            for (unsigned i = 0; i < b->args.clients; i += 2) {
                message_add(client_out(&b->clients[i]), b, i + 1, false, written, clock_mono_ns());
                client_send(&b->clients[i]);
            }
        stage = RETURN;
        ring_timer_set(b->ring, t, AWAY_MS);
        break;
    case RETURN:
        begin_return();
        break;
    case WAIT:
        if (over() || clock_mono_ns() / 1000000 - since_ms > STORM_MAX)
            stage = CUT;
        ring_timer_set(b->ring, t, CHECK_MS);
    }
}

static void start(struct bench *b)
{
    bench = b;
    had = xcalloc(b->args.clients, sizeof had[0]);
    timer.fire = fire;
    ring_timer_set(b->ring, &timer, CHECK_MS);
}

static void online(struct client *c)
{
    if (!c->resumed) {
        buf_add_lit(client_out(c), "<presence/>");
        client_send(c);
    }
    if (had == NULL || bench == NULL)
        return;
    bench_done(bench, c->dialled_ns);
    dialling--;
    dial_more();
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    uint64_t number, due_ns;
    if (span_is(e->name, "message") && had != NULL && c->number % 2 == 1 &&
        message_read(raw, &number, &due_ns))
        numbers_take(c->bench, &had[c->number], number);
}

static void gone(struct client *c)
{
    (void)c;
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
}

/* The storm that is under way ends first. */
static bool quiet(struct bench *b)
{
    (void)b;
    return stage == CUT;
}

static void finish(struct bench *b)
{
    for (unsigned i = 1; i < b->args.clients; i += 2)
        b->lost += numbers_lost(&had[i], written);
    free(had);
}

const struct scenario scenario_reconnect = {.name = "reconnect",
                                            .what = "half of all connections break at once, and come back",
                                            .unit = "returns",
                                            .multiple = multiple,
                                            .online = online,
                                            .start = start,
                                            .stanza = stanza,
                                            .gone = gone,
                                            .stop = stop,
                                            .quiet = quiet,
                                            .finish = finish};
