/* What a stanza costs a router, from the frame that a connection manager sends to the frames that leave, the
 * store in memory included: a chat message between two sessions (written into the mailbox, delivered,
 * acknowledged by both sides), one with durability in memory only, a presence to 50 contacts, and a ping. */
#include "bench/micro/measure.h"
#include "common/wire/wire.h"
#include "common/xml/parser.h"
#include "router/core.h"
#include "router/store/store_mem.h"

#define MESSAGES  256
#define TURN      16 /* messages in a turn */
#define PRESENCES 16
#define CONTACTS  50
#define SESSIONS  (CONTACTS + 3) /* juliet = 1, her contacts from 2 on */

static struct core *core;
static struct conf *conf;
static struct store_world *world;
static struct xml_parser *parser;
static struct buf frames; /* to the router itself or answers of the connection manager */
static uint64_t now_ms = 1000, delivered;
static uint64_t next_n[SESSIONS];
static char full[SESSIONS][64];

static void keep(const struct wire_frame *f)
{
    size_t at = frames.n;
    uint32_t size = 0;

    buf_add(&frames, &size, sizeof(size));
    wire_add(&frames, f);
    size = (uint32_t)(frames.n - at - sizeof(size));
    memcpy(frames.p + at, &size, sizeof(size));
}

/* The connection manager: acknowledges what its clients get. */
static bool send_frame(void *ctx, const char *node, const struct wire_frame *f)
{
    struct span list = f->targets;
    struct wire_target target;
    (void)ctx;

    if (strcmp(node, "c2s") != 0 || f->kind != WIRE_DELIVER)
        return true;
    while (wire_target_next(&list, &target)) {
        delivered++;
        if ((f->flags & WIRE_CONFIRM) == 0)
            continue;
        struct buf pairs = {0};
        wire_pair_add(&pairs, target.sid, target.n);
        keep(&(struct wire_frame){.kind = WIRE_ACKED, .slot = f->slot, .pairs = buf_span(&pairs)});
        buf_free(&pairs);
    }
    return true;
}

static bool send_bytes(void *ctx, const char *node, struct span encoded)
{
    (void)ctx;
    (void)node;
    (void)encoded;
    return true;
}

static const char *owner(void *ctx, uint16_t slot)
{
    (void)ctx;
    (void)slot;
    return "router";
}

static uint16_t slot(struct span bare)
{
    (void)bare;
    return 1;
}

static const char *gateway(void *ctx, struct span domain, struct span sender)
{
    (void)ctx;
    (void)domain;
    (void)sender;
    return NULL;
}

static bool alive(void *ctx, const char *node, uint64_t incarnation)
{
    (void)ctx;
    (void)node;
    (void)incarnation;
    return true;
}

static uint64_t wall_ms(void *ctx)
{
    (void)ctx;
    return 1700000000000 + now_ms;
}

static uint64_t number(void *ctx)
{
    static uint64_t last;
    (void)ctx;
    return ++last;
}

static void newer_epoch(void *ctx, uint32_t epoch)
{
    (void)ctx;
    (void)epoch;
}

static void give(const struct wire_frame *f)
{
    static struct buf b;

    buf_clear(&b);
    wire_add(&b, f);
    core_frame(core, "c2s", 1, buf_span(&b), now_ms);
}

/* A turn of the router and of those around it, until nothing moves. */
static void turn(void)
{
    now_ms++;
    do {
        struct buf now = frames;
        frames = (struct buf){0};
        for (size_t at = 0; at < now.n;) {
            uint32_t size;
            memcpy(&size, now.p + at, sizeof(size));
            core_frame(core, "c2s", 1, span_make(now.p + at + sizeof(size), size), now_ms);
            at += sizeof(size) + size;
        }
        buf_free(&now);
        core_turn(core, now_ms);
    } while (store_mem_run(world, SIZE_MAX) > 0 || frames.n > 0);
}

