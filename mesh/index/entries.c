/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceEntries, WorkloadEntries, and hosts that are no Service: their addresses, those that the
 * operator gives included. */
#include "mesh/index/index_int.h"

#include <stdlib.h>

#include "lib/data/cidr.h"

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

const struct ix_objects *index_se_ranges(const struct index *x)
{
    return x->ranges.n ? &x->ranges : NULL;
}

const struct ix_object *index_se_by_range(const struct index *x, const struct ipaddr *ip,
                                          index_sees_fn *sees, void *user)
{
    const struct ix_object *best = NULL;
    int bits = -1;

    for (uint32_t i = 0; i < x->ranges.n; i++) {
        const struct ix_object *o = x->ranges.p[i];

        for (uint32_t k = 0; k < o->se->addresses.n; k++) {
            struct cidr range;

            if (cidr_parse(o->se->addresses.p[k], &range) && cidr_contains(&range, ip) &&
                (int)range.bits > bits && (!sees || sees(user, o))) {
                best = o;
                bits = (int)range.bits;
            }
        }
    }
    return best;
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

unsigned index_addresses_of(const struct index *x, struct slice host, struct ipaddr ret[2])
{
    const struct ix_given *g = map_get(&x->addresses, host);
    unsigned n = 0;

    for (int i = 0; g && i < 2; i++)
        if (g->v[i])
            ret[n++] = g->v[i]->ip;
    return n;
}

static void given_drop(struct index *x, struct ix_given *g, int i, struct index_changes *changes)
{
    struct ix_vip *v = g->v[i];

    if (!v)
        return;
    g->v[i] = NULL;
    note(changes, INDEX_TOKEN_IP(&v->ip));
    iset_del(&x->vips, v);
    intern_drop(&x->names, v->host);
    mem_free(v);
}

static int given_set(struct index *x, struct slice host, const struct ipaddr *ip,
                     struct index_changes *changes)
{
    struct ix_given *g = map_get(&x->addresses, host), *new = NULL;
    struct ix_vip *v = mem_zalloc(sizeof *v);
    bool none = false;

    if (!g)
        g = new = mem_zalloc(sizeof *g);
    if (!v || !g || iset_reserve(&x->vips) < 0 ||
        !(v->host = intern_text(&x->names, host, &none)) ||
        (new &&map_put(&x->addresses, host, new, NULL) < 0)) {
        if (v)
            intern_drop(&x->names, v->host);
        mem_free(v);
        mem_free(new);
        return -1;
    }
    v->ip = *ip;
    given_drop(x, g, ip->len == 16, changes);
    iset_add(&x->vips, v);
    g->v[ip->len == 16] = v;
    note(changes, INDEX_TOKEN_IP(ip));
    return 0;
}

int index_set_address(struct index *x, struct slice host, const struct ipaddr *ip,
                      struct index_changes *changes)
{
    struct ix_given *g = map_get(&x->addresses, host);
    const struct ix_vip *old = g && ip->len ? g->v[ip->len == 16] : NULL;

    if (ip->len ? old && ip_eq(&old->ip, ip) : !g)
        return 0;
    if (ip->len) {
        if (given_set(x, host, ip, changes) < 0)
            return -1;
    } else {
        given_drop(x, g, 0, changes);
        given_drop(x, g, 1, changes);
        map_remove(&x->addresses, host);
        mem_free(g);
    }
    note(changes, INDEX_TOKEN_NAMES);
    note(changes, INDEX_TOKEN_FILTER);
    return 0;
}

/* --- hosts that want an address --------------------------------------------------------------- */
bool index_se_has_endpoints(const struct se *se)
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
    const struct ix_given *g = map_get(&x->addresses, host);
    struct index_want *w = &all[(*n)++];

    *w = (struct index_want){
        .host = host, .kind = o->kind, .ns = o->meta->ns, .name = o->meta->name};
    for (int i = 0; g && i < 2; i++)
        if (g->v[i])
            w->have[i] = g->v[i]->ip;
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

        if (se_wants_address(o->se) && own_host(x, host))
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

struct slice *index_idle_addresses(const struct index *x, const struct index_want *wants, size_t n,
                                   struct arena *a, size_t *ret_n)
{
    struct slice *all = ARENA_ARRAY(a, struct slice, x->addresses.len + 1);

    *ret_n = 0;
    for (struct map_entry *e = NULL; all && (e = map_next(&x->addresses, e));) {
        struct index_want key = {.host = slice_of(e->key, e->key_len)};

        if (!n || !bsearch(&key, wants, n, sizeof key, want_cmp))
            all[(*ret_n)++] = arena_slice(a, key.host);
    }
    return all;
}
