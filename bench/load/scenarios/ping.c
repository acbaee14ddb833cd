/* Each client keeps `window` pings to the server under way (XEP-0199). */
#include "bench/load/scenarios/all.h"
#include "common/base/clock.h"
#include "common/stanza/ns.h"

static bool stopped;
static uint64_t under_way;

static void ping(struct client *c)
{
    struct buf *out = client_out(c);
    buf_addf(out, "<iq type='get' id='%llu' to='%s'><ping xmlns='" NS_PING "'/></iq>",
             (unsigned long long)clock_mono_ns(), c->bench->args.domain);
    client_send(c);
    under_way++;
}

static void start(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        for (unsigned w = 0; w < b->args.window && b->clients[i].state == CLIENT_ONLINE; w++)
            ping(&b->clients[i]);
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    uint64_t sent_ns;
    (void)raw;
    if (!span_is(e->name, "iq") || !span_is(xml_element_attr(e, "type"), "result") ||
        !span_to_u64(xml_element_attr(e, "id"), UINT64_MAX, &sent_ns))
        return;
    under_way--;
    bench_done(c->bench, sent_ns);
    if (!stopped)
        ping(c);
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
}

static void finish(struct bench *b)
{
    b->lost = under_way;
}

const struct scenario scenario_ping = {.name = "ping",
                                       .what = "iq pings to the server",
                                       .unit = "pings",
                                       .start = start,
                                       .stanza = stanza,
                                       .stop = stop,
                                       .finish = finish};
