/* The server side of SCRAM (RFC 5802, 7677) for SHA-1, SHA-256 and SHA-512, with and without channel binding.
 *
 * It is our own for all three hashes because libgsasl 2.2 cannot do half of what is needed and splitting one
 * protocol over two implementations would be worse than one: it has no SHA-512 and no tls-server-end-point,
 * cannot add XEP-0474's h attribute to its first message, and asks for the user's keys in a callback that
 * must answer at once, while ours come from Redis. Its client side is the other side in the tests.
 *
 *   client-first  gs2-flag,[a=authzid],n=user,r=cnonce       -> the caller fetches the user's keys
 *   server-first  r=cnonce+snonce,s=salt,i=iterations[,h=hash of what was advertised]
 *   client-final  c=base64(gs2 header + binding data),r=nonce[,...],p=proof
 *   server-final  v=signature
 *
 * What the final message must carry as c and r is computed when the first has been read and compared as
 * bytes. An unknown user runs through the same arithmetic with made-up keys and fails at the proof. */
#include "common/base/random.h"
#include "common/base/text.h"
#include "common/sasl/internal.h"

#define SERVER_NONCE_BYTES 18

enum digest scram_digest(enum sasl_mech mech)
{
    return mech >= SASL_SCRAM_SHA_512   ? DIGEST_SHA512
           : mech >= SASL_SCRAM_SHA_256 ? DIGEST_SHA256
                                        : DIGEST_SHA1;
}

static bool is_plus(enum sasl_mech mech)
{
    return mech == SASL_SCRAM_SHA_1_PLUS || mech == SASL_SCRAM_SHA_256_PLUS ||
           mech == SASL_SCRAM_SHA_512_PLUS;
}

/* True, with *value the rest, when the field is "letter=...". */
static bool field_is(struct span field, char letter, struct span *value)
{
    if (field.n < 2 || field.p[0] != letter || field.p[1] != '=')
        return false;
    *value = span_sub(field, 2, field.n);
    return true;
}

/* A saslname (RFC 5802 §5.1): "=2C" is a comma, "=3D" an equals sign, any other "=" an error. */
static bool add_saslname(struct span text, struct buf *out)
{
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '=') {
            struct span code = span_sub(text, i + 1, 2);
            if (!span_is(code, "2C") && !span_is(code, "3D"))
                return false;
            c = span_is(code, "2C") ? ',' : '=';
            i += 2;
        }
        if (c == '\0')
            return false;
        buf_add_char(out, c);
    }
    return out->n > 0;
}

/* RFC 5802 §5.1: printable ASCII but for the comma (which cannot be here). */
static bool is_nonce(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x21 || s.p[i] > 0x7e)
            return false;
    return s.n > 0;
}

/* Judges the gs2-cbind-flag (RFC 5802 §6); on SASL_E_NONE *data is what the client must have bound to. */
static enum sasl_error judge_binding(const struct sasl *s, struct span flag, struct span *data)
{
    struct span name;
    *data = (struct span){0};
    if (span_is(flag, "n"))
        return is_plus(s->mech) ? SASL_E_NOT_AUTHORIZED : SASL_E_NONE;
    if (span_is(flag, "y")) {
        /* "You have no -PLUS": but we have, so somebody between us took it off the list. */
        return s->binding_offered || is_plus(s->mech) ? SASL_E_NOT_AUTHORIZED : SASL_E_NONE;
    }
    if (!field_is(flag, 'p', &name))
        return SASL_E_MALFORMED_REQUEST;
    if (!is_plus(s->mech))
        return SASL_E_NOT_AUTHORIZED;
    if (span_is(name, "tls-exporter"))
        *data = buf_span(&s->exporter);
    else if (span_is(name, "tls-server-end-point"))
        *data = buf_span(&s->server_end_point);
    return data->n > 0 ? SASL_E_NONE : SASL_E_NOT_AUTHORIZED;
}

