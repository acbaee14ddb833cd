/* Stanzas: types, the rewriting to the raw form, replies and the index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/stanza/stanza.h"

static struct xml_parser *client, *server;

static int setup(void **state)
{
    (void)state;
    client = xml_parser_new(NS_CLIENT);
    server = xml_parser_new(NS_SERVER);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    xml_parser_free(client);
    xml_parser_free(server);
    return 0;
}

static struct xml_element element;
static struct buf out;
static struct stanza st;

static enum stanza_verdict rewrite_with(struct xml_parser *p, const char *text, const char *from,
                                        const char *lang)
{
    struct span in = span_of(text);

    buf_free(&out);
    buf_add_lit(&out, "before");
    assert_int_equal(xml_parse(p, in, &element), XML_OK);
    return stanza_rewrite(&element, in, span_of(from), span_of(lang), &out, &st);
}

static void expect_span(struct span s, const char *text)
{
    char *copy = span_dup(s);

    assert_string_equal(copy, text);
    free(copy);
}

static bool inside(struct span s, struct span whole)
{
    return s.p == NULL || (s.p >= whole.p && s.p + s.n <= whole.p + whole.n);
}

static void expect_raw(struct xml_parser *p, const char *text, const char *from, const char *lang,
                       const char *raw)
{
    struct stanza again;

    assert_int_equal(rewrite_with(p, text, from, lang), STANZA_GOOD);
    expect_span(st.raw, raw);
    struct span whole = buf_span(&out);
    assert_true(inside(st.raw, whole) && inside(st.id, whole) && inside(st.lang, whole));
    assert_true(inside(jid_full(&st.from), whole) && inside(jid_full(&st.to), whole));
    assert_true(stanza_index(client, st.raw, &again));
    assert_int_equal(again.kind, st.kind);
    assert_int_equal(again.type, st.type);
    assert_true(span_eq(again.id, st.id) && span_eq(again.lang, st.lang));
    assert_true(span_eq(jid_full(&again.from), jid_full(&st.from)));
    assert_int_equal(again.child_count, st.child_count);
    for (size_t i = 0; i < st.child_count; i++) {
        assert_true(inside(st.children[i].name, whole) && inside(st.children[i].ns, whole));
        assert_true(span_eq(again.children[i].name, st.children[i].name));
        assert_true(span_eq(again.children[i].ns, st.children[i].ns));
        assert_true(
            span_eq(stanza_child_raw(&again, &again.children[i]), stanza_child_raw(&st, &st.children[i])));
    }
}

static void rewriting(void **state)
{
    (void)state;
    expect_raw(client, "<message to='romeo@a.example' id='1'><body>hi</body></message>", "j@a/b", "en",
               "<message from='j@a/b' xml:lang='en' to='romeo@a.example' id='1'><body>hi</body></message>");
    expect_raw(client, "<presence/>", "j@a/b", "", "<presence from='j@a/b'/>");
    expect_raw(client, "<presence />", "j@a/b", NULL, "<presence from='j@a/b' />");
    expect_raw(client, "<message>/</message>", "j@a/b", "", "<message from='j@a/b'>/</message>");
    expect_raw(client, "<c:message xmlns:c='jabber:client'>/></c:message>", "j@a/b", "",
               "<message from='j@a/b' xmlns:c='jabber:client'>/></message>");
    expect_raw(client, "<message from='x' id='1' xmlns='jabber:client' to='y'/>", "j@a/b", "",
               "<message from='j@a/b' id='1' to='y'/>");
    expect_raw(client, "<message xmlns='jabber:client' id='1' from='x' to='y'/>", "j@a/b", "",
               "<message from='j@a/b' id='1' to='y'/>");
    expect_raw(client, "<presence></presence>", "j@a/it's", "", "<presence from='j@a/it&apos;s'></presence>");
    assert_true(span_is(jid_resource(&st.from), "it's"));
    expect_raw(
        client, "<presence\n  to='a'\txml:lang=\"de\" from='forged@x'  type='subscribe'\n>\n</presence >",
        "j@a", "en", "<presence from='j@a'\n  to='a'\txml:lang=\"de\"  type='subscribe'\n>\n</presence >");
    assert_int_equal(st.type, STANZA_SUBSCRIBE);
    assert_true(span_is(st.lang, "de"));
    expect_raw(client, "<message xmlns='jabber:client' xmlns:p='urn:p' p:from='x'><p:a/></message>", "j@a",
               "", "<message from='j@a' xmlns:p='urn:p' p:from='x'><p:a/></message>");
    expect_raw(client, "<c:message xmlns:c='jabber:client'><c:body>x</c:body></c:message >", "j@a", "",
               "<message from='j@a' xmlns:c='jabber:client'><c:body>x</c:body></message>");
    expect_raw(client, "<c:presence xmlns:c='jabber:client' />", "j@a", "",
               "<presence from='j@a' xmlns:c='jabber:client' />");
    expect_raw(server, "<message from='a@x.example' to='b@y.example'><body/></message>", NULL, "",
               "<message from='a@x.example' to='b@y.example'><body/></message>");
    assert_non_null(stanza_child(&st, "body", NS_CLIENT));
    assert_true(span_is(jid_full(&st.from), "a@x.example"));
    expect_raw(server,
               "<message xmlns='jabber:server'><a xmlns='u'/><body\nxmlns='jabber:server' x='1'>b<c/></body>"
               "<thread xmlns='jabber:server'/><z xmlns='u'/></message>",
               "a@x", "",
               "<message from='a@x'><a xmlns='u'/><body x='1'>b<c/></body><thread/><z xmlns='u'/></message>");
    expect_raw(client, "<message id='a&amp;&quot;&#x41;'/>", "j@a", "",
               "<message from='j@a' id='a&amp;&quot;&#x41;'/>");
    assert_true(span_is(st.id, "a&\"A"));
}

static void addresses_are_prepared(void **state)
{
    (void)state;
    assert_int_equal(rewrite_with(client, "<message to='Romeo@A.Example/Home'/>", "j@a", ""), STANZA_GOOD);
    assert_true(span_is(jid_full(&st.to), "romeo@a.example/Home"));
    expect_span(st.raw, "<message from='j@a' to='Romeo@A.Example/Home'/>");
    assert_int_equal(rewrite_with(client, "<message to='@'/>", "j@a", ""), STANZA_BAD_TO);
    assert_int_equal(st.to.domain_n, 0);
    assert_true(span_is(jid_full(&st.from), "j@a"));
    assert_int_equal(rewrite_with(client, "<message to=''/>", "j@a", ""), STANZA_GOOD);
    assert_int_equal(st.to.domain_n, 0);
    assert_int_equal(rewrite_with(server, "<message from='@@'/>", NULL, ""), STANZA_BAD_FROM);
    assert_int_equal(st.from.domain_n, 0);
    assert_int_equal(rewrite_with(server, "<iq from='a@b/ c' to='@' type='x'/>", NULL, ""), STANZA_BAD_FROM);
    assert_int_equal(rewrite_with(server, "<message to='a@b'/>", NULL, ""), STANZA_GOOD);
}

/* An empty common attribute is none, in the index and in the bytes. */
static void empty_attributes(void **state)
{
    (void)state;
    expect_raw(client, "<presence to=''/>", "j@a/b", "", "<presence from='j@a/b'/>");
    expect_raw(client, "<message type=\"\" id='' to='' from=''><body/></message>", "j@a/b", "en",
               "<message from='j@a/b' xml:lang='en'><body/></message>");
    expect_raw(client, "<message\n to = ''\txmlns='jabber:client' id=''\nx=''><to id=''/></message>", "j@a",
               "", "<message from='j@a'\n\nx=''><to id=''/></message>");
    expect_raw(client, "<c:presence id='1' to='' xmlns:c='jabber:client' from='x@y' type=''></c:presence>",
               "j@a", "", "<presence from='j@a' id='1' xmlns:c='jabber:client'></presence>");
    expect_raw(server, "<presence from='' to=''/>", NULL, "", "<presence/>");
    expect_raw(client, "<presence xml:lang='' to=''/>", "j@a", "en", "<presence from='j@a' xml:lang=''/>");
    expect_raw(client, "<presence xmlns:p='urn:p' p:to='' to=''/>", "j@a", "",
               "<presence from='j@a' xmlns:p='urn:p' p:to=''/>");
    assert_int_equal(rewrite_with(client, "<iq type='get' id=''><q xmlns='x'/></iq>", "j@a", ""),
                     STANZA_BAD_IQ);
    assert_null(st.id.p);
    assert_int_equal(rewrite_with(client, "<iq type='' id='1'><q xmlns='x'/></iq>", "j@a", ""),
                     STANZA_BAD_IQ);
    struct stanza s;
    assert_false(stanza_index(client, SPAN("<presence to=''/>"), &s));
    assert_false(stanza_index(client, SPAN("<presence from=''/>"), &s));
}

