/* Names, lookups and the index of raw stanzas. */
#include "common/stanza/stanza.h"

#include "common/stanza/internal.h"

static const char *const kind_names[] = {"message", "presence", "iq"};

/* SPAN() as an initialiser of static data. */
#define SPAN_INIT(literal)           \
    {                                \
        literal, sizeof(literal) - 1 \
    }
static const struct span type_names[STANZA_TYPE_COUNT] = {
    [STANZA_NONE] = SPAN_INIT(""),
    [STANZA_NORMAL] = SPAN_INIT("normal"),
    [STANZA_CHAT] = SPAN_INIT("chat"),
    [STANZA_GROUPCHAT] = SPAN_INIT("groupchat"),
    [STANZA_HEADLINE] = SPAN_INIT("headline"),
    [STANZA_ERROR] = SPAN_INIT("error"),
    [STANZA_UNAVAILABLE] = SPAN_INIT("unavailable"),
    [STANZA_SUBSCRIBE] = SPAN_INIT("subscribe"),
    [STANZA_SUBSCRIBED] = SPAN_INIT("subscribed"),
    [STANZA_UNSUBSCRIBE] = SPAN_INIT("unsubscribe"),
    [STANZA_UNSUBSCRIBED] = SPAN_INIT("unsubscribed"),
    [STANZA_PROBE] = SPAN_INIT("probe"),
    [STANZA_GET] = SPAN_INIT("get"),
    [STANZA_SET] = SPAN_INIT("set"),
    [STANZA_RESULT] = SPAN_INIT("result"),
};

/* Which types a kind may have. */
#define TYPE_BIT(type) (1u << (type))
static const uint32_t kind_types[] = {
    [STANZA_MESSAGE] = TYPE_BIT(STANZA_NORMAL) | TYPE_BIT(STANZA_CHAT) | TYPE_BIT(STANZA_GROUPCHAT) |
                       TYPE_BIT(STANZA_HEADLINE) | TYPE_BIT(STANZA_ERROR),
    [STANZA_PRESENCE] = TYPE_BIT(STANZA_ERROR) | TYPE_BIT(STANZA_UNAVAILABLE) | TYPE_BIT(STANZA_SUBSCRIBE) |
                        TYPE_BIT(STANZA_SUBSCRIBED) | TYPE_BIT(STANZA_UNSUBSCRIBE) |
                        TYPE_BIT(STANZA_UNSUBSCRIBED) | TYPE_BIT(STANZA_PROBE),
    [STANZA_IQ] =
        TYPE_BIT(STANZA_GET) | TYPE_BIT(STANZA_SET) | TYPE_BIT(STANZA_RESULT) | TYPE_BIT(STANZA_ERROR),
};

const char *stanza_kind_name(enum stanza_kind kind)
{
    return kind_names[kind];
}

const char *stanza_type_name(enum stanza_type type)
{
    return type < STANZA_TYPE_COUNT ? type_names[type].p : "";
}

bool stanza_kind_parse(struct span name, enum stanza_kind *out)
{
    if (SPAN_IS_LIT(name, "message"))
        *out = STANZA_MESSAGE;
    else if (SPAN_IS_LIT(name, "presence"))
        *out = STANZA_PRESENCE;
    else if (SPAN_IS_LIT(name, "iq"))
        *out = STANZA_IQ;
    else
        return false;
    return true;
}

bool stanza_type_parse(enum stanza_kind kind, struct span value, enum stanza_type *out)
{
    *out = STANZA_NONE;
    if (value.p == NULL)
        return true;
    for (unsigned type = STANZA_NONE + 1; type < STANZA_TYPE_COUNT; type++) {
        if ((kind_types[kind] & TYPE_BIT(type)) != 0 && span_eq(value, type_names[type])) {
            *out = (enum stanza_type)type;
            return true;
        }
    }
    if (kind == STANZA_MESSAGE)
        *out = STANZA_NORMAL;
    return kind == STANZA_MESSAGE;
}

const struct xml_child *stanza_child(const struct stanza *s, const char *name, const char *ns)
{
    for (size_t i = 0; i < s->child_count; i++)
        if (span_is(s->children[i].name, name) && (ns == NULL || span_is(s->children[i].ns, ns)))
            return &s->children[i];
    return NULL;
}

const struct xml_child *stanza_payload(const struct stanza *s)
{
    return s->child_count > 0 ? &s->children[0] : NULL;
}

struct span stanza_child_raw(const struct stanza *s, const struct xml_child *child)
{
    return span_sub(s->raw, child->start, child->end - child->start);
}

bool stanza_is_content_ns(struct span ns)
{
    return SPAN_IS_LIT(ns, NS_CLIENT) || SPAN_IS_LIT(ns, NS_SERVER) || SPAN_IS_LIT(ns, NS_COMPONENT);
}

void stanza_read_attrs(const struct xml_element *e, struct stanza_attrs *out)
{
    *out = (struct stanza_attrs){{NULL, 0}};
    for (size_t i = 0; i < e->attr_count; i++) {
        const struct xml_attr *attr = &e->attrs[i];
        if (attr->prefix.n > 0) {
            if (SPAN_IS_LIT(attr->prefix, "xml") && SPAN_IS_LIT(attr->name, "lang"))
                out->lang = attr->value;
        } else if (attr->value.n == 0) {
            continue; /* an empty to, from, id or type is none */
        } else if (SPAN_IS_LIT(attr->name, "to")) {
            out->to = attr->value;
        } else if (SPAN_IS_LIT(attr->name, "from")) {
            out->from = attr->value;
        } else if (SPAN_IS_LIT(attr->name, "id")) {
            out->id = attr->value;
        } else if (SPAN_IS_LIT(attr->name, "type")) {
            out->type = attr->value;
        }
    }
}

/* The raw form begins with the bare kind and carries no default namespace of its own, and no empty address.
 */
static bool is_raw_form(const struct xml_element *e)
{
    if (e->prefix.n > 0 || !span_is(e->ns, NS_CLIENT))
        return false;
    for (size_t i = 0; i < e->attr_count; i++)
        if (e->attrs[i].prefix.n == 0 && e->attrs[i].value.n == 0 &&
            (SPAN_IS_LIT(e->attrs[i].name, "to") || SPAN_IS_LIT(e->attrs[i].name, "from")))
            return false;
    for (size_t i = 0; i < e->decl_count; i++)
        if (e->decls[i].prefix.n == 0)
            return false;
    return true;
}

bool stanza_index(struct xml_parser *parser, struct span raw, struct stanza *out)
{
    struct xml_element e;
    struct stanza_attrs attrs;

    memset(out, 0, offsetof(struct stanza, children));
    out->child_count = 0;
    if (xml_parse(parser, raw, &e) != XML_OK || !is_raw_form(&e) || !stanza_kind_parse(e.name, &out->kind))
        return false;
    stanza_read_attrs(&e, &attrs);
    if (!stanza_type_parse(out->kind, attrs.type, &out->type))
        return false;
    if ((attrs.from.n > 0 && !jid_split(attrs.from, &out->from)) ||
        (attrs.to.n > 0 && !jid_split(attrs.to, &out->to)))
        return false;
    out->raw = raw;
    out->id = attrs.id;
    out->lang = attrs.lang;
    out->child_count = (uint16_t)MIN(e.child_count, STANZA_CHILDREN_MAX);
    for (size_t i = 0; i < out->child_count; i++) {
        out->children[i] = e.children[i];
        if (stanza_is_content_ns(e.children[i].ns))
            out->children[i].ns = SPAN(NS_CLIENT);
    }
    return true;
}
