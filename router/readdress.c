/* Start tags are walked attribute by attribute; the input is well-formed (the parser has seen it), but
 * nothing here trusts that beyond its bounds. */
#include "router/readdress.h"

#include "common/xml/writer.h"
#include "router/session.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Takes one attribute (with the white space before it) from raw at *at. False at the end of the tag. */
static bool next_attr(struct span raw, size_t *at, struct span *name, struct span *whole)
{
    size_t start = *at, i = start;
    while (i < raw.n && is_blank(raw.p[i]))
        i++;
    size_t name_at = i;
    while (i < raw.n && raw.p[i] != '=' && raw.p[i] != '>' && raw.p[i] != '/' && !is_blank(raw.p[i]))
        i++;
    *name = span_sub(raw, name_at, i - name_at);
    while (i < raw.n && is_blank(raw.p[i]))
        i++;
    if (name->n == 0 || i >= raw.n || raw.p[i] != '=')
        return false;
    i++;
    while (i < raw.n && is_blank(raw.p[i]))
        i++;
    if (i >= raw.n || (raw.p[i] != '\'' && raw.p[i] != '"'))
        return false;
    size_t end = i + 1 + span_index(span_sub(raw, i + 1, raw.n), raw.p[i]);
    if (end >= raw.n)
        return false;
    *whole = span_sub(raw, start, end + 1 - start);
    *at = end + 1;
    return true;
}

bool readdress(struct buf *out, struct span raw, struct span from, struct span to)
{
    size_t at = 1, was = out->n;
    while (at < raw.n && !is_blank(raw.p[at]) && raw.p[at] != '>' && raw.p[at] != '/')
        at++;
    if (raw.n == 0 || raw.p[0] != '<' || at >= raw.n)
        return false;
    buf_add(out, raw.p, at);
    xml_add_attr(out, "from", from);
    xml_add_attr(out, "to", to);
    struct span name, whole;
    while (next_attr(raw, &at, &name, &whole))
        if (!span_is(name, "from") && !span_is(name, "to"))
            buf_add_span(out, whole);
    while (at < raw.n && is_blank(raw.p[at]))
        at++;
    if (at >= raw.n || (raw.p[at] != '>' && raw.p[at] != '/')) {
        out->n = was;
        return false;
    }
    buf_add_span(out, span_sub(raw, at, raw.n));
    return true;
}

void presence_add(struct buf *out, struct span from, struct span to, struct span id, const char *type)
{
    buf_add_lit(out, "<presence");
    xml_add_attr(out, "from", from);
    xml_add_attr(out, "to", to);
    xml_add_attr(out, "id", id);
    if (type != NULL)
        xml_add_attr(out, "type", span_of(type));
    buf_add_lit(out, "/>");
}

void presence_route(struct core *c, struct span from, struct span to, struct span id, const char *type,
                    const struct origin *origin)
{
    struct buf raw = {0};
    presence_add(&raw, from, to, id, type);
    route_raw(c, buf_span(&raw), origin);
    buf_free(&raw);
}

void presence_route_current(struct user *u, struct span to, const struct origin *origin)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        struct buf raw = {0};
        if (s->available && s->presence != NULL &&
            readdress(&raw, rcbuf_span(s->presence), span_of(s->full), to))
            route_raw(u->core, buf_span(&raw), origin);
        buf_free(&raw);
    }
}

void presence_route_unavailable(struct user *u, struct span to, const struct origin *origin)
{
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (s->available)
            presence_route(u->core, span_of(s->full), to, (struct span){NULL, 0}, "unavailable", origin);
    }
}
