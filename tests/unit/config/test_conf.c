/* Configuration: defaults, files with mistakes, assignments, secrets, and that a written file reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/config/conf.h"

/* Loads text into a fresh configuration and returns the messages (caller frees). */
static char *errors_of(const char *text, bool expected)
{
    struct conf *c = conf_new();
    struct buf errors = {0};
    assert_int_equal(conf_load_text(c, text, "f.conf", &errors), expected);
    char *out = xstrdup(buf_cstr(&errors));
    buf_free(&errors);
    conf_free(c);
    return out;
}

static void expect_error(const char *text, const char *where, const char *what)
{
    char *errors = errors_of(text, false);
    if (strstr(errors, where) == NULL || strstr(errors, what) == NULL)
        fail_msg("for %s\nwanted \"%s\" and \"%s\" in:\n%s", text, where, what, errors);
    free(errors);
}

static void test_defaults(void **state)
{
    (void)state;
    struct conf *c = conf_new();
    assert_int_equal(c->cluster_domains.count, 1);
    assert_string_equal(c->cluster_domains.items[0], "localhost");
    assert_true(c->c2s_require_tls);
    assert_true(c->limits_enabled);
    assert_false(c->register_enabled);
    assert_int_equal(c->delivery_durability, CONF_DURABILITY_REDIS);
    assert_string_equal(c->c2s_listen.items[0], "[::]:5222");
    assert_int_equal(c->c2s_stanza_max_bytes, 262144);
    conf_free(c);
    conf_free(NULL);
}

static void test_load_every_type(void **state)
{
    (void)state;
    struct conf *c = conf_new();
    struct buf errors = {0};
    const char *text = "cluster: { domains = [\"a.example\", \"b.example\"]; lease_ms = 4000; };\n"
                       "c2s: { require_tls = false; listen = \"127.0.0.1:1, [::1]:2\"; };\n"
                       "limits: { bytes_per_second = 999999999L; };\n"
                       "s2s: { listen = (); };\n"
                       "delivery: { durability = \"memory\"; };\n";
    assert_true(conf_load_text(c, text, "f.conf", &errors));
    assert_int_equal(errors.n, 0);
    assert_int_equal(c->cluster_domains.count, 2);
    assert_string_equal(c->cluster_domains.items[1], "b.example");
    assert_int_equal(c->cluster_lease_ms, 4000);
    assert_false(c->c2s_require_tls);
    assert_int_equal(c->c2s_listen.count, 2);
    assert_string_equal(c->c2s_listen.items[1], "[::1]:2");
    assert_int_equal(c->limits_bytes_per_second, 999999999);
    assert_int_equal(c->s2s_listen.count, 0);
    assert_int_equal(c->delivery_durability, CONF_DURABILITY_MEMORY);
    conf_free(c);
}

static void test_mistakes_name_line_and_allowed(void **state)
{
    (void)state;
    expect_error("c2s: {\n  require_tsl = true;\n};\n", "f.conf:2: ", "require_tls");
    expect_error("\n\nc3s: { };\n", "f.conf:3: ", "c2s, s2s");
    expect_error("c2s: {\n require_tls = \"yes\";\n};", "f.conf:2: ", "true or false");
    expect_error("c2s: {\n\n login_timeout_s = 0;\n};", "f.conf:3: ", "from 1 to 600");
    expect_error("c2s: { login_timeout_s = 2.5; };", "f.conf:1: ", "whole number");
    expect_error("delivery: { durability = \"disk\"; };", "f.conf:1: ", "\"redis\" \"memory\"");
    expect_error("cluster: { domains = [1, 2]; };", "f.conf:1: ", "list of texts");
    expect_error("cluster: { domains = [\"\"]; };", "f.conf:1: ", "list of texts");
    expect_error("cluster: { run_dir = 5; };", "f.conf:1: ", "double quotes");
    expect_error("cluster = 5;", "f.conf:1: ", "must be a section");
    expect_error("cluster: {\n lease_ms 4;\n};", "f.conf:2: ", "name = value");
    expect_error("c2s: { };\nc2s: { };\n", "f.conf:2: ", "");
}

static void test_right_values_are_kept_beside_mistakes(void **state)
{
    (void)state;
    struct conf *c = conf_new();
    struct buf errors = {0};
    assert_false(conf_load_text(c, "c2s: { a = 1;\n b = 2;\n login_timeout_s = 7; };", "f", &errors));
    assert_int_equal(c->c2s_login_timeout_s, 7);
    assert_non_null(strstr(buf_cstr(&errors), "f:1: "));
    assert_non_null(strstr(buf_cstr(&errors), "f:2: "));
    buf_free(&errors);
    conf_free(c);
}

