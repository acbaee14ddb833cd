/* Spans, buffers, arenas, pools, refcounted bytes, lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/pool.h"
#include "common/base/random.h"
#include "common/base/rcbuf.h"

static void span_compares(void **state)
{
    struct span s = SPAN("hello");

    (void)state;
    assert_true(span_is(s, "hello"));
    assert_false(span_is(s, "hell"));
    assert_true(span_eq((struct span){NULL, 0}, SPAN("")));
    assert_true(span_cmp(SPAN("a"), SPAN("b")) < 0);
    assert_true(span_cmp(SPAN("ab"), SPAN("a")) > 0);
    assert_int_equal(span_cmp(SPAN("ab"), SPAN("ab")), 0);
    assert_int_equal(span_index(s, 'l'), 2);
    assert_int_equal(span_index(s, 'x'), 5);
    assert_int_equal(span_index(span_of(NULL), 'x'), 0);
    assert_true(span_is(span_sub(s, 1, 3), "ell"));
    assert_true(span_is(span_sub(s, 4, 30), "o"));
    assert_int_equal(span_sub(s, 9, 3).n, 0);

    char *copy = span_dup(span_sub(s, 0, 2));
    assert_string_equal(copy, "he");
    free(copy);
}

static void span_cuts_parts_off(void **state)
{
    struct span rest = SPAN("one  two"), none = span_of(NULL);

    (void)state;
    assert_true(span_is(span_cut(&rest, ' '), "one"));
    assert_true(span_is(rest, " two"));
    assert_int_equal(span_cut(&rest, ' ').n, 0);
    assert_true(span_is(rest, "two"));
    assert_true(span_is(span_cut(&rest, ' '), "two"));
    assert_int_equal(rest.n, 0);
    assert_int_equal(span_cut(&rest, ' ').n, 0);
    assert_int_equal(span_cut(&none, ' ').n, 0);

    rest = SPAN("a,b,"); /* a separator at the end leaves nothing behind it */
    assert_true(span_is(span_cut(&rest, ','), "a"));
    assert_true(span_is(span_cut(&rest, ','), "b"));
    assert_int_equal(rest.n, 0);
}

static void span_parses_numbers(void **state)
{
    uint64_t u = 7;
    int64_t i = 7;

    (void)state;
    assert_true(span_to_u64(SPAN("18446744073709551615"), UINT64_MAX, &u));
    assert_true(u == UINT64_MAX);
    assert_true(span_to_u64(SPAN("0"), 10, &u) && u == 0);
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "18446744073709551616", "99999999999999999999999", "0x1", "11"};
    for (size_t k = 0; k < ARRAY_LEN(bad); k++) {
        u = 7;
        if (span_to_u64(span_of(bad[k]), k == 8 ? 10 : UINT64_MAX, &u) || u != 7)
            fail_msg("accepted \"%s\"", bad[k]);
    }
    assert_true(span_to_i64(SPAN("-9223372036854775808"), INT64_MIN, INT64_MAX, &i));
    assert_true(i == INT64_MIN);
    assert_true(span_to_i64(SPAN("9223372036854775807"), INT64_MIN, INT64_MAX, &i));
    assert_true(i == INT64_MAX);
    assert_false(span_to_i64(SPAN("9223372036854775808"), INT64_MIN, INT64_MAX, &i));
    assert_false(span_to_i64(SPAN("-9223372036854775809"), INT64_MIN, INT64_MAX, &i));
    assert_true(span_to_i64(SPAN("-128"), -128, 127, &i) && i == -128);
    assert_false(span_to_i64(SPAN("128"), -128, 127, &i));
    assert_false(span_to_i64(SPAN("-"), -128, 127, &i));
    assert_false(span_to_i64(SPAN("--1"), -128, 127, &i));
}

static void buf_grows(void **state)
{
    struct buf b = {0};

    (void)state;
    assert_string_equal(buf_cstr(&b), "");
    for (int i = 0; i < 1000; i++)
        buf_addf(&b, "%03d,", i);
    assert_int_equal(b.n, 4000);
    assert_memory_equal(b.p + 4 * 123, "123,", 4);
    buf_consume(&b, 3996);
    assert_string_equal(buf_cstr(&b), "999,");
    buf_consume(&b, 4);
    assert_int_equal(b.n, 0);

    buf_add_u64(&b, UINT64_MAX);
    buf_add_char(&b, ' ');
    buf_add_u64(&b, 0);
    buf_add_lit(&b, " lit");
    buf_add_str(&b, " str");
    buf_add_span(&b, SPAN(" span"));
    assert_string_equal(buf_cstr(&b), "18446744073709551615 0 lit str span");

    size_t cap = b.cap;
    buf_shrink(&b, cap);
    assert_int_equal(b.cap, cap);
    buf_shrink(&b, 100);
    assert_null(b.p);
    buf_free(&b);
}

