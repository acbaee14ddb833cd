/* Real processes over real sockets: the parent runs the tests, children echo numbered frames. All of it with
 * each carrier on each side, which also shows that the loop's ZMTP and libzmq's are one protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/bus/bus.h"
#include "common/log/log.h"
#include "common/ring/ring.h"
#include "tests/unit/pace.h"

/* Links that are silent for some heartbeats are dropped: a busy machine is given more time. */
#define HEARTBEAT_MS (20 * MIN(pace_limit_ms(1), 3))

struct node {
    struct ring *ring;
    struct bus *bus;
    struct bus_peer *peer; /* the last that came up */
    uint64_t expect;       /* the number that the next frame carries */
    uint64_t bytes;
    unsigned ups, gones, rooms, suspects, certain;
    uint64_t certain_ms; /* when */
    bool echo;
    bool wrong;        /* out of order, twice, or lost */
    uint64_t *took_ns; /* ping-pong: an answer leads to the next question, until `rounds` */
    uint64_t asked_ns;
    unsigned rounds;
};

static char dir[64];
static struct node me;
static bool libzmq_here, libzmq_there;

static void on_frame(void *ctx, struct bus_peer *from, struct span frame)
{
    struct node *n = ctx;
    uint64_t number;

    memcpy(&number, frame.p, 8);
    if (number == UINT64_MAX) { /* "how much CPU did you take?" */
        struct timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        number = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
        bus_send(from, span_make(&number, 8));
        return;
    }
    n->wrong |= number != n->expect;
    n->expect = number + 1;
    n->bytes += frame.n;
    if (n->echo)
        bus_send(from, frame);
    if (n->took_ns != NULL) {
        n->took_ns[number++] = clock_mono_ns() - n->asked_ns;
        n->asked_ns = clock_mono_ns();
        if (number < n->rounds)
            bus_send(from, span_make(&number, 8));
    }
}

static void on_up(void *ctx, struct bus_peer *peer)
{
    struct node *n = ctx;
    n->ups++;
    n->peer = peer;
    n->expect = 0;
}

static void on_suspect(void *ctx, struct bus_peer *peer, bool certain)
{
    struct node *n = ctx;
    (void)peer;
    n->suspects++;
    if (certain && n->certain++ == 0)
        n->certain_ms = clock_mono_ms();
}

static void on_gone(void *ctx, struct bus_peer *peer)
{
    struct node *n = ctx;
    n->gones++;
    if (n->peer == peer)
        n->peer = NULL;
}

static void on_room(void *ctx, struct bus_peer *peer)
{
    struct node *n = ctx;
    (void)peer;
    n->rooms++;
}

static const struct bus_handler handler = {
    .frame = on_frame, .up = on_up, .suspect = on_suspect, .gone = on_gone, .room = on_room};

static void node_start(struct node *n, const char *name, uint64_t incarnation, const char *listen,
                       const char *key, size_t window)
{
    const char *why;
    char *error;
    struct bus_config config = {.name = name,
                                .incarnation = incarnation,
                                .listen = listen,
                                .curve_secret_key = key,
                                .libzmq = n == &me ? libzmq_here : libzmq_there,
                                .heartbeat_ms = (unsigned)HEARTBEAT_MS,
                                .window_bytes = window};

    *n = (struct node){0};
    n->ring = ring_new(0, &why);
    if (n->ring == NULL) {
        fprintf(stderr, "%s: no loop: %s\n", name, why);
        _exit(4);
    }
    n->bus = bus_new(n->ring, &config, &handler, n, &error);
    if (n->bus == NULL)
        fprintf(stderr, "%s\n", error);
}

static void node_stop(struct node *n)
{
    bus_free(n->bus);
    for (int i = 0; i < 5; i++)
        ring_turn(n->ring, 1);
    ring_free(n->ring);
}

static const char *path_of(const char *name)
{
    static char store[4][128];
    static unsigned at;
    char *out = store[at++ % 4];
    snprintf(out, sizeof store[0], "ipc://%s/%s", dir, name);
    return out;
}

