/* Lines as they arrive on standard error, read back through a pipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/log/log.h"

static int saved_stderr;
static int pipe_in;

static int capture(void **state)
{
    int fds[2];

    (void)state;
    if (pipe2(fds, O_NONBLOCK) != 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    pipe_in = fds[0];
    return 0;
}

static int release(void **state)
{
    (void)state;
    log_flush(true);
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(pipe_in);
    return 0;
}

/* What was printed since the last call. */
static const char *printed(void)
{
    static char text[60000];
    ssize_t n = read(pipe_in, text, sizeof(text) - 1);

    text[MAX(n, 0)] = '\0';
    return text;
}

static unsigned lines_of(const char *text)
{
    unsigned n = 0;

    while ((text = strchr(text, '\n')) != NULL) {
        text++;
        n++;
    }
    return n;
}

static void values_cannot_be_mistaken(void **state)
{
    (void)state;
    log_set_name("c2s-1");
    log_warn("auth", "refused jid=%s peer=%s", "a@b/ peer=198.51.100.7:1", "192.0.2.1:9");
    assert_non_null(strstr(printed(), " refused jid=\"a@b/ peer=198.51.100.7:1\" peer=192.0.2.1:9\n"));
    log_warn("auth", "refused jid=%.*s n=%u", 4, "a\" b=c", 7u);
    assert_non_null(strstr(printed(), " refused jid=\"a\\\" b\" n=7\n"));
    log_warn("auth", "refused jid=%s next=%s", "", "\\");
    assert_non_null(strstr(printed(), " refused jid=\"\" next=\"\\\\\"\n"));
    log_warn("auth", "ended reason=\"%s\" at %s", "x\" peer=1", "a b");
    assert_non_null(strstr(printed(), " ended reason=\"x\\\" peer=1\" at a b\n"));
    errno = ENOENT;
    log_warn("auth", "%d %5.1s|%zu %llx %lu %016llx %c%% %m", -1, "xy", (size_t)3, 255ull, 4ul, 10ull, 'z');
    assert_non_null(strstr(printed(), " -1 x|3 ff 4 000000000000000a z% No such file or directory\n"));
}

static void line_has_its_form(void **state)
{
    const char *text;

    (void)state;
    log_set_name("c2s-1");
    errno = ENOENT;
    log_warn("bus", "link lost peer=%s", "router-2");
    assert_int_equal(errno, ENOENT);
    text = printed();
    assert_int_equal(text[4], '-');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(text + 24, " WARN c2s-1 bus link lost peer=router-2\n");
}

static void levels_filter(void **state)
{
    enum log_level level;

    (void)state;
    log_set_level(LOG_LEVEL_WARN);
    log_info("t", "not wanted");
    log_debug("t", "not wanted either");
    assert_string_equal(printed(), "");
    assert_false(log_wants(LOG_LEVEL_INFO));
    log_set_level(LOG_LEVEL_TRACE);
    log_trace("t", "wanted");
    assert_non_null(strstr(printed(), " TRACE c2s-1 t wanted\n"));
    log_set_level(LOG_LEVEL_INFO);
    assert_true(log_level_parse("debug", &level) && level == LOG_LEVEL_DEBUG);
    assert_false(log_level_parse("Debug", &level));
}

static void foreign_text_cannot_forge_lines(void **state)
{
    (void)state;
    log_info("t", "user=%s", "a\nb\x1b[2J\x7f\xc2\x9bgrün");
    assert_non_null(strstr(printed(), "user=a\\x0ab\\x1b[2J\\x7f\\x9bgrün\n"));
}

static void long_lines_are_cut(void **state)
{
    char big[9000];
    const char *text;

    (void)state;
    memset(big, '\n', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    log_info("t", "%s", big);
    text = printed();
    assert_int_equal(lines_of(text), 1);
    assert_in_range(strlen(text), 4000, 4096);
    assert_string_equal(text + strlen(text) - 4, "...\n");
}

static void repetition_is_counted(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        log_error("t", "refused n=%d", i);
    assert_in_range(lines_of(printed()), 20, 40); /* more only if a second went over meanwhile */
    log_info("t", "something else");
    assert_int_equal(lines_of(printed()), 1);
    nanosleep(&(struct timespec){1, 50000000}, NULL);
    log_flush(false);
    assert_non_null(strstr(printed(), " ERROR c2s-1 t suppressed count=80 like=\"refused n=%d\"\n"));
    log_error("t", "refused n=%d", 100);
    assert_int_equal(lines_of(printed()), 1);
    log_flush(true);
    assert_string_equal(printed(), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(line_has_its_form, capture, release),
        cmocka_unit_test_setup_teardown(values_cannot_be_mistaken, capture, release),
        cmocka_unit_test_setup_teardown(levels_filter, capture, release),
        cmocka_unit_test_setup_teardown(foreign_text_cannot_forge_lines, capture, release),
        cmocka_unit_test_setup_teardown(long_lines_are_cut, capture, release),
        cmocka_unit_test_setup_teardown(repetition_is_counted, capture, release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
