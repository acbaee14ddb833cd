/* The loop. One io_uring_enter per turn submits what the turn queued, runs the kernel's deferred work and
 * sleeps. Completions are copied out and their slots released before the callback runs, so a callback may
 * queue as much as it likes; only completions that were there when the step began are treated in a turn. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/ring/internal.h"

#define ENTRIES_DEFAULT 4096
#define CQ_PER_SQ       4       /* multishot operations complete more often than they are submitted */
#define SLEEP_MS_MAX    3600000 /* a sleep without any timer; only bounds the arithmetic */
#define SUBMIT_TRIES    1000
#define BATCH           64

static struct stat_counter turns = STAT_COUNTER("jackdaw_loop_turns_total", "Turns of the event loop", NULL);
static struct stat_histogram turn_seconds =
    STAT_HISTOGRAM("jackdaw_loop_turn_seconds", "Time in timers, callbacks and hooks per turn", NULL);
struct stat_counter ring_stat_completions =
    STAT_COUNTER("jackdaw_ring_completions_total", "Completions taken from io_uring", NULL);
struct stat_counter ring_stat_buffers_out = STAT_COUNTER(
    "jackdaw_ring_buffers_exhausted_total", "Receives armed again because buffers had run out", NULL);
struct stat_counter ring_stat_queue_full =
    STAT_COUNTER("jackdaw_ring_queue_full_total", "Times the submission queue was full within a turn", NULL);
struct stat_counter ring_stat_stale =
    STAT_COUNTER("jackdaw_ring_stale_total", "Completions of operations that had ended; must stay 0", NULL);

static void register_stats(void)
{
    stat_register(&turns.meta);
    stat_register(&turn_seconds.meta);
    stat_register(&ring_stat_completions.meta);
    stat_register(&ring_stat_buffers_out.meta);
    stat_register(&ring_stat_queue_full.meta);
    stat_register(&ring_stat_stale.meta);
}

/* Multishot receive came with Linux 6.0, and so did this operation, which a probe can see. */
static bool is_new_enough(struct io_uring *u)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(u);
    bool known = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_SEND_ZC);

    io_uring_free_probe(probe);
    return known && (u->features & IORING_FEAT_EXT_ARG) != 0;
}

struct ring *ring_new_flags(unsigned entries, unsigned flags, int *error)
{
    struct ring *r = xcalloc(1, sizeof(*r));
    struct io_uring_params params = {.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP};

    if (entries == 0)
        entries = ENTRIES_DEFAULT;
    params.cq_entries = entries * CQ_PER_SQ;
    *error = -io_uring_queue_init_params(entries, &r->u, &params);
    if (*error != 0) {
        free(r);
        return NULL;
    }
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd < 0 || !is_new_enough(&r->u)) {
        *error = r->wake_fd < 0 ? errno : EOPNOTSUPP;
        if (r->wake_fd >= 0)
            close(r->wake_fd);
        io_uring_queue_exit(&r->u);
        free(r);
        return NULL;
    }
    list_init(&r->hooks);
    r->now_ms = clock_mono_ms();
    register_stats();
    return r;
}

static const char *advice(int error)
{
    switch (error) {
    case ENOSYS:
        return "this system has no io_uring: run Linux 6.1 or newer; in a container, allow io_uring_setup, "
               "io_uring_enter and io_uring_register in its seccomp profile";
    case EPERM:
    case EACCES:
        return "io_uring is forbidden here: set sysctl kernel.io_uring_disabled=0 (or 1, and this user's "
               "group in "
               "kernel.io_uring_group); in a container, "
               "run it with deploy/samples/seccomp-io_uring.json (docker run --security-opt seccomp=FILE), "
               "or "
               "allow io_uring_setup, io_uring_enter and io_uring_register in your own profile";
    case EOPNOTSUPP:
    case EINVAL:
        return "this kernel's io_uring is too old: run Linux 6.1 or newer";
    case ENOMEM:
        return "not enough memory for io_uring: raise the locked memory limit (LimitMEMLOCK= in the unit, "
               "ulimit -l) "
               "to 64 MiB or more";
    case EMFILE:
    case ENFILE:
        return "no file descriptor left for io_uring: raise LimitNOFILE= in the unit (ulimit -n)";
    default:
        return "io_uring could not be set up; the log line before has the system's error";
    }
}

struct ring *ring_new(unsigned entries, const char **why)
{
    int error;
    struct ring *r = ring_new_flags(entries, RING_FLAGS_BEST, &error);

    if (r == NULL && error == EINVAL)
        r = ring_new_flags(entries, 0, &error);
    if (r == NULL) {
        *why = advice(error);
        log_error("ring", "no event loop error=\"%s\": %s", strerror(error), *why);
    }
    return r;
}

void ring_free(struct ring *r)
{
    if (r == NULL)
        return;
    io_uring_queue_exit(&r->u);
    for (size_t i = 0; i < RING_GROUPS_MAX; i++) {
        if (r->groups[i] != NULL)
            ring_buffers_release(r->groups[i]);
    }
    close(r->wake_fd);
    timers_free(&r->timers);
    free(r);
}

