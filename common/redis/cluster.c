/* A command is copied, and waits in the queue of its slot until it is its turn: one per slot is in flight, so
 * that what is sent again (the slot has moved, its master is gone, the cluster was down) comes before what
 * was asked for later. That is what the callers count on: a mailbox's ids must rise.
 *
 * An answer MOVED corrects the map and sends the command to the new place, ASK sends it there once. Other
 * answers that say "not now", and a lost connection, leave it at the head of its queue until the slot is
 * served again; after a lost connection only what may be done twice. When the head's deadline passes, the
 * whole queue fails, and what comes for that slot until its owners know of it: order again.
 *
 * The map comes from the scout (CLUSTER SLOTS): every few seconds, and quickly while something is not served.
 * "Up" is the cluster that serves all assigned slots, or has served some for a while; "down" the one in which
 * no master serves: it can't be reached, or says itself that the cluster is down. Who was told "no answer" by
 * a slot's trouble hears "up" again when all is well. */
#include "common/redis/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/redis/keys.h"
#include "common/redis/redis_stats.h"
#include "common/redis/scout.h"
#include "common/redis/slots.h"
#include "common/ring/ring.h"

enum {
    TICK_MS = 25,
    MAP_EVERY_MS = 5000,
    MAP_TROUBLE_MS = 200, /* while a slot is not served */
    RETRY_MS = 50,        /* after TRYAGAIN and the like */
    HOPS_MAX = 4,         /* redirections without a pause */
    UP_AGAIN_MS = 300,    /* between a failure and the word that all is well */
    PARTIAL_MS = 3000,    /* a part is served for so long: then that is what there is */
    NODE_KEEP_MS = 10000, /* a node that serves nothing is kept */
};

struct node {
    struct list link;
    struct cluster *c;
    struct redis_conn *conn;
    struct redis_address known, at; /* at: the attempt's */
    unsigned id;
    unsigned slots;
    uint64_t seen_ms; /* named by the map or by a redirection */
    uint64_t probed_ms;
    bool says_down; /* that the cluster is down, as far as it sees */
    bool probing;
    bool leaving;
};

struct op {
    struct list link; /* in its slot's queue, or in cluster.flying */
    unsigned slot;
    bool repeatable;
    bool kept;
    unsigned char hops;
    redis_fn *fn;
    void *ctx;
    struct cluster *c;
    uint64_t deadline_ms;
    unsigned argc;
    struct span argv[]; /* pointing behind the array */
};

struct slot {
    struct list queue;
    struct list held; /* in cluster.held while the queue cannot move */
    struct node *node;
    struct op *flying;
    uint64_t retry_at_ms;
    unsigned untold;
};

struct cluster {
    const struct redis_conn_setup *setup;
    const struct cluster_handler *handler;
    void *ctx;
    struct scout *scout;
    struct list nodes;
    struct list flying;
    struct list held;
    struct timer timer;
    unsigned last_id;
    unsigned conns;      /* and the scout, and who is at work here */
    unsigned any;        /* counter of cluster_any */
    uint64_t asked_ms;   /* the map, because of trouble */
    uint64_t failed_ms;  /* the last failure that "up" has to follow; 0 = none */
    uint64_t partial_ms; /* since then some slots are served, but not all; 0 = not so */
    bool mapped;
    bool up;
    bool dying;
    struct redis_address any_at;
    struct slot slots[REDIS_SLOTS];
};

static void pump(struct cluster *c, struct slot *s);
static void on_op(void *ctx, const struct redis_reply *reply);

static uint64_t now_of(const struct cluster *c)
{
    return ring_now_ms(c->setup->ring);
}

static void wake(struct cluster *c)
{
    if (!c->dying && !timer_is_set(&c->timer))
        ring_timer_set(c->setup->ring, &c->timer, TICK_MS);
}

/* ---- up and down */

static bool node_serves(const struct node *n)
{
    return n != NULL && redis_conn_is_up(n->conn) && !n->says_down;
}

static bool any_serves(const struct cluster *c)
{
    LIST_EACH (it, (struct list *)&c->nodes) {
        const struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->slots > 0 && node_serves(n))
            return true;
    }
    return false;
}

