/* What one router knows of a user when the one before it died: found by tests/chaos, one test per bug. */
#include "rig.h"

#include "router/user.h"

static void resume(uint64_t fresh, uint64_t sid, unsigned h)
{
    char id[24];
    snprintf(id, sizeof id, "%016llx", (unsigned long long)sid);
    struct wire_frame f = {.kind = WIRE_RESUME,
                           .slot = 1,
                           .sid = fresh,
                           .from = SPAN("juliet@a"),
                           .name = span_of(id),
                           .num = h};
    rig_frame("c2s", &f);
    rig_run();
}

static const char *const people[] = {"juliet@a", "romeo@a", NULL};

/* A message that comes while a session of a dead router waits for its client gets no number yet: the client
 * has seen more than the record says, and what it acknowledges when it is back must not cover the message. */
static void test_restored_session_gets_no_number(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_open(2, "romeo@a", "r");
    for (int i = 0; i < 5; i++)
        rig_says(2,
                 "<message xmlns='jabber:client' to='juliet@a/r' type='chat'><body>before</body></message>");
    for (int i = 0; i < 5; i++)
        rig_want(1, "<message*before*");
    rig_crash();
    rig_open(3, "romeo@a", "s");
    rig_says(3, "<message xmlns='jabber:client' to='juliet@a/r' type='chat'><body>between</body></message>");
    rig_silent(1);
    /* The presence of its own that the session got has a number too. */
    resume(4, 1, 6);
    rig_want(1, "<presence*"); /* told anew */
    rig_want(1, "<message*between*");
    rig_silent(1);
    rig_stop();
}

/* While there is no lease nothing goes round inside the router, and nothing of before comes late. */
static void test_lease_lost_with_stanzas_to_itself(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_open(2, "romeo@a", "r");
    rig_stanza("c2s", 2, "<presence xmlns='jabber:client' to='juliet@a'/>", span_of(rig.full[2]), 0);
    core_lease(rig.core, false, rig.now_ms);
    rig_run();
    assert_int_equal(rig.core->pending.count, 0);
    core_lease(rig.core, true, rig.now_ms);
    rig_run();
    rig_silent(1);
    rig_stop();
}

/* What a client may be told as handled is in the store first. */
static void test_handled_is_durable(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    uint64_t before = rig.handled[1];
    rig_stanza("c2s", 1, "<message xmlns='jabber:client' to='romeo@a' type='chat'><body>x</body></message>",
               span_of(rig.full[1]), 0);
    for (int i = 0; i < 3; i++) {
        core_turn(rig.core, rig.now_ms += 50);
        if (rig.handled[1] > before) {
            struct span saved =
                store_mem_field(rig.world, SPAN("juliet@a"), STORE_META, SPAN("h:0000000000000001"));
            uint64_t n = 0;
            assert_true(span_to_u64(saved, UINT64_MAX, &n));
            assert_true(n >= rig.handled[1]);
        }
        store_mem_run(rig.world, SIZE_MAX);
    }
    rig_run();
    assert_int_equal(rig.handled[1], before + 1);
    uint64_t told = rig.handled[1];
    rig_crash();
    resume(4, 1, 0);
    struct session *s = session_find(rig.core, 1);
    assert_non_null(s);
    assert_int_equal(s->in_handled, told);
    rig_stop();
}

/* Nobody mentions a user whose router and connection manager died: the index of the slot does. */
static void test_users_nobody_mentions_are_looked_after(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_crash();
    rig.now_ms += 1000;
    rig_run();
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    for (int i = 0; i < 400; i++) {
        rig.now_ms += 20;
        rig_run();
    }
    assert_non_null(user_find(rig.core, SPAN("juliet@a")));
    assert_null(user_find(rig.core, SPAN("romeo@a"))); /* has no session */
    rig_stop();
}

/* Whose sessions have ended leaves the index when it leaves the memory; who comes back before is still in it.
 */
static void test_index_is_left(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_log_in(2, "romeo@a", "r", true);
    rig_close(1);
    rig_close(2);
    rig.now_ms += 60000;
    rig_run();
    rig_log_in(3, "romeo@a", "r", true);
    for (int i = 0; i < 100; i++) {
        rig.now_ms += 1000;
        rig_run();
    }
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    rig_crash();
    for (int i = 0; i < 500; i++) {
        rig.now_ms += 20;
        rig_run();
    }
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    assert_non_null(user_find(rig.core, SPAN("romeo@a")));
    rig_stop();
}

/* An account that is deleted leaves it at once. */
static void test_index_is_left_by_the_deleted(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    user_find(rig.core, SPAN("juliet@a"))->exists = false;
    rig_close(1);
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    rig_crash();
    for (int i = 0; i < 500; i++) {
        rig.now_ms += 20;
        rig_run();
    }
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    rig_stop();
}

