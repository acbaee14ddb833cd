#include "common/bus/zmtp.h"

#include <string.h>

#define GREETING_SIZE  64
#define GREETING_START 12 /* signature and version, up to the mechanism */
#define MECHANISM_SIZE 20
#define COMMAND_MAX    4096 /* READY with its metadata */
#define HELD_KEPT      (16u << 10)

enum { FLAG_MORE = 1, FLAG_LONG = 2, FLAG_COMMAND = 4, FLAGS = 7 };
enum zmtp_state { GREETING, HEAD, SIZE, BODY, FAILED };

static void put_u32(struct buf *out, uint32_t v)
{
    char *p = buf_reserve(out, 4);

    for (int i = 0; i < 4; i++)
        p[i] = (char)(v >> (24 - 8 * i));
    out->n += 4;
}

static void property(struct buf *out, const char *name, struct span value)
{
    buf_add_char(out, (char)strlen(name));
    buf_add_str(out, name);
    put_u32(out, (uint32_t)value.n);
    buf_add_span(out, value);
}

void zmtp_hello(struct buf *out, struct span identity)
{
    static const char greeting[GREETING_SIZE] = "\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL";
    char head[ZMTP_HEAD_MAX];
    struct buf ready = {0};
    size_t n;

    CHECK(identity.n <= ZMTP_IDENTITY_MAX);
    buf_add(out, greeting, sizeof greeting);
    buf_add_lit(&ready, "\5READY");
    property(&ready, "Socket-Type", span_of("ROUTER"));
    property(&ready, "Identity", identity);
    n = zmtp_head(head, ready.n);
    head[0] |= FLAG_COMMAND;
    buf_add(out, head, n);
    buf_add_span(out, buf_span(&ready));
    buf_free(&ready);
}

size_t zmtp_head(char out[ZMTP_HEAD_MAX], size_t n)
{
    if (n < 256) {
        out[0] = 0;
        out[1] = (char)n;
        return 2;
    }
    out[0] = FLAG_LONG;
    for (int i = 0; i < 8; i++)
        out[1 + i] = (char)((uint64_t)n >> (56 - 8 * i));
    return ZMTP_HEAD_MAX;
}

void zmtp_input(struct zmtp *z, struct span bytes)
{
    CHECK(z->in.n == 0 || z->state == FAILED);
    z->in = bytes;
}

/* The next n bytes in one piece, or NULL until they have come. */
static const char *piece(struct zmtp *z, size_t n)
{
    const char *p = z->in.p;
    size_t taken = MIN(n - z->held.n, z->in.n);

    if (z->held.n == 0)
        buf_shrink(&z->held, HELD_KEPT);
    if (z->held.n == 0 && taken == n) {
        z->in = span_sub(z->in, n, z->in.n - n);
        return n > 0 ? p : "";
    }
    buf_add_span(&z->held, span_sub(z->in, 0, taken));
    z->in = span_sub(z->in, taken, z->in.n - taken);
    if (z->held.n < n)
        return NULL;
    z->held.n = 0;
    return z->held.p;
}

static enum zmtp_event fail(struct zmtp *z, const char *fault, struct span *out)
{
    z->state = FAILED;
    z->fault = fault;
    *out = span_of(fault);
    return ZMTP_BAD;
}

static bool is_greeting(const char *p)
{
    char mechanism[MECHANISM_SIZE] = "NULL";

    return p[0] == '\xff' && p[9] == '\x7f' && p[10] >= 3 &&
           memcmp(p + GREETING_START, mechanism, sizeof mechanism) == 0;
}

/* Takes n bytes off the front; false when there are fewer. */
static bool cut(struct span *rest, size_t n, struct span *out)
{
    if (rest->n < n)
        return false;
    *out = span_sub(*rest, 0, n);
    *rest = span_sub(*rest, n, rest->n - n);
    return true;
}

static bool cut_number(struct span *rest, size_t bytes, uint64_t *out)
{
    struct span s;

    if (!cut(rest, bytes, &s))
        return false;
    *out = 0;
    for (size_t i = 0; i < s.n; i++)
        *out = *out << 8 | (unsigned char)s.p[i];
    return true;
}

