/* The parser's index, what it refuses, and that nothing of one element reaches the next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/xml/xml.h"

static struct xml_parser *parser, *server;
static struct xml_element e;

static int setup(void **state)
{
    (void)state;
    parser = xml_parser_new("jabber:client");
    server = xml_parser_new("jabber:server");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    xml_parser_free(parser);
    xml_parser_free(server);
    return 0;
}

static enum xml_error parse(const char *text)
{
    return xml_parse(parser, span_of(text), &e);
}

#define ASSERT_SPAN(s, text)              \
    do {                                  \
        char *copy_ = span_dup(s);        \
        assert_string_equal(copy_, text); \
        free(copy_);                      \
    } while (0)

static void the_index(void **state)
{
    const char *text =
        "<message to='a@b'\n  xml:lang = \"en\" xmlns:p='urn:p' p:q='1&lt;2' xmlns='jabber:client'>"
        "text<body>x<b/></body>\n<p:x/><active xmlns='urn:a' /></message >";
    struct span in = span_of(text);

    (void)state;
    assert_int_equal(parse(text), XML_OK);
    ASSERT_SPAN(e.name, "message");
    assert_int_equal(e.prefix.n, 0);
    ASSERT_SPAN(e.ns, "jabber:client");
    assert_int_equal(e.attr_count, 3);
    ASSERT_SPAN(e.attrs[0].name, "to");
    ASSERT_SPAN(e.attrs[0].raw, " to='a@b'");
    assert_int_equal(e.attrs[0].ns.n, 0);
    ASSERT_SPAN(e.attrs[1].prefix, "xml");
    ASSERT_SPAN(e.attrs[1].ns, "http://www.w3.org/XML/1998/namespace");
    ASSERT_SPAN(e.attrs[1].raw, " xml:lang = \"en\"");
    ASSERT_SPAN(e.attrs[2].value, "1<2");
    ASSERT_SPAN(e.attrs[2].ns, "urn:p");
    assert_int_equal(e.decl_count, 2);
    ASSERT_SPAN(e.decls[0].prefix, "p");
    ASSERT_SPAN(e.decls[0].uri, "urn:p");
    ASSERT_SPAN(e.decls[1].raw, " xmlns='jabber:client'");
    assert_int_equal(e.child_count, 3);
    ASSERT_SPAN(e.children[0].name, "body");
    ASSERT_SPAN(e.children[0].ns, "jabber:client");
    ASSERT_SPAN(span_sub(in, e.children[0].start, e.children[0].end - e.children[0].start),
                "<body>x<b/></body>");
    ASSERT_SPAN(e.children[1].name, "x");
    ASSERT_SPAN(e.children[1].ns, "urn:p");
    ASSERT_SPAN(span_sub(in, e.children[1].start, e.children[1].end - e.children[1].start), "<p:x/>");
    ASSERT_SPAN(span_sub(in, e.children[2].start, e.children[2].end - e.children[2].start),
                "<active xmlns='urn:a' />");
    ASSERT_SPAN(span_sub(in, e.inner_start, e.inner_end - e.inner_start),
                "text<body>x<b/></body>\n<p:x/><active xmlns='urn:a' />");
    assert_true(e.has_text);
    assert_false(e.content_prefixed);
    ASSERT_SPAN(xml_element_attr(&e, "to"), "a@b");
    assert_null(xml_element_attr(&e, "q").p);
}

static void empty_elements(void **state)
{
    (void)state;
    assert_int_equal(parse("<a b='c' />"), XML_OK);
    assert_int_equal(e.inner_start, 9);
    assert_int_equal(e.inner_end, 9);
    assert_int_equal(parse("<a></a>"), XML_OK);
    assert_int_equal(e.inner_start, 3);
    assert_int_equal(e.inner_end, 3);
    assert_int_equal(parse("<a> \n</a>"), XML_OK);
    assert_false(e.has_text);
    assert_int_equal(parse("<a><![CDATA[x]]></a>"), XML_OK);
    assert_true(e.has_text);
    assert_int_equal(parse("<stream:features/>"), XML_OK);
    ASSERT_SPAN(e.ns, "http://etherx.jabber.org/streams");
}

static void values(void **state)
{
    (void)state;
    assert_int_equal(parse("<a a='\xc3\xa9' b='&amp;amp;&#38;lt;&#x20;' c='x\ny' d='' e='\"'/>"), XML_OK);
    ASSERT_SPAN(e.attrs[0].value, "\xc3\xa9");
    ASSERT_SPAN(e.attrs[1].value, "&amp;&lt; ");
    ASSERT_SPAN(e.attrs[2].value, "x y");
    assert_non_null(e.attrs[3].value.p);
    assert_int_equal(e.attrs[3].value.n, 0);
    ASSERT_SPAN(e.attrs[4].value, "\"");
    ASSERT_SPAN(e.attrs[4].raw, " e='\"'");
    assert_int_equal(parse("<a xmlns:p='urn:&amp;x'><p:b/></a>"), XML_OK);
    ASSERT_SPAN(e.decls[0].uri, "urn:&x");
    ASSERT_SPAN(e.children[0].ns, "urn:&x");
}

/* After each refusal an innocent element must be taken, with nothing bound by the bad one. */
static void refusals(void **state)
{
    static const struct {
        const char *text;
        enum xml_error error;
    } cases[] = {
        {"<a>", XML_NOT_WELL_FORMED},
        {"<a/><b/>", XML_NOT_WELL_FORMED},
        {"<a/> ", XML_NOT_WELL_FORMED},
        {"<a/><![CDATA[", XML_NOT_WELL_FORMED},
        {"<a/><", XML_NOT_WELL_FORMED},
        {"<a/><b", XML_NOT_WELL_FORMED},
        {"<a/><!--", XML_NOT_WELL_FORMED},
        {"<a/>&", XML_NOT_WELL_FORMED},
        {" <a/>", XML_NOT_WELL_FORMED},
        {"x", XML_NOT_WELL_FORMED},
        {"", XML_NOT_WELL_FORMED},
        {"</stream:stream>", XML_NOT_WELL_FORMED},
        {"</stream:stream><a/>", XML_NOT_WELL_FORMED},
        {"<a b='<'/>", XML_NOT_WELL_FORMED},
        {"<a b='", XML_NOT_WELL_FORMED},
        {"<a b='x' b='y'/>", XML_NOT_WELL_FORMED},
        {"<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>", XML_NOT_WELL_FORMED},
        {"<a><b></a></b>", XML_NOT_WELL_FORMED},
        {"<p:a/>", XML_NOT_WELL_FORMED},
        {"<a p:b=''/>", XML_NOT_WELL_FORMED},
        {"<a xmlns:p=''/>", XML_NOT_WELL_FORMED},
        {"<a xmlns:xmlns='u'/>", XML_NOT_WELL_FORMED},
        {"<a xmlns:xml='u'/>", XML_NOT_WELL_FORMED},
        {"<a:b:c xmlns:a='u'/>", XML_NOT_WELL_FORMED},
        {"<a>&#xffff;</a>", XML_NOT_WELL_FORMED},
        {"<a>\xed\xa0\x80</a>", XML_NOT_WELL_FORMED},
        {"<a>\xff</a>", XML_NOT_WELL_FORMED},
        {"<a>]]></a>", XML_NOT_WELL_FORMED},
        {"<a>&</a>", XML_NOT_WELL_FORMED},
        {"<a b=c/>", XML_NOT_WELL_FORMED},
        {"<a b='c'd='e'/>", XML_NOT_WELL_FORMED},
        {"<1/>", XML_NOT_WELL_FORMED},
        {"<a><stream:b/></a>", XML_NOT_WELL_FORMED},
        {"<a stream:b=''/>", XML_NOT_WELL_FORMED},
        {"<db:result/>", XML_NOT_WELL_FORMED},
        {"<a>&foo;</a>", XML_RESTRICTED},
        {"<a b='&foo;'/>", XML_RESTRICTED},
        {"<a><!-- x --></a>", XML_RESTRICTED},
        {"<a><?x y?></a>", XML_RESTRICTED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum xml_error error = parse(cases[i].text);
        if (error != cases[i].error)
            fail_msg("%s: %d", cases[i].text, error);
        assert_int_equal(parse("<message><q:body xmlns:q='urn:q'>hi</q:body></message>"), XML_OK);
        assert_int_equal(e.child_count, 1);
        ASSERT_SPAN(e.ns, "jabber:client");
    }
}

/* A namespace name need not be a URI, but libxml2 marks the context for it. */
static void odd_namespace_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(parse("<a xmlns:p='not a uri'><p:b/><c xmlns='%%'/></a>"), XML_OK);
        ASSERT_SPAN(e.children[0].ns, "not a uri");
        ASSERT_SPAN(e.children[1].ns, "%%");
        assert_int_equal(parse("<p:a/>"), XML_NOT_WELL_FORMED);
    }
}

