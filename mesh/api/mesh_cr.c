/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/mesh_cr.h"

#include "lib/base/cleanup.h"
#include "lib/data/cidr.h"
#include "lib/data/host.h"
#include "lib/data/quantity.h"
#include "lib/data/spiffe.h"
#include "lib/obs/accesslog.h"
#include "mesh/api/read.h"
#include "mesh/api/shapes.h"

#define SECONDS INT64_C(1000000000)

static const struct mesh_cr defaults = {
    .meta.name = SL("default"),
    .root_namespace = SL("istio-system"),
    .trust_domain = SL("cluster.local"),
    .cluster_domain = SL("cluster.local"),
    .mesh_id = SL("cluster.local"),
    .mtls_floor = PA_DISABLE,
    .cert_ttl_ns = 24 * 3600 * SECONDS,
    .rotation_step_ns = 120 * SECONDS,
    .rotate_percent = {true, 80},
    .outbound = MESH_ALLOW_ANY,
    .discovery = MESH_ON_DEMAND,
    .discovery_wait_ns = SECONDS,
    .host_ownership = MESH_HOSTS_ISTIO,
    .path_normalization = MESH_PATH_BASE,
    .access_log.format = SL(""),
    .trace_sampling = 1,
    .proxy =
        {
            .image = SL(""),
            .image_pull_policy = SL(""),
            .cpu_request = SL("10m"),
            .memory_request = SL("16Mi"),
            .cpu_limit = SL(""),
            .memory_limit = SL("64Mi"),
            .log_level = SL("info"),
            .drain_ns = 45 * SECONDS,
            .termination_drain_ns = 5 * SECONDS,
            .native_sidecar = MESH_NATIVE_AUTO,
            .dns_capture = true,
            .rewrite_app_probes = true,
            .merge_metrics = true,
            .include_outbound_ip_ranges = SL("*"),
            .exclude_outbound_ip_ranges = SL(""),
            .exclude_outbound_ports = SL(""),
            .exclude_inbound_ports = SL(""),
        },
};

const struct mesh_cr *mesh_cr_defaults(void)
{
    return &defaults;
}

/* An empty string means the default, as it does for protobuf's fields. */
static void name(const struct rd *d, const char *key, struct slice *ret)
{
    struct slice s = SLICE_NULL;

    rd_str(d, key, &s);
    if (s.len)
        *ret = s;
}

static void resources(const struct rd *proxy, struct mesh_cr *m)
{
    struct rd res, at;

    if (!rd_obj(proxy, "resources", &res))
        return;
    if (rd_obj(&res, "requests", &at)) {
        rd_text(&at, "cpu", &m->proxy.cpu_request);
        rd_text(&at, "memory", &m->proxy.memory_request);
    }
    if (rd_obj(&res, "limits", &at)) {
        rd_text(&at, "cpu", &m->proxy.cpu_limit);
        rd_text(&at, "memory", &m->proxy.memory_limit);
    }
}

static void proxy(const struct rd *spec, struct mesh_cr *m)
{
    static const char *const native[] = {"Auto", "Always", "Never", NULL};
    struct rd d;

    if (!rd_obj(spec, "proxy", &d))
        return;
    rd_str(&d, "image", &m->proxy.image);
    rd_str(&d, "imagePullPolicy", &m->proxy.image_pull_policy);
    rd_strings(&d, "imagePullSecrets", &m->proxy.image_pull_secrets);
    resources(&d, m);
    name(&d, "logLevel", &m->proxy.log_level);
    rd_opt_u32(&d, "concurrency", &m->proxy.concurrency);
    rd_ns(&d, "drainDuration", &m->proxy.drain_ns);
    rd_ns(&d, "terminationDrainDuration", &m->proxy.termination_drain_ns);
    rd_bool(&d, "holdApplicationUntilProxyStarts", &m->proxy.hold_application);
    m->proxy.native_sidecar =
        (enum mesh_native)rd_enum(&d, "nativeSidecar", native, MESH_NATIVE_AUTO);
    rd_bool(&d, "dnsCapture", &m->proxy.dns_capture);
    rd_bool(&d, "rewriteAppProbes", &m->proxy.rewrite_app_probes);
    rd_bool(&d, "mergeMetrics", &m->proxy.merge_metrics);
    rd_str(&d, "includeOutboundIPRanges", &m->proxy.include_outbound_ip_ranges);
    rd_str(&d, "excludeOutboundIPRanges", &m->proxy.exclude_outbound_ip_ranges);
    rd_str(&d, "excludeOutboundPorts", &m->proxy.exclude_outbound_ports);
    rd_str(&d, "excludeInboundPorts", &m->proxy.exclude_inbound_ports);
}

