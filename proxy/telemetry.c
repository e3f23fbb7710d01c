/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/telemetry.h"

#include <stdio.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/http/head.h"
#include "lib/obs/accesslog.h"
#include "lib/obs/metrics.h"
#include "lib/obs/tracectx.h"
#include "proxy/down.h"
#include "proxy/logpipe.h"
#include "proxy/worker.h"

/* --- the registry ------------------------------------------------------------------------------- */

/* Istio's labels, in Istio's names; the order is ours. */
/* clang-format off */
#define PEER_LABELS(side) \
    side "_workload", side "_workload_namespace", side "_principal", side "_app", side "_version", \
    side "_cluster", side "_canonical_service", side "_canonical_revision"
static const char *const labels_http[] = {
    "reporter", PEER_LABELS("source"), PEER_LABELS("destination"),
    "destination_service", "destination_service_name", "destination_service_namespace",
    "request_protocol", "response_flags", "connection_security_policy",
    "response_code", "grpc_response_status",
};
/* clang-format on */
enum {
    L_REPORTER,
    L_SOURCE,
    L_DESTINATION = L_SOURCE + 8,
    L_SERVICE = L_DESTINATION + 8,
    L_SERVICE_NAME,
    L_SERVICE_NAMESPACE,
    L_PROTOCOL,
    L_FLAGS,
    L_SECURITY,
    L_TCP_COUNT,
    L_CODE = L_TCP_COUNT,
    L_GRPC,
    L_HTTP_COUNT,
};
_Static_assert(N_OF(labels_http) == L_HTTP_COUNT, "labels and their names");

