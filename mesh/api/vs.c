/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of VirtualService; its rules are in vs_validate.c. */
#include "mesh/api/vs.h"

#include "lib/data/base64.h"
#include "mesh/api/read.h"

static void header_ops(const struct rd *d, const char *key, struct vs_header_ops *ret)
{
    struct rd at;

    if (!rd_obj(d, key, &at))
        return;
    rd_map(&at, "set", &ret->set);
    rd_map(&at, "add", &ret->add);
    rd_strings(&at, "remove", &ret->remove);
}

static void headers(const struct rd *d, struct vs_headers *ret)
{
    struct rd at;

    if (!rd_obj(d, "headers", &at))
        return;
    header_ops(&at, "request", &ret->request);
    header_ops(&at, "response", &ret->response);
}

static void destination(const struct rd *d, void *ret)
{
    struct vs_destination *x = ret;
    struct rd port;

    rd_lower(d, "host", &x->host);
    rd_str(d, "subset", &x->subset);
    if (x->subset.len == 0)
        x->subset = SLICE_NULL;
    if (rd_obj(d, "port", &port))
        rd_port(&port, "number", &x->port);
}

static void route_dest(const struct rd *d, void *ret)
{
    struct vs_route_dest *x = ret;
    struct rd dest;
    int64_t weight;

    if (rd_obj(d, "destination", &dest))
        destination(&dest, &x->destination);
    if (rd_i64(d, "weight", 0, INT32_MAX, &weight))
        x->weight = (struct opt_u32){true, (uint32_t)weight};
    headers(d, &x->headers);
}

static void route_dests(const struct rd *d, struct vs_route_dests *ret)
{
    ret->p = rd_array(d, "route", sizeof *ret->p, route_dest, &ret->n);
}

static void http_match(const struct rd *d, void *ret)
{
    struct vs_http_match *x = ret;

    rd_str(d, "name", &x->name);
    rd_match(d, "uri", &x->uri);
    rd_match(d, "scheme", &x->scheme);
    rd_match(d, "method", &x->method);
    rd_match(d, "authority", &x->authority);
    rd_named_matches(d, "headers", true, &x->headers);
    rd_named_matches(d, "withoutHeaders", true, &x->without_headers);
    rd_named_matches(d, "queryParams", false, &x->query_params);
    rd_bool(d, "ignoreUriCase", &x->ignore_uri_case);
    rd_port(d, "port", &x->port);
    rd_map(d, "sourceLabels", &x->source_labels);
    rd_strings(d, "gateways", &x->gateways);
    rd_str(d, "sourceNamespace", &x->source_namespace);
    rd_str(d, "statPrefix", &x->stat_prefix);
}

static void redirect(const struct rd *d, void *ret)
{
    static const char *const derive[] = {"", "FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT", NULL};
    struct vs_redirect *x = ret;

    rd_str(d, "uri", &x->uri);
    rd_str(d, "authority", &x->authority);
    rd_str(d, "scheme", &x->scheme);
    rd_str(d, "prefixRewrite", &x->prefix_rewrite);
    rd_port(d, "port", &x->port);
    x->derive_port = (unsigned)rd_enum(d, "derivePort", derive, VS_PORT_UNSET);
    rd_u32(d, "redirectCode", &x->code);
    if (x->code == 0)
        x->code = 301;
}

/* body.bytes is base64; what is decoded is shorter than its text. */
static void body_bytes(const struct rd *body, struct vs_direct_response *x)
{
    struct slice text = SLICE_NULL;
    struct buf out;

    rd_str(body, "bytes", &text);
    if (!text.p)
        return;
    buf_init(&out, text.len + 4);
    if (base64_decode(text, BASE64_STD, &out) != ERR_OK)
        rd_fail(body, "bytes", "must be base64");
    else
        x->body = rd_copy(body->c, out.p ? buf_slice(&out) : (struct slice){"", 0});
    buf_fini(&out);
}

static void direct_response(const struct rd *d, void *ret)
{
    struct vs_direct_response *x = ret;
    struct rd body;

    rd_u32(d, "status", &x->status);
    if (!rd_obj(d, "body", &body))
        return;
    rd_str(&body, "string", &x->body);
    body_bytes(&body, x);
}

static void rewrite(const struct rd *d, void *ret)
{
    struct vs_rewrite *x = ret;
    struct rd regex;

    rd_str(d, "uri", &x->uri);
    rd_str(d, "authority", &x->authority);
    if (rd_obj(d, "uriRegexRewrite", &regex)) {
        x->regex_match = x->regex_rewrite = (struct slice){"", 0};
        rd_str(&regex, "match", &x->regex_match);
        rd_str(&regex, "rewrite", &x->regex_rewrite);
    }
}

