/* SPDX-License-Identifier: Apache-2.0 */
/* Sidecars: which of them holds for a client, and what of the mesh it lets the client see. Istio's
 * rules: one that selects the workload, else the namespace's, else the root namespace's; egress
 * lists what is seen, and what the VirtualServices that are seen lead to is seen with them. */
#include "mesh/compile/compile_int.h"

/* --- selection ----------------------------------------------------------------------------------
 */
/* The oldest valid one of a namespace: for all its workloads, or one whose labels the client has.
 */
static const struct ix_object *find(struct cc *c, struct slice ns, bool all)
{
    const struct ix_objects *l = index_sc_of(c->x, ns);

    cc_dep(c, INDEX_TOKEN_SC(ns));
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct api_selector *s = &l->p[i]->sc->selector;

        if (!l->p[i]->invalid && api_selector_is_all(s) == all &&
            (all || cc_labels_cover(c, &s->labels)))
            return l->p[i];
    }
    return NULL;
}

const struct ix_object *scope_sidecar(struct cc *c)
{
    struct slice ns, root = c->mesh->root_namespace;

    if (c->sidecar_known)
        return c->sidecar;
    c->sidecar_known = true;
    cc_dep(c, INDEX_TOKEN_SIDECARS);
    if (!index_any(c->x, INDEX_SC)) /* nobody's namespace matters */
        return NULL;
    ns = cc_ns(c);
    c->sidecar = find(c, ns, false);
    if (!c->sidecar)
        c->sidecar = find(c, ns, true);
    if (!c->sidecar && !slice_eq(ns, root))
        c->sidecar = find(c, root, true);
    return c->sidecar;
}

const struct vs_destination *scope_egress_proxy(struct cc *c)
{
    const struct ix_object *o = scope_sidecar(c);

    return o && o->sc->outbound == SC_ALLOW_ANY ? o->sc->egress_proxy : NULL;
}

/* --- what it lets through -----------------------------------------------------------------------
 */
/* Do "namespace/host" entries take in this host of an object in `ns`? `routes`: it is a
 * VirtualService's, which is seen when they have some host in common. */
static bool takes(struct cc *c, const struct api_strings *hosts, struct slice ns, struct slice host,
                  bool routes)
{
    bool in = false;

    for (uint32_t i = 0; i < hosts->n; i++) {
        ptrdiff_t slash = slice_chr(hosts->p[i], '/');
        struct slice where, what;

        if (slash < 0)
            continue;
        where = slice_head(hosts->p[i], (size_t)slash);
        what = slice_skip(hosts->p[i], (size_t)slash + 1);
        if (!(routes ? host_overlaps(what, host) : host_matches(what, host)))
            continue;
        if (where.len > 1 && where.p[0] == '~') {
            if (slice_eq(slice_skip(where, 1), ns))
                return false;
            continue;
        }
        in |= slice_is(where, "*") || slice_eq(where, ns) ||
              (slice_is(where, ".") && slice_eq(ns, cc_ns(c)));
    }
    return in;
}

/* Traffic comes to it by redirection, on this port (0: on some). */
static bool listens(const struct sc *sc, uint32_t i, uint32_t port)
{
    const struct sc_egress *e = &sc->egress[i];

    struct ipaddr ip;

    if (e->capture == SC_CAPTURE_NONE || slice_starts(e->bind, SL("unix://")))
        return false;
    if (!port)
        return true;
    if (sc_bound(e, &ip))
        return false;
    if (e->port)
        return e->port->number == port;
    for (uint32_t k = 0; k < sc->n_egress; k++) /* what others left */
        if (sc->egress[k].port && listens(sc, k, port))
            return false;
    return true;
}

static bool sees(struct cc *c, struct slice ns, struct slice host, uint32_t port, bool routes)
{
    const struct ix_object *o = scope_sidecar(c);

    if (c->entry)
        return takes(c, &c->entry->hosts, ns, host, routes);
    if (!o || !o->sc->n_egress)
        return true;
    for (uint32_t i = 0; i < o->sc->n_egress; i++)
        if (listens(o->sc, i, port) && takes(c, &o->sc->egress[i].hosts, ns, host, routes))
            return true;
    return false;
}

