/* The shared part: policy by RFC 9325, a certificate store per domain, tickets under keys of the whole
 * cluster.
 *
 * Each domain has an SSL_CTX of its own that shares the base's trust store; the server-name callback moves a
 * session there. Certificates are read into a fresh context, which is put in force when all of them
 * are in it: a broken file changes nothing, and nothing of the old ones (another key type) goes on. Sessions
 * hold references to what they started with. */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "common/tls/internal.h"
#include "common/tls/slim/slim.h"

struct tls_domain {
    char *name;
    SSL_CTX *ssl;
};

char *tls_take_error(const char *what)
{
    const char *data = NULL;
    int flags = 0;
    unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    bool has_data = (flags & ERR_TXT_STRING) != 0 && data != NULL && data[0] != '\0';
    char *line = xasprintf("%s: %s%s%s", what, reason != NULL ? reason : "unexpected end",
                           has_data ? ", " : "", has_data ? data : "");
    ERR_clear_error();
    return line;
}

/* Registered names are ASCII; a name that doesn't fit can't be one of ours. False then. */
static bool lower_name(const char *name, char out[256])
{
    size_t n = strlen(name);
    if (n >= 256)
        return false;
    for (size_t i = 0; i <= n; i++)
        out[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    return true;
}

SSL_CTX *tls_ctx_for(struct tls_ctx *ctx, const char *name)
{
    char lower[256];
    struct tls_domain *d =
        name != NULL && lower_name(name, lower) ? map_get(&ctx->domains, span_of(lower)) : NULL;
    return d != NULL ? d->ssl : ctx->base;
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
    (void)alert;
    struct tls_ctx *ctx = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    bool asked = name != NULL;
    if (!asked)
        name = tls_current()->preferred;
    SSL_CTX *to = tls_ctx_for(ctx, name);
    if (to != ctx->base)
        SSL_set_SSL_CTX(ssl, to);
    return asked ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* A client that offers protocols but not ours has the wrong port, or is being played against us: RFC 7301
 * §3.2 wants the alert. One without the extension is an ordinary XMPP client. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *in,
                   unsigned in_n, void *arg)
{
    (void)ssl;
    struct tls_ctx *ctx = arg;
    size_t want = strlen(ctx->alpn);
    for (unsigned i = 0; i < in_n && i + in[i] < in_n; i += in[i] + 1u)
        if (in[i] == want && memcmp(in + i + 1, ctx->alpn, want) == 0) {
            *out = in + i + 1;
            *out_n = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* RFC 5077 §4: encrypts with the first key; a ticket of another known key is taken and renewed. */
static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt)
{
    struct tls_ctx *ctx = tls_current()->ctx;
    uint8_t *key = NULL;
    size_t at = 0;
    if (encrypt) {
        key = ctx->ticket_keys;
        if (key == NULL || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            return -1;
        memcpy(name, key, 16);
    } else {
        while (at < ctx->ticket_keys_count &&
               memcmp(ctx->ticket_keys + at * TLS_TICKET_KEY_BYTES, name, 16) != 0)
            at++;
        if (at == ctx->ticket_keys_count)
            return 0;
        key = ctx->ticket_keys + at * TLS_TICKET_KEY_BYTES;
    }
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key + 48, 32),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key + 16, iv, encrypt) != 1 ||
        EVP_MAC_CTX_set_params(mac, params) != 1)
        return -1;
    /* 2 = take it and send a new one: under TLS 1.3 a client uses each ticket once (RFC 8446 appendix C.4).
     */
    return at == 0 && (encrypt || SSL_version(ssl) < TLS1_3_VERSION) ? 1 : 2;
}

/* Lets the handshake go on whatever the chain is worth: the verdict is read by tls_get_peer. */
static int on_verify(int good, X509_STORE_CTX *store)
{
    (void)good;
    (void)store;
    return 1;
}

