/* SPDX-License-Identifier: Apache-2.0 */
/* Test help: random, well-formed resources from a seed. Everything lives in the arena. */
#pragma once

#include "lib/base/rand.h"
#include "mesh/wire/wire.h"

struct gen {
    struct arena *a;
    struct rnd r;
};

static inline uint32_t g_n(struct gen *g, uint32_t n)
{
    return rnd_below(&g->r, n);
}
static inline bool g_bool(struct gen *g)
{
    return g_n(g, 2);
}
static inline struct slice g_text(struct gen *g)
{
    size_t n = g_n(g, 12);
    char *p = arena_alloc(g->a, n + 1);

    for (size_t i = 0; i < n; i++)
        p[i] = (char)('a' + g_n(g, 26));
    return n ? slice_of(p, n) : SLICE_NULL;
}
static inline struct slice g_word(struct gen *g)
{
    struct slice s = g_text(g);

    return s.len ? s : SL("w");
}
static inline struct prog_strings g_texts(struct gen *g)
{
    struct prog_strings l = {.n = g_n(g, 4)};

    l.p = arena_alloc(g->a, l.n * sizeof *l.p);
    for (uint32_t i = 0; i < l.n; i++)
        l.p[i] = g_word(g);
    return l;
}
static inline struct cidr *g_cidrs(struct gen *g, uint32_t *n)
{
    *n = g_n(g, 3);
    struct cidr *c = arena_alloc(g->a, *n * sizeof *c);

    for (uint32_t i = 0; i < *n; i++)
        cidr_parse(g_bool(g) ? SL("10.0.0.0/8") : SL("fd00::/16"), &c[i]);
    return c;
}
#define G_ARRAY(g, dst, n_dst, max, fill)                                                          \
    do {                                                                                           \
        (n_dst) = g_n(g, (max) + 1);                                                               \
        (dst) = arena_alloc((g)->a, (n_dst) * sizeof *(dst));                                      \
        for (uint32_t i_ = 0; i_ < (n_dst); i_++)                                                  \
            fill(g, &(dst)[i_]);                                                                   \
    } while (0)

