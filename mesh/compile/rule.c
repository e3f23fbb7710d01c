/* SPDX-License-Identifier: Apache-2.0 */
/* DestinationRules: which hold for a client and a host, how they merge, and what they make of a
 * cluster. Istio's rules: the client's namespace, the service's, the root namespace, the first that
 * has any; the most specific host; rules of one host merge when they are for the same clients. */
#include "mesh/compile/compile_int.h"

#define MAX_RULES 16u

struct rules { /* of one host and namespace, oldest first: merged */
    const struct ix_object *p[MAX_RULES];
    uint32_t n;
};

/* --- which rules --------------------------------------------------------------------------------
 */
static bool applies(struct cc *c, const struct ix_object *o, struct slice ns)
{
    const struct dr *dr = o->dr;

    if (!slice_eq(o->meta->ns, ns) || !cc_visible(c, &dr->export_to, o->meta->ns))
        return false;
    if (!dr->workload_selector.set)
        return true;
    return slice_eq(ns, cc_ns(c)) && cc_labels_cover(c, &dr->workload_selector.labels);
}

static bool same_strings(const struct api_strings *a, const struct api_strings *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!slice_eq(a->p[i], b->p[i]))
            return false;
    return true;
}

static bool same_selector(const struct dr *a, const struct dr *b)
{
    const struct api_map *x = &a->workload_selector.labels, *y = &b->workload_selector.labels;

    return a->workload_selector.set == b->workload_selector.set && x->n == y->n &&
           selector_hash(x) == selector_hash(y);
}

/* Rules merge when they are for the same clients. One that selects the client's workload stands
 * before those for everybody; of two sorts that both hold, the oldest rule's. */
static void keep_mergeable(struct cc *c, struct rules *r, struct slice host)
{
    const struct ix_object *first = r->n ? r->p[0] : NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->n && !first->dr->workload_selector.set; i++)
        if (r->p[i]->dr->workload_selector.set)
            first = r->p[i];
    for (uint32_t i = 0; i < r->n; i++) {
        const struct ix_object *o = r->p[i];

        if (same_selector(first->dr, o->dr) &&
            same_strings(&first->dr->export_to, &o->dr->export_to)) {
            r->p[n++] = o;
        } else if (same_selector(first->dr, o->dr) || o->dr->workload_selector.set) {
            cc_origin(c, INDEX_DR, o->meta);
            cc_problem(
                c, FINDING_CONFLICT, INDEX_DR, o->meta, SL("spec.host"),
                "DestinationRule %.*s/%.*s is for %.*s, too, and holds: rules merge only with "
                "the same exportTo and workloadSelector",
                SL_FMT(first->meta->ns), SL_FMT(first->meta->name), SL_FMT(host));
        }
    }
    r->n = n;
}

static struct rules rules_in(struct cc *c, struct slice host, struct slice ns)
{
    struct slice pattern = SLICE_NULL;
    struct rules r = {0};

    while (r.n == 0 && cc_next_pattern(c, host, &pattern)) {
        const struct ix_objects *l = index_dr_of(c->x, pattern);

        cc_dep(c, INDEX_TOKEN_DR(pattern));
        for (uint32_t i = 0; l && i < l->n && r.n < MAX_RULES; i++)
            if (applies(c, l->p[i], ns))
                r.p[r.n++] = l->p[i];
    }
    keep_mergeable(c, &r, host);
    return r;
}

/* What rules there are for a host, before anyone is asked whose they are: when there are none, or
 * they all stand in one namespace that counts for every client and are shown to all, it does not
 * matter who looks. */
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

/* --- merging
 * -------------------------------------------------------------------------------------- */
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