/* What is put into the start tag later (a recipient, a sender) must not be there already, whatever was sent.
 */
static void nothing_comes_twice(void **state)
{
    static const char *const names[] = {"to", "from", "id", "type", "xml:lang", "p:to", "p:from", "xmlns:p"};
    static const char *const values[] = {"", "urn:p", "&#116;&amp;", "r@b.example/&lt;&apos;&quot;&#x3e;"};
    static const char *const heads[] = {"message", "presence", "p:message"};
    unsigned good = 0;

    (void)state;
    for (unsigned mask = 0; mask < 1u << ARRAY_LEN(names); mask++)
        for (unsigned value = 0; value < ARRAY_LEN(values); value++)
            for (unsigned head = 0; head < ARRAY_LEN(heads); head++)
                for (unsigned stamped = 0; stamped < 2; stamped++) {
                    struct buf in = {0}, sent = {0};
                    bool prefixed = heads[head][1] == ':';
                    buf_addf(&in, "<%s", heads[head]);
                    if (!prefixed && (mask & 0x80) == 0)
                        buf_add_lit(&in, " xmlns='jabber:client'");
                    for (unsigned k = 0; k < ARRAY_LEN(names); k++)
                        if ((mask & 1u << k) != 0)
                            buf_addf(&in, "\t%s = \"%s\"", names[k], k == 7 ? NS_CLIENT : values[value]);
                    buf_add_lit(&in, "/>");
                    struct span text = buf_span(&in);
                    if (xml_parse(client, text, &element) == XML_OK) {
                        buf_free(&out);
                        enum stanza_verdict verdict =
                            stanza_rewrite(&element, text, stamped ? SPAN("j@a/x") : (struct span){NULL, 0},
                                           SPAN("en"), &out, &st);
                        assert_int_not_equal(verdict, STANZA_NOT_A_STANZA);
                        size_t name = strlen(stanza_kind_name(st.kind)) + 1;
                        buf_add(&sent, st.raw.p, name);
                        if (verdict == STANZA_GOOD && st.to.domain_n == 0)
                            xml_add_attr(&sent, "to", SPAN("x@y/'&<"));
                        if (verdict == STANZA_GOOD && st.from.domain_n == 0)
                            xml_add_attr(&sent, "from", SPAN("x@y/'&<"));
                        if (st.id.p == NULL)
                            xml_add_attr(&sent, "id", SPAN("'&<"));
                        buf_add_span(&sent, span_sub(st.raw, name, SIZE_MAX));
                        assert_int_equal(xml_parse(client, buf_span(&sent), &element), XML_OK);
                        assert_true(element.prefix.n == 0 && span_is(element.ns, NS_CLIENT));
                        good++;
                    }
                    buf_free(&in);
                    buf_free(&sent);
                }
    assert_true(good > 1000);
}

