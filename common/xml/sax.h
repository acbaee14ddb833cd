/* Inside the xml room: one libxml2 push context that lives as long as it is above doubt, and the visitor that
 * it reports to. parser.c (index) and tree.c are visitors. */
#ifndef JACKDAW_XML_SAX_H
#define JACKDAW_XML_SAX_H

#include <libxml/parser.h>

#include "common/base/arena.h"
#include "common/xml/framer.h"

struct xml_parser;

/* level: 0 for the element itself, 1 for its children. Offsets and cursor: sax_offset. The strings are
 * libxml2's; name, prefix and uri are interned, so equal strings have equal pointers within one run. */
struct sax_visitor {
    void (*start)(struct xml_parser *p, unsigned level, const xmlChar *name, const xmlChar *prefix,
                  const xmlChar *uri, int attr_count, const xmlChar **attrs);
    void (*end)(struct xml_parser *p, unsigned level);
    void (*text)(struct xml_parser *p, unsigned level, struct span text);
};

struct xml_parser {
    xmlParserCtxtPtr ctxt; /* NULL = to be made before the next run */
    char *default_ns;
    char *prolog; /* the synthetic stream header */
    const xmlChar *default_ns_dict;
    int prolog_ns; /* entries of libxml2's namespace table that the prolog made */
    bool stale;    /* the last run left doubt: make a new context before the next one */
    bool armed;    /* a run is on; the prolog is not reported */
    unsigned level;
    unsigned ends; /* times that level 0 was closed */
    enum xml_error error;
    struct span input;
    struct arena *scratch; /* decoded values of the last run */
    const struct sax_visitor *visitor;
    void *user; /* of the visitor */
};

/* Sets up and takes down the parts. default_ns NULL: nothing is bound (for headers). */
void sax_init(struct xml_parser *p, const char *default_ns);
void sax_free(struct xml_parser *p);

/* Feeds one whole element to the context and judges it. */
enum xml_error sax_run(struct xml_parser *p, struct span element, const struct sax_visitor *visitor,
                       void *user);

/* Feeds a start tag alone to a fresh context. */
enum xml_error sax_run_header(struct xml_parser *p, struct span start_tag, const struct sax_visitor *visitor,
                              void *user);

/* Where libxml2 reads now, as an offset in the input; in an end callback that is behind the end tag. */
size_t sax_offset(const struct xml_parser *p);

/* Where the start tag begins that a start callback reports. '<' cannot stand inside it. */
size_t sax_tag_start(const struct xml_parser *p);

/* True when text of libxml2's stands in its input as it is; else it was decoded. */
bool sax_in_input(const struct xml_parser *p, const xmlChar *text);

/* True when a prefix (not NULL) is bound by the prolog alone, not by the element or inside it. */
bool sax_inherits(const struct xml_parser *p, const xmlChar *prefix);

/* Refuses the element; the first reason wins. */
void sax_refuse(struct xml_parser *p, enum xml_error error);

#endif
