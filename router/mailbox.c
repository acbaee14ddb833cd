/* The mailbox of a user: ids, entries that are not finished, the floor below which all is, de-duplication,
 * and how a session catches up with it. One ordered log per bare JID; offline delivery, slow readers and
 * takeovers are all the same thing: a session reads from its cursor on until it has seen everything, then it
 * is live. */
#include "router/mailbox.h"
#include "router/blocklist.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/stats/stats.h"
#include "router/blocklist.h"
#include "router/finished.h"
#include "router/readdress.h"
#include "router/session_internal.h"

#define CHUNK         64 /* entries per read while catching up */
#define RESTORE_CHUNK 256
#define DEDUP_MS      60000 /* finished entries stay this long, so that a new owner recognises a resend */
#define FLOOR_MS      200   /* the floor is written at most that often: it is half of what an append costs */
#define TRIM_AFTER    2048  /* or so many entries; as many stay: more than can be under way to be resent */
#define GENERATION_MS 300000
#define DAY_MS        86400000ull

static struct stat_counter stored =
    STAT_COUNTER("jackdaw_router_stored_total", "Messages put into mailboxes", NULL);
static struct stat_counter finished =
    STAT_COUNTER("jackdaw_router_finished_total", "Mailbox messages acknowledged by a session", NULL);
static struct stat_counter expired =
    STAT_COUNTER("jackdaw_router_dropped_total", "Stanzas dropped, by rule", "rule=\"mailbox-keep-days\"");
static struct stat_counter withheld = STAT_COUNTER("jackdaw_router_dropped_total", "Stanzas dropped, by rule",
                                                   "rule=\"blocked-while-waiting\"");
static struct stat_counter caught_up = STAT_COUNTER(
    "jackdaw_router_caught_up_total", "Mailbox messages sent to sessions that were behind", NULL);

void mailbox_register_stats(void)
{
    stat_register(&stored.meta);
    stat_register(&finished.meta);
    stat_register(&expired.meta);
    stat_register(&withheld.meta);
    stat_register(&caught_up.meta);
}

/* De-duplication. Stanzas of a session come in order, except that one that was answered RETRY may come behind
 * its followers; so the highest number does not say it all. */

static bool taken_has(const struct taken *t, uint64_t n)
{
    return t != NULL && n <= t->n && (t->n - n >= 64 || (t->last >> (t->n - n) & 1) != 0);
}

static const struct taken *taken_of(const struct user *u, uint64_t sid)
{
    const struct taken *young = idmap_get(&u->taken[0], sid);
    return young != NULL ? young : idmap_get(&u->taken[1], sid);
}

bool mailbox_taken(struct user *u, uint64_t sid, uint64_t n)
{
    return taken_has(taken_of(u, sid), n);
}

bool mailbox_taken_after(struct user *u, uint64_t sid, uint64_t n)
{
    const struct taken *t = taken_of(u, sid);
    return t != NULL && t->n > n;
}

void mailbox_taken_free(struct idmap *taken)
{
    size_t at = 0;
    struct taken *t;
    while ((t = idmap_next(taken, &at)) != NULL)
        free(t);
    idmap_free(taken);
}

struct taken mailbox_take(struct user *u, uint64_t sid, uint64_t n)
{
    if (u->core->now_ms - u->taken_since_ms > GENERATION_MS) {
        mailbox_taken_free(&u->taken[1]);
        u->taken[1] = u->taken[0];
        u->taken[0] = (struct idmap){0};
        u->taken_since_ms = u->core->now_ms;
    }
    struct taken *t = idmap_get(&u->taken[0], sid);
    if (t == NULL) {
        const struct taken *old = idmap_get(&u->taken[1], sid);
        t = xcalloc(1, sizeof *t);
        if (old != NULL)
            *t = *old;
        idmap_put(&u->taken[0], sid, t);
    }
    struct taken before = *t;
    if (n > t->n) {
        t->last = n - t->n < 64 ? t->last << (n - t->n) : 0;
        t->n = n;
    }
    if (t->n - n < 64)
        t->last |= UINT64_C(1) << (t->n - n);
    return before;
}

