/* Listening sockets: multishot accept, several processes on one port by SO_REUSEPORT; connections counted by
 * address. */
#include "s2s/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/ring/listener.h"
#include "s2s/component.h"
#include "s2s/in.h"
#include "s2s/metrics.h"
#include "s2s/s2s.h"

enum listens { LISTENS_CLEAR, LISTENS_TLS, LISTENS_COMPONENT };

struct listener {
    struct list node;
    struct s2s *s2s;
    struct ring_listener *accepts;
    const char *address;
    uint8_t what;
};

/* ---- by address ---- */

bool listener_admit(struct s2s *s, const struct conn *c, struct limits_address **address)
{
    switch (limits_enter(&s->limits, &c->peer, ring_now_ms(s->ring), address)) {
    case LIMITS_OK:
        return true;
    case LIMITS_TOO_MANY:
        metric_add(S2S_REFUSED_TOO_MANY);
        log_warn("s2s", "refused peer=%s: too many connections; see s2s.connections_per_address",
                 conn_peer_name(c));
        return false;
    case LIMITS_TOO_FAST:
        metric_add(S2S_REFUSED_TOO_FAST);
        log_warn("s2s", "refused peer=%s: connects too often; see s2s.connection_rate_per_address",
                 conn_peer_name(c));
        return false;
    }
    return false;
}

void listener_leave(struct s2s *s, struct limits_address **address)
{
    limits_leave(&s->limits, *address, ring_now_ms(s->ring));
    *address = NULL;
}

/* ---- accepting ---- */

static void on_accepted(void *ctx, int fd)
{
    struct listener *l = ctx;
    if (fd < 0)
        log_error("s2s", "accept on %s: %s%s", l->address, strerror(-fd),
                  fd == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
    else if (l->s2s->draining)
        close(fd);
    else if (l->what == LISTENS_COMPONENT)
        component_accept(l->s2s, fd);
    else
        in_accept(l->s2s, fd, l->what == LISTENS_TLS);
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
    l->what = (uint8_t)what;
    l->address = address;
    list_add(&s->listeners, &l->node);
    l->accepts = ring_listener_open(s->ring, fd, on_accepted, l);
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
        ring_listener_close(l->accepts);
        list_del(&l->node);
        free(l);
    }
}
