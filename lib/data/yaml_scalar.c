/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "lib/base/cleanup.h"
#include "lib/data/yaml_int.h"

static const struct {
    const char *text;
    enum yaml_scalar kind;
    bool truth;
} words[] = {
    {"", YAML_NULL, false},          {"~", YAML_NULL, false},
    {"null", YAML_NULL, false},      {"Null", YAML_NULL, false},
    {"NULL", YAML_NULL, false},      {"true", YAML_BOOL, true},
    {"True", YAML_BOOL, true},       {"TRUE", YAML_BOOL, true},
    {"yes", YAML_BOOL, true},        {"Yes", YAML_BOOL, true},
    {"YES", YAML_BOOL, true},        {"on", YAML_BOOL, true},
    {"On", YAML_BOOL, true},         {"ON", YAML_BOOL, true},
    {"false", YAML_BOOL, false},     {"False", YAML_BOOL, false},
    {"FALSE", YAML_BOOL, false},     {"no", YAML_BOOL, false},
    {"No", YAML_BOOL, false},        {"NO", YAML_BOOL, false},
    {"off", YAML_BOOL, false},       {"Off", YAML_BOOL, false},
    {"OFF", YAML_BOOL, false},       {".nan", YAML_NOT_JSON, false},
    {".NaN", YAML_NOT_JSON, false},  {".NAN", YAML_NOT_JSON, false},
    {".inf", YAML_NOT_JSON, false},  {".Inf", YAML_NOT_JSON, false},
    {".INF", YAML_NOT_JSON, false},  {"+.inf", YAML_NOT_JSON, false},
    {"+.Inf", YAML_NOT_JSON, false}, {"+.INF", YAML_NOT_JSON, false},
    {"-.inf", YAML_NOT_JSON, false}, {"-.Inf", YAML_NOT_JSON, false},
    {"-.INF", YAML_NOT_JSON, false},
};

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* [-+](0x|0o|0b|0)digits, as Go's strconv reads base 0. */
static bool integer(const char *s, int64_t *ret)
{
    bool negative = *s == '-';
    unsigned base = 10;
    uint64_t v = 0;

    s += *s == '-' || *s == '+';
    if (s[0] == '0' && s[1]) {
        char c = (char)(s[1] | 0x20);

        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        s += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    if (!*s)
        return false;
    for (; *s; s++) {
        unsigned d = (unsigned)digit_of(*s);

        if (d >= base || __builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    if (v > (uint64_t)INT64_MAX + negative)
        return false;
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool real(const char *s, double *ret)
{
    const char *p = s + (*s == '-' || *s == '+');
    size_t whole = strspn(p, "0123456789"), part = 0;

    p += whole;
    if (*p == '.') {
        part = strspn(p + 1, "0123456789");
        p += part + 1;
    }
    if (whole + part == 0)
        return false;
    if (*p == 'e' || *p == 'E') {
        size_t n;

        p++;
        p += *p == '-' || *p == '+';
        n = strspn(p, "0123456789");
        if (n == 0)
            return false;
        p += n;
    }
    if (*p)
        return false;
    *ret = strtod(s, NULL);
    return true;
}

enum yaml_scalar yaml_resolve(struct slice text, struct yaml_value *ret)
{
    struct yaml_value v = {0};
    char tmp[64];
    size_t n = 0;
    enum yaml_scalar kind = YAML_STR;

    for (size_t i = 0; i < N_OF(words); i++)
        if (slice_is(text, words[i].text)) {
            if (ret)
                ret->truth = words[i].truth;
            return words[i].kind;
        }
    if (text.len >= sizeof tmp || !strchr("+-.0123456789", text.p[0]))
        return YAML_STR;
    for (size_t i = 0; i < text.len; i++) /* digits may be grouped: 1_000 */
        if (text.p[i] != '_')
            tmp[n++] = text.p[i];
    tmp[n] = '\0';
    if (n == 0 || strlen(tmp) != n)
        return YAML_STR;
    if (integer(tmp, &v.integer))
        kind = YAML_INT;
    else if (real(tmp, &v.real))
        kind = isfinite(v.real) ? YAML_REAL : YAML_NOT_JSON;
    if (ret)
        *ret = v;
    return kind;
}
