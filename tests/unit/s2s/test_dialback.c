/* Dialback keys: the example of XEP-0185 §3, and that every part of it counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "s2s/dialback.h"

static const char secret[] = "s3cr3tf0rd14lb4ck";

static void test_example(void **state)
{
    char key[65];
    (void)state;
    dialback_key(SPAN("s3cr3tf0rd14lb4ck"), SPAN("xmpp.example.com"), SPAN("example.org"), SPAN("D60000229F"),
                 key);
    assert_string_equal(key, "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643");
}

static void test_every_part_counts(void **state)
{
    char key[65];
    (void)state;
    dialback_key(span_of(secret), SPAN("to"), SPAN("from"), SPAN("id"), key);
    assert_true(dialback_check(span_of(secret), SPAN("to"), SPAN("from"), SPAN("id"), span_of(key)));
    assert_false(dialback_check(SPAN("other"), SPAN("to"), SPAN("from"), SPAN("id"), span_of(key)));
    assert_false(dialback_check(span_of(secret), SPAN("t"), SPAN("from"), SPAN("id"), span_of(key)));
    assert_false(dialback_check(span_of(secret), SPAN("to"), SPAN("evil"), SPAN("id"), span_of(key)));
    assert_false(dialback_check(span_of(secret), SPAN("to"), SPAN("from"), SPAN("id2"), span_of(key)));
    assert_false(dialback_check(span_of(secret), SPAN("from"), SPAN("to"), SPAN("id"), span_of(key)));
    assert_false(dialback_check(span_of(secret), SPAN("to"), SPAN("from"), SPAN("id"), (struct span){0}));
    key[63] ^= 1;
    assert_false(dialback_check(span_of(secret), SPAN("to"), SPAN("from"), SPAN("id"), span_of(key)));
}

/* Before Redis has told the secret nothing is true. */
static void test_no_secret(void **state)
{
    char key[65];
    (void)state;
    dialback_key((struct span){0}, SPAN("to"), SPAN("from"), SPAN("id"), key);
    assert_false(dialback_check((struct span){0}, SPAN("to"), SPAN("from"), SPAN("id"), span_of(key)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),
        cmocka_unit_test(test_every_part_counts),
        cmocka_unit_test(test_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
