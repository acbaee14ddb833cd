/* A record is a header of five bytes, the content with its type behind it under AEAD, and the tag. The nonce
 * is the direction's IV with the record's number folded in; the header is authenticated with it.
 *
 * What a client may still say after the handshake is data, alerts, and KeyUpdate; everything else ends the
 * session with the alert that RFC 8446 names. */
#include "common/tls/slim/record.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#define HEADER        5
#define TAG           16
#define IV            12
#define RECORD_MAX    (SLIM_CONTENT_MAX + 256) /* §5.2 */
#define IDLE_MAX      32                       /* records in a row that are no data, or empty */
#define WARNINGS_MAX  4                        /* user_canceled, likewise */
#define UPDATE_BYTES  5                        /* a KeyUpdate message */
#define UPDATE_AFTER  (1ull << 23)             /* records; AES-GCM is good for 2^24.5 (§5.5) */
#define KEY_UPDATE    24
#define CLOSE_NOTIFY  0
#define USER_CANCELED 90

enum { TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };
enum {
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_DECODE_ERROR = 50,
    ALERT_INTERNAL_ERROR = 80,
};

struct half {
    EVP_CIPHER_CTX *cipher;
    struct slim_traffic traffic;
    uint8_t iv[IV];
};

struct suite {
    uint16_t number;
    uint8_t key;  /* bytes */
    uint8_t hash; /* bytes */
    const char *name;
    const EVP_MD *(*md)(void);
    EVP_CIPHER *cipher; /* fetched once */
};

struct slim_records {
    struct suite *suite;
    struct half half[2]; /* by enum slim_direction */
    struct buf held;     /* the begin of a record */
    uint16_t content_max;
    uint8_t update[UPDATE_BYTES]; /* the begin of a KeyUpdate that comes in several records */
    uint8_t update_n;
    uint8_t idle;    /* records in a row that are no data, or empty … */
    uint8_t warned;  /* … or are warnings */
    bool update_due; /* the peer has asked for our new key */
    bool closed;     /* our close_notify is out */
};

static struct suite suites[] = {
    {0x1301, 16, 32, "AES-128-GCM", EVP_sha256, NULL},
    {0x1302, 32, 48, "AES-256-GCM", EVP_sha384, NULL},
    {0x1303, 32, 32, "ChaCha20-Poly1305", EVP_sha256, NULL},
};

/* HKDF-Expand-Label (§7.1) with an empty context, for what one block of the hash yields. */
static bool expand(const struct suite *s, const uint8_t *secret, const char *label, uint8_t *out, size_t n)
{
    uint8_t info[64], block[EVP_MAX_MD_SIZE];
    size_t label_n = strlen(label), at = 0;

    info[at++] = 0;
    info[at++] = (uint8_t)n;
    info[at++] = (uint8_t)(6 + label_n);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, label_n);
    at += 6 + label_n;
    info[at++] = 0;
    info[at++] = 1; /* the block's number */
    if (HMAC(s->md(), secret, s->hash, info, at, block, NULL) == NULL)
        return false;
    memcpy(out, block, n);
    OPENSSL_cleanse(block, sizeof block);
    return true;
}

/* The key and IV of the half's secret (§7.3). */
static bool set_keys(struct slim_records *r, enum slim_direction d)
{
    struct half *h = &r->half[d];
    uint8_t key[32];
    bool ok = expand(r->suite, h->traffic.secret, "key", key, r->suite->key) &&
              expand(r->suite, h->traffic.secret, "iv", h->iv, IV) &&
              EVP_CipherInit_ex2(h->cipher, r->suite->cipher, key, NULL, d == SLIM_OUT, NULL) == 1;

    OPENSSL_cleanse(key, sizeof key);
    return ok;
}

/* The next generation of a secret (§7.2). */
static bool next_keys(struct slim_records *r, enum slim_direction d)
{
    struct slim_traffic *t = &r->half[d].traffic;

    t->records = 0;
    return expand(r->suite, t->secret, "traffic upd", t->secret, r->suite->hash) && set_keys(r, d);
}

