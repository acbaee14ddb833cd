/* Each of the 72 cells of RFC 6121 appendix A through the whole router, with a contact on another server:
 * undisturbed, and with the router dying while the change is written (before and after the store has it). */
#include "rig.h"

#include "appendix_a.h"
#include "common/log/log.h"

static const char *const accounts[] = {"juliet@a", NULL};

enum disturbance { CALM, DIES_BEFORE_COMMIT, DIES_AFTER_COMMIT, DISTURBANCES };

static void sync_session(void)
{
    struct wire_frame f = {.kind = WIRE_SYNC,
                           .slot = 1,
                           .sid = 1,
                           .from = span_of(rig.full[1]),
                           .n = rig.handled[1],
                           .num = 1000};
    rig_frame("c2s", &f);
    rig_run();
}

static void start_in(uint8_t state)
{
    rig_start(accounts);
    rig_open(1, "juliet@a", "balcony");
    rig_says(1, "<iq id='g' type='get'><query xmlns='jabber:iq:roster'/></iq>");
    rig_says(1, "<presence/>");
    if (state & CONTACT_PENDING_IN)
        rig_remote("<presence from='x@b' to='juliet@a' type='subscribe' id='old'/>", 0);
    struct user *u = user_find(rig.core, SPAN("juliet@a"));
    if (state != 0) {
        struct contact *contact = contacts_get(u, SPAN("x@b"));
        contact->state = state;
        contact->in_roster = state != CONTACT_PENDING_IN;
        contacts_save(u, contact);
    }
    rig_run();
    for (unsigned i = 0; i < RIG_SESSIONS; i++)
        rig_skip(i);
}

static void say(const struct table *t, const char *xml, unsigned flags)
{
    if (t->outbound)
        rig_stanza("c2s", 1, xml, span_of(rig.full[1]), flags);
    else
        rig_stanza("s2s", 0, xml, (struct span){NULL, 0}, flags);
}

static uint8_t stored_state(void)
{
    struct contact contact;
    struct span record = store_mem_field(rig.world, SPAN("juliet@a"), STORE_ROSTER, SPAN("x@b"));
    if (record.p == NULL)
        return 0;
    assert_true(contacts_parse(record, &contact));
    uint8_t state = contact.state & (uint8_t)~CONTACT_PREAPPROVED;
    assert_int_equal(contact.request != NULL, (state & CONTACT_PENDING_IN) != 0);
    contact_clear(&contact);
    return state;
}

static void one(const struct table *t, const struct cell *cell, enum disturbance how)
{
    const char *type = stanza_type_name(t->type);
    uint8_t from = state_of(cell->from), to = cell->to != NULL ? state_of(cell->to) : from;
    struct buf xml = {0}, want = {0};
    if (t->outbound) {
        buf_addf(&xml, "<presence to='x@b' type='%s'/>", type);
        buf_addf(&want, "*<presence from='juliet@a' to='x@b' type='%s'/>*", type);
    } else {
        buf_addf(&xml, "<presence from='x@b' to='juliet@a' type='%s'/>", type);
        buf_addf(&want, "*<presence from='x@b' to='juliet@a' type='%s'/>*", type);
    }
    start_in(from);
    say(t, buf_cstr(&xml), 0);
    if (how != CALM) {
        core_turn(rig.core, rig.now_ms);
        rig_crash_after(how == DIES_AFTER_COMMIT ? SIZE_MAX : 0);
        for (unsigned i = 0; i < RIG_SESSIONS; i++)
            rig_skip(i); /* it had not left */
        sync_session();
        /* What is handled was told before; c2s and the other server send the rest again. */
        bool handled = t->outbound && rig.handled[1] == rig.next_n[1];
        if (t->outbound && !handled)
            rig.next_n[1]--;
        if (handled)
            assert_false(cell->go);
        else
            say(t, buf_cstr(&xml), WIRE_AGAIN);
    }
    rig_run();
    bool told = rig_match(buf_cstr(&want), buf_cstr(&rig.box[t->outbound ? RIG_GATEWAY : 1]));
    if (stored_state() != to)
        fail_msg("%s %s in %s, disturbance %d: state %u", t->outbound ? "out" : "in", type, cell->from, how,
                 stored_state());
    /* After a death more may be told than necessary, but never less. */
    if (how == CALM ? told != cell->go : !told && cell->go)
        fail_msg("%s %s in %s, disturbance %d: told %d", t->outbound ? "out" : "in", type, cell->from, how,
                 told);
    if (t->outbound)
        assert_int_equal(rig.handled[1], rig.next_n[1]);
    buf_free(&xml);
    buf_free(&want);
    rig_stop();
}

static void all_cells(void **state)
{
    (void)state;
    for (unsigned how = 0; how < DISTURBANCES; how++)
        for (size_t i = 0; i < ARRAY_LEN(tables); i++)
            for (size_t k = 0; k < 9; k++)
                one(&tables[i], &tables[i].cells[k], (enum disturbance)how);
}

int main(void)
{
    log_set_level(LOG_LEVEL_WARN);
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_cells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
