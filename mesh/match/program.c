/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/program.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/hash.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/base/re.h"

/* --- life ------------------------------------------------------------------------------------- */
void *prog_new(enum prog_kind kind, size_t size, struct slice key, struct slice version)
{
    return prog_new_room(kind, size, key, version, 0);
}

void *prog_new_room(enum prog_kind kind, size_t size, struct slice key, struct slice version,
                    size_t room)
{
    struct arena a;
    struct prog *r;

    arena_init(&a, room ? room : size + 256, 0);
    r = arena_alloc(&a, size);
    if (!r)
        return NULL;
    char *texts = arena_alloc(&a, version.len + key.len + 1);
    if (!texts) {
        arena_fini(&a);
        return NULL;
    }
    if (version.p) {
        memcpy(texts, version.p, version.len);
        r->version = slice_of(texts, version.len);
    }
    if (key.p) {
        memcpy(texts + version.len, key.p, key.len);
        r->key = slice_of(texts + version.len, key.len);
    }
    r->kind = kind;
    r->arena = a;
    atomic_init(&r->refs, 1);
    return r;
}

void *prog_ref(const void *resource)
{
    /* The count is the one mutable part of an immutable value. */
    struct prog *r = (struct prog *)(uintptr_t)resource;

    if (r)
        atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

static void free_string_match(const struct prog_string_match *m)
{
    re_free(m->re);
}

static void free_fields(const struct prog_field_match *f, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        free_string_match(&f[i].match);
}

/* Regular expressions are the only part of a resource outside its arena. */
static void free_regexes(const struct prog_http_route *routes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct prog_http_route *r = &routes[i];

        for (uint32_t k = 0; k < r->n_matches; k++) {
            const struct prog_http_match *m = &r->matches[k];

            free_string_match(&m->uri);
            free_string_match(&m->scheme);
            free_string_match(&m->method);
            free_string_match(&m->authority);
            free_fields(m->headers, m->n_headers);
            free_fields(m->queries, m->n_queries);
        }
        if (r->rewrite)
            re_free(r->rewrite->regex);
        for (uint32_t k = 0; r->cors && k < r->cors->n_origins; k++)
            free_string_match(&r->cors->origins[k]);
    }
}

/* --- routes that services share --------------------------------------------------------------- */
static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map shared_routes; /* key -> struct prog_routes, without a reference */

static void routes_free(struct prog_routes *routes)
{
    struct arena a = routes->arena; /* holds the routes that hold it */

    free_regexes(routes->p, routes->n);
    arena_fini(&a);
}

struct prog_routes *prog_routes_find(struct slice key)
{
    struct prog_routes *found;

    pthread_mutex_lock(&shared_lock);
    found = map_get(&shared_routes, key);
    if (found)
        found->refs++;
    pthread_mutex_unlock(&shared_lock);
    return found;
}

struct prog_routes *prog_routes_keep(struct prog_routes *routes)
{
    struct prog_routes *other;

    if (!routes || !routes->key.len)
        return routes;
    pthread_mutex_lock(&shared_lock);
    other = map_get(&shared_routes, routes->key);
    if (other)
        other->refs++;
    else
        map_put(&shared_routes, routes->key, routes, NULL); /* without memory they are one service's */
    pthread_mutex_unlock(&shared_lock);
    if (!other)
        return routes;
    routes_free(routes);
    return other;
}

void prog_routes_unref(struct prog_routes *routes)
{
    bool last;

    if (!routes)
        return;
    pthread_mutex_lock(&shared_lock);
    last = --routes->refs == 0;
    if (last && map_get(&shared_routes, routes->key) == routes)
        map_remove(&shared_routes, routes->key);
    if (shared_routes.len == 0)
        map_fini(&shared_routes);
    pthread_mutex_unlock(&shared_lock);
    if (last)
        routes_free(routes);
}

static void free_service(struct prog_service *s)
{
    if (s->routes)
        prog_routes_unref(s->routes);
    else
        free_regexes(s->http, s->n_http);
}

void prog_unref(const void *resource)
{
    struct prog *r = (struct prog *)(uintptr_t)resource;
    struct arena a;
    bool secret;

    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (r->kind == PROG_SERVICE)
        free_service((struct prog_service *)r);
    secret = r->kind == PROG_CREDENTIAL;
    a = r->arena; /* the arena holds the resource that holds it */
    if (secret)
        arena_wipe(&a);
    arena_fini(&a);
}

void prog_unrefp(void *pp)
{
    void *p;

    memcpy(&p, pp, sizeof p);
    prog_unref(p);
}