void mailbox_untake(struct user *u, uint64_t sid, struct taken before)
{
    struct taken *t = idmap_get(&u->taken[0], sid);
    if (t == NULL)
        t = idmap_get(&u->taken[1], sid);
    if (t != NULL)
        *t = before;
}

/* From the mailbox, oldest first: what was before the first that is still there has been finished; what is
 * missing behind it was refused (finished.h keeps the others for a while). */
static void take_restored(struct user *u, uint64_t sid, uint64_t n)
{
    bool first = taken_of(u, sid) == NULL;
    mailbox_take(u, sid, n);
    if (first)
        ((struct taken *)idmap_get(&u->taken[0], sid))->last = UINT64_MAX;
}

/* Entries */

static struct entry *entry_new(struct user *u, struct store_id id)
{
    struct entry *e = xcalloc(1, sizeof *e);
    e->user = u;
    e->id = id;
    list_init(&e->node);
    /* Ids almost always come in order. */
    struct list *at = &u->entries;
    while (at->prev != &u->entries && store_id_cmp(LIST_ENTRY(at->prev, struct entry, node)->id, id) > 0)
        at = at->prev;
    list_add(at, &e->node);
    u->entry_count++;
    return e;
}

struct entry *mailbox_find(struct user *u, struct store_id id)
{
    for (struct list *it = u->entries.next; it != &u->entries; it = it->next) {
        struct entry *e = LIST_ENTRY(it, struct entry, node);
        int order = store_id_cmp(e->id, id);
        if (order == 0)
            return e;
        if (order > 0)
            break;
    }
    return NULL;
}

void deliver_entry_free(struct entry *e)
{
    list_del(&e->node);
    e->user->entry_count--;
    e->user->entry_bytes -= e->bytes;
    free(e->want);
    free(e);
}

struct entry *mailbox_append(struct user *u, bool store)
{
    uint64_t wall = u->core->out.wall_ms(u->core->out.ctx);
    if (wall > u->last_id.ms)
        u->last_id = (struct store_id){wall, 0};
    else
        u->last_id.seq++;
    struct entry *e = entry_new(u, u->last_id);
    e->stored = store;
    stat_add(&stored, store);
    return e;
}

bool mailbox_is_full(const struct user *u, size_t bytes)
{
    return u->entry_count >= (uint64_t)u->core->conf->mailbox_messages_max ||
           u->entry_bytes + bytes > (uint64_t)u->core->conf->mailbox_bytes_max;
}

void mailbox_take_back(struct user *u, struct store_id id, uint64_t sid, struct taken before)
{
    struct entry *e = mailbox_find(u, id);
    if (e != NULL) {
        LIST_EACH (it, &u->sessions)
            session_give_back(LIST_ENTRY(it, struct session, of_user), e);
        deliver_entry_free(e);
    }
    if (sid != 0)
        mailbox_untake(u, sid, before);
}

void mailbox_size(struct entry *e, size_t bytes)
{
    e->user->entry_bytes += bytes - e->bytes;
    e->bytes = (uint32_t)bytes;
}

bool mailbox_takes_now(const struct session *s)
{
    /* Which numbers a restored session's client has seen is not known before it is back. */
    return session_has_room(s) && !s->catching_up && s->state != SESSION_UNSYNCED && !s->restored;
}

void mailbox_add_mark(struct buf *marks, uint64_t sid, uint64_t n)
{
    if (marks->n > 0)
        buf_add_char(marks, ' ');
    else
        buf_reserve(marks, 48);
    buf_add_u64(marks, sid);
    buf_add_char(marks, '=');
    buf_add_u64(marks, n);
}

void mailbox_want(struct entry *e, uint64_t sid)
{
    e->want = xrealloc(e->want, (e->want_count + 1) * sizeof *e->want);
    e->want[e->want_count++] = sid;
}

bool mailbox_wanted_by(const struct entry *e, uint64_t sid)
{
    for (unsigned i = 0; i < e->want_count; i++)
        if (e->want[i] == sid)
            return true;
    return false;
}