static void server_streams(void **state)
{
    (void)state;
    assert_int_equal(xml_parse(server, SPAN("<db:result from='a'>k</db:result>"), &e), XML_OK);
    ASSERT_SPAN(e.ns, "jabber:server:dialback");
    assert_int_equal(xml_parse(server, SPAN("<message><db:x/></message>"), &e), XML_NOT_WELL_FORMED);
    assert_int_equal(xml_parse(server, SPAN("<message><x xmlns:db='u' db:y=''/></message>"), &e), XML_OK);
    assert_int_equal(xml_parse(server, SPAN("<message><x xmlns:db='u'/><y db:y=''/></message>"), &e),
                     XML_NOT_WELL_FORMED);
}

static void headers(void **state)
{
    (void)state;
    assert_int_equal(
        xml_parse_header(SPAN("<stream:stream xmlns='a' xmlns:stream='b' to='c' xml:lang='d'>"), &e), XML_OK);
    ASSERT_SPAN(e.ns, "b");
    ASSERT_SPAN(e.prefix, "stream");
    ASSERT_SPAN(xml_element_attr(&e, "to"), "c");
    assert_int_equal(e.decl_count, 2);
    assert_int_equal(xml_parse_header(SPAN("<a/>"), &e), XML_NOT_WELL_FORMED);
    assert_int_equal(xml_parse_header(SPAN("<a><b>"), &e), XML_NOT_WELL_FORMED);
    assert_int_equal(xml_parse_header(SPAN("<a b='&c;'>"), &e), XML_RESTRICTED);
    assert_int_equal(xml_parse_header(SPAN("<a"), &e), XML_NOT_WELL_FORMED);
    assert_int_equal(xml_parse_header(SPAN(""), &e), XML_NOT_WELL_FORMED);
}

