/* SPDX-License-Identifier: Apache-2.0 */
/* DestinationRule (networking.istio.io v1, v1beta1, v1alpha3): every field of the public schema. A
 * block that is not written is NULL, so that a subset's policy overrides the top level block by
 * block. Old spellings are folded in: `consecutiveErrors`, `warmupDurationSecs`. */
#pragma once

#include "mesh/api/common.h"

enum dr_simple_lb {
    DR_LB_UNSPECIFIED, /* LEAST_REQUEST */
    DR_LB_RANDOM,
    DR_LB_PASSTHROUGH,
    DR_LB_ROUND_ROBIN,
    DR_LB_LEAST_REQUEST, /* also the old LEAST_CONN */
};

struct dr_kv_weight {
    struct slice key;
    uint32_t weight;
};
struct dr_distribute {
    struct slice from;
    struct dr_kv_weight *to;
    uint32_t n_to;
};
struct dr_failover {
    struct slice from, to;
};
struct dr_locality {
    struct dr_distribute *distribute;
    struct dr_failover *failover;
    uint32_t n_distribute, n_failover;
    struct api_strings failover_priority;
    struct opt_bool enabled;
};
struct dr_cookie_attribute {
    struct slice name, value;
};
enum { DR_RING_MAX = 262144, DR_MAGLEV_MAX = 1000003 }; /* more memory than a sidecar should spend */
struct dr_hash {
    enum { DR_HASH_NONE, DR_HASH_HEADER, DR_HASH_COOKIE, DR_HASH_SOURCE_IP, DR_HASH_QUERY } key;
    struct slice name, cookie_path; /* of header, cookie or query parameter */
    struct opt_ns cookie_ttl;
    struct dr_cookie_attribute *cookie_attributes;
    uint32_t n_cookie_attributes;
    enum { DR_HASH_RING, DR_HASH_MAGLEV } algorithm;
    uint64_t minimum_ring_size; /* 1024 when not given */
    uint64_t maglev_table_size; /* 65537 when not given */
};
struct dr_warmup {
    int64_t duration_ns;
    struct opt_f64 minimum_percent, aggression;
};
struct dr_load_balancer {
    enum dr_simple_lb simple;
    struct dr_hash *hash;         /* NULL: by `simple` */
    struct dr_locality *locality; /* NULL: the mesh's */
    bool zone_aware;              /* zoneAwareLbSetting is written */
    struct dr_warmup *warmup;
};

struct dr_keepalive {
    struct opt_u32 probes;
    struct opt_ns time, interval;
};
struct dr_tcp_pool {
    struct opt_u32 max_connections;
    struct opt_ns connect_timeout, max_connection_duration, idle_timeout;
    struct dr_keepalive *keepalive;
};
struct dr_http_pool {
    struct opt_u32 http1_max_pending_requests, http2_max_requests, max_requests_per_connection,
        max_retries, max_concurrent_streams;
    struct opt_ns idle_timeout;
    enum { DR_H2_DEFAULT, DR_H2_DO_NOT_UPGRADE, DR_H2_UPGRADE } h2_upgrade;
    bool use_client_protocol;
    struct opt_ns h2_keepalive_interval, h2_keepalive_timeout;
};
struct dr_connection_pool {
    struct dr_tcp_pool tcp;
    struct dr_http_pool http;
};

struct dr_outlier {
    struct opt_u32 consecutive_5xx, consecutive_gateway, consecutive_local; /* 5xx: also the old
                                                                             * consecutiveErrors */
    bool consecutive_errors; /* the old field was written: it counts gateway errors and 5xx */
    bool split_external_local;
    int64_t interval_ns;      /* 10 s when not given */
    int64_t base_ejection_ns; /* 30 s when not given */
    uint32_t max_ejection_percent; /* 10 when not given */
    uint32_t min_health_percent;   /* 0 when not given */
    struct api_strings http_error_codes;
};

enum dr_tls_mode { DR_TLS_DISABLE, DR_TLS_SIMPLE, DR_TLS_MUTUAL, DR_TLS_ISTIO_MUTUAL };
struct dr_tls {
    enum dr_tls_mode mode;
    struct slice client_certificate, private_key, ca_certificates, credential_name, sni, ca_crl;
    struct api_strings subject_alt_names;
    struct opt_bool insecure_skip_verify;
};
struct dr_tunnel {
    struct slice protocol, target_host;
    uint32_t target_port;
};
struct dr_retry_budget {
    struct opt_f64 percent;
    struct opt_u32 min_retry_concurrency;
    struct opt_ns interval;
};

struct dr_port_policy;
struct dr_policy { /* TrafficPolicy, and what a port-level entry holds of it */
    struct dr_load_balancer *load_balancer; /* NULL: not written, here and below */
    struct dr_connection_pool *connection_pool;
    struct dr_outlier *outlier;
    struct dr_tls *tls;
    struct dr_port_policy *ports; /* portLevelSettings; of the top level and of subsets */
    uint32_t n_ports;
    struct dr_tunnel *tunnel;
    enum { DR_PROXY_PROTOCOL_NONE, DR_PROXY_PROTOCOL_V1, DR_PROXY_PROTOCOL_V2 } proxy_protocol;
    struct dr_retry_budget *retry_budget;
};
struct dr_port_policy { /* replaces, does not inherit */
    uint32_t port;
    struct dr_policy policy;
};

struct dr_subset {
    struct slice name;
    struct api_map labels;
    struct dr_policy *policy; /* NULL: the top level's */
};

struct dr {
    struct obj_meta meta;
    struct slice host; /* lower case, as written */
    struct dr_policy *policy;
    struct dr_subset *subsets;
    uint32_t n_subsets;
    struct api_strings export_to; /* empty: "*" */
    struct api_selector workload_selector; /* clients to which it applies */
};

int dr_decode(const json_t *obj, struct arena *a, struct dr **ret, struct findings *f);
void dr_validate(const struct dr *dr, struct findings *f);
/* The subset of that name, or NULL. */
const struct dr_subset *dr_subset_find(const struct dr *dr, struct slice name);
/* The port-level entry of a policy (which may be NULL), or NULL. */
const struct dr_policy *dr_policy_port(const struct dr_policy *p, uint32_t port);
