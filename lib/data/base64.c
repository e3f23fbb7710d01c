/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/base64.h"

static const char *alphabet(enum base64_form form)
{
    return form == BASE64_STD ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
                              : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
}

void base64_encode(struct slice in, enum base64_form form, struct buf *out)
{
    const char *abc = alphabet(form);
    const unsigned char *p = (const unsigned char *)in.p;
    char piece[1024]; /* a patch is some kilobytes: not four bytes at a time into the buffer */
    size_t n = 0, left = in.len;

    for (; left >= 3; p += 3, left -= 3) {
        piece[n++] = abc[p[0] >> 2];
        piece[n++] = abc[(p[0] & 3) << 4 | p[1] >> 4];
        piece[n++] = abc[(p[1] & 15) << 2 | p[2] >> 6];
        piece[n++] = abc[p[2] & 63];
        if (n == sizeof piece) {
            buf_add(out, piece, n);
            n = 0;
        }
    }
    if (left) {
        unsigned second = left == 2 ? p[1] : 0;

        piece[n++] = abc[p[0] >> 2];
        piece[n++] = abc[(p[0] & 3) << 4 | second >> 4];
        if (left == 2)
            piece[n++] = abc[(second & 15) << 2];
        for (size_t i = left; form == BASE64_STD && i < 3; i++)
            piece[n++] = '=';
    }
    buf_add(out, piece, n);
}

static int value_of(char c, enum base64_form form)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (form == BASE64_STD ? '+' : '-'))
        return 62;
    return c == (form == BASE64_STD ? '/' : '_') ? 63 : -1;
}

/* One group of 1 to 4 characters; bytes it stands for, 0 when malformed. */
static size_t group(struct slice in, enum base64_form form, char ret[3])
{
    uint32_t v = 0;

    if (in.len < 2)
        return 0;
    for (size_t i = 0; i < 4; i++) {
        int d = i < in.len ? value_of(in.p[i], form) : 0;

        if (d < 0)
            return 0;
        v = v << 6 | (uint32_t)d;
    }
    for (size_t i = 0; i < 3; i++)
        ret[i] = (char)(v >> (16 - 8 * i));
    if (in.len < 4 && v & (in.len == 2 ? 0xffffu : 0xffu))
        return 0; /* unused bits must be zero (RFC 4648 3.5) */
    return in.len - 1;
}

enum err_code base64_decode(struct slice in, enum base64_form form, struct buf *out)
{
    size_t before = buf_len(out);

    if (form == BASE64_STD) {
        if (in.len % 4)
            return ERR_INVALID;
        if (in.len && in.p[in.len - 1] == '=')
            in.len -= in.p[in.len - 2] == '=' ? 2 : 1;
    }
    while (in.len) {
        char bytes[3];
        size_t n = group(slice_head(in, 4), form, bytes);

        if (n == 0) {
            buf_truncate(out, before);
            return ERR_INVALID;
        }
        buf_add(out, bytes, n);
        in = slice_skip(in, 4);
    }
    return buf_err(out);
}
