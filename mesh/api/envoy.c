/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/envoy.h"

#include "mesh/api/check.h"
#include "mesh/api/read.h"

int envoy_decode(const json_t *obj, struct arena *a, struct envoy **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec, at;
    struct envoy *x = rd_alloc(&c, 1, sizeof *x);

    if (!x || rd_begin(&c, obj, false, &x->meta, &root, &spec) < 0)
        return -1;
    if (rd_get(&spec, "workloadSelector", &at))
        rd_selector(&spec, "workloadSelector", "labels", &x->selector);
    else
        rd_selector(&spec, "selector", "matchLabels", &x->selector);
    if (c.nomem)
        return -1;
    *ret = x;
    return 0;
}

void envoy_validate(const struct envoy *x, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(selector, spec, "selector");

    check_selector(&x->selector, &selector, f);
}

/* What people use extensions for, by words that stand in them. */
static const struct {
    const char *word, *native;
} natives[] = {
    {"ratelimit", "requests are not limited by rate here; DestinationRule connectionPool and "
                  "outlierDetection limit what is in flight"},
    {"rate_limit", "requests are not limited by rate here; DestinationRule connectionPool and "
                   "outlierDetection limit what is in flight"},
    {"access_log", "write Mesh.spec.accessLog (encoding, format, disabled)"},
    {"http.fault", "write VirtualService http[].fault"},
    {"http.cors", "write VirtualService http[].corsPolicy"},
    {"ext_authz", "write AuthorizationPolicy; action CUSTOM is reported"},
    {"http.rbac", "write AuthorizationPolicy"},
    {"jwt_authn", "write RequestAuthentication"},
    {"openid", "tokens are not verified here yet; put the login in front of the mesh"},
    {"header_to_metadata", "write VirtualService http[].match[].headers"},
    {"header_mutation", "write VirtualService http[].headers"},
    {"headers_to_add", "write VirtualService http[].headers"},
    {"headers_to_remove", "write VirtualService http[].headers"},
    {"x-forwarded", "the proxy sets x-forwarded headers by itself"},
    {"outlier_detection", "write DestinationRule trafficPolicy.outlierDetection"},
    {"circuit_breakers", "write DestinationRule trafficPolicy.connectionPool"},
    {"idle_timeout", "write DestinationRule trafficPolicy.connectionPool (idleTimeout)"},
    {"stream_idle_timeout", "write VirtualService http[].timeout"},
    {"retry_policy", "write VirtualService http[].retries"},
    {"retry_budget", "write DestinationRule trafficPolicy.retryBudget"},
    {"health_check",
     "readiness probes of the pods decide; DestinationRule outlierDetection adds what "
     "callers see"},
    {"keepalive", "write DestinationRule trafficPolicy.connectionPool.tcp.tcpKeepalive"},
    {"hash_policy", "write DestinationRule trafficPolicy.loadBalancer.consistentHash"},
    {"direct_response", "write VirtualService http[].directResponse"},
    {"tracing", "write Mesh.spec.tracing"},
    {"envoy.filters.http.wasm",
     "proxies run no WebAssembly; VirtualService and AuthorizationPolicy "
     "cover what most modules do"},
    {"inlineCode", "proxies run no scripts; headers and answers are VirtualService http[].headers, "
                   "rewrite and directResponse"},
    {"inline_code",
     "proxies run no scripts; headers and answers are VirtualService http[].headers, "
     "rewrite and directResponse"},
    {"http.lua", "proxies run no scripts; headers and answers are VirtualService http[].headers, "
                 "rewrite and directResponse"},
};

/* Index in natives[] of the first row that a text of the value holds, or N_OF. Depth is bounded by
 * the parser. */
static size_t first_row(const json_t *v, size_t best)
{
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_string(v)) {
        struct slice text = slice_of(json_string_value(v), json_string_length(v));

        for (i = 0; i < best; i++)
            if (slice_find(text, slice_str(natives[i].word)) >= 0)
                return i;
        return best;
    }
    json_array_foreach(v, i, item) best = first_row(item, best);
    json_object_foreach((json_t *)v, key, item)
    {
        for (i = 0; i < best; i++)
            if (strstr(key, natives[i].word))
                best = i;
        best = first_row(item, best);
    }
    return best;
}

const char *envoy_native(const json_t *spec)
{
    size_t row = first_row(spec, N_OF(natives));

    return row < N_OF(natives) ? natives[row].native : NULL;
}
