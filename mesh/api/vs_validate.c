/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a VirtualService, and what deserves a warning. */
#include "lib/base/re.h"
#include "lib/data/host.h"
#include "lib/data/ipaddr.h"
#include "mesh/api/check.h"
#include "mesh/api/vs.h"

/* A VirtualService without hosts is for others to delegate to. */
static void delegate(const struct vs *vs, const struct fpath *hosts, const struct fpath *spec,
                     struct findings *f)
{
    AT_KEY(list, *spec, "http");

    if (vs->gateways.n)
        findings_add(f, FINDING_INVALID, hosts, "must list at least one host");
    if (vs->n_tls || vs->n_tcp)
        findings_add(f, FINDING_INVALID, spec,
                     "without hosts this is a delegate, which can hold http routes only");
    for (uint32_t i = 0; i < vs->n_http; i++) {
        AT_INDEX(at, list, i);
        AT_KEY(nested, at, "delegate");

        if (vs->http[i].delegate_name.p)
            findings_add(f, FINDING_INVALID, &nested,
                         "a delegate must not delegate on: put the routes here");
    }
}

/* What a route may match on that hands on: an expression cannot be compared with those below it. */
static void delegating(const struct vs_http *h, const struct fpath *up, struct findings *f)
{
    AT_KEY(list, *up, "match");

    for (uint32_t i = 0; i < h->n_match; i++) {
        AT_INDEX(at, list, i);
        const struct vs_http_match *m = &h->match[i];
        bool regex = m->uri.kind == API_MATCH_REGEX || m->scheme.kind == API_MATCH_REGEX ||
                     m->method.kind == API_MATCH_REGEX || m->authority.kind == API_MATCH_REGEX;

        for (uint32_t k = 0; k < m->headers.n; k++)
            regex |= m->headers.p[k].match.kind == API_MATCH_REGEX;
        for (uint32_t k = 0; k < m->without_headers.n; k++)
            regex |= m->without_headers.p[k].match.kind == API_MATCH_REGEX;
        for (uint32_t k = 0; k < m->query_params.n; k++)
            regex |= m->query_params.p[k].match.kind == API_MATCH_REGEX;
        if (regex)
            findings_add(f, FINDING_INVALID, &at,
                         "must not use regex in a route with delegate: use prefix or exact");
    }
}

static void hosts(const struct vs *vs, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "hosts");

    for (uint32_t i = 0; i < vs->hosts.n; i++) {
        AT_INDEX(at, list, i);
        struct slice h = vs->hosts.p[i];
        struct ipaddr ip;

        if (ip_parse(h, &ip) || !check_host(h, true, &at, f))
            continue;
        if (vs->mesh && slice_is(h, "*"))
            findings_add(f, FINDING_INVALID, &at,
                         "\"*\" would take all traffic of the mesh; name the hosts, or bind the "
                         "object to a gateway alone");
        for (uint32_t j = 0; j < i; j++)
            if (slice_eq(vs->hosts.p[j], h))
                findings_add(f, FINDING_INVALID, &at, "\"%.*s\" is listed twice", SHOW(h));
    }
    if (vs->hosts.n == 0)
        delegate(vs, &list, spec, f);
}

static void gateways(const struct api_strings *g, const struct fpath *up, struct findings *f)
{
    AT_KEY(list, *up, "gateways");

    for (uint32_t i = 0; i < g->n; i++) {
        AT_INDEX(at, list, i);
        struct slice rest = g->p[i], first, second = SLICE_NULL;

        if (slice_is(g->p[i], "mesh"))
            continue;
        slice_next(&rest, '/', &first);
        slice_next(&rest, '/', &second);
        if (!host_valid(first) || (second.p && !host_valid(second)) || rest.p)
            findings_add(f, FINDING_INVALID, &at,
                         "must be mesh, a gateway, or namespace/gateway, is \"%.*s\"",
                         SHOW(g->p[i]));
    }
}

