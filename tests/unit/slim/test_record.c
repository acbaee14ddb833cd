/* TLS 1.3's record layer against the traces of RFC 8448 and against itself. That OpenSSL's own client can't
 * tell the difference is seen in unit_tls_slim and tests/interop/test_tls.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/tls/slim/record.h"

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
static struct slim_records *rfc_server(void)
{
    struct slim_traffic t[2] = {0};

    unhex("9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5",
          t[SLIM_IN].secret);
    unhex("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43",
          t[SLIM_OUT].secret);
    t[SLIM_OUT].records = 1;
    return slim_records_new(AES_128, t, SLIM_CONTENT_MAX);
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
    struct slim_records *r = rfc_server();
    struct buf plain = {0}, out = {0};
    uint8_t bytes[128];
    const char *error;
    size_t n = unhex(from_client, bytes);
    (void)state;

    assert_int_equal(slim_records_feed(r, span_make(bytes, n), &plain, &out, &error), SLIM_OPEN);
    assert_int_equal(plain.n, 50);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(plain.p[i], i);
    assert_true(slim_records_write(r, buf_span(&plain), &out));
    n = unhex(from_server, bytes);
    assert_int_equal(out.n, n);
    assert_memory_equal(out.p, bytes, n);
    n = unhex(close_notify, bytes);
    assert_int_equal(slim_records_feed(r, span_make(bytes, n), &plain, &out, &error), SLIM_CLOSED);
    slim_records_free(r);
    buf_free(&plain);
    buf_free(&out);
}

static struct slim_records *a, *b;

static void pair(uint16_t suite)
{
    struct slim_traffic t[2] = {0}, turned[2];

    memset(t[SLIM_IN].secret, 1, SLIM_SECRET_MAX);
    memset(t[SLIM_OUT].secret, 2, SLIM_SECRET_MAX);
    t[SLIM_IN].records = 255;
    turned[SLIM_IN] = t[SLIM_OUT];
    turned[SLIM_OUT] = t[SLIM_IN];
    a = slim_records_new(suite, t, SLIM_CONTENT_MAX);
    b = slim_records_new(suite, turned, SLIM_CONTENT_MAX);
    assert_non_null(a);
    assert_non_null(b);
}

static void pair_free(void)
{
    slim_records_free(a);
    slim_records_free(b);
}

/* Feeds wire to b in portions and takes what b answers. */
static enum slim_status feed(struct span wire, size_t step, struct buf *plain, struct buf *out,
                             const char **error)
{
    enum slim_status status = SLIM_OPEN;

    for (size_t at = 0; at < wire.n && status == SLIM_OPEN; at += step)
        status = slim_records_feed(b, span_sub(wire, at, MIN(step, wire.n - at)), plain, out, error);
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
                assert_true(slim_records_write(a, span_make(text, lengths[i]), &wire));
                if (k % 2 == 1)
                    assert_true(slim_records_update(a, &wire));
                assert_true(slim_records_write(a, span_make(text, 3), &wire));
                assert_int_equal(feed(buf_span(&wire), steps[k], &plain, &out, &error), SLIM_OPEN);
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
    assert_true(slim_records_write(a, span_of("hello"), &wire));
    wire.p[at] = (char)(wire.p[at] ^ with);
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), SLIM_FAILED);
    assert_string_equal(error, why);
    assert_int_equal(plain.n, 0);
    assert_true(out.n > 0);
    assert_int_equal(slim_records_feed(a, buf_span(&out), &ignored, &ignored, &error), SLIM_FAILED);
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
    assert_true(slim_records_write(a, span_of("hello"), &wire));
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), SLIM_OPEN);
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), SLIM_FAILED);
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
    slim_records_close(a, &wire);
    slim_records_close(a, &wire); /* once only */
    assert_int_equal(wire.n, 5 + 2 + 1 + 16);
    assert_int_equal(feed(buf_span(&wire), wire.n, &plain, &out, &error), SLIM_CLOSED);
    pair_free();
    buf_free(&wire);
    buf_free(&plain);
    buf_free(&out);
}

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 };

static struct buf wire, plain, answer;
static const char *why;

static void start(void)
{
    pair(AES_128);
    why = NULL;
}

static void end(void)
{
    pair_free();
    buf_free(&wire);
    buf_free(&plain);
    buf_free(&answer);
}

/* a says one record and b hears it. */
static enum slim_status hear(uint8_t type, const char *content, size_t n, size_t padding)
{
    buf_clear(&wire);
    assert_true(slim_records_say(a, type, span_make(content, n), padding, &wire));
    return feed(buf_span(&wire), 7, &plain, &answer, &why);
}

