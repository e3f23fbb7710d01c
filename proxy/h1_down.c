/* SPDX-License-Identifier: Apache-2.0 */
/* The downstream side of HTTP/1: one request at a time, in order, each a stream. An idle connection
 * holds no buffer; bytes of a pipelined request wait until the answer before it is done. */
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/http/h1.h"
#include "proxy/down.h"
#include "proxy/stream.h"
#include "proxy/telemetry.h"
#include "proxy/worker.h"

enum { DISCARD_MAX = 64 * 1024, LINGER_MS = 1000 };

struct h1_down {
    struct down down;
    struct prog_service *service; /* counted: what the dialled address belongs to */
    struct h1_parser parser;
    struct stream *stream;       /* the request under way */
    struct buf in, out;          /* bytes of the next request; bytes that the client did not take */
    struct loop_timer timer;     /* idle, head, linger */
    struct loop_task task; /* end of the turn: flush, go on with the next request; closed: free */
    struct stall *stall;         /* the client is slow, and no byte went since */
    uint32_t discarded;
    bool unanswered : 1;
    bool head_seen : 1; /* of the current request */
    bool request_done : 1;
    bool paused : 1;      /* the request's body */
    bool chunked : 1;     /* the answer */
    bool until_close : 1; /* the answer ends with the connection */
    bool raw : 1;         /* after 101 */
    bool close : 1;       /* after this answer */
    bool full : 1;        /* the client is slow */
    bool unread : 1;      /* reading stopped with more to come, perhaps */
    bool lingering : 1;   /* told the client that we are done; waiting for its end */
    bool eof : 1, closed : 1;
};

/* There while bytes wait for the client; most connections never have one. */
struct stall {
    struct loop_timer timer;
    struct h1_down *down;
};

static const struct stream_down_ops down_ops;
static void input(struct h1_down *d, struct slice in);

static struct h1_down *of_stream(struct stream *s)
{
    return s->codec;
}

static struct loop *loop_of(const struct h1_down *d)
{
    return d->down.worker->loop;
}

static void down_free(struct loop_task *t)
{
    struct h1_down *d = CONTAINER_OF(t, struct h1_down, task);
    h1_fini(&d->parser);
    mem_free(d->stall);
    buf_fini(&d->in);
    buf_fini(&d->out);
    mem_free(d);
}

static void down_close(struct h1_down *d)
{
    if (d->closed)
        return;
    d->closed = true;
    struct stream *s = d->stream;
    d->stream = NULL;
    if (s) {
        if (d->head_seen)
            stream_gone(s);
        else
            stream_drop(s);
    }
    loop_timer_clear(loop_of(d), &d->timer);
    if (d->stall)
        loop_timer_clear(loop_of(d), &d->stall->timer);
    loop_task_clear(loop_of(d), &d->task);
    chan_close(d->down.chan);
    prog_unref(d->service);
    down_leave(&d->down);
    loop_task_add(loop_of(d), &d->task, down_free);
}

static void down_abort(struct down *d)
{
    down_close(CONTAINER_OF(d, struct h1_down, down));
}

static void timer_close(struct loop_timer *t)
{
    down_close(CONTAINER_OF(t, struct h1_down, timer));
}

/* Between two requests, with nothing of the next one read and nothing of the last one to be sent.
 */
static bool is_idle(const struct h1_down *d)
{
    return !d->stream && !d->head_seen && !d->close && h1_at_start(&d->parser) &&
           buf_len(&d->in) == 0 && buf_len(&d->out) == 0;
}

/* Closing at once would fail a request that is on its way and must not be repeated (RFC 9112 9.6):
 * it is served, and its answer says that it is the last one. */
static void down_drain(struct down *base)
{
    struct h1_down *d = CONTAINER_OF(base, struct h1_down, down);
    if (is_idle(d))
        loop_timer_in(loop_of(d), &d->timer, worker_drain_grace(base->worker), timer_close);
}

static void down_close_idle(struct down *base)
{
    struct h1_down *d = CONTAINER_OF(base, struct h1_down, down);
    if (is_idle(d))
        down_close(d);
}

