#include "common/proc/guests.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "common/wire/wire.h"

struct held {
    struct list node;
    struct bus_peer *from;
    size_t n;
    char frame[];
};

static struct stat_counter held_total = STAT_COUNTER(
    "jackdaw_guest_frames_held_total", "Frames of processes that the membership did not name yet", NULL);
static struct stat_counter refused = STAT_COUNTER("jackdaw_guest_frames_refused_total",
                                                  "Frames dropped because their sender is no member", NULL);

void guests_register_stats(void)
{
    stat_register(&held_total.meta);
    stat_register(&refused.meta);
}

void guests_init(struct guests *g, struct bus *bus)
{
    g->bus = bus;
    g->bytes = 0;
    list_init(&g->held);
}

static bool has_held(const struct guests *g, const struct bus_peer *peer)
{
    LIST_EACH (it, &g->held)
        if (LIST_ENTRY(it, struct held, node)->from == peer)
            return true;
    return false;
}

static void drop(struct guests *g, struct held *h)
{
    g->bytes -= h->n + sizeof *h;
    list_del(&h->node);
    free(h);
}

static bool is_request(const struct bus_peer *from, struct span frame)
{
    return strncmp(bus_peer_name(from), "ctl-", 4) == 0 && wire_kind(frame) == WIRE_CONTROL;
}

bool guests_admit(struct guests *g, struct bus_peer *from, struct span frame)
{
    if (LIKELY(bus_peer_is_linked(from)) && (list_empty(&g->held) || !has_held(g, from)))
        return true;
    if (is_request(from, frame))
        return true;
    if (g->bytes + frame.n + sizeof(struct held) > GUESTS_MAX_BYTES) {
        stat_add(&refused, 1);
        log_warn("proc", "more than is kept of a process that is no member, ending its link peer=%s",
                 bus_peer_name(from));
        bus_unlink(g->bus, bus_peer_name(from));
        return false;
    }
    struct held *h = xmalloc(sizeof *h + frame.n);
    h->from = from;
    h->n = frame.n;
    memcpy(h->frame, frame.p, frame.n);
    list_add(&g->held, &h->node);
    g->bytes += h->n + sizeof *h;
    stat_add(&held_total, 1);
    return false;
}

static struct held *first_of_member(const struct guests *g)
{
    LIST_EACH (it, &g->held)
        if (bus_peer_is_linked(LIST_ENTRY(it, struct held, node)->from))
            return LIST_ENTRY(it, struct held, node);
    return NULL;
}

void guests_joined(struct guests *g, guests_take_fn *take, void *ctx)
{
    struct held *h;
    while ((h = first_of_member(g)) != NULL) { /* anew each time: a frame may end links */
        struct list *node = &h->node;
        list_del(node);
        g->bytes -= h->n + sizeof *h;
        take(ctx, h->from, span_make(h->frame, h->n));
        free(h);
    }
}

void guests_gone(struct guests *g, const struct bus_peer *peer)
{
    LIST_EACH (it, &g->held) {
        struct held *h = LIST_ENTRY(it, struct held, node);
        if (peer != NULL && h->from != peer)
            continue;
        stat_add(&refused, 1);
        drop(g, h);
    }
}
