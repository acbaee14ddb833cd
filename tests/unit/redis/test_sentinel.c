/* Three Sentinels, a master and a replica: the master is found through them, and its successor when it dies.
 */
#include "tests/unit/redis/group.h"
#include "tests/unit/redis/load.h"

static struct group group;
static char url[160];

static int setup(void **state)
{
    (void)state;
    group_new(&group);
    const char *const none[] = {"--repl-diskless-sync-delay", "0", NULL};
    struct member *master = group_add(&group, none);
    cli_until(master->port, "PING", "PONG");
    const char *const replica[] = {
        "--replicaof", "127.0.0.1", text_of(master->port), "--repl-diskless-sync-delay", "0", NULL};
    cli_until(group_add(&group, replica)->port, "INFO replication", "master_link_status:up");
    unsigned ports[3];
    for (unsigned i = 0; i < 3; i++)
        ports[i] = group_add_sentinel(&group, master->port)->port;
    for (unsigned i = 0; i < 3; i++)
        cli_until(ports[i], "SENTINEL CKQUORUM shop", "OK 3");
    cli_until(ports[0], "SENTINEL REPLICAS shop", "127.0.0.1");
    /* The first address answers nothing: it is passed over. */
    snprintf(url, sizeof(url), "redis+sentinel://127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u/shop", free_port(),
             ports[1], ports[2]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    group_free(&group);
    return 0;
}

static void test_unknown_master(void **state)
{
    (void)state;
    struct client c = {0};
    char wrong[192];
    snprintf(wrong, sizeof(wrong), "%s-not", url);
    client_new(&c, wrong, 500);
    client_turn(&c, 400);
    assert_int_equal(c.ups, 0);
    assert_true(strlen(redis_reason(c.redis)) > 0);
    client_free(&c);
}

/* The master dies under load: its successor has all that was acknowledged (WAIT 1), the functions too, and
 * counts only when it has a replica itself. */
static void test_failover(void **state)
{
    (void)state;
    struct load l;
    struct member *old = &group.members[0], *successor = &group.members[1];
    load_new(&l, "sentinel.example", url, 1000, 1);
    load_progress(&l, 20, 5000);
    member_kill(old);
    uint64_t began = clock_mono_ms();
    while (strstr(cli(successor->port, "ROLE"), "master") == NULL && clock_mono_ms() - began < 15000)
        load_run(&l, 50);
    print_message("failover in %u ms\n", (unsigned)(clock_mono_ms() - began));
    while (strstr(redis_reason(l.c.redis), "wait_replicas") == NULL && clock_mono_ms() - began < 15000)
        load_run(&l, 50);
    assert_non_null(strstr(redis_reason(l.c.redis), "wait_replicas"));
    assert_false(redis_is_up(l.c.redis));
    member_start(old); /* the Sentinels make a replica of it */
    load_progress(&l, 20, 20000);
    assert_int_equal(l.c.downs, 1);
    load_end(&l);
}

/* The master hangs: it is left for its successor, and when it awakes it does not get the writes back. */
static void test_hanging_master(void **state)
{
    (void)state;
    struct load l;
    struct member *hanging = &group.members[1], *successor = &group.members[0];
    cli_until(successor->port, "INFO replication", "master_link_status:up");
    cli_until(group.members[2].port, "SENTINEL REPLICAS shop", "master-link-status\nok");
    load_new(&l, "hanging.example", url, 500, 0);
    load_progress(&l, 20, 5000);
    usleep(50000); /* what is acknowledged has reached the replica */
    kill(hanging->pid, SIGSTOP);
    uint64_t began = clock_mono_ms();
    while (strstr(cli(successor->port, "ROLE"), "master") == NULL && clock_mono_ms() - began < 15000)
        load_run(&l, 50);
    print_message("failover in %u ms\n", (unsigned)(clock_mono_ms() - began));
    load_progress(&l, 20, 5000);
    kill(hanging->pid, SIGCONT);
    load_run(&l, 1500);
    load_progress(&l, 20, 5000);
    load_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_master),
        cmocka_unit_test(test_failover),
        cmocka_unit_test(test_hanging_master),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
