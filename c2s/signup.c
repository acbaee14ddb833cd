#include "c2s/signup.h"

#include <stdlib.h>

#include "c2s/c2s.h"

/* First in memory is what conn.c cancels and frees when the connection goes. */
struct signup {
    struct account_call call;
    uint16_t bare_n;
    uint16_t password_n;
    char text[]; /* the account, then the password */
};

/* Counted are the addresses that limits count. */
static struct limits_key key_of(const struct conn *c)
{
    struct limits_key key;
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    memcpy(key.bytes, c->key, sizeof(key.bytes));
    if (memcmp(key.bytes, mapped, sizeof(mapped)) != 0)
        memset(key.bytes + 8, 0, 8);
    return key;
}

static bool may_have_one(const struct conn *c)
{
    const struct c2s *c2s = c->c2s;
    struct limits_key key = key_of(c);
    return !c2s->limits.enabled ||
           quota_left(&c2s->signups, &key, (uint64_t)c2s->conf->register_per_address, ring_now_ms(c2s->ring));
}

static void signup_free(struct signup *s)
{
    explicit_bzero(s->text + s->bare_n, s->password_n);
    free(s);
}

static void on_created(struct account_call *call, enum account_status status, const struct account *account)
{
    struct conn *c = call->ctx;
    (void)account;
    c->account = NULL;
    signup_free(CONTAINER_OF(call, struct signup, call));
    session_created(&c->session, status == ACCOUNT_OK       ? SESSION_CREATED
                                 : status == ACCOUNT_EXISTS ? SESSION_CREATED_EXISTS
                                                            : SESSION_CREATED_AWAY);
    conn_wake(c);
}

/* The name is free: the expensive part. True: Redis has been asked to make the account. */
static bool derive(struct conn *c, struct signup *s, enum session_created *how)
{
    struct sasl_keys keys;
    if (!may_have_one(c)) { /* others of its address were faster */
        *how = SESSION_CREATED_TOO_MANY;
        return false;
    }
    if (!sasl_keys_derive(span_make(s->text + s->bare_n, s->password_n), SASL_ITERATIONS_DEFAULT, &keys)) {
        *how = SESSION_CREATED_BAD;
        return false;
    }
    if (c->c2s->limits.enabled) {
        struct limits_key key = key_of(c);
        quota_take(&c->c2s->signups, &key, ring_now_ms(c->c2s->ring));
    }
    account_create(c->c2s->redis, span_make(s->text, s->bare_n), &keys, false, &s->call, on_created);
    explicit_bzero(&keys, sizeof(keys));
    return true;
}

static void on_looked_up(struct account_call *call, enum account_status status, const struct account *account)
{
    struct conn *c = call->ctx;
    struct signup *s = CONTAINER_OF(call, struct signup, call);
    (void)account;
    enum session_created how = status == ACCOUNT_OK ? SESSION_CREATED_EXISTS : SESSION_CREATED_AWAY;
    if (status == ACCOUNT_NONE && derive(c, s, &how))
        return;
    c->account = NULL;
    signup_free(s);
    session_created(&c->session, how);
    conn_wake(c);
}

void signup_begin(struct conn *c, struct span bare, struct span password)
{
    CHECK(c->account == NULL);
    if (!may_have_one(c)) {
        session_created(&c->session, SESSION_CREATED_TOO_MANY);
        return;
    }
    struct signup *s = xcalloc(1, sizeof(*s) + bare.n + password.n);
    s->bare_n = (uint16_t)bare.n;
    s->password_n = (uint16_t)password.n;
    memcpy(s->text, bare.p, bare.n);
    memcpy(s->text + bare.n, password.p, password.n);
    s->call.ctx = c;
    c->account = &s->call;
    account_get(c->c2s->redis, bare, &s->call, on_looked_up);
}
