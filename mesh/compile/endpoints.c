/* SPDX-License-Identifier: Apache-2.0 */
/* ENDPOINTS: who stands behind a service. */
#include "mesh/compile/compile_int.h"

#define MAX_SELECTORS 64u
#define NO_INDEX UINT16_MAX

struct eb { /* endpoints under way */
    struct cc *c;
    struct prog_endpoints *e;
    struct api_map *labels[MAX_SELECTORS]; /* of the selectors, by hash */
    struct slice like[MAX_SELECTORS];      /* keys of failoverPriority */
    uint32_t n_subsets, n_like;            /* how many of each */
    struct { /* identities and localities by what they were made of: shared texts compare as pointers */
        const void *a, *b;
        uint16_t index;
    } last_identity, last_locality;
    uint32_t cap_identities, cap_localities;
    struct named { /* endpoints that the proxy has to resolve */
        struct slice name;
        struct prog_endpoint e;
    } *named;
    uint32_t n_named, cap_named;
};

static uint16_t text_index(struct eb *b, struct prog_strings *l, uint32_t *cap, struct slice s)
{
    struct slice *p;

    if (!s.len)
        return NO_INDEX;
    for (uint32_t i = l->n; i-- > 0;)
        if (slice_eq(l->p[i], s))
            return (uint16_t)i;
    if (l->n >= NO_INDEX - 1)
        return NO_INDEX;
    p = cc_grow(b->c, &l->p, &l->n, cap, sizeof *l->p);
    if (!p)
        return NO_INDEX;
    *p = s;
    return (uint16_t)(l->n - 1);
}

static uint16_t identity_index(struct eb *b, const struct istr *ns, const struct istr *sa)
{
    if (!sa)
        return NO_INDEX;
    if (b->last_identity.a != ns || b->last_identity.b != sa) {
        b->last_identity.a = ns;
        b->last_identity.b = sa;
        b->last_identity.index = text_index(b, &b->e->identities, &b->cap_identities,
                                            cc_identity(b->c, istr_slice(ns), istr_slice(sa)));
    }
    return b->last_identity.index;
}

static uint16_t locality_index(struct eb *b, const struct ix_pod *pod)
{
    if (ilabels_get(pod->labels, SL("istio-locality")).len ||
        ilabels_get(pod->labels, SL("topology.istio.io/locality")).len)
        return text_index(b, &b->e->localities, &b->cap_localities,
                          index_pod_locality(b->c->x, pod, b->c->a));
    if (!pod->node)
        return NO_INDEX;
    if (b->last_locality.a != pod->node) {
        b->last_locality.a = pod->node;
        b->last_locality.index = text_index(b, &b->e->localities, &b->cap_localities,
                                            index_pod_locality(b->c->x, pod, b->c->a));
    }
    return b->last_locality.index;
}

/* --- subsets ------------------------------------------------------------------------------------------ */
struct selector {
    uint64_t hash;
    const struct api_map *labels;
    const struct ix_object *of; /* the DestinationRule and which of its subsets */
    uint32_t subset;
};

static int cmp_selector(const void *a, const void *b)
{
    const struct selector *x = a, *y = b;

    return (x->hash > y->hash) - (x->hash < y->hash);
}

/* All selectors that any DestinationRule has for the host: clients see different rules. */
static void collect_selectors(struct eb *b, struct slice host)
{
    struct cc *c = b->c;
    struct slice pattern = SLICE_NULL;
    struct selector *v = NULL, *one;
    uint32_t n = 0, cap = 0, kept = 0;

    while (cc_next_pattern(c, host, &pattern)) {
        const struct ix_objects *l = index_dr_of(c->x, pattern);

        cc_dep(c, index_token("selectors", pattern, SLICE_NULL));
        for (uint32_t i = 0; l && i < l->n; i++)
            for (uint32_t k = 0; k < l->p[i]->dr->n_subsets; k++) {
                const struct api_map *labels = &l->p[i]->dr->subsets[k].labels;

                one = labels->n ? cc_grow(c, &v, &n, &cap, sizeof *v) : NULL;
                if (one)
                    *one = (struct selector){selector_hash(labels), labels, l->p[i], k};
            }
    }
    if (!n)
        return;
    qsort(v, n, sizeof *v, cmp_selector);
    b->e->selectors = CC_ARRAY(c, uint64_t, MIN(n, MAX_SELECTORS));
    for (uint32_t i = 0; b->e->selectors && i < n; i++) {
        if (kept && b->e->selectors[kept - 1] == v[i].hash)
            continue;
        if (kept == MAX_SELECTORS) {
            cc_problem(c, FINDING_UNSUPPORTED, INDEX_DR, v[i].of->meta,
                       cc_printf(c, "spec.subsets[%u].labels", v[i].subset),
                       "%.*s has more than %u different subset selectors: this one selects no "
                       "endpoint",
                       SL_FMT(host), MAX_SELECTORS);
            continue;
        }
        b->e->selectors[kept] = v[i].hash;
        b->labels[kept++] = (struct api_map *)(uintptr_t)v[i].labels;
    }
    b->e->n_selectors = b->n_subsets = kept;
}

