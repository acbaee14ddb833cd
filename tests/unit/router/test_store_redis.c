/* The store in Redis, on a real server: what the router writes is what it loads, repeated batches are
 * harmless, every kind of refusal is told. */
#include "router/store/store_redis.h"
#include "tests/unit/redis/server.h"

#define ROMEO  SPAN("romeo@example.net")
#define PREFIX "u:{romeo@example.net}:"

static const struct store_claim claim_a = {5, 18446744073709551615u, {"router-1", 8}};
static const struct store_claim claim_b = {6, 22, {"router-2", 8}};

struct seen {
    unsigned came;
    enum store_result result;
    struct buf text; /* what was told, as one line */
};

struct world {
    struct server server;
    struct client c;
    struct store *s;
    struct seen seen;
};

static int setup(void **state)
{
    struct world *t = calloc(1, sizeof *t);
    server_new(&t->server);
    client_new(&t->c, t->server.url, 2000);
    assert_true(client_wait(&t->c, &t->c.ups, 1, 5000));
    t->s = store_redis_new(t->c.redis);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct world *t = *state;
    client_free(&t->c);
    store_redis_free(t->s);
    server_free(&t->server);
    buf_free(&t->seen.text);
    free(t);
    return 0;
}

static void on_claim(void *ctx, enum store_result result, const struct store_user *u)
{
    struct seen *seen = ctx;
    seen->came++;
    seen->result = result;
    buf_clear(&seen->text);
    assert_true((u != NULL) == (result == STORE_OK));
    if (u == NULL)
        return;
    buf_addf(&seen->text, "exists=%d", u->exists);
    for (size_t h = 0; h < STORE_HASH_COUNT; h++) {
        buf_addf(&seen->text, " %zu:", h);
        for (size_t i = 0; i < u->hash_count[h]; i++)
            buf_addf(&seen->text, "%.*s=%.*s,", SPAN_FMT(u->hash[h][i].name), SPAN_FMT(u->hash[h][i].value));
    }
    buf_addf(&seen->text, " mailbox=%llu last=%llu-%llu", (unsigned long long)u->mailbox_count,
             (unsigned long long)u->mailbox_last.ms, (unsigned long long)u->mailbox_last.seq);
}

static void on_apply(void *ctx, enum store_result result)
{
    struct seen *seen = ctx;
    seen->came++;
    seen->result = result;
}

static void on_read(void *ctx, enum store_result result, const struct store_entry *entries, size_t count)
{
    struct seen *seen = ctx;
    seen->came++;
    seen->result = result;
    buf_clear(&seen->text);
    for (size_t i = 0; i < count; i++)
        buf_addf(&seen->text, "%llu-%llu %.*s %.*s %.*s %llu;", (unsigned long long)entries[i].id.ms,
                 (unsigned long long)entries[i].id.seq, SPAN_FMT(entries[i].raw), SPAN_FMT(entries[i].origin),
                 SPAN_FMT(entries[i].marks), (unsigned long long)entries[i].at_ms);
}

static void on_blob(void *ctx, enum store_result result, struct span value)
{
    struct seen *seen = ctx;
    seen->came++;
    seen->result = result;
    buf_clear(&seen->text);
    if (value.p == NULL)
        buf_add_lit(&seen->text, "none");
    else
        buf_add_span(&seen->text, value);
}

/* Waits for the one answer that is under way. */
static enum store_result answered(struct world *t)
{
    assert_int_equal(t->seen.came, 0); /* never from inside the request */
    assert_true(client_wait(&t->c, &t->seen.came, 1, 5000));
    assert_int_equal(t->seen.came, 1);
    t->seen.came = 0;
    return t->seen.result;
}

static enum store_result do_claim(struct world *t, const struct store_claim *claim)
{
    t->s->face->claim(t->s, ROMEO, claim, on_claim, &t->seen);
    return answered(t);
}

static enum store_result do_apply(struct world *t, const struct store_claim *claim, struct store_batch *b)
{
    t->s->face->apply(t->s, ROMEO, claim, b, on_apply, &t->seen);
    store_batch_free(b);
    return answered(t);
}

