/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/buf.h"

#include <stdio.h>

#include "lib/base/mem.h"

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = (uint32_t)MIN(max, BUF_MAX)};
}

void buf_fini(struct buf *b)
{
    mem_free(b->p);
    buf_init(b, b->max);
}

void buf_freep(struct buf *b)
{
    buf_fini(b);
}

void buf_reset(struct buf *b)
{
    b->off = b->end = 0;
    b->failed = ERR_OK;
}

void buf_consume(struct buf *b, size_t n)
{
    b->off += (uint32_t)MIN(n, buf_len(b));
    if (b->off == b->end)
        b->off = b->end = 0;
}

void buf_truncate(struct buf *b, size_t n)
{
    if (n < buf_len(b))
        b->end = b->off + (uint32_t)n;
}

/* Make room for n bytes at the end, whatever `max` says. Bytes are moved to the front only when
 * that at least halves the way to the next growth, so that consuming bit by bit stays linear. */
static int make_room(struct buf *b, size_t n)
{
    size_t len = buf_len(b), need, cap;
    char *p;

    if (b->cap - b->end >= n)
        return 0;
    if (__builtin_add_overflow(len, n, &need) || need > BUF_MAX + 1) {
        b->failed = ERR_LIMIT;
        return -1;
    }
    if (need <= b->cap && b->off >= len) {
        memcpy(b->p, b->p + b->off, len);
        b->off = 0;
        b->end = (uint32_t)len;
        return 0;
    }
    cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    cap = MIN(cap, BUF_MAX + 1);
    if (cap > (size_t)b->max + 1 && need <= (size_t)b->max + 1)
        cap = (size_t)b->max + 1; /* one for the NUL of buf_cstr */
    if (b->off == 0) {
        p = mem_realloc(b->p, cap);
    } else {
        p = mem_alloc(cap);
        if (p) {
            memcpy(p, b->p + b->off, len);
            mem_free(b->p);
        }
    }
    if (!p) {
        b->failed = ERR_NOMEM;
        return -1;
    }
    b->p = p;
    b->off = 0;
    b->end = (uint32_t)len;
    b->cap = (uint32_t)cap;
    return 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed)
        return NULL;
    if (n > b->max || buf_len(b) > b->max - n) {
        b->failed = ERR_LIMIT;
        return NULL;
    }
    if (make_room(b, n ? n : 1) < 0)
        return NULL;
    return b->p + b->end;
}

void buf_commit(struct buf *b, size_t n)
{
    b->end += (uint32_t)n;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
    char *to;

    if (n == 0)
        return;
    to = buf_reserve(b, n);
    if (!to)
        return;
    memcpy(to, p, n);
    b->end += (uint32_t)n;
}

void buf_add_slice(struct buf *b, struct slice s)
{
    buf_add(b, s.p, s.len);
}

void buf_add_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
    buf_add(b, &c, 1);
}

void buf_add_u64(struct buf *b, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    buf_add(b, digits + at, sizeof digits - at);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
    char small[256];
    va_list again;
    char *to;
    int n;

    if (b->failed)
        return;
    va_copy(again, ap);
    n = vsnprintf(small, sizeof small, fmt, ap);
    if (n < 0) {
        b->failed = ERR_INVALID;
    } else if ((size_t)n < sizeof small) {
        buf_add(b, small, (size_t)n);
    } else if (buf_reserve(b, (size_t)n) && make_room(b, (size_t)n + 1) == 0) {
        to = b->p + b->end;
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->end += (uint32_t)n;
    }
    va_end(again);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(b, fmt, ap);
    va_end(ap);
}

const char *buf_cstr(struct buf *b)
{
    if (b->failed || make_room(b, 1) < 0)
        return "";
    b->p[b->end] = '\0';
    return b->p + b->off;
}

char *buf_take(struct buf *b, size_t *ret_len)
{
    size_t len = buf_len(b);
    char *p;

    buf_cstr(b);
    if (b->failed)
        return NULL;
    p = b->p;
    if (b->off)
        memmove(p, p + b->off, len + 1);
    b->p = NULL;
    buf_init(b, b->max);
    if (ret_len)
        *ret_len = len;
    return p;
}
