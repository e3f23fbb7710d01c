/* SPDX-License-Identifier: Apache-2.0 */
/* Events (events.k8s.io/v1) for `kubectl describe`: report transitions, not states. The same report
 * about the same object within six minutes becomes a series (its count is written again, not a new
 * Event). Each object has a burst of 25 and then one per five minutes; at most 4096 are
 * remembered and 64 in flight; what is over is counted, not queued. */
#pragma once

#include "lib/kube/client.h"
#include "lib/kube/resource.h"

struct kube_events;
struct kube_events_opts {
    const char *controller; /* reportingController: "tulle.dev/operator"; copied */
    const char *instance;   /* reportingInstance: the pod's name; copied */
};
int kube_events_new(struct kube_client *client, const struct kube_events_opts *opts,
                    struct kube_events **ret, struct err *err);
/* Events not yet written are dropped. */
void kube_events_free(struct kube_events *e);

struct kube_ref { /* the object that the event is about */
    const struct kube_resource *resource;
    const char *ns, *name, *uid; /* uid "" when unknown; ns "" for cluster-scoped kinds */
};
/* `warning` false = Normal. reason CamelCase (as in conditions), action what was being done
 * ("Reconciling"), note for people (cut at 1024 bytes). Everything is copied. */
void kube_event_report(struct kube_events *e, const struct kube_ref *about, bool warning,
                       const char *reason, const char *action, const char *note);
/* Written, merged into a series, dropped by a limit, refused by the server. */
struct kube_events_stats {
    uint64_t written, merged, dropped, failed;
};
struct kube_events_stats kube_events_stats(const struct kube_events *e);
