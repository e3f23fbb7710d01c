/* SPDX-License-Identifier: Apache-2.0 */
/* INBOUND: what may enter a workload, and how. */
#include "mesh/compile/compile_int.h"
#include "mesh/match/authz.h"

/* --- PeerAuthentication
 * ------------------------------------------------------------------------------- */
static enum pa_mode port_mode(const struct pa *pa, uint16_t port)
{
    for (uint32_t i = 0; port && i < pa->n_ports; i++)
        if (pa->ports[i].port == port)
            return pa->ports[i].mode;
    return PA_UNSET;
}

/* The oldest of a namespace that selects the pod, or (`pod` NULL) that is for the whole namespace.
 */
static const struct ix_object *pa_find(const struct index *x, struct slice ns,
                                       const struct ix_pod *pod)
{
    const struct ix_objects *l = index_pa_of(x, ns);

    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct pa *pa = l->p[i]->pa;
        bool all = api_selector_is_all(&pa->selector);

        if (pod ? !all && ilabels_cover(pod->labels, &pa->selector.labels) : all)
            return l->p[i];
    }
    return NULL;
}

/* Ordered from open to closed. */
static enum pa_mode floor_mode(enum pa_mode mode, enum pa_mode floor)
{
    static const int rank[] = {
        [PA_UNSET] = 0, [PA_DISABLE] = 1, [PA_PERMISSIVE] = 2, [PA_STRICT] = 3};

    return rank[mode] < rank[floor] ? floor : mode;
}

enum pa_mode compile_mtls_mode(const struct index *x, const struct ix_pod *pod, uint16_t port,
                               const struct ix_object **ret_from)
{
    struct slice root = index_mesh(x)->root_namespace;
    const struct ix_object *order[] = {pa_find(x, istr_slice(pod->ns), pod),
                                       pa_find(x, istr_slice(pod->ns), NULL),
                                       pa_find(x, root, NULL)};
    const struct ix_object *from = NULL;
    enum pa_mode mode = PA_UNSET;

    for (size_t i = 0; i < N_OF(order) && mode == PA_UNSET; i++) {
        if (!order[i])
            continue;
        from = order[i];
        mode = i == 0 ? port_mode(from->pa, port) : PA_UNSET; /* ports only with a selector */
        if (mode == PA_UNSET)
            mode = from->pa->mode;
    }
    if (mode == PA_UNSET) {
        mode = PA_PERMISSIVE;
        from = NULL;
    }
    if (ret_from)
        *ret_from = from;
    return floor_mode(mode, index_mesh(x)->mtls_floor);
}

static enum prog_mtls mtls_of(enum pa_mode mode)
{
    return mode == PA_DISABLE  ? PROG_MTLS_DISABLE
           : mode == PA_STRICT ? PROG_MTLS_STRICT
                               : PROG_MTLS_PERMISSIVE;
}

static void pa_origins(struct cc *c, const struct ix_pod *pod)
{
    const struct ix_object *o;

    if ((o = pa_find(c->x, istr_slice(pod->ns), pod)))
        cc_origin(c, INDEX_PA, o->meta);
    if ((o = pa_find(c->x, istr_slice(pod->ns), NULL)))
        cc_origin(c, INDEX_PA, o->meta);
    if ((o = pa_find(c->x, c->mesh->root_namespace, NULL)))
        cc_origin(c, INDEX_PA, o->meta);
}

/* --- ports
 * -------------------------------------------------------------------------------------------- */
uint16_t pod_named_port(const struct ix_pod *pod, struct slice name)
{
    struct slice rest = istr_slice(pod->ports), one;
    uint64_t port;

    while (slice_next(&rest, ',', &one)) {
        ptrdiff_t eq = slice_chr(one, '=');

        if (eq >= 0 && slice_eq(slice_head(one, (size_t)eq), name) &&
            slice_u64(slice_skip(one, (size_t)eq + 1), 65535, &port))
            return (uint16_t)port;
    }
    return 0;
}

