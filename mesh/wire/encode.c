/* SPDX-License-Identifier: Apache-2.0 */
/* Program values to messages. Messages borrow from the values and live in a passing arena; each
 * function gives NULL without memory. */
#include "lib/base/hash.h"
#include "mesh/wire/wire_int.h"

#define TRY(assign)                                                                                \
    do {                                                                                           \
        if (!(assign))                                                                             \
            return NULL;                                                                           \
    } while (0)

enum err_code pb_pack(const ProtobufCMessage *m, struct buf *ret)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    char *to = buf_reserve(ret, n);

    if (!to)
        return buf_err(ret);
    protobuf_c_message_pack(m, (uint8_t *)to);
    buf_commit(ret, n);
    return ERR_OK;
}

struct wire_version wire_version(struct slice payload)
{
    struct hash128 h = hash128(payload);
    struct wire_version v;

    for (int i = 0; i < 8; i++) { /* the same bytes on every machine */
        v.bytes[i] = (char)(h.hi >> (56 - 8 * i));
        v.bytes[8 + i] = (char)(h.lo >> (56 - 8 * i));
    }
    return v;
}

/* --- small parts ------------------------------------------------------------------------------ */
/* Generated messages want NUL-terminated text. */
static char *text(struct arena *a, struct slice s)
{
    return s.len ? arena_strndup(a, s.p, s.len) : (char *)(uintptr_t)protobuf_c_empty_string;
}

static char **texts(struct arena *a, const struct prog_strings *l)
{
    char **v = ARENA_ARRAY(a, char *, l->n);

    for (uint32_t i = 0; v && i < l->n; i++)
        TRY(v[i] = text(a, l->p[i]));
    return v;
}

static char **cidr_texts(struct arena *a, const struct cidr *c, uint32_t n)
{
    char **v = ARENA_ARRAY(a, char *, n);

    for (uint32_t i = 0; v && i < n; i++) {
        char one[CIDR_TEXT];

        TRY(v[i] = arena_strdup(a, cidr_format(&c[i], one)));
    }
    return v;
}

/* Absent when empty. */
static bool strings(struct arena *a, const struct prog_strings *l, PB(Strings) **ret)
{
    PB(Strings) *m;

    if (l->n == 0)
        return true;
    m = pb_new(a, PB_DESC(strings));
    if (!m || !(m->value = texts(a, l)))
        return false;
    m->n_value = l->n;
    *ret = m;
    return true;
}

static bool cidrs(struct arena *a, const struct cidr *c, uint32_t n, PB(Strings) **ret)
{
    PB(Strings) *m;

    if (n == 0)
        return true;
    m = pb_new(a, PB_DESC(strings));
    if (!m || !(m->value = cidr_texts(a, c, n)))
        return false;
    m->n_value = n;
    *ret = m;
    return true;
}

static bool string_match(struct arena *a, const struct prog_string_match *s, PB(StringMatch) **ret)
{
    static const int kinds[] = {
        [PROG_MATCH_EXACT] = PB_ENUM(MATCH_KIND__MATCH_EXACT),
        [PROG_MATCH_PREFIX] = PB_ENUM(MATCH_KIND__MATCH_PREFIX),
        [PROG_MATCH_REGEX] = PB_ENUM(MATCH_KIND__MATCH_REGEX),
        [PROG_MATCH_PRESENT] = PB_ENUM(MATCH_KIND__MATCH_PRESENT),
        [PROG_MATCH_NEVER] = PB_ENUM(MATCH_KIND__MATCH_NEVER),
    };
    PB(StringMatch) *m;

    if (s->kind == PROG_MATCH_NONE)
        return true;
    m = pb_new(a, PB_DESC(string_match));
    if (!m || !(m->value = text(a, s->value)))
        return false;
    m->kind = (PB(MatchKind))kinds[s->kind];
    *ret = m;
    return true;
}

