/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/stream.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/data/host.h"
#include "lib/data/urlpath.h"
#include "lib/http/grpc.h"
#include "mesh/match/retry.h"
#include "proxy/gates.h"
#include "proxy/guard.h"
#include "proxy/filter/affinity.h"
#include "proxy/filter/cors.h"
#include "proxy/filter/headers.h"
#include "proxy/mirror.h"
#include "proxy/reply.h"
#include "proxy/telemetry.h"
#include "proxy/worker.h"

enum { FREE_STREAMS_MAX = 64, ARENA_FIRST = 4096 };

static const struct up_attempt_ops attempt_ops;

/* --- birth and death ---------------------------------------------------------------------------- */

struct stream *stream_new(struct worker *w, struct down *d, const struct stream_down_ops *ops,
                          void *codec)
{
    struct stream *s = w->free_streams;
    struct arena arena;
    if (s) {
        w->free_streams = s->next_free;
        w->n_free_streams--;
        arena = s->arena;
    } else {
        s = mem_alloc(sizeof *s);
        if (!s)
            return NULL;
        arena_init(&arena, ARENA_FIRST, (size_t)w->limits->head_bytes * 6);
    }
    *s = (struct stream){.worker = w, .arena = arena, .ops = ops, .codec = codec, .down = d};
    http_head_init(&s->req, &s->arena);
    buf_init(&s->body, w->limits->buffer_bytes + WORKER_SCRATCH);
    s->start_ns = loop_now(w->loop);
    s->upstream_ns = -1;
    s->replayable = true;
    w->requests++;
    return s;
}

static void stream_recycle(struct loop_task *t)
{
    struct stream *s = CONTAINER_OF(t, struct stream, recycle);
    struct worker *w = s->worker;
    buf_fini(&s->body);
    if (w->n_free_streams >= FREE_STREAMS_MAX) {
        arena_fini(&s->arena);
        mem_free(s);
        return;
    }
    arena_reset(&s->arena);
    s->next_free = w->free_streams;
    w->free_streams = s;
    w->n_free_streams++;
}

void streams_fini(struct worker *w)
{
    while (w->free_streams) {
        struct stream *s = w->free_streams;
        w->free_streams = s->next_free;
        arena_fini(&s->arena);
        mem_free(s);
    }
}

static const char *version_text(enum http_version v)
{
    return v == HTTP_2 ? "HTTP/2" : v == HTTP_1_1 ? "HTTP/1.1" : "HTTP/1.0";
}

static void stream_record(struct stream *s)
{
    const struct down_info *info = &s->down->info;
    int64_t took = loop_now(s->worker->loop) - s->start_ns;
    struct record r = {
        .inbound = info->inbound,
        .grpc = s->grpc,
        .mtls = info->inbound ? info->mtls : s->upstream_mtls,
        .start_wall_ns = loop_wall(s->worker->loop) - took,
        .duration_ns = took,
        .upstream_ns = s->upstream_ns,
        .method = s->req.method,
        .path = s->path_received,
        .authority = s->authority_received,
        .user_agent = http_head_get(&s->req, SL("user-agent")),
        .forwarded_for = http_head_get(&s->req, SL("x-forwarded-for")),
        .request_id = s->request_id,
        .first_byte_ns = s->upstream_ns >= 0 ? s->first_sent_ns + s->upstream_ns - s->start_ns : -1,
        .connection = info->id,
        .attempts = s->ready || s->retries ? s->retries + 1 + s->reused_replay : 0,
        .head = &s->req,
        .answer = s->answer,
        .trailers = s->answer_trailers,
        .protocol = version_text(s->req.version),
        .grpc_status = s->grpc_status,
        .status = s->status,
        .flags = s->flags,
        .details = s->details,
        .upstream_failure = s->upstream_failure,
        .bytes_received = s->bytes_received,
        .bytes_sent = s->bytes_sent,
        .messages_received = s->messages_received.messages,
        .messages_sent = s->messages_sent.messages,
        .route = s->match.route ? s->match.route->name : SLICE_NULL,
        .cluster = s->attempt.cluster ? s->attempt.cluster->cfg.name : SLICE_NULL,
        .peer = info->peer,
        .orig = info->orig,
        .upstream = s->upstream_addr,
    };
    if (info->gw)
        r.sni = down_sni(s->down);
    if (info->inbound) {
        r.peer_principal = down_principal(s->down);
        r.sni = chan_is_tls(s->down->chan) ? tls_chan_sni(s->down->chan) : SLICE_NULL;
        r.service_host = info->port->service_host;
        r.service_name = info->port->service_name;
        r.service_namespace = info->port->service_namespace;
    } else {
        const struct up_cluster *c = s->attempt.cluster;
        r.peer_principal = s->upstream_principal;
        if (c && c->cfg.service_name.len) {
            r.service_host = c->cfg.host;
            r.service_name = c->cfg.service_name;
            r.service_namespace = c->cfg.service_namespace;
        } else if (s->service) {
            r.service_host = s->service->host;
            r.service_name = s->service->name;
            r.service_namespace = s->service->namespace_;
        } else {
            r.service_name = c ? c->cfg.name : SL("BlackHoleCluster");
        }
    }
    telemetry_record(s->worker, &r);
}

