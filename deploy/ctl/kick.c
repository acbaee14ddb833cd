/* kick, and what deluser and disable tell the home router of the user: a CONTROL frame over the bus
 * (router/control.c), name = "kick" or "forget", text = the bare or full JID. The REPLY has num 0 and
 * {"sessions_ended":N}, or num = an error. */
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
    const char *verb;
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
                           .name = span_of(k->verb),
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

/* Sends the request and waits for its answer; false with *why when none came. */
static bool control_ask(struct ctl *c, const struct member_node *router, struct control *k, struct buf *why)
{
    char name[32], *error = NULL;
    snprintf(name, sizeof(name), "ctl-%d", (int)getpid());
    struct bus_config config = {.name = name,
                                .incarnation = random_u64(),
                                .curve_secret_key = c->conf->bus_curve_secret_key,
                                .heartbeat_ms = (unsigned)c->conf->bus_heartbeat_ms};
    struct bus *bus = bus_new(c->ring, &config, &handler, k, &error);
    if (bus == NULL) {
        buf_add_str(why, error);
        free(error);
        return false;
    }
    bus_link(bus, router->name, router->incarnation, router->endpoint, true);
    if (!ctl_wait(c, &k->came))
        buf_addf(why, "%s at %s gives no answer", router->name, router->endpoint);
    bus_free(bus);
    return k->came;
}

/* The number behind "sessions_ended" in the answer. */
static unsigned sessions_ended(const struct buf *answer)
{
    static const char key[] = "\"sessions_ended\":";
    char *text = span_dup(buf_span(answer)), *at = strstr(text, key);
    unsigned long count = at != NULL ? strtoul(at + sizeof(key) - 1, NULL, 10) : 0;
    free(text);
    return (unsigned)count;
}

enum ctl_control_result ctl_control(struct ctl *c, const char *verb, const struct jid *jid, unsigned *ended,
                                    struct buf *why)
{
    struct control k = {.verb = verb, .jid = jid_full(jid), .slot = member_slot(jid_bare(jid))};
    struct ctl_nodes nodes;
    enum ctl_control_result result = CTL_CONTROL_AWAY;
    if (!ctl_nodes_get(c, &nodes)) {
        buf_add_lit(why, "Redis does not say which router that is");
    } else {
        const struct ctl_node *router = ctl_nodes_owner(&nodes, k.slot);
        k.epoch = nodes.epoch;
        if (router == NULL) {
            buf_add_lit(why, "no router is running");
            result = CTL_CONTROL_NO_ROUTER;
        } else if (control_ask(c, &router->node, &k, why)) {
            result = k.refused ? CTL_CONTROL_REFUSED : CTL_CONTROL_DONE;
            if (k.refused && k.answer.n == 0)
                buf_addf(why, "%s cannot do it now; try again", router->node.name);
            else if (k.refused)
                buf_add_span(why, buf_span(&k.answer));
            *ended = sessions_ended(&k.answer);
        }
    }
    ctl_nodes_free(&nodes);
    buf_free(&k.answer);
    return result;
}

int ctl_kick(struct ctl *c)
{
    struct buf store = {0}, why = {0};
    struct jid jid;
    const char *rule = NULL;
    unsigned ended = 0;
    int code = CTL_AWAY;
    if (!ctl_arguments(c, 1, 1))
        return CTL_USAGE;
    if (!jid_prepare(span_of(c->argv[0]), &store, &jid, &rule))
        return ctl_fail(c, CTL_REFUSED, "%s is not a JID: %s", c->argv[0], rule);
    struct span full = jid_full(&jid);
    if (ctl_connect(c)) {
        enum ctl_control_result result = ctl_control(c, "kick", &jid, &ended, &why);
        if (result != CTL_CONTROL_DONE)
            code = ctl_fail(c, result == CTL_CONTROL_REFUSED ? CTL_REFUSED : CTL_AWAY, "%.*s: %s",
                            SPAN_FMT(full), buf_cstr(&why));
        else if (ended == 0)
            code = ctl_fail(c, CTL_REFUSED, "%.*s has no session", SPAN_FMT(full));
        else
            code =
                ctl_done(c, "%.*s: %u %s ended", SPAN_FMT(full), ended, ended == 1 ? "session" : "sessions");
    }
    buf_free(&store);
    buf_free(&why);
    return code;
}
