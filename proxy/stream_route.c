/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request goes, and what its route does with it. */
#include <stdio.h>
#include <string.h>

#include "lib/data/host.h"
#include "lib/data/urlpath.h"
#include "proxy/filter/cors.h"
#include "proxy/filter/headers.h"
#include "proxy/guard.h"
#include "proxy/mirror.h"
#include "proxy/stream_int.h"
#include "proxy/telemetry.h"

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
    stream_attempt(s);
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
        stream_deadline(s, ns);
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

static void egress_known(struct stream *s, enum know_state state, struct prog_service *svc)
{
    if (state != KNOW_VALUE) {
        stream_reply(s, 503, FLAG_NC, "no_egress_proxy", SLICE_NULL, SLICE_NULL);
        return;
    }
    prog_ref(svc);
    prog_unref(s->service);
    s->service = svc;
    stream_route(s);
}

static void egress_answered(struct know_waiter *w, enum know_state state)
{
    struct stream *s = CONTAINER_OF(w, struct stream, waiter);
    struct prog_service *svc = NULL;
    if (state == KNOW_VALUE)
        state = know_service(&s->worker->know, SL(PROG_EGRESS_KEY), &svc);
    egress_known(s, state, svc);
}

/* To the Sidecar's egressProxy, never past it: without it the request fails. */
static void stream_egress(struct stream *s)
{
    struct prog_service *svc = NULL;
    enum know_state state = know_service(&s->worker->know, SL(PROG_EGRESS_KEY), &svc);
    if (state == KNOW_WAITING) {
        s->state = STREAM_LOOKUP;
        know_wait_service(&s->worker->know, SL(PROG_EGRESS_KEY), &s->waiter, egress_answered);
        return;
    }
    egress_known(s, state, svc);
}

/* Neither the authority nor the address is a service of the mesh: the outbound policy speaks. */
static void stream_passthrough(struct stream *s)
{
    if (s->worker->know.settings->registry_only) {
        stream_reply(s, 502, FLAG_NR, "blocked_by_registry_only", SLICE_NULL, SLICE_NULL);
        return;
    }
    if (s->worker->know.settings->egress_proxy) {
        stream_egress(s);
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
    char text[DOWN_KEY_MAX];
    struct prog_service *svc = NULL;
    if ((s->service || s->unanswered) &&
        know_service(&s->worker->know, down_address_key(&s->down->info, text), &svc) ==
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

static bool authority_key(struct stream *s, char key[DOWN_KEY_MAX], struct slice *ret_host,
                          struct slice *ret_key)
{
    size_t skip = down_key_prefix(&s->down->info, key);
    struct slice host;
    uint16_t port;
    char text[HOST_MAX + 3];
    if (authority_split(s->authority_received, &host, &port) != ERR_OK ||
        host_normalise(host, text, sizeof text, &host) != ERR_OK)
        return false;
    if (skip + host.len + sizeof ":65535" > DOWN_KEY_MAX)
        return false;
    memcpy(key + skip, host.p, host.len);
    char *p = key + skip + host.len;
    *p++ = ':';
    p = u32_put(p, down_key_port(&s->down->info, port));
    *ret_host = slice_of(key + skip, host.len);
    *ret_key = slice_of(key, (size_t)(p - key));
    return true;
}

static void stream_answered(struct know_waiter *w, enum know_state state)
{
    struct stream *s = CONTAINER_OF(w, struct stream, waiter);
    char buf[DOWN_KEY_MAX];
    struct slice host, key;
    struct prog_service *svc = NULL;
    if (state == KNOW_VALUE && authority_key(s, buf, &host, &key))
        state = know_service(&s->worker->know, key, &svc);
    stream_known(s, state, svc);
}

/* The authority picks the virtual host within the dialled port; the address only when none matches. */
static void outbound_route(struct stream *s)
{
    char buf[DOWN_KEY_MAX];
    struct slice host, key;
    if (!authority_key(s, buf, &host, &key) || !prog_settings_has_host(s->worker->know.settings, host, s->worker->pod_namespace)) {
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
    stream_attempt(s);
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
