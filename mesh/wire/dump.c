/* SPDX-License-Identifier: Apache-2.0 */
/* Resources as text for people and goldens: one fact a line, two blanks a level, empty ones left out,
 * order as in the resource. Long blobs are shown by length and hash. */
#include <stdarg.h>
#include <stdio.h>

#include "lib/base/hash.h"
#include "lib/data/duration.h"
#include "mesh/wire/wire_int.h"

struct dump {
    struct buf *out;
    int level;
};

static void line(struct dump *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void line(struct dump *d, const char *fmt, ...)
{
    va_list ap;

    for (int i = 0; i < d->level; i++)
        buf_add(d->out, "  ", 2);
    va_start(ap, fmt);
    buf_vaddf(d->out, fmt, ap);
    va_end(ap);
    buf_add_char(d->out, '\n');
}

/* Bytes that a terminal should not see become \xNN. */
static void quoted(struct buf *out, struct slice s)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            buf_addf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            buf_addf(out, "\\x%02x", c);
        else
            buf_add_char(out, (char)c);
    }
    buf_add_char(out, '"');
}

static void begin(struct dump *d, const char *name)
{
    for (int i = 0; i < d->level; i++)
        buf_add(d->out, "  ", 2);
    buf_addf(d->out, "%s: ", name);
}

static void text(struct dump *d, const char *name, struct slice s)
{
    if (!s.len)
        return;
    begin(d, name);
    quoted(d->out, s);
    buf_add_char(d->out, '\n');
}

static void texts(struct dump *d, const char *name, const struct prog_strings *l)
{
    if (!l->n)
        return;
    begin(d, name);
    for (uint32_t i = 0; i < l->n; i++) {
        buf_add_str(d->out, i ? ", " : "[");
        quoted(d->out, l->p[i]);
    }
    buf_add_str(d->out, "]\n");
}

static void number(struct dump *d, const char *name, uint64_t v)
{
    if (v)
        line(d, "%s: %llu", name, (unsigned long long)v);
}

static void ms(struct dump *d, const char *name, uint32_t v)
{
    char one[40];

    if (v)
        line(d, "%s: %s", name, duration_format((int64_t)v * 1000000, one));
}

static void flag(struct dump *d, const char *name, bool v)
{
    if (v)
        line(d, "%s: true", name);
}

static void blob(struct dump *d, const char *name, struct slice s)
{
    if (s.len)
        line(d, "%s: %zu bytes, hash %016llx", name, s.len, (unsigned long long)hash64(s, 0));
}

static void cidrs(struct dump *d, const char *name, const struct cidr *c, uint32_t n)
{
    char one[CIDR_TEXT];

    if (!n)
        return;
    begin(d, name);
    for (uint32_t i = 0; i < n; i++)
        buf_addf(d->out, "%s%s", i ? ", " : "[", cidr_format(&c[i], one));
    buf_add_str(d->out, "]\n");
}

static const char *const protocols[] = {"AUTO", "TCP", "TLS", "HTTP", "HTTP2", "GRPC"};
static const char *const mtls_modes[] = {"UNSET", "DISABLE", "PERMISSIVE", "STRICT"};
static const char *const actions[] = {"DENY", "ALLOW", "AUDIT", "CUSTOM"};
static const char *const balancers[] = {"ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "PASSTHROUGH",
                                        "HASH"};
static const char *const tls_modes[] = {"AUTO", "DISABLE", "MUTUAL_MESH", "SIMPLE", "MUTUAL"};
static const char *const match_kinds[] = {"any", "exact", "prefix", "regex", "present", "never"};

/* --- Settings, Workload, Names, Inbound ------------------------------------------------------- */
static void settings(struct dump *d, const struct prog_settings *s)
{
    text(d, "trust domain", s->trust_domain);
    texts(d, "trust domain aliases", &s->trust_domain_aliases);
    text(d, "cluster domain", s->cluster_domain);
    text(d, "mesh id", s->mesh_id);
    blob(d, "roots", s->roots_pem);
    line(d, "outbound: %s", s->registry_only ? "REGISTRY_ONLY" : "ALLOW_ANY");
    ms(d, "discovery wait", s->discovery_wait_ms);
    ms(d, "drain", s->drain_ms);
    flag(d, "eager", s->eager);
    flag(d, "egress proxy", s->egress_proxy);
    flag(d, "listeners", s->listeners);
    number(d, "issuer wanted", s->issuer);
    number(d, "renew within s", s->renew_within_s);
    flag(d, "merge slashes", s->path_merge_slashes);
    number(d, "trace sampling of 10000", s->trace_sampling_permyriad);
    cidrs(d, "pod addresses", s->pod_cidrs, s->n_pod_cidrs);
    blob(d, "filter", s->filter.fingerprints);
    flag(d, "access log disabled", s->access_log.disabled);
    flag(d, "access log json", s->access_log.json);
    text(d, "access log format", s->access_log.format);
}

