/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said about an object only with others in view: names that lead nowhere, claims that
 * conflict, selectors that select nothing, calls that go unencrypted. Pure: the picture is a
 * mesh/index, filled from a cluster (status) or from files (`tulle analyze`). Findings of the
 * object by itself are mesh/api's (api_check). */
#pragma once

#include "mesh/index/index.h"

struct analysis {
    const struct index *index;
    /* The picture may lack what is not in the files at hand: what is missing is told only of
     * namespaces of which something of its sort is there. */
    bool partial;
};

/* Findings of one object that the index holds: of Istio's kinds, Service, Namespace or Pod; nothing
 * for one that it does not hold. Appended to `f`; texts live in its arena, scratch is `tmp`.
 * Deterministic. Cost: O(what the object names), and O(pods) for each selector. */
void analyze_object(const struct analysis *a, enum index_kind kind, struct slice ns,
                    struct slice name, struct arena *tmp, struct findings *f);

/* Every place in view that makes calls between workloads go unencrypted although sidecars could speak
 * mutual TLS: "Service shop/web spec.selector: 1 of 2 pods ...". Sorted, in `arena`; NULL without any
 * or without memory. Cost: O(endpoints), and O(pods) for each rule that sets tls. */
struct slice *analyze_edges(const struct analysis *a, struct arena *arena, size_t *ret_n);

/* A workload as users write it: Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob.
 * Its pod template is judged: annotations, resources, who can collect its metrics. Nothing for
 * others. */
void analyze_workload(const struct analysis *a, const json_t *obj, struct arena *tmp,
                      struct findings *f);
bool analyze_is_workload(const json_t *obj);

/* Put an object from a file into the index. A workload is put as one pod of its name with the
 * labels of its template, so that selectors find it. Objects of other kinds are left out. -1 as
 * index_put. */
int analyze_put(struct index *x, const json_t *obj, struct err *err);
