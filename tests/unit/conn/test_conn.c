/* Connections over a real loop and loopback: all bytes in order, holding, STARTTLS both ways, the last bytes
 * of a good end, an end without a word, a port where nobody listens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <netinet/in.h>

#include "common/conn/conn.h"
#include "common/tls/tls.h"

#define BIG 3000000

struct side {
    struct conn conn;
    struct buf got;
    uint64_t sent;
    bool open, secured, closed, gone, eats_little;
    char why[128];
};

static struct ring *ring;
static struct conn_hub hub;
static struct side client, server;
static struct ring_op accept_op;
static int listener;
static char address[64];

static struct side *side_of(struct conn *c)
{
    return CONTAINER_OF(c, struct side, conn);
}

static void on_open(struct conn *c)
{
    side_of(c)->open = true;
}

static void on_secured(struct conn *c)
{
    side_of(c)->secured = true;
}

static void on_bytes(struct conn *c, struct span *in)
{
    struct side *s = side_of(c);
    size_t n = s->eats_little ? MIN(in->n, 1) : in->n;
    buf_add(&s->got, in->p, n);
    *in = span_sub(*in, n, SIZE_MAX);
    if (s->eats_little)
        conn_hold(c, 1);
}

static void on_turn(struct conn *c)
{
    (void)c;
}

static void on_sent(struct conn *c, uint64_t upto)
{
    assert_true(upto >= side_of(c)->sent);
    side_of(c)->sent = upto;
}

static void on_closed(struct conn *c, const char *why)
{
    struct side *s = side_of(c);
    assert_false(s->closed);
    s->closed = true;
    snprintf(s->why, sizeof s->why, "%s", why);
}

static void on_gone(struct conn *c)
{
    struct side *s = side_of(c);
    assert_true(s->closed);
    assert_false(s->gone);
    s->gone = true;
}

static const struct conn_handler handler = {.open = on_open,
                                            .secured = on_secured,
                                            .bytes = on_bytes,
                                            .turn = on_turn,
                                            .sent = on_sent,
                                            .closed = on_closed,
                                            .gone = on_gone};

static void on_accept(struct ring_op *op, struct ring_result result)
{
    (void)op;
    if (result.res >= 0)
        conn_take(&hub, &server.conn, &handler, result.res);
}

#define UNTIL(condition)                                  \
    do {                                                  \
        for (int i_ = 0; i_ < 5000 && !(condition); i_++) \
            ring_turn(ring, 1);                           \
        assert_true(condition);                           \
    } while (0)

static int setup(void **state)
{
    const char *why = NULL;
    struct sockaddr_in in4;
    struct sockaddr_storage to;
    socklen_t n = sizeof in4;
    (void)state;
    memset(&client, 0, sizeof client);
    memset(&server, 0, sizeof server);
    memset(&accept_op, 0, sizeof accept_op);
    ring = ring_new(0, &why);
    assert_non_null(ring);
    conn_hub_init(&hub, ring, 64, 4096);
    listener = ring_listen("127.0.0.1:0", false);
    assert_true(listener >= 0);
    getsockname(listener, (struct sockaddr *)&in4, &n);
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(in4.sin_port));
    ring_accept(ring, &accept_op, listener, on_accept);
    assert_true(ring_address(address, &to) > 0);
    assert_true(conn_dial(&hub, &client.conn, &handler, &to, "127.0.0.1", 2000));
    UNTIL(client.open && server.conn.phase == CONN_OPEN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    conn_drop(&client.conn, "the test is over");
    conn_drop(&server.conn, "the test is over");
    ring_cancel(ring, &accept_op);
    UNTIL(client.gone && server.gone && !op_busy(&accept_op));
    assert_int_equal(hub.count, 0);
    close(listener);
    conn_hub_free(&hub);
    ring_free(ring);
    buf_free(&client.got);
    buf_free(&server.got);
    return 0;
}

static void add_pattern(struct conn *c, size_t n)
{
    char *at = buf_reserve(&c->out, n);
    for (size_t i = 0; i < n; i++)
        at[i] = (char)(i * 7 + i / 251);
    c->out.n += n;
    conn_dirty(c);
}

static void expect_pattern(const struct buf *b, size_t n)
{
    assert_int_equal(b->n, n);
    for (size_t i = 0; i < n; i++)
        if (b->p[i] != (char)(i * 7 + i / 251))
            fail_msg("byte %zu is wrong", i);
}

static void test_bytes_both_ways(void **state)
{
    (void)state;
    add_pattern(&client.conn, BIG);
    add_pattern(&server.conn, BIG);
    assert_int_equal(conn_written(&client.conn), BIG);
    UNTIL(client.got.n == BIG && server.got.n == BIG && client.sent == BIG);
    expect_pattern(&client.got, BIG);
    expect_pattern(&server.got, BIG);
    assert_int_equal(conn_waiting(&client.conn), 0);
}

/* Who holds gets no bytes, the sender's stay with it; all come when the hold is lifted. */
static void test_hold(void **state)
{
    (void)state;
    conn_hold(&server.conn, 1);
    conn_hold(&server.conn, 2);
    add_pattern(&client.conn, 8 * BIG);
    for (int i = 0; i < 300; i++)
        ring_turn(ring, 1);
    assert_int_equal(server.got.n, 0);
    assert_true(server.conn.held.n < 1000000);
    assert_true(conn_waiting(&client.conn) > 0);
    conn_unhold(&server.conn, 1);
    assert_int_equal(server.got.n, 0);
    conn_unhold(&server.conn, 2);
    UNTIL(server.got.n == 8 * BIG);
    expect_pattern(&server.got, 8 * BIG);
}

