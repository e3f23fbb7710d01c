/* SPDX-License-Identifier: Apache-2.0 */
/* The downstream side of HTTP/2: each of a connection's streams is a stream of the proxy. What the
 * client may send follows what the upstream takes (h2_pause), what the upstream may send follows
 * the client's windows (stream_drained). */
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/http/h2.h"
#include "proxy/down.h"
#include "proxy/stream.h"
#include "proxy/telemetry.h"
#include "proxy/worker.h"

enum { GOODBYE_MS = 5000, REST_MS = 10000 };

struct h2_down {
    struct down down;
    struct prog_service *service; /* counted: what the dialled address belongs to */
    struct h2 *h2;                /* NULL once it is gone */
    struct loop_timer timer;      /* preface, idle, goodbye */
    struct loop_timer revoke;     /* requests that the policies of now refuse */
    struct loop_task gone;
    bool unanswered, greeted, closed;
};

static struct loop *loop_of(const struct h2_down *d)
{
    return d->down.worker->loop;
}

/* --- the connection --- */

static void down_free(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct h2_down, gone));
}

/* Streams are told by the session before it is gone, or here. */
static void down_close(struct h2_down *d)
{
    struct h2 *h2 = d->h2;

    if (d->closed)
        return;
    d->closed = true;
    for (struct h2_stream *st = h2 ? h2_stream_first(h2) : NULL, *next; st; st = next) {
        struct stream *s = h2_stream_user(st);
        next = h2_stream_next(st);
        s->codec = NULL;
        if (s->state == STREAM_HEAD)
            stream_drop(s);
        else
            stream_gone(s);
    }
    d->h2 = NULL;
    loop_timer_clear(loop_of(d), &d->timer);
    loop_timer_clear(loop_of(d), &d->revoke);
    h2_close(h2);
    prog_unref(d->service);
    down_leave(&d->down);
    loop_task_add(loop_of(d), &d->gone, down_free);
}

static void timer_close(struct loop_timer *t)
{
    down_close(CONTAINER_OF(t, struct h2_down, timer));
}

/* No new requests; those under way and those that cross are served, then the connection ends. A
 * client that does not answer is not waited for longer than `wait`, once nothing is under way. */
static void idle_over(struct loop_timer *t);

static void goodbye(struct h2_down *d, int64_t wait_ns)
{
    h2_drain(d->h2);
    if (h2_streams(d->h2) == 0)
        loop_timer_in(loop_of(d), &d->timer, wait_ns, timer_close);
}

static void idle_over(struct loop_timer *t)
{
    goodbye(CONTAINER_OF(t, struct h2_down, timer), GOODBYE_MS * NS_PER_MS);
}

/* It has been idle for a while, and may be so for long. */
static void idle_rests(struct loop_timer *t)
{
    struct h2_down *d = CONTAINER_OF(t, struct h2_down, timer);
    int64_t wait = d->down.worker->limits->idle_timeout_ns;

    if (down_serves(&d->down.info))
        wait +=
            wait / 16; /* the client's proxy, with the same limit, is to be the first to close */
    h2_rest(d->h2);
    loop_timer_in(loop_of(d), &d->timer, wait - REST_MS * NS_PER_MS, idle_over);
}

static void go_idle(struct h2_down *d)
{
    struct worker *w = d->down.worker;

    if (down_serves(&d->down.info) && w->draining)
        goodbye(d, w->no_idle ? 0 : worker_drain_grace(w));
    else
        loop_timer_in(loop_of(d), &d->timer, REST_MS * NS_PER_MS, idle_rests);
}

static void down_abort(struct down *base)
{
    down_close(CONTAINER_OF(base, struct h2_down, down));
}

static void down_drain(struct down *base)
{
    goodbye(CONTAINER_OF(base, struct h2_down, down), worker_drain_grace(base->worker));
}

static void down_close_idle(struct down *base)
{
    struct h2_down *d = CONTAINER_OF(base, struct h2_down, down);

    if (h2_idle(d->h2))
        down_close(d);
    else
        h2_drain(d->h2);
}

/* --- policies that changed under way --- */

