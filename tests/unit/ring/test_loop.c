/* Turns, timers, hooks, stop and wake-up, refusal of io_uring, addresses. */
#include "ring_fixture.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static unsigned fired;
static char order[64];

static void note_fire(struct timer *t, uint64_t now_ms)
{
    assert_true(now_ms >= t->deadline_ms);
    assert_true(ring_now_ms(ring) == now_ms);
    fired++;
}

static void timers_end_the_sleep(void **state)
{
    struct timer t = {.fire = note_fire}, never = {.fire = note_fire};
    uint64_t start = clock_mono_ms();

    (void)state;
    fired = 0;
    ring_timer_set(ring, &t, 30);
    ring_timer_set(ring, &never, UINT64_MAX);
    TURN_UNTIL(fired == 1);
    assert_in_range(clock_mono_ms() - start, 30, 1000);
    ring_timer_set(ring, &t, 0);
    ring_timer_clear(ring, &t);
    ring_turn(ring, 1);
    ring_turn(ring, 1);
    assert_int_equal(fired, 1);
    ring_timer_clear(ring, &never);
}

struct named_hook {
    struct ring_hook hook;
    char name;
    struct named_hook *removes;
};

static void note_hook(struct ring_hook *hook)
{
    struct named_hook *h = CONTAINER_OF(hook, struct named_hook, hook);

    order[strlen(order)] = h->name;
    if (h->removes != NULL)
        ring_hook_del(ring, &h->removes->hook);
}

static void hooks_run_once_per_turn_in_order(void **state)
{
    struct named_hook a = {{.run = note_hook}, 'a', NULL}, b = {{.run = note_hook}, 'b', NULL},
                      c = {{.run = note_hook}, 'c', NULL};

    (void)state;
    memset(order, 0, sizeof(order));
    ring_hook_del(ring, &a.hook); /* never added: harmless */
    ring_hook_add(ring, &a.hook);
    ring_hook_add(ring, &b.hook);
    ring_hook_add(ring, &c.hook);
    ring_turn(ring, 0);
    ring_turn(ring, 0);
    assert_string_equal(order, "abcabc");
    memset(order, 0, sizeof(order));
    a.removes = &b;
    c.removes = &c;
    ring_turn(ring, 0);
    ring_turn(ring, 0);
    assert_string_equal(order, "aca");
    ring_hook_del(ring, &a.hook);
}

static unsigned turns_left;

static void count_down(struct ring_hook *hook)
{
    (void)hook;
    if (--turns_left == 0)
        ring_stop(ring);
    else
        ring_again(ring);
}

static void again_skips_the_sleep(void **state)
{
    struct ring_hook hook = {.run = count_down};
    uint64_t start = clock_mono_ms();

    (void)state;
    turns_left = 50;
    ring_hook_add(ring, &hook);
    ring_run(ring);
    assert_int_equal(turns_left, 0);
    assert_true(clock_mono_ms() - start < 1000);
    ring_hook_del(ring, &hook);
}

static void stop_on_alarm(int signal_number)
{
    (void)signal_number;
    ring_stop(ring);
}

static void stop_works_from_a_signal_handler(void **state)
{
    struct sigaction action = {.sa_handler = stop_on_alarm, .sa_flags = SA_RESTART};
    struct itimerval in_20_ms = {.it_value = {0, 20000}};

    (void)state;
    sigaction(SIGALRM, &action, NULL);
    for (int i = 0; i < 3; i++) {
        setitimer(ITIMER_REAL, &in_20_ms, NULL);
        ring_run(ring);
    }
    signal(SIGALRM, SIG_DFL);
    ring_stop(ring); /* before the run: one turn and out */
    ring_run(ring);
}

static void *stop_from_thread(void *arg)
{
    (void)arg;
    usleep(20000);
    ring_stop(ring);
    return NULL;
}

static void stop_works_from_a_thread(void **state)
{
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, stop_from_thread, NULL), 0);
    ring_run(ring);
    pthread_join(thread, NULL);
}

/* In a child: io_uring_setup answers `error`, as a container's seccomp profile or the sysctl has it. Exit
 * code 0 when ring_new refuses with the words. */
static void child_without_io_uring(int error, const char *words)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & SECCOMP_RET_DATA)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(code), code};
    const char *why = NULL;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
    if (freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    _exit(ring_new(0, &why) == NULL && why != NULL && strstr(why, words) != NULL ? 0 : 1);
}

static void refusal_says_what_to_do(void **state)
{
    static const struct {
        int error;
        const char *words;
    } cases[] = {{ENOSYS, "seccomp"},      {EPERM, "kernel.io_uring_disabled"},
                 {ENOMEM, "LimitMEMLOCK"}, {EMFILE, "LimitNOFILE"},
                 {EINVAL, "too old"},      {EIO, "log line"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            child_without_io_uring(cases[i].error, cases[i].words);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
            skip();
        if (WEXITSTATUS(status) != 0)
            fail_msg("errno %d: exit code %d", cases[i].error, WEXITSTATUS(status));
    }
}

static void addresses_are_parsed(void **state)
{
    static const char *const bad[] = {"",        "1.2.3.4",    "1.2.3.4:",      "1.2.3.4:65536", "1.2.3.4:x",
                                      ":5222",   "host:5222",  "::1:5222",      "[::1]",         "[::1:5222",
                                      "[]:5222", "1.2.3:5222", "[1.2.3.4]:5222"};
    struct sockaddr_storage out;

    (void)state;
    assert_int_equal(ring_address("127.0.0.1:5222", &out), sizeof(struct sockaddr_in));
    assert_int_equal(((struct sockaddr_in *)&out)->sin_port, htons(5222));
    assert_int_equal(((struct sockaddr_in *)&out)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(ring_address("[::1]:0", &out), sizeof(struct sockaddr_in6));
    assert_memory_equal(&((struct sockaddr_in6 *)&out)->sin6_addr, &in6addr_loopback, 16);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (ring_address(bad[i], &out) != 0)
            fail_msg("accepted \"%s\"", bad[i]);
    }
    assert_int_equal(ring_listen("nowhere", false), -EINVAL);
}

static void ports_can_be_shared(void **state)
{
    struct sockaddr_in addr;
    socklen_t n = sizeof(addr);
    char text[32];
    int a = ring_listen("127.0.0.1:0", true), b;

    (void)state;
    assert_true(a >= 0);
    assert_int_equal(getsockname(a, (struct sockaddr *)&addr, &n), 0);
    snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(addr.sin_port));
    b = ring_listen(text, true);
    assert_true(b >= 0);
    assert_int_equal(ring_listen(text, false), -EADDRINUSE);
    close(a);
    close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(timers_end_the_sleep),
        BOTH(hooks_run_once_per_turn_in_order),
        BOTH(again_skips_the_sleep),
        BOTH(stop_works_from_a_signal_handler),
        BOTH(stop_works_from_a_thread),
        cmocka_unit_test(refusal_says_what_to_do),
        cmocka_unit_test(addresses_are_parsed),
        cmocka_unit_test(ports_can_be_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
