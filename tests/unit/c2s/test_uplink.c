/* The uplink between doubles: two routers that write down what they are sent, a membership that the test
 * moves, a loop that only knows timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "c2s/c2s.h"
#include "common/bus/bus.h"
#include "common/member/member.h"
#include "tests/unit/c2s/session_fixture.h"

/* ---- doubles ---- */

struct bus_peer {
    const char *name;
    uint64_t incarnation;
    bool up, full;
    void *data;
    struct buf log;    /* one line per frame */
    struct buf single; /* being written */
};

static struct bus_peer routers[2];
static struct member_node nodes[2];
static int owner; /* index of the owner of all slots; -1 = none */
static struct c2s c2s;
static struct conf conf;
static struct timers timers;
static unsigned wakes;

struct bus_peer *bus_peer(struct bus *b, const char *name)
{
    (void)b;
    for (int i = 0; i < 2; i++) {
        if (strcmp(routers[i].name, name) == 0)
            return &routers[i];
    }
    return NULL;
}

bool bus_send(struct bus_peer *p, struct span frame)
{
    struct wire_frame f;
    assert_true(wire_decode(frame, &f));
    buf_addf(&p->log, "%s", wire_kind_name(f.kind));
    if (f.sid != 0)
        buf_addf(&p->log, " sid=s");
    if (f.n != 0)
        buf_addf(&p->log, " n=%u", (unsigned)f.n);
    if (f.num != 0)
        buf_addf(&p->log, " num=%u", (unsigned)f.num);
    if (f.name.n > 0)
        buf_addf(&p->log, " name=%.*s", SPAN_FMT(f.name));
    if (f.from.n > 0)
        buf_addf(&p->log, " from=%.*s", SPAN_FMT(f.from));
    if ((f.flags & WIRE_AGAIN) != 0)
        buf_addf(&p->log, " again");
    if ((f.flags & WIRE_SM) != 0)
        buf_addf(&p->log, " sm");
    if ((f.flags & WIRE_HELD) != 0)
        buf_addf(&p->log, " held");
    uint64_t sid, n;
    struct span pairs = f.pairs;
    while (wire_pair_next(&pairs, &sid, &n))
        buf_addf(&p->log, " (%u)", (unsigned)n);
    buf_add_char(&p->log, '\n');
    return true;
}

char *bus_reserve(struct bus_peer *p, size_t n)
{
    buf_clear(&p->single);
    return buf_reserve(&p->single, n);
}

void bus_commit(struct bus_peer *p, size_t n)
{
    bus_send(p, span_make(p->single.p, n));
}

bool bus_ready(const struct bus_peer *p)
{
    return !p->full;
}

const char *bus_peer_name(const struct bus_peer *p)
{
    return p->name;
}

uint64_t bus_peer_incarnation(const struct bus_peer *p)
{
    return p->incarnation;
}

bool bus_peer_is_up(const struct bus_peer *p)
{
    return p->up;
}

void bus_peer_set_data(struct bus_peer *p, void *data)
{
    p->data = data;
}

void *bus_peer_data(const struct bus_peer *p)
{
    return p->data;
}

uint32_t member_epoch(const struct member *m)
{
    (void)m;
    return 7;
}

void member_refresh(struct member *m)
{
    (void)m;
}

uint16_t member_slot(struct span bare)
{
    (void)bare;
    return 5;
}

const struct member_node *member_owner(const struct member *m, uint16_t slot)
{
    (void)m;
    assert_int_equal(slot, 5);
    return owner < 0 ? NULL : &nodes[owner];
}

uint64_t ring_now_ms(const struct ring *r)
{
    (void)r;
    return 1000000;
}

void ring_timer_set(struct ring *r, struct timer *t, uint64_t delay_ms)
{
    (void)r;
    timer_set(&timers, t, delay_ms);
}

void ring_timer_clear(struct ring *r, struct timer *t)
{
    (void)r;
    timer_clear(&timers, t);
}

