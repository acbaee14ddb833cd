/* The core (core.h) on Redis and the bus: one renewal at a time, every sixth of the lease; a look at the list
 * when Redis publishes a new epoch or a peer speaks of one. Each new list becomes links: what has gone is
 * unlinked, what is there is linked (harmless when it is already). Reports of dead peers go to Redis, which
 * decides.
 *
 * A renewal without an answer may have been done, so the lease counts on only from the last one answered. */
#include "common/member/member.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/bus/bus.h"
#include "common/log/log.h"
#include "common/member/core.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"
#include "common/ring/ring.h"
#include "common/stats/stats.h"

#define NODE_FIELDS     7
#define REPORT_EVERY_MS 250 /* the same report again */
#define REPORTS_KEPT    64

struct report {
    uint64_t incarnation;
    uint64_t at_ms;
    bool certain;
};

struct member {
    struct ring *ring;
    struct redis *redis;
    struct bus *bus;
    const struct member_handler *handler;
    void *ctx;
    struct timer timer;
    struct member_core core;
    uint64_t renew_sent_ms;
    bool renewing;
    bool looking;
    bool look_again;
    bool left;
    struct report reports[REPORTS_KEPT];
    unsigned reports_at;
};

static struct stat_gauge epoch_gauge =
    STAT_GAUGE("jackdaw_epoch", "Epoch of the membership in force here", NULL);
static struct stat_gauge nodes_gauge = STAT_GAUGE("jackdaw_members", "Processes in the cluster", NULL);
static struct stat_gauge lease_gauge =
    STAT_GAUGE("jackdaw_lease_held", "1 while the own lease is held", NULL);
static struct stat_counter lost_counter =
    STAT_COUNTER("jackdaw_lease_lost_total", "Times the own lease was lost", NULL);
static struct stat_counter failed_counter =
    STAT_COUNTER("jackdaw_lease_renewals_failed_total", "Renewals of the lease without an answer", NULL);
static struct stat_counter report_counter =
    STAT_COUNTER("jackdaw_peers_reported_total", "Peers reported dead or silent", NULL);

static void plan(struct member *m);

static uint64_t now_of(const struct member *m)
{
    return ring_now_ms(m->ring);
}

static struct span u64_text(uint64_t v, char store[24])
{
    return span_make(store, (size_t)snprintf(store, 24, "%llu", (unsigned long long)v));
}

/* ---- answers */

static bool copy_text(const struct redis_reply *r, char *out, size_t cap)
{
    if (r->kind != REDIS_KIND_TEXT || r->text.n >= cap || memchr(r->text.p, '\0', r->text.n) != NULL)
        return false;
    memcpy(out, r->text.p, r->text.n);
    out[r->text.n] = '\0';
    return true;
}

static bool read_node(const struct redis_reply *r, struct member_node *out)
{
    memset(out, 0, sizeof *out);
    if (r->kind != REDIS_KIND_LIST || r->count < NODE_FIELDS || r->items[1].kind != REDIS_KIND_TEXT)
        return false;
    out->draining = r->items[5].kind == REDIS_KIND_TEXT && span_is(r->items[5].text, "1");
    return copy_text(&r->items[0], out->name, sizeof out->name) && out->name[0] != '\0' &&
           span_to_u64(r->items[1].text, UINT64_MAX, &out->incarnation) && out->incarnation != 0 &&
           copy_text(&r->items[2], out->role, sizeof out->role) &&
           copy_text(&r->items[3], out->endpoint, sizeof out->endpoint) &&
           copy_text(&r->items[4], out->stats, sizeof out->stats);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct member_node *)a)->name, ((const struct member_node *)b)->name);
}

