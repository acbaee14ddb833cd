/* ZeroMQ's wire protocol without a socket. That libzmq takes it is seen in test_bus.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/bus/zmtp.h"

static void add_message(struct buf *out, const void *bytes, size_t n)
{
    char head[ZMTP_HEAD_MAX];

    buf_add(out, head, zmtp_head(head, n));
    buf_add(out, bytes, n);
}

/* Feeds everything in portions of step bytes and writes what comes of it as text, a letter an event. */
static void feed(struct zmtp *z, struct span all, size_t step, struct buf *log)
{
    enum zmtp_event event = ZMTP_WAIT;
    struct span out;

    for (size_t at = 0; at < all.n && event != ZMTP_BAD; at += step) {
        zmtp_input(z, span_sub(all, at, MIN(step, all.n - at)));
        while ((event = zmtp_next(z, &out)) != ZMTP_WAIT && event != ZMTP_BAD)
            buf_addf(log, "%c%zu:%.*s ", event == ZMTP_READY ? 'R' : 'M', out.n, (int)MIN(out.n, 8), out.p);
        if (event == ZMTP_BAD)
            buf_addf(log, "B%.*s ", SPAN_FMT(out));
    }
}

static void expect(struct span all, const char *events)
{
    static const size_t steps[] = {1, 2, 3, 7, 64, 65, 1000, 1u << 20};

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct zmtp z = {0};
        struct buf log = {0};
        feed(&z, all, steps[i], &log);
        assert_string_equal(buf_cstr(&log), events);
        buf_free(&log);
        zmtp_free(&z);
    }
}

static void test_handshake_and_messages_in_any_portions(void **state)
{
    struct buf wire = {0};
    char *large = xcalloc(1, 70000);
    (void)state;

    memset(large, 'z', 70000);
    zmtp_hello(&wire, span_of("c2s-1"));
    assert_int_equal(wire.n, 64 + 2 + 6 + 12 + 4 + 6 + 9 + 4 + 5);
    add_message(&wire, "", 0);
    add_message(&wire, "hello", 5);
    add_message(&wire, large, 255);
    add_message(&wire, large, 256);
    add_message(&wire, large, 70000);
    add_message(&wire, "end", 3);
    expect(buf_span(&wire), "R5:c2s-1 M0: M5:hello M255:zzzzzzzz M256:zzzzzzzz M70000:zzzzzzzz M3:end ");
    buf_free(&wire);
    free(large);
}

static void test_later_parts_and_commands_are_nobodys(void **state)
{
    struct buf wire = {0};
    (void)state;

    zmtp_hello(&wire, span_of(""));
    buf_add(&wire, "\1\1a\1\1b\0\1c\0\1d", 12); /* a, b, c are one message */
    buf_add(&wire, "\4\5\4PING\0\1e", 10);      /* a command between messages */
    expect(buf_span(&wire), "R0: M1:a M1:d M1:e ");
    buf_free(&wire);
}

/* The hello of another kind of socket, spelled out. */
static void add_hello(struct buf *wire, const char *type, size_t n, size_t identity)
{
    buf_add(wire, "\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32);
    for (int i = 0; i < 32; i++)
        buf_add_char(wire, 0);
    buf_add(wire, "\6\0\0\0\0\0\0", 7);
    buf_add_char(wire, (char)((6 + 12 + 4 + n + 9 + 4 + identity) >> 8));
    buf_add_char(wire, (char)(6 + 12 + 4 + n + 9 + 4 + identity));
    buf_add(wire, "\5READY\x0bSocket-Type\0\0\0", 21);
    buf_add_char(wire, (char)n);
    buf_add(wire, type, n);
    buf_add(wire, "\x08Identity\0\0", 11);
    buf_add_char(wire, (char)(identity >> 8));
    buf_add_char(wire, (char)identity);
    for (size_t i = 0; i < identity; i++)
        buf_add_char(wire, 'i');
}

static void expect_after(const void *bytes, size_t n, const char *events)
{
    struct buf wire = {0};

    zmtp_hello(&wire, span_of("x"));
    buf_add(&wire, bytes, n);
    expect(buf_span(&wire), events);
    buf_free(&wire);
}

static void test_refusals(void **state)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: a browser or so\r\n\r\n";
    struct buf wire = {0};
    (void)state;

    expect(span_of(http), "Bno greeting of ZMTP 3 without encryption ");
    add_hello(&wire, "DEALER", 6, 255);
    struct zmtp z = {0};
    struct span out;
    zmtp_input(&z, buf_span(&wire));
    assert_int_equal(zmtp_next(&z, &out), ZMTP_READY);
    assert_int_equal(out.n, 255);
    zmtp_free(&z);
    wire.p[12] = 'C'; /* another mechanism */
    expect(buf_span(&wire), "Bno greeting of ZMTP 3 without encryption ");
    buf_clear(&wire);
    add_hello(&wire, "PUB", 3, 1);
    expect(buf_span(&wire), "Ba socket of another type ");
    buf_clear(&wire);
    add_hello(&wire, "DEALER", 6, 256);
    expect(buf_span(&wire), "Ban identity that is too long ");
    wire.n = 64;
    buf_add(&wire, "\0\5hello", 7);
    expect(buf_span(&wire), "Ba frame out of place ");
    wire.n = 64;
    buf_add(&wire, "\4\6\5HELLO", 8);
    expect(buf_span(&wire), "Banother command in place of READY ");
    wire.n = 64;
    buf_add(&wire, "\4\6\5ERROR", 8);
    expect(buf_span(&wire), "Bthe other side refuses ");
    wire.n = 64;
    buf_add(&wire, "\4\3\5RE", 5);
    expect(buf_span(&wire), "Ba malformed command ");
    wire.n = 64;
    buf_add(&wire, "\4\10\5READY\7x", 10);
    expect(buf_span(&wire), "Bmalformed metadata ");
    wire.n = 64;
    buf_add(&wire, "\6\0\0\0\0\0\0\xff\0", 9); /* a command of 65,280 bytes */
    expect(buf_span(&wire), "Ba frame that is too large ");
    buf_free(&wire);
    expect_after("\2\0\0\0\1\0\0\0\0", 9, "R1:x Ba frame that is too large ");
    expect_after("\x08\1a", 3, "R1:x Ba frame out of place ");
    expect_after("\5\1a", 3, "R1:x Ba frame out of place ");
}

static void test_a_fault_stays(void **state)
{
    struct zmtp z = {0};
    struct buf wire = {0};
    struct span out;
    (void)state;

    zmtp_hello(&wire, span_of("x"));
    wire.p[0] = 'y';
    for (int i = 0; i < 3; i++) {
        zmtp_input(&z, buf_span(&wire));
        assert_int_equal(zmtp_next(&z, &out), ZMTP_BAD);
    }
    buf_free(&wire);
    zmtp_free(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_and_messages_in_any_portions),
        cmocka_unit_test(test_later_parts_and_commands_are_nobodys),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_a_fault_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
