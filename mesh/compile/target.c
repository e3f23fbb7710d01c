/* SPDX-License-Identifier: Apache-2.0 */
/* What a host or an address is to a client. */
#include "mesh/compile/compile_int.h"

static bool has_port(const struct se *se, uint32_t port)
{
    for (uint32_t i = 0; i < se->ports.n; i++)
        if (se->ports.p[i].number == port)
            return true;
    return false;
}

/* May the client see an object's host, as far as its Sidecar says? */
static bool in_scope(struct cc *c, struct slice ns, struct slice host, uint32_t port)
{
    return c->scope == SCOPE_OFF || scope_sees(c, ns, host, port) ||
           (c->scope == SCOPE_CALL && scope_leads_to(c, host, port));
}

/* The ServiceEntry of exactly this host or pattern that the client may see: the oldest with the port.
 * *first (unless it is set) gets the oldest. */
static const struct ix_object *se_of(struct cc *c, struct slice pattern, uint32_t port,
                                     const struct ix_object **first)
{
    const struct ix_objects *l = index_se_of(c->x, pattern);

    cc_dep(c, INDEX_TOKEN_SE(pattern));
    for (uint32_t i = 0; l && i < l->n; i++) {
        if (!cc_visible(c, &l->p[i]->se->export_to, l->p[i]->meta->ns) ||
            !in_scope(c, l->p[i]->meta->ns, pattern, port))
            continue;
        if (!*first)
            *first = l->p[i];
        if (!port || has_port(l->p[i]->se, port))
            return l->p[i];
    }
    return NULL;
}

static const struct ix_service *service_of(struct cc *c, struct slice host, uint32_t port)
{
    const struct ix_service *s;
    struct slice name, ns;

    if (!index_host_split(c->x, host, &name, &ns))
        return NULL;
    cc_dep(c, INDEX_TOKEN_SERVICE(ns, name));
    s = index_service(c->x, ns, name);
    return s && s->known && cc_visible(c, &s->export_to, ns) && in_scope(c, ns, host, port) ? s
                                                                                             : NULL;
}

struct target target_of_host(struct cc *c, struct slice host, uint32_t port)
{
    struct target t = {.kind = TARGET_NONE, .host = host};
    const struct ix_object *first = NULL;
    struct slice pattern = SLICE_NULL;

    t.svc = service_of(c, host, port);
    if (t.svc) {
        t.kind = TARGET_SERVICE;
        t.ns = istr_slice(t.svc->ns);
        return t;
    }
    while (!t.se && cc_next_pattern(c, host, &pattern))
        t.se = se_of(c, pattern, port, &first);
    if (!t.se)
        t.se = first;
    if (t.se) {
        t.kind = TARGET_SE;
        t.ns = t.se->meta->ns;
    }
    return t;
}

struct target target_of_destination(struct cc *c, struct slice host, uint32_t port)
{
    struct target t;

    c->scope = SCOPE_DESTINATION;
    t = target_of_host(c, host, port);
    c->scope = SCOPE_OFF;
    return t.kind == TARGET_NONE && scope_sidecar(c) ? target_of_host(c, host, port) : t;
}

/* May a VirtualService give this client a host that is no Service? */
static bool may_own(struct cc *c, const struct ix_object *vs)
{
    return c->mesh->host_ownership == MESH_HOSTS_ISTIO ||
           slice_eq(vs->meta->ns, cc_ns(c));
}

const struct ix_object *target_vs(struct cc *c, struct slice host, uint32_t port)
{
    struct slice pattern = SLICE_NULL;

    while (cc_next_pattern(c, host, &pattern)) {
        const struct ix_objects *l = index_vs_of(c->x, pattern);
        const struct ix_object *winner = NULL;

        cc_dep(c, INDEX_TOKEN_VS(pattern));
        for (uint32_t i = 0; l && i < l->n; i++) {
            const struct ix_object *o = l->p[i];

            if (!o->vs->mesh || !cc_visible(c, &o->vs->export_to, o->meta->ns) ||
                !scope_sees_vs(c, o, pattern, port))
                continue;
            if (!winner) {
                winner = o;
                continue;
            }
            cc_origin(c, INDEX_VS, o->meta);
            cc_problem(c, FINDING_CONFLICT, INDEX_VS, o->meta, SL("spec.hosts"),
                       "host %.*s belongs to the older VirtualService %.*s/%.*s, whose routes hold",
                       SL_FMT(pattern), SL_FMT(winner->meta->ns), SL_FMT(winner->meta->name));
        }
        if (winner)
            return winner;
    }
    return NULL;
}

/* A host as written, after the forms that the resolver's search list would try. */
static uint32_t candidates(struct cc *c, struct slice host, struct slice v[2])
{
    struct slice domain = c->mesh->cluster_domain;
    uint32_t n = 0, dots = 0;

    for (size_t i = 0; i < host.len; i++)
        dots += host.p[i] == '.';
    if (dots == 0) {
        struct slice ns = cc_ns(c);

        v[n++] = cc_printf(c, "%.*s.%.*s.svc.%.*s", SL_FMT(host), SL_FMT(ns), SL_FMT(domain));
    } else if (dots == 1) {
        v[n++] = cc_printf(c, "%.*s.svc.%.*s", SL_FMT(host), SL_FMT(domain));
    } else if (dots == 2 && slice_ends(host, SL(".svc"))) {
        v[n++] = cc_printf(c, "%.*s.%.*s", SL_FMT(host), SL_FMT(domain));
    }
    v[n++] = host;
    return n;
}

