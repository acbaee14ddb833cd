#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/redis/keys.h"
#include "common/redis/slots.h"
#include "common/redis/url.h"

static void assert_span(struct span s, const char *wanted)
{
    if (!span_is(s, wanted)) {
        print_message("is \"%.*s\", should be \"%s\"\n", SPAN_FMT(s), wanted);
        fail();
    }
}

static void test_names(void **state)
{
    (void)state;
    struct buf b = {0};
    struct span jid = SPAN("juliet@example.com");
    assert_span(key_owner(&b, jid), "u:{juliet@example.com}:owner");
    assert_span(key_account(&b, jid), "u:{juliet@example.com}:account");
    assert_span(key_roster(&b, jid), "u:{juliet@example.com}:roster");
    assert_span(key_sessions(&b, jid), "u:{juliet@example.com}:sessions");
    assert_span(key_mailbox(&b, jid), "u:{juliet@example.com}:mailbox");
    assert_span(key_meta(&b, jid), "u:{juliet@example.com}:meta");
    assert_span(key_user(&b, jid, SPAN("vcard")), "u:{juliet@example.com}:vcard");
    /* The tag ends at the first '}': it must be ours. */
    assert_span(key_meta(&b, SPAN("}a%b}@d")), "u:{%7da%25b%7d@d}:meta");
    buf_free(&b);
}

static void test_all_six(void **state)
{
    (void)state;
    struct user_keys k = {0};
    for (int round = 0; round < 2; round++) {
        user_keys_make(&k, SPAN("a@b"));
        assert_span(k.owner, "u:{a@b}:owner");
        assert_span(k.account, "u:{a@b}:account");
        assert_span(k.roster, "u:{a@b}:roster");
        assert_span(k.sessions, "u:{a@b}:sessions");
        assert_span(k.mailbox, "u:{a@b}:mailbox");
        assert_span(k.meta, "u:{a@b}:meta");
    }
    user_keys_free(&k);
}

static void test_parse(void **state)
{
    (void)state;
    static const char *const jids[] = {"juliet@example.com", "}a%b}@d", "example.com", "x@[::1]", "{@}"};
    static const char *const others[] = {"",
                                         "u:{",
                                         "u:{a@b}:roster",
                                         "u:{a@b}account",
                                         "x:{a@b}:account",
                                         "u:{a%zz@b}:account",
                                         "u:{a%7}:account",
                                         ":account",
                                         "}:account"};
    struct buf key = {0}, jid = {0};
    for (size_t i = 0; i < ARRAY_LEN(jids); i++) {
        assert_true(key_user_parse(key_account(&key, span_of(jids[i])), SPAN("account"), &jid));
        assert_span(buf_span(&jid), jids[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(key_user_parse(span_of(others[i]), SPAN("account"), &jid));
    buf_free(&key);
    buf_free(&jid);
}

static void test_pattern(void **state)
{
    (void)state;
    struct buf b = {0};
    key_account_pattern(&b, SPAN(""));
    assert_span(buf_span(&b), "u:{*}:account");
    buf_clear(&b);
    key_account_pattern(&b, SPAN("[::1]"));
    assert_span(buf_span(&b), "u:{*@\\[::1\\]}:account");
    buf_free(&b);
}

static void assert_text(const char *is, const char *wanted)
{
    if (wanted == NULL)
        assert_null(is);
    else
        assert_string_equal(is, wanted);
}

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *path, *host, *port, *user, *password;
        unsigned db;
    } good[] = {
        {"redis://127.0.0.1:6380", NULL, "127.0.0.1", "6380"},
        {"redis://localhost", NULL, "localhost", "6379"},
        {"redis://[::1]:7/3", NULL, "::1", "7", NULL, NULL, 3},
        {"redis://:p%40ss%2f@h:1/2", NULL, "h", "1", NULL, "p@ss/", 2},
        {"redis://me:a@b@h", NULL, "h", "6379", "me", "a@b"},
        {"unix:///run/r.sock", "/run/r.sock"},
        {"unix://:pw@/run/r.sock?db=5", "/run/r.sock", NULL, NULL, NULL, "pw", 5},
    };
    static const char *const bad[] = {"",
                                      "redis://",
                                      "http://x",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://h:x",
                                      "redis://h/x",
                                      "redis://nocolon@h",
                                      "unix://rel",
                                      "unix:///p?x=1",
                                      "redis://:%4@h",
                                      "redis://[::1",
                                      "redis://[::1]7",
                                      "redis:///0",
                                      "redis+cluster://",
                                      "redis+cluster://h/0",
                                      "redis+cluster://h,,i",
                                      "redis+cluster://h,i:x",
                                      "redis+sentinel://h",
                                      "redis+sentinel://h/",
                                      "redis+sentinel://h/m/x",
                                      "redis+other://h"};
    struct redis_url url;
    char *error = NULL;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(redis_url_parse(good[i].url, &url, &error));
        assert_text(url.path, good[i].path);
        assert_text(url.at.host, good[i].host);
        assert_text(url.at.port, good[i].port);
        assert_text(url.user, good[i].user);
        assert_text(url.password, good[i].password);
        assert_int_equal(url.db, good[i].db);
        redis_url_free(&url);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (redis_url_parse(bad[i], &url, &error))
            fail_msg("taken: %s", bad[i]);
        free(error);
    }
}

