/* What can be read from the ledger of a dead process, and what looks the same when it comes again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "s2s/ledger.h"

#define RECORD 16384u
#define COST   22u /* of a TLS 1.3 record */

static struct ledger *ledger;
static struct idmap legs;

static int prepare(void **state)
{
    (void)state;
    ledger = calloc(1, sizeof *ledger);
    return ledger == NULL;
}

static void forget(void)
{
    size_t at = 0;
    struct ledger_leg *leg;
    while ((leg = idmap_next(&legs, &at)) != NULL)
        free(leg);
    idmap_free(&legs);
}

static int finish(void **state)
{
    (void)state;
    forget();
    free(ledger);
    return 0;
}

static void add(enum ledger_kind kind, uint64_t leg, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    ledger_add(ledger, kind, leg, a, b, c, d);
}

static struct ledger_leg *read_with(uint64_t sid, uint64_t wire)
{
    struct ledger_leg *leg = calloc(1, sizeof *leg);
    forget();
    leg->sid = sid;
    leg->wire = wire;
    idmap_put(&legs, sid, leg);
    ledger_read(ledger, &legs);
    return leg;
}

/* The identities handed over are exactly `first` to `last`. */
static void expect_handed(uint64_t first, uint64_t last)
{
    struct buf out = {0};
    ledger_handed(ledger, &legs, &out);
    assert_int_equal(out.n / 8, last + 1 - first);
    for (size_t i = 0; i < out.n / 8; i++) {
        assert_int_equal((unsigned char)out.p[8 * i], (first + i) & 0xff);
        assert_int_equal((unsigned char)out.p[8 * i + 1], (first + i) >> 8);
    }
    buf_free(&out);
}

static void test_out(void **state)
{
    (void)state;
    add(LEDGER_OUT, 7, 1, 100, 0, 0);
    add(LEDGER_OUT, 7, 2, 200, 0, 0);
    add(LEDGER_SEALED, 7, 200, 222, 0, 0);
    add(LEDGER_OUT, 7, 3, 300, 0, 0);
    add(LEDGER_SEALED, 7, 300, 344, 0, 0);
    add(LEDGER_OUT, 7, 4, 400, 0, 0); /* never sealed */
    read_with(7, 222);
    expect_handed(1, 2);
    read_with(7, 343);
    expect_handed(1, 2);
    read_with(7, 344);
    expect_handed(1, 3);
    read_with(7, 0); /* the socket proves nothing, but the peer had acknowledged one */
    expect_handed(1, 0);
    add(LEDGER_HAS, 7, 100, 0, 0, 0);
    read_with(7, 0);
    expect_handed(1, 1);
    add(LEDGER_OVER, 7, 0, 0, 0, 0); /* what was not acknowledged went elsewhere */
    read_with(7, 344);
    expect_handed(1, 1);
}

/* A big send got through in part: as many stanzas as whole TLS records hold. */
static void test_part(void **state)
{
    (void)state;
    uint64_t plain = 1000, wire = 1022;
    add(LEDGER_SEALED, 7, plain, wire, 0, 0);
    for (uint64_t i = 0; i < 40; i++)
        add(LEDGER_OUT, 7, i, plain + (i + 1) * 1024, 0, 0);
    add(LEDGER_SEALED, 7, plain + 40 * 1024, wire + 40 * 1024 + 3 * COST, 0, 0);
    read_with(7, wire + RECORD + COST - 1);
    expect_handed(0, UINT64_MAX);
    read_with(7, wire + RECORD + COST);
    expect_handed(0, 15);
    read_with(7, wire + 2 * (RECORD + COST) + 5);
    expect_handed(0, 31);
    read_with(7, wire + 40 * 1024 + 3 * COST);
    expect_handed(0, 39);
}

static void test_clear(void **state)
{
    (void)state;
    add(LEDGER_SEALED, 7, 50, 50, 0, 0);
    for (uint64_t i = 0; i < 4; i++)
        add(LEDGER_OUT, 7, i, 50 + (i + 1) * 100, 0, 0);
    add(LEDGER_SEALED, 7, 450, 450, 0, 0);
    read_with(7, 251);
    expect_handed(0, 1);
}

/* Older lines are overwritten: what they said would be sent again, what is left is read rightly. */
static void test_wrap(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 3 * LEDGER_LINES; i++) {
        add(LEDGER_OUT, 7, i & 0xffff, i * 10 + 10, 0, 0);
        add(LEDGER_SEALED, 7, i * 10 + 10, i * 32 + 32, 0, 0);
    }
    uint64_t last = 3 * LEDGER_LINES - 1;
    read_with(7, last * 32); /* all but the last */
    struct buf out = {0};
    ledger_handed(ledger, &legs, &out);
    assert_in_range(out.n / 8, LEDGER_LINES / 2 - 3, LEDGER_LINES / 2 - 1);
    assert_int_equal((unsigned char)out.p[out.n - 8], (last - 1) & 0xff);
    buf_free(&out);
}

