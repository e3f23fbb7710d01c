/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a Sidecar, and what deserves a warning. */
#include "mesh/api/sc.h"

#include "lib/data/host.h"
#include "lib/data/ipaddr.h"
#include "mesh/api/check.h"
#include "mesh/api/shapes.h"

static enum sc_capture capture_of(const struct rd *d)
{
    static const char *const names[] = {"DEFAULT", "IPTABLES", "NONE", NULL};

    return (enum sc_capture)rd_enum(d, "captureMode", names, SC_CAPTURE_DEFAULT);
}

static void ingress(const struct rd *d, void *ret)
{
    struct sc_ingress *x = ret;
    struct rd at;

    if (rd_obj(d, "port", &at))
        rd_api_port(&at, &x->port);
    rd_str(d, "bind", &x->bind);
    rd_str(d, "defaultEndpoint", &x->default_endpoint);
    x->capture = capture_of(d);
    x->tls = rd_new(d, "tls", sizeof *x->tls, shape_server_tls);
    x->pool = rd_new(d, "connectionPool", sizeof *x->pool, shape_pool);
}

static void egress(const struct rd *d, void *ret)
{
    struct sc_egress *x = ret;

    x->port = rd_new(d, "port", sizeof *x->port, rd_api_port);
    rd_str(d, "bind", &x->bind);
    x->capture = capture_of(d);
    rd_lower_strings(d, "hosts", &x->hosts);
}

static void outbound(const struct rd *spec, struct sc *sc)
{
    static const char *const modes[] = {"", "REGISTRY_ONLY", "ALLOW_ANY", NULL};
    struct rd policy, proxy, at;

    if (!rd_obj(spec, "outboundTrafficPolicy", &policy))
        return;
    sc->outbound = SC_REGISTRY_ONLY; /* the zero value of the public schema */
    if (rd_get(&policy, "mode", &at))
        sc->outbound = (unsigned)rd_enum(&policy, "mode", modes, SC_REGISTRY_ONLY);
    if (!rd_obj(&policy, "egressProxy", &proxy))
        return;
    sc->egress_proxy = rd_alloc(spec->c, 1, sizeof *sc->egress_proxy);
    if (!sc->egress_proxy)
        return;
    rd_lower(&proxy, "host", &sc->egress_proxy->host);
    rd_str(&proxy, "subset", &sc->egress_proxy->subset);
    if (rd_obj(&proxy, "port", &at))
        rd_port(&at, "number", &sc->egress_proxy->port);
}

int sc_decode(const json_t *obj, struct arena *a, struct sc **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct sc *sc = rd_alloc(&c, 1, sizeof *sc);

    if (!sc || rd_begin(&c, obj, false, &sc->meta, &root, &spec) < 0)
        return -1;
    rd_selector(&spec, "workloadSelector", "labels", &sc->selector);
    sc->ingress = rd_array(&spec, "ingress", sizeof *sc->ingress, ingress, &sc->n_ingress);
    sc->egress = rd_array(&spec, "egress", sizeof *sc->egress, egress, &sc->n_egress);
    sc->inbound_pool = rd_new(&spec, "inboundConnectionPool", sizeof *sc->inbound_pool, shape_pool);
    outbound(&spec, sc);
    if (c.nomem)
        return -1;
    *ret = sc;
    return 0;
}

bool sc_bound(const struct sc_egress *e, struct ipaddr *ret)
{
    return e->port && e->bind.len && e->capture != SC_CAPTURE_NONE && ip_parse(e->bind, ret) &&
           !ip_is_unspecified(ret);
}

/* --- rules
 * -------------------------------------------------------------------------------------------- */

static void check_ingress(const struct sc *sc, uint32_t i, const struct fpath *at,
                          struct findings *f)
{
    const struct sc_ingress *x = &sc->ingress[i];
    AT_KEY(at_port, *at, "port");
    AT_KEY(number, at_port, "number");
    AT_KEY(bind, *at, "bind");
    AT_KEY(target, *at, "defaultEndpoint");
    AT_KEY(capture, *at, "captureMode");
    AT_KEY(tls, *at, "tls");
    AT_KEY(mode, tls, "mode");
    AT_KEY(pool, *at, "connectionPool");
    struct ipaddr ip;

