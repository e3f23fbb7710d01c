/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/h1_int.h"

#include "lib/base/cleanup.h"

/* A head is measured, then written in one go. */
static char *put(char *to, struct slice s)
{
    if (s.len)
        memcpy(to, s.p, s.len);
    return to + s.len;
}

static char *put_field(char *to, struct slice name, struct slice value)
{
    to = put(to, name);
    *to++ = ':';
    *to++ = ' ';
    to = put(to, value);
    *to++ = '\r';
    *to++ = '\n';
    return to;
}

static char *put_u64(char *to, uint64_t v)
{
    char digits[20];
    size_t n = sizeof digits;

    do
        digits[--n] = (char)('0' + v % 10);
    while (v /= 10);
    return put(to, slice_of(digits + n, sizeof digits - n));
}

/* Room for what put_fields adds of its own, the upgrade's name apart. */
enum { OWN_FIELDS_MAX = 128 };

/* Room for the fields; false when one of them would split the message (the list is the caller's,
 * who may have filled it without http_head_add). */
static bool measure_fields(const struct http_head *h, size_t *ret)
{
    size_t n = OWN_FIELDS_MAX + h->upgrade.len;

    for (uint32_t i = 0; i < h->n_fields; i++) {
        const struct http_field *f = &h->fields[i];
        if (f->name.len == 0 || !http_value_ok(f->name) || !http_value_ok(f->value))
            return false;
        n += f->name.len + f->value.len + 4;
    }
    *ret = n;
    return http_value_ok(h->upgrade);
}

/* Connection, and the fields that it names (RFC 9110 7.6.1; 7.8, 10.1.4). */
static char *put_connection(char *to, const struct http_head *h, bool close)
{
    const char *between = "";

    to = put(to, SL("connection: "));
    if (h->upgrade.len) {
        to = put(to, SL("upgrade"));
        between = ", ";
    }
    if (h->te_trailers) {
        to = put(put(to, slice_str(between)), SL("te"));
        between = ", ";
    }
    if (close)
        to = put(put(to, slice_str(between)), SL("close"));
    to = put(to, SL("\r\n"));
    if (h->upgrade.len)
        to = put_field(to, SL("upgrade"), h->upgrade);
    return h->te_trailers ? put_field(to, SL("te"), SL("trailers")) : to;
}

/* Fields, what this connection is told, and the framing. `tell_empty`: an answer without content
 * says so where its end would else be the connection's. */
static char *put_fields(char *to, const struct http_head *h, bool close, bool framing,
                        bool tell_empty)
{
    for (uint32_t i = 0; i < h->n_fields; i++)
        to = put_field(to, h->fields[i].name, h->fields[i].value);
    if (h->upgrade.len || h->te_trailers || close)
        to = put_connection(to, h, close);
    if (framing && h->body == HTTP_BODY_LENGTH) {
        to = put(to, SL("content-length: "));
        to = put_u64(to, h->content_length);
        to = put(to, SL("\r\n"));
    } else if (framing && h->body == HTTP_BODY_STREAM) {
        to = put(to, SL("transfer-encoding: chunked\r\n"));
    } else if (framing && tell_empty) {
        to = put(to, SL("content-length: 0\r\n"));
    }
    return put(to, SL("\r\n"));
}

enum err_code h1_write_request(struct buf *out, const struct http_head *h, bool close)
{
    struct slice target = slice_is(h->method, "CONNECT") ? h->authority : h->path;
    char *start, *to;
    size_t n;

    if (!http_name_ok(h->method) || !h1_target_ok(target) || !http_value_ok(h->authority) ||
        !measure_fields(h, &n))
        return ERR_INVALID;
    start = buf_reserve(out, n + h->method.len + target.len + h->authority.len + 32);
    if (!start)
        return buf_err(out);
    to = put(start, h->method);
    *to++ = ' ';
    to = put(to, target);
    to = put(to, SL(" HTTP/1.1\r\n"));
    to = put_field(to, SL("host"), h->authority);
    to = put_fields(to, h, close, true, false);
    buf_commit(out, (size_t)(to - start));
    return ERR_OK;
}

enum err_code h1_write_response(struct buf *out, const struct http_head *h, bool close)
{
    struct slice reason = h->reason.len ? h->reason : slice_str(http_reason(h->status));
    bool framing = h->status >= 200 && h->status != 204, tell_empty;
    char *start, *to;
    size_t n;

    if (h->status < 100 || h->status > 999 || !http_value_ok(reason) || !measure_fields(h, &n))
        return ERR_INVALID;
    tell_empty = h->body == HTTP_BODY_NONE && h->status != 304 && !h->bare &&
                 http_head_next(h, SL("content-length"), 0) < 0;
    start = buf_reserve(out, n + reason.len + 32);
    if (!start)
        return buf_err(out);
    to = put(start, SL("HTTP/1.1 "));
    to = put_u64(to, h->status);
    *to++ = ' ';
    to = put(to, reason);
    to = put(to, SL("\r\n"));
    to = put_fields(to, h, close, framing, tell_empty);
    buf_commit(out, (size_t)(to - start));
    return ERR_OK;
}

size_t h1_chunk_prefix(size_t n, char ret[H1_CHUNK_PREFIX_MAX])
{
    size_t len = 0;

    for (int shift = (63 - __builtin_clzll(n | 1)) / 4 * 4; shift >= 0; shift -= 4)
        ret[len++] = "0123456789abcdef"[n >> shift & 15];
    ret[len++] = '\r';
    ret[len++] = '\n';
    return len;
}

void h1_write_chunk(struct buf *out, struct slice bytes)
{
    char prefix[H1_CHUNK_PREFIX_MAX];

    if (bytes.len == 0)
        return;
    buf_add(out, prefix, h1_chunk_prefix(bytes.len, prefix));
    buf_add_slice(out, bytes);
    buf_add(out, "\r\n", 2);
}

enum err_code h1_write_last_chunk(struct buf *out, const struct http_head *trailers)
{
    size_t n = 0;
    char *start, *to;

    if (trailers && !measure_fields(trailers, &n))
        return ERR_INVALID;
    start = buf_reserve(out, n + 8);
    if (!start)
        return buf_err(out);
    to = put(start, SL("0\r\n"));
    for (uint32_t i = 0; trailers && i < trailers->n_fields; i++)
        if (h1_trailer_ok(trailers->fields[i].name))
            to = put_field(to, trailers->fields[i].name, trailers->fields[i].value);
    to = put(to, SL("\r\n"));
    buf_commit(out, (size_t)(to - start));
    return ERR_OK;
}
