/* States: WAITING (back-off) -> RESOLVING (names only) -> CONNECTING -> GREETING (AUTH, SELECT, functions, a
 * probe that only a usable Redis answers) -> UP -> DRAINING (Redis says that it is of no use at the moment:
 * no new commands, those in flight still get their answers) -> CLOSING (operations are joined) -> WAITING.
 *
 * Writing: commands are appended to `out`; the turn hook hands it to the ring and takes the other buffer, so
 * one send carries a turn. Reading: multishot receive into the reader; replies come in the order of
 * `pending`. All commands have the same timeout, so the oldest has the earliest deadline and one timer serves
 * all states. */
#include "common/redis/connection.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/log/log.h"
#include "common/redis/functions.h"
#include "common/redis/redis_stats.h"
#include "common/redis/reply.h"
#include "common/ring/ring.h"

enum {
    BACKOFF_FIRST_MS = 50,
    BACKOFF_LAST_MS = 250, /* a fraction of any lease */
    RESOLVE_POLL_MS = 10,
    KEEP_BUFFER_BYTES = 256 * 1024,
    LOG_AGAIN_TRIES = 30 /* the same reason is logged again after so many tries */
};

enum conn_state { WAITING, RESOLVING, CONNECTING, GREETING, UP, DRAINING, CLOSING };

static const char *const state_names[] = {"waiting", "resolving", "connecting", "greeting",
                                          "up",      "draining",  "closing"};

struct pending {
    redis_fn *fn;
    void *ctx;
    uint64_t sent_ns;
    uint64_t deadline_ms;
};

struct redis_conn {
    struct ring *ring;
    struct ring_buffers *buffers;
    const struct redis_url *url;
    const struct redis_conn_handler *handler;
    void *ctx;
    enum redis_conn_purpose purpose;
    enum conn_state state;
    unsigned timeout_ms;
    unsigned tries; /* failed in a row */
    bool entered;   /* in a callback of ours: whoever entered frees */
    bool dying;     /* redis_conn_free was called */
    bool late;      /* the deadline passed; one more turn for a reply that may lie in the socket */
    bool heard;     /* MESSAGES: something came since the last sign of life was asked for */
    char reason[160];

    int fd; /* -1 = none */
    struct sockaddr_storage addr;
    socklen_t addr_n;
    struct gaicb lookup;
    bool looking_up;

    struct ring_op connect_op, recv_op, send_op;
    struct ring_hook hook;
    struct timer timer;

    struct reply_reader *reader;
    struct buf out;     /* being filled */
    struct buf sending; /* held by send_op */
    struct pending *pending;
    size_t pending_at, pending_n, pending_cap; /* a circle; cap is a power of two */
};

static void conn_stop(struct redis_conn *c, const char *format, ...) PRINTF_LIKE(2, 3);
static void conn_join(struct redis_conn *c);

static void state_set(struct redis_conn *c, enum conn_state state)
{
    log_trace("redis", "connection %s -> %s", state_names[c->state], state_names[state]);
    c->state = state;
}

/* ---- pending commands */

static void pending_add(struct redis_conn *c, redis_fn *fn, void *ctx)
{
    if (c->pending_n == c->pending_cap) {
        size_t cap = MAX(c->pending_cap * 2, 64);
        struct pending *bigger = xmalloc(cap * sizeof(*bigger));
        for (size_t i = 0; i < c->pending_n; i++)
            bigger[i] = c->pending[(c->pending_at + i) & (c->pending_cap - 1)];
        free(c->pending);
        c->pending = bigger;
        c->pending_at = 0;
        c->pending_cap = cap;
    }
    c->pending[(c->pending_at + c->pending_n++) & (c->pending_cap - 1)] =
        (struct pending){fn, ctx, clock_mono_ns(), ring_now_ms(c->ring) + c->timeout_ms};
    if (c->purpose == REDIS_CONN_COMMANDS)
        stat_set(&redis_stat_in_flight, (int64_t)c->pending_n);
}

static struct pending pending_take(struct redis_conn *c)
{
    struct pending p = c->pending[c->pending_at];
    c->pending_at = (c->pending_at + 1) & (c->pending_cap - 1);
    c->pending_n--;
    return p;
}

/* ---- writing */

