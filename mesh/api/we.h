/* SPDX-License-Identifier: Apache-2.0 */
/* WorkloadEntry and WorkloadGroup (networking.istio.io v1, v1beta1, v1alpha3): workloads outside
 * Kubernetes, and the template that they register by. */
#pragma once

#include "mesh/api/se.h"

struct we {
    struct obj_meta meta;
    struct se_endpoint endpoint; /* its labels: the object's own and spec.labels, the former first */
};

struct wg_probe_header {
    struct slice name, value;
};
struct wg_probe {
    uint32_t initial_delay_s, timeout_s, period_s, success_threshold, failure_threshold;
    bool http, tcp, exec, grpc; /* which of them is written */
    struct slice path, host, scheme, service;
    uint32_t port;
    struct wg_probe_header *headers;
    uint32_t n_headers;
    struct api_strings command;
};
struct wg {
    struct obj_meta meta;
    struct api_map labels, annotations; /* of the entries */
    bool has_template;
    struct se_endpoint entry; /* the template */
    struct wg_probe *probe;   /* NULL: none */
};

int we_decode(const json_t *obj, struct arena *a, struct we **ret, struct findings *f);
void we_validate(const struct we *we, struct findings *f);
int wg_decode(const json_t *obj, struct arena *a, struct wg **ret, struct findings *f);
void wg_validate(const struct wg *wg, struct findings *f);
