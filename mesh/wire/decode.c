/* SPDX-License-Identifier: Apache-2.0 */
/* Messages to program values. Nothing is trusted: a peer that speaks the protocol may still be broken,
 * newer or hostile. Everything is copied into the new resource's arena. */
#include <stdarg.h>
#include <stdio.h>

#include "lib/base/mem.h"
#include "lib/base/re.h"
#include "lib/data/fieldpath.h"
#include "mesh/wire/wire_int.h"

struct rd {
    struct arena *a;
    struct err *err;
    unsigned regexes;
};

#define AT(up, key) (&FPATH_KEY(up, key))
#define NTH(up, key, i) (&FPATH_INDEX(&FPATH_KEY(up, key), i))
#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            return -1;                                                                             \
    } while (0)

static int bad(struct rd *r, const struct fpath *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static int bad(struct rd *r, const struct fpath *at, const char *fmt, ...)
{
    char path[128], what[128];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(r->err, ERR_INVALID, "%s: %s", fpath_str(at, path, sizeof path), what);
}

/* The arena has a cap by the payload's size: beyond it the message is refused, not the process. */
static int full(struct rd *r)
{
    return err_set(r->err, r->a->cap && r->a->used > r->a->cap / 2 ? ERR_LIMIT : ERR_NOMEM,
                   "decoding takes too much memory");
}

static void *many(struct rd *r, size_t n, size_t size, uint32_t *ret_n, int *rc)
{
    void *p = n ? arena_array(r->a, n, size) : NULL;

    *rc = n && !p ? full(r) : 0;
    *ret_n = p ? (uint32_t)n : 0;
    return p;
}
/* Allocate an array member and its count, or return. */
#define ARRAY(r, dst, n_dst, n)                                                                    \
    do {                                                                                           \
        int rc_;                                                                                   \
        (dst) = many((r), (n), sizeof *(dst), &(n_dst), &rc_);                                     \
        if (rc_ < 0)                                                                               \
            return -1;                                                                             \
    } while (0)

#define ONE(r, dst)                                                                                \
    do {                                                                                           \
        (dst) = arena_alloc((r)->a, sizeof *(dst));                                                \
        if (!(dst))                                                                                \
            return full(r);                                                                        \
    } while (0)

/* --- unpacking -------------------------------------------------------------------------------- */
struct alloc_state {
    struct arena *a;
    bool failed;
};

static void *pb_alloc(void *arg, size_t n)
{
    struct alloc_state *s = arg;
    void *p = arena_alloc(s->a, n);

    s->failed |= !p;
    return p;
}

static void pb_free(void *arg, void *p)
{
    (void)arg;
    (void)p;
}

int pb_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc, struct slice bytes,
              ProtobufCMessage **ret, struct err *err)
{
    struct alloc_state s = {.a = a};
    ProtobufCAllocator alloc = {.alloc = pb_alloc, .free = pb_free, .allocator_data = &s};
    static const uint8_t nothing;

    *ret = protobuf_c_message_unpack(desc, &alloc, bytes.len,
                                     bytes.p ? (const uint8_t *)bytes.p : &nothing);
    if (*ret)
        return 0;
    if (s.failed)
        return err_set(err, a->cap && a->used > a->cap / 2 ? ERR_LIMIT : ERR_NOMEM,
                       "%s takes too much memory", desc->short_name);
    return err_set(err, ERR_INVALID, "not a %s message", desc->short_name);
}

/* --- small parts ------------------------------------------------------------------------------ */
static int text(struct rd *r, const char *s, struct slice *ret)
{
    if (!s || !*s) {
        *ret = SLICE_NULL;
        return 0;
    }
    *ret = arena_slice(r->a, slice_str(s));
    return ret->p ? 0 : full(r);
}

static int bytes(struct rd *r, ProtobufCBinaryData b, struct slice *ret)
{
    if (b.len == 0) {
        *ret = SLICE_NULL;
        return 0;
    }
    *ret = arena_slice(r->a, slice_of_pb(b));
    return ret->p ? 0 : full(r);
}

static int texts(struct rd *r, char **v, size_t n, struct prog_strings *ret)
{
    ARRAY(r, ret->p, ret->n, n);
    for (uint32_t i = 0; i < ret->n; i++)
        TRY(text(r, v[i], &ret->p[i]));
    return 0;
}

static int strings(struct rd *r, const PB(Strings) *m, struct prog_strings *ret)
{
    return m ? texts(r, m->value, m->n_value, ret) : 0;
}