static void destination_at(const struct vs_destination *d, const struct fpath *at,
                           struct findings *f)
{
    AT_KEY(host, *at, "host");
    AT_KEY(subset, *at, "subset");

    check_host(d->host, false, &host, f);
    if (d->subset.p && !label_valid(d->subset) && !host_valid(d->subset))
        findings_add(f, FINDING_INVALID, &subset, "\"%.*s\" is no name of a subset",
                     SHOW(d->subset));
}

static void destination(const struct vs_destination *d, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "destination");

    destination_at(d, &at, f);
}

static void header_map(const struct api_map *m, const struct fpath *up, const char *key,
                       struct findings *f)
{
    AT_KEY(map, *up, key);

    for (uint32_t i = 0; i < m->n; i++) {
        AT_KEY(at, map, m->p[i].key.p);
        check_header_name(m->p[i].key, &at, f);
    }
}

static void header_ops(const struct vs_header_ops *o, const struct fpath *up, const char *key,
                       struct findings *f)
{
    AT_KEY(ops, *up, key);
    AT_KEY(list, ops, "remove");

    header_map(&o->set, &ops, "set", f);
    header_map(&o->add, &ops, "add", f);
    for (uint32_t i = 0; i < o->remove.n; i++) {
        AT_INDEX(at, list, i);
        check_header_name(o->remove.p[i], &at, f);
    }
}

static void headers(const struct vs_headers *h, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "headers");

    header_ops(&h->request, &at, "request", f);
    header_ops(&h->response, &at, "response", f);
}

static void route_dests(const struct vs_route_dests *r, const struct fpath *up, struct findings *f)
{
    AT_KEY(list, *up, "route");
    uint64_t total = 0;

    for (uint32_t i = 0; i < r->n; i++) {
        AT_INDEX(at, list, i);

        destination(&r->p[i].destination, &at, f);
        headers(&r->p[i].headers, &at, f);
        total += r->p[i].weight.v;
    }
    if (r->n == 1 && r->p[0].weight.set) {
        AT_INDEX(only, list, 0);
        AT_KEY(weight, only, "weight");
        findings_add(f, FINDING_SIMPLER, &weight,
                     "the only destination gets everything: leave the weight out");
    }
    if (r->n > 1 && total == 0)
        findings_add(f, FINDING_INVALID, &list,
                     "the weights add up to 0: give at least one destination a weight");
    if (total > UINT32_MAX)
        findings_add(f, FINDING_INVALID, &list, "the weights add up to more than %u", UINT32_MAX);
}

static void named_matches(const struct api_named_matches *m, const struct fpath *up,
                          const char *key, bool header, struct findings *f)
{
    AT_KEY(map, *up, key);

    for (uint32_t i = 0; i < m->n; i++) {
        AT_KEY(at, map, m->p[i].name.p);

        if (header)
            check_header_name(m->p[i].name, &at, f);
        else if (m->p[i].name.len == 0)
            findings_add(f, FINDING_INVALID, &at, "must have a name");
        check_match(&m->p[i].match, &at, f);
    }
}

static void http_match(const struct vs_http_match *m, const struct fpath *at, struct findings *f)
{
    AT_KEY(uri, *at, "uri");
    AT_KEY(scheme, *at, "scheme");
    AT_KEY(method, *at, "method");
    AT_KEY(authority, *at, "authority");
    AT_KEY(labels, *at, "sourceLabels");
    AT_KEY(ignore, *at, "ignoreUriCase");

    check_match(&m->uri, &uri, f);
    check_match(&m->scheme, &scheme, f);
    check_match(&m->method, &method, f);
    check_match(&m->authority, &authority, f);
    named_matches(&m->headers, at, "headers", true, f);
    named_matches(&m->without_headers, at, "withoutHeaders", true, f);
    named_matches(&m->query_params, at, "queryParams", false, f);
    check_labels(&m->source_labels, &labels, f);
    gateways(&m->gateways, at, f);
    if (m->ignore_uri_case && m->uri.kind == API_MATCH_REGEX)
        findings_add(f, FINDING_SUSPECT, &ignore,
                     "has no effect on a regex; begin the expression with (?i) instead");
}

