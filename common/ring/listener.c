#include "common/ring/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PAUSE_MS 200

struct ring_listener {
    struct ring *ring;
    struct ring_op op;
    struct timer pause;
    ring_accepted_fn *fn;
    void *ctx;
    int fd; /* -1: closed; freed when the operation has ended */
};

static void on_accepted(struct ring_op *op, struct ring_result result)
{
    struct ring_listener *l = CONTAINER_OF(op, struct ring_listener, op);

    if (l->fd < 0 && result.res >= 0)
        close(result.res);
    else if (l->fd >= 0 && result.res != -ECANCELED)
        l->fn(l->ctx, result.res);
    if (result.more)
        return;
    if (l->fd < 0)
        free(l);
    else
        ring_timer_set(l->ring, &l->pause, PAUSE_MS);
}

static void on_pause_over(struct timer *t, uint64_t now_ms)
{
    struct ring_listener *l = CONTAINER_OF(t, struct ring_listener, pause);

    (void)now_ms;
    ring_accept(l->ring, &l->op, l->fd, on_accepted);
}

struct ring_listener *ring_listener_open(struct ring *r, int fd, ring_accepted_fn *fn, void *ctx)
{
    struct ring_listener *l = xcalloc(1, sizeof(*l));

    l->ring = r;
    l->fd = fd;
    l->fn = fn;
    l->ctx = ctx;
    l->pause.fire = on_pause_over;
    ring_accept(r, &l->op, fd, on_accepted);
    return l;
}

void ring_listener_close(struct ring_listener *l)
{
    if (l == NULL)
        return;
    ring_timer_clear(l->ring, &l->pause);
    ring_cancel(l->ring, &l->op);
    ring_shutdown(l->ring, l->fd); /* no new ones from here on, whenever the close comes */
    ring_close(l->ring, NULL, l->fd, NULL);
    l->fd = -1;
    if (!op_busy(&l->op))
        free(l);
}
