/* SPDX-License-Identifier: Apache-2.0 */
/* SERVICE "gw|<gate>|<host>": the routes of a gateway's host. VirtualServices of one host are
 * merged, oldest first, and those that take every request go last, as Istio does for gateways. */
#include "mesh/compile/gateway.h"

static const struct gate *find_gate(const struct gates *all, struct slice name)
{
    for (uint32_t i = 0; i < all->n; i++)
        if (slice_eq(all->p[i].name, name))
            return &all->p[i];
    return NULL;
}

struct joined { /* routes of several VirtualServices */
    struct prog_http_route *http;
    struct prog_tcp_route *tcp;
    uint32_t n_http, cap_http, n_tcp, cap_tcp;
};

/* The routes of one, behind those that are there. */
static void join(struct cc *c, struct builder *b, const struct ix_object *vs, struct joined *j)
{
    b->s->http = NULL;
    b->s->tcp = NULL;
    b->s->n_http = b->s->n_tcp = 0;
    routes_of_vs(c, b, vs, b->s->protocol, false);
    for (uint32_t i = 0; i < b->s->n_http; i++) {
        struct prog_http_route *to =
            cc_grow(c, &j->http, &j->n_http, &j->cap_http, sizeof *j->http);

        if (to)
            *to = b->s->http[i];
    }
    for (uint32_t i = 0; i < b->s->n_tcp; i++) {
        struct prog_tcp_route *to = cc_grow(c, &j->tcp, &j->n_tcp, &j->cap_tcp, sizeof *j->tcp);

        if (to)
            *to = b->s->tcp[i];
    }
}

static bool takes_all(const struct prog_http_route *r)
{
    for (uint32_t i = 0; i < r->n_matches; i++) {
        const struct prog_http_match *m = &r->matches[i];

        if ((m->uri.kind == PROG_MATCH_NONE ||
             (m->uri.kind == PROG_MATCH_PREFIX && slice_is(m->uri.value, "/"))) &&
            m->scheme.kind == PROG_MATCH_NONE && m->method.kind == PROG_MATCH_NONE &&
            m->authority.kind == PROG_MATCH_NONE && !m->n_headers && !m->n_queries)
            return true;
    }
    return r->n_matches == 0;
}

/* Routes that take everything go behind the others, which would never be reached. */
static void settle(struct cc *c, struct prog_service *s, const struct joined *j, uint32_t n_objects)
{
    s->http = j->http;
    s->n_http = j->n_http;
    s->tcp = j->tcp;
    s->n_tcp = j->n_tcp;
    if (n_objects < 2 || !j->n_http)
        return;
    s->http = CC_ARRAY(c, struct prog_http_route, j->n_http);
    s->n_http = 0;
    for (int pass = 0; s->http && pass < 2; pass++)
        for (uint32_t i = 0; i < j->n_http; i++)
            if (takes_all(&j->http[i]) == (pass == 1))
                s->http[s->n_http++] = j->http[i];
}

/* The VirtualServices of exactly this host, or else of the narrowest wildcard around it. */
static void http_host(struct cc *c, struct builder *b, struct slice host)
{
    struct slice pattern = SLICE_NULL;
    struct joined j = {0};
    uint32_t n = 0;

    while (n == 0 && cc_next_pattern(c, host, &pattern)) {
        const struct ix_objects *l = index_vs_of(c->x, pattern);

        cc_dep(c, INDEX_TOKEN_VS(pattern));
        for (uint32_t i = 0; l && i < l->n; i++) {
            if (!l->p[i]->vs->n_http || !gate_takes(b->gate, l->p[i], host) ||
                !cc_visible(c, &l->p[i]->vs->export_to, l->p[i]->meta->ns))
                continue;
            n++;
            join(c, b, l->p[i], &j);
        }
    }
    settle(c, b->s, &j, n);
}

/* --- bytes -------------------------------------------------------------------------------------
 */
struct bound {
    struct cc *c;
    const struct gate *g;
    const struct ix_object **p;
    uint32_t n, cap;
};

static bool overlaps(const struct gate *g, const struct ix_object *vs)
{
    for (uint32_t k = 0; k < g->n_servers; k++) {
        const struct gw_server *s = &g->servers[k].o->gw->servers[g->servers[k].i];

        for (uint32_t i = 0; gate_binds(vs, NULL, &g->servers[k]) && i < s->hosts.n; i++)
            for (uint32_t h = 0; h < vs->n_hosts; h++) {
                struct slice ns, pattern = gate_host_part(s->hosts.p[i], &ns);

                if (!gate_ns_allows(ns, g->servers[k].o->meta->ns, vs->meta->ns))
                    continue;
                if (gate_narrower(pattern, vs->hosts[h]).p)
                    return true;
            }
    }
    return false;
}

