/* One client: connects, secures, logs in, binds, and then lives by its scenario. */
#ifndef JACKDAW_BENCH_CLIENT_H
#define JACKDAW_BENCH_CLIENT_H

#include "bench/load/args.h"
#include "common/conn/conn.h"
#include "common/sasl/client.h"
#include "common/stream/stream.h"

struct bench;
struct client;

enum client_state {
    CLIENT_OFF,
    CLIENT_DIALLING,
    CLIENT_CLEAR, /* the first stream, where STARTTLS is asked for */
    CLIENT_PROCEED,
    CLIENT_FEATURES, /* waits for the mechanisms */
    CLIENT_AUTH,
    CLIENT_BINDABLE, /* waits for the features after login */
    CLIENT_BIND,
    CLIENT_RESUME,
    CLIENT_SESSION,
    CLIENT_ENABLE,
    CLIENT_ONLINE
};

struct client_events {
    void (*online)(struct client *c);
    void (*stanza)(struct client *c, const struct xml_element *e, struct span raw);
    void (*lost)(struct client *c, const char *why); /* the login failed or the connection has ended */
    void (*gone)(struct client *c);                  /* and may be dialled again */
};

struct client {
    struct conn conn;
    struct stream stream;
    struct bench *bench;
    const struct client_events *events;
    struct sasl_client *sasl;
    struct sasl_stretched stretched;
    enum client_state state;
    unsigned number; /* from 0; the account is PREFIX(first + number) */
    uint32_t sm_handled;
    bool sm_on;
    bool resumed; /* online again with the session of before */
    char *sm_id;  /* to resume with; NULL = nothing to resume */
    bool wants_session;
    bool leaving; /* client_leave: the end is no loss */
    uint64_t dialled_ns;
    void *data; /* the scenario's */
};

/* What the clients share: the loop, the target, the stanza limits. False with *why set (static). */
bool client_setup(struct bench *b, const char **why);

/* Begins to connect. c is zeroed but for bench, events, number (or gone before). False: no socket. */
bool client_dial(struct client *c);

/* Where stanzas are appended; then client_send. */
static inline struct buf *client_out(struct client *c)
{
    return &c->conn.out;
}

/* Sends, at the end of the turn, what client_out holds. */
void client_send(struct client *c);

/* Ends the stream and the connection; `gone` follows. */
void client_leave(struct client *c);

/* Breaks the connection without a word; `gone` follows, and client_dial resumes with --resume. */
void client_cut(struct client *c);

/* "PREFIX12@DOMAIN" of any client's number, appended; with the resource that it binds. */
void client_add_bare(struct buf *out, const struct bench *b, unsigned number);
void client_add_jid(struct buf *out, const struct bench *b, unsigned number);

/* The number in "PREFIX12@DOMAIN…"; false for other JIDs. */
bool client_parse_jid(const struct bench *b, struct span jid, unsigned *number);

#endif
