/* Membership: who is alive, which epoch it is, who owns which slot (DESIGN.md, promise 6).
 *
 * Every process holds a lease in Redis. The list of live processes is one record with an epoch; a change
 * makes the next epoch by compare-and-set in a Redis function. JIDs map to 4096 slots, slots to live routers
 * by rendezvous hashing: everyone who has seen an epoch computes the same owners. member_core is the logic
 * without I/O; member.c runs it on common/redis and common/bus. */
#ifndef JACKDAW_MEMBER_MEMBER_H
#define JACKDAW_MEMBER_MEMBER_H

#include "common/base/span.h"

struct ring;
struct redis;
struct bus;
struct member;

#define MEMBER_SLOTS    4096
#define MEMBER_NAME_MAX 63

struct member_node {
    char name[MEMBER_NAME_MAX + 1]; /* "router-1" */
    char role[16];                  /* "router", "c2s", "s2s" */
    char endpoint[256];             /* bus endpoint */
    char stats[64];                 /* "HOST:PORT" of its stats endpoint, may be empty */
    uint64_t incarnation;
    bool draining; /* on its way out: routers own no slot, c2s get no new work */
};

struct member_handler {
    void (*changed)(void *ctx); /* a new epoch; nodes and slots are already the new ones */
    void (*lease_lost)(
        void *ctx); /* the own lease could not be renewed in time: stop acting as an owner at once */
    void (*lease_back)(void *ctx); /* it is held again (a new epoch may have come between) */
    void (*replaced)(void *ctx);   /* a newer process has this name: this one must end. May be NULL; follows
                                      lease_lost */
};

/* Starts: joins as `self` as soon as Redis answers, renews, watches, tells the bus its peers. All pointers
 * but self (copied) are borrowed for the life of the membership. lease_ms: see the option cluster.lease_ms.
 * The owner of the bus hands the bus's `suspect` on to member_report_dead. Not more than one per struct
 * redis. */
struct member *member_new(struct ring *ring, struct redis *redis, struct bus *bus,
                          const struct member_node *self, unsigned lease_ms,
                          const struct member_handler *handler, void *ctx);

/* Ends without leaving: the others wait for the lease to run out (or see the links break). Not from inside a
 * handler. NULL is allowed. */
void member_free(struct member *m);

/* Marks this process as draining: a new epoch without its slots. */
void member_drain(struct member *m);

/* Leaves for good: gives the lease up now, without lease_lost, and tells Redis. Let the loop turn until
 * member_has_left, or give up waiting after a while. */
void member_leave(struct member *m);
bool member_has_left(const struct member *m);

/* Looks for a newer epoch now; for when a peer says that there is one. Cheap. (A new epoch is also published
 * by Redis and found by the next renewal, every sixth of the lease.) */
void member_refresh(struct member *m);

/* A link to a peer broke in a way that proves or suggests its death. Certain: its address refuses
 * connections; it is taken off the list at once. Otherwise a second member must say so too. Repeated reports
 * are cheap. */
void member_report_dead(struct member *m, const char *name, uint64_t incarnation, bool certain);

/* True while the own lease is held. */
bool member_holds_lease(const struct member *m);

/* The epoch in force here, 0 before the first. */
uint32_t member_epoch(const struct member *m);

/* The nodes of the epoch, sorted by name; borrowed until the next change. */
const struct member_node *member_nodes(const struct member *m, unsigned *count);

/* The node of that name, or NULL. */
const struct member_node *member_find(const struct member *m, const char *name);

/* The slot of a bare JID (or domain). The same everywhere, always. */
uint16_t member_slot(struct span bare_jid);

/* The router that owns a slot in this epoch, or NULL when there is none. */
const struct member_node *member_owner(const struct member *m, uint16_t slot);

#endif