/* Record, let go of everything, recycle at the end of the turn. */
static void stream_over(struct stream *s)
{
    struct up_cluster *cluster = s->attempt.cluster;
    stream_record(s);
    s->state = STREAM_OVER;
    mirrors_drop(&s->mirrors);
    up_cancel(&s->attempt);
    if (s->retries)
        cluster->retries--;
    up_cluster_unref(cluster);
    s->attempt.cluster = NULL;
    know_wait_cancel(&s->waiter);
    loop_timer_clear(s->worker->loop, &s->timeout);
    loop_timer_clear(s->worker->loop, &s->timer);
    prog_unref(s->service);
    s->service = NULL;
    loop_task_add(s->worker->loop, &s->recycle, stream_recycle);
}

static void stream_finish(struct stream *s, const struct http_head *trailers)
{
    stream_over(s);
    s->ops->end(s, trailers);
}

static void stream_break(struct stream *s, unsigned flag, const char *details)
{
    s->flags |= flag;
    if (details)
        s->details = details;
    stream_over(s);
    s->ops->reset(s);
}

void stream_drop(struct stream *s)
{
    s->state = STREAM_OVER;
    loop_task_add(s->worker->loop, &s->recycle, stream_recycle);
}

void stream_gone(struct stream *s)
{
    s->flags |= FLAG_DC;
    if (!s->details)
        s->details = "downstream_remote_disconnect";
    stream_over(s);
}

/* --- answers of our own --------------------------------------------------------------------------- */

/* Send a head of our own, made by reply_make. */
static void stream_send_reply(struct stream *s, struct http_head *ph, struct slice text, unsigned flags,
                              const char *details)
{
    struct http_head h = *ph;
    if (s->cors_origin.len && s->match.route)
        cors_apply(&h, s->match.route->cors, s->cors_origin, false);
    s->status = h.status;
    s->grpc_status = http_head_get(&h, SL("grpc-status"));
    s->flags |= flags;
    s->details = details;
    s->answered = true;
    s->answer = telemetry_keep(s->worker, &h, &s->arena);
    s->state = STREAM_ANSWER;
    s->ops->head(s, &h);
    if (text.len) {
        s->bytes_sent += text.len;
        s->ops->body(s, text);
    }
    stream_finish(s, NULL);
}

static void stream_answer(struct stream *s, const struct reply *reply, unsigned flags,
                          const char *details)
{
    struct http_head h;
    struct slice text;
    up_cancel(&s->attempt);
    loop_timer_clear(s->worker->loop, &s->timer);
    reply_make(&s->req, reply, &h, &text);
    stream_send_reply(s, &h, text, flags, details);
}

void stream_reply(struct stream *s, unsigned status, unsigned flags, const char *details,
                  struct slice text, struct slice location)
{
    struct reply r = {.status = status,
                      .grpc = -1,
                      .overloaded = flags & (FLAG_UO | FLAG_OM),
                      .text = text,
                      .location = location};
    stream_answer(s, &r, flags, details);
}

/* An answer that the route itself gives: it carries the route's changes, too. */
static void stream_reply_route(struct stream *s, unsigned status, struct slice text,
                               struct slice location)
{
    struct reply r = {.status = status, .grpc = -1, .text = text, .location = location};
    struct http_head h;
    const struct prog_header_ops *ops[2];
    enum err_code rc = ERR_OK;
    reply_make(&s->req, &r, &h, &text);
    int n = match_response_ops(&s->match, ops);
    for (int i = 0; i < n && rc == ERR_OK; i++)
        rc = headers_apply(&h, ops[i]);
    if (rc == ERR_OK)
        stream_send_reply(s, &h, text, 0, "direct_response");
    else
        stream_reply(s, 500, FLAG_LR, "response_headers_too_large", SLICE_NULL, SLICE_NULL);
}

void stream_refuse(struct stream *s, unsigned status, unsigned flags, const char *details)
{
    if (!s->path_received.p)
        s->path_received = s->req.path;
    if (status == 0) {
        s->flags |= flags;
        s->details = details;
        stream_over(s);
        return;
    }
    stream_reply(s, status, flags, details, SLICE_NULL, SLICE_NULL);
}

/* --- attempts --------------------------------------------------------------------------------------- */

/* Stop or resume the client's body; tells the codec only of a change. */
static void pause_down(struct stream *s, bool stop)
{
    if (s->paused_down == stop)
        return;
    s->paused_down = stop;
    s->ops->pause(s, stop);
}