struct io_uring_sqe *ring_sqe(struct ring *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->u);
    int error = 0;

    if (LIKELY(sqe != NULL))
        return sqe;
    stat_add(&ring_stat_queue_full, 1);
    /* The kernel refuses for a moment only when it is out of memory for requests. */
    for (int i = 0; i < SUBMIT_TRIES && sqe == NULL; i++) {
        error = io_uring_submit(&r->u);
        sqe = io_uring_get_sqe(&r->u);
        if (sqe == NULL)
            usleep(1000);
    }
    if (sqe == NULL)
        log_error("ring", "the kernel takes no more operations error=\"%s\": give this host more memory",
                  strerror(error < 0 ? -error : 0));
    CHECK(sqe != NULL);
    return sqe;
}

static void complete_all(struct ring *r)
{
    struct io_uring_cqe *batch[BATCH];
    unsigned left = io_uring_cq_ready(&r->u), n;

    while (left > 0 && (n = io_uring_peek_batch_cqe(&r->u, batch, MIN(left, BATCH))) > 0) {
        left -= n;
        stat_add(&ring_stat_completions, n);
        for (unsigned i = 0; i < n; i++) {
            struct io_uring_cqe cqe = *batch[i];
            io_uring_cq_advance(&r->u, 1);
            ring_complete(r, cqe.user_data, cqe.res, cqe.flags);
        }
    }
}

/* Each hook is moved to the end of the real list before it runs, so it may remove itself or any other. */
static void run_hooks(struct ring *r)
{
    struct list waiting, *node;

    list_init(&waiting);
    list_splice(&waiting, &r->hooks);
    while ((node = list_pop(&waiting)) != NULL) {
        struct ring_hook *hook = LIST_ENTRY(node, struct ring_hook, node);
        list_add(&r->hooks, node);
        hook->run(hook);
    }
}

static void submit_and_sleep(struct ring *r, uint64_t max_wait_ms)
{
    uint64_t next = timers_next(&r->timers), now = clock_mono_ms();
    uint64_t wait_ms = MIN(max_wait_ms, next > now ? MIN(next - now, SLEEP_MS_MAX) : 0);
    struct __kernel_timespec ts;
    struct io_uring_cqe *cqe;
    int error;

    if (r->stop || r->again)
        wait_ms = 0;
    r->again = false;
    if (wait_ms == 0) {
        error = io_uring_submit_and_get_events(&r->u);
    } else {
        ts = (struct __kernel_timespec){(long long)(wait_ms / 1000), (long long)(wait_ms % 1000) * 1000000};
        error = io_uring_submit_and_wait_timeout(&r->u, &cqe, 1, &ts, NULL);
    }
    if (error >= 0 || error == -ETIME || error == -EINTR || error == -EAGAIN || error == -EBUSY)
        return;
    log_error("ring", "io_uring_enter error=\"%s\": report this as a bug", strerror(-error));
    CHECK(error >= 0);
}

void ring_turn(struct ring *r, uint64_t max_wait_ms)
{
    uint64_t start_ns = clock_mono_ns();

    CHECK(!r->in_turn);
    r->in_turn = true;
    r->now_ms = start_ns / 1000000;
    timers_run(&r->timers, r->now_ms);
    complete_all(r);
    run_hooks(r);
    r->in_turn = false;
    stat_add(&turns, 1);
    stat_observe(&turn_seconds, (clock_mono_ns() - start_ns) / 1000);
    submit_and_sleep(r, max_wait_ms);
}

static void woken(struct ring_op *op, struct ring_result result)
{
    struct ring *r = CONTAINER_OF(op, struct ring, wake);
    uint64_t count;

    (void)result;
    while (read(r->wake_fd, &count, sizeof(count)) > 0)
        ;
    ring_poll(r, &r->wake, r->wake_fd, POLLIN, woken);
}

void ring_run(struct ring *r)
{
    if (!r->wake.busy)
        ring_poll(r, &r->wake, r->wake_fd, POLLIN, woken);
    do
        ring_turn(r, UINT64_MAX);
    while (!r->stop);
    r->stop = false;
}

void ring_stop(struct ring *r)
{
    int saved_errno = errno;
    ssize_t ignored;

    r->stop = true;
    ignored = write(r->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)ignored; /* full means that a wake-up is under way already */
    errno = saved_errno;
}

unsigned ring_busy(const struct ring *r)
{
    return r->busy - r->wake.busy;
}

uint64_t ring_now_ms(const struct ring *r)
{
    return r->in_turn ? r->now_ms : clock_mono_ms();
}

void ring_timer_set(struct ring *r, struct timer *t, uint64_t delay_ms)
{
    uint64_t now = ring_now_ms(r);

    CHECK(t->fire != NULL);
    timer_set(&r->timers, t, delay_ms < UINT64_MAX - now ? now + delay_ms : UINT64_MAX);
}

void ring_timer_clear(struct ring *r, struct timer *t)
{
    timer_clear(&r->timers, t);
}

void ring_hook_add(struct ring *r, struct ring_hook *hook)
{
    CHECK(hook->run != NULL);
    list_add(&r->hooks, &hook->node);
}

void ring_hook_del(struct ring *r, struct ring_hook *hook)
{
    (void)r;
    if (hook->node.next != NULL)
        list_del(&hook->node);
}

void ring_again(struct ring *r)
{
    r->again = true;
}
