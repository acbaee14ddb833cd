/* Links between nodes with the rules of common/bus: each frame once and in order between two live link
 * objects, frames wait for the link to come up and through a cut; what a dead node or a dropped link had
 * under way arrives up to some point and is lost from there on. A link that comes up pairs two objects; a
 * side that had another partner before is told gone and up. */
#include "tests/sim/sim.h"

static void channel_move(void *a, uint64_t b);

static struct endpoint *end_of(struct channel *ch)
{
    struct node *n = &w.nodes[ch->to];
    struct endpoint *e = n->up ? n->peers[ch->from] : NULL;
    return e != NULL && e->object == ch->to_object ? e : NULL;
}

static void channel_plan(struct channel *ch)
{
    if (ch->moving || ch->first == NULL || ch->to_object == 0)
        return;
    ch->moving = true;
    uint64_t at = MAX(ch->first->at_us, w.now_us);
    sim_after(at - w.now_us, channel_move, ch, 0);
}

/* The story with --frames. */
static void tell_frame(const struct node *from, const struct node *to, struct span bytes)
{
    struct wire_frame f;
    struct wire_target t;
    struct buf list = {0};
    uint64_t a, b;
    CHECK(wire_decode(bytes, &f));
    while (f.targets.p != NULL && wire_target_next(&f.targets, &t))
        buf_addf(&list, " %04x:%u%.*s", (unsigned)(t.sid & 0xffff), (unsigned)t.n, SPAN_FMT(t.to));
    while (f.pairs.p != NULL && wire_pair_next(&f.pairs, &a, &b))
        buf_addf(&list, " %04x:%u", (unsigned)(a & 0xffff), (unsigned)b);
    struct span raw = f.has_stanza ? f.stanza.raw : f.raw;
    sim_say("    %s > %s %s%s sid=%04x n=%u num=%u token=%u%s %.*s", from->name, to->name,
            wire_kind_name(f.kind), f.flags & WIRE_AGAIN ? " again" : "", (unsigned)(f.sid & 0xffff),
            (unsigned)f.n, (unsigned)f.num, (unsigned)f.token, buf_cstr(&list), (int)MIN(raw.n, 90), raw.p);
    buf_free(&list);
}

static void channel_move(void *a, uint64_t b)
{
    (void)b;
    struct channel *ch = a;
    struct endpoint *e = end_of(ch);
    ch->moving = false;
    if (e == NULL || ch->first == NULL) { /* nobody there any more */
        ch->first = ch->last = NULL;
        return;
    }
    struct node *to = &w.nodes[ch->to];
    if (w.cut[ch->from][ch->to]) {
        ch->moving = true;
        sim_after(5 * MS, channel_move, ch, 0);
        return;
    }
    ch->moving = true;
    if (node_frozen(to, channel_move, ch, 0))
        return;
    ch->moving = false;
    struct packet *p = ch->first;
    ch->first = p->next;
    if (ch->first == NULL)
        ch->last = NULL;
    if (w.frames)
        tell_frame(&w.nodes[ch->from], to, span_make(p->bytes, p->n));
    node_frame(to, e, span_make(p->bytes, p->n));
    channel_plan(ch);
}

static uint64_t delay(void)
{
    return sim_chance(5) ? sim_between(1 * MS, 30 * MS) : sim_between(20, 800);
}

static void channel_add(struct channel *ch, struct span frame)
{
    struct packet *p = sim_alloc(sizeof *p + frame.n);
    p->n = frame.n;
    memcpy(p->bytes, frame.p, frame.n);
    p->at_us = w.now_us + delay();
    if (ch->last != NULL) {
        p->at_us = MAX(p->at_us, ch->last->at_us);
        ch->last->next = p;
    } else {
        ch->first = p;
    }
    ch->last = p;
    channel_plan(ch);
}

/* Of what is under way only the first few arrive. */
static void channel_break(struct channel *ch)
{
    unsigned count = 0;
    for (struct packet *p = ch->first; p != NULL; p = p->next)
        count++;
    if (count == 0)
        return;
    uint64_t keep = ch->to_object == 0 ? 0 : sim_random(count + 1);
    if (keep == 0) {
        ch->first = ch->last = NULL;
        return;
    }
    struct packet *p = ch->first;
    while (--keep > 0)
        p = p->next;
    p->next = NULL;
    ch->last = p;
}

/* ---- endpoints ---- */

static bool is_void(const struct node *n, uint64_t incarnation)
{
    for (unsigned i = 0; i < VOIDED_MAX; i++)
        if (n->voided[i] == incarnation)
            return true;
    return false;
}

static struct endpoint *make(struct node *n, int peer, uint64_t incarnation, bool linked)
{
    struct endpoint *e = sim_alloc(sizeof *e);
    e->peer = peer;
    e->incarnation = incarnation;
    e->object = random_u64();
    e->linked = linked;
    e->out = sim_alloc(sizeof *e->out);
    *e->out = (struct channel){
        .from = n->at, .to = peer, .from_incarnation = n->incarnation, .from_object = e->object};
    n->peers[peer] = e;
    return e;
}

