/* Receiving: bytes → TLS → handler; what a held owner does not take is kept in `held` and the socket is no
 * longer read once that grows. Sending: what the owner has written goes, at the end of the turn, through one
 * tls_write into `records`, which change place with `sending` when the last send is done. */
#include "common/conn/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/tls/tls.h"

#define FINISH_MS  5000 /* for the last bytes */
#define DRAIN_MS   2000 /* for the peer's end after ours */
#define HELD_PAUSE 4096 /* bytes kept while held before the socket is no longer read */
#define PLAIN_KEEP 65536

static void conn_read(struct conn *c);

const char *conn_peer_name(const struct conn *c)
{
    static char text[80];
    char host[INET6_ADDRSTRLEN] = "?";
    if (c->peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&c->peer;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, sizeof text, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&c->peer;
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof host);
        snprintf(text, sizeof text, "%s:%u", host, ntohs(in4->sin_port));
    }
    return text;
}

void conn_dirty(struct conn *c)
{
    if (list_empty(&c->dirty) && c->phase < CONN_CLOSED)
        list_add(&c->hub->dirty, &c->dirty);
}

size_t conn_waiting(const struct conn *c)
{
    return c->out.n + c->records.n + c->sending.n;
}

uint64_t conn_written(const struct conn *c)
{
    return c->sealed + c->out.n;
}

/* ---- the end ---- */

void conn_drop(struct conn *c, const char *why)
{
    if (c->phase == CONN_CLOSED || c->phase == CONN_NEW)
        return;
    bool told = c->phase >= CONN_FINISHING;
    c->phase = CONN_CLOSED;
    ring_timer_clear(c->hub->ring, &c->timer);
    list_del(&c->dirty);
    ring_cancel(c->hub->ring, &c->recv);
    ring_cancel(c->hub->ring, &c->send);
    list_add(&c->hub->dying, &c->dying);
    ring_again(c->hub->ring);
    if (!told)
        c->handler->closed(c, why);
}

/* True when it is gone. */
static bool bury(struct conn *c)
{
    if (op_busy(&c->recv) || op_busy(&c->send))
        return false;
    struct conn_hub *hub = c->hub;
    const struct conn_handler *handler = c->handler;
    list_del(&c->dying);
    ring_close(hub->ring, NULL, c->fd, NULL);
    tls_free(c->tls);
    buf_free(&c->out);
    buf_free(&c->records);
    buf_free(&c->sending);
    buf_free(&c->held);
#ifndef NDEBUG
    xml_audit_free(&c->audit);
#endif
    *c = (struct conn){.hub = hub, .handler = handler, .fd = -1, .peer = c->peer};
    list_init(&c->dirty);
    list_init(&c->dying);
    hub->count--;
    handler->gone(c);
    return true;
}

/* Our side has been said; waits for the peer's end so that no reset overtakes our last bytes. */
static void shut(struct conn *c)
{
    c->phase = CONN_DRAINING;
    shutdown(c->fd, SHUT_WR);
    ring_timer_set(c->hub->ring, &c->timer, DRAIN_MS);
    if (c->eof)
        conn_drop(c, "done");
    else
        conn_read(c);
}

void conn_finish(struct conn *c)
{
    if (c->phase == CONN_DIALLING || c->shaking) {
        conn_drop(c, "given up");
        return;
    }
    if (c->phase != CONN_OPEN)
        return;
    c->phase = CONN_FINISHING;
    if (!c->running)
        buf_free(&c->held);
    ring_timer_set(c->hub->ring, &c->timer, FINISH_MS);
    conn_dirty(c);
    c->handler->closed(c, "finished");
}

/* ---- sending ---- */

static void on_sent(struct ring_op *op, struct ring_result result)
{
    struct conn *c = CONTAINER_OF(op, struct conn, send);
    size_t n = c->sending.n;
    buf_free(&c->sending);
    if (c->phase == CONN_CLOSED)
        return;
    if (result.res < 0) {
        conn_drop(c, strerror(-result.res));
        return;
    }
    c->hub->bytes_out += n;
    conn_dirty(c);
    if (c->phase == CONN_OPEN)
        c->handler->sent(c, c->in_sending);
}

/* Moves what the owner has written into `records`, encrypted when there is TLS. */
static bool seal(struct conn *c)
{
    if (c->out.n == 0)
        return true;
    c->sealed += c->out.n;
    if (c->tls == NULL) {
        buf_add_span(&c->records, buf_span(&c->out));
    } else if (c->shaking || !tls_write(c->tls, buf_span(&c->out), &c->records)) {
        return false;
    }
#ifndef NDEBUG
    if (c->handler->xml)
        xml_audit(&c->audit, buf_span(&c->out), conn_peer_name(c));
#endif
    buf_clear(&c->out);
    buf_shrink(&c->out, 0);
    return true;
}

