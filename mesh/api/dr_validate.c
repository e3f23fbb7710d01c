/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a DestinationRule, and what deserves a warning. */
#include "lib/data/host.h"
#include "mesh/api/check.h"
#include "mesh/api/shapes.h"

static bool is_prime(uint64_t n)
{
    for (uint64_t d = 2; d * d <= n; d++)
        if (n % d == 0)
            return false;
    return n >= 2;
}

static void hash(const struct dr_hash *h, const struct fpath *lb, struct findings *f)
{
    AT_KEY(at, *lb, "consistentHash");

    if (h->key == DR_HASH_NONE)
        findings_add(f, FINDING_INVALID, &at,
                     "must hold httpHeaderName, httpCookie, useSourceIp or "
                     "httpQueryParameterName");
    if ((h->key == DR_HASH_HEADER || h->key == DR_HASH_COOKIE || h->key == DR_HASH_QUERY) &&
        h->name.len == 0)
        findings_add(f, FINDING_INVALID, &at, "needs the name of the key");
    if (h->algorithm == DR_HASH_MAGLEV &&
        (h->maglev_table_size > DR_MAGLEV_MAX || !is_prime(h->maglev_table_size)))
        findings_add(f, FINDING_SUSPECT, &at,
                     "maglev.tableSize must be a prime of at most %u: the nearest one is used",
                     DR_MAGLEV_MAX);
    else if (h->algorithm == DR_HASH_RING && h->minimum_ring_size > DR_RING_MAX)
        findings_add(f, FINDING_SUSPECT, &at, "rings have at most %u points here", DR_RING_MAX);
}

void shape_check_locality(const struct dr_locality *l, const struct fpath *up, struct findings *f)
{
    const struct fpath at = *up;
    AT_KEY(list, at, "distribute");

    if ((l->n_distribute != 0) + (l->n_failover != 0) > 1)
        findings_add(f, FINDING_INVALID, &at, "has both distribute and failover: keep one");
    for (uint32_t i = 0; i < l->n_distribute; i++) {
        AT_INDEX(item, list, i);
        uint64_t sum = 0;

        for (uint32_t j = 0; j < l->distribute[i].n_to; j++)
            sum += l->distribute[i].to[j].weight;
        if (sum != 100)
            findings_add(f, FINDING_INVALID, &item, "the shares must add up to 100, not %llu",
                         (unsigned long long)sum);
    }
}

static void load_balancer(const struct dr_load_balancer *lb, const struct fpath *up,
                          struct findings *f)
{
    AT_KEY(at, *up, "loadBalancer");

    if (lb->hash) {
        hash(lb->hash, &at, f);
        if (lb->simple != DR_LB_UNSPECIFIED)
            findings_add(f, FINDING_INVALID, &at, "has both simple and consistentHash: keep one");
    }
    if (lb->locality) {
        AT_KEY(near, at, "localityLbSetting");
        shape_check_locality(lb->locality, &near, f);
    }
    if (lb->warmup) {
        AT_KEY(warmup, at, "warmup");
        if (lb->warmup->duration_ns < 1000000)
            findings_add(f, FINDING_INVALID, &warmup, "duration must be at least 1ms");
    }
}

void shape_check_pool(const struct dr_connection_pool *p, const struct fpath *at,
                      struct findings *f)
{
    AT_KEY(tcp, *at, "tcp");
    AT_KEY(connect, tcp, "connectTimeout");
    AT_KEY(life, tcp, "maxConnectionDuration");
    AT_KEY(http, *at, "http");
    AT_KEY(http_idle, http, "idleTimeout");

    check_duration(p->tcp.connect_timeout, &connect, f);
    check_duration(p->tcp.max_connection_duration, &life, f);
    check_duration(p->http.idle_timeout, &http_idle, f);
    if (p->http.use_client_protocol && p->http.h2_upgrade == DR_H2_UPGRADE)
        findings_add(f, FINDING_INVALID, &http,
                     "has both useClientProtocol and h2UpgradePolicy UPGRADE: keep one");
}

