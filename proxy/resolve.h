/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the control plane to addresses, through the pod's own resolver. getaddrinfo blocks, so each
 * look-up has a short-lived thread of its own; they are rare (once per dial of the operator). */
#pragma once

#include "lib/io/sock.h"
#include "proxy/mailbox.h"

/* Resolve "name:port" (an address needs no look-up). `done` runs on the loop of `mailbox` with up to 8
 * addresses, or 0 and the reason. */
void resolve_start(struct mailbox *mailbox, const char *hostport,
                   void (*done)(void *user, const struct sock_addr *addrs, int n,
                                const struct err *err),
                   void *user);