static struct suite *suite_of(uint16_t number)
{
    for (size_t i = 0; i < ARRAY_LEN(suites); i++) {
        struct suite *s = &suites[i];
        if (s->number != number)
            continue;
        if (s->cipher == NULL)
            s->cipher = EVP_CIPHER_fetch(NULL, s->name, NULL);
        return s->cipher != NULL ? s : NULL;
    }
    return NULL;
}

struct slim_records *slim_records_new(uint16_t suite, const struct slim_traffic traffic[2],
                                      uint16_t content_max)
{
    struct suite *s = suite_of(suite);
    struct slim_records *r;

    if (s == NULL)
        return NULL;
    r = xcalloc(1, sizeof *r);
    r->suite = s;
    r->content_max = content_max;
    for (int d = SLIM_IN; d <= SLIM_OUT; d++) {
        r->half[d].traffic = traffic[d];
        r->half[d].cipher = EVP_CIPHER_CTX_new();
        if (r->half[d].cipher == NULL || !set_keys(r, d)) {
            slim_records_free(r);
            return NULL;
        }
    }
    return r;
}

void slim_records_free(struct slim_records *r)
{
    if (r == NULL)
        return;
    EVP_CIPHER_CTX_free(r->half[SLIM_IN].cipher);
    EVP_CIPHER_CTX_free(r->half[SLIM_OUT].cipher);
    buf_free(&r->held);
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
}

/* Sets the nonce of the next record and its header. */
static bool begin(struct half *h, const uint8_t header[HEADER], bool encrypt)
{
    uint8_t nonce[IV];
    int n;

    memcpy(nonce, h->iv, IV);
    for (int i = 0; i < 8; i++)
        nonce[IV - 1 - i] ^= (uint8_t)(h->traffic.records >> (8 * i));
    h->traffic.records++;
    return EVP_CipherInit_ex2(h->cipher, NULL, NULL, nonce, encrypt, NULL) == 1 &&
           EVP_CipherUpdate(h->cipher, NULL, &n, header, HEADER) == 1;
}

bool slim_records_say(struct slim_records *r, uint8_t type, struct span content, size_t padding,
                      struct buf *out)
{
    struct half *h = &r->half[SLIM_OUT];
    size_t inner = content.n + 1 + padding, n = inner + TAG;
    uint8_t *to = (uint8_t *)buf_reserve(out, HEADER + n), *body = to + HEADER;
    int done, last;

    to[0] = TYPE_DATA;
    to[1] = to[2] = 3;
    to[3] = (uint8_t)(n >> 8);
    to[4] = (uint8_t)n;
    if (content.n > 0)
        memcpy(body, content.p, content.n);
    body[content.n] = type;
    memset(body + content.n + 1, 0, padding);
    if (!begin(h, to, true) || EVP_CipherUpdate(h->cipher, body, &done, body, (int)inner) != 1 ||
        EVP_CipherFinal_ex(h->cipher, body + done, &last) != 1 ||
        EVP_CIPHER_CTX_ctrl(h->cipher, EVP_CTRL_AEAD_GET_TAG, TAG, body + inner) != 1)
        return false;
    out->n += HEADER + n;
    return true;
}

bool slim_records_update(struct slim_records *r, struct buf *out)
{
    static const char message[UPDATE_BYTES] = {KEY_UPDATE, 0, 0, 1, 0};

    r->update_due = false;
    return slim_records_say(r, TYPE_HANDSHAKE, span_make(message, sizeof message), 0, out) &&
           next_keys(r, SLIM_OUT);
}

/* However often the peer has asked for a new key since our last data, one answer before the next will do
 * (§4.6.3); one for each would let it fill our buffers while we have nothing to say. */
