/* The peers of a process: one link (link.h) each, over one socket (socket.h).
 *
 * A message finds its peer by the route it came from, a hello by the name in it; the hello's route then is
 * the peer's route. When a link breaks (the carrier says so, a send to a lost route, long silence), the
 * side that dials first tries a plain connect to the endpoint: refused means that nobody listens there any
 * more, which is told as suspect(certain) and tried again with back-off; accepted means that dialing is worth
 * it. The other side, which is not told whose connection broke, sends everybody a heartbeat: the carrier
 * refuses the one to the lost route; the same plain connect then tells whether the process is dead.
 *
 * Frames wait in their link until the turn hook, which flushes the peers marked dirty and reads what waits in
 * the carrier. Peers die in the middle of callbacks, so they go to a list and are freed at the end of the
 * hook. */
#include "common/bus/bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/base/random.h"
#include "common/bus/link.h"
#include "common/bus/peer.h"
#include "common/bus/probe.h"
#include "common/bus/socket.h"
#include "common/bus/stats.h"
#include "common/log/log.h"
#include "common/ring/ring.h"

#define REDIAL_FIRST_MS   10
#define REDIAL_MAX_MS     1000
#define PROBE_MAX_MS      1000
#define RETRY_FULL_MS     2    /* the carrier was full */
#define CHECK_ACCEPTED_MS 3    /* after a break, until the route is gone */
#define DRAIN_MAX         1000 /* messages per round of the hook */
#define ROUNDS_MAX        4
#define HANG_UP_SILENCES \
    4 /* after so many times LINK_SILENT_HEARTBEATS a peer is dialed anew, a stranger forgotten */
#define VOID_KEPT     256
#define STRANGERS_MAX 1024

_Static_assert(LINK_FRAME_MAX == BUS_FRAME_MAX, "bus.h says what a link takes");

struct bus {
    struct ring *ring;
    struct bus_socket *socket;
    struct ring_hook hook;
    struct timer tick;
    struct timer retry;
    struct timer check;
    struct map names;  /* struct bus_peer */
    struct map routes; /* struct bus_peer */
    struct list peers;
    struct list dirty;
    struct list dead;
    unsigned strangers;         /* peers that nobody linked */
    uint64_t voided[VOID_KEPT]; /* incarnations that are over: a late hello does not revive them */
    unsigned voided_at;
    bool in_hook;
    char name[LINK_NAME_MAX + 1];
    uint64_t incarnation;
    unsigned heartbeat_ms;
    size_t window_bytes;
    const struct bus_handler *handler;
    void *ctx;
};

static void probe(struct bus_peer *p);
static void take(struct bus_peer *p, struct link_in in);

static uint64_t now_of(const struct bus *b)
{
    return ring_now_ms(b->ring);
}

/* Outside the hook the sleep after this turn is skipped once, for frames queued by a hook that runs after
 * ours. */
static void mark_dirty(struct bus_peer *p)
{
    if (!list_empty(&p->dirty))
        return;
    list_add(&p->bus->dirty, &p->dirty);
    if (!p->bus->in_hook)
        ring_again(p->bus->ring);
}

static struct span name_of(const struct bus_peer *p)
{
    return span_of(p->link.peer_name);
}

static bool is_void(const struct bus *b, uint64_t incarnation)
{
    for (unsigned i = 0; i < VOID_KEPT; i++)
        if (b->voided[i] == incarnation)
            return true;
    return false;
}

static void unvoid(struct bus *b, uint64_t incarnation)
{
    for (unsigned i = 0; i < VOID_KEPT; i++)
        if (b->voided[i] == incarnation)
            b->voided[i] = 0;
}

static void set_route(struct bus_peer *p, struct span route)
{
    struct bus_peer *old;

    if (span_eq(buf_span(&p->route), route))
        return;
    if (p->route.n > 0)
        map_del(&p->bus->routes, buf_span(&p->route));
    buf_clear(&p->route);
    if (route.n == 0)
        return;
    old = map_del(&p->bus->routes, route);
    if (old != NULL)
        buf_clear(&old->route);
    buf_add_span(&p->route, route);
    map_put(&p->bus->routes, buf_span(&p->route), p);
}

static void hang_up(struct bus_peer *p)
{
    if (p->dialed)
        bus_socket_hang_up(p->bus->socket, p->endpoint);
    p->dialed = false;
}