static void redirect(const struct vs_http *h, const struct fpath *up, struct findings *f)
{
    static const uint32_t codes[] = {301, 302, 303, 307, 308};
    const struct vs_redirect *r = h->redirect;
    AT_KEY(at, *up, "redirect");
    AT_KEY(code, at, "redirectCode");
    bool known = false;

    if (h->route.n)
        findings_add(f, FINDING_INVALID, &at, "excludes route: keep one of them");
    if (h->rewrite)
        findings_add(f, FINDING_INVALID, &at, "excludes rewrite: keep one of them");
    if (h->fault)
        findings_add(f, FINDING_INVALID, &at, "excludes fault: keep one of them");
    if (!r->uri.len && !r->authority.len && !r->scheme.len && !r->prefix_rewrite.p && !r->port &&
        !r->derive_port)
        findings_add(f, FINDING_INVALID, &at,
                     "would lead back to itself: give uri, authority, scheme or port");
    for (size_t i = 0; i < N_OF(codes); i++)
        known |= r->code == codes[i];
    if (!known)
        findings_add(f, FINDING_INVALID, &code, "must be 301, 302, 303, 307 or 308, is %u",
                     r->code);
    if (r->port && r->derive_port)
        findings_add(f, FINDING_INVALID, &at, "has both port and derivePort: keep one of them");
}

#define DIRECT_BODY_MAX (1u << 20)

static void direct_response(const struct vs_http *h, const struct fpath *up, struct findings *f)
{
    const struct vs_direct_response *d = h->direct_response;
    AT_KEY(at, *up, "directResponse");
    AT_KEY(status, at, "status");
    AT_KEY(body, at, "body");

    if (h->route.n || h->redirect || h->rewrite)
        findings_add(f, FINDING_INVALID, &at, "excludes route, redirect and rewrite");
    if (d->status < 200 || d->status > 599)
        findings_add(f, FINDING_INVALID, &status, "must be 200..599, is %u", d->status);
    if (d->body.len > DIRECT_BODY_MAX)
        findings_add(f, FINDING_INVALID, &body, "must not exceed 1 MiB");
}

static void rewrite(const struct vs_rewrite *r, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "rewrite");
    AT_KEY(regex_at, at, "uriRegexRewrite");
    AT_KEY(match, regex_at, "match");
    AT_KEY(substitution, regex_at, "rewrite");
    struct err err = {0};
    struct re *re;

    if (!r->uri.len && !r->authority.len && !r->regex_match.p)
        findings_add(f, FINDING_INVALID, &at, "must give uri, authority or uriRegexRewrite");
    if (!r->regex_match.p)
        return;
    if (r->uri.len)
        findings_add(f, FINDING_INVALID, &at, "has both uri and uriRegexRewrite: keep one");
    if (r->regex_match.len == 0)
        findings_add(f, FINDING_INVALID, &match, "must not be empty");
    if (!check_regex(r->regex_match, &match, f) || re_compile(r->regex_match, &re, &err) < 0)
        return;
    if (re_check_substitution(re, r->regex_rewrite, &err) < 0)
        findings_add(f, FINDING_INVALID, &substitution, "%s", err.msg);
    re_free(re);
}

static bool retry_condition(struct slice s)
{
    static const char *const names[] = {
        "5xx",
        "gateway-error",
        "reset",
        "connect-failure",
        "refused-stream",
        "retriable-4xx",
        "retriable-headers",
        "retriable-status-codes",
        "envoy-ratelimited",
        "http3-post-connect-failure",
        "reset-before-request",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    };
    uint64_t code;

    for (size_t i = 0; i < N_OF(names); i++)
        if (slice_is(s, names[i]))
            return true;
    return slice_u64(s, 599, &code) && code >= 100;
}

