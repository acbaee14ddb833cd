/* SRV records: reading what a hostile server may send, and RFC 2782's order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "s2s/srv.h"

static void test_parse(void **state)
{
    struct srv s;
    (void)state;
    assert_true(srv_parse(span_make("\0\12\0\5\x14\x95\4xmpp\7example\3org\0", 24), true, &s));
    assert_int_equal(s.priority, 10);
    assert_int_equal(s.weight, 5);
    assert_int_equal(s.port, 5269);
    assert_true(s.tls);
    assert_string_equal(s.host, "xmpp.example.org");
    assert_true(srv_parse(span_make("\0\0\0\0\0\0\0", 7), false, &s));
    assert_string_equal(s.host, "");
}

static void test_malformed(void **state)
{
    struct srv s;
    char data[300] = {0};
    (void)state;
    assert_false(srv_parse(span_make("\0\0\0\0\0\0", 6), false, &s));
    assert_false(srv_parse(span_make("\0\0\0\0\0\0\5ab", 9), false, &s));       /* label beyond the end */
    assert_false(srv_parse(span_make("\0\0\0\0\0\0\2ab", 9), false, &s));       /* no root */
    assert_false(srv_parse(span_make("\0\0\0\0\0\0\2ab\0x", 11), false, &s));   /* more behind it */
    assert_false(srv_parse(span_make("\0\0\0\0\0\0\xc0\x0c\0", 9), false, &s)); /* compressed */
    assert_false(srv_parse(span_make("\0\0\0\0\0\0\3a\nb\0", 11), false, &s));
    assert_false(srv_parse(span_make("\0\0\0\0\0\0\3a.b\0", 11), false, &s));
    for (size_t at = 6; at + 64 < sizeof data; at += 64) { /* longer than a name may be */
        data[at] = 63;
        memset(data + at + 1, 'a', 63);
    }
    assert_false(srv_parse(span_make(data, 6 + 4 * 64 + 1), false, &s));
}

static void test_priorities(void **state)
{
    struct rng rng;
    (void)state;
    rng_seed(&rng, 1);
    for (int round = 0; round < 50; round++) {
        struct srv s[] = {
            {.priority = 30}, {.priority = 10, .weight = 9}, {.priority = 20}, {.priority = 10}};
        srv_order(s, 4, &rng);
        for (int i = 1; i < 4; i++)
            assert_true(s[i - 1].priority <= s[i].priority);
    }
}

/* 3:1 by weight: the first place goes to the heavy one about three times of four, and zero weight hardly
 * ever. */
static void test_weights(void **state)
{
    struct rng rng;
    unsigned first[3] = {0};
    (void)state;
    rng_seed(&rng, 7);
    for (int round = 0; round < 4000; round++) {
        struct srv s[] = {{.weight = 10, .port = 0}, {.weight = 30, .port = 1}, {.weight = 0, .port = 2}};
        srv_order(s, 3, &rng);
        first[s[0].port]++;
        assert_int_equal(s[0].port + s[1].port + s[2].port, 3);
    }
    assert_in_range(first[1], 2700, 3200);
    assert_in_range(first[0], 800, 1200);
    assert_in_range(first[2], 1, 200);
}

static void test_tlsa(void **state)
{
    struct tlsa t;
    char data[70] = {3, 1, 1};
    (void)state;
    assert_true(srv_parse_tlsa(span_make(data, 35), &t));
    assert_int_equal(t.usage, 3);
    assert_int_equal(t.n, 32);
    assert_false(srv_parse_tlsa(span_make(data, 34), &t));
    assert_false(srv_parse_tlsa(span_make(data, 36), &t));
    assert_false(srv_parse_tlsa(span_make(data, 2), &t));
    data[2] = 2;
    assert_false(srv_parse_tlsa(span_make(data, 35), &t));
    assert_true(srv_parse_tlsa(span_make(data, 67), &t));
    data[2] = 0;
    assert_false(srv_parse_tlsa(span_make(data, 67), &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),   cmocka_unit_test(test_malformed), cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_weights), cmocka_unit_test(test_tlsa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
