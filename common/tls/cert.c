/* Certificates: reading them from files, and what is wrong with those that can be read. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#include "common/tls/internal.h"

#define DAY_MS 86400000u

uint64_t tls_time_ms(const ASN1_TIME *t)
{
    struct tm tm;
    if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1)
        return 0;
    time_t seconds = timegm(&tm);
    return seconds > 0 ? (uint64_t)seconds * 1000 : 0;
}

/* A certificate with its chain and key, as read from files. */
struct pair {
    X509 *leaf;
    STACK_OF(X509) * chain;
    EVP_PKEY *key;
};

static void pair_free(struct pair *p)
{
    X509_free(p->leaf);
    sk_X509_pop_free(p->chain, X509_free);
    EVP_PKEY_free(p->key);
}

static bool read_pair(const struct tls_cert_files *files, struct pair *p, char **error)
{
    char no_password[] = ""; /* else OpenSSL would ask on the terminal */
    const char *problem = "cannot read the certificate in", *file = files->cert;
    BIO *in = BIO_new_file(files->cert, "r");
    p->chain = sk_X509_new_null();
    p->leaf = in != NULL ? PEM_read_bio_X509_AUX(in, NULL, NULL, NULL) : NULL;
    if (p->leaf != NULL)
        for (X509 *more; (more = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL;)
            sk_X509_push(p->chain, more);
    BIO_free(in);
    if (p->leaf == NULL)
        goto fail;
    ERR_clear_error(); /* the end of the file */
    problem = "cannot read the private key in";
    file = files->key;
    in = BIO_new_file(files->key, "r");
    p->key = in != NULL ? PEM_read_bio_PrivateKey(in, NULL, NULL, no_password) : NULL;
    BIO_free(in);
    if (p->key == NULL)
        goto fail;
    problem = "the private key does not belong to the certificate:";
    if (X509_check_private_key(p->leaf, p->key) == 1)
        return true;
fail:;
    char *what = xasprintf("%s %s", problem, file);
    *error = tls_take_error(what);
    free(what);
    return false;
}

bool tls_use_pair(SSL_CTX *to, const struct tls_cert_files *files, char **error)
{
    struct pair p = {0};
    bool good = read_pair(files, &p, error);
    if (good && SSL_CTX_use_cert_and_key(to, p.leaf, p.key, p.chain, 0) != 1) {
        bool twice = ERR_GET_REASON(ERR_peek_error()) == SSL_R_NOT_REPLACING_CERTIFICATE;
        char *what = xasprintf(twice ? "another certificate beside %s has a key of the same type"
                                     : "cannot use the certificate in %s",
                               files->cert);
        *error = tls_take_error(what);
        free(what);
        good = false;
    }
    pair_free(&p);
    return good;
}

/* Steps through the certificates of a context; NULL behind the last. */
static X509 *next_cert(SSL_CTX *s, bool first)
{
    bool there =
        s != NULL && SSL_CTX_set_current_cert(s, first ? SSL_CERT_SET_FIRST : SSL_CERT_SET_NEXT) == 1;
    return there ? SSL_CTX_get0_certificate(s) : NULL;
}

uint64_t tls_ctx_cert_expiry_ms(const struct tls_ctx *ctx, const char *domain)
{
    SSL_CTX *s = tls_ctx_at(ctx, domain);
    uint64_t first = 0;
    for (X509 *x = next_cert(s, true); x != NULL; x = next_cert(s, false)) {
        uint64_t end = tls_time_ms(X509_get0_notAfter(x));
        if (end != 0 && (first == 0 || end < first))
            first = end;
    }
    return first;
}

/* Whether each certificate's issuer stands in the file, up to one who needs none or is trusted here. Roots
 * may be left out; what is between must not (RFC 8446 §4.4.2). */
static bool chain_is_whole(SSL_CTX *s, X509 *leaf, X509 **last)
{
    STACK_OF(X509) *chain = NULL;
    SSL_CTX_get0_chain_certs(s, &chain);
    X509 *at = leaf;
    for (int steps = 0; steps <= sk_X509_num(chain); steps++) {
        X509 *issuer = NULL;
        if ((X509_get_extension_flags(at) & EXFLAG_SI) != 0)
            return true;
        for (int i = 0; issuer == NULL && i < sk_X509_num(chain); i++)
            if (X509_check_issued(sk_X509_value(chain, i), at) == X509_V_OK)
                issuer = sk_X509_value(chain, i);
        *last = at;
        if (issuer == NULL)
            break;
        at = issuer;
    }
    X509 *root = NULL;
    X509_STORE_CTX *look = X509_STORE_CTX_new();
    bool trusted = look != NULL && X509_STORE_CTX_init(look, SSL_CTX_get_cert_store(s), leaf, chain) == 1 &&
                   X509_STORE_CTX_get1_issuer(&root, look, *last) == 1 &&
                   X509_verify(*last, X509_get0_pubkey(root)) == 1;
    X509_free(root);
    X509_STORE_CTX_free(look);
    return trusted;
}

static void say_date(struct buf *out, uint64_t ms)
{
    char text[32];
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &tm);
    buf_add_str(out, text);
}

static void complain_of_time(X509 *x, uint64_t now_ms, unsigned warn_days, struct buf *out)
{
    uint64_t from = tls_time_ms(X509_get0_notBefore(x)), to = tls_time_ms(X509_get0_notAfter(x));
    if (from > now_ms) {
        buf_add_lit(out, "it is not valid before ");
        say_date(out, from);
    } else if (to <= now_ms) {
        buf_add_lit(out, "it has expired on ");
        say_date(out, to);
    } else if (to - now_ms < warn_days * (uint64_t)DAY_MS) {
        buf_addf(out, "it expires in %llu days, on ", (unsigned long long)((to - now_ms) / DAY_MS));
        say_date(out, to);
    } else {
        return;
    }
    buf_add_char(out, '\n');
}

void tls_ctx_complaints(const struct tls_ctx *ctx, const char *domain, const struct tls_expect *expect,
                        struct buf *out)
{
    SSL_CTX *s = tls_ctx_at(ctx, domain);
    for (X509 *x = next_cert(s, true); x != NULL; x = next_cert(s, false)) {
        X509 *last = x;
        complain_of_time(x, expect->now_ms, expect->warn_days, out);
        bool named = expect->ascii == NULL || tls_cert_names(x, expect->ascii, ctx->alpn) ||
                     tls_cert_names(x, expect->unicode, NULL);
        if (!named)
            buf_addf(out, "it does not name %s\n", expect->unicode);
        if (!chain_is_whole(s, x, &last)) {
            char issuer[256];
            X509_NAME_oneline(X509_get_issuer_name(last), issuer, sizeof issuer);
            buf_addf(out,
                     "the certificate of its issuer %s is not behind it in the file: who does not have "
                     "that one cannot trust it\n",
                     issuer);
        }
    }
    ERR_clear_error();
}
