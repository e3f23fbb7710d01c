/* SPDX-License-Identifier: Apache-2.0 */
/* The part of Kubernetes' own kinds that the mesh looks at, in small typed form. Functions as in
 * mesh/api/common.h (decode only). */
#pragma once

#include "mesh/api/common.h"

struct k8s_namespace {
    struct obj_meta meta;
    bool terminating;
};

struct k8s_node {
    struct obj_meta meta;
    struct slice kubelet_version; /* "v1.34.4" */
    struct slice region, zone, subzone; /* topology.kubernetes.io labels, topology.istio.io/subzone */
    struct api_strings pod_cidrs;
    bool ready;
};

struct k8s_container_port {
    struct slice name, protocol; /* protocol "TCP" when not given */
    uint16_t port;
};
struct k8s_pod {
    struct obj_meta meta;
    struct api_strings ips; /* status.podIPs, or podIP alone */
    struct slice node, service_account, host_ip;
    enum { POD_PENDING, POD_RUNNING, POD_SUCCEEDED, POD_FAILED, POD_UNKNOWN } phase;
    bool ready;        /* condition Ready */
    bool host_network;
    /* The owner: Pod for a bare one; a ReplicaSet "web-5d4f" with the pod's pod-template-hash label
     * "5d4f" is given as Deployment "web", a Job of a CronJob as CronJob. */
    struct slice owner_kind, workload;
    /* The sidecar, judged by what runs, not by labels. */
    bool injected;          /* annotation sidecar.istio.io/status is there */
    bool has_proxy;         /* a container or native sidecar `istio-proxy` */
    bool proxy_native, proxy_ready;
    struct slice proxy_image;
    struct slice revision;  /* annotation istio.io/rev */
    bool tls_mode_istio;    /* label security.istio.io/tlsMode=istio */
    struct k8s_container_port *ports; /* of all application containers */
    uint32_t n_ports;
};

struct k8s_service_port {
    struct slice name, protocol, app_protocol, target_name; /* target_name: a named targetPort */
    uint16_t port, target_port; /* target_port 0 when named */
};
struct k8s_service {
    struct obj_meta meta;
    enum { SVC_CLUSTER_IP, SVC_NODE_PORT, SVC_LOAD_BALANCER, SVC_EXTERNAL_NAME } type;
    struct api_strings cluster_ips; /* without "None" */
    bool headless;
    struct slice external_name; /* lower case */
    struct api_map selector;
    struct k8s_service_port *ports;
    uint32_t n_ports;
    bool publish_not_ready;
    bool session_affinity; /* ClientIP */
    struct slice traffic_distribution;
};

struct k8s_slice_port {
    struct slice name, protocol, app_protocol;
    uint16_t port; /* 0: all ports */
};
struct k8s_endpoint {
    struct api_strings addresses;
    bool ready, serving, terminating; /* unset: true, as `ready`, false */
    struct slice node, zone, hostname;
    struct slice pod; /* targetRef of kind Pod, in the slice's namespace; null else */
};
struct k8s_endpoint_slice {
    struct obj_meta meta;
    struct slice service; /* label kubernetes.io/service-name; null when absent */
    enum { SLICE_IPV4, SLICE_IPV6, SLICE_FQDN } address_type;
    struct k8s_slice_port *ports;
    struct k8s_endpoint *endpoints;
    uint32_t n_ports, n_endpoints;
};

int k8s_namespace_decode(const json_t *obj, struct arena *a, struct k8s_namespace **ret,
                         struct findings *f);
int k8s_node_decode(const json_t *obj, struct arena *a, struct k8s_node **ret, struct findings *f);
int k8s_pod_decode(const json_t *obj, struct arena *a, struct k8s_pod **ret, struct findings *f);
int k8s_service_decode(const json_t *obj, struct arena *a, struct k8s_service **ret,
                       struct findings *f);
int k8s_endpoint_slice_decode(const json_t *obj, struct arena *a, struct k8s_endpoint_slice **ret,
                              struct findings *f);
