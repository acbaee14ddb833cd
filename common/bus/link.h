/* One side of a link between two processes, without I/O: takes messages and the time, hands out messages and
 * events. bus.c runs it over ZeroMQ; a simulation may run it over anything that keeps or loses whole
 * messages.
 *
 * Every object has an id drawn by its owner; a pair of ids names one sequence space. A message is a header of
 * LINK_HEADER bytes and a body:
 *
 *     'J' 'B' version kind | flags u32 | from id u64 | to id u64 | seq u64 | ack u64 | frames u32 | body u32
 *
 * little endian. HELLO: seq = the sender's window, ack = what it has taken from `to`; the body has its
 * incarnation and both names. BATCH: seq counts from 1, the body is `frames` times length u32 and bytes.
 * BEAT: seq = the last batch sent; sent when nothing else was for a heartbeat, or when an ack is due. ack is
 * always cumulative. */
#ifndef JACKDAW_BUS_LINK_H
#define JACKDAW_BUS_LINK_H

#include "common/base/list.h"
#include "common/base/span.h"

#define LINK_HEADER            48
#define LINK_BATCH_MAX         (1u << 20) /* frames are added to a batch up to this many bytes */
#define LINK_BATCH_ROOM        16
#define LINK_FRAME_MAX         (32u << 20)
#define LINK_NAME_MAX          63
#define LINK_WINDOW_DEFAULT    (4u << 20)
#define LINK_SILENT_HEARTBEATS 5
#define LINK_ACK_BATCHES       64 /* an ack of its own after so many batches that nothing answered */

/* Queued or sent and not yet acknowledged; shared with the transport while it sends. */
struct link_batch {
    struct list node;
    unsigned refs; /* atomic: the transport may drop its reference on another thread */
    bool sent;
    uint32_t frames;
    uint64_t seq;
    size_t n; /* bytes used of data, header included */
    size_t cap;
    char room[LINK_BATCH_ROOM]; /* the transport's, right before data: its head of the message */
    char data[];
};

enum link_state {
    LINK_STATE_DOWN,  /* no connection */
    LINK_STATE_HELLO, /* connected, said hello, not yet understood */
    LINK_STATE_UP,    /* batches flow */
};

struct link {
    uint64_t id;
    uint64_t incarnation;
    uint64_t peer_id;          /* 0 = not known yet */
    uint64_t peer_incarnation; /* 0 = any */
    char name[LINK_NAME_MAX + 1];
    char peer_name[LINK_NAME_MAX + 1];
    enum link_state state;
    bool was_up;
    bool hello_due;   /* a hello leaves at the next occasion … */
    bool hello_wants; /* … and asks for one in return */
    bool beat_due;    /* an ack or heartbeat leaves at the next occasion */
    bool resend_due;  /* … asking the peer to send again from the first batch not taken */
    bool stalled;     /* went over the window; LINK_ROOM is owed */
    unsigned heartbeat_ms;
    size_t window_bytes;
    uint64_t peer_window;
    /* out */
    struct list kept;        /* batches in order; those before cursor are in flight */
    struct list *cursor;     /* the next batch to send, or &kept */
    struct link_batch *open; /* being filled, not in the list */
    uint64_t last_seq;       /* given to the youngest batch in kept */
    size_t unacked_bytes;    /* kept and open */
    size_t inflight_bytes;   /* kept before cursor */
    size_t reserved_bytes;   /* promised by link_reserve */
    /* in */
    uint64_t taken;      /* highest sequence taken in order */
    unsigned unanswered; /* batches taken since an ack left */
    size_t unanswered_bytes;
    /* time */
    uint64_t heard_ms;
    uint64_t silent_ms; /* when LINK_SILENT was last told */
    uint64_t said_ms;
    uint64_t tick_ms;
    uint64_t resend_asked_ms;
    char control[LINK_HEADER + 8 + 2 + 2 * LINK_NAME_MAX]; /* the control message last handed out */
};

/* What a message or a tick brought; bits. */
enum {
    LINK_UP = 1,         /* for the first time: both sides know each other */
    LINK_ROOM = 2,       /* below half the window after link_ready said no */
    LINK_VOID = 4,       /* a hello of another incarnation or object: this link is over. Free it and give the
                            same message to a new one */
    LINK_BAD = 8,        /* malformed: dropped */
    LINK_STALE = 16,     /* of another pair of objects: dropped */
    LINK_DUPLICATE = 32, /* taken before: dropped */
    LINK_GAP = 64,       /* a batch before it is missing: dropped, asked for again */
    LINK_SILENT = 128,   /* nothing heard for LINK_SILENT_HEARTBEATS; told again after as long */
};

struct link_in {
    unsigned events;
    uint32_t frame_count;
    struct span frames; /* for link_frame; borrowed from the message */
};

/* A message to send. Valid until the next call on the link, but for batch: take a reference to keep it. */
struct link_out {
    const char *bytes;
    size_t n;
    struct link_batch *batch; /* NULL for control messages */
    bool resend;
};

/* A hello as read from a message, before it is known whose link it is for. */
struct link_hello {
    uint64_t incarnation;
    struct span from; /* borrowed */
    struct span to;
};

struct link_config {
    uint64_t id;               /* unique to this object, never 0 */
    uint64_t incarnation;      /* own, never 0 */
    uint64_t peer_incarnation; /* 0 = whichever answers */
    const char *name;          /* own; at most LINK_NAME_MAX bytes; copied */
    const char *peer_name;     /* likewise */
    unsigned heartbeat_ms;
    size_t window_bytes; /* 0 = LINK_WINDOW_DEFAULT */
};

/* Makes a link in LINK_STATE_DOWN. */
void link_init(struct link *l, const struct link_config *config, uint64_t now_ms);

/* Drops what it holds. */
void link_fini(struct link *l);

/* There is a connection. say_hello: this side begins (the one that dialed). */
void link_connected(struct link *l, bool say_hello, uint64_t now_ms);

/* The connection broke: nothing leaves until it is connected again or the peer says hello; then what the peer
 * has not taken is sent again. */
void link_disconnected(struct link *l);

/* A message from the peer, one whole message of the transport. */
struct link_in link_input(struct link *l, struct span message, uint64_t now_ms);

/* Takes the next frame from *frames. False at the end. */
bool link_frame(struct span *frames, struct span *frame);

/* Reads a hello. False when the message is none or malformed. */
bool link_hello_parse(struct span message, struct link_hello *out);

/* Time passes; call every half heartbeat or so. Returns events. A late call (this process was stopped) is not
 * held against the peer. */
unsigned link_tick(struct link *l, uint64_t now_ms);

/* Where a frame of at most n bytes may be written; nothing else may be queued before link_commit with its
 * true size. NULL when n is more than LINK_FRAME_MAX. */
char *link_reserve(struct link *l, size_t n);
void link_commit(struct link *l, size_t n);

/* False when more than the window is unacknowledged. */
static inline bool link_ready(const struct link *l)
{
    return l->unacked_bytes <= l->window_bytes;
}

/* The next message to send, or false. It stays the next one until link_sent. */
bool link_peek(struct link *l, struct link_out *out);

/* The transport took the message of the last link_peek. */
void link_sent(struct link *l, const struct link_out *out, uint64_t now_ms);

/* References to a batch; unref may be called on any thread. */
struct link_batch *link_batch_ref(struct link_batch *b);
void link_batch_unref(struct link_batch *b);

/* For logs. */
const char *link_state_name(enum link_state state);

#endif