/* Keys of failoverPriority, of every rule for the host and of the mesh: a client compares the own label
 * with the endpoint's, so each value that an endpoint has (or none) stands as a selector. */
static void like_keys(struct eb *b, const struct api_strings *keys)
{
    for (uint32_t i = 0; i < keys->n; i++) {
        enum prog_likeness kind;
        struct slice key, value;
        bool known = !rule_rank(b->c, keys->p[i], &kind, &key, &value) ||
                     (kind != PROG_LIKE_LABEL && kind != PROG_LIKE_NODE);

        for (uint32_t k = 0; k < b->n_like; k++)
            known |= slice_eq(b->like[k], key);
        if (!known && b->n_like < MAX_SELECTORS)
            b->like[b->n_like++] = key;
    }
}

static void like_policy(struct eb *b, const struct dr_policy *p)
{
    if (p && p->load_balancer && p->load_balancer->locality)
        like_keys(b, &p->load_balancer->locality->failover_priority);
    for (uint32_t i = 0; p && i < p->n_ports; i++)
        like_policy(b, &p->ports[i].policy);
}

static void collect_likeness(struct eb *b, struct slice host)
{
    struct slice pattern = SLICE_NULL;

    if (b->c->mesh->locality)
        like_keys(b, &b->c->mesh->locality->failover_priority);
    while (cc_next_pattern(b->c, host, &pattern)) {
        const struct ix_objects *l = index_dr_of(b->c->x, pattern);

        for (uint32_t i = 0; l && i < l->n; i++) {
            like_policy(b, l->p[i]->dr->policy);
            for (uint32_t k = 0; k < l->p[i]->dr->n_subsets; k++)
                like_policy(b, l->p[i]->dr->subsets[k].policy);
        }
    }
    if (b->n_like && b->e->n_selectors < MAX_SELECTORS) { /* room for values still to be met */
        uint64_t *all = CC_ARRAY(b->c, uint64_t, MAX_SELECTORS);

        if (all && b->e->n_selectors)
            memcpy(all, b->e->selectors, b->e->n_selectors * sizeof *all);
        b->e->selectors = all;
    }
}

static void collect(struct eb *b, struct slice host)
{
    collect_selectors(b, host);
    collect_likeness(b, host);
}

/* The bit of {key: value}, made when it is new; 0 when there are too many. */
static uint64_t like_bit(struct eb *b, struct slice key, struct slice value)
{
    uint64_t hash = prog_selector_add(1, key, value);

    for (uint32_t i = 0; i < b->e->n_selectors; i++)
        if (b->e->selectors[i] == hash)
            return UINT64_C(1) << i;
    if (b->e->n_selectors == MAX_SELECTORS || !b->e->selectors)
        return 0;
    b->e->selectors[b->e->n_selectors] = hash;
    return UINT64_C(1) << b->e->n_selectors++;
}

static uint64_t likeness_of_pod(struct eb *b, const struct ix_pod *pod)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < b->n_like; i++)
        bits |= like_bit(b, b->like[i],
                         slice_is(b->like[i], "kubernetes.io/hostname")
                             ? istr_slice(pod->node)
                             : ilabels_get(pod->labels, b->like[i]));
    return bits;
}

