/* SPDX-License-Identifier: Apache-2.0 */
/* A growable byte buffer with a maximum. Writing beyond the maximum, or without memory, makes the
 * buffer sticky-failed: further writes do nothing and buf_err tells why, so that a writer checks
 * once at the end. Bytes are consumed from the front without moving them each time. */
#pragma once

#include <stdarg.h>

#include "lib/base/cleanup.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"

struct buf {
    char *p;      /* storage */
    uint32_t off; /* first unread byte */
    uint32_t end; /* one past the last byte */
    uint32_t cap; /* bytes of storage */
    uint32_t max; /* upper bound for unread bytes */
    enum err_code failed;
};
#define BUF_MAX ((size_t)UINT32_MAX - 1)

/* `max` bounds the unread bytes (BUF_MAX does so anyhow). Allocates nothing yet. */
void buf_init(struct buf *b, size_t max);
/* Frees the storage; the buffer can be used again. */
void buf_fini(struct buf *b);
void buf_freep(struct buf *b); /* for CLEANUP */
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->p ? b->p + b->off : NULL, b->end - b->off);
}
static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->off;
}
/* ERR_OK, ERR_LIMIT or ERR_NOMEM. */
static inline enum err_code buf_err(const struct buf *b)
{
    return b->failed;
}
/* Forget the content and the failure, keep the storage. */
void buf_reset(struct buf *b);
/* Drop n bytes from the front (n <= buf_len). */
void buf_consume(struct buf *b, size_t n);
/* Cut to the first n unread bytes. */
void buf_truncate(struct buf *b, size_t n);
/* Room for at least n more bytes at the end: pointer to write to, NULL when the buffer fails. Follow
 * with buf_commit of what was written. */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_slice(struct buf *b, struct slice s);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, uint64_t v);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* NUL-terminate (not counted) and borrow as C string; "" when failed. Valid until the next write. */
const char *buf_cstr(struct buf *b);
/* Take the content as a NUL-terminated heap string (mem_free); NULL when failed. Buffer is empty after. */
char *buf_take(struct buf *b, size_t *ret_len);
