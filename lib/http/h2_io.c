/* SPDX-License-Identifier: Apache-2.0 */
/* The session's traffic: rations on what a peer may make it do, frames gathered and written once at
 * the end of a turn, what comes given to nghttp2, and a timer that runs while somebody waits for
 * the peer. */
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/http/h2_int.h"

enum {
    SCRATCH_LOCAL = H2_SCRATCH_MIN,
    FRAME_ROOM = 16384 + 512, /* the largest that one call of nghttp2 hands out */
    PEER_STREAMS_MAX = 1 << 20,
    RESETS_BURST = 500, /* streams that a client may break off unanswered at once, and per second */
    RESETS_RATE = 100,
    NOISE_BURST = 2000, /* frames that carry nothing */
    NOISE_RATE = 200,
    LINGER_BYTES = 64 << 10, /* of a request that are read behind its answer */
    LINGER_MS = 1000,
    NOISE_EARNED = 16, /* that a frame which carries something earns */
};

/* --- rations --- */

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
void h2_die(struct h2 *h, uint32_t code)
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
        h2_die(h, H2_ENHANCE_YOUR_CALM);
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

/* --- writing --- */

/* Frames into the gathering buffer; false when the session failed. */
static bool gather(struct h2 *h, char *to, size_t cap)
{
    h->gather = to;
    h->gather_cap = cap;
    h->gathered = 0;
    if (h->preface) {
        memcpy(to, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN);
        h->gathered = NGHTTP2_CLIENT_MAGIC_LEN;
        h->preface = false;
    }
    h->within = true;
    while (!h->closed && cap - h->gathered >= FRAME_ROOM) {
        const uint8_t *p;
        ssize_t n = nghttp2_session_mem_send(h->session, &p);

        if (n < 0) {
            h->within = false;
            h2_fail(h, ERR_NOMEM, nghttp2_strerror((int)n));
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
            h2_fail(h, rc, h2_chan_text(h->chan));
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
            h2_fail(h, ERR_NOMEM, "out of memory");
        return false;
    }
}

/* Owners that were told to wait. */
static void tell_room(struct h2 *h)
{
    size_t low = h->config.send_high / 2;

    if (h->queued > h->config.send_all / 2)
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
        h2_fail(h, ERR_PROTO, nghttp2_http2_strerror(h->goaway_code));
    else if (h->draining)
        h2_fail(h, ERR_EOF, "the connection was drained");
    else
        h2_fail(h, ERR_PROTO, "the other side broke HTTP/2");
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
    if (h->n_lingering)
        wait = MIN(wait, LINGER_MS * NS_PER_MS);
    if (wait != INT64_MAX)
        loop_timer_in(h2_loop(h), &h->watch, wait, watch_late);
}

static void flush_now(struct h2 *h)
{
    if (h->closed || !h->chan->open)
        return;
    if (h->why.code != ERR_OK && !h->dying) {
        h2_over(h, true);
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

void h2_flush_task(struct loop_task *t)
{
    flush_now(CONTAINER_OF(t, struct h2, flush));
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

/* Requests that go on for too long behind their answer. */
static int64_t end_lingering(struct h2 *h, int64_t now)
{
    int64_t next = INT64_MAX;

    for (struct h2_stream *s = h->streams; s; s = s->next) {
        if (!s->lingers || s->reset)
            continue;
        if (now - s->moved_ns >= LINGER_MS * NS_PER_MS)
            h2_rst(s, H2_NO_ERROR);
        else
            next = MIN(next, s->moved_ns + LINGER_MS * NS_PER_MS);
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
                h2_fail(h, ERR_TIMEOUT, h2_limit_text(H2_LIMIT_HEAD_LATE));
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
            h->stalled = true;
            chan_tcp_reset(h->chan); /* what the kernel holds for it goes, too */
            h2_fail(h, ERR_TIMEOUT, h2_limit_text(H2_LIMIT_STALL));
            return;
        }
        next = MIN(next, at);
    } else if (h->config.stall_ns && h->queued) {
        next = MIN(next, stalled_streams(h, now));
    }
    if (!h->closed && h->n_lingering)
        next = MIN(next, end_lingering(h, now));
    if (!h->closed && next != INT64_MAX)
        loop_timer_at(h2_loop(h), &h->watch, next, watch_late);
}

/* --- reading --- */

static void on_ping_ack(struct h2 *h, const nghttp2_frame *f)
{
    if (memcmp(f->ping.opaque_data, h2_drain_ping, sizeof h2_drain_ping) == 0) {
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

static bool own_reset(const struct h2 *h, int32_t id)
{
    for (size_t i = 0; i < H2_OWN_RESETS; i++)
        if (h->own_resets[i] == id)
            return true;
    return false;
}

/* A message's frame on a stream that is closed (RFC 9113 5.1): on its way while we reset it, or an
 * error. nghttp2 would have to keep closed streams to tell them apart. */
static void late_frame(struct h2 *h, uint8_t type, int32_t id)
{
    if (!(id & 1) || id > nghttp2_session_get_last_proc_stream_id(h->session) || own_reset(h, id) ||
        nghttp2_session_get_stream_user_data(h->session, id))
        return;
    if (type == NGHTTP2_HEADERS && h->n_own_resets <= H2_OWN_RESETS) {
        if (h->why.code == ERR_OK)
            err_set(&h->why, ERR_PROTO, "a head on a closed stream");
        h2_die(h, NGHTTP2_STREAM_CLOSED);
    } else if (h2_ration(h, H2_LIMIT_NOISE)) {
        if (nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_STREAM_CLOSED) ==
            NGHTTP2_ERR_NOMEM)
            h2_break(h, ERR_NOMEM, "out of memory");
    }
}

int h2_on_frame_begin(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;

    (void)session;
    if (h->closed || h->dying)
        return 0;
    if (h->server && hd->type == NGHTTP2_HEADERS)
        late_frame(h, hd->type, hd->stream_id);
    return 0;
}

int h2_on_frame(nghttp2_session *session, const nghttp2_frame *f, void *user)
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

int h2_on_frame_sent(nghttp2_session *session, const nghttp2_frame *f, void *user)
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
    /* The answer is whole, and what the client still has to say is not wanted (RFC 9113 8.1). A
     * reset at once would be right, but makes some clients forget the answer: the rest is dropped
     * for a while. */
    if (h->server && f->hd.flags & NGHTTP2_FLAG_END_STREAM && !s->in_end && !s->lingers) {
        s->lingers = true;
        s->moved_ns = loop_now(h2_loop(h));
        h->n_lingering++;
    }
    return 0;
}

void h2_drop(struct h2_stream *s, uint32_t n)
{
    s->dropped += n;
    if (s->dropped > LINGER_BYTES)
        h2_rst(s, H2_NO_ERROR);
    else if (nghttp2_session_consume_stream(s->h->session, s->id, n) == NGHTTP2_ERR_NOMEM)
        h2_break(s->h, ERR_NOMEM, "out of memory");
}

int h2_on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
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

/* False when the session is over. */
static bool feed(struct h2 *h, struct slice bytes)
{
    enum h2_limit limit;
    ssize_t used;

    if (h->closed || bytes.len == 0)
        return !h->closed;
    h->within = true;
    used = nghttp2_session_mem_recv(h->session, (const uint8_t *)bytes.p, bytes.len);
    h->within = false;
    if (used >= 0 || h->closed)
        return !h->closed;
    switch (used) {
    case NGHTTP2_ERR_NOMEM:
    case NGHTTP2_ERR_CALLBACK_FAILURE:
        h2_fail(h, ERR_NOMEM, "out of memory");
        break;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
    case NGHTTP2_ERR_FLOODED:
        limit = used == NGHTTP2_ERR_FLOODED ? H2_LIMIT_ACKS : H2_LIMIT_CONTINUATIONS;
        h2_hit(h, limit);
        h2_fail(h, ERR_LIMIT, h2_limit_text(limit));
        break;
    default:
        h2_fail(h, ERR_PROTO, nghttp2_strerror((int)used));
    }
    return false;
}

/* nghttp2 drops content of closed streams without a word; RFC 9113 5.1 asks for one. So frames'
 * headers are looked at on their way to it. */
static void server_feed(struct h2 *h, struct slice bytes)
{
    size_t fed = 0, at = 0;
    bool reset = false; /* among what nghttp2 has not seen yet */

    while (at < bytes.len) {
        size_t n = MIN(bytes.len - at, h->skip ? h->skip : sizeof h->next - h->next_len);

        if (h->skip) {
            h->skip -= (uint32_t)n;
            at += n;
            continue;
        }
        memcpy(h->next + h->next_len, bytes.p + at, n);
        h->next_len = (uint8_t)(h->next_len + n);
        at += n;
        if (h->next_len < sizeof h->next)
            break;
        h->next_len = 0;
        h->skip = (uint32_t)h->next[0] << 16 | (uint32_t)h->next[1] << 8 | h->next[2];
        if (h->next[3] > NGHTTP2_CONTINUATION && !h->dying)
            h2_ration(h, H2_LIMIT_NOISE);
        reset = reset || h->next[3] == NGHTTP2_RST_STREAM;
        if (h->next[3] != NGHTTP2_DATA)
            continue;
        int32_t id = (int32_t)((uint32_t)(h->next[5] & 0x7f) << 24 | (uint32_t)h->next[6] << 16 |
                               (uint32_t)h->next[7] << 8 | h->next[8]);
        if (!reset && nghttp2_session_get_stream_user_data(h->session, id))
            continue;
        reset = false;
        if (!feed(h, slice_of(bytes.p + fed, at - n - fed)))
            return;
        fed = at - n;
        if (!h->dying)
            late_frame(h, NGHTTP2_DATA, id);
        if (h->closed)
            return;
    }
    feed(h, slice_skip(bytes, fed));
}

static void session_feed(struct h2 *h, struct slice bytes)
{
    if (h->server)
        server_feed(h, bytes);
    else
        feed(h, bytes);
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
            h2_fail(h, rc,
                    rc == ERR_EOF ? "the other side closed the connection" : h2_chan_text(h->chan));
            return;
        }
        session_feed(h, slice_of(to, n));
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
    session_feed(h, bytes);
    h2_flush_later(h);
}

void h2_on_chan(void *user, unsigned events)
{
    struct h2 *h = user;

    if (h->closed)
        return;
    if (events & CHAN_FAIL) {
        h2_fail(h, h->chan->failure, h2_chan_text(h->chan));
        return;
    }
    if (events & CHAN_OPEN || (events & CHAN_WRITE && buf_len(&h->out)))
        h2_flush_later(h);
    if (events & (CHAN_OPEN | CHAN_READ))
        readable(h);
}
