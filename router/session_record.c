/* A session's record in the store: what another router needs to go on with it. */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "router/mailbox.h"
#include "router/session_internal.h"

#define SYNC_TIMEOUT_MS 10000
#define GRACE_MS        5000

/* The record: one line of numbers, then lines `a CONNECTION` (which has the session: the only one whose SYNC
 * a successor believes), `o SINCE` (session.since), `u N ID` (unacknowledged entries), `d JID` (directed
 * presence), `k KNOWN CURSOR BEHIND ATTACHED LISTED`, `w FIRST LAST` (all unfinished entries between them are
 * still to be sent to the session) and the presence at the end. The marks of mailbox entries up to KNOWN are
 * void: outbound numbers may have been given anew since they were written. What is marked and neither under
 * `u` nor under `w` has been acknowledged by this session, and is only there because others have not. */

enum {
    FLAG_SM = 1,
    FLAG_AVAILABLE = 2,
    FLAG_INTERESTED = 4,
    FLAG_CARBONS = 8,
    FLAG_DETACHED = 16,
    FLAG_BLOCKLIST = 32
};

static void add_range(struct session *s, uint32_t *cap, struct store_id first, struct store_id last)
{
    if (s->wanted_count == *cap) {
        *cap = *cap == 0 ? 4 : *cap * 2;
        s->wanted = xrealloc(s->wanted, *cap * sizeof *s->wanted);
    }
    s->wanted[s->wanted_count++] = (struct session_range){first, last};
}

/* What it shall have and could not take yet, as ranges of the entries that there are. */
static void list_wanted(struct session *s)
{
    struct store_id first = {0}, last = {0};
    uint32_t cap = 0;
    free(s->wanted);
    s->wanted = NULL;
    s->wanted_count = 0;
    LIST_EACH (it, &s->user->entries) {
        const struct entry *e = LIST_ENTRY(it, struct entry, node);
        bool wants = mailbox_wanted_by(e, s->sid);
        if (wants && first.ms == 0)
            first = e->id;
        else if (!wants && first.ms != 0)
            add_range(s, &cap, first, last);
        if (!wants)
            first = (struct store_id){0};
        last = e->id;
    }
    if (first.ms != 0)
        add_range(s, &cap, first, last);
}

static void write_wanted(struct buf *b, const struct session *s)
{
    for (uint32_t i = 0; i < s->wanted_count; i++) {
        const struct session_range *r = &s->wanted[i];
        buf_addf(b, "w %llu %llu %llu %llu\n", (unsigned long long)r->first.ms,
                 (unsigned long long)r->first.seq, (unsigned long long)r->last.ms,
                 (unsigned long long)r->last.seq);
    }
}

