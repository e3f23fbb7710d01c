/* SPDX-License-Identifier: Apache-2.0 */
/* Annotations into options. One table says for each annotation how its value is checked and, where
 * Tulle does not do what Istio does with it, what the user is told. A value that breaks its rule
 * refuses the pod, as Istio does, and the error names the annotation. */
#include <stdio.h>
#include <string.h>

#include "lib/data/duration.h"
#include "lib/data/quantity.h"
#include "lib/data/yaml.h"
#include "mesh/inject/inject_int.h"

enum check {
    ANY,
    BOOL,
    U32,
    PORT,
    PORTS,
    PORTS_ALL,
    RANGES,
    RANGES_ALL,
    IFACES,
    QUANTITY,
    MODE,
    LEVEL,
    IMAGE
};

#define TRAFFIC "traffic.sidecar.istio.io/"
#define SIDECAR "sidecar.istio.io/"
#define READY "readiness.status.sidecar.istio.io/"

/* clang-format off */
static const struct {
    const char *name;
    enum check check;
    const char *warn; /* NULL: done */
} known[] = {
    {SIDECAR "interceptionMode",          MODE,       NULL},
    {SIDECAR "rewriteAppHTTPProbers",     BOOL,       NULL},
    {SIDECAR "nativeSidecar",             BOOL,       NULL},
    {SIDECAR "proxyImage",                IMAGE,      NULL},
    {SIDECAR "proxyCPU",                  QUANTITY,   NULL},
    {SIDECAR "proxyCPULimit",             QUANTITY,   NULL},
    {SIDECAR "proxyMemory",               QUANTITY,   NULL},
    {SIDECAR "proxyMemoryLimit",          QUANTITY,   NULL},
    {SIDECAR "logLevel",                  LEVEL,      NULL},
    {SIDECAR "capNetBindService",         BOOL,       "the sidecar binds no port below 1024"},
    {SIDECAR "proxyImageType",            ANY,        "there is one image, without a shell"},
    {SIDECAR "componentLogLevel",         ANY,        "one level holds for the whole sidecar; use sidecar.istio.io/logLevel"},
    {SIDECAR "agentLogLevel",             ANY,        "there is no agent apart from the proxy; use sidecar.istio.io/logLevel"},
    {SIDECAR "bootstrapOverride",         ANY,        "there is no Envoy bootstrap; use proxy.istio.io/config"},
    {SIDECAR "discoveryAddress",          ANY,        "use discoveryAddress in proxy.istio.io/config"},
    {SIDECAR "extraStatTags",             ANY,        "metrics carry Istio's standard labels only"},
    {SIDECAR "statsInclusionPrefixes",    ANY,        "there are no Envoy statistics to include"},
    {SIDECAR "statsInclusionSuffixes",    ANY,        "there are no Envoy statistics to include"},
    {SIDECAR "statsInclusionRegexps",     ANY,        "there are no Envoy statistics to include"},
    {SIDECAR "statsHistogramBuckets",     ANY,        "histograms have Istio's standard buckets"},
    {SIDECAR "statsEvictionInterval",     ANY,        "unused series are dropped by fixed rules"},
    {SIDECAR "statsCompression",          ANY,        "metrics are served uncompressed"},
    {"inject.istio.io/templates",         ANY,        "there is one template, the sidecar"},
    {"prometheus.istio.io/merge-metrics", BOOL,       NULL},
    {"prometheus.istio.io/scrape-targets", ANY,       "one scrape target of the application is merged, that of prometheus.io/port and path"},
    {"status.sidecar.istio.io/port",      PORT,       NULL},
    {READY "initialDelaySeconds",         U32,        NULL},
    {READY "periodSeconds",               U32,        NULL},
    {READY "failureThreshold",            U32,        NULL},
    {READY "applicationPorts",            ANY,        "readiness does not depend on the application's ports"},
    {TRAFFIC "includeInboundPorts",       PORTS_ALL,  NULL},
    {TRAFFIC "excludeInboundPorts",       PORTS,      NULL},
    {TRAFFIC "includeOutboundPorts",      PORTS_ALL,  NULL},
    {TRAFFIC "excludeOutboundPorts",      PORTS,      NULL},
    {TRAFFIC "includeOutboundIPRanges",   RANGES_ALL, NULL},
    {TRAFFIC "excludeOutboundIPRanges",   RANGES,     NULL},
    {TRAFFIC "excludeInterfaces",         IFACES,     NULL},
    {TRAFFIC "kubevirtInterfaces",        IFACES,     NULL},
    {"istio.io/reroute-virtual-interfaces", IFACES,   NULL},
    {SIDECAR "init-containers-before-proxy", ANY,     NULL},
    {SIDECAR "inject",                    ANY,        NULL},
    {SIDECAR "status",                    ANY,        NULL},
    {SIDECAR "userVolume",                ANY,        NULL},
    {SIDECAR "userVolumeMount",           ANY,        NULL},
};

