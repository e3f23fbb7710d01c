/* SPDX-License-Identifier: Apache-2.0 */
/* The Service message: routes, destinations, clusters. */
#include "mesh/wire/decode_int.h"

/* --- Service ---------------------------------------------------------------------------------- */
static int field_matches(struct rd *r, const struct fpath *at, PB(FieldMatch) * *m, size_t n,
                         struct prog_field_match **ret, uint32_t *ret_n)
{
    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        struct prog_field_match *f = &(*ret)[i];

        TRY(dec_text(r, m[i]->name, &f->name));
        f->absent = m[i]->absent;
        TRY(dec_string_match(r, &FPATH_INDEX(at, i), m[i]->match, &f->match));
    }
    return 0;
}

static int http_match(struct rd *r, const struct fpath *at, const PB(HttpMatch) * m,
                      struct prog_http_match *ret)
{
    TRY(dec_string_match(r, AT(at, "uri"), m->uri, &ret->uri));
    TRY(dec_string_match(r, AT(at, "scheme"), m->scheme, &ret->scheme));
    TRY(dec_string_match(r, AT(at, "method"), m->method, &ret->method));
    TRY(dec_string_match(r, AT(at, "authority"), m->authority, &ret->authority));
    TRY(field_matches(r, AT(at, "header"), m->header, m->n_header, &ret->headers, &ret->n_headers));
    TRY(field_matches(r, AT(at, "query"), m->query, m->n_query, &ret->queries, &ret->n_queries));
    ret->ignore_uri_case = m->ignore_uri_case;
    return dec_text(r, m->name, &ret->name);
}

static int header_fields(struct rd *r, const struct fpath *at, PB(HeaderOps__Field) * *m, size_t n,
                         struct prog_field **ret, uint32_t *ret_n)
{
    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        TRY(dec_text(r, m[i]->name, &(*ret)[i].name));
        if (!(*ret)[i].name.len)
            return dec_bad(r, &FPATH_INDEX(at, i), "name is required");
        TRY(dec_text(r, m[i]->value, &(*ret)[i].value));
    }
    return 0;
}

static int header_ops(struct rd *r, const struct fpath *at, const PB(HeaderOps) * m,
                      struct prog_header_ops *ret)
{
    if (!m)
        return 0;
    TRY(header_fields(r, AT(at, "set"), m->set, m->n_set, &ret->set, &ret->n_set));
    TRY(header_fields(r, AT(at, "add"), m->add, m->n_add, &ret->add, &ret->n_add));
    return dec_texts(r, m->remove, m->n_remove, &ret->remove);
}

static int headers(struct rd *r, const struct fpath *at, const PB(Headers) * m,
                   struct prog_headers *ret)
{
    if (!m)
        return 0;
    TRY(header_ops(r, AT(at, "request"), m->request, &ret->request));
    return header_ops(r, AT(at, "response"), m->response, &ret->response);
}

static int destinations(struct rd *r, const struct fpath *at, PB(Destination) * *m, size_t n,
                        uint32_t n_clusters, struct prog_destination **ret, uint32_t *ret_n,
                        uint32_t *ret_total)
{
    uint64_t total = 0;

    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        struct prog_destination *d = &(*ret)[i];
        const struct fpath *here = NTH(at, "destination", i);

        if (m[i]->cluster >= n_clusters)
            return dec_bad(r, AT(here, "cluster"), "no cluster %u", m[i]->cluster);
        d->cluster = m[i]->cluster;
        d->weight = m[i]->weight;
        total += d->weight;
        TRY(headers(r, AT(here, "headers"), m[i]->headers, &d->headers));
    }
    if (*ret_n && (total == 0 || total > UINT32_MAX))
        return dec_bad(r, AT(at, "destination"), "weights add up to %llu",
                       (unsigned long long)total);
    *ret_total = (uint32_t)total;
    return 0;
}