enum { M_REQUESTS, M_DURATION, M_REQUEST_BYTES, M_RESPONSE_BYTES };
static const struct metric_def metrics_http[] = {
    {"istio_requests_total", "Requests", NULL, METRIC_COUNTER, NULL, 0},
    {"istio_request_duration_milliseconds", "Duration of requests", "milliseconds", METRIC_HISTOGRAM,
     metric_istio_bounds, METRIC_ISTIO_BOUNDS},
    {"istio_request_bytes", "Bytes of request bodies", "bytes", METRIC_HISTOGRAM,
     metric_istio_bounds, METRIC_ISTIO_BOUNDS},
    {"istio_response_bytes", "Bytes of answer bodies", "bytes", METRIC_HISTOGRAM,
     metric_istio_bounds, METRIC_ISTIO_BOUNDS},
};
/* Without the outcome in their labels, as Istio has them. */
enum { M_REQUEST_MESSAGES, M_RESPONSE_MESSAGES };
static const struct metric_def metrics_grpc[] = {
    {"istio_request_messages_total", "gRPC messages that clients sent", NULL, METRIC_COUNTER, NULL, 0},
    {"istio_response_messages_total", "gRPC messages that servers sent", NULL, METRIC_COUNTER, NULL,
     0},
};
enum { M_OPENED, M_CLOSED, M_SENT, M_RECEIVED };
static const struct metric_def metrics_tcp[] = {
    {"istio_tcp_connections_opened_total", "TCP connections opened", NULL, METRIC_COUNTER, NULL, 0},
    {"istio_tcp_connections_closed_total", "TCP connections closed", NULL, METRIC_COUNTER, NULL, 0},
    {"istio_tcp_sent_bytes_total", "Bytes sent in answer on TCP connections", "bytes",
     METRIC_COUNTER, NULL, 0},
    {"istio_tcp_received_bytes_total", "Bytes received on TCP connections", "bytes", METRIC_COUNTER,
     NULL, 0},
};
#define COUNTER(name, help) {name, help, NULL, METRIC_COUNTER, NULL, 0}
enum { M_REFUSED, M_OVERFLOW, M_LOG_DROPPED, M_LATE_LABELS, M_OVERLOAD, M_MIRROR_DROPPED };
static const struct metric_def metrics_own[] = {
    COUNTER("tulle_connections_refused_total", "Connections refused before they carried anything"),
    COUNTER("tulle_connections_overflow_total", "Connections over this proxy's limit"),
    COUNTER("tulle_access_log_dropped_total", "Access log lines dropped because nobody read them"),
    COUNTER("tulle_peer_labels_unknown_total", "Records written before the peer's labels were known"),
    COUNTER("tulle_overload_refused_total", "Requests and connections refused as memory was near its limit"),
    COUNTER("tulle_mirror_dropped_total", "Copies of requests that were given up or got no answer"),
};
static const char *const labels_h2[] = {"limit"};
static const struct metric_def metrics_h2[] = {
    COUNTER("tulle_http2_limits_total", "HTTP/2 connections and streams that met a limit"),
};
static const char *const labels_cluster[] = {"cluster_name"};
enum { M_EJECTED, M_EJECTIONS, M_EJECT_5XX, M_EJECT_GATEWAY, M_EJECT_LOCAL, M_EJECT_OVER };
static const struct metric_def metrics_outlier[] = {
    {"envoy_cluster_outlier_detection_ejections_active", "Hosts that are ejected", NULL,
     METRIC_GAUGE, NULL, 0},
    {"envoy_cluster_outlier_detection_ejections_enforced_total", "Ejections of hosts", NULL,
     METRIC_COUNTER, NULL, 0},
    {"envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx",
     "Ejections for server errors in a row", NULL, METRIC_COUNTER, NULL, 0},
    {"envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
     "Ejections for gateway errors in a row", NULL, METRIC_COUNTER, NULL, 0},
    {"envoy_cluster_outlier_detection_ejections_enforced_consecutive_local_origin_failure",
     "Ejections for connections that failed in a row", NULL, METRIC_COUNTER, NULL, 0},
    {"envoy_cluster_outlier_detection_ejections_overflow",
     "Ejections that maxEjectionPercent did not allow", NULL, METRIC_COUNTER, NULL, 0},
};
static const struct metric_def metrics_retry[] = {
    COUNTER("envoy_cluster_upstream_rq_retry_overflow", "Retries that no budget was left for"),
};
#undef COUNTER
enum { G_HTTP, G_GRPC, G_TCP, G_OWN, G_H2, G_OUTLIER, G_RETRY };
static const struct metric_group groups[] = {
    [G_HTTP] = {labels_http, metrics_http, L_HTTP_COUNT, N_OF(metrics_http)},
    [G_GRPC] = {labels_http, metrics_grpc, L_TCP_COUNT, N_OF(metrics_grpc)},
    [G_TCP] = {labels_http, metrics_tcp, L_TCP_COUNT, N_OF(metrics_tcp)},
    [G_OWN] = {NULL, metrics_own, 0, N_OF(metrics_own)},
    [G_H2] = {labels_h2, metrics_h2, N_OF(labels_h2), N_OF(metrics_h2)},
    [G_OUTLIER] = {labels_cluster, metrics_outlier, 1, N_OF(metrics_outlier)},
    [G_RETRY] = {labels_cluster, metrics_retry, 1, N_OF(metrics_retry)},
};
enum { ROWS_MAX = 4000, LATE_MAX = 256, LATE_WAIT_MS = 1000 };

int telemetry_registry(unsigned n_workers, struct metrics **ret, struct err *err)
{
    return metrics_new(groups, N_OF(groups), n_workers, ROWS_MAX, ret, err);
}

struct telemetry {
    struct metrics_shard *shard;
    struct logpipe log;
    struct al_program *format;        /* of `format_of` */
    struct prog_settings *format_of;  /* counted */
    struct late *late;                /* records that wait for a peer's labels */
    unsigned n_late;
    uint64_t log_dropped;             /* already counted in the metric */
    char hostname[65];
};

int telemetry_new(struct metrics *metrics, int log_fd, struct worker *w, struct err *err)
{
    struct telemetry *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(err, ERR_NOMEM, "telemetry");
    t->shard = metrics_shard(metrics, w->id);
    logpipe_init(&t->log, w->loop, log_fd);
    w->telemetry = t;
    return 0;
}

char *response_flags_text(unsigned flags, char ret[64])
{
    static const char *const names[] = {
#define X(name, long_name, meaning) #name,
        RESPONSE_FLAGS(X)
#undef X
    };
    size_t at = 0;
    for (unsigned i = 0; i < FLAG_COUNT && at < 56; i++)
        if (flags & (1u << i))
            at += (size_t)snprintf(ret + at, 64 - at, "%s%s", at ? "," : "", names[i]);
    if (at == 0)
        memcpy(ret, "-", 2);
    return ret;
}

