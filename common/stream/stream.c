/* The stream engine.
 *
 * stream_next frames the input where it lies. An element that is split over two inputs is gathered in
 * `partial`: input is appended in growing steps, and what was appended beyond the element's end stays in the
 * caller's input. Since the framer remembers how far it looked, feeding byte by byte costs no more than
 * feeding at once. `partial` holds the element until the next call and is freed then, so that an idle stream
 * owns nothing. */
#include "common/stream/stream.h"

#include "common/stanza/ns.h"

#define STREAM_STEP_MIN_BYTES 512

static struct xml_element last_element; /* what the last event of the process showed */

void stream_init(struct stream *s, const struct stream_kind *kind, enum stream_side side)
{
    *s = (struct stream){.kind = kind, .side = (uint8_t)side};
}

void stream_restart(struct stream *s)
{
    /* What the last event shows stays valid; the next stream_next frees it. */
    xml_nesting_free(&s->nesting);
    *s = (struct stream){.kind = s->kind, .side = s->side, .partial = s->partial};
}

static void drop_partial(struct stream *s)
{
    buf_free(&s->partial);
    xml_nesting_free(&s->nesting);
}

void stream_free(struct stream *s)
{
    drop_partial(s);
}

static struct stream_event event_failed(struct stream *s, enum stream_error error)
{
    s->failed = true;
    return (struct stream_event){.kind = STREAM_FAILED, .error = error};
}

/* "1.0" → 1; 0 for none or an old one; -1 when it isn't a version. RFC 6120 §4.7.5: numbers, not strings. */
static int parse_version(struct span value)
{
    uint64_t major, minor;
    size_t dot;

    if (value.p == NULL)
        return 0;
    dot = span_index(value, '.');
    if (!span_to_u64(span_sub(value, 0, dot), UINT32_MAX, &major) || dot == value.n ||
        !span_to_u64(span_sub(value, dot + 1, SIZE_MAX), UINT32_MAX, &minor))
        return -1;
    return (int)MIN(major, UINT8_MAX);
}

/* True when uri is the content namespace of this stream, or makes it one of the other kind. */
static bool is_content(struct stream *s, struct span uri)
{
    const struct stream_kind *other = s->kind->other;

    if (other != NULL && span_is(uri, other->content_ns))
        s->kind = other;
    return span_is(uri, s->kind->content_ns);
}

/* The declarations of a header: the content namespace, `stream`, `xml`, on server streams `db`, and no other,
 * because elements are parsed by themselves and travel (RFC 6120 §4.8.5). The content namespace need not be
 * the default one (§4.8.2): then each element declares it, and a prefix for it is of no use, as elements may
 * not have one. */
static bool header_decls_ok(struct stream *s, const struct xml_element *e)
{
    s->prefix_free = e->prefix.n == 0;
    s->qualified = true;
    for (size_t i = 0; i < e->decl_count; i++) {
        struct span prefix = e->decls[i].prefix, uri = e->decls[i].uri;
        if (prefix.n == 0) {
            if (s->prefix_free || uri.n == 0)
                continue; /* the stream namespace, which is no content namespace; or none */
            if (!is_content(s, uri))
                return false;
            s->qualified = false;
        } else if (span_is(prefix, "db")) {
            if (!span_is(uri, NS_DIALBACK))
                return false;
        } else if (span_is(prefix, "stream")) {
            if (!span_is(uri, NS_STREAM))
                return false;
        } else if (!span_is(prefix, "xml") && !is_content(s, uri)) {
            return false;
        }
    }
    return true;
}

static struct stream_event take_header(struct stream *s, struct span tag)
{
    struct xml_element *e = &last_element;
    enum xml_error xml = xml_parse_header(tag, e);
    int version;

    if (xml != XML_OK)
        return event_failed(s, stream_error_of_xml(xml));
    if (!span_is(e->ns, NS_STREAM))
        return event_failed(s, STREAM_E_INVALID_NAMESPACE);
    if (!span_is(e->name, "stream"))
        return event_failed(s, STREAM_E_BAD_FORMAT);
    if (e->prefix.n > 0 && !span_is(e->prefix, "stream"))
        return event_failed(s, STREAM_E_BAD_NAMESPACE_PREFIX);
    if (!header_decls_ok(s, e))
        return event_failed(s, STREAM_E_INVALID_NAMESPACE);
    version = parse_version(xml_element_attr(e, "version"));
    if (version < 0)
        return event_failed(s, STREAM_E_UNSUPPORTED_VERSION);
    s->version = (uint8_t)version;
    s->header_seen = true;
    return (struct stream_event){.kind = STREAM_OPENED, .raw = tag, .element = e};
}