static void retries(const struct vs_retry *r, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "retries");
    AT_KEY(on, at, "retryOn");
    AT_KEY(per_try, at, "perTryTimeout");
    AT_KEY(backoff, at, "backoff");
    struct slice rest = r->retry_on, one;

    check_duration(r->per_try_timeout, &per_try, f);
    check_duration(r->backoff, &backoff, f);
    if (r->attempts == 0 && (r->retry_on.p || r->per_try_timeout.set))
        findings_add(f, FINDING_INVALID, &at,
                     "attempts is 0, which switches retries off: leave the other fields out");
    while (rest.p && slice_next(&rest, ',', &one))
        if (!retry_condition(slice_trim(one)))
            findings_add(f, FINDING_INVALID, &on, "\"%.*s\" is no retry condition", SHOW(one));
}

static void fault(const struct vs_fault *x, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "fault");
    AT_KEY(delay, at, "delay");
    AT_KEY(fixed, delay, "fixedDelay");
    AT_KEY(abort_at, at, "abort");
    AT_KEY(status, abort_at, "httpStatus");

    if (!x->delay.set && !x->abort.set)
        findings_add(f, FINDING_INVALID, &at, "must hold delay, abort or both");
    if (x->delay.set) {
        AT_KEY(share, delay, "percentage");

        check_share(x->delay.percentage, &share, f);
        if (x->delay.fixed_ns < 1000000)
            findings_add(f, FINDING_INVALID, &fixed, "must be at least 1ms");
    }
    if (!x->abort.set)
        return;
    AT_KEY(share, abort_at, "percentage");
    check_share(x->abort.percentage, &share, f);
    if (!!x->abort.http_status + !!x->abort.grpc_status.p + !!x->abort.http2_error.p != 1)
        findings_add(f, FINDING_INVALID, &abort_at, "must hold one of httpStatus and grpcStatus");
    else if (x->abort.http_status && (x->abort.http_status < 200 || x->abort.http_status > 599))
        findings_add(f, FINDING_INVALID, &status, "must be 200..599, is %u", x->abort.http_status);
    if (x->abort.grpc_status.p && x->abort.grpc_code < 0) {
        AT_KEY(grpc, abort_at, "grpcStatus");
        findings_add(f, FINDING_INVALID, &grpc, "\"%.*s\" is no gRPC status",
                     SHOW(x->abort.grpc_status));
    }
}

static void mirrors(const struct vs_http *h, const struct fpath *up, struct findings *f)
{
    AT_KEY(list, *up, "mirrors");

    if (h->mirror_first && h->n_mirrors > 1)
        findings_add(f, FINDING_INVALID, &list, "excludes mirror: keep one of them");
    if (h->mirror_first) {
        AT_KEY(one, *up, "mirror");
        AT_KEY(share, *up, "mirrorPercentage");

        destination_at(&h->mirrors[0].destination, &one, f);
        check_share(h->mirrors[0].percentage, &share, f);
    }
    for (uint32_t i = h->mirror_first; i < h->n_mirrors; i++) {
        AT_INDEX(at, list, i - h->mirror_first);
        AT_KEY(share, at, "percentage");

        destination(&h->mirrors[i].destination, &at, f);
        check_share(h->mirrors[i].percentage, &share, f);
    }
}

static void cors_headers(const struct api_strings *names, const struct fpath *up, const char *key,
                         struct findings *f)
{
    AT_KEY(list, *up, key);

    for (uint32_t i = 0; i < names->n; i++) {
        AT_INDEX(item, list, i);
        if (!slice_is(names->p[i], "*"))
            check_header_name(names->p[i], &item, f);
    }
}