static void flush(struct conn *c)
{
    if (c->phase == CONN_CLOSED || c->phase == CONN_DIALLING || op_busy(&c->send))
        return; /* on_sent makes it dirty again */
    if (c->phase == CONN_OPEN && !c->shaking)
        c->handler->turn(c);
    if (c->phase == CONN_CLOSED)
        return;
    bool ended = c->phase == CONN_FINISHING;
    if (!c->shaking && !seal(c)) {
        conn_drop(c, "TLS cannot write");
        return;
    }
    if (ended && c->tls != NULL && !c->tls_said) {
        tls_close(c->tls, &c->records);
        c->tls_said = true;
    }
    if (c->records.n == 0) {
        if (ended)
            shut(c);
        return;
    }
    struct buf empty = c->sending;
    c->sending = c->records;
    c->records = empty;
    c->in_sending = c->sealed;
    c->wire += c->sending.n;
    if (c->handler->sealed != NULL)
        c->handler->sealed(c, c->in_sending, c->wire);
    ring_send(c->hub->ring, &c->send, c->fd, c->sending.p, c->sending.n, on_sent);
}

static void run_turn(struct ring_hook *hook)
{
    struct conn_hub *hub = CONTAINER_OF(hook, struct conn_hub, hook);
    struct list now;
    list_init(&now);
    list_splice(&now, &hub->dirty);
    while (!list_empty(&now))
        flush(LIST_ENTRY(list_pop(&now), struct conn, dirty));
    LIST_EACH (it, &hub->dying)
        bury(LIST_ENTRY(it, struct conn, dying));
}

/* ---- receiving ---- */

static void give(struct conn *c, struct span in)
{
    if (c->phase != CONN_OPEN)
        return;
    bool kept = c->held.n > 0;
    if (kept || c->holds != 0) {
        buf_add_span(&c->held, in);
        if (c->holds != 0)
            return;
        in = buf_span(&c->held);
    }
    c->running = true;
    c->handler->bytes(c, &in);
    c->running = false;
    if (kept)
        buf_consume(&c->held, c->held.n - in.n);
    else if (in.n > 0)
        buf_add_span(&c->held, in);
    if (c->held.n == 0 || c->phase != CONN_OPEN)
        buf_free(&c->held);
}

