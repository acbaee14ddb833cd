/* A batch becomes one FCALL jd_write (jd_keep when it adds nothing: a full Redis takes that, too) whose
 * arguments point into the batch. Numbers are written into an arena
 * that lasts for the call, as redis_command copies everything.
 *
 * Answers: FENCED and STALE mean another owner; errors that say "not now" (redis.c reports Redis as away with
 * them) are STORE_AWAY like no answer at all; any other error would come again for ever, so it is logged with
 * what to do and answered as refused. A repeated batch meets its own entries: an XADD whose id is not above
 * the last one has happened before, as only the owner appends and its ids rise. */
#include "router/store/store_redis.h"

#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/pool.h"
#include "common/log/log.h"
#include "common/redis/account.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"

enum {
    OP_ARGS_MAX = 6, /* a ID RAW ORIGIN MARKS AT */
    BLOBS_MAX = 8,   /* keys of blobs that are declared, so that a Redis Cluster knows where they are */
    HEAD_ARGS = 9 + BLOBS_MAX, /* FCALL jd_write 5 OWNER MAILBOX META SESSIONS ROSTER (BLOB...) TOKEN */
    SCRATCH_BYTES = 4096
};

struct store_redis {
    struct store base;
    struct redis *redis;
    struct pool calls;

    /* For the request being written. */
    struct user_keys keys;
    struct buf key;
    struct arena *scratch;
    struct span *argv;
    size_t argc, argv_cap;

    /* For the reply being read. */
    struct store_field *fields;
    size_t fields_cap;
    struct store_entry *entries;
    size_t entries_cap;
};

/* What waits for a reply. */
struct call {
    struct store_redis *s;
    union {
        store_claim_fn *claim;
        store_apply_fn *apply;
        store_read_fn *read;
        store_blob_fn *blob;
        store_present_fn *present;
    } fn;
    void *ctx;
    unsigned bare_n;
    char bare[100]; /* for the log, cut off there */
};

static struct store_redis *redis_of(struct store *s)
{
    return CONTAINER_OF(s, struct store_redis, base);
}

static struct call *call_new(struct store_redis *s, struct span bare, void *ctx)
{
    struct call *call = pool_get(&s->calls);
    call->s = s;
    call->ctx = ctx;
    call->bare_n = (unsigned)MIN(bare.n, sizeof call->bare);
    memcpy(call->bare, bare.p, call->bare_n);
    return call;
}

/* Gives the call back before its callback runs, so that what the callback asks for can reuse it. */
static struct call call_end(struct call *call)
{
    struct call copy = *call;
    pool_put(&call->s->calls, call);
    return copy;
}

/* ---- errors */

static const char *advice(const struct redis_reply *error)
{
    static const struct {
        const char *code;
        const char *text;
    } table[] = {
        {"WRONGTYPE", "a key of this user was made by something else; look at it with TYPE, move it away"},
        {"NOPERM", "Redis's ACL forbids it; allow the user of redis.url FCALL, XRANGE, GET and the keys u:*"},
        {"CROSSSLOT", "Redis runs the functions of another release; bring all processes to one release"},
        {"MOVED", "redis.url names one node of a Redis Cluster; write redis+cluster:// before its address"},
        {"REFUSED", "Redis runs the functions of another release; bring all processes to one release"},
        {"ERR",
         "if the functions are gone (FUNCTION FLUSH), CLIENT KILL TYPE normal makes every process load "
         "them again; else look at the user's keys"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (redis_error_is(error, table[i].code))
            return table[i].text;
    }
    return "look at the user's keys in Redis";
}

/* Nothing was done, and the connection is given up until Redis is well again. */
static bool is_not_now(const struct redis_reply *error)
{
    static const char *const codes[] = {"LOADING",    "READONLY", "MASTERDOWN",  "MISCONF",
                                        "NOREPLICAS", "NOAUTH",   "CLUSTERDOWN", "BUSY"};
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (redis_error_is(error, codes[i]))
            return true;
    }
    return false;
}

static enum store_result refused(const struct call *call, const char *what, const struct redis_reply *error)
{
    log_error("store", "%s refused by Redis: %.*s; %s jid=%.*s", what, SPAN_FMT(error->text), advice(error),
              (int)call->bare_n, call->bare);
    return STORE_FULL;
}

static enum store_result not_understood(const struct call *call, const char *what)
{
    log_error("store",
              "%s: an answer of Redis that is none; bring all processes to one release, look at the user's "
              "keys jid=%.*s",
              what, (int)call->bare_n, call->bare);
    return STORE_FULL;
}

