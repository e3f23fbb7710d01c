/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/slice.h"

static inline unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

static bool fold_eq(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lower((unsigned char)a[i]) != lower((unsigned char)b[i]))
            return false;
    return true;
}

bool slice_ieq(struct slice a, struct slice b)
{
    return a.len == b.len && fold_eq(a.p, b.p, a.len);
}

bool slice_istarts(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && fold_eq(a.p, prefix.p, prefix.len);
}

int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.p, b.p, n) : 0;

    return c ? c : (a.len > b.len) - (a.len < b.len);
}

ptrdiff_t slice_chr(struct slice a, char c)
{
    const char *hit = a.len ? memchr(a.p, c, a.len) : NULL;

    return hit ? hit - a.p : -1;
}

ptrdiff_t slice_rchr(struct slice a, char c)
{
    const char *hit = a.len ? memrchr(a.p, c, a.len) : NULL;

    return hit ? hit - a.p : -1;
}

ptrdiff_t slice_find(struct slice a, struct slice needle)
{
    const char *hit;

    if (needle.len == 0)
        return 0;
    hit = a.len ? memmem(a.p, a.len, needle.p, needle.len) : NULL;
    return hit ? hit - a.p : -1;
}

struct slice slice_trim(struct slice a)
{
    while (a.len && (a.p[0] == ' ' || a.p[0] == '\t'))
        a = slice_skip(a, 1);
    while (a.len && (a.p[a.len - 1] == ' ' || a.p[a.len - 1] == '\t'))
        a.len--;
    return a;
}

bool slice_next(struct slice *rest, char sep, struct slice *ret)
{
    ptrdiff_t at;

    if (!rest->p)
        return false;
    at = slice_chr(*rest, sep);
    if (at < 0) {
        *ret = *rest;
        *rest = SLICE_NULL;
    } else {
        *ret = slice_head(*rest, (size_t)at);
        *rest = slice_skip(*rest, (size_t)at + 1);
    }
    return true;
}

bool slice_u64(struct slice a, uint64_t max, uint64_t *ret)
{
    uint64_t v = 0;

    if (a.len == 0)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (a.p[i] < '0' || a.p[i] > '9')
            return false;
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(a.p[i] - '0'), &v))
            return false;
    }
    if (v > max)
        return false;
    *ret = v;
    return true;
}

bool slice_hex64(struct slice a, uint64_t *ret)
{
    uint64_t v = 0;

    if (a.len == 0 || a.len > 16)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        unsigned char c = lower((unsigned char)a.p[i]);
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10u;
        else
            return false;
        v = v << 4 | digit;
    }
    *ret = v;
    return true;
}

bool slice_copy(struct slice a, char *dst, size_t cap)
{
    if (cap == 0)
        return false;
    if (a.len >= cap) {
        dst[0] = '\0';
        return false;
    }
    if (a.len)
        memcpy(dst, a.p, a.len);
    dst[a.len] = '\0';
    return true;
}

char *u32_put(char *p, uint32_t v)
{
    char digits[10];
    size_t n = 0;

    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        *p++ = digits[--n];
    return p;
}
