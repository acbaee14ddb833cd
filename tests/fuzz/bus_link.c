/* Two links and a fuzzer between them. The input is a script: a byte says what happens next (frames,
 * delivery, loss, repetition, spoiled bytes, raw foreign bytes, reconnects, time). Whatever happens, nothing
 * may crash or grow without bound, and as long as no message was forged, frames arrive in order and once. */
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/bus/link.h"

#define QUEUE 64

struct side {
    struct link link;
    struct buf queue[QUEUE];
    unsigned n;
    uint32_t sent;
    uint32_t expect;
};

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

static void flush(struct side *from, struct side *to, bool lose)
{
    struct link_out out;
    while (link_peek(&from->link, &out)) {
        if (!lose && to->n < QUEUE) {
            buf_clear(&to->queue[to->n]);
            buf_add(&to->queue[to->n++], out.bytes, out.n);
        }
        link_sent(&from->link, &out, 0);
    }
}

static void deliver(struct side *s, uint64_t now, bool forged)
{
    for (unsigned i = 0; i < s->n; i++) {
        struct link_in in = link_input(&s->link, buf_span(&s->queue[i]), now);
        struct span frame;
        uint32_t count = 0;
        while (link_frame(&in.frames, &frame)) {
            count++;
            if (!forged) {
                uint32_t number;
                CHECK(frame.n >= 4);
                memcpy(&number, frame.p, 4);
                CHECK(number == s->expect);
                s->expect++;
            }
        }
        CHECK(count == in.frame_count);
    }
    s->n = 0;
}

static void frame(struct side *s, size_t n)
{
    char *p = link_reserve(&s->link, 4 + n);
    memset(p, 0, 4 + n);
    memcpy(p, &s->sent, 4);
    s->sent++;
    link_commit(&s->link, 4 + n);
}

/* Foreign bytes: from the script, with a right header half of the time. */
static void foreign(struct script *s, struct side *to, const struct side *from)
{
    size_t n = next(s);
    struct buf *m;

    n = MIN(n, s->n);
    if (to->n == QUEUE)
        return;
    m = &to->queue[to->n++];
    buf_clear(m);
    buf_add(m, s->p, n);
    s->p += n;
    s->n -= n;
    if (n >= LINK_HEADER && (n & 1) != 0) {
        uint32_t body = (uint32_t)(n - LINK_HEADER);
        m->p[0] = 'J', m->p[1] = 'B', m->p[2] = 1, m->p[3] = (char)(1 + m->p[3] % 3);
        memcpy(m->p + 8, &from->link.id, 8);
        memcpy(m->p + 16, &to->link.id, 8);
        memcpy(m->p + 44, &body, 4);
    }
}

static void spoil(struct script *s, struct side *to)
{
    struct buf *m;

    if (to->n == 0)
        return;
    m = &to->queue[next(s) % to->n];
    if (m->n == 0)
        return;
    if ((s->n & 1) != 0)
        m->n = next(s) % m->n;
    else
        m->p[next(s) % m->n] ^= (char)(1 + next(s) % 255);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct side a, b;
    struct script s = {data, size};
    struct link_config ca = {1, 11, 22, "a", "b", 100, 4000}, cb = {2, 22, 0, "b", "a", 100, 4000};
    uint64_t now = 1000;
    bool forged = false;

    link_init(&a.link, &ca, now);
    link_init(&b.link, &cb, now);
    a.sent = b.sent = a.expect = b.expect = a.n = b.n = 0;
    link_connected(&a.link, true, now);
    while (s.n > 0) {
        unsigned op = next(&s);
        struct side *x = (op & 1) != 0 ? &a : &b, *y = x == &a ? &b : &a;
        switch ((op >> 1) % 10) {
        case 0:
            frame(x, next(&s));
            break;
        case 1:
        case 2:
            flush(x, y, false);
            break;
        case 3:
            deliver(x, now, forged);
            break;
        case 4:
            flush(x, y, true);
            break;
        case 5:
            link_disconnected(&x->link);
            link_connected(&a.link, true, now);
            break;
        case 6:
            now += next(&s);
            link_tick(&x->link, now);
            break;
        case 7:
            forged = true;
            foreign(&s, x, y);
            break;
        case 8:
            forged = true;
            spoil(&s, x);
            break;
        default:
            if (x->n > 0 && x->n < QUEUE) { /* once more */
                buf_clear(&x->queue[x->n]);
                buf_add_span(&x->queue[x->n], buf_span(&x->queue[0]));
                x->n++;
            }
        }
    }
    for (int i = 0; i < 40 && !forged; i++) {
        now += 100;
        link_tick(&a.link, now);
        link_tick(&b.link, now);
        flush(&a, &b, false);
        deliver(&b, now, false);
        flush(&b, &a, false);
        deliver(&a, now, false);
    }
    CHECK(forged || (a.expect == b.sent && b.expect == a.sent));
    link_fini(&a.link);
    link_fini(&b.link);
    for (unsigned i = 0; i < QUEUE; i++) {
        buf_free(&a.queue[i]);
        buf_free(&b.queue[i]);
    }
    return 0;
}
