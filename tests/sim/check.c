/* The ledger: what was said, acknowledged and heard, and what must be true at the end. */
#include <stdio.h>
#include <stdlib.h>

#include "router/session_internal.h"
#include "tests/sim/sim.h"

int check_sent(struct client *from, int to_user, int to_client)
{
    if (w.message_count == w.message_cap) {
        w.message_cap = MAX(w.message_cap * 2, 256);
        w.messages = xrealloc(w.messages, (size_t)w.message_cap * sizeof *w.messages);
    }
    w.messages[w.message_count] = (struct message){.from_session = from->session,
                                                   .to_user = to_user,
                                                   .to_client = to_client,
                                                   .seq = ++from->said_seq[to_user],
                                                   .at_us = w.now_us};
    return w.message_count++;
}

int check_said(int session, int to_user, uint32_t seq)
{
    struct client speaker = {.session = session};
    speaker.said_seq[to_user] = seq - 1;
    return check_sent(&speaker, to_user, -1);
}

void check_acked(int message)
{
    sim_say("m%d is acknowledged", message);
    w.messages[message].acked = true;
}

void check_written(int message)
{
    if (message < w.message_count)
        w.messages[message].written = true;
}

static bool has_got(const struct message *m, int session)
{
    for (int i = 0; i < m->got_count; i++)
        if (m->got[i] == session)
            return true;
    return false;
}

static int clients_of(int user)
{
    int n = 0;
    for (int i = 0; i < w.clients; i++)
        n += w.client[i].user == user;
    return n;
}

/* Among what one stream said to one user, a session hears in order. Where a second session may have had the
 * message before (another resource, or an old session that still waits) this need not be so, nor between
 * messages to the account, which wait for presence, and to the session, which do not. A refused message is
 * not acknowledged: when its router dies before that, it is said again and may find room then. */
static void check_order(const struct client *c, int at)
{
    const struct message *m = &w.messages[at];
    if (clients_of(c->user) > 1 || m->refused || m->at_us < c->order_from_us ||
        (m->to_client >= 0 && m->at_us < c->bound_us))
        return;
    for (int i = at + 1; i < w.message_count; i++) {
        const struct message *later = &w.messages[i];
        if (later->from_session == m->from_session && later->to_user == m->to_user &&
            (later->to_client >= 0) == (m->to_client >= 0) && has_got(later, c->session))
            sim_fail("m%d came to %s behind m%d of the same stream", at, c->full, i);
    }
}

void check_got(struct client *c, int message, bool error)
{
    if (message < 0 || message >= w.message_count)
        return;
    struct message *m = &w.messages[message];
    sim_say("%s hears m%d%s", c->full, message, error ? " back as an error" : "");
    if (error) {
        m->refused = true;
        return;
    }
    if (m->to_user != c->user)
        sim_fail("m%d came to %s", message, c->full);
    if (has_got(m, c->session))
        sim_fail("m%d came twice to %s in session %d", message, c->full, c->session);
    check_order(c, message);
    if (m->got_count < GOT_MAX)
        m->got[m->got_count++] = c->session;
}

/* ---- the end ---- */

/* All have the same priority: a session that was available from before a message to the account until now has
 * had it, whether its stream was there or not, and whoever else has. */
static void check_everybody(int at)
{
    const struct message *m = &w.messages[at];
    for (int i = 0; i < w.clients && m->to_client < 0 && m->acked && !m->refused; i++) {
        const struct client *c = &w.client[i];
        if (c->user == m->to_user && c->listens_us < m->at_us && !has_got(m, c->session))
            sim_fail("m%d never came to %s, which was available all the time", at, c->full);
    }
}

static void check_messages(void)
{
    for (int i = 0; i < w.message_count && !w.failed; i++) {
        const struct message *m = &w.messages[i];
        if (m->acked && m->got_count == 0 && !m->written && !m->refused)
            sim_fail("m%d to %s was acknowledged and is lost", i, sim_user(m->to_user));
        check_everybody(i);
    }
}

static void check_clients(void)
{
    for (int i = 0; i < w.clients && !w.failed; i++) {
        const struct client *c = &w.client[i];
        if (!c->bound)
            sim_fail("%s is not bound at the end", c->full);
        else if (c->wants_sm && !c->sm)
            sim_fail("%s has no stream management at the end", c->full);
        else if (!list_empty(&c->unacked))
            sim_fail("%s has stanzas that nobody acknowledges (first: m%d)", c->full,
                     LIST_ENTRY(c->unacked.next, struct unsaid, node)->message);
    }
}

static void check_presence(void)
{
    for (int i = 0; i < w.clients && !w.failed; i++)
        for (int j = 0; j < w.clients && !w.failed; j++) {
            const struct client *c = &w.client[i], *other = &w.client[j];
            bool sees = c->user == other->user || w.contact[c->user][other->user];
            int truth = sees && other->available ? other->status : -1;
            if (i != j && c->available && c->seen[j] != truth)
                sim_fail("%s sees %s at s%d, and it is s%d", c->full, other->full, c->seen[j], truth);
        }
}

