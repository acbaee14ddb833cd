/* What leaves has a token and is kept encoded. It goes to the owner of its slot when that one's link is up;
 * else it waits, and so does everything behind it for that slot, so that order is kept. A new epoch, a new
 * link, a dead node and a timer look for ways for all that wait, in the order of the tokens. */
#include "s2s/uplink.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/rcbuf.h"
#include "common/bus/bus.h"
#include "common/log/log.h"
#include "common/wire/wire.h"
#include "s2s/component.h"
#include "s2s/leg.h"
#include "s2s/metrics.h"
#include "s2s/relay.h"
#include "s2s/s2s.h"

#define RETRY_MS        50
#define NO_SLOT         0xffffu
#define RECENT_MAX      65536 /* identities of one generation */
#define FORWARD_WAITING MEMBER_SLOTS

struct pending {
    uint64_t token;
    uint16_t slot; /* NO_SLOT: to another s2s process */
    bool waits;    /* has no node now */
    char node[MEMBER_NAME_MAX + 1];
    uint64_t incarnation;
    struct rcbuf *frame;
    struct receipt *receipt;
};

struct done_list {
    char node[MEMBER_NAME_MAX + 1];
    uint64_t incarnation;
    struct buf pairs;
};

/* ---- receipts ---- */

struct receipt *receipt_for_router(const struct bus_peer *router, uint64_t token)
{
    struct receipt *r = xcalloc(1, sizeof *r);
    r->refs = 1;
    r->token = token;
    r->incarnation = bus_peer_incarnation(router);
    snprintf(r->node, sizeof r->node, "%s", bus_peer_name(router));
    return r;
}

struct receipt *receipt_for_source(uint64_t sid, uint64_t n)
{
    struct receipt *r = xcalloc(1, sizeof *r);
    r->refs = 1;
    r->sid = sid;
    r->n = n;
    return r;
}

void uplink_had(struct s2s *s, uint64_t identity)
{
    struct uplink_hub *hub = &s->uplink;
    if (hub->recent.count >= RECENT_MAX) {
        idmap_free(&hub->older);
        hub->older = hub->recent;
        hub->recent = (struct idmap){0};
    }
    idmap_put(&hub->recent, identity, hub);
}

void receipt_unref(struct s2s *s, struct receipt *r)
{
    if (r == NULL || --r->refs > 0)
        return;
    struct uplink_hub *hub = &s->uplink;
    if (r->identity != 0) {
        idmap_del(&hub->taken, r->identity);
        uplink_had(s, r->identity);
    }
    if (r->node[0] != '\0')
        uplink_done(s, r);
    else if (r->sid != 0)
        leg_source_done(s, r->sid, r->n);
    free(r);
}

/* ---- DONE, once per turn and node ---- */

static void on_flush(struct timer *t, uint64_t now_ms)
{
    struct s2s *s = CONTAINER_OF(t, struct s2s, uplink.flush);
    size_t at = 0;
    struct done_list *d;
    (void)now_ms;
    while ((d = map_next(&s->uplink.dones, &at)) != NULL) {
        struct bus_peer *peer = bus_peer(s->bus, d->node);
        if (peer != NULL && bus_peer_incarnation(peer) == d->incarnation && d->pairs.n > 0) {
            struct wire_frame f = {.kind = WIRE_DONE, .slot = NO_SLOT, .epoch = member_epoch(s->member)};
            f.pairs = buf_span(&d->pairs);
            char *to = bus_reserve(peer, wire_size(&f));
            bus_commit(peer, wire_encode(&f, to));
        }
        buf_clear(&d->pairs);
        buf_shrink(&d->pairs, 4096);
    }
}

void uplink_done(struct s2s *s, const struct receipt *r)
{
    struct done_list *d = map_get(&s->uplink.dones, span_of(r->node));
    if (r->token == 0)
        return;
    if (d == NULL) {
        d = xcalloc(1, sizeof *d);
        memcpy(d->node, r->node, sizeof d->node);
        map_put(&s->uplink.dones, span_of(d->node), d);
    }
    if (d->incarnation != r->incarnation) {
        struct bus_peer *peer = bus_peer(s->bus, r->node);
        if (peer == NULL || bus_peer_incarnation(peer) != r->incarnation)
            return; /* the one that asked has died; whoever took its work over asks again */
        buf_clear(&d->pairs);
        d->incarnation = r->incarnation;
    }
    wire_pair_add(&d->pairs, r->token, WIRE_DONE_TAKEN);
    if (!timer_is_set(&s->uplink.flush))
        ring_timer_set(s->ring, &s->uplink.flush, 0);
}

/* ---- stanzas out to routers ---- */

static uint32_t *waiting_of(struct s2s *s, const struct pending *p)
{
    return &s->uplink.waiting[p->slot == NO_SLOT ? FORWARD_WAITING : p->slot];
}

static void set_waits(struct s2s *s, struct pending *p, bool waits)
{
    if (p->waits == waits)
        return;
    p->waits = waits;
    *waiting_of(s, p) += waits ? 1 : (uint32_t)-1;
    if (waits && !timer_is_set(&s->uplink.retry))
        ring_timer_set(s->ring, &s->uplink.retry, RETRY_MS);
}

