/* libxml2 at arm's length.
 *
 * One push context per process and namespace is fed a synthetic stream header once and then one whole element
 * after the other, so that idle streams own no parser and the context stays hot. Nothing of one element may
 * reach the next: after each, the context must stand exactly where it stood, behind all input at depth 1,
 * with no error of any kind; otherwise it is thrown away and made anew before the next element. The same
 * happens when its dictionary, which never shrinks, has taken in many names, and after a big element, whose
 * buffer it would keep.
 *
 * libxml2 reports namespace errors without stopping, so every report counts as a refusal, but one: a
 * namespace name that isn't a URI is legal (Namespaces in XML §3 compares strings) and clients do send such.
 */
#include "common/xml/sax.h"

#include <libxml/SAX2.h>
#include <limits.h>
#include <stdlib.h>

#include "common/log/log.h"

/* A context's dictionary starts with about 10 names; the protocol's own are a few hundred. */
#define SAX_NAMES_MAX        2048
#define SAX_KEEP_ELEMENT_MAX (64 * 1024)
#define SAX_SCRATCH_CHUNK    4096
#define SAX_HEADER_DECL      "<?xml version='1.0'?>"

void sax_refuse(struct xml_parser *p, enum xml_error error)
{
    if (p->error == XML_OK)
        p->error = error;
}

size_t sax_offset(const struct xml_parser *p)
{
    const struct _xmlParserInput *in = p->ctxt->input;
    size_t left = (size_t)(in->end - in->cur);

    return left <= p->input.n ? p->input.n - left : 0;
}

size_t sax_tag_start(const struct xml_parser *p)
{
    const char *lt = memrchr(p->input.p, '<', sax_offset(p));

    return lt != NULL ? (size_t)(lt - p->input.p) : 0;
}

bool sax_in_input(const struct xml_parser *p, const xmlChar *text)
{
    return text >= p->ctxt->input->base && text < p->ctxt->input->end;
}

bool sax_inherits(const struct xml_parser *p, const xmlChar *prefix)
{
    for (int i = p->ctxt->nsNr - 2; i >= 0; i -= 2)
        if (p->ctxt->nsTab[i] == prefix)
            return i < p->prolog_ns;
    return false;
}

static void on_start(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri, int ns_count,
                     const xmlChar **namespaces, int attr_count, int defaulted_count, const xmlChar **attrs)
{
    struct xml_parser *p = user;

    (void)ns_count, (void)namespaces, (void)defaulted_count;
    if (!p->armed)
        return;
    p->visitor->start(p, p->level, name, prefix, uri, attr_count, attrs);
    p->level++;
}

static void on_end(void *user, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    struct xml_parser *p = user;

    (void)name, (void)prefix, (void)uri;
    if (!p->armed)
        return;
    if (p->level == 0) { /* the root's end tag inside an element: the framer does not let it through */
        sax_refuse(p, XML_NOT_WELL_FORMED);
        return;
    }
    if (--p->level == 0)
        p->ends++;
    if (p->visitor->end != NULL)
        p->visitor->end(p, p->level);
}

static void on_text(void *user, const xmlChar *text, int n)
{
    struct xml_parser *p = user;

    if (!p->armed)
        return;
    if (p->level == 0)
        sax_refuse(p, XML_NOT_WELL_FORMED); /* beside the element */
    else if (p->visitor->text != NULL)
        p->visitor->text(p, p->level - 1, span_make(text, (size_t)n));
}

static void on_comment(void *user, const xmlChar *text)
{
    (void)text;
    sax_refuse(user, XML_RESTRICTED);
}

static void on_instruction(void *user, const xmlChar *target, const xmlChar *data)
{
    (void)target, (void)data;
    sax_refuse(user, XML_RESTRICTED);
}

static void on_subset(void *user, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    (void)name, (void)external, (void)system;
    sax_refuse(user, XML_RESTRICTED);
}

/* Asked only for names that are not predefined. */
static xmlEntityPtr on_entity(void *user, const xmlChar *name)
{
    (void)name;
    sax_refuse(user, XML_RESTRICTED);
    return NULL;
}

static void on_reference(void *user, const xmlChar *name)
{
    (void)name;
    sax_refuse(user, XML_RESTRICTED);
}

static void on_error(void *user, xmlErrorPtr error)
{
    struct xml_parser *p = user;

    p->stale = true;
    if (error->code != XML_WAR_NS_URI && error->code != XML_WAR_NS_URI_RELATIVE)
        sax_refuse(p, XML_NOT_WELL_FORMED);
}

static void sax_drop(struct xml_parser *p)
{
    if (p->ctxt == NULL)
        return;
    if (p->ctxt->myDoc != NULL)
        xmlFreeDoc(p->ctxt->myDoc);
    p->ctxt->myDoc = NULL;
    xmlFreeParserCtxt(p->ctxt);
    p->ctxt = NULL;
}

