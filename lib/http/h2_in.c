/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that come: what RFC 9113 8 asks of them, and what the HTTP/1 codec asks, as a message
 * may leave as HTTP/1. A message that breaks a rule is refused whole; nothing is repaired. */
#include "lib/base/cleanup.h"
#include "lib/http/h1_int.h"
#include "lib/http/h2_int.h"

enum { TARGET_MAX = 32 * 1024, TRAILERS_MAX = 8 * 1024, METHOD_MAX = 32 };

const char *h2_refusal_detail(enum h2_refusal r)
{
    static const char *const details[] = {
#define X(name, status, detail) [H2_##name] = (detail),
        H2_REFUSALS(X)
#undef X
    };
    return details[r];
}

static unsigned refusal_status(enum h2_refusal r)
{
    static const uint16_t status[] = {
#define X(name, status, detail) [H2_##name] = (status),
        H2_REFUSALS(X)
#undef X
    };
    return status[r];
}

/* The message breaks a rule: the stream goes. What a client provokes so is rationed like its own
 * resets (CVE-2025-8671). */
static void malformed(struct h2_stream *s, enum h2_refusal r)
{
    struct h2 *h = s->h;

    h2_rst(s, r == H2_TRAILERS_LARGE ? H2_ENHANCE_YOUR_CALM : H2_PROTOCOL_ERROR);
    h2_broken(s, H2_WHY_MALFORMED, H2_PROTOCOL_ERROR, h2_refusal_detail(r));
    if (!h->closed && h->server)
        h2_ration(h, H2_LIMIT_RESETS);
}

/* --- a block begins --- */

int h2_on_begin(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (f->hd.type != NGHTTP2_HEADERS)
        return 0;
    h->block = (struct h2_block){.open = true, .since_ns = loop_now(h2_loop(h))};
    if (h->closed || h->dying)
        return 0;
    if (h->server && f->headers.cat == NGHTTP2_HCAT_REQUEST) {
        s = h2_stream_new(h, NULL);
        if (!s)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        s->id = f->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, s->id, s);
        s->arena = h->ops->on_open(h, s);
        if (h->closed)
            return 0;
        if (!s->arena) {
            h->block.open = false;
            h2_detach(s);
            h2_rst(s, H2_REFUSED_STREAM);
            return 0;
        }
    } else {
        s = nghttp2_session_get_stream_user_data(session, f->hd.stream_id);
    }
    if (!s || !s->attached)
        return 0;
    h->block.s = s;
    h->block.trailers = s->in_head;
    h->block.head = ARENA_NEW(s->arena, struct http_head);
    if (!h->block.head) {
        h->block.refusal = H2_MEMORY;
        return 0;
    }
    http_head_init(h->block.head, s->arena);
    h->block.head->version = HTTP_2;
    return 0;
}

/* --- its fields --- */

static struct slice of_rcbuf(nghttp2_rcbuf *r)
{
    nghttp2_vec v = nghttp2_rcbuf_get_buf(r);
    return slice_of(v.base, v.len);
}

/* Texts of HPACK's static table live as long as the program. */
static struct slice keep(struct h2_block *b, nghttp2_rcbuf *r)
{
    struct slice s = of_rcbuf(r), copy;

    if (nghttp2_rcbuf_is_static(r))
        return s;
    if (s.len == 0)
        return SL("");
    copy = arena_slice(b->head->arena, s);
    if (!copy.p)
        b->refusal = H2_MEMORY;
    return copy;
}