static bool is_whole(const struct cluster *c)
{
    if (!c->mapped)
        return false;
    LIST_EACH (it, (struct list *)&c->nodes) {
        const struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->slots > 0 && !node_serves(n))
            return false;
    }
    return any_serves(c);
}

static void up_set(struct cluster *c, bool up)
{
    c->up = up;
    /* Who failed just now will be told after this: another "up" has to follow. */
    if (up && now_of(c) - c->failed_ms >= UP_AGAIN_MS)
        c->failed_ms = 0;
    c->handler->state(c->ctx, up);
}

/* Looks what has become of the whole. */
static void consider(struct cluster *c)
{
    uint64_t now = now_of(c);
    bool whole = is_whole(c), any = whole || any_serves(c);
    c->partial_ms = !any || whole ? 0 : c->partial_ms == 0 ? now : c->partial_ms;
    if (c->dying)
        return;
    if (c->up && !any)
        up_set(c, false);
    else if (!c->up && (whole || (any && c->mapped && now - c->partial_ms >= PARTIAL_MS)))
        up_set(c, true);
    else if (c->up && whole && c->failed_ms != 0 && now - c->failed_ms >= UP_AGAIN_MS)
        up_set(c, true);
}

/* ---- nodes */

static const struct redis_address *on_next(void *ctx)
{
    struct node *n = ctx;
    redis_address_set(&n->at, span_of(n->known.host), span_of(n->known.port));
    return &n->at;
}

static void on_node_up(void *ctx)
{
    struct node *n = ctx;
    struct cluster *c = n->c;
    consider(c);
    LIST_EACH (it, &c->held) {
        struct slot *s = LIST_ENTRY(it, struct slot, held);
        if (s->node == n && !c->dying)
            pump(c, s);
    }
}

static void on_node_down(void *ctx)
{
    struct node *n = ctx;
    struct cluster *c = n->c;
    n->says_down = n->probing = false;
    consider(c);
    if (!c->dying)
        scout_ask(c->scout);
    wake(c);
}

static void on_probed(void *ctx, const struct redis_reply *reply);
static void on_node_lost(void *ctx, redis_fn *fn, void *fn_ctx);
static void on_node_gone(void *ctx);

static const struct redis_conn_handler node_handler = {
    .next = on_next, .up = on_node_up, .down = on_node_down, .lost = on_node_lost, .gone = on_node_gone};

/* The node at an address, made when it is new. */
static struct node *node_get(struct cluster *c, struct span host, struct span port)
{
    LIST_EACH (it, &c->nodes) {
        struct node *n = LIST_ENTRY(it, struct node, link);
        if (!n->leaving && redis_address_is(&n->known, host, port)) {
            n->seen_ms = now_of(c);
            return n;
        }
    }
    struct node *n = xcalloc(1, sizeof(*n));
    n->c = c;
    n->id = ++c->last_id;
    n->seen_ms = now_of(c);
    redis_address_set(&n->known, host, port);
    list_init(&n->link);
    list_add(&c->nodes, &n->link);
    n->conn = redis_conn_new(c->setup, REDIS_CONN_COMMANDS, &node_handler, n);
    c->conns++;
    scout_learn(c->scout, host, port);
    return n;
}

static void slot_give(struct slot *s, struct node *n)
{
    if (s->node == n)
        return;
    if (s->node != NULL)
        s->node->slots--;
    s->node = n;
    n->slots++;
}

/* Lets go of nodes that serve nothing any more. */
static void nodes_sweep(struct cluster *c)
{
    LIST_EACH (it, &c->nodes) {
        struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->slots > 0 || n->leaving || now_of(c) - n->seen_ms < NODE_KEEP_MS ||
            redis_conn_is_busy(n->conn))
            continue;
        n->leaving = true;
        redis_conn_free(n->conn);
    }
}

static void cluster_end(struct cluster *c)
{
    const struct cluster_handler *handler = c->handler;
    void *ctx = c->ctx;
    if (--c->conns > 0)
        return;
    redis_address_free(&c->any_at);
    free(c);
    handler->gone(ctx);
}

static void on_node_gone(void *ctx)
{
    struct node *n = ctx;
    struct cluster *c = n->c;
    list_del(&n->link);
    redis_address_free(&n->known);
    redis_address_free(&n->at);
    free(n);
    cluster_end(c);
}

