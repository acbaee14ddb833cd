/* A stream fed at once and in random pieces must give the same events, and the events must be sound. The
 * first byte seeds the splits; a header stands before the rest when its lowest bit is set. */
#include <stdlib.h>

#include "common/base/random.h"
#include "common/stanza/ns.h"
#include "common/stream/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct stream_kind kind = {.content_ns = NS_CLIENT,
                                  .limits = {.element_max_bytes = 3000, .depth_max = 8, .attrs_max = 10}};

static void run(struct span text, struct rng *rng, struct buf *out)
{
    static const struct stream_header header = {.version = true};
    struct stream s;
    struct stream_event ev;
    struct buf reply = {0};
    unsigned failures = 0;

    stream_init(&s, &kind, STREAM_RECEIVING);
    while (text.n > 0) {
        size_t n = rng == NULL ? text.n : 1 + rng_below(rng, rng_next(rng) % 8 == 0 ? 900 : 12);
        n = MIN(text.n, n);
        char *copy = xmalloc(n);
        struct span in = {memcpy(copy, text.p, n), n};
        do {
            ev = stream_next(&s, &in);
            if (ev.kind != STREAM_MORE)
                buf_addf(out, "[%d %d ", ev.kind, ev.kind == STREAM_FAILED ? (int)ev.error : 0);
            if (ev.kind == STREAM_ELEMENT) {
                buf_add_span(out, ev.raw);
                buf_addf(out, " %.*s %u", SPAN_FMT(ev.element->ns), ev.element->child_count);
            }
            if (ev.kind == STREAM_FAILED) {
                CHECK(++failures == 1);
                stream_fail(&s, &header, ev.error, NULL, NULL, &reply);
            }
        } while (ev.kind != STREAM_MORE);
        CHECK(in.n == 0);
        free(copy);
        text = span_sub(text, n, SIZE_MAX);
    }
    stream_close(&s, &reply);
    CHECK(reply.n > 0);
    stream_free(&s);
    buf_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text = {0}, whole = {0}, pieces = {0};
    struct rng rng;

    if (size < 1)
        return 0;
    if (kind.parser == NULL)
        kind.parser = xml_parser_new(NS_CLIENT);
    if ((data[0] & 1) != 0)
        buf_add_lit(&text,
                    "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "' version='1.0'>");
    buf_add(&text, data + 1, size - 1);
    rng_seed(&rng, data[0]);
    run(buf_span(&text), NULL, &whole);
    run(buf_span(&text), &rng, &pieces);
    CHECK(span_eq(buf_span(&whole), buf_span(&pieces)));
    buf_free(&text);
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}
