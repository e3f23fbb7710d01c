/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a ServiceEntry, and what deserves a warning. */
#include "lib/data/cidr.h"
#include "lib/data/host.h"
#include "mesh/api/check.h"
#include "mesh/api/se.h"

static void hosts(const struct se *se, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "hosts");

    if (se->hosts.n == 0)
        findings_add(f, FINDING_INVALID, &list, "must list at least one host");
    for (uint32_t i = 0; i < se->hosts.n; i++) {
        AT_INDEX(at, list, i);

        if (slice_is(se->hosts.p[i], "*"))
            findings_add(f, FINDING_INVALID, &at, "\"*\" is not allowed: name the hosts");
        else
            check_host(se->hosts.p[i], true, &at, f);
    }
}

static void addresses(const struct se *se, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "addresses");

    for (uint32_t i = 0; i < se->addresses.n; i++) {
        AT_INDEX(at, list, i);

        if (check_cidr(se->addresses.p[i], &at, f) && slice_chr(se->addresses.p[i], '/') >= 0 &&
            se->resolution != SE_NONE && se->resolution != SE_STATIC)
            findings_add(f, FINDING_INVALID, &at,
                         "a range needs resolution NONE or STATIC: give single addresses");
    }
}

static bool protocol_known(struct slice s)
{
    static const char *const names[] = {"http",     "https", "http2", "grpc",
                                        "grpc-web", "tcp",   "tls",   "mongo",
                                        "mysql",    "redis", "udp",   "http_proxy"};

    if (s.len == 0)
        return true;
    for (size_t i = 0; i < N_OF(names); i++)
        if (slice_ieq(s, slice_str(names[i])))
            return true;
    return false;
}

static void ports(const struct se *se, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "ports");

    for (uint32_t i = 0; i < se->ports.n; i++) {
        const struct api_port *p = &se->ports.p[i];
        AT_INDEX(at, list, i);
        AT_KEY(number, at, "number");
        AT_KEY(name, at, "name");
        AT_KEY(protocol, at, "protocol");

        check_port(p->number, &number, f);
        if (!label_valid(p->name))
            findings_add(f, FINDING_INVALID, &name, "must be a name of a-z, 0-9 and -, is \"%.*s\"",
                         SHOW(p->name));
        if (!protocol_known(p->protocol))
            findings_add(f, FINDING_INVALID, &protocol,
                         "must be HTTP, HTTPS, HTTP2, GRPC, MONGO, TCP or TLS, is \"%.*s\"",
                         SHOW(p->protocol));
        for (uint32_t j = 0; j < i; j++) {
            if (slice_eq(se->ports.p[j].name, p->name))
                findings_add(f, FINDING_INVALID, &name, "\"%.*s\" names an earlier port too",
                             SHOW(p->name));
            if (se->ports.p[j].number == p->number)
                findings_add(f, FINDING_INVALID, &number, "%u is an earlier port too", p->number);
        }
        if (slice_ieq(p->protocol, SL("tcp")) && se->addresses.n == 0 && !se_wants_address(se))
            findings_add(f, FINDING_NEEDS_ADDRESS, &at,
                         "TCP without addresses: no connection to port %u is known to be meant for "
                         "it, list addresses",
                         p->number);
    }
}

static void endpoint_ports(const struct se *se, const struct se_endpoint *e, const struct fpath *at,
                           struct findings *f)
{
    AT_KEY(map, *at, "ports");

    for (uint32_t i = 0; i < e->n_ports; i++) {
        AT_KEY(item, map, e->ports[i].name.p);
        bool known = false;

        for (uint32_t j = 0; j < se->ports.n; j++)
            known |= slice_eq(se->ports.p[j].name, e->ports[i].name);
        if (!known)
            findings_add(f, FINDING_INVALID, &item, "is none of the entry's ports");
        check_port(e->ports[i].number, &item, f);
    }
}

