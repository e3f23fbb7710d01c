/* SPDX-License-Identifier: Apache-2.0 */
/* The session and the channel under it: what comes is given to nghttp2, what it wants to send is
 * gathered and written once at the end of a turn; rations; the beginning and the end of connections
 * and streams. */
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/base/pages.h"
#include "lib/http/h2_int.h"
#include "lib/tls/tls.h"

enum {
    DEFAULT_STREAMS = 256,
    DEFAULT_CONN_WINDOW = 1 << 20,
    DEFAULT_STREAM_WINDOW = 65535,
    DEFAULT_HEAD_BYTES = 60 << 10,
    DEFAULT_HEAD_FIELDS = 100,
    DEFAULT_SEND_HIGH = 64 << 10,
    DEFAULT_SEND_TIMES = 16,
    DEFAULT_TURN_BYTES = 256 << 10,
    DEFAULT_HELD_MAX = 4 << 20,
    PEER_STREAMS_ASSUMED = 100,
    ACKS_MAX = 4000,
    SETTINGS_MAX = 32,
    CONTINUATIONS_MAX = 8,
    FRAME_BUFFER = 16384,
};

const uint8_t h2_drain_ping[8] = "drain";
static const uint8_t owner_ping[8] = "alive?";

const char *h2_limit_label(enum h2_limit l)
{
    static const char *const labels[] = {
#define X(name, label, meaning) label,
        H2_LIMITS(X)
#undef X
    };
    return labels[l];
}

const char *h2_limit_text(enum h2_limit l)
{
    static const char *const texts[] = {
#define X(name, label, meaning) meaning,
        H2_LIMITS(X)
#undef X
    };
    return texts[l];
}

/* --- nghttp2's memory --- */

/* Each session takes a buffer for the largest frame that it could have to pack, but a frame is
 * copied out of it in the same call that packs it (but for DATA's, which h2_send_data makes anew).
 * So all sessions of a thread pack into one buffer, and an idle one does not hold a page for it.
 * The one thing that nghttp2 leaves there from one call to another, a client's preface, is taken out
 * at once (preface_take).
 * What does not fit (a head of several frames) is in further buffers, which are not shared. */
static _Thread_local char frame_buffer[FRAME_BUFFER + 512];

static void *session_alloc(size_t n, void *user)
{
    struct h2 *h = user;

    if (n >= FRAME_BUFFER && n <= sizeof frame_buffer && !h->frame) {
        h->frame = frame_buffer;
        return h->frame;
    }
    return mem_alloc(n);
}
static void session_release(void *p, void *user)
{
    struct h2 *h = user;

    if (p && p == h->table) {
        page_give(p);
        h->table = NULL;
    } else if (p != h->frame) { /* the thread that frees may be another one */
        mem_free(p);
    }
}
/* The map of streams begins with a page, which is all zeroes while there is no stream (h2_rest). */
static void *session_calloc(size_t count, size_t size, void *user)
{
    struct h2 *h = user;

    if (count * size == PAGE_BYTES && !h->table && (h->table = page_take()))
        return h->table;
    return mem_array(count, size);
}
static void *session_realloc(void *p, size_t n, void *user)
{
    struct h2 *h = user;
    void *to;

    if (!p)
        return session_alloc(n, user);
    if (p != h->frame)
        return mem_realloc(p, n);
    if (n <= sizeof frame_buffer)
        return p;
    to = mem_alloc(n);
    if (to)
        memcpy(to, p, sizeof frame_buffer);
    return to;
}

/* --- the end --- */

static void session_free(struct loop_task *t)
{
    struct h2 *h = CONTAINER_OF(t, struct h2, gone);

    nghttp2_session_del(h->session);
    while (h->streams)
        h2_stream_free(h->streams);
    buf_fini(&h->out);
    mem_free(h);
}

