/* SPDX-License-Identifier: Apache-2.0 */
/* Which route a request or connection takes, and what the route does to it. Pure: no clock, no
 * randomness (the caller draws the dice), no allocation but from the arena of the request.
 * Semantics are those of Istio's VirtualService: the first matching route wins; a match is the
 * conjunction of its conditions, a route's matches are alternatives; `uri` ignores the query; regular
 * expressions match whole values; a header's lines are matched as one value joined by ",". */
#pragma once

#include "mesh/match/request.h"

struct match_http {
    const struct prog_service *service;
    const struct prog_http_route *route;
    const struct prog_http_match *match;         /* the alternative that held; NULL: the route has none */
    const struct prog_destination *destination;  /* NULL unless the route forwards somewhere */
    const struct prog_cluster *cluster;          /* of the destination; NULL as above */
};
/* Choose route and destination. `dice` is uniform in 0..UINT32_MAX. ERR_NOT_FOUND: no route matches,
 * answer 404 (flag NR). ERR_NOMEM: the arena is exhausted, answer 500. A forwarding route without
 * destination, or a cluster with a `problem`, answers 503 (flag NC). *ret borrows from `s`. */
enum err_code match_http(const struct prog_service *s, const struct match_request *r, uint32_t dice,
                         struct match_http *ret);
/* Does this one alternative hold? For explain and tests. *ret_why (may be NULL) gets the first
 * condition that failed ("uri", "header x-user", ...), valid as long as the match. */
struct match_why {
    const char *what;  /* "uri", "scheme", "method", "authority", "header", "query"; NULL: it holds */
    struct slice name; /* of the header or query parameter */
};
enum err_code match_http_one(const struct prog_http_match *m, const struct match_request *r,
                             bool *ret_holds, struct match_why *ret_why);
/* Index of the destination that `dice` picks by weight; n_destinations must not be 0. */
uint32_t match_weighted(const struct prog_destination *d, uint32_t n, uint32_t total, uint32_t dice);

/* The path to send upstream: rewrite.uri replaces the matched prefix (of a route without uri
 * condition: the leading "/"), the whole path of an exact or regex match; a regex rewrite substitutes
 * every occurrence in the path. The query stays. *ret borrows from `path`, the route or `a`.
 * ERR_NOMEM; ERR_INVALID: the result is no path (does not start with "/"), answer 500. */
enum err_code match_rewrite_path(const struct match_http *m, struct slice path, struct arena *a,
                                 struct slice *ret);
/* The authority to send upstream: rewrite.authority, else the request's own. */
struct slice match_rewrite_authority(const struct match_http *m, struct slice authority);
/* Location of a redirect route (code in route->redirect->code), scheme and authority included; the
 * query is kept unless redirect.uri brings its own. ERR_NOMEM. */
enum err_code match_redirect_location(const struct match_http *m, const struct match_request *r,
                                      struct slice *ret);
/* Header operations in the order in which they apply (destination, then route: Envoy's order). Each
 * one: remove, then set, then add. Returns how many of ret[] are filled, at most 2. */
int match_request_ops(const struct match_http *m, const struct prog_header_ops *ret[2]);
int match_response_ops(const struct match_http *m, const struct prog_header_ops *ret[2]);
/* Fault injection: dice uniform in 0..UINT32_MAX, one each. Delay in ms (0: none); abort status (0:
 * none; *ret_grpc is the grpc-status or -1). */
uint32_t match_fault_delay_ms(const struct prog_fault *f, uint32_t dice);
uint32_t match_fault_abort(const struct prog_fault *f, uint32_t dice, int32_t *ret_grpc);
static inline bool match_mirror_wanted(const struct prog_mirror *m, uint32_t dice)
{
    return (uint64_t)dice * 10000 >> 32 < m->permyriad;
}

/* One condition on a text that is there. */
bool match_text(const struct prog_string_match *m, struct slice text);

/* SNI pattern: exact, "*.suffix" (over any number of labels) or "*"; case does not matter. */
bool match_sni(struct slice pattern, struct slice sni);

struct match_connection {
    struct ipaddr destination; /* original */
    struct ipaddr source;
    struct slice sni; /* null when not TLS */
};
struct match_tcp {
    const struct prog_tcp_route *route;
    const struct prog_destination *destination;
    const struct prog_cluster *cluster;
};
/* As match_http, for opaque connections and TLS passthrough. ERR_NOT_FOUND: close (flag NR). A match
 * with sni holds only for TLS connections that name one of them ("*.suffix" and "*" allowed). */
enum err_code match_tcp(const struct prog_service *s, const struct match_connection *c,
                        uint32_t dice, struct match_tcp *ret);
