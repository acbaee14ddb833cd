#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "c2s/secrets.h"

static void test_ticket_keys_rotate(void **state)
{
    (void)state;
    const uint64_t day = 86400000;
    struct buf first = {0}, second = {0}, again = {0}, none = {0};
    assert_true(secrets_rotate((struct span){0}, 1700000000000, &first));
    assert_int_equal(first.n, 8 + 3 * TLS_TICKET_KEY_BYTES);
    assert_false(secrets_rotate(buf_span(&first), 1700000000000 + day - 1, &none));
    assert_true(secrets_rotate(buf_span(&first), 1700000000000 + day, &second));
    /* A clock that is a little behind the maker's waits; keys from a far future would never be due again. */
    assert_false(secrets_rotate(buf_span(&first), 1700000000000 - 5000, &none));
    assert_true(secrets_rotate(buf_span(&first), 1700000000000 - day, &again));
    buf_free(&again);
    assert_int_equal(second.n, first.n);
    assert_memory_equal(second.p + 8 + TLS_TICKET_KEY_BYTES, first.p + 8, 2 * TLS_TICKET_KEY_BYTES);
    assert_memory_not_equal(second.p + 8, first.p + 8, TLS_TICKET_KEY_BYTES);
    assert_true(secrets_rotate(SPAN("junk"), 1700000000000, &none));
    buf_free(&first);
    buf_free(&second);
    buf_free(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticket_keys_rotate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
