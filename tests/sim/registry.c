/* The list of members as common/redis/functions.lua keeps it (jd_member_renew, _leave, _dead, _list), and
 * each node's side as common/member/member.c runs it: requests and answers take time, publications may get
 * lost, a node that cannot reach Redis gets no answer although its request may have been done. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>

struct record {
    bool there;
    struct member_node node;
    uint64_t lease_until_us;
    uint64_t voices_us[NODES]; /* who said when that it is dead; 0 = not */
};

static struct record records[NODES];
static uint32_t epoch;

void registry_reset(void)
{
    memset(records, 0, sizeof records);
    epoch = 0;
}

uint32_t registry_epoch(void)
{
    return epoch;
}

/* ---- Redis's side ---- */

static void published(void *a, uint64_t life);

static void epoch_next(void)
{
    epoch++;
    sim_say("epoch %u", epoch);
    for (int i = 0; i < NODES; i++)
        if (w.nodes[i].up && !w.nodes[i].redis_away && !sim_chance((unsigned)w.publications_lost))
            sim_after(sim_between(100, 4 * MS), published, &w.nodes[i], w.nodes[i].life);
}

static void drop(struct record *r)
{
    sim_say("%s is dropped from the members", r->node.name);
    *r = (struct record){0};
}

static int count(void)
{
    int n = 0;
    for (int i = 0; i < NODES; i++)
        n += records[i].there;
    return n;
}

static bool drop_expired(int self)
{
    bool others_alive = false, changed = false;
    for (int i = 0; i < NODES; i++)
        others_alive |= records[i].there && records[i].lease_until_us > w.now_us;
    for (int i = 0; i < NODES; i++) {
        struct record *r = &records[i];
        if (!r->there || i == self || r->lease_until_us > w.now_us)
            continue;
        if (!others_alive) { /* it was Redis that was away */
            r->lease_until_us = w.now_us + LEASE_MS * MS;
            continue;
        }
        drop(r);
        changed = true;
    }
    return changed;
}

enum request { RENEW, LEAVE, DEAD, LIST };

struct operation {
    struct node *node;
    unsigned life;
    enum request what;
    struct member_node self;
    uint32_t known;
    uint64_t sent_ms;
    int peer;
    uint64_t incarnation;
    bool certain;
    bool failed;
    struct member_answer answer;
};

static void do_renew(struct operation *op)
{
    struct record *r = &records[op->node->at];
    bool changed;
    if (op->known != 0 && r->there && r->node.incarnation != op->self.incarnation) {
        op->answer.replaced = true;
        return;
    }
    changed = drop_expired(op->node->at);
    if (!r->there || r->node.incarnation != op->self.incarnation || r->node.draining != op->self.draining) {
        sim_say("%s joins%s", op->self.name, op->self.draining ? " as draining" : "");
        op->answer.joined = !r->there || r->node.incarnation != op->self.incarnation;
        *r = (struct record){.there = true, .node = op->self};
        changed = true;
    }
    r->lease_until_us = w.now_us + LEASE_MS * MS;
    op->answer.renewal = true;
    if (changed)
        epoch_next();
}

static void do_dead(const struct operation *op)
{
    struct record *r = &records[op->peer];
    if (!r->there || r->node.incarnation != op->incarnation || op->peer == op->node->at ||
        !records[op->node->at].there)
        return;
    bool enough = op->certain || count() <= 2;
    if (!enough) {
        unsigned voices = 0;
        r->voices_us[op->node->at] = w.now_us;
        for (int i = 0; i < NODES; i++)
            voices += r->voices_us[i] != 0 && records[i].there && w.now_us - r->voices_us[i] <= 2 * SECOND;
        enough = voices >= 2;
    }
    if (enough) {
        drop(r);
        epoch_next();
    }
}

static void redis_does(struct operation *op)
{
    struct record *r = &records[op->node->at];
    switch (op->what) {
    case RENEW:
        do_renew(op);
        break;
    case LEAVE:
        if (r->there && r->node.incarnation == op->self.incarnation) {
            drop(r);
            epoch_next();
        }
        break;
    case DEAD:
        do_dead(op);
        break;
    case LIST:
        break;
    }
    op->answer.epoch = epoch;
    op->answer.has_nodes = op->known != epoch;
    struct member_node *nodes = sim_alloc(NODES * sizeof *nodes);
    for (int i = ROUTERS; i < GATEWAY; i++) /* "c2s-…" sorts before "router-…" */
        if (op->answer.has_nodes && records[i].there)
            nodes[op->answer.count++] = records[i].node;
    for (int i = 0; i < ROUTERS; i++)
        if (op->answer.has_nodes && records[i].there)
            nodes[op->answer.count++] = records[i].node;
    if (op->answer.has_nodes && records[GATEWAY].there) /* "s2s-…" behind both */
        nodes[op->answer.count++] = records[GATEWAY].node;
    op->answer.has_nodes = op->answer.count > 0;
    op->answer.nodes = nodes;
}

/* ---- a node's side ---- */

static void plan(struct node *n);
static void arrived(void *a, uint64_t b);

