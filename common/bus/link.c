/* Connect: the side that dialed says hello and asks for one; the other answers and asks too; the third hello
 * ends it. A side is up when it has read a hello (or any message) that names its own id. A hello carries what
 * its sender has taken, so each side goes on sending after that point, whether the connection is the first or
 * the tenth.
 *
 * Sending: frames fill the open batch; link_peek seals it when it may leave (up, and less than the window in
 * flight), so under back-pressure batches grow up to LINK_BATCH_MAX. A batch is kept until it is
 * acknowledged. Its header is written when it leaves and stays while the transport holds it: an old ack in it
 * is harmless.
 *
 * Receiving: only the batch after the last one taken is taken. A lower number is a duplicate; a higher one,
 * or a heartbeat that names a batch never seen, means that the transport lost something: the peer is asked to
 * start again from the first one missing. */
#include "common/bus/link.h"

#include <stdlib.h>

enum { KIND_HELLO = 1, KIND_BATCH = 2, KIND_BEAT = 3 };
enum { FLAG_WANTS_HELLO = 1, FLAG_RESEND = 2 };

#define VERSION     1
#define BATCH_START 4096 /* first size of a batch's storage */

struct header {
    uint8_t kind;
    uint32_t flags;
    uint64_t from;
    uint64_t to;
    uint64_t seq;
    uint64_t ack;
    uint32_t frames;
    struct span body;
};

static void put_u32(char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (char)(v >> (8 * i));
}