/* --- authorization ---------------------------------------------------------------------------- */
static PB(AuthzSource) *authz_source(struct arena *a, const struct authz_source *s)
{
    PB(AuthzSource) *m = pb_new(a, PB_DESC(authz_source));

    if (m && strings(a, &s->principals, &m->principals) &&
        strings(a, &s->not_principals, &m->not_principals) &&
        strings(a, &s->namespaces, &m->namespaces) &&
        strings(a, &s->not_namespaces, &m->not_namespaces) &&
        strings(a, &s->service_accounts, &m->service_accounts) &&
        strings(a, &s->not_service_accounts, &m->not_service_accounts) &&
        cidrs(a, s->ip_blocks, s->n_ip_blocks, &m->ip_blocks) &&
        cidrs(a, s->not_ip_blocks, s->n_not_ip_blocks, &m->not_ip_blocks))
        return m;
    return NULL;
}

static PB(AuthzOperation) *authz_operation(struct arena *a, const struct authz_operation *o)
{
    PB(AuthzOperation) *m = pb_new(a, PB_DESC(authz_operation));

    if (m && strings(a, &o->hosts, &m->hosts) && strings(a, &o->not_hosts, &m->not_hosts) &&
        strings(a, &o->ports, &m->ports) && strings(a, &o->not_ports, &m->not_ports) &&
        strings(a, &o->methods, &m->methods) && strings(a, &o->not_methods, &m->not_methods) &&
        strings(a, &o->paths, &m->paths) && strings(a, &o->not_paths, &m->not_paths))
        return m;
    return NULL;
}

static PB(AuthzCondition) *authz_condition(struct arena *a, const struct authz_condition *w)
{
    PB(AuthzCondition) *m = pb_new(a, PB_DESC(authz_condition));

    if (m && (m->key = text(a, w->key)) && strings(a, &w->values, &m->values) &&
        strings(a, &w->not_values, &m->not_values))
        return m;
    return NULL;
}

static PB(AuthzRule) *authz_rule(struct arena *a, const struct authz_rule *r)
{
    PB(AuthzRule) *m = pb_new(a, PB_DESC(authz_rule));

    TRY(m);
    TRY(m->from = ARENA_ARRAY(a, PB(AuthzSource) *, r->n_from));
    TRY(m->to = ARENA_ARRAY(a, PB(AuthzOperation) *, r->n_to));
    TRY(m->when = ARENA_ARRAY(a, PB(AuthzCondition) *, r->n_when));
    for (uint32_t i = 0; i < r->n_from; i++)
        TRY(m->from[m->n_from++] = authz_source(a, &r->from[i]));
    for (uint32_t i = 0; i < r->n_to; i++)
        TRY(m->to[m->n_to++] = authz_operation(a, &r->to[i]));
    for (uint32_t i = 0; i < r->n_when; i++)
        TRY(m->when[m->n_when++] = authz_condition(a, &r->when[i]));
    return m;
}

static PB(Policy) *policy(struct arena *a, const struct authz_policy *p)
{
    PB(Policy) *m = pb_new(a, PB_DESC(policy));

    TRY(m && (m->namespace_ = text(a, p->namespace_)) && (m->name = text(a, p->name)) &&
        (m->closed = text(a, p->closed)));
    m->action = (PB(Action))p->action;
    m->dry_run = p->dry_run;
    TRY(m->rule = ARENA_ARRAY(a, PB(AuthzRule) *, p->n_rules));
    for (uint32_t i = 0; i < p->n_rules; i++)
        TRY(m->rule[m->n_rule++] = authz_rule(a, &p->rules[i]));
    return m;
}

