/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/2 session of a connection (RFC 9113) and the channel under it. nghttp2 frames; what it
 * wants to send is gathered and written once at the end of a turn; between turns nothing is held.
 */
#include <sys/mman.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/grpc_int.h"
#include "lib/tls/tls.h"

enum {
    DEFAULT_STREAMS = 100,
    DEFAULT_MESSAGE = 4 << 20,
    DEFAULT_HIGH_WATER = 256 << 10,
    READ_BYTES = 16 << 10,
    READS_PER_TURN = 16,
    OUT_MAX = 64 << 20,
    RESET_BURST = 200, /* streams that a client may reset at once, and per second after that */
    RESET_RATE = 20,
    CONTINUATIONS = 8,
    OUTBOUND_ACKS = 100, /* of pings and settings that a peer makes us owe without reading them */
    SETTINGS_ENTRIES = 16,
    FRAMES_BYTES = 16384,
};

static const uint8_t drain_ping[8] = "drain";

static void conn_end(struct grpc_conn *c, bool tell);
static void flush_task(struct loop_task *t);

static void conn_fail(struct grpc_conn *c, enum err_code code, const char *why)
{
    if (c->closed)
        return;
    if (!c->broken)
        err_set(&c->why, code, "%s", why);
    conn_end(c, true);
}

void grpc_conn_break(struct grpc_conn *c, enum err_code code, const char *why)
{
    if (c->closed || c->broken)
        return;
    c->broken = true;
    err_set(&c->why, code, "%s", why);
    if (!c->flush.prev)
        loop_task_add(grpc_loop(c), &c->flush, flush_task);
}

static const char *chan_text(const struct chan *chan)
{
    const char *tls = chan_is_tls(chan) ? tls_chan_error(chan) : "";

    return tls[0] ? tls : chan_failure_text(chan);
}

/* --- writing -------------------------------------------------------------------------------------
 */

void grpc_flush_later(struct grpc_conn *c)
{
    if (!c->closed && c->chan->open && !c->flush.prev)
        loop_task_add(grpc_loop(c), &c->flush, flush_task);
}

/* Frames to the buffer; false when the connection failed. */
static bool gather(struct grpc_conn *c)
{
    while (!c->closed && buf_len(&c->out) < GRPC_WRITE_BYTES) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(c->session, &p);

        if (n > 0)
            buf_add(&c->out, p, (size_t)n);
        if (n < 0 || buf_err(&c->out) != ERR_OK) {
            conn_fail(c, ERR_NOMEM, n < 0 ? nghttp2_strerror((int)n) : "out of memory");
            return false;
        }
        if (n == 0)
            break;
    }
    return !c->closed;
}

/* False when not all could be written now. */
static bool flush(struct grpc_conn *c)
{
    for (;;) {
        if (!gather(c))
            return false;
        if (buf_len(&c->out) == 0)
            break;
        struct slice s = buf_slice(&c->out);
        size_t n;
        enum err_code rc = chan_write(c->chan, s.p, s.len, &n);
        if (rc == ERR_AGAIN)
            return false;
        if (rc != ERR_OK) {
            conn_fail(c, rc, chan_text(c->chan));
            return false;
        }
        buf_consume(&c->out, n);
    }
    buf_fini(&c->out);
    return true;
}

/* Nothing more to say or to hear after a GOAWAY. */
static void finished(struct grpc_conn *c)
{
    if (c->goaway_code)
        conn_fail(c, ERR_PROTO, nghttp2_http2_strerror(c->goaway_code));
    else if (c->draining)
        conn_fail(c, ERR_EOF, "the connection was drained");
    else
        conn_fail(c, ERR_PROTO, "the other side broke HTTP/2");
}

static void flush_task(struct loop_task *t)
{
    struct grpc_conn *c = CONTAINER_OF(t, struct grpc_conn, flush);

    if (c->broken) {
        conn_end(c, true);
        return;
    }
    if (!c->chan->open || !flush(c))
        return;
    /* Streams go only when nghttp2 closes them, so this list is stable; the connection may close.
     */
    for (struct grpc_stream *s = c->streams, *next; s && !c->closed; s = next) {
        next = s->next;
        grpc_stream_flushed(s);
    }
    if (!c->closed && nghttp2_session_want_write(c->session)) /* window that was given back */
        grpc_flush_later(c);
    else if (!c->closed && !nghttp2_session_want_read(c->session))
        finished(c);
}

/* --- reading -------------------------------------------------------------------------------------
 */

