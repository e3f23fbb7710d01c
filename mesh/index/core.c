/* SPDX-License-Identifier: Apache-2.0 */
/* Namespaces, nodes and pods; services and slices have files of their own. All are decoded in a
 * passing arena and kept compact.
 * Every put first makes all that it needs, then swaps, so that want of memory leaves the old value
 * in place. */
#include "mesh/index/index_int.h"

int put_nomem(struct err *err, const char *what)
{
    return err_set(err, ERR_NOMEM, "index: %s", what);
}

int put_not_a(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "index: no %s with a name", what);
}

void note(struct index_changes *c, uint64_t token)
{
    if (c)
        index_changes_add(c, token);
}

/* --- namespaces ------------------------------------------------------------------------------- */
struct ix_ns *ns_find(const struct index *x, struct slice name)
{
    uint32_t hash = text_hash(name);
    struct ix_ns *n;

    for (uint32_t i = iset_first(&x->namespaces, hash); (n = iset_at(&x->namespaces, i)); i++)
        if (n->name->hash == hash && slice_eq(istr_slice(n->name), name))
            return n;
    return NULL;
}

struct ix_ns *ns_get(struct index *x, struct slice name)
{
    struct ix_ns *n = ns_find(x, name);
    bool none = false;

    if (n)
        return n;
    if (iset_reserve(&x->namespaces) < 0 || !(n = mem_zalloc(sizeof *n)))
        return NULL;
    n->name = intern_text(&x->names, name.p ? name : SL(""), &none);
    if (!n->name) {
        mem_free(n);
        return NULL;
    }
    iset_add(&x->namespaces, n);
    return n;
}

int put_namespace(struct index *x, const json_t *obj, struct index_changes *c, struct err *err)
{
    const struct ilabels *labels;
    struct k8s_namespace *k;
    bool none = false;
    struct ix_ns *n;

    if (k8s_namespace_decode(obj, &x->scratch, &k, NULL) < 0)
        return put_not_a(err, "Namespace");
    n = ns_get(x, k->meta.name);
    labels = intern_labels(&x->names, &k->meta.labels, &none);
    if (!n || none) {
        intern_drop_labels(&x->names, labels);
        return put_nomem(err, "Namespace");
    }
    if (labels != n->labels)
        note(c, index_token("namespace", k->meta.name, SLICE_NULL));
    intern_drop_labels(&x->names, n->labels);
    n->labels = labels;
    return 0;
}

/* What lies in the namespace goes by its own removals; the empty record stays. */
bool remove_namespace(struct index *x, struct slice name, struct index_changes *c)
{
    struct ix_ns *n = ns_find(x, name);

    if (!n)
        return false;
    intern_drop_labels(&x->names, n->labels);
    n->labels = NULL;
    note(c, index_token("namespace", name, SLICE_NULL));
    return true;
}

/* --- nodes ------------------------------------------------------------------------------------ */
static struct ix_node *node_find(const struct index *x, struct slice name)
{
    struct ix_node *n;

    for (uint32_t i = iset_first(&x->nodes, text_hash(name)); (n = iset_at(&x->nodes, i)); i++)
        if (slice_eq(n->node->meta.name, name))
            return n;
    return NULL;
}

bool strings_same(const struct api_strings *a, const struct api_strings *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (!slice_eq(a->p[i], b->p[i]))
            return false;
    return true;
}

static void node_free(struct ix_node *n)
{
    arena_fini(&n->arena);
    mem_free(n);
}

int put_node(struct index *x, const json_t *obj, struct index_changes *c, struct err *err)
{
    struct ix_node *n = mem_zalloc(sizeof *n), *old;
    struct k8s_node *k;

    if (!n || iset_reserve(&x->nodes) < 0) {
        mem_free(n);
        return put_nomem(err, "Node");
    }
    if (k8s_node_decode(obj, &n->arena, &k, NULL) < 0) {
        node_free(n);
        return put_not_a(err, "Node");
    }
    n->node = k;
    old = node_find(x, k->meta.name);
    if (!old || !slice_eq(old->node->region, k->region) || !slice_eq(old->node->zone, k->zone) ||
        !slice_eq(old->node->subzone, k->subzone) ||
        !strings_same(&old->node->pod_cidrs, &k->pod_cidrs))
        note(c, INDEX_TOKEN_NODES);
    if (old) {
        iset_del(&x->nodes, old);
        node_free(old);
    }
    iset_add(&x->nodes, n);
    return 0;
}