static void retries(const struct rd *d, void *ret)
{
    struct vs_retry *x = ret;

    rd_u32(d, "attempts", &x->attempts);
    rd_opt_ns(d, "perTryTimeout", &x->per_try_timeout);
    rd_str(d, "retryOn", &x->retry_on);
    if (x->retry_on.len == 0)
        x->retry_on = SLICE_NULL;
    rd_opt_bool(d, "retryRemoteLocalities", &x->remote_localities);
    rd_opt_bool(d, "retryIgnorePreviousHosts", &x->ignore_previous_hosts);
    rd_opt_ns(d, "backoff", &x->backoff);
}

/* `percentage` as Istio reads it: absent means 100, unless the old integer `percent` is given. */
static double fault_share(const struct rd *d)
{
    uint32_t old = 0;
    double share = 100;
    bool given = rd_percent(d, "percentage", &share);
    struct rd at;

    if (!rd_get(d, "percent", &at))
        return share;
    rd_u32(d, "percent", &old);
    findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                 "is an old spelling: write percentage.value: %u instead", (unsigned)old);
    return given ? share : (double)old; /* a written 0 means none */
}

static const char *const grpc_names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

static int32_t grpc_code(struct slice s)
{
    uint64_t v;

    for (size_t i = 0; i < N_OF(grpc_names); i++)
        if (slice_is(s, grpc_names[i]))
            return (int32_t)i;
    return slice_u64(s, N_OF(grpc_names) - 1, &v) ? (int32_t)v : -1;
}

static void fault(const struct rd *d, void *ret)
{
    struct vs_fault *x = ret;
    struct rd at;

    x->abort.grpc_code = -1;
    if (rd_obj(d, "delay", &at)) {
        x->delay.set = true;
        x->delay.percentage = fault_share(&at);
        rd_ns(&at, "fixedDelay", &x->delay.fixed_ns);
        rd_ns(&at, "exponentialDelay", &x->delay.exponential_ns);
    }
    if (rd_obj(d, "abort", &at)) {
        x->abort.set = true;
        x->abort.percentage = fault_share(&at);
        rd_u32(&at, "httpStatus", &x->abort.http_status);
        rd_str(&at, "grpcStatus", &x->abort.grpc_status);
        rd_str(&at, "http2Error", &x->abort.http2_error);
        if (x->abort.grpc_status.p)
            x->abort.grpc_code = grpc_code(x->abort.grpc_status);
    }
}

static void mirror(const struct rd *d, void *ret)
{
    struct vs_mirror *x = ret;
    struct rd dest;

    if (rd_obj(d, "destination", &dest))
        destination(&dest, &x->destination);
    x->percentage = 100;
    rd_percent(d, "percentage", &x->percentage);
}

/* mirrorPercentage, or the two older integers. */
static double mirror_share(const struct rd *d)
{
    static const char *const old[] = {"mirrorPercent", "mirror_percent"};
    double share = 100;
    bool given = rd_percent(d, "mirrorPercentage", &share);

    for (size_t i = 0; i < N_OF(old); i++) {
        struct rd at;
        uint32_t v = 0;

        if (!rd_get(d, old[i], &at))
            continue;
        rd_u32(d, old[i], &v);
        findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                     "is an old spelling: write mirrorPercentage.value: %u instead", (unsigned)v);
        if (!given)
            share = v;
    }
    return share;
}

static void mirrors(const struct rd *d, struct vs_http *x)
{
    uint32_t n = 0;
    struct vs_mirror *many = rd_array(d, "mirrors", sizeof *many, mirror, &n);
    struct rd one;

    x->mirrors = many;
    x->n_mirrors = n;
    if (!rd_obj(d, "mirror", &one))
        return;
    x->mirrors = rd_alloc(d->c, (size_t)n + 1, sizeof *x->mirrors);
    x->n_mirrors = x->mirrors ? n + 1 : 0;
    if (!x->mirrors)
        return;
    x->mirror_first = true;
    destination(&one, &x->mirrors[0].destination);
    x->mirrors[0].percentage = mirror_share(d);
    if (n)
        memcpy(x->mirrors + 1, many, n * sizeof *many);
}

static void string_match(const struct rd *d, void *ret)
{
    rd_match_of(d, ret);
}