/* --- metrics ----------------------------------------------------------------------------------------- */

/* What a metric needs of a record, so that it can outlive the request while a peer's labels come. */
struct figures {
    bool inbound, tcp, grpc, mtls, opened;
    unsigned status, flags;
    int64_t duration_ns;
    uint64_t bytes_received, bytes_sent, messages_received, messages_sent;
    struct slice peer_principal, service_host, service_name, service_namespace, grpc_status;
};

static struct slice or_unknown(struct slice s)
{
    return s.len ? s : SL("unknown");
}

static void peer_labels(struct slice *l, const struct prog_workload *p, struct slice principal)
{
    static const struct prog_workload nobody = {0};
    if (!p)
        p = &nobody;
    l[0] = or_unknown(p->name);
    l[1] = or_unknown(p->namespace_);
    l[2] = or_unknown(principal);
    l[3] = or_unknown(p->app);
    l[4] = or_unknown(p->version);
    l[5] = or_unknown(p->cluster);
    l[6] = or_unknown(p->canonical_name);
    l[7] = p->canonical_revision.len ? p->canonical_revision : p->name.len ? SL("latest") : SL("unknown");
}

static void count(struct worker *w, const struct figures *f, const struct prog_workload *peer)
{
    const struct prog_workload *self = w->know.inbound ? &w->know.inbound->self : NULL;
    struct slice l[L_HTTP_COUNT];
    char flags[64], code[8];
    l[L_REPORTER] = f->inbound ? SL("destination") : SL("source");
    struct slice own = f->mtls && self ? self->principal : SLICE_NULL;
    peer_labels(&l[L_SOURCE], f->inbound ? peer : self, f->inbound ? f->peer_principal : own);
    peer_labels(&l[L_DESTINATION], f->inbound ? self : peer, f->inbound ? own : f->peer_principal);
    struct slice name = f->service_name;
    if (!name.len && f->inbound && self)
        name = self->canonical_name;
    l[L_SERVICE] = or_unknown(f->service_host.len ? f->service_host : name);
    l[L_SERVICE_NAME] = or_unknown(name);
    l[L_SERVICE_NAMESPACE] = or_unknown(
        f->service_namespace.len ? f->service_namespace
        : f->inbound && self     ? self->namespace_
                                 : SLICE_NULL);
    l[L_PROTOCOL] = f->tcp ? SL("tcp") : f->grpc ? SL("grpc") : SL("http");
    l[L_FLAGS] = slice_str(response_flags_text(f->flags, flags));
    l[L_SECURITY] = !f->inbound ? SL("unknown") : f->mtls ? SL("mutual_tls") : SL("none");
    if (f->tcp) {
        struct metrics_row *row = metrics_row(w->telemetry->shard, G_TCP, l);
        if (f->opened) {
            metrics_add(row, M_OPENED, 1);
            return;
        }
        metrics_add(row, M_CLOSED, 1);
        metrics_add(row, M_SENT, f->bytes_sent);
        metrics_add(row, M_RECEIVED, f->bytes_received);
        return;
    }
    if (f->messages_received || f->messages_sent) {
        struct metrics_row *row = metrics_row(w->telemetry->shard, G_GRPC, l);
        metrics_add(row, M_REQUEST_MESSAGES, f->messages_received);
        metrics_add(row, M_RESPONSE_MESSAGES, f->messages_sent);
    }
    l[L_CODE] = slice_of(code, (size_t)(u32_put(code, f->status) - code));
    l[L_GRPC] = f->grpc_status;
    struct metrics_row *row = metrics_row(w->telemetry->shard, G_HTTP, l);
    metrics_add(row, M_REQUESTS, 1);
    metrics_observe(row, M_DURATION, (double)f->duration_ns / 1e6);
    metrics_observe(row, M_REQUEST_BYTES, (double)f->bytes_received);
    metrics_observe(row, M_RESPONSE_BYTES, (double)f->bytes_sent);
}

/* A peer's labels are believed when it is who the labels say: inbound callers must have proved it. */
static const struct prog_workload *believed(const struct figures *f, const struct prog_workload *p)
{
    if (!p)
        return NULL;
    if (f->peer_principal.len)
        return slice_eq(p->principal, f->peer_principal) ? p : NULL;
    return f->inbound ? NULL : p;
}