static void request(struct node *n, enum request what, int peer, uint64_t incarnation, bool certain)
{
    struct operation *op = sim_alloc(sizeof *op);
    *op = (struct operation){.node = n,
                             .life = n->life,
                             .what = what,
                             .self = n->member.self,
                             .known = member_core_known_epoch(&n->member),
                             .sent_ms = sim_ms(),
                             .peer = peer,
                             .incarnation = incarnation,
                             .certain = certain};
    n->asked_us = MAX(n->asked_us, w.now_us + sim_between(50, 2 * MS));
    sim_after(n->asked_us - w.now_us, arrived, op, 0);
}

static void answered(void *a, uint64_t b)
{
    (void)b;
    struct operation *op = a;
    struct node *n = op->node;
    if (op->life != n->life || !n->up || node_frozen(n, answered, op, 0))
        return;
    if (op->what == RENEW)
        n->renewing = false;
    if (op->what == LIST)
        n->looking = false;
    if (op->failed) {
        if (op->what == RENEW)
            member_core_failed(&n->member, sim_ms());
    } else if (op->what != LEAVE) {
        unsigned old_count = n->member.count;
        struct member_node *old = xmalloc((old_count + 1) * sizeof *old);
        if (old_count > 0)
            memcpy(old, n->member.nodes, old_count * sizeof *old);
        unsigned events = member_core_answer(&n->member, &op->answer, op->sent_ms);
        node_member_events(n, events, old, old_count);
        free(old);
    }
    if (op->what == LIST && n->look_again) {
        n->look_again = false;
        registry_refresh(n);
    }
    plan(n);
}

/* On one connection answers come in the order of the requests. */
static void answer_after(struct operation *op, uint64_t delay_us)
{
    struct node *n = op->node;
    n->answered_us = MAX(n->answered_us, w.now_us + delay_us);
    sim_after(n->answered_us - w.now_us, answered, op, 0);
}

static void arrived(void *a, uint64_t b)
{
    (void)b;
    struct operation *op = a;
    bool here = op->life == op->node->life;
    if (here && op->node->redis_away) {
        op->failed = true;
        if (sim_chance(20))
            redis_does(op);
        answer_after(op, 50 * MS);
        return;
    }
    redis_does(op);
    answer_after(op, sim_chance(5) ? sim_between(1 * MS, 40 * MS) : sim_between(50, 2 * MS));
}

static void planned(void *a, uint64_t serial)
{
    struct node *n = a;
    if (!n->up || serial != n->plans || node_frozen(n, planned, a, serial))
        return;
    unsigned events = member_core_tick(&n->member, sim_ms());
    if (events != 0)
        node_member_events(n, events, NULL, 0);
    if (!n->renewing && sim_ms() >= n->member.renew_at_ms && !n->member.leaving && !n->member.replaced) {
        n->renewing = true;
        request(n, RENEW, 0, 0, false);
    }
    plan(n);
}

static void plan(struct node *n)
{
    uint64_t at = UINT64_MAX, now = sim_ms();
    if (!n->up || n->member.leaving || n->member.replaced)
        return;
    if (!n->renewing)
        at = n->member.renew_at_ms;
    if (n->member.holds)
        at = MIN(at, n->member.lease_until_ms);
    n->plans++;
    if (at != UINT64_MAX)
        sim_after(at > now ? (at - now) * MS : 100, planned, n, n->plans);
}

static void published(void *a, uint64_t life)
{
    struct node *n = a;
    if (!n->up || life != n->life || node_frozen(n, published, a, life))
        return;
    if (epoch != n->member.epoch)
        registry_refresh(n);
}

void registry_node_started(struct node *n)
{
    struct member_node self = {.incarnation = n->incarnation};
    memcpy(self.name, n->name, sizeof n->name);
    snprintf(self.role, sizeof self.role, "%s", n->router ? "router" : n->at == GATEWAY ? "s2s" : "c2s");
    n->renewing = n->looking = n->look_again = false;
    member_core_init(&n->member, &self, LEASE_MS);
    plan(n);
}

void registry_refresh(struct node *n)
{
    if (!n->member.joined || n->member.leaving || n->member.replaced)
        return;
    if (n->looking) {
        n->look_again = true;
        return;
    }
    n->looking = true;
    request(n, LIST, 0, 0, false);
}

void registry_report(struct node *n, int peer, uint64_t incarnation, bool certain)
{
    const struct member_node *node = member_core_find(&n->member, w.nodes[peer].name);
    if (node == NULL || node->incarnation != incarnation || !member_core_holds(&n->member, sim_ms()) ||
        n->member.leaving)
        return;
    sim_say("%s reports %s dead%s", n->name, w.nodes[peer].name, certain ? " for certain" : "");
    request(n, DEAD, peer, incarnation, certain);
}

void registry_leave(struct node *n)
{
    n->member.leaving = true;
    n->member.holds = false;
    request(n, LEAVE, 0, 0, false);
}

void registry_drain(struct node *n)
{
    n->member.self.draining = true;
    n->member.renew_at_ms = sim_ms();
    plan(n);
}

const struct member_node *node_owner(const struct node *n, uint16_t slot)
{
    uint16_t at = slot < MEMBER_SLOTS ? n->member.owner[slot] : MEMBER_NO_OWNER;
    return at == MEMBER_NO_OWNER ? NULL : &n->member.nodes[at];
}
