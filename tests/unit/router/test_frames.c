/* Frames that no process of ours should send, and the largest that this one makes: what cannot be taken is
 * answered or counted, and every encoder at its limit makes frames that the bus takes and the other side
 * reads. */
#include "rig.h"

#include "router/contacts.h"
#include "router/route.h"
#include "router/task.h"

static const char *const accounts[] = {"juliet@a", "romeo@a", NULL};

static int setup(void **state)
{
    (void)state;
    rig_start(accounts);
    rig_open(1, "juliet@a", "balcony");
    rig_open(2, "romeo@a", "garden");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_stop();
    return 0;
}

/* Kept by id while its user is loaded, 0 could not be found again when the user goes. */
static void session_zero_is_nobody(void **state)
{
    static const uint8_t kinds[] = {WIRE_OPEN,   WIRE_RESUME, WIRE_SYNC, WIRE_STANZA,
                                    WIRE_CLOSED, WIRE_ENABLE, WIRE_FLOW, WIRE_ACKED};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct wire_frame f = {.kind = kinds[i], .slot = 1, .from = SPAN("romeo@a/x"), .n = 1, .session = 1};
        struct buf pairs = {0};
        wire_pair_add(&pairs, 0, 1);
        f.pairs = buf_span(&pairs);
        rig_frame("c2s", &f);
        buf_free(&pairs);
        assert_null(idmap_get(&rig.core->syncing, 0));
        assert_null(idmap_get(&rig.core->sessions, 0));
    }
    rig_run();
    rig_steal("romeo@a"); /* the user goes, and with it what was kept under a number */
    rig_says(1, "<message to='romeo@a' id='m'><body>x</body></message>");
    struct wire_frame f = {.kind = WIRE_STANZA, .slot = 1, .n = 1};
    rig_frame("c2s", &f);
    rig_run();
}

/* The id of one account's session does not open the door to another's. */
static void session_of_another(void **state)
{
    (void)state;
    struct wire_frame f = {
        .kind = WIRE_OPEN, .slot = 1, .sid = 1, .from = SPAN("romeo@a"), .name = SPAN("x")};
    snprintf(rig.full[1], sizeof rig.full[1], "none");
    rig_frame("c2s", &f);
    rig_run();
    assert_string_equal(rig.full[1], "none");
}

/* Encodes a stanza and bends its index: the count of children is beyond what there may be. */
static void bent(const char *xml, struct wire_frame *f, struct buf *out)
{
    struct xml_element e;
    struct buf raw = {0};
    assert_int_equal(xml_parse(rig.parser, span_of(xml), &e), XML_OK);
    assert_int_equal(
        stanza_rewrite(&e, span_of(xml), (struct span){NULL, 0}, (struct span){NULL, 0}, &raw, &f->stanza),
        STANZA_GOOD);
    f->has_stanza = true;
    f->slot = 1;
    f->stanza.child_count = 0;
    wire_add(out, f);
    struct wire_frame g;
    assert_true(wire_decode(buf_span(out), &g));
    /* the index is the last field: kind, type, number of children */
    size_t index = 3 + 12 + 8 + jid_full(&g.stanza.from).n + jid_full(&g.stanza.to).n + g.stanza.id.n;
    out->p[out->n - index + 2] = 77;
    assert_false(wire_decode(buf_span(out), &g));
    buf_free(&raw);
}

static void malformed_stanza_is_finished(void **state)
{
    (void)state;
    struct wire_frame f;
    struct buf out = {0};
    memset(&f, 0, sizeof f);
    f.kind = WIRE_STANZA;
    f.sid = 1;
    f.n = ++rig.next_n[1];
    bent("<message from='juliet@a/balcony' to='romeo@a' id='m'/>", &f, &out);
    core_frame(rig.core, "c2s", 1, buf_span(&out), rig.now_ms);
    rig_run();
    rig_want(1, "<message*id='m'*type='error'*<bad-request*");
    assert_int_equal(rig.handled[1], 1);
    rig_says(1, "<message to='romeo@a' id='n'><body>x</body></message>");
    assert_int_equal(rig.handled[1], 2);
    buf_free(&out);
}

