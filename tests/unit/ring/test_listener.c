/* A listener accepts, goes on after the process had no descriptor left, and is silent once closed. */
#include <sys/resource.h>

#include "common/ring/listener.h"
#include "tests/unit/ring/ring_fixture.h"

static int fds[16];
static unsigned count, failures;

static void on_accepted(void *ctx, int fd)
{
    assert_ptr_equal(ctx, &count);
    if (fd >= 0)
        fds[count++] = fd;
    else
        failures++;
}

static int dial(const struct sockaddr_in *addr)
{
    int fd = ring_socket(AF_INET);

    assert_int_equal(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
    return fd;
}

static void goes_on_after_emfile_and_ends(void **state)
{
    struct sockaddr_in addr;
    struct ring_listener *l;
    struct rlimit limit, tight;
    int first, second, third;

    (void)state;
    count = failures = 0;
    l = ring_listener_open(ring, listener(&addr), on_accepted, &count);
    first = dial(&addr);
    TURN_UNTIL(count == 1);

    second = dial(&addr); /* already in the kernel's queue when the limit falls */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = limit;
    tight.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    TURN_UNTIL(count == 2 || failures > 0);
    if (count == 1) { /* else the kernel had accepted it before */
        ring_turn(ring, 2);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        TURN_UNTIL(count == 2);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

    ring_listener_close(l);
    third = ring_socket(AF_INET);
    assert_int_not_equal(connect(third, (struct sockaddr *)&addr, sizeof(addr)), 0);
    for (int i = 0; i < 5; i++)
        ring_turn(ring, 1);
    assert_int_equal(ring_busy(ring), 0);
    assert_int_equal(count, 2);
    close(first);
    close(second);
    close(third);
    close(fds[0]);
    close(fds[1]);
}

static void closed_while_it_pauses(void **state)
{
    struct sockaddr_in addr;
    struct ring_listener *l;
    struct rlimit limit, tight;
    int fd;

    (void)state;
    count = failures = 0;
    l = ring_listener_open(ring, listener(&addr), on_accepted, &count);
    fd = dial(&addr);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    tight = limit;
    tight.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    TURN_UNTIL(failures > 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ring_listener_close(l);
    for (int i = 0; i < 5; i++)
        ring_turn(ring, 1);
    assert_int_equal(ring_busy(ring), 0);
    assert_int_equal(count, 0);
    close(fd);
    ring_listener_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(goes_on_after_emfile_and_ends, open_best, close_ring),
        cmocka_unit_test_setup_teardown(closed_while_it_pauses, open_best, close_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
