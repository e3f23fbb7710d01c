/* SPDX-License-Identifier: Apache-2.0 */
/* AuthorizationPolicies: names of peers that nobody bears, conditions that no connection can meet.
 */
#include "mesh/analyze/analyze_int.h"

#include "mesh/compile/compile.h"

static void namespaces(struct an *an, const struct api_strings *l, const char *path)
{
    for (uint32_t i = 0; i < l->n && !an->partial; i++)
        if (slice_chr(l->p[i], '*') < 0 && !index_services(an->x, l->p[i]) &&
            !an_any_pod_at_all(an, l->p[i]))
            an_add(an, FINDING_REFERENCE, an_path(an, "%s[%u]", path, i),
                   "namespace %.*s holds no workload: correct the name, or remove it",
                   SL_FMT(l->p[i]));
}

struct account_seek {
    struct slice ns, account;
    bool any, found;
};

static bool seek_account(void *user, const struct ix_pod *p)
{
    struct account_seek *s = user;

    if (!p->known || !slice_eq(istr_slice(p->ns), s->ns))
        return true;
    s->any = true;
    s->found =
        slice_eq(p->service_account ? istr_slice(p->service_account) : SL("default"), s->account);
    return !s->found;
}

static void account(struct an *an, struct slice ns, struct slice name, const char *path)
{
    struct account_seek s = {ns, name, false, false};

    if (!ns.len || !name.len || slice_chr(ns, '*') >= 0 || slice_chr(name, '*') >= 0)
        return;
    index_each_pod(an->x, seek_account, &s);
    if (s.any && !s.found)
        an_add(an, FINDING_REFERENCE, path,
               "no pod of namespace %.*s runs as the account %.*s: correct the name, or remove it",
               SL_FMT(ns), SL_FMT(name));
}

/* "trust-domain/ns/NAMESPACE/sa/ACCOUNT" of the own mesh. */
static void principals(struct an *an, const struct api_strings *l, const char *path)
{
    const struct mesh_cr *m = index_mesh(an->x);

    for (uint32_t i = 0; i < l->n; i++) {
        struct slice rest = l->p[i], domain, ns, sa, word;

        if (!slice_next(&rest, '/', &domain) || !slice_next(&rest, '/', &word) ||
            !slice_is(word, "ns") || !slice_next(&rest, '/', &ns) ||
            !slice_next(&rest, '/', &word) || !slice_is(word, "sa") ||
            !slice_next(&rest, '/', &sa) || rest.p)
            continue;
        if (slice_eq(domain, m->trust_domain) || slice_is(domain, "cluster.local") ||
            api_strings_has(&m->trust_domain_aliases, domain))
            account(an, ns, sa, an_path(an, "%s[%u]", path, i));
        else
            an_add(an, FINDING_REFERENCE, an_path(an, "%s[%u]", path, i),
                   "%.*s is neither the trust domain of the mesh (%.*s) nor an alias: correct it, "
                   "or add "
                   "it to Mesh.spec.trustDomainAliases",
                   SL_FMT(domain), SL_FMT(m->trust_domain));
    }
}

static void accounts(struct an *an, const struct api_strings *l, const char *path)
{
    for (uint32_t i = 0; i < l->n; i++) {
        ptrdiff_t slash = slice_chr(l->p[i], '/');

        account(an, slash < 0 ? an->o->meta->ns : slice_head(l->p[i], (size_t)slash),
                slash < 0 ? l->p[i] : slice_skip(l->p[i], (size_t)slash + 1),
                an_path(an, "%s[%u]", path, i));
    }
}

/* --- HTTP conditions where no HTTP is spoken --- */

static bool operation_is_http(const struct ap_operation *o)
{
    return o->hosts.n || o->not_hosts.n || o->methods.n || o->not_methods.n || o->paths.n ||
           o->not_paths.n;
}

