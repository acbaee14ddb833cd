/* The small iq features: ping, version, time, last activity, disco, vCard, session, register. */
#include "rig.h"

#include "common/stream/stream.h"
#include "router/contacts.h"

static const char *const accounts[] = {"juliet@a", "romeo@a", NULL};

static int setup(void **state)
{
    (void)state;
    rig_start(accounts);
    rig_open(1, "juliet@a", "balcony");
    rig_open(2, "romeo@a", "orchard");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

static void host(void **state)
{
    (void)state;
    rig.wall_ms += 5000;
    rig_says(1, "<iq id='1' to='a' type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
    rig_want(1, "<iq*from='a'*id='1'*type='result'*/>");
    rig_says(1, "<iq id='2' type='get'><ping xmlns='urn:xmpp:ping'/></iq>");
    rig_want(1, "<iq*id='2'*type='result'*/>");
    rig_says(1, "<iq id='3' to='a' type='get'><query xmlns='jabber:iq:version'/></iq>");
    rig_want(1, "<iq*type='result'*<name>Jackdaw</name><version>*</version></query></iq>");
    rig_says(1, "<iq id='4' to='a' type='get'><time xmlns='urn:xmpp:time'/></iq>");
    rig_want(1, "<iq*type='result'*<tzo>+00:00</tzo><utc>2023-11-14T22:13:25*Z</utc></time></iq>");
    rig_says(1, "<iq id='5' to='a' type='get'><query xmlns='jabber:iq:last'/></iq>");
    rig_want(1, "<iq*type='result'*<query xmlns='jabber:iq:last' seconds='5'/></iq>");
    rig_says(1, "<iq id='6' to='a' type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    rig_want(1, "<iq*type='result'*<identity category='server' type='im'*<feature "
                "var='http://jabber.org/protocol/disco#info'/>*<feature var='urn:xmpp:ping'/>*<feature "
                "var='vcard-temp'/>*</query></iq>");
    rig_says(1, "<iq id='7' to='a' type='get'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>");
    rig_want(1, "<iq*type='result'*<query xmlns='http://jabber.org/protocol/disco#items'></query></iq>");
    struct buf errors = {
        0}; /* components below the domain that are connected are its items; others are not */
    assert_true(conf_set(rig.conf, "s2s.components=irc.a=s1,irc.b=s2,xa=s3,sip.a=s4", &errors));
    components_at(rig.core, "s2s-1", 1, SPAN("irc.b irc.a xa"));
    rig_says(1, "<iq id='7c' to='a' type='get'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>");
    rig_want(
        1,
        "<iq*id='7c'*<query xmlns='http://jabber.org/protocol/disco#items'><item jid='irc.a'/></query></iq>");
    rig_says(
        1,
        "<iq id='8' to='a' type='get'><query xmlns='http://jabber.org/protocol/disco#info' node='x'/></iq>");
    rig_want(1, "<iq*type='error'*<item-not-found*");
    rig_says(1, "<iq id='9' type='set'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    rig_want(1, "<iq*id='9'*type='result'*/>");
    rig_says(1, "<iq id='10' to='a' type='get'><query xmlns='urn:unknown'/></iq>");
    rig_want(1, "<iq*type='error'*<service-unavailable*");
    /* From another server the same, but no account is behind it. */
    rig_remote("<iq from='x@b/r' to='a' id='11' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", 0);
    rig_want(RIG_GATEWAY, "<iq*to='x@b/r'*id='11'*type='result'*/>");
    rig_remote("<iq from='x@b/r' to='a' id='12' type='get'><query xmlns='jabber:iq:register'/></iq>", 0);
    rig_want(RIG_GATEWAY, "<iq*to='x@b/r'*id='12'*type='error'*<service-unavailable*");
    rig_remote(
        "<iq from='x@b/r' to='a' id='13' type='set'><query xmlns='jabber:iq:register'><remove/></query></iq>",
        0);
    rig_want(RIG_GATEWAY, "<iq*to='x@b/r'*id='13'*type='error'*<service-unavailable*");
    rig_silent(1);
}

static void account(void **state)
{
    (void)state;
    static const char *const info =
        "<iq id='1' to='romeo@a' type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
    static const char *const items =
        "<iq id='2' to='romeo@a' type='get'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>";
    static const char *const last = "<iq id='3' to='romeo@a' type='get'><query xmlns='jabber:iq:last'/></iq>";
    rig_says(2, "<presence/>");
    rig_says(1, info); /* a stranger learns nothing */
    rig_want(1, "<iq*type='error'*<service-unavailable*");
    rig_says(1, items);
    rig_want(1, "<iq*type='result'*<query xmlns='http://jabber.org/protocol/disco#items'></query></iq>");
    rig_says(1, last);
    rig_want(1, "<iq*type='error'*<forbidden*");
    contacts_get(user_find(rig.core, SPAN("romeo@a")), SPAN("juliet@a"))->state = CONTACT_FROM;
    rig_says(1, info);
    rig_want(1, "<iq*type='result'*<identity category='account' type='registered'/>*</query></iq>");
    rig_says(1, items);
    rig_want(1, "<iq*type='result'*<item jid='romeo@a/orchard'/></query></iq>");
    rig_says(1, last);
    rig_want(1, "<iq*type='result'*seconds='0'/></iq>");
    rig_close(2);
    rig.wall_ms += 903000;
    contacts_get(user_find(rig.core, SPAN("romeo@a")), SPAN("juliet@a"))->state = CONTACT_FROM;
    rig_says(1, last);
    rig_want(1, "<iq*type='result'*seconds='903'/></iq>");
    rig_says(1, "<iq id='4' type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    rig_want(1, "<iq*type='result'*<identity category='account'*");
    /* What a stranger is told of an account that exists. */
    rig_says(1, "<iq id='5' to='nobody@a' type='get'><query xmlns='jabber:iq:last'/></iq>");
    rig_want(1, "<iq*type='error'*<forbidden*");
}

static void vcard(void **state)
{
    (void)state;
    rig_says(1, "<iq id='1' type='get'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(1, "<iq*id='1'*type='error'*<item-not-found*");
    rig_says(2, "<iq id='2' to='juliet@a' type='get'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(2, "<iq*id='2'*type='error'*<service-unavailable*");
    rig_says(1, "<iq id='3' type='set'><vCard xmlns='vcard-temp'><FN>Juliet &amp; Co</FN></vCard></iq>");
    rig_want(1, "<iq*id='3'*type='result'*/>");
    rig_says(2, "<iq id='4' to='juliet@a' type='get'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(2, "<iq*id='4'*type='result'*><vCard xmlns='vcard-temp'><FN>Juliet &amp; Co</FN></vCard></iq>");
    rig_says(2, "<iq id='5' to='juliet@a' type='set'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(2, "<iq*id='5'*type='error'*<forbidden*");
    rig_says(2, "<iq id='6' to='nobody@a' type='get'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(2, "<iq*id='6'*type='error'*<service-unavailable*");
    store_mem_set_weather(rig.store, STORE_MEM_AWAY);
    rig_says(2, "<iq id='7' to='juliet@a' type='get'><vCard xmlns='vcard-temp'/></iq>");
    rig_want(2, "<iq*id='7'*type='error'*<internal-server-error*");
    store_mem_set_weather(rig.store, STORE_MEM_FAIR);
    assert_int_equal(rig.handled[2], rig.next_n[2]);
}

static void made_again(void **state)
{
    (void)state;
    struct wire_frame forget = {
        .kind = WIRE_CONTROL, .slot = 1, .n = 1, .name = SPAN("forget"), .text = SPAN("juliet@a")};
    rig_close(1); /* it stays in memory for a while */
    rig_frame("ctl", &forget);
    rig_run();
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    store_mem_del_account(rig.world, SPAN("juliet@a"));
    store_mem_add_account(rig.world, SPAN("juliet@a"));
    rig_open(3, "juliet@a", "r");
    forget.text = SPAN("romeo@a"); /* with a session */
    rig_frame("ctl", &forget);
    rig_run();
    assert_int_equal(rig.killed[2], STREAM_E_NOT_AUTHORIZED + 1);
    store_mem_del_account(rig.world, SPAN("romeo@a"));
    store_mem_add_account(rig.world, SPAN("romeo@a"));
    rig_open(4, "romeo@a", "r");
}

static void registration(void **state)
{
    (void)state;
    rig_says(1, "<iq id='1' to='a' type='get'><query xmlns='jabber:iq:register'/></iq>");
    rig_want(1, "<iq*type='result'*<registered/><username>juliet</username><password/></query></iq>");
    rig_says(1, "<iq id='2' type='set'><query xmlns='jabber:iq:register'><username>romeo</username>"
                "<password>x</password></query></iq>");
    rig_want(1, "<iq*type='error'*<not-allowed*");
    rig_says(1, "<iq id='3' type='set'><query xmlns='jabber:iq:register'><username>juliet</username>"
                "<password/></query></iq>");
    rig_want(1, "<iq*type='error'*<not-acceptable*");
    rig_open(5, "juliet@a", "garden");
    assert_true(conf_set(rig.conf, "register.allow_password_change=false", NULL));
    rig_says(1, "<iq id='4' type='set'><query xmlns='jabber:iq:register'><username>juliet</username>"
                "<password>new</password></query></iq>");
    rig_want(1, "<iq*id='4'*type='error'*<not-allowed*");
    assert_true(conf_set(rig.conf, "register.allow_password_change=true", NULL));
    rig_says(1, "<iq id='4' type='set'><query xmlns='jabber:iq:register'><username>Juliet</username>"
                "<password>new</password></query></iq>");
    rig_want(1, "<iq*id='4'*type='result'*/>");
    assert_int_equal(rig.killed[5], STREAM_E_NOT_AUTHORIZED + 1); /* it knows only the old password */
    assert_int_equal(rig.killed[1], 0);
    rig_says(1, "<iq id='5' type='set'><query xmlns='jabber:iq:register'><username>juliet</username>"
                "<password>newer</password></query></iq>");
    rig_want(1, "<iq*id='5'*type='error'*<resource-constraint*"); /* too soon */
    rig_says(1, "<iq id='6' type='set'><query xmlns='jabber:iq:register'><remove/><username>juliet</username>"
                "</query></iq>");
    rig_want(1, "<iq*id='6'*type='error'*<bad-request*");
    rig_says(1, "<presence to='x@b' type='subscribe'/>");
    rig_skip(RIG_GATEWAY);
    rig_skip(1);
    rig_open(3, "juliet@a", "chamber");
    assert_true(conf_set(rig.conf, "register.allow_remove=false", NULL));
    rig_says(1, "<iq id='7' type='set'><query xmlns='jabber:iq:register'><remove/></query></iq>");
    rig_want(1, "<iq*id='7'*type='error'*<not-allowed*");
    assert_true(conf_set(rig.conf, "register.allow_remove=true", NULL));
    rig_says(1, "<iq id='7' type='set'><query xmlns='jabber:iq:register'><remove/></query></iq>");
    rig_want(1, "<iq*id='7'*type='result'*/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' type='unsubscribe'/>");
    assert_int_equal(rig.killed[1], STREAM_E_NOT_AUTHORIZED + 1);
    assert_int_equal(rig.killed[3], STREAM_E_NOT_AUTHORIZED + 1);
    rig_says(2, "<iq id='8' to='juliet@a' type='get'><query xmlns='jabber:iq:last'/></iq>");
    rig_want(2, "<iq*type='error'*<forbidden*"); /* to the sessions that it had, too */
    rig_says(2, "<message to='juliet@a'><body>a</body></message>");
    rig_want(2, "<message*type='error'*<service-unavailable*");
    /* Made again: nothing of the old one is kept in memory (it could not log in for 90 s). */
    assert_null(user_find(rig.core, SPAN("juliet@a")));
    store_mem_add_account(rig.world, SPAN("juliet@a"));
    rig_open(4, "juliet@a", "r");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(host, setup, teardown),
        cmocka_unit_test_setup_teardown(account, setup, teardown),
        cmocka_unit_test_setup_teardown(vcard, setup, teardown),
        cmocka_unit_test_setup_teardown(registration, setup, teardown),
        cmocka_unit_test_setup_teardown(made_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