static void send_request_body(struct stream *s)
{
    struct slice rest = slice_skip(buf_slice(&s->body), s->body_sent);
    enum err_code rc = ERR_OK;
    if (rest.len) {
        s->body_sent += rest.len;
        rc = up_send_body(&s->attempt, rest);
        if (!s->replayable) {
            buf_reset(&s->body);
            s->body_sent = 0;
        }
    }
    pause_down(s, rc == ERR_LIMIT);
    if (s->req_ended && !s->end_sent) {
        s->end_sent = true;
        up_send_end(&s->attempt, s->trailers.n_fields ? &s->trailers : NULL);
    }
}

static void per_try_timeout(struct loop_timer *t);

static void attempt_ready(struct up_attempt *a)
{
    struct stream *s = CONTAINER_OF(a, struct stream, attempt);
    s->ready = true;
    s->upstream_addr = up_reached(a);
    s->upstream_principal = arena_slice(&s->arena, up_peer(a, &s->upstream_mtls));
    s->first_sent_ns = loop_now(s->worker->loop);
    enum err_code rc = up_send_head(a, &s->req);
    if (rc != ERR_OK && rc != ERR_LIMIT) {
        stream_reply(s, 500, FLAG_LR, "request_cannot_be_sent", SLICE_NULL, SLICE_NULL);
        return;
    }
    send_request_body(s);
    up_flush(a);
}

/* Methods that may be sent twice without a policy's word (RFC 9110 9.2.2). */
static bool is_idempotent(struct slice method)
{
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    for (size_t i = 0; i < N_OF(safe); i++)
        if (slice_is(method, safe[i]))
            return true;
    return false;
}

/* What the workload's port was declared to speak, whatever this connection turned out to be. */
static enum prog_protocol inbound_protocol(const struct down_info *info)
{
    const struct prog_inbound *in = info->inbound_prog;
    for (uint32_t i = 0; i < in->n_ports; i++)
        if (in->ports[i].port == sock_addr_port(&info->orig))
            return in->ports[i].protocol;
    return PROG_AUTO;
}

static bool over_h2(const struct stream *s)
{
    const struct down_info *info = &s->down->info;
    const struct prog_cluster *cfg = &s->attempt.cluster->cfg;
    return up_over_h2(info->inbound          ? inbound_protocol(info)
                      : cfg->client_protocol ? PROG_AUTO
                                             : cfg->protocol,
                      &s->req);
}

static void attempt_start(struct stream *s)
{
    struct up_attempt *a = &s->attempt;
    const struct prog_hash *hash = PROG_POLICY(&a->cluster->cfg, hash);
    if (hash && !s->hash_known) {
        s->hashed = affinity_of_request(hash, &s->req, &s->down->info.peer, &s->hash, &s->set_cookie);
        s->hash_known = true;
    }
    struct up_attempt next = {
        .ops = &attempt_ops,
        .cluster = a->cluster,
        .arena = &s->arena,
        .n_tried = a->n_tried,
        .head_request = slice_is(s->req.method, "HEAD"),
        .connect_request = slice_is(s->req.method, "CONNECT"),
        .upgrade_request = s->req.upgrade.len > 0,
        .h2 = over_h2(s),
        .may_share = up_may_share(a->cluster, &s->req),
        .once = !is_idempotent(s->req.method),
        .fresh = s->reused_replay && !s->retries,
        .elsewhere = s->retries && s->match.route && s->match.route->retry &&
                     s->match.route->retry->elsewhere,
        .hashed = s->hashed,
        .hash = s->hash,
    };
    memcpy(next.tried, a->tried, sizeof next.tried);
    *a = next;
    s->ready = false;
    s->end_sent = false;
    s->body_sent = 0;
    s->state = STREAM_ATTEMPT;
    const struct prog_retry *r = s->match.route ? s->match.route->retry : NULL;
    if (r && r->per_try_timeout_ms)
        loop_timer_in(s->worker->loop, &s->timer, r->per_try_timeout_ms * NS_PER_MS,
                      per_try_timeout);
    up_start(a);
}

static void backoff_over(struct loop_timer *t)
{
    attempt_start(CONTAINER_OF(t, struct stream, timer));
}

/* Another attempt, if the policy wants one for this outcome and it can be had. */
static bool stream_retry(struct stream *s, const struct retry_outcome *o)
{
    const struct prog_retry *r = s->match.route ? s->match.route->retry : NULL;
    if (!r || s->answered || !retry_wanted(r, o))
        return false;
    if (s->retries >= r->attempts) {
        s->flags |= FLAG_URX;
        return false;
    }
    if (!s->replayable)
        return false;
    struct up_cluster *c = s->attempt.cluster;
    if (s->retries == 0) { /* a stream is in one retry at a time: counted once, until it is over */
        if (c->cfg.pool.max_retries && c->retries >= c->cfg.pool.max_retries) {
            s->flags |= FLAG_UO;
            return false;
        }
        c->retries++;
    }
    struct up_host *h = s->attempt.host;
    if (h && (!r->same_hosts || r->elsewhere) && s->attempt.n_tried < N_OF(s->attempt.tried))
        s->attempt.tried[s->attempt.n_tried++] = h; /* compared, never followed */
    up_cancel(&s->attempt);
    s->retries++;
    s->state = STREAM_BACKOFF;
    uint32_t ms = retry_backoff_ms(r, s->retries, rnd_u32(loop_rnd(s->worker->loop)));
    loop_timer_in(s->worker->loop, &s->timer, ms * NS_PER_MS, backoff_over);
    return true;
}

