/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of a controller: a queue of keys, a function that plans one key, and the writing of the
 * plan. Each ctl_<noun>.c is one of them. */
#pragma once

#include "lib/kube/client.h"
#include "lib/kube/events.h"
#include "lib/kube/queue.h"
#include "operator/metrics.h"
#include "operator/model.h"
#include "operator/plan.h"
#include "operator/push.h"
#include "operator/replicas.h"
#include "operator/signer.h"

struct ctl_ca;

/* What all controllers share; borrowed from main. */
struct op {
    struct loop *loop;
    struct kube_client *kube; /* NULL with a folder of files: then there are no controllers */
    struct kube_events *events;
    struct model model;
    struct signer *signer;
    struct push *push;
    struct replicas *replicas; /* NULL with a folder of files */
    struct opm metrics;
    struct ctl_ca *ca;
    struct ctl *ctls; /* every controller, for the metrics */
    const char *ns, *pod, *revision, *cluster_id;
    const char *proxy_image, *pull_policy;
    bool leader;
};

enum { CTL_CONCURRENCY = 8 }; /* keys of one controller that are worked on at a time */
struct ctl {
    struct op *op;
    const char *name;
    bool leader_only;  /* runs only while the Lease is held */
    struct kube_queue *queue;
    /* Observe and plan `key`. ERR_AGAIN: something it needs is under way, ctl_poke will follow.
     * *ret_recheck_ns > 0: look again then. */
    int (*plan)(struct ctl *c, struct slice key, struct plan *ret, int64_t *ret_recheck_ns,
                struct err *err);
    /* The plan of `key` was written. May be NULL. */
    void (*written)(struct ctl *c, struct slice key);
    struct ctl_job *jobs;
    struct ctl *next; /* of op->ctls */
};
int ctl_init(struct ctl *c, struct op *op, const char *name, bool leader_only, struct err *err);
void ctl_fini(struct ctl *c);
void ctl_poke(struct ctl *c, struct slice key);
void ctl_poke_after(struct ctl *c, struct slice key, int64_t delay_ns);
/* The Lease was won or lost. */
void ctl_leader(struct ctl *c, bool leader);

/* Each controller; NULL op->kube makes none. */
struct ctl_rootcert;
int ctl_rootcert_new(struct op *op, struct ctl_rootcert **ret, struct err *err);
void ctl_rootcert_changed(struct ctl_rootcert *c); /* the CA's bundle */
void ctl_rootcert_free(struct ctl_rootcert *c);

struct ctl_webhook;
int ctl_webhook_new(struct op *op, struct ctl_webhook **ret, struct err *err);
void ctl_webhook_changed(struct ctl_webhook *c);
void ctl_webhook_leader(struct ctl_webhook *c, bool leader);
/* Webhook configurations of another injector, "" when none; borrowed. */
const char *ctl_webhook_foreign(const struct ctl_webhook *c);
int64_t ctl_webhook_not_after(const struct ctl_webhook *c); /* 0 = no certificate seen */
void ctl_webhook_free(struct ctl_webhook *c);

/* How many proxies follow the CA's change. */
struct ca_progress {
    unsigned followed, proxies;
};
struct ctl_ca;
/* `moved`: the counts did. Works without an API server, too. */
int ctl_ca_new(struct op *op, void (*moved)(void *user), void *user, struct ctl_ca **ret,
               struct err *err);
struct ca_progress ctl_ca_progress(const struct ctl_ca *c);
void ctl_ca_free(struct ctl_ca *c);

struct ctl_injector;
int ctl_injector_new(struct op *op, struct ctl_injector **ret, struct err *err);
void ctl_injector_free(struct ctl_injector *c);

struct ctl_mesh;
int ctl_mesh_new(struct op *op, struct ctl_webhook *webhook, struct ctl_mesh **ret,
                 struct err *err);
void ctl_mesh_changed(struct ctl_mesh *c);
void ctl_mesh_leader(struct ctl_mesh *c, bool leader);
void ctl_mesh_free(struct ctl_mesh *c);

struct ctl_status;
int ctl_status_new(struct op *op, struct ctl_status **ret, struct err *err);
void ctl_status_touched(struct ctl_status *c, enum index_kind kind, struct slice ns,
                        struct slice name);
/* The same by its key, "Kind ns/name". */
void ctl_status_poke(struct ctl_status *c, struct slice key);
void ctl_status_leader(struct ctl_status *c, bool leader);
void ctl_status_free(struct ctl_status *c);
