/* SPDX-License-Identifier: Apache-2.0 */
/* Policies: whole objects of mesh/api, each in an arena of its own, found by name, host or namespace. */
#include "mesh/index/index_int.h"

#define OBJECT_CAP ((size_t)8 << 20)

void object_unref(struct ix_object *o)
{
    if (!o || --o->refs)
        return;
    arena_fini(&o->arena);
    mem_free(o);
}

/* --- ordered lists ---------------------------------------------------------------------------- */
int object_cmp(const struct ix_object *a, const struct ix_object *b)
{
    int c = (a->meta->created_s > b->meta->created_s) - (a->meta->created_s < b->meta->created_s);

    if (!c)
        c = slice_cmp(a->meta->ns, b->meta->ns);
    return c ? c : slice_cmp(a->meta->name, b->meta->name);
}

static int list_reserve(struct ix_objects *l)
{
    struct ix_object **grown;
    uint32_t cap = l->cap ? l->cap * 2 : 1;

    if (l->n < l->cap)
        return 0;
    grown = mem_realloc(l->p, cap * sizeof *grown);
    if (!grown)
        return -1;
    l->p = grown;
    l->cap = cap;
    return 0;
}

static void list_add(struct ix_objects *l, struct ix_object *o)
{
    uint32_t i = l->n++;

    for (; i > 0 && object_cmp(l->p[i - 1], o) > 0; i--)
        l->p[i] = l->p[i - 1];
    l->p[i] = o;
}

static void list_del(struct ix_objects *l, const struct ix_object *o)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->p[i] == o) {
            memmove(&l->p[i], &l->p[i + 1], (--l->n - i) * sizeof *l->p);
            return;
        }
}

/* --- by host ---------------------------------------------------------------------------------- */
static int by_host_of(enum index_kind kind)
{
    return kind == INDEX_VS ? BY_VS : kind == INDEX_DR ? BY_DR : kind == INDEX_SE ? BY_SE : -1;
}

static uint64_t host_token(enum index_kind kind, struct slice host)
{
    return index_token(kind == INDEX_VS ? "vs" : kind == INDEX_DR ? "dr" : "se", host, SLICE_NULL);
}

static struct ix_objects *host_list(struct index *x, enum by_host by, struct slice host)
{
    struct ix_objects *l = map_get(&x->by_host[by], host);

    if (l)
        return l;
    l = mem_zalloc(sizeof *l);
    if (l && map_put(&x->by_host[by], host, l, NULL) < 0) {
        mem_free(l);
        return NULL;
    }
    return l;
}

static void host_list_settle(struct index *x, enum by_host by, struct slice host)
{
    struct ix_objects *l = map_get(&x->by_host[by], host);

    if (!l || l->n)
        return;
    map_remove(&x->by_host[by], host);
    mem_free(l->p);
    mem_free(l);
}

static bool host_seen(const struct ix_object *o, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (slice_eq(o->hosts[k], o->hosts[i]))
            return true;
    return false;
}

static struct api_strings hosts_of(const struct ix_object *o)
{
    switch (o->kind) {
    case INDEX_VS:
        return o->vs->hosts;
    case INDEX_SE:
        return o->se->hosts;
    case INDEX_DR:
        return (struct api_strings){(struct slice *)(uintptr_t)&o->dr->host, 1};
    default:
        return (struct api_strings){0};
    }
}

static int resolve_hosts(const struct index *x, struct ix_object *o)
{
    struct api_strings hosts = hosts_of(o);

    if (!hosts.n)
        return 0;
    o->hosts = ARENA_ARRAY(&o->arena, struct slice, hosts.n);
    if (!o->hosts)
        return -1;
    for (uint32_t i = 0; i < hosts.n; i++) {
        o->hosts[i] = index_fqdn(x, hosts.p[i], o->meta->ns, &o->arena);
        if (!o->hosts[i].p)
            return -1;
    }
    o->n_hosts = hosts.n;
    return 0;
}

/* The list of its namespace for kinds that are found so. */
static struct ix_objects *ns_list(struct ix_ns *n, enum index_kind kind)
{
    switch (kind) {
    case INDEX_PA:
        return &n->pa;
    case INDEX_AP:
        return &n->ap;
    case INDEX_RA:
        return &n->ra;
    case INDEX_SC:
        return &n->sc;
    default:
        return &n->we;
    }
}

static bool by_namespace(enum index_kind kind)
{
    return kind == INDEX_PA || kind == INDEX_AP || kind == INDEX_RA || kind == INDEX_WE ||
           kind == INDEX_SC;
}

