/* Every stanza to another JID becomes a ROUTE frame with a token: to this router itself through core.local,
 * to another router or a gateway over the bus. A frame is kept until its DONE; when its slot moves, its node
 * dies or it is answered RETRY, it is decoded and dispatched anew (flag AGAIN).
 *
 * Order: receivers recognise what they have taken by its number being no higher than the last one taken, so
 * nothing may overtake. Once one frame to a slot was answered RETRY, the slot is stalled: what else is for it
 * waits, and then everything goes again in the order of its tokens. The receiver does its part: having said
 * RETRY it takes nothing more of that node for that slot until it sees the FIRST of a round. */
#include "router/route.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "router/parting.h"
#include "router/refusal.h"
#include "router/session.h"

/* When a slot changes hands, the new owner may learn it some milliseconds after the others; a store that is
 * away takes longer. */
#define RETRY_FIRST_MS 4
#define RETRY_MOST_MS  100
#define RETRY_CALM_MS  500 /* without a retry: the next one is a first one again */

/* A ROUTE that waits for its DONE. */
struct pending {
    uint64_t token;
    uint64_t sid; /* work to end when it is done; 0 = none */
    uint64_t n;
    struct list of_session; /* in session.routed */
    uint16_t slot;          /* NO_SLOT for a fan-out and a gateway */
    bool retry;
    bool full;           /* the store there is */
    char node[64];       /* empty = nobody to send it to yet */
    struct rcbuf *frame; /* encoded */
};

#define NO_SLOT 0xffffu

static struct stat_counter routed_local =
    STAT_COUNTER("jackdaw_router_routed_total", "Stanzas routed, by distance", "distance=\"shard\"");
static struct stat_counter routed_router =
    STAT_COUNTER("jackdaw_router_routed_total", "Stanzas routed, by distance", "distance=\"router\"");
static struct stat_counter routed_gateway =
    STAT_COUNTER("jackdaw_router_routed_total", "Stanzas routed, by distance", "distance=\"gateway\"");
static struct stat_counter routed_again =
    STAT_COUNTER("jackdaw_router_rerouted_total", "Stanzas sent again after a change of owner", NULL);
static struct stat_counter no_gateway =
    STAT_COUNTER("jackdaw_router_no_gateway_total", "Stanzas answered because no s2s process is alive", NULL);

static struct stat_counter too_large = STAT_COUNTER(
    "jackdaw_router_too_large_total", "Stanzas refused because their frame would be too large", NULL);

void route_register_stats(void)
{
    stat_register(&too_large.meta);
    stat_register(&routed_local.meta);
    stat_register(&routed_router.meta);
    stat_register(&routed_gateway.meta);
    stat_register(&routed_again.meta);
    stat_register(&no_gateway.meta);
}

static void pending_free(struct pending *p)
{
    list_del(&p->of_session);
    rcbuf_unref(p->frame);
    free(p);
}

static struct rcbuf *encode(const struct wire_frame *f)
{
    struct rcbuf *r = xmalloc(sizeof *r + wire_size(f));
    r->refs = 1;
    r->n = wire_encode(f, r->data);
    return r;
}

static void retry_fire(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    route_reroute(CONTAINER_OF(t, struct core, retry));
}

static void retry_soon(struct core *c)
{
    if (timer_is_set(&c->retry))
        return;
    c->retry.fire = retry_fire;
    if (c->now_ms > c->retry_at_ms + RETRY_CALM_MS)
        c->retry_ms = 0;
    c->retry_ms = MIN(MAX(c->retry_ms * 2, RETRY_FIRST_MS), RETRY_MOST_MS);
    c->retry_at_ms = c->now_ms + c->retry_ms;
    timer_set(&c->timers, &c->retry, c->retry_at_ms);
}

/* The slot of a bare JID here, NO_SLOT for one elsewhere. */
static uint16_t local_slot(const struct core *c, struct span bare)
{
    struct jid jid;
    return jid_split(bare, &jid) && core_is_local_domain(c, jid_domain(&jid)) ? c->out.slot(bare) : NO_SLOT;
}

/* No link at this very moment: the next epoch finds it a way, or the old node is linked anew. What else is
 * for its slots waits behind it. */
static void stall(struct core *c, struct pending *p, const struct wire_frame *f)
{
    struct span targets = f->targets;
    struct wire_target t;
    p->node[0] = '\0';
    slots_set(&c->stalled, p->slot, true);
    while (p->slot == NO_SLOT && targets.p != NULL && wire_target_next(&targets, &t))
        slots_set(&c->stalled, local_slot(c, t.to), true);
    retry_soon(c);
}

