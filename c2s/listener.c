/* Listening sockets: multishot accept, several processes on one port by SO_REUSEPORT. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "c2s/c2s.h"
#include "common/log/log.h"
#include "common/ring/listener.h"

/* What all connections inherit from the listening socket: no delay, dead peers are noticed. */
static void tune(int listener)
{
    /* A dead peer shows within about seven minutes when idle, within one when there is something to send. */
    const struct {
        int level, name, value;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},    {IPPROTO_TCP, TCP_NODELAY, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 300}, {IPPROTO_TCP, TCP_KEEPINTVL, 30},
                   {IPPROTO_TCP, TCP_KEEPCNT, 4},    {IPPROTO_TCP, TCP_USER_TIMEOUT, 60000}};
    for (unsigned i = 0; i < ARRAY_LEN(options); i++)
        setsockopt(listener, options[i].level, options[i].name, &options[i].value, sizeof(options[i].value));
}

struct listener {
    struct list node;
    struct c2s *c2s;
    struct ring_listener *accepts;
    const char *address;
    bool tls;
};

static void on_accepted(void *ctx, int fd)
{
    struct listener *l = ctx;
    if (fd >= 0 && !l->c2s->draining)
        conn_accept(l->c2s, fd, l->tls);
    else if (fd >= 0)
        close(fd);
    else
        log_error("c2s", "accept on %s: %s%s", l->address, strerror(-fd),
                  fd == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
}

static bool listener_open(struct c2s *c2s, const char *address, bool tls)
{
    int fd = ring_listen(address, true);
    if (fd < 0) {
        log_error("c2s", "cannot listen on %s: %s; see c2s.%s", address, strerror(-fd),
                  tls ? "listen_tls" : "listen");
        return false;
    }
    tune(fd);
    struct listener *l = xcalloc(1, sizeof(*l));
    l->c2s = c2s;
    l->tls = tls;
    l->address = address;
    list_add(&c2s->listeners, &l->node);
    l->accepts = ring_listener_open(c2s->ring, fd, on_accepted, l);
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
        ring_listener_close(l->accepts);
        list_del(&l->node);
        free(l);
    }
}
