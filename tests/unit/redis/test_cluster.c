/* A Redis Cluster of three masters and three replicas: keys find their masters while slots move under load
 * and masters die, in order, and nothing that was acknowledged is lost. One cluster serves all tests in turn.
 */
#include "common/redis/account.h"
#include "common/redis/slots.h"
#include "tests/unit/redis/group.h"
#include "tests/unit/redis/load.h"

enum { MASTERS = 3, TIMEOUT_MS = 1000 };

static struct group cluster;
static char url[96];

static int setup(void **state)
{
    (void)state;
    char words[160];
    group_new(&cluster);
    for (unsigned i = 0; i < 2 * MASTERS; i++) {
        const char *const extra[] = {"--cluster-enabled",
                                     "yes",
                                     "--cluster-node-timeout",
                                     "800",
                                     "--cluster-port",
                                     text_of(free_port()),
                                     "--cluster-replica-validity-factor",
                                     "0",
                                     "--repl-diskless-sync-delay",
                                     "0",
                                     NULL};
        group_add(&cluster, extra);
    }
    struct member *m = cluster.members;
    for (unsigned i = 0; i < cluster.count; i++) {
        cli_until(m[i].port, "PING", "PONG");
        snprintf(words, sizeof(words), "CLUSTER SET-CONFIG-EPOCH %u", i + 1);
        cli(m[i].port, words);
    }
    for (unsigned i = 0; i < MASTERS; i++) {
        snprintf(words, sizeof(words), "CLUSTER ADDSLOTSRANGE %u %u", i * REDIS_SLOTS / MASTERS,
                 (i + 1) * REDIS_SLOTS / MASTERS - 1);
        assert_string_equal(cli(m[i].port, words), "OK");
    }
    for (unsigned i = 1; i < cluster.count; i++) {
        snprintf(words, sizeof(words), "CLUSTER MEET 127.0.0.1 %u %s", m[i].port, m[i].argv[18]);
        assert_string_equal(cli(m[0].port, words), "OK");
    }
    for (unsigned i = 0; i < MASTERS; i++) {
        char id[64];
        snprintf(id, sizeof(id), "%s", cli(m[i].port, "CLUSTER MYID"));
        cli_until(m[MASTERS + i].port, "CLUSTER NODES", id);
        snprintf(words, sizeof(words), "CLUSTER REPLICATE %s", id);
        assert_string_equal(cli(m[MASTERS + i].port, words), "OK");
    }
    for (unsigned i = 0; i < MASTERS; i++) {
        cli_until(m[MASTERS + i].port, "INFO replication", "master_link_status:up");
        cli_until(m[i].port, "CLUSTER INFO", "cluster_state:ok");
    }
    snprintf(url, sizeof(url), "redis+cluster://127.0.0.1:%u,127.0.0.1:%u", m[0].port, m[4].port);
    return 0;
}

/* Otherwise it is Redis's own affair that follows. */
static void cluster_is_well(void)
{
    for (unsigned i = 0; i < cluster.count; i++) {
        for (unsigned tries = 0;
             strstr(cli(cluster.members[i].port, "CLUSTER INFO"), "cluster_state:ok") == NULL; tries++) {
            if (tries == 100) {
                print_message("%s\n", cli(cluster.members[i].port, "CLUSTER NODES"));
                fail_msg("member %u: %s", i, cli(cluster.members[i].port, "CLUSTER INFO"));
            }
            usleep(50000);
        }
    }
}

static int teardown(void **state)
{
    (void)state;
    group_free(&cluster);
    return 0;
}

static unsigned found_count;

static void on_found(struct account_scan *scan, struct span jid)
{
    (void)scan;
    (void)jid;
    found_count++;
}

static void on_done(struct account_scan *scan, enum account_status status)
{
    *(unsigned *)scan->ctx = 1 + (unsigned)status;
}

static void on_created(struct account_call *call, enum account_status status, const struct account *account)
{
    (void)account;
    assert_int_equal(status, ACCOUNT_OK);
    (*(unsigned *)call->ctx)++;
}

/* Keys everywhere, functions everywhere, a walk over all masters. */
static void test_spread(void **state)
{
    (void)state;
    enum { N = 100 };
    struct client c = {0};
    client_new(&c, url, TIMEOUT_MS);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    struct account_call calls[N] = {0};
    unsigned created = 0, nodes = 0, done = 0;
    for (unsigned i = 0; i < N; i++) {
        char jid[32];
        snprintf(jid, sizeof(jid), "a%u@example.net", i);
        calls[i].ctx = &created;
        account_create(c.redis, span_of(jid), &(struct sasl_keys){0}, false, &calls[i], on_created);
    }
    assert_true(client_wait(&c, &created, N, 5000));
    for (unsigned node = redis_node_next(c.redis, 0); node != 0; node = redis_node_next(c.redis, node)) {
        struct answer a = {0}, size = {0};
        redis_node_command(c.redis, node, 3, (struct span[]){SPAN("FCALL"), SPAN("jd_ready"), SPAN("0")},
                           answer_take, &a);
        redis_node_command(c.redis, node, 1, (struct span[]){SPAN("DBSIZE")}, answer_take, &size);
        assert_true(client_wait(&c, &size.came, 1, 2000));
        assert_string_equal(buf_cstr(&a.text), "\"ready\"");
        assert_true(strcmp(buf_cstr(&size.text), "9") > 0 || size.text.n == 2); /* some tens */
        buf_free(&a.text);
        buf_free(&size.text);
        nodes++;
    }
    assert_int_equal(nodes, MASTERS);
    struct account_scan scan = {.found = on_found, .done = on_done, .ctx = &done};
    found_count = 0;
    account_scan(c.redis, SPAN("example.net"), &scan);
    assert_true(client_wait(&c, &done, 1, 5000));
    assert_int_equal(done, 1 + ACCOUNT_OK);
    assert_int_equal(found_count, N);
    assert_string_equal(ask(&c, "PING"), "\"PONG\""); /* without a key: anywhere */
    assert_int_equal(c.downs, 0);
    client_free(&c);
}