/* ProxyConfig (istio/api mesh/v1alpha1): name, type, and whether anything reads it. */
enum config_type { T_STRING, T_BOOL, T_COUNT, T_PORT, T_DURATION, T_STRINGS, T_OBJECT, T_ENUM_MODE, T_ANY };
static const struct {
    const char *name;
    enum config_type type;
    bool read;
} config_fields[] = {
    {"concurrency",                    T_COUNT,     true},
    {"discoveryAddress",               T_STRING,    true},
    {"drainDuration",                  T_DURATION,  true},
    {"holdApplicationUntilProxyStarts", T_BOOL,     true},
    {"interceptionMode",               T_ENUM_MODE, true},
    {"meshId",                         T_STRING,    true},
    {"proxyMetadata",                  T_STRINGS,   true},
    {"statusPort",                     T_PORT,      true},
    {"terminationDrainDuration",       T_DURATION,  true},
    {"tracing",                        T_OBJECT,    false},
    {"availabilityZone",               T_STRING,    false},
    {"binaryPath",                     T_STRING,    false},
    {"caCertificatesPem",              T_ANY,       false},
    {"configPath",                     T_STRING,    false},
    {"controlPlaneAuthPolicy",         T_ANY,       false},
    {"customConfigFile",               T_STRING,    false},
    {"envoyAccessLogService",          T_OBJECT,    false},
    {"envoyMetricsService",            T_OBJECT,    false},
    {"envoyMetricsServiceAddress",     T_STRING,    false},
    {"extraStatTags",                  T_ANY,       false},
    {"fileFlushInterval",              T_DURATION,  false},
    {"fileFlushMinSizeKb",             T_ANY,       false},
    {"gatewayTopology",                T_OBJECT,    false},
    {"image",                          T_OBJECT,    false},
    {"parentShutdownDuration",         T_DURATION,  false},
    {"privateKeyProvider",             T_OBJECT,    false},
    {"proxyAdminPort",                 T_PORT,      false},
    {"proxyBootstrapTemplatePath",     T_STRING,    false},
    {"proxyHeaders",                   T_OBJECT,    false},
    {"proxyStatsMatcher",              T_OBJECT,    false},
    {"readinessProbe",                 T_OBJECT,    false},
    {"runtimeValues",                  T_STRINGS,   false},
    {"sds",                            T_OBJECT,    false},
    {"serviceCluster",                 T_STRING,    false},
    {"statNameLength",                 T_COUNT,     false},
    {"statsCompression",               T_BOOL,      false},
    {"statsEvictionInterval",          T_DURATION,  false},
    {"statsdUdpAddress",               T_STRING,    false},
    {"tracingServiceName",             T_ANY,       false},
    {"zipkinAddress",                  T_STRING,    false},
};
/* clang-format on */

/* As Go's strconv.ParseBool, which is what Istio reads these with. */
bool inject_parse_bool(const char *text, bool *ret)
{
    static const char *const words[] = {"1", "t", "T", "true",  "TRUE",  "True",
                                        "0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < N_OF(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *ret = i < N_OF(words) / 2;
            return true;
        }
    return false;
}

