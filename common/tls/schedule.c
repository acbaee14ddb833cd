/* The key schedule of TLS 1.3 (RFC 8446 §7.1) as a provider of OpenSSL's, preferred by our contexts.
 *
 * OpenSSL 3.0 derives eighteen secrets in a handshake, and spends three quarters of the time around the hash:
 * it fetches the digest, the HMAC and the function by name and allocates some thirty times for each. Here a
 * derivation is the hash function itself, which libcrypto exports though it marks it for the end. Nothing is
 * kept between calls: libssl gives all parameters with the derivation. A secret that slim.c will need is told
 * to it. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/sha.h>

#include "common/tls/internal.h"

#define NAME             "jackdaw"
#define SUM_MAX_BYTES    48
#define BLOCK_MAX_BYTES  128
#define VECTOR_MAX_BYTES 255 /* of the label, and of the hash behind it */

union state {
    SHA256_CTX sha256;
    SHA512_CTX sha384;
};

static void sha256_start(union state *s)
{
    SHA256_Init(&s->sha256);
}

static void sha256_add(union state *s, struct span text)
{
    SHA256_Update(&s->sha256, text.p, text.n);
}

static void sha256_end(union state *s, uint8_t *sum)
{
    SHA256_Final(sum, &s->sha256);
}

static void sha384_start(union state *s)
{
    SHA384_Init(&s->sha384);
}

static void sha384_add(union state *s, struct span text)
{
    SHA384_Update(&s->sha384, text.p, text.n);
}

static void sha384_end(union state *s, uint8_t *sum)
{
    SHA384_Final(sum, &s->sha384);
}

static const struct hash {
    const char *name, *alias;
    size_t size, block;
    void (*start)(union state *s);
    void (*add)(union state *s, struct span text);
    void (*end)(union state *s, uint8_t *sum);
} hashes[] = {{"SHA2-256", "SHA256", 32, 64, sha256_start, sha256_add, sha256_end},
              {"SHA2-384", "SHA384", 48, 128, sha384_start, sha384_add, sha384_end}};

/* RFC 2104, over the parts one after the other. sum may be one of them. */
static void hmac(const struct hash *h, struct span key, const struct span *parts, unsigned count,
                 uint8_t *sum)
{
    union state s;
    uint8_t pad[BLOCK_MAX_BYTES] = {0};
    if (key.n > h->block) {
        h->start(&s);
        h->add(&s, key);
        h->end(&s, pad);
    } else if (key.n > 0) {
        memcpy(pad, key.p, key.n);
    }
    for (size_t i = 0; i < h->block; i++)
        pad[i] ^= 0x36;
    h->start(&s);
    h->add(&s, span_make(pad, h->block));
    for (unsigned i = 0; i < count; i++)
        h->add(&s, parts[i]);
    h->end(&s, sum);
    for (size_t i = 0; i < h->block; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    h->start(&s);
    h->add(&s, span_make(pad, h->block));
    h->add(&s, span_make(sum, h->size));
    h->end(&s, sum);
    explicit_bzero(&s, sizeof s);
    explicit_bzero(pad, sizeof pad);
}

/* What a derivation is given; the names are OpenSSL's. */
struct asked {
    const struct hash *hash;
    int mode;
    struct span key, salt, prefix, label, data;
};

/* HKDF-Expand-Label: HKDF-Expand (RFC 5869 §2.3) with length, prefix and label, and data as info. */
static bool expand_label(const struct asked *a, struct span key, struct span data, uint8_t *out, size_t n)
{
    const struct hash *h = a->hash;
    size_t label_n = a->prefix.n + a->label.n;
    if (label_n > VECTOR_MAX_BYTES || data.n > VECTOR_MAX_BYTES || n > 255 * h->size)
        return false;
    uint8_t head[3] = {(uint8_t)(n >> 8), (uint8_t)n, (uint8_t)label_n}, data_n = (uint8_t)data.n, round = 0;
    uint8_t sum[SUM_MAX_BYTES];
    struct span parts[] = {{0},  span_make(head, sizeof head), a->prefix, a->label, span_make(&data_n, 1),
                           data, span_make(&round, 1)};
    for (size_t at = 0; at < n; at += h->size) {
        round++;
        hmac(h, key, parts, ARRAY_LEN(parts), sum);
        memcpy(out + at, sum, MIN(h->size, n - at));
        parts[0] = span_make(sum, h->size);
    }
    explicit_bzero(sum, sizeof sum);
    return true;
}

/* HKDF-Extract with what Derive-Secret makes of the secret before (of no messages) as the salt; zeros stand
 * for what is missing. */
static bool extract(const struct asked *a, uint8_t *out, size_t n)
{
    static const uint8_t zeros[SUM_MAX_BYTES];
    const struct hash *h = a->hash;
    uint8_t salt[SUM_MAX_BYTES] = {0}, nothing[SUM_MAX_BYTES];
    if (n != h->size)
        return false;
    if (a->salt.p != NULL) {
        union state s;
        h->start(&s);
        h->end(&s, nothing);
        if (!expand_label(a, a->salt, span_make(nothing, h->size), salt, h->size))
            return false;
    }
    struct span input = a->key.p != NULL ? a->key : span_make(zeros, h->size);
    hmac(h, span_make(salt, h->size), &input, 1, out);
    explicit_bzero(salt, sizeof salt);
    return true;
}

static const struct hash *hash_find(const OSSL_PARAM *p)
{
    if (p->data_type != OSSL_PARAM_UTF8_STRING)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(hashes); i++)
        if (OPENSSL_strcasecmp(p->data, hashes[i].name) == 0 ||
            OPENSSL_strcasecmp(p->data, hashes[i].alias) == 0)
            return &hashes[i];
    return NULL;
}