static void put_u64(char *p, uint64_t v)
{
    put_u32(p, (uint32_t)v);
    put_u32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t get_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static uint64_t get_u64(const char *p)
{
    return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

static void write_header(char *p, const struct header *h)
{
    p[0] = 'J';
    p[1] = 'B';
    p[2] = VERSION;
    p[3] = (char)h->kind;
    put_u32(p + 4, h->flags);
    put_u64(p + 8, h->from);
    put_u64(p + 16, h->to);
    put_u64(p + 24, h->seq);
    put_u64(p + 32, h->ack);
    put_u32(p + 40, h->frames);
    put_u32(p + 44, (uint32_t)h->body.n);
}

static bool read_header(struct span m, struct header *h)
{
    if (m.n < LINK_HEADER || m.p[0] != 'J' || m.p[1] != 'B' || m.p[2] != VERSION)
        return false;
    *h = (struct header){
        .kind = (uint8_t)m.p[3],
        .flags = get_u32(m.p + 4),
        .from = get_u64(m.p + 8),
        .to = get_u64(m.p + 16),
        .seq = get_u64(m.p + 24),
        .ack = get_u64(m.p + 32),
        .frames = get_u32(m.p + 40),
        .body = {m.p + LINK_HEADER, m.n - LINK_HEADER},
    };
    return h->from != 0 && get_u32(m.p + 44) == h->body.n;
}

static bool read_name(struct span *body, struct span *out)
{
    size_t n;

    if (body->n < 1)
        return false;
    n = (unsigned char)body->p[0];
    if (n == 0 || n > LINK_NAME_MAX || n > body->n - 1)
        return false;
    *out = (struct span){body->p + 1, n};
    *body = (struct span){body->p + 1 + n, body->n - 1 - n};
    return true;
}

static bool read_hello(const struct header *h, struct link_hello *out)
{
    struct span body = h->body;

    if (body.n < 8)
        return false;
    out->incarnation = get_u64(body.p);
    body = span_sub(body, 8, body.n);
    return out->incarnation != 0 && read_name(&body, &out->from) && read_name(&body, &out->to);
}

bool link_hello_parse(struct span message, struct link_hello *out)
{
    struct header h;
    return read_header(message, &h) && h.kind == KIND_HELLO && read_hello(&h, out);
}

struct link_batch *link_batch_ref(struct link_batch *b)
{
    __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void link_batch_unref(struct link_batch *b)
{
    if (__atomic_fetch_sub(&b->refs, 1, __ATOMIC_ACQ_REL) == 1)
        free(b);
}

void link_init(struct link *l, const struct link_config *config, uint64_t now_ms)
{
    CHECK(config->id != 0 && config->incarnation != 0 && config->heartbeat_ms > 0);
    CHECK(strlen(config->name) <= LINK_NAME_MAX && strlen(config->peer_name) <= LINK_NAME_MAX);
    *l = (struct link){
        .id = config->id,
        .incarnation = config->incarnation,
        .peer_incarnation = config->peer_incarnation,
        .heartbeat_ms = config->heartbeat_ms,
        .window_bytes = config->window_bytes != 0 ? config->window_bytes : LINK_WINDOW_DEFAULT,
        .heard_ms = now_ms,
        .silent_ms = now_ms,
        .said_ms = now_ms,
        .tick_ms = now_ms,
    };
    memcpy(l->name, config->name, strlen(config->name));
    memcpy(l->peer_name, config->peer_name, strlen(config->peer_name));
    list_init(&l->kept);
    l->cursor = &l->kept;
}

void link_fini(struct link *l)
{
    struct list *node;

    while ((node = list_pop(&l->kept)) != NULL)
        link_batch_unref(LIST_ENTRY(node, struct link_batch, node));
    l->cursor = &l->kept;
    if (l->open != NULL)
        link_batch_unref(l->open);
    l->open = NULL;
    l->unacked_bytes = l->inflight_bytes = 0;
}

void link_connected(struct link *l, bool say_hello, uint64_t now_ms)
{
    if (l->state == LINK_STATE_UP)
        l->state = LINK_STATE_DOWN;
    if (!say_hello)
        return;
    l->state = LINK_STATE_HELLO;
    l->hello_due = l->hello_wants = true;
    l->said_ms = now_ms;
}

void link_disconnected(struct link *l)
{
    l->state = LINK_STATE_DOWN;
    l->hello_due = l->beat_due = l->resend_due = false;
}

/* Drops the batches that the peer has taken. False when it claims what was never sent. */
static bool take_ack(struct link *l, uint64_t ack, unsigned *events)
{
    bool passed_cursor = false;

    if (ack > l->last_seq)
        return false;
    while (!list_empty(&l->kept)) {
        struct link_batch *b = LIST_ENTRY(l->kept.next, struct link_batch, node);
        if (b->seq > ack)
            break;
        if (!b->sent)
            return false;
        if (l->cursor == &b->node)
            passed_cursor = true; /* taken from an earlier sending while we were about to repeat it */
        if (passed_cursor)
            l->cursor = b->node.next;
        else
            l->inflight_bytes -= b->n;
        l->unacked_bytes -= b->n;
        list_del(&b->node);
        link_batch_unref(b);
    }
    if (l->stalled && l->unacked_bytes <= l->window_bytes / 2) {
        l->stalled = false;
        *events |= LINK_ROOM;
    }
    return true;
}

static void rewind_cursor(struct link *l)
{
    l->cursor = l->kept.next;
    l->inflight_bytes = 0;
}

/* Any message that names both ids shows that the other side is up, so that a hello lost on the way, or one
 * that an older connection brought late, does no harm. What was in flight then is in doubt and leaves again.
 */
static void become_up(struct link *l, unsigned *events)
{
    if (l->state != LINK_STATE_UP)
        rewind_cursor(l);
    l->state = LINK_STATE_UP;
    if (!l->was_up)
        *events |= LINK_UP;
    l->was_up = true;
}

static unsigned take_hello(struct link *l, const struct header *h, uint64_t now_ms)
{
    struct link_hello hello;
    unsigned events = 0;

    if (!read_hello(h, &hello))
        return LINK_BAD;
    if (!span_is(hello.from, l->peer_name) || !span_is(hello.to, l->name))
        return LINK_STALE;
    if (l->peer_incarnation != 0 && hello.incarnation != l->peer_incarnation)
        return LINK_VOID;
    if (l->peer_id != 0 && h->from != l->peer_id && l->was_up)
        return LINK_VOID;
    if (h->to == l->id && !take_ack(l, h->ack, &events))
        return LINK_BAD;
    l->peer_incarnation = hello.incarnation;
    l->peer_id = h->from;
    l->peer_window = h->seq;
    l->heard_ms = l->silent_ms = now_ms;
    if (h->to == l->id) {
        rewind_cursor(l);
        become_up(l, &events);
    }
    if ((h->flags & FLAG_WANTS_HELLO) != 0 || h->to != l->id) {
        l->hello_due = true;
        l->hello_wants = l->state != LINK_STATE_UP;
    }
    return events;
}

static bool frames_are_sound(struct span body, uint32_t count)
{
    while (count-- > 0) {
        uint32_t n;
        if (body.n < 4)
            return false;
        n = get_u32(body.p);
        if (n > body.n - 4)
            return false;
        body = (struct span){body.p + 4 + n, body.n - 4 - n};
    }
    return body.n == 0;
}

bool link_frame(struct span *frames, struct span *frame)
{
    uint32_t n;

    if (frames->n < 4)
        return false;
    n = get_u32(frames->p);
    *frame = (struct span){frames->p + 4, n};
    *frames = (struct span){frames->p + 4 + n, frames->n - 4 - n};
    return true;
}

/* Something before this is missing. Asked for once a heartbeat, since what is on its way meanwhile shows the
 * same gap again. */
static unsigned ask_again(struct link *l, uint64_t now_ms)
{
    if (l->resend_asked_ms == 0 || now_ms - l->resend_asked_ms >= l->heartbeat_ms) {
        l->resend_asked_ms = now_ms;
        l->resend_due = l->beat_due = true;
    }
    return LINK_GAP;
}

static void take_batch(struct link *l, const struct header *h, size_t message_bytes, uint64_t now_ms,
                       struct link_in *in)
{
    if (h->seq <= l->taken) {
        in->events |= LINK_DUPLICATE;
        l->unanswered++; /* it was sent again because our ack was lost */
    } else if (h->seq != l->taken + 1) {
        in->events |= ask_again(l, now_ms);
    } else {
        l->taken = h->seq;
        l->resend_asked_ms = 0;
        l->unanswered++;
        l->unanswered_bytes += message_bytes;
        if (frames_are_sound(h->body, h->frames)) {
            in->frames = h->body;
            in->frame_count = h->frames;
        } else {
            in->events |= LINK_BAD; /* counts as taken: it would not be better the second time */
        }
    }
    if (l->unanswered >= LINK_ACK_BATCHES || l->unanswered_bytes >= l->peer_window / 4)
        l->beat_due = true;
}

struct link_in link_input(struct link *l, struct span message, uint64_t now_ms)
{
    struct link_in in = {0};
    struct header h;

    if (!read_header(message, &h) || h.kind < KIND_HELLO || h.kind > KIND_BEAT) {
        in.events = LINK_BAD;
        return in;
    }
    if (h.kind == KIND_HELLO) {
        in.events = take_hello(l, &h, now_ms);
        return in;
    }
    if (h.to != l->id || h.from != l->peer_id) {
        in.events = LINK_STALE;
        return in;
    }
    if (!take_ack(l, h.ack, &in.events)) {
        in.events |= LINK_BAD;
        return in;
    }
    l->heard_ms = l->silent_ms = now_ms;
    if (l->state != LINK_STATE_UP)
        become_up(l, &in.events);
    if ((h.flags & FLAG_RESEND) != 0)
        rewind_cursor(l);
    if (h.kind == KIND_BATCH)
        take_batch(l, &h, message.n, now_ms, &in);
    else if (h.seq > l->taken)
        in.events |= ask_again(l, now_ms);
    return in;
}

unsigned link_tick(struct link *l, uint64_t now_ms)
{
    uint64_t gap = now_ms - l->tick_ms;
    uint64_t limit = (uint64_t)LINK_SILENT_HEARTBEATS * l->heartbeat_ms;
    unsigned events = 0;

    l->tick_ms = now_ms;
    if (gap > 2 * (uint64_t)l->heartbeat_ms) { /* we slept ourselves: the peer may have spoken meanwhile */
        l->heard_ms = MIN(l->heard_ms + gap, now_ms);
        l->silent_ms = MIN(l->silent_ms + gap, now_ms);
    }
    if (now_ms - l->silent_ms >= limit) {
        l->silent_ms = now_ms;
        events |= LINK_SILENT;
    }
    /* a quarter early, so that ticks of half a heartbeat do not stretch the period to one and a half */
    if (now_ms - l->said_ms + l->heartbeat_ms / 4 >= l->heartbeat_ms) {
        if (l->state == LINK_STATE_UP)
            l->beat_due = true;
        else if (l->state == LINK_STATE_HELLO)
            l->hello_due = l->hello_wants = true;
    }
    return events;
}

static struct link_batch *grow(struct link_batch *b, size_t need)
{
    size_t cap = b != NULL ? b->cap : BATCH_START;

    while (cap < need)
        cap *= 2;
    if (b != NULL && cap == b->cap)
        return b;
    if (b != NULL) {
        b = xrealloc(b, sizeof *b + cap);
    } else {
        b = xmalloc(sizeof *b + cap);
        *b = (struct link_batch){.refs = 1, .n = LINK_HEADER};
    }
    list_init(&b->node);
    b->cap = cap;
    return b;
}

static void seal(struct link *l)
{
    struct link_batch *b = l->open;

    b->seq = ++l->last_seq;
    l->open = NULL;
    list_add(&l->kept, &b->node);
    if (l->cursor == &l->kept)
        l->cursor = &b->node;
}

char *link_reserve(struct link *l, size_t n)
{
    if (n > LINK_FRAME_MAX)
        return NULL;
    if (l->open != NULL && l->open->n + 4 + n > LINK_BATCH_MAX)
        seal(l);
    if (l->open == NULL)
        l->unacked_bytes += LINK_HEADER;
    l->open = grow(l->open, (l->open != NULL ? l->open->n : LINK_HEADER) + 4 + n);
    l->reserved_bytes = n;
    return l->open->data + l->open->n + 4;
}

void link_commit(struct link *l, size_t n)
{
    struct link_batch *b = l->open;

    CHECK(b != NULL && n <= l->reserved_bytes);
    put_u32(b->data + b->n, (uint32_t)n);
    b->n += 4 + n;
    b->frames++;
    l->reserved_bytes = 0;
    l->unacked_bytes += 4 + n;
    if (!link_ready(l))
        l->stalled = true;
}

static void answered(struct link *l)
{
    l->unanswered = 0;
    l->unanswered_bytes = 0;
}

static void write_hello(struct link *l, struct link_out *out)
{
    size_t from = strlen(l->name), to = strlen(l->peer_name);
    char *p = l->control + LINK_HEADER;
    struct header h = {.kind = KIND_HELLO,
                       .flags = l->hello_wants ? FLAG_WANTS_HELLO : 0,
                       .from = l->id,
                       .to = l->peer_id,
                       .seq = l->window_bytes,
                       .ack = l->taken,
                       .body = {p, 8 + 2 + from + to}};

    put_u64(p, l->incarnation);
    p[8] = (char)from;
    memcpy(p + 9, l->name, from);
    p[9 + from] = (char)to;
    memcpy(p + 10 + from, l->peer_name, to);
    write_header(l->control, &h);
    *out = (struct link_out){.bytes = l->control, .n = LINK_HEADER + h.body.n};
}

static uint64_t last_sent_seq(const struct link *l)
{
    if (l->cursor == &l->kept)
        return l->last_seq;
    return LIST_ENTRY(l->cursor, struct link_batch, node)->seq - 1;
}

static void write_batch(struct link *l, struct link_batch *b, struct link_out *out)
{
    /* while the transport still holds it from the last time, it must not change */
    if (!b->sent || __atomic_load_n(&b->refs, __ATOMIC_ACQUIRE) == 1) {
        struct header h = {.kind = KIND_BATCH,
                           .from = l->id,
                           .to = l->peer_id,
                           .seq = b->seq,
                           .ack = l->taken,
                           .frames = b->frames,
                           .body = {b->data + LINK_HEADER, b->n - LINK_HEADER}};
        write_header(b->data, &h);
    }
    *out = (struct link_out){.bytes = b->data, .n = b->n, .batch = b, .resend = b->sent};
}

bool link_peek(struct link *l, struct link_out *out)
{
    if (l->hello_due) {
        write_hello(l, out);
        return true;
    }
    if (l->state != LINK_STATE_UP)
        return false;
    if (!l->resend_due && l->inflight_bytes < l->window_bytes) {
        if (l->cursor == &l->kept && l->open != NULL)
            seal(l);
        if (l->cursor != &l->kept) {
            write_batch(l, LIST_ENTRY(l->cursor, struct link_batch, node), out);
            return true;
        }
    }
    if (!l->beat_due)
        return false;
    write_header(l->control, &(struct header){.kind = KIND_BEAT,
                                              .flags = l->resend_due ? FLAG_RESEND : 0,
                                              .from = l->id,
                                              .to = l->peer_id,
                                              .seq = last_sent_seq(l),
                                              .ack = l->taken,
                                              .body = {NULL, 0}});
    *out = (struct link_out){.bytes = l->control, .n = LINK_HEADER};
    return true;
}

void link_sent(struct link *l, const struct link_out *out, uint64_t now_ms)
{
    l->said_ms = now_ms;
    if (out->batch != NULL) {
        CHECK(l->cursor == &out->batch->node);
        if (!out->resend || get_u64(out->bytes + 32) == l->taken) {
            answered(l);
            l->beat_due = l->resend_due;
        }
        out->batch->sent = true;
        l->inflight_bytes += out->n;
        l->cursor = l->cursor->next;
        return;
    }
    if (l->hello_due) {
        l->hello_due = false;
        answered(l);
        return;
    }
    l->beat_due = l->resend_due = false;
    answered(l);
}

const char *link_state_name(enum link_state state)
{
    static const char *const names[] = {"down", "hello", "up"};
    return names[state];
}
