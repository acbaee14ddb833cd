/* A thousand clients against an echo server, both on one loop; a share of them is cut off in the middle. */
#include "ring_fixture.h"

#define CLIENTS      1000
#define ROUNDS       10
#define MESSAGE      "<message to='romeo@example.net'/>"
#define MESSAGE_SIZE (sizeof(MESSAGE) - 1)

/* One end of a connection, of either side. */
struct end {
    struct ring_op recv;
    struct ring_op send;
    struct ring_op connect;
    struct buf out; /* being sent */
    struct buf next;
    size_t received;
    unsigned round;
    int fd;
    bool server;
    bool dying;
    bool quits; /* a client that leaves without a word in the middle */
};

static struct ring_buffers *buffers;
static struct ring_op accept_op;
static struct sockaddr_in addr;
static unsigned alive, peak, finished, quit;

static void end_received(struct ring_op *op, struct ring_result result);

static void end_join(struct end *e)
{
    if (op_busy(&e->recv) || op_busy(&e->send) || op_busy(&e->connect))
        return;
    ring_close(ring, NULL, e->fd, NULL);
    buf_free(&e->out);
    buf_free(&e->next);
    free(e);
    alive--;
}

static void end_stop(struct end *e)
{
    e->dying = true;
    ring_cancel(ring, &e->recv);
    ring_cancel(ring, &e->send);
}

static void end_sent(struct ring_op *op, struct ring_result result);

static void end_flush(struct end *e)
{
    struct buf swap = e->out;

    if (e->dying || op_busy(&e->send) || e->next.n == 0)
        return;
    e->out = e->next;
    e->next = swap;
    buf_clear(&e->next);
    ring_send(ring, &e->send, e->fd, e->out.p, e->out.n, end_sent);
}

static void end_sent(struct ring_op *op, struct ring_result result)
{
    struct end *e = CONTAINER_OF(op, struct end, send);

    if (e->dying) {
        end_join(e);
    } else if (result.res < 0) {
        end_stop(e);
        end_join(e);
    } else {
        end_flush(e);
    }
}

static void client_received(struct end *e, size_t n)
{
    e->received += n;
    if (e->received < MESSAGE_SIZE * e->round)
        return;
    assert_int_equal(e->received, MESSAGE_SIZE * e->round);
    if (e->quits && e->round == ROUNDS / 2) {
        quit++;
        end_stop(e);
    } else if (e->round == ROUNDS) {
        finished++;
        end_stop(e);
    } else {
        e->round++;
        buf_add_lit(&e->next, MESSAGE);
        end_flush(e);
    }
}

static void end_received(struct ring_op *op, struct ring_result result)
{
    struct end *e = CONTAINER_OF(op, struct end, recv);

    if (!result.more) {
        end_stop(e);
        end_join(e);
    } else if (!e->dying && e->server) {
        buf_add(&e->next, result.data, (size_t)result.res);
        end_flush(e);
    } else if (!e->dying) {
        client_received(e, (size_t)result.res);
    }
}

static void client_connected(struct ring_op *op, struct ring_result result)
{
    struct end *e = CONTAINER_OF(op, struct end, connect);

    assert_int_equal(result.res, 0);
    ring_recv(ring, &e->recv, e->fd, buffers, end_received);
    e->round = 1;
    buf_add_lit(&e->next, MESSAGE);
    end_flush(e);
}

static void server_accepted(struct ring_op *op, struct ring_result result)
{
    (void)op;
    if (!result.more)
        return;
    struct end *e = xcalloc(1, sizeof(*e));
    e->fd = result.res;
    e->server = true;
    alive++;
    peak = MAX(peak, alive);
    ring_recv(ring, &e->recv, e->fd, buffers, end_received);
}

static void a_thousand_clients_are_served(void **state)
{
    int fd = listener(&addr);
    uint64_t limit_ms = clock_mono_ms() + 60000;

    (void)state;
    finished = quit = peak = 0;
    buffers = ring_buffers_new(ring, 64, 1024);
    memset(&accept_op, 0, sizeof(accept_op));
    ring_accept(ring, &accept_op, fd, server_accepted);
    for (int i = 0; i < CLIENTS; i++) {
        struct end *e = xcalloc(1, sizeof(*e));
        e->fd = ring_socket(AF_INET);
        assert_true(e->fd >= 0);
        e->quits = i % 10 == 0;
        alive++;
        ring_connect(ring, &e->connect, e->fd, (struct sockaddr *)&addr, sizeof(addr), client_connected);
    }
    while (alive > 0 && clock_mono_ms() < limit_ms)
        ring_turn(ring, 100);
    assert_int_equal(alive, 0);
    assert_int_equal(finished, CLIENTS - CLIENTS / 10);
    assert_int_equal(quit, CLIENTS / 10);
    assert_true(peak > CLIENTS);
    ring_cancel(ring, &accept_op);
    TURN_UNTIL(!op_busy(&accept_op));
    assert_int_equal(ring_busy(ring), 0);
    assert_int_equal(ring_stat_stale.value, 0);
    ring_buffers_free(buffers);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {BOTH(a_thousand_clients_are_served)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