static int redirect(struct rd *r, const struct fpath *at, const PB(Redirect) * m,
                    struct prog_redirect **ret)
{
    struct prog_redirect *d;

    ONE(r, d);
    TRY(dec_text(r, m->uri, &d->uri));
    TRY(dec_text(r, m->authority, &d->authority));
    TRY(dec_text(r, m->scheme, &d->scheme));
    TRY(dec_text(r, m->prefix_rewrite, &d->prefix_rewrite));
    if (m->port > 65535)
        return dec_bad(r, AT(at, "port"), "%u is no port", m->port);
    if (m->code < 300 || m->code > 399)
        return dec_bad(r, AT(at, "code"), "%u is no redirect", m->code);
    d->port = m->port;
    d->code = m->code;
    d->port_from_request = m->port_from_request;
    *ret = d;
    return 0;
}

static int rewrite(struct rd *r, const struct fpath *at, const PB(Rewrite) * m,
                   struct prog_rewrite **ret)
{
    char path[128];
    struct prog_rewrite *w;

    ONE(r, w);
    *ret = w;
    TRY(dec_text(r, m->uri, &w->uri));
    TRY(dec_text(r, m->authority, &w->authority));
    TRY(dec_text(r, m->regex, &w->regex_text));
    TRY(dec_text(r, m->substitution, &w->substitution));
    if (!w->regex_text.len)
        return 0;
    TRY(dec_regex(r, AT(at, "regex"), w->regex_text, &w->regex));
    if (re_check_substitution(w->regex, w->substitution, r->err) < 0)
        return err_wrap(r->err, "%s", fpath_str(at, path, sizeof path));
    return 0;
}

static int retry(struct rd *r, const struct fpath *at, const PB(Retry) * m, struct prog_retry **ret)
{
    struct prog_retry *t;

    ONE(r, t);
    t->attempts = m->attempts;
    t->on = m->on;
    t->per_try_timeout_ms = m->per_try_timeout_ms;
    t->backoff_ms = m->backoff_ms;
    t->elsewhere = m->elsewhere;
    t->same_hosts = m->same_hosts;
    ARRAY(r, t->status, t->n_status, m->n_status);
    for (uint32_t i = 0; i < t->n_status; i++) {
        if (m->status[i] < 100 || m->status[i] > 599)
            return dec_bad(r, NTH(at, "status", i), "%u is no status", m->status[i]);
        t->status[i] = m->status[i];
    }
    *ret = t;
    return 0;
}

static int fault(struct rd *r, const struct fpath *at, const PB(Fault) * m, struct prog_fault **ret)
{
    struct prog_fault *f;

    ONE(r, f);
    if (m->delay_permyriad > 10000 || m->abort_permyriad > 10000)
        return dec_bad(r, at, "more than 10000 of 10000");
    if (m->abort_permyriad && m->abort_status && (m->abort_status < 200 || m->abort_status > 599))
        return dec_bad(r, AT(at, "abort_status"), "%u is no status", m->abort_status);
    f->delay_ms = m->delay_ms;
    f->delay_permyriad = m->delay_permyriad;
    f->abort_status = m->abort_status;
    f->abort_permyriad = m->abort_permyriad;
    f->abort_grpc = m->abort_grpc;
    *ret = f;
    return 0;
}

static int cors(struct rd *r, const struct fpath *at, const PB(Cors) * m, struct prog_cors **ret)
{
    struct prog_cors *c;

    ONE(r, c);
    *ret = c;
    TRY(dec_text(r, m->allow_methods, &c->allow_methods));
    TRY(dec_text(r, m->allow_headers, &c->allow_headers));
    TRY(dec_text(r, m->expose_headers, &c->expose_headers));
    TRY(dec_text(r, m->max_age, &c->max_age));
    c->allow_credentials = m->allow_credentials;
    c->keep_unmatched = m->keep_unmatched;
    ARRAY(r, c->origins, c->n_origins, m->n_origin);
    for (uint32_t i = 0; i < c->n_origins; i++)
        TRY(dec_string_match(r, NTH(at, "origin", i), m->origin[i], &c->origins[i]));
    return 0;
}