static void per_try_timeout(struct loop_timer *t)
{
    struct stream *s = CONTAINER_OF(t, struct stream, timer);
    if (s->attempt.host)
        up_host_result(s->attempt.host, 0, true);
    if (s->answered) {
        stream_break(s, FLAG_UT, "upstream_per_try_timeout");
        return;
    }
    if (stream_retry(s, &(struct retry_outcome){RETRY_EV_TRY_TIMEOUT, 0, -1}))
        return;
    stream_reply(s, 504, FLAG_UT, "upstream_per_try_timeout", SL("upstream request timeout"),
                 SLICE_NULL);
}

static void request_timeout(struct loop_timer *t)
{
    struct stream *s = CONTAINER_OF(t, struct stream, timeout);
    if (s->attempt.host)
        up_host_result(s->attempt.host, 0, true);
    if (s->answered)
        stream_break(s, FLAG_UT, "response_timeout");
    else
        stream_reply(s, 504, FLAG_UT, "response_timeout", SL("upstream request timeout"),
                     SLICE_NULL);
}

static int grpc_status_of(const struct http_head *h)
{
    uint64_t v;
    return slice_u64(http_head_get(h, SL("grpc-status")), 16, &v) ? (int)v : -1;
}

static void attempt_head(struct up_attempt *a, struct http_head *head, bool interim)
{
    struct stream *s = CONTAINER_OF(a, struct stream, attempt);
    if (interim) {
        s->ops->head(s, head);
        return;
    }
    s->upstream_ns = loop_now(s->worker->loop) - s->first_sent_ns;
    struct retry_outcome o = {RETRY_EV_ANSWER, head->status, grpc_status_of(head)};
    s->grpc_pending = head->status == 200 && o.grpc_status < 0 && s->grpc;
    if (!s->grpc_pending)
        up_host_result(a->host, o.grpc_status > 0 && s->grpc
                                    ? outlier_grpc_status(o.grpc_status) : head->status,
                       false);
    if (stream_retry(s, &o))
        return;
    loop_timer_clear(s->worker->loop, &s->timer);
    const struct prog_header_ops *ops[2];
    int n = s->match.route ? match_response_ops(&s->match, ops) : 0;
    for (int i = 0; i < n; i++)
        if (headers_apply(head, ops[i]) != ERR_OK) {
            stream_reply(s, 500, FLAG_LR, "response_headers_too_large", SLICE_NULL, SLICE_NULL);
            return;
        }
    if (s->cors_origin.len)
        cors_apply(head, s->match.route->cors, s->cors_origin, false);
    if (s->set_cookie.len)
        http_head_add(head, SL("set-cookie"), s->set_cookie);
    s->status = head->status;
    s->grpc_status = arena_slice(&s->arena, http_head_get(head, SL("grpc-status")));
    s->details = "via_upstream";
    s->answered = true;
    s->answer = telemetry_keep(s->worker, head, &s->arena);
    s->state = STREAM_ANSWER;
    buf_fini(&s->body); /* no retry any more */
    if (!s->req_ended)
        s->replayable = false;
    s->ops->head(s, head);
}

static bool attempt_body(struct up_attempt *a, struct slice bytes)
{
    struct stream *s = CONTAINER_OF(a, struct stream, attempt);
    s->bytes_sent += bytes.len;
    if (s->grpc)
        grpc_count(&s->messages_sent, bytes);
    return s->ops->body(s, bytes);
}

static void attempt_end(struct up_attempt *a, struct http_head *trailers)
{
    struct stream *s = CONTAINER_OF(a, struct stream, attempt);
    if (trailers && !s->grpc_status.len)
        s->grpc_status = arena_slice(&s->arena, http_head_get(trailers, SL("grpc-status")));
    if (trailers)
        headers_trailers(trailers);
    s->answer_trailers = trailers;
    if (s->grpc_pending) /* its outcome stands behind the messages */
        up_host_result(a->host, outlier_grpc_status(trailers ? grpc_status_of(trailers) : 0), false);
    stream_finish(s, trailers);
}

struct failure {
    unsigned flag;
    enum retry_event event;
    const char *details, *text;
};

