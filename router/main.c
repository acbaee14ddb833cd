/* jackdaw-router: connects the core to the bus, Redis, the membership and the clock. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/random.h"
#include "common/bus/bus.h"
#include "common/log/log.h"
#include "common/member/member.h"
#include "common/proc/proc.h"
#include "common/ring/ring.h"
#include "common/stats/stats.h"
#include "router/caps.h"
#include "router/copies.h"
#include "router/core.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/inbox.h"
#include "router/pipeline.h"
#include "router/route.h"
#include "router/session.h"
#include "router/store/store_redis.h"

#define DRAIN_LOOK_MS 20
#define DRAIN_CALM_MS 100 /* with nothing to do, so that all others have seen the epoch without us */

_Static_assert(WIRE_MAX_BYTES == BUS_FRAME_MAX, "what the router may make, the bus takes");
_Static_assert(SLOT_COUNT == MEMBER_SLOTS, "the router and the membership count slots alike");

struct router {
    struct proc *proc;
    struct core *core;
    struct store *store;
    struct ring_hook turn;
    struct timer wake;
    struct timer drain;
    uint64_t drained_ms; /* since then there is nothing left to do */
};

static struct stat_gauge users = STAT_GAUGE("jackdaw_router_users", "Users in memory", NULL);
static struct stat_gauge sessions = STAT_GAUGE("jackdaw_router_sessions", "Sessions in memory", NULL);
static struct stat_gauge pending =
    STAT_GAUGE("jackdaw_router_pending", "Stanzas sent to other shards and servers, not confirmed yet", NULL);

static int64_t read_users(void *ctx)
{
    return (int64_t)((struct router *)ctx)->core->users.count;
}

static int64_t read_sessions(void *ctx)
{
    return (int64_t)((struct router *)ctx)->core->sessions.count;
}

static int64_t read_pending(void *ctx)
{
    return (int64_t)((struct router *)ctx)->core->pending.count;
}

/* ---- what the core needs from outside ---- */

static struct bus_peer *live_peer(struct router *r, const char *node)
{
    return bus_peer(proc_bus(r->proc), node);
}

static bool send_frame(void *ctx, const char *node, const struct wire_frame *frame)
{
    struct bus_peer *peer = live_peer(ctx, node);
    if (peer == NULL)
        return false;
    char *at = bus_reserve(peer, wire_size(frame));
    if (at == NULL)
        return false;
    bus_commit(peer, wire_encode(frame, at));
    return true;
}

static bool send_bytes(void *ctx, const char *node, struct span encoded)
{
    struct bus_peer *peer = live_peer(ctx, node);
    if (peer == NULL)
        return false;
    return bus_send(peer, encoded);
}

static const char *owner(void *ctx, uint16_t slot)
{
    struct router *r = ctx;
    const struct member_node *node = member_owner(proc_member(r->proc), slot);
    return node != NULL ? node->name : NULL;
}

/* One sender keeps one s2s process, so that its stanzas to a domain stay in order (RFC 6120 §10.1). */
static const char *gateway(void *ctx, struct span domain, struct span sender_bare)
{
    struct router *r = ctx;
    unsigned count;
    const struct member_node *nodes = member_nodes(proc_member(r->proc), &count), *best = NULL;
    uint64_t best_score = 0;
    (void)domain;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(nodes[i].role, "s2s") != 0 || nodes[i].draining)
            continue;
        uint64_t score = hash_stable(sender_bare, hash_stable(span_of(nodes[i].name), 0));
        if (best == NULL || score > best_score) {
            best = &nodes[i];
            best_score = score;
        }
    }
    return best != NULL ? best->name : NULL;
}

static bool alive(void *ctx, const char *node, uint64_t incarnation)
{
    struct router *r = ctx;
    const struct member_node *n = member_find(proc_member(r->proc), node);
    return n != NULL && (incarnation == 0 || n->incarnation == incarnation);
}

static void newer_epoch(void *ctx, uint32_t epoch)
{
    struct router *r = ctx;
    if (epoch > member_epoch(proc_member(r->proc)))
        member_refresh(proc_member(r->proc));
}

static uint64_t wall_ms(void *ctx)
{
    (void)ctx;
    return clock_wall_ms();
}

static uint64_t random_number(void *ctx)
{
    (void)ctx;
    return random_u64();
}

/* ---- the turn ---- */

static void wake_fire(struct timer *t, uint64_t now_ms)
{
    (void)t; /* the turn hook of this very turn does the work */
    (void)now_ms;
}

static void turn_run(struct ring_hook *hook)
{
    struct router *r = CONTAINER_OF(hook, struct router, turn);
    struct ring *ring = proc_ring(r->proc);
    uint64_t now = ring_now_ms(ring), next = core_turn(r->core, now);
    if (next != UINT64_MAX)
        ring_timer_set(ring, &r->wake, next > now ? next - now : 0);
}

/* ---- the role ---- */

