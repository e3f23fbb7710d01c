/* SPDX-License-Identifier: Apache-2.0 */
/* SETTINGS and NAMES: what concerns the whole mesh. */
#include "mesh/compile/compile_int.h"

/* --- the filter of hosts and addresses ---------------------------------------------------------------- */
struct keys {
    struct cc *c;
    struct slice *p;
    uint32_t n, cap;
};

static void add_key(struct keys *k, struct slice s)
{
    struct slice *to = s.len ? cc_grow(k->c, &k->p, &k->n, &k->cap, sizeof *to) : NULL;

    if (to)
        *to = s;
}

static bool add_service(void *user, const struct ix_service *s)
{
    struct keys *k = user;

    add_key(k, cc_printf(k->c, "%s.%s.svc.%.*s", s->name->p, s->ns->p,
                         SL_FMT(k->c->mesh->cluster_domain)));
    for (uint32_t i = 0; i < s->n_vips; i++)
        add_key(k, slice_of(s->vips[i].b, s->vips[i].len));
    return !k->c->nomem;
}

static bool add_object(void *user, const struct ix_object *o)
{
    struct keys *k = user;
    struct ipaddr ip, given[2];

    if (o->invalid || (o->kind == INDEX_VS && !o->vs->mesh))
        return true;
    for (uint32_t i = 0; i < o->n_hosts; i++) {
        add_key(k, o->hosts[i]);
        for (unsigned n = index_addresses_of(k->c->x, o->hosts[i], given); n-- > 0;)
            add_key(k, cc_copy(k->c, slice_of(given[n].b, given[n].len)));
    }
    if (o->kind == INDEX_WE && ip_parse(o->we->endpoint.address, &ip))
        add_key(k, cc_copy(k->c, slice_of(ip.b, ip.len)));
    for (uint32_t i = 0; o->kind == INDEX_SE && i < o->se->addresses.n; i++)
        if (ip_parse(o->se->addresses.p[i], &ip))
            add_key(k, cc_copy(k->c, slice_of(ip.b, ip.len)));
    return !k->c->nomem;
}

static void filter(struct cc *c, struct prog_filter *ret)
{
    struct keys k = {.c = c};

    cc_dep(c, INDEX_TOKEN_FILTER);
    index_each_service(c->x, add_service, &k);
    index_each_object(c->x, INDEX_SE, add_object, &k);
    index_each_object(c->x, INDEX_VS, add_object, &k);
    index_each_object(c->x, INDEX_WE, add_object, &k);
    if (prog_filter_build(c->a, k.p, k.n, ret) != ERR_OK)
        c->nomem = true;
}

/* --- SETTINGS ----------------------------------------------------------------------------------------- */
struct ranges {
    struct cc *c;
    struct prog_settings *s;
    uint32_t cap;
};

static void add_range(struct ranges *r, struct slice text)
{
    struct cidr one, *to;

    if (!cidr_parse(text, &one))
        return;
    to = cc_grow(r->c, &r->s->pod_cidrs, &r->s->n_pod_cidrs, &r->cap, sizeof *to);
    if (to)
        *to = one;
}

static bool add_node(void *user, const struct k8s_node *n)
{
    for (uint32_t i = 0; i < n->pod_cidrs.n; i++)
        add_range(user, n->pod_cidrs.p[i]);
    return true;
}

static int cmp_cidr(const void *a, const void *b)
{
    const struct cidr *x = a, *y = b;
    int d = ip_cmp(&x->ip, &y->ip);

    return d ? d : (int)x->bits - (int)y->bits;
}

/* Addresses within ranges of ServiceEntries are asked for, too. */
static void se_ranges(struct cc *c, struct ranges *r)
{
    const struct ix_objects *l = index_se_ranges(c->x);

    cc_dep(c, INDEX_TOKEN_RANGES);
    for (uint32_t i = 0; l && i < l->n; i++)
        for (uint32_t k = 0; k < l->p[i]->se->addresses.n; k++)
            if (slice_chr(l->p[i]->se->addresses.p[k], '/') >= 0)
                add_range(r, l->p[i]->se->addresses.p[k]);
}

