/* Inside the xml room: the framer's state machine, one byte at a time. framer.c runs it over every byte;
 * framer_simd.c skips the bytes that cannot change a state and runs the same steps over the others, so the
 * two cannot disagree on what a byte means. */
#ifndef JACKDAW_XML_FRAMER_STEP_H
#define JACKDAW_XML_FRAMER_STEP_H

#include "common/xml/framer.h"

enum framer_state {
    FRAMER_CONTENT, /* text, inside an element or between elements */
    FRAMER_LT,      /* right behind '<' */
    FRAMER_TAG,     /* in a start tag, outside quotes */
    FRAMER_SLASH,   /* in a start tag, right behind '/' */
    FRAMER_QUOTE,   /* in an attribute value; `quote` ends it */
    FRAMER_END,     /* in an end tag */
    FRAMER_BANG,    /* behind "<!", `quote` bytes of "[CDATA[" seen */
    FRAMER_CDATA,   /* in a CDATA section, `quote` counts "]" (at most 2) */
    FRAMER_DECL     /* in the XML declaration; `quote` is 1 right behind '?' */
};

/* What a step may say besides "go on". */
enum framer_step {
    STEP_GO,
    STEP_DONE_OPEN,
    STEP_DONE_ELEMENT,
    STEP_DONE_CLOSE,
    STEP_DONE_DECL,
    STEP_ERROR /* + enum xml_error */
};

static inline bool framer_is_space(unsigned char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* A byte that may begin a name; the parser knows the exact rule for what is not ASCII. */
static inline bool framer_is_name_start(unsigned char c)
{
    unsigned char lower = c | 0x20;

    return (lower >= 'a' && lower <= 'z') || c == '_' || c == ':' || c >= 0x80;
}

static inline __attribute__((always_inline)) int framer_step_lt(struct xml_framer *f,
                                                                const struct xml_limits *limits,
                                                                unsigned char c)
{
    bool top = !f->root_open && !f->rootless && f->depth == 0;

    if (framer_is_name_start(c)) {
        if (!top && f->depth >= limits->depth_max)
            return STEP_ERROR + XML_TOO_DEEP;
        f->attrs = 0;
        f->state = FRAMER_TAG;
        return STEP_GO;
    }
    if (c == '/') {
        if (f->depth == 0 && !f->root_open)
            return STEP_ERROR + XML_NOT_WELL_FORMED;
        f->state = FRAMER_END;
        return STEP_GO;
    }
    if (c == '!') {
        f->state = FRAMER_BANG;
        f->quote = 0;
        return STEP_GO;
    }
    if (c == '?') {
        if (!top || f->begun)
            return STEP_ERROR + XML_RESTRICTED;
        f->state = FRAMER_DECL;
        f->quote = 0;
        return STEP_GO;
    }
    if (c == '\0' && top)
        return STEP_ERROR + XML_UNSUPPORTED_ENCODING; /* UTF-16, low byte first */
    return STEP_ERROR + XML_NOT_WELL_FORMED;
}

static inline __attribute__((always_inline)) int framer_step_tag(struct xml_framer *f,
                                                                 const struct xml_limits *limits,
                                                                 unsigned char c)
{
    switch (c) {
    case '>':
        f->state = FRAMER_CONTENT;
        if (f->depth == 0 && !f->root_open && !f->rootless)
            return STEP_DONE_OPEN;
        f->depth++;
        return STEP_GO;
    case '/':
        f->state = FRAMER_SLASH;
        return STEP_GO;
    case '"':
    case '\'':
        f->quote = c;
        f->state = FRAMER_QUOTE;
        return STEP_GO;
    case '=':
        if (f->attrs >= limits->attrs_max)
            return STEP_ERROR + XML_TOO_MANY_ATTRS;
        f->attrs++;
        return STEP_GO;
    case '<':
        return STEP_ERROR + XML_NOT_WELL_FORMED;
    default:
        return STEP_GO;
    }
}

static inline __attribute__((always_inline)) int framer_step_end(struct xml_framer *f, unsigned char c)
{
    if (c == '<')
        return STEP_ERROR + XML_NOT_WELL_FORMED;
    if (c != '>')
        return STEP_GO;
    f->state = FRAMER_CONTENT;
    if (f->depth == 0)
        return STEP_DONE_CLOSE;
    return --f->depth == 0 ? STEP_DONE_ELEMENT : STEP_GO;
}

/* Everything behind "<!" but a CDATA section inside an element is a comment or a DTD. */
static inline __attribute__((always_inline)) int framer_step_bang(struct xml_framer *f, unsigned char c)
{
    static const char open[] = "[CDATA[";

    if (f->depth == 0 || c != (unsigned char)open[f->quote])
        return STEP_ERROR + XML_RESTRICTED;
    if (++f->quote == sizeof(open) - 1) {
        f->state = FRAMER_CDATA;
        f->quote = 0;
    }
    return STEP_GO;
}

/* Feeds one byte. STEP_GO, a STEP_DONE_… (the byte is the piece's last), or STEP_ERROR + why. */
static inline __attribute__((always_inline)) int framer_step(struct xml_framer *f,
                                                             const struct xml_limits *limits, unsigned char c)
{
    switch ((enum framer_state)f->state) {
    case FRAMER_CONTENT:
        if (c == '<')
            f->state = FRAMER_LT;
        return STEP_GO;
    case FRAMER_LT:
        return framer_step_lt(f, limits, c);
    case FRAMER_TAG:
        return framer_step_tag(f, limits, c);
    case FRAMER_SLASH:
        if (c != '>' || (f->depth == 0 && !f->root_open && !f->rootless))
            return STEP_ERROR + XML_NOT_WELL_FORMED; /* also a root that ends at once: no stream */
        f->state = FRAMER_CONTENT;
        return f->depth == 0 ? STEP_DONE_ELEMENT : STEP_GO;
    case FRAMER_QUOTE:
        if (c == f->quote)
            f->state = FRAMER_TAG;
        else if (c == '<')
            return STEP_ERROR + XML_NOT_WELL_FORMED;
        return STEP_GO;
    case FRAMER_END:
        return framer_step_end(f, c);
    case FRAMER_BANG:
        return framer_step_bang(f, c);
    case FRAMER_CDATA:
        if (c == ']')
            f->quote = f->quote < 2 ? f->quote + 1 : 2;
        else if (c == '>' && f->quote == 2)
            f->state = FRAMER_CONTENT;
        else
            f->quote = 0;
        return STEP_GO;
    case FRAMER_DECL:
        if (c == '>' && f->quote == 1)
            return STEP_DONE_DECL;
        f->quote = c == '?';
        return c == '<' ? STEP_ERROR + XML_NOT_WELL_FORMED : STEP_GO;
    }
    return STEP_ERROR + XML_NOT_WELL_FORMED;
}

/* What stands at the start of a piece, before any scanning: true when *out is the answer. */
bool framer_begin(struct xml_framer *f, struct span in, struct xml_frame *out);

/* The answer after the scan stopped with `step` behind `at` bytes. */
struct xml_frame framer_finish(struct xml_framer *f, const struct xml_limits *limits, struct span in,
                               int step, size_t at);

#if defined(__x86_64__)
/* The variants that xml_framer_next chooses from, for tests and measurements; _avx2 only when
 * framer_has_avx2(). */
struct xml_frame xml_framer_next_sse2(struct xml_framer *f, const struct xml_limits *limits, struct span in);
struct xml_frame xml_framer_next_avx2(struct xml_framer *f, const struct xml_limits *limits, struct span in);
bool framer_has_avx2(void);
#endif

#endif
