#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/sasl/sasl.h"
#include "common/sasl/verified.h"

static struct sasl_keys keys;
static struct verified *kept;

static int setup(void **state)
{
    (void)state;
    assert_true(sasl_keys_derive(SPAN("pencil"), 4096, &keys));
    kept = verified_new();
    verified_clock(kept, 1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    verified_free(kept);
    return 0;
}

static struct verified_tag tag_of(const char *user, const char *password, const struct sasl_keys *k)
{
    struct verified_tag tag;
    verified_tag(kept, span_of(user), SPAN("a"), span_of(password), k, &tag);
    return tag;
}

static bool login(const char *password, const struct sasl_keys *k)
{
    struct sasl_server_config config = {.domain = "a", .tls = true, .verified = kept};
    struct sasl *s = sasl_begin(SASL_PLAIN, &config);
    struct buf message = {0}, out = {0};
    buf_add_char(&message, '\0');
    buf_add_lit(&message, "juliet");
    buf_add_char(&message, '\0');
    buf_add_str(&message, password);
    assert_int_equal(sasl_step(s, true, buf_span(&message), &out), SASL_NEED_USER);
    bool in = sasl_user(s, k, SPAN("seed"), &out) == SASL_DONE;
    sasl_free(s);
    buf_free(&message);
    buf_free(&out);
    return in;
}

static void test_login(void **state)
{
    (void)state;
    struct verified_tag right = tag_of("juliet", "pencil", &keys), wrong = tag_of("juliet", "pen", &keys);
    assert_false(verified_has(kept, &right));
    assert_false(login("pen", &keys));
    assert_false(verified_has(kept, &wrong));
    assert_true(login("pencil", &keys));
    assert_true(verified_has(kept, &right));
    assert_true(login("pencil", &keys));
    assert_false(login("pen", &keys));
    assert_false(login("pencil", NULL)); /* removed meanwhile */
    /* A new password: the old one is not let in by what was kept. */
    struct sasl_keys fresh;
    assert_true(sasl_keys_derive(SPAN("quill"), 4096, &fresh));
    assert_false(login("pencil", &fresh));
    assert_true(login("quill", &fresh));
    verified_clock(kept, 1000 + VERIFIED_KEEP_MS - 1);
    assert_true(verified_has(kept, &right));
    verified_clock(kept, 1000 + VERIFIED_KEEP_MS);
    assert_false(verified_has(kept, &right));
    assert_true(login("pencil", &keys));
}

/* What is kept is what decides: a kept proof spares the work. */
static void test_is_used(void **state)
{
    (void)state;
    struct sasl_keys dear = keys;
    dear.iterations = 1; /* the stretching would not give the stored key */
    assert_false(login("pencil", &dear));
    struct verified_tag tag = tag_of("juliet", "pencil", &dear);
    verified_keep(kept, &tag);
    assert_true(login("pencil", &dear));
}

static void test_tags(void **state)
{
    (void)state;
    struct verified_tag tag = tag_of("juliet", "pencil", &keys), other = tag_of("julietp", "encil", &keys);
    assert_memory_not_equal(&tag, &other, sizeof(tag));
    struct verified *second = verified_new();
    verified_tag(second, SPAN("juliet"), SPAN("a"), SPAN("pencil"), &keys, &other);
    assert_memory_not_equal(&tag, &other, sizeof(tag));
    verified_free(second);
}

static void test_bounded(void **state)
{
    (void)state;
    unsigned had = 0;
    struct verified_tag tag;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < 2 * VERIFIED_MAX; i++) {
            char user[16];
            (void)snprintf(user, sizeof(user), "u%u", i);
            tag = tag_of(user, "x", &keys);
            if (pass == 0)
                verified_keep(kept, &tag);
            had += pass == 1 && verified_has(kept, &tag);
        }
    }
    assert_in_range(had, VERIFIED_MAX / 2, VERIFIED_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_login, setup, teardown),
        cmocka_unit_test_setup_teardown(test_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tags, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