void h2_over(struct h2 *h, bool tell)
{
    if (h->closed) {
        h->quiet = h->quiet || !tell;
        return;
    }
    h->closed = true;
    h->quiet = !tell;
    loop_timer_clear(h2_loop(h), &h->watch);
    loop_task_clear(h2_loop(h), &h->flush);
    loop_task_add(h2_loop(h), &h->gone, session_free);
    /* A callback may end other streams: from the start each time. */
    for (struct h2_stream *s = h->streams; s && !h->quiet;) {
        if (s->attached) {
            h2_broken(s, h->stalled ? H2_WHY_STALLED : H2_WHY_LOST, H2_INTERNAL_ERROR, NULL);
            s = h->streams;
        } else {
            s = s->next;
        }
    }
    chan_close(h->chan);
    if (!h->quiet) {
        h->quiet = true;
        h->ops->on_closed(h, &h->why);
    }
}

void h2_fail(struct h2 *h, enum err_code code, const char *why)
{
    if (h->closed)
        return;
    if (h->why.code == ERR_OK)
        err_set(&h->why, code, "%s", why);
    h2_over(h, true);
}

const char *h2_chan_text(const struct chan *c)
{
    const char *tls = chan_is_tls(c) ? tls_chan_error(c) : "";

    return tls[0] ? tls : chan_failure_text(c);
}

void h2_flush_later(struct h2 *h)
{
    if (!h->closed && !h->flush.prev)
        loop_task_add(h2_loop(h), &h->flush, h2_flush_task);
}

void h2_break(struct h2 *h, enum err_code code, const char *why)
{
    if (h->why.code == ERR_OK)
        err_set(&h->why, code, "%s", why);
    h2_flush_later(h);
}

/* --- streams --- */

struct h2_stream *h2_stream_new(struct h2 *h, void *user)
{
    struct h2_stream *s = mem_zalloc(sizeof *s);

    if (!s)
        return NULL;
    s->h = h;
    s->user = user;
    s->attached = true;
    s->next = h->streams;
    s->prev = &h->streams;
    if (s->next)
        s->next->prev = &s->next;
    h->streams = s;
    h->n_known++;
    h->n_attached++;
    return s;
}

void h2_stream_free(struct h2_stream *s)
{
    struct h2 *h = s->h;

    h2_detach(s);
    h->n_lingering -= s->lingers;
    h->queued -= buf_len(&s->out);
    buf_fini(&s->out);
    mem_free(s->trailers);
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    h->n_known--;
    mem_free(s);
}

void h2_detach(struct h2_stream *s)
{
    struct h2 *h = s->h;

    if (!s->attached)
        return;
    s->attached = false;
    h->n_attached--;
    if (s->full)
        h->n_full--;
    s->full = false;
    h->held -= s->owed;
    s->owed = 0;
    if (h->block.s == s)
        h->block = (struct h2_block){0}; /* nghttp2 may not tell of its end */
    if (h->conn_owed && !h->closed)
        h2_credit_conn(h);
    h2_flush_later(h);
}

void h2_rst(struct h2_stream *s, uint32_t code)
{
    struct h2 *h = s->h;

    if (s->reset || h->closed)
        return;
    s->reset = true;
    h->own_resets[h->n_own_resets++ % H2_OWN_RESETS] = s->id;
    if (nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, code) == NGHTTP2_ERR_NOMEM)
        h2_break(h, ERR_NOMEM, "out of memory");
    h2_flush_later(h);
}

void h2_broken(struct h2_stream *s, enum h2_why why, uint32_t code, const char *detail)
{
    bool untouched = !s->h->server && (!s->head_sent || why == H2_WHY_REFUSED);

    if (!s->attached)
        return;
    h2_detach(s);
    s->h->ops->on_reset(s, why, code, detail, untouched);
}

void h2_reset(struct h2_stream *s, uint32_t code)
{
    if (!s->attached)
        return;
    h2_detach(s);
    if (s->parted)
        h2_stream_free(s);
    else
        h2_rst(s, code);
}

void h2_credit_conn(struct h2 *h)
{
    if (h->held > h->config.held_max || h->conn_owed == 0)
        return;
    if (nghttp2_session_consume_connection(h->session, h->conn_owed) == NGHTTP2_ERR_NOMEM)
        h2_break(h, ERR_NOMEM, "out of memory");
    h->conn_owed = 0;
}

void h2_credit(struct h2_stream *s, uint32_t n)
{
    struct h2 *h = s->h;

    s->owed -= n;
    h->held -= n;
    if (n && !s->in_end && !s->reset &&
        nghttp2_session_consume_stream(h->session, s->id, n) == NGHTTP2_ERR_NOMEM)
        h2_break(h, ERR_NOMEM, "out of memory");
    h2_credit_conn(h);
}