void conn_wake(struct conn *c)
{
    (void)c;
    wakes++;
}

/* ---- a connection around the fixture's kind of session ---- */

static struct conn *conn;

static void host_open(struct session *s, struct span resource)
{
    uplink_open(CONTAINER_OF(s, struct conn, session), resource);
}

static void host_resume(struct session *s, struct span id, uint32_t h)
{
    uplink_resume(CONTAINER_OF(s, struct conn, session), id, h);
}

static void host_enable(struct session *s, unsigned resume_s)
{
    uplink_enable(CONTAINER_OF(s, struct conn, session), resume_s);
}

static void host_stanza(struct session *s, const struct stanza *stanza, enum stanza_verdict verdict)
{
    uplink_stanza(CONTAINER_OF(s, struct conn, session), stanza, verdict);
}

static void host_acked(struct session *s, uint64_t n)
{
    uplink_acked(CONTAINER_OF(s, struct conn, session), n);
}

static void host_ended(struct session *s, enum session_end how)
{
    bool lost = how == SESSION_END_LOST;
    uplink_close(CONTAINER_OF(s, struct conn, session), lost ? WIRE_CLOSE_LOST : WIRE_CLOSE_CLEAN,
                 how == SESSION_END_CLEAN || lost, !(lost && s->resumable));
}

static struct session_host host;

static struct conn *conn_new(void)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    c->c2s = &c2s;
    list_init(&c->up.waiting);
    list_init(&c->dirty);
    list_init(&c->dying);
    list_add(&c2s.conns, &c->node);
    session_init(&c->session, &env, true);
    c->session.authenticated = true;
    c->session.jid = xstrdup("romeo@example.org");
    c->session.jid_n = c->session.bare_n = 17;
    return c;
}

static void conn_end(struct conn *c)
{
    uplink_drop(c);
    session_free(&c->session);
    list_del(&c->node);
    free(c);
}

static void says(struct conn *c, const char *text)
{
    struct span in = span_of(text);
    session_input(&c->session, &in);
}

/* What a router was sent since the last call. */
static void got(int router, const char *text)
{
    assert_string_equal(buf_cstr(&routers[router].log), text);
    buf_clear(&routers[router].log);
}

/* A router says something about the session of c. */
static void router_says(int router, struct wire_frame f, struct conn *c)
{
    struct buf b = {0};
    if (f.sid == 0 && f.targets.n == 0 && f.pairs.n == 0)
        f.sid = c->session.sid;
    f.slot = 5;
    wire_add(&b, &f);
    uplink_frame(&c2s, &routers[router], buf_span(&b));
    buf_free(&b);
}

static void handled(int router, struct conn *c, uint64_t n)
{
    struct buf pairs = {0};
    wire_pair_add(&pairs, c->session.sid, n);
    router_says(router, (struct wire_frame){.kind = WIRE_HANDLED, .pairs = buf_span(&pairs)}, c);
    buf_free(&pairs);
}

static void deliver(int router, uint64_t sid, uint64_t n)
{
    struct buf targets = {0};
    wire_target_add(&targets, &(struct wire_target){.sid = sid, .n = n});
    router_says(router,
                (struct wire_frame){.kind = WIRE_DELIVER,
                                    .raw = SPAN("<message/>"),
                                    .flags = WIRE_CONFIRM,
                                    .targets = buf_span(&targets)},
                conn);
    buf_free(&targets);
}

#define HEADER                                                             \
    "<stream:stream to='example.org' version='1.0' xmlns='jabber:client' " \
    "xmlns:stream='http://etherx.jabber.org/streams'>"
#define BIND                                                                \
    "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>" \
    "<resource>r</resource></bind></iq>"

static void bind_it(void)
{
    says(conn, HEADER BIND);
    got(0, "OPEN sid=s name=r from=romeo@example.org\n");
    router_says(0, (struct wire_frame){.kind = WIRE_OPENED, .to = SPAN("romeo@example.org/r")}, conn);
    assert_int_equal(conn->session.state, SESSION_BOUND);
}

