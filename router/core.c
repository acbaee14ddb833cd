/* The core's frame: construction, the turn, and what changes around it (epochs, leases, the store). */
#include "router/core.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "router/feature.h"
#include "router/inbox.h"
#include "router/mailbox.h"
#include "router/parting.h"
#include "router/retell.h"
#include "router/route.h"
#include "router/session.h"
#include "router/user.h"

#define EVICT_EVERY_MS  1000
#define STORE_RETRY_MS  100
#define FLOORS_EVERY_MS 250 /* mailbox floors are written with the next append, or after this long */

struct pair_list {
    char node[64]; /* the map's key */
    struct buf pairs;
};

static void evict_fire(struct timer *t, uint64_t now_ms)
{
    struct core *c = CONTAINER_OF(t, struct core, evict);
    user_evict_idle(c);
    user_unstick(c);
    timer_set(&c->timers, t, now_ms + EVICT_EVERY_MS);
}

static void floors_fire(struct timer *t, uint64_t now_ms)
{
    struct core *c = CONTAINER_OF(t, struct core, floors);
    LIST_EACH (it, &c->floor_users)
        user_touch(LIST_ENTRY(it, struct user, floor_node));
    timer_set(&c->timers, t, now_ms + FLOORS_EVERY_MS);
}

struct core *core_new(const struct outside *out, struct store *store, const struct conf *conf,
                      const char *name, uint64_t incarnation)
{
    struct core *c = xcalloc(1, sizeof *c);
    c->out = *out;
    c->store = store;
    c->conf = conf;
    c->name = name;
    c->incarnation = incarnation;
    c->started_wall_ms = out->wall_ms(out->ctx);
    c->parser = xml_parser_new(NS_CLIENT);
    list_init(&c->dirty_users);
    list_init(&c->dirty_handled);
    list_init(&c->later_handled);
    c->handled.fire = session_handled_fire;
    list_init(&c->idle_users);
    list_init(&c->floor_users);
    list_init(&c->stuck_users);
    c->floors.fire = floors_fire;
    timer_set(&c->timers, &c->floors, FLOORS_EVERY_MS);
    c->evict.fire = evict_fire;
    timer_set(&c->timers, &c->evict, EVICT_EVERY_MS);
    features_init(conf);
    return c;
}

static void free_pairs(struct map *lists)
{
    size_t at = 0;
    struct pair_list *l;
    while ((l = map_next(lists, &at)) != NULL) {
        buf_free(&l->pairs);
        free(l);
    }
    map_free(lists);
}

const char *core_owner(const struct core *c, uint16_t slot)
{
    const char *owner = c->out.owner(c->out.ctx, slot);
    return owner != NULL && !c->acting && strcmp(owner, c->name) == 0 ? NULL : owner;
}

static void lose_all(struct core *c, bool all)
{
    struct user **users = xmalloc((c->users.count + 1) * sizeof *users), *u;
    size_t count = 0, at = 0;
    while ((u = map_next(&c->users, &at)) != NULL) {
        const char *owner = all ? NULL : c->out.owner(c->out.ctx, u->slot);
        if (owner == NULL || strcmp(owner, c->name) != 0)
            users[count++] = u;
    }
    for (size_t i = 0; i < count; i++)
        user_lose(users[i]);
    free(users);
}

void core_free(struct core *c)
{
    lose_all(c, true);
    route_forget(c);
    retell_free(c);
    timer_clear(&c->timers, &c->evict);
    timer_clear(&c->timers, &c->retry);
    timer_clear(&c->timers, &c->floors);
    timer_clear(&c->timers, &c->handled);
    timer_clear(&c->timers, &c->store_retry);
    sweep_free(c);
    components_free(c);
    asked_free(c);
    idmap_free(&c->syncing);
    timers_free(&c->timers);
    parting_forget(c, NULL);
    free_pairs(&c->done_lists);
    free_pairs(&c->handled_lists);
    session_bundles_free(c);
    map_free(&c->users);
    idmap_free(&c->sessions);
    buf_free(&c->local);
    xml_parser_free(c->parser);
    free(c);
}

bool core_is_local_domain(const struct core *c, struct span domain)
{
    for (unsigned i = 0; i < c->conf->cluster_domains.count; i++)
        if (span_is(domain, c->conf->cluster_domains.items[i]))
            return true;
    return false;
}

void core_pair(struct map *lists, const char *node, uint64_t a, uint64_t b)
{
    struct pair_list *l = map_get(lists, span_of(node));
    if (l == NULL) {
        l = xcalloc(1, sizeof *l);
        strncpy(l->node, node, sizeof l->node - 1);
        map_put(lists, span_of(l->node), l);
    }
    wire_pair_add(&l->pairs, a, b);
}

