/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/authz.h"

#include <stdio.h>

#include "lib/data/spiffe.h"

/* A rule is evaluated towards one of two sides: ALLOW must be sure that it holds, DENY (and CUSTOM)
 * must be sure that it does not. Where a part cannot be known, the answer is the side's safe one. */
enum side { SIDE_ALLOW, SIDE_DENY };

struct peer { /* of the certificate */
    bool known;
    struct slice trust_domain, rest, ns, sa; /* rest: from "/ns/" on */
    bool own; /* trust domain is the mesh's or an alias */
};
struct ctx {
    const struct authz_request *r;
    struct peer peer;
    enum side side;
    struct slice policy_namespace;
};

/* --- values ----------------------------------------------------------------------------------- */
/* Text in two pieces, so that a trust domain can be exchanged without copying. */
static bool starts2(struct slice a, struct slice b, struct slice prefix)
{
    return prefix.len <= a.len
               ? slice_starts(a, prefix)
               : slice_starts(prefix, a) && slice_starts(b, slice_skip(prefix, a.len));
}

static bool ends2(struct slice a, struct slice b, struct slice suffix)
{
    return suffix.len <= b.len
               ? slice_ends(b, suffix)
               : slice_ends(suffix, b) && slice_ends(a, slice_head(suffix, suffix.len - b.len));
}

static bool value_match2(struct slice v, struct slice a, struct slice b)
{
    size_t len = a.len + b.len;

    if (v.len == 1 && v.p[0] == '*')
        return len > 0;
    if (v.len > 1 && v.p[0] == '*')
        return ends2(a, b, slice_skip(v, 1));
    if (v.len > 1 && v.p[v.len - 1] == '*')
        return starts2(a, b, slice_head(v, v.len - 1));
    return v.len == len && starts2(a, b, v);
}

bool authz_value_match(struct slice value, struct slice text)
{
    return value_match2(value, text, SLICE_NULL);
}

static bool value_imatch(struct slice v, struct slice text)
{
    if (v.len == 1 && v.p[0] == '*')
        return text.len > 0;
    if (v.len > 1 && v.p[0] == '*') {
        v = slice_skip(v, 1);
        return text.len >= v.len && slice_ieq(slice_skip(text, text.len - v.len), v);
    }
    if (v.len > 1 && v.p[v.len - 1] == '*')
        return slice_istarts(text, slice_head(v, v.len - 1));
    return slice_ieq(v, text);
}

/* --- path templates --------------------------------------------------------------------------- */
static bool is_template(struct slice v)
{
    return slice_find(v, SL("{*}")) >= 0 || slice_find(v, SL("{**}")) >= 0;
}

bool authz_template_ok(struct slice v)
{
    bool last = false; /* "{**}" was seen: only literals may follow */

    if (v.len == 0 || v.p[0] != '/')
        return false;
    for (size_t i = 0; i < v.len; i++) {
        struct slice at = slice_skip(v, i);
        size_t n;

        if (v.p[i] == '}' || v.p[i] == '*')
            return false;
        if (v.p[i] != '{')
            continue;
        n = slice_starts(at, SL("{**}")) ? 4 : slice_starts(at, SL("{*}")) ? 3 : 0;
        if (!n || last || v.p[i - 1] != '/' || (i + n < v.len && v.p[i + n] != '/'))
            return false;
        last = n == 4;
        i += n - 1;
    }
    return true;
}

static bool template_match(struct slice v, struct slice path)
{
    while (v.len) {
        if (slice_starts(v, SL("{**}")))
            return slice_ends(path, slice_skip(v, 4));
        if (slice_starts(v, SL("{*}"))) {
            ptrdiff_t slash = slice_chr(path, '/');
            size_t n = slash < 0 ? path.len : (size_t)slash;

            if (n == 0)
                return false;
            path = slice_skip(path, n);
            v = slice_skip(v, 3);
            continue;
        }
        if (!path.len || path.p[0] != v.p[0])
            return false;
        path = slice_skip(path, 1);
        v = slice_skip(v, 1);
    }
    return path.len == 0;
}

bool authz_path_match(struct slice value, struct slice path)
{
    return is_template(value) ? authz_template_ok(value) && template_match(value, path)
                              : authz_value_match(value, path);
}

/* --- the peer --------------------------------------------------------------------------------- */
static bool own_domain(const struct authz_request *r, struct slice td)
{
    if (slice_eq(td, r->trust_domain))
        return true;
    for (uint32_t i = 0; r->trust_domain_aliases && i < r->trust_domain_aliases->n; i++)
        if (slice_eq(td, r->trust_domain_aliases->p[i]))
            return true;
    return false;
}

static struct peer peer_of(const struct authz_request *r)
{
    struct peer p = {0};
    struct spiffe_id id;