static void command_write(struct buf *out, unsigned argc, const struct span *argv)
{
    size_t total = 16;
    for (unsigned i = 0; i < argc; i++)
        total += argv[i].n + 24;
    buf_reserve(out, total);
    buf_add_char(out, '*');
    buf_add_u64(out, argc);
    for (unsigned i = 0; i < argc; i++) {
        buf_add_lit(out, "\r\n$");
        buf_add_u64(out, argv[i].n);
        buf_add_lit(out, "\r\n");
        buf_add(out, argv[i].p, argv[i].n);
    }
    buf_add_lit(out, "\r\n");
}

static void command_queue(struct redis_conn *c, unsigned argc, const struct span *argv)
{
    /* A command may be given by a hook that runs after ours: then this turn's sleep is skipped and it leaves
     * in the next turn. */
    if (c->out.n == 0)
        ring_again(c->ring);
    command_write(&c->out, argc, argv);
}

static void command_add(struct redis_conn *c, unsigned argc, const struct span *argv, redis_fn *fn, void *ctx)
{
    command_queue(c, argc, argv);
    pending_add(c, fn, ctx);
    if (!timer_is_set(&c->timer))
        ring_timer_set(c->ring, &c->timer, c->timeout_ms);
}

#define command_lit(c, fn, ctx, ...)                                             \
    command_add((c), sizeof((struct span[]){__VA_ARGS__}) / sizeof(struct span), \
                (struct span[]){__VA_ARGS__}, (fn), (ctx))

static void on_sent(struct ring_op *op, struct ring_result result)
{
    struct redis_conn *c = CONTAINER_OF(op, struct redis_conn, send_op);
    if (result.res < 0 && c->state != CLOSING)
        conn_stop(c, "sending: %s", strerror(-result.res));
    buf_clear(&c->sending);
    buf_shrink(&c->sending, KEEP_BUFFER_BYTES);
    conn_join(c);
}

static void on_turn(struct ring_hook *hook)
{
    struct redis_conn *c = CONTAINER_OF(hook, struct redis_conn, hook);
    if (c->out.n == 0 || op_busy(&c->send_op) || c->state < GREETING || c->state == CLOSING)
        return;
    struct buf full = c->out;
    c->out = c->sending;
    c->sending = full;
    ring_send(c->ring, &c->send_op, c->fd, c->sending.p, c->sending.n, on_sent);
}

/* ---- greeting */

/* True for answers that say: not now, or not here. Such a Redis must not be used. */
static bool is_unusable(const struct redis_reply *reply)
{
    static const char *const codes[] = {"LOADING", "READONLY",   "MASTERDOWN", "OOM",
                                        "MISCONF", "NOREPLICAS", "NOAUTH"};
    if (reply->kind != REDIS_KIND_ERROR)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (redis_error_is(reply, codes[i]))
            return true;
    }
    return false;
}

/* What the operator can do about an answer. */
static const char *advice(const struct redis_reply *reply)
{
    if (redis_error_is(reply, "NOAUTH") || redis_error_is(reply, "WRONGPASS") ||
        redis_error_is(reply, "NOPERM"))
        return "; check the user and password in redis.url";
    if (redis_error_is(reply, "OOM"))
        return "; raise its maxmemory or free memory";
    if (redis_error_is(reply, "MISCONF"))
        return "; look at its log: it cannot write to its disk";
    if (redis_error_is(reply, "READONLY"))
        return "; redis.url names a replica, name the master";
    if (reply->text.n > 19 && memcmp(reply->text.p, "ERR unknown command", 19) == 0)
        return "; Jackdaw needs Redis 7 or later";
    return "";
}

static void on_greeting(void *ctx, const struct redis_reply *reply)
{
    struct redis_conn *c = ctx;
    if (c->state == GREETING && reply->kind == REDIS_KIND_ERROR)
        conn_stop(c, "it says: %.*s%s", SPAN_FMT(reply->text), advice(reply));
}

/* The last answer of the greeting. */
static void on_ready(void *ctx, const struct redis_reply *reply)
{
    struct redis_conn *c = ctx;
    on_greeting(ctx, reply);
    if (c->state != GREETING)
        return;
    state_set(c, UP);
    if (c->tries > 0 && c->purpose == REDIS_CONN_COMMANDS)
        log_info("redis", "Redis answers again");
    c->tries = 0;
    c->reason[0] = '\0';
    c->heard = true;
    c->handler->up(c->ctx);
    if (c->purpose == REDIS_CONN_MESSAGES && c->state == UP)
        ring_timer_set(c->ring, &c->timer, c->timeout_ms);
}

