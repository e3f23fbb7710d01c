/* SPDX-License-Identifier: Apache-2.0 */
/* The program: what a proxy executes. `compile` makes these values, `wire` moves them (proto/tulle/
 * discovery/v1/discovery.proto holds the same shape), `match` runs requests against them, and the
 * proxy, the CLI's explain and the tests share them.
 *
 * Each resource is one immutable value in one arena with a reference count: replace, never mutate.
 * Counts are atomic: workers share values. All slices borrow from the resource. */
#pragma once

#include <stdatomic.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/base/slice.h"
#include "lib/data/cidr.h"

enum prog_kind {
    PROG_SETTINGS = 1,
    PROG_INBOUND = 2,
    PROG_NAMES = 3,
    PROG_SERVICE = 4,
    PROG_ENDPOINTS = 5,
    PROG_WORKLOAD = 6,
    PROG_LISTENERS = 7,
    PROG_CREDENTIAL = 8,
    PROG_KIND_LAST = PROG_CREDENTIAL,
};
enum prog_state { PROG_VALUE, PROG_ABSENT, PROG_UNCHANGED, PROG_WITHHELD };
enum prog_mtls { PROG_MTLS_UNSET, PROG_MTLS_DISABLE, PROG_MTLS_PERMISSIVE, PROG_MTLS_STRICT };
enum prog_protocol {
    PROG_AUTO,
    PROG_TCP,
    PROG_TLS,
    PROG_HTTP,
    PROG_HTTP2,
    PROG_GRPC,
};
static inline bool prog_is_http(enum prog_protocol p)
{
    return p == PROG_HTTP || p == PROG_HTTP2 || p == PROG_GRPC;
}

/* First member of every resource. */
struct prog {
    atomic_uint refs;
    enum prog_kind kind;
    struct arena arena;  /* holds the resource itself too */
    struct slice key;
    struct slice version; /* content hash, 16 raw bytes */
};
/* NULL is fine. */
void *prog_ref(const void *resource);
void prog_unref(const void *resource);
void prog_unrefp(void *pp); /* for CLEANUP */
/* A zeroed resource of `size` bytes in its own arena with one reference; NULL without memory. */
void *prog_new(enum prog_kind kind, size_t size, struct slice key, struct slice version);
/* The same with `room` bytes in the arena's first block (0: some). */
void *prog_new_room(enum prog_kind kind, size_t size, struct slice key, struct slice version,
                    size_t room);

struct prog_strings {
    struct slice *p;
    uint32_t n;
};

/* Key of the Service that takes what no service is: a Sidecar's egressProxy. */
#define PROG_EGRESS_KEY "egress-proxy"
/* Key of the LISTENERS on which a sidecar takes its application's calls itself; their gates' names begin
 * with the second. */
#define PROG_EGRESS_LISTENERS "egress"
#define PROG_EGRESS_GATE "egress."
#define PROG_INGRESS_GATE "ingress." /* calls of the application itself, from within the pod */

/* --- Settings --------------------------------------------------------------------------------- */
struct prog_filter { /* binary fuse filter, 8-bit fingerprints; empty: contains nothing */
    uint64_t seed;
    uint32_t segment_length, segment_count;
    struct slice fingerprints;
};
struct prog_settings {
    struct prog prog;
    struct slice trust_domain, cluster_domain, roots_pem, mesh_id;
    struct prog_strings trust_domain_aliases;
    bool registry_only, path_merge_slashes;
    bool eager; /* services are held whether they are used or not */
    bool egress_proxy; /* what is unknown goes to the Service of PROG_EGRESS_KEY */
    bool listeners;    /* there are PROG_EGRESS_LISTENERS */
    uint32_t issuer, renew_within_s; /* certificates by another CA are renewed soon; 0: none */
    uint32_t discovery_wait_ms, drain_ms, trace_sampling_permyriad;
    struct prog_filter filter;
    struct cidr *pod_cidrs;
    uint32_t n_pod_cidrs;
    struct {
        bool disabled, json;
        struct slice format;
    } access_log;
};

