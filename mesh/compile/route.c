/* SPDX-License-Identifier: Apache-2.0 */
/* A VirtualService, seen by one client on one port, to routes. */
#include "mesh/compile/gateway.h"
#include "mesh/match/retry.h"

/* Istio's default: what is surely safe to repeat. */
#define DEFAULT_RETRY_ON                                                                           \
    (PROG_RETRY_CONNECT_FAILURE | PROG_RETRY_REFUSED_STREAM | PROG_RETRY_UNAVAILABLE |             \
     PROG_RETRY_CANCELLED | PROG_RETRY_STATUS)
#define DEFAULT_RETRY_ATTEMPTS 2u
#define MAX_RETRY_STATUS 32u

struct from { /* which part of which VirtualService */
    const struct ix_object *o;
    struct slice path; /* "spec.http[0]" */
};

/* --- which matches are this client's ------------------------------------------------------------------ */
static bool mesh_among(const struct api_strings *gateways)
{
    return gateways->n == 0 || api_strings_has(gateways, SL("mesh"));
}

/* Of a gateway: one of those that the object is bound to, and the match names or names none. */
static bool bound_here(const struct builder *b, const struct ix_object *o,
                       const struct api_strings *gateways)
{
    if (!b->gate)
        return mesh_among(gateways);
    for (uint32_t i = 0; i < b->gate->n_servers; i++)
        if (gate_binds(o, gateways, &b->gate->servers[i]))
            return true;
    return false;
}

static bool match_is_ours(struct cc *c, const struct builder *b, const struct ix_object *o,
                          const struct api_strings *gateways, uint32_t want_port,
                          const struct api_map *labels, struct slice ns)
{
    return bound_here(b, o, gateways) && (want_port == 0 || want_port == b->port) &&
           cc_labels_cover(c, labels) && (!ns.len || slice_eq(ns, cc_ns(c)));
}

/* --- conditions --------------------------------------------------------------------------------------- */
static struct prog_string_match string_match(struct cc *c, const struct api_match *m)
{
    static const enum prog_match_kind kinds[] = {
        [API_MATCH_UNSET] = PROG_MATCH_NONE,     [API_MATCH_PRESENT] = PROG_MATCH_NONE,
        [API_MATCH_EXACT] = PROG_MATCH_EXACT,    [API_MATCH_PREFIX] = PROG_MATCH_PREFIX,
        [API_MATCH_REGEX] = PROG_MATCH_REGEX,
    };

    return (struct prog_string_match){.kind = kinds[m->kind], .value = cc_copy(c, m->value)};
}

/* Matches that every value passes ask for presence only (Istio turns them so). */
static struct prog_string_match field_match(struct cc *c, const struct api_match *m)
{
    if (m->kind == API_MATCH_UNSET || m->kind == API_MATCH_PRESENT ||
        (m->kind == API_MATCH_PREFIX && !m->value.len) ||
        (m->kind == API_MATCH_REGEX &&
         (slice_eq(m->value, SL("*")) || slice_eq(m->value, SL(".*")))))
        return (struct prog_string_match){.kind = PROG_MATCH_PRESENT};
    return string_match(c, m);
}

static void add_fields(struct cc *c, const struct api_named_matches *from, bool absent,
                       struct prog_field_match *to, uint32_t *n)
{
    for (uint32_t i = 0; to && i < from->n; i++)
        to[(*n)++] = (struct prog_field_match){.name = cc_copy(c, from->p[i].name),
                                               .match = field_match(c, &from->p[i].match),
                                               .absent = absent};
}

static void http_match(struct cc *c, const struct vs_http_match *m, struct prog_http_match *to)
{
    to->name = cc_copy(c, m->name);
    to->uri = string_match(c, &m->uri);
    to->scheme = string_match(c, &m->scheme);
    to->method = string_match(c, &m->method);
    to->authority = string_match(c, &m->authority);
    to->ignore_uri_case = m->ignore_uri_case;
    to->headers = CC_ARRAY(c, struct prog_field_match, m->headers.n + m->without_headers.n);
    add_fields(c, &m->headers, false, to->headers, &to->n_headers);
    add_fields(c, &m->without_headers, true, to->headers, &to->n_headers);
    to->queries = CC_ARRAY(c, struct prog_field_match, m->query_params.n);
    add_fields(c, &m->query_params, false, to->queries, &to->n_queries);
}

