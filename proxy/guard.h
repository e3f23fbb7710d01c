/* SPDX-License-Identifier: Apache-2.0 */
/* Who may enter: authorization of inbound requests and connections. Outbound ones pass. */
#pragma once

#include "mesh/match/authz.h"
#include "proxy/down.h"

enum { GUARD_DETAIL_MAX = 256 };

/* The address without its port. */
struct ipaddr address_of(const struct sock_addr *a);
/* A connection that carries opaque bytes. False: refuse; `detail` says which policy. */
bool guard_tcp(struct down *d, char detail[GUARD_DETAIL_MAX]);
/* A request, its path in normal form. False: answer 403; `detail` says which policy. */
bool guard_http(struct down *d, const struct match_request *req, char detail[GUARD_DETAIL_MAX]);

/* Take what is configured for the dialled port from `prog` (counted by `info` from here on). */
void guard_bind(struct down_info *info, struct prog_inbound *prog);
/* A connection outlives policies: bind it to the inbound program in force now, before each request.
 * False: its port takes no plaintext any more, and this is plaintext. */
bool guard_refresh(struct down *d);
/* Would what is under way be let in now? Binds to the program in force; `http` as it was decided
 * about, NULL for opaque bytes. False with `detail`: plaintext where only mTLS is taken any more,
 * or a policy. Dry-run policies are not logged again. */
bool guard_still(struct down *d, const struct match_request *http, char detail[GUARD_DETAIL_MAX]);