static void workload(struct dump *d, const struct prog_workload *w)
{
    text(d, "name", w->name);
    text(d, "namespace", w->namespace_);
    text(d, "service account", w->service_account);
    text(d, "app", w->app);
    text(d, "version", w->version);
    text(d, "canonical name", w->canonical_name);
    text(d, "canonical revision", w->canonical_revision);
    text(d, "cluster", w->cluster);
    text(d, "principal", w->principal);
    text(d, "locality", w->locality);
    text(d, "node", w->node);
}

static void addresses(struct dump *d, const struct prog_strings *l)
{
    char one[IP_TEXT];
    struct ipaddr ip;

    for (uint32_t i = 0; i < l->n; i++)
        buf_addf(d->out, " %s", ip_from_bytes(l->p[i], &ip) ? ip_format(&ip, one) : "?");
}

static void names(struct dump *d, const struct prog_names *n)
{
    for (uint32_t i = 0; i < n->n_names; i++) {
        buf_addf(d->out, "  %.*s:", SL_FMT(n->names[i].host));
        addresses(d, &n->names[i].address);
        buf_add_char(d->out, '\n');
    }
}

static void rule(struct dump *d, const struct authz_rule *r)
{
    for (uint32_t i = 0; i < r->n_from; i++) {
        const struct authz_source *s = &r->from[i];

        line(d, "from:");
        d->level++;
        texts(d, "principals", &s->principals);
        texts(d, "not principals", &s->not_principals);
        texts(d, "namespaces", &s->namespaces);
        texts(d, "not namespaces", &s->not_namespaces);
        texts(d, "service accounts", &s->service_accounts);
        texts(d, "not service accounts", &s->not_service_accounts);
        cidrs(d, "ip blocks", s->ip_blocks, s->n_ip_blocks);
        cidrs(d, "not ip blocks", s->not_ip_blocks, s->n_not_ip_blocks);
        d->level--;
    }
    for (uint32_t i = 0; i < r->n_to; i++) {
        const struct authz_operation *o = &r->to[i];

        line(d, "to:");
        d->level++;
        texts(d, "hosts", &o->hosts);
        texts(d, "not hosts", &o->not_hosts);
        texts(d, "ports", &o->ports);
        texts(d, "not ports", &o->not_ports);
        texts(d, "methods", &o->methods);
        texts(d, "not methods", &o->not_methods);
        texts(d, "paths", &o->paths);
        texts(d, "not paths", &o->not_paths);
        d->level--;
    }
    for (uint32_t i = 0; i < r->n_when; i++) {
        line(d, "when %.*s:", SL_FMT(r->when[i].key));
        d->level++;
        texts(d, "values", &r->when[i].values);
        texts(d, "not values", &r->when[i].not_values);
        d->level--;
    }
}

static void pool(struct dump *d, const struct prog_cluster *c)
{
    number(d, "max connections", c->pool.max_connections);
    number(d, "max pending", c->pool.max_pending);
    number(d, "max requests", c->pool.max_requests);
    number(d, "max requests per connection", c->pool.max_requests_per_connection);
    number(d, "max retries", c->pool.max_retries);
    ms(d, "connect timeout", c->pool.connect_timeout_ms);
    ms(d, "idle timeout", c->pool.idle_timeout_ms);
    number(d, "max streams", c->pool.max_streams);
    ms(d, "ping interval", c->pool.ping_interval_ms);
    ms(d, "ping timeout", c->pool.ping_timeout_ms);
}

