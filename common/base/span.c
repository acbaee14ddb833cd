/* Comparing, searching and parsing borrowed bytes. */
#include "common/base/span.h"

int span_cmp(struct span a, struct span b)
{
    size_t n = MIN(a.n, b.n);
    int order = n > 0 ? memcmp(a.p, b.p, n) : 0;

    if (order != 0)
        return order;
    return a.n < b.n ? -1 : a.n > b.n;
}

size_t span_index(struct span s, char c)
{
    const char *found = s.n > 0 ? memchr(s.p, c, s.n) : NULL;

    return found != NULL ? (size_t)(found - s.p) : s.n;
}

char *span_dup(struct span s)
{
    char *copy = xmalloc(s.n + 1);

    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = '\0';
    return copy;
}

bool span_to_u64(struct span s, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';
        if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    if (value > max)
        return false;
    *out = value;
    return true;
}

bool span_to_i64(struct span s, int64_t min, int64_t max, int64_t *out)
{
    bool negative = s.n > 0 && s.p[0] == '-';
    uint64_t magnitude;
    int64_t value;

    if (!span_to_u64(span_sub(s, negative, s.n), (uint64_t)INT64_MAX + negative, &magnitude))
        return false;
    value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    if (value < min || value > max)
        return false;
    *out = value;
    return true;
}