/* --- Workload --------------------------------------------------------------------------------- */
struct prog_workload {
    struct prog prog;
    struct slice name, namespace_, service_account, app, version, canonical_name,
        canonical_revision, cluster, principal;
    struct slice locality, node; /* of the proxy itself alone: region/zone/subzone, node's name */
};

/* --- Inbound ---------------------------------------------------------------------------------- */
struct prog_gate;
enum prog_action { PROG_DENY, PROG_ALLOW, PROG_AUDIT, PROG_CUSTOM };
/* A value of an authorization list: exact, prefix*, *suffix, * (present). */
struct authz_source {
    struct prog_strings principals, not_principals, namespaces, not_namespaces, service_accounts,
        not_service_accounts;
    struct cidr *ip_blocks, *not_ip_blocks;
    uint32_t n_ip_blocks, n_not_ip_blocks;
};
struct authz_operation {
    struct prog_strings hosts, not_hosts, methods, not_methods, paths, not_paths, ports, not_ports;
};
struct authz_condition {
    struct slice key;
    struct prog_strings values, not_values;
};
struct authz_rule {
    struct authz_source *from;
    struct authz_operation *to;
    struct authz_condition *when;
    uint32_t n_from, n_to, n_when;
};
struct authz_policy {
    struct slice namespace_, name, closed;
    enum prog_action action;
    bool dry_run;
    struct authz_rule *rules;
    uint32_t n_rules;
};
struct prog_inbound_port {
    uint16_t port;
    enum prog_protocol protocol;
    enum prog_mtls mtls;
    struct slice service_host, service_name, service_namespace;
    struct slice endpoint; /* "127.0.0.1:80", "0.0.0.0:80" (the address that was dialled), "unix:///path",
                            * "unix://@name"; empty: where the caller dialled */
    struct prog_gate *tls; /* TLS of the proxy's own, where `mtls` is DISABLE; NULL: none */
    struct prog_cluster *limits; /* its `pool` and `policy->tcp` hold for the application; NULL: none */
};
struct prog_inbound {
    struct prog prog;
    struct prog_inbound_port *ports;
    uint32_t n_ports;
    enum prog_mtls mtls; /* of ports not listed */
    struct authz_policy *policies;
    uint32_t n_policies;
    struct prog_workload self; /* its `prog` is unused */
    struct slice closed;       /* not empty: refuse everything, for this reason */
};

/* --- Names ------------------------------------------------------------------------------------ */
struct prog_name {
    struct slice host;           /* lower case, no trailing dot */
    struct prog_strings address; /* raw bytes, 4 or 16 each */
};
struct prog_names {
    struct prog prog;
    struct prog_name *names; /* ordered by host */
    uint32_t n_names;
};

