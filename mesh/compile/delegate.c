/* SPDX-License-Identifier: Apache-2.0 */
/* Delegates: a root VirtualService hands a route on to the routes of another, which has no hosts. Each
 * request that a delegate's route takes must be one that the root's route takes: conditions are joined,
 * and a delegate's match that no match of the root covers makes its route void (Istio's rules). What the
 * delegate's route does not say it has from the root's. */
#include "mesh/compile/compile_int.h"

/* Can no text, or not each that `leaf` takes, be one that `root` takes? */
static bool text_conflict(const struct api_match *root, const struct api_match *leaf)
{
    if (root->kind == API_MATCH_UNSET || leaf->kind == API_MATCH_UNSET ||
        root->kind == API_MATCH_PRESENT)
        return false;
    if (root->kind == API_MATCH_EXACT)
        return leaf->kind != API_MATCH_EXACT || !slice_eq(root->value, leaf->value);
    if (root->kind == API_MATCH_PREFIX)
        return (leaf->kind != API_MATCH_EXACT && leaf->kind != API_MATCH_PREFIX) ||
               !slice_starts(leaf->value, root->value);
    return true; /* of two expressions nobody knows which takes more */
}

static const struct api_match *named(const struct api_named_matches *m, struct slice name)
{
    for (uint32_t i = 0; i < m->n; i++)
        if (slice_eq(m->p[i].name, name))
            return &m->p[i].match;
    return NULL;
}

static bool named_conflict(const struct api_named_matches *root,
                           const struct api_named_matches *leaf)
{
    for (uint32_t i = 0; i < leaf->n; i++) {
        const struct api_match *other = named(root, leaf->p[i].name);

        if (other && text_conflict(other, &leaf->p[i].match))
            return true;
    }
    return false;
}

static bool labels_conflict(const struct api_map *root, const struct api_map *leaf)
{
    for (uint32_t i = 0; i < leaf->n; i++) {
        struct slice other = api_map_get(root, leaf->p[i].key);

        if (other.p && !slice_eq(other, leaf->p[i].value))
            return true;
    }
    return false;
}

static bool gateways_conflict(const struct api_strings *root, const struct api_strings *leaf)
{
    if (!root->n || !leaf->n)
        return false;
    for (uint32_t i = 0; i < leaf->n; i++)
        if (!api_strings_has(root, leaf->p[i]))
            return true;
    return root->n != leaf->n;
}

static bool conflict(const struct vs_http_match *root, const struct vs_http_match *leaf)
{
    bool uri = root->uri.kind != API_MATCH_UNSET && root->ignore_uri_case != leaf->ignore_uri_case;

    return uri || text_conflict(&root->uri, &leaf->uri) ||
           text_conflict(&root->scheme, &leaf->scheme) ||
           text_conflict(&root->method, &leaf->method) ||
           text_conflict(&root->authority, &leaf->authority) ||
           named_conflict(&root->headers, &leaf->headers) ||
           named_conflict(&root->without_headers, &leaf->without_headers) ||
           named_conflict(&root->query_params, &leaf->query_params) ||
           (root->port && leaf->port && root->port != leaf->port) ||
           (root->source_namespace.len && leaf->source_namespace.len &&
            !slice_eq(root->source_namespace, leaf->source_namespace)) ||
           labels_conflict(&root->source_labels, &leaf->source_labels) ||
           gateways_conflict(&root->gateways, &leaf->gateways);
}

/* Both names, the root's first. */
static struct slice join_names(struct cc *c, struct slice root, struct slice leaf)
{
    if (!root.len || !leaf.len)
        return root.len ? root : leaf;
    return cc_printf(c, "%.*s-%.*s", SL_FMT(root), SL_FMT(leaf));
}

static struct api_match text_of(struct api_match root, struct api_match leaf)
{
    return leaf.kind == API_MATCH_UNSET ? root : leaf;
}

