/* Redis answers anything: bytes through the reader of replies into whoever asked, the router's store and the
 * accounts. The first byte says what is asked; a reply that is none ends the connection, as in the real one.
 */
#include <stdint.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/redis/account.h"
#include "common/redis/redis.h"
#include "common/redis/reply.h"
#include "router/store/store_redis.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ASKED_MAX 64
#define BARE      SPAN("romeo@example.net")

static struct {
    redis_fn *fn;
    void *ctx;
} asked[ASKED_MAX];
static unsigned asked_count, told, expected;

void redis_command(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                   void *ctx)
{
    (void)r;
    (void)key;
    (void)argc;
    (void)argv;
    if (fn == NULL)
        return;
    CHECK(asked_count < ASKED_MAX);
    asked[asked_count].fn = fn;
    asked[asked_count++].ctx = ctx;
}

void redis_write(struct redis *r, struct span key, unsigned argc, const struct span *argv, redis_fn *fn,
                 void *ctx)
{
    redis_command(r, key, argc, argv, fn, ctx);
}

unsigned redis_node_next(const struct redis *r, unsigned after)
{
    (void)r;
    return after == 0;
}

void redis_node_command(struct redis *r, unsigned node, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx)
{
    (void)node;
    redis_command(r, SPAN(""), argc, argv, fn, ctx);
}

void redis_forget(struct redis *r, void *ctx)
{
    unsigned n = 0;
    (void)r;
    for (unsigned i = 0; i < asked_count; i++)
        if (asked[i].ctx != ctx)
            asked[n++] = asked[i];
    asked_count = n;
}

bool redis_is_up(const struct redis *r)
{
    (void)r;
    return true;
}

bool redis_error_is(const struct redis_reply *reply, const char *code)
{
    return reply != NULL && reply->kind == REDIS_KIND_ERROR &&
           span_is(span_sub(reply->text, 0, span_index(reply->text, ' ')), code);
}

struct span redis_pair(const struct redis_reply *list, const char *field)
{
    for (size_t i = 0; i + 1 < list->count; i += 2)
        if (span_is(list->items[i].text, field))
            return list->items[i + 1].text;
    return (struct span){0};
}

static bool answer(const struct redis_reply *reply)
{
    if (asked_count == 0)
        return false;
    redis_fn *fn = asked[0].fn;
    void *ctx = asked[0].ctx;
    memmove(&asked[0], &asked[1], --asked_count * sizeof asked[0]);
    fn(ctx, reply);
    return true;
}

/* Whoever is told looks at all of it. */
static size_t sum;

static void look(struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        sum += (unsigned char)s.p[i];
}

static void on_claim(void *ctx, enum store_result result, const struct store_user *u)
{
    (void)ctx;
    told++;
    CHECK((u != NULL) == (result == STORE_OK));
    for (size_t h = 0; u != NULL && h < STORE_HASH_COUNT; h++)
        for (size_t i = 0; i < u->hash_count[h]; i++) {
            look(u->hash[h][i].name);
            look(u->hash[h][i].value);
        }
}

static void on_apply(void *ctx, enum store_result result)
{
    (void)ctx;
    (void)result;
    told++;
}

static void on_read(void *ctx, enum store_result result, const struct store_entry *entries, size_t count)
{
    (void)ctx;
    told++;
    CHECK(result == STORE_OK || count == 0);
    for (size_t i = 0; i < count; i++) {
        look(entries[i].raw);
        look(entries[i].origin);
        look(entries[i].marks);
    }
}

static void on_blob(void *ctx, enum store_result result, struct span value)
{
    (void)ctx;
    (void)result;
    told++;
    look(value);
}

static void on_present(void *ctx, enum store_result result, const struct span *users, size_t count)
{
    (void)ctx;
    (void)result;
    told++;
    for (size_t i = 0; i < count; i++)
        look(users[i]);
}

static void on_account(struct account_call *call, enum account_status status, const struct account *account)
{
    (void)call;
    (void)status;
    told++;
    look(span_make(account, sizeof *account));
}

static void on_found(struct account_scan *scan, struct span jid)
{
    (void)scan;
    look(jid);
}

static void on_scanned(struct account_scan *scan, enum account_status status)
{
    (void)scan;
    (void)status;
    told++;
}

static struct account_call call;
static struct account_scan scan;

static void ask(struct store *s, uint8_t what)
{
    static const struct store_claim claim = {5, 7, {"router-1", 8}};
    struct store_batch batch = {0};
    expected++;
    switch (what % 8) {
    case 0:
        s->face->claim(s, BARE, &claim, on_claim, NULL);
        break;
    case 1:
        store_put(&batch, STORE_META, SPAN("floor"), SPAN("1-2"));
        s->face->apply(s, BARE, &claim, &batch, on_apply, NULL);
        break;
    case 2:
        s->face->read(s, BARE, (struct store_id){1, 2}, 10, on_read, NULL);
        break;
    case 3:
        s->face->blob(s, BARE, SPAN("vcard"), on_blob, NULL);
        break;
    case 4:
        s->face->present(s, 7, on_present, NULL);
        break;
    case 5:
        s->face->account_delete(s, BARE, on_apply, NULL);
        break;
    case 6:
        account_get(NULL, BARE, &call, on_account);
        break;
    default:
        scan = (struct account_scan){.found = on_found, .done = on_scanned};
        account_scan(NULL, SPAN("example.net"), &scan);
    }
    store_batch_free(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reply_reader *reader = reply_reader_new();
    struct store *s = store_redis_new(NULL);
    const struct redis_reply *reply = NULL;
    log_set_level(LOG_LEVEL_ERROR);
    told = expected = 0;
    if (size > 0)
        ask(s, data[0]);
    /* In two pieces. */
    size_t half = size > 0 ? 1 + (size - 1) / 2 : 0;
    for (unsigned i = 0; i < 2 && size > 0; i++) {
        reply_reader_feed(reader,
                          i == 0 ? span_make(data + 1, half - 1) : span_make(data + half, size - half));
        while (asked_count > 0 && reply_reader_next(reader, &reply) && reply != NULL)
            answer(reply);
    }
    while (answer(NULL)) /* the connection has ended */
        continue;
    CHECK(told == expected);
    reply_reader_free(reader);
    store_redis_free(s);
    return 0;
}