static void head_late(struct loop_timer *t)
{
    struct h1_down *d = CONTAINER_OF(t, struct h1_down, timer);
    d->close = true;
    if (d->stream && !d->head_seen) {
        d->head_seen = true;
        stream_refuse(d->stream, 408, FLAG_DPE, "request_header_timeout");
    } else {
        down_close(d);
    }
}

static void go_idle(struct h1_down *d)
{
    struct worker *w = d->down.worker;
    int64_t wait = w->limits->idle_timeout_ns;
    if (down_serves(&d->down.info))
        wait +=
            wait / 16; /* the client's proxy, with the same limit, is to be the first to close */
    if (down_serves(&d->down.info) && w->draining)
        wait = w->no_idle ? 0 : MIN(wait, worker_drain_grace(w));
    buf_fini(&d->in);
    loop_timer_in(loop_of(d), &d->timer, wait, timer_close);
}

/* --- policies that changed under way --- */

static bool is_tunnel(const struct h1_down *d)
{
    return d->raw || slice_is(d->stream->req.method, "CONNECT");
}

static void revoke_late(struct loop_timer *t)
{
    struct h1_down *d = CONTAINER_OF(t, struct h1_down, timer);
    if (d->stream && !stream_still_allowed(d->stream))
        stream_revoke(d->stream);
}

/* What a tunnel carries is decided about once, so it ends at once when the decision falls. A
 * request that is being answered has as long as draining gives; the next one is decided about anew
 * anyway. */
static void down_recheck(struct down *base)
{
    struct h1_down *d = CONTAINER_OF(base, struct h1_down, down);
    if (!d->stream || !d->head_seen || stream_still_allowed(d->stream))
        return;
    if (is_tunnel(d))
        stream_revoke(d->stream);
    else
        loop_timer_in(loop_of(d), &d->timer, worker_drain_grace(base->worker), revoke_late);
}

/* --- end of turn: write what was queued, then the next request
 * ---------------------------------------- */

static void turn_end(struct loop_task *t);

static void later(struct h1_down *d)
{
    if (!d->task.prev && !d->closed)
        loop_task_add(loop_of(d), &d->task, turn_end);
}

/* The last answer is out: say that no more comes, and give the client a moment to read it; closing
 * with unread input would send a reset that can overtake the answer (RFC 9112 9.6). */
static void linger(struct h1_down *d)
{
    if (d->lingering)
        return;
    d->lingering = true;
    chan_shutdown(d->down.chan);
    if (d->eof) {
        down_close(d);
        return;
    }
    loop_timer_in(loop_of(d), &d->timer, LINGER_MS * NS_PER_MS, timer_close);
    chan_resume(d->down.chan);
}

static void client_stalls(struct loop_timer *t)
{
    struct h1_down *d = CONTAINER_OF(t, struct stall, timer)->down;
    if (d->stream)
        d->stream->details = "downstream_write_timeout";
    LOG(INFO, "Client took nothing of its answer for too long", "connection=%llu waiting=%zu",
        (unsigned long long)d->down.info.id, buf_len(&d->out));
    chan_tcp_reset(d->down.chan); /* what the kernel holds for it goes, too */
    down_close(d);
}

/* Bytes wait for the client. Each one that it takes gives it as long again. */
static void stall_watch(struct h1_down *d, bool moved)
{
    if (d->stall && !moved)
        return;
    if (!d->stall) {
        d->stall = mem_zalloc(sizeof *d->stall);
        if (!d->stall)
            return; /* the next write tries again */
        d->stall->down = d;
    }
    loop_timer_in(loop_of(d), &d->stall->timer, d->down.worker->limits->write_timeout_ns,
                  client_stalls);
}

static void stall_end(struct h1_down *d)
{
    if (!d->stall)
        return;
    loop_timer_clear(loop_of(d), &d->stall->timer);
    mem_free(d->stall);
    d->stall = NULL;
}

