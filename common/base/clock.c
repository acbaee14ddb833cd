/* Clocks and XEP-0082 times. Calendar arithmetic is done here by days since 1970 (no locale, no time zone of
 * the host). */
#include "common/base/clock.h"

#include <stdio.h>
#include <time.h>

#define MS_PER_DAY   86400000
#define LAST_WALL_MS 253402300799999ULL /* 9999-12-31T23:59:59.999Z */

static uint64_t now_ns(clockid_t id)
{
    struct timespec t;

    CHECK(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
    return now_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
    return now_ns(CLOCK_MONOTONIC) / 1000000;
}

uint64_t clock_wall_ms(void)
{
    return now_ns(CLOCK_REALTIME) / 1000000;
}

static bool is_leap(unsigned year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static unsigned month_days(unsigned year, unsigned month)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 0000-03-01 style counting to 1970-01-01, for a valid Gregorian date. */
static int64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    int64_t y = (int64_t)year - (month <= 2);
    int64_t from_march = (month + 9) % 12;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * from_march + 2) / 5 + day - 1 - 719468;
}

char *clock_format_utc(uint64_t wall_ms, char out[32])
{
    uint64_t days, ms;
    unsigned year, month = 1;

    wall_ms = MIN(wall_ms, LAST_WALL_MS);
    days = wall_ms / MS_PER_DAY;
    ms = wall_ms % MS_PER_DAY;
    year = 1970 + (unsigned)(days / 366);
    while (days_since_1970(year + 1, 1, 1) <= (int64_t)days)
        year++;
    days -= (uint64_t)days_since_1970(year, 1, 1);
    while (days >= month_days(year, month))
        days -= month_days(year, month++);
    snprintf(out, 32, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year % 10000, month % 100,
             (unsigned)days % 32 + 1, (unsigned)(ms / 3600000) % 24, (unsigned)(ms / 60000) % 60,
             (unsigned)(ms / 1000) % 60, (unsigned)ms % 1000);
    return out;
}

/* Reads exactly `digits` digits at *p and steps over them. */
static bool take_number(const char **p, const char *end, unsigned digits, unsigned *out)
{
    *out = 0;
    for (; digits > 0; digits--, (*p)++) {
        if (*p == end || **p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (unsigned)(**p - '0');
    }
    return true;
}

static bool take_char(const char **p, const char *end, char c)
{
    if (*p == end || **p != c)
        return false;
    (*p)++;
    return true;
}

/* The part behind the seconds: fraction of any length (digits beyond ms are dropped) and the zone. */
static bool take_fraction_and_zone(const char **p, const char *end, unsigned *ms, int64_t *offset_min)
{
    unsigned hours, minutes;
    bool east;

    *ms = 0;
    *offset_min = 0;
    if (take_char(p, end, '.')) {
        unsigned weight = 100;
        if (*p == end || **p < '0' || **p > '9')
            return false;
        for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, weight /= 10)
            *ms += (unsigned)(**p - '0') * weight;
    }
    if (take_char(p, end, 'Z'))
        return true;
    east = take_char(p, end, '+');
    if (!east && !take_char(p, end, '-'))
        return false;
    if (!take_number(p, end, 2, &hours) || !take_char(p, end, ':') || !take_number(p, end, 2, &minutes) ||
        hours > 23 || minutes > 59)
        return false;
    *offset_min = (int64_t)(hours * 60 + minutes) * (east ? 1 : -1);
    return true;
}

bool clock_parse_utc(const char *text, size_t n, uint64_t *wall_ms)
{
    const char *p = text, *end = text + n;
    unsigned year, month, day, hour, minute, second, ms;
    int64_t offset_min, total_ms;

    if (!take_number(&p, end, 4, &year) || !take_char(&p, end, '-') || !take_number(&p, end, 2, &month) ||
        !take_char(&p, end, '-') || !take_number(&p, end, 2, &day) || !take_char(&p, end, 'T') ||
        !take_number(&p, end, 2, &hour) || !take_char(&p, end, ':') || !take_number(&p, end, 2, &minute) ||
        !take_char(&p, end, ':') || !take_number(&p, end, 2, &second) ||
        !take_fraction_and_zone(&p, end, &ms, &offset_min) || p != end)
        return false;
    /* 60 is a leap second: it counts as the first second of the next minute. */
    if (month < 1 || month > 12 || day < 1 || day > month_days(year, month) || hour > 23 || minute > 59 ||
        second > 60)
        return false;
    total_ms = days_since_1970(year, month, day) * MS_PER_DAY +
               ((int64_t)hour * 3600 + (int64_t)minute * 60 + second - offset_min * 60) * 1000 + ms;
    if (total_ms < 0)
        return false;
    *wall_ms = (uint64_t)total_ms;
    return true;
}
