/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/obs/metrics.h"

#include "lib/obs/metrics_int.h"

const double metric_istio_bounds[METRIC_ISTIO_BOUNDS] = {
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,     1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
};

/* Cells of one metric: a counter or gauge has one; a histogram has one for each bucket (not
 * cumulative), then +Inf, then the sum as bits of a double. */
unsigned metric_cells(const struct metric_def *d)
{
    return d->type == METRIC_HISTOGRAM ? d->n_bounds + 2 : 1;
}

static unsigned row_cells(const struct metric_group *g)
{
    unsigned n = 0;

    for (unsigned i = 0; i < g->n_metrics; i++)
        n += metric_cells(&g->metrics[i]);
    return n;
}

typedef _Atomic uint8_t metric_place;

static metric_place *places_of(const struct metrics_row *row)
{
    return (metric_place *)(uintptr_t)(row->cells + METRIC_CHUNK);
}

static metric_cell *cell_in(struct metrics_row *row, unsigned n)
{
    struct metric_chunk *c = NULL;

    for (; n >= METRIC_CHUNK; n -= METRIC_CHUNK)
        c = atomic_load_explicit(c ? &c->next : &row->more, memory_order_acquire);
    return c ? &c->cells[n] : &row->cells[n];
}

const metric_cell *metric_cell_find(const struct metrics_row *row, unsigned at)
{
    uint8_t place;

    if (!row->packed)
        return &row->cells[at];
    place = atomic_load_explicit(&places_of(row)[at], memory_order_acquire);
    return place ? cell_in((struct metrics_row *)(uintptr_t)row, place - 1u) : NULL;
}

/* The same to write to; NULL without memory. Owner only. */
static metric_cell *cell_take(struct metrics_row *row, unsigned at)
{
    metric_cell *c = (metric_cell *)(uintptr_t)metric_cell_find(row, at);
    struct metric_chunk *chunk;

    if (c)
        return c;
    if (row->n_used && row->n_used % METRIC_CHUNK == 0) {
        _Atomic(struct metric_chunk *) *end = &row->more;

        while ((chunk = atomic_load_explicit(end, memory_order_relaxed)))
            end = &chunk->next;
        chunk = mem_zalloc(sizeof *chunk);
        if (!chunk)
            return NULL;
        atomic_store_explicit(end, chunk, memory_order_release);
    }
    c = cell_in(row, row->n_used++);
    atomic_store_explicit(&places_of(row)[at], row->n_used, memory_order_release);
    return c;
}

static void row_free(struct metrics_row *row)
{
    struct metric_chunk *next;

    for (struct metric_chunk *c = atomic_load(&row->more); c; c = next) {
        next = atomic_load(&c->next);
        mem_free(c);
    }
    mem_free(row);
}

int metrics_new(const struct metric_group *groups, unsigned n_groups, unsigned n_shards,
                size_t max_rows, struct metrics **ret, struct err *err)
{
    struct metrics *m;

    for (unsigned i = 0; i < n_groups; i++) {
        if (groups[i].n_labels > METRIC_LABELS_MAX)
            return err_set(err, ERR_INVALID, "metric group %u has too many labels", i);
        for (unsigned k = 0; k < groups[i].n_metrics; k++)
            if (groups[i].metrics[k].n_bounds > METRIC_BOUNDS_MAX)
                return err_set(err, ERR_INVALID, "metric %s has too many buckets",
                               groups[i].metrics[k].name);
    }
    m = mem_zalloc(sizeof *m + n_shards * sizeof m->shards[0]);
    if (!m)
        return err_set(err, ERR_NOMEM, "metrics");
    m->groups = groups;
    m->n_groups = n_groups;
    m->n_shards = n_shards;
    atomic_init(&m->age, 1);
    pthread_mutex_init(&m->lock, NULL);
    for (unsigned i = 0; i < n_shards; i++) {
        m->shards[i].metrics = m;
        m->shards[i].max_rows = max_rows;
    }
    *ret = m;
    return 0;
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->n_shards; i++) {
        struct metrics_shard *s = &m->shards[i];

        for (struct metrics_row *r = atomic_load(&s->rows), *next; r; r = next) {
            next = atomic_load(&r->next);
            row_free(r);
        }
        map_fini(&s->index);
    }
    pthread_mutex_destroy(&m->lock);
    mem_free(m);
}

struct metrics_shard *metrics_shard(struct metrics *m, unsigned i)
{
    return &m->shards[i];
}

uint64_t metrics_overflowed(const struct metrics *m)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < m->n_shards; i++)
        n += atomic_load_explicit(&m->shards[i].overflowed, memory_order_relaxed);
    return n;
}

/* --- rows ----------------------------------------------------------------------------------------
 */

/* The group's number, then each value and a NUL behind it. */
static size_t key_write(char *to, unsigned group, const struct slice *values, unsigned n)
{
    size_t at = 0;

    to[at++] = (char)(group + 1);
    for (unsigned i = 0; i < n; i++) {
        size_t len = MIN(values[i].len, METRIC_VALUE_MAX);

        if (len)
            memcpy(to + at, values[i].p, len);
        for (char *nul; len && (nul = memchr(to + at, '\0', len));)
            *nul = '?';
        at += len;
        to[at++] = '\0';
    }
    return at;
}

static bool group_ages(const struct metric_group *g)
{
    for (unsigned i = 0; i < g->n_metrics; i++)
        if (g->metrics[i].type == METRIC_GAUGE)
            return false;
    return g->n_labels > 0;
}

