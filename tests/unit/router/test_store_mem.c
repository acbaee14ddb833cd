/* The store in memory: what the core's tests and the simulation stand on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "router/store/store_mem.h"

#define ROMEO SPAN("romeo@example.net")

static const struct store_claim claim_a = {5, 11, {"router-1", 8}};
static const struct store_claim claim_b = {6, 22, {"router-2", 8}};

/* What the callbacks saw last. */
struct seen {
    unsigned claims, applies, reads, blobs;
    enum store_result result;
    bool exists;
    size_t roster, meta;
    uint64_t count;
    struct store_id last;
    struct store_id ids[8];
    char text[64];
    struct store *again; /* claim again from inside the callback */
};

static void on_claim(void *ctx, enum store_result result, const struct store_user *user)
{
    struct seen *seen = ctx;
    seen->claims++;
    seen->result = result;
    assert_true((user != NULL) == (result == STORE_OK));
    if (user != NULL) {
        seen->exists = user->exists;
        seen->roster = user->hash_count[STORE_ROSTER];
        seen->meta = user->hash_count[STORE_META];
        seen->count = user->mailbox_count;
        seen->last = user->mailbox_last;
    }
    if (seen->again != NULL) {
        struct store *s = seen->again;
        seen->again = NULL;
        s->face->claim(s, ROMEO, &claim_a, on_claim, seen);
    }
}

static void on_apply(void *ctx, enum store_result result)
{
    struct seen *seen = ctx;
    seen->applies++;
    seen->result = result;
}

static void on_read(void *ctx, enum store_result result, const struct store_entry *entries, size_t count)
{
    struct seen *seen = ctx;
    seen->reads++;
    seen->result = result;
    seen->count = count;
    for (size_t i = 0; i < count && i < ARRAY_LEN(seen->ids); i++)
        seen->ids[i] = entries[i].id;
    if (count > 0)
        snprintf(seen->text, sizeof seen->text, "%.*s|%.*s|%.*s|%llu", SPAN_FMT(entries[0].raw),
                 SPAN_FMT(entries[0].origin), SPAN_FMT(entries[0].marks),
                 (unsigned long long)entries[0].at_ms);
}

static void on_blob(void *ctx, enum store_result result, struct span value)
{
    struct seen *seen = ctx;
    seen->blobs++;
    seen->result = result;
    snprintf(seen->text, sizeof seen->text, "%s%.*s", value.p == NULL ? "none" : "", SPAN_FMT(value));
}

struct world {
    struct store_world *w;
    struct store *a, *b;
    struct seen seen;
};

static int setup(void **state)
{
    struct world *t = calloc(1, sizeof *t);
    t->w = store_world_new();
    t->a = store_mem_new(t->w);
    t->b = store_mem_new(t->w);
    store_mem_add_account(t->w, ROMEO);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct world *t = *state;
    store_world_free(t->w);
    free(t);
    return 0;
}

static enum store_result do_claim(struct world *t, struct store *s, const struct store_claim *claim)
{
    s->face->claim(s, ROMEO, claim, on_claim, &t->seen);
    assert_int_equal(store_mem_run(t->w, SIZE_MAX), 1);
    return t->seen.result;
}

/* Sends a batch and frees it; the answer comes with store_mem_run. */
static void ask_apply(struct world *t, struct store *s, const struct store_claim *claim,
                      struct store_batch *batch)
{
    s->face->apply(s, ROMEO, claim, batch, on_apply, &t->seen);
    store_batch_free(batch);
}

static enum store_result do_apply(struct world *t, struct store *s, const struct store_claim *claim,
                                  struct store_batch *batch)
{
    ask_apply(t, s, claim, batch);
    assert_int_equal(store_mem_run(t->w, SIZE_MAX), 1);
    return t->seen.result;
}

static struct store_batch one_message(uint64_t ms)
{
    struct store_batch b = {0};
    store_append(&b, &(struct store_entry){.id = {ms, 0},
                                           .raw = SPAN("<message/>"),
                                           .origin = SPAN("7:1"),
                                           .marks = SPAN("9=3"),
                                           .at_ms = 77});
    store_put(&b, STORE_META, SPAN("floor"), SPAN("1-0"));
    return b;
}

static void test_ids(void **state)
{
    static const char *const bad[] = {"", "-", "7", "7-", "-7", "7-8-9", "7 -8", "18446744073709551616-0"};
    struct store_id id = {1, 2};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(store_id_parse(span_of(bad[i]), &id));
    assert_int_equal(store_id_cmp(id, (struct store_id){1, 2}), 0);
    assert_true(store_id_parse(SPAN("18446744073709551615-7"), &id));
    assert_int_equal(store_id_cmp(id, (struct store_id){UINT64_MAX, 7}), 0);
}

