/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/h1.h"

#include "lib/base/cleanup.h"

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

enum {
    HEAD_BYTES = 60 * 1024,
    HEAD_FIELDS = 100,
    CHUNK_LINE_MAX = 256,
    TRAILER_BYTES = 8192,
    TARGET_MAX = 32 * 1024
};

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
}

void h1_expect_response(struct h1_parser *p, bool head_request, bool connect_request)
{
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

static enum h1_event refuse(struct h1_parser *p, enum h1_refusal why)
{
    p->refusal = why;
    p->state = ST_REFUSED;
    buf_fini(&p->kept);
    return H1_EV_REFUSED;
}

/* --- gathering lines
 * ------------------------------------------------------------------------------- */

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

/* The next line without its CRLF; the block is known to hold whole lines. */
static struct slice next_line(struct slice *block)
{
    const char *nl = memchr(block->p, '\n', block->len);
    size_t n = (size_t)(nl - block->p);
    struct slice line = slice_head(*block, n - 1);
    *block = slice_skip(*block, n + 1);
    return line;
}

/* --- start lines
 * ------------------------------------------------------------------------------------ */

static enum h1_refusal parse_version(struct slice s, enum http_version *ret)
{
    if (slice_is(s, "HTTP/1.1"))
        *ret = HTTP_1_1;
    else if (slice_is(s, "HTTP/1.0"))
        *ret = HTTP_1_0;
    else
        return s.len == 8 && slice_starts(s, SL("HTTP/")) && s.p[6] == '.' ? H1_VERSION
                                                                           : H1_REQUEST_LINE;
    return H1_NONE;
}

/* Visible ASCII without '"', '#', '<', '>'. */
static const bool target_byte[256] = {
    ['!'] = true, ['$' ... ';'] = true, ['='] = true, ['?' ... '~'] = true};
static const bool host_byte[256] = {
    ['-'] = true,         ['.'] = true,         ['_'] = true,
    ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true};

static bool target_bytes_ok(struct slice t)
{
    for (size_t i = 0; i < t.len; i++)
        if (!target_byte[(unsigned char)t.p[i]])
            return false;
    return t.len > 0;
}

/* An IPv6 address between its brackets: no zone, no IPvFuture. */
static bool ipv6_bytes_ok(struct slice a)
{
    for (size_t i = 0; i < a.len; i++) {
        char c = a.p[i], low = (char)(c | 0x20);
        if (!((c >= '0' && c <= '9') || (low >= 'a' && low <= 'f') || c == ':' || c == '.'))
            return false;
    }
    return a.len >= 2;
}

/* Host and authority: a registered name or address with an optional port, nothing else (RFC
 * 9110 7.2; no userinfo, no list, no percent-encoding). An empty port is the default one (RFC
 * 3986 3.2.3). */
static bool authority_ok(struct slice a)
{
    struct slice port = SLICE_NULL;
    uint64_t number;
    size_t end;

    if (a.len && a.p[0] == '[') {
        ptrdiff_t bracket = slice_chr(a, ']');
        if (bracket < 0 || !ipv6_bytes_ok(slice_of(a.p + 1, (size_t)bracket - 1)))
            return false;
        end = (size_t)bracket + 1;
    } else {
        for (end = 0; end < a.len && host_byte[(unsigned char)a.p[end]];)
            end++;
    }
    if (end == 0)
        return false;
    if (end == a.len)
        return true;
    port = slice_skip(a, end + 1);
    return a.p[end] == ':' && (port.len == 0 || slice_u64(port, 65535, &number));
}

/* The four forms of a request target (RFC 9112 3.2). */
static enum h1_refusal parse_target(struct http_head *h, struct slice t)
{
    if (t.len > TARGET_MAX)
        return H1_TARGET_TOO_LONG;
    if (!target_bytes_ok(t))
        return H1_TARGET;
    if (slice_is(h->method, "CONNECT")) {
        if (!authority_ok(t) || slice_chr(t, ':') < 0)
            return H1_TARGET;
        h->authority = t;
        return H1_NONE;
    }
    if (t.p[0] == '/') {
        h->path = t;
        return H1_NONE;
    }
    if (slice_is(t, "*")) {
        h->path = t;
        return slice_is(h->method, "OPTIONS") ? H1_NONE : H1_TARGET;
    }
    struct slice rest;
    if (slice_istarts(t, SL("http://")))
        rest = slice_skip(t, 7);
    else if (slice_istarts(t, SL("https://")))
        rest = slice_skip(t, 8);
    else
        return H1_TARGET;
    size_t n = 0;
    while (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    h->authority = slice_head(rest, n);
    h->path = slice_skip(rest, n);
    if (!authority_ok(h->authority))
        return H1_TARGET;
    if (h->path.len == 0)
        h->path = SL("/");
    else if (h->path.p[0] == '?') {
        char *p = arena_alloc(h->arena, h->path.len + 1);
        if (!p)
            return H1_MEMORY;
        p[0] = '/';
        memcpy(p + 1, h->path.p, h->path.len);
        h->path = slice_of(p, h->path.len + 1);
    }
    return H1_NONE;
}

static enum h1_refusal parse_request_line(struct http_head *h, struct slice line)
{
    ptrdiff_t a = slice_chr(line, ' '), b = slice_rchr(line, ' ');
    if (a <= 0 || b == a)
        return H1_REQUEST_LINE;
    h->method = slice_head(line, (size_t)a);
    if (!http_name_ok(h->method) || h->method.len > 32)
        return H1_METHOD;
    enum h1_refusal r = parse_version(slice_skip(line, (size_t)b + 1), &h->version);
    if (r != H1_NONE)
        return r;
    h->scheme = SL("http");
    return parse_target(h, slice_head(slice_skip(line, (size_t)a + 1), (size_t)(b - a - 1)));
}

static enum h1_refusal parse_status_line(struct http_head *h, struct slice line)
{
    struct slice v;
    uint64_t status;
    if (line.len < 12 || line.p[8] != ' ')
        return H1_STATUS_LINE;
    v = slice_head(line, 8);
    if (parse_version(v, &h->version) != H1_NONE)
        return H1_STATUS_LINE;
    struct slice code = slice_head(slice_skip(line, 9), 3);
    if (!slice_u64(code, 999, &status) || status < 100 || (line.len > 12 && line.p[12] != ' '))
        return H1_STATUS_LINE;
    h->status = (uint16_t)status;
    h->reason = line.len > 13 ? slice_skip(line, 13) : SL("");
    return http_value_ok(h->reason) ? H1_NONE : H1_STATUS_LINE;
}

/* --- fields
 * ---------------------------------------------------------------------------------------- */

struct framing {
    unsigned n_length, n_coding, n_host;
    struct slice length, coding, host, upgrade, connection[8];
    unsigned n_connection;
    bool close, keep_alive, upgrade_listed, too_many;
};

/* What is wrong with a line that does not start with a name and a colon. */
static enum h1_refusal bad_name(const char *p, const char *end)
{
    const char *nl = memchr(p, '\n', (size_t)(end - p));

    if (*p == ' ' || *p == '\t')
        return H1_OBS_FOLD;
    return memchr(p, ':', (size_t)(nl - p)) ? H1_FIELD_NAME : H1_FIELD_LINE;
}

/* "name: value" CRLF at *at, which moves behind it; the name becomes lower case in place (the block
 * is the arena's copy). The block is known to end in CRLF CRLF and to hold no LF without CR, so
 * neither scan runs beyond it. */
static enum h1_refusal parse_field(char **at, char *end, struct http_field *ret)
{
    char *name = *at, *value;
    unsigned char c;
    size_t n = 0, len;

    while ((c = http_tchar[(unsigned char)name[n]]))
        name[n++] = (char)c;
    if (n == 0 || name[n] != ':')
        return bad_name(name, end);
    for (value = name + n + 1; *value == ' ' || *value == '\t';)
        value++;
    len = http_text_len(value, (size_t)(end - value));
    if (value[len] != '\r')
        return H1_FIELD_VALUE;
    if (value[len + 1] != '\n')
        return H1_BARE_CR;
    *at = value + len + 2;
    while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        len--;
    ret->name = slice_of(name, n);
    ret->value = slice_of(value, len);
    return H1_NONE;
}

static void parse_connection(struct framing *f, struct slice value)
{
    struct slice item;
    while (slice_next(&value, ',', &item)) {
        item = slice_trim(item);
        if (slice_ieq(item, SL("close")))
            f->close = true;
        else if (slice_ieq(item, SL("keep-alive")))
            f->keep_alive = true;
        else if (slice_ieq(item, SL("upgrade")))
            f->upgrade_listed = true;
        else if (item.len && f->n_connection < N_OF(f->connection))
            f->connection[f->n_connection++] = item;
        else if (item.len)
            f->too_many = true; /* one that is not remembered would be passed on */
    }
}

/* Fields that speak of this connection or of the framing stay out of the head's list. */
static bool take_framing(struct framing *f, const struct http_field *fld)
{
    struct slice n = fld->name;
    switch (n.len) {
    case 2:
        return slice_is(n, "te");
    case 4:
        if (!slice_is(n, "host"))
            return false;
        f->n_host++;
        f->host = fld->value;
        return true;
    case 7:
        if (!slice_is(n, "upgrade"))
            return false;
        f->upgrade = fld->value;
        return true;
    case 10:
        if (slice_is(n, "keep-alive"))
            return true;
        if (!slice_is(n, "connection"))
            return false;
        parse_connection(f, fld->value);
        return true;
    case 14:
        if (!slice_is(n, "content-length"))
            return false;
        f->n_length++;
        f->length = fld->value;
        return true;
    case 16:
        return slice_is(n, "proxy-connection");
    case 17:
        if (!slice_is(n, "transfer-encoding"))
            return false;
        f->n_coding++;
        f->coding = fld->value;
        return true;
    default:
        return false;
    }
}

static enum h1_refusal parse_fields(struct h1_parser *p, struct http_head *h, struct slice block,
                                    struct framing *f)
{
    char *at = (char *)(uintptr_t)block.p, *end = at + block.len;
    uint32_t seen = 0;

    while (at[0] != '\r' || at[1] != '\n') {
        struct http_field fld;
        enum h1_refusal r = parse_field(&at, end, &fld);

        if (r != H1_NONE)
            return r;
        if (++seen > p->limits.head_fields)
            return H1_TOO_MANY_FIELDS;
        if (f && take_framing(f, &fld)) {
            if (f->too_many)
                return H1_TOO_MANY_FIELDS;
            continue;
        }
        if (h->n_fields == h->cap_fields) {
            uint32_t cap = h->cap_fields ? h->cap_fields * 2 : 16;
            struct http_field *list = ARENA_ARRAY(h->arena, struct http_field, cap);
            if (!list)
                return H1_MEMORY;
            if (h->n_fields)
                memcpy(list, h->fields, h->n_fields * sizeof *list);
            h->fields = list;
            h->cap_fields = cap;
        }
        h->fields[h->n_fields++] = fld;
    }
    return H1_NONE;
}

/* --- framing (RFC 9112 6.3)
 * -------------------------------------------------------------------------- */

static enum h1_refusal parse_framing(struct http_head *h, const struct framing *f)
{
    if (f->n_coding && f->n_length)
        return H1_LENGTH_AND_CODING;
    if (f->n_coding) {
        if (h->version == HTTP_1_0)
            return H1_CODING_IN_1_0;
        if (f->n_coding > 1 || !slice_ieq(f->coding, SL("chunked")))
            return H1_CODING_UNKNOWN;
        h->body = HTTP_BODY_STREAM;
        return H1_NONE;
    }
    if (f->n_length) {
        if (f->n_length > 1)
            return H1_LENGTH_REPEATED;
        if (!slice_u64(f->length, INT64_MAX, &h->content_length))
            return H1_LENGTH_INVALID;
        h->body = HTTP_BODY_LENGTH;
    }
    return H1_NONE;
}

/* An upgrade to HTTP/2 is not passed on: nobody here would see its requests (RFC 9113 3.1 retired
 * it). */
static bool upgrade_ok(struct slice list)
{
    struct slice item;
    if (list.len == 0)
        return false;
    while (slice_next(&list, ',', &item))
        if (slice_istarts(slice_trim(item), SL("h2")))
            return false;
    return true;
}

static void parse_hop_by_hop(struct http_head *h, const struct framing *f)
{
    h->keep_alive = h->version == HTTP_1_1 ? !f->close : f->keep_alive && !f->close;
    /* RFC 9110 7.8: HTTP/1.0 has no Upgrade. */
    if (f->upgrade_listed && h->version == HTTP_1_1 && upgrade_ok(f->upgrade))
        h->upgrade = f->upgrade;
    for (unsigned i = 0; i < f->n_connection; i++)
        http_head_remove(h, f->connection[i]);
}

static enum h1_refusal settle_request(struct http_head *h, const struct framing *f)
{
    enum h1_refusal r = parse_framing(h, f);
    if (r != H1_NONE)
        return r;
    if (slice_is(h->method, "CONNECT")) { /* has no content (RFC 9110 9.3.6) */
        if (h->body == HTTP_BODY_STREAM || h->content_length)
            return H1_CONTENT_FORBIDDEN;
        h->body = HTTP_BODY_NONE;
    }
    if (f->n_host > 1)
        return H1_HOST_REPEATED;
    if (f->n_host == 0 && h->version == HTTP_1_1)
        return H1_HOST_MISSING;
    if (f->n_host) {
        /* Empty: the target has no authority (RFC 9112 3.2). */
        if (f->host.len && !authority_ok(f->host))
            return H1_HOST_INVALID;
        /* Absolute and authority form: what the target says must be what Host says. */
        if (h->authority.len && !slice_ieq(h->authority, f->host))
            return H1_HOST_INVALID;
        h->authority = f->host;
    }
    parse_hop_by_hop(h, f);
    h->expect_continue = slice_ieq(http_head_get(h, SL("expect")), SL("100-continue"));
    return H1_NONE;
}

/* No content whatever the fields say (RFC 9112 6.3, 1 and 2). */
static bool answer_is_bare(const struct h1_parser *p, const struct http_head *h)
{
    return p->no_content || h->status < 200 || h->status == 204 || h->status == 304;
}

static enum h1_refusal settle_response(struct h1_parser *p, struct http_head *h,
                                       const struct framing *f)
{
    bool bare = answer_is_bare(p, h);
    bool tunnel = h->status == 101 || (p->connect && h->status / 100 == 2);
    if (f->n_coding && (h->status < 200 || h->status == 204 || tunnel))
        return H1_CODING_FORBIDDEN;
    enum h1_refusal r = parse_framing(h, f);
    if (r != H1_NONE)
        return r;
    parse_hop_by_hop(h, f);
    if (bare || tunnel) {
        /* An answer to HEAD tells the length that GET would have. */
        if (h->body == HTTP_BODY_LENGTH && h->status >= 200 && h->status != 204 && !tunnel &&
            http_head_add(h, SL("content-length"), f->length) != ERR_OK)
            return H1_MEMORY;
        h->body = HTTP_BODY_NONE;
        h->content_length = 0;
        h->bare = p->no_content || tunnel;
    } else if (!f->n_coding && !f->n_length) {
        h->body = HTTP_BODY_CLOSE;
        h->keep_alive = false;
    }
    return H1_NONE;
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
    struct slice line = next_line(&copy);
    enum h1_refusal r = p->request ? parse_request_line(h, line) : parse_status_line(h, line);
    struct framing f = {0};
    if (r == H1_NONE)
        r = parse_fields(p, h, copy, &f);
    if (r == H1_NONE)
        r = p->request ? settle_request(h, &f) : settle_response(p, h, &f);
    if (r != H1_NONE)
        return refuse(p, r);
    p->state = (uint8_t)after_head(p, h);
    return H1_EV_HEAD;
}

/* --- content
 * ---------------------------------------------------------------------------------------- */

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

/* Fields that must not come behind the content (RFC 9110 6.5.1): dropped. */
static bool trailer_forbidden(struct slice name)
{
    static const char *const names[] = {"content-length",
                                        "transfer-encoding",
                                        "host",
                                        "connection",
                                        "te",
                                        "trailer",
                                        "authorization",
                                        "content-type",
                                        "content-encoding",
                                        "content-range",
                                        "cache-control",
                                        "expect",
                                        "max-forwards",
                                        "set-cookie",
                                        "cookie",
                                        "proxy-authorization",
                                        "upgrade",
                                        "keep-alive"};
    for (size_t i = 0; i < N_OF(names); i++)
        if (slice_is(name, names[i]))
            return true;
    return false;
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
    enum h1_refusal r = copy.p ? parse_fields(p, h, copy, NULL) : H1_MEMORY;
    if (r != H1_NONE)
        return refuse(p, r);
    uint32_t to = 0;
    for (uint32_t i = 0; i < h->n_fields; i++)
        if (!trailer_forbidden(h->fields[i].name))
            h->fields[to++] = h->fields[i];
    h->n_fields = to;
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

/* --- writing
 * ---------------------------------------------------------------------------------------- */

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

/* Fields, what this connection is told, and the framing. `tell_empty`: an answer without content
 * says so where its end would else be the connection's. */
static char *put_fields(char *to, const struct http_head *h, bool close, bool framing,
                        bool tell_empty)
{
    for (uint32_t i = 0; i < h->n_fields; i++)
        to = put_field(to, h->fields[i].name, h->fields[i].value);
    if (h->upgrade.len) {
        to = put_field(to, SL("connection"), close ? SL("upgrade, close") : SL("upgrade"));
        to = put_field(to, SL("upgrade"), h->upgrade);
    } else if (close) {
        to = put(to, SL("connection: close\r\n"));
    }
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

    if (!http_name_ok(h->method) || !target_bytes_ok(target) || !http_value_ok(h->authority) ||
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
        if (!trailer_forbidden(trailers->fields[i].name))
            to = put_field(to, trailers->fields[i].name, trailers->fields[i].value);
    to = put(to, SL("\r\n"));
    buf_commit(out, (size_t)(to - start));
    return ERR_OK;
}
