/* A full store: what it refuses leaves no trace, keeps its place in the order and is answered in the end. */
#include "rig.h"

#include "router/user.h"

#define TO_JULIET(body) \
    "<message xmlns='jabber:client' from='x@b' to='juliet@a' type='chat'><body>" body "</body></message>"
#define SAY(body) "<message xmlns='jabber:client' to='juliet@a' type='chat'><body>" body "</body></message>"

static const char *const people[] = {"juliet@a", "romeo@a", NULL};

static int setup(void **state)
{
    (void)state;
    rig_start(people);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

static void wait_ms(uint64_t ms)
{
    for (uint64_t end = rig.now_ms + ms; rig.now_ms < end; rig.now_ms += 50)
        rig_run();
}

/* Not delivered, not taken; presence goes on, and its number is the one that the message gave back. */
static void test_no_trace(void **state)
{
    (void)state;
    rig_log_in(1, "juliet@a", "r", true);
    struct session *s = session_find(rig.core, 1);
    uint64_t sent = s->out_sent;
    store_mem_set_full(rig.world, true);
    /* In one turn, so that the presence waits behind the message. */
    rig_stanza("s2s", 0, TO_JULIET("refused"), (struct span){NULL, 0}, 0);
    rig_stanza("c2s", 1, "<presence xmlns='jabber:client'><status>here</status></presence>",
               span_of(rig.full[1]), 0);
    rig_run();
    rig_want(1, "<presence*here*");
    rig_silent(1);
    assert_int_equal(s->out_sent, sent + 1);
    assert_int_equal(s->user->entry_count, 0);
    assert_int_equal(rig.done[0], 0);
    assert_int_equal(rig.done[1], 1);
    wait_ms(200);
    assert_int_equal(rig.handled[1], rig.next_n[1]); /* what needs no room is kept and told */
    store_mem_set_full(rig.world, false);
    rig_remote(TO_JULIET("again"), WIRE_AGAIN | WIRE_FIRST);
    rig_want(1, "<message*again*");
    rig_silent(1);
    assert_int_equal(s->out_sent, sent + 2);
    assert_int_equal(rig.done[0], 1);
}

/* A short lack of room: the sender's stanza is not acknowledged until all is stored, and the order stands. */
static void test_waits(void **state)
{
    (void)state;
    rig_log_in(1, "romeo@a", "r", true);
    store_mem_set_full(rig.world, true);
    rig_says(1, SAY("one"));
    rig_says(1, SAY("two"));
    rig_silent(1);
    assert_true(rig.handled[1] < rig.next_n[1] - 1);
    store_mem_set_full(rig.world, false);
    wait_ms(300);
    rig_silent(1);
    assert_int_equal(rig.handled[1], rig.next_n[1]);
    assert_int_equal(store_mem_mailbox_count(rig.world, SPAN("juliet@a")), 2);
    rig_log_in(2, "juliet@a", "r", false);
    assert_int_equal(rig.killed[2], 0);
}

/* A long one: the sender is told, and only then its stanza counts as handled. */
static void test_answers(void **state)
{
    (void)state;
    rig_log_in(1, "romeo@a", "r", true);
    store_mem_set_full(rig.world, true);
    rig_says(1, SAY("one"));
    wait_ms(200);
    assert_int_equal(rig.handled[1], rig.next_n[1] - 1);
    wait_ms(2000);
    rig_want(1, "<message from='juliet@a'*type='error'*<error type='wait'><resource-constraint*");
    rig_silent(1);
    assert_int_equal(rig.handled[1], rig.next_n[1]);
    assert_int_equal(store_mem_mailbox_count(rig.world, SPAN("juliet@a")), 0);
    store_mem_set_full(rig.world, false);
    wait_ms(100);
    rig_says(1, SAY("two"));
    wait_ms(500);
    assert_int_equal(store_mem_mailbox_count(rig.world, SPAN("juliet@a")), 1);
    rig_silent(1);
}

/* Nobody is locked out: who logs in may empty his mailbox. */
static void test_log_in(void **state)
{
    (void)state;
    rig_remote(TO_JULIET("before"), 0);
    assert_int_equal(store_mem_mailbox_count(rig.world, SPAN("juliet@a")), 1);
    store_mem_set_full(rig.world, true);
    rig_open(1, "juliet@a", "r");
    rig_says(1, "<presence xmlns='jabber:client'/>");
    wait_ms(500);
    assert_non_null(strstr(buf_cstr(&rig.box[1]), "before"));
    assert_int_equal(session_find(rig.core, 1)->user->entry_count, 0);
    rig_skip(1);
}

/* Another server's stream: its stanzas are numbered over all whom it writes to. */
static void leg_says(uint64_t n, const char *body, unsigned flags)
{
    struct wire_frame f = {.kind = WIRE_ROUTE, .has_stanza = true, .slot = 1, .flags = (uint16_t)flags};
    struct buf raw = {0}, text = {0};
    struct xml_element e;
    buf_reserve(&raw, 4096);
    buf_addf(&text,
             "<message xmlns='jabber:client' from='x@b' to='juliet@a' type='chat'><body>%s</body></message>",
             body);
    assert_int_equal(xml_parse(rig.parser, buf_span(&text), &e), XML_OK);
    assert_int_equal(
        stanza_rewrite(&e, buf_span(&text), (struct span){NULL, 0}, (struct span){NULL, 0}, &raw, &f.stanza),
        STANZA_GOOD);
    f.at_ms = rig.wall_ms;
    f.sid = 4711;
    f.n = n;
    f.token = 1000 + n;
    rig_frame("s2s", &f);
    buf_free(&raw);
    buf_free(&text);
}

/* The first of a stream is refused, room comes at once, and seventy follow: none may be taken before it,
 * since the mailbox knows the numbers of a stream exactly for the last 64 only. */
static void test_stream_keeps_order(void **state)
{
    char body[32];
    (void)state;
    rig_log_in(1, "juliet@a", "r", true);
    store_mem_set_full(rig.world, true);
    leg_says(1, "first", WIRE_ORDERED);
    rig_run();
    assert_int_equal(rig.done[1], 1);
    store_mem_set_full(rig.world, false);
    for (uint64_t n = 2; n <= 70; n++) {
        snprintf(body, sizeof body, "then %u", (unsigned)n);
        leg_says(n, body, WIRE_ORDERED);
        rig_run();
    }
    assert_int_equal(rig.done[0], 0);
    assert_int_equal(rig.done[1], 70);
    rig_silent(1);
    leg_says(1, "first", WIRE_ORDERED | WIRE_AGAIN | WIRE_FIRST);
    for (uint64_t n = 2; n <= 70; n++) {
        snprintf(body, sizeof body, "then %u", (unsigned)n);
        leg_says(n, body, WIRE_ORDERED | WIRE_AGAIN);
    }
    rig_run();
    assert_int_equal(rig.done[0], 70);
    rig_want(1, "<message*first*");
    for (uint64_t n = 2; n <= 70; n++) {
        snprintf(body, sizeof body, "<message*then %u<*", (unsigned)n);
        rig_want(1, body);
    }
    rig_silent(1);
    /* A second time: all of it is known. */
    leg_says(1, "first", WIRE_ORDERED | WIRE_AGAIN);
    leg_says(70, "then 70", WIRE_ORDERED | WIRE_AGAIN);
    rig_run();
    rig_silent(1);
    assert_int_equal(rig.done[0], 72);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_trace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_keeps_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