static void buf_formats_longer_than_its_room(void **state)
{
    struct buf b = {0};
    char big[5000];

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    buf_addf(&b, "<%s>", big);
    assert_int_equal(b.n, 5001);
    assert_int_equal(b.p[5000], '>');
    buf_free(&b);
}

static void arena_hands_out_zeroed_aligned_memory(void **state)
{
    struct arena *a = arena_new(1024);

    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t n = 0; n < 3000; n += 37) {
            unsigned char *p = arena_alloc(a, n);
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t i = 0; i < n; i++)
                assert_int_equal(p[i], 0);
            memset(p, 0xff, n);
        }
        assert_true(arena_used(a) > 100000);
        arena_reset(a);
        assert_int_equal(arena_used(a), 0);
    }
    struct span s = arena_printf(a, "%d-%s", 42, "x");
    assert_true(span_is(s, "42-x"));
    assert_int_equal(s.p[s.n], '\0');
    s = arena_dup(a, SPAN("copy"));
    assert_string_equal(s.p, "copy");
    arena_free(a);
    arena_free(NULL);
}

struct thing {
    uint64_t a;
    uint64_t b;
};

static void pool_reuses_objects(void **state)
{
    struct pool p = POOL_INIT("thing", struct thing);
    struct thing *x = pool_get(&p), *y = pool_get(&p);

    (void)state;
    assert_int_equal(p.used, 2);
    x->a = x->b = 5;
    pool_put(&p, x);
    pool_put(&p, NULL);
    assert_int_equal(p.used, 1);
    assert_int_equal(p.spare, 1);
    struct thing *z = pool_get(&p);
    assert_ptr_equal(z, x);
    assert_true(z->a == 0 && z->b == 0);
    pool_put(&p, y);
    pool_put(&p, z);
    pool_trim(&p);
    assert_int_equal(p.spare, 0);
    assert_int_equal(p.used, 0);
}

static void rcbuf_counts(void **state)
{
    struct rcbuf *r = rcbuf_new("abc", 3);

    (void)state;
    assert_ptr_equal(rcbuf_ref(r), r);
    rcbuf_unref(r);
    assert_true(span_is(rcbuf_span(r), "abc"));
    rcbuf_unref(r);
    rcbuf_unref(NULL);
}

struct item {
    struct list node;
    int value;
};

static void list_keeps_order(void **state)
{
    struct list a, b;
    struct item items[6];
    int expected = 0;

    (void)state;
    list_init(&a);
    list_init(&b);
    assert_true(list_empty(&a));
    assert_null(list_pop(&a));
    for (int i = 0; i < 6; i++) {
        items[i].value = i;
        list_add(i < 3 ? &a : &b, &items[i].node);
    }
    list_splice(&a, &b);
    assert_true(list_empty(&b));
    LIST_EACH (it, &a) {
        struct item *item = LIST_ENTRY(it, struct item, node);
        assert_int_equal(item->value, expected++);
        if (item->value % 2 == 0) {
            list_del(it);
            list_del(it);
        }
    }
    assert_int_equal(expected, 6);
    list_push(&a, &items[0].node);
    assert_ptr_equal(list_pop(&a), &items[0].node);
    assert_ptr_equal(list_pop(&a), &items[1].node);
    assert_ptr_equal(list_pop(&a), &items[3].node);
    assert_ptr_equal(list_pop(&a), &items[5].node);
    assert_true(list_empty(&a));
}

static void random_is_random(void **state)
{
    char a[33], b[33];
    struct rng r, s;
    unsigned seen = 0;

    (void)state;
    random_hex(a, 16);
    random_hex(b, 16);
    assert_int_equal(strlen(a), 32);
    assert_int_equal(strspn(a, "0123456789abcdef"), 32);
    assert_string_not_equal(a, b);
    assert_true(random_u64() != random_u64());
    rng_seed(&r, 42);
    rng_seed(&s, 42);
    for (int i = 0; i < 200; i++) {
        assert_true(rng_next(&r) == rng_next(&s));
        uint64_t v = rng_below(&r, 7);
        assert_true(v < 7 && v == rng_below(&s, 7));
        seen |= 1U << v;
    }
    assert_int_equal(seen, 127);
    assert_int_equal(rng_below(&r, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(span_compares),
        cmocka_unit_test(span_cuts_parts_off),
        cmocka_unit_test(span_parses_numbers),
        cmocka_unit_test(buf_grows),
        cmocka_unit_test(buf_formats_longer_than_its_room),
        cmocka_unit_test(arena_hands_out_zeroed_aligned_memory),
        cmocka_unit_test(pool_reuses_objects),
        cmocka_unit_test(rcbuf_counts),
        cmocka_unit_test(list_keeps_order),
        cmocka_unit_test(random_is_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