static void unwant(struct entry *e, uint64_t sid)
{
    for (unsigned i = 0; i < e->want_count; i++)
        if (e->want[i] == sid)
            e->want[i--] = e->want[--e->want_count];
}

/* The greatest id below one. */
static struct store_id id_before(struct store_id id)
{
    return id.seq > 0 ? (struct store_id){id.ms, id.seq - 1} : (struct store_id){id.ms - 1, UINT64_MAX};
}

static void finish(struct entry *e)
{
    struct user *u = e->user;
    bool head = u->entries.next == &e->node, was_stored = e->stored;
    struct store_id id = e->id;
    stat_add(&finished, 1);
    u->untrimmed += was_stored;
    deliver_entry_free(e);
    if (!head) {
        if (was_stored)
            finished_add(u, id);
        return;
    }
    u->floor =
        list_empty(&u->entries) ? u->last_id : id_before(LIST_ENTRY(u->entries.next, struct entry, node)->id);
    if (was_stored && !u->floor_moved && u->state != USER_GONE) {
        u->floor_moved = true;
        list_add(&u->core->floor_users, &u->floor_node);
    }
}

void mailbox_settle(struct entry *e)
{
    if (e->refs == 0 && e->want_count == 0 && e->acked)
        finish(e);
}

void deliver_entry_end(struct entry *e, bool acked)
{
    CHECK(e->refs > 0);
    e->refs--;
    e->acked |= acked;
    mailbox_settle(e);
}

/* Below what the store may trim the mailbox now; ms 0 = not yet: below where the floor was a de-duplication
 * window ago, or TRIM_AFTER entries ago. The window is measured by the monotonic clock, since a wall clock
 * that is set forward would end it early. (user.c trims what is left when the user has been idle for longer
 * than the window.) */
static struct store_id trim_below(struct user *u)
{
    uint64_t now = u->core->now_ms;
    struct store_id below = {0};
    if (u->untrimmed >= TRIM_AFTER || now - u->trim_mark_ms >= DEDUP_MS) {
        below = u->trim_mark;
        u->trim_mark = u->floor;
        u->trim_mark_ms = now;
        u->untrimmed = 0;
    }
    return below;
}

void deliver_write_floor(struct user *u)
{
    uint64_t now = u->core->now_ms;
    if (!u->floor_moved || (u->floor_written_ms != 0 && now - u->floor_written_ms < FLOOR_MS))
        return; /* core.floors comes back to it */
    u->floor_written_ms = now;
    char text[48];
    int n = snprintf(text, sizeof text, "%llu-%llu", (unsigned long long)u->floor.ms,
                     (unsigned long long)u->floor.seq);
    u->floor_moved = false;
    list_del(&u->floor_node);
    store_put(&u->batch, STORE_META, SPAN("floor"), span_make(text, (size_t)n));
    finished_sweep(u);
    struct store_id below = trim_below(u);
    if (below.ms > 0 && store_id_cmp(below, u->trimmed) > 0) {
        u->trimmed = below;
        store_trim(&u->batch, below);
    }
}

/* Catching up */

struct reading {
    struct user *user;
    uint64_t sid;
};

static void read_done(void *ctx, enum store_result result, const struct store_entry *entries, size_t count);

static void read_more(struct session *s)
{
    struct user *u = s->user;
    struct reading *r = xcalloc(1, sizeof *r);
    *r = (struct reading){u, s->sid};
    s->reading = true;
    user_hold(u);
    u->core->store->face->read(u->core->store, span_of(u->bare), s->cursor, CHUNK, read_done, r);
}

void deliver_catch_up(struct session *s)
{
    if (s->state == SESSION_CLOSED || s->state == SESSION_UNSYNCED || s->restored ||
        list_empty(&s->user->entries)) {
        s->catching_up = false; /* a restored session comes back here when its client does */
        return;
    }
    if (!s->catching_up) {
        s->catching_up = true;
        session_save(s); /* what is not in its record now must not look as if it had been acknowledged */
    }
    if (!s->reading && session_has_room(s) && s->user->core->store_up)
        read_more(s);
}

