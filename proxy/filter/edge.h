/* SPDX-License-Identifier: Apache-2.0 */
/* What the edge of a mesh does to a request of the outside world. */
#pragma once

#include "lib/http/head.h"
#include "lib/io/sock.h"

struct edge {
    struct sock_addr peer; /* who called */
    bool tls;
    unsigned hops;            /* trusted proxies in front (numTrustedProxies) */
    struct slice client_cert; /* for x-forwarded-client-cert; empty: none */
};
/* The client as far as it can be trusted: the peer, or with trusted proxies the address that the
 * outermost of them saw (the n-th from the right of x-forwarded-for). False: what stands there is
 * no address, and the peer is given. */
bool edge_client(const struct http_head *h, const struct edge *e, struct sock_addr *ret);
/* Append the peer to x-forwarded-for, say the scheme, take away what only the mesh may say
 * (x-envoy-*, x-forwarded-client-cert in any spelling), name an outside client in
 * x-envoy-external-address. */
enum err_code edge_headers(struct http_head *h, const struct edge *e);
/* Loopback, link-local, RFC 1918, RFC 4193: as Envoy's internal addresses. */
bool edge_is_internal(const struct sock_addr *a);
/* gatewayTopology.numTrustedProxies of the pod's ProxyConfig (JSON; may be NULL); 0 where it says
 * nothing. */
unsigned edge_hops(const char *proxy_config);
