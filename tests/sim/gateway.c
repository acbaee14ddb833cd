/* One server stream: a peer says messages to all users, numbered together as s2s/leg.c numbers them. What
 * keeps them until they are taken is the real outbox (common/outbox), used as s2s/uplink.c uses it. The
 * process never dies: what a dead one leaves behind is another matter (s2s/estate.h). */
#include <stdio.h>
#include <stdlib.h>

#include "common/outbox/outbox.h"
#include "tests/sim/sim.h"

struct spoken {
    struct outbox_item item;
    int message;
    uint64_t n;
    uint16_t slot;
    const char *node;
    uint64_t incarnation;
    struct span raw;
};

static struct {
    struct node *node;
    struct outbox outbox;
    bool retry_set;
    uint64_t sid, n;
    int session;
    uint32_t said[USERS_MAX];
    const struct endpoint *gone; /* while gateway_peer_gone is at work */
} g;

static struct spoken *spoken_of(const struct outbox_item *i)
{
    return CONTAINER_OF(i, struct spoken, item);
}

static bool send_said(void *ctx, struct outbox_item *i, unsigned marks)
{
    struct node *n = ctx;
    struct spoken *s = spoken_of(i);
    const struct member_node *owner = node_owner(n, s->slot);
    struct endpoint *e = owner != NULL ? link_peer(n, owner->name) : NULL;
    if (e == NULL || !e->up || e->incarnation != owner->incarnation)
        return false;
    struct wire_frame f = {.kind = WIRE_ROUTE,
                           .flags = WIRE_ORDERED | ((marks & OUTBOX_AGAIN) != 0 ? WIRE_AGAIN : 0) |
                                    ((marks & OUTBOX_FIRST) != 0 ? WIRE_FIRST : 0),
                           .slot = s->slot,
                           .epoch = n->member.epoch,
                           .at_ms = node_wall_ms(n),
                           .sid = g.sid,
                           .n = s->n,
                           .token = i->token,
                           .has_stanza = true};
    struct buf b = {0};
    CHECK(stanza_index(w.parser, s->raw, &f.stanza));
    wire_add(&b, &f);
    s->node = w.nodes[e->peer].name;
    s->incarnation = e->incarnation;
    bool sent = link_send(n, owner->name, buf_span(&b));
    buf_free(&b);
    return sent;
}

static bool is_lost(void *ctx, const struct outbox_item *i)
{
    const struct spoken *s = spoken_of(i);
    const struct member_node *owner = node_owner(ctx, s->slot);
    if (g.gone != NULL && g.gone->incarnation == s->incarnation)
        return true;
    return owner == NULL || strcmp(owner->name, s->node) != 0 || owner->incarnation != s->incarnation;
}

static void retry(void *a, uint64_t b)
{
    struct node *n = a;
    if (node_frozen(n, retry, a, b))
        return;
    g.retry_set = false;
    gateway_moves(n);
}

static void look_again(struct node *n)
{
    if (g.outbox.waiting == 0 || g.retry_set)
        return;
    g.retry_set = true;
    sim_after(outbox_pause(&g.outbox, sim_ms()) * MS, retry, n, 0);
}

void gateway_moves(struct node *n)
{
    outbox_lost(&g.outbox, is_lost);
    outbox_round(&g.outbox);
    look_again(n);
}

void gateway_peer_gone(struct node *n, const struct endpoint *e)
{
    g.gone = e;
    gateway_moves(n);
    g.gone = NULL;
}

static void on_done(struct node *n, struct span pairs)
{
    uint64_t token, result;
    while (wire_pair_next(&pairs, &token, &result)) {
        struct outbox_item *i = outbox_answer(&g.outbox, token, result == WIRE_DONE_TAKEN);
        if (i == NULL)
            continue;
        if (result == WIRE_DONE_TAKEN) {
            check_acked(spoken_of(i)->message);
        } else if (result == WIRE_DONE_FULL) { /* answered to its sender */
            outbox_remove(&g.outbox, i);
            w.messages[spoken_of(i)->message].refused = true;
        }
    }
    look_again(n);
}

void gateway_frame(struct node *n, struct span frame)
{
    struct wire_frame f;
    CHECK(wire_decode(frame, &f));
    if (f.epoch > n->member.epoch)
        registry_refresh(n);
    if (f.kind == WIRE_DONE)
        on_done(n, f.pairs);
}

static void say(struct node *n, int to_user)
{
    char text[200];
    struct spoken *s = sim_alloc(sizeof *s);
    *s = (struct spoken){.message = check_said(g.session, to_user, ++g.said[to_user]),
                         .n = ++g.n,
                         .slot = member_slot(span_of(sim_user(to_user)))};
    snprintf(text, sizeof text,
             "<message from='x@peer' to='%s' type='chat' id='m%d'><body>%u</body></message>",
             sim_user(to_user), s->message, g.said[to_user]);
    char *copy = sim_alloc(strlen(text) + 1);
    strcpy(copy, text);
    s->raw = span_of(copy);
    sim_say("the peer says m%d to %s", s->message, sim_user(to_user));
    outbox_add(&g.outbox, &s->item, s->slot);
    look_again(n);
}

/* Now and then more at once than a mailbox knows numbers of. */
static void next_word(void *a, uint64_t b)
{
    struct node *n = a;
    if (w.quiet || node_frozen(n, next_word, a, b))
        return;
    unsigned burst = sim_chance(4) ? 80 : 1;
    int to = (int)sim_random((uint64_t)w.users);
    while (burst-- > 0 && g.outbox.count < 500)
        say(n, burst % 8 == 0 ? (int)sim_random((uint64_t)w.users) : to);
    sim_after(sim_between(5, 120) * MS, next_word, n, 0);
}

void gateway_started(struct node *n)
{
    g.node = n;
    g.outbox = (struct outbox){.ctx = n, .send = send_said};
    g.retry_set = false;
    g.sid = random_u64();
    g.n = 0;
    g.session = ++w.sessions;
    memset(g.said, 0, sizeof g.said);
    list_init(&n->conns);
    sim_after(200 * MS, next_word, n, 0);
}

size_t gateway_left(void)
{
    return g.outbox.count;
}

void gateway_free(void)
{
    while (outbox_pop(&g.outbox) != NULL)
        continue;
    outbox_free(&g.outbox);
}