bool remove_node(struct index *x, struct slice name, struct index_changes *c)
{
    struct ix_node *n = node_find(x, name);

    if (!n)
        return false;
    iset_del(&x->nodes, n);
    node_free(n);
    note(c, INDEX_TOKEN_NODES);
    return true;
}

/* --- pods ------------------------------------------------------------------------------------- */
const struct ix_pod *index_pod(const struct index *x, struct slice ns, struct slice name)
{
    struct ix_pod *p;

    for (uint32_t i = iset_first(&x->pods, pair_hash(text_hash(ns), text_hash(name)));
         (p = iset_at(&x->pods, i)); i++)
        if (slice_eq(istr_slice(p->name), name) && slice_eq(istr_slice(p->ns), ns))
            return p;
    return NULL;
}

struct ix_pod *pod_get(struct index *x, struct slice ns, struct slice name)
{
    struct ix_pod *p = (struct ix_pod *)(uintptr_t)index_pod(x, ns, name);
    bool none = false;

    if (p)
        return p;
    if (iset_reserve(&x->pods) < 0 || !(p = mem_zalloc(sizeof *p)))
        return NULL;
    p->ns = intern_text(&x->names, ns.p ? ns : SL(""), &none);
    p->name = intern_text(&x->names, name.p ? name : SL(""), &none);
    if (none) {
        intern_drop(&x->names, p->ns);
        intern_drop(&x->names, p->name);
        mem_free(p);
        return NULL;
    }
    iset_add(&x->pods, p);
    return p;
}

static void pod_drop_fields(struct index *x, struct ix_pod *p)
{
    intern_drop(&x->names, p->service_account);
    intern_drop(&x->names, p->workload);
    intern_drop(&x->names, p->owner_kind);
    intern_drop(&x->names, p->node);
    intern_drop(&x->names, p->ports);
    intern_drop_labels(&x->names, p->labels);
}

void pod_free(struct index *x, struct ix_pod *p)
{
    pod_drop_fields(x, p);
    intern_drop(&x->names, p->ns);
    intern_drop(&x->names, p->name);
    mem_free(p->slices);
    mem_free(p);
}

void pod_settle(struct index *x, struct ix_pod *p)
{
    if (p->known || p->n_slices)
        return;
    iset_del(&x->pods, p);
    pod_free(x, p);
}

void note_pod_slices(struct index_changes *c, const struct ix_pod *p)
{
    for (uint16_t i = 0; c && i < p->n_slices; i++)
        note(c, INDEX_TOKEN_SLICE(istr_slice(p->slices[i]->ns), istr_slice(p->slices[i]->name)));
}

static void pod_ips_out(struct index *x, struct ix_pod *p)
{
    for (int i = 0; i < 2; i++)
        if (p->ip[i].len)
            iset_del(&x->pods_ip[i], p);
}

/* "http=8080,metrics=9090" of the named ports. */
static const struct istr *pod_ports(struct index *x, const struct k8s_pod *k, bool *none)
{
    const struct istr *ret;
    struct buf b;

    buf_init(&b, 4096);
    for (uint32_t i = 0; i < k->n_ports; i++)
        if (k->ports[i].name.len)
            buf_addf(&b, "%s%.*s=%u", buf_len(&b) ? "," : "", SL_FMT(k->ports[i].name),
                     k->ports[i].port);
    ret = buf_len(&b) ? intern_text(&x->names, buf_slice(&b), none) : NULL;
    buf_fini(&b);
    return ret;
}

