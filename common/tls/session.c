/* One session. All sessions share one BIO that owns nothing: during a call it reads from the span that is
 * being fed and appends to the caller's out buffer (`slice`, per thread); between calls it is empty. OpenSSL
 * takes what is there, keeps partial records itself and gives its record buffers back when they are empty.
 */
#include <openssl/err.h>
#include <stdlib.h>

#include "common/tls/internal.h"
#include "common/tls/slim/slim.h"

static _Thread_local struct {
    struct span in;
    struct buf *out;
    struct tls *current;
} slice;

struct tls *tls_current(void)
{
    return slice.current;
}

static int slice_read(BIO *bio, char *to, size_t n, size_t *done)
{
    BIO_clear_retry_flags(bio);
    n = MIN(n, slice.in.n);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(to, slice.in.p, n);
    slice.in.p += n;
    slice.in.n -= n;
    *done = n;
    return 1;
}

static int slice_write(BIO *bio, const char *from, size_t n, size_t *done)
{
    BIO_clear_retry_flags(bio);
    buf_add(slice.out, from, n);
    *done = n;
    return 1;
}

static long slice_ctrl(BIO *bio, int what, long number, void *arg)
{
    (void)bio;
    (void)number;
    (void)arg;
    return what == BIO_CTRL_FLUSH;
}

BIO_METHOD *tls_slice_method(void)
{
    static BIO_METHOD *method;
    if (method == NULL) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "slice");
        CHECK(method != NULL);
        BIO_meth_set_read_ex(method, slice_read);
        BIO_meth_set_write_ex(method, slice_write);
        BIO_meth_set_ctrl(method, slice_ctrl);
    }
    return method;
}

/* Clearing an empty queue costs as much as a tenth of a record. */
static void clear_errors(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

static void enter(struct tls *t, struct span in, struct buf *out)
{
    slice.in = in;
    slice.out = out;
    slice.current = t;
}

static void leave(void)
{
    slice.in = (struct span){0};
    slice.out = NULL;
    slice.current = NULL;
}

static struct tls *session_new(struct tls_ctx *ctx)
{
    struct tls *t = xcalloc(1, sizeof *t);
    t->ctx = ctx;
    t->ssl = SSL_new(ctx->base);
    CHECK(t->ssl != NULL);
    CHECK(BIO_up_ref(ctx->slice) == 1);
    SSL_set_bio(t->ssl, ctx->slice, ctx->slice);
    return t;
}

struct tls *tls_accept(struct tls_ctx *ctx)
{
    struct tls *t = session_new(ctx);
    if (ctx->config.slim)
        t->notes = slim_watch(t->ssl);
    SSL_set_accept_state(t->ssl);
    return t;
}

struct tls *tls_connect(struct tls_ctx *ctx, const char *server_name)
{
    struct tls *t = session_new(ctx);
    SSL_set_connect_state(t->ssl);
    SSL_set_tlsext_host_name(t->ssl, server_name);
    return t;
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    slim_records_free(t->records);
    slim_notes_free(t->notes);
    ERR_clear_error();
    free(t->preferred);
    free(t->error);
    free(t);
}

bool tls_add_tlsa(struct tls *t, const char *host, uint8_t usage, uint8_t selector, uint8_t matching,
                  struct span data)
{
    /* Enabled by the first record; a second time it would fail. */
    if (!t->dane) {
        if (SSL_dane_enable(t->ssl, host) != 1) {
            ERR_clear_error();
            return false;
        }
        SSL_dane_set_flags(t->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS); /* RFC 7671 §5.1 */
        const char *domain = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
        if (domain != NULL)
            SSL_add1_host(t->ssl, domain); /* either name will do (RFC 7673 §4.1) */
        t->dane = true;
    }
    bool good =
        SSL_dane_tlsa_add(t->ssl, usage, selector, matching, (const unsigned char *)data.p, data.n) == 1;
    ERR_clear_error();
    return good;
}

void tls_prefer_domain(struct tls *t, const char *domain)
{
    if (SSL_is_server(t->ssl) == 0) {
        SSL_set_SSL_CTX(t->ssl, tls_ctx_for(t->ctx, domain));
        return;
    }
    free(t->preferred);
    t->preferred = xstrdup(domain);
}

static enum tls_status fail(struct tls *t, const char *what)
{
    free(t->error);
    t->error = tls_take_error(what);
    return t->status = TLS_FAILED;
}

static enum tls_status step_handshake(struct tls *t)
{
    int r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        free(t->preferred);
        t->preferred = NULL;
        return t->status = TLS_OPEN;
    }
    return SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_READ ? TLS_HANDSHAKING : fail(t, "TLS handshake");
}

