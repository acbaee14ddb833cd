/* The index of one element.
 *
 * libxml2 says that the element is sound and what its names and values mean; where they stand in the bytes it
 * does not say, so the start tag is walked once more by hand, in step with libxml2's list of attributes,
 * which keeps their order. Children are located by the read position in the callbacks. */
#include "common/xml/parser.h"

#include <stdlib.h>

#include "common/xml/sax.h"

struct index {
    struct xml_element *out;
    const xmlChar *last_uri; /* and its span, to measure each namespace once */
    struct span last_ns;
    bool inherits; /* uses a prefix that only the stream header binds */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static struct span index_ns(struct index *x, const xmlChar *uri)
{
    if (uri != x->last_uri) {
        x->last_uri = uri;
        x->last_ns = span_of((const char *)uri);
    }
    return uri != NULL ? x->last_ns : (struct span){NULL, 0};
}

/* Takes "prefix:name" apart. */
static void split_name(struct span qname, struct span *prefix, struct span *name)
{
    const char *colon = memchr(qname.p, ':', qname.n);

    *prefix = (struct span){NULL, 0};
    *name = qname;
    if (colon != NULL) {
        *prefix = span_make(qname.p, (size_t)(colon - qname.p));
        *name = span_sub(qname, prefix->n + 1, SIZE_MAX);
    }
}

/* One ` name = 'value'` of a start tag from *at on; false at the tag's end or when it can't be one. */
static bool tag_attr(struct span in, size_t *at, struct span *qname, struct span *value, struct span *raw)
{
    size_t i = *at, start;

    while (i < in.n && is_blank(in.p[i]))
        i++;
    *at = start = i;
    while (i < in.n && in.p[i] != '=' && !is_blank(in.p[i]) && in.p[i] != '>' && in.p[i] != '/')
        i++;
    if (i == start)
        return false;
    *qname = span_make(in.p + start, i - start);
    while (i < in.n && is_blank(in.p[i]))
        i++;
    if (i >= in.n || in.p[i++] != '=')
        return false;
    while (i < in.n && is_blank(in.p[i]))
        i++;
    if (i >= in.n || (in.p[i] != '"' && in.p[i] != '\''))
        return false;
    const char *quote = memchr(in.p + i + 1, in.p[i], in.n - i - 1);
    if (quote == NULL)
        return false;
    *value = span_make(in.p + i + 1, (size_t)(quote - (in.p + i + 1)));
    *at = (size_t)(quote + 1 - in.p);
    *raw = span_make(in.p + start - 1, *at - (start - 1));
    return true;
}

/* A decoded value: the input's bytes when they say the same. */
static struct span index_value(struct xml_parser *p, struct span raw, const xmlChar *value,
                               const xmlChar *end)
{
    struct span decoded = span_make(value, (size_t)(end - value));

    if (sax_in_input(p, value) || span_eq(raw, decoded))
        return raw;
    return arena_dup(p->scratch, decoded);
}

/* A declared namespace: the parser's default, or libxml2 has interned what it stands for. */
static void index_decl(struct xml_parser *p, struct index *x, struct span name, bool is_default,
                       struct span value, struct span raw)
{
    struct xml_element *e = x->out;

    if (e->decl_count == XML_ATTRS_MAX) {
        sax_refuse(p, XML_TOO_MANY_ATTRS);
        return;
    }
    e->decls[e->decl_count].prefix = is_default ? (struct span){NULL, 0} : name;
    e->decls[e->decl_count].raw = raw;
    /* With an entity inside (legal, never seen) the decoded form is only in libxml2's table. */
    if (memchr(value.p, '&', value.n) != NULL || memchr(value.p, '\n', value.n) != NULL ||
        memchr(value.p, '\t', value.n) != NULL || memchr(value.p, '\r', value.n) != NULL) {
        for (int i = p->ctxt->nsNr - 2; i >= 0; i -= 2) {
            const char *prefix = (const char *)p->ctxt->nsTab[i];
            if (is_default ? prefix == NULL : prefix != NULL && span_is(name, prefix)) {
                value = span_of((const char *)p->ctxt->nsTab[i + 1]);
                break;
            }
        }
    }
    e->decls[e->decl_count++].uri = value;
}

static void index_tag(struct xml_parser *p, struct index *x, int attr_count, const xmlChar **attrs)
{
    struct xml_element *e = x->out;
    struct span in = p->input, qname, value, raw, prefix, name;
    size_t at = 1;
    int i = 0;

    while (at < in.n && !is_blank(in.p[at]) && in.p[at] != '>' && in.p[at] != '/')
        at++;
    split_name(span_make(in.p + 1, at - 1), &e->prefix, &e->name);
    while (tag_attr(in, &at, &qname, &value, &raw)) {
        split_name(qname, &prefix, &name);
        if (span_is(qname, "xmlns") || span_is(prefix, "xmlns")) {
            index_decl(p, x, name, prefix.n == 0, value, raw);
            continue;
        }
        if (i == attr_count || e->attr_count == XML_ATTRS_MAX) {
            sax_refuse(p, i == attr_count ? XML_NOT_WELL_FORMED : XML_TOO_MANY_ATTRS);
            return;
        }
        const xmlChar **attr = attrs + 5 * i++;
        struct xml_attr *out = &e->attrs[e->attr_count++];
        out->name = name;
        out->prefix = prefix;
        out->ns = prefix.n == 0 ? prefix : span_of((const char *)attr[2]);
        out->value = index_value(p, value, attr[3], attr[4]);
        out->raw = raw;
    }
    if (i != attr_count || at >= in.n)
        sax_refuse(p, XML_NOT_WELL_FORMED);
    e->inner_start = (uint32_t)at + (at < in.n && in.p[at] == '>');
    e->inner_end = e->inner_start;
}

static bool attrs_inherit(const struct xml_parser *p, int attr_count, const xmlChar **attrs)
{
    for (int i = 0; i < attr_count; i++)
        if (attrs[5 * i + 1] != NULL && sax_inherits(p, attrs[5 * i + 1]))
            return true;
    return false;
}

/* The declaration of the default namespace in the start tag that a start callback reports, from `at` on. */
static struct span find_default(const struct xml_parser *p, size_t at)
{
    struct span tag = span_sub(p->input, 0, sax_offset(p));
    struct span qname, value, raw;