static int begin(void **state)
{
    (void)state;
    fixture_begin(true);
    host = fixture_host;
    host.open = host_open;
    host.resume = host_resume;
    host.enable = host_enable;
    host.stanza = host_stanza;
    host.acked = host_acked;
    host.ended = host_ended;
    env.host = &host;
    memset(&c2s, 0, sizeof(c2s));
    memset(&conf, 0, sizeof(conf));
    conf.c2s_unacked_max = 8;
    c2s.conf = &conf;
    list_init(&c2s.conns);
    uplink_init(&c2s);
    for (int i = 0; i < 2; i++) {
        routers[i] = (struct bus_peer){
            .name = i == 0 ? "router-1" : "router-2", .incarnation = 100 + (uint64_t)i, .up = true};
        strcpy(nodes[i].name, routers[i].name);
        nodes[i].incarnation = routers[i].incarnation;
    }
    owner = 0;
    conn = conn_new();
    return 0;
}

static int end(void **state)
{
    (void)state;
    conn_end(conn);
    assert_int_equal(c2s.hub.sessions.count, 0);
    assert_true(list_empty(&c2s.hub.waiting));
    assert_true(list_empty(&c2s.conns));
    for (int i = 0; i < 2; i++) {
        uplink_peer_gone(&c2s, &routers[i]);
        buf_free(&routers[i].log);
        buf_free(&routers[i].single);
    }
    uplink_free(&c2s);
    timers_free(&timers);
    fixture_end();
    return 0;
}

static void move_to(int router)
{
    owner = router;
    uplink_epoch(&c2s);
}

static void test_numbers_and_handled(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<presence/><message/>");
    got(0, "STANZA sid=s n=1\nSTANZA sid=s n=2\n");
    assert_int_equal(conn->up.count, 2);
    handled(0, conn, 1);
    assert_int_equal(conn->up.count, 1);
    handled(0, conn, 99); /* more than there was: no harm */
    assert_int_equal(conn->up.count, 0);
    assert_int_equal(conn->session.in_handled, 2);
}

static void test_bad_stanza_names_its_error(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<message to='a b@c'/>");
    char line[64];
    snprintf(line, sizeof(line), "STANZA sid=s n=1 num=%d\n", 1 + STANZA_E_JID_MALFORMED);
    got(0, line);
}

static void test_full_queue_holds_the_client(void **state)
{
    (void)state;
    bind_it();
    for (int i = 0; i < 20; i++)
        says(conn, "<presence/>");
    assert_int_equal(conn->session.in_n, 8);
    assert_true((conn->session.holds & SESSION_HOLD_QUEUE) != 0);
    handled(0, conn, 3);
    assert_true((conn->session.holds & SESSION_HOLD_QUEUE) != 0);
    handled(0, conn, 4);
    assert_int_equal(conn->session.holds, 0);
}

static void test_new_owner_gets_sync_and_everything_again(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<presence/><message/><message/>");
    handled(0, conn, 1);
    deliver(0, conn->session.sid, 1);
    buf_clear(&routers[0].log);
    conn->flow = true;
    move_to(1);
    got(0, "");
    got(1, "SYNC sid=s n=1 num=1 from=romeo@example.org/r held\nSTANZA sid=s n=2 again\nSTANZA sid=s n=3 "
           "again\n");
    deliver(0, conn->session.sid, 2); /* the old owner has nothing to say any more … */
    assert_int_equal(conn->session.out_n, 1);
    deliver(1, conn->session.sid, 2); /* … nor has the new one before it knows what we have … */
    assert_int_equal(conn->session.out_n, 1);
    router_says(1, (struct wire_frame){.kind = WIRE_SYNCED, .token = conn->up.tries}, conn);
    deliver(1, conn->session.sid, 2);
    deliver(1, conn->session.sid, 2); /* … and not twice */
    assert_int_equal(conn->session.out_n, 2);
    handled(0, conn, 2); /* it has been sent again: only who does it over knows when it is done */
    assert_int_equal(conn->up.count, 2);
    handled(1, conn, 2);
    assert_int_equal(conn->up.count, 1);
    says(conn, "<iq type='get' id='x'><q xmlns='urn:q'/></iq>");
    got(1, "STANZA sid=s n=4\n");
}