/* Subsets of all rules count, of two with one name the older rule's. */
static const struct dr_subset *find_subset(struct cc *c, const struct rules *r, struct slice name)
{
    const struct dr_subset *found = NULL;

    for (uint32_t i = 0; i < r->n; i++) {
        const struct dr_subset *s = dr_subset_find(r->p[i]->dr, name);

        if (s && found)
            cc_problem(c, FINDING_CONFLICT, INDEX_DR, r->p[i]->meta,
                       cc_printf(c, "spec.subsets[%u]", (unsigned)(s - r->p[i]->dr->subsets)),
                       "an older DestinationRule has a subset \"%.*s\" for this host, which holds",
                       SL_FMT(name));
        else if (s)
            found = s;
    }
    return found;
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
    if (over->retry_budget) /* has no place in an entry for a port, and holds there, too */
        base.retry_budget = over->retry_budget;
    exact = dr_policy_port(over, port);
    if (exact) {
        base.load_balancer = exact->load_balancer;
        base.connection_pool = exact->connection_pool;
        base.outlier = exact->outlier;
        base.tls = exact->tls;
    }
    return base;
}

/* --- policy to cluster --------------------------------------------------------------------------
 */
/* The seldom parts are made when the first of them is; NULL without memory. */
static struct prog_policy *seldom(struct cc *c, struct prog_cluster *to)
{
    if (!to->policy)
        to->policy = CC_ARRAY(c, struct prog_policy, 1);
    return to->policy;
}

static uint32_t prime_near(uint64_t want)
{
    for (uint32_t n = want < 3 ? 3 : want > DR_MAGLEV_MAX ? DR_MAGLEV_MAX : (uint32_t)want;; n++) {
        bool prime = true;

        for (uint32_t d = 2; prime && d * d <= n; d++)
            prime = n % d != 0;
        if (prime)
            return n;
    }
}

static void set_hash(struct cc *c, const struct dr_hash *from, struct prog_cluster *to)
{
    static const enum prog_hash_key keys[] = {
        [DR_HASH_HEADER] = PROG_HASH_HEADER,
        [DR_HASH_COOKIE] = PROG_HASH_COOKIE,
        [DR_HASH_SOURCE_IP] = PROG_HASH_SOURCE_IP,
        [DR_HASH_QUERY] = PROG_HASH_QUERY,
    };
    struct prog_policy *p = seldom(c, to);
    struct prog_hash *h = p ? p->hash = CC_ARRAY(c, struct prog_hash, 1) : NULL;

    if (!h)
        return;
    h->key = keys[from->key];
    h->name = cc_copy(c, from->name);
    h->maglev = from->algorithm == DR_HASH_MAGLEV;
    h->size = h->maglev ? prime_near(from->maglev_table_size)
                        : (uint32_t)MIN(from->minimum_ring_size, (uint64_t)DR_RING_MAX);
    if (from->key != DR_HASH_COOKIE || !from->cookie_ttl.set)
        return;
    h->cookie_made = true;
    h->cookie_ttl_s = (uint32_t)(from->cookie_ttl.ns / 1000000000);
    h->cookie_path = cc_copy(c, from->cookie_path);
    h->cookie_attributes = CC_ARRAY(c, struct prog_field, from->n_cookie_attributes);
    for (uint32_t i = 0; h->cookie_attributes && i < from->n_cookie_attributes; i++) {
        struct prog_field *f = &h->cookie_attributes[h->n_cookie_attributes++];

        f->name = cc_copy(c, from->cookie_attributes[i].name);
        f->value = cc_copy(c, from->cookie_attributes[i].value);
    }
}

static void set_balancer(struct cc *c, const struct dr_load_balancer *lb, struct prog_cluster *to)
{
    to->balancer = PROG_LEAST_REQUEST;
    if (!lb)
        return;
    if (lb->hash && lb->hash->key != DR_HASH_NONE) {
        to->balancer = PROG_HASH;
        set_hash(c, lb->hash, to);
    } else if (lb->simple == DR_LB_RANDOM) {
        to->balancer = PROG_RANDOM;
    } else if (lb->simple == DR_LB_ROUND_ROBIN) {
        to->balancer = PROG_ROUND_ROBIN;
    } else if (lb->simple == DR_LB_PASSTHROUGH) {
        to->balancer = PROG_PASSTHROUGH;
    }
    to->original_dst |= to->balancer == PROG_PASSTHROUGH;
}