/* Sends it when its receiver can be reached. False: it waits. */
static bool dispatch(struct s2s *s, struct pending *p)
{
    const struct member_node *node =
        p->slot == NO_SLOT ? member_find(s->member, p->node) : member_owner(s->member, p->slot);
    struct bus_peer *peer = node != NULL ? bus_peer(s->bus, node->name) : NULL;
    if (peer == NULL || !bus_peer_is_up(peer) || bus_peer_incarnation(peer) != node->incarnation ||
        !bus_ready(peer)) {
        set_waits(s, p, true);
        return false;
    }
    snprintf(p->node, sizeof p->node, "%s", node->name);
    p->incarnation = node->incarnation;
    set_waits(s, p, false);
    bus_send(peer, rcbuf_span(p->frame));
    return true;
}

static struct pending *pending_new(struct s2s *s, const struct stanza *stanza, uint16_t slot,
                                   struct receipt *receipt, uint64_t sid, uint64_t n)
{
    struct pending *p = xcalloc(1, sizeof *p);
    struct wire_frame f = {.kind = WIRE_ROUTE,
                           .slot = slot,
                           .epoch = member_epoch(s->member),
                           .at_ms = clock_wall_ms(),
                           .sid = sid,
                           .n = n,
                           .trace = {sid, n},
                           .token = ++s->uplink.next_token,
                           .has_stanza = true,
                           .stanza = *stanza};
    p->token = f.token;
    p->slot = slot;
    p->receipt = receipt;
    p->frame = xmalloc(sizeof *p->frame + wire_size(&f));
    p->frame->refs = 1;
    p->frame->n = wire_encode(&f, p->frame->data);
    idmap_put(&s->uplink.pending, p->token, p);
    stat_set(&metric_pending, (int64_t)s->uplink.pending.count);
    return p;
}

static void pending_done(struct s2s *s, struct pending *p)
{
    idmap_del(&s->uplink.pending, p->token);
    stat_set(&metric_pending, (int64_t)s->uplink.pending.count);
    set_waits(s, p, false);
    receipt_unref(s, p->receipt);
    rcbuf_unref(p->frame);
    free(p);
}

void uplink_route(struct s2s *s, const struct stanza *stanza, struct receipt *receipt, uint64_t sid,
                  uint64_t n)
{
    struct pending *p = pending_new(s, stanza, member_slot(jid_bare(&stanza->to)), receipt, sid, n);
    metric_add(S2S_ROUTED);
    if (s->uplink.waiting[p->slot] > 0)
        set_waits(s, p, true); /* behind those that wait */
    else
        dispatch(s, p);
}

void uplink_forward(struct s2s *s, const char *node, const struct stanza *stanza, struct receipt *receipt,
                    uint64_t sid, uint64_t n)
{
    struct pending *p = pending_new(s, stanza, NO_SLOT, receipt, sid, n);
    snprintf(p->node, sizeof p->node, "%s", node);
    metric_add(S2S_FORWARDED);
    dispatch(s, p);
}

/* ---- again ---- */

static bool must_move(struct s2s *s, const struct pending *p)
{
    if (p->waits)
        return true;
    const struct member_node *node =
        p->slot == NO_SLOT ? member_find(s->member, p->node) : member_owner(s->member, p->slot);
    return node == NULL || strcmp(node->name, p->node) != 0 || node->incarnation != p->incarnation;
}

