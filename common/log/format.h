/* The text of a log line from its printf format, with the values of `key=` quoted where they need it. */
#ifndef JACKDAW_LOG_FORMAT_H
#define JACKDAW_LOG_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* Writes the text into out (cap bytes with the NUL; what does not fit is cut). A text (%s, %.*s) that stands
 * directly behind `=` is a value: when it is empty or holds a space, `"`, `=` or `\`, it is put in double
 * quotes, with `"` and `\` escaped by `\`, so that a user's text can't be read as another key=value; one that
 * stands behind `="` is only escaped. Other texts are copied as they are. Conversions: s (with precision), c,
 * d, i, u, x, X with l, ll, z, hh, h, flags and widths; m; %%. Any other ends the text there. errno is the
 * one that %m prints. */
void log_format(char *out, size_t cap, const char *format, va_list args);

#endif