static void inbound(struct dump *d, const struct prog_inbound *in)
{
    text(d, "closed", in->closed);
    line(d, "mtls: %s", mtls_modes[in->mtls]);
    for (uint32_t i = 0; i < in->n_ports; i++) {
        const struct prog_inbound_port *p = &in->ports[i];

        line(d, "port %u: %s, mtls %s%s%.*s%s%.*s", p->port, protocols[p->protocol],
             mtls_modes[p->mtls], p->service_host.len ? ", " : "", SL_FMT(p->service_host),
             p->endpoint.len ? ", to " : "", SL_FMT(p->endpoint));
        d->level++;
        if (p->tls)
            dump_gate(p->tls, "    ", d->out);
        if (p->limits)
            pool(d, p->limits);
        if (p->limits && p->limits->policy)
            dump_policy(p->limits->policy, d->level, d->out);
        d->level--;
    }
    for (uint32_t i = 0; i < in->n_policies; i++) {
        const struct authz_policy *p = &in->policies[i];

        line(d, "policy %.*s/%.*s: %s%s", SL_FMT(p->namespace_), SL_FMT(p->name),
             actions[p->action], p->dry_run ? ", dry run" : "");
        d->level++;
        text(d, "closed", p->closed);
        for (uint32_t k = 0; k < p->n_rules; k++) {
            line(d, "rule %u:", k);
            d->level++;
            rule(d, &p->rules[k]);
            d->level--;
        }
        d->level--;
    }
    line(d, "self:");
    d->level++;
    workload(d, &in->self);
    d->level--;
}

/* --- Service ---------------------------------------------------------------------------------- */
static void condition(struct dump *d, const char *name, const struct prog_string_match *m)
{
    if (m->kind == PROG_MATCH_NONE)
        return;
    begin(d, name);
    buf_add_str(d->out, match_kinds[m->kind]);
    if (m->value.len || m->kind == PROG_MATCH_EXACT) {
        buf_add_char(d->out, ' ');
        quoted(d->out, m->value);
    }
    buf_add_char(d->out, '\n');
}

static void field_conditions(struct dump *d, const char *what, const struct prog_field_match *f,
                             uint32_t n)
{
    char name[256];

    for (uint32_t i = 0; i < n; i++) {
        struct prog_string_match m = f[i].match;

        if (m.kind == PROG_MATCH_NONE)
            m.kind = PROG_MATCH_PRESENT;
        snprintf(name, sizeof name, "%s%s %.*s", f[i].absent ? "without " : "", what,
                 SL_FMT(f[i].name));
        condition(d, name, &m);
    }
}

static void http_match(struct dump *d, const struct prog_http_match *m)
{
    line(d, "match%s%.*s:", m->name.len ? " " : "", SL_FMT(m->name));
    d->level++;
    condition(d, m->ignore_uri_case ? "uri (any case)" : "uri", &m->uri);
    condition(d, "scheme", &m->scheme);
    condition(d, "method", &m->method);
    condition(d, "authority", &m->authority);
    field_conditions(d, "header", m->headers, m->n_headers);
    field_conditions(d, "query", m->queries, m->n_queries);
    d->level--;
}

static void header_ops(struct dump *d, const char *what, const struct prog_header_ops *o)
{
    for (uint32_t i = 0; i < o->remove.n; i++)
        line(d, "%s: remove %.*s", what, SL_FMT(o->remove.p[i]));
    for (uint32_t i = 0; i < o->n_set; i++)
        line(d, "%s: set %.*s: %.*s", what, SL_FMT(o->set[i].name), SL_FMT(o->set[i].value));
    for (uint32_t i = 0; i < o->n_add; i++)
        line(d, "%s: add %.*s: %.*s", what, SL_FMT(o->add[i].name), SL_FMT(o->add[i].value));
}

static void headers(struct dump *d, const struct prog_headers *h)
{
    header_ops(d, "request headers", &h->request);
    header_ops(d, "response headers", &h->response);
}

static void destinations(struct dump *d, const struct prog_destination *to, uint32_t n,
                         uint32_t total)
{
    for (uint32_t i = 0; i < n; i++) {
        line(d, "to cluster %u: weight %u of %u", to[i].cluster, to[i].weight, total);
        d->level++;
        headers(d, &to[i].headers);
        d->level--;
    }
}

static void redirect(struct dump *d, const struct prog_redirect *r)
{
    line(d, "redirect: %u", r->code);
    d->level++;
    text(d, "scheme", r->scheme);
    text(d, "authority", r->authority);
    number(d, "port", r->port);
    flag(d, "port from request", r->port_from_request);
    text(d, "uri", r->uri);
    text(d, "prefix rewrite", r->prefix_rewrite);
    d->level--;
}

