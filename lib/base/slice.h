/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed bytes with a length: what comes from the network is never NUL-terminated by hope.
 * A slice owns nothing; who lends the bytes is said where the slice is handed out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t len;
};

#define SLICE_NULL ((struct slice){NULL, 0})
/* From a string literal, without strlen. */
#define SL(lit) ((struct slice){"" lit, sizeof(lit) - 1})
/* For printf: printf("%.*s", SL_FMT(s)). */
#define SL_FMT(s) (int)(s).len, (s).p ? (s).p : ""

static inline struct slice slice_of(const void *p, size_t len)
{
    return (struct slice){(const char *)p, len};
}
/* From a C string; NULL gives the null slice. */
static inline struct slice slice_str(const char *s)
{
    return s ? (struct slice){s, strlen(s)} : SLICE_NULL;
}
static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}
static inline bool slice_is(struct slice a, const char *s)
{
    return slice_eq(a, slice_str(s));
}
static inline bool slice_starts(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.p, prefix.p, prefix.len) == 0);
}
static inline bool slice_ends(struct slice a, struct slice suffix)
{
    return a.len >= suffix.len &&
           (suffix.len == 0 || memcmp(a.p + a.len - suffix.len, suffix.p, suffix.len) == 0);
}
static inline struct slice slice_skip(struct slice a, size_t n)
{
    return n >= a.len ? (struct slice){a.p ? a.p + a.len : NULL, 0}
                      : (struct slice){a.p + n, a.len - n};
}
static inline struct slice slice_head(struct slice a, size_t n)
{
    return (struct slice){a.p, n < a.len ? n : a.len};
}

/* ASCII case folding only (RFC 9110 field names, host names). */
bool slice_ieq(struct slice a, struct slice b);
bool slice_istarts(struct slice a, struct slice prefix);
/* Bytewise order, shorter first on a tie: <0, 0, >0. */
int slice_cmp(struct slice a, struct slice b);
/* Index of the first `c`, or -1. */
ptrdiff_t slice_chr(struct slice a, char c);
ptrdiff_t slice_rchr(struct slice a, char c);
/* Index of the first occurrence of `needle`, or -1; an empty needle is at 0. */
ptrdiff_t slice_find(struct slice a, struct slice needle);
/* Without leading and trailing SP and HTAB (RFC 9110 OWS). */
struct slice slice_trim(struct slice a);
/* Cut *rest at the first `sep`: *ret is what stands before it, *rest what follows. False at the end
 * (*rest null). "a,,b" gives "a", "", "b"; "" gives "" once. */
bool slice_next(struct slice *rest, char sep, struct slice *ret);
/* Digits only, no sign, no blanks; false on empty, other bytes or overflow beyond `max`. */
bool slice_u64(struct slice a, uint64_t max, uint64_t *ret);
/* Decimal digits of v at p (at most 10), without an end; returns where they end. printf is a cost where
 * each request writes numbers. */
char *u32_put(char *p, uint32_t v);
/* Hex digits of either case, 1 to 16 of them. */
bool slice_hex64(struct slice a, uint64_t *ret);
/* Copy with a terminating NUL; false when it does not fit (dst then holds ""). */
bool slice_copy(struct slice a, char *dst, size_t cap);
