/* From what a peer sent to the raw form that travels.
 *
 * The bare kind and what is added, then the rest of the element byte for byte: in one copy, unless something
 * must be left out (a default namespace; the sender's `from`; an empty to, from, id or type; the content
 * namespace that a child declares again, which would be wrong once the stanza goes from jabber:client to
 * jabber:server) or the end tag has a prefix. Behind the raw bytes follows what is not there literally: the
 * prepared addresses, decoded id and language, the children's namespaces. *out may move while it grows, so
 * everything is noted as offset and length first. */
#include "common/stanza/internal.h"

/* A place in *out; n 0 with set = an empty value. */
struct place {
    size_t at;
    size_t n;
    bool set;
};

/* The room must be there already. */
static struct place place_add(struct buf *out, struct span s)
{
    struct place place = {out->n, s.n, s.p != NULL};

    if (s.n > 0)
        memcpy(out->p + out->n, s.p, s.n);
    out->n += s.n;
    return place;
}

static struct span place_span(const struct buf *out, struct place place)
{
    return place.set ? span_make(out->p + place.at, place.n) : (struct span){NULL, 0};
}

/* True when the content relies on a default namespace that the rewritten tag would lose. */
static bool changes_default(const struct xml_element *e)
{
    for (size_t i = 0; i < e->decl_count; i++)
        if (e->decls[i].prefix.n == 0 && !span_eq(e->decls[i].uri, e->ns))
            return true;
    return false;
}

#define CUTS_MAX (5 + STANZA_CHILDREN_MAX) /* the default namespace, to, from, id, type */

/* An empty to, from, id or type is none. It does not travel: whoever adds one of his own on the way (a copy
 * for each recipient, a broadcast) looks at the index, and would make a second one of the same name. The
 * sender's `from` goes when another is stamped. */
static bool is_cut(const struct xml_attr *attr, bool stamped)
{
    if (attr->prefix.n > 0)
        return false;
    if (SPAN_IS_LIT(attr->name, "from"))
        return stamped || attr->value.n == 0;
    return attr->value.n == 0 && (SPAN_IS_LIT(attr->name, "to") || SPAN_IS_LIT(attr->name, "id") ||
                                  SPAN_IS_LIT(attr->name, "type"));
}

/* What must not travel, in the order of the bytes: first of the start tag (XML allows one attribute of each
 * name, so there is room for all), then the children's. */
static size_t find_cuts(const struct xml_element *e, bool stamped, struct span cuts[CUTS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < e->decl_count; i++)
        if (e->decls[i].prefix.n == 0)
            cuts[n++] = e->decls[i].raw;
    for (size_t i = 0; i < e->attr_count; i++)
        if (is_cut(&e->attrs[i], stamped))
            cuts[n++] = e->attrs[i].raw;
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k > 0 && cuts[k - 1].p > cuts[k].p; k--) {
            struct span earlier = cuts[k];
            cuts[k] = cuts[k - 1];
            cuts[k - 1] = earlier;
        }
    for (size_t i = 0; i < MIN(e->child_count, STANZA_CHILDREN_MAX); i++)
        if (e->child_defaults[i].n > 0)
            cuts[n++] = e->child_defaults[i];
    return n;
}

static void add_range(struct buf *out, const char *from, const char *to)
{
    buf_add(out, from, (size_t)(to - from));
}

/* Appends the raw form; returns where its content begins, counted from its start. */
static size_t add_raw(struct buf *out, const struct xml_element *e, struct span element,
                      enum stanza_kind kind, struct span from, struct span lang)
{
    bool empty_tag = e->inner_start == e->inner_end && element.p[e->inner_start] == '/';
    bool rename_end = e->prefix.n > 0 && !empty_tag;
    const char *at = e->name.p + e->name.n;
    struct span cuts[CUTS_MAX];
    size_t cut_count = find_cuts(e, from.p != NULL, cuts), start = out->n, inner_at;

    buf_reserve(out, 2 * element.n + 8 * from.n + lang.n + 256);
    buf_add_char(out, '<');
    buf_add_str(out, stanza_kind_name(kind));
    xml_add_attr(out, "from", from);
    if (lang.n > 0)
        xml_add_attr(out, "xml:lang", lang);
    inner_at = out->n - start + (size_t)(element.p + e->inner_start - at);
    for (size_t i = 0; i < cut_count; i++) {
        add_range(out, at, cuts[i].p);
        at = cuts[i].p + cuts[i].n;
        if (at <= element.p + e->inner_start)
            inner_at -= cuts[i].n;
    }
    add_range(out, at, element.p + (rename_end ? e->inner_end : element.n));
    if (rename_end)
        buf_addf(out, "</%s>", stanza_kind_name(kind));
    return inner_at;
}

