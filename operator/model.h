/* SPDX-License-Identifier: Apache-2.0 */
/* What the operator knows of the cluster: the index that resources are compiled from, and beside it
 * the few facts that controllers need (sidecars in pods, labels of namespaces, status of objects).
 * Sources put objects in, listeners hear of it. One thread. */
#pragma once

#include "lib/base/map.h"
#include "mesh/api/findings.h"
#include "mesh/index/index.h"

struct ns_fact {
    bool meshed;       /* istio-injection=enabled, or istio.io/rev of ours */
    bool off;          /* istio-injection=disabled */
    bool no_net_admin; /* Pod Security enforces baseline or restricted */
    bool terminating;
};
struct image_id { /* hashes of an image's last name and of what follows it: tag, digest; 0, 0: not told */
    uint32_t name, version;
};
struct pod_fact {
    struct image_id image; /* of the sidecar; not told where the pod itself chose it */
    bool proxy, proxy_ready, gone, host_network;
    bool in, out; /* label or annotation sidecar.istio.io/inject: true, false */
};
struct policy_fact { /* of an object of Istio's kinds, or Mesh */
    enum index_kind kind;
    int64_t generation;
    char uid[64];
    char *status;            /* JSON text, NULL = none */
    struct arena arena;      /* of the findings */
    struct findings *findings; /* of the object by itself; NULL: nothing to say */
    struct api_strings addresses; /* "host=ip" that the status keeps */
};

struct model_listener { /* each may be NULL */
    void (*changes)(void *user, const struct index_changes *c);
    void (*namespace_)(void *user, struct slice name);
    void (*pod)(void *user, struct slice ns, struct slice name);
    void (*node)(void *user);
    void (*policy)(void *user, enum index_kind kind, struct slice ns, struct slice name);
    void (*synced)(void *user); /* the first time that everything was read */
    void *user;
};
enum { MODEL_LISTENERS = 8 };

struct model {
    struct index *index;
    struct map namespaces;       /* name -> struct ns_fact */
    struct map pods;             /* ns/name -> struct pod_fact */
    struct map policies;         /* Kind ns/name -> struct policy_fact */
    struct model_listener listeners[MODEL_LISTENERS];
    unsigned n_listeners;
    const char *revision, *system_ns; /* borrowed */
    uint64_t refused;            /* objects that could not be decoded */
    uint32_t unplaced;           /* hosts for which no address is left */
    bool synced;
};

int model_init(struct model *m, const char *system_ns, const char *revision, struct err *err);
void model_fini(struct model *m);
void model_listen(struct model *m, const struct model_listener *l);

void model_put(struct model *m, enum index_kind kind, const json_t *obj);
void model_remove(struct model *m, enum index_kind kind, struct slice ns, struct slice name);
/* Everything was read once: tells the listeners, the first time. */
void model_set_synced(struct model *m);

const struct ns_fact *model_namespace(const struct model *m, struct slice name);
const struct policy_fact *model_policy(const struct model *m, enum index_kind kind, struct slice ns,
                                       struct slice name);
/* Set an address of a host (see index_set_address) and tell the listeners. */
void model_set_address(struct model *m, struct slice host, const struct ipaddr *ip);

/* Pure: what labels and annotations of an object say. */
struct ns_fact ns_fact_of(const json_t *ns, const char *revision);
struct pod_fact pod_fact_of(const json_t *pod);
struct image_id image_id_of(struct slice image);
/* The sidecar's image is the mesh's by name, of another release. */
bool pod_is_old(const struct pod_fact *pod, struct image_id mesh);
