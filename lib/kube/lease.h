/* SPDX-License-Identifier: Apache-2.0 */
/* Leader election on a coordination.k8s.io/v1 Lease: 15 s lease, 10 s renew deadline, 2 s retry.
 * Who holds it is judged by the local clock alone (a record is taken to be fresh from the moment
 * this process saw it change), so that skewed civil clocks cannot make two holders: a holder stops
 * at the renew deadline, before any other may take over. Written with resourceVersion as
 * precondition. */
#pragma once

#include "lib/kube/client.h"

struct kube_lease;
struct kube_lease_opts {
    const char *ns, *name, *identity;                 /* copied */
    int64_t duration_ms, renew_deadline_ms, retry_ms; /* 0 = 15000, 10000, 2000 */
    /* We hold it now / we do not any more (lost, or stopped while held). Never twice in a row.
     * `lost` means: stop writing at once. May call kube_lease_stop. */
    void (*acquired)(void *user);
    void (*lost)(void *user);
    /* Another holder was seen ("" = nobody). May be NULL. Borrowed for the call. */
    void (*leader)(void *user, const char *identity);
    void *user;
};

int kube_lease_start(struct kube_client *client, const struct kube_lease_opts *opts,
                     struct kube_lease **ret, struct err *err);
/* True while held and the renew deadline has not passed: asks the clock, so it is right even when
 * the loop was stuck. Check before each write. */
bool kube_lease_held(const struct kube_lease *l);
const char *kube_lease_holder(const struct kube_lease *l); /* last seen, "" = unknown or nobody */
/* Give it up: calls `lost` when held, then writes holderIdentity "" and calls `done` (may be NULL),
 * at most 2 s later. The lease is dead after `done`. */
void kube_lease_stop(struct kube_lease *l, void (*done)(void *user), void *user);

/* --- pure: what to do with what was read ------------------------------------------------------ */
struct kube_lease_view {  /* what this process knows */
    const char *identity; /* ours */
    const char *holder;   /* of the record, "" = nobody */
    bool exists;          /* there is a record */
    int64_t seen_ns;      /* when the record was last seen to change (monotonic) */
    int64_t lease_ns;     /* leaseDurationSeconds of the record */
    int64_t now_ns;
};
enum kube_lease_act { KUBE_LEASE_WAIT, KUBE_LEASE_CREATE, KUBE_LEASE_RENEW, KUBE_LEASE_TAKE };
enum kube_lease_act kube_lease_decide(const struct kube_lease_view *v);
/* The Lease to write for an act: acquireTime and transitions carried over from `old` (may be NULL)
 * unless the holder changes; resourceVersion of `old` as precondition. `identity` "" releases.
 * New reference, NULL when out of memory. */
json_t *kube_lease_record(const json_t *old, const char *ns, const char *name, const char *identity,
                          int64_t duration_ms, int64_t wall_ns);