static void many_attributes(void **state)
{
    struct buf text = {0};

    (void)state;
    for (unsigned n = XML_ATTRS_MAX - 1; n <= XML_ATTRS_MAX + 1; n++) {
        buf_clear(&text);
        buf_add_lit(&text, "<a");
        for (unsigned i = 0; i < n; i++)
            buf_addf(&text, " a%u=''", i);
        buf_add_lit(&text, "/>");
        assert_int_equal(parse(buf_cstr(&text)), n <= XML_ATTRS_MAX ? XML_OK : XML_TOO_MANY_ATTRS);
    }
    buf_free(&text);
}

/* Names that never come again must not stay for ever, nor disturb what is reported. */
static void many_names(void **state)
{
    struct buf text = {0};

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        buf_clear(&text);
        buf_addf(&text, "<m><n%u xmlns='urn:%u' a%u='x'/></m>", i, i, i);
        assert_int_equal(parse(buf_cstr(&text)), XML_OK);
        buf_clear(&text);
        buf_addf(&text, "urn:%u", i);
        assert_true(span_eq(e.children[0].ns, buf_span(&text)));
    }
    buf_free(&text);
}

static void big_elements(void **state)
{
    struct buf text = {0};

    (void)state;
    buf_add_lit(&text, "<m><body>");
    while (text.n < 250000)
        buf_add_lit(&text, "0123456789abcdef&lt;");
    buf_add_lit(&text, "</body><x xmlns='u'/></m>");
    assert_int_equal(parse(buf_cstr(&text)), XML_OK);
    assert_int_equal(e.child_count, 2);
    ASSERT_SPAN(span_sub(buf_span(&text), e.children[1].start, e.children[1].end - e.children[1].start),
                "<x xmlns='u'/>");
    assert_int_equal(parse("<a/>"), XML_OK);
    buf_free(&text);
}

static void redundant_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse("<m><a x='xmlns=' xmlns = 'jabber:client' y=''/><b xmlns='u'/><c/><c:d xmlns='u' "
                           "xmlns:c='jabber:client'/></m>"),
                     XML_OK);
    ASSERT_SPAN(e.child_defaults[0], " xmlns = 'jabber:client'");
    assert_int_equal(e.child_defaults[1].n, 0);
    assert_int_equal(e.child_defaults[2].n, 0);
    assert_int_equal(e.child_defaults[3].n, 0);
}

static void prefixed_content(void **state)
{
    (void)state;
    assert_int_equal(parse("<c:message xmlns:c='jabber:client'/>"), XML_OK);
    assert_true(e.content_prefixed);
    assert_int_equal(parse("<message><x xmlns='u'><c:y xmlns:c='jabber:client'/></x></message>"), XML_OK);
    assert_true(e.content_prefixed);
    assert_int_equal(parse("<message><f xmlns='u'><message xmlns='jabber:client'/></f></message>"), XML_OK);
    assert_false(e.content_prefixed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index),        cmocka_unit_test(empty_elements),
        cmocka_unit_test(values),           cmocka_unit_test(refusals),
        cmocka_unit_test(server_streams),   cmocka_unit_test(odd_namespace_names),
        cmocka_unit_test(headers),          cmocka_unit_test(many_attributes),
        cmocka_unit_test(many_names),       cmocka_unit_test(big_elements),
        cmocka_unit_test(prefixed_content), cmocka_unit_test(redundant_defaults),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