static bool pod_fill(struct index *x, const struct k8s_pod *k, struct ix_pod *p)
{
    bool none = false;
    uint32_t n = 0;

    p->service_account =
        intern_text(&x->names, k->service_account.len ? k->service_account : SL("default"), &none);
    p->workload = intern_text(&x->names, k->workload, &none);
    p->owner_kind = intern_text(&x->names, k->owner_kind, &none);
    p->node = intern_text(&x->names, k->node, &none);
    p->ports = pod_ports(x, k, &none);
    p->labels = intern_labels(&x->names, &k->meta.labels, &none);
    p->known = true;
    p->host_network = k->host_network;
    p->gone = k->phase == POD_SUCCEEDED || k->phase == POD_FAILED;
    p->mtls = !k->host_network && (k->tls_mode_istio || (k->injected && k->has_proxy));
    for (uint32_t i = 0; i < k->ips.n && n < 2 && !p->gone; i++)
        if (ip_parse(k->ips.p[i], &p->ip[n]))
            n++;
    return !none;
}

static bool pod_same(const struct ix_pod *a, const struct ix_pod *b)
{
    return a->known == b->known && a->service_account == b->service_account &&
           a->workload == b->workload && a->owner_kind == b->owner_kind && a->node == b->node &&
           a->ports == b->ports && a->labels == b->labels && a->mtls == b->mtls &&
           a->host_network == b->host_network && a->gone == b->gone &&
           ip_eq(&a->ip[0], &b->ip[0]) && ip_eq(&a->ip[1], &b->ip[1]);
}

static void note_pod(struct index_changes *c, const struct ix_pod *p)
{
    if (!c)
        return;
    note(c, INDEX_TOKEN_POD(istr_slice(p->ns), istr_slice(p->name)));
    note(c, INDEX_TOKEN_PODS(istr_slice(p->ns)));
    for (int i = 0; i < 2; i++)
        if (p->ip[i].len)
            note(c, INDEX_TOKEN_IP(&p->ip[i]));
    note_pod_slices(c, p);
}

int put_pod(struct index *x, const json_t *obj, struct index_changes *c, struct err *err)
{
    struct ix_pod *p, new = {0};
    struct k8s_pod *k;

    if (k8s_pod_decode(obj, &x->scratch, &k, NULL) < 0)
        return put_not_a(err, "Pod");
    p = pod_get(x, k->meta.ns, k->meta.name);
    if (!p || iset_reserve(&x->pods_ip[0]) < 0 || iset_reserve(&x->pods_ip[1]) < 0 ||
        !pod_fill(x, k, &new)) {
        pod_drop_fields(x, &new);
        if (p)
            pod_settle(x, p);
        return put_nomem(err, "Pod");
    }
    if (pod_same(p, &new)) {
        pod_drop_fields(x, &new);
        return 0;
    }
    note_pod(c, p); /* its old addresses */
    pod_ips_out(x, p);
    pod_drop_fields(x, p);
    new.ns = p->ns;
    new.name = p->name;
    new.slices = p->slices;
    new.n_slices = p->n_slices;
    new.cap_slices = p->cap_slices;
    *p = new;
    for (int i = 0; i < 2; i++)
        if (p->ip[i].len && !p->host_network)
            iset_add(&x->pods_ip[i], p);
    note_pod(c, p);
    return 0;
}

bool remove_pod(struct index *x, struct slice ns, struct slice name, struct index_changes *c)
{
    struct ix_pod *p = (struct ix_pod *)(uintptr_t)index_pod(x, ns, name);

    if (!p || !p->known)
        return false;
    note_pod(c, p);
    pod_ips_out(x, p);
    pod_drop_fields(x, p);
    p->service_account = p->workload = p->owner_kind = p->node = p->ports = NULL;
    p->labels = NULL;
    memset(p->ip, 0, sizeof p->ip);
    p->known = p->mtls = p->host_network = p->gone = false;
    pod_settle(x, p);
    return true;
}

const struct ix_pod *index_pod_by_ip(const struct index *x, const struct ipaddr *ip)
{
    for (int k = 0; k < 2; k++) {
        const struct iset *s = &x->pods_ip[k];
        struct ix_pod *p;

        for (uint32_t i = iset_first(s, ip_hash(ip)); (p = iset_at(s, i)); i++)
            if (ip_eq(&p->ip[k], ip))
                return p;
    }
    return NULL;
}
