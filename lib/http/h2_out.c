/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that go: heads to name-value lists, content to DATA frames as the windows allow. */
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h1_int.h"
#include "lib/http/h2_int.h"

enum { LOCAL_FIELDS = 64, OWN_FIELDS = 8, QUEUE_SLACK = 16 << 20 };

struct nva {
    nghttp2_nv *p;
    size_t n;
    nghttp2_nv local[LOCAL_FIELDS];
};

static bool nva_init(struct nva *a, const struct http_head *head)
{
    size_t cap = head->n_fields + OWN_FIELDS;

    a->n = 0;
    a->p = cap <= LOCAL_FIELDS ? a->local : mem_array(cap, sizeof *a->p);
    return a->p != NULL;
}

static void nva_fini(struct nva *a)
{
    if (a->p != a->local)
        mem_free(a->p);
}

static void nva_add(struct nva *a, struct slice name, struct slice value)
{
    a->p[a->n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p,
                                name.len, value.len, NGHTTP2_NV_FLAG_NONE};
}

/* The list may have been filled by others than codecs. */
static bool field_ok(const struct http_field *f)
{
    for (size_t i = 0; i < f->name.len; i++)
        if (http_tchar[(unsigned char)f->name.p[i]] != (unsigned char)f->name.p[i] || !f->name.p[i])
            return false;
    return f->name.len && http_value_ok(f->value);
}

static bool nva_fields(struct nva *a, const struct http_head *head)
{
    for (uint32_t i = 0; i < head->n_fields; i++) {
        const struct http_field *f = &head->fields[i];

        if (!field_ok(f))
            return false;
        /* The length that an answer to HEAD would have is in the list. */
        if (h2_hop_field(f->name) && !(head->body == HTTP_BODY_NONE && head->status >= 200 &&
                                       slice_is(f->name, "content-length")))
            continue;
        nva_add(a, f->name, f->value);
    }
    return true;
}

static void nva_length(struct nva *a, const struct http_head *head, char text[24])
{
    char *end;

    if (head->body != HTTP_BODY_LENGTH ||
        (head->status && (head->status < 200 || head->status == 204)))
        return;
    end = text + 24;
    char *p = end;
    uint64_t v = head->content_length;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    nva_add(a, SL("content-length"), slice_of(p, (size_t)(end - p)));
}

/* --- content --- */

static struct slice trailer_text(char **at, struct slice s)
{
    char *p = *at;

    if (s.len)
        memcpy(p, s.p, s.len);
    *at += s.len;
    return slice_of(p, s.len);
}

/* A copy in one allocation: the head's arena may be gone when they are sent. */
static enum err_code keep_trailers(struct h2_stream *s, const struct http_head *t)
{
    size_t bytes = 0, n = 0;
    char *at;

    for (uint32_t i = 0; i < t->n_fields; i++) {
        if (!field_ok(&t->fields[i]))
            return ERR_INVALID;
        bytes += t->fields[i].name.len + t->fields[i].value.len;
    }
    s->trailers = mem_alloc(t->n_fields * sizeof *s->trailers + bytes);
    if (!s->trailers)
        return ERR_NOMEM;
    at = (char *)(s->trailers + t->n_fields);
    for (uint32_t i = 0; i < t->n_fields; i++) {
        if (!h1_trailer_ok(t->fields[i].name))
            continue;
        struct slice name = trailer_text(&at, t->fields[i].name);
        struct slice value = trailer_text(&at, t->fields[i].value);
        s->trailers[n++] = (nghttp2_nv){(uint8_t *)(uintptr_t)name.p, (uint8_t *)(uintptr_t)value.p,
                                        name.len, value.len, NGHTTP2_NV_FLAG_NONE};
    }
    s->n_trailers = (uint32_t)n;
    return ERR_OK;
}

/* nghttp2 asks how much there is; h2_send_data hands it over. */
static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *p, size_t cap,
                        uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_stream *s = source->ptr;
    size_t n = MIN(buf_len(&s->out), cap);

    (void)p, (void)user;
    if (n == 0 && !s->out_end) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (s->out_end && n == buf_len(&s->out)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->n_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, id, s->trailers, s->n_trailers) != 0)
                return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)n;
}

int h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd,
                 size_t length, nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    char *to = h->gather + h->gathered;
    uint32_t id = (uint32_t)frame->hd.stream_id;

    (void)session, (void)framehd;
    if (h->gather_cap - h->gathered < 9 + length)
        return NGHTTP2_ERR_WOULDBLOCK; /* asked again when what is gathered is written */
    /* Not framehd: it may have been packed in an earlier call, and its buffer is not this
     * session's. */
    const uint8_t hd[9] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length,
                           frame->hd.type,          frame->hd.flags,        (uint8_t)(id >> 24),
                           (uint8_t)(id >> 16),     (uint8_t)(id >> 8),     (uint8_t)id};
    memcpy(to, hd, sizeof hd);
    memcpy(to + 9, buf_slice(&s->out).p, length);
    h->gathered += 9 + length;
    buf_consume(&s->out, length);
    h->queued -= length;
    s->moved_ns = loop_now(h2_loop(h));
    if (buf_len(&s->out) == 0)
        buf_fini(&s->out);
    return 0;
}

static nghttp2_data_provider source_of(struct h2_stream *s)
{
    return (nghttp2_data_provider){.source.ptr = s, .read_callback = read_out};
}

static void more_to_send(struct h2_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        if (nghttp2_session_resume_data(s->h->session, s->id) == NGHTTP2_ERR_NOMEM)
            h2_break(s->h, ERR_NOMEM, "out of memory");
    }
    h2_flush_later(s->h);
}

enum err_code h2_body(struct h2_stream *s, struct slice bytes)
{
    struct h2 *h = s->h;

