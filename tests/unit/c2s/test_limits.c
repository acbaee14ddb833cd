#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "c2s/limits.h"
#include "c2s/secrets.h"

static void test_bucket(void **state)
{
    (void)state;
    struct bucket b = {0};
    uint64_t now = 1000000;
    for (int i = 0; i < 20; i++) /* two seconds' worth at once */
        assert_int_equal(bucket_take(&b, 10, 1, now), 0);
    uint64_t wait = bucket_take(&b, 10, 1, now);
    assert_in_range(wait, 100, 102);
    assert_true(bucket_take(&b, 10, 0, now + wait - 50) > 0);
    assert_int_equal(bucket_take(&b, 10, 0, now + wait), 0);
    /* In the long run the rate holds. */
    uint64_t taken = 0, t = now + 100000, end = t + 100000;
    while (t < end) {
        taken++;
        t += bucket_take(&b, 10, 1, t);
    }
    assert_in_range(taken, 990, 1030);
}

static struct sockaddr_storage address(const char *text)
{
    struct sockaddr_storage a = {0};
    struct sockaddr_in *in4 = (struct sockaddr_in *)&a;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a;
    if (strchr(text, ':') != NULL) {
        in6->sin6_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
    } else {
        in4->sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, text, &in4->sin_addr), 1);
    }
    return a;
}

static void test_addresses(void **state)
{
    (void)state;
    struct limits l = {.enabled = true, .connections_per_address = 3, .connection_rate_per_address = 100};
    struct sockaddr_storage a = address("2001:db8::1"), same = address("2001:db8::2"),
                            other = address("192.0.2.1");
    struct limits_address *held[4];
    assert_int_equal(limits_enter(&l, &a, 1000, &held[0]), LIMITS_OK);
    assert_int_equal(limits_enter(&l, &same, 1000, &held[1]), LIMITS_OK);
    assert_int_equal(limits_enter(&l, &a, 1000, &held[2]), LIMITS_OK);
    assert_int_equal(limits_enter(&l, &same, 1000, &held[3]), LIMITS_TOO_MANY);
    assert_null(held[3]);
    assert_int_equal(limits_enter(&l, &other, 1000, &held[3]), LIMITS_OK);
    limits_leave(&l, held[0], 9000);
    assert_int_equal(limits_enter(&l, &same, 9000, &held[0]), LIMITS_OK);
    for (int i = 0; i < 4; i++)
        limits_leave(&l, held[i], 20000);
    assert_int_equal(l.addresses.count, 0);
    limits_free(&l);
}

static void test_connection_rate(void **state)
{
    (void)state;
    struct limits l = {.enabled = true, .connections_per_address = 1000, .connection_rate_per_address = 5};
    struct sockaddr_storage a = address("192.0.2.1");
    struct limits_address *out;
    int taken = 0;
    for (int i = 0; i < 100; i++) {
        if (limits_enter(&l, &a, 1000, &out) == LIMITS_OK) {
            limits_leave(&l, out, 1000);
            taken++;
        }
    }
    assert_int_equal(taken, 10);
    assert_int_equal(limits_enter(&l, &a, 2000, &out), LIMITS_OK);
    limits_leave(&l, out, 2000);
    limits_sweep(&l, 2001);
    assert_int_equal(l.addresses.count, 1);
    limits_sweep(&l, 60000);
    assert_int_equal(l.addresses.count, 0);
    l.enabled = false;
    for (int i = 0; i < 100; i++)
        assert_int_equal(limits_enter(&l, &a, 60000, &out), LIMITS_OK);
    limits_free(&l);
}

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
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_connection_rate),
        cmocka_unit_test(test_ticket_keys_rotate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
