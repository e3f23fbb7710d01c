/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "mesh/compile/compile_int.h"

/* --- helpers ------------------------------------------------------------------------------------------ */
struct slice cc_printf(struct cc *c, const char *fmt, ...)
{
    char small[512], *p = small;
    struct slice s;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof small) {
        p = arena_alloc(c->a, (size_t)n + 1);
        if (p) {
            va_start(ap, fmt);
            vsnprintf(p, (size_t)n + 1, fmt, ap);
            va_end(ap);
            return slice_of(p, (size_t)n);
        }
    }
    s = n < 0 || !p ? SLICE_NULL : arena_slice(c->a, slice_of(p, (size_t)n));
    c->nomem |= !s.p;
    return s;
}

struct slice cc_copy(struct cc *c, struct slice s)
{
    struct slice r;

    if (!s.len)
        return SLICE_NULL;
    r = arena_slice(c->a, s);
    c->nomem |= !r.p;
    return r;
}

void *cc_array(struct cc *c, size_t n, size_t size)
{
    void *p = n ? arena_array(c->a, n, size) : NULL;

    c->nomem |= n && !p;
    return p;
}

void *cc_grow(struct cc *c, void *p_array, uint32_t *n, uint32_t *cap, size_t size)
{
    char *p, *grown;

    memcpy(&p, p_array, sizeof p);
    if (*n == *cap) {
        uint32_t more = *cap ? *cap * 2 : 4;

        grown = cc_array(c, more, size);
        if (!grown)
            return NULL;
        if (*n)
            memcpy(grown, p, *n * size);
        *cap = more;
        p = grown;
        memcpy(p_array, &p, sizeof p);
    }
    return p + (*n)++ * size;
}

struct prog_strings cc_strings(struct cc *c, size_t n)
{
    return (struct prog_strings){.p = CC_ARRAY(c, struct slice, n)};
}

struct prog_strings cc_copy_strings(struct cc *c, const struct api_strings *from)
{
    struct prog_strings l = cc_strings(c, from->n);

    for (uint32_t i = 0; l.p && i < from->n; i++)
        l.p[l.n++] = cc_copy(c, from->p[i]);
    return l;
}

void cc_dep(struct cc *c, uint64_t token)
{
    uint64_t *p;

    for (uint32_t i = c->n_deps > 16 ? c->n_deps - 16 : 0; i < c->n_deps; i++)
        if (c->deps[i] == token)
            return;
    p = cc_grow(c, &c->deps, &c->n_deps, &c->cap_deps, sizeof *c->deps);
    if (p)
        *p = token;
}

void cc_origin(struct cc *c, enum index_kind kind, const struct obj_meta *m)
{
    struct origin *o;

    for (uint32_t i = 0; i < c->n_origins; i++)
        if (c->origins[i].kind == kind && slice_eq(c->origins[i].name, m->name) &&
            slice_eq(c->origins[i].ns, m->ns))
            return;
    o = cc_grow(c, &c->origins, &c->n_origins, &c->cap_origins, sizeof *c->origins);
    if (o)
        *o = (struct origin){kind, cc_copy(c, m->ns), cc_copy(c, m->name), m->generation};
}

void cc_problem(struct cc *c, enum finding_kind finding, enum index_kind kind,
                const struct obj_meta *m, struct slice path, const char *fmt, ...)
{
    struct compile_problem *p;
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (uint32_t i = 0; i < c->n_problems; i++)
        if (c->problems[i].kind == kind && slice_is(c->problems[i].text, text) &&
            slice_eq(c->problems[i].path, path) && slice_eq(c->problems[i].name, m->name) &&
            slice_eq(c->problems[i].ns, m->ns))
            return;
    p = cc_grow(c, &c->problems, &c->n_problems, &c->cap_problems, sizeof *c->problems);
    if (p)
        *p = (struct compile_problem){finding,
                                      kind,
                                      cc_copy(c, m->ns),
                                      cc_copy(c, m->name),
                                      cc_copy(c, path),
                                      cc_copy(c, slice_str(text))};
}

bool cc_next_pattern(struct cc *c, struct slice host, struct slice *pattern)
{
    struct slice rest;
    ptrdiff_t dot;

    if (!pattern->p) {
        *pattern = host;
        return host.len > 0;
    }
    if (slice_eq(*pattern, SL("*")))
        return false;
    /* What follows the star or the whole host: cut one label more. */
    rest = pattern->p[0] == '*' ? slice_skip(*pattern, 2) : *pattern;
    dot = slice_chr(rest, '.');
    *pattern = dot < 0 ? SL("*") : cc_printf(c, "*%.*s", SL_FMT(slice_skip(rest, (size_t)dot)));
    return pattern->p != NULL;
}

