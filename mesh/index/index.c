/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/index/index_int.h"

static const struct {
    const char *name, *group;
} kinds[INDEX_KINDS] = {
    [INDEX_NAMESPACE] = {"Namespace", ""},
    [INDEX_NODE] = {"Node", ""},
    [INDEX_POD] = {"Pod", ""},
    [INDEX_SERVICE] = {"Service", ""},
    [INDEX_SLICE] = {"EndpointSlice", "discovery.k8s.io/"},
    [INDEX_SECRET] = {"Secret", ""},
    [INDEX_VS] = {"VirtualService", "networking.istio.io/"},
    [INDEX_DR] = {"DestinationRule", "networking.istio.io/"},
    [INDEX_SE] = {"ServiceEntry", "networking.istio.io/"},
    [INDEX_PA] = {"PeerAuthentication", "security.istio.io/"},
    [INDEX_AP] = {"AuthorizationPolicy", "security.istio.io/"},
    [INDEX_MESH] = {"Mesh", "tulle.dev/"},
    [INDEX_RA] = {"RequestAuthentication", "security.istio.io/"},
    [INDEX_GW] = {"Gateway", "networking.istio.io/"},
    [INDEX_SC] = {"Sidecar", "networking.istio.io/"},
    [INDEX_WE] = {"WorkloadEntry", "networking.istio.io/"},
    [INDEX_WG] = {"WorkloadGroup", "networking.istio.io/"},
    [INDEX_PC] = {"ProxyConfig", "networking.istio.io/"},
    [INDEX_TE] = {"Telemetry", "telemetry.istio.io/"},
    [INDEX_EF] = {"EnvoyFilter", "networking.istio.io/"},
    [INDEX_WP] = {"WasmPlugin", "extensions.istio.io/"},
    [INDEX_TX] = {"TrafficExtension", "extensions.istio.io/"},
};

const char *index_kind_name(enum index_kind k)
{
    return (unsigned)k < INDEX_KINDS ? kinds[k].name : "unknown";
}

bool index_kind_of(const json_t *obj, enum index_kind *ret)
{
    struct slice version = slice_str(json_string_value(json_object_get(obj, "apiVersion")));
    struct slice kind = slice_str(json_string_value(json_object_get(obj, "kind")));

    for (int k = 0; k < INDEX_KINDS; k++) {
        struct slice group = slice_str(kinds[k].group);

        if (slice_is(kind, kinds[k].name) &&
            (group.len ? slice_starts(version, group) : slice_is(version, "v1"))) {
            *ret = (enum index_kind)k;
            return true;
        }
    }
    return false;
}

/* --- changes ---------------------------------------------------------------------------------- */
uint64_t index_token(const char *what, struct slice a, struct slice b)
{
    return hash64(b, hash64(a, hash64(slice_str(what), a.len)));
}

void index_changes_fini(struct index_changes *c)
{
    mem_free(c->p);
    *c = (struct index_changes){0};
}

void index_changes_add(struct index_changes *c, uint64_t token)
{
    size_t cap = c->cap ? c->cap * 2 : 16;
    uint64_t *grown;

    /* Most updates touch a handful; a long list may hold a token twice, which costs little. */
    for (size_t i = c->n > 32 ? c->n - 32 : 0; i < c->n; i++)
        if (c->p[i] == token)
            return;
    if (c->n == c->cap) {
        grown = mem_realloc(c->p, cap * sizeof *grown);
        if (!grown) {
            c->all = true;
            return;
        }
        c->p = grown;
        c->cap = cap;
    }
    c->p[c->n++] = token;
}

/* --- life ------------------------------------------------------------------------------------- */
static uint32_t hash_ns(const void *e)
{
    return ((const struct ix_ns *)e)->name->hash;
}
static uint32_t hash_node(const void *e)
{
    return text_hash(((const struct ix_node *)e)->node->meta.name);
}
static uint32_t hash_service(const void *e)
{
    const struct ix_service *s = e;

    return pair_hash(s->ns->hash, s->name->hash);
}
static uint32_t hash_slice(const void *e)
{
    const struct ix_slice *s = e;

    return pair_hash(s->ns->hash, s->name->hash);
}
static uint32_t hash_pod(const void *e)
{
    const struct ix_pod *p = e;

    return pair_hash(p->ns->hash, p->name->hash);
}
static uint32_t hash_pod_ip0(const void *e)
{
    return ip_hash(&((const struct ix_pod *)e)->ip[0]);
}
static uint32_t hash_pod_ip1(const void *e)
{
    return ip_hash(&((const struct ix_pod *)e)->ip[1]);
}
static uint32_t hash_vip(const void *e)
{
    return ip_hash(&((const struct ix_vip *)e)->ip);
}
static uint32_t hash_secret(const void *e)
{
    const struct ix_secret *s = e;

    return pair_hash(s->ns->hash, s->name->hash);
}
static uint32_t hash_object(const void *e)
{
    const struct obj_meta *m = ((const struct ix_object *)e)->meta;

    return pair_hash(text_hash(m->ns), text_hash(m->name));
}