static unsigned fresh, epochs;

static void on_epoch(void *ctx, struct span message)
{
    (void)ctx;
    if (message.n == 0)
        fresh++;
    else
        epochs++;
}

/* What a function publishes on the members' master is heard through whichever node. */
static void test_members_and_messages(void **state)
{
    (void)state;
    struct client c = {0};
    struct answer a = {0};
    client_new(&c, url, TIMEOUT_MS);
    redis_subscribe(c.redis, SPAN("jd:epoch"), on_epoch, NULL);
    assert_true(client_wait(&c, &fresh, 1, 5000));
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    redis_send(c.redis, KEY_CLUSTER, answer_take, &a, SPAN("FCALL"), SPAN("jd_member_renew"), KEYS_CLUSTER,
               SPAN("router-1"), SPAN("1"), SPAN("router"), SPAN("ipc://x"), SPAN(""), SPAN("0"),
               SPAN("3000"), SPAN("0"));
    assert_true(client_wait(&c, &a.came, 1, 2000));
    assert_non_null(strstr(buf_cstr(&a.text), "\"joined\""));
    assert_true(client_wait(&c, &epochs, 1, 2000));
    buf_free(&a.text);
    client_free(&c);
}

/* Four hundred slots go from the first master to the second while all are being written to. */
static void test_slots_move(void **state)
{
    (void)state;
    struct load l;
    char from[64], to[64], command[400];
    struct member *m = cluster.members;
    snprintf(from, sizeof(from), "%s", cli(m[0].port, "CLUSTER MYID"));
    snprintf(to, sizeof(to), "%s", cli(m[1].port, "CLUSTER MYID"));
    load_new(&l, "move.example", url, TIMEOUT_MS, 0);
    load_progress(&l, 20, 5000);
    snprintf(command, sizeof(command),
             "redis-cli --cluster reshard 127.0.0.1:%u --cluster-from %s --cluster-to %s --cluster-slots "
             "1500 --cluster-yes >/dev/null 2>%s/reshard",
             m[0].port, from, to, cluster.dir);
    pid_t child = fork();
    if (child == 0)
        _exit(system(command) == 0 ? 0 : 1);
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0)
        load_run(&l, 20);
    assert_int_equal(status, 0);
    load_progress(&l, 20, 5000);
    assert_int_equal(l.c.downs, 0);
    assert_int_equal(l.lost, 0); /* moving is nobody's business */
    load_end(&l);
}

/* The second master dies, its replica takes over; the dead one comes back as a replica. With WAIT nothing
 * that was acknowledged is lost. */
static void test_master_killed(void **state)
{
    (void)state;
    struct load l;
    struct member *m = cluster.members;
    load_new(&l, "kill.example", url, TIMEOUT_MS, 1);
    load_progress(&l, 20, 5000);
    member_kill(&m[1]);
    uint64_t began = clock_mono_ms();
    while (strstr(cli(m[4].port, "ROLE"), "master") == NULL && clock_mono_ms() - began < 10000)
        load_run(&l, 50);
    print_message("failover in %u ms\n", (unsigned)(clock_mono_ms() - began));
    load_run(&l, 500); /* this one lacks a replica now */
    member_start(&m[1]);
    cli_until(m[1].port, "INFO replication", "master_link_status:up");
    cluster_is_well();
    load_progress(&l, 20, 8000);
    load_end(&l);
}

/* The same without WAIT, while the load goes on: every callback comes, the order stands, all goes on. */
static void test_master_killed_under_load(void **state)
{
    (void)state;
    struct load l;
    struct member *m = cluster.members;
    load_new(&l, "again.example", url, TIMEOUT_MS, 0);
    load_progress(&l, 20, 5000);
    usleep(50000); /* what is acknowledged has reached the replica */
    member_kill(&m[2]);
    load_run(&l, 200);
    load_progress(&l, 20, 8000);
    load_end(&l);
    member_start(&m[2]);
    cli_until(m[2].port, "INFO replication", "master_link_status:up");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_members_and_messages),
        cmocka_unit_test(test_slots_move),
        cmocka_unit_test(test_master_killed),
        cmocka_unit_test(test_master_killed_under_load),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
