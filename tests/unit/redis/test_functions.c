/* functions.lua on a real server: claims and fences, membership, what one jd_apply costs. */
#include <sys/resource.h>
#include <time.h>

#include "common/redis/functions.h"
#include "common/redis/keys.h"
#include "tests/unit/redis/server.h"

struct world {
    struct server server;
    struct client c;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    server_new(&w->server);
    client_new(&w->c, w->server.url, 2000);
    assert_true(client_wait(&w->c, &w->c.ups, 1, 5000));
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    client_free(&w->c);
    server_free(&w->server);
    free(w);
    return 0;
}

static void test_embedded_is_the_file(void **state)
{
    (void)state;
    FILE *f = fopen("common/redis/functions.lua", "r");
    assert_non_null(f);
    struct buf text = {0};
    text.n = fread(buf_reserve(&text, 1 << 20), 1, 1 << 20, f);
    fclose(f);
    if (strcmp(buf_cstr(&text), redis_functions_lua) != 0)
        fail_msg("functions.c is not made from functions.lua: run common/redis/functions.sh");
    buf_free(&text);
}

#define SIX "6 u:{a@b}:owner u:{a@b}:account u:{a@b}:roster u:{a@b}:sessions u:{a@b}:mailbox u:{a@b}:meta"

static void test_claim(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 5 router-1 11"), "[0 [] [] [] 0 \"0-0\" \"\"]");
    ask(c, "HSET u:{a@b}:account scram x");
    ask(c, "HSET u:{a@b}:roster r@b item");
    ask(c, "HSET u:{a@b}:sessions s1 rec");
    ask(c, "HSET u:{a@b}:meta m 1");
    ask(c, "XADD u:{a@b}:mailbox 7-1 d x");
    ask(c, "XADD u:{a@b}:mailbox 7-2 d x");
    ask(c, "XDEL u:{a@b}:mailbox 7-2");
    const char *all = "[1 [\"r@b\" \"item\"] [\"s1\" \"rec\"] [\"m\" \"1\"] 1 \"7-2\" \"5:router-1:11\"]";
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 5 router-1 11"), all); /* a retry */
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 5 router-2 22"), "-STALE 5");
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 4 router-2 22"), "-STALE 5");
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 6 router-2 22"), all);
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 5 router-1 11"), "-STALE 6");
    /* Given up: the epoch stays, so the same epoch may claim and an older one may not. */
    assert_string_equal(ask(c, "FCALL jd_release 1 u:{a@b}:owner 5:router-1:11"), "0");
    assert_string_equal(ask(c, "FCALL jd_release 1 u:{a@b}:owner 6:router-2:22"), "1");
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 5 router-1 11"), "-STALE 6");
    assert_non_null(strstr(ask(c, "FCALL jd_claim " SIX " 6 router-3 33"), "\"6:\"]"));
    /* A stream emptied by XTRIM still knows its last id. */
    ask(c, "XTRIM u:{a@b}:mailbox MAXLEN 0");
    assert_non_null(strstr(ask(c, "FCALL jd_claim " SIX " 6 router-3 33"), " 0 \"7-2\" "));
    assert_non_null(strstr(ask(c, "FCALL jd_claim " SIX " x router-3 33"), "-REFUSED"));
}

#define APPLY "FCALL jd_apply 1 u:{a@b}:owner "