static void test_takes_bit_by_bit(void **state)
{
    (void)state;
    server.eats_little = true;
    add_pattern(&client.conn, 100);
    for (size_t n = 1; n <= 100; n++) {
        UNTIL(server.got.n == n);
        conn_unhold(&server.conn, 1);
    }
    expect_pattern(&server.got, 100);
}

static void test_good_end_delivers_the_last_bytes(void **state)
{
    (void)state;
    add_pattern(&client.conn, BIG);
    conn_finish(&client.conn);
    assert_true(client.closed);
    UNTIL(client.gone && server.gone);
    expect_pattern(&server.got, BIG);
    assert_string_equal(server.why, "the peer has ended");
}

/* What had come before the peer's end is given when the hold is lifted, then the end is told. */
static void test_end_while_held(void **state)
{
    (void)state;
    conn_hold(&server.conn, 1);
    add_pattern(&client.conn, 1000);
    conn_finish(&client.conn);
    UNTIL(server.conn.eof);
    assert_false(server.closed);
    conn_unhold(&server.conn, 1);
    UNTIL(server.closed);
    expect_pattern(&server.got, 1000);
}

static void test_nobody_listens(void **state)
{
    struct side other = {.sent = 0};
    struct sockaddr_storage to;
    (void)state;
    ring_address("127.0.0.1:1", &to);
    assert_true(conn_dial(&hub, &other.conn, &handler, &to, NULL, 2000));
    UNTIL(other.gone);
    assert_false(other.open);
    assert_string_equal(other.why, "Connection refused");
}

/* ---- TLS ---- */

static struct tls_ctx *make_ctx(void)
{
    char dir[] = "/tmp/jackdaw-conn-XXXXXX", command[512], crt[64], key[64], *error = NULL;
    struct tls_config config = {.alpn = "xmpp-server", .allow_tls12 = true};
    struct tls_ctx *ctx = tls_ctx_new(&config, &error);
    assert_non_null(ctx);
    assert_non_null(mkdtemp(dir));
    snprintf(crt, sizeof crt, "%s/x.crt", dir);
    snprintf(key, sizeof key, "%s/x.key", dir);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -addext "
             "subjectAltName=DNS:conn.example -keyout %s -out %s 2>/dev/null",
             key, crt);
    assert_int_equal(system(command), 0);
    assert_true(tls_ctx_set_cert(ctx, NULL, crt, key, &error));
    unlink(crt);
    unlink(key);
    rmdir(dir);
    return ctx;
}

/* What is written before leaves in clear, what comes after is encrypted; a close_notify ends it. */
static void test_starttls(void **state)
{
    struct tls_ctx *ctx = make_ctx();
    (void)state;
    buf_add_str(&server.conn.out, "proceed");
    conn_tls_accept(&server.conn, ctx, "conn.example");
    UNTIL(client.got.n == 7);
    assert_memory_equal(client.got.p, "proceed", 7);
    buf_clear(&client.got);
    conn_tls_connect(&client.conn, tls_connect(ctx, "conn.example"));
    UNTIL(client.secured && server.secured);
    assert_true(tls_peer_matches(client.conn.tls, "conn.example", NULL));
    add_pattern(&client.conn, BIG);
    add_pattern(&server.conn, BIG);
    UNTIL(client.got.n == BIG && server.got.n == BIG);
    expect_pattern(&client.got, BIG);
    expect_pattern(&server.got, BIG);
    conn_finish(&client.conn);
    UNTIL(client.gone && server.gone);
    assert_string_equal(server.why, "the peer has ended TLS");
    tls_ctx_free(ctx);
}

/* Something else than TLS: the connection is closed, no bytes are given. */
static void test_broken_handshake(void **state)
{
    struct tls_ctx *ctx = make_ctx();
    (void)state;
    conn_tls_accept(&server.conn, ctx, NULL);
    buf_add_str(&client.conn.out, "this is no TLS, and never will be");
    conn_dirty(&client.conn);
    UNTIL(server.gone);
    assert_int_equal(server.got.n, 0);
    assert_false(server.secured);
    tls_ctx_free(ctx);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_bytes_both_ways),  TEST(test_hold),
        TEST(test_takes_bit_by_bit), TEST(test_good_end_delivers_the_last_bytes),
        TEST(test_end_while_held),   TEST(test_nobody_listens),
        TEST(test_starttls),         TEST(test_broken_handshake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
