/* SPDX-License-Identifier: Apache-2.0 */
/* May this request or connection enter? Istio's AuthorizationPolicy over the policies that the
 * operator selected for the workload: CUSTOM, then DENY, then ALLOW; what cannot be decided is denied.
 *
 * - ALLOW holds only when a rule is fully understood and met; DENY holds also when a part of the rule
 *   cannot be known. So an unknown `when` key never lets in and always keeps out.
 * - On opaque connections HTTP conditions (hosts, methods, paths, request.headers) never match in
 *   ALLOW and count as matching in DENY.
 * - A header with several lines or a list: DENY looks at each line, each list element and the joined
 *   value; ALLOW needs every line to match.
 * - AUDIT and dry-run policies never refuse. A closed policy refuses everything.
 * The path must be in normal form before (lib/data/urlpath.h). */
#pragma once

#include "mesh/match/request.h"

struct authz_request {
    struct slice principal; /* "spiffe://<trust domain>/ns/<ns>/sa/<sa>", verified; null: no mTLS */
    struct ipaddr source, destination;
    uint16_t port; /* destination, as the application listens */
    struct slice sni;
    const struct match_request *http; /* NULL: an opaque connection */
    struct slice trust_domain;        /* of the mesh */
    const struct prog_strings *trust_domain_aliases; /* may be NULL; treated as trust_domain */
};
enum authz_reason {
    AUTHZ_NO_POLICY,    /* allowed: nothing applies */
    AUTHZ_RULE,         /* allowed or denied by policy and rule */
    AUTHZ_NO_RULE,      /* denied: ALLOW policies exist, none matches */
    AUTHZ_CLOSED,       /* denied: see `closed` */
};
struct authz_verdict {
    bool allowed;
    enum authz_reason reason;
    const struct authz_policy *policy; /* AUTHZ_RULE, and AUTHZ_CLOSED by a policy */
    uint32_t rule;                     /* index in the policy */
    struct slice closed;               /* AUTHZ_CLOSED: why */
    struct { /* what the dry-run policies alone would have said */
        bool any, allowed;
        const struct authz_policy *policy; /* may be NULL */
        uint32_t rule;
    } dry_run;
    const struct authz_policy *audit; /* first AUDIT policy that matched, NULL: none */
};
/* Pure, allocation-free but for joined headers, O(rules). Borrows from both arguments. */
void authz_decide(const struct prog_inbound *in, const struct authz_request *r,
                  struct authz_verdict *ret);
/* Response code detail as Envoy words it: "rbac_access_denied_matched_policy[ns[x]-policy[y]-rule[0]]"
 * or "...[none]"; for closed ones "tulle_closed[reason]"; empty when allowed. NUL-terminated. */
void authz_detail(const struct authz_verdict *v, char *ret, size_t cap);

/* One value of a policy list against a text: exact, "prefix*", "*suffix", "*" (any non-empty text). */
bool authz_value_match(struct slice value, struct slice text);
/* A path value: as above, or a template when it holds "{*}" (one segment) or "{**}" (any rest). */
bool authz_path_match(struct slice value, struct slice path);
/* Is this a template that authz_path_match understands? "{*}" and "{**}" must fill a segment and
 * "{**}" must be the last operator. */
bool authz_template_ok(struct slice value);