void core_flush_pairs(struct core *c, struct map *lists, enum wire_kind kind)
{
    size_t at = 0;
    struct pair_list *l;
    while ((l = map_next(lists, &at)) != NULL) {
        if (l->pairs.n == 0)
            continue;
        struct buf pairs = l->pairs;
        l->pairs = (struct buf){0};
        if (kind == WIRE_DONE && strcmp(l->node, c->name) == 0) {
            route_on_done(c, buf_span(&pairs));
        } else {
            for (size_t at_pair = 0; at_pair < pairs.n; at_pair += WIRE_LIST_MAX) {
                struct wire_frame f = {.kind = kind,
                                       .slot = 0xffff,
                                       .epoch = c->epoch,
                                       .pairs = span_sub(buf_span(&pairs), at_pair, WIRE_LIST_MAX)};
                c->out.send(c->out.ctx, l->node, &f);
            }
        }
        if (l->pairs.p == NULL) { /* keep the storage */
            buf_clear(&pairs);
            l->pairs = pairs;
        } else {
            buf_free(&pairs);
        }
    }
}

static void run_local(struct core *c)
{
    while (c->local.n > 0) {
        struct buf frames = c->local;
        c->local = (struct buf){0};
        for (size_t at = 0; at < frames.n; at += sizeof(struct rcbuf *)) {
            struct rcbuf *frame;
            memcpy(&frame, frames.p + at, sizeof frame);
            inbox_frame(c, c->name, c->incarnation, rcbuf_span(frame));
            rcbuf_unref(frame);
        }
        if (c->local.p == NULL) {
            buf_clear(&frames);
            c->local = frames;
        } else {
            buf_free(&frames);
        }
    }
}

void core_frame(struct core *c, const char *node, uint64_t incarnation, struct span frame, uint64_t now_ms)
{
    c->now_ms = now_ms;
    inbox_frame(c, node, incarnation, frame);
}

uint64_t core_turn(struct core *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    timers_run(&c->timers, now_ms);
    /* DONE pairs to this router itself end work and may start more, so go on until it is quiet. */
    do {
        run_local(c);
        session_save_handled(c);
        user_commit_all(c);
        core_flush_pairs(c, &c->done_lists, WIRE_DONE);
    } while (c->local.n > 0 || !list_empty(&c->dirty_users) || !list_empty(&c->dirty_handled));
    core_flush_pairs(c, &c->handled_lists, WIRE_HANDLED);
    return timers_next(&c->timers);
}

void core_epoch(struct core *c, uint32_t epoch, uint64_t now_ms)
{
    c->now_ms = now_ms;
    c->epoch = epoch;
    lose_all(c, false);
    route_reroute(c);
    retell_send(c);
    sweep_slots(c);
    log_info("core", "epoch=%u users=%zu pending=%zu", epoch, c->users.count, c->pending.count);
}

void core_node_gone(struct core *c, const char *node, uint64_t incarnation, uint64_t now_ms)
{
    c->now_ms = now_ms;
    struct session **lost = xmalloc((c->sessions.count + 1) * sizeof *lost), *s;
    size_t count = 0, at = 0;
    while ((s = idmap_next(&c->sessions, &at)) != NULL)
        if ((s->state == SESSION_LIVE || s->state == SESSION_UNSYNCED) &&
            s->node_incarnation == incarnation && strcmp(s->node, node) == 0)
            lost[count++] = s;
    for (size_t i = 0; i < count; i++)
        session_lost(lost[i]);
    free(lost);
    route_node_gone(c, node);
    components_node_gone(c, node, incarnation);
    if (count > 0)
        log_warn("core", "connection manager gone, its sessions wait or end node=%s sessions=%zu", node,
                 count);
}

void core_lease(struct core *c, bool held, uint64_t now_ms)
{
    c->now_ms = now_ms;
    c->acting = held;
    sweep_slots(c);
    if (held) {
        route_reroute(c);
        return;
    }
    /* From here on this process is as good as dead: whoever takes its users over gets everything that was
     * under way again. Sent by us once more when the lease is back, it would come late and out of order. */
    lose_all(c, true);
    route_forget(c);
}

static void store_retry_fire(struct timer *t, uint64_t now_ms)
{
    struct core *c = CONTAINER_OF(t, struct core, store_retry);
    (void)now_ms;
    if (c->store_up)
        core_store_state(c, true, c->now_ms);
}

void core_store_again(struct core *c)
{
    if (!c->store_up || timer_is_set(&c->store_retry))
        return;
    c->store_retry.fire = store_retry_fire;
    timer_set(&c->timers, &c->store_retry, c->now_ms + STORE_RETRY_MS);
}

void core_store_state(struct core *c, bool up, uint64_t now_ms)
{
    c->now_ms = now_ms;
    c->store_up = up;
    if (up) {
        user_store_back(c);
        mailbox_store_back(c);
    }
}