struct late {
    struct late *next, **prev;
    struct worker *worker;
    struct know_waiter waiter;
    struct arena arena;
    struct figures figures;
    struct slice address;
};

static void late_free(struct late *l)
{
    *l->prev = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->worker->telemetry->n_late--;
    arena_fini(&l->arena);
    mem_free(l);
}

static void late_known(struct know_waiter *waiter, enum know_state state)
{
    struct late *l = CONTAINER_OF(waiter, struct late, waiter);
    struct worker *w = l->worker;
    struct prog_workload *p = NULL;
    if (state == KNOW_VALUE)
        know_workload(&w->know, l->address, &p);
    else
        metrics_add(metrics_row(w->telemetry->shard, G_OWN, NULL), M_LATE_LABELS, 1);
    count(w, &l->figures, believed(&l->figures, p));
    late_free(l);
}

static bool count_later(struct worker *w, const struct figures *f, struct slice address)
{
    struct telemetry *t = w->telemetry;
    struct late *l = t->n_late < LATE_MAX ? mem_zalloc(sizeof *l) : NULL;
    if (!l)
        return false;
    l->worker = w;
    l->figures = *f;
    l->address = arena_slice(&l->arena, address);
    struct slice *texts[] = {&l->figures.peer_principal, &l->figures.service_host,
                             &l->figures.service_name, &l->figures.service_namespace,
                             &l->figures.grpc_status};
    for (size_t i = 0; i < N_OF(texts); i++)
        *texts[i] = arena_slice(&l->arena, *texts[i]);
    l->next = t->late;
    l->prev = &t->late;
    if (l->next)
        l->next->prev = &l->next;
    t->late = l;
    t->n_late++;
    know_wait_workload(&w->know, l->address, LATE_WAIT_MS * NS_PER_MS, &l->waiter, late_known);
    return true;
}

static void count_with_peer(struct worker *w, const struct figures *f, const struct sock_addr *peer)
{
    char text[SOCK_TEXT_MAX];
    struct prog_workload *p = NULL;
    /* Without a certificate a caller's labels are not believed: no need to ask for them. */
    if (!sock_addr_set(peer) || sock_addr_is_loopback(peer) ||
        (f->inbound && !f->peer_principal.len)) {
        count(w, f, NULL);
        return;
    }
    struct slice address = slice_str(sock_addr_ip_text(peer, text));
    enum know_state st = know_workload(&w->know, address, &p);
    if (st == KNOW_WAITING && count_later(w, f, address))
        return;
    count(w, f, believed(f, p));
}

/* --- access log ---------------------------------------------------------------------------------------- */

struct line {
    const struct record *r;
    const struct worker *w;
};

static void add_addr(struct buf *out, const struct sock_addr *a, bool port)
{
    char text[SOCK_TEXT_MAX];
    if (sock_addr_set(a))
        buf_add_str(out, port ? sock_addr_text(a, text) : sock_addr_ip_text(a, text));
}

static void add_text(struct buf *out, const char *s)
{
    if (s)
        buf_add_str(out, s);
}

static void req_value(const struct record *r, struct slice name, struct buf *out)
{
    static const struct {
        const char *name;
        size_t at;
    } known[] = {
        {":method", offsetof(struct record, method)},
        {":path", offsetof(struct record, path)},
        {":authority", offsetof(struct record, authority)},
        {"user-agent", offsetof(struct record, user_agent)},
        {"x-forwarded-for", offsetof(struct record, forwarded_for)},
        {"x-request-id", offsetof(struct record, request_id)},
    };
    for (size_t i = 0; i < N_OF(known); i++)
        if (slice_is(name, known[i].name)) {
            buf_add_slice(out, *(const struct slice *)((const char *)r + known[i].at));
            return;
        }
    if (r->head)
        buf_add_slice(out, http_head_get(r->head, name));
}

static void flags_long(unsigned flags, struct buf *out)
{
    static const char *const names[] = {
#define X(name, long_name, meaning) #long_name,
        RESPONSE_FLAGS(X)
#undef X
    };
    const char *sep = "";
    for (unsigned i = 0; i < FLAG_COUNT; i++)
        if (flags & (1u << i)) {
            buf_addf(out, "%s%s", sep, names[i]);
            sep = ",";
        }
}

