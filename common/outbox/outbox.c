#include "common/outbox/outbox.h"

#include <stdlib.h>

/* A receiver that changes is known to all within milliseconds; a store that is away or full takes longer. */
#define PAUSE_FIRST_MS 4
#define PAUSE_MOST_MS  100
#define CALM_MS        500 /* without a round: the next pause is a first one again */

struct outbox_lane {
    uint64_t key;
    struct list items; /* oldest first */
    size_t under_way;
    size_t waiting;
    bool first; /* the next that leaves is the first of a round */
};

static struct outbox_lane *lane_get(struct outbox *o, uint64_t number)
{
    struct outbox_lane *l = idmap_get(&o->lanes, number + 1);
    if (l != NULL)
        return l;
    l = xcalloc(1, sizeof *l);
    l->key = number + 1;
    list_init(&l->items);
    idmap_put(&o->lanes, l->key, l);
    return l;
}

/* A lane that is empty is kept while it owes its receiver a FIRST. */
static void lane_release(struct outbox *o, struct outbox_lane *l)
{
    if (!list_empty(&l->items) || l->first)
        return;
    idmap_del(&o->lanes, l->key);
    free(l);
}

static void wait(struct outbox *o, struct outbox_item *i)
{
    if (i->token != 0) {
        idmap_del(&o->under_way, i->token);
        i->token = 0;
        i->lane->under_way--;
    }
    i->lane->waiting++;
    o->waiting++;
}

static bool launch(struct outbox *o, struct outbox_item *i)
{
    struct outbox_lane *l = i->lane;
    unsigned marks = (i->sent > 0 ? OUTBOX_AGAIN : 0) | (l->first ? OUTBOX_FIRST : 0);
    i->token = ++o->next_token;
    if (!o->send(o->ctx, i, marks)) {
        i->token = 0;
        return false;
    }
    idmap_put(&o->under_way, i->token, i);
    i->sent++;
    l->under_way++;
    l->first = false;
    return true;
}

void outbox_add(struct outbox *o, struct outbox_item *i, uint64_t lane)
{
    i->lane = lane_get(o, lane);
    list_add(&i->lane->items, &i->node);
    o->count++;
    bool held = i->lane->waiting > 0 || (i->lane->first && i->lane->under_way > 0);
    if (held || !launch(o, i))
        wait(o, i);
}

void outbox_remove(struct outbox *o, struct outbox_item *i)
{
    struct outbox_lane *l = i->lane;
    if (i->token != 0) {
        idmap_del(&o->under_way, i->token);
        l->under_way--;
    } else {
        l->waiting--;
        o->waiting--;
    }
    list_del(&i->node);
    o->count--;
    i->lane = NULL;
    lane_release(o, l);
}

struct outbox_item *outbox_answer(struct outbox *o, uint64_t token, bool taken)
{
    struct outbox_item *i = idmap_get(&o->under_way, token);
    if (i == NULL)
        return NULL;
    if (taken) {
        outbox_remove(o, i);
    } else {
        i->lane->first = true;
        wait(o, i);
    }
    return i;
}

void outbox_lost(struct outbox *o, outbox_lost_fn *lost)
{
    size_t at = 0;
    struct outbox_lane *l;
    while ((l = idmap_next(&o->lanes, &at)) != NULL)
        LIST_EACH (it, &l->items) {
            struct outbox_item *i = LIST_ENTRY(it, struct outbox_item, node);
            if (i->token == 0 || !lost(o->ctx, i))
                continue;
            l->first = true;
            wait(o, i);
        }
}

static void lane_round(struct outbox *o, struct outbox_lane *l)
{
    if (l->first && l->under_way > 0)
        return;
    LIST_EACH (it, &l->items) {
        struct outbox_item *i = LIST_ENTRY(it, struct outbox_item, node);
        if (i->token != 0)
            continue;
        if (!launch(o, i))
            return;
        l->waiting--;
        o->waiting--;
    }
}

void outbox_round(struct outbox *o)
{
    size_t at = 0;
    struct outbox_lane *l;
    while (o->waiting > 0 && (l = idmap_next(&o->lanes, &at)) != NULL)
        lane_round(o, l);
}

uint64_t outbox_pause(struct outbox *o, uint64_t now_ms)
{
    if (now_ms > o->round_ms + CALM_MS)
        o->pause_ms = 0;
    o->pause_ms = MIN(MAX(o->pause_ms * 2, PAUSE_FIRST_MS), PAUSE_MOST_MS);
    o->round_ms = now_ms + o->pause_ms;
    return o->pause_ms;
}

struct outbox_item *outbox_pop(struct outbox *o)
{
    size_t at = 0;
    struct outbox_lane *l;
    while ((l = idmap_next(&o->lanes, &at)) != NULL)
        if (!list_empty(&l->items)) {
            struct outbox_item *i = LIST_ENTRY(l->items.next, struct outbox_item, node);
            outbox_remove(o, i);
            return i;
        }
    return NULL;
}

void outbox_free(struct outbox *o)
{
    size_t at = 0;
    struct outbox_lane *l;
    while ((l = idmap_next(&o->lanes, &at)) != NULL)
        free(l);
    idmap_free(&o->lanes);
    idmap_free(&o->under_way);
}