static void test_apply(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    const char *fenced = "-FENCED the claim is not (or no longer) yours";
    assert_string_equal(ask(c, APPLY "5:r:1 3 DEL u:{a@b}:meta"), fenced); /* never claimed */
    ask(c, "FCALL jd_claim " SIX " 5 r 1");
    assert_string_equal(ask(c, APPLY "5:r:1"), "[]");
    assert_string_equal(ask(c, APPLY "5:r:1 5 XADD u:{a@b}:mailbox 9-1 d one 6 HSET u:{a@b}:meta a 1 b 2 "
                                     "3 HINCRBY u:{a@b}:meta"),
                        "-REFUSED wrong count of arguments");
    assert_string_equal(ask(c, "EXISTS u:{a@b}:mailbox u:{a@b}:meta"), "0"); /* nothing was done */
    assert_string_equal(ask(c, APPLY "5:r:1 5 XADD u:{a@b}:mailbox 9-1 d one 6 HSET u:{a@b}:meta a 1 b 2 "
                                     "4 HINCRBY u:{a@b}:meta a 41"),
                        "[\"9-1\" 2 42]");
    /* A failing command is its own result, the rest is done. */
    assert_string_equal(ask(c, APPLY "5:r:1 4 HSET u:{a@b}:mailbox a 1 4 HSET u:{a@b}:meta c 3"),
                        "[-WRONGTYPE Operation against a key holding the wrong kind of value 1]");
    assert_string_equal(ask(c, APPLY "5:r:1 3 GET u:{a@b}:meta"), "-REFUSED wrong count of arguments");
    assert_string_equal(ask(c, APPLY "5:r:1 2 GET u:{a@b}:meta"), "-REFUSED command GET");
    assert_string_equal(ask(c, APPLY "5:r:1 1 FLUSHALL"), "-REFUSED wrong count of arguments");
    assert_string_equal(ask(c, APPLY "5:r:1 2 FLUSHALL u:{a@b}:meta"), "-REFUSED command FLUSHALL");
    assert_string_equal(ask(c, APPLY "5:r:1 4 HSET u:{x@b}:meta a 1"),
                        "-REFUSED somebody else's key in HSET");
    assert_string_equal(ask(c, APPLY "5:r:1 3 DEL u:{a@b}:meta u:{x@b}:meta"),
                        "-REFUSED somebody else's key in DEL");
    assert_string_equal(ask(c, APPLY "5:r:1 -1 DEL u:{a@b}:meta"), "-REFUSED wrong count of arguments");
    assert_string_equal(ask(c, APPLY "5:r:1 3 DEL u:{a@b}:meta u:{a@b}:roster"), "[1]");
    /* Another one takes over: every later write of the old owner is refused. */
    ask(c, "FCALL jd_claim " SIX " 6 q 2");
    assert_string_equal(ask(c, APPLY "5:r:1 4 HSET u:{a@b}:meta a 1"), fenced);
    assert_string_equal(ask(c, APPLY "6:q:2 4 HSET u:{a@b}:meta a 1"), "[1]");
    assert_string_equal(ask(c, APPLY "6:q:2 5 SET u:{a@b}:x y PX 100000 3 EXPIRE u:{a@b}:x 100"),
                        "[\"OK\" 1]");
}

static void test_accounts(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    const char *put = "FCALL jd_account_put 1 u:{a@b}:account";
    assert_string_equal(ask(c, "%s update scram x", put), "0");
    assert_string_equal(ask(c, "%s create scram x created 1", put), "1");
    assert_string_equal(ask(c, "%s create scram y", put), "0");
    assert_string_equal(ask(c, "%s update disabled 1", put), "1");
    assert_string_equal(ask(c, "HGET u:{a@b}:account scram"), "\"x\"");
    assert_string_equal(ask(c, "%s replace scram z", put), "1");
    assert_string_equal(ask(c, "HGETALL u:{a@b}:account"), "[\"scram\" \"z\"]");
    ask(c, "FCALL jd_claim " SIX " 5 r 1");
    ask(c, "FCALL jd_apply 1 u:{a@b}:owner 5:r:1 5 XADD u:{a@b}:mailbox * d x");
    assert_string_equal(ask(c, "FCALL jd_account_delete " SIX), "1");
    assert_string_equal(ask(c, "FCALL jd_account_delete " SIX), "0");
    assert_string_equal(ask(c, "KEYS u:*"), "[\"u:{a@b}:owner\"]");
    assert_non_null(strstr(ask(c, "FCALL jd_apply 1 u:{a@b}:owner 5:r:1 3 DEL u:{a@b}:meta"), "FENCED"));
    assert_string_equal(ask(c, "FCALL jd_claim " SIX " 5 r 1"), "[0 [] [] [] 0 \"0-0\" \"5:\"]");
}

#define FOUR "4 jd:{cluster}:members jd:{cluster}:leases jd:{cluster}:epoch jd:{cluster}:suspects "

/* Takes epoch and outcome out of the answer and counts the nodes. */
static unsigned epoch_of(const char *answer, unsigned *nodes, char outcome[16])
{
    unsigned epoch = 0;
    assert_int_equal(sscanf(answer, "[%u", &epoch), 1);
    const char *last = strrchr(answer, ' ');
    assert_int_equal(sscanf(last, " \"%15[a-z]\"", outcome), 1);
    *nodes = 0;
    for (const char *p = answer; (p = strstr(p, "[\"")) != NULL; p++)
        ++*nodes;
    return epoch;
}

static unsigned renew(struct client *c, const char *name, const char *incarnation, unsigned lease_ms,
                      unsigned known, const char *wanted, unsigned nodes_wanted)
{
    char outcome[16];
    unsigned nodes;
    unsigned epoch = epoch_of(ask(c, "FCALL jd_member_renew " FOUR "%s %s router ipc:///%s '' 0 %u %u", name,
                                  incarnation, name, lease_ms, known),
                              &nodes, outcome);
    assert_string_equal(outcome, wanted);
    assert_int_equal(nodes, nodes_wanted);
    return epoch;
}

static unsigned dead(struct client *c, const char *args, unsigned known, const char *wanted)
{
    char outcome[16];
    unsigned nodes;
    unsigned epoch = epoch_of(ask(c, "FCALL jd_member_dead " FOUR "%s %u", args, known), &nodes, outcome);
    assert_string_equal(outcome, wanted);
    return epoch;
}

