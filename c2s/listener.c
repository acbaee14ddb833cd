/* Listening sockets: multishot accept, several processes on one port by SO_REUSEPORT. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "c2s/c2s.h"
#include "common/log/log.h"

/* After the process has run out of descriptors. */
#define RETRY_MS 200

struct listener {
    struct list node;
    struct c2s *c2s;
    struct ring_op op;
    struct timer retry;
    const char *address;
    int fd;
    bool tls;
};

static void on_accepted(struct ring_op *op, struct ring_result result)
{
    struct listener *l = CONTAINER_OF(op, struct listener, op);
    struct c2s *c2s = l->c2s;
    if (result.res >= 0) {
        if (l->fd >= 0 && !c2s->draining)
            conn_accept(c2s, result.res, l->tls);
        else
            close(result.res);
    } else if (result.res != -ECANCELED) {
        log_error("c2s", "accept on %s: %s%s", l->address, strerror(-result.res),
                  result.res == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
    }
    if (result.more || l->fd < 0)
        return;
    ring_timer_set(c2s->ring, &l->retry, result.res < 0 ? RETRY_MS : 0);
}

static void on_retry(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    struct listener *l = CONTAINER_OF(t, struct listener, retry);
    if (l->fd >= 0 && !op_busy(&l->op))
        ring_accept(l->c2s->ring, &l->op, l->fd, on_accepted);
}

static bool listener_open(struct c2s *c2s, const char *address, bool tls)
{
    int fd = ring_listen(address, true);
    if (fd < 0) {
        log_error("c2s", "cannot listen on %s: %s; see c2s.%s", address, strerror(-fd),
                  tls ? "listen_tls" : "listen");
        return false;
    }
    conn_tune(fd);
    struct listener *l = xcalloc(1, sizeof(*l));
    l->c2s = c2s;
    l->fd = fd;
    l->tls = tls;
    l->address = address;
    l->retry.fire = on_retry;
    list_add(&c2s->listeners, &l->node);
    ring_accept(c2s->ring, &l->op, fd, on_accepted);
    log_info("c2s", "listening on %s (%s)", address, tls ? "direct TLS" : "STARTTLS");
    return true;
}

bool listeners_open(struct c2s *c2s)
{
    bool all = true;
    for (unsigned i = 0; i < c2s->conf->c2s_listen.count; i++)
        all &= listener_open(c2s, c2s->conf->c2s_listen.items[i], false);
    for (unsigned i = 0; i < c2s->conf->c2s_listen_tls.count; i++) {
        if (c2s->tls == NULL)
            log_warn("c2s",
                     "not listening on %s: direct TLS needs a certificate; put default.crt and default.key "
                     "into tls.directory (%s)",
                     c2s->conf->c2s_listen_tls.items[i], c2s->conf->tls_directory);
        else
            all &= listener_open(c2s, c2s->conf->c2s_listen_tls.items[i], true);
    }
    return all && !list_empty(&c2s->listeners);
}

void listeners_close(struct c2s *c2s)
{
    LIST_EACH (it, &c2s->listeners) {
        struct listener *l = LIST_ENTRY(it, struct listener, node);
        if (l->fd < 0)
            continue;
        ring_timer_clear(c2s->ring, &l->retry);
        ring_cancel(c2s->ring, &l->op);
        ring_shutdown(c2s->ring, l->fd); /* no new ones from here on, whenever the close comes */
        ring_close(c2s->ring, NULL, l->fd, NULL);
        l->fd = -1;
    }
}

void listeners_free(struct c2s *c2s)
{
    LIST_EACH (it, &c2s->listeners) {
        struct listener *l = LIST_ENTRY(it, struct listener, node);
        list_del(&l->node);
        if (!op_busy(&l->op))
            free(l);
    }
}
