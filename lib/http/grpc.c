/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/grpc.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"

enum {
    DEFAULT_STREAMS = 100,
    DEFAULT_MESSAGE = 4 << 20,
    DEFAULT_HIGH_WATER = 256 << 10,
    STREAM_WINDOW = 256 << 10,
    CONN_WINDOW = 1 << 20,
    HEADER_LIST_MAX = 64 << 10,
    READ_BYTES = 16 << 10,
    OUT_MAX = 64 << 20,
    SETTLE_RESETS = 200, /* streams a client may reset before it is taken for an attack */
    METADATA_MAX = 48,
};

static const char *const status_names[] = {
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};

const char *grpc_status_name(enum grpc_status status)
{
    return (size_t)status < N_OF(status_names) ? status_names[status] : "UNKNOWN";
}

struct metadata {
    struct slice name, value;
};

struct grpc_stream {
    struct grpc_conn *conn;
    int32_t id;
    const struct grpc_stream_ops *ops;
    void *user;
    struct grpc_stream *next, **prev;
    struct arena arena;           /* metadata */
    struct metadata metadata[METADATA_MAX];
    unsigned n_metadata;
    struct buf in, out;           /* bytes of a message that is not whole; framed messages to send */
    struct loop_timer deadline;
    bool headers_done;            /* of the other side, first block */
    bool headers_sent;            /* server */
    bool half_closed;             /* the other side sent its end */
    bool end_queued;              /* ours: after `out` */
    bool deferred;                /* nghttp2 waits for more of `out` */
    bool was_full;
    bool ended;                   /* on_end final was called, or cancelled */
    bool http_bad;                /* the answer is not gRPC */
    unsigned http_status;
    int status;                   /* grpc-status that was received; -1: none */
    enum grpc_status end_status;  /* server: what we end with */
    char *detail, *end_detail;    /* owned texts */
};

struct grpc_conn {
    struct chan *chan;
    nghttp2_session *session;
    const struct grpc_conn_ops *ops;
    void *user;
    bool server, ready, closed, draining, in_recv;
    struct grpc_limits limits;
    char authority[256];
    struct grpc_stream *streams;
    unsigned n_streams, resets;
    struct buf out;
    struct loop_task flush, gone;
    struct loop_timer keepalive;
    int64_t heard_ns;
    bool ping_sent;
    struct err why;
};

static void conn_fail(struct grpc_conn *c, enum err_code code, const char *why);
static void flush_later(struct grpc_conn *c);

static struct loop *loop_of(const struct grpc_conn *c)
{
    return c->chan->loop;
}

/* --- streams ------------------------------------------------------------------------------------- */

static struct grpc_stream *stream_new(struct grpc_conn *c)
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
    c->n_streams++;
    buf_init(&s->in, (size_t)c->limits.max_message + 5 + READ_BYTES);
    buf_init(&s->out, OUT_MAX);
    return s;
}

static void stream_free(struct grpc_stream *s)
{
    struct grpc_conn *c = s->conn;
    loop_timer_clear(loop_of(c), &s->deadline);
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    c->n_streams--;
    arena_fini(&s->arena);
    buf_fini(&s->in);
    buf_fini(&s->out);
    mem_free(s->detail);
    mem_free(s->end_detail);
    mem_free(s);
}

/* Tell the end, once. The stream's memory goes when nghttp2 closes it. */
static void stream_ended(struct grpc_stream *s, enum grpc_status status, struct slice detail)
{
    if (s->ended)
        return;
    s->ended = true;
    loop_timer_clear(loop_of(s->conn), &s->deadline);
    if (s->ops && s->ops->on_end)
        s->ops->on_end(s, status, detail, true);
}

static void stream_reset(struct grpc_stream *s, uint32_t code)
{
    struct grpc_conn *c = s->conn;
    buf_fini(&s->out);
    if (!c->closed && s->id > 0) {
        nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, s->id, code);
        flush_later(c);
    }
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
    for (unsigned i = 0; i < s->n_metadata; i++)
        if (slice_eq(s->metadata[i].name, name))
            return s->metadata[i].value;
    return SLICE_NULL;
}

/* --- texts of the wire ------------------------------------------------------------------------------ */

