/* The uplink between doubles: two routers that write down what they are sent, a membership that the test
 * moves, a loop that only knows timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/bus/bus.h"
#include "common/member/member.h"
#include "common/redis/redis.h"
#include "common/xml/parser.h"
#include "s2s/leg.h"
#include "s2s/relay.h"
#include "s2s/s2s.h"

/* ---- doubles ---- */

struct bus_peer {
    const char *name;
    uint64_t incarnation;
    bool up, full;
    struct buf log; /* one line per frame */
    struct buf single;
};

static struct bus_peer routers[2];
static struct member_node nodes[2];
static int owner; /* index of the owner of all slots */
static struct s2s s2s;
static struct timers timers;
static uint64_t now = 1000000;
static uint64_t token[1000]; /* of the last sending, by the stanza's number */
static uint64_t safe;        /* highest number that the stream was told of */
static unsigned bounced;

struct bus_peer *bus_peer(struct bus *b, const char *name)
{
    (void)b;
    for (int i = 0; i < 2; i++)
        if (strcmp(routers[i].name, name) == 0)
            return &routers[i];
    return NULL;
}

bool bus_send(struct bus_peer *p, struct span frame)
{
    struct wire_frame f;
    assert_true(wire_decode(frame, &f));
    if (f.kind != WIRE_ROUTE)
        return true;
    assert_true((f.flags & WIRE_ORDERED) != 0);
    token[f.n] = f.token;
    buf_addf(&p->log, "%u%s%s ", (unsigned)f.n, (f.flags & WIRE_AGAIN) != 0 ? "a" : "",
             (f.flags & WIRE_FIRST) != 0 ? "f" : "");
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
    return (uint16_t)bare.p[0];
}

const struct member_node *member_owner(const struct member *m, uint16_t slot)
{
    (void)m;
    (void)slot;
    return &nodes[owner];
}

const struct member_node *member_find(const struct member *m, const char *name)
{
    (void)m;
    for (int i = 0; i < 2; i++)
        if (strcmp(nodes[i].name, name) == 0)
            return &nodes[i];
    return NULL;
}

uint64_t ring_now_ms(const struct ring *r)
{
    (void)r;
    return now;
}

void ring_timer_set(struct ring *r, struct timer *t, uint64_t delay_ms)
{
    (void)r;
    timer_set(&timers, t, now + delay_ms);
}

void ring_timer_clear(struct ring *r, struct timer *t)
{
    (void)r;
    timer_clear(&timers, t);
}

/* What the uplink calls of its own room. */

void leg_source_done(struct s2s *s, uint64_t sid, uint64_t n)
{
    (void)s;
    assert_int_equal(sid, 5);
    safe = MAX(safe, n);
}

bool estate_keeps(struct s2s *s, struct bus_peer *from, const struct wire_frame *f, struct span frame)
{
    (void)s;
    (void)from;
    (void)f;
    (void)frame;
    return false;
}

void relay_stanza(struct s2s *s, const struct stanza *stanza, struct receipt *receipt, uint64_t sid,
                  uint64_t n)
{
    uplink_route(s, stanza, receipt, sid, n);
}

void relay_raw(struct s2s *s, struct span raw)
{
    (void)s;
    assert_true(raw.n > 0);
    bounced++;
}

void relay_fanout(struct s2s *s, const struct stanza *stanza, struct span targets, struct receipt *receipt)
{
    (void)s;
    (void)stanza;
    (void)targets;
    (void)receipt;
    fail();
}

/* ---- the bench ---- */