static void test_urls_of_many(void **state)
{
    (void)state;
    struct redis_url url;
    char *error = NULL;
    assert_true(redis_url_parse("redis+cluster://me:p%2c@a:1,[::1]:2,c", &url, &error));
    assert_int_equal(url.mode, REDIS_CLUSTER);
    assert_int_equal(url.seed_count, 3);
    assert_true(redis_address_is(&url.seeds[0], SPAN("a"), SPAN("1")));
    assert_true(redis_address_is(&url.seeds[1], SPAN("::1"), SPAN("2")));
    assert_true(redis_address_is(&url.seeds[2], SPAN("c"), SPAN("6379")));
    assert_string_equal(url.user, "me");
    assert_string_equal(url.password, "p,");
    redis_url_free(&url);
    assert_true(redis_url_parse("redis+sentinel://:pw@a,b:2/mymaster/4", &url, &error));
    assert_int_equal(url.mode, REDIS_SENTINEL);
    assert_int_equal(url.seed_count, 2);
    assert_true(redis_address_is(&url.seeds[0], SPAN("a"), SPAN("26379")));
    assert_true(redis_address_is(&url.seeds[1], SPAN("b"), SPAN("2")));
    assert_string_equal(url.master, "mymaster");
    assert_string_equal(url.password, "pw");
    assert_int_equal(url.db, 4);
    redis_url_free(&url);
}

static void test_slots(void **state)
{
    (void)state;
    /* The specification's example and CLUSTER KEYSLOT's answers. */
    assert_int_equal(redis_slot(SPAN("123456789")), 0x31c3);
    assert_int_equal(redis_slot(SPAN("foo")), 12182);
    assert_int_equal(redis_slot(SPAN("{user1000}.following")), redis_slot(SPAN("user1000")));
    assert_int_equal(redis_slot(SPAN("foo{}{bar}")), 8363);
    assert_int_equal(redis_slot(SPAN("foo{{bar}}zap")), redis_slot(SPAN("{bar")));
    assert_int_equal(redis_slot(SPAN("foo{bar}{zap}")), redis_slot(SPAN("bar")));
    assert_int_equal(redis_slot(SPAN("{open")), redis_slot(SPAN("x{{open}")));
    assert_int_equal(redis_slot(SPAN("")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_all_six), cmocka_unit_test(test_parse),
        cmocka_unit_test(test_pattern), cmocka_unit_test(test_urls),    cmocka_unit_test(test_urls_of_many),
        cmocka_unit_test(test_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
