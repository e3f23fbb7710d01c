/* SPDX-License-Identifier: Apache-2.0 */
/* EndpointSlices, and the ties between them, their service and their pods. */
#include "mesh/index/index_int.h"

/* --- slices ----------------------------------------------------------------------------------- */
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
        to->tcp = protocol_is_tcp(k->ports[s->n_ports].protocol);
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
        return put_not_a(err, "EndpointSlice");
    old = (struct ix_slice *)(uintptr_t)index_slice(x, k->meta.ns, k->meta.name);
    if (iset_reserve(&x->slices) < 0 || !(s = slice_make(x, k)))
        return put_nomem(err, "EndpointSlice");
    if (k->service.len && !(svc = service_get(x, k->meta.ns, k->service))) {
        slice_free(x, s);
        return put_nomem(err, "EndpointSlice");
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
