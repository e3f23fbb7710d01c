/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/route.h"

#include "lib/base/re.h"

/* --- conditions ------------------------------------------------------------------------------- */
static bool string_holds(const struct prog_string_match *m, struct slice text, bool ignore_case)
{
    switch (m->kind) {
    case PROG_MATCH_NONE:
    case PROG_MATCH_PRESENT:
        return true;
    case PROG_MATCH_EXACT:
        return ignore_case ? slice_ieq(text, m->value) : slice_eq(text, m->value);
    case PROG_MATCH_PREFIX:
        return ignore_case ? slice_istarts(text, m->value) : slice_starts(text, m->value);
    case PROG_MATCH_REGEX:
        return m->re && re_full_match(m->re, text);
    case PROG_MATCH_NEVER:
        break;
    }
    return false;
}

bool match_text(const struct prog_string_match *m, struct slice text)
{
    return string_holds(m, text, false);
}

/* A missing header never matches; in withoutHeaders it stands for an empty value, unless presence
 * was asked (Istio sets Envoy's treat_missing_header_as_empty there). */
static bool header_holds(const struct prog_field_match *f, const struct match_request *r,
                         enum err_code *rc)
{
    struct slice value = SLICE_NULL;
    bool there;

    if (f->match.kind == PROG_MATCH_NEVER)
        return false;
    there = match_field_joined(r, f->name, &value, rc);
    if (*rc != ERR_OK)
        return false;
    if (!f->absent)
        return there && string_holds(&f->match, value, false);
    if (!there && (f->match.kind == PROG_MATCH_PRESENT || f->match.kind == PROG_MATCH_NONE))
        return true;
    return !string_holds(&f->match, value, false);
}

/* First value of a query parameter, as written (Envoy does not decode it). A bare key has "". */
static bool query_value(struct slice path, struct slice name, struct slice *ret)
{
    struct slice query, pair, key;
    ptrdiff_t at = slice_chr(path, '?');

    if (at < 0)
        return false;
    query = slice_skip(path, (size_t)at + 1);
    at = slice_chr(query, '#');
    if (at >= 0)
        query = slice_head(query, (size_t)at);
    while (slice_next(&query, '&', &pair)) {
        at = slice_chr(pair, '=');
        key = at < 0 ? pair : slice_head(pair, (size_t)at);
        if (!slice_eq(key, name))
            continue;
        *ret = at < 0 ? SL("") : slice_skip(pair, (size_t)at + 1);
        return true;
    }
    return false;
}

static bool query_holds(const struct prog_field_match *f, struct slice path)
{
    struct slice value = SLICE_NULL;
    bool there;

    if (f->match.kind == PROG_MATCH_NEVER)
        return false;
    there = query_value(path, f->name, &value);
    return f->absent ? !there || !string_holds(&f->match, value, false)
                     : there && string_holds(&f->match, value, false);
}

/* Host names do not depend on case (RFC 9110 4.2.3); a condition without port also takes in the
 * request's port. Regular expressions see the authority in full. */
static bool authority_holds(const struct prog_string_match *m, struct slice authority)
{
    if (string_holds(m, authority, true))
        return true;
    if (m->kind == PROG_MATCH_EXACT) {
        ptrdiff_t colon = slice_rchr(authority, ':');

        return colon > 0 && slice_chr(m->value, ':') < 0 &&
               slice_ieq(slice_head(authority, (size_t)colon), m->value);
    }
    return false;
}

enum err_code match_http_one(const struct prog_http_match *m, const struct match_request *r,
                             bool *ret_holds, struct match_why *ret_why)
{
    struct match_why why = {0};
    enum err_code rc = ERR_OK;

    if (!string_holds(&m->uri, match_path_only(r->path), m->ignore_uri_case))
        why.what = "uri";
    else if (!string_holds(&m->method, r->method, false))
        why.what = "method";
    else if (!authority_holds(&m->authority, r->authority))
        why.what = "authority";
    else if (!string_holds(&m->scheme, r->scheme, false))
        why.what = "scheme";
    for (uint32_t i = 0; !why.what && i < m->n_headers; i++)
        if (!header_holds(&m->headers[i], r, &rc)) {
            if (rc != ERR_OK)
                return rc;
            why = (struct match_why){"header", m->headers[i].name};
        }
    for (uint32_t i = 0; !why.what && i < m->n_queries; i++)
        if (!query_holds(&m->queries[i], r->path))
            why = (struct match_why){"query", m->queries[i].name};
    *ret_holds = !why.what;
    if (ret_why)
        *ret_why = why;
    return ERR_OK;
}

/* --- choice ----------------------------------------------------------------------------------- */
uint32_t match_weighted(const struct prog_destination *d, uint32_t n, uint32_t total, uint32_t dice)
{
    uint32_t at = (uint32_t)((uint64_t)dice * total >> 32), i;

    for (i = 0; i + 1 < n; i++) {
        if (at < d[i].weight)
            return i;
        at -= d[i].weight;
    }
    /* The last one with a weight: trailing zero weights get nothing. */
    while (i > 0 && d[i].weight == 0)
        i--;
    return i;
}

