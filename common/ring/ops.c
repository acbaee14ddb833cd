/* Operations: how each kind is armed and how its completions become callbacks.
 *
 * user_data is the operation's address with its generation in the upper 16 bits; 0 marks what nobody waits
 * for (cancel requests, closes without an operation). A cancel names the same value, so it can only hit the
 * start that it was meant for. The kernel executes submissions in order, hence a cancel queued before a new
 * start never hits the new one.
 *
 * A multishot operation that the kernel ended for its own reasons (buffers out, completion queue full) is
 * armed again here while busy stays true. */
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

#include "common/log/log.h"
#include "common/ring/internal.h"

enum op_kind { OP_ACCEPT = 1, OP_RECV, OP_SEND, OP_CONNECT, OP_POLL, OP_CLOSE };

#define ADDRESS_BITS 48

static uint64_t user_data_of(const struct ring_op *op)
{
    return (uint64_t)op->gen << ADDRESS_BITS | (uintptr_t)op;
}

/* Puts the operation as it stands into the submission queue. */
static void arm(struct ring *r, struct ring_op *op)
{
    struct io_uring_sqe *sqe = ring_sqe(r);

    op->gen = ++r->gen;
    switch ((enum op_kind)op->kind) {
    case OP_ACCEPT:
        io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
        break;
    case OP_RECV:
        io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = op->group;
        break;
    case OP_SEND:
        /* With MSG_WAITALL the kernel itself goes on after a short write; what it still cuts short is
         * continued in complete_send. */
        io_uring_prep_send(sqe, op->fd, (const char *)op->bytes + op->done, op->n - op->done,
                           MSG_NOSIGNAL | MSG_WAITALL | (op->hold ? MSG_MORE : 0));
        break;
    case OP_CONNECT:
        io_uring_prep_connect(sqe, op->fd, op->bytes, (socklen_t)op->n);
        break;
    case OP_POLL:
        io_uring_prep_poll_add(sqe, op->fd, (unsigned)op->n);
        break;
    case OP_CLOSE:
        io_uring_prep_close(sqe, op->fd);
        break;
    }
    io_uring_sqe_set_data64(sqe, user_data_of(op));
}

static void start(struct ring *r, struct ring_op *op, enum op_kind kind, int fd, ring_fn *fn)
{
    CHECK(!op->busy);
    CHECK((uintptr_t)op >> ADDRESS_BITS == 0);
    op->fn = fn;
    op->kind = (uint8_t)kind;
    op->fd = fd;
    op->busy = true;
    op->cancelling = false;
    op->done = 0;
    r->busy++;
    arm(r, op);
}

static void finish(struct ring *r, struct ring_op *op, int res)
{
    op->busy = false;
    op->cancelling = false;
    r->busy--;
    if (op->fn != NULL)
        op->fn(op, (struct ring_result){.res = res});
}

/* After the kernel ended a multishot that nobody asked to end. */
static void rearm_or_finish(struct ring *r, struct ring_op *op)
{
    if (op->cancelling)
        finish(r, op, -ECANCELED);
    else
        arm(r, op);
}

