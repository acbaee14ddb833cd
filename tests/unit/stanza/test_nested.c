/* Stanzas inside stanzas: found in raw form, or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/stanza/nested.h"

static const struct stanza_path path[] = {{"privilege", "urn:p"}, {"forwarded", "urn:f"}};
static struct buf out;
static struct stanza inner;

static bool find_in(const char *element, const char *ns)
{
    struct xml_parser *parser = xml_parser_new(NS_CLIENT);
    buf_clear(&out);
    buf_reserve(&out, 4096);
    bool found = stanza_nested(parser, span_of(element), path, ARRAY_LEN(path), ns, &out, &inner);
    xml_parser_free(parser);
    return found;
}

static bool find(const char *element)
{
    return find_in(element, NS_CLIENT);
}

static void test_of_a_component(void **state)
{
    static const char *const element =
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:f'><message xmlns='jabber:component:accept' to='b@y'>"
        "<body>t</body></message></forwarded></privilege>";
    (void)state;
    assert_false(find(element));
    assert_true(find_in(element, NULL));
    assert_true(span_is(inner.raw, "<message to='b@y'><body>t</body></message>"));
}

static void test_found(void **state)
{
    (void)state;
    assert_true(find("<privilege xmlns='urn:p'><forwarded xmlns='urn:f'><delay xmlns='urn:xmpp:delay'/>"
                     "<message xmlns='jabber:client' from='A@x' to='b@Y/r' id='i'><body>t</body></message>"
                     "</forwarded></privilege>"));
    assert_int_equal(inner.kind, STANZA_MESSAGE);
    assert_true(span_is(inner.raw, "<message from='A@x' to='b@Y/r' id='i'><body>t</body></message>"));
    assert_true(span_is(jid_full(&inner.from), "a@x"));
    assert_true(span_is(jid_full(&inner.to), "b@y/r"));
}

static void test_refused(void **state)
{
    static const char *const wrong[] = {
        "<privilege xmlns='urn:p'/>",
        "<privilege xmlns='urn:q'><forwarded xmlns='urn:f'><message "
        "xmlns='jabber:client'/></forwarded></privilege>",
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:q'><message "
        "xmlns='jabber:client'/></forwarded></privilege>",
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:f'/></privilege>",
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:f'><message/></forwarded></privilege>",
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:f'><x "
        "xmlns='jabber:client'/></forwarded></privilege>",
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:f'><message xmlns='jabber:client' to='b "
        "b'/></forwarded></privilege>",
        "<privilege xmlns='urn:p'><forwarded xmlns='urn:f'><iq xmlns='jabber:client' "
        "type='get'/></forwarded></privilege>",
        "<privilege xmlns='urn:p' xmlns:z='urn:z'><forwarded xmlns='urn:f'><message "
        "xmlns='jabber:client'><z:x/></message></forwarded></privilege>",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        if (find(wrong[i]))
            fail_msg("taken: %s", wrong[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_of_a_component),
        cmocka_unit_test(test_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&out);
    return failed;
}
