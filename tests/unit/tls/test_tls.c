/* Sessions back to back, and against plain OpenSSL objects as the independent other side. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/tls/internal.h"

static char dir[] = "/tmp/jackdaw-tls-XXXXXX";

static char *path_of(const char *name, const char *ending)
{
    return xasprintf("%s/%s.%s", dir, name, ending);
}

static void add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX v3;
    X509V3_set_ctx_nodb(&v3);
    X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

/* Writes name.crt and name.key: self-signed, with these alternative names, valid for `days`. */
static void make_cert(const char *name, const char *key_type, const char *names, int days)
{
    EVP_PKEY *key = strcmp(key_type, "EC") == 0    ? EVP_EC_gen("P-256")
                    : strcmp(key_type, "RSA") == 0 ? EVP_RSA_gen(2048)
                                                   : EVP_PKEY_Q_keygen(NULL, NULL, key_type);
    assert_non_null(key);
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), (long)(random_u64() >> 34));
    X509_gmtime_adj(X509_getm_notBefore(x), -86400);
    X509_gmtime_adj(X509_getm_notAfter(x), days * 86400L);
    X509_set_pubkey(x, key);
    X509_NAME *subject = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)"cn.example", -1, -1, 0);
    X509_set_issuer_name(x, subject);
    add_extension(x, NID_subject_alt_name, names);
    add_extension(x, NID_ext_key_usage, "serverAuth");
    assert_true(X509_sign(x, key, strcmp(key_type, "ED25519") == 0 ? NULL : EVP_sha256()) > 0);
    char *cert_file = path_of(name, "crt"), *key_file = path_of(name, "key");
    FILE *f = fopen(cert_file, "w");
    assert_non_null(f);
    PEM_write_X509(f, x);
    fclose(f);
    f = fopen(key_file, "w");
    assert_non_null(f);
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    free(cert_file);
    free(key_file);
    X509_free(x);
    EVP_PKEY_free(key);
}

static void add_cert(struct tls_ctx *ctx, const char *domain, const char *name)
{
    char *cert_file = path_of(name, "crt"), *key_file = path_of(name, "key"), *error = NULL;
    if (!tls_ctx_add_cert(ctx, domain, cert_file, key_file, &error))
        fail_msg("%s", error);
    free(cert_file);
    free(key_file);
}

static struct tls_ctx *make_ctx(struct tls_config config)
{
    char *error = NULL;
    struct tls_ctx *ctx = tls_ctx_new(&config, &error);
    if (ctx == NULL)
        fail_msg("%s", error);
    return ctx;
}

static struct tls_ctx *make_server(bool tls12)
{
    struct tls_ctx *ctx = make_ctx((struct tls_config){.alpn = "xmpp-client", .allow_tls12 = tls12});
    add_cert(ctx, NULL, "one");
    return ctx;
}

/* A client and a server of ours and the bytes between them. */
struct pair {
    struct tls *a, *b;
    struct buf to_a, to_b, at_a, at_b;
    enum tls_status a_is, b_is;
};

static void pair_free(struct pair *p)
{
    tls_free(p->a);
    tls_free(p->b);
    buf_free(&p->to_a);
    buf_free(&p->to_b);
    buf_free(&p->at_a);
    buf_free(&p->at_b);
}

/* Moves everything that is under way, `step` bytes a call. */
static void pump(struct pair *p, size_t step)
{
    while (p->to_a.n > 0 || p->to_b.n > 0) {
        struct buf from = p->to_b;
        p->to_b = (struct buf){0};
        for (size_t i = 0; i < from.n; i += step)
            p->b_is = tls_feed(p->b, span_sub(buf_span(&from), i, step), &p->at_b, &p->to_a);
        buf_free(&from);
        from = p->to_a;
        p->to_a = (struct buf){0};
        for (size_t i = 0; i < from.n; i += step)
            p->a_is = tls_feed(p->a, span_sub(buf_span(&from), i, step), &p->at_a, &p->to_b);
        buf_free(&from);
    }
}

