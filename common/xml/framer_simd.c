/* The framer with SIMD, and the choice at run time.
 *
 * The state machine stays that of framer_step.h; what is saved is the bytes that cannot change its state. For
 * a block of 64 bytes one mask each says where `<`, `"`, `'` and the bytes that matter in a start tag are;
 * text hops from `<` to `<`, a value to its closing quote, and so on. The last block is loaded so that it
 * ends with the input (and the masks are shifted), because a copy into a padded buffer costs more than the
 * scan. */
#include "common/xml/framer_step.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define BLOCK_BYTES 64
#define INLINE      static inline __attribute__((always_inline))

struct masks {
    uint64_t lt;
    uint64_t gt;
    uint64_t quot;
    uint64_t apos;
    uint64_t tag; /* all of the above and '=' and '/' */
};

typedef void (*masks_fn)(const char *p, struct masks *m);

INLINE void masks_sse2(const char *p, struct masks *m)
{
    *m = (struct masks){0};
    for (int i = 0; i < BLOCK_BYTES; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i lt = _mm_cmpeq_epi8(v, _mm_set1_epi8('<'));
        __m128i gt = _mm_cmpeq_epi8(v, _mm_set1_epi8('>'));
        __m128i quot = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
        __m128i apos = _mm_cmpeq_epi8(v, _mm_set1_epi8('\''));
        __m128i rest =
            _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('=')), _mm_cmpeq_epi8(v, _mm_set1_epi8('/')));
        __m128i tag = _mm_or_si128(_mm_or_si128(_mm_or_si128(lt, gt), _mm_or_si128(quot, apos)), rest);
        m->lt |= (uint64_t)(uint32_t)_mm_movemask_epi8(lt) << i;
        m->gt |= (uint64_t)(uint32_t)_mm_movemask_epi8(gt) << i;
        m->quot |= (uint64_t)(uint32_t)_mm_movemask_epi8(quot) << i;
        m->apos |= (uint64_t)(uint32_t)_mm_movemask_epi8(apos) << i;
        m->tag |= (uint64_t)(uint32_t)_mm_movemask_epi8(tag) << i;
    }
}

__attribute__((target("avx2"))) INLINE void masks_avx2(const char *p, struct masks *m)
{
    *m = (struct masks){0};
    for (int i = 0; i < BLOCK_BYTES; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
        __m256i lt = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('<'));
        __m256i gt = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('>'));
        __m256i quot = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('"'));
        __m256i apos = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\''));
        __m256i rest = _mm256_or_si256(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('=')),
                                       _mm256_cmpeq_epi8(v, _mm256_set1_epi8('/')));
        __m256i tag =
            _mm256_or_si256(_mm256_or_si256(_mm256_or_si256(lt, gt), _mm256_or_si256(quot, apos)), rest);
        m->lt |= (uint64_t)(uint32_t)_mm256_movemask_epi8(lt) << i;
        m->gt |= (uint64_t)(uint32_t)_mm256_movemask_epi8(gt) << i;
        m->quot |= (uint64_t)(uint32_t)_mm256_movemask_epi8(quot) << i;
        m->apos |= (uint64_t)(uint32_t)_mm256_movemask_epi8(apos) << i;
        m->tag |= (uint64_t)(uint32_t)_mm256_movemask_epi8(tag) << i;
    }
}

/* The masks of the up to 64 bytes from `at` on; bits beyond end are 0. */
INLINE void masks_load(const char *p, size_t at, size_t end, masks_fn fn, struct masks *m)
{
    size_t left = end - at;

    if (LIKELY(left >= BLOCK_BYTES)) {
        fn(p + at, m);
    } else if (end >= BLOCK_BYTES) {
        unsigned shift = (unsigned)(BLOCK_BYTES - left);
        fn(p + end - BLOCK_BYTES, m);
        m->lt >>= shift;
        m->gt >>= shift;
        m->quot >>= shift;
        m->apos >>= shift;
        m->tag >>= shift;
    } else {
        char padded[BLOCK_BYTES] = {0};
        memcpy(padded, p + at, left);
        fn(padded, m);
    }
}

/* Moves *at behind the first set bit of mask, at or behind it; false (and *at at the block's end) when there
 * is none. */
INLINE bool hop(uint64_t mask, size_t base, size_t block_end, size_t *at)
{
    mask >>= *at - base;
    if (mask == 0) {
        *at = block_end;
        return false;
    }
    *at += (size_t)__builtin_ctzll(mask) + 1;
    return true;
}

INLINE int scan_block(struct xml_framer *f, const struct xml_limits *limits, const char *p,
                      const struct masks *m, size_t base, size_t block_end, size_t *pos)
{
    int step = STEP_GO;
    size_t at = *pos;

    while (at < block_end && step == STEP_GO) {
        switch ((enum framer_state)f->state) {
        case FRAMER_CONTENT:
            if (hop(m->lt, base, block_end, &at))
                f->state = FRAMER_LT;
            break;
        case FRAMER_TAG:
            if (hop(m->tag, base, block_end, &at))
                step = framer_step_tag(f, limits, (unsigned char)p[at - 1]);
            break;
        case FRAMER_QUOTE:
            if (hop((f->quote == '"' ? m->quot : m->apos) | m->lt, base, block_end, &at)) {
                if (p[at - 1] == '<')
                    step = STEP_ERROR + XML_NOT_WELL_FORMED;
                else
                    f->state = FRAMER_TAG;
            }
            break;
        case FRAMER_END:
            if (hop(m->gt | m->lt, base, block_end, &at))
                step = framer_step_end(f, (unsigned char)p[at - 1]);
            break;
        case FRAMER_LT:
            step = framer_step_lt(f, limits, (unsigned char)p[at++]);
            break;
        default:
            step = framer_step(f, limits, (unsigned char)p[at++]);
        }
    }
    *pos = at;
    return step;
}

INLINE struct xml_frame framer_run(struct xml_framer *framer, const struct xml_limits *limits, struct span in,
                                   masks_fn fn)
{
    struct xml_framer f;
    struct xml_frame frame;
    size_t end = MIN(in.n, limits->element_max_bytes);
    size_t at = framer->scanned;
    int step = STEP_GO;

    if (framer_begin(framer, in, &frame))
        return frame;
    f = *framer;
    while (at < end && step == STEP_GO) {
        struct masks m;
        size_t base = at, block_end = MIN(end, at + BLOCK_BYTES);
        masks_load(in.p, at, end, fn, &m);
        step = scan_block(&f, limits, in.p, &m, base, block_end, &at);
    }
    *framer = f;
    return framer_finish(framer, limits, in, step, at);
}

struct xml_frame xml_framer_next_sse2(struct xml_framer *f, const struct xml_limits *limits, struct span in)
{
    return framer_run(f, limits, in, masks_sse2);
}

__attribute__((target("avx2,bmi,bmi2"))) struct xml_frame xml_framer_next_avx2(
    struct xml_framer *f, const struct xml_limits *limits, struct span in)
{
    return framer_run(f, limits, in, masks_avx2);
}

bool framer_has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

struct xml_frame xml_framer_next(struct xml_framer *f, const struct xml_limits *limits, struct span in)
{
    static struct xml_frame (*best)(struct xml_framer *, const struct xml_limits *, struct span);

    if (UNLIKELY(best == NULL))
        best = framer_has_avx2() ? xml_framer_next_avx2 : xml_framer_next_sse2;
    return best(f, limits, in);
}

#else

struct xml_frame xml_framer_next(struct xml_framer *f, const struct xml_limits *limits, struct span in)
{
    return xml_framer_next_scalar(f, limits, in);
}

#endif