/* --- Settings, Inbound, Names, Workload ------------------------------------------------------- */
static void *settings(struct arena *a, const struct prog_settings *s)
{
    PB(Settings) *m = pb_new(a, PB_DESC(settings));

    TRY(m && (m->trust_domain = text(a, s->trust_domain)) &&
        (m->cluster_domain = text(a, s->cluster_domain)) && (m->mesh_id = text(a, s->mesh_id)) &&
        (m->trust_domain_alias = texts(a, &s->trust_domain_aliases)) &&
        (m->pod_cidr = cidr_texts(a, s->pod_cidrs, s->n_pod_cidrs)));
    m->n_trust_domain_alias = s->trust_domain_aliases.n;
    m->n_pod_cidr = s->n_pod_cidrs;
    m->roots_pem = pb_bytes(s->roots_pem);
    m->registry_only = s->registry_only;
    m->path_merge_slashes = s->path_merge_slashes;
    m->discovery_wait_ms = s->discovery_wait_ms;
    m->drain_ms = s->drain_ms;
    m->eager = s->eager;
    m->egress_proxy = s->egress_proxy;
    m->listeners = s->listeners;
    m->issuer = s->issuer;
    m->renew_within_s = s->renew_within_s;
    m->trace_sampling_permyriad = s->trace_sampling_permyriad;
    if (s->filter.fingerprints.len) {
        TRY(m->filter = pb_new(a, PB_DESC(filter)));
        m->filter->seed = s->filter.seed;
        m->filter->segment_length = s->filter.segment_length;
        m->filter->segment_count = s->filter.segment_count;
        m->filter->fingerprints = pb_bytes(s->filter.fingerprints);
    }
    if (s->access_log.disabled || s->access_log.json || s->access_log.format.len) {
        TRY(m->access_log = pb_new(a, PB_DESC(access_log)));
        m->access_log->disabled = s->access_log.disabled;
        m->access_log->json = s->access_log.json;
        TRY(m->access_log->format = text(a, s->access_log.format));
    }
    return m;
}

static void *workload(struct arena *a, const struct prog_workload *w)
{
    PB(Workload) *m = pb_new(a, PB_DESC(workload));

    TRY(m && (m->name = text(a, w->name)) && (m->namespace_ = text(a, w->namespace_)) &&
        (m->service_account = text(a, w->service_account)) && (m->app = text(a, w->app)) &&
        (m->version = text(a, w->version)) && (m->canonical_name = text(a, w->canonical_name)) &&
        (m->canonical_revision = text(a, w->canonical_revision)) &&
        (m->cluster = text(a, w->cluster)) && (m->principal = text(a, w->principal)) &&
        (m->locality = text(a, w->locality)) && (m->node = text(a, w->node)));
    return m;
}

static bool pool(struct arena *a, const struct prog_cluster *c, PB(Cluster) *m);

static PB(Inbound__Port) *inbound_port(struct arena *a, const struct prog_inbound_port *p)
{
    PB(Inbound__Port) *m = pb_new(a, PB_DESC(inbound__port));

    TRY(m && (m->service_host = text(a, p->service_host)) &&
        (m->service_name = text(a, p->service_name)) &&
        (m->service_namespace = text(a, p->service_namespace)) &&
        (m->endpoint = text(a, p->endpoint)));
    TRY(!p->limits || ((m->limits = pb_new(a, PB_DESC(cluster))) && pool(a, p->limits, m->limits) &&
                       enc_policy(a, p->limits->policy, m->limits)));
    TRY(!p->tls || (m->tls = enc_gate(a, p->tls)));
    m->port = p->port;
    m->protocol = (PB(Protocol))p->protocol;
    m->mtls = (PB(Mtls))p->mtls;
    return m;
}

static void *inbound(struct arena *a, const struct prog_inbound *in)
{
    PB(Inbound) *m = pb_new(a, PB_DESC(inbound));

    TRY(m && (m->closed = text(a, in->closed)) && (m->self = workload(a, &in->self)));
    m->mtls = (PB(Mtls))in->mtls;
    TRY(m->port = ARENA_ARRAY(a, PB(Inbound__Port) *, in->n_ports));
    TRY(m->policy = ARENA_ARRAY(a, PB(Policy) *, in->n_policies));
    for (uint32_t i = 0; i < in->n_ports; i++)
        TRY(m->port[m->n_port++] = inbound_port(a, &in->ports[i]));
    for (uint32_t i = 0; i < in->n_policies; i++)
        TRY(m->policy[m->n_policy++] = policy(a, &in->policies[i]));
    return m;
}

static void *names(struct arena *a, const struct prog_names *n)
{
    PB(Names) *m = pb_new(a, PB_DESC(names));

    TRY(m && (m->name = ARENA_ARRAY(a, PB(Names__Name) *, n->n_names)));
    for (uint32_t i = 0; i < n->n_names; i++) {
        const struct prog_name *from = &n->names[i];
        PB(Names__Name) *one = pb_new(a, PB_DESC(names__name));

        TRY(one && (one->host = text(a, from->host)) &&
            (one->address = ARENA_ARRAY(a, ProtobufCBinaryData, from->address.n)));
        for (uint32_t k = 0; k < from->address.n; k++)
            one->address[one->n_address++] = pb_bytes(from->address.p[k]);
        m->name[m->n_name++] = one;
    }
    return m;
}

