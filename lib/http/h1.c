/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/h1_int.h"

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

enum state {
    ST_START,    /* nothing of a message seen */
    ST_START_LF, /* a CR in front of the message */
    ST_HEAD,
    ST_LENGTH, /* `left` bytes of content */
    ST_CLOSE,  /* content until the connection ends */
    ST_CHUNK_SIZE,
    ST_CHUNK_DATA, /* `left` bytes of this chunk */
    ST_CHUNK_CRLF,
    ST_TRAILERS,
    ST_RAW, /* after an upgrade or CONNECT */
    ST_END, /* the end is still to be told */
    ST_REFUSED,
};

enum { HEAD_BYTES = 60 * 1024, HEAD_FIELDS = 100, CHUNK_LINE_MAX = 256, TRAILER_BYTES = 8192 };

static const struct {
    unsigned status;
    const char *detail;
} refusals[] = {
#define X(name, status, detail) [H1_##name] = {status, detail},
    H1_REFUSALS(X)
#undef X
};

unsigned h1_refusal_status(enum h1_refusal r)
{
    return refusals[r].status;
}

const char *h1_refusal_detail(enum h1_refusal r)
{
    return refusals[r].detail;
}

static void parser_init(struct h1_parser *p, const struct h1_limits *limits, bool request)
{
    *p = (struct h1_parser){.request = request};
    p->limits.head_bytes = limits && limits->head_bytes ? limits->head_bytes : HEAD_BYTES;
    p->limits.head_fields = limits && limits->head_fields ? limits->head_fields : HEAD_FIELDS;
    /* One byte over the largest block: that byte tells that the limit is passed. */
    buf_init(&p->kept, (size_t)MAX(p->limits.head_bytes, TRAILER_BYTES) + 1);
}

void h1_request_init(struct h1_parser *p, const struct h1_limits *limits)
{
    parser_init(p, limits, true);
}

void h1_response_init(struct h1_parser *p, const struct h1_limits *limits)
{
    parser_init(p, limits, false);
}

void h1_fini(struct h1_parser *p)
{
    buf_fini(&p->kept);
    mem_free(p->hop);
    p->hop = NULL;
}

void h1_expect_response(struct h1_parser *p, bool head_request, bool connect_request, bool upgrade)
{
    p->upgrade = upgrade;
    p->no_content = head_request;
    p->connect = connect_request;
}

bool h1_at_start(const struct h1_parser *p)
{
    return p->state == ST_START;
}

bool h1_whole(const struct h1_parser *p)
{
    return p->state == ST_END;
}

static void hop_forget(struct h1_parser *p)
{
    mem_free(p->hop);
    p->hop = NULL;
}

static enum h1_event refuse(struct h1_parser *p, enum h1_refusal why)
{
    p->refusal = why;
    p->state = ST_REFUSED;
    buf_fini(&p->kept);
    hop_forget(p);
    return H1_EV_REFUSED;
}

/* --- gathering lines --- */

/* Look for the empty line that ends a block of lines, from *at (the start of a line) on. True with
 * *at behind it; false with *at where to look on, or *ret_bad set. */
static bool find_end(struct slice s, size_t *at, bool *ret_bad)
{
    *ret_bad = false;
    for (;;) {
        const char *nl = *at < s.len ? memchr(s.p + *at, '\n', s.len - *at) : NULL;
        if (!nl)
            return false;
        size_t i = (size_t)(nl - s.p);
        if (i == *at || s.p[i - 1] != '\r') {
            *ret_bad = true;
            return false;
        }
        bool empty = i == *at + 1;
        *at = i + 1;
        if (empty)
            return true;
    }
}

/* Gather a block that ends in an empty line from `in` and what is kept. H1_EV_HEAD: *ret_block is
 * complete (borrowed from `in` or `kept`), *ret_used tells how much of `in` it took. */
