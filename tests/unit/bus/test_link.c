/* The link's state machine over a pipe of the test's own, which keeps, loses, repeats and spoils messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/random.h"
#include "common/bus/link.h"

#define QUEUE 4096

struct message {
    char *p;
    size_t n;
};

struct side {
    struct link link;
    struct message queue[QUEUE]; /* on the way to this side */
    unsigned head, tail;
    uint64_t expect; /* number of the next frame */
    unsigned events; /* all that were told */
    unsigned resends;
    unsigned duplicates;
};

static struct side a, b;
static uint64_t now;
static uint64_t next_id;

static void begin(struct side *s, const char *name, const char *peer, uint64_t incarnation, uint64_t wants)
{
    struct link_config config = {.id = ++next_id,
                                 .incarnation = incarnation,
                                 .peer_incarnation = wants,
                                 .name = name,
                                 .peer_name = peer,
                                 .heartbeat_ms = 100,
                                 .window_bytes = 10000};
    link_init(&s->link, &config, now);
    s->expect = 0;
    s->events = s->resends = s->duplicates = 0;
}

static void drop_queue(struct side *s)
{
    for (; s->head != s->tail; s->head++)
        free(s->queue[s->head % QUEUE].p);
}

static int setup(void **state)
{
    (void)state;
    now = 1000;
    next_id = 0;
    begin(&a, "a", "b", 11, 22);
    begin(&b, "b", "a", 22, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    link_fini(&a.link);
    link_fini(&b.link);
    drop_queue(&a);
    drop_queue(&b);
    return 0;
}

static void post(struct side *to, const char *p, size_t n)
{
    struct message *m = &to->queue[to->tail++ % QUEUE];
    assert_true(to->tail - to->head < QUEUE);
    m->p = malloc(n);
    memcpy(m->p, p, n);
    m->n = n;
}

static unsigned flush(struct side *from, struct side *to)
{
    struct link_out out;
    unsigned count = 0;

    while (link_peek(&from->link, &out)) {
        if (to != NULL)
            post(to, out.bytes, out.n);
        from->resends += out.resend;
        link_sent(&from->link, &out, now);
        count++;
    }
    return count;
}

static void take_frames(struct side *s, struct link_in *in)
{
    struct span frame;
    while (link_frame(&in->frames, &frame)) {
        uint64_t number;
        assert_true(frame.n >= 8);
        memcpy(&number, frame.p, 8);
        assert_int_equal(number, s->expect);
        s->expect++;
    }
}

static unsigned deliver(struct side *s)
{
    unsigned events = 0;
    for (; s->head != s->tail; s->head++) {
        struct message m = s->queue[s->head % QUEUE];
        struct link_in in = link_input(&s->link, span_make(m.p, m.n), now);
        take_frames(s, &in);
        s->duplicates += (in.events & LINK_DUPLICATE) != 0;
        events |= in.events;
        free(m.p);
    }
    s->events |= events;
    return events;
}

static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        unsigned sent = flush(&a, &b) + flush(&b, &a);
        deliver(&a);
        deliver(&b);
        if (sent == 0)
            return;
    }
    fail_msg("the two never fall silent");
}

static void tick(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 50) {
        now += 50;
        a.events |= link_tick(&a.link, now);
        b.events |= link_tick(&b.link, now);
        settle();
    }
}

static void send_number(struct side *s, uint64_t number, size_t n)
{
    char *p = link_reserve(&s->link, n + 100);
    memset(p, 'x', n);
    memcpy(p, &number, 8);
    link_commit(&s->link, n);
}

static void connect_both(void)
{
    link_connected(&a.link, true, now);
    settle();
    assert_int_equal(a.link.state, LINK_STATE_UP);
    assert_int_equal(b.link.state, LINK_STATE_UP);
}

static void test_hello_brings_both_up_once(void **state)
{
    (void)state;
    connect_both();
    assert_true(a.events & LINK_UP);
    assert_true(b.events & LINK_UP);
    assert_int_equal(b.link.peer_incarnation, 11);
    a.events = b.events = 0;
    link_disconnected(&a.link);
    link_disconnected(&b.link);
    connect_both();
    assert_false(a.events & LINK_UP);
    assert_false(b.events & LINK_UP);
}

static void test_frames_wait_for_the_link(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        send_number(&a, i, 20);
    assert_int_equal(flush(&a, &b), 0);
    connect_both();
    assert_int_equal(b.expect, 10);
    assert_int_equal(a.link.last_seq, 1); /* all of them in one batch */
}

