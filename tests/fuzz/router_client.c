/* Clients and another server say anything to a router core with a store in memory. The input is a row of
 * words, each a byte of orders and, up to the next byte of 8 or below, XML. Whatever it is: the core answers
 * or refuses, ends every number, and what it sends is well-formed and fits the bus. */
#include <stdint.h>

#include "common/log/log.h"
#include "tests/unit/router/rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* cmocka's, without cmocka: the rig's own checks end the run. */
void _assert_true(const LargestIntegralType result, const char *const expression, const char *const file,
                  const int line)
{
    (void)expression, (void)file, (void)line;
    if (result == 0)
        abort();
}

void _assert_int_equal(const LargestIntegralType a, const LargestIntegralType b, const char *const file,
                       const int line)
{
    (void)file, (void)line;
    if (a != b)
        abort();
}

void _assert_string_equal(const char *const a, const char *const b, const char *const file, const int line)
{
    (void)file, (void)line;
    if (strcmp(a, b) != 0)
        abort();
}

/* What leaves is read as the other side would read it. */
static bool checked_send(void *ctx, const char *node, const struct wire_frame *f)
{
    static struct wire_frame again;
    static struct xml_element e;
    struct buf out = {0};
    wire_add(&out, f);
    CHECK(out.n <= WIRE_MAX_BYTES && wire_decode(buf_span(&out), &again));
    if (f->kind == WIRE_DELIVER)
        CHECK(xml_parse(rig.parser, f->raw, &e) == XML_OK);
    buf_free(&out);
    return rig_send(ctx, node, f);
}

static void feed(uint64_t sid, struct span xml, bool server)
{
    static const unsigned errors[] = {[STANZA_BAD_TO] = STANZA_E_JID_MALFORMED,
                                      [STANZA_BAD_IQ] = STANZA_E_BAD_REQUEST,
                                      [STANZA_BAD_TYPE] = STANZA_E_BAD_REQUEST};
    static struct xml_element e;
    static struct wire_frame f;
    struct buf raw = {0};
    struct span from = server ? (struct span){NULL, 0} : span_of(rig.full[sid]);
    memset(&f, 0, sizeof f);
    if (xml_parse(rig.parser, xml, &e) != XML_OK)
        return;
    enum stanza_verdict v = stanza_rewrite(&e, xml, from, SPAN("en"), &raw, &f.stanza);
    bool foreign = f.stanza.from.domain_n > 0 && f.stanza.to.domain_n > 0 && v == STANZA_GOOD;
    if (v != STANZA_NOT_A_STANZA && (!server || foreign)) {
        f.has_stanza = true;
        f.slot = 1;
        f.at_ms = rig.wall_ms;
        f.kind = server ? WIRE_ROUTE : WIRE_STANZA;
        f.token = server ? 77 : 0;
        f.sid = server ? 0 : sid;
        f.n = server ? 0 : ++rig.next_n[sid];
        f.num = v == STANZA_GOOD ? 0 : 1 + errors[v];
        rig_frame(server ? "s2s" : "c2s", &f);
    }
    buf_free(&raw);
}

/* Any bytes as a frame of a connection manager. */
static void feed_frame(struct span bytes)
{
    core_frame(rig.core, "c2s", 1, bytes, rig.now_ms);
}

static void order(uint8_t op, uint64_t sid)
{
    if (op & 0x10) {
        rig.now_ms += 1000;
        rig.wall_ms += 1000;
    }
    if (op & 0x20) {
        struct wire_frame f = {.kind = WIRE_ENABLE, .slot = 1, .sid = sid, .n = rig.next_n[sid], .num = 60};
        rig_frame("c2s", &f);
    }
    if (op & 0x40) {
        struct wire_frame f = {.kind = WIRE_FLOW, .slot = 1, .sid = sid, .num = op >> 7};
        rig_frame("c2s", &f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const accounts[] = {"j@a", "r@a", NULL};
    log_set_level(LOG_LEVEL_ERROR);
    rig_start(accounts);
    rig.core->out.send = checked_send;
    for (uint64_t sid = 1; sid <= 3; sid++) {
        struct wire_frame f = {.kind = WIRE_OPEN,
                               .slot = 1,
                               .sid = sid,
                               .from = span_of(sid == 3 ? "r@a" : "j@a"),
                               .name = span_of(sid == 2 ? "two" : "one")};
        rig_frame("c2s", &f);
        rig_run();
    }
    for (size_t at = 0; at < size;) {
        uint8_t op = data[at++];
        size_t end = at;
        while (end < size && data[end] > 8)
            end++;
        struct span in = span_make(data + at, end - at);
        unsigned who = op % 4;
        order(op, who == 0 ? 1 : who);
        if (who == 0 && (op & 4) != 0)
            feed_frame(in);
        else if (who == 0)
            feed(0, in, true);
        else if (rig.killed[who] == 0)
            feed(who, in, false);
        if ((op & 8) == 0)
            rig_run();
        at = end + (end < size);
    }
    rig_run();
    for (uint64_t sid = 1; sid <= 3; sid++) /* nothing stays unanswered */
        CHECK(rig.killed[sid] != 0 || rig.handled[sid] == rig.next_n[sid]);
    rig_stop();
    return 0;
}