/* --- Service ---------------------------------------------------------------------------------- */
static bool field_matches(struct arena *a, const struct prog_field_match *f, uint32_t n,
                          PB(FieldMatch) ***ret, size_t *ret_n)
{
    PB(FieldMatch) **v = ARENA_ARRAY(a, PB(FieldMatch) *, n);

    if (!v)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        v[i] = pb_new(a, PB_DESC(field_match));
        if (!v[i] || !(v[i]->name = text(a, f[i].name)) ||
            !string_match(a, &f[i].match, &v[i]->match))
            return false;
        v[i]->absent = f[i].absent;
    }
    *ret = v;
    *ret_n = n;
    return true;
}

static PB(HttpMatch) *http_match(struct arena *a, const struct prog_http_match *h)
{
    PB(HttpMatch) *m = pb_new(a, PB_DESC(http_match));

    TRY(m && string_match(a, &h->uri, &m->uri) && string_match(a, &h->scheme, &m->scheme) &&
        string_match(a, &h->method, &m->method) &&
        string_match(a, &h->authority, &m->authority) &&
        field_matches(a, h->headers, h->n_headers, &m->header, &m->n_header) &&
        field_matches(a, h->queries, h->n_queries, &m->query, &m->n_query) &&
        (m->name = text(a, h->name)));
    m->ignore_uri_case = h->ignore_uri_case;
    return m;
}

static bool header_fields(struct arena *a, const struct prog_field *f, uint32_t n,
                          PB(HeaderOps__Field) ***ret, size_t *ret_n)
{
    PB(HeaderOps__Field) **v = ARENA_ARRAY(a, PB(HeaderOps__Field) *, n);

    if (!v)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        v[i] = pb_new(a, PB_DESC(header_ops__field));
        if (!v[i] || !(v[i]->name = text(a, f[i].name)) || !(v[i]->value = text(a, f[i].value)))
            return false;
    }
    *ret = v;
    *ret_n = n;
    return true;
}

static bool header_ops(struct arena *a, const struct prog_header_ops *o, PB(HeaderOps) **ret)
{
    PB(HeaderOps) *m;

    if (!(o->n_set | o->n_add | o->remove.n))
        return true;
    m = pb_new(a, PB_DESC(header_ops));
    if (!m || !header_fields(a, o->set, o->n_set, &m->set, &m->n_set) ||
        !header_fields(a, o->add, o->n_add, &m->add, &m->n_add) ||
        !(m->remove = texts(a, &o->remove)))
        return false;
    m->n_remove = o->remove.n;
    *ret = m;
    return true;
}

static bool headers(struct arena *a, const struct prog_headers *h, PB(Headers) **ret)
{
    PB(HeaderOps) *request = NULL, *response = NULL;

    if (!header_ops(a, &h->request, &request) || !header_ops(a, &h->response, &response))
        return false;
    if (!request && !response)
        return true;
    *ret = pb_new(a, PB_DESC(headers));
    if (!*ret)
        return false;
    (*ret)->request = request;
    (*ret)->response = response;
    return true;
}

static bool destinations(struct arena *a, const struct prog_destination *d, uint32_t n,
                         PB(Destination) ***ret, size_t *ret_n)
{
    PB(Destination) **v = ARENA_ARRAY(a, PB(Destination) *, n);

    if (!v)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        v[i] = pb_new(a, PB_DESC(destination));
        if (!v[i] || !headers(a, &d[i].headers, &v[i]->headers))
            return false;
        v[i]->cluster = d[i].cluster;
        v[i]->weight = d[i].weight;
    }
    *ret = v;
    *ret_n = n;
    return true;
}

static PB(Redirect) *redirect(struct arena *a, const struct prog_redirect *r)
{
    PB(Redirect) *m = pb_new(a, PB_DESC(redirect));

    TRY(m && (m->uri = text(a, r->uri)) && (m->authority = text(a, r->authority)) &&
        (m->scheme = text(a, r->scheme)) && (m->prefix_rewrite = text(a, r->prefix_rewrite)));
    m->port = r->port;
    m->code = r->code;
    m->port_from_request = r->port_from_request;
    return m;
}

