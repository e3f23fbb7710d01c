/* SPDX-License-Identifier: Apache-2.0 */
/* LISTENERS: what a gateway proxy opens. Semantics of Istio's gateways: plaintext HTTP servers of a
 * port are one, TLS servers are told apart by name, a Service that selects the pod says which port
 * of the pod stands behind the number. */
#include "mesh/compile/gateway.h"

/* --- Gateways of this pod ----------------------------------------------------------------------
 */
struct found {
    struct cc *c;
    const struct ix_object **p;
    uint32_t n, cap;
};

static bool on_gateway(void *user, const struct ix_object *o)
{
    struct found *f = user;
    const struct ix_object **slot;

    if (o->invalid || !cc_labels_cover(f->c, &o->gw->selector))
        return true;
    slot = cc_grow(f->c, &f->p, &f->n, &f->cap, sizeof *f->p);
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

static bool protocol_is(const struct gw_server *s, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (slice_ieq(s->port.protocol, slice_str(names[i])))
            return true;
    return false;
}

static bool is_http(const struct gw_server *s)
{
    static const char *const names[] = {"http", "http2", "grpc", "grpc-web", NULL};

    return protocol_is(s, names);
}

static bool is_https(const struct gw_server *s)
{
    static const char *const names[] = {"https", NULL};

    return protocol_is(s, names);
}

static bool is_tls(const struct gw_server *s)
{
    static const char *const names[] = {"https", "tls", NULL};

    return protocol_is(s, names);
}

static struct slice server_path(struct cc *c, uint32_t i, const char *below)
{
    return cc_printf(c, "spec.servers[%u]%s", i, below);
}

struct slice gate_host_part(struct slice text, struct slice *ret_ns)
{
    ptrdiff_t slash = slice_chr(text, '/');

    *ret_ns = slash < 0 ? SLICE_NULL : slice_head(text, (size_t)slash);
    return slash < 0 ? text : slice_skip(text, (size_t)slash + 1);
}

bool gate_ns_allows(struct slice ns, struct slice gw_ns, struct slice vs_ns)
{
    return !ns.p || slice_is(ns, "*") || slice_eq(slice_is(ns, ".") ? gw_ns : ns, vs_ns);
}

struct slice gate_narrower(struct slice a, struct slice b)
{
    return host_matches(a, b) ? b : host_matches(b, a) ? a : SLICE_NULL;
}

static enum prog_gate_tls tls_of(const struct gw_server *s)
{
    static const enum prog_gate_tls modes[] = {
        [GW_TLS_PASSTHROUGH] = PROG_GATE_PASSTHROUGH,
        [GW_TLS_SIMPLE] = PROG_GATE_SIMPLE,
        [GW_TLS_MUTUAL] = PROG_GATE_MUTUAL,
        [GW_TLS_AUTO_PASSTHROUGH] = PROG_GATE_AUTO,
        [GW_TLS_ISTIO_MUTUAL] = PROG_GATE_MESH,
        [GW_TLS_OPTIONAL_MUTUAL] = PROG_GATE_OPTIONAL_MUTUAL,
    };

    if (!is_tls(s) || !s->tls)
        return is_tls(s) ? PROG_GATE_CLOSED : PROG_GATE_PLAIN;
    return modes[s->tls->mode];
}

/* --- merging -----------------------------------------------------------------------------------
 */
/* Some name that both would be chosen by; null: none. */
static struct slice same_name(const struct gate *g, const struct gw_server *s)
{
    struct slice ns;

    for (uint32_t k = 0; k < g->n_servers; k++) {
        const struct gw_server *old = &g->servers[k].o->gw->servers[g->servers[k].i];

        for (uint32_t i = 0; i < old->hosts.n; i++)
            for (uint32_t j = 0; j < s->hosts.n; j++)
                if (slice_eq(gate_host_part(old->hosts.p[i], &ns),
                             gate_host_part(s->hosts.p[j], &ns)))
                    return gate_host_part(s->hosts.p[j], &ns);
    }
    return SLICE_NULL;
}

static void conflict(struct cc *c, const struct ix_object *o, uint32_t i, const struct gate *with,
                     const char *why, bool tell)
{
    const struct obj_meta *m = with->servers[0].o->meta;

    if (tell)
        cc_problem(c, FINDING_CONFLICT, INDEX_GW, o->meta, server_path(c, i, ".port"),
                   "port %u is taken by server %u of Gateway %.*s/%.*s%s; this server is left out",
                   o->gw->servers[i].port.number, with->servers[0].i, SL_FMT(m->ns),
                   SL_FMT(m->name), why);
}

/* May the server stand beside what is on its port? *ret_into: the gate that it joins, NULL a new
 * one. */
static bool place(struct cc *c, struct gates *all, const struct ix_object *o, uint32_t i,
                  enum prog_gate_tls tls, struct gate **ret_into, bool tell)
{
    const struct gw_server *s = &o->gw->servers[i];

    *ret_into = NULL;
    for (uint32_t k = 0; k < all->n; k++) {
        struct gate *g = &all->p[k];
        struct slice name;

        if (g->number != s->port.number || !slice_eq(g->bind, s->bind))
            continue;
        if (tls == PROG_GATE_PLAIN && g->tls == PROG_GATE_PLAIN && g->http && is_http(s)) {
            *ret_into = g;
            return true;
        }
        if (tls == PROG_GATE_PLAIN || g->tls == PROG_GATE_PLAIN) {
            conflict(c, o, i, g,
                     tls == g->tls ? ", and bytes tell nobody whose they are"
                                   : ", of which one has TLS and one has not",
                     tell);
            return false;
        }
        name = same_name(g, s);
        if (name.p) {
            if (tell)
                cc_problem(c, FINDING_CONFLICT, INDEX_GW, o->meta, server_path(c, i, ".hosts"),
                           "%.*s on port %u belongs to server %u of Gateway %.*s/%.*s; this server "
                           "is left out",
                           SL_FMT(name), s->port.number, g->servers[0].i,
                           SL_FMT(g->servers[0].o->meta->ns), SL_FMT(g->servers[0].o->meta->name));
            return false;
        }
    }
    return true;
}

static struct slice gate_name(struct cc *c, const struct ix_object *o, const struct gw_server *s,
                              enum prog_gate_tls tls)
{
    struct slice at = s->bind;
    const char *dot = at.len ? "." : "";

    if (tls == PROG_GATE_PLAIN)
        return cc_printf(c, "%s.%u%s%.*s", is_http(s) ? "http" : "tcp", s->port.number, dot,
                         SL_FMT(at));
    return cc_printf(c, "%s.%u.%.*s.%.*s.%.*s%s%.*s", is_https(s) ? "https" : "tls", s->port.number,
                     SL_FMT(s->port.name), SL_FMT(o->meta->name), SL_FMT(o->meta->ns), dot,
                     SL_FMT(at));
}

static void add_server(struct cc *c, struct gates *all, const struct ix_object *o, uint32_t i,
                       bool tell)
{
    const struct gw_server *s = &o->gw->servers[i];
    enum prog_gate_tls tls = tls_of(s);
    struct gate_server *slot;
    struct gate *g;

    if (slice_starts(s->bind, SL("unix://")) &&
        (s->bind.len - 7 > UNIX_PATH_MAX || slice_chr(s->bind, '|') >= 0)) {
        if (tell)
            cc_problem(c, FINDING_CONFLICT, INDEX_GW, o->meta, server_path(c, i, ".bind"),
                       "the path of a unix socket has at most 107 bytes, and no |: this server is "
                       "left out");
        return;
    }
    if (!place(c, all, o, i, tls, &g, tell))
        return;
    if (!g) {
        g = cc_grow(c, &all->p, &all->n, &all->cap, sizeof *all->p);
        if (!g)
            return;
        *g = (struct gate){.number = (uint16_t)s->port.number,
                           .bind = cc_copy(c, s->bind),
                           .tls = tls,
                           .http = is_http(s) || (is_https(s) && tls != PROG_GATE_PASSTHROUGH &&
                                                  tls != PROG_GATE_AUTO),
                           .name = gate_name(c, o, s, tls)};
    }
    slot = cc_grow(c, &g->servers, &g->n_servers, &g->cap_servers, sizeof *g->servers);
    if (slot)
        *slot = (struct gate_server){o, i};
}

struct gates gates_of(struct cc *c, bool tell)
{
    struct found f = {.c = c};
    struct gates all = {0};

    cc_dep(c, INDEX_TOKEN_GATEWAYS);
    index_each_object(c->x, INDEX_GW, on_gateway, &f);
    if (f.n)
        qsort(f.p, f.n, sizeof *f.p, by_age);
    for (uint32_t k = 0; k < f.n && !c->nomem; k++) {
        if (tell)
            cc_origin(c, INDEX_GW, f.p[k]->meta);
        for (uint32_t i = 0; i < f.p[k]->gw->n_servers; i++)
            add_server(c, &all, f.p[k], i, tell);
    }
    return all;
}

/* --- who is bound ------------------------------------------------------------------------------
 */
static bool names_gateway(const struct api_strings *list, struct slice vs_ns,
                          const struct ix_object *gw)
{
    for (uint32_t i = 0; i < list->n; i++) {
        struct slice ns, name = gate_host_part(list->p[i], &ns);

        if (slice_eq(name, gw->meta->name) && slice_eq(ns.p ? ns : vs_ns, gw->meta->ns) &&
            !slice_is(list->p[i], "mesh"))
            return true;
    }
    return false;
}

bool gate_binds(const struct ix_object *vs, const struct api_strings *own,
                const struct gate_server *s)
{
    return names_gateway(&vs->vs->gateways, vs->meta->ns, s->o) &&
           (!own || !own->n || names_gateway(own, vs->meta->ns, s->o));
}

static bool server_takes(const struct gate_server *s, struct slice vs_ns, struct slice host,
                         struct slice *ret_pattern)
{
    const struct gw_server *server = &s->o->gw->servers[s->i];

    for (uint32_t i = 0; i < server->hosts.n; i++) {
        struct slice ns, pattern = gate_host_part(server->hosts.p[i], &ns);

        if (!gate_ns_allows(ns, s->o->meta->ns, vs_ns) || !host_matches(pattern, host))
            continue;
        *ret_pattern = pattern;
        return true;
    }
    return false;
}

bool gate_takes(const struct gate *g, const struct ix_object *vs, struct slice host)
{
    struct slice pattern;

    for (uint32_t i = 0; i < g->n_servers; i++)
        if (gate_binds(vs, NULL, &g->servers[i]) &&
            server_takes(&g->servers[i], vs->meta->ns, host, &pattern))
            return true;
    return false;
}

/* --- hosts of a gate ---------------------------------------------------------------------------
 */
struct hosting {
    struct cc *c;
    const struct gate *g;
    struct prog_gate *to;
    uint32_t cap;
};

static void add_host(struct hosting *h, struct slice host, bool routed)
{
    struct prog_gate_host *slot;

    for (uint32_t i = 0; i < h->to->n_hosts; i++)
        if (slice_eq(h->to->hosts[i].host, host)) {
            h->to->hosts[i].routed |= routed;
            return;
        }
    slot = cc_grow(h->c, &h->to->hosts, &h->to->n_hosts, &h->cap, sizeof *slot);
    if (slot)
        *slot = (struct prog_gate_host){.host = cc_copy(h->c, host), .routed = routed};
}

static bool on_vs(void *user, const struct ix_object *o)
{
    struct hosting *h = user;

    if (o->invalid || !o->vs->gateways.n || !o->vs->n_http)
        return true;
    for (uint32_t k = 0; k < h->g->n_servers; k++) {
        const struct gate_server *s = &h->g->servers[k];
        const struct gw_server *server = &s->o->gw->servers[s->i];

        if (!gate_binds(o, NULL, s) || !cc_visible(h->c, &o->vs->export_to, o->meta->ns))
            continue;
        for (uint32_t i = 0; i < server->hosts.n; i++)
            for (uint32_t j = 0; j < o->n_hosts; j++) {
                struct slice ns, pattern = gate_host_part(server->hosts.p[i], &ns), both;

                if (!gate_ns_allows(ns, s->o->meta->ns, o->meta->ns))
                    continue;
                both = gate_narrower(pattern, o->hosts[j]);
                if (both.p)
                    add_host(h, both, true);
            }
    }
    return true;
}

static bool redirects(const struct gate_server *s)
{
    const struct gw_tls *t = s->o->gw->servers[s->i].tls;

    return t && t->https_redirect;
}

static int by_host(const void *a, const void *b)
{
    return slice_cmp(((const struct prog_gate_host *)a)->host,
                     ((const struct prog_gate_host *)b)->host);
}

static void hosts(struct cc *c, const struct gate *g, struct prog_gate *to)
{
    struct hosting h = {.c = c, .g = g, .to = to};
    struct slice ns;

    index_each_object(c->x, INDEX_VS, on_vs, &h);
    for (uint32_t k = 0; k < g->n_servers && g->tls == PROG_GATE_PLAIN; k++) {
        const struct gw_server *s = &g->servers[k].o->gw->servers[g->servers[k].i];

        if (!redirects(&g->servers[k]))
            continue;
        for (uint32_t i = 0; i < s->hosts.n; i++)
            add_host(&h, gate_host_part(s->hosts.p[i], &ns), false);
        for (uint32_t i = 0; i < to->n_hosts; i++)
            for (uint32_t j = 0; j < s->hosts.n; j++)
                to->hosts[i].redirect |=
                    host_matches(gate_host_part(s->hosts.p[j], &ns), to->hosts[i].host);
    }
    if (to->n_hosts)
        qsort(to->hosts, to->n_hosts, sizeof *to->hosts, by_host);
}

static void gate_tls(struct cc *c, const struct gate *g, struct prog_gate *to)
{
    const struct gate_server *s = &g->servers[0];
    const struct gw_server *server = &s->o->gw->servers[s->i];
    const struct gw_tls *t = server->tls;
    struct tls_source from = {INDEX_GW, s->o->meta, server_path(c, s->i, ".tls")};
    struct slice ns;

    server_tls(c, &from, g->tls == PROG_GATE_PLAIN ? NULL : t, to);
    if (g->tls == PROG_GATE_PLAIN || !t)
        return;
    to->sni = cc_strings(c, server->hosts.n);
    for (uint32_t i = 0; i < server->hosts.n && to->sni.p; i++)
        to->sni.p[to->sni.n++] = cc_copy(c, gate_host_part(server->hosts.p[i], &ns));
}

/* --- ports -------------------------------------------------------------------------------------
 */
/* The pod's port behind a number: what a Service that selects the pod says, else the number itself.
 */
static uint16_t pod_port(struct cc *c, const struct ix_pod *pod, uint16_t number)
{
    uint16_t port = 0;
    struct slice best = SLICE_NULL;

    for (const struct ix_service *s = index_services(c->x, istr_slice(pod->ns)); s; s = s->next) {
        if (!s->known || !s->selector || !ilabels_cover_all(pod->labels, s->selector))
            continue;
        for (uint32_t i = 0; i < s->n_ports; i++) {
            uint16_t target = s->ports[i].target
                                  ? s->ports[i].target
                                  : pod_named_port(pod, istr_slice(s->ports[i].target_name));

            if (!s->ports[i].tcp || s->ports[i].port != number || !target ||
                (best.p && slice_cmp(best, istr_slice(s->name)) <= 0))
                continue;
            best = istr_slice(s->name);
            port = target;
        }
    }
    return port ? port : number;
}

/* The entry for a place to listen; NULL: another number of a Gateway leads there already. */
static struct prog_gate_port *port_for(struct cc *c, struct prog_listeners *l, uint32_t *cap,
                                       const struct gate *g, uint16_t port)
{
    struct prog_gate_port *p;

    for (uint32_t i = 0; i < l->n_ports; i++)
        if (l->ports[i].port == port && slice_eq(l->ports[i].bind, g->bind))
            return l->ports[i].number == g->number ? &l->ports[i] : NULL;
    p = cc_grow(c, &l->ports, &l->n_ports, cap, sizeof *p);
    if (p)
        *p = (struct prog_gate_port){.port = port, .number = g->number, .bind = g->bind};
    return p;
}

static int by_port(const void *a, const void *b)
{
    const struct prog_gate_port *x = a, *y = b;
    int d = (int)x->port - (int)y->port;

    return d ? d : slice_cmp(x->bind, y->bind);
}

static void add_gate(struct cc *c, struct prog_listeners *l, uint32_t *cap,
                     const struct ix_pod *pod, const struct gate *g, uint32_t n_all)
{
    uint16_t port = pod_port(c, pod, g->number);
    struct prog_gate_port *p = port_for(c, l, cap, g, port);
    struct prog_gate *to;

    if (!p) {
        if (!c->nomem)
            cc_problem(c, FINDING_CONFLICT, INDEX_GW, g->servers[0].o->meta,
                       server_path(c, g->servers[0].i, ".port.number"),
                       "a Service leads port %u to port %u of the pod, which another port of a "
                       "Gateway has; this server is left out",
                       g->number, port);
        return;
    }
    if (!p->gates)
        p->gates = CC_ARRAY(c, struct prog_gate, n_all);
    if (!p->gates)
        return;
    to = &p->gates[p->n_gates++];
    *to = (struct prog_gate){.name = g->name, .tls = g->tls, .http = g->http};
    gate_tls(c, g, to);
    if (g->http)
        hosts(c, g, to);
}

struct prog *compile_listeners(struct cc *c)
{
    struct slice ns = cc_ns(c), name = cc_pod(c);
    const struct ix_pod *pod = index_pod(c->x, ns, name);
    struct prog_listeners *l;
    struct gates all;
    uint32_t cap = 0;

    cc_dep(c, INDEX_TOKEN_POD(ns, name));
    cc_dep(c, INDEX_TOKEN_MESH);
    cc_dep(c, INDEX_TOKEN_SERVICES(ns));
    cc_dep(c, INDEX_TOKEN_GATEWAY_VS);
    if (!pod || !pod->known)
        return NULL;
    l = cc_prog(c, PROG_LISTENERS, sizeof *l);
    all = gates_of(c, true);
    for (uint32_t i = 0; l && i < all.n && !c->nomem; i++)
        add_gate(c, l, &cap, pod, &all.p[i], all.n);
    if (l && l->n_ports)
        qsort(l->ports, l->n_ports, sizeof *l->ports, by_port);
    return l ? &l->prog : NULL;
}

/* --- CREDENTIAL --------------------------------------------------------------------------------
 */
/* The Gateways count as those that wait for the certificate. */
bool gateway_needs(struct cc *c, struct slice name)
{
    struct gates all = gates_of(c, false);
    bool needed = false;

    for (uint32_t i = 0; i < all.n; i++) {
        const struct gate_server *s = &all.p[i].servers[0];
        const struct gw_tls *t = s->o->gw->servers[s->i].tls;

        if (!t || !prog_gate_ends_tls(all.p[i].tls) || !server_tls_names(t, name))
            continue;
        cc_origin(c, INDEX_GW, s->o->meta);
        needed = true;
    }
    return needed;
}
