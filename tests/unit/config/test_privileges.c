/* s2s.privileges: what is granted, and what is refused because it makes no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/config/conf.h"
#include "common/config/privileges.h"

static struct privileges p;

static bool parse(const char *text)
{
    const char *why = NULL;
    bool good = privileges_parse(span_of(text), &p, &why);
    assert_true(good || why != NULL);
    return good;
}

static void test_all(void **state)
{
    (void)state;
    assert_true(parse("irc.example=roster:both message:outgoing  presence:roster "
                      "iq:http://jabber.org/protocol/pubsub:set iq:urn:x:y:both"));
    assert_true(span_is(p.domain, "irc.example"));
    assert_int_equal(p.roster, PRIVILEGE_GET | PRIVILEGE_SET);
    assert_true(p.push && p.message);
    assert_int_equal(p.presence, PRIVILEGE_PRESENCE_ROSTER);
    assert_int_equal(p.iq_count, 2);
    assert_true(span_is(p.iqs[0].ns, "http://jabber.org/protocol/pubsub"));
    assert_int_equal(p.iqs[0].types, PRIVILEGE_SET);
    assert_true(span_is(p.iqs[1].ns, "urn:x:y"));
    assert_string_equal(privileges_access(p.iqs[1].types), "both");
}

static void test_push_follows_reading(void **state)
{
    (void)state;
    assert_true(parse("x=roster:get") && p.push);
    assert_true(parse("x=roster:get push:false") && !p.push);
    assert_true(parse("x=roster:set") && !p.push);
    assert_false(parse("x=roster:set push:true"));
    assert_false(parse("x=push:true"));
}

static void test_presence_of_contacts_needs_the_roster(void **state)
{
    (void)state;
    assert_true(parse("x=presence:managed_entity"));
    assert_false(parse("x=presence:roster"));
    assert_false(parse("x=roster:set presence:roster"));
    assert_true(parse("x=presence:roster roster:get"));
}

static void test_what_is_wrong(void **state)
{
    (void)state;
    assert_false(parse(""));
    assert_false(parse("x"));
    assert_false(parse("x="));
    assert_false(parse("=roster:get"));
    assert_false(parse("x=roster"));
    assert_false(parse("x=roster:all"));
    assert_false(parse("x=message:incoming"));
    assert_false(parse("x=iq:get"));
    assert_false(parse("x=iq:urn:x:all"));
    assert_false(parse("x=push:maybe roster:get"));
}

static void test_of(void **state)
{
    struct conf *conf = conf_new();
    struct buf errors = {0};
    (void)state;
    assert_true(conf_set(conf, "s2s.privileges=a=roster:get,b=nonsense,c=message:outgoing", &errors));
    assert_true(privileges_of(conf, SPAN("c"), &p) && p.message);
    assert_false(privileges_of(conf, SPAN("b"), &p));
    assert_false(privileges_of(conf, SPAN("d"), &p));
    assert_int_equal(p.roster, 0);
    conf_free(conf);
    buf_free(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_push_follows_reading),
        cmocka_unit_test(test_presence_of_contacts_needs_the_roster),
        cmocka_unit_test(test_what_is_wrong),
        cmocka_unit_test(test_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
