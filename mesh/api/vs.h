/* SPDX-License-Identifier: Apache-2.0 */
/* VirtualService (networking.istio.io v1, v1beta1, v1alpha3): every field of the public schema. Host
 * names are as written, lower-cased; short names are resolved by the index, in the object's
 * namespace. Old spellings are folded in: `mirror_percent`, `fault.delay.percent`. */
#pragma once

#include "mesh/api/common.h"

struct vs_header_ops {
    struct api_map set, add; /* in key order; names as written */
    struct api_strings remove;
};
struct vs_headers {
    struct vs_header_ops request, response;
};

struct vs_destination {
    struct slice host, subset; /* subset null when absent */
    uint32_t port;             /* port.number, 0 when absent */
};

struct vs_route_dest {
    struct vs_destination destination;
    struct opt_u32 weight; /* unset: 0 beside others, all of it when alone */
    struct vs_headers headers;
};
struct vs_route_dests {
    struct vs_route_dest *p;
    uint32_t n;
};

struct vs_http_match {
    struct slice name, source_namespace, stat_prefix;
    struct api_match uri, scheme, method, authority;
    struct api_named_matches headers, without_headers, query_params;
    bool ignore_uri_case;
    uint32_t port; /* 0: any */
    struct api_map source_labels;
    struct api_strings gateways; /* empty: the object's */
};

struct vs_redirect {
    struct slice uri, authority, scheme, prefix_rewrite; /* prefix_rewrite: null when absent */
    uint32_t port;                                       /* 0: unset */
    enum { VS_PORT_UNSET, VS_PORT_FROM_PROTOCOL_DEFAULT, VS_PORT_FROM_REQUEST_PORT } derive_port;
    uint32_t code; /* 301 when not given */
};
struct vs_direct_response {
    uint32_t status;
    struct slice body; /* string, or the decoded bytes; null when absent */
};
struct vs_rewrite {
    struct slice uri, authority; /* null when absent */
    struct slice regex_match, regex_rewrite;
};
struct vs_retry {
    uint32_t attempts;            /* 0 switches retries off */
    struct opt_ns per_try_timeout; /* unset: the route's timeout */
    struct slice retry_on;        /* null: Istio's default set */
    struct opt_bool remote_localities, ignore_previous_hosts;
    struct opt_ns backoff;
};
struct vs_delay {
    bool set;
    int64_t fixed_ns;
    int64_t exponential_ns; /* only decoded */
    double percentage;      /* 0..100; `percentage` absent: 100; old `percent` folded in */
};
struct vs_abort {
    bool set;
    uint32_t http_status;     /* 0: not given */
    struct slice grpc_status; /* "UNAVAILABLE" or a number as text; null: not given */
    int32_t grpc_code;        /* of grpc_status; -1: not given */
    struct slice http2_error;
    double percentage;
};
struct vs_fault {
    struct vs_delay delay;
    struct vs_abort abort;
};
struct vs_mirror {
    struct vs_destination destination;
    double percentage; /* 100 when not given */
};
struct vs_cors {
    struct api_match *allow_origins; /* without any the old allowOrigin, as exact matches */
    uint32_t n_allow_origins;
    struct api_strings allow_methods, allow_headers, expose_headers;
    struct opt_ns max_age;
    struct opt_bool allow_credentials;
    enum { VS_PREFLIGHT_UNSET, VS_PREFLIGHT_FORWARD, VS_PREFLIGHT_IGNORE } unmatched_preflights;
};

struct vs_http {
    struct slice name;
    struct vs_http_match *match; /* none: matches all */
    uint32_t n_match;
    struct vs_route_dests route;
    struct vs_redirect *redirect;              /* NULL: none, here and below */
    struct vs_direct_response *direct_response;
    struct slice delegate_name, delegate_ns;   /* null: none */
    struct vs_rewrite *rewrite;
    struct opt_ns timeout; /* unset or 0: none */
    struct vs_retry *retries;
    struct vs_fault *fault;
    struct vs_mirror *mirrors; /* `mirror` comes first */
    uint32_t n_mirrors;
    bool mirror_first; /* mirrors[0] is `mirror` */
    struct vs_cors *cors;
    struct vs_headers headers;
};

struct vs_l4_match { /* of tls and tcp routes; sni_hosts is empty in tcp */
    struct api_strings sni_hosts, destination_subnets, gateways;
    uint32_t port; /* 0: any */
    struct api_map source_labels;
    struct slice source_namespace, source_subnet;
};
struct vs_l4 {
    struct vs_l4_match *match;
    uint32_t n_match;
    struct vs_route_dests route;
};

struct vs {
    struct obj_meta meta;
    struct api_strings hosts;
    struct api_strings gateways; /* as written; empty means mesh */
    bool mesh;                   /* bound to sidecars: no gateways, or "mesh" among them */
    struct vs_http *http;
    struct vs_l4 *tls, *tcp;
    uint32_t n_http, n_tls, n_tcp;
    struct api_strings export_to; /* empty: "*" */
};

int vs_decode(const json_t *obj, struct arena *a, struct vs **ret, struct findings *f);
void vs_validate(const struct vs *vs, struct findings *f);
