/* Who the other side is, and what ties a login to this very connection. */
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <strings.h>

#include "common/tls/internal.h"

#define EXPORTER_LABEL "EXPORTER-Channel-Binding"
#define EXPORTER_BYTES 32

static bool add_exporter(SSL *ssl, struct buf *out)
{
    uint8_t data[EXPORTER_BYTES];
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return false; /* RFC 9266 §3: without it two connections can share the data */
    if (out == NULL)
        return true;
    /* The context is the zero-length string, which TLS 1.2 tells from none (RFC 9266 §4). */
    if (SSL_export_keying_material(ssl, data, sizeof data, EXPORTER_LABEL, sizeof EXPORTER_LABEL - 1,
                                   (const uint8_t *)"", 0, 1) != 1)
        return false;
    buf_add(out, data, sizeof data);
    return true;
}

/* RFC 5929 §4.1: the hash of the server's certificate under its signature's own hash, SHA-256 for MD5 and
 * SHA-1; nothing for signatures without a single hash. A resumed server session no longer knows which
 * certificate the first one showed. */
static bool add_server_end_point(SSL *ssl, struct buf *out)
{
    bool server = SSL_is_server(ssl) == 1;
    if (server && SSL_session_reused(ssl))
        return false;
    X509 *x = server ? SSL_get_certificate(ssl) : SSL_get0_peer_certificate(ssl);
    int hash = NID_undef;
    if (x == NULL || X509_get_signature_info(x, &hash, NULL, NULL, NULL) != 1 || hash == NID_undef)
        return false;
    if (hash == NID_md5 || hash == NID_sha1 || hash == NID_md5_sha1)
        hash = NID_sha256;
    const EVP_MD *md = EVP_get_digestbynid(hash);
    uint8_t data[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (out == NULL)
        return md != NULL;
    if (md == NULL || X509_digest(x, md, data, &n) != 1)
        return false;
    buf_add(out, data, n);
    return true;
}

bool tls_get_binding(const struct tls *t, enum tls_binding kind, struct buf *out)
{
    if (t->ssl == NULL || !SSL_is_init_finished(t->ssl))
        return false;
    bool good = kind == TLS_BINDING_EXPORTER ? add_exporter(t->ssl, out) : add_server_end_point(t->ssl, out);
    ERR_clear_error();
    return good;
}

bool tls_get_peer(struct tls *t, struct tls_peer *out)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    if (x == NULL)
        return false;
    long verdict = SSL_get_verify_result(t->ssl);
    uint8_t usage = 0;
    bool matched = t->dane && SSL_get0_dane_tlsa(t->ssl, &usage, NULL, NULL, NULL, NULL) >= 0;
    *out = (struct tls_peer){
        .verified = verdict == X509_V_OK,
        .why_not = verdict == X509_V_OK ? NULL : X509_verify_cert_error_string(verdict),
        .in_date = X509_cmp_current_time(X509_get0_notBefore(x)) < 0 &&
                   X509_cmp_current_time(X509_get0_notAfter(x)) > 0,
        .expires_ms = tls_time_ms(X509_get0_notAfter(x)),
        .by_dane = verdict == X509_V_OK && matched && usage >= 2,
    };
    return true;
}

bool tls_peer_hash(struct tls *t, size_t n, uint8_t *out)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    const EVP_MD *md = n == 32 ? EVP_sha256() : n == 48 ? EVP_sha384() : n == 64 ? EVP_sha512() : NULL;
    return x != NULL && md != NULL && X509_digest(x, md, out, NULL) == 1;
}

static bool text_is(const ASN1_STRING *s, const char *want)
{
    size_t n = strlen(want);
    return ASN1_STRING_length(s) == (int)n &&
           strncasecmp((const char *)ASN1_STRING_get0_data(s), want, n) == 0;
}

/* id-on-xmppAddr (RFC 6120 §13.7.1.4) is the domain itself; id-on-dnsSRV (RFC 4985) is _service.domain. */
static bool other_name_matches(const OTHERNAME *o, const char *domain, const char *service)
{
    char oid[64];
    if (OBJ_obj2txt(oid, sizeof oid, o->type_id, 1) <= 0)
        return false;
    const ASN1_TYPE *v = o->value;
    if (strcmp(oid, "1.3.6.1.5.5.7.8.5") == 0)
        return v->type == V_ASN1_UTF8STRING && text_is(v->value.utf8string, domain);
    if (strcmp(oid, "1.3.6.1.5.5.7.8.7") != 0 || v->type != V_ASN1_IA5STRING || service == NULL)
        return false;
    struct buf want = {0};
    buf_addf(&want, "_%s.%s", service, domain);
    bool same = text_is(v->value.ia5string, buf_cstr(&want));
    buf_free(&want);
    return same;
}

bool tls_peer_matches(struct tls *t, const char *domain, const char *service)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    return x != NULL && tls_cert_names(x, domain, service);
}

bool tls_cert_names(X509 *x, const char *domain, const char *service)
{
    if (domain[0] == '\0' || domain[0] == '.') /* a leading dot would mean "any below" */
        return false;
    bool match = false;
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; !match && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        match = name->type == GEN_OTHERNAME && other_name_matches(name->d.otherName, domain, service);
    }
    GENERAL_NAMES_free(names);
    const unsigned flags = X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
    match = match || X509_check_host(x, domain, strlen(domain), flags, NULL) == 1;
    ERR_clear_error();
    return match;
}
