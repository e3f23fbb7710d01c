/* SPDX-License-Identifier: Apache-2.0 */
/* Destinations: endpoints, subset and the policy that DestinationRules give them. */
#include "lib/base/hash.h"
#include "mesh/compile/compile_int.h"

#define MAX_RULES 16u
#define CONNECT_TIMEOUT_MS 10000u /* Istio's default */

/* --- DestinationRules --------------------------------------------------------------------------------- */
struct rules { /* of one host and namespace, oldest first: merged */
    const struct ix_object *p[MAX_RULES];
    uint32_t n;
};

static bool rule_applies(struct cc *c, const struct ix_object *o, struct slice ns)
{
    const struct dr *dr = o->dr;

    if (!slice_eq(o->meta->ns, ns) || !cc_visible(c, &dr->export_to, o->meta->ns))
        return false;
    if (!dr->workload_selector.set)
        return true;
    return slice_eq(ns, cc_ns(c)) && cc_labels_cover(c, &dr->workload_selector.labels);
}

static struct rules rules_in(struct cc *c, struct slice host, struct slice ns)
{
    struct slice pattern = SLICE_NULL;
    struct rules r = {0};

    while (r.n == 0 && cc_next_pattern(c, host, &pattern)) {
        const struct ix_objects *l = index_dr_of(c->x, pattern);

        cc_dep(c, INDEX_TOKEN_DR(pattern));
        for (uint32_t i = 0; l && i < l->n && r.n < MAX_RULES; i++)
            if (rule_applies(c, l->p[i], ns))
                r.p[r.n++] = l->p[i];
    }
    return r;
}

/* What rules there are for a host, before anyone is asked whose they are: when there are none, or they
 * all stand in one namespace that counts for every client and are shown to all, it does not matter
 * who looks. */
static bool rules_for_all(struct cc *c, struct slice host, struct slice service_ns,
                          struct slice *ret_ns)
{
    struct slice pattern = SLICE_NULL, ns = SLICE_NULL;

    *ret_ns = ns;
    while (cc_next_pattern(c, host, &pattern)) {
        const struct ix_objects *l = index_dr_of(c->x, pattern);

        cc_dep(c, INDEX_TOKEN_DR(pattern));
        for (uint32_t i = 0; l && i < l->n; i++) {
            const struct ix_object *o = l->p[i];

            if (!ns.len)
                ns = o->meta->ns;
            if (!slice_eq(o->meta->ns, ns) || !cc_public(&o->dr->export_to) ||
                o->dr->workload_selector.set)
                return false;
        }
    }
    *ret_ns = ns;
    return !ns.len || slice_eq(ns, service_ns) || slice_eq(ns, c->mesh->root_namespace);
}

/* The client's namespace, the service's, the root namespace: the first that has rules. */
static struct rules rules_of(struct cc *c, struct slice host, struct slice service_ns)
{
    struct slice common, order[] = {SLICE_NULL, service_ns, c->mesh->root_namespace};
    struct rules r = {0};

    if (rules_for_all(c, host, service_ns, &common)) {
        if (!common.len)
            return r;
        for (size_t i = 0; i < N_OF(order); i++)
            order[i] = common;
    } else {
        order[0] = cc_ns(c);
    }

    for (size_t i = 0; i < N_OF(order) && r.n == 0; i++) {
        bool again = false;

        for (size_t k = 0; k < i; k++)
            again |= slice_eq(order[k], order[i]);
        if (!again)
            r = rules_in(c, host, order[i]);
    }
    for (uint32_t i = 0; i < r.n; i++)
        cc_origin(c, INDEX_DR, r.p[i]->meta);
    return r;
}