/* A connection manager that was taken for dead says SYNC for a stream that it still holds: it goes on. */
static void test_stream_that_was_thought_dead(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_lose(1);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_DETACHED);
    struct wire_frame f = {
        .kind = WIRE_SYNC, .slot = 1, .sid = 1, .from = SPAN("juliet@a/r"), .num = 1, .n = 1};
    rig_frame("c2s", &f);
    rig_run();
    assert_int_equal(rig.killed[1], 0);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_LIVE);
    rig_stop();
}

/* The client has resumed on another connection manager; the old one, which has not noticed, says SYNC to the
 * next router, with numbers of before. */
static void test_sync_of_a_stream_of_yesterday(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    struct session *s = session_find(rig.core, 1);
    snprintf(s->node, sizeof s->node, "c2s-other");
    session_save(s);
    rig_run();
    rig_crash();
    struct wire_frame f = {
        .kind = WIRE_SYNC, .slot = 1, .sid = 1, .from = SPAN("juliet@a/r"), .num = 1, .n = 1};
    rig_frame("c2s", &f);
    rig_run();
    assert_true(rig.killed[1] != 0);
    assert_string_equal(session_find(rig.core, 1)->node, "c2s-other");
    rig_stop();
}

static void sync_of(uint64_t sid, uint64_t connection, uint64_t had)
{
    struct wire_frame f = {.kind = WIRE_SYNC,
                           .slot = 1,
                           .sid = sid,
                           .session = connection,
                           .from = SPAN("juliet@a/r"),
                           .num = had,
                           .n = 1};
    rig_frame("c2s", &f);
    rig_run();
}

/* The client has resumed at the same connection manager, and its old socket is still open: the next router
 * believes the connection that the record names, not the numbers of the former one, before or behind it. */
static void test_sync_of_a_former_connection(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_open(2, "romeo@a", "r");
    resume(4, 1, 1);
    rig_skip(1);
    rig_crash();
    sync_of(1, 1, 9);
    assert_true(rig.killed[1] != 0);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_UNSYNCED);
    rig.killed[1] = 0;
    sync_of(1, 4, 2);
    assert_int_equal(rig.killed[1], 0);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_LIVE);
    uint64_t sent = session_find(rig.core, 1)->out_sent;
    sync_of(1, 1, 9);
    assert_true(rig.killed[1] != 0);
    assert_int_equal(session_find(rig.core, 1)->out_sent, sent);
    rig_stop();
}

/* Nor what a former connection says of acknowledgements and ends. */
static void test_words_of_a_former_connection(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    resume(4, 1, 0);
    struct session *s = session_find(rig.core, 1);
    uint64_t acked = s->out_acked;
    assert_true(s->out_sent > acked);
    struct buf pairs = {0}, connections = {0};
    wire_pair_add(&pairs, 1, s->out_sent);
    wire_connection_add(&connections, 1);
    struct wire_frame f = {
        .kind = WIRE_ACKED, .pairs = buf_span(&pairs), .connections = buf_span(&connections)};
    rig_frame("c2s", &f);
    struct wire_frame closed = {
        .kind = WIRE_CLOSED, .slot = 1, .sid = 1, .session = 1, .num = WIRE_CLOSE_CLEAN};
    rig_frame("c2s", &closed);
    rig_run();
    assert_ptr_equal(session_find(rig.core, 1), s);
    assert_int_equal(s->out_acked, acked);
    buf_clear(&connections);
    wire_connection_add(&connections, 4);
    f.connections = buf_span(&connections);
    rig_frame("c2s", &f);
    rig_run();
    assert_int_equal(s->out_acked, s->out_sent);
    buf_free(&pairs);
    buf_free(&connections);
    rig_stop();
}

/* A question that waited is older than the connection that has been answered meanwhile. */
static void test_old_question(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    resume(4, 1, 0);
    rig.now_ms += 5000;
    struct wire_frame f = {.kind = WIRE_RESUME,
                           .flags = WIRE_AGAIN,
                           .slot = 1,
                           .sid = 5,
                           .from = SPAN("juliet@a"),
                           .name = SPAN("0000000000000001"),
                           .age_ms = 6000};
    rig.killed[5] = 0;
    rig_frame("c2s", &f);
    rig_run();
    assert_true(rig.killed[5] != 0);
    assert_int_equal(session_find(rig.core, 1)->asked_as, 4);
    f.sid = 6;
    f.age_ms = 4000; /* this one was asked after that, and waited as long */
    rig_frame("c2s", &f);
    rig_run();
    assert_int_equal(session_find(rig.core, 1)->asked_as, 6);
    rig_stop();
}