static void test_a_heartbeat_acknowledges(void **state)
{
    (void)state;
    connect_both();
    send_number(&a, 0, 20);
    settle();
    assert_int_equal(b.expect, 1);
    assert_true(a.link.unacked_bytes > 0); /* no message of its own for one ack */
    tick(200);
    assert_int_equal(a.link.unacked_bytes, 0);
    assert_true(list_empty(&a.link.kept));
}

static void test_an_answer_carries_the_ack(void **state)
{
    (void)state;
    connect_both();
    send_number(&a, 0, 20);
    flush(&a, &b);
    deliver(&b);
    send_number(&b, 0, 20);
    assert_int_equal(flush(&b, &a), 1);
    deliver(&a);
    assert_int_equal(a.link.unacked_bytes, 0);
}

static void test_many_batches_are_acknowledged(void **state)
{
    (void)state;
    connect_both();
    for (uint64_t i = 0; i < LINK_ACK_BATCHES; i++) {
        send_number(&a, i, 8);
        flush(&a, &b);
        deliver(&b);
    }
    settle();
    assert_int_equal(a.link.unacked_bytes, 0);
}

static void test_window_stops_and_gives_room(void **state)
{
    uint64_t i = 0;
    (void)state;
    connect_both();
    while (link_ready(&a.link))
        send_number(&a, i++, 100);
    assert_true(a.link.unacked_bytes > 10000 && a.link.unacked_bytes < 10300);
    flush(&a, &b);
    for (int more = 0; more < 500; more++)
        send_number(&a, i++, 100);      /* still taken … */
    assert_int_equal(flush(&a, &b), 0); /* … but not sent */
    assert_false(a.events & LINK_ROOM);
    settle();
    tick(200);
    assert_true(a.events & LINK_ROOM);
    assert_true(link_ready(&a.link));
    assert_int_equal(b.expect, i);
}

static void test_lost_messages_are_sent_again_after_reconnect(void **state)
{
    (void)state;
    connect_both();
    for (uint64_t i = 0; i < 50; i++) {
        send_number(&a, i, 30);
        flush(&a, i < 20 ? &b : NULL); /* the last 30 fall into the void */
    }
    deliver(&b);
    link_disconnected(&a.link);
    link_disconnected(&b.link);
    send_number(&a, 50, 30);
    send_number(&b, 0, 30);
    connect_both();
    assert_int_equal(b.expect, 51);
    assert_int_equal(a.expect, 1);
    assert_int_equal(a.resends, 30);
    assert_int_equal(b.duplicates, 0); /* the hello said where to begin */
    tick(200);
    assert_int_equal(a.link.unacked_bytes, 0);
    assert_int_equal(a.link.inflight_bytes, 0);
}

static void test_gap_is_asked_for_at_once(void **state)
{
    (void)state;
    connect_both();
    send_number(&a, 0, 30);
    flush(&a, NULL);
    send_number(&a, 1, 30);
    flush(&a, &b);
    assert_true(deliver(&b) & LINK_GAP);
    settle();
    assert_int_equal(b.expect, 2);
}

static void test_lost_tail_is_found_by_a_heartbeat(void **state)
{
    (void)state;
    connect_both();
    send_number(&a, 0, 30);
    flush(&a, NULL);
    tick(300);
    assert_int_equal(b.expect, 1);
    assert_int_equal(a.link.unacked_bytes, 0);
}

static void test_duplicates_are_dropped(void **state)
{
    struct link_out out;
    (void)state;
    connect_both();
    send_number(&a, 0, 30);
    assert_true(link_peek(&a.link, &out));
    for (int i = 0; i < 3; i++)
        post(&b, out.bytes, out.n);
    link_sent(&a.link, &out, now);
    deliver(&b);
    assert_int_equal(b.expect, 1);
    assert_int_equal(b.duplicates, 2);
}

