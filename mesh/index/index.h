/* SPDX-License-Identifier: Apache-2.0 */
/* The picture of the cluster in memory, updated one object at a time. Core objects (pods, slices,
 * services) are kept in a compact form with shared strings; policies as the structs of mesh/api,
 * immutable and reference-counted. Secondary indexes answer the questions that compile asks.
 *
 * Each update appends to a change set the tokens of what it touched; a compiled resource names the
 * tokens that it depends on (mesh/compile), so whoever serves resources knows what to compile again.
 * A token is the hash of a text such as "slice shop/web-x1"; index_token_* make them. Cost: an
 * endpoint change is O(endpoints of its slice), a pod change O(slices that name it).
 *
 * One owner, one thread. Deterministic: the same objects in any order give the same answers. */
#pragma once

#include "lib/data/ipaddr.h"
#include "lib/data/json.h"
#include "mesh/api/ap.h"
#include "mesh/api/dr.h"
#include "mesh/api/envoy.h"
#include "mesh/api/gw.h"
#include "mesh/api/k8s.h"
#include "mesh/api/mesh_cr.h"
#include "mesh/api/pa.h"
#include "mesh/api/pc.h"
#include "mesh/api/ra.h"
#include "mesh/api/sc.h"
#include "mesh/api/se.h"
#include "mesh/api/te.h"
#include "mesh/api/vs.h"
#include "mesh/api/we.h"

enum index_kind {
    INDEX_NAMESPACE,
    INDEX_NODE,
    INDEX_POD,
    INDEX_SERVICE,
    INDEX_SLICE,
    INDEX_SECRET, /* with certificates; only those of namespaces where somebody needs one */
    INDEX_VS,
    INDEX_DR,
    INDEX_SE,
    INDEX_PA,
    INDEX_AP,
    INDEX_MESH,
    INDEX_RA,
    INDEX_GW,
    INDEX_SC, /* this and those below, but for WE: held for checks and status, nothing is compiled from them */
    INDEX_WE,
    INDEX_WG,
    INDEX_PC,
    INDEX_TE,
    INDEX_EF,
    INDEX_WP,
    INDEX_TX,
    INDEX_KINDS,
};
/* "VirtualService", ... */
const char *index_kind_name(enum index_kind k);
/* By apiVersion and kind of an object; false when the index does not hold such objects. */
bool index_kind_of(const json_t *obj, enum index_kind *ret);

struct index_changes { /* distinct tokens; zero-initialised is empty */
    uint64_t *p;
    size_t n, cap;
    bool all; /* out of memory while noting: everything may have changed */
};
void index_changes_fini(struct index_changes *c);
void index_changes_add(struct index_changes *c, uint64_t token);

struct index;
struct index *index_new(void); /* NULL without memory */
void index_free(struct index *x);

/* Add or replace an object. An object that says the same as before changes nothing. -1: not an object
 * of that kind, or no memory; the old value stays. `changes` may be NULL. */
int index_put(struct index *x, enum index_kind kind, const json_t *obj, struct index_changes *changes,
              struct err *err);
/* Remove; false when it was not there. `ns` is empty for cluster-scoped kinds. */
bool index_remove(struct index *x, enum index_kind kind, struct slice ns, struct slice name,
                  struct index_changes *changes);
/* The addresses that stand for a host without one (ServiceEntry, or VirtualService whose host is no
 * Service), one of each family: given by the operator, which allocates and keeps them. Sets that of
 * its family; len 0 takes both away. */
int index_set_address(struct index *x, struct slice host, const struct ipaddr *ip,
                      struct index_changes *changes);
/* Hosts that need such addresses, ordered by host, with those that are set (IPv4 first; len 0: none);
 * the kind and object that keeps them in its status. In the arena; NULL with *ret_n 0 when there are
 * none. */
struct index_want {
    struct slice host;
    enum index_kind kind; /* INDEX_SE or INDEX_VS */
    struct slice ns, name;
    struct ipaddr have[2];
};
struct index_want *index_wanted_addresses(const struct index *x, struct arena *a, size_t *ret_n);
/* Hosts that have addresses, and are none of these any more. In the arena. */
struct slice *index_idle_addresses(const struct index *x, const struct index_want *wants, size_t n,
                                   struct arena *a, size_t *ret_n);

