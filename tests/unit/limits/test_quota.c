#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/limits/quota.h"

static struct limits_key key_of(unsigned i)
{
    struct limits_key k = {{0}};
    memcpy(k.bytes, &i, sizeof(i));
    return k;
}

static void test_an_hour(void **state)
{
    (void)state;
    struct quota q = {0};
    struct limits_key a = key_of(1), b = key_of(2);
    for (uint64_t now = 1000; now < 3000; now += 1000) {
        assert_true(quota_left(&q, &a, 2, now));
        quota_take(&q, &a, now);
    }
    assert_false(quota_left(&q, &a, 2, 3000));
    assert_true(quota_left(&q, &a, 3, 3000));
    assert_true(quota_left(&q, &b, 2, 3000));
    assert_false(quota_left(&q, &a, 2, 1000 + QUOTA_PERIOD_MS - 1));
    assert_true(quota_left(&q, &a, 2, 1000 + QUOTA_PERIOD_MS));
    /* The next hour begins with its first. */
    quota_take(&q, &a, 5000 + QUOTA_PERIOD_MS);
    quota_sweep(&q, 5000 + QUOTA_PERIOD_MS);
    assert_true(quota_left(&q, &a, 2, 5000 + QUOTA_PERIOD_MS));
    quota_take(&q, &a, 5000 + QUOTA_PERIOD_MS);
    assert_false(quota_left(&q, &a, 2, 4999 + 2ull * QUOTA_PERIOD_MS));
    quota_sweep(&q, 5000 + 2ull * QUOTA_PERIOD_MS);
    assert_int_equal(q.addresses.count, 0);
    quota_free(&q);
}

static void test_bounded(void **state)
{
    (void)state;
    struct quota q = {0};
    for (unsigned i = 0; i < QUOTA_ADDRESSES_MAX; i++) {
        struct limits_key k = key_of(i);
        assert_true(quota_left(&q, &k, 2, 1000));
        quota_take(&q, &k, 1000);
    }
    struct limits_key known = key_of(5), fresh = key_of(QUOTA_ADDRESSES_MAX);
    assert_true(quota_left(&q, &known, 2, 1000));
    assert_false(quota_left(&q, &fresh, 2, 1000));
    quota_sweep(&q, 1000 + QUOTA_PERIOD_MS);
    assert_true(quota_left(&q, &fresh, 2, 1000 + QUOTA_PERIOD_MS));
    quota_free(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_an_hour), cmocka_unit_test(test_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
