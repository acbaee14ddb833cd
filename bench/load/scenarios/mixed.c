/* A mixed day, at --rate actions a second. The shares are those of Tigase's published test with a million
 * users online (bench/README.md): each writes a message every 400 s and changes its status every 2,800 s, 100
 * new logins come a second, rosters have 150 contacts of whom 30 are online.
 *
 * Groups of --contacts + 1 friends (30 + 1) have rosters filled up to five times as many. The last of each
 * group is the commuter: logins are its, while messages and statuses go among the others, so that every one
 * of them can be checked: numbers run per pair of people, from 0. A status change counts as one action,
 * whatever it fans out to; latency is that of messages. */
#include <stdlib.h>

#include "bench/load/numbers.h"
#include "bench/load/pace.h"
#include "bench/load/scenarios/friends.h"
#include "common/base/clock.h"
#include "common/stanza/ns.h"

#define ROSTER_TIMES 5
/* Of a million users, a second: 2,500 messages, 357 status changes, 100 logins. */
#define MESSAGES 2500
#define STATUSES 357
#define LOGINS   100

static struct {
    unsigned size, groups;
    uint64_t *written;        /* per client and member: messages from this client to that member */
    struct numbers *messages; /* had of that member */
    struct numbers *statuses; /* the same */
    uint64_t *announced;      /* per client */
    unsigned *filled, *have;  /* per client: plain roster items */
    unsigned commuter;        /* the group whose turn it is */
    uint64_t random;
    uint64_t count_messages, count_statuses, count_presence, count_logins, under_way;
    bool running;
} m = {.random = 88172645463325252u};

static unsigned draw(unsigned below)
{
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return (unsigned)(m.random % below);
}

static size_t place(unsigned client, unsigned member)
{
    return (size_t)client * m.size + member;
}

static bool is_commuter(unsigned client)
{
    return client % m.size == m.size - 1;
}

static void setup(struct bench *b)
{
    m.size = b->args.contacts + 1;
    m.groups = b->args.clients / m.size;
    size_t n = (size_t)b->args.clients * m.size;
    m.written = xcalloc(n, sizeof m.written[0]);
    m.messages = xcalloc(n, sizeof m.messages[0]);
    m.statuses = xcalloc(n, sizeof m.statuses[0]);
    m.announced = xcalloc(b->args.clients, sizeof m.announced[0]);
    m.filled = xcalloc(b->args.clients, sizeof m.filled[0]);
    m.have = xcalloc(b->args.clients, sizeof m.have[0]);
}

static void online(struct client *c)
{
    if (m.size == 0)
        setup(c->bench);
    friends_online(c);
}

/* ---- before: friends, and others who are never there ---- */

static bool ready(struct bench *b)
{
    unsigned others = b->args.contacts * (ROSTER_TIMES - 1), missing = 0;
    for (unsigned i = 0; i < b->args.clients; i++) {
        struct buf *out = client_out(&b->clients[i]);
        if (b->clients[i].state != CLIENT_ONLINE)
            continue;
        missing += m.have[i] < others;
        for (; m.filled[i] < others && m.filled[i] < m.have[i] + 32; m.filled[i]++)
            buf_addf(out,
                     "<iq type='set' id='fill'><query xmlns='" NS_ROSTER
                     "'><item jid='away%u@%s'/></query></iq>",
                     m.filled[i], b->args.domain);
        client_send(&b->clients[i]);
    }
    return friends_ready(b) && missing == 0;
}

/* ---- actions ---- */

static void write_message(struct bench *b, uint64_t due_ns)
{
    unsigned people = m.size - 1, group = draw(m.groups), from = draw(people), to = draw(people);
    if (to == from)
        to = (to + 1) % people;
    struct client *c = &b->clients[group * m.size + from];
    if (c->state != CLIENT_ONLINE)
        return;
    message_add(client_out(c), b, group * m.size + to, false, m.written[place(c->number, to)]++, due_ns);
    client_send(c);
    m.count_messages++;
}

static void change_status(struct bench *b)
{
    struct client *c = &b->clients[draw(m.groups) * m.size + draw(m.size - 1)];
    if (c->state != CLIENT_ONLINE)
        return;
    buf_addf(client_out(c), "<presence><status>%llu</status></presence>",
             (unsigned long long)m.announced[c->number]++);
    client_send(c);
    m.count_statuses++;
    bench_done(b, 0);
}