static enum h1_event gather(struct h1_parser *p, struct slice in, size_t max, enum h1_refusal over,
                            struct slice *ret_block, size_t *ret_used)
{
    size_t before = buf_len(&p->kept), at = 0;
    bool bad;
    /* Look at no more than the limit allows: the rest may be content or another message, and where
     * the bytes were cut must not change which rule was broken first. */
    struct slice all = slice_head(in, max + 1 - before);
    if (before) {
        buf_add_slice(&p->kept, all);
        if (buf_err(&p->kept) != ERR_OK)
            return refuse(p, H1_MEMORY);
        all = buf_slice(&p->kept);
        at = p->scanned;
    }
    bool found = find_end(all, &at, &bad);
    if (bad)
        return refuse(p, H1_BARE_LF);
    if (found && at <= max) {
        *ret_used = at - before;
        *ret_block = slice_head(all, at);
        if (before)
            buf_truncate(&p->kept, at);
        return H1_EV_HEAD;
    }
    if (found || all.len > max)
        return refuse(p, over);
    p->scanned = (uint32_t)at;
    *ret_used = in.len;
    if (!before) {
        buf_add_slice(&p->kept, in);
        if (buf_err(&p->kept) != ERR_OK)
            return refuse(p, H1_MEMORY);
    }
    return H1_EV_MORE;
}

static void gathered(struct h1_parser *p)
{
    buf_fini(&p->kept);
    p->scanned = 0;
}

static enum state after_head(struct h1_parser *p, const struct http_head *h)
{
    p->interim = !p->request && h->status < 200 && h->status != 101;
    if (!p->request && (h->status == 101 || (p->connect && h->status / 100 == 2)))
        return ST_RAW;
    if (p->request && slice_is(h->method, "CONNECT"))
        return ST_RAW;
    switch (h->body) {
    case HTTP_BODY_LENGTH:
        p->left = h->content_length;
        return p->left ? ST_LENGTH : ST_END;
    case HTTP_BODY_STREAM:
        return ST_CHUNK_SIZE;
    case HTTP_BODY_CLOSE:
        return ST_CLOSE;
    case HTTP_BODY_NONE:
        break;
    }
    return p->interim ? ST_START : ST_END;
}

static enum h1_event step_head(struct h1_parser *p, struct slice in, size_t *ret_used,
                               struct http_head *h)
{
    struct slice block;
    /* One empty line in front of a request line is forgiven (RFC 9112 2.2). */
    if (p->request && p->state == ST_START && in.p[0] == '\r') {
        p->state = ST_START_LF;
        *ret_used = 1;
        return H1_EV_MORE;
    }
    if (p->state == ST_START_LF) {
        if (in.p[0] != '\n')
            return refuse(p, H1_BARE_CR);
        p->state = ST_HEAD;
        *ret_used = 1;
        return H1_EV_MORE;
    }
    p->state = ST_HEAD;
    enum h1_event ev = gather(p, in, p->limits.head_bytes, H1_HEAD_TOO_LARGE, &block, ret_used);
    if (ev != H1_EV_HEAD)
        return ev;
    struct slice copy = arena_slice(h->arena, block);
    gathered(p);
    if (!copy.p)
        return refuse(p, H1_MEMORY);
    enum h1_refusal r = h1_read_head(p, h, copy);
    if (r != H1_NONE)
        return refuse(p, r);
    p->state = (uint8_t)after_head(p, h);
    return H1_EV_HEAD;
}

/* --- content --- */

static enum h1_event step_counted(struct h1_parser *p, struct slice in, size_t *ret_used,
                                  struct slice *ret_body, enum state then)
{
    size_t n = in.len < p->left ? in.len : (size_t)p->left;
    p->left -= n;
    *ret_body = slice_head(in, n);
    *ret_used = n;
    if (p->left == 0)
        p->state = (uint8_t)then;
    return H1_EV_BODY;
}

/* chunk-size [ chunk-ext ] (RFC 9112 7.1): hex digits, then CRLF or ";extensions", which are
 * dropped. */
static enum h1_refusal parse_chunk_line(struct slice line, uint64_t *ret)
{
    size_t n = 0;
    while (n < line.len && n < 17 &&
           ((line.p[n] >= '0' && line.p[n] <= '9') ||
            ((line.p[n] | 0x20) >= 'a' && (line.p[n] | 0x20) <= 'f')))
        n++;
    if (n == 0 || n > 15 || !slice_hex64(slice_head(line, n), ret))
        return H1_CHUNK_SIZE;
    if (n == line.len)
        return H1_NONE;
    if (line.p[n] != ';')
        return H1_CHUNK_SIZE;
    return http_value_ok(slice_skip(line, n)) ? H1_NONE : H1_CHUNK_EXTENSION;
}