static void *start(struct proc *p)
{
    struct router *r = xcalloc(1, sizeof *r);
    struct outside out = {.ctx = r,
                          .send = send_frame,
                          .send_bytes = send_bytes,
                          .owner = owner,
                          .slot = member_slot,
                          .gateway = gateway,
                          .alive = alive,
                          .newer_epoch = newer_epoch,
                          .wall_ms = wall_ms,
                          .random = random_number};
    r->proc = p;
    r->store = store_redis_new(proc_redis(p));
    r->core = core_new(&out, r->store, proc_conf(p), proc_name(p), proc_incarnation(p));
    r->turn.run = turn_run;
    r->wake.fire = wake_fire;
    ring_hook_add(proc_ring(p), &r->turn);
    users.read = read_users;
    sessions.read = read_sessions;
    pending.read = read_pending;
    users.ctx = sessions.ctx = pending.ctx = r;
    stat_register(&users.meta);
    stat_register(&sessions.meta);
    stat_register(&pending.meta);
    inbox_register_stats();
    pipeline_register_stats();
    route_register_stats();
    session_register_stats();
    sweep_register_stats();
    deliver_register_stats();
    copies_register_stats();
    return r;
}

static uint64_t now(const struct router *r)
{
    return ring_now_ms(proc_ring(r->proc));
}

static void ready(void *self)
{
    struct router *r = self;
    core_lease(r->core, true, now(r));
    log_info("router", "ready domains=%u slots are taken on demand",
             proc_conf(r->proc)->cluster_domains.count);
}

static void frame(void *self, struct bus_peer *from, struct span bytes)
{
    struct router *r = self;
    core_frame(r->core, bus_peer_name(from), bus_peer_incarnation(from), bytes, now(r));
}

/* What connection managers say of the server in their stream features. */
static void peer_up(void *self, struct bus_peer *peer)
{
    struct router *r = self;
    const struct member_node *node = member_find(proc_member(r->proc), bus_peer_name(peer));
    char ver[CAPS_VER_MAX];
    if (node != NULL && strcmp(node->role, "c2s") != 0)
        return;
    caps_server(ver);
    struct wire_frame f = {.kind = WIRE_CAPS,
                           .slot = 0xffff,
                           .epoch = member_epoch(proc_member(r->proc)),
                           .name = SPAN(CAPS_NODE),
                           .text = span_of(ver)};
    send_frame(r, bus_peer_name(peer), &f);
}

static void peer_gone(void *self, struct bus_peer *peer)
{
    struct router *r = self;
    core_node_gone(r->core, bus_peer_name(peer), bus_peer_incarnation(peer), now(r));
}

static void epoch(void *self)
{
    struct router *r = self;
    core_epoch(r->core, member_epoch(proc_member(r->proc)), now(r));
}

static void lease(void *self, bool held)
{
    struct router *r = self;
    core_lease(r->core, held, now(r));
}

static void redis_state(void *self, bool up)
{
    struct router *r = self;
    core_store_state(r->core, up, now(r));
}

/* ---- the end ---- */

/* True when nothing is left to do here: the users are the others' (or nobody is left to have them), what was
 * under way has been answered, and the others have got all that was said. */
static bool is_drained(const struct router *r)
{
    const struct member_node *self = member_find(proc_member(r->proc), proc_name(r->proc));
    if (self != NULL && !self->draining)
        return false; /* the epoch without us has not come */
    if (member_owner(proc_member(r->proc), 0) == NULL)
        return true;
    return r->core->users.count == 0 && r->core->pending.count == 0 && bus_is_idle(proc_bus(r->proc));
}

static void drain_fire(struct timer *t, uint64_t now_ms)
{
    struct router *r = CONTAINER_OF(t, struct router, drain);
    if (!is_drained(r))
        r->drained_ms = now_ms;
    if (now_ms - r->drained_ms >= DRAIN_CALM_MS)
        proc_drained(r->proc);
    else
        ring_timer_set(proc_ring(r->proc), t, DRAIN_LOOK_MS);
}

/* The membership has been asked for an epoch in which nothing is ours: with it core_epoch gives the users up,
 * and whoever still speaks to us learns by NOT_MINE and RETRY where they are. */
static void drain(void *self)
{
    struct router *r = self;
    r->drained_ms = now(r);
    r->drain.fire = drain_fire;
    ring_timer_set(proc_ring(r->proc), &r->drain, DRAIN_LOOK_MS);
}

static void stop(void *self)
{
    struct router *r = self;
    ring_timer_clear(proc_ring(r->proc), &r->drain);
    ring_hook_del(proc_ring(r->proc), &r->turn);
    ring_timer_clear(proc_ring(r->proc), &r->wake);
    core_free(r->core);
    store_redis_free(r->store);
    free(r);
}

static const struct proc_role role = {.role = "router",
                                      .start = start,
                                      .ready = ready,
                                      .frame = frame,
                                      .peer_up = peer_up,
                                      .peer_gone = peer_gone,
                                      .epoch = epoch,
                                      .lease = lease,
                                      .redis_state = redis_state,
                                      .drain = drain,
                                      .stop = stop};

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--show-pipeline") == 0) {
        struct conf *conf = conf_new();
        features_init(conf);
        feature_print_pipeline();
        conf_free(conf);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--specs") == 0) {
        feature_print_specs();
        return 0;
    }
    return proc_main(argc, argv, &role);
}