/* Gives f a token and sends it to a node (NULL: nobody yet), keeping it until it is done. */
static void dispatch(struct core *c, const char *node, struct wire_frame *f, uint64_t sid, uint64_t n)
{
    struct pending *p = xcalloc(1, sizeof *p);
    p->token = ++c->next_token;
    p->sid = sid;
    p->n = n;
    p->slot = f->slot;
    f->kind = WIRE_ROUTE;
    f->flags = (uint16_t)((f->flags & ~WIRE_FIRST) | WIRE_ORDERED);
    if (c->rerouting && f->slot < SLOT_COUNT && !slots_has(&c->begun, f->slot)) {
        slots_set(&c->begun, f->slot, true);
        f->flags |= WIRE_FIRST;
    }
    f->token = p->token;
    f->epoch = c->epoch;
    core_copy_node(p->node, node != NULL ? node : "");
    idmap_put(&c->pending, p->token, p);
    list_init(&p->of_session);
    struct session *s = sid != 0 ? session_find(c, sid) : NULL;
    struct list *routed = s != NULL ? &s->routed : sid != 0 ? parting_routed(c, sid) : NULL;
    if (s != NULL)
        session_work_begin(s, n);
    if (routed != NULL)
        list_add(routed, &p->of_session);
    p->frame = encode(f);
    if (slots_has(&c->stalled, p->slot)) {
        p->node[0] = '\0'; /* behind what is to be sent again */
        return;
    }
    if (node != NULL && strcmp(node, c->name) == 0) {
        struct rcbuf *frame = rcbuf_ref(p->frame);
        stat_add(&routed_local, 1);
        buf_add(&c->local, &frame, sizeof frame);
        return;
    }
    if (node == NULL || !c->out.send_bytes(c->out.ctx, node, rcbuf_span(p->frame)))
        stall(c, p, f);
}

static void fill(struct wire_frame *f, const struct stanza *s, const struct origin *origin)
{
    memset(f, 0, offsetof(struct wire_frame, stanza));
    f->has_stanza = true;
    f->stanza = *s;
    f->slot = NO_SLOT;
    if (origin != NULL) {
        f->sid = origin->sid;
        f->n = origin->n;
        f->at_ms = origin->at_ms;
        f->trace[0] = origin->trace[0];
        f->trace[1] = origin->trace[1];
    }
}

static void to_gateway(struct core *c, struct wire_frame *f, struct span domain, struct span from_bare)
{
    const char *node = c->out.gateway(c->out.ctx, domain, from_bare);
    if (node == NULL) {
        stat_add(&no_gateway, 1);
        log_warn("route", "no s2s process is alive, answering with an error: start one domain=%.*s",
                 SPAN_FMT(domain));
        route_error(c, &f->stanza, from_bare, STANZA_E_REMOTE_SERVER_TIMEOUT, "federation is not available");
        return;
    }
    stat_add(&routed_gateway, 1);
    dispatch(c, node, f, f->sid, f->n);
}

/* No link takes it. Its sender is told, in an answer that fits: without the stanza's id when that is what is
 * so long. */
static bool is_too_large(struct core *c, const struct wire_frame *f)
{
    if (wire_size(f) <= WIRE_MAX_BYTES)
        return false;
    stat_add(&too_large, 1);
    log_warn("route", "a stanza is too large to be sent on from=%.*s bytes=%zu",
             SPAN_FMT(jid_full(&f->stanza.from)), f->stanza.raw.n);
    if (f->stanza.id.n < WIRE_ROOM)
        route_error(c, &f->stanza, jid_bare(&f->stanza.to), STANZA_E_POLICY_VIOLATION, "it is too large");
    return true;
}

static void route_frame(struct core *c, struct wire_frame *f)
{
    struct jid *to = &f->stanza.to;
    if (to->domain_n == 0 || is_too_large(c, f))
        return;
    if (!core_is_local_domain(c, jid_domain(to))) {
        to_gateway(c, f, jid_domain(to), jid_bare(&f->stanza.from));
        return;
    }
    f->slot = c->out.slot(jid_bare(to));
    /* A domain itself has no state: this router answers for it. */
    const char *node = to->local_n == 0 ? c->name : core_owner(c, f->slot);
    if (node != NULL && strcmp(node, c->name) != 0)
        stat_add(&routed_router, 1);
    dispatch(c, node, f, f->sid, f->n);
}

void route_stanza(struct core *c, const struct stanza *s, const struct origin *origin)
{
    struct wire_frame f;
    fill(&f, s, origin);
    route_frame(c, &f);
}

