/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/grpc_int.h"

#define TIMEOUT_MAX_NS (INT64_C(1000000000) * NS_PER_S)

/* clang-format off */
static const char *const status_names[] = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
};
static const struct {
    char name;
    int64_t ns;
} units[] = {
    {'n', 1}, {'u', NS_PER_US}, {'m', NS_PER_MS}, {'S', NS_PER_S}, {'M', 60 * NS_PER_S},
    {'H', 3600 * NS_PER_S},
};
/* clang-format on */

const char *grpc_status_name(enum grpc_status status)
{
    return (size_t)status < N_OF(status_names) ? status_names[status] : "UNKNOWN";
}

void grpc_percent_encode(struct slice in, char *out, size_t cap)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;

    for (size_t i = 0; i < in.len && n + 4 <= cap; i++) {
        unsigned char ch = (unsigned char)in.p[i];

        if (ch >= 0x20 && ch <= 0x7e && ch != '%') {
            out[n++] = (char)ch;
        } else {
            out[n++] = '%';
            out[n++] = hex[ch >> 4];
            out[n++] = hex[ch & 15];
        }
    }
    out[n] = '\0';
}

char *grpc_percent_decode(struct slice in)
{
    char *out = mem_alloc(in.len + 1);
    size_t n = 0;

    if (!out)
        return NULL;
    for (size_t i = 0; i < in.len; i++) {
        uint64_t v;

        if (in.p[i] == '%' && i + 2 < in.len && slice_hex64(slice_of(in.p + i + 1, 2), &v)) {
            out[n++] = (char)v;
            i += 2;
        } else {
            out[n++] = in.p[i];
        }
    }
    out[n] = '\0';
    return out;
}

void grpc_timeout_format(int64_t ns, char ret[16])
{
    size_t i = 0;

    while (i + 1 < N_OF(units) && ns / units[i].ns > 99999999)
        i++;
    snprintf(ret, 16, "%lld%c", (long long)MAX(MIN(ns / units[i].ns, 99999999), 1), units[i].name);
}

bool grpc_timeout_parse(struct slice s, int64_t *ret_ns)
{
    uint64_t v;

    if (s.len < 2 || s.len > 9 || !slice_u64(slice_head(s, s.len - 1), 99999999, &v))
        return false;
    for (size_t i = 0; i < N_OF(units); i++) {
        if (units[i].name == s.p[s.len - 1]) {
            *ret_ns = (int64_t)v > TIMEOUT_MAX_NS / units[i].ns ? TIMEOUT_MAX_NS
                                                                : (int64_t)v * units[i].ns;
            return true;
        }
    }
    return false;
}

bool grpc_content_type(struct slice type)
{
    struct slice rest = slice_skip(type, SL("application/grpc").len);

    return slice_istarts(type, SL("application/grpc")) &&
           (rest.len == 0 || rest.p[0] == '+' || rest.p[0] == ';');
}

/* http-grpc-status-mapping.md */
enum grpc_status grpc_status_of_http(unsigned http)
{
    switch (http) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

/* PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping", errors */
enum grpc_status grpc_status_of_reset(uint32_t code)
{
    switch (code) {
    case NGHTTP2_CANCEL:
        return GRPC_CANCELLED;
    case NGHTTP2_REFUSED_STREAM:
        return GRPC_UNAVAILABLE;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

void grpc_count(struct grpc_counter *c, struct slice bytes)
{
    enum { PREFIX = 5 }; /* a flag, four bytes of length */
    while (bytes.len) {
        if (c->left) {
            size_t n = MIN(bytes.len, c->left);
            c->left -= (uint32_t)n;
            bytes = slice_skip(bytes, n);
            continue;
        }
        if (c->prefix)
            c->length = c->length << 8 | (unsigned char)bytes.p[0];
        bytes = slice_skip(bytes, 1);
        if (++c->prefix < PREFIX)
            continue;
        c->messages++;
        c->left = c->length;
        c->length = 0;
        c->prefix = 0;
    }
}
