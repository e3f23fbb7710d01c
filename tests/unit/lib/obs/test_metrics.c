/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/obs/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "tests/unit/tcase.h"

static const double bounds[] = {0.5, 1, 10};
static const char *const labels[] = {"reporter", "code"};
static const struct metric_def requests[] = {
    {"x_requests_total", "Requests.", NULL, METRIC_COUNTER, NULL, 0},
    {"x_duration_milliseconds", "How \"long\"\nit took.", "milliseconds", METRIC_HISTOGRAM, bounds,
     N_OF(bounds)},
};
static const struct metric_def state[] = {
    {"x_build", "Build.", "seconds", METRIC_GAUGE, NULL, 0},
    {"x_pushes", "A counter without the suffix.", NULL, METRIC_COUNTER, NULL, 0},
};
static const struct metric_group groups[] = {
    {labels, requests, N_OF(labels), N_OF(requests)},
    {NULL, state, 0, N_OF(state)},
};

static struct metrics *registry(unsigned shards, size_t max_rows)
{
    struct metrics *m = NULL;
    struct err err = {0};

    ck_assert_int_eq(metrics_new(groups, N_OF(groups), shards, max_rows, &m, &err), 0);
    return m;
}

static struct metrics_row *row(struct metrics *m, unsigned shard, const char *a, const char *b)
{
    struct slice v[] = {slice_str(a), slice_str(b)};

    return metrics_row(metrics_shard(m, shard), 0, v);
}

#define OVERFLOW_TEXT                                                                              \
    "# HELP tulle_metrics_overflow_total Lookups of label sets that the cap on series turned "     \
    "into "                                                                                        \
    "\"overflow\".\n# TYPE tulle_metrics_overflow_total counter\ntulle_metrics_overflow_total 0\n"

START_TEST(text_form)
{
    struct metrics *m = registry(2, 100);
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 100000);
    metrics_add(row(m, 0, "source", "200"), 0, 3);
    metrics_add(row(m, 1, "source", "200"), 0, 4); /* the same row in another shard */
    metrics_add(row(m, 1, "destination", "a\"b\\c\nd\x1b"), 0, UINT64_C(1) << 60);
    metrics_observe(row(m, 0, "source", "200"), 1, 0.5);
    metrics_observe(row(m, 1, "source", "200"), 1, 0.75);
    metrics_observe(row(m, 1, "source", "200"), 1, 1e9);
    metrics_set(metrics_row(metrics_shard(m, 0), 1, NULL), 0, 1.5);
    ck_assert_int_eq(metrics_expose(m, METRICS_TEXT, NULL, NULL, &b), ERR_OK);
    ck_assert_str_eq(
        buf_cstr(&b),
        "# HELP x_requests_total Requests.\n"
        "# TYPE x_requests_total counter\n"
        "x_requests_total{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\"} 1152921504606846976\n"
        "x_requests_total{reporter=\"source\",code=\"200\"} 7\n"
        "# HELP x_duration_milliseconds How \"long\"\\nit took.\n"
        "# TYPE x_duration_milliseconds histogram\n"
        "x_duration_milliseconds_bucket{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\",le=\"0."
        "5\"} "
        "0\n"
        "x_duration_milliseconds_bucket{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\",le="
        "\"1\"} 0\n"
        "x_duration_milliseconds_bucket{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\",le="
        "\"10\"} "
        "0\n"
        "x_duration_milliseconds_bucket{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\",le=\"+"
        "Inf\"} "
        "0\n"
        "x_duration_milliseconds_sum{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\"} 0\n"
        "x_duration_milliseconds_count{reporter=\"destination\",code=\"a\\\"b\\\\c\\nd?\"} 0\n"
        "x_duration_milliseconds_bucket{reporter=\"source\",code=\"200\",le=\"0.5\"} 1\n"
        "x_duration_milliseconds_bucket{reporter=\"source\",code=\"200\",le=\"1\"} 2\n"
        "x_duration_milliseconds_bucket{reporter=\"source\",code=\"200\",le=\"10\"} 2\n"
        "x_duration_milliseconds_bucket{reporter=\"source\",code=\"200\",le=\"+Inf\"} 3\n"
        "x_duration_milliseconds_sum{reporter=\"source\",code=\"200\"} 1000000001.25\n"
        "x_duration_milliseconds_count{reporter=\"source\",code=\"200\"} 3\n"
        "# HELP x_build Build.\n# TYPE x_build gauge\nx_build 1.5\n"
        "# HELP x_pushes A counter without the suffix.\n# TYPE x_pushes counter\nx_pushes "
        "0\n" OVERFLOW_TEXT);
    metrics_free(m);
}
END_TEST

