/* Timers against a model, and XEP-0082 times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/timers.h"

#define TIMERS 200

static struct timers queue;
static struct timer timers[TIMERS];
static uint64_t last_fired_ms;
static unsigned fired;

static void note_fired(struct timer *t, uint64_t now_ms)
{
    assert_false(timer_is_set(t));
    assert_true(t->deadline_ms <= now_ms);
    assert_true(t->deadline_ms >= last_fired_ms);
    last_fired_ms = t->deadline_ms;
    fired++;
}

static void timers_fire_in_order(void **state)
{
    struct rng r;
    uint64_t now_ms = 1000;

    (void)state;
    rng_seed(&r, 3);
    for (int step = 0; step < 2000; step++) {
        for (int k = 0; k < 20; k++) {
            struct timer *t = &timers[rng_below(&r, TIMERS)];
            t->fire = note_fired;
            if (rng_below(&r, 4) == 0)
                timer_clear(&queue, t);
            else
                timer_set(&queue, t, now_ms + rng_below(&r, 300));
        }
        unsigned due = 0, set = 0;
        uint64_t next = UINT64_MAX;
        now_ms += rng_below(&r, 60);
        for (size_t i = 0; i < TIMERS; i++) {
            if (!timer_is_set(&timers[i]))
                continue;
            set++;
            due += timers[i].deadline_ms <= now_ms;
            next = MIN(next, timers[i].deadline_ms);
        }
        assert_int_equal(queue.count, set);
        assert_true(timers_next(&queue) == next);
        fired = 0;
        last_fired_ms = 0;
        assert_int_equal(timers_run(&queue, now_ms), due);
        assert_int_equal(fired, due);
        assert_int_equal(queue.count, set - due);
    }
    for (size_t i = 0; i < TIMERS; i++)
        timer_clear(&queue, &timers[i]);
    timers_free(&queue);
}

static void set_again(struct timer *t, uint64_t now_ms)
{
    fired++;
    timer_set(&queue, t, now_ms);
}

static void clear_others(struct timer *t, uint64_t now_ms)
{
    (void)t;
    (void)now_ms;
    fired++;
    timer_clear(&queue, &timers[1]);
    timer_set(&queue, &timers[2], now_ms + 5);
}

static void fire_may_set_and_clear(void **state)
{
    (void)state;
    fired = 0;
    timers[0].fire = set_again;
    timer_set(&queue, &timers[0], 10);
    assert_int_equal(timers_run(&queue, 10), 1);
    assert_int_equal(timers_run(&queue, 10), 1);
    timer_clear(&queue, &timers[0]);

    fired = 0;
    timers[0].fire = clear_others;
    timers[1].fire = timers[2].fire = note_fired;
    for (uint64_t i = 0; i < 3; i++)
        timer_set(&queue, &timers[i], 20 + i);
    assert_int_equal(timers_run(&queue, 30), 1); /* the first strikes out the two others */
    assert_int_equal(fired, 1);
    assert_false(timer_is_set(&timers[1]));
    assert_true(timer_is_set(&timers[2]));
    last_fired_ms = 0;
    assert_int_equal(timers_run(&queue, 34), 0);
    assert_int_equal(timers_run(&queue, 35), 1);
    timers_free(&queue);
}

static void utc_is_formatted(void **state)
{
    char out[32];

    (void)state;
    assert_string_equal(clock_format_utc(0, out), "1970-01-01T00:00:00.000Z");
    assert_string_equal(clock_format_utc(951782400000, out), "2000-02-29T00:00:00.000Z");
    assert_string_equal(clock_format_utc(1795345056123, out), "2026-11-22T10:57:36.123Z");
    assert_string_equal(clock_format_utc(4107542399999, out), "2100-02-28T23:59:59.999Z");
    assert_string_equal(clock_format_utc(UINT64_MAX, out), "9999-12-31T23:59:59.999Z");
}

static void utc_round_trips(void **state)
{
    struct rng r;
    char out[32];

    (void)state;
    rng_seed(&r, 5);
    for (int i = 0; i < 5000; i++) {
        uint64_t ms = rng_below(&r, 253402300799999), back;
        clock_format_utc(ms, out);
        assert_true(clock_parse_utc(out, strlen(out), &back));
        assert_true(back == ms);
    }
}

static void utc_is_parsed(void **state)
{
    static const struct {
        const char *text;
        uint64_t wall_ms;
    } good[] = {
        {"1969-07-21T02:56:15Z", 0},
        {"2026-11-22T10:57:36Z", 1795345056000},
        {"2026-11-22T10:57:36.1Z", 1795345056100},
        {"2026-11-22T10:57:36.123456Z", 1795345056123},
        {"2026-11-22T12:57:36.123+02:00", 1795345056123},
        {"2026-11-22T05:27:36-05:30", 1795345056000},
        {"1970-01-01T01:00:00+01:00", 0},
    };
    static const char *const bad[] = {
        "",
        "2026-11-22",
        "2026-11-22T10:57:36",
        "2026-11-22T10:57:36.Z",
        "2026-11-22 10:57:36Z",
        "2026-13-22T10:57:36Z",
        "2026-00-22T10:57:36Z",
        "2026-02-29T10:57:36Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T10:60:36Z",
        "2026-11-22T10:57:36+2:00",
        "2026-11-22T10:57:36+24:00",
        "2026-11-22T10:57:36Zx",
        "1970-01-01T00:59:59+01:00",
    };
    uint64_t ms;

    (void)state;
    assert_false(clock_parse_utc(good[0].text, strlen(good[0].text), &ms)); /* before 1970 */
    for (size_t i = 1; i < ARRAY_LEN(good); i++) {
        if (!clock_parse_utc(good[i].text, strlen(good[i].text), &ms) || ms != good[i].wall_ms)
            fail_msg("%s", good[i].text);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (clock_parse_utc(bad[i], strlen(bad[i]), &ms))
            fail_msg("accepted %s", bad[i]);
    }
}

static void clocks_run(void **state)
{
    uint64_t a = clock_mono_ns();

    (void)state;
    assert_true(clock_mono_ns() >= a);
    assert_true(clock_mono_ms() >= a / 1000000);
    assert_true(clock_wall_ms() > 1700000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order), cmocka_unit_test(fire_may_set_and_clear),
        cmocka_unit_test(utc_is_formatted),     cmocka_unit_test(utc_round_trips),
        cmocka_unit_test(utc_is_parsed),        cmocka_unit_test(clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
