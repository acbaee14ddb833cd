/* Sessions back to back, and against plain OpenSSL objects as the independent other side. */
#include "tests/unit/tls/fixture.h"

static void data_both_ways(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 100000};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct tls_ctx *server = make_server(true);
        struct tls_ctx *client = make_ctx((struct tls_config){.alpn = "xmpp-client"});
        struct pair p = handshake(client, server, "one.example", steps[i]);
        assert_int_equal(p.a_is, TLS_OPEN);
        assert_int_equal(p.b_is, TLS_OPEN);
        talk(&p, steps[i]);
        struct tls_info info;
        tls_get_info(p.b, &info);
        assert_string_equal(info.version, "TLSv1.3");
        assert_string_equal(info.alpn, "xmpp-client");
        assert_string_equal(info.sni, "one.example");
        assert_false(info.resumed);
        /* close_notify both ways, and nothing after it */
        tls_close(p.a, &p.to_b);
        pump(&p, steps[i]);
        assert_int_equal(p.b_is, TLS_CLOSED);
        tls_close(p.b, &p.to_a);
        pump(&p, steps[i]);
        assert_int_equal(p.a_is, TLS_CLOSED);
        assert_int_equal(tls_feed(p.a, SPAN("junk"), &p.at_a, &p.to_b), TLS_CLOSED);
        pair_free(&p);
        tls_ctx_free(client);
        tls_ctx_free(server);
    }
}

static void certificate_by_name(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    struct tls_ctx *client = make_ctx((struct tls_config){0});
    add_cert(server, "two.example", "two");
    assert_true(shows(client, server, "two.example", NULL, "two.example"));
    assert_true(shows(client, server, "TWO.example", NULL, "two.example"));
    assert_true(shows(client, server, "one.example", NULL, "one.example"));
    assert_true(shows(client, server, "unknown.example", NULL, "one.example"));
    /* the stream's `to` helps only a client without SNI */
    assert_true(shows(client, server, NULL, "two.example", "two.example"));
    assert_true(shows(client, server, NULL, "Two.Example", "two.example"));
    assert_true(shows(client, server, NULL, NULL, "one.example"));
    assert_true(shows(client, server, "one.example", "two.example", "one.example"));
    tls_ctx_free(client);
    tls_ctx_free(server);
}