/* The leaf's conditions, and those of the root under other names. */
static struct api_named_matches named_of(struct cc *c, const struct api_named_matches *root,
                                         const struct api_named_matches *leaf)
{
    struct api_named_matches r = {CC_ARRAY(c, struct api_named_match, root->n + leaf->n), 0};

    for (uint32_t i = 0; r.p && i < leaf->n; i++)
        r.p[r.n++] = leaf->p[i];
    for (uint32_t i = 0; r.p && i < root->n; i++)
        if (!named(leaf, root->p[i].name))
            r.p[r.n++] = root->p[i];
    return r;
}

static struct api_map labels_of(struct cc *c, const struct api_map *root, const struct api_map *leaf)
{
    struct api_map r = {CC_ARRAY(c, struct api_kv, root->n + leaf->n), 0};

    /* In the order of keys, as maps are. */
    for (uint32_t i = 0, k = 0; r.p && (i < root->n || k < leaf->n);) {
        int d = i == root->n ? 1 : k == leaf->n ? -1 : slice_cmp(root->p[i].key, leaf->p[k].key);

        r.p[r.n++] = d < 0 ? root->p[i] : leaf->p[k];
        i += d <= 0;
        k += d >= 0;
    }
    return r;
}

static struct vs_http_match match_of(struct cc *c, const struct vs_http_match *root,
                                     const struct vs_http_match *leaf)
{
    struct vs_http_match m = *leaf;

    m.name = join_names(c, root->name, leaf->name);
    if (leaf->uri.kind == API_MATCH_UNSET)
        m.ignore_uri_case = root->ignore_uri_case;
    m.uri = text_of(root->uri, leaf->uri);
    m.scheme = text_of(root->scheme, leaf->scheme);
    m.method = text_of(root->method, leaf->method);
    m.authority = text_of(root->authority, leaf->authority);
    m.headers = named_of(c, &root->headers, &leaf->headers);
    m.without_headers = named_of(c, &root->without_headers, &leaf->without_headers);
    m.query_params = named_of(c, &root->query_params, &leaf->query_params);
    m.source_labels = labels_of(c, &root->source_labels, &leaf->source_labels);
    if (!m.port)
        m.port = root->port;
    if (!m.source_namespace.len)
        m.source_namespace = root->source_namespace;
    if (!m.gateways.n)
        m.gateways = root->gateways;
    return m;
}

/* False: some match of the leaf lies outside of the root's. */
static bool matches_of(struct cc *c, const struct vs_http *root, const struct vs_http *leaf,
                       struct vs_http *to)
{
    to->match = root->match;
    to->n_match = root->n_match;
    if (!leaf->n_match)
        return true;
    to->match = leaf->match;
    to->n_match = leaf->n_match;
    if (!root->n_match)
        return true;
    to->match = CC_ARRAY(c, struct vs_http_match, (size_t)root->n_match * leaf->n_match);
    to->n_match = 0;
    for (uint32_t i = 0; to->match && i < leaf->n_match; i++) {
        uint32_t before = to->n_match;

        for (uint32_t k = 0; k < root->n_match; k++)
            if (!conflict(&root->match[k], &leaf->match[i]))
                to->match[to->n_match++] = match_of(c, &root->match[k], &leaf->match[i]);
        if (to->n_match == before)
            return false;
    }
    return true;
}

static bool ops_set(const struct vs_header_ops *o)
{
    return o->set.n || o->add.n || o->remove.n;
}

/* Names stand in the namespace of the object that wrote them. */
static void mirrors_of(struct cc *c, const struct ix_object *o, const struct vs_http *root,
                       struct vs_http *to)
{
    to->mirrors = CC_ARRAY(c, struct vs_mirror, root->n_mirrors);
    to->n_mirrors = to->mirrors ? root->n_mirrors : 0;
    to->mirror_first = root->mirror_first;
    for (uint32_t i = 0; i < to->n_mirrors; i++) {
        to->mirrors[i] = root->mirrors[i];
        to->mirrors[i].destination.host =
            index_fqdn(c->x, root->mirrors[i].destination.host, o->meta->ns, c->a);
    }
}