/* ---- the map */

/* [[first, last, [host, port, ...], replicas...], ...]; a host that is not told is the one that was asked. */
static bool on_map(void *ctx, const struct redis_reply *reply, struct span host)
{
    struct cluster *c = ctx;
    if (reply->kind != REDIS_KIND_LIST || reply->count == 0 || c->dying)
        return false;
    for (size_t i = 0; i < reply->count; i++) {
        const struct redis_reply *range = &reply->items[i];
        if (range->kind != REDIS_KIND_LIST || range->count < 3 || range->items[2].kind != REDIS_KIND_LIST ||
            range->items[2].count < 2)
            return false;
        const struct redis_reply *at = range->items[2].items;
        char port[24];
        snprintf(port, sizeof(port), "%lld", (long long)at[1].number);
        bool told = at[0].kind == REDIS_KIND_TEXT && at[0].text.n > 0 && !span_is(at[0].text, "?");
        struct node *n = node_get(c, told ? at[0].text : host, span_of(port));
        int64_t first = MAX(range->items[0].number, 0), last = MIN(range->items[1].number, REDIS_SLOTS - 1);
        for (int64_t slot = first; slot <= last; slot++)
            slot_give(&c->slots[slot], n);
    }
    c->mapped = true;
    nodes_sweep(c);
    consider(c);
    LIST_EACH (it, &c->held) {
        if (!c->dying)
            pump(c, LIST_ENTRY(it, struct slot, held));
    }
    return true;
}

static void on_scout_gone(void *ctx)
{
    cluster_end(ctx);
}

static const struct scout_handler scout_events = {.answer = on_map, .gone = on_scout_gone};

/* ---- commands */

/* What may be done twice in a row as if it had been done once. */
static bool is_repeatable(unsigned argc, const struct span *argv)
{
    static const char *const commands[] = {"GET",  "HGET", "HGETALL", "HMGET", "EXISTS", "XRANGE", "SCAN",
                                           "TYPE", "HSET", "HDEL",    "DEL",   "XDEL",   "SET",    "XLEN"};
    static const char *const functions[] = {"jd_write",       "jd_keep",         "jd_claim",
                                            "jd_release",     "jd_present",      "jd_absent",
                                            "jd_member_list", "jd_member_renew", "jd_member_dead"};
    if (argc >= 2 && span_is(argv[0], "FCALL")) {
        for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
            if (span_is(argv[1], functions[i]))
                return true;
        }
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (span_is(argv[0], commands[i]))
            return true;
    }
    return false;
}

static struct op *op_new(struct cluster *c, unsigned slot, unsigned argc, const struct span *argv)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < argc; i++)
        bytes += argv[i].n;
    struct op *op = xmalloc(sizeof(*op) + argc * sizeof(struct span) + bytes);
    char *to = (char *)(op->argv + argc);
    *op = (struct op){.c = c,
                      .slot = slot,
                      .argc = argc,
                      .repeatable = is_repeatable(argc, argv),
                      .deadline_ms = now_of(c) + c->setup->timeout_ms};
    for (unsigned i = 0; i < argc; i++) {
        if (argv[i].n > 0)
            memcpy(to, argv[i].p, argv[i].n);
        op->argv[i] = span_make(to, argv[i].n);
        to += argv[i].n;
    }
    list_init(&op->link);
    return op;
}

/* A command that was in no slot's queue. */
static void fail_at_once(struct cluster *c, redis_fn *fn, void *ctx)
{
    c->failed_ms = now_of(c);
    wake(c);
    c->handler->failed(c->ctx, fn, ctx, -1);
}

static void op_fail(struct op *op)
{
    struct cluster *c = op->c;
    struct slot *s = &c->slots[op->slot];
    list_del(&op->link);
    s->untold++;
    c->failed_ms = now_of(c);
    wake(c);
    c->handler->failed(c->ctx, op->fn, op->ctx, (int)op->slot);
    free(op);
}

static void queue_fail(struct slot *s)
{
    struct list *it;
    list_del(&s->held);
    while ((it = list_pop(&s->queue)) != NULL)
        op_fail(LIST_ENTRY(it, struct op, link));
}