static void greet(struct redis_conn *c)
{
    state_set(c, GREETING);
    if (c->url->password != NULL && c->url->user != NULL)
        command_lit(c, on_greeting, c, SPAN("AUTH"), span_of(c->url->user), span_of(c->url->password));
    else if (c->url->password != NULL)
        command_lit(c, on_greeting, c, SPAN("AUTH"), span_of(c->url->password));
    if (c->url->db != 0) {
        char db[16];
        snprintf(db, sizeof(db), "%u", c->url->db);
        command_lit(c, on_greeting, c, SPAN("SELECT"), span_of(db));
    }
    if (c->purpose == REDIS_CONN_MESSAGES) {
        command_lit(c, on_ready, c, SPAN("PING"));
        return;
    }
    /* Without a password that Redis wants, the size of the library would be answered, not the lack: ask
     * something small first. */
    command_lit(c, on_greeting, c, SPAN("PING"));
    command_lit(c, on_greeting, c, SPAN("FUNCTION"), SPAN("LOAD"), SPAN("REPLACE"),
                span_of(redis_functions_lua));
    command_lit(c, on_ready, c, SPAN("FCALL"), SPAN("jd_ready"), SPAN("0"));
}

/* ---- reading */

static void reply_take(struct redis_conn *c, const struct redis_reply *reply)
{
    if (c->pending_n == 0) {
        if (c->purpose == REDIS_CONN_MESSAGES && c->state == UP)
            c->handler->push(c->ctx, reply);
        else
            conn_stop(c, "a reply that nobody asked for; is this Redis?");
        return;
    }
    struct pending p = pending_take(c);
    if (c->state == UP || c->state == DRAINING) {
        stat_observe(&redis_stat_reply, (clock_mono_ns() - p.sent_ns) / 1000);
        if (reply->kind == REDIS_KIND_ERROR)
            stat_add(&redis_stat_errors, 1);
        if (c->state == UP && is_unusable(reply)) {
            snprintf(c->reason, sizeof(c->reason), "it says: %.*s%s", (int)MIN(reply->text.n, 80),
                     reply->text.p, advice(reply));
            log_error("redis", "Redis is of no use at the moment: %s", c->reason);
            state_set(c, DRAINING);
            c->handler->down(c->ctx);
        }
    }
    if (p.fn != NULL)
        p.fn(p.ctx, reply);
    if (c->state == DRAINING && c->pending_n == 0)
        conn_stop(c, "%s", c->reason);
}

static void on_recv(struct ring_op *op, struct ring_result result)
{
    struct redis_conn *c = CONTAINER_OF(op, struct redis_conn, recv_op);
    if (c->state != CLOSING && result.res <= 0) {
        conn_stop(c, "%s", result.res == 0 ? "it closed the connection" : strerror(-result.res));
    } else if (c->state != CLOSING) {
        const struct redis_reply *reply = NULL;
        bool sane = true;
        c->entered = true;
        c->heard = true;
        c->late = false;
        reply_reader_feed(c->reader, span_make(result.data, (size_t)result.res));
        while (c->state != CLOSING && (sane = reply_reader_next(c->reader, &reply)) && reply != NULL)
            reply_take(c, reply);
        if (!sane)
            conn_stop(c, "its answer is not RESP2; is this Redis?");
        if (!result.more && c->state != CLOSING)
            ring_recv(c->ring, &c->recv_op, c->fd, c->buffers, on_recv);
        c->entered = false;
        if (c->purpose == REDIS_CONN_COMMANDS)
            stat_set(&redis_stat_in_flight, (int64_t)c->pending_n);
    }
    conn_join(c);
}

/* ---- connecting */

static void on_connected(struct ring_op *op, struct ring_result result)
{
    struct redis_conn *c = CONTAINER_OF(op, struct redis_conn, connect_op);
    if (c->state == CONNECTING && result.res < 0) {
        conn_stop(c, "%s", strerror(-result.res));
    } else if (c->state == CONNECTING) {
        ring_timer_clear(c->ring, &c->timer);
        ring_recv(c->ring, &c->recv_op, c->fd, c->buffers, on_recv);
        greet(c);
    }
    conn_join(c);
}

static void connect_start(struct redis_conn *c)
{
    c->fd = socket(c->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        conn_stop(c, "socket: %s", strerror(errno));
        return;
    }
    if (c->addr.ss_family != AF_UNIX) {
        int one = 1;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    }
    state_set(c, CONNECTING);
    ring_timer_set(c->ring, &c->timer, c->timeout_ms);
    ring_connect(c->ring, &c->connect_op, c->fd, (struct sockaddr *)&c->addr, c->addr_n, on_connected);
}