static const char *do_read(struct world *t, struct store_id after, unsigned max)
{
    t->s->face->read(t->s, ROMEO, after, max, on_read, &t->seen);
    assert_int_equal(answered(t), STORE_OK);
    return buf_cstr(&t->seen.text);
}

static struct store_batch one_message(uint64_t ms)
{
    struct store_batch b = {0};
    store_append(&b, &(struct store_entry){.id = {ms, 3},
                                           .raw = SPAN("<message/>"),
                                           .origin = SPAN("7:1"),
                                           .marks = SPAN("9=3"),
                                           .at_ms = 77});
    store_put(&b, STORE_META, SPAN("floor"), SPAN("1-0"));
    return b;
}

static void test_round_trip(void **state)
{
    struct world *t = *state;
    assert_int_equal(do_claim(t, &claim_a), STORE_OK);
    assert_string_equal(buf_cstr(&t->seen.text), "exists=0 0: 1: 2: mailbox=0 last=0-0");
    ask(&t->c, "HSET " PREFIX "account scram x");
    struct store_batch b = {0};
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK); /* empty */
    store_put(&b, STORE_ROSTER, SPAN("j@x"), SPAN("one"));
    store_put(&b, STORE_ROSTER, SPAN("k@x"), SPAN(""));
    store_put(&b, STORE_SESSIONS, SPAN("1"), SPAN("rec"));
    store_put(&b, STORE_SESSIONS, SPAN("2"), SPAN("rec"));
    store_put(&b, STORE_SESSIONS, SPAN("3"), SPAN("rec"));
    store_put(&b, STORE_ROSTER, SPAN("j@x"), SPAN("two"));
    store_drop(&b, STORE_SESSIONS, SPAN("1"));
    store_drop(&b, STORE_SESSIONS, SPAN("2"));
    store_drop(&b, STORE_META, SPAN("absent"));
    store_put(&b, STORE_META, SPAN("last"), SPAN("5"));
    for (uint64_t i = 1; i <= 5; i++)
        store_append(&b, &(struct store_entry){.id = {1700000000123, i}, .raw = SPAN("<m/>"), .at_ms = i});
    store_append(&b, &(struct store_entry){.id = {1700000000124, 0},
                                           .raw = SPAN("<n/>"),
                                           .origin = SPAN("7:1"),
                                           .marks = SPAN("9=3 10=4"),
                                           .at_ms = 1700000000125});
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    assert_int_equal(do_claim(t, &claim_a), STORE_OK);
    assert_string_equal(buf_cstr(&t->seen.text), "exists=1 0:j@x=two,k@x=, 1:3=rec, 2:last=5, mailbox=6 "
                                                 "last=1700000000124-0");
    store_remove(&b, (struct store_id){1700000000123, 2});
    store_remove(&b, (struct store_id){1700000000123, 3});
    store_remove(&b, (struct store_id){9, 9});
    store_trim(&b, (struct store_id){1700000000123, 5});
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    assert_string_equal(do_read(t, (struct store_id){0, 0}, 100),
                        "1700000000123-5 <m/>   5;1700000000124-0 <n/> 7:1 9=3 10=4 1700000000125;");
    assert_string_equal(do_read(t, (struct store_id){0, 0}, 1), "1700000000123-5 <m/>   5;");
    assert_string_equal(do_read(t, (struct store_id){1700000000123, 5}, 1),
                        "1700000000124-0 <n/> 7:1 9=3 10=4 1700000000125;");
    assert_string_equal(do_read(t, (struct store_id){1700000000124, 0}, 1), "");
}

