/* The framer: bytes in, boundaries of first-level elements out; a few bytes of state per stream. */
#ifndef JACKDAW_XML_FRAMER_H
#define JACKDAW_XML_FRAMER_H

#include "common/base/span.h"

/* Why XML was refused; each maps to one stream error condition of RFC 6120 §4.9.3. */
enum xml_error {
    XML_OK,
    XML_NOT_WELL_FORMED,      /* also not namespace-well-formed: <not-well-formed/> */
    XML_STRAY_TEXT,           /* text between first-level elements: <bad-format/> */
    XML_RESTRICTED,           /* comment, PI, DTD, entity: <restricted-xml/> */
    XML_UNSUPPORTED_ENCODING, /* not UTF-8: <unsupported-encoding/> */
    XML_TOO_BIG,              /* <policy-violation/> */
    XML_TOO_DEEP,             /* <policy-violation/> */
    XML_TOO_MANY_ATTRS        /* <policy-violation/> */
};

enum xml_frame_kind {
    XML_FRAME_MORE,    /* the input ends inside an element or between elements */
    XML_FRAME_DECL,    /* <?xml …?> at the start, behind white space at most */
    XML_FRAME_OPEN,    /* the root's start tag (the stream header) */
    XML_FRAME_ELEMENT, /* a whole child element of the root */
    XML_FRAME_SPACE,   /* white space between elements (a keep-alive) */
    XML_FRAME_CLOSE,   /* the root's end tag */
    XML_FRAME_ERROR
};

struct xml_limits {
    uint32_t element_max_bytes;
    uint16_t depth_max; /* of elements below the root */
    uint16_t attrs_max; /* of one element */
};

/* Zero-initialise, and again at a stream restart. rootless: WebSocket framing, every element is a top-level
 * one. */
struct xml_framer {
    uint32_t scanned; /* bytes of the current piece that need not be looked at again */
    uint16_t depth;
    uint16_t attrs;
    uint8_t state;
    uint8_t quote;
    bool begun; /* something but white space was taken: an XML declaration would come too late */
    bool root_open;
    bool rootless;
};

struct xml_frame {
    enum xml_frame_kind kind;
    enum xml_error error; /* with XML_FRAME_ERROR */
    size_t n;             /* bytes of the piece, from the start of the input */
};

/* Looks at in.p[0..n), the not yet consumed input of a stream (the start of a piece; the same start with more
 * bytes behind it after XML_FRAME_MORE). The caller consumes frame.n bytes of any other answer. Rejects what
 * libxml2 would let pass or wait for. Uses SIMD where the CPU has it; xml_framer_next_scalar is the reference
 * that the fuzz target holds it against. */
struct xml_frame xml_framer_next(struct xml_framer *f, const struct xml_limits *limits, struct span in);
struct xml_frame xml_framer_next_scalar(struct xml_framer *f, const struct xml_limits *limits,
                                        struct span in);

#endif
