/* Checks and allocation. Out of memory is not an input that a process of ours can work around: it says so and
 * aborts, and the cluster replaces the process. */
#include "common/base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void base_check_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "CHECK failed: %s at %s:%d\n", cond, file, line);
    fflush(stderr);
    abort();
}

static void *require(void *p, size_t size)
{
    if (UNLIKELY(p == NULL)) {
        fprintf(stderr, "out of memory: %zu bytes wanted; give this process more or run more processes\n",
                size);
        abort();
    }
    return p;
}

void *xmalloc(size_t size)
{
    return require(malloc(MAX(size, 1)), size);
}

void *xcalloc(size_t count, size_t size)
{
    return require(calloc(MAX(count, 1), MAX(size, 1)), size);
}

void *xrealloc(void *old, size_t size)
{
    return require(realloc(old, MAX(size, 1)), size);
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n)
{
    size_t length = strnlen(s, n);
    char *copy = xmalloc(length + 1);

    memcpy(copy, s, length);
    copy[length] = '\0';
    return copy;
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    char *text;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    return require(n < 0 ? NULL : text, 0);
}
