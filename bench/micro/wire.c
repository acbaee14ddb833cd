/* What the envelope costs: a STANZA frame and a DELIVER frame of a chat message, written and read. */
#include "common/wire/wire.h"
#include "bench/micro/measure.h"
#include "common/xml/parser.h"

#define UNITS 1024

static struct wire_frame stanza, deliver;
static char encoded[4096];

static void encode(const struct wire_frame *f)
{
    for (unsigned i = 0; i < UNITS; i++)
        checksum += wire_encode(f, encoded);
}

static void decode(const struct wire_frame *f)
{
    struct wire_frame out;
    size_t n = wire_encode(f, encoded);

    for (unsigned i = 0; i < UNITS; i++) {
        CHECK(wire_decode(span_make(encoded, n), &out));
        checksum += out.n;
    }
}

static void run_encode_stanza(void)
{
    encode(&stanza);
}

static void run_decode_stanza(void)
{
    decode(&stanza);
}

static void run_encode_deliver(void)
{
    encode(&deliver);
}

static void run_decode_deliver(void)
{
    decode(&deliver);
}

int main(int argc, char **argv)
{
    static const char text[] =
        "<message to='romeo@chat.example.org/orchard' type='chat' id='m-1'><body>Art thou not Romeo, and a "
        "Montague?</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>";
    struct xml_parser *parser = xml_parser_new(NS_CLIENT);
    struct xml_element e;
    struct buf raw = {0}, targets = {0};

    measure_only = argc > 1 ? argv[1] : NULL;
    CHECK(xml_parse(parser, span_of(text), &e) == XML_OK);
    stanza = (struct wire_frame){
        .kind = WIRE_STANZA, .slot = 77, .epoch = 3, .at_ms = 1700000000000, .sid = 4711, .n = 12};
    CHECK(stanza_rewrite(&e, span_of(text), SPAN("juliet@chat.example.org/balcony"), SPAN("en"), &raw,
                         &stanza.stanza) == STANZA_GOOD);
    stanza.has_stanza = true;
    wire_target_add(&targets, &(struct wire_target){.sid = 4712, .n = 9});
    deliver = (struct wire_frame){
        .kind = WIRE_DELIVER, .slot = 77, .epoch = 3, .raw = buf_span(&raw), .targets = buf_span(&targets)};
    measure("wire, STANZA written", UNITS, 100, run_encode_stanza);
    measure("wire, STANZA read", UNITS, 100, run_decode_stanza);
    measure("wire, DELIVER written", UNITS, 100, run_encode_deliver);
    measure("wire, DELIVER read", UNITS, 100, run_decode_deliver);
    xml_parser_free(parser);
    buf_free(&raw);
    buf_free(&targets);
    return 0;
}