/* The first top-level policy counts, alone; whoever wrote another is told. */
static const struct dr_policy *top_policy(struct cc *c, const struct rules *r)
{
    const struct ix_object *winner = NULL;

    for (uint32_t i = 0; i < r->n; i++) {
        if (!r->p[i]->dr->policy)
            continue;
        if (!winner)
            winner = r->p[i];
        else
            cc_problem(c, FINDING_CONFLICT, INDEX_DR, r->p[i]->meta, SL("spec.trafficPolicy"),
                       "the older DestinationRule %.*s/%.*s has one for this host, which holds",
                       SL_FMT(winner->meta->ns), SL_FMT(winner->meta->name));
    }
    return winner ? winner->dr->policy : NULL;
}

static const struct dr_subset *find_subset(const struct rules *r, struct slice name)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const struct dr_subset *s = dr_subset_find(r->p[i]->dr, name);

        if (s)
            return s;
    }
    return NULL;
}

/* `over` on top of `base`, block by block; an entry for the port replaces and does not inherit. */
static struct dr_policy merge(struct dr_policy base, const struct dr_policy *over, uint32_t port)
{
    const struct dr_policy *exact;

    if (!over)
        return base;
    if (over->load_balancer)
        base.load_balancer = over->load_balancer;
    if (over->connection_pool)
        base.connection_pool = over->connection_pool;
    if (over->outlier)
        base.outlier = over->outlier;
    if (over->tls)
        base.tls = over->tls;
    exact = dr_policy_port(over, port);
    if (exact) {
        base.load_balancer = exact->load_balancer;
        base.connection_pool = exact->connection_pool;
        base.outlier = exact->outlier;
        base.tls = exact->tls;
    }
    return base;
}

/* --- policy to cluster -------------------------------------------------------------------------------- */
static void set_balancer(const struct dr_load_balancer *lb, struct prog_cluster *to)
{
    to->balancer = PROG_LEAST_REQUEST;
    if (!lb)
        return;
    if (lb->hash)
        to->balancer = PROG_HASH;
    else if (lb->simple == DR_LB_RANDOM)
        to->balancer = PROG_RANDOM;
    else if (lb->simple == DR_LB_ROUND_ROBIN)
        to->balancer = PROG_ROUND_ROBIN;
    else if (lb->simple == DR_LB_PASSTHROUGH)
        to->balancer = PROG_PASSTHROUGH;
    to->original_dst |= to->balancer == PROG_PASSTHROUGH;
}

static void set_pool(const struct dr_connection_pool *p, struct prog_cluster *to)
{
    to->pool.connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (!p)
        return;
    to->pool.max_connections = p->tcp.max_connections.v;
    to->pool.max_pending = p->http.http1_max_pending_requests.v;
    to->pool.max_requests = p->http.http2_max_requests.v;
    to->pool.max_requests_per_connection = p->http.max_requests_per_connection.v;
    to->pool.max_retries = p->http.max_retries.v;
    if (p->tcp.connect_timeout.set)
        to->pool.connect_timeout_ms = cc_ms(p->tcp.connect_timeout.ns);
    to->pool.idle_timeout_ms =
        cc_ms(p->http.idle_timeout.set ? p->http.idle_timeout.ns : p->tcp.idle_timeout.ns);
    if (p->http.h2_upgrade == DR_H2_UPGRADE && to->protocol == PROG_HTTP)
        to->protocol = PROG_HTTP2;
}

static void set_outlier(const struct dr_outlier *o, struct prog_cluster *to)
{
    if (!o)
        return;
    /* The block alone switches detection on with Envoy's five. */
    to->outlier.consecutive_5xx = o->consecutive_5xx.set         ? o->consecutive_5xx.v
                                  : o->consecutive_gateway.set ? 0
                                                                 : 5;
    to->outlier.consecutive_gateway = o->consecutive_gateway.v;
    to->outlier.consecutive_local = o->split_external_local ? o->consecutive_local.v : 0;
    to->outlier.interval_ms = cc_ms(o->interval_ns);
    to->outlier.base_ejection_ms = cc_ms(o->base_ejection_ns);
    to->outlier.max_ejection_percent = o->max_ejection_percent;
    to->outlier.min_health_percent = o->min_health_percent;
}

