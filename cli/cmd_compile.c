/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle compile`: objects in files to the program that a proxy would be sent, as a file for
 * `tulle-proxy run --config`. The same index and compiler as the operator's. */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "mesh/api/sc.h"
#include "mesh/compile/compile.h"

static int run(int argc, char **argv);

const struct command cmd_compile = {
    .name = "compile",
    .summary = "compile objects in files to a program for tulle-proxy run --config",
    .usage = "usage: tulle compile -f FILE|DIR|- -o FILE [--pod NAME] [-n NAMESPACE] [--roots PEM]\n"
             "  -f        file or folder with Services, EndpointSlices, Pods and mesh objects; repeatable\n"
             "  -o        where to write the compiled program; - is standard output\n"
             "  --pod     whose view it is: a Pod of the files (default: the first one)\n"
             "  -n        namespace of objects that name none, and of the pod (default: default)\n"
             "  --roots   trust anchors to put into the settings\n"
             "  --dump    write the program as text instead, for people\n",
    .run = run,
};

struct compiling {
    struct compile_input in;
    struct compile_client client;
    struct arena arena;
    struct wire_resource *list;
    size_t n, cap;
    struct map seen; /* kind byte + key */
    struct slice local[64]; /* gates of the pod's own listeners, in the arena */
    unsigned n_local;
    struct slice autos[16]; /* gates of PROG_GATE_AUTO, in the arena */
    unsigned n_autos;
    bool dump;
    unsigned problems;
};

static int add(struct compiling *c, enum prog_kind kind, struct slice key, struct err *err);

static int add_endpoints(struct compiling *c, const struct compiled *r, struct err *err)
{
    for (uint32_t i = 0; i < r->n_endpoint_keys; i++)
        if (add(c, PROG_ENDPOINTS, r->endpoint_keys[i], err) < 0)
            return -1;
    return 0;
}

static void say_problems(struct compiling *c, const struct compiled *r)
{
    for (uint32_t i = 0; i < r->n_problems; i++) {
        const struct compile_problem *p = &r->problems[i];
        fprintf(stderr, "tulle compile: %s %.*s/%.*s: %.*s%s%.*s\n", index_kind_name(p->kind),
                SL_FMT(p->ns), SL_FMT(p->name), SL_FMT(p->path), p->path.len ? ": " : "",
                SL_FMT(p->text));
        c->problems++;
    }
}

/* Compile one resource, and the endpoints that it names, unless it is there already. */
static int add(struct compiling *c, enum prog_kind kind, struct slice key, struct err *err)
{
    char *mark = arena_printf(&c->arena, "%c%.*s", (char)kind, SL_FMT(key));
    struct compiled r;
    if (!mark)
        return err_set(err, ERR_NOMEM, "%.*s", SL_FMT(key));
    if (map_find(&c->seen, slice_str(mark)))
        return 0;
    enum err_code rc = compile_resource(&c->in, &c->client, kind, key, &c->arena, &r);
    if (rc == ERR_INVALID)
        return 0; /* a spelling that cannot be a key of this kind */
    if (rc != ERR_OK || map_put(&c->seen, slice_str(mark), mark, NULL) < 0)
        return err_set(err, rc == ERR_OK ? ERR_NOMEM : rc, "%s \"%.*s\"", prog_kind_name(kind),
                       SL_FMT(key));
    say_problems(c, &r);
    if (r.state == PROG_ABSENT)
        return 0;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct wire_resource *p = mem_realloc(c->list, cap * sizeof *p);
        if (!p)
            return err_set(err, ERR_NOMEM, "program");
        c->list = p;
        c->cap = cap;
    }
    struct wire_version *version = ARENA_NEW(&c->arena, struct wire_version);
    struct slice kept = arena_slice(&c->arena, key);
    if (!version || (key.len && !kept.p))
        return err_set(err, ERR_NOMEM, "program");
    *version = r.version;
    c->list[c->n++] = (struct wire_resource){.kind = kind,
                                             .state = PROG_VALUE,
                                             .key = kept,
                                             .version = slice_of(version->bytes, WIRE_VERSION_LEN),
                                             .payload = r.payload};
    return add_endpoints(c, &r, err);
}

/* --- which keys a client may ask for ------------------------------------------------------------------ */

struct walk {
    struct compiling *c;
    struct err *err;
    int rc;
    uint16_t ports[256]; /* every port of the mesh: hosts that are no Service answer on them */
    unsigned n_ports;
};

static void add_service_key(struct walk *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_service_key(struct walk *w, const char *fmt, ...)
{
    char key[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(key, sizeof key, fmt, ap);
    va_end(ap);
    if (w->rc == 0 && n > 0 && (size_t)n < sizeof key)
        w->rc = add(w->c, PROG_SERVICE, slice_of(key, (size_t)n), w->err);
    for (unsigned i = 0; w->rc == 0 && i < w->c->n_local && n > 0 && (size_t)n < sizeof key; i++) {
        char local[WIRE_MAX_KEY];
        struct slice k = prog_gate_key(local, sizeof local, w->c->local[i], slice_of(key, (size_t)n));
        if (k.p)
            w->rc = add(w->c, PROG_SERVICE, k, w->err);
    }
}

static void add_port(struct walk *w, uint16_t port)
{
    for (unsigned i = 0; i < w->n_ports; i++)
        if (w->ports[i] == port)
            return;
    if (w->n_ports < N_OF(w->ports))
        w->ports[w->n_ports++] = port;
}

/* What server names spell at AUTO_PASSTHROUGH. */
static void add_spelled(struct walk *w, struct slice host, struct slice subset, unsigned port)
{
    char name[512], key[WIRE_MAX_KEY];
    int n = snprintf(name, sizeof name, "outbound_.%u_.%.*s_.%.*s", port, SL_FMT(subset),
                     SL_FMT(host));
    for (unsigned i = 0; w->rc == 0 && i < w->c->n_autos && n > 0 && (size_t)n < sizeof name; i++) {
        struct slice k = prog_gate_key(key, sizeof key, w->c->autos[i], slice_of(name, (size_t)n));
        if (k.p)
            w->rc = add(w->c, PROG_SERVICE, k, w->err);
    }
}

/* All spellings of a Service: its names as seen from the client, and its addresses. */
static bool on_service(void *user, const struct ix_service *s)
{
    struct walk *w = user;
    struct slice name = istr_slice(s->name), ns = istr_slice(s->ns);
    struct slice domain = index_cluster_domain(w->c->in.index);
    if (!s->known)
        return true;
    for (uint32_t i = 0; i < s->n_ports; i++) {
        unsigned port = s->ports[i].port;
        add_port(w, s->ports[i].port);
        if (slice_eq(ns, w->c->client.namespace_))
            add_service_key(w, "%.*s:%u", SL_FMT(name), port);
        add_service_key(w, "%.*s.%.*s:%u", SL_FMT(name), SL_FMT(ns), port);
        add_service_key(w, "%.*s.%.*s.svc:%u", SL_FMT(name), SL_FMT(ns), port);
        add_service_key(w, "%.*s.%.*s.svc.%.*s:%u", SL_FMT(name), SL_FMT(ns), SL_FMT(domain), port);
        char *whole = arena_printf(&w->c->arena, "%.*s.%.*s.svc.%.*s", SL_FMT(name), SL_FMT(ns),
                                   SL_FMT(domain));
        add_spelled(w, slice_str(whole ? whole : ""), SLICE_NULL, port);
        for (uint32_t v = 0; v < s->n_vips; v++) {
            char ip[IP_TEXT];
            bool v6 = s->vips[v].len == 16;
            add_service_key(w, "%s%s%s:%u", v6 ? "[" : "", ip_format(&s->vips[v], ip), v6 ? "]" : "",
                            port);
        }
    }
    return w->rc == 0;
}

static bool on_object(void *user, const struct ix_object *o)
{
    struct walk *w = user;
    for (uint32_t i = 0; o->kind == INDEX_SE && i < o->se->ports.n; i++)
        add_port(w, (uint16_t)o->se->ports.p[i].number);
    for (uint32_t h = 0; h < o->n_hosts; h++)
        for (unsigned i = 0; i < w->n_ports && o->hosts[h].p[0] != '*'; i++)
            add_service_key(w, "%.*s:%u", SL_FMT(o->hosts[h]), w->ports[i]);
    for (uint32_t i = 0; o->kind == INDEX_SE && i < o->se->addresses.n; i++) {
        struct ipaddr ip;
        char text[IP_TEXT];
        for (uint32_t k = 0; ip_parse(o->se->addresses.p[i], &ip) && k < o->se->ports.n; k++)
            add_service_key(w, ip.len == 16 ? "[%s]:%u" : "%s:%u", ip_format(&ip, text),
                            o->se->ports.p[k].number);
    }
    return w->rc == 0;
}

/* Addresses that egress entries are bound to, before the hosts behind them. */
static bool on_sidecar(void *user, const struct ix_object *o)
{
    struct walk *w = user;
    for (uint32_t i = 0; i < o->sc->n_egress; i++) {
        const struct sc_egress *e = &o->sc->egress[i];
        struct ipaddr ip;
        char text[IP_TEXT];
        if (!sc_bound(e, &ip) || w->c->n_local == N_OF(w->c->local))
            continue;
        char *gate = arena_printf(&w->c->arena,
                                  ip.len == 16 ? PROG_EGRESS_GATE "[%s]:%u" : PROG_EGRESS_GATE "%s:%u",
                                  ip_format(&ip, text), e->port->number);
        if (!gate) {
            w->rc = -1;
            return false;
        }
        w->rc = add(w->c, PROG_SERVICE, slice_str(gate + strlen(PROG_EGRESS_GATE)), w->err);
        w->c->local[w->c->n_local++] = slice_str(gate);
    }
    return w->rc == 0;
}

static bool on_pod(void *user, const struct ix_pod *p)
{
    struct walk *w = user;
    char ip[IP_TEXT];
    if (w->rc == 0 && p->ip[0].len)
        w->rc = add(w->c, PROG_WORKLOAD, slice_str(ip_format(&p->ip[0], ip)), w->err);
    return w->rc == 0;
}

static int add_credentials(struct compiling *c, const struct prog_gate *g, struct err *err)
{
    for (uint32_t i = 0; i < g->credentials.n; i++)
        if (add(c, PROG_CREDENTIAL, g->credentials.p[i], err) < 0)
            return -1;
    return g->ca_credential.len ? add(c, PROG_CREDENTIAL, g->ca_credential, err) : 0;
}

/* Certificates of a Sidecar's ports. */
static int add_ingress(struct compiling *c, struct err *err)
{
    struct compiled r;
    struct prog *p;
    int rc = 0;
    if (compile_resource(&c->in, &c->client, PROG_INBOUND, SLICE_NULL, &c->arena, &r) != ERR_OK ||
        r.state == PROG_ABSENT)
        return 0;
    if (compile_value(&r, SLICE_NULL, &p, err) < 0)
        return -1;
    const struct prog_inbound *in = (const struct prog_inbound *)p;
    for (uint32_t i = 0; i < in->n_ports && rc == 0; i++)
        if (in->ports[i].tls)
            rc = add_credentials(c, in->ports[i].tls, err);
    prog_unref(p);
    return rc;
}

/* Ports that the sidecar opens for its application, and where their bytes go. */
static int add_egress(struct compiling *c, struct err *err)
{
    struct compiled r;
    struct prog *p;
    int rc = 0;
    struct slice key = SL(PROG_EGRESS_LISTENERS);
    if (compile_resource(&c->in, &c->client, PROG_LISTENERS, key, &c->arena, &r) != ERR_OK ||
        compile_value(&r, key, &p, err) < 0)
        return -1;
    const struct prog_listeners *l = (const struct prog_listeners *)p;
    if (l->n_ports)
        rc = add(c, PROG_LISTENERS, key, err);
    for (uint32_t i = 0; i < l->n_ports && rc == 0 && c->n_local < N_OF(c->local); i++) {
        char buf[WIRE_MAX_KEY];
        struct slice name = arena_slice(&c->arena, l->ports[i].gates[0].name);
        c->local[c->n_local++] = name;
        rc = add(c, PROG_SERVICE, prog_gate_key(buf, sizeof buf, name, SL("*")), err);
    }
    prog_unref(p);
    return rc;
}

/* Of a gateway: what it opens, the routes of its hosts, and its certificates. */
static int add_gate(struct compiling *c, const struct prog_gate *g, struct err *err)
{
    char key[WIRE_MAX_KEY];
    if (g->tls == PROG_GATE_AUTO) {
        struct slice name = arena_slice(&c->arena, g->name);
        if (c->n_autos < N_OF(c->autos) && name.p)
            c->autos[c->n_autos++] = name;
        return 0;
    }
    if (!g->http && add(c, PROG_SERVICE, prog_gate_key(key, sizeof key, g->name, SL("*")), err) < 0)
        return -1;
    for (uint32_t i = 0; i < g->n_hosts; i++)
        if (g->hosts[i].routed &&
            add(c, PROG_SERVICE, prog_gate_key(key, sizeof key, g->name, g->hosts[i].host), err) < 0)
            return -1;
    return add_credentials(c, g, err);
}

static int add_listeners(struct compiling *c, struct err *err)
{
    struct compiled r;
    struct prog *p;
    int rc = 0;
    if (compile_resource(&c->in, &c->client, PROG_LISTENERS, SLICE_NULL, &c->arena, &r) != ERR_OK ||
        r.state == PROG_ABSENT)
        return 0;
    if (compile_value(&r, SLICE_NULL, &p, err) < 0)
        return -1;
    const struct prog_listeners *l = (const struct prog_listeners *)p;
    if (l->n_ports)
        rc = add(c, PROG_LISTENERS, SLICE_NULL, err);
    for (uint32_t i = 0; i < l->n_ports && rc == 0; i++)
        for (uint32_t k = 0; k < l->ports[i].n_gates && rc == 0; k++)
            rc = add_gate(c, &l->ports[i].gates[k], err);
    prog_unref(p);
    return rc;
}

static int add_secret(struct compiling *c, const struct dr_policy *p, struct err *err)
{
    int rc = 0;
    if (p && p->tls && p->tls->credential_name.len)
        rc = add(c, PROG_CREDENTIAL, p->tls->credential_name, err);
    for (uint32_t i = 0; p && i < p->n_ports && rc == 0; i++)
        rc = add_secret(c, &p->ports[i].policy, err);
    return rc;
}

/* Secrets that rules name for the pod. */
static bool on_rule(void *user, const struct ix_object *o)
{
    struct walk *w = user;
    if (w->rc == 0)
        w->rc = add_secret(w->c, o->dr->policy, w->err);
    for (uint32_t i = 0; i < o->dr->n_subsets && w->rc == 0; i++) {
        struct slice host = index_fqdn(w->c->in.index, o->dr->host, o->meta->ns, &w->c->arena);
        w->rc = add_secret(w->c, o->dr->subsets[i].policy, w->err);
        for (unsigned k = 0; k < w->n_ports; k++)
            add_spelled(w, host, o->dr->subsets[i].name, w->ports[k]);
    }
    return w->rc == 0;
}

static bool first_pod(void *user, const struct ix_pod *p)
{
    const struct ix_pod **found = user;
    if (p->known && !*found)
        *found = p;
    return true;
}

static int compile_all(struct compiling *c, const char *pod_name, const char *ns, struct err *err)
{
    const struct ix_pod *pod = NULL;
    if (pod_name)
        pod = index_pod(c->in.index, slice_str(ns), slice_str(pod_name));
    else
        index_each_pod(c->in.index, first_pod, &pod);
    if (!pod || !pod->known)
        return err_set(err, ERR_NOT_FOUND, "no Pod %s%s%s in the files: whose view shall it be?",
                       pod_name ? ns : "", pod_name ? "/" : "", pod_name ? pod_name : "");
    compile_client_of_pod(pod, &c->client);
    static const enum prog_kind always[] = {PROG_SETTINGS, PROG_INBOUND, PROG_NAMES};
    for (size_t i = 0; i < N_OF(always); i++)
        if (add(c, always[i], SLICE_NULL, err) < 0)
            return -1;
    if (add_egress(c, err) < 0 || add(c, PROG_SERVICE, SL(PROG_EGRESS_KEY), err) < 0 || add_ingress(c, err) < 0 ||
        add_listeners(c, err) < 0)
        return -1;
    struct walk w = {.c = c, .err = err};
    index_each_object(c->in.index, INDEX_SC, on_sidecar, &w);
    index_each_service(c->in.index, on_service, &w);
    index_each_object(c->in.index, INDEX_SE, on_object, &w);
    index_each_object(c->in.index, INDEX_VS, on_object, &w);
    index_each_object(c->in.index, INDEX_DR, on_rule, &w);
    index_each_pod(c->in.index, on_pod, &w);
    return w.rc;
}

/* --- writing ------------------------------------------------------------------------------------------- */

static int by_kind_and_key(const void *a, const void *b)
{
    const struct wire_resource *x = a, *y = b;
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : slice_cmp(x->key, y->key);
}

static int render(struct compiling *c, struct buf *out, struct err *err)
{
    qsort(c->list, c->n, sizeof *c->list, by_kind_and_key);
    if (!c->dump) {
        enum err_code rc = wire_bundle_encode(c->list, c->n, out);
        return rc == ERR_OK ? 0 : err_set(err, rc, "program");
    }
    for (size_t i = 0; i < c->n; i++) {
        struct prog *p;
        if (wire_resource_decode(c->list[i].kind, c->list[i].key, c->list[i].version,
                                 c->list[i].payload, &p, err) < 0)
            return err_wrap(err, "%s \"%.*s\"", prog_kind_name(c->list[i].kind),
                            SL_FMT(c->list[i].key));
        prog_dump(p, out);
        prog_unref(p);
    }
    return buf_err(out) == ERR_OK ? 0 : err_set(err, buf_err(out), "program");
}

static int write_out(const char *path, struct slice bytes, struct err *err)
{
    FILE *f = strcmp(path, "-") == 0 ? stdout : fopen(path, "wb");
    if (!f)
        return err_set(err, ERR_IO, "%s: cannot be written", path);
    bool good = fwrite(bytes.p, 1, bytes.len, f) == bytes.len && fflush(f) == 0;
    if (f != stdout)
        good = fclose(f) == 0 && good;
    return good ? 0 : err_set(err, ERR_IO, "%s: cannot be written", path);
}

static int compile(struct compiling *c, const char *const *paths, size_t n_paths, const char *ns,
                   const char *pod, const char *roots, const char *to, struct err *err)
{
    struct file_objects set = {0};
    CLEANUP(buf_freep) struct buf pem;
    CLEANUP(buf_freep) struct buf out;
    buf_init(&pem, 4 << 20);
    buf_init(&out, 1u << 30);
    struct index *x = index_new();
    int rc = x ? 0 : err_set(err, ERR_NOMEM, "index");
    for (size_t i = 0; i < n_paths && rc == 0; i++)
        rc = file_objects_read(&set, paths[i], ns, err);
    if (rc == 0)
        rc = file_objects_index(&set, x, err);
    if (rc == 0 && roots)
        rc = file_read(roots, &pem, err);
    if (rc == 0) {
        c->in = (struct compile_input){.index = x, .roots_pem = buf_slice(&pem)};
        rc = compile_all(c, pod, ns, err);
    }
    if (rc == 0)
        rc = render(c, &out, err);
    if (rc == 0)
        rc = write_out(to, buf_slice(&out), err);
    file_objects_fini(&set);
    index_free(x);
    return rc;
}

static int run(int argc, char **argv)
{
    static const struct option table[] = {{"pod", required_argument, NULL, 'p'},
                                          {"roots", required_argument, NULL, 'r'},
                                          {"dump", no_argument, NULL, 'd'},
                                          {0}};
    const char *paths[64], *ns = "default", *pod = NULL, *roots = NULL, *to = NULL;
    size_t n_paths = 0;
    struct compiling c = {0};
    struct err err = {0};
    int opt;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, "f:o:n:", table, NULL)) != -1) {
        switch (opt) {
        case 'f':
            if (n_paths == N_OF(paths))
                return usage_error(&cmd_compile, "too many files");
            paths[n_paths++] = optarg;
            break;
        case 'o': to = optarg; break;
        case 'n': ns = optarg; break;
        case 'p': pod = optarg; break;
        case 'r': roots = optarg; break;
        case 'd': c.dump = true; break;
        default:
            return usage_error(&cmd_compile, "unknown or incomplete option %s", argv[optind - 1]);
        }
    }
    if (optind < argc || n_paths == 0)
        return usage_error(&cmd_compile, n_paths ? "unexpected argument %s" : "no file given%s",
                           n_paths ? argv[optind] : "");
    if (!to && !c.dump)
        return usage_error(&cmd_compile, "-o is missing");
    int rc = compile(&c, paths, n_paths, ns, pod, roots, to ? to : "-", &err);
    if (rc < 0)
        fprintf(stderr, "tulle compile: %s\n", err.msg);
    mem_free(c.list);
    map_fini(&c.seen);
    arena_fini(&c.arena);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
