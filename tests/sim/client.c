/* Clients: they log in, send, acknowledge, lose their connections at any moment, resume on whichever
 * connection manager takes them and send again what was not acknowledged, as XEP-0198 §5 has it. And the
 * connection: two rows of lines with delays; a cut keeps a random part of what was under way. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

/* ---- the connection ---- */

static void move_up(void *a, uint64_t b);
static void move_down(void *a, uint64_t b);

static void row_plan(struct stream_pipe *p, bool down)
{
    struct pipe_end *row = down ? &p->down : &p->up;
    if (row->moving || row->first == NULL)
        return;
    row->moving = true;
    uint64_t at = MAX(row->first->at_us, w.now_us);
    sim_after(at - w.now_us, down ? move_down : move_up, p, 0);
}

static struct line *row_pop(struct pipe_end *row)
{
    struct line *l = row->first;
    row->first = l->next;
    if (row->first == NULL)
        row->last = NULL;
    return l;
}

static void move_up(void *a, uint64_t b)
{
    struct stream_pipe *p = a;
    if (p->conn == NULL || p->up.first == NULL) {
        p->up.first = p->up.last = NULL;
        p->up.moving = false;
        return;
    }
    if (node_frozen(&w.nodes[p->home], move_up, a, b))
        return;
    p->up.moving = false;
    manager_line(p->conn, row_pop(&p->up));
    row_plan(p, false);
}

static void move_down(void *a, uint64_t b)
{
    (void)b;
    struct stream_pipe *p = a;
    p->down.moving = false;
    if (p->down.first == NULL)
        return;
    struct line *l = row_pop(&p->down);
    if (!p->client_gone)
        client_line(p->client, p, l);
    row_plan(p, true);
}

void pipe_say(struct stream_pipe *p, bool down, enum said kind, uint64_t num, bool has_h, struct span text)
{
    struct pipe_end *row = down ? &p->down : &p->up;
    struct line *l = sim_alloc(sizeof *l + text.n);
    l->kind = kind;
    l->num = num;
    l->has_h = has_h;
    l->n = text.n;
    if (text.n > 0)
        memcpy(l->text, text.p, text.n);
    l->at_us = w.now_us + (sim_chance(10) ? sim_between(1 * MS, 40 * MS) : sim_between(50, 2 * MS));
    if (row->last != NULL) {
        l->at_us = MAX(l->at_us, row->last->at_us);
        row->last->next = l;
    } else {
        row->first = l;
    }
    row->last = l;
    row_plan(p, down);
}

/* Only the first few of what is under way arrive. */
static void row_break(struct pipe_end *row)
{
    unsigned count = 0;
    for (struct line *l = row->first; l != NULL; l = l->next)
        count++;
    uint64_t keep = sim_random(count + 1);
    struct line *last = NULL, *l = row->first;
    for (; keep > 0; keep--) {
        last = l;
        l = l->next;
    }
    if (last != NULL)
        last->next = NULL;
    else
        row->first = NULL;
    row->last = last;
}

void pipe_server_ends(struct stream_pipe *p, bool crash)
{
    if (crash)
        row_break(&p->down);
    pipe_say(p, true, crash ? SAID_LOST : SAID_CLOSE, 0, false, SPAN(""));
}

/* The client's side of it is gone; the server hears so after a while. */
static void pipe_client_ends(struct stream_pipe *p)
{
    p->client_gone = true;
    row_break(&p->up);
    pipe_say(p, false, SAID_LOST, 0, false, SPAN(""));
}

/* ---- saying ---- */

static void say(struct client *c, enum said kind, uint64_t num, struct span text)
{
    pipe_say(c->pipe, false, kind, num, false, text);
}

static void transmit(struct client *c, struct unsaid *u)
{
    say(c, SAID_STANZA, 0, u->raw);
}

/* Says a stanza of this session: with stream management it is kept until it is acknowledged. */
static void say_stanza(struct client *c, struct unsaid *u)
{
    if (c->sm_asked) {
        u->n = ++c->out_n;
        list_add(&c->unacked, &u->node);
    }
    transmit(c, u);
    if (c->sm_asked && sim_chance(50))
        say(c, SAID_R, 0, SPAN(""));
}

static struct unsaid *unsaid_new(int message, const char *text)
{
    struct unsaid *u = sim_alloc(sizeof *u);
    char *copy = sim_alloc(strlen(text) + 1);
    strcpy(copy, text);
    list_init(&u->node);
    u->message = message;
    u->raw = span_of(copy);
    return u;
}

void client_send_message(struct client *c, int to_user, int to_client)
{
    if (!c->bound || c->resuming)
        return;
    int m = check_sent(c, to_user, to_client);
    char text[256], to[64];
    if (to_client >= 0)
        snprintf(to, sizeof to, "%s/%s", sim_user(to_user), w.client[to_client].resource);
    else
        snprintf(to, sizeof to, "%s", sim_user(to_user));
    snprintf(text, sizeof text, "<message to='%s' type='chat' id='m%d'><body>%u</body></message>", to, m,
             w.messages[m].seq);
    sim_say("%s says m%d to %s", c->full, m, to);
    say_stanza(c, unsaid_new(m, text));
}

