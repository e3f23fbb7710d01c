/* SPDX-License-Identifier: Apache-2.0 */
/* SERVICE: what a client finds behind "authority:port" or "address:port". */
#include "mesh/compile/compile_int.h"

/* A key in normal form: lower case, without trailing dot; *ret_ip.len 0 unless it is an address. */
static bool key_split(struct cc *c, struct slice key, struct slice *ret_host, struct ipaddr *ret_ip,
                      uint16_t *ret_port)
{
    char name[HOST_MAX + 4];
    struct slice host;

    ret_ip->len = 0;
    if (authority_split(key, &host, ret_port) != ERR_OK || *ret_port == 0)
        return false;
    if (ip_parse(host, ret_ip)) {
        *ret_host = SLICE_NULL;
        return true;
    }
    if (host_normalise(host, name, sizeof name, &host) != ERR_OK)
        return false;
    *ret_host = cc_copy(c, host);
    return true;
}

/* Headless ones first, then by name. */
static int service_order(const struct ix_service *a, const struct ix_service *b)
{
    if (a->headless != b->headless)
        return a->headless ? -1 : 1;
    return slice_cmp(istr_slice(a->name), istr_slice(b->name));
}

/* The headless service through which a pod's address became known: its rules hold for the call. Of any
 * service on that port the protocol is taken. */
static const struct ix_service *service_of_pod(struct cc *c, const struct ix_pod *pod, uint16_t port,
                                               struct target_port *ret)
{
    const struct ix_service *best = NULL;

    for (uint16_t i = 0; i < pod->n_slices; i++) {
        const struct ix_slice *e = pod->slices[i];

        cc_dep(c, INDEX_TOKEN_SLICE(istr_slice(e->ns), istr_slice(e->name)));
        if (e->service)
            cc_dep(c, INDEX_TOKEN_SERVICE(istr_slice(e->ns), istr_slice(e->service->name)));
        if (!e->service || !e->service->known)
            continue;
        for (uint32_t k = 0; k < e->n_ports; k++)
            for (uint32_t n = 0; n < e->service->n_ports && e->ports[k].port == port; n++) {
                const struct ix_port *p = &e->service->ports[n];

                if (p->name != e->ports[k].name || !p->tcp ||
                    (best && service_order(best, e->service) <= 0))
                    continue;
                best = e->service;
                ret->protocol = compile_protocol(istr_slice(p->app_protocol), istr_slice(p->name),
                                                 p->port);
            }
    }
    return best && best->headless ? best : NULL;
}

static void of_pod(struct cc *c, struct builder *b, const struct ipaddr *ip)
{
    struct target_port p = {.port = b->port};
    const struct ix_service *svc;
    uint32_t cluster;
    char text[IP_TEXT];

    p.protocol = compile_protocol(SLICE_NULL, SLICE_NULL, b->port);
    svc = service_of_pod(c, b->target->pod, b->port, &p);
    cc_dep(c, INDEX_TOKEN_POD(istr_slice(b->target->pod->ns), istr_slice(b->target->pod->name)));
    b->s->protocol = p.protocol;
    b->s->name = svc ? cc_copy(c, istr_slice(svc->name)) : SLICE_NULL;
    b->s->host = svc ? cc_printf(c, "%s.%s.svc.%.*s", svc->name->p, svc->ns->p,
                                 SL_FMT(c->mesh->cluster_domain))
                     : cc_printf(c, "%s", ip_format(ip, text));
    cluster = cluster_for_pod(c, b, &p, svc, ip);
    routes_default(c, b, cluster, prog_is_http(p.protocol) || p.protocol == PROG_AUTO,
                   !prog_is_http(p.protocol));
}

static void of_host(struct cc *c, struct builder *b, const struct target_port *p)
{
    const struct target *t = b->target;
    enum prog_protocol protocol = scope_protocol(c, t->ns, t->host, b->port, p->protocol);
    bool http = prog_is_http(protocol) || protocol == PROG_AUTO;

    b->s->protocol = protocol;
    b->s->host = cc_copy(c, t->host);
    b->s->name = cc_copy(c, t->kind == TARGET_SERVICE ? istr_slice(t->svc->name) : t->host);
    if (t->se)
        cc_origin(c, INDEX_SE, t->se->meta);
    if (t->vs)
        routes_of_vs(c, b, t->vs, protocol, t->kind != TARGET_HOST);
    else
        routes_default(c, b,
                       cluster_for(c, b, t->host, b->port, SLICE_NULL, NULL, SLICE_NULL), http,
                       !prog_is_http(protocol));
}

