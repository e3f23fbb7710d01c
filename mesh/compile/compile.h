/* SPDX-License-Identifier: Apache-2.0 */
/* The index, looked at by one client, to the resources that its proxy executes: pure functions. Equal
 * pictures give equal bytes, whatever the order in which objects came.
 *
 * Besides the resource, a compilation names the objects that contributed (for their status), what is
 * wrong with them (missing subsets and hosts, lost conflicts), and the tokens of the index that it
 * looked at: it must be repeated when one of them changes, and only then.
 *
 * Keys: SETTINGS, INBOUND, NAMES "" ; SERVICE "authority:port" or "address:port"; WORKLOAD address;
 * ENDPOINTS as clusters name them: "EndpointSlice/<ns>/<name>/<port name>",
 * "ServiceEntry/<ns>/<name>/<port>", "WorkloadEntry/<ns>/<service>/<port>" (those that the Service
 * selects), "Pod/<address>/<port>". */
#pragma once

#include "mesh/index/index.h"
#include "mesh/match/program.h"
#include "mesh/wire/wire.h"

/* Whose view it is. Slices are borrowed for the call. `labels` may be NULL. */
struct compile_client {
    struct slice namespace_, pod; /* pod: name, for INBOUND */
    const struct ilabels *labels; /* for sourceLabels and workload selectors */
};
/* From a pod of the index; *ret borrows from it. */
void compile_client_of_pod(const struct ix_pod *pod, struct compile_client *ret);

struct compile_input {
    const struct index *index;
    struct slice roots_pem;      /* trust bundle for SETTINGS */
    uint32_t issuer, renew_within_s; /* of SETTINGS, while the CA changes */
    struct slice cluster_name;   /* label `cluster` of workloads; empty: "Kubernetes" */
};

struct origin {
    enum index_kind kind;
    struct slice ns, name;
    int64_t generation;
};
struct compile_problem {
    enum finding_kind finding; /* REFERENCE, CONFLICT, UNSUPPORTED, CLOSED */
    enum index_kind kind;      /* of the object to tell */
    struct slice ns, name;
    struct slice path, text;   /* as in struct finding */
};
struct compiled {
    enum prog_kind kind;
    enum prog_state state; /* VALUE, ABSENT, or WITHHELD: the payload is there, but it refers to what
                            * does not exist (yet): send it only to who holds nothing */
    struct slice payload;  /* empty when ABSENT */
    struct wire_version version;
    struct origin *origins; /* distinct, ordered */
    struct compile_problem *problems;
    uint64_t *deps; /* tokens, distinct, ordered */
    unsigned looks; /* COMPILE_LOOKS_*: what of the client it depends on; every client that has the same
                     * in these gets exactly this */
    struct slice *endpoint_keys; /* of a SERVICE: ENDPOINTS that it needs, distinct, ordered */
    uint32_t n_origins, n_problems, n_deps, n_endpoint_keys;
};

enum { COMPILE_LOOKS_NAMESPACE = 1, COMPILE_LOOKS_LABELS = 2, COMPILE_LOOKS_POD = 4 };

/* Compile one resource; everything in *ret lives in `a`. ERR_INVALID: the key cannot be one of that
 * kind; ERR_NOMEM. A service that does not exist is state ABSENT with the tokens that would make it
 * appear. */
enum err_code compile_resource(const struct compile_input *in, const struct compile_client *client,
                               enum prog_kind kind, struct slice key, struct arena *a,
                               struct compiled *ret);

/* The value again, decoded, with one reference (for `tulle proxy-config`, explain, tests). */
int compile_value(const struct compiled *c, struct slice key, struct prog **ret, struct err *err);
/* Warm set: keys of the services of a namespace, "name.ns.svc.domain:port", ordered. */
enum err_code compile_service_keys(const struct compile_input *in, struct slice ns, struct arena *a,
                                   struct slice **ret, uint32_t *ret_n);

/* The mTLS mode in force on a workload's port: PeerAuthentication of the workload, its namespace, the
 * root namespace, then PERMISSIVE; never below the mesh's floor. Port 0: the mode of other ports.
 * *ret_from (may be NULL) gets the object that decided, NULL for the default. */
enum pa_mode compile_mtls_mode(const struct index *x, const struct ix_pod *pod, uint16_t port,
                               const struct ix_object **ret_from);
/* Protocol of a port: appProtocol, then the name's prefix, then well-known ports, else AUTO. */
enum prog_protocol compile_protocol(struct slice app_protocol, struct slice name, uint16_t port);