static void refusals(void **state)
{
    (void)state;
    /* H78: RFC 6120 §8.2.3. */
    assert_int_equal(rewrite_with(client, "<iq type='get' id='1'><q xmlns='x'/></iq>", "j@a", ""),
                     STANZA_GOOD);
    assert_int_equal(rewrite_with(client, "<iq type='get'><q xmlns='x'/></iq>", "j@a", ""), STANZA_BAD_IQ);
    assert_int_equal(rewrite_with(client, "<iq id='1'><q xmlns='x'/></iq>", "j@a", ""), STANZA_BAD_IQ);
    assert_int_equal(rewrite_with(client, "<iq type='get' id='1'/>", "j@a", ""), STANZA_BAD_IQ);
    assert_int_equal(rewrite_with(client, "<iq type='set' id='1'><q/><q/></iq>", "j@a", ""), STANZA_BAD_IQ);
    assert_int_equal(rewrite_with(client, "<iq type='subscribe' id='1'><q/></iq>", "j@a", ""), STANZA_BAD_IQ);
    assert_true(span_is(st.id, "1"));
    assert_int_equal(rewrite_with(client, "<iq type='result' id='1'/>", "j@a", ""), STANZA_GOOD);
    assert_int_equal(rewrite_with(client, "<iq type='result' id='1'><a/><b/></iq>", "j@a", ""),
                     STANZA_BAD_IQ);
    assert_int_equal(rewrite_with(client, "<iq type='error' id='1'><a/><b/></iq>", "j@a", ""), STANZA_GOOD);
    assert_int_equal(rewrite_with(client, "<presence type='foo'/>", "j@a", ""), STANZA_BAD_TYPE);
    assert_int_equal(rewrite_with(client, "<message type='foo'/>", "j@a", ""), STANZA_GOOD);
    assert_int_equal(st.type, STANZA_NORMAL);
    assert_int_equal(rewrite_with(client, "<foo/>", "j@a", ""), STANZA_NOT_A_STANZA);
    assert_int_equal(rewrite_with(client, "<message xmlns='urn:x'/>", "j@a", ""), STANZA_NOT_A_STANZA);
    assert_int_equal(
        rewrite_with(client, "<c:message xmlns:c='jabber:client' xmlns='urn:x'><a/></c:message>", "j@a", ""),
        STANZA_NOT_A_STANZA);
}

