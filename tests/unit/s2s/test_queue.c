/* Stanzas on their way out: the target goes into the start tag, what comes back keeps its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "s2s/queue.h"

static struct rcbuf *raw_of(const char *text)
{
    return rcbuf_new(text, strlen(text));
}

static void expect_written(const char *raw, struct span to, const char *want)
{
    struct buf out = {0};
    struct item *i = item_new(raw_of(raw), to, NULL, 0);
    item_write(i, &out);
    assert_string_equal(buf_cstr(&out), want);
    item_free(NULL, i);
    buf_free(&out);
}

static void test_write(void **state)
{
    (void)state;
    expect_written("<presence from='a@b/c'/>", SPAN("x@y"), "<presence to='x@y' from='a@b/c'/>");
    expect_written("<presence/>", SPAN("x@y"), "<presence to='x@y'/>");
    expect_written("<message to='q@r'>hi</message>", (struct span){0}, "<message to='q@r'>hi</message>");
    expect_written("<iq/>", SPAN("x@y/a'b&c<d>"), "<iq to='x@y/a&apos;b&amp;c&lt;d>'/>");
}

/* By count and by bytes: either fills it, and what leaves makes room. */
static void test_full(void **state)
{
    (void)state;
    struct conf *conf = conf_new();
    struct queue q;
    char big[1000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    conf->s2s_queue_max = 3;
    conf->s2s_queue_bytes_max = 1500;
    queue_init(&q);
    assert_false(queue_is_full(&q, conf));
    queue_add(&q, item_new(raw_of(big), (struct span){0}, NULL, 0));
    assert_false(queue_is_full(&q, conf));
    queue_add(&q, item_new(raw_of(big), (struct span){0}, NULL, 0));
    assert_true(queue_is_full(&q, conf));
    item_free(NULL, queue_pop(&q));
    assert_false(queue_is_full(&q, conf));
    queue_add(&q, item_new(raw_of("a"), (struct span){0}, NULL, 0));
    queue_add(&q, item_new(raw_of("b"), (struct span){0}, NULL, 0));
    assert_true(queue_is_full(&q, conf));
    for (struct item *left; (left = queue_pop(&q)) != NULL;)
        item_free(NULL, left);
    conf_free(conf);
}

static void test_order(void **state)
{
    struct queue q, back;
    const char *names[] = {"<a/>", "<b/>", "<c/>", "<d/>"};
    struct item *i;
    (void)state;
    queue_init(&q);
    queue_init(&back);
    queue_add(&q, item_new(raw_of(names[3]), (struct span){0}, NULL, 0));
    for (int k = 0; k < 3; k++)
        queue_add(&back, item_new(raw_of(names[k]), (struct span){0}, NULL, 0));
    while ((i = queue_pop_last(&back)) != NULL)
        queue_push(&q, i);
    assert_int_equal(q.count, 4);
    assert_int_equal(q.bytes, 16);
    for (int k = 0; k < 4; k++) {
        i = queue_first(&q);
        assert_ptr_equal(i, queue_pop(&q));
        assert_memory_equal(i->raw->data, names[k], 4);
        item_free(NULL, i);
    }
    assert_null(queue_pop(&q));
    assert_null(queue_first(&q));
    assert_int_equal(q.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
