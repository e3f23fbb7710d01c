/* SPDX-License-Identifier: Apache-2.0 */
/* Text exposition: Prometheus 0.0.4 and OpenMetrics 1.0. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/escape.h"
#include "lib/base/vec.h"
#include "lib/obs/metrics_int.h"

const char *metrics_content_type(enum metrics_form form)
{
    return form == METRICS_OPENMETRICS
               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
               : "text/plain; version=0.0.4; charset=utf-8";
}

enum metrics_form metrics_negotiate(struct slice accept)
{
    return slice_find(accept, SL("application/openmetrics-text")) >= 0 ? METRICS_OPENMETRICS
                                                                       : METRICS_TEXT;
}

static void add_number(struct buf *out, double v)
{
    char text[40];

    if (isnan(v)) {
        buf_add_str(out, "NaN");
    } else if (isinf(v)) {
        buf_add_str(out, v < 0 ? "-Inf" : "+Inf");
    } else if (v >= 0 && v < 0x1p53 && v == floor(v)) {
        buf_add_u64(out, (uint64_t)v);
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, v);
            if (strtod(text, NULL) == v)
                break;
        }
        buf_add_str(out, text);
    }
}

/* Values are UTF-8 in both formats; a control character has no business in a label. */
static void add_value(struct buf *out, struct slice s)
{
    while (s.len) {
        size_t n = utf8_len(s);

        if (n == 0) {
            buf_add_str(out, "\xef\xbf\xbd");
            n = 1;
        } else if (s.p[0] == '\\' || s.p[0] == '"') {
            buf_add_char(out, '\\');
            buf_add_char(out, s.p[0]);
        } else if (s.p[0] == '\n') {
            buf_add_str(out, "\\n");
        } else if ((unsigned char)s.p[0] < 0x20 || s.p[0] == 0x7f) {
            buf_add_char(out, '?');
        } else {
            buf_add(out, s.p, n);
        }
        s = slice_skip(s, n);
    }
}

/* The family's name: OpenMetrics takes _total off counters (OpenMetrics 1.0, "Counter"). */
static struct slice family_name(enum metrics_form form, const struct metric_def *d)
{
    struct slice name = slice_str(d->name);

    if (form == METRICS_OPENMETRICS && d->type == METRIC_COUNTER && slice_ends(name, SL("_total")))
        name.len -= 6;
    return name;
}

static void add_help(struct buf *out, enum metrics_form form, const char *help)
{
    for (; *help; help++) {
        if (*help == '\n')
            buf_add_str(out, "\\n");
        else if (*help == '\\' || (*help == '"' && form == METRICS_OPENMETRICS))
            buf_addf(out, "\\%c", *help);
        else
            buf_add_char(out, *help);
    }
}

void metrics_family(struct metrics_writer *w, const struct metric_def *d)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    struct slice name = family_name(w->form, d), unit = slice_str(d->unit);

    buf_addf(w->out, "# HELP %.*s ", SL_FMT(name));
    add_help(w->out, w->form, d->help ? d->help : "");
    buf_addf(w->out, "\n# TYPE %.*s %s\n", SL_FMT(name), types[d->type]);
    /* A unit must be the end of the name, or it may not be told. */
    if (w->form == METRICS_OPENMETRICS && unit.len && name.len > unit.len &&
        slice_ends(name, unit) && name.p[name.len - unit.len - 1] == '_')
        buf_addf(w->out, "# UNIT %.*s %s\n", SL_FMT(name), d->unit);
}

/* `name<suffix>{labels,le="..."} `; the value follows. */
static void sample_head(struct metrics_writer *w, const struct metric_def *d, const char *suffix,
                        const char *const *labels, const struct slice *values, unsigned n,
                        const char *le)
{
    buf_add_slice(w->out, family_name(w->form, d));
    if (w->form == METRICS_OPENMETRICS && d->type == METRIC_COUNTER)
        suffix = "_total";
    buf_add_str(w->out, suffix);
    for (unsigned i = 0; i < n; i++) {
        buf_add_char(w->out, i ? ',' : '{');
        buf_add_str(w->out, labels[i]);
        buf_add_str(w->out, "=\"");
        add_value(w->out, values[i]);
        buf_add_char(w->out, '"');
    }
    if (le)
        buf_addf(w->out, "%sle=\"%s\"", n ? "," : "{", le);
    if (n || le)
        buf_add_char(w->out, '}');
    buf_add_char(w->out, ' ');
}

