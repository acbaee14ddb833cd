/* The connection for a user is chosen by rendezvous hashing over those that are there, so that one more or
 * less moves few users. What a lost connection had not taken goes to another one.
 *
 * Every process knows the components by the configuration; which of them have connections stands in Redis,
 * each with its incarnation, so that what a dead process left there does not count. */
#include "s2s/component.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"
#include "common/bus/bus.h"
#include "common/config/privileges.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/member/member.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"
#include "common/wire/wire.h"
#include "s2s/component_internal.h"
#include "s2s/metrics.h"
#include "s2s/relay.h"
#include "s2s/s2s.h"

#define HEARD_MS     1000
#define GONE_KEEP_MS 5000 /* stanzas for a component that has just gone wait so long for its return */

/* ---- the configuration ---- */

bool components_init(struct s2s *s)
{
    const struct conf_list *list = &s->conf->s2s_components;
    for (unsigned i = 0; i < list->count; i++) {
        struct span line = span_of(list->items[i]);
        size_t at = span_index(line, '=');
        struct buf domain = {0};
        const char *why = "the form is DOMAIN=SECRET";
        if (at == line.n || at + 1 == line.n || !jid_prepare_domain(span_sub(line, 0, at), &domain, &why)) {
            log_error("s2s", "s2s.components: item %u is wrong: %s", i + 1, why);
            buf_free(&domain);
            return false;
        }
        struct component *c = xcalloc(1, sizeof *c);
        c->s2s = s;
        c->local = (struct local){.domain = span_dup(buf_span(&domain)), .component = c};
        c->secret = span_dup(span_sub(line, at + 1, SIZE_MAX));
        struct privileges p;
        c->hears =
            privileges_of(s->conf, span_of(c->local.domain), &p) && p.presence == PRIVILEGE_PRESENCE_ROSTER;
        list_init(&c->bindings);
        queue_init(&c->waiting);
        list_add(&s->components, &c->node);
        map_put(&s->locals, span_of(c->local.domain), &c->local);
        buf_free(&domain);
    }
    for (unsigned i = 0; i < s->conf->s2s_privileges.count; i++) {
        struct privileges p;
        const char *why;
        if (!privileges_parse(span_of(s->conf->s2s_privileges.items[i]), &p, &why)) {
            log_error("s2s", "s2s.privileges: item %u is wrong: %s", i + 1, why);
            return false;
        }
    }
    return true;
}

void components_free(struct s2s *s)
{
    LIST_EACH (it, &s->components) {
        struct component *c = LIST_ENTRY(it, struct component, node);
        struct item *i;
        redis_forget(s->redis, c);
        while ((i = queue_pop(&c->waiting)) != NULL)
            item_free(s, i);
        list_del(&c->node);
        map_del(&s->locals, span_of(c->local.domain));
        free(c->places);
        free(c->local.domain);
        free(c->secret);
        free(c->keys);
        free(c);
    }
}

/* ---- where they are ---- */

static const char *elsewhere(const struct component *c, struct span sender_bare)
{
    const char *best = NULL;
    uint64_t best_score = 0;
    for (unsigned i = 0; i < c->place_count; i++) {
        const struct place *p = &c->places[i];
        const struct member_node *member = member_find(c->s2s->member, p->node);
        if (member == NULL || member->incarnation != p->incarnation ||
            strcmp(p->node, proc_name(c->s2s->proc)) == 0)
            continue;
        uint64_t score = hash_stable(sender_bare, hash_stable(span_of(p->node), 0));
        if (best == NULL || score > best_score) {
            best = p->node;
            best_score = score;
        }
    }
    return best;
}

bool component_forward(struct s2s *s, struct component *c, const struct stanza *stanza,
                       struct receipt *receipt, uint64_t sid, uint64_t n)
{
    if (!list_empty(&c->bindings) || s->uplink.from_gateway)
        return false;
    const char *node = elsewhere(c, jid_bare(&stanza->from));
    if (node == NULL)
        return false;
    uplink_forward(s, node, stanza, receipt, sid, n);
    return true;
}

/* ---- stanzas to it ---- */

static struct component_conn *choose(const struct component *c, struct span sender_bare)
{
    struct component_conn *best = NULL;
    uint64_t best_score = 0;
    LIST_EACH (it, &c->bindings) {
        struct component_conn *conn = LIST_ENTRY(it, struct binding, of_component)->conn;
        uint64_t score = hash_stable(sender_bare, conn->leg.sid);
        if (best == NULL || score > best_score) {
            best = conn;
            best_score = score;
        }
    }
    return best;
}

