#include "common/xml/audit.h"

#include "common/log/log.h"

#define LOGGED_MAX 4096

/* Who reads has limits of his own; that something is big is no mistake. */
static bool is_mistake(enum xml_error error)
{
    return error != XML_OK && error != XML_TOO_BIG && error != XML_TOO_DEEP && error != XML_TOO_MANY_ATTRS;
}

static struct xml_parser *parser_for(struct span ns)
{
    static struct {
        char ns[64];
        struct xml_parser *parser;
    } all[4];

    for (size_t i = 0; i < ARRAY_LEN(all) && ns.n < sizeof(all[i].ns); i++) {
        if (all[i].parser == NULL) {
            memcpy(all[i].ns, ns.p, ns.n);
            all[i].parser = xml_parser_new(all[i].ns);
        }
        if (span_is(ns, all[i].ns))
            return all[i].parser;
    }
    return NULL;
}

static bool read_header(struct xml_audit *a, struct span tag)
{
    static struct xml_element e;

    if (xml_parse_header(tag, &e) != XML_OK)
        return false;
    a->parser = NULL;
    for (size_t i = 0; i < e.decl_count; i++)
        if (e.decls[i].prefix.n == 0)
            a->parser = parser_for(e.decls[i].uri);
    return a->parser != NULL;
}

static bool read_element(struct xml_audit *a, struct span raw)
{
    static struct xml_element e;
    enum xml_error error = xml_parse(a->parser, raw, &e);

    return !is_mistake(error) && (error != XML_OK || (e.ns.n > 0 && !e.content_prefixed));
}

static bool read_piece(struct xml_audit *a, struct xml_frame frame, struct span piece)
{
    switch (frame.kind) {
    case XML_FRAME_OPEN:
        return read_header(a, piece);
    case XML_FRAME_ELEMENT:
        return read_element(a, piece);
    case XML_FRAME_CLOSE:
        a->closed = true;
        return span_is(piece, "</stream:stream>");
    case XML_FRAME_ERROR:
        return false;
    case XML_FRAME_DECL:
    case XML_FRAME_SPACE:
    case XML_FRAME_MORE:
        break;
    }
    return true;
}

bool xml_audit_read(struct xml_audit *a, struct span out)
{
    static const struct xml_limits limits = {
        .element_max_bytes = UINT32_MAX, .depth_max = UINT16_MAX, .attrs_max = UINT16_MAX};
    struct span declaration = SPAN("<?xml ");

    buf_add_span(&a->rest, out);
    while (a->rest.n > 0) {
        struct span in = buf_span(&a->rest);
        if (a->closed)
            return false;
        if (a->framer.scanned == 0 && span_eq(span_sub(in, 0, declaration.n), declaration))
            a->framer = (struct xml_framer){0}; /* a new stream, after TLS or SASL */
        struct xml_frame frame = xml_framer_next(&a->framer, &limits, in);
        if (frame.kind == XML_FRAME_MORE)
            break;
        if (!read_piece(a, frame, span_sub(in, 0, frame.n)))
            return false;
        buf_consume(&a->rest, frame.n);
    }
    if (a->rest.n == 0)
        buf_free(&a->rest);
    return true;
}

void xml_audit(struct xml_audit *a, struct span out, const char *peer)
{
    if (xml_audit_read(a, out))
        return;
    log_error("xml", "BUG: what we send is malformed peer=%s bytes=%zu: %.*s", peer, a->rest.n,
              (int)MIN(a->rest.n, LOGGED_MAX), a->rest.p);
    CHECK(!"what is sent can be read");
}

void xml_audit_free(struct xml_audit *a)
{
    buf_free(&a->rest);
}