static void redial_fired(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    probe(CONTAINER_OF(t, struct bus_peer, redial));
}

static void redial_later(struct bus_peer *p)
{
    ring_timer_set(p->bus->ring, &p->redial, p->backoff_ms);
    p->backoff_ms = MIN(MAX(p->backoff_ms * 2, REDIAL_FIRST_MS), REDIAL_MAX_MS);
}

static void dial(struct bus_peer *p)
{
    char route[SOCKET_ROUTE_MAX], unique[17];
    int error;

    random_hex(unique, 8);
    /* '>' and chance: no name, and never one that is in use */
    snprintf(route, sizeof route, ">%s/%s", p->link.peer_name, unique);
    hang_up(p);
    error = bus_socket_dial(p->bus->socket, p->endpoint, span_of(route));
    if (error != 0) {
        log_warn("bus", "cannot dial peer=%s endpoint=%s error=%s: check the endpoint it lists (bus.listen)",
                 p->link.peer_name, p->endpoint, strerror(-error));
        redial_later(p);
        return;
    }
    p->dialed = true;
    p->dialed_ms = now_of(p->bus);
    set_route(p, span_of(route));
    link_connected(&p->link, true, now_of(p->bus));
    mark_dirty(p);
}

static void suspect(struct bus_peer *p, bool certain)
{
    if (p->linked && !p->dead)
        p->bus->handler->suspect(p->bus->ctx, p, certain);
}

static void probe_ended(void *ctx, int error)
{
    struct bus_peer *p = ctx;

    p->probe = NULL;
    if (error == 0) {
        if (p->dial)
            dial(p);
        return;
    }
    log_debug("bus", "no connection peer=%s endpoint=%s error=%s", p->link.peer_name, p->endpoint,
              strerror(-error));
    if (p->dial)
        redial_later(p);
    if (probe_refused(error))
        suspect(p, p->link.was_up);
}

static void probe(struct bus_peer *p)
{
    if (p->probe != NULL || p->endpoint == NULL || p->dead)
        return;
    p->probe = probe_start(p->bus->ring, p->endpoint, probe_ended, p);
    p->probed_ms = now_of(p->bus);
    if (p->probe == NULL && p->dial)
        dial(p);
}

static void stop_probe(struct bus_peer *p)
{
    if (p->probe != NULL)
        probe_abandon(p->bus->ring, p->probe);
    p->probe = NULL;
}

/* The connection is gone; the peer may live. */
static void lost(struct bus_peer *p)
{
    log_debug("bus", "connection lost peer=%s state=%s", p->link.peer_name, link_state_name(p->link.state));
    hang_up(p);
    set_route(p, (struct span){NULL, 0});
    if (p->link.state == LINK_STATE_UP)
        stat_set(&bus_stat_links, bus_stat_links.value - 1);
    link_disconnected(&p->link);
    if (p->dial && p->backoff_ms > 0)
        redial_later(p);
    else if (p->linked)
        probe(p);
    if (p->dial && p->backoff_ms == 0)
        p->backoff_ms = REDIAL_FIRST_MS;
}

static struct bus_peer *peer_new(struct bus *b, struct span name, uint64_t incarnation)
{
    struct bus_peer *p = xcalloc(1, sizeof *p);
    char *peer_name = span_dup(name);
    struct link_config config = {.id = random_u64(),
                                 .incarnation = b->incarnation,
                                 .peer_incarnation = incarnation,
                                 .name = b->name,
                                 .peer_name = peer_name,
                                 .heartbeat_ms = b->heartbeat_ms,
                                 .window_bytes = b->window_bytes};

    link_init(&p->link, &config, now_of(b));
    free(peer_name);
    p->bus = b;
    p->redial.fire = redial_fired;
    list_init(&p->dirty);
    list_add(&b->peers, &p->node);
    map_put(&b->names, name_of(p), p);
    b->strangers++;
    return p;
}

/* Takes it out of every table; it stays readable until the end of the turn. */
static void peer_end(struct bus_peer *p)
{
    struct bus *b = p->bus;

    p->dead = true;
    if (!p->linked)
        b->strangers--;
    if (p->link.state == LINK_STATE_UP)
        stat_set(&bus_stat_links, bus_stat_links.value - 1);
    hang_up(p);
    set_route(p, (struct span){NULL, 0});
    map_del(&b->names, name_of(p));
    list_del(&p->dirty);
    list_del(&p->node);
    list_add(&b->dead, &p->node);
    ring_timer_clear(b->ring, &p->redial);
    stop_probe(p);
    link_disconnected(&p->link);
}

