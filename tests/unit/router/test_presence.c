/* RFC 6121 §4 in dialogues. juliet@a and romeo@a see each other; x@b (another server) and juliet too. */
#include "rig.h"
#include "router/contacts.h"

static const char *const accounts[] = {"juliet@a", "romeo@a", "tybalt@a", NULL};

/* Both directions, without looking. */
static void befriend(uint64_t juliet, uint64_t romeo)
{
    rig_says(juliet, "<presence to='romeo@a' type='subscribe'/>");
    rig_says(romeo, "<presence to='juliet@a' type='subscribed'/>");
    rig_says(romeo, "<presence to='juliet@a' type='subscribe'/>");
    rig_says(juliet, "<presence to='romeo@a' type='subscribed'/>");
    rig_says(juliet, "<presence to='x@b' type='subscribe'/>");
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribed'/>", 0);
    rig_remote("<presence from='x@b' to='juliet@a' type='subscribe'/>", 0);
    rig_says(juliet, "<presence to='x@b' type='subscribed'/>");
}

static int setup(void **state)
{
    (void)state;
    rig_start(accounts);
    rig_open(1, "juliet@a", "balcony");
    rig_open(2, "romeo@a", "orchard");
    befriend(1, 2);
    for (unsigned i = 0; i < RIG_SESSIONS; i++)
        rig_skip(i);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 1; i < RIG_SESSIONS; i++)
        if (rig.next_n[i] > 0 && rig.killed[i] == 0)
            assert_int_equal(rig.handled[i], rig.next_n[i]); /* nothing stays open */
    rig_stop();
    return 0;
}

static void initial_and_later(void **state)
{
    (void)state;
    rig_says(2, "<presence id='r'><show>away</show></presence>");
    rig_want(2, "<presence to='romeo@a' from='romeo@a/orchard' id='r'><show>away</show></presence>");
    rig_want(2, "<presence from='juliet@a' to='romeo@a' type='unavailable'/>"); /* the probe's answer */
    rig_silent(2);
    rig_says(1, "<presence id='j'><priority>5</priority><c xmlns='urn:c'/></presence>");
    rig_want(1,
             "<presence*from='juliet@a/balcony'*id='j'><priority>5</priority><c xmlns='urn:c'/></presence>");
    rig_want(1, "<presence from='romeo@a/orchard' to='juliet@a' id='r'><show>away</show></presence>");
    rig_silent(1);
    rig_want(2, "<presence to='romeo@a' from='juliet@a/balcony' id='j'>*</presence>");
    rig_silent(2);
    rig_want(RIG_GATEWAY, "<presence to='x@b' from='juliet@a/balcony' id='j'>*</presence>");
    rig_want(RIG_GATEWAY, "<presence to='x@b' from='juliet@a' type='probe'/>");
    rig_silent(RIG_GATEWAY);
    /* A second resource gets the first one's presence; the first one the second's. */
    rig_open(3, "juliet@a", "chamber");
    rig_says(3, "<presence/>");
    rig_want(3, "<presence to='juliet@a' from='juliet@a/chamber'/>");
    rig_want(3, "<presence from='juliet@a/balcony' to='juliet@a/chamber' id='j'>*</presence>");
    rig_want(3, "<presence from='romeo@a/orchard'*id='r'*");
    rig_silent(3);
    rig_want(1, "<presence to='juliet@a' from='juliet@a/chamber'/>");
    rig_skip(1);
    rig_skip(2);
    rig_skip(RIG_GATEWAY);
    /* An update: full XML to all, no probes. */
    rig_says(1, "<presence><show>dnd</show></presence>");
    rig_want(1, "<presence*from='juliet@a/balcony'><show>dnd</show></presence>");
    rig_want(3, "<presence*from='juliet@a/balcony'><show>dnd</show></presence>");
    rig_want(2, "<presence*from='juliet@a/balcony'><show>dnd</show></presence>");
    rig_want(RIG_GATEWAY, "<presence*from='juliet@a/balcony'><show>dnd</show></presence>");
    for (unsigned i = 0; i < RIG_SESSIONS; i++)
        rig_silent(i);
    assert_int_equal(session_find(rig.core, 1)->priority, 0);
}

