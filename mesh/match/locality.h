/* SPDX-License-Identifier: Apache-2.0 */
/* Where requests go by place: Istio's locality settings for the own place of a proxy. Pure.
 *
 * Endpoints fall into groups. With a distribution that holds for the caller a group is one entry of
 * its `to`, and its share is what the entry says. Else a group is a priority: failoverPriority by
 * labels first, then same subzone, zone, region, elsewhere (and what a failover rule does not name
 * after that); a later group gets what the earlier ones cannot carry, with an overprovisioning
 * of 1.4 as Envoy has it. */
#pragma once

#include "mesh/match/program.h"

struct locality_self {
    struct slice locality, node; /* of the proxy: region/zone/subzone; the node's name */
};
enum { LOCALITY_NONE = UINT16_MAX };
/* Does "region/zone/subzone" match a pattern, where "*" and what is left out match all? */
bool locality_matches(struct slice place, struct slice pattern);
/* The distribution that holds for the caller; NULL: failover. */
const struct prog_distribute *locality_distribution(const struct prog_locality *l,
                                                    const struct locality_self *self);
/* The group of an endpoint: ascending numbers are later priorities, not without gaps;
 * LOCALITY_NONE: no traffic of this caller goes there. `l` NULL: all are in group 0. */
uint16_t locality_group(const struct prog_locality *l, const struct locality_self *self,
                        const struct prog_endpoints *e, const struct prog_endpoint *p);

struct locality_share {
    uint32_t hosts, healthy; /* of the group */
    uint32_t weight;         /* of a distribution; 0: groups are priorities */
    uint32_t share;          /* set: relative to the sum; 0: nothing goes there */
    bool panic;              /* set: too few are healthy, all are used */
};
/* Share out over groups in order of priority. `min_health_percent`: groups with fewer healthy hosts
 * are used whole when all groups together cannot carry the load; 0: never. */
void locality_shares(struct locality_share *g, uint32_t n, uint32_t min_health_percent);
