/* Buckets, quantiles and both output formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/stats/stats.h"

static int64_t read_seven(void *ctx)
{
    (void)ctx;
    return 7;
}

static struct stat_counter in_messages = STAT_COUNTER("t_in_total", "Stanzas in", "kind=\"message\"");
static struct stat_gauge sessions = STAT_GAUGE("t_sessions", "Sessions", NULL);
static struct stat_counter in_iqs = STAT_COUNTER("t_in_total", "Stanzas in", "kind=\"iq\"");
static struct stat_histogram reply = STAT_HISTOGRAM("t_reply_seconds", "Reply time", "node=\"1\"");

static int fill(void **state)
{
    (void)state;
    stat_register(&in_messages.meta);
    stat_register(&sessions.meta);
    stat_register(&in_iqs.meta);
    stat_register(&in_iqs.meta);
    stat_register(&reply.meta);
    stat_add(&in_messages, 2);
    stat_add(&in_messages, 3);
    stat_add(&in_iqs, 1);
    sessions.read = read_seven;
    stat_refresh();
    stat_observe(&reply, 1000);
    stat_observe(&reply, 3000);
    return 0;
}

static void prometheus_groups_by_name(void **state)
{
    struct buf b = {0};
    const char *text;

    (void)state;
    stat_write_prometheus(&b);
    text = buf_cstr(&b);
    assert_ptr_equal(strstr(text, "# HELP t_in_total Stanzas in\n# TYPE t_in_total counter\n"
                                  "t_in_total{kind=\"message\"} 5\nt_in_total{kind=\"iq\"} 1\n"
                                  "# HELP t_sessions Sessions\n# TYPE t_sessions gauge\nt_sessions 7\n"
                                  "# HELP t_reply_seconds Reply time\n# TYPE t_reply_seconds histogram\n"
                                  "t_reply_seconds_bucket{node=\"1\",le=\"1e-06\"} 0\n"),
                     text);
    assert_non_null(strstr(text, "\nt_reply_seconds_bucket{node=\"1\",le=\"0.000512\"} 0\n"
                                 "t_reply_seconds_bucket{node=\"1\",le=\"0.001024\"} 1\n"
                                 "t_reply_seconds_bucket{node=\"1\",le=\"0.002048\"} 1\n"
                                 "t_reply_seconds_bucket{node=\"1\",le=\"0.004096\"} 2\n"));
    assert_non_null(strstr(text,
                           "\nt_reply_seconds_bucket{node=\"1\",le=\"+Inf\"} 2\n"
                           "t_reply_seconds_sum{node=\"1\"} 0.004\nt_reply_seconds_count{node=\"1\"} 2\n"));
    buf_free(&b);
}

static void json_has_everything(void **state)
{
    struct buf b = {0};

    (void)state;
    stat_write_json(&b);
    assert_string_equal(
        buf_cstr(&b),
        "{\"t_in_total{kind=\\\"message\\\"}\":5,\"t_in_total{kind=\\\"iq\\\"}\":1,\"t_sessions\":7,"
        "\"t_reply_seconds{node=\\\"1\\\"}\":{\"count\":2,\"sum_us\":4000,\"p50_us\":1024,"
        "\"p90_us\":4096,\"p99_us\":4096,\"max_us\":4096}}");
    buf_free(&b);
}

static void quantiles_are_within_their_bucket(void **state)
{
    struct stat_histogram h = STAT_HISTOGRAM("t_q_seconds", "q", NULL);

    (void)state;
    assert_int_equal(stat_quantile_us(&h, 0.5), 0);
    for (uint64_t us = 1; us <= 10000; us++)
        stat_observe(&h, us);
    for (int p = 1; p <= 100; p++) {
        uint64_t exact = (uint64_t)p * 100, got = stat_quantile_us(&h, p / 100.0);
        assert_true(got >= exact);
        assert_true((double)got <= (double)exact * 1.42);
    }
    assert_int_equal(h.count, 10000);
    assert_int_equal(h.sum_us, 50005000);
}

static void buckets_hold_the_extremes(void **state)
{
    struct stat_histogram h = STAT_HISTOGRAM("t_x_seconds", "x", NULL);

    (void)state;
    stat_observe(&h, 0);
    stat_observe(&h, 1);
    assert_int_equal(h.bucket[0], 2);
    stat_observe(&h, 2);
    assert_int_equal(h.bucket[2], 1);
    stat_observe(&h, 3);
    stat_observe(&h, 4);
    assert_int_equal(h.bucket[4], 2);
    stat_observe(&h, 5);
    assert_int_equal(h.bucket[5], 1); /* up to 5.66 */
    stat_observe(&h, 6);
    assert_int_equal(h.bucket[6], 1);
    stat_observe(&h, (uint64_t)1 << 31);
    assert_int_equal(h.bucket[62], 1);
    stat_observe(&h, ((uint64_t)1 << 31) + 1);
    stat_observe(&h, UINT64_MAX);
    assert_int_equal(h.bucket[63], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prometheus_groups_by_name),
        cmocka_unit_test(json_has_everything),
        cmocka_unit_test(quantiles_are_within_their_bucket),
        cmocka_unit_test(buckets_hold_the_extremes),
    };
    return cmocka_run_group_tests(tests, fill, NULL);
}
