/* What clients do and what goes wrong while a run is active. Every seed has its own mix: often one kind of
 * fault alone, so that a finding is readable, sometimes all of them. */
#include "tests/sim/sim.h"

enum fault {
    FAULT_KILL_ROUTER,
    FAULT_KILL_MANAGER,
    FAULT_CUT_CLIENT,
    FAULT_ROAM,
    FAULT_CUT_LINK,
    FAULT_ISOLATE,
    FAULT_UNHEARD,
    FAULT_FREEZE,
    FAULT_REDIS_AWAY,
    FAULT_REDIS_GONE,
    FAULT_STORE_FULL,
    FAULT_LOGOUT,
    FAULT_SLOW_READER,
    FAULT_LEAVE,
    FAULT_CLOCK,
    FAULT_COUNT
};

static struct {
    uint64_t until_us;
    unsigned mask;
    uint64_t every_ms; /* between two faults, on average */
    uint64_t say_ms;
} plan;

static void start_again(void *a, uint64_t life)
{
    struct node *n = a;
    if (!n->up && life == n->life)
        node_start(n);
}

static void kill_node(struct node *n)
{
    if (!n->up)
        return;
    node_kill(n);
    sim_after(sim_chance(50) ? sim_between(5 * MS, 60 * MS) : sim_between(100 * MS, 2 * SECOND), start_again,
              n, n->life);
}

static struct node *any_router(void)
{
    return &w.nodes[sim_random(ROUTERS)];
}

static struct node *any_manager(void)
{
    return &w.nodes[ROUTERS + sim_random(MANAGERS)];
}

static void heal_link(void *a, uint64_t pair)
{
    (void)a;
    int x = (int)pair / NODES, y = (int)pair % NODES;
    if (w.cut[x][y]) {
        sim_say("link %s - %s is whole again", w.nodes[x].name, w.nodes[y].name);
        link_cut(x, y, false);
    }
}

static void cut_link(int x, int y, uint64_t for_us)
{
    if (x == y || w.cut[x][y])
        return;
    sim_say("link %s - %s is cut", w.nodes[x].name, w.nodes[y].name);
    link_cut(x, y, true);
    sim_after(for_us, heal_link, NULL, (uint64_t)(x * NODES + y));
}

static void heard_again(void *a, uint64_t life)
{
    struct node *n = a;
    (void)life;
    sim_say("%s is heard again", n->name);
    for (int i = 0; i < NODES; i++)
        link_cut_way(n->at, i, false);
    node_redis(n, true);
}

/* A cut in one direction: the others (and Redis) do not hear the node, it hears them. */
static void unheard(struct node *n, uint64_t for_us)
{
    sim_say("%s is not heard any more", n->name);
    for (int i = 0; i < NODES; i++)
        if (i != n->at)
            link_cut_way(n->at, i, true);
    node_redis(n, false);
    sim_after(for_us, heard_again, n, n->life);
}

static uint64_t how_long(void)
{
    return sim_chance(60) ? sim_between(5 * MS, 200 * MS) : sim_between(200 * MS, 2 * SECOND);
}

static void redis_back(void *a, uint64_t b)
{
    (void)b;
    node_redis(a, true);
}

static void redis_away(struct node *n, uint64_t for_us)
{
    node_redis(n, false);
    sim_after(for_us, redis_back, n, 0);
}

static void store_empties(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    sim_say("Redis has room again");
    store_mem_set_full(w.store, false);
}

static void flow_again(void *a, uint64_t life)
{
    struct node *n = a;
    if (n->up && n->life == life)
        manager_flow(n, false);
}

static void leave_now(void *a, uint64_t life)
{
    struct node *n = a;
    if (n->up && n->life == life)
        kill_node(n);
}

static void leave(void *a, uint64_t life)
{
    struct node *n = a;
    if (!n->up || n->life != life)
        return;
    sim_say("%s leaves", n->name);
    registry_leave(n);
    sim_after(sim_between(5 * MS, 50 * MS), leave_now, n, n->life);
}

static void drain(struct node *n)
{
    if (!n->up || n->leaving || !n->member.joined)
        return;
    sim_say("%s drains", n->name);
    n->leaving = true;
    registry_drain(n);
    sim_after(sim_between(50 * MS, 400 * MS), leave, n, n->life);
}

/* Sets the wall clock of a node's host: mostly a step of seconds, now and then one of an hour, to either
 * side. */
static void set_clock(struct node *n)
{
    int64_t by_ms = (int64_t)(sim_chance(70) ? sim_between(1, 5000) : sim_between(60000, 3600000));
    n->clock_ms = sim_chance(50) ? by_ms : -by_ms;
    sim_say("%s's clock is set %lld ms off", n->name, (long long)n->clock_ms);
}