void session_save(struct session *s)
{
    struct buf b = {0};
    struct core *c = s->user->core;
    unsigned flags = (s->sm ? FLAG_SM : 0) | (s->available ? FLAG_AVAILABLE : 0) |
                     (s->interested ? FLAG_INTERESTED : 0) | (s->carbons ? FLAG_CARBONS : 0) |
                     (s->wants_blocklist ? FLAG_BLOCKLIST : 0) |
                     (s->state == SESSION_DETACHED ? FLAG_DETACHED : 0);
    uint64_t wall = c->out.wall_ms(c->out.ctx);
    uint64_t deadline = s->state == SESSION_DETACHED ? wall + (s->timeout.deadline_ms - c->now_ms) : 0;
    uint64_t since = wall - (c->now_ms - s->available_since_ms);
    buf_addf(&b, "1 %llu %s %llu %u %d %llu %llu %llu %llu %llu %u %llu %llu %llu\n",
             (unsigned long long)s->sid, s->node, (unsigned long long)s->node_incarnation, flags, s->priority,
             (unsigned long long)s->in_handled, (unsigned long long)s->out_sent,
             (unsigned long long)s->out_acked, (unsigned long long)s->sm_in_base,
             (unsigned long long)s->sm_out_base, s->resume_s, (unsigned long long)deadline,
             (unsigned long long)since, (unsigned long long)s->last_active_wall_ms);
    if (s->asked_as != 0)
        buf_addf(&b, "a %llu\n", (unsigned long long)s->asked_as);
    buf_addf(&b, "o %llu %llu\n", (unsigned long long)s->since.ms, (unsigned long long)s->since.seq);
    for (uint32_t i = 0; i < s->unacked_count; i++) {
        const struct unacked *x = unacked_at(s, i);
        if (x->entry != NULL)
            buf_addf(&b, "u %llu %llu %llu\n", (unsigned long long)x->n, (unsigned long long)x->entry->id.ms,
                     (unsigned long long)x->entry->id.seq);
    }
    /* Marks that have not been read are not void: a session may be lost while its user is being loaded. */
    bool restoring = s->user->restoring;
    struct store_id known = restoring ? s->known : s->user->last_id;
    bool behind = restoring ? s->was_behind : s->catching_up || s->restored;
    bool listed = !restoring || s->wanted_known;
    buf_addf(&b, "k %llu %llu %llu %llu %d %llu %d\n", (unsigned long long)known.ms,
             (unsigned long long)known.seq, (unsigned long long)s->cursor.ms,
             (unsigned long long)s->cursor.seq, behind, (unsigned long long)s->attached, listed);
    if (behind && !restoring)
        list_wanted(s);
    if (behind)
        write_wanted(&b, s);
    size_t at = 0;
    char *jid;
    while ((jid = map_next(&s->directed, &at)) != NULL)
        buf_addf(&b, "d %s\n", jid);
    if (s->presence != NULL) {
        buf_add_lit(&b, "p ");
        buf_add_span(&b, rcbuf_span(s->presence));
    }
    /* What the record no longer lists as unacknowledged must not look unfinished to who loads it. */
    s->user->floor_written_ms = 0;
    store_put(user_batch(s->user), STORE_SESSIONS, span_of(s->resource), buf_span(&b));
    buf_free(&b);
}

static uint64_t next_number(struct span *line, bool *bad)
{
    uint64_t v = 0;
    *bad |= !span_to_u64(span_cut(line, ' '), UINT64_MAX, &v);
    return v;
}

struct numbers {
    uint64_t version, sid, incarnation, flags, in_handled, out_sent, out_acked, in_base, out_base, resume_s,
        deadline, since, active;
    int64_t priority;
    struct span node;
};

static bool parse_numbers(struct span line, struct numbers *x)
{
    bool bad = false;
    x->version = next_number(&line, &bad);
    x->sid = next_number(&line, &bad);
    x->node = span_cut(&line, ' ');
    x->incarnation = next_number(&line, &bad);
    x->flags = next_number(&line, &bad);
    bad |= !span_to_i64(span_cut(&line, ' '), -128, 127, &x->priority);
    x->in_handled = next_number(&line, &bad);
    x->out_sent = next_number(&line, &bad);
    x->out_acked = next_number(&line, &bad);
    x->in_base = next_number(&line, &bad);
    x->out_base = next_number(&line, &bad);
    x->resume_s = next_number(&line, &bad);
    x->deadline = next_number(&line, &bad);
    x->since = next_number(&line, &bad);
    x->active = next_number(&line, &bad);
    return !bad && x->version == 1 && x->node.n > 0 && x->node.n < 64;
}