/* A stanza of a session, as it comes from the connection manager. */
static void say(unsigned sid, struct span text)
{
    static struct buf raw;
    struct xml_element e;
    struct wire_frame f = {.kind = WIRE_STANZA,
                           .slot = 1,
                           .sid = sid,
                           .n = ++next_n[sid],
                           .at_ms = wall_ms(NULL),
                           .has_stanza = true};

    buf_clear(&raw);
    CHECK(xml_parse(parser, text, &e) == XML_OK);
    CHECK(stanza_rewrite(&e, text, span_of(full[sid]), (struct span){NULL, 0}, &raw, &f.stanza) ==
          STANZA_GOOD);
    give(&f);
}

static void run_messages(void)
{
    uint64_t before = delivered;

    for (unsigned i = 0; i < MESSAGES; i++) {
        say(1, SPAN("<message to='romeo2@a/r' type='chat' id='m-1'><body>Art thou not Romeo, and a "
                    "Montague?</body></message>"));
        if (i % TURN == TURN - 1)
            turn();
    }
    CHECK(delivered - before == MESSAGES);
}

static void run_presences(void)
{
    uint64_t before = delivered;

    for (unsigned i = 0; i < PRESENCES; i++) {
        say(1, SPAN("<presence><show>away</show></presence>"));
        turn();
    }
    CHECK(delivered - before >= PRESENCES * CONTACTS);
}

static void run_pings(void)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        say(1, SPAN("<iq type='get' id='p' to='a'><ping xmlns='urn:xmpp:ping'/></iq>"));
        if (i % TURN == TURN - 1)
            turn();
    }
}

static void open_session(unsigned sid, const char *account)
{
    struct wire_frame f = {
        .kind = WIRE_OPEN, .slot = 1, .sid = sid, .from = span_of(account), .name = SPAN("r")};

    snprintf(full[sid], sizeof(full[sid]), "%s/r", account);
    store_mem_add_account(world, span_of(account));
    give(&f);
    turn();
    say(sid, SPAN("<presence/>"));
    turn();
}

static void befriend(unsigned sid, const char *contact)
{
    char text[128];
    int n = snprintf(text, sizeof(text), "<presence type='subscribe' to='%s'/>", contact);

    say(sid, span_make(text, (size_t)n));
    turn();
}

static void approve(unsigned sid, const char *contact)
{
    char text[128];
    int n = snprintf(text, sizeof(text), "<presence type='subscribed' to='%s'/>", contact);

    say(sid, span_make(text, (size_t)n));
    turn();
}

static void start(const char *durability)
{
    static uint64_t incarnation;
    struct outside out = {.send = send_frame,
                          .send_bytes = send_bytes,
                          .owner = owner,
                          .slot = slot,
                          .gateway = gateway,
                          .alive = alive,
                          .wall_ms = wall_ms,
                          .random = number,
                          .newer_epoch = newer_epoch};
    struct buf errors = {0};
    char account[32];

    memset(next_n, 0, sizeof(next_n));
    conf = conf_new();
    CHECK(conf_set(conf, "cluster.domains=a", &errors) && conf_set(conf, durability, &errors));
    world = store_world_new();
    core = core_new(&out, store_mem_new(world), conf, "router", ++incarnation);
    core_store_state(core, true, now_ms);
    core_lease(core, true, now_ms);
    core_epoch(core, 1, now_ms);
    open_session(1, "juliet@a");
    for (unsigned i = 2; i < CONTACTS + 2; i++) {
        snprintf(account, sizeof(account), "romeo%u@a", i);
        open_session(i, account);
        befriend(i, "juliet@a");
        approve(1, account);
    }
}

static void end(void)
{
    core_free(core);
    store_world_free(world);
    conf_free(conf);
    buf_free(&frames);
}

int main(int argc, char **argv)
{
    measure_only = argc > 1 ? argv[1] : NULL;
    parser = xml_parser_new(NS_CLIENT);
    start("delivery.durability=redis");
    measure("router, message, durable", MESSAGES, 20, run_messages);
    measure("router, presence to 50 contacts", PRESENCES, 20, run_presences);
    measure("router, ping", MESSAGES, 20, run_pings);
    end();
    start("delivery.durability=memory");
    measure("router, message, in memory", MESSAGES, 20, run_messages);
    end();
    xml_parser_free(parser);
    return 0;
}