static void cors(const struct vs_cors *c, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "corsPolicy");
    AT_KEY(list, at, "allowOrigins");
    AT_KEY(age, at, "maxAge");
    AT_KEY(methods, at, "allowMethods");

    if (c->n_allow_origins == 0)
        findings_add(f, FINDING_SUSPECT, &at, "names no origin that may call: give allowOrigins");
    for (uint32_t i = 0; i < c->n_allow_origins; i++) {
        AT_INDEX(item, list, i);
        check_match(&c->allow_origins[i], &item, f);
    }
    if (c->max_age.set && (c->max_age.ns < 0 || c->max_age.ns % 1000000000))
        findings_add(f, FINDING_INVALID, &age, "must be whole seconds");
    /* Methods are tokens as names of fields are (RFC 9110 9.1). */
    for (uint32_t i = 0; i < c->allow_methods.n; i++) {
        AT_INDEX(item, methods, i);
        if (!slice_is(c->allow_methods.p[i], "*") &&
            !check_header_name(c->allow_methods.p[i], &item, NULL))
            findings_add(f, FINDING_INVALID, &item, "\"%.*s\" is no method",
                         SHOW(c->allow_methods.p[i]));
    }
    cors_headers(&c->allow_headers, &at, "allowHeaders", f);
    cors_headers(&c->expose_headers, &at, "exposeHeaders", f);
}

static void http(const struct vs_http *h, const struct fpath *at, struct findings *f)
{
    AT_KEY(list, *at, "match");
    AT_KEY(timeout, *at, "timeout");
    AT_KEY(delegate_at, *at, "delegate");

    for (uint32_t i = 0; i < h->n_match; i++) {
        AT_INDEX(item, list, i);
        http_match(&h->match[i], &item, f);
    }
    if (!h->route.n && !h->redirect && !h->direct_response && !h->delegate_name.p)
        findings_add(f, FINDING_INVALID, at, "must hold route, redirect or directResponse");
    if (h->delegate_name.p && (h->route.n || h->redirect || h->direct_response))
        findings_add(f, FINDING_INVALID, &delegate_at, "excludes route, redirect and directResponse");
    if (h->delegate_name.p && !h->delegate_name.len)
        findings_add(f, FINDING_INVALID, &delegate_at, "must name a VirtualService");
    if (h->delegate_name.p)
        delegating(h, at, f);
    route_dests(&h->route, at, f);
    headers(&h->headers, at, f);
    if (h->redirect)
        redirect(h, at, f);
    if (h->direct_response)
        direct_response(h, at, f);
    if (h->rewrite)
        rewrite(h->rewrite, at, f);
    if (h->timeout.ns) /* 0s means none, as it does when absent */
        check_duration(h->timeout, &timeout, f);
    if (h->retries)
        retries(h->retries, at, f);
    if (h->fault)
        fault(h->fault, at, f);
    if (h->cors)
        cors(h->cors, at, f);
    mirrors(h, at, f);
}

static bool match_takes_all(const struct vs_http_match *m)
{
    bool uri =
        m->uri.kind == API_MATCH_UNSET || m->uri.kind == API_MATCH_PRESENT ||
        (m->uri.kind == API_MATCH_PREFIX && (m->uri.value.len == 0 || slice_is(m->uri.value, "/")));

    return uri && !m->scheme.kind && !m->method.kind && !m->authority.kind && !m->headers.n &&
           !m->without_headers.n && !m->query_params.n && !m->port && !m->source_labels.n &&
           !m->gateways.n && !m->source_namespace.p;
}

static bool http_takes_all(const struct vs_http *h)
{
    for (uint32_t i = 0; i < h->n_match; i++)
        if (match_takes_all(&h->match[i]))
            return true;
    return h->n_match == 0;
}

/* --- matches that cover one another --- */

static bool text_covers(const struct api_match *a, const struct api_match *b)
{
    if (a->kind == API_MATCH_UNSET || (a->kind == API_MATCH_PRESENT && b->kind))
        return true;
    if (a->kind == API_MATCH_PREFIX && (b->kind == API_MATCH_PREFIX || b->kind == API_MATCH_EXACT))
        return slice_starts(b->value, a->value);
    return a->kind == b->kind && slice_eq(a->value, b->value);
}