/* grpc-message is percent-encoded (PROTOCOL-HTTP2.md, "Responses"): space to '~' but '%' stay. */
static void percent_encode(struct slice in, char *out, size_t cap)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < in.len && n + 4 < cap; i++) {
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

static char *percent_decode(struct slice in)
{
    char *out = mem_alloc(in.len + 1);
    size_t n = 0;
    for (size_t i = 0; out && i < in.len; i++) {
        uint64_t v;
        if (in.p[i] == '%' && i + 2 < in.len && slice_hex64(slice_of(in.p + i + 1, 2), &v)) {
            out[n++] = (char)v;
            i += 2;
        } else {
            out[n++] = in.p[i];
        }
    }
    if (out)
        out[n] = '\0';
    return out;
}

/* grpc-timeout: at most eight digits and a unit. */
static void timeout_format(int64_t ns, char ret[16])
{
    static const struct {
        int64_t ns;
        char unit;
    } units[] = {{1, 'n'}, {1000, 'u'}, {1000000, 'm'}, {NS_PER_S, 'S'}, {60 * NS_PER_S, 'M'},
                 {3600 * NS_PER_S, 'H'}};
    size_t i = 0;
    while (i + 1 < N_OF(units) && ns / units[i].ns > 99999999)
        i++;
    snprintf(ret, 16, "%lld%c", (long long)MIN(ns / units[i].ns, (int64_t)99999999), units[i].unit);
}

static bool timeout_parse(struct slice s, int64_t *ret)
{
    uint64_t v;
    if (s.len < 2 || s.len > 9 || !slice_u64(slice_head(s, s.len - 1), 99999999, &v))
        return false;
    switch (s.p[s.len - 1]) {
    case 'n': *ret = (int64_t)v; return true;
    case 'u': *ret = (int64_t)v * NS_PER_US; return true;
    case 'm': *ret = (int64_t)v * NS_PER_MS; return true;
    case 'S': *ret = (int64_t)v * NS_PER_S; return true;
    case 'M': *ret = (int64_t)v * 60 * NS_PER_S; return true;
    case 'H': *ret = (int64_t)v * 3600 * NS_PER_S; return true;
    default: return false;
    }
}

/* What an answer that is not gRPC's means (grpc http-grpc-status-mapping.md). */
static enum grpc_status status_of_http(unsigned http)
{
    switch (http) {
    case 400: return GRPC_INTERNAL;
    case 401: return GRPC_UNAUTHENTICATED;
    case 403: return GRPC_PERMISSION_DENIED;
    case 404: return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504: return GRPC_UNAVAILABLE;
    default: return GRPC_UNKNOWN;
    }
}

/* --- sending ------------------------------------------------------------------------------------------ */

#define NV(n, v)                                                                                   \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v),                \
            NGHTTP2_NV_FLAG_NONE                                                                   \
    }

static void submit_trailers(struct grpc_stream *s)
{
    char code[8], detail[1024];
    snprintf(code, sizeof code, "%d", (int)s->end_status);
    percent_encode(slice_str(s->end_detail ? s->end_detail : ""), detail, sizeof detail);
    nghttp2_nv nv[] = {NV("grpc-status", code), NV("grpc-message", detail)};
    nghttp2_submit_trailer(s->conn->session, s->id, nv, detail[0] ? 2 : 1);
}

static ssize_t read_out(nghttp2_session *session, int32_t id, uint8_t *p, size_t cap,
                        uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct grpc_stream *s = source->ptr;
    (void)session, (void)id, (void)user;
    struct slice have = buf_slice(&s->out);
    size_t n = MIN(have.len, cap);
    if (n == 0 && !s->end_queued) {
        s->deferred = true;
        buf_fini(&s->out);
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n)
        memcpy(p, have.p, n);
    buf_consume(&s->out, n);
    if (s->end_queued && buf_len(&s->out) == 0) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->conn->server) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(s);
        }
    }
    return (ssize_t)n;
}

static void send_headers(struct grpc_stream *s)
{
    if (s->headers_sent || !s->conn->server)
        return;
    s->headers_sent = true;
    nghttp2_nv nv[] = {NV(":status", "200"), NV("content-type", "application/grpc")};
    nghttp2_data_provider data = {.source.ptr = s, .read_callback = read_out};
    if (nghttp2_submit_response(s->conn->session, s->id, nv, N_OF(nv), &data) != 0)
        conn_fail(s->conn, ERR_NOMEM, "out of memory");
}