static bool operation_on(const struct ap_operation *o, uint16_t port)
{
    uint64_t v;

    for (uint32_t i = 0; i < o->ports.n; i++)
        if (slice_u64(o->ports.p[i], 65535, &v) && v == port)
            return true;
    return o->ports.n == 0;
}

/* No opaque connection to that port can satisfy the rule; not so when the rule is for others alone.
 */
static bool rule_needs_http(const struct ap_rule *r, uint16_t port)
{
    uint32_t on = 0, http = 0;

    for (uint32_t i = 0; i < r->n_to; i++)
        if (operation_on(&r->to[i], port)) {
            on++;
            http += operation_is_http(&r->to[i]);
        }
    if (r->n_to && !on)
        return false;
    for (uint32_t i = 0; i < r->n_when; i++)
        if (slice_starts(r->when[i].key, SL("request.")))
            return true;
    return on && on == http;
}

struct covered_seek {
    const struct api_selector *selector;
    bool found;
};

static bool seek_covered(void *user, const struct ix_pod *p)
{
    struct covered_seek *s = user;

    s->found = !s->selector->set || ilabels_cover(p->labels, &s->selector->labels);
    return !s->found;
}

/* The first rule that needs requests, on a port that carries none; UINT32_MAX: none. */
static uint32_t rule_on_opaque(const struct ap *ap, const struct ix_port *p)
{
    enum prog_protocol protocol =
        compile_protocol(istr_slice(p->app_protocol), istr_slice(p->name), p->port);

    if (!p->tcp || (protocol != PROG_TCP && protocol != PROG_TLS))
        return UINT32_MAX;
    for (uint32_t i = 0; i < ap->n_rules; i++)
        if (rule_needs_http(&ap->rules[i], p->target ? p->target : p->port))
            return i;
    return UINT32_MAX;
}

/* Pods are looked at last: they are many. */
static void opaque_ports(struct an *an)
{
    const struct ap *ap = an->o->ap;

    for (const struct ix_service *s = index_services(an->x, an->o->meta->ns); s; s = s->next) {
        struct covered_seek seek = {&ap->selector, false};
        uint32_t rule = UINT32_MAX, k = 0;

        while (s->known && k < s->n_ports &&
               (rule = rule_on_opaque(ap, &s->ports[k])) == UINT32_MAX)
            k++;
        if (rule == UINT32_MAX)
            continue;
        an_each_pod_of(an, s, seek_covered, &seek);
        if (seek.found)
            an_add(
                an, FINDING_SUSPECT, an_path(an, "spec.rules[%u]", rule),
                "port %u (Service %s) carries opaque bytes, where conditions on requests %s: name "
                "the HTTP ports in the operation, or give the port appProtocol: http",
                s->ports[k].target ? s->ports[k].target : s->ports[k].port, s->name->p,
                ap->action == AP_DENY ? "hold for every connection" : "never hold");
    }
}

void an_ap(struct an *an)
{
    const struct ap *p = an->o->ap;

    an_selector(an, &p->selector, true, "spec.selector");
    if (!p->target_refs.n && p->action != AP_AUDIT)
        opaque_ports(an);
    for (uint32_t i = 0; i < p->n_rules; i++)
        for (uint32_t k = 0; k < p->rules[i].n_from; k++) {
            const char *path = an_path(an, "spec.rules[%u].from[%u].source", i, k);

            namespaces(an, &p->rules[i].from[k].namespaces, an_path(an, "%s.namespaces", path));
            namespaces(an, &p->rules[i].from[k].not_namespaces,
                       an_path(an, "%s.notNamespaces", path));
            principals(an, &p->rules[i].from[k].principals, an_path(an, "%s.principals", path));
            principals(an, &p->rules[i].from[k].not_principals,
                       an_path(an, "%s.notPrincipals", path));
            accounts(an, &p->rules[i].from[k].service_accounts,
                     an_path(an, "%s.serviceAccounts", path));
            accounts(an, &p->rules[i].from[k].not_service_accounts,
                     an_path(an, "%s.notServiceAccounts", path));
        }
}
