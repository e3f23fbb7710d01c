/* SPDX-License-Identifier: Apache-2.0 */
/* What the registry and its exposition share. */
#pragma once

#include <pthread.h>

#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/obs/metrics.h"

typedef _Atomic uint64_t metric_cell;

enum { METRIC_CHUNK = 8 };
struct metric_chunk {
    _Atomic(struct metric_chunk *) next;
    metric_cell cells[METRIC_CHUNK];
};

/* Of a histogram's buckets most rows use one or two. A row with many cells keeps those that were
 * used, in the order of first use: `places` tells where (0: not used yet, so its value is zero), in
 * the row itself or in the chunks behind it. Cells never move, so that others read them without a
 * lock. A row with few cells has all of them, and no places. */
struct metrics_row {
    const struct metric_group *group;
    struct metrics_shard *shard;
    struct slice key; /* group number, then NUL-terminated values */
    _Atomic(struct metrics_row *) next;
    _Atomic uint32_t used;    /* the age in which it was looked up last */
    _Atomic uint32_t exposed; /* the age in which it was exposed last; 0: never */
    atomic_bool retired;      /* not exposed any more; out of use for good */
    bool ages;
    bool packed;
    uint8_t n_used; /* cells, of a packed row; owner only */
    _Atomic(struct metric_chunk *) more;
    metric_cell cells[]; /* METRIC_CHUNK and the places, or all */
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
/* The row's cell number `at`; NULL: it is zero and was never written. Any thread. */
const metric_cell *metric_cell_find(const struct metrics_row *row, unsigned at);

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
