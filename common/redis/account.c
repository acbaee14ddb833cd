/* Writes are one call of jd_account_put, so that "must not exist" and the writing are one step. */
#include "common/redis/account.h"

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/redis/keys.h"

const char *account_status_text(enum account_status status)
{
    static const char *const texts[] = {"done", "there is no such account", "the account exists already",
                                        "Redis gives no answer",
                                        "Redis refused or holds a damaged record; see the log"};
    return (unsigned)status < ARRAY_LEN(texts) ? texts[status] : "?";
}

static enum account_status status_of(const struct redis_reply *reply, enum redis_kind wanted)
{
    if (reply == NULL)
        return ACCOUNT_AWAY;
    if (reply->kind == wanted)
        return ACCOUNT_OK;
    if (reply->kind == REDIS_KIND_ERROR)
        log_error("redis", "account: Redis says: %.*s", SPAN_FMT(reply->text));
    else
        log_error("redis", "account: unexpected kind of answer");
    return ACCOUNT_BROKEN;
}

static void finish(struct account_call *call, enum account_status status, const struct account *account)
{
    static const struct account none;
    account_fn *fn = call->fn;
    call->fn = NULL;
    if (fn != NULL)
        fn(call, status, account != NULL ? account : &none);
}

/* jd_account_*: 1 done, 0 refused. */
static void on_written(void *ctx, const struct redis_reply *reply)
{
    struct account_call *call = ctx;
    enum account_status status = status_of(reply, REDIS_KIND_NUMBER);
    if (status == ACCOUNT_OK && reply->number == 0)
        status = call->refused;
    finish(call, status, NULL);
}

/* Calls jd_account_put with mode and fields. */
static void put(struct redis *r, struct span jid, struct span mode, unsigned n, const struct span *fields,
                struct account_call *call, account_fn *fn)
{
    struct buf store = {0};
    struct span argv[5 + 6] = {SPAN("FCALL"), SPAN("jd_account_put"), SPAN("1"), key_account(&store, jid),
                               mode};
    CHECK(n <= 6);
    for (unsigned i = 0; i < n; i++)
        argv[5 + i] = fields[i];
    call->fn = fn;
    call->refused = span_is(mode, "create") ? ACCOUNT_EXISTS : ACCOUNT_NONE;
    redis_write(r, argv[3], 5 + n, argv, on_written, call);
    buf_free(&store);
}

void account_create(struct redis *r, struct span jid, const struct sasl_keys *keys, bool replace,
                    struct account_call *call, account_fn *fn)
{
    struct buf scram = {0}, created = {0};
    sasl_keys_write(keys, &scram);
    buf_add_u64(&created, clock_wall_ms());
    put(r, jid, replace ? SPAN("replace") : SPAN("create"), 4,
        (struct span[]){SPAN("scram"), buf_span(&scram), SPAN("created"), buf_span(&created)}, call, fn);
    if (scram.n > 0)
        explicit_bzero(scram.p, scram.n);
    buf_free(&scram);
    buf_free(&created);
}

void account_set_keys(struct redis *r, struct span jid, const struct sasl_keys *keys,
                      struct account_call *call, account_fn *fn)
{
    struct buf scram = {0};
    sasl_keys_write(keys, &scram);
    put(r, jid, SPAN("update"), 2, (struct span[]){SPAN("scram"), buf_span(&scram)}, call, fn);
    if (scram.n > 0)
        explicit_bzero(scram.p, scram.n);
    buf_free(&scram);
}

void account_set_disabled(struct redis *r, struct span jid, bool disabled, struct account_call *call,
                          account_fn *fn)
{
    put(r, jid, SPAN("update"), 2, (struct span[]){SPAN("disabled"), disabled ? SPAN("1") : SPAN("")}, call,
        fn);
}

void account_delete(struct redis *r, struct span jid, struct account_call *call, account_fn *fn)
{
    struct user_keys k = {0};
    struct buf vcard = {0};
    user_keys_make(&k, jid);
    call->fn = fn;
    call->refused = ACCOUNT_NONE;
    struct span argv[] = {SPAN("FCALL"), SPAN("jd_account_delete"),
                          SPAN("7"),     k.owner,
                          k.account,     k.roster,
                          k.sessions,    k.mailbox,
                          k.meta,        key_user(&vcard, jid, SPAN("vcard"))};
    redis_write(r, k.account, ARRAY_LEN(argv), argv, on_written, call);
    buf_free(&vcard);
    user_keys_free(&k);
}

