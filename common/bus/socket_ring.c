/* ZeroMQ's protocol on the loop. A connection is a lane: it takes part in the turns like any other socket, so
 * a message costs one send and one receive among those that the turn makes anyhow, and no thread is woken
 * for it. All that a turn hands over for one lane is copied together and leaves as one send; a large batch
 * leaves from where it is.
 *
 * As with libzmq, who dials says READY with its name, which becomes its route here; a name that comes again
 * takes the route over from the older lane. A lane that is let go ends its operations and then frees itself,
 * the last one with the socket. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/bus/address.h"
#include "common/bus/socket.h"
#include "common/bus/stats.h"
#include "common/bus/zmtp.h"
#include "common/log/log.h"
#include "common/ring/listener.h"

#define BUFFERS      32
#define BUFFER_SIZE  (16u << 10)
#define OUT_MAX      (256u << 10) /* waiting bytes of a lane beyond which it takes no further message */
#define DIRECT_MIN   (32u << 10)  /* a batch from this size on is not copied */
#define OUT_KEPT     (64u << 10)  /* larger buffers are given back */
#define HANDSHAKE_MS 10000

struct ring_socket {
    struct bus_socket base;
    struct ring_buffers *buffers;
    struct buf identity;
    struct map routes; /* struct lane */
    struct list lanes;
    struct list due;                /* lanes with something to send */
    struct ring_listener *listener; /* NULL: only dials */
    uint32_t unnamed;
    bool closed;
};

struct lane {
    struct list node; /* ring_socket.lanes */
    struct list due;
    struct ring_socket *socket;
    struct zmtp zmtp;
    struct ring_op connect;
    struct ring_op recv;
    struct ring_op send;
    struct timer handshake;
    struct buf out;            /* for the next send */
    struct buf going;          /* the kernel has it … */
    struct link_batch *direct; /* … or this, from where it is; goes before out */
    struct buf route;          /* key in routes; empty: none yet, or none any more */
    char *endpoint;            /* that we dialed; NULL: the other side did */
    int fd;
    bool ready;
    bool over;
    struct sockaddr_storage address;
};

static struct ring_socket *ring_socket_of(struct bus_socket *s)
{
    return CONTAINER_OF(s, struct ring_socket, base);
}

static void free_socket_when_over(struct ring_socket *s)
{
    if (!s->closed || !list_empty(&s->lanes))
        return;
    ring_buffers_free(s->buffers);
    buf_free(&s->identity);
    map_free(&s->routes);
    free(s);
}

static void lane_free_when_over(struct lane *l)
{
    struct ring_socket *s = l->socket;

    if (!l->over || op_busy(&l->connect) || op_busy(&l->recv) || op_busy(&l->send))
        return;
    close(l->fd);
    list_del(&l->node);
    zmtp_free(&l->zmtp);
    buf_free(&l->out);
    buf_free(&l->going);
    buf_free(&l->route);
    if (l->direct != NULL)
        link_batch_unref(l->direct);
    free(l->endpoint);
    free(l);
    free_socket_when_over(s);
}

static void lane_set_route(struct lane *l, struct span route)
{
    struct ring_socket *s = l->socket;

    if (l->route.n > 0)
        map_del(&s->routes, buf_span(&l->route));
    buf_clear(&l->route);
    if (route.n == 0)
        return;
    buf_add_span(&l->route, route);
    map_put(&s->routes, buf_span(&l->route), l);
}

/* Ends a lane without telling; not to be touched after. */
static void lane_let_go(struct lane *l)
{
    struct ring *ring = l->socket->base.ring;

    if (l->over)
        return;
    l->over = true;
    lane_set_route(l, (struct span){NULL, 0});
    list_del(&l->due);
    ring_timer_clear(ring, &l->handshake);
    ring_shutdown(ring, l->fd);
    ring_cancel(ring, &l->connect);
    ring_cancel(ring, &l->recv);
    ring_cancel(ring, &l->send);
    lane_free_when_over(l);
}

/* The connection broke: tells, and ends the lane. */
static void lane_lost(struct lane *l, int error)
{
    struct ring_socket *s = l->socket;
    char *endpoint = l->endpoint;

    if (l->over)
        return;
    log_debug("bus", "connection ended endpoint=%s error=\"%s\"",
              endpoint != NULL ? endpoint : s->base.endpoint, strerror(-error));
    l->endpoint = NULL;
    lane_let_go(l);
    if (endpoint != NULL)
        s->base.handler->dialed_lost(s->base.ctx, span_of(endpoint));
    else
        s->base.handler->accepted_lost(s->base.ctx);
    free(endpoint);
}

static void lane_send(struct lane *l);

