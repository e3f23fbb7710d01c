/* SPDX-License-Identifier: Apache-2.0 */
/* The reflector: keeps a sink equal to a collection of the API server. It streams the initial state
 * (WatchList) and falls back to paged list plus watch, resumes after breaks from the last resource
 * version, relists when that expired, and backs off with jitter, as client-go's reflector does. A
 * kind whose CRD is not there is reported as absent (an empty collection) and looked for slowly. */
#pragma once

#include "lib/kube/client.h"
#include "lib/kube/resource.h"

/* Receives the collection. A list is bracketed by begin and end: what was known before and is not
 * put in between is gone; a second begin without an end means that the list broke off and starts
 * anew. Outside of a bracket put and remove are changes. Objects are borrowed for the call
 * (json_incref to keep one). kube_store is a sink. */
struct kube_sink {
    void (*begin)(struct kube_sink *s);
    void (*put)(struct kube_sink *s, json_t *obj);
    void (*remove)(struct kube_sink *s, json_t *obj);
    /* The list is complete: the sink holds the state of one moment. `absent`: the kind is not
     * served (then nothing was put). */
    void (*end)(struct kube_sink *s, bool absent);
};

struct kube_watch;
struct kube_watch_opts {
    const struct kube_resource *resource; /* borrowed for ever */
    const char *ns;                       /* NULL = cluster-wide; copied, as are the next two */
    const char *labels, *fields;          /* selectors, NULL = none */
    bool metadata_only;                   /* PartialObjectMetadata: no spec, no status */
    bool paged;                           /* list by pages, without asking for WatchList first */
    struct kube_sink *sink;               /* borrowed until kube_watch_stop */
};
struct kube_watch_stats {
    uint64_t lists, watches, events, errors; /* since start; errors = failed requests and streams */
    int64_t last_event_ns;          /* loop time of the last event or bookmark, 0 = never */
    bool synced, absent, streaming; /* streaming: a watch is open now */
    const char *state;              /* name for /debug */
    const char *rv;                 /* last resource version; valid until the next turn */
    struct err last_err;
};

int kube_watch_start(struct kube_client *client, const struct kube_watch_opts *opts,
                     struct kube_watch **ret, struct err *err);
/* No call to the sink comes any more. NULL is fine; allowed inside the sink's callbacks. */
void kube_watch_stop(struct kube_watch *w);
/* Look again now instead of at the end of a wait: the CRD was installed, the network is back. */
void kube_watch_poke(struct kube_watch *w);
/* The first list was completed (or the kind is absent). Readiness waits for it. Stays true. */
bool kube_watch_synced(const struct kube_watch *w);
struct kube_watch_stats kube_watch_stats(const struct kube_watch *w);
