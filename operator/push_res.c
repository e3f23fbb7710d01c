/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled resources: the cache that clients share, and what depends on what. */
#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "operator/push_int.h"

uint64_t res_object_token(enum index_kind kind, struct slice ns, struct slice name)
{
    return index_token(index_kind_name(kind), ns, name);
}

static void res_forget(struct push *p, struct res *r)
{
    for (uint32_t i = 0; i < r->n_deps; i++)
        tokens_remove(&p->deps, &r->deps[i]);
    for (uint32_t i = 0; r->by_object && i < r->n_origins + r->n_problems; i++)
        tokens_remove(&p->objects, &r->by_object[i]);
    arena_fini(&r->arena);
    r->deps = r->by_object = NULL;
    r->origins = NULL;
    r->problems = NULL;
    r->endpoint_keys = NULL;
    r->payload = SLICE_NULL;
    r->n_origins = r->n_problems = r->n_endpoint_keys = r->n_deps = 0;
}

void res_free(struct push *p, struct res *r)
{
    for (size_t i = 0; r->dirty && i < p->dirty.len; i++)
        if (p->dirty.p[i] == r) {
            p->dirty.p[i] = p->dirty.p[--p->dirty.len];
            break;
        }
    res_forget(p, r);
    map_remove(&p->cache, slice_str(r->id));
    mem_free(r->id);
    mem_free(r);
}

void res_release(struct push *p, struct res *r)
{
    if (r->n_subs)
        return;
    res_touch(p, r);
    res_free(p, r);
}

void res_mark(struct push *p, struct res *r)
{
    if (r->dirty)
        return;
    struct res **slot = VEC_PUSH(&p->dirty);
    if (!slot) {
        p->all_dirty = true;
        return;
    }
    *slot = r;
    r->dirty = true;
}

void res_touch(struct push *p, const struct res *r)
{
    if (!p->opts.hooks.touched || p->freeing || !res_counts(r))
        return;
    for (uint32_t i = 0; i < r->n_origins; i++)
        p->opts.hooks.touched(p->opts.hooks.user, r->origins[i].kind, r->origins[i].ns,
                              r->origins[i].name);
    for (uint32_t i = 0; i < r->n_problems; i++)
        p->opts.hooks.touched(p->opts.hooks.user, r->problems[i].kind, r->problems[i].ns,
                              r->problems[i].name);
}

/* Whose eyes: any member of the class that the index knows. */
static void view_of(struct push *p, const struct res *r, struct compile_client *ret)
{
    *ret = (struct compile_client){.namespace_ = r->ns};
    for (const struct sub *s = r->subs; s; s = s->next) {
        const struct client *c = s->client;
        const struct ix_pod *pod = index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));
        if (r->kind == PROG_INBOUND)
            ret->pod = slice_str(c->pod);
        if (!pod || !pod->known)
            continue;
        compile_client_of_pod(pod, ret);
        return;
    }
}

static struct slice copy(struct arena *a, struct slice s)
{
    return s.len ? arena_slice(a, s) : SLICE_NULL;
}