/* Links with members are an operator's business; jackdawctl, who comes and goes, is not. */
static enum log_level link_level(const struct bus_peer *p)
{
    return p->linked ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
}

static void peer_gone(struct bus_peer *p, const char *why)
{
    struct bus *b = p->bus;

    if (p->link.was_up)
        log_line(link_level(p), "bus",
                 "link gone peer=%s incarnation=%016llx reason=\"%s\" unacknowledged_bytes=%zu",
                 p->link.peer_name, (unsigned long long)p->link.peer_incarnation, why, p->link.unacked_bytes);
    if (p->linked && p->link.peer_incarnation != 0) {
        b->voided[b->voided_at] = p->link.peer_incarnation;
        b->voided_at = (b->voided_at + 1) % VOID_KEPT;
    }
    peer_end(p);
    b->handler->gone(b->ctx, p);
}

static void peer_free(struct bus_peer *p)
{
    list_del(&p->node);
    link_fini(&p->link);
    buf_free(&p->route);
    free(p->endpoint);
    free(p);
}

static void free_dead(struct bus *b)
{
    LIST_EACH (node, &b->dead)
        peer_free(LIST_ENTRY(node, struct bus_peer, node));
}

/* Ends the old object and makes the one that follows; a connection of ours goes over to it. An incarnation
 * that has only forgotten the link is wanted as before. */
static struct bus_peer *peer_replace(struct bus_peer *old, uint64_t incarnation)
{
    struct bus *b = old->bus;
    char *endpoint = old->endpoint != NULL ? xstrdup(old->endpoint) : NULL;
    char *name = xstrdup(old->link.peer_name);
    struct buf route = {0};
    bool was_dialed = old->dialed, wanted = old->linked && old->link.peer_incarnation == incarnation;

    buf_add_span(&route, buf_span(&old->route));
    old->dialed = false; /* keep the connection */
    peer_gone(old, "it has a new incarnation or forgot the link");
    struct bus_peer *p = map_get(&b->names, span_of(name));
    if (p == NULL) {
        p = peer_new(b, span_of(name), wanted ? incarnation : 0);
        p->endpoint = endpoint;
        endpoint = NULL;
        p->dial = old->dial;
        p->linked = wanted;
        b->strangers -= wanted;
        if (wanted)
            unvoid(b, incarnation);
        if (was_dialed) {
            p->dialed = true;
            p->dialed_ms = now_of(b);
            set_route(p, buf_span(&route));
            link_connected(&p->link, true, now_of(b));
            mark_dirty(p);
        }
    } else if (was_dialed && endpoint != NULL) { /* linked anew meanwhile: it dials for itself */
        bus_socket_hang_up(b->socket, endpoint);
    }
    free(endpoint);
    free(name);
    buf_free(&route);
    return p;
}

static void come_up(struct bus_peer *p)
{
    log_line(link_level(p), "bus", "link up peer=%s incarnation=%016llx", p->link.peer_name,
             (unsigned long long)p->link.peer_incarnation);
    p->bus->handler->up(p->bus->ctx, p);
}

static void take(struct bus_peer *p, struct link_in in)
{
    struct bus *b = p->bus;
    struct span frame;

    if (in.events != 0)
        bus_stats_dropped(in.events, p->link.peer_name);
    if ((in.events & LINK_UP) != 0)
        come_up(p);
    if (in.frame_count > 0) {
        stat_add(&bus_stat_batches_in, 1);
        stat_add(&bus_stat_frames_in, in.frame_count);
        stat_add(&bus_stat_bytes_in, in.frames.n);
    }
    while (!p->dead && link_frame(&in.frames, &frame))
        b->handler->frame(b->ctx, p, frame);
    if (p->dead)
        return;
    if ((in.events & LINK_ROOM) != 0)
        b->handler->room(b->ctx, p);
    if (!p->dead &&
        (p->link.hello_due || p->link.beat_due || p->link.cursor != &p->link.kept || p->link.open != NULL))
        mark_dirty(p);
}