void deliver_catch_up_again(struct session *s)
{
    if (s->available && s->priority >= 0)
        LIST_EACH (it, &s->user->entries) { /* from now on it is this session's, whatever it says meanwhile */
            struct entry *e = LIST_ENTRY(it, struct entry, node);
            if (e->refs == 0 && e->want_count == 0 && !e->acked)
                mailbox_want(e, s->sid);
        }
    s->cursor = s->user->floor;
    s->reread = s->reading;
    if (s->catching_up)
        session_save(s); /* with that cursor */
    deliver_catch_up(s);
}

/* The stanza with a delay element before its end tag (XEP-0203). */
static void add_delayed(struct buf *out, const struct user *u, const struct store_entry *entry)
{
    struct span raw = entry->raw;
    bool empty = raw.n > 2 && raw.p[raw.n - 2] == '/';
    size_t tail = raw.n;
    while (!empty && tail > 0 && raw.p[tail - 1] != '<')
        tail--;
    buf_add(out, raw.p, empty ? raw.n - 2 : tail - 1);
    if (empty)
        buf_add_char(out, '>');
    stanza_add_delay(out, jid_domain(&u->jid), entry->at_ms);
    if (empty)
        buf_add_lit(out, "</message>");
    else
        buf_add(out, raw.p + tail - 1, raw.n - tail + 1);
}

/* True when no session could have it at once (its marks are "SID=OUTNR" then with OUTNR 0, or there are
 * none): that it was stored must show, however short it was (XEP-0160, XEP-0203). */
static bool nobody_took(struct span marks)
{
    while (marks.n > 0) {
        struct span mark = span_cut(&marks, ' ');
        span_cut(&mark, '=');
        if (!span_is(mark, "0"))
            return false;
    }
    return true;
}

/* Sends one stored entry to a session that is behind; numbers are given now, the bytes leave when the
 * session's record with them is committed. */
static void send_entry(struct session *s, struct entry *e, const struct store_entry *stored_entry)
{
    struct user *u = s->user;
    struct buf raw = {0};
    if (e->copy && readdress(&raw, stored_entry->raw, span_of(u->bare), span_of(s->full)))
        ; /* as it was made, for this session */
    else if (nobody_took(stored_entry->marks) ||
             clock_age_ms(u->core->out.wall_ms(u->core->out.ctx), stored_entry->at_ms) > 1000)
        add_delayed(&raw, u, stored_entry);
    else
        buf_add_span(&raw, stored_entry->raw);
    unwant(e, s->sid);
    stat_add(&caught_up, 1);
    deliver_reserved(s, e, buf_span(&raw));
    buf_free(&raw);
}

static bool is_for(const struct entry *e, const struct session *s)
{
    if (mailbox_wanted_by(e, s->sid))
        return true;
    return e->refs == 0 && e->want_count == 0 && !e->acked && s->available && s->priority >= 0;
}

static void take_chunk(struct session *s, const struct store_entry *entries, size_t count)
{
    struct user *u = s->user;
    uint64_t wall = u->core->out.wall_ms(u->core->out.ctx);
    int64_t keep_ms = (int64_t)u->core->conf->mailbox_keep_days * DAY_MS;
    if (count > 0)
        session_save(s); /* opens the batch that what is sent here waits for */
    for (size_t i = 0; i < count && session_has_room(s); i++) {
        struct entry *e = mailbox_find(u, entries[i].id);
        s->cursor = entries[i].id;
        if (e == NULL || !is_for(e, s))
            continue;
        bool old = clock_age_ms(wall, entries[i].at_ms) > keep_ms;
        if (old || blocklist_withholds(u, entries[i].raw)) {
            stat_add(old ? &expired : &withheld, 1);
            unwant(e, s->sid);
            e->acked = true;
            mailbox_settle(e);
            continue;
        }
        send_entry(s, e, &entries[i]);
    }
    if (count > 0)
        session_save(s); /* with the numbers just given */
}