static void test_membership(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    unsigned nodes;
    char outcome[16];
    assert_int_equal(epoch_of(ask(c, "FCALL jd_member_list " FOUR "0"), &nodes, outcome), 0);
    unsigned e1 = renew(c, "b", "18446744073709551615", 3000, 0, "joined", 1);
    assert_int_equal(renew(c, "b", "18446744073709551615", 3000, e1, "renewed", 0), e1);
    unsigned e2 = renew(c, "a", "7", 3000, 0, "joined", 2);
    assert_true(e2 > e1);
    assert_int_equal(renew(c, "b", "18446744073709551615", 3000, e1, "renewed", 2), e2);
    const char *list = ask(c, "FCALL jd_member_list " FOUR "0");
    assert_non_null(strstr(list, "[[\"a\" \"7\" \"router\" \"ipc:///a\" \"\" \"0\" "));
    assert_non_null(strstr(list, "[\"b\" \"18446744073709551615\" \"router\" \"ipc:///b\" "));
    /* A new incarnation takes the name; the old one learns it. */
    unsigned e3 = renew(c, "a", "8", 3000, 0, "joined", 2);
    assert_true(e3 > e2);
    assert_string_equal(ask(c, "FCALL jd_member_renew " FOUR "a 7 router ipc:///a '' 0 3000 %u", e2),
                        "-REPLACED 8");
    /* Draining is a change. */
    unsigned e4 = epoch_of(ask(c, "FCALL jd_member_renew " FOUR "a 8 router ipc:///a '' 1 3000 %u", e3),
                           &nodes, outcome);
    assert_true(e4 > e3);
    assert_string_equal(outcome, "changed");
    /* Leaving: only the incarnation that is in. */
    assert_int_equal(epoch_of(ask(c, "FCALL jd_member_leave " FOUR "a 7 %u", e4), &nodes, outcome), e4);
    assert_string_equal(outcome, "absent");
    unsigned e5 = epoch_of(ask(c, "FCALL jd_member_leave " FOUR "a 8 %u", e4), &nodes, outcome);
    assert_true(e5 > e4);
    assert_string_equal(outcome, "left");
    assert_int_equal(nodes, 1);
    /* The epoch rises also when Redis has lost it. */
    ask(c, "SET jd:{cluster}:epoch 3");
    unsigned e6 = renew(c, "a", "9", 3000, 0, "joined", 2);
    assert_true(e6 > 20000000);
    /* Its members know a later one than it has left, even if its clock is behind: what it has goes above
     * that. */
    unsigned e7 = renew(c, "a", "9", 3000, e6 + 50, "renewed", 2);
    assert_true(e7 > e6 + 50);
    assert_int_equal(renew(c, "a", "9", 3000, e7, "renewed", 0), e7);
}

static void test_membership_expiry(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    const unsigned lease = 5 * (unsigned)pace_limit_ms(40); /* ms; what a busy machine can renew in time */
    renew(c, "a", "1", 60000, 0, "joined", 1);
    renew(c, "c", "1", lease, 0, "joined", 2);
    unsigned e = renew(c, "b", "1", lease, 0, "joined", 3);
    client_turn(c, lease * 3 / 2);
    unsigned e2 = renew(c, "a", "1", 60000, e, "renewed", 1); /* b and c are gone, in one epoch */
    assert_true(e2 > e);
    unsigned e3 = renew(c, "b", "1", lease, e2, "joined", 2); /* it lived: it comes back under a new epoch */
    assert_true(e3 > e2);
    renew(c, "a", "1", lease, e3, "renewed", 0);
    client_turn(c, lease * 3 / 2);
    /* All leases ran out: Redis was away. Nobody is dropped, but whoever stays silent is, one lease later. */
    assert_int_equal(renew(c, "a", "1", lease, e3, "renewed", 0), e3);
    client_turn(c, lease * 3 / 5);
    assert_int_equal(renew(c, "a", "1", lease, e3, "renewed", 0), e3);
    client_turn(c, lease * 3 / 5);
    assert_true(renew(c, "a", "1", lease, e3, "renewed", 1) > e3);
}

static void test_membership_clock_set_back(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    const unsigned lease = 5 * (unsigned)pace_limit_ms(40); /* ms; what a busy machine can renew in time */
    unsigned e = renew(c, "a", "1", lease, 0, "joined", 1);
    e = renew(c, "b", "1", lease, e, "joined", 2);
    /* As if Redis's clock had been an hour ahead when b's lease was given. */
    char text[64];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(text, sizeof text, "ZADD jd:{cluster}:leases %lld b", ((long long)now.tv_sec + 3600) * 1000);
    ask(c, "%s", text);
    renew(c, "a", "1", lease, e, "renewed", 0);
    client_turn(c, lease * 3 / 5);
    renew(c, "a", "1", lease, e, "renewed", 0);
    client_turn(c, lease * 3 / 5);
    assert_true(renew(c, "a", "1", lease, e, "renewed", 1) > e); /* b is silent and is gone one lease later */
}

