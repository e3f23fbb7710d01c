/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/metrics.h"

#include "lib/base/cleanup.h"
#include "lib/base/slice.h"

static const double seconds[] = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                 1,     2.5,   5,    10,    30,   60};

#define COUNTER(name, help) {name, help, NULL, METRIC_COUNTER, NULL, 0}
#define GAUGE(name, help) {name, help, NULL, METRIC_GAUGE, NULL, 0}
#define SECONDS(name, help) {name, help, NULL, METRIC_HISTOGRAM, seconds, N_OF(seconds)}
/* clang-format off */
static const struct metric_def plain[] = {
    [OPM_PUSHES]          = COUNTER("tulle_discovery_pushes_answered_total", "Pushes that a proxy answered"),
    [OPM_PUSH_REJECTS]    = COUNTER("pilot_total_xds_rejects", "Pushes of which a proxy refused some part"),
    [OPM_PUSH_TIME]       = SECONDS("pilot_proxy_convergence_time", "Seconds from a push to its acknowledgement"),
    [OPM_CSR_COUNT]       = COUNTER("citadel_server_csr_count", "Signing requests received"),
    [OPM_AUTHN_FAILS]     = COUNTER("citadel_server_authentication_failure_count", "Signing requests whose token was refused"),
    [OPM_CSR_PARSE_FAILS] = COUNTER("citadel_server_csr_parsing_err_count", "Signing requests that could not be read"),
    [OPM_ID_FAILS]        = COUNTER("citadel_server_id_extraction_err_count", "Signing requests for another identity than the token's"),
    [OPM_SIGN_OK]         = COUNTER("citadel_server_success_cert_issuance_count", "Certificates issued"),
    [OPM_ROOT_EXPIRY]     = GAUGE("citadel_server_root_cert_expiry_timestamp", "Seconds since 1970 at which the first root in use ends"),
    [OPM_CHAIN_EXPIRY]    = GAUGE("citadel_server_cert_chain_expiry_timestamp", "Seconds since 1970 at which the first certificate of the CA's chain ends"),
};
static const struct metric_def sign_err[]  = {COUNTER("citadel_server_csr_sign_err_count", "Signing requests that failed, by error")};
static const struct metric_def rest[]      = {COUNTER("rest_client_requests_total", "Requests to the API server")};
static const struct metric_def reconcile[] = {COUNTER("controller_runtime_reconcile_total", "Reconciliations by outcome")};
static const struct metric_def controller[] = {
    [OPM_RECONCILE_ERRORS] = COUNTER("controller_runtime_reconcile_errors_total", "Reconciliations that failed"),
    [OPM_RECONCILE_TIME]   = SECONDS("controller_runtime_reconcile_time_seconds", "Seconds of a reconciliation"),
};
static const struct metric_def queue[] = {
    [OPM_QUEUE_TIME] = SECONDS("workqueue_queue_duration_seconds", "Seconds that a key waited"),
    [OPM_WORK_TIME]  = SECONDS("workqueue_work_duration_seconds", "Seconds of work on a key"),
};
static const struct metric_def leader[]    = {GAUGE("leader_election_master_status", "1 while this replica holds the Lease")};
static const char *const l_error[] = {"error"}, *const l_rest[] = {"code", "method", "host"},
    *const l_reconcile[] = {"controller", "result"}, *const l_controller[] = {"controller"},
    *const l_name[] = {"name"};
#define GROUP(labels, metrics) {labels, metrics, N_OF(labels), N_OF(metrics)}
static const struct metric_group groups[OPM_GROUPS] = {
    [OPM_PLAIN]      = {NULL, plain, 0, N_OF(plain)},
    [OPM_SIGN_ERR]   = GROUP(l_error, sign_err),
    [OPM_REST]       = GROUP(l_rest, rest),
    [OPM_RECONCILE]  = GROUP(l_reconcile, reconcile),
    [OPM_CONTROLLER] = GROUP(l_controller, controller),
    [OPM_QUEUE]      = GROUP(l_name, queue),
    [OPM_LEADER]     = GROUP(l_name, leader),
};
/* clang-format on */

int opm_init(struct opm *o, struct err *err)
{
    if (metrics_new(groups, OPM_GROUPS, 1, 500, &o->m, err) < 0)
        return -1;
    o->shard = metrics_shard(o->m, 0);
    o->plain = metrics_row(o->shard, OPM_PLAIN, NULL);
    return 0;
}

void opm_fini(struct opm *o)
{
    metrics_free(o->m);
    *o = (struct opm){0};
}

struct metrics_row *opm_row(struct opm *o, enum operator_metric_group g, const char *a,
                            const char *b, const char *c)
{
    struct slice values[] = {slice_str(a), slice_str(b), slice_str(c)};
    return metrics_row(o->shard, g, values);
}