/* Is some address a range? */
static bool has_range(const struct ix_object *o)
{
    for (uint32_t i = 0; o->kind == INDEX_SE && i < o->se->addresses.n; i++)
        if (slice_chr(o->se->addresses.p[i], '/') >= 0)
            return true;
    return false;
}

/* --- in and out ------------------------------------------------------------------------------- */
static void note_object(const struct index *x, struct index_changes *c, const struct ix_object *o)
{
    struct ipaddr ip;

    for (uint32_t i = 0; i < o->n_hosts; i++)
        note(c, host_token(o->kind, o->hosts[i]));
    switch (o->kind) {
    case INDEX_VS:
        note(c, INDEX_TOKEN_VS_OBJECT(o->meta->ns, o->meta->name));
        note(c, INDEX_TOKEN_NAMES);
        note(c, INDEX_TOKEN_FILTER);
        if (o->vs->gateways.n > (api_strings_has(&o->vs->gateways, SL("mesh")) ? 1u : 0u))
            note(c, INDEX_TOKEN_GATEWAY_VS);
        break;
    case INDEX_GW:
        note(c, INDEX_TOKEN_GATEWAYS);
        break;
    case INDEX_SE:
        note(c, INDEX_TOKEN_NAMES);
        note(c, INDEX_TOKEN_FILTER);
        note(c, index_token("se-object", o->meta->ns, o->meta->name));
        if (has_range(o))
            note(c, INDEX_TOKEN_RANGES);
        for (uint32_t i = 0; i < o->se->addresses.n; i++)
            if (ip_parse(o->se->addresses.p[i], &ip))
                note(c, INDEX_TOKEN_IP(&ip));
        break;
    case INDEX_WE:
        note(c, INDEX_TOKEN_WE(o->meta->ns));
        note(c, INDEX_TOKEN_FILTER);
        if (ip_parse(o->we->endpoint.address, &ip))
            note(c, INDEX_TOKEN_IP(&ip));
        break;
    case INDEX_DR: /* subset selectors are part of endpoints */
        for (uint32_t i = 0; i < o->n_hosts; i++)
            note(c, index_token("selectors", o->hosts[i], SLICE_NULL));
        note(c, INDEX_TOKEN_RULES(o->meta->ns));
        break;
    case INDEX_PA:
        note(c, INDEX_TOKEN_PA(o->meta->ns));
        break;
    case INDEX_AP:
        note(c, INDEX_TOKEN_AP(o->meta->ns));
        break;
    case INDEX_RA:
        note(c, INDEX_TOKEN_RA(o->meta->ns));
        break;
    case INDEX_SC:
        note(c, INDEX_TOKEN_SC(o->meta->ns));
        if (x->objects[INDEX_SC].n == 1) /* the first, the last that goes, or the only one changes */
            note(c, INDEX_TOKEN_SIDECARS);
        break;
    default:
        break;
    }
}

/* Address number i of a ServiceEntry or WorkloadEntry (len 0: a range or a name); false at the end. */
static bool address_at(const struct ix_object *o, uint32_t i, struct ipaddr *ret)
{
    uint32_t n = o->kind == INDEX_SE ? o->se->addresses.n : o->kind == INDEX_WE ? 1 : 0;

    if (i >= n)
        return false;
    if (!ip_parse(o->kind == INDEX_SE ? o->se->addresses.p[i] : o->we->endpoint.address, ret))
        ret->len = 0;
    return true;
}

static void object_out(struct index *x, struct ix_object *o)
{
    int by = by_host_of(o->kind);
    struct ipaddr ip;
    struct ix_ns *n;

    if (by >= 0 && !o->invalid)
        for (uint32_t i = 0; i < o->n_hosts; i++) {
            struct ix_objects *l = map_get(&x->by_host[by], o->hosts[i]);

            if (l)
                list_del(l, o);
            host_list_settle(x, (enum by_host)by, o->hosts[i]);
        }
    for (uint32_t i = 0; !o->invalid && address_at(o, i, &ip); i++)
        if (ip.len)
            vips_remove(x, &ip, o);
    list_del(&x->ranges, o);
    if (by_namespace(o->kind)) {
        n = ns_find(x, o->meta->ns);
        list_del(ns_list(n, o->kind), o);
    }
    iset_del(&x->objects[o->kind], o);
}

static int hosts_in(struct index *x, struct ix_object *o, enum by_host by)
{
    for (uint32_t i = 0; i < o->n_hosts; i++) {
        struct ix_objects *l;

        if (host_seen(o, i))
            continue;
        l = host_list(x, by, o->hosts[i]);
        if (!l || list_reserve(l) < 0)
            return -1;
        list_add(l, o);
    }
    return 0;
}