static void hold(struct cluster *c, struct slot *s)
{
    if (list_empty(&s->held))
        list_add(&c->held, &s->held);
    wake(c);
}

static void op_send(struct op *op, struct slot *s, struct node *n, bool asking)
{
    list_del(&op->link);
    list_add(&op->c->flying, &op->link);
    s->flying = op;
    if (asking)
        redis_conn_command(n->conn, false, 1, (struct span[]){SPAN("ASKING")}, NULL, NULL);
    redis_conn_command(n->conn, op->kept, op->argc, op->argv, on_op, op);
}

/* Sends the head of the queue when it may go. */
static void pump(struct cluster *c, struct slot *s)
{
    if (s->flying != NULL)
        return;
    if (list_empty(&s->queue)) {
        list_del(&s->held);
    } else if (!node_serves(s->node) || s->retry_at_ms > now_of(c)) {
        hold(c, s);
    } else {
        list_del(&s->held);
        op_send(LIST_ENTRY(s->queue.next, struct op, link), s, s->node, false);
    }
}

/* Back to the head of the queue. */
static void op_again(struct op *op, unsigned pause_ms)
{
    struct cluster *c = op->c;
    struct slot *s = &c->slots[op->slot];
    stat_add(&redis_stat_again, 1);
    s->flying = NULL;
    list_del(&op->link);
    list_push(&s->queue, &op->link);
    s->retry_at_ms = pause_ms > 0 ? now_of(c) + pause_ms : 0;
    hold(c, s);
}

static void on_node_lost(void *ctx, redis_fn *fn, void *fn_ctx)
{
    struct node *n = ctx;
    if (fn == on_probed)
        return;
    if (fn != on_op) {
        fail_at_once(n->c, fn, fn_ctx);
        return;
    }
    struct op *op = fn_ctx;
    if (op->repeatable) {
        op_again(op, 0);
    } else {
        n->c->slots[op->slot].flying = NULL;
        if (!list_empty(&n->c->slots[op->slot].queue))
            hold(n->c, &n->c->slots[op->slot]);
        op_fail(op);
    }
}