static int cidrs(struct rd *r, const struct fpath *at, char **v, size_t n, struct cidr **ret,
                 uint32_t *ret_n)
{
    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++)
        if (!cidr_parse(slice_str(v[i]), &(*ret)[i]))
            return bad(r, &FPATH_INDEX(at, i), "\"%.40s\" is no address range", v[i]);
    return 0;
}

static int cidr_strings(struct rd *r, const struct fpath *at, const PB(Strings) *m,
                        struct cidr **ret, uint32_t *ret_n)
{
    return m ? cidrs(r, at, m->value, m->n_value, ret, ret_n) : 0;
}

static int port(struct rd *r, const struct fpath *at, uint32_t v, uint16_t *ret)
{
    if (v < 1 || v > 65535)
        return bad(r, at, "%u is no port", v);
    *ret = (uint16_t)v;
    return 0;
}

/* Unknown: detected like any other traffic. */
static enum prog_protocol protocol(int v)
{
    return v >= PROG_AUTO && v <= PROG_GRPC ? (enum prog_protocol)v : PROG_AUTO;
}

static enum prog_mtls mtls(int v)
{
    return v >= PROG_MTLS_UNSET && v <= PROG_MTLS_STRICT ? (enum prog_mtls)v : PROG_MTLS_STRICT;
}

static int regex(struct rd *r, const struct fpath *at, struct slice pattern, struct re **ret)
{
    char path[128];

    r->regexes++;
    return re_compile(pattern, ret, r->err) < 0
               ? err_wrap(r->err, "%s", fpath_str(at, path, sizeof path))
               : 0;
}

static int string_match(struct rd *r, const struct fpath *at, const PB(StringMatch) *m,
                        struct prog_string_match *ret)
{
    if (!m)
        return 0;
    TRY(text(r, m->value, &ret->value));
    switch ((int)m->kind) {
    case PB_ENUM(MATCH_KIND__MATCH_EXACT):
        ret->kind = PROG_MATCH_EXACT;
        return 0;
    case PB_ENUM(MATCH_KIND__MATCH_PREFIX):
        ret->kind = PROG_MATCH_PREFIX;
        return 0;
    case PB_ENUM(MATCH_KIND__MATCH_REGEX):
        ret->kind = PROG_MATCH_REGEX;
        return regex(r, at, ret->value, &ret->re);
    case PB_ENUM(MATCH_KIND__MATCH_PRESENT):
        ret->kind = PROG_MATCH_PRESENT;
        return 0;
    default:
        ret->kind = PROG_MATCH_NEVER;
        return 0;
    }
}

/* --- authorization ---------------------------------------------------------------------------- */
static int authz_source(struct rd *r, const struct fpath *at, const PB(AuthzSource) *m,
                        struct authz_source *ret)
{
    TRY(strings(r, m->principals, &ret->principals));
    TRY(strings(r, m->not_principals, &ret->not_principals));
    TRY(strings(r, m->namespaces, &ret->namespaces));
    TRY(strings(r, m->not_namespaces, &ret->not_namespaces));
    TRY(strings(r, m->service_accounts, &ret->service_accounts));
    TRY(strings(r, m->not_service_accounts, &ret->not_service_accounts));
    TRY(cidr_strings(r, AT(at, "ip_blocks"), m->ip_blocks, &ret->ip_blocks, &ret->n_ip_blocks));
    return cidr_strings(r, AT(at, "not_ip_blocks"), m->not_ip_blocks, &ret->not_ip_blocks,
                        &ret->n_not_ip_blocks);
}

static int authz_operation(struct rd *r, const PB(AuthzOperation) *m, struct authz_operation *ret)
{
    TRY(strings(r, m->hosts, &ret->hosts));
    TRY(strings(r, m->not_hosts, &ret->not_hosts));
    TRY(strings(r, m->ports, &ret->ports));
    TRY(strings(r, m->not_ports, &ret->not_ports));
    TRY(strings(r, m->methods, &ret->methods));
    TRY(strings(r, m->not_methods, &ret->not_methods));
    TRY(strings(r, m->paths, &ret->paths));
    return strings(r, m->not_paths, &ret->not_paths);
}