static bool on_vs(void *user, const struct ix_object *o)
{
    struct bound *b = user;
    const struct ix_object **slot;

    if (o->invalid || !(o->vs->n_tcp || o->vs->n_tls) || !overlaps(b->g, o) ||
        !cc_visible(b->c, &o->vs->export_to, o->meta->ns))
        return true;
    slot = cc_grow(b->c, &b->p, &b->n, &b->cap, sizeof *b->p);
    if (slot)
        *slot = o;
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct obj_meta *x = (*(const struct ix_object *const *)a)->meta;
    const struct obj_meta *y = (*(const struct ix_object *const *)b)->meta;
    int d = (x->created_s > y->created_s) - (x->created_s < y->created_s);

    if (!d)
        d = slice_cmp(x->ns, y->ns);
    return d ? d : slice_cmp(x->name, y->name);
}

static void bytes(struct cc *c, struct builder *b)
{
    struct bound all = {.c = c, .g = b->gate};
    struct joined j = {0};

    cc_dep(c, INDEX_TOKEN_GATEWAY_VS);
    index_each_object(c->x, INDEX_VS, on_vs, &all);
    if (all.n)
        qsort(all.p, all.n, sizeof *all.p, by_age);
    for (uint32_t i = 0; i < all.n; i++)
        join(c, b, all.p[i], &j);
    settle(c, b->s, &j, 1);
}

/* --- AUTO_PASSTHROUGH --------------------------------------------------------------------------
 */
static bool has_host(const struct gate *g, struct slice host)
{
    for (uint32_t k = 0; k < g->n_servers; k++) {
        const struct gw_server *s = &g->servers[k].o->gw->servers[g->servers[k].i];
        struct slice ns;

        for (uint32_t i = 0; i < s->hosts.n; i++)
            if (host_matches(gate_host_part(s->hosts.p[i], &ns), host))
                return true;
    }
    return false;
}

/* The TLS is the client's, with the workload itself at the end: nothing is put around it. */
static void by_name(struct cc *c, struct builder *b, struct slice name)
{
    struct slice subset, host;
    uint32_t i;

    if (!prog_cluster_spelled(name, &b->port, &subset, &host) || !has_host(b->gate, host))
        return;
    i = cluster_for(c, b, host, b->port, subset, NULL, SLICE_NULL);
    if (i >= b->s->n_clusters || b->s->clusters[i].problem.len) {
        b->s->n_clusters = 0;
        return;
    }
    /* A cluster of its own, named as Istio does: that of the same host by other routes has its TLS. */
    b->s->clusters[i].name = b->s->clusters[i].sni;
    b->s->clusters[i].tls = PROG_TLS_DISABLE;
    if (b->s->clusters[i].policy)
        b->s->clusters[i].policy->origin = NULL;
    b->s->protocol = PROG_TLS;
    routes_default(c, b, i, false, true);
}

struct prog *compile_vhost(struct cc *c, struct slice gate_name, struct slice host)
{
    struct gates all = gates_of(c, false);
    const struct gate *g = find_gate(&all, gate_name);
    struct target t = {.kind = TARGET_HOST, .host = host};
    struct builder b = {.target = &t, .gate = g};
    struct prog_service *s;

    cc_dep(c, INDEX_TOKEN_MESH);
    if (!g)
        return NULL;
    s = b.s = cc_prog(c, PROG_SERVICE, sizeof *s);
    if (!s)
        return NULL;
    b.port = g->number;
    s->port = g->number ? g->number : 80; /* a unix socket has none */
    s->host = s->name = cc_copy(c, host);
    s->namespace_ = cc_copy(c, g->servers[0].o->meta->ns);
    /* Names choose routes only where TLS goes through; behind ended TLS routes of bytes do. */
    s->protocol = g->http ? PROG_HTTP : g->tls == PROG_GATE_PASSTHROUGH ? PROG_TLS : PROG_TCP;
    if (g->tls == PROG_GATE_AUTO)
        by_name(c, &b, host);
    else if (g->http)
        http_host(c, &b, host);
    else
        bytes(c, &b);
    /* The client dialled the gateway: nothing of that is where it wanted to go. */
    for (uint32_t i = 0; i < s->n_clusters; i++) {
        s->clusters[i].original_dst = false;
        if (s->clusters[i].balancer == PROG_PASSTHROUGH)
            s->clusters[i].balancer = PROG_LEAST_REQUEST;
    }
    return s->n_http || s->n_tcp ? &s->prog : NULL;
}