static const struct failure failures[] = {
    [UP_FAIL_NO_HOST] = {FLAG_UH, RETRY_EV_CONNECT_FAILED, "no_healthy_upstream",
                         "no healthy upstream"},
    [UP_FAIL_NO_CLUSTER] = {FLAG_NC, RETRY_EV_CONNECT_FAILED, "cluster_not_found", ""},
    [UP_FAIL_OVERFLOW] = {FLAG_UO, RETRY_EV_ANSWER, "upstream_reset_before_response_started{overflow}",
                          "upstream connect error or disconnect/reset before headers. reset reason: "
                          "overflow"},
    [UP_FAIL_CONNECT] = {FLAG_UF, RETRY_EV_CONNECT_FAILED,
                         "upstream_reset_before_response_started{connection_failure}",
                         "upstream connect error or disconnect/reset before headers. reset reason: "
                         "connection failure"},
    [UP_FAIL_TLS] = {FLAG_UF, RETRY_EV_CONNECT_FAILED,
                     "upstream_reset_before_response_started{connection_failure,tls}",
                     "upstream connect error or disconnect/reset before headers. reset reason: "
                     "connection failure, transport failure reason: TLS"},
    [UP_FAIL_RESET] = {FLAG_UC, RETRY_EV_RESET,
                       "upstream_reset_before_response_started{connection_termination}",
                       "upstream connect error or disconnect/reset before headers. reset reason: "
                       "connection termination"},
    [UP_FAIL_PROTOCOL] = {FLAG_UPE, RETRY_EV_RESET,
                          "upstream_reset_before_response_started{protocol_error}",
                          "upstream connect error or disconnect/reset before headers. reset reason: "
                          "protocol error"},
    [UP_FAIL_REMOTE_RESET] = {FLAG_UR, RETRY_EV_RESET,
                              "upstream_reset_before_response_started{remote_reset}",
                              "upstream connect error or disconnect/reset before headers. reset "
                              "reason: remote reset"},
    [UP_FAIL_REFUSED] = {FLAG_UR, RETRY_EV_REFUSED_STREAM,
                         "upstream_reset_before_response_started{remote_refused_stream_reset}",
                         "upstream connect error or disconnect/reset before headers. reset reason: "
                         "remote refused stream reset"},
};

static void attempt_fail(struct up_attempt *a, enum up_fail why, bool untouched, const char *detail)
{
    struct stream *s = CONTAINER_OF(a, struct stream, attempt);
    const struct failure *f = &failures[why];
    s->upstream_failure = detail ? arena_strdup(&s->arena, detail) : NULL;
    if (s->answered) {
        stream_break(s, f->flag, "upstream_reset_after_response_started");
        return;
    }
    /* An idle connection that the server closed just then: once more, on a fresh one. Whether the server
     * read the request before it closed is not known, hence only what may be repeated; what an HTTP/2
     * server said not to have looked at may be in any case (RFC 9113 8.7). */
    bool again = why == UP_FAIL_REFUSED ||
                 (untouched && why == UP_FAIL_RESET && is_idempotent(s->req.method));
    if (again && s->replayable && !s->reused_replay) {
        s->reused_replay = true;
        up_cancel(a);
        attempt_start(s);
        return;
    }
    if (a->host && why != UP_FAIL_OVERFLOW)
        up_host_result(a->host, 0, true);
    struct retry_outcome o = {untouched && f->event == RETRY_EV_RESET ? RETRY_EV_RESET_EARLY
                                                                      : f->event,
                              why == UP_FAIL_OVERFLOW ? 503 : 0, -1};
    if (why != UP_FAIL_OVERFLOW && stream_retry(s, &o))
        return;
    unsigned status = why == UP_FAIL_PROTOCOL ? 502 : 503;
    stream_reply(s, status, f->flag, f->details, slice_str(f->text), SLICE_NULL);
}

static void attempt_drain(struct up_attempt *a)
{
    struct stream *s = CONTAINER_OF(a, struct stream, attempt);
    pause_down(s, false);
}

static const struct up_attempt_ops attempt_ops = {
    .on_ready = attempt_ready,
    .on_head = attempt_head,
    .on_body = attempt_body,
    .on_end = attempt_end,
    .on_fail = attempt_fail,
    .on_drain = attempt_drain,
};

void stream_drained(struct stream *s)
{
    if (s->state == STREAM_ANSWER)
        up_resume(&s->attempt);
}

/* --- routing ---------------------------------------------------------------------------------------- */

struct match_request stream_view(struct stream *s)
{
    _Static_assert(sizeof(struct match_field) == sizeof(struct http_field), "same layout");
    return (struct match_request){
        .method = s->req.method,
        .scheme = s->req.scheme,
        .authority = s->req.authority,
        .path = s->req.path,
        .fields = (const struct match_field *)s->req.fields,
        .n_fields = s->req.n_fields,
        .arena = &s->arena,
    };
}

static void stream_mirror(struct stream *s)
{
    mirrors_start(&s->mirrors, s->worker, s->service, s->match.route, &s->req, &s->down->info.orig);
    if (s->mirrors && buf_len(&s->body))
        mirrors_body(&s->mirrors, buf_slice(&s->body));
    if (s->req_ended)
        mirrors_end(&s->mirrors, s->trailers.n_fields ? &s->trailers : NULL);
}