/* Reads while there is something to read; the last call that would only say so is saved. */
static enum tls_status step_read(struct tls *t, struct buf *plain)
{
    size_t fed = slice.in.n; /* OpenSSL takes all at once, and each of its records is shorter */
    while (slice.in.n > 0 || SSL_has_pending(t->ssl)) {
        size_t room = MIN(fed + (size_t)SSL_pending(t->ssl) + 64, (size_t)16384), got = 0;
        char *to = buf_reserve(plain, room);
        int r = SSL_read_ex(t->ssl, to, room, &got);
        if (r == 1) {
            plain->n += got;
            continue;
        }
        switch (SSL_get_error(t->ssl, r)) {
        case SSL_ERROR_WANT_READ:
            return TLS_OPEN;
        case SSL_ERROR_ZERO_RETURN:
            return t->status = TLS_CLOSED;
        default:
            return fail(t, "TLS");
        }
    }
    return TLS_OPEN;
}

static enum tls_status feed_slim(struct tls *t, struct span in, struct buf *plain, struct buf *out)
{
    const char *error;
    enum slim_status now = slim_records_feed(t->records, in, plain, out, &error);

    if (now == SLIM_OPEN)
        return TLS_OPEN;
    if (now == SLIM_CLOSED)
        return t->status = TLS_CLOSED;
    free(t->error);
    t->error = xstrdup(error);
    ERR_clear_error();
    return t->status = TLS_FAILED;
}

bool tls_slim(struct tls *t)
{
    struct tls_info info;

    if (t->records != NULL)
        return true;
    if (t->notes == NULL || t->status != TLS_OPEN)
        return false;
    tls_get_info(t, &info);
    enum slim_offer offer = slim_take(t->notes, t->ssl, &t->records);
    if (offer == SLIM_LATER)
        return false;
    if (offer == SLIM_TAKEN) {
        t->version = info.version;
        t->cipher = info.cipher;
        SSL_free(t->ssl);
        t->ssl = NULL;
    } else {
        slim_unwatch(t->ssl);
    }
    slim_notes_free(t->notes);
    t->notes = NULL;
    return offer == SLIM_TAKEN;
}

enum tls_status tls_feed(struct tls *t, struct span in, struct buf *plain, struct buf *out)
{
    if (t->status == TLS_FAILED || t->status == TLS_CLOSED)
        return t->status;
    if (t->records != NULL)
        return feed_slim(t, in, plain, out);
    clear_errors();
    enter(t, in, out);
    enum tls_status now = t->status;
    if (now == TLS_HANDSHAKING)
        now = step_handshake(t);
    if (now == TLS_OPEN)
        now = step_read(t, plain);
    leave();
    clear_errors();
    return now;
}

bool tls_write(struct tls *t, struct span plain, struct buf *out)
{
    if (t->status != TLS_OPEN)
        return false;
    if (plain.n == 0)
        return true;
    size_t done = 0;
    if (t->records != NULL) {
        if (!slim_records_write(t->records, plain, out))
            fail(t, "TLS write");
        return t->status == TLS_OPEN;
    }
    enter(t, (struct span){0}, out);
    bool good = SSL_write_ex(t->ssl, plain.p, plain.n, &done) == 1;
    if (!good)
        fail(t, "TLS write");
    leave();
    return good;
}

void tls_close(struct tls *t, struct buf *out)
{
    if (t->status != TLS_OPEN && t->status != TLS_CLOSED)
        return;
    if (t->records != NULL) {
        slim_records_close(t->records, out);
        return;
    }
    enter(t, (struct span){0}, out);
    SSL_shutdown(t->ssl);
    leave();
    ERR_clear_error();
}

const char *tls_error(const struct tls *t)
{
    return t->error != NULL ? t->error : "no error";
}

void tls_get_info(const struct tls *t, struct tls_info *out)
{
    const unsigned char *alpn = NULL;
    unsigned alpn_n = 0;
    if (t->ssl == NULL) {
        *out = (struct tls_info){.version = t->version, .cipher = t->cipher};
        return;
    }
    SSL_get0_alpn_selected(t->ssl, &alpn, &alpn_n);
    *out = (struct tls_info){
        .version = SSL_get_version(t->ssl),
        .cipher = SSL_get_cipher_name(t->ssl),
        .sni = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name),
        .alpn = alpn_n > 0 ? t->ctx->alpn : NULL, /* we know only one, so it is this */
        .resumed = SSL_session_reused(t->ssl) == 1,
    };
}
