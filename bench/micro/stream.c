/* What one typical stanza costs from bytes to the raw form that travels: framer (each variant), parser,
 * rewriting, and the stream engine over all of it. Per stanza. */
#include "common/stream/stream.h"
#include "bench/micro/measure.h"
#include "common/stanza/stanza.h"
#include "common/xml/framer_step.h"

#define STANZAS 1024
#define REPEAT  40

static struct buf corpus;
static struct xml_limits limits = {.element_max_bytes = 262144, .depth_max = 64, .attrs_max = 32};
static struct xml_parser *parser;
static struct buf out;

static void make_corpus(void)
{
    for (unsigned i = 0; i < STANZAS; i++) {
        buf_addf(
            &corpus,
            "<message to='user%u@chat.example.org/phone-%u' type='chat' id='m-%08x' xml:lang='en'><body>", i,
            i * 7 % 100, i * 2654435761u);
        for (unsigned word = 0; word < 6 + i % 9; word++)
            buf_add_str(&corpus, word % 4 == 3 ? "isn&apos;t it " : "hello there ");
        buf_add_lit(&corpus, "</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>");
    }
}

typedef struct xml_frame (*framer_fn)(struct xml_framer *, const struct xml_limits *, struct span);

static void run_framer(framer_fn next)
{
    struct xml_framer f = {.root_open = true};
    struct span in = buf_span(&corpus);

    while (in.n > 0) {
        struct xml_frame frame = next(&f, &limits, in);
        CHECK(frame.kind == XML_FRAME_ELEMENT);
        checksum += frame.n;
        in = span_sub(in, frame.n, SIZE_MAX);
    }
}

static void run_scalar(void)
{
    run_framer(xml_framer_next_scalar);
}

static void run_best(void)
{
    run_framer(xml_framer_next);
}

#if defined(__x86_64__)
static void run_sse2(void)
{
    run_framer(xml_framer_next_sse2);
}
#endif

static void run_parse(bool rewrite)
{
    struct xml_framer f = {.root_open = true};
    struct span in = buf_span(&corpus);
    struct xml_element e;
    struct stanza s;

    while (in.n > 0) {
        struct xml_frame frame = xml_framer_next(&f, &limits, in);
        struct span raw = span_sub(in, 0, frame.n);
        CHECK(xml_parse(parser, raw, &e) == XML_OK);
        checksum += e.child_count;
        if (rewrite) {
            buf_clear(&out);
            CHECK(stanza_rewrite(&e, raw, SPAN("juliet@chat.example.org/balcony-4711"), SPAN("en"), &out,
                                 &s) == STANZA_GOOD);
            checksum += s.raw.n;
        }
        in = span_sub(in, frame.n, SIZE_MAX);
    }
}

static void run_frame_parse(void)
{
    run_parse(false);
}

static void run_frame_parse_rewrite(void)
{
    run_parse(true);
}

static void run_stream(void)
{
    static const struct stream_header header = {.version = true};
    struct stream_kind kind = {NS_CLIENT, limits, parser};
    struct stream s;
    struct buf in = {0};
    struct stream_event ev;

    stream_init(&s, &kind, STREAM_RECEIVING);
    stream_open(&s, &header, &in);
    struct span rest = buf_span(&in);
    CHECK(stream_next(&s, &rest).kind == STREAM_OPENED);
    /* In pieces of a socket's read, so that elements are split now and then. */
    for (size_t at = 0; at < corpus.n; at += 4096) {
        rest = span_sub(buf_span(&corpus), at, 4096);
        do {
            ev = stream_next(&s, &rest);
            CHECK(ev.kind == STREAM_ELEMENT || ev.kind == STREAM_MORE);
            checksum += ev.raw.n;
        } while (ev.kind != STREAM_MORE);
    }
    stream_free(&s);
    buf_free(&in);
}

static void run_index(void)
{
    struct xml_framer f = {.root_open = true};
    struct span in = buf_span(&corpus);
    struct stanza s;

    while (in.n > 0) {
        struct xml_frame frame = xml_framer_next(&f, &limits, in);
        CHECK(stanza_index(parser, span_sub(in, 0, frame.n), &s));
        checksum += s.child_count;
        in = span_sub(in, frame.n, SIZE_MAX);
    }
}

static void run_tree(void)
{
    static struct arena *arena;
    struct xml_framer f = {.root_open = true};
    struct span in = buf_span(&corpus);

    if (arena == NULL)
        arena = arena_new(8192);
    while (in.n > 0) {
        struct xml_frame frame = xml_framer_next(&f, &limits, in);
        arena_reset(arena);
        CHECK(xml_tree(arena, span_sub(in, 0, frame.n), NS_CLIENT) != NULL);
        in = span_sub(in, frame.n, SIZE_MAX);
    }
}

int main(int argc, char **argv)
{
    measure_only = argc > 1 ? argv[1] : NULL;
    make_corpus();
    parser = xml_parser_new(NS_CLIENT);
    printf("%u messages, %.0f bytes on average\n", STANZAS, (double)corpus.n / STANZAS);
    measure("frame, scalar", STANZAS, REPEAT, run_scalar);
#if defined(__x86_64__)
    measure("frame, SSE2", STANZAS, REPEAT, run_sse2);
#endif
    measure("frame, what this CPU gets", STANZAS, REPEAT, run_best);
    measure("frame + parse", STANZAS, REPEAT, run_frame_parse);
    measure("frame + parse + rewrite", STANZAS, REPEAT, run_frame_parse_rewrite);
    measure("stream engine (frame + parse, 4 KiB reads)", STANZAS, REPEAT, run_stream);
    measure("frame + index", STANZAS, REPEAT, run_index);
    measure("frame + tree", STANZAS, REPEAT, run_tree);
    xml_parser_free(parser);
    buf_free(&corpus);
    buf_free(&out);
    return 0;
}
