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
    if (r->kind == PROG_CREDENTIAL)
        arena_wipe(&r->arena);
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
    if (r->id)
        map_remove(&p->cache, slice_of(r->id, (size_t)(r->key.p - r->id) + r->key.len));
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

/* --- classes ------------------------------------------------------------------------------------------ */

enum {
    ID_MAX = 8 + 64 + 256 + 2 * sizeof(struct labels_id) + WIRE_MAX_KEY + 32,
    /* In place of what is looked at: belongs to no class any more and waits for its clients to leave. */
    ORPHAN = 255,
};

uint32_t res_hash(enum prog_kind kind, struct slice key)
{
    return (uint32_t)hash64(key, (uint64_t)kind + 1);
}

/* "3 3 shop/ab01.. web.shop:80": kind, what is looked at, the client's part in that, key. */
static size_t id_make(char ret[ID_MAX], const struct client *c, enum prog_kind kind, unsigned looks,
                      struct slice key, size_t *ret_key)
{
    size_t at = (size_t)snprintf(ret, ID_MAX, "%d %u ", (int)kind, looks);
    if (looks == ORPHAN)
        at += (size_t)snprintf(ret + at, ID_MAX - at, "%llx", (unsigned long long)++c->push->n_orphans);
    else if (looks & COMPILE_LOOKS_POD)
        at += (size_t)snprintf(ret + at, ID_MAX - at, "%s/%s", c->ns, c->pod);
    else if (looks & COMPILE_LOOKS_NAMESPACE)
        at += (size_t)snprintf(ret + at, ID_MAX - at, "%s", c->ns);
    for (size_t i = 0; looks != ORPHAN && looks & COMPILE_LOOKS_LABELS && i < sizeof c->labels.sum; i++)
        at += (size_t)snprintf(ret + at, ID_MAX - at, "%s%02x", i ? "" : "/", c->labels.sum[i]);
    ret[at++] = ' ';
    *ret_key = at;
    memcpy(ret + at, key.p ? key.p : "", key.len);
    return at + key.len;
}

/* Enter it for the class of `c`; it must not be there yet. */
static int res_enter(struct push *p, struct res *r, const struct client *c, unsigned looks)
{
    char id[ID_MAX];
    size_t key, len = id_make(id, c, r->kind, looks, r->key, &key);

    if (map_put(&p->cache, slice_of(id, len), r, NULL) < 0)
        return -1;
    const char *old = r->id;
    size_t old_len = old ? (size_t)(r->key.p - old) + r->key.len : 0;
    r->id = map_find(&p->cache, slice_of(id, len))->key;
    r->key = slice_of(r->id + key, r->key.len);
    r->looks = (uint8_t)looks;
    if (old)
        map_remove(&p->cache, slice_of(old, old_len));
    return 0;
}

/* The resource that a client would share: whatever was compiled without a look at what sets this
 * client apart is its own, too. */
static struct res *res_find(struct push *p, const struct client *c, enum prog_kind kind, struct slice key)
{
    static const uint8_t own[] = {COMPILE_LOOKS_POD}, everybody[] = {0},
                         some[] = {0, COMPILE_LOOKS_NAMESPACE, COMPILE_LOOKS_LABELS,
                                      COMPILE_LOOKS_NAMESPACE | COMPILE_LOOKS_LABELS};
    bool of_pod = kind == PROG_INBOUND || kind == PROG_LISTENERS || kind == PROG_CREDENTIAL;
    bool of_all = kind == PROG_ENDPOINTS || kind == PROG_WORKLOAD;
    const uint8_t *looks = of_pod ? own : of_all ? everybody : some;
    size_t n = of_pod ? N_OF(own) : of_all ? N_OF(everybody) : N_OF(some);
    for (size_t i = 0; i < n; i++) {
        char id[ID_MAX];
        size_t at, len = id_make(id, c, kind, looks[i], key, &at);
        struct res *r = map_get(&p->cache, slice_of(id, len));
        if (r)
            return r;
    }
    return NULL;
}

/* --- compiling ------------------------------------------------------------------------------------------ */

/* Whose eyes: any member of the class, best one that the index knows. */
static const struct client *viewer(struct push *p, const struct res *r)
{
    for (const struct sub *s = r->subs; s; s = s->next) {
        const struct client *c = s->client;
        const struct ix_pod *pod = index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));
        if (pod && pod->known)
            return c;
    }
    return r->subs->client;
}

static void view_of(struct push *p, const struct client *c, struct compile_client *ret)
{
    const struct ix_pod *pod = index_pod(p->opts.index, slice_str(c->ns), slice_str(c->pod));

    if (pod && pod->known)
        compile_client_of_pod(pod, ret);
    else
        *ret = (struct compile_client){.namespace_ = slice_str(c->ns), .pod = slice_str(c->pod)};
}

static struct slice copy(struct arena *a, struct slice s)
{
    return s.len ? arena_slice(a, s) : SLICE_NULL;
}

static size_t room(size_t n)
{
    return n ? arena_takes(n) : 0;
}
static size_t room_text(struct slice s)
{
    return s.len ? room(s.len + 1) : 0;
}

/* Bytes that res_keep takes. */
static size_t room_of(const struct compiled *c)
{
    size_t n = room_text(c->payload) + room(c->n_deps * sizeof(struct token_entry)) +
               room(c->n_origins * sizeof *c->origins) + room(c->n_problems * sizeof *c->problems) +
               room((c->n_origins + c->n_problems) * sizeof(struct token_entry)) +
               room(c->n_endpoint_keys * sizeof *c->endpoint_keys);
    for (uint32_t i = 0; i < c->n_origins; i++)
        n += room_text(c->origins[i].ns) + room_text(c->origins[i].name);
    for (uint32_t i = 0; i < c->n_problems; i++)
        n += room_text(c->problems[i].ns) + room_text(c->problems[i].name) +
             room_text(c->problems[i].path) + room_text(c->problems[i].text);
    for (uint32_t i = 0; i < c->n_endpoint_keys; i++)
        n += room_text(c->endpoint_keys[i]);
    return n;
}

