/* XML for streams (RFC 6120 §4, §11): the framer finds one top-level element, the parser (which owns libxml2)
 * checks it and reports where things are, the tree is for whoever needs the payload, the writer escapes. */
#ifndef JACKDAW_XML_XML_H
#define JACKDAW_XML_XML_H

#include "common/base/arena.h"
#include "common/base/buf.h"

/* Why XML was refused; each maps to one stream error condition of RFC 6120 §4.9.3. */
enum xml_error {
    XML_OK,
    XML_NOT_WELL_FORMED,      /* also not namespace-well-formed: <not-well-formed/> */
    XML_RESTRICTED,           /* comment, PI, DTD, entity: <restricted-xml/> */
    XML_UNSUPPORTED_ENCODING, /* not UTF-8: <unsupported-encoding/> */
    XML_TOO_BIG,              /* <policy-violation/> */
    XML_TOO_DEEP,             /* <policy-violation/> */
    XML_TOO_MANY_ATTRS        /* <policy-violation/> */
};

/* ---- framer: bytes in, element boundaries out; a few bytes of state per stream ---- */

enum xml_frame_kind {
    XML_FRAME_MORE,    /* the input ends inside an element or between elements */
    XML_FRAME_DECL,    /* <?xml …?> at the very start */
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

/* ---- parser: one whole element, checked and indexed ---- */

#define XML_ATTRS_MAX    32
#define XML_CHILDREN_MAX 16

struct xml_attr {
    struct span name;   /* local name */
    struct span prefix; /* empty = none */
    struct span ns;     /* resolved; empty = none */
    struct span value;  /* decoded; points into the input or into the parser's scratch */
    struct span raw;    /* ` prefix:name='value'` as it stands in the input, with the leading blank */
};

struct xml_child {
    struct span name;
    struct span ns; /* resolved */
    uint32_t start; /* offsets in the input */
    uint32_t end;
};

/* What the parser found. Valid until the next xml_parse on the same parser, or until the input goes. */
struct xml_element {
    struct span name;
    struct span prefix;
    struct span ns;
    struct xml_attr attrs[XML_ATTRS_MAX];
    uint16_t attr_count;
    struct {
        struct span prefix;
        struct span uri;
        struct span raw; /* ` xmlns:p='uri'` as it stands */
    } decls[XML_ATTRS_MAX];
    uint16_t decl_count;
    struct xml_child children[XML_CHILDREN_MAX]; /* the first ones */
    uint32_t child_count;                        /* all of them */
    uint32_t inner_start;                        /* content between the tags, offsets in the input */
    uint32_t inner_end;                          /* equal to inner_start for <x/> */
    bool has_text;                               /* non-blank text directly inside */
};

struct xml_parser;

/* A parser for elements whose inherited default namespace is default_ns ("jabber:client"); `stream` and `xml`
 * are bound as in RFC 6120. One serves all streams of that namespace in the process. */
struct xml_parser *xml_parser_new(const char *default_ns);
void xml_parser_free(struct xml_parser *p);

/* Checks one whole element as framed and fills *out. XML_OK or why it was refused. */
enum xml_error xml_parse(struct xml_parser *p, struct span element, struct xml_element *out);

/* Parses a stream header (a start tag alone, "<stream:stream …>"). The prolog must not be in it. */
enum xml_error xml_parse_header(struct span start_tag, struct xml_element *out);

/* An attribute without namespace by name; NULL p when absent. */
struct span xml_element_attr(const struct xml_element *e, const char *name);

/* ---- tree: a small read-only DOM in an arena ---- */

struct xml_node {
    struct span name;
    struct span ns; /* resolved */
    struct xml_node *parent, *next, *first_child;
    struct xml_tree_attr {
        struct span name, ns, value;
        struct xml_tree_attr *next;
    } * attrs;
    struct span text;    /* all direct text joined, decoded; empty = none */
    uint32_t start, end; /* the element in the input */
};

/* Builds the tree of one element; everything lives in the arena (strings too). NULL when it is not
 * well-formed. */
struct xml_node *xml_tree(struct arena *a, struct span element, const char *default_ns);

/* The first child of that name and namespace (ns NULL = any), or NULL. */
struct xml_node *xml_child(const struct xml_node *parent, const char *name, const char *ns);

/* The next sibling of the same name and namespace, or NULL. */
struct xml_node *xml_sibling(const struct xml_node *node);

/* An attribute without namespace; NULL p when absent. */
struct span xml_attr(const struct xml_node *node, const char *name);

/* ---- writer ---- */

/* Appends text with & < > escaped / as an attribute value with & < > " ' and white space other than blank
 * escaped. */
void xml_add_text(struct buf *out, struct span text);
void xml_add_value(struct buf *out, struct span value);

/* Appends ` name='value'` escaped; nothing when value.p is NULL. */
void xml_add_attr(struct buf *out, const char *name, struct span value);

/* True when every byte sequence is UTF-8 and an XML 1.0 character. */
bool xml_is_text(struct span s);

#endif
