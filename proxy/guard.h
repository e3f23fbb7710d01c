/* SPDX-License-Identifier: Apache-2.0 */
/* Who may enter: authorization of inbound requests and connections. Outbound ones pass. */
#pragma once

#include "mesh/match/authz.h"
#include "proxy/down.h"

enum { GUARD_DETAIL_MAX = 256 };

/* The address without its port. */
struct ipaddr address_of(const struct sock_addr *a);
/* A connection that carries opaque bytes. False: refuse; *ret_why is a static or connection-owned
 * text for the log. */
bool guard_tcp(struct down *d, const char **ret_why);
/* A request, its path in normal form. False: answer 403; `detail` says which policy. */
bool guard_http(struct down *d, const struct match_request *req, char detail[GUARD_DETAIL_MAX]);

/* Take what is configured for the dialled port from `prog` (counted by `info` from here on). */
void guard_bind(struct down_info *info, struct prog_inbound *prog);
/* A connection outlives policies: bind it to the inbound program in force now, before each request.
 * False: its port takes no plaintext any more, and this is plaintext. */
bool guard_refresh(struct down *d);