/* Nothing of the stanza can be read: the number is finished all the same. */
static void unreadable_stanza_is_finished(void **state)
{
    (void)state;
    struct wire_frame f = {.kind = WIRE_STANZA, .slot = 1, .sid = 1, .n = ++rig.next_n[1], .text = SPAN("x")};
    struct buf out = {0};
    wire_add(&out, &f);
    core_frame(rig.core, "c2s", 1, span_make(out.p, out.n - 1), rig.now_ms);
    rig_run();
    rig_silent(1);
    assert_int_equal(rig.handled[1], 1);
    buf_free(&out);
}

static void malformed_route_is_done(void **state)
{
    (void)state;
    struct wire_frame f;
    struct buf out = {0};
    memset(&f, 0, sizeof f);
    f.kind = WIRE_ROUTE;
    f.token = 9;
    bent("<message from='x@b.example/y' to='romeo@a' id='m'/>", &f, &out);
    unsigned before = rig.done[0];
    core_frame(rig.core, "s2s", 1, buf_span(&out), rig.now_ms);
    rig_run();
    assert_int_equal(rig.done[0], before + 1);
    rig_want(RIG_GATEWAY, "<message*to='x@b.example/y'*id='m'*type='error'*");
    buf_free(&out);
}

/* ---- the encoders at their limits ---- */

static size_t largest;
static unsigned sent_frames;

static bool measure(void *ctx, const char *node, const struct wire_frame *f)
{
    static struct wire_frame again;
    struct buf out = {0};
    wire_add(&out, f);
    assert_true(out.n <= WIRE_MAX_BYTES);
    assert_true(wire_decode(buf_span(&out), &again));
    largest = MAX(largest, out.n);
    sent_frames++;
    buf_free(&out);
    return rig_send(ctx, node, f);
}

static void begin_measure(void)
{
    largest = sent_frames = 0;
    rig.core->out.send = measure;
}

/* The roster that the limits allow, of names and groups that grow when they are escaped: further items are
 * refused, and the answer is one frame. */
static void roster_at_its_limit(void **state)
{
    (void)state;
    struct buf set = {0}, name = {0};
    unsigned refused = 0;
    for (unsigned i = 0; i < CONTACT_NAME_MAX_BYTES - 3; i++)
        buf_add_char(&name, '>');
    begin_measure();
    for (unsigned i = 0; i < 40; i++) {
        buf_clear(&set);
        buf_addf(&set, "<iq id='s%u' type='set'><query xmlns='jabber:iq:roster'><item jid='c%u@b' name='%s'>",
                 i, i, buf_cstr(&name));
        for (unsigned g = 0; g < CONTACT_GROUPS_MAX; g++)
            buf_addf(&set, "<group>%s%02u</group>", buf_cstr(&name), g);
        buf_add_lit(&set, "</item></query></iq>");
        rig_says(1, buf_cstr(&set));
        refused += strstr(buf_cstr(&rig.box[1]), "resource-constraint") != NULL;
        buf_clear(&rig.box[1]);
    }
    assert_true(refused > 0 && refused < 40);
    rig_says(1, "<iq id='g' type='get'><query xmlns='jabber:iq:roster'/></iq>");
    assert_non_null(strstr(buf_cstr(&rig.box[1]), "type='result'"));
    assert_true(rig.box[1].n > (size_t)rig.conf->limits_roster_bytes / 2);
    assert_true(rig.box[1].n <= (size_t)rig.conf->limits_roster_bytes + 4096);
    buf_clear(&rig.box[1]);
    /* An item may become smaller, or go, at any time. */
    rig_says(
        1, "<iq id='t' type='set'><query xmlns='jabber:iq:roster'><item jid='c0@b' name='x'/></query></iq>");
    assert_non_null(strstr(buf_cstr(&rig.box[1]), "id='t' type='result'"));
    buf_free(&set);
    buf_free(&name);
}

/* A roster of a time when more was allowed. */
static void roster_beyond_an_answer(void **state)
{
    (void)state;
    struct buf errors = {0}, name = {0};
    struct user *u = map_get(&rig.core->users, SPAN("juliet@a"));
    struct span groups[CONTACT_GROUPS_MAX];
    for (unsigned i = 0; i < CONTACT_GROUP_MAX_BYTES; i++)
        buf_add_char(&name, '>');
    for (unsigned g = 0; g < CONTACT_GROUPS_MAX; g++)
        groups[g] = buf_span(&name);
    for (unsigned i = 0; i < 100; i++) {
        char jid[32];
        snprintf(jid, sizeof jid, "c%u@b", i);
        struct contact *contact = contacts_get(u, span_of(jid));
        contact->in_roster = true;
        contacts_set_groups(contact, groups, CONTACT_GROUPS_MAX);
    }
    begin_measure();
    rig_says(1, "<iq id='g' type='get'><query xmlns='jabber:iq:roster'/></iq>");
    rig_want(1, "<iq*id='g'*type='error'*<resource-constraint*");
    assert_true(largest < 65536);
    buf_free(&errors);
    buf_free(&name);
}

