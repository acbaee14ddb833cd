/* What a session that reads slowly, has lost its stream or never acknowledges makes the router hold is
 * bounded; what is refused is said; nothing spins. */
#include "rig.h"

#include "router/user.h"

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

static void set(const char *assignment)
{
    struct buf errors = {0};
    assert_true(conf_set(rig.conf, assignment, &errors));
}

static void flow(uint64_t sid, bool hold)
{
    struct wire_frame f = {.kind = WIRE_FLOW, .slot = 1, .sid = sid, .num = hold};
    rig_frame("c2s", &f);
    rig_run();
}

/* A stanza from outside with a long body, `count` times. */
static void remote(const char *start, const char *end, size_t body, unsigned count)
{
    struct buf raw = {0};
    buf_add_str(&raw, start);
    for (size_t i = 0; i < body; i++)
        buf_add_char(&raw, 'x');
    buf_add_str(&raw, end);
    for (unsigned i = 0; i < count; i++)
        rig_remote(buf_cstr(&raw), 0);
    buf_free(&raw);
}

static void test_detached_session(void **state)
{
    (void)state;
    set("limits.session_bytes=65536");
    rig_log_in(1, "juliet@a", "r", true);
    rig_lose(1);
    struct session *s = session_find(rig.core, 1);
    remote("<presence xmlns='jabber:client' from='x@b/y' to='juliet@a/r'><status>", "</status></presence>",
           8000, 50);
    remote("<message xmlns='jabber:client' type='headline' from='x@b/y' to='juliet@a/r'><body>",
           "</body></message>", 8000, 50);
    remote("<iq xmlns='jabber:client' type='result' id='q' from='x@b/y' to='juliet@a/r'><a>", "</a></iq>",
           8000, 50);
    assert_true(s->kept_bytes <= 65536);
    assert_int_equal(s->user->kept_bytes, s->kept_bytes);
    assert_true(s->presence_missed);
}

static void test_account(void **state)
{
    (void)state;
    set("limits.session_bytes=65536");
    set("limits.account_bytes=100000");
    for (uint64_t sid = 1; sid <= 4; sid++) {
        char resource[8];
        snprintf(resource, sizeof resource, "r%u", (unsigned)sid);
        rig_log_in(sid, "juliet@a", resource, true);
        rig_lose(sid);
    }
    for (unsigned i = 1; i <= 4; i++) {
        char start[200];
        snprintf(start, sizeof start,
                 "<message xmlns='jabber:client' type='headline' from='x@b/y' to='juliet@a/r%u'><body>", i);
        remote(start, "</body></message>", 8000, 20);
    }
    assert_true(session_find(rig.core, 1)->user->kept_bytes <= 100000 + 4 * 65536 / 4);
}

/* A quarter of its budget a session has whatever its account does; requests are refused beyond. */
static void test_slow_reader(void **state)
{
    (void)state;
    set("limits.session_bytes=65536");
    rig_log_in(1, "juliet@a", "r", false);
    rig_log_in(2, "romeo@a", "r", false);
    rig_skip(1);
    flow(1, true);
    remote("<message xmlns='jabber:client' type='headline' from='x@b/y' to='juliet@a/r'><body>",
           "</body></message>", 8000, 50);
    remote("<message xmlns='jabber:client' type='headline' from='x@b/y' to='juliet@a/r'><body>",
           "</body></message>", 100, 50);
    assert_true(session_find(rig.core, 1)->held_bytes <= 65536);
    rig_skip(1);
    remote("<presence xmlns='jabber:client' from='x@b/y' to='juliet@a/r'><status>", "</status></presence>",
           8000, 1);
    rig_silent(1);
    rig_says(1, "<iq xmlns='jabber:client' type='get' id='own'><query xmlns='jabber:iq:roster'/></iq>");
    rig_want(1, "<iq*id='own'*type='error'*<resource-constraint*");
    flow(1, false); /* it reads again: presence is asked for */
    assert_false(session_find(rig.core, 1)->presence_missed);
    rig_says(1, "<iq xmlns='jabber:client' type='get' id='again'><query xmlns='jabber:iq:roster'/></iq>");
    rig_want(1, "<iq*id='again'*type='result'*");
}