/* Every condition of `a` is one of `b` too. */
static bool named_cover(const struct api_named_matches *a, const struct api_named_matches *b,
                        bool same)
{
    for (uint32_t i = 0; i < a->n; i++) {
        bool found = false;

        for (uint32_t k = 0; k < b->n; k++)
            found |= slice_eq(a->p[i].name, b->p[k].name) &&
                     (same ? a->p[i].match.kind == b->p[k].match.kind &&
                                 slice_eq(a->p[i].match.value, b->p[k].match.value)
                           : text_covers(&a->p[i].match, &b->p[k].match));
        if (!found)
            return false;
    }
    return true;
}

static bool gateways_cover(const struct api_strings *a, const struct api_strings *b)
{
    for (uint32_t i = 0; i < b->n; i++)
        if (!api_strings_has(a, b->p[i]))
            return false;
    return a->n == 0 ? b->n == 0 : b->n > 0;
}

/* Each request that `b` takes is taken by `a`; errs to the side of false. */
static bool match_covers(const struct vs_http_match *a, const struct vs_http_match *b)
{
    bool uri = a->ignore_uri_case == b->ignore_uri_case || !a->uri.kind
                   ? text_covers(&a->uri, &b->uri)
                   : false;

    return uri && text_covers(&a->scheme, &b->scheme) && text_covers(&a->method, &b->method) &&
           text_covers(&a->authority, &b->authority) &&
           named_cover(&a->headers, &b->headers, false) &&
           named_cover(&a->query_params, &b->query_params, false) &&
           named_cover(&a->without_headers, &b->without_headers, true) &&
           (!a->port || a->port == b->port) &&
           api_map_covers(&b->source_labels, &a->source_labels) &&
           gateways_cover(&a->gateways, &b->gateways) &&
           (!a->source_namespace.len || slice_eq(a->source_namespace, b->source_namespace));
}

/* Matches of route `i` that an earlier route takes; all of them: the route is never reached. */
static void covered(const struct vs *vs, uint32_t i, const struct fpath *at, struct findings *f)
{
    const struct vs_http *h = &vs->http[i];
    AT_KEY(list, *at, "match");
    uint32_t n = 0, first = 0;

    for (uint32_t j = 0; j < h->n_match; j++) {
        AT_INDEX(item, list, j);
        bool found = false;

        for (uint32_t k = 0; k < i && !found; k++)
            for (uint32_t l = 0; l < vs->http[k].n_match && !found; l++)
                if (match_covers(&vs->http[k].match[l], &h->match[j])) {
                    findings_add(
                        f, FINDING_INEFFECTIVE, &item,
                        "http[%u].match[%u] takes these requests before it: move this route "
                        "up, or remove the match",
                        k, l);
                    found = true;
                    first = n ? first : k;
                }
        n += found;
    }
    if (n && n == h->n_match)
        findings_add(f, FINDING_UNREACHABLE, at,
                     "http[%u] takes every request of it before: move this route up", first);
}

/* A route that does what happens without it. */
static void says_nothing(const struct vs *vs, const struct fpath *spec, struct findings *f)
{
    const struct vs_http *h = vs->http;
    const struct vs_route_dest *d;

    if (vs->n_http != 1 || vs->n_tls || vs->n_tcp || vs->hosts.n != 1 || !vs->mesh ||
        h->route.n != 1 || !http_takes_all(h) || h->redirect || h->direct_response || h->rewrite ||
        h->timeout.ns || h->retries || h->fault || h->n_mirrors || h->cors)
        return;
    d = h->route.p;
    if (slice_eq(d->destination.host, vs->hosts.p[0]) && !d->destination.subset.p &&
        !d->destination.port && !d->headers.request.set.n && !d->headers.request.add.n &&
        !d->headers.request.remove.n && !d->headers.response.set.n && !d->headers.response.add.n &&
        !d->headers.response.remove.n && !h->headers.request.set.n && !h->headers.request.add.n &&
        !h->headers.request.remove.n && !h->headers.response.set.n && !h->headers.response.add.n &&
        !h->headers.response.remove.n)
        findings_add(f, FINDING_SIMPLER, spec,
                     "leads the host to itself, as happens without this object: remove it");
}