START_TEST(openmetrics_form)
{
    struct metrics *m = registry(1, 100);
    CLEANUP(buf_freep) struct buf b;
    const char *s;

    buf_init(&b, 100000);
    metrics_add(row(m, 0, "s", "200"), 0, 3);
    metrics_observe(row(m, 0, "s", "200"), 1, 5);
    metrics_add(metrics_row(metrics_shard(m, 0), 1, NULL), 1, 2);
    ck_assert_int_eq(metrics_expose(m, METRICS_OPENMETRICS, NULL, NULL, &b), ERR_OK);
    s = buf_cstr(&b);
    ck_assert_ptr_nonnull(strstr(s, "# TYPE x_requests counter\n"));
    ck_assert_ptr_nonnull(strstr(s, "\nx_requests_total{reporter=\"s\",code=\"200\"} 3\n"));
    ck_assert_ptr_nonnull(
        strstr(s, "# HELP x_duration_milliseconds How \\\"long\\\"\\nit took.\n"));
    ck_assert_ptr_nonnull(strstr(s, "# UNIT x_duration_milliseconds milliseconds\n"));
    ck_assert_ptr_nonnull(strstr(s, ",le=\"1.0\"} 0\n"));
    ck_assert_ptr_nonnull(strstr(s, ",le=\"10.0\"} 1\n"));
    ck_assert_ptr_null(strstr(s, "# UNIT x_build")); /* the name does not end in it */
    ck_assert_ptr_nonnull(strstr(s, "# TYPE x_pushes counter\nx_pushes_total 2\n"));
    ck_assert_str_eq(s + strlen(s) - 6, "# EOF\n");
    metrics_free(m);
}
END_TEST

START_TEST(rows_are_kept)
{
    struct metrics *m = registry(2, 100);
    struct slice none[2] = {SLICE_NULL, SLICE_NULL};
    struct metrics_row *a = row(m, 0, "a", "1");

    ck_assert_ptr_eq(a, row(m, 0, "a", "1"));
    ck_assert_ptr_ne(a, row(m, 0, "a1", ""));
    ck_assert_ptr_ne(a, row(m, 1, "a", "1"));
    ck_assert_ptr_eq(metrics_row(metrics_shard(m, 0), 0, none), row(m, 0, "", ""));
    metrics_add(a, 0, 5);
    ck_assert(metrics_value(a, 0) == 5);
    metrics_add(NULL, 0, 1);
    metrics_set(NULL, 0, 1);
    metrics_observe(NULL, 0, 1);
    ck_assert(metrics_value(NULL, 0) == 0);
    metrics_free(m);
}
END_TEST

START_TEST(gauges)
{
    struct metrics *m = registry(2, 100);
    struct metrics_row *a = metrics_row(metrics_shard(m, 0), 1, NULL);
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 10000);
    metrics_set(a, 0, 10);
    metrics_gauge_add(a, 0, -12.5);
    metrics_set(metrics_row(metrics_shard(m, 1), 1, NULL), 0, NAN);
    ck_assert(metrics_value(a, 0) == -2.5);
    metrics_expose(m, METRICS_TEXT, NULL, NULL, &b);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "\nx_build NaN\n"));
    metrics_free(m);
}
END_TEST

START_TEST(cap_on_rows)
{
    struct metrics *m = registry(1, 10);
    CLEANUP(buf_freep) struct buf b;
    char code[16];

    buf_init(&b, 100000);
    for (int i = 0; i < 1000; i++) {
        snprintf(code, sizeof code, "%d", i);
        metrics_add(row(m, 0, "s", code), 0, 1);
    }
    metrics_add(row(m, 0, "s", "5"), 0, 1); /* an old one is found still */
    ck_assert_uint_eq(metrics_overflowed(m), 990);
    metrics_expose(m, METRICS_TEXT, NULL, NULL, &b);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "{reporter=\"overflow\",code=\"overflow\"} 990\n"));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "{reporter=\"s\",code=\"5\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "tulle_metrics_overflow_total 990\n"));
    metrics_free(m);
}
END_TEST

