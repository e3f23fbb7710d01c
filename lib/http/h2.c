/* SPDX-License-Identifier: Apache-2.0 */
/* The session and the channel under it: what comes is given to nghttp2, what it wants to send is
 * gathered and written once at the end of a turn; rations; the beginning and the end of connections
 * and streams. */
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h2_int.h"
#include "lib/tls/tls.h"

enum {
    DEFAULT_STREAMS = 256,
    DEFAULT_CONN_WINDOW = 1 << 20,
    DEFAULT_STREAM_WINDOW = 65535,
    DEFAULT_HEAD_BYTES = 60 << 10,
    DEFAULT_HEAD_FIELDS = 100,
    DEFAULT_SEND_HIGH = 64 << 10,
    DEFAULT_TURN_BYTES = 256 << 10,
    SCRATCH_LOCAL = 32 << 10,
    FRAME_ROOM = 16384 + 512, /* the largest that one call of nghttp2 hands out */
    HELD_MAX = 512 << 10, /* content that owners keep back before the connection's window closes */
    PEER_STREAMS_ASSUMED = 100,
    PEER_STREAMS_MAX = 1 << 20,
    ACKS_MAX = 1000,
    SETTINGS_MAX = 32,
    CONTINUATIONS_MAX = 8,
    RESETS_BURST = 500, /* streams that a client may break off unanswered at once, and per second */
    RESETS_RATE = 100,
    NOISE_BURST = 2000, /* frames that carry nothing */
    NOISE_RATE = 200,
    NOISE_EARNED = 16, /* that a frame which carries something earns */
    FRAME_BUFFER = 16384,
};

static const uint8_t drain_ping[8] = "drain";
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

/* --- nghttp2's memory
 * ----------------------------------------------------------------------------- */

/* Each session takes a buffer for the largest frame that it could have to pack, but a frame is
 * copied out of it in the same call that packs it (but for DATA's, which h2_send_data makes anew).
 * So all sessions of a thread pack into one buffer, and an idle one does not hold a page for it.
 * What does not fit (a head of several frames) is in further buffers, which are not shared. */
static _Thread_local char frame_buffer[FRAME_BUFFER + 512];

static void *session_alloc(size_t n, void *user)
{
    struct h2 *h = user;

    if (n >= FRAME_BUFFER && n <= sizeof frame_buffer && !h->frame_taken) {
        h->frame_taken = true;
        return frame_buffer;
    }
    return mem_alloc(n);
}
static void session_release(void *p, void *user)
{
    (void)user;
    if (p != frame_buffer)
        mem_free(p);
}
static void *session_calloc(size_t count, size_t size, void *user)
{
    (void)user;
    return mem_array(count, size);
}
static void *session_realloc(void *p, size_t n, void *user)
{
    void *to;

    if (!p)
        return session_alloc(n, user);
    if (p != frame_buffer)
        return mem_realloc(p, n);
    if (n <= sizeof frame_buffer)
        return p;
    to = mem_alloc(n);
    if (to)
        memcpy(to, p, sizeof frame_buffer);
    return to;
}

/* --- the end
 * --------------------------------------------------------------------------------------- */

static void session_free(struct loop_task *t)
{
    struct h2 *h = CONTAINER_OF(t, struct h2, gone);

    nghttp2_session_del(h->session);
    while (h->streams)
        h2_stream_free(h->streams);
    buf_fini(&h->out);
    mem_free(h);
}

static void session_end(struct h2 *h, bool tell)
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
            h2_broken(s, H2_WHY_LOST, H2_INTERNAL_ERROR, NULL);
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

static void session_fail(struct h2 *h, enum err_code code, const char *why)
{
    if (h->closed)
        return;
    if (h->why.code == ERR_OK)
        err_set(&h->why, code, "%s", why);
    session_end(h, true);
}

static const char *chan_text(const struct chan *c)
{
    const char *tls = chan_is_tls(c) ? tls_chan_error(c) : "";

    return tls[0] ? tls : chan_failure_text(c);
}

static void flush_task(struct loop_task *t);

void h2_flush_later(struct h2 *h)
{
    if (!h->closed && !h->flush.prev)
        loop_task_add(h2_loop(h), &h->flush, flush_task);
}