/* A child that echoes, linked to dial_name when given, by dialing when `dial` is. */
static pid_t child(const char *name, uint64_t incarnation, const char *listen, const char *dial_name,
                   uint64_t dial_incarnation, const char *dial, const char *key, bool echo)
{
    pid_t pid = fork();
    struct node n;

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    node_start(&n, name, incarnation, listen, key, 0);
    if (n.bus == NULL)
        _exit(2);
    n.echo = echo;
    if (dial_name != NULL)
        bus_link(n.bus, dial_name, dial_incarnation, dial, dial != NULL);
    while (!n.wrong)
        ring_turn(n.ring, 1000);
    _exit(3);
}

static void end_child(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status) &&
                WTERMSIG(status) ==
                    SIGKILL); /* it had not given up by itself: nothing was out of order there */
}

/* For a failure's message: did a child end by itself? */
static void show(void)
{
    int status = 0;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    print_message("ups=%u gones=%u expect=%llu wrong=%d ended child=%d status=%x\n", me.ups, me.gones,
                  (unsigned long long)me.expect, me.wrong, pid, status);
}

#define UNTIL(condition, limit_ms)                                 \
    do {                                                           \
        uint64_t begun_ = clock_mono_ms();                         \
        while (!(condition) && !pace_over(begun_, (limit_ms)))     \
            ring_turn(me.ring, 5);                                 \
        if (!(condition)) {                                        \
            show();                                                \
            fail_msg("not within %d ms: " #condition, (limit_ms)); \
        }                                                          \
    } while (0)

/* The link to the other side, asked for each time: one that was dropped for silence is freed by the bus. */
static struct bus_peer *you(void)
{
    struct bus_peer *p = bus_peer(me.bus, "you");
    if (p == NULL)
        fail_msg("the link is gone after %u heartbeats without a word", 0u + me.suspects);
    return p;
}

static void run_for(uint64_t ms)
{
    uint64_t end = clock_mono_ms() + ms;
    while (clock_mono_ms() < end)
        ring_turn(me.ring, 5);
}

static void send_number(struct bus_peer *p, uint64_t number, size_t n)
{
    char *at = bus_reserve(p, n);
    memset(at, 'x', n);
    memcpy(at, &number, 8);
    bus_commit(p, n);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/jd-bus-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
    char path[128];
    (void)state;
    for (const char *const *name = (const char *const[]){"me", "you", NULL}; *name != NULL; name++) {
        snprintf(path, sizeof path, "%s/%s", dir, *name);
        unlink(path);
    }
    return rmdir(dir);
}

static void test_order_once_and_back_pressure(void **state)
{
    pid_t pid = child("you", 22, path_of("you"), NULL, 0, NULL, NULL, true);
    uint64_t sent = 0, full = 0;
    struct bus_peer *p;
    (void)state;

    node_start(&me, "me", 11, path_of("me"), NULL, 64 << 10);
    p = bus_link(me.bus, "you", 22, path_of("you"), true);
    assert_ptr_equal(p, bus_link(me.bus, "you", 22, path_of("you"), true));
    assert_ptr_equal(p, bus_peer(me.bus, "you"));
    while (me.expect < 100000 && !me.wrong) {
        for (int i = 0; i < 50 && sent < 100000 && bus_ready(you()); i++) {
            send_number(you(), sent,
                        sent % 997 == 0 ? 200000 : 100 + sent % 200); /* some larger than is copied */
            sent++;
        }
        full += !bus_ready(you());
        ring_turn(me.ring, sent < 100000 && bus_ready(you()) ? 0 : 1000);
    }
    assert_false(me.wrong);
    assert_int_equal(me.expect, 100000);
    assert_true(full > 0 && me.rooms > 0);
    assert_int_equal(me.ups, 1);
    UNTIL(bus_is_idle(me.bus), 1000);
    end_child(pid);
    node_stop(&me);
}

/* Stopped long enough for a fresh connection, then on with the same incarnation. */
static void send_many(uint64_t *sent, unsigned count, unsigned per_turn)
{
    for (unsigned i = 0; i < count; i++) {
        send_number(you(), (*sent)++, 200);
        if (*sent % per_turn == 0)
            ring_turn(me.ring, 0);
    }
}

static void test_a_stopped_peer_goes_on(void **state)
{
    pid_t pid = child("you", 22, path_of("you"), "me", 11, NULL, NULL, true);
    uint64_t sent = 0;
    (void)state;

    node_start(&me, "me", 11, path_of("me"), NULL, 0);
    bus_link(me.bus, "you", 22, path_of("you"), true);
    for (int round = 0; round < 2; round++) {
        send_many(&sent, 1000, 10);
        kill(pid, SIGSTOP);
        send_many(&sent, 6000, 1); /* more messages than ZeroMQ takes */
        me.suspects = 0;
        run_for(round == 0 ? 8 * HEARTBEAT_MS : 60 * HEARTBEAT_MS);
        assert_true(me.suspects > 0);
        assert_int_equal(me.certain, 0);
        kill(pid, SIGCONT);
        UNTIL(me.expect == sent, 5000);
    }
    assert_false(me.wrong);
    assert_int_equal(me.ups, 1);
    assert_int_equal(me.gones, 0);
    end_child(pid);
    node_stop(&me);
}

static void kill_and_restart(bool we_dial)
{
    pid_t pid;
    struct bus_peer *p;
    uint64_t killed_ms;

    node_start(&me, "me", 11, path_of("me"), NULL, 0);
    pid = child("you", 22, path_of("you"), "me", 11, we_dial ? NULL : path_of("me"), NULL, true);
    p = bus_link(me.bus, "you", 22, path_of("you"), we_dial);
    UNTIL(me.ups == 1, 2000);
    for (uint64_t i = 0; i < 100; i++)
        send_number(p, i, 100);
    UNTIL(me.expect == 100, 2000);
    killed_ms = clock_mono_ms();
    end_child(pid);
    UNTIL(me.certain > 0, 1000);
    print_message("death certain after %llu ms\n", (unsigned long long)(me.certain_ms - killed_ms));
    assert_true(me.certain_ms - killed_ms < pace_limit_ms(200));
    assert_int_equal(me.gones, 0);
    send_number(p, 100, 100); /* for the dead: must not reach the next one */
    pid = child("you", 33, path_of("you"), "me", 11, we_dial ? NULL : path_of("me"), NULL, true);
    UNTIL(me.ups == 2, 3000);
    assert_int_equal(me.gones, 1);
    assert_int_equal(bus_peer_incarnation(me.peer), 33);
    p = bus_link(me.bus, "you", 33, path_of("you"), we_dial);
    assert_ptr_equal(p, me.peer);
    for (uint64_t i = 0; i < 100; i++)
        send_number(p, i, 100);
    UNTIL(me.expect == 100, 2000);
    assert_false(me.wrong);
    bus_unlink(me.bus, "you");
    assert_int_equal(me.gones, 2);
    assert_null(bus_peer(me.bus, "you"));
    end_child(pid);
    node_stop(&me);
}

static void test_killed_peer_that_we_dialed(void **state)
{
    (void)state;
    kill_and_restart(true);
}

static void test_killed_peer_that_dialed_us(void **state)
{
    (void)state;
    kill_and_restart(false);
}

static void test_strangers_may_dial_in_and_go(void **state)
{
    pid_t pid;
    (void)state;
    node_start(&me, "me", 11, path_of("me"), NULL, 0);
    pid = child("tool", 5, NULL, "me", 0, path_of("me"), NULL, true);
    UNTIL(me.ups == 1, 2000);
    assert_string_equal(bus_peer_name(me.peer), "tool");
    send_number(me.peer, 0, 100);
    UNTIL(me.expect == 1, 2000);
    end_child(pid);
    UNTIL(me.gones == 1, 2000);
    assert_int_equal(me.suspects, 0);
    node_stop(&me);
}

static void test_nobody_there_is_not_certain(void **state)
{
    pid_t pid;
    (void)state;
    node_start(&me, "me", 11, NULL, NULL, 0);
    assert_string_equal(bus_endpoint(me.bus), "");
    bus_link(me.bus, "you", 22, path_of("you"), true);
    run_for(300);
    assert_true(me.suspects > 0);
    assert_int_equal(me.certain, 0);
    pid = child("you", 22, path_of("you"), NULL, 0, NULL, NULL, true); /* it comes late */
    UNTIL(me.ups == 1, 3000);
    end_child(pid);
    node_stop(&me);
}

static void test_relinked_same_incarnation(void **state)
{
    struct bus_peer *p;
    pid_t pid;
    (void)state;
    node_start(&me, "me", 11, path_of("me"), NULL, 0);
    pid = child("you", 22, path_of("you"), "me", 11, path_of("me"), NULL, true);
    bus_link(me.bus, "you", 22, path_of("you"), false);
    UNTIL(me.ups == 1, 2000);
    send_number(me.peer, 0, 10);
    UNTIL(me.expect == 1, 2000);
    bus_unlink(me.bus, "you"); /* its lease ran out, … */
    run_for(10 * HEARTBEAT_MS);
    p = bus_link(me.bus, "you", 22, path_of("you"), false); /* … but it lived and is back */
    UNTIL(me.ups == 2, 2000);
    send_number(p, 0, 10);
    UNTIL(me.expect == 1, 2000);
    end_child(pid);
    node_stop(&me);
}

/* The other side forgets the link twice, and for a while wants an incarnation that is over: whoever dials
 * keeps trying, also with the object that followed the first one. */
static void test_forgotten_link_stays_wanted(void **state)
{
    pid_t pid;
    (void)state;
    node_start(&me, "me", 11, path_of("me"), NULL, 0);
    pid = child("you", 22, path_of("you"), "me", 11, path_of("me"), NULL, true);
    bus_link(me.bus, "you", 22, path_of("you"), false);
    UNTIL(me.ups == 1, 2000);
    bus_unlink(me.bus, "you");
    bus_link(me.bus, "you", 22, path_of("you"), false);
    UNTIL(me.ups == 2, 2000);
    bus_link(me.bus, "you", 21, path_of("you"), false); /* a list of members from before its restart */
    run_for(60 * HEARTBEAT_MS);
    bus_link(me.bus, "you", 22, path_of("you"), false);
    UNTIL(me.ups == 3, 3000);
    send_number(me.peer, 0, 10);
    UNTIL(me.expect == 1, 2000);
    end_child(pid);
    node_stop(&me);
}

static void curve(const char *mine, const char *theirs, bool works)
{
    char endpoint[64] = "", *error = NULL;
    int fd[2], attempts = 0;
    pid_t pid;

    (void)error;
    assert_int_equal(pipe(fd), 0);
    pid = fork();
    if (pid == 0) {
        struct node n;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        node_start(&n, "you", 22, "tcp://127.0.0.1:*", theirs, 0);
        n.echo = true;
        if (write(fd[1], bus_endpoint(n.bus), strlen(bus_endpoint(n.bus))) < 0)
            _exit(2);
        while (!n.wrong)
            ring_turn(n.ring, 1000);
        _exit(3);
    }
    assert_true(read(fd[0], endpoint, sizeof endpoint - 1) > 0);
    close(fd[0]);
    close(fd[1]);
    node_start(&me, "me", 11, "tcp://127.0.0.1:*", mine, 0);
    bus_link(me.bus, "you", 22, endpoint, true);
    while (me.ups == 0 && attempts++ < (works ? 1000 : 60))
        ring_turn(me.ring, 5);
    assert_int_equal(me.ups, works);
    if (works) {
        send_number(me.peer, 0, 1000);
        UNTIL(me.expect == 1, 2000);
    }
    end_child(pid);
    if (works)
        UNTIL(me.certain > 0, 1000);
    node_stop(&me);
}

static void test_tcp_and_curve(void **state)
{
    static const char secret[] = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"; /* the manual's examples */
    static const char other[] = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";
    (void)state;
    curve("", NULL, true);
    curve(secret, secret, true);
    curve(secret, other, false);
    curve(secret, "", false);
}

static void test_refusals_say_what_to_do(void **state)
{
    const char *why;
    char *error;
    struct bus_config config = {
        .name = "me", .incarnation = 1, .heartbeat_ms = 20, .listen = "ipc:///nowhere/x"};
    struct ring *ring = ring_new(0, &why);
    (void)state;
    assert_null(bus_new(ring, &config, &handler, NULL, &error));
    assert_non_null(strstr(error, "bus.listen"));
    free(error);
    config.curve_secret_key = "short";
    assert_null(bus_new(ring, &config, &handler, NULL, &error));
    assert_non_null(strstr(error, "bus.curve_secret_key"));
    free(error);
    ring_free(ring);
}

static void test_cost_per_frame(void **state)
{
    static const unsigned per_turn[] = {1, 16, 64};
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(per_turn); k++) {
        pid_t pid = child("you", 22, path_of("you"), NULL, 0, NULL, NULL, false);
        uint64_t sent = 0, total = per_turn[k] == 1 ? 20000 : 200000, before, mine, ask = UINT64_MAX;
        node_start(&me, "me", 11, path_of("me"), NULL, 0);
        bus_link(me.bus, "you", 22, path_of("you"), true);
        UNTIL(me.ups == 1, 2000);
        before = pace_cpu_ns();
        while (sent < total) {
            for (unsigned i = 0; i < per_turn[k] && sent < total; i++)
                send_number(you(), sent++, 300);
            ring_turn(me.ring, 0);
            while (!bus_ready(you()))
                ring_turn(me.ring, 1000);
        }
        bus_send(you(), span_make(&ask, 8));
        me.expect = 0;
        me.wrong = false;
        UNTIL(me.wrong, 5000); /* the answer is no number in order */
        mine = pace_cpu_ns() - before;
        print_message("%2u frames of 300 B per turn: sender %.2f us, receiver %.2f us CPU per frame\n",
                      per_turn[k], (double)mine / 1000 / (double)total,
                      (double)(me.expect - 1) / 1000 / (double)total);
        end_child(pid);
        node_stop(&me);
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_round_trip(void **state)
{
    static uint64_t took[2000];
    pid_t pid = child("you", 22, path_of("you"), "me", 11, NULL, NULL, true);
    uint64_t before;
    (void)state;

    node_start(&me, "me", 11, path_of("me"), NULL, 0);
    bus_link(me.bus, "you", 22, path_of("you"), true);
    UNTIL(me.ups == 1, 2000);
    before = pace_cpu_ns();
    me.took_ns = took;
    me.rounds = ARRAY_LEN(took);
    me.asked_ns = clock_mono_ns();
    send_number(you(), 0, 8);
    UNTIL(me.expect == ARRAY_LEN(took), 5000);
    before = pace_cpu_ns() - before;
    qsort(took, ARRAY_LEN(took), sizeof took[0], compare_u64);
    print_message("round trip p50 %.0f us, p99 %.0f us, CPU of one side %.0f us\n",
                  (double)took[ARRAY_LEN(took) / 2] / 1000, (double)took[ARRAY_LEN(took) * 99 / 100] / 1000,
                  (double)before / 1000 / ARRAY_LEN(took));
    end_child(pid);
    node_stop(&me);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int run(const char *name, bool here, bool there)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order_once_and_back_pressure), TEST(test_a_stopped_peer_goes_on),
        TEST(test_killed_peer_that_we_dialed),   TEST(test_killed_peer_that_dialed_us),
        TEST(test_strangers_may_dial_in_and_go), TEST(test_nobody_there_is_not_certain),
        TEST(test_relinked_same_incarnation),    TEST(test_forgotten_link_stays_wanted),
    };
    const struct CMUnitTest measurements[] = {
        TEST(test_cost_per_frame),
        TEST(test_round_trip),
    };

    libzmq_here = here;
    libzmq_there = there;
    int failed = cmocka_run_group_tests_name(name, tests, NULL, NULL);
    if (!PACE_SANITIZED)
        failed += cmocka_run_group_tests_name(name, measurements, NULL, NULL);
    return failed;
}

int main(void)
{
    const struct CMUnitTest once[] = {
        TEST(test_tcp_and_curve),
        TEST(test_refusals_say_what_to_do),
    };

    if (getenv("JD_TEST_DEBUG") != NULL)
        log_set_level(LOG_LEVEL_DEBUG);
    return run("the loop on both sides", false, false) + run("libzmq there", false, true) +
           run("libzmq here", true, false) + run("libzmq on both sides", true, true) +
           cmocka_run_group_tests_name("once", once, NULL, NULL);
}