    if (!r->principal.len || spiffe_parse(r->principal, &id) != ERR_OK)
        return p;
    p.known = true;
    p.trust_domain = id.trust_domain;
    p.rest = id.path;
    p.ns = id.ns;
    p.sa = id.sa;
    p.own = own_domain(r, id.trust_domain);
    return p;
}

/* "cluster.local/ns/shop/sa/web" and its wildcards. A peer of this mesh may carry any of the mesh's
 * trust domains, and a policy may name any of them. */
static bool principal_match(const struct ctx *c, struct slice v)
{
    const struct peer *p = &c->peer;

    if (!p->known)
        return false;
    if (slice_starts(v, SL("spiffe://")))
        v = slice_skip(v, sizeof "spiffe://" - 1);
    if (value_match2(v, p->trust_domain, p->rest))
        return true;
    if (!p->own)
        return false;
    if (value_match2(v, c->r->trust_domain, p->rest))
        return true;
    for (uint32_t i = 0; c->r->trust_domain_aliases && i < c->r->trust_domain_aliases->n; i++)
        if (value_match2(v, c->r->trust_domain_aliases->p[i], p->rest))
            return true;
    return false;
}

/* "ns/name", or "name" in the policy's own namespace. */
static bool service_account_match(const struct ctx *c, struct slice v)
{
    ptrdiff_t slash = slice_chr(v, '/');
    struct slice ns = slash < 0 ? c->policy_namespace : slice_head(v, (size_t)slash);

    if (!c->peer.known || !c->peer.sa.p || !c->peer.own)
        return false;
    return slice_eq(ns, c->peer.ns) &&
           slice_eq(slash < 0 ? v : slice_skip(v, (size_t)slash + 1), c->peer.sa);
}

static bool namespace_match(const struct ctx *c, struct slice v)
{
    return c->peer.known && c->peer.ns.p && authz_value_match(v, c->peer.ns);
}

/* --- lists ------------------------------------------------------------------------------------ */
typedef bool value_fn(const struct ctx *c, struct slice v);

static bool any(const struct ctx *c, const struct prog_strings *l, value_fn *fn)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (fn(c, l->p[i]))
            return true;
    return false;
}

/* Empty lists ask nothing. */
static bool lists_hold(const struct ctx *c, const struct prog_strings *in,
                       const struct prog_strings *not_in, value_fn *fn)
{
    return (in->n == 0 || any(c, in, fn)) && !any(c, not_in, fn);
}

static bool blocks_hold(const struct cidr *in, uint32_t n_in, const struct cidr *not_in,
                        uint32_t n_not_in, const struct ipaddr *ip, enum side side)
{
    bool hit = n_in == 0;

    if (n_in + n_not_in == 0)
        return true;
    if (ip->len == 0)
        return side == SIDE_DENY;
    for (uint32_t i = 0; i < n_in && !hit; i++)
        hit = cidr_contains(&in[i], ip);
    for (uint32_t i = 0; i < n_not_in && hit; i++)
        hit = !cidr_contains(&not_in[i], ip);
    return hit;
}

static bool source_holds(const struct ctx *c, const struct authz_source *s)
{
    return lists_hold(c, &s->principals, &s->not_principals, principal_match) &&
           lists_hold(c, &s->namespaces, &s->not_namespaces, namespace_match) &&
           lists_hold(c, &s->service_accounts, &s->not_service_accounts, service_account_match) &&
           blocks_hold(s->ip_blocks, s->n_ip_blocks, s->not_ip_blocks, s->n_not_ip_blocks,
                       &c->r->source, c->side);
}

/* --- operations ------------------------------------------------------------------------------- */
static bool port_match(const struct ctx *c, struct slice v)
{
    uint64_t port;

    return slice_u64(v, 65535, &port) && port == c->r->port;
}

static bool method_match(const struct ctx *c, struct slice v)
{
    return authz_value_match(v, c->r->http->method);
}

static bool path_match(const struct ctx *c, struct slice v)
{
    if (c->side == SIDE_DENY && is_template(v) && !authz_template_ok(v))
        return true;
    return authz_path_match(v, match_path_only(c->r->http->path));
}

/* With the port that the client sent, and without it. */
static bool host_match(const struct ctx *c, struct slice v)
{
    struct slice authority = c->r->http->authority;
    ptrdiff_t colon = slice_rchr(authority, ':'), bracket = slice_rchr(authority, ']');

    if (value_imatch(v, authority))
        return true;
    return colon > 0 && colon > bracket && value_imatch(v, slice_head(authority, (size_t)colon));
}