static int authz_rule(struct rd *r, const struct fpath *at, const PB(AuthzRule) *m,
                      struct authz_rule *ret)
{
    ARRAY(r, ret->from, ret->n_from, m->n_from);
    ARRAY(r, ret->to, ret->n_to, m->n_to);
    ARRAY(r, ret->when, ret->n_when, m->n_when);
    for (uint32_t i = 0; i < ret->n_from; i++)
        TRY(authz_source(r, NTH(at, "from", i), m->from[i], &ret->from[i]));
    for (uint32_t i = 0; i < ret->n_to; i++)
        TRY(authz_operation(r, m->to[i], &ret->to[i]));
    for (uint32_t i = 0; i < ret->n_when; i++) {
        TRY(text(r, m->when[i]->key, &ret->when[i].key));
        TRY(strings(r, m->when[i]->values, &ret->when[i].values));
        TRY(strings(r, m->when[i]->not_values, &ret->when[i].not_values));
    }
    return 0;
}

static int policy(struct rd *r, const struct fpath *at, const PB(Policy) *m,
                  struct authz_policy *ret)
{
    TRY(text(r, m->namespace_, &ret->namespace_));
    TRY(text(r, m->name, &ret->name));
    TRY(text(r, m->closed, &ret->closed));
    ret->dry_run = m->dry_run;
    ret->action = (enum prog_action)m->action;
    if (m->action < PB_ENUM(ACTION__ACTION_DENY) || m->action > PB_ENUM(ACTION__ACTION_CUSTOM)) {
        ret->action = PROG_DENY;
        if (!ret->closed.len)
            ret->closed = SL("action of a newer version");
    }
    ARRAY(r, ret->rules, ret->n_rules, m->n_rule);
    for (uint32_t i = 0; i < ret->n_rules; i++)
        TRY(authz_rule(r, NTH(at, "rule", i), m->rule[i], &ret->rules[i]));
    return 0;
}

/* --- Settings, Inbound, Names, Workload ------------------------------------------------------- */
static int filter(struct rd *r, const struct fpath *at, const PB(Filter) *m, struct prog_filter *ret)
{
    uint64_t cells;

    if (!m || m->fingerprints.len == 0)
        return 0;
    cells = ((uint64_t)m->segment_count + 2) * m->segment_length;
    if (m->segment_length < 4 || m->segment_length > 1u << 18 ||
        (m->segment_length & (m->segment_length - 1)) || m->segment_count < 1 ||
        cells != m->fingerprints.len)
        return bad(r, at, "%zu fingerprints for (%u + 2) segments of %u", m->fingerprints.len,
                   m->segment_count, m->segment_length);
    ret->seed = m->seed;
    ret->segment_length = m->segment_length;
    ret->segment_count = m->segment_count;
    return bytes(r, m->fingerprints, &ret->fingerprints);
}

static int settings(struct rd *r, const void *from, void *to)
{
    const PB(Settings) *m = from;
    struct prog_settings *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    TRY(text(r, m->trust_domain, &ret->trust_domain));
    TRY(text(r, m->cluster_domain, &ret->cluster_domain));
    TRY(text(r, m->mesh_id, &ret->mesh_id));
    TRY(bytes(r, m->roots_pem, &ret->roots_pem));
    TRY(texts(r, m->trust_domain_alias, m->n_trust_domain_alias, &ret->trust_domain_aliases));
    TRY(cidrs(r, AT(at, "pod_cidr"), m->pod_cidr, m->n_pod_cidr, &ret->pod_cidrs,
              &ret->n_pod_cidrs));
    TRY(filter(r, AT(at, "filter"), m->filter, &ret->filter));
    ret->registry_only = m->registry_only;
    ret->path_merge_slashes = m->path_merge_slashes;
    ret->discovery_wait_ms = m->discovery_wait_ms;
    ret->drain_ms = m->drain_ms;
    ret->eager = m->eager;
    if (m->trace_sampling_permyriad > 10000)
        return bad(r, AT(at, "trace_sampling_permyriad"), "%u of 10000",
                   m->trace_sampling_permyriad);
    ret->trace_sampling_permyriad = m->trace_sampling_permyriad;
    if (!m->access_log)
        return 0;
    ret->access_log.disabled = m->access_log->disabled;
    ret->access_log.json = m->access_log->json;
    return text(r, m->access_log->format, &ret->access_log.format);
}

static int workload(struct rd *r, const void *from, void *to)
{
    const PB(Workload) *m = from;
    struct prog_workload *ret = to;

    TRY(text(r, m->name, &ret->name));
    TRY(text(r, m->namespace_, &ret->namespace_));
    TRY(text(r, m->service_account, &ret->service_account));
    TRY(text(r, m->app, &ret->app));
    TRY(text(r, m->version, &ret->version));
    TRY(text(r, m->canonical_name, &ret->canonical_name));
    TRY(text(r, m->canonical_revision, &ret->canonical_revision));
    TRY(text(r, m->cluster, &ret->cluster));
    return text(r, m->principal, &ret->principal);
}

