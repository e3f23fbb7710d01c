/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of DestinationRule; its rules are in dr_validate.c. */
#include "mesh/api/dr.h"

#include <stdlib.h>

#include "mesh/api/read.h"
#include "mesh/api/shapes.h"

#define SECONDS INT64_C(1000000000)

static void cookie_attribute(const struct rd *d, void *ret)
{
    struct dr_cookie_attribute *x = ret;

    rd_str(d, "name", &x->name);
    rd_str(d, "value", &x->value);
}

static bool hash_cookie(const struct rd *d, struct dr_hash *x)
{
    struct rd at;

    if (!rd_obj(d, "httpCookie", &at))
        return false;
    x->key = DR_HASH_COOKIE;
    rd_str(&at, "name", &x->name);
    rd_str(&at, "path", &x->cookie_path);
    rd_opt_ns(&at, "ttl", &x->cookie_ttl);
    x->cookie_attributes = rd_array(&at, "attributes", sizeof *x->cookie_attributes,
                                    cookie_attribute, &x->n_cookie_attributes);
    return true;
}

static void hash(const struct rd *d, void *ret)
{
    struct dr_hash *x = ret;
    unsigned keys = 0;
    bool by_source = false;
    struct rd at;

    x->minimum_ring_size = 1024;
    x->maglev_table_size = 65537;
    if (rd_get(d, "httpHeaderName", &at)) {
        x->key = DR_HASH_HEADER;
        rd_lower(d, "httpHeaderName", &x->name);
        keys++;
    }
    if (rd_get(d, "httpQueryParameterName", &at)) {
        x->key = DR_HASH_QUERY;
        rd_str(d, "httpQueryParameterName", &x->name);
        keys++;
    }
    rd_bool(d, "useSourceIp", &by_source);
    if (by_source) {
        x->key = DR_HASH_SOURCE_IP;
        keys++;
    }
    keys += hash_cookie(d, x);
    if (keys > 1)
        rd_fail(d, NULL, "has more than one key: keep one");
    if (rd_get(d, "minimumRingSize", &at)) {
        rd_u64(d, "minimumRingSize", &x->minimum_ring_size);
        findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                     "is an old spelling: write ringHash.minimumRingSize instead");
    }
    if (rd_obj(d, "ringHash", &at))
        rd_u64(&at, "minimumRingSize", &x->minimum_ring_size);
    if (rd_obj(d, "maglev", &at)) {
        x->algorithm = DR_HASH_MAGLEV;
        rd_u64(&at, "tableSize", &x->maglev_table_size);
    }
}

static void distribute(const struct rd *d, void *ret)
{
    struct dr_distribute *x = ret;
    const char *name;
    json_t *v;
    struct rd at;
    uint32_t i = 0;

    rd_str(d, "from", &x->from);
    if (!rd_obj(d, "to", &at) || json_object_size(at.v) == 0)
        return;
    x->to = rd_alloc(d->c, json_object_size(at.v), sizeof *x->to);
    if (!x->to)
        return;
    json_object_foreach((json_t *)at.v, name, v)
    {
        x->to[i].key = rd_copy(d->c, slice_str(name));
        rd_u32(&at, name, &x->to[i++].weight);
    }
    x->n_to = i;
}

static void failover(const struct rd *d, void *ret)
{
    struct dr_failover *x = ret;

    rd_str(d, "from", &x->from);
    rd_str(d, "to", &x->to);
}

void shape_locality(const struct rd *d, void *ret)
{
    struct dr_locality *x = ret;

    x->distribute = rd_array(d, "distribute", sizeof *x->distribute, distribute, &x->n_distribute);
    x->failover = rd_array(d, "failover", sizeof *x->failover, failover, &x->n_failover);
    rd_strings(d, "failoverPriority", &x->failover_priority);
    rd_opt_bool(d, "enabled", &x->enabled);
}

static void warmup(const struct rd *d, void *ret)
{
    struct dr_warmup *x = ret;

    rd_ns(d, "duration", &x->duration_ns);
    rd_opt_f64(d, "minimumPercent", &x->minimum_percent);
    rd_opt_f64(d, "aggression", &x->aggression);
}