static size_t routed_targets;
static unsigned routed_frames;

static bool measure_bytes(void *ctx, const char *node, struct span encoded)
{
    static struct wire_frame f;
    struct wire_target t;
    (void)ctx;
    (void)node;
    assert_true(encoded.n <= WIRE_MAX_BYTES);
    assert_true(wire_decode(encoded, &f));
    for (struct span list = f.targets; wire_target_next(&list, &t);)
        routed_targets++;
    largest = MAX(largest, encoded.n);
    routed_frames++;
    return true;
}

/* Presence of a user with as many contacts as the option allows, of the longest addresses. */
static void fan_out_is_cut(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct buf names = {0};
    struct span *targets = xcalloc(COUNT, sizeof *targets);
    struct stanza s;
    char pad[1024];
    memset(pad, 'x', sizeof pad);
    for (unsigned i = 0; i < COUNT; i++)
        buf_addf(&names, "%06u%.*s@%.6s%.*s", i, 1017, pad, "domain", 1017, pad);
    for (unsigned i = 0; i < COUNT; i++)
        targets[i] = span_make(names.p + i * (names.n / COUNT), names.n / COUNT);
    assert_true(stanza_index(rig.parser, SPAN("<presence from='juliet@a/balcony'/>"), &s));
    largest = routed_frames = 0;
    routed_targets = 0;
    rig.core->out.send_bytes = measure_bytes;
    route_fanout(rig.core, &s, targets, COUNT, NULL, 0);
    assert_int_equal(routed_targets, COUNT);
    assert_true(routed_frames > COUNT * 2000 / WIRE_LIST_MAX);
    assert_true(largest < 2 * WIRE_LIST_MAX);
    free(targets);
    buf_free(&names);
}

/* Beyond what any socket lets in: it does not leave, and its sender hears why. */
static void too_large_to_route(void **state)
{
    (void)state;
    static const char head[] = "<message from='juliet@a/balcony' to='x@b.example' id='m'><body>";
    static const char tail[] = "</body></message>";
    struct buf raw = {0};
    struct stanza s;
    buf_add_str(&raw, head);
    memset(buf_reserve(&raw, WIRE_MAX_BYTES), 'x', WIRE_MAX_BYTES);
    raw.n += WIRE_MAX_BYTES;
    buf_add_str(&raw, tail);
    assert_true(
        stanza_index(rig.parser, SPAN("<message from='juliet@a/balcony' to='x@b.example' id='m'/>"), &s));
    s.raw = buf_span(&raw);
    largest = routed_frames = 0;
    rig.core->out.send_bytes = measure_bytes;
    route_stanza(rig.core, &s, NULL);
    rig_run();
    assert_int_equal(routed_frames, 0);
    rig_want(1, "<message*id='m'*type='error'*<policy-violation*");
    buf_free(&raw);
}

/* More confirmations in a turn than one frame should have. */
static void pairs_are_cut(void **state)
{
    (void)state;
    begin_measure();
    for (unsigned i = 0; i < 3 * WIRE_LIST_MAX / 16; i++)
        core_pair(&rig.core->done_lists, "elsewhere", 1000000 + i, WIRE_DONE_TAKEN);
    core_flush_pairs(rig.core, &rig.core->done_lists, WIRE_DONE);
    assert_int_equal(sent_frames, 3);
    assert_true(largest <= WIRE_LIST_MAX + 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(session_zero_is_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(session_of_another, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_stanza_is_finished, setup, teardown),
        cmocka_unit_test_setup_teardown(unreadable_stanza_is_finished, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_route_is_done, setup, teardown),
        cmocka_unit_test_setup_teardown(roster_at_its_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(roster_beyond_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(fan_out_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(too_large_to_route, setup, teardown),
        cmocka_unit_test_setup_teardown(pairs_are_cut, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
