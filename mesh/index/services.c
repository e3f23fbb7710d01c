/* SPDX-License-Identifier: Apache-2.0 */
/* Services, and who answers at which address. */
#include "mesh/index/index_int.h"

/* --- addresses of services -------------------------------------------------------------------- */
int vip_add(struct index *x, struct ipaddr ip, struct ix_service *svc, struct ix_object *o)
{
    struct ix_vip *v;

    if (iset_reserve(&x->vips) < 0 || !(v = mem_zalloc(sizeof *v)))
        return -1;
    v->ip = ip;
    v->service = svc;
    v->object = o;
    iset_add(&x->vips, v);
    return 0;
}

void vips_remove(struct index *x, const struct ipaddr *ip, const void *owner)
{
    struct ix_vip *v;

    for (uint32_t i = iset_first(&x->vips, ip_hash(ip)); (v = iset_at(&x->vips, i)); i++)
        if (ip_eq(&v->ip, ip) && (v->service == owner || v->object == owner)) {
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

/* --- services --------------------------------------------------------------------------------- */
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

void ports_free(struct index *x, struct ix_port *p, uint32_t n)
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

bool protocol_is_tcp(struct slice protocol)
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
        to->tcp = protocol_is_tcp(from->protocol);
    }
    return export_fill(k, &s->export_to) && !none;
}

bool port_same(const struct ix_port *a, const struct ix_port *b)
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
        return put_not_a(err, "Service");
    s = service_get(x, k->meta.ns, k->meta.name);
    if (!s)
        return put_nomem(err, "Service");
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
    return put_nomem(err, "Service");
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