uint64_t prog_subset_mask(const struct prog_endpoints *e, uint64_t selector)
{
    if (selector == 0)
        return UINT64_MAX;
    for (uint32_t i = 0; i < e->n_selectors && i < 64; i++)
        if (e->selectors[i] == selector)
            return UINT64_C(1) << i;
    return 0;
}

uint64_t prog_selector_add(uint64_t selector, struct slice key, struct slice value)
{
    uint64_t h = hash64(value, hash64(key, selector));

    return h ? h : 1;
}

/* --- binary fuse filter, arity 3 -------------------------------------------------------------------
 * Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", 2022. Each key has a cell
 * in each of three consecutive segments; the cells' bytes xor to its fingerprint. Building peels keys
 * that are alone in a cell, then assigns in reverse order. */
struct cells {
    uint32_t at[3];
};

static uint64_t mix(uint64_t h, uint64_t seed)
{
    h += seed;
    h ^= h >> 33;
    h *= UINT64_C(0xff51afd7ed558ccd);
    h ^= h >> 33;
    h *= UINT64_C(0xc4ceb9fe1a85ec53);
    return h ^ h >> 33;
}

static uint8_t fingerprint(uint64_t h)
{
    return (uint8_t)(h ^ h >> 32);
}

static struct cells cells_of(uint64_t h, uint32_t segment_length, uint32_t segment_count)
{
    uint32_t mask = segment_length - 1;
    uint32_t base = (uint32_t)((unsigned __int128)h * ((uint64_t)segment_count * segment_length) >> 64);

    return (struct cells){{base, (base + segment_length) ^ ((uint32_t)(h >> 18) & mask),
                           (base + 2 * segment_length) ^ ((uint32_t)h & mask)}};
}

bool prog_filter_has(const struct prog_filter *f, struct slice key)
{
    const uint8_t *fp = (const uint8_t *)f->fingerprints.p;
    uint64_t h;
    struct cells c;

    if (f->fingerprints.len == 0)
        return false;
    h = mix(hash64(key, 0), f->seed);
    c = cells_of(h, f->segment_length, f->segment_count);
    return (fp[c.at[0]] ^ fp[c.at[1]] ^ fp[c.at[2]]) == fingerprint(h);
}

bool prog_filter_has_host(const struct prog_filter *f, struct slice host)
{
    char wild[256 + 1];

    if (host.len == 0 || host.len > 255)
        return false;
    if (prog_filter_has(f, host))
        return true;
    for (struct slice rest = host;;) {
        ptrdiff_t dot = slice_chr(rest, '.');

        if (dot < 0)
            break;
        rest = slice_skip(rest, (size_t)dot); /* ".suffix" */
        wild[0] = '*';
        memcpy(wild + 1, rest.p, rest.len);
        if (prog_filter_has(f, slice_of(wild, rest.len + 1)))
            return true;
        rest = slice_skip(rest, 1);
    }
    return prog_filter_has(f, SL("*"));
}

bool prog_settings_has_host(const struct prog_settings *s, struct slice host,
                            struct slice client_ns)
{
    char full[512];
    size_t dots = 0;
    int n;

    if (prog_filter_has_host(&s->filter, host))
        return true;
    for (size_t i = 0; i < host.len; i++)
        dots += host.p[i] == '.';
    if (dots == 0)
        n = snprintf(full, sizeof full, "%.*s.%.*s.svc.%.*s", SL_FMT(host), SL_FMT(client_ns),
                     SL_FMT(s->cluster_domain));
    else if (dots == 1)
        n = snprintf(full, sizeof full, "%.*s.svc.%.*s", SL_FMT(host), SL_FMT(s->cluster_domain));
    else if (dots == 2 && slice_ends(host, SL(".svc")))
        n = snprintf(full, sizeof full, "%.*s.%.*s", SL_FMT(host), SL_FMT(s->cluster_domain));
    else
        return false;
    return n > 0 && (size_t)n < sizeof full && prog_filter_has(&s->filter, slice_of(full, (size_t)n));
}

static int cmp_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Cells: 1.125 per key for large sets, more for small ones (logarithms by bit length are close
 * enough; a set that does not peel gets another seed). */
static void filter_size(size_t n, uint32_t *ret_length, uint32_t *ret_count)
{
    unsigned bits = n > 1 ? 64 - (unsigned)__builtin_clzll((uint64_t)n - 1) : 1; /* ceil(log2 n) */
    unsigned exp = (bits * 58 + 225) / 100; /* log(n)/log(3.33) + 2.25, ln2/ln3.33 = 0.576 */
    uint64_t least = (uint64_t)n * 9 / 8, usual = (uint64_t)n * 7 / 8 + (uint64_t)n * 5 / bits;
    uint64_t capacity = n <= 16 ? 64 : MAX(least, usual);
    uint32_t length;

    if (exp < 2)
        exp = 2;
    if (exp > 18)
        exp = 18;
    length = UINT32_C(1) << exp;
    *ret_length = length;
    capacity = (capacity + length - 1) / length; /* segments */
    *ret_count = capacity > 3 ? (uint32_t)capacity - 2 : 1;
}

