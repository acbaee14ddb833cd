/* `clients` clients log in, send presence, leave, and come again; the first time of each is warm-up, as it
 * stretches the password. Latency: from connect to online. */
#include "bench/load/scenarios/all.h"

static bool stopped;

static void dial(struct client *c)
{
    if (!client_dial(c)) {
        c->bench->failed++;
        bench_trouble(c->bench, c->number, "no socket");
    }
}

static void start(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        dial(&b->clients[i]);
}

static void online(struct client *c)
{
    bench_done(c->bench, c->dialled_ns);
    buf_add_lit(client_out(c), "<presence/>");
    client_leave(c);
}

static void gone(struct client *c)
{
    if (!stopped)
        dial(c);
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
}

const struct scenario scenario_logins = {.name = "logins",
                                         .what = "connect, secure, log in, bind, leave, again",
                                         .unit = "logins",
                                         .own_logins = true,
                                         .online = online,
                                         .start = start,
                                         .gone = gone,
                                         .stop = stop};
