/* SPDX-License-Identifier: Apache-2.0 */
/* Which kinds exist and where they live: a table, and the making of API paths. A caller with a kind
 * of its own declares a `static const struct kube_resource` and uses it everywhere the same. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"

struct kube_resource {
    const char *group;   /* "" = core */
    const char *version; /* "v1" */
    const char *plural;  /* "pods" */
    const char *kind;    /* "Pod" */
    bool namespaced;
};

/* name, group, version, plural, kind, namespaced */
/* clang-format off */
#define KUBE_RESOURCES(X)                                                                           \
    X(NAMESPACE,       "",                             "v1", "namespaces",      "Namespace",      false) \
    X(NODE,            "",                             "v1", "nodes",           "Node",           false) \
    X(POD,             "",                             "v1", "pods",            "Pod",            true)  \
    X(SERVICE,         "",                             "v1", "services",        "Service",        true)  \
    X(CONFIG_MAP,      "",                             "v1", "configmaps",      "ConfigMap",      true)  \
    X(SECRET,          "",                             "v1", "secrets",         "Secret",         true)  \
    X(SERVICE_ACCOUNT, "",                             "v1", "serviceaccounts", "ServiceAccount", true)  \
    X(ENDPOINT_SLICE,  "discovery.k8s.io",             "v1", "endpointslices",  "EndpointSlice",  true)  \
    X(DEPLOYMENT,      "apps",                         "v1", "deployments",     "Deployment",     true)  \
    X(DAEMON_SET,      "apps",                         "v1", "daemonsets",      "DaemonSet",      true)  \
    X(STATEFUL_SET,    "apps",                         "v1", "statefulsets",    "StatefulSet",    true)  \
    X(REPLICA_SET,     "apps",                         "v1", "replicasets",     "ReplicaSet",     true)  \
    X(JOB,             "batch",                        "v1", "jobs",            "Job",            true)  \
    X(LEASE,           "coordination.k8s.io",          "v1", "leases",          "Lease",          true)  \
    X(EVENT,           "events.k8s.io",                "v1", "events",          "Event",          true)  \
    X(CRD,             "apiextensions.k8s.io",         "v1", "customresourcedefinitions", "CustomResourceDefinition", false) \
    X(MUTATING_WEBHOOK,   "admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations",   "MutatingWebhookConfiguration",   false) \
    X(VALIDATING_WEBHOOK, "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false) \
    X(TOKEN_REVIEW,    "authentication.k8s.io",        "v1", "tokenreviews",    "TokenReview",    false) \
    X(SUBJECT_ACCESS_REVIEW, "authorization.k8s.io",   "v1", "subjectaccessreviews", "SubjectAccessReview", false) \
    X(SELF_SUBJECT_ACCESS_REVIEW, "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false) \
    X(VIRTUAL_SERVICE, "networking.istio.io",          "v1", "virtualservices", "VirtualService", true)  \
    X(DESTINATION_RULE, "networking.istio.io",         "v1", "destinationrules", "DestinationRule", true) \
    X(SERVICE_ENTRY,   "networking.istio.io",          "v1", "serviceentries",  "ServiceEntry",   true)  \
    X(SIDECAR,         "networking.istio.io",          "v1", "sidecars",        "Sidecar",        true)  \
    X(GATEWAY,         "networking.istio.io",          "v1", "gateways",        "Gateway",        true)  \
    X(WORKLOAD_ENTRY,  "networking.istio.io",          "v1", "workloadentries", "WorkloadEntry",  true)  \
    X(WORKLOAD_GROUP,  "networking.istio.io",          "v1", "workloadgroups",  "WorkloadGroup",  true)  \
    X(ENVOY_FILTER,    "networking.istio.io",          "v1alpha3", "envoyfilters", "EnvoyFilter", true)  \
    X(PROXY_CONFIG,    "networking.istio.io",          "v1beta1", "proxyconfigs", "ProxyConfig",  true)  \
    X(PEER_AUTHENTICATION, "security.istio.io",        "v1", "peerauthentications", "PeerAuthentication", true) \
    X(REQUEST_AUTHENTICATION, "security.istio.io",     "v1", "requestauthentications", "RequestAuthentication", true) \
    X(AUTHORIZATION_POLICY, "security.istio.io",       "v1", "authorizationpolicies", "AuthorizationPolicy", true) \
    X(TELEMETRY,       "telemetry.istio.io",           "v1", "telemetries",     "Telemetry",      true)  \
    X(WASM_PLUGIN,     "extensions.istio.io",          "v1alpha1", "wasmplugins", "WasmPlugin",   true)  \
    X(TRAFFIC_EXTENSION, "extensions.istio.io",        "v1alpha1", "trafficextensions", "TrafficExtension", true) \
    X(MESH,            "tulle.dev",              "v1alpha1", "meshes",          "Mesh",           false)
/* clang-format on */

enum kube_kind {
#define X(name, ...) KUBE_##name,
    KUBE_RESOURCES(X)
#undef X
        KUBE_KINDS
};

/* The row of the table; static storage. */
const struct kube_resource *kube_resource(enum kube_kind kind);
/* From now on the row speaks of this version (borrowed for ever): for kinds whose definitions somebody else
 * brought, who may serve other versions. Not for use beside other threads. */
void kube_resource_serve(enum kube_kind kind, const char *version);
/* By "group/version" ("v1" for core) and kind as they stand in a manifest; the version is not
 * compared when no row has it and exactly the group and kind match (an object of another served
 * version goes through its own: *ret_own is filled from the row with that version and returned).
 * NULL when the kind is not in the table. `ret_own` may be NULL: then only exact rows are found. */
const struct kube_resource *kube_resource_find(const char *api_version, const char *kind,
                                               struct kube_resource *ret_own);
/* "group/version", or "version" for the core group. Returns ret. */
char *kube_api_version(const struct kube_resource *r, char *ret, size_t cap);

/* "/apis/apps/v1/namespaces/shop/deployments/cart/status". ns NULL or "" = all namespaces (or a
 * cluster-scoped kind), name NULL = the collection, sub NULL = none. Segments that could not be a
 * Kubernetes name (with '/', '%', "..", empty) are refused with ERR_INVALID.
 * Heap string (mem_free), NULL on error. */
char *kube_path(const struct kube_resource *r, const char *ns, const char *name, const char *sub,
                struct err *err);
/* Append "key=value" to a query being built, with '&' when it is not the first; value escaped. */
void kube_query_add(struct buf *query, const char *key, const char *value);

/* Fields of an object's metadata; "" when absent. Borrowed from obj. */
const char *kube_meta(const json_t *obj, const char *field);
static inline const char *kube_name(const json_t *obj)
{
    return kube_meta(obj, "name");
}
static inline const char *kube_namespace(const json_t *obj)
{
    return kube_meta(obj, "namespace");
}
/* metadata.generation, 0 when absent. */
int64_t kube_generation(const json_t *obj);

/* "namespace/name" (or "name" for an empty namespace) as store and queue keys have it.
 * False when it does not fit. */
enum { KUBE_KEY_MAX = 63 + 1 + 253 + 1 };
struct kube_key {
    char text[KUBE_KEY_MAX];
};
bool kube_key_make(const char *ns, const char *name, struct kube_key *ret);
/* Split; *ret_ns is empty for a cluster-scoped key. Borrowed from `key`. */
void kube_key_split(struct slice key, struct slice *ret_ns, struct slice *ret_name);
