/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS capture: hosts that exist in the mesh alone are answered at once (the exact name only),
 * everything else goes to the pod's resolvers unchanged, UDP and TCP. */
#pragma once

#include "proxy/control.h"

struct dns;
/* `udp_fd`, `tcp_fd`: bound sockets, taken; resolvers come from `resolv_conf` (a path). */
int dns_new(struct control *control, int udp_fd, int tcp_fd, const char *resolv_conf,
            struct dns **ret, struct err *err);
void dns_free(struct dns *d);