static void priorities(void **state)
{
    (void)state;
    static const struct {
        const char *xml;
        int value; /* 999 = bad-request */
    } cases[] = {
        {"<priority>-128</priority>", -128},
        {"<priority>127</priority>", 127},
        {"<priority> 7\n</priority>", 7},
        {"<priority>+3</priority>", 3},
        {"<priority>128</priority>", 999},
        {"<priority>-129</priority>", 999},
        {"<priority/>", 999},
        {"<priority>x</priority>", 999},
        {"<priority>1<b/></priority>", 999},
        {"<priority>1</priority><priority>1</priority>", 999},
        {"<priority xmlns='urn:y'>x</priority>", 0},
        {"<priority>&#49;</priority>", 1},
        {"<priority>+-3</priority>", 999},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf xml = {0};
        buf_addf(&xml, "<presence>%s</presence>", cases[i].xml);
        rig_skip(1);
        rig_says(1, buf_cstr(&xml));
        buf_free(&xml);
        bool refused = rig_match("<presence*type='error'*<bad-request*", buf_cstr(&rig.box[1]));
        int priority = session_find(rig.core, 1)->priority;
        if (refused != (cases[i].value == 999) || (!refused && priority != cases[i].value))
            fail_msg("%s: refused %d, priority %d", cases[i].xml, refused, priority);
    }
}

static void unavailable(void **state)
{
    (void)state;
    rig_says(1, "<presence/>");
    rig_says(2, "<presence/>");
    rig_skip(1);
    rig_skip(2);
    rig_skip(RIG_GATEWAY);
    rig_says(1, "<presence type='unavailable'><status>gone</status></presence>");
    rig_want(1, "<presence*from='juliet@a/balcony'*type='unavailable'><status>gone</status></presence>");
    rig_want(2, "<presence*from='juliet@a/balcony'*type='unavailable'><status>gone</status></presence>");
    rig_want(RIG_GATEWAY,
             "<presence*from='juliet@a/balcony'*type='unavailable'><status>gone</status></presence>");
    rig_says(1, "<presence type='unavailable'/>"); /* twice: nothing */
    rig_silent(1);
    rig_silent(2);
    rig_says(1, "<presence/>"); /* is initial presence again */
    rig_want(1, "<presence*from='juliet@a/balcony'/>");
    rig_want(1, "<presence from='romeo@a/orchard'*");
    rig_skip(2);
    rig_skip(RIG_GATEWAY);
    rig_close(1); /* without a word */
    rig_want(2, "<presence to='romeo@a' from='juliet@a/balcony' type='unavailable'/>");
    rig_want(RIG_GATEWAY, "<presence to='x@b' from='juliet@a/balcony' type='unavailable'/>");
    rig_silent(2);
    rig_silent(RIG_GATEWAY);
    rig.next_n[1] = 0;
}

static void probes(void **state)
{
    (void)state;
    rig_remote("<presence from='x@b' to='juliet@a' type='probe' id='p1'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='x@b' id='p1' type='unavailable'/>");
    rig_says(1, "<presence id='mine'><show>xa</show></presence>");
    rig_skip(RIG_GATEWAY);
    rig_remote("<presence from='x@b' to='juliet@a' type='probe' id='p2'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b' id='mine'><show>xa</show></presence>");
    rig_remote("<presence from='x@b/res' to='juliet@a' type='probe'/>", 0); /* RFC 3921's way */
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b/res' id='mine'>*");
    rig_remote("<presence from='x@b' to='juliet@a/balcony' type='probe'/>", 0); /* only that it is there */
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='x@b'/>");
    rig_remote("<presence from='x@b' to='juliet@a/none' type='probe' id='p4'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/none' to='x@b' id='p4' type='unavailable'/>");
    rig_remote("<presence from='stranger@b' to='juliet@a/balcony' type='probe' id='p5'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='stranger@b' id='p5' type='unsubscribed'/>");
    rig_remote("<presence from='x@b' to='nobody@a' type='probe' id='p6'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='nobody@a' to='x@b' id='p6' type='unsubscribed'/>");
    rig_silent(RIG_GATEWAY);
    /* The time of the last unavailable presence is known, also to the next router. */
    rig_says(1, "<presence type='unavailable'/>");
    rig_close(1);
    rig_skip(RIG_GATEWAY);
    rig_crash();
    rig_remote("<presence from='x@b' to='juliet@a' type='probe' id='p7'/>", 0);
    rig_want(RIG_GATEWAY,
             "<presence from='juliet@a' to='x@b' id='p7' type='unavailable'><delay "
             "xmlns='urn:xmpp:delay' from='juliet@a' stamp='2023-11-14T22:13:20*Z'/></presence>");
    rig.next_n[1] = rig.next_n[2] = 0;
}