/* False: all matches are for others, the route is none of this client's. */
static bool http_matches(struct cc *c, const struct builder *b, const struct ix_object *o,
                         const struct vs_http *r, struct prog_http_route *to)
{
    if (!r->n_match)
        return true;
    to->matches = CC_ARRAY(c, struct prog_http_match, r->n_match);
    for (uint32_t i = 0; to->matches && i < r->n_match; i++) {
        const struct vs_http_match *m = &r->match[i];

        if (match_is_ours(c, b, o, &m->gateways, m->port, &m->source_labels,
                          m->source_namespace))
            http_match(c, m, &to->matches[to->n_matches++]);
    }
    return to->n_matches > 0;
}

/* --- header operations -------------------------------------------------------------------------------- */
static struct slice lower(struct cc *c, struct slice s)
{
    struct slice r = cc_copy(c, s);

    for (size_t i = 0; i < r.len; i++)
        if (r.p[i] >= 'A' && r.p[i] <= 'Z')
            ((char *)(uintptr_t)r.p)[i] += 'a' - 'A';
    return r;
}

static void fields(struct cc *c, const struct api_map *from, struct prog_field **to, uint32_t *n)
{
    *to = CC_ARRAY(c, struct prog_field, from->n);
    for (uint32_t i = 0; *to && i < from->n; i++)
        (*to)[(*n)++] =
            (struct prog_field){lower(c, from->p[i].key), cc_copy(c, from->p[i].value)};
}

static void header_ops(struct cc *c, const struct vs_header_ops *from, struct prog_header_ops *to)
{
    fields(c, &from->set, &to->set, &to->n_set);
    fields(c, &from->add, &to->add, &to->n_add);
    to->remove = cc_strings(c, from->remove.n);
    for (uint32_t i = 0; to->remove.p && i < from->remove.n; i++)
        to->remove.p[to->remove.n++] = lower(c, from->remove.p[i]);
}

static void headers(struct cc *c, const struct vs_headers *from, struct prog_headers *to)
{
    header_ops(c, &from->request, &to->request);
    header_ops(c, &from->response, &to->response);
}

/* Setting Host on the request is a rewrite of the authority. */
static struct slice take_host(struct prog_header_ops *ops)
{
    for (uint32_t i = 0; i < ops->n_set; i++)
        if (slice_eq(ops->set[i].name, SL("host")) || slice_eq(ops->set[i].name, SL(":authority"))) {
            struct slice v = ops->set[i].value;

            memmove(&ops->set[i], &ops->set[i + 1], (--ops->n_set - i) * sizeof *ops->set);
            return v;
        }
    return SLICE_NULL;
}

/* --- destinations ------------------------------------------------------------------------------------- */
static void destinations(struct cc *c, struct builder *b, const struct from *f,
                         const struct vs_route_dests *r, struct prog_destination **to, uint32_t *n,
                         uint32_t *total)
{
    bool any = false;

    for (uint32_t i = 0; i < r->n; i++)
        any |= r->p[i].weight.v > 0;
    *to = CC_ARRAY(c, struct prog_destination, r->n);
    for (uint32_t i = 0; *to && i < r->n; i++) {
        const struct vs_route_dest *d = &r->p[i];
        uint32_t weight = r->n == 1 ? 100 : d->weight.v;
        struct prog_destination *one = &(*to)[*n];

        if (weight == 0 && any)
            continue; /* takes nothing, so what it names need not exist */
        if (weight == 0)
            weight = 1; /* all zero: refused at admission, shared evenly here */
        one->cluster = cluster_for(
            c, b, index_fqdn(c->x, d->destination.host, f->o->meta->ns, c->a), d->destination.port,
            d->destination.subset, f->o,
            cc_printf(c, "%.*s.route[%u].destination", SL_FMT(f->path), i));
        /* What is not there yet withholds the whole; a mirror does not. (A problem beside MUTUAL is
         * about the mode.) */
        if (b->s->n_clusters && b->s->clusters[one->cluster].problem.len &&
            b->s->clusters[one->cluster].tls != PROG_TLS_MUTUAL)
            c->state = PROG_WITHHELD;
        one->weight = weight;
        headers(c, &d->headers, &one->headers);
        *total += weight;
        ++*n;
    }
}

/* --- actions ------------------------------------------------------------------------------------------ */
static struct prog_retry *default_retry(struct cc *c)
{
    struct prog_retry *r = CC_ARRAY(c, struct prog_retry, 1);