/* Fills *out from a reply; *nodes (freed by the caller) holds the nodes. False when it is no answer. */
static bool read_answer(const struct redis_reply *r, struct member_answer *out, struct member_node **nodes)
{
    *nodes = NULL;
    if (r == NULL)
        return false;
    if (redis_error_is(r, "REPLACED")) {
        out->replaced = true;
        return true;
    }
    if (r->kind == REDIS_KIND_ERROR) {
        log_error("member", "Redis refused error=\"%.*s\": is another release's function library loaded?",
                  SPAN_FMT(r->text));
        return false;
    }
    if (r->kind != REDIS_KIND_LIST || r->count < 4 || r->items[0].kind != REDIS_KIND_NUMBER ||
        r->items[2].kind != REDIS_KIND_LIST || r->items[0].number < 0 || r->items[0].number > UINT32_MAX) {
        log_error("member", "an answer of Redis that is no list of members was dropped");
        return false;
    }
    out->epoch = (uint32_t)r->items[0].number;
    out->joined = span_is(r->items[3].text, "joined");
    out->has_nodes =
        r->items[2].count > 0; /* no list: nothing new, or nobody at all, and then we join again */
    *nodes = xcalloc(r->items[2].count + 1, sizeof **nodes);
    for (size_t i = 0; i < r->items[2].count; i++) {
        if (read_node(&r->items[2].items[i], &(*nodes)[out->count]))
            out->count++;
        else
            log_error("member", "a malformed member in Redis was skipped: see HGETALL %.*s",
                      SPAN_FMT(KEY_CLUSTER));
    }
    qsort(*nodes, out->count, sizeof **nodes, by_name); /* Redis sorts by bytes too; never trust */
    out->nodes = *nodes;
    return true;
}

/* ---- links */

/* `old` are the nodes of the epoch before. */
static void link_peers(struct member *m, const struct member_node *old, unsigned old_count)
{
    const struct member_core *c = &m->core;
    bool dial;

    for (unsigned i = 0; i < old_count; i++) {
        const struct member_node *now = member_core_find(c, old[i].name);
        struct bus_peer *peer;
        if (now != NULL && now->incarnation == old[i].incarnation)
            continue;
        peer = bus_peer(m->bus, old[i].name);
        if (peer != NULL && bus_peer_incarnation(peer) == old[i].incarnation)
            bus_unlink(m->bus, old[i].name); /* a successor may have dialed in already: that one stays */
    }
    for (unsigned i = 0; i < c->count; i++) {
        const struct member_node *node = &c->nodes[i];
        if (member_core_linked(&c->self, node, &dial))
            bus_link(m->bus, node->name, node->incarnation, node->endpoint, dial);
    }
}

/* What an owner of before still has under way to others would come after what the next owner says. */
static void link_anew(struct member *m)
{
    for (unsigned i = 0; i < m->core.count; i++)
        if (bus_peer(m->bus, m->core.nodes[i].name) != NULL)
            bus_unlink(m->bus, m->core.nodes[i].name);
    link_peers(m, NULL, 0);
}

static void tell(struct member *m, unsigned events)
{
    if ((events & MEMBER_LOST) != 0) {
        stat_add(&lost_counter, 1);
        log_error(
            "member", "lease lost: %s",
            (events & MEMBER_BACK) != 0
                ? "the others took this process for dead meanwhile; it gives up what it owned and begins anew"
                : "this process stops acting as an owner until Redis answers again");
        m->handler->lease_lost(m->ctx);
        if (strcmp(m->core.self.role, "router") == 0)
            link_anew(m);
    }
    if ((events & MEMBER_REPLACED) != 0) {
        log_error("member",
                  "another process has joined as %s: this one ends; give every process a name of its own",
                  m->core.self.name);
        if (m->handler->replaced != NULL)
            m->handler->replaced(m->ctx);
    }
    if ((events & MEMBER_CHANGED) != 0) {
        log_info("member", "epoch=%u members=%u", m->core.epoch, m->core.count);
        m->handler->changed(m->ctx);
    }
    if ((events & MEMBER_BACK) != 0) {
        log_info("member", "lease held again epoch=%u", m->core.epoch);
        m->handler->lease_back(m->ctx);
    }
    stat_set(&epoch_gauge, m->core.epoch);
    stat_set(&nodes_gauge, m->core.count);
    stat_set(&lease_gauge, m->core.holds);
}

