/* The face of the room: names, the life of an exchange, and what all mechanisms share. */
#include "common/sasl/sasl.h"

#include <stdlib.h>

#include "common/base/random.h"
#include "common/jid/jid.h"
#include "common/sasl/internal.h"

static const char *const mech_names[SASL_MECH_COUNT] = {
    [SASL_PLAIN] = "PLAIN",
    [SASL_EXTERNAL] = "EXTERNAL",
    [SASL_SCRAM_SHA_1] = "SCRAM-SHA-1",
    [SASL_SCRAM_SHA_1_PLUS] = "SCRAM-SHA-1-PLUS",
    [SASL_SCRAM_SHA_256] = "SCRAM-SHA-256",
    [SASL_SCRAM_SHA_256_PLUS] = "SCRAM-SHA-256-PLUS",
    [SASL_SCRAM_SHA_512] = "SCRAM-SHA-512",
    [SASL_SCRAM_SHA_512_PLUS] = "SCRAM-SHA-512-PLUS",
};

static const char *const error_names[] = {
    [SASL_E_NONE] = "none",
    [SASL_E_ABORTED] = "aborted",
    [SASL_E_ACCOUNT_DISABLED] = "account-disabled",
    [SASL_E_CREDENTIALS_EXPIRED] = "credentials-expired",
    [SASL_E_ENCRYPTION_REQUIRED] = "encryption-required",
    [SASL_E_INCORRECT_ENCODING] = "incorrect-encoding",
    [SASL_E_INVALID_AUTHZID] = "invalid-authzid",
    [SASL_E_INVALID_MECHANISM] = "invalid-mechanism",
    [SASL_E_MALFORMED_REQUEST] = "malformed-request",
    [SASL_E_MECHANISM_TOO_WEAK] = "mechanism-too-weak",
    [SASL_E_NOT_AUTHORIZED] = "not-authorized",
    [SASL_E_TEMPORARY_AUTH_FAILURE] = "temporary-auth-failure",
};

const char *sasl_mech_name(enum sasl_mech mech)
{
    return mech_names[mech];
}

bool sasl_mech_parse(struct span name, enum sasl_mech *out)
{
    for (unsigned i = 0; i < SASL_MECH_COUNT; i++)
        if (span_is(name, mech_names[i])) {
            *out = (enum sasl_mech)i;
            return true;
        }
    return false;
}

const char *sasl_error_name(enum sasl_error error)
{
    return error_names[error];
}

struct sasl *sasl_begin(enum sasl_mech mech, const struct sasl_server_config *config)
{
    struct sasl *s = xcalloc(1, sizeof *s);
    s->mech = mech;
    s->tls = config->tls;
    s->plain_in_clear = config->plain_in_clear;
    s->binding_offered = config->binding_offered || config->exporter.n > 0 || config->server_end_point.n > 0;
    s->verified = config->verified;
    s->domain = xstrdup(config->domain != NULL ? config->domain : "");
    buf_add_span(&s->exporter, config->exporter);
    buf_add_span(&s->server_end_point, config->server_end_point);
    buf_add_span(&s->external_jid, config->external_jid);
    buf_add_span(&s->mechanisms, config->mechanisms_hash);
    return s;
}

void sasl_free(struct sasl *s)
{
    if (s == NULL)
        return;
    struct buf *const all[] = {&s->exporter, &s->server_end_point, &s->external_jid, &s->mechanisms,
                               &s->username, &s->authzid,          &s->password,     &s->first_bare,
                               &s->nonce,    &s->server_first,     &s->binding};
    if (s->password.p != NULL)
        digest_wipe(s->password.p, s->password.n);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        buf_free(all[i]);
    free(s->domain);
    digest_wipe(s, sizeof *s);
    free(s);
}

enum sasl_status sasl_fail(struct sasl *s, enum sasl_error error)
{
    s->state = STATE_OVER;
    s->error = error;
    return SASL_FAILED;
}

