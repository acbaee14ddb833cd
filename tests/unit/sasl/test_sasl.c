/* Exchanges: the vectors of RFC 5802, RFC 7677 and XEP-0474; libgsasl's client as the independent other side;
 * a small client of our own for what it lacks; and everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <gsasl.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/base/text.h"
#include "common/sasl/internal.h"

#define SEED SPAN("the secret of this cluster")

static struct sasl_keys pencil; /* keys of the password "pencil" */

static struct sasl_server_config plain_config(void)
{
    return (struct sasl_server_config){.domain = "example.com", .tls = true};
}

static void digests(void **state)
{
    (void)state;
    struct buf hex = {0};
    uint8_t out[DIGEST_MAX_BYTES];
    /* FIPS 180 "abc", RFC 4231 §4.3, RFC 6070 with SHA-1; PBKDF2 with SHA-512 as widely published */
    digest_hash(DIGEST_SHA512, SPAN("abc"), out);
    hex_add(&hex, span_make(out, 64));
    assert_string_equal(buf_cstr(&hex), "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                                        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
    buf_clear(&hex);
    digest_hmac(DIGEST_SHA512, SPAN("Jefe"), SPAN("what do ya want for nothing?"), out);
    hex_add(&hex, span_make(out, 64));
    assert_string_equal(buf_cstr(&hex), "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
                                        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
    buf_clear(&hex);
    digest_stretch(DIGEST_SHA1, SPAN("password"), SPAN("salt"), 4096, out);
    hex_add(&hex, span_make(out, 20));
    assert_string_equal(buf_cstr(&hex), "4b007901b765489abead49d926f721d065a429c1");
    buf_clear(&hex);
    digest_stretch(DIGEST_SHA512, SPAN("password"), SPAN("salt"), 1, out);
    hex_add(&hex, span_make(out, 64));
    assert_string_equal(buf_cstr(&hex), "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252"
                                        "c02d470a285a0501bad999bfe943c08f050235d7d68b1da55e63f73b60a57fce");
    buf_free(&hex);
}

/* The vectors: the exchange's random part is replaced by the text's. */
struct vector {
    enum sasl_mech mech;
    const char *first, *nonce, *salt, *mechanisms, *server_first, *final, *server_final;
};

static void vectors(void **state)
{
    (void)state;
    static const struct vector all[] = {
        {SASL_SCRAM_SHA_1, "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
         "fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j", "QSXCR+Q6sek8bf92", "",
         "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
         "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
         "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
        {SASL_SCRAM_SHA_256, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
         "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==", "",
         "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
         "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
         "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
         "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
        {SASL_SCRAM_SHA_1_PLUS, "p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6",
         "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6", "QSXCR+Q6sek8bf92",
         "SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point",
         "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,s=QSXCR+Q6sek8bf92,i="
         "4096,"
         "h=G6k/rBLDqgOhRRaCuuatSDFkJ08=",
         "c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,"
         "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,"
         "x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4=",
         "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c="},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct vector *v = &all[i];
        struct sasl_server_config config = plain_config();
        config.mechanisms_hash = span_of(v->mechanisms);
        if (v->mech == SASL_SCRAM_SHA_1_PLUS)
            config.exporter = SPAN("THIS IS FAKE CB DATA");
        struct sasl *s = sasl_begin(v->mech, &config);
        struct buf out = {0}, salt = {0};
        assert_int_equal(sasl_step(s, true, span_of(v->first), &out), SASL_NEED_USER);
        assert_true(span_is(sasl_username(s), "user"));
        buf_clear(&s->nonce);
        buf_add_str(&s->nonce, v->nonce);
        struct sasl_keys keys = {.iterations = 4096};
        enum digest d = v->mech == SASL_SCRAM_SHA_256 ? DIGEST_SHA256 : DIGEST_SHA1;
        uint8_t salted[DIGEST_MAX_BYTES];
        assert_true(base64_decode(&salt, span_of(v->salt)));
        memcpy(keys.salt, salt.p, salt.n);
        keys.salt_n = (uint8_t)salt.n;
        keys_set_has(&keys, d);
        digest_stretch(d, SPAN("pencil"), buf_span(&salt), 4096, salted);
        digest_keys(d, salted, d == DIGEST_SHA1 ? keys.stored_sha1 : keys.stored_sha256,
                    d == DIGEST_SHA1 ? keys.server_sha1 : keys.server_sha256);
        assert_int_equal(sasl_user(s, &keys, SEED, &out), SASL_CONTINUE);
        assert_string_equal(buf_cstr(&out), v->server_first);
        if (v->mechanisms[0] != '\0')
            assert_non_null(strstr(buf_cstr(&out), strstr(v->server_first, ",h=")));
        buf_clear(&s->server_first);
        buf_add_str(&s->server_first, v->server_first);
        buf_clear(&out);
        assert_int_equal(sasl_step(s, true, span_of(v->final), &out), SASL_DONE);
        assert_string_equal(buf_cstr(&out), v->server_final);
        buf_free(&out);
        buf_free(&salt);
        sasl_free(s);
    }
}

/* Runs libgsasl's client against an exchange. `user` is looked up as known when it is "juliet". */
struct run {
    enum sasl_mech mech;
    const char *user, *password, *authzid;
    const char *client_binding;
    struct sasl_server_config config;
    bool no_initial;
};

static enum sasl_status run(const struct run *r, enum sasl_error *error)
{
    Gsasl *lib;
    Gsasl_session *client;
    assert_int_equal(gsasl_init(&lib), GSASL_OK);
    assert_int_equal(gsasl_client_start(lib, sasl_mech_name(r->mech), &client), GSASL_OK);
    gsasl_property_set(client, GSASL_AUTHID, r->user);
    gsasl_property_set(client, GSASL_PASSWORD, r->password);
    if (r->authzid != NULL)
        gsasl_property_set(client, GSASL_AUTHZID, r->authzid);
    struct buf text = {0}, out = {0};
    if (r->client_binding != NULL) {
        base64_add(&text, span_of(r->client_binding));
        gsasl_property_set(client, GSASL_CB_TLS_EXPORTER, buf_cstr(&text));
    }
    struct sasl *s = sasl_begin(r->mech, &r->config);
    enum sasl_status now = SASL_CONTINUE;
    if (r->no_initial) {
        assert_int_equal(sasl_step(s, false, (struct span){0}, &out), SASL_CONTINUE);
        assert_int_equal(out.n, 0);
    }
    int c = GSASL_NEEDS_MORE;
    while (now == SASL_CONTINUE) {
        char *reply = NULL;
        size_t reply_n = 0;
        c = gsasl_step(client, buf_cstr(&out), out.n, &reply, &reply_n);
        if (c != GSASL_OK && c != GSASL_NEEDS_MORE)
            fail_msg("the client refuses %s: %s", buf_cstr(&out), gsasl_strerror(c));
        buf_clear(&out);
        now = sasl_step(s, true, span_make(reply, reply_n), &out);
        if (now == SASL_NEED_USER) {
            assert_true(span_is(sasl_username(s), r->user));
            now = sasl_user(s, strcmp(r->user, "juliet") == 0 ? &pencil : NULL, SEED, &out);
        }
        gsasl_free(reply);
    }
    if (now == SASL_DONE && c == GSASL_NEEDS_MORE) { /* the client checks the server's signature */
        char *reply = NULL;
        size_t reply_n = 0;
        assert_int_equal(gsasl_step(client, buf_cstr(&out), out.n, &reply, &reply_n), GSASL_OK);
        gsasl_free(reply);
    }
    *error = sasl_get_error(s);
    assert_true((*error != SASL_E_NONE) == (now == SASL_FAILED));
    sasl_free(s);
    buf_free(&text);
    buf_free(&out);
    gsasl_finish(client);
    gsasl_done(lib);
    return now;
}

static void expect(struct run r, enum sasl_error want)
{
    enum sasl_error error = SASL_E_NONE;
    enum sasl_status end = run(&r, &error);
    if (error != want || end != (want == SASL_E_NONE ? SASL_DONE : SASL_FAILED))
        fail_msg("%s %s: %s, want %s", sasl_mech_name(r.mech), r.user, sasl_error_name(error),
                 sasl_error_name(want));
}

static void round_trips(void **state)
{
    (void)state;
    static const enum sasl_mech mechs[] = {SASL_PLAIN, SASL_SCRAM_SHA_1, SASL_SCRAM_SHA_256,
                                           SASL_SCRAM_SHA_1_PLUS, SASL_SCRAM_SHA_256_PLUS};
    for (size_t i = 0; i < ARRAY_LEN(mechs); i++) {
        struct run r = {.mech = mechs[i], .user = "juliet", .password = "pencil", .config = plain_config()};
        bool plus = i >= 3;
        if (plus) {
            r.client_binding = "binding data";
            r.config.exporter = SPAN("binding data");
        }
        expect(r, SASL_E_NONE);
        r.no_initial = true;
        expect(r, SASL_E_NONE);
        r.config.mechanisms_hash = SPAN("SCRAM-SHA-1\x1eSCRAM-SHA-256");
        expect(r, SASL_E_NONE);
        r.authzid = "Juliet@example.com";
        expect(r, SASL_E_NONE);
        r.authzid = "romeo@example.com";
        expect(r, SASL_E_INVALID_AUTHZID);
        r.authzid = "juliet@example.com/balcony";
        expect(r, SASL_E_INVALID_AUTHZID);
        r.authzid = NULL;
        r.password = "pencil2";
        expect(r, SASL_E_NOT_AUTHORIZED);
        r.password = "pencil";
        r.user = "romeo";
        expect(r, SASL_E_NOT_AUTHORIZED);
        r.user = "juliet";
        if (plus) {
            r.config.exporter = SPAN("other data");
            expect(r, SASL_E_NOT_AUTHORIZED);
            r.config.exporter = (struct span){0};
            expect(r, SASL_E_NOT_AUTHORIZED);
        }
    }
    /* SASLprep: a soft hyphen maps to nothing, a Roman numeral to letters (RFC 4013 §3) */
    expect((struct run){.mech = SASL_SCRAM_SHA_256,
                        .user = "juliet",
                        .password = "pen\u00adcil",
                        .config = plain_config()},
           SASL_E_NONE);
}

/* A SCRAM client of our own, for any hash and binding. Returns the end; *final may be spoiled by `spoil`. */
static enum sasl_status own_client(enum sasl_mech mech, enum digest d, const char *header,
                                   struct span binding, const struct sasl_server_config *config,
                                   const struct sasl_keys *keys, size_t spoil, enum sasl_error *error)
{
    struct sasl *s = sasl_begin(mech, config);
    struct buf first = {0}, challenge = {0}, bound = {0}, final = {0}, auth = {0}, salt = {0}, out = {0};
    buf_addf(&first, "%sn=juliet,r=abc", header);
    enum sasl_status now = sasl_step(s, true, buf_span(&first), &challenge);
    if (now != SASL_NEED_USER)
        goto out;
    assert_int_equal(sasl_user(s, keys, SEED, &challenge), SASL_CONTINUE);
    char *nonce_end = strchr(buf_cstr(&challenge), ',');
    char *salt_end = strchr(nonce_end + 1, ',');
    assert_true(base64_decode(&salt, span_make(nonce_end + 3, (size_t)(salt_end - nonce_end) - 3)));
    uint8_t salted[DIGEST_MAX_BYTES], client[DIGEST_MAX_BYTES], stored[DIGEST_MAX_BYTES],
        sig[DIGEST_MAX_BYTES], server[DIGEST_MAX_BYTES];
    size_t n = digest_size(d);
    digest_stretch(d, SPAN("pencil"), buf_span(&salt), (uint32_t)atoi(salt_end + 3), salted);
    digest_hmac(d, span_make(salted, n), SPAN("Client Key"), client);
    digest_keys(d, salted, stored, server);
    buf_add_str(&bound, header);
    buf_add_span(&bound, binding);
    buf_add_lit(&final, "c=");
    base64_add(&final, buf_span(&bound));
    buf_addf(&final, ",%.*s", (int)(nonce_end - challenge.p), challenge.p);
    buf_addf(&auth, "n=juliet,r=abc,%s,%s", buf_cstr(&challenge), buf_cstr(&final));
    digest_hmac(d, span_make(stored, n), buf_span(&auth), sig);
    for (size_t i = 0; i < n; i++)
        client[i] ^= sig[i];
    buf_add_lit(&final, ",p=");
    base64_add(&final, span_make(client, n));
    if (spoil > 0)
        final.p[spoil % final.n] ^= 1;
    now = sasl_step(s, true, buf_span(&final), &out);
    if (now == SASL_DONE) {
        struct buf want = {0};
        digest_hmac(d, span_make(server, n), buf_span(&auth), sig);
        buf_add_lit(&want, "v=");
        base64_add(&want, span_make(sig, n));
        assert_true(span_eq(buf_span(&want), buf_span(&out)));
        buf_free(&want);
    } else {
        assert_int_equal(out.n, 0);
    }
out:
    *error = sasl_get_error(s);
    sasl_free(s);
    struct buf *const all[] = {&first, &challenge, &bound, &final, &auth, &salt, &out};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_free(all[i]);
    return now;
}

static void sha512_and_end_point(void **state)
{
    (void)state;
    struct sasl_server_config config = plain_config(), both = config;
    enum sasl_error e;
    both.server_end_point = SPAN("\x01\x02\x00\x03");
    both.exporter = SPAN("exported");
    const struct span none = {0};
    assert_int_equal(own_client(SASL_SCRAM_SHA_512, DIGEST_SHA512, "n,,", none, &config, &pencil, 0, &e),
                     SASL_DONE);
    assert_int_equal(own_client(SASL_SCRAM_SHA_512, DIGEST_SHA512, "y,,", none, &config, &pencil, 0, &e),
                     SASL_DONE);
    assert_int_equal(own_client(SASL_SCRAM_SHA_512, DIGEST_SHA512, "n,,", none, &config, NULL, 0, &e),
                     SASL_FAILED);
    assert_int_equal(e, SASL_E_NOT_AUTHORIZED);
    assert_int_equal(own_client(SASL_SCRAM_SHA_512, DIGEST_SHA512, "y,,", none, &both, &pencil, 0, &e),
                     SASL_FAILED);
    assert_int_equal(own_client(SASL_SCRAM_SHA_512, DIGEST_SHA512, "p=tls-exporter,,", both.exporter, &both,
                                &pencil, 0, &e),
                     SASL_FAILED);
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        enum sasl_mech mech = (enum sasl_mech)(SASL_SCRAM_SHA_1_PLUS + 2 * (int)d);
        const char *header = "p=tls-server-end-point,a=juliet@example.com,";
        assert_int_equal(own_client(mech, d, header, both.server_end_point, &both, &pencil, 0, &e),
                         SASL_DONE);
        assert_int_equal(own_client(mech, d, header, both.exporter, &both, &pencil, 0, &e), SASL_FAILED);
        assert_int_equal(own_client(mech, d, "p=tls-exporter,,", both.exporter, &both, &pencil, 0, &e),
                         SASL_DONE);
        assert_int_equal(own_client(mech, d, "p=tls-unique,,", both.exporter, &both, &pencil, 0, &e),
                         SASL_FAILED);
        assert_int_equal(own_client(mech, d, "n,,", none, &both, &pencil, 0, &e), SASL_FAILED);
        assert_int_equal(own_client(mech, d, "y,,", none, &both, &pencil, 0, &e), SASL_FAILED);
        /* one changed bit anywhere in the final message */
        for (size_t i = 1; i < 200; i++)
            assert_int_equal(own_client(mech, d, header, both.server_end_point, &both, &pencil, i, &e),
                             SASL_FAILED);
    }
}

static enum sasl_error first_error(enum sasl_mech mech, struct span message)
{
    struct sasl_server_config config = plain_config();
    struct sasl *s = sasl_begin(mech, &config);
    struct buf out = {0};
    enum sasl_status now = sasl_step(s, true, message, &out);
    enum sasl_error e = sasl_get_error(s);
    assert_int_equal(out.n, 0);
    if (now == SASL_NEED_USER)
        assert_int_equal(e, SASL_E_NONE);
    else
        assert_int_equal(now, SASL_FAILED);
    buf_free(&out);
    sasl_free(s);
    return e;
}

static void malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ",",
        ",,",
        "n",
        "n,",
        "n,,",
        "n,,n=",
        "n,,n=a",
        "n,,n=a,",
        "n,,n=a,r=",
        "n,,n=,r=b",
        "x,,n=a,r=b",
        "n,b=c,n=a,r=b",
        "n,a=,n=a,r=b",
        "n,a=b=,n=a,r=b",
        "n,,n=a=,r=b",
        "n,,n=a=2,r=b",
        "n,,n=a=2c,r=b",
        "n,,n=a=41,r=b",
        "n,,m=x,n=a,r=b",
        "n,,r=b,n=a",
        "n,,n=a,r=\x01",
        "n,,n=a,r=\xc3\xa9",
        "p,,n=a,r=b",
        "p=,,n=a,r=b",
        "nn,,n=a,r=b",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (first_error(SASL_SCRAM_SHA_256, span_of(bad[i])) == SASL_E_NONE)
            fail_msg("accepted: %s", bad[i]);
    assert_int_equal(first_error(SASL_SCRAM_SHA_256, span_make("n,,n=a\0b,r=c", 12)),
                     SASL_E_MALFORMED_REQUEST);
    assert_int_equal(first_error(SASL_SCRAM_SHA_256, SPAN("n,,n=a=2Cb=3D,r=c,x=ext")), SASL_E_NONE);
    assert_int_equal(first_error(SASL_PLAIN, SPAN("")), SASL_E_MALFORMED_REQUEST);
    assert_int_equal(first_error(SASL_PLAIN, SPAN("abc")), SASL_E_MALFORMED_REQUEST);
    assert_int_equal(first_error(SASL_PLAIN, span_make("\0a\0", 3)), SASL_E_MALFORMED_REQUEST);
    assert_int_not_equal(first_error(SASL_PLAIN, span_make("\0\0b", 3)), SASL_E_NONE);
    assert_int_not_equal(first_error(SASL_PLAIN, span_make("\0a\0b\0c", 6)), SASL_E_NONE);
    assert_int_equal(first_error(SASL_PLAIN, span_make("\0a\0b", 4)), SASL_E_NONE);
    char *big = xcalloc(1, 10000);
    memset(big, 'a', 10000);
    memcpy(big, "n,,n=", 5);
    memcpy(big + 9990, ",r=b", 4);
    assert_int_equal(first_error(SASL_SCRAM_SHA_1, span_make(big, 9994)), SASL_E_MALFORMED_REQUEST);
    free(big);
    /* out of turn */
    struct sasl_server_config config = plain_config();
    struct sasl *s = sasl_begin(SASL_SCRAM_SHA_1, &config);
    struct buf out = {0};
    assert_int_equal(sasl_user(s, &pencil, SEED, &out), SASL_FAILED);
    assert_int_equal(sasl_step(s, true, SPAN("n,,n=a,r=b"), &out), SASL_FAILED);
    sasl_free(s);
    s = sasl_begin(SASL_SCRAM_SHA_1, &config);
    assert_int_equal(sasl_step(s, true, SPAN("n,,n=a,r=b"), &out), SASL_NEED_USER);
    assert_int_equal(sasl_step(s, true, SPAN("n,,n=a,r=b"), &out), SASL_FAILED);
    assert_int_equal(sasl_user(s, &pencil, SEED, &out), SASL_FAILED);
    sasl_free(s);
    buf_free(&out);
}

static void plain_needs_tls(void **state)
{
    (void)state;
    struct run r = {.mech = SASL_PLAIN, .user = "juliet", .password = "pencil", .config = plain_config()};
    r.config.tls = false;
    expect(r, SASL_E_ENCRYPTION_REQUIRED);
    r.config.plain_in_clear = true;
    expect(r, SASL_E_NONE);
}

static void external(void **state)
{
    (void)state;
    static const struct {
        const char *proven, *asked;
        enum sasl_error want;
    } cases[] = {
        {"remote.example", "", SASL_E_NONE},
        {"remote.example", "Remote.Example", SASL_E_NONE},
        {"juliet@example.com", "juliet@example.com", SASL_E_NONE},
        {"remote.example", "other.example", SASL_E_INVALID_AUTHZID},
        {"", "", SASL_E_NOT_AUTHORIZED},
        {"", "remote.example", SASL_E_NOT_AUTHORIZED},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sasl_server_config config = plain_config();
        config.external_jid = span_of(cases[i].proven);
        struct sasl *s = sasl_begin(SASL_EXTERNAL, &config);
        struct buf out = {0};
        enum sasl_status now = sasl_step(s, true, span_of(cases[i].asked), &out);
        assert_int_equal(sasl_get_error(s), cases[i].want);
        assert_int_equal(now, cases[i].want == SASL_E_NONE ? SASL_DONE : SASL_FAILED);
        if (now == SASL_DONE)
            assert_true(span_is(sasl_username(s), cases[i].proven));
        buf_free(&out);
        sasl_free(s);
    }
}

/* The challenge for a user, without the nonce. */
static void challenge(const char *user, const struct sasl_keys *keys, struct span seed, struct buf *out)
{
    struct sasl_server_config config = plain_config();
    struct sasl *s = sasl_begin(SASL_SCRAM_SHA_256, &config);
    struct buf first = {0};
    buf_addf(&first, "n,,n=%s,r=abc", user);
    buf_clear(out);
    assert_int_equal(sasl_step(s, true, buf_span(&first), out), SASL_NEED_USER);
    assert_int_equal(sasl_user(s, keys, seed, out), SASL_CONTINUE);
    buf_consume(out, span_index(buf_span(out), ','));
    buf_free(&first);
    sasl_free(s);
}

static void unknown_users(void **state)
{
    (void)state;
    struct buf a = {0}, b = {0};
    challenge("romeo", NULL, SEED, &a);
    challenge("ROMEO", NULL, SEED, &b); /* the same account, so the same salt */
    assert_true(span_eq(buf_span(&a), buf_span(&b)));
    challenge("romea", NULL, SEED, &b);
    assert_false(span_eq(buf_span(&a), buf_span(&b)));
    challenge("romeo", NULL, SPAN("another secret"), &b);
    assert_false(span_eq(buf_span(&a), buf_span(&b)));
    struct sasl_keys usual = pencil;
    usual.iterations = SASL_ITERATIONS_DEFAULT;
    challenge("juliet", &usual, SEED, &b);
    assert_int_equal(a.n, b.n);
    assert_non_null(strstr(buf_cstr(&a), ",i=10000"));
    buf_free(&a);
    buf_free(&b);
}

/* The keys with one hash only, through the text that Redis keeps. */
static struct sasl_keys only(enum digest d)
{
    struct buf text = {0};
    struct sasl_keys keys;
    sasl_keys_write(&pencil, &text);
    struct span rest = buf_span(&text), entry = {0};
    for (enum digest i = DIGEST_SHA1; i <= d; i++)
        entry = span_cut(&rest, ' ');
    assert_true(sasl_keys_parse(entry, &keys));
    buf_free(&text);
    return keys;
}

/* An account brought along from another server: what it has works, PLAIN too; the mechanisms that it has no
 * hash for are refused as a wrong password is, behind a challenge with the same salt and count. */
static void one_hash(void **state)
{
    (void)state;
    static const enum sasl_mech mechs[] = {SASL_SCRAM_SHA_1, SASL_SCRAM_SHA_256, SASL_SCRAM_SHA_512};
    struct sasl_keys all = pencil;
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        pencil = only(d);
        expect(
            (struct run){
                .mech = SASL_PLAIN, .user = "juliet", .password = "pencil", .config = plain_config()},
            SASL_E_NONE);
        expect(
            (struct run){.mech = SASL_PLAIN, .user = "juliet", .password = "pen", .config = plain_config()},
            SASL_E_NOT_AUTHORIZED);
        for (unsigned i = 0; i < 2; i++) /* libgsasl knows no SHA-512 */
            expect(
                (struct run){
                    .mech = mechs[i], .user = "juliet", .password = "pencil", .config = plain_config()},
                i == d ? SASL_E_NONE : SASL_E_NOT_AUTHORIZED);
        for (unsigned i = 0; i < ARRAY_LEN(mechs); i++) {
            struct sasl_server_config config = plain_config();
            struct sasl *s = sasl_begin(mechs[i], &config);
            struct buf out = {0}, salt = {0};
            assert_int_equal(sasl_step(s, true, SPAN("n,,n=juliet,r=abc"), &out), SASL_NEED_USER);
            assert_int_equal(sasl_user(s, &pencil, SEED, &out), SASL_CONTINUE);
            buf_add_lit(&salt, ",s=");
            base64_add(&salt, span_make(pencil.salt, pencil.salt_n));
            buf_add_lit(&salt, ",i=4096");
            assert_non_null(strstr(buf_cstr(&out), buf_cstr(&salt)));
            assert_int_equal(sasl_lacks_hash(s), i != d);
            buf_free(&out);
            buf_free(&salt);
            sasl_free(s);
        }
        pencil = all;
    }
}

/* Other servers' salts are longer or shorter than ours; none and too long ones are refused. */
static void salts(void **state)
{
    (void)state;
    for (unsigned n = 0; n <= SASL_SALT_MAX + 1; n++) {
        uint8_t salt[SASL_SALT_MAX + 1] = {1}, key[20] = {2};
        struct sasl_keys back;
        struct buf text = {0}, again = {0};
        buf_add_lit(&text, "SCRAM-SHA-1$4096:");
        base64_add(&text, span_make(salt, n));
        buf_add_char(&text, '$');
        base64_add(&text, span_make(key, sizeof key));
        buf_add_char(&text, ':');
        base64_add(&text, span_make(key, sizeof key));
        bool good = sasl_keys_parse(buf_span(&text), &back);
        assert_int_equal(good, n > 0 && n <= SASL_SALT_MAX);
        if (good) {
            sasl_keys_write(&back, &again);
            assert_true(span_eq(buf_span(&text), buf_span(&again)));
        }
        buf_free(&text);
        buf_free(&again);
    }
}

static void keys_as_text(void **state)
{
    (void)state;
    struct buf text = {0}, again = {0};
    struct sasl_keys back;
    sasl_keys_write(&pencil, &text);
    assert_true(sasl_keys_parse(buf_span(&text), &back));
    assert_memory_equal(&back, &pencil, sizeof back);
    assert_int_equal(strncmp(buf_cstr(&text), "SCRAM-SHA-1$4096:", 17), 0);
    for (size_t i = 0; i < text.n; i++) /* a piece is good where it ends with a whole entry */
        assert_int_equal(sasl_keys_parse(span_sub(buf_span(&text), 0, i), &back), text.p[i] == ' ');
    buf_add_char(&text, ' ');
    assert_false(sasl_keys_parse(buf_span(&text), &back));
    text.n--;
    for (size_t i = 0; i < text.n; i++) { /* a changed byte: refused, or read as what it then says */
        text.p[i] ^= 1;
        buf_clear(&again);
        if (sasl_keys_parse(buf_span(&text), &back)) {
            sasl_keys_write(&back, &again);
            assert_true(span_eq(buf_span(&text), buf_span(&again)));
        }
        text.p[i] ^= 1;
    }
    static const char *const bad[] = {"", " ", "SCRAM-SHA-1$0:AA==$AA==:AA==", "SCRAM-SHA-1$4096"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(sasl_keys_parse(span_of(bad[i]), &back));
    buf_free(&text);
    buf_free(&again);
    /* libgsasl derives the same */
    char salted[32], client[32], server[32], stored[32];
    assert_int_equal(gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, "pencil", 4096,
                                                       (const char *)pencil.salt, 16, salted, client, server,
                                                       stored),
                     GSASL_OK);
    assert_memory_equal(stored, pencil.stored_sha256, 32);
    assert_memory_equal(server, pencil.server_sha256, 32);
    assert_int_equal(gsasl_scram_secrets_from_password(GSASL_HASH_SHA1, "pencil", 4096,
                                                       (const char *)pencil.salt, 16, salted, client, server,
                                                       stored),
                     GSASL_OK);
    assert_memory_equal(stored, pencil.stored_sha1, 20);
    assert_memory_equal(server, pencil.server_sha1, 20);
    /* what has no keys */
    assert_false(sasl_keys_derive(SPAN(""), 4096, &back));
    assert_false(sasl_keys_derive(span_make("a\0b", 3), 4096, &back));
    assert_false(sasl_keys_derive(SPAN("a\x07"), 4096, &back)); /* control character: prohibited */
    assert_false(sasl_keys_derive(SPAN("\xff"), 4096, &back));
    assert_false(sasl_keys_derive(SPAN("\u00ad"), 4096, &back)); /* maps to nothing */
    assert_false(sasl_keys_derive(SPAN("a"), 0, &back));
    assert_false(sasl_keys_derive(SPAN("a"), SASL_ITERATIONS_MAX + 1, &back));
}

static void names(void **state)
{
    (void)state;
    for (enum sasl_mech m = SASL_PLAIN; m < SASL_MECH_COUNT; m++) {
        enum sasl_mech back;
        assert_true(sasl_mech_parse(span_of(sasl_mech_name(m)), &back));
        assert_int_equal(back, m);
    }
    enum sasl_mech m;
    assert_false(sasl_mech_parse(SPAN("plain"), &m));
    assert_false(sasl_mech_parse(SPAN(""), &m));
    assert_string_equal(sasl_error_name(SASL_E_TEMPORARY_AUTH_FAILURE), "temporary-auth-failure");
}

/* Printed, not judged: what a login and an account cost, and known against unknown users. */
static void cost(void **state)
{
    (void)state;
    struct sasl_keys keys;
    struct sasl_server_config config = plain_config();
    uint64_t start = clock_mono_ns();
    assert_true(sasl_keys_derive(SPAN("secret"), SASL_ITERATIONS_DEFAULT, &keys));
    printf("sasl_keys_derive, %d iterations: %.1f ms\n", SASL_ITERATIONS_DEFAULT,
           (double)(clock_mono_ns() - start) / 1e6);
    for (int known = 0; known < 2; known++) {
        uint64_t best = UINT64_MAX;
        for (int i = 0; i < 3; i++) {
            struct buf out = {0};
            struct sasl *s = sasl_begin(SASL_PLAIN, &config);
            assert_int_equal(sasl_step(s, true, span_make("\0juliet\0pencil", 14), &out), SASL_NEED_USER);
            start = clock_mono_ns();
            assert_int_equal(sasl_user(s, known ? &keys : NULL, SEED, &out), SASL_FAILED);
            best = MIN(best, clock_mono_ns() - start);
            sasl_free(s);
            buf_free(&out);
        }
        printf("PLAIN, %s user, wrong password: %.2f ms\n", known ? "known" : "unknown", (double)best / 1e6);
    }
    for (int known = 0; known < 2; known++) {
        enum { ROUNDS = 300 };
        enum sasl_error e;
        start = clock_mono_ns();
        for (int i = 0; i < ROUNDS; i++) {
            struct buf out = {0};
            struct sasl *s = sasl_begin(SASL_SCRAM_SHA_256, &config);
            sasl_step(s, true, SPAN("n,,n=juliet,r=abc"), &out);
            sasl_user(s, known ? &keys : NULL, SEED, &out);
            e = sasl_get_error(s);
            sasl_free(s);
            buf_free(&out);
        }
        assert_int_equal(e, SASL_E_NONE);
        printf("SCRAM challenge, %s user: %.1f us\n", known ? "known" : "unknown",
               (double)(clock_mono_ns() - start) / 1e3 / ROUNDS);
    }
}

static int set_up(void **state)
{
    (void)state;
    return sasl_keys_derive(SPAN("pencil"), 4096, &pencil) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests),      cmocka_unit_test(vectors),
        cmocka_unit_test(round_trips),  cmocka_unit_test(sha512_and_end_point),
        cmocka_unit_test(malformed),    cmocka_unit_test(plain_needs_tls),
        cmocka_unit_test(external),     cmocka_unit_test(unknown_users),
        cmocka_unit_test(keys_as_text), cmocka_unit_test(one_hash),
        cmocka_unit_test(salts),        cmocka_unit_test(names),
        cmocka_unit_test(cost),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