/* Rewrite, header changes, then the first attempt. */
static void stream_forward(struct stream *s)
{
    if (s->match.route) {
        if (match_rewrite_path(&s->match, s->req.path, &s->arena, &s->req.path) != ERR_OK) {
            stream_reply(s, 500, FLAG_LR, "path_rewrite_failed", SLICE_NULL, SLICE_NULL);
            return;
        }
        s->req.authority = match_rewrite_authority(&s->match, s->req.authority);
        const struct prog_header_ops *ops[2];
        int n = match_request_ops(&s->match, ops);
        for (int i = 0; i < n; i++)
            if (headers_apply(&s->req, ops[i]) != ERR_OK) {
                stream_reply(s, 500, FLAG_LR, "request_headers_too_large", SLICE_NULL, SLICE_NULL);
                return;
            }
        if (s->match.route->n_mirrors)
            stream_mirror(s);
    }
    attempt_start(s);
}

static void stream_act(struct stream *s);

static bool stream_abort_fault(struct stream *s)
{
    int32_t grpc;
    uint32_t dice = rnd_u32(loop_rnd(s->worker->loop));
    uint32_t status = match_fault_abort(s->match.route->fault, dice, &grpc);
    if (!status)
        return false;
    struct reply r = {.status = status, .grpc = grpc, .text = SL("fault filter abort")};
    stream_answer(s, &r, FLAG_FI, "fault_filter_abort");
    return true;
}

static void delay_over(struct loop_timer *t)
{
    struct stream *s = CONTAINER_OF(t, struct stream, timer);
    if (!stream_abort_fault(s))
        stream_act(s);
}

/* Faults come before everything that the route does. */
static void stream_fault(struct stream *s)
{
    const struct prog_fault *f = s->match.route->fault;
    if (!f) {
        stream_act(s);
        return;
    }
    uint32_t ms = match_fault_delay_ms(f, rnd_u32(loop_rnd(s->worker->loop)));
    if (ms) {
        s->flags |= FLAG_DI;
        s->state = STREAM_DELAY;
        loop_timer_in(s->worker->loop, &s->timer, ms * NS_PER_MS, delay_over);
    } else if (!stream_abort_fault(s)) {
        stream_act(s);
    }
}

/* Answer a preflight here where the route's policy says so. */
static bool stream_cors(struct stream *s, const struct match_request *view)
{
    struct slice origin = SLICE_NULL, none;
    struct http_head h;
    enum cors_verdict v = match_cors(s->match.route->cors, view, &origin);
    if (v == CORS_ALLOWED)
        s->cors_origin = origin;
    if (v != CORS_PREFLIGHT && v != CORS_PREFLIGHT_UNMATCHED)
        return false;
    reply_make(&s->req, &(struct reply){.status = 200, .grpc = -1}, &h, &none);
    if (v == CORS_PREFLIGHT)
        cors_apply(&h, s->match.route->cors, origin, true);
    stream_send_reply(s, &h, none, 0, "cors_response");
    return true;
}

static void route_redirect(struct stream *s, const struct match_request *view)
{
    struct slice location;
    if (match_redirect_location(&s->match, view, &location) != ERR_OK)
        stream_reply(s, 500, FLAG_LR, "redirect_failed", SLICE_NULL, SLICE_NULL);
    else
        stream_reply_route(s, s->match.route->redirect->code, SLICE_NULL, location);
}

/* The route's timeout (0: none), or a gRPC client's own deadline where that comes first: what it waits for
 * no longer need not be worked on. */
static void timeout_start(struct stream *s, uint32_t route_ms)
{
    int64_t ns = route_ms * NS_PER_MS, asked;
    struct slice text = http_head_get(&s->req, SL("grpc-timeout"));
    if (text.len && s->grpc && grpc_timeout_parse(text, &asked) &&
        (ns == 0 || asked < ns))
        ns = MAX(asked, 1);
    if (ns)
        loop_timer_in(s->worker->loop, &s->timeout, ns, request_timeout);
}

