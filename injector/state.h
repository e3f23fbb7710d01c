/* SPDX-License-Identifier: Apache-2.0 */
/* What the serving threads share with the main thread: the settings in force, the certificate,
 * counters. Thread-safe. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "injector/cert.h"
#include "lib/base/buf.h"
#include "mesh/inject/settings.h"

/* --- counters: one table gives name, help and the struct -----------------------------------------
 */
/* clang-format off */
#define STATE_COUNTERS(X)                                                                              \
    X(inject_requests,  "sidecar_injection_requests_total",  "Reviews of pods that came in.")          \
    X(inject_success,   "sidecar_injection_success_total",   "Reviews of pods that were allowed.")     \
    X(inject_failure,   "sidecar_injection_failure_total",   "Reviews of pods that were refused or could not be answered.") \
    X(inject_skip,      "sidecar_injection_skip_total",      "Pods that got no sidecar.")              \
    X(validate_passed,  "galley_validation_passed",          "Mesh resources that were allowed.")      \
    X(validate_failed,  "galley_validation_failed",          "Mesh resources that were refused.")      \
    X(cert_read,        "certwatcher_read_certificate_total", "Certificates that were read.")          \
    X(cert_errors,      "certwatcher_read_certificate_errors_total", "Certificates that could not be used; the last good one stays.") \
    X(settings_read,    "tulle_injector_settings_read_total", "Settings that were read.")              \
    X(settings_errors,  "tulle_injector_settings_errors_total", "Settings that could not be used; the last good ones stay.") \
    X(refused_busy,     "tulle_injector_busy_total",         "Requests refused because too many bytes were in flight.")
/* clang-format on */

enum state_hook { HOOK_INJECT, HOOK_VALIDATE, HOOK_N };
enum { LATENCY_BUCKETS = 12 };
struct state_latency {
    atomic_ullong bucket[LATENCY_BUCKETS + 1], count, sum_ns;
    atomic_ullong code_200, code_400, code_500;
    atomic_int in_flight;
};

struct state_settings; /* settings with a reference count */
struct state {
    pthread_mutex_t lock;
    struct state_settings *settings; /* under lock */
    struct cert *cert;
    atomic_bool leaving; /* asked to stop: not ready any more */
    int64_t start_s;
#define X(member, name, help) atomic_ullong member;
    STATE_COUNTERS(X)
#undef X
    struct state_latency hook[HOOK_N];
};

int state_init(struct state *st, int64_t now_wall_s, struct err *err);
void state_fini(struct state *st);
/* Replace the settings; `s` is taken. -1 when out of memory (`s` is freed). */
int state_set_settings(struct state *st, struct inject_settings *s);
/* A reference to the settings in force (NULL: none yet); give back with state_put_settings. */
struct state_settings *state_get_settings(struct state *st);
void state_put_settings(struct state_settings *s);
const struct inject_settings *state_settings_of(const struct state_settings *s); /* s may be NULL */
/* Why /readyz is not 200, or NULL when it is. */
const char *state_not_ready(struct state *st);
/* One finished review. */
void state_count_review(struct state *st, enum state_hook hook, int status, int64_t took_ns);
/* The Prometheus text format. */
void state_metrics(struct state *st, struct buf *out);
