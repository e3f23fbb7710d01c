/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: messages in and out of HTTP/2 streams (grpc PROTOCOL-HTTP2.md). */
#include "lib/http/grpc.h"

#include <stdio.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/grpc_int.h"
#include "lib/http/head.h"
#include "lib/tls/tls.h"

enum { SEND_MAX = 64 << 20, METADATA_MAX = 100 };

/* --- life ----------------------------------------------------------------------------------------
 */

struct grpc_stream *grpc_stream_new(struct grpc_conn *c)
{
    struct grpc_stream *s = mem_zalloc(sizeof *s);

    if (!s)
        return NULL;
    s->conn = c;
    s->status = -1;
    s->next = c->streams;
    s->prev = &c->streams;
    if (s->next)
        s->next->prev = &s->next;
    c->streams = s;
    s->metadata_end = &s->metadata;
    arena_init(&s->arena, 512, (size_t)4 * GRPC_HEADER_LIST_MAX);
    buf_init(&s->in, (size_t)c->limits.max_message + GRPC_PREFIX + GRPC_STREAM_WINDOW);
    buf_init(&s->out, SEND_MAX);
    return s;
}

void grpc_stream_free(struct grpc_stream *s)
{
    loop_timer_clear(grpc_loop(s->conn), &s->deadline);
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    s->conn->in_bytes -= buf_len(&s->in);
    arena_fini(&s->arena);
    buf_fini(&s->in);
    buf_fini(&s->out);
    mem_free(s->detail);
    mem_free(s->end_detail);
    mem_free(s);
}

void grpc_stream_ended(struct grpc_stream *s, enum grpc_status status, struct slice detail)
{
    if (s->ended)
        return;
    s->ended = true;
    loop_timer_clear(grpc_loop(s->conn), &s->deadline);
    if (s->ops && s->ops->on_end)
        s->ops->on_end(s, status, detail, true);
}

void grpc_stream_reset(struct grpc_stream *s, uint32_t code)
{
    struct grpc_conn *c = s->conn;

    if (c->closed || s->id <= 0)
        return;
    buf_fini(&s->out);
    if (nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, code) != 0)
        grpc_conn_break(c, ERR_NOMEM, "out of memory");
    grpc_flush_later(c);
}

void grpc_cancel(struct grpc_stream *s)
{
    if (s->ended)
        return;
    s->ended = true;
    s->ops = NULL;
    loop_timer_clear(grpc_loop(s->conn), &s->deadline);
    grpc_stream_reset(s, NGHTTP2_CANCEL);
}

static void deadline_passed(struct loop_timer *t)
{
    struct grpc_stream *s = CONTAINER_OF(t, struct grpc_stream, deadline);

    grpc_stream_reset(s, NGHTTP2_CANCEL);
    grpc_stream_ended(s, GRPC_DEADLINE_EXCEEDED, SL("deadline exceeded"));
}

int grpc_stream_deadline(struct grpc_stream *s, int64_t ns)
{
    return loop_timer_in(grpc_loop(s->conn), &s->deadline, ns, deadline_passed);
}

void grpc_stream_set(struct grpc_stream *s, const struct grpc_stream_ops *ops, void *user)
{
    s->ops = ops;
    s->user = user;
}

void *grpc_stream_user(const struct grpc_stream *s)
{
    return s->user;
}

struct grpc_conn *grpc_stream_conn(const struct grpc_stream *s)
{
    return s->conn;
}

struct slice grpc_stream_metadata(const struct grpc_stream *s, struct slice name)
{
    for (const struct grpc_metadata *m = s->metadata; m; m = m->next)
        if (slice_eq(m->name, name))
            return m->value;
    return SLICE_NULL;
}

void grpc_stream_forget_metadata(struct grpc_stream *s)
{
    s->metadata = NULL;
    s->metadata_end = &s->metadata;
    arena_fini(&s->arena);
    arena_init(&s->arena, 512, s->arena.cap); /* trailers may come */
}