enum sasl_status scram_first(struct sasl *s, struct span message)
{
    struct span rest = message, value, binding;
    struct span flag = span_cut(&rest, ','), authzid = span_cut(&rest, ',');
    if (rest.n == 0)
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    enum sasl_error refused = judge_binding(s, flag, &binding);
    if (refused != SASL_E_NONE)
        return sasl_fail(s, refused);
    if (authzid.n > 0 && (!field_is(authzid, 'a', &value) || !add_saslname(value, &s->authzid)))
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    struct span header = {message.p, message.n - rest.n};
    buf_add_span(&s->first_bare, rest);
    /* An "m=" here would be a mandatory extension; we know none. */
    if (!field_is(span_cut(&rest, ','), 'n', &value) || !add_saslname(value, &s->username) ||
        !field_is(span_cut(&rest, ','), 'r', &value) || !is_nonce(value))
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    buf_add_span(&s->nonce, value);
    uint8_t more[SERVER_NONCE_BYTES];
    random_bytes(more, sizeof more);
    base64_add(&s->nonce, span_make(more, sizeof more));
    struct buf bound = {0};
    buf_add_span(&bound, header);
    buf_add_span(&bound, binding);
    base64_add(&s->binding, buf_span(&bound));
    buf_free(&bound);
    s->state = STATE_USER;
    return SASL_NEED_USER;
}

enum sasl_status scram_user(struct sasl *s, const struct sasl_keys *keys, struct buf *out)
{
    enum digest d = scram_digest(s->mech);
    memcpy(s->stored, keys_stored(keys, d), digest_size(d));
    memcpy(s->server, keys_server(keys, d), digest_size(d));
    struct buf *first = &s->server_first;
    buf_add_lit(first, "r=");
    buf_add_span(first, buf_span(&s->nonce));
    buf_add_lit(first, ",s=");
    base64_add(first, span_make(keys->salt, keys->salt_n));
    buf_addf(first, ",i=%u", keys->iterations);
    if (s->mechanisms.n > 0) {
        uint8_t sum[DIGEST_MAX_BYTES];
        digest_hash(d, buf_span(&s->mechanisms), sum);
        buf_add_lit(first, ",h=");
        base64_add(first, span_make(sum, digest_size(d)));
    }
    buf_add_span(out, buf_span(first));
    s->state = STATE_FINAL;
    return SASL_CONTINUE;
}

/* RFC 5802 §3: the proof is ClientKey xor HMAC(StoredKey, AuthMessage), and H(ClientKey) must be StoredKey.
 */
static bool proof_holds(struct sasl *s, struct span proof, struct span auth_message)
{
    enum digest d = scram_digest(s->mech);
    size_t n = digest_size(d);
    uint8_t key[DIGEST_MAX_BYTES], sum[DIGEST_MAX_BYTES];
    digest_hmac(d, span_make(s->stored, n), auth_message, key);
    for (size_t i = 0; i < n; i++)
        key[i] ^= (uint8_t)proof.p[i];
    digest_hash(d, span_make(key, n), sum);
    bool same = digest_equal(sum, s->stored, n);
    digest_wipe(key, sizeof key);
    return same && s->known;
}

enum sasl_status scram_final(struct sasl *s, struct span message, struct buf *out)
{
    enum digest d = scram_digest(s->mech);
    struct span rest = message, bound = {0}, nonce = {0}, proof_text = {0};
    bool shaped = field_is(span_cut(&rest, ','), 'c', &bound) && field_is(span_cut(&rest, ','), 'r', &nonce);
    struct span last = rest;
    while (span_index(last, ',') < last.n)
        span_cut(&last, ',');
    struct buf proof = {0}, auth = {0};
    if (!shaped || !field_is(last, 'p', &proof_text) || !base64_decode(&proof, proof_text) ||
        proof.n != digest_size(d)) {
        buf_free(&proof);
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    }
    buf_add_span(&auth, buf_span(&s->first_bare));
    buf_add_char(&auth, ',');
    buf_add_span(&auth, buf_span(&s->server_first));
    buf_add_char(&auth, ',');
    buf_add(&auth, message.p, message.n - last.n - 1);
    bool good = proof_holds(s, buf_span(&proof), buf_span(&auth));
    uint8_t signature[DIGEST_MAX_BYTES];
    digest_hmac(d, span_make(s->server, digest_size(d)), buf_span(&auth), signature);
    buf_free(&proof);
    buf_free(&auth);
    if (!good || !span_eq(bound, buf_span(&s->binding)) || !span_eq(nonce, buf_span(&s->nonce)))
        return sasl_fail(s, SASL_E_NOT_AUTHORIZED);
    enum sasl_status end = sasl_succeed(s);
    if (end == SASL_DONE) {
        buf_add_lit(out, "v=");
        base64_add(out, span_make(signature, digest_size(d)));
    }
    return end;
}