/* --- tokens ----------------------------------------------------------------------------------- */
uint64_t index_token(const char *what, struct slice a, struct slice b);
#define INDEX_TOKEN_MESH index_token("mesh", SLICE_NULL, SLICE_NULL)
#define INDEX_TOKEN_FILTER index_token("filter", SLICE_NULL, SLICE_NULL) /* hosts and addresses */
#define INDEX_TOKEN_NAMES index_token("names", SLICE_NULL, SLICE_NULL)
#define INDEX_TOKEN_NODES index_token("nodes", SLICE_NULL, SLICE_NULL)
#define INDEX_TOKEN_SERVICE(ns, name) index_token("service", ns, name) /* ports, set of slices */
#define INDEX_TOKEN_SERVICES(ns) index_token("services", ns, SLICE_NULL) /* any in the namespace */
#define INDEX_TOKEN_SLICE(ns, name) index_token("slice", ns, name) /* its endpoints and their pods */
#define INDEX_TOKEN_POD(ns, name) index_token("pod", ns, name)
#define INDEX_TOKEN_IP(ip) index_token("ip", slice_of((ip)->b, (ip)->len), SLICE_NULL)
#define INDEX_TOKEN_VS(host) index_token("vs", host, SLICE_NULL) /* some VirtualService of the host */
#define INDEX_TOKEN_VS_OBJECT(ns, name) index_token("vs-object", ns, name) /* that one, as a delegate */
#define INDEX_TOKEN_DR(host) index_token("dr", host, SLICE_NULL)
#define INDEX_TOKEN_SE(host) index_token("se", host, SLICE_NULL)
#define INDEX_TOKEN_WE(ns) index_token("we", ns, SLICE_NULL) /* any WorkloadEntry there */
#define INDEX_TOKEN_RANGES index_token("ranges", SLICE_NULL, SLICE_NULL) /* of ServiceEntries */
#define INDEX_TOKEN_PA(ns) index_token("pa", ns, SLICE_NULL)
#define INDEX_TOKEN_AP(ns) index_token("ap", ns, SLICE_NULL)
#define INDEX_TOKEN_RA(ns) index_token("ra", ns, SLICE_NULL)
#define INDEX_TOKEN_SC(ns) index_token("sc", ns, SLICE_NULL)
#define INDEX_TOKEN_SIDECARS index_token("sidecars", SLICE_NULL, SLICE_NULL) /* whether there is any */
#define INDEX_TOKEN_GATEWAYS index_token("gateways", SLICE_NULL, SLICE_NULL) /* any Gateway */
#define INDEX_TOKEN_GATEWAY_VS index_token("gateway-vs", SLICE_NULL, SLICE_NULL) /* any that is bound */
#define INDEX_TOKEN_RULES(ns) index_token("rules", ns, SLICE_NULL) /* any DestinationRule there */
#define INDEX_TOKEN_SECRET(ns, name) index_token("secret", ns, name)

#define INDEX_TOKEN_PODS(ns) index_token("pods", ns, SLICE_NULL) /* any in the namespace */

/* --- the picture ------------------------------------------------------------------------------ */
/* Shared text: equal texts are one object, so pointers compare. */
struct istr {
    uint32_t refs, len, hash;
    char p[];
};
static inline struct slice istr_slice(const struct istr *s)
{
    return s ? slice_of(s->p, s->len) : SLICE_NULL;
}
struct ilabel {
    const struct istr *key, *value;
};
struct ilabels { /* ordered by key */
    uint32_t refs, n, hash;
    struct ilabel p[];
};
/* A null slice when absent. l may be NULL. */
struct slice ilabels_get(const struct ilabels *l, struct slice key);
bool ilabels_cover(const struct ilabels *have, const struct api_map *want);
bool ilabels_cover_all(const struct ilabels *have, const struct ilabels *want);