/* --- Service ---------------------------------------------------------------------------------- */
enum prog_match_kind {
    PROG_MATCH_NONE, /* no condition */
    PROG_MATCH_EXACT,
    PROG_MATCH_PREFIX,
    PROG_MATCH_REGEX,
    PROG_MATCH_PRESENT,
    PROG_MATCH_NEVER, /* not understood: the whole match never holds, inverted or not */
};
struct re; /* lib/base/re.h: compiled when the resource is decoded, freed with it */
struct prog_string_match {
    enum prog_match_kind kind;
    struct slice value;
    struct re *re;
};
struct prog_field_match {
    struct slice name;
    struct prog_string_match match;
    bool absent;
};
struct prog_http_match {
    struct prog_string_match uri, scheme, method, authority;
    bool ignore_uri_case;
    struct prog_field_match *headers, *queries;
    uint32_t n_headers, n_queries;
    struct slice name;
};
struct prog_field {
    struct slice name, value;
};
struct prog_header_ops {
    struct prog_field *set, *add;
    struct prog_strings remove;
    uint32_t n_set, n_add;
};
struct prog_headers {
    struct prog_header_ops request, response;
};
struct prog_destination {
    uint32_t cluster, weight;
    struct prog_headers headers;
};
enum { /* prog_retry.on */
    PROG_RETRY_5XX = 1 << 0,
    PROG_RETRY_GATEWAY_ERROR = 1 << 1,
    PROG_RETRY_CONNECT_FAILURE = 1 << 2,
    PROG_RETRY_REFUSED_STREAM = 1 << 3,
    PROG_RETRY_RESET = 1 << 4,
    PROG_RETRY_4XX = 1 << 5, /* retriable-4xx: 409 */
    PROG_RETRY_STATUS = 1 << 6, /* retriable-status-codes */
    PROG_RETRY_UNAVAILABLE = 1 << 7, /* grpc */
    PROG_RETRY_CANCELLED = 1 << 8,
    PROG_RETRY_DEADLINE = 1 << 9,
    PROG_RETRY_EXHAUSTED = 1 << 10,
    PROG_RETRY_INTERNAL = 1 << 11,
    PROG_RETRY_RESET_BEFORE_REQUEST = 1 << 12,
};
struct prog_retry {
    uint32_t attempts, on, per_try_timeout_ms, backoff_ms;
    uint32_t *status;
    uint32_t n_status;
    bool elsewhere; /* in another locality than before, where there is one */
    bool same_hosts; /* a retry may go to a host that was tried already */
};
struct prog_fault {
    uint32_t delay_ms, delay_permyriad, abort_status, abort_permyriad;
    int32_t abort_grpc;
};
struct prog_redirect {
    struct slice uri, authority, scheme, prefix_rewrite;
    uint32_t port, code;
    bool port_from_request;
};
struct prog_rewrite {
    struct slice uri, authority, substitution;
    struct slice regex_text;
    struct re *regex;
};
struct prog_cors {
    struct prog_string_match *origins;
    uint32_t n_origins;
    struct slice allow_methods, allow_headers, expose_headers, max_age; /* values of answers' fields */
    bool allow_credentials;
    bool keep_unmatched; /* preflights of other origins are answered here, not forwarded */
};
struct prog_mirror {
    uint32_t cluster, permyriad;
};
enum prog_route_action { PROG_FORWARD, PROG_REDIRECT, PROG_DIRECT };
struct prog_http_route {
    struct slice name, origin;
    struct prog_http_match *matches; /* none: matches all */
    uint32_t n_matches;
    enum prog_route_action action;
    struct prog_destination *destinations;
    uint32_t n_destinations, total_weight;
    struct prog_redirect *redirect;
    struct {
        uint32_t status;
        struct slice body;
    } direct;
    struct prog_rewrite *rewrite;  /* NULL: none */
    struct prog_headers headers;
    uint32_t timeout_ms;
    struct prog_retry *retry;      /* NULL: no retries */
    struct prog_fault *fault;      /* NULL: none */
    struct prog_cors *cors;        /* NULL: none */
    struct prog_mirror *mirrors;
    uint32_t n_mirrors;
};
struct prog_tcp_match {
    struct cidr *subnets, *sources; /* of the called and of the caller's address */
    uint32_t n_subnets, n_sources;
    struct prog_strings sni;
};
struct prog_tcp_route {
    struct slice origin;
    struct prog_tcp_match *matches;
    uint32_t n_matches;
    struct prog_destination *destinations;
    uint32_t n_destinations, total_weight;
};
enum prog_balancer { PROG_ROUND_ROBIN, PROG_LEAST_REQUEST, PROG_RANDOM, PROG_PASSTHROUGH,
                     PROG_HASH };