void h2_break(struct h2 *h, enum err_code code, const char *why)
{
    if (h->why.code == ERR_OK)
        err_set(&h->why, code, "%s", why);
    h2_flush_later(h);
}

/* --- streams
 * ---------------------------------------------------------------------------------------- */

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
    if (h->held > HELD_MAX || h->conn_owed == 0)
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
struct h2 *h2_stream_session(const struct h2_stream *s)
{
    return s->h;
}
int32_t h2_stream_id(const struct h2_stream *s)
{
    return s->id;
}

/* --- rations
 * ---------------------------------------------------------------------------------------- */

void h2_hit(struct h2 *h, enum h2_limit limit)
{
    if (h->ops->on_limit)
        h->ops->on_limit(h, limit);
}

static bool bucket_take(struct h2_bucket *b, int64_t now, int32_t burst, int32_t rate)
{
    int64_t back = b->at_ns ? (now - b->at_ns) / (NS_PER_S / rate) : burst;

    if (back > 0) {
        b->left = (int32_t)MIN(b->left + back, burst);
        b->at_ns = now;
    }
    return b->left-- > 0;
}

/* GOAWAY, and the end when it is written. */
static void die(struct h2 *h, uint32_t code)
{
    if (h->dying || h->closed)
        return;
    h->dying = h->draining = true;
    nghttp2_session_terminate_session(h->session, code);
    h2_flush_later(h);
}

bool h2_ration(struct h2 *h, enum h2_limit limit)
{
    bool resets = limit == H2_LIMIT_RESETS;

    if (bucket_take(resets ? &h->resets : &h->noise, loop_now(h2_loop(h)),
                    resets ? RESETS_BURST : NOISE_BURST, resets ? RESETS_RATE : NOISE_RATE))
        return true;
    if (!h->dying && !h->closed) {
        h2_hit(h, limit);
        if (h->why.code == ERR_OK)
            err_set(&h->why, ERR_LIMIT, "%s", h2_limit_text(limit));
        die(h, H2_ENHANCE_YOUR_CALM);
    }
    return false;
}

/* A frame that carries something earns some that do not: window updates, pings. */
static void earned(struct h2 *h)
{
    if (h->noise.at_ns)
        h->noise.left = MIN(h->noise.left + NOISE_EARNED, NOISE_BURST);
}

static void final_goaway(struct h2 *h)
{
    h->final_goaway = true;
    if (nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR,
                              NULL, 0) != 0)
        h2_break(h, ERR_NOMEM, "out of memory");
}

/* --- writing
 * ---------------------------------------------------------------------------------------- */

/* Frames into the gathering buffer; false when the session failed. */
static bool gather(struct h2 *h, char *to, size_t cap)
{
    h->gather = to;
    h->gather_cap = cap;
    h->gathered = 0;
    h->within = true;
    while (!h->closed && cap - h->gathered >= FRAME_ROOM) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);

        if (n < 0) {
            h->within = false;
            session_fail(h, ERR_NOMEM, nghttp2_strerror((int)n));
            return false;
        }
        if (n > 0) {
            memcpy(to + h->gathered, p, (size_t)n);
            h->gathered += (size_t)n;
        }
        if (n == 0)
            break;
    }
    h->within = false;
    h->gather = NULL;
    return !h->closed;
}

/* *ret_n of the bytes went; false when not all did. */
static bool write_some(struct h2 *h, struct slice s, size_t *ret_n)
{
    size_t n;

    for (*ret_n = 0; *ret_n < s.len; *ret_n += n) {
        enum err_code rc = chan_write(h->chan, s.p + *ret_n, s.len - *ret_n, &n);

        if (rc == ERR_AGAIN)
            return false;
        if (rc != ERR_OK) {
            session_fail(h, rc, chan_text(h->chan));
            return false;
        }
        h->moved_ns = loop_now(h2_loop(h));
    }
    return true;
}

/* False when not all could be written now, or the session ended. */
static bool write_all(struct h2 *h)
{
    char local[SCRATCH_LOCAL];
    char *to = h->config.scratch ? h->config.scratch : local;
    size_t cap = h->config.scratch ? h->config.scratch_len : sizeof local, n;

    if (buf_len(&h->out)) {
        bool all = write_some(h, buf_slice(&h->out), &n);
        if (!h->closed)
            buf_consume(&h->out, n);
        if (!all)
            return false;
        buf_fini(&h->out);
    }
    for (;;) {
        if (!gather(h, to, cap))
            return false;
        if (h->gathered == 0)
            return true;
        if (write_some(h, slice_of(to, h->gathered), &n))
            continue;
        if (h->closed)
            return false;
        h->moved_ns = loop_now(h2_loop(h));
        buf_add_slice(&h->out, slice_skip(slice_of(to, h->gathered), n));
        if (buf_err(&h->out) != ERR_OK)
            session_fail(h, ERR_NOMEM, "out of memory");
        return false;
    }
}

