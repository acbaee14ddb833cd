/* Any bytes as a frame: wire_decode must stay inside them, and what it accepts must survive being written and
 * read again. */
#include <stdlib.h>

#include "common/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct wire_frame *f)
{
    struct span targets = f->targets, pairs = f->pairs;
    struct wire_target t;
    uint64_t a, b;
    size_t seen = 0;
    while (wire_target_next(&targets, &t))
        seen += t.to.n + 1;
    while (wire_pair_next(&pairs, &a, &b))
        seen++;
    CHECK(targets.n == 0 && pairs.n == 0 && seen <= f->targets.n + f->pairs.n);
    if (f->has_stanza) {
        for (unsigned i = 0; i < f->stanza.child_count; i++)
            CHECK(stanza_child_raw(&f->stanza, &f->stanza.children[i]).n <= f->stanza.raw.n);
        CHECK(jid_full(&f->stanza.to).n <= JID_MAX_BYTES);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_frame f, again;
    if (!wire_decode(span_make(data, size), &f))
        return 0;
    walk(&f);
    struct buf out = {0}, out2 = {0};
    wire_add(&out, &f);
    CHECK(wire_decode(buf_span(&out), &again));
    wire_add(&out2, &again);
    CHECK(span_eq(buf_span(&out), buf_span(&out2)));
    buf_free(&out);
    buf_free(&out2);
    return 0;
}
