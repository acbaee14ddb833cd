/* One router core on a bench: clients that type XML, another server, a store in memory, a clock. What a
 * session or the other server was sent is kept as text, oldest first, until it is looked at. */
#ifndef JACKDAW_TESTS_ROUTER_RIG_H
#define JACKDAW_TESTS_ROUTER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/xml/writer.h"
#include "router/core.h"
#include "router/feature.h"
#include "router/session.h"
#include "router/store/store_mem.h"

#define RIG_SESSIONS 8
#define RIG_GATEWAY  0 /* the box of what went to other servers */

struct rig {
    struct core *core;
    struct conf *conf;
    struct store_world *world;
    struct store *store;
    struct xml_parser *parser;
    struct buf box[RIG_SESSIONS]; /* by sid; each stanza ends with a line feed */
    char full[RIG_SESSIONS][128];
    uint64_t next_n[RIG_SESSIONS];
    uint64_t handled[RIG_SESSIONS];
    unsigned killed[RIG_SESSIONS]; /* stream error + 1 */
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t random;
    unsigned done[2]; /* DONEs to the other server's gateway: taken, to be sent again */
    bool dead;        /* nobody hears the core */
    struct buf dones;
};

/* Not every test uses all of it. */
#define RIG __attribute__((unused)) static

static struct rig rig;

static void rig_box_add(uint64_t box, struct span raw, struct span to)
{
    assert_true(box < RIG_SESSIONS);
    struct buf *b = &rig.box[box];
    if (to.n > 0) { /* as c2s does */
        size_t name = 1;
        while (raw.p[name] != ' ' && raw.p[name] != '>' && raw.p[name] != '/')
            name++;
        buf_add(b, raw.p, name);
        xml_add_attr(b, "to", to);
        raw = span_sub(raw, name, raw.n);
    }
    buf_add_span(b, raw);
    buf_add_char(b, '\n');
}

static bool rig_send(void *ctx, const char *node, const struct wire_frame *f)
{
    (void)ctx;
    struct span list = f->kind == WIRE_DELIVER ? f->targets : f->pairs;
    struct wire_target target;
    uint64_t sid, n;
    if (rig.dead)
        return true;
    if (f->kind == WIRE_DONE && strcmp(node, "s2s") == 0)
        while (wire_pair_next(&list, &sid, &n))
            rig.done[n == WIRE_DONE_RETRY]++;
    if (strcmp(node, "c2s") != 0)
        return true;
    if (f->kind == WIRE_DELIVER) {
        while (wire_target_next(&list, &target)) {
            rig_box_add(target.sid, f->raw, target.to);
            if (f->flags & WIRE_CONFIRM) {
                struct buf pairs = {0}, frame = {0};
                wire_pair_add(&pairs, target.sid, target.n);
                struct wire_frame acked = {.kind = WIRE_ACKED, .pairs = buf_span(&pairs)};
                wire_add(&frame, &acked);
                uint32_t size = (uint32_t)frame.n;
                buf_add(&rig.dones, &size, sizeof size);
                buf_add_span(&rig.dones, buf_span(&frame));
                buf_free(&pairs);
                buf_free(&frame);
            }
        }
    } else if (f->kind == WIRE_HANDLED) {
        while (wire_pair_next(&list, &sid, &n))
            rig.handled[sid] = n;
    } else if (f->kind == WIRE_OPENED) {
        snprintf(rig.full[f->sid], sizeof rig.full[0], "%.*s", SPAN_FMT(f->to));
    } else if (f->kind == WIRE_KILL) {
        rig.killed[f->sid] = (unsigned)f->num + 1;
    }
    return true;
}

static bool rig_send_bytes(void *ctx, const char *node, struct span encoded)
{
    (void)ctx;
    struct wire_frame f;
    struct wire_target target;
    if (rig.dead)
        return true;
    assert_string_equal(node, "s2s");
    assert_true(wire_decode(encoded, &f));
    assert_int_equal(f.kind, WIRE_ROUTE);
    struct span list = f.targets;
    if (list.p == NULL)
        rig_box_add(RIG_GATEWAY, f.stanza.raw, (struct span){NULL, 0});
    while (list.p != NULL && wire_target_next(&list, &target))
        rig_box_add(RIG_GATEWAY, f.stanza.raw, target.to);
    struct buf pairs = {0}, frame = {0};
    wire_pair_add(&pairs, f.token, WIRE_DONE_TAKEN);
    struct wire_frame done = {.kind = WIRE_DONE, .pairs = buf_span(&pairs)};
    wire_add(&frame, &done);
    uint32_t size = (uint32_t)frame.n;
    buf_add(&rig.dones, &size, sizeof size);
    buf_add_span(&rig.dones, buf_span(&frame));
    buf_free(&pairs);
    buf_free(&frame);
    return true;
}

