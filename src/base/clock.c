#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

static int64_t system_monotonic_ns(struct clock *clock)
{
    (void)clock;
    return read_clock(CLOCK_MONOTONIC);
}

static int64_t system_wall_ns(struct clock *clock)
{
    (void)clock;
    return read_clock(CLOCK_REALTIME);
}

struct clock *clock_system(void)
{
    static struct clock system = {system_monotonic_ns, system_wall_ns};
    return &system;
}

static int64_t fake_monotonic_ns(struct clock *clock)
{
    return ((struct clock_fake *)clock)->monotonic_now_ns;
}

static int64_t fake_wall_ns(struct clock *clock)
{
    return ((struct clock_fake *)clock)->wall_now_ns;
}

void clock_fake_init(struct clock_fake *fake, int64_t monotonic_ns, int64_t wall_ns)
{
    fake->clock.monotonic_ns = fake_monotonic_ns;
    fake->clock.wall_ns = fake_wall_ns;
    fake->monotonic_now_ns = monotonic_ns;
    fake->wall_now_ns = wall_ns;
}

void clock_fake_advance(struct clock_fake *fake, int64_t duration_ns)
{
    fake->monotonic_now_ns += duration_ns;
    fake->wall_now_ns += duration_ns;
}

static void put_digits(char *out, int count, unsigned value)
{
    while (count-- > 0) {
        out[count] = (char)('0' + value % 10);
        value /= 10;
    }
}

void clock_format_rfc3339(int64_t wall_ns, char out[CLOCK_RFC3339_BYTES])
{
    int64_t ms = wall_ns / NS_PER_MS;
    if (wall_ns % NS_PER_MS < 0) {
        ms--;
    }
    int64_t sec = ms / 1000;
    int64_t rest_ms = ms % 1000;
    if (rest_ms < 0) {
        rest_ms += 1000;
        sec--;
    }
    int64_t day = sec / 86400;
    unsigned in_day = (unsigned)(sec % 86400 + 86400) % 86400;
    if (sec % 86400 < 0) {
        day--;
    }
    /* By hand, because answers carry several times each: an era is 400 years from 1 March 0000.
     * Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, civil_from_days. */
    unsigned since = (unsigned)(day + 719468);
    unsigned era = since / 146097;
    unsigned of_era = since % 146097;
    unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
    unsigned march = (5 * of_year + 2) / 153; /* 0: March */
    unsigned month = march < 10 ? march + 3 : march - 9;
    year += 400 * era + (month <= 2);
    put_digits(out, 2, year / 100);
    put_digits(out + 2, 2, year % 100);
    out[4] = '-';
    put_digits(out + 5, 2, month);
    out[7] = '-';
    put_digits(out + 8, 2, of_year - (153 * march + 2) / 5 + 1);
    out[10] = 'T';
    put_digits(out + 11, 2, in_day / 3600);
    out[13] = ':';
    put_digits(out + 14, 2, in_day / 60 % 60);
    out[16] = ':';
    put_digits(out + 17, 2, in_day % 60);
    out[19] = '.';
    put_digits(out + 20, 3, (unsigned)rest_ms);
    out[23] = 'Z';
    out[24] = '\0';
}

/* Exactly count digits; -1 otherwise. */
static int digits(const char **text, int count)
{
    int value = 0;
    for (int i = 0; i < count; i++, (*text)++) {
        if (**text < '0' || **text > '9') {
            return -1;
        }
        value = value * 10 + (**text - '0');
    }
    return value;
}

static int expect(const char **text, char c)
{
    return *(*text)++ == c ? 0 : -1;
}

int clock_parse_rfc3339(const char *text, int64_t *out_wall_ns)
{
    static const int days_in_month[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const char *p = text;
    struct tm utc = {0};
    int year = digits(&p, 4);
    if (year < 0 || expect(&p, '-')) {
        return -EINVAL;
    }
    int month = digits(&p, 2);
    if (month < 1 || month > 12 || expect(&p, '-')) {
        return -EINVAL;
    }
    int day = digits(&p, 2);
    if (day < 1 || day > days_in_month[month - 1]) {
        return -EINVAL;
    }
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (month == 2 && day == 29 && !leap) {
        return -EINVAL;
    }
    if (*p != 'T' && *p != 't' && *p != ' ') {
        return -EINVAL;
    }
    p++;
    int hour = digits(&p, 2);
    if (hour < 0 || hour > 23 || expect(&p, ':')) {
        return -EINVAL;
    }
    int minute = digits(&p, 2);
    if (minute < 0 || minute > 59 || expect(&p, ':')) {
        return -EINVAL;
    }
    int second = digits(&p, 2);
    if (second < 0 || second > 60) {
        return -EINVAL;
    }
    int64_t fraction_ns = 0;
    if (*p == '.') {
        p++;
        int64_t unit = NS_PER_SEC;
        if (*p < '0' || *p > '9') {
            return -EINVAL;
        }
        for (; *p >= '0' && *p <= '9'; p++) {
            unit /= 10;
            fraction_ns += (*p - '0') * unit;
        }
    }
    int offset_min = 0;
    if (*p == 'Z' || *p == 'z') {
        p++;
    } else if (*p == '+' || *p == '-') {
        int sign = *p++ == '+' ? 1 : -1;
        int offset_hour = digits(&p, 2);
        if (offset_hour < 0 || offset_hour > 23 || expect(&p, ':')) {
            return -EINVAL;
        }
        int offset_minute = digits(&p, 2);
        if (offset_minute < 0 || offset_minute > 59) {
            return -EINVAL;
        }
        offset_min = sign * (offset_hour * 60 + offset_minute);
    } else {
        return -EINVAL;
    }
    if (*p != '\0') {
        return -EINVAL;
    }
    utc.tm_year = year - 1900;
    utc.tm_mon = month - 1;
    utc.tm_mday = day;
    utc.tm_hour = hour;
    utc.tm_min = minute;
    utc.tm_sec = second;
    int64_t sec = (int64_t)timegm(&utc) - (int64_t)offset_min * 60;
    int64_t limit_sec = INT64_MAX / NS_PER_SEC - 1;
    if (sec > limit_sec || sec < -limit_sec) {
        return -EINVAL;
    }
    *out_wall_ns = sec * NS_PER_SEC + fraction_ns;
    return 0;
}