static void resp_value(const struct record *r, struct slice name, struct buf *out)
{
    if (slice_is(name, "x-envoy-upstream-service-time") && r->upstream_ns >= 0)
        buf_add_u64(out, (uint64_t)(r->upstream_ns / NS_PER_MS));
    else if (slice_is(name, ":status") && r->status)
        buf_add_u64(out, r->status);
    else if (r->answer)
        buf_add_slice(out, http_head_get(r->answer, name));
}

/* The trace that the request belongs to: W3C's header, or B3's. */
static void trace_value(const struct record *r, struct buf *out)
{
    struct trace_ctx t;
    char hex[2 * sizeof t.trace_id + 1];
    if (!r->head)
        return;
    if (trace_parse_w3c(http_head_get(r->head, SL("traceparent")), &t) == ERR_OK)
        buf_add_str(out, trace_hex(t.trace_id, sizeof t.trace_id, hex));
    else
        buf_add_slice(out, http_head_get(r->head, SL("x-b3-traceid")));
}

static void add_port(struct buf *out, const struct sock_addr *a)
{
    if (sock_addr_set(a))
        buf_add_u64(out, sock_addr_port(a));
}

static void line_value(void *user, enum al_op op, struct slice arg, struct buf *out)
{
    const struct line *l = user;
    const struct record *r = l->r;
    const struct worker *w = l->w;
    char flags[64];
    switch (op) {
    case AL_START_TIME: al_time(r->start_wall_ns, arg, out); break;
    case AL_REQ: req_value(r, arg, out); break;
    case AL_RESP: resp_value(r, arg, out); break;
    case AL_TRAILER:
        if (r->trailers)
            buf_add_slice(out, http_head_get(r->trailers, arg));
        break;
    case AL_PROTOCOL: add_text(out, r->tcp ? NULL : r->protocol); break;
    case AL_RESPONSE_CODE: buf_add_u64(out, r->status); break;
    case AL_RESPONSE_FLAGS: add_text(out, response_flags_text(r->flags, flags)); break;
    case AL_RESPONSE_FLAGS_LONG: flags_long(r->flags, out); break;
    case AL_RESPONSE_CODE_DETAILS: add_text(out, r->details); break;
    case AL_CONNECTION_TERMINATION_DETAILS: add_text(out, r->termination); break;
    case AL_UPSTREAM_TRANSPORT_FAILURE_REASON: add_text(out, r->upstream_failure); break;
    case AL_BYTES_RECEIVED: buf_add_u64(out, r->bytes_received); break;
    case AL_BYTES_SENT: buf_add_u64(out, r->bytes_sent); break;
    case AL_DURATION: buf_add_u64(out, (uint64_t)(r->duration_ns / NS_PER_MS)); break;
    case AL_RESPONSE_DURATION:
        if (r->first_byte_ns >= 0)
            buf_add_u64(out, (uint64_t)(r->first_byte_ns / NS_PER_MS));
        break;
    case AL_UPSTREAM_HOST:
    case AL_UPSTREAM_REMOTE_ADDRESS: add_addr(out, &r->upstream, true); break;
    case AL_UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: add_addr(out, &r->upstream, false); break;
    case AL_UPSTREAM_REMOTE_PORT: add_port(out, &r->upstream); break;
    case AL_UPSTREAM_REQUEST_ATTEMPT_COUNT: buf_add_u64(out, r->attempts); break;
    case AL_UPSTREAM_PROTOCOL:
        if (!r->tcp && r->upstream_ns >= 0)
            buf_add_str(out, "HTTP/1.1");
        break;
    case AL_UPSTREAM_CLUSTER:
    case AL_UPSTREAM_CLUSTER_RAW: buf_add_slice(out, r->cluster); break;
    case AL_DOWNSTREAM_LOCAL_ADDRESS: add_addr(out, &r->orig, true); break;
    case AL_DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: add_addr(out, &r->orig, false); break;
    case AL_DOWNSTREAM_LOCAL_PORT: add_port(out, &r->orig); break;
    case AL_DOWNSTREAM_REMOTE_ADDRESS:
    case AL_DOWNSTREAM_DIRECT_REMOTE_ADDRESS: add_addr(out, &r->peer, true); break;
    case AL_DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT:
    case AL_DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: add_addr(out, &r->peer, false); break;
    case AL_DOWNSTREAM_REMOTE_PORT: add_port(out, &r->peer); break;
    case AL_DOWNSTREAM_LOCAL_URI_SAN:
        if (r->inbound && r->mtls && w->know.inbound)
            buf_add_slice(out, w->know.inbound->self.principal);
        break;
    case AL_DOWNSTREAM_TLS_VERSION:
        if (r->inbound && r->mtls)
            buf_add_str(out, "TLSv1.3"); /* the only one that workloads speak */
        break;
    case AL_CONNECTION_ID: buf_add_u64(out, r->connection); break;
    case AL_STREAM_ID: buf_add_slice(out, r->request_id); break;
    case AL_TRACE_ID: trace_value(r, out); break;
    case AL_HOSTNAME: add_text(out, w->telemetry->hostname); break;
    case AL_DOWNSTREAM_PEER_URI_SAN:
        if (r->inbound)
            buf_add_slice(out, r->peer_principal);
        break;
    case AL_UPSTREAM_PEER_URI_SAN:
        if (!r->inbound)
            buf_add_slice(out, r->peer_principal);
        break;
    case AL_REQUESTED_SERVER_NAME: buf_add_slice(out, r->sni); break;
    case AL_ROUTE_NAME: buf_add_slice(out, r->route); break;
    case AL_GRPC_STATUS:
    case AL_GRPC_STATUS_NUMBER: buf_add_slice(out, r->grpc_status); break;
    }
}