/* Takes a reply of any of the functions in. False when there was none. */
static bool take_reply(struct member *m, const struct redis_reply *reply, bool renewal, uint64_t sent_ms)
{
    struct member_answer answer = {.renewal = renewal};
    struct member_node *nodes, *old;
    unsigned old_count = m->core.count, events;
    bool ok = read_answer(reply, &answer, &nodes);

    if (!ok) {
        free(nodes);
        return false;
    }
    old = xmalloc((old_count + 1) * sizeof *old);
    if (old_count > 0)
        memcpy(old, m->core.nodes, old_count * sizeof *old);
    events = member_core_answer(&m->core, &answer, sent_ms);
    if ((events & MEMBER_CHANGED) != 0)
        link_peers(m, old, old_count);
    free(old);
    free(nodes);
    tell(m, events);
    return true;
}

/* ---- commands */

static void renewed(void *ctx, const struct redis_reply *reply)
{
    struct member *m = ctx;

    m->renewing = false;
    if (!take_reply(m, reply, true, m->renew_sent_ms)) {
        stat_add(&failed_counter, 1);
        member_core_failed(&m->core, now_of(m));
    }
    plan(m);
}

static void renew(struct member *m)
{
    const struct member_node *self = &m->core.self;
    char incarnation[24], lease[24], epoch[24];

    m->renewing = true;
    m->renew_sent_ms = now_of(m);
    redis_send(m->redis, KEY_CLUSTER, renewed, m, SPAN("FCALL"), SPAN("jd_member_renew"), KEYS_CLUSTER,
               span_of(self->name), u64_text(self->incarnation, incarnation), span_of(self->role),
               span_of(self->endpoint), span_of(self->stats), self->draining ? SPAN("1") : SPAN("0"),
               u64_text(m->core.lease_ms, lease), u64_text(member_core_known_epoch(&m->core), epoch));
}

static void looked(void *ctx, const struct redis_reply *reply)
{
    struct member *m = ctx;

    m->looking = false;
    take_reply(m, reply, false, now_of(m));
    if (m->look_again) {
        m->look_again = false;
        member_refresh(m);
    }
    plan(m);
}

void member_refresh(struct member *m)
{
    char epoch[24];

    if (!m->core.joined || m->core.leaving || m->core.replaced)
        return;
    if (m->looking) {
        m->look_again = true; /* the answer under way may be from before */
        return;
    }
    m->looking = true;
    redis_send(m->redis, KEY_CLUSTER, looked, m, SPAN("FCALL"), SPAN("jd_member_list"), KEYS_CLUSTER,
               u64_text(member_core_known_epoch(&m->core), epoch));
}

static void epoch_published(void *ctx, struct span message)
{
    struct member *m = ctx;
    uint64_t epoch;

    if (message.n == 0 || !span_to_u64(message, UINT32_MAX, &epoch) || epoch != m->core.epoch)
        member_refresh(m);
}

static void reported(void *ctx, const struct redis_reply *reply)
{
    struct member *m = ctx;

    take_reply(m, reply, false, now_of(m));
    plan(m);
}

static bool reported_lately(struct member *m, uint64_t incarnation, bool certain)
{
    uint64_t now = now_of(m);

    for (unsigned i = 0; i < REPORTS_KEPT; i++) {
        const struct report *r = &m->reports[i];
        if (r->incarnation == incarnation && r->certain == certain && now - r->at_ms < REPORT_EVERY_MS)
            return true;
    }
    m->reports[m->reports_at] = (struct report){incarnation, now, certain};
    m->reports_at = (m->reports_at + 1) % REPORTS_KEPT;
    return false;
}

void member_report_dead(struct member *m, const char *name, uint64_t incarnation, bool certain)
{
    const struct member_node *node = member_core_find(&m->core, name);
    char dead[24], epoch[24];

    if (node == NULL || node->incarnation != incarnation || !member_holds_lease(m) || m->core.leaving ||
        reported_lately(m, incarnation, certain))
        return;
    stat_add(&report_counter, 1);
    log_warn("member", "reporting peer=%s incarnation=%016llx: %s", name, (unsigned long long)incarnation,
             certain ? "its address refuses connections" : "it is silent");
    redis_send(m->redis, KEY_CLUSTER, reported, m, SPAN("FCALL"), SPAN("jd_member_dead"), KEYS_CLUSTER,
               span_of(name), u64_text(incarnation, dead), span_of(m->core.self.name),
               certain ? SPAN("1") : SPAN("0"), u64_text(member_core_known_epoch(&m->core), epoch));
}

