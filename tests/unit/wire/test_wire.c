/* The envelope: every field comes back, every cut or bent frame is refused, newer peers are tolerated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/wire/wire.h"

static const char raw[] =
    "<message from='juliet@a.example/b' to='romeo@b.example' type='chat'><body>hi</body>"
    "<active xmlns='http://jabber.org/protocol/chatstates'/></message>";

static struct wire_frame sample(struct xml_parser *parser, struct buf *targets, struct buf *pairs)
{
    struct wire_frame f = {.kind = WIRE_ROUTE,
                           .flags = WIRE_AGAIN | WIRE_BROADCAST,
                           .slot = 4095,
                           .epoch = 7,
                           .trace = {1, UINT64_MAX},
                           .at_ms = 1795348307000,
                           .sid = UINT64_MAX,
                           .session = 2,
                           .n = 3,
                           .num = 4,
                           .token = 5,
                           .from = SPAN("a@b"),
                           .to = SPAN("c@d/e"),
                           .name = SPAN("name"),
                           .text = SPAN(""),
                           .raw = SPAN("<x/>"),
                           .has_stanza = true};
    wire_target_add(targets, &(struct wire_target){9, 10, SPAN("x@y")});
    wire_target_add(targets, &(struct wire_target){11, 12, {NULL, 0}});
    wire_pair_add(pairs, 13, 14);
    f.targets = buf_span(targets);
    f.pairs = buf_span(pairs);
    assert_true(stanza_index(parser, span_of(raw), &f.stanza));
    return f;
}

static void test_every_field_comes_back(void **state)
{
    (void)state;
    struct xml_parser *parser = xml_parser_new(NS_CLIENT);
    struct buf targets = {0}, pairs = {0}, out = {0};
    struct wire_frame f = sample(parser, &targets, &pairs), g;
    wire_add(&out, &f);
    assert_true(out.n <= wire_size(&f));
    assert_true(wire_decode(buf_span(&out), &g));
    assert_int_equal(g.kind, f.kind);
    assert_int_equal(g.flags, f.flags);
    assert_int_equal(g.slot, f.slot);
    assert_int_equal(g.epoch, f.epoch);
    assert_memory_equal(g.trace, f.trace, sizeof g.trace);
    assert_true(g.at_ms == f.at_ms && g.sid == f.sid && g.session == f.session && g.n == f.n &&
                g.num == f.num && g.token == f.token);
    assert_true(span_eq(g.from, f.from) && span_eq(g.to, f.to) && span_eq(g.name, f.name) &&
                span_eq(g.raw, f.raw));
    assert_true(g.text.p != NULL && g.text.n == 0);
    struct wire_target t;
    assert_true(wire_target_next(&g.targets, &t) && t.sid == 9 && t.n == 10 && span_is(t.to, "x@y"));
    assert_true(wire_target_next(&g.targets, &t) && t.sid == 11 && t.n == 12 && t.to.n == 0);
    assert_false(wire_target_next(&g.targets, &t));
    uint64_t a, b;
    assert_true(wire_pair_next(&g.pairs, &a, &b) && a == 13 && b == 14);
    assert_true(g.has_stanza && g.stanza.kind == STANZA_MESSAGE && g.stanza.type == STANZA_CHAT);
    assert_true(span_is(jid_full(&g.stanza.from), "juliet@a.example/b") &&
                span_is(jid_bare(&g.stanza.to), "romeo@b.example"));
    assert_int_equal(g.stanza.child_count, 2);
    assert_true(span_is(stanza_child_raw(&g.stanza, &g.stanza.children[0]), "<body>hi</body>"));
    assert_non_null(stanza_child(&g.stanza, "active", "http://jabber.org/protocol/chatstates"));
    assert_true(g.stanza.id.p == NULL);
    buf_free(&targets);
    buf_free(&pairs);
    buf_free(&out);
    xml_parser_free(parser);
}

/* A cut anywhere either is noticed or leaves a shorter frame of whole fields. */
static void test_cut_frames_stay_in_bounds(void **state)
{
    (void)state;
    struct xml_parser *parser = xml_parser_new(NS_CLIENT);
    struct buf targets = {0}, pairs = {0}, out = {0};
    struct wire_frame f = sample(parser, &targets, &pairs), g;
    wire_add(&out, &f);
    unsigned refused = 0;
    for (size_t n = 0; n < out.n; n++) {
        char *exact = malloc(n + 1); /* so that a sanitizer sees a read behind the cut */
        memcpy(exact, out.p, n);
        refused += !wire_decode(span_make(exact, n), &g);
        free(exact);
    }
    assert_true(refused > out.n * 9 / 10);
    buf_free(&targets);
    buf_free(&pairs);
    buf_free(&out);
    xml_parser_free(parser);
}

static void test_other_versions_and_unknown_fields(void **state)
{
    (void)state;
    struct wire_frame f = {.kind = WIRE_FLOW, .sid = 1, .num = 1}, g;
    struct buf out = {0};
    wire_add(&out, &f);
    buf_add(&out, "\x7f\x03\0\0\0new", 8); /* a field of a newer peer */
    assert_true(wire_decode(buf_span(&out), &g));
    assert_true(g.sid == 1 && g.num == 1);
    out.p[0] = WIRE_VERSION + 1;
    assert_false(wire_decode(buf_span(&out), &g));
    buf_free(&out);
}

