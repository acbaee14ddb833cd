/* The roster's records: written, read, and everything else refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "router/contacts.h"

static void round_trip(const char *text)
{
    struct contact c;
    struct buf out = {0};
    if (!contacts_parse(span_of(text), &c))
        fail_msg("refused: %s", text);
    contacts_write(&out, &c);
    assert_string_equal(buf_cstr(&out), text);
    buf_free(&out);
    contact_clear(&c);
}

static void good_records(void **unused)
{
    (void)unused;
    round_trip("1 0 1 0");
    round_trip("1 3 1 1700000000000 n5:Romeo g7:Friends g9:Montagues");
    round_trip("1 8 0 0 r37:<presence from='a@b' type='subscribe'");
    round_trip("1 9 1 7 n3:a b g1:: g3: g1 r1:x");
    round_trip("1 16 1 1");

    struct contact c;
    assert_true(contacts_parse(SPAN("1 6 1 12 n5:R&<'\" g1:F"), &c));
    assert_int_equal(c.state, CONTACT_FROM | CONTACT_PENDING_OUT);
    assert_true(c.in_roster);
    assert_int_equal(c.version, 12);
    c.jid = xstrdup("romeo@example.net");
    struct buf out = {0};
    contacts_add_item(&out, &c);
    assert_string_equal(buf_cstr(&out), "<item jid='romeo@example.net' name='R&amp;&lt;&apos;&quot;' "
                                        "subscription='from' ask='subscribe'><group>F</group></item>");
    buf_clear(&out);
    contacts_set_groups(&c, NULL, 0);
    contacts_set_name(&c, (struct span){NULL, 0});
    c.state = CONTACT_TO | CONTACT_PREAPPROVED | CONTACT_PENDING_IN;
    contacts_add_item(&out, &c);
    assert_string_equal(buf_cstr(&out), "<item jid='romeo@example.net' subscription='to' approved='true'/>");
    buf_free(&out);
    contact_clear(&c);
}

static void bad_records(void **unused)
{
    (void)unused;
    static const char *const bad[] = {
        "",
        "1",
        "2 0 1 0",
        "1 0 1",
        "1 0 2 0",
        "1 32 1 0",
        "1 5 1 0",
        "1 10 1 0",
        "1 00 1 0",
        "1 0 1 01",
        "1 0 1 0 ",
        "1 0 1 0 n",
        "1 0 1 0 n1:",
        "1 0 1 0 n2:x",
        "1 0 1 0 n01:x",
        "1 0 1 0 n0:",
        "1 0 1 0 n1:xy",
        "1 0 1 0 x1:x",
        "1 0 1 0 n1:x n1:y",
        "1 0 1 0 g1:x n1:y",
        "1 0 1 0 r1:x",
        "1 8 1 0 r1:x r1:y",
        "1 8 1 0 r1:x g1:y",
        "1 0 1 18446744073709551615",
        "1 0 1 18446744073709551616",
        "1 -1 1 0",
        "1  0 1 0",
        "1 0 1 0 n99999999999999999999:x",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct contact c;
        if (contacts_parse(span_of(bad[i]), &c))
            fail_msg("accepted: %s", bad[i]);
    }
    struct contact c;
    assert_false(contacts_parse(span_make("1 0 1 0 n3:a\0b", 14), &c));
    /* Limits: 1023 bytes of a name are good, one more is not. */
    for (unsigned n = CONTACT_NAME_MAX_BYTES; n <= CONTACT_NAME_MAX_BYTES + 1; n++) {
        struct buf text = {0};
        buf_addf(&text, "1 0 1 0 n%u:", n);
        memset(buf_reserve(&text, n), 'x', n);
        text.n += n;
        assert_int_equal(contacts_parse(buf_span(&text), &c), n == CONTACT_NAME_MAX_BYTES);
        contact_clear(&c);
        buf_free(&text);
    }
    struct buf text = {0};
    buf_add_lit(&text, "1 0 1 0");
    for (unsigned i = 0; i < CONTACT_GROUPS_MAX; i++)
        buf_addf(&text, " g3:%03u", i);
    assert_true(contacts_parse(buf_span(&text), &c));
    assert_int_equal(c.group_count, CONTACT_GROUPS_MAX);
    contact_clear(&c);
    buf_add_lit(&text, " g1:x");
    assert_false(contacts_parse(buf_span(&text), &c));
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_records),
        cmocka_unit_test(bad_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