static struct ledger_tail tails[16];
static unsigned tail_count;

static void keep(void *ctx, const struct ledger_tail *t)
{
    (void)ctx;
    tails[tail_count++] = *t;
}

static void count(void *ctx, const struct ledger_tail *t)
{
    (void)ctx;
    assert_true(t->n > 5000 - LEDGER_TAIL_MAX);
    tail_count++;
}

static void test_in(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 6; n++)
        add(LEDGER_IN, 7, n, 1000 + n, n == 5 ? 3 : 7, n == 5 ? 77 : n);
    add(LEDGER_IN, 8, 1, 2000, 8, 1);
    add(LEDGER_SAFE, 7, 4, 0, 0, 0);
    add(LEDGER_ACK, 7, 2, 500, 0, 0);
    add(LEDGER_SEALED, 7, 500, 522, 0, 0);
    add(LEDGER_ACK, 7, 4, 600, 0, 0);
    add(LEDGER_SEALED, 7, 600, 644, 0, 0);
    tail_count = 0;
    ledger_tail(ledger, read_with(7, 530), keep, NULL);
    assert_int_equal(tail_count, 4); /* the second <a/> has not arrived */
    assert_int_equal(tails[0].likeness, 1003);
    assert_true(tails[0].safe && tails[1].safe && !tails[2].safe && !tails[3].safe);
    assert_int_equal(tails[2].sid, 3); /* it had been sent again before */
    assert_int_equal(tails[2].n, 77);
    tail_count = 0;
    ledger_tail(ledger, read_with(7, 644), keep, NULL);
    assert_int_equal(tail_count, 2);
}

/* A peer that never asks what we have. */
static void test_long_tail(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 5000; n++)
        add(LEDGER_IN, 7, n, n, 7, n);
    tail_count = 0;
    ledger_tail(ledger, read_with(7, 0), count, NULL);
    assert_int_equal(tail_count, LEDGER_TAIL_MAX);
}

static uint64_t likeness(const char *text, bool want_delayed)
{
    bool delayed;
    uint64_t value = ledger_likeness(span_of(text), &delayed);
    assert_int_equal(delayed, want_delayed);
    return value;
}

#define DELAY "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z' from='b'/>"

static void test_likeness(void **state)
{
    (void)state;
    uint64_t one = likeness("<message from='a@b/c' to='d@e' id='1'><body>hi > you</body></message>", false);
    assert_int_equal(
        one, likeness("<message id='1' to='d@e' from='a@b/c'><body>hi > you</body></message>", false));
    assert_int_equal(
        one,
        likeness("<message id='1' to='d@e' from='a@b/c'><body>hi > you</body>" DELAY "</message>", true));
    assert_int_equal(
        one, likeness("<message id='1' to='d@e' from='a@b/c'><delay xmlns='urn:xmpp:delay'>why</delay>"
                      "<body>hi > you</body></message>",
                      true));
    assert_int_not_equal(
        one, likeness("<message id='2' to='d@e' from='a@b/c'><body>hi > you</body></message>", false));
    assert_int_not_equal(
        one, likeness("<message id='1' to='d@e' from='a@b/c'><body>hi > me</body></message>", false));
    assert_int_not_equal(
        one, likeness("<message id='1' to='d@e' from='a@b/c'><body>hi > you</body><x/></message>", false));
    assert_int_equal(likeness("<message to='a'/>", false),
                     likeness("<message to='a'>" DELAY "</message>", true));
    assert_int_equal(likeness("<message xml:lang='en' to='a'><b xml:lang='de'/></message>", false),
                     likeness("<message to='a'><b xml:lang='de'/></message>", false));
    assert_int_not_equal(likeness("<message to='a'><b xml:lang='de'/></message>", false),
                         likeness("<message to='a'><b/></message>", false));
    /* One that a user forwards is content. */
    uint64_t forwarded = likeness("<message><forwarded>" DELAY "</forwarded></message>", false);
    assert_int_not_equal(forwarded, likeness("<message><forwarded/></message>", false));
    assert_int_not_equal(likeness("<m><a/><b/></m>", false), likeness("<m><a><b/></a></m>", false));
    assert_int_equal(likeness("<m a='x>y' b='/'/>", false), likeness("<m b='/' a='x>y'/>", false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_out, prepare, finish),
        cmocka_unit_test_setup_teardown(test_part, prepare, finish),
        cmocka_unit_test_setup_teardown(test_clear, prepare, finish),
        cmocka_unit_test_setup_teardown(test_wrap, prepare, finish),
        cmocka_unit_test_setup_teardown(test_in, prepare, finish),
        cmocka_unit_test_setup_teardown(test_long_tail, prepare, finish),
        cmocka_unit_test(test_likeness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
