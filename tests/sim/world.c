/* Time, chance, memory, the story, and a run from its seed to its verdict. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/arena.h"
#include "router/contacts.h"

struct world w;

struct event {
    uint64_t at_us, order;
    event_fn *fn;
    void *a;
    uint64_t b;
};

static struct event *heap;
static size_t heap_n, heap_cap;
static uint64_t heap_order;
static struct arena *memory;

/* ---- chance: this file's functions stand in for common/base/random.c ---- */

void random_bytes(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)out)[i] = (unsigned char)rng_next(&w.rng);
}

uint64_t random_u64(void)
{
    return rng_next(&w.rng) | 1;
}

void random_hex(char *out, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", (unsigned)(rng_next(&w.rng) & 255));
}

uint64_t sim_random(uint64_t below)
{
    return rng_below(&w.rng, below);
}

uint64_t sim_between(uint64_t from, uint64_t to)
{
    return from + rng_below(&w.rng, to - from + 1);
}

bool sim_chance(unsigned in_100)
{
    return rng_below(&w.rng, 100) < in_100;
}

/* ---- time ---- */

void *sim_alloc(size_t n)
{
    void *p = arena_alloc(memory, n);
    memset(p, 0, n);
    return p;
}

static bool before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_after(uint64_t delay_us, event_fn *fn, void *a, uint64_t b)
{
    if (heap_n == heap_cap) {
        heap_cap = MAX(heap_cap * 2, 256);
        heap = xrealloc(heap, heap_cap * sizeof *heap);
    }
    struct event e = {w.now_us + delay_us, heap_order++, fn, a, b};
    size_t i = heap_n++;
    for (; i > 0 && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static struct event pop(void)
{
    struct event top = heap[0], last = heap[--heap_n];
    size_t i = 0;
    while (2 * i + 1 < heap_n) {
        size_t child = 2 * i + 1;
        if (child + 1 < heap_n && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

void sim_run_until(uint64_t until_us)
{
    while (heap_n > 0 && heap[0].at_us <= until_us && !w.failed) {
        struct event e = pop();
        w.now_us = e.at_us;
        w.events++;
        e.fn(e.a, e.b);
    }
    w.now_us = MAX(w.now_us, until_us);
}

uint64_t sim_ms(void)
{
    return 1000 + w.now_us / MS;
}

uint64_t sim_wall_ms(void)
{
    return 1700000000000 + w.now_us / MS;
}

uint64_t node_wall_ms(const struct node *n)
{
    return (uint64_t)((int64_t)sim_wall_ms() + n->clock_ms);
}

/* ---- the story ---- */

void sim_say(const char *format, ...)
{
    if (!w.verbose)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%9.3f  ", (double)w.now_us / 1000.0);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

void sim_fail(const char *format, ...)
{
    if (w.failed)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(w.why, sizeof w.why, format, args);
    va_end(args);
    w.failed = true;
    sim_say("VIOLATION: %s", w.why);
}

const char *sim_user(int user)
{
    static const char *const names[USERS_MAX] = {"ann@a", "bob@a", "cid@a", "dee@a"};
    return names[user];
}

/* ---- a run ---- */

static void claimed(void *ctx, enum store_result result, const struct store_user *user)
{
    (void)ctx;
    (void)user;
    CHECK(result == STORE_OK);
}

static void applied(void *ctx, enum store_result result)
{
    (void)ctx;
    CHECK(result == STORE_OK);
}

/* Accounts, and rosters in which everybody's contacts see each other. */
static void make_accounts(void)
{
    struct store *s = store_mem_new(w.store);
    for (int u = 0; u < w.users; u++) {
        struct span bare = span_of(sim_user(u));
        struct store_claim claim = {0, 1, SPAN("setup")};
        struct store_batch batch = {0};
        store_mem_add_account(w.store, bare);
        s->face->claim(s, bare, &claim, claimed, NULL);
        for (int v = 0; v < w.users; v++)
            if (w.contact[u][v])
                store_put(&batch, STORE_ROSTER, span_of(sim_user(v)), SPAN("1 3 1 1"));
        s->face->apply(s, bare, &claim, &batch, applied, NULL);
        s->face->release(s, bare, &claim);
        store_mem_run(w.store, SIZE_MAX);
        store_batch_free(&batch);
    }
}

static void begin(uint64_t seed, bool verbose, bool frames)
{
    memset(&w, 0, sizeof w);
    heap_n = 0;
    heap_order = 0;
    memory = arena_new(64 << 10);
    w.seed = seed;
    w.verbose = verbose;
    w.frames = frames;
    rng_seed(&w.rng, seed);
    struct buf errors = {0};
    w.conf = conf_new();
    CHECK(conf_set(w.conf, "cluster.domains=a", &errors));
    w.conf->c2s_resume_timeout_s = RESUME_S;
    w.parser = xml_parser_new(NS_CLIENT);
    w.store = store_world_new();
    registry_reset();
    w.users = (int)sim_between(2, USERS_MAX);
    w.clients = (int)sim_between((uint64_t)w.users, MIN(CLIENTS_MAX, w.users + 2));
    for (int u = 0; u < w.users; u++)
        for (int v = 0; v < u; v++)
            w.contact[u][v] = w.contact[v][u] = sim_chance(75);
    make_accounts();
    for (int i = 0; i < NODES; i++) {
        struct node *n = &w.nodes[i];
        n->at = i;
        n->router = i < ROUTERS;
        snprintf(n->name, sizeof n->name, "%s-%d",
                 n->router      ? "router"
                 : i == GATEWAY ? "s2s"
                                : "c2s",
                 n->router || i == GATEWAY ? i % GATEWAY + 1 : i - ROUTERS + 1);
    }
    for (int i = 0; i < w.clients; i++) {
        struct client *c = &w.client[i];
        c->at = i;
        c->user = i % w.users;
        snprintf(c->resource, sizeof c->resource, "r%d", i);
        c->wants_sm = sim_chance(85);
        list_init(&c->unacked);
        list_init(&c->outbox);
    }
}

static void end(void)
{
    for (int i = 0; i < NODES; i++)
        node_free(&w.nodes[i]);
    gateway_free();
    for (size_t i = 0; i < heap_n; i++)
        heap[i].fn = NULL;
    store_world_free(w.store);
    xml_parser_free(w.parser);
    conf_free(w.conf);
    free(w.messages);
    arena_free(memory);
}

bool sim_run(uint64_t seed, bool verbose, bool frames)
{
    begin(seed, verbose, frames);
    sim_say("seed %llu: %d users, %d clients", (unsigned long long)seed, w.users, w.clients);
    for (int i = 0; i < NODES; i++)
        node_start(&w.nodes[i]);
    link_tick_start();
    sim_run_until(100 * MS);
    for (int i = 0; i < w.clients; i++)
        client_start(&w.client[i]);
    uint64_t active = sim_between(1000, 3000) * MS;
    fault_start(w.now_us + active);
    sim_run_until(w.now_us + active);
    fault_heal();
    /* A session that nobody asks for is unsynced for ten seconds and then detached. */
    sim_run_until(w.now_us + 15 * SECOND);
    for (int i = 0; i < w.clients && !w.failed; i++)
        client_ask(&w.client[i]);
    sim_run_until(w.now_us + 2 * SECOND);
    if (!w.failed)
        check_end();
    bool ok = !w.failed;
    char why[sizeof w.why];
    memcpy(why, w.why, sizeof why);
    end();
    memcpy(w.why, why, sizeof why);
    return ok;
}
