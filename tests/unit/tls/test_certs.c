/* Certificates: in force, replaced, several of a domain, wrong ones, and the directory that they come from.
 */
#include "common/stats/stats.h"
#include "tests/unit/tls/fixture.h"

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
    assert_false(tls_ctx_set_cert(server, "two.example", cert_file, key_file, &error));
    assert_non_null(strstr(error, key_file));
    free(error);
    assert_false(tls_ctx_set_cert(server, "new.example", "/nonexistent/x.crt", key_file, &error));
    assert_non_null(strstr(error, "/nonexistent/x.crt"));
    free(error);
    assert_false(tls_ctx_set_cert(server, NULL, key_file, key_file, &error));
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

static void ecdsa_and_rsa(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true);
    set_certs(server, NULL, "one", "rsa");
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

/* The type of key in the certificate that a client is shown. */
static int shown_key(struct tls_ctx *client, struct tls_ctx *server, const char *sni)
{
    struct pair p = handshake(client, server, sni, 1000);
    assert_int_equal(p.a_is, TLS_OPEN);
    int type = EVP_PKEY_get_base_id(X509_get0_pubkey(SSL_get0_peer_certificate(p.a->ssl)));
    pair_free(&p);
    return type;
}

/* A context kept the certificate of every type of key that it had ever had. */
static void another_key_type(void **state)
{
    (void)state;
    static const char *const names[] = {NULL, "one.example"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct tls_ctx *server = make_ctx((struct tls_config){0}), *client = make_ctx((struct tls_config){0});
        add_cert(server, names[i], "one");
        assert_int_equal(shown_key(client, server, "one.example"), EVP_PKEY_EC);
        struct pair standing = handshake(client, server, "one.example", 1000);
        add_cert(server, names[i], "rsa");
        assert_int_equal(shown_key(client, server, "one.example"), EVP_PKEY_RSA);
        add_cert(server, names[i], "ed");
        assert_int_equal(shown_key(client, server, "one.example"), EVP_PKEY_ED25519);
        add_cert(server, names[i], "one");
        assert_int_equal(shown_key(client, server, "one.example"), EVP_PKEY_EC);
        talk(&standing, 1000);
        pair_free(&standing);
        tls_ctx_free(client);
        tls_ctx_free(server);
    }
}

