/* A record layer and a fuzzer who is its peer, with the keys. The input is a script: the first byte says in
 * what portions bytes arrive, then each byte what comes next: data, a new key, an end, bytes spoiled on the
 * way, foreign bytes. What arrives unspoiled comes out as it went in; nothing may crash. */
#include <stdlib.h>

#include "common/tls/slim/record.h"

#define UPDATES_MAX 32 /* more in a row are refused */

struct script {
    const uint8_t *p;
    size_t n;
};

static unsigned next(struct script *s)
{
    if (s->n == 0)
        return 0;
    s->n--;
    return *s->p++;
}

static struct slim_records *side(bool turned)
{
    struct slim_traffic t[2] = {0};

    memset(t[turned ? SLIM_OUT : SLIM_IN].secret, 1, SLIM_SECRET_MAX);
    return slim_records_new(0x1301, t, SLIM_CONTENT_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct script s = {data, n};
    struct slim_records *peer = side(true), *r = side(false);
    struct buf wire = {0}, sent = {0}, plain = {0}, out = {0};
    enum slim_status status = SLIM_OPEN;
    size_t step = next(&s) + 1, at = 0;
    const char *error = NULL;
    unsigned updates = 0; /* in a row, with no data between */
    bool forged = false;

    CHECK(peer != NULL && r != NULL);
    while (s.n > 0) {
        unsigned what = next(&s) % 6, k = next(&s);
        struct span bytes = span_make(s.p, MIN((size_t)k, s.n));
        if (what == 0 || what == 1) {
            CHECK(slim_records_write(peer, bytes, &wire));
            buf_add_span(&sent, bytes);
            updates = bytes.n > 0 ? 0 : updates;
        } else if (what == 2) {
            CHECK(slim_records_update(peer, &wire));
            forged = forged || ++updates > UPDATES_MAX;
        } else if (what == 3) {
            slim_records_close(peer, &wire);
        } else if (what == 4 && wire.n > 0) {
            wire.p[k % wire.n] = (char)(wire.p[k % wire.n] ^ 1);
            forged = true;
        } else if (what == 5) {
            buf_add_span(&wire, bytes);
            forged = true;
        }
        if (what == 0 || what == 1 || what == 5) {
            s.p += bytes.n;
            s.n -= bytes.n;
        }
    }
    for (; at < wire.n && status == SLIM_OPEN; at += step)
        status =
            slim_records_feed(r, span_sub(buf_span(&wire), at, MIN(step, wire.n - at)), &plain, &out, &error);
    CHECK(plain.n <= sent.n && (plain.n == 0 || memcmp(plain.p, sent.p, plain.n) == 0));
    CHECK(forged || status == SLIM_CLOSED || (status == SLIM_OPEN && plain.n == sent.n));
    slim_records_free(peer);
    slim_records_free(r);
    buf_free(&wire);
    buf_free(&sent);
    buf_free(&plain);
    buf_free(&out);
    return 0;
}