static bool name_ok(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (http_tchar[(unsigned char)name.p[i]] != (unsigned char)name.p[i] || name.p[i] == '\0')
            return false;
    return name.len > 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static bool value_ok(struct slice v)
{
    return v.len == 0 || (!is_space(v.p[0]) && !is_space(v.p[v.len - 1]) && http_value_ok(v));
}

static enum h2_refusal once(bool *seen)
{
    if (*seen)
        return H2_PSEUDO_TWICE;
    *seen = true;
    return H2_NONE;
}

static enum h2_refusal pseudo(struct h2_block *b, bool server, struct slice name,
                              nghttp2_rcbuf *value)
{
    struct http_head *head = b->head;
    struct slice *to;
    bool *seen;
    uint64_t status;

    if (b->trailers)
        return H2_PSEUDO_TRAILER;
    if (b->regular)
        return H2_PSEUDO_LATE;
    if (!server) {
        if (!slice_is(name, ":status"))
            return H2_PSEUDO_UNKNOWN;
        struct slice v = of_rcbuf(value);
        if (v.len != 3 || !slice_u64(v, 999, &status) || status < 100)
            return H2_STATUS;
        head->status = (uint16_t)status;
        return once(&b->status);
    }
    if (slice_is(name, ":method"))
        to = &head->method, seen = &b->method;
    else if (slice_is(name, ":scheme"))
        to = &head->scheme, seen = &b->scheme;
    else if (slice_is(name, ":path"))
        to = &head->path, seen = &b->path;
    else if (slice_is(name, ":authority"))
        to = &head->authority, seen = &b->authority;
    else
        return H2_PSEUDO_UNKNOWN; /* also :protocol, which is not offered (RFC 8441 3) */
    *to = keep(b, value);
    return b->refusal != H2_NONE ? b->refusal : once(seen);
}

bool h2_hop_field(struct slice n)
{
    switch (n.len) {
    case 2:
        return slice_is(n, "te");
    case 4:
        return slice_is(n, "host");
    case 7:
        return slice_is(n, "upgrade");
    case 10:
        return slice_is(n, "connection") || slice_is(n, "keep-alive");
    case 14:
        return slice_is(n, "content-length") || slice_is(n, "content_length") ||
               slice_is(n, "http2-settings");
    case 16:
        return slice_is(n, "proxy-connection");
    case 17:
        return slice_is(n, "transfer-encoding") || slice_is(n, "transfer_encoding");
    default:
        return false;
    }
}

/* Fields that speak of the connection or of framing: never in the list. */
static enum h2_refusal framing(struct h2_block *b, struct slice name, nghttp2_rcbuf *value)
{
    if (slice_is(name, "host")) {
        if (b->n_host++)
            return H2_HOST;
        b->host = keep(b, value);
        return b->refusal;
    }
    if (slice_is(name, "content-length")) {
        if (b->n_length++)
            return H2_LENGTH;
        b->length = keep(b, value);
        return b->refusal;
    }
    if (slice_is(name, "te")) {
        b->te = true;
        return slice_ieq(of_rcbuf(value), SL("trailers")) ? H2_NONE : H2_TE;
    }
    if (slice_is(name, "content_length") || slice_is(name, "transfer_encoding"))
        return H2_ALIAS;
    return slice_is(name, "http2-settings") ? H2_NONE : H2_CONNECTION_FIELD;
}

static enum h2_refusal field(struct h2 *h, nghttp2_rcbuf *name_buf, nghttp2_rcbuf *value_buf)
{
    struct h2_block *b = &h->block;
    struct slice name = of_rcbuf(name_buf), value = of_rcbuf(value_buf);

    b->bytes += (uint32_t)(name.len + value.len) + H2_FIELD_COST;
    if (b->bytes > (b->trailers ? TRAILERS_MAX : h->config.head_bytes))
        return b->trailers ? H2_TRAILERS_LARGE : H2_TOO_LARGE;
    if (name.len && name.p[0] == ':')
        return value_ok(value) ? pseudo(b, h->server, name, value_buf) : H2_VALUE;
    b->regular = true;
    if (!name_ok(name))
        return H2_NAME;
    if (!value_ok(value))
        return H2_VALUE;
    bool crumb = slice_is(name, "cookie");
    b->cookies = (uint16_t)(b->cookies + crumb);
    if (!(crumb && b->cookies > 1) && ++b->fields > h->config.head_fields)
        return b->trailers ? H2_TRAILERS_LARGE : H2_TOO_MANY;
    if (h2_hop_field(name))
        return framing(b, name, value_buf);
    if (b->trailers && !h1_trailer_ok(name))
        return H2_NONE;
    struct http_field fld = {keep(b, name_buf), keep(b, value_buf)};
    if (b->refusal != H2_NONE)
        return b->refusal;
    struct http_field *to = http_head_push(b->head);
    if (!to)
        return H2_MEMORY;
    *to = fld;
    return H2_NONE;
}

int h2_on_field(nghttp2_session *session, const nghttp2_frame *f, nghttp2_rcbuf *name,
                nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    struct h2 *h = user;

    (void)session, (void)f, (void)flags;
    /* After a refusal the block is read on for the sake of HPACK's state alone. */
    if (h->block.s && h->block.refusal == H2_NONE)
        h->block.refusal = field(h, name, value);
    return 0;
}

/* --- the block is whole --- */

/* Crumbs are one field to everybody else (RFC 9113 8.2.3). */
static enum h2_refusal join_cookies(struct http_head *head)
{
    int first = http_head_next(head, SL("cookie"), 0);
    size_t len = 0;
    uint32_t to;
    char *p, *at;

    for (int i = first; i >= 0; i = http_head_next(head, SL("cookie"), i + 1))
        len += head->fields[i].value.len + 2;
    p = at = arena_alloc(head->arena, len);
    if (!p)
        return H2_MEMORY;
    for (int i = first; i >= 0; i = http_head_next(head, SL("cookie"), i + 1)) {
        struct slice v = head->fields[i].value;
        if (i != first) {
            *at++ = ';';
            *at++ = ' ';
        }
        memcpy(at, v.p, v.len);
        at += v.len;
    }
    head->fields[first].value = slice_of(p, (size_t)(at - p));
    to = (uint32_t)first + 1;
    for (uint32_t i = to; i < head->n_fields; i++)
        if (!slice_is(head->fields[i].name, "cookie"))
            head->fields[to++] = head->fields[i];
    head->n_fields = to;
    return H2_NONE;
}

static enum h2_refusal settle_length(struct h2_block *b, bool end)
{
    struct http_head *head = b->head;

    head->body = end ? HTTP_BODY_NONE : HTTP_BODY_STREAM;
    if (!b->n_length)
        return H2_NONE;
    if (!slice_u64(b->length, INT64_MAX, &head->content_length))
        return H2_LENGTH;
    head->body = HTTP_BODY_LENGTH;
    return H2_NONE;
}

static enum h2_refusal settle_authority(struct h2_block *b)
{
    struct http_head *head = b->head;

    if (!b->authority && !b->n_host)
        return H2_AUTHORITY_NONE;
    if (b->authority && !h1_authority_ok(head->authority))
        return H2_AUTHORITY;
    if (b->n_host && !h1_authority_ok(b->host))
        return H2_HOST;
    if (b->authority && b->n_host && !slice_ieq(head->authority, b->host))
        return H2_HOST;
    if (!b->authority)
        head->authority = b->host;
    return H2_NONE;
}

static enum h2_refusal settle_target(struct h2_block *b)
{
    struct http_head *head = b->head;

    if (slice_is(head->method, "CONNECT")) {
        if (b->scheme || b->path)
            return H2_PSEUDO_CONNECT;
        if (!b->authority)
            return H2_PSEUDO_MISSING;
        head->scheme = SL("http");
        return slice_chr(head->authority, ':') < 0 ? H2_AUTHORITY : H2_NONE;
    }
    if (!b->scheme || !b->path)
        return H2_PSEUDO_MISSING;
    if (slice_ieq(head->scheme, SL("http")))
        head->scheme = SL("http");
    else if (slice_ieq(head->scheme, SL("https")))
        head->scheme = SL("https");
    else
        return H2_SCHEME;
    if (head->path.len > TARGET_MAX)
        return H2_TARGET_LONG;
    if (!h1_target_ok(head->path))
        return H2_TARGET;
    if (slice_is(head->path, "*"))
        return slice_is(head->method, "OPTIONS") ? H2_NONE : H2_TARGET;
    return head->path.p[0] == '/' ? H2_NONE : H2_TARGET;
}

/* As the HTTP/1 codec has it: one way to ask, and only where there is content to wait for. */
static enum h2_refusal settle_expect(struct http_head *head)
{
    int i = http_head_next(head, SL("expect"), 0);

    if (i < 0)
        return H2_NONE;
    if (!slice_ieq(head->fields[i].value, SL("100-continue")) ||
        http_head_next(head, SL("expect"), i + 1) >= 0)
        return H2_EXPECTATION;
    head->expect_continue = head->body == HTTP_BODY_STREAM || head->content_length;
    if (!head->expect_continue)
        http_head_remove(head, SL("expect"));
    return H2_NONE;
}

static enum h2_refusal settle_request(struct h2_block *b, struct h2_stream *s, bool end)
{
    struct http_head *head = b->head;
    enum h2_refusal r;

    if (!b->method)
        return H2_PSEUDO_MISSING;
    if (!http_name_ok(head->method) || head->method.len > METHOD_MAX)
        return H2_METHOD;
    s->head_request = slice_is(head->method, "HEAD");
    s->connect = slice_is(head->method, "CONNECT");
    if ((r = settle_target(b)) != H2_NONE || (r = settle_authority(b)) != H2_NONE ||
        (r = settle_length(b, end)) != H2_NONE)
        return r;
    if (s->connect) {
        if (b->n_length)
            return H2_LENGTH;
        head->body = HTTP_BODY_NONE;
    }
    if (head->content_length && end)
        return H2_LENGTH_DIFFERS;
    head->te_trailers = b->te;
    s->in_length = head->body == HTTP_BODY_LENGTH;
    s->in_left = head->content_length;
    if (b->cookies > 1 && (r = join_cookies(head)) != H2_NONE)
        return r;
    return settle_expect(head);
}

static enum h2_refusal settle_answer(struct h2_block *b, struct h2_stream *s, bool end)
{
    struct http_head *head = b->head;
    enum h2_refusal r;
    bool tunnel;

    if (!b->status)
        return H2_PSEUDO_MISSING;
    if (head->status == 101)
        return H2_SWITCHING;
    if (head->status < 200)
        return end ? H2_INTERIM_END : H2_NONE;
    if ((r = settle_length(b, end)) != H2_NONE)
        return r;
    tunnel = s->connect && head->status / 100 == 2;
    s->in_none = !tunnel && (s->head_request || head->status == 204 || head->status == 304);
    if (tunnel || s->in_none) {
        /* The length that GET would have is told. */
        if (b->n_length && !tunnel && head->status != 204 &&
            http_head_add(head, SL("content-length"), b->length) != ERR_OK)
            return H2_MEMORY;
        head->body = HTTP_BODY_NONE;
        head->content_length = 0;
        head->bare = s->head_request || tunnel;
        return H2_NONE;
    }
    if (head->content_length && end)
        return H2_LENGTH_DIFFERS;
    s->in_length = head->body == HTTP_BODY_LENGTH;
    s->in_left = head->content_length;
    return H2_NONE;
}

static void head_refused(struct h2_stream *s, struct h2_block *b)
{
    struct h2 *h = s->h;
    unsigned status = refusal_status(b->refusal);

    if (b->refusal == H2_TOO_LARGE || b->refusal == H2_TOO_MANY || b->refusal == H2_TRAILERS_LARGE)
        h2_hit(h, H2_LIMIT_HEAD);
    if (h->closed)
        return;
    if (b->refusal == H2_MEMORY) {
        h2_rst(s, H2_INTERNAL_ERROR);
        h2_broken(s, H2_WHY_MEMORY, H2_INTERNAL_ERROR, h2_refusal_detail(b->refusal));
    } else if (h->server && status && !b->trailers) {
        s->in_head = true;
        if (slice_is(b->head->method, "HEAD"))
            s->head_request = true;
        h->ops->on_refused(s, b->head, status, h2_refusal_detail(b->refusal));
    } else {
        malformed(s, b->refusal);
    }
}

static void message_end(struct h2_stream *s, struct http_head *trailers)
{
    struct h2 *h = s->h;

    if (s->in_length && s->in_left) {
        malformed(s, H2_LENGTH_DIFFERS);
        return;
    }
    s->in_end = true;
    if (!h->server)
        h2_detach(s);
    h->ops->on_end(s, trailers);
    /* A client whose answer is whole before its request: the rest is of no use (RFC 9113 8.1). */
    if (!h->server && !h->closed && !s->out_end)
        h2_rst(s, H2_CANCEL);
}

static void block_end(struct h2_stream *s, struct h2_block *b, bool end)
{
    struct h2 *h = s->h;

    if (b->refusal == H2_NONE) {
        if (b->trailers)
            b->refusal = end ? H2_NONE : H2_TRAILERS_OPEN;
        else
            b->refusal = h->server ? settle_request(b, s, end) : settle_answer(b, s, end);
    }
    if (b->refusal != H2_NONE) {
        head_refused(s, b);
        return;
    }
    if (b->trailers) {
        message_end(s, b->head->n_fields ? b->head : NULL);
        return;
    }
    bool interim = !h->server && b->head->status < 200;
    s->in_head = !interim;
    h->ops->on_head(s, b->head, interim);
    if (end && !h->closed && s->attached)
        message_end(s, NULL);
}

/* --- content --- */

int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
               void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);

    (void)flags;
    if (h->closed)
        return 0;
    h->conn_owed += (uint32_t)n;
    if (!s || !s->attached) {
        if (s)
            h2_drop(s, (uint32_t)n);
        h2_credit_conn(h);
        return 0;
    }
    s->owed += (uint32_t)n;
    h->held += (uint32_t)n;
    if (!s->in_head || s->in_none || (s->in_length && n > s->in_left)) {
        malformed(s, !s->in_head ? H2_CONTENT_FIRST : s->in_none ? H2_CONTENT : H2_LENGTH_DIFFERS);
        return 0;
    }
    s->in_left -= s->in_length ? n : 0;
    h->ops->on_body(s, slice_of(p, n));
    if (!h->closed && s->attached && !s->paused)
        h2_credit(s, s->owed);
    return 0;
}

void h2_in_frame(struct h2_stream *s, const nghttp2_frame *f)
{
    struct h2 *h = s->h;
    bool end = f->hd.flags & NGHTTP2_FLAG_END_STREAM;

    if (f->hd.type == NGHTTP2_HEADERS) {
        struct h2_block b = h->block;
        h->block = (struct h2_block){0};
        if (b.s == s && s->attached)
            block_end(s, &b, end);
        else if (end)
            s->in_end = true;
    } else if (end) {
        if (!s->attached)
            s->in_end = true;
        else if (!s->in_head)
            malformed(s, H2_CONTENT_FIRST);
        else
            message_end(s, NULL);
    }
}