static void rewrite(struct dump *d, const struct prog_rewrite *w)
{
    text(d, "rewrite uri", w->uri);
    text(d, "rewrite authority", w->authority);
    if (w->regex_text.len) {
        text(d, "rewrite regex", w->regex_text);
        text(d, "substitution", w->substitution);
    }
}

static void retry(struct dump *d, const struct prog_retry *r)
{
    static const char *const names_of[] = {
        "5xx", "gateway-error", "connect-failure", "refused-stream", "reset", "retriable-4xx",
        "retriable-status-codes", "unavailable", "cancelled", "deadline-exceeded",
        "resource-exhausted", "internal", "reset-before-request"};
    const char *comma = "";

    begin(d, "retry");
    buf_addf(d->out, "%u on ", r->attempts);
    for (size_t i = 0; i < N_OF(names_of); i++)
        if (r->on & (1u << i)) {
            buf_addf(d->out, "%s%s", comma, names_of[i]);
            comma = ",";
        }
    for (uint32_t i = 0; i < r->n_status; i++)
        buf_addf(d->out, ",%u", r->status[i]);
    buf_add_char(d->out, '\n');
    d->level++;
    ms(d, "per try timeout", r->per_try_timeout_ms);
    ms(d, "backoff", r->backoff_ms);
    flag(d, "elsewhere", r->elsewhere);
    flag(d, "same hosts", r->same_hosts);
    d->level--;
}

static void fault(struct dump *d, const struct prog_fault *f)
{
    if (f->delay_ms)
        line(d, "fault delay: %u ms for %u of 10000", f->delay_ms, f->delay_permyriad);
    if (f->abort_permyriad && f->abort_grpc >= 0)
        line(d, "fault abort: grpc %d for %u of 10000", f->abort_grpc, f->abort_permyriad);
    else if (f->abort_permyriad)
        line(d, "fault abort: %u for %u of 10000", f->abort_status, f->abort_permyriad);
}

static void cors(struct dump *d, const struct prog_cors *c)
{
    line(d, "cors:");
    d->level++;
    for (uint32_t i = 0; i < c->n_origins; i++)
        condition(d, "origin", &c->origins[i]);
    text(d, "allow methods", c->allow_methods);
    text(d, "allow headers", c->allow_headers);
    text(d, "expose headers", c->expose_headers);
    text(d, "max age", c->max_age);
    flag(d, "allow credentials", c->allow_credentials);
    flag(d, "keep unmatched preflights", c->keep_unmatched);
    d->level--;
}

static void http_route(struct dump *d, const struct prog_http_route *r, uint32_t i)
{
    line(d, "http[%u]:%s%.*s%s%.*s%s", i, r->name.len ? " " : "", SL_FMT(r->name),
         r->origin.len ? " (" : "", SL_FMT(r->origin), r->origin.len ? ")" : "");
    d->level++;
    for (uint32_t k = 0; k < r->n_matches; k++)
        http_match(d, &r->matches[k]);
    if (r->fault)
        fault(d, r->fault);
    if (r->cors)
        cors(d, r->cors);
    if (r->action == PROG_REDIRECT)
        redirect(d, r->redirect);
    if (r->action == PROG_DIRECT) {
        line(d, "direct response: %u", r->direct.status);
        text(d, "body", r->direct.body);
    }
    destinations(d, r->destinations, r->n_destinations, r->total_weight);
    if (r->rewrite)
        rewrite(d, r->rewrite);
    headers(d, &r->headers);
    ms(d, "timeout", r->timeout_ms);
    if (r->retry)
        retry(d, r->retry);
    for (uint32_t k = 0; k < r->n_mirrors; k++)
        line(d, "mirror to cluster %u: %u of 10000", r->mirrors[k].cluster, r->mirrors[k].permyriad);
    d->level--;
}

static void tcp_route(struct dump *d, const struct prog_tcp_route *r, uint32_t i)
{
    line(d, "tcp[%u]:%s%.*s%s", i, r->origin.len ? " (" : "", SL_FMT(r->origin),
         r->origin.len ? ")" : "");
    d->level++;
    for (uint32_t k = 0; k < r->n_matches; k++) {
        line(d, "match:");
        d->level++;
        cidrs(d, "destination", r->matches[k].subnets, r->matches[k].n_subnets);
        cidrs(d, "source", r->matches[k].sources, r->matches[k].n_sources);
        texts(d, "sni", &r->matches[k].sni);
        d->level--;
    }
    destinations(d, r->destinations, r->n_destinations, r->total_weight);
    d->level--;
}

