/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/hashlb.h"

#include <stdlib.h>

#include "lib/base/hash.h"
#include "lib/base/mem.h"

#define HOST_BITS 24
#define HOST_MASK ((UINT64_C(1) << HOST_BITS) - 1)

static uint32_t weight_of(const struct hash_host *h)
{
    return h->weight ? h->weight : 1;
}

void hash_table_free(struct hash_table *t)
{
    mem_free(t);
}

size_t hash_table_bytes(const struct hash_table *t)
{
    return sizeof *t + t->n * (t->points ? sizeof *t->points : sizeof *t->slots);
}

static struct hash_table *table_alloc(uint32_t n, size_t each)
{
    struct hash_table *t = mem_zalloc(sizeof *t + n * each);

    if (t)
        t->n = n;
    return t;
}

/* --- ring
 * ----------------------------------------------------------------------------------------- */
static int cmp_point(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Points of one host: the lightest gets its part of `size`, the others in proportion. The part is
 * rounded up to a power of two, so that it seldom changes when hosts come and go: a host that loses
 * points loses keys. */
static uint64_t points_of(const struct hash_host *h, uint64_t least, uint64_t least_points)
{
    return MAX((weight_of(h) * least_points + least / 2) / least, UINT64_C(1));
}

static enum err_code ring_new(uint32_t size, const struct hash_host *hosts, uint32_t n,
                              struct hash_table **ret)
{
    uint64_t total = 0, least = UINT32_MAX, least_points, all = 0;
    struct hash_table *t;

    for (uint32_t i = 0; i < n; i++) {
        total += weight_of(&hosts[i]);
        least = MIN(least, (uint64_t)weight_of(&hosts[i]));
    }
    size = MIN(MAX(size, 1u), (uint32_t)HASH_RING_MAX);
    for (least_points = 1; least_points * total < least * size;)
        least_points *= 2;
    for (;; least_points /= 2, all = 0) {
        for (uint32_t i = 0; i < n; i++)
            all += points_of(&hosts[i], least, least_points);
        if (all <= HASH_RING_MAX || least_points == 0)
            break;
    }
    t = table_alloc((uint32_t)all, sizeof *t->points);
    if (!t)
        return ERR_NOMEM;
    t->points = (uint64_t *)(void *)(t + 1);
    for (uint32_t i = 0, at = 0; i < n; i++)
        for (uint64_t k = points_of(&hosts[i], least, least_points); k-- > 0;)
            t->points[at++] = (hash64(hosts[i].key, k + 1) & ~HOST_MASK) | i;
    qsort(t->points, t->n, sizeof *t->points, cmp_point);
    *ret = t;
    return ERR_OK;
}

/* The first point at or after the key's, around the end to the first. */
static uint32_t ring_at(const struct hash_table *t, uint64_t hash)
{
    uint32_t lo = 0, hi = t->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (t->points[mid] < (hash & ~HOST_MASK))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo == t->n ? 0 : lo;
}

/* --- Maglev
 * ----------------------------------------------------------------------------------------- */
struct walker { /* a host on its way through its permutation */
    uint32_t at, skip;
    uint64_t due; /* turns are taken by weight: the next one, in units of the heaviest */
};

static enum err_code maglev_new(uint32_t size, const struct hash_host *hosts, uint32_t n,
                                struct hash_table **ret)
{
    struct walker *w = mem_array(n, sizeof *w);
    struct hash_table *t;
    uint64_t heaviest = 1;
    uint32_t filled = 0;

    size = MIN(MAX(size, 3u), (uint32_t)HASH_MAGLEV_MAX);
    t = w ? table_alloc(size, sizeof *t->slots) : NULL;
    if (!t) {
        mem_free(w);
        return ERR_NOMEM;
    }
    t->slots = (uint16_t *)(void *)(t + 1);
    for (uint32_t i = 0; i < size; i++)
        t->slots[i] = UINT16_MAX;
    for (uint32_t i = 0; i < n; i++) {
        w[i].at = (uint32_t)(hash64(hosts[i].key, 0) % size);
        w[i].skip = (uint32_t)(hash64(hosts[i].key, 1) % (size - 1)) + 1;
        heaviest = MAX(heaviest, (uint64_t)weight_of(&hosts[i]));
    }
    for (uint64_t turn = 1; filled < size; turn++)
        for (uint32_t i = 0; i < n && filled < size; i++) {
            if (turn * weight_of(&hosts[i]) < w[i].due)
                continue;
            w[i].due += heaviest;
            while (t->slots[w[i].at] != UINT16_MAX)
                w[i].at = (uint32_t)(((uint64_t)w[i].at + w[i].skip) % size);
            t->slots[w[i].at] = (uint16_t)i;
            filled++;
        }
    mem_free(w);
    *ret = t;
    return ERR_OK;
}

enum err_code hash_table_new(bool maglev, uint32_t size, const struct hash_host *hosts, uint32_t n,
                             struct hash_table **ret)
{
    if (n == 0 || n >= HASH_HOSTS_MAX)
        return ERR_LIMIT;
    return maglev ? maglev_new(size, hosts, n, ret) : ring_new(size, hosts, n, ret);
}

uint32_t hash_table_at(const struct hash_table *t, uint64_t hash, uint32_t attempt)
{
    if (t->points)
        return (uint32_t)(t->points[(ring_at(t, hash) + (uint64_t)attempt) % t->n] & HOST_MASK);
    if (attempt)
        hash = hash64(slice_of(&hash, sizeof hash), attempt);
    return t->slots[hash % t->n];
}
