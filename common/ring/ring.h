/* The loop: one io_uring per process, everything of the process happens in its callbacks.
 *
 * A turn: (1) run due timers; (2) run the callback of every completion that has come in; (3) call the turn
 * hooks, which write what the turn has produced (one TLS record per connection, one message per peer); (4)
 * submit everything and sleep until the next completion or timer. Operations are embedded in their owners.
 * Starting one only queues it; its callback runs in a later step (2), never from inside the call that started
 * it.
 *
 * Close discipline: an owner may be freed only when none of its operations is held (op_busy false for all of
 * them): stop (ring_cancel), join (wait for the final callbacks), free. */
#ifndef JACKDAW_RING_RING_H
#define JACKDAW_RING_RING_H

#include <sys/socket.h>

#include "common/base/list.h"
#include "common/base/span.h"
#include "common/base/timers.h"

struct ring;
struct ring_op;
struct ring_buffers;

/* What a completion brings. */
struct ring_result {
    int res;          /* as the system call: bytes, descriptor, 0, or -errno; -ECANCELED after ring_cancel */
    bool more;        /* a multishot operation stays armed and will call again */
    const void *data; /* received bytes (recv with buffers), valid only during the callback */
};

typedef void ring_fn(struct ring_op *op, struct ring_result result);

/* One operation, embedded in its owner. Zero-initialise. Busy from the starting call until the callback with
 * result.more == false has begun. */
struct ring_op {
    ring_fn *fn;
    uint8_t kind;
    bool busy;
    bool cancelling;
    uint32_t group; /* internal: buffer group */
};

/* A function called once per turn before the submit; embedded in its owner. */
struct ring_hook {
    struct list node;
    void (*run)(struct ring_hook *hook);
};

/* A new loop. entries: size of the submission queue (0 = default 4096). NULL when io_uring is missing or
 * forbidden; *why then says what the operator can do (static text). */
struct ring *ring_new(unsigned entries, const char **why);

/* Frees the loop. Nothing may be busy but what the process's end takes along. */
void ring_free(struct ring *r);

/* Runs turns until ring_stop. */
void ring_run(struct ring *r);

/* Runs one turn, sleeping at most max_wait_ms for the first completion. For tests. */
void ring_turn(struct ring *r, uint64_t max_wait_ms);

/* Makes ring_run return after the current turn. May be called from a signal handler. */
void ring_stop(struct ring *r);

/* Monotonic milliseconds, read once per turn. */
uint64_t ring_now_ms(const struct ring *r);

/* Timers on the loop's clock: set a timer to fire delay_ms from now (moves it when set), or clear it. t->fire
 * first. */
void ring_timer_set(struct ring *r, struct timer *t, uint64_t delay_ms);
void ring_timer_clear(struct ring *r, struct timer *t);

/* Adds a turn hook at the end of the list / removes it. Hooks run in the order in which they were added. */
void ring_hook_add(struct ring *r, struct ring_hook *hook);
void ring_hook_del(struct ring *r, struct ring_hook *hook);

/* Asks that the next sleep be skipped: there is work left that no completion will announce. */
void ring_again(struct ring *r);

/* A shared set of count receive buffers (a power of two) of size bytes each. One per process is enough; idle
 * connections hold none. The loop gives a buffer back to the kernel when the callback returns. */
struct ring_buffers *ring_buffers_new(struct ring *r, unsigned count, unsigned size);
void ring_buffers_free(struct ring_buffers *b);

/* Multishot accept on a listening socket: the callback gets a new descriptor each time (close-on-exec). */
void ring_accept(struct ring *r, struct ring_op *op, int fd, ring_fn *fn);

/* Multishot receive: the callback gets result.data with result.res > 0 bytes; 0 at the end of the stream.
 * Buffer exhaustion is handled inside (re-armed), never shown. */
void ring_recv(struct ring *r, struct ring_op *op, int fd, struct ring_buffers *b, ring_fn *fn);

/* Sends; the bytes must stay until the callback. Sends all: a short write is continued inside, so res is n or
 * an error. */
void ring_send(struct ring *r, struct ring_op *op, int fd, const void *bytes, size_t n, ring_fn *fn);

/* Connects; addr must stay until the callback. res 0 or -errno. */
void ring_connect(struct ring *r, struct ring_op *op, int fd, const struct sockaddr *addr, socklen_t n,
                  ring_fn *fn);

/* One-shot poll of a foreign descriptor (POLLIN, POLLOUT); res = the events or -errno. Re-arm in the
 * callback. */
void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events, ring_fn *fn);

/* Closes a descriptor in the background; fn may be NULL, then op may be NULL too. */
void ring_close(struct ring *r, struct ring_op *op, int fd, ring_fn *fn);

/* Shuts both directions down now (shutdown(2)); receives end with 0. */
void ring_shutdown(struct ring *r, int fd);

/* Asks for the end of a busy operation; its callback still comes, with -ECANCELED or with its result if it
 * was quicker. Harmless when not busy. */
void ring_cancel(struct ring *r, struct ring_op *op);

/* True while the kernel or the loop holds the operation. */
static inline bool op_busy(const struct ring_op *op)
{
    return op->busy;
}

/* Opens a listening TCP socket on "HOST:PORT" ("[::]:PORT" too), non-blocking, SO_REUSEADDR, with
 * SO_REUSEPORT when share_port. The descriptor, or -errno. */
int ring_listen(const char *address, bool share_port);

/* Fills *out from "HOST:PORT" with a numeric host. Returns its length, or 0 when it isn't one. */
socklen_t ring_address(const char *address, struct sockaddr_storage *out);

#endif