/* Takes bytes of the socket (none: starts a client's handshake). */
static void take(struct conn *c, struct span in)
{
    if (c->tls == NULL) {
        give(c, in);
        return;
    }
    struct buf *plain = &c->hub->plain;
    buf_clear(plain);
    enum tls_status status = tls_feed(c->tls, in, plain, &c->records);
    if (c->records.n > 0)
        conn_dirty(c);
    if (c->shaking && (status == TLS_OPEN || status == TLS_CLOSED)) {
        c->shaking = false;
        c->handler->secured(c);
    }
    if (plain->n > 0)
        give(c, buf_span(plain));
    buf_shrink(plain, PLAIN_KEEP);
    if (status == TLS_FAILED) {
        /* The alert still leaves; nothing else can be said (RFC 6120 §5.4.3.2). */
        if (c->records.n > 0 && !op_busy(&c->send) && c->phase == CONN_OPEN)
            (void)!send(c->fd, c->records.p, c->records.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        conn_drop(c, tls_error(c->tls));
    } else if (status == TLS_CLOSED && c->phase == CONN_OPEN && c->holds == 0) {
        conn_drop(c, "the peer has ended TLS");
    }
}

static void ended(struct conn *c, int error)
{
    c->eof = true;
    if (error == 0 && c->phase == CONN_OPEN && c->holds != 0)
        return; /* what was received before is still worth taking */
    conn_drop(c, error != 0 ? strerror(error) : "the peer has ended");
}

static void on_received(struct ring_op *op, struct ring_result result)
{
    struct conn *c = CONTAINER_OF(op, struct conn, recv);
    if (c->phase == CONN_CLOSED)
        return;
    if (result.res > 0) {
        c->hub->bytes_in += (uint64_t)result.res;
        if (c->phase == CONN_OPEN)
            take(c, span_make(result.data, (size_t)result.res));
        if (c->phase < CONN_CLOSED && c->holds != 0 && c->held.n > HELD_PAUSE)
            ring_cancel(c->hub->ring, &c->recv);
    }
    if (result.more || c->phase == CONN_CLOSED)
        return;
    if (result.res > 0 || result.res == -ECANCELED)
        conn_read(c);
    else
        ended(c, -result.res);
}

static void conn_read(struct conn *c)
{
    if (c->phase == CONN_CLOSED || c->phase == CONN_DIALLING || op_busy(&c->recv) || c->eof ||
        (c->phase == CONN_OPEN && c->holds != 0 && c->held.n > HELD_PAUSE))
        return;
    ring_recv(c->hub->ring, &c->recv, c->fd, c->hub->buffers, on_received);
}

void conn_hold(struct conn *c, uint8_t reason)
{
    c->holds |= reason;
}

void conn_unhold(struct conn *c, uint8_t reason)
{
    if ((c->holds & reason) == 0)
        return;
    c->holds &= (uint8_t)~reason;
    if (c->holds != 0 || c->phase != CONN_OPEN)
        return;
    if (!c->running && c->held.n > 0)
        give(c, (struct span){0});
    if (c->phase != CONN_OPEN || c->holds != 0)
        return;
    if (c->eof)
        conn_drop(c, "the peer has ended");
    else
        conn_read(c);
}

/* ---- TLS ---- */

static void start_tls(struct conn *c, struct tls *tls)
{
    seal(c);
    conn_dirty(c);
    c->tls = tls;
    c->shaking = true;
    if (!c->running)
        buf_free(&c->held);
}

void conn_tls_accept(struct conn *c, struct tls_ctx *ctx, const char *domain)
{
    start_tls(c, tls_accept(ctx));
    if (domain != NULL)
        tls_prefer_domain(c->tls, domain);
}

void conn_tls_connect(struct conn *c, struct tls *session)
{
    start_tls(c, session);
    struct buf none = {0};
    tls_feed(c->tls, (struct span){0}, &none, &c->records);
    buf_free(&none);
}

/* ---- the beginning ---- */

static void tune(int fd)
{
    /* A dead peer shows within about seven minutes when idle, within one when there is something to send. */
    const struct {
        int level, name, value;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_NODELAY, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 300}, {IPPROTO_TCP, TCP_KEEPINTVL, 30},
                   {IPPROTO_TCP, TCP_KEEPCNT, 4},    {IPPROTO_TCP, TCP_USER_TIMEOUT, 60000}};
    for (unsigned i = 0; i < ARRAY_LEN(options); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    (void)now_ms;
    conn_drop(c, c->phase == CONN_DIALLING ? "no answer in time" : "the peer does not end");
}

static void begin(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler, int fd)
{
    c->hub = hub;
    c->handler = handler;
    c->fd = fd;
    c->timer.fire = on_timer;
    list_init(&c->dirty);
    list_init(&c->dying);
    hub->count++;
    tune(fd);
}

void conn_take(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler, int fd)
{
    socklen_t n = sizeof c->peer;
    getpeername(fd, (struct sockaddr *)&c->peer, &n);
    begin(hub, c, handler, fd);
    c->phase = CONN_OPEN;
    conn_read(c);
}

static void on_connected(struct ring_op *op, struct ring_result result)
{
    struct conn *c = CONTAINER_OF(op, struct conn, send);
    if (c->phase != CONN_DIALLING)
        return;
    if (result.res < 0) {
        conn_drop(c, strerror(-result.res));
        return;
    }
    ring_timer_clear(c->hub->ring, &c->timer);
    c->phase = CONN_OPEN;
    conn_read(c);
    c->handler->open(c);
}

/* Binds to the local address that the configuration names, if it is of the family. */
static bool bind_source(int fd, int family, const char *source)
{
    struct sockaddr_storage from;
    if (source == NULL || source[0] == '\0')
        return true;
    char text[80];
    snprintf(text, sizeof text, strchr(source, ':') != NULL ? "[%s]:0" : "%s:0", source);
    socklen_t n = ring_address(text, &from);
    return n == 0 || from.ss_family != family || bind(fd, (const struct sockaddr *)&from, n) == 0;
}

bool conn_dial(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler,
               const struct sockaddr_storage *to, const char *source, uint64_t timeout_ms)
{
    int fd = ring_socket(to->ss_family);
    if (fd < 0) {
        errno = -fd;
        return false;
    }
    if (!bind_source(fd, to->ss_family, source)) {
        int error = errno;
        close(fd);
        errno = error;
        return false;
    }
    *c = (struct conn){.peer = *to};
    begin(hub, c, handler, fd);
    c->phase = CONN_DIALLING;
    ring_timer_set(hub->ring, &c->timer, timeout_ms);
    ring_connect(hub->ring, &c->send, fd, (const struct sockaddr *)&c->peer,
                 to->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
                 on_connected);
    return true;
}

/* ---- the hub ---- */

void conn_hub_init(struct conn_hub *hub, struct ring *ring, unsigned buffer_count, unsigned buffer_bytes)
{
    *hub = (struct conn_hub){.ring = ring, .hook.run = run_turn};
    list_init(&hub->dirty);
    list_init(&hub->dying);
    hub->buffers = ring_buffers_new(ring, buffer_count, buffer_bytes);
    ring_hook_add(ring, &hub->hook);
}

void conn_hub_free(struct conn_hub *hub)
{
    ring_hook_del(hub->ring, &hub->hook);
    if (hub->count == 0)
        ring_buffers_free(hub->buffers);
    buf_free(&hub->plain);
}