static bool is_behind(const struct session *s)
{
    /* What is in memory only (delivery.durability = memory) can't be read. */
    for (const struct list *it = s->user->entries.prev; it != &s->user->entries; it = it->prev) {
        const struct entry *e = LIST_ENTRY(it, struct entry, node);
        if (store_id_cmp(e->id, s->cursor) <= 0)
            return false;
        if (e->stored)
            return true;
    }
    return false;
}

static void read_done(void *ctx, enum store_result result, const struct store_entry *entries, size_t count)
{
    struct reading *r = ctx;
    struct user *u = r->user;
    struct session *s = session_find(u->core, r->sid);
    if (s != NULL && s->user == u) {
        bool again = s->reread;
        s->reading = s->reread = false;
        if (again) {
            deliver_catch_up(s);
        } else if (result == STORE_OK) {
            take_chunk(s, entries, count);
            if (count < CHUNK && !is_behind(s))
                s->catching_up = false;
            else if (session_has_room(s))
                read_more(s);
        } else {
            core_store_again(u->core);
        }
    }
    free(r);
    user_release(u);
}

/* Whose stream is there comes first, then priority. */
static bool is_better(const struct session *s, const struct session *than)
{
    bool attached = s->state != SESSION_DETACHED;
    if (attached != (than->state != SESSION_DETACHED))
        return attached;
    return s->priority > than->priority;
}

void deliver_reassign(struct user *u)
{
    struct session *best = NULL;
    bool orphan = false;
    u->reassign = u->restoring;
    if (u->restoring)
        return; /* whose an entry is stands in marks that have not been read */
    LIST_EACH (it, &u->entries) {
        struct entry *e = LIST_ENTRY(it, struct entry, node);
        for (unsigned i = 0; i < e->want_count; i++)
            if (session_find(u->core, e->want[i]) == NULL ||
                session_find(u->core, e->want[i])->state == SESSION_CLOSED)
                e->want[i--] = e->want[--e->want_count];
        orphan |= e->refs == 0 && e->want_count == 0 && !e->acked;
        mailbox_settle(e);
    }
    if (!orphan)
        return;
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->available && s->priority >= 0 && (best == NULL || is_better(s, best)))
            best = s;
    }
    if (best != NULL)
        deliver_catch_up_again(best);
}

/* After a load */

void deliver_restore_assignment(struct session *s, uint64_t n, struct store_id id)
{
    struct entry *e = mailbox_find(s->user, id);
    if (e == NULL)
        e = entry_new(s->user, id); /* stored = false until the mailbox shows it */
    session_assign(s, e, n);
}

static bool has_assigned(const struct session *s, const struct entry *e)
{
    for (uint32_t i = 0; i < s->unacked_count; i++)
        if (unacked_at(s, i)->entry == e)
            return true;
    return false;
}

static bool is_listed(const struct session *s, struct store_id id)
{
    for (uint32_t i = 0; i < s->wanted_count; i++)
        if (store_id_cmp(id, s->wanted[i].first) >= 0 && store_id_cmp(id, s->wanted[i].last) <= 0)
            return true;
    return false;
}

/* Entries up to `known`: what the session's record says of them. */
static void restore_known(struct session *s, struct entry *e, bool marked)
{
    bool wants =
        s->wanted_known ? is_listed(s, e->id) : marked && s->was_behind && store_id_cmp(e->id, s->cursor) > 0;
    if (wants && !mailbox_wanted_by(e, s->sid))
        mailbox_want(e, s->sid);
    else if (!wants && marked && s->wanted_known)
        e->acked = true; /* by this one: when the others are gone nobody gets it anew */
}

