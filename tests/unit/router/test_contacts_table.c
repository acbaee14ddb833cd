/* The 72 cells of RFC 6121 appendix A, spelled out, and pre-approval beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "appendix_a.h"

static struct contact_change change_of(const struct table *t, uint8_t state)
{
    return t->outbound ? contacts_outbound(state, t->type) : contacts_inbound(state, t->type);
}

static void appendix_a(void **unused)
{
    (void)unused;
    unsigned seen = 0;
    for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
        const struct table *t = &tables[i];
        for (size_t k = 0; k < 9; k++) {
            const struct cell *cell = &t->cells[k];
            uint8_t from = state_of(cell->from);
            uint8_t to = cell->to != NULL ? state_of(cell->to) : from;
            struct contact_change change = change_of(t, from);
            uint8_t bare = change.state & (uint8_t)~CONTACT_PREAPPROVED;
            if (bare != to || change.route != cell->go)
                fail_msg("%s %d in %s: want %s %s, got state %u route %d", t->outbound ? "out" : "in",
                         t->type, cell->from, cell->go ? "route" : "no route",
                         cell->to != NULL ? cell->to : "no change", bare, change.route);
            /* Pre-approval appears for an outbound subscribed in None, None+Out and To, nowhere else. */
            bool approval = t->outbound && t->type == STANZA_SUBSCRIBED &&
                            (from == 0 || from == CONTACT_PENDING_OUT || from == CONTACT_TO);
            assert_int_equal((change.state & CONTACT_PREAPPROVED) != 0, approval);
            /* A push shows what is visible: everything but a pending request of the contact. */
            uint8_t shown = CONTACT_TO | CONTACT_FROM | CONTACT_PENDING_OUT | CONTACT_PREAPPROVED;
            assert_int_equal(change.push, (from & shown) != (change.state & shown));
            /* Presence follows FROM. */
            assert_int_equal(change.send_unavailable, (from & CONTACT_FROM) && !(to & CONTACT_FROM));
            bool again = !t->outbound && t->type == STANZA_SUBSCRIBE && (from & CONTACT_FROM);
            assert_int_equal(change.send_presence, again || (!(from & CONTACT_FROM) && (to & CONTACT_FROM)));
            assert_int_equal(change.auto_subscribed, again);
            assert_int_equal(change.auto_unsubscribed,
                             !t->outbound && t->type == STANZA_UNSUBSCRIBE && cell->go);
            seen++;
        }
    }
    assert_int_equal(seen, 72);
}

static void pre_approval(void **unused)
{
    (void)unused;
    static const struct {
        const char *from, *to;
    } asked[] = {{"None", "From"}, {"None+Out", "From+Out"}, {"To", "Both"}};
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        uint8_t state = state_of(asked[i].from) | CONTACT_PREAPPROVED;
        struct contact_change change = contacts_inbound(state, STANZA_SUBSCRIBE);
        assert_false(change.route);
        assert_true(change.auto_subscribed);
        assert_true(change.send_presence);
        assert_true(change.push);
        assert_int_equal(change.state, state_of(asked[i].to) | CONTACT_PREAPPROVED);
    }
    /* Taken back without a word to the contact, but with a push. */
    struct contact_change change = contacts_outbound(CONTACT_PREAPPROVED, STANZA_UNSUBSCRIBED);
    assert_int_equal(change.state, 0);
    assert_false(change.route);
    assert_true(change.push);
    /* Said twice: nothing new. */
    change = contacts_outbound(CONTACT_PREAPPROVED, STANZA_SUBSCRIBED);
    assert_int_equal(change.state, CONTACT_PREAPPROVED);
    assert_false(change.push);
    /* It outlives the contact's own unsubscribe. */
    change = contacts_inbound(CONTACT_FROM | CONTACT_PREAPPROVED, STANZA_UNSUBSCRIBE);
    assert_int_equal(change.state, CONTACT_PREAPPROVED);
    assert_true(change.auto_unsubscribed);
}

static void odd_input(void **unused)
{
    (void)unused;
    for (unsigned state = 0; state < 256; state++)
        for (int type = 0; type < STANZA_TYPE_COUNT; type++) {
            struct contact_change out = contacts_outbound((uint8_t)state, (enum stanza_type)type);
            struct contact_change in = contacts_inbound((uint8_t)state, (enum stanza_type)type);
            assert_int_equal(out.state, contacts_normal_state(out.state));
            assert_int_equal(in.state, contacts_normal_state(in.state));
        }
    struct contact_change change = contacts_inbound(CONTACT_TO, STANZA_PROBE);
    assert_int_equal(change.state, CONTACT_TO);
    assert_false(change.route || change.push || change.send_presence || change.send_unavailable);
    assert_string_equal(contacts_subscription(CONTACT_TO | CONTACT_PENDING_IN), "to");
    assert_string_equal(contacts_subscription(CONTACT_FROM | CONTACT_TO), "both");
    assert_string_equal(contacts_subscription(CONTACT_PENDING_OUT), "none");
    assert_string_equal(contacts_subscription(CONTACT_FROM), "from");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appendix_a),
        cmocka_unit_test(pre_approval),
        cmocka_unit_test(odd_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
