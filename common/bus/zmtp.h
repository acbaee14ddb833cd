/* ZeroMQ's wire protocol without I/O: one side of a ZMTP 3.0 connection between two ROUTER sockets, NULL
 * mechanism (rfc.zeromq.org/spec/23). Bytes in, events out; what is said first comes from zmtp_hello, and
 * each message is zmtp_head and the bytes. libzmq on the other side can't tell the difference. */
#ifndef JACKDAW_BUS_ZMTP_H
#define JACKDAW_BUS_ZMTP_H

#include "common/base/buf.h"

#define ZMTP_HEAD_MAX     9
#define ZMTP_IDENTITY_MAX 255
#define ZMTP_MESSAGE_MAX  (64u << 20)

enum zmtp_event {
    ZMTP_WAIT,    /* all bytes are used up */
    ZMTP_READY,   /* the handshake is done: messages may go out; out = the peer's identity, maybe empty */
    ZMTP_MESSAGE, /* out = a message (of several parts only the first) */
    ZMTP_BAD,     /* out = what is wrong; the connection is to be closed */
};

/* Zero-initialise. */
struct zmtp {
    struct span in;  /* what zmtp_input brought and nobody has read */
    struct buf held; /* the begin of an incomplete piece */
    uint64_t size;   /* of the frame whose body comes next */
    uint8_t state;
    uint8_t flags;
    bool ready; /* the handshake is done */
    bool more;  /* the last frame said that another part follows */
    const char *fault;
};

/* Appends what this side says first: its greeting and READY with this identity (at most ZMTP_IDENTITY_MAX
 * bytes). Messages wait for ZMTP_READY. */
void zmtp_hello(struct buf *out, struct span identity);

/* Writes the head of a message of n bytes and returns its length. */
size_t zmtp_head(char out[ZMTP_HEAD_MAX], size_t n);

/* Bytes from the peer, borrowed until zmtp_next has returned ZMTP_WAIT. */
void zmtp_input(struct zmtp *z, struct span bytes);

/* What they bring, one event a call; *out is valid until the next call. */
enum zmtp_event zmtp_next(struct zmtp *z, struct span *out);

/* Frees what it holds. */
void zmtp_free(struct zmtp *z);

#endif