static void on_sent(struct ring_op *op, struct ring_result result)
{
    struct lane *l = CONTAINER_OF(op, struct lane, send);

    if (l->over) {
        lane_free_when_over(l);
    } else if (result.res < 0) {
        lane_lost(l, result.res);
    } else {
        buf_clear(&l->going);
        buf_shrink(&l->going, OUT_KEPT);
        if (l->direct != NULL)
            link_batch_unref(l->direct);
        l->direct = NULL;
        lane_send(l);
    }
}

/* The head of ZMTP goes right before the batch. */
static void lane_send_direct(struct lane *l)
{
    char head[ZMTP_HEAD_MAX];
    size_t n = zmtp_head(head, l->direct->n);

    memcpy(l->direct->data - n, head, n);
    ring_send(l->socket->base.ring, &l->send, l->fd, l->direct->data - n, l->direct->n + n, on_sent);
}

/* Sends what has been added, when the handshake is done and the send before it. */
static void lane_send(struct lane *l)
{
    struct buf empty;

    if (!l->ready || op_busy(&l->send))
        return;
    if (l->direct != NULL) {
        lane_send_direct(l);
        return;
    }
    if (l->out.n == 0)
        return;
    empty = l->going;
    l->going = l->out;
    l->out = empty;
    ring_send(l->socket->base.ring, &l->send, l->fd, l->going.p, l->going.n, on_sent);
}

static void lane_due(struct lane *l)
{
    if (l->ready && list_empty(&l->due))
        list_add(&l->socket->due, &l->due);
}

static void lane_add(struct lane *l, struct span message)
{
    char head[ZMTP_HEAD_MAX];

    buf_add(&l->out, head, zmtp_head(head, message.n));
    buf_add_span(&l->out, message);
    lane_due(l);
}

/* False when something is before it. */
static bool lane_add_direct(struct lane *l, struct link_batch *b)
{
    if (!l->ready || op_busy(&l->send) || l->direct != NULL || l->out.n > 0)
        return false;
    l->direct = link_batch_ref(b);
    lane_due(l);
    return true;
}

/* The handshake is done. What was added meanwhile leaves now. */
static void lane_ready(struct lane *l, struct span identity)
{
    struct ring_socket *s = l->socket;
    char unnamed[1 + sizeof s->unnamed];
    struct lane *old;

    l->ready = true;
    ring_timer_clear(s->base.ring, &l->handshake);
    if (l->endpoint == NULL) {
        if (identity.n == 0) { /* as ZeroMQ names those that don't name themselves */
            unnamed[0] = '\0';
            s->unnamed++;
            memcpy(unnamed + 1, &s->unnamed, sizeof s->unnamed);
            identity = span_make(unnamed, sizeof unnamed);
        }
        old = map_get(&s->routes, identity);
        if (old != NULL)
            lane_let_go(old);
        lane_set_route(l, identity);
    }
    if (l->out.n > 0)
        lane_due(l);
}

/* False when the lane is not to be read any further. */
static bool lane_event(struct lane *l, enum zmtp_event event, struct span what)
{
    struct ring_socket *s = l->socket;

    switch (event) {
    case ZMTP_READY:
        lane_ready(l, what);
        return true;
    case ZMTP_MESSAGE:
        s->base.handler->message(s->base.ctx, buf_span(&l->route), what);
        return true;
    case ZMTP_BAD:
        stat_add(&bus_stat_refused, 1);
        log_warn("bus",
                 "connection refused endpoint=%s reason=\"%.*s\": the other side is no Jackdaw process, or "
                 "only one of the two has bus.curve_secret_key",
                 l->endpoint != NULL ? l->endpoint : s->base.endpoint, SPAN_FMT(what));
        lane_lost(l, -EPROTO);
        return false;
    case ZMTP_WAIT:
        break;
    }
    return false;
}

static void on_received(struct ring_op *op, struct ring_result result)
{
    struct lane *l = CONTAINER_OF(op, struct lane, recv);
    enum zmtp_event event;
    struct span what;

    if (l->over) {
        lane_free_when_over(l);
        return;
    }
    if (result.res <= 0) {
        lane_lost(l, result.res == 0 ? -ECONNRESET : result.res);
        return;
    }
    zmtp_input(&l->zmtp, span_make(result.data, (size_t)result.res));
    do
        event = zmtp_next(&l->zmtp, &what);
    while (lane_event(l, event, what) && !l->over);
}

static void on_handshake_late(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    lane_lost(CONTAINER_OF(t, struct lane, handshake), -ETIMEDOUT);
}

/* The greeting goes first, before whatever was added. */
static void lane_begin(struct lane *l)
{
    struct ring_socket *s = l->socket;

    ring_recv(s->base.ring, &l->recv, l->fd, s->buffers, on_received);
    zmtp_hello(&l->going, buf_span(&s->identity));
    ring_send(s->base.ring, &l->send, l->fd, l->going.p, l->going.n, on_sent);
}

static void on_connected(struct ring_op *op, struct ring_result result)
{
    struct lane *l = CONTAINER_OF(op, struct lane, connect);

    if (l->over)
        lane_free_when_over(l);
    else if (result.res < 0)
        lane_lost(l, result.res);
    else
        lane_begin(l);
}

