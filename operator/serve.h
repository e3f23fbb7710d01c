/* SPDX-License-Identifier: Apache-2.0 */
/* The TLS listener of the control plane: discovery and CA. The server's certificate comes from the
 * signer and is renewed at half life; client certificates are asked for, and required for discovery
 * only, as a proxy that comes for its first certificate has none. */
#pragma once

#include "lib/io/sock.h"
#include "operator/ca.h"
#include "operator/push.h"
#include "operator/replicas.h"

struct serve;
struct serve_opts {
    struct signer *signer;
    struct ca *ca;
    struct push *push;
    struct replicas *replicas; /* NULL: there are no others */
    const char *const *names; /* NULL-terminated DNS names of the certificate; borrowed */
    struct sock_addr addr;
    unsigned max_connections; /* 0 = 20000 */
};
/* Listens at once; connections are accepted when the certificate is there. */
int serve_new(struct loop *loop, const struct serve_opts *opts, struct serve **ret, struct err *err);
/* Get a certificate again: the CA is loaded, or changed. */
void serve_renew(struct serve *s);
/* No new connections, GOAWAY to those that are. */
void serve_drain(struct serve *s);
void serve_free(struct serve *s);
struct serve_stats {
    unsigned connections;
    uint64_t accepted, failed, refused;
    int64_t not_after_ns; /* of the server's certificate; 0 = none yet */
    uint16_t port;
};
struct serve_stats serve_stats(const struct serve *s);
