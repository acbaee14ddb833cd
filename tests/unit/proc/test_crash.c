/* A crash prints who, where and what, once, and still ends by its signal. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/proc/crash.h"

static void note(void)
{
    fputs("stanza 7 of session 42\n", stderr);
}

static void crashing_note(void)
{
    abort();
}

/* Aborts in a child; its standard error goes to *out, its end to the return value. */
static int crash_in_child(void (*with)(void), struct buf *out)
{
    int pipe_fd[2];
    assert_int_equal(pipe(pipe_fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fd[1], STDERR_FILENO);
        crash_install("router", "router-1", with);
        CHECK(1 + 1 == 3);
    }
    close(pipe_fd[1]);
    for (ssize_t n = 1; n > 0;) {
        n = read(pipe_fd[0], buf_reserve(out, 4096), 4096);
        out->n += n > 0 ? (size_t)n : 0;
    }
    close(pipe_fd[0]);
    int status;
    waitpid(pid, &status, 0);
    return status;
}

static void test_report(void **state)
{
    (void)state;
    struct buf out = {0};
    int status = crash_in_child(note, &out);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    const char *text = buf_cstr(&out);
    assert_non_null(strstr(text, "1 + 1 == 3"));
    assert_non_null(strstr(text, "=== CRASH role=router name=router-1 version="));
    assert_non_null(strstr(text, "signal=SIGABRT"));
    assert_non_null(strstr(text, "unit_proc_crash("));
    assert_non_null(strstr(text, "working on: stanza 7 of session 42\n"));
    assert_non_null(strstr(text, "=== CRASH END"));
    buf_free(&out);
}

static void test_crash_within_the_crash_ends(void **state)
{
    (void)state;
    struct buf out = {0};
    int status = crash_in_child(crashing_note, &out);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(buf_cstr(&out), "working on: "));
    assert_null(strstr(buf_cstr(&out), "=== CRASH END"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_report),
                                       cmocka_unit_test(test_crash_within_the_crash_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
