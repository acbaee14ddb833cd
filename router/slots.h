/* Sets of slots. A slot that is none (NO_SLOT, or a frame's that came from outside) is in no set and cannot
 * be put into one. */
#ifndef JACKDAW_ROUTER_SLOTS_H
#define JACKDAW_ROUTER_SLOTS_H

#include "common/base/base.h"

/* As many as the membership has; router/main.c, which sees both, compares. */
#define SLOT_COUNT 4096

/* Zero-initialised: none. */
struct slots {
    uint64_t bits[SLOT_COUNT / 64];
};

static inline bool slots_has(const struct slots *s, unsigned slot)
{
    return slot < SLOT_COUNT && (s->bits[slot / 64] >> slot % 64 & 1) != 0;
}

/* Puts a slot in, or takes it out. */
static inline void slots_set(struct slots *s, unsigned slot, bool in)
{
    uint64_t bit = UINT64_C(1) << slot % 64;
    if (slot < SLOT_COUNT)
        s->bits[slot / 64] = in ? s->bits[slot / 64] | bit : s->bits[slot / 64] & ~bit;
}

#endif