bool route_raw(struct core *c, struct span raw, const struct origin *origin)
{
    struct stanza s;
    if (!stanza_index(c->parser, raw, &s) || s.to.domain_n == 0) {
        log_error("route", "BUG: a stanza of our own is malformed, dropped: %.*s", (int)MIN(raw.n, 200),
                  raw.p);
        return false;
    }
    route_stanza(c, &s, origin);
    return true;
}

void route_error(struct core *c, const struct stanza *s, struct span own_bare, enum stanza_error error,
                 const char *text)
{
    if (!stanza_may_error(s) || s->from.domain_n == 0)
        return;
    struct buf out = {0};
    stanza_add_error(&out, s, own_bare, error, text);
    route_raw(c, buf_span(&out), NULL);
    buf_free(&out);
}

/* Fan-out: one frame per node that owns some of the targets. */

struct bundle {
    const char *node; /* NULL = no owner now */
    bool gateway;
    uint16_t slot; /* NO_SLOT, but for a slot that is stalled: presence keeps its order there, too */
    struct buf targets;
};

/* The open bundle; a full one stays as it is and leaves before it. */
static struct bundle *bundle_for(struct bundle **bundles, size_t *count, const char *node, bool gateway,
                                 uint16_t slot)
{
    for (size_t i = 0; i < *count; i++)
        if ((*bundles)[i].gateway == gateway && (*bundles)[i].slot == slot &&
            (*bundles)[i].targets.n < WIRE_LIST_MAX &&
            ((*bundles)[i].node == node ||
             (node != NULL && (*bundles)[i].node != NULL && strcmp((*bundles)[i].node, node) == 0)))
            return &(*bundles)[i];
    *bundles = xrealloc(*bundles, (*count + 1) * sizeof **bundles);
    struct bundle *b = &(*bundles)[(*count)++];
    *b = (struct bundle){.node = node, .gateway = gateway, .slot = slot};
    return b;
}

static void bundle_target(struct core *c, struct bundle **bundles, size_t *count, struct span target,
                          struct span from_bare)
{
    struct jid jid;
    if (!jid_split(target, &jid))
        return;
    bool local = core_is_local_domain(c, jid_domain(&jid));
    uint16_t slot = local ? c->out.slot(target) : NO_SLOT;
    const char *node = local ? core_owner(c, slot) : c->out.gateway(c->out.ctx, jid_domain(&jid), from_bare);
    if (!local && node == NULL) {
        /* Presence to another server while no s2s is alive: told again at the next change. */
        stat_add(&no_gateway, 1);
        return;
    }
    if (!slots_has(&c->stalled, slot))
        slot = NO_SLOT;
    struct wire_target t = {.to = target};
    wire_target_add(&bundle_for(bundles, count, node, !local, slot)->targets, &t);
}

static void send_bundles(struct core *c, struct wire_frame *f, struct bundle *bundles, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        f->slot = bundles[i].slot;
        f->targets = buf_span(&bundles[i].targets);
        stat_add(bundles[i].gateway ? &routed_gateway : &routed_router, 1);
        dispatch(c, bundles[i].node, f, f->sid, f->n);
        buf_free(&bundles[i].targets);
    }
    free(bundles);
}

void route_fanout(struct core *c, const struct stanza *s, const struct span *targets, size_t count,
                  const struct origin *origin, unsigned wire_flags)
{
    struct wire_frame f;
    struct bundle *bundles = NULL;
    size_t bundle_count = 0;
    fill(&f, s, origin);
    f.flags = (uint16_t)wire_flags;
    if (is_too_large(c, &f))
        return;
    for (size_t i = 0; i < count; i++)
        bundle_target(c, &bundles, &bundle_count, targets[i], jid_bare(&s->from));
    send_bundles(c, &f, bundles, bundle_count);
}

/* DONE, in both directions */

void route_done(struct core *c, const char *node, uint64_t token, enum wire_done result)
{
    if (token != 0)
        core_pair(&c->done_lists, node, token, result);
}

/* What a node has been told to send again, per slot. */
struct refused {
    char node[64];
    struct slots slots;
    struct slots messages; /* only those: the store had no room */
};

static struct refused *refused_of(struct core *c, const char *node)
{
    struct refused *r = map_get(&c->refused, span_of(node));
    if (r != NULL)
        return r;
    r = xcalloc(1, sizeof *r);
    snprintf(r->node, sizeof r->node, "%s", node);
    map_put(&c->refused, span_of(r->node), r);
    return r;
}

void route_refuse(struct core *c, const char *node, uint16_t slot, uint64_t token)
{
    if (token == 0)
        return;
    slots_set(&refused_of(c, node)->slots, slot, true);
    route_done(c, node, token, WIRE_DONE_RETRY);
}