/* Owners that were told to wait. */
static void tell_room(struct h2 *h)
{
    size_t low = h->config.send_high / 2;

    if (h->queued > (size_t)h->config.send_high * 8)
        return;
    for (struct h2_stream *s = h->streams, *next; s && h->n_full && !h->closed; s = next) {
        next = s->next; /* freed only by nghttp2, which does not run here */
        if (!s->full || buf_len(&s->out) > low)
            continue;
        s->full = false;
        h->n_full--;
        h->ops->on_drain(s);
    }
}

/* Nothing more to say or to hear. */
static void finished(struct h2 *h)
{
    if (h->goaway_code)
        session_fail(h, ERR_PROTO, nghttp2_http2_strerror(h->goaway_code));
    else if (h->draining)
        session_fail(h, ERR_EOF, "the connection was drained");
    else
        session_fail(h, ERR_PROTO, "the other side broke HTTP/2");
}

static void watch_late(struct loop_timer *t);

/* A timer runs only while somebody waits for the peer. */
static void watch(struct h2 *h)
{
    int64_t wait = INT64_MAX;

    if (loop_timer_is_set(&h->watch))
        return;
    if (h->config.head_ns && h->block.open)
        wait = h->config.head_ns;
    if (h->config.stall_ns && (h->queued || buf_len(&h->out)))
        wait = MIN(wait, h->config.stall_ns);
    if (wait != INT64_MAX)
        loop_timer_in(h2_loop(h), &h->watch, wait, watch_late);
}

static void flush_now(struct h2 *h)
{
    if (h->closed || !h->chan->open)
        return;
    if (h->why.code != ERR_OK && !h->dying) {
        session_end(h, true);
        return;
    }
    if (!h->server && h->draining && !h->final_goaway && h->n_known == 0)
        final_goaway(h);
    bool all = write_all(h);
    if (h->closed)
        return;
    if (h->n_full)
        tell_room(h);
    if (h->closed)
        return;
    if (all && nghttp2_session_want_write(h->session)) /* what tell_room brought */
        h2_flush_later(h);
    else if (all && !nghttp2_session_want_read(h->session))
        finished(h);
    else
        watch(h);
}

static void flush_task(struct loop_task *t)
{
    flush_now(CONTAINER_OF(t, struct h2, flush));
}

void h2_flush(struct h2 *h)
{
    if (h->within || h->closed)
        return;
    loop_task_clear(h2_loop(h), &h->flush);
    flush_now(h);
}

/* The streams that wait for a window which the peer does not open. The earliest that could be next.
 */
static int64_t stalled_streams(struct h2 *h, int64_t now)
{
    int64_t next = INT64_MAX, limit = h->config.stall_ns;

    for (struct h2_stream *s = h->streams, *after; s && !h->closed; s = after) {
        after = s->next;
        if (buf_len(&s->out) == 0 || s->reset)
            continue;
        if (now - s->moved_ns < limit) {
            next = MIN(next, s->moved_ns + limit);
            continue;
        }
        h2_hit(h, H2_LIMIT_STALL);
        if (h->closed)
            break;
        h2_rst(s, H2_CANCEL);
        h2_broken(s, H2_WHY_STALLED, H2_CANCEL, h2_limit_text(H2_LIMIT_STALL));
    }
    return next;
}