START_TEST(long_and_odd_values)
{
    struct metrics *m = registry(1, 10);
    CLEANUP(buf_freep) struct buf b;
    char big[500];
    struct slice v[2] = {{big, sizeof big}, {"a\0b\xff", 4}};

    buf_init(&b, 100000);
    memset(big, 'x', sizeof big);
    metrics_add(metrics_row(metrics_shard(m, 0), 0, v), 0, 1);
    metrics_expose(m, METRICS_TEXT, NULL, NULL, &b);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "x\",code=\"a?b\xef\xbf\xbd\"} 1\n"));
    ck_assert_ptr_null(memmem(buf_cstr(&b), buf_len(&b), big, METRIC_VALUE_MAX + 1));
    metrics_free(m);
}
END_TEST

static _Atomic int stop;

static void *worker(void *arg)
{
    struct metrics *m = arg;
    char code[16];

    for (unsigned i = 0; i < 200000 && !stop; i++) {
        struct metrics_row *r;

        snprintf(code, sizeof code, "%u", i % 300);
        r = row(m, 0, "s", code);
        metrics_add(r, 0, 1);
        metrics_observe(r, 1, i % 20);
    }
    stop = 1;
    return NULL;
}

/* A scrape beside a worker that makes rows and counts (the sanitizers watch). */
START_TEST(scrape_while_counting)
{
    struct metrics *m = registry(2, 1000);
    CLEANUP(buf_freep) struct buf b;
    pthread_t t;
    int scrapes = 0;

    buf_init(&b, 10000000);
    ck_assert_int_eq(pthread_create(&t, NULL, worker, m), 0);
    do {
        buf_reset(&b);
        ck_assert_int_eq(metrics_expose(m, METRICS_TEXT, NULL, NULL, &b), ERR_OK);
    } while (!stop && ++scrapes < 100);
    stop = 1;
    pthread_join(t, NULL);
    ck_assert_uint_gt(buf_len(&b), 100);
    metrics_free(m);
}
END_TEST

START_TEST(process_figures)
{
    struct metrics *m = registry(1, 10);
    CLEANUP(buf_freep) struct buf b;
    const char *rss;

    buf_init(&b, 100000);
    ck_assert_int_eq(metrics_expose(m, METRICS_TEXT, metrics_process, NULL, &b), ERR_OK);
    rss = strstr(buf_cstr(&b), "\nprocess_resident_memory_bytes ");
    ck_assert_ptr_nonnull(rss);
    ck_assert(strtod(rss + 31, NULL) > 100000);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "\nprocess_cpu_seconds_total "));
    rss = strstr(buf_cstr(&b), "\nprocess_start_time_seconds ");
    ck_assert(rss && strtod(rss + 28, NULL) > 1.6e9);
    metrics_free(m);
}
END_TEST

START_TEST(negotiation)
{
    ck_assert_int_eq(metrics_negotiate(SL("application/openmetrics-text;version=1.0.0,*/*;q=0.1")),
                     METRICS_OPENMETRICS);
    ck_assert_int_eq(metrics_negotiate(SL("text/plain")), METRICS_TEXT);
    ck_assert_int_eq(metrics_negotiate(SLICE_NULL), METRICS_TEXT);
}
END_TEST

