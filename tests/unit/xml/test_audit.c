/* What we send, read as the peer will: whole streams and restarts pass, each kind of mistake is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/xml/xml.h"

#define HEAD                                                                   \
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='" \
    "http://etherx.jabber.org/streams' id='1' version='1.0'>"

/* Read at once, and byte by byte. */
static bool good(const char *text)
{
    struct xml_audit whole = {0}, split = {0};
    struct span in = span_of(text);
    bool first = xml_audit_read(&whole, in), second = true;

    for (size_t i = 0; i < in.n && second; i++)
        second = xml_audit_read(&split, span_sub(in, i, 1));
    xml_audit_free(&whole);
    xml_audit_free(&split);
    assert_int_equal(first, second);
    return first;
}

static void streams(void **state)
{
    (void)state;
    assert_true(good(""));
    assert_true(good(HEAD "<stream:features/> <message to='a'><body>&lt;</body></message></stream:stream>"));
    assert_true(good(HEAD "<stream:error><reset xmlns='urn:x'/></stream:error></stream:stream>"));
    assert_true(good(HEAD "<message"));
}

static void restarts(void **state)
{
    struct xml_audit a = {0};

    (void)state;
    assert_true(xml_audit_read(&a, SPAN(HEAD "<proceed xmlns='urn:tls'/>")));
    assert_true(xml_audit_read(&a, SPAN(HEAD "<success xmlns='urn:sasl'/>" HEAD "<iq/>")));
    assert_true(xml_audit_read(&a, SPAN("<presence/></stream:stream>")));
    assert_false(xml_audit_read(&a, SPAN(" ")));
    xml_audit_free(&a);
}

static void mistakes(void **state)
{
    (void)state;
    assert_false(good(HEAD "<presence to='a' from='b' to=''/>"));
    assert_false(good(HEAD "<presence></message>"));
    assert_false(good(HEAD "<presence a='&x;'/>"));
    assert_false(good(HEAD "<presence a='<'/>"));
    assert_false(good(HEAD "<x:presence/>"));
    assert_false(good(HEAD "<c:presence xmlns:c='jabber:client'/>"));
    assert_false(good(HEAD "<message>\x01</message>"));
    assert_false(good(HEAD "<message>\xc3(</message>"));
    assert_false(good(HEAD "<presence xmlns=''/>"));
    assert_false(good(HEAD "text"));
    assert_false(good(HEAD "<!-- -->"));
    assert_false(good(HEAD "</stream>"));
    assert_false(good(HEAD "</stream:stream><presence/>"));
    assert_false(good("<stream:stream xmlns='jabber:client'>"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams),
        cmocka_unit_test(restarts),
        cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