static void watch_late(struct loop_timer *t)
{
    struct h2 *h = CONTAINER_OF(t, struct h2, watch);
    int64_t now = loop_now(h2_loop(h)), next = INT64_MAX, at;

    if (h->config.head_ns && h->block.open) {
        at = h->block.since_ns + h->config.head_ns;
        if (at <= now) {
            h2_hit(h, H2_LIMIT_HEAD_LATE);
            if (!h->closed)
                session_fail(h, ERR_TIMEOUT, h2_limit_text(H2_LIMIT_HEAD_LATE));
            return;
        }
        next = at;
    }
    if (h->config.stall_ns && buf_len(&h->out)) {
        at = h->moved_ns + h->config.stall_ns;
        if (at <= now) {
            h2_hit(h, H2_LIMIT_STALL);
            if (h->closed)
                return;
            chan_tcp_reset(h->chan); /* what the kernel holds for it goes, too */
            session_fail(h, ERR_TIMEOUT, h2_limit_text(H2_LIMIT_STALL));
            return;
        }
        next = MIN(next, at);
    } else if (h->config.stall_ns && h->queued) {
        next = MIN(next, stalled_streams(h, now));
    }
    if (!h->closed && next != INT64_MAX)
        loop_timer_at(h2_loop(h), &h->watch, next, watch_late);
}

/* --- reading
 * ---------------------------------------------------------------------------------------- */

static void on_ping_ack(struct h2 *h, const nghttp2_frame *f)
{
    if (memcmp(f->ping.opaque_data, drain_ping, sizeof drain_ping) == 0) {
        if (h->draining && !h->final_goaway)
            final_goaway(h);
    } else if (h->pinged) {
        h->pinged = false;
        if (h->ops->on_ping)
            h->ops->on_ping(h);
    }
}

static void on_settings(struct h2 *h)
{
    h->peer_streams = MIN(
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS),
        PEER_STREAMS_MAX);
    if (h->ops->on_settings)
        h->ops->on_settings(h);
}

static void on_goaway(struct h2 *h, uint32_t code)
{
    h->draining = true;
    h->goaway_code = code;
    if (h->ops->on_goaway)
        h->ops->on_goaway(h, code);
}

static void conn_frame(struct h2 *h, const nghttp2_frame *f)
{
    bool ack = f->hd.flags & NGHTTP2_FLAG_ACK;

    if (f->hd.type == NGHTTP2_PING && ack)
        on_ping_ack(h, f);
    else if (f->hd.type == NGHTTP2_SETTINGS && !ack)
        on_settings(h);
    else if (f->hd.type == NGHTTP2_GOAWAY)
        on_goaway(h, f->goaway.error_code);
}

/* Does the frame bring anything? A head, content, the end of it, an answer to what we sent. */
static bool is_noise(const nghttp2_frame *f, const struct h2_stream *s)
{
    switch (f->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_GOAWAY:
        return false;
    case NGHTTP2_RST_STREAM: /* of a stream that lives it has a ration of its own */
        return !s;
    case NGHTTP2_DATA:
        return f->hd.length <= f->data.padlen && !(f->hd.flags & NGHTTP2_FLAG_END_STREAM);
    case NGHTTP2_SETTINGS:
    case NGHTTP2_PING:
        return !(f->hd.flags & NGHTTP2_FLAG_ACK);
    default:
        return true;
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (h->closed || h->dying)
        return 0;
    h->block.open = false;
    s = f->hd.stream_id ? nghttp2_session_get_stream_user_data(session, f->hd.stream_id) : NULL;
    if (is_noise(f, s)) {
        if (!h2_ration(h, H2_LIMIT_NOISE))
            return 0;
    } else if (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA) {
        earned(h);
    }
    if (f->hd.stream_id == 0) {
        conn_frame(h, f);
    } else if (f->hd.type == NGHTTP2_RST_STREAM) {
        if (h->server && s && !s->out_head)
            h2_ration(h, H2_LIMIT_RESETS);
    } else if (s && (f->hd.type == NGHTTP2_HEADERS || f->hd.type == NGHTTP2_DATA)) {
        h2_in_frame(s, f);
    } else if (f->hd.type == NGHTTP2_HEADERS) {
        h->block = (struct h2_block){0};
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *f, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;

    if (h->closed || (f->hd.type != NGHTTP2_HEADERS && f->hd.type != NGHTTP2_DATA))
        return 0;
    earned(h);
    s = nghttp2_session_get_stream_user_data(session, f->hd.stream_id);
    if (!s)
        return 0;
    s->head_sent = true;
    /* The answer is whole: what the client still has to say is not wanted (RFC 9113 8.1). */
    if (h->server && f->hd.flags & NGHTTP2_FLAG_END_STREAM && !s->in_end)
        h2_rst(s, H2_NO_ERROR);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);

    if (!s)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    s->reset = true;
    if (h->server && s->attached && s->out_none && code == H2_NO_ERROR) {
        s->parted = true; /* an answer without content, whose owner is about to say that it ends */
        return 0;
    }
    if (!h->closed)
        h2_broken(s, code == H2_REFUSED_STREAM ? H2_WHY_REFUSED : H2_WHY_PEER, code, NULL);
    h2_stream_free(s);
    if (!h->closed && h->ops->on_room && (!h->server || h->n_attached == 0))
        h->ops->on_room(h);
    return 0;
}

static void feed(struct h2 *h, struct slice bytes)
{
    ssize_t used;

    h->within = true;
    used = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes.p, bytes.len);
    h->within = false;
    if (used >= 0 || h->closed)
        return;
    switch (used) {
    case NGHTTP2_ERR_NOMEM:
    case NGHTTP2_ERR_CALLBACK_FAILURE:
        session_fail(h, ERR_NOMEM, "out of memory");
        return;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
    case NGHTTP2_ERR_FLOODED:
        h->limit = used == NGHTTP2_ERR_FLOODED ? H2_LIMIT_ACKS : H2_LIMIT_CONTINUATIONS;
        h2_hit(h, h->limit);
        if (!h->closed)
            session_fail(h, ERR_LIMIT, h2_limit_text(h->limit));
        return;
    default:
        session_fail(h, ERR_PROTO, nghttp2_strerror((int)used));
    }
}

