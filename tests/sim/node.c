/* Lives of processes: start, freeze, death; a router's surroundings. */
#include "tests/sim/sim.h"

#include "common/member/member.h"

struct node *node_by_name(const char *name)
{
    for (int i = 0; i < NODES; i++)
        if (strcmp(w.nodes[i].name, name) == 0)
            return &w.nodes[i];
    return NULL;
}

/* True when the process is stopped: the event comes again when it goes on. */
bool node_frozen(struct node *n, event_fn *fn, void *a, uint64_t b)
{
    if (w.now_us >= n->frozen_until_us)
        return false;
    sim_after(n->frozen_until_us - w.now_us, fn, a, b);
    return true;
}

/* ---- a router's outside ---- */

static bool send_bytes(void *ctx, const char *node, struct span encoded)
{
    struct node *n = ctx;
    return n->dead_core || link_send(n, node, encoded);
}

static bool send_frame(void *ctx, const char *node, const struct wire_frame *frame)
{
    struct buf b = {0};
    wire_add(&b, frame);
    bool ok = send_bytes(ctx, node, buf_span(&b));
    buf_free(&b);
    return ok;
}

static const char *owner(void *ctx, uint16_t slot)
{
    const struct member_node *node = node_owner(ctx, slot);
    return node != NULL ? node->name : NULL;
}

static const char *gateway(void *ctx, struct span domain, struct span sender)
{
    (void)ctx;
    (void)domain;
    (void)sender;
    return NULL;
}

static bool alive(void *ctx, const char *node, uint64_t incarnation)
{
    struct node *n = ctx;
    const struct member_node *m = member_core_find(&n->member, node);
    return m != NULL && (incarnation == 0 || m->incarnation == incarnation);
}

static void newer_epoch(void *ctx, uint32_t epoch)
{
    struct node *n = ctx;
    if (!n->dead_core && epoch > n->member.epoch)
        registry_refresh(n);
}

static uint64_t wall_ms(void *ctx)
{
    return node_wall_ms(ctx);
}

static uint64_t random_number(void *ctx)
{
    (void)ctx;
    return random_u64();
}

/* ---- a router's loop ---- */

static void serve(void *a, uint64_t life);

static void serve_soon(struct node *n)
{
    if (n->serve_set || store_mem_pending_view(n->view) == 0)
        return;
    n->serve_set = true;
    uint64_t delay =
        sim_chance((unsigned)w.slow_store) ? sim_between(5 * MS, 80 * MS) : sim_between(50, 2 * MS);
    sim_after(delay, serve, n, n->life);
}

static void serve(void *a, uint64_t life)
{
    struct node *n = a;
    if (!n->up || life != n->life || node_frozen(n, serve, a, life))
        return;
    n->serve_set = false;
    n->core->now_ms = sim_ms();
    store_mem_run_view(n->view, 1 + sim_random(store_mem_pending_view(n->view) + 1));
    serve_soon(n);
    node_turn_soon(n);
}

static void wake(void *a, uint64_t serial)
{
    struct node *n = a;
    if (n->up && serial == n->wakes)
        node_turn_soon(n);
}

static void turn(void *a, uint64_t life)
{
    struct node *n = a;
    if (!n->up || life != n->life || node_frozen(n, turn, a, life))
        return;
    n->turn_set = false;
    uint64_t now = sim_ms(), next = core_turn(n->core, now);
    serve_soon(n);
    n->wakes++;
    if (next != UINT64_MAX)
        sim_after(next > now ? (next - now) * MS : 200, wake, n, n->wakes);
}

void node_turn_soon(struct node *n)
{
    if (!n->router || n->turn_set)
        return;
    n->turn_set = true;
    sim_after(sim_random(300), turn, n, n->life);
}

void node_redis(struct node *n, bool reachable)
{
    if (n->redis_away == !reachable)
        return;
    n->redis_away = !reachable;
    if (!n->up)
        return;
    sim_say("%s %s Redis", n->name, reachable ? "reaches" : "cannot reach");
    if (!n->router)
        return;
    n->core->now_ms = sim_ms();
    if (reachable) {
        store_mem_set_weather(n->view, STORE_MEM_FAIR);
    } else { /* some of what was under way is done; nothing is answered */
        store_mem_set_weather(n->view, STORE_MEM_MUTE);
        size_t pending = store_mem_pending_view(n->view);
        store_mem_run_view(n->view, sim_random(pending + 1));
        store_mem_set_weather(n->view, STORE_MEM_AWAY);
        store_mem_run_view(n->view, SIZE_MAX);
    }
    core_store_state(n->core, reachable, sim_ms());
    serve_soon(n);
    node_turn_soon(n);
}

/* ---- life and death ---- */