static void directed(void **state)
{
    (void)state;
    rig_says(1, "<presence to='room@b/nick'><x xmlns='urn:muc'/></presence>"); /* before initial presence */
    rig_want(RIG_GATEWAY, "<presence*to='room@b/nick'*><x xmlns='urn:muc'/></presence>");
    rig_remote("<presence from='room@b/nick' to='juliet@a/balcony' type='probe'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='room@b/nick'/>");
    rig_remote("<presence from='room@b/nick' to='juliet@a/other' type='probe'/>", 0);
    rig_want(RIG_GATEWAY, "<presence from='juliet@a' to='room@b/nick' type='unsubscribed'/>");
    rig_remote("<presence from='room@b/other' to='juliet@a/balcony'/>", 0);
    rig_want(1, "<presence from='room@b/other' to='juliet@a/balcony'/>");
    rig_says(1, "<presence/>");
    rig_says(1, "<presence to='romeo@a'/>"); /* a subscriber: no bookkeeping */
    rig_says(1, "<presence to='tybalt@a'/>");
    rig_says(1, "<presence to='left@b'/>");
    rig_says(1, "<presence to='left@b' type='unavailable'/>");
    rig_says(1, "<presence to='kicker@b/me'/>");
    rig_remote("<presence from='kicker@b/me' to='juliet@a/balcony' type='unavailable'/>", 0);
    assert_int_equal(session_find(rig.core, 1)->directed.count, 2);
    rig_open(4, "tybalt@a", "street");
    rig_says(4, "<presence/>");
    rig_skip(1);
    rig_skip(4);
    rig_skip(RIG_GATEWAY);
    rig_says(1, "<presence><show>away</show></presence>"); /* not to the directed ones */
    rig_want(RIG_GATEWAY, "<presence to='x@b'*");
    rig_silent(RIG_GATEWAY);
    rig_silent(4);
    rig_close(1);
    rig_want(4, "<presence from='juliet@a/balcony' to='tybalt@a' type='unavailable'/>");
    rig_silent(4);
    rig_want(RIG_GATEWAY, "<presence to='x@b'*type='unavailable'/>");
    rig_want(RIG_GATEWAY, "<presence from='juliet@a/balcony' to='room@b/nick' type='unavailable'/>");
    rig_silent(RIG_GATEWAY);
    rig.next_n[1] = 0;
}

/* Who has no subscription any more does not get a broadcast, and the other side learns it. */
static void one_sided(void **state)
{
    (void)state;
    rig_says(2, "<presence/>");
    rig_says(1, "<presence/>");
    rig_skip(1);
    rig_skip(2);
    rig_skip(RIG_GATEWAY);
    struct user *juliet = user_find(rig.core, SPAN("juliet@a"));
    contacts_get(juliet, SPAN("romeo@a"))->state = 0; /* juliet's side has lost it */
    rig_says(2, "<presence><show>away</show></presence>");
    rig_want(1, "<presence from='romeo@a/orchard' to='juliet@a' type='unavailable'/>"); /* §3.3.3 */
    rig_silent(1);
    rig_want(2, "<presence*<show>away</show></presence>");
    rig_silent(2); /* has not asked for the roster, so no push; but juliet is no subscriber any more */
    struct user *romeo = user_find(rig.core, SPAN("romeo@a"));
    assert_int_equal(contacts_find(romeo, SPAN("juliet@a"))->state & CONTACT_FROM, 0);
    /* Another server's presence is not marked as a broadcast: it may be directed. */
    rig_remote("<presence from='anybody@b/x' to='juliet@a'/>", 0);
    rig_want(1, "<presence from='anybody@b/x' to='juliet@a'/>");
    rig_silent(1);
}

/* A router dies; the next one takes the sessions over and asks and tells again. */
static void taken_over(void **state)
{
    (void)state;
    rig_says(1, "<presence id='j'/>");
    rig_says(2, "<presence id='r'/>");
    for (unsigned i = 0; i < RIG_SESSIONS; i++)
        rig_skip(i);
    rig_crash();
    for (uint64_t sid = 1; sid <= 2; sid++) {
        struct wire_frame f = {.kind = WIRE_SYNC,
                               .slot = 1,
                               .sid = sid,
                               .from = span_of(rig.full[sid]),
                               .n = rig.handled[sid],
                               .num = 1000};
        rig_frame("c2s", &f);
        rig_run();
    }
    rig_want(RIG_GATEWAY, "<presence to='x@b' from='juliet@a/balcony' id='j'/>");
    rig_want(RIG_GATEWAY, "<presence to='x@b' from='juliet@a' type='probe'/>");
    rig_want(1, "<presence*from='juliet@a/balcony'*");
    rig_want(1, "<presence*from='romeo@a/orchard'*id='r'/>");
    rig_says(1, "<presence><show>away</show></presence>");
    rig_skip(1);
    assert_int_equal(session_find(rig.core, 1)->available, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(initial_and_later, setup, teardown),
        cmocka_unit_test_setup_teardown(priorities, setup, teardown),
        cmocka_unit_test_setup_teardown(unavailable, setup, teardown),
        cmocka_unit_test_setup_teardown(probes, setup, teardown),
        cmocka_unit_test_setup_teardown(directed, setup, teardown),
        cmocka_unit_test_setup_teardown(one_sided, setup, teardown),
        cmocka_unit_test_setup_teardown(taken_over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
