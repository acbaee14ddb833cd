/* What the tests of this room share: certificates in a folder of their own, sessions back to back, and a
 * client of plain OpenSSL objects as the independent other side. */
#ifndef JACKDAW_TESTS_UNIT_TLS_FIXTURE_H
#define JACKDAW_TESTS_UNIT_TLS_FIXTURE_H

#include <dirent.h>
#include <fcntl.h>
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

static inline char *path_of(const char *name, const char *ending)
{
    return xasprintf("%s/%s.%s", dir, name, ending);
}

static inline void add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX v3;
    X509V3_set_ctx_nodb(&v3);
    X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, nid, value);
    assert_non_null(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static inline FILE *open_file(const char *name, const char *ending, const char *mode)
{
    char *file = path_of(name, ending);
    FILE *f = fopen(file, mode);
    assert_non_null(f);
    free(file);
    return f;
}

/* Who signs: NULL = itself. */
struct issuer {
    X509 *x;
    EVP_PKEY *key;
};

static inline struct issuer read_issuer(const char *name)
{
    struct issuer r = {0};
    if (name == NULL)
        return r;
    FILE *f = open_file(name, "crt", "r");
    r.x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    f = open_file(name, "key", "r");
    r.key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(r.x);
    assert_non_null(r.key);
    return r;
}

/* Writes name.crt and name.key, with these alternative names, valid for `days`, signed by `issuer` (NULL =
 * itself). */
static inline void make_cert_by(const char *name, const char *key_type, const char *names, int days,
                                const char *issuer)
{
    struct issuer by = read_issuer(issuer);
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
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                               (const uint8_t *)(by.x != NULL ? "leaf.example" : "cn.example"), -1, -1, 0);
    X509_set_issuer_name(x, by.x != NULL ? X509_get_subject_name(by.x) : subject);
    add_extension(x, NID_subject_alt_name, names);
    add_extension(x, NID_ext_key_usage, "serverAuth");
    assert_true(X509_sign(x, by.key != NULL ? by.key : key,
                          strcmp(key_type, "ED25519") == 0 ? NULL : EVP_sha256()) > 0);
    FILE *f = open_file(name, "crt", "w");
    PEM_write_X509(f, x);
    fclose(f);
    f = open_file(name, "key", "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(by.x);
    EVP_PKEY_free(by.key);
    X509_free(x);
    EVP_PKEY_free(key);
}

static inline void make_cert(const char *name, const char *key_type, const char *names, int days)
{
    make_cert_by(name, key_type, names, days, NULL);
}

static inline void add_cert(struct tls_ctx *ctx, const char *domain, const char *name)
{
    char *cert_file = path_of(name, "crt"), *key_file = path_of(name, "key"), *error = NULL;
    if (!tls_ctx_set_cert(ctx, domain, cert_file, key_file, &error))
        fail_msg("%s", error);
    free(cert_file);
    free(key_file);
}

/* Both at once. */
static inline void set_certs(struct tls_ctx *ctx, const char *domain, const char *one, const char *other)
{
    char *texts[] = {path_of(one, "crt"), path_of(one, "key"), path_of(other, "crt"), path_of(other, "key")};
    char *error = NULL;
    const struct tls_cert_files files[] = {{texts[0], texts[1]}, {texts[2], texts[3]}};
    if (!tls_ctx_set_certs(ctx, domain, files, 2, &error))
        fail_msg("%s", error);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
}

static inline struct tls_ctx *make_ctx(struct tls_config config)
{
    char *error = NULL;
    struct tls_ctx *ctx = tls_ctx_new(&config, &error);
    if (ctx == NULL)
        fail_msg("%s", error);
    return ctx;
}

static inline struct tls_ctx *make_server(bool tls12)
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

static inline void pair_free(struct pair *p)
{
    tls_free(p->a);
    tls_free(p->b);
    buf_free(&p->to_a);
    buf_free(&p->to_b);
    buf_free(&p->at_a);
    buf_free(&p->at_b);
}

/* Moves everything that is under way, `step` bytes a call. */
static inline void pump(struct pair *p, size_t step)
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

static inline struct pair handshake(struct tls_ctx *client, struct tls_ctx *server, const char *name,
                                    size_t step)
{
    struct pair p = {.a = tls_connect(client, name), .b = tls_accept(server)};
    p.a_is = tls_feed(p.a, (struct span){0}, &p.at_a, &p.to_b);
    pump(&p, step);
    return p;
}

static inline void talk(struct pair *p, size_t step)
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

/* What the certificate shown to a client is, by tls_peer_matches. */
static inline bool shows(struct tls_ctx *client, struct tls_ctx *server, const char *sni, const char *prefer,
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

/* A client made of plain OpenSSL objects, memory BIOs and all. */
struct plain_client {
    SSL_CTX *ctx;
    SSL *ssl;
};

static inline void plain_start(struct plain_client *c, SSL_SESSION *resume)
{
    c->ssl = SSL_new(c->ctx);
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c->ssl);
    if (resume != NULL)
        SSL_set_session(c->ssl, resume);
}

/* Runs both until nothing moves; the server's last status. */
static inline enum tls_status plain_run(struct plain_client *c, struct tls *server, struct buf *plain)
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
static inline int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(seen_session);
    seen_session = session;
    return 1;
}

static inline struct plain_client plain_new(int version)
{
    struct plain_client c = {.ctx = SSL_CTX_new(TLS_client_method())};
    SSL_CTX_set_max_proto_version(c.ctx, version);
    SSL_CTX_set_min_proto_version(c.ctx, version);
    SSL_CTX_set_session_cache_mode(c.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c.ctx, keep_session);
    return c;
}

static inline void plain_free(struct plain_client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    SSL_SESSION_free(seen_session);
    seen_session = NULL;
}

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
{
    (void)state;
    DIR *d = opendir(dir);
    if (d == NULL)
        return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    return rmdir(dir);
}

#endif