static void outlier(const struct dr_outlier *o, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "outlierDetection");
    AT_KEY(interval, at, "interval");
    AT_KEY(base, at, "baseEjectionTime");
    AT_KEY(ejected, at, "maxEjectionPercent");
    AT_KEY(healthy, at, "minHealthPercent");

    check_duration((struct opt_ns){true, o->interval_ns}, &interval, f);
    check_duration((struct opt_ns){true, o->base_ejection_ns}, &base, f);
    check_share(o->max_ejection_percent, &ejected, f);
    check_share(o->min_health_percent, &healthy, f);
    for (uint32_t i = 0; i < o->http_error_codes.n; i++) {
        AT_KEY(codes, at, "outlierDetectionHttpErrorCodes");
        AT_INDEX(code, codes, i);
        uint64_t v;

        if (!slice_u64(o->http_error_codes.p[i], 599, &v) || v < 100)
            findings_add(f, FINDING_INVALID, &code, "must be a status, 100 to 599");
    }
    if (o->consecutive_local.set && !o->split_external_local)
        findings_add(f, FINDING_SUSPECT, &at,
                     "consecutiveLocalOriginFailures counts only with "
                     "splitExternalLocalOriginErrors: true");
}

static void tls(const struct dr_tls *t, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "tls");
    bool files = t->client_certificate.len || t->private_key.len || t->ca_certificates.len;

    if (t->mode == DR_TLS_MUTUAL && !t->credential_name.len &&
        (!t->client_certificate.len || !t->private_key.len))
        findings_add(f, FINDING_INVALID, &at,
                     "mode MUTUAL needs clientCertificate and privateKey, or credentialName");
    if (t->mode == DR_TLS_ISTIO_MUTUAL && (files || t->credential_name.len))
        findings_add(f, FINDING_SUSPECT, &at,
                     "mode ISTIO_MUTUAL uses the workload's own certificate: leave the others out");
    if (t->credential_name.len && files)
        findings_add(f, FINDING_INVALID, &at, "has both files and credentialName: keep one");
    if (t->insecure_skip_verify.v && (t->ca_certificates.len || t->subject_alt_names.n))
        findings_add(f, FINDING_INVALID, &at,
                     "insecureSkipVerify excludes caCertificates and subjectAltNames");
    else if (t->mode == DR_TLS_ISTIO_MUTUAL && !t->sni.len && !t->subject_alt_names.n)
        findings_add(
            f, FINDING_SIMPLER, &at,
            "sidecars speak mutual TLS with each other by themselves: leave tls out, so that "
            "endpoints without sidecar are reached too");
    if (t->insecure_skip_verify.v)
        findings_add(
            f, FINDING_NO_VERIFY, &at,
            "insecureSkipVerify takes any certificate: anybody on the way can answer; write "
            "caCertificates or credentialName instead");
    if (t->mode == DR_TLS_DISABLE && (files || t->sni.len))
        findings_add(f, FINDING_SUSPECT, &at, "mode DISABLE sends plaintext; the rest is unused");
}

static void policy(const struct dr_policy *p, const struct fpath *at, struct findings *f);

static void ports(const struct dr_policy *p, const struct fpath *up, struct findings *f)
{
    AT_KEY(list, *up, "portLevelSettings");

    for (uint32_t i = 0; i < p->n_ports; i++) {
        AT_INDEX(at, list, i);
        AT_KEY(port, at, "port");
        AT_KEY(number, port, "number");

        if (check_port(p->ports[i].port, &number, f))
            for (uint32_t j = 0; j < i; j++)
                if (p->ports[j].port == p->ports[i].port)
                    findings_add(f, FINDING_SUSPECT, &number,
                                 "port %u stands here twice; the first counts", p->ports[i].port);
        policy(&p->ports[i].policy, &at, f);
    }
}