static bool merge(struct cc *c, const struct ix_object *o, const struct vs_http *root,
                  const struct vs_http *leaf, struct vs_http *to)
{
    *to = *leaf;
    if (!matches_of(c, root, leaf, to))
        return false;
    to->name = join_names(c, root->name, leaf->name);
    if (!leaf->rewrite && !leaf->redirect && !leaf->direct_response)
        to->rewrite = root->rewrite;
    if (!leaf->timeout.set)
        to->timeout = root->timeout;
    if (!leaf->retries)
        to->retries = root->retries;
    if (!leaf->fault)
        to->fault = root->fault;
    if (!leaf->cors)
        to->cors = root->cors;
    if (!leaf->n_mirrors)
        mirrors_of(c, o, root, to);
    if (!ops_set(&leaf->headers.request) && !ops_set(&leaf->headers.response))
        to->headers = root->headers;
    return true;
}

/* The delegate of route `i`; NULL with the reason told. */
static const struct ix_object *find(struct cc *c, const struct ix_object *o, uint32_t i)
{
    const struct vs_http *root = &o->vs->http[i];
    struct slice ns = root->delegate_ns.len ? root->delegate_ns : o->meta->ns;
    const struct ix_object *d = index_object(c->x, INDEX_VS, ns, root->delegate_name);
    const char *why = NULL;

    cc_dep(c, INDEX_TOKEN_VS_OBJECT(ns, root->delegate_name));
    if (!d)
        why = "is not there";
    else if (!index_visible(&d->vs->export_to, d->meta->ns, o->meta->ns))
        why = "is not exported to this namespace";
    else if (d->vs->hosts.n)
        why = "has hosts of its own, which a delegate must not";
    else if (d->invalid)
        why = "is invalid";
    if (!why) {
        cc_origin(c, INDEX_VS, d->meta);
        return d;
    }
    cc_problem(c, FINDING_REFERENCE, INDEX_VS, o->meta, cc_printf(c, "spec.http[%u].delegate", i),
               "VirtualService %.*s/%.*s %s", SL_FMT(ns), SL_FMT(root->delegate_name), why);
    c->state = PROG_WITHHELD;
    return NULL;
}

static void delegated(struct cc *c, const struct ix_object *o, uint32_t i, struct http_items *ret)
{
    const struct vs_http *root = &o->vs->http[i];
    const struct ix_object *d = find(c, o, i);

    if (!d) { /* a route to nowhere: 503 where none is held */
        http_item_add(c, ret, root, o, cc_printf(c, "spec.http[%u]", i));
        return;
    }
    for (uint32_t k = 0; k < d->vs->n_http; k++) {
        struct vs_http *one = CC_ARRAY(c, struct vs_http, 1);
        struct slice path = cc_printf(c, "spec.http[%u]", k);

        if (!one)
            return;
        if (merge(c, o, root, &d->vs->http[k], one))
            http_item_add(c, ret, one, d, path);
        else
            cc_problem(c, FINDING_UNREACHABLE, INDEX_VS, d->meta, path,
                       "matches what http[%u] of the VirtualService %.*s/%.*s, which delegates to it, "
                       "does not: the route is void",
                       i, SL_FMT(o->meta->ns), SL_FMT(o->meta->name));
    }
}

void http_item_add(struct cc *c, struct http_items *to, const struct vs_http *r,
                   const struct ix_object *o, struct slice path)
{
    struct http_item *one = cc_grow(c, &to->p, &to->n, &to->cap, sizeof *one);

    if (one)
        *one = (struct http_item){r, o, path};
}

void http_items_of(struct cc *c, const struct ix_object *o, struct http_items *ret)
{
    for (uint32_t i = 0; i < o->vs->n_http; i++)
        if (o->vs->http[i].delegate_name.len)
            delegated(c, o, i, ret);
        else
            http_item_add(c, ret, &o->vs->http[i], o, cc_printf(c, "spec.http[%u]", i));
}