/* False when the client is gone. */
static bool flush(struct h1_down *d)
{
    bool moved = false;
    while (buf_len(&d->out)) {
        struct slice s = buf_slice(&d->out);
        size_t n;
        enum err_code rc = chan_write(d->down.chan, s.p, s.len, &n);
        if (rc == ERR_AGAIN) {
            stall_watch(d, moved);
            return true;
        }
        if (rc != ERR_OK) {
            down_close(d);
            return false;
        }
        moved = true;
        buf_consume(&d->out, n);
    }
    stall_end(d);
    buf_fini(&d->out);
    return true;
}

static void turn_end(struct loop_task *t)
{
    struct h1_down *d = CONTAINER_OF(t, struct h1_down, task);
    if (!flush(d))
        return;
    if (d->full && buf_len(&d->out) < d->down.worker->limits->buffer_bytes / 2) {
        d->full = false;
        if (d->stream)
            stream_drained(d->stream);
    }
    if (d->stream || buf_len(&d->out))
        return;
    if (d->close) {
        linger(d);
        return;
    }
    if (buf_len(&d->in)) {
        size_t len;
        char *bytes = buf_take(&d->in, &len);
        if (!bytes) {
            down_close(d);
            return;
        }
        input(d, slice_of(bytes, len));
        mem_free(bytes);
    }
    if (!d->closed && !d->stream && !d->close) {
        if (d->eof)
            down_close(d);
        else if (d->unread)
            chan_resume(d->down.chan);
        d->unread = false;
    }
}

/* --- what the stream says
 * ------------------------------------------------------------------------------ */

/* Is the rest of the request's body small enough to be read and dropped, so that the connection can
 * be kept? */
static bool rest_is_small(const struct h1_down *d)
{
    const struct http_head *req = &d->stream->req;
    return d->request_done || req->body == HTTP_BODY_NONE ||
           (req->body == HTTP_BODY_LENGTH && d->parser.left <= DISCARD_MAX);
}

static void on_head(struct stream *s, const struct http_head *head)
{
    struct h1_down *d = of_stream(s);
    bool old = s->req.version == HTTP_1_0;
    if (head->status < 200 && head->status != 101) {
        if (!old)
            h1_write_response(&d->out, head, false);
        later(d);
        return;
    }
    struct http_head h = *head;
    d->chunked = h.body == HTTP_BODY_STREAM || h.body == HTTP_BODY_CLOSE;
    if (d->chunked)
        h.body = HTTP_BODY_STREAM;
    if (old && d->chunked) {
        h.body = HTTP_BODY_CLOSE; /* an HTTP/1.0 client knows no chunks */
        d->until_close = true;
        d->chunked = false;
        d->close = true;
    }
    if (slice_is(s->req.method, "HEAD"))
        d->chunked = false;
    if (head->status == 101)
        d->raw = true;
    else if (!s->req.keep_alive || !rest_is_small(d) ||
             (down_serves(&d->down.info) && d->down.worker->draining))
        d->close = true;
    if (h1_write_response(&d->out, &h, d->close) != ERR_OK) {
        d->close = true; /* nothing sensible can follow */
        buf_reset(&d->out);
    }
    later(d);
}

static bool on_body(struct stream *s, struct slice bytes)
{
    struct h1_down *d = of_stream(s);
    if (slice_is(s->req.method, "HEAD"))
        return true;
    if (d->chunked && !d->raw)
        h1_write_chunk(&d->out, bytes);
    else
        buf_add_slice(&d->out, bytes);
    if (buf_err(&d->out) != ERR_OK) {
        d->close = true;
        return false;
    }
    later(d);
    d->full = buf_len(&d->out) > d->down.worker->limits->buffer_bytes;
    return !d->full;
}

static void on_end(struct stream *s, const struct http_head *trailers)
{
    struct h1_down *d = of_stream(s);
    if (d->chunked && !d->raw)
        h1_write_last_chunk(&d->out, trailers);
    d->stream = NULL;
    d->chunked = false;
    if (d->raw || !d->request_done)
        d->close = d->close || d->raw;
    d->paused = false;
    if (d->request_done)
        d->request_done = d->head_seen = false;
    if (buf_err(&d->out) != ERR_OK)
        down_close(d);
    else
        later(d);
    if (d->closed || d->close)
        return;
    if (d->head_seen) /* the rest of the request is read and dropped, for so long */
        loop_timer_in(loop_of(d), &d->timer, d->down.worker->limits->head_timeout_ns, timer_close);
    else if (buf_len(&d->in) == 0)
        go_idle(d);
}