static void load_balancer(const struct rd *d, void *ret)
{
    static const char *const simple[] = {
        "UNSPECIFIED", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST", "LEAST_CONN", NULL};
    struct dr_load_balancer *x = ret;
    int v = rd_enum(d, "simple", simple, DR_LB_UNSPECIFIED);
    struct opt_ns old = {0};
    struct rd at;

    x->simple = v > DR_LB_LEAST_REQUEST ? DR_LB_LEAST_REQUEST : (enum dr_simple_lb)v;
    if (v > DR_LB_LEAST_REQUEST && rd_get(d, "simple", &at))
        findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                     "LEAST_CONN is an old spelling: write LEAST_REQUEST instead");
    x->hash = rd_new(d, "consistentHash", sizeof *x->hash, hash);
    x->locality = rd_new(d, "localityLbSetting", sizeof *x->locality, shape_locality);
    x->zone_aware = rd_get(d, "zoneAwareLbSetting", &at);
    x->warmup = rd_new(d, "warmup", sizeof *x->warmup, warmup);
    rd_opt_ns(d, "warmupDurationSecs", &old);
    if (!old.set)
        return;
    if (rd_get(d, "warmupDurationSecs", &at))
        findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                     "is an old spelling: write warmup.duration instead");
    if (!x->warmup && (x->warmup = rd_alloc(d->c, 1, sizeof *x->warmup)))
        x->warmup->duration_ns = old.ns;
}

static void keepalive(const struct rd *d, void *ret)
{
    struct dr_keepalive *x = ret;

    rd_opt_u32(d, "probes", &x->probes);
    rd_opt_ns(d, "time", &x->time);
    rd_opt_ns(d, "interval", &x->interval);
}

/* Limits are int32 in the schema: a negative one is an error, not a large number. */
static void limit(const struct rd *d, const char *key, struct opt_u32 *ret)
{
    int64_t v;

    if (rd_i64(d, key, 0, INT32_MAX, &v))
        *ret = (struct opt_u32){true, (uint32_t)v};
}

static void tcp_pool(const struct rd *d, struct dr_tcp_pool *x)
{
    limit(d, "maxConnections", &x->max_connections);
    rd_opt_ns(d, "connectTimeout", &x->connect_timeout);
    rd_opt_ns(d, "maxConnectionDuration", &x->max_connection_duration);
    rd_opt_ns(d, "idleTimeout", &x->idle_timeout);
    x->keepalive = rd_new(d, "tcpKeepalive", sizeof *x->keepalive, keepalive);
}

static void http_pool(const struct rd *d, struct dr_http_pool *x)
{
    static const char *const upgrade[] = {"DEFAULT", "DO_NOT_UPGRADE", "UPGRADE", NULL};
    struct rd at;

    limit(d, "http1MaxPendingRequests", &x->http1_max_pending_requests);
    limit(d, "http2MaxRequests", &x->http2_max_requests);
    limit(d, "maxRequestsPerConnection", &x->max_requests_per_connection);
    limit(d, "maxRetries", &x->max_retries);
    limit(d, "maxConcurrentStreams", &x->max_concurrent_streams);
    rd_opt_ns(d, "idleTimeout", &x->idle_timeout);
    x->h2_upgrade = (unsigned)rd_enum(d, "h2UpgradePolicy", upgrade, DR_H2_DEFAULT);
    rd_bool(d, "useClientProtocol", &x->use_client_protocol);
    if (rd_obj(d, "http2KeepAlive", &at)) {
        rd_opt_ns(&at, "interval", &x->h2_keepalive_interval);
        rd_opt_ns(&at, "timeout", &x->h2_keepalive_timeout);
    }
}

void shape_pool(const struct rd *d, void *ret)
{
    struct dr_connection_pool *x = ret;
    struct rd at;

    if (rd_obj(d, "tcp", &at))
        tcp_pool(&at, &x->tcp);
    if (rd_obj(d, "http", &at))
        http_pool(&at, &x->http);
}

static void outlier(const struct rd *d, void *ret)
{
    struct dr_outlier *x = ret;
    struct rd at;

    x->interval_ns = 10 * SECONDS;
    x->base_ejection_ns = 30 * SECONDS;
    x->max_ejection_percent = 10;
    if (rd_get(d, "consecutiveErrors", &at)) {
        limit(d, "consecutiveErrors", &x->consecutive_5xx);
        x->consecutive_errors = true;
        findings_add(d->c->f, FINDING_DEPRECATED, &at.path,
                     "is an old spelling: write consecutive5xxErrors instead");
    }
    rd_opt_u32(d, "consecutive5xxErrors", &x->consecutive_5xx);
    rd_opt_u32(d, "consecutiveGatewayErrors", &x->consecutive_gateway);
    rd_opt_u32(d, "consecutiveLocalOriginFailures", &x->consecutive_local);
    rd_bool(d, "splitExternalLocalOriginErrors", &x->split_external_local);
    rd_ns(d, "interval", &x->interval_ns);
    rd_ns(d, "baseEjectionTime", &x->base_ejection_ns);
    rd_u32(d, "maxEjectionPercent", &x->max_ejection_percent);
    rd_u32(d, "minHealthPercent", &x->min_health_percent);
    rd_strings(d, "outlierDetectionHttpErrorCodes", &x->http_error_codes);
}

