/* SPDX-License-Identifier: Apache-2.0 */
/* The entries stand in insertion order at the front of one allocation (`cap` of them); behind them
 * stands the probe table, 2 * cap words, each 0 or 1 + the index of an entry. `used` counts entries
 * ever taken, removed ones included; they are squeezed out when the map is rebuilt. */
#include "lib/base/map.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "lib/base/hash.h"
#include "lib/base/mem.h"
#include "lib/base/rand.h"

#define FIRST_CAP 8u
#define REMOVED 1u

static uint32_t *table_of(const struct map *m)
{
    return (uint32_t *)(void *)(m->slots + m->cap);
}

/* One seed a process, so that adversaries cannot prepare collisions. */
static uint64_t process_seed(void)
{
    static _Atomic uint64_t seed;
    uint64_t s = atomic_load_explicit(&seed, memory_order_relaxed), none = 0;

    if (s == 0) {
        struct rnd r;

        rnd_init_system(&r);
        s = rnd_u64(&r) | 1;
        if (!atomic_compare_exchange_strong(&seed, &none, s))
            s = none;
    }
    return s;
}

static uint32_t hash_of(const struct map *m, struct slice key)
{
    return (uint32_t)hash64(key, m->seed);
}

void map_fini(struct map *m)
{
    for (size_t i = 0; i < m->used; i++)
        mem_free(m->slots[i].key);
    mem_free(m->slots);
    *m = (struct map){0};
}

static struct map_entry *find(const struct map *m, struct slice key, uint32_t hash)
{
    const uint32_t *table = table_of(m);
    size_t mask = m->cap * 2 - 1;

    for (size_t at = hash & mask; table[at]; at = (at + 1) & mask) {
        struct map_entry *e = &m->slots[table[at] - 1];

        if (e->key && e->hash == hash && slice_eq(slice_of(e->key, e->key_len), key))
            return e;
    }
    return NULL;
}

struct map_entry *map_find(const struct map *m, struct slice key)
{
    return m->len ? find(m, key, hash_of(m, key)) : NULL;
}

void *map_get(const struct map *m, struct slice key)
{
    struct map_entry *e = map_find(m, key);

    return e ? e->value : NULL;
}

static void table_add(struct map *m, size_t index)
{
    uint32_t *table = table_of(m);
    size_t mask = m->cap * 2 - 1, at = m->slots[index].hash & mask;

    while (table[at])
        at = (at + 1) & mask;
    table[at] = (uint32_t)index + 1;
}

/* Move to a fresh allocation of `cap` entries (a power of two), without the removed ones. */
static int rebuild(struct map *m, size_t cap)
{
    struct map to = {.cap = cap, .seed = m->seed};

    if (cap > UINT32_MAX / 4)
        return -1;
    to.slots = mem_array(cap, sizeof *to.slots + 2 * sizeof(uint32_t));
    if (!to.slots)
        return -1;
    for (size_t i = 0; i < m->used; i++) {
        if (!m->slots[i].key)
            continue;
        to.slots[to.used] = m->slots[i];
        table_add(&to, to.used++);
    }
    to.len = to.used;
    mem_free(m->slots);
    *m = to;
    return 0;
}

int map_put(struct map *m, struct slice key, void *value, void **ret_old)
{
    struct map_entry *e;
    uint32_t hash;
    char *copy;

    if (!m->seed)
        m->seed = process_seed();
    hash = hash_of(m, key);
    e = m->len ? find(m, key, hash) : NULL;
    if (e) {
        if (ret_old)
            *ret_old = e->value;
        e->value = value;
        return 0;
    }
    if (key.len > UINT32_MAX - 1)
        return -1;
    if (m->used == m->cap) {
        size_t cap = m->cap ? m->cap : FIRST_CAP;

        if (m->cap && m->len > m->cap / 4 * 3)
            cap *= 2;
        if (rebuild(m, cap) < 0)
            return -1;
    }
    copy = mem_strndup(key.p, key.len);
    if (!copy)
        return -1;
    m->slots[m->used] = (struct map_entry){copy, (uint32_t)key.len, hash, value};
    table_add(m, m->used++);
    m->len++;
    if (ret_old)
        *ret_old = NULL;
    return 0;
}

void *map_remove(struct map *m, struct slice key)
{
    struct map_entry *e = map_find(m, key);
    void *value;

    if (!e)
        return NULL;
    value = e->value;
    mem_free(e->key);
    *e = (struct map_entry){.hash = REMOVED};
    m->len--;
    return value;
}

struct map_entry *map_next(const struct map *m, struct map_entry *prev)
{
    size_t i = prev ? (size_t)(prev - m->slots) + 1 : 0;

    for (; i < m->used; i++)
        if (m->slots[i].key)
            return &m->slots[i];
    return NULL;
}

static int by_key(const void *a, const void *b)
{
    const struct map_entry *x = *(struct map_entry *const *)a, *y = *(struct map_entry *const *)b;

    return slice_cmp(slice_of(x->key, x->key_len), slice_of(y->key, y->key_len));
}

struct map_entry **map_sorted(const struct map *m, size_t *ret_len)
{
    struct map_entry **list = m->len ? mem_array(m->len, sizeof(struct map_entry *)) : NULL;
    size_t n = 0;

    if (list) {
        for (struct map_entry *e = NULL; (e = map_next(m, e));)
            list[n++] = e;
        qsort(list, n, sizeof(struct map_entry *), by_key);
    }
    *ret_len = n;
    return list;
}
