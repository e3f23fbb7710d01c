/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets with certificates: read where a gateway of the namespace, or a sidecar that a DestinationRule
 * selects, asked for one, and nowhere else. The right to do so is a Role of that namespace, which the
 * gateway's chart brings. */
#pragma once

#include "lib/kube/client.h"
#include "operator/model.h"
#include "operator/push.h"

struct secrets;
int secrets_new(struct loop *loop, struct kube_client *kube, struct model *m, struct push *p,
                struct secrets **ret, struct err *err);
void secrets_free(struct secrets *s);
/* Somebody of the namespace needs a certificate: watch its Secrets from here on, until none does.
 */
void secrets_need(struct secrets *s, struct slice ns);