static void test_no_owner_holds_and_loses_nothing(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<message/>");
    got(0, "STANZA sid=s n=1\n");
    owner = -1;
    uplink_peer_gone(&c2s, &routers[0]);
    assert_int_equal(conn->session.holds, SESSION_HOLD_ROUTE);
    struct span in = SPAN("<message/>");
    session_input(&conn->session, &in);
    assert_int_equal(in.n, strlen("<message/>"));
    routers[1].up = false;
    move_to(1);
    assert_int_equal(conn->session.holds, SESSION_HOLD_ROUTE);
    routers[1].up = true;
    wakes = 0;
    uplink_peer_up(&c2s, &routers[1]);
    got(1, "SYNC sid=s from=romeo@example.org/r\nSTANZA sid=s n=1 again\n");
    assert_int_equal(conn->session.holds, 0);
    assert_int_equal(wakes, 1);
}

static void test_open_is_asked_again(void **state)
{
    (void)state;
    owner = -1;
    says(conn, HEADER BIND);
    got(0, "");
    move_to(0);
    got(0, "OPEN sid=s name=r from=romeo@example.org\n");
    move_to(1);
    got(1, "OPEN sid=s name=r from=romeo@example.org again\n");
    router_says(0, (struct wire_frame){.kind = WIRE_OPENED, .to = SPAN("romeo@example.org/old")}, conn);
    assert_int_equal(conn->session.state, SESSION_OPENING);
    router_says(1, (struct wire_frame){.kind = WIRE_REFUSED, .num = STANZA_E_CONFLICT}, conn);
    assert_int_equal(conn->session.state, SESSION_BIND);
    says(conn, BIND);
    got(1, "OPEN sid=s name=r from=romeo@example.org\n");
}

/* Numbers are given anew for every question: the answer to an earlier one is not the one to go on from. */
static void test_late_answer_means_nothing(void **state)
{
    (void)state;
    says(conn, HEADER BIND);
    uint64_t first = conn->up.tries;
    uplink_peer_gone(&c2s, &routers[0]);
    buf_clear(&routers[0].log);
    assert_true(conn->up.tries > first);
    struct wire_frame f = {.kind = WIRE_OPENED, .to = SPAN("romeo@example.org/r"), .question = first};
    router_says(0, f, conn);
    assert_int_equal(conn->session.state, SESSION_OPENING);
    router_says(0, (struct wire_frame){.kind = WIRE_REFUSED, .num = STANZA_E_CONFLICT, .question = first},
                conn);
    assert_int_equal(conn->session.state, SESSION_OPENING);
    f.question = conn->up.tries;
    router_says(0, f, conn);
    assert_int_equal(conn->session.state, SESSION_BOUND);
}

/* RESUMED twice, the second time when the connection has gone on under the old sid. */
static void test_answer_to_nobody(void **state)
{
    (void)state;
    says(conn, HEADER "<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>");
    buf_clear(&routers[0].log);
    struct wire_frame f = {.kind = WIRE_RESUMED,
                           .sid = conn->session.sid,
                           .session = 9,
                           .to = SPAN("romeo@example.org/r"),
                           .token = 1,
                           .question = conn->up.tries};
    router_says(0, f, conn);
    assert_int_equal(conn->session.sid, 9);
    router_says(0, f, conn);
    got(0, ""); /* no CLOSED: it is here */
    f.sid = 77;
    router_says(0, f, conn);
    got(0, "CLOSED sid=s num=1\n");
}

