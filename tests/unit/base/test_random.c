/* Random bytes: all of what is asked for, and nothing twice, not even in a forked child that has the same
 * stock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/random.h"

static void fills_all_and_no_more(void **state)
{
    static const size_t sizes[] = {1, 7, 32, 255, 256, 257, 1000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t n = sizes[i];
        uint8_t seen[1002] = {0};
        for (unsigned round = 0; round < 64; round++) { /* a byte is 0 every time once in 2^512 */
            uint8_t bytes[1002] = {0};
            random_bytes(bytes + 1, n);
            for (size_t at = 0; at < sizeof(bytes); at++)
                seen[at] |= bytes[at];
        }
        assert_int_equal(seen[0], 0);
        assert_int_equal(seen[n + 1], 0);
        for (size_t at = 1; at <= n; at++)
            assert_int_not_equal(seen[at], 0);
    }
}

static void gives_nothing_twice(void **state)
{
    uint64_t numbers[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        numbers[i] = random_u64();
        for (size_t k = 0; k < i; k++)
            assert_true(numbers[k] != numbers[i]);
    }
}

static void child_draws_its_own(void **state)
{
    uint8_t mine[16], its[16];
    int ends[2];

    (void)state;
    random_bytes(mine, sizeof(mine)); /* the stock is there before the fork */
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        random_bytes(its, sizeof(its));
        _exit(write(ends[1], its, sizeof(its)) == (ssize_t)sizeof(its) ? 0 : 1);
    }
    random_bytes(mine, sizeof(mine));
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], its, sizeof(its)), sizeof(its));
    assert_memory_not_equal(mine, its, sizeof(mine));
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_all_and_no_more),
        cmocka_unit_test(gives_nothing_twice),
        cmocka_unit_test(child_draws_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