static void old_origins(const struct rd *d, const struct api_strings *old, struct vs_cors *x)
{
    struct api_match *all = rd_alloc(d->c, old->n, sizeof *all);

    if (!all)
        return;
    for (uint32_t i = 0; i < old->n; i++)
        all[i] = (struct api_match){API_MATCH_EXACT, old->p[i]};
    x->allow_origins = all;
    x->n_allow_origins = old->n;
}

static void cors(const struct rd *d, void *ret)
{
    static const char *const preflights[] = {"UNSPECIFIED", "FORWARD", "IGNORE", NULL};
    struct vs_cors *x = ret;
    struct api_strings old = {0};
    struct rd at;

    x->allow_origins =
        rd_array(d, "allowOrigins", sizeof *x->allow_origins, string_match, &x->n_allow_origins);
    rd_strings(d, "allowOrigin", &old);
    if (old.n && rd_get(d, "allowOrigin", &at)) {
        bool both = x->n_allow_origins > 0;

        findings_add(d->c->f, both ? FINDING_INEFFECTIVE : FINDING_DEPRECATED, &at.path,
                     both ? "has no effect beside allowOrigins: move its origins there"
                          : "is an old spelling: write allowOrigins: [{exact: ...}] instead");
        if (!both)
            old_origins(d, &old, x);
    }
    rd_strings(d, "allowMethods", &x->allow_methods);
    rd_strings(d, "allowHeaders", &x->allow_headers);
    rd_strings(d, "exposeHeaders", &x->expose_headers);
    rd_opt_ns(d, "maxAge", &x->max_age);
    rd_opt_bool(d, "allowCredentials", &x->allow_credentials);
    x->unmatched_preflights =
        (unsigned)rd_enum(d, "unmatchedPreflights", preflights, VS_PREFLIGHT_UNSET);
}

static void http(const struct rd *d, void *ret)
{
    struct vs_http *x = ret;
    struct rd delegate;

    rd_str(d, "name", &x->name);
    x->match = rd_array(d, "match", sizeof *x->match, http_match, &x->n_match);
    route_dests(d, &x->route);
    x->redirect = rd_new(d, "redirect", sizeof *x->redirect, redirect);
    x->direct_response = rd_new(d, "directResponse", sizeof *x->direct_response, direct_response);
    if (rd_obj(d, "delegate", &delegate)) {
        rd_str(&delegate, "name", &x->delegate_name);
        rd_str(&delegate, "namespace", &x->delegate_ns);
    }
    x->rewrite = rd_new(d, "rewrite", sizeof *x->rewrite, rewrite);
    rd_opt_ns(d, "timeout", &x->timeout);
    x->retries = rd_new(d, "retries", sizeof *x->retries, retries);
    x->fault = rd_new(d, "fault", sizeof *x->fault, fault);
    mirrors(d, x);
    x->cors = rd_new(d, "corsPolicy", sizeof *x->cors, cors);
    headers(d, &x->headers);
}

static void l4_match(const struct rd *d, void *ret)
{
    struct vs_l4_match *x = ret;

    rd_lower_strings(d, "sniHosts", &x->sni_hosts);
    rd_strings(d, "destinationSubnets", &x->destination_subnets);
    rd_port(d, "port", &x->port);
    rd_map(d, "sourceLabels", &x->source_labels);
    rd_strings(d, "gateways", &x->gateways);
    rd_str(d, "sourceNamespace", &x->source_namespace);
    rd_str(d, "sourceSubnet", &x->source_subnet);
}

static void l4(const struct rd *d, void *ret)
{
    struct vs_l4 *x = ret;

    x->match = rd_array(d, "match", sizeof *x->match, l4_match, &x->n_match);
    route_dests(d, &x->route);
}

int vs_decode(const json_t *obj, struct arena *a, struct vs **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct vs *vs = rd_alloc(&c, 1, sizeof *vs);

    if (!vs || rd_begin(&c, obj, false, &vs->meta, &root, &spec) < 0)
        return -1;
    rd_lower_strings(&spec, "hosts", &vs->hosts);
    rd_strings(&spec, "gateways", &vs->gateways);
    vs->mesh = vs->gateways.n == 0 || api_strings_has(&vs->gateways, SL("mesh"));
    vs->http = rd_array(&spec, "http", sizeof *vs->http, http, &vs->n_http);
    vs->tls = rd_array(&spec, "tls", sizeof *vs->tls, l4, &vs->n_tls);
    vs->tcp = rd_array(&spec, "tcp", sizeof *vs->tcp, l4, &vs->n_tcp);
    rd_strings(&spec, "exportTo", &vs->export_to);
    if (c.nomem)
        return -1;
    *ret = vs;
    return 0;
}
