/* The whole cluster in one process, from a seed (DESIGN.md, "Sans I/O").
 *
 * Real: router cores (router/core.h) with all features, the wire codec, the membership logic
 * (common/member/core.h), the outbox of server streams (common/outbox), the store in memory. Models:
 * connection managers (manager.c follows c2s/uplink.c and c2s/sm.c rule by rule), a server stream
 * (gateway.c), clients with stream management (client.c), the links with the rules of common/bus/bus.h
 * (link.c), Redis's list of members with those of functions.lua (registry.c), and what goes wrong (fault.c).
 * check.c keeps the ledger of all messages and judges.
 *
 * Time is virtual, in microseconds; everything that happens is an event in one queue; all chance comes from
 * one generator. Objects of a run live until its end (sim_alloc). */
#ifndef JACKDAW_TESTS_SIM_H
#define JACKDAW_TESTS_SIM_H

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/random.h"
#include "common/member/core.h"
#include "common/wire/wire.h"
#include "common/xml/parser.h"
#include "router/core.h"
#include "router/store/store_mem.h"

#define ROUTERS     3
#define MANAGERS    2
#define GATEWAY     (ROUTERS + MANAGERS) /* the node of s2s */
#define NODES       (GATEWAY + 1)
#define USERS_MAX   4
#define CLIENTS_MAX 6
#define VOIDED_MAX  32
#define MS          1000u
#define SECOND      1000000u
#define RESUME_S    2
#define LEASE_MS    1000

/* ---- nodes and their links ---- */

/* A frame on its way. */
struct packet {
    struct packet *next;
    uint64_t at_us;
    size_t n;
    char bytes[];
};

/* One direction of a link between two link objects. */
struct channel {
    int from, to;
    uint64_t from_incarnation;
    uint64_t from_object, to_object; /* to_object 0: not paired yet, nothing leaves */
    struct packet *first, *last;
    bool moving; /* an event is set for the first packet */
};

/* What a node has for a peer: bus_peer. */
struct endpoint {
    int peer;
    uint64_t incarnation; /* of the peer */
    uint64_t object;
    bool up, linked;
    struct channel *out;
    uint64_t reported_us;
};

struct manager_conn;

struct node {
    int at;
    char name[16];
    bool router;
    bool up;
    bool leaving;
    uint64_t incarnation;
    unsigned life; /* grows with every start and death: events of another life are void */
    uint64_t frozen_until_us;
    bool refuses;     /* dead, and its host says so */
    bool redis_away;  /* it cannot reach Redis */
    int64_t clock_ms; /* how far its host's wall clock is ahead of the true time */
    struct endpoint *peers[NODES];
    uint64_t voided[VOIDED_MAX];
    unsigned voided_at;
    struct member_core member;
    bool renewing, looking, look_again;
    uint64_t asked_us, answered_us; /* when the last request arrives, when the last answer does */
    unsigned plans;
    /* router */
    struct core *core;
    struct store *view;
    bool dead_core; /* being taken apart: nobody hears it */
    bool turn_set, serve_set;
    unsigned wakes;
    /* connection manager */
    struct list conns;
    struct buf acks[NODES], ack_names[NODES];
    bool retry_set, flush_set;
    uint64_t attached;
};

/* ---- clients ---- */

enum said {               /* between a client and its connection manager; `num` and `text` */
            SAID_BIND,    /* text = resource */
            SAID_BOUND,   /* text = full JID */
            SAID_REFUSED, /* */
            SAID_ENABLE,  /* num = seconds */
            SAID_ENABLED, /* text = id, num = seconds */
            SAID_RESUME,  /* text = id, num = h */
            SAID_RESUMED, /* num = h */
            SAID_FAILED,  /* num = h, has_h */
            SAID_R,
            SAID_A, /* num = h */
            SAID_STANZA,
            SAID_CLOSE, /* the end of the stream, by either side */
            SAID_LOST   /* the connection is gone */
};

struct line {
    struct line *next;
    enum said kind;
    bool has_h;
    uint64_t num;
    uint64_t at_us;
    size_t n;
    char text[];
};

/* A connection between a client and a manager. */
struct pipe_end {
    struct line *first, *last;
    bool moving;
};
struct stream_pipe {
    struct client *client;
    struct manager_conn *conn; /* NULL: gone there */
    int home;                  /* the node of the manager */
    bool client_gone;          /* the client has let go of it */
    bool deaf;                 /* … without a word: the socket stays open */
    struct pipe_end up, down;
};

/* A stanza that the server has not acknowledged. */
struct unsaid {
    struct list node;
    uint64_t n;  /* outbound count, valid once stream management was asked for */
    int message; /* in the ledger, or -1 */
    int status;  /* an available presence, the only one since the last unavailable: its number; else 0 */
    struct span raw;
};

struct client {
    int at;
    int user;
    char resource[16];
    char full[32];
    bool wants_sm;
    struct stream_pipe *pipe; /* NULL = no connection */
    bool bound, sm, sm_asked, resuming;
    bool reconnect_set;
    char sm_id[40]; /* "" = nothing to resume */
    uint32_t h;     /* stanzas taken since <enabled/> */
    uint32_t out_n; /* stanzas sent since <enable/> */
    struct list unacked;
    struct list outbox;
    int session; /* serial of the session, for the ledger */
    uint32_t said_seq[USERS_MAX];
    bool available;
    int status;            /* in the last presence said */
    int first_status;      /* of the presence that made it available */
    uint64_t listens_us;   /* the server knows since then that it is available; UINT64_MAX: it may not */
    int seen[CLIENTS_MAX]; /* status of each other client as seen, -1 = unavailable */
    uint64_t order_from_us, bound_us;
    bool stale; /* an earlier session of this client may still be known to a router */
};