struct ix_pod {
    const struct istr *ns, *name;
    const struct istr *service_account, *workload, *owner_kind, *node;
    const struct istr *ports; /* named container ports: "http=8080,metrics=9090" */
    const struct ilabels *labels;
    struct ipaddr ip[2];      /* len 0: none */
    bool known;               /* false: only named by a slice so far */
    bool mtls;                /* speaks it: carries a sidecar */
    bool host_network, gone;  /* gone: Succeeded or Failed */
    uint16_t n_slices, cap_slices;
    struct ix_slice **slices; /* that name it */
};
struct ix_endpoint {
    struct ipaddr ip;
    bool ready, serving, terminating;
    struct ix_pod *pod;       /* NULL: none named */
    const struct istr *zone;
};
struct ix_port {
    const struct istr *name, *app_protocol, *target_name;
    uint16_t port, target;
    bool tcp;
};
struct ix_slice {
    const struct istr *ns, *name;
    struct ix_service *service; /* NULL: belongs to none */
    struct ix_slice *next;      /* of the service, ordered by name */
    struct ix_port *ports;
    struct ix_endpoint *endpoints;
    uint32_t n_ports, n_endpoints;
};
struct ix_service {
    const struct istr *ns, *name;
    bool known;               /* false: only slices name it so far */
    bool headless, external;
    struct ipaddr *vips;
    uint32_t n_vips, n_ports;
    struct ix_port *ports;
    const struct istr *external_name;
    const struct ilabels *selector; /* NULL: none */
    struct api_strings export_to;   /* annotation networking.istio.io/exportTo; empty: "*" */
    struct ix_slice *slices;
    struct ix_service *next;  /* of the namespace, in no order */
};
/* A Secret's certificates, PEM. Null slices: not there. */
struct ix_secret {
    const struct istr *ns, *name;
    struct arena arena; /* wiped */
    struct slice chain, key, roots, crl, revision;
    bool broken; /* some value is not base64 */
};
/* Policies: `vs`, `dr`, ... by kind. */
struct ix_object {
    uint32_t refs;
    enum index_kind kind;
    struct arena arena;
    const struct obj_meta *meta;
    union {
        const void *any;
        const struct vs *vs;
        const struct dr *dr;
        const struct se *se;
        const struct pa *pa;
        const struct ap *ap;
        const struct mesh_cr *mesh;
        const struct ra *ra;
        const struct gw *gw;
        const struct sc *sc;
        const struct we *we;
        const struct wg *wg;
        const struct pc *pc;
        const struct te *te;
        const struct envoy *envoy; /* EF, WP, TX */
    };
    struct slice *hosts; /* of VS, DR, SE: fully qualified, same order as in the object */
    uint32_t n_hosts;
    bool invalid; /* an error was found: VS, DR and SE are then found by name only, by no host */
};
struct ix_objects { /* oldest first, then by namespace and name */
    struct ix_object **p;
    uint32_t n, cap;
};

/* Borrowed until the next update. */
const struct mesh_cr *index_mesh(const struct index *x); /* defaults when there is none */
struct slice index_cluster_domain(const struct index *x);
const struct ix_service *index_service(const struct index *x, struct slice ns, struct slice name);
/* A fully qualified "name.ns.svc.<cluster domain>"; NULL: no such Service. */
const struct ix_service *index_service_by_host(const struct index *x, struct slice host);
/* Split such a host, whether the Service exists or not. */
bool index_host_split(const struct index *x, struct slice host, struct slice *ret_name,
                      struct slice *ret_ns);