bool rule_rank(struct cc *c, struct slice text, enum prog_likeness *ret_kind, struct slice *ret_key,
               struct slice *ret_value)
{
    static const struct {
        const char *key;
        enum prog_likeness kind;
    } places[] = {
        {"topology.kubernetes.io/region", PROG_LIKE_REGION},
        {"topology.kubernetes.io/zone", PROG_LIKE_ZONE},
        {"topology.istio.io/subzone", PROG_LIKE_SUBZONE},
        {"kubernetes.io/hostname", PROG_LIKE_NODE},
    };
    ptrdiff_t eq = slice_chr(text, '=');
    struct slice cluster = c->in->cluster_name.len ? c->in->cluster_name : SL("Kubernetes");

    *ret_key = eq < 0 ? text : slice_head(text, (size_t)eq);
    *ret_value = eq < 0 ? SLICE_NULL : slice_skip(text, (size_t)eq + 1);
    /* There is one network and one cluster: everybody is alike. */
    if (slice_is(*ret_key, "topology.istio.io/network") && !ret_value->len)
        return false;
    if (slice_is(*ret_key, "topology.istio.io/cluster") &&
        (!ret_value->len || slice_eq(*ret_value, cluster)))
        return false;
    *ret_kind = PROG_LIKE_LABEL;
    for (size_t i = 0; i < N_OF(places); i++)
        if (slice_is(*ret_key, places[i].key))
            *ret_kind = places[i].kind;
    return true;
}

static void set_ranks(struct cc *c, const struct api_strings *from, struct prog_locality *to)
{
    to->ranks = CC_ARRAY(c, struct prog_rank, from->n);
    for (uint32_t i = 0; to->ranks && i < from->n; i++) {
        struct prog_rank *r = &to->ranks[to->n_ranks];
        struct slice key, value;

        if (!rule_rank(c, from->p[i], &r->kind, &key, &value))
            continue;
        to->n_ranks++;
        if (r->kind == PROG_LIKE_LABEL)
            r->selector = prog_selector_add(1, key, value.p ? value : cc_label(c, key));
        else
            r->value = cc_copy(c, value);
    }
}

/* The rule's own setting or the mesh's. Failover needs outlier detection: without it nothing ever
 * fails; distribution does not. */
static void set_locality(struct cc *c, const struct dr_load_balancer *lb, bool outlier,
                         struct prog_cluster *to)
{
    const struct dr_locality *from = lb && lb->locality ? lb->locality : c->mesh->locality;
    static const struct dr_locality on;
    struct prog_locality *l;

    cc_dep(c, INDEX_TOKEN_MESH);
    from = from ? from : &on;
    if ((from->enabled.set && !from->enabled.v) || (!outlier && !from->n_distribute) ||
        !seldom(c, to) || !(l = to->policy->locality = CC_ARRAY(c, struct prog_locality, 1)))
        return;
    l->distribute = CC_ARRAY(c, struct prog_distribute, from->n_distribute);
    for (uint32_t i = 0; l->distribute && i < from->n_distribute; i++) {
        const struct dr_distribute *x = &from->distribute[i];
        struct prog_distribute *d = &l->distribute[l->n_distribute++];

        d->from = cc_copy(c, x->from);
        d->to = CC_ARRAY(c, struct prog_share, x->n_to);
        for (uint32_t k = 0; d->to && k < x->n_to; k++)
            d->to[d->n_to++] = (struct prog_share){cc_copy(c, x->to[k].key), x->to[k].weight};
    }
    if (l->n_distribute)
        return;
    set_ranks(c, &from->failover_priority, l);
    l->failover = CC_ARRAY(c, struct prog_failover, from->n_failover);
    for (uint32_t i = 0; l->failover && i < from->n_failover; i++)
        l->failover[l->n_failover++] = (struct prog_failover){cc_copy(c, from->failover[i].from),
                                                              cc_copy(c, from->failover[i].to)};
}

