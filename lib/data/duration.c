/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/duration.h"

#include <stdio.h>

#include "lib/base/cleanup.h"

static const struct {
    struct slice name;
    int64_t ns;
} units[] = {
    /* longer names first: "ms" before "m" */
    {{"ns", 2}, 1},
    {{"us", 2}, 1000},
    {{"\xc2\xb5s", 3}, 1000}, /* micro sign */
    {{"\xce\xbcs", 3}, 1000}, /* Greek mu */
    {{"ms", 2}, 1000000},
    {{"s", 1}, 1000000000},
    {{"m", 1}, INT64_C(60000000000)},
    {{"h", 1}, INT64_C(3600000000000)},
};

static bool digit(struct slice s)
{
    return s.len && s.p[0] >= '0' && s.p[0] <= '9';
}

/* One "1.5h" at the front of *s, added to *total. */
static enum err_code term(struct slice *s, uint64_t *total)
{
    uint64_t whole = 0, part = 0, scale = 1, unit = 0;
    bool any = digit(*s);

    for (; digit(*s); *s = slice_skip(*s, 1))
        if (__builtin_mul_overflow(whole, 10u, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(s->p[0] - '0'), &whole))
            return ERR_LIMIT;
    if (s->len && s->p[0] == '.') {
        *s = slice_skip(*s, 1);
        any = any || digit(*s);
        for (; digit(*s); *s = slice_skip(*s, 1))
            if (scale < UINT64_C(100000000000000)) { /* digits below are under a nanosecond */
                part = part * 10 + (uint64_t)(s->p[0] - '0');
                scale *= 10;
            }
    }
    if (!any)
        return ERR_INVALID;
    for (size_t i = 0; i < N_OF(units) && !unit; i++)
        if (slice_starts(*s, units[i].name)) {
            unit = (uint64_t)units[i].ns;
            *s = slice_skip(*s, units[i].name.len);
        }
    if (!unit)
        return ERR_INVALID;
    part = (uint64_t)((unsigned __int128)part * unit / scale);
    if (__builtin_mul_overflow(whole, unit, &whole) ||
        __builtin_add_overflow(whole, part, &whole) || __builtin_add_overflow(*total, whole, total))
        return ERR_LIMIT;
    return ERR_OK;
}

enum err_code duration_parse(struct slice text, int64_t *ret_ns)
{
    bool negative = false;
    uint64_t total = 0;

    if (text.len && (text.p[0] == '-' || text.p[0] == '+')) {
        negative = text.p[0] == '-';
        text = slice_skip(text, 1);
    }
    if (text.len == 0)
        return ERR_INVALID;
    if (slice_is(text, "0"))
        text.len = 0;
    while (text.len) {
        enum err_code rc = term(&text, &total);

        if (rc != ERR_OK)
            return rc;
    }
    if (total > INT64_MAX)
        return ERR_LIMIT;
    *ret_ns = negative ? -(int64_t)total : (int64_t)total;
    return ERR_OK;
}

/* v/scale with as few decimals as hold it, then the unit. */
static size_t decimal(char *ret, size_t cap, uint64_t v, uint64_t scale, const char *unit)
{
    size_t n = (size_t)snprintf(ret, cap, "%llu", (unsigned long long)(v / scale));
    uint64_t rest = v % scale;

    if (rest) {
        ret[n++] = '.';
        for (; rest; rest %= scale) {
            scale /= 10;
            ret[n++] = (char)('0' + rest / scale);
        }
    }
    return n + (size_t)snprintf(ret + n, cap - n, "%s", unit);
}

const char *duration_format(int64_t ns, char ret[40])
{
    const uint64_t minute = UINT64_C(60000000000), hour = 60 * minute;
    uint64_t v = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    size_t n = 0, cap = 40;

    if (ns < 0)
        ret[n++] = '-';
    if (v == 0) {
        snprintf(ret, cap, "0s");
    } else if (v < 1000) {
        decimal(ret + n, cap - n, v, 1, "ns");
    } else if (v < 1000000) {
        decimal(ret + n, cap - n, v, 1000, "us");
    } else if (v < 1000000000) {
        decimal(ret + n, cap - n, v, 1000000, "ms");
    } else {
        if (v >= hour)
            n += decimal(ret + n, cap - n, v / hour, 1, "h");
        v %= hour;
        if (v >= minute)
            n += decimal(ret + n, cap - n, v / minute, 1, "m");
        v %= minute;
        if (v)
            decimal(ret + n, cap - n, v, UINT64_C(1000000000), "s");
    }
    return ret;
}
