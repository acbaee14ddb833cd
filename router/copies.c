#include "router/copies.h"

#include <stdlib.h>

#include "common/stats/stats.h"
#include "router/mailbox.h"
#include "router/session_internal.h"

static struct stat_counter made =
    STAT_COUNTER("jackdaw_router_copies_total", "Copies of messages for other sessions", NULL);
static struct stat_counter left_out =
    STAT_COUNTER("jackdaw_router_dropped_total", "Stanzas dropped, by rule", "rule=\"no-room-for-a-copy\"");

void copies_register_stats(void)
{
    stat_register(&made.meta);
    stat_register(&left_out.meta);
}

/* A copy on its way into the mailbox. */
struct copying {
    struct core *core;
    struct user *user;
    struct store_id id;
    uint64_t sid; /* of the origin, 0 = none */
    struct taken before;
    struct rcbuf *raw;
    unsigned count;
    struct place {
        struct reserved reserved;
        char *to; /* owned */
    } to[];
};

static void copying_free(struct copying *c)
{
    for (unsigned i = 0; i < c->count; i++)
        free(c->to[i].to);
    rcbuf_unref(c->raw);
    user_release(c->user);
    free(c);
}

static void copying_committed(void *ctx, enum store_result result)
{
    struct copying *c = ctx;
    if (result == STORE_FULL) {
        stat_add(&left_out, 1);
        mailbox_take_back(c->user, c->id, c->sid, c->before);
    }
    for (unsigned i = 0; i < c->count && result == STORE_OK; i++)
        session_send_reserved(c->core, &c->to[i].reserved, rcbuf_span(c->raw), span_of(c->to[i].to), true);
    copying_free(c);
}

static void write_copy(struct user *u, const struct entry *e, struct span raw, const struct origin *origin,
                       uint64_t at_ms, const struct buf *marks)
{
    char space[48];
    struct buf text = {space, 0, sizeof space}; /* a letter and two numbers: never grows */
    buf_add_char(&text, COPY_MARK);
    if (origin != NULL) {
        buf_add_u64(&text, origin->sid);
        buf_add_char(&text, ':');
        buf_add_u64(&text, origin->n);
    }
    struct store_entry record = {
        .id = e->id, .raw = raw, .origin = buf_span(&text), .marks = buf_span(marks), .at_ms = at_ms};
    store_append(user_batch(u), &record);
}

/* Gives the copy its places in the sessions' rows, or has them want it; the marks say so to a successor. */
static void place(struct copying *c, struct entry *e, struct session *const *to, unsigned count,
                  struct buf *marks)
{
    for (unsigned i = 0; i < count; i++) {
        struct session *s = to[i];
        uint64_t n = 0;
        if (mailbox_takes_now(s)) {
            struct place *p = &c->to[c->count++];
            p->to = xstrdup(s->full);
            p->reserved = session_reserve(s, rcbuf_span(c->raw), span_of(s->full), e);
            n = s->out_sent;
        } else {
            mailbox_want(e, s->sid);
        }
        mailbox_add_mark(marks, s->sid, n);
    }
}

void copies_add(struct user *u, struct span raw, struct session *const *to, unsigned count,
                const struct origin *origin, uint64_t at_ms)
{
    if (origin != NULL && (origin->sid == 0 || mailbox_taken(u, origin->sid, origin->n)))
        return;
    if (mailbox_is_full(u, raw.n) || u->full || !user_may_try(u->core)) {
        stat_add(&left_out, 1);
        return;
    }
    bool store = u->core->conf->delivery_durability != CONF_DURABILITY_MEMORY;
    for (unsigned i = 0; i < count; i++)
        store |= !mailbox_takes_now(to[i]) || to[i]->state != SESSION_LIVE;
    struct entry *e = mailbox_append(u, store);
    struct copying *c = xcalloc(1, sizeof *c + count * sizeof c->to[0]);
    struct buf marks = {0};
    e->copy = e->acked = true;
    *c = (struct copying){.core = u->core, .user = u, .id = e->id, .raw = rcbuf_new(raw.p, raw.n)};
    user_hold(u);
    place(c, e, to, count, &marks);
    if (origin != NULL) {
        c->sid = origin->sid;
        c->before = mailbox_take(u, origin->sid, origin->n);
    }
    mailbox_size(e, raw.n);
    stat_add(&made, 1);
    if (store)
        write_copy(u, e, raw, origin, at_ms, &marks);
    buf_free(&marks);
    if (!user_commit_pending(u)) { /* in memory only: nothing to wait for */
        copying_committed(c, STORE_OK);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        if (!mailbox_takes_now(to[i]))
            deliver_catch_up(to[i]);
    if (store)
        user_after_adding(u, copying_committed, c);
    else
        user_after_commit(u, copying_committed, c);
}
