#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "common/limits/limits.h"

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

/* A listener on [::] says IPv4 addresses as ::ffff:a.b.c.d: each is its own, and the same as without. */
static void test_mapped(void **state)
{
    (void)state;
    struct limits l = {.enabled = true, .connections_per_address = 1, .connection_rate_per_address = 100};
    struct sockaddr_storage a = address("::ffff:192.0.2.1"), b = address("::ffff:198.51.100.7"),
                            plain = address("192.0.2.1");
    struct limits_address *held[3];
    assert_int_equal(limits_enter(&l, &a, 1000, &held[0]), LIMITS_OK);
    assert_int_equal(limits_enter(&l, &b, 1000, &held[1]), LIMITS_OK);
    assert_int_equal(limits_enter(&l, &plain, 1000, &held[2]), LIMITS_TOO_MANY);
    limits_leave(&l, held[0], 9000);
    limits_leave(&l, held[1], 9000);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_connection_rate),
        cmocka_unit_test(test_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
