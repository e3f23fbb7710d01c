/* SPDX-License-Identifier: Apache-2.0 */
/* The application's own probes and hooks, run within the pod: the injector pointed the kubelet's at
 * this proxy and left the originals as JSON by path (mesh/inject/probes.c). */
#pragma once

#include "lib/http/server.h"

struct probes;
/* `json` may be NULL: no probes. `app` is the pod's address without port; probes go there from an
 * address that the redirect rules let pass. */
int probes_new(struct loop *loop, const char *json, const struct sock_addr *app,
               struct probes **ret, struct err *err);
void probes_free(struct probes *p);
/* Run the probe of the exchange's path and answer with what came of it: the application's status, 200
 * for an open port or a serving gRPC service, 503 with the reason otherwise. False: not a probe's
 * path, nothing was done. */
bool probes_serve(struct probes *p, struct http_exchange *x);