void node_start(struct node *n)
{
    if (n->up)
        return;
    n->up = true;
    n->life++;
    n->leaving = false;
    n->incarnation = random_u64();
    n->frozen_until_us = 0;
    n->turn_set = n->serve_set = false;
    sim_say("%s starts", n->name);
    link_node_started(n);
    if (n->router) {
        struct outside out = {n,       send_frame, send_bytes,  owner,   member_slot,
                              gateway, alive,      newer_epoch, wall_ms, random_number};
        n->view = store_mem_new(w.store);
        n->core = core_new(&out, n->view, w.conf, n->name, n->incarnation);
        store_mem_set_weather(n->view, n->redis_away ? STORE_MEM_AWAY : STORE_MEM_FAIR);
        core_store_state(n->core, !n->redis_away, sim_ms());
    } else if (n->at == GATEWAY) {
        gateway_started(n);
    } else {
        manager_started(n);
    }
    registry_node_started(n);
}

static void take_core_apart(struct node *n)
{
    n->dead_core = true;
    core_lease(n->core, false, sim_ms());
    store_mem_set_weather(n->view, STORE_MEM_MUTE);
    store_mem_run_view(n->view, sim_random(store_mem_pending_view(n->view) + 1));
    store_mem_set_weather(n->view, STORE_MEM_AWAY);
    store_mem_run_view(n->view, SIZE_MAX);
    core_free(n->core);
    n->core = NULL;
    n->dead_core = false;
}

void node_kill(struct node *n)
{
    if (!n->up)
        return;
    sim_say("%s dies", n->name);
    n->up = false;
    n->life++;
    n->refuses = sim_chance(70);
    if (n->router)
        take_core_apart(n);
    else
        manager_died(n);
    link_node_died(n);
    member_core_fini(&n->member);
}

void node_free(struct node *n)
{
    if (n->up && n->router)
        take_core_apart(n);
    if (n->up)
        member_core_fini(&n->member);
    for (int i = 0; i < NODES; i++) {
        buf_free(&n->acks[i]);
        buf_free(&n->ack_names[i]);
    }
}

/* ---- what happens to a node ---- */

static void link_peers(struct node *n, const struct member_node *old, unsigned old_count)
{
    bool dial;
    for (unsigned i = 0; i < old_count; i++) {
        const struct member_node *now = member_core_find(&n->member, old[i].name);
        if (now != NULL && now->incarnation == old[i].incarnation)
            continue;
        struct endpoint *e = link_peer(n, old[i].name);
        if (e != NULL && e->incarnation == old[i].incarnation)
            link_drop(n, e->peer);
    }
    for (unsigned i = 0; i < n->member.count; i++) {
        const struct member_node *node = &n->member.nodes[i];
        if (member_core_linked(&n->member.self, node, &dial))
            link_want(n, node_by_name(node->name)->at, node->incarnation);
    }
}

void node_member_events(struct node *n, unsigned events, struct member_node *old, unsigned old_count)
{
    if ((events & MEMBER_CHANGED) != 0)
        link_peers(n, old, old_count);
    if ((events & MEMBER_LOST) != 0) {
        sim_say("%s loses its lease", n->name);
        if (n->router)
            core_lease(n->core, false, sim_ms());
        for (int i = 0; i < NODES && n->router; i++)
            link_drop(n, i);
        link_peers(n, NULL, 0);
    }
    if ((events & MEMBER_REPLACED) != 0)
        sim_fail("%s was replaced", n->name);
    if ((events & MEMBER_CHANGED) != 0) {
        sim_say("%s sees epoch %u", n->name, n->member.epoch);
        if (n->router)
            core_epoch(n->core, n->member.epoch, sim_ms());
        else if (n->at == GATEWAY)
            gateway_moves(n);
        else
            manager_epoch(n);
    }
    if (n->router && n->member.holds && !n->core->acting) /* the first time: ready */
        core_lease(n->core, true, sim_ms());
    node_turn_soon(n);
}

void node_frame(struct node *n, struct endpoint *from, struct span frame)
{
    if (n->router) {
        core_frame(n->core, w.nodes[from->peer].name, from->incarnation, frame, sim_ms());
        node_turn_soon(n);
    } else if (n->at == GATEWAY) {
        gateway_frame(n, frame);
    } else {
        manager_frame(n, from, frame);
    }
}

void node_peer_up(struct node *n, struct endpoint *e)
{
    (void)e;
    if (n->at == GATEWAY)
        gateway_moves(n);
    else if (!n->router)
        manager_peer_up(n);
}

void node_peer_gone(struct node *n, struct endpoint *e)
{
    sim_say("%s: link to %s gone", n->name, w.nodes[e->peer].name);
    if (n->router) {
        core_node_gone(n->core, w.nodes[e->peer].name, e->incarnation, sim_ms());
        node_turn_soon(n);
    } else if (n->at == GATEWAY) {
        gateway_peer_gone(n, e);
    } else {
        manager_peer_gone(n, e);
    }
}