bool cc_labels_cover(struct cc *c, const struct api_map *want)
{
    if (!want->n)
        return true;
    c->looks |= COMPILE_LOOKS_LABELS;
    if (c->viewer->pod.len)
        cc_dep(c, INDEX_TOKEN_POD(c->viewer->namespace_, c->viewer->pod));
    return ilabels_cover(c->viewer->labels, want);
}

struct slice cc_label(struct cc *c, struct slice key)
{
    c->looks |= COMPILE_LOOKS_LABELS;
    if (c->viewer->pod.len)
        cc_dep(c, INDEX_TOKEN_POD(c->viewer->namespace_, c->viewer->pod));
    return ilabels_get(c->viewer->labels, key);
}

bool cc_public(const struct api_strings *export_to)
{
    return export_to->n == 0 || api_strings_has(export_to, SL("*"));
}

bool cc_visible(struct cc *c, const struct api_strings *export_to, struct slice own_ns)
{
    return cc_public(export_to) || index_visible(export_to, own_ns, cc_ns(c));
}

uint32_t cc_ms(int64_t ns)
{
    int64_t ms = ns <= 0 ? 0 : (ns - 1) / 1000000 + 1;

    return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

uint32_t cc_permyriad(double percent)
{
    double v = percent * 100 + 0.5;

    return !(v > 0) ? 0 : v >= 10000 ? 10000 : (uint32_t)v;
}

struct slice cc_identity(struct cc *c, struct slice ns, struct slice sa)
{
    return cc_printf(c, "spiffe://%.*s/ns/%.*s/sa/%.*s", SL_FMT(c->mesh->trust_domain), SL_FMT(ns),
                     SL_FMT(sa));
}

void *cc_prog(struct cc *c, enum prog_kind kind, size_t size)
{
    struct prog *p = cc_array(c, 1, size);

    if (p)
        p->kind = kind;
    return p;
}

/* --- facade ------------------------------------------------------------------------------------------- */
void compile_client_of_pod(const struct ix_pod *pod, struct compile_client *ret)
{
    *ret = (struct compile_client){istr_slice(pod->ns), istr_slice(pod->name), pod->labels};
}

static int cmp_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static int cmp_origin(const void *a, const void *b)
{
    const struct origin *x = a, *y = b;
    int d = (int)x->kind - (int)y->kind;

    if (!d)
        d = slice_cmp(x->ns, y->ns);
    return d ? d : slice_cmp(x->name, y->name);
}

static int cmp_problem(const void *a, const void *b)
{
    const struct compile_problem *x = a, *y = b;
    int d = (int)x->kind - (int)y->kind;

    if (!d)
        d = slice_cmp(x->ns, y->ns);
    if (!d)
        d = slice_cmp(x->name, y->name);
    if (!d)
        d = slice_cmp(x->path, y->path);
    return d ? d : slice_cmp(x->text, y->text);
}

static void sort(void *p, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
    if (n)
        qsort(p, n, size, cmp);
}

static int cmp_slice(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static uint32_t distinct(struct slice *v, uint32_t n)
{
    uint32_t kept = 0;

    sort(v, n, sizeof *v, cmp_slice);
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || !slice_eq(v[i], v[kept - 1]))
            v[kept++] = v[i];
    return kept;
}

/* Distinct keys of all clusters' endpoints. */
static void endpoint_keys(struct cc *c, const struct prog_service *s, struct compiled *ret)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n_clusters; i++)
        n += s->clusters[i].endpoints.n;
    ret->endpoint_keys = CC_ARRAY(c, struct slice, n);
    n = 0;
    for (uint32_t i = 0; ret->endpoint_keys && i < s->n_clusters; i++)
        for (uint32_t k = 0; k < s->clusters[i].endpoints.n; k++)
            ret->endpoint_keys[n++] = s->clusters[i].endpoints.p[k];
    ret->n_endpoint_keys = distinct(ret->endpoint_keys, n);
}

static struct prog *compile_kind(struct cc *c, enum prog_kind kind, struct slice key,
                                 enum err_code *rc)
{
    switch (kind) {
    case PROG_SETTINGS:
        return compile_settings(c);
    case PROG_INBOUND:
        return compile_inbound(c);
    case PROG_NAMES:
        return compile_names(c);
    case PROG_SERVICE:
        return compile_service(c, key, rc);
    case PROG_ENDPOINTS:
        return compile_endpoints(c, key, rc);
    case PROG_WORKLOAD:
        return compile_workload(c, key, rc);
    case PROG_LISTENERS:
        return slice_is(key, PROG_EGRESS_LISTENERS) ? compile_egress_listeners(c)
                                                    : compile_listeners(c);
    case PROG_CREDENTIAL:
        return compile_credential(c, key);
    }
    *rc = ERR_INVALID;
    return NULL;
}