static const char *rig_owner(void *ctx, uint16_t slot)
{
    (void)ctx;
    (void)slot;
    return "router";
}

static uint16_t rig_slot(struct span bare)
{
    (void)bare;
    return 1;
}

static const char *rig_gateway(void *ctx, struct span domain, struct span sender)
{
    (void)ctx;
    (void)domain;
    (void)sender;
    return "s2s";
}

static bool rig_alive(void *ctx, const char *node, uint64_t incarnation)
{
    (void)ctx;
    (void)node;
    (void)incarnation;
    return true;
}

static uint64_t rig_wall_ms(void *ctx)
{
    (void)ctx;
    return rig.wall_ms;
}

static uint64_t rig_random(void *ctx)
{
    (void)ctx;
    return ++rig.random;
}

static void rig_newer_epoch(void *ctx, uint32_t epoch)
{
    (void)ctx;
    (void)epoch;
}

static void rig_frame(const char *node, const struct wire_frame *f)
{
    struct buf b = {0};
    wire_add(&b, f);
    core_frame(rig.core, node, 1, buf_span(&b), rig.now_ms);
    buf_free(&b);
}

/* Runs until nothing moves any more. */
static void rig_run(void)
{
    for (unsigned i = 0; i < 20; i++) {
        core_turn(rig.core, rig.now_ms);
        store_mem_run(rig.world, SIZE_MAX);
        struct buf dones = rig.dones;
        rig.dones = (struct buf){0};
        for (size_t at = 0; at < dones.n;) {
            uint32_t size;
            memcpy(&size, dones.p + at, sizeof size);
            core_frame(rig.core, "any", 1, span_make(dones.p + at + sizeof size, size), rig.now_ms);
            at += sizeof size + size;
        }
        buf_free(&dones);
    }
}

static void rig_core(void)
{
    struct outside out = {.send = rig_send,
                          .send_bytes = rig_send_bytes,
                          .owner = rig_owner,
                          .slot = rig_slot,
                          .gateway = rig_gateway,
                          .alive = rig_alive,
                          .wall_ms = rig_wall_ms,
                          .random = rig_random,
                          .newer_epoch = rig_newer_epoch};
    static uint64_t incarnation = 0;
    static uint32_t epoch = 0;
    rig.core = core_new(&out, rig.store, rig.conf, "router", ++incarnation);
    core_store_state(rig.core, true, rig.now_ms);
    core_lease(rig.core, true, rig.now_ms);
    core_epoch(rig.core, ++epoch, rig.now_ms);
}

/* The router dies without a word and another incarnation starts. The first `done` calls to the store take
 * effect before. (The dead one is taken apart in order, but nobody hears or stores anything of it.) */
RIG void rig_crash_after(size_t done)
{
    rig.dead = true;
    core_lease(rig.core, false, rig.now_ms);
    store_mem_set_weather(rig.store, STORE_MEM_MUTE);
    store_mem_run_view(rig.store, done);
    store_mem_set_weather(rig.store, STORE_MEM_AWAY);
    store_mem_run_view(rig.store, SIZE_MAX);
    core_free(rig.core);
    buf_clear(&rig.dones);
    store_mem_set_weather(rig.store, STORE_MEM_FAIR);
    rig.dead = false;
    rig_core();
}

RIG void rig_ignore_claim(void *ctx, enum store_result result, const struct store_user *loaded)
{
    (void)ctx;
    (void)loaded;
    assert_int_equal(result, STORE_OK);
}

/* Another router claims a user with a newer epoch; this one does not know yet. */
RIG void rig_steal(const char *bare)
{
    struct store *other = store_mem_new(rig.world);
    struct store_claim claim = {1000, 1, SPAN("other")};
    other->face->claim(other, span_of(bare), &claim, rig_ignore_claim, NULL);
    store_mem_run_view(other, SIZE_MAX);
}

RIG void rig_crash(void)
{
    rig_crash_after(SIZE_MAX);
}

/* A core for the domain "a" with these accounts (NULL-terminated). */
RIG void rig_start(const char *const *accounts)
{
    struct buf errors = {0};
    memset(&rig, 0, sizeof rig);
    rig.wall_ms = 1700000000000;
    rig.now_ms = 1000;
    rig.conf = conf_new();
    assert_true(conf_set(rig.conf, "cluster.domains=a", &errors));
    rig.world = store_world_new();
    rig.store = store_mem_new(rig.world);
    for (unsigned i = 0; accounts[i] != NULL; i++)
        store_mem_add_account(rig.world, span_of(accounts[i]));
    rig.parser = xml_parser_new(NS_CLIENT);
    rig_core();
}

