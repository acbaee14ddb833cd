/* States: WAITING (back-off) -> RESOLVING (names only) -> CONNECTING -> GREETING (AUTH, SELECT, functions, a
 * probe that only a usable Redis answers) -> UP -> DRAINING (Redis says that it is of no use at the moment:
 * no new commands, those in flight still get their answers) -> CLOSING (operations are joined) -> WAITING.
 *
 * Writing: commands are appended to `out`; the turn hook hands it to the ring and takes the other buffer, so
 * one send carries a turn. Reading: multishot receive into the reader; replies come in the order of
 * `pending`. All commands have the same timeout, so the oldest has the earliest deadline and one timer serves
 * all states.
 *
 * Replicas: when a turn has written something that is to be kept, one WAIT goes behind all of the turn. The
 * replies of what is to be kept lie in `held` until WAIT has answered. Too few replicas: they are lost, and
 * the connection is given up until there are enough (the greeting waits for them too).
 *
 * A connection that was given up with commands in flight may still be read by a Redis that was merely slow,
 * later than what came over the next connection, and undo it. So the next one begins with CLIENT KILL. */
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
    bool kept;
};

/* An answered command that waits for the replicas. */
struct held {
    redis_fn *fn;
    void *ctx;
    struct redis_reply reply; /* text owned */
};

struct redis_conn {
    struct ring *ring;
    const struct redis_conn_setup *setup;
    const struct redis_address *at; /* of this attempt; NULL = a unix socket, or not known yet */
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
    bool to_keep;   /* since the last WAIT something was sent that is to be kept */
    char reason[160];
    char client[24]; /* CLIENT ID of this connection */
    char ghost[24];  /* of an earlier one that may still be read; "" = none */

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
    struct held *held;                         /* in the order of their commands */
    size_t held_at, held_n, held_cap;
};

static void conn_stop(struct redis_conn *c, const char *format, ...) PRINTF_LIKE(2, 3);
static void conn_join(struct redis_conn *c);
static void wait_write(struct redis_conn *c);

/* For the log. */
struct place {
    char text[128];
};

static struct place place(const struct redis_conn *c)
{
    struct place p;
    if (c->setup->url.path != NULL)
        snprintf(p.text, sizeof(p.text), "%s", c->setup->url.path);
    else
        snprintf(p.text, sizeof(p.text), "%s:%s", c->at ? c->at->host : "?", c->at ? c->at->port : "?");
    return p;
}

static void state_set(struct redis_conn *c, enum conn_state state)
{
    log_trace("redis", "connection %s -> %s", state_names[c->state], state_names[state]);
    c->state = state;
}

/* ---- pending commands */

static void pending_add(struct redis_conn *c, bool kept, redis_fn *fn, void *ctx)
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
        (struct pending){fn, ctx, clock_mono_ns(), ring_now_ms(c->ring) + c->timeout_ms, kept};
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

static void command_add(struct redis_conn *c, bool kept, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx)
{
    command_queue(c, argc, argv);
    pending_add(c, kept, fn, ctx);
    if (!timer_is_set(&c->timer))
        ring_timer_set(c->ring, &c->timer, c->timeout_ms);
}

#define command_lit(c, fn, ctx, ...)                                                    \
    command_add((c), false, sizeof((struct span[]){__VA_ARGS__}) / sizeof(struct span), \
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
    if (c->to_keep)
        wait_write(c);
    struct buf full = c->out;
    c->out = c->sending;
    c->sending = full;
    ring_send(c->ring, &c->send_op, c->fd, c->sending.p, c->sending.n, on_sent);
}

/* ---- replicas */

static void held_add(struct redis_conn *c, const struct pending *p, const struct redis_reply *reply)
{
    if (c->held_n == c->held_cap) {
        c->held_cap = MAX(c->held_cap * 2, 64);
        c->held = xrealloc(c->held, c->held_cap * sizeof(*c->held));
    }
    struct held h = {p->fn, p->ctx, {.kind = reply->kind, .number = reply->number}};
    if (reply->text.n > 0)
        h.reply.text = span_make(span_dup(reply->text), reply->text.n);
    c->held[c->held_n++] = h;
}

/* Hands all out: as answered, or as lost. A callback may come back here by redis_free. */
static void held_end(struct redis_conn *c, bool lost)
{
    while (c->held_at < c->held_n) {
        struct held h = c->held[c->held_at++];
        if (h.fn != NULL && !c->dying) {
            if (lost)
                c->handler->lost(c->ctx, h.fn, h.ctx);
            else
                h.fn(h.ctx, &h.reply);
        }
        free((char *)h.reply.text.p);
    }
    c->held_at = c->held_n = 0;
}

static void replicas_missing(struct redis_conn *c, const struct redis_reply *reply, char *out, size_t n)
{
    snprintf(out, n,
             "%lld of its replicas have what was written, redis.wait_replicas wants %u; look at the "
             "replicas",
             reply->kind == REDIS_KIND_NUMBER ? (long long)reply->number : 0LL, c->setup->wait_replicas);
}