static void test_nothing_happens_before_run(void **state)
{
    struct world *t = *state;
    t->a->face->claim(t->a, ROMEO, &claim_a, on_claim, &t->seen);
    assert_int_equal(t->seen.claims, 0);
    assert_int_equal(store_mem_pending(t->w), 1);
    assert_int_equal(store_mem_owner(t->w, ROMEO).n, 0);
    assert_int_equal(store_mem_run(t->w, 0), 0);
    t->seen.again = t->a; /* asked inside the callback: the next to be served */
    assert_int_equal(store_mem_run(t->w, 1), 1);
    assert_int_equal(t->seen.claims, 1);
    assert_int_equal(store_mem_run(t->w, SIZE_MAX), 1);
    assert_int_equal(t->seen.claims, 2);
    assert_int_equal(t->seen.result, STORE_OK);
    assert_true(t->seen.exists);
    assert_true(span_is(store_mem_owner(t->w, ROMEO), "5:router-1:11"));
}

static void test_claims(void **state)
{
    struct world *t = *state;
    assert_int_equal(do_claim(t, t->a, &claim_a), STORE_OK);
    struct store_claim same_epoch = claim_b;
    same_epoch.epoch = claim_a.epoch;
    assert_int_equal(do_claim(t, t->b, &same_epoch), STORE_FENCED);
    struct store_batch b = one_message(10);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_OK);
    assert_int_equal(do_claim(t, t->b, &claim_b), STORE_OK);
    assert_int_equal(t->seen.count, 1);
    assert_int_equal(t->seen.last.ms, 10);
    assert_int_equal(t->seen.meta, 1);
    b = one_message(11);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_FENCED);
    assert_int_equal(do_claim(t, t->a, &claim_a), STORE_FENCED);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 1);
    assert_int_equal(store_mem_fenced(t->w), 1);
    /* A stranger's release does nothing; the owner's keeps the epoch. */
    t->a->face->release(t->a, ROMEO, &claim_a);
    t->b->face->release(t->b, ROMEO, &claim_b);
    assert_int_equal(store_mem_run(t->w, 1), 1);
    assert_true(span_is(store_mem_owner(t->w, ROMEO), "6:router-2:22"));
    assert_int_equal(store_mem_run(t->w, 1), 1);
    assert_true(span_is(store_mem_owner(t->w, ROMEO), "6:"));
    assert_int_equal(do_claim(t, t->a, &claim_a), STORE_FENCED);
    struct store_claim next = claim_a;
    next.epoch = 6;
    assert_int_equal(do_claim(t, t->a, &next), STORE_OK);
    store_mem_del_account(t->w, ROMEO);
    b = one_message(12);
    assert_int_equal(do_apply(t, t->a, &next, &b), STORE_FENCED);
    assert_int_equal(do_claim(t, t->a, &next), STORE_OK);
    assert_false(t->seen.exists);
    assert_int_equal(t->seen.count + t->seen.meta, 0);
}

static void test_batch(void **state)
{
    struct world *t = *state;
    do_claim(t, t->a, &claim_a);
    struct store_batch b = {0};
    store_put(&b, STORE_ROSTER, SPAN("j@x"), SPAN("one"));
    store_put(&b, STORE_ROSTER, SPAN("k@x"), SPAN(""));
    store_put(&b, STORE_ROSTER, SPAN("j@x"), SPAN("two"));
    store_put(&b, STORE_SESSIONS, SPAN("1"), SPAN("record"));
    store_drop(&b, STORE_SESSIONS, SPAN("1"));
    store_drop(&b, STORE_SESSIONS, SPAN("absent"));
    store_put_blob(&b, SPAN("vcard"), SPAN("<vCard/>"));
    for (uint64_t i = 1; i <= 5; i++)
        store_append(&b, &(struct store_entry){.id = {10, i}, .raw = SPAN("<m/>"), .at_ms = i});
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_OK);
    assert_true(span_is(store_mem_field(t->w, ROMEO, STORE_ROSTER, SPAN("j@x")), "two"));
    assert_non_null(store_mem_field(t->w, ROMEO, STORE_ROSTER, SPAN("k@x")).p);
    assert_null(store_mem_field(t->w, ROMEO, STORE_SESSIONS, SPAN("1")).p);
    assert_null(store_mem_field(t->w, SPAN("nobody@x"), STORE_SESSIONS, SPAN("1")).p);
    store_remove(&b, (struct store_id){10, 4});
    store_remove(&b, (struct store_id){10, 9});
    store_trim(&b, (struct store_id){10, 2});
    store_put_blob(&b, SPAN("other"), SPAN("x"));
    store_put_blob(&b, SPAN("other"), SPAN(""));
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_OK);
    t->a->face->read(t->a, ROMEO, (struct store_id){0, 0}, 8, on_read, &t->seen);
    store_mem_run(t->w, SIZE_MAX);
    assert_int_equal(t->seen.count, 3);
    assert_int_equal(t->seen.ids[0].seq, 2);
    assert_int_equal(t->seen.ids[1].seq, 3);
    assert_int_equal(t->seen.ids[2].seq, 5);
    assert_string_equal(t->seen.text, "<m/>|||2");
    t->a->face->read(t->a, ROMEO, (struct store_id){10, 2}, 1, on_read, &t->seen);
    store_mem_run(t->w, SIZE_MAX);
    assert_int_equal(t->seen.count, 1);
    assert_int_equal(t->seen.ids[0].seq, 3);
    t->b->face->blob(t->b, ROMEO, SPAN("vcard"), on_blob, &t->seen);
    store_mem_run(t->w, SIZE_MAX);
    assert_string_equal(t->seen.text, "<vCard/>");
    t->b->face->blob(t->b, ROMEO, SPAN("other"), on_blob, &t->seen);
    store_mem_run(t->w, SIZE_MAX);
    assert_string_equal(t->seen.text, "none");
    assert_int_equal(t->seen.blobs, 2);
    assert_null(store_mem_mailbox_at(t->w, ROMEO, 3));
}

