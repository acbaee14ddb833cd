#include "common/bus/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/bus/address.h"
#include "common/ring/ring.h"

struct probe {
    struct ring_op op;
    probe_fn *fn; /* NULL: nobody wants to know any more */
    void *ctx;
    int fd;
    struct sockaddr_storage address;
};

static void ended(struct ring_op *op, struct ring_result result)
{
    struct probe *p = CONTAINER_OF(op, struct probe, op);
    probe_fn *fn = p->fn;
    void *ctx = p->ctx;

    close(p->fd);
    free(p);
    if (fn != NULL)
        fn(ctx, result.res);
}

struct probe *probe_start(struct ring *ring, const char *endpoint, probe_fn *fn, void *ctx)
{
    struct probe *p = xcalloc(1, sizeof *p);
    socklen_t n = address_of(endpoint, &p->address);

    p->fd = n > 0 ? socket(p->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (p->fd < 0) {
        free(p);
        return NULL;
    }
    p->fn = fn;
    p->ctx = ctx;
    ring_connect(ring, &p->op, p->fd, (struct sockaddr *)&p->address, n, ended);
    return p;
}

void probe_abandon(struct ring *ring, struct probe *p)
{
    p->fn = NULL;
    ring_cancel(ring, &p->op);
}

bool probe_refused(int error)
{
    return error == -ECONNREFUSED || error == -ENOENT;
}
