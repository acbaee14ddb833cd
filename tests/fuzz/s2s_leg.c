/* Another server or a component says anything, in pieces: incoming and outgoing streams, both component
 * protocols. Control bytes (below 9) stand for what the world does meanwhile: routers answer, Redis answers,
 * time passes, another connection speaks, we have something to send, the connection ends. */
#include <stdint.h>

#include "s2s/in.h"
#include "s2s/relay.h"
#include "tests/fuzz/s2s_doubles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned speaker;

static struct conn *now_speaking(void)
{
    return d.conn_count > 0 ? d.conns[speaker % d.conn_count] : NULL;
}

static void send_out(void)
{
    relay_raw(&d.s2s,
              SPAN("<message from='romeo@a.example/x' to='juliet@peer.example'><body>hi</body></message>"));
    relay_raw(&d.s2s,
              SPAN("<message from='romeo@a.example/x' to='bot@c.a.example'><body>hi</body></message>"));
}

static void world(uint8_t what)
{
    static const struct redis_reply nil = {.kind = REDIS_KIND_NIL};
    struct conn *c = now_speaking();
    switch (what) {
    case 1:
        router_answers(WIRE_DONE_TAKEN);
        break;
    case 2:
        router_answers(WIRE_DONE_RETRY);
        break;
    case 3:
        router_answers(WIRE_DONE_FULL);
        break;
    case 4:
        redis_reply_next(&nil);
        break;
    case 5:
        doubles_wait(2000);
        break;
    case 6:
        speaker++;
        break;
    case 7:
        send_out();
        break;
    default:
        if (c != NULL)
            conn_drop(c, "reset");
        break;
    }
    conns_turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The first byte: which side, whether the certificate is good. */
    uint8_t mode = size > 0 ? data[0] : 0;
    speaker = 0;
    d.certified = (mode & 4) != 0;
    doubles_begin();
    if ((mode & 3) == 0 || (mode & 3) == 1)
        in_accept(&d.s2s, -1, (mode & 1) != 0);
    else if ((mode & 3) == 2)
        component_accept(&d.s2s, -1);
    else
        send_out();
    doubles_wait(1);
    for (size_t at = 1; at < size;) {
        size_t end = at;
        while (end < size && data[end] > 8)
            end++;
        struct conn *c = now_speaking();
        if (c != NULL && c->phase == CONN_OPEN)
            buf_add(&c->held, data + at, end - at);
        conns_turn();
        if (end < size)
            world(data[end]);
        at = end + 1;
    }
    doubles_end();
    return 0;
}
