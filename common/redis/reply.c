/* hiredis' reader does the RESP2; its object functions are replaced so that a reply is built as struct
 * redis_reply in one arena, which is emptied when the next reply is asked for. No reply costs an allocation
 * once the arena is warm. */
#include "common/redis/reply.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "common/base/arena.h"

enum { ARENA_BYTES = 64 * 1024, LIST_MAX = 4 * 1024 * 1024 };

struct reply_reader {
    redisReader *reader;
    struct arena *arena;
    bool broken;
};

/* Where the object goes: its place in the list that it belongs to, or a new one at the top. */
static struct redis_reply *place(const redisReadTask *task)
{
    if (task->parent != NULL) {
        struct redis_reply *list = task->parent->obj;
        return (struct redis_reply *)&list->items[task->idx];
    }
    const struct reply_reader *rr = task->privdata;
    return arena_alloc(rr->arena, sizeof(struct redis_reply));
}

static void *make_string(const redisReadTask *task, char *text, size_t n)
{
    const struct reply_reader *rr = task->privdata;
    struct redis_reply *reply = place(task);
    reply->kind = task->type == REDIS_REPLY_ERROR ? REDIS_KIND_ERROR : REDIS_KIND_TEXT;
    reply->text = arena_dup(rr->arena, span_make(text, n));
    return reply;
}

static void *make_array(const redisReadTask *task, int count)
{
    const struct reply_reader *rr = task->privdata;
    if (count < 0 || count > LIST_MAX)
        return NULL;
    struct redis_reply *reply = place(task);
    reply->kind = REDIS_KIND_LIST;
    reply->count = (size_t)count;
    reply->items = arena_alloc(rr->arena, (size_t)count * sizeof(struct redis_reply));
    return reply;
}

static void *make_integer(const redisReadTask *task, long long number)
{
    struct redis_reply *reply = place(task);
    reply->kind = REDIS_KIND_NUMBER;
    reply->number = number;
    return reply;
}

static void *make_nil(const redisReadTask *task)
{
    struct redis_reply *reply = place(task);
    reply->kind = REDIS_KIND_NIL;
    return reply;
}

static void free_nothing(void *object)
{
    (void)object;
}

static redisReplyObjectFunctions functions = {make_string, make_array, make_integer, make_nil, free_nothing};

struct reply_reader *reply_reader_new(void)
{
    struct reply_reader *rr = xcalloc(1, sizeof(*rr));
    rr->reader = redisReaderCreateWithFunctions(&functions);
    CHECK(rr->reader != NULL);
    rr->reader->privdata = rr;
    rr->arena = arena_new(ARENA_BYTES);
    return rr;
}

void reply_reader_free(struct reply_reader *rr)
{
    if (rr == NULL)
        return;
    redisReaderFree(rr->reader);
    arena_free(rr->arena);
    free(rr);
}

void reply_reader_feed(struct reply_reader *rr, struct span bytes)
{
    if (redisReaderFeed(rr->reader, bytes.p, bytes.n) != REDIS_OK)
        rr->broken = true;
}

bool reply_reader_next(struct reply_reader *rr, const struct redis_reply **out)
{
    /* Objects of an unfinished reply stay in the arena; it is empty only between replies. */
    if (rr->reader->ridx == -1)
        arena_reset(rr->arena);
    void *reply = NULL;
    *out = NULL;
    if (rr->broken || redisReaderGetReply(rr->reader, &reply) != REDIS_OK) {
        rr->broken = true;
        return false;
    }
    *out = reply;
    return true;
}