static SSL_CTX *make_ssl_ctx(struct tls_ctx *ctx)
{
    SSL_CTX *s = SSL_CTX_new(TLS_method());
    if (s == NULL)
        return NULL;
    SSL_CTX_set_mode(s, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(s, 1); /* a record by one call of the BIO, not two */
    SSL_CTX_set_options(s, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(s, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(s, 0);
    /* Servers present one certificate in both directions, often without clientAuth among its purposes. */
    SSL_CTX_set_purpose(s, X509_PURPOSE_ANY);
    SSL_CTX_set_verify(s, ctx->config.request_client_cert ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, on_verify);
    if (ctx->config.slim)
        slim_watch_ctx(s);
    static const unsigned char id[] = "jackdaw";
    bool good =
        SSL_CTX_dane_enable(s) == 1 && SSL_CTX_set_session_id_context(s, id, sizeof id - 1) == 1 &&
        SSL_CTX_set_min_proto_version(s, ctx->config.allow_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_cipher_list(s, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1 &&
        SSL_CTX_set_ciphersuites(s, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                    "TLS_CHACHA20_POLY1305_SHA256") == 1 &&
        SSL_CTX_set1_groups_list(s, "X25519:P-256:P-384") == 1;
    if (good && ctx->alpn != NULL) {
        unsigned char wire[256];
        size_t n = strlen(ctx->alpn);
        wire[0] = (unsigned char)n;
        memcpy(wire + 1, ctx->alpn, n);
        good = SSL_CTX_set_alpn_protos(s, wire, (unsigned)n + 1) == 0;
        SSL_CTX_set_alpn_select_cb(s, on_alpn, ctx);
    }
    if (!good) {
        SSL_CTX_free(s);
        return NULL;
    }
    return s;
}

static void enable_tickets(SSL_CTX *base)
{
    SSL_CTX_set_tlsext_ticket_key_evp_cb(base, on_ticket);
    SSL_CTX_clear_options(base, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(base, 1);
}

/* What OpenSSL asks only of the context with which a session starts. */
static void make_base(struct tls_ctx *ctx, SSL_CTX *base)
{
    SSL_CTX_set_tlsext_servername_callback(base, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(base, ctx);
    if (ctx->ticket_keys != NULL)
        enable_tickets(base);
}

struct tls_ctx *tls_ctx_new(const struct tls_config *config, char **error)
{
    struct tls_ctx *ctx = xcalloc(1, sizeof *ctx);
    ctx->config = *config;
    ctx->config.alpn = ctx->config.trust_file = NULL;
    CHECK(config->alpn == NULL || strlen(config->alpn) < 255);
    ctx->alpn = config->alpn != NULL ? xstrdup(config->alpn) : NULL;
    ctx->slice = BIO_new(tls_slice_method());
    if (ctx->slice != NULL) {
        BIO_set_init(ctx->slice, 1);
        ctx->base = make_ssl_ctx(ctx);
    }
    if (ctx->base == NULL) {
        *error = tls_take_error("cannot set up TLS");
        tls_ctx_free(ctx);
        return NULL;
    }
    int trusted = config->trust_file != NULL ? SSL_CTX_load_verify_file(ctx->base, config->trust_file)
                                             : SSL_CTX_set_default_verify_paths(ctx->base);
    if (trusted != 1) {
        char *what = xasprintf("cannot read the trusted certificates in %s",
                               config->trust_file != NULL ? config->trust_file : "the system's store");
        *error = tls_take_error(what);
        free(what);
        tls_ctx_free(ctx);
        return NULL;
    }
    make_base(ctx, ctx->base);
    return ctx;
}

void tls_ctx_free(struct tls_ctx *ctx)
{
    if (ctx == NULL)
        return;
    size_t at = 0;
    for (struct tls_domain *d; (d = map_next(&ctx->domains, &at)) != NULL;) {
        SSL_CTX_free(d->ssl);
        free(d->name);
        free(d);
    }
    map_free(&ctx->domains);
    SSL_CTX_free(ctx->base);
    BIO_free(ctx->slice);
    if (ctx->ticket_keys != NULL)
        OPENSSL_clear_free(ctx->ticket_keys, (size_t)ctx->ticket_keys_count * TLS_TICKET_KEY_BYTES);
    free(ctx->alpn);
    free(ctx);
}

SSL_CTX *tls_ctx_at(const struct tls_ctx *ctx, const char *domain)
{
    char lower[256];
    struct tls_domain *d =
        domain != NULL && lower_name(domain, lower) ? map_get(&ctx->domains, span_of(lower)) : NULL;
    return domain == NULL ? ctx->base : d != NULL ? d->ssl : NULL;
}

static void put_in_force(struct tls_ctx *ctx, const char *lower, SSL_CTX *fresh)
{
    struct tls_domain *d = lower != NULL ? map_get(&ctx->domains, span_of(lower)) : NULL;
    if (lower != NULL && d == NULL) {
        d = xcalloc(1, sizeof *d);
        d->name = xstrdup(lower);
        map_put(&ctx->domains, span_of(d->name), d);
    }
    SSL_CTX **to = lower != NULL ? &d->ssl : &ctx->base;
    SSL_CTX_free(*to);
    *to = fresh;
}

bool tls_ctx_set_certs(struct tls_ctx *ctx, const char *domain, const struct tls_cert_files *files,
                       unsigned count, char **error)
{
    char lower[256];
    if (domain != NULL && !lower_name(domain, lower)) {
        *error = xasprintf("%s: the domain is too long for a certificate", domain);
        return false;
    }
    SSL_CTX *fresh = make_ssl_ctx(ctx);
    bool good = fresh != NULL;
    if (good)
        SSL_CTX_set1_cert_store(fresh, SSL_CTX_get_cert_store(ctx->base));
    else
        *error = tls_take_error("cannot set up TLS");
    if (good && domain == NULL)
        make_base(ctx, fresh);
    for (unsigned i = 0; good && i < count; i++)
        good = tls_use_pair(fresh, &files[i], error);
    if (good)
        put_in_force(ctx, domain != NULL ? lower : NULL, fresh);
    else
        SSL_CTX_free(fresh);
    return good;
}

bool tls_ctx_set_cert(struct tls_ctx *ctx, const char *domain, const char *cert_file, const char *key_file,
                      char **error)
{
    return tls_ctx_set_certs(ctx, domain, &(struct tls_cert_files){cert_file, key_file}, 1, error);
}

void tls_ctx_set_ticket_keys(struct tls_ctx *ctx, const uint8_t (*keys)[TLS_TICKET_KEY_BYTES], unsigned count)
{
    CHECK(count > 0);
    size_t size = (size_t)count * TLS_TICKET_KEY_BYTES;
    uint8_t *copy = OPENSSL_memdup(keys, size);
    CHECK(copy != NULL);
    if (ctx->ticket_keys != NULL)
        OPENSSL_clear_free(ctx->ticket_keys, (size_t)ctx->ticket_keys_count * TLS_TICKET_KEY_BYTES);
    ctx->ticket_keys = copy;
    ctx->ticket_keys_count = count;
    enable_tickets(ctx->base);
}