static struct pair handshake(struct tls_ctx *client, struct tls_ctx *server, const char *name, size_t step)
{
    struct pair p = {.a = tls_connect(client, name), .b = tls_accept(server)};
    p.a_is = tls_feed(p.a, (struct span){0}, &p.at_a, &p.to_b);
    pump(&p, step);
    return p;
}

static void talk(struct pair *p, size_t step)
{
    struct buf big = {0};
    for (int i = 0; i < 40000; i++)
        buf_add_char(&big, (char)('a' + i % 26));
    buf_clear(&p->at_a);
    buf_clear(&p->at_b);
    assert_true(tls_write(p->a, SPAN("<hello/>"), &p->to_b));
    assert_true(tls_write(p->b, buf_span(&big), &p->to_a));
    pump(p, step);
    assert_true(span_is(buf_span(&p->at_b), "<hello/>"));
    assert_true(span_eq(buf_span(&p->at_a), buf_span(&big)));
    buf_free(&big);
}

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

/* What the certificate shown to a client is, by tls_peer_matches. */
static bool shows(struct tls_ctx *client, struct tls_ctx *server, const char *sni, const char *prefer,
                  const char *expect)
{
    struct pair p = {.a = tls_connect(client, sni), .b = tls_accept(server)};
    if (prefer != NULL)
        tls_prefer_domain(p.b, prefer);
    p.a_is = tls_feed(p.a, (struct span){0}, &p.at_a, &p.to_b);
    pump(&p, 1000);
    assert_int_equal(p.a_is, TLS_OPEN);
    bool match = tls_peer_matches(p.a, expect, "xmpp-client");
    pair_free(&p);
    return match;
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

static void reload(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    struct tls_ctx *client = make_ctx((struct tls_config){0});
    add_cert(server, "two.example", "two");
    uint64_t day = 86400000, now = clock_wall_ms();
    assert_true(tls_ctx_cert_expiry_ms(server, NULL) > now + 29 * day);
    assert_true(tls_ctx_cert_expiry_ms(server, "two.example") < now + 11 * day);
    assert_int_equal(tls_ctx_cert_expiry_ms(server, "none.example"), 0);
    struct pair standing = handshake(client, server, "two.example", 1000);
    /* broken files leave the old certificate in force and are named */
    char *cert_file = path_of("one", "crt"), *key_file = path_of("two", "key"), *error = NULL;
    assert_false(tls_ctx_add_cert(server, "two.example", cert_file, key_file, &error));
    assert_non_null(strstr(error, key_file));
    free(error);
    assert_false(tls_ctx_add_cert(server, "new.example", "/nonexistent/x.crt", key_file, &error));
    assert_non_null(strstr(error, "/nonexistent/x.crt"));
    free(error);
    assert_false(tls_ctx_add_cert(server, NULL, key_file, key_file, &error));
    free(error);
    free(cert_file);
    free(key_file);
    assert_true(shows(client, server, "two.example", NULL, "two.example"));
    add_cert(server, "two.example", "three");
    assert_true(shows(client, server, "two.example", NULL, "three.example"));
    assert_true(tls_ctx_cert_expiry_ms(server, "two.example") > now + 29 * day);
    talk(&standing, 1000);
    assert_true(tls_peer_matches(standing.a, "two.example", NULL));
    pair_free(&standing);
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

/* A client made of plain OpenSSL objects, memory BIOs and all. */
struct plain_client {
    SSL_CTX *ctx;
    SSL *ssl;
};

static void plain_start(struct plain_client *c, SSL_SESSION *resume)
{
    c->ssl = SSL_new(c->ctx);
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c->ssl);
    if (resume != NULL)
        SSL_set_session(c->ssl, resume);
}

/* Runs both until nothing moves; the server's last status. */
static enum tls_status plain_run(struct plain_client *c, struct tls *server, struct buf *plain)
{
    enum tls_status now = TLS_HANDSHAKING;
    struct buf out = {0};
    char bytes[20000];
    for (;;) {
        if (SSL_do_handshake(c->ssl) == 1)
            SSL_read(c->ssl, bytes, sizeof bytes);
        int n = BIO_read(SSL_get_wbio(c->ssl), bytes, sizeof bytes);
        if (n <= 0)
            break;
        buf_clear(&out);
        now = tls_feed(server, span_make(bytes, (size_t)n), plain, &out);
        BIO_write(SSL_get_rbio(c->ssl), out.p, (int)out.n);
    }
    buf_free(&out);
    ERR_clear_error();
    return now;
}

static SSL_SESSION *seen_session;
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(seen_session);
    seen_session = session;
    return 1;
}

