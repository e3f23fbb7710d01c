/* SPDX-License-Identifier: Apache-2.0 */
/* Health of hosts by what comes of requests: mesh/match/outlier.h decides, this keeps count and
 * tells. */
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/telemetry.h"
#include "proxy/upstream/choose.h"
#include "proxy/worker.h"

static const char *const causes[] = {
    [OUTLIER_NONE] = "-",
    [OUTLIER_5XX] = "consecutive_5xx",
    [OUTLIER_GATEWAY] = "consecutive_gateway_failure",
    [OUTLIER_LOCAL] = "consecutive_local_origin_failure",
};

void health_returned(struct up_host *h)
{
    h->cluster->ejected--;
    telemetry_ejection(h->cluster->worker, h->cluster->cfg->name, OUTLIER_NONE, -1);
}

/* Ejection ends by time; looked at when a host is considered, so that no timer ticks for it. */
bool health_out(struct up_host *h, int64_t now_ns)
{
    if (!h->outlier || !h->outlier->until_ns)
        return false;
    if (outlier_out(h->outlier, now_ns))
        return true;
    health_returned(h);
    return false;
}

static void eject(struct up_host *h, const struct prog_outlier *o, enum outlier_cause cause)
{
    struct up_cluster *c = h->cluster;
    int64_t now = loop_now(c->worker->loop);
    char text[SOCK_TEXT_MAX];
    if (h->gone || health_out(h, now))
        return;
    if (!outlier_allows(o, c->ejected, c->n_hosts)) {
        telemetry_ejection(c->worker, c->cfg->name, cause, 0);
        return;
    }
    outlier_eject(o, h->outlier, now);
    c->ejected++;
    c->live_stale = true;
    telemetry_ejection(c->worker, c->cfg->name, cause, 1);
    LOG(INFO, "Host ejected", "cluster=%.*s host=%s cause=%s for_ms=%lld", SL_FMT(c->cfg->name),
        sock_addr_text(&h->addr, text), causes[cause],
        (long long)((h->outlier->until_ns - now) / NS_PER_MS));
}

void up_host_result(struct up_host *h, unsigned status, bool failed)
{
    const struct prog_outlier *o = PROG_POLICY(h->cluster->cfg, outlier);
    if (!o || (!h->outlier && !failed && status < 400 && !o->n_codes))
        return; /* nothing went wrong yet: nothing to keep */
    if (!h->outlier && !(h->outlier = mem_zalloc(sizeof *h->outlier)))
        return;
    enum outlier_cause cause = outlier_count(o, h->outlier, status, failed);
    if (cause != OUTLIER_NONE)
        eject(h, o, cause);
}
