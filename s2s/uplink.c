/* What leaves is kept encoded in an outbox (common/outbox) until its DONE, a lane for each slot and for each
 * s2s process that something is forwarded to. It goes to the owner of its slot when that one's link is up;
 * else it waits, and so does everything behind it for that slot. What a router refuses goes again with all
 * that was refused of its slot, marked as router/route.c marks it (ORDERED, FIRST): the recipient's mailbox
 * knows a leg's numbers exactly for the last 64 only, so nothing of a leg may overtake there. A new epoch, a
 * new link, a dead node and a timer look for ways for all that wait. */
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

#define NO_SLOT       0xffffu
#define RECENT_MAX    65536 /* identities of one generation */
#define UPLINK_MAX    65536 /* stanzas that nobody waits for: beyond, they are dropped */
#define FORWARD_LANES 1024  /* of other s2s processes, by hash of their names */
#define TELL_AFTER    64    /* times that a stanza has left: then the log says so */

struct pending {
    struct outbox_item item;
    struct list forward; /* in uplink_hub.forwards */
    uint16_t slot;       /* NO_SLOT: to another s2s process */
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
            if (to != NULL)
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

static struct pending *pending_of(const struct outbox_item *i)
{
    return CONTAINER_OF(i, struct pending, item);
}

static struct rcbuf *encode(const struct wire_frame *f)
{
    struct rcbuf *r = xmalloc(sizeof *r + wire_size(f));
    r->refs = 1;
    r->n = wire_encode(f, r->data);
    return r;
}

/* Its frame as it is to leave now. */
static void mark(struct s2s *s, struct pending *p, unsigned marks)
{
    struct wire_frame f;
    CHECK(wire_decode(rcbuf_span(p->frame), &f)); /* our own encoding */
    f.token = p->item.token;
    f.epoch = member_epoch(s->member);
    f.flags = WIRE_ORDERED | ((marks & OUTBOX_AGAIN) != 0 ? WIRE_AGAIN : 0) |
              ((marks & OUTBOX_FIRST) != 0 ? WIRE_FIRST : 0);
    struct rcbuf *frame = encode(&f);
    rcbuf_unref(p->frame);
    p->frame = frame;
}

static const struct member_node *receiver(const struct s2s *s, const struct pending *p)
{
    return p->slot == NO_SLOT ? member_find(s->member, p->node) : member_owner(s->member, p->slot);
}

static bool on_send(void *ctx, struct outbox_item *i, unsigned marks)
{
    struct s2s *s = ctx;
    struct pending *p = pending_of(i);
    const struct member_node *node = receiver(s, p);
    struct bus_peer *peer = node != NULL ? bus_peer(s->bus, node->name) : NULL;
    if (peer == NULL || !bus_peer_is_up(peer) || bus_peer_incarnation(peer) != node->incarnation ||
        !bus_ready(peer))
        return false;
    snprintf(p->node, sizeof p->node, "%s", node->name);
    p->incarnation = node->incarnation;
    mark(s, p, marks);
    bus_send(peer, rcbuf_span(p->frame));
    if ((marks & OUTBOX_AGAIN) != 0)
        metric_add(S2S_ROUTED_AGAIN);
    if (i->sent + 1 == TELL_AFTER)
        log_warn("s2s", "a stanza has been refused %d times: is the store full or away? node=%s slot=%u",
                 TELL_AFTER - 1, p->node, p->slot);
    return true;
}

static void look_again(struct s2s *s)
{
    if (s->uplink.outbox.waiting > 0 && !timer_is_set(&s->uplink.retry))
        ring_timer_set(s->ring, &s->uplink.retry, outbox_pause(&s->uplink.outbox, ring_now_ms(s->ring)));
}

static void pending_add(struct s2s *s, struct pending *p, uint64_t lane)
{
    outbox_add(&s->uplink.outbox, &p->item, lane);
    stat_set(&metric_pending, (int64_t)s->uplink.outbox.count);
    look_again(s);
}

static struct pending *pending_new(const struct stanza *stanza, uint16_t slot, struct receipt *receipt,
                                   uint64_t sid, uint64_t n)
{
    struct pending *p = xcalloc(1, sizeof *p);
    struct wire_frame f = {.kind = WIRE_ROUTE,
                           .slot = slot,
                           .at_ms = clock_wall_ms(),
                           .sid = sid,
                           .n = n,
                           .trace = {sid, n},
                           .has_stanza = true,
                           .stanza = *stanza};
    p->slot = slot;
    p->receipt = receipt;
    p->frame = encode(&f);
    list_init(&p->forward);
    return p;
}

/* It has left the outbox. */
static void pending_free(struct s2s *s, struct pending *p)
{
    list_del(&p->forward);
    stat_set(&metric_pending, (int64_t)s->uplink.outbox.count);
    receipt_unref(s, p->receipt);
    rcbuf_unref(p->frame);
    free(p);
}

/* What a stream brought is bounded by what it may have unacknowledged; what nobody waits for, by this. */
static bool has_room(struct s2s *s, const struct receipt *receipt)
{
    if (receipt != NULL || s->uplink.outbox.count < UPLINK_MAX)
        return true;
    metric_add(S2S_DROPPED);
    return false;
}

void uplink_route(struct s2s *s, const struct stanza *stanza, struct receipt *receipt, uint64_t sid,
                  uint64_t n)
{
    if (!has_room(s, receipt))
        return;
    struct pending *p = pending_new(stanza, member_slot(jid_bare(&stanza->to)), receipt, sid, n);
    metric_add(S2S_ROUTED);
    pending_add(s, p, p->slot);
}

void uplink_forward(struct s2s *s, const char *node, const struct stanza *stanza, struct receipt *receipt,
                    uint64_t sid, uint64_t n)
{
    if (!has_room(s, receipt))
        return;
    struct pending *p = pending_new(stanza, NO_SLOT, receipt, sid, n);
    snprintf(p->node, sizeof p->node, "%s", node);
    list_add(&s->uplink.forwards, &p->forward);
    metric_add(S2S_FORWARDED);
    pending_add(s, p, NO_SLOT + hash_stable(span_of(node), 0) % FORWARD_LANES);
}

/* ---- again ---- */

static bool is_lost(void *ctx, const struct outbox_item *i)
{
    const struct pending *p = pending_of(i);
    const struct s2s *s = ctx;
    const struct bus_peer *gone = s->uplink.lost;
    if (gone != NULL && p->incarnation == bus_peer_incarnation(gone) &&
        strcmp(p->node, bus_peer_name(gone)) == 0)
        return true;
    const struct member_node *node = receiver(s, p);
    return node == NULL || strcmp(node->name, p->node) != 0 || node->incarnation != p->incarnation;
}

/* A component's connection went while stanzas were under way to the process that had it, or that one cannot
 * be reached: who has it now? */
static void forward_again(struct s2s *s)
{
    struct list again;
    struct list *it;
    list_init(&again);
    LIST_EACH (at, &s->uplink.forwards) {
        struct pending *p = LIST_ENTRY(at, struct pending, forward);
        if (p->item.token != 0)
            continue;
        outbox_remove(&s->uplink.outbox, &p->item);
        list_del(&p->forward);
        list_add(&again, &p->forward);
    }
    while ((it = list_pop(&again)) != NULL) {
        struct pending *p = LIST_ENTRY(it, struct pending, forward);
        struct wire_frame f;
        if (wire_decode(rcbuf_span(p->frame), &f) && f.has_stanza)
            relay_stanza(s, &f.stanza, receipt_ref(p->receipt), f.sid, f.n);
        pending_free(s, p);
    }
}

static void move_all(struct s2s *s)
{
    outbox_lost(&s->uplink.outbox, is_lost);
    forward_again(s);
    outbox_round(&s->uplink.outbox);
    look_again(s);
}

static void on_retry(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    move_all(CONTAINER_OF(t, struct s2s, uplink.retry));
}

/* The store there has had no room for a while: better an answer to the sender than a stream on which nothing
 * is acknowledged any more, whoever it is for. */
static void answer_full(struct s2s *s, struct pending *p)
{
    struct wire_frame f;
    struct buf out = {0};
    CHECK(wire_decode(rcbuf_span(p->frame), &f)); /* our own encoding */
    if (!stanza_may_error(&f.stanza))
        return; /* it waits for room */
    outbox_remove(&s->uplink.outbox, &p->item);
    metric_bounced(STANZA_E_RESOURCE_CONSTRAINT);
    stanza_add_error(&out, &f.stanza, (struct span){0}, STANZA_E_RESOURCE_CONSTRAINT,
                     "the server's store is full");
    relay_raw(s, buf_span(&out));
    pending_free(s, p);
    buf_free(&out);
}

static void on_done(struct s2s *s, const struct wire_frame *f)
{
    struct span pairs = f->pairs;
    uint64_t token, result;
    while (wire_pair_next(&pairs, &token, &result)) {
        struct outbox_item *i = outbox_answer(&s->uplink.outbox, token, result == WIRE_DONE_TAKEN);
        if (i == NULL)
            continue; /* about a sending before the last one */
        if (result == WIRE_DONE_TAKEN) {
            metric_add(S2S_ROUTED_DONE);
            pending_free(s, pending_of(i));
        } else if (result == WIRE_DONE_FULL) {
            answer_full(s, pending_of(i));
        }
    }
    look_again(s);
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

/* Nothing can be made of it; its router must not wait for ever. */
static void refuse_frame(struct s2s *s, struct bus_peer *from, uint64_t token)
{
    metric_add(S2S_FRAMES_BAD);
    receipt_unref(s, receipt_for_router(from, token));
}

static void on_route(struct s2s *s, const struct wire_frame *f, struct bus_peer *from, struct span frame)
{
    if (!f->has_stanza || f->stanza.from.domain_n == 0)
        refuse_frame(s, from, f->token);
    else if (!estate_keeps(s, from, f, frame))
        uplink_taken(s, f, from);
}

void uplink_frame(struct s2s *s, struct bus_peer *from, struct span frame)
{
    struct wire_frame f;
    if (!wire_decode(frame, &f)) {
        log_warn("s2s",
                 "a malformed frame was dropped: do all processes run the same version? node=%s bytes=%zu",
                 bus_peer_name(from), frame.n);
        wire_salvage(frame, &f);
        refuse_frame(s, from, f.kind == WIRE_ROUTE ? f.token : 0);
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
    s->uplink.lost = peer;
    move_all(s);
    s->uplink.lost = NULL;
}

void uplink_epoch(struct s2s *s)
{
    move_all(s);
}

void uplink_init(struct s2s *s)
{
    s->uplink.flush.fire = on_flush;
    s->uplink.retry.fire = on_retry;
    s->uplink.outbox.ctx = s;
    s->uplink.outbox.send = on_send;
    list_init(&s->uplink.forwards);
}

void uplink_free(struct s2s *s)
{
    struct uplink_hub *hub = &s->uplink;
    size_t at = 0;
    struct outbox_item *i;
    struct done_list *d;
    ring_timer_clear(s->ring, &hub->retry);
    ring_timer_clear(s->ring, &hub->flush);
    while ((i = outbox_pop(&hub->outbox)) != NULL) {
        struct pending *p = pending_of(i);
        rcbuf_unref(p->frame);
        free(p->receipt);
        free(p);
    }
    outbox_free(&hub->outbox);
    while ((d = map_next(&hub->dones, &at)) != NULL) {
        buf_free(&d->pairs);
        free(d);
    }
    idmap_free(&hub->taken);
    idmap_free(&hub->recent);
    idmap_free(&hub->older);
    map_free(&hub->dones);
}
