/* Leases, epochs and slots, told by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/member/core.h"

#define LEASE_MS 3000

static struct member_core core;

static struct member_node node(const char *name, const char *role, uint64_t incarnation)
{
    struct member_node n = {.incarnation = incarnation};
    snprintf(n.name, sizeof n.name, "%s", name);
    snprintf(n.role, sizeof n.role, "%s", role);
    snprintf(n.endpoint, sizeof n.endpoint, "ipc:///tmp/%s", name);
    return n;
}

static int setup(void **state)
{
    struct member_node self = node("router-1", "router", 11);
    (void)state;
    member_core_init(&core, &self, LEASE_MS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    member_core_fini(&core);
    return 0;
}

static unsigned answer(bool renewal, uint32_t epoch, const struct member_node *nodes, unsigned count,
                       uint64_t sent)
{
    struct member_answer a = {
        .renewal = renewal, .epoch = epoch, .nodes = nodes, .count = count, .has_nodes = nodes != NULL};
    return member_core_answer(&core, &a, sent);
}

static void test_joins_and_renews(void **state)
{
    struct member_node nodes[] = {node("c2s-1", "c2s", 5), node("router-1", "router", 11)};
    (void)state;
    assert_false(member_core_holds(&core, 0));
    assert_int_equal(member_core_known_epoch(&core), 0);
    assert_int_equal(core.owner[7], MEMBER_NO_OWNER);
    assert_int_equal(answer(true, 4, nodes, 2, 1000), MEMBER_CHANGED);
    assert_int_equal(member_core_known_epoch(&core), 4);
    assert_true(member_core_holds(&core, 1000));
    assert_int_equal(core.renew_at_ms, 1500);
    assert_int_equal(core.owner[7], 1);
    assert_int_equal(answer(true, 4, NULL, 0, 1500), 0);
    assert_int_equal(member_core_find(&core, "c2s-1")->incarnation, 5);
    assert_null(member_core_find(&core, "c2s"));
}

static void test_fences_itself_before_the_lease_is_over(void **state)
{
    struct member_node nodes[] = {node("router-1", "router", 11)};
    (void)state;
    answer(true, 4, nodes, 1, 1000);
    member_core_failed(&core, 1600);
    assert_int_equal(core.renew_at_ms, 1700);
    assert_int_equal(member_core_tick(&core, 3699), 0);
    assert_true(member_core_holds(&core, 3699));
    assert_false(member_core_holds(&core, 3700)); /* also before the tick */
    assert_int_equal(member_core_tick(&core, 3700), MEMBER_LOST);
    assert_int_equal(member_core_tick(&core, 3800), 0);   /* told once */
    assert_int_equal(answer(false, 4, NULL, 0, 3900), 0); /* looking doesn't renew */
    assert_false(member_core_holds(&core, 3900));
    assert_int_equal(answer(true, 4, NULL, 0, 4000), MEMBER_BACK);
    assert_true(member_core_holds(&core, 4000));
}

static void test_reported_dead_but_alive(void **state)
{
    struct member_node with[] = {node("router-1", "router", 11), node("router-2", "router", 22)};
    (void)state;
    answer(true, 4, with, 2, 1000);
    assert_int_equal(answer(false, 5, with + 1, 1, 1200), MEMBER_LOST | MEMBER_CHANGED);
    assert_int_equal(core.renew_at_ms, 1200); /* joins again at once */
    assert_int_equal(answer(true, 6, with, 2, 1210), MEMBER_CHANGED | MEMBER_BACK);
    assert_int_equal(core.epoch, 6);
}

/* Stopped for a while, dropped and back before it saw any list without itself. */
static void test_dropped_without_noticing(void **state)
{
    struct member_node with[] = {node("router-1", "router", 11), node("router-2", "router", 22)};
    struct member_answer back = {
        .renewal = true, .joined = true, .epoch = 6, .nodes = with, .count = 2, .has_nodes = true};
    (void)state;
    answer(true, 4, with, 2, 1000);
    assert_int_equal(member_core_answer(&core, &back, 1210), MEMBER_LOST | MEMBER_CHANGED | MEMBER_BACK);
    assert_true(member_core_holds(&core, 1210));
}

static void test_replaced_is_the_end(void **state)
{
    struct member_node nodes[] = {node("router-1", "router", 11)}, other[] = {node("router-1", "router", 12)};
    struct member_answer replaced = {.replaced = true};
    (void)state;
    answer(true, 4, nodes, 1, 1000);
    assert_int_equal(answer(false, 5, other, 1, 1100), MEMBER_LOST | MEMBER_CHANGED);
    assert_int_equal(member_core_answer(&core, &replaced, 1200), MEMBER_REPLACED);
    assert_int_equal(answer(true, 6, nodes, 1, 1300), 0);
    assert_false(member_core_holds(&core, 1300));
}

