/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics declared in tables. A group is a list of metrics that carry the same labels; a row is one
 * set of label values with one cell for each metric of its group, so that a request looks up one
 * row and adds to several metrics, and its labels are kept once.
 *
 * Each worker owns a shard: only it makes rows there and writes their cells, without locks. Another
 * thread may expose the registry at any time (cells are relaxed atomics, rows are published once
 * and never move). Shards are summed when exposed, gauges too. The number of rows is capped: what
 * comes later is counted in its group's overflow row (each label "overflow"), and in
 * tulle_metrics_overflow_total.
 *
 * Rows may age, if somebody calls metrics_age: what nobody used for some ages, and was exposed since, is
 * retired in all shards at once. Its series ends, as if its process had; the same labels later begin a
 * new series at zero. A series never goes backwards while it is exposed. Rows without labels, overflow
 * rows and groups with gauges do not age. */
#pragma once

#include <stdatomic.h>

#include "lib/base/buf.h"
#include "lib/base/err.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_def {
    const char *name; /* as in the text format 0.0.4: counters usually with _total */
    const char *help;
    const char *unit; /* "bytes", "milliseconds" ...; NULL for none */
    enum metric_type type;
    const double *bounds; /* histogram: upper bounds in ascending order, +Inf is implied */
    unsigned n_bounds;    /* at most METRIC_BOUNDS_MAX */
};
struct metric_group {
    const char *const *labels; /* n_labels names */
    const struct metric_def *metrics;
    unsigned n_labels, n_metrics;
};
#define METRIC_BOUNDS_MAX 64u
#define METRIC_LABELS_MAX 40u
#define METRIC_VALUE_MAX 200u /* a longer label value is cut */

/* 0.5 1 5 10 25 50 100 250 500 1000 2500 5000 10000 30000 60000 300000 600000 1800000 3600000: the
 * buckets that Istio's proxies use for milliseconds and for bytes. */
#define METRIC_ISTIO_BOUNDS 19u
extern const double metric_istio_bounds[METRIC_ISTIO_BOUNDS];

struct metrics;
struct metrics_shard;
struct metrics_row;

/* `groups` is borrowed for the registry's life. `max_rows` counts each shard by itself. */
int metrics_new(const struct metric_group *groups, unsigned n_groups, unsigned n_shards,
                size_t max_rows, struct metrics **ret, struct err *err);
void metrics_free(struct metrics *m);
struct metrics_shard *metrics_shard(struct metrics *m, unsigned i);

/* The row of `values` (n_labels of them; null or empty stays empty) in group `group`; made at first
 * use, then for the registry's life, so that callers may keep the pointer (where metrics_age is called:
 * only for what does not age, else until the owner does something else). NULL only when out of memory;
 * all functions below take NULL and do nothing. Owner of the shard only. */
struct metrics_row *metrics_row(struct metrics_shard *s, unsigned group,
                                const struct slice *values);
/* `metric` is the index in the group's table. Owner of the shard only. */
void metrics_add(struct metrics_row *row, unsigned metric, uint64_t n);     /* counter */
void metrics_set(struct metrics_row *row, unsigned metric, double v);       /* gauge */
void metrics_gauge_add(struct metrics_row *row, unsigned metric, double d); /* gauge */
void metrics_observe(struct metrics_row *row, unsigned metric, double v);   /* histogram */
/* The cell of a counter or gauge in this row, for tests and for admin pages; any thread. */
double metrics_value(const struct metrics_row *row, unsigned metric);
/* An age has passed: retire what was not used in the last `ages` ones and stood in an exposition since it
 * was used. The thread that exposes. Returns how many retired rows wait to be reaped. */
size_t metrics_age(struct metrics *m, unsigned ages);
/* Free this shard's retired rows, unless an exposition is under way. Owner of the shard only. */
void metrics_reap(struct metrics_shard *s);
/* Rows in this shard, for tests and gates. Owner only. */
size_t metrics_rows(const struct metrics_shard *s);
/* Requests for rows that the cap turned away, all shards. */
uint64_t metrics_overflowed(const struct metrics *m);

/* --- exposition ---------------------------------------------------------------------------------
 */

enum metrics_form { METRICS_TEXT, METRICS_OPENMETRICS }; /* text format 0.0.4; OpenMetrics 1.0 */
/* The Content-Type of a form. */
const char *metrics_content_type(enum metrics_form form);
/* What an Accept field asks for: OpenMetrics when it names it, else text. */
enum metrics_form metrics_negotiate(struct slice accept);

/* Writes families that are made up when asked (process figures, caches). */
struct metrics_writer {
    enum metrics_form form;
    struct buf *out;
};
/* TYPE, HELP and UNIT of a family; its samples follow. */
void metrics_family(struct metrics_writer *w, const struct metric_def *def);
/* One sample of a counter or gauge. */
void metrics_sample(struct metrics_writer *w, const struct metric_def *def,
                    const char *const *labels, const struct slice *values, unsigned n_labels,
                    double v);
typedef void metrics_extra_fn(void *user, struct metrics_writer *w);
/* All rows of all shards, ordered by label values; then `extra` (may be NULL); then, in
 * OpenMetrics,
 * "# EOF". Metrics that no row uses are left out. ERR_NOMEM, or ERR_LIMIT by the buffer's maximum.
 */
enum err_code metrics_expose(struct metrics *m, enum metrics_form form,
                             metrics_extra_fn *extra, void *user, struct buf *out);
/* process_resident_memory_bytes, process_cpu_seconds_total, process_open_fds,
 * process_start_time_seconds, of this process; an extra function (user is not used). */
void metrics_process(void *user, struct metrics_writer *w);
