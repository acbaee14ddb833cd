/* The envelope: everything that processes say to each other. A pure codec, bounds-checked, tolerant of newer
 * peers (unknown fields are skipped, unknown kinds reported). One frame = one struct wire_frame; common/bus
 * carries frames in order. */
#ifndef JACKDAW_WIRE_WIRE_H
#define JACKDAW_WIRE_WIRE_H

#include "common/stanza/stanza.h"

/* clang-format off */
/* A session's life (c2s = connection manager, R = the home router of its bare JID). A session outlives its
 * connections: `session`, in what is said of one of them, names the connection by the sid with which it asked
 * OPEN or RESUME (a fresh one each time). R believes only the one that it has answered last, which stands in
 * the session's record, and c2s takes only what is meant for that one; 0 = not known.
 *
 *   c2s → R  OPEN     sid, from = bare JID, name = wanted resource or empty
 *   R → c2s  OPENED   sid, to = full JID                       | REFUSED sid, num = enum stanza_error, text
 *   c2s → R  STANZA   sid, session, n = inbound number (1, 2, 3 … per session, no gaps), stanza
 *   R → c2s  HANDLED  pairs (sid, n): everything up to n is safe (promise 1); c2s may acknowledge it and
 *                     forget its copy, unless it has said SYNC meanwhile: then that one is told anew
 *   R → c2s  DELIVER  targets (sid, n = outbound number, to), raw: c2s writes raw to each session; a target's
 *                     `to`, when not empty, is put in behind "<message"/"<presence"/"<iq" as a to attribute.
 *                     Numbers count 1, 2, 3 … per session; c2s drops one that it has already had
 *   c2s → R  ACKED    pairs (sid, n): delivered up to outbound number n. With stream management: the client's
 *                     <a/>. Without: the bytes were taken by the socket. connections: who says so of each
 *   c2s → R  FLOW     sid, session, num = 1 hold back (the client reads slowly), 0 go on
 *   c2s → R  ENABLE   sid, session, num = wanted resume seconds
 *   R → c2s  ENABLED  sid, session, name = SM id, num = seconds granted (0 = no resumption). Both directions count for
 *                     XEP-0198 from there: c2s remembers the numbers at that moment (inbound: of the last
 *                     STANZA before ENABLE; outbound: carried in ENABLED.n)
 *   c2s → R  CLOSED   sid, session, num = enum wire_close: that connection has ended
 *   R → c2s  KILL     sid, session, num = enum stream_error, text: end the stream with that error; no CLOSED is needed
 *   c2s → R  RESUME   sid = a fresh one, from = bare JID, name = SM id, num = the client's h, age_ms = since its
 *                     client has asked: a question that waits long, or is asked again at the next router, may
 *                     be older than the connection that has the session by then. SYNC tells the same
 *   R → c2s  RESUMED  sid = the fresh one, session = the old sid that is in force again, to = full JID,
 *                     n = highest inbound number handled, num = h to tell the client, token = the outbound
 *                     number that the client's h stands for; DELIVERs of what the client lacks follow
 *                     question, here and in OPENED, REFUSED, RESUME_FAILED = the token of the one answered: c2s
 *                     that has asked again since waits for the answer to that. R numbers anew for each, and
 *                     takes none that is older than the one it (or another owner) took last
 *            | NOT_MINE: to be asked again, when the connection that has the session may have said SYNC
 *            | RESUME_FAILED sid, num = enum stanza_error (item-not-found), n = the session's last h (flag
 *                     WIRE_HAS_H when known)
 *
 * A new epoch moves a slot to another router R2: c2s sends, per session of the slot,
 *   c2s → R2 SYNC     sid, from = full JID, n = highest inbound number known HANDLED, num = highest outbound
 *                     number had, session, flags WIRE_SM | WIRE_HELD; then again every STANZA that is not HANDLED, in
 *                     order
 *   R2 → c2s SYNCED   token of the SYNC: what follows is of this attachment
 *            | KILL   when it knows of no such session, or another connection has it
 * A frame for a slot that the receiver does not own comes back as NOT_MINE (kind of what it was in num, sid,
 * n, epoch = the receiver's): the sender waits for the newer epoch or sends again.
 *
 * Between routers, and to s2s: a stanza from one JID to another.
 *   R → R'   ROUTE    token, sid + n = identity of the stanza at its origin (0 = made by a server, never sent
 *                     twice), stanza, targets: when present, the bare JIDs (to) of the receiver's that each
 *                     get the stanza (fan-out)
 *   R' → R   DONE     pairs (token, enum wire_done)
 * s2s → R sends ROUTE for what comes from other servers, R → s2s for what goes there, with the same DONE. */
/* clang-format on */

enum wire_kind {
    WIRE_NONE,
    WIRE_OPEN,
    WIRE_OPENED,
    WIRE_REFUSED,
    WIRE_STANZA,
    WIRE_HANDLED,
    WIRE_DELIVER,
    WIRE_ACKED,
    WIRE_FLOW,
    WIRE_ENABLE,
    WIRE_ENABLED,
    WIRE_CLOSED,
    WIRE_KILL,
    WIRE_RESUME,
    WIRE_RESUMED,
    WIRE_RESUME_FAILED,
    WIRE_SYNC,
    WIRE_NOT_MINE,
    WIRE_ROUTE,
    WIRE_DONE,
    WIRE_EPOCH,   /* epoch: the sender has seen this one; whoever has not renews at once */
    WIRE_CONTROL, /* from jackdawctl: name = verb, text = its argument, n = request number */
    WIRE_REPLY,   /* its answer: n = request number, num = 0 or an error, text = JSON */
    WIRE_SYNCED,
    WIRE_COMPONENTS, /* s2s → R: text = the domains of components that have connections at the sender,
                        separated by spaces; after every change, and to a router that is new */
    WIRE_CAPS,       /* R → c2s, when the link is up: name = node, text = ver of the server (XEP-0115) */
    WIRE_KIND_COUNT
};

