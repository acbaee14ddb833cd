/* Only members are obeyed; who joins is heard from its first word on, in order. The bus is a double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/proc/guests.h"
#include "common/wire/wire.h"

struct bus_peer {
    const char *name;
    bool linked;
    bool unlinked;
};

static struct guests guests;
static struct bus_peer member = {.name = "router-1", .linked = true}, guest = {.name = "c2s-9"},
                       other = {.name = "c2s-8"}, tool = {.name = "ctl-4711"};
static struct buf taken;

bool bus_peer_is_linked(const struct bus_peer *p)
{
    return p->linked;
}

const char *bus_peer_name(const struct bus_peer *p)
{
    return p->name;
}

void bus_unlink(struct bus *b, const char *name)
{
    struct bus_peer *all[] = {&member, &guest, &other, &tool};
    (void)b;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (strcmp(all[i]->name, name) == 0) {
            all[i]->unlinked = true;
            guests_gone(&guests, all[i]);
        }
}

static void take(void *ctx, struct bus_peer *from, struct span frame)
{
    (void)ctx;
    buf_addf(&taken, "%s:%.*s ", from->name, SPAN_FMT(frame));
}

static int setup(void **state)
{
    (void)state;
    guests_init(&guests, NULL);
    guest.linked = other.linked = guest.unlinked = other.unlinked = false;
    buf_clear(&taken);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    guests_gone(&guests, NULL);
    assert_int_equal(guests.bytes, 0);
    buf_free(&taken);
    return 0;
}

static void test_members_and_requests(void **state)
{
    (void)state;
    char control[] = {WIRE_VERSION, WIRE_CONTROL, 0, 0}, stanza[] = {WIRE_VERSION, WIRE_STANZA, 0, 0};
    assert_true(guests_admit(&guests, &member, SPAN("x")));
    assert_false(guests_admit(&guests, &guest, SPAN("x")));
    assert_true(guests_admit(&guests, &tool, span_make(control, sizeof control)));
    assert_false(guests_admit(&guests, &tool, span_make(stanza, sizeof stanza)));
    assert_false(guests_admit(&guests, &guest, span_make(control, sizeof control)));
}

static void test_joining_keeps_order(void **state)
{
    (void)state;
    assert_false(guests_admit(&guests, &guest, SPAN("1")));
    assert_false(guests_admit(&guests, &other, SPAN("2")));
    guest.linked = true;
    assert_false(guests_admit(&guests, &guest, SPAN("3"))); /* behind what is held */
    assert_true(guests_admit(&guests, &member, SPAN("4")));
    guests_joined(&guests, take, NULL);
    assert_string_equal(buf_cstr(&taken), "c2s-9:1 c2s-9:3 ");
    assert_true(guests_admit(&guests, &guest, SPAN("5")));
    guests_gone(&guests, &other);
    other.linked = true;
    guests_joined(&guests, take, NULL);
    assert_string_equal(buf_cstr(&taken), "c2s-9:1 c2s-9:3 ");
}

static void test_strangers_are_bounded(void **state)
{
    (void)state;
    static char frame[65536];
    for (unsigned i = 0; i < 2 * GUESTS_MAX_BYTES / sizeof frame; i++) {
        assert_false(guests_admit(&guests, &guest, span_make(frame, sizeof frame)));
        assert_true(guests.bytes <= GUESTS_MAX_BYTES);
    }
    assert_true(guest.unlinked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_members_and_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_joining_keeps_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