static struct plain_client plain_new(int version)
{
    struct plain_client c = {.ctx = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_max_proto_version(c.ctx, version);
    SSL_CTX_set_min_proto_version(c.ctx, version);
    SSL_CTX_set_session_cache_mode(c.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c.ctx, keep_session);
    return c;
}

static void plain_free(struct plain_client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    SSL_SESSION_free(seen_session);
    seen_session = NULL;
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

static void ecdsa_and_rsa(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    add_cert(server, NULL, "rsa");
    struct plain_client c = plain_new(TLS1_2_VERSION);
    struct buf plain = {0};
    static const char *const ciphers[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"};
    for (size_t i = 0; i < 2; i++) {
        struct tls *t = tls_accept(server);
        plain_start(&c, NULL);
        SSL_set_cipher_list(c.ssl, ciphers[i]);
        assert_int_equal(plain_run(&c, t, &plain), TLS_OPEN);
        struct tls_info info;
        tls_get_info(t, &info);
        assert_string_equal(info.cipher, ciphers[i]);
        /* each certificate's own hash, as the client sees it */
        struct buf cb = {0};
        uint8_t mine[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        X509_digest(SSL_get0_peer_certificate(c.ssl), EVP_sha256(), mine, &n);
        assert_true(tls_get_binding(t, TLS_BINDING_SERVER_END_POINT, &cb));
        assert_true(span_eq(buf_span(&cb), span_make(mine, n)));
        buf_free(&cb);
        tls_free(t);
        SSL_free(c.ssl);
        c.ssl = NULL;
    }
    plain_free(&c);
    tls_ctx_free(server);
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

/* Printed: what an idle session costs after traffic. */
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

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    make_cert("one", "EC", "DNS:one.example", 30);
    make_cert("two", "EC", "DNS:two.example", 10);
    make_cert("three", "EC", "DNS:three.example", 30);
    make_cert("expired", "EC", "DNS:expired.example", 0);
    make_cert("rsa", "RSA", "DNS:one.example", 30);
    make_cert("ed", "ED25519", "DNS:ed.example", 30);
    make_cert("names", "EC",
              "DNS:names.example,DNS:*.wild.example,"
              "otherName:1.3.6.1.5.5.7.8.7;IA5STRING:_xmpp-server.srv.example,"
              "otherName:1.3.6.1.5.5.7.8.5;UTF8:addr.example",
              30);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const made[] = {"one", "two", "three", "expired", "rsa", "ed", "names"};
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        char *cert_file = path_of(made[i], "crt"), *key_file = path_of(made[i], "key");
        unlink(cert_file);
        unlink(key_file);
        free(cert_file);
        free(key_file);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_both_ways),
        cmocka_unit_test(certificate_by_name),
        cmocka_unit_test(reload),
        cmocka_unit_test(names),
        cmocka_unit_test(client_certificate),
        cmocka_unit_test(bindings),
        cmocka_unit_test(tickets),
        cmocka_unit_test(versions_and_alpn),
        cmocka_unit_test(ecdsa_and_rsa),
        cmocka_unit_test(junk),
        cmocka_unit_test(no_certificate),
        cmocka_unit_test(idle_memory),
        cmocka_unit_test(slim),
        cmocka_unit_test(slim_only_when_it_can),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
