/* SPDX-License-Identifier: Apache-2.0 */
/* References, conflicts and selectors of Istio's kinds. */
#include "mesh/analyze/analyze_int.h"

#include <stdarg.h>

#include "lib/data/host.h"
#include "mesh/compile/compile.h"

/* --- findings
 * ------------------------------------------------------------------------------------------- */

const char *an_path(struct an *an, const char *fmt, ...)
{
    char text[256];
    char *copy;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    copy = arena_strdup(an->tmp, text);
    return copy ? copy : "";
}

void an_add(struct an *an, enum finding_kind kind, const char *path, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    for (uint32_t i = 0; i < an->f->n; i++)
        if (an->f->p[i].kind == kind && slice_is(an->f->p[i].path, path))
            return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    findings_add_at(an->f, kind, path, "%s", text);
}

/* --- the picture
 * ---------------------------------------------------------------------------------------- */

struct seek {
    struct slice ns;
    const struct api_map *labels;
    bool found;
};

static bool seek_pod(void *user, const struct ix_pod *p)
{
    struct seek *s = user;

    s->found = p->known && !p->gone && (!s->ns.len || slice_eq(istr_slice(p->ns), s->ns)) &&
               (!s->labels || ilabels_cover(p->labels, s->labels));
    return !s->found;
}

bool an_any_pod(struct an *an, struct slice ns, const struct api_map *labels)
{
    struct seek s = {ns, labels, false};

    index_each_pod(an->x, seek_pod, &s);
    return s.found;
}

bool an_any_pod_at_all(struct an *an, struct slice ns)
{
    return an_any_pod(an, ns, NULL);
}

bool an_meshed(struct an *an, struct slice ns)
{
    struct slice injection = index_namespace_label(an->x, ns, SL("istio-injection"));

    return injection.len ? slice_is(injection, "enabled")
                         : index_namespace_label(an->x, ns, SL("istio.io/rev")).len > 0;
}

static const struct ix_object *entry_of(const struct index *x, struct slice host)
{
    const struct ix_objects *l = index_se_of(x, host);
    char wild[256];

    if (l)
        return l->p[0];
    for (struct slice rest = host;;) {
        ptrdiff_t dot = slice_chr(rest, '.');

        if (dot < 0 || rest.len - (size_t)dot + 1 >= sizeof wild)
            return NULL;
        rest = slice_skip(rest, (size_t)dot);
        wild[0] = '*';
        memcpy(wild + 1, rest.p, rest.len);
        l = index_se_of(x, slice_of(wild, rest.len + 1));
        if (l)
            return l->p[0];
        rest = slice_skip(rest, 1);
    }
}

struct an_host an_host_of(struct an *an, struct slice host, struct slice ns)
{
    struct an_host h = {.host = index_fqdn(an->x, host, ns, an->tmp)};
    struct slice name, of;

    h.service = index_service_by_host(an->x, h.host);
    if (!h.service)
        h.entry = entry_of(an->x, h.host);
    if (an_host_found(&h) || !an->partial)
        return h;
    h.silent = index_host_split(an->x, h.host, &name, &of) ? !index_services(an->x, of) : false;
    return h;
}

struct pods_of {
    const struct ix_service *service;
    an_pod_fn *fn;
    void *user;
};

static bool selected(void *user, const struct ix_pod *p)
{
    struct pods_of *s = user;

    if (!p->known || p->gone || p->ns != s->service->ns ||
        !ilabels_cover_all(p->labels, s->service->selector))
        return true;
    return s->fn(s->user, p);
}

void an_each_pod_of(struct an *an, const struct ix_service *s, an_pod_fn *fn, void *user)
{
    struct pods_of all = {s, fn, user};

    for (const struct ix_slice *slice = s->slices; slice; slice = slice->next)
        for (uint32_t i = 0; i < slice->n_endpoints; i++) {
            const struct ix_pod *p = slice->endpoints[i].pod;

            if (p && p->known && !fn(user, p))
                return;
        }
    if (!s->slices && s->selector)
        index_each_pod(an->x, selected, &all);
}

/* --- VirtualService
 * ------------------------------------------------------------------------------------- */