/* ---- time */

static void timer_fired(struct timer *t, uint64_t now_ms)
{
    struct member *m = CONTAINER_OF(t, struct member, timer);
    unsigned events = member_core_tick(&m->core, now_ms);

    if (events != 0)
        tell(m, events);
    if (!m->renewing && now_ms >= m->core.renew_at_ms && !m->core.leaving && !m->core.replaced)
        renew(m);
    plan(m);
}

/* Sets the timer to what comes next: the renewal (unless one is under way) or the end of the lease. */
static void plan(struct member *m)
{
    uint64_t now = now_of(m), at = UINT64_MAX;

    if (m->core.leaving || m->core.replaced) {
        ring_timer_clear(m->ring, &m->timer);
        return;
    }
    if (!m->renewing)
        at = m->core.renew_at_ms;
    if (m->core.holds)
        at = MIN(at, m->core.lease_until_ms);
    if (at == UINT64_MAX)
        ring_timer_clear(m->ring, &m->timer); /* the reply comes, with or without an answer */
    else
        ring_timer_set(m->ring, &m->timer, at > now ? at - now : 0);
}

/* ---- life */

struct member *member_new(struct ring *ring, struct redis *redis, struct bus *bus,
                          const struct member_node *self, unsigned lease_ms,
                          const struct member_handler *handler, void *ctx)
{
    struct member *m = xcalloc(1, sizeof *m);
    struct stat_meta *stats[] = {&epoch_gauge.meta,  &nodes_gauge.meta,    &lease_gauge.meta,
                                 &lost_counter.meta, &failed_counter.meta, &report_counter.meta};

    CHECK(self->name[0] != '\0' && self->incarnation != 0 && lease_ms > 0);
    for (size_t i = 0; i < ARRAY_LEN(stats); i++)
        stat_register(stats[i]);
    m->ring = ring;
    m->redis = redis;
    m->bus = bus;
    m->handler = handler;
    m->ctx = ctx;
    m->timer.fire = timer_fired;
    member_core_init(&m->core, self, lease_ms);
    redis_subscribe(redis, CHANNEL_EPOCH, epoch_published, m);
    ring_timer_set(ring, &m->timer, 0);
    return m;
}

void member_free(struct member *m)
{
    if (m == NULL)
        return;
    redis_forget(m->redis, m);
    ring_timer_clear(m->ring, &m->timer);
    member_core_fini(&m->core);
    free(m);
}

void member_drain(struct member *m)
{
    m->core.self.draining = true;
    m->core.renew_at_ms = now_of(m);
    plan(m);
}

static void left(void *ctx, const struct redis_reply *reply)
{
    struct member *m = ctx;
    (void)reply; /* without an answer the lease runs out by itself */
    m->left = true;
}

void member_leave(struct member *m)
{
    char incarnation[24], epoch[24];

    if (m->core.leaving)
        return;
    m->core.leaving = true;
    m->core.holds = false;
    plan(m);
    redis_send(m->redis, KEY_CLUSTER, left, m, SPAN("FCALL"), SPAN("jd_member_leave"), KEYS_CLUSTER,
               span_of(m->core.self.name), u64_text(m->core.self.incarnation, incarnation),
               u64_text(m->core.epoch, epoch));
}

bool member_has_left(const struct member *m)
{
    return m->left;
}

bool member_holds_lease(const struct member *m)
{
    return member_core_holds(&m->core, now_of(m));
}

uint32_t member_epoch(const struct member *m)
{
    return m->core.epoch;
}

const struct member_node *member_nodes(const struct member *m, unsigned *count)
{
    *count = m->core.count;
    return m->core.nodes;
}

const struct member_node *member_find(const struct member *m, const char *name)
{
    return member_core_find(&m->core, name);
}

uint16_t member_slot(struct span bare_jid)
{
    return (uint16_t)(hash_stable(bare_jid, 0) % MEMBER_SLOTS);
}

const struct member_node *member_owner(const struct member *m, uint16_t slot)
{
    uint16_t at = slot < MEMBER_SLOTS ? m->core.owner[slot] : MEMBER_NO_OWNER;
    return at == MEMBER_NO_OWNER ? NULL : &m->core.nodes[at];
}