void client_presence(struct client *c, bool available)
{
    char text[128];
    if (!c->bound || c->resuming)
        return;
    bool first = available && !c->available;
    c->available = available;
    if (first || !available)
        c->listens_us = UINT64_MAX;
    if (available)
        snprintf(text, sizeof text, "<presence><status>s%d</status></presence>", ++c->status);
    else
        snprintf(text, sizeof text, "<presence type='unavailable'/>");
    sim_say("%s is %s%d", c->full, available ? "s" : "un", c->status);
    struct unsaid *u = unsaid_new(-1, text);
    u->status = first ? c->status : 0;
    c->first_status = first ? c->status : c->first_status;
    say_stanza(c, u);
}

void client_ask(struct client *c)
{
    if (!c->bound || c->resuming)
        return;
    if (!c->available)
        client_presence(c, true);
    if (c->sm)
        say(c, SAID_R, 0, SPAN(""));
}

/* ---- connections come and go ---- */

static void forget_session(struct client *c)
{
    c->sm_id[0] = '\0';
    c->sm = c->sm_asked = false;
    list_init(&c->unacked);
    c->available = false;
    c->listens_us = UINT64_MAX;
    for (int i = 0; i < w.clients; i++)
        c->seen[i] = -1;
}

static void lost(struct client *c)
{
    if (c->pipe == NULL)
        return;
    c->pipe->client_gone = true;
    c->pipe = NULL;
    c->bound = c->resuming = false;
    if (c->sm_id[0] == '\0') {
        forget_session(c);
        c->stale = true;
    }
    client_connect_soon(c,
                        sim_chance(10) ? sim_between(500 * MS, 3 * SECOND) : sim_between(5 * MS, 300 * MS));
}

void client_cut(struct client *c)
{
    if (c->pipe == NULL)
        return;
    sim_say("%s loses its connection", c->full);
    pipe_client_ends(c->pipe);
    lost(c);
}

static void deaf_ends(void *a, uint64_t b)
{
    (void)b;
    pipe_say(a, false, SAID_LOST, 0, false, SPAN(""));
}

/* Comes back elsewhere while its old connection stays open and deaf, as a telephone does that changes from
 * one network to another: most of what was under way still arrives, and the server hears only much later that
 * nobody is there any more. */
void client_roam(struct client *c)
{
    struct stream_pipe *p = c->pipe;
    if (p == NULL)
        return;
    sim_say("%s leaves its connection to %s open and goes", c->full, w.nodes[p->home].name);
    p->client_gone = p->deaf = true;
    if (sim_chance(50))
        row_break(&p->up);
    sim_after(sim_between(100 * MS, 8 * SECOND), deaf_ends, p, 0);
    lost(c);
}

void client_close(struct client *c)
{
    if (!c->bound || c->resuming)
        return;
    sim_say("%s logs out", c->full);
    say(c, SAID_CLOSE, 0, SPAN(""));
    c->pipe->client_gone = true;
    c->pipe = NULL;
    c->bound = false;
    forget_session(c);
    c->stale = true;
    client_connect_soon(c, sim_between(20 * MS, 800 * MS));
}

static void connect_now(void *a, uint64_t b)
{
    struct client *c = a;
    (void)b;
    c->reconnect_set = false;
    if (c->pipe != NULL)
        return;
    struct node *n = &w.nodes[ROUTERS + (int)sim_random(MANAGERS)];
    if (!n->up || n->leaving || !n->member.joined) {
        client_connect_soon(c, sim_between(10 * MS, 60 * MS));
        return;
    }
    c->pipe = sim_alloc(sizeof *c->pipe);
    c->pipe->client = c;
    c->pipe->home = n->at;
    manager_accept(n, c->pipe);
    c->resuming = c->sm_id[0] != '\0';
    sim_say("%s/%s connects to %s%s", sim_user(c->user), c->resource, n->name,
            c->resuming ? " to resume" : "");
    if (c->resuming)
        say(c, SAID_RESUME, c->h, span_of(c->sm_id));
    else
        say(c, SAID_BIND, 0, span_of(c->resource));
}

void client_connect_soon(struct client *c, uint64_t delay_us)
{
    if (c->reconnect_set)
        return;
    c->reconnect_set = true;
    sim_after(delay_us, connect_now, c, 0);
}

void client_start(struct client *c)
{
    snprintf(c->full, sizeof c->full, "%s/%s", sim_user(c->user), c->resource);
    forget_session(c);
    client_connect_soon(c, sim_between(0, 200 * MS));
}

/* ---- what the server says ---- */

static void on_bound(struct client *c)
{
    c->bound = true;
    c->bound_us = w.now_us;
    c->session = ++w.sessions;
    memset(c->said_seq, 0, sizeof c->said_seq);
    forget_session(c);
    c->h = c->out_n = 0;
    c->order_from_us = c->stale ? UINT64_MAX : 0;
    sim_say("%s is bound, session %d", c->full, c->session);
    if (c->wants_sm) {
        c->sm_asked = true;
        say(c, SAID_ENABLE, RESUME_S, SPAN(""));
    }
    if (sim_chance(90))
        client_presence(c, true);
}