static void route_forward(struct stream *s)
{
    const struct prog_http_route *route = s->match.route;
    if (!s->match.cluster || s->match.cluster->problem.len) {
        stream_reply(s, 503, FLAG_NC, "cluster_not_found", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (!s->attempt.cluster) {
        if (s->match.cluster->original_dst)
            stream_reply(s, 503, FLAG_NC, "no_answer_from_operator", SLICE_NULL, SLICE_NULL);
        else
            stream_reply(s, 503, FLAG_OM, "overload", SLICE_NULL, SLICE_NULL);
        return;
    }
    timeout_start(s, route->timeout_ms);
    stream_forward(s);
}

/* What the route does with the request, after faults: time that a fault took is none of its timeout's. */
static void stream_act(struct stream *s)
{
    const struct prog_http_route *route = s->match.route;
    struct match_request view = stream_view(s);
    if (route->cors && stream_cors(s, &view))
        return;
    if (route->action == PROG_REDIRECT)
        route_redirect(s, &view);
    else if (route->action == PROG_DIRECT)
        stream_reply_route(s, route->direct.status, route->direct.body, SLICE_NULL);
    else
        route_forward(s);
}

/* The service is known: which route? */
static void stream_route(struct stream *s)
{
    struct match_request view = stream_view(s);
    uint32_t dice = rnd_u32(loop_rnd(s->worker->loop));
    enum err_code rc = match_http(s->service, &view, dice, &s->match);
    if (rc != ERR_OK) {
        bool none = rc == ERR_NOT_FOUND;
        s->match = (struct match_http){0};
        stream_reply(s, none ? 404 : 500, none ? FLAG_NR : FLAG_LR,
                     none ? "route_not_found" : "route_match_failed", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (s->match.cluster && !s->match.cluster->problem.len) /* known to the record of a fault, too */
        s->attempt.cluster =
            s->match.cluster->original_dst
                ? up_cluster_dialled(s->worker, s->service, s->match.destination->cluster,
                                     &s->down->info.orig)
                : up_cluster_get(s->worker, s->service, s->match.destination->cluster);
    stream_fault(s);
}

/* Neither the authority nor the address is a service of the mesh: the outbound policy speaks. */
static void stream_passthrough(struct stream *s)
{
    if (s->worker->know.settings->registry_only) {
        stream_reply(s, 502, FLAG_NR, "blocked_by_registry_only", SLICE_NULL, SLICE_NULL);
        return;
    }
    s->attempt.cluster =
        up_cluster_direct(s->worker, "PassthroughCluster", &s->down->info.orig);
    if (!s->attempt.cluster)
        stream_reply(s, 503, FLAG_OM, "overload", SLICE_NULL, SLICE_NULL);
    else
        stream_forward(s);
}

/* Fall back to what the dialled address says: now, not when the connection was opened. */
static void stream_by_address(struct stream *s)
{
    char text[SOCK_TEXT_MAX];
    struct prog_service *svc = NULL;
    if ((s->service || s->unanswered) &&
        know_service(&s->worker->know, slice_str(sock_addr_text(&s->down->info.orig, text)), &svc) ==
            KNOW_VALUE &&
        svc != s->service) {
        prog_ref(svc);
        prog_unref(s->service);
        s->service = svc;
    }
    if (s->service)
        stream_route(s);
    else if (s->unanswered)
        stream_reply(s, 503, FLAG_NC, "no_answer_from_operator", SLICE_NULL, SLICE_NULL);
    else
        stream_passthrough(s);
}

void stream_known(struct stream *s, enum know_state state, struct prog_service *svc)
{
    switch (state) {
    case KNOW_VALUE:
        prog_ref(svc);
        prog_unref(s->service);
        s->service = svc;
        stream_route(s);
        break;
    case KNOW_ABSENT:
        stream_by_address(s);
        break;
    default:
        stream_reply(s, 503, FLAG_NC,
                     state == KNOW_WITHHELD ? "route_withheld" : "no_answer_from_operator",
                     SLICE_NULL, SLICE_NULL);
        break;
    }
}

static bool authority_key(struct stream *s, char *key, size_t cap, struct slice *ret_host,
                          struct slice *ret_key)
{
    struct slice host;
    uint16_t port;
    char text[HOST_MAX + 3];
    if (authority_split(s->authority_received, &host, &port) != ERR_OK ||
        host_normalise(host, text, sizeof text, &host) != ERR_OK)
        return false;
    if (host.len + sizeof ":65535" > cap)
        return false;
    memcpy(key, host.p, host.len);
    char *p = key + host.len;
    *p++ = ':';
    p = u32_put(p, sock_addr_port(&s->down->info.orig));
    *ret_host = slice_of(key, host.len);
    *ret_key = slice_of(key, (size_t)(p - key));
    return true;
}

static void stream_answered(struct know_waiter *w, enum know_state state)
{
    struct stream *s = CONTAINER_OF(w, struct stream, waiter);
    char buf[HOST_MAX + 16];
    struct slice host, key;
    struct prog_service *svc = NULL;
    if (state == KNOW_VALUE && authority_key(s, buf, sizeof buf, &host, &key))
        state = know_service(&s->worker->know, key, &svc);
    stream_known(s, state, svc);
}

/* The authority picks the virtual host within the dialled port; the address only when none matches. */
static void outbound_route(struct stream *s)
{
    char buf[HOST_MAX + 16];
    struct slice host, key;
    if (!authority_key(s, buf, sizeof buf, &host, &key) || !prog_settings_has_host(s->worker->know.settings, host, s->worker->pod_namespace)) {
        stream_by_address(s);
        return;
    }
    struct prog_service *svc = NULL;
    enum know_state st = know_service(&s->worker->know, key, &svc);
    if (st == KNOW_WAITING) {
        s->state = STREAM_LOOKUP;
        know_wait_service(&s->worker->know, key, &s->waiter, stream_answered);
        return;
    }
    stream_known(s, st, svc);
}

static void inbound_route(struct stream *s)
{
    struct match_request view = stream_view(s);
    if (!guard_refresh(s->down)) {
        stream_reply(s, 403, FLAG_NR, "plaintext_refused_by_strict_mtls", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (!guard_http(s->down, &view, s->detail_text)) {
        stream_reply(s, 403, 0, s->detail_text, SL("RBAC: access denied"), SLICE_NULL);
        return;
    }
    if (headers_inbound(&s->req, s->down) != ERR_OK) {
        stream_reply(s, 431, FLAG_LR, "request_headers_too_large", SLICE_NULL, SLICE_NULL);
        return;
    }
    s->attempt.cluster = up_cluster_app(s->worker, &s->down->info);
    if (!s->attempt.cluster) {
        stream_reply(s, 503, FLAG_OM, "overload", SLICE_NULL, SLICE_NULL);
        return;
    }
    timeout_start(s, 0);
    attempt_start(s);
}

bool stream_still_allowed(struct stream *s)
{
    struct match_request view = stream_view(s);
    return guard_still(s->down, &view, s->detail_text);
}

void stream_revoke(struct stream *s)
{
    stream_break(s, FLAG_LR, s->detail_text);
}

/* The path in the form in which policies and routes see it and the application gets it. */
static enum err_code path_settle(struct stream *s)
{
    struct slice path, query, norm;
    s->path_received = s->req.path;
    s->authority_received = s->req.authority;
    if (s->req.path.len == 0 || s->req.path.p[0] != '/')
        return ERR_OK; /* "*" of OPTIONS, authority form of CONNECT: the codec checked these */
    if (target_split(s->req.path, &path, &query) != ERR_OK)
        return ERR_INVALID;
    const struct prog_settings *set = s->worker->know.settings;
    size_t cap = path.len * 3 + query.len + 2; /* bytes beyond ASCII become triplets */
    char *out = arena_alloc(&s->arena, cap);
    if (!out)
        return ERR_NOMEM;
    enum err_code rc = path_normalise(
        path, set && set->path_merge_slashes ? PATH_MERGE_SLASHES : PATH_BASE, out, cap, &norm);
    if (rc != ERR_OK)
        return rc;
    if (slice_eq(norm, path))
        return ERR_OK;
    size_t n = norm.len;
    if (norm.p != out)
        memmove(out, norm.p, n);
    if (query.p) {
        out[n++] = '?';
        memcpy(out + n, query.p, query.len);
        n += query.len;
    }
    s->req.path = slice_of(out, n);
    return ERR_OK;
}

void stream_head(struct stream *s, struct prog_service *service, bool unanswered)
{
    s->service = prog_ref(service);
    s->unanswered = unanswered;
    s->grpc = reply_wants_grpc(&s->req);
    if (path_settle(s) != ERR_OK) {
        stream_reply(s, 400, FLAG_DPE, "path_normalization_failed", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (overload_now(&s->worker->overload, loop_now(s->worker->loop))) {
        telemetry_overload(s->worker);
        stream_reply(s, 503, FLAG_OM, "overload_memory", SL("overloaded"), SLICE_NULL);
        return;
    }
    if (headers_request_id(&s->req, s->worker, &s->request_id) != ERR_OK) {
        stream_reply(s, 431, FLAG_LR, "request_headers_too_large", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (s->down->info.inbound)
        inbound_route(s);
    else if (s->down->info.gw)
        gate_route(s);
    else
        outbound_route(s);
}

void stream_body(struct stream *s, struct slice bytes)
{
    struct worker *w = s->worker;
    s->bytes_received += bytes.len;
    if (s->grpc)
        grpc_count(&s->messages_received, bytes);
    if (s->state == STREAM_OVER)
        return;
    if (s->mirrors)
        mirrors_body(&s->mirrors, bytes);
    if (s->replayable && buf_len(&s->body) + bytes.len > w->limits->retry_body_bytes) {
        s->replayable = false; /* too much to keep: no retry from here on */
        if (s->ready) {
            buf_consume(&s->body, s->body_sent);
            s->body_sent = 0;
        }
    }
    if (!s->replayable && s->ready && buf_len(&s->body) == 0) {
        pause_down(s, up_send_body(&s->attempt, bytes) == ERR_LIMIT);
        return;
    }
    buf_add_slice(&s->body, bytes);
    if (buf_err(&s->body) != ERR_OK) {
        if (s->answered)
            stream_break(s, FLAG_OM, "request_buffer_limit");
        else
            stream_reply(s, 503, FLAG_OM, "request_buffer_limit", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (s->ready)
        send_request_body(s);
    else if (buf_len(&s->body) > w->limits->buffer_bytes)
        pause_down(s, true);
}

void stream_end(struct stream *s, struct http_head *trailers)
{
    s->req_ended = true;
    if (trailers) {
        headers_trailers(trailers);
        s->trailers = *trailers; /* kept for a second attempt, too */
    }
    mirrors_end(&s->mirrors, trailers);
    if (s->ready && s->state != STREAM_OVER) {
        send_request_body(s);
        up_flush(&s->attempt);
    }
}
