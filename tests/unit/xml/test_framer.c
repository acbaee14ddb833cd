/* The framer: where pieces end, what is refused, at every split, and every variant like the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/random.h"
#include "common/xml/framer_step.h"

static const struct xml_limits limits = {.element_max_bytes = 400, .depth_max = 4, .attrs_max = 6};

typedef struct xml_frame (*framer_fn)(struct xml_framer *, const struct xml_limits *, struct span);

static framer_fn variants[4];
static size_t variant_count;

static int setup(void **state)
{
    (void)state;
    variants[variant_count++] = xml_framer_next_scalar;
    variants[variant_count++] = xml_framer_next;
#if defined(__x86_64__)
    variants[variant_count++] = xml_framer_next_sse2;
    if (framer_has_avx2())
        variants[variant_count++] = xml_framer_next_avx2;
#endif
    return 0;
}

/* Frames text that arrives `step` bytes at a time; writes one letter and the length per piece; white space
 * that is cut by a split counts as one. */
static void frame_all(framer_fn next, struct span text, size_t step, bool rootless, struct buf *out)
{
    static const char letters[] = "MDOESCX";
    struct xml_framer f = {.rootless = rootless};
    size_t start = 0, arrived = 0, space = 0;

    for (;;) {
        /* A copy of its own size, so that a read beyond it shows. */
        size_t n = arrived - start;
        char *copy = xmalloc(n + 1);
        memcpy(copy, text.p + start, n);
        struct xml_frame frame = next(&f, &limits, span_make(copy, n));
        free(copy);
        assert_true(frame.n <= n);
        if (frame.kind == XML_FRAME_SPACE)
            space += frame.n;
        if (space > 0 && (frame.kind != XML_FRAME_SPACE || start + frame.n == text.n) &&
            (frame.kind != XML_FRAME_MORE || n > 0 || arrived == text.n)) {
            buf_addf(out, "S%zu ", space);
            space = 0;
        }
        if (frame.kind == XML_FRAME_ERROR) {
            buf_addf(out, "X%d", frame.error);
            return;
        }
        if (frame.kind == XML_FRAME_MORE) {
            assert_int_equal(f.scanned, n);
            if (arrived == text.n)
                return;
            arrived = MIN(text.n, arrived + step);
            continue;
        }
        assert_true(frame.n > 0);
        start += frame.n;
        if (frame.kind != XML_FRAME_SPACE)
            buf_addf(out, "%c%zu ", letters[frame.kind], frame.n);
    }
}

static void expect_text(struct span text, bool rootless, const char *expected)
{
    struct buf out = {0};

    for (size_t v = 0; v < variant_count; v++) {
        for (size_t step = 1; step <= text.n + 1; step++) {
            buf_clear(&out);
            frame_all(variants[v], text, step, rootless, &out);
            assert_string_equal(buf_cstr(&out), expected);
        }
    }
    buf_free(&out);
}

#define EXPECT(text, expected) expect_text(SPAN(text), false, expected)

static void pieces(void **state)
{
    (void)state;
    EXPECT("<?xml version='1.0'?><s><a/><b>x</b> \n</s>", "D21 O3 E4 E8 S2 C4 ");
    EXPECT("<s a='>' b=\"/>'\"><a c='>'/><b d=\"</b>", "O17 E10 X1");
    EXPECT("<s><a><![CDATA[<x>] ]></x>]]]></a><b/>", "O3 E31 E4 ");
    EXPECT("<s><a><b/><c><d/></c></a>", "O3 E22 ");
    EXPECT("  <s> <a/>", "S2 O3 S1 E4 ");
    EXPECT("\n<?xml version='1.0'?>\n<s>", "S1 D21 S1 O3 ");
    EXPECT("<s><\xc3\xa9/>", "O3 E5 ");
    EXPECT("<s>12", "O3 X2");
    EXPECT("", "");
}