/* Text that libxml2 would print by itself goes nowhere. */
static void on_generic_error(void *user, const char *format, ...)
{
    (void)user, (void)format;
}

static bool sax_make(struct xml_parser *p)
{
    static const xmlSAXHandler handler = {
        .initialized = XML_SAX2_MAGIC,
        .startElementNs = on_start,
        .endElementNs = on_end,
        .characters = on_text,
        .ignorableWhitespace = on_text,
        .cdataBlock = on_text,
        .comment = on_comment,
        .processingInstruction = on_instruction,
        .internalSubset = on_subset,
        .getEntity = on_entity,
        .reference = on_reference,
        .serror = on_error,
    };
    xmlSAXHandler copy = handler;

    sax_drop(p);
    p->armed = false;
    p->error = XML_OK;
    p->stale = false;
    xmlSetGenericErrorFunc(NULL, on_generic_error);
    p->ctxt = xmlCreatePushParserCtxt(&copy, p, NULL, 0, NULL);
    CHECK(p->ctxt != NULL);
    /* NOENT: or else an & in an attribute value is reported as "&#38;". Other entities are refused anyway. */
    xmlCtxtUseOptions(p->ctxt, XML_PARSE_NONET | XML_PARSE_IGNORE_ENC | XML_PARSE_NOENT);
    xmlParseChunk(p->ctxt, p->prolog, (int)strlen(p->prolog), 0);
    p->default_ns_dict =
        xmlDictLookup(p->ctxt->dict, BAD_CAST(p->default_ns != NULL ? p->default_ns : ""), -1);
    p->prolog_ns = p->ctxt->nsNr;
    return p->error == XML_OK && !p->stale;
}

void sax_init(struct xml_parser *p, const char *default_ns)
{
    *p = (struct xml_parser){.scratch = arena_new(SAX_SCRATCH_CHUNK)};
    if (default_ns == NULL) {
        p->prolog = xstrdup(SAX_HEADER_DECL);
        return;
    }
    p->default_ns = xstrdup(default_ns);
    p->prolog = xasprintf(
        SAX_HEADER_DECL "<stream:stream xmlns='%s' xmlns:stream='http://etherx.jabber.org/streams'%s>",
        default_ns, strcmp(default_ns, "jabber:server") == 0 ? " xmlns:db='jabber:server:dialback'" : "");
}

void sax_free(struct xml_parser *p)
{
    sax_drop(p);
    arena_free(p->scratch);
    free(p->default_ns);
    free(p->prolog);
}

/* Feeds the input. XML_OK: it closed the element `ends` times, left `level` open, and the context stands
 * behind all input with one name open; not one complaint but about namespace names, which leaves the context
 * stale. */
static enum xml_error sax_feed(struct xml_parser *p, struct span input, const struct sax_visitor *visitor,
                               void *user, unsigned ends, unsigned level)
{
    if (arena_used(p->scratch) > 0)
        arena_reset(p->scratch);
    p->input = input;
    p->visitor = visitor;
    p->user = user;
    p->level = 0;
    p->ends = 0;
    p->error = XML_OK;
    p->armed = true;
    if (xmlParseChunk(p->ctxt, input.p, (int)input.n, 0) != XML_ERR_OK)
        p->stale = true;
    p->armed = false;
    if (p->ctxt->wellFormed != 1 || p->ctxt->disableSAX != 0 || p->ctxt->nameNr != 1 ||
        p->ctxt->instate != XML_PARSER_CONTENT || p->ctxt->input->cur != p->ctxt->input->end ||
        p->ends != ends || p->level != level)
        sax_refuse(p, XML_NOT_WELL_FORMED);
    return p->error;
}

enum xml_error sax_run(struct xml_parser *p, struct span element, const struct sax_visitor *visitor,
                       void *user)
{
    enum xml_error error;

    if (element.n > INT_MAX / 2)
        return XML_TOO_BIG;
    if (element.n == 0 || element.p[0] != '<')
        return XML_NOT_WELL_FORMED;
    if ((p->ctxt == NULL || p->stale) && !sax_make(p)) {
        log_error("xml", "libxml2 refused our own stream header for \"%s\": use another libxml2 build",
                  p->default_ns);
        p->stale = true;
        return XML_NOT_WELL_FORMED;
    }
    error = sax_feed(p, element, visitor, user, 1, 0);
    if (error != XML_OK || p->ctxt->nsWellFormed != 1 || element.n > SAX_KEEP_ELEMENT_MAX ||
        xmlDictSize(p->ctxt->dict) > SAX_NAMES_MAX)
        p->stale = true;
    return error;
}

enum xml_error sax_run_header(struct xml_parser *p, struct span start_tag, const struct sax_visitor *visitor,
                              void *user)
{
    if (start_tag.n > INT_MAX / 2)
        return XML_TOO_BIG;
    if (start_tag.n == 0 || start_tag.p[0] != '<' || !sax_make(p))
        return XML_NOT_WELL_FORMED;
    return sax_feed(p, start_tag, visitor, user, 0, 1);
}
