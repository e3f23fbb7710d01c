/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster of the user's kubeconfig, for commands that run from top to bottom. */
#pragma once

#include "lib/io/loop.h"
#include "lib/kube/client.h"

struct cluster {
    struct clock clock;
    struct loop *loop;
    struct kube_config *config;
    struct kube_client *client;
};
/* `kubeconfig` and `context` NULL: as kubectl decides. Close with cluster_close, also after an
 * error. */
int cluster_open(struct cluster *c, const char *kubeconfig, const char *context, struct err *err);
void cluster_close(struct cluster *c);
/* One request; *ret (may be NULL) is the caller's. */
int cluster_get(struct cluster *c, const char *path, json_t **ret, struct err *err);
int cluster_send(struct cluster *c, const char *method, const char *path, const char *query,
                 const char *content_type, const json_t *body, json_t **ret, struct err *err);

/* What cli/judge.h judges. Everything is asked, what cannot be read stands in "errors"; nothing is
 * changed in the cluster (requests to webhooks are dry runs). NULL when out of memory. */
enum facts_scope { FACTS_PRE, FACTS_MESH };
json_t *cluster_facts(struct cluster *c, enum facts_scope scope);