static void readable(struct h2 *h)
{
    char local[SCRATCH_LOCAL];
    char *to = h->config.scratch ? h->config.scratch : local;
    size_t cap = h->config.scratch ? h->config.scratch_len : sizeof local;
    uint32_t budget = h->config.turn_bytes;

    while (!h->closed) {
        size_t n;
        enum err_code rc = chan_read(h->chan, to, cap, &n);

        if (rc == ERR_AGAIN)
            break;
        if (rc != ERR_OK) {
            session_fail(
                h, rc, rc == ERR_EOF ? "the other side closed the connection" : chan_text(h->chan));
            return;
        }
        feed(h, slice_of(to, n));
        if (h->closed)
            return;
        if (n >= budget) { /* others' turn */
            chan_resume(h->chan);
            break;
        }
        budget -= (uint32_t)n;
    }
    h2_flush_later(h);
}

void h2_input(struct h2 *h, struct slice bytes)
{
    if (h->closed || bytes.len == 0)
        return;
    feed(h, bytes);
    h2_flush_later(h);
}

static void on_chan(void *user, unsigned events)
{
    struct h2 *h = user;

    if (h->closed)
        return;
    if (events & CHAN_FAIL) {
        session_fail(h, h->chan->failure, chan_text(h->chan));
        return;
    }
    if (events & CHAN_OPEN || (events & CHAN_WRITE && buf_len(&h->out)))
        h2_flush_later(h);
    if (events & (CHAN_OPEN | CHAN_READ))
        readable(h);
}

/* --- the beginning
 * ---------------------------------------------------------------------------------- */

static int session_open(struct h2 *h, nghttp2_session_callbacks *cb, nghttp2_option *opt)
{
    nghttp2_mem mem = {h, session_alloc, session_release, session_calloc, session_realloc};

    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, h2_on_begin);
    nghttp2_session_callbacks_set_on_header_callback2(cb, h2_on_field);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
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
    if (rc != 0)
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
    c->head_bytes = c->head_bytes ? c->head_bytes : DEFAULT_HEAD_BYTES;
    c->head_fields = c->head_fields ? c->head_fields : DEFAULT_HEAD_FIELDS;
    c->send_high = c->send_high ? c->send_high : DEFAULT_SEND_HIGH;
    c->turn_bytes = c->turn_bytes ? c->turn_bytes : DEFAULT_TURN_BYTES;
    if (c->scratch_len < SCRATCH_LOCAL)
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
        buf_init(&h->out, h->config.scratch ? h->config.scratch_len : SCRATCH_LOCAL);
        if (session_new(h) == 0) {
            chan_owner(chan, on_chan, h);
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

/* --- questions and orders
 * --------------------------------------------------------------------------- */

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
            rc = nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, drain_ping);
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
    die(h, code);
}

void h2_close(struct h2 *h)
{
    if (h)
        session_end(h, false);
}
