/* What the load generator calls lost, doubled and out of order; its messages read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/load/numbers.h"
#include "bench/load/scenario.h"

static const struct scenario plain; /* nothing special */
static struct bench bench;
static struct numbers had;

static int setup(void **state)
{
    (void)state;
    bench = (struct bench){.scenario = &plain};
    had = (struct numbers){0};
    return 0;
}

static void take(uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last; i++)
        numbers_take(&bench, &had, i);
}

static void want(uint64_t duplicated, uint64_t reordered, uint64_t lost_of_1000)
{
    assert_int_equal(bench.duplicated, duplicated);
    assert_int_equal(bench.reordered, reordered);
    assert_int_equal(numbers_lost(&had, 1000), lost_of_1000);
}

static void test_in_order(void **state)
{
    (void)state;
    want(0, 0, 1000);
    take(0, 999);
    want(0, 0, 0);
}

static void test_end_is_lost(void **state)
{
    (void)state;
    take(0, 989);
    want(0, 0, 10);
}

static void test_gap_is_lost(void **state)
{
    (void)state;
    take(0, 99);
    take(200, 999);
    want(0, 0, 100);
}

static void test_late_is_reordered(void **state)
{
    (void)state;
    take(0, 99);
    take(101, 110);
    take(100, 100);
    take(111, 999);
    want(0, 1, 0);
}

static void test_second_is_duplicated(void **state)
{
    (void)state;
    take(0, 500);
    take(500, 500);
    take(437, 437); /* the last of the window */
    take(3, 3);     /* far behind it */
    take(501, 999);
    want(3, 0, 0);
}

static void test_duplicate_hides_no_loss(void **state)
{
    (void)state;
    take(0, 499);
    take(400, 499);
    take(501, 999);
    want(100, 0, 1);
}

static void test_message(void **state)
{
    struct buf out = {0};
    uint64_t number, due_ns;
    (void)state;
    bench.args = (struct args){.prefix = "p", .domain = "d", .body_bytes = 10};
    message_add(&out, &bench, 7, false, 41, 1234567890123);
    assert_non_null(memmem(out.p, out.n, "to='p7@d/bench' type='chat'", 27));
    assert_true(message_read(buf_span(&out), &number, &due_ns));
    assert_int_equal(number, 41);
    assert_int_equal(due_ns, 1234567890123);
    buf_clear(&out);
    message_add(&out, &bench, 7, true, 0, 1);
    assert_non_null(memmem(out.p, out.n, "to='p7@d' type='headline'", 25));
    assert_false(message_read(SPAN("<message><subject>1 2</subject></message>"), &number, &due_ns));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_in_order, setup),
                                       cmocka_unit_test_setup(test_end_is_lost, setup),
                                       cmocka_unit_test_setup(test_gap_is_lost, setup),
                                       cmocka_unit_test_setup(test_late_is_reordered, setup),
                                       cmocka_unit_test_setup(test_second_is_duplicated, setup),
                                       cmocka_unit_test_setup(test_duplicate_hides_no_loss, setup),
                                       cmocka_unit_test_setup(test_message, setup)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
