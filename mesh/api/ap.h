/* SPDX-License-Identifier: Apache-2.0 */
/* AuthorizationPolicy (security.istio.io v1, v1beta1): every field of the public schema. A policy
 * without rules never matches (ALLOW: nothing is allowed); a rule without from, to and when always
 * matches. What could not be read makes the policy fail closed: `broken` is then set, and a reader
 * must not treat the policy as weaker than it was meant. */
#pragma once

#include "mesh/api/common.h"

enum ap_action { AP_ALLOW, AP_DENY, AP_AUDIT, AP_CUSTOM };

/* Values match exact, prefix*, *suffix, or * (present). */
struct ap_source {
    struct api_strings principals, not_principals, request_principals, not_request_principals,
        namespaces, not_namespaces, service_accounts, not_service_accounts, ip_blocks,
        not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks, trust_domains, not_trust_domains;
};
struct ap_operation {
    struct api_strings hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths;
};
struct ap_condition {
    struct slice key;
    struct api_strings values, not_values;
};
struct ap_rule {
    struct ap_source *from;
    struct ap_operation *to;
    struct ap_condition *when;
    uint32_t n_from, n_to, n_when;
};
struct ap {
    struct obj_meta meta;
    struct api_selector selector;
    struct api_target_refs target_refs; /* the old targetRef is the first */
    enum ap_action action;
    struct slice provider; /* of CUSTOM */
    bool dry_run;          /* annotation istio.io/dry-run: "true" */
    bool broken;           /* decoding reported an error */
    struct ap_rule *rules;
    uint32_t n_rules;
};

int ap_decode(const json_t *obj, struct arena *a, struct ap **ret, struct findings *f);
void ap_validate(const struct ap *ap, struct findings *f);
const char *ap_action_name(enum ap_action action); /* "ALLOW" */
/* What of the policy cannot be enforced as it is written ("requestPrincipals is not implemented"),
 * whatever its action; NULL: all can. Follows the support table. Static text. The one place that
 * decides this: validation tells it, compilation closes by it. */
const char *ap_gap(const struct ap *ap);
/* AUDIT and dry-run. */
bool ap_never_refuses(const struct ap *ap);
/* The gap for which the policy's workloads must refuse, whatever the action. NULL when there is none,
 * for a policy that never refuses, and for one bound by targetRefs, which selects no workload here. */
const char *ap_closed_reason(const struct ap *ap);