static bool was_heard(struct component *c, const struct item *i)
{
    struct span raw = rcbuf_span(i->raw);
    uint64_t now = ring_now_ms(c->s2s->ring), hash;
    if (!c->hears || i->to_n > 0 || raw.n < 9 || memcmp(raw.p, "<presence", 9) != 0)
        return false;
    hash = hash_bytes(raw);
    for (unsigned k = 0; k < COMPONENT_HEARD_MAX; k++)
        if (c->heard[k].hash == hash && now < c->heard[k].at_ms + HEARD_MS)
            return true;
    c->heard[c->heard_at].hash = hash;
    c->heard[c->heard_at].at_ms = now;
    c->heard_at = (c->heard_at + 1) % COMPONENT_HEARD_MAX;
    return false;
}

void component_send(struct s2s *s, struct component *c, struct span sender_bare, struct item *i)
{
    struct component_conn *conn = choose(c, sender_bare);
    uint64_t now = ring_now_ms(s->ring);
    i->owner = c;
    if (was_heard(c, i)) {
        metric_add(S2S_HEARD_TWICE);
        item_free(s, i);
        return;
    }
    if (conn != NULL && leg_has_room(&conn->leg) && c->waiting.count == 0) {
        leg_send(&conn->leg, i);
        return;
    }
    if (conn == NULL && (c->gone_ms == 0 || now >= c->gone_ms + GONE_KEEP_MS)) {
        relay_bounce(s, i, STANZA_E_SERVICE_UNAVAILABLE, "that service is not connected");
        return;
    }
    if (queue_is_full(&c->waiting, s->conf)) {
        metric_add(S2S_QUEUE_FULL);
        relay_bounce(s, i, STANZA_E_RESOURCE_CONSTRAINT, "too many stanzas wait for that service");
        return;
    }
    if (conn == NULL)
        i->deadline_ms = MIN(i->deadline_ms, c->gone_ms + GONE_KEEP_MS);
    queue_add(&c->waiting, i);
}

/* The bare JID of an item's sender, for the choice of a connection. */
static struct span sender_of(struct s2s *s, const struct item *i, struct stanza *out)
{
    if (!stanza_index(s->index_parser, rcbuf_span(i->raw), out))
        return (struct span){0};
    return jid_bare(&out->from);
}

/* The connections are elsewhere now: what waits here goes there. */
static void move_elsewhere(struct component *c)
{
    struct s2s *s = c->s2s;
    struct stanza stanza;
    struct item *i;
    while (list_empty(&c->bindings) && (i = queue_first(&c->waiting)) != NULL) {
        const char *node = elsewhere(c, sender_of(s, i, &stanza));
        if (node == NULL)
            return;
        queue_pop(&c->waiting);
        if (stanza.to.domain_n > 0)
            uplink_forward(s, node, &stanza, receipt_ref(i->receipt), 0, 0);
        item_free(s, i);
    }
}

static void on_places(void *ctx, const struct redis_reply *reply)
{
    struct component *c = ctx;
    struct s2s *s = c->s2s;
    struct buf key = {0};
    if (reply == NULL || reply->kind != REDIS_KIND_LIST)
        return;
    unsigned before = c->place_count;
    free(c->places);
    c->places = xcalloc(reply->count / 2 + 1, sizeof *c->places);
    c->place_count = 0;
    for (size_t i = 0; i + 1 < reply->count; i += 2) {
        struct place *p = &c->places[c->place_count];
        struct span node = reply->items[i].text;
        if (node.n > MEMBER_NAME_MAX || !span_to_u64(reply->items[i + 1].text, UINT64_MAX, &p->incarnation))
            continue;
        memcpy(p->node, node.p, node.n);
        p->node[node.n] = '\0';
        const struct member_node *member = member_find(s->member, p->node);
        if (member != NULL && member->incarnation == p->incarnation) {
            c->place_count++;
        } else if (member == NULL && member_epoch(s->member) > 0) { /* it died without saying so */
            key_component(&key, span_of(c->local.domain));
            redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("HDEL"), buf_span(&key), node);
        }
    }
    buf_free(&key);
    if (before > 0 && c->place_count == 0 && list_empty(&c->bindings))
        c->gone_ms = ring_now_ms(s->ring);
    move_elsewhere(c);
}