static bool has_port(const struct an_host *h, uint32_t port)
{
    if (h->entry) {
        for (uint32_t i = 0; i < h->entry->se->ports.n; i++)
            if (h->entry->se->ports.p[i].number == port)
                return true;
        return false;
    }
    for (uint32_t i = 0; i < h->service->n_ports; i++)
        if (h->service->ports[i].port == port)
            return true;
    return false;
}

static uint32_t port_count(const struct an_host *h)
{
    return h->entry ? h->entry->se->ports.n : h->service->n_ports;
}

/* Some DestinationRule of the host, or of a wildcard that takes it in, has the subset.
 * `*ret_rules`: there is a rule at all. */
static bool has_subset(struct an *an, struct slice host, struct slice subset)
{
    const struct ix_objects *l = index_dr_of(an->x, host);

    for (uint32_t i = 0; l && i < l->n; i++)
        if (dr_subset_find(l->p[i]->dr, subset))
            return true;
    for (struct slice rest = host;;) {
        char wild[256];
        ptrdiff_t dot = slice_chr(rest, '.');

        if (dot < 0 || rest.len - (size_t)dot + 1 >= sizeof wild)
            return false;
        rest = slice_skip(rest, (size_t)dot);
        wild[0] = '*';
        memcpy(wild + 1, rest.p, rest.len);
        l = index_dr_of(an->x, slice_of(wild, rest.len + 1));
        for (uint32_t i = 0; l && i < l->n; i++)
            if (dr_subset_find(l->p[i]->dr, subset))
                return true;
        rest = slice_skip(rest, 1);
    }
}

void an_destination(struct an *an, const struct vs_destination *d, const char *path)
{
    struct an_host h = an_host_of(an, d->host, an->o->meta->ns);

    if (!an_host_found(&h)) {
        if (!h.silent)
            an_add(an, FINDING_REFERENCE, an_path(an, "%s.host", path),
                   "no Service or ServiceEntry has the host %.*s: create it, or correct the name",
                   SL_FMT(h.host));
        return;
    }
    if (d->port && !has_port(&h, d->port))
        an_add(an, FINDING_REFERENCE, an_path(an, "%s.port.number", path),
               "%.*s has no port %u: name one of its ports", SL_FMT(h.host), d->port);
    else if (!d->port && port_count(&h) > 1)
        an_add(
            an, FINDING_PORT_NEEDED, an_path(an, "%s.port", path),
            "%.*s has %u ports, and the route takes the one that was called: name the port that is "
            "meant",
            SL_FMT(h.host), port_count(&h));
    if (d->subset.p && !has_subset(an, h.host, d->subset))
        an_add(an, FINDING_REFERENCE, an_path(an, "%s.subset", path),
               "no DestinationRule of %.*s defines the subset %.*s: add it there, or leave it out",
               SL_FMT(h.host), SL_FMT(d->subset));
}

static void dests(struct an *an, const struct vs_route_dests *r, const char *path)
{
    for (uint32_t i = 0; i < r->n; i++)
        an_destination(an, &r->p[i].destination, an_path(an, "%s.route[%u].destination", path, i));
}

static bool gateway_takes(const struct gw *gw, struct slice gw_ns, struct slice vs_ns,
                          struct slice host)
{
    for (uint32_t i = 0; i < gw->n_servers; i++)
        for (uint32_t j = 0; j < gw->servers[i].hosts.n; j++) {
            struct slice want = gw->servers[i].hosts.p[j];
            ptrdiff_t slash = slice_chr(want, '/');
            struct slice ns = slash < 0 ? SL("*") : slice_head(want, (size_t)slash);

            if (!slice_is(ns, "*") && !slice_eq(slice_is(ns, ".") ? gw_ns : ns, vs_ns))
                continue;
            if (host_overlaps(slash < 0 ? want : slice_skip(want, (size_t)slash + 1), host))
                return true;
        }
    return false;
}

static void gateway(struct an *an, struct slice text, const char *path)
{
    const struct vs *vs = an->o->vs;
    ptrdiff_t slash = slice_chr(text, '/');
    struct slice ns = slash < 0 ? an->o->meta->ns : slice_head(text, (size_t)slash);
    struct slice name = slash < 0 ? text : slice_skip(text, (size_t)slash + 1);
    const struct ix_object *g = index_object(an->x, INDEX_GW, ns, name);

    if (slice_is(text, "mesh"))
        return;
    if (!g) {
        an_add(an, FINDING_REFERENCE, path,
               "there is no Gateway %.*s/%.*s: create it, or correct the name", SL_FMT(ns),
               SL_FMT(name));
        return;
    }
    for (uint32_t i = 0; i < vs->hosts.n; i++)
        if (!gateway_takes(g->gw, ns, an->o->meta->ns, an->o->hosts[i]))
            an_add(an, FINDING_NOT_IN_GATEWAY, an_path(an, "spec.hosts[%u]", i),
                   "no server of Gateway %.*s/%.*s takes in %.*s: add the host there", SL_FMT(ns),
                   SL_FMT(name), SL_FMT(an->o->hosts[i]));
}