void route_refuse_message(struct core *c, const char *node, uint16_t slot, uint64_t token)
{
    if (token == 0)
        return;
    slots_set(&refused_of(c, node)->messages, slot, true);
    route_done(c, node, token, user_store_is_full(c) ? WIRE_DONE_FULL : WIRE_DONE_RETRY);
}

bool route_is_refused(const struct core *c, const char *node, uint16_t slot)
{
    const struct refused *r = c->refused.count > 0 ? map_get(&c->refused, span_of(node)) : NULL;
    return r != NULL && slots_has(&r->slots, slot);
}

bool route_refused_too(struct core *c, const char *node, const struct wire_frame *f, bool waited)
{
    struct refused *r = c->refused.count > 0 ? map_get(&c->refused, span_of(node)) : NULL;
    if (r == NULL || (f->flags & WIRE_ORDERED) == 0)
        return false;
    if ((f->flags & WIRE_FIRST) != 0 && !waited) {
        slots_set(&r->slots, f->slot, false);
        slots_set(&r->messages, f->slot, false);
    }
    if (slots_has(&r->slots, f->slot)) {
        route_refuse(c, node, f->slot, f->token);
        return true;
    }
    if (f->stanza.kind != STANZA_MESSAGE || !slots_has(&r->messages, f->slot))
        return false;
    route_refuse_message(c, node, f->slot, f->token);
    return true;
}

void route_on_done(struct core *c, struct span pairs)
{
    uint64_t token, result;
    while (wire_pair_next(&pairs, &token, &result)) {
        struct pending *p = idmap_get(&c->pending, token);
        if (p == NULL)
            continue; /* answered twice after a resend */
        if (result != WIRE_DONE_TAKEN) {
            p->retry = true;
            p->full = result == WIRE_DONE_FULL;
            slots_set(&c->stalled, p->slot, true);
            retry_soon(c);
            continue;
        }
        idmap_del(&c->pending, token);
        if (p->sid != 0)
            session_work_end(c, p->sid, p->n);
        pending_free(p);
    }
}

void route_abandon(struct core *c, struct list *routed)
{
    struct list *it;
    while ((it = list_pop(routed)) != NULL) {
        struct pending *p = LIST_ENTRY(it, struct pending, of_session);
        idmap_del(&c->pending, p->token);
        pending_free(p);
    }
}

/* Rerouting */

static bool stays(struct core *c, const struct pending *p, struct span target)
{
    uint16_t slot = local_slot(c, target);
    if (slot == NO_SLOT)
        return true;
    const char *owner = core_owner(c, slot);
    return owner != NULL && strcmp(owner, p->node) == 0 && !slots_has(&c->resumed, slot);
}

static bool has_moved_target(struct core *c, const struct pending *p)
{
    struct wire_frame f;
    struct wire_target t;
    if (!wire_decode(rcbuf_span(p->frame), &f))
        return true; /* move() ends it */
    while (f.targets.p != NULL && wire_target_next(&f.targets, &t))
        if (!stays(c, p, t.to))
            return true;
    return false;
}

static bool must_move(struct core *c, const struct pending *p)
{
    if (p->retry || p->node[0] == '\0' || slots_has(&c->stalled, p->slot))
        return true;
    if (strcmp(p->node, c->name) == 0)
        return false; /* in this process: it answers */
    if (p->slot != NO_SLOT) {
        const char *owner = core_owner(c, p->slot);
        return owner == NULL || strcmp(owner, p->node) != 0;
    }
    return !c->out.alive(c->out.ctx, p->node, 0) || has_moved_target(c, p);
}

/* A fan-out whose node lives goes again only to targets that are another's now, or whose slot is taken up
 * again with what was before it; to the others it has been sent. True when such are left, and it stays
 * pending for them. */
static bool split(struct core *c, struct pending *p, struct wire_frame *f)
{
    struct bundle *bundles = NULL;
    size_t count = 0;
    struct buf staying = {0};
    struct span targets = f->targets;
    struct wire_target t;
    bool sent = !p->retry && p->node[0] != '\0' && p->slot == NO_SLOT;
    if (!sent || targets.p == NULL || !c->out.alive(c->out.ctx, p->node, 0))
        return false;
    while (wire_target_next(&targets, &t))
        if (stays(c, p, t.to))
            wire_target_add(&staying, &t);
    if (staying.n == 0)
        return false;
    struct wire_frame rest = *f;
    rest.targets = buf_span(&staying);
    struct rcbuf *kept = encode(&rest);
    buf_free(&staying);
    targets = f->targets;
    f->flags |= WIRE_AGAIN;
    while (wire_target_next(&targets, &t))
        if (!stays(c, p, t.to))
            bundle_target(c, &bundles, &count, t.to, jid_bare(&f->stanza.from));
    send_bundles(c, f, bundles, count);
    rcbuf_unref(p->frame);
    p->frame = kept;
    idmap_put(&c->pending, p->token, p);
    return true;
}