enum wire_close { WIRE_CLOSE_CLEAN, WIRE_CLOSE_LOST };

enum wire_done {
    WIRE_DONE_TAKEN, /* stored, delivered, answered with an error, or dropped by a named rule: the origin may
                        forget it */
    WIRE_DONE_RETRY, /* not taken (the store is away, not the owner): keep it and send it again */
    WIRE_DONE_FULL,  /* not taken, the store has had no room for a while: the same, or answer its sender */
};

/* wire_frame.flags */
#define WIRE_SM        0x0001u /* the session has stream management */
#define WIRE_HELD      0x0002u /* the session's client reads slowly (FLOW 1 was the last) */
#define WIRE_HAS_H     0x0004u
#define WIRE_AGAIN     0x0008u /* sent before, to this or another receiver: compare with what was taken */
#define WIRE_BROADCAST 0x0010u /* presence to subscribers: receivers check their rosters */
#define WIRE_CONFIRM   0x0020u /* DELIVER: an ACKED is wanted (a mailbox entry waits for it) */

#define WIRE_ORDERED   0x0040u /* ROUTE: after a RETRY the sender sends all of that slot again, in order … */
#define WIRE_FIRST     0x0080u /* … and this is the first of them */
#define WIRE_PASSED_ON 0x0100u /* ROUTE: by a router that has lost the target: it may be late */

#define WIRE_VERSION 2

/* What the rooms above keep to, so that every frame fits into the bus (LINK_FRAME_MAX).
 *
 * A stanza of n bytes from a socket is a frame of at most WIRE_GROWTH × n + WIRE_ROOM: its raw form and,
 * decoded, id, language and namespaces once more; an error reply repeats the id, where one byte may become
 * six, and has it decoded beside. Lists are cut into frames of about WIRE_LIST_MAX. */
#define WIRE_MAX_BYTES (32u << 20)
#define WIRE_GROWTH    7
#define WIRE_ROOM      (128u << 10)
#define WIRE_LIST_MAX  (1u << 20)

/* A frame. Spans are borrowed: on encoding from the caller, on decoding from the input. Everything that a
 * kind does not use is zero. */
struct wire_frame {
    uint8_t kind;
    uint16_t flags;
    uint16_t slot;     /* of the JID whose owner should get it; 0xffff = none */
    uint32_t epoch;    /* the sender's */
    uint64_t trace[2]; /* follows a stanza over all hops */
    uint64_t at_ms;    /* wall clock when the stanza was taken in */
    uint64_t sid;
    uint64_t session;
    uint64_t n;
    uint64_t num;
    uint64_t token;
    uint64_t age_ms;
    uint64_t
        question; /* OPENED, REFUSED, RESUMED, RESUME_FAILED: the token of what they answer, 0 = not said */
    struct span from;
    struct span to;
    struct span name;
    struct span text;
    struct span raw;         /* DELIVER */
    struct span targets;     /* encoded list, see wire_target_add / _next */
    struct span pairs;       /* encoded list, see wire_pair_add / _next */
    struct span connections; /* encoded list, see wire_connection_add / _next */
    bool has_stanza;
    struct stanza stanza;
};

/* One target of a DELIVER (sid, n, to) or of a fan-out ROUTE (to). */
struct wire_target {
    uint64_t sid;
    uint64_t n;
    struct span to;
};

/* Appends a target or a pair to an encoded list. */
void wire_target_add(struct buf *list, const struct wire_target *target);
void wire_pair_add(struct buf *list, uint64_t a, uint64_t b);
void wire_connection_add(struct buf *list, uint64_t connection);

/* Takes the next one from the front of *list; false at the end or at a malformed rest (wire_decode has
 * refused those). */
bool wire_target_next(struct span *list, struct wire_target *out);
bool wire_pair_next(struct span *list, uint64_t *a, uint64_t *b);

/* The next connection's name, 0 at the end: who does not name any is believed as it was before. */
uint64_t wire_connection_next(struct span *list);

/* Bytes that wire_encode will need at most. */
size_t wire_size(const struct wire_frame *f);

/* Writes the frame to out (wire_size bytes) and returns its true size. */
size_t wire_encode(const struct wire_frame *f, char *out);

/* The same, appended to a buffer. */
void wire_add(struct buf *out, const struct wire_frame *f);

/* Reads a frame. False when it is malformed (cut short, a list or stanza index out of bounds, an address that
 * is none, another major version). Spans point into in. */
bool wire_decode(struct span in, struct wire_frame *out);

/* The kind of an encoded frame, WIRE_NONE when it has none. */
static inline uint8_t wire_kind(struct span frame)
{
    return frame.n > 1 ? (uint8_t)frame.p[1] : WIRE_NONE;
}

/* What can be read of a frame that wire_decode has refused, for an answer to its sender: numbers and texts
 * before the fault, stanza.raw when it was whole, no index, no lists. What is missing is zero. */
void wire_salvage(struct span in, struct wire_frame *out);

/* Kind's name for logs, "DELIVER". */
const char *wire_kind_name(uint8_t kind);

#endif
