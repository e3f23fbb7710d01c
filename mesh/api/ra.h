/* SPDX-License-Identifier: Apache-2.0 */
/* RequestAuthentication (security.istio.io v1, v1beta1): every field of the public schema. The old
 * `jwks_uri` is folded in. */
#pragma once

#include "mesh/api/common.h"

struct ra_header {
    struct slice name, prefix; /* prefix: of fromHeaders */
};
struct ra_claim {
    struct slice header, claim;
};
struct ra_rule {
    struct slice issuer, jwks_uri, jwks, payload_header;
    struct api_strings audiences, from_params, from_cookies, space_delimited_claims;
    struct ra_header *from_headers;
    struct ra_claim *claims;
    uint32_t n_from_headers, n_claims;
    bool forward;
    struct opt_ns timeout;
};
struct ra {
    struct obj_meta meta;
    struct api_selector selector;
    struct api_target_refs target_refs;
    struct ra_rule *rules;
    uint32_t n_rules;
    bool broken; /* decoding reported an error */
};

int ra_decode(const json_t *obj, struct arena *a, struct ra **ret, struct findings *f);
void ra_validate(const struct ra *ra, struct findings *f);
/* Why the object cannot be enforced as it is written: its workloads must then refuse. NULL when it
 * can, when it asks for nothing (no rules), and when it is bound by targetRefs, which select no
 * workload here. Follows the support table. Static text. */
const char *ra_closed_reason(const struct ra *ra);