bool slim_records_write(struct slim_records *r, struct span plain, struct buf *out)
{
    while (plain.n > 0) {
        size_t n = MIN(plain.n, (size_t)r->content_max);
        bool due = r->update_due || r->half[SLIM_OUT].traffic.records >= UPDATE_AFTER;
        if (due && !slim_records_update(r, out))
            return false;
        if (!slim_records_say(r, TYPE_DATA, span_sub(plain, 0, n), 0, out))
            return false;
        plain = span_sub(plain, n, plain.n - n);
    }
    return true;
}

static void say_alert(struct slim_records *r, uint8_t alert, struct buf *out)
{
    char message[2] = {alert == CLOSE_NOTIFY ? 1 : 2, (char)alert};

    if (!r->closed)
        slim_records_say(r, TYPE_ALERT, span_make(message, sizeof message), 0, out);
    r->closed = true;
}

void slim_records_close(struct slim_records *r, struct buf *out)
{
    say_alert(r, CLOSE_NOTIFY, out);
}

struct verdict {
    enum slim_status status;
    uint8_t alert; /* for SLIM_FAILED; 0 = none is due */
    const char *error;
};

#define OPEN             ((struct verdict){SLIM_OPEN, 0, NULL})
#define FAIL(alert, why) ((struct verdict){SLIM_FAILED, (alert), (why)})

/* user_canceled says nothing until close_notify comes (§6.1); several in a row say that it won't. */
static struct verdict on_alert(struct slim_records *r, const uint8_t *p, size_t n)
{
    if (n != 2)
        return FAIL(ALERT_DECODE_ERROR, "TLS: malformed alert");
    if (p[1] == CLOSE_NOTIFY)
        return (struct verdict){SLIM_CLOSED, 0, NULL};
    if (p[1] != USER_CANCELED)
        return FAIL(0, "TLS: the peer sent an alert");
    return ++r->warned <= WARNINGS_MAX ? OPEN : FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: too many warnings");
}

/* KeyUpdate (§4.6.3). It may come in several records, though not in empty ones, and nothing may follow it in
 * its last one, since the next byte is for the next key (§5.1). */
static struct verdict on_handshake(struct slim_records *r, const uint8_t *p, size_t n)
{
    static const uint8_t begin_of_update[UPDATE_BYTES - 1] = {KEY_UPDATE, 0, 0, 1};
    size_t room = (size_t)UPDATE_BYTES - r->update_n;

    if (n == 0 || n > room)
        return FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: a handshake message other than KeyUpdate");
    memcpy(r->update + r->update_n, p, n);
    r->update_n = (uint8_t)(r->update_n + n);
    if (memcmp(r->update, begin_of_update, MIN((size_t)r->update_n, sizeof begin_of_update)) != 0)
        return FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: a handshake message other than KeyUpdate");
    if (r->update_n < UPDATE_BYTES)
        return OPEN;
    r->update_n = 0;
    if (r->update[UPDATE_BYTES - 1] > 1)
        return FAIL(ALERT_ILLEGAL_PARAMETER, "TLS: malformed KeyUpdate");
    r->update_due = r->update_due || r->update[UPDATE_BYTES - 1] == 1;
    return next_keys(r, SLIM_IN) ? OPEN : FAIL(ALERT_INTERNAL_ERROR, "TLS: no new key");
}

/* What a record held that has decrypted; data is left at `to`, its length in *data. */
static struct verdict on_content(struct slim_records *r, uint8_t *to, size_t n, size_t *data)
{
    uint8_t type;

    *data = 0;
    if (n > SLIM_CONTENT_MAX + 1) /* with the padding (§5.4) */
        return FAIL(ALERT_RECORD_OVERFLOW, "TLS: a record that is too long");
    while (n > 0 && to[n - 1] == 0)
        n--;
    if (n == 0)
        return FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: a record without a type");
    type = to[--n];
    if (n > r->content_max)
        return FAIL(ALERT_RECORD_OVERFLOW, "TLS: a record that is too long");
    if (type != TYPE_HANDSHAKE && r->update_n > 0)
        return FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: a record within a handshake message");
    if (type == TYPE_DATA && n > 0) {
        r->idle = r->warned = 0;
        *data = n;
        return OPEN;
    }
    if (type == TYPE_ALERT)
        return on_alert(r, to, n);
    if (++r->idle > IDLE_MAX)
        return FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: too many records without data");
    if (type == TYPE_HANDSHAKE)
        return on_handshake(r, to, n);
    return type == TYPE_DATA ? OPEN : FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: a record of unknown type");
}