static void tls(const struct rd *d, void *ret)
{
    static const char *const modes[] = {"DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", NULL};
    struct dr_tls *x = ret;

    x->mode = (enum dr_tls_mode)rd_enum(d, "mode", modes, DR_TLS_DISABLE);
    rd_str(d, "clientCertificate", &x->client_certificate);
    rd_str(d, "privateKey", &x->private_key);
    rd_str(d, "caCertificates", &x->ca_certificates);
    rd_str(d, "credentialName", &x->credential_name);
    rd_str(d, "sni", &x->sni);
    rd_str(d, "caCrl", &x->ca_crl);
    rd_strings(d, "subjectAltNames", &x->subject_alt_names);
    rd_opt_bool(d, "insecureSkipVerify", &x->insecure_skip_verify);
}

static void tunnel(const struct rd *d, void *ret)
{
    struct dr_tunnel *x = ret;

    rd_str(d, "protocol", &x->protocol);
    rd_str(d, "targetHost", &x->target_host);
    rd_port(d, "targetPort", &x->target_port);
}

static void retry_budget(const struct rd *d, void *ret)
{
    struct dr_retry_budget *x = ret;

    rd_opt_f64(d, "percent", &x->percent);
    rd_opt_u32(d, "minRetryConcurrency", &x->min_retry_concurrency);
    rd_opt_ns(d, "budgetInterval", &x->interval);
}

/* What a port-level entry has too. */
static void blocks(const struct rd *d, struct dr_policy *x)
{
    x->load_balancer = rd_new(d, "loadBalancer", sizeof *x->load_balancer, load_balancer);
    x->connection_pool = rd_new(d, "connectionPool", sizeof *x->connection_pool, shape_pool);
    x->outlier = rd_new(d, "outlierDetection", sizeof *x->outlier, outlier);
    x->tls = rd_new(d, "tls", sizeof *x->tls, tls);
}

static void port_policy(const struct rd *d, void *ret)
{
    struct dr_port_policy *x = ret;
    struct rd at;

    if (rd_obj(d, "port", &at))
        rd_port(&at, "number", &x->port);
    blocks(d, &x->policy);
}

static void policy(const struct rd *d, void *ret)
{
    static const char *const versions[] = {"", "V1", "V2", NULL};
    struct dr_policy *x = ret;
    struct rd at;

    blocks(d, x);
    x->ports = rd_array(d, "portLevelSettings", sizeof *x->ports, port_policy, &x->n_ports);
    x->tunnel = rd_new(d, "tunnel", sizeof *x->tunnel, tunnel);
    if (rd_obj(d, "proxyProtocol", &at)) /* an empty block means version 1 */
        x->proxy_protocol = (unsigned)rd_enum(&at, "version", versions, DR_PROXY_PROTOCOL_V1);
    x->retry_budget = rd_new(d, "retryBudget", sizeof *x->retry_budget, retry_budget);
}

static void subset(const struct rd *d, void *ret)
{
    struct dr_subset *x = ret;

    rd_str(d, "name", &x->name);
    rd_map(d, "labels", &x->labels);
    x->policy = rd_new(d, "trafficPolicy", sizeof *x->policy, policy);
}

int dr_decode(const json_t *obj, struct arena *a, struct dr **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct dr *dr = rd_alloc(&c, 1, sizeof *dr);

    if (!dr || rd_begin(&c, obj, false, &dr->meta, &root, &spec) < 0)
        return -1;
    rd_lower(&spec, "host", &dr->host);
    dr->policy = rd_new(&spec, "trafficPolicy", sizeof *dr->policy, policy);
    dr->subsets = rd_array(&spec, "subsets", sizeof *dr->subsets, subset, &dr->n_subsets);
    rd_strings(&spec, "exportTo", &dr->export_to);
    rd_selector(&spec, "workloadSelector", "matchLabels", &dr->workload_selector);
    if (c.nomem)
        return -1;
    *ret = dr;
    return 0;
}

const struct dr_subset *dr_subset_find(const struct dr *dr, struct slice name)
{
    for (uint32_t i = 0; i < dr->n_subsets; i++)
        if (slice_eq(dr->subsets[i].name, name))
            return &dr->subsets[i];
    return NULL;
}

const struct dr_policy *dr_policy_port(const struct dr_policy *p, uint32_t port)
{
    for (uint32_t i = 0; p && i < p->n_ports; i++)
        if (p->ports[i].port == port)
            return &p->ports[i].policy;
    return NULL;
}