static void test_bent_lists_and_indexes_are_refused(void **state)
{
    (void)state;
    struct wire_frame f = {.kind = WIRE_ACKED, .pairs = SPAN("123456789")}, g;
    struct buf out = {0};
    wire_add(&out, &f);
    assert_false(wire_decode(buf_span(&out), &g));
    buf_clear(&out);
    f = (struct wire_frame){.kind = WIRE_DELIVER, .targets = SPAN("0123456789012345\xff\xffx")};
    wire_add(&out, &f);
    assert_false(wire_decode(buf_span(&out), &g));
    buf_clear(&out);
    f = (struct wire_frame){
        .kind = WIRE_STANZA, .has_stanza = true, .stanza = {.raw = SPAN("<iq/>"), .child_count = 1}};
    f.stanza.children[0] = (struct xml_child){SPAN("a"), SPAN("b"), 2, 99};
    wire_add(&out, &f);
    assert_false(wire_decode(buf_span(&out), &g));
    buf_free(&out);
}

/* A namespace of any length comes back, and one that many children share travels once. */
static void test_long_namespaces(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 63, 64, 65535, 65536, 70000, 2200000};
    struct xml_parser *parser = xml_parser_new(NS_CLIENT);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        static struct xml_element e;
        struct buf in = {0}, rewritten = {0}, out = {0};
        struct wire_frame f, g;
        memset(&f, 0, sizeof f);
        buf_add_lit(&in, "<message xmlns:x='u");
        memset(buf_reserve(&in, lengths[i]), 'A', lengths[i]);
        in.n += lengths[i];
        buf_add_lit(&in, "'>");
        for (unsigned k = 0; k < STANZA_CHILDREN_MAX / 2; k++)
            buf_add_lit(&in, "<x:a/><b xmlns='other:namespace'/>");
        buf_add_lit(&in, "</message>");
        assert_int_equal(xml_parse(parser, buf_span(&in), &e), XML_OK);
        assert_int_equal(stanza_rewrite(&e, buf_span(&in), SPAN("j@a/b"), SPAN("en"), &rewritten, &f.stanza),
                         STANZA_GOOD);
        f.kind = WIRE_STANZA;
        f.has_stanza = true;
        wire_add(&out, &f);
        assert_true(out.n <= 2 * in.n + WIRE_ROOM);
        assert_true(wire_decode(buf_span(&out), &g));
        assert_int_equal(g.stanza.child_count, STANZA_CHILDREN_MAX);
        for (unsigned k = 0; k < STANZA_CHILDREN_MAX; k++) {
            assert_true(span_eq(g.stanza.children[k].name, f.stanza.children[k].name));
            assert_true(span_eq(g.stanza.children[k].ns, f.stanza.children[k].ns));
            assert_int_equal(g.stanza.children[k].ns.n,
                             k % 2 == 0 ? lengths[i] + 1 : sizeof("other:namespace") - 1);
        }
        buf_free(&in);
        buf_free(&rewritten);
        buf_free(&out);
    }
    xml_parser_free(parser);
}

/* What is left of a frame that cannot be read in full. */
static void test_salvage(void **state)
{
    (void)state;
    struct xml_parser *parser = xml_parser_new(NS_CLIENT);
    struct buf targets = {0}, pairs = {0}, out = {0};
    struct wire_frame f = sample(parser, &targets, &pairs), g;
    wire_add(&out, &f);
    wire_salvage(span_make(out.p, out.n - 1), &g);
    assert_int_equal(g.kind, WIRE_ROUTE);
    assert_true(g.sid == f.sid && g.n == f.n && g.token == f.token);
    assert_true(span_is(g.stanza.raw, raw));
    assert_false(g.has_stanza);
    assert_null(g.targets.p);
    for (size_t n = 0; n < out.n; n++)
        wire_salvage(span_make(out.p, n), &g);
    buf_free(&targets);
    buf_free(&pairs);
    buf_free(&out);
    xml_parser_free(parser);
}

static void test_every_kind_has_a_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WIRE_KIND_COUNT; i++)
        assert_string_not_equal(wire_kind_name((uint8_t)i), "UNKNOWN");
    assert_string_equal(wire_kind_name(255), "UNKNOWN");
}

/* Writes one frame of each shape as the fuzzer's first corpus when asked to. */
int main(int argc, char **argv)
{
    if (argc == 2) {
        struct xml_parser *parser = xml_parser_new(NS_CLIENT);
        struct buf targets = {0}, pairs = {0}, out = {0};
        struct wire_frame f = sample(parser, &targets, &pairs);
        wire_add(&out, &f);
        FILE *file = fopen(argv[1], "wb");
        if (file == NULL || fwrite(out.p, 1, out.n, file) != out.n || fclose(file) != 0)
            return 1;
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_comes_back),
        cmocka_unit_test(test_cut_frames_stay_in_bounds),
        cmocka_unit_test(test_other_versions_and_unknown_fields),
        cmocka_unit_test(test_bent_lists_and_indexes_are_refused),
        cmocka_unit_test(test_long_namespaces),
        cmocka_unit_test(test_salvage),
        cmocka_unit_test(test_every_kind_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
