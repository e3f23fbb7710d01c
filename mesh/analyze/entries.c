/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceEntries and WorkloadEntries with others in view: who has the host, who selects whom. */
#include "mesh/analyze/analyze_int.h"
#include "mesh/compile/compile.h"

/* Does some namespace see both? */
static bool seen_together(const struct ix_object *a, const struct ix_object *b)
{
    const struct api_strings *x = &a->se->export_to, *y = &b->se->export_to;

    if (!x->n || !y->n || api_strings_has(x, SL("*")) || api_strings_has(y, SL("*")))
        return !api_strings_has(x, SL("~")) && !api_strings_has(y, SL("~"));
    for (uint32_t i = 0; i < x->n; i++) {
        struct slice ns = slice_is(x->p[i], ".") ? a->meta->ns : x->p[i];

        if (!slice_is(ns, "~") && index_visible(y, b->meta->ns, ns))
            return true;
    }
    return false;
}

/* A port that both have; 0: none. */
static uint32_t common_port(const struct se *a, const struct se *b, bool tcp)
{
    for (uint32_t i = 0; i < a->ports.n; i++)
        for (uint32_t k = 0; k < b->ports.n; k++)
            if (a->ports.p[i].number == b->ports.p[k].number &&
                (!tcp || compile_protocol(a->ports.p[i].protocol, a->ports.p[i].name,
                                          (uint16_t)a->ports.p[i].number) == PROG_TCP))
                return a->ports.p[i].number;
    return 0;
}

/* TCP knows but the address. */
static void se_address(struct an *an, uint32_t i)
{
    struct ipaddr ip;

    if (!ip_parse(an->o->se->addresses.p[i], &ip))
        return;
    for (const struct ix_object *o = NULL;
         (o = index_se_by_ip(an->x, &ip, o)) && o != an->o;) {
        uint32_t port = seen_together(o, an->o) ? common_port(an->o->se, o->se, true) : 0;

        if (!port)
            continue;
        an_add(an, FINDING_CONFLICT, an_path(an, "spec.addresses[%u]", i),
               "the older ServiceEntry %.*s/%.*s has the address and TCP port %u, and holds: give "
               "each its own address, or none",
               SL_FMT(o->meta->ns), SL_FMT(o->meta->name), port);
        return;
    }
}

static void se_host(struct an *an, uint32_t i)
{
    struct slice host = an->o->hosts[i];
    const struct ix_objects *l = index_se_of(an->x, host);
    const char *path = an_path(an, "spec.hosts[%u]", i);

    if (index_service_by_host(an->x, host)) {
        an_add(an, FINDING_CONFLICT, path,
               "a Service has the host %.*s, and holds: name another host", SL_FMT(host));
        return;
    }
    for (uint32_t k = 0; l && k < l->n && l->p[k] != an->o; k++)
        if (seen_together(l->p[k], an->o) && common_port(an->o->se, l->p[k]->se, false)) {
            an_add(an, FINDING_CONFLICT, path,
                   "port %u of host %.*s belongs to the older ServiceEntry %.*s/%.*s, which holds "
                   "where both are seen: put the endpoints into one object",
                   common_port(an->o->se, l->p[k]->se, false), SL_FMT(host),
                   SL_FMT(l->p[k]->meta->ns), SL_FMT(l->p[k]->meta->name));
            return;
        }
}

void an_se(struct an *an)
{
    const struct api_selector *s = &an->o->se->workload_selector;
    const struct ix_objects *l = s->set ? index_we_of(an->x, an->o->meta->ns) : NULL;
    bool any = false;

    for (uint32_t i = 0; l && i < l->n && !any; i++)
        any = !l->p[i]->invalid && api_map_covers(&l->p[i]->we->endpoint.labels, &s->labels);
    if (!any)
        an_selector(an, s, false, "spec.workloadSelector");
    for (uint32_t i = 0; i < an->o->n_hosts; i++)
        se_host(an, i);
    for (uint32_t i = 0; i < an->o->se->addresses.n; i++)
        se_address(an, i);
}

/* A WorkloadEntry is called as what selects it. */
struct selecting {
    const struct ix_object *we;
    bool found;
};

static bool seek_selecting(void *user, const struct ix_object *o)
{
    struct selecting *s = user;

    s->found = !o->invalid && o->se->workload_selector.set &&
               slice_eq(o->meta->ns, s->we->meta->ns) &&
               api_map_covers(&s->we->we->endpoint.labels, &o->se->workload_selector.labels);
    return !s->found;
}

void an_we(struct an *an)
{
    struct selecting s = {an->o, false};

    for (const struct ix_service *v = index_services(an->x, an->o->meta->ns); v; v = v->next)
        s.found |= v->known && index_entry_selected(an->o, v->selector);
    if (!s.found)
        index_each_object(an->x, INDEX_SE, seek_selecting, &s);
    if (!s.found && !an->partial)
        an_add(an, FINDING_SUSPECT, "spec.labels",
               "no Service or ServiceEntry of namespace %.*s selects these labels: nobody calls it",
               SL_FMT(an->o->meta->ns));
}
