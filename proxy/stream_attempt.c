/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts, what they come to, and the request's content on its way to them. */
#include <string.h>

#include "mesh/match/retry.h"
#include "proxy/filter/affinity.h"
#include "proxy/filter/cors.h"
#include "proxy/filter/headers.h"
#include "proxy/mirror.h"
#include "proxy/stream_int.h"
#include "proxy/telemetry.h"

static const struct up_attempt_ops attempt_ops;

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
    const struct prog_cluster *cfg = s->attempt.cluster->cfg;
    return up_over_h2(info->inbound          ? inbound_protocol(info)
                      : cfg->client_protocol ? PROG_AUTO
                                             : cfg->protocol,
                      &s->req);
}

void stream_attempt(struct stream *s)
{
    struct up_attempt *a = &s->attempt;
    const struct prog_hash *hash = PROG_POLICY(a->cluster->cfg, hash);
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
    stream_attempt(CONTAINER_OF(t, struct stream, timer));
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
        if (!up_may_retry(c)) {
            s->flags |= FLAG_UO;
            telemetry_retry_overflow(s->worker, c->cfg->name);
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

void stream_deadline(struct stream *s, int64_t ns)
{
    loop_timer_in(s->worker->loop, &s->timeout, ns, request_timeout);
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
        stream_attempt(s);
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

/* --- the request's content --------------------------------------------------------------------------- */

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