static void on_reset(struct stream *s)
{
    struct h1_down *d = of_stream(s);
    d->stream = NULL;
    /* What came so far is the client's; chunks and lengths tell it that the rest is missing, an
     * answer that ends with the connection needs the reset for that. */
    if (!flush(d))
        return;
    if ((d->until_close || d->raw) && !chan_is_tls(d->down.chan))
        chan_tcp_reset(d->down.chan);
    down_close(d);
}

static void on_pause(struct stream *s, bool stop)
{
    struct h1_down *d = of_stream(s);
    d->paused = stop;
    if (!stop)
        chan_resume(d->down.chan);
}

static const struct stream_down_ops down_ops = {
    .head = on_head, .body = on_body, .end = on_end, .reset = on_reset, .pause = on_pause};

/* --- what the client says
 * -------------------------------------------------------------------------------- */

static void begin_request(struct h1_down *d)
{
    d->stream = stream_new(d->down.worker, &d->down, &down_ops, d);
    d->head_seen = d->request_done = d->chunked = false;
    d->discarded = 0;
    if (!d->stream)
        down_close(d);
    else
        loop_timer_in(loop_of(d), &d->timer, d->down.worker->limits->head_timeout_ns, head_late);
}

static void request_head(struct h1_down *d)
{
    loop_timer_clear(loop_of(d), &d->timer);
    d->head_seen = true;
    /* Whether content follows is known now; a request without any is whole at once. */
    stream_head(d->stream, d->service, d->unanswered);
}

static void request_end(struct h1_down *d, struct http_head *trailers)
{
    struct stream *s = d->stream;
    d->request_done = true;
    if (s) {
        stream_end(s, trailers->n_fields ? trailers : NULL);
        return;
    }
    d->request_done = d->head_seen = false; /* answered before it was whole; now it is */
    go_idle(d);
}

static void request_refused(struct h1_down *d)
{
    enum h1_refusal r = d->parser.refusal;
    d->close = true;
    if (!d->stream) {
        later(d);
        return;
    }
    if (d->head_seen) { /* the head was fine, the body is not: nothing may be made of it */
        struct stream *s = d->stream;
        d->request_done = true;
        stream_refuse(s, h1_refusal_status(r), FLAG_DPE, h1_refusal_detail(r));
        return;
    }
    d->head_seen = d->request_done = true;
    stream_refuse(d->stream, h1_refusal_status(r), FLAG_DPE, h1_refusal_detail(r));
}

static void request_body(struct h1_down *d, struct slice body)
{
    if (d->stream) {
        stream_body(d->stream, body);
        return;
    }
    d->discarded += (uint32_t)body.len;
    if (d->discarded > DISCARD_MAX) {
        d->close = true;
        later(d);
    }
}

/* Use bytes of the client. Those of the next request are kept until the answer is done. */
static void input(struct h1_down *d, struct slice in)
{
    while (in.len && !d->closed && !d->close) {
        if (d->raw) {
            if (d->stream)
                stream_body(d->stream, in);
            return;
        }
        if (d->stream && d->request_done)
            break;
        if (!d->stream && !d->head_seen)
            begin_request(d);
        if (d->closed)
            return;
        struct stream *s = d->stream;
        struct http_head dropped;
        struct arena none = ARENA_INIT;
        struct http_head *head = s && !d->head_seen ? &s->req : &dropped;
        if (head == &dropped)
            http_head_init(&dropped, s ? &s->arena : &none);
        struct slice body;
        size_t used = 0;
        enum h1_event ev = h1_step(&d->parser, in, &used, head, &body);
        in = slice_skip(in, used);
        if (ev == H1_EV_HEAD)
            request_head(d);
        else if (ev == H1_EV_BODY)
            request_body(d, body);
        else if (ev == H1_EV_END)
            request_end(d, &dropped);
        else if (ev == H1_EV_REFUSED)
            request_refused(d);
        arena_fini(&none);
        if (ev == H1_EV_MORE)
            break;
    }
    /* A message without content ends right behind its head, without a byte more. */
    if (!d->closed && d->head_seen && !d->request_done && !d->raw && h1_whole(&d->parser)) {
        struct http_head none;
        struct arena a = ARENA_INIT;
        struct slice body;
        size_t used;
        http_head_init(&none, &a);
        if (h1_step(&d->parser, SLICE_NULL, &used, &none, &body) == H1_EV_END)
            request_end(d, &none);
    }
    if (!d->closed && in.len && !d->raw) {
        buf_add_slice(&d->in, in);
        if (buf_err(&d->in) != ERR_OK)
            down_close(d);
    }
}