/* READY and its properties, of which only the identity matters; the socket's type must be one that a ROUTER
 * may talk to. */
static enum zmtp_event read_command(struct zmtp *z, struct span body, struct span *out)
{
    struct span name, key, value, identity = {NULL, 0}, type = {NULL, 0};
    uint64_t n;

    if (!cut_number(&body, 1, &n) || !cut(&body, n, &name))
        return fail(z, "a malformed command", out);
    if (span_is(name, "ERROR"))
        return fail(z, "the other side refuses", out);
    if (!span_is(name, "READY"))
        return fail(z, "another command in place of READY", out);
    while (body.n > 0) {
        if (!cut_number(&body, 1, &n) || !cut(&body, n, &key) || !cut_number(&body, 4, &n) ||
            !cut(&body, n, &value))
            return fail(z, "malformed metadata", out);
        if (span_is(key, "Identity"))
            identity = value;
        else if (span_is(key, "Socket-Type"))
            type = value;
    }
    if (!span_is(type, "ROUTER") && !span_is(type, "DEALER") && !span_is(type, "REQ"))
        return fail(z, "a socket of another type", out);
    if (identity.n > ZMTP_IDENTITY_MAX)
        return fail(z, "an identity that is too long", out);
    *out = identity;
    return ZMTP_READY;
}

/* A frame's first byte: only known flags, nothing but commands before READY. */
static bool take_flags(struct zmtp *z, unsigned flags)
{
    bool command = (flags & FLAG_COMMAND) != 0;

    z->flags = (uint8_t)flags;
    return (flags & ~FLAGS) == 0 && (z->ready ? !command || (flags & FLAG_MORE) == 0 : command);
}

static bool take_size(struct zmtp *z, struct span bytes)
{
    cut_number(&bytes, bytes.n, &z->size);
    return z->size <= ((z->flags & FLAG_COMMAND) != 0 ? COMMAND_MAX : ZMTP_MESSAGE_MAX);
}

/* A whole frame; ZMTP_WAIT when it is nobody's (later parts, commands such as PING). */
static enum zmtp_event take_frame(struct zmtp *z, struct span body, struct span *out)
{
    bool first = !z->more;

    if (!z->ready) {
        enum zmtp_event event = read_command(z, body, out);
        z->ready = event == ZMTP_READY;
        return event;
    }
    if ((z->flags & FLAG_COMMAND) != 0)
        return ZMTP_WAIT;
    z->more = (z->flags & FLAG_MORE) != 0;
    *out = body;
    return first ? ZMTP_MESSAGE : ZMTP_WAIT;
}

/* How many bytes make the next piece. */
static size_t wanted(const struct zmtp *z)
{
    switch ((enum zmtp_state)z->state) {
    case GREETING:
        return GREETING_SIZE;
    case SIZE:
        return (z->flags & FLAG_LONG) != 0 ? 8 : 1;
    case BODY:
        return z->size;
    case HEAD:
    case FAILED:
        break;
    }
    return 1;
}

enum zmtp_event zmtp_next(struct zmtp *z, struct span *out)
{
    enum zmtp_event event;
    const char *p;
    size_t n;

    if (z->state == FAILED)
        return fail(z, z->fault, out);
    while (n = wanted(z), (p = piece(z, n)) != NULL) {
        switch ((enum zmtp_state)z->state) {
        case GREETING:
            if (!is_greeting(p))
                return fail(z, "no greeting of ZMTP 3 without encryption", out);
            z->state = HEAD;
            break;
        case HEAD:
            if (!take_flags(z, (unsigned char)p[0]))
                return fail(z, "a frame out of place", out);
            z->state = SIZE;
            break;
        case SIZE:
            if (!take_size(z, span_make(p, n)))
                return fail(z, "a frame that is too large", out);
            z->state = BODY;
            break;
        case BODY:
            z->state = HEAD;
            event = take_frame(z, span_make(p, n), out);
            if (event != ZMTP_WAIT)
                return event;
            break;
        case FAILED:
            break;
        }
    }
    return ZMTP_WAIT;
}

void zmtp_free(struct zmtp *z)
{
    buf_free(&z->held);
}