    while (tag_attr(tag, &at, &qname, &value, &raw))
        if (span_is(qname, "xmlns"))
            return raw;
    return (struct span){NULL, 0};
}

static void index_child(struct xml_parser *p, struct index *x, const xmlChar *name, const xmlChar *prefix,
                        const xmlChar *uri)
{
    struct xml_element *e = x->out;
    struct xml_child *child = &e->children[e->child_count - 1];
    size_t name_at = prefix != NULL ? strlen((const char *)prefix) + 2 : 1;
    size_t name_n = strlen((const char *)name);

    child->start = (uint32_t)sax_tag_start(p);
    child->end = 0;
    child->ns = index_ns(x, uri);
    child->name = span_sub(p->input, child->start + name_at, name_n);
    e->child_defaults[e->child_count - 1] = prefix == NULL && uri == p->default_ns_dict
                                                ? find_default(p, child->start + name_at + name_n)
                                                : (struct span){NULL, 0};
}

static void index_start(struct xml_parser *p, unsigned level, const xmlChar *name, const xmlChar *prefix,
                        const xmlChar *uri, int attr_count, const xmlChar **attrs)
{
    struct index *x = p->user;
    struct xml_element *e = x->out;

    if (prefix != NULL && uri == p->default_ns_dict)
        e->content_prefixed = true;
    if ((prefix != NULL && sax_inherits(p, prefix)) || attrs_inherit(p, attr_count, attrs))
        x->inherits = true;
    if (level == 0) {
        index_tag(p, x, attr_count, attrs);
        e->ns = index_ns(x, uri);
    } else if (level == 1 && e->child_count++ < XML_CHILDREN_MAX) {
        index_child(p, x, name, prefix, uri);
    }
}

static void index_end(struct xml_parser *p, unsigned level)
{
    struct xml_element *e = ((struct index *)p->user)->out;
    size_t at;

    if (level > 1 || (level == 1 && e->child_count > XML_CHILDREN_MAX))
        return;
    at = sax_offset(p);
    if (level == 1) {
        e->children[e->child_count - 1].end = (uint32_t)at;
    } else if (at >= 2 && p->input.p[at - 2] != '/') {
        const char *lt = memrchr(p->input.p, '<', at);
        e->inner_end = lt != NULL ? (uint32_t)(lt - p->input.p) : e->inner_start;
    }
}

static void index_text(struct xml_parser *p, unsigned level, struct span text)
{
    struct xml_element *e = ((struct index *)p->user)->out;

    if (level > 0 || e->has_text)
        return;
    for (size_t i = 0; i < text.n; i++)
        if (!is_blank(text.p[i]))
            e->has_text = true;
}

static const struct sax_visitor index_visitor = {index_start, index_end, index_text};

/* The arrays are big and stay as they are; only what counts is cleared. */
static void element_clear(struct xml_element *e)
{
    e->attr_count = e->decl_count = 0;
    e->child_count = 0;
    e->inner_start = e->inner_end = 0;
    e->has_text = e->content_prefixed = false;
    e->name = e->prefix = e->ns = (struct span){NULL, 0};
}

/* Elements that stay on their stream may use what its header declares; stanzas travel and may not. */
static bool is_stream_level(struct span ns)
{
    return span_is(ns, "http://etherx.jabber.org/streams") || span_is(ns, "jabber:server:dialback");
}

struct xml_parser *xml_parser_new(const char *default_ns)
{
    struct xml_parser *p = xmalloc(sizeof(*p));

    sax_init(p, default_ns);
    return p;
}

void xml_parser_free(struct xml_parser *p)
{
    if (p == NULL)
        return;
    sax_free(p);
    free(p);
}

enum xml_error xml_parse(struct xml_parser *p, struct span element, struct xml_element *out)
{
    struct index x = {.out = out};
    enum xml_error error;

    element_clear(out);
    error = sax_run(p, element, &index_visitor, &x);
    if (error == XML_OK && x.inherits && (out->prefix.n == 0 || !is_stream_level(out->ns)))
        return XML_NOT_WELL_FORMED;
    return error;
}

enum xml_error xml_parse_header(struct span start_tag, struct xml_element *out)
{
    static struct xml_parser *p; /* keeps what the last header's result points to */
    struct index x = {.out = out};

    if (p == NULL) {
        p = xmalloc(sizeof(*p));
        sax_init(p, NULL);
    }
    element_clear(out);
    return sax_run_header(p, start_tag, &index_visitor, &x);
}

struct span xml_element_attr(const struct xml_element *e, const char *name)
{
    for (size_t i = 0; i < e->attr_count; i++)
        if (e->attrs[i].prefix.n == 0 && span_is(e->attrs[i].name, name))
            return e->attrs[i].value;
    return (struct span){NULL, 0};
}