    if (!s->attached || h->closed || !s->out_head || s->out_end)
        return s->out_none ? ERR_OK : ERR_CLOSED;
    if (s->out_none || bytes.len == 0)
        return ERR_OK;
    if (buf_len(&s->out) == 0)
        s->moved_ns = loop_now(h2_loop(h));
    buf_add_slice(&s->out, bytes);
    if (buf_err(&s->out) != ERR_OK) {
        h2_break(h, buf_err(&s->out), "no room for content");
        return ERR_OK;
    }
    h->queued += bytes.len;
    more_to_send(s);
    if (buf_len(&s->out) <= h->config.send_high &&
        h->queued <= h->config.send_all)
        return ERR_OK;
    if (!s->full) {
        s->full = true;
        h->n_full++;
    }
    return ERR_LIMIT;
}

enum err_code h2_end(struct h2_stream *s, const struct http_head *trailers)
{
    struct h2 *h = s->h;
    enum err_code rc = ERR_OK;

    if (!s->attached || h->closed || !s->out_head)
        return ERR_CLOSED;
    if (!s->out_end) {
        if (trailers && trailers->n_fields)
            rc = keep_trailers(s, trailers);
        if (rc != ERR_OK) {
            h2_reset(s, H2_INTERNAL_ERROR);
            return rc;
        }
        s->out_end = true;
        more_to_send(s);
    }
    if (h->server) {
        h2_detach(s);
        if (s->parted)
            h2_stream_free(s);
    }
    return ERR_OK;
}

/* --- heads --- */

static bool has_content(const struct http_head *head)
{
    return head->body == HTTP_BODY_STREAM || head->body == HTTP_BODY_CLOSE ||
           (head->body == HTTP_BODY_LENGTH && head->content_length);
}

static void stream_ready(struct h2_stream *s)
{
    buf_init(&s->out, s->h->config.send_high + QUEUE_SLACK);
    s->out_head = true;
    h2_flush_later(s->h);
}

static enum err_code submit_answer(struct h2_stream *s, const struct http_head *head,
                                   const struct nva *a)
{
    struct h2 *h = s->h;
    bool tunnel = s->connect && head->status / 100 == 2;
    nghttp2_data_provider data = source_of(s);
    int rc;

    if (head->status < 200) {
        if (nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, a->p, a->n, NULL) !=
            0)
            return ERR_NOMEM;
        h2_flush_later(h);
        return ERR_OK;
    }
    s->out_none = !tunnel && (s->head_request || head->status == 204 || head->status == 304 ||
                              !has_content(head));
    rc = nghttp2_submit_response(h->session, s->id, a->p, a->n, s->out_none ? NULL : &data);
    if (rc != 0)
        return rc == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_CLOSED;
    s->out_end = s->out_none;
    stream_ready(s);
    return ERR_OK;
}

enum err_code h2_head(struct h2_stream *s, const struct http_head *head)
{
    struct nva a;
    char status[4], length[24];
    enum err_code rc = ERR_INVALID;

    if (!s->attached || s->h->closed || s->out_head)
        return ERR_CLOSED;
    if (head->status < 100 || head->status > 999 || head->status == 101)
        return ERR_INVALID;
    if (!nva_init(&a, head))
        return ERR_NOMEM;
    status[0] = (char)('0' + head->status / 100);
    status[1] = (char)('0' + head->status / 10 % 10);
    status[2] = (char)('0' + head->status % 10);
    nva_add(&a, SL(":status"), slice_of(status, 3));
    if (nva_fields(&a, head)) {
        nva_length(&a, head, length);
        rc = submit_answer(s, head, &a);
    }
    nva_fini(&a);
    return rc;
}

static bool request_fields(struct nva *a, const struct http_head *head)
{
    bool connect = slice_is(head->method, "CONNECT");

    if (!http_name_ok(head->method) || !http_value_ok(head->authority) ||
        (!connect && !h1_target_ok(head->path)))
        return false;
    nva_add(a, SL(":method"), head->method);
    if (!connect) {
        nva_add(a, SL(":scheme"), head->scheme.len ? head->scheme : SL("http"));
        nva_add(a, SL(":path"), head->path);
    }
    if (head->authority.len)
        nva_add(a, SL(":authority"), head->authority);
    if (!nva_fields(a, head))
        return false;
    if (head->te_trailers)
        nva_add(a, SL("te"), SL("trailers"));
    return true;
}

enum err_code h2_request(struct h2 *h, const struct http_head *head, struct arena *arena,
                         void *user, struct h2_stream **ret)
{
    struct h2_stream *s;
    struct nva a;
    char length[24];
    int32_t id = NGHTTP2_ERR_NOMEM;
    bool fit;

    if (h->closed || h2_room(h) == 0)
        return ERR_LIMIT;
    if (head->upgrade.len)
        return ERR_UNSUPPORTED;
    if (!nva_init(&a, head))
        return ERR_NOMEM;
    fit = request_fields(&a, head);
    s = fit ? h2_stream_new(h, user) : NULL;
    if (s) {
        nghttp2_data_provider data = source_of(s);
        s->arena = arena;
        s->connect = slice_is(head->method, "CONNECT");
        s->head_request = slice_is(head->method, "HEAD");
        s->out_none = s->out_end = !s->connect && !has_content(head);
        nva_length(&a, head, length);
        id = nghttp2_submit_request(h->session, NULL, a.p, a.n, s->out_none ? NULL : &data, s);
    }
    nva_fini(&a);
    if (!fit)
        return ERR_INVALID;
    if (id < 0) {
        if (s)
            h2_stream_free(s);
        return id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE ? ERR_LIMIT : ERR_NOMEM;
    }
    s->id = id;
    stream_ready(s);
    *ret = s;
    return ERR_OK;
}
