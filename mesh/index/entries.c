/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceEntries, WorkloadEntries, and hosts that are no Service: their addresses, those that the
 * operator gives included. */
#include "mesh/index/index_int.h"

#include <stdlib.h>

/* --- who has an address ----------------------------------------------------------------------- */
/* The oldest object of the kind with that address that comes behind `after`. */
static const struct ix_object *by_ip(const struct index *x, const struct ipaddr *ip,
                                     enum index_kind kind, const struct ix_object *after)
{
    const struct ix_object *best = NULL;
    struct ix_vip *v;

    for (uint32_t i = iset_first(&x->vips, ip_hash(ip)); (v = iset_at(&x->vips, i)); i++)
        if (v->object && v->object->kind == kind && ip_eq(&v->ip, ip) &&
            (!after || object_cmp(after, v->object) < 0) &&
            (!best || object_cmp(v->object, best) < 0))
            best = v->object;
    return best;
}

const struct ix_object *index_se_by_ip(const struct index *x, const struct ipaddr *ip,
                                       const struct ix_object *after)
{
    return by_ip(x, ip, INDEX_SE, after);
}

const struct ix_object *index_we_by_ip(const struct index *x, const struct ipaddr *ip)
{
    return by_ip(x, ip, INDEX_WE, NULL);
}

bool index_entry_selected(const struct ix_object *entry, const struct ilabels *want)
{
    for (uint32_t i = 0; want && i < want->n; i++) {
        struct slice v = api_map_get(&entry->we->endpoint.labels, istr_slice(want->p[i].key));

        if (!v.p || !slice_eq(v, istr_slice(want->p[i].value)))
            return false;
    }
    return want && !entry->invalid;
}

struct slice index_host_by_ip(const struct index *x, const struct ipaddr *ip)
{
    struct ix_vip *v;

    for (uint32_t i = iset_first(&x->vips, ip_hash(ip)); (v = iset_at(&x->vips, i)); i++)
        if (v->host && ip_eq(&v->ip, ip))
            return istr_slice(v->host);
    return SLICE_NULL;
}

bool index_address_of(const struct index *x, struct slice host, struct ipaddr *ret)
{
    const struct ix_vip *v = map_get(&x->addresses, host);

    if (v)
        *ret = v->ip;
    return v != NULL;
}

int index_set_address(struct index *x, struct slice host, const struct ipaddr *ip,
                      struct index_changes *changes)
{
    struct ix_vip *old = map_get(&x->addresses, host), *v = NULL;
    bool none = false;

    if (old ? ip_eq(&old->ip, ip) : ip->len == 0)
        return 0;
    if (ip->len) {
        v = mem_zalloc(sizeof *v);
        if (!v || iset_reserve(&x->vips) < 0 || !(v->host = intern_text(&x->names, host, &none)) ||
            map_put(&x->addresses, host, v, NULL) < 0) {
            if (v)
                intern_drop(&x->names, v->host);
            mem_free(v);
            return -1;
        }
        v->ip = *ip;
        iset_add(&x->vips, v);
        note(changes, INDEX_TOKEN_IP(ip));
    } else {
        map_remove(&x->addresses, host);
    }
    if (old) {
        note(changes, INDEX_TOKEN_IP(&old->ip));
        iset_del(&x->vips, old);
        intern_drop(&x->names, old->host);
        mem_free(old);
    }
    note(changes, INDEX_TOKEN_NAMES);
    note(changes, INDEX_TOKEN_FILTER);
    return 0;
}

/* --- hosts that want an address --------------------------------------------------------------- */
bool index_se_is_static(const struct se *se)
{
    return se->resolution == SE_STATIC ||
           (se->resolution != SE_NONE && (se->workload_selector.set || se->n_endpoints));
}

static bool dests_known(const struct index *x, const struct ix_object *o,
                        const struct vs_route_dests *r, bool *any)
{
    CLEANUP(arena_free) struct arena tmp = ARENA_INIT;

    for (uint32_t i = 0; i < r->n; i++) {
        struct slice host = index_fqdn(x, r->p[i].destination.host, o->meta->ns, &tmp);

        *any = true;
        if (!index_host_known(x, host))
            return false;
    }
    return true;
}

