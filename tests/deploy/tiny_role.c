/* The smallest process on common/proc: says what happens to it, one line each, and drains at once. */
#include <stdio.h>
#include <stdlib.h>

#include "common/bus/bus.h"
#include "common/proc/proc.h"

struct tiny {
    struct proc *p;
};

static void *tiny_start(struct proc *p)
{
    if (getenv("TINY_REFUSE") != NULL)
        return NULL;
    struct tiny *t = xcalloc(1, sizeof *t);
    t->p = p;
    return t;
}

static void tiny_ready(void *self)
{
    (void)self;
    fprintf(stderr, "tiny: ready\n");
}

static void tiny_frame(void *self, struct bus_peer *from, struct span frame)
{
    (void)self;
    fprintf(stderr, "tiny: frame from %s: %.*s\n", bus_peer_name(from), SPAN_FMT(frame));
}

static void tiny_peer_up(void *self, struct bus_peer *peer)
{
    struct tiny *t = self;
    fprintf(stderr, "tiny: up %s\n", bus_peer_name(peer));
    char text[100];
    int n = snprintf(text, sizeof text, "hello from %s", proc_name(t->p));
    bus_send(peer, span_make(text, (size_t)n));
}

static void tiny_peer_gone(void *self, struct bus_peer *peer)
{
    (void)self;
    fprintf(stderr, "tiny: gone %s\n", bus_peer_name(peer));
}

static void tiny_redis_state(void *self, bool up)
{
    (void)self;
    fprintf(stderr, "tiny: redis %s\n", up ? "up" : "down");
}

static void tiny_reload(void *self)
{
    (void)self;
    fprintf(stderr, "tiny: reload\n");
}

static void tiny_drain(void *self)
{
    struct tiny *t = self;
    fprintf(stderr, "tiny: drain\n");
    if (getenv("TINY_STUCK") == NULL)
        proc_drained(t->p);
}

static void tiny_crash_note(void *self)
{
    (void)self;
    fprintf(stderr, "tiny thoughts\n");
}

static void tiny_stop(void *self)
{
    fprintf(stderr, "tiny: stop\n");
    free(self);
}

int main(int argc, char **argv)
{
    /* The membership's topology knows routers and c2s: let a test choose. */
    const char *role = getenv("TINY_ROLE");
    const struct proc_role face = {.role = role != NULL ? role : "router",
                                   .start = tiny_start,
                                   .ready = tiny_ready,
                                   .frame = tiny_frame,
                                   .peer_up = tiny_peer_up,
                                   .peer_gone = tiny_peer_gone,
                                   .redis_state = tiny_redis_state,
                                   .reload = tiny_reload,
                                   .drain = tiny_drain,
                                   .crash_note = tiny_crash_note,
                                   .stop = tiny_stop};
    return proc_main(argc, argv, &face);
}