const struct ix_service *index_service_by_vip(const struct index *x, const struct ipaddr *ip);
const struct ix_service *index_services(const struct index *x, struct slice ns); /* then ->next */
const struct ix_slice *index_slice(const struct index *x, struct slice ns, struct slice name);
const struct ix_pod *index_pod(const struct index *x, struct slice ns, struct slice name);
const struct ix_pod *index_pod_by_ip(const struct index *x, const struct ipaddr *ip);
struct slice index_pod_locality(const struct index *x, const struct ix_pod *pod, struct arena *a);
/* Policies by host (exactly as in an object: a name or a wildcard) or by namespace. NULL: none. */
const struct ix_objects *index_vs_of(const struct index *x, struct slice host);
const struct ix_objects *index_dr_of(const struct index *x, struct slice host);
const struct ix_objects *index_se_of(const struct index *x, struct slice host);
const struct ix_objects *index_pa_of(const struct index *x, struct slice ns);
const struct ix_objects *index_ap_of(const struct index *x, struct slice ns);
const struct ix_objects *index_ra_of(const struct index *x, struct slice ns);
const struct ix_objects *index_sc_of(const struct index *x, struct slice ns);
/* Is there an object of this kind at all? Not for core kinds. */
bool index_any(const struct index *x, enum index_kind kind);
const struct ix_secret *index_secret(const struct index *x, struct slice ns, struct slice name);
const struct ix_object *index_object(const struct index *x, enum index_kind kind, struct slice ns,
                                     struct slice name);
const struct ix_objects *index_we_of(const struct index *x, struct slice ns);
/* ServiceEntries that list an address (not as a range), the oldest first: start with `after` NULL.
 * NULL: no further one. */
const struct ix_object *index_se_by_ip(const struct index *x, const struct ipaddr *ip,
                                       const struct ix_object *after);
/* The same for ranges that hold the address: the narrowest range, then the oldest, of those that `sees`
 * takes (NULL: all). */
typedef bool index_sees_fn(void *user, const struct ix_object *o);
const struct ix_object *index_se_by_range(const struct index *x, const struct ipaddr *ip,
                                          index_sees_fn *sees, void *user);
/* ServiceEntries with ranges, the oldest first; NULL: none. */
const struct ix_objects *index_se_ranges(const struct index *x);
/* The oldest WorkloadEntry of that address; NULL: none. */
const struct ix_object *index_we_by_ip(const struct index *x, const struct ipaddr *ip);
/* Does a Service's selector take in this WorkloadEntry of its namespace? */
bool index_entry_selected(const struct ix_object *entry, const struct ilabels *want);
/* The host that index_set_address gave this address; a null slice: none. */
struct slice index_host_by_ip(const struct index *x, const struct ipaddr *ip);
/* The addresses that were set for a host, IPv4 first; how many. */
unsigned index_addresses_of(const struct index *x, struct slice host, struct ipaddr ret[2]);
/* Visit everything of a kind, in no order. Return false to stop. */
typedef bool index_object_fn(void *user, const struct ix_object *o);
typedef bool index_service_fn(void *user, const struct ix_service *s);
typedef bool index_pod_fn(void *user, const struct ix_pod *p);
typedef bool index_node_fn(void *user, const struct k8s_node *n);
void index_each_object(const struct index *x, enum index_kind kind, index_object_fn *fn, void *user);
void index_each_service(const struct index *x, index_service_fn *fn, void *user);
void index_each_pod(const struct index *x, index_pod_fn *fn, void *user);
void index_each_node(const struct index *x, index_node_fn *fn, void *user);
/* The label of a namespace, null when absent or unknown. */
struct slice index_namespace_label(const struct index *x, struct slice ns, struct slice key);

/* A ServiceEntry whose endpoints are written, in itself or as what it selects: STATIC, or DNS with some.
 * DNS without looks up its host; of the others the client has resolved the address itself. */
bool index_se_has_endpoints(const struct se *se);
/* Every destination of the VirtualService is a Service or ServiceEntry of the index. */
bool index_vs_resolves(const struct index *x, const struct ix_object *vs);
/* Some Service or ServiceEntry has this host, or a ServiceEntry's wildcard takes it in. */
bool index_host_known(const struct index *x, struct slice host);

/* Short names stand in the namespace of the object that holds them: "web" is
 * "web.<ns>.svc.<cluster domain>"; names with a dot and wildcards are complete. */
struct slice index_fqdn(const struct index *x, struct slice host, struct slice ns, struct arena *a);
/* exportTo: empty or "*" is everybody, "." the own namespace, "~" nobody, else a namespace. */
bool index_visible(const struct api_strings *export_to, struct slice own_ns, struct slice client_ns);

/* Counts for metrics and tests. */
struct index_stats {
    size_t services, slices, endpoints, pods, policies, strings;
};
struct index_stats index_stats(const struct index *x);