static int inbound_port(struct rd *r, const struct fpath *at, const PB(Inbound__Port) *m,
                        struct prog_inbound_port *ret)
{
    TRY(port(r, AT(at, "port"), m->port, &ret->port));
    ret->protocol = protocol((int)m->protocol);
    ret->mtls = mtls((int)m->mtls);
    TRY(text(r, m->service_host, &ret->service_host));
    TRY(text(r, m->service_name, &ret->service_name));
    return text(r, m->service_namespace, &ret->service_namespace);
}

static int inbound(struct rd *r, const void *from, void *to)
{
    const PB(Inbound) *m = from;
    struct prog_inbound *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    ret->mtls = mtls((int)m->mtls);
    TRY(text(r, m->closed, &ret->closed));
    if (m->self)
        TRY(workload(r, m->self, &ret->self));
    ARRAY(r, ret->ports, ret->n_ports, m->n_port);
    for (uint32_t i = 0; i < ret->n_ports; i++)
        TRY(inbound_port(r, NTH(at, "port", i), m->port[i], &ret->ports[i]));
    ARRAY(r, ret->policies, ret->n_policies, m->n_policy);
    for (uint32_t i = 0; i < ret->n_policies; i++)
        TRY(policy(r, NTH(at, "policy", i), m->policy[i], &ret->policies[i]));
    return 0;
}

static int name(struct rd *r, const struct fpath *at, const PB(Names__Name) *m,
                const struct prog_name *before, struct prog_name *ret)
{
    TRY(text(r, m->host, &ret->host));
    if (!ret->host.len)
        return bad(r, AT(at, "host"), "is required");
    if (before && slice_cmp(before->host, ret->host) >= 0)
        return bad(r, AT(at, "host"), "out of order");
    ARRAY(r, ret->address.p, ret->address.n, m->n_address);
    for (uint32_t i = 0; i < ret->address.n; i++) {
        if (m->address[i].len != 4 && m->address[i].len != 16)
            return bad(r, NTH(at, "address", i), "of %zu bytes", m->address[i].len);
        TRY(bytes(r, m->address[i], &ret->address.p[i]));
    }
    return 0;
}

static int names(struct rd *r, const void *from, void *to)
{
    const PB(Names) *m = from;
    struct prog_names *ret = to;

    ARRAY(r, ret->names, ret->n_names, m->n_name);
    for (uint32_t i = 0; i < ret->n_names; i++)
        TRY(name(r, NTH(&FPATH_ROOT, "name", i), m->name[i], i ? &ret->names[i - 1] : NULL,
                 &ret->names[i]));
    return 0;
}

/* --- Service ---------------------------------------------------------------------------------- */
static int field_matches(struct rd *r, const struct fpath *at, PB(FieldMatch) **m, size_t n,
                         struct prog_field_match **ret, uint32_t *ret_n)
{
    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        struct prog_field_match *f = &(*ret)[i];

        TRY(text(r, m[i]->name, &f->name));
        f->absent = m[i]->absent;
        TRY(string_match(r, &FPATH_INDEX(at, i), m[i]->match, &f->match));
    }
    return 0;
}

static int http_match(struct rd *r, const struct fpath *at, const PB(HttpMatch) *m,
                      struct prog_http_match *ret)
{
    TRY(string_match(r, AT(at, "uri"), m->uri, &ret->uri));
    TRY(string_match(r, AT(at, "scheme"), m->scheme, &ret->scheme));
    TRY(string_match(r, AT(at, "method"), m->method, &ret->method));
    TRY(string_match(r, AT(at, "authority"), m->authority, &ret->authority));
    TRY(field_matches(r, AT(at, "header"), m->header, m->n_header, &ret->headers,
                      &ret->n_headers));
    TRY(field_matches(r, AT(at, "query"), m->query, m->n_query, &ret->queries, &ret->n_queries));
    ret->ignore_uri_case = m->ignore_uri_case;
    return text(r, m->name, &ret->name);
}

static int header_fields(struct rd *r, const struct fpath *at, PB(HeaderOps__Field) **m, size_t n,
                         struct prog_field **ret, uint32_t *ret_n)
{
    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        TRY(text(r, m[i]->name, &(*ret)[i].name));
        if (!(*ret)[i].name.len)
            return bad(r, &FPATH_INDEX(at, i), "name is required");
        TRY(text(r, m[i]->value, &(*ret)[i].value));
    }
    return 0;
}