/* The format of the settings in force; a new one is compiled at the first line that needs it. */
static const struct al_program *log_format(struct worker *w)
{
    struct telemetry *t = w->telemetry;
    struct prog_settings *s = w->know.settings;
    if (!s || s->access_log.disabled)
        return NULL;
    if (t->format_of != s) {
        struct al_program *p;
        struct err err = {0};
        if (al_compile(s->access_log.format, s->access_log.json, &p, &err) < 0) {
            LOG(ERROR, "Access log format refused; the default is used", "reason=%s", err.msg);
            if (al_compile(SLICE_NULL, s->access_log.json, &p, &err) < 0)
                return t->format;
        }
        al_free(t->format);
        t->format = p;
        if (al_uses(p, AL_HOSTNAME) && gethostname(t->hostname, sizeof t->hostname - 1) < 0)
            t->hostname[0] = '\0';
        prog_unref(t->format_of);
        t->format_of = prog_ref(s);
    }
    return t->format;
}

static void write_line(struct worker *w, const struct record *r)
{
    struct telemetry *t = w->telemetry;
    const struct al_program *p = log_format(w);
    struct buf *out = p ? logpipe_begin(&t->log) : NULL;
    if (t->log.dropped != t->log_dropped) {
        metrics_add(metrics_row(t->shard, G_OWN, NULL), M_LOG_DROPPED,
                    t->log.dropped - t->log_dropped);
        t->log_dropped = t->log.dropped;
    }
    if (!out)
        return;
    struct line l = {r, w};
    al_write(p, line_value, &l, out);
    logpipe_commit(&t->log);
}

const struct http_head *telemetry_keep(struct worker *w, const struct http_head *answer,
                                       struct arena *arena)
{
    const struct al_program *p = w->telemetry ? log_format(w) : NULL;
    struct http_head *kept = NULL;
    struct slice name;
    if (!p || !al_uses(p, AL_RESP))
        return NULL;
    for (size_t i = 0; (name = al_arg(p, AL_RESP, i)).p; i++) {
        struct slice value = http_head_get(answer, name);
        if (!value.p)
            continue;
        if (!kept) {
            kept = arena_alloc(arena, sizeof *kept);
            if (!kept)
                return NULL;
            http_head_init(kept, arena);
        }
        if (http_head_add(kept, name, arena_slice(arena, value)) != ERR_OK)
            break;
    }
    return kept;
}

/* --- records --------------------------------------------------------------------------------------------- */

static struct figures figures_of(const struct record *r)
{
    return (struct figures){
        .inbound = r->inbound,
        .tcp = r->tcp,
        .grpc = r->grpc,
        .mtls = r->mtls,
        .status = r->status,
        .flags = r->flags,
        .duration_ns = r->duration_ns,
        .bytes_received = r->bytes_received,
        .bytes_sent = r->bytes_sent,
        .messages_received = r->messages_received,
        .messages_sent = r->messages_sent,
        .peer_principal = r->peer_principal,
        .service_host = r->service_host,
        .service_name = r->service_name,
        .service_namespace = r->service_namespace,
        .grpc_status = r->grpc_status,
    };
}