static void endpoints(const struct se *se, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "endpoints");

    for (uint32_t i = 0; i < se->n_endpoints; i++) {
        const struct se_endpoint *e = &se->endpoints[i];
        AT_INDEX(at, list, i);
        AT_KEY(address, at, "address");
        AT_KEY(labels, at, "labels");
        struct ipaddr ip;

        if (slice_starts(e->address, SL("unix://"))) {
            struct slice path = slice_skip(e->address, 7);

            if (se->resolution != SE_STATIC)
                findings_add(f, FINDING_INVALID, &address, "a unix socket needs resolution STATIC");
            if (path.len < 2 || path.len > 107 || (path.p[0] != '/' && path.p[0] != '@'))
                findings_add(f, FINDING_INVALID, &address,
                             "must name a socket of at most 107 bytes: unix:///path or unix://@name");
            if (e->n_ports)
                findings_add(f, FINDING_INVALID, &at, "a unix socket has no ports");
        } else if (se->resolution == SE_STATIC && !ip_parse(e->address, &ip)) {
            findings_add(f, FINDING_INVALID, &address,
                         "resolution STATIC needs an IP address, is \"%.*s\"", SHOW(e->address));
        } else if (se->resolution != SE_STATIC && !ip_parse(e->address, &ip)) {
            check_host(e->address, false, &address, f);
        }
        endpoint_ports(se, e, &at, f);
        check_labels(&e->labels, &labels, f);
    }
}

static void resolution(const struct se *se, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "endpoints");
    AT_KEY(names, *spec, "hosts");
    bool selects = se->workload_selector.set;

    if (selects && se->n_endpoints)
        findings_add(f, FINDING_INVALID, spec, "has both workloadSelector and endpoints: keep one");
    switch (se->resolution) {
    case SE_NONE:
        if (se->n_endpoints)
            findings_add(f, FINDING_INVALID, &list,
                         "resolution NONE goes to the called address: leave the endpoints out, or "
                         "write STATIC");
        break;
    case SE_STATIC:
        if (!se->n_endpoints && !selects)
            findings_add(f, FINDING_INVALID, &list, "resolution STATIC needs endpoints");
        break;
    case SE_DYNAMIC_DNS:
        if (se->n_endpoints)
            findings_add(f, FINDING_INVALID, &list,
                         "resolution DYNAMIC_DNS resolves the called name: leave the endpoints "
                         "out");
        break;
    case SE_DNS_ROUND_ROBIN:
        if (se->n_endpoints > 1)
            findings_add(f, FINDING_INVALID, &list,
                         "resolution DNS_ROUND_ROBIN takes one endpoint at most");
        /* fall through */
    case SE_DNS:
        for (uint32_t i = 0; !se->n_endpoints && !selects && i < se->hosts.n; i++) {
            AT_INDEX(at, names, i);
            if (host_is_wildcard(se->hosts.p[i]))
                findings_add(f, FINDING_INVALID, &at,
                             "a pattern cannot be resolved: name the host, or list endpoints");
        }
    }
}

/* DNS looks the host up by itself. */
static void own_name(const struct se *se, const struct fpath *spec, struct findings *f)
{
    AT_KEY(list, *spec, "endpoints");

    if ((se->resolution == SE_DNS || se->resolution == SE_DNS_ROUND_ROBIN) &&
        se->n_endpoints == 1 && se->hosts.n == 1 &&
        slice_ieq(se->endpoints[0].address, se->hosts.p[0]) && !se->endpoints[0].n_ports &&
        !se->endpoints[0].labels.n)
        findings_add(f, FINDING_SIMPLER, &list,
                     "the host itself is looked up without them: leave the endpoints out");
}

void se_validate(const struct se *se, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(selector, spec, "workloadSelector");

    hosts(se, &spec, f);
    addresses(se, &spec, f);
    ports(se, &spec, f);
    resolution(se, &spec, f);
    endpoints(se, &spec, f);
    own_name(se, &spec, f);
    check_selector(&se->workload_selector, &selector, f);
    check_export_to(&se->export_to, f);
}