START_TEST(limits)
{
    static const struct metric_group wide = {labels, requests, METRIC_LABELS_MAX + 1, 1};
    struct metrics *m = NULL;
    struct err err = {0};
    CLEANUP(buf_freep) struct buf b;

    ck_assert_int_eq(metrics_new(&wide, 1, 1, 10, &m, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    m = registry(1, 10);
    metrics_add(row(m, 0, "a", "b"), 0, 1);
    buf_init(&b, 100);
    ck_assert_int_eq(metrics_expose(m, METRICS_TEXT, NULL, NULL, &b), ERR_LIMIT);
    metrics_free(m);
}
END_TEST

START_TEST(oom)
{
    OOM_SWEEP (n) {
        struct metrics *m = NULL;
        struct err err = {0};
        CLEANUP(buf_freep) struct buf b;

        buf_init(&b, 100000);
        if (metrics_new(groups, N_OF(groups), 1, 10, &m, &err) < 0) {
            ck_assert_int_eq(err.code, ERR_NOMEM);
        } else {
            metrics_add(row(m, 0, "a", "b"), 0, 1);
            metrics_add(row(m, 0, "a", "c"), 0, 1);
            metrics_observe(row(m, 0, "a", "c"), 1, 1);
            metrics_expose(m, METRICS_TEXT, NULL, NULL, &b);
        }
        metrics_free(m);
    }
}
END_TEST

/* Rows keep the cells that were used, in the order in which they were: every bucket of two
 * histograms, the last ones first, and what is told must be as if they stood in a row. */
START_TEST(every_bucket)
{
    static const struct metric_def defs[] = {
        {"a_total", "A.", NULL, METRIC_COUNTER, NULL, 0},
        {"b", "B.", NULL, METRIC_HISTOGRAM, metric_istio_bounds, METRIC_ISTIO_BOUNDS},
        {"c", "C.", NULL, METRIC_HISTOGRAM, metric_istio_bounds, METRIC_ISTIO_BOUNDS},
    };
    static const struct metric_group wide[] = {{NULL, defs, 0, N_OF(defs)}};
    struct metrics *m = NULL;
    struct err err = {0};
    CLEANUP(buf_freep) struct buf b;

    buf_init(&b, 100000);
    ck_assert_int_eq(metrics_new(wide, 1, 1, 10, &m, &err), 0);
    struct metrics_row *r = metrics_row(metrics_shard(m, 0), 0, NULL);
    for (unsigned i = METRIC_ISTIO_BOUNDS + 1; i-- > 0;)
        for (unsigned n = 0; n <= i; n++) {
            double v = i < METRIC_ISTIO_BOUNDS ? metric_istio_bounds[i] : 4e6;
            metrics_observe(r, i % 2 ? 1 : 2, v);
            metrics_add(r, 0, 1);
        }
    ck_assert_int_eq(metrics_expose(m, METRICS_TEXT, NULL, NULL, &b), ERR_OK);
    for (unsigned h = 0; h < 2; h++) {
        unsigned total = 0;
        for (unsigned i = 0; i <= METRIC_ISTIO_BOUNDS; i++) {
            char line[80], le[32] = "+Inf";
            total += i % 2 == !h ? i + 1 : 0;
            if (i < METRIC_ISTIO_BOUNDS)
                snprintf(le, sizeof le, "%.15g", metric_istio_bounds[i]);
            snprintf(line, sizeof line, "%s_bucket{le=\"%s\"} %u\n", h ? "c" : "b", le, total);
            ck_assert_msg(strstr(buf_cstr(&b), line) != NULL, "%s not in\n%s", line, buf_cstr(&b));
        }
    }
    ck_assert_ptr_nonnull(strstr(buf_cstr(&b), "\na_total 210\n"));
    metrics_free(m);
}
END_TEST

static char *page(struct metrics *m)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    ck_assert_int_eq(metrics_expose(m, METRICS_TEXT, NULL, NULL, &b), ERR_OK);
    return buf_take(&b, NULL);
}

static void reap(struct metrics *m, unsigned shards)
{
    for (unsigned i = 0; i < shards; i++)
        metrics_reap(metrics_shard(m, i));
}

/* A series of two shards ends in both at once, when it is idle in both, and not before it was
 * scraped. */
START_TEST(idle_series_end)
{
    struct metrics *m = registry(2, 100);

    metrics_add(row(m, 0, "source", "200"), 0, 3);
    metrics_add(row(m, 1, "source", "200"), 0, 4);
    metrics_add(row(m, 0, "source", "404"), 0, 1);
    metrics_set(metrics_row(metrics_shard(m, 0), 1, NULL), 0, 1); /* no labels: stays */
    for (int i = 0; i < 5; i++)
        ck_assert_uint_eq(metrics_age(m, 3), 0); /* nobody has seen them */
    for (int i = 0; i < 5; i++) {
        CLEANUP(mem_freep) char *text = page(m);
        ck_assert_ptr_nonnull(strstr(text, "code=\"200\"} 7\n"));
        metrics_add(row(m, 1, "source", "200"), 0, 0); /* one shard uses it, and that is enough */
        ck_assert_uint_eq(metrics_age(m, 3), 1);       /* 404 is idle and was seen */
    }
    reap(m, 2);
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 0)), 2);
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 1)), 1);
    for (int i = 0; i < 4; i++) {
        CLEANUP(mem_freep) char *text = page(m);
        ck_assert_ptr_nonnull(strstr(text, i < 3 ? "code=\"200\"} 7\n" : "x_build"));
        metrics_age(m, 3);
    }
    CLEANUP(mem_freep) char *gone = page(m);
    ck_assert_ptr_null(strstr(gone, "code="));
    ck_assert_ptr_nonnull(strstr(gone, "x_build 1\n"));
    /* The same labels before the memory is given back: a series that begins at zero. */
    metrics_add(row(m, 1, "source", "200"), 0, 1);
    CLEANUP(mem_freep) char *anew = page(m);
    ck_assert_ptr_nonnull(strstr(anew, "code=\"200\"} 1\n"));
    reap(m, 2);
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 0)), 1);
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 1)), 1);
    CLEANUP(mem_freep) char *still = page(m);
    ck_assert_str_eq(anew, still);
    /* Retired and made anew twice before anybody reaps. */
    for (int k = 0; k < 2; k++) {
        metrics_add(row(m, 1, "source", "200"), 0, 1);
        for (int i = 0; i < 4; i++) {
            mem_free(page(m));
            metrics_age(m, 3);
        }
    }
    reap(m, 2);
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 1)), 0);
    metrics_free(m);
}
END_TEST

