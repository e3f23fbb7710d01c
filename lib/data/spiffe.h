/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE ids (SPIFFE-ID standard, sections 2.1 to 2.3) and the form that Istio gives a workload:
 * spiffe://<trust domain>/ns/<namespace>/sa/<service account>. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/err.h"

#define SPIFFE_MAX 2048
#define SPIFFE_TRUST_DOMAIN_MAX 255

struct spiffe_id {
    struct slice trust_domain;
    struct slice path;   /* with its leading '/'; empty for the id of a trust domain */
    struct slice ns, sa; /* null unless the path is /ns/<ns>/sa/<sa> */
};
/* Strict: lower-case scheme and trust domain (a-z 0-9 . - _), segments of a-z A-Z 0-9 . - _ that
 * are not "." or "..", no empty segment, no trailing '/', no port, userinfo, query or percent.
 * Borrows. */
enum err_code spiffe_parse(struct slice text, struct spiffe_id *ret);
bool spiffe_trust_domain_valid(struct slice td);
/* Append the id of a workload. The parts are expected to be valid. */
void spiffe_add(struct buf *out, struct slice trust_domain, struct slice ns, struct slice sa);