/* Large answers without end would stop the whole shard: a session gets its budget in a second, and the next
 * one again. */
static void test_answers_in_a_second(void **state)
{
    (void)state;
    set("limits.session_bytes=65536");
    rig_log_in(1, "juliet@a", "r", false);
    struct buf card = {0};
    buf_add_str(&card, "<iq xmlns='jabber:client' type='set' id='v'><vCard xmlns='vcard-temp'><DESC>");
    for (int i = 0; i < 40000; i++)
        buf_add_char(&card, 'v');
    buf_add_str(&card, "</DESC></vCard></iq>");
    rig_says(1, buf_cstr(&card));
    buf_free(&card);
    rig_skip(1);
    unsigned given = 0;
    for (int i = 0; i < 10; i++) {
        rig_says(1, "<iq xmlns='jabber:client' type='get' id='g'><vCard xmlns='vcard-temp'/></iq>");
        given += rig.box[1].n > 10000;
        rig_skip(1);
    }
    assert_int_equal(given, 7);
    rig.now_ms += 1000;
    rig_says(1, "<iq xmlns='jabber:client' type='get' id='g'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(1, "<iq*type='result'*<DESC>*");
}

static void test_quota_with_somebody_there(void **state)
{
    (void)state;
    set("mailbox.messages_max=20");
    set("mailbox.bytes_max=65536");
    rig_log_in(1, "juliet@a", "r", true);
    rig_lose(1);
    struct user *u = session_find(rig.core, 1)->user;
    remote("<message xmlns='jabber:client' type='chat' from='x@b/y' to='juliet@a'><body>",
           "</body></message>", 10, 30);
    assert_int_equal(u->entry_count, 20);
    set("mailbox.messages_max=1000");
    remote("<message xmlns='jabber:client' type='chat' from='x@b/y' to='juliet@a'><body>",
           "</body></message>", 8000, 30);
    assert_true(u->entry_bytes <= 65536);
    assert_true(u->entry_count > 20 && u->entry_count < 30);
}

/* Bytes are counted again after a take-over, and go with their entries. */
static void test_quota_after_a_crash(void **state)
{
    (void)state;
    rig_log_in(1, "juliet@a", "r", true);
    rig_lose(1);
    remote("<message xmlns='jabber:client' type='chat' from='x@b/y' to='juliet@a'><body>",
           "</body></message>", 1000, 3);
    uint64_t bytes = session_find(rig.core, 1)->user->entry_bytes;
    assert_true(bytes > 3000);
    rig_crash();
    remote("<message xmlns='jabber:client' type='chat' from='x@b/y' to='juliet@a'><body>",
           "</body></message>", 1000, 1);
    struct user *u = user_find(rig.core, SPAN("juliet@a"));
    assert_non_null(u);
    assert_int_equal(u->entry_count, 4);
    assert_true(u->entry_bytes > bytes);
}

/* With messages in memory only, a session that comes later must not read for ever. */
static void test_memory_durability_does_not_spin(void **state)
{
    (void)state;
    set("delivery.durability=memory");
    rig_log_in(1, "juliet@a", "r", true);
    remote("<message xmlns='jabber:client' type='chat' from='x@b/y' to='juliet@a'><body>",
           "</body></message>", 10, 1);
    rig_skip(1);
    rig_log_in(2, "juliet@a", "other", true);
    for (int i = 0; i < 5; i++)
        rig_run();
    assert_false(session_find(rig.core, 2)->reading);
    assert_false(session_find(rig.core, 2)->catching_up);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_detached_session, setup, teardown),
        cmocka_unit_test_setup_teardown(test_account, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_in_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quota_with_somebody_there, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quota_after_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_durability_does_not_spin, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