static int setup(void **state)
{
    (void)state;
    memset(&s2s, 0, sizeof s2s);
    memset(&timers, 0, sizeof timers);
    memset(token, 0, sizeof token);
    safe = bounced = 0;
    owner = 0;
    for (int i = 0; i < 2; i++) {
        routers[i] =
            (struct bus_peer){.name = i == 0 ? "r0" : "r1", .incarnation = 10u + (unsigned)i, .up = true};
        nodes[i] = (struct member_node){.role = "router", .incarnation = routers[i].incarnation};
        snprintf(nodes[i].name, sizeof nodes[i].name, "%s", routers[i].name);
    }
    uplink_init(&s2s);
    s2s.index_parser = xml_parser_new(NS_CLIENT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    uplink_free(&s2s);
    timers_free(&timers);
    xml_parser_free(s2s.index_parser);
    for (int i = 0; i < 2; i++) {
        buf_free(&routers[i].log);
        buf_free(&routers[i].single);
    }
    return 0;
}

static void says(const char *to, uint64_t n)
{
    struct stanza stanza;
    struct buf raw = {0};
    buf_addf(&raw, "<message from='x@peer' to='%s' type='chat'><body>%u</body></message>", to, (unsigned)n);
    assert_true(stanza_index(s2s.index_parser, buf_span(&raw), &stanza));
    uplink_route(&s2s, &stanza, receipt_for_source(5, n), 5, n);
    buf_free(&raw);
}

static void answers(int router, uint64_t t, enum wire_done result)
{
    struct buf pairs = {0}, frame = {0};
    wire_pair_add(&pairs, t, result);
    struct wire_frame f = {.kind = WIRE_DONE, .slot = 0xffff, .pairs = buf_span(&pairs)};
    wire_add(&frame, &f);
    uplink_frame(&s2s, &routers[router], buf_span(&frame));
    buf_free(&pairs);
    buf_free(&frame);
}

static void expect_at(int router, const char *want, int line)
{
    struct buf *log = &routers[router].log;
    if (strcmp(log->n > 0 ? buf_cstr(log) : "", want) != 0)
        fail_msg("line %d: want %s\n got %s", line, want, log->n > 0 ? buf_cstr(log) : "");
    buf_clear(log);
}
#define expect(router, want) expect_at(router, want, __LINE__)

static void wait_ms(uint64_t ms)
{
    for (uint64_t end = now + ms; now < end;)
        timers_run(&timers, ++now);
}

/* ---- tests ---- */

/* Refused for now, those behind it not: it may not come alone, with a number far behind theirs. */
static void test_refused(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 70; n++)
        says("romeo@a", n);
    buf_clear(&routers[0].log);
    answers(0, token[1], WIRE_DONE_RETRY);
    wait_ms(200);
    expect(0, ""); /* not before it is known what became of the others */
    says("romeo@a", 71);
    says("juliet@a", 72);
    expect(0, "72 ");
    uint64_t stale = token[1];
    for (uint64_t n = 2; n <= 70; n++)
        answers(0, token[n], n < 69 ? WIRE_DONE_TAKEN : WIRE_DONE_RETRY);
    wait_ms(200);
    expect(0, "1af 69a 70a 71 ");
    answers(0, stale, WIRE_DONE_TAKEN);
    assert_int_equal(s2s.uplink.outbox.count, 5);
    answers(0, token[1], WIRE_DONE_TAKEN);
    answers(0, token[69], WIRE_DONE_TAKEN);
    answers(0, token[70], WIRE_DONE_TAKEN);
    answers(0, token[71], WIRE_DONE_TAKEN);
    answers(0, token[72], WIRE_DONE_TAKEN);
    assert_int_equal(s2s.uplink.outbox.count, 0);
    assert_int_equal(safe, 72);
}

/* The slot is another router's now: all that had no answer goes there, in order, and before what is new. */
static void test_moved(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 3; n++)
        says("romeo@a", n);
    expect(0, "1 2 3 ");
    uint64_t stale = token[1];
    owner = 1;
    uplink_epoch(&s2s);
    says("romeo@a", 4);
    expect(1, "1af 2a 3a 4 ");
    answers(0, stale, WIRE_DONE_RETRY);
    wait_ms(200);
    expect(0, "");
    expect(1, "");
    for (uint64_t n = 1; n <= 4; n++)
        answers(1, token[n], WIRE_DONE_TAKEN);
    assert_int_equal(s2s.uplink.outbox.count, 0);
}

static void test_no_link(void **state)
{
    (void)state;
    says("romeo@a", 1);
    routers[0].up = false;
    says("romeo@a", 2);
    routers[0].up = true;
    says("romeo@a", 3);
    expect(0, "1 ");
    uplink_peer_up(&s2s);
    expect(0, "2 3 ");
    uplink_peer_gone(&s2s, &routers[0]);
    expect(0, "1af 2a 3a ");
}

/* The store there has been full for a while: the sender is told, and the stream goes on. */
static void test_full(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 3; n++)
        says("romeo@a", n);
    expect(0, "1 2 3 ");
    answers(0, token[1], WIRE_DONE_FULL);
    answers(0, token[2], WIRE_DONE_FULL);
    assert_int_equal(bounced, 2);
    assert_int_equal(safe, 2);
    answers(0, token[3], WIRE_DONE_RETRY);
    wait_ms(200);
    expect(0, "3af ");
    answers(0, token[3], WIRE_DONE_TAKEN);
    assert_int_equal(safe, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
