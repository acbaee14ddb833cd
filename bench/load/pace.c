/* A timerfd in the loop, as ring timers count whole milliseconds. Each wake tells all that has become due
 * since. */
#include "bench/load/pace.h"

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bench/load/scenario.h"
#include "common/base/clock.h"
#include "common/ring/ring.h"

static struct {
    struct bench *b;
    struct ring_op tick;
    void (*fire)(struct bench *b, uint64_t k, uint64_t due_ns);
    uint64_t start_ns, told;
    int fd;
    bool stopped;
} pace;

static void on_tick(struct ring_op *op, struct ring_result result)
{
    uint64_t expired;
    if (pace.stopped || result.res < 0 || read(pace.fd, &expired, sizeof expired) < 0)
        return;
    uint64_t now = clock_mono_ns();
    double rate = pace.b->args.rate;
    uint64_t due = now < pace.start_ns ? 0 : 1 + (uint64_t)((double)(now - pace.start_ns) * rate / 1e9);
    for (; pace.told < due; pace.told++)
        pace.fire(pace.b, pace.told, pace.start_ns + (uint64_t)((double)pace.told * 1e9 / rate));
    ring_poll(pace.b->ring, op, pace.fd, POLLIN, on_tick);
}

void pace_start(struct bench *b, void (*fire)(struct bench *b, uint64_t k, uint64_t due_ns))
{
    uint64_t every_ns = MAX((uint64_t)(1e9 / b->args.rate), (uint64_t)250000);
    struct itimerspec spec = {
        .it_interval = {(time_t)(every_ns / 1000000000), (long)(every_ns % 1000000000)}};
    pace.b = b;
    pace.fire = fire;
    pace.start_ns = clock_mono_ns() + 1000000;
    spec.it_value =
        (struct timespec){(time_t)(pace.start_ns / 1000000000), (long)(pace.start_ns % 1000000000)};
    pace.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    timerfd_settime(pace.fd, TFD_TIMER_ABSTIME, &spec, NULL);
    ring_poll(b->ring, &pace.tick, pace.fd, POLLIN, on_tick);
}

void pace_stop(void)
{
    pace.stopped = true;
}