static void more_to_send(struct grpc_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        nghttp2_session_resume_data(s->conn->session, s->id);
    }
    flush_later(s->conn);
}

enum err_code grpc_send(struct grpc_stream *s, struct slice msg)
{
    if (s->ended || s->end_queued || s->conn->closed)
        return ERR_CLOSED;
    char prefix[5] = {0, (char)(msg.len >> 24), (char)(msg.len >> 16), (char)(msg.len >> 8),
                      (char)msg.len};
    if (!buf_reserve(&s->out, msg.len + sizeof prefix))
        return buf_err(&s->out);
    buf_add(&s->out, prefix, sizeof prefix);
    buf_add_slice(&s->out, msg);
    send_headers(s);
    more_to_send(s);
    return ERR_OK;
}

size_t grpc_send_queued(const struct grpc_stream *s)
{
    return buf_len(&s->out);
}

bool grpc_send_full(const struct grpc_stream *s)
{
    bool full = buf_len(&s->out) > s->conn->limits.send_high_water;
    if (full)
        ((struct grpc_stream *)(uintptr_t)s)->was_full = true;
    return full;
}

void grpc_end(struct grpc_stream *s)
{
    if (s->ended || s->end_queued || s->conn->closed)
        return;
    s->end_queued = true;
    s->end_status = GRPC_OK;
    send_headers(s);
    more_to_send(s);
}

void grpc_fail(struct grpc_stream *s, enum grpc_status status, const char *detail)
{
    struct grpc_conn *c = s->conn;
    if (s->ended || s->end_queued || c->closed)
        return;
    s->end_queued = true;
    s->end_status = status;
    s->end_detail = mem_strdup(detail ? detail : "");
    if (!s->headers_sent) { /* trailers-only */
        char code[8], text[1024];
        s->headers_sent = true;
        snprintf(code, sizeof code, "%d", (int)status);
        percent_encode(slice_str(detail ? detail : ""), text, sizeof text);
        nghttp2_nv nv[] = {NV(":status", "200"), NV("content-type", "application/grpc"),
                           NV("grpc-status", code), NV("grpc-message", text)};
        nghttp2_submit_response(c->session, s->id, nv, text[0] ? 4 : 3, NULL);
        flush_later(c);
        return;
    }
    more_to_send(s);
}

void grpc_cancel(struct grpc_stream *s)
{
    if (s->ended)
        return;
    s->ended = true; /* no callback from here on; nghttp2's close frees it */
    s->ops = NULL;
    loop_timer_clear(loop_of(s->conn), &s->deadline);
    stream_reset(s, NGHTTP2_CANCEL);
}

/* Frames to one buffer, the buffer to the channel. */
static void flush(struct grpc_conn *c)
{
    for (;;) {
        while (!c->closed && buf_len(&c->out) < (256 << 10)) {
            const uint8_t *p;
            ssize_t n = nghttp2_session_mem_send(c->session, &p);
            if (n < 0) {
                conn_fail(c, ERR_NOMEM, nghttp2_strerror((int)n));
                return;
            }
            if (n == 0)
                break;
            buf_add(&c->out, p, (size_t)n);
        }
        if (c->closed)
            return;
        if (buf_len(&c->out) == 0)
            break;
        struct slice s = buf_slice(&c->out);
        size_t n;
        enum err_code rc = chan_write(c->chan, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc != ERR_OK) {
            conn_fail(c, rc, "write failed");
            return;
        }
        buf_consume(&c->out, n);
    }
    buf_fini(&c->out);
    for (struct grpc_stream *s = c->streams, *next; s; s = next) {
        next = s->next;
        if (s->was_full && buf_len(&s->out) < c->limits.send_high_water / 2) {
            s->was_full = false;
            if (s->ops && s->ops->on_drained && !s->ended)
                s->ops->on_drained(s);
        }
    }
    if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session))
        conn_fail(c, ERR_EOF, "connection finished");
}

static void flush_task(struct loop_task *t)
{
    flush(CONTAINER_OF(t, struct grpc_conn, flush));
}

