/* The lease. Redis counts it from when it did the renewal; here it counts from when that was sent, which is
 * earlier, less a tenth for late timers: this process always stops before the others may take over. A node
 * that finds itself missing in the list was reported dead; others own its slots already, so it stops at once
 * and joins again with its next renewal.
 *
 * The epoch never goes back, and a list counts only under its own: one that is older than what is known here
 * is an answer that came late, or Redis has lost writes in a failover. Then the next renewal names our epoch,
 * and Redis gives what it has left a higher one (functions.c: jd_member_renew). */
#include "common/member/core.h"

#include <stdlib.h>

#include "common/base/hash.h"

#define RENEWALS_PER_LEASE 6
#define RETRY_MS           100

void member_core_init(struct member_core *c, const struct member_node *self, unsigned lease_ms)
{
    *c = (struct member_core){.self = *self, .lease_ms = lease_ms};
    member_core_slots(NULL, 0, c->owner);
}

void member_core_fini(struct member_core *c)
{
    free(c->nodes);
    c->nodes = NULL;
    c->count = 0;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9;
    x ^= x >> 27;
    x *= 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

void member_core_slots(const struct member_node *nodes, unsigned count, uint16_t owner[MEMBER_SLOTS])
{
    uint64_t best[MEMBER_SLOTS];

    for (unsigned slot = 0; slot < MEMBER_SLOTS; slot++)
        owner[slot] = MEMBER_NO_OWNER;
    for (unsigned i = 0; i < count; i++) {
        uint64_t name;
        if (strcmp(nodes[i].role, "router") != 0 || nodes[i].draining)
            continue;
        name = hash_stable(span_of(nodes[i].name), 0);
        for (unsigned slot = 0; slot < MEMBER_SLOTS; slot++) {
            uint64_t weight = mix(name + slot * UINT64_C(0x9e3779b97f4a7c15));
            if (owner[slot] == MEMBER_NO_OWNER || weight > best[slot]) {
                owner[slot] = (uint16_t)i;
                best[slot] = weight;
            }
        }
    }
}

static bool node_eq(const struct member_node *a, const struct member_node *b)
{
    return a->incarnation == b->incarnation && a->draining == b->draining && strcmp(a->name, b->name) == 0 &&
           strcmp(a->role, b->role) == 0 && strcmp(a->endpoint, b->endpoint) == 0 &&
           strcmp(a->stats, b->stats) == 0;
}

static bool nodes_eq(const struct member_core *c, const struct member_answer *a)
{
    if (c->count != a->count)
        return false;
    for (unsigned i = 0; i < c->count; i++)
        if (!node_eq(&c->nodes[i], &a->nodes[i]))
            return false;
    return true;
}

static bool take_nodes(struct member_core *c, const struct member_answer *a)
{
    if (!a->has_nodes || a->epoch < c->epoch || (a->epoch == c->epoch && nodes_eq(c, a)))
        return false;
    free(c->nodes);
    c->nodes = xmalloc((a->count + 1) * sizeof *c->nodes);
    c->count = a->count;
    if (a->count > 0)
        memcpy(c->nodes, a->nodes, a->count * sizeof *c->nodes);
    c->epoch = a->epoch;
    member_core_slots(c->nodes, c->count, c->owner);
    return true;
}

static unsigned lose(struct member_core *c)
{
    if (!c->holds)
        return 0;
    c->holds = false;
    return MEMBER_LOST;
}

unsigned member_core_answer(struct member_core *c, const struct member_answer *answer, uint64_t sent_ms)
{
    const struct member_node *self;
    unsigned events = 0;

    if (c->replaced || c->leaving)
        return 0;
    if (answer->replaced) {
        c->replaced = true;
        return lose(c) | MEMBER_REPLACED;
    }
    /* Dropped without having noticed: others have owned meanwhile what seems to have been ours all the time.
     */
    if (answer->joined && c->joined)
        events |= lose(c);
    if (take_nodes(c, answer))
        events |= MEMBER_CHANGED;
    self = member_core_find(c, c->self.name);
    if (self == NULL || self->incarnation != c->self.incarnation) {
        c->renew_at_ms = sent_ms;
        return events | lose(c);
    }
    if (answer->renewal) {
        c->lease_until_ms = sent_ms + c->lease_ms - c->lease_ms / 10;
        c->renew_at_ms = sent_ms + c->lease_ms / RENEWALS_PER_LEASE;
        if (!c->holds && c->joined)
            events |= MEMBER_BACK;
        c->holds = c->joined = true;
    }
    return events;
}

void member_core_failed(struct member_core *c, uint64_t now_ms)
{
    c->renew_at_ms = now_ms + MIN(c->lease_ms / RENEWALS_PER_LEASE, RETRY_MS);
}

unsigned member_core_tick(struct member_core *c, uint64_t now_ms)
{
    return c->holds && now_ms >= c->lease_until_ms ? lose(c) : 0;
}

bool member_core_holds(const struct member_core *c, uint64_t now_ms)
{
    return c->holds && now_ms < c->lease_until_ms;
}

uint32_t member_core_known_epoch(const struct member_core *c)
{
    return c->joined ? c->epoch : 0;
}

const struct member_node *member_core_find(const struct member_core *c, const char *name)
{
    unsigned low = 0, high = c->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = strcmp(c->nodes[middle].name, name);
        if (order == 0)
            return &c->nodes[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool member_core_linked(const struct member_node *a, const struct member_node *b, bool *a_dials)
{
    bool a_routes = strcmp(a->role, "router") == 0, b_routes = strcmp(b->role, "router") == 0;
    bool gateways = strcmp(a->role, "s2s") == 0 && strcmp(b->role, "s2s") == 0;
    bool smaller = strcmp(a->name, b->name) < 0;

    *a_dials = b_routes ? !a_routes || smaller : gateways && smaller;
    return (a_routes || b_routes || gateways) && strcmp(a->name, b->name) != 0;
}
