/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/escape.h"

size_t utf8_len(struct slice in)
{
    const unsigned char *p = (const unsigned char *)in.p;
    unsigned lo = 0x80, hi = 0xbf;
    size_t n;

    if (in.len == 0)
        return 0;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        n = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        n = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (in.len < n)
        return 0;
    if (p[0] == 0xe0)
        lo = 0xa0;
    else if (p[0] == 0xed)
        hi = 0x9f;
    else if (p[0] == 0xf0)
        lo = 0x90;
    else if (p[0] == 0xf4)
        hi = 0x8f;
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return n;
}

static size_t hex(char *out, const char *prefix, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = strlen(prefix);

    memcpy(out, prefix, n);
    out[n] = digits[c >> 4];
    out[n + 1] = digits[c & 15];
    return n + 2;
}

size_t escape_step(struct slice in, enum escape_form form, char out[ESCAPE_MAX], size_t *ret_used)
{
    unsigned char c = (unsigned char)in.p[0];
    const char *named = NULL;
    size_t n;

    *ret_used = 1;
    switch (c) {
    case '"':
        named = "\\\"";
        break;
    case '\\':
        named = "\\\\";
        break;
    case '\n':
        named = "\\n";
        break;
    case '\r':
        named = "\\r";
        break;
    case '\t':
        named = "\\t";
        break;
    default:
        break;
    }
    if (named) {
        memcpy(out, named, 2);
        return 2;
    }
    if (c >= 0x20 && c < 0x7f) {
        out[0] = (char)c;
        return 1;
    }
    if (form == ESCAPE_TEXT)
        return hex(out, "\\x", c);
    if (c == 0) /* many readers of JSON refuse \u0000 */
        return hex(out, "\\\\x", c);
    if (c < 0x80)
        return hex(out, "\\u00", c);
    n = utf8_len(in);
    if (n == 0)
        return hex(out, "\\\\x", c);
    *ret_used = n;
    if (c == 0xc2 && (unsigned char)in.p[1] < 0xa0) /* C1 controls move terminals */
        return hex(out, "\\u00", (unsigned char)in.p[1]);
    memcpy(out, in.p, n);
    return n;
}
