/* SPDX-License-Identifier: Apache-2.0 */
/* What the operator tells the injector about the mesh: ConfigMap `tulle-injector`, key `settings`, one
 * JSON object. The table below is the contract: each row is a member, its JSON name and what holds
 * when it is absent. Unknown names are ignored, so that a newer operator can speak to an older
 * injector; a known name with a wrong type or value is refused whole, and the last good settings
 * stay in force. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* clang-format off */
/*  kind  member                   JSON name                          default                     meaning */
#define INJECT_SETTINGS(X)                                                                                   \
    X(STR,  image,                 "image",                           "tulle-proxy:" TULLE_VERSION)          \
    X(STR,  pull_policy,           "imagePullPolicy",                 "IfNotPresent")                        \
    X(LIST, pull_secrets,          "imagePullSecrets",                NULL)     /* names, added to pods */   \
    X(BOOL, native,                "nativeSidecar",                   true)     /* every kubelet knows it */ \
    X(STR,  trust_domain,          "trustDomain",                     "cluster.local")                       \
    X(STR,  cluster_domain,        "clusterDomain",                   "cluster.local")                       \
    X(STR,  discovery_address,     "discoveryAddress",                "tulle-operator.tulle-system.svc:15012") \
    X(STR,  ca_address,            "caAddress",                       "")       /* "" = discoveryAddress */  \
    X(STR,  cluster_id,            "clusterId",                       "Kubernetes")                          \
    X(STR,  mesh_id,               "meshId",                          "")       /* "" = trustDomain */       \
    X(STR,  network,               "network",                         "")                                    \
    X(STR,  revision,              "revision",                        "default")                             \
    X(STR,  system_namespace,      "systemNamespace",                 "tulle-system") /* never injected */   \
    X(STR,  cpu_request,           "cpuRequest",                      "10m")                                 \
    X(STR,  memory_request,        "memoryRequest",                   "16Mi")                                \
    X(STR,  cpu_limit,             "cpuLimit",                        "")                                    \
    X(STR,  memory_limit,          "memoryLimit",                     "64Mi")                                \
    X(STR,  log_level,             "logLevel",                        "info")                                \
    X(STR,  include_ranges,        "includeOutboundIPRanges",         "*")                                   \
    X(STR,  exclude_ranges,        "excludeOutboundIPRanges",         "")                                    \
    X(STR,  include_outbound,      "includeOutboundPorts",            "")                                    \
    X(STR,  exclude_outbound,      "excludeOutboundPorts",            "")                                    \
    X(STR,  include_inbound,       "includeInboundPorts",             "*")                                   \
    X(STR,  exclude_inbound,       "excludeInboundPorts",             "")                                    \
    X(STR,  exclude_interfaces,    "excludeInterfaces",               "")                                    \
    X(BOOL, dns_capture,           "dnsCapture",                      true)                                  \
    X(BOOL, rewrite_probes,        "rewriteAppProbes",                true)                                  \
    X(BOOL, merge_metrics,         "mergeMetrics",                    true)                                  \
    X(LIST, no_net_admin,          "namespacesWithoutNetAdmin",       NULL)     /* Pod Security forbids it */ \
    X(OBJ,  proxy_config,          "proxyConfig",                     NULL)     /* mesh-wide ProxyConfig */  \
    X(ARR,  proxy_configs,         "proxyConfigs",                    NULL)     /* ProxyConfig objects, oldest first */ \
    X(ARR,  never_inject,          "neverInjectSelector",             NULL)     /* label selectors, ORed */  \
    X(ARR,  always_inject,         "alwaysInjectSelector",            NULL)
/* clang-format on */

/* An element of `proxyConfigs`: {"namespace": "" for all, "matchLabels": {...} or absent, "config": {...}}.
 * Strings borrow from `json`. LIST: an array of strings; OBJ, ARR: checked by type only, NULL when
 * absent. Immutable once made. */
#define INJECT_TYPE_STR const char *
#define INJECT_TYPE_BOOL bool
#define INJECT_TYPE_LIST const json_t *
#define INJECT_TYPE_OBJ const json_t *
#define INJECT_TYPE_ARR const json_t *
struct inject_settings {
    json_t *json;
#define X(kind, member, name, dflt) INJECT_TYPE_##kind member;
    INJECT_SETTINGS(X)
#undef X
};

/* From the JSON text. Lists of ports and ranges, quantities and the ProxyConfig are checked here, so
 * that a mistake is reported once by the operator's reader and not with every pod. ERR_INVALID names
 * the setting. */
int inject_settings_decode(struct slice text, struct inject_settings **ret, struct err *err);
/* As above from a decoded object, which is copied. */
int inject_settings_from_json(const json_t *obj, struct inject_settings **ret, struct err *err);
void inject_settings_free(struct inject_settings *s);
void inject_settings_freep(struct inject_settings **s); /* for CLEANUP */
