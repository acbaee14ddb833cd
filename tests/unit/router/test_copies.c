/* Copies for other sessions (carbons): as durable as what they are copies of, made once, and for nobody else.
 */
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

static void with_carbons(uint64_t sid)
{
    rig_says(sid, "<iq xmlns='jabber:client' type='set' id='e'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    rig_skip(sid);
}

static unsigned entries(const char *bare)
{
    struct user *u = user_find(rig.core, span_of(bare));
    return u != NULL ? u->entry_count : 0;
}

static void test_nobody_elses(void **state)
{
    (void)state;
    rig_log_in(1, "juliet@a", "r", true);
    rig_log_in(2, "juliet@a", "other", true);
    with_carbons(2);
    rig_skip(1);
    rig_says(1, "<message xmlns='jabber:client' to='romeo@a' type='chat'><body>hello</body></message>");
    rig_want(2, "<message*from='juliet@a'*<sent xmlns='urn:xmpp:carbons:2'>*hello*");
    assert_int_equal(entries("juliet@a"), 0); /* that session has had it */
    rig_lose(2);
    rig_says(1, "<message xmlns='jabber:client' to='romeo@a' type='chat'><body>again</body></message>");
    assert_int_equal(entries("juliet@a"), 1); /* waits for the session to be resumed */
    session_close(session_find(rig.core, 2));
    rig_run();
    assert_int_equal(entries("juliet@a"), 0); /* it was for that session alone */
    rig_log_in(3, "juliet@a", "third", true);
    rig_silent(3);
}

/* The sender's router dies: the stanza that comes again makes no second copy, and the one that there was is
 * still known. */
static void test_repeated_stanza(void **state)
{
    (void)state;
    rig_log_in(1, "juliet@a", "r", true);
    rig_log_in(2, "juliet@a", "other", true);
    with_carbons(2);
    rig_skip(1);
    rig_says(1, "<message xmlns='jabber:client' to='romeo@a' type='chat'><body>hello</body></message>");
    rig_want(2, "<message*<sent*hello*");
    uint64_t n = rig.next_n[1],
             had[3] = {0, session_find(rig.core, 1)->out_sent, session_find(rig.core, 2)->out_sent};
    rig_crash();
    for (uint64_t sid = 1; sid <= 2; sid++) {
        struct wire_frame sync = {.kind = WIRE_SYNC,
                                  .slot = 1,
                                  .sid = sid,
                                  .session = sid,
                                  .from = span_of(rig.full[sid]),
                                  .n = sid == 1 ? n - 1 : rig.next_n[sid],
                                  .num = had[sid]};
        rig_frame("c2s", &sync);
        rig_run();
    }
    rig_skip(1);
    rig_skip(2);
    rig.next_n[1] = n - 1;
    rig_says(1, "<message xmlns='jabber:client' to='romeo@a' type='chat'><body>hello</body></message>");
    rig_silent(2);
    assert_int_equal(entries("juliet@a"), 1); /* the first: what its client has acknowledged is not known */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nobody_elses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeated_stanza, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