static bool exported_to(const struct api_strings *e, struct slice own, struct slice ns)
{
    return index_visible(e, own, ns);
}

/* Some namespace may see both. Precise for lists of namespaces; "everybody" counts as seen by all.
 */
static bool both_visible(const struct ix_object *a, const struct ix_object *b)
{
    const struct api_strings *x = &a->vs->export_to, *y = &b->vs->export_to;

    if (x->n == 0 || api_strings_has(x, SL("*")))
        return !api_strings_has(y, SL("~"));
    if (y->n == 0 || api_strings_has(y, SL("*")))
        return !api_strings_has(x, SL("~"));
    for (uint32_t i = 0; i < x->n; i++)
        if (exported_to(y, b->meta->ns, slice_is(x->p[i], ".") ? a->meta->ns : x->p[i]))
            return true;
    return false;
}

static void vs_hosts(struct an *an)
{
    for (uint32_t i = 0; an->o->vs->mesh && i < an->o->n_hosts; i++) {
        const struct ix_objects *l = index_vs_of(an->x, an->o->hosts[i]);

        for (uint32_t k = 0; l && k < l->n && l->p[k] != an->o; k++) {
            const struct ix_object *older = l->p[k];

            if (!older->vs->mesh || !both_visible(older, an->o))
                continue;
            an_add(an, FINDING_CONFLICT, an_path(an, "spec.hosts[%u]", i),
                   "host %.*s belongs to the older VirtualService %.*s/%.*s, whose routes hold: "
                   "put the "
                   "routes into one object",
                   SL_FMT(an->o->hosts[i]), SL_FMT(older->meta->ns), SL_FMT(older->meta->name));
            break;
        }
    }
}

static void vs(struct an *an)
{
    const struct vs *v = an->o->vs;

    for (uint32_t i = 0; i < v->gateways.n; i++)
        gateway(an, v->gateways.p[i], an_path(an, "spec.gateways[%u]", i));
    for (uint32_t i = 0; i < v->n_http; i++) {
        const struct vs_http *h = &v->http[i];
        const char *path = an_path(an, "spec.http[%u]", i);

        dests(an, &h->route, path);
        for (uint32_t k = 0; k < h->n_mirrors; k++)
            an_destination(an, &h->mirrors[k].destination,
                        k == 0 && h->mirror_first
                            ? an_path(an, "%s.mirror", path)
                            : an_path(an, "%s.mirrors[%u].destination", path, k - h->mirror_first));
        if (h->delegate_name.p) {
            struct slice ns = h->delegate_ns.len ? h->delegate_ns : an->o->meta->ns;

            if (!index_object(an->x, INDEX_VS, ns, h->delegate_name))
                an_add(an, FINDING_REFERENCE, an_path(an, "%s.delegate", path),
                       "there is no VirtualService %.*s/%.*s: create it, or correct the name",
                       SL_FMT(ns), SL_FMT(h->delegate_name));
        }
    }
    for (uint32_t i = 0; i < v->n_tls; i++)
        dests(an, &v->tls[i].route, an_path(an, "spec.tls[%u]", i));
    for (uint32_t i = 0; i < v->n_tcp; i++)
        dests(an, &v->tcp[i].route, an_path(an, "spec.tcp[%u]", i));
    vs_hosts(an);
}

/* --- DestinationRule
 * ------------------------------------------------------------------------------------ */

struct subset_seek {
    const struct api_map *labels;
    bool any, found;
};

static bool seek_subset(void *user, const struct ix_pod *p)
{
    struct subset_seek *s = user;

    s->any = true;
    s->found = ilabels_cover(p->labels, s->labels);
    return !s->found;
}