/* ...and those that a Sidecar's egress entries are bound to. */
static void bound_addresses(struct cc *c, struct ranges *r)
{
    const struct ix_object *o = scope_sidecar(c);
    struct ipaddr ip;

    for (uint32_t i = 0; o && i < o->sc->n_egress; i++)
        if (sc_bound(&o->sc->egress[i], &ip))
            add_range(r, cc_printf(c, "%.*s/%u", SL_FMT(o->sc->egress[i].bind),
                                   ip.len == 4 ? 32u : 128u));
}

static void pod_ranges(struct cc *c, struct prog_settings *s)
{
    struct ranges r = {.c = c, .s = s};
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->mesh->pod_cidrs.n; i++)
        add_range(&r, c->mesh->pod_cidrs.p[i]);
    if (!c->mesh->pod_cidrs.n) {
        cc_dep(c, INDEX_TOKEN_NODES);
        index_each_node(c->x, add_node, &r);
    }
    se_ranges(c, &r);
    bound_addresses(c, &r);
    if (s->n_pod_cidrs)
        qsort(s->pod_cidrs, s->n_pod_cidrs, sizeof *s->pod_cidrs, cmp_cidr);
    for (uint32_t i = 0; i < s->n_pod_cidrs; i++)
        if (i == 0 || cmp_cidr(&s->pod_cidrs[i], &s->pod_cidrs[n - 1]) != 0)
            s->pod_cidrs[n++] = s->pod_cidrs[i];
    s->n_pod_cidrs = n;
}

/* A Sidecar's word goes before the mesh's. */
static bool registry_only(struct cc *c)
{
    const struct ix_object *o = scope_sidecar(c);

    return o && o->sc->outbound ? o->sc->outbound == SC_REGISTRY_ONLY
                                : c->mesh->outbound == MESH_REGISTRY_ONLY;
}

static bool listeners(struct cc *c)
{
    const struct ix_object *o = scope_sidecar(c);
    bool any = false;

    for (uint32_t i = 0; o && i < o->sc->n_egress; i++)
        any |= scope_opens(&o->sc->egress[i]);
    for (uint32_t i = 0; o && i < o->sc->n_ingress; i++)
        any |= scope_takes_in(&o->sc->ingress[i]);
    return any;
}

struct prog *compile_settings(struct cc *c)
{
    struct prog_settings *s = cc_prog(c, PROG_SETTINGS, sizeof *s);
    const struct mesh_cr *m = c->mesh;

    if (!s)
        return NULL;
    cc_dep(c, INDEX_TOKEN_MESH);
    if (m->meta.name.len)
        cc_origin(c, INDEX_MESH, &m->meta);
    s->trust_domain = cc_copy(c, m->trust_domain);
    s->cluster_domain = cc_copy(c, m->cluster_domain);
    s->mesh_id = cc_copy(c, m->mesh_id.len ? m->mesh_id : m->trust_domain);
    s->trust_domain_aliases = cc_copy_strings(c, &m->trust_domain_aliases);
    s->roots_pem = cc_copy(c, c->in->roots_pem);
    s->issuer = c->in->issuer;
    s->renew_within_s = c->in->renew_within_s;
    s->registry_only = registry_only(c);
    s->egress_proxy = scope_egress_proxy(c) != NULL;
    s->listeners = listeners(c);
    s->path_merge_slashes = m->path_normalization == MESH_PATH_MERGE_SLASHES;
    s->discovery_wait_ms = cc_ms(m->discovery_wait_ns);
    s->drain_ms = cc_ms(m->proxy.drain_ns);
    s->eager = m->discovery == MESH_EAGER;
    s->trace_sampling_permyriad = cc_permyriad(m->trace_sampling);
    s->access_log.disabled = m->access_log.disabled;
    s->access_log.json = m->access_log.encoding == MESH_LOG_JSON;
    s->access_log.format = cc_copy(c, m->access_log.format);
    pod_ranges(c, s);
    filter(c, &s->filter);
    return &s->prog;
}

/* --- NAMES -------------------------------------------------------------------------------------------- */
struct names {
    struct cc *c;
    struct prog_names *n;
    uint32_t cap;
};

static void add_name(struct names *s, struct slice host, const struct ipaddr *ips, uint32_t n)
{
    struct prog_name *to;

    if (!n)
        return;
    to = cc_grow(s->c, &s->n->names, &s->n->n_names, &s->cap, sizeof *to);
    if (!to)
        return;
    to->host = cc_copy(s->c, host);
    to->address = cc_strings(s->c, n);
    for (uint32_t i = 0; to->address.p && i < n; i++)
        to->address.p[to->address.n++] = cc_copy(s->c, slice_of(ips[i].b, ips[i].len));
}