static void check_user(const struct node *n, const struct user *u)
{
    unsigned sessions = 0;
    for (const struct list *it = u->sessions.next; it != &u->sessions; it = it->next) {
        const struct session *s = LIST_ENTRY((struct list *)it, struct session, of_user);
        sessions++;
        if (s->state != SESSION_LIVE || s->restored)
            sim_fail("%s: session %s is not live", n->name, s->full);
        if (s->in_handled != s->in_taken)
            sim_fail("%s: %s has work open: taken %llu handled %llu", n->name, s->full,
                     (unsigned long long)s->in_taken, (unsigned long long)s->in_handled);
        if (s->catching_up || s->reading)
            sim_fail("%s: %s still reads its mailbox", n->name, s->full);
        for (uint32_t i = 0; i < s->unacked_count; i++)
            if (unacked_at(s, i)->entry != NULL)
                sim_fail("%s: %s has a message that is not acknowledged", n->name, s->full);
    }
    if (!list_empty(&u->entries))
        sim_fail("%s: %s has %u unfinished messages", n->name, u->bare, u->entry_count);
    if (u->state != USER_READY || u->blocks != 0 || !list_empty((struct list *)&u->lane))
        sim_fail("%s: %s is not ready", n->name, u->bare);
    if (u->holds != sessions)
        sim_fail("%s: %s has %u holds and %u sessions", n->name, u->bare, u->holds, sessions);
    if (u->commit != NULL || u->batch.count > 0)
        sim_fail("%s: %s has open commits", n->name, u->bare);
}

static void check_routers(void)
{
    int live = 0;
    for (int i = 0; i < ROUTERS && !w.failed; i++) {
        const struct node *n = &w.nodes[i];
        struct user *u;
        size_t at = 0;
        if (!n->up || !n->core->acting)
            sim_fail("%s does not act at the end: up=%d holds=%d renewing=%d renew_in=%lld", n->name, n->up,
                     n->member.holds, n->renewing, (long long)(n->member.renew_at_ms - sim_ms()));
        else if (n->core->pending.count > 0)
            sim_fail("%s has %zu stanzas that nobody has confirmed", n->name, n->core->pending.count);
        else if (n->core->syncing.count > 0)
            sim_fail("%s still waits for %zu sessions", n->name, n->core->syncing.count);
        while (!w.failed && (u = map_next(&n->core->users, &at)) != NULL)
            check_user(n, u);
        if (!w.failed)
            live += (int)n->core->sessions.count;
    }
    if (!w.failed && live != w.clients)
        sim_fail("%d sessions for %d clients", live, w.clients);
}

static void check_managers(void)
{
    int left = 0;
    if (gateway_left() > 0)
        sim_fail("the gateway has %zu stanzas that nobody has taken", gateway_left());
    for (int i = ROUTERS; i < GATEWAY && !w.failed; i++)
        if (!manager_is_clean(&w.nodes[i], &left))
            sim_fail("%s has work left: %d stanzas", w.nodes[i].name, left);
}

/* Everybody sees the same members. */
static void check_views(void)
{
    for (int i = 1; i < NODES && !w.failed; i++)
        for (unsigned slot = 0; slot < MEMBER_SLOTS && !w.failed; slot += 61) {
            const struct member_node *a = node_owner(&w.nodes[0], (uint16_t)slot),
                                     *b = node_owner(&w.nodes[i], (uint16_t)slot);
            if (a == NULL || b == NULL || strcmp(a->name, b->name) != 0 ||
                w.nodes[i].member.epoch != registry_epoch())
                sim_fail("%s and %s do not see the same owners (epochs %u and %u of %u)", w.nodes[0].name,
                         w.nodes[i].name, w.nodes[0].member.epoch, w.nodes[i].member.epoch, registry_epoch());
        }
}

void check_end(void)
{
    check_views();
    check_clients();
    check_messages();
    check_routers();
    check_managers();
    check_presence();
}

void check_readable(struct span raw, struct span to)
{
    struct xml_audit reader = {0};
    struct buf out = {0};
    size_t name = 1;
    while (name < raw.n && raw.p[name] >= 'a' && raw.p[name] <= 'z')
        name++;
    buf_add_lit(&out,
                "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "'>");
    buf_add(&out, raw.p, MIN(name, raw.n));
    if (to.n > 0)
        xml_add_attr(&out, "to", to);
    buf_add_span(&out, span_sub(raw, name, SIZE_MAX));
    xml_audit(&reader, buf_span(&out), "simulated");
    xml_audit_free(&reader);
    buf_free(&out);
}