static struct grpc_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct grpc_conn *c = user;

    if (!c->server || f->hd.type != NGHTTP2_HEADERS || f->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct grpc_stream *s = c->closed ? NULL : grpc_stream_new(c);
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

    (void)flags, (void)user;
    if (s && grpc_stream_header(s, slice_of(name, name_len), slice_of(value, value_len)) < 0)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p, size_t n,
                   void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = stream_of(session, id);

    (void)flags;
    if (c->closed)
        return 0;
    /* One slow stream does not hold up the others: the connection's window is given back at once.
     */
    if (nghttp2_session_consume_connection(session, n) == NGHTTP2_ERR_NOMEM)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (s)
        grpc_stream_data(s, slice_of(p, n));
    return 0;
}

static void on_ping_ack(struct grpc_conn *c, const nghttp2_frame *f)
{
    if (memcmp(f->ping.opaque_data, drain_ping, sizeof drain_ping) != 0) {
        c->ping_sent = false;
    } else if (c->draining && !c->leaving) {
        c->leaving = true;
        nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR,
                              NULL, 0);
    }
}

static void on_conn_frame(struct grpc_conn *c, const nghttp2_frame *f)
{
    if (f->hd.type == NGHTTP2_SETTINGS && !(f->hd.flags & NGHTTP2_FLAG_ACK) && !c->ready) {
        c->ready = true;
        if (c->ops->on_ready)
            c->ops->on_ready(c);
    } else if (f->hd.type == NGHTTP2_PING && f->hd.flags & NGHTTP2_FLAG_ACK) {
        on_ping_ack(c, f);
    } else if (f->hd.type == NGHTTP2_GOAWAY) {
        c->draining = true;
        c->goaway_code = f->goaway.error_code;
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = f->hd.stream_id ? stream_of(session, f->hd.stream_id) : NULL;

    if (c->closed)
        return 0;
    if (f->hd.stream_id == 0) {
        on_conn_frame(c, f);
        return 0;
    }
    if (!s || (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA))
        return 0;
    if (f->hd.type == NGHTTP2_HEADERS && !s->headers_done)
        grpc_stream_head(s);
    if (!c->closed && f->hd.flags & NGHTTP2_FLAG_END_STREAM)
        grpc_stream_half_closed(s);
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = f->hd.stream_id ? stream_of(session, f->hd.stream_id) : NULL;

    if (!s || c->closed || f->hd.type != NGHTTP2_HEADERS)
        return 0;
    s->headers_sent = true;
    /* The answer is whole: what the client still has to say is not wanted (RFC 9113 8.1). */
    if (c->server && f->hd.flags & NGHTTP2_FLAG_END_STREAM && !s->half_closed)
        grpc_stream_reset(s, NGHTTP2_NO_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct grpc_conn *c = user;
    struct grpc_stream *s = stream_of(session, id);

    if (!s)
        return 0;
    if (c->server && s->end_queued && code == NGHTTP2_NO_ERROR)
        grpc_stream_ended(s, s->end_status, slice_str(s->end_detail));
    else if (!c->server && !s->headers_sent)
        grpc_stream_ended(s, GRPC_UNAVAILABLE, SL("the connection takes no more calls"));
    else
        grpc_stream_ended(s, grpc_status_of_reset(code), SL("stream reset"));
    nghttp2_session_set_stream_user_data(session, id, NULL);
    grpc_stream_free(s);
    return 0;
}

static void readable(struct grpc_conn *c)
{
    char bytes[READ_BYTES];

    for (int turns = 1; !c->closed; turns++) {
        size_t n;
        enum err_code rc = chan_read(c->chan, bytes, sizeof bytes, &n);

        if (rc == ERR_AGAIN)
            break;
        if (rc != ERR_OK) {
            conn_fail(c, rc,
                      rc == ERR_EOF ? "the other side closed the connection" : chan_text(c->chan));
            return;
        }
        c->heard_ns = loop_now(grpc_loop(c));
        ssize_t used = nghttp2_session_mem_recv(c->session, (const uint8_t *)bytes, n);
        if (used < 0) {
            conn_fail(c, used == NGHTTP2_ERR_NOMEM ? ERR_NOMEM : ERR_PROTO,
                      nghttp2_strerror((int)used));
            return;
        }
        if (turns == READS_PER_TURN) { /* others' turn */
            chan_resume(c->chan);
            break;
        }
    }
    grpc_flush_later(c);
}

static void on_chan(void *user, unsigned events)
{
    struct grpc_conn *c = user;

    if (events & CHAN_FAIL) {
        conn_fail(c, c->chan->failure, chan_text(c->chan));
        return;
    }
    if (events & (CHAN_OPEN | CHAN_WRITE))
        grpc_flush_later(c);
    if (events & (CHAN_OPEN | CHAN_READ))
        readable(c);
}

/* --- life ----------------------------------------------------------------------------------------
 */

/* nghttp2's memory. Most of what a session takes when it is made it never writes here: two tables for
 * header compression that is not used, the slots of 256 streams of which one lives, and a buffer of
 * 16 KiB for the largest frame that it could have to pack, though DATA does not pass through it
 * (grpc_send_data). In pages of their own, in this order, they cost one page: that of the slot of
 * stream 1 and of the beginning of the buffer. These sizes are nghttp2's; others go to the heap. */
enum {
    TABLE_BYTES = 1024,
    TABLES = 2,
    SLOTS_BYTES = 4096,
    SLOTS_AT = TABLES * TABLE_BYTES,
    FRAMES_AT = SLOTS_AT + SLOTS_BYTES,
    PAGES_BYTES = FRAMES_AT + FRAMES_BYTES + 2048,
};

static void pages_map(struct grpc_conn *c)
{
    void *p = mmap(NULL, PAGES_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    c->pages = p == MAP_FAILED ? NULL : p;
}

static void pages_unmap(struct grpc_conn *c)
{
    if (c->pages)
        munmap(c->pages, PAGES_BYTES);
    c->pages = NULL;
}

/* Bytes from p to the end of its place there; 0: it is of the heap. */
static size_t pages_room(const struct grpc_conn *c, const char *p)
{
    size_t at = c->pages && p ? (size_t)(p - c->pages) : PAGES_BYTES;

    return at >= PAGES_BYTES ? 0
           : at < SLOTS_AT   ? TABLE_BYTES
           : at < FRAMES_AT  ? SLOTS_BYTES
                             : PAGES_BYTES - FRAMES_AT;
}

static void *h2_malloc(size_t n, void *user)
{
    struct grpc_conn *c = user;

    if (c->pages && n == TABLE_BYTES && c->tables < TABLES)
        return c->pages + TABLE_BYTES * (size_t)c->tables++;
    if (c->pages && n >= FRAMES_BYTES && n <= PAGES_BYTES - FRAMES_AT && !c->frames) {
        c->frames = true;
        return c->pages + FRAMES_AT;
    }
    return mem_alloc(n);
}
/* Places are given once and never again: what is in them would no longer be zero. */
static void h2_free(void *p, void *user)
{
    if (!pages_room(user, p))
        mem_free(p);
}
static void *h2_calloc(size_t count, size_t size, void *user)
{
    struct grpc_conn *c = user;

    if (c->pages && count * size == SLOTS_BYTES && !c->slots) {
        c->slots = true;
        return c->pages + SLOTS_AT;
    }
    return mem_array(count, size);
}
static void *h2_realloc(void *p, size_t n, void *user)
{
    size_t room = pages_room(user, p);
    void *to;

    if (!p)
        return h2_malloc(n, user);
    if (!room)
        return mem_realloc(p, n);
    if (n <= room)
        return p;
    to = mem_alloc(n);
    if (to)
        memcpy(to, p, room);
    return to;
}

static void conn_free(struct loop_task *t)
{
    struct grpc_conn *c = CONTAINER_OF(t, struct grpc_conn, gone);

    while (c->streams)
        grpc_stream_free(c->streams);
    nghttp2_session_del(c->session);
    pages_unmap(c);
    buf_fini(&c->out);
    chan_close(c->chan);
    mem_free(c->authority);
    mem_free(c);
}

/* The end of everything: streams are told first, then the owner (unless it closed by itself). */
static void conn_end(struct grpc_conn *c, bool tell)
{
    struct grpc_stream *s;

    if (c->closed) {
        c->quiet = c->quiet || !tell; /* its owner closes it when told of its end */
        return;
    }
    c->closed = true;
    loop_timer_clear(grpc_loop(c), &c->keepalive);
    loop_task_clear(grpc_loop(c), &c->flush);
    chan_owner(c->chan, NULL, NULL);
    for (s = c->streams; s; s = s->next) {
        loop_timer_clear(grpc_loop(c), &s->deadline);
        s->ended = s->ended || !tell;
    }
    do { /* a callback may end other streams: look anew each time */
        for (s = c->streams; s && s->ended; s = s->next)
            ;
        if (s && c->quiet)
            s->ended = true;
        else if (s)
            grpc_stream_ended(s, GRPC_UNAVAILABLE, slice_str(c->why.msg));
    } while (s);
    loop_task_add(grpc_loop(c), &c->gone, conn_free);
    if (tell && !c->quiet && c->ops->on_close)
        c->ops->on_close(c, &c->why);
}

static void keepalive_tick(struct loop_timer *t)
{
    struct grpc_conn *c = CONTAINER_OF(t, struct grpc_conn, keepalive);
    int64_t idle = loop_now(grpc_loop(c)) - c->heard_ns, period = c->limits.keepalive_ns;

    if (c->ping_sent && idle >= period) {
        conn_fail(c, ERR_TIMEOUT, "no answer to a ping");
        return;
    }
    if (idle >= period) {
        c->ping_sent = true;
        if (nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL) != 0)
            grpc_conn_break(c, ERR_NOMEM, "out of memory");
        grpc_flush_later(c);
    }
    loop_timer_in(grpc_loop(c), &c->keepalive, idle >= period ? period : period - idle,
                  keepalive_tick);
}

static int session_open(struct grpc_conn *c, nghttp2_session_callbacks *cb, nghttp2_option *opt)
{
    nghttp2_mem mem = {c, h2_malloc, h2_free, h2_calloc, h2_realloc};

    pages_map(c);
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, grpc_send_data);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_max_deflate_dynamic_table_size(opt, 0);
    nghttp2_option_set_max_reserved_remote_streams(opt, 0);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_max_outbound_ack(opt, OUTBOUND_ACKS);
    nghttp2_option_set_max_settings(opt, SETTINGS_ENTRIES);
    nghttp2_option_set_stream_reset_rate_limit(opt, RESET_BURST, RESET_RATE);
    nghttp2_option_set_max_continuations(opt, CONTINUATIONS);
    return c->server ? nghttp2_session_server_new3(&c->session, cb, c, opt, &mem)
                     : nghttp2_session_client_new3(&c->session, cb, c, opt, &mem);
}

static int session_new(struct grpc_conn *c)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    int rc = -1;

    if (nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0)
        rc = session_open(c, cb, opt);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    if (rc != 0)
        return -1;
    nghttp2_settings_entry iv[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, c->server ? c->limits.max_streams : 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, GRPC_HEADER_LIST_MAX},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE,
         0}, /* a table for each peer costs more than it saves */
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, iv, c->server ? 4 : 5) != 0)
        return -1;
    return nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                                 GRPC_CONN_WINDOW);
}

