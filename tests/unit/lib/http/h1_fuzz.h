/* SPDX-License-Identifier: Apache-2.0 */
/* The property of both HTTP/1 fuzz targets. */
#pragma once

#include "tests/unit/lib/http/h1_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void h1_same(const char *what, const struct buf *a, const struct buf *b)
{
    if (slice_eq(buf_slice(a), buf_slice(b)))
        return;
    fprintf(stderr, "%s:\n%.*s\n%.*s\n", what, SL_FMT(buf_slice(a)), SL_FMT(buf_slice(b)));
    abort();
}

static void h1_fuzz(const struct h1_way *base, unsigned cut, struct slice in)
{
    struct buf whole, pieces, wire, again;
    struct h1_way way = *base;

    buf_init(&whole, 16 << 20);
    buf_init(&pieces, 16 << 20);
    buf_init(&wire, 16 << 20);
    buf_init(&again, 16 << 20);
    /* Small limits, so that a small input meets them. */
    way.limits = (struct h1_limits){.head_bytes = 400, .head_fields = 12};
    bool good = h1_trace(&way, in, &whole, &wire);
    way.first = cut;
    way.step = 1 + cut % 7;
    h1_trace(&way, in, &pieces, NULL);
    h1_same("cut", &whole, &pieces);
    if (good) {
        way.first = way.step = 0;
        /* Writing adds a field or two of its own. */
        way.limits = (struct h1_limits){.head_bytes = 4096, .head_fields = 20};
        h1_trace(&way, buf_slice(&wire), &again, NULL);
        h1_same("sent on", &whole, &again);
    }
    buf_fini(&whole);
    buf_fini(&pieces);
    buf_fini(&wire);
    buf_fini(&again);
}