static int cmp_port(const void *a, const void *b)
{
    const struct prog_inbound_port *x = a, *y = b;
    int d = (int)x->port - (int)y->port;

    return d ? d : slice_cmp(x->service_host, y->service_host);
}

static void add_port(struct cc *c, struct prog_inbound *in, uint32_t *cap, const struct ix_pod *pod,
                     uint16_t port, const struct ix_service *s, const struct ix_port *p)
{
    struct prog_inbound_port *to;

    if (!port)
        return;
    to = cc_grow(c, &in->ports, &in->n_ports, cap, sizeof *to);
    if (!to)
        return;
    to->port = port;
    to->mtls = mtls_of(compile_mtls_mode(c->x, pod, port, NULL));
    if (!s)
        return;
    to->protocol = compile_protocol(istr_slice(p->app_protocol), istr_slice(p->name), p->port);
    to->service_name = cc_copy(c, istr_slice(s->name));
    to->service_namespace = cc_copy(c, istr_slice(s->ns));
    to->service_host =
        cc_printf(c, "%s.%s.svc.%.*s", s->name->p, s->ns->p, SL_FMT(c->mesh->cluster_domain));
}

static void ports(struct cc *c, const struct ix_pod *pod, struct prog_inbound *in)
{
    const struct ix_object *pa = pa_find(c->x, istr_slice(pod->ns), pod);
    uint32_t cap = 0, n = 0;

    for (const struct ix_service *s = index_services(c->x, istr_slice(pod->ns)); s; s = s->next) {
        if (!s->known || !s->selector || !ilabels_cover_all(pod->labels, s->selector))
            continue;
        for (uint32_t i = 0; i < s->n_ports; i++)
            if (s->ports[i].tcp)
                add_port(c, in, &cap, pod,
                         s->ports[i].target ? s->ports[i].target
                                            : pod_named_port(pod, istr_slice(s->ports[i].target_name)),
                         s, &s->ports[i]);
    }
    for (uint32_t i = 0; pa && i < pa->pa->n_ports; i++)
        add_port(c, in, &cap, pod, (uint16_t)pa->pa->ports[i].port, NULL, NULL);
    if (in->n_ports)
        qsort(in->ports, in->n_ports, sizeof *in->ports, cmp_port);
    /* A port once, with its first service by name; entries without service come first. */
    for (uint32_t i = 0; i < in->n_ports; i++) {
        if (n && in->ports[n - 1].port == in->ports[i].port) {
            if (!in->ports[n - 1].service_host.len)
                in->ports[n - 1] = in->ports[i];
            continue;
        }
        in->ports[n++] = in->ports[i];
    }
    in->n_ports = n;
}

/* --- Sidecar ingress --------------------------------------------------------------------------------- */
static struct prog_inbound_port *port_of(struct prog_inbound *in, uint32_t port)
{
    for (uint32_t i = 0; i < in->n_ports; i++)
        if (in->ports[i].port == port)
            return &in->ports[i];
    return NULL;
}

static struct prog_cluster *limits_of(struct cc *c, const struct dr_connection_pool *pool)
{
    struct prog_cluster *to = pool ? CC_ARRAY(c, struct prog_cluster, 1) : NULL;

    if (to)
        rule_pool(c, pool, to);
    return to;
}

/* A Secret is for the workloads that a Sidecar selects in its own namespace, as with DestinationRules. */
static bool gives_secrets(struct cc *c, const struct ix_object *o)
{
    return slice_eq(o->meta->ns, cc_ns(c)) && !api_selector_is_all(&o->sc->selector);
}

bool ingress_needs(struct cc *c, struct slice name)
{
    const struct ix_object *o = scope_sidecar(c);
    bool needed = false;

    if (!o || !gives_secrets(c, o))
        return false;
    for (uint32_t i = 0; i < o->sc->n_ingress; i++)
        needed |= o->sc->ingress[i].tls && server_tls_names(o->sc->ingress[i].tls, name);
    if (needed)
        cc_origin(c, INDEX_SC, o->meta);
    return needed;
}