static enum h1_event step_chunk_size(struct h1_parser *p, struct slice in, size_t *ret_used)
{
    const char *nl = memchr(in.p, '\n', in.len);
    size_t n = nl ? (size_t)(nl - in.p) + 1 : in.len;
    struct slice line = slice_head(in, n);
    if (buf_len(&p->kept) + n > CHUNK_LINE_MAX)
        return refuse(p, H1_CHUNK_EXTENSION);
    *ret_used = n;
    if (buf_len(&p->kept) || !nl) {
        buf_add_slice(&p->kept, line);
        if (buf_err(&p->kept) != ERR_OK)
            return refuse(p, H1_MEMORY);
        line = buf_slice(&p->kept);
    }
    if (!nl)
        return H1_EV_MORE;
    if (line.len < 2 || line.p[line.len - 2] != '\r')
        return refuse(p, H1_BARE_LF);
    enum h1_refusal r = parse_chunk_line(slice_head(line, line.len - 2), &p->left);
    gathered(p);
    if (r != H1_NONE)
        return refuse(p, r);
    p->state = p->left ? ST_CHUNK_DATA : ST_TRAILERS;
    return H1_EV_MORE;
}

static enum h1_event step_chunk_crlf(struct h1_parser *p, struct slice in, size_t *ret_used)
{
    while (*ret_used < in.len) {
        char want = p->left == 0 ? '\r' : '\n';
        if (in.p[(*ret_used)++] != want)
            return refuse(p, H1_CHUNK_END);
        if (p->left++ == 1) {
            p->left = 0;
            p->state = ST_CHUNK_SIZE;
            break;
        }
    }
    return H1_EV_MORE;
}

static enum h1_event step_trailers(struct h1_parser *p, struct slice in, size_t *ret_used,
                                   struct http_head *h)
{
    struct slice block;
    enum h1_event ev = gather(p, in, TRAILER_BYTES, H1_TRAILERS_TOO_LARGE, &block, ret_used);
    if (ev != H1_EV_HEAD)
        return ev;
    struct slice copy = arena_slice(h->arena, block);
    gathered(p);
    enum h1_refusal r = copy.p ? h1_read_trailers(p, h, copy) : H1_MEMORY;
    if (r != H1_NONE)
        return refuse(p, r);
    hop_forget(p);
    p->state = ST_START;
    return H1_EV_END;
}

enum h1_event h1_step(struct h1_parser *p, struct slice in, size_t *ret_used,
                      struct http_head *head, struct slice *ret_body)
{
    size_t total = 0;
    for (;;) {
        size_t used = 0;
        enum h1_event ev = H1_EV_MORE;
        enum state before = p->state;
        if (before == ST_END) {
            p->state = ST_START;
            *ret_used = total;
            return H1_EV_END;
        }
        if (before == ST_REFUSED) {
            *ret_used = total;
            return H1_EV_REFUSED;
        }
        if (in.len == 0) {
            *ret_used = total;
            return H1_EV_MORE;
        }
        switch (before) {
        case ST_START:
        case ST_START_LF:
        case ST_HEAD:
            ev = step_head(p, in, &used, head);
            break;
        case ST_LENGTH:
            ev = step_counted(p, in, &used, ret_body, ST_END);
            break;
        case ST_CHUNK_DATA:
            ev = step_counted(p, in, &used, ret_body, ST_CHUNK_CRLF);
            break;
        case ST_CHUNK_SIZE:
            ev = step_chunk_size(p, in, &used);
            break;
        case ST_CHUNK_CRLF:
            ev = step_chunk_crlf(p, in, &used);
            break;
        case ST_TRAILERS:
            ev = step_trailers(p, in, &used, head);
            break;
        case ST_CLOSE:
        case ST_RAW:
            *ret_body = in;
            used = in.len;
            ev = H1_EV_BODY;
            break;
        case ST_END:
        case ST_REFUSED:
            break;
        }
        total += used;
        in = slice_skip(in, used);
        if (ev != H1_EV_MORE) {
            *ret_used = total;
            return ev;
        }
    }
}

enum h1_event h1_eof(struct h1_parser *p)
{
    switch ((enum state)p->state) {
    case ST_START:
        return H1_EV_MORE;
    case ST_CLOSE:
    case ST_RAW:
    case ST_END:
        p->state = ST_START;
        return H1_EV_END;
    default:
        return refuse(p, H1_TRUNCATED);
    }
}
