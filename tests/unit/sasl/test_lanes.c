/* Keys derived side by side equal those derived one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/sasl/internal.h"

/* 37 accounts: full vectors and a rest; passwords from empty to longer than any block. */
static void test_same(void **state)
{
    (void)state;
    enum { N = 37 };
    static char text[N][200];
    struct span passwords[N];
    uint8_t salts[N][16], many[N][DIGEST_MAX_BYTES], one[DIGEST_MAX_BYTES];
    struct rng rng;
    rng_seed(&rng, 5);
    for (unsigned i = 0; i < N; i++) {
        size_t n = i == 0 ? 0 : i < 6 ? 62 + i : i < 12 ? 120 + i : rng_below(&rng, sizeof(text[i]));
        for (size_t k = 0; k < n; k++)
            text[i][k] = (char)rng_next(&rng);
        for (size_t k = 0; k < 16; k++)
            salts[i][k] = (uint8_t)rng_next(&rng);
        passwords[i] = span_make(text[i], n);
    }
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        for (uint32_t iterations = 1; iterations <= 100; iterations += 33) {
            digest_stretch_many(d, N, passwords, (const uint8_t(*)[16])salts, iterations, many);
            for (unsigned i = 0; i < N; i++) {
                digest_stretch(d, passwords[i], span_make(salts[i], 16), iterations, one);
                assert_memory_equal(one, many[i], digest_size(d));
            }
        }
    }
}

static void test_keys(void **state)
{
    (void)state;
    enum { N = 20 };
    struct span passwords[N];
    struct sasl_keys keys[N];
    bool good[N];
    for (unsigned i = 0; i < N; i++)
        passwords[i] = i == 7 ? SPAN("a\x07") : i % 2 ? SPAN("secret") : SPAN("\xc2\xaax");
    sasl_keys_derive_many(passwords, N, 50, keys, good);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(good[i], i != 7);
        if (!good[i])
            continue;
        for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
            uint8_t salted[DIGEST_MAX_BYTES], stored[DIGEST_MAX_BYTES], server[DIGEST_MAX_BYTES];
            digest_stretch(d, i % 2 ? SPAN("secret") : SPAN("ax"), span_make(keys[i].salt, 16), 50, salted);
            digest_keys(d, salted, stored, server);
            assert_memory_equal(stored, keys_stored(&keys[i], d), digest_size(d));
            assert_memory_equal(server, keys_server(&keys[i], d), digest_size(d));
        }
        assert_true(i == 0 || memcmp(keys[i].salt, keys[i - 1].salt, 16) != 0);
    }
}

/* Printed, not judged. */
static void test_cost(void **state)
{
    (void)state;
    struct span passwords[32];
    struct sasl_keys keys[32];
    bool good[32];
    for (unsigned i = 0; i < 32; i++)
        passwords[i] = SPAN("secret");
    uint64_t start = clock_mono_ns();
    sasl_keys_derive_many(passwords, 32, 4096, keys, good);
    print_message("side by side: %.2f ms an account of 4096 iterations\n",
                  (double)(clock_mono_ns() - start) / 32e6);
    start = clock_mono_ns();
    sasl_keys_derive(passwords[0], 4096, keys);
    print_message("one by one: %.2f ms\n", (double)(clock_mono_ns() - start) / 1e6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
