/* Sessions whose server side is given back by OpenSSL (common/tls/slim), with OpenSSL as the client. */
#include <malloc.h>

#include "common/tls/slim/record.h"
#include "tests/unit/tls/fixture.h"

static struct tls_ctx *make_slim_server(void)
{
    struct tls_ctx *server =
        make_ctx((struct tls_config){.alpn = "xmpp-client", .allow_tls12 = true, .slim = true});
    uint8_t keys[1][TLS_TICKET_KEY_BYTES];
    add_cert(server, NULL, "one");
    random_bytes(keys, sizeof keys);
    tls_ctx_set_ticket_keys(server, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 1);
    return server;
}

static size_t heap_of_idle(struct tls_ctx *server, bool slimmed)
{
    enum { COUNT = 200 };
    struct tls_ctx *client = make_ctx((struct tls_config){0});
    uint8_t keys[1][TLS_TICKET_KEY_BYTES];
    random_bytes(keys, sizeof keys);
    tls_ctx_set_ticket_keys(server, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 1);
    struct tls **kept = xcalloc(COUNT, sizeof *kept);
    struct pair first = handshake(client, server, "one.example", 1000);
    pair_free(&first);
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < COUNT; i++) {
        struct pair p = handshake(client, server, "one.example", 1000);
        talk(&p, 1000);
        assert_int_equal(tls_slim(p.b), slimmed);
        kept[i] = p.b;
        p.b = NULL;
        pair_free(&p);
    }
    size_t each = (mallinfo2().uordblks - before) / COUNT;
    for (int i = 0; i < COUNT; i++)
        tls_free(kept[i]);
    free(kept);
    tls_ctx_free(client);
    tls_ctx_free(server);
    return each;
}

/* Printed: what an idle session costs after traffic. */
static void idle_memory(void **state)
{
    (void)state;
    size_t whole = heap_of_idle(make_server(true), false), slimmed = heap_of_idle(make_slim_server(), true);
    printf("idle TLS session: %zu bytes of heap, %zu when slim\n", whole, slimmed);
    assert_true(whole < 20000 && slimmed < 5000);
}

/* The client is OpenSSL throughout: it must not notice. */
static void slim(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 100000};
    struct tls_ctx *server = make_slim_server(),
                   *client = make_ctx((struct tls_config){.alpn = "xmpp-client"});
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        for (int talks = 0; talks < 3; talks++) { /* before the change */
            struct pair p = handshake(client, server, "one.example", steps[i]);
            for (int k = 0; k < talks; k++)
                talk(&p, steps[i]);
            assert_true(tls_slim(p.b));
            assert_true(tls_slim(p.b)); /* once more does nothing */
            talk(&p, steps[i]);
            assert_int_equal(
                SSL_key_update(p.a->ssl, talks % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED),
                1);
            talk(&p, steps[i]);
            talk(&p, steps[i]);
            struct tls_info info;
            tls_get_info(p.b, &info);
            assert_string_equal(info.version, "TLSv1.3");
            assert_string_equal(info.cipher, "TLS_AES_128_GCM_SHA256");
            assert_false(tls_get_binding(p.b, TLS_BINDING_EXPORTER, NULL));
            tls_close(i == 0 ? p.b : p.a, i == 0 ? &p.to_a : &p.to_b);
            pump(&p, steps[i]);
            assert_int_equal(i == 0 ? p.a_is : p.b_is, TLS_CLOSED);
            pair_free(&p);
        }
    tls_ctx_free(client);
    tls_ctx_free(server);
}