RIG void rig_stop(void)
{
    core_free(rig.core);
    store_world_free(rig.world);
    xml_parser_free(rig.parser);
    conf_free(rig.conf);
    buf_free(&rig.dones);
    for (unsigned i = 0; i < RIG_SESSIONS; i++)
        buf_free(&rig.box[i]);
}

/* Logs in: session number sid for account/resource. */
RIG void rig_open(uint64_t sid, const char *account, const char *resource)
{
    struct wire_frame f = {
        .kind = WIRE_OPEN, .slot = 1, .sid = sid, .from = span_of(account), .name = span_of(resource)};
    rig.next_n[sid] = rig.handled[sid] = 0;
    rig_frame("c2s", &f);
    rig_run();
    assert_true(rig.full[sid][0] != '\0');
}

/* The client's stream is lost. */
RIG void rig_lose(uint64_t sid)
{
    struct wire_frame f = {.kind = WIRE_CLOSED, .slot = 1, .sid = sid, .num = WIRE_CLOSE_LOST};
    rig_frame("c2s", &f);
    rig_run();
}

RIG void rig_close(uint64_t sid)
{
    struct wire_frame f = {.kind = WIRE_CLOSED, .slot = 1, .sid = sid, .num = WIRE_CLOSE_CLEAN};
    rig_frame("c2s", &f);
    rig_run();
}

static void rig_stanza(const char *node, uint64_t sid, const char *xml, struct span from, unsigned flags)
{
    struct xml_element e;
    struct wire_frame f;
    struct buf raw = {0};
    memset(&f, 0, sizeof f);
    buf_reserve(&raw, 65536);
    assert_int_equal(xml_parse(rig.parser, span_of(xml), &e), XML_OK);
    assert_int_equal(stanza_rewrite(&e, span_of(xml), from, (struct span){NULL, 0}, &raw, &f.stanza),
                     STANZA_GOOD);
    f.has_stanza = true;
    f.slot = 1;
    f.flags = (uint16_t)flags;
    f.at_ms = rig.wall_ms;
    if (sid != 0) {
        f.kind = WIRE_STANZA;
        f.sid = sid;
        f.n = ++rig.next_n[sid];
    } else {
        f.kind = WIRE_ROUTE;
        f.token = 77;
    }
    rig_frame(node, &f);
    buf_free(&raw);
}

/* A session says something. */
RIG void rig_says(uint64_t sid, const char *xml)
{
    rig_stanza("c2s", sid, xml, span_of(rig.full[sid]), 0);
    rig_run();
}

/* Logs in and becomes available, with stream management or without; what the session has got till then is
 * forgotten. */
RIG void rig_log_in(uint64_t sid, const char *account, const char *resource, bool sm)
{
    rig_open(sid, account, resource);
    struct wire_frame f = {.kind = WIRE_ENABLE, .slot = 1, .sid = sid, .num = 100};
    if (sm)
        rig_frame("c2s", &f);
    rig_run();
    rig_says(sid, "<presence xmlns='jabber:client'/>");
    buf_clear(&rig.box[sid]);
}

/* Another server says something (with a from). */
RIG void rig_remote(const char *xml, unsigned flags)
{
    rig_stanza("s2s", 0, xml, (struct span){NULL, 0}, flags);
    rig_run();
}

/* Takes the next stanza of a box and compares it. '*' in want stands for any run of characters. */
static bool rig_match(const char *want, const char *got)
{
    for (; *want != '\0'; want++, got++) {
        if (*want == '*') {
            for (const char *rest = got;; rest++) {
                if (rig_match(want + 1, rest))
                    return true;
                if (*rest == '\0')
                    return false;
            }
        }
        if (*want != *got)
            return false;
    }
    return *got == '\0';
}

RIG void rig_want_at(uint64_t box, const char *want, int line)
{
    struct buf *b = &rig.box[box];
    size_t n = span_index(buf_span(b), '\n');
    if (b->n == 0)
        fail_msg("line %d: box %u is empty, want %s", line, (unsigned)box, want);
    char *got = xstrndup(b->p, n);
    if (!rig_match(want, got))
        fail_msg("line %d: box %u\n  want %s\n  got  %s", line, (unsigned)box, want, got);
    free(got);
    buf_consume(b, n + 1);
}
#define rig_want(box, want) rig_want_at(box, want, __LINE__)

RIG void rig_silent_at(uint64_t box, int line)
{
    if (rig.box[box].n > 0)
        fail_msg("line %d: box %u should be empty: %s", line, (unsigned)box, buf_cstr(&rig.box[box]));
}
#define rig_silent(box) rig_silent_at(box, __LINE__)

/* Forgets what a box holds. */
RIG void rig_skip(uint64_t box)
{
    buf_clear(&rig.box[box]);
}

#endif
