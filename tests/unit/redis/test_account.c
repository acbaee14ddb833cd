/* Accounts against a real server. */
#include "common/redis/account.h"
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

struct result {
    unsigned came;
    enum account_status status;
    struct account account;
};

static void take(struct account_call *call, enum account_status status, const struct account *account)
{
    struct result *r = call->ctx;
    r->came++;
    r->status = status;
    r->account = *account;
}

static struct result wait_for(struct client *c, struct result *r)
{
    assert_true(client_wait(c, &r->came, 1, 3000));
    assert_int_equal(r->came, 1);
    struct result got = *r;
    r->came = 0;
    return got;
}

static void keys_fill(struct sasl_keys *k, uint8_t with)
{
    memset(k, with, sizeof(*k));
    memset(k->salt + SASL_SALT_OWN, 0, sizeof(k->salt) - SASL_SALT_OWN);
    k->salt_n = SASL_SALT_OWN;
    k->has_sha1 = k->has_sha256 = k->has_sha512 = true;
    k->iterations = 4096;
}

static void test_life(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    struct result r = {0};
    struct account_call call = {.ctx = &r};
    struct sasl_keys one, two;
    struct span jid = SPAN("juliet@example.com");
    keys_fill(&one, 1);
    keys_fill(&two, 2);
    account_get(c->redis, jid, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_NONE);
    account_set_keys(c->redis, jid, &one, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_NONE);
    account_create(c->redis, jid, &one, false, &call, take);
    assert_int_equal(r.came, 0);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_OK);
    account_create(c->redis, jid, &two, false, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_EXISTS);
    account_get(c->redis, jid, &call, take);
    struct result got = wait_for(c, &r);
    assert_int_equal(got.status, ACCOUNT_OK);
    assert_memory_equal(&got.account.keys, &one, sizeof(one));
    assert_false(got.account.disabled);
    assert_in_range(clock_wall_ms() - got.account.created_ms, 0, 5000);
    account_set_keys(c->redis, jid, &two, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_OK);
    account_set_disabled(c->redis, jid, true, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_OK);
    account_get(c->redis, jid, &call, take);
    got = wait_for(c, &r);
    assert_memory_equal(&got.account.keys, &two, sizeof(two));
    assert_true(got.account.disabled);
    account_create(c->redis, jid, &one, true, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_OK);
    account_delete(c->redis, jid, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_OK);
    account_delete(c->redis, jid, &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_NONE);
}

static void test_damaged_and_away(void **state)
{
    struct world *w = *state;
    struct client *c = &w->c;
    struct result r = {0};
    struct account_call call = {.ctx = &r};
    ask(c, "HSET u:{a@b}:account scram rubbish");
    account_get(c->redis, SPAN("a@b"), &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_BROKEN);
    ask(c, "SET u:{c@b}:account text");
    account_get(c->redis, SPAN("c@b"), &call, take);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_BROKEN);
    server_stop(&w->server, SIGKILL);
    account_get(c->redis, SPAN("a@b"), &call, take);
    assert_int_equal(r.came, 0);
    assert_int_equal(wait_for(c, &r).status, ACCOUNT_AWAY);
    account_get(c->redis, SPAN("a@b"), &call, take);
    account_cancel(c->redis, &call);
    client_turn(c, 100);
    assert_int_equal(r.came, 0);
    account_cancel(c->redis, &call);
}

struct walk {
    unsigned done, found;
    enum account_status status;
    bool seen[300];
    unsigned cancel_at;
};

static void walk_found(struct account_scan *scan, struct span jid)
{
    struct walk *w = scan->ctx;
    unsigned number;
    char text[64];
    snprintf(text, sizeof(text), "%.*s", SPAN_FMT(jid));
    assert_int_equal(sscanf(text, "u%u@one.example", &number), 1);
    assert_in_range(number, 0, 299);
    w->found += !w->seen[number];
    w->seen[number] = true;
    if (w->found == w->cancel_at)
        account_scan_cancel(scan);
}

static void walk_done(struct account_scan *scan, enum account_status status)
{
    struct walk *w = scan->ctx;
    w->done++;
    w->status = status;
}

static void test_scan(void **state)
{
    struct client *c = &((struct world *)*state)->c;
    for (int i = 0; i < 300; i++) {
        ask(c, "HSET u:{u%d@one.example}:account scram x", i);
        ask(c, "HSET u:{u%d@two.example}:account scram x", i);
        ask(c, "HSET u:{u%d@one.example}:roster x y", i);
    }
    struct walk w = {0};
    struct account_scan scan = {.found = walk_found, .done = walk_done, .ctx = &w};
    account_scan(c->redis, SPAN("one.example"), &scan);
    assert_true(client_wait(c, &w.done, 1, 3000));
    assert_int_equal(w.status, ACCOUNT_OK);
    assert_int_equal(w.found, 300);
    w = (struct walk){.cancel_at = 100};
    account_scan(c->redis, SPAN("one.example"), &scan);
    client_turn(c, 100);
    assert_int_equal(w.found, 100);
    assert_int_equal(w.done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_and_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scan, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