void h2_pause(struct h2_stream *s, bool paused)
{
    if (!s->attached || s->h->closed || s->paused == paused)
        return;
    s->paused = paused;
    if (paused)
        return;
    h2_credit(s, s->owed);
    h2_flush_later(s->h);
}

void h2_stream_set(struct h2_stream *s, void *user)
{
    s->user = user;
}
void *h2_stream_user(const struct h2_stream *s)
{
    return s->user;
}
struct h2_stream *h2_stream_first(const struct h2 *h)
{
    struct h2_stream *s = h->streams;
    while (s && !s->attached)
        s = s->next;
    return s;
}
struct h2_stream *h2_stream_next(const struct h2_stream *s)
{
    do
        s = s->next;
    while (s && !s->attached);
    return (struct h2_stream *)(uintptr_t)s;
}
struct h2 *h2_stream_session(const struct h2_stream *s)
{
    return s->h;
}
int32_t h2_stream_id(const struct h2_stream *s)
{
    return s->id;
}

/* --- the beginning --- */

static int session_open(struct h2 *h, nghttp2_session_callbacks *cb, nghttp2_option *opt)
{
    nghttp2_mem mem = {h, session_alloc, session_release, session_calloc, session_realloc};

    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, h2_on_begin);
    nghttp2_session_callbacks_set_on_header_callback2(cb, h2_on_field);
    nghttp2_session_callbacks_set_on_begin_frame_callback(cb, h2_on_frame_begin);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, h2_on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, h2_on_frame_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2_on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(cb, h2_send_data);
    nghttp2_option_set_no_auto_window_update(opt, 1);
    nghttp2_option_set_no_http_messaging(opt, 1); /* h2_in.c has the rules */
    nghttp2_option_set_max_reserved_remote_streams(opt, 0);
    nghttp2_option_set_no_closed_streams(opt, 1);
    nghttp2_option_set_max_outbound_ack(opt, ACKS_MAX);
    nghttp2_option_set_max_settings(opt, SETTINGS_MAX);
    nghttp2_option_set_max_continuations(opt, CONTINUATIONS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(opt, 1 << 20, 1 << 20); /* h2_ration has it */
    return h->server ? nghttp2_session_server_new3(&h->session, cb, h, opt, &mem)
                     : nghttp2_session_client_new3(&h->session, cb, h, opt, &mem);
}

/* What others pack before this session has its first turn would be sent instead of it. */
static int preface_take(struct h2 *h)
{
    const uint8_t *p;

    h->preface = true;
    return nghttp2_session_mem_send(h->session, &p) == NGHTTP2_CLIENT_MAGIC_LEN ? 0 : -1;
}

static int session_new(struct h2 *h)
{
    nghttp2_session_callbacks *cb = NULL;
    nghttp2_option *opt = NULL;
    int rc = -1;
    unsigned n = 0;

    if (nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&opt) == 0)
        rc = session_open(h, cb, opt);
    nghttp2_option_del(opt);
    nghttp2_session_callbacks_del(cb);
    if (rc != 0 || (!h->server && preface_take(h) < 0))
        return -1;
    nghttp2_settings_entry iv[4];
    if (h->server)
        iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                           h->config.max_streams};
    else
        iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    if (h->config.stream_window != DEFAULT_STREAM_WINDOW)
        iv[n++] =
            (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, h->config.stream_window};
    iv[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h->config.head_bytes};
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, iv, n) != 0)
        return -1;
    return nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)h->config.conn_window);
}

static void set_defaults(struct h2_config *c)
{
    c->max_streams = c->max_streams ? c->max_streams : DEFAULT_STREAMS;
    c->stream_window = c->stream_window ? c->stream_window : DEFAULT_STREAM_WINDOW;
    c->conn_window = c->conn_window ? c->conn_window : DEFAULT_CONN_WINDOW;
    c->held_max = c->held_max ? c->held_max : DEFAULT_HELD_MAX;
    c->head_bytes = c->head_bytes ? c->head_bytes : DEFAULT_HEAD_BYTES;
    c->head_fields = c->head_fields ? c->head_fields : DEFAULT_HEAD_FIELDS;
    c->send_high = c->send_high ? c->send_high : DEFAULT_SEND_HIGH;
    c->send_all = c->send_all ? c->send_all : c->send_high * DEFAULT_SEND_TIMES;
    c->turn_bytes = c->turn_bytes ? c->turn_bytes : DEFAULT_TURN_BYTES;
    if (c->scratch_len < H2_SCRATCH_MIN)
        c->scratch = NULL;
}

