/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: server-side apply, status apply, create, delete with preconditions, JSON patch; and the
 * keeping of metav1 conditions. Each call is one kube_request: cancel it with kube_cancel. */
#pragma once

#include "lib/kube/client.h"
#include "lib/kube/resource.h"

/* PATCH ...?fieldManager=&force= with application/apply-patch+yaml. `obj` holds only the fields we
 * own; apiVersion, kind, metadata.name and namespace are filled in where missing. `sub` NULL, or
 * "status". A conflict (force false) is ERR_CONFLICT whose text names the other manager. */
struct kube_call *kube_apply(struct kube_client *c, const struct kube_resource *r, const char *ns,
                             const char *name, const char *sub, const json_t *obj,
                             const char *manager, bool force, kube_done_fn *done, void *user);
/* POST; ERR_EXISTS when it is there already. */
struct kube_call *kube_create(struct kube_client *c, const struct kube_resource *r, const char *ns,
                              const json_t *obj, const char *manager, kube_done_fn *done,
                              void *user);
struct kube_call *kube_get(struct kube_client *c, const struct kube_resource *r, const char *ns,
                           const char *name, kube_done_fn *done, void *user);
/* PUT with the resourceVersion that obj carries as precondition (ERR_CONFLICT). */
struct kube_call *kube_update(struct kube_client *c, const struct kube_resource *r, const char *ns,
                              const char *name, const json_t *obj, const char *manager,
                              kube_done_fn *done, void *user);
/* `uid` and `rv` are preconditions (NULL = none): ERR_CONFLICT when they do not hold. */
struct kube_call *kube_delete(struct kube_client *c, const struct kube_resource *r, const char *ns,
                              const char *name, const char *uid, const char *rv, kube_done_fn *done,
                              void *user);
/* RFC 6902; `ops` is an array. */
struct kube_call *kube_patch_json(struct kube_client *c, const struct kube_resource *r,
                                  const char *ns, const char *name, const char *sub,
                                  const json_t *ops, const char *manager, kube_done_fn *done,
                                  void *user);

/* --- conditions (pure) ------------------------------------------------------------------------ */
struct kube_condition {
    const char *type;     /* "Accepted" */
    const char *status;   /* "True", "False", "Unknown" */
    const char *reason;   /* stable CamelCase token, not empty */
    const char *message;  /* for people; cut at 32768 bytes */
    int64_t generation;   /* metadata.generation that was judged; 0 = leave out */
    bool generation_text; /* write observedGeneration as a string (Istio's int-or-string) */
};
/* A new conditions array with the wanted ones in their order: lastTransitionTime is taken over from
 * `old` (array or NULL) where type and status are the same, else it is `wall_ns`. Conditions in
 * `old` of other types are not carried over: with server-side apply each manager sends its own.
 * New reference, NULL when out of memory. */
json_t *kube_conditions(const json_t *old, const struct kube_condition *want, size_t n,
                        int64_t wall_ns);
/* True when each wanted condition stands in `have` as it is wanted (times aside): nothing to write.
 */
bool kube_conditions_same(const json_t *have, const struct kube_condition *want, size_t n);
/* The condition of that type, NULL when absent. Borrowed. */
const json_t *kube_condition_find(const json_t *conditions, const char *type);