    if (!r)
        return NULL;
    r->attempts = DEFAULT_RETRY_ATTEMPTS;
    r->on = DEFAULT_RETRY_ON;
    r->status = CC_ARRAY(c, uint32_t, 1);
    if (r->status)
        r->status[r->n_status++] = 503;
    return r;
}

static struct prog_retry *retry(struct cc *c, const struct from *f, const struct vs_retry *from)
{
    struct prog_retry *r = default_retry(c);
    struct slice unknown;
    uint32_t *status;

    if (!from || !r)
        return r;
    if (from->attempts == 0)
        return NULL;
    r->attempts = from->attempts;
    r->per_try_timeout_ms = cc_ms(from->per_try_timeout.ns);
    r->backoff_ms = cc_ms(from->backoff.ns);
    r->elsewhere = from->remote_localities.v;
    r->same_hosts = from->ignore_previous_hosts.set && !from->ignore_previous_hosts.v;
    if (!slice_trim(from->retry_on).len)
        return r;
    r->n_status = 0;
    status = CC_ARRAY(c, uint32_t, MAX_RETRY_STATUS);
    if (!status)
        return r;
    r->status = status;
    if (!retry_parse_on(from->retry_on, &r->on, status, MAX_RETRY_STATUS, &r->n_status, &unknown)) {
        cc_problem(c, FINDING_SUSPECT, INDEX_VS, f->o->meta,
                   cc_printf(c, "%.*s.retries.retryOn", SL_FMT(f->path)),
                   "\"%.*s\" is no condition of retries; Istio's default conditions hold instead",
                   SL_FMT(unknown));
        r->on = DEFAULT_RETRY_ON;
        status[0] = 503;
        r->n_status = 1;
    }
    return r;
}

static struct prog_fault *fault(struct cc *c, const struct vs_fault *from)
{
    struct prog_fault *f;

    if (!from || (!from->delay.set && !from->abort.set))
        return NULL;
    f = CC_ARRAY(c, struct prog_fault, 1);
    if (!f)
        return NULL;
    f->abort_grpc = -1;
    if (from->delay.set) {
        f->delay_ms = cc_ms(from->delay.fixed_ns);
        f->delay_permyriad = cc_permyriad(from->delay.percentage);
    }
    if (from->abort.set && (from->abort.http_status || from->abort.grpc_code >= 0)) {
        f->abort_status = from->abort.http_status;
        f->abort_grpc = from->abort.http_status ? -1 : from->abort.grpc_code;
        f->abort_permyriad = cc_permyriad(from->abort.percentage);
    }
    return f;
}

static struct prog_redirect *redirect(struct cc *c, const struct vs_redirect *from)
{
    struct prog_redirect *r = CC_ARRAY(c, struct prog_redirect, 1);

    if (!r)
        return NULL;
    r->uri = cc_copy(c, from->uri);
    r->authority = cc_copy(c, from->authority);
    r->scheme = cc_copy(c, from->scheme);
    r->prefix_rewrite = cc_copy(c, from->prefix_rewrite);
    r->port = from->port;
    r->port_from_request = from->derive_port == VS_PORT_FROM_REQUEST_PORT;
    r->code = from->code ? from->code : 301;
    return r;
}

static struct prog_rewrite *rewrite(struct cc *c, const struct vs_rewrite *from, struct slice host)
{
    struct prog_rewrite *w;

    if (!from && !host.len)
        return NULL;
    w = CC_ARRAY(c, struct prog_rewrite, 1);
    if (!w)
        return NULL;
    if (from) {
        w->uri = cc_copy(c, from->uri);
        w->authority = cc_copy(c, from->authority);
        w->regex_text = cc_copy(c, from->regex_match);
        w->substitution = cc_copy(c, from->regex_rewrite);
    }
    if (!w->authority.len)
        w->authority = host;
    return w;
}

static struct slice joined(struct cc *c, const struct api_strings *l)
{
    struct slice all = SLICE_NULL;

    for (uint32_t i = 0; i < l->n; i++)
        all = i ? cc_printf(c, "%.*s,%.*s", SL_FMT(all), SL_FMT(l->p[i])) : cc_copy(c, l->p[i]);
    return all;
}

static struct prog_cors *cors(struct cc *c, const struct vs_cors *from)
{
    struct prog_cors *r = from ? CC_ARRAY(c, struct prog_cors, 1) : NULL;

