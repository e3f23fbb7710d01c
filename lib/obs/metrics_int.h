/* SPDX-License-Identifier: Apache-2.0 */
/* What the registry and its exposition share. */
#pragma once

#include <pthread.h>

#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/obs/metrics.h"

typedef _Atomic uint64_t metric_cell;

struct metrics_row {
    const struct metric_group *group;
    struct metrics_shard *shard;
    struct slice key; /* group number, then NUL-terminated values */
    _Atomic(struct metrics_row *) next;
    _Atomic uint32_t used;    /* the age in which it was looked up last */
    _Atomic uint32_t exposed; /* the age in which it was exposed last; 0: never */
    atomic_bool retired;      /* not exposed any more; out of use for good */
    bool ages;
    metric_cell cells[];
};
struct metrics_shard {
    struct metrics *metrics;
    struct map index; /* key -> row; owner only */
    size_t max_rows;
    _Atomic(struct metrics_row *) rows; /* newest first; published with release */
    atomic_size_t n_retired;            /* that wait to be reaped */
    metric_cell overflowed;
};
struct metrics {
    const struct metric_group *groups;
    unsigned n_groups, n_shards;
    _Atomic uint32_t age;
    pthread_mutex_t lock; /* who walks the lists of rows, against who frees rows */
    struct metrics_shard shards[];
};

unsigned metric_cells(const struct metric_def *d);

static inline uint64_t cell_get(const metric_cell *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}
/* One writer: a load and a store, no locked instruction. */
static inline void cell_add(metric_cell *c, uint64_t n)
{
    atomic_store_explicit(c, cell_get(c) + n, memory_order_relaxed);
}
static inline double cell_double(const metric_cell *c)
{
    uint64_t bits = cell_get(c);
    double v;

    memcpy(&v, &bits, sizeof v);
    return v;
}
static inline void cell_set_double(metric_cell *c, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    atomic_store_explicit(c, bits, memory_order_relaxed);
}