/* OK for an answer that is no error, whatever it says. */
static enum store_result result_of(const struct call *call, const char *what, const struct redis_reply *reply)
{
    if (reply == NULL)
        return STORE_AWAY;
    if (reply->kind != REDIS_KIND_ERROR)
        return STORE_OK;
    if (redis_error_is(reply, "FENCED") || redis_error_is(reply, "STALE"))
        return STORE_FENCED;
    if (redis_error_is(reply, "OOM"))
        return STORE_FULL;
    if (is_not_now(reply))
        return STORE_AWAY;
    return refused(call, what, reply);
}

/* ---- writing requests */

enum { DECIMAL_MAX = 20 }; /* digits of UINT64_MAX */

/* Writes value in front of end, returns its first digit. (printf would be a third of a request's cost.) */
static char *decimal(char *end, uint64_t value)
{
    do
        *--end = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    return end;
}

/* Decimal text that lasts for the call. */
static struct span number(struct store_redis *s, uint64_t value)
{
    char text[DECIMAL_MAX], *end = text + sizeof text, *p = decimal(end, value);
    return arena_dup(s->scratch, span_make(p, (size_t)(end - p)));
}

/* "MS-SEQ", behind a '(' when it is to be excluded; likewise. */
static struct span id_text(struct store_redis *s, bool excluded, struct store_id id)
{
    char text[2 * DECIMAL_MAX + 2], *end = text + sizeof text, *p = decimal(end, id.seq);
    *--p = '-';
    p = decimal(p, id.ms);
    if (excluded)
        *--p = '(';
    return arena_dup(s->scratch, span_make(p, (size_t)(end - p)));
}

/* "EPOCH:NAME:INCARNATION", likewise. */
static struct span token(struct store_redis *s, const struct store_claim *claim)
{
    char *text = arena_alloc(s->scratch, claim->router.n + 2 * DECIMAL_MAX + 2);
    char *end = text + claim->router.n + 2 * DECIMAL_MAX + 2, *p = decimal(end, claim->incarnation);
    *--p = ':';
    p -= claim->router.n;
    memcpy(p, claim->router.p, claim->router.n);
    *--p = ':';
    p = decimal(p, claim->epoch);
    return span_make(p, (size_t)(end - p));
}

static void request_begin(struct store_redis *s, struct span bare)
{
    arena_reset(s->scratch);
    user_keys_make(&s->keys, bare);
}

/* Appends an argument; face_apply has made room. */
static void add(struct store_redis *s, struct span arg)
{
    s->argv[s->argc++] = arg;
}

static void append_write(struct store_redis *s, const struct store_entry *e)
{
    add(s, SPAN("a"));
    add(s, id_text(s, false, e->id));
    add(s, e->raw);
    add(s, e->origin);
    add(s, e->marks);
    add(s, number(s, e->at_ms));
}

static void op_write(struct store_redis *s, const struct store_op *op)
{
    static const struct span puts[] = {
        [STORE_ROSTER] = {"r", 1}, [STORE_SESSIONS] = {"s", 1}, [STORE_META] = {"m", 1}};
    static const struct span drops[] = {
        [STORE_ROSTER] = {"R", 1}, [STORE_SESSIONS] = {"S", 1}, [STORE_META] = {"M", 1}};
    switch (op->kind) {
    case STORE_OP_PUT:
        add(s, puts[op->hash]);
        add(s, op->field);
        add(s, op->value);
        break;
    case STORE_OP_DROP:
        add(s, drops[op->hash]);
        add(s, op->field);
        break;
    case STORE_OP_APPEND:
        append_write(s, &op->entry);
        break;
    case STORE_OP_REMOVE:
        add(s, SPAN("d"));
        add(s, id_text(s, false, op->entry.id));
        break;
    case STORE_OP_TRIM:
        add(s, SPAN("t"));
        add(s, id_text(s, false, op->entry.id));
        break;
    case STORE_OP_BLOB:
        add(s, SPAN("b"));
        add(s, op->field);
        add(s, op->value);
        break;
    case STORE_OP_PRESENT:
        break; /* not a key of the user: face_apply */
    }
}

/* ---- reading replies */