/* Decrypts a whole record into *plain, which keeps only data. */
static struct verdict open_record(struct slim_records *r, const uint8_t *record, size_t n, struct buf *plain)
{
    struct half *h = &r->half[SLIM_IN];
    size_t inner = n - HEADER - TAG, data;
    uint8_t *to = (uint8_t *)buf_reserve(plain, inner);
    int done = 0, last = 0;
    struct verdict v;

    if (!begin(h, record, false) ||
        EVP_CipherUpdate(h->cipher, to, &done, record + HEADER, (int)inner) != 1 ||
        EVP_CIPHER_CTX_ctrl(h->cipher, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)(record + HEADER + inner)) != 1 ||
        EVP_CipherFinal_ex(h->cipher, to + done, &last) != 1)
        return FAIL(ALERT_BAD_RECORD_MAC, "TLS: a record does not decrypt");
    v = on_content(r, to, inner, &data);
    plain->n += data;
    return v;
}

/* The length of the record that begins at p, 0 while its header is incomplete. */
static size_t record_length(const uint8_t *p, size_t n)
{
    return n < HEADER ? 0 : HEADER + ((size_t)p[3] << 8 | p[4]);
}

static struct verdict check_header(const uint8_t *p, size_t length)
{
    if (p[0] != TYPE_DATA || p[1] != 3)
        return FAIL(ALERT_UNEXPECTED_MESSAGE, "TLS: no record of data");
    if (length > HEADER + RECORD_MAX)
        return FAIL(ALERT_RECORD_OVERFLOW, "TLS: a record that is too long");
    return length > HEADER + TAG ? OPEN : FAIL(ALERT_DECODE_ERROR, "TLS: a record that is too short");
}

/* Moves bytes from *in to the held ones until there are n. False while they do not suffice. */
static bool hold(struct slim_records *r, struct span *in, size_t n)
{
    size_t more = MIN(n - MIN(n, r->held.n), in->n);

    buf_add_span(&r->held, span_sub(*in, 0, more));
    *in = span_sub(*in, more, in->n - more);
    return r->held.n >= n;
}

/* One record from *in, of which an incomplete one is held. False in *done: nothing whole was there. */
static struct verdict next_record(struct slim_records *r, struct span *in, struct buf *plain, bool *done)
{
    const uint8_t *p = (const uint8_t *)in->p;
    size_t n = record_length(p, in->n);
    bool held = r->held.n > 0 || n == 0 || n > in->n;
    struct verdict v;

    *done = false;
    if (held) {
        if (!hold(r, in, HEADER))
            return OPEN;
        p = (const uint8_t *)r->held.p;
        n = record_length(p, r->held.n);
    }
    v = check_header(p, n);
    if (v.status != SLIM_OPEN || (held && !hold(r, in, n)))
        return v;
    *done = true;
    v = open_record(r, (const uint8_t *)(held ? r->held.p : in->p), n, plain);
    if (held)
        buf_free(&r->held);
    else
        *in = span_sub(*in, n, in->n - n);
    return v;
}

enum slim_status slim_records_feed(struct slim_records *r, struct span in, struct buf *plain, struct buf *out,
                                   const char **error)
{
    struct verdict v = OPEN;
    bool more = true;

    while (v.status == SLIM_OPEN && more && in.n > 0)
        v = next_record(r, &in, plain, &more);
    *error = v.error;
    if (v.status == SLIM_FAILED && v.alert != 0)
        say_alert(r, v.alert, out);
    return v.status;
}
