/* A client's stream from its first header to its last tag (RFC 6120, XEP-0198), without sockets, clocks or
 * processes: bytes in, bytes out, and what it needs of its surroundings asked through struct session_host.
 * conn.c owns one per connection.
 *
 * Every question (session_host) returns at once; its answer comes later through a session_* call. While an
 * answer is needed before the next byte may be looked at, the session is held (`holds` is not 0) and
 * session_input takes nothing. session.c has the states and the stream, auth.c SASL, bind.c resource binding
 * and stream features, sm.c stream management, register.c in-band registration. */
#ifndef JACKDAW_C2S_SESSION_H
#define JACKDAW_C2S_SESSION_H

#include "common/sasl/sasl.h"
#include "common/stanza/stanza.h"
#include "common/stream/stream.h"

enum session_state {
    SESSION_HEADER,   /* the client's stream header is awaited */
    SESSION_FEATURES, /* before login: STARTTLS, SASL or registration are awaited */
    SESSION_TLS,      /* <proceed/> is out; the TLS handshake comes next */
    SESSION_AUTH,     /* inside a SASL exchange: the client's turn */
    SESSION_LOOKUP,   /* inside a SASL exchange: the account is being fetched */
    SESSION_REGISTER, /* an account is being made */
    SESSION_BIND,     /* logged in: bind or resume are awaited */
    SESSION_OPENING,  /* the home router is asked for a session */
    SESSION_RESUMING, /* the home router is asked for an old session */
    SESSION_BOUND,    /* stanzas flow */
    SESSION_CLOSING,  /* the client has ended; with stream management the last h is awaited, a bounded time */
    SESSION_ENDED     /* our </stream:stream> is out; nothing more is taken or written */
};

/* Why a session takes no input. */
enum session_hold {
    SESSION_HOLD_ANSWER = 1, /* a question is open */
    SESSION_HOLD_QUEUE = 2,  /* too many stanzas wait for the home router */
    SESSION_HOLD_ROUTE = 4,  /* no router owns the account now, or its link is down or full */
    SESSION_HOLD_RATE = 8,   /* a rate limit */
    SESSION_HOLD_OUTPUT = 16 /* the client does not read what waits for it */
};

/* How a session ended. */
enum session_end {
    SESSION_END_CLEAN,  /* </stream:stream> of the client, or an error of its own making: no resumption */
    SESSION_END_LOST,   /* the connection went, or we want the client elsewhere: it may resume */
    SESSION_END_KILLED, /* on the home router's demand: it knows */
    SESSION_END_TAKEN   /* another connection has taken the session over */
};

enum session_account {
    SESSION_ACCOUNT_FOUND,
    SESSION_ACCOUNT_NONE,
    SESSION_ACCOUNT_DISABLED,
    SESSION_ACCOUNT_AWAY
};
enum session_created {
    SESSION_CREATED,
    SESSION_CREATED_EXISTS,
    SESSION_CREATED_AWAY,
    SESSION_CREATED_BAD,
    SESSION_CREATED_TOO_MANY, /* of its address */
    SESSION_CREATED_COUNT
};

struct session;

/* What a session asks for. `bare` and `id` are borrowed for the call. */
struct session_host {
    /* After what is in `out` has been sent in clear, TLS begins. Answer: session_tls. */
    void (*start_tls)(struct session *s);
    /* Fetch an account. Answer: session_account. */
    void (*lookup)(struct session *s, struct span bare);
    /* Make an account. Answer: session_created. */
    void (*create)(struct session *s, struct span bare, struct span password);
    /* Ask the home router for a session with that resource (empty: it chooses). Answer: session_opened or
     * session_refused. */
    void (*open)(struct session *s, struct span resource);
    /* Ask it for an old session. Answer: session_resumed or session_resume_failed. */
    void (*resume)(struct session *s, struct span sm_id, uint32_t h);
    /* Switch stream management on. Answer: session_enabled; no hold. */
    void (*enable)(struct session *s, unsigned resume_s);
    /* A stanza with its inbound number s->in_n; verdict other than STANZA_GOOD: it is to be answered with an
     * error. Answer: session_handled. Borrowed for the call. */
    void (*stanza)(struct session *s, const struct stanza *stanza, enum stanza_verdict verdict);
    /* The client has acknowledged outbound stanzas up to number n. */
    void (*acked)(struct session *s, uint64_t n);
    /* There is something in `out`. */
    void (*output)(struct session *s);
    /* A resource is bound, or a session resumed: s->jid is full. */
    void (*bound)(struct session *s);
    /* SESSION_CLOSING begins. Answer: session_closed, when it has lasted long enough. */
    void (*closing)(struct session *s);
    /* The stream is over: send `out`, then close. Called once. */
    void (*ended)(struct session *s, enum session_end how);
    /* The client's address for the log; static until the next call. */
    const char *(*peer)(struct session *s);
    /* Channel-binding data of the TLS session appended to *out; false: none. exporter: tls-exporter, else
     * tls-server-end-point. out NULL: only says whether there is any. */
    bool (*binding)(struct session *s, bool exporter, struct buf *out);
    /* Fills with an unpredictable stream id and a NUL. */
    void (*make_id)(char out[33]);
};

