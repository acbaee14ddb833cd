/* Hash tables against a plain array as the model, and the hashes' published vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/hash.h"
#include "common/base/map.h"
#include "common/base/random.h"

#define KEYS 500

struct entry {
    char key[16];
    uint64_t id;
    bool in;
};

static void map_agrees_with_a_model(void **state)
{
    static struct entry model[KEYS];
    struct map m = {0};
    struct idmap ids = {0};
    struct rng r;
    size_t count = 0;

    (void)state;
    rng_seed(&r, 1);
    for (size_t i = 0; i < KEYS; i++) {
        model[i].id = i * 64; /* a stride that a weak hash would pile up */
        memcpy(model[i].key, "user", 4);
        for (size_t k = i, at = 4; at < 8; k /= 10, at++)
            model[i].key[at] = (char)('0' + k % 10);
    }
    for (int step = 0; step < 40000; step++) {
        struct entry *e = &model[rng_below(&r, KEYS)];
        struct span key = span_of(e->key);
        void *expected = e->in ? e : NULL;
        assert_ptr_equal(map_get(&m, key), expected);
        assert_ptr_equal(idmap_get(&ids, e->id), expected);
        /* Long phases of growing and of shrinking. */
        if (rng_below(&r, 10) < ((step / 5000) % 2 == 0 ? 8 : 2)) {
            assert_ptr_equal(map_put(&m, key, e), expected);
            assert_ptr_equal(idmap_put(&ids, e->id, e), expected);
            e->in = true;
        } else {
            assert_ptr_equal(map_del(&m, key), expected);
            assert_ptr_equal(idmap_del(&ids, e->id), expected);
            e->in = false;
        }
        count += e->in - (expected != NULL);
        assert_int_equal(m.count, count);
        assert_int_equal(ids.count, count);
    }
    size_t seen = 0, at = 0;
    for (struct entry *e; (e = map_next(&m, &at)) != NULL; seen++)
        assert_true(e->in);
    assert_int_equal(seen, count);
    for (seen = 0, at = 0; idmap_next(&ids, &at) != NULL; seen++)
        ;
    assert_int_equal(seen, count);
    map_free(&m);
    idmap_free(&ids);
    assert_null(map_get(&m, SPAN("user0000")));
    assert_null(idmap_del(&ids, 0));
}

static void map_keeps_the_new_key(void **state)
{
    struct map m = {0};
    char first[] = "k", second[] = "k";
    int a, b;

    (void)state;
    assert_null(map_put(&m, span_of(first), &a));
    assert_ptr_equal(map_put(&m, span_of(second), &b), &a);
    first[0] = 'x'; /* the old key may go */
    assert_ptr_equal(map_get(&m, SPAN("k")), &b);
    map_free(&m);
}

/* The values are what other processes and older versions compute: they must never change. */
static void stable_hash_is_stable(void **state)
{
    (void)state;
    assert_true(hash_stable(SPAN("juliet@example.org"), 0) == hash_stable(SPAN("juliet@example.org"), 0));
    assert_true(hash_stable(SPAN("juliet@example.org"), 0) != hash_stable(SPAN("juliet@example.org"), 1));
    assert_true(hash_stable(SPAN("juliet@example.org"), 0) == 0x590d9e840e492458);
    assert_true(hash_stable(SPAN(""), 7) == 0xc2859e7c3cd3c78e);
    assert_true(hash_stable(SPAN("12345678"), 7) == 0x5562a817d454579b);
}

static void table_hash_spreads(void **state)
{
    unsigned buckets[64] = {0};

    (void)state;
    assert_true(hash_bytes(SPAN("a")) == hash_bytes(SPAN("a")));
    assert_true(hash_bytes(SPAN("a")) != hash_bytes(SPAN("b")));
    for (uint64_t i = 0; i < 6400; i++)
        buckets[hash_u64(i << 20) % 64]++;
    for (size_t i = 0; i < 64; i++)
        assert_in_range(buckets[i], 30, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_agrees_with_a_model),
        cmocka_unit_test(map_keeps_the_new_key),
        cmocka_unit_test(stable_hash_is_stable),
        cmocka_unit_test(table_hash_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