static int by_token(const void *a, const void *b)
{
    const struct pending *x = *(struct pending *const *)a, *y = *(struct pending *const *)b;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* A component's connection went while its stanza was under way to the process that had it: look again. */
static void forward_again(struct s2s *s, struct pending *p)
{
    struct wire_frame f;
    if (wire_decode(rcbuf_span(p->frame), &f) && f.has_stanza)
        relay_stanza(s, &f.stanza, receipt_ref(p->receipt), f.sid, f.n);
    pending_done(s, p);
}

static void move_all(struct s2s *s)
{
    struct uplink_hub *hub = &s->uplink;
    struct pending **all = xmalloc((hub->pending.count + 1) * sizeof *all), *p;
    size_t count = 0, at = 0;
    while ((p = idmap_next(&hub->pending, &at)) != NULL)
        if (must_move(s, p))
            all[count++] = p;
    qsort(all, count, sizeof(struct pending *), by_token);
    for (size_t i = 0; i < count; i++) {
        bool was_out = !all[i]->waits;
        if (all[i]->slot == NO_SLOT)
            forward_again(s, all[i]);
        else if (dispatch(s, all[i]) && was_out)
            metric_add(S2S_ROUTED_AGAIN);
    }
    free(all);
}

static void on_retry(struct timer *t, uint64_t now_ms)
{
    struct s2s *s = CONTAINER_OF(t, struct s2s, uplink.retry);
    (void)now_ms;
    move_all(s);
}

static void on_done(struct s2s *s, const struct wire_frame *f)
{
    struct span pairs = f->pairs;
    uint64_t token, result;
    while (wire_pair_next(&pairs, &token, &result)) {
        struct pending *p = idmap_get(&s->uplink.pending, token);
        if (p == NULL)
            continue; /* answered twice after a resend */
        if (result != WIRE_DONE_TAKEN) {
            set_waits(s, p, true);
        } else {
            metric_add(S2S_ROUTED_DONE);
            pending_done(s, p);
        }
    }
}

/* ---- stanzas from routers ---- */

/* True when this message was here before: a router died, and its successor sends again what it could not know
 * to be done. */
static bool taken_before(struct s2s *s, struct receipt *r, const struct wire_frame *f)
{
    struct uplink_hub *hub = &s->uplink;
    if (f->sid == 0 || f->stanza.kind == STANZA_PRESENCE)
        return false;
    uint64_t id = hash_stable(jid_full(&f->stanza.to), f->sid ^ f->n * UINT64_C(0x9e3779b97f4a7c15));
    id += id == 0;
    struct receipt *before = idmap_get(&hub->taken, id);
    if (before != NULL) { /* still on its way: who asks now is told when it is done */
        uplink_done(s, before);
        memcpy(before->node, r->node, sizeof before->node);
        before->incarnation = r->incarnation;
        before->token = r->token;
        r->token = 0;
        return true;
    }
    if (idmap_get(&hub->recent, id) != NULL || idmap_get(&hub->older, id) != NULL)
        return true;
    r->identity = id;
    idmap_put(&hub->taken, id, r);
    return false;
}

void uplink_taken(struct s2s *s, const struct wire_frame *f, struct bus_peer *from)
{
    struct receipt *r = receipt_for_router(from, f->token);
    const struct member_node *node = member_find(s->member, bus_peer_name(from));
    s->uplink.from_gateway = node != NULL && strcmp(node->role, "s2s") == 0;
    metric_add(S2S_TAKEN);
    if (f->targets.p != NULL) {
        relay_fanout(s, &f->stanza, f->targets, receipt_ref(r));
    } else if (f->stanza.to.domain_n > 0) {
        if (taken_before(s, r, f))
            metric_add(S2S_TAKEN_TWICE);
        else
            relay_stanza(s, &f->stanza, receipt_ref(r), f->sid, f->n);
    }
    s->uplink.from_gateway = false;
    receipt_unref(s, r);
}

static void on_route(struct s2s *s, const struct wire_frame *f, struct bus_peer *from, struct span frame)
{
    if (!f->has_stanza || f->stanza.from.domain_n == 0)
        metric_add(S2S_FRAMES_BAD);
    else if (!estate_keeps(s, from, f, frame))
        uplink_taken(s, f, from);
}

void uplink_frame(struct s2s *s, struct bus_peer *from, struct span frame)
{
    struct wire_frame f;
    if (!wire_decode(frame, &f)) {
        metric_add(S2S_FRAMES_BAD);
        log_warn("s2s",
                 "a malformed frame was dropped: do all processes run the same version? node=%s bytes=%zu",
                 bus_peer_name(from), frame.n);
        return;
    }
    if (f.epoch > member_epoch(s->member))
        member_refresh(s->member);
    if (f.kind == WIRE_ROUTE)
        on_route(s, &f, from, frame);
    else if (f.kind == WIRE_DONE)
        on_done(s, &f);
    else if (f.kind != WIRE_EPOCH)
        log_debug("s2s", "frame of a kind that is not for s2s kind=%s node=%s", wire_kind_name(f.kind),
                  bus_peer_name(from));
}

void uplink_peer_up(struct s2s *s)
{
    move_all(s);
}

void uplink_peer_gone(struct s2s *s, struct bus_peer *peer)
{
    size_t at = 0;
    struct pending *p;
    while ((p = idmap_next(&s->uplink.pending, &at)) != NULL)
        if (p->incarnation == bus_peer_incarnation(peer) && strcmp(p->node, bus_peer_name(peer)) == 0)
            set_waits(s, p, true);
    move_all(s);
}

void uplink_epoch(struct s2s *s)
{
    move_all(s);
}

void uplink_init(struct s2s *s)
{
    s->uplink.flush.fire = on_flush;
    s->uplink.retry.fire = on_retry;
}

void uplink_free(struct s2s *s)
{
    struct uplink_hub *hub = &s->uplink;
    size_t at = 0;
    struct pending *p;
    struct done_list *d;
    ring_timer_clear(s->ring, &hub->retry);
    ring_timer_clear(s->ring, &hub->flush);
    while ((p = idmap_next(&hub->pending, &at)) != NULL) {
        rcbuf_unref(p->frame);
        free(p->receipt);
        free(p);
    }
    at = 0;
    while ((d = map_next(&hub->dones, &at)) != NULL) {
        buf_free(&d->pairs);
        free(d);
    }
    idmap_free(&hub->pending);
    idmap_free(&hub->taken);
    idmap_free(&hub->recent);
    idmap_free(&hub->older);
    map_free(&hub->dones);
}
