/* Whom a block covers (XEP-0191 §6), and the list as it is kept. */
#include "rig.h"

#include "router/blocklist.h"

static bool blocked(struct user *u, const char *text)
{
    struct jid jid;
    assert_true(jid_split(span_of(text), &jid));
    return blocklist_has(u, &jid);
}

static void test_matching(void **state)
{
    struct user u = {.bare = "juliet@a.example"};
    (void)state;
    assert_false(blocked(&u, "romeo@b.example"));
    blocklist_load(&u, SPAN("romeo@b.example\nnurse@b.example/kitchen\nc.example\nd.example/"
                            "bot\njuliet@a.example\na.example\n"));
    assert_int_equal(blocklist_count(&u), 6);
    assert_true(blocked(&u, "romeo@b.example"));
    assert_true(blocked(&u, "romeo@b.example/garden"));
    assert_false(blocked(&u, "romeo@bb.example"));
    assert_true(blocked(&u, "nurse@b.example/kitchen"));
    assert_false(blocked(&u, "nurse@b.example/hall"));
    assert_false(blocked(&u, "nurse@b.example"));
    assert_true(blocked(&u, "c.example"));
    assert_true(blocked(&u, "x@c.example/y"));
    assert_true(blocked(&u, "c.example/y"));
    assert_false(blocked(&u, "sub.c.example"));
    assert_true(blocked(&u, "d.example/bot"));
    assert_true(blocked(&u, "x@d.example/bot"));
    assert_false(blocked(&u, "x@d.example/other"));
    assert_false(blocked(&u, "juliet@a.example/balcony")); /* never oneself */
    assert_true(blocked(&u, "tybalt@a.example"));
    blocklist_free(&u);
    assert_false(blocked(&u, "romeo@b.example"));
}

static void test_change_and_write(void **state)
{
    struct user u = {.bare = "juliet@a.example"};
    struct buf text = {0};
    (void)state;
    assert_true(blocklist_add(&u, SPAN("x@b.example")));
    assert_false(blocklist_add(&u, SPAN("x@b.example")));
    blocklist_write(&u, &text);
    assert_true(span_is(buf_span(&text), "x@b.example\n"));
    assert_false(blocklist_remove(&u, SPAN("y@b.example")));
    assert_true(blocklist_remove(&u, SPAN("x@b.example")));
    assert_int_equal(blocklist_count(&u), 0);
    assert_null(u.blocked);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matching),
        cmocka_unit_test(test_change_and_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