enum prog_protocol scope_protocol(struct cc *c, struct slice ns, struct slice host, uint16_t port,
                                  enum prog_protocol otherwise)
{
    const struct ix_object *o = c->entry ? NULL : scope_sidecar(c);

    if (c->entry)
        return compile_protocol(c->entry->port->protocol, c->entry->port->name, port);
    for (uint32_t i = 0; o && i < o->sc->n_egress; i++) {
        const struct sc_egress *e = &o->sc->egress[i];

        if (e->port && listens(o->sc, i, port) && takes(c, &e->hosts, ns, host, false))
            return compile_protocol(e->port->protocol, e->port->name, port);
    }
    return otherwise;
}

bool scope_sees_vs(struct cc *c, const struct ix_object *vs, struct slice host, uint32_t port)
{
    return sees(c, vs->meta->ns, host, port, true);
}

bool scope_sees(struct cc *c, struct slice ns, struct slice host, uint32_t port)
{
    return sees(c, ns, host, port, false);
}

bool scope_sees_pod(struct cc *c, const struct ix_pod *pod)
{
    const struct ix_object *o = scope_sidecar(c);
    struct slice domain = c->mesh->cluster_domain, ns = istr_slice(pod->ns);
    bool any = false;

    if (!o || !o->sc->n_egress)
        return true;
    cc_dep(c, INDEX_TOKEN_POD(ns, istr_slice(pod->name)));
    for (uint16_t i = 0; i < pod->n_slices; i++) {
        const struct ix_slice *e = pod->slices[i];

        cc_dep(c, INDEX_TOKEN_SLICE(istr_slice(e->ns), istr_slice(e->name)));
        if (!e->service)
            continue;
        any = true;
        if (sees(c, istr_slice(e->ns),
                 cc_printf(c, "%s.%s.svc.%.*s", e->service->name->p, e->ns->p, SL_FMT(domain)), 0,
                 false))
            return true;
    }
    return !any && sees(c, ns, cc_printf(c, "*.%s.svc.%.*s", pod->ns->p, SL_FMT(domain)), 0, false);
}

/* --- what the VirtualServices that are seen lead to ---------------------------------------------
 */
struct lead {
    struct cc *c;
    struct slice host;
    uint32_t port;
    bool found;
};

static bool is_host(struct lead *l, const struct ix_object *o, struct slice dest)
{
    /* A short name is the beginning of the complete one. */
    return slice_starts(l->host, dest) &&
           slice_eq(index_fqdn(l->c->x, dest, o->meta->ns, l->c->a), l->host);
}

static bool some_leads(struct lead *l, const struct ix_object *o, const struct vs_route_dests *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (is_host(l, o, r->p[i].destination.host))
            return true;
    return false;
}

static bool leads(struct lead *l, const struct ix_object *o)
{
    const struct vs *vs = o->vs;

    for (uint32_t i = 0; i < vs->n_http; i++) {
        if (some_leads(l, o, &vs->http[i].route))
            return true;
        for (uint32_t k = 0; k < vs->http[i].n_mirrors; k++)
            if (is_host(l, o, vs->http[i].mirrors[k].destination.host))
                return true;
    }
    for (uint32_t i = 0; i < vs->n_tls; i++)
        if (some_leads(l, o, &vs->tls[i].route))
            return true;
    for (uint32_t i = 0; i < vs->n_tcp; i++)
        if (some_leads(l, o, &vs->tcp[i].route))
            return true;
    return false;
}

static bool seek(void *user, const struct ix_object *o)
{
    struct lead *l = user;

    if (o->invalid || !o->vs->mesh || !cc_visible(l->c, &o->vs->export_to, o->meta->ns) ||
        !leads(l, o))
        return true;
    for (uint32_t i = 0; i < o->n_hosts && !l->found; i++)
        l->found = scope_sees_vs(l->c, o, o->hosts[i], l->port);
    return !l->found;
}

bool scope_leads_to(struct cc *c, struct slice host, uint32_t port)
{
    struct lead l = {c, host, port, false};

    cc_dep(c, INDEX_TOKEN_FILTER); /* any VirtualService */
    index_each_object(c->x, INDEX_VS, seek, &l);
    return l.found;
}