static bool delegate_known(const struct index *x, const struct ix_object *o,
                           const struct vs_http *r, bool *any)
{
    struct slice ns = r->delegate_ns.len ? r->delegate_ns : o->meta->ns;
    const struct ix_object *d;

    if (!r->delegate_name.len)
        return true;
    d = index_object(x, INDEX_VS, ns, r->delegate_name);
    if (!d || d->invalid)
        return false;
    for (uint32_t i = 0; i < d->vs->n_http; i++)
        if (!dests_known(x, d, &d->vs->http[i].route, any))
            return false;
    return true;
}

bool index_vs_resolves(const struct index *x, const struct ix_object *o)
{
    const struct vs *vs = o->vs;
    bool any = false;

    for (uint32_t i = 0; i < vs->n_http; i++)
        if (!dests_known(x, o, &vs->http[i].route, &any) ||
            !delegate_known(x, o, &vs->http[i], &any))
            return false;
    for (uint32_t i = 0; i < vs->n_tls; i++)
        if (!dests_known(x, o, &vs->tls[i].route, &any))
            return false;
    for (uint32_t i = 0; i < vs->n_tcp; i++)
        if (!dests_known(x, o, &vs->tcp[i].route, &any))
            return false;
    return any;
}

bool index_host_known(const struct index *x, struct slice host)
{
    char wild[256 + 1];

    if (index_service_by_host(x, host) || index_se_of(x, host))
        return true;
    for (struct slice rest = host;;) {
        ptrdiff_t dot = slice_chr(rest, '.');

        if (dot < 0 || rest.len - (size_t)dot >= sizeof wild)
            return false;
        rest = slice_skip(rest, (size_t)dot);
        wild[0] = '*';
        memcpy(wild + 1, rest.p, rest.len);
        if (index_se_of(x, slice_of(wild, rest.len + 1)))
            return true;
        rest = slice_skip(rest, 1);
    }
}

/* A complete name that is no Service's and no address. */
static bool own_host(const struct index *x, struct slice host)
{
    struct slice name, ns;
    struct ipaddr ip;

    return host.len && host.p[0] != '*' && slice_chr(host, '.') > 0 && !ip_parse(host, &ip) &&
           !index_host_split(x, host, &name, &ns);
}

static int want_cmp(const void *a, const void *b)
{
    return slice_cmp(((const struct index_want *)a)->host, ((const struct index_want *)b)->host);
}

static void want_add(const struct index *x, struct index_want *all, size_t *n, struct slice host,
                     const struct ix_object *o)
{
    struct index_want *w = &all[*n];

    *w = (struct index_want){
        .host = host, .kind = o->kind, .ns = o->meta->ns, .name = o->meta->name};
    if (!index_address_of(x, host, &w->have) && o->kind == INDEX_SE)
        for (uint32_t i = 0; i < o->se->n_allocated; i++)
            if (slice_eq(o->se->allocated[i].host, host) &&
                ip_parse(o->se->allocated[i].value, &w->have))
                break;
    ++*n;
}

struct index_want *index_wanted_addresses(const struct index *x, struct arena *a, size_t *ret_n)
{
    size_t cap = 0, n = 0;
    struct index_want *all;

    *ret_n = 0;
    for (int by = BY_VS; by <= BY_SE; by += BY_SE - BY_VS)
        cap += x->by_host[by].len;
    all = cap ? ARENA_ARRAY(a, struct index_want, cap) : NULL;
    if (!all)
        return NULL;
    for (struct map_entry *e = NULL; (e = map_next(&x->by_host[BY_SE], e));) {
        const struct ix_object *o = ((struct ix_objects *)e->value)->p[0];
        struct slice host = slice_of(e->key, e->key_len);

        if (se_wants_address(o->se) && index_se_is_static(o->se) && own_host(x, host))
            want_add(x, all, &n, host, o);
    }
    for (struct map_entry *e = NULL; (e = map_next(&x->by_host[BY_VS], e));) {
        const struct ix_objects *l = e->value;
        struct slice host = slice_of(e->key, e->key_len);

        if (!own_host(x, host) || index_se_of(x, host))
            continue;
        for (uint32_t i = 0; i < l->n; i++)
            if (l->p[i]->vs->mesh && index_vs_resolves(x, l->p[i])) {
                want_add(x, all, &n, host, l->p[i]);
                break;
            }
    }
    if (n)
        qsort(all, n, sizeof *all, want_cmp);
    *ret_n = n;
    return all;
}
