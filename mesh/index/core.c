/* SPDX-License-Identifier: Apache-2.0 */
/* Core kinds: decoded in a passing arena, kept compact. Every put first makes all that it needs, then
 * swaps, so that want of memory leaves the old value in place. */
#include "mesh/index/index_int.h"

static int nomem(struct err *err, const char *what)
{
    return err_set(err, ERR_NOMEM, "index: %s", what);
}

static int not_a(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID, "index: no %s with a name", what);
}

void note(struct index_changes *c, uint64_t token)
{
    if (c)
        index_changes_add(c, token);
}

/* --- namespaces --------------------------------------------------------------------------------------- */
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
        return not_a(err, "Namespace");
    n = ns_get(x, k->meta.name);
    labels = intern_labels(&x->names, &k->meta.labels, &none);
    if (!n || none) {
        intern_drop_labels(&x->names, labels);
        return nomem(err, "Namespace");
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

/* --- nodes -------------------------------------------------------------------------------------------- */
static struct ix_node *node_find(const struct index *x, struct slice name)
{
    struct ix_node *n;

    for (uint32_t i = iset_first(&x->nodes, text_hash(name)); (n = iset_at(&x->nodes, i)); i++)
        if (slice_eq(n->node->meta.name, name))
            return n;
    return NULL;
}

static bool strings_same(const struct api_strings *a, const struct api_strings *b)
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
        return nomem(err, "Node");
    }
    if (k8s_node_decode(obj, &n->arena, &k, NULL) < 0) {
        node_free(n);
        return not_a(err, "Node");
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

/* --- pods --------------------------------------------------------------------------------------------- */
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

    p->service_account = intern_text(&x->names, k->service_account.len ? k->service_account
                                                                       : SL("default"), &none);
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
        return not_a(err, "Pod");
    p = pod_get(x, k->meta.ns, k->meta.name);
    if (!p || iset_reserve(&x->pods_ip[0]) < 0 || iset_reserve(&x->pods_ip[1]) < 0 ||
        !pod_fill(x, k, &new)) {
        pod_drop_fields(x, &new);
        if (p)
            pod_settle(x, p);
        return nomem(err, "Pod");
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

/* --- addresses of services ---------------------------------------------------------------------------- */
int vip_add(struct index *x, struct ipaddr ip, struct ix_service *svc, struct ix_object *se)
{
    struct ix_vip *v;

    if (iset_reserve(&x->vips) < 0 || !(v = mem_zalloc(sizeof *v)))
        return -1;
    v->ip = ip;
    v->service = svc;
    v->se = se;
    iset_add(&x->vips, v);
    return 0;
}

void vips_remove(struct index *x, const struct ipaddr *ip, const void *owner)
{
    struct ix_vip *v;

    for (uint32_t i = iset_first(&x->vips, ip_hash(ip)); (v = iset_at(&x->vips, i)); i++)
        if (ip_eq(&v->ip, ip) && (v->service == owner || v->se == owner)) {
            iset_del(&x->vips, v);
            mem_free(v);
            return;
        }
}

const struct ix_service *index_service_by_vip(const struct index *x, const struct ipaddr *ip)
{
    const struct ix_service *best = NULL;
    struct ix_vip *v;

    for (uint32_t i = iset_first(&x->vips, ip_hash(ip)); (v = iset_at(&x->vips, i)); i++)
        if (v->service && ip_eq(&v->ip, ip) &&
            (!best || slice_cmp(istr_slice(v->service->name), istr_slice(best->name)) < 0))
            best = v->service;
    return best;
}

/* --- services ----------------------------------------------------------------------------------------- */
const struct ix_service *index_service(const struct index *x, struct slice ns, struct slice name)
{
    struct ix_service *s;

    for (uint32_t i = iset_first(&x->services, pair_hash(text_hash(ns), text_hash(name)));
         (s = iset_at(&x->services, i)); i++)
        if (slice_eq(istr_slice(s->name), name) && slice_eq(istr_slice(s->ns), ns))
            return s;
    return NULL;
}

struct ix_service *service_get(struct index *x, struct slice ns, struct slice name)
{
    struct ix_service *s = (struct ix_service *)(uintptr_t)index_service(x, ns, name);
    struct ix_ns *n;
    bool none = false;

    if (s)
        return s;
    n = ns_get(x, ns);
    if (!n || iset_reserve(&x->services) < 0 || !(s = mem_zalloc(sizeof *s)))
        return NULL;
    s->ns = intern_ref(n->name);
    s->name = intern_text(&x->names, name, &none);
    if (!s->name) {
        intern_drop(&x->names, s->ns);
        mem_free(s);
        return NULL;
    }
    iset_add(&x->services, s);
    s->next = n->services;
    n->services = s;
    return s;
}

static void ports_free(struct index *x, struct ix_port *p, uint32_t n)
{
    for (uint32_t i = 0; p && i < n; i++) {
        intern_drop(&x->names, p[i].name);
        intern_drop(&x->names, p[i].app_protocol);
        intern_drop(&x->names, p[i].target_name);
    }
    mem_free(p);
}

static void service_drop_fields(struct index *x, struct ix_service *s)
{
    for (uint32_t i = 0; i < s->n_vips; i++)
        vips_remove(x, &s->vips[i], s);
    mem_free(s->vips);
    ports_free(x, s->ports, s->n_ports);
    intern_drop(&x->names, s->external_name);
    intern_drop_labels(&x->names, s->selector);
    mem_free(s->export_to.p);
    s->vips = NULL;
    s->ports = NULL;
    s->external_name = NULL;
    s->selector = NULL;
    s->export_to = (struct api_strings){0};
    s->n_vips = s->n_ports = 0;
    s->known = s->headless = s->external = false;
}

void service_free(struct index *x, struct ix_service *s)
{
    service_drop_fields(x, s);
    intern_drop(&x->names, s->ns);
    intern_drop(&x->names, s->name);
    mem_free(s);
}

void service_settle(struct index *x, struct ix_service *s)
{
    struct ix_ns *n;

    if (s->known || s->slices)
        return;
    n = ns_find(x, istr_slice(s->ns));
    for (struct ix_service **at = &n->services; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    iset_del(&x->services, s);
    service_free(x, s);
}

static bool is_tcp(struct slice protocol)
{
    return protocol.len == 0 || slice_ieq(protocol, SL("TCP"));
}

/* exportTo of a Service is an annotation with a list; one block holds slices and bytes. */
static bool export_fill(const struct k8s_service *k, struct api_strings *ret)
{
    struct slice list = api_map_get(&k->meta.annotations, SL("networking.istio.io/exportTo")), part,
                 rest = list;
    uint32_t n = 0;
    char *bytes;

    if (!slice_trim(list).len)
        return true;
    while (slice_next(&rest, ',', &part))
        n++;
    ret->p = mem_alloc(n * sizeof *ret->p + list.len);
    if (!ret->p)
        return false;
    bytes = (char *)(ret->p + n);
    memcpy(bytes, list.p, list.len);
    rest = slice_of(bytes, list.len);
    while (slice_next(&rest, ',', &part))
        if (slice_trim(part).len)
            ret->p[ret->n++] = slice_trim(part);
    return true;
}

static bool service_fill(struct index *x, const struct k8s_service *k, struct ix_service *s)
{
    bool none = false;

    s->known = true;
    s->headless = k->headless;
    s->external = k->type == SVC_EXTERNAL_NAME;
    s->external_name = s->external ? intern_text(&x->names, k->external_name, &none) : NULL;
    s->selector = intern_labels(&x->names, &k->selector, &none);
    if (k->cluster_ips.n && !s->headless) {
        s->vips = mem_array(k->cluster_ips.n, sizeof *s->vips);
        if (!s->vips)
            return false;
        for (uint32_t i = 0; i < k->cluster_ips.n; i++)
            if (ip_parse(k->cluster_ips.p[i], &s->vips[s->n_vips]))
                s->n_vips++;
    }
    if (k->n_ports) {
        s->ports = mem_array(k->n_ports, sizeof *s->ports);
        if (!s->ports)
            return false;
    }
    for (; s->n_ports < k->n_ports; s->n_ports++) {
        const struct k8s_service_port *from = &k->ports[s->n_ports];
        struct ix_port *to = &s->ports[s->n_ports];

        to->name = intern_text(&x->names, from->name, &none);
        to->app_protocol = intern_text(&x->names, from->app_protocol, &none);
        to->target_name = intern_text(&x->names, from->target_name, &none);
        to->port = from->port;
        to->target = from->target_port ? from->target_port : from->target_name.len ? 0 : from->port;
        to->tcp = is_tcp(from->protocol);
    }
    return export_fill(k, &s->export_to) && !none;
}

static bool port_same(const struct ix_port *a, const struct ix_port *b)
{
    return a->name == b->name && a->app_protocol == b->app_protocol &&
           a->target_name == b->target_name && a->port == b->port && a->target == b->target &&
           a->tcp == b->tcp;
}

static bool service_same(const struct ix_service *a, const struct ix_service *b)
{
    if (a->known != b->known || a->headless != b->headless || a->external != b->external ||
        a->external_name != b->external_name || a->selector != b->selector ||
        a->n_vips != b->n_vips || a->n_ports != b->n_ports ||
        !strings_same(&a->export_to, &b->export_to))
        return false;
    for (uint32_t i = 0; i < a->n_vips; i++)
        if (!ip_eq(&a->vips[i], &b->vips[i]))
            return false;
    for (uint32_t i = 0; i < a->n_ports; i++)
        if (!port_same(&a->ports[i], &b->ports[i]))
            return false;
    return true;
}

/* `there`: it appears or goes, or its addresses change; else only its ports do. */
static void note_service(struct index_changes *c, const struct ix_service *s, bool there)
{
    if (!c)
        return;
    note(c, INDEX_TOKEN_SERVICE(istr_slice(s->ns), istr_slice(s->name)));
    note(c, INDEX_TOKEN_SERVICES(istr_slice(s->ns)));
    for (uint32_t i = 0; i < s->n_vips; i++)
        note(c, INDEX_TOKEN_IP(&s->vips[i]));
    if (there) {
        note(c, INDEX_TOKEN_FILTER);
        note(c, INDEX_TOKEN_NAMES);
    }
}

static bool vips_same(const struct ix_service *a, const struct ix_service *b)
{
    if (a->known != b->known || a->n_vips != b->n_vips)
        return false;
    for (uint32_t i = 0; i < a->n_vips; i++)
        if (!ip_eq(&a->vips[i], &b->vips[i]))
            return false;
    return true;
}

/* Address nodes of the new value, made before the old one goes. */
static bool vips_prepare(struct index *x, struct ix_service *new, struct ix_service *owner)
{
    for (uint32_t i = 0; i < new->n_vips; i++)
        if (vip_add(x, new->vips[i], owner, NULL) < 0) {
            while (i-- > 0)
                vips_remove(x, &new->vips[i], owner);
            return false;
        }
    return true;
}

int put_service(struct index *x, const json_t *obj, struct index_changes *c, struct err *err)
{
    struct ix_service *s, new = {0};
    struct k8s_service *k;
    bool there;

    if (k8s_service_decode(obj, &x->scratch, &k, NULL) < 0)
        return not_a(err, "Service");
    s = service_get(x, k->meta.ns, k->meta.name);
    if (!s)
        return nomem(err, "Service");
    if (!service_fill(x, k, &new))
        goto fail;
    if (service_same(s, &new)) {
        new.n_vips = 0; /* none of them is in the table yet */
        service_drop_fields(x, &new);
        return 0;
    }
    if (!vips_prepare(x, &new, s))
        goto fail;
    there = !vips_same(s, &new);
    note_service(c, s, there);
    service_drop_fields(x, s);
    new.ns = s->ns;
    new.name = s->name;
    new.slices = s->slices;
    new.next = s->next;
    *s = new;
    note_service(c, s, there);
    return 0;
fail:
    new.n_vips = 0;
    service_drop_fields(x, &new);
    service_settle(x, s);
    return nomem(err, "Service");
}

bool remove_service(struct index *x, struct slice ns, struct slice name, struct index_changes *c)
{
    struct ix_service *s = (struct ix_service *)(uintptr_t)index_service(x, ns, name);

    if (!s || !s->known)
        return false;
    note_service(c, s, true);
    service_drop_fields(x, s);
    service_settle(x, s);
    return true;
}

/* --- slices ------------------------------------------------------------------------------------------- */
const struct ix_slice *index_slice(const struct index *x, struct slice ns, struct slice name)
{
    struct ix_slice *s;

    for (uint32_t i = iset_first(&x->slices, pair_hash(text_hash(ns), text_hash(name)));
         (s = iset_at(&x->slices, i)); i++)
        if (slice_eq(istr_slice(s->name), name) && slice_eq(istr_slice(s->ns), ns))
            return s;
    return NULL;
}

static int pod_link(struct ix_pod *p, struct ix_slice *s)
{
    for (uint16_t i = 0; i < p->n_slices; i++)
        if (p->slices[i] == s)
            return 0;
    if (p->n_slices == p->cap_slices) {
        uint16_t cap = p->cap_slices ? (uint16_t)(p->cap_slices * 2) : 1;
        struct ix_slice **grown;

        if (cap < p->cap_slices || !(grown = mem_realloc(p->slices, cap * sizeof *grown)))
            return -1;
        p->slices = grown;
        p->cap_slices = cap;
    }
    p->slices[p->n_slices++] = s;
    return 0;
}

static void pod_unlink(struct index *x, struct ix_pod *p, const struct ix_slice *s)
{
    for (uint16_t i = 0; i < p->n_slices; i++)
        if (p->slices[i] == s) {
            p->slices[i] = p->slices[--p->n_slices];
            pod_settle(x, p);
            return;
        }
}

/* Only the slice's own memory and links to pods and texts; not those of the service. */
void slice_free(struct index *x, struct ix_slice *s)
{
    for (uint32_t i = 0; i < s->n_endpoints; i++) {
        struct ix_pod *p = s->endpoints[i].pod;

        intern_drop(&x->names, s->endpoints[i].zone);
        for (uint32_t k = i + 1; p && k < s->n_endpoints; k++)
            if (s->endpoints[k].pod == p)
                p = NULL; /* a later endpoint of the same pod unlinks */
        if (p)
            pod_unlink(x, p, s);
    }
    mem_free(s->endpoints);
    ports_free(x, s->ports, s->n_ports);
    intern_drop(&x->names, s->ns);
    intern_drop(&x->names, s->name);
    mem_free(s);
}

static bool endpoint_fill(struct index *x, const struct k8s_endpoint *from, struct slice ns,
                          struct ix_slice *s, struct ix_endpoint *to)
{
    bool none = false;

    to->ready = from->ready;
    to->serving = from->serving;
    to->terminating = from->terminating;
    to->zone = intern_text(&x->names, from->zone, &none);
    if (from->pod.len) {
        to->pod = pod_get(x, ns, from->pod);
        if (!to->pod)
            return false;
        if (pod_link(to->pod, s) < 0) {
            struct ix_pod *p = to->pod;

            to->pod = NULL;
            pod_settle(x, p);
            return false;
        }
    }
    return !none;
}

static struct ix_slice *slice_make(struct index *x, const struct k8s_endpoint_slice *k)
{
    struct ix_slice *s = mem_zalloc(sizeof *s);
    bool none = false;

    if (!s)
        return NULL;
    s->ns = intern_text(&x->names, k->meta.ns.p ? k->meta.ns : SL(""), &none);
    s->name = intern_text(&x->names, k->meta.name, &none);
    if ((k->n_ports && !(s->ports = mem_array(k->n_ports, sizeof *s->ports))) ||
        (k->n_endpoints && !(s->endpoints = mem_array(k->n_endpoints, sizeof *s->endpoints))))
        goto fail;
    for (; s->n_ports < k->n_ports; s->n_ports++) {
        struct ix_port *to = &s->ports[s->n_ports];

        to->name = intern_text(&x->names, k->ports[s->n_ports].name, &none);
        to->app_protocol = intern_text(&x->names, k->ports[s->n_ports].app_protocol, &none);
        to->port = to->target = k->ports[s->n_ports].port;
        to->tcp = is_tcp(k->ports[s->n_ports].protocol);
    }
    for (uint32_t i = 0; i < k->n_endpoints && k->address_type != SLICE_FQDN; i++) {
        struct ix_endpoint *to = &s->endpoints[s->n_endpoints];

        /* "Consumers must use the first address" (discovery.k8s.io/v1). */
        if (!k->endpoints[i].addresses.n || !ip_parse(k->endpoints[i].addresses.p[0], &to->ip))
            continue;
        s->n_endpoints++;
        if (!endpoint_fill(x, &k->endpoints[i], k->meta.ns, s, to))
            goto fail;
    }
    if (!none)
        return s;
fail:
    slice_free(x, s);
    return NULL;
}

static bool slice_same(const struct ix_slice *a, const struct ix_slice *b)
{
    if (a->n_ports != b->n_ports || a->n_endpoints != b->n_endpoints)
        return false;
    for (uint32_t i = 0; i < a->n_ports; i++)
        if (!port_same(&a->ports[i], &b->ports[i]))
            return false;
    for (uint32_t i = 0; i < a->n_endpoints; i++) {
        const struct ix_endpoint *p = &a->endpoints[i], *q = &b->endpoints[i];

        if (!ip_eq(&p->ip, &q->ip) || p->ready != q->ready || p->serving != q->serving ||
            p->terminating != q->terminating || p->pod != q->pod || p->zone != q->zone)
            return false;
    }
    return true;
}

static void service_link(struct ix_service *svc, struct ix_slice *s)
{
    struct ix_slice **at = &svc->slices;

    while (*at && slice_cmp(istr_slice((*at)->name), istr_slice(s->name)) < 0)
        at = &(*at)->next;
    s->next = *at;
    *at = s;
    s->service = svc;
}

static void slice_out(struct index *x, struct ix_slice *s)
{
    struct ix_service *svc = s->service;

    iset_del(&x->slices, s);
    x->n_endpoints -= s->n_endpoints;
    if (svc)
        for (struct ix_slice **at = &svc->slices; *at; at = &(*at)->next)
            if (*at == s) {
                *at = s->next;
                break;
            }
    slice_free(x, s);
    if (svc)
        service_settle(x, svc);
}

/* The set of a service's slices, or their port names, changed. */
static void note_slices_of(struct index_changes *c, const struct ix_service *svc)
{
    if (svc)
        note(c, INDEX_TOKEN_SERVICE(istr_slice(svc->ns), istr_slice(svc->name)));
}

/* Pods of `s` that `other` (may be NULL) does not name: they came or went. */
static void note_members(struct index_changes *c, const struct ix_slice *s,
                         const struct ix_slice *other)
{
    for (uint32_t i = 0; c && i < s->n_endpoints; i++) {
        const struct ix_pod *p = s->endpoints[i].pod;
        bool there = false;

        for (uint16_t k = 0; p && other && k < p->n_slices; k++)
            there |= p->slices[k] == other;
        if (p && !there)
            note(c, INDEX_TOKEN_POD(istr_slice(p->ns), istr_slice(p->name)));
    }
}

static bool ports_same(const struct ix_slice *a, const struct ix_slice *b)
{
    if (a->n_ports != b->n_ports)
        return false;
    for (uint32_t i = 0; i < a->n_ports; i++)
        if (a->ports[i].name != b->ports[i].name)
            return false;
    return true;
}

int put_slice(struct index *x, const json_t *obj, struct index_changes *c, struct err *err)
{
    struct k8s_endpoint_slice *k;
    struct ix_service *svc = NULL;
    struct ix_slice *s, *old;

    if (k8s_endpoint_slice_decode(obj, &x->scratch, &k, NULL) < 0)
        return not_a(err, "EndpointSlice");
    old = (struct ix_slice *)(uintptr_t)index_slice(x, k->meta.ns, k->meta.name);
    if (iset_reserve(&x->slices) < 0 || !(s = slice_make(x, k)))
        return nomem(err, "EndpointSlice");
    if (k->service.len && !(svc = service_get(x, k->meta.ns, k->service))) {
        slice_free(x, s);
        return nomem(err, "EndpointSlice");
    }
    if (old && old->service == svc && slice_same(old, s)) {
        slice_free(x, s);
        return 0;
    }
    note(c, INDEX_TOKEN_SLICE(k->meta.ns, k->meta.name));
    if (!old || old->service != svc || !ports_same(old, s)) {
        note_slices_of(c, svc);
        note_slices_of(c, old ? old->service : NULL);
    }
    note_members(c, s, old);
    if (old)
        note_members(c, old, s);
    if (svc)
        service_link(svc, s); /* before the old one goes, so that the service stays */
    if (old)
        slice_out(x, old);
    iset_add(&x->slices, s);
    x->n_endpoints += s->n_endpoints;
    return 0;
}

bool remove_slice(struct index *x, struct slice ns, struct slice name, struct index_changes *c)
{
    struct ix_slice *s = (struct ix_slice *)(uintptr_t)index_slice(x, ns, name);

    if (!s)
        return false;
    note(c, INDEX_TOKEN_SLICE(ns, name));
    note_slices_of(c, s->service);
    note_members(c, s, NULL);
    slice_out(x, s);
    return true;
}
