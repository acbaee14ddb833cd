/* Components that come and go: who is here, who is told that they have gone, how often; and what privileged
 * ones may do at a user's home (XEP-0356). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "rig.h"

static const char *const people[] = {"juliet@a", "romeo@a", NULL};

static void has(const char *node, uint64_t incarnation, const char *domains)
{
    struct wire_frame f = {.kind = WIRE_COMPONENTS, .text = span_of(domains)};
    struct buf b = {0};
    wire_add(&b, &f);
    core_frame(rig.core, node, incarnation, buf_span(&b), rig.now_ms);
    buf_free(&b);
    rig_run();
}

static void pass(uint64_t ms)
{
    rig.now_ms += ms;
    rig.wall_ms += ms;
    rig_run();
}

/* juliet sees bot@irc.a, and has joined a room there. */
static void with_contact(void)
{
    rig_open(1, "juliet@a", "r");
    rig_says(1, "<presence/>");
    rig_says(1, "<presence to='bot@irc.a' type='subscribe'/>");
    rig_remote("<presence from='bot@irc.a' to='juliet@a' type='subscribed'/>", 0);
    rig_says(1, "<presence to='room@irc.a/nick'/>");
    rig_skip(1);
    rig_skip(RIG_GATEWAY);
}

static void test_who_is_here(void **state)
{
    (void)state;
    rig_start(people);
    assert_false(components_here(rig.core, SPAN("irc.a")));
    has("s2s-1", 1, "irc.a sip.a");
    has("s2s-2", 1, "irc.a");
    assert_true(components_here(rig.core, SPAN("irc.a")));
    assert_true(components_here(rig.core, SPAN("sip.a")));
    assert_false(components_here(rig.core, SPAN("sip")));
    has("s2s-1", 1, "");
    assert_true(components_here(rig.core, SPAN("irc.a")));
    assert_false(components_here(rig.core, SPAN("sip.a")));
    core_node_gone(rig.core, "s2s-2", 7, rig.now_ms); /* another incarnation: old news */
    assert_true(components_here(rig.core, SPAN("irc.a")));
    core_node_gone(rig.core, "s2s-2", 1, rig.now_ms);
    assert_false(components_here(rig.core, SPAN("irc.a")));
    rig_stop();
}

static void test_gone_is_told_once(void **state)
{
    (void)state;
    rig_start(people);
    has("s2s-1", 1, "irc.a");
    has("s2s-2", 1, "irc.a");
    with_contact();
    has("s2s-1", 1, "");
    pass(6000);
    rig_silent(1); /* one process has it still */
    core_node_gone(rig.core, "s2s-2", 1, rig.now_ms);
    pass(4000);
    rig_silent(1);
    pass(1500);
    rig_want(1, "<presence from='bot@irc.a' to='juliet@a' type='unavailable'/>");
    rig_want(1, "<presence from='room@irc.a/nick' to='juliet@a/r' type='unavailable'/>");
    pass(20000);
    rig_silent(1);
    rig_says(1, "<presence type='unavailable'/>"); /* the room is left already */
    rig_skip(1);
    while (rig.box[RIG_GATEWAY].n > 0)
        rig_want(RIG_GATEWAY, "<presence*");
    rig_stop();
}

static void test_soon_back_is_not_gone(void **state)
{
    (void)state;
    rig_start(people);
    has("s2s-1", 1, "irc.a");
    with_contact();
    has("s2s-1", 1, "");
    pass(3000);
    has("s2s-2", 1, "irc.a");
    pass(20000);
    rig_silent(1);
    rig_stop();
}

/* ---- privileges ---- */

#define GET   "<query xmlns='jabber:iq:roster'/>"
#define INNER "<iq xmlns='jabber:client' type='get' to='b' id='in'><query xmlns='urn:q'/></iq>"
#define ASK(type, inner)                                                                     \
    "<iq type='" type                                                                        \
    "' from='irc.a' to='juliet@a' id='o'><privileged_iq xmlns='urn:xmpp:privilege:2'>" inner \
    "</privileged_iq></iq>"

static void start_privileged(const char *privileges)
{
    struct buf errors = {0};
    rig_start(people);
    assert_true(conf_set(rig.conf, privileges, &errors));
    features_init(rig.conf);
    has("s2s-1", 1, "irc.a");
}

static void test_roster(void **state)
{
    (void)state;
    start_privileged("s2s.privileges=irc.a=roster:both");
    rig_remote("<iq type='set' from='irc.a' to='juliet@a' id='s'><query xmlns='jabber:iq:roster'><item "
               "jid='x@irc.a' name='X'/></query></iq>",
               0);
    rig_want(RIG_GATEWAY, "<iq from='juliet@a' to='irc.a'*type='set'*<item jid='x@irc.a'*");
    rig_want(RIG_GATEWAY, "<iq*to='irc.a'*type='result'*");
    rig_remote("<iq type='get' from='irc.a' to='juliet@a' id='g'>" GET "</iq>", 0);
    rig_want(RIG_GATEWAY, "<iq*id='g'*type='result'*<item jid='x@irc.a'*");
    rig_remote("<iq type='get' from='sip.a' to='juliet@a' id='g'>" GET "</iq>", 0);
    rig_want(RIG_GATEWAY, "<iq*to='sip.a'*type='error'*<service-unavailable*");
    rig_stop();
}