static int h2_new(struct chan *chan, bool server, const struct h2_config *config,
                  const struct h2_ops *ops, void *user, struct h2 **ret, struct err *err)
{
    struct h2 *h = mem_zalloc(sizeof *h);

    if (h) {
        h->chan = chan;
        h->server = server;
        h->ops = ops;
        h->user = user;
        if (config)
            h->config = *config;
        set_defaults(&h->config);
        h->peer_streams = PEER_STREAMS_ASSUMED;
        h->skip = NGHTTP2_CLIENT_MAGIC_LEN;
        buf_init(&h->out, h->config.scratch ? h->config.scratch_len : H2_SCRATCH_MIN);
        if (session_new(h) == 0) {
            chan_owner(chan, h2_on_chan, h);
            if (chan->open) {
                h2_flush_later(h);
                chan_resume(chan); /* what came before we owned it */
            }
            *ret = h;
            return 0;
        }
        nghttp2_session_del(h->session);
        mem_free(h);
    }
    chan_close(chan);
    return err_set(err, ERR_NOMEM, "HTTP/2 session");
}

int h2_server(struct chan *chan, const struct h2_config *config, const struct h2_ops *ops,
              void *user, struct h2 **ret, struct err *err)
{
    return h2_new(chan, true, config, ops, user, ret, err);
}

int h2_client(struct chan *chan, const struct h2_config *config, const struct h2_ops *ops,
              void *user, struct h2 **ret, struct err *err)
{
    return h2_new(chan, false, config, ops, user, ret, err);
}

/* --- questions and orders --- */

void *h2_user(const struct h2 *h)
{
    return h->user;
}
struct chan *h2_chan(const struct h2 *h)
{
    return h->chan;
}
uint32_t h2_streams(const struct h2 *h)
{
    return h->n_attached;
}
uint32_t h2_peer_streams(const struct h2 *h)
{
    return h->peer_streams;
}
uint32_t h2_room(const struct h2 *h)
{
    if (h->server || h->draining || h->closed || h->why.code != ERR_OK ||
        !nghttp2_session_check_request_allowed(h->session))
        return 0;
    return h->peer_streams > h->n_known ? h->peer_streams - h->n_known : 0;
}
bool h2_idle(const struct h2 *h)
{
    return h->n_known == 0 && !h->block.open && h2_queued(h) == 0;
}
void h2_rest(struct h2 *h)
{
    if (h2_idle(h) && h->table)
        page_rest(h->table);
}
uint32_t h2_held(const struct h2 *h)
{
    return h->held;
}

size_t h2_queued(const struct h2 *h)
{
    return h->queued + buf_len(&h->out);
}

void h2_ping(struct h2 *h)
{
    if (h->pinged || h->closed)
        return;
    h->pinged = true;
    if (nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, owner_ping) != 0)
        h2_break(h, ERR_NOMEM, "out of memory");
    h2_flush_later(h);
}

void h2_drain(struct h2 *h)
{
    int rc;

    if (h->closed || h->draining)
        return;
    h->draining = true;
    if (h->server) {
        rc = nghttp2_submit_shutdown_notice(h->session);
        if (rc == 0)
            rc = nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, h2_drain_ping);
        if (rc != 0)
            h2_break(h, ERR_NOMEM, "out of memory");
    } /* a client's GOAWAY would overtake requests that are queued: it comes with the last stream's
         end */
    h2_flush_later(h);
}

void h2_terminate(struct h2 *h, uint32_t code)
{
    if (h->why.code == ERR_OK)
        err_set(&h->why, ERR_CLOSED, "ended with %s", nghttp2_http2_strerror(code));
    h2_die(h, code);
}

void h2_close(struct h2 *h)
{
    if (h)
        h2_over(h, false);
}
