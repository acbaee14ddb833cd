/* One small record per such session, counting its open work; at zero everything that was taken is handled. */
#include "router/parting.h"

#include <stdio.h>
#include <stdlib.h>

#include "router/route.h"

struct parting {
    const struct user *user; /* to be compared only */
    uint64_t sid, taken;
    uint64_t open;
    struct list routed; /* session.routed */
    char node[64];
};

static void parting_free(struct parting *p)
{
    if (p != NULL)
        list_del(&p->routed);
    free(p);
}

void parting_begin(struct session *s)
{
    struct core *c = s->user->core;
    uint64_t open = 0;
    if (s->node[0] == '\0' || s->in_taken == 0)
        return;
    for (uint64_t n = s->in_handled + 1; s->in_cap > 0 && n <= s->in_taken; n++)
        open += s->in_open[n & (s->in_cap - 1)];
    if (open == 0) {
        core_pair(&c->handled_lists, s->node, s->sid, s->in_taken);
        return;
    }
    struct parting *p = xcalloc(1, sizeof *p);
    *p = (struct parting){.user = s->user, .sid = s->sid, .taken = s->in_taken, .open = open};
    list_init(&p->routed);
    list_splice(&p->routed, &s->routed);
    snprintf(p->node, sizeof p->node, "%s", s->node);
    parting_free(idmap_put(&c->partings, p->sid, p));
}

struct list *parting_routed(struct core *c, uint64_t sid)
{
    struct parting *p = idmap_get(&c->partings, sid);
    return p != NULL ? &p->routed : NULL;
}

void parting_work_end(struct core *c, uint64_t sid)
{
    struct parting *p = idmap_get(&c->partings, sid);
    if (p == NULL || --p->open > 0)
        return;
    core_pair(&c->handled_lists, p->node, p->sid, p->taken);
    idmap_del(&c->partings, sid);
    parting_free(p);
}

void parting_forget(struct core *c, const struct user *u)
{
    uint64_t *sids = xmalloc((c->partings.count + 1) * sizeof *sids);
    size_t count = 0, at = 0;
    struct parting *p;
    while ((p = idmap_next(&c->partings, &at)) != NULL)
        if (u == NULL || p->user == u)
            sids[count++] = p->sid;
    for (size_t i = 0; i < count; i++) {
        p = idmap_del(&c->partings, sids[i]);
        route_abandon(c, &p->routed);
        parting_free(p);
    }
    free(sids);
    if (u == NULL)
        idmap_free(&c->partings);
}