/* A message of 2 to juliet's session, who does not acknowledge it. */
static void say_unacknowledged(const char *body)
{
    char text[128];
    snprintf(text, sizeof text, "<message xmlns='jabber:client' to='juliet@a/r'><body>%s</body></message>",
             body);
    rig_stanza("c2s", 2, text, span_of(rig.full[2]), 0);
    for (int i = 0; i < 6; i++) {
        core_turn(rig.core, rig.now_ms);
        store_mem_run(rig.world, SIZE_MAX);
    }
    buf_clear(&rig.dones);
}

/* The same connection has asked again since, and was answered: taking the earlier question behind it would
 * take the session back to numbers that its client has gone on from. */
static void test_question_behind_a_later_one(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_open(2, "romeo@a", "r");
    struct wire_frame f = {.kind = WIRE_RESUME,
                           .slot = 1,
                           .sid = 4,
                           .from = SPAN("juliet@a"),
                           .name = SPAN("0000000000000001"),
                           .token = 60};
    rig_frame("c2s", &f);
    rig_run();
    say_unacknowledged("once");
    rig_skip(1);
    f.token = 57;
    f.flags = WIRE_AGAIN;
    rig_frame("c2s", &f);
    rig_run();
    rig_silent(1);
    assert_int_equal(session_find(rig.core, 1)->attached, 60);
    rig_crash(); /* the record knows it, too */
    rig_frame("c2s", &f);
    rig_run();
    rig_silent(1);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_UNSYNCED);
    f.token = 61;
    rig_frame("c2s", &f);
    rig_run();
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_LIVE);
    assert_non_null(memmem(rig.box[1].p, rig.box[1].n, "once", 4));
    rig_stop();
}

/* OPENED met a later asking of the same question, and what was delivered behind it met nobody. */
static void test_open_asked_twice_begins_anew(void **state)
{
    (void)state;
    rig_start(people);
    rig_open(2, "romeo@a", "r");
    struct wire_frame f = {
        .kind = WIRE_OPEN, .slot = 1, .sid = 1, .from = SPAN("juliet@a"), .name = SPAN("r"), .token = 6};
    rig_frame("c2s", &f);
    rig_run();
    say_unacknowledged("once");
    rig_want(1, "<message*once*");
    f.token = 8;
    f.flags = WIRE_AGAIN;
    rig_frame("c2s", &f);
    rig_run();
    rig_want(1, "<message*once*");
    assert_int_equal(session_find(rig.core, 1)->out_sent, 1);
    rig_stop();
}

/* OPEN asked again after its session was given up: marks of that one are not the new one's. */
static void test_marks_of_an_earlier_session(void **state)
{
    (void)state;
    rig_start(people);
    rig_open(1, "juliet@a", "r");
    rig_open(2, "romeo@a", "r");
    struct session *s = session_find(rig.core, 1);
    s->held = true; /* the message waits for it: mark 0 */
    rig_says(2, "<message xmlns='jabber:client' to='juliet@a/r' type='chat'><body>kept</body></message>");
    rig_silent(1);
    rig_lose(1);
    assert_null(session_find(rig.core, 1));
    rig_open(1, "juliet@a", "r");
    rig_crash();
    rig_open(3, "juliet@a", "s");
    rig_says(3, "<presence xmlns='jabber:client'/>");
    rig_want(3, "<presence*");
    rig_want(3, "<message*kept*");
    rig_stop();
}

/* A session is lost while its user's mailbox is being read: the marks that are still unread tell which
 * numbers its client has had, so the record that is written then must not make them void. */
static void test_lost_while_being_loaded(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_open(2, "romeo@a", "r");
    rig_stanza("c2s", 2,
               "<message xmlns='jabber:client' to='juliet@a/r' type='chat'><body>once</body></message>",
               span_of(rig.full[2]), 0);
    for (int i = 0; i < 6; i++) {
        core_turn(rig.core, rig.now_ms);
        store_mem_run(rig.world, SIZE_MAX);
    }
    buf_clear(&rig.dones); /* she has it, but nobody has heard of it yet */
    rig_want(1, "<message*once*");
    struct session *s = session_find(rig.core, 1);
    unsigned h = (unsigned)(s->out_sent - s->sm_out_base);
    rig_crash();
    assert_non_null(user_get(rig.core, SPAN("juliet@a")));
    store_mem_run(rig.world, 1); /* claimed; the mailbox has not been read */
    assert_true(user_find(rig.core, SPAN("juliet@a"))->restoring);
    core_node_gone(rig.core, "c2s", 1, rig.now_ms);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_DETACHED);
    core_turn(rig.core, rig.now_ms);
    store_mem_run(rig.world, SIZE_MAX);
    rig_crash();
    resume(4, 1, h);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_LIVE);
    assert_null(memmem(rig.box[1].p, rig.box[1].n, "once", 4));
    rig_stop();
}

