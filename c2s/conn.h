/* One client connection: its socket, TLS and output, around a session. One tls_write and one ring_send per
 * turn carry everything that the turn produced for it.
 *
 * Life: conn_accept → (PROXY header) → (TLS) → stream … → the session ends → the last bytes go out, our side
 * is shut, the peer's end is awaited (2 s) → CONN_CLOSED: operations are cancelled and joined, the socket is
 * closed, the home router has what is its → freed by the turn's hook, never inside a callback that still
 * holds it. */
#ifndef JACKDAW_C2S_CONN_H
#define JACKDAW_C2S_CONN_H

#include "c2s/session.h"
#include "c2s/uplink.h"
#include "common/base/list.h"
#include "common/limits/limits.h"
#include "common/redis/account.h"
#include "common/ring/ring.h"
#include "common/tls/tls.h"
#include "common/xml/audit.h"

struct c2s;

enum conn_phase {
    CONN_PROXY,     /* the PROXY header is awaited */
    CONN_STREAM,    /* bytes go to TLS and the session */
    CONN_FINISHING, /* the session has ended; its last bytes go out */
    CONN_DRAINING,  /* our side is shut; the peer's end is awaited */
    CONN_CLOSED     /* being taken down */
};

struct conn {
    struct c2s *c2s;
    struct list node;  /* in c2s.conns */
    struct list dirty; /* in c2s.dirty: has output */
    struct list dying; /* in c2s.dying: CONN_CLOSED */
    struct session session;
    struct uplink up;
    struct tls *tls;
    struct buf records; /* go out after `sending` */
    struct buf sending; /* the kernel reads them */
    struct buf held;    /* received, in clear, not taken yet */
    struct ring_op recv, send;
    struct timer timer; /* log-in, idle, drain, close */
    struct timer rate;  /* lifts SESSION_HOLD_RATE */
    struct bucket stanzas, bytes;
    struct limits_address *address;
    struct account_call *account; /* under way, or NULL */
    uint64_t confirm_sending;     /* highest number wanted confirmed among `sending` */
    uint64_t confirmed;           /* told to the router */
    uint64_t opened_ms;
    uint64_t expires_ms; /* CONN_CLOSED: gives up waiting for the router */
    uint32_t heard_s;    /* monotonic seconds, last bytes from the client */
    uint8_t key[16];     /* the client's address, IPv4 mapped */
    uint16_t port;
    uint16_t record_left; /* bytes of the TLS record that is being received */
    int fd;               /* -1 when closed */
    uint8_t phase;
    bool shaking;            /* TLS handshake under way */
    bool flow;               /* FLOW 1 was the last */
    bool eof;                /* the peer has ended while the session was held */
    bool nudged;             /* a sign of life was asked for */
    bool leaving;            /* drain: the timer says goodbye */
    bool running;            /* inside session_input */
    bool tls_said;           /* close_notify is out */
    bool slowed;             /* the log has it that it sends too fast */
    uint8_t record_header_n; /* bytes of the next record's header received */
#ifndef NDEBUG
    struct xml_audit audit; /* of all that is sent */
#endif
};

/* Takes over an accepted socket; tls: it starts with TLS. */
void conn_accept(struct c2s *c, int fd, bool tls);

/* A hold was lifted: takes what was kept and reads on. */
void conn_wake(struct conn *c);

/* Marks a connection as having output for the end of the turn. */
void conn_dirty(struct conn *c);

/* The end of a turn: writes what the connection has. */
void conn_flush(struct conn *c);

/* Ends its stream because this process is going down, after delay_ms. */
void conn_leave(struct conn *c, uint64_t delay_ms);

/* Frees a CONN_CLOSED connection if nothing holds it any more; false: later. */
bool conn_bury(struct conn *c, uint64_t now_ms);

/* "[::1]:50000" or "192.0.2.1:50000"; static until the next call. */
const char *conn_peer(const struct conn *c);

/* The questions of its session, answered over Redis, the bus and TLS. */
extern const struct session_host conn_session_host;

#endif
