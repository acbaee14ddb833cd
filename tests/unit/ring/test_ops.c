/* Every operation on real loopback sockets, and how each of them ends. */
#include "ring_fixture.h"

#include <sys/resource.h>

static int accepted[8];
static unsigned accepted_count;
static int accept_end;

static void note_accept(struct ring_op *op, struct ring_result result)
{
    (void)op;
    if (result.more)
        accepted[accepted_count++] = result.res;
    else
        accept_end = result.res;
}

static void accept_connect_send_recv_close(void **state)
{
    struct ring_buffers *buffers = ring_buffers_new(ring, 8, 256);
    struct ring_op accept_op = {0};
    struct probe connected = {0}, sent = {0}, received = {0}, closed = {0};
    struct sockaddr_in addr;
    int fd = listener(&addr), client = ring_socket(AF_INET);

    (void)state;
    accepted_count = 0;
    accept_end = 0;
    ring_accept(ring, &accept_op, fd, note_accept);
    ring_connect(ring, &connected.op, client, (struct sockaddr *)&addr, sizeof(addr), note_result);
    assert_int_equal(connected.calls, 0); /* never from inside the call that starts it */
    TURN_UNTIL(connected.final && accepted_count == 1);
    assert_int_equal(connected.last, 0);
    assert_int_equal(fcntl(accepted[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);

    ring_recv(ring, &received.op, accepted[0], buffers, note_result);
    for (int i = 0; i < 3; i++) {
        sent.final = false;
        ring_send(ring, &sent.op, client, "<presence/>", 11, note_result);
        assert_true(op_busy(&sent.op));
        TURN_UNTIL(sent.final);
        assert_int_equal(sent.last, 11);
    }
    TURN_UNTIL(received.bytes.n == 33);
    assert_memory_equal(received.bytes.p + 22, "<presence/>", 11);
    assert_true(op_busy(&received.op));

    ring_close(ring, &closed.op, client, note_result);
    ring_close(ring, NULL, fd, NULL);
    TURN_UNTIL(closed.final && received.final);
    assert_int_equal(closed.last, 0);
    assert_int_equal(received.last, 0);
    ring_cancel(ring, &accept_op); /* closing the descriptor alone does not end it */
    TURN_UNTIL(!op_busy(&accept_op));
    assert_int_equal(accept_end, -ECANCELED);
    close(accepted[0]);
    buf_free(&received.bytes);
    ring_buffers_free(buffers);
}

static void connect_is_refused(void **state)
{
    struct probe connected = {0};
    struct sockaddr_in addr;
    int client = ring_socket(AF_INET);

    (void)state;
    close(listener(&addr)); /* a port where nobody listens */
    ring_connect(ring, &connected.op, client, (struct sockaddr *)&addr, sizeof(addr), note_result);
    TURN_UNTIL(connected.final);
    assert_int_equal(connected.last, -ECONNREFUSED);
    close(client);
}

static void bad_descriptors_are_errors(void **state)
{
    struct ring_buffers *buffers = ring_buffers_new(ring, 8, 256);
    struct probe received = {0}, sent = {0}, polled = {0}, closed = {0};

    (void)state;
    ring_recv(ring, &received.op, 9999, buffers, note_result);
    ring_send(ring, &sent.op, 9999, "x", 1, note_result);
    ring_poll(ring, &polled.op, 9999, POLLIN, note_result);
    ring_close(ring, &closed.op, 9999, note_result);
    TURN_UNTIL(received.final && sent.final && polled.final && closed.final);
    assert_int_equal(received.last, -EBADF);
    assert_int_equal(sent.last, -EBADF);
    assert_int_equal(polled.last, -EBADF);
    assert_int_equal(closed.last, -EBADF);
    ring_buffers_free(buffers);
}

static void poll_watches_foreign_descriptors(void **state)
{
    struct probe polled = {0};
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    ring_poll(ring, &polled.op, fds[0], POLLIN, note_result);
    ring_turn(ring, 5);
    ring_turn(ring, 5);
    assert_int_equal(polled.calls, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    TURN_UNTIL(polled.final);
    assert_int_equal(polled.last & POLLIN, POLLIN);
    ring_poll(ring, &polled.op, fds[1], POLLOUT, note_result);
    TURN_UNTIL(polled.calls == 2);
    assert_int_equal(polled.last & POLLOUT, POLLOUT);
    assert_int_equal(read(fds[0], &(char){0}, 1), 1);
    ring_poll(ring, &polled.op, fds[0], POLLIN, note_result);
    ring_turn(ring, 1);
    ring_cancel(ring, &polled.op);
    TURN_UNTIL(polled.calls == 3);
    assert_int_equal(polled.last, -ECANCELED);
    close(fds[0]);
    close(fds[1]);
}

/* Much more than the socket buffers hold goes out whole, though the other side reads slowly. */
static void long_sends_arrive_whole(void **state)
{
    size_t n = 24 << 20;
    char *bytes = xmalloc(n);
    struct ring_buffers *buffers = ring_buffers_new(ring, 4, 4096);
    struct probe sent = {0}, received = {0};
    int ends[2];

    (void)state;
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i * 2654435761U >> 13);
    tcp_pair(ends);
    ring_send(ring, &sent.op, ends[0], bytes, n, note_result);
    for (int i = 0; i < 5; i++)
        ring_turn(ring, 1);
    assert_int_equal(sent.calls, 0);
    ring_recv(ring, &received.op, ends[1], buffers, note_result);
    TURN_UNTIL(sent.final && received.bytes.n == n);
    assert_int_equal(sent.last, (int)n);
    assert_memory_equal(received.bytes.p, bytes, n);
    close(ends[0]);
    TURN_UNTIL(received.final);
    close(ends[1]);
    buf_free(&received.bytes);
    free(bytes);
    ring_buffers_free(buffers);
}

static void sends_can_be_cancelled_midway(void **state)
{
    size_t n = 24 << 20;
    char *bytes = xcalloc(1, n);
    struct probe sent = {0};
    int ends[2];

    (void)state;
    tcp_pair(ends);
    ring_send(ring, &sent.op, ends[0], bytes, n, note_result);
    for (int i = 0; i < 5; i++)
        ring_turn(ring, 1);
    ring_cancel(ring, &sent.op);
    ring_cancel(ring, &sent.op);
    TURN_UNTIL(sent.final);
    assert_int_equal(sent.last, -ECANCELED);
    assert_int_equal(sent.calls, 1);
    close(ends[0]);
    close(ends[1]);
    free(bytes);
}

static void last_bytes_leave_with_the_end(void **state)
{
    struct probe sent = {0};
    char text[32];
    int ends[2];

    (void)state;
    tcp_pair(ends);
    ring_send_last(ring, &sent.op, ends[0], "</stream:stream>", 16, note_result);
    TURN_UNTIL(sent.final);
    assert_int_equal(sent.last, 16);
    assert_int_equal(recv(ends[1], text, sizeof(text), MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(shutdown(ends[0], SHUT_WR), 0);
    assert_int_equal(recv(ends[1], text, sizeof(text), 0), 16);
    assert_memory_equal(text, "</stream:stream>", 16);
    assert_int_equal(recv(ends[1], text, sizeof(text), 0), 0);
    close(ends[0]);
    close(ends[1]);
}

static void sends_to_a_gone_peer_fail(void **state)
{
    struct probe sent = {0};
    int ends[2];

    (void)state;
    tcp_pair(ends);
    close(ends[1]);
    for (int i = 0; i < 10 && sent.last >= 0; i++) {
        sent.final = false;
        ring_send(ring, &sent.op, ends[0], "x", 1, note_result);
        TURN_UNTIL(sent.final);
    }
    assert_true(sent.last == -EPIPE || sent.last == -ECONNRESET);
    close(ends[0]);
}

static void cancel_before_the_submit_works(void **state)
{
    struct ring_buffers *buffers = ring_buffers_new(ring, 8, 256);
    struct probe received = {0};
    int ends[2];

    (void)state;
    tcp_pair(ends);
    ring_recv(ring, &received.op, ends[0], buffers, note_result);
    ring_cancel(ring, &received.op);
    assert_int_equal(received.calls, 0);
    TURN_UNTIL(received.final);
    assert_int_equal(received.last, -ECANCELED);
    ring_cancel(ring, &received.op); /* not busy: nothing */
    /* Started again in the same turn as it ended, it is not hit by the old cancel. */
    received.final = false;
    ring_recv(ring, &received.op, ends[0], buffers, note_result);
    assert_int_equal(write(ends[1], "hi", 2), 2);
    TURN_UNTIL(received.bytes.n == 2);
    close(ends[1]);
    TURN_UNTIL(received.final);
    assert_int_equal(received.last, 0);
    close(ends[0]);
    buf_free(&received.bytes);
    ring_buffers_free(buffers);
}

static struct ring_buffers *pause_buffers;
static int pause_fd;
static unsigned pause_count;

/* Cancels in the first callback, starts again in the final one. */
static void pause_and_go_on(struct ring_op *op, struct ring_result result)
{
    struct probe *p = CONTAINER_OF(op, struct probe, op);

    note_result(op, result);
    if (result.more) {
        ring_cancel(ring, op);
    } else if (result.res == -ECANCELED) {
        pause_count++;
        p->final = false;
        ring_recv(ring, op, pause_fd, pause_buffers, pause_and_go_on);
    }
}

static void receiving_can_pause(void **state)
{
    struct probe received = {0};
    int ends[2];

    (void)state;
    tcp_pair(ends);
    pause_buffers = ring_buffers_new(ring, 2, 64);
    pause_fd = ends[0];
    pause_count = 0;
    ring_recv(ring, &received.op, ends[0], pause_buffers, pause_and_go_on);
    for (size_t i = 1; i <= 200; i++) {
        char block[50];
        memset(block, (int)i, sizeof(block));
        assert_int_equal(write(ends[1], block, sizeof(block)), sizeof(block));
        if (i % 3 == 0)
            TURN_UNTIL(received.bytes.n == i * sizeof(block));
    }
    TURN_UNTIL(received.bytes.n == 10000);
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal((unsigned char)received.bytes.p[i], (unsigned char)(i / 50 + 1));
    assert_true(pause_count > 30);
    ring_shutdown(ring, ends[0]);
    TURN_UNTIL(received.final);
    assert_int_equal(received.last, 0);
    close(ends[0]);
    close(ends[1]);
    buf_free(&received.bytes);
    ring_buffers_free(pause_buffers);
}

#define CROWD 64

/* Far more readable connections than buffers: all are served. */
static void exhausted_buffers_lose_nothing(void **state)
{
    static struct probe received[CROWD];
    struct ring_buffers *buffers = ring_buffers_new(ring, 2, 128);
    int ends[CROWD][2];
    uint64_t before = ring_stat_buffers_out.value;
    char block[3000];

    (void)state;
    memset(received, 0, sizeof(received));
    for (int i = 0; i < CROWD; i++) {
        tcp_pair(ends[i]);
        ring_recv(ring, &received[i].op, ends[i][0], buffers, note_result);
    }
    ring_turn(ring, 0);
    for (int i = 0; i < CROWD; i++) {
        memset(block, 'A' + i % 26, sizeof(block));
        assert_int_equal(write(ends[i][1], block, sizeof(block)), sizeof(block));
    }
    for (int i = 0; i < CROWD; i++) {
        TURN_UNTIL(received[i].bytes.n == sizeof(block));
        for (size_t k = 0; k < sizeof(block); k++)
            assert_int_equal(received[i].bytes.p[k], 'A' + i % 26);
    }
    assert_true(ring_stat_buffers_out.value > before);
    for (int i = 0; i < CROWD; i++) {
        close(ends[i][1]);
        TURN_UNTIL(received[i].final);
        assert_int_equal(received[i].last, 0);
        close(ends[i][0]);
        buf_free(&received[i].bytes);
    }
    ring_buffers_free(buffers);
}

static void two_buffer_sets_do_not_mix(void **state)
{
    struct ring_buffers *small = ring_buffers_new(ring, 4, 32), *large = ring_buffers_new(ring, 4, 4096);
    struct probe a = {0}, b = {0};
    char block[1000];
    int x[2], y[2];

    (void)state;
    memset(block, 'z', sizeof(block));
    tcp_pair(x);
    tcp_pair(y);
    ring_recv(ring, &a.op, x[0], small, note_result);
    ring_recv(ring, &b.op, y[0], large, note_result);
    assert_int_equal(write(x[1], block, sizeof(block)), sizeof(block));
    assert_int_equal(write(y[1], block, sizeof(block)), sizeof(block));
    TURN_UNTIL(a.bytes.n == 1000 && b.bytes.n == 1000);
    assert_true(a.calls >= 32);
    assert_int_equal(b.calls, 1);
    close(x[1]);
    close(y[1]);
    TURN_UNTIL(a.final && b.final);
    close(x[0]);
    close(y[0]);
    buf_free(&a.bytes);
    buf_free(&b.bytes);
    ring_buffers_free(small);
    small = ring_buffers_new(ring, 4, 32); /* the group's number is free again */
    assert_non_null(small);
    ring_buffers_free(small);
    ring_buffers_free(large);
}

/* An owner dies with a receive, a long send and a close under way: stop, join, free. */
struct dying {
    struct ring_op recv;
    struct ring_op send;
    struct ring_op close;
    int fd;
    char *bytes;
    unsigned finals;
};

static unsigned dead;

static void dying_final(struct ring_op *op, struct ring_result result)
{
    (void)op;
    assert_false(result.more);
}

static void dying_closed(struct ring_op *op, struct ring_result result)
{
    struct dying *d = CONTAINER_OF(op, struct dying, close);

    assert_int_equal(result.res, 0);
    assert_false(op_busy(&d->recv) || op_busy(&d->send));
    free(d->bytes);
    free(d);
    dead++;
}

static void dying_join(struct dying *d)
{
    if (!op_busy(&d->recv) && !op_busy(&d->send))
        ring_close(ring, &d->close, d->fd, dying_closed);
}

static void dying_recv(struct ring_op *op, struct ring_result result)
{
    if (!result.more)
        dying_join(CONTAINER_OF(op, struct dying, recv));
}

static void dying_send(struct ring_op *op, struct ring_result result)
{
    assert_int_equal(result.res, -ECANCELED);
    dying_join(CONTAINER_OF(op, struct dying, send));
}

static void owners_die_with_operations_in_flight(void **state)
{
    struct ring_buffers *buffers = ring_buffers_new(ring, 8, 256);
    size_t n = 8 << 20;
    int peers[20];
    struct dying *all[20];

    (void)state;
    dead = 0;
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        int ends[2];
        tcp_pair(ends);
        peers[i] = ends[1];
        all[i] = xcalloc(1, sizeof(struct dying));
        all[i]->fd = ends[0];
        all[i]->bytes = xcalloc(1, n);
        ring_recv(ring, &all[i]->recv, ends[0], buffers, dying_recv);
        ring_send(ring, &all[i]->send, ends[0], all[i]->bytes, n, dying_send);
    }
    for (int i = 0; i < 5; i++)
        ring_turn(ring, 1);
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        assert_int_equal(write(peers[i], "late", 4), 4); /* bytes cross the cancel */
        ring_cancel(ring, &all[i]->recv);
        ring_cancel(ring, &all[i]->send);
    }
    TURN_UNTIL(dead == ARRAY_LEN(all));
    for (size_t i = 0; i < ARRAY_LEN(peers); i++)
        close(peers[i]);
    assert_int_equal(ring_stat_stale.value, 0);
    ring_buffers_free(buffers);
}

/* The loop goes away under armed operations, as at the end of a process. */
static void the_ring_may_be_freed_under_operations(void **state)
{
    int ends[2];
    struct ring_op recv = {0}, poll_op = {0};

    tcp_pair(ends);
    ring_recv(ring, &recv, ends[0], ring_buffers_new(ring, 8, 256), dying_final);
    ring_poll(ring, &poll_op, ends[1], POLLIN, dying_final);
    ring_turn(ring, 1);
    ring_free(ring);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(open_best(state), 0);
}

/* Out of descriptors: the listener is told, and accepts again when asked to. */
static void accept_reports_missing_descriptors(void **state)
{
    struct ring_op accept_op = {0};
    struct rlimit old, tight;
    struct sockaddr_in addr;
    int fd = listener(&addr), client = ring_socket(AF_INET);

    (void)state;
    accepted_count = 0;
    accept_end = 0;
    getrlimit(RLIMIT_NOFILE, &old);
    tight = (struct rlimit){(rlim_t)client + 1, old.rlim_max};
    ring_accept(ring, &accept_op, fd, note_accept);
    ring_turn(ring, 1);
    assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
    setrlimit(RLIMIT_NOFILE, &tight);
    TURN_UNTIL(accepted_count > 0 || accept_end != 0);
    setrlimit(RLIMIT_NOFILE, &old);
    if (accepted_count == 0) { /* else the completion was there before the limit */
        assert_int_equal(accept_end, -EMFILE);
        assert_false(op_busy(&accept_op));
        close(client);
        client = ring_socket(AF_INET);
        ring_accept(ring, &accept_op, fd, note_accept);
        assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
        TURN_UNTIL(accepted_count > 0);
    }
    ring_cancel(ring, &accept_op);
    TURN_UNTIL(!op_busy(&accept_op));
    for (unsigned i = 0; i < accepted_count; i++)
        close(accepted[i]);
    close(client);
    close(fd);
}

/* A completion that bears another start's generation must not reach the owner. */
static void stale_completions_are_dropped(void **state)
{
    struct probe polled = {0};
    uint64_t before = ring_stat_stale.value;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    ring_poll(ring, &polled.op, fds[0], POLLIN, note_result);
    ring_complete(ring, (uint64_t)(uint16_t)(polled.op.gen - 1) << 48 | (uintptr_t)&polled.op, POLLIN, 0);
    assert_int_equal(polled.calls, 0);
    assert_int_equal(ring_stat_stale.value, before + 1);
    ring_stat_stale.value = before;
    ring_cancel(ring, &polled.op);
    TURN_UNTIL(polled.final);
    close(fds[0]);
    close(fds[1]);
}

static void stop_at(struct timer *t, uint64_t now_ms)
{
    (void)t;
    (void)now_ms;
    ring_stop(ring);
}

static unsigned idle_turns;

static void count_turn(struct ring_hook *hook)
{
    (void)hook;
    idle_turns++;
}

/* Armed but quiet operations must let the loop sleep. */
static void an_idle_loop_sleeps(void **state)
{
    struct ring_buffers *buffers = ring_buffers_new(ring, 8, 256);
    struct ring_hook hook = {.run = count_turn};
    struct timer timer = {.fire = stop_at};
    struct ring_op accept_op = {0};
    struct probe received = {0};
    struct sockaddr_in addr;
    int fd = listener(&addr), ends[2];

    (void)state;
    tcp_pair(ends);
    ring_accept(ring, &accept_op, fd, note_accept);
    ring_recv(ring, &received.op, ends[0], buffers, note_result);
    ring_timer_set(ring, &timer, 60);
    idle_turns = 0;
    ring_hook_add(ring, &hook);
    ring_run(ring);
    assert_in_range(idle_turns, 2, 8);
    ring_hook_del(ring, &hook);
    ring_cancel(ring, &accept_op);
    ring_cancel(ring, &received.op);
    TURN_UNTIL(!op_busy(&accept_op) && received.final);
    close(fd);
    close(ends[0]);
    close(ends[1]);
    ring_buffers_free(buffers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(accept_connect_send_recv_close),
        BOTH(connect_is_refused),
        BOTH(bad_descriptors_are_errors),
        BOTH(poll_watches_foreign_descriptors),
        BOTH(long_sends_arrive_whole),
        BOTH(sends_can_be_cancelled_midway),
        BOTH(last_bytes_leave_with_the_end),
        BOTH(sends_to_a_gone_peer_fail),
        BOTH(cancel_before_the_submit_works),
        BOTH(receiving_can_pause),
        BOTH(exhausted_buffers_lose_nothing),
        BOTH(two_buffer_sets_do_not_mix),
        BOTH(owners_die_with_operations_in_flight),
        BOTH(the_ring_may_be_freed_under_operations),
        BOTH(accept_reports_missing_descriptors),
        BOTH(stale_completions_are_dropped),
        BOTH(an_idle_loop_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