/* The new owner has been sent everything again: what the former one says of it must not make it forgotten. */
static void test_late_handled_means_nothing(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<presence/>");
    move_to(1);
    handled(0, conn, 1);
    assert_int_equal(conn->up.count, 1);
    handled(1, conn, 1); /* of an attachment before this one */
    assert_int_equal(conn->up.count, 1);
    router_says(1, (struct wire_frame){.kind = WIRE_SYNCED, .token = conn->up.tries}, conn);
    handled(1, conn, 1);
    assert_int_equal(conn->up.count, 0);
    says(conn, "<presence/>");
    move_to(-1);
    handled(1, conn, 2); /* which attachment says so? */
    assert_int_equal(conn->up.count, 1);
}

static void test_not_mine_is_tried_again(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<message/>");
    buf_clear(&routers[0].log);
    router_says(0, (struct wire_frame){.kind = WIRE_NOT_MINE, .num = WIRE_STANZA, .n = 1}, conn);
    assert_int_equal(conn->session.holds, SESSION_HOLD_ROUTE);
    got(0, "");
    timers_run(&timers, 1000);
    got(0, "SYNC sid=s from=romeo@example.org/r\nSTANZA sid=s n=1 again\n");
    assert_int_equal(conn->session.holds, 0);
}

static void test_full_link_holds(void **state)
{
    (void)state;
    bind_it();
    routers[0].full = true;
    says(conn, "<message/><message/>");
    got(0, "STANZA sid=s n=1\n");
    assert_int_equal(conn->session.holds, SESSION_HOLD_ROUTE);
    routers[0].full = false;
    uplink_peer_up(&c2s, &routers[0]);
    assert_int_equal(conn->session.holds, 0);
    got(0, "");
}

static void test_unknown_session_is_told(void **state)
{
    (void)state;
    bind_it();
    deliver(0, 4711, 1);
    got(0, "CLOSED sid=s num=1\n");
}

static void test_acked_once_a_turn(void **state)
{
    (void)state;
    bind_it();
    uplink_acked(conn, 1);
    uplink_acked(conn, 2);
    got(0, "");
    timers_run(&timers, 1000);
    got(0, "ACKED (1) (2)\n");
    timers_run(&timers, 2000);
    got(0, "");
}

static void test_clean_end_keeps_what_is_not_handled(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<message/></stream:stream>");
    got(0, "STANZA sid=s n=1\nCLOSED sid=s from=romeo@example.org/r\n");
    assert_false(uplink_is_done(conn));
    move_to(1);
    got(1, "SYNC sid=s from=romeo@example.org/r\nSTANZA sid=s n=1 again\nCLOSED sid=s "
           "from=romeo@example.org/r\n");
    router_says(1, (struct wire_frame){.kind = WIRE_SYNCED, .token = conn->up.tries}, conn);
    handled(1, conn, 1);
    assert_true(uplink_is_done(conn));
}

static void test_lost_and_resumable_drops_its_queue(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<enable xmlns='urn:xmpp:sm:3' resume='1'/>");
    got(0, "ENABLE sid=s num=300\n");
    router_says(0, (struct wire_frame){.kind = WIRE_ENABLED, .name = SPAN("x"), .num = 300}, conn);
    says(conn, "<message/>");
    buf_clear(&routers[0].log);
    session_lost(&conn->session);
    got(0, "CLOSED sid=s num=1 from=romeo@example.org/r\n");
    assert_true(uplink_is_done(conn));
}

static void test_close_waits_for_a_router(void **state)
{
    (void)state;
    bind_it();
    owner = -1;
    uplink_peer_gone(&c2s, &routers[0]);
    session_lost(&conn->session);
    assert_false(uplink_is_done(conn));
    move_to(1);
    got(1, "SYNC sid=s from=romeo@example.org/r\nCLOSED sid=s num=1 from=romeo@example.org/r\n");
    assert_true(uplink_is_done(conn));
}

