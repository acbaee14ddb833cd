/* Membership without I/O: told what Redis answered and what time it is, it says what follows. member.c runs
 * it on common/redis and common/bus; a simulation may run it on anything that answers like functions.lua.
 *
 * Times are milliseconds of the owner's monotonic clock. */
#ifndef JACKDAW_MEMBER_CORE_H
#define JACKDAW_MEMBER_CORE_H

#include "common/member/member.h"

#define MEMBER_NO_OWNER UINT16_MAX

/* What follows from an answer or from time; bits, to be told to the handler in this order. */
enum {
    MEMBER_LOST = 1,    /* stop acting as an owner */
    MEMBER_CHANGED = 2, /* nodes, slots or epoch are new ones */
    MEMBER_BACK = 4,    /* the lease is held again */
    MEMBER_REPLACED =
        8, /* a newer process has the name: this one is over (comes with MEMBER_LOST if it held) */
};

/* An answer of one of the jd_member_* functions. */
struct member_answer {
    bool replaced; /* ERROR "REPLACED"; the rest is empty */
    bool renewal;  /* of jd_member_renew: the lease runs from when it was sent */
    bool joined;   /* of the same: this process was no member before */
    uint32_t epoch;
    const struct member_node *nodes; /* sorted by name; only meaningful when has_nodes */
    unsigned count;
    bool has_nodes; /* false: nothing new */
};

struct member_core {
    struct member_node self;
    unsigned lease_ms;
    uint32_t epoch;
    struct member_node *nodes; /* owned; sorted by name */
    unsigned count;
    uint16_t owner[MEMBER_SLOTS]; /* index into nodes, or MEMBER_NO_OWNER */
    bool joined;                  /* at least once */
    bool holds;
    bool replaced;
    bool leaving;
    uint64_t lease_until_ms; /* act no longer than this */
    uint64_t renew_at_ms;    /* when the next renewal is due */
};

/* Begins: no lease, no nodes, a renewal due at once. self is copied. */
void member_core_init(struct member_core *c, const struct member_node *self, unsigned lease_ms);
void member_core_fini(struct member_core *c);

/* An answer to what was sent at sent_ms. Returns what follows. */
unsigned member_core_answer(struct member_core *c, const struct member_answer *answer, uint64_t sent_ms);

/* A renewal got no answer: it is due again soon. */
void member_core_failed(struct member_core *c, uint64_t now_ms);

/* Time: returns MEMBER_LOST once when the lease is about to run out without a renewal. */
unsigned member_core_tick(struct member_core *c, uint64_t now_ms);

/* True when the lease is held at that time, also when no tick came yet. */
bool member_core_holds(const struct member_core *c, uint64_t now_ms);

/* The epoch to name in a renewal: 0 ("I am new") until the first one was answered. */
uint32_t member_core_known_epoch(const struct member_core *c);

/* The node of that name, or NULL. */
const struct member_node *member_core_find(const struct member_core *c, const char *name);

/* The owner of each slot among the routers that are not draining: the one with the highest mix of name and
 * slot, so a router that comes or goes moves only its own share. */
void member_core_slots(const struct member_node *nodes, unsigned count, uint16_t owner[MEMBER_SLOTS]);

/* Are a and b linked, and does a dial? Routers are linked with everybody, s2s processes also with each
 * other (a component may be connected to another one), others only with routers; others dial routers; of two
 * of a role the smaller name dials. */
bool member_core_linked(const struct member_node *a, const struct member_node *b, bool *a_dials);

#endif