static void flush_later(struct grpc_conn *c)
{
    if (!c->closed && c->chan->open && !c->flush.prev)
        loop_task_add(loop_of(c), &c->flush, flush_task);
}

/* --- receiving ------------------------------------------------------------------------------------------ */

static struct grpc_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct grpc_conn *c = user;
    if (!c->server || f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct grpc_stream *s = stream_new(c);
    if (!s)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    s->id = f->hd.stream_id;
    nghttp2_session_set_stream_user_data(session, s->id, s);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct grpc_stream *s = stream_of(session, f->hd.stream_id);
    struct slice n = slice_of(name, name_len), v = slice_of(value, value_len);
    uint64_t num;
    (void)flags, (void)user;
    if (!s)
        return 0;
    if (slice_is(n, ":status") && slice_u64(v, 999, &num))
        s->http_status = (unsigned)num;
    else if (slice_is(n, "grpc-status") && slice_u64(v, 1000, &num))
        s->status = num <= GRPC_UNAUTHENTICATED ? (int)num : GRPC_UNKNOWN;
    else if (slice_is(n, "grpc-message") && !s->detail)
        s->detail = percent_decode(v);
    if (s->n_metadata == METADATA_MAX || s->arena.used > HEADER_LIST_MAX)
        return s->n_metadata == METADATA_MAX ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct metadata *m = &s->metadata[s->n_metadata];
    m->name = arena_slice(&s->arena, n);
    m->value = arena_slice(&s->arena, v);
    if (!m->name.p || (v.len && !m->value.p))
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    s->n_metadata++;
    return 0;
}

static void deadline_passed(struct loop_timer *t)
{
    struct grpc_stream *s = CONTAINER_OF(t, struct grpc_stream, deadline);
    stream_reset(s, NGHTTP2_CANCEL);
    stream_ended(s, GRPC_DEADLINE_EXCEEDED, SL("deadline exceeded"));
}

static void call_arrived(struct grpc_conn *c, struct grpc_stream *s)
{
    struct slice path = grpc_stream_metadata(s, SL(":path")), timeout;
    struct slice type = grpc_stream_metadata(s, SL("content-type"));
    int64_t ns;
    if (!slice_is(grpc_stream_metadata(s, SL(":method")), "POST") ||
        !slice_starts(type, SL("application/grpc"))) {
        nghttp2_nv nv[] = {NV(":status", "415")};
        s->ended = true;
        nghttp2_submit_response(c->session, s->id, nv, 1, NULL);
        flush_later(c);
        return;
    }
    timeout = grpc_stream_metadata(s, SL("grpc-timeout"));
    if (timeout.len && timeout_parse(timeout, &ns))
        loop_timer_in(loop_of(c), &s->deadline, ns, deadline_passed);
    c->ops->on_call(c, s, path);
}

static void answer_head(struct grpc_stream *s)
{
    struct slice type = grpc_stream_metadata(s, SL("content-type"));
    if (s->http_status != 200 || !slice_starts(type, SL("application/grpc")))
        s->http_bad = true;
}

static void half_closed(struct grpc_stream *s)
{
    struct grpc_conn *c = s->conn;
    if (s->half_closed || s->ended)
        return;
    s->half_closed = true;
    if (c->server) {
        if (buf_len(&s->in)) {
            grpc_fail(s, GRPC_INTERNAL, "the call ends within a message");
            return;
        }
        if (s->ops && s->ops->on_end)
            s->ops->on_end(s, GRPC_OK, SLICE_NULL, false);
        return;
    }
    enum grpc_status st = s->status >= 0 ? (enum grpc_status)s->status
                          : s->http_bad  ? status_of_http(s->http_status)
                                         : GRPC_UNKNOWN;
    char text[64];
    struct slice detail = slice_str(s->detail ? s->detail : "");
    if (s->http_bad && !detail.len) {
        snprintf(text, sizeof text, "HTTP status %u, not gRPC", s->http_status);
        detail = slice_str(text);
    } else if (s->status < 0 && !detail.len) {
        detail = SL("the answer has no grpc-status");
    }
    stream_ended(s, st, detail);
    if (!s->end_queued) /* the server is done before we are: nothing more to say */
        stream_reset(s, NGHTTP2_NO_ERROR);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = f->hd.stream_id ? stream_of(session, f->hd.stream_id) : NULL;
    if (f->hd.type == NGHTTP2_SETTINGS && !(f->hd.flags & NGHTTP2_FLAG_ACK) && !c->ready) {
        c->ready = true;
        if (c->ops->on_ready)
            c->ops->on_ready(c);
    }
    if (f->hd.type == NGHTTP2_PING && f->hd.flags & NGHTTP2_FLAG_ACK)
        c->ping_sent = false;
    if (!s || c->closed)
        return 0;
    if (f->hd.type == NGHTTP2_HEADERS && !s->headers_done) {
        s->headers_done = true;
        if (c->server)
            call_arrived(c, s);
        else
            answer_head(s);
    }
    if (!c->closed && (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) &&
        f->hd.flags & NGHTTP2_FLAG_END_STREAM)
        half_closed(s);
    return 0;
}