/* In the place of a retired row of that key, if there is one. */
static struct metrics_row *row_make(struct metrics_shard *s, unsigned group, struct slice key,
                                    bool ages)
{
    const struct metric_group *g = &s->metrics->groups[group];
    unsigned cells = row_cells(g);
    bool packed = cells > 2 * METRIC_CHUNK && cells <= UINT8_MAX;
    struct metrics_row *row =
        mem_zalloc(sizeof *row + (packed ? METRIC_CHUNK * sizeof row->cells[0] + cells
                                         : cells * sizeof row->cells[0]));
    struct map_entry *e;
    void *old = NULL;

    if (!row || map_put(&s->index, key, row, &old) < 0) {
        mem_free(row);
        return NULL;
    }
    if (old) /* the key is the new row's now */
        ((struct metrics_row *)old)->key = SLICE_NULL;
    e = map_find(&s->index, key);
    row->group = g;
    row->shard = s;
    row->key = slice_of(e->key, e->key_len); /* stays where it is while the entry lives */
    row->ages = ages && group_ages(g);
    row->packed = packed;
    atomic_init(&row->used, atomic_load_explicit(&s->metrics->age, memory_order_relaxed));
    atomic_init(&row->next, atomic_load_explicit(&s->rows, memory_order_relaxed));
    atomic_store_explicit(&s->rows, row, memory_order_release);
    return row;
}

static struct metrics_row *row_find(struct metrics_shard *s, struct slice key)
{
    struct metrics_row *row = map_get(&s->index, key);
    uint32_t age;

    if (!row || atomic_load_explicit(&row->retired, memory_order_acquire))
        return NULL;
    age = atomic_load_explicit(&s->metrics->age, memory_order_relaxed);
    if (atomic_load_explicit(&row->used, memory_order_relaxed) != age)
        atomic_store_explicit(&row->used, age, memory_order_relaxed);
    return row;
}

struct metrics_row *metrics_row(struct metrics_shard *s, unsigned group, const struct slice *values)
{
    char key[1 + METRIC_LABELS_MAX * (METRIC_VALUE_MAX + 1)];
    unsigned n = s->metrics->groups[group].n_labels;
    struct slice overflow[METRIC_LABELS_MAX];
    struct metrics_row *row;
    size_t len = key_write(key, group, values, n);

    row = row_find(s, slice_of(key, len));
    if (row)
        return row;
    bool ages = true;
    if (s->index.len >= s->max_rows) {
        cell_add(&s->overflowed, 1);
        for (unsigned i = 0; i < n; i++)
            overflow[i] = SL("overflow");
        len = key_write(key, group, overflow, n);
        row = row_find(s, slice_of(key, len));
        if (row)
            return row;
        ages = false;
    }
    return row_make(s, group, slice_of(key, len), ages);
}

size_t metrics_rows(const struct metrics_shard *s)
{
    return s->index.len;
}

/* Only the owner changes a list, and it holds the lock when it takes rows out. */
void metrics_reap(struct metrics_shard *s)
{
    _Atomic(struct metrics_row *) *at = &s->rows;
    struct metrics_row *row;

    if (atomic_load_explicit(&s->n_retired, memory_order_relaxed) == 0 ||
        pthread_mutex_trylock(&s->metrics->lock) != 0)
        return;
    while ((row = atomic_load_explicit(at, memory_order_relaxed))) {
        if (!atomic_load_explicit(&row->retired, memory_order_relaxed)) {
            at = &row->next;
            continue;
        }
        atomic_store_explicit(at, atomic_load_explicit(&row->next, memory_order_relaxed),
                              memory_order_relaxed);
        if (row->key.p)
            map_remove(&s->index, row->key);
        row_free(row);
        atomic_fetch_sub_explicit(&s->n_retired, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->metrics->lock);
}

/* --- cells ---------------------------------------------------------------------------------------
 */

static unsigned first_cell(const struct metrics_row *row, unsigned metric)
{
    unsigned at = 0;

    for (unsigned i = 0; i < metric; i++)
        at += metric_cells(&row->group->metrics[i]);
    return at;
}

static metric_cell *cell_of(struct metrics_row *row, unsigned metric)
{
    return row ? cell_take(row, first_cell(row, metric)) : NULL;
}

void metrics_add(struct metrics_row *row, unsigned metric, uint64_t n)
{
    metric_cell *c = cell_of(row, metric);

    if (c)
        cell_add(c, n);
}

void metrics_set(struct metrics_row *row, unsigned metric, double v)
{
    metric_cell *c = cell_of(row, metric);

    if (c)
        cell_set_double(c, v);
}

void metrics_gauge_add(struct metrics_row *row, unsigned metric, double d)
{
    metric_cell *c = cell_of(row, metric);

    if (c)
        cell_set_double(c, cell_double(c) + d);
}

void metrics_observe(struct metrics_row *row, unsigned metric, double v)
{
    const struct metric_def *d;
    metric_cell *bucket, *sum;
    unsigned i = 0, at;

    if (!row)
        return;
    d = &row->group->metrics[metric];
    at = first_cell(row, metric);
    while (i < d->n_bounds && !(v <= d->bounds[i]))
        i++;
    bucket = cell_take(row, at + i);
    sum = cell_take(row, at + d->n_bounds + 1);
    if (!bucket || !sum) /* both or none: an average is made of them */
        return;
    cell_add(bucket, 1);
    cell_set_double(sum, cell_double(sum) + v);
}

double metrics_value(const struct metrics_row *row, unsigned metric)
{
    const metric_cell *c = row ? metric_cell_find(row, first_cell(row, metric)) : NULL;

    if (!c)
        return 0;
    return row->group->metrics[metric].type == METRIC_COUNTER ? (double)cell_get(c)
                                                              : cell_double(c);
}