static bool http_lists_hold(const struct ctx *c, const struct authz_operation *o)
{
    if (!(o->hosts.n | o->not_hosts.n | o->methods.n | o->not_methods.n | o->paths.n |
          o->not_paths.n))
        return true;
    if (!c->r->http)
        return c->side == SIDE_DENY;
    return lists_hold(c, &o->hosts, &o->not_hosts, host_match) &&
           lists_hold(c, &o->methods, &o->not_methods, method_match) &&
           lists_hold(c, &o->paths, &o->not_paths, path_match);
}

static bool operation_holds(const struct ctx *c, const struct authz_operation *o)
{
    return lists_hold(c, &o->ports, &o->not_ports, port_match) && http_lists_hold(c, o);
}

/* --- conditions ------------------------------------------------------------------------------- */
static bool source_ip_match(const struct ctx *c, struct slice v)
{
    struct cidr range;

    return cidr_parse(v, &range) && c->r->source.len && cidr_contains(&range, &c->r->source);
}

static bool destination_ip_match(const struct ctx *c, struct slice v)
{
    struct cidr range;

    return cidr_parse(v, &range) && c->r->destination.len &&
           cidr_contains(&range, &c->r->destination);
}

static bool sni_match(const struct ctx *c, struct slice v)
{
    return c->r->sni.p && value_imatch(v, c->r->sni);
}

static bool in_list(const struct prog_strings *l, struct slice text)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (authz_value_match(l->p[i], text))
            return true;
    return false;
}

/* Some reading of the header is in the list: a line, an element of a line, or all lines joined. */
static bool header_loose(const struct match_request *r, struct slice name,
                         const struct prog_strings *l)
{
    struct slice joined, part, rest;
    enum err_code rc;

    if (l->n == 0 || !match_field_joined(r, name, &joined, &rc))
        return false;
    if (rc != ERR_OK || in_list(l, joined))
        return true;
    for (uint32_t i = 0; i < r->n_fields; i++) {
        if (!slice_eq(r->fields[i].name, name))
            continue;
        if (in_list(l, r->fields[i].value))
            return true;
        rest = r->fields[i].value;
        while (slice_next(&rest, ',', &part))
            if (in_list(l, slice_trim(part)))
                return true;
    }
    return false;
}

/* The header is there and every line of it is in the list. */
static bool header_strict(const struct match_request *r, struct slice name,
                          const struct prog_strings *l)
{
    struct slice joined;
    enum err_code rc;
    bool line = false;

    if (!match_field_joined(r, name, &joined, &rc) || rc != ERR_OK)
        return false;
    for (uint32_t i = 0; i < r->n_fields; i++) {
        if (!slice_eq(r->fields[i].name, name))
            continue;
        line = true;
        if (!in_list(l, r->fields[i].value))
            return false;
    }
    return line || in_list(l, joined); /* pseudo fields have no line */
}

static bool header_condition(const struct ctx *c, const struct authz_condition *w)
{
    struct slice inner = slice_skip(w->key, sizeof "request.headers[" - 1);
    const struct match_request *http = c->r->http;
    char name[256];

    if (inner.len < 2 || inner.p[inner.len - 1] != ']' || inner.len > sizeof name || !http)
        return c->side == SIDE_DENY;
    for (size_t i = 0; i + 1 < inner.len; i++)
        name[i] = inner.p[i] >= 'A' && inner.p[i] <= 'Z' ? (char)(inner.p[i] + 32) : inner.p[i];
    inner = slice_of(name, inner.len - 1);
    if (c->side == SIDE_ALLOW)
        return (!w->values.n || header_strict(http, inner, &w->values)) &&
               !header_loose(http, inner, &w->not_values);
    return (!w->values.n || header_loose(http, inner, &w->values)) &&
           !(w->not_values.n && header_strict(http, inner, &w->not_values));
}

static bool condition_holds(const struct ctx *c, const struct authz_condition *w)
{
    static const struct {
        const char *key;
        value_fn *fn;
    } keys[] = {
        {"source.ip", source_ip_match},
        {"source.namespace", namespace_match},
        {"source.principal", principal_match},
        {"source.serviceAccount", service_account_match},
        {"destination.ip", destination_ip_match},
        {"destination.port", port_match},
        {"connection.sni", sni_match},
    };

    if (w->values.n + w->not_values.n == 0)
        return c->side == SIDE_DENY;
    if (slice_starts(w->key, SL("request.headers[")))
        return header_condition(c, w);
    for (size_t i = 0; i < N_OF(keys); i++)
        if (slice_is(w->key, keys[i].key))
            return lists_hold(c, &w->values, &w->not_values, keys[i].fn);
    return c->side == SIDE_DENY;
}