/* WorkloadEntries that a Service or a ServiceEntry selects. */
static void seek_entries(struct an *an, const struct an_host *h, struct subset_seek *seek)
{
    struct slice ns = h->entry ? h->entry->meta->ns : h->service ? istr_slice(h->service->ns) : SL("");
    const struct ix_objects *l = index_we_of(an->x, ns);

    for (uint32_t i = 0; l && i < l->n && !seek->found; i++) {
        const struct ix_object *o = l->p[i];
        const struct api_map *labels = &o->we->endpoint.labels;

        if (h->entry ? !h->entry->se->workload_selector.set ||
                           !api_map_covers(labels, &h->entry->se->workload_selector.labels)
                     : !index_entry_selected(o, h->service->selector))
            continue;
        seek->any = true;
        seek->found = api_map_covers(labels, seek->labels);
    }
}

static void subset_pods(struct an *an, const struct an_host *h, uint32_t i)
{
    const struct dr_subset *s = &an->o->dr->subsets[i];
    struct subset_seek seek = {.labels = &s->labels};

    if (h->service)
        an_each_pod_of(an, h->service, seek_subset, &seek);
    for (uint32_t k = 0; h->entry && !seek.found && k < h->entry->se->n_endpoints; k++) {
        seek.any = true;
        seek.found = api_map_covers(&h->entry->se->endpoints[k].labels, &s->labels);
    }
    if (!seek.found)
        seek_entries(an, h, &seek);
    if (!seek.found && (seek.any || !an->partial))
        an_add(an, FINDING_EMPTY_SUBSET, an_path(an, "spec.subsets[%u].labels", i),
               "no pod of %.*s has these labels: calls of the subset %.*s get 503 until one has",
               SL_FMT(h->host), SL_FMT(s->name));
}

static void policy_ports(struct an *an, const struct an_host *h, const struct dr_policy *p,
                         const char *path)
{
    for (uint32_t i = 0; p && i < p->n_ports; i++)
        if (p->ports[i].port && !has_port(h, p->ports[i].port))
            an_add(an, FINDING_REFERENCE,
                   an_path(an, "%s.portLevelSettings[%u].port.number", path, i),
                   "%.*s has no port %u: the settings apply to nothing", SL_FMT(h->host),
                   p->ports[i].port);
}

static void dr(struct an *an)
{
    const struct dr *d = an->o->dr;
    struct an_host h = an_host_of(an, d->host, an->o->meta->ns);
    const struct ix_objects *l = an->o->n_hosts ? index_dr_of(an->x, an->o->hosts[0]) : NULL;

    if (d->workload_selector.set && d->workload_selector.labels.n &&
        !an_any_pod(an, an->o->meta->ns, &d->workload_selector.labels) &&
        (!an->partial || an_any_pod_at_all(an, an->o->meta->ns)))
        an_add(an, FINDING_NO_WORKLOAD, "spec.workloadSelector",
               "no pod of namespace %.*s has these labels: the rule applies to no client",
               SL_FMT(an->o->meta->ns));
    for (uint32_t i = 0; l && i < l->n && l->p[i] != an->o; i++) {
        const struct ix_object *older = l->p[i];

        if (!slice_eq(older->meta->ns, an->o->meta->ns) || older->dr->workload_selector.set ||
            d->workload_selector.set)
            continue;
        if (older->dr->policy && d->policy)
            an_add(an, FINDING_CONFLICT, "spec.trafficPolicy",
                   "the older DestinationRule %.*s/%.*s has a trafficPolicy for this host, which "
                   "holds: "
                   "put both into one object",
                   SL_FMT(older->meta->ns), SL_FMT(older->meta->name));
        for (uint32_t k = 0; k < d->n_subsets; k++)
            if (dr_subset_find(older->dr, d->subsets[k].name))
                an_add(an, FINDING_CONFLICT, an_path(an, "spec.subsets[%u].name", k),
                       "the older DestinationRule %.*s/%.*s defines the subset %.*s, which holds: "
                       "rename "
                       "this one",
                       SL_FMT(older->meta->ns), SL_FMT(older->meta->name),
                       SL_FMT(d->subsets[k].name));
    }
    if (host_is_wildcard(d->host))
        return;
    if (!an_host_found(&h)) {
        if (!h.silent)
            an_add(an, FINDING_REFERENCE, "spec.host",
                   "no Service or ServiceEntry has the host %.*s: the rule applies to nothing",
                   SL_FMT(h.host));
        return;
    }
    policy_ports(an, &h, d->policy, "spec.trafficPolicy");
    for (uint32_t i = 0; i < d->n_subsets; i++) {
        policy_ports(an, &h, d->subsets[i].policy,
                     an_path(an, "spec.subsets[%u].trafficPolicy", i));
        subset_pods(an, &h, i);
    }
    an_mtls_dr(an);
}

