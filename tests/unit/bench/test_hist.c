/* Quantiles of the load generator's histogram against sorted values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "bench/load/hist.h"
#include "common/base/random.h"

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void test_quantiles(void **state)
{
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    static struct hist h;
    struct rng r;

    (void)state;
    rng_seed(&r, 1);
    for (unsigned i = 0; i < COUNT; i++) {
        values[i] = rng_next(&r) >> (24 + rng_below(&r, 40)); /* all magnitudes up to 2^40 */
        hist_add(&h, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), by_value);
    assert_int_equal(h.count, COUNT);
    assert_int_equal(h.max_us, values[COUNT - 1]);
    for (double q = 0.01; q < 1; q += 0.01) {
        double right = (double)values[(unsigned)(q * COUNT)], got = (double)hist_quantile_us(&h, q);
        if (right < 4e9) /* beyond, the last bucket has all */
            assert_true(got <= right && got >= right * 0.984 - 1);
    }
}

static void test_small(void **state)
{
    static struct hist h;

    (void)state;
    assert_int_equal(hist_quantile_us(&h, 0.5), 0);
    for (uint64_t us = 0; us < 200; us++)
        hist_add(&h, us);
    assert_int_equal(hist_quantile_us(&h, 0.1), 20);
    assert_int_equal(hist_quantile_us(&h, 0.9), 180);
    assert_int_equal(hist_quantile_us(&h, 1), 199);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quantiles), cmocka_unit_test(test_small)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