static void refusals(void **state)
{
    char expected[16];

    (void)state;
    snprintf(expected, sizeof(expected), "O3 X%d", XML_RESTRICTED);
    EXPECT("<s><!--", expected);
    EXPECT("<s><?x", expected);
    EXPECT("<s><a><!", "O3 ");
    EXPECT("<s><a><![CDATA ", expected);
    EXPECT("<s><a><![cDATA[", expected);
    EXPECT("<s><![CDATA[x]]>", expected);
    snprintf(expected, sizeof(expected), "O3 X%d", XML_NOT_WELL_FORMED);
    EXPECT("<s><a b='<'", expected);
    EXPECT("<s><>", expected);
    EXPECT("<s><\"", expected);
    EXPECT("<s>< a", expected);
    EXPECT("<s><a/ >", expected);
    EXPECT("<s><a<", expected);
    EXPECT("<s><a></a<", expected);
    snprintf(expected, sizeof(expected), "O3 X%d", XML_TOO_DEEP);
    EXPECT("<s><a><a><a><a/></a></a></a>", "O3 E25 ");
    EXPECT("<s><a><a><a><a><a", expected);
    snprintf(expected, sizeof(expected), "O3 X%d", XML_TOO_MANY_ATTRS);
    EXPECT("<s><a a='=======' b='' c='' d='' e='' f=''/>", "O3 E41 ");
    EXPECT("<s><a a='' b='' c='' d='' e='' f='' g=''/>", expected);
    snprintf(expected, sizeof(expected), "X%d", XML_RESTRICTED);
    EXPECT("<!DOCTYPE", expected);
    EXPECT("<?php", "");
    EXPECT("<?php ?>", expected);
    EXPECT("<s><?xml", "O3 X3");
    EXPECT("<?xml version='1.0'?><?xml", "D21 X3");
    snprintf(expected, sizeof(expected), "X%d", XML_UNSUPPORTED_ENCODING);
    EXPECT("\xfe\xff\0<", expected);
    EXPECT("<\0s\0", expected);
    EXPECT("<?xml version='1.0' encoding='latin1'?>", expected);
    EXPECT("<?xml version='1.0' encoding=\"UTF-8\" standalone='yes' ?>", "D56 ");
    snprintf(expected, sizeof(expected), "X%d", XML_NOT_WELL_FORMED);
    EXPECT("<?xml version='2.0'?>", expected);
    EXPECT("<?xml encoding='UTF-8'?>", expected);
    EXPECT("<?xml version='1.0' standalone='no' encoding='UTF-8'?>", expected);
    EXPECT("<?xml version='1.0' x?>", expected);
    EXPECT("</s>", expected);
    EXPECT("<s/>", expected);
}

static void rootless(void **state)
{
    (void)state;
    expect_text(SPAN("<open xmlns='x'/><a><b/></a> <c/>"), true, "E17 E11 S1 E4 ");
    expect_text(SPAN("</a>"), true, "X1");
}

static void size_is_exact(void **state)
{
    struct buf text = {0};
    char expected[32];

    (void)state;
    for (unsigned n = 398; n <= 402; n++) {
        buf_clear(&text);
        buf_add_lit(&text, "<s><a>");
        while (text.n < n + 3 - 4)
            buf_add_char(&text, 'x');
        buf_add_lit(&text, "</a>");
        snprintf(expected, sizeof(expected), n <= 400 ? "O3 E%u " : "O3 X%u",
                 n <= 400 ? n : (unsigned)XML_TOO_BIG);
        expect_text(buf_span(&text), false, expected);
    }
    buf_free(&text);
}

/* Random texts of the bytes that matter: all variants say what the reference says when it gets all at once.
 */
static void variants_agree(void **state)
{
    static const char *const tokens[] = {
        "<",  ">",    "/",     "=",    "'",     "\"",  " ",           "a",           "<a>",  "</a>",
        "!",  "?",    "<a b=", "'x' ", "\"y\"", "<s>", "<![CDATA[",   "]]>",         "</s>", "]",
        "\n", "<b/>", "&lt;",  "-",    "=''",   "\0",  "hello there", "<c d='e>f'/>"};
    struct buf text = {0}, want = {0}, got = {0};
    struct rng rng;

    (void)state;
    rng_seed(&rng, 20261122);
    for (unsigned round = 0; round < 30000; round++) {
        buf_clear(&text);
        buf_add_lit(&text, "<s>");
        for (uint64_t i = rng_below(&rng, 60); i > 0; i--) {
            const char *token = tokens[rng_below(&rng, ARRAY_LEN(tokens))];
            buf_add(&text, token, token[0] == '\0' ? 1 : strlen(token));
        }
        buf_clear(&want);
        frame_all(xml_framer_next_scalar, buf_span(&text), text.n, false, &want);
        for (size_t v = 0; v < variant_count; v++) {
            buf_clear(&got);
            frame_all(variants[v], buf_span(&text), 1 + rng_below(&rng, text.n), false, &got);
            assert_string_equal(buf_cstr(&got), buf_cstr(&want));
        }
    }
    buf_free(&text);
    buf_free(&want);
    buf_free(&got);
}

/* A large element byte by byte: `scanned` keeps it linear, so this ends at once. */
static void byte_by_byte_is_linear(void **state)
{
    const struct xml_limits wide = {.element_max_bytes = 1 << 22, .depth_max = 4, .attrs_max = 6};
    struct xml_framer f = {.root_open = true};
    size_t n = 1 << 21;
    char *text = xmalloc(n);

    (void)state;
    memset(text, 'x', n);
    memcpy(text, "<a>", 3);
    memcpy(text + n - 4, "</a>", 4);
    for (size_t i = 1; i < n; i++)
        assert_int_equal(xml_framer_next(&f, &wide, span_make(text, i)).kind, XML_FRAME_MORE);
    assert_int_equal(xml_framer_next(&f, &wide, span_make(text, n)).kind, XML_FRAME_ELEMENT);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces),         cmocka_unit_test(refusals),
        cmocka_unit_test(rootless),       cmocka_unit_test(size_is_exact),
        cmocka_unit_test(variants_agree), cmocka_unit_test(byte_by_byte_is_linear),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