/* A session ends while its user's mailbox is being read. What only its record names so far is no orphan: the
 * marks may say that another session has it. */
static void test_closed_while_being_loaded(void **state)
{
    (void)state;
    rig_start(people);
    rig_log_in(1, "juliet@a", "r", true);
    rig_open(2, "romeo@a", "r");
    rig_open(3, "juliet@a", "s");
    rig_says(3, "<presence xmlns='jabber:client'/>");
    rig_skip(1);
    rig_stanza("c2s", 2,
               "<message xmlns='jabber:client' to='juliet@a' type='chat'><body>once</body></message>",
               span_of(rig.full[2]), 0);
    for (int i = 0; i < 6; i++) {
        core_turn(rig.core, rig.now_ms);
        store_mem_run(rig.world, SIZE_MAX);
    }
    buf_clear(&rig.dones); /* both have it, and neither says so */
    rig_want(1, "<message*once*");
    struct session *s = session_find(rig.core, 1);
    unsigned h = (unsigned)(s->out_sent - s->sm_out_base);
    rig_stanza("c2s", 3, "<presence xmlns='jabber:client' to='romeo@a'/>", span_of(rig.full[3]), 0);
    for (int i = 0; i < 6; i++) { /* its record is newer than the message, the first one's is not */
        core_turn(rig.core, rig.now_ms);
        store_mem_run(rig.world, SIZE_MAX);
    }
    buf_clear(&rig.dones);
    rig_crash();
    rig_skip(1);
    assert_non_null(user_get(rig.core, SPAN("juliet@a")));
    store_mem_run(rig.world, 1); /* claimed; the mailbox has not been read */
    assert_true(user_find(rig.core, SPAN("juliet@a"))->restoring);
    core_node_gone(rig.core, "c2s", 1, rig.now_ms);
    assert_null(session_find(rig.core, 3));
    core_turn(rig.core, rig.now_ms);
    store_mem_run(rig.world, SIZE_MAX);
    resume(4, 1, h);
    assert_int_equal(session_find(rig.core, 1)->state, SESSION_LIVE);
    assert_null(memmem(rig.box[1].p, rig.box[1].n, "once", 4));
    rig_stop();
}

/* With no room for another session the one ends that has waited longest for its client; its client is told
 * how much was handled. Without one that waits there is no room. */
static void test_oldest_detached_makes_room(void **state)
{
    (void)state;
    rig_start(people);
    rig.conf->limits_sessions_per_account = 3;
    for (uint64_t sid = 1; sid <= 3; sid++) {
        char resource[] = {'a' + (char)sid, '\0'};
        struct wire_frame enable = {.kind = WIRE_ENABLE, .slot = 1, .sid = sid, .num = 100};
        rig_open(sid, "juliet@a", resource);
        rig_frame("c2s", &enable);
        rig_run();
    }
    rig_lose(2);
    rig.now_ms += 1000;
    rig_lose(1);
    rig_open(4, "juliet@a", "x");
    assert_null(session_find(rig.core, 2));
    assert_non_null(session_find(rig.core, 1));
    rig_open(5, "juliet@a", "y");
    assert_null(session_find(rig.core, 1));
    struct wire_frame f = {
        .kind = WIRE_OPEN, .slot = 1, .sid = 6, .from = SPAN("juliet@a"), .name = SPAN("z")};
    rig_frame("c2s", &f);
    rig_run();
    assert_null(session_find(rig.core, 6));
    assert_non_null(session_find(rig.core, 3));
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restored_session_gets_no_number),
        cmocka_unit_test(test_lease_lost_with_stanzas_to_itself),
        cmocka_unit_test(test_handled_is_durable),
        cmocka_unit_test(test_users_nobody_mentions_are_looked_after),
        cmocka_unit_test(test_index_is_left),
        cmocka_unit_test(test_index_is_left_by_the_deleted),
        cmocka_unit_test(test_stream_that_was_thought_dead),
        cmocka_unit_test(test_sync_of_a_stream_of_yesterday),
        cmocka_unit_test(test_sync_of_a_former_connection),
        cmocka_unit_test(test_words_of_a_former_connection),
        cmocka_unit_test(test_old_question),
        cmocka_unit_test(test_question_behind_a_later_one),
        cmocka_unit_test(test_open_asked_twice_begins_anew),
        cmocka_unit_test(test_marks_of_an_earlier_session),
        cmocka_unit_test(test_lost_while_being_loaded),
        cmocka_unit_test(test_closed_while_being_loaded),
        cmocka_unit_test(test_oldest_detached_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
