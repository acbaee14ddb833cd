/* A little every few milliseconds: first the slots that were gained are read, then the users found there are
 * loaded, unless connection managers have brought them meanwhile (most, in the first two seconds). Loading a
 * user does all that is to be done: session_restore sets the timers, sessions of dead connection managers are
 * lost. */
#include "router/sweep.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "router/user.h"

#define AFTER_MS      2000
#define EVERY_MS      10
#define SLOTS_AT_ONCE 64
#define USERS_AT_ONCE 32

static struct stat_counter found = STAT_COUNTER("jackdaw_router_users_looked_after_total",
                                                "Users loaded because nobody else mentioned them", NULL);

void sweep_register_stats(void)
{
    stat_register(&found.meta);
}

struct asked {
    struct core *core;
    uint16_t slot;
};

static bool is_mine(const struct core *c, unsigned slot)
{
    const char *owner = c->acting ? core_owner(c, (uint16_t)slot) : NULL;
    return owner != NULL && strcmp(owner, c->name) == 0;
}

static void on_present(void *ctx, enum store_result result, const struct span *users, size_t count)
{
    struct asked *a = ctx;
    struct core *c = a->core;
    struct sweep *s = &c->sweep;
    if (result == STORE_AWAY && slots_has(&s->done, a->slot)) {
        slots_set(&s->done, a->slot, false);
        s->at = MIN(s->at, a->slot);
        if (!timer_is_set(&s->timer))
            timer_set(&c->timers, &s->timer, c->now_ms + AFTER_MS);
    }
    free(a);
    for (size_t i = 0; i < count; i++) {
        if (user_find(c, users[i]) != NULL)
            continue;
        if (s->count == s->cap) {
            s->cap = MAX(s->cap * 2, 64);
            s->names = xrealloc(s->names, s->cap * sizeof *s->names);
        }
        s->names[s->count++] = span_dup(users[i]);
    }
    if (s->count > 0 && !timer_is_set(&s->timer))
        timer_set(&c->timers, &s->timer, c->now_ms + EVERY_MS);
}

static void read_slots(struct core *c)
{
    struct sweep *s = &c->sweep;
    unsigned asked = 0;
    for (; s->at < SLOT_COUNT && asked < SLOTS_AT_ONCE; s->at++) {
        if (slots_has(&s->done, s->at) || !is_mine(c, s->at))
            continue;
        struct asked *a = xcalloc(1, sizeof *a);
        *a = (struct asked){c, (uint16_t)s->at};
        slots_set(&s->done, s->at, true);
        asked++;
        c->store->face->present(c->store, a->slot, on_present, a);
    }
}

static void load_users(struct core *c)
{
    struct sweep *s = &c->sweep;
    for (unsigned i = 0; i < USERS_AT_ONCE && s->count > 0; i++) {
        char *bare = s->names[--s->count];
        if (user_find(c, span_of(bare)) == NULL) {
            struct user *u = user_get(c, span_of(bare));
            if (u != NULL) {
                u->looked_after = true;
                stat_add(&found, 1);
            }
        }
        free(bare);
    }
}

static void fire(struct timer *t, uint64_t now_ms)
{
    struct core *c = CONTAINER_OF(t, struct core, sweep.timer);
    if (!c->acting)
        return; /* starts anew with the lease */
    if (c->store_up) {
        load_users(c);
        read_slots(c);
    }
    if (c->sweep.at < SLOT_COUNT || c->sweep.count > 0)
        timer_set(&c->timers, t, now_ms + (c->store_up ? EVERY_MS : AFTER_MS));
}

void sweep_slots(struct core *c)
{
    struct sweep *s = &c->sweep;
    bool gained = false;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++) {
        bool mine = is_mine(c, slot);
        if (!mine)
            slots_set(&s->done, slot, false);
        gained |= mine && !slots_has(&s->done, slot);
    }
    if (!gained)
        return;
    s->at = 0;
    s->timer.fire = fire;
    timer_set(&c->timers, &s->timer, c->now_ms + AFTER_MS);
}

void sweep_free(struct core *c)
{
    struct sweep *s = &c->sweep;
    timer_clear(&c->timers, &s->timer);
    while (s->count > 0)
        free(s->names[--s->count]);
    free(s->names);
}