/* Everything up to h is acknowledged. */
static void take_ack(struct client *c, uint32_t h)
{
    if (h > c->out_n) {
        sim_fail("%s is told h=%u and has said %u stanzas", c->full, h, c->out_n);
        return;
    }
    while (!list_empty(&c->unacked)) {
        struct unsaid *u = LIST_ENTRY(c->unacked.next, struct unsaid, node);
        if (u->n > h)
            break;
        if (u->message >= 0)
            check_acked(u->message);
        if (u->status != 0 && u->status == c->first_status && c->available)
            c->listens_us = w.now_us;
        list_del(&u->node);
    }
}

static void on_resumed(struct client *c, uint32_t h)
{
    sim_say("%s has resumed, h=%u", c->full, h);
    take_ack(c, h);
    c->resuming = false;
    c->bound = c->sm = true;
    LIST_EACH (it, &c->unacked)
        transmit(c, LIST_ENTRY(it, struct unsaid, node));
    say(c, SAID_R, 0, SPAN(""));
}

static void on_failed(struct client *c, const struct line *l)
{
    sim_say("%s cannot resume%s", c->full, l->has_h ? " (with h)" : "");
    if (l->has_h)
        take_ack(c, (uint32_t)l->num);
    forget_session(c);
    c->stale = true;
    c->resuming = false;
    say(c, SAID_BIND, 0, span_of(c->resource));
}

static int client_of(struct span full, int *user)
{
    *user = -1;
    for (int u = 0; u < w.users; u++) {
        size_t n = strlen(sim_user(u));
        if (full.n >= n && memcmp(full.p, sim_user(u), n) == 0)
            *user = u;
    }
    for (int i = 0; i < w.clients; i++)
        if (span_is(full, w.client[i].full))
            return i;
    return -1;
}

static bool has(struct span raw, const char *what)
{
    return memmem(raw.p, raw.n, what, strlen(what)) != NULL;
}

static void on_presence(struct client *c, struct span raw)
{
    const char *from = memmem(raw.p, raw.n, " from='", 7), *status = memmem(raw.p, raw.n, "<status>s", 9);
    if (from == NULL)
        return;
    from += 7;
    const char *end = memchr(from, '\'', (size_t)(raw.p + raw.n - from));
    int user, other = client_of(span_make(from, (size_t)(end - from)), &user);
    if (has(raw, "type='unavailable'")) {
        for (int i = 0; i < w.clients; i++)
            if (other < 0 ? w.client[i].user == user : i == other)
                c->seen[i] = -1;
    } else if (other >= 0 && !has(raw, " type=")) {
        c->seen[other] = status != NULL ? atoi(status + 9) : 0;
    }
}

static void on_stanza(struct client *c, struct span raw)
{
    c->h++;
    if (raw.n > 8 && memcmp(raw.p, "<message", 8) == 0) {
        const char *id = memmem(raw.p, raw.n, " id='m", 6);
        if (id != NULL)
            check_got(c, atoi(id + 6), has(raw, "type='error'"));
    } else if (raw.n > 9 && memcmp(raw.p, "<presence", 9) == 0) {
        on_presence(c, raw);
    }
}

static void answer_later(void *a, uint64_t b)
{
    struct stream_pipe *p = a;
    (void)b;
    if (!p->client_gone && p->client->sm)
        pipe_say(p, false, SAID_A, p->client->h, false, SPAN(""));
}

void client_line(struct client *c, struct stream_pipe *p, const struct line *l)
{
    if (p != c->pipe)
        return;
    switch (l->kind) {
    case SAID_BOUND:
        on_bound(c);
        break;
    case SAID_REFUSED:
        sim_say("%s may not bind: error %u", c->full, (unsigned)l->num);
        if (!w.store_full_lately)
            sim_fail("%s may not bind: error %u", c->full, (unsigned)l->num);
        c->pipe->client_gone = true;
        say(c, SAID_CLOSE, 0, SPAN(""));
        c->pipe = NULL;
        client_connect_soon(c, 100 * MS);
        break;
    case SAID_ENABLED:
        snprintf(c->sm_id, sizeof c->sm_id, "%.*s", (int)l->n, l->text);
        c->sm = true;
        c->h = 0;
        break;
    case SAID_RESUMED:
        on_resumed(c, (uint32_t)l->num);
        break;
    case SAID_FAILED:
        on_failed(c, l);
        break;
    case SAID_R:
        if (sim_chance(70))
            answer_later(p, 0);
        else
            sim_after(sim_between(1 * MS, 100 * MS), answer_later, p, 0);
        break;
    case SAID_A:
        take_ack(c, (uint32_t)l->num);
        break;
    case SAID_STANZA:
        on_stanza(c, span_make(l->text, l->n));
        break;
    case SAID_CLOSE:
    case SAID_LOST:
        sim_say("%s: the server %s", c->full, l->kind == SAID_LOST ? "is gone" : "ends the stream");
        lost(c);
        break;
    default:
        break;
    }
}