static bool is_duration(const char *s)
{
    int64_t ns;
    return duration_parse(slice_str(s), &ns) == ERR_OK && ns >= 0;
}

static bool is_quantity(struct slice s)
{
    int64_t milli;
    return quantity_parse(s, &milli) == ERR_OK && milli >= 0;
}

static bool is_mode(const char *s)
{
    return strcmp(s, "REDIRECT") == 0 || strcmp(s, "TPROXY") == 0 || strcmp(s, "NONE") == 0;
}

/* An image reference goes into the pod as it is; the kubelet would only say InvalidImageName. */
static bool is_image(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > 512)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 127)
            return false;
    return true;
}

static const char *const levels[] = {"trace", "debug", "info",     "warning",
                                     "warn",  "error", "critical", "off"};

static int value_check(enum check check, const char *value, struct err *err)
{
    struct redirect_ports ports;
    struct redirect_ranges ranges;
    struct redirect_ifaces ifaces;
    struct slice s = slice_str(value);
    uint64_t n;
    bool b;

    switch (check) {
    case ANY:
        return 0;
    case BOOL:
        if (!inject_parse_bool(value, &b))
            return err_set(err, ERR_INVALID, "must be true or false");
        return 0;
    case U32:
        if (!slice_u64(s, INT32_MAX, &n))
            return err_set(err, ERR_INVALID, "must be a whole number of 0 or more");
        return 0;
    case PORT:
        if (!slice_u64(slice_trim(s), UINT16_MAX, &n))
            return err_set(err, ERR_INVALID, "must be a port");
        return 0;
    case PORTS:
    case PORTS_ALL:
        return redirect_parse_ports(s, check == PORTS_ALL, &ports, err);
    case RANGES:
    case RANGES_ALL:
        return redirect_parse_ranges(s, check == RANGES_ALL, &ranges, err);
    case IFACES:
        return redirect_parse_ifaces(s, &ifaces, err);
    case QUANTITY:
        if (!is_quantity(s))
            return err_set(err, ERR_INVALID, "must be a quantity such as 100m or 64Mi");
        return 0;
    case MODE:
        if (!is_mode(value))
            return err_set(err, ERR_INVALID, "must be REDIRECT, TPROXY or NONE");
        return 0;
    case LEVEL:
        for (size_t i = 0; i < N_OF(levels); i++)
            if (strcmp(value, levels[i]) == 0)
                return 0;
        return err_set(err, ERR_INVALID, "must be trace, debug, info, warning, error or off");
    case IMAGE:
        if (!is_image(value))
            return err_set(err, ERR_INVALID, "is no image reference");
        return 0;
    }
    return err_set(err, ERR_INTERNAL, "check %d", (int)check);
}

/* A name of ours that is in no table is a slip of the pen more often than not. */
static void warn_unknown(struct inject *in)
{
    const char *name;
    json_t *v;
    json_object_foreach(in->annotations, name, v)
    {
        struct slice s = slice_str(name);
        bool found = false;
        if (!slice_starts(s, SL(SIDECAR)) && !slice_starts(s, SL(TRAFFIC)) &&
            !slice_starts(s, SL(READY)))
            continue;
        for (size_t i = 0; i < N_OF(known) && !found; i++)
            found = slice_is(s, known[i].name);
        if (!found)
            inject_warn(in, "annotation %s is unknown", name);
    }
}

static int annotations_check(struct inject *in, struct err *err)
{
    warn_unknown(in);
    for (size_t i = 0; i < N_OF(known); i++) {
        const char *value = jstr(in->annotations, known[i].name);
        if (!value)
            continue;
        if (value_check(known[i].check, value, err) < 0)
            return err_wrap(err, "invalid value '%.60s' for annotation '%s'", value, known[i].name);
        if (known[i].warn)
            inject_warn(in, "annotation %s is not used: %s", known[i].name, known[i].warn);
    }
    return 0;
}

/* --- ProxyConfig --------------------------------------------------------------------------------
 */