static void test_membership_reports(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    renew(c, "a", "1", 60000, 0, "joined", 1);
    renew(c, "b", "1", 60000, 0, "joined", 2);
    renew(c, "d", "1", 60000, 0, "joined", 3);
    unsigned e = renew(c, "x", "5", 60000, 0, "joined", 4);
    /* One voice is a suspicion, also when it is said twice; strangers and the suspect itself are not heard.
     */
    assert_int_equal(dead(c, "x 5 a 0", e, "suspect"), e);
    assert_int_equal(dead(c, "x 5 a 0", e, "suspect"), e);
    assert_int_equal(dead(c, "x 5 nobody 1", e, "unheard"), e);
    assert_int_equal(dead(c, "x 5 x 1", e, "unheard"), e);
    assert_int_equal(dead(c, "x 4 b 1", e, "absent"), e); /* another incarnation */
    client_turn(c, 2100);                                 /* the first voice is stale */
    assert_int_equal(dead(c, "x 5 b 0", e, "suspect"), e);
    unsigned e2 = dead(c, "x 5 d 0", e, "removed");
    assert_true(e2 > e);
    assert_int_equal(dead(c, "x 5 a 1", e2, "absent"), e2);
    unsigned e3 = dead(c, "d 1 a 1", e2, "removed"); /* certain */
    assert_true(e3 > e2);
    assert_true(dead(c, "b 1 a 0", e3, "removed") > e3); /* the only other one */
}

static struct {
    unsigned came, wrong;
} applied;

static void on_applied(void *ctx, const struct redis_reply *reply)
{
    (void)ctx;
    applied.came++;
    applied.wrong += reply == NULL || reply->kind != REDIS_KIND_LIST;
}

static uint64_t server_cpu_us(struct client *c)
{
    const char *info = ask(c, "INFO cpu");
    double user = 0, sys = 0;
    sscanf(strstr(info, "used_cpu_sys:"), "used_cpu_sys:%lf", &sys);
    sscanf(strstr(info, "used_cpu_user:"), "used_cpu_user:%lf", &user);
    return (uint64_t)((user + sys) * 1e6);
}

static uint64_t own_cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Not a check but a figure: what a fenced XADD of 400 bytes costs with 64 in flight, beside a plain one. */
static void test_cost(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    enum { DEPTH = 64, ROUNDS = 300 };
    char body[400];
    memset(body, 'm', sizeof(body));
    ask(c, "FCALL jd_claim " SIX " 5 r 1");
    for (int fenced = 0; fenced < 2; fenced++) {
        uint64_t redis_us = server_cpu_us(c), own_us = own_cpu_us();
        for (int round = 0; round < ROUNDS; round++) {
            applied.came = 0;
            for (int i = 0; i < DEPTH; i++) {
                if (fenced)
                    redis_send(c->redis, SPAN("k"), on_applied, NULL, SPAN("FCALL"), SPAN("jd_apply"),
                               SPAN("1"), SPAN("u:{a@b}:owner"), SPAN("5:r:1"), SPAN("5"), SPAN("XADD"),
                               SPAN("u:{a@b}:mailbox"), SPAN("*"), SPAN("d"), span_make(body, sizeof(body)));
                else
                    redis_send(c->redis, SPAN("k"), on_applied, NULL, SPAN("XADD"), SPAN("plain"), SPAN("*"),
                               SPAN("d"), span_make(body, sizeof(body)));
            }
            assert_true(client_wait(c, &applied.came, DEPTH, 2000));
        }
        redis_us = server_cpu_us(c) - redis_us;
        own_us = own_cpu_us() - own_us;
        print_message("%s XADD of 400 bytes, 64 in flight: Redis %.2f us, client %.2f us each\n",
                      fenced ? "jd_apply" : "plain   ", (double)redis_us / (DEPTH * ROUNDS),
                      (double)own_us / (DEPTH * ROUNDS));
    }
    assert_int_equal(applied.wrong, DEPTH * ROUNDS); /* the plain ones answer with a text */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedded_is_the_file),
        cmocka_unit_test_setup_teardown(test_claim, setup, teardown),
        cmocka_unit_test_setup_teardown(test_apply, setup, teardown),
        cmocka_unit_test_setup_teardown(test_accounts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_membership, setup, teardown),
        cmocka_unit_test_setup_teardown(test_membership_expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_membership_clock_set_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_membership_reports, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cost, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
