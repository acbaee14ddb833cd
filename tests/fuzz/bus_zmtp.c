/* What another process may say in ZeroMQ's wire protocol, twice: in one piece and in portions whose size the
 * first byte says. Both must come to the same events. */
#include <stdlib.h>

#include "common/bus/zmtp.h"

static void read_all(struct span all, size_t step, struct buf *events)
{
    enum zmtp_event event = ZMTP_WAIT;
    struct zmtp z = {0};
    struct span out;

    for (size_t at = 0; at < all.n && event != ZMTP_BAD; at += step) {
        zmtp_input(&z, span_sub(all, at, MIN(step, all.n - at)));
        while ((event = zmtp_next(&z, &out)) != ZMTP_WAIT) {
            buf_addf(events, "%d %zu ", (int)event, out.n);
            buf_add_span(events, out);
            if (event == ZMTP_BAD)
                break;
        }
    }
    zmtp_free(&z);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf whole = {0}, portions = {0}, wire = {0};

    if (n < 2)
        return 0;
    if (data[1] & 1) /* half of the inputs begin behind the handshake */
        zmtp_hello(&wire, span_of("me"));
    buf_add(&wire, data + 2, n - 2);
    read_all(buf_span(&wire), wire.n + 1, &whole);
    read_all(buf_span(&wire), (size_t)data[0] + 1, &portions);
    CHECK(span_eq(buf_span(&whole), buf_span(&portions)));
    buf_free(&whole);
    buf_free(&portions);
    buf_free(&wire);
    return 0;
}
