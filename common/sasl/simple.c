/* PLAIN (RFC 4616) and EXTERNAL (RFC 4422 appendix A) on libgsasl, which reads the messages and prepares the
 * password; its callbacks only note what it found. PLAIN's password is then stretched with the account's salt
 * and compared with the stored key, with made-up keys when there is no such user. */
#include <gsasl.h>
#include <stdlib.h>

#include "common/sasl/internal.h"
#include "common/sasl/verified.h"

static void note(struct buf *to, const char *text)
{
    buf_clear(to);
    buf_add_str(to, text != NULL ? text : "");
}

static int on_property(Gsasl *ctx, Gsasl_session *session, Gsasl_property wanted)
{
    (void)ctx;
    struct sasl *s = gsasl_session_hook_get(session);
    if (wanted == GSASL_VALIDATE_SIMPLE) {
        note(&s->username, gsasl_property_fast(session, GSASL_AUTHID));
        note(&s->authzid, gsasl_property_fast(session, GSASL_AUTHZID));
        note(&s->password, gsasl_property_fast(session, GSASL_PASSWORD));
        return GSASL_OK;
    }
    if (wanted == GSASL_VALIDATE_EXTERNAL) {
        note(&s->authzid, gsasl_property_fast(session, GSASL_AUTHZID));
        return GSASL_OK;
    }
    return GSASL_NO_CALLBACK;
}

/* The process's library handle, kept until the end. */
static Gsasl *library(void)
{
    static Gsasl *ctx;
    if (ctx == NULL) {
        CHECK(gsasl_init(&ctx) == GSASL_OK);
        gsasl_callback_set(ctx, on_property);
    }
    return ctx;
}

enum sasl_status simple_first(struct sasl *s, struct span message)
{
    Gsasl_session *session = NULL;
    CHECK(gsasl_server_start(library(), sasl_mech_name(s->mech), &session) == GSASL_OK);
    gsasl_session_hook_set(session, s);
    char *reply = NULL;
    size_t reply_n = 0;
    int r = gsasl_step(session, message.n > 0 ? message.p : "", message.n, &reply, &reply_n);
    gsasl_free(reply);
    gsasl_finish(session);
    if (r != GSASL_OK)
        return sasl_fail(s, r == GSASL_MECHANISM_PARSE_ERROR || r == GSASL_NEEDS_MORE
                                ? SASL_E_MALFORMED_REQUEST
                                : SASL_E_NOT_AUTHORIZED);
    if (s->mech == SASL_EXTERNAL) {
        buf_add_span(&s->username, buf_span(&s->external_jid));
        return s->external_jid.n > 0 ? sasl_succeed(s) : sasl_fail(s, SASL_E_NOT_AUTHORIZED);
    }
    if (message.p[0] == '\0') /* no identity asked for: libgsasl then repeats the username */
        buf_clear(&s->authzid);
    if (s->username.n == 0 || s->password.n == 0)
        return sasl_fail(s, SASL_E_MALFORMED_REQUEST);
    s->state = STATE_USER;
    return SASL_NEED_USER;
}

/* What a password is compared with: SHA-256 for accounts of our own and for unknown users. */
enum digest plain_digest(const struct sasl_keys *keys)
{
    return keys->has_sha256 ? DIGEST_SHA256 : keys->has_sha512 ? DIGEST_SHA512 : DIGEST_SHA1;
}

/* The expensive part. */
static bool plain_proves(const struct sasl *s, const struct sasl_keys *keys)
{
    uint8_t salted[DIGEST_MAX_BYTES], stored[DIGEST_MAX_BYTES], server[DIGEST_MAX_BYTES];
    enum digest d = plain_digest(keys);
    digest_stretch(d, buf_span(&s->password), span_make(keys->salt, keys->salt_n), keys->iterations, salted);
    digest_keys(d, salted, stored, server);
    bool same = digest_equal(stored, keys_stored(keys, d), digest_size(d));
    digest_wipe(salted, sizeof salted);
    return same;
}

enum sasl_status plain_user(struct sasl *s, const struct sasl_keys *keys)
{
    struct verified_tag tag;
    if (s->verified != NULL)
        verified_tag(s->verified, buf_span(&s->username), span_of(s->domain), buf_span(&s->password), keys,
                     &tag);
    bool had = s->verified != NULL && verified_has(s->verified, &tag);
    bool good = (had || plain_proves(s, keys)) && s->known;
    if (good && !had && s->verified != NULL)
        verified_keep(s->verified, &tag);
    digest_wipe(s->password.p, s->password.n);
    return good ? sasl_succeed(s) : sasl_fail(s, SASL_E_NOT_AUTHORIZED);
}

char *simple_saslprep(struct span password)
{
    char *plain =
        memchr(password.n > 0 ? password.p : "", 0, MAX(password.n, 1)) == NULL ? span_dup(password) : NULL;
    char *prepared = NULL;
    if (plain != NULL && gsasl_saslprep(plain, 0, &prepared, NULL) == GSASL_OK && prepared[0] == '\0') {
        gsasl_free(prepared);
        prepared = NULL;
    }
    if (plain != NULL)
        digest_wipe(plain, password.n);
    free(plain);
    return prepared;
}