static void names(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    struct tls_ctx *client = make_ctx((struct tls_config){0});
    add_cert(server, "names.example", "names");
    struct pair p = handshake(client, server, "names.example", 1000);
    struct {
        const char *domain, *service;
        bool match;
    } want[] = {
        {"names.example", "xmpp-server", true},  {"NAMES.example", "xmpp-server", true},
        {"a.wild.example", "xmpp-server", true}, {"a.b.wild.example", "xmpp-server", false},
        {"wild.example", "xmpp-server", false},  {"srv.example", "xmpp-server", true},
        {"srv.example", "xmpp-client", false},   {"srv.example", NULL, false},
        {"addr.example", "xmpp-server", true},   {"cn.example", "xmpp-server", false}, /* never the CN */
        {".example", "xmpp-server", false},      {"", "xmpp-server", false},
        {"other.example", "xmpp-server", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        if (tls_peer_matches(p.a, want[i].domain, want[i].service) != want[i].match)
            fail_msg("%s", want[i].domain);
    pair_free(&p);
    tls_ctx_free(client);
    tls_ctx_free(server);
}

static void client_certificate(void **state)
{
    (void)state;
    char *trusted = path_of("two", "crt");
    struct tls_ctx *server = make_ctx(
        (struct tls_config){.alpn = "xmpp-server", .request_client_cert = true, .trust_file = trusted});
    struct tls_ctx *client =
        make_ctx((struct tls_config){.alpn = "xmpp-server", .trust_file = trusted, .allow_tls12 = true});
    add_cert(server, NULL, "one");
    struct tls_peer peer;
    /* none sent */
    struct pair p = handshake(client, server, "one.example", 1000);
    assert_int_equal(p.b_is, TLS_OPEN);
    assert_false(tls_get_peer(p.b, &peer));
    assert_true(tls_get_peer(p.a, &peer));
    assert_false(peer.verified);
    assert_non_null(peer.why_not);
    pair_free(&p);
    /* trusted: the certificate has no clientAuth, as those of many servers */
    add_cert(client, NULL, "two");
    p = handshake(client, server, "one.example", 1000);
    assert_int_equal(p.b_is, TLS_OPEN);
    assert_true(tls_get_peer(p.b, &peer));
    assert_true(peer.verified);
    assert_null(peer.why_not);
    assert_true(peer.expires_ms > clock_wall_ms());
    assert_true(tls_peer_matches(p.b, "two.example", "xmpp-server"));
    pair_free(&p);
    tls_ctx_free(client);
    /* untrusted and expired ones stand too; the verdict says why */
    static const char *const bad[] = {"one", "expired"};
    for (size_t i = 0; i < 2; i++) {
        client = make_ctx((struct tls_config){.alpn = "xmpp-server"});
        add_cert(client, NULL, bad[i]);
        p = handshake(client, server, "one.example", 1000);
        assert_int_equal(p.b_is, TLS_OPEN);
        assert_true(tls_get_peer(p.b, &peer));
        assert_false(peer.verified);
        assert_non_null(peer.why_not);
        assert_true((peer.expires_ms < clock_wall_ms()) == (i == 1));
        talk(&p, 1000);
        pair_free(&p);
        tls_ctx_free(client);
    }
    tls_ctx_free(server);
    free(trusted);
}

static void bindings(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    struct tls_ctx *client = make_ctx((struct tls_config){0});
    add_cert(server, "ed.example", "ed");
    struct pair p = handshake(client, server, "one.example", 1000),
                q = handshake(client, server, "ed.example", 1000);
    struct buf a = {0}, b = {0}, c = {0};
    assert_true(tls_get_binding(p.a, TLS_BINDING_EXPORTER, &a));
    assert_true(tls_get_binding(p.b, TLS_BINDING_EXPORTER, &b));
    assert_true(tls_get_binding(q.b, TLS_BINDING_EXPORTER, &c));
    assert_int_equal(a.n, 32);
    assert_true(span_eq(buf_span(&a), buf_span(&b)));
    assert_false(span_eq(buf_span(&a), buf_span(&c)));
    buf_clear(&a);
    buf_clear(&b);
    buf_clear(&c);
    assert_true(tls_get_binding(p.a, TLS_BINDING_SERVER_END_POINT, &a));
    assert_true(tls_get_binding(p.b, TLS_BINDING_SERVER_END_POINT, &b));
    assert_int_equal(a.n, 32);
    assert_true(span_eq(buf_span(&a), buf_span(&b)));
    /* Ed25519 has no single hash: undefined (RFC 5929 §4.1) */
    assert_false(tls_get_binding(q.b, TLS_BINDING_SERVER_END_POINT, &c));
    assert_int_equal(c.n, 0);
    struct tls *young = tls_accept(server);
    assert_false(tls_get_binding(young, TLS_BINDING_EXPORTER, &c));
    tls_free(young);
    buf_free(&a);
    buf_free(&b);
    buf_free(&c);
    pair_free(&p);
    pair_free(&q);
    tls_ctx_free(client);
    tls_ctx_free(server);
}

/* One connection; whether it resumed. The client keeps the newest session. */
static bool resumes(struct plain_client *c, struct tls_ctx *ctx)
{
    SSL_SESSION *with = seen_session;
    if (with != NULL)
        SSL_SESSION_up_ref(with);
    struct tls *server = tls_accept(ctx);
    struct buf plain = {0};
    struct tls_info info;
    plain_start(c, with);
    assert_int_equal(plain_run(c, server, &plain), TLS_OPEN);
    tls_get_info(server, &info);
    assert_int_equal(info.resumed, SSL_session_reused(c->ssl));
    assert_int_equal(SSL_write(c->ssl, "<x/>", 4), 4);
    assert_int_equal(plain_run(c, server, &plain), TLS_OPEN);
    assert_true(span_is(buf_span(&plain), "<x/>"));
    struct buf cb = {0};
    assert_int_equal(tls_get_binding(server, TLS_BINDING_SERVER_END_POINT, &cb), !info.resumed);
    assert_true(tls_get_binding(server, TLS_BINDING_EXPORTER, &cb));
    uint8_t mine[32];
    assert_int_equal(SSL_export_keying_material(c->ssl, mine, 32, "EXPORTER-Channel-Binding", 24,
                                                (const uint8_t *)"", 0, 1),
                     1);
    assert_memory_equal(mine, cb.p + cb.n - 32, 32);
    buf_free(&cb);
    buf_free(&plain);
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(c->ssl);
    c->ssl = NULL;
    tls_free(server);
    SSL_SESSION_free(with);
    return info.resumed;
}

/* Two nodes with the same keys resume each other's sessions; rotated keys still read; strange ones don't. */
static void tickets(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    uint8_t keys[2][TLS_TICKET_KEY_BYTES], rotated[2][TLS_TICKET_KEY_BYTES];
    random_bytes(keys, sizeof keys);
    random_bytes(rotated[0], TLS_TICKET_KEY_BYTES);
    memcpy(rotated[1], keys[0], TLS_TICKET_KEY_BYTES);
    for (size_t i = 0; i < 2; i++) {
        struct tls_ctx *one = make_server(true), *two = make_server(true), *off = make_server(true);
        tls_ctx_set_ticket_keys(one, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 2);
        tls_ctx_set_ticket_keys(two, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 2);
        struct plain_client c = plain_new(versions[i]);
        assert_false(resumes(&c, off));
        assert_null(seen_session);
        assert_false(resumes(&c, one));
        assert_non_null(seen_session);
        assert_true(resumes(&c, two));
        tls_ctx_set_ticket_keys(two, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])rotated, 2);
        assert_true(resumes(&c, two));
        assert_false(resumes(&c, one)); /* the renewed ticket is under the new key, unknown to `one` */
        plain_free(&c);
        tls_ctx_free(one);
        tls_ctx_free(two);
        tls_ctx_free(off);
    }
}

