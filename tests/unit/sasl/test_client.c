/* The client side against our server side: each mechanism, a kept password, and a server that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/sasl/client.h"

static struct sasl_keys keys;

static enum sasl_status serve(struct sasl *s, struct span message, struct buf *out,
                              const struct sasl_keys *known)
{
    enum sasl_status status = sasl_step(s, true, message, out);

    return status == SASL_NEED_USER ? sasl_user(s, known, SPAN("seed"), out) : status;
}

/* A whole login; true when both sides are content. */
static bool login(enum sasl_mech mech, const char *password, struct sasl_stretched *kept)
{
    struct sasl_server_config config = {.domain = "example.org", .tls = true};
    struct sasl *server = sasl_begin(mech, &config);
    struct buf up = {0}, down = {0}, answer = {0};
    struct sasl_client *client = sasl_client_begin(mech, SPAN("romeo"), span_of(password), kept, &up);

    assert_non_null(client);
    enum sasl_status status = serve(server, buf_span(&up), &down, &keys);
    if (status == SASL_CONTINUE) {
        assert_true(sasl_client_step(client, buf_span(&down), &answer));
        buf_clear(&down);
        status = serve(server, buf_span(&answer), &down, &keys);
    }
    bool good = status == SASL_DONE && sasl_client_verify(client, buf_span(&down));
    sasl_client_free(client);
    sasl_free(server);
    buf_free(&up);
    buf_free(&down);
    buf_free(&answer);
    return good;
}

static void test_login(void **state)
{
    static const enum sasl_mech mechs[] = {SASL_PLAIN, SASL_SCRAM_SHA_1, SASL_SCRAM_SHA_256,
                                           SASL_SCRAM_SHA_512};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(mechs); i++) {
        struct sasl_stretched kept = {0}, wrong = {0};
        assert_true(login(mechs[i], "secret", &kept));
        assert_true(login(mechs[i], "secret", &kept));
        assert_int_equal(kept.iterations, mechs[i] == SASL_PLAIN ? 0 : keys.iterations);
        assert_false(login(mechs[i], "wrong", &wrong));
    }
    assert_null(sasl_client_begin(SASL_EXTERNAL, SPAN("romeo"), SPAN("x"), NULL, NULL));
    assert_null(sasl_client_begin(SASL_SCRAM_SHA_1_PLUS, SPAN("romeo"), SPAN("x"), NULL, NULL));
}

/* Challenges that must be refused: another nonce, no salt, no count, nothing at all. */
static void test_bad_challenge(void **state)
{
    static const char *const bad[] = {"", "r=other,s=QSXCR+Q6sek8bf92,i=4096",
                                      "r=", "s=QSXCR+Q6sek8bf92,i=4096", "e=no"};
    struct sasl_stretched kept = {0};
    struct buf out = {0};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct sasl_client *c =
            sasl_client_begin(SASL_SCRAM_SHA_1, SPAN("romeo"), SPAN("secret"), &kept, &out);
        buf_clear(&out);
        assert_false(sasl_client_step(c, span_of(bad[i]), &out));
        assert_int_equal(out.n, 0);
        assert_false(sasl_client_verify(c, SPAN("v=AAAA")));
        sasl_client_free(c);
    }
    buf_free(&out);
}

/* A server that does not know the password cannot sign. */
static void test_bad_signature(void **state)
{
    struct sasl_stretched kept = {0};
    struct buf out = {0}, challenge = {0};
    struct sasl_client *c = sasl_client_begin(SASL_SCRAM_SHA_1, SPAN("romeo"), SPAN("secret"), &kept, &out);

    (void)state;
    struct span nonce = {0};
    for (size_t at = 0; at + 2 < out.n; at++)
        if (memcmp(out.p + at, ",r=", 3) == 0)
            nonce = span_sub(buf_span(&out), at + 1, SIZE_MAX);
    buf_add_span(&challenge, nonce);
    buf_add_lit(&challenge, "more,s=QSXCR+Q6sek8bf92,i=100");
    buf_clear(&out);
    assert_true(sasl_client_step(c, buf_span(&challenge), &out));
    assert_false(sasl_client_verify(c, SPAN("v=AAAAAAAAAAAAAAAAAAAAAAAAAAA=")));
    assert_false(sasl_client_verify(c, SPAN("e=other-error")));
    sasl_client_free(c);
    buf_free(&out);
    buf_free(&challenge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_login),
        cmocka_unit_test(test_bad_challenge),
        cmocka_unit_test(test_bad_signature),
    };
    CHECK(sasl_keys_derive(SPAN("secret"), 1000, &keys));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