/* TLS of the proxy's own at a port holds where PeerAuthentication leaves mutual TLS out, as in Istio. */
static void ingress_tls(struct cc *c, const struct ix_object *o, uint32_t i,
                        struct prog_inbound_port *to)
{
    const struct sc_ingress *from = &o->sc->ingress[i];
    const struct gw_tls *t = from->tls;
    struct tls_source asks = {INDEX_SC, o->meta, cc_printf(c, "spec.ingress[%u].tls", i)};
    static const enum prog_gate_tls modes[] = {
        [GW_TLS_SIMPLE] = PROG_GATE_SIMPLE,
        [GW_TLS_MUTUAL] = PROG_GATE_MUTUAL,
        [GW_TLS_OPTIONAL_MUTUAL] = PROG_GATE_OPTIONAL_MUTUAL,
    };

    /* Behind TLS that is ended. */
    if (to->protocol == PROG_TLS)
        to->protocol = slice_ieq(from->port.protocol, SL("https")) ? PROG_HTTP : PROG_TCP;
    if (to->mtls != PROG_MTLS_DISABLE) {
        cc_problem(c, FINDING_SUSPECT, INDEX_SC, o->meta, asks.path,
                   "has no effect: port %u has the mesh's own TLS, which PeerAuthentication would "
                   "have to DISABLE",
                   to->port);
        return;
    }
    to->tls = CC_ARRAY(c, struct prog_gate, 1);
    if (!to->tls)
        return;
    *to->tls = (struct prog_gate){.name = cc_printf(c, "ingress.%u", to->port),
                                  .tls = (size_t)t->mode < N_OF(modes) ? modes[t->mode]
                                                                       : PROG_GATE_CLOSED,
                                  .http = prog_is_http(to->protocol)};
    if (server_tls_secrets(t) && !gives_secrets(c, o)) {
        cc_problem(c, FINDING_CLOSED, INDEX_SC, o->meta, asks.path,
                   "a Secret is given to the sidecars alone that a workloadSelector selects in its "
                   "own namespace: nobody enters at port %u",
                   to->port);
        to->tls->tls = PROG_GATE_CLOSED;
    }
    server_tls(c, &asks, t, to->tls);
}

/* What its ports speak and where the application is; the rest stays as Services and PeerAuthentications
 * have it. */
static void ingress(struct cc *c, const struct ix_pod *pod, struct prog_inbound *in)
{
    const struct ix_object *o = scope_sidecar(c);
    uint32_t cap = in->n_ports;
    struct prog_cluster *limits = o ? limits_of(c, o->sc->inbound_pool) : NULL;

    for (uint32_t i = 0; i < in->n_ports; i++)
        in->ports[i].limits = limits;
    for (uint32_t i = 0; o && i < o->sc->n_ingress; i++) {
        const struct sc_ingress *from = &o->sc->ingress[i];
        struct prog_inbound_port *to;

        if (!port_of(in, from->port.number))
            add_port(c, in, &cap, pod, (uint16_t)from->port.number, NULL, NULL);
        to = port_of(in, from->port.number);
        if (!to)
            return;
        to->protocol = compile_protocol(from->port.protocol, from->port.name, to->port);
        to->endpoint = cc_copy(c, from->default_endpoint);
        to->limits = from->pool ? limits_of(c, from->pool) : limits;
        if (from->tls)
            ingress_tls(c, o, i, to);
    }
    if (in->n_ports)
        qsort(in->ports, in->n_ports, sizeof *in->ports, cmp_port);
}

/* --- AuthorizationPolicy
 * ------------------------------------------------------------------------------ */