static void client_eof(struct h1_down *d)
{
    d->eof = true;
    if (d->raw && d->stream) {
        stream_end(d->stream, NULL);
        return;
    }
    /* A client that leaves takes its request with it (as nginx, Go and Envoy have it): what the
     * application does for nobody is to end. */
    if (buf_len(&d->out) && !d->stream)
        d->close = true;
    else
        down_close(d);
}

/* Is there a reason not to read now? */
static bool blocked(const struct h1_down *d)
{
    if (d->raw)
        return d->paused;
    if (d->paused)
        return true;
    if (d->stream && d->request_done) /* the client's end is to be seen; what is early is kept */
        return buf_len(&d->in) >= WORKER_SCRATCH;
    return buf_len(&d->in) || (d->close && !d->lingering);
}

static void readable(struct h1_down *d)
{
    struct worker *w = d->down.worker;
    uint32_t budget = w->limits->turn_bytes;
    d->unread = blocked(d);
    while (!d->closed && !blocked(d) && !d->eof) {
        size_t n;
        enum err_code rc = chan_read(d->down.chan, w->scratch, WORKER_SCRATCH, &n);
        if (rc == ERR_AGAIN)
            return;
        if (rc == ERR_EOF) {
            if (d->lingering)
                down_close(d);
            else
                client_eof(d);
            return;
        }
        if (rc != ERR_OK) {
            down_close(d);
            return;
        }
        if (d->lingering)
            continue; /* dropped; the timer bounds it */
        input(d, slice_of(w->scratch, n));
        if (d->closed)
            return;
        /* A short read of TCP emptied the socket: what comes next is a new event. */
        d->unread = blocked(d) && (n == WORKER_SCRATCH || chan_is_tls(d->down.chan));
        if (n >= budget) {
            chan_resume(d->down.chan);
            return;
        }
        budget -= (uint32_t)n;
    }
}

static void down_event(void *user, unsigned events)
{
    struct h1_down *d = user;
    if (events & CHAN_FAIL) {
        down_close(d);
        return;
    }
    if (events & CHAN_WRITE && buf_len(&d->out))
        turn_end(&d->task);
    if (!d->closed && events & CHAN_READ)
        readable(d);
}

static const struct down_ops calls = {.abort = down_abort,
                                      .drain = down_drain,
                                      .close_idle = down_close_idle,
                                      .recheck = down_recheck};

void h1_start(struct worker *w, struct chan *chan, struct down_info *info,
              struct prog_service *service, struct slice early, bool unanswered)
{
    struct h1_down *d = mem_zalloc(sizeof *d);
    if (!d) {
        chan_close(chan);
        prog_unref(service);
        down_info_fini(info);
        return;
    }
    down_enter(&d->down, w, DOWN_HTTP, chan, info);
    d->down.ops = &calls;
    d->service = service;
    d->unanswered = unanswered;
    struct h1_limits limits = {.head_bytes = w->limits->head_bytes,
                               .head_fields = w->limits->head_fields};
    h1_request_init(&d->parser, &limits);
    buf_init(&d->in, WORKER_SCRATCH * 2);
    buf_init(&d->out, w->limits->buffer_bytes * 2 + WORKER_SCRATCH);
    chan_owner(chan, down_event, d);
    go_idle(d);
    input(d, early);
    if (!d->closed)
        readable(d);
}
