/* RFC 6121 §2 in dialogues: get with versions, set, remove, errors, pushes. */
#include "rig.h"

static const char *const accounts[] = {"juliet@a", "romeo@a", NULL};

static int setup(void **state)
{
    (void)state;
    rig_start(accounts);
    rig_open(1, "juliet@a", "balcony");
    rig_open(2, "juliet@a", "chamber");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

#define GET "<iq id='g' type='get'><query xmlns='jabber:iq:roster'/></iq>"

static void get_and_set(void **state)
{
    (void)state;
    rig_says(1, GET);
    rig_want(1, "<iq*type='result'*><query xmlns='jabber:iq:roster' ver='0'></query></iq>");
    rig_says(1,
             "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='Nurse@A/x' name='N &amp; M' "
             "subscription='both' ask='subscribe'><group>Servants</group></item></query></iq>");
    rig_want(1, "<iq to='juliet@a/balcony' from='juliet@a' id='push-*' type='set'><query "
                "xmlns='jabber:iq:roster' ver='1700000000000'><item jid='nurse@a' name='N &amp; M' "
                "subscription='none'><group>Servants</group></item></query></iq>");
    rig_want(1, "<iq*id='s'*type='result'*/>");
    rig_silent(1);
    rig_silent(2); /* has not asked for the roster */
    rig_says(1, "<iq id='push-1' type='result'/>");
    rig_silent(1);
    rig_says(2, GET);
    rig_want(2, "<iq*type='result'*ver='1700000000000'><item jid='nurse@a' name='N &amp; M' "
                "subscription='none'><group>Servants</group></item></query></iq>");
    /* An update replaces name and groups, and both resources see it. */
    rig_says(2, "<iq id='u' type='set'><query xmlns='jabber:iq:roster'><item jid='nurse@a'/></query></iq>");
    rig_want(
        2,
        "<iq*type='set'><query*ver='1700000000001'><item jid='nurse@a' subscription='none'/></query></iq>");
    rig_want(2, "<iq*id='u'*type='result'*/>");
    rig_want(1,
             "<iq to='juliet@a/balcony'*type='set'*<item jid='nurse@a' subscription='none'/></query></iq>");
    assert_int_equal(rig.handled[1], 3);
    assert_int_equal(rig.handled[2], 2);
}

static void versions(void **state)
{
    (void)state;
    rig_says(1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@b'/></query></iq>");
    rig_want(1, "<iq*id='s'*type='result'*/>");
    rig_says(1, "<iq id='g' type='get'><query xmlns='jabber:iq:roster' ver='1700000000000'/></iq>");
    rig_want(1, "<iq*id='g'*type='result'/>");
    rig_says(1, "<iq id='g' type='get'><query xmlns='jabber:iq:roster' ver=''/></iq>");
    rig_want(1, "<iq*type='result'*<item jid='x@b'*");
    rig_says(1, "<iq id='r' type='set'><query xmlns='jabber:iq:roster'><item jid='x@b' "
                "subscription='remove'/></query></iq>");
    rig_want(1, "<iq*type='set'*ver='1700000000001'><item jid='x@b' subscription='remove'/></query></iq>");
    rig_want(1, "<iq*id='r'*type='result'*/>");
    /* A removal is a new version too, also after the router has forgotten everything. */
    rig_crash(); /* it must come from the store */
    rig_open(3, "juliet@a", "third");
    rig_says(3, "<iq id='g' type='get'><query xmlns='jabber:iq:roster' ver='1700000000000'/></iq>");
    rig_want(3, "<iq*type='result'*><query xmlns='jabber:iq:roster' ver='1700000000001'></query></iq>");
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *query, *condition;
    } cases[] = {
        {"<item/>", "bad-request"},
        {"", "bad-request"},
        {"<item jid='@a'/>", "bad-request"},
        {"<item jid='x@a'/><item jid='y@a'/>", "bad-request"},
        {"<item jid='x@a'><group>G</group><group>G</group></item>", "bad-request"},
        {"<item jid='x@a'><group/></item>", "not-acceptable"},
        {"<item jid='x@a' subscription='remove'/>", "item-not-found"},
        {"<item jid='juliet@a'/>", "not-allowed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf xml = {0}, want = {0};
        buf_addf(&xml, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'>%s</query></iq>",
                 cases[i].query);
        buf_addf(&want, "<iq*type='error'*<%s xmlns=*", cases[i].condition);
        rig_says(1, buf_cstr(&xml));
        rig_want(1, buf_cstr(&want));
        rig_silent(1);
        buf_free(&xml);
        buf_free(&want);
    }
    struct buf xml = {0};
    buf_add_lit(&xml, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@a' name='");
    for (unsigned i = 0; i < 1024; i++)
        buf_add_char(&xml, 'x');
    buf_add_lit(&xml, "'/></query></iq>");
    rig_says(1, buf_cstr(&xml));
    buf_free(&xml);
    rig_want(1, "<iq*type='error'*<not-acceptable*");
    /* Somebody else's roster. */
    rig_says(
        1,
        "<iq id='s' to='romeo@a' type='set'><query xmlns='jabber:iq:roster'><item jid='x@a'/></query></iq>");
    rig_want(1, "<iq*from='romeo@a'*type='error'*<forbidden*");
    rig_says(1, "<iq id='s' to='romeo@a' type='get'><query xmlns='jabber:iq:roster'/></iq>");
    rig_want(1, "<iq*type='error'*<service-unavailable*");
    /* A full roster. */
    struct buf errors = {0};
    assert_true(conf_set(rig.conf, "limits.roster_items=1", &errors));
    rig_says(1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@a'/></query></iq>");
    rig_want(1, "<iq*type='result'*");
    rig_says(1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='y@a'/></query></iq>");
    rig_want(1, "<iq*type='error'*<resource-constraint*");
    rig_says(1, "<presence to='z@a' type='subscribe'/>");
    rig_want(1, "<presence*from='z@a'*type='error'*<resource-constraint*");
    rig_says(1,
             "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@a' name='n'/></query></iq>");
    rig_want(1, "<iq*type='result'*");
}

static void remove_ends_subscriptions(void **state)
{
    (void)state;
    rig_says(1, GET);
    rig_says(1, "<presence/>");
    rig_skip(1);
    rig_says(1, "<presence to='x@b' type='subscribe' id='1'/>");
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribe'/>", 0);
    rig_says(1, "<presence to='x@b' type='subscribed'/>");
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribed'/>", 0);
    rig_skip(1);
    rig_skip(RIG_GATEWAY);
    rig_says(1, "<iq id='r' type='set'><query xmlns='jabber:iq:roster'><item jid='x@b' "
                "subscription='remove'/></query></iq>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' type='unsubscribe'/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b' type='unavailable'/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' type='unsubscribed'/>");
    rig_silent(RIG_GATEWAY);
    rig_want(1, "<iq*type='set'*<item jid='x@b' subscription='remove'/>*");
    rig_want(1, "<iq*id='r'*type='result'*");
    rig_silent(1);
}

/* What the store refuses has not happened, also in memory. */
static void full_store(void **state)
{
    (void)state;
    rig_says(
        1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@b' name='old'/></query></iq>");
    rig_says(1, GET);
    rig_skip(1);
    store_mem_set_full(rig.world, true);
    rig_says(
        1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@b' name='new'/></query></iq>");
    rig_want(1, "<iq*type='error'*<resource-constraint*");
    rig_says(1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='y@b'/></query></iq>");
    rig_want(1, "<iq*type='error'*<resource-constraint*");
    rig_says(1, "<presence to='x@b' type='subscribe'/>");
    rig_want(1, "<presence*type='error'*<resource-constraint*");
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribe' id='in'/>", 0);
    rig_want(RIG_GATEWAY, "<presence*to='x@b'*type='error'*<resource-constraint*");
    rig_silent(RIG_GATEWAY);
    rig_silent(1);
    store_mem_set_full(rig.world, false);
    rig_says(1, GET);
    rig_want(1, "<iq*type='result'*><item jid='x@b' name='old' subscription='none'/></query></iq>");
    assert_int_equal(rig.handled[1], rig.next_n[1]);
    /* What needs no room goes on. */
    store_mem_set_full(rig.world, true);
    rig_says(1, "<iq id='s' type='set'><query xmlns='jabber:iq:roster'><item jid='x@b' "
                "subscription='remove'/></query></iq>");
    rig_want(1, "<iq*type='set'*<item jid='x@b' subscription='remove'/>*");
    rig_want(1, "<iq*id='s'*type='result'*");
    rig_silent(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(get_and_set, setup, teardown),
        cmocka_unit_test_setup_teardown(versions, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(full_store, setup, teardown),
        cmocka_unit_test_setup_teardown(remove_ends_subscriptions, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