static int strings_check(const json_t *v, struct err *err)
{
    const char *key;
    json_t *item;
    if (!json_is_object(v))
        return err_set(err, ERR_INVALID, "must map names to strings");
    json_object_foreach((json_t *)(uintptr_t)v, key, item)
    {
        if (!json_is_string(item))
            return err_set(err, ERR_INVALID, "%.80s: must be a string; quote it", key);
        if (!key[0] || strpbrk(key, "= \n"))
            return err_set(err, ERR_INVALID, "'%.80s' is no name of a variable", key);
    }
    return 0;
}

static int config_check(enum config_type type, const json_t *v, struct err *err)
{
    const char *text = json_string_value(v);
    json_int_t n = json_integer_value(v);

    switch (type) {
    case T_ANY:
        return 0;
    case T_STRING:
        return text ? 0 : err_set(err, ERR_INVALID, "must be a string");
    case T_BOOL:
        return json_is_boolean(v) ? 0 : err_set(err, ERR_INVALID, "must be true or false");
    case T_COUNT:
        return json_is_integer(v) && n >= 0 && n <= INT32_MAX
                   ? 0
                   : err_set(err, ERR_INVALID, "must be a whole number of 0 or more");
    case T_PORT:
        return json_is_integer(v) && n >= 0 && n <= UINT16_MAX
                   ? 0
                   : err_set(err, ERR_INVALID, "must be a port");
    case T_DURATION:
        return text && is_duration(text) ? 0
                                         : err_set(err, ERR_INVALID, "must be seconds such as 5s");
    case T_STRINGS:
        return strings_check(v, err);
    case T_OBJECT:
        return json_is_object(v) ? 0 : err_set(err, ERR_INVALID, "must be an object");
    case T_ENUM_MODE:
        return text && is_mode(text)
                   ? 0
                   : err_set(err, ERR_INVALID, "must be REDIRECT, TPROXY or NONE");
    }
    return err_set(err, ERR_INTERNAL, "type %d", (int)type);
}

int inject_proxy_config(struct inject *in, const json_t *config, json_t *into, struct err *err)
{
    const char *key;
    json_t *v;

    if (!json_is_object(config))
        return err_set(err, ERR_INVALID, "must be an object");
    json_object_foreach((json_t *)(uintptr_t)config, key, v)
    {
        size_t i = 0;
        while (i < N_OF(config_fields) && strcmp(config_fields[i].name, key) != 0)
            i++;
        if (i == N_OF(config_fields))
            return err_set(err, ERR_INVALID, "unknown field '%.80s'", key);
        if (json_is_null(v))
            continue;
        if (config_check(config_fields[i].type, v, err) < 0)
            return err_wrap(err, "%s", key);
        if (in && !config_fields[i].read)
            inject_warn(in, "annotation proxy.istio.io/config: field %s is not used", key);
        if (!into)
            continue;
        /* proxyMetadata is merged name by name, everything else replaced. */
        json_t *have = strcmp(key, "proxyMetadata") == 0 ? jobj(into, key) : NULL;
        json_t *copy = json_deep_copy(v);
        if (!copy ||
            (have ? json_object_update(have, copy) : json_object_set(into, key, copy)) < 0) {
            json_decref(copy);
            return err_set(err, ERR_NOMEM, "ProxyConfig");
        }
        json_decref(copy);
    }
    return 0;
}

/* What the oldest ProxyConfig object says: of all namespaces ("") or this one, for all its workloads or by
 * labels that the pod has. */
static int config_of_object(struct inject *in, const char *ns, bool by_labels, struct err *err)
{
    size_t i;
    const json_t *one;

    json_array_foreach(in->set->proxy_configs, i, one)
    {
        const json_t *labels = json_object_get(one, "matchLabels");
        const char *of = jstr(one, "namespace");

        if (!of || strcmp(of, ns) != 0 || (labels != NULL) != by_labels ||
            (labels && !inject_selector_matches(one, in->labels)))
            continue;
        return inject_proxy_config(in, json_object_get(one, "config"), in->opt.proxy_config, err);
    }
    return 0;
}