/* Takes "MOVED SLOT HOST:PORT" apart; the node, NULL when it is no such thing. */
static struct node *redirected(struct cluster *c, const struct redis_reply *reply, const struct node *from)
{
    struct span rest = reply->text;
    span_cut(&rest, ' ');
    span_cut(&rest, ' '); /* the slot is the one asked for */
    size_t colon = rest.n;
    while (colon > 0 && rest.p[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return NULL;
    struct span host = span_sub(rest, 0, colon - 1), port = span_sub(rest, colon, rest.n);
    if (host.n == 0 && from != NULL)
        host = span_of(from->known.host); /* "the same as mine" */
    return host.n > 0 && port.n > 0 ? node_get(c, host, port) : NULL;
}

static void node_says_down(struct cluster *c, struct node *n)
{
    if (n == NULL || n->says_down || !redis_conn_is_up(n->conn))
        return;
    n->says_down = true;
    n->probed_ms = now_of(c);
    log_error("redis", "%s:%s says that the cluster is down: look at CLUSTER NODES and at the masters",
              n->known.host, n->known.port);
    consider(c);
    wake(c);
}

static bool is_not_now(const struct redis_reply *reply)
{
    static const char *const codes[] = {"TRYAGAIN",   "CLUSTERDOWN", "LOADING", "READONLY",
                                        "MASTERDOWN", "NOREPLICAS",  "MISCONF", "BUSY"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (redis_error_is(reply, codes[i]))
            return true;
    }
    return false;
}

/* True when the answer is none for the caller: the command is sent again. */
static bool op_redirect(struct op *op, const struct redis_reply *reply)
{
    struct cluster *c = op->c;
    struct slot *s = &c->slots[op->slot];
    unsigned pause = op->hops++ < HOPS_MAX ? 0 : RETRY_MS;
    if (op->hops > HOPS_MAX)
        op->hops = 0;
    if (redis_error_is(reply, "MOVED")) {
        struct node *n = redirected(c, reply, s->node);
        stat_add(&redis_stat_moved, 1);
        if (n != NULL)
            slot_give(s, n);
        scout_ask(c->scout);
        op_again(op, pause);
        pump(c, s);
        return true;
    }
    if (redis_error_is(reply, "ASK")) {
        struct node *n = redirected(c, reply, s->node);
        stat_add(&redis_stat_moved, 1);
        if (node_serves(n))
            op_send(op, s, n, true);
        else
            op_again(op, RETRY_MS); /* to the old place, which sends us on once more */
        return true;
    }
    if (!is_not_now(reply))
        return false;
    op_again(op, RETRY_MS);
    if (redis_error_is(reply, "CLUSTERDOWN") && !span_is(reply->text, "CLUSTERDOWN Hash slot not served"))
        node_says_down(c, s->node);
    return true;
}

static void on_op(void *ctx, const struct redis_reply *reply)
{
    struct op *op = ctx;
    struct cluster *c = op->c;
    struct slot *s = &c->slots[op->slot];
    if (reply->kind == REDIS_KIND_ERROR && op_redirect(op, reply))
        return;
    list_del(&op->link);
    s->flying = NULL;
    pump(c, s);
    redis_fn *fn = op->fn;
    void *fn_ctx = op->ctx;
    free(op);
    if (fn != NULL)
        fn(fn_ctx, reply);
}

/* ---- time */

static void on_probed(void *ctx, const struct redis_reply *reply)
{
    struct node *n = ctx;
    n->probing = false;
    if (redis_error_is(reply, "CLUSTERDOWN"))
        return;
    n->says_down = false;
    on_node_up(n);
}

/* Asks nodes that say the cluster is down whether it still is. */
static void probe(struct cluster *c, uint64_t now)
{
    LIST_EACH (it, &c->nodes) {
        struct node *n = LIST_ENTRY(it, struct node, link);
        if (!n->says_down || n->probing || !redis_conn_is_up(n->conn) || now - n->probed_ms < MAP_TROUBLE_MS)
            continue;
        n->probed_ms = now;
        n->probing = true;
        redis_conn_command(n->conn, false, 2, (struct span[]){SPAN("EXISTS"), KEY_CLUSTER}, on_probed, n);
    }
}

static void tick(struct cluster *c, uint64_t now)
{
    LIST_EACH (it, &c->held) {
        struct slot *s = LIST_ENTRY(it, struct slot, held);
        if (LIST_ENTRY(s->queue.next, struct op, link)->deadline_ms <= now)
            queue_fail(s);
        else
            pump(c, s);
    }
    consider(c);
    if (c->dying)
        return;
    bool trouble = !is_whole(c) || !list_empty(&c->held);
    if (trouble && now - c->asked_ms >= MAP_TROUBLE_MS) {
        c->asked_ms = now;
        scout_ask_another(c->scout);
    }
    probe(c, now);
    if (trouble || c->failed_ms != 0)
        wake(c);
}

static void on_timer(struct timer *t, uint64_t now)
{
    struct cluster *c = CONTAINER_OF(t, struct cluster, timer);
    c->conns++; /* it may be freed inside */
    tick(c, now);
    cluster_end(c);
}

/* ---- the face */

struct cluster *cluster_new(const struct redis_conn_setup *setup, const struct cluster_handler *handler,
                            void *ctx)
{
    static const struct span question[] = {{"CLUSTER", 7}, {"SLOTS", 5}};
    struct cluster *c = xcalloc(1, sizeof(*c));
    c->setup = setup;
    c->handler = handler;
    c->ctx = ctx;
    c->timer.fire = on_timer;
    list_init(&c->nodes);
    list_init(&c->flying);
    list_init(&c->held);
    for (size_t i = 0; i < REDIS_SLOTS; i++) {
        list_init(&c->slots[i].queue);
        list_init(&c->slots[i].held);
    }
    c->scout = scout_new(setup, ARRAY_LEN(question), question, MAP_EVERY_MS, &scout_events, c);
    c->conns = 1;
    return c;
}

static void ops_free(struct list *ops)
{
    struct list *it;
    while ((it = list_pop(ops)) != NULL)
        free(LIST_ENTRY(it, struct op, link));
}

void cluster_free(struct cluster *c)
{
    c->dying = true;
    ring_timer_clear(c->setup->ring, &c->timer);
    LIST_EACH (it, &c->held)
        ops_free(&LIST_ENTRY(it, struct slot, held)->queue);
    for (size_t i = 0; i < REDIS_SLOTS; i++)
        ops_free(&c->slots[i].queue);
    c->conns++; /* ours, while all are being freed */
    scout_free(c->scout);
    LIST_EACH (it, &c->nodes) {
        struct node *n = LIST_ENTRY(it, struct node, link);
        if (!n->leaving) {
            n->leaving = true;
            redis_conn_free(n->conn);
        }
    }
    ops_free(&c->flying);
    cluster_end(c);
}

bool cluster_is_up(const struct cluster *c)
{
    return c->up && !c->dying;
}

const char *cluster_reason(const struct cluster *c)
{
    if (!c->mapped)
        return scout_reason(c->scout);
    LIST_EACH (it, (struct list *)&c->nodes) {
        const struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->slots > 0 && !node_serves(n))
            return n->says_down ? "a master says that the cluster is down" : redis_conn_reason(n->conn);
    }
    return "";
}

static struct node *node_find(struct cluster *c, unsigned id)
{
    LIST_EACH (it, &c->nodes) {
        struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->id == id)
            return n;
    }
    return NULL;
}