/* A stanza or another element that belongs to no content namespace of this stream (RFC 6120 §4.8.3). */
static bool is_foreign_content(const struct stream *s, struct span ns)
{
    return !span_is(ns, s->kind->content_ns) &&
           (span_is(ns, NS_CLIENT) || span_is(ns, NS_SERVER) || span_is(ns, NS_COMPONENT));
}

/* A piece was refused. A wrong end tag before the place of the error goes first, as it does when the bytes
 * come one by one; so the answer does not depend on how they are split. */
static enum stream_error piece_error(struct stream *s, struct span piece, enum xml_error error)
{
    struct xml_nesting *nesting = NULL;
    bool nested = true;

    if (s->header_seen && piece.n > 0 && piece.p[0] == '<')
        nested = xml_nesting_follow(&nesting, &s->kind->limits, piece);
    xml_nesting_free(&nesting);
    return nested ? stream_error_of_xml(error) : STREAM_E_NOT_WELL_FORMED;
}

/* The parser takes the content namespace for the default one; where it is not, an element without a
 * declaration of its own is of what the header made the default. */
static void undo_default(const struct stream *s, struct xml_element *e)
{
    if (!s->qualified || e->prefix.n > 0)
        return;
    for (size_t i = 0; i < e->decl_count; i++)
        if (e->decls[i].prefix.n == 0)
            return;
    e->ns = s->prefix_free ? SPAN(NS_STREAM) : SPAN("");
}

static struct stream_event take_element(struct stream *s, struct span raw)
{
    struct xml_element *e = &last_element;
    enum xml_error xml = xml_parse(s->kind->parser, raw, e);

    if (xml != XML_OK)
        return event_failed(s, piece_error(s, raw, xml));
    undo_default(s, e);
    if (is_foreign_content(s, e->ns))
        return event_failed(s, STREAM_E_INVALID_NAMESPACE);
    if (e->content_prefixed)
        return event_failed(s, STREAM_E_BAD_NAMESPACE_PREFIX);
    return (struct stream_event){.kind = STREAM_ELEMENT, .raw = raw, .element = e};
}

/* The root's name is "stream:stream", or "stream", by then. */
static struct stream_event take_close(struct stream *s, struct span tag)
{
    struct span end = s->prefix_free ? SPAN("</stream") : SPAN("</stream:stream");

    if (tag.n <= end.n || !span_eq(span_sub(tag, 0, end.n), end))
        return event_failed(s, STREAM_E_NOT_WELL_FORMED);
    for (size_t i = end.n; i + 1 < tag.n; i++)
        if (strchr(" \t\r\n", tag.p[i]) == NULL || tag.p[i] == '\0')
            return event_failed(s, STREAM_E_NOT_WELL_FORMED);
    s->closed_seen = true;
    return (struct stream_event){.kind = STREAM_CLOSED};
}

/* An incomplete element, or header: goes on with more input, unless it is wrong already. */
static bool still_good(struct stream *s, struct xml_frame *frame)
{
    if (!s->header_seen || xml_nesting_follow(&s->nesting, &s->kind->limits, buf_span(&s->partial)))
        return true;
    *frame = (struct xml_frame){.kind = XML_FRAME_ERROR, .error = XML_NOT_WELL_FORMED};
    return false;
}

/* Finds the next piece and cuts it from *in; with XML_FRAME_ERROR the piece is what was looked at. False:
 * more input is needed and all of *in was taken. */
static bool next_piece(struct stream *s, struct span *in, struct xml_frame *frame, struct span *piece)
{
    size_t step = STREAM_STEP_MIN_BYTES;

    if (s->partial.n == 0) {
        *frame = xml_framer_next(&s->framer, &s->kind->limits, *in);
        if (frame->kind != XML_FRAME_MORE) {
            *piece = frame->kind == XML_FRAME_ERROR ? *in : span_sub(*in, 0, frame->n);
            *in = span_sub(*in, piece->n, SIZE_MAX);
            return true;
        }
        buf_add_span(&s->partial, *in);
        *in = span_sub(*in, in->n, 0);
        *piece = buf_span(&s->partial);
        return !still_good(s, frame);
    }
    while (in->n > 0) {
        size_t before = s->partial.n;
        size_t taken = MIN(step, in->n);
        buf_add(&s->partial, in->p, taken);
        *frame = xml_framer_next(&s->framer, &s->kind->limits, buf_span(&s->partial));
        if (frame->kind != XML_FRAME_MORE && frame->kind != XML_FRAME_ERROR)
            s->partial.n = frame->n;
        *in = span_sub(*in, frame->kind == XML_FRAME_MORE ? taken : s->partial.n - before, SIZE_MAX);
        *piece = buf_span(&s->partial);
        if (frame->kind != XML_FRAME_MORE || !still_good(s, frame))
            return true;
        step *= 2;
    }
    return false;
}