static void test_older_list_does_not_count(void **state)
{
    struct member_node a[] = {node("router-1", "router", 11), node("router-2", "router", 22)};
    (void)state;
    answer(true, 9, a, 2, 1000);
    assert_int_equal(answer(true, 8, a, 2, 1500), 0);
    assert_int_equal(answer(false, 8, a, 1, 1600), 0); /* late, or of a Redis that has lost epoch 9 */
    assert_int_equal(core.epoch, 9);
    assert_int_equal(core.count, 2);
    assert_int_equal(member_core_known_epoch(&core), 9);            /* what the next renewal names … */
    assert_int_equal(answer(true, 10, a, 1, 2000), MEMBER_CHANGED); /* … so that this comes */
    assert_int_equal(core.epoch, 10);
    assert_int_equal(core.count, 1);
}

/* A list from before the own join must not end a lease either. */
static void test_older_list_without_self(void **state)
{
    struct member_node a[] = {node("router-1", "router", 11), node("router-2", "router", 22)};
    (void)state;
    answer(true, 9, a, 2, 1000);
    assert_int_equal(answer(false, 8, a + 1, 1, 1100), 0);
    assert_true(member_core_holds(&core, 1100));
}

static void test_slots_move_by_their_share(void **state)
{
    struct member_node nodes[33];
    uint16_t before[MEMBER_SLOTS], after[MEMBER_SLOTS];
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(nodes); i++) {
        char name[32];
        snprintf(name, sizeof name, "router-%02u", i);
        nodes[i] = node(name, "router", i + 1);
    }
    for (unsigned k = 1; k < ARRAY_LEN(nodes); k++) {
        unsigned moved = 0, share[33] = {0};
        member_core_slots(nodes, k, before);
        member_core_slots(nodes, k + 1, after);
        for (unsigned s = 0; s < MEMBER_SLOTS; s++) {
            share[after[s]]++;
            if (before[s] != after[s]) {
                assert_int_equal(after[s], k); /* only to the new one */
                moved++;
            }
        }
        assert_in_range(moved, MEMBER_SLOTS / (k + 1) * 7 / 10, MEMBER_SLOTS / (k + 1) * 13 / 10);
        for (unsigned i = 0; i <= k; i++)
            assert_in_range(share[i], MEMBER_SLOTS / (k + 1) * 6 / 10, MEMBER_SLOTS / (k + 1) * 14 / 10 + 2);
    }
}

static void test_slots_skip_draining_and_other_roles(void **state)
{
    struct member_node nodes[] = {node("c2s-1", "c2s", 1), node("router-1", "router", 2),
                                  node("router-2", "router", 3)};
    uint16_t owner[MEMBER_SLOTS];
    (void)state;
    nodes[1].draining = true;
    member_core_slots(nodes, 3, owner);
    for (unsigned s = 0; s < MEMBER_SLOTS; s++)
        assert_int_equal(owner[s], 2);
    nodes[2].draining = true;
    member_core_slots(nodes, 3, owner);
    assert_int_equal(owner[0], MEMBER_NO_OWNER);
}

/* Every release and every process must agree. */
static void test_slots_are_the_same_for_ever(void **state)
{
    struct member_node nodes[] = {node("router-1", "router", 1), node("router-2", "router", 2),
                                  node("router-3", "router", 3)};
    uint16_t owner[MEMBER_SLOTS];
    char text[17];
    (void)state;
    member_core_slots(nodes, 3, owner);
    for (unsigned s = 0; s < 16; s++)
        text[s] = (char)('1' + owner[s]);
    text[16] = '\0';
    assert_string_equal(text, "1312311232313112");
    assert_int_equal(member_slot(SPAN("juliet@capulet.example")), 0x362);
}

static void test_who_dials_whom(void **state)
{
    struct member_node r1 = node("router-1", "router", 1), r2 = node("router-2", "router", 2),
                       c1 = node("c2s-1", "c2s", 3), s1 = node("s2s-1", "s2s", 4);
    bool dials;
    (void)state;
    assert_true(member_core_linked(&r1, &r2, &dials) && dials);
    assert_true(member_core_linked(&r2, &r1, &dials) && !dials);
    assert_true(member_core_linked(&c1, &r1, &dials) && dials);
    assert_true(member_core_linked(&r1, &c1, &dials) && !dials);
    assert_true(member_core_linked(&s1, &r2, &dials) && dials);
    assert_false(member_core_linked(&s1, &c1, &dials));
    assert_false(member_core_linked(&r1, &r1, &dials));

    struct member_node s2 = s1;
    s2.name[strlen(s2.name) - 1]++;
    assert_true(member_core_linked(&s1, &s2, &dials) && dials);
    assert_true(member_core_linked(&s2, &s1, &dials) && !dials);
    assert_false(member_core_linked(&s1, &s1, &dials));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_joins_and_renews),
        TEST(test_fences_itself_before_the_lease_is_over),
        TEST(test_reported_dead_but_alive),
        TEST(test_dropped_without_noticing),
        TEST(test_replaced_is_the_end),
        TEST(test_older_list_does_not_count),
        TEST(test_older_list_without_self),
        TEST(test_slots_move_by_their_share),
        TEST(test_slots_skip_draining_and_other_roles),
        TEST(test_slots_are_the_same_for_ever),
        TEST(test_who_dials_whom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