/* --- policies by selector
 * ------------------------------------------------------------------------------- */

/* In the root namespace a selector takes pods of all namespaces. */
void an_selector(struct an *an, const struct api_selector *s, bool root_is_all,
                     const char *path)
{
    struct slice ns = an->o->meta->ns;

    if (api_selector_is_all(s))
        return;
    if (root_is_all && slice_eq(ns, index_mesh(an->x)->root_namespace))
        ns = SL("");
    if (!an_any_pod(an, ns, &s->labels) && (!an->partial || an_any_pod_at_all(an, ns)))
        an_add(an, FINDING_NO_WORKLOAD, path,
               "no pod%s%.*s has these labels: it applies to nothing",
               ns.len ? " of namespace " : "", SL_FMT(ns));
}

struct both {
    const struct api_map *a, *b;
    struct slice ns;
    const struct ix_pod *pod; /* the first by name */
};

static bool seek_both(void *user, const struct ix_pod *p)
{
    struct both *s = user;

    if (p->known && !p->gone && slice_eq(istr_slice(p->ns), s->ns) &&
        ilabels_cover(p->labels, s->a) && ilabels_cover(p->labels, s->b) &&
        (!s->pod || slice_cmp(istr_slice(p->name), istr_slice(s->pod->name)) < 0))
        s->pod = p;
    return true;
}

/* Kinds of which one object counts for a workload: the oldest. */
struct rival {
    struct an *an;
    const struct api_selector *own;
    const struct api_selector *(*selector)(const struct ix_object *o);
    enum finding_kind kind;
    const char *path;
    const struct ix_object *oldest; /* found */
    const struct ix_pod *pod;       /* that both select; NULL: both are for all */
};

static bool is_older(const struct ix_object *a, const struct ix_object *b)
{
    if (a->meta->created_s != b->meta->created_s)
        return a->meta->created_s < b->meta->created_s;
    return slice_cmp(a->meta->name, b->meta->name) < 0;
}

static bool rival_check(void *user, const struct ix_object *o)
{
    struct rival *r = user;
    struct an *an = r->an;
    const struct api_selector *s = r->selector(o);
    struct both both = {.ns = an->o->meta->ns};

    if (o == an->o || !s || !slice_eq(o->meta->ns, an->o->meta->ns) || !is_older(o, an->o) ||
        api_selector_is_all(s) != api_selector_is_all(r->own))
        return true;
    if (r->oldest && is_older(r->oldest, o))
        return true;
    if (!api_selector_is_all(s)) {
        both.a = &s->labels;
        both.b = &r->own->labels;
        index_each_pod(an->x, seek_both, &both);
        if (!both.pod)
            return true;
    }
    r->oldest = o;
    r->pod = both.pod;
    return true;
}

/* One of them is told of, however many there are: the one that holds. */
static void rivals(struct rival *r, enum index_kind kind)
{
    const struct ix_object *o;

    index_each_object(r->an->x, kind, rival_check, r);
    o = r->oldest;
    if (!o)
        return;
    if (r->pod)
        an_add(r->an, r->kind, r->path,
               "the older %s %.*s selects pod %s too, and holds there: select apart from each other",
               index_kind_name(o->kind), SL_FMT(o->meta->name), r->pod->name->p);
    else
        an_add(r->an, r->kind, r->path,
               "the older %s %.*s is for all workloads of the namespace too, and holds: put both into "
               "one object",
               index_kind_name(o->kind), SL_FMT(o->meta->name));
}

static const struct api_selector *pa_selector(const struct ix_object *o)
{
    return &o->pa->selector;
}
static const struct api_selector *sc_selector(const struct ix_object *o)
{
    return &o->sc->selector;
}
static const struct api_selector *te_selector(const struct ix_object *o)
{
    return o->te->target_refs.n ? NULL : &o->te->selector;
}

/* --- Gateway
 * -------------------------------------------------------------------------------------------- */