/* --- rules and policies ----------------------------------------------------------------------- */
static bool rule_holds(const struct ctx *c, const struct authz_rule *rule)
{
    bool hit = rule->n_from == 0;

    for (uint32_t i = 0; i < rule->n_from && !hit; i++)
        hit = source_holds(c, &rule->from[i]);
    if (!hit)
        return false;
    hit = rule->n_to == 0;
    for (uint32_t i = 0; i < rule->n_to && !hit; i++)
        hit = operation_holds(c, &rule->to[i]);
    for (uint32_t i = 0; i < rule->n_when && hit; i++)
        hit = condition_holds(c, &rule->when[i]);
    return hit;
}

/* Index of the first rule that holds, or -1. */
static int64_t policy_hit(struct ctx *c, const struct authz_policy *p, enum side side)
{
    c->side = side;
    c->policy_namespace = p->namespace_;
    for (uint32_t i = 0; i < p->n_rules; i++)
        if (rule_holds(c, &p->rules[i]))
            return i;
    return -1;
}

struct outcome {
    bool any, denied, allow_there, allow_hit;
    const struct authz_policy *policy;
    uint32_t rule;
};

/* One action over the policies that are in force (or those of the dry run). */
static void walk(struct ctx *c, const struct prog_inbound *in, bool dry_run,
                 enum prog_action action, struct outcome *o)
{
    enum side side = action == PROG_ALLOW ? SIDE_ALLOW : SIDE_DENY;

    for (uint32_t i = 0; i < in->n_policies; i++) {
        const struct authz_policy *p = &in->policies[i];
        int64_t rule;

        if (p->dry_run != dry_run || p->action != action)
            continue;
        o->any = true;
        o->allow_there |= action == PROG_ALLOW;
        rule = policy_hit(c, p, side);
        if (rule < 0)
            continue;
        o->policy = p;
        o->rule = (uint32_t)rule;
        o->allow_hit = action == PROG_ALLOW;
        o->denied = action != PROG_ALLOW;
        return;
    }
}

static struct outcome decide(struct ctx *c, const struct prog_inbound *in, bool dry_run)
{
    struct outcome o = {0};

    walk(c, in, dry_run, PROG_CUSTOM, &o);
    if (!o.denied)
        walk(c, in, dry_run, PROG_DENY, &o);
    if (!o.denied)
        walk(c, in, dry_run, PROG_ALLOW, &o);
    return o;
}

static const struct authz_policy *first_closed(const struct prog_inbound *in)
{
    for (uint32_t i = 0; i < in->n_policies; i++) {
        const struct authz_policy *p = &in->policies[i];

        if (p->closed.len && !p->dry_run && p->action != PROG_AUDIT)
            return p;
    }
    return NULL;
}

static const struct authz_policy *first_audit(struct ctx *c, const struct prog_inbound *in)
{
    for (uint32_t i = 0; i < in->n_policies; i++)
        if (in->policies[i].action == PROG_AUDIT && policy_hit(c, &in->policies[i], SIDE_DENY) >= 0)
            return &in->policies[i];
    return NULL;
}

void authz_decide(const struct prog_inbound *in, const struct authz_request *r,
                  struct authz_verdict *ret)
{
    const struct authz_policy *closed = first_closed(in);
    struct ctx c = {.r = r};
    struct outcome o;

    *ret = (struct authz_verdict){0};
    if (in->closed.len || closed) {
        ret->reason = AUTHZ_CLOSED;
        ret->policy = in->closed.len ? NULL : closed;
        ret->closed = in->closed.len ? in->closed : closed->closed;
        return;
    }
    if (in->n_policies == 0) {
        ret->allowed = true;
        return;
    }
    c.peer = peer_of(r);
    o = decide(&c, in, false);
    ret->allowed = !o.denied && (!o.allow_there || o.allow_hit);
    ret->policy = o.policy;
    ret->rule = o.rule;
    ret->reason = o.policy ? AUTHZ_RULE : o.allow_there ? AUTHZ_NO_RULE : AUTHZ_NO_POLICY;
    ret->audit = first_audit(&c, in);
    o = decide(&c, in, true);
    ret->dry_run.any = o.any;
    ret->dry_run.allowed = !o.denied && (!o.allow_there || o.allow_hit);
    ret->dry_run.policy = o.policy;
    ret->dry_run.rule = o.rule;
}

void authz_detail(const struct authz_verdict *v, char *ret, size_t cap)
{
    if (cap == 0)
        return;
    *ret = '\0';
    if (v->allowed)
        return;
    if (v->reason == AUTHZ_CLOSED)
        snprintf(ret, cap, "tulle_closed[%.*s]", SL_FMT(v->closed));
    else if (v->policy)
        snprintf(ret, cap, "rbac_access_denied_matched_policy[ns[%.*s]-policy[%.*s]-rule[%u]]",
                 SL_FMT(v->policy->namespace_), SL_FMT(v->policy->name), v->rule);
    else
        snprintf(ret, cap, "rbac_access_denied_matched_policy[none]");
}