static int mirrors(struct rd *r, const struct fpath *at, const PB(HttpRoute) * m,
                   uint32_t n_clusters, struct prog_http_route *ret)
{
    ARRAY(r, ret->mirrors, ret->n_mirrors, m->n_mirror);
    for (uint32_t i = 0; i < ret->n_mirrors; i++) {
        const struct fpath *here = NTH(at, "mirror", i);

        if (m->mirror[i]->cluster >= n_clusters)
            return dec_bad(r, AT(here, "cluster"), "no cluster %u", m->mirror[i]->cluster);
        if (m->mirror[i]->permyriad > 10000)
            return dec_bad(r, AT(here, "permyriad"), "%u of 10000", m->mirror[i]->permyriad);
        ret->mirrors[i].cluster = m->mirror[i]->cluster;
        ret->mirrors[i].permyriad = m->mirror[i]->permyriad;
    }
    return 0;
}

static int http_action(struct rd *r, const struct fpath *at, const PB(HttpRoute) * m,
                       uint32_t n_clusters, struct prog_http_route *ret)
{
    if (m->redirect) {
        ret->action = PROG_REDIRECT;
        return redirect(r, AT(at, "redirect"), m->redirect, &ret->redirect);
    }
    if (m->direct) {
        ret->action = PROG_DIRECT;
        if (m->direct->status < 200 || m->direct->status > 599)
            return dec_bad(r, AT(at, "direct"), "%u is no status", m->direct->status);
        ret->direct.status = m->direct->status;
        return dec_bytes(r, m->direct->body, &ret->direct.body);
    }
    ret->action = PROG_FORWARD;
    return destinations(r, at, m->destination, m->n_destination, n_clusters, &ret->destinations,
                        &ret->n_destinations, &ret->total_weight);
}

static int http_route(struct rd *r, const struct fpath *at, const PB(HttpRoute) * m,
                      uint32_t n_clusters, struct prog_http_route *ret)
{
    TRY(dec_text(r, m->name, &ret->name));
    TRY(dec_text(r, m->origin, &ret->origin));
    ret->timeout_ms = m->timeout_ms;
    ARRAY(r, ret->matches, ret->n_matches, m->n_match);
    for (uint32_t i = 0; i < ret->n_matches; i++)
        TRY(http_match(r, NTH(at, "match", i), m->match[i], &ret->matches[i]));
    TRY(http_action(r, at, m, n_clusters, ret));
    TRY(headers(r, AT(at, "headers"), m->headers, &ret->headers));
    TRY(mirrors(r, at, m, n_clusters, ret));
    if (m->rewrite)
        TRY(rewrite(r, AT(at, "rewrite"), m->rewrite, &ret->rewrite));
    if (m->retry)
        TRY(retry(r, AT(at, "retry"), m->retry, &ret->retry));
    if (m->fault)
        TRY(fault(r, AT(at, "fault"), m->fault, &ret->fault));
    if (m->cors)
        TRY(cors(r, AT(at, "cors"), m->cors, &ret->cors));
    return 0;
}

static int tcp_route(struct rd *r, const struct fpath *at, const PB(TcpRoute) * m,
                     uint32_t n_clusters, struct prog_tcp_route *ret)
{
    TRY(dec_text(r, m->origin, &ret->origin));
    ARRAY(r, ret->matches, ret->n_matches, m->n_match);
    for (uint32_t i = 0; i < ret->n_matches; i++) {
        const PB(TcpMatch) *from = m->match[i];
        struct prog_tcp_match *to = &ret->matches[i];

        TRY(dec_cidrs(r, AT(NTH(at, "match", i), "destination_subnet"), from->destination_subnet,
                      from->n_destination_subnet, &to->subnets, &to->n_subnets));
        TRY(dec_cidrs(r, AT(NTH(at, "match", i), "source_subnet"), from->source_subnet,
                      from->n_source_subnet, &to->sources, &to->n_sources));
        TRY(dec_texts(r, from->sni, from->n_sni, &to->sni));
    }
    return destinations(r, at, m->destination, m->n_destination, n_clusters, &ret->destinations,
                        &ret->n_destinations, &ret->total_weight);
}