/* Gives a message to the link and keeps the number of links right. */
static struct link_in input(struct bus_peer *p, struct span message)
{
    bool was_up = p->link.state == LINK_STATE_UP;
    struct link_in in = link_input(&p->link, message, now_of(p->bus));
    bool up = p->link.state == LINK_STATE_UP;

    if (up != was_up)
        stat_set(&bus_stat_links, bus_stat_links.value + (up ? 1 : -1));
    if (up && !was_up)
        p->backoff_ms = 0;
    return in;
}

static void hello_came(struct bus *b, struct span route, struct span message, const struct link_hello *hello)
{
    struct bus_peer *p = map_get(&b->names, hello->from);
    struct link_in in;

    if (!span_is(hello->to, b->name) || span_is(hello->from, b->name) || is_void(b, hello->incarnation) ||
        (p == NULL && b->strangers >= STRANGERS_MAX)) {
        bus_stats_dropped(LINK_STALE, NULL);
        log_debug("bus", "hello refused from=%.*s to=%.*s", SPAN_FMT(hello->from), SPAN_FMT(hello->to));
        return;
    }
    if (p == NULL)
        p = peer_new(b, hello->from, 0);
    in = input(p, message);
    if ((in.events & LINK_VOID) != 0) {
        p = peer_replace(p, hello->incarnation);
        in = input(p, message);
    }
    if ((in.events & (LINK_VOID | LINK_BAD | LINK_STALE)) == 0)
        set_route(p, route);
    take(p, in);
}

static void message_came(void *ctx, struct span route, struct span message)
{
    struct bus *b = ctx;
    struct bus_peer *p;
    struct link_hello hello;
    struct link_in in;

    if (link_hello_parse(message, &hello)) {
        hello_came(b, route, message, &hello);
        return;
    }
    p = map_get(&b->routes, route);
    if (p == NULL) {
        /* Who dialed us calls itself by its name. It doesn't know that we forgot the old link: say so. */
        p = map_get(&b->names, route);
        if (p != NULL && p->link.state == LINK_STATE_DOWN && !p->dial) {
            set_route(p, route);
            link_connected(&p->link, true, now_of(b));
            mark_dirty(p);
        }
        bus_stats_dropped(LINK_STALE, NULL);
        return;
    }
    in = input(p, message);
    take(p, in);
}

static void check_accepted(struct timer *t, uint64_t now_ms)
{
    struct bus *b = CONTAINER_OF(t, struct bus, check);

    (void)now_ms;
    LIST_EACH (node, &b->peers) {
        struct bus_peer *p = LIST_ENTRY(node, struct bus_peer, node);
        if (!p->dialed && p->link.state == LINK_STATE_UP) {
            p->link.beat_due = true;
            mark_dirty(p);
        }
    }
}

static void accepted_lost(void *ctx)
{
    struct bus *b = ctx;
    if (!timer_is_set(&b->check))
        ring_timer_set(b->ring, &b->check, CHECK_ACCEPTED_MS);
}

static void dialed_lost(void *ctx, struct span endpoint)
{
    struct bus *b = ctx;
    bool known = false;

    LIST_EACH (node, &b->peers) {
        struct bus_peer *p = LIST_ENTRY(node, struct bus_peer, node);
        if (p->dialed && span_is(endpoint, p->endpoint)) {
            known = true;
            lost(p);
        }
    }
    if (!known) /* libzmq names the accepting end by its local address, which differs from a wildcard's */
        accepted_lost(ctx);
}

static void retry_fired(struct timer *t, uint64_t now_ms)
{
    struct bus *b = CONTAINER_OF(t, struct bus, retry);

    (void)now_ms;
    LIST_EACH (node, &b->peers) {
        struct bus_peer *p = LIST_ENTRY(node, struct bus_peer, node);
        if (p->link.state == LINK_STATE_UP && p->link.cursor != &p->link.kept)
            mark_dirty(p);
    }
}

static void flush(struct bus_peer *p)
{
    struct bus *b = p->bus;
    struct link_out out;

    while (p->route.n > 0 && link_peek(&p->link, &out)) {
        int error = bus_socket_send(b->socket, buf_span(&p->route), &out);
        if (error == -EAGAIN) {
            if (!timer_is_set(&b->retry))
                ring_timer_set(b->ring, &b->retry, RETRY_FULL_MS);
            return;
        }
        if (error != 0) {
            lost(p);
            return;
        }
        if (out.batch != NULL) {
            stat_add(out.resend ? &bus_stat_resends : &bus_stat_batches_out, 1);
            stat_add(&bus_stat_bytes_out, out.n);
            if (!out.resend)
                stat_add(&bus_stat_frames_out, out.batch->frames);
        }
        link_sent(&p->link, &out, now_of(b));
    }
}

