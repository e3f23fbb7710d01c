/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/guard.h"

#include <stdio.h>

#include "lib/base/log.h"
#include "proxy/worker.h"

struct ipaddr address_of(const struct sock_addr *a)
{
    struct ipaddr ip = {0};
    ip_from_bytes(sock_addr_bytes(a), &ip);
    return ip;
}

/* Dry-run and audit policies refuse nothing; what they would have done is in the log. */
static void log_dry_run(const struct down *d, const struct authz_verdict *v)
{
    if (v->dry_run.any && v->dry_run.policy)
        LOG(INFO, "Dry-run policy decided", "connection=%llu policy=%.*s/%.*s rule=%u allowed=%s",
            (unsigned long long)d->info.id, SL_FMT(v->dry_run.policy->namespace_),
            SL_FMT(v->dry_run.policy->name), v->dry_run.rule, v->dry_run.allowed ? "yes" : "no");
    if (v->audit)
        LOG(INFO, "Audit policy matched", "connection=%llu policy=%.*s/%.*s",
            (unsigned long long)d->info.id, SL_FMT(v->audit->namespace_), SL_FMT(v->audit->name));
}

static bool guard(struct down *d, const struct match_request *http, bool again, char *detail)
{
    if (!down_serves(&d->info))
        return true;
    const struct prog_inbound *in = d->info.inbound_prog;
    if (in->n_policies == 0 && in->closed.len == 0)
        return true;
    const struct prog_settings *s = d->worker->know.settings;
    struct authz_request r = {
        .principal = down_principal(d),
        .source = address_of(&d->info.peer),
        .destination = address_of(&d->info.orig),
        .port = sock_addr_port(&d->info.orig),
        .sni = down_sni(d),
        .http = http,
        .trust_domain = s ? s->trust_domain : SLICE_NULL,
        .trust_domain_aliases = s ? &s->trust_domain_aliases : NULL,
    };
    struct authz_verdict v;
    authz_decide(in, &r, &v);
    if (!again)
        log_dry_run(d, &v);
    authz_detail(&v, detail, GUARD_DETAIL_MAX);
    return v.allowed;
}

bool guard_tcp(struct down *d, char detail[GUARD_DETAIL_MAX])
{
    if (guard(d, NULL, false, detail))
        return true;
    LOG(INFO, "Connection refused by policy", "connection=%llu detail=%s",
        (unsigned long long)d->info.id, detail);
    return false;
}

bool guard_http(struct down *d, const struct match_request *req, char detail[GUARD_DETAIL_MAX])
{
    return guard(d, req, false, detail);
}

void guard_bind(struct down_info *info, struct prog_inbound *prog)
{
    static const struct prog_inbound_port unlisted;
    struct prog_inbound *old = info->inbound_prog;
    uint16_t port = sock_addr_port(&info->orig);
    info->inbound_prog = prog_ref(prog);
    info->port = &unlisted;
    for (uint32_t i = 0; i < prog->n_ports; i++)
        if (prog->ports[i].port == port)
            info->port = &prog->ports[i];
    enum prog_mtls mtls = info->port == &unlisted ? prog->mtls : info->port->mtls;
    info->protocol = (uint8_t)info->port->protocol;
    info->port_mtls = (uint8_t)(mtls == PROG_MTLS_UNSET ? PROG_MTLS_PERMISSIVE : mtls);
    prog_unref(old);
}

bool guard_refresh(struct down *d)
{
    struct prog_inbound *now = d->worker->know.inbound;
    if (down_serves(&d->info) && now && now != d->info.inbound_prog) {
        uint8_t seen = d->info.protocol; /* what this connection turned out to be */
        guard_bind(&d->info, now);
        d->info.protocol = seen;
    }
    return !d->info.inbound || d->info.mtls || d->info.port_mtls != PROG_MTLS_STRICT;
}

bool guard_still(struct down *d, const struct match_request *http, char detail[GUARD_DETAIL_MAX])
{
    if (!guard_refresh(d))
        snprintf(detail, GUARD_DETAIL_MAX, "plaintext_refused_by_strict_mtls");
    else if (guard(d, http, true, detail))
        return true;
    LOG(INFO, "Policies changed: what was let in is cut off", "connection=%llu detail=%s",
        (unsigned long long)d->info.id, detail);
    return false;
}