static void cluster_limits(const PB(Cluster) * m, struct prog_cluster *ret)
{
    if (m->pool) {
        ret->pool.max_connections = m->pool->max_connections;
        ret->pool.max_pending = m->pool->max_pending;
        ret->pool.max_requests = m->pool->max_requests;
        ret->pool.max_requests_per_connection = m->pool->max_requests_per_connection;
        ret->pool.max_retries = m->pool->max_retries;
        ret->pool.connect_timeout_ms = m->pool->connect_timeout_ms;
        ret->pool.idle_timeout_ms = m->pool->idle_timeout_ms;
        ret->pool.max_streams = m->pool->max_streams;
        ret->pool.ping_interval_ms = m->pool->ping_interval_ms;
        ret->pool.ping_timeout_ms = m->pool->ping_timeout_ms;
    }
}

int dec_limits(struct rd *r, const struct fpath *at, const PB(Cluster) * m, struct prog_cluster *ret)
{
    cluster_limits(m, ret);
    return dec_policy(r, at, m, &ret->policy);
}

static int cluster(struct rd *r, const struct fpath *at, const PB(Cluster) * m,
                   struct prog_cluster *ret)
{
    TRY(dec_text(r, m->name, &ret->name));
    TRY(dec_text(r, m->host, &ret->host));
    TRY(dec_text(r, m->subset, &ret->subset));
    TRY(dec_text(r, m->sni, &ret->sni));
    TRY(dec_text(r, m->service_name, &ret->service_name));
    TRY(dec_text(r, m->service_namespace, &ret->service_namespace));
    TRY(dec_text(r, m->problem, &ret->problem));
    TRY(dec_texts(r, m->endpoints, m->n_endpoints, &ret->endpoints));
    TRY(dec_texts(r, m->dns_host, m->n_dns_host, &ret->dns));
    TRY(dec_texts(r, m->subject_alt_name, m->n_subject_alt_name, &ret->subject_alt_names));
    if (m->port > 65535)
        return dec_bad(r, AT(at, "port"), "%u is no port", m->port);
    ret->port = (uint16_t)m->port;
    if (m->subset_selector.len != 0 && m->subset_selector.len != 8)
        return dec_bad(r, AT(at, "subset_selector"), "of %zu bytes", m->subset_selector.len);
    for (size_t i = 0; i < m->subset_selector.len; i++)
        ret->subset_selector = ret->subset_selector << 8 | m->subset_selector.data[i];
    ret->protocol = dec_protocol((int)m->protocol);
    ret->original_dst = m->original_dst;
    ret->client_protocol = m->client_protocol;
    ret->dns_first = m->dns_first;
    ret->keep_http1 = m->keep_http1;
    ret->balancer = (int)m->balancer >= PROG_ROUND_ROBIN && (int)m->balancer <= PROG_HASH
                        ? (enum prog_balancer)m->balancer
                        : PROG_LEAST_REQUEST;
    ret->tls = (int)m->tls >= PROG_TLS_AUTO && (int)m->tls <= PROG_TLS_MUTUAL
                   ? (enum prog_tls)m->tls
                   : PROG_TLS_MUTUAL_MESH;
    cluster_limits(m, ret);
    return dec_policy(r, at, m, &ret->policy);
}

/* What routes are made of, with the number of clusters that they may name; the null slice for what is too
 * long or too seldom to be shared. */
enum { ROUTES_KEY_MAX = 512 };