/* ---- the ledger ---- */

#define GOT_MAX 12

struct message {
    int from_session;
    int to_user;
    int to_client; /* -1 = to the bare JID */
    uint32_t seq;  /* of that session to that user */
    uint64_t at_us;
    bool acked;       /* the server has acknowledged it */
    bool refused;     /* it came back as an error */
    bool written;     /* written to a socket without stream management */
    int got[GOT_MAX]; /* sessions whose client had it */
    int got_count;
};

/* ---- the world ---- */

typedef void event_fn(void *a, uint64_t b);

struct world {
    uint64_t seed;
    bool verbose, frames;
    bool quiet;  /* no more faults */
    bool failed; /* an invariant is broken */
    char why[400];
    uint64_t now_us;
    struct rng rng;
    struct node nodes[NODES];
    bool cut[NODES][NODES];
    uint64_t cut_since_us[NODES][NODES];
    struct store_world *store;
    struct store *setup_view;
    struct conf *conf;
    struct xml_parser *parser;
    int users, clients;
    struct client client[CLIENTS_MAX];
    bool contact[USERS_MAX][USERS_MAX];
    struct message *messages;
    int message_count, message_cap;
    int sessions;
    uint64_t events;
    int publications_lost; /* in 100 */
    int slow_store;        /* in 100 */
    bool store_full_lately;
};

extern struct world w;

/* world.c: time, chance, memory, the story */
void *sim_alloc(size_t n);
void sim_after(uint64_t delay_us, event_fn *fn, void *a, uint64_t b);
uint64_t sim_random(uint64_t below);
uint64_t sim_between(uint64_t from, uint64_t to);
bool sim_chance(unsigned in_100);
void sim_say(const char *format, ...) PRINTF_LIKE(1, 2);
void sim_fail(const char *format, ...) PRINTF_LIKE(1, 2);
uint64_t sim_ms(void);
uint64_t sim_wall_ms(void);

/* The same as the host of a node shows it, whose clock may be wrong. */
uint64_t node_wall_ms(const struct node *n);
bool sim_run(uint64_t seed, bool verbose, bool frames);
void sim_run_until(uint64_t until_us);
const char *sim_user(int user);

/* link.c */
void link_node_started(struct node *n);
void link_node_died(struct node *n);
bool link_send(struct node *n, const char *peer, struct span frame);
void link_want(struct node *n, int peer, uint64_t incarnation);
void link_drop(struct node *n, int peer);
struct endpoint *link_peer(struct node *n, const char *name);
void link_tick_start(void);
void link_cut(int a, int b, bool cut);
void link_cut_way(int from, int to, bool cut);

/* registry.c */
void registry_reset(void);
void registry_node_started(struct node *n);
void registry_refresh(struct node *n);
void registry_report(struct node *n, int peer, uint64_t incarnation, bool certain);
void registry_leave(struct node *n);
void registry_drain(struct node *n);
uint32_t registry_epoch(void);
const struct member_node *node_owner(const struct node *n, uint16_t slot);

/* node.c: lives of processes, and what a router needs */
struct node *node_by_name(const char *name);
void node_start(struct node *n);
void node_kill(struct node *n);
void node_free(struct node *n);
void node_member_events(struct node *n, unsigned events, struct member_node *old, unsigned old_count);
void node_frame(struct node *n, struct endpoint *from, struct span frame);
void node_peer_up(struct node *n, struct endpoint *e);
void node_peer_gone(struct node *n, struct endpoint *e);
void node_redis(struct node *n, bool reachable);
bool node_frozen(struct node *n, event_fn *fn, void *a, uint64_t b);
void node_turn_soon(struct node *n);

/* manager.c */
void manager_started(struct node *n);
void manager_died(struct node *n);
void manager_frame(struct node *n, struct endpoint *from, struct span frame);
void manager_peer_up(struct node *n);
void manager_peer_gone(struct node *n, struct endpoint *e);
void manager_epoch(struct node *n);
void manager_accept(struct node *n, struct stream_pipe *p);
void manager_line(struct manager_conn *c, const struct line *l);
void manager_flow(struct node *n, bool hold);
bool manager_is_clean(const struct node *n, int *left);

/* gateway.c */
void gateway_started(struct node *n);
void gateway_frame(struct node *n, struct span frame);
void gateway_moves(struct node *n);
void gateway_peer_gone(struct node *n, const struct endpoint *e);
size_t gateway_left(void);
void gateway_free(void);

/* client.c */
void client_start(struct client *c);
void client_line(struct client *c, struct stream_pipe *p, const struct line *l);
void client_send_message(struct client *c, int to_user, int to_client);
void client_presence(struct client *c, bool available);
void client_cut(struct client *c);
void client_roam(struct client *c);
void client_close(struct client *c);
void client_connect_soon(struct client *c, uint64_t delay_us);
void client_ask(struct client *c);
void pipe_say(struct stream_pipe *p, bool down, enum said kind, uint64_t num, bool has_h, struct span text);
void pipe_server_ends(struct stream_pipe *p, bool crash);

/* fault.c */
void fault_start(uint64_t until_us);
/* Leaves out the kinds of fault that a list names ("store-full,cut-link"); false: one is unknown. */
bool fault_spare(const char *list);
void fault_heal(void);

/* check.c */
int check_sent(struct client *from, int to_user, int to_client);
int check_said(int session, int to_user, uint32_t seq); /* by a server stream, to the bare JID */
void check_acked(int message);
void check_got(struct client *c, int message, bool error);
void check_written(int message);
void check_end(void);

/* What a client gets is what it can read. to: goes into the start tag. */
void check_readable(struct span raw, struct span to);

#endif