static void test_weather(void **state)
{
    struct world *t = *state;
    do_claim(t, t->a, &claim_a);
    store_mem_set_weather(t->a, STORE_MEM_AWAY);
    struct store_batch b = one_message(10);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_AWAY);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 0);
    assert_int_equal(do_claim(t, t->a, &claim_a), STORE_AWAY);
    /* Done but not answered; the repetition changes nothing and is OK. */
    store_mem_set_weather(t->a, STORE_MEM_MUTE);
    b = one_message(10);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_AWAY);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 1);
    store_mem_set_weather(t->a, STORE_MEM_FAIR);
    b = one_message(10);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_OK);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 1);
    assert_true(span_is(store_mem_mailbox_at(t->w, ROMEO, 0)->marks, "9=3"));
    /* Also when the entry has gone since. */
    store_remove(&b, (struct store_id){10, 0});
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_OK);
    b = one_message(10);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_OK);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 0);
    store_mem_set_full(t->w, true);
    b = one_message(11);
    assert_int_equal(do_apply(t, t->a, &claim_a, &b), STORE_FULL);
    assert_int_equal(do_claim(t, t->a, &claim_a), STORE_OK);
    assert_int_equal(t->seen.last.ms, 10);
    assert_int_equal(store_mem_applied(t->w), 4);
}

static void test_death(void **state)
{
    struct world *t = *state;
    do_claim(t, t->a, &claim_a);
    for (uint64_t ms = 10; ms < 14; ms++) {
        struct store_batch b = one_message(ms);
        ask_apply(t, t->a, &claim_a, &b);
    }
    store_mem_drop(t->a, 2);
    assert_int_equal(store_mem_run(t->w, SIZE_MAX), 0);
    assert_int_equal(t->seen.applies, 0);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 2);
    assert_int_equal(do_claim(t, t->b, &claim_b), STORE_OK);
    assert_int_equal(t->seen.last.ms, 11);
}

static void test_order(void **state)
{
    struct world *t = *state;
    do_claim(t, t->a, &claim_a);
    struct store_batch b = one_message(10);
    ask_apply(t, t->a, &claim_a, &b);
    t->b->face->claim(t->b, ROMEO, &claim_b, on_claim, &t->seen);
    b = one_message(11);
    ask_apply(t, t->a, &claim_a, &b);
    assert_int_equal(store_mem_pending_view(t->a), 2);
    /* The other view's claim overtakes: both writes are fenced. */
    assert_int_equal(store_mem_run_view(t->b, SIZE_MAX), 1);
    assert_int_equal(t->seen.count, 0);
    assert_int_equal(store_mem_run(t->w, SIZE_MAX), 2);
    assert_int_equal(store_mem_fenced(t->w), 2);
    /* Without a choice the order is that of the asking. */
    struct store_claim later = claim_a;
    later.epoch = 7;
    b = one_message(12);
    ask_apply(t, t->b, &claim_b, &b);
    t->a->face->claim(t->a, ROMEO, &later, on_claim, &t->seen);
    b = one_message(13);
    ask_apply(t, t->b, &claim_b, &b);
    assert_int_equal(store_mem_run(t->w, 2), 2);
    assert_int_equal(t->seen.last.ms, 12);
    assert_int_equal(store_mem_run(t->w, SIZE_MAX), 1);
    assert_int_equal(t->seen.result, STORE_FENCED);
    assert_int_equal(store_mem_mailbox_count(t->w, ROMEO), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test_setup_teardown(test_nothing_happens_before_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_claims, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_weather, setup, teardown),
        cmocka_unit_test_setup_teardown(test_death, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