static void tunnel(const struct dr_tunnel *t, const struct fpath *up, struct findings *f)
{
    AT_KEY(at, *up, "tunnel");
    AT_KEY(host, at, "targetHost");
    AT_KEY(port, at, "targetPort");

    if (t->protocol.len && !slice_is(t->protocol, "CONNECT") && !slice_is(t->protocol, "POST"))
        findings_add(f, FINDING_INVALID, &at, "protocol must be CONNECT or POST");
    if (t->target_host.len == 0)
        findings_add(f, FINDING_INVALID, &host, "must name a host");
    check_port(t->target_port, &port, f);
}

static void retry_budget(const struct dr_retry_budget *b, const struct fpath *up,
                         struct findings *f)
{
    AT_KEY(at, *up, "retryBudget");
    AT_KEY(percent, at, "percent");
    AT_KEY(interval, at, "budgetInterval");

    if (b->percent.set)
        check_share(b->percent.v, &percent, f);
    if (b->interval.ns != 0) /* 0s is the default: requests under way alone */
        check_duration(b->interval, &interval, f);
}

static void policy(const struct dr_policy *p, const struct fpath *at, struct findings *f)
{
    if (p->load_balancer)
        load_balancer(p->load_balancer, at, f);
    if (p->connection_pool) {
        AT_KEY(pool, *at, "connectionPool");
        shape_check_pool(p->connection_pool, &pool, f);
    }
    if (p->outlier)
        outlier(p->outlier, at, f);
    if (p->tls)
        tls(p->tls, at, f);
    if (p->tunnel)
        tunnel(p->tunnel, at, f);
    if (p->retry_budget)
        retry_budget(p->retry_budget, at, f);
    ports(p, at, f);
}

static void subsets(const struct dr *dr, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "subsets");

    for (uint32_t i = 0; i < dr->n_subsets; i++) {
        const struct dr_subset *s = &dr->subsets[i];
        AT_INDEX(at, list, i);
        AT_KEY(name, at, "name");
        AT_KEY(labels, at, "labels");
        AT_KEY(traffic, at, "trafficPolicy");

        if (!label_valid(s->name) && !host_valid(s->name))
            findings_add(f, FINDING_INVALID, &name, "\"%.*s\" is no name of a subset",
                         SHOW(s->name));
        else if (dr_subset_find(dr, s->name) != s)
            findings_add(f, FINDING_SUSPECT, &name, "\"%.*s\" is defined twice; the first counts",
                         SHOW(s->name));
        if (s->labels.n == 0)
            findings_add(f, FINDING_SUSPECT, &labels,
                         "without labels the subset is every endpoint of the host");
        check_labels(&s->labels, &labels, f);
        if (s->policy)
            policy(s->policy, &traffic, f);
    }
}

static bool names_secret(const struct dr_policy *p)
{
    bool found = p && p->tls && p->tls->credential_name.len;

    for (uint32_t i = 0; p && i < p->n_ports; i++)
        found |= names_secret(&p->ports[i].policy);
    return found;
}

/* Istio gives sidecars no Secret by a rule for everybody; only gateways get it then. */
static void secrets(const struct dr *dr, const struct fpath *spec, struct findings *f)
{
    bool found = names_secret(dr->policy);
    AT_KEY(selector, *spec, "workloadSelector");

    for (uint32_t i = 0; i < dr->n_subsets; i++)
        found |= names_secret(dr->subsets[i].policy);
    if (found && !dr->workload_selector.set)
        findings_add(f, FINDING_SUSPECT, &selector,
                     "tls.credentialName holds for sidecars only when this selects them: their "
                     "requests are refused");
}

void dr_validate(const struct dr *dr, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(host, spec, "host");
    AT_KEY(traffic, spec, "trafficPolicy");
    AT_KEY(selector, spec, "workloadSelector");

    check_host(dr->host, true, &host, f);
    if (dr->policy)
        policy(dr->policy, &traffic, f);
    subsets(dr, &spec, f);
    secrets(dr, &spec, f);
    check_export_to(&dr->export_to, f);
    check_selector(&dr->workload_selector, &selector, f);
}