static PB(Rewrite) *rewrite(struct arena *a, const struct prog_rewrite *w)
{
    PB(Rewrite) *m = pb_new(a, PB_DESC(rewrite));

    TRY(m && (m->uri = text(a, w->uri)) && (m->authority = text(a, w->authority)) &&
        (m->regex = text(a, w->regex_text)) && (m->substitution = text(a, w->substitution)));
    return m;
}

static PB(Retry) *retry(struct arena *a, const struct prog_retry *r)
{
    PB(Retry) *m = pb_new(a, PB_DESC(retry));

    TRY(m);
    m->attempts = r->attempts;
    m->on = r->on;
    m->status = r->status;
    m->n_status = r->n_status;
    m->per_try_timeout_ms = r->per_try_timeout_ms;
    m->backoff_ms = r->backoff_ms;
    m->elsewhere = r->elsewhere;
    m->same_hosts = r->same_hosts;
    return m;
}

static PB(Fault) *fault(struct arena *a, const struct prog_fault *f)
{
    PB(Fault) *m = pb_new(a, PB_DESC(fault));

    TRY(m);
    m->delay_ms = f->delay_ms;
    m->delay_permyriad = f->delay_permyriad;
    m->abort_status = f->abort_status;
    m->abort_permyriad = f->abort_permyriad;
    m->abort_grpc = f->abort_grpc;
    return m;
}

static bool mirrors(struct arena *a, const struct prog_http_route *r, PB(HttpRoute) *m)
{
    m->mirror = ARENA_ARRAY(a, PB(Mirror) *, r->n_mirrors);
    if (!m->mirror)
        return false;
    for (uint32_t i = 0; i < r->n_mirrors; i++) {
        PB(Mirror) *one = pb_new(a, PB_DESC(mirror));

        if (!one)
            return false;
        one->cluster = r->mirrors[i].cluster;
        one->permyriad = r->mirrors[i].permyriad;
        m->mirror[m->n_mirror++] = one;
    }
    return true;
}

static PB(Cors) *cors(struct arena *a, const struct prog_cors *c)
{
    PB(Cors) *m = pb_new(a, PB_DESC(cors));

    TRY(m && (m->allow_methods = text(a, c->allow_methods)) &&
        (m->allow_headers = text(a, c->allow_headers)) &&
        (m->expose_headers = text(a, c->expose_headers)) && (m->max_age = text(a, c->max_age)));
    TRY(m->origin = ARENA_ARRAY(a, PB(StringMatch) *, c->n_origins));
    for (uint32_t i = 0; i < c->n_origins; i++)
        TRY(string_match(a, &c->origins[i], &m->origin[m->n_origin++]));
    m->allow_credentials = c->allow_credentials;
    m->keep_unmatched = c->keep_unmatched;
    return m;
}

static PB(HttpRoute) *http_route(struct arena *a, const struct prog_http_route *r)
{
    PB(HttpRoute) *m = pb_new(a, PB_DESC(http_route));

    TRY(m && (m->name = text(a, r->name)) && (m->origin = text(a, r->origin)) &&
        destinations(a, r->destinations, r->n_destinations, &m->destination, &m->n_destination) &&
        headers(a, &r->headers, &m->headers) && mirrors(a, r, m));
    TRY(m->match = ARENA_ARRAY(a, PB(HttpMatch) *, r->n_matches));
    for (uint32_t i = 0; i < r->n_matches; i++)
        TRY(m->match[m->n_match++] = http_match(a, &r->matches[i]));
    m->timeout_ms = r->timeout_ms;
    if (r->action == PROG_REDIRECT && r->redirect)
        TRY(m->redirect = redirect(a, r->redirect));
    if (r->action == PROG_DIRECT) {
        TRY(m->direct = pb_new(a, PB_DESC(direct_response)));
        m->direct->status = r->direct.status;
        m->direct->body = pb_bytes(r->direct.body);
    }
    if (r->rewrite)
        TRY(m->rewrite = rewrite(a, r->rewrite));
    if (r->retry)
        TRY(m->retry = retry(a, r->retry));
    if (r->fault)
        TRY(m->fault = fault(a, r->fault));
    if (r->cors)
        TRY(m->cors = cors(a, r->cors));
    return m;
}