static bool user_read(struct store_redis *s, const struct redis_reply *reply, struct store_user *user)
{
    static const enum store_hash order[] = {STORE_ROSTER, STORE_SESSIONS, STORE_META};
    if (reply->kind != REDIS_KIND_LIST || reply->count < 6 || reply->items[4].kind != REDIS_KIND_NUMBER ||
        !store_id_parse(reply->items[5].text, &user->mailbox_last))
        return false;
    size_t total = 0;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        if (reply->items[1 + i].kind != REDIS_KIND_LIST)
            return false;
        total += reply->items[1 + i].count / 2;
    }
    if (total > s->fields_cap) {
        s->fields_cap = total * 2;
        s->fields = xrealloc(s->fields, s->fields_cap * sizeof *s->fields);
    }
    struct store_field *to = s->fields;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        const struct redis_reply *list = &reply->items[1 + i];
        user->hash[order[i]] = to;
        user->hash_count[order[i]] = list->count / 2;
        for (size_t k = 0; k + 1 < list->count; k += 2)
            *to++ = (struct store_field){list->items[k].text, list->items[k + 1].text};
    }
    user->exists = reply->items[0].kind == REDIS_KIND_NUMBER && reply->items[0].number != 0;
    user->mailbox_count = (uint64_t)MAX(reply->items[4].number, 0);
    return true;
}

/* A mailbox entry. One without its stanza was made by something else: it becomes an empty message, so that
 * the rest of the mailbox stays readable and the entry goes the way of all others. */
static bool entry_read(const struct call *call, const struct redis_reply *reply, struct store_entry *e)
{
    if (reply->kind != REDIS_KIND_LIST || reply->count != 2 || !store_id_parse(reply->items[0].text, &e->id))
        return false;
    const struct redis_reply *fields = &reply->items[1];
    e->raw = redis_pair(fields, "r");
    e->origin = redis_pair(fields, "o");
    e->marks = redis_pair(fields, "m");
    e->at_ms = e->id.ms;
    span_to_u64(redis_pair(fields, "t"), UINT64_MAX, &e->at_ms);
    if (e->raw.n == 0) {
        log_warn("store", "a mailbox entry without a stanza: who else writes to this Redis? id=%.*s jid=%.*s",
                 SPAN_FMT(reply->items[0].text), (int)call->bare_n, call->bare);
        e->raw = SPAN("<message xmlns='jabber:client'/>");
    }
    return true;
}

/* ---- claim */

static void on_claim(void *ctx, const struct redis_reply *reply)
{
    struct call call = call_end(ctx);
    struct store_user user = {0};
    enum store_result result = result_of(&call, "claim", reply);
    if (result == STORE_OK && !user_read(call.s, reply, &user))
        result = not_understood(&call, "claim");
    call.fn.claim(call.ctx, result, result == STORE_OK ? &user : NULL);
}

static void face_claim(struct store *base, struct span bare, const struct store_claim *claim,
                       store_claim_fn *fn, void *ctx)
{
    struct store_redis *s = redis_of(base);
    struct call *call = call_new(s, bare, ctx);
    call->fn.claim = fn;
    request_begin(s, bare);
    const struct user_keys *k = &s->keys;
    redis_send(s->redis, k->owner, on_claim, call, SPAN("FCALL"), SPAN("jd_claim"), SPAN("6"), k->owner,
               k->account, k->roster, k->sessions, k->mailbox, k->meta, number(s, claim->epoch),
               claim->router, number(s, claim->incarnation));
}

/* ---- apply */

/* The index of a slot is entered before the sessions that it tells of, and left behind them; sent again with
 * its batch. A late loser of the user can't take it out: the claim is compared. */
static void present_enter(struct store_redis *s, uint16_t slot, struct span bare, struct span claim)
{
    struct span key = key_present(&s->key, slot);
    redis_send(s->redis, key, NULL, NULL, SPAN("FCALL"), SPAN("jd_present"), SPAN("1"), key, bare, claim);
}

static void present_leave(struct store_redis *s, uint16_t slot, struct span bare, struct span claim)
{
    struct span key = key_present(&s->key, slot);
    redis_send(s->redis, key, NULL, NULL, SPAN("FCALL"), SPAN("jd_absent"), SPAN("1"), key, bare, claim);
}

static void on_apply(void *ctx, const struct redis_reply *reply)
{
    struct call call = call_end(ctx);
    enum store_result result = result_of(&call, "write", reply);
    if (result == STORE_OK && reply->kind != REDIS_KIND_NUMBER)
        result = not_understood(&call, "write");
    if (result == STORE_OK && reply->number > 0)
        log_info("store", "messages were in the mailbox already n=%lld jid=%.*s", (long long)reply->number,
                 (int)call.bare_n, call.bare);
    call.fn.apply(call.ctx, result);
}