    if (check_port(x->port.number, &number, f))
        for (uint32_t j = 0; j < i; j++)
            if (sc->ingress[j].port.number == x->port.number)
                findings_add(f, FINDING_INVALID, &number,
                             "%u is an earlier port too: ports of "
                             "ingress are unique",
                             x->port.number);
    shape_check_protocol(x->port.protocol, &at_port, f);
    if (slice_starts(x->bind, SL("unix://")))
        findings_add(f, FINDING_INVALID, &bind, "must be an address: ingress takes no unix socket");
    else if (x->bind.len && !ip_parse(x->bind, &ip))
        findings_add(f, FINDING_INVALID, &bind, "must be an address, is \"%.*s\"", SHOW(x->bind));
    if (x->default_endpoint.len)
        shape_check_default_endpoint(x->default_endpoint, true, &target, f);
    else if (x->capture == SC_CAPTURE_NONE)
        findings_add(f, FINDING_SUSPECT, &capture,
                     "NONE opens nothing without defaultEndpoint, since the application has the port: "
                     "calls come in by redirection");
    if (x->tls) {
        if (x->tls->mode != GW_TLS_SIMPLE && x->tls->mode != GW_TLS_MUTUAL &&
            x->tls->mode != GW_TLS_OPTIONAL_MUTUAL)
            findings_add(f, FINDING_INVALID, &mode,
                         "must be SIMPLE, MUTUAL or OPTIONAL_MUTUAL: for mesh TLS write a "
                         "PeerAuthentication instead");
        else
            shape_check_server_tls(x->tls, x->port.protocol, &tls, f);
    }
    if (x->pool)
        shape_check_pool(x->pool, &pool, f);
}

static void check_egress(const struct sc *sc, uint32_t i, const struct fpath *at,
                         struct findings *f)
{
    const struct sc_egress *x = &sc->egress[i];
    AT_KEY(at_port, *at, "port");
    AT_KEY(number, at_port, "number");
    AT_KEY(bind, *at, "bind");
    AT_KEY(mode, *at, "captureMode");
    AT_KEY(hosts, *at, "hosts");
    bool socket = slice_starts(x->bind, SL("unix://"));
    struct ipaddr ip;

    if (!x->port) {
        if (i + 1 != sc->n_egress)
            findings_add(f, FINDING_INVALID, at,
                         "without a port it takes all that others left: put it last");
        if (x->bind.len)
            findings_add(f, FINDING_INVALID, &bind, "needs a port beside it");
    } else if (!socket) {
        check_port(x->port->number, &number, f);
        shape_check_protocol(x->port->protocol, &at_port, f);
    } else if (x->port->number) {
        findings_add(f, FINDING_INVALID, &number, "must be 0 for a unix socket");
    }
    if (x->capture == SC_CAPTURE_NONE && !x->port)
        findings_add(f, FINDING_UNSUPPORTED, &mode, "NONE opens nothing without a port: name it");
    if (socket && x->capture == SC_CAPTURE_IPTABLES)
        findings_add(f, FINDING_INVALID, &mode, "must be DEFAULT or NONE for a unix socket");
    if (x->bind.len && !socket && !ip_parse(x->bind, &ip))
        findings_add(f, FINDING_INVALID, &bind, "must be an address or unix:///path, is \"%.*s\"",
                     SHOW(x->bind));
    if (x->hosts.n == 0)
        findings_add(f, FINDING_INVALID, &hosts, "must list at least one namespace/host");
    if (x->hosts.n == 1 && !x->port && slice_is(x->hosts.p[0], "*/*"))
        findings_add(f, FINDING_SIMPLER, &hosts,
                     "is every host of every namespace, as without egress: leave it out");
    for (uint32_t j = 0; j < x->hosts.n; j++) {
        AT_INDEX(item, hosts, j);
        shape_check_ns_host(x->hosts.p[j], true, &item, f);
    }
}

void sc_validate(const struct sc *sc, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(selector, spec, "workloadSelector");
    AT_KEY(in, spec, "ingress");
    AT_KEY(out, spec, "egress");
    AT_KEY(pool, spec, "inboundConnectionPool");
    AT_KEY(policy, spec, "outboundTrafficPolicy");
    AT_KEY(proxy, policy, "egressProxy");
    AT_KEY(host, proxy, "host");
    AT_KEY(subset, proxy, "subset");

    if (!sc->n_ingress && !sc->n_egress && !sc->outbound && !sc->inbound_pool)
        findings_add(f, FINDING_INVALID, &spec,
                     "says nothing: give ingress, egress, inboundConnectionPool or "
                     "outboundTrafficPolicy");
    check_selector(&sc->selector, &selector, f);
    for (uint32_t i = 0; i < sc->n_ingress; i++) {
        AT_INDEX(at, in, i);
        check_ingress(sc, i, &at, f);
    }
    for (uint32_t i = 0; i < sc->n_egress; i++) {
        AT_INDEX(at, out, i);
        check_egress(sc, i, &at, f);
    }
    if (sc->inbound_pool)
        shape_check_pool(sc->inbound_pool, &pool, f);
    if (!sc->egress_proxy)
        return;
    if (sc->outbound != SC_ALLOW_ANY)
        findings_add(f, FINDING_INVALID, &proxy, "needs mode ALLOW_ANY beside it");
    check_host(sc->egress_proxy->host, false, &host, f);
    if (sc->egress_proxy->subset.p && !label_valid(sc->egress_proxy->subset) &&
        !host_valid(sc->egress_proxy->subset))
        findings_add(f, FINDING_INVALID, &subset, "\"%.*s\" is no name of a subset",
                     SHOW(sc->egress_proxy->subset));
}