static void test_new_incarnation_voids(void **state)
{
    struct side c = {0};
    unsigned events;
    struct link_out hello;
    (void)state;
    connect_both();
    send_number(&b, 0, 30);
    begin(&c, "a", "b", 12, 22);
    link_connected(&c.link, true, now);
    assert_true(link_peek(&c.link, &hello));
    events = link_input(&b.link, span_make(hello.bytes, hello.n), now).events;
    assert_int_equal(events, LINK_VOID);
    assert_int_equal(b.link.peer_incarnation, 11); /* untouched */
    link_fini(&b.link);
    begin(&b, "b", "a", 22, 0);
    link_input(&b.link, span_make(hello.bytes, hello.n), now);
    assert_int_equal(b.link.peer_incarnation, 12);
    /* the old one's batches are of no link any more */
    send_number(&a, 0, 30);
    flush(&a, &b);
    assert_true(deliver(&b) & LINK_STALE);
    assert_int_equal(b.expect, 0);
    link_fini(&c.link);
}

static void test_forgotten_object_voids(void **state)
{
    (void)state;
    connect_both();
    link_fini(&b.link);
    begin(&b, "b", "a", 22, 0); /* the same incarnation, but it knows nothing of the link */
    link_disconnected(&a.link);
    link_connected(&a.link, true, now);
    flush(&a, &b);
    deliver(&b);
    flush(&b, &a);
    assert_true(deliver(&a) & LINK_VOID);
}

static void test_wrong_incarnation_never_comes_up(void **state)
{
    (void)state;
    link_fini(&a.link);
    begin(&a, "a", "b", 11, 23);
    link_connected(&a.link, true, now);
    flush(&a, &b);
    deliver(&b);
    flush(&b, &a);
    assert_true(deliver(&a) & LINK_VOID);
    assert_int_not_equal(a.link.state, LINK_STATE_UP);
}

static void test_silence_is_told_and_own_sleep_forgiven(void **state)
{
    unsigned events = 0;
    (void)state;
    connect_both();
    tick(300);
    assert_false(a.events & LINK_SILENT);
    for (int i = 0; i < 9; i++) {
        now += 50;
        events |= link_tick(&a.link, now);
    }
    assert_false(events & LINK_SILENT);
    for (int i = 0; i < 2; i++) {
        now += 50;
        events |= link_tick(&a.link, now);
    }
    assert_true(events & LINK_SILENT);
    settle();
    tick(300);
    now += 60000; /* this process was stopped for a minute */
    assert_false(link_tick(&a.link, now) & LINK_SILENT);
}

static void test_lost_hellos_are_said_again(void **state)
{
    (void)state;
    link_connected(&a.link, true, now);
    assert_int_equal(flush(&a, NULL), 1);
    tick(200);
    assert_int_equal(a.link.state, LINK_STATE_UP);
    assert_int_equal(b.link.state, LINK_STATE_UP);
}

static void test_malformed_batch_is_dropped_and_passed(void **state)
{
    struct link_out out;
    char *spoiled;
    (void)state;
    connect_both();
    send_number(&a, 77, 30);
    assert_true(link_peek(&a.link, &out));
    spoiled = malloc(out.n);
    memcpy(spoiled, out.bytes, out.n);
    spoiled[LINK_HEADER] = (char)200; /* the frame's length */
    post(&b, spoiled, out.n);
    free(spoiled);
    link_sent(&a.link, &out, now);
    assert_true(deliver(&b) & LINK_BAD);
    send_number(&a, 0, 30);
    settle();
    assert_int_equal(b.expect, 1);
}

static void test_junk_is_bad(void **state)
{
    char junk[100];
    (void)state;
    connect_both();
    memset(junk, 'J', sizeof junk);
    for (size_t n = 0; n <= sizeof junk; n++)
        assert_int_equal(link_input(&b.link, span_make(junk, n), now).events, LINK_BAD);
    assert_int_equal(b.link.state, LINK_STATE_UP);
}

static void test_an_ack_of_the_future_is_bad(void **state)
{
    struct link_out out;
    char copy[256];
    (void)state;
    connect_both();
    tick(100);
    send_number(&a, 0, 30);
    assert_true(link_peek(&a.link, &out));
    memcpy(copy, out.bytes, out.n);
    copy[32] = 99;
    assert_true(link_input(&b.link, span_make(copy, out.n), now).events & LINK_BAD);
    assert_int_equal(b.link.taken, 0);
}

static void test_large_and_many_frames_split_into_batches(void **state)
{
    uint64_t i;
    (void)state;
    a.link.window_bytes = 64u << 20;
    connect_both();
    for (i = 0; i < 30; i++)
        send_number(&a, i, 100000);
    send_number(&a, i++, 3u << 20);
    send_number(&a, i++, 8);
    assert_int_equal(flush(&a, &b), 5); /* 10 + 10 + 10, the large one, the small one */
    deliver(&b);
    assert_int_equal(b.expect, i);
}

