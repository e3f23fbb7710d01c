/* SPDX-License-Identifier: Apache-2.0 */
/* Sidecar (networking.istio.io v1, v1beta1, v1alpha3): every field of the public schema. */
#pragma once

#include "lib/data/ipaddr.h"
#include "mesh/api/dr.h"
#include "mesh/api/gw.h"
#include "mesh/api/vs.h"

enum sc_capture { SC_CAPTURE_DEFAULT, SC_CAPTURE_IPTABLES, SC_CAPTURE_NONE };
struct sc_ingress {
    struct api_port port;
    struct slice bind, default_endpoint;
    enum sc_capture capture;
    struct gw_tls *tls;              /* NULL: the workload's mTLS mode */
    struct dr_connection_pool *pool; /* NULL: inbound_pool of the object */
};
struct sc_egress {
    struct api_port *port; /* NULL: all ports; stands last */
    struct slice bind;
    enum sc_capture capture;
    struct api_strings hosts; /* lower case, "namespace/host" */
};
struct sc {
    struct obj_meta meta;
    struct api_selector selector;
    struct sc_ingress *ingress;
    struct sc_egress *egress;
    uint32_t n_ingress, n_egress;
    struct dr_connection_pool *inbound_pool;
    enum { SC_OUTBOUND_UNSET, SC_REGISTRY_ONLY, SC_ALLOW_ANY } outbound;
    struct vs_destination *egress_proxy; /* NULL: none */
};

/* Does an entry with redirection hold for the calls of one address, *ret, alone? */
bool sc_bound(const struct sc_egress *e, struct ipaddr *ret);

int sc_decode(const json_t *obj, struct arena *a, struct sc **ret, struct findings *f);
void sc_validate(const struct sc *sc, struct findings *f);
