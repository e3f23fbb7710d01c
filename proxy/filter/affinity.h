/* SPDX-License-Identifier: Apache-2.0 */
/* What consistent hashing goes by: a header, a cookie, a parameter of the query, the client's
 * address. */
#pragma once

#include "lib/http/head.h"
#include "lib/io/sock.h"
#include "mesh/match/program.h"

/* The key of a request; false: it has none, and any host will do. A client without the cookie is
 * given one where the policy says so: *ret_set_cookie is the field for the answer, in the request's
 * arena, else null. `h` may be NULL. */
bool affinity_of_request(const struct prog_hash *h, const struct http_head *req,
                         const struct sock_addr *peer, uint64_t *ret, struct slice *ret_set_cookie);
/* The key of a TCP connection: the client's address, where the policy goes by it. */
bool affinity_of_peer(const struct prog_hash *h, const struct sock_addr *peer, uint64_t *ret);
/* The value of a cookie in the request's fields; null slice when absent. Borrows (RFC 6265 4.2.1).
 */
struct slice affinity_cookie(const struct http_head *req, struct slice name);
/* The raw value of a parameter in a request target's query; null slice when absent. Borrows. */
struct slice affinity_parameter(struct slice target, struct slice name);