static void turn(struct ring_hook *hook)
{
    struct bus *b = CONTAINER_OF(hook, struct bus, hook);
    bool more = false;

    b->in_hook = true;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct list *node;
        unsigned got;

        while ((node = list_pop(&b->dirty)) != NULL)
            flush(LIST_ENTRY(node, struct bus_peer, dirty));
        more = bus_socket_drain(b->socket, DRAIN_MAX, &got);
        if (got > 0)
            more = true; /* what it led to is for hooks that ran before this one */
        else
            break;
    }
    if (more || !list_empty(&b->dirty))
        ring_again(b->ring);
    b->in_hook = false;
    free_dead(b);
    bus_socket_arm(b->socket);
}

/* Silence: tell, and help oneself where that is possible. */
static void silent(struct bus_peer *p, uint64_t now_ms)
{
    struct bus *b = p->bus;
    uint64_t limit = (uint64_t)LINK_SILENT_HEARTBEATS * HANG_UP_SILENCES * b->heartbeat_ms;
    bool long_silent = now_ms - p->link.heard_ms >= limit;

    if (!p->linked) {
        if (long_silent)
            peer_gone(p, "silent, and nobody linked it");
        return;
    }
    if (p->probe != NULL && now_ms - p->probed_ms >= PROBE_MAX_MS) { /* a dead host answers nothing at all */
        stop_probe(p);
        if (p->dial)
            redial_later(p);
    }
    if (long_silent && p->dialed && now_ms - p->dialed_ms >= limit) {
        p->backoff_ms = 0;
        lost(p);
    }
    if (!p->dial && p->link.state == LINK_STATE_DOWN)
        probe(p);
    suspect(p, false);
}

static void tick_fired(struct timer *t, uint64_t now_ms)
{
    struct bus *b = CONTAINER_OF(t, struct bus, tick);
    unsigned count = 0;
    struct bus_peer **all;

    /* A handler may end any peer, so walk over a copy; the dead stay readable until the hook. */
    all = xmalloc((b->names.count + 1) * sizeof *all);
    LIST_EACH (node, &b->peers)
        all[count++] = LIST_ENTRY(node, struct bus_peer, node);
    for (unsigned i = 0; i < count; i++) {
        struct bus_peer *p = all[i];
        unsigned events;
        if (p->dead)
            continue;
        events = link_tick(&p->link, now_ms);
        if ((events & LINK_SILENT) != 0)
            silent(p, now_ms);
        if (!p->dead && (p->link.beat_due || p->link.hello_due))
            mark_dirty(p);
    }
    free(all);
    ring_timer_set(b->ring, &b->tick, MAX(b->heartbeat_ms / 2, 1));
}

static const struct bus_socket_handler socket_handler = {
    .message = message_came, .dialed_lost = dialed_lost, .accepted_lost = accepted_lost};

static int64_t unacked_bytes(void *ctx)
{
    const struct bus *b = ctx;
    int64_t sum = 0;

    LIST_EACH (node, &b->peers)
        sum += (int64_t)LIST_ENTRY(node, struct bus_peer, node)->link.unacked_bytes;
    return sum;
}

