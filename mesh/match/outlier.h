/* SPDX-License-Identifier: Apache-2.0 */
/* Outlier detection: counting what comes of requests, and how long a host stays out. Pure; the
 * caller keeps the state of each host and counts the ejected ones of a cluster. Semantics as Envoy
 * has them with what Istio sets: consecutive failures eject at once; a host comes back at the first
 * look (each `interval`) after its time, which grows with each ejection and shrinks again by one
 * look at a time. */
#pragma once

#include "mesh/match/program.h"

struct outlier_state {
    uint32_t consecutive_5xx, consecutive_gateway, consecutive_local;
    uint32_t backoff; /* the time out is the base's so many times */
    int64_t until_ns; /* 0: in service */
    int64_t back_ns;  /* when it last came back */
};
enum outlier_cause { OUTLIER_NONE, OUTLIER_5XX, OUTLIER_GATEWAY, OUTLIER_LOCAL };
/* What came of a request: a status of the server; or 0 with `local` when no answer came (refused,
 * reset, timed out), without when a connection was made and there is no status to tell. The cause
 * for which the host is to be ejected; the counter that tripped begins anew. */
enum outlier_cause outlier_count(const struct prog_outlier *o, struct outlier_state *s,
                                 unsigned status, bool local);
/* May another one of `hosts` be ejected when `ejected` are? At least one always may. */
bool outlier_allows(const struct prog_outlier *o, uint32_t ejected, uint32_t hosts);
/* Eject; until when is in the state. */
void outlier_eject(const struct prog_outlier *o, struct outlier_state *s, int64_t now_ns);
/* Is it out? Its coming back clears the counters. */
bool outlier_out(struct outlier_state *s, int64_t now_ns);
/* The HTTP status that stands for a gRPC status (0 to 16); others are 500. */
unsigned outlier_grpc_status(int grpc);
