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
/*  enum               kind                    group                  versions (stored first)  plural                  namespaced */
#define API_KINDS(X)                                                                                                                            \
    X(VIRTUAL_SERVICE,       "VirtualService",       API_NETWORKING,          "v1,v1beta1,v1alpha3", "virtualservices",       true)        \
    X(DESTINATION_RULE,      "DestinationRule",      API_NETWORKING,          "v1,v1beta1,v1alpha3", "destinationrules",      true)        \
    X(SERVICE_ENTRY,         "ServiceEntry",         API_NETWORKING,          "v1,v1beta1,v1alpha3", "serviceentries",        true)        \
    X(PEER_AUTHENTICATION,   "PeerAuthentication",   API_SECURITY,            "v1,v1beta1",          "peerauthentications",   true)        \
    X(AUTHORIZATION_POLICY,  "AuthorizationPolicy",  API_SECURITY,            "v1,v1beta1",          "authorizationpolicies", true)        \
    X(MESH,                  "Mesh",                 "tulle.dev",             "v1alpha1",            "meshes",                false)        \
    X(GATEWAY,               "Gateway",              API_NETWORKING,          "v1,v1beta1,v1alpha3", "gateways",              true)       \
    X(SIDECAR,               "Sidecar",              API_NETWORKING,          "v1,v1beta1,v1alpha3", "sidecars",              true)       \
    X(WORKLOAD_ENTRY,        "WorkloadEntry",        API_NETWORKING,          "v1,v1beta1,v1alpha3", "workloadentries",       true)       \
    X(WORKLOAD_GROUP,        "WorkloadGroup",        API_NETWORKING,          "v1,v1beta1,v1alpha3", "workloadgroups",        true)       \
    X(ENVOY_FILTER,          "EnvoyFilter",          API_NETWORKING,          "v1alpha3",            "envoyfilters",          true)       \
    X(PROXY_CONFIG,          "ProxyConfig",          API_NETWORKING,          "v1beta1",             "proxyconfigs",          true)       \
    X(REQUEST_AUTHENTICATION,"RequestAuthentication",API_SECURITY,            "v1,v1beta1",          "requestauthentications",true)       \
    X(TELEMETRY,             "Telemetry",            "telemetry.istio.io",    "v1alpha1,v1",         "telemetries",           true)       \
    X(WASM_PLUGIN,           "WasmPlugin",           "extensions.istio.io",   "v1alpha1",            "wasmplugins",           true)       \
    X(TRAFFIC_EXTENSION,     "TrafficExtension",     "extensions.istio.io",   "v1alpha1",            "trafficextensions",     true)
/* clang-format on */

enum api_kind {
#define X(name, kind, group, versions, plural, namespaced) API_##name,
    API_KINDS(X)
#undef X
    API_KIND_N,
};

struct api_kind_info {
    const char *kind, *group, *versions, *plural;
    bool namespaced;
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
 * memory or when it is no object with a name. A kind that has no effect here gets UNKNOWN_KIND, which
 * says what to do instead and is no error; its content is judged all the same. */
int api_check(enum api_kind kind, const json_t *obj, struct arena *scratch, struct findings *f);