static void expect_end(const char *want)
{
    assert_string_equal(why, want);
    assert_true(answer.n > 0);
    end();
}

static const char key_update[] = {24, 0, 0, 1, 1};

/* After a KeyUpdate that was said by hand: a has its new key. */
static void renew_a(void)
{
    struct buf ignored = {0};
    struct slim_traffic t[2] = {0};

    memset(t[SLIM_OUT].secret, 2, SLIM_SECRET_MAX);
    memset(t[SLIM_IN].secret, 1, SLIM_SECRET_MAX);
    t[SLIM_IN].records = 255;
    slim_records_free(a);
    a = slim_records_new(AES_128, t, SLIM_CONTENT_MAX);
    assert_true(slim_records_update(a, &ignored));
    buf_free(&ignored);
}

static void test_a_key_update_in_pieces(void **state)
{
    (void)state;
    for (unsigned cuts = 0; cuts < 16; cuts++) { /* a bit for each place between the five bytes */
        start();
        for (size_t from = 0, to = 1; to <= 5; to++)
            if (to == 5 || (cuts & 1u << (to - 1)) != 0) {
                assert_int_equal(hear(HANDSHAKE, key_update + from, to - from, 0), SLIM_OPEN);
                from = to;
            }
        renew_a();
        assert_int_equal(hear(DATA, "hello", 5, 0), SLIM_OPEN);
        assert_true(span_is(buf_span(&plain), "hello"));
        end();
    }
}

static void test_no_key_update(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *why;
    } bad[] = {
        {"", 0, "TLS: a handshake message other than KeyUpdate"},
        {"\x01", 1, "TLS: a handshake message other than KeyUpdate"},
        {"\x18\0\0\2", 4, "TLS: a handshake message other than KeyUpdate"},
        {"\x18\0\0\1\0\x18", 6, "TLS: a handshake message other than KeyUpdate"}, /* under the old key */
        {"\x18\0\0\1\2", 5, "TLS: malformed KeyUpdate"},
    };
    (void)state;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        start();
        assert_int_equal(hear(HANDSHAKE, bad[i].bytes, bad[i].n, 0), SLIM_FAILED);
        expect_end(bad[i].why);
    }
    start(); /* nothing may stand between its pieces */
    assert_int_equal(hear(HANDSHAKE, key_update, 2, 0), SLIM_OPEN);
    assert_int_equal(hear(DATA, "x", 1, 0), SLIM_FAILED);
    expect_end("TLS: a record within a handshake message");
    start();
    assert_int_equal(hear(HANDSHAKE, key_update, 2, 0), SLIM_OPEN);
    assert_int_equal(hear(ALERT, "\1\0", 2, 0), SLIM_FAILED);
    expect_end("TLS: a record within a handshake message");
    start();
    assert_int_equal(hear(HANDSHAKE, key_update, 2, 0), SLIM_OPEN);
    assert_int_equal(hear(HANDSHAKE, "", 0, 0), SLIM_FAILED);
    expect_end("TLS: a handshake message other than KeyUpdate");
}

/* Whoever asks for new keys without end gets one answer, with our next data, and then an end. */
static void test_many_key_updates(void **state)
{
    struct buf back = {0}, text = {0};
    unsigned asked = 0;
    (void)state;

    start();
    for (; asked < 32; asked++) {
        assert_int_equal(hear(HANDSHAKE, key_update, 5, 0), SLIM_OPEN);
        renew_a();
        for (unsigned i = 0; i < asked; i++)
            assert_true(slim_records_update(a, &back));
        buf_clear(&back);
    }
    assert_int_equal(answer.n, 0);
    assert_true(slim_records_write(b, span_of("hello"), &answer));
    assert_int_equal(answer.n, 5 + 5 + 1 + 16 + 5 + 5 + 1 + 16); /* one KeyUpdate, and the data */
    assert_int_equal(slim_records_feed(a, buf_span(&answer), &text, &back, &why), SLIM_OPEN);
    assert_true(span_is(buf_span(&text), "hello"));
    buf_clear(&answer);
    assert_true(slim_records_write(b, span_of("hello"), &answer));
    assert_int_equal(answer.n, 5 + 5 + 1 + 16); /* once only */
    assert_int_equal(hear(HANDSHAKE, key_update, 5, 0), SLIM_FAILED);
    buf_free(&back);
    buf_free(&text);
    expect_end("TLS: too many records without data");
}