void cluster_node_command(struct cluster *c, unsigned node, unsigned argc, const struct span *argv,
                          redis_fn *fn, void *ctx)
{
    struct node *n = node_find(c, node);
    if (node_serves(n))
        redis_conn_command(n->conn, false, argc, argv, fn, ctx);
    else
        fail_at_once(c, fn, ctx);
}

unsigned cluster_node_next(const struct cluster *c, unsigned after)
{
    LIST_EACH (it, (struct list *)&c->nodes) { /* in the order of their ids */
        const struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->id > after && n->slots > 0)
            return n->id;
    }
    return 0;
}

static void keyless(struct cluster *c, unsigned argc, const struct span *argv, redis_fn *fn, void *ctx)
{
    LIST_EACH (it, &c->nodes) {
        struct node *n = LIST_ENTRY(it, struct node, link);
        if (n->slots > 0 && node_serves(n)) {
            redis_conn_command(n->conn, false, argc, argv, fn, ctx);
            return;
        }
    }
    fail_at_once(c, fn, ctx);
}

void cluster_command(struct cluster *c, struct span key, bool kept, unsigned argc, const struct span *argv,
                     redis_fn *fn, void *ctx)
{
    if (!c->up) {
        fail_at_once(c, fn, ctx);
        return;
    }
    if (key.n == 0) {
        keyless(c, argc, argv, fn, ctx);
        return;
    }
    unsigned number = redis_slot(key);
    struct slot *s = &c->slots[number];
    struct op *op = op_new(c, number, argc, argv);
    op->fn = fn;
    op->ctx = ctx;
    op->kept = kept;
    list_add(&s->queue, &op->link);
    if (s->untold > 0)
        queue_fail(s);
    else
        pump(c, s);
}

void cluster_told(struct cluster *c, int slot)
{
    if (slot >= 0)
        c->slots[slot].untold--;
}

static void ops_forget(struct list *ops, const void *ctx)
{
    LIST_EACH (it, ops) {
        struct op *op = LIST_ENTRY(it, struct op, link);
        if (op->ctx == ctx)
            op->fn = NULL;
    }
}

void cluster_forget(struct cluster *c, void *ctx)
{
    ops_forget(&c->flying, ctx);
    for (size_t i = 0; i < REDIS_SLOTS; i++)
        ops_forget(&c->slots[i].queue, ctx);
    LIST_EACH (it, &c->nodes)
        redis_conn_forget(LIST_ENTRY(it, struct node, link)->conn, ctx);
}

const struct redis_address *cluster_any(struct cluster *c)
{
    unsigned count = 0, at = 0;
    LIST_EACH (it, &c->nodes)
        count++;
    if (count == 0)
        return NULL;
    unsigned pick = c->any++ % count;
    LIST_EACH (it, &c->nodes) {
        const struct node *n = LIST_ENTRY(it, struct node, link);
        if (at++ == pick)
            redis_address_set(&c->any_at, span_of(n->known.host), span_of(n->known.port));
    }
    return &c->any_at;
}
