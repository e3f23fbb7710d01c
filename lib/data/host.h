/* SPDX-License-Identifier: Apache-2.0 */
/* DNS host names, patterns of them, and authorities (RFC 1123 2.1, RFC 3986 3.2). */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

#define HOST_MAX 253

/* Kubernetes object name as DNS label: a-z 0-9 '-', 1 to 63, begins and ends alphanumeric. */
bool label_valid(struct slice s);
/* A full name in normal form: labels of a-z 0-9 '-' '_' joined by dots, no trailing dot. */
bool host_valid(struct slice s);
/* As above, or `*`, `*.name`, or `*` glued to the first label's end ("*-x.name"). */
bool host_pattern_valid(struct slice s);
static inline bool host_is_wildcard(struct slice s)
{
    return s.len && s.p[0] == '*';
}
/* Normal form of a name from the network: lower case, one trailing dot dropped; an IPv4 address
 * stays, an IPv6 literal keeps its brackets and gets RFC 5952 form. Written to `ret` of `cap` bytes
 * (NUL-terminated). ERR_INVALID on bytes no host may hold, ERR_LIMIT when too long. */
enum err_code host_normalise(struct slice in, char *ret, size_t cap, struct slice *ret_host);

/* Does `pattern` take in `host`? Both normal forms; "*.a" matches any name that ends in ".a" (also
 * over several labels, as Istio and Envoy have it), not "a" itself. A wildcard as `host` matches
 * when all names of it do. */
bool host_matches(struct slice pattern, struct slice host);
/* Some name matches both patterns. */
bool host_overlaps(struct slice a, struct slice b);
/* Order of specificity: <0 when `a` comes first: exact names before wildcards, longer before
 * shorter, then bytewise; "*" is last. */
int host_cmp(struct slice a, struct slice b);

/* Split "host", "host:port", "[v6]:port": `host` without brackets; *ret_port 0 when there is none.
 * ERR_INVALID on userinfo ('@'), an empty host, a bad port, a bare IPv6 address. Borrows. */
enum err_code authority_split(struct slice authority, struct slice *ret_host, uint16_t *ret_port);
