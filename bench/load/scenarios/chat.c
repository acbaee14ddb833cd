/* Pairs that talk. Closed loop: `window` messages are under way per pair, and who receives one answers with
 * one. Offered rate: the even client of each pair writes to the odd one, in turn, at fixed times; a message
 * that leaves late counts from when it was due, so that a stalled server cannot hide (coordinated omission).
 *
 * The body is "NUMBER TIME padding": numbers run from 0 in each direction of a pair, and a window of the last
 * 64 tells lost, duplicated and reordered ones. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bench/load/scenarios/all.h"
#include "common/base/clock.h"
#include "common/ring/ring.h"

struct talk {
    uint64_t sent; /* by this client */
    uint64_t high; /* highest number received, plus 1 */
    uint64_t seen; /* bit i: high - 1 - i has come */
    uint64_t missing;
};

static struct talk *talks;
static struct buf padding;
static bool stopped;

/* Offered rate. */
static struct bench *pacing;
static struct ring_op tick;
static uint64_t start_ns, offered;
static int timer_fd = -1;

static void say(struct client *c, uint64_t due_ns)
{
    struct buf *out = client_out(c);
    struct talk *t = &talks[c->number];
    if (c->state != CLIENT_ONLINE)
        return;
    buf_add_lit(out, "<message to='");
    client_add_jid(out, c->bench, c->number ^ 1);
    buf_add_lit(out, "' type='chat' id='m");
    buf_add_u64(out, t->sent);
    buf_add_lit(out, "'><body>");
    buf_add_u64(out, t->sent++);
    buf_add_char(out, ' ');
    buf_add_u64(out, due_ns);
    buf_add_char(out, ' ');
    buf_add_span(out, buf_span(&padding));
    buf_add_lit(out, "</body></message>");
    client_send(c);
}

/* ---- offered rate ---- */

static void on_tick(struct ring_op *op, struct ring_result result)
{
    uint64_t expired;
    struct bench *b = pacing;
    if (stopped || result.res < 0 || read(timer_fd, &expired, sizeof expired) < 0)
        return;
    uint64_t now = clock_mono_ns();
    uint64_t due = now < start_ns ? 0 : 1 + (uint64_t)((double)(now - start_ns) * b->args.rate / 1e9);
    for (; offered < due; offered++) {
        unsigned sender = (unsigned)(offered * 2 % b->args.clients);
        say(&b->clients[sender], start_ns + (uint64_t)((double)offered * 1e9 / b->args.rate));
    }
    ring_poll(b->ring, op, timer_fd, POLLIN, on_tick);
}

static void start_pacing(struct bench *b)
{
    uint64_t every_ns = MAX((uint64_t)(1e9 / b->args.rate), (uint64_t)250000);
    struct itimerspec spec = {
        .it_interval = {(time_t)(every_ns / 1000000000), (long)(every_ns % 1000000000)}};
    pacing = b;
    start_ns = clock_mono_ns() + 1000000;
    spec.it_value = (struct timespec){(time_t)(start_ns / 1000000000), (long)(start_ns % 1000000000)};
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    ring_poll(b->ring, &tick, timer_fd, POLLIN, on_tick);
}

/* ---- the run ---- */

static unsigned multiple(const struct args *a)
{
    (void)a;
    return 2;
}

static void start(struct bench *b)
{
    talks = xcalloc(b->args.clients, sizeof talks[0]);
    for (unsigned i = 0; i < b->args.body_bytes; i++)
        buf_add_char(&padding, "the quick brown fox jumps over the lazy dog "[i % 44]);
    if (b->args.rate > 0) {
        start_pacing(b);
        return;
    }
    for (unsigned i = 0; i < b->args.clients; i += 2)
        for (unsigned w = 0; w < b->args.window; w++)
            say(&b->clients[i], clock_mono_ns());
}

static void take(struct bench *b, struct talk *t, uint64_t number)
{
    if (number >= t->high) {
        uint64_t ahead = number - t->high;
        t->missing += ahead;
        t->seen = ahead >= 63 ? 1 : t->seen << (ahead + 1) | 1;
        t->high = number + 1;
        return;
    }
    uint64_t behind = t->high - 1 - number;
    if (behind < 64 && (t->seen >> behind & 1) == 0) {
        t->seen |= (uint64_t)1 << behind;
        t->missing--;
        b->reordered++;
    } else {
        b->duplicated++;
    }
}

static void stanza(struct client *c, const struct xml_element *e, struct span raw)
{
    char *end;
    if (!span_is(e->name, "message"))
        return;
    if (span_is(xml_element_attr(e, "type"), "error")) {
        bench_trouble(c->bench, c->number, "a message was answered with an error");
        return;
    }
    const char *body = memmem(raw.p, raw.n, "<body>", 6);
    if (body == NULL)
        return;
    uint64_t number = strtoull(body + 6, &end, 10);
    uint64_t due_ns = strtoull(end, &end, 10);
    take(c->bench, &talks[c->number], number);
    bench_done(c->bench, due_ns);
    if (!stopped && c->bench->args.rate <= 0)
        say(c, clock_mono_ns());
}

static void stop(struct bench *b)
{
    (void)b;
    stopped = true;
}

static void finish(struct bench *b)
{
    for (unsigned i = 0; i < b->args.clients; i++) {
        uint64_t sent = talks[i ^ 1].sent;
        b->lost += sent - talks[i].high + talks[i].missing;
    }
    free(talks);
    buf_free(&padding);
}

const struct scenario scenario_chat = {.name = "chat",
                                       .what = "pairs that talk, with a window each or at an offered rate",
                                       .unit = "messages",
                                       .multiple = multiple,
                                       .start = start,
                                       .stanza = stanza,
                                       .stop = stop,
                                       .finish = finish};