enum err_code match_http(const struct prog_service *s, const struct match_request *r, uint32_t dice,
                         struct match_http *ret)
{
    for (uint32_t i = 0; i < s->n_http; i++) {
        const struct prog_http_route *route = &s->http[i];
        const struct prog_http_match *hit = NULL;

        for (uint32_t k = 0; k < route->n_matches && !hit; k++) {
            bool holds = false;
            enum err_code rc = match_http_one(&route->matches[k], r, &holds, NULL);

            if (rc != ERR_OK)
                return rc;
            if (holds)
                hit = &route->matches[k];
        }
        if (route->n_matches && !hit)
            continue;
        *ret = (struct match_http){.service = s, .route = route, .match = hit};
        if (route->action == PROG_FORWARD && route->n_destinations) {
            ret->destination =
                &route->destinations[match_weighted(route->destinations, route->n_destinations,
                                                    route->total_weight, dice)];
            ret->cluster = &s->clusters[ret->destination->cluster];
        }
        return ERR_OK;
    }
    return ERR_NOT_FOUND;
}

bool match_sni(struct slice pattern, struct slice sni)
{
    if (slice_eq(pattern, SL("*")))
        return true;
    if (pattern.len > 1 && pattern.p[0] == '*') {
        struct slice suffix = slice_skip(pattern, 1);

        return sni.len > suffix.len && slice_ieq(slice_skip(sni, sni.len - suffix.len), suffix);
    }
    return slice_ieq(pattern, sni);
}

/* No range: every address. */
static bool in_any(const struct cidr *ranges, uint32_t n, const struct ipaddr *ip)
{
    for (uint32_t i = 0; i < n; i++)
        if (cidr_contains(&ranges[i], ip))
            return true;
    return n == 0;
}

static bool tcp_holds(const struct prog_tcp_match *m, const struct match_connection *c)
{
    bool hit;

    if (!in_any(m->subnets, m->n_subnets, &c->destination) ||
        !in_any(m->sources, m->n_sources, &c->source))
        return false;
    if (m->sni.n) {
        hit = false;
        for (uint32_t i = 0; i < m->sni.n && !hit; i++)
            hit = c->sni.p && match_sni(m->sni.p[i], c->sni);
        if (!hit)
            return false;
    }
    return true;
}

enum err_code match_tcp(const struct prog_service *s, const struct match_connection *c,
                        uint32_t dice, struct match_tcp *ret)
{
    for (uint32_t i = 0; i < s->n_tcp; i++) {
        const struct prog_tcp_route *route = &s->tcp[i];
        bool hit = route->n_matches == 0;

        for (uint32_t k = 0; k < route->n_matches && !hit; k++)
            hit = tcp_holds(&route->matches[k], c);
        if (!hit)
            continue;
        *ret = (struct match_tcp){.route = route};
        if (route->n_destinations) {
            ret->destination =
                &route->destinations[match_weighted(route->destinations, route->n_destinations,
                                                    route->total_weight, dice)];
            ret->cluster = &s->clusters[ret->destination->cluster];
        }
        return ERR_OK;
    }
    return ERR_NOT_FOUND;
}

/* --- effects ---------------------------------------------------------------------------------- */
static struct slice concat(struct arena *a, struct slice x, struct slice y)
{
    char *p = arena_alloc(a, x.len + y.len + 1);

    if (!p)
        return SLICE_NULL;
    if (x.len)
        memcpy(p, x.p, x.len);
    if (y.len)
        memcpy(p + x.len, y.p, y.len);
    return slice_of(p, x.len + y.len);
}

/* How much of the path a rewrite replaces. */
static size_t replaced_len(const struct prog_http_match *m, struct slice path)
{
    if (!m || m->uri.kind == PROG_MATCH_NONE || m->uri.kind == PROG_MATCH_PRESENT)
        return MIN(path.len, (size_t)1);
    return m->uri.kind == PROG_MATCH_PREFIX ? m->uri.value.len : path.len;
}

static enum err_code rewrite_regex(const struct prog_rewrite *w, struct slice path,
                                   struct slice query, struct arena *a, struct slice *ret)
{
    struct buf out;
    enum err_code rc;

    buf_init(&out, 64 << 10);
    rc = re_replace(w->regex, path, w->substitution, &out);
    if (rc == ERR_OK) {
        *ret = concat(a, buf_slice(&out), query);
        if (!ret->p)
            rc = ERR_NOMEM;
    }
    buf_fini(&out);
    return rc;
}

enum err_code match_rewrite_path(const struct match_http *m, struct slice path, struct arena *a,
                                 struct slice *ret)
{
    const struct prog_rewrite *w = m->route->rewrite;
    struct slice only = match_path_only(path), query = slice_skip(path, only.len), out = path;

