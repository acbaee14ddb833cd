/* What the hand-over takes is known only while OpenSSL works: its key log tells the traffic secrets just
 * before it installs them, and from then on its message callback shows the header of every record in either
 * direction, so the records are counted. A client that has said anything but data meanwhile (new keys, a
 * warning, the begin of either) keeps its session: what OpenSSL has noted of it can't be asked for. */
#include "common/tls/slim/slim.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdlib.h>

struct slim_notes {
    struct slim_traffic traffic[2]; /* by enum slim_direction */
    bool known[2];
    bool odd; /* the client has said something else than data */
};

/* Where a session keeps its notes. */
static int notes_index(void)
{
    static int index = -1;
    if (index < 0)
        index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    CHECK(index >= 0);
    return index;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "LABEL RANDOM SECRET", the last two in hexadecimal. */
static void on_secret(const SSL *ssl, const char *line)
{
    struct slim_notes *n = SSL_get_ex_data(ssl, notes_index());
    struct span rest = span_of(line), label = span_cut(&rest, ' ');
    bool in = span_is(label, "CLIENT_TRAFFIC_SECRET_0");
    enum slim_direction d = in ? SLIM_IN : SLIM_OUT;

    if (n == NULL || (!in && !span_is(label, "SERVER_TRAFFIC_SECRET_0")))
        return;
    span_cut(&rest, ' ');
    n->known[d] = rest.n > 0 && rest.n % 2 == 0 && rest.n / 2 <= SLIM_SECRET_MAX;
    n->traffic[d].records = 0;
    for (size_t i = 0; n->known[d] && i < rest.n; i += 2) {
        int high = hex_digit(rest.p[i]), low = hex_digit(rest.p[i + 1]);
        n->known[d] = high >= 0 && low >= 0;
        n->traffic[d].secret[i / 2] = (uint8_t)(high << 4 | low);
    }
}

static void on_message(int write, int version, int type, const void *bytes, size_t n, SSL *ssl, void *arg)
{
    struct slim_notes *notes = arg;
    (void)version;
    (void)ssl;

    if (type == SSL3_RT_HEADER)
        notes->traffic[write ? SLIM_OUT : SLIM_IN].records++;
    else if (type == SSL3_RT_INNER_CONTENT_TYPE && !write && n > 0 && notes->known[SLIM_IN])
        notes->odd = notes->odd || *(const uint8_t *)bytes != SSL3_RT_APPLICATION_DATA;
}

void slim_watch_ctx(SSL_CTX *ctx)
{
    SSL_CTX_set_keylog_callback(ctx, on_secret);
}

struct slim_notes *slim_watch(SSL *ssl)
{
    struct slim_notes *n = xcalloc(1, sizeof *n);

    CHECK(SSL_set_ex_data(ssl, notes_index(), n) == 1);
    SSL_set_msg_callback(ssl, on_message);
    SSL_set_msg_callback_arg(ssl, n);
    return n;
}

void slim_unwatch(SSL *ssl)
{
    SSL_set_msg_callback(ssl, NULL);
    SSL_set_ex_data(ssl, notes_index(), NULL);
}

void slim_notes_free(struct slim_notes *n)
{
    if (n != NULL)
        OPENSSL_clear_free(n, sizeof *n);
}

/* Nothing of a record is inside. SSL_has_pending doesn't know a header that was taken from the buffer while
 * its body is still to come; the state of reading does. */
static bool between_records(SSL *ssl)
{
    return !SSL_in_init(ssl) && SSL_has_pending(ssl) == 0 && strcmp(SSL_rstate_string(ssl), "RH") == 0;
}

/* RFC 6066 §4: 2^9 to 2^12, as the session has it for both directions. record_size_limit (RFC 8449) is not
 * known to OpenSSL 3.0, which agrees to none. */
static uint16_t content_max(SSL *ssl)
{
    uint8_t mode = SSL_SESSION_get_max_fragment_length(SSL_get0_session(ssl));

    return mode >= TLSEXT_max_fragment_length_512 && mode <= TLSEXT_max_fragment_length_4096
               ? (uint16_t)(1u << (8 + mode))
               : SLIM_CONTENT_MAX;
}

enum slim_offer slim_take(struct slim_notes *n, SSL *ssl, struct slim_records **out)
{
    if (SSL_version(ssl) != TLS1_3_VERSION || !SSL_is_server(ssl) || SSL_get_shutdown(ssl) != 0 ||
        !n->known[SLIM_IN] || !n->known[SLIM_OUT] || n->odd)
        return SLIM_NEVER;
    if (!between_records(ssl))
        return SLIM_LATER;
    *out = slim_records_new(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl)), n->traffic,
                            content_max(ssl));
    return *out != NULL ? SLIM_TAKEN : SLIM_NEVER;
}
