/* SPDX-License-Identifier: Apache-2.0 */
/* A whole head, or trailer section, as text: start line, fields, framing. */
#include "lib/http/h1_int.h"

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

enum { TARGET_MAX = 32 * 1024 };

/* The next line without its CRLF; the block is known to hold whole lines. */
static struct slice next_line(struct slice *block)
{
    const char *nl = memchr(block->p, '\n', block->len);
    size_t n = (size_t)(nl - block->p);
    struct slice line = slice_head(*block, n - 1);
    *block = slice_skip(*block, n + 1);
    return line;
}

/* --- start lines --- */

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

bool h1_target_ok(struct slice t)
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
bool h1_authority_ok(struct slice a)
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
    if (!h1_target_ok(t))
        return H1_TARGET;
    if (slice_is(h->method, "CONNECT")) {
        if (!h1_authority_ok(t) || slice_chr(t, ':') < 0)
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
    if (!h1_authority_ok(h->authority))
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

/* --- fields --- */

struct framing {
    unsigned n_length, n_coding, n_host;
    struct slice length, coding, host, upgrade, connection[8];
    unsigned n_connection;
    bool close, keep_alive, upgrade_listed, te_trailers, too_many;
    bool alias; /* a name that gateways to CGI and its kin take for one of framing */
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
        else if (slice_ieq(item, SL("te")))
            continue; /* never in the list */
        else if (item.len && f->n_connection < N_OF(f->connection))
            f->connection[f->n_connection++] = item;
        else if (item.len)
            f->too_many = true; /* one that is not remembered would be passed on */
    }
}

/* Of TE only the word that says that trailers are not discarded means something to a codec whose
 * one coding is chunked (RFC 9110 10.1.4). */
static void parse_te(struct framing *f, struct slice value)
{
    struct slice item;
    while (slice_next(&value, ',', &item))
        if (slice_ieq(slice_trim(item), SL("trailers")))
            f->te_trailers = true;
}

/* Fields that speak of this connection or of the framing stay out of the head's list. */
static bool take_framing(struct framing *f, const struct http_field *fld)
{
    struct slice n = fld->name;
    switch (n.len) {
    case 2:
        if (!slice_is(n, "te"))
            return false;
        parse_te(f, fld->value);
        return true;
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
        if (!slice_is(n, "content-length")) {
            f->alias = f->alias || slice_is(n, "content_length");
            return slice_is(n, "http2-settings"); /* of an upgrade that is not passed on */
        }
        f->n_length++;
        f->length = fld->value;
        return true;
    case 16:
        return slice_is(n, "proxy-connection");
    case 17:
        if (!slice_is(n, "transfer-encoding")) {
            f->alias = f->alias || slice_is(n, "transfer_encoding");
            return false;
        }
        f->n_coding++;
        f->coding = fld->value;
        return true;
    default:
        return false;
    }
}

static enum h1_refusal parse_fields(const struct h1_parser *p, struct http_head *h,
                                    struct slice block, struct framing *f)
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

/* --- framing (RFC 9112 6.3) --- */