/* Errors of one connection in the queue, not of the listener (accept(2)). */
static bool is_passing_accept_error(int res)
{
    switch (-res) {
    case ECONNABORTED:
    case EINTR:
    case EAGAIN:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

static void complete_accept(struct ring *r, struct ring_op *op, int res, bool more)
{
    if (res >= 0)
        op->fn(op, (struct ring_result){.res = res, .more = true});
    else if (!more && !is_passing_accept_error(res)) {
        finish(r, op, res);
        return;
    }
    if (!more)
        rearm_or_finish(r, op);
}

static void recv_finish(struct ring *r, struct ring_op *op, int res)
{
    r->groups[op->group]->armed--;
    finish(r, op, res);
}

static void complete_recv(struct ring *r, struct ring_op *op, int res, unsigned flags)
{
    struct ring_buffers *b = r->groups[op->group];
    bool more = flags & IORING_CQE_F_MORE;

    if (res > 0) {
        op->fn(op, (struct ring_result){.res = res, .more = true, .data = ring_buffer_at(b, flags)});
        res = -EINTR; /* if the kernel ended it here, it had no reason of the peer's */
    } else if (res == -ENOBUFS) {
        stat_add(&ring_stat_buffers_out, 1);
    }
    if (flags & IORING_CQE_F_BUFFER)
        ring_buffer_return(b, flags);
    if (more)
        return;
    if (res != -EINTR && res != -ENOBUFS)
        recv_finish(r, op, res);
    else if (op->cancelling)
        recv_finish(r, op, -ECANCELED);
    else
        arm(r, op); /* submitted at the end of the turn, when the turn's buffers are back */
}

static void complete_send(struct ring *r, struct ring_op *op, int res)
{
    if (res > 0)
        op->done += (size_t)res;
    if (op->done == op->n)
        finish(r, op, (int)op->n);
    else if (res < 0 && res != -EINTR)
        finish(r, op, res);
    else if (res == 0)
        finish(r, op, -EPIPE);
    else
        rearm_or_finish(r, op);
}

void ring_complete(struct ring *r, uint64_t user_data, int res, unsigned flags)
{
    uintptr_t address = user_data & (((uint64_t)1 << ADDRESS_BITS) - 1);
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): the address went through the kernel as a number */
    struct ring_op *op = (struct ring_op *)address;

    if (op == NULL)
        return;
    if (UNLIKELY(!op->busy || op->gen != user_data >> ADDRESS_BITS)) {
        stat_add(&ring_stat_stale, 1);
        log_error("ring", "completion of an ended operation kind=%u res=%d: report this as a bug", op->kind,
                  res);
        return;
    }
    switch ((enum op_kind)op->kind) {
    case OP_ACCEPT:
        complete_accept(r, op, res, flags & IORING_CQE_F_MORE);
        break;
    case OP_RECV:
        complete_recv(r, op, res, flags);
        break;
    case OP_SEND:
        complete_send(r, op, res);
        break;
    case OP_CONNECT:
    case OP_POLL:
    case OP_CLOSE:
        finish(r, op, res);
        break;
    }
}

void ring_accept(struct ring *r, struct ring_op *op, int fd, ring_fn *fn)
{
    CHECK(fn != NULL);
    start(r, op, OP_ACCEPT, fd, fn);
}

void ring_recv(struct ring *r, struct ring_op *op, int fd, struct ring_buffers *b, ring_fn *fn)
{
    CHECK(fn != NULL && b->ring == r);
    op->group = b->group;
    b->armed++;
    start(r, op, OP_RECV, fd, fn);
}

static void send_start(struct ring *r, struct ring_op *op, int fd, struct span bytes, bool hold, ring_fn *fn)
{
    CHECK(bytes.n <= INT_MAX && !op->busy);
    op->bytes = bytes.p;
    op->n = bytes.n;
    op->hold = hold;
    start(r, op, OP_SEND, fd, fn);
}

void ring_send(struct ring *r, struct ring_op *op, int fd, const void *bytes, size_t n, ring_fn *fn)
{
    send_start(r, op, fd, span_make(bytes, n), false, fn);
}

void ring_send_last(struct ring *r, struct ring_op *op, int fd, const void *bytes, size_t n, ring_fn *fn)
{
    send_start(r, op, fd, span_make(bytes, n), true, fn);
}

void ring_connect(struct ring *r, struct ring_op *op, int fd, const struct sockaddr *addr, socklen_t n,
                  ring_fn *fn)
{
    CHECK(!op->busy);
    op->bytes = addr;
    op->n = n;
    start(r, op, OP_CONNECT, fd, fn);
}

void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events, ring_fn *fn)
{
    CHECK(!op->busy);
    op->n = events;
    start(r, op, OP_POLL, fd, fn);
}

void ring_close(struct ring *r, struct ring_op *op, int fd, ring_fn *fn)
{
    struct io_uring_sqe *sqe;

    if (op != NULL) {
        start(r, op, OP_CLOSE, fd, fn);
        return;
    }
    CHECK(fn == NULL);
    sqe = ring_sqe(r);
    io_uring_prep_close(sqe, fd);
    io_uring_sqe_set_data64(sqe, 0);
}

void ring_shutdown(struct ring *r, int fd)
{
    (void)r;
    shutdown(fd, SHUT_RDWR); /* not connected any more is what was wanted */
}

void ring_cancel(struct ring *r, struct ring_op *op)
{
    struct io_uring_sqe *sqe;

    if (!op->busy || op->cancelling)
        return;
    op->cancelling = true;
    sqe = ring_sqe(r);
    io_uring_prep_cancel64(sqe, user_data_of(op), 0);
    io_uring_sqe_set_data64(sqe, 0);
}