static uint64_t subsets_of_pod(const struct eb *b, const struct ix_pod *pod)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < b->n_subsets; i++)
        if (ilabels_cover(pod->labels, b->labels[i]))
            bits |= UINT64_C(1) << i;
    return bits;
}

static uint64_t subsets_of_labels(struct eb *b, const struct api_map *labels)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < b->n_subsets; i++)
        if (api_map_covers(labels, b->labels[i]))
            bits |= UINT64_C(1) << i;
    for (uint32_t i = 0; i < b->n_like; i++)
        bits |= like_bit(b, b->like[i], api_map_get(labels, b->like[i]));
    return bits;
}

/* --- filling ------------------------------------------------------------------------------------------ */
static void describe_pod(struct eb *b, const struct ix_pod *pod, struct prog_endpoint *to)
{
    to->identity = to->locality = NO_INDEX;
    if (!pod || !pod->known)
        return;
    to->identity = identity_index(b, pod->ns, pod->service_account);
    to->locality = locality_index(b, pod);
    to->subsets = subsets_of_pod(b, pod) | likeness_of_pod(b, pod);
    /* A workload that refuses mTLS on the port is called in plaintext, as Istio does. */
    to->mtls = pod->mtls && compile_mtls_mode(b->c->x, pod, to->port, NULL) != PA_DISABLE;
}

static void set_address(struct prog_endpoint *to, const struct ipaddr *ip, uint16_t port)
{
    memcpy(to->address, ip->b, ip->len);
    to->address_len = ip->len;
    to->port = port;
    to->weight = 1;
}

static int cmp_endpoint(const void *a, const void *b)
{
    const struct prog_endpoint *x = a, *y = b;
    int d = (int)x->address_len - (int)y->address_len;

    if (!d)
        d = memcmp(x->address, y->address, x->address_len);
    return d ? d : (int)x->port - (int)y->port;
}

/* Numbers in the order in which the sorted endpoints use them, so that the order in which objects were
 * met does not show. */
static void renumber(struct cc *c, struct prog_strings *l, struct prog_endpoint *p, uint32_t n,
                     size_t member)
{
    struct prog_strings sorted = cc_strings(c, l->n);
    uint16_t *map = CC_ARRAY(c, uint16_t, l->n);

    if (!l->n || !map || !sorted.p)
        return;
    for (uint32_t i = 0; i < n; i++) {
        uint16_t *at = (uint16_t *)(void *)((char *)&p[i] + member);

        if (*at == NO_INDEX)
            continue;
        if (!map[*at]) {
            sorted.p[sorted.n++] = l->p[*at];
            map[*at] = (uint16_t)sorted.n; /* plus one */
        }
        *at = (uint16_t)(map[*at] - 1);
    }
    *l = sorted;
}

/* Selectors of failoverPriority in the order of their hashes, not in that of being met. */
static void sort_likeness(struct eb *b)
{
    struct prog_endpoints *e = b->e;
    uint64_t map[MAX_SELECTORS];
    uint32_t from = b->n_subsets;

    for (uint32_t i = from; i < e->n_selectors; i++)
        map[i] = e->selectors[i];
    for (uint32_t i = from + 1; i < e->n_selectors; i++)
        for (uint32_t k = i; k > from && e->selectors[k] < e->selectors[k - 1]; k--) {
            uint64_t x = e->selectors[k];

            e->selectors[k] = e->selectors[k - 1];
            e->selectors[k - 1] = x;
        }
    for (uint32_t i = 0; i < e->n + e->n_named && from < e->n_selectors; i++) {
        uint64_t bits = e->p[i].subsets & ((UINT64_C(1) << from) - 1);

        for (uint32_t k = from; k < e->n_selectors; k++)
            for (uint32_t n = from; n < e->n_selectors && e->p[i].subsets >> k & 1; n++)
                bits |= e->selectors[n] == map[k] ? UINT64_C(1) << n : 0;
        e->p[i].subsets = bits;
    }
}