static void restore_line(struct session *s, struct span line)
{
    bool bad = false;
    struct span kind = span_cut(&line, ' ');
    if (span_is(kind, "a")) {
        uint64_t connection = next_number(&line, &bad);
        s->asked_as = bad ? 0 : connection;
    } else if (span_is(kind, "o")) {
        s->since.ms = next_number(&line, &bad);
        s->since.seq = next_number(&line, &bad);
        if (bad)
            s->since = (struct store_id){0};
    } else if (span_is(kind, "u")) {
        uint64_t n = next_number(&line, &bad);
        struct store_id id;
        id.ms = next_number(&line, &bad);
        id.seq = next_number(&line, &bad);
        if (!bad) {
            user_saw_id(s->user, id);
            deliver_restore_assignment(s, n, id);
        }
    } else if (span_is(kind, "k")) {
        struct store_id known, cursor;
        known.ms = next_number(&line, &bad);
        known.seq = next_number(&line, &bad);
        cursor.ms = next_number(&line, &bad);
        cursor.seq = next_number(&line, &bad);
        bool behind = next_number(&line, &bad) != 0;
        uint64_t attached = next_number(&line, &bad);
        s->wanted_known = span_is(line, "1");
        if (!bad) {
            s->attached = attached;
            s->known = known;
            s->cursor = cursor;
            user_saw_id(s->user, known);
            user_saw_id(s->user, cursor);
            s->was_behind = behind;
        }
    } else if (span_is(kind, "w")) {
        struct session_range r;
        r.first.ms = next_number(&line, &bad);
        r.first.seq = next_number(&line, &bad);
        r.last.ms = next_number(&line, &bad);
        r.last.seq = next_number(&line, &bad);
        if (bad)
            return;
        s->wanted = xrealloc(s->wanted, (s->wanted_count + 1) * sizeof *s->wanted);
        s->wanted[s->wanted_count++] = r;
    } else if (span_is(kind, "d") && line.n > 0 && map_get(&s->directed, line) == NULL) {
        char *jid = span_dup(line);
        map_put(&s->directed, span_of(jid), jid);
    }
}

static void restore_one(struct user *u, struct span resource, struct span record)
{
    struct core *c = u->core;
    struct numbers x;
    char node[64] = "";
    if (!parse_numbers(span_cut(&record, '\n'), &x)) {
        log_error("session", "a session record in Redis is malformed, dropped jid=%s resource=%.*s", u->bare,
                  SPAN_FMT(resource));
        store_drop(user_batch(u), STORE_SESSIONS, resource);
        return;
    }
    memcpy(node, x.node.p, x.node.n);
    struct session *s = session_make(u, x.sid, resource, node, x.incarnation);
    s->asked_as = 0;
    s->restored = true;
    s->state = SESSION_UNSYNCED;
    s->sm = (x.flags & FLAG_SM) != 0;
    s->available = (x.flags & FLAG_AVAILABLE) != 0;
    s->interested = (x.flags & FLAG_INTERESTED) != 0;
    s->carbons = (x.flags & FLAG_CARBONS) != 0;
    s->wants_blocklist = (x.flags & FLAG_BLOCKLIST) != 0;
    s->priority = (int8_t)x.priority;
    s->in_handled = s->in_taken = x.in_handled;
    s->out_sent = x.out_sent;
    s->out_acked = x.out_acked;
    s->sm_in_base = x.in_base;
    s->sm_out_base = x.out_base;
    s->resume_s = (uint32_t)x.resume_s;
    s->last_active_wall_ms = x.active;
    uint64_t wall = c->out.wall_ms(c->out.ctx);
    s->available_since_ms = c->now_ms - MIN(c->now_ms, clock_elapsed_ms(wall, x.since));
    while (record.n > 0) {
        if (record.n > 2 && record.p[0] == 'p' && record.p[1] == ' ') {
            s->presence = rcbuf_new(record.p + 2, record.n - 2);
            break;
        }
        restore_line(s, span_cut(&record, '\n'));
    }
    if ((x.flags & FLAG_DETACHED) != 0) {
        s->state = SESSION_DETACHED;
        /* While there was no router the client could not come back. */
        uint64_t left = MIN(clock_elapsed_ms(x.deadline, wall), x.resume_s * 1000);
        timer_set(&c->timers, &s->timeout, c->now_ms + MAX(left, MIN(x.resume_s * 1000, GRACE_MS)));
    } else {
        timer_set(&c->timers, &s->timeout, c->now_ms + SYNC_TIMEOUT_MS);
    }
}

void session_restore(struct user *u, const struct store_field *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        restore_one(u, records[i].name, records[i].value);
}

void session_restore_check(struct user *u)
{
    struct core *c = u->core;
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->state == SESSION_UNSYNCED && !c->out.alive(c->out.ctx, s->node, s->node_incarnation))
            session_lost(s);
    }
}
