/* Free lists. Under the address sanitizer a spare object is poisoned but for its link, so that touching it
 * after pool_put is reported as a use after free. */
#include "common/base/pool.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISON 1
#endif
#endif

#ifdef POOL_POISON
#include <sanitizer/asan_interface.h>
#define poison(p, n)   __asan_poison_memory_region((p), (n))
#define unpoison(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define poison(p, n)   ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
#endif

static void *take_spare(struct pool *p)
{
    void *object = p->free_list;

    memcpy(&p->free_list, object, sizeof(void *));
    p->spare--;
    unpoison(object, p->object_size);
    return object;
}

void *pool_get(struct pool *p)
{
    p->used++;
    if (p->free_list == NULL)
        return xcalloc(1, p->object_size);
    return memset(take_spare(p), 0, p->object_size);
}

void pool_put(struct pool *p, void *object)
{
    if (object == NULL)
        return;
    CHECK(p->used > 0);
    p->used--;
    p->spare++;
    memcpy(object, &p->free_list, sizeof(void *));
    p->free_list = object;
    poison((char *)object + sizeof(void *), p->object_size - sizeof(void *));
}

void pool_trim(struct pool *p)
{
    while (p->free_list != NULL)
        free(take_spare(p));
}
