/* TLS 1.3's record layer against the traces of RFC 8448 and against itself. That OpenSSL's own client can't
 * tell the difference is seen in test_tls.c, tests/interop/test_slim_tls.py and every test with TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/tls/record.h"

#define AES_128 0x1301

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;

    for (; *hex != '\0'; hex++) {
        if (*hex == ' ')
            continue;
        int high = *hex <= '9' ? *hex - '0' : *hex - 'a' + 10, low;
        hex++;
        low = *hex <= '9' ? *hex - '0' : *hex - 'a' + 10;
        out[n++] = (uint8_t)(high << 4 | low);
    }
    return n;
}

/* RFC 8448 §3: the application secrets of the client and of the server, whose first record is a ticket. */
static struct tls_records *rfc_server(void)
{
    struct tls_traffic t[2] = {0};

    unhex("9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5",
          t[TLS_IN].secret);
    unhex("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43",
          t[TLS_OUT].secret);
    t[TLS_OUT].records = 1;
    return tls_records_new(AES_128, t);
}

static void test_rfc_8448(void **state)
{
    static const char from_client[] =
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc ab 3f 2b "
        "98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee "
        "bb 21 69 49 15 e4";
    static const char close_notify[] =
        "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
    static const char from_server[] =
        "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 d0 5f 82 aa 1b 36 e3 "
        "0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 "
        "32 e1 67 c2 95 5d";
    struct tls_records *r = rfc_server();
    struct buf plain = {0}, out = {0};
    uint8_t bytes[128];
    const char *error;
    size_t n = unhex(from_client, bytes);
    (void)state;

    assert_int_equal(tls_records_feed(r, span_make(bytes, n), &plain, &out, &error), TLS_OPEN);
    assert_int_equal(plain.n, 50);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(plain.p[i], i);
    assert_true(tls_records_write(r, buf_span(&plain), &out));
    n = unhex(from_server, bytes);
    assert_int_equal(out.n, n);
    assert_memory_equal(out.p, bytes, n);
    n = unhex(close_notify, bytes);
    assert_int_equal(tls_records_feed(r, span_make(bytes, n), &plain, &out, &error), TLS_CLOSED);
    tls_records_free(r);
    buf_free(&plain);
    buf_free(&out);
}

static struct tls_records *a, *b;

static void pair(uint16_t suite)
{
    struct tls_traffic t[2] = {0}, turned[2];

    memset(t[TLS_IN].secret, 1, TLS_SECRET_MAX);
    memset(t[TLS_OUT].secret, 2, TLS_SECRET_MAX);
    t[TLS_IN].records = 255;
    turned[TLS_IN] = t[TLS_OUT];
    turned[TLS_OUT] = t[TLS_IN];
    a = tls_records_new(suite, t);
    b = tls_records_new(suite, turned);
    assert_non_null(a);
    assert_non_null(b);
}

static void pair_free(void)
{
    tls_records_free(a);
    tls_records_free(b);
}

/* Feeds wire to b in portions and takes what b answers. */
static enum tls_status feed(struct span wire, size_t step, struct buf *plain, struct buf *out,
                            const char **error)
{
    enum tls_status status = TLS_OPEN;

    for (size_t at = 0; at < wire.n && status == TLS_OPEN; at += step)
        status = tls_records_feed(b, span_sub(wire, at, MIN(step, wire.n - at)), plain, out, error);
    return status;
}

static void test_any_length_in_any_portions(void **state)
{
    static const uint16_t suites[] = {AES_128, 0x1302, 0x1303};
    static const size_t lengths[] = {1, 2, 100, 16383, 16384, 16385, 50000},
                        steps[] = {1, 4, 5, 6, 21, 1460, 1u << 20};
    char *text = xcalloc(1, 50000);
    (void)state;

    for (size_t i = 0; i < 50000; i++)
        text[i] = (char)(i * 7);
    for (size_t s = 0; s < ARRAY_LEN(suites); s++) {
        pair(suites[s]);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
                struct buf wire = {0}, plain = {0}, out = {0};
                const char *error;
                assert_true(tls_records_write(a, span_make(text, lengths[i]), &wire));
                if (k % 2 == 1)
                    assert_true(tls_records_update(a, &wire));
                assert_true(tls_records_write(a, span_make(text, 3), &wire));
                assert_int_equal(feed(buf_span(&wire), steps[k], &plain, &out, &error), TLS_OPEN);
                assert_int_equal(plain.n, lengths[i] + 3);
                assert_memory_equal(plain.p, text, lengths[i]);
                assert_int_equal(out.n, 0); /* a's update asks for none in return */
                buf_free(&wire);
                buf_free(&plain);
                buf_free(&out);
            }
        pair_free();
    }
    free(text);
}

/* One record of b's peer, spoiled; b must end with an alert that a can read and with no plain text. */
static void refused(size_t at, uint8_t with, const char *why)
{
    struct buf wire = {0}, plain = {0}, out = {0}, ignored = {0};
    const char *error = NULL;

    pair(AES_128);
    assert_true(tls_records_write(a, span_of("hello"), &wire));
    wire.p[at] = (char)(wire.p[at] ^ with);
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), TLS_FAILED);
    assert_string_equal(error, why);
    assert_int_equal(plain.n, 0);
    assert_true(out.n > 0);
    assert_int_equal(tls_records_feed(a, buf_span(&out), &ignored, &ignored, &error), TLS_FAILED);
    assert_string_equal(error, "TLS: the peer sent an alert");
    pair_free();
    buf_free(&wire);
    buf_free(&plain);
    buf_free(&out);
    buf_free(&ignored);
}

static void test_spoiled_records(void **state)
{
    (void)state;
    refused(0, 1, "TLS: no record of data");
    refused(1, 1, "TLS: no record of data");
    refused(3, 0x80, "TLS: a record that is too long");
    refused(4, 22 ^ 16, "TLS: a record that is too short");
    for (size_t at = 5; at < 5 + 5 + 1 + 16; at++)
        refused(at, 1, "TLS: a record does not decrypt");
}

static void test_a_record_counts_once(void **state)
{
    struct buf wire = {0}, plain = {0}, out = {0};
    const char *error;
    (void)state;

    pair(AES_128);
    assert_true(tls_records_write(a, span_of("hello"), &wire));
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), TLS_OPEN);
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), TLS_FAILED);
    assert_string_equal(error, "TLS: a record does not decrypt");
    assert_int_equal(plain.n, 5);
    pair_free();
    buf_free(&wire);
    buf_free(&plain);
    buf_free(&out);
}

static void test_close(void **state)
{
    struct buf wire = {0}, plain = {0}, out = {0};
    const char *error;
    (void)state;

    pair(AES_128);
    tls_records_close(a, &wire);
    tls_records_close(a, &wire); /* once only */
    assert_int_equal(wire.n, 5 + 2 + 1 + 16);
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), TLS_CLOSED);
    pair_free();
    buf_free(&wire);
    buf_free(&plain);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_8448),        cmocka_unit_test(test_any_length_in_any_portions),
        cmocka_unit_test(test_spoiled_records), cmocka_unit_test(test_a_record_counts_once),
        cmocka_unit_test(test_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