/* All or nothing. */
static int object_in(struct index *x, struct ix_object *o)
{
    int by = by_host_of(o->kind);
    struct ipaddr ip;
    struct ix_ns *n;

    if (iset_reserve(&x->objects[o->kind]) < 0)
        return -1;
    if (by_namespace(o->kind)) {
        n = ns_get(x, o->meta->ns);
        if (!n || list_reserve(ns_list(n, o->kind)) < 0)
            return -1;
        list_add(ns_list(n, o->kind), o);
    }
    iset_add(&x->objects[o->kind], o);
    if (by >= 0 && !o->invalid && hosts_in(x, o, (enum by_host)by) < 0)
        goto fail;
    for (uint32_t i = 0; !o->invalid && address_at(o, i, &ip); i++)
        if (ip.len && vip_add(x, ip, NULL, o) < 0)
            goto fail;
    if (!o->invalid && has_range(o)) {
        if (list_reserve(&x->ranges) < 0)
            goto fail;
        list_add(&x->ranges, o);
    }
    return 0;
fail:
    object_out(x, o);
    return -1;
}

/* --- decoding --------------------------------------------------------------------------------- */
#define DECODE(type, member, fn)                                                                   \
    do {                                                                                           \
        struct type *v;                                                                            \
        if (fn##_decode(obj, &o->arena, &v, f) < 0)                                                \
            return -1;                                                                             \
        o->member = v;                                                                             \
        o->meta = &v->meta;                                                                        \
        fn##_validate(v, f);                                                                       \
    } while (0)

static int decode(struct ix_object *o, const json_t *obj, struct findings *f)
{
    switch (o->kind) {
    case INDEX_VS:
        DECODE(vs, vs, vs);
        return 0;
    case INDEX_DR:
        DECODE(dr, dr, dr);
        return 0;
    case INDEX_SE:
        DECODE(se, se, se);
        return 0;
    case INDEX_PA:
        DECODE(pa, pa, pa);
        return 0;
    case INDEX_AP:
        DECODE(ap, ap, ap);
        return 0;
    case INDEX_MESH:
        DECODE(mesh_cr, mesh, mesh_cr);
        return 0;
    case INDEX_RA:
        DECODE(ra, ra, ra);
        return 0;
    case INDEX_GW:
        DECODE(gw, gw, gw);
        return 0;
    case INDEX_SC:
        DECODE(sc, sc, sc);
        return 0;
    case INDEX_WE:
        DECODE(we, we, we);
        return 0;
    case INDEX_WG:
        DECODE(wg, wg, wg);
        return 0;
    case INDEX_PC:
        DECODE(pc, pc, pc);
        return 0;
    case INDEX_TE:
        DECODE(te, te, te);
        return 0;
    case INDEX_EF:
    case INDEX_WP:
    case INDEX_TX:
        DECODE(envoy, envoy, envoy);
        return 0;
    default:
        return -1;
    }
}

static struct ix_object *object_make(struct index *x, enum index_kind kind, const json_t *obj)
{
    struct ix_object *o = mem_zalloc(sizeof *o);
    struct findings *f;

    if (!o)
        return NULL;
    o->refs = 1;
    o->kind = kind;
    arena_init(&o->arena, 512, OBJECT_CAP);
    f = ARENA_NEW(&x->scratch, struct findings);
    if (!f)
        goto fail;
    findings_init(f, &x->scratch);
    if (decode(o, obj, f) < 0 || resolve_hosts(x, o) < 0)
        goto fail;
    o->invalid = f->nomem || findings_has(f, FINDING_ERROR);
    return o;
fail:
    object_unref(o);
    return NULL;
}

static bool map_same(const struct api_map *a, const struct api_map *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!slice_eq(a->p[i].key, b->p[i].key) || !slice_eq(a->p[i].value, b->p[i].value))
            return false;
    return true;
}

/* Only the status moved: the API server counts generations by changes of the spec. */
static bool same_spec(const struct ix_object *a, const struct ix_object *b)
{
    return b->meta->generation > 0 && a->meta->generation == b->meta->generation && b->meta->uid.len &&
           slice_eq(a->meta->uid, b->meta->uid) && map_same(&a->meta->labels, &b->meta->labels) &&
           map_same(&a->meta->annotations, &b->meta->annotations);
}

