/* What a federation process has written to, and read from, its streams: a ring of lines in memory that is
 * shared with its witness (witness.h) and outlives it by a moment. Lines cost a few stores and no system
 * call. Whoever reads it after the death learns, with what the sockets tell, which stanzas the other side has
 * got and which of the other side's it will send again. Pure: no I/O. */
#ifndef JACKDAW_S2S_LEDGER_H
#define JACKDAW_S2S_LEDGER_H

#include "common/base/buf.h"
#include "common/base/map.h"

#define LEDGER_LINES 32768u /* a power of two; what is older is forgotten, and would be sent again */

/* Servers keep no more than that to send again (Prosody: 500); one that never asks what we have gets no more
 * memory. */
#define LEDGER_TAIL_MAX 1024u

#define LEDGER_SESSIONS 1024u /* streams that may be resumed at a time */

enum ledger_kind {
    LEDGER_NONE,
    LEDGER_OUT,    /* a = identity of a stanza, b = where it ends in our bytes in clear */
    LEDGER_SEALED, /* a = bytes in clear, b = bytes on the wire: that is about to be sent */
    LEDGER_HAS,    /* a = bytes in clear: the peer has acknowledged what ends up to there */
    LEDGER_IN,   /* a = the leg's number of a stanza, b = its likeness, c and d = its identity for routers */
    LEDGER_SAFE, /* a = the leg's number: safe up to there */
    LEDGER_ACK,  /* a = the leg's number that an <a/> names, b = where that ends in our bytes in clear */
    LEDGER_OVER  /* the stream has ended, its owner lives: what was not acknowledged goes elsewhere */
};

struct ledger_line {
    uint64_t leg;
    uint64_t a, b, c, d;
    uint64_t kind;
};

/* A stream that may be resumed (resume.h). */
struct ledger_session {
    uint32_t used; /* set last */
    char id[36];
    uint64_t sid, counted_from, handled;
    char domains[2060]; /* "FROM TO" */
};

/* All zero is an empty one. */
struct ledger {
    uint64_t count; /* lines ever written */
    struct ledger_session sessions[LEDGER_SESSIONS];
    struct ledger_line lines[LEDGER_LINES];
};

/* What is known of one stream. wire is the reader's: bytes on the wire that the other side has surely got. */
struct ledger_leg {
    uint64_t sid;
    uint64_t wire;
    uint64_t plain; /* out: bytes in clear that it has */
    uint64_t has;   /* out: acknowledged by itself */
    uint64_t acked; /* in: up to here it knows that we have it */
    uint64_t safe;  /* in: up to here routers have it */
    uint64_t at[2]; /* while reading: the last SEALED */
    bool at_known;
    bool stopped;
    bool over;
};

/* A stanza that came in and that its sender may send again. */
struct ledger_tail {
    uint64_t likeness;
    uint64_t sid, n; /* its identity for routers */
    bool safe;       /* a router has it */
};

/* Writes a line; the writer may be killed at any instruction. NULL is allowed: nothing. */
void ledger_add(struct ledger *l, enum ledger_kind kind, uint64_t leg, uint64_t a, uint64_t b, uint64_t c,
                uint64_t d);

/* Reads all lines into *legs (sid → struct ledger_leg; legs that it lacks are made, the caller frees all). */
void ledger_read(const struct ledger *l, struct idmap *legs);

/* After ledger_read: appends the identities of stanzas that other servers have to *out, eight bytes each,
 * least significant first. */
void ledger_handed(const struct ledger *l, const struct idmap *legs, struct buf *out);

/* After ledger_read: calls fn for each stanza of a leg that its sender may send again, in order. */
void ledger_tail(const struct ledger *l, const struct ledger_leg *leg,
                 void (*fn)(void *ctx, const struct ledger_tail *tail), void *ctx);

/* Appends what Redis keeps of a stream that may be resumed: "SID COUNTED HANDLED FROM TO". */
void ledger_session_write(const struct ledger_session *e, struct buf *out);

/* What a stanza looks like, to know it again when another server sends it again: a hash of its bytes that
 * does not depend on the order of attributes, on XEP-0203 delays, which servers put in, nor on the language
 * of the stanza, which may be the stream's. *delayed: there was a delay. The same in every process. */
uint64_t ledger_likeness(struct span raw, bool *delayed);

#endif