static int header_ops(struct rd *r, const struct fpath *at, const PB(HeaderOps) *m,
                      struct prog_header_ops *ret)
{
    if (!m)
        return 0;
    TRY(header_fields(r, AT(at, "set"), m->set, m->n_set, &ret->set, &ret->n_set));
    TRY(header_fields(r, AT(at, "add"), m->add, m->n_add, &ret->add, &ret->n_add));
    return texts(r, m->remove, m->n_remove, &ret->remove);
}

static int headers(struct rd *r, const struct fpath *at, const PB(Headers) *m,
                   struct prog_headers *ret)
{
    if (!m)
        return 0;
    TRY(header_ops(r, AT(at, "request"), m->request, &ret->request));
    return header_ops(r, AT(at, "response"), m->response, &ret->response);
}

static int destinations(struct rd *r, const struct fpath *at, PB(Destination) **m, size_t n,
                        uint32_t n_clusters, struct prog_destination **ret, uint32_t *ret_n,
                        uint32_t *ret_total)
{
    uint64_t total = 0;

    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++) {
        struct prog_destination *d = &(*ret)[i];
        const struct fpath *here = NTH(at, "destination", i);

        if (m[i]->cluster >= n_clusters)
            return bad(r, AT(here, "cluster"), "no cluster %u", m[i]->cluster);
        d->cluster = m[i]->cluster;
        d->weight = m[i]->weight;
        total += d->weight;
        TRY(headers(r, AT(here, "headers"), m[i]->headers, &d->headers));
    }
    if (*ret_n && (total == 0 || total > UINT32_MAX))
        return bad(r, AT(at, "destination"), "weights add up to %llu", (unsigned long long)total);
    *ret_total = (uint32_t)total;
    return 0;
}

static int redirect(struct rd *r, const struct fpath *at, const PB(Redirect) *m,
                    struct prog_redirect **ret)
{
    struct prog_redirect *d;

    ONE(r, d);
    TRY(text(r, m->uri, &d->uri));
    TRY(text(r, m->authority, &d->authority));
    TRY(text(r, m->scheme, &d->scheme));
    TRY(text(r, m->prefix_rewrite, &d->prefix_rewrite));
    if (m->port > 65535)
        return bad(r, AT(at, "port"), "%u is no port", m->port);
    if (m->code < 300 || m->code > 399)
        return bad(r, AT(at, "code"), "%u is no redirect", m->code);
    d->port = m->port;
    d->code = m->code;
    d->port_from_request = m->port_from_request;
    *ret = d;
    return 0;
}

static int rewrite(struct rd *r, const struct fpath *at, const PB(Rewrite) *m,
                   struct prog_rewrite **ret)
{
    char path[128];
    struct prog_rewrite *w;

    ONE(r, w);
    *ret = w;
    TRY(text(r, m->uri, &w->uri));
    TRY(text(r, m->authority, &w->authority));
    TRY(text(r, m->regex, &w->regex_text));
    TRY(text(r, m->substitution, &w->substitution));
    if (!w->regex_text.len)
        return 0;
    TRY(regex(r, AT(at, "regex"), w->regex_text, &w->regex));
    if (re_check_substitution(w->regex, w->substitution, r->err) < 0)
        return err_wrap(r->err, "%s", fpath_str(at, path, sizeof path));
    return 0;
}

static int retry(struct rd *r, const struct fpath *at, const PB(Retry) *m, struct prog_retry **ret)
{
    struct prog_retry *t;

    ONE(r, t);
    t->attempts = m->attempts;
    t->on = m->on;
    t->per_try_timeout_ms = m->per_try_timeout_ms;
    t->backoff_ms = m->backoff_ms;
    ARRAY(r, t->status, t->n_status, m->n_status);
    for (uint32_t i = 0; i < t->n_status; i++) {
        if (m->status[i] < 100 || m->status[i] > 599)
            return bad(r, NTH(at, "status", i), "%u is no status", m->status[i]);
        t->status[i] = m->status[i];
    }
    *ret = t;
    return 0;
}

static int fault(struct rd *r, const struct fpath *at, const PB(Fault) *m, struct prog_fault **ret)
{
    struct prog_fault *f;

    ONE(r, f);
    if (m->delay_permyriad > 10000 || m->abort_permyriad > 10000)
        return bad(r, at, "more than 10000 of 10000");
    if (m->abort_permyriad && m->abort_status &&
        (m->abort_status < 200 || m->abort_status > 599))
        return bad(r, AT(at, "abort_status"), "%u is no status", m->abort_status);
    f->delay_ms = m->delay_ms;
    f->delay_permyriad = m->delay_permyriad;
    f->abort_status = m->abort_status;
    f->abort_permyriad = m->abort_permyriad;
    f->abort_grpc = m->abort_grpc;
    *ret = f;
    return 0;
}