static void test_roster_is_refused(void **state)
{
    (void)state;
    start_privileged("s2s.privileges=irc.a=roster:set");
    rig_remote("<iq type='get' from='irc.a' to='juliet@a' id='g'>" GET "</iq>", 0);
    rig_want(RIG_GATEWAY, "<iq*type='error'*<forbidden*");
    rig_remote("<iq type='set' from='irc.a' to='juliet@a' id='s'><query xmlns='jabber:iq:roster'><item "
               "jid='x@irc.a'/></query></iq>",
               0);
    rig_want(RIG_GATEWAY, "<iq*id='s'*type='result'*"); /* and no push, as it may not read */
    rig_silent(RIG_GATEWAY);
    rig_stop();
}

static void test_presence(void **state)
{
    (void)state;
    start_privileged("s2s.privileges=irc.a=presence:managed_entity");
    rig_open(1, "juliet@a", "r");
    rig_says(1, "<presence><show>away</show></presence>");
    rig_want(RIG_GATEWAY, "<presence*from='juliet@a/r' to='irc.a'*<show>away</show></presence>");
    rig_says(1, "<presence/>");
    rig_silent(RIG_GATEWAY);
    has("s2s-1", 1, "");
    has("s2s-1", 1, "irc.a");
    rig_want(RIG_GATEWAY, "<presence*from='juliet@a/r' to='irc.a'*");
    rig_close(1);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/r' to='irc.a' type='unavailable'/>");
    rig_silent(RIG_GATEWAY);
    rig_stop();
}

static void test_iq(void **state)
{
    (void)state;
    start_privileged("s2s.privileges=irc.a=iq:urn:q:get");
    rig_remote(ASK("get", INNER), 0);
    rig_want(RIG_GATEWAY, "<iq*from='juliet@a' to='b'*id='in'*<query xmlns='urn:q'/></iq>");
    rig_remote(ASK("get", INNER), 0);
    rig_want(RIG_GATEWAY, "<iq*id='o'*type='error'*<conflict*");
    rig_remote("<iq type='result' from='evil' to='juliet@a' id='in'/>", 0);
    rig_silent(RIG_GATEWAY);
    rig_remote("<iq type='result' from='b' to='juliet@a' id='in'><query xmlns='urn:q'>yes</query></iq>", 0);
    rig_want(RIG_GATEWAY, "<iq type='result' from='juliet@a' to='irc.a' id='o'><privilege "
                          "xmlns='urn:xmpp:privilege:2'><forwarded xmlns='urn:xmpp:forward:0'><iq "
                          "xmlns='jabber:client' *yes</query></iq></forwarded></privilege></iq>");
    rig_remote("<iq type='result' from='b' to='juliet@a' id='in'/>", 0);
    rig_silent(RIG_GATEWAY);
    rig_stop();
}

static void test_iq_without_an_answer(void **state)
{
    (void)state;
    start_privileged("s2s.privileges=irc.a=iq:urn:q:get");
    rig_remote(ASK("get", INNER), 0);
    rig_skip(RIG_GATEWAY);
    pass(61000);
    rig_want(RIG_GATEWAY, "<iq type='error' from='juliet@a' to='irc.a' id='o'>*<remote-server-timeout*");
    rig_stop();
}

static void test_iq_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        ASK("set", INNER),
        ASK("get", "<iq type='get' to='b' id='in'><query xmlns='urn:q'/></iq>"),
        ASK("get", "<iq xmlns='jabber:client' type='get' to='b' id='in'><query xmlns='urn:p'/></iq>"),
        ASK("get",
            "<iq xmlns='jabber:client' from='romeo@a' type='get' to='b' id='in'><query xmlns='urn:q'/></iq>"),
        ASK("get", "<message xmlns='jabber:client' to='b'><body>x</body></message>"),
        ASK("get", ""),
    };
    start_privileged("s2s.privileges=irc.a=iq:urn:q:get");
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        rig_remote(wrong[i], 0);
        rig_want(RIG_GATEWAY, "<iq*id='o'*type='error'*<forbidden*");
    }
    rig_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_here),
        cmocka_unit_test(test_gone_is_told_once),
        cmocka_unit_test(test_soon_back_is_not_gone),
        cmocka_unit_test(test_roster),
        cmocka_unit_test(test_roster_is_refused),
        cmocka_unit_test(test_presence),
        cmocka_unit_test(test_iq),
        cmocka_unit_test(test_iq_without_an_answer),
        cmocka_unit_test(test_iq_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