/* What is unknown, HTTP or not, to a Sidecar's egressProxy. One that is not there lets nothing out. */
static struct prog *egress_proxy(struct cc *c)
{
    const struct vs_destination *d = scope_egress_proxy(c);
    const struct ix_object *o = scope_sidecar(c);
    struct target nobody = {.kind = TARGET_NONE}; /* that the client meant */
    struct builder b = {.target = &nobody};
    struct prog_cluster *to;
    uint32_t i;

    if (!d || !(b.s = cc_prog(c, PROG_SERVICE, sizeof *b.s)))
        return NULL;
    cc_origin(c, INDEX_SC, o->meta);
    i = cluster_for(c, &b, index_fqdn(c->x, d->host, o->meta->ns, c->a), d->port, d->subset, NULL,
                    SLICE_NULL);
    if (i >= b.s->n_clusters)
        return NULL;
    to = &b.s->clusters[i];
    /* The address that was dialled is the stranger's. */
    to->original_dst = false;
    if (to->balancer == PROG_PASSTHROUGH)
        to->balancer = PROG_LEAST_REQUEST;
    if (to->problem.len)
        cc_problem(c, FINDING_REFERENCE, INDEX_SC, o->meta,
                   SL("spec.outboundTrafficPolicy.egressProxy"), "%.*s", SL_FMT(to->problem));
    b.s->port = to->port;
    b.s->host = to->host;
    b.s->name = to->service_name;
    b.s->namespace_ = to->service_namespace;
    routes_default(c, &b, i, true, true);
    return &b.s->prog;
}

/* *t is what was asked for. */
static struct prog_service *service_of(struct cc *c, struct target *t, const struct ipaddr *ip,
                                       uint16_t port)
{
    struct builder b = {.target = t, .port = port};
    struct target_port p = {0};

    if (t->kind == TARGET_NONE || (t->kind != TARGET_POD && !target_port_find(t, port, &p)))
        return NULL;
    b.s = cc_prog(c, PROG_SERVICE, sizeof *b.s);
    if (!b.s)
        return NULL;
    b.s->port = b.port = port ? port : p.port;
    b.s->namespace_ = cc_copy(c, t->ns);
    if (t->kind == TARGET_POD)
        of_pod(c, &b, ip);
    else
        of_host(c, &b, &p);
    return b.s;
}

struct prog_service *service_of_host(struct cc *c, struct slice host, uint16_t port)
{
    char name[HOST_MAX + 4];
    struct target t;

    if (host_normalise(host, name, sizeof name, &host) != ERR_OK)
        return NULL;
    t = target_of_authority(c, cc_copy(c, host), port);
    return service_of(c, &t, NULL, port);
}

struct prog *compile_service(struct cc *c, struct slice key, enum err_code *rc)
{
    struct prog_service *s;
    struct prog *bound;
    struct target t;
    struct slice host, gate;
    struct ipaddr ip;
    uint16_t port;

    cc_dep(c, INDEX_TOKEN_MESH);
    if (prog_gate_key_split(key, &gate, &host))
        return slice_starts(gate, SL(PROG_EGRESS_GATE)) ? compile_egress(c, gate, host)
                                                        : compile_vhost(c, gate, host);
    if (slice_is(key, PROG_EGRESS_KEY))
        return egress_proxy(c);
    if (!key_split(c, key, &host, &ip, &port)) {
        *rc = ERR_INVALID;
        return NULL;
    }
    bound = ip.len ? compile_bound(c, &ip, port) : NULL;
    if (bound)
        return bound;
    t = ip.len ? target_of_ip(c, &ip, port) : target_of_authority(c, host, port);
    s = service_of(c, &t, &ip, port);
    return s ? &s->prog : NULL;
}