#define KEEP_ARRAY(a, T, n) ((n) ? ARENA_ARRAY(a, T, n) : NULL)

/* Keep what was compiled, in one block; the compiler's arena goes. */
static int res_keep(struct push *p, struct res *r, const struct compiled *c)
{
    struct arena *a = &r->arena;

    res_forget(p, r);
    arena_init(a, room_of(c), 0);
    r->state = c->state;
    r->version = c->version;
    r->payload = copy(a, c->payload);
    r->origins = KEEP_ARRAY(a, struct origin, c->n_origins);
    r->problems = KEEP_ARRAY(a, struct compile_problem, c->n_problems);
    r->endpoint_keys = KEEP_ARRAY(a, struct slice, c->n_endpoint_keys);
    r->by_object = KEEP_ARRAY(a, struct token_entry, c->n_origins + c->n_problems);
    struct token_entry *deps = KEEP_ARRAY(a, struct token_entry, c->n_deps);
    if ((c->payload.len && !r->payload.p) || (c->n_origins && !r->origins) ||
        (c->n_problems && !r->problems) || (c->n_endpoint_keys && !r->endpoint_keys) ||
        (c->n_origins + c->n_problems && !r->by_object) || (c->n_deps && !deps))
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

enum outcome { SAME, CHANGED, FAILED };

/* Compile anew as `c` sees it; *ret_looks is what mattered of `c`. */
static enum outcome res_compile(struct push *p, struct res *r, const struct client *c,
                                unsigned *ret_looks)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct compile_client view;
    struct compiled now = {0};
    struct compile_input in = {
        .index = p->opts.index,
        .roots_pem = slice_str(p->roots),
        .issuer = p->issuer,
        .renew_within_s = p->renew_within_s,
        .cluster_name = slice_str(p->opts.cluster_name),
    };
    enum prog_state state = r->state;
    struct wire_version version = r->version;

    view_of(p, c, &view);
    p->stats.compiles++;
    enum err_code rc = compile_resource(&in, &view, r->kind, r->key, &a, &now);
    if (rc == ERR_INVALID) { /* such a key can never be anything */
        now = (struct compiled){.kind = r->kind, .state = PROG_ABSENT};
    } else if (rc != ERR_OK) {
        LOG(ERROR, "Resource could not be compiled; the old one stays", "kind=%s key=%.*s error=%s",
            prog_kind_name(r->kind), SL_FMT(r->key), err_code_name(rc));
        return FAILED;
    }
    res_touch(p, r); /* objects that no longer contribute hear of it, too */
    if (res_keep(p, r, &now) < 0) {
        LOG(ERROR, "Out of memory: resource is compiled again later", "kind=%s key=%.*s",
            prog_kind_name(r->kind), SL_FMT(r->key));
        p->all_dirty = true;
    }
    if (r->kind == PROG_CREDENTIAL)
        arena_wipe(&a);
    res_touch(p, r);
    *ret_looks = now.looks & COMPILE_LOOKS_POD ? COMPILE_LOOKS_POD : now.looks;
    return state != r->state || memcmp(&version, &r->version, sizeof version) != 0 ? CHANGED : SAME;
}

/* It looked at more, or at less, than what its clients have in common: it becomes the resource of the
 * viewer's class, unless there is one, and every other client gets that of its own. */
static void res_settle(struct push *p, struct res *r, const struct client *c, unsigned looks)
{
    char id[ID_MAX];
    size_t key, len = id_make(id, c, r->kind, looks, r->key, &key);
    bool there = map_find(&p->cache, slice_of(id, len)) != NULL;

    if (res_enter(p, r, c, there ? ORPHAN : looks) < 0) {
        p->all_dirty = true; /* no memory: its content is the viewer's for now */
        return;
    }
    for (struct sub *s = r->subs, *next; s; s = next) {
        next = s->next;
        struct res *home = res_get(p, s->client, r->kind, r->key);
        if (!home)
            p->all_dirty = true;
        else if (home != r)
            sub_move(s, home);
    }
}

void res_refresh(struct push *p, struct res *r)
{
    const struct client *c = viewer(p, r);
    unsigned looks = r->looks;
    enum outcome o = res_compile(p, r, c, &looks);

    if (looks != r->looks)
        res_settle(p, r, c, looks);
    for (struct sub *s = r->subs; o == CHANGED && s; s = s->next) {
        if (r->kind == PROG_SERVICE)
            s->client->sweep = true;
        sub_pend(s);
    }
    res_release(p, r);
}

struct res *res_get(struct push *p, const struct client *c, enum prog_kind kind, struct slice key)
{
    unsigned looks = 0;

    if (key.len > WIRE_MAX_KEY || memchr(key.p ? key.p : "", 0, key.len))
        return NULL;
    struct res *r = res_find(p, c, kind, key);
    if (r)
        return r;
    r = mem_zalloc(sizeof *r);
    if (!r)
        return NULL;
    r->kind = (uint8_t)kind;
    r->key = key;
    r->hash = res_hash(kind, key);
    if (res_compile(p, r, c, &looks) == FAILED || res_enter(p, r, c, looks) < 0) {
        res_free(p, r);
        return NULL;
    }
    return r;
}