static void http_routes(const struct vs *vs, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "http");
    uint32_t all = UINT32_MAX;

    for (uint32_t i = 0; i < vs->n_http; i++) {
        AT_INDEX(at, list, i);

        http(&vs->http[i], &at, f);
        if (all != UINT32_MAX)
            findings_add(f, FINDING_UNREACHABLE, &at,
                         "http[%u] takes every request before it: move this route up", all);
        else if (http_takes_all(&vs->http[i]))
            all = i;
        else
            covered(vs, i, &at, f);
    }
    if (vs->n_http)
        says_nothing(vs, spec, f);
}

static bool sni_covered(struct slice sni, const struct api_strings *of)
{
    for (uint32_t i = 0; i < of->n; i++)
        if (slice_eq(of->p[i], sni) || host_matches(of->p[i], sni))
            return true;
    return false;
}

static void l4_match(const struct vs *vs, const struct vs_l4_match *m, bool tls,
                     const struct fpath *at, struct findings *f)
{
    AT_KEY(snis, *at, "sniHosts");
    AT_KEY(subnets, *at, "destinationSubnets");
    AT_KEY(source, *at, "sourceSubnet");
    AT_KEY(labels, *at, "sourceLabels");

    if (tls && m->sni_hosts.n == 0)
        findings_add(f, FINDING_INVALID, &snis, "must list at least one server name");
    for (uint32_t i = 0; i < m->sni_hosts.n; i++) {
        AT_INDEX(item, snis, i);

        if (check_host(m->sni_hosts.p[i], true, &item, f) &&
            !sni_covered(m->sni_hosts.p[i], &vs->hosts))
            findings_add(f, FINDING_INVALID, &item,
                         "\"%.*s\" is none of this object's hosts: add it there",
                         SHOW(m->sni_hosts.p[i]));
    }
    check_cidrs(&m->destination_subnets, &subnets, f);
    if (m->source_subnet.len)
        check_cidr(m->source_subnet, &source, f);
    check_labels(&m->source_labels, &labels, f);
    gateways(&m->gateways, at, f);
}

static void l4_routes(const struct vs *vs, const struct vs_l4 *routes, uint32_t n, bool tls,
                      const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, tls ? "tls" : "tcp");

    for (uint32_t i = 0; i < n; i++) {
        AT_INDEX(at, list, i);
        AT_KEY(matches, at, "match");
        AT_KEY(route, at, "route");

        if (tls && routes[i].n_match == 0)
            findings_add(f, FINDING_INVALID, &matches, "must hold at least one match");
        for (uint32_t j = 0; j < routes[i].n_match; j++) {
            AT_INDEX(item, matches, j);
            l4_match(vs, &routes[i].match[j], tls, &item, f);
        }
        if (routes[i].route.n == 0)
            findings_add(f, FINDING_INVALID, &route, "must list at least one destination");
        route_dests(&routes[i].route, &at, f);
    }
}

void vs_validate(const struct vs *vs, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");

    hosts(vs, &spec, f);
    gateways(&vs->gateways, &spec, f);
    if (!vs->n_http && !vs->n_tls && !vs->n_tcp)
        findings_add(f, FINDING_INVALID, &spec, "must hold http, tls or tcp routes");
    http_routes(vs, &spec, f);
    l4_routes(vs, vs->tls, vs->n_tls, true, &spec, f);
    l4_routes(vs, vs->tcp, vs->n_tcp, false, &spec, f);
    check_export_to(&vs->export_to, f);
}
