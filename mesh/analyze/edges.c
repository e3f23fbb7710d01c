/* SPDX-License-Identifier: Apache-2.0 */
/* All plaintext edges of a mesh: what Mesh's status lists. */
#include <stdlib.h>

#include "lib/base/vec.h"
#include "mesh/analyze/analyze_int.h"

struct edges {
    struct an an;
    struct arena *arena;
    VEC(struct slice) out;
};

/* Take what was found of one object. */
static void take(struct edges *e, const char *kind, struct slice ns, struct slice name)
{
    for (uint32_t i = 0; i < e->an.f->n; i++) {
        const struct finding *f = &e->an.f->p[i];
        char text[768];
        int n;
        struct slice *to;

        if (f->kind != FINDING_PLAINTEXT)
            continue;
        n = snprintf(text, sizeof text, "%s %.*s/%.*s %.*s: %.*s", kind, SL_FMT(ns), SL_FMT(name),
                     SL_FMT(f->path), SL_FMT(f->text));
        to = n > 0 ? VEC_PUSH(&e->out) : NULL;
        if (to)
            *to = arena_slice(e->arena, slice_of(text, MIN((size_t)n, sizeof text - 1)));
    }
    findings_init(e->an.f, e->arena);
}

static bool edge_service(void *user, const struct ix_service *s)
{
    struct edges *e = user;

    an_mixed(&e->an, s);
    take(e, "Service", istr_slice(s->ns), istr_slice(s->name));
    return true;
}

static bool edge_object(void *user, const struct ix_object *o)
{
    struct edges *e = user;

    if (o->invalid)
        return true;
    e->an.o = o;
    if (o->kind == INDEX_DR)
        an_mtls_dr(&e->an);
    else
        an_mtls_pa(&e->an);
    take(e, index_kind_name(o->kind), o->meta->ns, o->meta->name);
    return true;
}

static int by_text(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;

    return slice_cmp(*x, *y);
}

struct slice *analyze_edges(const struct analysis *a, struct arena *arena, size_t *ret_n)
{
    struct findings f;
    struct edges e = {.an = {.x = a->index, .partial = a->partial, .tmp = arena, .f = &f},
                      .arena = arena};
    struct slice *ret = NULL;

    findings_init(&f, arena);
    index_each_service(a->index, edge_service, &e);
    index_each_object(a->index, INDEX_DR, edge_object, &e);
    index_each_object(a->index, INDEX_PA, edge_object, &e);
    *ret_n = e.out.len;
    if (e.out.len)
        ret = ARENA_ARRAY(arena, struct slice, e.out.len);
    if (ret) {
        memcpy(ret, e.out.p, e.out.len * sizeof *ret);
        qsort(ret, e.out.len, sizeof *ret, by_text);
    } else {
        *ret_n = 0;
    }
    VEC_FREE(&e.out);
    return ret;
}
