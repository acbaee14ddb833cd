/* The tree and the writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/xml/xml.h"

static void the_tree(void **state)
{
    struct arena *a = arena_new(1024);
    char text[] = "<iq type='set'><query xmlns='jabber:iq:roster'>t1<item jid='a&amp;b' name=''><group>x&lt;"
                  "<![CDATA[<y>]]></group><group>z</group></item>t2<other/><item/></query></iq>";
    struct xml_node *root = xml_tree(a, SPAN(""), "jabber:client");

    (void)state;
    assert_null(root);
    root = xml_tree(a, span_of(text), "jabber:client");
    assert_non_null(root);
    struct xml_node *query = xml_child(root, "query", "jabber:iq:roster");
    assert_non_null(query);
    assert_null(xml_child(root, "query", "jabber:client"));
    assert_ptr_equal(query->parent, root);
    assert_true(memcmp(text + query->start, "<query", 6) == 0);
    assert_true(memcmp(text + query->end - 8, "</query>", 8) == 0);
    assert_int_equal(root->end, strlen(text));
    memset(text, 'X', sizeof(text)); /* the tree owns its strings */
    assert_true(span_is(root->ns, "jabber:client"));
    assert_true(span_is(xml_attr(root, "type"), "set"));
    assert_true(span_is(query->text, "t1t2"));
    struct xml_node *item = xml_child(query, "item", NULL);
    assert_true(span_is(xml_attr(item, "jid"), "a&b"));
    assert_non_null(xml_attr(item, "name").p);
    assert_null(xml_attr(item, "subscription").p);
    struct xml_node *group = xml_child(item, "group", "jabber:iq:roster");
    assert_true(span_is(group->text, "x<<y>"));
    assert_true(span_is(xml_sibling(group)->text, "z"));
    assert_null(xml_sibling(xml_sibling(group)));
    struct xml_node *last = xml_sibling(item);
    assert_non_null(last);
    assert_null(last->first_child);
    assert_null(xml_child(last, "x", NULL));
    arena_free(a);
}

static void bad_input(void **state)
{
    struct arena *a = arena_new(1024);

    (void)state;
    assert_null(xml_tree(a, SPAN("<a><b></a>"), "jabber:client"));
    assert_null(xml_tree(a, SPAN("<a><!-- x --></a>"), "jabber:client"));
    assert_null(xml_tree(a, SPAN("<a/><b/>"), "jabber:client"));
    assert_null(xml_tree(a, SPAN("<p:a/>"), "jabber:client"));
    assert_non_null(xml_tree(a, SPAN("<a/>"), "jabber:client"));
    arena_free(a);
}

/* More namespaces than parsers are kept. */
static void many_namespaces(void **state)
{
    struct arena *a = arena_new(1024);
    char ns[32];

    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        snprintf(ns, sizeof(ns), "urn:%u", i % 7);
        assert_true(span_is(xml_tree(a, SPAN("<a/>"), ns)->ns, ns));
    }
    arena_free(a);
}

/* Text that comes in many small runs is joined in linear time. */
static void much_text(void **state)
{
    struct arena *a = arena_new(1024);
    struct buf text = {0};

    (void)state;
    buf_add_lit(&text, "<a>");
    for (unsigned i = 0; i < 100000; i++)
        buf_add_lit(&text, "&lt;x");
    buf_add_lit(&text, "</a>");
    struct xml_node *root = xml_tree(a, buf_span(&text), "jabber:client");
    assert_int_equal(root->text.n, 200000);
    assert_true(memcmp(root->text.p + 199998, "<x", 2) == 0);
    assert_true(arena_used(a) < 2000000);
    buf_free(&text);
    arena_free(a);
}

static void writing(void **state)
{
    struct buf out = {0};

    (void)state;
    xml_add_text(&out, SPAN("a<b>&\"'\r\n\xc3\xa9"));
    assert_string_equal(buf_cstr(&out), "a&lt;b&gt;&amp;\"'&#13;\n\xc3\xa9");
    buf_clear(&out);
    xml_add_value(&out, SPAN("a<b>&\"'\r\n\t"));
    assert_string_equal(buf_cstr(&out), "a&lt;b&gt;&amp;&quot;&apos;&#13;&#10;&#9;");
    buf_clear(&out);
    xml_add_attr(&out, "id", (struct span){NULL, 0});
    assert_int_equal(out.n, 0);
    xml_add_attr(&out, "id", SPAN(""));
    xml_add_attr(&out, "to", SPAN("x'y"));
    assert_string_equal(buf_cstr(&out), " id='' to='x&apos;y'");
    buf_free(&out);
}

static void legal_text(void **state)
{
    (void)state;
    assert_true(xml_is_text(SPAN("")));
    assert_true(xml_is_text(
        SPAN("abc\t\r\n \x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbd\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")));
    static const char *const bad[] = {"\x01",
                                      "\x1f",
                                      "\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc3",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xef\xbf\xbe",
                                      "\xef\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "\xf0\x90\x80"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(xml_is_text(span_of(bad[i])));
    assert_false(xml_is_text(SPAN("a\0b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree),  cmocka_unit_test(bad_input), cmocka_unit_test(many_namespaces),
        cmocka_unit_test(much_text), cmocka_unit_test(writing),   cmocka_unit_test(legal_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