/* The resolver works in a thread of libc's; its end is polled, so no signal or lock touches the loop. */
static void lookup_start(struct redis_conn *c)
{
    static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    struct gaicb *list[] = {&c->lookup};
    c->lookup = (struct gaicb){.ar_name = c->url->host, .ar_service = c->url->port, .ar_request = &hints};
    state_set(c, RESOLVING);
    int error = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
    if (error != 0) {
        conn_stop(c, "resolving %s: %s", c->url->host, gai_strerror(error));
        return;
    }
    c->looking_up = true;
    ring_timer_set(c->ring, &c->timer, RESOLVE_POLL_MS);
}

static void lookup_poll(struct redis_conn *c)
{
    int error = gai_error(&c->lookup);
    if (error == EAI_INPROGRESS) {
        ring_timer_set(c->ring, &c->timer, RESOLVE_POLL_MS);
        return;
    }
    c->looking_up = false;
    if (c->state == CLOSING) {
        if (error == 0)
            freeaddrinfo(c->lookup.ar_result);
        return;
    }
    if (error != 0) {
        conn_stop(c, "resolving %s: %s", c->url->host, gai_strerror(error));
        return;
    }
    const struct addrinfo *first = c->lookup.ar_result;
    c->addr_n = first->ai_addrlen;
    memcpy(&c->addr, first->ai_addr, first->ai_addrlen);
    freeaddrinfo(c->lookup.ar_result);
    connect_start(c);
}

static void attempt(struct redis_conn *c)
{
    if (c->url->path != NULL) {
        struct sockaddr_un *un = (struct sockaddr_un *)&c->addr;
        *un = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(un->sun_path, c->url->path, strlen(c->url->path) + 1); /* url.c has checked the length */
        c->addr_n = sizeof(*un);
        connect_start(c);
        return;
    }
    char *address =
        xasprintf(strchr(c->url->host, ':') != NULL ? "[%s]:%s" : "%s:%s", c->url->host, c->url->port);
    c->addr_n = ring_address(address, &c->addr);
    free(address);
    if (c->addr_n > 0)
        connect_start(c);
    else
        lookup_start(c);
}

static void deadline_check(struct redis_conn *c)
{
    if (c->purpose == REDIS_CONN_MESSAGES && c->state == UP) {
        if (!c->heard) {
            conn_stop(c, "no sign of life for %u ms", c->timeout_ms);
            return;
        }
        c->heard = false;
        command_queue(c, 1, (struct span[]){SPAN("PING")});
        ring_timer_set(c->ring, &c->timer, c->timeout_ms);
        return;
    }
    if (c->pending_n == 0)
        return;
    uint64_t now = ring_now_ms(c->ring), deadline = c->pending[c->pending_at].deadline_ms;
    if (now < deadline) {
        ring_timer_set(c->ring, &c->timer, deadline - now);
    } else if (!c->late) {
        c->late = true; /* if it was this process that stood still, the reply is there already */
        ring_timer_set(c->ring, &c->timer, 1);
    } else {
        stat_add(&redis_stat_timeouts, 1);
        conn_stop(c, "no answer for %u ms", c->timeout_ms);
    }
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    struct redis_conn *c = CONTAINER_OF(t, struct redis_conn, timer);
    (void)now_ms;
    switch (c->state) {
    case WAITING:
        attempt(c);
        break;
    case RESOLVING:
        lookup_poll(c);
        break;
    case CONNECTING:
        conn_stop(c, "no connection for %u ms", c->timeout_ms);
        break;
    case GREETING:
    case UP:
    case DRAINING:
        deadline_check(c);
        break;
    case CLOSING:
        if (c->looking_up)
            lookup_poll(c);
        break;
    }
    conn_join(c);
}

/* ---- ending */

/* Begins the end of the connection: nothing is written or read any more, everything in flight is lost. The
 * rest is conn_join's, which every entry from the loop calls last. */
