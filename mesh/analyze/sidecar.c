/* SPDX-License-Identifier: Apache-2.0 */
/* Sidecars: hosts that let nothing be seen. */
#include "lib/data/host.h"
#include "mesh/analyze/analyze_int.h"

struct hosts {
    struct an *an;
    struct slice where, what;
    bool found;
};

static bool is_there(const struct hosts *h, struct slice ns)
{
    return slice_is(h->where, "*") ||
           slice_eq(slice_is(h->where, ".") ? h->an->o->meta->ns : h->where, ns);
}

static bool seek_service(void *user, const struct ix_service *s)
{
    struct hosts *h = user;
    struct slice domain = index_cluster_domain(h->an->x);
    const char *host;

    if (!s->known || !is_there(h, istr_slice(s->ns)))
        return true;
    host = an_path(h->an, "%s.%s.svc.%.*s", s->name->p, s->ns->p, SL_FMT(domain));
    h->found = host_matches(h->what, slice_str(host));
    return !h->found;
}

static bool seek_object(void *user, const struct ix_object *o)
{
    struct hosts *h = user;

    if (o->invalid || !is_there(h, o->meta->ns))
        return true;
    for (uint32_t i = 0; i < o->n_hosts && !h->found; i++)
        h->found = o->kind == INDEX_VS ? host_overlaps(h->what, o->hosts[i])
                                       : host_matches(h->what, o->hosts[i]);
    return !h->found;
}

/* A whole namespace that is empty is seldom a slip: the own one and Istio's stand in most Sidecars.
 */
static bool is_usual(const struct hosts *h)
{
    return slice_is(h->what, "*") &&
           (slice_is(h->where, ".") || slice_is(h->where, "istio-system") ||
            slice_eq(h->where, index_mesh(h->an->x)->root_namespace));
}

void an_sidecar(struct an *an)
{
    const struct sc *sc = an->o->sc;

    if (sc->egress_proxy)
        an_destination(an, sc->egress_proxy, "spec.outboundTrafficPolicy.egressProxy");
    for (uint32_t i = 0; i < sc->n_egress && !an->partial; i++)
        for (uint32_t k = 0; k < sc->egress[i].hosts.n; k++) {
            struct slice text = sc->egress[i].hosts.p[k];
            ptrdiff_t slash = slice_chr(text, '/');
            struct hosts h = {.an = an};

            if (slash <= 0 || text.p[0] == '~')
                continue;
            h.where = slice_head(text, (size_t)slash);
            h.what = slice_skip(text, (size_t)slash + 1);
            index_each_service(an->x, seek_service, &h);
            if (!h.found)
                index_each_object(an->x, INDEX_SE, seek_object, &h);
            if (!h.found)
                index_each_object(an->x, INDEX_VS, seek_object, &h);
            if (!h.found && !is_usual(&h))
                an_add(an, FINDING_REFERENCE, an_path(an, "spec.egress[%u].hosts[%u]", i, k),
                       "%.*s takes in no host that is there: write namespace/complete.name, or "
                       "remove it",
                       SL_FMT(text));
        }
}