static int cmp_named(const void *a, const void *b)
{
    return slice_cmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Those with names behind those with addresses. */
static void append_named(struct eb *b)
{
    struct prog_endpoints *e = b->e;
    struct prog_endpoint *all;

    if (!b->n_named)
        return;
    all = CC_ARRAY(b->c, struct prog_endpoint, e->n + b->n_named);
    e->names = cc_strings(b->c, b->n_named);
    if (!all || !e->names.p)
        return;
    if (e->n)
        memcpy(all, e->p, e->n * sizeof *all);
    e->p = all;
    qsort(b->named, b->n_named, sizeof *b->named, cmp_named);
    for (uint32_t i = 0; i < b->n_named; i++) {
        if (i && slice_eq(b->named[i].name, b->named[i - 1].name))
            continue;
        e->names.p[e->names.n++] = b->named[i].name;
        e->p[e->n + e->n_named++] = b->named[i].e;
    }
}

static struct prog *finish(struct eb *b)
{
    struct prog_endpoints *e = b->e;
    uint32_t n = 0;

    if (e->n)
        qsort(e->p, e->n, sizeof *e->p, cmp_endpoint);
    for (uint32_t i = 0; i < e->n; i++)
        if (i == 0 || cmp_endpoint(&e->p[i], &e->p[n - 1]) != 0)
            e->p[n++] = e->p[i];
    e->n = n;
    append_named(b);
    n = e->n + e->n_named;
    sort_likeness(b);
    renumber(b->c, &e->identities, e->p, n, offsetof(struct prog_endpoint, identity));
    renumber(b->c, &e->localities, e->p, n, offsetof(struct prog_endpoint, locality));
    return &e->prog;
}

static void deps_of_policy(struct cc *c, struct slice ns)
{
    cc_dep(c, INDEX_TOKEN_MESH);
    cc_dep(c, INDEX_TOKEN_NODES);
    cc_dep(c, INDEX_TOKEN_PA(ns));
    cc_dep(c, INDEX_TOKEN_PA(c->mesh->root_namespace));
}

static bool usable(const struct ix_endpoint *e)
{
    return e->ready || (e->serving && e->terminating);
}

/* --- "EndpointSlice/<ns>/<name>/<port name>" ---------------------------------------------------------- */
static struct prog *of_slice(struct cc *c, struct slice ns, struct slice name, struct slice port_name)
{
    const struct ix_slice *s = index_slice(c->x, ns, name);
    struct eb b = {.c = c};
    uint16_t port = 0;

    cc_dep(c, INDEX_TOKEN_SLICE(ns, name));
    for (uint32_t i = 0; s && i < s->n_ports && !port; i++)
        if (s->ports[i].tcp && slice_eq(istr_slice(s->ports[i].name), port_name))
            port = s->ports[i].port;
    if (!port)
        return NULL;
    deps_of_policy(c, ns);
    b.e = cc_prog(c, PROG_ENDPOINTS, sizeof *b.e);
    if (!b.e)
        return NULL;
    if (s->service)
        collect(&b, cc_printf(c, "%s.%s.svc.%.*s", s->service->name->p, s->ns->p,
                              SL_FMT(c->mesh->cluster_domain)));
    b.e->p = CC_ARRAY(c, struct prog_endpoint, s->n_endpoints);
    for (uint32_t i = 0; b.e->p && i < s->n_endpoints; i++) {
        struct prog_endpoint *to = &b.e->p[b.e->n];

        if (!usable(&s->endpoints[i]))
            continue;
        set_address(to, &s->endpoints[i].ip, port);
        describe_pod(&b, s->endpoints[i].pod, to);
        to->draining = !s->endpoints[i].ready;
        b.e->n++;
    }
    return finish(&b);
}

/* --- ServiceEntries and WorkloadEntries --------------------------------------------------------------- */
static void describe_entry(struct eb *b, struct slice ns, const struct se_endpoint *e,
                           struct prog_endpoint *to)
{
    to->weight = e->weight.set && e->weight.v ? e->weight.v : 1;
    to->identity = e->service_account.len
                       ? text_index(b, &b->e->identities, &b->cap_identities,
                                    cc_identity(b->c, ns, e->service_account))
                       : NO_INDEX;
    to->locality = text_index(b, &b->e->localities, &b->cap_localities,
                              se_endpoint_locality(e, b->c->a));
    to->subsets = subsets_of_labels(b, &e->labels);
    to->mtls = se_endpoint_mtls(e);
}

static void add_entry(struct eb *b, struct slice ns, const struct se_endpoint *e, uint32_t port,
                      uint32_t *cap)
{
    char host[HOST_MAX + 4];
    struct prog_endpoint *to;
    struct named *named;
    struct slice name;
    struct ipaddr ip;

    if (!port)
        return;
    if (ip_parse(e->address, &ip)) {
        to = cc_grow(b->c, &b->e->p, &b->e->n, cap, sizeof *to);
        if (!to)
            return;
        set_address(to, &ip, (uint16_t)port);
        describe_entry(b, ns, e, to);
    } else if (slice_starts(e->address, SL("unix://")) ||
               host_normalise(e->address, host, sizeof host, &name) == ERR_OK) {
        named = cc_grow(b->c, &b->named, &b->n_named, &b->cap_named, sizeof *named);
        if (!named)
            return;
        named->name = slice_starts(e->address, SL("unix://"))
                          ? cc_copy(b->c, e->address)
                          : cc_printf(b->c, "%.*s:%u", SL_FMT(name), port);
        describe_entry(b, ns, e, &named->e);
    }
}

/* --- "ServiceEntry/<ns>/<name>/<port>" */
struct se_pods {
    struct eb *b;
    const struct ix_object *se;
    const struct api_port *port;
    uint32_t cap;
};

static bool add_se_pod(void *user, const struct ix_pod *pod)
{
    struct se_pods *s = user;
    struct prog_endpoint *to;
    uint16_t port;

    if (!slice_eq(istr_slice(pod->ns), s->se->meta->ns) || !pod->ip[0].len || pod->gone ||
        !ilabels_cover(pod->labels, &s->se->se->workload_selector.labels))
        return true;
    to = cc_grow(s->b->c, &s->b->e->p, &s->b->e->n, &s->cap, sizeof *to);
    if (!to)
        return false;
    port = pod_named_port(pod, s->port->name);
    if (!port)
        port = (uint16_t)(s->port->target_port ? s->port->target_port : s->port->number);
    set_address(to, &pod->ip[0], port);
    describe_pod(s->b, pod, to);
    return true;
}

static void add_selected(struct eb *b, const struct ix_object *o, struct se_pods *s)
{
    const struct ix_objects *l = index_we_of(b->c->x, o->meta->ns);

    cc_dep(b->c, INDEX_TOKEN_PODS(o->meta->ns));
    cc_dep(b->c, INDEX_TOKEN_WE(o->meta->ns));
    index_each_pod(b->c->x, add_se_pod, s);
    for (uint32_t i = 0; l && i < l->n; i++) {
        const struct se_endpoint *e = &l->p[i]->we->endpoint;

        if (l->p[i]->invalid || !api_map_covers(&e->labels, &o->se->workload_selector.labels))
            continue;
        cc_origin(b->c, INDEX_WE, l->p[i]->meta);
        add_entry(b, o->meta->ns, e, se_endpoint_port(e, s->port), &s->cap);
    }
}

static struct prog *of_se(struct cc *c, struct slice ns, struct slice name, struct slice port_text)
{
    const struct ix_object *o = index_object(c->x, INDEX_SE, ns, name);
    const struct api_port *port = NULL;
    struct eb b = {.c = c};
    struct se_pods s = {&b, o, NULL, 0};
    uint64_t number;

    cc_dep(c, index_token("se-object", ns, name));
    if (!o || o->invalid || !slice_u64(port_text, 65535, &number))
        return NULL;
    for (uint32_t i = 0; i < o->se->ports.n && !port; i++)
        if (o->se->ports.p[i].number == number)
            port = &o->se->ports.p[i];
    if (!port)
        return NULL;
    deps_of_policy(c, ns);
    cc_origin(c, INDEX_SE, o->meta);
    b.e = cc_prog(c, PROG_ENDPOINTS, sizeof *b.e);
    if (!b.e)
        return NULL;
    for (uint32_t i = 0; i < o->n_hosts; i++)
        if (i == 0) /* subsets of further hosts of one entry are those of the first */
            collect(&b, o->hosts[i]);
    for (uint32_t i = 0; i < o->se->n_endpoints; i++)
        add_entry(&b, ns, &o->se->endpoints[i], se_endpoint_port(&o->se->endpoints[i], port), &s.cap);
    s.port = port;
    if (o->se->workload_selector.set)
        add_selected(&b, o, &s);
    return finish(&b);
}

/* --- "WorkloadEntry/<ns>/<service>/<port>": those that a Service selects */
uint32_t entry_port(const struct se_endpoint *e, const struct ix_port *p)
{
    struct slice name = p->target_name ? istr_slice(p->target_name) : istr_slice(p->name);
    uint32_t own = se_endpoint_named_port(e, name);

    return own || p->target_name ? own : p->target ? p->target : p->port;
}

static struct prog *of_selected(struct cc *c, struct slice ns, struct slice name, struct slice port_text)
{
    const struct ix_service *s = index_service(c->x, ns, name);
    const struct ix_objects *l = index_we_of(c->x, ns);
    const struct ix_port *port = NULL;
    struct eb b = {.c = c};
    uint64_t number;
    uint32_t cap = 0;

    cc_dep(c, INDEX_TOKEN_SERVICE(ns, name));
    cc_dep(c, INDEX_TOKEN_WE(ns));
    if (!s || !s->known || !s->selector || !slice_u64(port_text, 65535, &number))
        return NULL;
    for (uint32_t i = 0; i < s->n_ports && !port; i++)
        if (s->ports[i].tcp && s->ports[i].port == number)
            port = &s->ports[i];
    if (!port)
        return NULL;
    deps_of_policy(c, ns);
    b.e = cc_prog(c, PROG_ENDPOINTS, sizeof *b.e);
    if (!b.e)
        return NULL;
    collect(&b, cc_printf(c, "%s.%s.svc.%.*s", s->name->p, s->ns->p, SL_FMT(c->mesh->cluster_domain)));
    for (uint32_t i = 0; l && i < l->n; i++) {
        if (!index_entry_selected(l->p[i], s->selector))
            continue;
        cc_origin(c, INDEX_WE, l->p[i]->meta);
        add_entry(&b, ns, &l->p[i]->we->endpoint, entry_port(&l->p[i]->we->endpoint, port), &cap);
    }
    return finish(&b);
}

/* --- "Pod/<address>/<port>" --------------------------------------------------------------------------- */
static struct prog *of_pod(struct cc *c, struct slice address, struct slice port_text)
{
    const struct ix_pod *pod;
    struct eb b = {.c = c};
    struct ipaddr ip;
    uint64_t port;

    if (!ip_parse(address, &ip) || !slice_u64(port_text, 65535, &port) || !port)
        return NULL;
    cc_dep(c, INDEX_TOKEN_IP(&ip));
    pod = index_pod_by_ip(c->x, &ip);
    if (!pod)
        return NULL;
    deps_of_policy(c, istr_slice(pod->ns));
    cc_dep(c, INDEX_TOKEN_POD(istr_slice(pod->ns), istr_slice(pod->name)));
    b.e = cc_prog(c, PROG_ENDPOINTS, sizeof *b.e);
    b.e = b.e && (b.e->p = CC_ARRAY(c, struct prog_endpoint, 1)) ? b.e : NULL;
    if (!b.e)
        return NULL;
    set_address(&b.e->p[0], &ip, (uint16_t)port);
    describe_pod(&b, pod, &b.e->p[0]);
    b.e->n = 1;
    return &b.e->prog;
}

struct prog *compile_endpoints(struct cc *c, struct slice key, enum err_code *rc)
{
    struct slice part[4] = {{0}};
    size_t n = 0;

    while (n < 4 && slice_next(&key, '/', &part[n]))
        n++;
    if (n == 4 && !key.p && slice_eq(part[0], SL("EndpointSlice")))
        return of_slice(c, part[1], part[2], part[3]);
    if (n == 4 && !key.p && slice_eq(part[0], SL("ServiceEntry")))
        return of_se(c, part[1], part[2], part[3]);
    if (n == 4 && !key.p && slice_eq(part[0], SL("WorkloadEntry")))
        return of_selected(c, part[1], part[2], part[3]);
    if (n == 3 && slice_eq(part[0], SL("Pod")))
        return of_pod(c, part[1], part[2]);
    *rc = ERR_INVALID;
    return NULL;
}
