/* Every framer variant, fed in random pieces, must say what the scalar one says when it gets all at once. The
 * first byte seeds the splits and picks the mode. */
#include <stdlib.h>

#include "common/base/random.h"
#include "common/xml/framer_step.h"

#define PIECES_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct xml_frame (*framer_fn)(struct xml_framer *, const struct xml_limits *, struct span);

struct trace {
    size_t n;
    struct xml_frame frames[PIECES_MAX];
};

static const struct xml_limits limits = {.element_max_bytes = 3000, .depth_max = 8, .attrs_max = 8};

/* step_max 0: all at once. White space in several pieces counts as one. */
static void run(framer_fn next, struct span text, bool rootless, struct rng *rng, struct trace *out)
{
    struct xml_framer f = {.rootless = rootless};
    size_t start = 0, arrived = rng == NULL ? text.n : 0;

    out->n = 0;
    while (out->n < PIECES_MAX) {
        size_t n = arrived - start;
        char *copy = xmalloc(n + 1);
        memcpy(copy, text.p + start, n);
        struct xml_frame frame = next(&f, &limits, span_make(copy, n));
        free(copy);
        CHECK(frame.n <= n);
        if (frame.kind == XML_FRAME_MORE) {
            if (arrived == text.n)
                return;
            arrived += 1 + rng_below(rng, rng_next(rng) % 4 == 0 ? 200 : 9);
            arrived = MIN(text.n, arrived);
            continue;
        }
        start += frame.n;
        if (frame.kind == XML_FRAME_SPACE && out->n > 0 && out->frames[out->n - 1].kind == XML_FRAME_SPACE)
            out->frames[out->n - 1].n += frame.n;
        else
            out->frames[out->n++] = frame;
        if (frame.kind == XML_FRAME_ERROR)
            return;
    }
}

static void compare(framer_fn next, struct span text, bool rootless, uint64_t seed, const struct trace *want)
{
    static struct trace got;
    struct rng rng;

    rng_seed(&rng, seed);
    run(next, text, rootless, &rng, &got);
    if (want->n == PIECES_MAX)
        return; /* a run of white space may be cut there */
    CHECK(got.n == want->n);
    for (size_t i = 0; i < got.n; i++) {
        CHECK(got.frames[i].kind == want->frames[i].kind);
        CHECK(got.frames[i].error == want->frames[i].error);
        CHECK(got.frames[i].n == want->frames[i].n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct trace want;

    if (size < 1)
        return 0;
    bool rootless = (data[0] & 1) != 0;
    struct span text = span_make(data + 1, size - 1);
    run(xml_framer_next_scalar, text, rootless, NULL, &want);
    compare(xml_framer_next_scalar, text, rootless, data[0], &want);
    compare(xml_framer_next, text, rootless, data[0] + 1u, &want);
#if defined(__x86_64__)
    compare(xml_framer_next_sse2, text, rootless, data[0] + 2u, &want);
#endif
    return 0;
}
