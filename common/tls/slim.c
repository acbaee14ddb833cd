/* From OpenSSL's session to its record layer alone (record.h).
 *
 * What that takes is known only while OpenSSL works: the traffic secrets pass through schedule.c just before
 * it installs them, and from then on its message callback shows the header of every record in either
 * direction, so the records are counted. A session that has renewed its keys meanwhile stays as it is. */
#include <openssl/crypto.h>
#include <stdlib.h>

#include "common/tls/internal.h"
#include "common/tls/record.h"

struct tls_capture {
    struct tls_traffic traffic[2]; /* by enum tls_direction */
    bool known[2];
    bool renewed;
};

void tls_capture_secret(bool in, struct span secret)
{
    struct tls_capture *c = tls_current() != NULL ? tls_current()->capture : NULL;

    if (c == NULL || secret.n > TLS_SECRET_MAX)
        return;
    struct tls_traffic *t = &c->traffic[in ? TLS_IN : TLS_OUT];
    memcpy(t->secret, secret.p, secret.n);
    t->records = 0;
    c->known[in ? TLS_IN : TLS_OUT] = true;
}

static void on_message(int write, int version, int type, const void *bytes, size_t n, SSL *ssl, void *arg)
{
    struct tls_capture *c = tls_current() != NULL ? tls_current()->capture : NULL;
    (void)version;
    (void)ssl;
    (void)arg;

    if (c == NULL)
        return;
    if (type == SSL3_RT_HEADER)
        c->traffic[write ? TLS_OUT : TLS_IN].records++;
    else if (type == SSL3_RT_HANDSHAKE && n > 0 && *(const uint8_t *)bytes == SSL3_MT_KEY_UPDATE)
        c->renewed = true;
}

void tls_capture_enable(SSL_CTX *ctx)
{
    SSL_CTX_set_msg_callback(ctx, on_message);
}

struct tls_capture *tls_capture_new(void)
{
    return xcalloc(1, sizeof(struct tls_capture));
}

void tls_capture_free(struct tls_capture *c)
{
    if (c != NULL)
        OPENSSL_clear_free(c, sizeof *c);
}

bool tls_slim(struct tls *t)
{
    struct tls_capture *c = t->capture;
    struct tls_info info;

    if (t->records != NULL)
        return true;
    if (c == NULL || t->status != TLS_OPEN || SSL_has_pending(t->ssl) || SSL_get_shutdown(t->ssl) != 0)
        return false;
    if (SSL_version(t->ssl) != TLS1_3_VERSION || !c->known[TLS_IN] || !c->known[TLS_OUT] || c->renewed) {
        tls_capture_free(c);
        t->capture = NULL;
        return false;
    }
    t->records = tls_records_new(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(t->ssl)), c->traffic);
    if (t->records == NULL)
        return false;
    tls_get_info(t, &info);
    t->version = info.version;
    t->cipher = info.cipher;
    SSL_free(t->ssl);
    t->ssl = NULL;
    tls_capture_free(c);
    t->capture = NULL;
    return true;
}