static void slim_only_when_it_can(void **state)
{
    (void)state;
    struct tls_ctx *server = make_slim_server(), *other = make_server(true);
    struct tls_ctx *client = make_ctx((struct tls_config){.alpn = "xmpp-client", .allow_tls12 = true});
    struct pair p = {.a = tls_connect(client, "one.example"), .b = tls_accept(server)};
    assert_false(tls_slim(p.b)); /* the handshake is not over */
    p.a_is = tls_feed(p.a, (struct span){0}, &p.at_a, &p.to_b);
    pump(&p, 1000);
    assert_false(tls_slim(p.a)); /* a client */
    assert_true(tls_write(p.a, SPAN("<half/>"), &p.to_b));
    tls_feed(p.b, span_sub(buf_span(&p.to_b), 0, 10), &p.at_b, &p.to_a);
    assert_false(tls_slim(p.b)); /* half a record is inside */
    tls_feed(p.b, span_sub(buf_span(&p.to_b), 10, p.to_b.n), &p.at_b, &p.to_a);
    buf_clear(&p.to_b);
    assert_true(span_is(buf_span(&p.at_b), "<half/>"));
    assert_true(tls_slim(p.b));
    talk(&p, 1000);
    pair_free(&p);
    p = handshake(client, server, "one.example", 1000); /* keys were renewed */
    SSL_key_update(p.a->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    talk(&p, 1000);
    assert_false(tls_slim(p.b));
    talk(&p, 1000);
    pair_free(&p);
    p = handshake(client, other, "one.example", 1000); /* the context was not told */
    assert_false(tls_slim(p.b));
    pair_free(&p);
    SSL_CTX_set_max_proto_version(client->base, TLS1_2_VERSION);
    p = handshake(client, server, "one.example", 1000);
    assert_false(tls_slim(p.b));
    talk(&p, 1000);
    pair_free(&p);
    tls_ctx_free(client);
    tls_ctx_free(server);
    tls_ctx_free(other);
}

/* A client's bytes may stop anywhere when the change is due. A header without its body was forgotten. */
static void hand_over_at_every_byte(void **state)
{
    (void)state;
    struct tls_ctx *server = make_slim_server(),
                   *client = make_ctx((struct tls_config){.alpn = "xmpp-client"});
    size_t n = 5 + 7 + 1 + 16;
    for (size_t at = 0; at <= 2 * n; at++) {
        struct pair p = handshake(client, server, "one.example", 1000);
        assert_true(tls_write(p.a, SPAN("<half/>"), &p.to_b) && tls_write(p.a, SPAN("<more/>"), &p.to_b));
        assert_int_equal(p.to_b.n, 2 * n);
        assert_int_equal(tls_feed(p.b, span_sub(buf_span(&p.to_b), 0, at), &p.at_b, &p.to_a), TLS_OPEN);
        assert_int_equal(tls_slim(p.b), at % n == 0);
        assert_int_equal(tls_feed(p.b, span_sub(buf_span(&p.to_b), at, 2 * n), &p.at_b, &p.to_a), TLS_OPEN);
        assert_true(span_is(buf_span(&p.at_b), "<half/><more/>"));
        assert_true(tls_slim(p.b));
        buf_clear(&p.to_b);
        talk(&p, 1000);
        pair_free(&p);
    }
    tls_ctx_free(client);
    tls_ctx_free(server);
}

/* The same with one byte a call, and the change tried after each. */
static void hand_over_tried_at_every_byte(void **state)
{
    (void)state;
    struct tls_ctx *server = make_slim_server(),
                   *client = make_ctx((struct tls_config){.alpn = "xmpp-client"});
    struct pair p = handshake(client, server, "one.example", 1000);
    assert_true(tls_write(p.a, SPAN("<half/>"), &p.to_b));
    for (size_t i = 0; i < p.to_b.n; i++) {
        assert_int_equal(tls_feed(p.b, span_sub(buf_span(&p.to_b), i, 1), &p.at_b, &p.to_a), TLS_OPEN);
        assert_int_equal(tls_slim(p.b), i + 1 == p.to_b.n);
    }
    assert_true(span_is(buf_span(&p.at_b), "<half/>"));
    buf_clear(&p.to_b);
    talk(&p, 1000);
    pair_free(&p);
    tls_ctx_free(client);
    tls_ctx_free(server);
}

static size_t longest_record(struct span wire)
{
    size_t longest = 0;
    while (wire.n > 0) {
        assert_true(wire.n >= 5);
        size_t n = (size_t)(uint8_t)wire.p[3] << 8 | (uint8_t)wire.p[4];
        longest = n > longest ? n : longest;
        assert_true(wire.n >= 5 + n);
        wire = span_sub(wire, 5 + n, wire.n);
    }
    return longest;
}

/* max_fragment_length (RFC 6066 §4) binds both sides, also after the change. */
static void fragments_as_agreed(void **state)
{
    (void)state;
    struct tls_ctx *server = make_slim_server(),
                   *client = make_ctx((struct tls_config){.alpn = "xmpp-client"});
    for (uint8_t mode = 0; mode <= TLSEXT_max_fragment_length_4096; mode++) {
        size_t most = mode == 0 ? 16384 : (size_t)256 << mode;
        struct pair p = {.a = tls_connect(client, "one.example"), .b = tls_accept(server)};
        char *text = xcalloc(1, 40000);
        SSL_set_tlsext_max_fragment_length(p.a->ssl, mode);
        p.a_is = tls_feed(p.a, (struct span){0}, &p.at_a, &p.to_b);
        pump(&p, 1000);
        assert_true(tls_slim(p.b));
        assert_true(tls_write(p.b, span_make(text, 40000), &p.to_a));
        assert_int_equal(longest_record(buf_span(&p.to_a)), most + 1 + 16);
        pump(&p, 1000);
        assert_int_equal(p.a_is, TLS_OPEN);
        assert_int_equal(p.at_a.n, 40000);
        talk(&p, 1000);
        free(text);
        pair_free(&p);
    }
    tls_ctx_free(client);
    tls_ctx_free(server);
}

static struct slim_traffic spied[2];

static void spy(const SSL *ssl, const char *line)
{
    (void)ssl;
    bool out = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
    if (!out && strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0)
        return;
    const char *hex = strrchr(line, ' ') + 1;
    for (size_t i = 0; hex[2 * i] != '\0'; i++) {
        unsigned byte = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        spied[out ? SLIM_OUT : SLIM_IN].secret[i] = (uint8_t)byte;
    }
}

/* A client that has said something else than data, if only the begin of it, keeps its session with OpenSSL,
 * which alone knows how far it has come. */
static void not_after_anything_but_data(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        struct span content;
    } said[] = {{22, {"\x18", 1}}, {22, {"\x18\0\0", 3}}, {21, {"\1\x5a", 2}}};
    struct tls_ctx *server = make_slim_server(),
                   *client = make_ctx((struct tls_config){.alpn = "xmpp-client"});
    SSL_CTX_set_keylog_callback(client->base, spy);
    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        struct pair p = handshake(client, server, "one.example", 1000);
        struct slim_records *r = slim_records_new(0x1301, spied, SLIM_CONTENT_MAX);
        assert_true(slim_records_say(r, said[i].type, said[i].content, 0, &p.to_b));
        assert_int_equal(tls_feed(p.b, buf_span(&p.to_b), &p.at_b, &p.to_a), TLS_OPEN);
        assert_false(tls_slim(p.b));
        slim_records_free(r);
        pair_free(&p);
    }
    tls_ctx_free(client);
    tls_ctx_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_memory),
        cmocka_unit_test(slim),
        cmocka_unit_test(slim_only_when_it_can),
        cmocka_unit_test(hand_over_at_every_byte),
        cmocka_unit_test(hand_over_tried_at_every_byte),
        cmocka_unit_test(fragments_as_agreed),
        cmocka_unit_test(not_after_anything_but_data),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
