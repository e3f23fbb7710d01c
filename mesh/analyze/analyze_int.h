/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "mesh/analyze/analyze.h"

struct an {
    const struct index *x;
    bool partial;
    struct arena *tmp;
    struct findings *f;
    const struct ix_object *o; /* the object, NULL for core kinds */
};

/* A finding at a path that is formatted; one of the same kind at the same path is told once. */
__attribute__((format(printf, 4, 5))) void an_add(struct an *an, enum finding_kind kind,
                                                  const char *path, const char *fmt, ...);
/* "spec.http[3].route[0]": in tmp; "" without memory. */
__attribute__((format(printf, 2, 3))) const char *an_path(struct an *an, const char *fmt, ...);

/* Some pod of the namespace (all namespaces when `ns` is empty) has these labels. */
bool an_any_pod(struct an *an, struct slice ns, const struct api_map *labels);
bool an_any_pod_at_all(struct an *an, struct slice ns);
bool an_meshed(struct an *an, struct slice ns); /* sidecars are injected there */

/* Where a host leads: a Service, a ServiceEntry, or nowhere. */
struct an_host {
    struct slice host; /* complete */
    const struct ix_service *service;
    const struct ix_object *entry;
    bool silent; /* not found, but the picture may lack it */
};
struct an_host an_host_of(struct an *an, struct slice host, struct slice ns);
static inline bool an_host_found(const struct an_host *h)
{
    return h->service || h->entry;
}
/* Where a route leads is there: host, port and subset. */
void an_destination(struct an *an, const struct vs_destination *d, const char *path);
/* Pods of a service, from its slices, else by its selector. Return false to stop. */
typedef bool an_pod_fn(void *user, const struct ix_pod *p);
void an_each_pod_of(struct an *an, const struct ix_service *s, an_pod_fn *fn, void *user);

/* Does some pod have the labels? In the root namespace, where `root_is_all`, of any namespace. */
void an_selector(struct an *an, const struct api_selector *s, bool root_is_all, const char *path);
void an_se(struct an *an);
void an_we(struct an *an);
void an_mtls_dr(struct an *an);
void an_mtls_pa(struct an *an);
void an_sidecar(struct an *an);
void an_ap(struct an *an); /* AuthorizationPolicy */
void an_service(struct an *an, const struct ix_service *s);
void an_mixed(struct an *an, const struct ix_service *s); /* pods with and without sidecar */
void an_namespace(struct an *an, struct slice name);
void an_pod(struct an *an, const struct ix_pod *p);
