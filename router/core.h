/* The shard: everything a router knows and decides, without I/O. It is handed frames, store replies and the
 * time, and hands back frames and store requests. main.c connects it to the bus, Redis and the membership;
 * tests/sim to doubles.
 *
 * Layers inside the router, upper ones use lower ones only:
 *   inbox      frames in → session and task operations
 *   feature/…  one protocol feature each, behind feature.h
 *   pipeline   a stanza's way through the phases
 *   deliver    RFC 6121 §8.5: which sessions, mailbox or not
 *   contacts   roster and subscription rules (RFC 6121 §2, §3, appendix A)
 *   session    a client's session: numbers, what is not acknowledged yet, its record
 *   route      stanzas to other JIDs: which shard, what is not confirmed yet
 *   user       a bare JID owned here: claim, load, commit, eviction
 *   core       this struct */
#ifndef JACKDAW_ROUTER_CORE_H
#define JACKDAW_ROUTER_CORE_H

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/rcbuf.h"
#include "common/base/timers.h"
#include "common/config/conf.h"
#include "common/wire/wire.h"
#include "router/asked.h"
#include "router/components.h"
#include "router/slots.h"
#include "router/store/store.h"
#include "router/sweep.h"

struct user;
struct session;
struct task;
struct feature;

/* What the core needs from outside. */
struct outside {
    void *ctx;
    /* Sends a frame to a node; frames to one node keep their order. False when no such node is linked. */
    bool (*send)(void *ctx, const char *node, const struct wire_frame *frame);
    bool (*send_bytes)(void *ctx, const char *node, struct span encoded);
    /* The router that owns a slot now, NULL = nobody; the slot of a bare JID. */
    const char *(*owner)(void *ctx, uint16_t slot);
    uint16_t (*slot)(struct span bare);
    /* A node that takes stanzas for other servers (sender_bare keeps one sender on one node), NULL = none. */
    const char *(*gateway)(void *ctx, struct span domain, struct span sender_bare);
    /* True while that incarnation of a node is in the membership. */
    bool (*alive)(void *ctx, const char *node, uint64_t incarnation);
    /* A frame shows that there is a newer epoch than core_epoch was told: find out. */
    void (*newer_epoch)(void *ctx, uint32_t epoch);
    uint64_t (*wall_ms)(void *ctx);
    uint64_t (*random)(void *ctx);
};

struct core {
    struct outside out;
    struct store *store;
    const struct conf *conf;
    const char *name; /* this router */
    uint64_t incarnation;
    uint32_t epoch;
    bool acting; /* the lease is held: this router may own users */
    bool store_up;
    uint64_t now_ms; /* monotonic */
    uint64_t started_wall_ms;
    struct timers timers;
    struct xml_parser *parser;
    struct map users;      /* bare JID → struct user */
    struct idmap sessions; /* sid → struct session */
    struct idmap pending;  /* token → struct pending (route.h) */
    uint64_t next_token;
    uint64_t deliveries;       /* messages that were given to sessions so far: see session.delivery */
    struct list dirty_users;   /* have a batch to commit at the end of the turn */
    struct list dirty_handled; /* sessions whose handled number moved */
    struct list later_handled; /* of those the busy ones, in the order in which they are due (session.c) */
    struct timer handled;
    struct timer evict;
    struct timer retry;      /* sends again what was answered RETRY (route.c), after … */
    unsigned retry_ms;       /* … so long the last time, … */
    uint64_t retry_at_ms;    /* … which was due then */
    struct list idle_users;  /* candidates for eviction, oldest first */
    struct list stuck_users; /* their batches are refused for good (user.c) */
    uint64_t full_since_ms;  /* the store has refused what adds to it since then, 0 = it takes it */
    uint64_t full_last_ms;   /* when it last did */
    uint64_t full_try_ms;    /* when the next one may try */
    struct list floor_users; /* their mailbox floor has moved and is not written yet */
    struct timer floors;
    struct timer store_retry;
    struct idmap syncing;  /* sid → struct user that is being loaded for a SYNC or OPEN of that session */
    struct map done_lists; /* node → DONE pairs that wait for the end of the turn (route.c) */
    struct map handled_lists; /* node → HANDLED pairs (session.c) */
    struct idmap partings;    /* sessions that ended with stanzas in work, by id (parting.c) */
    struct user *replaying;   /* whose waiting frame is being taken (inbox.c) */
    struct span bundle_raw;   /* session_bundle_begin */
    struct map bundles;       /* node → targets so far */
    struct sweep sweep;
    struct buf local;   /* frames to this router itself (struct rcbuf *, owned) */
    struct slots begun; /* route_reroute has sent its first stanza */
    bool rerouting;
    struct slots resumed; /* route_reroute takes it up again */
    struct slots stalled; /* stanzas to it wait to be sent again (route.c) */
    struct components components;
    struct asked_table asked;
    struct span pushed; /* EV_ROSTER_CHANGED: the push, raw */
    struct map retell;  /* bare JIDs whose new owners are to ask for presence (retell.c) */
    struct map refused; /* node → slots of which it must send something again (route.c) */
};

/* A core; everything borrowed for its life. */
struct core *core_new(const struct outside *out, struct store *store, const struct conf *conf,
                      const char *name, uint64_t incarnation);
void core_free(struct core *c);

/* A frame from a node. `incarnation` is the sender's. */
void core_frame(struct core *c, const char *node, uint64_t incarnation, struct span frame, uint64_t now_ms);

/* The end of a turn: due timers, local frames, commits, HANDLED and DONE lists. Returns the next deadline in
 * ms. */
uint64_t core_turn(struct core *c, uint64_t now_ms);

/* A new epoch: users of slots that are no longer owned go, unconfirmed stanzas find their new owners,
 * sessions of dead connection managers are detached or closed. */
void core_epoch(struct core *c, uint32_t epoch, uint64_t now_ms);

/* The incarnation of a node ended. */
void core_node_gone(struct core *c, const char *node, uint64_t incarnation, uint64_t now_ms);

/* The lease is lost (drop everything owned) or held again. */
void core_lease(struct core *c, bool held, uint64_t now_ms);

/* A request was answered STORE_AWAY and is kept: it is made again when the store is back, or soon when that
 * was told before the answer came. */
void core_store_again(struct core *c);

/* The store answers again or no longer. */
void core_store_state(struct core *c, bool up, uint64_t now_ms);

/* Pairs for a node, collected during a turn: adds to / sends and empties the lists of a kind (WIRE_DONE,
 * WIRE_HANDLED). */
void core_pair(struct map *lists, const char *node, uint64_t a, uint64_t b);
void core_flush_pairs(struct core *c, struct map *lists, enum wire_kind kind);

/* The router that owns a slot now and acts on it; NULL = nobody (this one while it has no lease). */
const char *core_owner(const struct core *c, uint16_t slot);

/* Copies the name of a node (cut off at 63 bytes). For every stanza, so it is no snprintf. */
static inline void core_copy_node(char to[64], const char *node)
{
    size_t n = strnlen(node, 63);
    memcpy(to, node, n);
    to[n] = '\0';
}

/* True when domain is one that this cluster serves. */
bool core_is_local_domain(const struct core *c, struct span domain);

#endif