static int conn_new(struct chan *chan, const char *authority, const struct grpc_limits *limits,
                    const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                    struct err *err)
{
    struct grpc_conn *c = mem_zalloc(sizeof *c);

    if (!c)
        goto fail;
    c->chan = chan;
    c->server = authority == NULL;
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
    if (authority && !(c->authority = mem_strdup(authority)))
        goto fail;
    if (session_new(c) != 0)
        goto fail;
    c->heard_ns = loop_now(chan->loop);
    if (c->limits.keepalive_ns &&
        loop_timer_in(chan->loop, &c->keepalive, c->limits.keepalive_ns, keepalive_tick) < 0)
        goto fail;
    chan_owner(chan, on_chan, c);
    if (chan->open) {
        grpc_flush_later(c);
        chan_resume(chan); /* what came before we owned it */
    }
    *ret = c;
    return 0;
fail:
    if (c) {
        nghttp2_session_del(c->session);
        pages_unmap(c);
        mem_free(c->authority);
        mem_free(c);
    }
    chan_close(chan);
    return err_set(err, ERR_NOMEM, "gRPC connection");
}

int grpc_client(struct chan *chan, const char *authority, const struct grpc_limits *limits,
                const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                struct err *err)
{
    return conn_new(chan, authority, limits, ops, user, ret, err);
}

int grpc_server(struct chan *chan, const struct grpc_limits *limits,
                const struct grpc_conn_ops *ops, void *user, struct grpc_conn **ret,
                struct err *err)
{
    return conn_new(chan, NULL, limits, ops, user, ret, err);
}

void *grpc_conn_user(const struct grpc_conn *c)
{
    return c->user;
}

struct chan *grpc_conn_chan(const struct grpc_conn *c)
{
    return c->chan;
}

/* RFC 9113 6.8: first a notice that names no last stream, so that calls already on their way are
 * served, and when that was heard the final word. */
void grpc_conn_drain(struct grpc_conn *c)
{
    int rc;

    if (c->closed || c->draining)
        return;
    c->draining = true;
    if (c->server) {
        rc = nghttp2_submit_shutdown_notice(c->session);
        if (rc == 0)
            rc = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, drain_ping);
    } else {
        rc = nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
    }
    if (rc != 0)
        grpc_conn_break(c, ERR_NOMEM, "out of memory");
    grpc_flush_later(c);
}

void grpc_conn_close(struct grpc_conn *c)
{
    conn_end(c, false);
}
