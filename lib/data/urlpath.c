/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/urlpath.h"

enum err_code target_split(struct slice target, struct slice *ret_path, struct slice *ret_query)
{
    ptrdiff_t mark;

    if (target.len == 0 || target.p[0] != '/' || slice_chr(target, '#') >= 0)
        return ERR_INVALID;
    mark = slice_chr(target, '?');
    *ret_path = mark < 0 ? target : slice_head(target, (size_t)mark);
    *ret_query = mark < 0 ? SLICE_NULL : slice_skip(target, (size_t)mark + 1);
    return ERR_OK;
}

/* RFC 3986 2.3 */
static bool unreserved(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct out {
    char *p;
    size_t len, cap;
    enum path_norm how;
    size_t floor; /* start of the last segment: the byte behind its '/' */
};

/* One character of the path, in normal form: the bytes to append (1 or 3). *at moves on. */
static size_t next_char(struct slice in, size_t *at, enum path_norm how, char piece[3])
{
    static const char hex[] = "0123456789ABCDEF";
    unsigned char c = (unsigned char)in.p[*at];

    if (c <= 0x20 || c == 0x7f || c == '?' || c == '#')
        return 0;
    if (c == '%') {
        int hi = *at + 2 < in.len ? hex_value(in.p[*at + 1]) : -1;
        int lo = hi >= 0 ? hex_value(in.p[*at + 2]) : -1;
        unsigned char v = (unsigned char)(hi * 16 + lo);

        if (hi < 0 || lo < 0 || v < 0x20 || v == 0x7f)
            return 0;
        memcpy(piece, in.p + *at, 3);
        *at += 3;
        if (how != PATH_NONE && unreserved(v)) {
            piece[0] = (char)v;
            return 1;
        }
        if (how == PATH_DECODE_AND_MERGE_SLASHES && (v == '/' || v == '\\')) {
            piece[0] = '/';
            return 1;
        }
        return 3;
    }
    *at += 1;
    if (c >= 0x80 && how != PATH_NONE) {
        piece[0] = '%';
        piece[1] = hex[c >> 4];
        piece[2] = hex[c & 15];
        return 3;
    }
    piece[0] = (char)(c == '\\' && how != PATH_NONE ? '/' : c);
    return 1;
}

static bool is_dots(struct slice segment, size_t dots)
{
    return segment.len == dots && segment.p[0] == '.' && segment.p[dots - 1] == '.';
}

/* A dot segment in front of ';': what follows are parameters to some applications, a name to
 * others. */
static bool dots_with_parameters(struct slice segment)
{
    ptrdiff_t semi = slice_chr(segment, ';');
    struct slice head = slice_head(segment, semi < 0 ? 0 : (size_t)semi);

    return semi > 0 && (is_dots(head, 1) || is_dots(head, 2));
}

/* The last segment is complete; `more` tells whether a '/' follows. */
static enum err_code end_segment(struct out *o, bool more)
{
    struct slice segment = slice_of(o->p + o->floor, o->len - o->floor);

    if (o->how == PATH_NONE)
        return ERR_OK;
    if (dots_with_parameters(segment))
        return ERR_INVALID;
    if (segment.len && is_dots(segment, 1)) {
        o->len = o->floor;
    } else if (segment.len && is_dots(segment, 2)) {
        if (o->floor == 1)
            return ERR_INVALID; /* above the root */
        o->len = o->floor - 1;  /* at the '/' behind the segment that goes */
        while (o->p[o->len - 1] != '/')
            o->len--;
    } else if (more) {
        if (o->len == o->cap)
            return ERR_LIMIT;
        o->p[o->len++] = '/';
    }
    o->floor = o->len;
    return ERR_OK;
}

/* In place: the output only gets shorter. */
static size_t merge_slashes(char *p, size_t n)
{
    size_t to = 0;

    for (size_t i = 0; i < n; i++)
        if (p[i] != '/' || to == 0 || p[to - 1] != '/')
            p[to++] = p[i];
    return to;
}

enum err_code path_normalise(struct slice path, enum path_norm how, char *out, size_t cap,
                             struct slice *ret_path)
{
    struct out o = {.p = out, .cap = cap, .how = how, .floor = 1};
    enum err_code rc;

    if (path.len == 0 || path.p[0] != '/')
        return ERR_INVALID;
    if (cap == 0)
        return ERR_LIMIT;
    out[o.len++] = '/';
    for (size_t at = 1; at < path.len;) {
        char piece[3];
        size_t n = next_char(path, &at, how, piece);

        if (n == 0)
            return ERR_INVALID;
        if (n == 1 && piece[0] == '/' && how != PATH_NONE) {
            rc = end_segment(&o, true);
            if (rc != ERR_OK)
                return rc;
            continue;
        }
        if (n > cap - o.len)
            return ERR_LIMIT;
        memcpy(out + o.len, piece, n);
        o.len += n;
    }
    rc = end_segment(&o, false);
    if (rc != ERR_OK)
        return rc;
    if (how >= PATH_MERGE_SLASHES)
        o.len = merge_slashes(out, o.len);
    *ret_path = slice_of(out, o.len);
    return ERR_OK;
}
