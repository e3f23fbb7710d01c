/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, ports and unix sockets of a Sidecar's own: LISTENERS "egress", where the sidecar listens itself,
 * outside of redirection; and the SERVICEs behind them, and behind the addresses that egress entries are bound to,
 * which see what the entry lists and nothing else. */
#include <stdlib.h>

#include "lib/data/host.h"
#include "mesh/compile/compile_int.h"

enum { OWN_FIRST = 15000, OWN_LAST = 15099 };

bool scope_opens(const struct sc_egress *e)
{
    return e->port && (e->capture == SC_CAPTURE_NONE || slice_starts(e->bind, SL("unix://")));
}

static bool has_gate(const struct sc_egress *e)
{
    struct ipaddr ip;

    return scope_opens(e) || sc_bound(e, &ip);
}

static bool is_unix(const struct sc_egress *e)
{
    return slice_starts(e->bind, SL("unix://"));
}

static struct slice address(const struct sc_egress *e)
{
    return e->bind.len ? e->bind : SL("127.0.0.1");
}

static struct slice name_of(struct cc *c, const struct sc_egress *e)
{
    struct slice at = address(e);
    bool v6 = !is_unix(e) && slice_chr(at, ':') >= 0;

    return is_unix(e) ? cc_printf(c, PROG_EGRESS_GATE "%.*s", SL_FMT(at))
                      : cc_printf(c, PROG_EGRESS_GATE "%s%.*s%s:%u", v6 ? "[" : "", SL_FMT(at),
                                  v6 ? "]" : "", e->port->number);
}

static enum prog_protocol protocol_of(const struct sc_egress *e)
{
    return compile_protocol(e->port->protocol, e->port->name, (uint16_t)e->port->number);
}

/* --- what is opened ---------------------------------------------------------------------------------- */

/* Why it cannot be; NULL: it can. */
static const char *unfit(struct cc *c, const struct sc *sc, uint32_t i)
{
    const struct sc_egress *e = &sc->egress[i];
    struct slice name = name_of(c, e);

    if (is_unix(e) && (e->bind.len - 7 > UNIX_PATH_MAX || slice_chr(e->bind, '|') >= 0))
        return "the path of a unix socket has at most 107 bytes, and no |";
    if (!is_unix(e) && e->port->number >= OWN_FIRST && e->port->number <= OWN_LAST)
        return "ports 15000 to 15099 are the sidecar's own";
    for (uint32_t k = 0; k < i; k++)
        if (scope_opens(&sc->egress[k]) && slice_eq(name_of(c, &sc->egress[k]), name))
            return "an earlier entry has the same address and port";
    return NULL;
}

static int by_port(const void *a, const void *b)
{
    const struct prog_gate_port *x = a, *y = b;
    int d = (int)x->port - (int)y->port;

    return d ? d : slice_cmp(x->bind, y->bind);
}

static void add(struct cc *c, struct prog_listeners *l, uint32_t *cap, struct slice bind,
                uint32_t port, struct slice name, bool http)
{
    struct prog_gate_port *to = cc_grow(c, &l->ports, &l->n_ports, cap, sizeof *to);

    if (!to)
        return;
    *to = (struct prog_gate_port){.port = (uint16_t)port,
                                  .number = (uint16_t)port,
                                  .bind = cc_copy(c, bind),
                                  .gates = CC_ARRAY(c, struct prog_gate, 1)};
    if (!to->gates)
        return;
    to->n_gates = 1;
    *to->gates = (struct prog_gate){.name = name,
                                    .tls = PROG_GATE_PLAIN,
                                    .http = http,
                                    .min_version = 12,
                                    .max_version = 13};
}

bool scope_takes_in(const struct sc_ingress *i)
{
    return i->capture == SC_CAPTURE_NONE && i->default_endpoint.len;
}

/* From outside calls come in by redirection all the same; these are for the pod itself. */
static void ingress_listeners(struct cc *c, const struct ix_object *o, struct prog_listeners *l,
                              uint32_t *cap)
{
    for (uint32_t i = 0; i < o->sc->n_ingress; i++) {
        const struct sc_ingress *x = &o->sc->ingress[i];
        struct slice at = x->bind.len ? x->bind : SL("0.0.0.0");

        if (scope_takes_in(x))
            add(c, l, cap, at, x->port.number,
                cc_printf(c, PROG_INGRESS_GATE "%u", x->port.number), true);
    }
}

struct prog *compile_egress_listeners(struct cc *c)
{
    const struct ix_object *o = scope_sidecar(c);
    struct prog_listeners *l = cc_prog(c, PROG_LISTENERS, sizeof *l);
    uint32_t cap = 0;

    if (!l || !o)
        return l ? &l->prog : NULL;
    cc_origin(c, INDEX_SC, o->meta);
    ingress_listeners(c, o, l, &cap);
    for (uint32_t i = 0; i < o->sc->n_egress && !c->nomem; i++) {
        const struct sc_egress *e = &o->sc->egress[i];
        const char *why = scope_opens(e) ? unfit(c, o->sc, i) : NULL;

        if (why)
            cc_problem(c, FINDING_CONFLICT, INDEX_SC, o->meta, cc_printf(c, "spec.egress[%u]", i),
                       "%s: this entry is left out", why);
        else if (scope_opens(e))
            add(c, l, &cap, address(e), e->port->number, name_of(c, e),
                prog_is_http(protocol_of(e)));
    }
    if (l->n_ports)
        qsort(l->ports, l->n_ports, sizeof *l->ports, by_port);
    return &l->prog;
}

