/* One small record per such session, counting its open work; at zero everything that was taken is handled. */
#include "router/parting.h"

#include <stdio.h>
#include <stdlib.h>

struct parting {
    const struct user *user; /* to be compared only */
    uint64_t sid, taken;
    uint64_t open;
    char node[64];
};

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
    snprintf(p->node, sizeof p->node, "%s", s->node);
    free(idmap_put(&c->partings, p->sid, p));
}

void parting_work_end(struct core *c, uint64_t sid)
{
    struct parting *p = idmap_get(&c->partings, sid);
    if (p == NULL || --p->open > 0)
        return;
    core_pair(&c->handled_lists, p->node, p->sid, p->taken);
    idmap_del(&c->partings, sid);
    free(p);
}

void parting_forget(struct core *c, const struct user *u)
{
    uint64_t *sids = xmalloc((c->partings.count + 1) * sizeof *sids);
    size_t count = 0, at = 0;
    struct parting *p;
    while ((p = idmap_next(&c->partings, &at)) != NULL)
        if (u == NULL || p->user == u)
            sids[count++] = p->sid;
    for (size_t i = 0; i < count; i++)
        free(idmap_del(&c->partings, sids[i]));
    free(sids);
    if (u == NULL)
        idmap_free(&c->partings);
}
