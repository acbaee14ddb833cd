/* vsnprintf cannot tell a value from the words around it, so the format is walked here, conversion by
 * conversion; each number is left to snprintf. */
#include "common/log/format.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/base/base.h"

struct text {
    char *p;
    size_t n, cap;
};

/* One conversion: its bytes in the format, its type letter, how long its number is. */
struct conversion {
    char spec[24];
    char type;
    unsigned longs; /* 1 = l, 2 = ll, 3 = z */
    int precision;  /* of a text, -1 = all */
};

static void add(struct text *t, const char *p, size_t n)
{
    n = MIN(n, t->cap - 1 - t->n);
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

static void add_escaped(struct text *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"' || p[i] == '\\')
            add(t, "\\", 1);
        add(t, p + i, 1);
    }
}

static void add_value(struct text *t, const char *p, size_t n)
{
    bool plain = n > 0;
    for (size_t i = 0; i < n && plain; i++)
        plain = strchr(" \"=\\", p[i]) == NULL;
    if (plain) {
        add(t, p, n);
    } else {
        add(t, "\"", 1);
        add_escaped(t, p, n);
        add(t, "\"", 1);
    }
}

static void add_text(struct text *t, const struct conversion *c, const char *p)
{
    if (p == NULL)
        p = "(null)";
    size_t n = c->precision >= 0 ? strnlen(p, (size_t)c->precision) : strlen(p);
    if (t->n > 0 && t->p[t->n - 1] == '=')
        add_value(t, p, n);
    else if (t->n > 1 && memcmp(t->p + t->n - 2, "=\"", 2) == 0)
        add_escaped(t, p, n);
    else
        add(t, p, n);
}

/* Reads the conversion at p ('%'); returns where it ends, NULL when it is too long. A `*` precision is taken
 * from args. */
static const char *read_conversion(struct conversion *c, const char *p, va_list *args)
{
    const char *start = p++;
    *c = (struct conversion){.precision = -1};
    p += strspn(p, "-+ #0123456789");
    if (*p == '.') {
        if (p[1] == '*') {
            c->precision = va_arg(*args, int);
            p += 2;
        } else {
            c->precision = 0;
            for (p++; *p >= '0' && *p <= '9'; p++)
                c->precision = MIN(c->precision * 10 + (*p - '0'), 1 << 20);
        }
    }
    for (; *p == 'l' || *p == 'z' || *p == 'h'; p++)
        c->longs += *p == 'l' ? 1 : *p == 'z' ? 3 : 0;
    c->type = *p;
    size_t n = (size_t)(p - start) + 1;
    if (*p == '\0' || n >= sizeof c->spec)
        return NULL;
    memcpy(c->spec, start, n);
    return p + 1;
}

static bool add_number(struct text *t, const struct conversion *c, va_list *args)
{
    char number[64];
    /* Every type goes through its own va_arg; the spec is from our own formats, which the compiler has
     * checked. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (c->type == 'c' || c->longs == 0)
        snprintf(number, sizeof number, c->spec, va_arg(*args, int));
    else if (c->longs == 1)
        snprintf(number, sizeof number, c->spec, va_arg(*args, long));
    else if (c->longs == 2)
        snprintf(number, sizeof number, c->spec, va_arg(*args, long long));
    else
        snprintf(number, sizeof number, c->spec, va_arg(*args, size_t));
#pragma GCC diagnostic pop
    add(t, number, strlen(number));
    return true;
}

static bool add_conversion(struct text *t, const struct conversion *c, va_list *args)
{
    char error[128];
    switch (c->type) {
    case 's':
        add_text(t, c, va_arg(*args, const char *));
        return true;
    case 'm':
        add_text(t, c, strerror_r(errno, error, sizeof error));
        return true;
    case '%':
        add(t, "%", 1);
        return true;
    case 'c':
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
        return add_number(t, c, args);
    default:
        return false;
    }
}

void log_format(char *out, size_t cap, const char *format, va_list args)
{
    struct text t = {out, 0, cap};
    va_list rest;
    va_copy(rest, args);
    while (format != NULL && *format != '\0') {
        struct conversion c;
        size_t n = strcspn(format, "%");
        add(&t, format, n);
        format += n;
        if (*format != '%')
            break;
        format = read_conversion(&c, format, &rest);
        if (format == NULL || !add_conversion(&t, &c, &rest))
            break;
    }
    va_end(rest);
    out[t.n] = '\0';
}
