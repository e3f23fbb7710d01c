/* SPDX-License-Identifier: Apache-2.0 */
/* The life of an exchange, its record, and answers of our own. */
#include "proxy/stream_int.h"

#include "lib/base/mem.h"
#include "proxy/filter/cors.h"
#include "proxy/filter/headers.h"
#include "proxy/guard.h"
#include "proxy/mirror.h"
#include "proxy/telemetry.h"

enum { FREE_STREAMS_MAX = 64, ARENA_FIRST = 4096 };

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
        .cluster = s->attempt.cluster ? s->attempt.cluster->cfg->name : SLICE_NULL,
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
        if (c && c->cfg->service_name.len) {
            r.service_host = c->cfg->host;
            r.service_name = c->cfg->service_name;
            r.service_namespace = c->cfg->service_namespace;
        } else if (s->service) {
            r.service_host = s->service->host;
            r.service_name = s->service->name;
            r.service_namespace = s->service->namespace_;
        } else {
            r.service_name = c ? c->cfg->name : SL("BlackHoleCluster");
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

void stream_finish(struct stream *s, const struct http_head *trailers)
{
    stream_over(s);
    s->ops->end(s, trailers);
}

void stream_break(struct stream *s, unsigned flag, const char *details)
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

void stream_send_reply(struct stream *s, struct http_head *ph, struct slice text, unsigned flags,
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

void stream_answer(struct stream *s, const struct reply *reply, unsigned flags, const char *details)
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

void stream_reply_route(struct stream *s, unsigned status, struct slice text, struct slice location)
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

/* --- policies that changed -------------------------------------------------------------------------- */

bool stream_still_allowed(struct stream *s)
{
    struct match_request view = stream_view(s);
    return guard_still(s->down, &view, s->detail_text);
}

void stream_revoke(struct stream *s)
{
    stream_break(s, FLAG_LR, s->detail_text);
}
