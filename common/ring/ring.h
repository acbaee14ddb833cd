/* The loop: one io_uring per process, everything of the process happens in its callbacks.
 *
 * A turn: (1) run due timers; (2) run the callback of every completion that has come in; (3) call the turn
 * hooks, which write what the turn has produced (one TLS record per connection, one message per peer); (4)
 * submit everything and sleep until the next completion or timer. Operations are embedded in their owners.
 * Starting one only queues it; its callback runs in a later step (2), never from inside the call that started
 * it.
 *
 * Close discipline: an owner may be freed only when none of its operations is held (op_busy false for all of
 * them): stop (ring_cancel), join (wait for the final callbacks), free. Closing a descriptor does not end the
 * operations on it: cancel them, or ring_shutdown first.
 *
 * A ring belongs to the thread that made it; make it after daemonising. Only ring_stop may come from
 * elsewhere. */
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

/* One operation, embedded in its owner, which must not move meanwhile. Zero-initialise; everything in it is
 * the ring's. Busy from the starting call until the callback with result.more == false has begun; in that
 * callback it may be started again, or its owner freed. */
struct ring_op {
    ring_fn *fn;
    uint8_t kind;
    bool busy;
    bool cancelling;
    uint8_t group; /* buffer group of a receive */
    uint16_t gen;  /* tells a completion of this start from one of an earlier start */
    bool hold;     /* send: the end waits for the shutdown */
    int fd;
    const void *bytes; /* send: what remains; connect: the address */
    size_t n;          /* send: bytes in all; connect: length; poll: events */
    size_t done;       /* send: bytes that the kernel has taken */
};

/* A function called once per turn before the submit; embedded in its owner. */
struct ring_hook {
    struct list node;
    void (*run)(struct ring_hook *hook);
};

/* A new loop. entries: size of the submission queue (0 = default 4096; never a limit, only how often the
 * kernel is entered). NULL when io_uring is missing or forbidden (ENOSYS, EPERM), too old (before Linux 6.0),
 * or out of memory or descriptors; *why then says what the operator can do (static text), and it is logged.
 */
struct ring *ring_new(unsigned entries, const char **why);

/* Frees the loop, the buffer sets that are left, and forgets timers and hooks. Operations still busy get no
 * callback any more; their owners may be freed after. */
void ring_free(struct ring *r);

/* Runs turns until ring_stop. */
void ring_run(struct ring *r);

/* Runs one turn, sleeping at most max_wait_ms for the first completion, whose callback runs in the next turn.
 * For tests. */
void ring_turn(struct ring *r, uint64_t max_wait_ms);

/* How many operations are busy. */
unsigned ring_busy(const struct ring *r);

/* Makes ring_run return after the current turn. May be called from a signal handler or another
 * thread; also before ring_run. */
void ring_stop(struct ring *r);

/* Monotonic milliseconds (clock_mono_ms), read once per turn. */
uint64_t ring_now_ms(const struct ring *r);

/* Timers on the loop's clock: set a timer to fire delay_ms from now (moves it when set), or clear it. t->fire
 * first. */
void ring_timer_set(struct ring *r, struct timer *t, uint64_t delay_ms);
void ring_timer_clear(struct ring *r, struct timer *t);

/* Adds a turn hook at the end of the list / removes it. Hooks run in the order in which they were added.
 * A hook added by a hook runs from the next turn on. */
void ring_hook_add(struct ring *r, struct ring_hook *hook);
void ring_hook_del(struct ring *r, struct ring_hook *hook);

/* Asks that the next sleep be skipped: there is work left that no completion will announce. */
void ring_again(struct ring *r);

/* A shared set of count receive buffers (a power of two) of size bytes each. One per process is enough; idle
 * connections hold none. The loop gives a buffer back to the kernel when the callback returns. NULL when the
 * kernel refuses (locked memory; logged). Free it when no receive uses it any more. */
struct ring_buffers *ring_buffers_new(struct ring *r, unsigned count, unsigned size);
void ring_buffers_free(struct ring_buffers *b);

/* Multishot accept on a listening socket: the callback gets a new descriptor each time (close-on-exec),
 * always with more set. Connections that died in the queue are skipped. The final callback has res < 0:
 * -ECANCELED, or -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM (start it again after a pause), or a broken listener. */
void ring_accept(struct ring *r, struct ring_op *op, int fd, ring_fn *fn);

/* Multishot receive: the callback gets result.data with result.res > 0 bytes, always with more set; what came
 * in before a cancel took effect is still delivered. The final callback has res 0 at the end of the stream,
 * or -errno. Buffer exhaustion is handled inside (re-armed), never shown. */
void ring_recv(struct ring *r, struct ring_op *op, int fd, struct ring_buffers *b, ring_fn *fn);

/* Sends; the bytes must stay until the callback. Sends all: a short write is continued inside, so res is n or
 * an error (-ECANCELED and others may come after a part has gone out). n < 2 GiB. No SIGPIPE. */
void ring_send(struct ring *r, struct ring_op *op, int fd, const void *bytes, size_t n, ring_fn *fn);

/* The same for the last bytes of this side: the kernel holds their end back for the shutdown(2) that must
 * follow the callback at once, so that both leave in one packet (MSG_MORE: after 200 ms it waits no longer).
 */
void ring_send_last(struct ring *r, struct ring_op *op, int fd, const void *bytes, size_t n, ring_fn *fn);

/* Connects; addr must stay until the callback. res 0 or -errno. */
void ring_connect(struct ring *r, struct ring_op *op, int fd, const struct sockaddr *addr, socklen_t n,
                  ring_fn *fn);

/* One-shot poll of a foreign descriptor (POLLIN, POLLOUT); res = the events or -errno. Re-arm in the
 * callback. */
void ring_poll(struct ring *r, struct ring_op *op, int fd, unsigned events, ring_fn *fn);

/* Closes a descriptor in the background, after what was started on it before; fn may be NULL, then op may be
 * NULL too. */
void ring_close(struct ring *r, struct ring_op *op, int fd, ring_fn *fn);

/* Shuts both directions down now (shutdown(2)), before anything started in this turn goes out; receives end
 * with 0, sends with -EPIPE. */
void ring_shutdown(struct ring *r, int fd);

/* Asks for the end of a busy operation; its callback still comes, with -ECANCELED or with its result if it
 * was quicker. Harmless when not busy. */
void ring_cancel(struct ring *r, struct ring_op *op);

/* True while the kernel or the loop holds the operation. */
static inline bool op_busy(const struct ring_op *op)
{
    return op->busy;
}

/* Opens a listening TCP socket on "HOST:PORT" ("[::]:PORT" takes IPv4 as well, and is 0.0.0.0 on a
 * host without IPv6), non-blocking, SO_REUSEADDR, with
 * SO_REUSEPORT when share_port, TCP_NODELAY (inherited by what it accepts: writes are gathered per turn
 * anyway). The descriptor, or -errno (-EINVAL: not an address). */
int ring_listen(const char *address, bool share_port);

/* A TCP socket of that family (AF_INET, AF_INET6) for ring_connect: close-on-exec, TCP_NODELAY. The
 * descriptor, or -errno. */
int ring_socket(int family);

/* Fills *out from "HOST:PORT" with a numeric host, IPv6 in brackets. Returns its length, or 0 when it isn't
 * one. */
socklen_t ring_address(const char *address, struct sockaddr_storage *out);

#endif