START_TEST(overflow_rows_stay)
{
    struct metrics *m = registry(1, 1);

    metrics_add(row(m, 0, "a", "1"), 0, 1);
    metrics_add(row(m, 0, "b", "1"), 0, 1);
    for (int i = 0; i < 9; i++) {
        mem_free(page(m));
        metrics_age(m, 3);
        reap(m, 1);
    }
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 0)), 1);
    CLEANUP(mem_freep) char *text = page(m);
    ck_assert_ptr_nonnull(strstr(text, "reporter=\"overflow\",code=\"overflow\"} 1\n"));
    metrics_free(m);
}
END_TEST

/* One thread scrapes and ages, two use rows and free them; for the sanitizers. */
static atomic_bool ending;
static void *user_thread(void *arg)
{
    struct metrics_shard *s = arg;

    for (unsigned i = 0; i < 20000; i++) {
        char code[16];
        snprintf(code, sizeof code, "%u", i / 100 % 50);
        struct slice v[] = {SL("source"), slice_str(code)};
        metrics_add(metrics_row(s, 0, v), 0, 1);
        if (i % 64 == 0)
            metrics_reap(s);
    }
    return NULL;
}

static void *scraper_thread(void *arg)
{
    while (!atomic_load(&ending)) {
        mem_free(page(arg));
        metrics_age(arg, 2);
    }
    return NULL;
}

START_TEST(aging_beside_use)
{
    struct metrics *m = registry(2, 1000);
    pthread_t user[2], scraper;

    atomic_store(&ending, false);
    ck_assert_int_eq(pthread_create(&scraper, NULL, scraper_thread, m), 0);
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&user[i], NULL, user_thread, metrics_shard(m, i)), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(user[i], NULL);
    atomic_store(&ending, true);
    pthread_join(scraper, NULL);
    for (int i = 0; i < 4; i++) {
        mem_free(page(m));
        metrics_age(m, 2);
    }
    reap(m, 2);
    ck_assert_uint_eq(metrics_rows(metrics_shard(m, 0)) + metrics_rows(metrics_shard(m, 1)), 0);
    metrics_free(m);
}
END_TEST

TESTS(metrics)
{
    tcase_add_test(tc, idle_series_end);
    tcase_add_test(tc, overflow_rows_stay);
    tcase_add_test(tc, aging_beside_use);
    tcase_add_test(tc, text_form);
    tcase_add_test(tc, openmetrics_form);
    tcase_add_test(tc, rows_are_kept);
    tcase_add_test(tc, every_bucket);
    tcase_add_test(tc, gauges);
    tcase_add_test(tc, cap_on_rows);
    tcase_add_test(tc, long_and_odd_values);
    tcase_add_test(tc, scrape_while_counting);
    tcase_add_test(tc, process_figures);
    tcase_add_test(tc, negotiation);
    tcase_add_test(tc, limits);
    tcase_add_test(tc, oom);
}