static PB(TcpRoute) *tcp_route(struct arena *a, const struct prog_tcp_route *r)
{
    PB(TcpRoute) *m = pb_new(a, PB_DESC(tcp_route));

    TRY(m && (m->origin = text(a, r->origin)) &&
        destinations(a, r->destinations, r->n_destinations, &m->destination, &m->n_destination));
    TRY(m->match = ARENA_ARRAY(a, PB(TcpMatch) *, r->n_matches));
    for (uint32_t i = 0; i < r->n_matches; i++) {
        const struct prog_tcp_match *from = &r->matches[i];
        PB(TcpMatch) *one = pb_new(a, PB_DESC(tcp_match));

        TRY(one && (one->destination_subnet = cidr_texts(a, from->subnets, from->n_subnets)) &&
            (one->sni = texts(a, &from->sni)));
        TRY(one->source_subnet = cidr_texts(a, from->sources, from->n_sources));
        one->n_source_subnet = from->n_sources;
        one->n_destination_subnet = from->n_subnets;
        one->n_sni = from->sni.n;
        m->match[m->n_match++] = one;
    }
    return m;
}

static bool selector_bytes(struct arena *a, uint64_t selector, ProtobufCBinaryData *ret)
{
    char *p;

    if (selector == 0)
        return true;
    p = arena_alloc(a, 8);
    if (!p)
        return false;
    for (int i = 0; i < 8; i++)
        p[i] = (char)(selector >> (56 - 8 * i));
    *ret = pb_bytes(slice_of(p, 8));
    return true;
}

static bool pool(struct arena *a, const struct prog_cluster *c, PB(Cluster) *m)
{
    static const struct prog_cluster none;

    if (memcmp(&c->pool, &none.pool, sizeof none.pool) != 0) {
        m->pool = pb_new(a, PB_DESC(pool));
        if (!m->pool)
            return false;
        m->pool->max_connections = c->pool.max_connections;
        m->pool->max_pending = c->pool.max_pending;
        m->pool->max_requests = c->pool.max_requests;
        m->pool->max_requests_per_connection = c->pool.max_requests_per_connection;
        m->pool->max_retries = c->pool.max_retries;
        m->pool->connect_timeout_ms = c->pool.connect_timeout_ms;
        m->pool->idle_timeout_ms = c->pool.idle_timeout_ms;
        m->pool->max_streams = c->pool.max_streams;
        m->pool->ping_interval_ms = c->pool.ping_interval_ms;
        m->pool->ping_timeout_ms = c->pool.ping_timeout_ms;
    }
    return true;
}

static PB(Cluster) *cluster(struct arena *a, const struct prog_cluster *c)
{
    PB(Cluster) *m = pb_new(a, PB_DESC(cluster));

    TRY(m && (m->name = text(a, c->name)) && (m->host = text(a, c->host)) &&
        (m->subset = text(a, c->subset)) && (m->sni = text(a, c->sni)) &&
        (m->service_name = text(a, c->service_name)) &&
        (m->service_namespace = text(a, c->service_namespace)) &&
        (m->problem = text(a, c->problem)) && (m->endpoints = texts(a, &c->endpoints)) &&
        (m->dns_host = texts(a, &c->dns)) &&
        (m->subject_alt_name = texts(a, &c->subject_alt_names)) &&
        selector_bytes(a, c->subset_selector, &m->subset_selector) && pool(a, c, m) &&
        enc_policy(a, c->policy, m));
    m->n_endpoints = c->endpoints.n;
    m->n_dns_host = c->dns.n;
    m->n_subject_alt_name = c->subject_alt_names.n;
    m->port = c->port;
    m->protocol = (PB(Protocol))c->protocol;
    m->balancer = (PB(Balancer))c->balancer;
    m->tls = (PB(TlsMode))c->tls;
    m->original_dst = c->original_dst;
    m->client_protocol = c->client_protocol;
    m->dns_first = c->dns_first;
    m->keep_http1 = c->keep_http1;
    return m;
}

