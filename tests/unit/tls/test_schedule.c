/* Our key schedule of TLS 1.3 against OpenSSL's own, over all shapes of input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>

#include "common/base/random.h"
#include "common/tls/internal.h"

/* What to give; n < 0 = leave it out. */
struct shape {
    int mode;
    const char *digest;
    int key, salt, prefix, label, data;
    size_t out;
};

static EVP_KDF *ours, *theirs;

static int setup(void **state)
{
    (void)state;
    const char *query = tls_schedule_start();
    assert_string_equal(query, "?provider=jackdaw");
    ours = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, query);
    theirs = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, "provider=default");
    assert_non_null(ours);
    assert_non_null(theirs);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(ours)), "jackdaw");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    EVP_KDF_free(ours);
    EVP_KDF_free(theirs);
    return 0;
}

static int derive(EVP_KDF *kdf, const OSSL_PARAM *params, uint8_t *out, size_t n)
{
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    assert_non_null(ctx);
    int r = EVP_KDF_derive(ctx, out, n, params);
    EVP_KDF_CTX_free(ctx);
    return r;
}

static void compare(const struct shape *s)
{
    static uint8_t bytes[5][300];
    const char *names[] = {OSSL_KDF_PARAM_KEY, OSSL_KDF_PARAM_SALT, OSSL_KDF_PARAM_PREFIX,
                           OSSL_KDF_PARAM_LABEL, OSSL_KDF_PARAM_DATA};
    const int sizes[] = {s->key, s->salt, s->prefix, s->label, s->data};
    uint8_t a[512] = {0}, b[512] = {0};
    int mode = s->mode;
    OSSL_PARAM params[8], *p = params;

    *p++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
    *p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)s->digest, 0);
    for (unsigned i = 0; i < 5; i++) {
        random_bytes(bytes[i], sizeof(bytes[i]));
        if (sizes[i] >= 0)
            *p++ = OSSL_PARAM_construct_octet_string(names[i], bytes[i], (size_t)sizes[i]);
    }
    *p = OSSL_PARAM_construct_end();
    assert_int_equal(derive(ours, params, a, s->out), 1);
    assert_int_equal(derive(theirs, params, b, s->out), 1);
    assert_memory_equal(a, b, sizeof(a));
}

static void same_as_openssl(void **state)
{
    static const struct {
        const char *name;
        int size;
    } digests[] = {{"SHA256", 32}, {"SHA2-256", 32}, {"SHA384", 48}, {"SHA2-384", 48}, {"sha256", 32}};

    (void)state;
    for (unsigned d = 0; d < ARRAY_LEN(digests); d++) {
        const char *name = digests[d].name;
        int n = digests[d].size;
        const struct shape shapes[] = {
            {EVP_KDF_HKDF_MODE_EXPAND_ONLY, name, n, -1, 6, 12, n, (size_t)n}, /* a traffic secret */
            {EVP_KDF_HKDF_MODE_EXPAND_ONLY, name, n, -1, 6, 3, -1, 16},        /* a key */
            {EVP_KDF_HKDF_MODE_EXPAND_ONLY, name, n, -1, 6, 2, -1, 12},        /* an IV */
            {EVP_KDF_HKDF_MODE_EXPAND_ONLY, name, n, -1, 6, 8, 0, 1},
            {EVP_KDF_HKDF_MODE_EXPAND_ONLY, name, n, -1, 6, 249, 255, 500}, /* an exporter's, at its limits */
            {EVP_KDF_HKDF_MODE_EXPAND_ONLY, name, 200, -1, 6, 10, n, (size_t)n * 2},
            {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, name, -1, -1, 6, 7, -1, (size_t)n}, /* the early secret */
            {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, name, n, -1, 6, 7, -1, (size_t)n},  /* of a ticket */
            {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, name, 32, n, 6, 7, -1, (size_t)n},  /* of X25519 */
            {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, name, 256, n, 6, 7, -1, (size_t)n},
            {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, name, -1, n, 6, 7, -1, (size_t)n}, /* the master secret */
        };
        for (unsigned i = 0; i < ARRAY_LEN(shapes); i++)
            for (unsigned round = 0; round < 20; round++)
                compare(&shapes[i]);
    }
}

static void refuses_what_it_cannot(void **state)
{
    uint8_t key[32] = {1}, label[256] = {2}, out[64];
    int expand = EVP_KDF_HKDF_MODE_EXPAND_ONLY, extract = EVP_KDF_HKDF_MODE_EXTRACT_ONLY,
        both = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &expand),
                           OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
                           OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, sizeof(key)),
                           OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, label, 255),
                           OSSL_PARAM_construct_end()};

    (void)state;
    assert_int_equal(derive(ours, params, out, 32), 1);
    assert_int_equal(derive(ours, NULL, out, 32), 0);
    params[3].data_size = 256; /* its length is one byte */
    assert_int_equal(derive(ours, params, out, 32), 0);
    params[3].data_size = 255;
    params[1].data = (char *)"MD5";
    assert_int_equal(derive(ours, params, out, 16), 0);
    params[1].data = (char *)"SHA256";
    params[0].data = &both;
    assert_int_equal(derive(ours, params, out, 32), 0);
    params[0].data = &extract;
    assert_int_equal(derive(ours, params, out, 31), 0);
    params[0].data = &expand;
    params[2].data_type = OSSL_PARAM_UTF8_STRING;
    assert_int_equal(derive(ours, params, out, 32), 0);
}

/* A session's derivations come here: both sides of this one do, so a third party checks in test_tls.c. */
static void contexts_take_it(void **state)
{
    struct tls_config config = {0};
    char *error = NULL;

    (void)state;
    struct tls_ctx *ctx = tls_ctx_new(&config, &error);
    assert_non_null(ctx);
    tls_ctx_free(ctx);
    ctx = tls_ctx_new(&config, &error); /* a second time, too */
    assert_non_null(ctx);
    tls_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_openssl),
        cmocka_unit_test(refuses_what_it_cannot),
        cmocka_unit_test(contexts_take_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