static void test_set(void **state)
{
    (void)state;
    struct conf *c = conf_new();
    struct buf errors = {0};
    assert_true(conf_set(c, "cluster.domains=a, b,c", &errors));
    assert_int_equal(c->cluster_domains.count, 3);
    assert_string_equal(c->cluster_domains.items[1], "b");
    assert_true(conf_set(c, "s2s.listen=", &errors));
    assert_int_equal(c->s2s_listen.count, 0);
    /* Also as a file has it. */
    assert_true(conf_set(c, "s2s.components=[\"a=b\", \"c=d,e\"]", &errors));
    assert_int_equal(c->s2s_components.count, 2);
    assert_string_equal(c->s2s_components.items[1], "c=d,e");
    assert_true(conf_set(c, "s2s.components=[]", &errors));
    assert_int_equal(c->s2s_components.count, 0);
    assert_true(conf_set(c, "s2s.components=\"a=b\"", &errors));
    assert_string_equal(c->s2s_components.items[0], "a=b");
    assert_true(conf_set(c, "s2s.listen=[::1]:5269,[::]:5270", &errors));
    assert_string_equal(c->s2s_listen.items[1], "[::]:5270");
    assert_true(conf_set(c, "redis.url=\"unix:///tmp/r\"", &errors));
    assert_string_equal(c->redis_url, "unix:///tmp/r");
    assert_false(conf_set(c, "s2s.components=[\"a=b\", 7]", &errors));
    assert_false(conf_set(c, "s2s.components=[\"a=b\"", &errors));
    assert_false(conf_set(c, "redis.url=\"unix:///tmp/r", &errors));
    buf_clear(&errors);
    assert_true(conf_set(c, "c2s.require_tls=false", &errors));
    assert_false(c->c2s_require_tls);
    assert_true(conf_set(c, "redis.url=unix:///tmp/a=b", &errors));
    assert_string_equal(c->redis_url, "unix:///tmp/a=b");
    assert_true(conf_set(c, "log.level=trace", &errors));
    assert_int_equal(c->log_level, 4);
    assert_int_equal(errors.n, 0);
    static const char *const wrong[] = {"",
                                        "=",
                                        "c2s",
                                        "c2s=1",
                                        "c2s.x=1",
                                        "x.y=1",
                                        "c2s.require_tls",
                                        "c2s.require_tls=yes",
                                        "c2s.require_tls=",
                                        "c2s.login_timeout_s=9999",
                                        "c2s.login_timeout_s=1x",
                                        "log.level=loud",
                                        ".=",
                                        "c2s.=1"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        buf_clear(&errors);
        assert_false(conf_set(c, wrong[i], &errors));
        assert_true(errors.n > 0);
    }
    buf_free(&errors);
    conf_free(c);
}

static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/jackdaw-conf-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    dprintf(fd, "c2s: { require_tls = 3; };\n");
    close(fd);
    struct conf *c = conf_new();
    struct buf errors = {0};
    assert_false(conf_load(c, path, &errors));
    assert_memory_equal(buf_cstr(&errors), path, strlen(path));
    unlink(path);
    buf_clear(&errors);
    assert_false(conf_load(c, path, &errors));
    assert_non_null(strstr(buf_cstr(&errors), "No such file"));
    buf_free(&errors);
    conf_free(c);
}

static void test_environment(void **state)
{
    (void)state;
    struct conf *c = conf_new();
    struct buf errors = {0};
    setenv("JACKDAW_REDIS_PASSWORD", "s3cret", 1);
    setenv("JACKDAW_BUS_CURVE_SECRET_KEY", "key", 1);
    conf_load_environment(c);
    assert_string_equal(c->redis_url, "redis://:s3cret@127.0.0.1:6379");
    assert_string_equal(c->bus_curve_secret_key, "key");
    conf_load_environment(c);
    assert_string_equal(c->redis_url, "redis://:s3cret@127.0.0.1:6379");
    assert_true(conf_set(c, "redis.url=unix:///run/r.sock", &errors));
    conf_load_environment(c);
    assert_string_equal(c->redis_url, "unix://:s3cret@/run/r.sock");
    assert_true(conf_set(c, "redis.url=redis://mia:old@h:1/2", &errors));
    conf_load_environment(c);
    assert_string_equal(c->redis_url, "redis://mia:s3cret@h:1/2");
    setenv("JACKDAW_REDIS_PASSWORD", "p@:/%x", 1);
    conf_load_environment(c);
    assert_string_equal(c->redis_url, "redis://mia:p%40%3A%2F%25x@h:1/2");
    unsetenv("JACKDAW_REDIS_PASSWORD");
    unsetenv("JACKDAW_BUS_CURVE_SECRET_KEY");
    conf_free(c);
}

static void test_written_file_reads_back(void **state)
{
    (void)state;
    struct conf *c = conf_new(), *again = conf_new();
    struct buf errors = {0}, once = {0}, twice = {0};
    assert_true(conf_set(c, "cluster.domains=x.example,y.example", &errors));
    assert_true(conf_set(c, "cluster.run_dir=/a \"quoted\" \\ path\x01\x7f\xc3\xa9", &errors));
    assert_true(conf_set(c, "limits.enabled=false", &errors));
    assert_true(conf_set(c, "c2s.stanza_max_bytes=4194304", &errors));
    assert_true(conf_set(c, "s2s.component_listen=", &errors));
    assert_true(conf_set(c, "delivery.durability=memory", &errors));
    conf_write(c, &once);
    if (!conf_load_text(again, buf_cstr(&once), "written", &errors))
        fail_msg("%s", buf_cstr(&errors));
    conf_write(again, &twice);
    assert_string_equal(buf_cstr(&once), buf_cstr(&twice));
    assert_string_equal(c->cluster_run_dir, again->cluster_run_dir);
    assert_int_equal(again->s2s_component_listen.count, 0);
    assert_non_null(strstr(buf_cstr(&once), "    domains = [\"x.example\", \"y.example\"];\n"));
    assert_non_null(strstr(buf_cstr(&once), "    # require_tls = true;\n"));
    buf_free(&once);
    buf_free(&twice);
    conf_free(c);
    conf_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_load_every_type),
        cmocka_unit_test(test_mistakes_name_line_and_allowed),
        cmocka_unit_test(test_right_values_are_kept_beside_mistakes),
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_written_file_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