static void set_tls(struct cc *c, const struct dr_tls *tls, const struct target *t,
                    struct prog_cluster *to)
{
    static const enum prog_tls modes[] = {
        [DR_TLS_DISABLE] = PROG_TLS_DISABLE,
        [DR_TLS_SIMPLE] = PROG_TLS_SIMPLE,
        [DR_TLS_MUTUAL] = PROG_TLS_MUTUAL,
        [DR_TLS_ISTIO_MUTUAL] = PROG_TLS_MUTUAL_MESH,
    };

    to->tls = PROG_TLS_AUTO;
    if (t->kind == TARGET_SE)
        to->subject_alt_names = cc_copy_strings(c, &t->se->se->subject_alt_names);
    if (!tls)
        return;
    to->tls = modes[tls->mode];
    if (tls->subject_alt_names.n)
        to->subject_alt_names = cc_copy_strings(c, &tls->subject_alt_names);
    if (tls->sni.len)
        to->sni = cc_copy(c, tls->sni);
    else if (tls->mode == DR_TLS_SIMPLE || tls->mode == DR_TLS_MUTUAL)
        to->sni = cc_copy(c, t->host);
    if (tls->mode == DR_TLS_MUTUAL && !tls->credential_name.len && !tls->client_certificate.len)
        to->problem = SL("tls mode MUTUAL without client certificate");
    else if (tls->mode == DR_TLS_MUTUAL)
        to->problem = SL("tls mode MUTUAL with own certificates is not implemented");
}

/* --- endpoints ---------------------------------------------------------------------------------------- */
static void endpoints_of_service(struct cc *c, const struct ix_service *s, struct slice port_name,
                                 struct prog_cluster *to)
{
    uint32_t n = 0;

    for (const struct ix_slice *e = s->slices; e; e = e->next)
        n++;
    to->endpoints = cc_strings(c, n);
    for (const struct ix_slice *e = s->slices; e && to->endpoints.p; e = e->next)
        for (uint32_t i = 0; i < e->n_ports; i++)
            if (slice_eq(istr_slice(e->ports[i].name), port_name) && e->ports[i].tcp) {
                to->endpoints.p[to->endpoints.n++] = cc_printf(
                    c, "EndpointSlice/%s/%s/%.*s", e->ns->p, e->name->p, SL_FMT(port_name));
                break;
            }
}

/* Names that the proxy must resolve: endpoints by name, or the entry's own host. */
static void names_to_resolve(struct cc *c, const struct target *t, const struct api_port *port,
                             struct prog_cluster *to)
{
    const struct se *se = t->se->se;
    struct ipaddr ip;

    to->dns = cc_strings(c, se->n_endpoints + 1);
    for (uint32_t i = 0; i < se->n_endpoints && to->dns.p; i++)
        if (!ip_parse(se->endpoints[i].address, &ip))
            to->dns.p[to->dns.n++] = cc_printf(c, "%.*s:%u", SL_FMT(se->endpoints[i].address),
                                               se_endpoint_port(&se->endpoints[i], port));
    if (se->n_endpoints == 0 && to->dns.p)
        to->dns.p[to->dns.n++] = cc_printf(c, "%.*s:%u", SL_FMT(t->host),
                                           port->target_port ? port->target_port : port->number);
}

