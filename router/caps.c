#include "router/caps.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/arena.h"
#include "common/base/text.h"
#include "common/sasl/hash.h"
#include "common/xml/tree.h"
#include "common/xml/writer.h"
#include "router/feature.h"

#define NS_DATA "jabber:x:data"

static void add_feature(struct buf *out, const char *ns)
{
    buf_add_lit(out, "<feature");
    xml_add_attr(out, "var", span_of(ns));
    buf_add_lit(out, "/>");
}

void caps_add_server(struct buf *out)
{
    buf_add_lit(out, "<identity category='server' type='im' name='Jackdaw'/>");
    for (unsigned i = 0; features[i] != NULL; i++) {
        const char *const *list = features[i]->disco_host;
        for (unsigned k = 0; feature_enabled(features[i]) && k < FEATURE_LIST_MAX && list[k] != NULL; k++)
            add_feature(out, list[k]);
    }
}

/* ---- the verification string: parts that are sorted, each ends with "<" ---- */

struct part {
    struct span text; /* the place is known when all are there */
    size_t key_n;     /* so much of it is what they are sorted by */
};

struct parts {
    struct buf text;
    struct part *list; /* owned */
    unsigned count;
};

static int compare(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int order = memcmp(x->text.p, y->text.p, MIN(x->key_n, y->key_n));
    return order != 0 ? order : (x->key_n > y->key_n) - (x->key_n < y->key_n);
}

/* What was appended to parts.text since it had `from` bytes is one part. */
static void end_part(struct parts *l, size_t from)
{
    struct span text = span_sub(buf_span(&l->text), from, l->text.n);
    l->list = xrealloc(l->list, (l->count + 1) * sizeof *l->list);
    l->list[l->count++] = (struct part){{NULL, text.n}, span_index(text, '<')};
}

static void add_sorted(struct buf *out, struct parts *l)
{
    size_t at = 0;
    for (unsigned i = 0; i < l->count; i++) {
        l->list[i].text.p = l->text.p + at;
        at += l->list[i].text.n;
    }
    if (l->count > 0)
        qsort(l->list, l->count, sizeof *l->list, compare);
    for (unsigned i = 0; i < l->count; i++)
        buf_add_span(out, l->list[i].text);
    buf_free(&l->text);
    free(l->list);
    *l = (struct parts){0};
}

static void add_identities(struct buf *out, const struct xml_node *query)
{
    struct parts l = {0};
    for (const struct xml_node *i = xml_child(query, "identity", NS_DISCO_INFO); i != NULL;
         i = xml_sibling(i)) {
        size_t from = l.text.n;
        struct span lang = {NULL, 0};
        for (const struct xml_tree_attr *a = i->attrs; a != NULL; a = a->next)
            if (span_is(a->name, "lang") && a->ns.n > 0)
                lang = a->value;
        buf_add_span(&l.text, xml_attr(i, "category"));
        buf_add_char(&l.text, '/');
        buf_add_span(&l.text, xml_attr(i, "type"));
        buf_add_char(&l.text, '/');
        buf_add_span(&l.text, lang);
        buf_add_char(&l.text, '/');
        buf_add_span(&l.text, xml_attr(i, "name"));
        buf_add_char(&l.text, '<');
        end_part(&l, from);
    }
    add_sorted(out, &l);
}

static void add_features(struct buf *out, const struct xml_node *query)
{
    struct parts l = {0};
    for (const struct xml_node *f = xml_child(query, "feature", NS_DISCO_INFO); f != NULL;
         f = xml_sibling(f)) {
        size_t from = l.text.n;
        buf_add_span(&l.text, xml_attr(f, "var"));
        buf_add_char(&l.text, '<');
        end_part(&l, from);
    }
    add_sorted(out, &l);
}

static void add_values(struct buf *out, const struct xml_node *field)
{
    struct parts l = {0};
    for (const struct xml_node *v = xml_child(field, "value", NS_DATA); v != NULL; v = xml_sibling(v)) {
        size_t from = l.text.n;
        buf_add_span(&l.text, v->text);
        buf_add_char(&l.text, '<');
        end_part(&l, from);
    }
    add_sorted(out, &l);
}

static void add_form(struct buf *out, const struct xml_node *form)
{
    struct parts l = {0};
    for (const struct xml_node *f = xml_child(form, "field", NS_DATA); f != NULL; f = xml_sibling(f)) {
        if (span_is(xml_attr(f, "var"), "FORM_TYPE")) {
            add_values(out, f); /* in front: nothing else is there yet */
            continue;
        }
        size_t from = l.text.n;
        buf_add_span(&l.text, xml_attr(f, "var"));
        buf_add_char(&l.text, '<');
        add_values(&l.text, f);
        end_part(&l, from);
    }
    add_sorted(out, &l);
}

static void add_forms(struct buf *out, const struct xml_node *query)
{
    struct parts l = {0};
    for (const struct xml_node *x = xml_child(query, "x", NS_DATA); x != NULL; x = xml_sibling(x)) {
        size_t from = l.text.n;
        add_form(&l.text, x);
        end_part(&l, from);
    }
    add_sorted(out, &l);
}

void caps_hash(struct span query, char ver[CAPS_VER_MAX])
{
    struct arena *arena = arena_new(4096);
    const struct xml_node *node = xml_tree(arena, query, NS_DISCO_INFO);
    struct buf text = {0}, base64 = {0};
    ver[0] = '\0';
    if (node != NULL) {
        uint8_t sum[20];
        add_identities(&text, node);
        add_features(&text, node);
        add_forms(&text, node);
        hash_sha1(buf_span(&text), sum);
        base64_add(&base64, span_make((const char *)sum, sizeof sum));
        snprintf(ver, CAPS_VER_MAX, "%.*s", SPAN_FMT(buf_span(&base64)));
    }
    buf_free(&text);
    buf_free(&base64);
    arena_free(arena);
}

void caps_server(char ver[CAPS_VER_MAX])
{
    struct buf query = {0};
    buf_add_lit(&query, "<query xmlns='" NS_DISCO_INFO "'>");
    caps_add_server(&query);
    buf_add_lit(&query, "</query>");
    caps_hash(buf_span(&query), ver);
    buf_free(&query);
}

bool caps_is_server_node(struct span node)
{
    char ver[CAPS_VER_MAX];
    size_t hash = span_index(node, '#');
    caps_server(ver);
    return span_is(span_sub(node, 0, hash), CAPS_NODE) && span_is(span_sub(node, hash + 1, node.n), ver);
}