struct bus *bus_new(struct ring *ring, const struct bus_config *config, const struct bus_handler *handler,
                    void *ctx, char **error)
{
    struct bus *b = xcalloc(1, sizeof *b);

    CHECK(config->incarnation != 0 && config->name[0] != '\0' && config->heartbeat_ms > 0);
    *error = NULL;
    if (strlen(config->name) > LINK_NAME_MAX) {
        *error = xasprintf("node name %s is longer than %d bytes", config->name, LINK_NAME_MAX);
        free(b);
        return NULL;
    }
    memcpy(b->name, config->name, strlen(config->name));
    b->ring = ring;
    b->incarnation = config->incarnation;
    b->heartbeat_ms = config->heartbeat_ms;
    b->window_bytes = config->window_bytes;
    b->handler = handler;
    b->ctx = ctx;
    list_init(&b->peers);
    list_init(&b->dirty);
    list_init(&b->dead);
    b->tick.fire = tick_fired;
    b->retry.fire = retry_fired;
    b->check.fire = check_accepted;
    b->hook.run = turn;
    b->socket = bus_socket_open(ring,
                                &(struct bus_socket_config){.name = b->name,
                                                            .listen = config->listen,
                                                            .curve_secret_key = config->curve_secret_key,
                                                            .libzmq = config->libzmq,
                                                            .handler = &socket_handler,
                                                            .ctx = b},
                                error);
    if (b->socket == NULL) {
        free(b);
        return NULL;
    }
    bus_stats_register(unacked_bytes, b);
    ring_hook_add(ring, &b->hook);
    ring_timer_set(ring, &b->tick, MAX(b->heartbeat_ms / 2, 1));
    return b;
}

void bus_free(struct bus *b)
{
    if (b == NULL)
        return;
    CHECK(!b->in_hook);
    bus_stats_forget(b);
    LIST_EACH (node, &b->peers)
        peer_end(LIST_ENTRY(node, struct bus_peer, node));
    free_dead(b);
    ring_hook_del(b->ring, &b->hook);
    ring_timer_clear(b->ring, &b->tick);
    ring_timer_clear(b->ring, &b->retry);
    ring_timer_clear(b->ring, &b->check);
    bus_socket_close(b->socket);
    map_free(&b->names);
    map_free(&b->routes);
    free(b);
}

bool bus_is_idle(const struct bus *b)
{
    LIST_EACH (node, &b->peers) {
        const struct bus_peer *p = LIST_ENTRY(node, struct bus_peer, node);
        if (p->link.state == LINK_STATE_UP && p->link.unacked_bytes > 0)
            return false;
    }
    return true;
}

const char *bus_endpoint(const struct bus *b)
{
    return b->socket->endpoint;
}

struct bus_peer *bus_link(struct bus *b, const char *name, uint64_t incarnation, const char *endpoint,
                          bool connect)
{
    struct bus_peer *p = map_get(&b->names, span_of(name));

    CHECK(strlen(name) <= LINK_NAME_MAX && strcmp(name, b->name) != 0);
    CHECK(!connect || endpoint != NULL);
    if (p != NULL && incarnation != 0 && p->link.peer_incarnation != 0 &&
        p->link.peer_incarnation != incarnation) {
        peer_gone(p, "another incarnation is wanted");
        p = map_get(&b->names, span_of(name));
    }
    unvoid(b, incarnation);
    if (p == NULL)
        p = peer_new(b, span_of(name), incarnation);
    if (!p->linked)
        b->strangers--;
    p->linked = true;
    if (p->link.peer_incarnation == 0)
        p->link.peer_incarnation = incarnation;
    if (endpoint != NULL && (p->endpoint == NULL || strcmp(p->endpoint, endpoint) != 0)) {
        if (p->dialed)
            lost(p);
        free(p->endpoint);
        p->endpoint = xstrdup(endpoint);
    }
    p->dial = connect;
    if (connect && !p->dialed && !timer_is_set(&p->redial))
        probe(p);
    return p;
}

void bus_unlink(struct bus *b, const char *name)
{
    struct bus_peer *p = map_get(&b->names, span_of(name));
    if (p != NULL)
        peer_gone(p, "it has left");
}

struct bus_peer *bus_peer(struct bus *b, const char *name)
{
    return map_get(&b->names, span_of(name));
}

char *bus_reserve(struct bus_peer *p, size_t n)
{
    char *at = link_reserve(&p->link, n);
    if (at == NULL)
        bus_stats_too_large(n, p->link.peer_name);
    return at;
}

void bus_commit(struct bus_peer *p, size_t n)
{
    bool was_stalled = p->link.stalled;

    link_commit(&p->link, n);
    if (p->link.stalled && !was_stalled)
        stat_add(&bus_stat_stalls, 1);
    if (!p->dead && p->link.state == LINK_STATE_UP)
        mark_dirty(p);
}

bool bus_send(struct bus_peer *p, struct span frame)
{
    char *at = bus_reserve(p, frame.n);
    if (at == NULL)
        return false;
    memcpy(at, frame.p, frame.n);
    bus_commit(p, frame.n);
    return true;
}