struct stream_event stream_next(struct stream *s, struct span *in)
{
    struct stream_event more = {.kind = STREAM_MORE};
    struct xml_frame frame;
    struct span piece;

    if (s->partial.n > 0 && (s->framer.scanned == 0 || s->failed))
        drop_partial(s); /* the element of the last event, or of the stream before a restart */
    while (in->n > 0) {
        if (s->failed || s->closed_seen) {
            *in = span_sub(*in, in->n, 0);
            break;
        }
        if (!next_piece(s, in, &frame, &piece))
            break;
        switch (frame.kind) {
        case XML_FRAME_OPEN:
            return take_header(s, piece);
        case XML_FRAME_ELEMENT:
            return take_element(s, piece);
        case XML_FRAME_CLOSE:
            return take_close(s, piece);
        case XML_FRAME_ERROR:
            *in = span_sub(*in, in->n, 0);
            return event_failed(s, piece_error(s, piece, frame.error));
        case XML_FRAME_DECL:
        case XML_FRAME_SPACE:
        case XML_FRAME_MORE:
            drop_partial(s);
            break;
        }
    }
    return more;
}

void stream_open(struct stream *s, const struct stream_header *header, struct buf *out)
{
    buf_add_lit(out, "<?xml version='1.0'?><stream:stream xmlns='");
    buf_add_str(out, s->kind->content_ns);
    buf_add_lit(out, "' xmlns:stream='" NS_STREAM "'");
    if (strcmp(s->kind->content_ns, NS_SERVER) == 0)
        buf_add_lit(out, " xmlns:db='" NS_DIALBACK "'");
    if (header->from.n > 0)
        xml_add_attr(out, "from", header->from);
    if (header->to.n > 0)
        xml_add_attr(out, "to", header->to);
    if (header->id.n > 0)
        xml_add_attr(out, "id", header->id);
    if (header->lang.n > 0)
        xml_add_attr(out, "xml:lang", header->lang);
    if (header->version)
        buf_add_lit(out, " version='1.0'");
    buf_add_char(out, '>');
    s->header_sent = true;
}

static void fail(struct stream *s, const struct stream_header *header, enum stream_error error,
                 const char *content, const char *text, const char *app, struct buf *out)
{
    if (s->closed_sent)
        return;
    if (!s->header_sent)
        stream_open(s, header, out);
    buf_addf(out, "<stream:error><%s xmlns='" NS_STREAM_ERRORS "'", stream_error_name(error));
    if (content != NULL) {
        buf_add_char(out, '>');
        xml_add_text(out, span_of(content));
        buf_addf(out, "</%s>", stream_error_name(error));
    } else {
        buf_add_lit(out, "/>");
    }
    if (text != NULL) {
        buf_add_lit(out, "<text xmlns='" NS_STREAM_ERRORS "' xml:lang='en'>");
        xml_add_text(out, span_of(text));
        buf_add_lit(out, "</text>");
    }
    if (app != NULL)
        buf_add_str(out, app);
    buf_add_lit(out, "</stream:error></stream:stream>");
    s->failed = true;
    s->closed_sent = true;
}

void stream_fail(struct stream *s, const struct stream_header *header, enum stream_error error,
                 const char *text, const char *app, struct buf *out)
{
    fail(s, header, error, NULL, text, app, out);
}

void stream_redirect(struct stream *s, const struct stream_header *header, const char *host_port,
                     struct buf *out)
{
    fail(s, header, STREAM_E_SEE_OTHER_HOST, host_port, NULL, NULL, out);
}

void stream_close(struct stream *s, struct buf *out)
{
    static const struct stream_header bare = {.version = true};

    if (s->closed_sent)
        return;
    if (!s->header_sent)
        stream_open(s, &bare, out);
    buf_add_lit(out, "</stream:stream>");
    s->closed_sent = true;
}