static void test_records_without_data(void **state)
{
    (void)state;
    start();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 32; i++)
            assert_int_equal(hear(DATA, "", 0, i), SLIM_OPEN);
        assert_int_equal(hear(DATA, "x", 1, 0), SLIM_OPEN);
    }
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(hear(DATA, "", 0, 0), SLIM_OPEN);
    assert_int_equal(hear(DATA, "", 0, 0), SLIM_FAILED);
    expect_end("TLS: too many records without data");
}

/* user_canceled (RFC 8446 §6.1) announces an end; many of them are none. */
static void test_warnings(void **state)
{
    (void)state;
    for (int level = 1; level <= 2; level++) { /* which says nothing in TLS 1.3 */
        const char canceled[] = {(char)level, 90};
        start();
        for (unsigned round = 0; round < 3; round++) {
            for (unsigned i = 0; i < 4; i++)
                assert_int_equal(hear(ALERT, canceled, 2, 0), SLIM_OPEN);
            assert_int_equal(hear(DATA, "x", 1, 0), SLIM_OPEN);
        }
        assert_int_equal(hear(ALERT, canceled, 2, 0), SLIM_OPEN);
        assert_int_equal(hear(ALERT, "\1\0", 2, 0), SLIM_CLOSED);
        end();
        start();
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(hear(ALERT, canceled, 2, 0), SLIM_OPEN);
        assert_int_equal(hear(ALERT, canceled, 2, 0), SLIM_FAILED);
        expect_end("TLS: too many warnings");
    }
    start();
    assert_int_equal(hear(ALERT, "\1", 1, 0), SLIM_FAILED);
    expect_end("TLS: malformed alert");
    start();
    assert_int_equal(hear(ALERT, "\1\x5a\1\0", 4, 0), SLIM_FAILED);
    expect_end("TLS: malformed alert");
}

/* RFC 8446 §5.4: content, type and padding are 2^14 + 1 bytes together at most. */
static void test_padding(void **state)
{
    static const size_t contents[] = {1, 100, 16384};
    char *text = xcalloc(1, 16385);
    (void)state;

    memset(text, 0x17, 16385);
    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        size_t n = contents[i], most = 16384 - n;
        start();
        assert_int_equal(hear(DATA, text, n, most), SLIM_OPEN);
        assert_int_equal(plain.n, n);
        assert_int_equal(hear(DATA, text, n, most + 1), SLIM_FAILED);
        assert_int_equal(plain.n, n);
        expect_end("TLS: a record that is too long");
    }
    start();
    assert_int_equal(hear(DATA, text, 16385, 0), SLIM_FAILED);
    expect_end("TLS: a record that is too long");
    start();
    assert_int_equal(hear(0, "\0\0\0", 3, 100), SLIM_FAILED); /* nothing but zeros */
    expect_end("TLS: a record without a type");
    start();
    assert_int_equal(hear(20, "\1", 1, 0), SLIM_FAILED);
    expect_end("TLS: a record of unknown type");
    free(text);
}

/* max_fragment_length (RFC 6066 §4). */
static void test_content_max(void **state)
{
    struct slim_traffic t[2] = {0};
    char text[6000];
    (void)state;

    start();
    slim_records_free(b);
    memset(t[SLIM_OUT].secret, 1, SLIM_SECRET_MAX);
    memset(t[SLIM_IN].secret, 2, SLIM_SECRET_MAX);
    t[SLIM_OUT].records = 255;
    b = slim_records_new(AES_128, t, 512);
    memset(text, 'x', sizeof text);
    assert_true(slim_records_write(b, span_make(text, sizeof text), &answer));
    assert_int_equal(answer.n, 6000 + 12 * (5 + 1 + 16));
    for (size_t at = 0; at < 11; at++)
        assert_memory_equal(answer.p + at * (512 + 22), "\x17\3\3\2\x11", 5);
    buf_clear(&answer);
    assert_int_equal(hear(DATA, text, 512, 1000), SLIM_OPEN);
    assert_int_equal(hear(DATA, text, 513, 0), SLIM_FAILED);
    assert_int_equal(plain.n, 512);
    expect_end("TLS: a record that is too long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_8448),
        cmocka_unit_test(test_any_length_in_any_portions),
        cmocka_unit_test(test_spoiled_records),
        cmocka_unit_test(test_a_record_counts_once),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_a_key_update_in_pieces),
        cmocka_unit_test(test_no_key_update),
        cmocka_unit_test(test_many_key_updates),
        cmocka_unit_test(test_records_without_data),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_content_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
