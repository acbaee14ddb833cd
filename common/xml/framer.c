/* The scalar framer, the reference for the SIMD one.
 *
 * A piece is white space, or begins with '<'. framer_begin settles the first case (and junk); otherwise the
 * state machine of framer_step.h runs from where the last call stopped (`scanned`), so that feeding byte by
 * byte stays linear. At the end of a piece the state is that of a fresh piece again. */
#include "common/xml/framer_step.h"

#include <strings.h>

static struct xml_frame frame_error(enum xml_error error)
{
    return (struct xml_frame){.kind = XML_FRAME_ERROR, .error = error};
}

bool framer_begin(struct xml_framer *f, struct span in, struct xml_frame *out)
{
    size_t n = 0;

    if (f->scanned > 0)
        return false;
    *out = (struct xml_frame){.kind = XML_FRAME_MORE};
    if (in.n == 0)
        return true;
    if (in.p[0] == '<')
        return false;
    while (n < in.n && framer_is_space((unsigned char)in.p[n]))
        n++;
    if (n > 0) {
        /* Not begun by it: a line break behind the last element of the stream before a restart (clients that
         * end each element with one are common) would make their XML declaration come too late. */
        *out = (struct xml_frame){.kind = XML_FRAME_SPACE, .n = n};
        return true;
    }
    switch ((unsigned char)in.p[0]) {
    case 0xfe:
    case 0xff:
    case 0x00: /* UTF-16 and UTF-32; RFC 6120 §11.6 knows UTF-8 only */
        *out = frame_error(f->root_open ? XML_NOT_WELL_FORMED : XML_UNSUPPORTED_ENCODING);
        break;
    default: /* U+FEFF is text too, RFC 6120 §11.6 */
        *out = frame_error(f->root_open ? XML_STRAY_TEXT : XML_NOT_WELL_FORMED);
    }
    return true;
}

/* One pseudo-attribute of the declaration: skips white space, takes name='value'. */
static bool decl_attr(struct span *s, struct span *name, struct span *value)
{
    size_t i = 0, start;

    while (i < s->n && framer_is_space((unsigned char)s->p[i]))
        i++;
    if (i == 0)
        return false;
    start = i;
    while (i < s->n && s->p[i] >= 'a' && s->p[i] <= 'z')
        i++;
    *name = span_sub(*s, start, i - start);
    while (i < s->n && framer_is_space((unsigned char)s->p[i]))
        i++;
    if (i == s->n || s->p[i++] != '=')
        return false;
    while (i < s->n && framer_is_space((unsigned char)s->p[i]))
        i++;
    if (i == s->n || (s->p[i] != '"' && s->p[i] != '\''))
        return false;
    *value = span_sub(*s, i + 1, SIZE_MAX);
    value->n = span_index(*value, s->p[i]);
    if (i + 1 + value->n >= s->n)
        return false;
    *s = span_sub(*s, i + 2 + value->n, SIZE_MAX);
    return true;
}

/* XMLDecl of XML 1.0 §2.8: version, encoding, standalone, in this order; only UTF-8. standalone is ignored,
 * which RFC 6120 §11.5 allows. */
static enum xml_error decl_check(struct span decl)
{
    struct span s = span_sub(decl, 5, decl.n - 7); /* between "<?xml" and "?>" */
    struct span name, value;
    int stage = 0;

    if (!decl_attr(&s, &name, &value) || !span_is(name, "version") || value.n < 3 ||
        memcmp(value.p, "1.", 2) != 0)
        return XML_NOT_WELL_FORMED;
    while (decl_attr(&s, &name, &value)) {
        if (stage < 1 && span_is(name, "encoding")) {
            if (value.n != 5 || strncasecmp(value.p, "utf-8", 5) != 0)
                return XML_UNSUPPORTED_ENCODING;
            stage = 1;
        } else if (stage < 2 && span_is(name, "standalone")) {
            if (!span_is(value, "yes") && !span_is(value, "no"))
                return XML_NOT_WELL_FORMED;
            stage = 2;
        } else {
            return XML_NOT_WELL_FORMED;
        }
    }
    for (size_t i = 0; i < s.n; i++)
        if (!framer_is_space((unsigned char)s.p[i]))
            return XML_NOT_WELL_FORMED;
    return XML_OK;
}

struct xml_frame framer_finish(struct xml_framer *f, const struct xml_limits *limits, struct span in,
                               int step, size_t at)
{
    struct xml_frame frame = {.kind = XML_FRAME_MORE};

    if (step == STEP_GO) {
        f->scanned = (uint32_t)at;
        return at >= limits->element_max_bytes ? frame_error(XML_TOO_BIG) : frame;
    }
    f->scanned = 0;
    f->state = FRAMER_CONTENT;
    if (step >= STEP_ERROR)
        return frame_error((enum xml_error)(step - STEP_ERROR));
    f->begun = true;
    frame.n = at;
    switch (step) {
    case STEP_DONE_OPEN:
        frame.kind = XML_FRAME_OPEN;
        f->root_open = true;
        break;
    case STEP_DONE_CLOSE:
        frame.kind = XML_FRAME_CLOSE;
        f->root_open = false;
        break;
    case STEP_DONE_DECL:
        frame.kind = XML_FRAME_DECL;
        if (at < 8 || memcmp(in.p, "<?xml", 5) != 0 || !framer_is_space((unsigned char)in.p[5]))
            return frame_error(XML_RESTRICTED);
        frame.error = decl_check(span_sub(in, 0, at));
        if (frame.error != XML_OK)
            return frame_error(frame.error);
        break;
    default:
        frame.kind = XML_FRAME_ELEMENT;
    }
    return frame;
}

struct xml_frame xml_framer_next_scalar(struct xml_framer *f, const struct xml_limits *limits, struct span in)
{
    struct xml_frame frame;
    size_t end = MIN(in.n, limits->element_max_bytes);
    size_t at = f->scanned;
    int step = STEP_GO;

    if (framer_begin(f, in, &frame))
        return frame;
    while (at < end && step == STEP_GO)
        step = framer_step(f, limits, (unsigned char)in.p[at++]);
    return framer_finish(f, limits, in, step, at);
}
