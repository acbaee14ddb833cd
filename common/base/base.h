/* The smallest tools: macros, checks of our own mistakes, allocation that cannot fail. */
#ifndef JACKDAW_BASE_BASE_H
#define JACKDAW_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define LIKELY(x)                       __builtin_expect(!!(x), 1)
#define UNLIKELY(x)                     __builtin_expect(!!(x), 0)
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))

/* Aborts with file, line and the condition when a promise of our own code is broken. Never use it on input
 * from a socket, another process or Redis. */
#define CHECK(cond) (LIKELY(cond) ? (void)0 : base_check_failed(#cond, __FILE__, __LINE__))

/* Prints "CHECK failed: COND at FILE:LINE" to stderr and aborts. */
_Noreturn void base_check_failed(const char *cond, const char *file, int line);

/* malloc, calloc, realloc, strdup that abort when memory is out. Release with free(). */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);

/* printf into a fresh string; the caller frees it. */
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