static inline void g_string_match(struct gen *g, struct prog_string_match *m)
{
    m->kind = (enum prog_match_kind)g_n(g, PROG_MATCH_NEVER + 1);
    if (m->kind != PROG_MATCH_NONE && m->kind != PROG_MATCH_PRESENT)
        m->value = g_text(g);
}
static inline void g_field_match(struct gen *g, struct prog_field_match *f)
{
    f->name = g_word(g);
    g_string_match(g, &f->match);
    f->absent = g_bool(g);
}
static inline void g_http_match(struct gen *g, struct prog_http_match *m)
{
    g_string_match(g, &m->uri);
    g_string_match(g, &m->method);
    g_string_match(g, &m->authority);
    g_string_match(g, &m->scheme);
    m->ignore_uri_case = g_bool(g);
    m->name = g_text(g);
    G_ARRAY(g, m->headers, m->n_headers, 2, g_field_match);
    G_ARRAY(g, m->queries, m->n_queries, 2, g_field_match);
}
static inline void g_field(struct gen *g, struct prog_field *f)
{
    f->name = g_word(g);
    f->value = g_text(g);
}
static inline void g_ops(struct gen *g, struct prog_header_ops *o)
{
    G_ARRAY(g, o->set, o->n_set, 2, g_field);
    G_ARRAY(g, o->add, o->n_add, 2, g_field);
    o->remove = g_texts(g);
}
static inline void g_destinations(struct gen *g, uint32_t n_clusters, struct prog_destination **d,
                                  uint32_t *n, uint32_t *total)
{
    *n = n_clusters ? g_n(g, 3) : 0;
    *d = arena_alloc(g->a, *n * sizeof **d);
    for (uint32_t i = 0; i < *n; i++) {
        (*d)[i].cluster = g_n(g, n_clusters);
        (*d)[i].weight = 1 + g_n(g, 100);
        *total += (*d)[i].weight;
        g_ops(g, &(*d)[i].headers.request);
        g_ops(g, &(*d)[i].headers.response);
    }
}
static inline void g_http_route(struct gen *g, struct prog_http_route *r, uint32_t n_clusters)
{
    r->name = g_text(g);
    r->origin = g_text(g);
    G_ARRAY(g, r->matches, r->n_matches, 2, g_http_match);
    r->action = (enum prog_route_action)g_n(g, 3);
    if (r->action == PROG_FORWARD)
        g_destinations(g, n_clusters, &r->destinations, &r->n_destinations, &r->total_weight);
    if (r->action == PROG_DIRECT) {
        r->direct.status = 200 + g_n(g, 300);
        r->direct.body = g_text(g);
    }
    if (r->action == PROG_REDIRECT) {
        r->redirect = arena_alloc(g->a, sizeof *r->redirect);
        r->redirect->uri = g_text(g);
        r->redirect->authority = g_text(g);
        r->redirect->port = g_n(g, 65536);
        r->redirect->code = 301 + g_n(g, 8);
        r->redirect->port_from_request = g_bool(g);
    }
    if (g_bool(g)) {
        r->rewrite = arena_alloc(g->a, sizeof *r->rewrite);
        r->rewrite->uri = g_text(g);
        r->rewrite->authority = g_text(g);
        r->rewrite->regex_text = g_bool(g) ? SL("^/a(.*)$") : SLICE_NULL;
        r->rewrite->substitution = SL("/b\\1");
    }
    r->timeout_ms = g_n(g, 1000);
    if (g_bool(g)) {
        r->retry = arena_alloc(g->a, sizeof *r->retry);
        r->retry->attempts = g_n(g, 5);
        r->retry->on = g_n(g, 1 << 13);
        r->retry->elsewhere = g_bool(g);
        r->retry->same_hosts = g_bool(g);
        r->retry->n_status = g_n(g, 3);
        r->retry->status = arena_alloc(g->a, 3 * sizeof *r->retry->status);
        for (uint32_t i = 0; i < r->retry->n_status; i++)
            r->retry->status[i] = 100 + g_n(g, 500);
    }
    if (g_bool(g)) {
        r->fault = arena_alloc(g->a, sizeof *r->fault);
        r->fault->delay_ms = g_n(g, 100);
        r->fault->delay_permyriad = g_n(g, 10001);
        r->fault->abort_grpc = (int32_t)g_n(g, 17) - 1;
    }
    if (g_bool(g)) {
        r->cors = arena_alloc(g->a, sizeof *r->cors);
        r->cors->n_origins = g_n(g, 3);
        r->cors->origins = arena_alloc(g->a, r->cors->n_origins * sizeof *r->cors->origins);
        for (uint32_t i = 0; i < r->cors->n_origins; i++)
            r->cors->origins[i] =
                (struct prog_string_match){.kind = g_bool(g) ? PROG_MATCH_EXACT : PROG_MATCH_PREFIX,
                                           .value = g_word(g)};
        r->cors->allow_methods = g_text(g);
        r->cors->allow_headers = g_text(g);
        r->cors->expose_headers = g_text(g);
        r->cors->max_age = g_text(g);
        r->cors->allow_credentials = g_bool(g);
        r->cors->keep_unmatched = g_bool(g);
    }
    r->n_mirrors = n_clusters ? g_n(g, 2) : 0;
    r->mirrors = arena_alloc(g->a, r->n_mirrors * sizeof *r->mirrors);
    for (uint32_t i = 0; i < r->n_mirrors; i++)
        r->mirrors[i] = (struct prog_mirror){g_n(g, n_clusters), g_n(g, 10001)};
    g_ops(g, &r->headers.request);
    g_ops(g, &r->headers.response);
}
static inline void g_tcp_match(struct gen *g, struct prog_tcp_match *m)
{
    m->subnets = g_cidrs(g, &m->n_subnets);
    m->sources = g_cidrs(g, &m->n_sources);
    m->sni = g_texts(g);
}
static inline void g_share(struct gen *g, struct prog_share *s)
{
    s->to = g_word(g);
    s->weight = g_n(g, 101);
}
static inline void g_distribute(struct gen *g, struct prog_distribute *d)
{
    d->from = g_word(g);
    G_ARRAY(g, d->to, d->n_to, 3, g_share);
}
static inline void g_failover(struct gen *g, struct prog_failover *f)
{
    f->from = g_word(g);
    f->to = g_word(g);
}
static inline void g_rank(struct gen *g, struct prog_rank *r)
{
    r->kind = (enum prog_likeness)g_n(g, PROG_LIKE_LABEL + 1);
    r->value = g_text(g);
    r->selector = rnd_u64(&g->r);
}
static inline struct prog_policy *g_policy_of(struct gen *g)
{
    struct prog_policy *p = arena_alloc(g->a, sizeof *p);

    if (g_bool(g)) {
        p->outlier = arena_alloc(g->a, sizeof *p->outlier);
        p->outlier->consecutive_5xx = g_n(g, 3);
        p->outlier->consecutive_local = g_n(g, 3);
        p->outlier->max_ejection_percent = g_n(g, 101);
        p->outlier->split_local = g_bool(g);
        p->outlier->codes = arena_alloc(g->a, 2 * sizeof *p->outlier->codes);
        p->outlier->n_codes = g_n(g, 3);
        for (uint32_t i = 0; i < p->outlier->n_codes; i++)
            p->outlier->codes[i] = (uint16_t)(100 + g_n(g, 500));
    }
    if (g_bool(g)) {
        p->tcp = arena_alloc(g->a, sizeof *p->tcp);
        p->tcp->keepalive = g_bool(g);
        p->tcp->keepalive_probes = g_n(g, 9);
        p->tcp->max_duration_ms = g_n(g, 1000);
        p->tcp->idle_timeout_ms = g_bool(g) ? PROG_MS_NEVER : g_n(g, 1000);
    }
    if (g_bool(g)) {
        p->hash = arena_alloc(g->a, sizeof *p->hash);
        p->hash->key = (enum prog_hash_key)g_n(g, PROG_HASH_QUERY + 1);
        p->hash->name = g_text(g);
        p->hash->maglev = g_bool(g);
        p->hash->size = g_n(g, 70000);
        p->hash->cookie_made = g_bool(g);
        p->hash->cookie_ttl_s = g_n(g, 100);
        p->hash->cookie_path = g_text(g);
        G_ARRAY(g, p->hash->cookie_attributes, p->hash->n_cookie_attributes, 3, g_field);
    }
    if (g_bool(g)) {
        p->locality = arena_alloc(g->a, sizeof *p->locality);
        G_ARRAY(g, p->locality->distribute, p->locality->n_distribute, 3, g_distribute);
        G_ARRAY(g, p->locality->failover, p->locality->n_failover, 3, g_failover);
        G_ARRAY(g, p->locality->ranks, p->locality->n_ranks, 3, g_rank);
    }
    if (g_bool(g)) {
        p->retry_budget = arena_alloc(g->a, sizeof *p->retry_budget);
        p->retry_budget->share = g_n(g, 100001);
        p->retry_budget->min_retries = g_n(g, 9);
        p->retry_budget->interval_ms = g_n(g, 9999);
        p->origin = arena_alloc(g->a, sizeof *p->origin);
        p->origin->certificate = g_text(g);
        p->origin->key = g_text(g);
        p->origin->roots = g_text(g);
        p->origin->crl = g_text(g);
        p->origin->credential = g_text(g);
        p->origin->no_verify = g_bool(g);
    }
    return p;
}
static inline void g_cluster(struct gen *g, struct prog_cluster *c)
{
    c->name = g_word(g);
    c->host = g_text(g);
    c->subset = g_text(g);
    c->sni = g_text(g);
    c->service_name = g_text(g);
    c->problem = g_text(g);
    c->port = (uint16_t)g_n(g, 65536);
    c->protocol = (enum prog_protocol)g_n(g, PROG_GRPC + 1);
    c->endpoints = g_texts(g);
    c->dns = g_texts(g);
    c->subset_selector = g_bool(g) ? rnd_u64(&g->r) : 0;
    c->balancer = (enum prog_balancer)g_n(g, PROG_HASH + 1);
    c->tls = (enum prog_tls)g_n(g, PROG_TLS_MUTUAL + 1);
    c->original_dst = g_bool(g);
    c->subject_alt_names = g_texts(g);
    c->policy = g_policy_of(g);
    c->pool.max_pending = g_n(g, 3);
    c->pool.idle_timeout_ms = g_n(g, 3);
    c->pool.max_streams = g_n(g, 3);
    c->pool.ping_interval_ms = g_n(g, 3);
    c->pool.ping_timeout_ms = g_n(g, 3);
    c->client_protocol = g_bool(g);
    c->dns_first = g_bool(g);
    c->keep_http1 = g_bool(g);
}
static inline void g_service(struct gen *g, struct prog_service *s)
{
    s->host = g_word(g);
    s->name = g_text(g);
    s->namespace_ = g_text(g);
    s->gate = g_text(g);
    s->port = (uint16_t)(1 + g_n(g, 65535));
    s->protocol = (enum prog_protocol)g_n(g, PROG_GRPC + 1);
    G_ARRAY(g, s->clusters, s->n_clusters, 3, g_cluster);
    s->n_http = g_n(g, 4);
    s->http = arena_alloc(g->a, s->n_http * sizeof *s->http);
    for (uint32_t i = 0; i < s->n_http; i++)
        g_http_route(g, &s->http[i], s->n_clusters);
    s->n_tcp = g_n(g, 3);
    s->tcp = arena_alloc(g->a, s->n_tcp * sizeof *s->tcp);
    for (uint32_t i = 0; i < s->n_tcp; i++) {
        s->tcp[i].origin = g_text(g);
        G_ARRAY(g, s->tcp[i].matches, s->tcp[i].n_matches, 2, g_tcp_match);
        g_destinations(g, s->n_clusters, &s->tcp[i].destinations, &s->tcp[i].n_destinations,
                       &s->tcp[i].total_weight);
    }
}
static inline void g_source(struct gen *g, struct authz_source *s)
{
    s->principals = g_texts(g);
    s->not_namespaces = g_texts(g);
    s->service_accounts = g_texts(g);
    s->ip_blocks = g_cidrs(g, &s->n_ip_blocks);
    s->not_ip_blocks = g_cidrs(g, &s->n_not_ip_blocks);
}
static inline void g_operation(struct gen *g, struct authz_operation *o)
{
    o->hosts = g_texts(g);
    o->not_paths = g_texts(g);
    o->ports = g_texts(g);
    o->not_methods = g_texts(g);
}
static inline void g_when(struct gen *g, struct authz_condition *w)
{
    w->key = g_word(g);
    w->values = g_texts(g);
    w->not_values = g_texts(g);
}
static inline void g_rule(struct gen *g, struct authz_rule *r)
{
    G_ARRAY(g, r->from, r->n_from, 2, g_source);
    G_ARRAY(g, r->to, r->n_to, 2, g_operation);
    G_ARRAY(g, r->when, r->n_when, 2, g_when);
}
static inline void g_policy(struct gen *g, struct authz_policy *p)
{
    p->namespace_ = g_word(g);
    p->name = g_word(g);
    p->closed = g_text(g);
    p->action = (enum prog_action)g_n(g, PROG_CUSTOM + 1);
    p->dry_run = g_bool(g);
    G_ARRAY(g, p->rules, p->n_rules, 2, g_rule);
}
static inline void g_workload(struct gen *g, struct prog_workload *w)
{
    w->name = g_text(g);
    w->namespace_ = g_text(g);
    w->service_account = g_text(g);
    w->app = g_text(g);
    w->version = g_text(g);
    w->canonical_name = g_text(g);
    w->canonical_revision = g_text(g);
    w->cluster = g_text(g);
    w->principal = g_text(g);
}
static inline struct prog_strings g_hash(struct gen *g)
{
    struct slice *p = arena_alloc(g->a, sizeof *p);

    *p = SL("0123456789abcdef0123456789abcdef");
    return (struct prog_strings){p, g_n(g, 2)};
}
static inline void g_gate(struct gen *g, struct prog_gate *t)
{
    t->name = g_word(g);
    t->tls = (enum prog_gate_tls)g_n(g, PROG_GATE_AUTO + 1);
    t->http = g_bool(g);
    t->sni = g_texts(g);
    t->credentials = g_texts(g);
    t->n_files = g_n(g, 3);
    t->files = arena_alloc(g->a, t->n_files * sizeof *t->files);
    for (uint32_t i = 0; i < t->n_files; i++)
        t->files[i] = (struct prog_gate_files){g_text(g), g_text(g)};
    t->roots_file = g_text(g);
    t->crl_file = g_text(g);
    t->hashes = g_hash(g);
    t->keys = g_hash(g);
    t->ca_credential = g_text(g);
    t->subject_alt_names = g_texts(g);
    t->ciphers = g_texts(g);
    t->min_version = g_bool(g) ? 12 : 13;
    t->max_version = 13;
    t->n_hosts = g_n(g, 3);
    t->hosts = arena_alloc(g->a, t->n_hosts * sizeof *t->hosts);
    for (uint32_t i = 0; i < t->n_hosts; i++)
        t->hosts[i] = (struct prog_gate_host){slice_str(arena_printf(g->a, "h%u.example", i)),
                                              g_bool(g), g_bool(g)};
}
static inline void g_port(struct gen *g, struct prog_inbound_port *p)
{
    p->port = (uint16_t)(1 + g_n(g, 65535));
    p->protocol = (enum prog_protocol)g_n(g, PROG_GRPC + 1);
    p->mtls = (enum prog_mtls)g_n(g, PROG_MTLS_STRICT + 1);
    p->service_host = g_text(g);
    p->endpoint = g_text(g);
    if (g_bool(g)) {
        p->tls = arena_alloc(g->a, sizeof *p->tls);
        g_gate(g, p->tls);
    }
    if (g_bool(g)) {
        p->limits = arena_alloc(g->a, sizeof *p->limits);
        p->limits->pool.max_connections = g_n(g, 100);
        p->limits->pool.connect_timeout_ms = g_n(g, 100000);
    }
}
static inline void g_inbound(struct gen *g, struct prog_inbound *in)
{
    in->mtls = (enum prog_mtls)g_n(g, PROG_MTLS_STRICT + 1);
    in->closed = g_text(g);
    G_ARRAY(g, in->ports, in->n_ports, 3, g_port);
    G_ARRAY(g, in->policies, in->n_policies, 3, g_policy);
    g_workload(g, &in->self);
}
static inline void g_names(struct gen *g, struct prog_names *n)
{
    n->n_names = g_n(g, 4);
    n->names = arena_alloc(g->a, n->n_names * sizeof *n->names);
    for (uint32_t i = 0; i < n->n_names; i++) {
        struct slice *ip = arena_alloc(g->a, sizeof *ip);

        *ip = g_bool(g) ? SL("\1\2\3\4") : slice_of("0123456789abcdef", 16);
        n->names[i].host = slice_str(arena_printf(g->a, "h%u.example", i));
        n->names[i].address = (struct prog_strings){ip, 1};
    }
}
static inline void g_endpoints(struct gen *g, struct prog_endpoints *e)
{
    e->identities = g_texts(g);
    e->localities = g_texts(g);
    e->n_selectors = g_n(g, 4);
    e->selectors = arena_alloc(g->a, 4 * sizeof *e->selectors);
    for (uint32_t i = 0; i < e->n_selectors; i++)
        e->selectors[i] = rnd_u64(&g->r);
    e->n = g_n(g, 6);
    e->names = g_texts(g);
    e->n_named = e->names.n;
    e->p = arena_alloc(g->a, (e->n + e->n_named) * sizeof *e->p);
    for (uint32_t i = 0; i < e->n + e->n_named; i++) {
        e->p[i].address_len = i >= e->n ? 0 : g_bool(g) ? 4 : 16;
        for (uint8_t k = 0; k < e->p[i].address_len; k++)
            e->p[i].address[k] = (unsigned char)g_n(g, 256);
        e->p[i].port = (uint16_t)(i < e->n ? 1 + g_n(g, 65535) : 0);
        e->p[i].identity = e->identities.n ? (uint16_t)g_n(g, e->identities.n) : UINT16_MAX;
        e->p[i].locality = e->localities.n ? (uint16_t)g_n(g, e->localities.n) : UINT16_MAX;
        e->p[i].subsets = rnd_u64(&g->r);
        e->p[i].weight = 1 + g_n(g, 9);
        e->p[i].mtls = g_bool(g);
        e->p[i].draining = g_bool(g);
    }
}
static inline void g_settings(struct gen *g, struct prog_settings *s)
{
    struct slice keys[3] = {g_word(g), g_word(g), g_word(g)};

    s->trust_domain = g_word(g);
    s->cluster_domain = g_word(g);
    s->roots_pem = g_text(g);
    s->mesh_id = g_text(g);
    s->trust_domain_aliases = g_texts(g);
    s->registry_only = g_bool(g);
    s->egress_proxy = g_bool(g);
    s->listeners = g_bool(g);
    s->discovery_wait_ms = g_n(g, 2000);
    s->issuer = g_n(g, 2000);
    s->renew_within_s = g_n(g, 2000);
    s->pod_cidrs = g_cidrs(g, &s->n_pod_cidrs);
    s->access_log.json = g_bool(g);
    s->access_log.format = g_text(g);
    prog_filter_build(g->a, keys, g_n(g, 4), &s->filter);
}

