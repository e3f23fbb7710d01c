/* SPDX-License-Identifier: Apache-2.0 */
/* Load balancers over candidates that the caller keeps: pure but for the state in the set, which one
 * worker owns. The caller makes a set when endpoints, health or subset change, and keeps `active` of
 * each candidate right as requests begin and end. */
#pragma once

#include "mesh/match/program.h"

struct lb_candidate {
    uint32_t weight; /* 0 is read as 1 */
    uint32_t active; /* requests under way */
    uint64_t sum;    /* set's own: weights up to and including this one */
    int64_t credit;  /* set's own: smooth round robin */
};
struct lb_set {
    struct lb_candidate *p;
    uint32_t n, next;
    uint64_t total;
    bool weighted; /* weights differ */
};
/* Prepare; `start` (any number, best random) is where round robin begins, so that many proxies do not
 * all start at the same endpoint. Resets credits, keeps `active`. */
void lb_init(struct lb_set *s, struct lb_candidate *p, uint32_t n, uint32_t start);
/* Index of the choice; n must not be 0. Round robin is O(1), with differing weights O(n) (each gets
 * its share in any window of `total` picks). Least request picks the less loaded of two random ones,
 * drawn and compared by weight: O(log n). */
uint32_t lb_round_robin(struct lb_set *s);
uint32_t lb_random(const struct lb_set *s, uint32_t dice);
uint32_t lb_least_request(const struct lb_set *s, uint32_t dice_a, uint32_t dice_b);
/* By PROG_* balancer; HASH and PASSTHROUGH fall back to least request. */
uint32_t lb_pick(struct lb_set *s, enum prog_balancer b, uint32_t dice_a, uint32_t dice_b);
