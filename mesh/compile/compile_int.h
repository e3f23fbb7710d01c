/* SPDX-License-Identifier: Apache-2.0 */
/* What compile's own files share: one compilation under way. Want of memory is sticky (`nomem`) and
 * checked once at the end; helpers then give null slices and NULL arrays of length 0. */
#pragma once

#include <stdlib.h>

#include "lib/data/host.h"
#include "mesh/compile/compile.h"

struct cc {
    const struct compile_input *in;
    const struct index *x;
    const struct mesh_cr *mesh;
    const struct compile_client *viewer; /* by cc_ns and the like only, which note what was looked at */
    unsigned looks;
    struct arena *a;
    enum prog_state state;
    const struct ix_object *sidecar; /* by scope_sidecar only */
    enum { SCOPE_OFF, SCOPE_CALL, SCOPE_DESTINATION } scope; /* how target_of_host looks at it */
    bool sidecar_known;
    const struct sc_egress *entry; /* of whose hosts alone is asked; NULL: all */
    bool nomem;
    struct origin *origins;
    struct compile_problem *problems;
    uint64_t *deps;
    uint32_t n_origins, n_problems, n_deps, cap_origins, cap_problems, cap_deps;
};

/* --- the client: whatever is read of it narrows who may share the result ------------------------- */
static inline struct slice cc_ns(struct cc *c)
{
    c->looks |= COMPILE_LOOKS_NAMESPACE;
    return c->viewer->namespace_;
}
static inline struct slice cc_pod(struct cc *c)
{
    c->looks |= COMPILE_LOOKS_POD;
    return c->viewer->pod;
}
/* Has the client these labels? Of no labels it is not asked. */
bool cc_labels_cover(struct cc *c, const struct api_map *want);
/* The value of a label of the client. */
struct slice cc_label(struct cc *c, struct slice key);
/* Does an exportTo of an object in own_ns show it to everybody? */
bool cc_public(const struct api_strings *export_to);
/* ...to the client? */
bool cc_visible(struct cc *c, const struct api_strings *export_to, struct slice own_ns);