static void fault(enum fault f)
{
    struct node *n;
    switch (f) {
    case FAULT_KILL_ROUTER:
        kill_node(any_router());
        break;
    case FAULT_KILL_MANAGER:
        kill_node(any_manager());
        break;
    case FAULT_CUT_CLIENT:
        client_cut(&w.client[sim_random((uint64_t)w.clients)]);
        break;
    case FAULT_ROAM:
        client_roam(&w.client[sim_random((uint64_t)w.clients)]);
        break;
    case FAULT_CUT_LINK:
        cut_link((int)sim_random(NODES), (int)sim_random(ROUTERS), how_long());
        break;
    case FAULT_ISOLATE:
        n = sim_chance(70) ? any_router() : any_manager();
        for (int i = 0; i < NODES; i++)
            if (n->router || i < ROUTERS)
                cut_link(n->at, i, sim_between(50 * MS, 1500 * MS));
        break;
    case FAULT_UNHEARD:
        unheard(sim_chance(50) ? any_router() : any_manager(),
                sim_chance(50) ? how_long() : sim_between(1 * SECOND, 4 * SECOND));
        break;
    case FAULT_FREEZE:
        n = sim_chance(70) ? any_router() : any_manager();
        n->frozen_until_us = MAX(n->frozen_until_us, w.now_us + how_long());
        sim_say("%s is stopped for %llu ms", n->name,
                (unsigned long long)(n->frozen_until_us - w.now_us) / MS);
        break;
    case FAULT_REDIS_AWAY:
        redis_away(any_router(), how_long());
        break;
    case FAULT_REDIS_GONE: {
        uint64_t for_us = how_long();
        for (int i = 0; i < NODES; i++)
            redis_away(&w.nodes[i], for_us + sim_random(20 * MS));
        break;
    }
    case FAULT_STORE_FULL:
        sim_say("Redis is full");
        store_mem_set_full(w.store, true);
        w.store_full_lately = true;
        sim_after(how_long(), store_empties, NULL, 0);
        break;
    case FAULT_LOGOUT:
        client_close(&w.client[sim_random((uint64_t)w.clients)]);
        break;
    case FAULT_SLOW_READER:
        n = any_manager();
        if (n->up) {
            manager_flow(n, true);
            sim_after(sim_between(5 * MS, 300 * MS), flow_again, n, n->life);
        }
        break;
    case FAULT_LEAVE:
        drain(any_router());
        break;
    case FAULT_CLOCK:
        set_clock(sim_chance(50) ? any_router() : any_manager());
        break;
    case FAULT_COUNT:
        break;
    }
}

static void next_fault(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    if (w.now_us >= plan.until_us || plan.mask == 0)
        return;
    unsigned f;
    do
        f = (unsigned)sim_random(FAULT_COUNT);
    while ((plan.mask & 1u << f) == 0);
    fault((enum fault)f);
    sim_after(sim_random(2 * plan.every_ms * MS), next_fault, NULL, 0);
}

static void next_word(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    if (w.now_us >= plan.until_us)
        return;
    struct client *c = &w.client[sim_random((uint64_t)w.clients)];
    unsigned burst = sim_chance(10) ? (unsigned)sim_between(2, 8) : 1;
    for (; burst > 0; burst--) {
        if (sim_chance(15)) {
            client_presence(c, sim_chance(80));
        } else if (sim_chance(15)) {
            int to = (int)sim_random((uint64_t)w.clients);
            client_send_message(c, w.client[to].user, to);
        } else {
            client_send_message(c, (int)sim_random((uint64_t)w.users), -1);
        }
    }
    sim_after(sim_random(2 * plan.say_ms * MS), next_word, NULL, 0);
}

static const char *const names[FAULT_COUNT] = {
    "kill-router", "kill-manager", "cut-client", "roam",   "cut-link",    "isolate", "unheard", "freeze",
    "redis-away",  "redis-gone",   "store-full", "logout", "slow-reader", "leave",   "clock"};
static unsigned spared;

bool fault_spare(const char *list)
{
    for (struct span rest = span_of(list); rest.n > 0;) {
        struct span name = span_cut(&rest, ',');
        unsigned f = 0;
        while (f < FAULT_COUNT && !span_is(name, names[f]))
            f++;
        if (f == FAULT_COUNT)
            return false;
        spared |= 1u << f;
    }
    return true;
}

void fault_start(uint64_t until_us)
{
    plan.until_us = until_us;
    plan.every_ms = sim_between(60, 600);
    plan.say_ms = sim_between(4, 40);
    uint64_t kind = sim_random(10);
    if (kind == 0)
        plan.mask = 0;
    else if (kind <= 4)
        plan.mask = 1u << sim_random(FAULT_COUNT);
    else if (kind <= 7)
        plan.mask = 1u << sim_random(FAULT_COUNT) | 1u << sim_random(FAULT_COUNT) |
                    1u << (sim_chance(50) ? FAULT_CUT_CLIENT : FAULT_ROAM);
    else
        plan.mask = (unsigned)sim_random(1u << FAULT_COUNT);
    plan.mask &= ~spared;
    w.publications_lost = sim_chance(30) ? (int)sim_random(60) : 0;
    w.slow_store = sim_chance(30) ? (int)sim_random(40) : 1;
    if ((spared & 1u << FAULT_CLOCK) == 0 && sim_chance(30))
        for (int i = 0; i < NODES; i++)
            set_clock(&w.nodes[i]);
    sim_say("faults %03x every %llu ms, words every %llu ms", plan.mask, (unsigned long long)plan.every_ms,
            (unsigned long long)plan.say_ms);
    sim_after(1, next_fault, NULL, 0);
    sim_after(1, next_word, NULL, 0);
}

void fault_heal(void)
{
    w.quiet = true;
    w.publications_lost = 0;
    w.slow_store = 0;
    sim_say("all heals");
    store_mem_set_full(w.store, false);
    for (int i = 0; i < NODES; i++) {
        struct node *n = &w.nodes[i];
        for (int j = 0; j < NODES; j++)
            link_cut(i, j, false);
        node_redis(n, true);
        node_start(n);
        if (!n->router && n->at != GATEWAY)
            manager_flow(n, false);
    }
}
