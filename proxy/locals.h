/* SPDX-License-Identifier: Apache-2.0 */
/* Ports and unix sockets on which a sidecar takes its application's calls itself, as its Sidecar's egress entries
 * say (control thread). They are opened and handed over as a gateway's are; calls go on as if redirected. */
#pragma once

#include "proxy/handover.h"

struct data;
/* Take up at once the sockets that outlived the process before this one. */
int locals_kept(struct data *d, const struct handover_fd *fds, int n, struct err *err);
/* After each thing learned. Nothing is asked for and kept before there is a first one. */
void locals_follow(struct data *d);