static struct lane *lane_new(struct ring_socket *s, int fd)
{
    struct lane *l = xcalloc(1, sizeof *l);

    l->socket = s;
    l->fd = fd;
    l->handshake.fire = on_handshake_late;
    list_init(&l->due);
    list_add(&s->lanes, &l->node);
    ring_timer_set(s->base.ring, &l->handshake, HANDSHAKE_MS);
    return l;
}

static void on_accepted(void *ctx, int fd)
{
    struct ring_socket *s = ctx;

    if (fd >= 0)
        lane_begin(lane_new(s, fd));
    else
        log_error("bus", "accept on %s: %s%s", s->base.endpoint, strerror(-fd),
                  fd == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
}

static void ring_socket_close(struct bus_socket *base)
{
    struct ring_socket *s = ring_socket_of(base);

    ring_listener_close(s->listener);
    address_unlink(base->endpoint);
    LIST_EACH (node, &s->lanes)
        lane_let_go(LIST_ENTRY(node, struct lane, node));
    s->closed = true;
    free_socket_when_over(s);
}

static int ring_socket_dial(struct bus_socket *base, const char *endpoint, struct span route)
{
    struct ring_socket *s = ring_socket_of(base);
    struct sockaddr_storage address;
    socklen_t n = address_of(endpoint, &address);
    struct lane *l;
    int fd;

    if (n == 0)
        return -EINVAL;
    fd = address.ss_family == AF_UNIX ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
                                      : ring_socket(address.ss_family);
    if (fd < 0)
        return address.ss_family == AF_UNIX ? -errno : fd;
    l = lane_new(s, fd);
    l->address = address;
    l->endpoint = xstrdup(endpoint);
    lane_set_route(l, route);
    ring_connect(base->ring, &l->connect, fd, (struct sockaddr *)&l->address, n, on_connected);
    return 0;
}

static void ring_socket_hang_up(struct bus_socket *base, const char *endpoint)
{
    struct ring_socket *s = ring_socket_of(base);

    LIST_EACH (node, &s->lanes) {
        struct lane *l = LIST_ENTRY(node, struct lane, node);
        if (l->endpoint != NULL && strcmp(l->endpoint, endpoint) == 0)
            lane_let_go(l);
    }
}

static int ring_socket_send(struct bus_socket *base, struct span route, const struct link_out *out)
{
    struct lane *l = map_get(&ring_socket_of(base)->routes, route);

    if (l == NULL)
        return -EHOSTUNREACH;
    if (out->batch != NULL && out->n >= DIRECT_MIN)
        return lane_add_direct(l, out->batch) ? 0 : -EAGAIN;
    if (l->out.n > OUT_MAX)
        return -EAGAIN;
    lane_add(l, span_make(out->bytes, out->n));
    return 0;
}

static bool ring_socket_drain(struct bus_socket *base, unsigned max, unsigned *got)
{
    (void)base;
    (void)max;
    if (got != NULL)
        *got = 0;
    return false;
}

static void ring_socket_arm(struct bus_socket *base)
{
    struct ring_socket *s = ring_socket_of(base);
    struct list *node;

    while ((node = list_pop(&s->due)) != NULL)
        lane_send(LIST_ENTRY(node, struct lane, due));
}

static const struct bus_socket_carrier carrier = {.close = ring_socket_close,
                                                  .dial = ring_socket_dial,
                                                  .hang_up = ring_socket_hang_up,
                                                  .send = ring_socket_send,
                                                  .drain = ring_socket_drain,
                                                  .arm = ring_socket_arm};

static char *listen_on(struct ring_socket *s, const char *endpoint)
{
    int fd;

    if (endpoint == NULL || endpoint[0] == '\0')
        return NULL;
    fd = address_listen(endpoint, s->base.endpoint, sizeof s->base.endpoint);
    if (fd < 0)
        return bus_socket_no_listener(endpoint, strerror(-fd));
    s->listener = ring_listener_open(s->base.ring, fd, on_accepted, s);
    return NULL;
}

struct bus_socket *bus_socket_open_ring(struct ring *ring, const struct bus_socket_config *config,
                                        char **error)
{
    struct ring_socket *s = xcalloc(1, sizeof *s);

    s->base = (struct bus_socket){
        .carrier = &carrier, .ring = ring, .handler = config->handler, .ctx = config->ctx};
    list_init(&s->lanes);
    list_init(&s->due);
    buf_add_str(&s->identity, config->name);
    s->buffers = ring_buffers_new(ring, BUFFERS, BUFFER_SIZE);
    *error = s->buffers == NULL ? xstrdup("no receive buffers for the bus: raise the limit of locked memory")
                                : listen_on(s, config->listen);
    if (*error == NULL)
        return &s->base;
    ring_socket_close(&s->base);
    return NULL;
}
