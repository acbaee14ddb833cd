/* Buffer sets: a ring of free buffers shared with the kernel, which takes one when bytes arrive. liburing 2.3
 * has no helper that sets one up, so the ring is mapped and registered here. All buffers are in the ring
 * before the first receive is armed: on an empty ring a receive ends at once. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/log/log.h"
#include "common/ring/internal.h"

#define COUNT_MAX 32768 /* the kernel's limit */

static void *map_bytes(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p != MAP_FAILED ? p : NULL;
}

static size_t ring_bytes(const struct ring_buffers *b)
{
    return b->count * sizeof(struct io_uring_buf);
}

void ring_buffers_release(struct ring_buffers *b)
{
    if (b->kernel != NULL)
        munmap(b->kernel, ring_bytes(b));
    if (b->bytes != NULL)
        munmap(b->bytes, (size_t)b->count * b->size);
    free(b);
}

static void add(struct ring_buffers *b, unsigned id)
{
    io_uring_buf_ring_add(b->kernel, b->bytes + (size_t)id * b->size, b->size, (unsigned short)id,
                          io_uring_buf_ring_mask(b->count), 0);
    io_uring_buf_ring_advance(b->kernel, 1);
}

struct ring_buffers *ring_buffers_new(struct ring *r, unsigned count, unsigned size)
{
    struct ring_buffers *b = xcalloc(1, sizeof(*b));
    struct io_uring_buf_reg reg = {0};
    int error = ENOMEM;

    CHECK(count > 0 && count <= COUNT_MAX && (count & (count - 1)) == 0 && size > 0);
    while (b->group < RING_GROUPS_MAX && r->groups[b->group] != NULL)
        b->group++;
    CHECK(b->group < RING_GROUPS_MAX);
    b->ring = r;
    b->count = count;
    b->size = size;
    b->kernel = map_bytes(ring_bytes(b));
    b->bytes = map_bytes((size_t)count * size);
    if (b->kernel != NULL && b->bytes != NULL) {
        reg.ring_addr = (uintptr_t)b->kernel;
        reg.ring_entries = count;
        reg.bgid = b->group;
        error = -io_uring_register_buf_ring(&r->u, &reg, 0);
    }
    if (error != 0) {
        log_error("ring",
                  "no receive buffers count=%u size=%u error=\"%s\": raise the locked memory limit "
                  "(LimitMEMLOCK= in "
                  "the unit, ulimit -l) or configure fewer buffers",
                  count, size, strerror(error));
        ring_buffers_release(b);
        return NULL;
    }
    io_uring_buf_ring_init(b->kernel);
    for (unsigned id = 0; id < count; id++)
        add(b, id);
    r->groups[b->group] = b;
    return b;
}

void ring_buffers_free(struct ring_buffers *b)
{
    if (b == NULL)
        return;
    CHECK(b->armed == 0);
    io_uring_unregister_buf_ring(&b->ring->u, b->group);
    b->ring->groups[b->group] = NULL;
    ring_buffers_release(b);
}

const void *ring_buffer_at(const struct ring_buffers *b, unsigned flags)
{
    return b->bytes + (size_t)(flags >> IORING_CQE_BUFFER_SHIFT) * b->size;
}

void ring_buffer_return(struct ring_buffers *b, unsigned flags)
{
    add(b, flags >> IORING_CQE_BUFFER_SHIFT);
}
