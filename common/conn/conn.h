/* One TCP connection with TLS: bytes in clear come and go, everything that a turn has produced leaves as one
 * TLS record run and one send. It knows no protocol; its owner embeds it and is told by a handler.
 *
 * Life: conn_take (accepted) or conn_dial → open → bytes … → conn_finish (the last bytes go out, our side is
 * shut, the peer's end is awaited for 2 s) or conn_drop (at once) or the peer's end → closed, once → gone,
 * when no operation holds it any more: only then, and only there, may the owner free it. No handler function
 * is called from inside conn_take, conn_dial, conn_finish or conn_drop but `closed`. */
#ifndef JACKDAW_CONN_CONN_H
#define JACKDAW_CONN_CONN_H

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/ring/ring.h"
#include "common/xml/audit.h"

struct conn;
struct tls;
struct tls_ctx;

/* What all connections of a process share. */
struct conn_hub {
    struct ring *ring;
    struct ring_buffers *buffers;
    struct ring_hook hook; /* the end of a turn */
    struct list dirty;     /* struct conn.dirty */
    struct list dying;     /* struct conn.dying */
    struct buf plain;      /* decrypted bytes of one receive */
    uint64_t count;        /* connections not gone yet */
    uint64_t bytes_in, bytes_out;
};

struct conn_handler {
    bool xml; /* what is written are streams of XML: builds with assertions read it before it is sent */
    void (*open)(struct conn *c);    /* dialled: connected */
    void (*secured)(struct conn *c); /* the TLS handshake is done */
    /* Bytes in clear. What is not taken (the rest in *in) is kept while the connection is held (conn_hold),
     * and given again when it is no longer. */
    void (*bytes)(struct conn *c, struct span *in);
    void (*turn)(struct conn *c); /* the turn ends and there is output: the last to be added */
    /* Before a send: with it, so many of our bytes in clear are so many bytes on the wire. NULL = not wanted.
     */
    void (*sealed)(struct conn *c, uint64_t plain, uint64_t wire);
    void (*sent)(struct conn *c,
                 uint64_t upto); /* the socket has taken our bytes in clear up to this total */
    void (*closed)(struct conn *c, const char *why); /* no more bytes come or go; why: for the log */
    void (*gone)(struct conn *c);                    /* nothing holds it: free it */
};

enum conn_phase { CONN_NEW, CONN_DIALLING, CONN_OPEN, CONN_FINISHING, CONN_DRAINING, CONN_CLOSED };

struct conn {
    struct conn_hub *hub;
    const struct conn_handler *handler;
    struct list dirty, dying;
    struct tls *tls;
    struct buf out;     /* in clear, not sealed yet: append here, then conn_dirty */
    struct buf records; /* go out after `sending` */
    struct buf sending; /* the kernel reads them */
    struct buf held;    /* received, in clear, not taken yet */
    struct ring_op recv, send;
    struct timer timer;           /* connecting, finishing, draining */
    uint64_t sealed;              /* total of our bytes in clear that have left `out` */
    uint64_t in_sending;          /* the same when `sending` was made */
    uint64_t wire;                /* total of bytes given to the socket, `sending` included */
    struct sockaddr_storage peer; /* the other end's address */
    int fd;
    uint8_t phase;
    uint8_t holds; /* reasons not to read (the owner's bits) */
    bool shaking;  /* TLS handshake under way */
    bool eof;      /* the peer has ended */
    bool tls_said; /* close_notify is out */
    bool running;  /* inside handler->bytes */
#ifndef NDEBUG
    struct xml_audit audit; /* of all that is sent */
#endif
};

/* Prepares the hub / ends it; connections must be gone (else their memory is left to the end of the process).
 */
void conn_hub_init(struct conn_hub *hub, struct ring *ring, unsigned buffer_count, unsigned buffer_bytes);
void conn_hub_free(struct conn_hub *hub);

/* Takes over an accepted socket. c must be zeroed. Reading begins. */
void conn_take(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler, int fd);

/* Connects to `to`, from the numeric local address `source` (NULL or "" = the system's choice), within
 * timeout_ms. c must be zeroed or gone. Answered by open or closed; false (nothing is called): no socket,
 * errno says why. */
bool conn_dial(struct conn_hub *hub, struct conn *c, const struct conn_handler *handler,
               const struct sockaddr_storage *to, const char *source, uint64_t timeout_ms);

/* Starts TLS: what is in `out` leaves in clear before (<proceed/>); received bytes not taken yet are
 * forgotten (RFC 6120 §5.4.3.3). As server, domain is what the peer asked for outside of TLS, in A-labels
 * (NULL = unknown). As client, the session comes from tls_connect and is owned by the connection from here
 * on. */
void conn_tls_accept(struct conn *c, struct tls_ctx *ctx, const char *domain);
void conn_tls_connect(struct conn *c, struct tls *session);

/* There is something in `out`. */
void conn_dirty(struct conn *c);

/* Stops reading for a reason (bits of the owner's) / ends that reason; without any, what was kept is given
 * and reading goes on. */
void conn_hold(struct conn *c, uint8_t reason);
void conn_unhold(struct conn *c, uint8_t reason);

/* Sends what is in `out`, says goodbye on TLS, waits for the peer's end, closes. Received bytes are dropped.
 */
void conn_finish(struct conn *c);

/* Closes at once. */
void conn_drop(struct conn *c, const char *why);

/* Bytes that wait for the socket. */
size_t conn_waiting(const struct conn *c);

/* Total of our bytes in clear, those in `out` included: `sent` tells when the socket has them. */
uint64_t conn_written(const struct conn *c);

/* "[::1]:50000" or "192.0.2.1:50000"; static until the next call. */
const char *conn_peer_name(const struct conn *c);

#endif
