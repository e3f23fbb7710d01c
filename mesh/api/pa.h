/* SPDX-License-Identifier: Apache-2.0 */
/* PeerAuthentication (security.istio.io v1, v1beta1). */
#pragma once

#include "mesh/api/common.h"

enum pa_mode { PA_UNSET, PA_DISABLE, PA_PERMISSIVE, PA_STRICT };
struct pa_port {
    uint32_t port; /* of the workload, not of the service */
    enum pa_mode mode;
};
struct pa {
    struct obj_meta meta;
    struct api_selector selector;
    enum pa_mode mode; /* UNSET: inherits */
    struct pa_port *ports; /* portLevelMtls, by port */
    uint32_t n_ports;
};

int pa_decode(const json_t *obj, struct arena *a, struct pa **ret, struct findings *f);
void pa_validate(const struct pa *pa, struct findings *f);
const char *pa_mode_name(enum pa_mode mode); /* "STRICT" */
