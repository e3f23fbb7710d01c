/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/common.h"

#include <stdio.h>

struct slice api_map_get(const struct api_map *m, struct slice key)
{
    uint32_t lo = 0, hi = m->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = slice_cmp(m->p[mid].key, key);

        if (c == 0)
            return m->p[mid].value;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return SLICE_NULL;
}

bool api_map_covers(const struct api_map *have, const struct api_map *want)
{
    for (uint32_t i = 0; i < want->n; i++) {
        struct slice v = api_map_get(have, want->p[i].key);

        if (!v.p || !slice_eq(v, want->p[i].value))
            return false;
    }
    return true;
}

bool api_strings_has(const struct api_strings *s, struct slice value)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (slice_eq(s->p[i], value))
            return true;
    return false;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar: years begin in March, so that the leap
 * day is the last of its year. */
static int64_t days_from_civil(int64_t y, int64_t m, int64_t d)
{
    int64_t era, year_of_era, day_of_year;

    y -= m <= 2;
    era = (y >= 0 ? y : y - 399) / 400;
    year_of_era = y - era * 400;
    day_of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static bool digits(struct slice *s, size_t n, int64_t *ret)
{
    uint64_t v;

    if (s->len < n || !slice_u64(slice_head(*s, n), 9999, &v))
        return false;
    *ret = (int64_t)v;
    *s = slice_skip(*s, n);
    return true;
}

static bool byte_is(struct slice *s, const char *any)
{
    if (s->len == 0 || !strchr(any, s->p[0]) || s->p[0] == '\0')
        return false;
    *s = slice_skip(*s, 1);
    return true;
}

/* "Z" or "+01:30" to seconds east of UTC; nothing may follow. */
static bool zone_parse(struct slice s, int64_t *ret)
{
    int64_t h, m;
    bool west;

    *ret = 0;
    if (s.len == 1)
        return s.p[0] == 'Z' || s.p[0] == 'z';
    west = s.len && s.p[0] == '-';
    if (!byte_is(&s, "+-") || !digits(&s, 2, &h) || !byte_is(&s, ":") || !digits(&s, 2, &m) ||
        s.len || h > 23 || m > 59)
        return false;
    *ret = (h * 3600 + m * 60) * (west ? -1 : 1);
    return true;
}

bool api_time_parse(struct slice text, int64_t *ret_s)
{
    int64_t y, mo, d, h, mi, s, zone;

    if (!digits(&text, 4, &y) || !byte_is(&text, "-") || !digits(&text, 2, &mo) ||
        !byte_is(&text, "-") || !digits(&text, 2, &d) || !byte_is(&text, "Tt") ||
        !digits(&text, 2, &h) || !byte_is(&text, ":") || !digits(&text, 2, &mi) ||
        !byte_is(&text, ":") || !digits(&text, 2, &s))
        return false;
    if (mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 60)
        return false;
    if (byte_is(&text, ".")) {
        if (!byte_is(&text, "0123456789"))
            return false;
        while (byte_is(&text, "0123456789"))
            ;
    }
    if (!zone_parse(text, &zone))
        return false;
    *ret_s = days_from_civil(y, mo, d) * 86400 + h * 3600 + mi * 60 + s - zone;
    return true;
}

const char *api_time_format(int64_t s, char ret[24])
{
    int64_t days = s / 86400, rest = s % 86400;
    int64_t era, day_of_era, year_of_era, day_of_year, mp, y, m, d;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    day_of_era = days - era * 146097;
    year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    mp = (5 * day_of_year + 2) / 153;
    d = day_of_year - (153 * mp + 2) / 5 + 1;
    m = mp < 10 ? mp + 3 : mp - 9;
    y = year_of_era + era * 400 + (m <= 2);
    /* The moduli bound what is written, for years beyond four digits too. */
    snprintf(ret, 24, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)(y % 10000), (unsigned)(m % 100),
             (unsigned)(d % 100), (unsigned)(rest / 3600 % 100), (unsigned)(rest / 60 % 60),
             (unsigned)(rest % 60));
    return ret;
}