void metrics_sample(struct metrics_writer *w, const struct metric_def *def,
                    const char *const *labels, const struct slice *values, unsigned n_labels,
                    double v)
{
    sample_head(w, def, "", labels, values, n_labels, NULL);
    add_number(w->out, v);
    buf_add_char(w->out, '\n');
}

/* --- rows of several shards
 * ------------------------------------------------------------------------ */

struct run { /* rows with one key, one of each shard that has it */
    struct metrics_row *const *rows;
    size_t n;
};

static uint64_t sum_cells(const struct run *run, unsigned at)
{
    uint64_t n = 0;

    for (size_t i = 0; i < run->n; i++) {
        const metric_cell *c = metric_cell_find(run->rows[i], at);

        n += c ? cell_get(c) : 0;
    }
    return n;
}

static double sum_doubles(const struct run *run, unsigned at)
{
    double v = 0;

    for (size_t i = 0; i < run->n; i++) {
        const metric_cell *c = metric_cell_find(run->rows[i], at);

        v += c ? cell_double(c) : 0;
    }
    return v;
}

static void bound_text(enum metrics_form form, double bound, char ret[40])
{
    snprintf(ret, 40, "%.15g", bound);
    if (form == METRICS_OPENMETRICS && !strpbrk(ret, ".e")) /* canonical form of a float */
        strcat(ret, ".0");
}

static void histogram(struct metrics_writer *w, const struct metric_def *d,
                      const struct metric_group *g, const struct slice *values,
                      const struct run *run, unsigned at)
{
    uint64_t total = 0;
    char le[40];

    for (unsigned i = 0; i <= d->n_bounds; i++) {
        total += sum_cells(run, at + i);
        if (i < d->n_bounds)
            bound_text(w->form, d->bounds[i], le);
        sample_head(w, d, "_bucket", g->labels, values, g->n_labels, i < d->n_bounds ? le : "+Inf");
        buf_add_u64(w->out, total);
        buf_add_char(w->out, '\n');
    }
    sample_head(w, d, "_sum", g->labels, values, g->n_labels, NULL);
    add_number(w->out, sum_doubles(run, at + d->n_bounds + 1));
    buf_add_char(w->out, '\n');
    sample_head(w, d, "_count", g->labels, values, g->n_labels, NULL);
    buf_add_u64(w->out, total);
    buf_add_char(w->out, '\n');
}

static void values_of(const struct metrics_row *row, struct slice *values)
{
    struct slice rest = slice_skip(row->key, 1);

    for (unsigned i = 0; i < row->group->n_labels; i++)
        slice_next(&rest, '\0', &values[i]);
}

static void metric(struct metrics_writer *w, const struct metric_def *d, const struct run *run,
                   unsigned at)
{
    const struct metric_group *g = run->rows[0]->group;
    struct slice values[METRIC_LABELS_MAX];

    values_of(run->rows[0], values);
    if (d->type == METRIC_HISTOGRAM) {
        histogram(w, d, g, values, run, at);
    } else if (d->type == METRIC_GAUGE) {
        metrics_sample(w, d, g->labels, values, g->n_labels, sum_doubles(run, at));
    } else {
        sample_head(w, d, "", g->labels, values, g->n_labels, NULL);
        buf_add_u64(w->out, sum_cells(run, at));
        buf_add_char(w->out, '\n');
    }
}

static int by_key(const void *a, const void *b)
{
    return slice_cmp((*(struct metrics_row *const *)a)->key,
                     (*(struct metrics_row *const *)b)->key);
}

typedef VEC(struct metrics_row *) row_list;

static int collect(const struct metrics *m, row_list *list)
{
    for (unsigned i = 0; i < m->n_shards; i++) {
        struct metrics_row *row = atomic_load_explicit(&m->shards[i].rows, memory_order_acquire);

        for (; row; row = atomic_load_explicit(&row->next, memory_order_acquire)) {
            if (atomic_load_explicit(&row->retired, memory_order_relaxed))
                continue;
            struct metrics_row **slot = VEC_PUSH(list);

            if (!slot)
                return -1;
            *slot = row;
        }
    }
    if (list->len)
        qsort(list->p, list->len, sizeof *list->p, by_key);
    return 0;
}