/* A timeout that is switched off by 0s. */
static uint32_t ms_or_never(struct opt_ns t)
{
    return !t.set ? 0 : t.ns == 0 ? PROG_MS_NEVER : cc_ms(t.ns);
}

static uint32_t seconds(struct opt_ns t)
{
    return t.set ? (uint32_t)MIN((t.ns + 999999999) / 1000000000, INT64_C(32767)) : 0;
}

static void set_tcp(struct cc *c, const struct dr_tcp_pool *p, struct prog_cluster *to)
{
    struct prog_tcp *t;

    if ((!p->keepalive && !p->max_connection_duration.set && !p->idle_timeout.set) ||
        !seldom(c, to) || !(t = to->policy->tcp = CC_ARRAY(c, struct prog_tcp, 1)))
        return;
    t->max_duration_ms = cc_ms(p->max_connection_duration.ns);
    t->idle_timeout_ms = ms_or_never(p->idle_timeout);
    if (!p->keepalive)
        return;
    t->keepalive = true;
    t->keepalive_probes = MIN(p->keepalive->probes.v, 127u);
    t->keepalive_time_s = seconds(p->keepalive->time);
    t->keepalive_interval_s = seconds(p->keepalive->interval);
}

/* HTTP/2 to a port that does not ask for it. Who writes UPGRADE for the host knows that it speaks HTTP,
 * so that a port of unknown protocol is upgraded, too; the mesh's setting is for declared ports. */
static void set_upgrade(struct cc *c, const struct dr_http_pool *p, struct prog_cluster *to)
{
    bool host = p && p->h2_upgrade == DR_H2_UPGRADE;
    bool plain = !p || p->h2_upgrade == DR_H2_DEFAULT;
    bool mesh = c->mesh->h2_upgrade == MESH_H2_UPGRADE && plain;

    to->keep_http1 = (p && p->h2_upgrade == DR_H2_DO_NOT_UPGRADE) ||
                     (plain && c->mesh->h2_upgrade == MESH_H2_DO_NOT_UPGRADE);
    to->client_protocol = p && p->use_client_protocol && to->protocol != PROG_TCP &&
                          to->protocol != PROG_TLS;
    if (to->client_protocol)
        return;
    if ((to->protocol == PROG_HTTP && (host || mesh)) || (to->protocol == PROG_AUTO && host))
        to->protocol = PROG_HTTP2;
}

static void set_pings(const struct dr_http_pool *p, struct prog_cluster *to)
{
    if (!p->h2_keepalive_interval.set)
        return;
    to->pool.ping_interval_ms = cc_ms(p->h2_keepalive_interval.ns);
    to->pool.ping_timeout_ms = p->h2_keepalive_timeout.set ? cc_ms(p->h2_keepalive_timeout.ns)
                                                           : to->pool.ping_interval_ms;
}

static void set_pool(struct cc *c, const struct dr_connection_pool *p, struct prog_cluster *to)
{
    to->pool.connect_timeout_ms = RULE_CONNECT_TIMEOUT_MS;
    set_upgrade(c, p ? &p->http : NULL, to);
    if (!p)
        return;
    to->pool.max_connections = p->tcp.max_connections.v;
    to->pool.max_pending = p->http.http1_max_pending_requests.v;
    to->pool.max_requests = p->http.http2_max_requests.v;
    to->pool.max_requests_per_connection = p->http.max_requests_per_connection.v;
    to->pool.max_retries = p->http.max_retries.v;
    if (p->tcp.connect_timeout.set)
        to->pool.connect_timeout_ms = cc_ms(p->tcp.connect_timeout.ns);
    to->pool.idle_timeout_ms = ms_or_never(p->http.idle_timeout);
    set_tcp(c, &p->tcp, to);
    to->pool.max_streams = p->http.max_concurrent_streams.v;
    set_pings(&p->http, to);
}