/* Tickets belong to the context with which sessions start, which a reload of the default replaces. */
static void tickets_outlive_a_reload(void **state)
{
    (void)state;
    uint8_t keys[1][TLS_TICKET_KEY_BYTES];
    random_bytes(keys, sizeof keys);
    struct tls_ctx *server = make_server(true);
    tls_ctx_set_ticket_keys(server, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, 1);
    add_cert(server, NULL, "rsa");
    add_cert(server, "two.example", "two");
    struct plain_client c = plain_new(TLS1_3_VERSION);
    struct buf plain = {0};
    for (int round = 0; round < 2; round++) {
        struct tls *t = tls_accept(server);
        struct tls_info info;
        plain_start(&c, seen_session);
        SSL_set_tlsext_host_name(c.ssl, "two.example");
        assert_int_equal(plain_run(&c, t, &plain), TLS_OPEN);
        tls_get_info(t, &info);
        assert_int_equal(info.resumed, round);
        assert_string_equal(info.sni, "two.example");
        SSL_set_shutdown(c.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(c.ssl);
        c.ssl = NULL;
        tls_free(t);
    }
    plain_free(&c);
    buf_free(&plain);
    tls_ctx_free(server);
}

static void one_key_type_twice(void **state)
{
    (void)state;
    struct tls_ctx *server = make_server(true), *client = make_ctx((struct tls_config){0});
    char *one = path_of("one", "crt"), *one_key = path_of("one", "key"), *two = path_of("two", "crt"),
         *two_key = path_of("two", "key"), *error = NULL;
    const struct tls_cert_files files[] = {{two, two_key}, {one, one_key}};
    assert_false(tls_ctx_set_certs(server, NULL, files, 2, &error));
    assert_non_null(strstr(error, one));
    assert_true(shows(client, server, NULL, NULL, "one.example"));
    free(error);
    free(one);
    free(one_key);
    free(two);
    free(two_key);
    tls_ctx_free(client);
    tls_ctx_free(server);
}

/* What is said of a certificate for a name at a time; the caller frees it. */
static char *complaints(const char *name, const char *domain, int days_later)
{
    char *trusted = path_of("three", "crt");
    struct tls_ctx *server = make_ctx((struct tls_config){.alpn = "xmpp-client", .trust_file = trusted});
    struct tls_expect expect = {domain, domain, clock_wall_ms() + (uint64_t)(days_later * 86400000LL), 14};
    struct buf text = {0};
    add_cert(server, "x.example", name);
    tls_ctx_complaints(server, "x.example", &expect, &text);
    char *all = xstrdup(buf_cstr(&text));
    buf_free(&text);
    tls_ctx_free(server);
    free(trusted);
    return all;
}

static void expect_complaint(const char *name, const char *domain, int days_later, const char *want)
{
    char *text = complaints(name, domain, days_later);
    if (want == NULL ? text[0] != '\0' : strstr(text, want) == NULL || strchr(text, '\n')[1] != '\0')
        fail_msg("%s for %s: %s", name, domain, text);
    free(text);
}

static void what_is_wrong(void **state)
{
    (void)state;
    expect_complaint("one", "one.example", 0, NULL);
    expect_complaint("one", NULL, 0, NULL);
    expect_complaint("one", "one.example", 17, "it expires in 12 days, on 20");
    expect_complaint("one", "one.example", 30, "it has expired on 20");
    expect_complaint("one", "one.example", -2, "it is not valid before 20");
    expect_complaint("one", "other.example", 0, "it does not name other.example");
    expect_complaint("one", "cn.example", 0, "it does not name cn.example");
    expect_complaint("names", "addr.example", 0, NULL);
    expect_complaint("names", "a.wild.example", 0, NULL);
    /* signed by "three", which is trusted here, or by "one", which is neither that nor in the file */
    make_cert_by("by-three", "EC", "DNS:leaf.example", 30, "three");
    make_cert_by("by-one", "EC", "DNS:leaf.example", 30, "one");
    expect_complaint("by-three", "leaf.example", 0, NULL);
    expect_complaint("by-one", "leaf.example", 0, "its issuer /CN=cn.example is not behind it in the file");
    FILE *f = open_file("by-one", "crt", "a"), *chain = open_file("one", "crt", "r");
    for (int c; (c = fgetc(chain)) != EOF;)
        fputc(c, f);
    fclose(chain);
    fclose(f);
    expect_complaint("by-one", "leaf.example", 0, NULL);
}

/* Puts a certificate where the directory looks. */
static void place(const char *from, const char *to)
{
    static const char *const endings[] = {"crt", "key"};
    for (size_t i = 0; i < 2; i++) {
        FILE *in = open_file(from, endings[i], "r"), *out = open_file(to, endings[i], "w");
        for (int c; (c = fgetc(in)) != EOF;)
            fputc(c, out);
        fclose(in);
        fclose(out);
    }
}

static void remove_pair(const char *name)
{
    static const char *const endings[] = {"crt", "key"};
    for (size_t i = 0; i < 2; i++) {
        char *file = path_of(name, endings[i]);
        unlink(file);
        free(file);
    }
}

static long long metric_of(const char *domain)
{
    struct buf text = {0};
    char *want = xasprintf("jackdaw_tls_certificate_expiry_timestamp_seconds{domain=\"%s\"} ", domain);
    stat_write_prometheus(&text);
    const char *at = strstr(buf_cstr(&text), want);
    long long value = at != NULL ? atoll(at + strlen(want)) : -1;
    free(want);
    buf_free(&text);
    return value;
}

static void a_directory(void **state)
{
    (void)state;
    struct tls_ctx *server = make_ctx((struct tls_config){.alpn = "xmpp-client"}),
                   *client = make_ctx((struct tls_config){0});
    struct tls_directory *d = tls_directory_new(server, dir, 14);
    uint64_t now = clock_wall_ms();
    long long now_s = (long long)(now / 1000), day = 86400;
    static const char *const domains[] = {"dir.example", "dir.example", "none.example", "münchen.example"};
    for (size_t i = 0; i < ARRAY_LEN(domains); i++)
        tls_directory_add(d, domains[i]);
    place("two", "default");
    place("one", "dir.example");
    place("three", "münchen.example");
    assert_int_equal(tls_directory_load(d, now), 3);
    assert_true(shows(client, server, "dir.example", NULL, "one.example"));
    assert_true(shows(client, server, "xn--mnchen-3ya.example", NULL, "three.example"));
    assert_true(shows(client, server, "none.example", NULL, "two.example"));
    assert_in_range(metric_of("dir.example"), now_s + 29 * day, now_s + 31 * day);
    assert_in_range(metric_of("none.example"), now_s + 9 * day, now_s + 11 * day); /* the default's */
    assert_in_range(metric_of("default"), now_s + 9 * day, now_s + 11 * day);
    /* a renewal with another type of key */
    place("rsa", "dir.example");
    assert_int_equal(tls_directory_load(d, now), 3);
    assert_int_equal(shown_key(client, server, "dir.example"), EVP_PKEY_RSA);
    /* both, which of them a modern client is shown */
    place("one", "dir.example.ecdsa");
    assert_int_equal(tls_directory_load(d, now), 3);
    assert_int_equal(shown_key(client, server, "dir.example"), EVP_PKEY_EC);
    /* two of one type: nothing changes for this name, the others go on */
    place("two", "dir.example");
    place("two", "münchen.example");
    assert_int_equal(tls_directory_load(d, now), 2);
    assert_true(shows(client, server, "dir.example", NULL, "one.example"));
    assert_true(shows(client, server, "xn--mnchen-3ya.example", NULL, "two.example"));
    assert_in_range(metric_of("münchen.example"), now_s + 9 * day, now_s + 11 * day);
    /* gone: the old ones stay */
    remove_pair("dir.example");
    remove_pair("dir.example.ecdsa");
    assert_int_equal(tls_directory_load(d, now), 2);
    assert_true(shows(client, server, "dir.example", NULL, "one.example"));
    tls_directory_check(d, now + 1000);
    tls_directory_check(d, now + 2 * 86400000ull);
    tls_directory_free(d);
    /* a start with one broken pair of two */
    struct tls_ctx *fresh = make_ctx((struct tls_config){.alpn = "xmpp-client"});
    d = tls_directory_new(fresh, dir, 14);
    tls_directory_add(d, "half.example");
    place("rsa", "half.example.rsa");
    place("one", "half.example.ecdsa");
    char *key = path_of("half.example.ecdsa", "key");
    assert_int_equal(truncate(key, 10), 0);
    free(key);
    assert_int_equal(tls_directory_load(d, now), 2);
    assert_int_equal(shown_key(client, fresh, "half.example"), EVP_PKEY_RSA);
    tls_directory_free(d);
    tls_ctx_free(fresh);
    tls_ctx_free(client);
    tls_ctx_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reload),
        cmocka_unit_test(ecdsa_and_rsa),
        cmocka_unit_test(another_key_type),
        cmocka_unit_test(tickets_outlive_a_reload),
        cmocka_unit_test(one_key_type_twice),
        cmocka_unit_test(what_is_wrong),
        cmocka_unit_test(a_directory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