static void many_children(void **state)
{
    struct buf in = {0};

    (void)state;
    buf_add_lit(&in, "<message>");
    for (unsigned i = 0; i < 40; i++)
        buf_addf(&in, "<c%u xmlns='urn:%u'/>", i, i);
    buf_add_lit(&in, "</message>");
    assert_int_equal(rewrite_with(client, buf_cstr(&in), "j@a", ""), STANZA_GOOD);
    assert_int_equal(st.child_count, STANZA_CHILDREN_MAX);
    assert_true(span_is(st.children[15].ns, "urn:15"));
    assert_true(span_is(stanza_child_raw(&st, stanza_child(&st, "c7", "urn:7")), "<c7 xmlns='urn:7'/>"));
    assert_null(stanza_child(&st, "c7", "urn:8"));
    assert_ptr_equal(stanza_payload(&st), &st.children[0]);
    buf_free(&in);
}

static void replies(void **state)
{
    struct buf reply = {0};

    (void)state;
    rewrite_with(client, "<iq type='get' id='a&amp;b' to='b.example'><q xmlns='x'/></iq>", "j@a/r", "");
    stanza_add_error(&reply, &st, SPAN("j@a"), STANZA_E_FORBIDDEN, "no <way>");
    assert_string_equal(
        buf_cstr(&reply),
        "<iq from='b.example' to='j@a/r' id='a&amp;b' type='error'><error type='auth'><forbidden "
        "xmlns='" NS_STANZA_ERRORS "'/><text xmlns='" NS_STANZA_ERRORS
        "' xml:lang='en'>no &lt;way&gt;</text></error></iq>");
    rewrite_with(client, "<iq type='get' id='1'><q xmlns='x'/></iq>", "j@a/r", "");
    buf_clear(&reply);
    stanza_add_result(&reply, &st, SPAN("j@a"));
    assert_string_equal(buf_cstr(&reply), "<iq from='j@a' to='j@a/r' id='1' type='result'/>");
    buf_clear(&reply);
    stanza_add_result_open(&reply, &st, SPAN("j@a"));
    buf_add_lit(&reply, "</iq>");
    assert_string_equal(buf_cstr(&reply), "<iq from='j@a' to='j@a/r' id='1' type='result'></iq>");
    buf_clear(&reply);
    stanza_add_delay(&reply, SPAN("a.example"), 1031357308000);
    assert_string_equal(buf_cstr(&reply),
                        "<delay xmlns='urn:xmpp:delay' from='a.example' stamp='2002-09-07T00:08:28.000Z'/>");
    buf_free(&reply);
}

