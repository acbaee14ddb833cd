/* One Redis that is away for a while in every way, under load: hanging for ten seconds, killed, full. */
#include "tests/unit/redis/load.h"

static int setup(void **state)
{
    struct server *s = calloc(1, sizeof(*s));
    s->extra[0] = "--appendonly";
    s->extra[1] = "yes";
    /* everysec holds back what it has acknowledged while a slow fsync is under way */
    s->extra[2] = "--appendfsync";
    s->extra[3] = "no";
    server_new(s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    server_free(*state);
    free(*state);
    return 0;
}

static void test_hangs(void **state)
{
    struct server *s = *state;
    struct load l;
    load_new(&l, "hangs.example", s->url, 1000, 0);
    load_progress(&l, 20, 5000);
    kill(s->pid, SIGSTOP);
    load_run(&l, 10000);
    assert_false(redis_is_up(l.c.redis));
    assert_non_null(strstr(redis_reason(l.c.redis), "for 1000 ms"));
    kill(s->pid, SIGCONT);
    load_progress(&l, 20, 5000);
    assert_int_equal(l.c.downs, 1);
    assert_true(l.lost >= LOAD_USERS); /* and not refused, nor silent */
    load_end(&l);
}

/* What Redis finds in the socket of a connection that was given up must not undo what came later. */
static void test_ghost(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    enum { N = 3000 };
    char *big = malloc(N + 1);
    memset(big, 'x', N);
    big[N] = '\0';
    client_new(&c, s->url, 300);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    kill(s->pid, SIGSTOP);
    for (unsigned i = 0; i < 50; i++) /* more than Redis reads from one connection at a time, and slow */
        redis_send(c.redis, SPAN("k"), NULL, NULL, SPAN("EVAL"), SPAN("for i = 1, 1e6 do end"), SPAN("0"),
                   span_of(big));
    redis_send(c.redis, SPAN("k"), NULL, NULL, SPAN("SET"), SPAN("k"), SPAN("old"));
    assert_true(client_wait(&c, &c.downs, 1, 2000));
    kill(s->pid, SIGCONT);
    assert_true(client_wait(&c, &c.ups, 2, 5000));
    assert_string_equal(ask(&c, "SET k new"), "\"OK\"");
    client_turn(&c, 300);
    assert_string_equal(ask(&c, "GET k"), "\"new\"");
    free(big);
    client_free(&c);
}

static void test_killed(void **state)
{
    struct server *s = *state;
    struct load l;
    load_new(&l, "killed.example", s->url, 1000, 0);
    for (unsigned i = 0; i < 3; i++) {
        load_progress(&l, 20, 5000);
        server_stop(s, SIGKILL);
        load_run(&l, 200);
        assert_false(redis_is_up(l.c.redis));
        server_start(s);
    }
    load_progress(&l, 20, 5000);
    assert_int_equal(l.c.downs, 3);
    load_end(&l);
}

/* Full: every write that adds says so, everything else goes on, also for who connects then. */
static void test_full(void **state)
{
    struct server *s = *state;
    struct load l;
    struct client late = {0};
    load_new(&l, "full.example", s->url, 1000, 0);
    load_progress(&l, 20, 5000);
    assert_string_equal(ask(&l.c, "CONFIG SET maxmemory-policy noeviction"), "\"OK\"");
    assert_string_equal(ask(&l.c, "CONFIG SET maxmemory 1"), "\"OK\"");
    load_run(&l, 500);
    assert_true(redis_is_up(l.c.redis));
    assert_memory_equal(l.why, "OOM", 3);
    assert_true(l.refused > 0);
    load_drain(&l); /* what is under way when there is room again would leave a hole behind it */
    client_new(&late, s->url, 1000);
    assert_true(client_wait(&late, &late.ups, 1, 5000));
    assert_string_equal(ask(&late, "FCALL jd_ready 0"), "\"ready\"");
    assert_string_equal(ask(&late, "FCALL jd_present 1 jd:{slot-1}:present romeo@a 1:r:1"), "1");
    client_free(&late);
    char command[160];
    snprintf(command, sizeof(command), "redis-cli -s %s/redis.sock CONFIG SET maxmemory 0 >/dev/null",
             s->dir);
    assert_int_equal(system(command), 0);
    load_forgive(&l);
    load_progress(&l, 20, 5000);
    load_end(&l);
}

/* redis.wait_replicas without replicas: never up, and it says why. */
static void test_no_replicas(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    client_open(&c, &(struct redis_config){s->url, 400, 1});
    client_turn(&c, 1200);
    assert_int_equal(c.ups, 0);
    assert_non_null(strstr(redis_reason(c.redis), "redis.wait_replicas wants 1"));
    client_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hangs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ghost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_replicas, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