/* Keep what was compiled, compactly; the compiler's arena goes. */
static int res_keep(struct push *p, struct res *r, const struct compiled *c)
{
    struct arena *a = &r->arena;
    size_t bytes = c->payload.len + c->n_deps * (sizeof(struct token_entry) + 8) +
                   (c->n_origins + c->n_problems) * 200 + c->n_endpoint_keys * 96 + 256;
    res_forget(p, r);
    arena_init(a, bytes, 0);
    r->state = c->state;
    r->version = c->version;
    r->payload = copy(a, c->payload);
    r->origins = ARENA_ARRAY(a, struct origin, c->n_origins + 1);
    r->problems = ARENA_ARRAY(a, struct compile_problem, c->n_problems + 1);
    r->endpoint_keys = ARENA_ARRAY(a, struct slice, c->n_endpoint_keys + 1);
    r->by_object = ARENA_ARRAY(a, struct token_entry, c->n_origins + c->n_problems + 1);
    struct token_entry *deps = ARENA_ARRAY(a, struct token_entry, c->n_deps + 1);
    if ((c->payload.len && !r->payload.p) || !r->origins || !r->problems || !r->endpoint_keys ||
        !r->by_object || !deps)
        return -1;
    for (uint32_t i = 0; i < c->n_endpoint_keys; i++)
        r->endpoint_keys[r->n_endpoint_keys++] = copy(a, c->endpoint_keys[i]);
    for (uint32_t i = 0; i < c->n_origins; i++) {
        struct origin *o = &r->origins[r->n_origins++];
        *o = c->origins[i];
        o->ns = copy(a, o->ns);
        o->name = copy(a, o->name);
        if (tokens_add(&p->objects, &r->by_object[i], res_object_token(o->kind, o->ns, o->name),
                       r) < 0)
            return -1;
    }
    for (uint32_t i = 0; i < c->n_problems; i++) {
        struct compile_problem *o = &r->problems[r->n_problems++];
        *o = c->problems[i];
        o->ns = copy(a, o->ns);
        o->name = copy(a, o->name);
        o->path = copy(a, o->path);
        o->text = copy(a, o->text);
        if (tokens_add(&p->objects, &r->by_object[c->n_origins + i],
                       res_object_token(o->kind, o->ns, o->name), r) < 0)
            return -1;
    }
    r->deps = deps;
    for (uint32_t i = 0; i < c->n_deps; i++, r->n_deps++)
        if (tokens_add(&p->deps, &deps[i], c->deps[i], r) < 0)
            return -1;
    return 0;
}

bool res_compile(struct push *p, struct res *r)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct compile_client view;
    struct compiled c = {0};
    struct compile_input in = {
        .index = p->opts.index,
        .roots_pem = slice_str(p->roots),
        .cluster_name = slice_str(p->opts.cluster_name),
    };
    enum prog_state state = r->state;
    struct wire_version version = r->version;
    bool first = !r->compiled;

    view_of(p, r, &view);
    p->stats.compiles++;
    enum err_code rc = compile_resource(&in, &view, r->kind, r->key, &a, &c);
    if (rc == ERR_INVALID) { /* such a key can never be anything */
        c = (struct compiled){.kind = r->kind, .state = PROG_ABSENT};
    } else if (rc != ERR_OK) {
        LOG(ERROR, "Resource could not be compiled; the old one stays", "kind=%s key=%.*s error=%s",
            prog_kind_name(r->kind), SL_FMT(r->key), err_code_name(rc));
        return false;
    }
    if (!first)
        res_touch(p, r); /* objects that no longer contribute hear of it, too */
    if (res_keep(p, r, &c) < 0) {
        LOG(ERROR, "Out of memory: resource is compiled again later", "kind=%s key=%.*s",
            prog_kind_name(r->kind), SL_FMT(r->key));
        p->all_dirty = true;
    }
    r->compiled = true;
    res_touch(p, r);
    return first || state != r->state || memcmp(&version, &r->version, sizeof version) != 0;
}

struct res *res_get(struct push *p, const struct client *c, enum prog_kind kind, struct slice key)
{
    char class[400] = "", id[400 + WIRE_MAX_KEY + 16];
    if (kind == PROG_SERVICE)
        snprintf(class, sizeof class, "%s/%08x", c->ns, c->labels);
    else if (kind == PROG_NAMES)
        snprintf(class, sizeof class, "%s", c->ns);
    else if (kind == PROG_INBOUND)
        snprintf(class, sizeof class, "%s/%s", c->ns, c->pod);
    int n = snprintf(id, sizeof id, "%d %s ", (int)kind, class);
    int len = snprintf(id + n, sizeof id - (size_t)n, "%.*s", SL_FMT(key));
    if (key.len > WIRE_MAX_KEY || memchr(key.p ? key.p : "", 0, key.len))
        return NULL;
    struct res *r = map_get(&p->cache, slice_of(id, (size_t)(n + len)));
    if (r)
        return r;
    r = mem_zalloc(sizeof *r);
    if (!r)
        return NULL;
    r->id = mem_strdup(id);
    r->kind = kind;
    if (!r->id || map_put(&p->cache, slice_str(r->id), r, NULL) < 0) {
        mem_free(r->id);
        mem_free(r);
        return NULL;
    }
    r->key = slice_of(r->id + n, (size_t)len);
    const char *space = strchr(r->id, ' ') + 1; /* the class begins with the namespace */
    r->ns = slice_of(space, class[0] ? strlen(c->ns) : 0);
    return r;
}
