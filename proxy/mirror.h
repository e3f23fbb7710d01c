/* SPDX-License-Identifier: Apache-2.0 */
/* Mirroring: copies of a request that go to other clusters, and whose answers nobody waits for. A copy is
 * never in the request's way: it neither slows nor fails it, holds at most `retry_body_bytes` of the body
 * beyond what its connection takes, respects its own cluster's limits, is not repeated, and is given up
 * (tulle_mirror_dropped_total) where it cannot keep up. It carries what the route makes of the request; the
 * authority stays as it is, as Istio has it since 1.28 (no "-shadow"). Requests for upgrades and tunnels
 * are not copied. Copies are no requests of this proxy's in metrics and logs: who receives one counts it. */
#pragma once

#include "lib/http/head.h"
#include "mesh/match/program.h"

struct mirror;
struct sock_addr;
struct worker;

/* Begin the copies that the route's shares ask for, on a request whose head is as it is sent; *list gets
 * those that still want its body. `dialled` is where the client wanted to go. */
void mirrors_start(struct mirror **list, struct worker *w, struct prog_service *service,
                   const struct prog_http_route *route, const struct http_head *request,
                   const struct sock_addr *dialled);
/* More of the request's body. */
void mirrors_body(struct mirror **list, struct slice bytes);
/* The request is whole: they go on by themselves and *list is empty. `trailers` may be NULL. */
void mirrors_end(struct mirror **list, const struct http_head *trailers);
/* It never will be: they are broken off. */
void mirrors_drop(struct mirror **list);
/* All of the worker's. */
void mirrors_fini(struct worker *w);