static inline void g_listeners(struct gen *g, struct prog_listeners *l)
{
    l->n_ports = g_n(g, 3);
    l->ports = arena_alloc(g->a, l->n_ports * sizeof *l->ports);
    for (uint32_t i = 0; i < l->n_ports; i++) {
        l->ports[i].port = (uint16_t)(8000 + i);
        l->ports[i].number = (uint16_t)(1 + g_n(g, 65535));
        l->ports[i].bind = g_bool(g) ? SL("127.0.0.1") : SLICE_NULL;
        if (g_n(g, 4) == 0) {
            l->ports[i].bind = slice_str(arena_printf(g->a, "unix:///%u", i));
            l->ports[i].port = l->ports[i].number = 0;
        }
        G_ARRAY(g, l->ports[i].gates, l->ports[i].n_gates, 3, g_gate);
    }
}
static inline void g_credential(struct gen *g, struct prog_credential *c)
{
    c->chain_pem = g_text(g);
    c->key_pem = g_text(g);
    c->roots_pem = g_text(g);
    c->crl_pem = g_text(g);
    c->revision = g_text(g);
}

static inline struct prog *g_resource(struct gen *g, enum prog_kind kind)
{
    static const size_t sizes[] = {
        [PROG_SETTINGS] = sizeof(struct prog_settings), [PROG_INBOUND] = sizeof(struct prog_inbound),
        [PROG_NAMES] = sizeof(struct prog_names),       [PROG_SERVICE] = sizeof(struct prog_service),
        [PROG_ENDPOINTS] = sizeof(struct prog_endpoints),
        [PROG_WORKLOAD] = sizeof(struct prog_workload),
        [PROG_LISTENERS] = sizeof(struct prog_listeners),
        [PROG_CREDENTIAL] = sizeof(struct prog_credential)};
    struct prog *p = arena_alloc(g->a, sizes[kind]);

    p->kind = kind;
    switch (kind) {
    case PROG_SETTINGS:
        g_settings(g, (struct prog_settings *)p);
        break;
    case PROG_INBOUND:
        g_inbound(g, (struct prog_inbound *)p);
        break;
    case PROG_NAMES:
        g_names(g, (struct prog_names *)p);
        break;
    case PROG_SERVICE:
        g_service(g, (struct prog_service *)p);
        break;
    case PROG_ENDPOINTS:
        g_endpoints(g, (struct prog_endpoints *)p);
        break;
    case PROG_WORKLOAD:
        g_workload(g, (struct prog_workload *)p);
        break;
    case PROG_LISTENERS:
        g_listeners(g, (struct prog_listeners *)p);
        break;
    case PROG_CREDENTIAL:
        g_credential(g, (struct prog_credential *)p);
        break;
    }
    return p;
}
