/* An owner learns late that it is none any more: until then it has confirmed presence to its senders and sent
 * it to streams that do not listen to it. How long that may have lasted is bounded by the lease. The word to
 * the new owner is a probe from the user to itself, passed on (feature/presence.c). */
#include "router/retell.h"

#include <stdlib.h>

#include "router/readdress.h"
#include "router/route.h"
#include "router/session.h"

static bool has_live_session(const struct user *u)
{
    LIST_EACH (it, &u->sessions)
        if (LIST_ENTRY(it, struct session, of_user)->state == SESSION_LIVE)
            return true;
    return false;
}

void retell_note(struct user *u)
{
    struct core *c = u->core;
    uint64_t window_ms = 2 * (uint64_t)c->conf->cluster_lease_ms;
    if (u->told_ms == 0 || c->now_ms - u->told_ms > window_ms || !has_live_session(u) ||
        map_get(&c->retell, span_of(u->bare)) != NULL)
        return;
    char *bare = span_dup(span_of(u->bare));
    map_put(&c->retell, span_of(bare), bare);
}

static void tell(struct core *c, struct span bare)
{
    struct buf raw = {0};
    struct stanza s;
    presence_add(&raw, bare, (struct span){NULL, 0}, (struct span){NULL, 0}, "probe");
    if (stanza_index(c->parser, buf_span(&raw), &s))
        route_fanout(c, &s, &bare, 1, NULL, WIRE_PASSED_ON);
    buf_free(&raw);
}

void retell_send(struct core *c)
{
    if (c->retell.count == 0)
        return;
    struct map noted = c->retell;
    size_t at = 0;
    char *bare;
    c->retell = (struct map){0};
    while ((bare = map_next(&noted, &at)) != NULL) {
        const char *owner = c->out.owner(c->out.ctx, c->out.slot(span_of(bare)));
        if (owner != NULL && strcmp(owner, c->name) != 0)
            tell(c, span_of(bare));
        else if (owner == NULL) {
            map_put(&c->retell, span_of(bare), bare);
            continue;
        } /* else its own again: whoever loads it asks */
        free(bare);
    }
    map_free(&noted);
}

void retell_free(struct core *c)
{
    size_t at = 0;
    char *bare;
    while ((bare = map_next(&c->retell, &at)) != NULL)
        free(bare);
    map_free(&c->retell);
}
