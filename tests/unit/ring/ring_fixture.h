/* What the ring's tests share: a loop per test, in both flavours, and turns until something holds. */
#ifndef JACKDAW_TESTS_RING_FIXTURE_H
#define JACKDAW_TESTS_RING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/ring/internal.h"
#include "tests/unit/pace.h"

static struct ring *ring;

/* Turns until the condition holds, for at most five seconds. */
#define TURN_UNTIL(condition)                                     \
    do {                                                          \
        uint64_t turn_begun_ms = clock_mono_ms();                 \
        while (!(condition)) {                                    \
            if (pace_over(turn_begun_ms, 5000))                   \
                fail_msg("timed out waiting for %s", #condition); \
            ring_turn(ring, 2);                                   \
        }                                                         \
    } while (0)

static inline int open_best(void **state)
{
    const char *why;

    (void)state;
    ring = ring_new(0, &why);
    return ring == NULL ? -1 : 0;
}

/* Without deferred work, and with a queue so short that it fills within a turn. */
static inline int open_plain(void **state)
{
    int error;

    (void)state;
    ring = ring_new_flags(4, 0, &error);
    return ring == NULL ? -1 : 0;
}

static inline int close_ring(void **state)
{
    (void)state;
    if (ring_busy(ring) != 0)
        print_error("%u operations still busy\n", ring_busy(ring));
    int left = ring_busy(ring) != 0;
    ring_free(ring);
    return left;
}

#define BOTH(test)                                         \
    {#test "/best", test, open_best, close_ring, NULL},    \
    {                                                      \
#test "/plain", test, open_plain, close_ring, NULL \
    }

/* A listener on a free port of 127.0.0.1 and its address. */
static inline int listener(struct sockaddr_in *addr)
{
    socklen_t n = sizeof(*addr);
    int fd = ring_listen("127.0.0.1:0", false);

    assert_true(fd >= 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &n), 0);
    return fd;
}

/* Two ends of a loopback TCP connection. */
static inline void tcp_pair(int ends[2])
{
    struct sockaddr_in addr;
    int fd = listener(&addr);

    ends[0] = ring_socket(AF_INET);
    assert_int_equal(connect(ends[0], (struct sockaddr *)&addr, sizeof(addr)), 0);
    while ((ends[1] = accept4(fd, NULL, NULL, SOCK_CLOEXEC)) < 0)
        assert_int_equal(errno, EAGAIN);
    close(fd);
}

/* An operation that notes what it was told. */
struct probe {
    struct ring_op op;
    struct buf bytes;
    int last;
    unsigned calls;
    bool final;
};

static inline void note_result(struct ring_op *op, struct ring_result result)
{
    struct probe *p = CONTAINER_OF(op, struct probe, op);

    p->last = result.res;
    p->calls++;
    p->final = !result.more;
    assert_int_equal(op_busy(op), result.more);
    if (result.data != NULL)
        buf_add(&p->bytes, result.data, (size_t)result.res);
}

#endif