/* RFC 6120 §8.2.3. */
static bool iq_is_good(const struct stanza *s, uint32_t child_count)
{
    if (s->id.p == NULL)
        return false;
    switch (s->type) {
    case STANZA_GET:
    case STANZA_SET:
        return child_count == 1;
    case STANZA_RESULT:
        return child_count <= 1;
    default:
        return s->type == STANZA_ERROR;
    }
}

/* Prepares an address behind the raw bytes. */
static bool place_jid(struct buf *out, struct span text, size_t *at, struct jid *jid)
{
    *at = out->n;
    *jid = (struct jid){NULL};
    return text.p == NULL || jid_prepare(text, out, jid, NULL);
}

/* The child before i with the same namespace, or i. They share it: it may be long. */
static size_t same_ns(const struct xml_element *e, size_t i)
{
    size_t k = 0;

    while (k < i && !span_eq(e->children[k].ns, e->children[i].ns))
        k++;
    return k;
}

static void fill_children(const struct xml_element *e, struct span element, struct buf *out, size_t inner_at,
                          struct stanza *s)
{
    struct place ns[STANZA_CHILDREN_MAX];
    struct place client = {0};

    s->child_count = (uint16_t)MIN(e->child_count, STANZA_CHILDREN_MAX);
    for (size_t i = 0; i < s->child_count; i++) {
        if (!stanza_is_content_ns(e->children[i].ns)) {
            size_t same = same_ns(e, i);
            ns[i] = same < i ? ns[same] : place_add(out, e->children[i].ns);
            continue;
        }
        if (!client.set)
            client = place_add(out, SPAN(NS_CLIENT));
        ns[i] = client;
    }
    size_t moved = inner_at - e->inner_start; /* modulo 2^64: may be negative */
    for (size_t i = 0; i < s->child_count; i++) {
        const struct xml_child *child = &e->children[i];
        struct xml_child *to = &s->children[i];
        to->name = span_make(s->raw.p + ((size_t)(child->name.p - element.p) + moved), child->name.n);
        to->ns = place_span(out, ns[i]);
        to->start = (uint32_t)(child->start + moved);
        moved -= e->child_defaults[i].n;
        to->end = (uint32_t)(child->end + moved);
    }
}

enum stanza_verdict stanza_rewrite(const struct xml_element *e, struct span element, struct span from,
                                   struct span default_lang, struct buf *out, struct stanza *s)
{
    enum stanza_verdict verdict = STANZA_GOOD;
    struct stanza_attrs attrs;
    size_t raw_at = out->n, inner_at, raw_n, from_at, to_at;
    struct place id, lang;
    bool type_ok, from_ok, to_ok;

    memset(s, 0, offsetof(struct stanza, children));
    s->child_count = 0;
    if (!stanza_is_content_ns(e->ns) || !stanza_kind_parse(e->name, &s->kind) || changes_default(e))
        return STANZA_NOT_A_STANZA;
    stanza_read_attrs(e, &attrs);
    type_ok = stanza_type_parse(s->kind, attrs.type, &s->type);
    inner_at =
        add_raw(out, e, element, s->kind, from, attrs.lang.p == NULL ? default_lang : (struct span){NULL, 0});
    raw_n = out->n - raw_at;

    if (from.p == NULL)
        from_ok = place_jid(out, attrs.from, &from_at, &s->from);
    to_ok = place_jid(out, attrs.to, &to_at, &s->to);

    size_t rest = from.n + attrs.id.n + attrs.lang.n + default_lang.n + sizeof(NS_CLIENT);
    for (size_t i = 0; i < MIN(e->child_count, STANZA_CHILDREN_MAX); i++)
        rest += same_ns(e, i) == i ? e->children[i].ns.n : 0;
    buf_reserve(out, rest); /* from here on *out stays where it is */
    if (from.p != NULL) {
        from_at = place_add(out, from).at;
        from_ok = jid_split(from, &s->from);
    }
    id = place_add(out, attrs.id);
    lang = place_add(out, attrs.lang.p != NULL ? attrs.lang : default_lang);
    s->raw = span_make(out->p + raw_at, raw_n);
    fill_children(e, element, out, inner_at, s);
    s->from.p = from_ok && s->from.domain_n > 0 ? out->p + from_at : NULL;
    s->to.p = to_ok && s->to.domain_n > 0 ? out->p + to_at : NULL;
    if (s->from.p == NULL)
        s->from = (struct jid){NULL};
    if (s->to.p == NULL)
        s->to = (struct jid){NULL};
    s->id = place_span(out, id);
    s->lang = lang.n > 0 ? place_span(out, lang) : (struct span){NULL, 0};

    if (!from_ok)
        verdict = STANZA_BAD_FROM;
    else if (!type_ok)
        verdict = s->kind == STANZA_IQ ? STANZA_BAD_IQ : STANZA_BAD_TYPE;
    else if (s->kind == STANZA_IQ && !iq_is_good(s, e->child_count))
        verdict = STANZA_BAD_IQ;
    else if (!to_ok)
        verdict = STANZA_BAD_TO;
    return verdict;
}
