/* What a frame costs in the link between two processes, ZeroMQ aside: written into a batch, taken on the
 * other side, acknowledged. Ten frames of 300 bytes are a turn's batch. */
#include "bench/micro/measure.h"
#include "common/bus/link.h"

#define UNITS 1000
#define TURN  10
#define BYTES 300

static struct link a, b;
static uint64_t now_ms = 1000;

static void begin(struct link *l, const char *name, const char *peer, uint64_t id)
{
    struct link_config config = {
        .id = id, .incarnation = id + 100, .name = name, .peer_name = peer, .heartbeat_ms = 100};

    link_init(l, &config, now_ms);
}

static unsigned pass(struct link *from, struct link *to)
{
    struct link_out out;
    struct span frame;
    unsigned frames = 0;

    while (link_peek(from, &out)) {
        struct link_in in = link_input(to, span_make(out.bytes, out.n), now_ms);
        CHECK((in.events & (LINK_BAD | LINK_STALE | LINK_VOID | LINK_GAP)) == 0);
        for (; link_frame(&in.frames, &frame); frames++)
            checksum += (unsigned char)frame.p[0];
        link_sent(from, &out, now_ms);
    }
    return frames;
}

static void run_frames(void)
{
    for (unsigned i = 0; i < UNITS; i += TURN) {
        for (unsigned k = 0; k < TURN; k++) {
            memset(link_reserve(&a, BYTES), (int)k, BYTES);
            link_commit(&a, BYTES);
        }
        now_ms += 1;
        CHECK(pass(&a, &b) == TURN);
        link_tick(&a, now_ms);
        link_tick(&b, now_ms);
        pass(&b, &a);
    }
    CHECK(a.state == LINK_STATE_UP && link_ready(&a));
}

int main(int argc, char **argv)
{
    measure_only = argc > 1 ? argv[1] : NULL;
    begin(&a, "a", "b", 1);
    begin(&b, "b", "a", 2);
    link_connected(&a, true, now_ms);
    link_connected(&b, false, now_ms);
    for (unsigned i = 0; i < 3; i++) {
        pass(&a, &b);
        pass(&b, &a);
    }
    measure("bus, a frame over a link", UNITS, 100, run_frames);
    link_fini(&a);
    link_fini(&b);
    return 0;
}