/* Whole messages out of what is there. */
static void messages(struct grpc_stream *s)
{
    struct grpc_conn *c = s->conn;
    while (!s->ended && buf_len(&s->in) >= 5) {
        struct slice in = buf_slice(&s->in);
        const unsigned char *p = (const unsigned char *)in.p;
        size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        enum grpc_status bad = p[0]                          ? GRPC_UNIMPLEMENTED
                               : len > c->limits.max_message ? GRPC_RESOURCE_EXHAUSTED
                                                             : GRPC_OK;
        if (bad != GRPC_OK) {
            const char *why = p[0] ? "compressed messages are not understood" : "message too large";
            if (c->server) {
                grpc_fail(s, bad, why);
            } else {
                stream_reset(s, NGHTTP2_CANCEL);
            }
            buf_fini(&s->in);
            stream_ended(s, bad, slice_str(why));
            return;
        }
        if (in.len < len + 5)
            return;
        if (s->ops && s->ops->on_message) {
            /* The callee may send, end or cancel; the bytes stay until it returns. */
            s->ops->on_message(s, slice_of(p + 5, len));
        }
        if (buf_len(&s->in))
            buf_consume(&s->in, len + 5);
    }
    if (buf_len(&s->in) == 0)
        buf_fini(&s->in);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = stream_of(session, id);
    (void)flags;
    if (s && !s->ended && !s->http_bad) {
        buf_add(&s->in, p, n);
        if (buf_err(&s->in) != ERR_OK) {
            stream_reset(s, NGHTTP2_INTERNAL_ERROR);
            stream_ended(s, GRPC_RESOURCE_EXHAUSTED, SL("message too large"));
        } else {
            messages(s);
        }
    }
    if (!c->closed)
        nghttp2_session_consume(session, id, n);
    return 0;
}

static enum grpc_status status_of_reset(uint32_t code)
{
    switch (code) {
    case NGHTTP2_CANCEL: return GRPC_CANCELLED;
    case NGHTTP2_REFUSED_STREAM: return GRPC_UNAVAILABLE;
    case NGHTTP2_ENHANCE_YOUR_CALM: return GRPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY: return GRPC_PERMISSION_DENIED;
    default: return GRPC_INTERNAL;
    }
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = stream_of(session, id);
    if (!s)
        return 0;
    if (!s->ended) {
        bool good = c->server && s->end_queued && code == NGHTTP2_NO_ERROR;
        stream_ended(s, good ? s->end_status : status_of_reset(code),
                     good ? SLICE_NULL : SL("stream reset"));
    }
    if (c->server && code != NGHTTP2_NO_ERROR && ++c->resets > SETTLE_RESETS && !c->closed)
        nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
    nghttp2_session_set_stream_user_data(session, id, NULL);
    stream_free(s);
    return 0;
}

static void readable(struct grpc_conn *c)
{
    char bytes[READ_BYTES];
    for (int turns = 0; !c->closed; turns++) {
        size_t n;
        enum err_code rc = chan_read(c->chan, bytes, sizeof bytes, &n);
        if (rc == ERR_AGAIN)
            break;
        if (rc != ERR_OK) {
            conn_fail(c, rc, rc == ERR_EOF ? "the other side closed the connection" : "read failed");
            return;
        }
        c->heard_ns = loop_now(loop_of(c));
        c->in_recv = true;
        ssize_t used = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes, n);
        c->in_recv = false;
        if (c->closed)
            return;
        if (used < 0) {
            conn_fail(c, ERR_PROTO, nghttp2_strerror((int)used));
            return;
        }
        if (turns == 16) { /* others' turn */
            chan_resume(c->chan);
            break;
        }
    }
    flush_later(c);
}