/* --- what few clusters have (behind one pointer) --- */
struct prog_outlier { /* ejection of hosts that fail */
    uint32_t consecutive_5xx, consecutive_gateway, consecutive_local; /* 0: that detector is off */
    uint32_t interval_ms, base_ejection_ms, max_ejection_percent;
    uint32_t min_health_percent; /* fewer healthy ones: ejected hosts are used too; 0: never */
    bool split_local;            /* failures of ours count for consecutive_local alone */
    uint16_t *codes;             /* statuses that count as 5xx beside those */
    uint32_t n_codes;
};
enum { PROG_MS_NEVER = UINT32_MAX }; /* a timeout that is switched off */
struct prog_tcp {
    bool keepalive;
    uint32_t keepalive_probes, keepalive_time_s, keepalive_interval_s; /* 0: the system's */
    uint32_t max_duration_ms;                                          /* 0: no end */
    uint32_t idle_timeout_ms; /* of opaque connections; 0: the default, PROG_MS_NEVER: none */
};
enum prog_hash_key { PROG_HASH_HEADER, PROG_HASH_COOKIE, PROG_HASH_SOURCE_IP, PROG_HASH_QUERY };
struct prog_hash { /* the same host for the same key */
    enum prog_hash_key key;
    struct slice name; /* of the header (lower case), cookie or parameter */
    bool maglev;
    uint32_t size;     /* least points of the ring, or size of the Maglev table */
    bool cookie_made;  /* a client without the cookie is given one */
    uint32_t cookie_ttl_s; /* 0: for its session */
    struct slice cookie_path;
    struct prog_field *cookie_attributes;
    uint32_t n_cookie_attributes;
};
struct prog_share {
    struct slice to; /* region/zone/subzone; "*" and what is left out match all */
    uint32_t weight;
};
struct prog_distribute {
    struct slice from;
    struct prog_share *to;
    uint32_t n_to;
};
struct prog_failover {
    struct slice from, to; /* regions */
};
enum prog_likeness { PROG_LIKE_REGION, PROG_LIKE_ZONE, PROG_LIKE_SUBZONE, PROG_LIKE_NODE,
                     PROG_LIKE_LABEL };
struct prog_rank { /* one label of failoverPriority */
    enum prog_likeness kind;
    struct slice value; /* of the place; null: the proxy's own */
    uint64_t selector;  /* of PROG_LIKE_LABEL: endpoints whose label is like the client's */
};
struct prog_locality { /* distribution where there is one for the caller, else failover */
    struct prog_distribute *distribute;
    struct prog_failover *failover;
    struct prog_rank *ranks;
    uint32_t n_distribute, n_failover, n_ranks;
};
struct prog_retry_budget { /* stands for max_retries */
    uint32_t share;       /* retries for each 100,000 requests */
    uint32_t min_retries; /* always allowed */
    uint32_t interval_ms; /* requests that ended so long ago count, too; 0: only those under way */
};
struct prog_origin { /* TLS towards a server that is no sidecar */
    struct slice certificate, key, roots, crl; /* files; without roots: the system's */
    struct slice credential;                   /* key of a CREDENTIAL that stands for the files */
    bool no_verify;
};
struct prog_policy { /* NULL: none of it */
    struct prog_outlier *outlier;
    struct prog_tcp *tcp;
    struct prog_hash *hash;
    struct prog_locality *locality;
    struct prog_origin *origin;
    struct prog_retry_budget *retry_budget;
};

enum prog_tls { PROG_TLS_AUTO, PROG_TLS_DISABLE, PROG_TLS_MUTUAL_MESH, PROG_TLS_SIMPLE,
                PROG_TLS_MUTUAL };
