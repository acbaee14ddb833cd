/* Which of a Redis Cluster's 16384 hash slots a key belongs to. Internal to common/redis. */
#ifndef JACKDAW_REDIS_SLOTS_H
#define JACKDAW_REDIS_SLOTS_H

#include "common/base/span.h"

enum { REDIS_SLOTS = 16384 };

/* The slot of a key: CRC16 of what is in its first {}, or of all of it when there is nothing in between. */
unsigned redis_slot(struct span key);

#endif