/* Appends the bare JID that logs in: for EXTERNAL as the certificate has it. */
static bool add_own_jid(const struct sasl *s, struct buf *out)
{
    if (s->mech == SASL_EXTERNAL) {
        buf_add_span(out, buf_span(&s->external_jid));
        return true;
    }
    if (!jid_prepare_local(buf_span(&s->username), out, NULL))
        return false;
    buf_add_char(out, '@');
    return jid_prepare_domain(span_of(s->domain), out, NULL);
}

enum sasl_status sasl_succeed(struct sasl *s)
{
    if (s->authzid.n > 0) {
        struct buf own = {0}, asked = {0};
        struct jid j;
        bool same = add_own_jid(s, &own) && jid_prepare(buf_span(&s->authzid), &asked, &j, NULL) &&
                    span_eq(buf_span(&own), buf_span(&asked));
        buf_free(&own);
        buf_free(&asked);
        if (!same)
            return sasl_fail(s, SASL_E_INVALID_AUTHZID);
    }
    s->state = STATE_OVER;
    return SASL_DONE;
}

enum sasl_status sasl_step(struct sasl *s, bool has_message, struct span message, struct buf *out)
{
    if (message.n > MESSAGE_MAX_BYTES || s->state == STATE_USER || s->state == STATE_OVER)
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    if (s->state == STATE_FINAL)
        return scram_final(s, message, out);
    if (s->mech == SASL_PLAIN && !s->tls && !s->plain_in_clear)
        return sasl_fail(s, SASL_E_ENCRYPTION_REQUIRED);
    if (!has_message)
        return SASL_CONTINUE;
    return s->mech == SASL_PLAIN || s->mech == SASL_EXTERNAL ? simple_first(s, message)
                                                             : scram_first(s, message);
}

/* What an unknown user is told: always the same salt for the same prepared name, from a secret that all nodes
 * share, and the iterations that new accounts get. */
static void make_up(const struct sasl *s, struct span fake_seed, struct sasl_keys *out)
{
    struct buf name = {0};
    uint8_t sum[DIGEST_MAX_BYTES];
    if (!add_own_jid(s, &name)) {
        buf_clear(&name);
        buf_add_span(&name, buf_span(&s->username));
    }
    digest_hmac(DIGEST_SHA256, fake_seed, buf_span(&name), sum);
    *out = (struct sasl_keys){0};
    random_bytes(out->stored_sha1, sizeof out->stored_sha1);
    random_bytes(out->stored_sha256, sizeof out->stored_sha256);
    random_bytes(out->stored_sha512, sizeof out->stored_sha512);
    out->iterations = SASL_ITERATIONS_DEFAULT;
    out->salt_n = SASL_SALT_OWN;
    memcpy(out->salt, sum, SASL_SALT_OWN);
    out->has_sha1 = out->has_sha256 = out->has_sha512 = true;
    buf_free(&name);
}

enum sasl_status sasl_user(struct sasl *s, const struct sasl_keys *keys, struct span fake_seed,
                           struct buf *out)
{
    if (s->state != STATE_USER)
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    struct sasl_keys made_up;
    make_up(s, fake_seed, &made_up); /* also when it is not needed: the same work for both */
    s->lacks = keys != NULL && s->mech != SASL_PLAIN && !keys_has(keys, scram_digest(s->mech));
    s->known = keys != NULL && !s->lacks;
    const struct sasl_keys *use = keys != NULL ? keys : &made_up;
    if (s->lacks) {
        /* Another salt or count than for the hashes it has would tell that there is an account. */
        made_up.iterations = keys->iterations;
        made_up.salt_n = keys->salt_n;
        memcpy(made_up.salt, keys->salt, sizeof made_up.salt);
        use = &made_up;
    }
    return s->mech == SASL_PLAIN ? plain_user(s, use) : scram_user(s, use, out);
}

enum sasl_error sasl_get_error(const struct sasl *s)
{
    return s->error;
}

bool sasl_lacks_hash(const struct sasl *s)
{
    return s->lacks;
}

struct span sasl_username(const struct sasl *s)
{
    return buf_span(&s->username);
}

struct span sasl_authzid(const struct sasl *s)
{
    return buf_span(&s->authzid);
}
