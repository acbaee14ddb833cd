/* What is kept until it is confirmed: nothing overtakes, nothing is forgotten, late answers mean nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/outbox/outbox.h"

#define ITEMS 100

static struct outbox box;
static struct outbox_item item[ITEMS];
static bool reachable;
static bool gone[ITEMS];
static struct {
    unsigned item, marks;
} said[1000];
static unsigned said_count, looked_at;

static bool on_send(void *ctx, struct outbox_item *i, unsigned marks)
{
    (void)ctx;
    if (!reachable)
        return false;
    said[said_count].item = (unsigned)(i - item);
    said[said_count++].marks = marks;
    return true;
}

static bool is_gone(void *ctx, const struct outbox_item *i)
{
    (void)ctx;
    return gone[i - item];
}

static int setup(void **state)
{
    (void)state;
    box = (struct outbox){.send = on_send};
    memset(item, 0, sizeof item);
    memset(gone, 0, sizeof gone);
    reachable = true;
    said_count = looked_at = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    while (outbox_pop(&box) != NULL)
        continue;
    assert_int_equal(box.count, 0);
    assert_int_equal(box.waiting, 0);
    outbox_free(&box);
    return 0;
}

static void expect(unsigned i, unsigned marks)
{
    assert_true(looked_at < said_count);
    assert_int_equal(said[looked_at].item, i);
    assert_int_equal(said[looked_at++].marks, marks);
}

static void expect_silence(void)
{
    assert_int_equal(looked_at, said_count);
}

static void test_refused(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        outbox_add(&box, &item[i], 7);
        expect(i, 0);
    }
    outbox_add(&box, &item[9], 8); /* another lane has nothing to do with it */
    expect(9, 0);
    uint64_t first = item[0].token;
    assert_ptr_equal(outbox_answer(&box, first, false), &item[0]);
    assert_null(outbox_answer(&box, first, false));
    outbox_add(&box, &item[3], 7);
    outbox_round(&box); /* 1 and 2 have no answer yet: sent now, 0 could come behind them */
    expect_silence();
    outbox_answer(&box, item[1].token, false);
    assert_ptr_equal(outbox_answer(&box, item[2].token, true), &item[2]);
    outbox_round(&box);
    expect(0, OUTBOX_AGAIN | OUTBOX_FIRST);
    expect(1, OUTBOX_AGAIN);
    expect(3, 0);
    expect_silence();
    assert_null(outbox_answer(&box, first, true)); /* it was about the first sending */
    assert_int_equal(item[0].sent, 2);
    assert_int_equal(box.count, 4);
    assert_int_equal(box.waiting, 0);
}

/* Who cannot be reached has refused nothing: what has left is not sent twice. */
static void test_unreachable(void **state)
{
    (void)state;
    outbox_add(&box, &item[0], 1);
    reachable = false;
    outbox_add(&box, &item[1], 1);
    reachable = true;
    outbox_add(&box, &item[2], 1);
    expect(0, 0);
    expect_silence();
    outbox_round(&box);
    expect(1, 0);
    expect(2, 0);
    expect_silence();
}

static void test_lost(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        outbox_add(&box, &item[i], 1);
    outbox_answer(&box, item[0].token, true);
    gone[1] = gone[2] = true;
    uint64_t before = item[1].token;
    outbox_lost(&box, is_gone);
    looked_at = said_count;
    reachable = false;
    outbox_round(&box);
    reachable = true;
    outbox_round(&box);
    expect(1, OUTBOX_AGAIN | OUTBOX_FIRST);
    expect(2, OUTBOX_AGAIN);
    assert_null(outbox_answer(&box, before, true));
}

/* All that was refused is gone for another reason: the receiver still waits for a FIRST. */
static void test_owed(void **state)
{
    (void)state;
    outbox_add(&box, &item[0], 1);
    outbox_answer(&box, item[0].token, false);
    outbox_remove(&box, &item[0]);
    assert_int_equal(box.count, 0);
    outbox_add(&box, &item[1], 1);
    expect(0, 0);
    expect(1, OUTBOX_FIRST);
    outbox_answer(&box, item[1].token, true);
    assert_int_equal(box.lanes.count, 0);
}

static void test_pause(void **state)
{
    (void)state;
    assert_int_equal(outbox_pause(&box, 1000), 4);
    assert_int_equal(outbox_pause(&box, 1004), 8);
    for (unsigned i = 0; i < 20; i++)
        assert_true(outbox_pause(&box, 1100) <= 100);
    assert_int_equal(outbox_pause(&box, 1100), 100);
    assert_int_equal(outbox_pause(&box, 5000), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pause, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
