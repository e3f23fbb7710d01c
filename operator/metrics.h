/* SPDX-License-Identifier: Apache-2.0 */
/* The operator's metrics: rows of one table (metrics.c). Names are those that dashboards of controller-runtime and of
 * istiod know, where such a name says what is meant. */
#pragma once

#include "lib/obs/metrics.h"

enum operator_metric_group {
    OPM_PLAIN,
    OPM_SIGN_ERR,
    OPM_REST,
    OPM_RECONCILE,
    OPM_CONTROLLER,
    OPM_QUEUE,
    OPM_LEADER,
    OPM_GROUPS,
};
/* Index of a metric within its group. */
enum { OPM_PUSHES, OPM_PUSH_REJECTS, OPM_PUSH_TIME, OPM_CSR_COUNT, OPM_AUTHN_FAILS,
       OPM_CSR_PARSE_FAILS, OPM_ID_FAILS, OPM_SIGN_OK, OPM_ROOT_EXPIRY, OPM_CHAIN_EXPIRY };
enum { OPM_RECONCILE_ERRORS, OPM_RECONCILE_TIME };
enum { OPM_QUEUE_TIME, OPM_WORK_TIME };

struct opm {
    struct metrics *m;
    struct metrics_shard *shard;
    struct metrics_row *plain;
};
int opm_init(struct opm *o, struct err *err);
void opm_fini(struct opm *o);
/* A row by its label values. */
struct metrics_row *opm_row(struct opm *o, enum operator_metric_group g, const char *a,
                            const char *b, const char *c);