    if (w && w->regex) {
        enum err_code rc = rewrite_regex(w, only, query, a, &out);

        if (rc != ERR_OK)
            return rc;
    } else if (w && w->uri.len) {
        out = concat(a, w->uri, slice_skip(path, replaced_len(m->match, only)));
        if (!out.p)
            return ERR_NOMEM;
    }
    if (out.len == 0 || out.p[0] != '/') {
        if (!w || slice_eq(path, SL("*"))) { /* OPTIONS * and CONNECT pass as they are */
            *ret = path;
            return ERR_OK;
        }
        return ERR_INVALID;
    }
    *ret = out;
    return ERR_OK;
}

struct slice match_rewrite_authority(const struct match_http *m, struct slice authority)
{
    const struct prog_rewrite *w = m->route->rewrite;

    return w && w->authority.len ? w->authority : authority;
}

/* Without ":port"; brackets of an IPv6 literal stay. */
static struct slice host_only(struct slice authority)
{
    ptrdiff_t colon = slice_rchr(authority, ':');
    uint64_t port;

    if (colon <= 0 || !slice_u64(slice_skip(authority, (size_t)colon + 1), 65535, &port))
        return authority;
    if (authority.p[0] == '[' && authority.p[colon - 1] != ']')
        return authority;
    return slice_head(authority, (size_t)colon);
}

static uint32_t default_port(struct slice scheme)
{
    return slice_ieq(scheme, SL("https")) ? 443 : slice_ieq(scheme, SL("http")) ? 80 : 0;
}

static struct slice redirect_authority(const struct match_http *m, const struct match_request *r,
                                       struct slice scheme)
{
    const struct prog_redirect *d = m->route->redirect;
    struct slice base = d->authority.len ? d->authority : r->authority, port;
    uint32_t want = d->port ? d->port : d->port_from_request ? m->service->port : 0;
    uint64_t have;

    if (want) {
        base = host_only(base);
        if (want == default_port(scheme))
            return base;
        port = slice_str(arena_printf(r->arena, ":%u", want));
        return port.p ? concat(r->arena, base, port) : SLICE_NULL;
    }
    /* The default port of the old scheme would be wrong with the new one. */
    port = slice_skip(base, host_only(base).len);
    if (!d->authority.len && port.len > 1 && !slice_ieq(scheme, r->scheme) &&
        slice_u64(slice_skip(port, 1), 65535, &have) && have == default_port(r->scheme))
        base = host_only(base);
    return base;
}

static struct slice redirect_path(const struct match_http *m, const struct match_request *r)
{
    const struct prog_redirect *d = m->route->redirect;
    struct slice only = match_path_only(r->path), query = slice_skip(r->path, only.len);

    if (d->uri.len)
        return slice_chr(d->uri, '?') >= 0 ? d->uri : concat(r->arena, d->uri, query);
    if (d->prefix_rewrite.len)
        return concat(r->arena, d->prefix_rewrite,
                      slice_skip(r->path, replaced_len(m->match, only)));
    return r->path;
}

enum err_code match_redirect_location(const struct match_http *m, const struct match_request *r,
                                      struct slice *ret)
{
    const struct prog_redirect *d = m->route->redirect;
    struct slice scheme = d->scheme.len ? d->scheme : r->scheme, authority, path;
    char *text;

    if (!scheme.len)
        scheme = SL("http");
    authority = redirect_authority(m, r, scheme);
    path = redirect_path(m, r);
    if (!authority.p || !path.p)
        return ERR_NOMEM;
    text = arena_printf(r->arena, "%.*s://%.*s%.*s", SL_FMT(scheme), SL_FMT(authority),
                        SL_FMT(path));
    if (!text)
        return ERR_NOMEM;
    *ret = slice_str(text);
    return ERR_OK;
}

static bool ops_any(const struct prog_header_ops *o)
{
    return o->n_set || o->n_add || o->remove.n;
}

/* The destination's first, then the route's. */
static int ops_of(const struct prog_header_ops *destination, const struct prog_header_ops *route,
                  const struct prog_header_ops *ret[2])
{
    int n = 0;

    if (destination && ops_any(destination))
        ret[n++] = destination;
    if (ops_any(route))
        ret[n++] = route;
    return n;
}

int match_request_ops(const struct match_http *m, const struct prog_header_ops *ret[2])
{
    return ops_of(m->destination ? &m->destination->headers.request : NULL,
                  &m->route->headers.request, ret);
}

int match_response_ops(const struct match_http *m, const struct prog_header_ops *ret[2])
{
    return ops_of(m->destination ? &m->destination->headers.response : NULL,
                  &m->route->headers.response, ret);
}

static bool permyriad_hit(uint32_t permyriad, uint32_t dice)
{
    return (uint64_t)dice * 10000 >> 32 < permyriad;
}

uint32_t match_fault_delay_ms(const struct prog_fault *f, uint32_t dice)
{
    return f && f->delay_ms && permyriad_hit(f->delay_permyriad, dice) ? f->delay_ms : 0;
}

uint32_t match_fault_abort(const struct prog_fault *f, uint32_t dice, int32_t *ret_grpc)
{
    *ret_grpc = -1;
    if (!f || !permyriad_hit(f->abort_permyriad, dice))
        return 0;
    *ret_grpc = f->abort_grpc;
    return f->abort_status ? f->abort_status : f->abort_grpc >= 0 ? 200 : 0;
}
