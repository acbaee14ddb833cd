/* Log lines: one event a line, `TIME LEVEL NAME ZONE message key=value …`, to standard error. Every refusal
 * and loss says what the operator can do. */
#ifndef JACKDAW_LOG_LOG_H
#define JACKDAW_LOG_LOG_H

#include "common/base/span.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_TRACE };

/* Names the process in every line ("c2s-1"); copied. */
void log_set_name(const char *process_name);

/* Sets what is printed: level or more severe. The default is info. */
void log_set_level(enum log_level level);

/* Parses "error", "warn", "info", "debug", "trace". False when it is none of them. */
bool log_level_parse(const char *text, enum log_level *out);

/* True when a line of this level would be printed; for costly arguments. */
bool log_wants(enum log_level level);

/* Writes one line. zone names the room ("c2s", "bus"). Control characters in the message are escaped as \xHH,
 * so that foreign text cannot forge lines; a text behind `key=` is quoted where it could be read as another
 * key=value (format.h). A line that repeats (same format string) more than 20 times in a
 * second is counted instead and reported as "suppressed" with the count when the second is over or at the
 * next line. Debug and trace lines are never suppressed. errno is kept. Any thread. zone and format must be
 * literals or live as long as the process. */
void log_line(enum log_level level, const char *zone, const char *format, ...) PRINTF_LIKE(3, 4);

/* Reports suppressed lines whose second is over, or all of them (at exit). The main thread does so once a
 * second. */
void log_flush(bool all);

#define log_error(zone, ...) log_line(LOG_LEVEL_ERROR, zone, __VA_ARGS__)
#define log_warn(zone, ...)  log_line(LOG_LEVEL_WARN, zone, __VA_ARGS__)
#define log_info(zone, ...)  log_line(LOG_LEVEL_INFO, zone, __VA_ARGS__)
#define log_debug(zone, ...) \
    (log_wants(LOG_LEVEL_DEBUG) ? log_line(LOG_LEVEL_DEBUG, zone, __VA_ARGS__) : (void)0)
#define log_trace(zone, ...) \
    (log_wants(LOG_LEVEL_TRACE) ? log_line(LOG_LEVEL_TRACE, zone, __VA_ARGS__) : (void)0)

#endif