    if (!r)
        return NULL;
    r->origins = CC_ARRAY(c, struct prog_string_match, from->n_allow_origins);
    for (uint32_t i = 0; r->origins && i < from->n_allow_origins; i++)
        if (from->allow_origins[i].kind > API_MATCH_PRESENT) /* an empty one takes nobody in */
            r->origins[r->n_origins++] = field_match(c, &from->allow_origins[i]);
    r->allow_methods = joined(c, &from->allow_methods);
    r->allow_headers = joined(c, &from->allow_headers);
    r->expose_headers = joined(c, &from->expose_headers);
    if (from->max_age.set)
        r->max_age = cc_printf(c, "%lld", (long long)(from->max_age.ns / 1000000000));
    r->allow_credentials = from->allow_credentials.v;
    r->keep_unmatched = from->unmatched_preflights == VS_PREFLIGHT_IGNORE;
    return r;
}

static void mirrors(struct cc *c, struct builder *b, const struct from *f, const struct vs_http *r,
                    struct prog_http_route *to)
{
    to->mirrors = CC_ARRAY(c, struct prog_mirror, r->n_mirrors);
    for (uint32_t i = 0; to->mirrors && i < r->n_mirrors; i++) {
        const struct vs_destination *d = &r->mirrors[i].destination;

        to->mirrors[to->n_mirrors++] = (struct prog_mirror){
            .cluster = cluster_for(c, b, index_fqdn(c->x, d->host, f->o->meta->ns, c->a), d->port,
                                   d->subset, f->o,
                                   i < r->mirror_first
                                       ? cc_printf(c, "%.*s.mirror", SL_FMT(f->path))
                                       : cc_printf(c, "%.*s.mirrors[%u].destination", SL_FMT(f->path),
                                                   i - r->mirror_first)),
            .permyriad = cc_permyriad(r->mirrors[i].percentage)};
    }
}

static void action(struct cc *c, struct builder *b, const struct from *f, const struct vs_http *r,
                   struct prog_http_route *to)
{
    if (r->redirect) {
        to->action = PROG_REDIRECT;
        to->redirect = redirect(c, r->redirect);
        return;
    }
    if (r->direct_response) {
        to->action = PROG_DIRECT;
        to->direct.status = r->direct_response->status;
        to->direct.body = cc_copy(c, r->direct_response->body);
        return;
    }
    to->action = PROG_FORWARD;
    destinations(c, b, f, &r->route, &to->destinations, &to->n_destinations, &to->total_weight);
    to->rewrite = rewrite(c, r->rewrite, take_host(&to->headers.request));
    to->retry = retry(c, f, r->retries);
    mirrors(c, b, f, r, to);
}

static void http_routes(struct cc *c, struct builder *b, const struct ix_object *o)
{
    struct http_items all = {0};

    http_items_of(c, o, &all);
    b->s->http = CC_ARRAY(c, struct prog_http_route, all.n);
    for (uint32_t i = 0; b->s->http && i < all.n; i++) {
        struct prog_http_route *to = &b->s->http[b->s->n_http];
        const struct vs_http *r = all.p[i].r;
        struct from f = {all.p[i].o, all.p[i].path};

        if (!http_matches(c, b, o, r, to)) {
            *to = (struct prog_http_route){0};
            continue;
        }
        b->s->n_http++;
        to->name = cc_copy(c, r->name);
        to->origin = cc_printf(c, "VirtualService %.*s/%.*s %.*s", SL_FMT(f.o->meta->ns),
                               SL_FMT(f.o->meta->name),
                               SL_FMT(slice_skip(f.path, sizeof "spec." - 1)));
        headers(c, &r->headers, &to->headers);
        to->timeout_ms = cc_ms(r->timeout.ns);
        to->fault = fault(c, r->fault);
        to->cors = cors(c, r->cors);
        action(c, b, &f, r, to);
    }
}

/* --- connections -------------------------------------------------------------------------------------- */
/* False: there are some, and none of them can be read; that never matches, rather than always. */
static bool ranges(struct cc *c, const struct api_strings *texts, struct cidr **to, uint32_t *n)
{
    *n = 0;
    *to = CC_ARRAY(c, struct cidr, texts->n);
    for (uint32_t k = 0; *to && k < texts->n; k++)
        if (cidr_parse(texts->p[k], &(*to)[*n]))
            ++*n;
    return !texts->n || *n;
}

