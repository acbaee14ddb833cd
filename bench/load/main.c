/* The run: logins a few at a time, then the phases by a timer, then the report. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/load/scenario.h"
#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/ring/ring.h"
#include "common/tls/tls.h"

#define MISSING_MAX_S 30ull

static const char *const phase_names[] = {"logging in", "preparing", "warming up", "measuring", "settling"};

static void next_phase(struct bench *b);

void bench_done(struct bench *b, uint64_t start_ns)
{
    b->done++;
    if (b->phase != PHASE_MEASURE || start_ns == 0)
        return;
    uint64_t us = (clock_mono_ns() - start_ns) / 1000;
    hist_add(&b->latency, us);
    hist_add(&b->seconds.latency, us);
    hist_add(&b->minutes.latency, us);
}

void bench_trouble(struct bench *b, unsigned number, const char *why)
{
    if (b->trouble == NULL)
        b->trouble = xasprintf("client %u: %s", number, why);
}

/* ---- logins ---- */

static void dial_more(struct bench *b)
{
    while (b->dialled < b->args.clients && b->under_way < b->args.parallel) {
        struct client *c = &b->clients[b->dialled++];
        if (client_dial(c)) {
            b->under_way++;
        } else {
            b->failed++;
            bench_trouble(b, c->number, "no socket");
        }
    }
    if (b->phase == PHASE_LOGIN && b->dialled == b->args.clients && b->under_way == 0)
        next_phase(b);
}

static void on_online(struct client *c)
{
    struct bench *b = c->bench;
    if (b->scenario->online != NULL) {
        b->scenario->online(c);
    } else {
        buf_add_lit(client_out(c), "<presence/>");
        client_send(c);
    }
    if (b->scenario->own_logins || b->phase != PHASE_LOGIN)
        return;
    b->online++;
    b->under_way--;
    ring_again(b->ring);
    dial_more(b);
}

static void on_stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    if (c->bench->scenario->stanza != NULL)
        c->bench->scenario->stanza(c, e, raw);
}

static void on_lost(struct client *c, const char *why)
{
    struct bench *b = c->bench;
    b->failed++;
    bench_trouble(b, c->number, why);
    if (b->phase == PHASE_LOGIN && !b->scenario->own_logins)
        b->under_way--;
}

static void on_gone(struct client *c)
{
    struct bench *b = c->bench;
    if (b->scenario->gone != NULL)
        b->scenario->gone(c);
    else if (b->phase == PHASE_LOGIN)
        dial_more(b);
}

static const struct client_events events = {
    .online = on_online, .stanza = on_stanza, .lost = on_lost, .gone = on_gone};

/* ---- phases ---- */

static void enter(struct bench *b, enum phase phase, double seconds)
{
    b->phase = phase;
    ring_timer_set(b->ring, &b->timer, (uint64_t)(seconds * 1000));
}

/* What still arrives is late, not lost: goes on while anything moves, and waits for what is missing (a server
 * that recovers) for a while. */
static bool under_way(struct bench *b)
{
    uint64_t now = clock_mono_ns();
    if (b->done != b->done_settled || b->settled_ns == 0) {
        b->done_settled = b->done;
        b->settled_ns = now;
        return true;
    }
    return b->scenario->quiet != NULL && !b->scenario->quiet(b) &&
           now - b->settled_ns < MISSING_MAX_S * 1000000000u;
}

static void next_phase(struct bench *b)
{
    const struct scenario *s = b->scenario;
    switch (b->phase) {
    case PHASE_LOGIN:
        enter(b, PHASE_READY, b->args.settle_s);
        break;
    case PHASE_READY:
        if (s->ready != NULL && !s->ready(b)) {
            enter(b, PHASE_READY, 0.2);
            break;
        }
        cpu_read(&b->args.servers, true, &b->idle);
        if (s->start != NULL)
            s->start(b);
        enter(b, PHASE_WARMUP, s->idle ? 0 : b->args.warmup_s);
        break;
    case PHASE_WARMUP:
        cpu_calibrate_reset();
        cpu_read(&b->args.servers, false, &b->from);
        b->done_mark = b->seconds.done = b->minutes.done = b->done;
        b->seconds.cpu_ns = b->minutes.cpu_ns = b->from.total_ns;
        enter(b, PHASE_MEASURE, s->idle ? 0 : b->args.duration_s);
        break;
    case PHASE_MEASURE:
        cpu_read(&b->args.servers, true, &b->to);
        b->measured = b->done - b->done_mark;
        b->factor = cpu_calibrate_factor();
        if (s->stop != NULL)
            s->stop(b);
        enter(b, PHASE_SETTLE, s->idle ? 0 : b->args.settle_s);
        break;
    case PHASE_SETTLE:
        if (!s->idle && under_way(b)) {
            enter(b, PHASE_SETTLE, 0.5);
            break;
        }
        __attribute__((fallthrough));
    default:
        if (s->finish != NULL)
            s->finish(b);
        b->phase = PHASE_OVER;
        ring_stop(b->ring);
    }
}