static void face_apply(struct store *base, struct span bare, const struct store_claim *claim,
                       const struct store_batch *batch, store_apply_fn *fn, void *ctx)
{
    struct store_redis *s = redis_of(base);
    struct call *call = call_new(s, bare, ctx);
    call->fn.apply = fn;
    size_t cap = HEAD_ARGS + (size_t)batch->count * OP_ARGS_MAX;
    if (cap > s->argv_cap) {
        s->argv_cap = cap * 2;
        s->argv = xrealloc(s->argv, s->argv_cap * sizeof *s->argv);
    }
    request_begin(s, bare);
    s->argc = HEAD_ARGS;
    bool meta = false, sessions = false, roster = false, enter = false, leave = false;
    uint16_t slot = 0;
    struct span blobs[BLOBS_MAX];
    unsigned blob_count = 0;
    struct span ops = buf_span(&batch->ops);
    struct store_op op;
    while (store_op_next(&ops, &op)) {
        op_write(s, &op);
        if (op.kind == STORE_OP_PRESENT) {
            slot = op.slot;
            enter |= op.present;
            leave = !op.present;
        }
        meta |= op.hash == STORE_META && (op.kind == STORE_OP_PUT || op.kind == STORE_OP_DROP);
        sessions |= op.hash == STORE_SESSIONS;
        roster |= op.hash == STORE_ROSTER;
        if (op.kind == STORE_OP_BLOB && blob_count < BLOBS_MAX)
            blobs[blob_count++] = arena_dup(s->scratch, key_user(&s->key, bare, op.field));
    }
    /* The head is written last, and backwards: seldom all five keys are needed. */
    const struct user_keys *k = &s->keys;
    const struct span keys[] = {k->owner, k->mailbox, k->meta, k->sessions, k->roster};
    unsigned count = roster || blob_count > 0 ? 5 : sessions ? 4 : meta ? 3 : 2, from = HEAD_ARGS;
    struct span own = token(s, claim);
    if (enter)
        present_enter(s, slot, bare, own);
    s->argv[--from] = own;
    for (unsigned i = blob_count; i > 0; i--)
        s->argv[--from] = blobs[i - 1];
    for (unsigned i = count; i > 0; i--)
        s->argv[--from] = keys[i - 1];
    s->argv[--from] = number(s, count + blob_count);
    s->argv[--from] = batch->adds > 0 ? SPAN("jd_write") : SPAN("jd_keep");
    s->argv[--from] = SPAN("FCALL");
    redis_write(s->redis, k->owner, (unsigned)s->argc - from, s->argv + from, on_apply, call);
    if (leave)
        present_leave(s, slot, bare, own);
}

static void face_absent(struct store *base, uint16_t slot, struct span bare, const struct store_claim *claim)
{
    struct store_redis *s = redis_of(base);
    request_begin(s, bare);
    present_leave(s, slot, bare, token(s, claim));
}

/* ---- release, read, blob */

static void face_release(struct store *base, struct span bare, const struct store_claim *claim)
{
    struct store_redis *s = redis_of(base);
    request_begin(s, bare);
    /* Without an answer: a claim that stays behind yields to the next epoch, and to its own router at once.
     */
    redis_send(s->redis, s->keys.owner, NULL, NULL, SPAN("FCALL"), SPAN("jd_release"), SPAN("1"),
               s->keys.owner, token(s, claim));
}

static void on_read(void *ctx, const struct redis_reply *reply)
{
    struct call call = call_end(ctx);
    struct store_redis *s = call.s;
    enum store_result result = result_of(&call, "reading the mailbox", reply);
    if (result == STORE_OK && reply->kind != REDIS_KIND_LIST)
        result = not_understood(&call, "reading the mailbox");
    size_t count = 0;
    if (result == STORE_OK) {
        if (reply->count > s->entries_cap) {
            s->entries_cap = reply->count;
            s->entries = xrealloc(s->entries, s->entries_cap * sizeof *s->entries);
        }
        for (; result == STORE_OK && count < reply->count; count++) {
            if (!entry_read(&call, &reply->items[count], &s->entries[count]))
                result = not_understood(&call, "reading the mailbox");
        }
    }
    if (result != STORE_OK)
        count = 0;
    call.fn.read(call.ctx, result, s->entries, count);
}