static void cidrs(struct cc *c, const struct api_strings *from, struct cidr **to, uint32_t *n,
                  bool *bad)
{
    *to = CC_ARRAY(c, struct cidr, from->n);
    for (uint32_t i = 0; *to && i < from->n; i++)
        if (cidr_parse(from->p[i], &(*to)[*n]))
            ++*n;
        else
            *bad = true;
}

static void source(struct cc *c, const struct ap_source *from, struct authz_source *to, bool *bad)
{
    to->principals = cc_copy_strings(c, &from->principals);
    to->not_principals = cc_copy_strings(c, &from->not_principals);
    to->namespaces = cc_copy_strings(c, &from->namespaces);
    to->not_namespaces = cc_copy_strings(c, &from->not_namespaces);
    to->service_accounts = cc_copy_strings(c, &from->service_accounts);
    to->not_service_accounts = cc_copy_strings(c, &from->not_service_accounts);
    cidrs(c, &from->ip_blocks, &to->ip_blocks, &to->n_ip_blocks, bad);
    cidrs(c, &from->not_ip_blocks, &to->not_ip_blocks, &to->n_not_ip_blocks, bad);
}

static void operation(struct cc *c, const struct ap_operation *from, struct authz_operation *to)
{
    to->hosts = cc_copy_strings(c, &from->hosts);
    to->not_hosts = cc_copy_strings(c, &from->not_hosts);
    to->ports = cc_copy_strings(c, &from->ports);
    to->not_ports = cc_copy_strings(c, &from->not_ports);
    to->methods = cc_copy_strings(c, &from->methods);
    to->not_methods = cc_copy_strings(c, &from->not_methods);
    to->paths = cc_copy_strings(c, &from->paths);
    to->not_paths = cc_copy_strings(c, &from->not_paths);
}

static void rule(struct cc *c, const struct ap_rule *from, struct authz_rule *to, bool *bad)
{
    to->from = CC_ARRAY(c, struct authz_source, from->n_from);
    to->to = CC_ARRAY(c, struct authz_operation, from->n_to);
    to->when = CC_ARRAY(c, struct authz_condition, from->n_when);
    for (uint32_t i = 0; to->from && i < from->n_from; i++)
        source(c, &from->from[i], &to->from[to->n_from++], bad);
    for (uint32_t i = 0; to->to && i < from->n_to; i++)
        operation(c, &from->to[i], &to->to[to->n_to++]);
    for (uint32_t i = 0; to->when && i < from->n_when; i++)
        to->when[to->n_when++] = (struct authz_condition){
            cc_copy(c, from->when[i].key), cc_copy_strings(c, &from->when[i].values),
            cc_copy_strings(c, &from->when[i].not_values)};
}

static void policy(struct cc *c, const struct ix_object *o, struct authz_policy *to)
{
    static const enum prog_action actions[] = {[AP_ALLOW] = PROG_ALLOW,
                                               [AP_DENY] = PROG_DENY,
                                               [AP_AUDIT] = PROG_AUDIT,
                                               [AP_CUSTOM] = PROG_CUSTOM};
    const struct ap *ap = o->ap;
    const char *gap = o->invalid ? "it is not valid" : ap_gap(ap);
    bool bad = false;

    cc_origin(c, INDEX_AP, o->meta);
    to->namespace_ = cc_copy(c, o->meta->ns);
    to->name = cc_copy(c, o->meta->name);
    to->action = actions[ap->action];
    to->dry_run = ap->dry_run;
    to->rules = CC_ARRAY(c, struct authz_rule, ap->n_rules);
    for (uint32_t i = 0; to->rules && i < ap->n_rules; i++)
        rule(c, &ap->rules[i], &to->rules[to->n_rules++], &bad);
    if (!gap && bad)
        gap = "an address range cannot be read";
    if (gap)
        to->closed = slice_str(gap); /* its status says so by ap_validate */
}

