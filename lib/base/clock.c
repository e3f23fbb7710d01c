/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static int64_t real_now(const struct clock *c)
{
    (void)c;
    return read_clock(CLOCK_MONOTONIC);
}

static int64_t real_wall(const struct clock *c)
{
    return read_clock(CLOCK_REALTIME) + c->wall_shift_ns;
}

static int64_t virtual_now(const struct clock *c)
{
    return __atomic_load_n(&c->virtual_now_ns, __ATOMIC_RELAXED);
}

static int64_t virtual_wall(const struct clock *c)
{
    return __atomic_load_n(&c->virtual_wall_ns, __ATOMIC_RELAXED);
}

void clock_init_real(struct clock *c)
{
    const char *shift = getenv("TULLE_WALL_SHIFT_S");
    int64_t s = shift ? strtoll(shift, NULL, 10) : 0;

    *c = (struct clock){.now_ns = real_now, .wall_ns = real_wall};
    if (s > -INT64_C(4000000000) && s < INT64_C(4000000000))
        c->wall_shift_ns = s * NS_PER_S;
}

void clock_init_virtual(struct clock *c, int64_t wall_ns)
{
    *c = (struct clock){.now_ns = virtual_now,
                        .wall_ns = virtual_wall,
                        .virtual_now_ns = NS_PER_S,
                        .virtual_wall_ns = wall_ns};
}

void clock_advance(struct clock *c, int64_t ns)
{
    /* Other threads' loops may read it at any time. */
    __atomic_fetch_add(&c->virtual_now_ns, ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->virtual_wall_ns, ns, __ATOMIC_RELAXED);
}

void clock_shift_wall(struct clock *c, int64_t ns)
{
    __atomic_fetch_add(&c->virtual_wall_ns, ns, __ATOMIC_RELAXED);
}

/* Days since 1970-01-01 of a proleptic Gregorian date; years are counted from March, so that the
 * leap day is the last of its year. */
static int64_t days_of(int64_t y, unsigned m, unsigned d)
{
    int64_t era;
    unsigned yoe, doy;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    yoe = (unsigned)(y - era * 400);
    doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;
    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719468;
}

static void date_of(int64_t days, int64_t *y, unsigned *m, unsigned *d)
{
    int64_t era;
    unsigned doe, yoe, doy, mp;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = (unsigned)(days - era * 146097);
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    *d = doy - (153 * mp + 2) / 5 + 1;
    *m = mp < 10 ? mp + 3 : mp - 9;
    *y = (int64_t)yoe + era * 400 + (*m <= 2);
}

static char *digits(char *p, uint64_t v, int n)
{
    for (int i = n - 1; i >= 0; i--, v /= 10)
        p[i] = (char)('0' + v % 10);
    return p + n;
}

void clock_rfc3339(int64_t wall_ns, int seconds, char ret[32])
{
    int64_t s = wall_ns / NS_PER_S, ns = wall_ns % NS_PER_S, days, y;
    unsigned m, d, tod;
    char *p = ret;

    if (ns < 0) {
        ns += NS_PER_S;
        s--;
    }
    days = s / 86400;
    if (s % 86400 < 0)
        days--;
    tod = (unsigned)(s - days * 86400);
    date_of(days, &y, &m, &d);
    p = digits(p, (uint64_t)y, 4);
    *p++ = '-';
    p = digits(p, m, 2);
    *p++ = '-';
    p = digits(p, d, 2);
    *p++ = 'T';
    p = digits(p, tod / 3600, 2);
    *p++ = ':';
    p = digits(p, tod / 60 % 60, 2);
    *p++ = ':';
    p = digits(p, tod % 60, 2);
    if (!seconds) {
        *p++ = '.';
        p = digits(p, (uint64_t)(ns / NS_PER_MS), 3);
    }
    *p++ = 'Z';
    *p = '\0';
}

/* Exactly n digits at *s; -1 when not. */
static int number(const char **s, int n, unsigned *ret)
{
    unsigned v = 0;

    for (int i = 0; i < n; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return -1;
        v = v * 10 + (unsigned)(**s - '0');
    }
    *ret = v;
    return 0;
}

static int literal(const char **s, char lower)
{
    if ((**s | (lower >= 'a' ? 0x20 : 0)) != lower)
        return -1;
    (*s)++;
    return 0;
}

static int parse_date(const char **s, int64_t *ret_days)
{
    static const unsigned char len[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned y, m, d;

    if (number(s, 4, &y) || literal(s, '-') || number(s, 2, &m) || literal(s, '-') ||
        number(s, 2, &d))
        return -1;
    if (m < 1 || m > 12 || d < 1)
        return -1;
    if (d > len[m - 1] && !(m == 2 && d == 29 && y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)))
        return -1;
    *ret_days = days_of(y, m, d);
    return 0;
}

static int parse_fraction(const char **s, int64_t *ret_ns)
{
    int64_t unit = NS_PER_S / 10;

    (*s)++;
    if (**s < '0' || **s > '9')
        return -1;
    for (; **s >= '0' && **s <= '9'; (*s)++, unit /= 10)
        *ret_ns += unit * (**s - '0');
    return 0;
}

int clock_parse_rfc3339(const char *s, int64_t *ret_wall_ns)
{
    unsigned h, min, sec, oh = 0, om = 0;
    int64_t days, ns = 0, t;
    int sign = 1;

    if (parse_date(&s, &days) || literal(&s, 't') || number(&s, 2, &h) || literal(&s, ':') ||
        number(&s, 2, &min) || literal(&s, ':') || number(&s, 2, &sec))
        return -1;
    if (h > 23 || min > 59 || sec > 60) /* 60: a leap second, counted as the next minute */
        return -1;
    if (*s == '.' && parse_fraction(&s, &ns))
        return -1;
    if (*s == '+' || *s == '-') {
        sign = *s++ == '-' ? -1 : 1;
        if (number(&s, 2, &oh) || literal(&s, ':') || number(&s, 2, &om) || oh > 23 || om > 59)
            return -1;
    } else if (literal(&s, 'z')) {
        return -1;
    }
    if (*s)
        return -1;
    t = days * 86400 + (int64_t)(h * 3600 + min * 60 + sec) - sign * (int64_t)(oh * 3600 + om * 60);
    if (__builtin_mul_overflow(t, NS_PER_S, &t) || __builtin_add_overflow(t, ns, &t))
        return -1;
    *ret_wall_ns = t;
    return 0;
}