/* The sender is there: better an answer than waiting for a store that is full. */
static bool answer_full(struct core *c, const struct pending *p, const struct stanza *stanza)
{
    struct session *s = p->full && p->sid != 0 ? session_find(c, p->sid) : NULL;
    return s != NULL && refusal_send(s, stanza, p->n);
}

static void move(struct core *c, struct pending *p)
{
    struct wire_frame f;
    if (!wire_decode(rcbuf_span(p->frame), &f)) {
        log_error("route", "BUG: a frame of our own cannot be read, dropped bytes=%zu", (size_t)p->frame->n);
        stat_add(&too_large, 1);
        if (p->sid != 0)
            session_work_end(c, p->sid, p->n);
        pending_free(p);
        return;
    }
    if (answer_full(c, p, &f.stanza)) {
        pending_free(p);
        return;
    }
    stat_add(&routed_again, 1);
    if (split(c, p, &f))
        return;
    f.flags |= WIRE_AGAIN;
    if (f.targets.p != NULL) {
        struct bundle *bundles = NULL;
        size_t count = 0;
        struct span targets = f.targets;
        struct wire_target t;
        while (wire_target_next(&targets, &t))
            bundle_target(c, &bundles, &count, t.to, jid_bare(&f.stanza.from));
        send_bundles(c, &f, bundles, count);
    } else {
        route_frame(c, &f);
    }
    if (p->sid != 0)
        session_work_end(c, p->sid, p->n); /* the new dispatch has begun its own */
    pending_free(p);
}

static int by_token(const void *a, const void *b)
{
    const struct pending *x = *(struct pending *const *)a, *y = *(struct pending *const *)b;
    return x->token < y->token ? -1 : x->token > y->token;
}

/* What this router itself has taken for a slot that is another's now will be answered, TAKEN or RETRY, when
 * its commit is; until then nothing behind it may go to the new owner. */
static void stall_behind_own(struct core *c)
{
    size_t at = 0;
    struct pending *p;
    while ((p = idmap_next(&c->pending, &at)) != NULL) {
        if (p->retry || p->slot == NO_SLOT || strcmp(p->node, c->name) != 0)
            continue;
        const char *owner = c->out.owner(c->out.ctx, p->slot);
        if (owner != NULL && strcmp(owner, c->name) == 0)
            continue;
        slots_set(&c->stalled, p->slot, true);
        retry_soon(c);
    }
}

void route_reroute(struct core *c)
{
    struct pending **all = xmalloc((c->pending.count + 1) * sizeof *all);
    size_t count = 0, at = 0;
    c->resumed = c->stalled;
    struct pending *p;
    while ((p = idmap_next(&c->pending, &at)) != NULL)
        if (must_move(c, p))
            all[count++] = p;
    c->stalled = (struct slots){0};
    stall_behind_own(c);
    /* In the order in which they were first sent: order per stream is a promise. */
    qsort(all, count, sizeof *all, by_token);
    for (size_t i = 0; i < count; i++)
        idmap_del(&c->pending, all[i]->token);
    c->begun = (struct slots){0};
    c->rerouting = true;
    for (size_t i = 0; i < count; i++)
        move(c, all[i]);
    c->rerouting = false;
    free(all);
}

void route_node_gone(struct core *c, const char *node)
{
    size_t at = 0;
    struct pending *p;
    while ((p = idmap_next(&c->pending, &at)) != NULL)
        if (strcmp(p->node, node) == 0)
            p->retry = true;
    free(map_del(&c->refused, span_of(node)));
    route_reroute(c);
}

void route_forget(struct core *c)
{
    size_t at = 0;
    struct pending *p;
    while ((p = idmap_next(&c->pending, &at)) != NULL)
        pending_free(p);
    idmap_free(&c->pending);
    struct refused *r;
    at = 0;
    while ((r = map_next(&c->refused, &at)) != NULL)
        free(r);
    map_free(&c->refused);
    c->stalled = (struct slots){0};
    for (at = 0; at < c->local.n; at += sizeof(struct rcbuf *)) {
        struct rcbuf *frame;
        memcpy(&frame, c->local.p + at, sizeof frame);
        rcbuf_unref(frame);
    }
    buf_clear(&c->local);
}