static void end(struct node *n, struct endpoint *e)
{
    channel_break(e->out);
    n->peers[e->peer] = NULL;
    if (e->linked) {
        n->voided[n->voided_at] = e->incarnation;
        n->voided_at = (n->voided_at + 1) % VOIDED_MAX;
    }
    e->up = false;
    node_peer_gone(n, e);
}

void link_want(struct node *n, int peer, uint64_t incarnation)
{
    struct endpoint *e = n->peers[peer];
    for (unsigned i = 0; i < VOIDED_MAX; i++)
        if (n->voided[i] == incarnation)
            n->voided[i] = 0;
    if (e != NULL && e->incarnation != incarnation) {
        end(n, e);
        e = n->peers[peer];
    }
    if (e == NULL)
        e = make(n, peer, incarnation, true);
    e->linked = true;
}

void link_drop(struct node *n, int peer)
{
    if (n->peers[peer] != NULL)
        end(n, n->peers[peer]);
}

void link_node_started(struct node *n)
{
    memset(n->peers, 0, sizeof n->peers);
    memset(n->voided, 0, sizeof n->voided);
}

void link_node_died(struct node *n)
{
    for (int i = 0; i < NODES; i++)
        if (n->peers[i] != NULL)
            channel_break(n->peers[i]->out);
    memset(n->peers, 0, sizeof n->peers);
}

struct endpoint *link_peer(struct node *n, const char *name)
{
    struct node *peer = node_by_name(name);
    return peer != NULL ? n->peers[peer->at] : NULL;
}

bool link_send(struct node *n, const char *peer, struct span frame)
{
    struct endpoint *e = link_peer(n, peer);
    if (e == NULL)
        return false;
    channel_add(e->out, frame);
    return true;
}

/* ---- coming up ---- */

static bool paired(const struct endpoint *a, const struct endpoint *b)
{
    return a != NULL && b != NULL && a->out->to_object == b->object && b->out->to_object == a->object;
}

/* The side's object for the other one's incarnation: a new one when it had another partner. */
static struct endpoint *fresh(struct node *n, struct node *other)
{
    struct endpoint *e = n->peers[other->at];
    bool linked = e != NULL && e->linked;
    if (e != NULL && (e->incarnation != other->incarnation || e->out->to_object != 0)) {
        linked &= e->incarnation == other->incarnation;
        end(n, e);
        e = n->peers[other->at];
        for (unsigned i = 0; i < VOIDED_MAX; i++)
            if (n->voided[i] == other->incarnation)
                n->voided[i] = 0;
    }
    return e != NULL && e->incarnation == other->incarnation ? e
                                                             : make(n, other->at, other->incarnation, linked);
}

static void come_up(struct node *dialer, struct node *other)
{
    if (is_void(other, dialer->incarnation))
        return;
    struct endpoint *b = fresh(other, dialer), *a = fresh(dialer, other);
    a->out->to_object = b->object;
    b->out->to_object = a->object;
    a->up = b->up = true;
    sim_say("link up %s - %s", dialer->name, other->name);
    channel_plan(a->out);
    channel_plan(b->out);
    node_peer_up(dialer, a);
    if (dialer->peers[other->at] == a && other->peers[dialer->at] == b)
        node_peer_up(other, b);
}

static void look_at(struct node *n, struct endpoint *e)
{
    struct node *other = &w.nodes[e->peer];
    bool same = other->up && other->incarnation == e->incarnation;
    bool whole = !w.cut[n->at][other->at] && !w.cut[other->at][n->at];
    if (same && whole && w.now_us >= other->frozen_until_us) {
        bool dials = other->router && (!n->router || n->at < other->at);
        if (dials && !paired(e, other->peers[n->at]) && sim_chance(40))
            come_up(n, other);
        return;
    }
    if (!e->linked || w.now_us - e->reported_us < 100 * MS)
        return;
    bool refused = e->up && (other->up ? !same : other->refuses) && whole;
    bool quiet = w.cut[other->at][n->at] && w.now_us >= w.cut_since_us[other->at][n->at] + 300 * MS;
    bool silent = (!same || quiet || w.now_us < other->frozen_until_us) && sim_chance(20);
    if (refused || (silent && !w.quiet)) {
        e->reported_us = w.now_us;
        registry_report(n, e->peer, e->incarnation, refused);
    }
}

static void tick(void *a, uint64_t b)
{
    (void)a;
    (void)b;
    for (int i = 0; i < NODES; i++) {
        struct node *n = &w.nodes[i];
        if (!n->up || w.now_us < n->frozen_until_us)
            continue;
        for (int j = 0; j < NODES; j++)
            if (n->peers[j] != NULL)
                look_at(n, n->peers[j]);
    }
    sim_after(w.quiet ? 40 * MS : 8 * MS, tick, NULL, 0);
}

void link_tick_start(void)
{
    sim_after(1, tick, NULL, 0);
}

void link_cut(int a, int b, bool cut)
{
    link_cut_way(a, b, cut);
    link_cut_way(b, a, cut);
}

void link_cut_way(int from, int to, bool cut)
{
    w.cut[from][to] = cut;
    w.cut_since_us[from][to] = cut ? w.now_us : 0;
}