struct slice cc_printf(struct cc *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct slice cc_copy(struct cc *c, struct slice s); /* empty gives the null slice */
void *cc_array(struct cc *c, size_t n, size_t size);
#define CC_ARRAY(c, T, n) ((T *)cc_array((c), (n), sizeof(T)))
/* Append one zeroed element to an array in the arena; NULL without memory. */
void *cc_grow(struct cc *c, void *p_array, uint32_t *n, uint32_t *cap, size_t size);
/* A list of at most n strings to be filled: ->n counts them. */
struct prog_strings cc_strings(struct cc *c, size_t n);
struct prog_strings cc_copy_strings(struct cc *c, const struct api_strings *from);
void cc_dep(struct cc *c, uint64_t token);
void cc_origin(struct cc *c, enum index_kind kind, const struct obj_meta *m);
void cc_problem(struct cc *c, enum finding_kind finding, enum index_kind kind,
                const struct obj_meta *m, struct slice path, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/* "*.b.c", "*.c", "*" of "a.b.c", the most specific first, after the host itself. Start with
 * *pattern null; false at the end. */
bool cc_next_pattern(struct cc *c, struct slice host, struct slice *pattern);
uint32_t cc_ms(int64_t ns);               /* rounded up; 0 stays 0 */
uint32_t cc_permyriad(double percent);
struct slice cc_identity(struct cc *c, struct slice ns, struct slice sa);

/* --- hosts (target.c) --- */
enum target_kind { TARGET_NONE, TARGET_SERVICE, TARGET_SE, TARGET_HOST, TARGET_POD };
struct target {
    enum target_kind kind;
    struct slice host; /* fully qualified, as the client means it */
    struct slice ns;   /* of the object */
    const struct ix_service *svc;
    const struct ix_object *se;
    const struct ix_pod *pod;
    const struct ix_object *vs; /* the VirtualService that holds for it here, NULL: none */
};
struct target_port {
    uint16_t port;
    struct slice name;
    enum prog_protocol protocol;
};
/* What a fully qualified host is to this client: a Service or ServiceEntry. Of ServiceEntries the oldest
 * that has the port; the oldest where none has, or port is 0. */
struct target target_of_host(struct cc *c, struct slice host, uint32_t port);
/* The same for what a route leads to: what the client's Sidecar lets it see first, else what there is. */
struct target target_of_destination(struct cc *c, struct slice host, uint32_t port);
/* What an authority's host, possibly short, is to this client. */
struct target target_of_authority(struct cc *c, struct slice host, uint32_t port);
struct target target_of_ip(struct cc *c, const struct ipaddr *ip, uint32_t port);
/* The port of that number; 0: the only port there is. False when there is none. */
bool target_port_find(const struct target *t, uint32_t port, struct target_port *ret);
/* The VirtualService in force for the host in this client's sidecar; NULL: none. */
const struct ix_object *target_vs(struct cc *c, struct slice host, uint32_t port);

/* --- Sidecars (scope.c) --- */
/* The Sidecar that holds for the client; NULL: none. */
const struct ix_object *scope_sidecar(struct cc *c);
/* Where it sends what the client calls and nobody described; NULL: nowhere. */
const struct vs_destination *scope_egress_proxy(struct cc *c);
/* Does the sidecar listen for the entry itself, outside of redirection? */
bool scope_opens(const struct sc_egress *e);
bool scope_takes_in(const struct sc_ingress *i);
/* What an entry with that port says a connection speaks; `otherwise` where none does. */
enum prog_protocol scope_protocol(struct cc *c, struct slice ns, struct slice host, uint16_t port,
                                  enum prog_protocol otherwise);
/* Does it let the client see a host of a Service or ServiceEntry in `ns`, called on this port (0: some)? */
bool scope_sees(struct cc *c, struct slice ns, struct slice host, uint32_t port);
/* ...a VirtualService by one of its hosts? */
bool scope_sees_vs(struct cc *c, const struct ix_object *vs, struct slice host, uint32_t port);
/* ...a pod by its address? As it sees the Services that the pod serves. */
bool scope_sees_pod(struct cc *c, const struct ix_pod *pod);
/* Does a VirtualService that the client sees lead to the host? */
bool scope_leads_to(struct cc *c, struct slice host, uint32_t port);

/* --- clusters (cluster.c) --- */
struct gate;
struct builder { /* of one service */
    struct prog_service *s;
    const struct target *target;
    const struct gate *gate; /* of a gateway, to which routes must be bound; NULL: sidecars */
    uint32_t cap_clusters;
    uint16_t port;
};
/* Index of the cluster for host, port (0: as found) and subset; made once. `vs` and `path` name who
 * asked, for problems; vs may be NULL. */
uint32_t cluster_for(struct cc *c, struct builder *b, struct slice host, uint32_t port,
                     struct slice subset, const struct ix_object *vs, struct slice path);
/* The cluster of a pod that was dialled by its address. */
uint32_t cluster_for_pod(struct cc *c, struct builder *b, const struct target_port *port,
                         const struct ix_service *svc, const struct ipaddr *ip);
uint64_t selector_hash(const struct api_map *labels); /* 0 for no labels */

/* --- DestinationRules (rule.c) --- */
enum { RULE_CONNECT_TIMEOUT_MS = 10000 }; /* Istio's default */
/* Fill what the rules for `t` give the port and `to->subset`. False: no rule has that subset. */
bool rule_apply(struct cc *c, const struct target *t, uint16_t port, struct prog_cluster *to);
/* The limits that a connectionPool sets. */
void rule_pool(struct cc *c, const struct dr_connection_pool *p, struct prog_cluster *to);
/* Does a rule that selects the client's workload name the Secret of the client's namespace? */
bool rule_needs(struct cc *c, struct slice name);
/* One label of failoverPriority, "key" or "key=value". False: it never tells endpoints apart here. */
bool rule_rank(struct cc *c, struct slice text, enum prog_likeness *ret_kind, struct slice *ret_key,
               struct slice *ret_value);

enum { UNIX_PATH_MAX = 107 /* unix(7) */ };

/* --- TLS that proxies end (server_tls.c) --- */
struct tls_source { /* who asks for it */
    enum index_kind kind;
    const struct obj_meta *meta;
    struct slice path; /* "spec.servers[0].tls" */
};
/* Fill a gate of mode `to->tls`; what is missing is told. `t` may be NULL. */
void server_tls(struct cc *c, const struct tls_source *s, const struct gw_tls *t,
                struct prog_gate *to);
/* Does it name this Secret; any Secret? */
bool server_tls_names(const struct gw_tls *t, struct slice secret);
bool server_tls_secrets(const struct gw_tls *t);
/* Does a Gateway that selects the client's pod name the Secret? Nobody else's gateway is told of it. */
bool gateway_needs(struct cc *c, struct slice name);
/* Does a port of the client's Sidecar, as far as that may give it Secrets? */
bool ingress_needs(struct cc *c, struct slice name);

/* --- a VirtualService's routes with those of its delegates in their place (delegate.c) --- */
struct http_item {
    const struct vs_http *r;
    const struct ix_object *o; /* that wrote it: names stand in its namespace */
    struct slice path;         /* in that object */
};
struct http_items {
    struct http_item *p;
    uint32_t n, cap;
};
void http_items_of(struct cc *c, const struct ix_object *o, struct http_items *ret);
void http_item_add(struct cc *c, struct http_items *to, const struct vs_http *r,
                   const struct ix_object *o, struct slice path);

/* --- routes (route.c) --- */
void routes_default(struct cc *c, struct builder *b, uint32_t cluster, bool http, bool tcp);
void routes_of_vs(struct cc *c, struct builder *b, const struct ix_object *vs,
                  enum prog_protocol protocol, bool fallback);

/* --- one per kind --- */
struct prog *compile_settings(struct cc *c);
struct prog *compile_names(struct cc *c);
struct prog *compile_inbound(struct cc *c);
struct prog *compile_service(struct cc *c, struct slice key, enum err_code *rc);
/* The routes of a gateway's host (vhost.c); NULL: there is no such gate, or nothing is bound to it. */
struct prog *compile_vhost(struct cc *c, struct slice gate, struct slice host);
struct prog *compile_listeners(struct cc *c);
/* Listeners of the client's own Sidecar (egress.c), and what is behind one: `key` is "host:port", or "*" for
 * bytes; NULL: nothing. */
struct prog *compile_egress_listeners(struct cc *c);
struct prog *compile_egress(struct cc *c, struct slice gate, struct slice key);
/* What is at an address that an egress entry is bound to; NULL: none is. */
struct prog *compile_bound(struct cc *c, const struct ipaddr *ip, uint16_t port);
/* What a host, possibly short, is to the client on that port; NULL: nothing. */
struct prog_service *service_of_host(struct cc *c, struct slice host, uint16_t port);
struct prog *compile_credential(struct cc *c, struct slice key);
/* From the Secret of that name in the client's namespace (roots also from NAME-cacert); false: there
 * is none, or it holds nothing of use. Whether the client may have it is the caller's to know. */
bool credential_fill(struct cc *c, struct slice name, struct prog_credential *ret);
/* Where a WorkloadEntry serves a Service's port; 0: nowhere. A named targetPort must be in the entry's map;
 * else the map may have the service port's name. */
uint32_t entry_port(const struct se_endpoint *e, const struct ix_port *p);
/* The number of a container port by name; 0: none. */
uint16_t pod_named_port(const struct ix_pod *pod, struct slice name);
struct prog *compile_endpoints(struct cc *c, struct slice key, enum err_code *rc);
struct prog *compile_workload(struct cc *c, struct slice key, enum err_code *rc);
void fill_workload(struct cc *c, const struct ix_pod *p, struct prog_workload *ret);
/* A resource value in the arena of the compilation: never unref'd, gone with the arena. */
void *cc_prog(struct cc *c, enum prog_kind kind, size_t size);