/* The rows [from, to) are one group's. */
static void group(struct metrics_writer *w, struct metrics_row *const *rows, size_t n)
{
    const struct metric_group *g = rows[0]->group;
    unsigned at = 0;

    for (unsigned k = 0; k < g->n_metrics; at += metric_cells(&g->metrics[k]), k++) {
        metrics_family(w, &g->metrics[k]);
        for (size_t i = 0, j; i < n; i = j) {
            for (j = i + 1; j < n && slice_eq(rows[i]->key, rows[j]->key);)
                j++;
            metric(w, &g->metrics[k], &(struct run){rows + i, j - i}, at);
        }
    }
}

/* One set of labels, in all shards. */
static bool series_idle(struct metrics_row *const *rows, size_t n, uint32_t age, unsigned ages)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t used = atomic_load_explicit(&rows[i]->used, memory_order_relaxed);
        if (!rows[i]->ages || age - used <= ages ||
            atomic_load_explicit(&rows[i]->exposed, memory_order_relaxed) <= used)
            return false;
    }
    return true;
}

/* A series goes in all shards or in none: the sum of the rest would be a counter that goes
 * backwards. */
size_t metrics_age(struct metrics *m, unsigned ages)
{
    row_list list = {0};
    uint32_t age = atomic_fetch_add_explicit(&m->age, 1, memory_order_relaxed) + 1;
    size_t retired = 0;

    pthread_mutex_lock(&m->lock);
    if (collect(m, &list) < 0)
        list.len = 0; /* without memory: another time */
    for (size_t i = 0, j; i < list.len; i = j) {
        for (j = i + 1; j < list.len && slice_eq(list.p[i]->key, list.p[j]->key);)
            j++;
        if (!series_idle(list.p + i, j - i, age, ages))
            continue;
        for (size_t k = i; k < j; k++) {
            atomic_fetch_add_explicit(&list.p[k]->shard->n_retired, 1, memory_order_relaxed);
            /* The owner may take its key from now on: this thread has read it for the last time. */
            atomic_store_explicit(&list.p[k]->retired, true, memory_order_release);
        }
    }
    for (unsigned i = 0; i < m->n_shards; i++)
        retired += atomic_load_explicit(&m->shards[i].n_retired, memory_order_relaxed);
    pthread_mutex_unlock(&m->lock);
    VEC_FREE(&list);
    return retired;
}

enum err_code metrics_expose(struct metrics *m, enum metrics_form form, metrics_extra_fn *extra,
                             void *user, struct buf *out)
{
    static const struct metric_def overflow = {
        .name = "tulle_metrics_overflow_total",
        .help = "Lookups of label sets that the cap on series turned into \"overflow\".",
        .type = METRIC_COUNTER,
    };
    struct metrics_writer w = {form, out};
    row_list list = {0};

    uint32_t age = atomic_load_explicit(&m->age, memory_order_relaxed);

    pthread_mutex_lock(&m->lock);
    if (collect(m, &list) < 0) {
        pthread_mutex_unlock(&m->lock);
        VEC_FREE(&list);
        return ERR_NOMEM;
    }
    for (size_t i = 0, j; i < list.len; i = j) {
        for (j = i + 1; j < list.len && list.p[j]->group == list.p[i]->group;)
            j++;
        group(&w, list.p + i, j - i);
    }
    for (size_t i = 0; i < list.len && buf_err(out) == ERR_OK; i++)
        atomic_store_explicit(&list.p[i]->exposed, age, memory_order_relaxed);
    pthread_mutex_unlock(&m->lock);
    VEC_FREE(&list);
    metrics_family(&w, &overflow);
    metrics_sample(&w, &overflow, NULL, NULL, 0, (double)metrics_overflowed(m));
    if (extra)
        extra(user, &w);
    if (form == METRICS_OPENMETRICS)
        buf_add_str(out, "# EOF\n");
    return buf_err(out);
}
