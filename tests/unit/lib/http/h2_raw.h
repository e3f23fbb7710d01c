/* SPDX-License-Identifier: Apache-2.0 */
/* A session against bytes: frames are built here by hand, what its owner hears is written down. */
#pragma once

#include <string.h>

#include "lib/base/buf.h"
#include "lib/http/h2_int.h"

/* A field list as text: F("name", "value") F(...), in slices that may hold any byte but these two.
 */
#define F(name, value) name "\x1f" value "\x1e"

static inline void raw_frame(struct buf *b, unsigned type, unsigned flags, uint32_t id,
                             struct slice p)
{
    const unsigned char hd[9] = {
        (unsigned char)(p.len >> 16), (unsigned char)(p.len >> 8), (unsigned char)p.len,
        (unsigned char)type,          (unsigned char)flags,        (unsigned char)(id >> 24),
        (unsigned char)(id >> 16),    (unsigned char)(id >> 8),    (unsigned char)id};
    buf_add(b, hd, sizeof hd);
    buf_add_slice(b, p);
}

/* RFC 7541 5.2, without Huffman. */
static inline void raw_text(struct buf *b, struct slice s)
{
    size_t n = s.len;

    if (n < 127) {
        buf_add_char(b, (char)n);
    } else {
        buf_add_char(b, 127);
        for (n -= 127; n >= 128; n >>= 7)
            buf_add_char(b, (char)(n % 128 + 128));
        buf_add_char(b, (char)n);
    }
    buf_add_slice(b, s);
}

/* A field list as a header block: literals without indexing (RFC 7541 6.2.2). */
static inline void raw_block(struct buf *b, struct slice fields)
{
    struct slice item;

    while (fields.len && slice_next(&fields, '\x1e', &item)) {
        ptrdiff_t at = slice_chr(item, '\x1f');
        if (at < 0)
            continue;
        buf_add_char(b, 0);
        raw_text(b, slice_head(item, (size_t)at));
        raw_text(b, slice_skip(item, (size_t)at + 1));
    }
}

enum { RAW_END = 1, RAW_WHOLE = 4 }; /* END_STREAM, END_HEADERS */

static inline void raw_headers(struct buf *b, uint32_t id, struct slice fields, bool end)
{
    struct buf block;

    buf_init(&block, 1 << 20);
    raw_block(&block, fields);
    struct slice rest = buf_slice(&block);
    for (unsigned type = NGHTTP2_HEADERS;; type = NGHTTP2_CONTINUATION, end = false) {
        struct slice part = slice_head(rest, 16000);
        rest = slice_skip(rest, part.len);
        raw_frame(b, type, (rest.len ? 0 : RAW_WHOLE) | (end ? RAW_END : 0), id, part);
        if (rest.len == 0)
            break;
    }
    buf_fini(&block);
}

static inline void raw_preface(struct buf *b)
{
    buf_add_str(b, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    raw_frame(b, NGHTTP2_SETTINGS, 0, 0, SLICE_NULL);
}
