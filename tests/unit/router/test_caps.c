/* The verification string of XEP-0115: the examples of its §5, order where a part is the beginning of
 * another, and that the server's is the one of what it answers. */
#include "rig.h"

#include "router/caps.h"

static void want(const char *query, const char *ver)
{
    char got[CAPS_VER_MAX];
    caps_hash(span_of(query), got);
    assert_string_equal(got, ver);
}

static void test_examples(void **state)
{
    (void)state;
    want("<query xmlns='http://jabber.org/protocol/disco#info'><identity category='client' name='Exodus "
         "0.9.1' "
         "type='pc'/><feature var='http://jabber.org/protocol/caps'/><feature "
         "var='http://jabber.org/protocol/disco#info'/><feature "
         "var='http://jabber.org/protocol/disco#items'/><feature "
         "var='http://jabber.org/protocol/muc'/></query>",
         "QgayPKawpkPSDYmwT/WM94uAlu0=");
    want("<query xmlns='http://jabber.org/protocol/disco#info'><identity xml:lang='en' category='client' "
         "name='Psi 0.11' type='pc'/><identity xml:lang='el' category='client' name='&#936; 0.11' "
         "type='pc'/><feature var='http://jabber.org/protocol/muc'/><feature "
         "var='http://jabber.org/protocol/disco#items'/><feature "
         "var='http://jabber.org/protocol/caps'/><feature "
         "var='http://jabber.org/protocol/disco#info'/><x xmlns='jabber:x:data' type='result'><field "
         "var='software_version'><value>0.11</value></field><field var='ip_version'><value>ipv6</value>"
         "<value>ipv4</value></field><field var='FORM_TYPE' "
         "type='hidden'><value>urn:xmpp:dataforms:softwareinfo"
         "</value></field><field var='os'><value>Mac</value></field><field var='os_version'><value>10.5.1"
         "</value></field><field var='software'><value>Psi</value></field></x></query>",
         "q07IKJEyjvHSyhy//CH0CxmKi8w=");
    /* "a" sorts before "a#b" although "<" does not come before "#": SHA-1 of "server/im//<a<a#b<". */
    want("<query xmlns='http://jabber.org/protocol/disco#info'><feature var='a#b'/><identity "
         "category='server' "
         "type='im'/><feature var='a'/></query>",
         "4BaQvRYRVIYVZ+d2i66GDnTAWKw=");
    want("<query", "");
}

static void test_of_the_server(void **state)
{
    (void)state;
    char ver[CAPS_VER_MAX], of_answer[CAPS_VER_MAX], *ask;
    static const char *const people[] = {"juliet@a", NULL};
    rig_start(people);
    rig_open(1, "juliet@a", "r");
    rig_skip(1);
    caps_server(ver);
    ask = xasprintf("<iq id='1' to='a' type='get'><query xmlns='http://jabber.org/protocol/disco#info' "
                    "node='" CAPS_NODE "#%s'/></iq>",
                    ver);
    rig_says(1, ask);
    char *got = xstrndup(rig.box[1].p, rig.box[1].n);
    char *query = strstr(got, "<query"), *end = query != NULL ? strstr(query, "</iq>") : NULL;
    assert_non_null(end);
    assert_non_null(strstr(query, ver));
    assert_non_null(strstr(query, "'http://jabber.org/protocol/caps'"));
    assert_non_null(strstr(query, "'msgoffline'"));
    caps_hash(span_make(query, (size_t)(end - query)), of_answer);
    assert_string_equal(of_answer, ver);
    assert_int_equal(strlen(ver), 28);
    free(ask);
    free(got);
    rig_skip(1);
    rig_says(1, "<iq id='2' to='a' type='get'><query xmlns='http://jabber.org/protocol/disco#info' "
                "node='" CAPS_NODE "#other'/></iq>");
    rig_want(1, "<iq*id='2'*type='error'*<item-not-found*");
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_of_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