static void versions_and_alpn(void **state)
{
    (void)state;
    struct tls_ctx *only13 = make_server(false), *both = make_server(true);
    struct plain_client c = plain_new(TLS1_2_VERSION);
    struct buf plain = {0};
    struct tls *t = tls_accept(only13);
    plain_start(&c, NULL);
    assert_int_equal(plain_run(&c, t, &plain), TLS_FAILED);
    assert_non_null(strstr(tls_error(t), "protocol"));
    tls_free(t);
    SSL_free(c.ssl);
    t = tls_accept(both);
    plain_start(&c, NULL);
    assert_int_equal(plain_run(&c, t, &plain), TLS_OPEN);
    struct tls_info info;
    tls_get_info(t, &info);
    assert_string_equal(info.version, "TLSv1.2");
    assert_null(info.alpn);
    assert_null(info.sni);
    tls_free(t);
    SSL_free(c.ssl);
    t = tls_accept(both);
    plain_start(&c, NULL);
    SSL_set_alpn_protos(c.ssl, (const uint8_t *)"\x02h2\x0bxmpp-client", 15);
    assert_int_equal(plain_run(&c, t, &plain), TLS_OPEN);
    tls_get_info(t, &info);
    assert_string_equal(info.alpn, "xmpp-client");
    tls_free(t);
    SSL_free(c.ssl);
    t = tls_accept(both);
    plain_start(&c, NULL);
    SSL_set_alpn_protos(c.ssl, (const uint8_t *)"\x02h2", 3);
    assert_int_equal(plain_run(&c, t, &plain), TLS_FAILED);
    tls_free(t);
    plain_free(&c);
    tls_ctx_free(only13);
    tls_ctx_free(both);
    buf_free(&plain);
}

static void junk(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    static const char *const texts[] = {
        "GET / HTTP/1.0\r\n\r\n",
        "<?xml version='1.0'?><stream:stream>",
        "\x16\x03\x01\xff\xff\x01junkjunkjunk",
        "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        "\x15\x03\x01\x00\x02\x02\x28",
    };
    struct buf plain = {0}, out = {0};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct tls *t = tls_accept(server);
        size_t n = i < 3 ? strlen(texts[i]) : i == 3 ? 10 : 7;
        assert_int_equal(tls_feed(t, span_make(texts[i], n), &plain, &out), TLS_FAILED);
        assert_string_not_equal(tls_error(t), "no error");
        assert_int_equal(tls_feed(t, SPAN("more"), &plain, &out), TLS_FAILED);
        assert_false(tls_write(t, SPAN("x"), &out));
        tls_close(t, &out);
        tls_free(t);
    }
    /* A standing session: a damaged record ends it with an alert, and others do not notice. */
    struct tls_ctx *client = make_ctx((struct tls_config){0});
    struct pair p = handshake(client, server, "one.example", 1000),
                q = handshake(client, server, "one.example", 1000);
    assert_true(tls_write(p.a, SPAN("hello"), &p.to_b));
    p.to_b.p[p.to_b.n - 1] ^= 1;
    assert_int_equal(tls_feed(p.b, buf_span(&p.to_b), &plain, &p.to_a), TLS_FAILED);
    assert_int_equal(plain.n, 0);
    assert_true(p.to_a.n > 0);
    assert_int_equal(tls_feed(p.a, buf_span(&p.to_a), &plain, &out), TLS_FAILED);
    talk(&q, 1000);
    buf_free(&plain);
    buf_free(&out);
    pair_free(&p);
    pair_free(&q);
    tls_ctx_free(client);
    tls_ctx_free(server);
}

/* No domain has a certificate: a failure that says so, not a crash. */
static void no_certificate(void **state)
{
    (void)state;
    struct tls_ctx *server = make_ctx((struct tls_config){0}), *client = make_ctx((struct tls_config){0});
    struct pair p = handshake(client, server, "one.example", 1000);
    assert_int_equal(p.b_is, TLS_FAILED);
    assert_int_equal(p.a_is, TLS_FAILED);
    pair_free(&p);
    tls_ctx_free(client);
    tls_ctx_free(server);
    char *error = NULL;
    assert_null(tls_ctx_new(&(struct tls_config){.trust_file = "/nonexistent/ca.pem"}, &error));
    assert_non_null(strstr(error, "/nonexistent/ca.pem"));
    free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_both_ways),
        cmocka_unit_test(certificate_by_name),
        cmocka_unit_test(names),
        cmocka_unit_test(client_certificate),
        cmocka_unit_test(bindings),
        cmocka_unit_test(tickets),
        cmocka_unit_test(versions_and_alpn),
        cmocka_unit_test(junk),
        cmocka_unit_test(no_certificate),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
