/* SPDX-License-Identifier: Apache-2.0 */
/* Pods of one workload differ in little but name and address: texts and label sets are kept once. */
#include "mesh/index/index_int.h"

/* --- sets of pointers ------------------------------------------------------------------------- */
static void place(struct iset *s, void *elem)
{
    uint32_t i = iset_first(s, s->hash(elem));

    while (s->p[i & (s->cap - 1)])
        i++;
    s->p[i & (s->cap - 1)] = elem;
}

int iset_reserve(struct iset *s)
{
    uint32_t old_cap = s->cap;
    void **old = s->p, **grown;

    if ((uint64_t)(s->n + 1) * 4 <= (uint64_t)s->cap * 3)
        return 0;
    grown = mem_array(old_cap ? (size_t)old_cap * 2 : 16, sizeof *grown);
    if (!grown)
        return -1;
    s->p = grown;
    s->cap = old_cap ? old_cap * 2 : 16;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i])
            place(s, old[i]);
    mem_free(old);
    return 0;
}

void iset_add(struct iset *s, void *elem)
{
    place(s, elem);
    s->n++;
}

/* Linear probing without tombstones: what follows the hole moves up where it may. */
void iset_del(struct iset *s, const void *elem)
{
    uint32_t mask = s->cap - 1, i, j;

    if (!s->cap)
        return;
    for (i = s->hash(elem) & mask; s->p[i] != elem; i = (i + 1) & mask)
        if (!s->p[i])
            return;
    s->n--;
    for (j = (i + 1) & mask; s->p[j]; j = (j + 1) & mask) {
        uint32_t home = s->hash(s->p[j]) & mask;

        if (((j - home) & mask) >= ((j - i) & mask)) {
            s->p[i] = s->p[j];
            i = j;
        }
    }
    s->p[i] = NULL;
}

void iset_fini(struct iset *s)
{
    mem_free(s->p);
    *s = (struct iset){.hash = s->hash};
}

/* --- hashes ----------------------------------------------------------------------------------- */
uint32_t text_hash(struct slice s)
{
    return (uint32_t)hash64(s, 0);
}

uint32_t pair_hash(uint32_t ns, uint32_t name)
{
    return ns * UINT32_C(0x9e3779b1) + name;
}

uint32_t ip_hash(const struct ipaddr *ip)
{
    return (uint32_t)hash64(slice_of(ip->b, ip->len), 1);
}

static uint32_t hash_istr(const void *e)
{
    return ((const struct istr *)e)->hash;
}

static uint32_t hash_ilabels(const void *e)
{
    return ((const struct ilabels *)e)->hash;
}

/* --- texts ------------------------------------------------------------------------------------ */
void intern_init(struct intern *n)
{
    *n = (struct intern){.texts.hash = hash_istr, .labels.hash = hash_ilabels};
}

void intern_fini(struct intern *n)
{
    ISET_EACH (&n->labels, struct ilabels, l)
        mem_free(l);
    ISET_EACH (&n->texts, struct istr, s)
        mem_free(s);
    iset_fini(&n->labels);
    iset_fini(&n->texts);
}

const struct istr *intern_text(struct intern *n, struct slice s, bool *ret_nomem)
{
    uint32_t hash = text_hash(s);
    struct istr *e;

    if (!s.p)
        return NULL;
    for (uint32_t i = iset_first(&n->texts, hash); (e = iset_at(&n->texts, i)); i++)
        if (e->hash == hash && slice_eq(slice_of(e->p, e->len), s)) {
            e->refs++;
            return e;
        }
    e = iset_reserve(&n->texts) < 0 ? NULL : mem_alloc(sizeof *e + s.len + 1);
    if (!e) {
        *ret_nomem = true;
        return NULL;
    }
    *e = (struct istr){.refs = 1, .len = (uint32_t)s.len, .hash = hash};
    if (s.len)
        memcpy(e->p, s.p, s.len);
    e->p[s.len] = '\0';
    iset_add(&n->texts, e);
    n->bytes += sizeof *e + s.len + 1;
    return e;
}