/* A complete name that DNS in the cluster does not answer for. */
static bool capturable(struct cc *c, struct slice host)
{
    struct slice name, ns;
    struct ipaddr ip;

    return host.len && host.p[0] != '*' && slice_chr(host, '.') > 0 && !ip_parse(host, &ip) &&
           !index_host_split(c->x, host, &name, &ns);
}

/* Of several ServiceEntries the oldest that the client may see says where the host is. */
static bool says_where(struct cc *c, const struct ix_object *o, struct slice host)
{
    const struct ix_objects *l = index_se_of(c->x, host);

    for (uint32_t i = 0; l && i < l->n && l->p[i] != o; i++)
        if (cc_visible(c, &l->p[i]->se->export_to, l->p[i]->meta->ns) &&
            scope_sees(c, l->p[i]->meta->ns, host, 0))
            return false;
    return true;
}

static bool se_names(void *user, const struct ix_object *o)
{
    struct names *s = user;
    struct ipaddr ips[8];
    uint32_t n = 0;

    if (o->invalid || !cc_visible(s->c, &o->se->export_to, o->meta->ns))
        return true;
    for (uint32_t i = 0; i < o->se->addresses.n && n < N_OF(ips); i++)
        n += ip_parse(o->se->addresses.p[i], &ips[n]);
    for (uint32_t i = 0; i < o->n_hosts; i++) {
        struct ipaddr own[2];

        if (!capturable(s->c, o->hosts[i]) || !says_where(s->c, o, o->hosts[i]) ||
            !(scope_sees(s->c, o->meta->ns, o->hosts[i], 0) ||
              scope_leads_to(s->c, o->hosts[i], 0)))
            continue;
        if (n)
            add_name(s, o->hosts[i], ips, n);
        else
            add_name(s, o->hosts[i], own, index_addresses_of(s->c->x, o->hosts[i], own));
    }
    return !s->c->nomem;
}

static bool vs_names(void *user, const struct ix_object *o)
{
    struct names *s = user;
    struct cc *c = s->c;
    struct ipaddr own[2];
    unsigned n;

    if (o->invalid || !o->vs->mesh ||
        !cc_visible(c, &o->vs->export_to, o->meta->ns) ||
        (c->mesh->host_ownership == MESH_HOSTS_NAMESPACE &&
         !slice_eq(o->meta->ns, cc_ns(c))))
        return true;
    for (uint32_t i = 0; i < o->n_hosts; i++)
        if (capturable(c, o->hosts[i]) && !index_host_known(c->x, o->hosts[i]) &&
            (n = index_addresses_of(c->x, o->hosts[i], own)) && index_vs_resolves(c->x, o) &&
            scope_sees_vs(c, o, o->hosts[i], 0)) {
            cc_origin(c, INDEX_VS, o->meta);
            add_name(s, o->hosts[i], own, n);
        }
    return !c->nomem;
}

static int cmp_name(const void *a, const void *b)
{
    const struct prog_name *x = a, *y = b;
    int d = slice_cmp(x->host, y->host);

    return d || !x->address.n || !y->address.n ? d : slice_cmp(x->address.p[0], y->address.p[0]);
}

struct prog *compile_names(struct cc *c)
{
    struct names s = {.c = c, .n = cc_prog(c, PROG_NAMES, sizeof *s.n)};
    uint32_t kept = 0;

    if (!s.n)
        return NULL;
    cc_dep(c, INDEX_TOKEN_NAMES);
    cc_dep(c, INDEX_TOKEN_MESH);
    index_each_object(c->x, INDEX_SE, se_names, &s);
    index_each_object(c->x, INDEX_VS, vs_names, &s);
    if (s.n->n_names)
        qsort(s.n->names, s.n->n_names, sizeof *s.n->names, cmp_name);
    for (uint32_t i = 0; i < s.n->n_names; i++)
        if (i == 0 || !slice_eq(s.n->names[i].host, s.n->names[kept - 1].host))
            s.n->names[kept++] = s.n->names[i];
    s.n->n_names = kept;
    return &s.n->prog;
}