static void on_got(void *ctx, const struct redis_reply *reply)
{
    struct account_call *call = ctx;
    struct account account = {0};
    enum account_status status = status_of(reply, REDIS_KIND_LIST);
    if (status == ACCOUNT_OK && reply->count != 3)
        status = ACCOUNT_BROKEN;
    if (status == ACCOUNT_OK && reply->items[0].kind == REDIS_KIND_NIL) {
        status = ACCOUNT_NONE;
    } else if (status == ACCOUNT_OK && !sasl_keys_parse(reply->items[0].text, &account.keys)) {
        log_error("redis",
                  "account: the field scram is damaged; give the account a new password (jackdawctl passwd)");
        status = ACCOUNT_BROKEN;
    } else if (status == ACCOUNT_OK) {
        account.disabled = span_is(reply->items[1].text, "1");
        if (!span_to_u64(reply->items[2].text, UINT64_MAX, &account.created_ms))
            account.created_ms = 0;
    }
    finish(call, status, &account);
    explicit_bzero(&account, sizeof(account));
}

void account_get(struct redis *r, struct span jid, struct account_call *call, account_fn *fn)
{
    struct buf store = {0};
    struct span key = key_account(&store, jid);
    call->fn = fn;
    redis_send(r, key, on_got, call, SPAN("HMGET"), key, SPAN("scram"), SPAN("disabled"), SPAN("created"));
    buf_free(&store);
}

void account_cancel(struct redis *r, struct account_call *call)
{
    if (call->fn == NULL)
        return;
    call->fn = NULL;
    redis_forget(r, call);
}

/* ---- the walk */

static void scan_ask(struct account_scan *scan, struct span cursor);

static void scan_end(struct account_scan *scan)
{
    scan->redis = NULL;
    buf_free(&scan->domain);
    buf_free(&scan->jid);
}

static void on_scanned(void *ctx, const struct redis_reply *reply)
{
    struct account_scan *scan = ctx;
    enum account_status status = status_of(reply, REDIS_KIND_LIST);
    if (status == ACCOUNT_OK && (reply->count != 2 || reply->items[1].kind != REDIS_KIND_LIST))
        status = ACCOUNT_BROKEN;
    const struct redis_reply *keys = status == ACCOUNT_OK ? &reply->items[1] : NULL;
    for (size_t i = 0; keys != NULL && i < keys->count; i++) {
        if (!key_user_parse(keys->items[i].text, SPAN("account"), &scan->jid))
            continue;
        /* The pattern's * also takes an '@' inside, which no prepared localpart has; look exactly. */
        struct span jid = buf_span(&scan->jid);
        size_t at = span_index(jid, '@');
        if (scan->domain.n > 0 && !span_eq(span_sub(jid, at + 1, jid.n), buf_span(&scan->domain)))
            continue;
        scan->found(scan, jid);
        if (scan->redis == NULL)
            return; /* cancelled inside */
    }
    if (status == ACCOUNT_OK && !span_is(reply->items[0].text, "0")) {
        scan_ask(scan, reply->items[0].text);
        return;
    }
    unsigned next = redis_node_next(scan->redis, scan->node);
    if (status == ACCOUNT_OK && next != 0) {
        scan->node = next;
        scan_ask(scan, SPAN("0"));
        return;
    }
    scan_end(scan);
    scan->done(scan, status);
}

static void scan_ask(struct account_scan *scan, struct span cursor)
{
    struct buf pattern = {0};
    key_account_pattern(&pattern, buf_span(&scan->domain));
    struct span argv[] = {SPAN("SCAN"),       cursor,        SPAN("MATCH"),
                          buf_span(&pattern), SPAN("COUNT"), SPAN("1000")};
    redis_node_command(scan->redis, scan->node, ARRAY_LEN(argv), argv, on_scanned, scan);
    buf_free(&pattern);
}

void account_scan(struct redis *r, struct span domain, struct account_scan *scan)
{
    scan->redis = r;
    scan->node = redis_node_next(r, 0);
    buf_add_span(&scan->domain, domain);
    scan_ask(scan, SPAN("0"));
}

void account_scan_cancel(struct account_scan *scan)
{
    if (scan->redis == NULL)
        return;
    redis_forget(scan->redis, scan);
    scan_end(scan);
}