struct target target_of_authority(struct cc *c, struct slice host, uint32_t port)
{
    struct target t = {.kind = TARGET_NONE, .host = host};
    struct slice v[2];
    uint32_t n = candidates(c, host, v);

    for (uint32_t i = 0; i < n && !c->nomem; i++) {
        c->scope = SCOPE_CALL;
        t = target_of_host(c, v[i], port);
        c->scope = SCOPE_OFF;
        if (t.kind != TARGET_NONE) {
            t.vs = target_vs(c, t.host, port);
            return t;
        }
    }
    for (uint32_t i = 0; i < n && !c->nomem; i++) {
        const struct ix_object *vs = target_vs(c, v[i], port);

        if (vs && may_own(c, vs))
            return (struct target){
                .kind = TARGET_HOST, .host = v[i], .ns = vs->meta->ns, .vs = vs};
    }
    return t;
}

struct seen {
    struct cc *c;
    uint32_t port;
};

static bool sees(void *user, const struct ix_object *o)
{
    struct seen *s = user;

    return o->n_hosts && has_port(o->se, s->port) &&
           cc_visible(s->c, &o->se->export_to, o->meta->ns) &&
           (scope_sees(s->c, o->meta->ns, o->hosts[0], s->port) ||
            scope_leads_to(s->c, o->hosts[0], s->port));
}

/* A pod's own address goes before the range that it lies in. */
static struct target target_of_range(struct seen *s, const struct ipaddr *ip)
{
    const struct ix_object *o = NULL;

    cc_dep(s->c, INDEX_TOKEN_RANGES);
    if (index_se_ranges(s->c->x))
        o = index_se_by_range(s->c->x, ip, sees, s);
    return o ? target_of_authority(s->c, o->hosts[0], s->port)
             : (struct target){.kind = TARGET_NONE};
}

struct target target_of_ip(struct cc *c, const struct ipaddr *ip, uint32_t port)
{
    struct target t = {.kind = TARGET_NONE};
    struct seen s = {c, port};
    struct slice host;

    cc_dep(c, INDEX_TOKEN_IP(ip));
    t.svc = index_service_by_vip(c->x, ip);
    if (t.svc)
        return target_of_authority(c,
                                   cc_printf(c, "%s.%s.svc.%.*s", t.svc->name->p, t.svc->ns->p,
                                             SL_FMT(c->mesh->cluster_domain)),
                                   port);
    for (const struct ix_object *o = NULL; (o = index_se_by_ip(c->x, ip, o));)
        if (sees(&s, o))
            return target_of_authority(c, o->hosts[0], port);
    host = index_host_by_ip(c->x, ip);
    if (host.p)
        return target_of_authority(c, host, port);
    t.pod = index_pod_by_ip(c->x, ip);
    if (!t.pod)
        return target_of_range(&s, ip);
    if (!scope_sees_pod(c, t.pod))
        return (struct target){.kind = TARGET_NONE};
    t.kind = TARGET_POD;
    t.ns = istr_slice(t.pod->ns);
    return t;
}

static bool se_port(const struct se *se, uint32_t port, struct target_port *ret)
{
    for (uint32_t i = 0; i < se->ports.n; i++) {
        const struct api_port *p = &se->ports.p[i];

        if (port ? p->number != port : se->ports.n != 1)
            continue;
        *ret = (struct target_port){(uint16_t)p->number, p->name,
                                    compile_protocol(p->protocol, p->name, (uint16_t)p->number)};
        return true;
    }
    return false;
}

static bool svc_port(const struct ix_service *s, uint32_t port, struct target_port *ret)
{
    const struct ix_port *hit = NULL;

    for (uint32_t i = 0; i < s->n_ports; i++) {
        if (!s->ports[i].tcp || (port && s->ports[i].port != port))
            continue;
        if (hit)
            return false; /* without a number there must be only one */
        hit = &s->ports[i];
    }
    if (!hit)
        return false;
    *ret = (struct target_port){hit->port, istr_slice(hit->name),
                                compile_protocol(istr_slice(hit->app_protocol),
                                                 istr_slice(hit->name), hit->port)};
    return true;
}

/* A host of a VirtualService alone has no ports: any will do, its protocol shows itself. */
static bool host_port(const struct vs *vs, uint32_t port, struct target_port *ret)
{
    bool http_only = vs->n_http && !vs->n_tls && !vs->n_tcp;

    *ret = (struct target_port){(uint16_t)port, SLICE_NULL,
                                http_only && port == 80 ? PROG_HTTP
                                : vs->n_http           ? PROG_AUTO
                                : vs->n_tls            ? PROG_TLS
                                                       : PROG_TCP};
    return port != 0;
}

bool target_port_find(const struct target *t, uint32_t port, struct target_port *ret)
{
    switch (t->kind) {
    case TARGET_SERVICE:
        /* An ExternalName may have no ports at all: it is a name, not a door. */
        if (t->svc->external && t->svc->n_ports == 0 && port) {
            *ret = (struct target_port){(uint16_t)port, SLICE_NULL,
                                        compile_protocol(SLICE_NULL, SLICE_NULL, (uint16_t)port)};
            return true;
        }
        return svc_port(t->svc, port, ret);
    case TARGET_SE:
        return se_port(t->se->se, port, ret);
    case TARGET_HOST:
        return host_port(t->vs->vs, port, ret);
    case TARGET_POD:
    case TARGET_NONE:
        break;
    }
    return false;
}