static bool has_replicas(const struct redis_conn *c, const struct redis_reply *reply)
{
    return reply->kind == REDIS_KIND_NUMBER && reply->number >= (int64_t)c->setup->wait_replicas;
}

static void drain(struct redis_conn *c);

/* Everything that is held was sent before this WAIT. */
static void on_waited(void *ctx, const struct redis_reply *reply)
{
    struct redis_conn *c = ctx;
    bool enough = has_replicas(c, reply);
    if (!enough && c->state == UP) {
        replicas_missing(c, reply, c->reason, sizeof(c->reason));
        drain(c);
    }
    held_end(c, !enough);
}

static void wait_add(struct redis_conn *c, redis_fn *fn)
{
    char replicas[16], limit[16];
    snprintf(replicas, sizeof(replicas), "%u", c->setup->wait_replicas);
    snprintf(limit, sizeof(limit), "%u", c->timeout_ms * 3 / 4); /* it must not look like a dead Redis */
    command_lit(c, fn, c, SPAN("WAIT"), span_of(replicas), span_of(limit));
}

static void wait_write(struct redis_conn *c)
{
    c->to_keep = false;
    wait_add(c, on_waited);
}

/* ---- greeting */

/* True for answers that say: not now, or not here. Such a Redis must not be used. */
static bool is_unusable(const struct redis_reply *reply)
{
    static const char *const codes[] = {"LOADING",    "READONLY", "MASTERDOWN", "MISCONF",
                                        "NOREPLICAS", "NOAUTH",   "BUSY"};
    if (reply->kind != REDIS_KIND_ERROR)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (redis_error_is(reply, codes[i]))
            return true;
    }
    return false;
}

/* What the operator can do about an answer. */
static const char *advice(const struct redis_conn *c, const struct redis_reply *reply)
{
    if (redis_error_is(reply, "NOAUTH") || redis_error_is(reply, "WRONGPASS") ||
        redis_error_is(reply, "NOPERM"))
        return "; check the user and password in redis.url";
    if (redis_error_is(reply, "OOM"))
        return "; raise its maxmemory or free memory";
    if (redis_error_is(reply, "MISCONF"))
        return "; look at its log: it cannot write to its disk";
    if (redis_error_is(reply, "READONLY") && c->setup->url.mode == REDIS_SINGLE)
        return "; redis.url names a replica, name the master";
    if (reply->text.n > 19 && memcmp(reply->text.p, "ERR unknown command", 19) == 0)
        return "; Jackdaw needs Redis 7 or later";
    return "";
}

static void on_greeting(void *ctx, const struct redis_reply *reply)
{
    struct redis_conn *c = ctx;
    if (c->state == GREETING && reply->kind == REDIS_KIND_ERROR)
        conn_stop(c, "it says: %.*s%s", SPAN_FMT(reply->text), advice(c, reply));
}

/* A full Redis takes no library: the one of another process will do, and jd_ready shows whether there is one.
 */
static void on_library(void *ctx, const struct redis_reply *reply)
{
    if (reply->kind != REDIS_KIND_ERROR || !redis_error_is(reply, "OOM"))
        on_greeting(ctx, reply);
}

/* ACLs may forbid it; then we do without. */
static void on_client(void *ctx, const struct redis_reply *reply)
{
    struct redis_conn *c = ctx;
    c->client[0] = '\0';
    if (reply->kind == REDIS_KIND_NUMBER)
        snprintf(c->client, sizeof(c->client), "%lld", (long long)reply->number);
}

/* The answer to WAIT, in the greeting. */
static void on_followed(void *ctx, const struct redis_reply *reply)
{
    struct redis_conn *c = ctx;
    char why[sizeof(c->reason)];
    on_greeting(ctx, reply);
    if (c->state == GREETING && !has_replicas(c, reply)) {
        replicas_missing(c, reply, why, sizeof(why));
        conn_stop(c, "%s", why);
    }
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
        log_info("redis", "Redis at %s answers again", place(c).text);
    c->ghost[0] = '\0';
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
    const struct redis_url *url = &c->setup->url;
    /* The URL's password is Redis's; Sentinels have none. */
    if (c->purpose != REDIS_CONN_QUESTIONS || url->mode != REDIS_SENTINEL) {
        if (url->password != NULL && url->user != NULL)
            command_lit(c, on_greeting, c, SPAN("AUTH"), span_of(url->user), span_of(url->password));
        else if (url->password != NULL)
            command_lit(c, on_greeting, c, SPAN("AUTH"), span_of(url->password));
    }
    if (c->purpose != REDIS_CONN_COMMANDS) {
        command_lit(c, on_ready, c, SPAN("PING"));
        return;
    }
    if (c->ghost[0] != '\0')
        command_lit(c, NULL, NULL, SPAN("CLIENT"), SPAN("KILL"), SPAN("ID"), span_of(c->ghost));
    command_lit(c, on_client, c, SPAN("CLIENT"), SPAN("ID"));
    if (url->db != 0) {
        char db[16];
        snprintf(db, sizeof(db), "%u", url->db);
        command_lit(c, on_greeting, c, SPAN("SELECT"), span_of(db));
    }
    /* Without a password that Redis wants, the size of the library would be answered, not the lack: ask
     * something small first. */
    command_lit(c, on_greeting, c, SPAN("PING"));
    command_lit(c, on_library, c, SPAN("FUNCTION"), SPAN("LOAD"), SPAN("REPLACE"),
                span_of(redis_functions_lua));
    if (c->setup->wait_replicas > 0)
        wait_add(c, on_followed);
    command_lit(c, on_ready, c, SPAN("FCALL"), SPAN("jd_ready"), SPAN("0"));
}

