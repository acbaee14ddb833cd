/* What was rewritten survives the envelope: a stanza of a client, or of a server, becomes a frame that is
 * read again with the same index, and that is no larger than the bus was promised (WIRE_GROWTH). The first
 * byte chooses the stream's namespace and whether `from` is stamped; each byte 01 stands for 9,000 letters,
 * so that small inputs reach large sizes. */
#include <stdlib.h>

#include "common/stanza/stanza.h"
#include "common/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SCALE     9000
#define INPUT_MAX 400000

static struct xml_parser *client, *server;

static void expand(struct buf *in, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size && in->n < INPUT_MAX; i++) {
        if (data[i] != 1) {
            buf_add_char(in, (char)data[i]);
            continue;
        }
        memset(buf_reserve(in, SCALE), 'A', SCALE);
        in->n += SCALE;
    }
}

static void check_same(const struct stanza *a, const struct stanza *b)
{
    CHECK(a->kind == b->kind && a->type == b->type && a->child_count == b->child_count);
    CHECK(span_eq(a->raw, b->raw) && span_eq(a->id, b->id) && span_eq(a->lang, b->lang));
    CHECK((a->id.p == NULL) == (b->id.p == NULL));
    CHECK(span_eq(jid_full(&a->from), jid_full(&b->from)) && span_eq(jid_full(&a->to), jid_full(&b->to)));
    for (unsigned i = 0; i < a->child_count; i++) {
        const struct xml_child *x = &a->children[i], *y = &b->children[i];
        CHECK(span_eq(x->ns, y->ns) && span_eq(x->name, y->name) && x->start == y->start && x->end == y->end);
    }
}

/* Encoded, decoded and the same; encoded again byte for byte the same. */
static void check_travels(struct wire_frame *f, size_t taken_in)
{
    static struct wire_frame g;
    struct buf out = {0}, again = {0};
    wire_add(&out, f);
    CHECK(out.n <= wire_size(f) && wire_size(f) <= WIRE_GROWTH * taken_in + WIRE_ROOM);
    CHECK(wire_decode(buf_span(&out), &g));
    check_same(&f->stanza, &g.stanza);
    wire_add(&again, &g);
    CHECK(span_eq(buf_span(&out), buf_span(&again)));
    buf_free(&out);
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct xml_element e;
    static struct wire_frame f;
    struct buf in = {0}, out = {0}, error = {0};
    if (size < 1)
        return 0;
    if (client == NULL) {
        client = xml_parser_new(NS_CLIENT);
        server = xml_parser_new(NS_SERVER);
    }
    expand(&in, data + 1, size - 1);
    memset(&f, 0, offsetof(struct wire_frame, stanza));
    struct span from = (data[0] & 2) != 0 ? SPAN("j@a.example/it's <&\"") : (struct span){NULL, 0};
    if (xml_parse((data[0] & 1) != 0 ? server : client, buf_span(&in), &e) == XML_OK &&
        stanza_rewrite(&e, buf_span(&in), from, SPAN("en"), &out, &f.stanza) != STANZA_NOT_A_STANZA) {
        f.kind = WIRE_STANZA;
        f.has_stanza = true;
        check_travels(&f, in.n);
        /* The error reply to it travels, too. */
        stanza_add_error(&error, &f.stanza, SPAN("a.example"), STANZA_E_BAD_REQUEST, "a & b");
        CHECK(stanza_index(client, buf_span(&error), &f.stanza));
        check_travels(&f, in.n);
    }
    buf_free(&in);
    buf_free(&out);
    buf_free(&error);
    return 0;
}