static void cluster(struct dump *d, const struct prog_cluster *c, uint32_t i)
{
    line(d, "cluster[%u]: %.*s", i, SL_FMT(c->name));
    d->level++;
    text(d, "problem", c->problem);
    line(d, "protocol: %s", protocols[c->protocol]);
    flag(d, "client's protocol", c->client_protocol);
    flag(d, "HTTP/1.1 kept", c->keep_http1);
    line(d, "balancer: %s", balancers[c->balancer]);
    line(d, "tls: %s", tls_modes[c->tls]);
    text(d, "sni", c->sni);
    texts(d, "subject alt names", &c->subject_alt_names);
    flag(d, "original destination", c->original_dst);
    texts(d, "endpoints", &c->endpoints);
    texts(d, "resolve", &c->dns);
    flag(d, "first address", c->dns_first);
    if (c->subset_selector)
        line(d, "selector: %016llx", (unsigned long long)c->subset_selector);
    text(d, "service", c->service_name);
    text(d, "namespace", c->service_namespace);
    pool(d, c);
    dump_policy(c->policy, d->level, d->out);
    d->level--;
}

static void service(struct dump *d, const struct prog_service *s)
{
    text(d, "host", s->host);
    text(d, "name", s->name);
    text(d, "namespace", s->namespace_);
    text(d, "gate", s->gate);
    line(d, "port: %u", s->port);
    line(d, "protocol: %s", protocols[s->protocol]);
    for (uint32_t i = 0; i < s->n_http; i++)
        http_route(d, &s->http[i], i);
    for (uint32_t i = 0; i < s->n_tcp; i++)
        tcp_route(d, &s->tcp[i], i);
    for (uint32_t i = 0; i < s->n_clusters; i++)
        cluster(d, &s->clusters[i], i);
}

/* --- Endpoints -------------------------------------------------------------------------------- */
static void endpoints(struct dump *d, const struct prog_endpoints *e)
{
    char ip_text[IP_TEXT];
    struct ipaddr ip;

    for (uint32_t i = 0; i < e->n_selectors; i++)
        line(d, "selector[%u]: %016llx", i, (unsigned long long)e->selectors[i]);
    for (uint32_t i = 0; i < e->n + e->n_named; i++) {
        const struct prog_endpoint *p = &e->p[i];
        bool known = ip_from_bytes(slice_of(p->address, p->address_len), &ip);
        bool v6 = p->address_len == 16;

        begin(d, "endpoint");
        if (i < e->n)
            buf_addf(d->out, "%s%s%s:%u", v6 ? "[" : "", known ? ip_format(&ip, ip_text) : "?",
                     v6 ? "]" : "", p->port);
        else
            buf_addf(d->out, "%.*s", SL_FMT(e->names.p[i - e->n]));
        buf_addf(d->out, " weight %u%s%s", p->weight, p->mtls ? " mtls" : "",
                 p->draining ? " draining" : "");
        if (p->subsets)
            buf_addf(d->out, " subsets %llx", (unsigned long long)p->subsets);
        if (p->locality < e->localities.n)
            buf_addf(d->out, " in %.*s", SL_FMT(e->localities.p[p->locality]));
        if (p->identity < e->identities.n)
            buf_addf(d->out, " %.*s", SL_FMT(e->identities.p[p->identity]));
        buf_add_char(d->out, '\n');
    }
}

void prog_dump(const struct prog *r, struct buf *out)
{
    struct dump d = {.out = out, .level = 1};

    buf_addf(out, "%s%s%.*s\n", prog_kind_name(r->kind), r->key.len ? " " : "", SL_FMT(r->key));
    switch (r->kind) {
    case PROG_SETTINGS:
        settings(&d, (const struct prog_settings *)r);
        break;
    case PROG_INBOUND:
        inbound(&d, (const struct prog_inbound *)r);
        break;
    case PROG_NAMES:
        names(&d, (const struct prog_names *)r);
        break;
    case PROG_SERVICE:
        service(&d, (const struct prog_service *)r);
        break;
    case PROG_ENDPOINTS:
        endpoints(&d, (const struct prog_endpoints *)r);
        break;
    case PROG_WORKLOAD:
        workload(&d, (const struct prog_workload *)r);
        break;
    case PROG_LISTENERS:
        dump_listeners((const struct prog_listeners *)r, out);
        break;
    case PROG_CREDENTIAL:
        dump_credential((const struct prog_credential *)r, out);
        break;
    }
}