static void revoke_late(struct loop_timer *t)
{
    struct h2_down *d = CONTAINER_OF(t, struct h2_down, revoke);

    for (struct h2_stream *st = h2_stream_first(d->h2), *next; st; st = next) {
        struct stream *s = h2_stream_user(st);
        next = h2_stream_next(st);
        if (s->state != STREAM_HEAD && !stream_still_allowed(s))
            stream_revoke(s);
    }
}

/* As HTTP/1 has it: a tunnel ends at once, a request that is being answered has as long as draining
 * gives. */
static void down_recheck(struct down *base)
{
    struct h2_down *d = CONTAINER_OF(base, struct h2_down, down);
    bool late = false;

    for (struct h2_stream *st = h2_stream_first(d->h2), *next; st; st = next) {
        struct stream *s = h2_stream_user(st);
        next = h2_stream_next(st);
        if (s->state == STREAM_HEAD || stream_still_allowed(s))
            continue;
        if (slice_is(s->req.method, "CONNECT"))
            stream_revoke(s);
        else
            late = true;
    }
    if (late)
        loop_timer_in(loop_of(d), &d->revoke, worker_drain_grace(base->worker), revoke_late);
}

/* --- what a stream says --- */

static void on_head(struct stream *s, const struct http_head *head)
{
    struct h2_stream *st = s->codec;
    struct http_head h = *head;

    if (!st || head->status == 101) /* what an upgrade would give is not asked for in HTTP/2 */
        return;
    if (h.body == HTTP_BODY_CLOSE)
        h.body = HTTP_BODY_STREAM;
    if (h2_head(st, &h) != ERR_OK && head->status >= 200) {
        s->codec = NULL; /* what follows has nowhere to go */
        h2_reset(st, H2_INTERNAL_ERROR);
    }
}

static bool on_body(struct stream *s, struct slice bytes)
{
    return !s->codec || h2_body(s->codec, bytes) != ERR_LIMIT;
}

static void on_end(struct stream *s, const struct http_head *trailers)
{
    struct h2_stream *st = s->codec;

    s->codec = NULL;
    if (st)
        h2_end(st, trailers);
}

static void on_reset(struct stream *s)
{
    struct h2_stream *st = s->codec;

    s->codec = NULL;
    if (st)
        h2_reset(st, H2_INTERNAL_ERROR);
}

static void on_pause(struct stream *s, bool stop)
{
    if (s->codec)
        h2_pause(s->codec, stop);
}

static const struct stream_down_ops down_ops = {
    .head = on_head, .body = on_body, .end = on_end, .reset = on_reset, .pause = on_pause};

/* --- what the client says --- */

static struct h2_down *of_stream(struct h2_stream *st)
{
    return h2_user(h2_stream_session(st));
}

/* What the requests were before they shared a connection. */
static enum http_version version_of(const struct h2_down *d)
{
    return d->down.info.shared ? HTTP_1_1 : HTTP_2;
}

static struct arena *client_opens(struct h2 *h, struct h2_stream *st)
{
    struct h2_down *d = h2_user(h);
    struct stream *s = stream_new(d->down.worker, &d->down, &down_ops, st);

    if (!s)
        return NULL;
    s->req.version = version_of(d);
    loop_timer_clear(loop_of(d), &d->timer);
    h2_stream_set(st, s);
    return &s->arena;
}

static void client_head(struct h2_stream *st, struct http_head *head, bool interim)
{
    struct h2_down *d = of_stream(st);
    struct stream *s = h2_stream_user(st);

    (void)interim;
    s->req = *head;
    s->req.version = version_of(d);
    stream_head(s, d->service, d->unanswered);
}

static void client_refused(struct h2_stream *st, struct http_head *head, unsigned status,
                           const char *detail)
{
    struct stream *s = h2_stream_user(st);

    s->req = *head;
    s->req.version = version_of(of_stream(st));
    stream_refuse(s, status, FLAG_DPE, detail);
}

static void client_body(struct h2_stream *st, struct slice bytes)
{
    stream_body(h2_stream_user(st), bytes);
}

static void client_end(struct h2_stream *st, struct http_head *trailers)
{
    stream_end(h2_stream_user(st), trailers);
}

