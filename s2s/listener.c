/* Listening sockets: multishot accept, several processes on one port by SO_REUSEPORT; connections counted by
 * address. */
#include "s2s/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log/log.h"
#include "s2s/component.h"
#include "s2s/in.h"
#include "s2s/metrics.h"
#include "s2s/s2s.h"

/* After the process has run out of descriptors. */
#define RETRY_MS 200

enum listens { LISTENS_CLEAR, LISTENS_TLS, LISTENS_COMPONENT };

struct listener {
    struct list node;
    struct s2s *s2s;
    struct ring_op op;
    struct timer retry;
    const char *address;
    int fd;
    uint8_t what;
};

/* ---- by address ---- */

struct address {
    uint8_t key[8];
    unsigned count;
};

static void key_of(const struct conn *c, uint8_t key[8])
{
    memset(key, 0, 8);
    if (c->peer.ss_family == AF_INET6)
        memcpy(key, &((const struct sockaddr_in6 *)&c->peer)->sin6_addr, 8);
    else
        memcpy(key, &((const struct sockaddr_in *)&c->peer)->sin_addr, 4);
}

bool listener_admit(struct s2s *s, const struct conn *c)
{
    uint8_t key[8];
    key_of(c, key);
    struct address *a = map_get(&s->addresses, span_make(key, sizeof key));
    if (a == NULL) {
        a = xcalloc(1, sizeof *a);
        memcpy(a->key, key, sizeof key);
        map_put(&s->addresses, span_make(a->key, sizeof a->key), a);
    }
    if (++a->count <= (uint64_t)s->conf->s2s_connections_per_address || !s->conf->limits_enabled)
        return true;
    metric_add(S2S_REFUSED_TOO_MANY);
    log_warn("s2s", "refused peer=%s: too many connections; see s2s.connections_per_address",
             conn_peer_name(c));
    return false;
}

void listener_leave(struct s2s *s, const struct conn *c)
{
    uint8_t key[8];
    key_of(c, key);
    struct address *a = map_get(&s->addresses, span_make(key, sizeof key));
    if (a != NULL && --a->count == 0) {
        map_del(&s->addresses, span_make(a->key, sizeof a->key));
        free(a);
    }
}

/* ---- accepting ---- */

static void accepted(struct listener *l, int fd)
{
    if (l->fd < 0 || l->s2s->draining)
        close(fd);
    else if (l->what == LISTENS_COMPONENT)
        component_accept(l->s2s, fd);
    else
        in_accept(l->s2s, fd, l->what == LISTENS_TLS);
}

static void on_accepted(struct ring_op *op, struct ring_result result)
{
    struct listener *l = CONTAINER_OF(op, struct listener, op);
    if (result.res >= 0)
        accepted(l, result.res);
    else if (result.res != -ECANCELED)
        log_error("s2s", "accept on %s: %s%s", l->address, strerror(-result.res),
                  result.res == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
    if (result.more || l->fd < 0)
        return;
    ring_timer_set(l->s2s->ring, &l->retry, result.res < 0 ? RETRY_MS : 0);
}

static void on_retry(struct timer *t, uint64_t now_ms)
{
    struct listener *l = CONTAINER_OF(t, struct listener, retry);
    (void)now_ms;
    if (l->fd >= 0 && !op_busy(&l->op))
        ring_accept(l->s2s->ring, &l->op, l->fd, on_accepted);
}

static bool listener_open(struct s2s *s, const char *address, enum listens what)
{
    static const char *const options[] = {"listen", "listen_tls", "component_listen"};
    int fd = ring_listen(address, true);
    if (fd < 0) {
        log_error("s2s", "cannot listen on %s: %s; see s2s.%s", address, strerror(-fd), options[what]);
        return false;
    }
    struct listener *l = xcalloc(1, sizeof *l);
    l->s2s = s;
    l->fd = fd;
    l->what = (uint8_t)what;
    l->address = address;
    l->retry.fire = on_retry;
    list_add(&s->listeners, &l->node);
    ring_accept(s->ring, &l->op, fd, on_accepted);
    log_info("s2s", "listening on %s (s2s.%s)", address, options[what]);
    return true;
}

bool listeners_open(struct s2s *s)
{
    const struct conf *conf = s->conf;
    bool all = true;
    for (unsigned i = 0; i < conf->s2s_listen.count; i++)
        all &= listener_open(s, conf->s2s_listen.items[i], LISTENS_CLEAR);
    for (unsigned i = 0; i < conf->s2s_listen_tls.count && s->tls != NULL; i++)
        all &= listener_open(s, conf->s2s_listen_tls.items[i], LISTENS_TLS);
    for (unsigned i = 0; i < conf->s2s_component_listen.count && conf->s2s_components.count > 0; i++)
        all &= listener_open(s, conf->s2s_component_listen.items[i], LISTENS_COMPONENT);
    return all;
}

void listeners_close(struct s2s *s)
{
    LIST_EACH (it, &s->listeners) {
        struct listener *l = LIST_ENTRY(it, struct listener, node);
        if (l->fd < 0)
            continue;
        ring_timer_clear(s->ring, &l->retry);
        ring_cancel(s->ring, &l->op);
        ring_shutdown(s->ring, l->fd); /* no new ones from here on, whenever the close comes */
        ring_close(s->ring, NULL, l->fd, NULL);
        l->fd = -1;
    }
}

void listeners_free(struct s2s *s)
{
    LIST_EACH (it, &s->listeners) {
        struct listener *l = LIST_ENTRY(it, struct listener, node);
        list_del(&l->node);
        if (!op_busy(&l->op))
            free(l);
    }
}