/* ---- reading */

/* Of no use at the moment, for c->reason: the commands in flight still get their answers, then it ends. */
static void drain(struct redis_conn *c)
{
    log_error("redis", "Redis at %s is of no use at the moment: %s", place(c).text, c->reason);
    state_set(c, DRAINING);
    c->handler->down(c->ctx);
}

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
                     reply->text.p, advice(c, reply));
            drain(c);
        }
    }
    if (p.kept && reply->kind != REDIS_KIND_ERROR)
        held_add(c, &p, reply);
    else if (p.fn != NULL)
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
            ring_recv(c->ring, &c->recv_op, c->fd, c->setup->buffers, on_recv);
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
        ring_recv(c->ring, &c->recv_op, c->fd, c->setup->buffers, on_recv);
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
    c->lookup = (struct gaicb){.ar_name = c->at->host, .ar_service = c->at->port, .ar_request = &hints};
    state_set(c, RESOLVING);
    int error = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
    if (error != 0) {
        conn_stop(c, "resolving %s: %s", c->at->host, gai_strerror(error));
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
        conn_stop(c, "resolving %s: %s", c->at->host, gai_strerror(error));
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
    const char *path = c->setup->url.path;
    if (path != NULL) {
        struct sockaddr_un *un = (struct sockaddr_un *)&c->addr;
        *un = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(un->sun_path, path, strlen(path) + 1); /* url.c has checked the length */
        c->addr_n = sizeof(*un);
        connect_start(c);
        return;
    }
    c->at = c->handler->next(c->ctx);
    if (c->at == NULL) {
        ring_timer_set(c->ring, &c->timer, BACKOFF_LAST_MS);
        return;
    }
    char *address =
        xasprintf(strchr(c->at->host, ':') != NULL ? "[%s]:%s" : "%s:%s", c->at->host, c->at->port);
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
        log_warn("redis", "Redis at %s is away: %s; trying again", place(c).text, reason);
    memcpy(c->reason, reason, sizeof(reason));
    c->tries++;
    if (c->state == UP || c->state == DRAINING)
        memcpy(c->ghost, c->client, sizeof(c->ghost));
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
    c->to_keep = false;
    held_end(c, true);
    while (c->pending_n > 0) {
        struct pending p = pending_take(c);
        if (p.fn != NULL && p.ctx != c && !c->dying) /* not our own */
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
        free(c->held);
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

struct redis_conn *redis_conn_new(const struct redis_conn_setup *setup, enum redis_conn_purpose purpose,
                                  const struct redis_conn_handler *handler, void *ctx)
{
    struct ring *ring = setup->ring;
    struct redis_conn *c = xcalloc(1, sizeof(*c));
    c->ring = ring;
    c->setup = setup;
    c->timeout_ms = setup->timeout_ms;
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

bool redis_conn_is_busy(const struct redis_conn *c)
{
    return c->pending_n + c->held_n > 0;
}

void redis_conn_drop(struct redis_conn *c, const char *reason)
{
    if (c->state > WAITING && c->state < CLOSING) {
        conn_stop(c, "%s", reason);
        conn_join(c);
    }
}

void redis_conn_poke(struct redis_conn *c)
{
    if (c->state == WAITING)
        ring_timer_set(c->ring, &c->timer, 0);
}

void redis_conn_command(struct redis_conn *c, bool kept, unsigned argc, const struct span *argv, redis_fn *fn,
                        void *ctx)
{
    CHECK(c->state == UP && c->purpose != REDIS_CONN_MESSAGES);
    kept = kept && c->setup->wait_replicas > 0;
    c->to_keep |= kept;
    stat_add(&redis_stat_commands, 1);
    command_add(c, kept, argc, argv, fn, ctx);
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
    for (size_t i = c->held_at; i < c->held_n; i++) {
        if (c->held[i].ctx == ctx)
            c->held[i].fn = NULL;
    }
}
