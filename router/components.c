/* Every list that comes, and every process that goes, is followed by a look at all domains: present in some
 * list or in none. */
#include "router/components.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "router/feature.h"

/* A connection manager of components keeps stanzas so long for one that restarts (s2s/component.c); who comes
 * back before is not missed. */
#define GONE_AFTER_MS 5000

struct place {
    char *node;
    uint64_t incarnation;
    char *domains; /* separated by spaces */
};

struct known {
    char *domain;
    bool here;
    uint64_t gone_ms; /* it went then and users have not been told; 0 = nothing to tell */
};

static bool lists(const struct place *p, struct span domain)
{
    struct span rest = span_of(p->domains);
    while (rest.n > 0)
        if (span_eq(span_cut(&rest, ' '), domain))
            return true;
    return false;
}

static bool anywhere(const struct core *c, struct span domain)
{
    const struct place *p;
    size_t at = 0;
    while ((p = map_next(&c->components.nodes, &at)) != NULL)
        if (lists(p, domain))
            return true;
    return false;
}

bool components_here(const struct core *c, struct span domain)
{
    const struct known *k = map_get(&c->components.domains, domain);
    return k != NULL && k->here;
}

/* Tells the features of every user in memory. What they send may bring users in and lose others. */
static void tell(struct core *c, enum event event, const struct known *k)
{
    struct user **users = xmalloc((c->users.count + 1) * sizeof(struct user *)), *u;
    size_t count = 0, at = 0;
    while ((u = map_next(&c->users, &at)) != NULL)
        if (u->state == USER_READY && !list_empty(&u->sessions))
            users[count++] = u;
    for (size_t i = 0; i < count; i++)
        user_hold(users[i]);
    c->components.subject = span_of(k->domain);
    for (size_t i = 0; i < count; i++) {
        if (users[i]->state == USER_READY)
            feature_event(event, users[i], NULL);
        user_release(users[i]);
    }
    c->components.subject = (struct span){NULL, 0};
    free(users);
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    struct core *c = CONTAINER_OF(t, struct core, components.timer);
    struct known *k;
    size_t at = 0;
    uint64_t next = 0;
    while ((k = map_next(&c->components.domains, &at)) != NULL) {
        if (k->gone_ms == 0)
            continue;
        if (now_ms >= k->gone_ms + GONE_AFTER_MS) {
            k->gone_ms = 0;
            log_info("components", "component gone domain=%s", k->domain);
            tell(c, EV_COMPONENT_GONE, k);
        } else if (next == 0 || k->gone_ms + GONE_AFTER_MS < next) {
            next = k->gone_ms + GONE_AFTER_MS;
        }
    }
    if (next != 0)
        timer_set(&c->timers, t, next);
}

static void look(struct core *c)
{
    struct components *all = &c->components;
    struct known *k;
    size_t at = 0;
    while ((k = map_next(&all->domains, &at)) != NULL) {
        bool here = anywhere(c, span_of(k->domain));
        if (here == k->here)
            continue;
        k->here = here;
        k->gone_ms = here ? 0 : c->now_ms;
        if (here) {
            log_info("components", "component here domain=%s", k->domain);
            tell(c, EV_COMPONENT_HERE, k);
        } else if (!timer_is_set(&all->timer)) {
            all->timer.fire = on_timer;
            timer_set(&c->timers, &all->timer, c->now_ms + GONE_AFTER_MS);
        }
    }
}

static void place_free(struct place *p)
{
    free(p->node);
    free(p->domains);
    free(p);
}

void components_at(struct core *c, const char *node, uint64_t incarnation, struct span domains)
{
    struct components *all = &c->components;
    struct place *p = xcalloc(1, sizeof *p);
    p->node = xstrdup(node);
    p->incarnation = incarnation;
    p->domains = span_dup(domains);
    struct place *old = map_put(&all->nodes, span_of(p->node), p);
    if (old != NULL)
        place_free(old);
    while (domains.n > 0) {
        struct span domain = span_cut(&domains, ' ');
        if (map_get(&all->domains, domain) == NULL) {
            struct known *k = xcalloc(1, sizeof *k);
            k->domain = span_dup(domain);
            map_put(&all->domains, span_of(k->domain), k);
        }
    }
    look(c);
}

void components_node_gone(struct core *c, const char *node, uint64_t incarnation)
{
    struct place *p = map_get(&c->components.nodes, span_of(node));
    if (p == NULL || p->incarnation != incarnation)
        return;
    map_del(&c->components.nodes, span_of(node));
    place_free(p);
    look(c);
}

void components_free(struct core *c)
{
    struct components *all = &c->components;
    struct place *p;
    struct known *k;
    size_t at = 0;
    while ((p = map_next(&all->nodes, &at)) != NULL)
        place_free(p);
    at = 0;
    while ((k = map_next(&all->domains, &at)) != NULL) {
        free(k->domain);
        free(k);
    }
    timer_clear(&c->timers, &all->timer);
    map_free(&all->nodes);
    map_free(&all->domains);
}