/* --- what is behind it -------------------------------------------------------------------------------- */
static const struct sc_egress *entry_of(struct cc *c, struct slice gate)
{
    const struct ix_object *o = scope_sidecar(c);

    for (uint32_t i = 0; o && i < o->sc->n_egress; i++)
        if (has_gate(&o->sc->egress[i]) && slice_eq(name_of(c, &o->sc->egress[i]), gate))
            return &o->sc->egress[i];
    return NULL;
}

struct first { /* the host that bytes go to */
    struct cc *c;
    uint32_t port;
    struct slice host;
    uint32_t n;
};

static void consider(struct first *f, struct slice host)
{
    struct target t;
    struct target_port p;

    f->c->scope = SCOPE_CALL;
    t = target_of_host(f->c, host, f->port);
    f->c->scope = SCOPE_OFF;
    if (t.kind == TARGET_NONE || !target_port_find(&t, f->port, &p))
        return;
    if (!f->n++ || slice_cmp(host, f->host) < 0)
        f->host = host;
}

static bool on_service(void *user, const struct ix_service *s)
{
    struct first *f = user;

    if (s->known)
        consider(f, cc_printf(f->c, "%s.%s.svc.%.*s", s->name->p, s->ns->p,
                              SL_FMT(f->c->mesh->cluster_domain)));
    return !f->c->nomem;
}

static bool on_entry(void *user, const struct ix_object *o)
{
    for (uint32_t i = 0; i < o->n_hosts && !o->invalid; i++)
        consider(user, o->hosts[i]);
    return true;
}

/* The first host of the list that is one and has the port; else, of patterns, the first by name. */
static struct slice host_for_bytes(struct cc *c, const struct sc_egress *e)
{
    const struct ix_object *o = scope_sidecar(c);
    struct first f = {.c = c, .port = e->port->number};

    for (uint32_t i = 0; i < e->hosts.n && !f.n; i++) {
        ptrdiff_t slash = slice_chr(e->hosts.p[i], '/');
        struct slice host = slice_skip(e->hosts.p[i], (size_t)(slash + 1));

        if (slash > 0 && host.len && host.p[0] != '*')
            consider(&f, host);
    }
    if (f.n)
        return f.host;
    cc_dep(c, INDEX_TOKEN_FILTER); /* any service */
    index_each_service(c->x, on_service, &f);
    index_each_object(c->x, INDEX_SE, on_entry, &f);
    if (f.n > 1)
        cc_problem(c, FINDING_CONFLICT, INDEX_SC, o->meta,
                   cc_printf(c, "spec.egress[%u].hosts", (unsigned)(e - o->sc->egress)),
                   "%u hosts have the port, and bytes tell nobody whose they are: they go to %.*s",
                   f.n, SL_FMT(f.host));
    return f.host;
}

static struct prog_service *behind(struct cc *c, const struct sc_egress *e, struct slice gate,
                                   struct slice key)
{
    struct prog_service *s;
    struct slice host;
    uint16_t port;

    c->entry = e;
    if (!slice_is(key, "*")) {
        if (authority_split(key, &host, &port) != ERR_OK)
            return NULL;
        s = service_of_host(c, host, port);
    } else if (prog_is_http(protocol_of(e))) { /* requests say whose they are */
        s = cc_prog(c, PROG_SERVICE, sizeof *s);
        if (s)
            *s = (struct prog_service){.prog.kind = PROG_SERVICE,
                                       .host = gate,
                                       .name = gate,
                                       .port = (uint16_t)(e->port->number ? e->port->number : 80),
                                       .protocol = protocol_of(e)};
    } else {
        host = host_for_bytes(c, e);
        s = host.len ? service_of_host(c, host, (uint16_t)e->port->number) : NULL;
    }
    c->entry = NULL;
    /* The client dialled this proxy: nothing of that is where it wanted to go. */
    for (uint32_t i = 0; s && i < s->n_clusters; i++) {
        s->clusters[i].original_dst = false;
        if (s->clusters[i].balancer == PROG_PASSTHROUGH)
            s->clusters[i].balancer = PROG_LEAST_REQUEST;
    }
    return s;
}

struct prog *compile_egress(struct cc *c, struct slice gate, struct slice key)
{
    const struct sc_egress *e = entry_of(c, gate);
    struct prog_service *s = e ? behind(c, e, gate, key) : NULL;

    return s ? &s->prog : NULL;
}

struct prog *compile_bound(struct cc *c, const struct ipaddr *ip, uint16_t port)
{
    const struct ix_object *o = scope_sidecar(c);

    for (uint32_t i = 0; o && i < o->sc->n_egress; i++) {
        const struct sc_egress *e = &o->sc->egress[i];
        struct prog_service *s;
        struct ipaddr at;

        if (!sc_bound(e, &at) || e->port->number != port || ip_cmp(&at, ip) != 0)
            continue;
        s = behind(c, e, name_of(c, e), SL("*"));
        if (s)
            s->gate = name_of(c, e);
        return s ? &s->prog : NULL;
    }
    return NULL;
}