static void test_resume_takes_the_session_over(void **state)
{
    (void)state;
    bind_it();
    uint64_t sid = conn->session.sid;
    struct conn *fresh = conn_new();
    says(fresh, HEADER "<resume xmlns='urn:xmpp:sm:3' previd='x' h='4'/>");
    got(0, "RESUME sid=s num=4 name=x from=romeo@example.org\n");
    router_says(0,
                (struct wire_frame){.kind = WIRE_RESUMED,
                                    .session = sid,
                                    .to = SPAN("romeo@example.org/r"),
                                    .n = 9,
                                    .num = 3,
                                    .token = 12},
                fresh);
    assert_int_equal(fresh->session.sid, sid);
    assert_int_equal(fresh->session.state, SESSION_BOUND);
    assert_int_equal(conn->session.state, SESSION_ENDED);
    assert_non_null(strstr(buf_cstr(&conn->session.out), "<conflict "));
    got(0, ""); /* no CLOSED: the session lives on */
    says(fresh, "<message/>");
    got(0, "STANZA sid=s n=10\n");
    conn_end(conn);
    conn = fresh;
    assert_ptr_equal(idmap_get(&c2s.hub.sessions, sid), conn);
}

/* The former connection's socket stays open: it says nothing more, to no router, also when it had ended
 * before and waited to say so. */
static void test_former_connection_is_let_go(void **state)
{
    (void)state;
    bind_it();
    uint64_t sid = conn->session.sid;
    router_says(0, (struct wire_frame){.kind = WIRE_KILL, .num = STREAM_E_CONFLICT, .session = 77}, conn);
    assert_int_equal(conn->session.state, SESSION_BOUND); /* another one was meant */
    router_says(
        0, (struct wire_frame){.kind = WIRE_KILL, .num = STREAM_E_CONFLICT, .session = conn->up.asked_as},
        conn);
    assert_int_equal(conn->session.state, SESSION_ENDED);
    assert_null(idmap_get(&c2s.hub.sessions, sid));
    buf_clear(&routers[0].log);
    owner = -1;
    uplink_peer_gone(&c2s, &routers[0]);
    move_to(1);
    got(1, "");
    assert_true(uplink_is_done(conn));
}

static void test_kill(void **state)
{
    (void)state;
    bind_it();
    says(conn, "<message/>");
    buf_clear(&routers[0].log);
    router_says(0, (struct wire_frame){.kind = WIRE_KILL, .num = STREAM_E_CONFLICT, .text = SPAN("replaced")},
                conn);
    assert_non_null(strstr(buf_cstr(&conn->session.out), "<conflict "));
    got(0, "");
    assert_true(uplink_is_done(conn));
}

static void test_junk_is_counted(void **state)
{
    (void)state;
    bind_it();
    uplink_frame(&c2s, &routers[0], SPAN("junk"));
    router_says(0, (struct wire_frame){.kind = 77}, conn);
    router_says(0, (struct wire_frame){.kind = WIRE_RESUMED}, conn);
    assert_int_equal(conn->session.state, SESSION_BOUND);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        T(test_numbers_and_handled),
        T(test_bad_stanza_names_its_error),
        T(test_full_queue_holds_the_client),
        T(test_new_owner_gets_sync_and_everything_again),
        T(test_no_owner_holds_and_loses_nothing),
        T(test_open_is_asked_again),
        T(test_late_answer_means_nothing),
        T(test_answer_to_nobody),
        T(test_late_handled_means_nothing),
        T(test_not_mine_is_tried_again),
        T(test_full_link_holds),
        T(test_unknown_session_is_told),
        T(test_acked_once_a_turn),
        T(test_clean_end_keeps_what_is_not_handled),
        T(test_lost_and_resumable_drops_its_queue),
        T(test_close_waits_for_a_router),
        T(test_resume_takes_the_session_over),
        T(test_former_connection_is_let_go),
        T(test_kill),
        T(test_junk_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