struct index *index_new(void)
{
    struct index *x = mem_zalloc(sizeof *x);

    if (!x)
        return NULL;
    intern_init(&x->names);
    x->namespaces.hash = hash_ns;
    x->nodes.hash = hash_node;
    x->services.hash = hash_service;
    x->slices.hash = hash_slice;
    x->pods.hash = hash_pod;
    x->pods_ip[0].hash = hash_pod_ip0;
    x->pods_ip[1].hash = hash_pod_ip1;
    x->vips.hash = hash_vip;
    x->secrets.hash = hash_secret;
    for (int k = 0; k < INDEX_KINDS; k++)
        x->objects[k].hash = hash_object;
    arena_init(&x->scratch, 16 << 10, 32 << 20);
    return x;
}

static void free_core(struct index *x)
{
    ISET_EACH (&x->slices, struct ix_slice, s) {
        for (uint32_t i = 0; i < s->n_endpoints; i++)
            s->endpoints[i].pod = NULL; /* the pods go as a whole */
        slice_free(x, s);
    }
    ISET_EACH (&x->pods, struct ix_pod, p)
        pod_free(x, p);
    ISET_EACH (&x->services, struct ix_service, s) {
        s->n_vips = 0;
        service_free(x, s);
    }
    ISET_EACH (&x->vips, struct ix_vip, v) {
        intern_drop(&x->names, v->host);
        mem_free(v);
    }
    ISET_EACH (&x->secrets, struct ix_secret, s)
        secret_free(x, s);
    ISET_EACH (&x->nodes, struct ix_node, n) {
        arena_fini(&n->arena);
        mem_free(n);
    }
    ISET_EACH (&x->namespaces, struct ix_ns, n) {
        mem_free(n->pa.p);
        mem_free(n->ap.p);
        mem_free(n->ra.p);
        mem_free(n->we.p);
        mem_free(n->sc.p);
        intern_drop_labels(&x->names, n->labels);
        intern_drop(&x->names, n->name);
        mem_free(n);
    }
}

void index_free(struct index *x)
{
    if (!x)
        return;
    free_core(x);
    iset_fini(&x->namespaces);
    iset_fini(&x->nodes);
    iset_fini(&x->services);
    iset_fini(&x->slices);
    iset_fini(&x->pods);
    iset_fini(&x->pods_ip[0]);
    iset_fini(&x->pods_ip[1]);
    iset_fini(&x->vips);
    iset_fini(&x->secrets);
    for (int k = 0; k < INDEX_KINDS; k++) {
        ISET_EACH (&x->objects[k], struct ix_object, o)
            object_unref(o);
        iset_fini(&x->objects[k]);
    }
    for (int by = 0; by < BY_HOSTS; by++) {
        for (struct map_entry *e = NULL; (e = map_next(&x->by_host[by], e));) {
            mem_free(((struct ix_objects *)e->value)->p);
            mem_free(e->value);
        }
        map_fini(&x->by_host[by]);
    }
    for (struct map_entry *e = NULL; (e = map_next(&x->addresses, e));)
        mem_free(e->value);
    map_fini(&x->addresses);
    mem_free(x->ranges.p);
    object_unref(x->mesh);
    intern_fini(&x->names);
    arena_fini(&x->scratch);
    mem_free(x);
}

int index_put(struct index *x, enum index_kind kind, const json_t *obj, struct index_changes *changes,
              struct err *err)
{
    int rc;

    switch (kind) {
    case INDEX_NAMESPACE:
        rc = put_namespace(x, obj, changes, err);
        break;
    case INDEX_NODE:
        rc = put_node(x, obj, changes, err);
        break;
    case INDEX_POD:
        rc = put_pod(x, obj, changes, err);
        break;
    case INDEX_SERVICE:
        rc = put_service(x, obj, changes, err);
        break;
    case INDEX_SLICE:
        rc = put_slice(x, obj, changes, err);
        break;
    case INDEX_SECRET:
        rc = put_secret(x, obj, changes, err);
        break;
    case INDEX_VS:
    case INDEX_DR:
    case INDEX_SE:
    case INDEX_PA:
    case INDEX_AP:
    case INDEX_MESH:
    case INDEX_RA:
    case INDEX_GW:
    case INDEX_SC:
    case INDEX_WE:
    case INDEX_WG:
    case INDEX_PC:
    case INDEX_TE:
    case INDEX_EF:
    case INDEX_WP:
    case INDEX_TX:
        rc = put_object(x, kind, obj, changes, err);
        break;
    default:
        rc = err_set(err, ERR_UNSUPPORTED, "index: kind %d", (int)kind);
    }
    arena_reset(&x->scratch);
    return rc;
}

bool index_remove(struct index *x, enum index_kind kind, struct slice ns, struct slice name,
                  struct index_changes *changes)
{
    switch (kind) {
    case INDEX_NAMESPACE:
        return remove_namespace(x, name, changes);
    case INDEX_NODE:
        return remove_node(x, name, changes);
    case INDEX_POD:
        return remove_pod(x, ns, name, changes);
    case INDEX_SERVICE:
        return remove_service(x, ns, name, changes);
    case INDEX_SLICE:
        return remove_slice(x, ns, name, changes);
    case INDEX_SECRET:
        return remove_secret(x, ns, name, changes);
    default:
        return (unsigned)kind < INDEX_KINDS && remove_object(x, kind, ns, name, changes);
    }
}