static bool maps_equal(const struct api_map *a, const struct api_map *b)
{
    return a->n == b->n && api_map_covers(a, b);
}

static bool servers_overlap(const struct gw_server *a, const struct gw_server *b)
{
    if (a->port.number != b->port.number || !slice_eq(a->bind, b->bind))
        return false;
    for (uint32_t i = 0; i < a->hosts.n; i++)
        for (uint32_t k = 0; k < b->hosts.n; k++)
            if (slice_eq(a->hosts.p[i], b->hosts.p[k]))
                return true;
    return false;
}

static bool gateway_rival(void *user, const struct ix_object *o)
{
    struct an *an = user;
    const struct gw *a = an->o->gw, *b = o->gw;

    if (o == an->o || !is_older(o, an->o) || !maps_equal(&a->selector, &b->selector))
        return true;
    for (uint32_t i = 0; i < a->n_servers; i++)
        for (uint32_t k = 0; k < b->n_servers; k++)
            if (servers_overlap(&a->servers[i], &b->servers[k]))
                an_add(an, FINDING_GATEWAYS, an_path(an, "spec.servers[%u]", i),
                       "the older Gateway %.*s/%.*s opens port %u for the same host: keep one",
                       SL_FMT(o->meta->ns), SL_FMT(o->meta->name), a->servers[i].port.number);
    return true;
}

static void gw(struct an *an)
{
    const struct gw *g = an->o->gw;

    if (g->selector.n && !an_any_pod(an, SL(""), &g->selector) &&
        (!an->partial || an_any_pod_at_all(an, SL(""))))
        an_add(an, FINDING_REFERENCE, "spec.selector",
               "no pod has these labels: the gateway opens nothing");
    index_each_object(an->x, INDEX_GW, gateway_rival, an);
}

/* --- */

static void object(struct an *an)
{
    struct rival r = {.an = an, .path = "spec.selector"};

    switch (an->o->kind) {
    case INDEX_VS:
        vs(an);
        break;
    case INDEX_DR:
        dr(an);
        break;
    case INDEX_SE:
        an_se(an);
        break;
    case INDEX_WE:
        an_we(an);
        break;
    case INDEX_PA:
        an_selector(an, &an->o->pa->selector, false, "spec.selector");
        r.own = &an->o->pa->selector, r.selector = pa_selector, r.kind = FINDING_CONFLICT;
        rivals(&r, INDEX_PA);
        an_mtls_pa(an);
        break;
    case INDEX_AP:
        an_ap(an);
        break;
    case INDEX_RA:
        an_selector(an, &an->o->ra->selector, true, "spec.selector");
        break;
    case INDEX_GW:
        gw(an);
        break;
    case INDEX_SC:
        an_selector(an, &an->o->sc->selector, false, "spec.workloadSelector");
        r.own = &an->o->sc->selector, r.selector = sc_selector, r.kind = FINDING_SIDECARS;
        r.path = "spec.workloadSelector";
        rivals(&r, INDEX_SC);
        an_sidecar(an);
        break;
    case INDEX_TE:
        an_selector(an, &an->o->te->selector, true, "spec.selector");
        r.own = &an->o->te->selector, r.selector = te_selector, r.kind = FINDING_TELEMETRIES;
        if (!an->o->te->target_refs.n)
            rivals(&r, INDEX_TE);
        break;
    case INDEX_PC:
        an_selector(an, &an->o->pc->selector, true, "spec.selector");
        break;
    default:
        break;
    }
}

void analyze_object(const struct analysis *a, enum index_kind kind, struct slice ns,
                    struct slice name, struct arena *tmp, struct findings *f)
{
    struct an an = {.x = a->index, .partial = a->partial, .tmp = tmp, .f = f};
    const struct ix_service *s;
    const struct ix_pod *p;

    switch (kind) {
    case INDEX_NAMESPACE:
        an_namespace(&an, name);
        break;
    case INDEX_SERVICE:
        if ((s = index_service(a->index, ns, name)) && s->known)
            an_service(&an, s);
        break;
    case INDEX_POD:
        if ((p = index_pod(a->index, ns, name)) && p->known)
            an_pod(&an, p);
        break;
    default:
        an.o = index_object(a->index, kind, ns, name);
        if (an.o && !an.o->invalid)
            object(&an);
    }
}