/* --- connections -------------------------------------------------------------------------------------- */

static void conn_free(struct loop_task *t)
{
    struct grpc_conn *c = CONTAINER_OF(t, struct grpc_conn, gone);
    while (c->streams) {
        if (c->streams->id > 0)
            nghttp2_session_set_stream_user_data(c->session, c->streams->id, NULL);
        stream_free(c->streams);
    }
    nghttp2_session_del(c->session);
    buf_fini(&c->out);
    chan_close(c->chan);
    mem_free(c);
}

/* The end of everything; streams are told first, then the owner (unless it closed by itself). */
static void conn_end(struct grpc_conn *c, bool tell)
{
    if (c->closed)
        return;
    c->closed = true;
    loop_timer_clear(loop_of(c), &c->keepalive);
    loop_task_clear(loop_of(c), &c->flush);
    chan_owner(c->chan, NULL, NULL);
    for (struct grpc_stream *s = c->streams; s; s = s->next) {
        if (!tell) {
            s->ops = NULL;
            s->ended = true;
        }
        loop_timer_clear(loop_of(c), &s->deadline);
    }
    for (bool again = tell; again;) { /* a callback may end other streams: look anew each time */
        again = false;
        for (struct grpc_stream *s = c->streams; s; s = s->next) {
            if (!s->ended) {
                stream_ended(s, GRPC_UNAVAILABLE, slice_str(c->why.msg));
                again = true;
                break;
            }
        }
    }
    loop_task_add(loop_of(c), &c->gone, conn_free);
    if (tell && c->ops->on_close)
        c->ops->on_close(c, &c->why);
}

static void conn_fail(struct grpc_conn *c, enum err_code code, const char *why)
{
    if (c->closed)
        return;
    err_set(&c->why, code, "%s", why);
    conn_end(c, true);
}

static void keepalive_tick(struct loop_timer *t)
{
    struct grpc_conn *c = CONTAINER_OF(t, struct grpc_conn, keepalive);
    int64_t idle = loop_now(loop_of(c)) - c->heard_ns, period = c->limits.keepalive_ns;
    if (c->ping_sent && idle >= period) {
        conn_fail(c, ERR_TIMEOUT, "no answer to a ping");
        return;
    }
    if (idle >= period) {
        c->ping_sent = true;
        nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        flush_later(c);
    }
    loop_timer_in(loop_of(c), &c->keepalive, idle >= period ? period : period - idle,
                  keepalive_tick);
}

static void on_chan(void *user, unsigned events)
{
    struct grpc_conn *c = user;
    if (events & CHAN_FAIL) {
        conn_fail(c, c->chan->failure, "connection failed");
        return;
    }
    if (events & (CHAN_OPEN | CHAN_WRITE))
        flush_later(c);
    if (events & (CHAN_OPEN | CHAN_READ))
        readable(c);
}

static int session_new(struct grpc_conn *c)
{
    nghttp2_session_callbacks *cb;
    nghttp2_option *opt;
    int rc = -1;
    if (nghttp2_session_callbacks_new(&cb) != 0)
        return -1;
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    if (nghttp2_option_new(&opt) == 0) {
        nghttp2_option_set_no_auto_window_update(opt, 1);
        nghttp2_option_set_max_deflate_dynamic_table_size(opt, 0);
        nghttp2_option_set_max_reserved_remote_streams(opt, 0);
        nghttp2_option_set_no_closed_streams(opt, 1);
        rc = c->server ? nghttp2_session_server_new2(&c->session, cb, c, opt)
                       : nghttp2_session_client_new2(&c->session, cb, c, opt);
        nghttp2_option_del(opt);
    }
    nghttp2_session_callbacks_del(cb);
    if (rc != 0)
        return -1;
    nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->server ? c->limits.max_streams : 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_MAX},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 0}, /* a table for each peer costs more than it saves */
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    return nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, c->server ? 4 : 5) ||
                   nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW)
               ? -1
               : 0;
}