/* --- sending -------------------------------------------------------------------------------------
 */

static int submit_trailers(struct grpc_stream *s)
{
    char code[8], detail[GRPC_DETAIL_MAX];

    snprintf(code, sizeof code, "%d", (int)s->end_status);
    grpc_percent_encode(slice_str(s->end_detail), detail, sizeof detail);
    nghttp2_nv nv[] = {GRPC_NV("grpc-status", code), GRPC_NV("grpc-message", detail)};
    return nghttp2_submit_trailer(s->conn->session, s->id, nv, detail[0] ? 2 : 1);
}

/* nghttp2 asks how much there is; grpc_send_data hands it over. */
static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *p, size_t cap,
                        uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct grpc_stream *s = source->ptr;
    size_t n = MIN(buf_len(&s->out), cap);

    (void)session, (void)id, (void)p, (void)user;
    if (n == 0 && !s->end_queued) {
        s->deferred = true;
        buf_fini(&s->out);
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (s->end_queued && n == buf_len(&s->out)) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->conn->server) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (submit_trailers(s) != 0)
                return NGHTTP2_ERR_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)n;
}

int grpc_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *framehd,
                   size_t length, nghttp2_data_source *source, void *user)
{
    struct grpc_stream *s = source->ptr;
    struct buf *out = &s->conn->out;

    (void)session, (void)frame, (void)user;
    if (buf_len(out) >= GRPC_WRITE_BYTES)
        return NGHTTP2_ERR_WOULDBLOCK; /* asked again when that is written */
    buf_add(out, framehd, 9);
    buf_add_slice(out, slice_head(buf_slice(&s->out), length));
    buf_consume(&s->out, length);
    return buf_err(out) == ERR_OK ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

nghttp2_data_provider grpc_stream_source(struct grpc_stream *s)
{
    return (nghttp2_data_provider){.source.ptr = s, .read_callback = read_out};
}

static void submit_response(struct grpc_stream *s, const nghttp2_nv *nv, size_t n, bool more)
{
    struct grpc_conn *c = s->conn;
    nghttp2_data_provider data = grpc_stream_source(s);

    s->headers_sent = true;
    if (nghttp2_submit_response(c->session, s->id, nv, n, more ? &data : NULL) != 0)
        grpc_conn_break(c, ERR_NOMEM, "out of memory");
    grpc_flush_later(c);
}

static void more_to_send(struct grpc_stream *s)
{
    if (s->conn->server && !s->headers_sent) {
        nghttp2_nv nv[] = {GRPC_NV(":status", "200"), GRPC_NV("content-type", "application/grpc")};
        submit_response(s, nv, N_OF(nv), true);
    } else if (s->deferred) {
        s->deferred = false;
        if (nghttp2_session_resume_data(s->conn->session, s->id) == NGHTTP2_ERR_NOMEM)
            grpc_conn_break(s->conn, ERR_NOMEM, "out of memory");
    }
    grpc_flush_later(s->conn);
}

enum err_code grpc_send(struct grpc_stream *s, struct slice msg)
{
    if (s->ended || s->end_queued || s->conn->closed)
        return ERR_CLOSED;
    char prefix[GRPC_PREFIX] = {0, (char)(msg.len >> 24), (char)(msg.len >> 16),
                                (char)(msg.len >> 8), (char)msg.len};
    if (msg.len > UINT32_MAX || !buf_reserve(&s->out, msg.len + sizeof prefix)) {
        enum err_code rc = buf_err(&s->out);
        s->out.failed = ERR_OK; /* nothing was added: what is queued already goes out */
        return rc == ERR_OK ? ERR_LIMIT : rc;
    }
    buf_add(&s->out, prefix, sizeof prefix);
    buf_add_slice(&s->out, msg);
    s->was_full = s->was_full || grpc_send_full(s);
    more_to_send(s);
    return ERR_OK;
}

size_t grpc_send_queued(const struct grpc_stream *s)
{
    return buf_len(&s->out);
}

bool grpc_send_full(const struct grpc_stream *s)
{
    return buf_len(&s->out) > s->conn->limits.send_high_water;
}

void grpc_end(struct grpc_stream *s)
{
    grpc_fail(s, GRPC_OK, NULL);
}

void grpc_fail(struct grpc_stream *s, enum grpc_status status, const char *detail)
{
    if (s->ended || s->end_queued || s->conn->closed)
        return;
    s->end_queued = true;
    s->end_status = status;
    if (detail && s->conn->server && !(s->end_detail = mem_strdup(detail)))
        s->end_detail = NULL; /* out of memory: the status must do */
    if (!s->conn->server || s->headers_sent || status == GRPC_OK) {
        more_to_send(s);
        return;
    }
    /* Trailers-only */
    char code[8], text[GRPC_DETAIL_MAX];
    snprintf(code, sizeof code, "%d", (int)status);
    grpc_percent_encode(slice_str(detail), text, sizeof text);
    nghttp2_nv nv[] = {GRPC_NV(":status", "200"), GRPC_NV("content-type", "application/grpc"),
                       GRPC_NV("grpc-status", code), GRPC_NV("grpc-message", text)};
    submit_response(s, nv, text[0] ? 4 : 3, false);
}

/* --- receiving -----------------------------------------------------------------------------------
 */

int grpc_stream_header(struct grpc_stream *s, struct slice name, struct slice value)
{
    struct grpc_metadata *m;
    uint64_t num;

    if (slice_is(name, ":status")) {
        s->http_status = slice_u64(value, 999, &num) ? (unsigned)num : 0;
    } else if (slice_is(name, "grpc-status")) {
        s->status = slice_u64(value, GRPC_UNAUTHENTICATED, &num) ? (int)num : GRPC_UNKNOWN;
    } else if (slice_is(name, "grpc-message") && !s->detail) {
        s->detail = grpc_percent_decode(value);
    }
    s->metadata_bytes += name.len + value.len + 32; /* RFC 9113 6.5.2 */
    if (s->metadata_bytes > GRPC_HEADER_LIST_MAX)
        return -1;
    m = ++s->n_metadata <= METADATA_MAX ? ARENA_NEW(&s->arena, struct grpc_metadata) : NULL;
    if (!m)
        return -1;
    m->name = arena_slice(&s->arena, name);
    m->value = value.len ? arena_slice(&s->arena, value) : SL("");
    if (!m->name.p || !m->value.p)
        return -1;
    *s->metadata_end = m;
    s->metadata_end = &m->next;
    return 0;
}

/* Not gRPC: an answer of plain HTTP. */
static void refuse_http(struct grpc_stream *s, const char *status)
{
    nghttp2_nv nv[] = {GRPC_NV(":status", status)};

    s->ended = true;
    s->end_queued = true;
    submit_response(s, nv, 1, false);
}

static void call_arrived(struct grpc_stream *s)
{
    struct grpc_conn *c = s->conn;
    struct slice timeout = grpc_stream_metadata(s, SL("grpc-timeout"));
    int64_t ns = 0;

    if (!slice_is(grpc_stream_metadata(s, SL(":method")), "POST"))
        refuse_http(s, "405");
    else if (!grpc_content_type(grpc_stream_metadata(s, SL("content-type"))))
        refuse_http(s, "415");
    else if (timeout.p && !grpc_timeout_parse(timeout, &ns))
        grpc_fail(s, GRPC_INTERNAL, "malformed grpc-timeout");
    else if (timeout.p && grpc_stream_deadline(s, ns) < 0)
        grpc_fail(s, GRPC_RESOURCE_EXHAUSTED, "out of memory");
    else
        c->ops->on_call(c, s, grpc_stream_metadata(s, SL(":path")));
}

void grpc_stream_head(struct grpc_stream *s)
{
    if (!s->conn->server &&
        s->http_status / 100 == 1) { /* an interim answer: another one follows */
        s->metadata = NULL;
        s->metadata_end = &s->metadata;
        return;
    }
    s->headers_done = true;
    if (s->conn->server)
        call_arrived(s);
    else
        s->http_bad = s->http_status != 200 ||
                      !grpc_content_type(grpc_stream_metadata(s, SL("content-type")));
}

static void answer_ended(struct grpc_stream *s)
{
    enum grpc_status status = GRPC_UNKNOWN;
    struct slice detail = slice_str(s->detail);
    char text[64];

    if (s->status >= 0) {
        status = (enum grpc_status)s->status;
    } else if (s->http_bad) {
        status = grpc_status_of_http(s->http_status);
        snprintf(text, sizeof text, "HTTP status %u, not gRPC", s->http_status);
        detail = slice_str(text);
    } else {
        detail = SL("the answer has no grpc-status");
    }
    if (status == GRPC_OK && buf_len(&s->in)) {
        status = GRPC_INTERNAL;
        detail = SL("the answer ends within a message");
    }
    bool unsent = !s->end_queued || buf_len(&s->out);
    grpc_stream_ended(s, status, detail);
    if (unsent) /* the server is done before we are: nothing more to say */
        grpc_stream_reset(s, NGHTTP2_NO_ERROR);
}

void grpc_stream_half_closed(struct grpc_stream *s)
{
    if (s->half_closed)
        return;
    s->half_closed = true;
    if (s->ended)
        return;
    if (!s->conn->server) {
        answer_ended(s);
    } else if (!s->end_queued) {
        if (buf_len(&s->in))
            grpc_fail(s, GRPC_INTERNAL, "the call ends within a message");
        else if (s->ops && s->ops->on_end)
            s->ops->on_end(s, GRPC_OK, SLICE_NULL, false);
    }
}

/* What came cannot be taken: tell both sides. */
static void refuse_data(struct grpc_stream *s, enum grpc_status status, const char *why)
{
    buf_fini(&s->in);
    if (s->conn->server)
        grpc_fail(s, status, why);
    else
        grpc_stream_reset(s, NGHTTP2_CANCEL);
    grpc_stream_ended(s, status, slice_str(why));
}

/* Deliver whole messages. The owner may send, end, cancel, or close the connection; the bytes stay
 * until it returns. */
static void deliver(struct grpc_stream *s)
{
    while (!s->ended && !(s->conn->server && s->end_queued) && buf_len(&s->in) >= GRPC_PREFIX) {
        struct slice in = buf_slice(&s->in);
        const unsigned char *p = (const unsigned char *)in.p;
        size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];

        if (p[0]) {
            refuse_data(s, p[0] == 1 ? GRPC_UNIMPLEMENTED : GRPC_INTERNAL,
                        "compressed messages are not understood");
            return;
        }
        if (len > s->conn->limits.max_message) {
            refuse_data(s, GRPC_RESOURCE_EXHAUSTED, "message too large");
            return;
        }
        if (in.len < len + GRPC_PREFIX)
            return;
        if (s->ops && s->ops->on_message)
            s->ops->on_message(s, slice_skip(slice_head(in, len + GRPC_PREFIX), GRPC_PREFIX));
        buf_consume(&s->in, len + GRPC_PREFIX);
    }
    if (s->ended || (s->conn->server && s->end_queued) || buf_len(&s->in) == 0)
        buf_fini(&s->in);
}

