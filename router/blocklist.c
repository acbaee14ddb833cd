#include "router/blocklist.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/stanza/stanza.h"

#define FIELD         SPAN("blocked")
#define FIELD_CHANGED SPAN("blocked_changed") /* wall clock */

void blocklist_load(struct user *u, struct span text)
{
    blocklist_free(u);
    while (text.n > 0)
        blocklist_add(u, span_cut(&text, '\n'));
}

void blocklist_load_changed(struct user *u, struct span wall_ms)
{
    span_to_u64(wall_ms, UINT64_MAX, &u->blocked_changed_ms);
}

bool blocklist_changed_within(const struct user *u, unsigned ms)
{
    uint64_t wall = u->core->out.wall_ms(u->core->out.ctx);
    return u->blocked_changed_ms != 0 && clock_age_ms(wall, u->blocked_changed_ms) < (int64_t)ms;
}

void blocklist_free(struct user *u)
{
    size_t at = 0;
    char *jid;
    if (u->blocked == NULL)
        return;
    while ((jid = map_next(u->blocked, &at)) != NULL)
        free(jid);
    map_free(u->blocked);
    free(u->blocked);
    u->blocked = NULL;
}

bool blocklist_covers(struct span item, const struct jid *jid)
{
    struct jid wanted;
    if (!jid_split(item, &wanted) || !span_eq(jid_domain(&wanted), jid_domain(jid)))
        return false;
    if (wanted.local_n > 0 && !span_eq(jid_bare(&wanted), jid_bare(jid)))
        return false;
    return wanted.resource_n == 0 || span_eq(jid_resource(&wanted), jid_resource(jid));
}

bool blocklist_has(const struct user *u, const struct jid *jid)
{
    if (u->blocked == NULL || jid->domain_n == 0 || span_eq(jid_bare(jid), span_of(u->bare)))
        return false;
    if (map_get(u->blocked, jid_full(jid)) != NULL || map_get(u->blocked, jid_bare(jid)) != NULL ||
        map_get(u->blocked, jid_domain(jid)) != NULL)
        return true;
    if (jid->local_n == 0 || jid->resource_n == 0)
        return false;
    struct buf place = {0};
    buf_add_span(&place, jid_domain(jid));
    buf_add_char(&place, '/');
    buf_add_span(&place, jid_resource(jid));
    bool found = map_get(u->blocked, buf_span(&place)) != NULL;
    buf_free(&place);
    return found;
}

bool blocklist_withholds(const struct user *u, struct span raw)
{
    struct stanza s;
    return u->blocked != NULL && stanza_index(u->core->parser, raw, &s) && blocklist_has(u, &s.from);
}

bool blocklist_add(struct user *u, struct span jid)
{
    if (u->blocked == NULL)
        u->blocked = xcalloc(1, sizeof *u->blocked);
    if (jid.n == 0 || map_get(u->blocked, jid) != NULL)
        return false;
    char *key = span_dup(jid);
    map_put(u->blocked, span_of(key), key);
    return true;
}

bool blocklist_remove(struct user *u, struct span jid)
{
    char *key = u->blocked != NULL ? map_del(u->blocked, jid) : NULL;
    if (key == NULL)
        return false;
    free(key);
    if (u->blocked->count == 0)
        blocklist_free(u);
    return true;
}

size_t blocklist_count(const struct user *u)
{
    return u->blocked != NULL ? u->blocked->count : 0;
}

const char *blocklist_next(const struct user *u, size_t *at)
{
    return u->blocked != NULL ? map_next(u->blocked, at) : NULL;
}

void blocklist_write(const struct user *u, struct buf *out)
{
    size_t at = 0;
    const char *jid;
    while ((jid = blocklist_next(u, &at)) != NULL)
        buf_addf(out, "%s\n", jid);
}

void blocklist_save(struct user *u)
{
    struct buf text = {0}, changed = {0};
    blocklist_write(u, &text);
    u->blocked_changed_ms = u->core->out.wall_ms(u->core->out.ctx);
    buf_add_u64(&changed, u->blocked_changed_ms);
    store_put(user_batch(u), STORE_META, FIELD_CHANGED, buf_span(&changed));
    buf_free(&changed);
    if (text.n > 0)
        store_put(user_batch(u), STORE_META, FIELD, buf_span(&text));
    else
        store_drop(user_batch(u), STORE_META, FIELD);
    buf_free(&text);
}