static void client_reset(struct h2_stream *st, enum h2_why why, uint32_t code, const char *detail,
                         bool untouched)
{
    struct stream *s = h2_stream_user(st);

    (void)code, (void)untouched;
    s->codec = NULL;
    if (why == H2_WHY_MALFORMED) {
        stream_refuse(s, 0, FLAG_DPE, detail);
    } else if (s->state == STREAM_HEAD) {
        stream_drop(s);
    } else {
        if (why == H2_WHY_STALLED)
            s->details = "downstream_write_timeout";
        else if (why == H2_WHY_PEER)
            s->details = "http2.remote_reset";
        stream_gone(s);
    }
}

static void client_drains(struct h2_stream *st)
{
    stream_drained(h2_stream_user(st));
}

/* The client's preface is whole: from now on it may be idle. */
static void client_settings(struct h2 *h)
{
    struct h2_down *d = h2_user(h);

    if (d->greeted)
        return;
    d->greeted = true;
    if (h2_streams(h) == 0)
        go_idle(d);
}

static void client_idle(struct h2 *h)
{
    struct h2_down *d = h2_user(h);

    if (d->greeted && h2_streams(h) == 0)
        go_idle(d);
}

static void client_limit(struct h2 *h, enum h2_limit limit)
{
    struct h2_down *d = h2_user(h);

    telemetry_h2_limit(d->down.worker, h2_limit_label(limit));
    LOG(INFO, "HTTP/2 client met a limit", "connection=%llu limit=%s",
        (unsigned long long)d->down.info.id, h2_limit_label(limit));
}

static void client_closed(struct h2 *h, const struct err *why)
{
    struct h2_down *d = h2_user(h);

    LOG(DEBUG, "HTTP/2 connection ended", "connection=%llu reason=%s",
        (unsigned long long)d->down.info.id, why->msg);
    d->h2 = NULL;
    down_close(d);
}

static const struct h2_ops client_ops = {
    .on_open = client_opens,
    .on_head = client_head,
    .on_refused = client_refused,
    .on_body = client_body,
    .on_end = client_end,
    .on_reset = client_reset,
    .on_drain = client_drains,
    .on_settings = client_settings,
    .on_room = client_idle,
    .on_limit = client_limit,
    .on_closed = client_closed,
};

static const struct down_ops calls = {.abort = down_abort,
                                      .drain = down_drain,
                                      .close_idle = down_close_idle,
                                      .recheck = down_recheck};

void h2_down_start(struct worker *w, struct chan *chan, struct down_info *info,
                   struct prog_service *service, struct slice early, bool unanswered)
{
    struct h2_down *d = mem_zalloc(sizeof *d);
    struct h2_config config = {
        .head_bytes = w->limits->head_bytes,
        .head_fields = w->limits->head_fields,
        .turn_bytes = w->limits->turn_bytes,
        .head_ns = w->limits->head_timeout_ns,
        .stall_ns = w->limits->write_timeout_ns,
        .scratch = w->scratch,
        .scratch_len = WORKER_SCRATCH,
    };

    if (info->shared) {
        config.max_streams = SHARED_STREAMS;
        config.stream_window = SHARED_WINDOW;
        config.held_max = SHARED_HELD_MAX;
        config.send_all = SHARED_STREAMS * 2 * (64 << 10); /* all of them may be full */
        config.head_bytes += H2_FIELD_COST * w->limits->head_fields; /* as HTTP/1 counts them */
    }
    if (!d || h2_server(chan, &config, &client_ops, d, &d->h2, NULL) < 0) {
        if (!d)
            chan_close(chan);
        mem_free(d);
        prog_unref(service);
        down_info_fini(info);
        return;
    }
    down_enter(&d->down, w, DOWN_HTTP, chan, info);
    d->down.ops = &calls;
    d->service = service;
    d->unanswered = unanswered;
    loop_timer_in(loop_of(d), &d->timer, w->limits->head_timeout_ns, timer_close);
    h2_input(d->h2, early);
    if (!d->closed && w->draining && down_serves(info))
        down_drain(&d->down);
}
