/* SPDX-License-Identifier: Apache-2.0 */
/* What a reconciliation wants to write, as data: steps in order, made by a pure function, printed as
 * text for goldens and logs, run one after the other by the shell. An empty plan is the proof of
 * convergence. */
#pragma once

#include "lib/base/vec.h"
#include "lib/kube/apply.h"

enum plan_verb { PLAN_APPLY, PLAN_STATUS, PLAN_DELETE };
struct plan_step {
    enum plan_verb verb;
    enum kube_kind kind;
    char ns[64], name[254];
    const char *manager; /* static */
    json_t *body;        /* owned; NULL for a deletion */
};
struct plan {
    VEC(struct plan_step) steps;
    bool nomem;
};
/* `body` is stolen (NULL counts as out of memory, but for PLAN_DELETE). */
void plan_add(struct plan *p, enum plan_verb verb, enum kube_kind kind, struct slice ns,
              struct slice name, const char *manager, json_t *body);
void plan_fini(struct plan *p);
/* "apply ConfigMap shop/istio-ca-root-cert as tulle-operator {...}" per line. Data of Secrets is left
 * out. */
void plan_text(const struct plan *p, struct buf *out);

struct plan_run;
/* Err NULL: all written. Else the first failure; later steps were not tried. */
typedef void plan_done_fn(void *user, const struct err *err);
/* Takes the plan's steps. `done` comes later, once, unless cancelled. NULL: out of memory. */
struct plan_run *plan_run(struct kube_client *kube, struct plan *p, plan_done_fn *done, void *user);
void plan_cancel(struct plan_run *r);