const struct istr *intern_ref(const struct istr *s)
{
    if (s)
        ((struct istr *)(uintptr_t)s)->refs++;
    return s;
}

void intern_drop(struct intern *n, const struct istr *s)
{
    struct istr *e = (struct istr *)(uintptr_t)s;

    if (!e || --e->refs)
        return;
    iset_del(&n->texts, e);
    n->bytes -= sizeof *e + e->len + 1;
    mem_free(e);
}

/* --- label sets ------------------------------------------------------------------------------- */
static uint32_t labels_hash(const struct api_map *m)
{
    uint32_t h = m->n;

    for (uint32_t i = 0; i < m->n; i++)
        h = pair_hash(pair_hash(h, text_hash(m->p[i].key)), text_hash(m->p[i].value));
    return h;
}

static bool labels_same(const struct ilabels *l, const struct api_map *m)
{
    if (l->n != m->n)
        return false;
    for (uint32_t i = 0; i < m->n; i++)
        if (!slice_eq(istr_slice(l->p[i].key), m->p[i].key) ||
            !slice_eq(istr_slice(l->p[i].value), m->p[i].value))
            return false;
    return true;
}

static void labels_free(struct intern *n, struct ilabels *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        intern_drop(n, l->p[i].key);
        intern_drop(n, l->p[i].value);
    }
    mem_free(l);
}

const struct ilabels *intern_labels(struct intern *n, const struct api_map *m, bool *ret_nomem)
{
    uint32_t hash = labels_hash(m);
    struct ilabels *l;
    bool nomem = false;

    if (m->n == 0)
        return NULL;
    for (uint32_t i = iset_first(&n->labels, hash); (l = iset_at(&n->labels, i)); i++)
        if (l->hash == hash && labels_same(l, m)) {
            l->refs++;
            return l;
        }
    l = iset_reserve(&n->labels) < 0 ? NULL
                                     : mem_zalloc(sizeof *l + m->n * sizeof(struct ilabel));
    if (!l) {
        *ret_nomem = true;
        return NULL;
    }
    l->refs = 1;
    l->hash = hash;
    for (l->n = 0; l->n < m->n; l->n++) {
        struct slice value = m->p[l->n].value.p ? m->p[l->n].value : SL("");

        l->p[l->n].key = intern_text(n, m->p[l->n].key, &nomem);
        l->p[l->n].value = intern_text(n, value, &nomem);
    }
    if (nomem) {
        labels_free(n, l);
        *ret_nomem = true;
        return NULL;
    }
    iset_add(&n->labels, l);
    return l;
}

void intern_drop_labels(struct intern *n, const struct ilabels *labels)
{
    struct ilabels *l = (struct ilabels *)(uintptr_t)labels;

    if (!l || --l->refs)
        return;
    iset_del(&n->labels, l);
    labels_free(n, l);
}

struct slice ilabels_get(const struct ilabels *l, struct slice key)
{
    for (uint32_t i = 0; l && i < l->n; i++)
        if (slice_eq(istr_slice(l->p[i].key), key))
            return istr_slice(l->p[i].value);
    return SLICE_NULL;
}

bool ilabels_cover(const struct ilabels *have, const struct api_map *want)
{
    for (uint32_t i = 0; i < want->n; i++) {
        struct slice v = ilabels_get(have, want->p[i].key);

        if (!v.p || !slice_eq(v, want->p[i].value))
            return false;
    }
    return true;
}

bool ilabels_cover_all(const struct ilabels *have, const struct ilabels *want)
{
    for (uint32_t i = 0; want && i < want->n; i++) {
        struct slice v = ilabels_get(have, istr_slice(want->p[i].key));

        if (!v.p || !slice_eq(v, istr_slice(want->p[i].value)))
            return false;
    }
    return true;
}