static int cmp_policy(const void *a, const void *b)
{
    const struct authz_policy *x = a, *y = b;
    int d = slice_cmp(x->namespace_, y->namespace_);

    return d ? d : slice_cmp(x->name, y->name);
}

static void policies_in(struct cc *c, const struct ix_pod *pod, struct slice ns,
                        struct prog_inbound *in, uint32_t *cap)
{
    const struct ix_objects *l = index_ap_of(c->x, ns);

    cc_dep(c, INDEX_TOKEN_AP(ns));
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct ap *ap = l->p[i]->ap;
        struct authz_policy *to;

        /* targetRefs are for gateways and waypoints, as in Istio: no sidecar is selected. */
        if (ap->target_refs.n ||
            (ap->selector.set && !ilabels_cover(pod->labels, &ap->selector.labels)))
            continue;
        to = cc_grow(c, &in->policies, &in->n_policies, cap, sizeof *to);
        if (to)
            policy(c, l->p[i], to);
    }
}

/* --- RequestAuthentication
 * ---------------------------------------------------------------------------- */
/* What it asks for and proxies cannot do stands as a policy that is closed: a token that nobody
 * verified must not pass for a good one. */
static void tokens_in(struct cc *c, const struct ix_pod *pod, struct slice ns,
                      struct prog_inbound *in, uint32_t *cap)
{
    const struct ix_objects *l = index_ra_of(c->x, ns);

    cc_dep(c, INDEX_TOKEN_RA(ns));
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct ra *ra = l->p[i]->ra;
        const char *gap = ra_closed_reason(ra);
        struct authz_policy *to;

        if (ra->target_refs.n ||
            (ra->selector.set && !ilabels_cover(pod->labels, &ra->selector.labels)))
            continue;
        cc_origin(c, INDEX_RA, l->p[i]->meta);
        if (!gap)
            continue;
        to = cc_grow(c, &in->policies, &in->n_policies, cap, sizeof *to);
        if (!to)
            return;
        to->namespace_ = cc_copy(c, l->p[i]->meta->ns);
        to->name = cc_copy(c, l->p[i]->meta->name);
        to->action = PROG_DENY;
        to->closed = slice_str(gap);
    }
}

struct prog *compile_inbound(struct cc *c)
{
    struct slice ns = cc_ns(c), name = cc_pod(c), root = c->mesh->root_namespace;
    const struct ix_pod *pod = index_pod(c->x, ns, name);
    struct prog_inbound *in;
    uint32_t cap = 0;

    cc_dep(c, INDEX_TOKEN_POD(ns, name));
    cc_dep(c, INDEX_TOKEN_MESH);
    cc_dep(c, INDEX_TOKEN_SERVICES(ns));
    cc_dep(c, INDEX_TOKEN_PA(ns));
    cc_dep(c, INDEX_TOKEN_PA(root));
    if (!pod || !pod->known)
        return NULL;
    in = cc_prog(c, PROG_INBOUND, sizeof *in);
    if (!in)
        return NULL;
    in->mtls = mtls_of(compile_mtls_mode(c->x, pod, 0, NULL));
    pa_origins(c, pod);
    if (scope_sidecar(c))
        cc_origin(c, INDEX_SC, scope_sidecar(c)->meta);
    ports(c, pod, in);
    ingress(c, pod, in);
    policies_in(c, pod, root, in, &cap);
    tokens_in(c, pod, root, in, &cap);
    if (!slice_eq(root, ns)) {
        policies_in(c, pod, ns, in, &cap);
        tokens_in(c, pod, ns, in, &cap);
    }
    if (in->n_policies)
        qsort(in->policies, in->n_policies, sizeof *in->policies, cmp_policy);
    fill_workload(c, pod, &in->self);
    cc_dep(c, INDEX_TOKEN_NODES);
    in->self.locality = index_pod_locality(c->x, pod, c->a);
    in->self.node = cc_copy(c, istr_slice(pod->node));
    return &in->prog;
}