static void restore_marks(struct user *u, struct entry *e, struct span marks)
{
    while (marks.n > 0) {
        struct span mark = span_cut(&marks, ' ');
        uint64_t sid, n;
        if (!span_to_u64(span_cut(&mark, '='), UINT64_MAX, &sid) || !span_to_u64(mark, UINT64_MAX, &n))
            continue;
        struct session *s = session_find(u->core, sid);
        if (s == NULL || s->user != u || has_assigned(s, e))
            continue;
        if (store_id_cmp(e->id, s->since) <= 0)
            continue; /* of a session before that was opened by the same question, asked again since */
        if (store_id_cmp(e->id, s->known) <= 0) {
            restore_known(s, e, true);
        } else if (n == 0) {
            mailbox_want(e, sid);
        } else if (n > s->out_acked) {
            session_assign(s, e, n);
        }
    }
}

static void restore_entry(struct user *u, const struct store_entry *stored_entry)
{
    struct span origin = stored_entry->origin;
    bool copy = origin.n > 0 && origin.p[0] == COPY_MARK;
    if (copy)
        origin = span_sub(origin, 1, origin.n);
    size_t colon = span_index(origin, ':');
    uint64_t sid, n;
    if (span_to_u64(span_sub(origin, 0, colon), UINT64_MAX, &sid) &&
        span_to_u64(span_sub(origin, colon + 1, origin.n), UINT64_MAX, &n))
        take_restored(u, sid, n);
    user_saw_id(u, stored_entry->id);
    if (store_id_cmp(stored_entry->id, u->floor) <= 0 || finished_has(u, stored_entry->id))
        return;
    struct entry *e = mailbox_find(u, stored_entry->id);
    if (e == NULL)
        e = entry_new(u, stored_entry->id);
    e->stored = true;
    e->copy = copy;
    e->acked |= copy;
    mailbox_size(e, stored_entry->raw.n);
    restore_marks(u, e, stored_entry->marks);
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (store_id_cmp(e->id, s->known) <= 0 && !has_assigned(s, e))
            restore_known(s, e, false);
    }
}

/* What a record lists but the mailbox no longer has was finished after the record was written. */
static void drop_vanished(struct user *u)
{
    LIST_EACH (it, &u->entries) {
        struct entry *e = LIST_ENTRY(it, struct entry, node);
        if (e->stored)
            continue;
        LIST_EACH (at, &u->sessions)
            session_unassign_entry(LIST_ENTRY(at, struct session, of_user), e);
        deliver_entry_free(e);
    }
}

static void restore_done(void *ctx, enum store_result result, const struct store_entry *entries, size_t count)
{
    struct user *u = ctx;
    if (u->state != USER_GONE && result == STORE_AWAY) {
        log_info("mailbox", "waiting for Redis to read a mailbox jid=%s", u->bare);
        u->restore_wanted = true;
        core_store_again(u->core);
        return;
    }
    if (u->state != USER_GONE && result == STORE_OK) {
        u->restoring = count == RESTORE_CHUNK;
        for (size_t i = 0; i < count; i++)
            restore_entry(u, &entries[i]);
        if (u->restoring) {
            u->core->store->face->read(u->core->store, span_of(u->bare), entries[count - 1].id, RESTORE_CHUNK,
                                       restore_done, u);
            return;
        }
        drop_vanished(u);
        LIST_EACH (it, &u->entries)
            mailbox_settle(LIST_ENTRY(it, struct entry, node));
        if (u->reassign)
            deliver_reassign(u);
        session_restore_check(u);
    }
    user_unblock(u);
}

void deliver_restore(struct user *u)
{
    user_block(u);
    u->restoring = true;
    mailbox_restore_read(u);
}

void mailbox_store_back(struct core *c)
{
    size_t at = 0;
    struct user *u;
    while ((u = map_next(&c->users, &at)) != NULL) {
        if (u->restore_wanted) {
            u->restore_wanted = false;
            mailbox_restore_read(u);
        }
        LIST_EACH (it, &u->sessions) {
            struct session *s = LIST_ENTRY(it, struct session, of_user);
            if (s->catching_up)
                deliver_catch_up(s);
        }
    }
}

void mailbox_restore_read(struct user *u)
{
    u->core->store->face->read(u->core->store, span_of(u->bare), (struct store_id){0, 0}, RESTORE_CHUNK,
                               restore_done, u);
}