/* What all sessions of a process share. */
struct session_env {
    const struct session_host *host;
    struct stream_kind before_login; /* the small limit on the size of elements */
    struct stream_kind after_login;
    struct span *domains; /* prepared */
    unsigned domain_count;
    bool have_tls;
    bool require_tls;
    bool channel_binding;
    bool registration;
    unsigned registrations; /* on one connection */
    unsigned auth_attempts;
    unsigned resume_s;
    unsigned idle_s;
    char caps_node[64]; /* of the server (XEP-0115), as a router has told it; empty until then */
    char caps_ver[64];
    struct verified *verified; /* passwords proven lately, or NULL */
    struct buf fake_seed;      /* cluster-wide secret for unknown users; empty until Redis has told it */
    struct buf scratch;        /* of one stanza */
    struct arena *arena;       /* of one element */
};

struct login; /* what is needed until a resource is bound; see login.h */

struct session {
    struct session_env *env;
    struct stream stream;
    struct buf out;      /* for the client, in clear; the owner takes it */
    struct login *login; /* NULL once bound */
    char *jid;           /* bare from login on, full when bound; NUL-terminated */
    char *lang;          /* of the stream; NULL = none */
    uint16_t jid_n;
    uint16_t bare_n;
    uint8_t state;
    uint8_t holds;
    uint8_t domain; /* index in env->domains */
    uint8_t mech;   /* enum sasl_mech, of the login */
    bool tls;
    bool authenticated;
    bool sm_wanted;     /* ENABLE is out */
    bool sm;            /* <enabled/> or <resumed/> is out */
    bool resumable;     /* … with resumption */
    bool sm_owes_ack;   /* the client asked while stanzas up to sm_owes_n were not handled */
    bool sm_asked;      /* <r/> is out and not answered */
    bool out_n_unknown; /* resumed; the first DELIVER tells out_n */
    uint64_t sid;       /* 0 = none; kept by the owner */
    uint64_t in_n;      /* inbound stanzas: number of the last one */
    uint64_t in_handled;
    uint64_t in_base; /* h = in_handled - in_base */
    uint64_t sm_owes_n;
    uint64_t out_n; /* outbound stanzas: number of the last one written */
    uint64_t out_acked;
    uint64_t out_confirm; /* highest number of which the router wants an ACKED */
    uint64_t
        out_base; /* up to this number <enabled/> came too late for a client's <a/>: confirmed when sent */
    uint64_t sm_asked_n;  /* out_n at the last <r/> */
    uint32_t out_acked_h; /* the client's h that stands for out_acked */
};

/* Prepares a session (embedded in its owner, zeroed). tls: the connection began with TLS. */
void session_init(struct session *s, struct session_env *env, bool tls);

/* Frees what the session holds. */
void session_free(struct session *s);

/* Takes received bytes until they are used up, the session is held, or it ends; what was taken is cut from
 * the front of *in. After <proceed/> all of *in is dropped (RFC 6120 §5.4.3.3). */
void session_input(struct session *s, struct span *in);

/* Answers; see struct session_host. Those that come when nobody waits are ignored. */
void session_tls(struct session *s);
void session_account(struct session *s, enum session_account found, const struct sasl_keys *keys);
void session_created(struct session *s, enum session_created how);
void session_opened(struct session *s, struct span full_jid);
void session_refused(struct session *s, enum stanza_error error, struct span text);
void session_resumed(struct session *s, struct span full_jid, uint64_t in_n, uint32_t h, uint64_t out_n);
void session_resume_failed(struct session *s, enum stanza_error error, bool has_h, uint32_t h);
void session_enabled(struct session *s, struct span sm_id, unsigned resume_s, uint64_t out_n);

/* Ends a session in SESSION_CLOSING with what is safe by now. */
void session_closed(struct session *s);

/* Everything up to inbound number n is safe. */
void session_handled(struct session *s, uint64_t n);

/* Writes an outbound stanza; `to` (when not empty) goes in as the to attribute. False when that number was
 * written before (the stanza is dropped) or raw is no stanza. */
bool session_deliver(struct session *s, uint64_t n, struct span raw, struct span to, bool confirm);

/* The end of a turn of the loop: asks the client for an acknowledgement when one is due. */
void session_turn_end(struct session *s);

/* Asks the client for a sign of life: <r/>, or a blank without stream management. True: an answer will come.
 */
bool session_nudge(struct session *s);

/* Ends the stream with an error (header first when none was sent). text and app may be NULL. */
void session_fail(struct session *s, enum session_end how, enum stream_error error, const char *text,
                  const char *app);

/* The client has closed its direction, or the connection is gone: ends without an error. */
void session_lost(struct session *s);

/* Sets or lifts a reason to take no input. */
void session_hold(struct session *s, enum session_hold why);
void session_unhold(struct session *s, enum session_hold why);

/* The bare JID, valid while s->jid is; empty before login. */
struct span session_bare(const struct session *s);

/* Name of a state, "BOUND". */
const char *session_state_name(unsigned state);

#endif