struct prog_cluster {
    struct slice name, host, subset, sni, service_name, service_namespace, problem;
    uint16_t port;
    enum prog_protocol protocol;   /* of the destination port; HTTP2 also where the client upgrades */
    bool client_protocol;          /* HTTP: what the client speaks, whatever the port says */
    bool dns_first;                /* of what names (`dns`) resolve to the first address alone */
    bool keep_http1;               /* HTTP/1.1 stays so between sidecars, too (DO_NOT_UPGRADE) */
    struct prog_strings endpoints; /* keys */
    struct prog_strings dns;       /* "host:port" to resolve, instead of endpoints */
    uint64_t subset_selector;      /* 0: all endpoints */
    enum prog_balancer balancer;
    enum prog_tls tls;
    bool original_dst;
    struct prog_strings subject_alt_names;
    struct prog_policy *policy; /* NULL: nothing of what is seldom set */
    struct {
        uint32_t max_connections, max_pending, max_requests, max_requests_per_connection,
            max_retries, connect_timeout_ms, idle_timeout_ms, /* idle: PROG_MS_NEVER: none */
            max_streams,      /* of one HTTP/2 connection */
            ping_interval_ms, /* HTTP/2 */
            ping_timeout_ms;
    } pool;
};
/* A part of a cluster's policy, NULL when it has none. */
#define PROG_POLICY(cluster, part) ((cluster)->policy ? (cluster)->policy->part : NULL)
/* Routes that services share: most have the same ones, to the one cluster that each has. Their count is under
 * a lock of their own; what is in it never changes. */
struct prog_routes {
    uint32_t refs;
    uint32_t n;
    struct prog_http_route *p;
    struct arena arena;
    struct slice key; /* what they were made of */
};
/* Take a reference of the routes that are kept under `key`; NULL: none are. */
struct prog_routes *prog_routes_find(struct slice key);
/* Keep new ones, with their one reference, under their key, where there is none yet. Taken; what to use
 * comes back. NULL keeps nothing. */
struct prog_routes *prog_routes_keep(struct prog_routes *routes);
void prog_routes_unref(struct prog_routes *routes);

struct prog_service {
    struct prog prog;
    struct prog_routes *routes; /* counted; what `http` is of; NULL: it is in the own arena */
    struct slice host, name, namespace_;
    struct slice gate; /* PROG_EGRESS_GATE...: who calls this address calls by that gate's Services; null: none */
    uint16_t port;
    enum prog_protocol protocol;
    struct prog_http_route *http;
    struct prog_tcp_route *tcp;
    struct prog_cluster *clusters;
    uint32_t n_http, n_tcp, n_clusters;
};

/* --- Endpoints -------------------------------------------------------------------------------- */
struct prog_endpoint {
    unsigned char address[16];
    uint8_t address_len; /* 4 or 16 */
    bool mtls, draining;
    uint16_t port;
    uint16_t identity, locality; /* index; out of range: none */
    uint32_t weight;
    uint64_t subsets; /* bit i: matches selectors[i] */
};
struct prog_endpoints {
    struct prog prog;
    struct prog_endpoint *p;
    uint32_t n;
    struct prog_strings identities, localities;
    uint64_t *selectors;
    uint32_t n_selectors;
    uint32_t n_named;            /* the same to be resolved: behind the others in `p` */
    struct prog_strings names;   /* of these, in their order: "host:port"; or unix sockets: "unix:///path" */
    uint32_t first;              /* of what a resolver gave (proxy/hostnames.h): which it gave first */
};
/* The bit that stands for `selector` in these endpoints' `subsets`; all ones for selector 0 (every
 * endpoint), 0 when the selector is not known there (no endpoint). */
uint64_t prog_subset_mask(const struct prog_endpoints *e, uint64_t selector);
/* The selector of labels, one after the other ordered by key; start with their number. Never 0. */
uint64_t prog_selector_add(uint64_t selector, struct slice key, struct slice value);

