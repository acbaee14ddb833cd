/* The members of the cluster, as Redis knows them. */
#ifndef JACKDAW_CTL_NODES_H
#define JACKDAW_CTL_NODES_H

#include "common/member/member.h"

struct ctl;

struct ctl_node {
    struct member_node node;
    int64_t lease_left_ms;
    unsigned slots;
};

struct ctl_nodes {
    uint32_t epoch;
    struct ctl_node *nodes; /* sorted by name; owned */
    unsigned count;
    bool malformed;
    uint16_t owner[MEMBER_SLOTS]; /* index into nodes; out of range = none */
};

/* Asks Redis (connected). False (said) when that failed. ctl_nodes_free in both cases. */
bool ctl_nodes_get(struct ctl *c, struct ctl_nodes *out);
void ctl_nodes_free(struct ctl_nodes *n);

/* The node of that name, or NULL. */
const struct ctl_node *ctl_nodes_find(const struct ctl_nodes *n, struct span name);

/* The router that owns a slot, or NULL. */
const struct ctl_node *ctl_nodes_owner(const struct ctl_nodes *n, uint16_t slot);

#endif