static void traffic(const struct rd *spec, struct mesh_cr *m)
{
    static const char *const outbound[] = {"ALLOW_ANY", "REGISTRY_ONLY", NULL};
    static const char *const discovery[] = {"onDemand", "eager", NULL};
    static const char *const ownership[] = {"Istio", "Namespace", NULL};
    static const char *const paths[] = {"BASE", "MERGE_SLASHES", NULL};
    static const char *const upgrade[] = {"DEFAULT", "DO_NOT_UPGRADE", "UPGRADE", NULL};
    struct rd d;

    if (rd_obj(spec, "outboundTrafficPolicy", &d))
        m->outbound = (enum mesh_outbound)rd_enum(&d, "mode", outbound, MESH_ALLOW_ANY);
    m->discovery = (enum mesh_discovery)rd_enum(spec, "discovery", discovery, MESH_ON_DEMAND);
    rd_ns(spec, "discoveryWait", &m->discovery_wait_ns);
    m->host_ownership =
        (enum mesh_host_ownership)rd_enum(spec, "hostOwnership", ownership, MESH_HOSTS_ISTIO);
    m->path_normalization =
        (enum mesh_path_norm)rd_enum(spec, "pathNormalization", paths, MESH_PATH_BASE);
    m->h2_upgrade = (enum mesh_h2)rd_enum(spec, "h2UpgradePolicy", upgrade, MESH_H2_DEFAULT);
    rd_strings(spec, "podCIDRs", &m->pod_cidrs);
}

static void telemetry(const struct rd *spec, struct mesh_cr *m)
{
    static const char *const encodings[] = {"TEXT", "JSON", NULL};
    struct rd d;

    m->locality = rd_new(spec, "localityLbSetting", sizeof *m->locality, shape_locality);
    if (rd_obj(spec, "accessLog", &d)) {
        rd_bool(&d, "disabled", &m->access_log.disabled);
        m->access_log.encoding =
            (enum mesh_log_encoding)rd_enum(&d, "encoding", encodings, MESH_LOG_TEXT);
        rd_str(&d, "format", &m->access_log.format);
    }
    if (rd_obj(spec, "tracing", &d))
        rd_f64(&d, "sampling", &m->trace_sampling);
}

int mesh_cr_decode(const json_t *obj, struct arena *a, struct mesh_cr **ret, struct findings *f)
{
    static const char *const floors[] = {"", "DISABLE", "PERMISSIVE", "STRICT", NULL};
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec, mtls, rotation;
    struct mesh_cr *m = rd_alloc(&c, 1, sizeof *m);

    if (!m)
        return -1;
    *m = defaults;
    m->meta.name = SLICE_NULL;
    if (rd_begin(&c, obj, false, &m->meta, &root, &spec) < 0)
        return -1;
    name(&spec, "rootNamespace", &m->root_namespace);
    name(&spec, "trustDomain", &m->trust_domain);
    rd_strings(&spec, "trustDomainAliases", &m->trust_domain_aliases);
    name(&spec, "clusterDomain", &m->cluster_domain);
    m->mesh_id = m->trust_domain;
    name(&spec, "meshID", &m->mesh_id);
    if (rd_obj(&spec, "mtls", &mtls)) {
        m->mtls_floor = (enum pa_mode)rd_enum(&mtls, "floor", floors, PA_DISABLE);
        rd_ns(&mtls, "workloadCertTTL", &m->cert_ttl_ns);
        if (rd_obj(&mtls, "rootRotation", &rotation)) {
            rd_ns(&rotation, "minStep", &m->rotation_step_ns);
            rd_opt_u32(&rotation, "atPercent", &m->rotate_percent);
        }
    }
    traffic(&spec, m);
    telemetry(&spec, m);
    proxy(&spec, m);
    if (c.nomem)
        return -1;
    *ret = m;
    return 0;
}

static void quantity(struct slice s, const char *path, struct findings *f)
{
    int64_t milli;

    if (s.len && (quantity_parse(s, &milli) != ERR_OK || milli < 0))
        findings_add_at(f, FINDING_INVALID, path,
                        "must be a quantity such as 64Mi or 10m, is \"%.*s\"", SL_FMT(s));
}

#define MI ((int64_t)1000 * 1024 * 1024) /* a MiB in the thousandths of quantity_parse */

/* -1: none, or not readable. */
static int64_t amount(struct slice s)
{
    int64_t milli;

    return s.len && quantity_parse(s, &milli) == ERR_OK && milli >= 0 ? milli : -1;
}