static void test_kept_batch_is_not_touched_while_the_transport_holds_it(void **state)
{
    struct link_out out;
    struct link_batch *held;
    char before[LINK_HEADER];
    (void)state;
    connect_both();
    send_number(&a, 0, 30);
    assert_true(link_peek(&a.link, &out));
    held = link_batch_ref(out.batch);
    memcpy(before, held->data, LINK_HEADER);
    link_sent(&a.link, &out, now);
    send_number(&b, 0, 30);
    settle(); /* a's ack number moves on */
    link_disconnected(&a.link);
    link_disconnected(&b.link);
    b.link.taken = 0; /* as if it had never arrived */
    b.expect = 0;
    connect_both();
    assert_int_equal(b.expect, 1);
    assert_memory_equal(before, held->data, LINK_HEADER);
    link_batch_unref(held);
}

/* Everything at once from a seed: loss, repetition, reconnects, both directions. */
static void test_random_weather(void **state)
{
    struct rng rng;
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint64_t sent_a = 0, sent_b = 0;
        setup(NULL);
        rng_seed(&rng, seed);
        link_connected(&a.link, true, now);
        for (int step = 0; step < 400; step++) {
            switch (rng_below(&rng, 12)) {
            case 0:
                flush(&a, NULL); /* lost */
                break;
            case 1:
                flush(&b, NULL);
                break;
            case 2:
                link_disconnected(&a.link);
                if (rng_below(&rng, 2))
                    link_disconnected(&b.link);
                link_connected(&a.link, true, now);
                break;
            case 3:
                if (a.head != a.tail && a.tail - a.head < 100) { /* an old message once more */
                    struct message m = a.queue[a.head % QUEUE];
                    post(&a, m.p, m.n);
                }
                break;
            case 4:
                now += 50;
                link_tick(&a.link, now);
                link_tick(&b.link, now);
                break;
            case 5:
            case 6:
                flush(&a, &b);
                deliver(&b);
                break;
            case 7:
            case 8:
                flush(&b, &a);
                deliver(&a);
                break;
            case 9:
                flush(&a, &b);
                flush(&b, &a);
                break;
            default:
                if (rng_below(&rng, 2))
                    send_number(&a, sent_a++, 8 + rng_below(&rng, 500));
                else
                    send_number(&b, sent_b++, 8 + rng_below(&rng, 500));
            }
        }
        tick(2000);
        assert_int_equal(b.expect, sent_a);
        assert_int_equal(a.expect, sent_b);
        assert_int_equal(a.link.unacked_bytes + b.link.unacked_bytes, 0);
        teardown(NULL);
    }
    setup(NULL);
}

static void test_a_frame_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    assert_null(link_reserve(&a.link, LINK_FRAME_MAX + 1));
    connect_both();
    assert_null(link_reserve(&a.link, LINK_FRAME_MAX + 1));
    assert_null(link_reserve(&a.link, SIZE_MAX));
    send_number(&a, 0, LINK_FRAME_MAX - 100);
    settle();
    assert_int_equal(a.link.unacked_bytes, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_hello_brings_both_up_once),
        TEST(test_frames_wait_for_the_link),
        TEST(test_a_heartbeat_acknowledges),
        TEST(test_an_answer_carries_the_ack),
        TEST(test_many_batches_are_acknowledged),
        TEST(test_window_stops_and_gives_room),
        TEST(test_lost_messages_are_sent_again_after_reconnect),
        TEST(test_gap_is_asked_for_at_once),
        TEST(test_lost_tail_is_found_by_a_heartbeat),
        TEST(test_duplicates_are_dropped),
        TEST(test_new_incarnation_voids),
        TEST(test_forgotten_object_voids),
        TEST(test_wrong_incarnation_never_comes_up),
        TEST(test_silence_is_told_and_own_sleep_forgiven),
        TEST(test_lost_hellos_are_said_again),
        TEST(test_malformed_batch_is_dropped_and_passed),
        TEST(test_junk_is_bad),
        TEST(test_an_ack_of_the_future_is_bad),
        TEST(test_large_and_many_frames_split_into_batches),
        TEST(test_kept_batch_is_not_touched_while_the_transport_holds_it),
        TEST(test_a_frame_beyond_the_limit_is_refused),
        TEST(test_random_weather),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