/* Later ones go before: the Mesh, ProxyConfigs of the root namespace and of the pod's, the annotation, the
 * ProxyConfig that selects the pod (Istio's order). */
static int config_read(struct inject *in, struct err *err)
{
    const char *text = jstr(in->annotations, "proxy.istio.io/config");
    struct yaml_limits limits = {.nodes = 10000, .depth = 16, .bytes = 256 << 10};
    json_t *config = NULL;

    in->opt.proxy_config =
        in->set->proxy_config ? json_deep_copy(in->set->proxy_config) : json_object();
    if (!in->opt.proxy_config)
        return err_set(err, ERR_NOMEM, "ProxyConfig");
    if (config_of_object(in, "", false, err) < 0 || config_of_object(in, in->req->ns, false, err) < 0)
        return err_wrap(err, "ProxyConfig");
    if (!text || !slice_trim(slice_str(text)).len)
        return config_of_object(in, in->req->ns, true, err);
    if (yaml_parse_one(slice_str(text), &limits, &config, err) < 0 ||
        (!json_is_null(config) && inject_proxy_config(in, config, in->opt.proxy_config, err) < 0)) {
        json_decref(config);
        return err_wrap(err, "invalid value for annotation 'proxy.istio.io/config'");
    }
    json_decref(config);
    return config_of_object(in, in->req->ns, true, err);
}

/* --- user volumes: a JSON array of objects with a name, or an object by name -------------------
 */
static int volumes_read(struct inject *in, const char *name, json_t **ret, struct err *err)
{
    const char *text = jstr(in->annotations, name), *key;
    json_t *v, *item, *list;
    size_t i;

    if (!text || !text[0])
        return 0;
    v = jread(text);
    list = json_array();
    if (!list) {
        json_decref(v);
        return err_set(err, ERR_NOMEM, "%s", name);
    }
    if (!json_is_object(v) && !json_is_array(v))
        goto bad;
    json_array_foreach(v, i, item)
    {
        if (!jstr(item, "name"))
            goto bad;
        jadd(in, list, json_incref(item));
    }
    json_object_foreach(v, key, item)
    {
        if (!json_is_object(item))
            goto bad;
        json_t *copy = json_object();
        jputs(in, copy, "name", key);
        if (json_object_update(copy, item) < 0)
            in->oom = true;
        jadd(in, list, copy);
    }
    json_decref(v);
    *ret = list;
    return 0;
bad:
    json_decref(v);
    json_decref(list);
    return err_set(
        err, ERR_INVALID,
        "invalid value for annotation '%s': must be a JSON array of objects with a name, "
        "or an object by name",
        name);
}

/* --- all of it ----------------------------------------------------------------------------------
 */
static const char *text_of(struct inject *in, const char *anno, const char *dflt)
{
    const char *v = jstr(in->annotations, anno);
    return v ? v : dflt;
}

static bool bool_of(struct inject *in, const char *anno, bool dflt)
{
    bool b = dflt;
    const char *v = jstr(in->annotations, anno);
    if (v)
        inject_parse_bool(v, &b);
    return b;
}

static json_int_t count_of(struct inject *in, const char *anno, json_int_t dflt)
{
    uint64_t n;
    const char *v = jstr(in->annotations, anno);
    return v && slice_u64(slice_str(v), INT32_MAX, &n) ? (json_int_t)n : dflt;
}

/* Any of the four annotations replaces all four defaults (Istio's template). */
static void resources_read(struct inject *in)
{
    struct inject_opts *o = &in->opt;
    o->cpu_request = text_of(in, SIDECAR "proxyCPU", NULL);
    o->memory_request = text_of(in, SIDECAR "proxyMemory", NULL);
    o->cpu_limit = text_of(in, SIDECAR "proxyCPULimit", NULL);
    o->memory_limit = text_of(in, SIDECAR "proxyMemoryLimit", NULL);
    if (o->cpu_request || o->memory_request || o->cpu_limit || o->memory_limit)
        return;
    o->cpu_request = in->set->cpu_request;
    o->memory_request = in->set->memory_request;
    o->cpu_limit = in->set->cpu_limit;
    o->memory_limit = in->set->memory_limit;
}