/* --- questions -------------------------------------------------------------------------------- */
const struct mesh_cr *index_mesh(const struct index *x)
{
    return x->mesh ? x->mesh->mesh : mesh_cr_defaults();
}

struct slice index_cluster_domain(const struct index *x)
{
    return index_mesh(x)->cluster_domain;
}

bool index_host_split(const struct index *x, struct slice host, struct slice *ret_name,
                      struct slice *ret_ns)
{
    struct slice domain = index_cluster_domain(x), rest;
    ptrdiff_t dot;

    if (host.len <= domain.len + 5 || !slice_ends(host, domain))
        return false;
    rest = slice_head(host, host.len - domain.len);
    if (!slice_ends(rest, SL(".svc.")))
        return false;
    rest = slice_head(rest, rest.len - 5);
    dot = slice_chr(rest, '.');
    if (dot <= 0 || (size_t)dot + 1 >= rest.len || slice_chr(slice_skip(rest, (size_t)dot + 1), '.') >= 0)
        return false;
    *ret_name = slice_head(rest, (size_t)dot);
    *ret_ns = slice_skip(rest, (size_t)dot + 1);
    return true;
}

const struct ix_service *index_service_by_host(const struct index *x, struct slice host)
{
    const struct ix_service *s;
    struct slice name, ns;

    if (!index_host_split(x, host, &name, &ns))
        return NULL;
    s = index_service(x, ns, name);
    return s && s->known ? s : NULL;
}

const struct ix_service *index_services(const struct index *x, struct slice ns)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n ? n->services : NULL;
}

struct slice index_namespace_label(const struct index *x, struct slice ns, struct slice key)
{
    const struct ix_ns *n = ns_find(x, ns);

    return n ? ilabels_get(n->labels, key) : SLICE_NULL;
}

struct slice index_pod_locality(const struct index *x, const struct ix_pod *pod, struct arena *a)
{
    struct slice own = ilabels_get(pod->labels, SL("istio-locality"));
    struct ix_node *n;
    char *text;

    if (!own.len)
        own = ilabels_get(pod->labels, SL("topology.istio.io/locality"));
    if (own.len) { /* a label's value holds no slash */
        text = arena_strndup(a, own.p, own.len);
        for (size_t i = 0; text && slice_chr(own, '/') < 0 && i < own.len; i++)
            text[i] = text[i] == '.' ? '/' : text[i];
        return slice_str(text);
    }
    if (!pod->node)
        return SLICE_NULL;
    for (uint32_t i = iset_first(&x->nodes, pod->node->hash); (n = iset_at(&x->nodes, i)); i++)
        if (slice_eq(n->node->meta.name, istr_slice(pod->node)))
            break;
    if (!n || !(n->node->region.len || n->node->zone.len))
        return SLICE_NULL;
    text = arena_printf(a, "%.*s/%.*s%s%.*s", SL_FMT(n->node->region), SL_FMT(n->node->zone),
                        n->node->subzone.len ? "/" : "", SL_FMT(n->node->subzone));
    return slice_str(text);
}

struct slice index_fqdn(const struct index *x, struct slice host, struct slice ns, struct arena *a)
{
    struct slice domain = index_cluster_domain(x);
    char *text;

    if (host.len && host.p[host.len - 1] == '.')
        host.len--;
    if (slice_chr(host, '.') >= 0 || (host.len && host.p[0] == '*'))
        return arena_slice(a, host);
    text = arena_printf(a, "%.*s.%.*s.svc.%.*s", SL_FMT(host), SL_FMT(ns), SL_FMT(domain));
    return slice_str(text);
}

void index_each_object(const struct index *x, enum index_kind kind, index_object_fn *fn, void *user)
{
    ISET_EACH (&x->objects[kind], struct ix_object, o)
        if (!fn(user, o))
            return;
}

void index_each_service(const struct index *x, index_service_fn *fn, void *user)
{
    ISET_EACH (&x->services, struct ix_service, s)
        if (s->known && !fn(user, s))
            return;
}

void index_each_pod(const struct index *x, index_pod_fn *fn, void *user)
{
    ISET_EACH (&x->pods, struct ix_pod, p)
        if (p->known && !fn(user, p))
            return;
}

void index_each_node(const struct index *x, index_node_fn *fn, void *user)
{
    ISET_EACH (&x->nodes, struct ix_node, n)
        if (!fn(user, n->node))
            return;
}

struct index_stats index_stats(const struct index *x)
{
    struct index_stats s = {.slices = x->slices.n,
                            .endpoints = x->n_endpoints,
                            .pods = x->pods.n,
                            .services = x->services.n,
                            .strings = x->names.texts.n};

    for (int k = INDEX_VS; k < INDEX_KINDS; k++)
        s.policies += x->objects[k].n; /* Mesh is held apart */
    return s;
}
