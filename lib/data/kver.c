/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/kver.h"

static bool number(struct slice *s, unsigned *ret)
{
    size_t n = 0;
    uint64_t v;

    while (n < s->len && s->p[n] >= '0' && s->p[n] <= '9')
        n++;
    if (!slice_u64(slice_head(*s, n), 1000000, &v))
        return false;
    *s = slice_skip(*s, n);
    *ret = (unsigned)v;
    return true;
}

static bool dot(struct slice *s)
{
    if (s->len == 0 || s->p[0] != '.')
        return false;
    *s = slice_skip(*s, 1);
    return true;
}

bool kver_parse(struct slice text, struct kver *ret)
{
    struct kver v = {0};

    if (text.len && text.p[0] == 'v')
        text = slice_skip(text, 1);
    if (!number(&text, &v.major) || !dot(&text) || !number(&text, &v.minor))
        return false;
    if (dot(&text) && !number(&text, &v.patch))
        return false;
    if (text.len && text.p[0] != '-' && text.p[0] != '+')
        return false;
    *ret = v;
    return true;
}

int kver_cmp(struct kver a, struct kver b)
{
    if (a.major != b.major)
        return a.major < b.major ? -1 : 1;
    if (a.minor != b.minor)
        return a.minor < b.minor ? -1 : 1;
    return (a.patch > b.patch) - (a.patch < b.patch);
}