static struct slice routes_key(const PB(Service) * m, uint32_t n_clusters, uint8_t key[ROUTES_KEY_MAX])
{
    size_t at = sizeof n_clusters;

    memcpy(key, &n_clusters, sizeof n_clusters);
    for (size_t i = 0; i < m->n_http; i++) {
        size_t n = protobuf_c_message_get_packed_size(&m->http[i]->base);
        uint16_t len = (uint16_t)n;

        if (n > ROUTES_KEY_MAX || at + sizeof len + n > ROUTES_KEY_MAX)
            return SLICE_NULL;
        memcpy(key + at, &len, sizeof len);
        at += sizeof len;
        at += protobuf_c_message_pack(&m->http[i]->base, key + at);
    }
    return m->n_http ? slice_of(key, at) : SLICE_NULL;
}

static int routes_decode(struct rd *r, const PB(Service) * m, uint32_t n_clusters, struct slice key,
                         struct prog_routes **ret)
{
    struct arena a;
    struct prog_routes *routes;

    arena_init(&a, 512, r->a->cap);
    routes = arena_alloc(&a, sizeof *routes);
    if (!routes)
        return dec_full(r);
    *ret = routes;
    routes->refs = 1;
    routes->arena = a;
    struct rd own = {.a = &routes->arena, .err = r->err};
    routes->key = arena_slice(own.a, key);
    if (key.len && !routes->key.p)
        return dec_full(r);
    ARRAY(&own, routes->p, routes->n, m->n_http);
    for (uint32_t i = 0; i < routes->n; i++)
        TRY(http_route(&own, NTH(&FPATH_ROOT, "http", i), m->http[i], n_clusters, &routes->p[i]));
    return 0;
}

/* Routes that other services have, too, are there once. */
static int shared_routes(struct rd *r, const PB(Service) * m, struct slice key, struct prog_service *ret)
{
    ret->routes = prog_routes_find(key);
    if (!ret->routes) {
        struct prog_routes *routes = NULL;

        if (routes_decode(r, m, ret->n_clusters, key, &routes) < 0) {
            prog_routes_unref(routes);
            return -1;
        }
        ret->routes = prog_routes_keep(routes);
    }
    ret->http = ret->routes->p;
    ret->n_http = ret->routes->n;
    return 0;
}

int dec_service(struct rd *r, const void *from, void *to)
{
    const PB(Service) *m = from;
    struct prog_service *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    TRY(dec_port(r, AT(at, "port"), m->port, &ret->port));
    ret->protocol = dec_protocol((int)m->protocol);
    ARRAY(r, ret->clusters, ret->n_clusters, m->n_cluster);
    for (uint32_t i = 0; i < ret->n_clusters; i++)
        TRY(cluster(r, NTH(at, "cluster", i), m->cluster[i], &ret->clusters[i]));
    TRY(dec_text(r, m->host, &ret->host)); /* in the names of its clusters */
    TRY(dec_text(r, m->name, &ret->name));
    TRY(dec_text(r, m->namespace_, &ret->namespace_));
    TRY(dec_text(r, m->gate, &ret->gate));
    uint8_t key[ROUTES_KEY_MAX];
    struct slice routes = routes_key(m, ret->n_clusters, key);
    if (routes.len) {
        TRY(shared_routes(r, m, routes, ret));
    } else {
        ARRAY(r, ret->http, ret->n_http, m->n_http);
        for (uint32_t i = 0; i < ret->n_http; i++)
            TRY(http_route(r, NTH(at, "http", i), m->http[i], ret->n_clusters, &ret->http[i]));
    }
    ARRAY(r, ret->tcp, ret->n_tcp, m->n_tcp);
    for (uint32_t i = 0; i < ret->n_tcp; i++)
        TRY(tcp_route(r, NTH(at, "tcp", i), m->tcp[i], ret->n_clusters, &ret->tcp[i]));
    return 0;
}