static void endpoints_of_se(struct cc *c, const struct builder *b, const struct target *t,
                            uint16_t port, struct prog_cluster *to)
{
    const struct se *se = t->se->se;
    bool own = b->target->kind == TARGET_SE && slice_eq(b->target->host, t->host);
    struct ipaddr ip;

    cc_dep(c, index_token("se-object", t->se->meta->ns, t->se->meta->name));
    if (index_se_is_static(se)) {
        to->endpoints = cc_strings(c, 1);
        if (to->endpoints.p)
            to->endpoints.p[to->endpoints.n++] =
                cc_printf(c, "ServiceEntry/%.*s/%.*s/%u", SL_FMT(t->se->meta->ns),
                          SL_FMT(t->se->meta->name), port);
    }
    for (uint32_t i = 0; i < se->ports.n && se->resolution != SE_NONE; i++)
        if (se->ports.p[i].number == port && se->resolution != SE_STATIC)
            names_to_resolve(c, t, &se->ports.p[i], to);
    /* The client resolved the name itself, unless it got an address of ours. */
    if (!index_se_is_static(se) && own && !index_address_of(c->x, t->host, &ip))
        to->original_dst = true;
}

static void endpoints_of_external(struct cc *c, const struct builder *b, const struct target *t,
                                  uint16_t port, struct prog_cluster *to)
{
    to->dns = cc_strings(c, 1);
    if (to->dns.p)
        to->dns.p[to->dns.n++] =
            cc_printf(c, "%s:%u", t->svc->external_name ? t->svc->external_name->p : "", port);
    to->original_dst = b->target->svc == t->svc;
    to->tls = PROG_TLS_DISABLE;
}

/* --- clusters ----------------------------------------------------------------------------------------- */
uint64_t selector_hash(const struct api_map *labels)
{
    uint64_t h = labels->n;

    if (labels->n == 0)
        return 0;
    for (uint32_t i = 0; i < labels->n; i++) /* ordered by key */
        h = hash64(labels->p[i].value, hash64(labels->p[i].key, h));
    return h ? h : 1;
}

static void missing(struct cc *c, struct prog_cluster *to, const struct ix_object *vs,
                    struct slice path, struct slice what)
{
    to->problem = what;
    if (vs)
        cc_problem(c, FINDING_REFERENCE, INDEX_VS, vs->meta, path, "%.*s", SL_FMT(what));
}

static void name_cluster(struct cc *c, struct prog_cluster *to, struct slice host, uint32_t port,
                         struct slice subset)
{
    to->host = cc_copy(c, host);
    to->subset = cc_copy(c, subset);
    to->port = (uint16_t)port;
    to->name = cc_printf(c, "outbound|%u|%.*s|%.*s", port, SL_FMT(subset), SL_FMT(host));
    to->sni = cc_printf(c, "outbound_.%u_.%.*s_.%.*s", port, SL_FMT(subset), SL_FMT(host));
}

static void apply_rules(struct cc *c, const struct target *t, uint16_t port,
                        const struct ix_object *vs, struct slice path, struct prog_cluster *to)
{
    struct rules r = rules_of(c, t->host, t->ns);
    struct dr_policy policy = merge((struct dr_policy){0}, top_policy(c, &r), port);
    const struct dr_subset *s = to->subset.len ? find_subset(&r, to->subset) : NULL;

    if (s) {
        policy = merge(policy, s->policy, port);
        to->subset_selector = selector_hash(&s->labels);
    }
    set_balancer(policy.load_balancer, to);
    set_outlier(policy.outlier, to);
    set_pool(policy.connection_pool, to);
    if (!(t->kind == TARGET_SERVICE && t->svc->external && !policy.tls))
        set_tls(c, policy.tls, t, to);
    if (to->subset.len && !s)
        missing(c, to, vs, path,
                cc_printf(c, "no DestinationRule of %.*s has a subset \"%.*s\"", SL_FMT(t->host),
                          SL_FMT(to->subset)));
}

/* An ExternalName that points at something in the mesh is another name for it. */
static struct target follow(struct cc *c, struct target t)
{
    for (int hops = 0; hops < 4 && t.kind == TARGET_SERVICE && t.svc->external; hops++) {
        struct target next = t.svc->external_name
                                 ? target_of_host(c, istr_slice(t.svc->external_name))
                                 : (struct target){0};

        if (next.kind == TARGET_NONE)
            break;
        t = next;
    }
    return t;
}

