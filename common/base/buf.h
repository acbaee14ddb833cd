/* A growable byte buffer: the one way to build text and frames. Zero-initialise ({0}); no other set-up. */
#ifndef JACKDAW_BASE_BUF_H
#define JACKDAW_BASE_BUF_H

#include <stdarg.h>

#include "common/base/span.h"

struct buf {
    char *p; /* owned; NULL while cap is 0 */
    size_t n;
    size_t cap;
};

/* Makes room for at least `more` further bytes and returns where they go; n is not moved. */
char *buf_reserve(struct buf *b, size_t more);

/* Appends bytes, a span, a C string, one byte. */
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_add_span(struct buf *b, struct span s);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);

/* Appends a literal without measuring it at run time. */
#define buf_add_lit(b, literal) buf_add((b), "" literal "", sizeof(literal) - 1)

/* Appends formatted text. */
void buf_addf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vaddf(struct buf *b, const char *format, va_list args) PRINTF_LIKE(2, 0);

/* Appends an unsigned decimal number. */
void buf_add_u64(struct buf *b, uint64_t value);

/* Removes the first n bytes (moves the rest down). */
void buf_consume(struct buf *b, size_t n);

/* Empties without freeing. */
static inline void buf_clear(struct buf *b)
{
    b->n = 0;
}

/* Empties; frees the storage too when it has grown beyond keep bytes. */
void buf_shrink(struct buf *b, size_t keep);

/* Frees the storage; the buffer can be used again. */
void buf_free(struct buf *b);

/* The content as a span, valid until the next change. */
static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->p, b->n};
}

/* Ensures a NUL behind the content (not counted) and returns it as a C string, valid until the next change.
 */
const char *buf_cstr(struct buf *b);

#endif
