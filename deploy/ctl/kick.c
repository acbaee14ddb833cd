/* kick: a CONTROL frame to the home router of the user, over the bus: name "kick", text the bare or full JID.
 * Its REPLY has num 0 and {"sessions":N} (how many were ended), or num = an error and text saying which. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/random.h"
#include "common/bus/bus.h"
#include "common/config/conf.h"
#include "common/jid/jid.h"
#include "common/wire/wire.h"
#include "deploy/ctl/ctl.h"
#include "deploy/ctl/nodes.h"

enum { REQUEST_NUMBER = 1 };

struct control {
    struct span jid;
    uint16_t slot;
    uint32_t epoch;
    bool came, refused;
    struct buf answer;
};

static void on_up(void *ctx, struct bus_peer *peer)
{
    struct control *k = ctx;
    struct wire_frame f = {.kind = WIRE_CONTROL,
                           .slot = k->slot,
                           .epoch = k->epoch,
                           .n = REQUEST_NUMBER,
                           .name = SPAN("kick"),
                           .text = k->jid};
    struct buf frame = {0};
    wire_add(&frame, &f);
    bus_send(peer, buf_span(&frame));
    buf_free(&frame);
}

static void on_frame(void *ctx, struct bus_peer *from, struct span frame)
{
    struct control *k = ctx;
    struct wire_frame f;
    (void)from;
    if (k->came || !wire_decode(frame, &f) || f.n != REQUEST_NUMBER)
        return;
    if (f.kind == WIRE_REPLY) {
        k->came = true;
        k->refused = f.num != 0;
        buf_add_span(&k->answer, f.text);
    } else if (f.kind == WIRE_NOT_MINE) {
        k->came = k->refused = true;
        buf_add_lit(&k->answer, "the cluster is just changing; try again");
    }
}

static void on_peer(void *ctx, struct bus_peer *peer)
{
    (void)ctx;
    (void)peer;
}

static void on_suspect(void *ctx, struct bus_peer *peer, bool certain)
{
    (void)ctx;
    (void)peer;
    (void)certain;
}

static const struct bus_handler handler = {
    .frame = on_frame, .up = on_up, .suspect = on_suspect, .gone = on_peer, .room = on_peer};

/* Sends the request and waits for its answer; false (said) when none came. */
static bool control_ask(struct ctl *c, const struct member_node *router, struct control *k)
{
    char name[32], *error = NULL;
    snprintf(name, sizeof(name), "ctl-%d", (int)getpid());
    struct bus_config config = {.name = name,
                                .incarnation = random_u64(),
                                .curve_secret_key = c->conf->bus_curve_secret_key,
                                .heartbeat_ms = (unsigned)c->conf->bus_heartbeat_ms};
    struct bus *bus = bus_new(c->ring, &config, &handler, k, &error);
    if (bus == NULL) {
        ctl_fail(c, CTL_AWAY, "%s", error);
        free(error);
        return false;
    }
    bus_link(bus, router->name, router->incarnation, router->endpoint, true);
    if (!ctl_wait(c, &k->came))
        ctl_fail(c, CTL_AWAY, "%s at %s gives no answer", router->name, router->endpoint);
    bus_free(bus);
    return k->came;
}

/* The number behind "sessions" in the answer, for people. */
static unsigned long sessions_count(const struct buf *answer)
{
    static const char key[] = "\"sessions\":";
    char *text = span_dup(buf_span(answer)), *at = strstr(text, key);
    unsigned long count = at != NULL ? strtoul(at + sizeof(key) - 1, NULL, 10) : 0;
    free(text);
    return count;
}

static int kick(struct ctl *c, struct control *k)
{
    struct ctl_nodes nodes;
    int code = CTL_AWAY;
    if (ctl_nodes_get(c, &nodes)) {
        const struct ctl_node *router = ctl_nodes_owner(&nodes, k->slot);
        k->epoch = nodes.epoch;
        if (router == NULL)
            code = ctl_fail(c, CTL_AWAY, "no router is running");
        else if (!control_ask(c, &router->node, k))
            code = CTL_AWAY;
        else if (k->refused)
            code = ctl_fail(c, CTL_REFUSED, "%.*s: %s", SPAN_FMT(k->jid), buf_cstr(&k->answer));
        else if (sessions_count(&k->answer) == 0)
            code = ctl_fail(c, CTL_REFUSED, "%.*s has no session", SPAN_FMT(k->jid));
        else
            code = ctl_done(c, "%.*s: %lu sessions ended", SPAN_FMT(k->jid), sessions_count(&k->answer));
    }
    ctl_nodes_free(&nodes);
    return code;
}

int ctl_kick(struct ctl *c)
{
    struct control k = {0};
    struct buf store = {0};
    struct jid jid;
    const char *why = NULL;
    int code = CTL_AWAY;
    if (!ctl_arguments(c, 1, 1))
        return CTL_USAGE;
    if (!jid_prepare(span_of(c->argv[0]), &store, &jid, &why))
        return ctl_fail(c, CTL_REFUSED, "%s is not a JID: %s", c->argv[0], why);
    k.jid = jid_full(&jid);
    k.slot = member_slot(jid_bare(&jid));
    if (ctl_connect(c))
        code = kick(c, &k);
    buf_free(&k.answer);
    buf_free(&store);
    return code;
}
