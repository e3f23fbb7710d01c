/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/quantity.h"

#include "lib/base/cleanup.h"

/* A value in units of 10^exp10 * 2^exp2. */
static const struct {
    const char *name;
    int exp10, exp2;
} suffixes[] = {
    {"", 0, 0},    {"n", -9, 0},  {"u", -6, 0},  {"m", -3, 0},  {"k", 3, 0},   {"M", 6, 0},
    {"G", 9, 0},   {"T", 12, 0},  {"P", 15, 0},  {"E", 18, 0},  {"Ki", 0, 10}, {"Mi", 0, 20},
    {"Gi", 0, 30}, {"Ti", 0, 40}, {"Pi", 0, 50}, {"Ei", 0, 60},
};

static bool exponent(struct slice s, int *ret)
{
    bool negative = false;
    uint64_t v;

    if (s.len < 2 || (s.p[0] != 'e' && s.p[0] != 'E'))
        return false;
    s = slice_skip(s, 1);
    if (s.p[0] == '-' || s.p[0] == '+') {
        negative = s.p[0] == '-';
        s = slice_skip(s, 1);
    }
    if (!slice_u64(s, 1000, &v))
        return false;
    *ret = negative ? -(int)v : (int)v;
    return true;
}

static enum err_code scale(unsigned __int128 v, int exp10, int exp2, uint64_t *ret)
{
    const unsigned __int128 most = (unsigned __int128)1 << 120;
    bool lost = false;

    for (; exp2 > 0; exp2 -= 10) {
        if (v > most >> 10)
            return ERR_LIMIT;
        v <<= 10;
    }
    for (; exp10 > 0 && v; exp10--) {
        if (v > most / 10)
            return ERR_LIMIT;
        v *= 10;
    }
    for (; exp10 < 0 && v; exp10++) {
        lost = lost || v % 10;
        v /= 10;
    }
    v += lost; /* also when nothing but the lost part is left */
    if (v > INT64_MAX)
        return ERR_LIMIT;
    *ret = (uint64_t)v;
    return ERR_OK;
}

enum err_code quantity_parse(struct slice text, int64_t *ret_milli)
{
    bool negative = false, any = false, point = false;
    unsigned __int128 v = 0;
    int exp10 = 0, exp2 = 0;
    enum err_code rc;
    uint64_t milli;

    if (text.len && (text.p[0] == '-' || text.p[0] == '+')) {
        negative = text.p[0] == '-';
        text = slice_skip(text, 1);
    }
    for (; text.len; text = slice_skip(text, 1)) {
        char c = text.p[0];

        if (c == '.' && !point) {
            point = true;
        } else if (c >= '0' && c <= '9') {
            any = true;
            if (v > (unsigned __int128)1 << 64)
                return ERR_LIMIT;
            v = v * 10 + (unsigned)(c - '0');
            exp10 -= point;
        } else {
            break;
        }
    }
    if (!any)
        return ERR_INVALID;
    for (size_t i = 0;; i++) {
        int e;

        if (i == N_OF(suffixes)) {
            if (!exponent(text, &e))
                return ERR_INVALID;
            exp10 += e;
            break;
        }
        if (slice_is(text, suffixes[i].name)) {
            exp10 += suffixes[i].exp10;
            exp2 = suffixes[i].exp2;
            break;
        }
    }
    rc = scale(v, exp10 + 3, exp2, &milli);
    if (rc == ERR_OK)
        *ret_milli = negative ? -(int64_t)milli : (int64_t)milli;
    return rc;
}
