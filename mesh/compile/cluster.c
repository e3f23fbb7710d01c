/* SPDX-License-Identifier: Apache-2.0 */
/* Destinations: endpoints and subset; rule.c has the policy that DestinationRules give them. */
#include "mesh/compile/compile_int.h"

/* --- endpoints ---------------------------------------------------------------------------------------- */
/* WorkloadEntries that a Service selects are a set of endpoints of their own. */
static void endpoints_of_entries(struct cc *c, const struct ix_service *s,
                                 const struct target_port *p, struct prog_cluster *to)
{
    const struct ix_objects *l = index_we_of(c->x, istr_slice(s->ns));
    bool any = false;

    if (!s->selector)
        return;
    cc_dep(c, INDEX_TOKEN_WE(istr_slice(s->ns)));
    for (uint32_t i = 0; l && i < l->n && !any; i++)
        any = index_entry_selected(l->p[i], s->selector);
    if (any && to->endpoints.p)
        to->endpoints.p[to->endpoints.n++] =
            cc_printf(c, "WorkloadEntry/%s/%s/%u", s->ns->p, s->name->p, p->port);
}

static void endpoints_of_service(struct cc *c, const struct ix_service *s,
                                 const struct target_port *p, struct prog_cluster *to)
{
    uint32_t n = 0;

    for (const struct ix_slice *e = s->slices; e; e = e->next)
        n++;
    to->endpoints = cc_strings(c, n + 1);
    for (const struct ix_slice *e = s->slices; e && to->endpoints.p; e = e->next)
        for (uint32_t i = 0; i < e->n_ports; i++)
            if (slice_eq(istr_slice(e->ports[i].name), p->name) && e->ports[i].tcp) {
                to->endpoints.p[to->endpoints.n++] = cc_printf(
                    c, "EndpointSlice/%s/%s/%.*s", e->ns->p, e->name->p, SL_FMT(p->name));
                break;
            }
    endpoints_of_entries(c, s, p, to);
}

/* Without endpoints the name is looked up that the client means. */
static void own_name(struct cc *c, const struct target *t, uint16_t port, struct prog_cluster *to)
{
    const struct api_ports *ports = &t->se->se->ports;

    to->dns = cc_strings(c, 1);
    for (uint32_t i = 0; i < ports->n && to->dns.p && !to->dns.n; i++)
        if (ports->p[i].number == port)
            to->dns.p[to->dns.n++] =
                cc_printf(c, "%.*s:%u", SL_FMT(t->host),
                          ports->p[i].target_port ? ports->p[i].target_port : port);
}

static void endpoints_of_se(struct cc *c, const struct builder *b, const struct target *t,
                            uint16_t port, struct prog_cluster *to)
{
    const struct se *se = t->se->se;
    bool own = b->target->kind == TARGET_SE && slice_eq(b->target->host, t->host);

    cc_dep(c, index_token("se-object", t->se->meta->ns, t->se->meta->name));
    to->dns_first = se->resolution == SE_DNS_ROUND_ROBIN;
    if (index_se_has_endpoints(se)) {
        to->endpoints = cc_strings(c, 1);
        if (to->endpoints.p)
            to->endpoints.p[to->endpoints.n++] =
                cc_printf(c, "ServiceEntry/%.*s/%.*s/%u", SL_FMT(t->se->meta->ns),
                          SL_FMT(t->se->meta->name), port);
    } else if (se->resolution == SE_DNS || se->resolution == SE_DNS_ROUND_ROBIN) {
        own_name(c, t, port, to);
    } else if (own) { /* the client resolved the name itself */
        to->original_dst = true;
    }
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

    for (uint32_t i = 0; i < labels->n; i++) /* ordered by key */
        h = prog_selector_add(h, labels->p[i].key, labels->p[i].value);
    return h;
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
    if (!rule_apply(c, t, port, to))
        missing(c, to, vs, path,
                cc_printf(c, "no DestinationRule of %.*s has a subset \"%.*s\"", SL_FMT(t->host),
                          SL_FMT(to->subset)));
}

/* An ExternalName that points at something in the mesh is another name for it. */
static struct target follow(struct cc *c, struct target t, uint32_t port)
{
    for (int hops = 0; hops < 4 && t.kind == TARGET_SERVICE && t.svc->external; hops++) {
        struct target next = t.svc->external_name
                                 ? target_of_destination(c, istr_slice(t.svc->external_name), port)
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
            endpoints_of_service(c, t->svc, p, to);
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
    uint32_t at = port ? port : b->port;
    struct target t = follow(c, b->gate ? target_of_host(c, host, at) : target_of_destination(c, host, at), at);
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
        to->pool.connect_timeout_ms = RULE_CONNECT_TIMEOUT_MS;
    }
    return 0;
}