struct peel {
    uint64_t *hashes;      /* of the keys, distinct */
    uint32_t n, cells, *stack_cell;
    uint64_t *xor_, *stack_hash;
    uint8_t *count;        /* keys in a cell */
};

/* False: this seed does not work. On success fingerprints are filled. */
static bool filter_try(const struct peel *p, uint64_t seed, uint32_t length, uint32_t count,
                       uint8_t *fp)
{
    uint32_t done = 0, *queue = p->stack_cell + p->n, tail = 0;

    memset(p->xor_, 0, p->cells * sizeof *p->xor_);
    memset(p->count, 0, p->cells);
    for (uint32_t i = 0; i < p->n; i++) {
        uint64_t h = mix(p->hashes[i], seed);
        struct cells c = cells_of(h, length, count);

        for (int k = 0; k < 3; k++) {
            if (p->count[c.at[k]] == UINT8_MAX)
                return false;
            p->count[c.at[k]]++;
            p->xor_[c.at[k]] ^= h;
        }
    }
    for (uint32_t i = 0; i < p->cells; i++)
        if (p->count[i] == 1)
            queue[tail++] = i;
    while (tail > 0) {
        uint32_t cell = queue[--tail];
        uint64_t h;
        struct cells c;

        if (p->count[cell] != 1)
            continue;
        h = p->xor_[cell];
        c = cells_of(h, length, count);
        p->stack_hash[done] = h;
        p->stack_cell[done++] = cell;
        for (int k = 0; k < 3; k++) {
            p->count[c.at[k]]--;
            p->xor_[c.at[k]] ^= h;
            if (p->count[c.at[k]] == 1)
                queue[tail++] = c.at[k];
        }
    }
    if (done != p->n)
        return false;
    memset(fp, 0, p->cells);
    while (done-- > 0) {
        uint64_t h = p->stack_hash[done];
        struct cells c = cells_of(h, length, count);

        /* The own cell is still zero: xor of all three is xor of the other two. */
        fp[p->stack_cell[done]] =
            (uint8_t)(fingerprint(h) ^ fp[c.at[0]] ^ fp[c.at[1]] ^ fp[c.at[2]]);
    }
    return true;
}

enum err_code prog_filter_build(struct arena *a, const struct slice *keys, size_t n,
                                struct prog_filter *ret)
{
    CLEANUP(arena_free) struct arena tmp = ARENA_INIT;
    struct prog_filter f = {0};
    struct peel p = {0};
    uint8_t *fp;
    size_t distinct = 0;

    if (n == 0) {
        *ret = f;
        return ERR_OK;
    }
    if (n > UINT32_MAX / 8)
        return ERR_LIMIT;
    p.hashes = ARENA_ARRAY(&tmp, uint64_t, n);
    if (!p.hashes)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        p.hashes[i] = hash64(keys[i], 0);
    qsort(p.hashes, n, sizeof *p.hashes, cmp_u64);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || p.hashes[i] != p.hashes[i - 1])
            p.hashes[distinct++] = p.hashes[i];
    p.n = (uint32_t)distinct;
    filter_size(distinct, &f.segment_length, &f.segment_count);
    p.cells = (f.segment_count + 2) * f.segment_length;
    p.xor_ = ARENA_ARRAY(&tmp, uint64_t, p.cells);
    p.count = arena_alloc(&tmp, p.cells);
    p.stack_hash = ARENA_ARRAY(&tmp, uint64_t, p.n);
    /* Behind the stack, the queue: a cell enters it at most once for each decrement to one. */
    p.stack_cell = ARENA_ARRAY(&tmp, uint32_t, (size_t)p.n + p.cells + (size_t)p.n * 3);
    fp = arena_alloc(a, p.cells);
    if (!p.xor_ || !p.count || !p.stack_hash || !p.stack_cell || !fp)
        return ERR_NOMEM;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        f.seed = mix(seed, UINT64_C(0x9e3779b97f4a7c15));
        if (filter_try(&p, f.seed, f.segment_length, f.segment_count, fp)) {
            f.fingerprints = slice_of(fp, p.cells);
            *ret = f;
            return ERR_OK;
        }
    }
    return ERR_INTERNAL;
}