static void capture_read(struct inject *in)
{
    struct inject_opts *o = &in->opt;
    const char *mode = jstr(in->annotations, SIDECAR "interceptionMode");
    if (!mode)
        mode = jstr(o->proxy_config, "interceptionMode");
    o->capture = !mode || strcmp(mode, "NONE") != 0;
    if (mode && strcmp(mode, "TPROXY") == 0)
        inject_warn(in, "interception mode TPROXY is not built; REDIRECT is used, and applications "
                        "see 127.0.0.6 as the source of inbound connections");
    o->include_ranges = text_of(in, TRAFFIC "includeOutboundIPRanges", in->set->include_ranges);
    o->exclude_ranges = text_of(in, TRAFFIC "excludeOutboundIPRanges", in->set->exclude_ranges);
    o->include_outbound = text_of(in, TRAFFIC "includeOutboundPorts", in->set->include_outbound);
    o->exclude_outbound = text_of(in, TRAFFIC "excludeOutboundPorts", in->set->exclude_outbound);
    o->include_inbound = text_of(in, TRAFFIC "includeInboundPorts", in->set->include_inbound);
    o->exclude_inbound = text_of(in, TRAFFIC "excludeInboundPorts", in->set->exclude_inbound);
    o->exclude_interfaces = text_of(in, TRAFFIC "excludeInterfaces", in->set->exclude_interfaces);
    o->reroute_interfaces = text_of(in, "istio.io/reroute-virtual-interfaces",
                                    text_of(in, TRAFFIC "kubevirtInterfaces", ""));
}

int inject_read_options(struct inject *in, struct err *err)
{
    struct inject_opts *o = &in->opt;
    const char *net = jstr(in->labels, "topology.istio.io/network");

    if (annotations_check(in, err) < 0 || config_read(in, err) < 0 ||
        volumes_read(in, SIDECAR "userVolume", &o->user_volumes, err) < 0 ||
        volumes_read(in, SIDECAR "userVolumeMount", &o->user_mounts, err) < 0)
        return -1;
    resources_read(in);
    capture_read(in);
    o->image = text_of(in, SIDECAR "proxyImage", in->set->image);
    o->log_level = text_of(in, SIDECAR "logLevel", in->set->log_level);
    /* Envoy's two quietest levels; ours ends at errors. */
    if (strcmp(o->log_level, "critical") == 0 || strcmp(o->log_level, "off") == 0)
        o->log_level = "error";
    o->native = bool_of(in, SIDECAR "nativeSidecar", in->set->native);
    o->hold = json_is_true(json_object_get(o->proxy_config, "holdApplicationUntilProxyStarts"));
    o->rewrite_probes = bool_of(in, SIDECAR "rewriteAppHTTPProbers", in->set->rewrite_probes);
    o->merge_metrics = bool_of(in, "prometheus.istio.io/merge-metrics", in->set->merge_metrics);
    o->ready_delay = count_of(in, READY "initialDelaySeconds", 0);
    o->ready_period = count_of(in, READY "periodSeconds", 15);
    o->ready_failures = count_of(in, READY "failureThreshold", 4);
    o->before_proxy = text_of(in, SIDECAR "init-containers-before-proxy", "");
    o->network = net ? net : in->req->network ? in->req->network : in->set->network;
    o->uid = o->gid = PROXY_ID;

    json_int_t status = count_of(in, "status.sidecar.istio.io/port", STATUS_PORT);
    o->readiness = status != 0;
    if (status != 0 && status != STATUS_PORT)
        inject_warn(in,
                    "annotation status.sidecar.istio.io/port is not used: the port is always %d",
                    STATUS_PORT);
    const json_t *port = json_object_get(o->proxy_config, "statusPort");
    if (port && json_integer_value(port) != STATUS_PORT)
        inject_warn(in, "ProxyConfig statusPort is not used: the port is always %d", STATUS_PORT);
    return 0;
}
