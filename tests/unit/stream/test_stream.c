/* The stream engine: what RFC 6120 §4 and §11 say of headers, elements, errors and the end, however the bytes
 * are split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/stanza/ns.h"
#include "common/stream/stream.h"

#define DECL "<?xml version='1.0'?>"
#define HEADER \
    "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "' to='a.example' version='1.0'>"

static struct stream_kind client = {.content_ns = NS_CLIENT,
                                    .limits = {.element_max_bytes = 2000, .depth_max = 8, .attrs_max = 12}};
static struct stream_kind server = {.content_ns = NS_SERVER,
                                    .limits = {.element_max_bytes = 2000, .depth_max = 8, .attrs_max = 12}};

static int setup(void **state)
{
    (void)state;
    client.parser = xml_parser_new(NS_CLIENT);
    server.parser = xml_parser_new(NS_SERVER);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    xml_parser_free(client.parser);
    xml_parser_free(server.parser);
    return 0;
}

/* Writes what happened: "O" opened, "E(raw)", "C", "F(condition)". */
static void note(struct buf *out, const struct stream_event *ev)
{
    switch (ev->kind) {
    case STREAM_MORE:
        break;
    case STREAM_OPENED:
        buf_add_lit(out, "O");
        break;
    case STREAM_ELEMENT:
        assert_ptr_equal(ev->element->name.p >= ev->raw.p, true);
        buf_addf(out, "E(%.*s)", SPAN_FMT(ev->raw));
        break;
    case STREAM_CLOSED:
        buf_add_lit(out, "C");
        break;
    case STREAM_FAILED:
        buf_addf(out, "F(%s)", stream_error_name(ev->error));
        break;
    }
}

static void feed(struct stream *s, struct span in, struct buf *out)
{
    char *copy = malloc(in.n + 1); /* of its own size, so that the sanitizer sees a read beyond */
    struct span rest = {copy, in.n};
    struct stream_event ev;

    if (in.n > 0)
        memcpy(copy, in.p, in.n);
    do {
        ev = stream_next(s, &rest);
        note(out, &ev);
    } while (ev.kind != STREAM_MORE);
    assert_int_equal(rest.n, 0);
    free(copy);
}

/* Feeds the text whole, then in steps of every size, then split in two at every place. */
static void expect_kind(const struct stream_kind *kind, struct span text, const char *expected)
{
    struct stream s;
    struct buf out = {0};

    for (size_t step = text.n; step > 0; step = step > 64 ? step / 3 : step - 1) {
        buf_clear(&out);
        stream_init(&s, kind, STREAM_RECEIVING);
        for (size_t at = 0; at < text.n; at += step)
            feed(&s, span_sub(text, at, step), &out);
        assert_string_equal(buf_cstr(&out), expected);
        stream_free(&s);
    }
    for (size_t cut = 0; cut <= text.n; cut++) {
        buf_clear(&out);
        stream_init(&s, kind, STREAM_RECEIVING);
        feed(&s, span_sub(text, 0, cut), &out);
        feed(&s, span_sub(text, cut, SIZE_MAX), &out);
        assert_string_equal(buf_cstr(&out), expected);
        stream_free(&s);
    }
    buf_free(&out);
}

#define EXPECT(text, expected)        expect_kind(&client, SPAN(text), expected)
#define EXPECT_SERVER(text, expected) expect_kind(&server, SPAN(text), expected)

static void a_whole_stream(void **state)
{
    (void)state;
    EXPECT(DECL HEADER "<presence/>", "OE(<presence/>)");
    EXPECT("\n" DECL HEADER "<presence/>", "OE(<presence/>)");
    EXPECT(HEADER " \n\t <presence/>\n<iq type='get' id='1'><q xmlns='a'>a &lt; <![CDATA[<x>]]></q></iq> "
                  "</stream:stream>",
           "OE(<presence/>)E(<iq type='get' id='1'><q xmlns='a'>a &lt; <![CDATA[<x>]]></q></iq>)C");
    EXPECT(DECL "\n" HEADER "</stream:stream \n>", "OC");
    EXPECT("<?xml version=\"1.0\" encoding=\"utf-8\" standalone='no' ?>" HEADER, "O");
    EXPECT(HEADER "</stream:stream><message/>junk", "OC");
    EXPECT("", "");
}