static int mirrors(struct rd *r, const struct fpath *at, const PB(HttpRoute) *m,
                   uint32_t n_clusters, struct prog_http_route *ret)
{
    ARRAY(r, ret->mirrors, ret->n_mirrors, m->n_mirror);
    for (uint32_t i = 0; i < ret->n_mirrors; i++) {
        const struct fpath *here = NTH(at, "mirror", i);

        if (m->mirror[i]->cluster >= n_clusters)
            return bad(r, AT(here, "cluster"), "no cluster %u", m->mirror[i]->cluster);
        if (m->mirror[i]->permyriad > 10000)
            return bad(r, AT(here, "permyriad"), "%u of 10000", m->mirror[i]->permyriad);
        ret->mirrors[i].cluster = m->mirror[i]->cluster;
        ret->mirrors[i].permyriad = m->mirror[i]->permyriad;
    }
    return 0;
}

static int http_action(struct rd *r, const struct fpath *at, const PB(HttpRoute) *m,
                       uint32_t n_clusters, struct prog_http_route *ret)
{
    if (m->redirect) {
        ret->action = PROG_REDIRECT;
        return redirect(r, AT(at, "redirect"), m->redirect, &ret->redirect);
    }
    if (m->direct) {
        ret->action = PROG_DIRECT;
        if (m->direct->status < 200 || m->direct->status > 599)
            return bad(r, AT(at, "direct"), "%u is no status", m->direct->status);
        ret->direct.status = m->direct->status;
        return bytes(r, m->direct->body, &ret->direct.body);
    }
    ret->action = PROG_FORWARD;
    return destinations(r, at, m->destination, m->n_destination, n_clusters, &ret->destinations,
                        &ret->n_destinations, &ret->total_weight);
}

static int http_route(struct rd *r, const struct fpath *at, const PB(HttpRoute) *m,
                      uint32_t n_clusters, struct prog_http_route *ret)
{
    TRY(text(r, m->name, &ret->name));
    TRY(text(r, m->origin, &ret->origin));
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
    return 0;
}

static int tcp_route(struct rd *r, const struct fpath *at, const PB(TcpRoute) *m,
                     uint32_t n_clusters, struct prog_tcp_route *ret)
{
    TRY(text(r, m->origin, &ret->origin));
    ARRAY(r, ret->matches, ret->n_matches, m->n_match);
    for (uint32_t i = 0; i < ret->n_matches; i++) {
        const PB(TcpMatch) *from = m->match[i];
        struct prog_tcp_match *to = &ret->matches[i];

        TRY(cidrs(r, AT(NTH(at, "match", i), "destination_subnet"), from->destination_subnet,
                  from->n_destination_subnet, &to->subnets, &to->n_subnets));
        TRY(texts(r, from->sni, from->n_sni, &to->sni));
    }
    return destinations(r, at, m->destination, m->n_destination, n_clusters, &ret->destinations,
                        &ret->n_destinations, &ret->total_weight);
}

static void cluster_limits(const PB(Cluster) *m, struct prog_cluster *ret)
{
    if (m->outlier) {
        ret->outlier.consecutive_5xx = m->outlier->consecutive_5xx;
        ret->outlier.interval_ms = m->outlier->interval_ms;
        ret->outlier.base_ejection_ms = m->outlier->base_ejection_ms;
        ret->outlier.max_ejection_percent = MIN(m->outlier->max_ejection_percent, 100u);
        ret->outlier.consecutive_gateway = m->outlier->consecutive_gateway;
        ret->outlier.consecutive_local = m->outlier->consecutive_local;
        ret->outlier.min_health_percent = MIN(m->outlier->min_health_percent, 100u);
    }
    if (m->pool) {
        ret->pool.max_connections = m->pool->max_connections;
        ret->pool.max_pending = m->pool->max_pending;
        ret->pool.max_requests = m->pool->max_requests;
        ret->pool.max_requests_per_connection = m->pool->max_requests_per_connection;
        ret->pool.max_retries = m->pool->max_retries;
        ret->pool.connect_timeout_ms = m->pool->connect_timeout_ms;
        ret->pool.idle_timeout_ms = m->pool->idle_timeout_ms;
    }
}

