/* What a timer costs among 10,000 of them: moved (as on each stanza of a session) and fired. */
#include "bench/micro/measure.h"
#include "common/base/timers.h"

#define UNITS 10000

static struct timers queue;
static struct timer timers[UNITS];
static uint64_t now_ms = 1000;

static uint64_t spread(unsigned i)
{
    return (uint64_t)(i * 2654435761u) % 60000;
}

static void fire(struct timer *t, uint64_t at_ms)
{
    checksum += at_ms;
    timer_set(&queue, t, at_ms + 1 + spread((unsigned)(t - timers)));
}

static void run_move(void)
{
    now_ms += 10;
    for (unsigned i = 0; i < UNITS; i++)
        timer_set(&queue, &timers[i], now_ms + spread(i));
}

/* As many turns of 1 ms as fire UNITS of them: each goes off twice a minute. */
static void run_fire(void)
{
    for (unsigned fired = 0; fired < UNITS; now_ms++)
        fired += timers_run(&queue, now_ms);
}

int main(int argc, char **argv)
{
    measure_only = argc > 1 ? argv[1] : NULL;
    for (unsigned i = 0; i < UNITS; i++) {
        timers[i].fire = fire;
        timer_set(&queue, &timers[i], now_ms + spread(i));
    }
    measure("timers, moved", UNITS, 20, run_move);
    measure("timers, fired and set again", UNITS, 20, run_fire);
    timers_free(&queue);
    return 0;
}