void rule_pool(struct cc *c, const struct dr_connection_pool *p, struct prog_cluster *to)
{
    set_pool(c, p, to);
}

static void set_outlier(struct cc *c, const struct dr_outlier *o, struct prog_cluster *to)
{
    struct prog_outlier *x;
    uint64_t code;

    if (!o || !seldom(c, to) || !(x = to->policy->outlier = CC_ARRAY(c, struct prog_outlier, 1)))
        return;
    /* The block alone switches detection on with Envoy's five. */
    x->consecutive_5xx = o->consecutive_5xx.set ? o->consecutive_5xx.v : 5;
    x->consecutive_gateway = o->consecutive_gateway.v;
    x->split_local = o->split_external_local;
    if (x->split_local)
        x->consecutive_local = o->consecutive_local.v ? o->consecutive_local.v : 5;
    x->interval_ms = cc_ms(o->interval_ns);
    x->base_ejection_ms = cc_ms(o->base_ejection_ns);
    x->max_ejection_percent = o->max_ejection_percent;
    x->min_health_percent = o->min_health_percent;
    x->codes = CC_ARRAY(c, uint16_t, o->http_error_codes.n);
    for (uint32_t i = 0; x->codes && i < o->http_error_codes.n; i++)
        if (slice_u64(o->http_error_codes.p[i], 599, &code) && code >= 100)
            x->codes[x->n_codes++] = (uint16_t)code;
}

/* As Istio's defaults and Envoy's: 20 %, at least 3. A minimum of 0 is one that was not given (proto3). */
static void set_retry_budget(struct cc *c, const struct dr_retry_budget *from,
                             struct prog_cluster *to)
{
    struct prog_retry_budget *b;

    if (!from || !seldom(c, to) ||
        !(b = to->policy->retry_budget = CC_ARRAY(c, struct prog_retry_budget, 1)))
        return;
    b->share = from->percent.set ? (uint32_t)(from->percent.v * 1000 + 0.5) : 20000;
    b->min_retries = from->min_retry_concurrency.v ? from->min_retry_concurrency.v : 3;
    b->interval_ms = cc_ms(from->interval.ns);
}

/* A Secret is for the workloads that a rule selects, as Istio has it; without that nothing weaker
 * is used in its place. */
static void set_origin(struct cc *c, const struct dr_tls *tls, bool selected,
                       struct prog_cluster *to)
{
    struct prog_origin *o;

    if (tls->credential_name.len && !selected)
        to->problem = SL("tls.credentialName in a sidecar needs a rule with workloadSelector");
    else if (tls->mode == DR_TLS_MUTUAL && !tls->credential_name.len &&
             !(tls->client_certificate.len && tls->private_key.len))
        to->problem = SL("tls mode MUTUAL without client certificate");
    if (!seldom(c, to) || !(o = to->policy->origin = CC_ARRAY(c, struct prog_origin, 1)))
        return;
    o->credential = cc_copy(c, tls->credential_name);
    if (tls->mode == DR_TLS_MUTUAL) {
        o->certificate = cc_copy(c, tls->client_certificate);
        o->key = cc_copy(c, tls->private_key);
    }
    if (!slice_is(tls->ca_certificates, "system"))
        o->roots = cc_copy(c, tls->ca_certificates);
    o->crl = cc_copy(c, tls->ca_crl);
    o->no_verify = tls->insecure_skip_verify.v;
}

static void set_tls(struct cc *c, const struct dr_tls *tls, const struct target *t, bool selected,
                    struct prog_cluster *to)
{
    static const enum prog_tls modes[] = {
        [DR_TLS_DISABLE] = PROG_TLS_DISABLE,
        [DR_TLS_SIMPLE] = PROG_TLS_SIMPLE,
        [DR_TLS_MUTUAL] = PROG_TLS_MUTUAL,
        [DR_TLS_ISTIO_MUTUAL] = PROG_TLS_MUTUAL_MESH,
    };
    bool origin;