static void test_blobs(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    struct buf big = {0};
    memset(buf_reserve(&big, 100000), 'v', 100000);
    big.n = 100000;
    struct store_batch b = {0};
    store_put_blob(&b, SPAN("vcard"), buf_span(&big));
    store_put_blob(&b, SPAN("other"), SPAN("x"));
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    t->s->face->blob(t->s, ROMEO, SPAN("vcard"), on_blob, &t->seen);
    assert_int_equal(answered(t), STORE_OK);
    assert_true(span_eq(buf_span(&t->seen.text), buf_span(&big)));
    buf_free(&big);
    store_put_blob(&b, SPAN("vcard"), SPAN(""));
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    t->s->face->blob(t->s, ROMEO, SPAN("vcard"), on_blob, &t->seen);
    assert_int_equal(answered(t), STORE_OK);
    assert_string_equal(buf_cstr(&t->seen.text), "none");
    /* A JID that could break out of its hash tag. */
    struct span odd = SPAN("a}:x%@example.net");
    t->s->face->claim(t->s, odd, &claim_a, on_claim, &t->seen);
    assert_int_equal(answered(t), STORE_OK);
    store_put_blob(&b, SPAN("vcard"), SPAN("odd"));
    t->s->face->apply(t->s, odd, &claim_a, &b, on_apply, &t->seen);
    store_batch_free(&b);
    assert_int_equal(answered(t), STORE_OK);
    t->s->face->blob(t->s, odd, SPAN("vcard"), on_blob, &t->seen);
    assert_int_equal(answered(t), STORE_OK);
    assert_string_equal(buf_cstr(&t->seen.text), "odd");
}

static void test_fences(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    struct store_claim same_epoch = claim_b;
    same_epoch.epoch = claim_a.epoch;
    assert_int_equal(do_claim(t, &same_epoch), STORE_FENCED);
    assert_int_equal(do_claim(t, &claim_b), STORE_OK);
    struct store_batch b = one_message(10);
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_FENCED);
    assert_int_equal(do_claim(t, &claim_a), STORE_FENCED);
    assert_string_equal(ask(&t->c, "EXISTS " PREFIX "mailbox " PREFIX "meta"), "0");
    t->s->face->release(t->s, ROMEO, &claim_a); /* not ours any more: no effect */
    assert_string_equal(ask(&t->c, "GET " PREFIX "owner"), "\"6:router-2:22\"");
    t->s->face->release(t->s, ROMEO, &claim_b);
    assert_string_equal(ask(&t->c, "GET " PREFIX "owner"), "\"6:\"");
}

static void test_repeats(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    for (int i = 0; i < 2; i++) {
        struct store_batch b = one_message(10);
        assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    }
    assert_string_equal(do_read(t, (struct store_id){0, 0}, 9), "10-3 <message/> 7:1 9=3 77;");
    struct store_batch b = {0};
    store_remove(&b, (struct store_id){10, 3});
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    b = one_message(10);
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    assert_string_equal(do_read(t, (struct store_id){0, 0}, 9), "");
    do_claim(t, &claim_a);
    assert_string_equal(buf_cstr(&t->seen.text), "exists=0 0: 1: 2:floor=1-0, mailbox=0 last=10-3");
}

/* More fields and messages than one command or a Lua stack takes. */
static void test_big_batch(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    struct store_batch b = {0};
    char name[32];
    for (int i = 0; i < 6000; i++) {
        snprintf(name, sizeof name, "c%d@x", i);
        store_put(&b, STORE_ROSTER, span_of(name), SPAN("item"));
    }
    for (uint64_t i = 1; i <= 6000; i++)
        store_append(&b, &(struct store_entry){.id = {1, i}, .raw = SPAN("<m/>"), .at_ms = 1});
    for (uint64_t i = 1; i <= 5990; i++)
        store_remove(&b, (struct store_id){1, i});
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    assert_string_equal(ask(&t->c, "HLEN " PREFIX "roster"), "6000");
    assert_string_equal(ask(&t->c, "XLEN " PREFIX "mailbox"), "10");
    assert_int_equal(do_claim(t, &claim_a), STORE_OK);
    assert_non_null(strstr(buf_cstr(&t->seen.text), "c5999@x=item,"));
    assert_non_null(strstr(buf_cstr(&t->seen.text), " 1: 2: mailbox=10 last=1-6000"));
}

