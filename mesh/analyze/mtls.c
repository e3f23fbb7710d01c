/* SPDX-License-Identifier: Apache-2.0 */
/* Who speaks mutual TLS to whom: rules of clients against policies of servers. */
#include "mesh/analyze/analyze_int.h"
#include "mesh/compile/compile.h"

struct tally {
    struct an *an;
    uint16_t port; /* of the service; 0: any */
    const struct ix_service *service;
    unsigned pods, sidecars, strict, permissive, disabled;
    const struct ix_pod *example_strict, *example_bare;
};

static uint16_t target_port(const struct ix_service *s, uint16_t port)
{
    for (uint32_t i = 0; i < s->n_ports; i++)
        if (s->ports[i].port == port)
            return s->ports[i].target ? s->ports[i].target : port;
    return port;
}

static bool count(void *user, const struct ix_pod *p)
{
    struct tally *t = user;
    enum pa_mode mode =
        compile_mtls_mode(t->an->x, p, t->port ? target_port(t->service, t->port) : 0, NULL);
    bool made = !p->ip[0].len; /* of a template: it will get a sidecar where those are injected */

    if (made && !an_meshed(t->an, istr_slice(p->ns)))
        return true; /* nobody knows */
    t->pods++;
    if (!p->mtls && !made) {
        t->example_bare = p;
        return true;
    }
    t->sidecars++;
    t->strict += mode == PA_STRICT;
    t->permissive += mode == PA_PERMISSIVE;
    t->disabled += mode == PA_DISABLE;
    if (mode == PA_STRICT)
        t->example_strict = p;
    return true;
}

static void judge(struct an *an, const struct ix_service *s, uint32_t port,
                  const struct dr_tls *tls, const char *path)
{
    static const char *const names[] = {"DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"};
    struct tally t = {.an = an, .service = s, .port = (uint16_t)port};

    an_each_pod_of(an, s, count, &t);
    if (!t.pods)
        return;
    if (tls->mode != DR_TLS_ISTIO_MUTUAL && t.strict)
        an_add(an, FINDING_MTLS_CONFLICT, path,
               "mode %s meets pod %s, which takes mutual TLS alone (STRICT): its calls fail; write "
               "ISTIO_MUTUAL, or leave tls out",
               names[tls->mode], t.example_strict->name->p);
    else if (tls->mode == DR_TLS_DISABLE && t.sidecars)
        an_add(
            an, FINDING_PLAINTEXT, path,
            "mode DISABLE sends plaintext to %u of %u pods that could speak mutual TLS: leave tls "
            "out",
            t.sidecars, t.pods);
    else if (tls->mode == DR_TLS_ISTIO_MUTUAL && t.disabled)
        an_add(an, FINDING_MTLS_CONFLICT, path,
               "mode ISTIO_MUTUAL meets %u of %u pods that take plaintext alone (DISABLE): their "
               "calls "
               "fail; leave tls out",
               t.disabled, t.pods);
    else if (tls->mode == DR_TLS_ISTIO_MUTUAL && t.sidecars < t.pods)
        an_add(an, FINDING_MTLS_CONFLICT, path,
               "mode ISTIO_MUTUAL meets pod %s, which has no sidecar: its calls fail; leave tls "
               "out, so "
               "that each endpoint gets what it speaks",
               t.example_bare->name->p);
}

static void policy(struct an *an, const struct ix_service *s, const struct dr_policy *p,
                   const char *path)
{
    if (!p)
        return;
    if (p->tls)
        judge(an, s, 0, p->tls, an_path(an, "%s.tls.mode", path));
    for (uint32_t i = 0; i < p->n_ports; i++)
        if (p->ports[i].policy.tls)
            judge(an, s, p->ports[i].port, p->ports[i].policy.tls,
                  an_path(an, "%s.portLevelSettings[%u].tls.mode", path, i));
}

void an_mtls_dr(struct an *an)
{
    const struct dr *d = an->o->dr;
    struct an_host h = an_host_of(an, d->host, an->o->meta->ns);

    if (!h.service)
        return;
    policy(an, h.service, d->policy, "spec.trafficPolicy");
    for (uint32_t i = 0; i < d->n_subsets; i++)
        policy(an, h.service, d->subsets[i].policy,
               an_path(an, "spec.subsets[%u].trafficPolicy", i));
}

/* --- PeerAuthentication
 * --------------------------------------------------------------------------------- */

void an_mtls_pa(struct an *an)
{
    const struct pa *pa = an->o->pa;
    enum pa_mode floor = index_mesh(an->x)->mtls_floor;

    if (floor > PA_DISABLE && pa->mode != PA_UNSET && pa->mode < floor)
        an_add(an, FINDING_SUSPECT, "spec.mtls.mode",
               "%s is below Mesh.spec.mtls.floor: %s holds instead; lower the floor, or leave the "
               "mode "
               "out",
               pa_mode_name(pa->mode), pa_mode_name(floor));
    else if (pa->mode == PA_DISABLE)
        an_add(
            an, FINDING_PLAINTEXT, "spec.mtls.mode",
            "DISABLE makes every call of these workloads plaintext, also between sidecars: write "
            "PERMISSIVE to take both");
    for (uint32_t i = 0; i < pa->n_ports; i++)
        if (pa->ports[i].mode == PA_DISABLE && floor <= PA_DISABLE)
            an_add(an, FINDING_PLAINTEXT,
                   an_path(an, "spec.portLevelMtls.%u.mode", pa->ports[i].port),
                   "DISABLE makes every call of port %u plaintext, also between sidecars: write "
                   "PERMISSIVE to take both",
                   pa->ports[i].port);
}