static void face_read(struct store *base, struct span bare, struct store_id after, unsigned max,
                      store_read_fn *fn, void *ctx)
{
    struct store_redis *s = redis_of(base);
    struct call *call = call_new(s, bare, ctx);
    call->fn.read = fn;
    request_begin(s, bare);
    redis_send(s->redis, s->keys.mailbox, on_read, call, SPAN("XRANGE"), s->keys.mailbox,
               id_text(s, true, after), SPAN("+"), SPAN("COUNT"), number(s, max));
}

static void on_blob(void *ctx, const struct redis_reply *reply)
{
    struct call call = call_end(ctx);
    enum store_result result = result_of(&call, "reading a blob", reply);
    struct span value = {0};
    if (result == STORE_OK && reply->kind == REDIS_KIND_TEXT)
        value = reply->text;
    else if (result == STORE_OK && reply->kind != REDIS_KIND_NIL)
        result = not_understood(&call, "reading a blob");
    call.fn.blob(call.ctx, result, value);
}

static void face_blob(struct store *base, struct span bare, struct span name, store_blob_fn *fn, void *ctx)
{
    struct store_redis *s = redis_of(base);
    struct call *call = call_new(s, bare, ctx);
    call->fn.blob = fn;
    struct span key = key_user(&s->key, bare, name);
    redis_send(s->redis, key, on_blob, call, SPAN("GET"), key);
}

static void on_present(void *ctx, const struct redis_reply *reply)
{
    struct call call = call_end(ctx);
    enum store_result result = result_of(&call, "reading who is present", reply);
    if (result == STORE_OK && reply->kind != REDIS_KIND_LIST)
        result = not_understood(&call, "reading who is present");
    size_t count = result == STORE_OK ? reply->count : 0;
    struct span *users = xmalloc((count + 1) * sizeof *users);
    for (size_t i = 0; i < count; i++)
        users[i] = reply->items[i].text;
    call.fn.present(call.ctx, result, users, count);
    free(users);
}

static void face_present(struct store *base, uint16_t slot, store_present_fn *fn, void *ctx)
{
    struct store_redis *s = redis_of(base);
    struct call *call = call_new(s, SPAN("-"), ctx);
    call->fn.present = fn;
    struct span key = key_present(&s->key, slot);
    redis_send(s->redis, key, on_present, call, SPAN("HKEYS"), key);
}

/* ---- accounts */

struct account_op {
    struct account_call call;
    store_apply_fn *fn;
    void *ctx;
};

static void on_account(struct account_call *call, enum account_status status, const struct account *account)
{
    struct account_op *op = CONTAINER_OF(call, struct account_op, call);
    (void)account;
    store_apply_fn *fn = op->fn;
    void *ctx = op->ctx;
    free(op);
    fn(ctx, status == ACCOUNT_OK     ? STORE_OK
            : status == ACCOUNT_NONE ? STORE_FENCED
            : status == ACCOUNT_AWAY ? STORE_AWAY
                                     : STORE_FULL);
}

static struct account_op *account_op(store_apply_fn *fn, void *ctx)
{
    struct account_op *op = xcalloc(1, sizeof *op);
    op->fn = fn;
    op->ctx = ctx;
    return op;
}

static void face_account_set(struct store *base, struct span bare, const struct sasl_keys *keys,
                             store_apply_fn *fn, void *ctx)
{
    account_set_keys(redis_of(base)->redis, bare, keys, &account_op(fn, ctx)->call, on_account);
}

static void face_account_delete(struct store *base, struct span bare, store_apply_fn *fn, void *ctx)
{
    account_delete(redis_of(base)->redis, bare, &account_op(fn, ctx)->call, on_account);
}

static const struct store_face face = {.claim = face_claim,
                                       .apply = face_apply,
                                       .release = face_release,
                                       .read = face_read,
                                       .blob = face_blob,
                                       .present = face_present,
                                       .absent = face_absent,
                                       .account_set = face_account_set,
                                       .account_delete = face_account_delete};

struct store *store_redis_new(struct redis *redis)
{
    struct store_redis *s = xcalloc(1, sizeof *s);
    s->base.face = &face;
    s->redis = redis;
    s->scratch = arena_new(SCRATCH_BYTES);
    s->calls = POOL_INIT("store call", struct call);
    return &s->base;
}

void store_redis_free(struct store *base)
{
    if (base == NULL)
        return;
    struct store_redis *s = redis_of(base);
    pool_trim(&s->calls);
    user_keys_free(&s->keys);
    buf_free(&s->key);
    arena_free(s->scratch);
    free(s->argv);
    free(s->fields);
    free(s->entries);
    free(s);
}
