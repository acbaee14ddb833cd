/* What the files of the ring room share. */
#ifndef JACKDAW_RING_INTERNAL_H
#define JACKDAW_RING_INTERNAL_H

#include <liburing.h>

#include "common/ring/ring.h"
#include "common/stats/stats.h"

#define RING_GROUPS_MAX 8

struct ring_buffers {
    struct ring *ring;
    struct io_uring_buf_ring *kernel; /* mmapped ring of free buffers */
    char *bytes;                      /* mmapped, count × size */
    unsigned count;
    unsigned size;
    unsigned armed; /* receives that use it */
    uint8_t group;
};

struct ring {
    struct io_uring u;
    struct timers timers;
    struct list hooks;
    struct ring_buffers *groups[RING_GROUPS_MAX];
    struct ring_op wake; /* poll of wake_fd, by which ring_stop ends a sleep */
    uint64_t now_ms;
    int wake_fd;
    unsigned busy;
    uint16_t gen;
    bool in_turn;
    bool again;
    volatile bool stop;
};

extern struct stat_counter ring_stat_completions;
extern struct stat_counter ring_stat_buffers_out;
extern struct stat_counter ring_stat_queue_full;
extern struct stat_counter ring_stat_stale;

/* As ring_new with the given IORING_SETUP_ flags and no fallback; *error gets the errno. */
struct ring *ring_new_flags(unsigned entries, unsigned flags, int *error);

/* The best flags; older kernels and some sandboxes refuse them, then 0 does. */
#define RING_FLAGS_BEST (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL)

/* A free submission entry; hands the full queue to the kernel first when needed (which runs no callback). */
struct io_uring_sqe *ring_sqe(struct ring *r);

/* Treats one completion: calls back, re-arms, or drops it. */
void ring_complete(struct ring *r, uint64_t user_data, int res, unsigned flags);

/* The buffer that a completion with these flags brought, and its way back to the kernel. */
const void *ring_buffer_at(const struct ring_buffers *b, unsigned flags);
void ring_buffer_return(struct ring_buffers *b, unsigned flags);

/* Releases the memory of a set that the kernel no longer knows. */
void ring_buffers_release(struct ring_buffers *b);

#endif