/* What every sidecar would be refused or killed for, or wastes. */
static void fitting(const struct mesh_cr *m, struct findings *f)
{
    int64_t cpu = amount(m->proxy.cpu_request), cpu_limit = amount(m->proxy.cpu_limit);
    int64_t memory = amount(m->proxy.memory_request), limit = amount(m->proxy.memory_limit);

    if (cpu >= 0 && cpu_limit >= 0 && cpu > cpu_limit)
        findings_add_at(
            f, FINDING_INVALID, "spec.proxy.resources.limits.cpu",
            "is below the request, so that Kubernetes would refuse every pod: raise it");
    if (memory >= 0 && limit >= 0 && memory > limit)
        findings_add_at(
            f, FINDING_INVALID, "spec.proxy.resources.limits.memory",
            "is below the request, so that Kubernetes would refuse every pod: raise it");
    else if (limit >= 0 && limit < 16 * MI)
        findings_add_at(
            f, FINDING_RESOURCES, "spec.proxy.resources.limits.memory",
            "a sidecar needs about 8 Mi and more under load, and is killed at its limit: "
            "write at least 32Mi");
    if (memory > 64 * MI)
        findings_add_at(
            f, FINDING_RESOURCES, "spec.proxy.resources.requests.memory",
            "sets aside far more than a sidecar uses (about 8 Mi), in every pod: write 16Mi");
    if (cpu >= 100)
        findings_add_at(
            f, FINDING_RESOURCES, "spec.proxy.resources.requests.cpu",
            "sets aside far more CPU than an idle sidecar uses, in every pod: write 10m; the "
            "limit bounds what it may use");
    if (!m->proxy.merge_metrics)
        findings_add_at(
            f, FINDING_UNSCRAPED, "spec.proxy.mergeMetrics",
            "without it Prometheus reads what the application's own annotations name, and "
            "not the sidecar: read port 15090 with a PodMonitor, or leave it on");
}

/* The proxy would say the same in its own log, where nobody looks before something is missing. */
static void log_format(const struct mesh_cr *m, struct findings *f)
{
    CLEANUP(al_freep) struct al_program *p = NULL;
    struct err err = {0};

    if (al_compile(m->access_log.format, m->access_log.encoding == MESH_LOG_JSON, &p, &err) == 0)
        return;
    if (err.code == ERR_UNSUPPORTED)
        findings_add_at(f, FINDING_UNSUPPORTED, "spec.accessLog.format",
                        "%s: Istio's default format is used instead", err.msg);
    else
        findings_add_at(f, FINDING_INVALID, "spec.accessLog.format", "%s", err.msg);
}

static void span(int64_t ns, int64_t min_s, int64_t max_s, const char *path, struct findings *f)
{
    if (ns < min_s * SECONDS || ns > max_s * SECONDS)
        findings_add_at(f, FINDING_INVALID, path, "must be between %llds and %llds",
                        (long long)min_s, (long long)max_s);
}

void mesh_cr_validate(const struct mesh_cr *m, struct findings *f)
{
    if (!slice_is(m->meta.name, MESH_CR_NAME))
        findings_add_at(f, FINDING_INVALID, "metadata.name",
                        "the mesh of a cluster is named \"default\"; others have no effect");
    if (!label_valid(m->root_namespace))
        findings_add_at(f, FINDING_INVALID, "spec.rootNamespace", "must be a namespace's name");
    if (!spiffe_trust_domain_valid(m->trust_domain))
        findings_add_at(f, FINDING_INVALID, "spec.trustDomain", "must hold only a-z 0-9 . - and _");
    if (!host_valid(m->cluster_domain))
        findings_add_at(f, FINDING_INVALID, "spec.clusterDomain", "must be a DNS name");
    span(m->cert_ttl_ns, 60, 30 * 86400, "spec.mtls.workloadCertTTL", f);
    span(m->rotation_step_ns, 1, 86400, "spec.mtls.rootRotation.minStep", f);
    if (m->rotate_percent.v > 95)
        findings_add_at(f, FINDING_INVALID, "spec.mtls.rootRotation.atPercent", "must be 0..95");
    span(m->discovery_wait_ns, 0, 60, "spec.discoveryWait", f);
    span(m->proxy.drain_ns, 0, 3600, "spec.proxy.drainDuration", f);
    span(m->proxy.termination_drain_ns, 0, 3600, "spec.proxy.terminationDrainDuration", f);
    if (!(m->trace_sampling >= 0 && m->trace_sampling <= 100))
        findings_add_at(f, FINDING_INVALID, "spec.tracing.sampling", "must be 0..100");
    log_format(m, f);
    if (m->locality) {
        struct fpath spec = FPATH_KEY(NULL, "spec"), at = FPATH_KEY(&spec, "localityLbSetting");

        shape_check_locality(m->locality, &at, f);
    }
    if (m->proxy.concurrency.v > 256)
        findings_add_at(f, FINDING_INVALID, "spec.proxy.concurrency", "must be 0..256");
    for (uint32_t i = 0; i < m->pod_cidrs.n; i++) {
        struct fpath spec = FPATH_KEY(NULL, "spec"), list = FPATH_KEY(&spec, "podCIDRs"),
                     at = FPATH_INDEX(&list, i);
        struct cidr c;

        if (!cidr_parse(m->pod_cidrs.p[i], &c))
            findings_add(f, FINDING_INVALID, &at, "must be a range such as 10.244.0.0/16");
    }
    quantity(m->proxy.cpu_request, "spec.proxy.resources.requests.cpu", f);
    quantity(m->proxy.memory_request, "spec.proxy.resources.requests.memory", f);
    quantity(m->proxy.cpu_limit, "spec.proxy.resources.limits.cpu", f);
    quantity(m->proxy.memory_limit, "spec.proxy.resources.limits.memory", f);
    fitting(m, f);
}