static int cluster(struct rd *r, const struct fpath *at, const PB(Cluster) *m,
                   struct prog_cluster *ret)
{
    TRY(text(r, m->name, &ret->name));
    TRY(text(r, m->host, &ret->host));
    TRY(text(r, m->subset, &ret->subset));
    TRY(text(r, m->sni, &ret->sni));
    TRY(text(r, m->service_name, &ret->service_name));
    TRY(text(r, m->service_namespace, &ret->service_namespace));
    TRY(text(r, m->problem, &ret->problem));
    TRY(texts(r, m->endpoints, m->n_endpoints, &ret->endpoints));
    TRY(texts(r, m->dns_host, m->n_dns_host, &ret->dns));
    TRY(texts(r, m->subject_alt_name, m->n_subject_alt_name, &ret->subject_alt_names));
    if (m->port > 65535)
        return bad(r, AT(at, "port"), "%u is no port", m->port);
    ret->port = (uint16_t)m->port;
    if (m->subset_selector.len != 0 && m->subset_selector.len != 8)
        return bad(r, AT(at, "subset_selector"), "of %zu bytes", m->subset_selector.len);
    for (size_t i = 0; i < m->subset_selector.len; i++)
        ret->subset_selector = ret->subset_selector << 8 | m->subset_selector.data[i];
    ret->protocol = protocol((int)m->protocol);
    ret->original_dst = m->original_dst;
    ret->balancer = (int)m->balancer >= PROG_ROUND_ROBIN && (int)m->balancer <= PROG_HASH
                        ? (enum prog_balancer)m->balancer
                        : PROG_LEAST_REQUEST;
    ret->tls = (int)m->tls >= PROG_TLS_AUTO && (int)m->tls <= PROG_TLS_MUTUAL
                   ? (enum prog_tls)m->tls
                   : PROG_TLS_MUTUAL_MESH;
    cluster_limits(m, ret);
    return 0;
}

static int service(struct rd *r, const void *from, void *to)
{
    const PB(Service) *m = from;
    struct prog_service *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    TRY(text(r, m->host, &ret->host));
    TRY(text(r, m->name, &ret->name));
    TRY(text(r, m->namespace_, &ret->namespace_));
    TRY(port(r, AT(at, "port"), m->port, &ret->port));
    ret->protocol = protocol((int)m->protocol);
    ARRAY(r, ret->clusters, ret->n_clusters, m->n_cluster);
    for (uint32_t i = 0; i < ret->n_clusters; i++)
        TRY(cluster(r, NTH(at, "cluster", i), m->cluster[i], &ret->clusters[i]));
    ARRAY(r, ret->http, ret->n_http, m->n_http);
    for (uint32_t i = 0; i < ret->n_http; i++)
        TRY(http_route(r, NTH(at, "http", i), m->http[i], ret->n_clusters, &ret->http[i]));
    ARRAY(r, ret->tcp, ret->n_tcp, m->n_tcp);
    for (uint32_t i = 0; i < ret->n_tcp; i++)
        TRY(tcp_route(r, NTH(at, "tcp", i), m->tcp[i], ret->n_clusters, &ret->tcp[i]));
    return 0;
}

/* --- Endpoints -------------------------------------------------------------------------------- */
#define NO_INDEX UINT16_MAX

static uint16_t index_or_none(uint32_t i, uint32_t n)
{
    return i < n ? (uint16_t)i : NO_INDEX;
}

static int endpoint(struct rd *r, const struct fpath *at, const PB(Endpoints__Endpoint) *m,
                    const struct prog_endpoints *all, struct prog_endpoint *ret)
{
    if (m->address.len != 4 && m->address.len != 16)
        return bad(r, AT(at, "address"), "of %zu bytes", m->address.len);
    memcpy(ret->address, m->address.data, m->address.len);
    ret->address_len = (uint8_t)m->address.len;
    TRY(port(r, AT(at, "port"), m->port, &ret->port));
    ret->identity = index_or_none(m->identity, all->identities.n);
    ret->locality = index_or_none(m->locality, all->localities.n);
    ret->weight = m->weight ? m->weight : 1;
    ret->subsets = m->subsets;
    ret->mtls = m->mtls;
    ret->draining = m->draining;
    return 0;
}