/* The next commuter who is not between two logins leaves; `gone` lets it come back. */
static void begin_login(struct bench *b)
{
    for (unsigned tries = 0; tries < m.groups; tries++) {
        struct client *c = &b->clients[m.commuter++ % m.groups * m.size + m.size - 1];
        if (c->state == CLIENT_ONLINE) {
            m.under_way++;
            client_leave(c);
            return;
        }
    }
}

static void act(struct bench *b, uint64_t k, uint64_t due_ns)
{
    unsigned which = draw(MESSAGES + STATUSES + LOGINS);
    (void)k;
    if (which < MESSAGES)
        write_message(b, due_ns);
    else if (which < MESSAGES + STATUSES)
        change_status(b);
    else
        begin_login(b);
}

static void start(struct bench *b)
{
    m.running = true;
    if (b->args.rate <= 0)
        b->args.rate = 500;
    pace_start(b, act);
}

static void gone(struct client *c)
{
    if (m.running && is_commuter(c->number) && !client_dial(c)) {
        c->bench->failed++;
        bench_trouble(c->bench, c->number, "no socket");
    }
}

/* ---- what comes ---- */

static void take_presence(struct client *c, unsigned from, struct span raw)
{
    const char *status = memmem(raw.p, raw.n, "<status>", 8);
    if (status == NULL || from == c->number || from / m.size != c->number / m.size)
        return;
    m.count_presence++;
    numbers_take(c->bench, &m.statuses[place(c->number, from % m.size)], strtoull(status + 8, NULL, 10));
}

/* A commuter's login is over when its roster is there. */
static void take_roster(struct client *c, struct span raw)
{
    if (m.running && text_count(raw, "<item ") < c->bench->args.contacts * ROSTER_TIMES) {
        c->bench->failed++;
        bench_trouble(c->bench, c->number, "a roster lacks items");
    }
    if (m.running && is_commuter(c->number)) {
        m.count_logins++;
        m.under_way--;
        bench_done(c->bench, 0);
    } else {
        m.have[c->number] = m.filled[c->number] = text_count(raw, "away");
    }
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    uint64_t number, due_ns;
    unsigned from;
    struct span id = xml_element_attr(e, "id");
    if (span_is(e->name, "iq")) {
        if (span_is(id, "friends")) {
            take_roster(c, raw);
            friends_stanza(c, e, raw);
        }
        m.have[c->number] += span_is(id, "fill");
        return;
    }
    if (friends_stanza(c, e, raw) || !m.running || is_commuter(c->number) ||
        !client_parse_jid(c->bench, xml_element_attr(e, "from"), &from))
        return;
    if (span_is(e->name, "presence")) {
        if (!is_commuter(from))
            take_presence(c, from, raw);
    } else if (span_is(e->name, "message") && message_read(raw, &number, &due_ns)) {
        numbers_take(c->bench, &m.messages[place(c->number, from % m.size)], number);
        bench_done(c->bench, due_ns);
    }
}

static void stop(struct bench *b)
{
    (void)b;
    pace_stop();
}

static void finish(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++)
        for (unsigned k = 0; k < m.size - 1; k++) {
            unsigned other = i / m.size * m.size + k;
            if (other == i || is_commuter(i))
                continue;
            b->lost += numbers_lost(&m.messages[place(i, k)], m.written[place(other, i % m.size)]);
            b->lost += numbers_lost(&m.statuses[place(i, k)], m.announced[other]);
        }
    b->lost += m.under_way;
    b->note =
        xasprintf("%llu messages, %llu status changes with %llu deliveries, %llu logins with rosters of %u",
                  (unsigned long long)m.count_messages, (unsigned long long)m.count_statuses,
                  (unsigned long long)m.count_presence, (unsigned long long)m.count_logins,
                  b->args.contacts * ROSTER_TIMES);
}

const struct scenario scenario_mixed = {.name = "mixed",
                                        .what =
                                            "a mixed day at --rate actions a second (see bench/README.md)",
                                        .unit = "actions",
                                        .multiple = friends_multiple,
                                        .online = online,
                                        .ready = ready,
                                        .start = start,
                                        .stanza = stanza,
                                        .gone = gone,
                                        .stop = stop,
                                        .finish = finish};