/* --- Listeners of a gateway ------------------------------------------------------------------- */
enum prog_gate_tls {
    PROG_GATE_CLOSED, /* lets nobody in: it asks for what is not implemented */
    PROG_GATE_PLAIN,
    PROG_GATE_SIMPLE,
    PROG_GATE_MUTUAL,
    PROG_GATE_OPTIONAL_MUTUAL,
    PROG_GATE_MESH,        /* mutual, with the workload's own certificate */
    PROG_GATE_PASSTHROUGH, /* TLS goes through as it is */
    PROG_GATE_AUTO,        /* the same, to the cluster that its server name spells (AUTO_PASSTHROUGH) */
};
static inline bool prog_gate_ends_tls(enum prog_gate_tls t)
{
    return t >= PROG_GATE_SIMPLE && t <= PROG_GATE_MESH;
}
struct prog_gate_host {
    struct slice host;     /* exact, "*.suffix" or "*"; lower case */
    bool routed, redirect; /* has a Service; is told to come by https */
};
struct prog_gate_files { /* of the proxy's container */
    struct slice certificate, key;
};
struct prog_gate {
    struct slice name;
    enum prog_gate_tls tls;
    bool http;
    struct prog_strings sni;      /* with TLS: patterns that choose it */
    struct prog_gate_host *hosts; /* of HTTP, ordered by host */
    uint32_t n_hosts;
    struct prog_strings credentials; /* keys, one for each kind of key; none: `files` */
    struct slice ca_credential;      /* whose roots verify clients; empty: those of the first */
    struct prog_gate_files *files;   /* as credentials */
    uint32_t n_files;
    struct slice roots_file, crl_file; /* with files: to verify clients by */
    struct prog_strings subject_alt_names, ciphers;
    struct prog_strings hashes, keys; /* SHA-256 of clients' certificates and of their public keys: one of
                                       * all these; 32 bytes each */
    uint8_t min_version, max_version; /* 12, 13 */
};
struct prog_gate_port {
    uint16_t port, number; /* where to listen; as the Gateway has it */
    struct slice bind;     /* address, or "unix:///path", "unix://@name" (port 0); empty: all addresses */
    struct prog_gate *gates;
    uint32_t n_gates;
};
struct prog_listeners {
    struct prog prog;
    struct prog_gate_port *ports; /* ordered by port, then address */
    uint32_t n_ports;
};
/* The gate of a port that a ClientHello's name chooses (null: it named none): exact before the longest
 * wildcard before "*". NULL: none. A port whose one gate is plain has no choice. */
const struct prog_gate *prog_gate_of_sni(const struct prog_gate_port *p, struct slice sni);
/* The entry for a host (normal form, no port), by the same order; NULL: none. */
const struct prog_gate_host *prog_gate_find(const struct prog_gate *g, struct slice host);
/* Key of the Service that holds the routes of a gate's host ("*" of a gate that is not HTTP, the server name of
 * PROG_GATE_AUTO); null when it does not fit. */
struct slice prog_gate_key(char *buf, size_t cap, struct slice gate, struct slice host);
/* Take apart "outbound_.80_.v1_.web.shop.svc.cluster.local", as sidecars name in TLS whom they call. */
bool prog_cluster_spelled(struct slice name, uint16_t *ret_port, struct slice *ret_subset,
                          struct slice *ret_host);
/* Take such a key apart. */
bool prog_gate_key_split(struct slice key, struct slice *ret_gate, struct slice *ret_host);

/* --- Credential ------------------------------------------------------------------------------- */
struct prog_credential { /* wiped when the last reference goes */
    struct prog prog;
    struct slice chain_pem, key_pem, roots_pem, crl_pem, revision;
};

/* --- the filter (pure) ------------------------------------------------------------------------ */
bool prog_filter_has(const struct prog_filter *f, struct slice key);
/* Is `host` (lower case, no port) a member, or covered by a member "*.suffix" or "*"? */
bool prog_filter_has_host(const struct prog_filter *f, struct slice host);
/* The same for a host as the application writes it: short names are also tried as a pod of `client_ns`
 * would resolve them ("web", "web.shop", "web.shop.svc"). */
bool prog_settings_has_host(const struct prog_settings *s, struct slice host,
                            struct slice client_ns);
/* Build over n keys into the arena; ERR_NOMEM; ERR_INTERNAL if no seed works (never seen). */
enum err_code prog_filter_build(struct arena *a, const struct slice *keys, size_t n,
                                struct prog_filter *ret);