#define PREFIX_FREE "<stream xmlns='" NS_STREAM "' to='a.example' version='1.0'>"
#define NO_DEFAULT  "<stream:stream xmlns:stream='" NS_STREAM "' version='1.0'>"

/* RFC 6120 §4.8.2: without a default content namespace each element declares its own. */
static void prefix_free(void **state)
{
    (void)state;
    EXPECT(DECL PREFIX_FREE " <message xmlns='jabber:client'><body/></message>\n</stream >",
           "OE(<message xmlns='jabber:client'><body/></message>)C");
    EXPECT(NO_DEFAULT "<presence xmlns='jabber:client'/></stream:stream>",
           "OE(<presence xmlns='jabber:client'/>)C");
    EXPECT("<stream:stream xmlns='' xmlns:c='jabber:client' xmlns:stream='" NS_STREAM "'>", "O");
    EXPECT("<stream xmlns='" NS_STREAM "' xmlns:c='jabber:client' xmlns:stream='" NS_STREAM "'>", "O");
    EXPECT(PREFIX_FREE "</stream:stream>", "OF(not-well-formed)");
    EXPECT(NO_DEFAULT "</stream>", "OF(not-well-formed)");
    EXPECT(PREFIX_FREE "<message xmlns='jabber:server'/>", "OF(invalid-namespace)");
    EXPECT(PREFIX_FREE "<c:message xmlns:c='jabber:client'/>", "OF(bad-namespace-prefix)");
    EXPECT_SERVER(PREFIX_FREE "<db:result xmlns:db='" NS_DIALBACK "'/><iq xmlns='jabber:server'/>",
                  "OE(<db:result xmlns:db='" NS_DIALBACK "'/>)E(<iq xmlns='jabber:server'/>)");
}

/* The namespace of the first element behind a header. */
static void expect_ns(const char *header, const char *more, const char *ns)
{
    struct stream s;
    struct span in = span_of(header), rest = span_of(more);

    stream_init(&s, &client, STREAM_RECEIVING);
    assert_int_equal(stream_next(&s, &in).kind, STREAM_OPENED);
    struct stream_event ev = stream_next(&s, &rest);
    assert_int_equal(ev.kind, STREAM_ELEMENT);
    assert_true(span_is(ev.element->ns, ns));
    stream_free(&s);
}

static void inherited_namespaces(void **state)
{
    (void)state;
    expect_ns(HEADER, "<message/>", "jabber:client");
    expect_ns(PREFIX_FREE, "<message/>", NS_STREAM);
    expect_ns(PREFIX_FREE, "<error><reset xmlns='" NS_STREAM_ERRORS "'/></error>", NS_STREAM);
    expect_ns(PREFIX_FREE, "<message xmlns='jabber:client'/>", "jabber:client");
    expect_ns(NO_DEFAULT, "<message/>", "");
    expect_ns(NO_DEFAULT, "<message xmlns='jabber:client'/>", "jabber:client");
    expect_ns(NO_DEFAULT, "<stream:error/>", NS_STREAM);
    expect_ns(NO_DEFAULT, "<s:auth xmlns:s='urn:s'/>", "urn:s");
}