static int endpoints(struct rd *r, const void *from, void *to)
{
    const PB(Endpoints) *m = from;
    struct prog_endpoints *ret = to;
    const struct fpath *at = &FPATH_ROOT;

    if (m->n_selector > 64)
        return bad(r, AT(at, "selector"), "%zu, at most 64", m->n_selector);
    if (m->n_identity >= NO_INDEX || m->n_locality >= NO_INDEX)
        return bad(r, at, "more than 65534 identities or localities");
    TRY(texts(r, m->identity, m->n_identity, &ret->identities));
    TRY(texts(r, m->locality, m->n_locality, &ret->localities));
    ARRAY(r, ret->selectors, ret->n_selectors, m->n_selector);
    for (uint32_t i = 0; i < ret->n_selectors; i++)
        ret->selectors[i] = m->selector[i];
    ARRAY(r, ret->p, ret->n, m->n_endpoint);
    for (uint32_t i = 0; i < ret->n; i++)
        TRY(endpoint(r, NTH(at, "endpoint", i), m->endpoint[i], ret, &ret->p[i]));
    return 0;
}

/* --- entry ------------------------------------------------------------------------------------ */
static const struct {
    const ProtobufCMessageDescriptor *desc;
    size_t size;
    int (*decode)(struct rd *r, const void *from, void *to);
} kinds[] = {
    [PROG_SETTINGS] = {PB_DESC(settings), sizeof(struct prog_settings), settings},
    [PROG_INBOUND] = {PB_DESC(inbound), sizeof(struct prog_inbound), inbound},
    [PROG_NAMES] = {PB_DESC(names), sizeof(struct prog_names), names},
    [PROG_SERVICE] = {PB_DESC(service), sizeof(struct prog_service), service},
    [PROG_ENDPOINTS] = {PB_DESC(endpoints), sizeof(struct prog_endpoints), endpoints},
    [PROG_WORKLOAD] = {PB_DESC(workload), sizeof(struct prog_workload), workload},
};

const char *prog_kind_name(enum prog_kind kind)
{
    return kind >= PROG_SETTINGS && kind <= PROG_WORKLOAD ? kinds[kind].desc->short_name
                                                          : "unknown";
}

enum { WASTE_MAX = 96 }; /* of a decoded resource, bytes; a block's head is among them */

static int decode_in(enum prog_kind kind, struct slice key, struct slice version,
                     ProtobufCMessage *m, size_t cap, size_t room, unsigned *ret_regexes,
                     struct prog **ret, struct err *err)
{
    CLEANUP(prog_unrefp)
    struct prog *res = prog_new_room(kind, kinds[kind].size, key, version, room);
    struct rd r = {.err = err};

    if (!res)
        return err_set(err, ERR_NOMEM, "%s", prog_kind_name(kind));
    res->arena.cap = cap;
    r.a = &res->arena;
    if (kinds[kind].decode(&r, m, res) < 0)
        return err_wrap(err, "%s %.*s", prog_kind_name(kind), (int)MIN(key.len, (size_t)64),
                        key.p ? key.p : "");
    *ret_regexes = r.regexes;
    *ret = TAKE(res);
    return 0;
}

int wire_resource_decode(enum prog_kind kind, struct slice key, struct slice version,
                         struct slice payload, struct prog **ret, struct err *err)
{
    CLEANUP(arena_free) struct arena tmp = ARENA_INIT;
    struct prog *res, *tight;
    unsigned regexes;
    struct wire_version own;
    ProtobufCMessage *m;
    struct err ignored = {0};

    if (kind < PROG_SETTINGS || kind > PROG_WORKLOAD)
        return err_set(err, ERR_UNSUPPORTED, "resource kind %d", (int)kind);
    if (payload.len > WIRE_MAX_PAYLOAD || key.len > WIRE_MAX_KEY)
        return err_set(err, ERR_LIMIT, "%s of %zu bytes", prog_kind_name(kind), payload.len);
    if (version.len == 0) {
        own = wire_version(payload);
        version = slice_of(own.bytes, sizeof own.bytes);
    }
    arena_init(&tmp, 4096, wire_arena_cap(payload.len));
    if (pb_unpack(&tmp, kinds[kind].desc, payload, &m, err) < 0)
        return -1;
    if (decode_in(kind, key, version, m, wire_arena_cap(payload.len), 0, &regexes, &res, err) < 0)
        return -1;
    /* A resource is held for long, a thousand of them at times. Now that its size is known it is made
     * once more, in one block that it fills. (A regular expression would be compiled twice.) */
    size_t content = arena_content(&res->arena);
    if (!regexes && content + WASTE_MAX < res->arena.used &&
        decode_in(kind, key, version, m, wire_arena_cap(payload.len), content, &regexes, &tight,
                  &ignored) == 0) {
        prog_unref(res);
        res = tight;
    }
    *ret = res;
    return 0;
}