/* Host names depend on the cluster's domain. */
static int mesh_in(struct index *x, struct ix_object *o, struct index_changes *c)
{
    struct slice before = index_cluster_domain(x);
    struct ix_object *old = x->mesh;
    bool moved;

    if (!slice_is(o->meta->name, MESH_CR_NAME)) {
        object_unref(o); /* only `default` counts */
        return 0;
    }
    x->mesh = o;
    moved = !slice_eq(before, o->mesh->cluster_domain);
    note(c, INDEX_TOKEN_MESH);
    note(c, INDEX_TOKEN_NAMES);
    if (moved && c)
        c->all = true;
    for (int kind = INDEX_VS; moved && kind <= INDEX_SE; kind++)
        ISET_EACH (&x->objects[kind], struct ix_object, e) {
            int by = by_host_of((enum index_kind)kind);

            for (uint32_t i = 0; !e->invalid && i < e->n_hosts; i++) {
                struct ix_objects *l = map_get(&x->by_host[by], e->hosts[i]);

                if (l)
                    list_del(l, e);
                host_list_settle(x, (enum by_host)by, e->hosts[i]);
            }
            if (resolve_hosts(x, e) < 0 || hosts_in(x, e, (enum by_host)by) < 0)
                e->invalid = true;
        }
    object_unref(old);
    return 0;
}

int put_object(struct index *x, enum index_kind kind, const json_t *obj, struct index_changes *c,
               struct err *err)
{
    struct ix_object *o = object_make(x, kind, obj), *old;

    if (!o)
        return err_set(err, ERR_INVALID, "index: no %s with a name, or no memory",
                       index_kind_name(kind));
    if (kind == INDEX_MESH)
        return mesh_in(x, o, c);
    old = (struct ix_object *)(uintptr_t)index_object(x, kind, o->meta->ns, o->meta->name);
    if (old && same_spec(old, o)) {
        object_unref(o);
        return 0;
    }
    if (object_in(x, o) < 0) {
        object_unref(o);
        return err_set(err, ERR_NOMEM, "index: %s", index_kind_name(kind));
    }
    if (old) {
        note_object(x, c, old);
        object_out(x, old);
        object_unref(old);
    }
    note_object(x, c, o);
    return 0;
}

bool remove_object(struct index *x, enum index_kind kind, struct slice ns, struct slice name,
                   struct index_changes *c)
{
    struct ix_object *o;

    if (kind == INDEX_MESH) {
        if (!x->mesh || !slice_eq(name, x->mesh->meta->name))
            return false;
        object_unref(x->mesh);
        x->mesh = NULL;
        note(c, INDEX_TOKEN_MESH);
        if (c)
            c->all = true;
        return true;
    }
    o = (struct ix_object *)(uintptr_t)index_object(x, kind, ns, name);
    if (!o)
        return false;
    note_object(x, c, o);
    object_out(x, o);
    object_unref(o);
    return true;
}

/* --- questions -------------------------------------------------------------------------------- */
const struct ix_object *index_object(const struct index *x, enum index_kind kind, struct slice ns,
                                     struct slice name)
{
    const struct iset *s = &x->objects[kind];
    struct ix_object *o;

    if (kind == INDEX_MESH)
        return x->mesh && slice_eq(x->mesh->meta->name, name) ? x->mesh : NULL;
    for (uint32_t i = iset_first(s, pair_hash(text_hash(ns), text_hash(name)));
         (o = iset_at(s, i)); i++)
        if (slice_eq(o->meta->name, name) && slice_eq(o->meta->ns, ns))
            return o;
    return NULL;
}

const struct ix_objects *index_vs_of(const struct index *x, struct slice host)
{
    return map_get(&x->by_host[BY_VS], host);
}

const struct ix_objects *index_dr_of(const struct index *x, struct slice host)
{
    return map_get(&x->by_host[BY_DR], host);
}

const struct ix_objects *index_se_of(const struct index *x, struct slice host)
{
    return map_get(&x->by_host[BY_SE], host);
}

const struct ix_objects *index_pa_of(const struct index *x, struct slice ns)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n && n->pa.n ? &n->pa : NULL;
}

const struct ix_objects *index_ap_of(const struct index *x, struct slice ns)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n && n->ap.n ? &n->ap : NULL;
}

const struct ix_objects *index_we_of(const struct index *x, struct slice ns)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n && n->we.n ? &n->we : NULL;
}

const struct ix_objects *index_sc_of(const struct index *x, struct slice ns)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n && n->sc.n ? &n->sc : NULL;
}

bool index_any(const struct index *x, enum index_kind kind)
{
    return x->objects[kind].n > 0;
}

const struct ix_objects *index_ra_of(const struct index *x, struct slice ns)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n && n->ra.n ? &n->ra : NULL;
}

bool index_visible(const struct api_strings *export_to, struct slice own_ns, struct slice client_ns)
{
    for (uint32_t i = 0; i < export_to->n; i++) {
        struct slice e = export_to->p[i];

        if (slice_eq(e, SL("*")) || slice_eq(e, client_ns) ||
            (slice_eq(e, SL(".")) && slice_eq(own_ns, client_ns)))
            return true;
    }
    return export_to->n == 0;
}
