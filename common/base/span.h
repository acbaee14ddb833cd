/* A borrowed run of bytes. A span never owns; whoever hands it out says how long it stays valid. */
#ifndef JACKDAW_BASE_SPAN_H
#define JACKDAW_BASE_SPAN_H

#include "common/base/base.h"

struct span {
    const char *p;
    size_t n;
};

/* A span over a string literal. */
#define SPAN(literal) ((struct span){"" literal "", sizeof(literal) - 1})
/* For printf("%.*s"). */
#define SPAN_FMT(s) (int)(s).n, (s).p

/* A span over a C string (NULL gives the empty span), without its NUL. */
static inline struct span span_of(const char *s)
{
    return (struct span){s, s != NULL ? strlen(s) : 0};
}

/* A span over n bytes at p. */
static inline struct span span_make(const void *p, size_t n)
{
    return (struct span){p, n};
}

/* Byte equality. Empty spans are equal whatever they point to. */
static inline bool span_eq(struct span a, struct span b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* Equality with a C string. */
static inline bool span_is(struct span a, const char *s)
{
    return span_eq(a, span_of(s));
}

/* A part of s from byte `from`, at most n bytes, clipped to s. */
static inline struct span span_sub(struct span s, size_t from, size_t n)
{
    from = MIN(from, s.n);
    /* An empty span may point nowhere, and C knows no NULL + 0. */
    return (struct span){from > 0 ? s.p + from : s.p, MIN(n, s.n - from)};
}

/* memcmp order, shorter first on a tie: <0, 0, >0. */
int span_cmp(struct span a, struct span b);

/* Index of byte c in s, or s.n when absent. */
size_t span_index(struct span s, char c);

/* The part of *rest before the first c, taken off together with c; everything when there is none. *rest keeps
 * what stands behind, empty at the end: a text "a,b," gives "a", "b" and is used up. */
static inline struct span span_cut(struct span *rest, char c)
{
    size_t n = span_index(*rest, c);
    struct span part = span_sub(*rest, 0, n);
    *rest = span_sub(*rest, n + 1, rest->n);
    return part;
}

/* A fresh NUL-terminated copy; the caller frees it. */
char *span_dup(struct span s);

/* Parses all of s as an unsigned decimal number up to max. False on anything else (empty, sign, overflow). */
bool span_to_u64(struct span s, uint64_t max, uint64_t *out);

/* Parses all of s as a signed decimal number within [min, max]. False on anything else. */
bool span_to_i64(struct span s, int64_t min, int64_t max, int64_t *out);

#endif
