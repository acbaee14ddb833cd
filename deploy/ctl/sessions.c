/* sessions: read from Redis, where every router writes them (router/session_record.c): hash u:{jid}:sessions,
 * resource -> "1 SID NODE INCARNATION FLAGS PRIORITY ..." and further lines. */
#include <stdlib.h>

#include "common/redis/keys.h"
#include "deploy/ctl/ctl.h"

enum { FLAG_SM = 1, FLAG_AVAILABLE = 2, FLAG_DETACHED = 16 };

struct listing {
    struct ctl *c;
    struct buf out;
    struct json j;
    char **users; /* "u:{jid}:sessions" keys' JIDs, may hold doubles */
    size_t count, cap;
    struct buf cursor;
    struct span user; /* being asked */
    size_t sessions;
};

struct record {
    struct span node;
    uint64_t flags;
    int64_t priority;
};

/* False for a record of another version: the session is listed without details then. */
static bool record_parse(struct span text, struct record *out)
{
    struct span line = span_sub(text, 0, span_index(text, '\n'));
    *out = (struct record){0};
    if (!span_is(span_cut(&line, ' '), "1"))
        return false;
    span_cut(&line, ' '); /* session id */
    out->node = span_cut(&line, ' ');
    span_cut(&line, ' '); /* incarnation */
    return span_to_u64(span_cut(&line, ' '), UINT64_MAX, &out->flags) &&
           span_to_i64(span_cut(&line, ' '), -128, 127, &out->priority);
}

static void session_print(struct listing *l, struct span resource, struct span text)
{
    struct record r;
    bool known = record_parse(text, &r);
    const char *state = !known                     ? "unknown"
                        : r.flags & FLAG_DETACHED  ? "detached"
                        : r.flags & FLAG_AVAILABLE ? "available"
                                                   : "connected";
    l->sessions++;
    if (!l->c->json) {
        buf_addf(&l->out, "%.*s/%.*s  %s", SPAN_FMT(l->user), SPAN_FMT(resource), state);
        if (known)
            buf_addf(&l->out, "  on %.*s  priority %lld%s", SPAN_FMT(r.node), (long long)r.priority,
                     r.flags & FLAG_SM ? "  resumable" : "");
        buf_add_char(&l->out, '\n');
        return;
    }
    json_open(&l->j, NULL, '{');
    json_text(&l->j, "user", l->user);
    json_text(&l->j, "resource", resource);
    json_text(&l->j, "state", span_of(state));
    if (known) {
        json_text(&l->j, "node", r.node);
        json_i64(&l->j, "priority", r.priority);
        json_bool(&l->j, "stream_management", (r.flags & FLAG_SM) != 0);
    }
    json_close(&l->j, '}');
}

static void on_sessions(void *ctx, const struct redis_reply *reply)
{
    struct listing *l = ctx;
    for (size_t i = 0; reply->kind == REDIS_KIND_LIST && i + 1 < reply->count; i += 2)
        session_print(l, reply->items[i].text, reply->items[i + 1].text);
}

static bool user_print(struct listing *l, const char *jid)
{
    struct buf store = {0};
    l->user = span_of(jid);
    struct span key = key_sessions(&store, l->user);
    bool good = ctl_ask(l->c, key, 2, (struct span[]){SPAN("HGETALL"), key}, on_sessions, l);
    buf_free(&store);
    return good;
}

static void on_scan(void *ctx, const struct redis_reply *reply)
{
    struct listing *l = ctx;
    struct buf jid = {0};
    buf_clear(&l->cursor);
    if (reply->kind != REDIS_KIND_LIST || reply->count != 2)
        return;
    buf_add_span(&l->cursor, reply->items[0].text);
    for (size_t i = 0; i < reply->items[1].count; i++) {
        if (!key_user_parse(reply->items[1].items[i].text, SPAN("sessions"), &jid))
            continue;
        if (l->count == l->cap) {
            l->cap = MAX(l->cap * 2, 256);
            l->users = xrealloc(l->users, l->cap * sizeof(*l->users));
        }
        l->users[l->count++] = span_dup(buf_span(&jid));
    }
    buf_free(&jid);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool all_print(struct listing *l)
{
    bool good = true;
    for (unsigned node = redis_node_next(l->c->redis, 0); good && node != 0;
         node = redis_node_next(l->c->redis, node)) {
        buf_clear(&l->cursor);
        buf_add_char(&l->cursor, '0');
        do {
            struct span argv[] = {SPAN("SCAN"),           buf_span(&l->cursor), SPAN("MATCH"),
                                  SPAN("u:{*}:sessions"), SPAN("COUNT"),        SPAN("1000")};
            good = ctl_ask_node(l->c, node, ARRAY_LEN(argv), argv, on_scan, l);
        } while (good && l->cursor.n > 0 && !span_is(buf_span(&l->cursor), "0"));
    }
    if (l->count > 0)
        qsort(l->users, l->count, sizeof(*l->users), by_text);
    for (size_t i = 0; i < l->count; i++) {
        if (good && (i == 0 || strcmp(l->users[i], l->users[i - 1]) != 0))
            good = user_print(l, l->users[i]);
    }
    for (size_t i = 0; i < l->count; i++)
        free(l->users[i]);
    free(l->users);
    return good;
}

int ctl_sessions(struct ctl *c)
{
    struct listing l = {.c = c};
    struct buf jid = {0};
    char *why = NULL;
    if (!ctl_arguments(c, 0, 1))
        return CTL_USAGE;
    if (c->argc == 1 && !ctl_user_jid(c, c->argv[0], true, &jid, &why)) {
        int code = ctl_fail(c, CTL_REFUSED, "%s", why);
        free(why);
        return code;
    }
    l.j.out = &l.out;
    bool good = ctl_connect(c);
    if (good && c->json) {
        json_open(&l.j, NULL, '{');
        json_open(&l.j, "sessions", '[');
    }
    good = good && (c->argc == 1 ? user_print(&l, buf_cstr(&jid)) : all_print(&l));
    if (good && c->json) {
        json_close(&l.j, ']');
        json_u64(&l.j, "count", l.sessions);
        json_close(&l.j, '}');
        buf_add_char(&l.out, '\n');
    }
    if (good && !c->json && l.sessions == 0)
        buf_addf(&l.out, "no sessions\n");
    if (good)
        ctl_print(&l.out);
    buf_free(&l.out);
    buf_free(&l.cursor);
    buf_free(&jid);
    return good ? CTL_OK : CTL_AWAY;
}