/* Window for what was taken. A server whose answers pile up takes no more requests meanwhile. */
static void credit(struct grpc_stream *s)
{
    size_t n = s->uncredited;

    if (n == 0 || s->conn->closed || (s->conn->server && !s->ended && grpc_send_full(s)))
        return;
    s->uncredited = 0;
    if (nghttp2_session_consume_stream(s->conn->session, s->id, n) == NGHTTP2_ERR_NOMEM)
        grpc_conn_break(s->conn, ERR_NOMEM, "out of memory");
}

void grpc_stream_data(struct grpc_stream *s, struct slice bytes)
{
    struct grpc_conn *c = s->conn;
    size_t before = buf_len(&s->in);

    s->uncredited += bytes.len;
    if (!s->ended && !s->http_bad && !(c->server && s->end_queued)) {
        buf_add_slice(&s->in, bytes);
        if (buf_err(&s->in) != ERR_OK)
            refuse_data(s, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        else
            deliver(s);
        c->in_bytes = c->in_bytes - before + buf_len(&s->in);
        if (c->in_bytes > (size_t)2 * c->limits.max_message + GRPC_CONN_WINDOW && !s->ended) {
            c->in_bytes -= buf_len(&s->in);
            refuse_data(s, GRPC_RESOURCE_EXHAUSTED, "too many large messages at once");
        }
    }
    credit(s);
}

void grpc_stream_flushed(struct grpc_stream *s)
{
    if (!s->was_full || buf_len(&s->out) >= s->conn->limits.send_high_water / 2)
        return;
    s->was_full = false;
    credit(s);
    if (s->ops && s->ops->on_drained && !s->ended)
        s->ops->on_drained(s);
}

/* --- client's calls ------------------------------------------------------------------------------
 */

int grpc_call(struct grpc_conn *c, const char *path, const char *const *metadata,
              int64_t timeout_ns, const struct grpc_stream_ops *ops, void *user,
              struct grpc_stream **ret, struct err *err)
{
    nghttp2_nv nv[7 + 16] = {
        GRPC_NV(":method", "POST"),
        GRPC_NV(":scheme", chan_is_tls(c->chan) ? "https" : "http"),
        GRPC_NV(":path", path),
        GRPC_NV(":authority", c->authority),
        GRPC_NV("content-type", "application/grpc"),
        GRPC_NV("te", "trailers"),
    };
    size_t n = 6;
    char timeout[16];

    if (c->closed || c->broken)
        return err_set(err, ERR_CLOSED, "the connection is closed");
    if (c->draining)
        return err_set(err, ERR_UNAVAILABLE, "the connection takes no more calls");
    if (timeout_ns > 0) {
        grpc_timeout_format(timeout_ns, timeout);
        nv[n++] = (nghttp2_nv)GRPC_NV("grpc-timeout", timeout);
    }
    for (; metadata && metadata[0]; metadata += 2) {
        if (n == N_OF(nv))
            return err_set(err, ERR_LIMIT, "too much metadata");
        if (!http_name_ok(slice_str(metadata[0])) || !http_value_ok(slice_str(metadata[1])))
            return err_set(err, ERR_INVALID, "metadata %s is malformed", metadata[0]);
        nv[n] = (nghttp2_nv)GRPC_NV(metadata[0], metadata[1]);
        nv[n++].flags = NGHTTP2_NV_FLAG_NO_INDEX;
    }
    struct grpc_stream *s = grpc_stream_new(c);
    if (!s)
        return err_set(err, ERR_NOMEM, "call");
    grpc_stream_set(s, ops, user);
    if (timeout_ns > 0 && grpc_stream_deadline(s, timeout_ns) < 0) {
        grpc_stream_free(s);
        return err_set(err, ERR_NOMEM, "call");
    }
    nghttp2_data_provider data = grpc_stream_source(s);
    int32_t id = nghttp2_submit_request(c->session, NULL, nv, n, &data, s);
    if (id < 0) {
        grpc_stream_free(s);
        return err_set(err, id == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_UNAVAILABLE, "%s",
                       nghttp2_strerror(id));
    }
    s->id = id;
    grpc_flush_later(c);
    *ret = s;
    return 0;
}