static void headers(void **state)
{
    (void)state;
    /* B16, B17, B18, B24 of the checklist. */
    EXPECT("<stream:stream xmlns='jabber:client' xmlns:stream='http://wrong.example/' version='1.0'>",
           "F(invalid-namespace)");
    EXPECT("<foobar:stream xmlns='jabber:client' xmlns:foobar='" NS_STREAM "' version='1.0'>",
           "F(bad-namespace-prefix)");
    EXPECT("<stream:stream xmlns='" NS_STREAM "' xmlns:stream='" NS_STREAM "'>", "F(invalid-namespace)");
    EXPECT("<stream xmlns='" NS_STREAM "' xmlns:stream='urn:x'>", "F(invalid-namespace)");
    EXPECT("<stream xmlns='" NS_STREAM "' xmlns:x='urn:x'>", "F(invalid-namespace)");
    EXPECT("<stream xmlns='jabber:client'>", "F(invalid-namespace)");
    EXPECT("<stream>", "F(invalid-namespace)");
    EXPECT("<stream:stream xmlns='jabber:server' xmlns:stream='" NS_STREAM "' version='1.0'>",
           "F(invalid-namespace)");
    EXPECT("<stream:stream xmlns='jabber:client' xmlns:x='urn:x' xmlns:stream='" NS_STREAM "'>",
           "F(invalid-namespace)");
    EXPECT("<stream:stream xmlns='jabber:client' xmlns:xml='http://www.w3.org/XML/1998/namespace' "
           "xmlns:stream='" NS_STREAM "' xml:lang='en'>",
           "O");
    EXPECT("<stream:flood xmlns='jabber:client' xmlns:stream='" NS_STREAM "'>", "F(bad-format)");
    EXPECT("<stream:stream xmlns='jabber:client' version='1.0'>", "F(not-well-formed)");
    EXPECT("<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "'/>", "F(not-well-formed)");
    EXPECT("<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "' version='one'>",
           "F(unsupported-version)");
    EXPECT_SERVER(
        "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' xmlns:stream='" NS_STREAM
        "'><db:result/><message xmlns:db='x'><db:a/></message>",
        "OE(<db:result/>)E(<message xmlns:db='x'><db:a/></message>)");
    EXPECT_SERVER("<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "'>",
                  "F(invalid-namespace)");
    EXPECT_SERVER("<stream:stream xmlns='jabber:server' xmlns:db='x' xmlns:stream='" NS_STREAM "'>",
                  "F(invalid-namespace)");
}

static unsigned version_of(const char *text)
{
    struct stream s;
    struct buf in = {0};

    stream_init(&s, &client, STREAM_RECEIVING);
    buf_addf(&in, "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM "' %s>", text);
    struct span rest = buf_span(&in);
    struct stream_event ev = stream_next(&s, &rest);
    unsigned version = ev.kind == STREAM_OPENED ? s.version : 999;
    buf_free(&in);
    stream_free(&s);
    return version;
}

static void versions_are_numbers(void **state)
{
    (void)state;
    assert_int_equal(version_of(""), 0);
    assert_int_equal(version_of("version='0.9'"), 0);
    assert_int_equal(version_of("version='1.0'"), 1);
    assert_int_equal(version_of("version='01.00'"), 1);
    assert_int_equal(version_of("version='1.10'"), 1);
    assert_int_equal(version_of("version='2.0'"), 2);
    assert_int_equal(version_of("version='1'"), 999);
    assert_int_equal(version_of("version='-1.0'"), 999);
}

static void wrong_xml(void **state)
{
    (void)state;
    /* D33 to D39. */
    EXPECT(HEADER "<!-- c -->", "OF(restricted-xml)");
    EXPECT(HEADER "<message><!-- c --></message>", "OF(restricted-xml)");
    EXPECT(HEADER "<?pi x?>", "OF(restricted-xml)");
    EXPECT(HEADER "<message><?pi x?></message>", "OF(restricted-xml)");
    EXPECT("<!DOCTYPE a [<!ENTITY b 'c'>]>" HEADER, "F(restricted-xml)");
    EXPECT(DECL DECL, "F(restricted-xml)");
    EXPECT(HEADER "<message>&foo;</message>", "OF(restricted-xml)");
    EXPECT(HEADER "<message id='&foo;'/>", "OF(restricted-xml)");
    EXPECT(HEADER "<message>&#x41;&amp;&lt;&gt;&apos;&quot;</message>",
           "OE(<message>&#x41;&amp;&lt;&gt;&apos;&quot;</message>)");
    EXPECT(HEADER "<message>&#0;</message>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><body>No closing tag!</message>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><body>x</bodyy>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><body>x</body ><a/><b", "O");
    EXPECT(HEADER "<message>&foo;<body></message></body>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><body></message><?pi?>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><a></a><?pi?></message>", "OF(restricted-xml)");
    EXPECT(HEADER "<message a='<'/>", "OF(not-well-formed)");
    EXPECT(HEADER "<message a='1' a='2'/>", "OF(not-well-formed)");
    EXPECT(HEADER "<message xmlns:p='x' xmlns:q='x' p:a='1' q:a='2'/>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><p:a/></message>", "OF(not-well-formed)");
    EXPECT(HEADER "<message p:a='1'/>", "OF(not-well-formed)");
    EXPECT(HEADER "<message xmlns:p=''/>", "OF(not-well-formed)");
    EXPECT(HEADER "<message xmlns:xml='x'/>", "OF(not-well-formed)");
    EXPECT(HEADER "<message>\xc3\x28</message>", "OF(not-well-formed)");
    EXPECT(HEADER "<message>\x01</message>", "OF(not-well-formed)");
    EXPECT(HEADER "<message>]]></message>", "OF(not-well-formed)");
    EXPECT(HEADER "<message><stream:error/></message>", "OF(not-well-formed)");
    EXPECT(HEADER "</stream:streams>", "OF(not-well-formed)");
    EXPECT(HEADER "<message></stream:stream>", "OF(not-well-formed)");
    EXPECT("GET / HTTP/1.1\r\n", "F(not-well-formed)");
    EXPECT("\x16\x03\x01", "F(not-well-formed)");
    EXPECT("\xff\xfe<\0", "F(unsupported-encoding)");
    EXPECT("<?xml version='1.0' encoding='ISO-8859-1'?>", "F(unsupported-encoding)");
    EXPECT("<?xml version='2.0'?>", "F(not-well-formed)");
    EXPECT("\xef\xbb\xbf" HEADER, "F(not-well-formed)");
    EXPECT(HEADER "hello", "OF(bad-format)");
    EXPECT(HEADER "<presence/>\xef\xbb\xbf", "OE(<presence/>)F(bad-format)");
}

static void foreign_elements(void **state)
{
    (void)state;
    EXPECT(HEADER "<message xmlns='jabber:client'/>", "OE(<message xmlns='jabber:client'/>)");
    EXPECT(HEADER "<message xmlns='jabber:server'/>", "OF(invalid-namespace)");
    EXPECT(HEADER "<c:message xmlns:c='jabber:client'/>", "OF(bad-namespace-prefix)");
    EXPECT(HEADER "<message><c:body xmlns:c='jabber:client'/></message>", "OF(bad-namespace-prefix)");
    EXPECT(HEADER "<foo xmlns='urn:x'/><stream:error/>", "OE(<foo xmlns='urn:x'/>)E(<stream:error/>)");
    EXPECT(HEADER "<message xmlns:p='not a uri' p:a=''/><message xmlns:p='x'/><message p:a=''/>",
           "OE(<message xmlns:p='not a uri' p:a=''/>)E(<message xmlns:p='x'/>)F(not-well-formed)");
}

static void limits(void **state)
{
    struct buf in = {0}, want = {0};

    (void)state;
    EXPECT(HEADER "<a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a>",
           "OE(<a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a>)");
    EXPECT(HEADER "<a><a><a><a><a><a><a><a><a", "OF(policy-violation)");
    EXPECT(HEADER "<a a='' b='' c='' d='' e='' f='' g='' h='' i='' j='' k='' l=''/>",
           "OE(<a a='' b='' c='' d='' e='' f='' g='' h='' i='' j='' k='' l=''/>)");
    EXPECT(HEADER "<a a='' b='' c='' d='' e='' f='' g='' h='' i='' j='' k='' l='' m=''/>",
           "OF(policy-violation)");
    for (size_t n = 1990; n <= 2010; n++) {
        buf_clear(&in);
        buf_clear(&want);
        buf_add_lit(&in, HEADER "<a>");
        for (size_t i = 7; i < n; i++)
            buf_add_char(&in, 'x');
        buf_add_lit(&in, "</a>");
        if (n <= 2000)
            buf_addf(&want, "OE(%.*s)", (int)n, buf_cstr(&in) + strlen(HEADER));
        else
            buf_add_lit(&want, "OF(policy-violation)");
        if (n == 1990 || n == 2000 || n == 2001 || n == 2010)
            expect_kind(&client, buf_span(&in), buf_cstr(&want));
    }
    buf_free(&in);
    buf_free(&want);
}

static const struct stream_header reply = {
    .from = SPAN("a.example"), .id = SPAN("x'1"), .lang = SPAN("en"), .version = true};

static void writing(void **state)
{
    struct stream s;
    struct buf out = {0};

    (void)state;
    stream_init(&s, &client, STREAM_RECEIVING);
    stream_open(&s, &reply, &out);
    assert_string_equal(buf_cstr(&out), DECL "<stream:stream xmlns='jabber:client' xmlns:stream='" NS_STREAM
                                             "' from='a.example' id='x&apos;1' xml:lang='en' version='1.0'>");
    buf_clear(&out);
    stream_fail(&s, &reply, STREAM_E_CONFLICT, "a<b", "<x xmlns='y'/>", &out);
    assert_string_equal(buf_cstr(&out),
                        "<stream:error><conflict xmlns='" NS_STREAM_ERRORS "'/><text xmlns='" NS_STREAM_ERRORS
                        "' xml:lang='en'>a&lt;b</text><x xmlns='y'/></stream:error></stream:stream>");
    buf_clear(&out);
    stream_fail(&s, &reply, STREAM_E_CONFLICT, NULL, NULL, &out);
    stream_close(&s, &out);
    assert_int_equal(out.n, 0);

    /* B21: an error before our header comes behind one. */
    stream_init(&s, &server, STREAM_RECEIVING);
    stream_fail(&s, &reply, STREAM_E_HOST_UNKNOWN, NULL, NULL, &out);
    assert_string_equal(buf_cstr(&out), DECL
                        "<stream:stream xmlns='jabber:server' xmlns:stream='" NS_STREAM
                        "' xmlns:db='jabber:server:dialback' from='a.example' id='x&apos;1' xml:lang='en' "
                        "version='1.0'><stream:error><host-unknown xmlns='" NS_STREAM_ERRORS
                        "'/></stream:error></stream:stream>");
    buf_clear(&out);
    stream_init(&s, &client, STREAM_RECEIVING);
    s.header_sent = true;
    stream_redirect(&s, &reply, "[2001:db8::1]:5222", &out);
    assert_string_equal(buf_cstr(&out),
                        "<stream:error><see-other-host xmlns='" NS_STREAM_ERRORS
                        "'>[2001:db8::1]:5222</see-other-host></stream:error></stream:stream>");
    buf_clear(&out);
    stream_init(&s, &client, STREAM_RECEIVING);
    s.header_sent = true;
    stream_close(&s, &out);
    stream_close(&s, &out);
    assert_string_equal(buf_cstr(&out), "</stream:stream>");
    buf_free(&out);
}

static void restarting(void **state)
{
    struct stream s;
    struct buf out = {0};

    (void)state;
    stream_init(&s, &client, STREAM_RECEIVING);
    feed(&s, SPAN(DECL HEADER "<auth xmlns='" NS_SASL "'>AA==</auth><mess"), &out);
    stream_restart(&s);
    assert_false(s.header_seen);
    feed(&s, SPAN("\n<?xml"), &out);
    feed(&s, SPAN(" version='1.0'?>" HEADER "<iq type='get' id='1'/>"), &out);
    assert_string_equal(buf_cstr(&out),
                        "OE(<auth xmlns='" NS_SASL "'>AA==</auth>)OE(<iq type='get' id='1'/>)");
    stream_free(&s);
    buf_free(&out);
}

/* An idle stream owns no memory. */
static void idle_is_empty(void **state)
{
    struct stream s;
    struct buf out = {0};

    (void)state;
    stream_init(&s, &client, STREAM_RECEIVING);
    feed(&s, SPAN(HEADER "<mess"), &out);
    assert_true(s.partial.cap > 0);
    feed(&s, SPAN("age/>"), &out);
    assert_int_equal(s.partial.cap, 0);
    stream_free(&s);
    buf_free(&out);
}

static void error_names(void **state)
{
    (void)state;
    for (unsigned i = 0; i < STREAM_E_COUNT; i++) {
        assert_non_null(stream_error_name((enum stream_error)i));
        assert_int_equal(stream_error_parse(span_of(stream_error_name((enum stream_error)i))), i);
    }
    assert_int_equal(STREAM_E_COUNT, 25);
    assert_int_equal(stream_error_parse(SPAN("xml-not-well-formed")), STREAM_E_UNDEFINED_CONDITION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_stream),
        cmocka_unit_test(headers),
        cmocka_unit_test(prefix_free),
        cmocka_unit_test(inherited_namespaces),
        cmocka_unit_test(versions_are_numbers),
        cmocka_unit_test(wrong_xml),
        cmocka_unit_test(limits),
        cmocka_unit_test(writing),
        cmocka_unit_test(foreign_elements),
        cmocka_unit_test(restarting),
        cmocka_unit_test(idle_is_empty),
        cmocka_unit_test(error_names),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