static int conn_new(struct chan *chan, bool server, const struct grpc_limits *limits,
                    const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                    struct err *err)
{
    struct grpc_conn *c = mem_zalloc(sizeof *c);
    if (!c) {
        chan_close(chan);
        return err_set(err, ERR_NOMEM, "gRPC connection");
    }
    c->chan = chan;
    c->server = server;
    c->ops = ops;
    c->user = user;
    if (limits)
        c->limits = *limits;
    if (!c->limits.max_streams)
        c->limits.max_streams = DEFAULT_STREAMS;
    if (!c->limits.max_message)
        c->limits.max_message = DEFAULT_MESSAGE;
    if (!c->limits.send_high_water)
        c->limits.send_high_water = DEFAULT_HIGH_WATER;
    buf_init(&c->out, OUT_MAX);
    if (session_new(c) < 0) {
        nghttp2_session_del(c->session);
        chan_close(chan);
        mem_free(c);
        return err_set(err, ERR_NOMEM, "HTTP/2 session");
    }
    c->heard_ns = loop_now(chan->loop);
    chan_owner(chan, on_chan, c);
    if (c->limits.keepalive_ns)
        loop_timer_in(chan->loop, &c->keepalive, c->limits.keepalive_ns, keepalive_tick);
    if (chan->open) {
        flush_later(c);
        chan_resume(chan); /* what came before we owned it */
    }
    *ret = c;
    return 0;
}

int grpc_client(struct chan *chan, const char *authority, const struct grpc_limits *limits,
                const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                struct err *err)
{
    struct grpc_conn *c;
    if (conn_new(chan, false, limits, ops, user, &c, err) < 0)
        return -1;
    slice_copy(slice_str(authority), c->authority, sizeof c->authority);
    *ret = c;
    return 0;
}

int grpc_server(struct chan *chan, const struct grpc_limits *limits,
                const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                struct err *err)
{
    return conn_new(chan, true, limits, ops, user, ret, err);
}

void *grpc_conn_user(const struct grpc_conn *c)
{
    return c->user;
}

struct chan *grpc_conn_chan(const struct grpc_conn *c)
{
    return c->chan;
}

int grpc_call(struct grpc_conn *c, const char *path, const char *const *metadata,
              int64_t timeout_ns, const struct grpc_stream_ops *ops, void *user,
              struct grpc_stream **ret, struct err *err)
{
    nghttp2_nv nv[8 + 16] = {
        NV(":method", "POST"), NV(":scheme", "https"), NV(":path", path),
        NV(":authority", c->authority), NV("content-type", "application/grpc"), NV("te", "trailers"),
    };
    size_t n = 6;
    char timeout[16];
    if (c->closed || c->draining)
        return err_set(err, ERR_CLOSED, "the connection is closed");
    if (timeout_ns > 0) {
        timeout_format(timeout_ns, timeout);
        nv[n++] = (nghttp2_nv)NV("grpc-timeout", timeout);
    }
    for (; metadata && metadata[0]; metadata += 2) {
        if (n == N_OF(nv))
            return err_set(err, ERR_LIMIT, "too much metadata");
        nv[n++] = (nghttp2_nv)NV(metadata[0], metadata[1]);
    }
    struct grpc_stream *s = stream_new(c);
    if (!s)
        return err_set(err, ERR_NOMEM, "call");
    grpc_stream_set(s, ops, user);
    nghttp2_data_provider data = {.source.ptr = s, .read_callback = read_out};
    s->id = nghttp2_submit_request(c->session, NULL, nv, n, &data, s);
    if (s->id < 0) {
        int code = s->id;
        s->id = 0;
        stream_free(s);
        return err_set(err, code == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_UNAVAILABLE, "%s",
                       nghttp2_strerror(code));
    }
    if (timeout_ns > 0)
        loop_timer_in(loop_of(c), &s->deadline, timeout_ns, deadline_passed);
    flush_later(c);
    *ret = s;
    return 0;
}

void grpc_conn_drain(struct grpc_conn *c)
{
    if (c->closed || c->draining)
        return;
    c->draining = true;
    nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR, NULL,
                          0);
    flush_later(c);
}

void grpc_conn_close(struct grpc_conn *c)
{
    conn_end(c, false);
}