static void fill(struct cc *c, const struct builder *b, const struct target *t,
                 const struct target_port *p, const struct ix_object *vs, struct slice path,
                 struct prog_cluster *to)
{
    to->protocol = p->protocol;
    to->service_namespace = cc_copy(c, t->ns);
    if (t->kind == TARGET_SERVICE) {
        to->service_name = cc_copy(c, istr_slice(t->svc->name));
        if (t->svc->external) {
            endpoints_of_external(c, b, t, p->port, to);
        } else {
            endpoints_of_service(c, t->svc, p->name, to);
            /* Of a headless service the client has chosen the pod. */
            to->original_dst = t->svc->headless && b->target->svc == t->svc;
        }
    } else {
        cc_origin(c, INDEX_SE, t->se->meta);
        to->service_name = cc_copy(c, t->host);
        endpoints_of_se(c, b, t, p->port, to);
    }
    apply_rules(c, t, p->port, vs, path, to);
}

uint32_t cluster_for(struct cc *c, struct builder *b, struct slice host, uint32_t port,
                     struct slice subset, const struct ix_object *vs, struct slice path)
{
    struct target t = follow(c, target_of_host(c, host));
    struct target_port p = {0};
    struct prog_cluster *to, one = {0};
    bool found;

    found = t.kind != TARGET_NONE &&
            (target_port_find(&t, port, &p) || (!port && target_port_find(&t, b->port, &p)));
    name_cluster(c, &one, t.kind == TARGET_NONE ? host : t.host,
                 found ? p.port : port ? port : b->port, subset);
    for (uint32_t i = 0; i < b->s->n_clusters; i++)
        if (slice_eq(b->s->clusters[i].name, one.name))
            return i;
    to = cc_grow(c, &b->s->clusters, &b->s->n_clusters, &b->cap_clusters, sizeof *to);
    if (!to)
        return 0;
    *to = one;
    if (found)
        fill(c, b, &t, &p, vs, path, to);
    else if (t.kind == TARGET_NONE)
        missing(c, to, vs, path, cc_printf(c, "no service or ServiceEntry %.*s", SL_FMT(host)));
    else if (port)
        missing(c, to, vs, path, cc_printf(c, "%.*s has no port %u", SL_FMT(t.host), port));
    else
        missing(c, to, vs, path,
                cc_printf(c, "%.*s has several ports, port.number is required", SL_FMT(t.host)));
    return (uint32_t)(to - b->s->clusters);
}

uint32_t cluster_for_pod(struct cc *c, struct builder *b, const struct target_port *port,
                         const struct ix_service *svc, const struct ipaddr *ip)
{
    struct prog_cluster *to =
        cc_grow(c, &b->s->clusters, &b->s->n_clusters, &b->cap_clusters, sizeof *to);
    struct target t = {.kind = TARGET_SERVICE, .svc = svc, .ns = b->target->ns};
    char text[IP_TEXT];

    if (!to)
        return 0;
    ip_format(ip, text);
    t.host = svc ? cc_printf(c, "%s.%s.svc.%.*s", svc->name->p, svc->ns->p,
                             SL_FMT(c->mesh->cluster_domain))
                 : slice_str(text);
    name_cluster(c, to, t.host, port->port, SLICE_NULL);
    to->protocol = port->protocol;
    to->service_namespace = cc_copy(c, b->target->ns);
    to->service_name = svc ? cc_copy(c, istr_slice(svc->name)) : SLICE_NULL;
    to->endpoints = cc_strings(c, 1);
    if (to->endpoints.p)
        to->endpoints.p[to->endpoints.n++] = cc_printf(c, "Pod/%s/%u", text, port->port);
    if (svc) {
        apply_rules(c, &t, port->port, NULL, SLICE_NULL, to);
        to->original_dst = false; /* the one endpoint is what was dialled */
    } else {
        to->balancer = PROG_LEAST_REQUEST;
        set_pool(NULL, to);
    }
    return 0;
}
