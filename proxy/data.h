/* SPDX-License-Identifier: Apache-2.0 */
/* The data process as a whole: what its main thread owns, and what the admin pages show and do. */
#pragma once

#include <pthread.h>

#include "lib/obs/metrics.h"
#include "proxy/control.h"
#include "proxy/discovery.h"
#include "proxy/dns.h"
#include "proxy/handover.h"
#include "proxy/identity.h"
#include "proxy/leave.h"
#include "proxy/options.h"
#include "proxy/worker.h"

struct admin;

struct data_worker {
    struct worker *worker;
    pthread_t thread;
    bool running;
};

struct data {
    struct proxy_options options;
    struct clock clock;
    struct loop *loop;
    struct control control;
    struct metrics *metrics;
    struct data_worker workers[CONCURRENCY_MAX];
    unsigned n_workers;
    struct identity *identity;   /* NULL: plaintext only (standalone without PEM files) */
    struct discovery *discovery; /* NULL: standalone */
    struct gateway *gateway;     /* NULL: a sidecar */
    struct gateway *locals;      /* listeners of a sidecar's own; NULL: it has had none */
    uint32_t issuer;             /* of the certificate, when it was last looked at */
    struct dns *dns[2];          /* IPv4, IPv6; NULL: no capture */
    struct admin *admin;
    struct loop_signal signals;
    struct loop_timer timer;     /* drain, save */
    struct loop_timer settled;   /* a while after the start */
    struct loop_task save;
    int64_t started_ns, started_wall_ns;
    struct leave leave;
    int supervisor;              /* channel; -1: none */
    bool opened;                 /* workers accept */
    bool draining;               /* inbound ends */
    bool leaving;                /* and then the process, too */
    int exit_code;
    const char *pod, *pod_namespace, *pod_address, *node, *service_account, *trust_domain;
    char spiffe_id[512];
};

/* Ready to carry traffic; *ret_why (may be NULL) says what is missing. */
bool data_ready(const struct data *d, const char **ret_why);
/* Begin to drain: not ready any more, inbound answers carry Connection: close. Idempotent. */
void data_drain(struct data *d);
/* No inbound connection is left (as far as the workers have told). */
bool data_drained(const struct data *d);
/* Drain, then end the process with EXIT_DRAINED. */
void data_leave(struct data *d);
/* Tests: move a virtual clock, on every thread, and wait until all of them have seen it. */
void data_advance(struct data *d, int64_t ns);

/* The pages: 15000 admin, 15020 status, 15021 health, 15090 metrics. Takes the descriptors (-1: not
 * served). `probers` is the JSON of ISTIO_KUBE_APP_PROBERS, `prometheus` that of
 * ISTIO_PROMETHEUS_ANNOTATIONS; both may be NULL. */
struct admin_fds {
    int admin, status, health, metrics;
};
int admin_new(struct data *d, const struct admin_fds *fds, const char *probers,
              const char *prometheus, struct admin **ret, struct err *err);
void admin_free(struct admin *a);
/* The answer to a page that the operator asks for through the stream. */
int admin_answer(void *data, struct slice what, struct buf *ret, struct err *err);