static void test_refusals(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    struct store_batch b = one_message(10);
    do_apply(t, &claim_a, &b);
    /* An entry that is none of ours: the mailbox stays readable. */
    ask(&t->c, "XADD " PREFIX "mailbox 11-0 x y");
    assert_string_equal(do_read(t, (struct store_id){10, 3}, 9),
                        "11-0 <message xmlns='jabber:client'/>   11;");
    /* A key of the wrong type: refused, not asked again for ever. */
    ask(&t->c, "DEL " PREFIX "meta");
    ask(&t->c, "SET " PREFIX "meta x");
    b = one_message(12);
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_FULL);
    assert_int_equal(do_claim(t, &claim_a), STORE_FULL);
    ask(&t->c, "DEL " PREFIX "meta " PREFIX "mailbox");
    ask(&t->c, "SET " PREFIX "mailbox x");
    t->s->face->read(t->s, ROMEO, (struct store_id){0, 0}, 9, on_read, &t->seen);
    assert_int_equal(answered(t), STORE_FULL);
    ask(&t->c, "HSET " PREFIX "vcard x y");
    t->s->face->blob(t->s, ROMEO, SPAN("vcard"), on_blob, &t->seen);
    assert_int_equal(answered(t), STORE_FULL);
    /* The functions are gone. */
    ask(&t->c, "FUNCTION FLUSH");
    b = one_message(13);
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_FULL);
    assert_int_equal(do_claim(t, &claim_a), STORE_FULL);
}

/* A user that goes leaves the index of its slot, unless somebody else has entered it meanwhile. */
static void test_absent(void **state)
{
    struct world *t = *state;
    struct store_batch b = {0};
    do_claim(t, &claim_a);
    store_present(&b, 7, true);
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    assert_string_equal(ask(&t->c, "HLEN jd:{slot-7}:present"), "1");
    t->s->face->absent(t->s, 7, ROMEO, &claim_b);
    do_claim(t, &claim_a); /* sends in order: the answer comes after it */
    assert_string_equal(ask(&t->c, "HLEN jd:{slot-7}:present"), "1");
    t->s->face->absent(t->s, 7, ROMEO, &claim_a);
    do_claim(t, &claim_a);
    assert_string_equal(ask(&t->c, "HLEN jd:{slot-7}:present"), "0");
}

/* What adds is refused; the books are kept, users are claimed, and what is finished goes. */
static void test_full(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    struct store_batch b = one_message(9);
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    ask(&t->c, "CONFIG SET maxmemory 1");
    b = one_message(10);
    store_put(&b, STORE_META, SPAN("last"), SPAN("1"));
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_FULL);
    assert_string_equal(ask(&t->c, "HEXISTS " PREFIX "meta last"), "0");
    store_put(&b, STORE_META, SPAN("floor"), SPAN("9-0"));
    store_put(&b, STORE_SESSIONS, SPAN("orchard"), SPAN("x"));
    store_present(&b, 7, true);
    store_trim(&b, (struct store_id){10, 0});
    assert_int_equal(do_apply(t, &claim_a, &b), STORE_OK);
    assert_string_equal(ask(&t->c, "XLEN " PREFIX "mailbox"), "0");
    assert_int_equal(do_claim(t, &claim_b), STORE_OK);
    b = one_message(11);
    assert_int_equal(do_apply(t, &claim_b, &b), STORE_FULL);
    assert_int_equal(t->c.downs, 0);
    ask(&t->c, "CONFIG SET maxmemory 0");
    b = one_message(11);
    assert_int_equal(do_apply(t, &claim_b, &b), STORE_OK);
}

static void test_away(void **state)
{
    struct world *t = *state;
    do_claim(t, &claim_a);
    kill(t->server.pid, SIGSTOP);
    struct store_batch b = one_message(10), again = one_message(10);
    t->s->face->apply(t->s, ROMEO, &claim_a, &b, on_apply, &t->seen);
    store_batch_free(&b);
    client_turn(&t->c, 20);
    server_stop(&t->server, SIGKILL);
    assert_int_equal(answered(t), STORE_AWAY);
    assert_int_equal(do_claim(t, &claim_a), STORE_AWAY);
    t->s->face->read(t->s, ROMEO, (struct store_id){0, 0}, 9, on_read, &t->seen);
    assert_int_equal(answered(t), STORE_AWAY);
    t->s->face->blob(t->s, ROMEO, SPAN("vcard"), on_blob, &t->seen);
    assert_int_equal(answered(t), STORE_AWAY);
    /* It comes back without its memory: the claim is gone too, so the old owner looks again. */
    server_start(&t->server);
    assert_true(client_wait(&t->c, &t->c.ups, 2, 5000));
    assert_int_equal(do_apply(t, &claim_a, &again), STORE_FENCED);
    assert_int_equal(do_claim(t, &claim_a), STORE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fences, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_big_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_away, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
