/* libzmq, tamed. The socket reconnects nothing by itself (its interval is an hour): bus.c looks whether the
 * other side listens at all, and dials anew with a fresh route, so no message of an old connection waits in a
 * pipe and no route is used twice (libzmq aborts on that). ROUTER_MANDATORY makes a lost route an error
 * instead of silence; ROUTER_HANDOVER lets a peer that came back take its route over from its dead
 * connection.
 *
 * CURVE: all nodes share one key pair. The public key is derived, never published, and never crosses the wire
 * in clear, so only who has the secret can open a link. */
#include "common/bus/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <zmq.h>

#include "common/bus/stats.h"
#include "common/log/log.h"
#include "common/ring/ring.h"

#define HWM          1000    /* messages per connection; the link keeps the rest */
#define RECONNECT_MS 3600000 /* never, in effect */
#define MESSAGE_MAX  (64 << 20)
#define BACKLOG      1024
#define DRAIN_MAX    1000 /* messages per readiness, then other work has its turn */
#define Z85_KEY      40

#define MONITORED                                                                                \
    (ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | \
     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

/* A poll may outlive its socket by a turn, so it lives by itself. */
struct watch {
    struct ring_op op;
    struct libzmq *socket; /* NULL: closed, free me */
    int fd;
    bool monitor;
};

struct libzmq {
    struct bus_socket base;
    void *context;
    void *router;
    void *monitor;
    struct watch *router_watch;
    struct watch *monitor_watch;
    char public_key[Z85_KEY + 1];
    char secret_key[Z85_KEY + 1];
};

static struct libzmq *libzmq_of(struct bus_socket *s)
{
    return CONTAINER_OF(s, struct libzmq, base);
}

static void set_int(void *socket, int option, int value)
{
    CHECK(zmq_setsockopt(socket, option, &value, sizeof value) == 0);
}

static void set_options(void *router, const char *name)
{
    int64_t max = MESSAGE_MAX;

    CHECK(zmq_setsockopt(router, ZMQ_ROUTING_ID, name, strlen(name)) == 0);
    CHECK(zmq_setsockopt(router, ZMQ_MAXMSGSIZE, &max, sizeof max) == 0);
    set_int(router, ZMQ_ROUTER_MANDATORY, 1);
    set_int(router, ZMQ_ROUTER_HANDOVER, 1);
    set_int(router, ZMQ_LINGER, 0);
    set_int(router, ZMQ_SNDHWM, HWM);
    set_int(router, ZMQ_RCVHWM, HWM);
    set_int(router, ZMQ_RECONNECT_IVL, RECONNECT_MS);
    set_int(router, ZMQ_BACKLOG, BACKLOG);
}

/* Options that the next bind or connect takes over. CURVE is for tcp only: who may open an ipc path is
 * decided by its directory's mode. IPv6 only where it is meant, else IPv4 endpoints come back in another
 * spelling. */
static void set_endpoint_options(struct libzmq *s, const char *endpoint, bool server)
{
    bool on = s->secret_key[0] != '\0' && strncmp(endpoint, "tcp://", 6) == 0;

    set_int(s->router, ZMQ_IPV6, strchr(endpoint, '[') != NULL);
    if (!on) { /* back to no mechanism, should the last call have set one */
        CHECK(zmq_setsockopt(s->router, ZMQ_PLAIN_USERNAME, NULL, 0) == 0);
        return;
    }
    set_int(s->router, ZMQ_CURVE_SERVER, server);
    CHECK(zmq_setsockopt(s->router, ZMQ_CURVE_SECRETKEY, s->secret_key, Z85_KEY + 1) == 0);
    if (!server) {
        CHECK(zmq_setsockopt(s->router, ZMQ_CURVE_PUBLICKEY, s->public_key, Z85_KEY + 1) == 0);
        CHECK(zmq_setsockopt(s->router, ZMQ_CURVE_SERVERKEY, s->public_key, Z85_KEY + 1) == 0);
    }
}

static char *take_key(struct libzmq *s, const char *secret)
{
    if (secret == NULL || secret[0] == '\0')
        return NULL;
    if (strlen(secret) != Z85_KEY || zmq_curve_public(s->public_key, secret) != 0)
        return xstrdup("bus.curve_secret_key is not a CURVE secret key: give the 40 characters (Z85) that "
                       "curve_keygen prints, the same on all nodes");
    memcpy(s->secret_key, secret, Z85_KEY + 1);
    return NULL;
}

static char *listen_on(struct libzmq *s, const char *endpoint)
{
    size_t n = sizeof s->base.endpoint;

    if (endpoint == NULL || endpoint[0] == '\0')
        return NULL;
    set_endpoint_options(s, endpoint, true);
    if (zmq_bind(s->router, endpoint) != 0)
        return bus_socket_no_listener(endpoint, zmq_strerror(errno));
    CHECK(zmq_getsockopt(s->router, ZMQ_LAST_ENDPOINT, s->base.endpoint, &n) == 0);
    return NULL;
}

static void watch_fired(struct ring_op *op, struct ring_result result);

static struct watch *watch_new(struct libzmq *s, void *zmq_socket, bool monitor)
{
    struct watch *w = xcalloc(1, sizeof *w);
    size_t n = sizeof w->fd;

    CHECK(zmq_getsockopt(zmq_socket, ZMQ_FD, &w->fd, &n) == 0);
    w->socket = s;
    w->monitor = monitor;
    return w;
}

static void watch_free(struct ring *ring, struct watch *w)
{
    if (w == NULL)
        return;
    w->socket = NULL;
    if (op_busy(&w->op))
        ring_cancel(ring, &w->op);
    else
        free(w);
}

static void libzmq_close(struct bus_socket *base)
{
    struct libzmq *s = libzmq_of(base);

    watch_free(s->base.ring, s->router_watch);
    watch_free(s->base.ring, s->monitor_watch);
    if (s->monitor != NULL) {
        zmq_socket_monitor(s->router, NULL, 0);
        zmq_close(s->monitor);
    }
    if (s->router != NULL)
        zmq_close(s->router);
    if (s->context != NULL)
        zmq_ctx_term(s->context);
    explicit_bzero(s->secret_key, sizeof s->secret_key);
    free(s);
}

static int libzmq_dial(struct bus_socket *base, const char *endpoint, struct span route)
{
    struct libzmq *s = libzmq_of(base);

    set_endpoint_options(s, endpoint, false);
    if (zmq_setsockopt(s->router, ZMQ_CONNECT_ROUTING_ID, route.p, route.n) != 0)
        return -errno;
    return zmq_connect(s->router, endpoint) == 0 ? 0 : -errno;
}

static void libzmq_hang_up(struct bus_socket *base, const char *endpoint)
{
    struct libzmq *s = libzmq_of(base);

    zmq_disconnect(s->router, endpoint); /* ENOENT: it had gone by itself */
}

static void let_go(void *data, void *batch)
{
    (void)data;
    link_batch_unref(batch);
}

static int libzmq_send(struct bus_socket *base, struct span route, const struct link_out *out)
{
    struct libzmq *s = libzmq_of(base);
    zmq_msg_t m;

    if (zmq_send(s->router, route.p, route.n, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return errno == EAGAIN ? -EAGAIN : -EHOSTUNREACH;
    if (out->batch != NULL) {
        CHECK(zmq_msg_init_data(&m, (void *)out->bytes, out->n, let_go, link_batch_ref(out->batch)) == 0);
    } else {
        CHECK(zmq_msg_init_size(&m, out->n) == 0);
        memcpy(zmq_msg_data(&m), out->bytes, out->n);
    }
    if (zmq_msg_send(&m, s->router, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&m);
        return -EHOSTUNREACH; /* the link sends it again after the next hello */
    }
    return 0;
}

static bool readable(void *socket)
{
    int events = 0;
    size_t n = sizeof events;
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &n) == 0 && (events & ZMQ_POLLIN) != 0;
}

/* Route, message; further parts are nobody's and dropped. */
static bool read_one(struct libzmq *s)
{
    zmq_msg_t route, message, rest;
    bool ok = false;

    zmq_msg_init(&route);
    zmq_msg_init(&message);
    if (zmq_msg_recv(&route, s->router, ZMQ_DONTWAIT) >= 0) {
        ok = true;
        if (zmq_msg_more(&route) && zmq_msg_recv(&message, s->router, ZMQ_DONTWAIT) >= 0) {
            bool more = zmq_msg_more(&message);
            while (more) {
                zmq_msg_init(&rest);
                more = zmq_msg_recv(&rest, s->router, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&rest);
                zmq_msg_close(&rest);
            }
            s->base.handler->message(s->base.ctx, span_make(zmq_msg_data(&route), zmq_msg_size(&route)),
                                     span_make(zmq_msg_data(&message), zmq_msg_size(&message)));
        }
    }
    zmq_msg_close(&route);
    zmq_msg_close(&message);
    return ok;
}

static bool libzmq_drain(struct bus_socket *base, unsigned max, unsigned *got)
{
    struct libzmq *s = libzmq_of(base);
    unsigned count = 0;
    bool more = readable(s->router);

    while (more && count < max) {
        while (count < max && read_one(s))
            count++;
        more = readable(s->router);
    }
    if (got != NULL)
        *got = count;
    return more;
}

static void monitor_event(struct libzmq *s, uint16_t event, struct span address)
{
    switch (event) {
    case ZMQ_EVENT_DISCONNECTED:
        if (span_is(address, s->base.endpoint))
            s->base.handler->accepted_lost(s->base.ctx);
        else
            s->base.handler->dialed_lost(s->base.ctx, address);
        break;
    case ZMQ_EVENT_CONNECT_RETRIED:
        s->base.handler->dialed_lost(s->base.ctx, address);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: /* also whoever only looked whether somebody listens */
        log_debug("bus", "connection closed before its handshake endpoint=%.*s", SPAN_FMT(address));
        break;
    default:
        stat_add(&bus_stat_refused, 1);
        log_warn(
            "bus",
            "handshake failed endpoint=%.*s: the other side is no Jackdaw process, or bus.curve_secret_key "
            "differs between the nodes",
            SPAN_FMT(address));
    }
}

static void drain_monitor(struct libzmq *s)
{
    for (;;) {
        zmq_msg_t head, address;
        uint16_t event = 0;

        zmq_msg_init(&head);
        zmq_msg_init(&address);
        if (zmq_msg_recv(&head, s->monitor, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&head);
            return;
        }
        if (zmq_msg_size(&head) >= sizeof event)
            memcpy(&event, zmq_msg_data(&head), sizeof event);
        if (zmq_msg_more(&head) && zmq_msg_recv(&address, s->monitor, ZMQ_DONTWAIT) >= 0)
            monitor_event(s, event, span_make(zmq_msg_data(&address), zmq_msg_size(&address)));
        zmq_msg_close(&head);
        zmq_msg_close(&address);
    }
}

static void watch_fired(struct ring_op *op, struct ring_result result)
{
    struct watch *w = CONTAINER_OF(op, struct watch, op);

    (void)result;
    if (w->socket == NULL)
        free(w);
    else if (w->monitor)
        drain_monitor(w->socket);
    else
        libzmq_drain(&w->socket->base, DRAIN_MAX, NULL); /* what is left, the turn hook finds */
}

static void libzmq_arm(struct bus_socket *base)
{
    struct libzmq *s = libzmq_of(base);

    if (!op_busy(&s->router_watch->op))
        ring_poll(s->base.ring, &s->router_watch->op, s->router_watch->fd, POLLIN, watch_fired);
    if (!op_busy(&s->monitor_watch->op)) {
        drain_monitor(s);
        ring_poll(s->base.ring, &s->monitor_watch->op, s->monitor_watch->fd, POLLIN, watch_fired);
    }
}

static const struct bus_socket_carrier carrier = {.close = libzmq_close,
                                                  .dial = libzmq_dial,
                                                  .hang_up = libzmq_hang_up,
                                                  .send = libzmq_send,
                                                  .drain = libzmq_drain,
                                                  .arm = libzmq_arm};

struct bus_socket *bus_socket_open_zmq(struct ring *ring, const struct bus_socket_config *config,
                                       char **error)
{
    struct libzmq *s = xcalloc(1, sizeof *s);
    char name[64];

    s->base = (struct bus_socket){
        .carrier = &carrier, .ring = ring, .handler = config->handler, .ctx = config->ctx};
    s->context = zmq_ctx_new();
    if (s->context == NULL || (s->router = zmq_socket(s->context, ZMQ_ROUTER)) == NULL) {
        *error =
            xasprintf("cannot open a ZeroMQ socket: %s; raise the limit of open files", zmq_strerror(errno));
        libzmq_close(&s->base);
        return NULL;
    }
    set_options(s->router, config->name);
    snprintf(name, sizeof name, "inproc://monitor");
    s->monitor = zmq_socket(s->context, ZMQ_PAIR);
    CHECK(s->monitor != NULL && zmq_socket_monitor(s->router, name, MONITORED) == 0 &&
          zmq_connect(s->monitor, name) == 0);
    set_int(s->monitor, ZMQ_LINGER, 0);
    *error = take_key(s, config->curve_secret_key);
    if (*error == NULL)
        *error = listen_on(s, config->listen);
    if (*error != NULL) {
        libzmq_close(&s->base);
        return NULL;
    }
    s->router_watch = watch_new(s, s->router, false);
    s->monitor_watch = watch_new(s, s->monitor, true);
    return &s->base; /* armed by the first turn; nothing is called before the owner is complete */
}