static void on_phase_end(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    next_phase(CONTAINER_OF(t, struct bench, timer));
}

/* Ends a stretch of a series. */
static void series_add(struct bench *b, struct series *s, const struct cpu_sample *now)
{
    if (s->count == s->cap)
        s->items = xrealloc(s->items, (s->cap = MAX(2 * s->cap, 64u)) * sizeof s->items[0]);
    s->items[s->count++] = (struct stretch){.end_s = (double)(now->wall_ns - b->from.wall_ns) / 1e9,
                                            .done = b->done - s->done,
                                            .p50_us = hist_quantile_us(&s->latency, 0.5),
                                            .p90_us = hist_quantile_us(&s->latency, 0.9),
                                            .p99_us = hist_quantile_us(&s->latency, 0.99),
                                            .max_us = s->latency.max_us,
                                            .cpu_s = (double)(now->total_ns - s->cpu_ns) / 1e9};
    s->done = b->done;
    s->cpu_ns = now->total_ns;
    s->latency = (struct hist){0};
}

static void on_second(struct timer *t, uint64_t now_ms)
{
    struct bench *b = CONTAINER_OF(t, struct bench, second);
    (void)now_ms;
    if (b->phase == PHASE_MEASURE) {
        struct cpu_sample now;
        cpu_read(&b->args.servers, false, &now);
        series_add(b, &b->seconds, &now);
        if (b->seconds.count % 60 == 0)
            series_add(b, &b->minutes, &now);
    }
    fprintf(stderr, "\r%-10s %4us %6u online %5u failed %10llu %s (%llu/s)   ", phase_names[b->phase],
            b->phase == PHASE_MEASURE ? b->seconds.count : 0, b->online, b->failed,
            (unsigned long long)b->done, b->scenario->unit, (unsigned long long)(b->done - b->done_last));
    b->done_last = b->done;
    ring_timer_set(b->ring, &b->second, 1000);
}

static void make_clients(struct bench *b)
{
    unsigned multiple = b->scenario->multiple != NULL ? b->scenario->multiple(&b->args) : 1;
    b->args.clients = MAX((b->args.clients + multiple - 1) / multiple, 1u) * multiple;
    b->clients = xcalloc(b->args.clients, sizeof b->clients[0]);
    for (unsigned i = 0; i < b->args.clients; i++) {
        b->clients[i].bench = b;
        b->clients[i].events = &events;
        b->clients[i].number = i;
    }
}

static const struct scenario *find(const char *name)
{
    for (unsigned i = 0; scenarios[i] != NULL; i++)
        if (strcmp(scenarios[i]->name, name) == 0)
            return scenarios[i];
    return NULL;
}

static void run(struct bench *b)
{
    cpu_read(&b->args.servers, true, &b->before);
    b->timer.fire = on_phase_end;
    b->second.fire = on_second;
    ring_timer_set(b->ring, &b->second, 1000);
    if (b->scenario->own_logins)
        next_phase(b);
    else
        dial_more(b);
    ring_run(b->ring);
    fprintf(stderr, "\n");
}

int main(int argc, char **argv)
{
    static struct bench b;
    const char *why;
    bool help;
    if (!args_parse(argc, argv, &b.args, &help))
        return help ? 0 : 2;
    log_set_name("jackdaw-bench");
    b.scenario = find(b.args.scenario);
    b.ring = ring_new(0, &why);
    if (b.scenario == NULL || b.ring == NULL || !client_setup(&b, &why)) {
        fprintf(stderr, "jackdaw-bench: %s\n",
                b.scenario == NULL ? "no such scenario; --help lists them" : why);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_clients(&b);
    cpu_calibrate_start();
    run(&b);
    return report_print(&b);
}
