/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds that the mesh reads or answers for: one table with group, versions and names. */
#pragma once

#include <jansson.h>

#include "lib/base/arena.h"
#include "lib/base/slice.h"
#include "mesh/api/findings.h"

#define API_NETWORKING "networking.istio.io"
#define API_SECURITY "security.istio.io"

/* clang-format off */
/*  enum               kind                    group                  versions (stored first)  plural                  scope       served: decoded and compiled */
#define API_KINDS(X)                                                                                                                            \
    X(VIRTUAL_SERVICE,       "VirtualService",       API_NETWORKING,          "v1,v1beta1,v1alpha3", "virtualservices",       true,  true)        \
    X(DESTINATION_RULE,      "DestinationRule",      API_NETWORKING,          "v1,v1beta1,v1alpha3", "destinationrules",      true,  true)        \
    X(SERVICE_ENTRY,         "ServiceEntry",         API_NETWORKING,          "v1,v1beta1,v1alpha3", "serviceentries",        true,  true)        \
    X(PEER_AUTHENTICATION,   "PeerAuthentication",   API_SECURITY,            "v1,v1beta1",          "peerauthentications",   true,  true)        \
    X(AUTHORIZATION_POLICY,  "AuthorizationPolicy",  API_SECURITY,            "v1,v1beta1",          "authorizationpolicies", true,  true)        \
    X(MESH,                  "Mesh",                 "tulle.dev",             "v1alpha1",            "meshes",                false, true)        \
    X(GATEWAY,               "Gateway",              API_NETWORKING,          "v1,v1beta1,v1alpha3", "gateways",              true,  false)       \
    X(SIDECAR,               "Sidecar",              API_NETWORKING,          "v1,v1beta1,v1alpha3", "sidecars",              true,  false)       \
    X(WORKLOAD_ENTRY,        "WorkloadEntry",        API_NETWORKING,          "v1,v1beta1,v1alpha3", "workloadentries",       true,  false)       \
    X(WORKLOAD_GROUP,        "WorkloadGroup",        API_NETWORKING,          "v1,v1beta1,v1alpha3", "workloadgroups",        true,  false)       \
    X(ENVOY_FILTER,          "EnvoyFilter",          API_NETWORKING,          "v1alpha3",            "envoyfilters",          true,  false)       \
    X(PROXY_CONFIG,          "ProxyConfig",          API_NETWORKING,          "v1beta1",             "proxyconfigs",          true,  false)       \
    X(REQUEST_AUTHENTICATION,"RequestAuthentication",API_SECURITY,            "v1,v1beta1",          "requestauthentications",true,  false)       \
    X(TELEMETRY,             "Telemetry",            "telemetry.istio.io",    "v1,v1alpha1",         "telemetries",           true,  false)       \
    X(WASM_PLUGIN,           "WasmPlugin",           "extensions.istio.io",   "v1alpha1",            "wasmplugins",           true,  false)       \
    X(TRAFFIC_EXTENSION,     "TrafficExtension",     "extensions.istio.io",   "v1alpha1",            "trafficextensions",     true,  false)
/* clang-format on */

enum api_kind {
#define X(name, kind, group, versions, plural, namespaced, served) API_##name,
    API_KINDS(X)
#undef X
    API_KIND_N,
};

struct api_kind_info {
    const char *kind, *group, *versions, *plural;
    bool namespaced, served;
};
const struct api_kind_info *api_kind_info(enum api_kind k);
/* By `apiVersion` ("networking.istio.io/v1beta1") and `kind`; false when it is none of ours or the
 * version is not served. */
bool api_kind_of(struct slice api_version, struct slice kind, enum api_kind *ret);
bool api_kind_of_object(const json_t *obj, enum api_kind *ret);
/* By group and plural, as admission reviews and watches name it. */
bool api_kind_of_resource(struct slice group, struct slice plural, enum api_kind *ret);

/* Everything that can be said about one object without looking at others: decode, validate and the
 * support table. `scratch` holds the decoded object and, through `f`, the texts. -1 only for want of
 * memory or when it is no object with a name. A kind that is not served gets UNKNOWN_KIND, never an
 * error. */
int api_check(enum api_kind kind, const json_t *obj, struct arena *scratch, struct findings *f);