static enum h1_refusal parse_framing(struct http_head *h, const struct framing *f)
{
    if (f->alias)
        return H1_FIELD_ALIAS;
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

static bool has_content(const struct http_head *h)
{
    return h->body == HTTP_BODY_STREAM || (h->body == HTTP_BODY_LENGTH && h->content_length);
}

/* Whether the content is waited for is asked in one way only. A request without content does not
 * ask (RFC 9110 10.1.1), nor does HTTP/1.0. */
static enum h1_refusal settle_expect(struct http_head *h)
{
    int i = http_head_next(h, SL("expect"), 0);
    if (i < 0)
        return H1_NONE;
    if (h->version == HTTP_1_1 && (!slice_ieq(h->fields[i].value, SL("100-continue")) ||
                                   http_head_next(h, SL("expect"), i + 1) >= 0))
        return H1_EXPECTATION;
    h->expect_continue = h->version == HTTP_1_1 && has_content(h);
    if (!h->expect_continue)
        http_head_remove(h, SL("expect"));
    return H1_NONE;
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
        if (f->host.len && !h1_authority_ok(f->host))
            return H1_HOST_INVALID;
        /* Absolute and authority form: what the target says must be what Host says. */
        if (h->authority.len && !slice_ieq(h->authority, f->host))
            return H1_HOST_INVALID;
        h->authority = f->host;
    }
    parse_hop_by_hop(h, f);
    h->te_trailers = f->te_trailers && h->version == HTTP_1_1;
    if (has_content(h))
        h->upgrade = SLICE_NULL; /* the server may ignore it (RFC 9110 7.8); where content ends and
                                    the other protocol begins is thus no question */
    return settle_expect(h);
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
    if (h->status == 101 && !p->upgrade)
        return H1_UPGRADE_UNASKED;
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

/* What Connection names is of this hop alone, as a trailer also (RFC 9110 7.6.1). The head may be
 * gone when the trailers come, hence a copy. */
static enum h1_refusal remember_hop(struct h1_parser *p, const struct framing *f)
{
    size_t len = 0;
    for (unsigned i = 0; i < f->n_connection; i++)
        len += f->connection[i].len + 1;
    char *to = p->hop = mem_alloc(len);
    if (!to)
        return H1_MEMORY;
    for (unsigned i = 0; i < f->n_connection; i++) {
        memcpy(to, f->connection[i].p, f->connection[i].len);
        to += f->connection[i].len;
        *to++ = i + 1 < f->n_connection ? ',' : '\0';
    }
    return H1_NONE;
}

enum h1_refusal h1_read_head(struct h1_parser *p, struct http_head *h, struct slice block)
{
    struct slice line = next_line(&block);
    enum h1_refusal r = p->request ? parse_request_line(h, line) : parse_status_line(h, line);
    struct framing f = {0};
    if (r == H1_NONE)
        r = parse_fields(p, h, block, &f);
    if (r == H1_NONE)
        r = p->request ? settle_request(h, &f) : settle_response(p, h, &f);
    if (r == H1_NONE && f.n_connection && h->body == HTTP_BODY_STREAM)
        r = remember_hop(p, &f);
    return r;
}

/* --- trailers (RFC 9110 6.5) --- */

bool h1_trailer_ok(struct slice name)
{
    /* clang-format off */
    static const char *const names[] = {
        /* framing, routing, this connection */
        "content-length", "transfer-encoding", "content_length", "transfer_encoding", "host", "connection", "keep-alive", "te", "trailer",
        "upgrade", "proxy-connection", "http2-settings",
        /* what the request asks for and on which conditions */
        "cache-control", "expect", "max-forwards", "pragma", "range", "if-match", "if-none-match",
        "if-modified-since", "if-unmodified-since", "if-range",
        /* credentials and state */
        "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "cookie",
        "set-cookie",
        /* how to read the content, and what the answer means */
        "content-encoding", "content-type", "content-range", "age", "date", "expires", "location",
        "retry-after", "vary", "warning",
    };
    /* clang-format on */
    for (size_t i = 0; i < N_OF(names); i++)
        if (slice_is(name, names[i]))
            return false;
    return true;
}

static bool hop_names(const struct h1_parser *p, struct slice name)
{
    struct slice list = slice_str(p->hop ? p->hop : ""), item;
    while (slice_next(&list, ',', &item))
        if (slice_ieq(item, name))
            return true;
    return false;
}

enum h1_refusal h1_read_trailers(const struct h1_parser *p, struct http_head *h, struct slice block)
{
    enum h1_refusal r = parse_fields(p, h, block, NULL);
    uint32_t to = 0;
    for (uint32_t i = 0; r == H1_NONE && i < h->n_fields; i++)
        if (h1_trailer_ok(h->fields[i].name) && !hop_names(p, h->fields[i].name))
            h->fields[to++] = h->fields[i];
    h->n_fields = to;
    return r;
}