static bool l4_matches(struct cc *c, const struct builder *b, const struct ix_object *o,
                       const struct vs_l4 *r, struct prog_tcp_route *to)
{
    if (!r->n_match)
        return true;
    to->matches = CC_ARRAY(c, struct prog_tcp_match, r->n_match);
    for (uint32_t i = 0; to->matches && i < r->n_match; i++) {
        const struct vs_l4_match *m = &r->match[i];
        struct prog_tcp_match *one = &to->matches[to->n_matches];

        struct api_strings source = {(struct slice *)(uintptr_t)&m->source_subnet,
                                     m->source_subnet.len > 0};

        if (!match_is_ours(c, b, o, &m->gateways, m->port, &m->source_labels,
                           m->source_namespace) ||
            !ranges(c, &m->destination_subnets, &one->subnets, &one->n_subnets) ||
            !ranges(c, &source, &one->sources, &one->n_sources))
            continue;
        one->sni = cc_copy_strings(c, &m->sni_hosts);
        to->n_matches++;
    }
    return to->n_matches > 0;
}

static void l4_routes(struct cc *c, struct builder *b, const struct ix_object *o, const char *what,
                      const struct vs_l4 *all, uint32_t n)
{
    for (uint32_t i = 0; b->s->tcp && i < n; i++) {
        struct prog_tcp_route *to = &b->s->tcp[b->s->n_tcp];
        struct from f = {o, cc_printf(c, "spec.%s[%u]", what, i)};

        if (!l4_matches(c, b, o, &all[i], to)) {
            *to = (struct prog_tcp_route){0};
            continue;
        }
        b->s->n_tcp++;
        to->origin = cc_printf(c, "VirtualService %.*s/%.*s %s[%u]", SL_FMT(o->meta->ns),
                               SL_FMT(o->meta->name), what, i);
        destinations(c, b, &f, &all[i].route, &to->destinations, &to->n_destinations,
                     &to->total_weight);
    }
}

static struct prog_destination *whole(struct cc *c, uint32_t cluster)
{
    struct prog_destination *d = CC_ARRAY(c, struct prog_destination, 1);

    if (d)
        *d = (struct prog_destination){.cluster = cluster, .weight = 100};
    return d;
}

static void tcp_default(struct cc *c, struct builder *b, uint32_t cluster)
{
    struct prog_tcp_route *t = &b->s->tcp[b->s->n_tcp];

    t->destinations = whole(c, cluster);
    t->n_destinations = t->destinations ? 1 : 0;
    t->total_weight = 100;
    b->s->n_tcp++;
}

/* A route without match ends the list. */
static bool tcp_ends(const struct prog_service *s)
{
    for (uint32_t i = 0; i < s->n_tcp; i++)
        if (s->tcp[i].n_matches == 0)
            return true;
    return false;
}

void routes_default(struct cc *c, struct builder *b, uint32_t cluster, bool http, bool tcp)
{
    if (http) {
        b->s->http = CC_ARRAY(c, struct prog_http_route, 1);
        if (!b->s->http)
            return;
        b->s->http->destinations = whole(c, cluster);
        b->s->http->n_destinations = b->s->http->destinations ? 1 : 0;
        b->s->http->total_weight = 100;
        b->s->http->retry = default_retry(c);
        b->s->n_http = 1;
    }
    if (tcp) {
        b->s->tcp = CC_ARRAY(c, struct prog_tcp_route, 1);
        if (b->s->tcp)
            tcp_default(c, b, cluster);
    }
}

void routes_of_vs(struct cc *c, struct builder *b, const struct ix_object *o,
                  enum prog_protocol protocol, bool fallback)
{
    bool http = prog_is_http(protocol) || protocol == PROG_AUTO, tcp = !prog_is_http(protocol);
    bool own_http = http && o->vs->n_http;

    cc_origin(c, INDEX_VS, o->meta);
    if (own_http)
        http_routes(c, b, o);
    if (tcp) {
        b->s->tcp = CC_ARRAY(c, struct prog_tcp_route, (size_t)o->vs->n_tls + o->vs->n_tcp + 1);
        if (protocol != PROG_TCP)
            l4_routes(c, b, o, "tls", o->vs->tls, o->vs->n_tls);
        if (!b->gate || protocol != PROG_TLS) /* where TLS goes through, names route */
            l4_routes(c, b, o, "tcp", o->vs->tcp, o->vs->n_tcp);
    }
    if (!fallback || c->nomem)
        return;
    if (http && !own_http)
        routes_default(c, b, cluster_for(c, b, b->target->host, b->port, SLICE_NULL, NULL, SLICE_NULL),
                       true, false);
    if (tcp && !tcp_ends(b->s))
        tcp_default(c, b,
                    cluster_for(c, b, b->target->host, b->port, SLICE_NULL, NULL, SLICE_NULL));
}
