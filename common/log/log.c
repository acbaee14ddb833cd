/* Log lines. A line is put together in one stack buffer and leaves with one write(), so that lines of several
 * processes on one terminal do not mix. Repetition is counted per format string in a small table of slots; a
 * slot is printed and reused when its second is over or another format needs it. The endpoint's thread may
 * log too, hence the mutex. */
#include "common/log/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/format.h"

#define LINE_BYTES_MAX   4096
#define NAME_BYTES_MAX   64
#define SLOTS            64
#define REPEATS_MAX      20
#define REPEAT_WINDOW_MS 1000

struct slot {
    const char *format;
    const char *zone;
    enum log_level level;
    uint64_t since_ms;
    unsigned printed;
    unsigned suppressed;
};

struct line {
    char text[LINE_BYTES_MAX];
    size_t n;
};

static const char *const level_names[] = {"ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
static const char *const level_words[] = {"error", "warn", "info", "debug", "trace"};

static char process[NAME_BYTES_MAX] = "-";
static int level_max = LOG_LEVEL_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[SLOTS];
static unsigned slots_suppressing; /* slots with suppressed > 0 */

void log_set_name(const char *process_name)
{
    pthread_mutex_lock(&lock);
    snprintf(process, sizeof(process), "%s", process_name);
    pthread_mutex_unlock(&lock);
}

void log_set_level(enum log_level level)
{
    __atomic_store_n(&level_max, (int)level, __ATOMIC_RELAXED);
}

bool log_level_parse(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < ARRAY_LEN(level_words); i++) {
        if (strcmp(text, level_words[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_wants(enum log_level level)
{
    return (int)level <= __atomic_load_n(&level_max, __ATOMIC_RELAXED);
}

/* Appends text with everything a terminal or a log reader could take for control escaped: C0, DEL, and C1 in
 * its UTF-8 form. The last byte of the line stays free for the newline. */
static void line_add(struct line *l, const char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        if (l->n + 5 > sizeof(l->text)) {
            memcpy(l->text + sizeof(l->text) - 4, "...", 3);
            l->n = sizeof(l->text) - 1;
            return;
        }
        if (*p >= 0x20 && *p != 0x7f && !c1) {
            l->text[l->n++] = (char)*p;
            continue;
        }
        if (c1)
            p++;
        memcpy(l->text + l->n, (char[4]){'\\', 'x', digits[*p >> 4], digits[*p & 15]}, 4);
        l->n += 4;
    }
}

static void line_write(enum log_level level, const char *zone, const char *message)
{
    struct line l = {.n = 0};
    char time_text[32];
    size_t sent = 0;

    const char *parts[] = {clock_format_utc(clock_wall_ms(), time_text),
                           " ",
                           level_names[level],
                           " ",
                           process,
                           " ",
                           zone,
                           " ",
                           message};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        line_add(&l, parts[i]);
    l.text[l.n++] = '\n';
    while (sent < l.n) {
        ssize_t n = write(STDERR_FILENO, l.text + sent, l.n - sent);
        if (n < 0 && errno != EINTR)
            return; /* nowhere to say it */
        sent += n > 0 ? (size_t)n : 0;
    }
}

static void slot_report(struct slot *s)
{
    char message[512];

    if (s->suppressed == 0)
        return;
    snprintf(message, sizeof(message), "suppressed count=%u like=\"%s\"", s->suppressed, s->format);
    s->suppressed = 0;
    slots_suppressing--;
    line_write(s->level, s->zone, message);
}

static void report_over(uint64_t now_ms)
{
    if (slots_suppressing == 0)
        return;
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].suppressed > 0 && now_ms - slots[i].since_ms >= REPEAT_WINDOW_MS)
            slot_report(&slots[i]);
    }
}

/* Counts the line; false when it must be swallowed. */
static bool slot_admit(enum log_level level, const char *zone, const char *format, uint64_t now_ms)
{
    struct slot *s = &slots[((uintptr_t)format * 0x9e3779b97f4a7c15U) >> 58];

    if (s->format != format || now_ms - s->since_ms >= REPEAT_WINDOW_MS) {
        slot_report(s);
        *s = (struct slot){format, zone, level, now_ms, 1, 0};
        return true;
    }
    if (s->printed < REPEATS_MAX) {
        s->printed++;
        return true;
    }
    slots_suppressing += s->suppressed++ == 0;
    return false;
}

void log_line(enum log_level level, const char *zone, const char *format, ...)
{
    char message[LINE_BYTES_MAX];
    int saved_errno = errno;
    uint64_t now_ms;
    va_list args;

    if (!log_wants(level))
        return;
    now_ms = clock_mono_ms();
    pthread_mutex_lock(&lock);
    report_over(now_ms);
    if (level >= LOG_LEVEL_DEBUG || slot_admit(level, zone, format, now_ms)) {
        va_start(args, format);
        errno = saved_errno;
        log_format(message, sizeof(message), format, args);
        va_end(args);
        line_write(level, zone, message);
    }
    pthread_mutex_unlock(&lock);
    errno = saved_errno;
}

void log_flush(bool all)
{
    uint64_t now_ms = clock_mono_ms();

    pthread_mutex_lock(&lock);
    for (size_t i = 0; all && i < SLOTS; i++)
        slot_report(&slots[i]);
    report_over(now_ms);
    pthread_mutex_unlock(&lock);
}