/* A version is no secret and may be seen; that of a certificate must say nothing about its key. */
static enum err_code public_version(const struct prog *p, struct wire_version *ret)
{
    struct prog_credential bare = *(const struct prog_credential *)p;
    enum err_code rc;
    struct buf b;

    bare.key_pem = SLICE_NULL;
    buf_init(&b, WIRE_MAX_PAYLOAD);
    rc = wire_resource_encode(&bare.prog, &b);
    if (rc == ERR_OK)
        *ret = wire_version(buf_slice(&b));
    buf_fini(&b);
    return rc;
}

static enum err_code encode(struct cc *c, const struct prog *p, struct compiled *ret)
{
    enum err_code rc;
    struct buf b;

    buf_init(&b, WIRE_MAX_PAYLOAD);
    rc = wire_resource_encode(p, &b);
    if (rc == ERR_OK) {
        ret->payload = arena_slice(c->a, buf_slice(&b));
        if (buf_len(&b) && !ret->payload.p)
            rc = ERR_NOMEM;
        if (p->kind == PROG_CREDENTIAL) {
            rc = public_version(p, &ret->version);
            explicit_bzero(b.p, b.cap);
        } else {
            ret->version = wire_version(buf_slice(&b));
        }
    }
    buf_fini(&b);
    return rc;
}

enum err_code compile_resource(const struct compile_input *in, const struct compile_client *client,
                               enum prog_kind kind, struct slice key, struct arena *a,
                               struct compiled *ret)
{
    struct cc c = {.in = in, .x = in->index, .viewer = client, .a = a};
    struct compiled out = {.kind = kind};
    enum err_code rc = ERR_OK;
    struct prog *p;
    uint32_t n = 0;

    c.mesh = index_mesh(in->index);
    p = compile_kind(&c, kind, key, &rc);
    if (rc != ERR_OK)
        return rc;
    if (c.nomem) /* the value has holes */
        return ERR_NOMEM;
    out.state = p ? c.state : PROG_ABSENT;
    if (p && (rc = encode(&c, p, &out)) != ERR_OK)
        return rc;
    if (p && kind == PROG_SERVICE)
        endpoint_keys(&c, (const struct prog_service *)p, &out);
    sort(c.deps, c.n_deps, sizeof *c.deps, cmp_u64);
    for (uint32_t i = 0; i < c.n_deps; i++)
        if (i == 0 || c.deps[i] != c.deps[n - 1])
            c.deps[n++] = c.deps[i];
    sort(c.origins, c.n_origins, sizeof *c.origins, cmp_origin);
    sort(c.problems, c.n_problems, sizeof *c.problems, cmp_problem);
    out.looks = c.looks;
    out.deps = c.deps;
    out.n_deps = n;
    out.origins = c.origins;
    out.n_origins = c.n_origins;
    out.problems = c.problems;
    out.n_problems = c.n_problems;
    if (c.nomem)
        return ERR_NOMEM;
    *ret = out;
    return ERR_OK;
}

int compile_value(const struct compiled *c, struct slice key, struct prog **ret, struct err *err)
{
    return wire_resource_decode(c->kind, key,
                                slice_of(c->version.bytes, sizeof c->version.bytes), c->payload,
                                ret, err);
}

enum err_code compile_service_keys(const struct compile_input *in, struct slice ns, struct arena *a,
                                   struct slice **ret, uint32_t *ret_n)
{
    struct slice domain = index_cluster_domain(in->index), *v;
    uint32_t n = 0;

    *ret = NULL;
    *ret_n = 0;
    for (const struct ix_service *s = index_services(in->index, ns); s; s = s->next)
        n += s->known ? s->n_ports : 0;
    v = ARENA_ARRAY(a, struct slice, n);
    if (!v)
        return ERR_NOMEM;
    n = 0;
    for (const struct ix_service *s = index_services(in->index, ns); s; s = s->next)
        for (uint32_t i = 0; s->known && i < s->n_ports; i++) {
            if (!s->ports[i].tcp)
                continue;
            v[n] = slice_str(arena_printf(a, "%s.%s.svc.%.*s:%u", s->name->p, s->ns->p,
                                          SL_FMT(domain), s->ports[i].port));
            if (!v[n++].p)
                return ERR_NOMEM;
        }
    *ret = v;
    *ret_n = distinct(v, n);
    return ERR_OK;
}