static bool may_error(const char *text)
{
    rewrite_with(client, text, "j@a", "");
    return stanza_may_error(&st);
}

static void who_gets_errors(void **state)
{
    (void)state;
    assert_true(may_error("<message to='b'/>"));
    assert_false(may_error("<message to='b' type='error'/>"));
    assert_true(may_error("<iq type='get'/>"));
    assert_false(may_error("<iq type='result'/>"));
    assert_false(may_error("<iq type='error'/>"));
    assert_false(may_error("<presence/>"));
    assert_true(may_error("<presence to='b'/>"));
    assert_true(may_error("<presence to='b' type='subscribe'/>"));
    assert_false(may_error("<presence to='b' type='unavailable'/>"));
    /* Refused before anybody else has heard of it. */
    assert_false(may_error("<presence to='@@'/>"));
    assert_true(stanza_may_refuse(&st));
    assert_false(may_error("<presence type='available'/>"));
    assert_true(stanza_may_refuse(&st));
    assert_false(may_error("<presence to='@@' type='error'/>"));
    assert_false(stanza_may_refuse(&st));
    assert_false(may_error("<iq to='@@' type='result'/>"));
    assert_false(stanza_may_refuse(&st));
}

static void names(void **state)
{
    enum stanza_type type;

    (void)state;
    for (unsigned e = 0; e < STANZA_E_COUNT; e++) {
        assert_non_null(stanza_error_name((enum stanza_error)e));
        assert_non_null(stanza_error_type((enum stanza_error)e));
    }
    assert_int_equal(STANZA_E_COUNT, 22);
    assert_string_equal(stanza_type_name(STANZA_NONE), "");
    assert_true(stanza_type_parse(STANZA_MESSAGE, SPAN("chat"), &type) && type == STANZA_CHAT);
    assert_true(stanza_type_parse(STANZA_MESSAGE, SPAN("get"), &type) && type == STANZA_NORMAL);
    assert_false(stanza_type_parse(STANZA_PRESENCE, SPAN("chat"), &type));
    assert_false(stanza_type_parse(STANZA_IQ, SPAN(""), &type));
}

static void indexing(void **state)
{
    struct stanza s;

    (void)state;
    assert_true(stanza_index(client, SPAN("<message from='a@b' to='c@d/e'><body>x</body></message>"), &s));
    assert_true(span_is(jid_full(&s.to), "c@d/e"));
    assert_false(stanza_index(client, SPAN("<message xmlns='jabber:client'/>"), &s));
    assert_false(stanza_index(client, SPAN("<c:message xmlns:c='jabber:client'/>"), &s));
    assert_false(stanza_index(client, SPAN("<message"), &s));
    assert_false(stanza_index(client, SPAN("<message/> "), &s));
    assert_false(stanza_index(client, SPAN("<message/><message/>"), &s));
    assert_false(stanza_index(client, SPAN("<message a='<'/>"), &s));
    assert_false(stanza_index(client, SPAN(""), &s));
    assert_false(stanza_index(client, SPAN(" <message/>"), &s));
    assert_false(stanza_index(client, SPAN("</stream:stream>"), &s));
    assert_true(stanza_index(client, SPAN("<message/>"), &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewriting),
        cmocka_unit_test(addresses_are_prepared),
        cmocka_unit_test(refusals),
        cmocka_unit_test(many_children),
        cmocka_unit_test(replies),
        cmocka_unit_test(who_gets_errors),
        cmocka_unit_test(names),
        cmocka_unit_test(indexing),
        cmocka_unit_test(empty_attributes),
        cmocka_unit_test(nothing_comes_twice),
    };
    int failed = cmocka_run_group_tests(tests, setup, teardown);
    buf_free(&out);
    return failed;
}
