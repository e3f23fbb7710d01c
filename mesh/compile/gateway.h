/* SPDX-License-Identifier: Apache-2.0 */
/* The gates of a gateway proxy: the servers of all Gateways that select its pod, merged per port.
 */
#pragma once

#include "mesh/compile/compile_int.h"

struct gate_server { /* one server of one Gateway */
    const struct ix_object *o;
    uint32_t i;
};
struct gate {
    struct slice name, bind;
    uint16_t number; /* as the Gateway has it */
    enum prog_gate_tls tls;
    bool http;
    struct gate_server *servers; /* of a TLS gate just one */
    uint32_t n_servers, cap_servers;
};
struct gates { /* in order of port, then as the servers came: oldest Gateway first */
    struct gate *p;
    uint32_t n, cap;
};
/* `tell`: note what the Gateways contributed and what is wrong with them. */
struct gates gates_of(struct cc *c, bool tell);

/* Is the VirtualService bound to this server's Gateway, by its list or (a match's) `own`, if any?
 */
bool gate_binds(const struct ix_object *vs, const struct api_strings *own,
                const struct gate_server *s);
/* Does some server of the gate take in `host` for this VirtualService? */
bool gate_takes(const struct gate *g, const struct ix_object *vs, struct slice host);
/* The host part of "ns/host"; *ret_ns null when there is none. */
struct slice gate_host_part(struct slice text, struct slice *ret_ns);
/* May a VirtualService of `vs_ns` bind to a host with that namespace part of a Gateway in `gw_ns`? */
bool gate_ns_allows(struct slice ns, struct slice gw_ns, struct slice vs_ns);
/* The narrower of two host patterns that overlap; null: they do not. */
struct slice gate_narrower(struct slice a, struct slice b);