static void conn_stop(struct redis_conn *c, const char *format, ...)
{
    bool was_up = c->state == UP;
    char reason[sizeof(c->reason)];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    if (c->purpose == REDIS_CONN_COMMANDS && !c->dying &&
        (strcmp(reason, c->reason) != 0 || c->tries % LOG_AGAIN_TRIES == LOG_AGAIN_TRIES - 1))
        log_warn("redis", "Redis at %s%s is away: %s; trying again", c->url->path ? "" : c->url->host,
                 c->url->path ? c->url->path : "", reason);
    memcpy(c->reason, reason, sizeof(reason));
    c->tries++;
    state_set(c, CLOSING);
    c->late = false;
    ring_timer_clear(c->ring, &c->timer);
    if (c->looking_up)
        ring_timer_set(c->ring, &c->timer, RESOLVE_POLL_MS);
    if (c->fd >= 0)
        ring_shutdown(c->ring, c->fd);
    ring_cancel(c->ring, &c->connect_op);
    ring_cancel(c->ring, &c->recv_op);
    ring_cancel(c->ring, &c->send_op);
    buf_clear(&c->out);
    bool entered = c->entered;
    c->entered = true; /* a callback may free us; not before we are done here */
    if (was_up && !c->dying)
        c->handler->down(c->ctx);
    while (c->pending_n > 0) {
        struct pending p = pending_take(c);
        if (p.fn != NULL && p.fn != on_greeting && p.fn != on_ready && !c->dying)
            c->handler->lost(c->ctx, p.fn, p.ctx);
    }
    c->entered = entered;
}

static unsigned backoff_ms(const struct redis_conn *c)
{
    unsigned ms = BACKOFF_FIRST_MS << MIN(c->tries > 0 ? c->tries - 1 : 0, 8);
    ms = MIN(ms, (unsigned)BACKOFF_LAST_MS);
    return ms / 2 + (unsigned)(random_u64() % (ms / 2 + 1));
}

/* Goes on once the loop has given everything back: to the next attempt, or to the end. */
static void conn_join(struct redis_conn *c)
{
    if (c->state != CLOSING || c->entered || c->looking_up || op_busy(&c->connect_op) ||
        op_busy(&c->recv_op) || op_busy(&c->send_op))
        return;
    if (c->fd >= 0)
        ring_close(c->ring, NULL, c->fd, NULL);
    c->fd = -1;
    reply_reader_free(c->reader);
    c->reader = NULL;
    if (c->dying) {
        const struct redis_conn_handler *handler = c->handler;
        void *ctx = c->ctx;
        ring_timer_clear(c->ring, &c->timer);
        ring_hook_del(c->ring, &c->hook);
        buf_free(&c->out);
        buf_free(&c->sending);
        free(c->pending);
        free(c);
        handler->gone(ctx);
        return;
    }
    c->reader = reply_reader_new();
    buf_clear(&c->sending);
    stat_add(&redis_stat_reconnects, 1);
    state_set(c, WAITING);
    ring_timer_set(c->ring, &c->timer, backoff_ms(c));
}

/* ---- the face */

struct redis_conn *redis_conn_new(struct ring *ring, struct ring_buffers *buffers,
                                  const struct redis_url *url, unsigned timeout_ms,
                                  enum redis_conn_purpose purpose, const struct redis_conn_handler *handler,
                                  void *ctx)
{
    struct redis_conn *c = xcalloc(1, sizeof(*c));
    c->ring = ring;
    c->buffers = buffers;
    c->url = url;
    c->timeout_ms = timeout_ms;
    c->purpose = purpose;
    c->handler = handler;
    c->ctx = ctx;
    c->fd = -1;
    c->reader = reply_reader_new();
    c->timer.fire = on_timer;
    c->hook.run = on_turn;
    ring_hook_add(ring, &c->hook);
    ring_timer_set(ring, &c->timer, 0);
    return c;
}

void redis_conn_free(struct redis_conn *c)
{
    c->dying = true;
    if (c->state != CLOSING)
        conn_stop(c, "closed by us");
    conn_join(c);
}

bool redis_conn_is_up(const struct redis_conn *c)
{
    return c->state == UP;
}

const char *redis_conn_reason(const struct redis_conn *c)
{
    return c->reason;
}

void redis_conn_command(struct redis_conn *c, unsigned argc, const struct span *argv, redis_fn *fn, void *ctx)
{
    CHECK(c->state == UP && c->purpose == REDIS_CONN_COMMANDS);
    stat_add(&redis_stat_commands, 1);
    command_add(c, argc, argv, fn, ctx);
}

void redis_conn_send(struct redis_conn *c, unsigned argc, const struct span *argv)
{
    CHECK(c->state == UP && c->purpose == REDIS_CONN_MESSAGES);
    command_queue(c, argc, argv);
}

void redis_conn_forget(struct redis_conn *c, void *ctx)
{
    for (size_t i = 0; i < c->pending_n; i++) {
        struct pending *p = &c->pending[(c->pending_at + i) & (c->pending_cap - 1)];
        if (p->ctx == ctx)
            p->fn = NULL;
    }
}