static void *service(struct arena *a, const struct prog_service *s)
{
    PB(Service) *m = pb_new(a, PB_DESC(service));

    TRY(m && (m->host = text(a, s->host)) && (m->name = text(a, s->name)) &&
        (m->namespace_ = text(a, s->namespace_)) && (m->gate = text(a, s->gate)));
    m->port = s->port;
    m->protocol = (PB(Protocol))s->protocol;
    TRY(m->http = ARENA_ARRAY(a, PB(HttpRoute) *, s->n_http));
    TRY(m->tcp = ARENA_ARRAY(a, PB(TcpRoute) *, s->n_tcp));
    TRY(m->cluster = ARENA_ARRAY(a, PB(Cluster) *, s->n_clusters));
    for (uint32_t i = 0; i < s->n_http; i++)
        TRY(m->http[m->n_http++] = http_route(a, &s->http[i]));
    for (uint32_t i = 0; i < s->n_tcp; i++)
        TRY(m->tcp[m->n_tcp++] = tcp_route(a, &s->tcp[i]));
    for (uint32_t i = 0; i < s->n_clusters; i++)
        TRY(m->cluster[m->n_cluster++] = cluster(a, &s->clusters[i]));
    return m;
}

/* --- Endpoints -------------------------------------------------------------------------------- */
static void endpoint(const struct prog_endpoint *from, PB(Endpoints__Endpoint) *to)
{
    protobuf_c_message_init(PB_DESC(endpoints__endpoint), to);
    to->address = pb_bytes(slice_of(from->address, from->address_len));
    to->port = from->port;
    to->identity = from->identity;
    to->locality = from->locality;
    to->subsets = from->subsets;
    to->weight = from->weight;
    to->mtls = from->mtls;
    to->draining = from->draining;
}

static void *endpoints(struct arena *a, const struct prog_endpoints *e)
{
    PB(Endpoints) *m = pb_new(a, PB_DESC(endpoints));
    PB(Endpoints__Endpoint) *all = ARENA_ARRAY(a, PB(Endpoints__Endpoint), e->n + e->n_named);

    TRY(m && all && (m->endpoint = ARENA_ARRAY(a, PB(Endpoints__Endpoint) *, e->n)) &&
        (m->named = ARENA_ARRAY(a, PB(Endpoints__Endpoint) *, e->n_named)) &&
        (m->name = texts(a, &e->names)) && (m->identity = texts(a, &e->identities)) &&
        (m->locality = texts(a, &e->localities)));
    for (uint32_t i = 0; i < e->n + e->n_named; i++) {
        endpoint(&e->p[i], &all[i]);
        if (i < e->n)
            m->endpoint[m->n_endpoint++] = &all[i];
        else
            m->named[m->n_named++] = &all[i];
    }
    m->n_name = e->names.n;
    m->n_identity = e->identities.n;
    m->n_locality = e->localities.n;
    m->selector = e->selectors;
    m->n_selector = e->n_selectors;
    return m;
}

static void *message_of(struct arena *a, const struct prog *r)
{
    switch (r->kind) {
    case PROG_SETTINGS:
        return settings(a, (const struct prog_settings *)r);
    case PROG_INBOUND:
        return inbound(a, (const struct prog_inbound *)r);
    case PROG_NAMES:
        return names(a, (const struct prog_names *)r);
    case PROG_SERVICE:
        return service(a, (const struct prog_service *)r);
    case PROG_ENDPOINTS:
        return endpoints(a, (const struct prog_endpoints *)r);
    case PROG_WORKLOAD:
        return workload(a, (const struct prog_workload *)r);
    case PROG_LISTENERS:
        return enc_listeners(a, (const struct prog_listeners *)r);
    case PROG_CREDENTIAL:
        return enc_credential(a, (const struct prog_credential *)r);
    }
    return NULL;
}

enum err_code wire_resource_encode(const struct prog *r, struct buf *ret)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    ProtobufCMessage *m;

    if (r->kind < PROG_SETTINGS || r->kind > PROG_KIND_LAST)
        return ERR_UNSUPPORTED;
    arena_init(&a, 4096, 0);
    m = message_of(&a, r);
    return m ? pb_pack(m, ret) : ERR_NOMEM;
}