    to->tls = PROG_TLS_AUTO;
    if (t->kind == TARGET_SE) {
        to->subject_alt_names = cc_copy_strings(c, &t->se->se->subject_alt_names);
        if (t->se->se->location == SE_MESH_EXTERNAL) /* mTLS only where a rule asks for it */
            to->tls = PROG_TLS_DISABLE;
    }
    if (!tls)
        return;
    to->tls = modes[tls->mode];
    origin = tls->mode == DR_TLS_SIMPLE || tls->mode == DR_TLS_MUTUAL;
    if (tls->subject_alt_names.n)
        to->subject_alt_names = cc_copy_strings(c, &tls->subject_alt_names);
    if (tls->sni.len)
        to->sni = cc_copy(c, tls->sni);
    else if (origin)
        to->sni = t->host.len && t->host.p[0] == '*' ? SLICE_NULL : cc_copy(c, t->host);
    if (origin)
        set_origin(c, tls, selected, to);
}

bool rule_apply(struct cc *c, const struct target *t, uint16_t port, struct prog_cluster *to)
{
    struct rules r = rules_of(c, t->host, t->ns);
    struct dr_policy policy = merge((struct dr_policy){0}, top_policy(c, &r), port);
    const struct dr_subset *s = to->subset.len ? find_subset(c, &r, to->subset) : NULL;

    if (s) {
        policy = merge(policy, s->policy, port);
        to->subset_selector = selector_hash(&s->labels);
    }
    set_balancer(c, policy.load_balancer, to);
    set_outlier(c, policy.outlier, to);
    set_locality(c, policy.load_balancer, policy.outlier != NULL, to);
    set_pool(c, policy.connection_pool, to);
    set_retry_budget(c, policy.retry_budget, to);
    if (!(t->kind == TARGET_SERVICE && t->svc->external && !policy.tls))
        set_tls(c, policy.tls, t, r.n && r.p[0]->dr->workload_selector.set, to);
    return s || !to->subset.len;
}

/* --- Secrets
 * -------------------------------------------------------------------------------------- */
struct needs {
    struct cc *c;
    struct slice name;
    bool found;
};

static bool policy_needs(const struct dr_policy *p, struct slice name)
{
    bool found = p && p->tls && (p->tls->mode == DR_TLS_SIMPLE || p->tls->mode == DR_TLS_MUTUAL) &&
                 slice_eq(p->tls->credential_name, name);

    for (uint32_t i = 0; p && i < p->n_ports && !found; i++)
        found = policy_needs(&p->ports[i].policy, name);
    return found;
}

static bool on_rule(void *user, const struct ix_object *o)
{
    struct needs *n = user;
    const struct dr *dr = o->dr;
    bool needed;

    if (o->invalid || !dr->workload_selector.set || !slice_eq(o->meta->ns, cc_ns(n->c)))
        return true;
    needed = policy_needs(dr->policy, n->name);
    for (uint32_t i = 0; i < dr->n_subsets && !needed; i++)
        needed = policy_needs(dr->subsets[i].policy, n->name);
    if (!needed || !cc_labels_cover(n->c, &dr->workload_selector.labels))
        return true;
    cc_origin(n->c, INDEX_DR, o->meta);
    if (!index_secret(n->c->x, cc_ns(n->c), n->name))
        cc_problem(
            n->c, FINDING_REFERENCE, INDEX_DR, o->meta, SL("spec"),
            "Secret %.*s/%.*s is not there, or the operator may not read it (it needs a Role "
            "and a RoleBinding in that namespace)",
            SL_FMT(o->meta->ns), SL_FMT(n->name));
    n->found = true;
    return true;
}

bool rule_needs(struct cc *c, struct slice name)
{
    struct needs n = {.c = c, .name = name};

    cc_dep(c, INDEX_TOKEN_RULES(cc_ns(c)));
    index_each_object(c->x, INDEX_DR, on_rule, &n);
    return n.found;
}
