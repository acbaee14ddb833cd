/* The command line of a process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/config/conf.h"
#include "common/proc/args.h"

static void test_run(void **state)
{
    (void)state;
    char *argv[] = {
        "x",        "--name=c2s-1",   "--set", "c2s.require_tls=false", "--set=cluster.domains=a,b",
        "--config", "/nowhere/f.conf"};
    struct args a = {0};
    struct buf errors = {0};
    assert_true(args_parse(&a, ARRAY_LEN(argv), argv, &errors));
    assert_int_equal(a.action, ARGS_ACTION_RUN);
    assert_string_equal(a.name, "c2s-1");
    assert_string_equal(a.config, "/nowhere/f.conf");
    assert_int_equal(a.set_count, 2);
    assert_null(args_conf(&a, &errors));
    assert_non_null(strstr(buf_cstr(&errors), "/nowhere/f.conf"));
    a.config = NULL;
    struct conf *c = args_conf(&a, &errors);
    assert_non_null(c);
    assert_false(c->c2s_require_tls);
    assert_int_equal(c->cluster_domains.count, 2);
    conf_free(c);
    args_free(&a);
    buf_free(&errors);
}

static void test_wrong(void **state)
{
    (void)state;
    static char *const wrong[] = {"--name",  "--set",    "--config",   "--what",   "stray",
                                  "--name=", "--name=A", "--name=a/b", "--name=.."};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char *argv[] = {"x", wrong[i]};
        struct args a = {0};
        struct buf errors = {0};
        assert_false(args_parse(&a, 2, argv, &errors));
        assert_true(errors.n > 0);
        buf_free(&errors);
        args_free(&a);
    }
}

static void test_every_mistake_is_told(void **state)
{
    (void)state;
    char *argv[] = {"x", "--set", "a.b=1", "--set", "c2s.require_tls=2"};
    struct args a = {0};
    struct buf errors = {0};
    assert_true(args_parse(&a, ARRAY_LEN(argv), argv, &errors));
    assert_null(args_conf(&a, &errors));
    assert_non_null(strstr(buf_cstr(&errors), "a.b=1: unknown section"));
    assert_non_null(strstr(buf_cstr(&errors), "true or false"));
    buf_free(&errors);
    args_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_every_mistake_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
