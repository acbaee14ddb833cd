/* RFC 6121 §3 in dialogues, between users of one router and with another server. */
#include "rig.h"

static const char *const accounts[] = {"juliet@a", "romeo@a", NULL};

static void log_in(uint64_t sid, const char *account, const char *resource)
{
    rig_open(sid, account, resource);
    rig_says(sid, "<iq id='g' type='get'><query xmlns='jabber:iq:roster'/></iq>");
    rig_says(sid, "<presence/>");
    rig_skip(sid);
}

static int setup(void **state)
{
    (void)state;
    rig_start(accounts);
    log_in(1, "juliet@a", "balcony");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

static void handshake(void **state)
{
    (void)state;
    log_in(2, "romeo@a", "orchard");
    rig_says(2,
             "<presence to='juliet@a/balcony' id='ask' type='subscribe'><status>please</status></presence>");
    rig_want(
        2, "<iq to='romeo@a/orchard'*type='set'*<item jid='juliet@a' subscription='none' ask='subscribe'/>*");
    rig_want(1, "<presence from='romeo@a' to='juliet@a' id='ask' "
                "type='subscribe'><status>please</status></presence>");
    rig_silent(1);
    rig_says(1, "<presence to='romeo@a' type='subscribed'/>");
    rig_want(1, "<iq*type='set'*<item jid='romeo@a' subscription='from'/>*");
    rig_want(2, "<presence from='juliet@a' to='romeo@a' type='subscribed'/>"); /* before the push */
    rig_want(2, "<iq*type='set'*<item jid='juliet@a' subscription='to'/>*");
    rig_want(2, "<presence from='juliet@a/balcony' to='romeo@a'/>");
    rig_silent(1);
    rig_silent(2);
    /* The other direction. */
    rig_says(1, "<presence to='romeo@a' type='subscribe'/>");
    rig_says(2, "<presence to='juliet@a' type='subscribed'/>");
    rig_want(1, "<iq*<item jid='romeo@a' subscription='from' ask='subscribe'/>*");
    rig_want(1, "<presence from='romeo@a'*type='subscribed'/>");
    rig_want(1, "<iq*<item jid='romeo@a' subscription='both'/>*");
    rig_want(1, "<presence from='romeo@a/orchard' to='juliet@a'/>");
    rig_skip(2);
    /* Romeo leaves: Juliet's presence to him ends. */
    rig_says(2, "<presence to='juliet@a' type='unsubscribe'/>");
    rig_want(2, "<iq*<item jid='juliet@a' subscription='from'/>*");
    rig_want(1, "<presence from='romeo@a'*type='unsubscribe'/>");
    rig_want(1, "<iq*<item jid='romeo@a' subscription='to'/>*");
    rig_silent(1);
    rig_want(2, "<presence from='juliet@a/balcony' to='romeo@a' type='unavailable'/>");
    rig_silent(2); /* the automatic unsubscribed changes nothing */
    /* He also cancels hers. */
    rig_says(2, "<presence to='juliet@a' type='unsubscribed'/>");
    rig_want(2, "<iq*<item jid='juliet@a' subscription='none'/>*");
    rig_want(1, "<presence from='romeo@a/orchard' to='juliet@a' type='unavailable'/>");
    rig_want(1, "<presence from='romeo@a'*type='unsubscribed'/>");
    rig_want(1, "<iq*<item jid='romeo@a' subscription='none'/>*");
    rig_silent(1);
    rig_silent(2);
}

static void request_while_offline(void **state)
{
    (void)state;
    rig_says(1, "<presence to='romeo@a' id='1' type='subscribe'><x xmlns='urn:x'>whole</x></presence>");
    rig_skip(1);
    rig_crash();                             /* it must come from the store */
    for (uint64_t sid = 2; sid < 4; sid++) { /* at every login until it is answered */
        rig_open(sid, "romeo@a", "r");
        rig_says(sid, "<iq id='g' type='get'><query xmlns='jabber:iq:roster'/></iq>");
        rig_want(sid, "<iq*type='result'*></query></iq>"); /* no item for a mere request */
        rig_says(sid, "<presence/>");
        rig_want(sid, "<presence*from='romeo@a/r'*/>");
        rig_want(sid, "<presence from='juliet@a' to='romeo@a' id='1' type='subscribe'><x "
                      "xmlns='urn:x'>whole</x></presence>");
        rig_silent(sid);
        rig_close(sid);
    }
    rig_remote("<presence from='x@b' to='romeo@a' type='subscribe' id='one'/>", 0);
    rig_remote("<presence from='x@b' to='romeo@a' type='subscribe' id='two'/>", 0);
    rig_open(4, "romeo@a", "r");
    rig_says(4, "<presence to='juliet@a' type='unsubscribed'/>"); /* denied */
    rig_says(4, "<presence/>");
    rig_want(4, "<presence*from='romeo@a/r'*/>");
    rig_want(4, "<presence from='x@b'*id='one'*"); /* one of each sender */
    rig_silent(4);
}

static void pre_approval(void **state)
{
    (void)state;
    rig_says(1, "<presence to='x@b' type='subscribed'/>");
    rig_want(1, "<iq*<item jid='x@b' subscription='none' approved='true'/>*");
    rig_silent(RIG_GATEWAY);
    rig_remote("<presence from='x@b' to='juliet@a' id='7' type='subscribe'/>", 0);
    rig_want(1, "<iq*<item jid='x@b' subscription='from' approved='true'/>*");
    rig_silent(1); /* not asked */
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' id='7' type='subscribed'/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b'/>");
    /* Asking once more: answered again. */
    rig_remote("<presence from='x@b' to='juliet@a' id='8' type='subscribe'/>", 0);
    rig_silent(1);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' id='8' type='subscribed'/>");
    rig_skip(RIG_GATEWAY);
    rig_says(1, "<presence to='x@b' type='unsubscribed'/>");
    rig_want(1, "<iq*<item jid='x@b' subscription='none'/>*");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b' type='unavailable'/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' type='unsubscribed'/>");
    rig_silent(RIG_GATEWAY);
}

/* The router died after the commit and before the telling: what comes again is told all the same. */
static void again(void **state)
{
    (void)state;
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribe'/>", 0);
    rig_says(1, "<presence to='x@b' type='subscribed'/>");
    rig_skip(1);
    rig_skip(RIG_GATEWAY);
    rig_stanza("c2s", 1, "<presence to='x@b' type='subscribed'/>", span_of(rig.full[1]), WIRE_AGAIN);
    rig_run();
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' type='subscribed'/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b'/>");
    rig_want(1, "<iq*<item jid='x@b' subscription='from'/>*");
    rig_says(1, "<presence to='x@b' type='subscribed'/>"); /* not again: nothing */
    rig_silent(1);
    rig_silent(RIG_GATEWAY);
    rig_says(1, "<presence to='x@b' type='subscribe'/>");
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribed'/>", 0);
    rig_skip(1);
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribed'/>", 0);
    rig_silent(1);
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribed'/>", WIRE_AGAIN);
    rig_want(1, "<presence from='x@b'*type='subscribed'/>");
}

/* Another router has the user: nothing is told, and the sender tries again there. */
static void fenced(void **state)
{
    (void)state;
    rig_remote("<presence from='y@b' to='juliet@a' type='subscribe'/>", 0);
    rig_want(1, "<presence from='y@b'*");
    rig_remote("<presence from='y@b' to='juliet@a' type='probe'/>", 0);
    rig_skip(RIG_GATEWAY);
    assert_int_equal(rig.done[0], 2);
    rig_steal("juliet@a");
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribe'/>", 0);
    assert_int_equal(rig.done[1], 1);
    assert_int_equal(rig.done[0], 2);
    rig_silent(1);
    rig_silent(RIG_GATEWAY);
    assert_int_equal(rig.killed[1], 0); /* the session lives, elsewhere */
}

static void odd(void **state)
{
    (void)state;
    rig_says(1, "<presence type='subscribe'/>");
    rig_want(1, "<presence*type='error'*<bad-request*");
    rig_says(1, "<presence to='juliet@a' type='subscribe'/>");
    rig_silent(1);
    rig_says(1, "<presence to='nobody@a' type='subscribe'/>"); /* no such user: silence (§8.5.1) */
    rig_want(1, "<iq*<item jid='nobody@a' subscription='none' ask='subscribe'/>*");
    rig_silent(1);
    rig_remote("<presence from='x@b' to='juliet@a/gone' type='unsubscribed'/>", 0);
    rig_remote("<presence from='x@b' to='juliet@a' type='unsubscribed'/>", 0);
    rig_remote("<presence from='x@b' to='juliet@a' type='unsubscribe'/>", 0);
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribed'/>", 0);
    rig_silent(1);
    rig_silent(RIG_GATEWAY);
    assert_int_equal(rig.handled[1], rig.next_n[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(handshake, setup, teardown),
        cmocka_unit_test_setup_teardown(request_while_offline, setup, teardown),
        cmocka_unit_test_setup_teardown(pre_approval, setup, teardown),
        cmocka_unit_test_setup_teardown(again, setup, teardown),
        cmocka_unit_test_setup_teardown(fenced, setup, teardown),
        cmocka_unit_test_setup_teardown(odd, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
