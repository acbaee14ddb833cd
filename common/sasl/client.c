/* The client side: client-first "n,,n=user,r=nonce", then the proof ClientKey xor HMAC(StoredKey,
 * AuthMessage) over both first messages and the final one without proof. The stretched password is kept by
 * the caller. */
#include "common/sasl/client.h"

#include <stdlib.h>

#include "common/base/random.h"
#include "common/base/text.h"
#include "common/sasl/internal.h"

#define CLIENT_NONCE_BYTES 18

struct sasl_client {
    enum sasl_mech mech;
    enum digest digest;
    struct sasl_stretched *kept;
    struct buf password, first_bare, nonce;
    uint8_t signature[DIGEST_MAX_BYTES]; /* that the server must show */
    bool proven;
};

static void add_saslname(struct buf *out, struct span user)
{
    for (size_t i = 0; i < user.n; i++) {
        if (user.p[i] == ',')
            buf_add_lit(out, "=2C");
        else if (user.p[i] == '=')
            buf_add_lit(out, "=3D");
        else
            buf_add_char(out, user.p[i]);
    }
}

struct sasl_client *sasl_client_begin(enum sasl_mech mech, struct span user, struct span password,
                                      struct sasl_stretched *kept, struct buf *out)
{
    if (mech != SASL_PLAIN && mech != SASL_SCRAM_SHA_1 && mech != SASL_SCRAM_SHA_256 &&
        mech != SASL_SCRAM_SHA_512)
        return NULL;
    struct sasl_client *c = xcalloc(1, sizeof *c);
    c->mech = mech;
    c->digest = mech == SASL_SCRAM_SHA_512   ? DIGEST_SHA512
                : mech == SASL_SCRAM_SHA_256 ? DIGEST_SHA256
                                             : DIGEST_SHA1;
    c->kept = kept;
    buf_add_span(&c->password, password);
    if (mech == SASL_PLAIN) {
        buf_add_char(out, '\0');
        buf_add_span(out, user);
        buf_add_char(out, '\0');
        buf_add_span(out, password);
        return c;
    }
    uint8_t nonce[CLIENT_NONCE_BYTES];
    random_bytes(nonce, sizeof nonce);
    base64_add(&c->nonce, span_make(nonce, sizeof nonce));
    buf_add_lit(&c->first_bare, "n=");
    add_saslname(&c->first_bare, user);
    buf_add_lit(&c->first_bare, ",r=");
    buf_add_span(&c->first_bare, buf_span(&c->nonce));
    buf_add_lit(out, "n,,");
    buf_add_span(out, buf_span(&c->first_bare));
    return c;
}

void sasl_client_free(struct sasl_client *c)
{
    if (c == NULL)
        return;
    digest_wipe(c->password.p, c->password.n);
    buf_free(&c->password);
    buf_free(&c->first_bare);
    buf_free(&c->nonce);
    free(c);
}

/* The value of the field "letter=…" that opens *rest, which is cut off; p NULL when another stands there. */
static struct span take(struct span *rest, char letter)
{
    struct span field = span_cut(rest, ',');
    if (field.n < 2 || field.p[0] != letter || field.p[1] != '=')
        return (struct span){0};
    return span_sub(field, 2, field.n);
}

static const uint8_t *stretch(struct sasl_client *c, struct span salt, uint32_t iterations)
{
    struct sasl_stretched *k = c->kept;
    if (k->iterations != iterations || k->mech != c->mech || !span_eq(salt, span_make(k->salt, k->salt_n))) {
        digest_stretch(c->digest, buf_span(&c->password), salt, iterations, k->password);
        memcpy(k->salt, salt.p, salt.n);
        k->salt_n = (uint8_t)salt.n;
        k->mech = (uint8_t)c->mech;
        k->iterations = iterations;
    }
    return k->password;
}

static void prove(struct sasl_client *c, const uint8_t *salted, struct span auth, struct buf *proof)
{
    size_t n = digest_size(c->digest);
    uint8_t key[DIGEST_MAX_BYTES], stored[DIGEST_MAX_BYTES], sum[DIGEST_MAX_BYTES];
    digest_hmac(c->digest, span_make(salted, n), SPAN("Client Key"), key);
    digest_hash(c->digest, span_make(key, n), stored);
    digest_hmac(c->digest, span_make(stored, n), auth, sum);
    for (size_t i = 0; i < n; i++)
        key[i] ^= sum[i];
    buf_add(proof, key, n);
    digest_hmac(c->digest, span_make(salted, n), SPAN("Server Key"), key);
    digest_hmac(c->digest, span_make(key, n), auth, c->signature);
    c->proven = true;
}

bool sasl_client_step(struct sasl_client *c, struct span challenge, struct buf *out)
{
    if (c->mech == SASL_PLAIN || c->proven)
        return false;
    struct span rest = challenge;
    struct span nonce = take(&rest, 'r'), salt_text = take(&rest, 's'), count = take(&rest, 'i');
    uint64_t iterations;
    struct buf salt = {0}, auth = {0}, proof = {0};
    bool good = nonce.n > c->nonce.n && memcmp(nonce.p, c->nonce.p, c->nonce.n) == 0 &&
                base64_decode(&salt, salt_text) && salt.n > 0 && salt.n <= sizeof c->kept->salt &&
                span_to_u64(count, SASL_ITERATIONS_MAX, &iterations) && iterations > 0;
    if (good) {
        size_t start = out->n;
        buf_add_lit(out, "c=biws,r=");
        buf_add_span(out, nonce);
        buf_add_span(&auth, buf_span(&c->first_bare));
        buf_add_char(&auth, ',');
        buf_add_span(&auth, challenge);
        buf_add_char(&auth, ',');
        buf_add(&auth, out->p + start, out->n - start);
        prove(c, stretch(c, buf_span(&salt), (uint32_t)iterations), buf_span(&auth), &proof);
        buf_add_lit(out, ",p=");
        base64_add(out, buf_span(&proof));
    }
    buf_free(&salt);
    buf_free(&auth);
    buf_free(&proof);
    return good;
}

bool sasl_client_verify(struct sasl_client *c, struct span data)
{
    if (c->mech == SASL_PLAIN)
        return true;
    struct buf shown = {0};
    bool good = c->proven && base64_decode(&shown, take(&data, 'v')) && shown.n == digest_size(c->digest) &&
                digest_equal(shown.p, c->signature, shown.n);
    buf_free(&shown);
    return good;
}