static bool read_params(const OSSL_PARAM *params, struct asked *a)
{
    const struct {
        const char *name;
        struct span *to;
    } texts[] = {{OSSL_KDF_PARAM_KEY, &a->key},
                 {OSSL_KDF_PARAM_PREFIX, &a->prefix},
                 {OSSL_KDF_PARAM_LABEL, &a->label},
                 {OSSL_KDF_PARAM_DATA, &a->data},
                 {OSSL_KDF_PARAM_SALT, &a->salt}};
    for (const OSSL_PARAM *p = params; p != NULL && p->key != NULL; p++) {
        if (strcmp(p->key, OSSL_KDF_PARAM_MODE) == 0) {
            if (OSSL_PARAM_get_int(p, &a->mode) != 1)
                return false;
        } else if (strcmp(p->key, OSSL_KDF_PARAM_DIGEST) == 0) {
            a->hash = hash_find(p);
        } else {
            size_t i = 0;
            while (i < ARRAY_LEN(texts) && strcmp(p->key, texts[i].name) != 0)
                i++;
            if (i < ARRAY_LEN(texts) && p->data_type != OSSL_PARAM_OCTET_STRING)
                return false;
            if (i < ARRAY_LEN(texts))
                *texts[i].to = span_make(p->data, p->data_size);
        }
    }
    return a->hash != NULL;
}

/* OpenSSL's own way to tell, the key log, prints each byte of five secrets: 25 µs a handshake. */
static void tell_traffic(const struct asked *a, struct span secret)
{
    bool in = span_is(a->label, "c ap traffic");
    if (in || span_is(a->label, "s ap traffic"))
        tls_capture_secret(in, secret);
}

static int kdf_derive(void *ctx, unsigned char *out, size_t n, const OSSL_PARAM params[])
{
    (void)ctx;
    struct asked a = {0};
    bool good = read_params(params, &a);
    if (good && a.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY)
        good = a.key.p != NULL && expand_label(&a, a.key, a.data, out, n);
    else if (good && a.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
        good = extract(&a, out, n);
    else
        good = false;
    if (good)
        tell_traffic(&a, span_make(out, n));
    return good;
}

/* There is no state; OpenSSL only wants something that is not NULL. */
static void *kdf_new(void *provider)
{
    return provider;
}

static void kdf_free(void *ctx)
{
    (void)ctx;
}

static const OSSL_DISPATCH kdf[] = {{OSSL_FUNC_KDF_NEWCTX, (void (*)(void))kdf_new},
                                    {OSSL_FUNC_KDF_FREECTX, (void (*)(void))kdf_free},
                                    {OSSL_FUNC_KDF_RESET, (void (*)(void))kdf_free},
                                    {OSSL_FUNC_KDF_DERIVE, (void (*)(void))kdf_derive},
                                    {0, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
    static const OSSL_ALGORITHM kdfs[] = {{OSSL_KDF_NAME_TLS1_3_KDF, "provider=" NAME, kdf, NULL},
                                          {NULL, NULL, NULL, NULL}};
    (void)provider;
    *no_cache = 0;
    return operation == OSSL_OP_KDF ? kdfs : NULL;
}

static int start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **out,
                 void **context)
{
    static const OSSL_DISPATCH face[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
                                         {0, NULL}};
    static char nothing;
    (void)handle, (void)core;
    *out = face;
    *context = &nothing;
    return 1;
}

const char *tls_schedule_start(void)
{
    static OSSL_PROVIDER *provider;
    if (provider == NULL && OSSL_PROVIDER_add_builtin(NULL, NAME, start) == 1)
        provider = OSSL_PROVIDER_try_load(NULL, NAME, 1); /* the default one stays, too */
    if (provider == NULL)
        ERR_clear_error();
    return provider != NULL ? "?provider=" NAME : NULL;
}
