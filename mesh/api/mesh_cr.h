/* SPDX-License-Identifier: Apache-2.0 */
/* Mesh (tulle.dev/v1alpha1, cluster-scoped, named `default`): settings of the mesh. Every field has a
 * default, so that `mesh_cr_defaults` is a whole mesh. */
#pragma once

#include "mesh/api/common.h"
#include "mesh/api/pa.h"

#define MESH_CR_NAME "default"

enum mesh_outbound { MESH_ALLOW_ANY, MESH_REGISTRY_ONLY };
enum mesh_discovery { MESH_ON_DEMAND, MESH_EAGER };
enum mesh_host_ownership { MESH_HOSTS_ISTIO, MESH_HOSTS_NAMESPACE };
enum mesh_native { MESH_NATIVE_AUTO, MESH_NATIVE_ALWAYS, MESH_NATIVE_NEVER };
enum mesh_log_encoding { MESH_LOG_TEXT, MESH_LOG_JSON };
enum mesh_path_norm { MESH_PATH_BASE, MESH_PATH_MERGE_SLASHES };

struct dr_locality;
struct mesh_cr {
    struct obj_meta meta;          /* empty for the defaults */
    struct slice root_namespace;   /* istio-system */
    struct slice trust_domain;     /* cluster.local */
    struct slice cluster_domain;   /* cluster.local */
    struct slice mesh_id;          /* the trust domain when not given */
    struct api_strings trust_domain_aliases;
    enum pa_mode mtls_floor;       /* the least that a PeerAuthentication may ask for: DISABLE,
                                    * PERMISSIVE or STRICT; DISABLE when not given */
    int64_t cert_ttl_ns;           /* mtls.workloadCertTTL, 24 h */
    int64_t rotation_step_ns;      /* mtls.rootRotation.minStep, 2 min */
    struct opt_u32 rotate_percent; /* mtls.rootRotation.atPercent, 80; 0: never */
    enum mesh_outbound outbound;   /* ALLOW_ANY */
    enum mesh_discovery discovery; /* onDemand */
    int64_t discovery_wait_ns;     /* 1 s */
    enum mesh_host_ownership host_ownership; /* Istio */
    enum mesh_path_norm path_normalization;  /* BASE */
    struct dr_locality *locality;  /* localityLbSetting, NULL: on, without more; mesh/api/dr.h */
    enum mesh_h2 { MESH_H2_DEFAULT, MESH_H2_DO_NOT_UPGRADE, MESH_H2_UPGRADE } h2_upgrade;
    struct api_strings pod_cidrs;  /* empty: taken from the nodes */
    struct {
        bool disabled;
        enum mesh_log_encoding encoding; /* TEXT */
        struct slice format;             /* empty: Istio's default */
    } access_log;
    double trace_sampling;         /* percent, 1 */
    struct {
        struct slice image;              /* empty: the operator's own release */
        struct slice image_pull_policy;  /* empty: IfNotPresent */
        struct api_strings image_pull_secrets;
        struct slice cpu_request, memory_request, cpu_limit, memory_limit; /* 10m 16Mi none 64Mi */
        struct slice log_level;          /* info */
        struct opt_u32 concurrency;      /* 0: one worker a core of the limit; unset: 1 */
        int64_t drain_ns;                /* 45 s */
        int64_t termination_drain_ns;    /* 5 s */
        bool hold_application;           /* holdApplicationUntilProxyStarts */
        enum mesh_native native_sidecar; /* Auto */
        bool dns_capture;                /* true */
        bool rewrite_app_probes;         /* true */
        bool merge_metrics;              /* true */
        struct slice include_outbound_ip_ranges, exclude_outbound_ip_ranges; /* "*", "" */
        struct slice exclude_outbound_ports, exclude_inbound_ports;          /* "" both */
    } proxy;
};

int mesh_cr_decode(const json_t *obj, struct arena *a, struct mesh_cr **ret, struct findings *f);
void mesh_cr_validate(const struct mesh_cr *m, struct findings *f);
/* What holds while no Mesh exists; static, never freed. */
const struct mesh_cr *mesh_cr_defaults(void);
