/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle-operator cleanup`: run by the chart before it is removed. */
#pragma once

#include "lib/base/err.h"

/* Stop the operator's Deployment and wait until its pods are gone, so that nothing is made anew; then
 * remove Mesh, the CA's and the webhook's Secrets, the injector's settings, the Lease and the root
 * bundles that we made. What is not there is fine. */
int cleanup(const char *kubeconfig, const char *ns, struct err *err);