void components_tell(struct s2s *s, struct bus_peer *router)
{
    struct buf list = {0};
    unsigned count = 0;
    const struct member_node *nodes = member_nodes(s->member, &count);
    LIST_EACH (it, &s->components) {
        const struct component *c = LIST_ENTRY(it, struct component, node);
        if (!list_empty(&c->bindings))
            buf_addf(&list, "%s%s", list.n > 0 ? " " : "", c->local.domain);
    }
    struct wire_frame f = {
        .kind = WIRE_COMPONENTS, .slot = 0xffff, .epoch = member_epoch(s->member), .text = buf_span(&list)};
    for (unsigned i = 0; i < count; i++) {
        struct bus_peer *peer = bus_peer(s->bus, nodes[i].name);
        if (peer == NULL || (router != NULL && peer != router) || strcmp(nodes[i].role, "router") != 0)
            continue;
        char *to = bus_reserve(peer, wire_size(&f));
        if (to != NULL)
            bus_commit(peer, wire_encode(&f, to));
    }
    buf_free(&list);
}

static void tell(struct component *c)
{
    struct s2s *s = c->s2s;
    struct buf key = {0};
    bool here = !list_empty(&c->bindings);
    key_component(&key, span_of(c->local.domain));
    if (here) {
        char number[32];
        snprintf(number, sizeof number, "%llu", (unsigned long long)proc_incarnation(s->proc));
        redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("HSET"), buf_span(&key),
                   span_of(proc_name(s->proc)), span_of(number));
    } else if (c->told) {
        redis_send(s->redis, buf_span(&key), NULL, NULL, SPAN("HDEL"), buf_span(&key),
                   span_of(proc_name(s->proc)));
    }
    bool changed = here != c->told;
    c->told = here;
    buf_free(&key);
    if (!changed)
        return;
    components_tell(s, NULL);
    redis_send(s->redis, (struct span){0}, NULL, NULL, SPAN("PUBLISH"), CHANNEL_COMPONENTS,
               span_of(c->local.domain));
}

static void ask_places(struct component *c)
{
    struct buf key = {0};
    key_component(&key, span_of(c->local.domain));
    redis_send(c->s2s->redis, buf_span(&key), on_places, c, SPAN("HGETALL"), buf_span(&key));
    buf_free(&key);
}

void components_refresh(struct s2s *s)
{
    LIST_EACH (it, &s->components) {
        struct component *c = LIST_ENTRY(it, struct component, node);
        tell(c);
        ask_places(c);
    }
}

void components_changed(void *ctx, struct span message)
{
    struct s2s *s = ctx;
    struct local *local = s2s_local(s, message);
    if (message.n == 0)
        components_refresh(s);
    else if (local != NULL && local->component != NULL)
        ask_places(local->component);
}

void component_pump(struct component *c)
{
    struct s2s *s = c->s2s;
    struct stanza stanza;
    struct item *i;
    while ((i = queue_first(&c->waiting)) != NULL) {
        struct component_conn *conn = choose(c, sender_of(s, i, &stanza));
        if (conn == NULL || !leg_has_room(&conn->leg))
            return;
        leg_send(&conn->leg, queue_pop(&c->waiting));
    }
}

void component_arrived(struct binding *b)
{
    list_add(&b->component->bindings, &b->of_component);
    tell(b->component);
    component_pump(b->component);
}

void component_left(struct binding *b)
{
    struct component *c = b->component;
    list_del(&b->of_component);
    if (list_empty(&c->bindings))
        c->gone_ms = ring_now_ms(c->s2s->ring);
}

void component_take_back(struct component *c, struct item *i)
{
    i->again = true;
    metric_add(S2S_OUT_AGAIN);
    queue_push(&c->waiting, i);
    if (list_empty(&c->bindings))
        i->deadline_ms = MIN(i->deadline_ms, c->gone_ms + GONE_KEEP_MS);
}

void component_settle(struct component *c)
{
    tell(c);
    component_pump(c);
}

void components_sweep(struct s2s *s)
{
    uint64_t now = ring_now_ms(s->ring);
    LIST_EACH (it, &s->components) {
        struct component *c = LIST_ENTRY(it, struct component, node);
        struct item *i;
        while ((i = queue_first(&c->waiting)) != NULL && now >= i->deadline_ms) {
            metric_add(S2S_TIMEOUT_QUEUE);
            relay_bounce(s, queue_pop(&c->waiting), STANZA_E_SERVICE_UNAVAILABLE,
                         "that service is not connected");
        }
    }
}