void telemetry_reap(struct worker *w)
{
    if (w->telemetry)
        metrics_reap(w->telemetry->shard);
}

void telemetry_record(struct worker *w, const struct record *r)
{
    if (!w->telemetry)
        return;
    struct figures f = figures_of(r);
    write_line(w, r);
    count_with_peer(w, &f, r->inbound ? &r->peer : &r->upstream);
}

void telemetry_tcp_opened(struct worker *w, const struct record *r)
{
    if (!w->telemetry)
        return;
    struct figures f = figures_of(r);
    f.opened = true;
    count_with_peer(w, &f, r->inbound ? &r->peer : &r->upstream);
}

void telemetry_refused(struct worker *w, const struct down *d, const struct prog_service *svc,
                       unsigned flag, const char *details)
{
    if (!w->telemetry)
        return;
    struct record r = {
        .inbound = d->info.inbound,
        .tcp = true,
        .start_wall_ns = loop_wall(w->loop) - (loop_now(w->loop) - d->info.start_ns),
        .duration_ns = loop_now(w->loop) - d->info.start_ns,
        .upstream_ns = -1,
        .first_byte_ns = -1,
        .connection = d->info.id,
        .flags = flag,
        .details = details,
        .peer = d->info.peer,
        .orig = d->info.orig,
    };
    if (svc) {
        r.service_host = svc->host;
        r.service_name = svc->name;
        r.service_namespace = svc->namespace_;
    } else if (d->info.inbound) {
        r.service_host = d->info.port->service_host;
        r.service_name = d->info.port->service_name;
        r.service_namespace = d->info.port->service_namespace;
    }
    metrics_add(metrics_row(w->telemetry->shard, G_OWN, NULL), M_REFUSED, 1);
    telemetry_record(w, &r);
}

static void count_own(struct worker *w, unsigned metric)
{
    if (w->telemetry)
        metrics_add(metrics_row(w->telemetry->shard, G_OWN, NULL), metric, 1);
}

void telemetry_overflow(struct worker *w)
{
    count_own(w, M_OVERFLOW);
}

void telemetry_overload(struct worker *w)
{
    count_own(w, M_OVERLOAD);
}

void telemetry_h2_limit(struct worker *w, const char *label)
{
    struct slice l[] = {slice_str(label)};
    if (w->telemetry)
        metrics_add(metrics_row(w->telemetry->shard, G_H2, l), 0, 1);
}

void telemetry_ejection(struct worker *w, struct slice cluster, enum outlier_cause cause, int step)
{
    static const unsigned of_cause[] = {
        [OUTLIER_5XX] = M_EJECT_5XX,
        [OUTLIER_GATEWAY] = M_EJECT_GATEWAY,
        [OUTLIER_LOCAL] = M_EJECT_LOCAL,
    };
    if (!w->telemetry)
        return;
    struct metrics_row *row = metrics_row(w->telemetry->shard, G_OUTLIER, &cluster);
    if (step == 0) {
        metrics_add(row, M_EJECT_OVER, 1);
        return;
    }
    metrics_gauge_add(row, M_EJECTED, step);
    if (step < 0)
        return;
    metrics_add(row, M_EJECTIONS, 1);
    metrics_add(row, of_cause[cause], 1);
}

void telemetry_retry_overflow(struct worker *w, struct slice cluster)
{
    if (w->telemetry)
        metrics_add(metrics_row(w->telemetry->shard, G_RETRY, &cluster), 0, 1);
}

void telemetry_mirror_dropped(struct worker *w)
{
    count_own(w, M_MIRROR_DROPPED);
}

void telemetry_free(struct worker *w)
{
    struct telemetry *t = w->telemetry;
    if (!t)
        return;
    while (t->late) {
        know_wait_cancel(&t->late->waiter);
        late_free(t->late);
    }
    logpipe_fini(&t->log);
    al_free(t->format);
    prog_unref(t->format_of);
    mem_free(t);
    w->telemetry = NULL;
}
