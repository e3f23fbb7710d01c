/* SPDX-License-Identifier: Apache-2.0 */
#include "injector/state.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/mem.h"

struct state_settings {
    atomic_int refs;
    struct inject_settings *s;
};

/* Bucket bounds in microseconds; the dashboards take any. */
static const unsigned bounds_us[LATENCY_BUCKETS] = {100,   250,   500,   1000,   2500,    5000,
                                                    10000, 25000, 50000, 100000, 1000000, 10000000};

int state_init(struct state *st, int64_t now_wall_s, struct err *err)
{
    memset(st, 0, sizeof *st);
    pthread_mutex_init(&st->lock, NULL);
    st->start_s = now_wall_s;
    return cert_new(now_wall_s, &st->cert, err);
}

void state_fini(struct state *st)
{
    state_put_settings(st->settings);
    cert_free(st->cert);
    pthread_mutex_destroy(&st->lock);
}

int state_set_settings(struct state *st, struct inject_settings *s)
{
    struct state_settings *next = mem_zalloc(sizeof *next), *old;
    if (!next) {
        inject_settings_free(s);
        return -1;
    }
    next->s = s;
    atomic_init(&next->refs, 1);
    pthread_mutex_lock(&st->lock);
    old = st->settings;
    st->settings = next;
    pthread_mutex_unlock(&st->lock);
    state_put_settings(old);
    return 0;
}

struct state_settings *state_get_settings(struct state *st)
{
    pthread_mutex_lock(&st->lock);
    struct state_settings *s = st->settings;
    if (s)
        atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&st->lock);
    return s;
}

void state_put_settings(struct state_settings *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    inject_settings_free(s->s);
    mem_free(s);
}

const struct inject_settings *state_settings_of(const struct state_settings *s)
{
    return s ? s->s : NULL;
}

const char *state_not_ready(struct state *st)
{
    if (atomic_load(&st->leaving))
        return "shutting down";
    if (!cert_ready(st->cert))
        return "no certificate yet: Secret tulle-injector-certs";
    pthread_mutex_lock(&st->lock);
    bool have = st->settings != NULL;
    pthread_mutex_unlock(&st->lock);
    return have ? NULL : "no settings yet: ConfigMap tulle-injector";
}

void state_count_review(struct state *st, enum state_hook hook, int status, int64_t took_ns)
{
    struct state_latency *l = &st->hook[hook];
    unsigned i = 0;
    while (i < LATENCY_BUCKETS && took_ns > (int64_t)bounds_us[i] * 1000)
        i++;
    atomic_fetch_add(&l->bucket[i], 1);
    atomic_fetch_add(&l->count, 1);
    atomic_fetch_add(&l->sum_ns, (unsigned long long)took_ns);
    atomic_fetch_add(status < 400 ? &l->code_200 : status < 500 ? &l->code_400 : &l->code_500, 1);
}

static void add_help(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static const char *const hook_names[HOOK_N] = {"/inject", "/validate"};

static void add_hooks(struct state *st, struct buf *out)
{
    static const char latency[] = "controller_runtime_webhook_latency_seconds";
    static const char requests[] = "controller_runtime_webhook_requests_total";
    static const char flight[] = "controller_runtime_webhook_requests_in_flight";

    add_help(out, latency, "histogram", "Time from the last byte of a review to its answer.");
    for (unsigned h = 0; h < HOOK_N; h++) {
        const struct state_latency *l = &st->hook[h];
        unsigned long long sum = 0;
        for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
            sum += atomic_load(&l->bucket[i]);
            buf_addf(out, "%s_bucket{webhook=\"%s\",le=\"%g\"} %llu\n", latency, hook_names[h],
                     bounds_us[i] / 1e6, sum);
        }
        buf_addf(out, "%s_bucket{webhook=\"%s\",le=\"+Inf\"} %llu\n", latency, hook_names[h],
                 sum + atomic_load(&l->bucket[LATENCY_BUCKETS]));
        buf_addf(out, "%s_sum{webhook=\"%s\"} %.9f\n", latency, hook_names[h],
                 (double)atomic_load(&l->sum_ns) / 1e9);
        buf_addf(out, "%s_count{webhook=\"%s\"} %llu\n", latency, hook_names[h],
                 sum + atomic_load(&l->bucket[LATENCY_BUCKETS]));
    }
    add_help(out, requests, "counter", "Answered reviews by HTTP status.");
    for (unsigned h = 0; h < HOOK_N; h++) {
        const struct state_latency *l = &st->hook[h];
        buf_addf(out, "%s{webhook=\"%s\",code=\"200\"} %llu\n", requests, hook_names[h],
                 atomic_load(&l->code_200));
        buf_addf(out, "%s{webhook=\"%s\",code=\"400\"} %llu\n", requests, hook_names[h],
                 atomic_load(&l->code_400));
        buf_addf(out, "%s{webhook=\"%s\",code=\"500\"} %llu\n", requests, hook_names[h],
                 atomic_load(&l->code_500));
    }
    add_help(out, flight, "gauge", "Reviews that are being received or answered.");
    for (unsigned h = 0; h < HOOK_N; h++)
        buf_addf(out, "%s{webhook=\"%s\"} %d\n", flight, hook_names[h],
                 atomic_load(&st->hook[h].in_flight));
}

/* Resident bytes; 0 when /proc does not say. */
static unsigned long long resident_bytes(void)
{
    unsigned long long size, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return pages * (unsigned long long)sysconf(_SC_PAGESIZE);
}

void state_metrics(struct state *st, struct buf *out)
{
#define X(member, name, help)                                                                      \
    add_help(out, name, "counter", help);                                                          \
    buf_addf(out, "%s %llu\n", name, atomic_load(&st->member));
    STATE_COUNTERS(X)
#undef X
    add_hooks(st, out);
    add_help(out, "tulle_injector_certificate_expiry_timestamp_seconds", "gauge",
             "notAfter of the webhook's certificate; 0 while there is none.");
    buf_addf(out, "tulle_injector_certificate_expiry_timestamp_seconds %lld\n",
             (long long)cert_expiry(st->cert));
    add_help(out, "tulle_injector_ready", "gauge", "1 with certificate and settings.");
    buf_addf(out, "tulle_injector_ready %d\n", state_not_ready(st) == NULL);
    add_help(out, "process_start_time_seconds", "gauge", "Start of the process.");
    buf_addf(out, "process_start_time_seconds %lld\n", (long long)st->start_s);
    add_help(out, "process_resident_memory_bytes", "gauge", "Resident memory.");
    buf_addf(out, "process_resident_memory_bytes %llu\n", resident_bytes());
}
