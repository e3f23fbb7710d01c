/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceEntry (networking.istio.io v1, v1beta1, v1alpha3): every field of the public schema. */
#pragma once

#include "mesh/api/common.h"

enum se_location { SE_MESH_EXTERNAL, SE_MESH_INTERNAL };
enum se_resolution { SE_NONE, SE_STATIC, SE_DNS, SE_DNS_ROUND_ROBIN, SE_DYNAMIC_DNS };

struct se_endpoint_port {
    struct slice name;
    uint32_t number;
};
struct se_endpoint {      /* a WorkloadEntry, inline */
    struct slice address; /* IP, host name, or unix:// path */
    struct se_endpoint_port *ports;
    uint32_t n_ports;
    struct api_map labels;
    struct slice network, locality, service_account;
    struct opt_u32 weight; /* unset: 1 */
};

struct se {
    struct obj_meta meta;
    struct api_strings hosts;     /* lower case */
    struct api_strings addresses; /* IPs or ranges */
    struct api_ports ports;
    enum se_location location;
    enum se_resolution resolution;
    struct se_endpoint *endpoints;
    uint32_t n_endpoints;
    struct api_selector workload_selector;
    struct api_strings export_to, subject_alt_names;
};

int se_decode(const json_t *obj, struct arena *a, struct se **ret, struct findings *f);
void se_validate(const struct se *se, struct findings *f);
/* Wants an address of Tulle's own range: not opted out by label, no addresses, no wildcard host,
 * resolution other than NONE and DYNAMIC_DNS (Istio's rule for automatic allocation). */
bool se_wants_address(const struct se *se);
/* The port number at which an endpoint serves `port`: the endpoint's map by name, then targetPort,
 * then number. */
uint32_t se_endpoint_port(const struct se_endpoint *e, const struct api_port *port);
/* The number that the endpoint's map gives a port's name; 0: none. */
uint32_t se_endpoint_named_port(const struct se_endpoint *e, struct slice name);
/* Does it speak mTLS? By its label security.istio.io/tlsMode, else when it has a service account. */
bool se_endpoint_mtls(const struct se_endpoint *e);
/* The label's value, "a.b.c" for "a/b/c", where it has no locality of its own. */
struct slice se_endpoint_locality(const struct se_endpoint *e, struct arena *a);
