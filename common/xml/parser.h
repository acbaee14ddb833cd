/* The parser: one whole element checked and indexed. Owns libxml2. */
#ifndef JACKDAW_XML_PARSER_H
#define JACKDAW_XML_PARSER_H

#include "common/xml/framer.h"

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
    struct xml_child children[XML_CHILDREN_MAX];  /* the first ones */
    struct span child_defaults[XML_CHILDREN_MAX]; /* ` xmlns='uri'` of a child that declares the parser's
                                                     default namespace again; n 0 = doesn't */
    uint32_t child_count;                         /* all of them */
    uint32_t inner_start;                         /* content between the tags, offsets in the input */
    uint32_t inner_end;                           /* equal to inner_start for <x/>, both at its "/" */
    bool has_text;                                /* non-blank text directly inside */
    bool content_prefixed; /* an element of the parser's default namespace has a prefix (RFC 6120 §4.8.5) */
};

struct xml_parser;

/* A parser for elements whose inherited default namespace is default_ns ("jabber:client", copied); `stream`
 * and `xml` are bound as in RFC 6120, and `db` (XEP-0220) when default_ns is jabber:server. An element that
 * uses `stream` or `db` without declaring it and is not itself of such a namespace is refused, because it
 * could not leave its stream. One parser serves all streams of that namespace in the process. */
struct xml_parser *xml_parser_new(const char *default_ns);

/* Frees a parser and with it what its last result points to. NULL is allowed. */
void xml_parser_free(struct xml_parser *p);

/* Checks one whole element as framed (RFC 6120 §11) and fills *out. XML_OK or why it was refused; then *out
 * means nothing. */
enum xml_error xml_parse(struct xml_parser *p, struct span element, struct xml_element *out);

/* Parses a stream header (a start tag alone, "<stream:stream …>"). The prolog must not be in it. *out is
 * valid until the next xml_parse_header in the process. */
enum xml_error xml_parse_header(struct span start_tag, struct xml_element *out);

/* The value of an attribute without namespace by name; NULL p when absent. */
struct span xml_element_attr(const struct xml_element *e, const char *name);

#endif
